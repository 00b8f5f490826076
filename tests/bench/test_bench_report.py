"""The table, the JSON, and who is left out with which reason."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

import tests.bench.__main__ as program
from tests.bench.harness import duts, report
from tests.bench.harness.bench import Bench
from tests.bench.harness.figures import Figure, Histogram, Pauses, Target
from tests.bench.harness.work import Work


def _never(bench: Bench, subject: str) -> list[Figure]:
    raise NotImplementedError


def _work(*targets: Target, growth: tuple[int, ...] = ()) -> Work:
    return Work("w", "a title", ("bgpbfd", "bird"), _never, targets, growth=growth)


def _figures(subject: str, *values: float) -> list[Figure]:
    return [Figure("w", subject, "cpu", "s", value, None, number) for number, value in enumerate(values)]


def test_a_cell_is_the_median_with_the_least_and_the_greatest() -> None:
    text = report.table([_work()], [*_figures("bgpbfd", 3, 1, 2), *_figures("bird", 4)], {})
    assert "| | bgpbfd | bird |" in text
    assert "| cpu, s | 2 (1–3) | 4 |" in text


@pytest.mark.parametrize(
    ("ours", "said"), [(1, "0.25, reached"), (2, "0.5, **not reached**"), (None, "bird, not measured")]
)
def test_what_was_wanted_is_said_with_what_came_of_it(ours: float | None, said: str) -> None:
    figures = [*_figures("bird", 4), *([] if ours is None else _figures("bgpbfd", ours))]
    [line] = [
        line for line in report.table([_work(Target("cpu", 0.3, "bird"))], figures, {}).splitlines() if "≤" in line
    ]
    assert line.startswith("- cpu ≤ 0.3 × bird")
    assert line.endswith(said)


def test_a_work_that_grows_has_a_column_a_size() -> None:
    figures = [Figure("w", "bird", "cpu", "s", size / 10, size) for size in (10, 1000)]
    text = report.table([_work(growth=(10, 1000))], figures, {})
    assert "| | 10 | 1000 |" in text
    assert "| bird: cpu, s | 1 | 100 |" in text


def test_who_was_left_out_is_named_with_the_reason() -> None:
    assert "- frr: no vtysh" in report.table([_work()], _figures("bgpbfd", 1), {"frr": "no vtysh"})


def test_the_json_has_every_reading_every_verdict_and_the_pauses(tmp_path: Path) -> None:
    work = _work(Target("cpu", 0.3, "bird"))
    pauses = Histogram("w", "bgpbfd", "main", Pauses(12.5, ((10.0, 3), (math.inf, 4))), None, 0)
    facts: dict[str, object] = {"commit": "c", "python": "3", "kernel": "6", "cores": 2, "cpu": "x", "versions": {}}
    skipped = {"frr": "no vtysh"}
    report.write(tmp_path, [work], [*_figures("bgpbfd", 1), *_figures("bird", 2)], [pauses], skipped, facts)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [figure["value"] for figure in results["figures"]] == [1, 2]
    assert results["targets"] == [
        {"work": "w", "metric": "cpu", "at_most": 0.3, "of": "bird", "reached": 0.5, "good": False}
    ]
    [found] = results["pauses"]
    assert (found["loop"], found["worst_ms"], found["buckets"]) == ("main", 12.5, {"10": 3, "+Inf": 4})
    assert results["skipped"]["frr"] == "no vtysh"
    assert "cpu, s" in (tmp_path / "results.md").read_text()


def test_a_subject_that_is_not_there_is_left_out_by_name_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lost(duts.Bird):
        programs = ("no-such-program-at-all", "birdc")

    monkeypatch.setitem(duts.DUTS, "bird", Lost)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert duts.missing("bird") == "no no-such-program-at-all"
    monkeypatch.setattr(program, "missing", lambda name: duts.missing(name) if name == "bird" else "not here either")
    monkeypatch.setattr(program, "remove_leftovers", lambda: None)
    found = program.measure([_work()], 2, None, quick=True)
    assert found.skipped == {"bgpbfd": "not here either", "bird": "no no-such-program-at-all"}
    assert found.figures == []
    assert not found.failed


def test_nobody_is_measured_by_whom_is_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert duts.missing("bgpbfd") == "needs root"
