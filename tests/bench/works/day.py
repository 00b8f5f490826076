"""What a host pays every day: an idle daemon, a look at it."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from subprocess import DEVNULL, run

from tests.bench.harness.bench import DUT_ADDRESS, DUT_AS, Bench
from tests.bench.harness.duts import Neighbor, Spec
from tests.bench.harness.figures import Figure, Target
from tests.bench.harness.work import Work


def idle(work: str, bench: Bench, subject: str) -> list[Figure]:
    """Two neighbors with nothing to say."""
    addresses = bench.addresses(2)
    sink = bench.helper("bgp_sink", DUT_ADDRESS, 65001, 0, ",".join(addresses))
    time.sleep(0.5)
    neighbors = tuple(Neighbor(address, 65001 + number) for number, address in enumerate(addresses))
    begun = bench.begin(subject, Spec(DUT_ADDRESS, DUT_AS, neighbors))
    seen = sink.line()
    time.sleep(2)
    seconds = 2 if bench.quick else 30
    cpu = bench.cpu_s()
    time.sleep(seconds)
    cpu = bench.cpu_s() - cpu
    resident, _ = bench.memory_mb()
    return [
        Figure(work, subject, "start to Established", "s", seen["established"] - begun),
        Figure(work, subject, "memory", "MB", resident),
        Figure(work, subject, "cpu", "% of a core", cpu / seconds * 100),
    ]


def look(work: str, bench: Bench, subject: str) -> list[Figure]:
    """The command that shows the neighbors, as a whole, on a core of its own."""
    addresses = bench.addresses(2)
    sink = bench.helper("bgp_sink", DUT_ADDRESS, 65001, 0, ",".join(addresses))
    neighbors = tuple(Neighbor(address, 65001 + number) for number, address in enumerate(addresses))
    dut = bench.start(subject, Spec(DUT_ADDRESS, DUT_AS, neighbors))
    sink.line()
    argv = bench.dut_host.argv("taskset", "-c", "1", *dut.show_neighbors())
    times = []
    for _ in range(3 if bench.quick else 20):
        begun = time.monotonic()
        run(argv, check=True, stdout=DEVNULL)
        times.append(time.monotonic() - begun)
    return [Figure(work, subject, "time", "s", median(times))]


WORKS = [
    Work(
        "idle",
        "two neighbors, nothing to do",
        ("bgpbfd", "bird", "frr", "openbgpd", "gobgp"),
        partial(idle, "idle"),
        (Target("start to Established", 0.5), Target("memory", 60), Target("cpu", 0.3)),
    ),
    Work(
        "look",
        "the command that shows the neighbors",
        ("bgpbfd", "bird", "frr"),
        partial(look, "look"),
        (Target("time", 0.15),),
    ),
]
