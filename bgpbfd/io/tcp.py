"""TCP for BGP: listening, dialling, and one transport a connection.

The shell knows connections by (peer, connection id) and nothing of BGP: bytes in go to the sink, bytes out come
from it. Reading goes through one small buffer a connection, so that one busy peer takes its turn with the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from typing import Protocol

from bgpbfd.bgp.events import ConnId, Endpoint
from bgpbfd.control.ports import DialTarget, TcpKey
from bgpbfd.core import PeerId

log = logging.getLogger("bgpbfd.tcp")

READ_SIZE = 65_536
WRITE_HIGH_WATER = 262_144
LINGER_S = 2.0  # how long a NOTIFICATION may take to be read before the connection is dropped
LISTEN_BACKLOG = 128
LISTEN_RETRY_S = 2.0
MAX_LINGERING = 256  # half-closed connections kept for their last NOTIFICATION; beyond that they are dropped at once
TOS_CS6 = 0xC0  # RFC 4271 Appendix E: internetwork control


class Sink(Protocol):
    """Who hears of connections: the engine."""

    def connection_accepted(self, local: Endpoint, remote: Endpoint) -> tuple[PeerId, ConnId] | None:
        """Whose connection this is; None refuses it. The peer hears of it by ``connection_confirmed``."""
        ...

    def connection_confirmed(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None: ...

    def dial_succeeded(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None: ...

    def connection_failed(self, peer: PeerId, conn: ConnId, error: str) -> None: ...

    def data_received(self, peer: PeerId, conn: ConnId, data: bytes) -> None: ...

    def connection_writable(self, peer: PeerId, conn: ConnId) -> None: ...

    def listening(self, address: str, error: str | None) -> None:
        """A listening address was bound, or could not be (told once for each different error)."""
        ...


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection. After ``detach`` the sink hears no more of it."""

    def __init__(self, shell: TcpShell, key: tuple[PeerId, ConnId], sock: socket.socket, *, dialled: bool) -> None:
        self.shell = shell
        self.key = key
        self.dialled = dialled
        self.local, self.remote = _endpoints(sock)
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
            self.shell.sink.data_received(*self.key, bytes(self._view[:nbytes]))

    def eof_received(self) -> bool:
        if not self.detached:
            self.shell.connection_ended(self.key, "the peer closed the connection")
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        if self.detached:
            self.shell.linger_ended(self)
        else:
            self.shell.connection_ended(self.key, _error_text(exc) if exc else "the connection was closed")

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if not self.detached:
            self.shell.sink.connection_writable(*self.key)


class TcpShell:
    """Implements ``control.ports.Connections`` on an asyncio loop."""

    sink: Sink  # set before anything is dialled or listened on

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
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

    def set_keys(self, keys: tuple[TcpKey, ...]) -> None:
        self._keys = keys

    # -- dialling ----------------------------------------------------------------------------------------

    def dial(self, peer: PeerId, conn: ConnId, target: DialTarget) -> None:
        task = self._loop.create_task(self._dial((peer, conn), target))
        self._dials[(peer, conn)] = task

    async def _dial(self, key: tuple[PeerId, ConnId], target: DialTarget) -> None:
        sock: socket.socket | None = None
        try:
            sock, address = _dialling_socket(target)
            await self._loop.sock_connect(sock, address)
            await self._adopt(sock, key, dialled=True)
        except OSError as error:
            if sock is not None:
                sock.close()
            self._dials.pop(key, None)
            self.sink.connection_failed(*key, _error_text(error))
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
                bound = _listening_socket(address)
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

    def _stop_listening(self, listener: socket.socket) -> None:
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
                    log.error("cannot accept connections: %s; trying again in 1 s", _error_text(error))
                    self._loop.remove_reader(listener)
                    self._resume_accepting[listener] = self._loop.call_later(1.0, self._resume, listener)
                else:
                    log.warning("accept failed: %s", _error_text(error))
                return
            self._take(sock)

    def _resume(self, listener: socket.socket) -> None:
        self._resume_accepting.pop(listener, None)
        self._loop.add_reader(listener, self._accept, listener)

    def _take(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            local, remote = _endpoints(sock)
        except OSError:  # reset before it was accepted
            sock.close()
            return
        try:
            key = self.sink.connection_accepted(local, remote)
        except Exception:
            sock.close()  # the fault is ours, and the loop tells of it; the peer need not wait for nobody
            raise
        if key is None:
            sock.close()
            return
        _mark_control_traffic(sock)
        task = self._loop.create_task(self._confirm(sock, key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _confirm(self, sock: socket.socket, key: tuple[PeerId, ConnId]) -> None:
        try:
            await self._adopt(sock, key, dialled=False)
        except OSError as error:
            sock.close()
            self.sink.connection_failed(*key, _error_text(error))

    # -- live connections --------------------------------------------------------------------------------

    def send(self, peer: PeerId, conn: ConnId, data: bytes) -> None:
        connection = self._connections.get((peer, conn))
        if connection is not None and connection.transport is not None:
            connection.transport.write(data)

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
        transport = connection.transport
        if transport is None:
            return
        if not linger or len(self._lingering) >= MAX_LINGERING or transport.is_closing():
            transport.abort()
            return
        self._lingering[connection] = self._loop.call_later(LINGER_S, transport.abort)
        with contextlib.suppress(OSError):  # the peer may have reset it already
            transport.write_eof()

    def connection_ended(self, key: tuple[PeerId, ConnId], error: str) -> None:
        """The connection ended from the other side or by the network."""
        connection = self._connections.pop(key, None)
        if connection is None:
            return
        connection.detached = True
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
        for dial in list(self._dials.values()):
            dial.cancel()
        for peer, conn in list(self._connections):
            self.close(peer, conn, linger=False)
        if self._lingering:  # each ends by itself, at the latest when its LINGER_S are over
            self._all_closed.clear()
            await self._all_closed.wait()


def _dialling_socket(target: DialTarget) -> tuple[socket.socket, tuple[str, int] | tuple[str, int, int, int]]:
    """A socket set up as ``target`` says, and the address to connect it to."""
    v6 = ":" in target.remote
    scope = socket.if_nametoindex(target.interface) if v6 and target.interface else 0
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _mark_control_traffic(sock)
        if target.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, target.interface.encode() + b"\0")
        if target.local is not None:
            # The port is chosen at connect time, when the whole 4-tuple is known.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            local_scope = scope if target.local.lower().startswith("fe80:") else 0
            sock.bind((target.local, 0, 0, local_scope) if v6 else (target.local, 0))
    except OSError:
        sock.close()
        raise
    return sock, ((target.remote, target.port, 0, scope) if v6 else (target.remote, target.port))


_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; not in Python's socket module


def _mark_control_traffic(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS_CS6)
    if sock.family == socket.AF_INET6:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS_CS6)


def split_address(text: str) -> tuple[str, int]:
    """``ADDR:PORT`` or ``[ADDR]:PORT`` as (address, port)."""
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def _listening_socket(address: str) -> socket.socket:
    host, port = split_address(address)
    v6 = ":" in host
    host, _, zone = host.partition("%")
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        _mark_control_traffic(sock)
        sock.bind((host, port, 0, socket.if_nametoindex(zone) if zone else 0) if v6 else (host, port))
        sock.listen(LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _endpoints(sock: socket.socket) -> tuple[Endpoint, Endpoint]:
    return _endpoint(sock.getsockname()), _endpoint(sock.getpeername())


def _endpoint(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    host = address[0].partition("%")[0]
    scope = address[3] if len(address) == 4 else 0
    if ":" not in host:
        return Endpoint(socket.inet_aton(host), host, address[1])
    packed = socket.inet_pton(socket.AF_INET6, host)
    if packed[:12] == b"\0" * 10 + b"\xff\xff":  # an IPv4 peer on the IPv6 wildcard
        return Endpoint(packed[12:], socket.inet_ntoa(packed[12:]), address[1])
    return Endpoint(packed, socket.inet_ntop(socket.AF_INET6, packed), address[1], scope)


def _error_text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _listen_error_text(address: str, error: OSError) -> str:
    text = _error_text(error)
    if error.errno == errno.EACCES:
        text += f": port {split_address(address)[1]} needs CAP_NET_BIND_SERVICE, or choose a port from 1024 up"
    elif error.errno == errno.EADDRINUSE:
        text += ": another program listens there"
    elif error.errno == errno.EADDRNOTAVAIL:
        text += ": no interface of this host has that address yet"
    return text
