"""What a BFD session's changes mean to its BGP neighbor (RFC 5882). Pure: events in, events for the BGP core out.

- Only Up→Down acts. A session that was never Up (RFC 5882 §3.3: bring-up is not failure) and AdminDown of either end
  (§3.2, §4.2) leave BGP alone: the neighbor may just not run BFD, or have switched it off on purpose.
- Mode ``strict`` keeps BGP from coming up while BFD is neither Up nor AdminDown (§4.1).
- Repeated failures make the way back slower (``damping``), in either mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from bgpbfd.bfd.protocol import StateChange
from bgpbfd.bgp.events import BfdDown, BfdGate, BfdUp, Cause, CauseKind
from bgpbfd.control.damping import Damping
from bgpbfd.core import MILLISECOND, SECOND, Instant

Verdict: TypeAlias = BfdUp | BfdDown | BfdGate
OPEN = BfdGate(closed=False)


@dataclass(slots=True)
class Coupling:
    """``state``: the session's last known one; before the worker has spoken, that in which sessions start.

    ``strict_hold_s`` None: mode ``track``. ``gate``: what BGP was told last. ``bound``: there is a session at all.
    """

    state: str = "down"
    remote_admin_down: bool = False
    control_plane_independent: bool = False  # both ends, as of the last change
    strict_hold_s: float | None = None
    damps: bool = True
    fault: str | None = None
    bound: bool = False
    down_count: int = 0
    regaining: bool = False  # it was Up under a worker that died, and has not been since
    unseen: bool = False  # a new worker has not said a word on it yet
    gate: BfdGate = OPEN
    damping: Damping = field(default_factory=Damping)

    def bind(
        self,
        strict_hold_s: float | None,
        now: Instant,
        state: str = "down",
        *,
        remote_admin_down: bool = False,
        fault: str | None = None,
        damps: bool = True,
    ) -> list[Verdict]:
        """The neighbor has a session from now on, in a state in which others may have brought it already."""
        self.bound = True
        self.state, self.remote_admin_down, self.fault = state, remote_admin_down, fault
        self.strict_hold_s, self.damps = strict_hold_s, damps
        self.regaining = self.unseen = False
        self.damping.expired(now)
        return self._gate(now)

    def look(self, now: Instant, state: str, *, remote_admin_down: bool) -> list[Verdict]:
        """It sees the session, or its own AdminDown instead of it, from now on: nothing that it sees is a failure."""
        came_up = state == "up" and self.state != "up"
        self.state, self.remote_admin_down = state, remote_admin_down
        self.regaining = False
        if came_up:
            self.damping.came_up(now)
        elif state == "admin-down":
            self.damping.release()
        gate = self._gate(now)
        return [*gate, BfdUp()] if came_up and self.damping.until is None else gate

    def unbind(self, now: Instant) -> list[Verdict]:
        """It has none any more. What was damped stays so: whoever removes BFD for a moment has not mended anything."""
        self.bound = False
        self.state, self.remote_admin_down, self.fault = "down", False, None
        self.regaining = self.unseen = False
        return self._gate(now)

    def configure(self, strict_hold_s: float | None, now: Instant, *, damps: bool = True) -> list[Verdict]:
        """Another mode, or hold time; damping on or off."""
        self.strict_hold_s, self.damps = strict_hold_s, damps
        return self._gate(now) if damps else self.forgive(now) or self._gate(now)

    def set_fault(self, fault: str | None, now: Instant) -> list[Verdict]:
        """Why the session cannot run; strict mode waits all the same, and says why."""
        self.fault = fault
        return self._gate(now)

    def lose_sight(self, state: str = "down") -> bool:
        """The worker was replaced, and its sessions start anew, in ``state``; whether what was known has to come back.

        Until it has, or ``give_up``, the gate stays as it was; a fault is told anew where there still is one.
        """
        self.regaining = self.regaining or self.state == "up"
        self.state, self.fault, self.unseen = state, None, True
        return self.regaining or self.remote_admin_down

    def give_up(self, now: Instant) -> list[Verdict]:
        """The time for coming back is over."""
        if self.unseen:
            self.unseen = self.remote_admin_down = False
        if not self.regaining:
            return self._gate(now)
        self.regaining = False
        text = "BFD was up, its worker process had to be started again, and the neighbor has not come back since"
        return [BfdDown(Cause(CauseKind.BFD_DOWN, text, now)), *self._failed(now)]

    def handle(self, change: StateChange, now: Instant) -> list[Verdict]:
        """A change of the session's state, or of what is known of the remote's AdminDown."""
        self.state, self.unseen = change.new, False
        self.remote_admin_down = change.remote_admin_down and change.new != "up"
        self.control_plane_independent = change.control_plane_independent
        if change.new in {"up", "admin-down"} or change.remote_admin_down:
            self.regaining = False
        if change.new == "up":
            self.damping.came_up(now)
            gate = self._gate(now)
            return gate if self.damping.until is not None else [*gate, BfdUp()]
        if change.remote_admin_down or change.new == "admin-down":
            self.damping.release()  # RFC 5882 §3.2: who switches BFD off says that BGP is not to mind it
        if change.old != "up" or change.remote_admin_down or change.new == "admin-down" or change.blame == "admin":
            return self._gate(now)
        return [BfdDown(down_cause(change), failed_at(change)), *self._failed(now)]

    def next_deadline(self) -> Instant | None:
        return self.damping.until

    def timer(self, now: Instant) -> list[Verdict]:
        """The deadline may have come."""
        if not self.damping.expired(now):
            return []
        return self._back(now)

    def forgive(self, now: Instant) -> list[Verdict]:
        """An operator wants the neighbor back now."""
        if self.damping.until is None:
            self.damping.clear()
            return []
        self.damping.clear()
        return self._back(now)

    def _back(self, now: Instant) -> list[Verdict]:
        gate = self._gate(now)
        return [*gate, BfdUp()] if self.state == "up" else gate

    def _failed(self, now: Instant) -> list[Verdict]:
        self.down_count += 1
        if self.damps:
            self.damping.failed(now)
        return self._gate(now)

    def _gate(self, now: Instant) -> list[Verdict]:
        """The gate as it should be, if BGP has not been told so."""
        wanted = OPEN
        if self.damping.until is not None:
            seconds = self.damping.hold // SECOND
            reason = f"BFD has failed {self.damping.failures} times: it has to be up for {seconds} s"
            # It is dialled all the same (draft-ietf-idr-bgp-bfd-strict-mode §10): when the time is over all but our
            # KEEPALIVE has been said.
            wanted = BfdGate(closed=True, reason=reason)
        elif self.bound and self.strict_hold_s is not None and not self._allows():
            wanted = BfdGate(closed=True, reason=self.fault or f"BFD is {self.state}", hold_s=self.strict_hold_s)
        if wanted == self.gate:
            return []
        self.gate = wanted
        return [wanted]

    def _allows(self) -> bool:
        # RFC 5882 §4.1, §3.2: AdminDown, of either end, must not keep BGP from coming up.
        return self.state in {"up", "admin-down"} or self.remote_admin_down or self.regaining


def failed_at(change: StateChange) -> Instant:
    """When the path failed: the neighbor's word arrived, or the detection time ran out."""
    if change.last_rx is None:
        return change.at
    if change.blame == "remote-signalled":
        return change.last_rx
    return min(change.at, change.last_rx + change.detection_time_us)


def change_facts(change: StateChange) -> dict[str, str | int | float]:
    """A change in numbers, with the times that an operator asks for."""
    facts: dict[str, str | int | float] = {
        "old": change.old,
        "new": change.new,
        "diag": change.diag,
        "remote_diag": change.remote_diag,
    }
    if change.blame:
        facts["blame"] = change.blame
        facts["detection_time_ms"] = change.detection_time_us / MILLISECOND
        facts["detected_at_us"] = change.at
    if change.blame and change.last_rx is not None:
        facts["last_packet_at_us"] = change.last_rx
        facts["silence_ms"] = round((change.at - change.last_rx) / MILLISECOND, 3)
        if change.previous_rx is not None:
            facts["previous_packet_at_us"] = change.previous_rx
    return facts


def down_cause(change: StateChange) -> Cause:
    """The Up→Down of ``change`` in words."""
    facts = {key: value for key, value in change_facts(change).items() if key not in {"old", "new"}}
    if change.control_plane_independent:
        facts["control_plane_independent"] = 1
    text = f"BFD went down ({change.blame or 'cause unknown'})"
    if change.last_rx is not None:
        silence = (change.at - change.last_rx) / MILLISECOND
        text += (
            f": {silence:.1f} ms after the last packet, detection time {change.detection_time_us / MILLISECOND:.0f} ms"
        )
    return Cause(CauseKind.BFD_DOWN, text, change.at, facts=facts)
