"""The BFD worker process: ``python -m bgpbfd.bfd.worker FD CONTROL_TIMEOUT_US``, started by bgpbfd.bfd.link alone.

One thread, one epoll, one heap of deadlines, and nothing else that could hold it up. Commands come and events go over
FD (protocol.py). The end of that socket means that the main process died: every session signals Down, and the worker
ends. Without heartbeats for the control timeout it hangs: Down as well, until they return.

A turn of the loop reads before it judges: packets first, then the deadlines that have come, and before a neighbor is
declared silent the sockets are read once more, so that a stall of this process never counts as one of the neighbor.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from random import Random

import msgspec

from bgpbfd.bfd.demux import canonical
from bgpbfd.bfd.outbox import Outbox
from bgpbfd.bfd.owner import Owner, session_report
from bgpbfd.bfd.protocol import (
    AcceptUnsolicited,
    Add,
    Bind,
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
    Settings,
    Shutdown,
)
from bgpbfd.bfd.session import Session
from bgpbfd.bfd.sockets import monotonic_us
from bgpbfd.bfd.timers import FIRST_TX_WITHIN_US
from bgpbfd.bfd.traffic import Traffic
from bgpbfd.core import MILLISECOND, SECOND, Instant, Micros
from bgpbfd.lag import LagHistogram

RETRY_US: Micros = SECOND
SHUTDOWN_LINGER_MAX_US: Micros = 5 * SECOND
REPORT_PART = 64  # sessions a message
COMMAND_MAX = 1 << 18
COMMANDS_A_TURN = 32  # adding a session takes 0.1 ms, and packets are waiting
NICE = -10
SESSIONS_MAX = 15_000  # each has a source port of its own: RFC 5881 §4 leaves 16,384
FIRST_TX_EACH_US: Micros = 3 * MILLISECOND
FIRST_TX_MAX_US: Micros = 5 * SECOND


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
        self._traffic = Traffic(self._epoll, self._outbox, rng, flush=self._flush, later=self._later)
        self._owners: dict[str, Owner] = {}
        self._leaving: list[Owner] = []
        self._timers: list[tuple[Instant, int, Callable[[Instant], None]]] = []
        self._sequence = 0
        self._heartbeat_at = monotonic_us()
        self._control_lost = False
        self._main_gone = False
        self._stopping = False
        self._running = True
        self._lag = LagHistogram()
        self._pause_since = monotonic_us()

    def run(self) -> None:
        """Until the end; see the module's text."""
        self._outbox.post(Ready(pid=os.getpid()))
        self._later(monotonic_us() + RETRY_US, self._housekeeping)
        while self._running:
            self._flush()
            for fd, _ in self._wait():
                if fd == self._channel.fileno():
                    self._read_commands()
                else:
                    self._traffic.read_ready(fd)
            now = monotonic_us()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2](now)
            self._traffic.turn(now)
        self._flush()

    def _wait(self) -> list[tuple[int, int]]:
        """What the epoll tells of, until the next deadline.

        Its own wait has a grain of 1 ms, by which a verdict would be late; select(2) has one of 1 µs.
        """
        at = self._timers[0][0]
        deadline = self._traffic.next_deadline()
        if deadline is not None and deadline < at:
            at = deadline
        entered = monotonic_us()
        self._lag.record(entered - self._pause_since)
        waits = at > entered
        has_come = not waits or select.select([self._epoll], [], [], (at - entered) / SECOND)[0]
        # A pause begins with what was due, also when packets come after that: see lag.py.
        self._pause_since = min(monotonic_us(), at) if waits else entered
        return self._epoll.poll(0) if has_come else []

    def _later(self, at: Instant, call: Callable[[Instant], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._timers, (at, self._sequence, call))

    def _housekeeping(self, now: Instant) -> None:
        """Once a second; the main process's pulse among it."""
        self._later(now + RETRY_US, self._housekeeping)
        self._traffic.housekeeping(now, self._owners.values())
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
        for _ in range(COMMANDS_A_TURN):
            if not self._running:
                return
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
            self._traffic.carry_out(owner, owner.session.set_control_lost(lost, now))
        if not self._main_gone:
            text = "the main process gives no sign: every session signals Down"
            self._outbox.post(Log(level="error", text=text if lost else "the main process is back"))

    def _obey(self, command: Command) -> None:
        now = monotonic_us()
        self._heartbeat_at = now
        if self._control_lost:
            self._set_control_lost(False)
        match command:
            case Heartbeat():
                pass  # any command is a sign of life
            case Bind():
                self._traffic.bind(command.addresses, command.port, self._owners.values())
            case Add():
                self._add(command, now)
            case Change():
                owner = self._current(command)
                if owner is not None:
                    self._change(owner, command, now)
            case SetAdminDown():
                owner = self._current(command)
                if owner is not None:
                    self._traffic.carry_out(owner, owner.session.set_admin_down(command.admin_down, now))
            case Remove():
                owner = self._current(command)
                if owner is not None:
                    self._leave(owner, now)
            case AcceptUnsolicited():
                self._traffic.accept_unsolicited(command)
            case Clear():
                for owner in self._owners.values():
                    if command.key is None or owner.add.key == command.key:
                        owner.session.clear_counters()
                        owner.sends_failed.clear()
                if command.key is None:
                    self._traffic.clear_discards()
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

    def _add(self, command: Add, now: Instant) -> None:
        try:
            if len(self._owners) >= SESSIONS_MAX and command.key not in self._owners:
                raise ValueError(f"more than {SESSIONS_MAX} sessions")
            remote = canonical(command.remote)
            local = None if command.local is None else canonical(command.local)
            wanted, limits = self._traffic.possible(command.settings, remote)
            session = self._session(command, wanted, now)
        except ValueError as error:
            self._outbox.post(SessionFault(key=command.key, generation=command.generation, error=str(error)))
            return
        if command.key in self._owners:
            self._leave(self._owners[command.key], now)
        path = (remote, local, command.interface, command.multihop)
        for owner in [o for o in self._leaving if (o.remote, o.local, o.add.interface, o.add.multihop) == path]:
            self._close(owner)  # two sessions of ours must not argue over one of the neighbor's
        owner = Owner(command, session, remote, local, session.local_discriminator)
        owner.limits = limits
        self._owners[command.key] = owner
        self._traffic.listen_for(command)
        self._traffic.open(owner)
        self._traffic.carry_out(owner, ())

    def _session(self, command: Add, settings: Settings, now: Instant) -> Session:
        """ValueError: a key that cannot be used (``auth``)."""
        return Session(
            local_discriminator=self._traffic.new_discriminator(),
            settings=settings,
            rng=self._rng,
            now=now,
            admin_down=command.admin_down,
            control_lost=self._control_lost,
            # A thousand sessions that are added at once do not speak at once: to bring one up takes about 1 ms.
            first_tx_within_us=max(FIRST_TX_WITHIN_US, min(FIRST_TX_MAX_US, len(self._owners) * FIRST_TX_EACH_US)),
        )

    def _change(self, owner: Owner, command: Change, now: Instant) -> None:
        wanted, limits = self._traffic.possible(command.settings, owner.remote)
        try:
            actions = owner.session.change(wanted, now)
        except ValueError as error:  # nothing has changed
            self._outbox.post(SessionFault(key=command.key, generation=command.generation, error=str(error)))
            return
        owner.add = msgspec.structs.replace(owner.add, settings=command.settings)
        owner.limits = limits
        self._traffic.listen_for(owner.add)
        self._traffic.forget_steady(owner)
        self._traffic.carry_out(owner, actions)

    def _leave(self, owner: Owner, now: Instant) -> None:
        """AdminDown for one detection time, unheard of by the main process; then gone."""
        del self._owners[owner.add.key]
        owner.leaving = True
        self._leaving.append(owner)
        linger_us = owner.session.linger_us()
        owner.leaves_at = now + linger_us
        self._traffic.carry_out(owner, owner.session.set_admin_down(True, now))
        if linger_us and owner.sock is not None:
            self._later(now + linger_us, lambda _: self._close(owner))
        else:
            self._close(owner)

    def _close(self, owner: Owner) -> None:
        if not owner.closed:
            self._traffic.close(owner)
            owner.closed = True
            self._leaving.remove(owner)

    def _shutdown(self, now: Instant) -> None:
        self._stopping = True
        until = max((owner.leaves_at for owner in self._leaving), default=now)
        until = min(max(until, now), now + SHUTDOWN_LINGER_MAX_US)
        for owner in self._owners.values():
            linger_us = min(owner.session.linger_us(), SHUTDOWN_LINGER_MAX_US)
            until = max(until, now + linger_us if owner.sock is not None else now)
            self._traffic.carry_out(owner, owner.session.set_admin_down(True, now))
        self._later(until, self._stop)

    def _stop(self, _: Instant) -> None:
        self._running = False

    def _report(self, request: int) -> None:
        """All sessions, a part a turn: a thousand at once would keep packets waiting."""
        owners = list(self._owners.values())
        parts = [owners[i : i + REPORT_PART] for i in range(0, len(owners), REPORT_PART)] or [[]]

        def tell(now: Instant) -> None:
            sessions = [session_report(owner) for owner in parts.pop(0)]
            if parts:
                self._outbox.post(Report(request=request, sessions=sessions, discards={}, last=False))
                self._later(now + 1, tell)
                return
            discards = self._traffic.discards()
            self._outbox.post(Report(request=request, sessions=sessions, discards=discards, lag=self._lag))

        tell(monotonic_us())


def main(arguments: list[str]) -> int:
    """Take over the socket of the given number and serve until it ends or says Shutdown."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # `pkill -HUP bgpbfd` means the main process; when to end is its decision as well.
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("bgpbfd-bfd")
    with contextlib.suppress(OSError, ValueError):
        # A session has up to two sockets, and the usual limit is 1024.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
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
