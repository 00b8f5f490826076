"""The main process's selector: timers to the µs, and each turn's pause measured."""

from __future__ import annotations

import select
import selectors
import time
from collections.abc import Callable

from bgpbfd.lag import LagHistogram

FD_SETSIZE = 1024  # select(2) takes no descriptor from here on

Ready = list[tuple[selectors.SelectorKey, int]]


class LagSelector(selectors.EpollSelector):
    """For ``asyncio.SelectorEventLoop``. ``lag`` gets one record a turn; ``now_ns`` is CLOCK_MONOTONIC but in tests.

    An epoll's own wait is rounded up to 1 ms, by which every timer would be late; select(2) on it has a grain of 1 µs.
    """

    def __init__(self, lag: LagHistogram, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self._lag = lag
        self._now_ns = now_ns
        self._pause_since: int | None = None  # ns
        self._fine = self.fileno() < FD_SETSIZE

    def select(self, timeout: float | None = None) -> Ready:
        entered = self._now_ns()
        if self._pause_since is not None:
            self._lag.record((entered - self._pause_since) // 1_000)
        ready = self._wait(timeout)
        woke = self._now_ns()
        self._pause_since = woke
        if timeout is not None:
            # What comes in late must not hide that a timer is late as well.
            due = entered + int(max(timeout, 0.0) * 1e9)
            if due < woke:
                self._pause_since = due
        return ready

    def _wait(self, timeout: float | None) -> Ready:
        if timeout is None or timeout <= 0 or not self._fine:
            return super().select(timeout)
        if not select.select((self,), (), (), timeout)[0]:
            return []
        return super().select(0)
