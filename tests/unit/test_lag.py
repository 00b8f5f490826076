"""The histogram of a loop's pauses."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.lag import BOUNDS_US, LagHistogram


@given(st.lists(st.integers(0, 10_000_000)))
def test_each_pause_is_in_the_first_bucket_whose_bound_it_does_not_exceed(pauses: list[int]) -> None:
    lag = LagHistogram()
    for pause in pauses:
        lag.record(pause)
    assert lag.cumulative() == [*(sum(p <= bound for p in pauses) for bound in BOUNDS_US), len(pauses)]
    assert (lag.count, lag.sum_us, lag.worst_us) == (len(pauses), sum(pauses), max(pauses, default=0))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(lag), type=LagHistogram) == lag  # as the worker sends it
