"""Damping of what follows repeated BFD failures: the way back to BGP becomes slower, never the way down. Pure.

Each failure adds 1 to a penalty that halves every HALF_LIFE. Up to FREE of them the neighbor is taken back at once;
then BFD has to be Up without a break for 1 s, 2 s, 4 s … HOLD_MAX. A BFD that does not come back at all is waited for
no longer than that: the neighbor may have lost BFD alone.
"""

from __future__ import annotations

import math
from typing import Final

from bgpbfd.core import SECOND, Instant, Micros

HALF_LIFE: Final[Micros] = 60 * SECOND
FREE: Final = 3
FADED: Final = 0.5  # of a penalty
HOLD_FIRST: Final[Micros] = SECOND
HOLD_MAX: Final[Micros] = 60 * SECOND


class Damping:
    """``until``: the neighbor is held back until then; None: it is not.

    ``failures``: since ``since``, for people; those that are all but forgotten do not count.
    """

    __slots__ = ("_at", "_hold", "_penalty", "failures", "since", "until")

    def __init__(self) -> None:
        self._penalty = 0.0
        self._at: Instant = 0
        self._hold: Micros = 0
        self.failures = 0
        self.since: Instant = 0
        self.until: Instant | None = None

    @property
    def hold(self) -> Micros:
        """For how long BFD has to be Up."""
        return self._hold

    def failed(self, now: Instant) -> None:
        """Up→Down, and not by AdminDown."""
        if self.faded(now):
            self.failures, self.since = 0, now
        self._penalty = self._left(now) + 1
        self.failures += 1
        self._at = now
        excess = math.ceil(round(self._penalty - FREE, 6))
        self._hold = 0 if excess <= 0 else min(HOLD_MAX, HOLD_FIRST << min(excess - 1, 16))
        self.until = now + self._hold if self._hold else None

    def faded(self, now: Instant) -> bool:
        """Whether what has been counts for nothing any more."""
        return self._left(now) < FADED

    def _left(self, now: Instant) -> float:
        return float(self._penalty * 0.5 ** ((now - self._at) / HALF_LIFE))

    def came_up(self, now: Instant) -> None:
        """From here on the time counts in which it has to stay Up."""
        if self.until is not None:
            self.until = now + self._hold

    def expired(self, now: Instant) -> bool:
        """Whether a hold has just come to its end."""
        if self.until is None or now < self.until:
            return False
        self.until = None
        return True

    def release(self) -> None:
        """The neighbor is not held back any more; what was still counts."""
        self.until = None

    def clear(self) -> None:
        """An operator's word: what was is forgotten."""
        self.__init__()  # type: ignore[misc]
