"""What the views share: the shape of an answer, and how the engine's times become a client's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from bgpbfd.core import Instant

Json: TypeAlias = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Clock:
    """One moment for a whole answer: ``now``, and how an Instant becomes Unix seconds."""

    now: Instant
    wall: Callable[[Instant], float]

    def age(self, at: Instant | None) -> float | None:
        """s since ``at``; never negative."""
        return None if at is None else round(max(0, self.now - at) / 1e6, 3)

    def until(self, at: Instant | None) -> float | None:
        return None if at is None else round(max(0, at - self.now) / 1e6, 3)

    def unix(self, at: Instant | None) -> float | None:
        return None if at is None else round(self.wall(at), 3)
