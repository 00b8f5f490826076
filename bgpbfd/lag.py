"""How long a loop keeps waiting what it should see to: a histogram of the pauses of its turns.

A turn's pause begins when the loop wakes, or when it should have woken for what was due then, and ends when it waits
again: no packet, timer or request waits longer for the loop. Its work counts, and a host that gives the process no CPU,
or somebody who stops it.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from bgpbfd.core import Micros

BOUNDS_US: tuple[Micros, ...] = (
    *(500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000),
    *(100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000),
)
"""Upper bounds of the buckets, each bound within its bucket; one more bucket has all that is longer."""


class LagHistogram(msgspec.Struct, kw_only=True):
    """Since the process's start. ``counts``: pauses in each bucket alone, the last one without a bound."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))
    sum_us: Micros = 0
    worst_us: Micros = 0

    def record(self, pause_us: Micros) -> None:
        """Called once a turn."""
        self.counts[bisect_left(BOUNDS_US, pause_us)] += 1
        self.sum_us += pause_us
        self.worst_us = max(self.worst_us, pause_us)

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """Pauses up to each of BOUNDS_US, and all of them at the end."""
        total, found = 0, []
        for count in self.counts:
            total += count
            found.append(total)
        return found
