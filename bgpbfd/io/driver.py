"""Time for the cores: the clock, and one armed timer a core."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bgpbfd.core import Instant


class SystemClock:
    """CLOCK_MONOTONIC in µs. Wall-clock times are derived at the moment of asking, so a stepped clock harms nothing."""

    def now(self) -> Instant:
        return time.monotonic_ns() // 1_000

    def wall(self, at: Instant) -> float:
        return time.time() - (self.now() - at) / 1e6


class LoopTimers:
    """Arms the event loop's timers for the cores' deadlines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: SystemClock) -> None:
        self._loop = loop
        self._clock = clock
        self._handles: dict[str, tuple[Instant, asyncio.TimerHandle]] = {}

    def arm(self, key: str, deadline: Instant | None, callback: Callable[[], None]) -> None:
        armed = self._handles.get(key)
        if armed is not None:
            if armed[0] == deadline:
                return
            armed[1].cancel()
            del self._handles[key]
        if deadline is None:
            return
        delay = max(0, deadline - self._clock.now()) / 1e6
        self._handles[key] = (deadline, self._loop.call_later(delay, self._fire, key, callback))

    def _fire(self, key: str, callback: Callable[[], None]) -> None:
        del self._handles[key]
        callback()

    def soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def cancel_all(self) -> None:
        for _, handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
