"""The main loop's selector: what it takes for a pause, and how exact its timers are."""

from __future__ import annotations

import os
import select
import selectors
from collections.abc import Iterator

import pytest

from bgpbfd.io.selector import LagSelector
from bgpbfd.lag import LagHistogram


class Clock:
    """In ns; ``advance`` is the work between two waits."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_work_between_two_waits_is_a_pause(pipe: tuple[int, int]) -> None:
    lag, clock = LagHistogram(), Clock()
    with LagSelector(lag, clock) as selector:
        selector.select(0)
        clock.now += 30_000_000
        selector.select(0)
        assert (lag.count, lag.worst_us) == (1, 30_000)
        clock.now += 7_000
        selector.select(0)
        assert (lag.count, lag.worst_us, lag.sum_us) == (2, 30_000, 30_007)


def test_time_that_is_waited_for_is_none_but_what_a_timer_is_late_by_is(pipe: tuple[int, int]) -> None:
    lag, clock = LagHistogram(), Clock()

    class Late(LagSelector):
        def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
            clock.now += 50_000_000  # the host gives us no processor for 40 ms after the timer is due
            return []

    with Late(lag, clock) as selector:
        selector.select(0.010)
        clock.now += 2_000_000
        selector.select(0.010)
    assert lag.worst_us == 42_000
    assert lag.count == 1


def test_what_comes_is_given_as_by_any_selector(pipe: tuple[int, int]) -> None:
    with LagSelector(LagHistogram()) as selector:
        selector.register(pipe[0], selectors.EVENT_READ, "data")
        assert selector.select(0) == []
        assert selector.select(0.001) == []
        os.write(pipe[1], b"x")
        for timeout in (None, 0, 5.0, -1):
            ((key, events),) = selector.select(timeout)
            assert (key.data, events) == ("data", selectors.EVENT_READ)


def test_a_timer_is_waited_for_to_the_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoll's own wait would end at the next whole ms."""
    waited: list[float] = []

    def exact(read: object, write: object, other: object, timeout: float) -> tuple[list[int], list[int], list[int]]:
        waited.append(timeout)
        return [], [], []

    with LagSelector(LagHistogram()) as selector:
        monkeypatch.setattr(select, "select", exact)
        assert selector.select(0.0002) == []
    assert waited == [0.0002]
