"""The BFD worker process: ``python -m bgpbfd.bfd.worker FD CONTROL_TIMEOUT_US``, started by bgpbfd.bfd.link alone.

One thread, one epoll, one heap of deadlines, and nothing else that could hold it up. Commands come and events go over
FD (protocol.py). The end of that socket means that the main process died: every session signals Down, and the worker
ends. Without heartbeats for the control timeout it hangs: Down as well, until they return.

A turn of the loop reads before it judges: packets first, then the deadlines that have come, and before a neighbor is
declared silent the sockets are read once more, so that a stall of this process never counts as one of the neighbor.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import heapq
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from random import Random

import msgspec

from bgpbfd.bfd.demux import Demultiplexer, canonical
from bgpbfd.bfd.outbox import Outbox
from bgpbfd.bfd.owner import Owner, session_report, state_change
from bgpbfd.bfd.protocol import (
    AcceptUnsolicited,
    Add,
    Bind,
    Bound,
    Change,
    Clear,
    Command,
    Heartbeat,
    Log,
    Query,
    Ready,
    Remove,
    Report,
    SessionFault,
    SetAdminDown,
    Shutdown,
)
from bgpbfd.bfd.session import Action, Session, Transmit
from bgpbfd.bfd.sockets import Listener, SourcePorts, interface_index, monotonic_us, open_sender
from bgpbfd.core import SECOND, Instant, Micros
from bgpbfd.wire.bfd import SINGLE_HOP_PORT

RETRY_US: Micros = SECOND
SHUTDOWN_LINGER_MAX_US: Micros = 5 * SECOND
REPORT_PART = 64  # sessions a message
COMMAND_MAX = 1 << 18
NICE = -10

_TRANSIENT = {errno.EAGAIN, errno.ENOBUFS, errno.EPERM, errno.ENOMEM, errno.EINTR}
"""A packet not sent (full queue, a packet filter) that says nothing of the socket."""
_SOCKET_GONE = {errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EBADF}
"""The address or the interface went away under the socket: open another."""


class Worker:
    def __init__(self, channel: socket.socket, control_timeout_us: Micros, rng: Random) -> None:
        self._channel = channel
        self._outbox = Outbox(channel)
        self._rng = rng
        self._control_timeout_us = control_timeout_us
        self._decode = msgspec.msgpack.Decoder(Command).decode
        self._epoll = select.epoll()
        self._epoll.register(channel, select.EPOLLIN)
        self._wants_out = False
        self._port = SINGLE_HOP_PORT
        self._wanted: list[str] = []
        self._listeners: dict[str, Listener] = {}
        self._by_fd: dict[int, Listener] = {}
        self._bind_errors: dict[str, str] = {}
        self._ports = SourcePorts(rng)
        self._owners: dict[str, Owner] = {}
        self._leaving: list[Owner] = []
        self._demux: Demultiplexer[Owner] = Demultiplexer()
        self._steady: dict[bytes, Owner] = {}
        self._heap: list[tuple[Instant, int, Owner]] = []
        self._timers: list[tuple[Instant, int, Callable[[Instant], None]]] = []
        self._sequence = 0
        self._heartbeat_at = monotonic_us()
        self._control_lost = False
        self._main_gone = False
        self._lost_at: Instant = 0
        self._stopping = False
        self._running = True

    def run(self) -> None:
        self._outbox.post(Ready(pid=os.getpid()))
        self._later(monotonic_us() + RETRY_US, self._housekeeping)
        while self._running:
            self._flush()
            for fd, _ in self._epoll.poll(self._timeout()):
                listener = self._by_fd.get(fd)
                if listener is not None:
                    self._read(listener, monotonic_us())
                elif fd == self._channel.fileno():
                    self._read_commands()
            now = monotonic_us()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2](now)
            self._run_deadlines(now)
        self._flush()

    def _timeout(self) -> float:
        """Seconds to wait; the epoll rounds up to its grain of 1 ms."""
        at = self._timers[0][0]
        if self._heap and self._heap[0][0] < at:
            at = self._heap[0][0]
        return max(0, at - monotonic_us()) / 1_000_000

    def _later(self, at: Instant, call: Callable[[Instant], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._timers, (at, self._sequence, call))

    # -- packets ---------------------------------------------------------------------------------------------

    def _read(self, listener: Listener, until: Instant) -> None:
        for data, arrival, at in listener.packets(until):
            owner = self._steady.get(data)
            if owner is not None and arrival.ttl == 255 and (owner.ifindex is None or owner.ifindex == arrival.ifindex):
                # The same bytes as last time: validated then, and nothing but the detection timer is moved by them.
                owner.session.receive_steady(at)
                continue
            found = self._demux.select(data, arrival)
            if found is None:
                continue
            owner, packet = found
            self._forget_steady(owner)
            now = monotonic_us()
            self._carry_out(owner, owner.session.receive(packet, at, now))
            if owner.session.is_steady(packet):
                owner.steady = data
                self._steady[data] = owner

    def _forget_steady(self, owner: Owner) -> None:
        if owner.steady is not None:
            self._steady.pop(owner.steady, None)
            owner.steady = None

    def _run_deadlines(self, now: Instant) -> None:
        heap = self._heap
        due: list[Owner] = []
        while heap and heap[0][0] <= now:
            at, _, owner = heapq.heappop(heap)
            if owner.armed == at and not owner.closed:
                owner.armed = None
                due.append(owner)
        expiring = False
        for owner in due:
            expiry = owner.session.detection_deadline()
            expiring = expiring or (expiry is not None and expiry <= now)
        if expiring:
            # What reached the host before ``now`` is handed in before ``now`` is judged by.
            for listener in self._listeners.values():
                self._read(listener, now)
            self._note_drops(now)
        for owner in due:
            last_rx = owner.session.last_rx
            evidence_lost = expiring and last_rx is not None and self._lost_at >= last_rx
            self._carry_out(owner, owner.session.wake(now, evidence_lost))

    def _note_drops(self, now: Instant) -> None:
        for listener in self._listeners.values():
            if listener.lost_packets():
                self._lost_at = now

    def _carry_out(self, owner: Owner, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Transmit):
                self._send(owner, action.data)
            else:
                self._forget_steady(owner)
                if not owner.leaving:
                    self._outbox.post(state_change(owner.add, action))
                    self._flush()  # now: what the main process does about a Down is a race with the neighbor
        deadline = owner.session.next_deadline()
        if deadline is not None and (owner.armed is None or deadline < owner.armed) and not owner.closed:
            # A later deadline than the armed one costs nothing: the entry fires in vain and is set anew.
            owner.armed = deadline
            self._sequence += 1
            heapq.heappush(self._heap, (deadline, self._sequence, owner))

    def _send(self, owner: Owner, data: bytes) -> None:
        if owner.sock is None:
            self._count_send_failure(owner, "no socket")
            return
        try:
            try:
                owner.sock.send(data)
            except ConnectionRefusedError:
                owner.sock.send(data)  # the first call only told of an ICMP error, and sent nothing
        except OSError as error:
            reason = errno.errorcode.get(error.errno or 0, "unknown")
            self._count_send_failure(owner, reason)
            if error.errno in _SOCKET_GONE:
                self._close_sender(owner)
            if error.errno not in _TRANSIENT and not isinstance(error, ConnectionRefusedError):
                self._set_fault(owner, f"sending to {owner.remote}: {os.strerror(error.errno or 0)}")
        else:
            if owner.fault is not None:
                self._set_fault(owner, None)

    @staticmethod
    def _count_send_failure(owner: Owner, reason: str) -> None:
        owner.sends_failed[reason] = owner.sends_failed.get(reason, 0) + 1

    def _set_fault(self, owner: Owner, fault: str | None) -> None:
        if fault != owner.fault:
            owner.fault = fault
            if not owner.leaving:
                self._outbox.post(SessionFault(key=owner.add.key, generation=owner.add.generation, error=fault))

    # -- sockets ---------------------------------------------------------------------------------------------

    def _open_sender(self, owner: Owner) -> None:
        """Try to give the session its socket; without one it is not reachable either."""
        try:
            owner.ifindex = interface_index(owner.add.interface)
            owner.sock, owner.source, owner.source_port = open_sender(
                owner.remote, owner.local, owner.add.interface, self._port, self._ports
            )
        except OSError as error:
            what = f"interface {owner.add.interface}" if owner.ifindex is None and owner.add.interface else "address"
            text = os.strerror(error.errno) if error.errno else str(error)
            self._set_fault(owner, f"{what} {owner.local or owner.remote}: {text}".replace("  ", " "))
            return
        self._demux.add(owner)
        self._set_fault(owner, None)

    def _close_sender(self, owner: Owner) -> None:
        if owner.sock is not None:
            owner.sock.close()
            owner.sock = None
            self._ports.used.discard(owner.source_port)
            self._demux.remove(owner)
            self._forget_steady(owner)

    def _bind(self) -> None:
        """Bring the listening sockets to the wanted set; what fails now is tried again every second."""
        for address in [a for a in self._listeners if a not in self._wanted]:
            listener = self._listeners.pop(address)
            del self._by_fd[listener.sock.fileno()]
            self._epoll.unregister(listener.sock)
            listener.sock.close()
        for address in self._wanted:
            if address in self._listeners:
                continue
            try:
                listener = Listener.open(address, self._port)
            except OSError as error:
                text = os.strerror(error.errno) if error.errno else str(error)
                if self._bind_errors.get(address) != text:
                    self._bind_errors[address] = text
                    self._outbox.post(Bound(address=address, error=text))
                continue
            self._bind_errors.pop(address, None)
            self._listeners[address] = listener
            self._by_fd[listener.sock.fileno()] = listener
            self._epoll.register(listener.sock, select.EPOLLIN)
            self._outbox.post(Bound(address=address))

    def _housekeeping(self, now: Instant) -> None:
        """Once a second: what could not be opened, the packets dropped, and the main process's pulse."""
        self._later(now + RETRY_US, self._housekeeping)
        if len(self._listeners) < len(self._wanted):
            self._bind()
        for owner in self._owners.values():
            if owner.sock is None:
                self._open_sender(owner)
        self._note_drops(now)
        if now - self._heartbeat_at >= self._control_timeout_us and not self._control_lost:
            self._read_commands()  # a stall of our own must not look like one of the main process
            if now - self._heartbeat_at >= self._control_timeout_us:
                self._set_control_lost(True)

    # -- the main process ------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._main_gone:
            return
        try:
            self._outbox.flush()
        except OSError:
            self._end_of_main()
            return
        wants_out = bool(self._outbox)
        if wants_out != self._wants_out and not self._main_gone:
            self._wants_out = wants_out
            self._epoll.modify(self._channel, select.EPOLLIN | (select.EPOLLOUT if wants_out else 0))

    def _read_commands(self) -> None:
        while self._running:
            try:
                data = self._channel.recv(COMMAND_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end_of_main()
                return
            try:
                command = self._decode(data)
            except msgspec.MsgspecError as error:
                self._outbox.post(Log(level="error", text=f"command not understood: {error}"))
                continue
            self._obey(command)

    def _end_of_main(self) -> None:
        """BFD Up has to mean that the announcer works: Down at once, then the end."""
        self._main_gone = True
        if not self._stopping:
            self._set_control_lost(True)
        self._running = False

    def _set_control_lost(self, lost: bool) -> None:
        self._control_lost = lost
        now = monotonic_us()
        for owner in self._owners.values():
            self._carry_out(owner, owner.session.set_control_lost(lost, now))
        if not self._main_gone:
            text = "the main process gives no sign: every session signals Down"
            self._outbox.post(Log(level="error", text=text if lost else "the main process is back"))

    def _obey(self, command: Command) -> None:
        now = monotonic_us()
        match command:
            case Heartbeat():
                self._heartbeat_at = now
                if self._control_lost:
                    self._set_control_lost(False)
            case Bind():
                self._obey_bind(command)
            case Add():
                self._add(command, now)
            case Change():
                owner = self._current(command)
                if owner is not None:
                    owner.add = msgspec.structs.replace(owner.add, settings=command.settings)
                    self._carry_out(owner, owner.session.change(command.settings, now))
            case SetAdminDown():
                owner = self._current(command)
                if owner is not None:
                    self._carry_out(owner, owner.session.set_admin_down(command.admin_down, now))
            case Remove():
                owner = self._current(command)
                if owner is not None:
                    self._leave(owner, now)
            case AcceptUnsolicited():
                pass
            case Clear():
                for owner in self._owners.values():
                    if command.key is None or owner.add.key == command.key:
                        owner.session.clear_counters()
                        owner.sends_failed.clear()
                if command.key is None:
                    self._demux.discards.clear()
            case Query():
                self._report(command.request)
            case Shutdown():
                self._shutdown(now)

    def _current(self, command: Change | SetAdminDown | Remove) -> Owner | None:
        owner = self._owners.get(command.key)
        if owner is None or owner.add.generation != command.generation:
            text = f"{type(command).__name__} for {command.key}, which has no generation {command.generation}"
            self._outbox.post(Log(level="warning", text=text))
            return None
        return owner

    def _obey_bind(self, command: Bind) -> None:
        if command.port != self._port:
            self._wanted = []
            self._bind()
            self._port = command.port
            for owner in self._owners.values():
                self._close_sender(owner)
                self._open_sender(owner)
        self._wanted = list(dict.fromkeys(command.addresses))
        self._bind_errors.clear()
        self._bind()

    def _add(self, command: Add, now: Instant) -> None:
        try:
            remote = canonical(command.remote)
            local = None if command.local is None else canonical(command.local)
        except ValueError as error:
            self._outbox.post(SessionFault(key=command.key, generation=command.generation, error=str(error)))
            return
        if command.key in self._owners:
            self._leave(self._owners[command.key], now)
        for owner in [o for o in self._leaving if (o.remote, o.local) == (remote, local)]:
            self._close(owner)  # two sessions of ours must not argue over one of the neighbor's
        discriminator = 0
        while discriminator == 0 or discriminator in self._demux.by_discriminator:
            discriminator = self._rng.getrandbits(32)
        session = Session(
            local_discriminator=discriminator,
            settings=command.settings,
            rng=self._rng,
            now=now,
            admin_down=command.admin_down,
            control_lost=self._control_lost,
        )
        owner = Owner(command, session, remote, local, discriminator)
        self._owners[command.key] = owner
        self._open_sender(owner)
        self._carry_out(owner, ())

    def _leave(self, owner: Owner, now: Instant) -> None:
        """AdminDown for one detection time, unheard of by the main process; then gone."""
        del self._owners[owner.add.key]
        owner.leaving = True
        self._leaving.append(owner)
        linger_us = owner.session.linger_us()
        owner.leaves_at = now + linger_us
        self._carry_out(owner, owner.session.set_admin_down(True, now))
        if linger_us and owner.sock is not None:
            self._later(now + linger_us, lambda _: self._close(owner))
        else:
            self._close(owner)

    def _close(self, owner: Owner) -> None:
        if not owner.closed:
            self._close_sender(owner)
            owner.closed = True
            self._leaving.remove(owner)

    def _shutdown(self, now: Instant) -> None:
        self._stopping = True
        until = max((owner.leaves_at for owner in self._leaving), default=now)
        until = min(max(until, now), now + SHUTDOWN_LINGER_MAX_US)
        for owner in self._owners.values():
            linger_us = min(owner.session.linger_us(), SHUTDOWN_LINGER_MAX_US)
            until = max(until, now + linger_us if owner.sock is not None else now)
            self._carry_out(owner, owner.session.set_admin_down(True, now))
        self._later(until, self._stop)

    def _stop(self, _: Instant) -> None:
        self._running = False

    def _report(self, request: int) -> None:
        reports = [session_report(owner) for owner in self._owners.values()]
        parts = [reports[i : i + REPORT_PART] for i in range(0, len(reports), REPORT_PART)] or [[]]
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            discards = dict(self._demux.discards) if last else {}
            self._outbox.post(Report(request=request, sessions=part, discards=discards, last=last))


def main(arguments: list[str]) -> int:
    """Take over the socket of the given number and serve until it ends or says Shutdown."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # `pkill -HUP bgpbfd` means the main process; when to end is its decision as well.
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("bgpbfd-bfd")
    with contextlib.suppress(PermissionError):
        # A busy host is where packets must leave in time; without the right to it, as others.
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    channel = socket.socket(fileno=int(arguments[0]))
    channel.setblocking(False)
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a collection is a pause
    Worker(channel, int(arguments[1]), Random()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
