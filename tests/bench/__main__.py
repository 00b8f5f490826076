"""``python -m tests.bench``: measure, and write what came of it. ``run`` beside it sees to what this needs."""

from __future__ import annotations

import argparse
import compileall
import os
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import CalledProcessError

from tests.bench.harness import report
from tests.bench.harness.bench import ROOT, arranged
from tests.bench.harness.duts import DUTS, missing
from tests.bench.harness.figures import Figure, Histogram, Pauses
from tests.bench.harness.work import Work
from tests.bench.works import WORKS
from tests.interop.harness.lab import remove_leftovers
from tests.interop.harness.process import HarnessError


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="bgpbfd beside other daemons, in one run")
    parser.add_argument("works", nargs="*", metavar="WORK", help="all, if none is named")
    parser.add_argument("--rounds", type=int, default=3, help="each measures every subject once; default 3")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs, not to quote")
    parser.add_argument("--only", help="subjects, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    named = {work.name: work for work in WORKS}
    if arguments.list:
        for work in WORKS:
            print(f"{work.name:18} {work.title} ({', '.join(work.subjects)})")
        return 0
    if unknown := [name for name in arguments.works if name not in named]:
        parser.error(f"no work is called {', '.join(unknown)}; --list names them")
    works = [named[name] for name in arguments.works] or list(WORKS)
    only = set(arguments.only.split(",")) if arguments.only else None
    as_at_a_users()
    found = measure(works, arguments.rounds, only, quick=arguments.quick)
    versions = {name: DUTS[name].version() for name in {figure.subject for figure in found.figures}}
    report.write(arguments.out, works, found.figures, found.histograms, found.skipped, report.environment(versions))
    print(report.table(works, found.figures, found.skipped))
    return 1 if found.failed else 0


def as_at_a_users() -> None:
    """The daemons in Python start from compiled modules, as an installed one does: pip compiles what it installs."""
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONDEVMODE", "PYTHONWARNINGS"):
        os.environ.pop(name, None)
    for package in ("bgpbfd", "cli"):
        compileall.compile_dir(ROOT / package, quiet=1)
    compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2)


@dataclass(slots=True)
class Found:
    """``skipped``: what was left out, and why; ``failed``: something went wrong with bgpbfd."""

    figures: list[Figure] = field(default_factory=list)
    histograms: list[Histogram] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: bool = False

    def take(self, figures: list[Figure], pauses: dict[str, Pauses], number: int) -> None:
        """Of one round."""
        first = figures[0]
        for loop, seen in pauses.items():
            title = "BFD" if loop == "bfd" else loop
            metric = f"worst pause, {title} loop"
            figures.append(Figure(first.work, first.subject, metric, "ms", seen.worst_ms, first.size))
            self.histograms.append(Histogram(first.work, first.subject, loop, seen, first.size, number))
        self.figures += [replace(figure, round=number) for figure in figures]


def measure(works: list[Work], rounds: int, only: set[str] | None, *, quick: bool) -> Found:
    """Round after round, subject after subject: what drifts, drifts for all of them."""
    found = Found()
    if os.geteuid() == 0:
        remove_leftovers()
    with tempfile.TemporaryDirectory(prefix="bgpbfd-bench-") as kept:
        for work in works:
            for number in range(rounds):
                for subject in work.subjects:
                    if (only is not None and subject not in only) or (number and (subject in work.once or work.growth)):
                        continue
                    if why := missing(subject):
                        found.skipped[subject] = why
                        continue
                    for size in (work.growth[:2] if quick else work.growth) or (None,):
                        print(
                            f"{work.name}: {subject}{f', {size}' if size else ''}, round {number + 1}", file=sys.stderr
                        )
                        logs = Path(kept, "logs", work.name, f"{subject}-{number}-{size}")
                        logs.mkdir(parents=True)
                        try:
                            with arranged(logs, Path(kept), quick=quick, size=size) as bench:
                                figures = work.run(bench, subject)
                                found.take(figures, bench.pauses(), number)
                        except (HarnessError, AssertionError, OSError, CalledProcessError) as error:
                            where = f"{work.name}, {subject}" + (f", {size}" if size else "")
                            found.skipped[where] = str(error).strip().splitlines()[0]
                            print(error, file=sys.stderr)
                            found.failed = found.failed or subject == "bgpbfd"
                            break
    return found


if __name__ == "__main__":
    sys.exit(main())
