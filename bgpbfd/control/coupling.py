"""What a BFD session's changes mean to its BGP neighbor (RFC 5882), mode ``track``.

Only Up→Down acts. A session that was never Up (RFC 5882 §3.3: bring-up is not failure) and AdminDown of either
end (§3.2, §4.2) leave BGP alone: the neighbor may just not run BFD, or have switched it off on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bgpbfd.bfd.protocol import StateChange
from bgpbfd.bgp.events import BfdDown, BfdUp, Cause, CauseKind
from bgpbfd.core import MILLISECOND, Instant

Verdict: TypeAlias = BfdUp | BfdDown | None


@dataclass(slots=True)
class Coupling:
    """``state`` is the BFD session's last known state; before the worker has spoken, that in which sessions start."""

    state: str = "down"
    down_count: int = 0
    regaining: bool = False  # it was Up under a worker that died, and has not been since

    def lose_sight(self) -> bool:
        """The worker was replaced, and its sessions start anew; whether this one was Up and has to come back."""
        self.regaining = self.regaining or self.state == "up"
        self.state = "down"
        return self.regaining

    def give_up(self, now: Instant) -> Verdict:
        """The time for coming back is over."""
        if not self.regaining:
            return None
        self.regaining = False
        self.down_count += 1
        text = "BFD was up, its worker process had to be started again, and the neighbor has not come back since"
        return BfdDown(Cause(CauseKind.BFD_DOWN, text, now))

    def handle(self, change: StateChange) -> Verdict:
        self.state = change.new
        if change.new in {"up", "admin-down"} or change.remote_admin_down:
            self.regaining = False
        if change.new == "up":
            return BfdUp()
        if change.old != "up":
            return None
        if change.remote_admin_down or change.new == "admin-down" or change.blame == "admin":
            return None
        self.down_count += 1
        return BfdDown(down_cause(change), failed_at(change))


def failed_at(change: StateChange) -> Instant:
    """When the path failed: the neighbor's word arrived, or the detection time ran out."""
    if change.last_rx is None:
        return change.at
    if change.blame == "remote-signalled":
        return change.last_rx
    return change.last_rx + change.detection_time_us


def down_cause(change: StateChange) -> Cause:
    """The Up→Down of ``change`` in words, with the times that an operator asks for."""
    facts: dict[str, str | int | float] = {
        "blame": change.blame,
        "diag": change.diag,
        "remote_diag": change.remote_diag,
        "detection_time_ms": change.detection_time_us / MILLISECOND,
        "detected_at_us": change.at,
    }
    text = f"BFD went down ({change.blame or 'cause unknown'})"
    if change.last_rx is not None:
        silence = (change.at - change.last_rx) / MILLISECOND
        facts["last_packet_at_us"] = change.last_rx
        facts["silence_ms"] = round(silence, 3)
        text += f": {silence:.1f} ms after the last packet, detection time {facts['detection_time_ms']:.0f} ms"
        if change.previous_rx is not None:
            facts["previous_packet_at_us"] = change.previous_rx
    return Cause(CauseKind.BFD_DOWN, text, change.at, facts=facts)
