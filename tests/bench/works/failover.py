"""From the end of the detection time to the Cease, idle and while a full table streams in."""

from __future__ import annotations

from functools import partial
from statistics import median

from tests.bench.harness.bench import DUT_ADDRESS, DUT_AS, Bench
from tests.bench.harness.duts import Neighbor, Spec
from tests.bench.harness.figures import Figure, Target
from tests.bench.harness.work import Work
from tests.bench.works.routes import table

RUNS = 20


def silence(work: str, loaded: bool, bench: Bench, subject: str) -> list[Figure]:
    local, other = bench.addresses(2)
    neighbors = (Neighbor(local, 65001, bfd=True), Neighbor(other, 65002))
    bench.start(subject, Spec(DUT_ADDRESS, DUT_AS, neighbors))
    if loaded:
        source = bench.helper("bgp_source", other, DUT_ADDRESS, 65002, table(bench, 1_000_000, 65002), "again")
        source.line()
    runs = 2 if bench.quick else RUNS
    peer = bench.helper("failover_peer", local, DUT_ADDRESS, 65001, runs, 50, 3)
    cuts = [peer.line() for _ in range(runs)]
    over = [cut["over_ms"] for cut in cuts]  # of a cut that is not answered: how long was waited, so no less than that
    return [
        Figure(work, subject, "median over the detection time", "ms", median(over)),
        Figure(work, subject, "worst over the detection time", "ms", max(over)),
        Figure(work, subject, "cuts not answered", "", sum(cut["why"] is None for cut in cuts)),
    ]


def _targets(middle: float, worst: float) -> tuple[Target, ...]:
    return (
        Target("median over the detection time", middle),
        Target("worst over the detection time", worst),
        Target("cuts not answered", 0),
    )


WORKS = [
    Work(
        "failover",
        f"silence to Cease, {RUNS} cuts, 50 ms × 3, idle",
        ("bgpbfd", "bird", "frr"),
        partial(silence, "failover", False),
        _targets(1, 3),
    ),
    Work(
        "failover-loaded",
        f"silence to Cease, {RUNS} cuts, 50 ms × 3, while 1M prefixes stream in, again and again",
        ("bgpbfd", "bird", "frr"),
        partial(silence, "failover-loaded", True),
        _targets(3, 10),
    ),
]
