"""Between the BFD sessions and the BGP neighbors that use them: what one says is handed to the other.

What it means is decided by each neighbor's ``coupling``; here its verdicts are carried out, its timer armed, and what
happened is recorded: of a failure first the teardown, then the telling of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol, assert_never

from bgpbfd.bfd import protocol as bfd
from bgpbfd.bgp import events as bgp
from bgpbfd.control.bfd_sessions import BfdSessions, neighbor_client
from bgpbfd.control.coupling import Verdict
from bgpbfd.control.damping import Damping
from bgpbfd.control.learning import Learning
from bgpbfd.control.neighbor import Neighbor, strict_hold_s
from bgpbfd.control.ports import Clock, Timers
from bgpbfd.control.recorder import Recorder
from bgpbfd.core import SECOND, Micros, PeerId

BFD_REGAIN: Micros = 10 * SECOND  # a session starts at 1 s intervals (RFC 5880 §6.8.3): Up takes a few of them
DAMPINGS_MAX = 1000  # dynamic neighbors, gone just now, whose failures are remembered


class Host(Protocol):
    """What is needed of the engine."""

    neighbors: dict[PeerId, Neighbor]
    clock: Clock
    timers: Timers
    recorder: Recorder
    learning: Learning
    bfd_sessions: BfdSessions

    def feed(self, neighbor: Neighbor, event: bgp.Event) -> None: ...


class BfdNeighbors:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._dampings: dict[PeerId, Damping] = {}  # of dynamic neighbors, which go with each failure

    # -- neighbors ---------------------------------------------------------------------------------------

    def start(self, neighbor: Neighbor) -> None:
        """The neighbor uses the session of its path, where it is to have BFD."""
        path, settings = neighbor.config.bfd_path, neighbor.config.bfd
        if path is None or settings is None or neighbor.coupling.bound:
            return
        session = self._host.bfd_sessions.attach(neighbor_client(neighbor.id), path, settings)
        if (kept := self._dampings.pop(neighbor.id, None)) is not None:
            neighbor.coupling.damping = kept
        verdicts = neighbor.coupling.bind(
            strict_hold_s(neighbor.config),
            self._host.clock.now(),
            "admin-down" if settings.shutdown else session.state,
            remote_admin_down=session.remote_admin_down,
            fault=session.fault,
            damps=settings.damping,
        )
        self._act(neighbor, verdicts)

    def stop(self, neighbor: Neighbor) -> None:
        if neighbor.coupling.bound:
            self._host.bfd_sessions.detach(neighbor_client(neighbor.id))
            self._act(neighbor, neighbor.coupling.unbind(self._host.clock.now()))
            self._host.timers.arm(_regain_key(neighbor.id), None, _nothing)
            self._keep_damping(neighbor)

    def _keep_damping(self, neighbor: Neighbor) -> None:
        damping = neighbor.coupling.damping
        if neighbor.network is None or damping.faded(self._host.clock.now()):
            return
        if len(self._dampings) >= DAMPINGS_MAX:
            del self._dampings[next(iter(self._dampings))]
        self._dampings[neighbor.id] = damping

    def change(self, neighbor: Neighbor, *, was_shutdown: bool) -> None:
        """A reload has changed what is wanted of the session, not its path. ``was_shutdown``: before it."""
        settings = neighbor.config.bfd
        assert settings is not None
        session = self._host.bfd_sessions.change(neighbor_client(neighbor.id), settings)
        now, coupling = self._host.clock.now(), neighbor.coupling
        self._act(neighbor, coupling.configure(strict_hold_s(neighbor.config), now, damps=settings.damping))
        if settings.shutdown is not was_shutdown:
            state = "admin-down" if settings.shutdown else session.state
            self._act(neighbor, coupling.look(now, state, remote_admin_down=session.remote_admin_down))

    def forgive(self, neighbor: Neighbor) -> None:
        """An operator wants it back now, however often BFD has failed."""
        self._dampings.pop(neighbor.id, None)
        self._act(neighbor, neighbor.coupling.forgive(self._host.clock.now()))

    # -- what the worker says ----------------------------------------------------------------------------

    def event(self, event: bfd.Event) -> None:
        host, now = self._host, self._host.clock.now()
        match event:
            case bfd.StateChange():
                self._changed(event)
            case bfd.SessionFault():
                session = host.bfd_sessions.fault(event)
                for neighbor in self._of(session.neighbors() if session else ()):
                    self._act(neighbor, neighbor.coupling.set_fault(event.error, now))
            case bfd.Late():
                host.bfd_sessions.late(event)
            case bfd.Unsolicited():
                host.bfd_sessions.asked(event)
            case bfd.Bound():
                if event.error is None:
                    host.recorder.add("bfd-listening", f"BFD listens on {event.address}", now, level="debug")
                else:
                    text = f"BFD cannot listen on {event.address}: {event.error}"
                    host.recorder.add("bfd-listen-failed", text, now, level="error")
            case bfd.Log():
                host.recorder.add("bfd-worker", event.text, now, level=event.level)
            case bfd.Ready():
                self._worker_ready()
            case bfd.Report():
                pass  # the link's own business
            case _:
                assert_never(event)

    def _changed(self, change: bfd.StateChange) -> None:
        session = self._host.bfd_sessions.take(change)
        if session is None:
            return
        now = self._host.clock.now()
        if change.new == "up":  # what comes of it is told after it
            self._host.bfd_sessions.tell(session, change)
        failed: list[Neighbor] = []
        for neighbor in self._of(session.neighbors()):
            if neighbor.config.bfd is not None and neighbor.config.bfd.shutdown:
                continue  # it is AdminDown to this one, whatever others use it for
            verdicts = neighbor.coupling.handle(change, now)
            self._act(neighbor, verdicts)
            if any(isinstance(verdict, bgp.BfdDown) for verdict in verdicts):
                failed.append(neighbor)
        if change.new != "up":
            self._host.bfd_sessions.tell(session, change)
        for neighbor in failed:
            self._tell_damped(neighbor)

    def _of(self, peers: Sequence[PeerId]) -> list[Neighbor]:
        return [self._host.neighbors[peer] for peer in peers if peer in self._host.neighbors]

    def _tell_damped(self, neighbor: Neighbor) -> None:
        damping = neighbor.coupling.damping
        if damping.until is None:
            return
        now = self._host.clock.now()
        seconds, within = damping.hold // SECOND, round((now - damping.since) / SECOND)
        text = f"BFD has failed {damping.failures} times within {within} s: BGP waits until it has been up for "
        text += f"{seconds} s"
        facts: dict[str, str | int | float] = {"failures": damping.failures, "within_s": within, "hold_s": seconds}
        self._host.recorder.add("bfd-damped", text, now, peer=neighbor.id, level="warning", facts=facts)

    def _worker_ready(self) -> None:
        """A new worker: no neighbor is blamed for the old one's death, but none that is gone may hide behind it."""
        now = self._host.clock.now()
        self._host.bfd_sessions.worker_restarted()
        for neighbor in self._host.neighbors.values():
            settings = neighbor.config.bfd
            if neighbor.coupling.lose_sight("admin-down" if settings is not None and settings.shutdown else "down"):
                self._host.timers.arm(
                    _regain_key(neighbor.id), now + BFD_REGAIN, functools.partial(self._not_regained, neighbor)
                )

    def _not_regained(self, neighbor: Neighbor) -> None:
        if self._host.neighbors.get(neighbor.id) is neighbor:
            verdicts = neighbor.coupling.give_up(self._host.clock.now())
            self._act(neighbor, verdicts)
            if any(isinstance(verdict, bgp.BfdDown) for verdict in verdicts):
                self._tell_damped(neighbor)

    # -- verdicts ----------------------------------------------------------------------------------------

    def _act(self, neighbor: Neighbor, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._host.feed(neighbor, verdict)
            if isinstance(verdict, bgp.BfdDown):
                self._host.learning.path_failed(neighbor, independent=neighbor.coupling.control_plane_independent)
        if self._host.neighbors.get(neighbor.id) is not neighbor:
            return  # a dynamic neighbor goes with its session
        deadline = neighbor.coupling.next_deadline()
        self._host.timers.arm(_gate_key(neighbor.id), deadline, functools.partial(self._timer, neighbor))

    def _timer(self, neighbor: Neighbor) -> None:
        if self._host.neighbors.get(neighbor.id) is neighbor:
            self._act(neighbor, neighbor.coupling.timer(self._host.clock.now()))


def bfd_timer_keys(peer: PeerId) -> tuple[str, ...]:
    """The timers that a neighbor may have here."""
    return (_regain_key(peer), _gate_key(peer))


def _regain_key(peer: PeerId) -> str:
    return "bfd " + peer


def _gate_key(peer: PeerId) -> str:
    return "bfd gate " + peer


def _nothing() -> None:
    return None
