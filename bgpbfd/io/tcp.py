"""TCP for BGP: listening, dialling, and one transport a connection.

The shell knows connections by (peer, connection id) and nothing of BGP: bytes in go to the sink, bytes out come
from it. Reading goes through one small buffer a connection, and in turns (``turns``), so that neighbors that send much
hold up neither each other nor anything else.

A connection that comes in belongs to nobody until the sink has said whose it is, and by then the kernel has shaken
hands with whoever it is. What a neighbor's connection needs (TTL, minimum TTL, password) is set before a byte of it
is read, and what came before that counts only if it was sent under the same rules (``sockopts.came_from_near``,
``keys.Passwords.accepted``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from bgpbfd.bgp.events import ConnId, Endpoint
from bgpbfd.control.ports import Accepted, Clock, DialTarget, NotTaken, TcpKey
from bgpbfd.core import Instant, PeerId
from bgpbfd.io.keys import Passwords
from bgpbfd.io.refusals import Refusals
from bgpbfd.io.sockopts import (
    LISTEN_BACKLOG,
    came_from_near,
    dialling_socket,
    endpoints,
    error_text,
    listening_socket,
    prepare,
    set_ttl,
    split_address,
)
from bgpbfd.io.stalls import Stalls
from bgpbfd.io.turns import Turns

log = logging.getLogger("bgpbfd.tcp")

READ_SIZE = 4096  # UPDATEs: 0.5 ms of work, 2.5 ms where they replace paths; to read costs 0.03 ms
WRITE_HIGH_WATER = 262_144
LINGER_S = 2.0  # how long a NOTIFICATION may take to be read before the connection is dropped
LISTEN_RETRY_S = 2.0
MAX_LINGERING = 256  # half-closed connections kept for their last NOTIFICATION; beyond that they are dropped at once
MAX_UNCONFIRMED = 4  # connections of one neighbor that were accepted in one turn of the loop
MAX_FAULTS_TOLD = 1000


class Sink(Protocol):
    """Who hears of connections: the engine."""

    def connection_accepted(self, local: Endpoint, remote: Endpoint) -> Accepted | NotTaken:
        """Whose connection this is. The peer hears of it by ``connection_confirmed``, or ``connection_failed``."""
        ...

    def connection_confirmed(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None: ...

    def dial_succeeded(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None: ...

    def connection_failed(self, peer: PeerId, conn: ConnId, error: str) -> None: ...

    def data_received(self, peer: PeerId, conn: ConnId, data: bytes) -> None: ...

    def connection_writable(self, peer: PeerId, conn: ConnId) -> None: ...

    def send_stalled(self, peer: PeerId, conn: ConnId, since: Instant) -> None:
        """There is data to send, and the kernel has taken none of it since ``since`` (at least 1 s, told once)."""
        ...

    def send_resumed(self, peer: PeerId, conn: ConnId) -> None:
        """After ``send_stalled``: it has taken some again."""
        ...

    def transport_fault(self, text: str, peer_or_network: str) -> None:
        """The kernel refuses what a neighbor's connections need, or a peer comes from too far (told once each)."""
        ...

    def listening(self, address: str, error: str | None) -> None:
        """A listening address was bound, or could not be (told once for each different error)."""
        ...


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection. After ``detach`` the sink hears no more of it."""

    def __init__(self, shell: TcpShell, key: tuple[PeerId, ConnId], sock: socket.socket, *, dialled: bool) -> None:
        self.shell = shell
        self.key = key
        self.dialled = dialled
        self.sock = sock
        self.local, self.remote = endpoints(sock)
        self.handed = 0  # octets given to the transport
        self.writable = True
        self.detached = False
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        # Told here, not after create_connection returns: reading starts next, and the sink must know us by then.
        self.shell.connection_started(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        if not self.detached:  # a lingering connection's data is read off and dropped
            self.shell.turns.received(self, bytes(self._view[:nbytes]))

    def pause(self) -> None:
        assert self.transport is not None
        self.transport.pause_reading()

    def resume(self) -> None:
        assert self.transport is not None
        self.transport.resume_reading()

    def eof_received(self) -> bool:
        if not self.detached:
            self.shell.connection_ended(self.key, "the peer closed the connection")
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        if self.detached:
            self.shell.linger_ended(self)
        else:
            self.shell.connection_ended(self.key, error_text(exc) if exc else "the connection was closed")

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if not self.detached:
            self.shell.sink.connection_writable(*self.key)


class TcpShell:
    """Implements ``control.ports.Connections`` on an asyncio loop."""

    sink: Sink  # set before anything is dialled or listened on

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self.discards: Counter[str] = Counter()  # connections that were closed without asking the sink, by reason
        self.turns: Turns[_Connection] = Turns(loop, clock, self._deliver)
        self._passwords = Passwords(self._network_fault)
        self._refusals = Refusals(loop)
        self._stalls = Stalls(
            loop,
            clock,
            lambda conn, since: self.sink.send_stalled(*conn, since),
            lambda conn: self.sink.send_resumed(*conn),
        )
        self._unconfirmed: Counter[PeerId] = Counter()
        self._told: dict[str, str] = {}  # transport faults, by peer
        self._lingering: dict[_Connection, asyncio.TimerHandle] = {}
        self._all_closed = asyncio.Event()
        self._connections: dict[tuple[PeerId, ConnId], _Connection] = {}
        self._dials: dict[tuple[PeerId, ConnId], asyncio.Task[None]] = {}
        self._listeners: dict[str, socket.socket | None] = {}
        self._listen_errors: dict[str, str] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume_accepting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._closed = False

    def before_reads(self, call: Callable[[], None]) -> None:
        """``call`` this each time before what a neighbor sent is worked on: what must not wait for that."""
        self.turns.first = call

    def set_keys(self, keys: tuple[TcpKey, ...]) -> None:
        self._passwords.set(keys)

    # -- dialling ----------------------------------------------------------------------------------------

    def dial(self, peer: PeerId, conn: ConnId, target: DialTarget) -> None:
        task = self._loop.create_task(self._dial((peer, conn), target))
        self._dials[(peer, conn)] = task

    async def _dial(self, key: tuple[PeerId, ConnId], target: DialTarget) -> None:
        sock: socket.socket | None = None
        try:
            sock, address = dialling_socket(target)
            self._passwords.dialling(sock, target.remote, target.interface, target.options.password)
            await self._loop.sock_connect(sock, address)
            await self._adopt(sock, key, dialled=True)
        except OSError as error:
            if sock is not None:
                sock.close()
            self._dials.pop(key, None)
            self.sink.connection_failed(*key, error_text(error))
        except asyncio.CancelledError:
            if sock is not None:
                sock.close()
            raise

    async def _adopt(self, sock: socket.socket, key: tuple[PeerId, ConnId], *, dialled: bool) -> None:
        connection = _Connection(self, key, sock, dialled=dialled)
        await self._loop.create_connection(lambda: connection, sock=sock)

    def connection_started(self, connection: _Connection) -> None:
        self._dials.pop(connection.key, None)
        self._connections[connection.key] = connection
        tell = self.sink.dial_succeeded if connection.dialled else self.sink.connection_confirmed
        tell(*connection.key, connection.local, connection.remote)

    # -- listening ---------------------------------------------------------------------------------------

    def listen(self, addresses: tuple[str, ...]) -> None:
        for address in [known for known in self._listeners if known not in addresses]:
            listener = self._listeners.pop(address)
            self._listen_errors.pop(address, None)
            if listener is not None:
                self._stop_listening(listener)
        for address in addresses:
            self._listeners.setdefault(address, None)
        self._bind_missing()

    def _bind_missing(self) -> None:
        """Bind what is not bound yet; what fails is tried again, for an address or a port may come free."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for address, listener in list(self._listeners.items()):
            if listener is not None:
                continue
            try:
                bound = self._listener(address)
            except OSError as error:
                text = _listen_error_text(address, error)
                if self._listen_errors.get(address) != text:
                    self._listen_errors[address] = text
                    self.sink.listening(address, text)
                continue
            self._listen_errors.pop(address, None)
            self._listeners[address] = bound
            self._loop.add_reader(bound, self._accept, bound)
            self.sink.listening(address, None)
        if any(listener is None for listener in self._listeners.values()) and not self._closed:
            self._retry = self._loop.call_later(LISTEN_RETRY_S, self._bind_missing)

    def _listener(self, address: str) -> socket.socket:
        listener = listening_socket(address)
        try:
            self._passwords.add_listener(listener, split_address(address)[0].partition("%")[2] or None)
            listener.listen(LISTEN_BACKLOG)
        except BaseException:
            self._passwords.remove_listener(listener)
            listener.close()
            raise
        return listener

    def _stop_listening(self, listener: socket.socket) -> None:
        self._passwords.remove_listener(listener)
        handle = self._resume_accepting.pop(listener, None)
        if handle is not None:
            handle.cancel()
        self._loop.remove_reader(listener)
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(LISTEN_BACKLOG):  # bounded: a flood of connections must not keep the loop here
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    # The listener stays readable: without a pause the loop would spin.
                    log.error("cannot accept connections: %s; trying again in 1 s", error_text(error))
                    self._loop.remove_reader(listener)
                    self._resume_accepting[listener] = self._loop.call_later(1.0, self._resume, listener)
                else:
                    log.warning("accept failed: %s", error_text(error))
                return
            self._take(listener, sock)

    def _resume(self, listener: socket.socket) -> None:
        self._resume_accepting.pop(listener, None)
        self._loop.add_reader(listener, self._accept, listener)

    def _take(self, listener: socket.socket, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            local, remote = endpoints(sock)
            signed = self._passwords.admits(listener, remote)
        except OSError:  # reset before it was accepted, or its interface is gone
            self._drop(sock, "ended before it was accepted")
            return
        if not signed:
            self._drop(sock, "its password is not in force")
            return
        try:
            answer = self.sink.connection_accepted(local, remote)
        except Exception:
            sock.close()  # the fault is ours, and the loop tells of it; the peer need not wait for nobody
            raise
        if isinstance(answer, NotTaken):
            self._refusals.refuse(sock, answer.notification)
            return
        if self._unconfirmed[answer.peer] >= MAX_UNCONFIRMED:
            self._drop(sock, "too many of one neighbor at once")
            self.sink.connection_failed(answer.peer, answer.conn, "too many connections at once")
            return
        if (fault := self._set_up(sock, remote, answer)) is not None:
            sock.close()
            self._fault(fault, answer.peer)
            self.sink.connection_failed(answer.peer, answer.conn, fault)
            return
        self._told.pop(answer.peer, None)
        self._unconfirmed[answer.peer] += 1
        task = self._loop.create_task(self._confirm(sock, (answer.peer, answer.conn)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _set_up(self, sock: socket.socket, remote: Endpoint, accepted: Accepted) -> str | None:
        """Make the socket that of its neighbor; why this cannot be."""
        options = accepted.options
        try:
            prepare(sock)
            set_ttl(sock, options, v4=len(remote.address) == 4)
            self._passwords.accepted(sock, remote, options.password)
        except OSError as error:
            return error_text(error)
        if options.minimum_ttl is not None and not came_from_near(sock, options.minimum_ttl):
            self.discards["its TTL is too low"] += 1
            # Without the TTL that it had: whoever varies it must not fill the record.
            return f"a connection from {remote.text} was not shown to have a TTL of {options.minimum_ttl} or more"
        return None

    def _drop(self, sock: socket.socket, reason: str) -> None:
        self.discards[reason] += 1
        sock.close()

    async def _confirm(self, sock: socket.socket, key: tuple[PeerId, ConnId]) -> None:
        try:
            await self._adopt(sock, key, dialled=False)
        except OSError as error:
            sock.close()
            self.sink.connection_failed(*key, error_text(error))
        finally:
            self._unconfirmed[key[0]] -= 1
            if not self._unconfirmed[key[0]]:
                del self._unconfirmed[key[0]]

    def _network_fault(self, text: str, network: str) -> None:
        self.sink.transport_fault(text, network)

    def _fault(self, text: str, peer_or_network: str) -> None:
        """Once for each different text: a peer that comes again and again must not fill the record."""
        if self._told.get(peer_or_network) == text:
            return
        self._told.pop(peer_or_network, None)
        while len(self._told) >= MAX_FAULTS_TOLD:
            del self._told[next(iter(self._told))]
        self._told[peer_or_network] = text
        self.sink.transport_fault(text, peer_or_network)

    # -- live connections --------------------------------------------------------------------------------

    def send(self, peer: PeerId, conn: ConnId, data: bytes) -> None:
        connection = self._connections.get((peer, conn))
        if connection is not None and connection.transport is not None:
            connection.handed += len(data)
            connection.transport.write(data)
            self._stalls.watch((peer, conn), connection)

    def writable(self, peer: PeerId, conn: ConnId) -> bool:
        connection = self._connections.get((peer, conn))
        return connection is not None and connection.writable

    def close(self, peer: PeerId, conn: ConnId, linger: bool) -> None:
        key = (peer, conn)
        dial = self._dials.pop(key, None)
        if dial is not None:
            dial.cancel()
        connection = self._connections.pop(key, None)
        if connection is None:
            return
        connection.detached = True
        self._stalls.forget(key)
        self.turns.forget(connection)
        self._passwords.release(connection.sock)
        transport = connection.transport
        if transport is None:
            return
        if not linger or len(self._lingering) >= MAX_LINGERING or transport.is_closing():
            transport.abort()
            return
        self._lingering[connection] = self._loop.call_later(LINGER_S, transport.abort)
        with contextlib.suppress(OSError):  # the peer may have reset it already
            transport.write_eof()

    def _deliver(self, connection: _Connection, data: bytes) -> None:
        if connection.detached:
            return
        try:
            self.sink.data_received(*connection.key, data)
        except Exception:
            if connection.transport is not None:  # the fault is ours; without this piece the rest means nothing
                connection.transport.abort()
            raise

    def connection_ended(self, key: tuple[PeerId, ConnId], error: str) -> None:
        """The connection ended from the other side or by the network."""
        connection = self._connections.get(key)
        if connection is not None:
            self.turns.hurry(connection)  # the peer may have said why
        connection = self._connections.pop(key, None)
        if connection is None:
            return
        connection.detached = True
        self._stalls.forget(key)
        self._passwords.release(connection.sock)
        if connection.transport is not None:
            connection.transport.abort()
        self.sink.connection_failed(*key, error)

    def linger_ended(self, connection: _Connection) -> None:
        handle = self._lingering.pop(connection, None)
        if handle is not None:
            handle.cancel()
        if not self._lingering:
            self._all_closed.set()

    async def stop(self) -> None:
        """Stop listening, give lingering connections their time, drop the rest."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        self.listen(())
        self._refusals.end()
        for dial in list(self._dials.values()):
            dial.cancel()
        for peer, conn in list(self._connections):
            self.close(peer, conn, linger=False)
        if self._lingering:  # each ends by itself, at the latest when its LINGER_S are over
            self._all_closed.clear()
            await self._all_closed.wait()


def _listen_error_text(address: str, error: OSError) -> str:
    text = error_text(error)
    if error.errno == errno.EACCES:
        text += f": port {split_address(address)[1]} needs CAP_NET_BIND_SERVICE, or choose a port from 1024 up"
    elif error.errno == errno.EADDRINUSE:
        text += ": another program listens there"
    elif error.errno == errno.EADDRNOTAVAIL:
        text += ": no interface of this host has that address yet"
    return text
