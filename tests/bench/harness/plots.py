"""A picture a work: bars for subjects, lines where there are sizes."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

from tests.bench.harness.figures import Figure
from tests.bench.harness.work import Work


def plot(work: Work, figures: list[Figure], path: Path) -> None:
    metrics = list(dict.fromkeys((figure.metric, figure.unit) for figure in figures))
    canvas, axes = pyplot.subplots(1, len(metrics), figsize=(4.2 * len(metrics), 3.6), squeeze=False)
    for axis, (metric, unit) in zip(axes[0], metrics, strict=True):
        own = [figure for figure in figures if figure.metric == metric]
        subjects = list(dict.fromkeys(figure.subject for figure in own))
        if work.growth:
            for subject in subjects:
                sizes = sorted({f.size for f in own if f.subject == subject and f.size is not None})
                values = [median(f.value for f in own if f.subject == subject and f.size == size) for size in sizes]
                axis.plot(sizes, values, marker="o", label=subject)
            axis.set_xscale("log")
            if all(figure.value > 0 for figure in own):
                axis.set_yscale("log")
            else:
                axis.set_yscale("symlog", linthresh=0.01)
                axis.set_ylim(bottom=0)
            axis.legend(fontsize=7)
        else:
            values = [median(f.value for f in own if f.subject == subject) for subject in subjects]
            axis.bar(subjects, values, color=["tab:orange" if s == "bgpbfd" else "tab:blue" for s in subjects])
            axis.tick_params(axis="x", labelrotation=40, labelsize=7)
        axis.set_title(f"{metric}, {unit}" if unit else metric, fontsize=8)
    canvas.suptitle(work.title, fontsize=9)
    canvas.tight_layout()
    canvas.savefig(path)
    pyplot.close(canvas)
