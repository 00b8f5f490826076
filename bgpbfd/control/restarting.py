"""This daemon as the restarting speaker of RFC 4724 §4.1.

Whether it ran before it cannot know: for the restart time after its start it says so (R bit) to the neighbors that it
has graceful restart with. A neighbor that kept our routes drops those that we have not sent again by our End-of-RIB.
Our own routes are known at once and sent at once. Learned ones wait until the other neighbors have sent theirs whole,
and with them the End-of-RIB of those neighbors that learned routes are passed on to.
"""

from __future__ import annotations

from typing import Protocol

from bgpbfd.config.model import Config, PeerConfig
from bgpbfd.control.neighbor import Neighbor
from bgpbfd.control.ports import Clock, Timers
from bgpbfd.control.recorder import Recorder
from bgpbfd.core import SECOND, Instant, Micros, PeerId

DEFERRAL_MAX: Micros = 360 * SECOND  # a neighbor that is switched off must not hold the others up for an hour
_KEY = "graceful restart"


class Host(Protocol):
    """What this needs of announcing and of the engine."""

    config: Config
    neighbors: dict[PeerId, Neighbor]
    clock: Clock
    timers: Timers
    recorder: Recorder

    def restart_is_over(self) -> None:
        """Learned routes may go, and every End-of-RIB with them."""
        ...


class Restart:
    """``deferring``: learned routes are not passed on yet (the Selection_Deferral_Timer runs)."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._started_at = host.clock.now()
        self.deferring = False
        self._begun = False

    def until(self, config: PeerConfig) -> Instant | None:
        """Until when sessions with this peer are begun with the R bit; None where not at all, or not any more."""
        if not config.graceful_restart.enabled:
            return None
        end = self._started_at + config.graceful_restart.restart_time * SECOND
        return end if self._host.clock.now() < end else None

    def begin(self) -> None:
        """A configuration has been applied: how long we wait is the first one's to say, later ones may shorten it."""
        if self._begun:
            self.check()
            return
        self._begun = True
        ends = [end for peer in self._host.config.peers if peer.enabled and (end := self.until(peer)) is not None]
        if ends:
            self.deferring = True
            now = self._host.clock.now()
            end = min(max(ends), now + DEFERRAL_MAX)
            self._host.timers.arm(_KEY, end, self._end)
            seconds = (end - now) // SECOND
            self._tell(
                f"learned routes are passed on when the neighbors have sent theirs, in {seconds} s at the latest"
            )
            self.check()

    def holds_end_of_rib(self, neighbor: Neighbor) -> bool:
        return self.deferring and "peer" in neighbor.sources

    def check(self) -> None:
        """A neighbor's End-of-RIB has come, or a neighbor is waited for no longer."""
        if self.deferring and not any(self._awaited(neighbor) for neighbor in self._host.neighbors.values()):
            self._end()

    def _awaited(self, neighbor: Neighbor) -> bool:
        if not neighbor.enabled or neighbor.network is not None or not neighbor.config.graceful_restart.enabled:
            return False
        if neighbor.session is None:
            return True
        negotiated = neighbor.session.negotiated
        if negotiated.restart is None or negotiated.restart.restarting:
            return False  # it promises no End-of-RIB, or waits for ours (RFC 4724 §4.1: peers with the R bit excepted)
        # Not those that are disabled: their End-of-RIB would be ignored.
        return not {str(family) for family in neighbor.session.context.families} <= neighbor.end_of_rib

    def _end(self) -> None:
        self._host.timers.arm(_KEY, None, self._end)
        if self.deferring:
            self.deferring = False
            self._tell("learned routes are passed on")
            self._host.restart_is_over()

    def _tell(self, text: str) -> None:
        """Only where anybody is sent learned routes."""
        if any("peer" in peer.advertise_sources for peer in self._host.config.peers):
            self._host.recorder.add("graceful-restart", text, self._host.clock.now())
