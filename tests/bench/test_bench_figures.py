"""Medians, ratios and verdicts; what is said of pauses between two looks."""

from __future__ import annotations

import math

import pytest

from tests.bench.harness import metrics
from tests.bench.harness.figures import Figure, Pauses, Target, Verdict, judge, readings, worst_between


def _rounds(subject: str, *values: float, metric: str = "cpu", work: str = "w") -> list[Figure]:
    return [Figure(work, subject, metric, "s", value, None, number) for number, value in enumerate(values)]


def test_readings_are_by_round_of_one_metric_of_one_subject_of_one_work() -> None:
    figures = [*_rounds("bgpbfd", 1, 2), *_rounds("bird", 3), *_rounds("bgpbfd", 4, metric="memory")]
    figures += _rounds("bgpbfd", 5, work="other")
    assert readings(figures, "w", "bgpbfd", "cpu") == {0: 1, 1: 2}


def test_an_absolute_target_is_judged_by_the_median() -> None:
    target = Target("cpu", 2.0)
    assert judge(_rounds("bgpbfd", 9, 2, 1), "w", target) == Verdict(target, 2)


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_the_medians() -> None:
    figures = [*_rounds("bgpbfd", 1, 10, 30), *_rounds("bird", 2, 100, 10)]
    assert judge(figures, "w", Target("cpu", 0.3, "bird")).reached == 0.5  # of 0.5, 0.1, 3; the medians say 1


def test_only_rounds_in_which_both_were_measured_make_a_ratio() -> None:
    figures = [*_rounds("bgpbfd", 1, 50, 50), *_rounds("bird", 4)]
    assert judge(figures, "w", Target("cpu", 0.3, "bird")).reached == 0.25


@pytest.mark.parametrize(("reached", "good"), [(0.3, True), (0.31, False), (None, None)])
def test_a_target_is_reached_at_its_bound_and_not_above(reached: float | None, good: bool | None) -> None:
    assert Verdict(Target("cpu", 0.3, "bird"), reached).good is good


@pytest.mark.parametrize("figures", [[], _rounds("bird", 1), _rounds("bgpbfd", 1)])
def test_without_both_readings_there_is_no_ratio(figures: list[Figure]) -> None:
    assert judge(figures, "w", Target("cpu", 0.3, "bird")).good is None


def test_a_reading_of_nothing_at_the_other_makes_no_ratio() -> None:
    assert judge([*_rounds("bgpbfd", 1), *_rounds("bird", 0)], "w", Target("cpu", 1, "bird")).good is None


def _pauses(worst_ms: float, *counts: int) -> Pauses:
    return Pauses(worst_ms, tuple(zip((10.0, 20.0, 50.0, math.inf), counts, strict=True)))


def test_the_worst_pause_between_two_looks_is_exact_if_it_is_the_worst_of_all() -> None:
    assert worst_between(_pauses(31, 5, 6, 7, 7), _pauses(42.5, 9, 10, 12, 12)) == 42.5


@pytest.mark.parametrize(
    ("after", "worst_ms"),
    [
        (_pauses(700, 9, 9, 10, 11), 10),  # four more up to 10 ms
        (_pauses(700, 8, 9, 10, 11), 20),  # one of four above 10 ms
        (_pauses(700, 5, 5, 7, 8), 50),
        (_pauses(700, 5, 5, 6, 8), 700),  # above all bounds, and no worse than the worst
        (_pauses(700, 5, 5, 6, 7), 0),  # nothing came
    ],
)
def test_else_it_is_the_bound_of_the_longest_bucket_that_grew(after: Pauses, worst_ms: float) -> None:
    assert worst_between(_pauses(700, 5, 5, 6, 7), after) == worst_ms


def test_pauses_are_read_from_the_metrics_by_loop() -> None:
    text = """# HELP bgpbfd_loop_lag_seconds How long
bgpbfd_loop_lag_seconds_bucket{le="0.0005",process="main"} 7.0
bgpbfd_loop_lag_seconds_bucket{le="+Inf",process="main"} 9.0
bgpbfd_loop_lag_seconds_count{process="main"} 9.0
bgpbfd_loop_lag_seconds_bucket{process="bfd",le="0.0005"} 3.0
bgpbfd_loop_lag_seconds_bucket{process="bfd",le="+Inf"} 3.0
bgpbfd_loop_lag_worst_seconds{process="main"} 0.0123
bgpbfd_loop_lag_worst_seconds{process="bfd"} 0.0004
bgpbfd_other{process="main"} 1.0
"""
    found = metrics.pauses(text)
    assert set(found) == {"main", "bfd"}
    assert found["main"].worst_ms == pytest.approx(12.3)
    assert found["main"].cumulative == ((0.5, 7), (math.inf, 9))
    assert found["bfd"].cumulative == ((0.5, 3), (math.inf, 3))


def test_pauses_are_read_as_the_daemon_writes_them() -> None:
    from prometheus_client.exposition import generate_latest
    from prometheus_client.registry import CollectorRegistry

    from bgpbfd.api.metrics import _process_metrics
    from bgpbfd.lag import BOUNDS_US, LagHistogram

    lag = LagHistogram()
    for pause_us in (400, 15_000, 9_000_000):
        lag.record(pause_us)

    class Given:
        def collect(self) -> list[object]:
            return list(_process_metrics({"main": lag}))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given())  # type: ignore[arg-type]
    [found] = metrics.pauses(generate_latest(registry).decode()).values()
    assert found.worst_ms == 9000
    assert [count for _, count in found.cumulative] == lag.cumulative()
    assert [bound for bound, _ in found.cumulative[:-1]] == pytest.approx([bound / 1000 for bound in BOUNDS_US])
