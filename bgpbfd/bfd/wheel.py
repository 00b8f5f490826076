"""What is due at some time, and is nearly always put off by a constant: a timing wheel.

A heap is exact and costs its logarithm twice for each packet that is sent; here both are one step. A slot is all that
falls due within one ``GRAIN_US``, and is handed out at its end, never early.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from bgpbfd.core import MILLISECOND, Instant, Micros

GRAIN_US: Micros = MILLISECOND // 2

T = TypeVar("T")


class Wheel(Generic[T]):
    """``slots``: by number, for the hot path, which enters the next one by itself."""

    __slots__ = ("slots",)

    def __init__(self) -> None:
        self.slots: dict[int, list[T]] = {}

    def put(self, item: T, due: Instant) -> None:
        """To take it out again is to disregard it when it comes."""
        self.slots.setdefault(-(-due // GRAIN_US), []).append(item)

    def next_at(self) -> Instant | None:
        """When the first slot ends."""
        return min(self.slots) * GRAIN_US if self.slots else None

    def take(self, now: Instant) -> list[tuple[int, list[T]]]:
        """The slots that have ended, in their order; they are the caller's."""
        last = now // GRAIN_US
        ended = sorted(slot for slot in self.slots if slot <= last)
        return [(slot, self.slots.pop(slot)) for slot in ended]
