"""Damping of recovery: how long BFD has to be up after repeated failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.control.damping import FREE, HALF_LIFE, HOLD_MAX, Damping
from bgpbfd.core import SECOND


def holds(gaps: list[int]) -> list[int]:
    """Failures after these times; the hold after each, in s."""
    damping, now, found = Damping(), SECOND, []
    for gap in gaps:
        now += gap
        damping.failed(now)
        found.append(damping.hold // SECOND)
    return found


def test_quick_failures_double_the_hold() -> None:
    assert holds([SECOND] * 11) == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_rare_failures_are_never_damped() -> None:
    assert set(holds([HALF_LIFE] * 50)) == {0}


def test_a_quiet_time_is_forgotten() -> None:
    assert holds([SECOND] * 5 + [10 * HALF_LIFE] + [SECOND] * 2) == [0, 0, 0, 1, 2, 0, 0, 0]


def test_the_hold_counts_from_the_last_up() -> None:
    damping = Damping()
    for number in range(FREE + 1):
        damping.failed(number)
    assert damping.until == FREE + SECOND
    damping.came_up(SECOND // 2)
    assert damping.until == SECOND // 2 + SECOND
    assert not damping.expired(SECOND)
    assert damping.expired(2 * SECOND)
    assert damping.until is None
    assert not damping.expired(3 * SECOND)
    damping.came_up(4 * SECOND)
    assert damping.until is None  # no hold is under way


def test_clear_forgets_all() -> None:
    damping = Damping()
    for number in range(20):
        damping.failed(number)
    damping.clear()
    damping.failed(21)
    assert (damping.until, damping.failures) == (None, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200 * SECOND)), max_size=60))
def test_never_longer_than_its_bound(steps: list[tuple[bool, int]]) -> None:
    damping, now = Damping(), SECOND
    for failure, gap in steps:
        now += gap
        damping.expired(now)
        if failure:
            damping.failed(now)
        else:
            damping.came_up(now)
        assert damping.until is None or now < damping.until <= now + HOLD_MAX
