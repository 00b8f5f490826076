"""The send hold timer (RFC 9687): a peer that takes nothing of what is to be sent has to go."""

from __future__ import annotations

from typing import Final

from bgpbfd.bgp.events import Cause, CauseKind
from bgpbfd.core import SECOND, Instant, Micros

HOLD_GRACE: Final[Micros] = SECOND  # the hold timer's and this one's, where it was us who slept
MIN_SEND_HOLD: Final[Micros] = 480 * SECOND  # RFC 9687 §4: 8 minutes or twice the hold time, whichever is longer


class SendHold:
    """``hold``: the negotiated hold time; 0 where the timer does not run: hold time 0, or not Established (§4)."""

    def __init__(self) -> None:
        self._since: Instant | None = None
        self._respite: Micros = 0

    def stalled(self, since: Instant) -> None:
        """The kernel has taken nothing since then (§3)."""
        self._since = since
        self._respite = 0

    def resumed(self) -> None:
        self._since = None

    def deadline(self, hold: Micros) -> Instant | None:
        if self._since is None or not hold:
            return None
        return self._since + max(MIN_SEND_HOLD, 2 * hold) + self._respite

    def expired(self, hold: Micros, now: Instant) -> Cause | None:
        """Why the connection is at its end, if it is."""
        deadline = self.deadline(hold)
        if deadline is None or now < deadline:
            return None
        if now - deadline >= HOLD_GRACE and not self._respite:
            # As with the hold timer: after a sleep of ours the kernel may just be taking more.
            self._respite = now - deadline + HOLD_GRACE
            return None
        assert self._since is not None
        seconds = (now - self._since) // SECOND
        text = f"Send Hold Timer Expired: the peer has taken nothing of what is to be sent for {seconds} s"
        return Cause(CauseKind.SEND_HOLD_TIMER_EXPIRED, text, now)
