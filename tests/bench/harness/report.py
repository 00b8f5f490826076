"""Results as a table, as JSON and as plots."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict
from importlib.util import find_spec
from math import isinf
from pathlib import Path
from statistics import median

from tests.bench.harness.figures import Figure, Histogram, judge, readings
from tests.bench.harness.work import Work


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _named(metric: str, unit: str) -> str:
    return f"{metric}, {unit}" if unit else metric


def table(works: list[Work], figures: list[Figure], skipped: dict[str, str]) -> str:
    """Markdown: a table a work, medians with the least and the greatest; then what was wanted and what came of it."""
    lines: list[str] = []
    for work in works:
        own = [figure for figure in figures if figure.work == work.name]
        if not own:
            continue
        lines += ["", f"### {work.name}: {work.title}", ""]
        if work.growth:
            lines += _growth_rows(own)
        else:
            lines += _rows(work, own)
        for target in work.targets:
            verdict = judge(figures, work.name, target)
            wanted = f"{target.metric} ≤ {target.at_most:g}" + (f" × {target.of}" if target.of else "")
            said = {True: "reached", False: "**not reached**", None: "not measured"}[verdict.good]
            reached = "" if verdict.reached is None else f": {_number(verdict.reached)}"
            lines.append(f"- {wanted}{reached}, {said}")
    if skipped:
        lines += ["", "Left out:", *(f"- {name}: {why}" for name, why in skipped.items())]
    return "\n".join([*lines, ""])


def _rows(work: Work, own: list[Figure]) -> list[str]:
    metrics = list(dict.fromkeys((figure.metric, figure.unit) for figure in own))
    subjects = [subject for subject in work.subjects if any(figure.subject == subject for figure in own)]
    lines = ["| | " + " | ".join(subjects) + " |", "|---|" + "---|" * len(subjects)]
    for metric, unit in metrics:
        cells = []
        for subject in subjects:
            values = list(readings(own, work.name, subject, metric).values())
            cell = "–"
            if values:
                cell = _number(median(values))
                if len(values) > 1:
                    cell += f" ({_number(min(values))}–{_number(max(values))})"
            cells.append(cell)
        lines.append(f"| {_named(metric, unit)} | " + " | ".join(cells) + " |")
    return lines


def _growth_rows(own: list[Figure]) -> list[str]:
    sizes = sorted({figure.size for figure in own if figure.size is not None})
    lines = ["| | " + " | ".join(str(size) for size in sizes) + " |", "|---|" + "---|" * len(sizes)]
    for subject, metric, unit in dict.fromkeys((f.subject, f.metric, f.unit) for f in own):
        cells = []
        for size in sizes:
            values = [f.value for f in own if (f.subject, f.metric, f.size) == (subject, metric, size)]
            cells.append(_number(median(values)) if values else "–")
        lines.append(f"| {subject}: {_named(metric, unit)} | " + " | ".join(cells) + " |")
    return lines


def environment(versions: dict[str, str]) -> dict[str, object]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpu": cpu[0].split(":")[1].strip() if cpu else "",
        "cores": len(cpu),
        "versions": versions,
    }


def heading(facts: dict[str, object]) -> str:
    versions = facts["versions"]
    assert isinstance(versions, dict)
    lines = [
        f"Commit {facts['commit']}, Python {facts['python']}, Linux {facts['kernel']}, "
        f"{facts['cores']} × {facts['cpu']}.",
        ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".",
    ]
    return "\n".join([*lines, ""])


def _pauses(histogram: Histogram) -> dict[str, object]:
    """Buckets by their upper bounds in ms, as Prometheus has them: each with all below it, ``+Inf`` the last."""
    pauses = histogram.pauses
    return {
        "work": histogram.work,
        "subject": histogram.subject,
        "loop": histogram.loop,
        "size": histogram.size,
        "round": histogram.round,
        "worst_ms": pauses.worst_ms,
        "buckets": {"+Inf" if isinf(bound) else f"{bound:g}": count for bound, count in pauses.cumulative},
    }


def write(
    out: Path,
    works: list[Work],
    figures: list[Figure],
    histograms: list[Histogram],
    skipped: dict[str, str],
    facts: dict[str, object],
) -> None:
    """``results.md``, ``results.json`` and a plot for each work that was measured."""
    out.mkdir(parents=True, exist_ok=True)
    plots = find_spec("matplotlib") is not None
    if not plots:
        skipped["plots"] = "no matplotlib (pip install -e '.[bench]')"
    (out / "results.md").write_text(heading(facts) + table(works, figures, skipped))
    results = {
        "environment": facts,
        "skipped": skipped,
        "targets": [
            {"work": work.name, **asdict(verdict.target), "reached": verdict.reached, "good": verdict.good}
            for work in works
            for verdict in (judge(figures, work.name, target) for target in work.targets)
        ],
        "figures": [asdict(figure) for figure in figures],
        "pauses": [_pauses(histogram) for histogram in histograms],
    }
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    if not plots:
        return
    from tests.bench.harness.plots import plot

    for work in works:
        if any(figure.work == work.name for figure in figures):
            plot(work, [figure for figure in figures if figure.work == work.name], out / f"{work.name}.svg")
