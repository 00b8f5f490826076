"""``python -m tests.bench``: measure, and write what came of it. ``run`` beside it sees to what this needs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench.harness import report
from tests.bench.harness.bench import arranged
from tests.bench.harness.duts import DUTS, missing
from tests.bench.harness.figures import Figure
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
    figures, skipped, failed = measure(works, arguments.rounds, only, quick=arguments.quick)
    versions = {name: DUTS[name].version() for name in {figure.subject for figure in figures}}
    report.write(arguments.out, works, figures, skipped, report.environment(versions))
    print(report.table(works, figures, skipped))
    return 1 if failed else 0


def measure(
    works: list[Work], rounds: int, only: set[str] | None, *, quick: bool
) -> tuple[list[Figure], dict[str, str], bool]:
    """The figures, what was left out and why, and whether something went wrong."""
    figures: list[Figure] = []
    skipped: dict[str, str] = {}
    failed = False
    remove_leftovers()
    with tempfile.TemporaryDirectory(prefix="bgpbfd-bench-") as kept:
        for work in works:
            for number in range(rounds):
                for subject in work.subjects:
                    if (only is not None and subject not in only) or (number and (subject in work.once or work.growth)):
                        continue
                    if why := missing(subject):
                        skipped[subject] = why
                        continue
                    for size in (work.growth[:2] if quick else work.growth) or (None,):
                        print(
                            f"{work.name}: {subject}{f', {size}' if size else ''}, round {number + 1}", file=sys.stderr
                        )
                        logs = Path(kept, "logs", work.name, f"{subject}-{number}-{size}")
                        logs.mkdir(parents=True)
                        try:
                            with arranged(logs, Path(kept), quick=quick, size=size) as bench:
                                found = work.run(bench, subject)
                        except (HarnessError, AssertionError) as error:
                            where = f"{work.name}, {subject}" + (f", {size}" if size else "")
                            skipped[where] = str(error).strip().splitlines()[0]
                            print(error, file=sys.stderr)
                            failed = failed or subject == "bgpbfd"
                            break
                        figures += [_of_round(figure, number) for figure in found]
    return figures, skipped, failed


def _of_round(figure: Figure, number: int) -> Figure:
    return Figure(figure.work, figure.subject, figure.metric, figure.unit, figure.value, figure.size, number)


if __name__ == "__main__":
    sys.exit(main())
