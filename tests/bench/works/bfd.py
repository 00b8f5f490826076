"""BFD sessions by the hundred: what a packet costs."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

from tests.bench.harness.bench import DUT_ADDRESS, DUT_AS, Bench, ip_batch
from tests.bench.harness.duts import Spec
from tests.bench.harness.figures import Figure, Target
from tests.bench.harness.work import Work
from tests.interop.harness.process import wait_until


def steady(work: str, count: int, interval_ms: int, seconds: float, bench: Bench, subject: str) -> list[Figure]:
    """All sessions Up on both ends, then the DUT's CPU time over so many packets, sent and received."""
    if bench.quick:
        count, seconds = bench.size or min(count, 10), 2
    spec = Spec(DUT_ADDRESS, DUT_AS, bfd_sessions=tuple(bench.addresses(count)), interval_ms=interval_ms, mult=3)
    dut = bench.start(subject, spec)
    peer = bench.helper("bfd_peer", DUT_ADDRESS, count, interval_ms, 3)
    wait_until(lambda: peer.line()["up"] == count, 60, f"{count} sessions up at the peer")
    wait_until(lambda: dut.bfd_up() == count, 30, f"{count} sessions up at {subject}", interval=0.5)
    for _ in range(3):
        before = peer.line()
    cpu, start = bench.cpu_s(), time.monotonic()
    after = before
    while time.monotonic() - start < seconds:
        after = peer.line()
    cpu, took = bench.cpu_s() - cpu, time.monotonic() - start
    packets = after["sent"] + after["received"] - before["sent"] - before["received"]
    up = dut.bfd_up()
    return [
        Figure(work, subject, "cpu a packet", "µs", cpu / packets * 1e6),
        Figure(work, subject, "cpu", "% of a core", cpu / took * 100),
        Figure(work, subject, "packets", "1/s", packets / took),
        Figure(work, subject, "sessions that fell", "", after["falls"] - before["falls"] + count - up),
    ]


def grown(work: str, bench: Bench, subject: str) -> list[Figure]:
    size = bench.size or 10
    found = steady(work, size, 50, 8, bench, subject)
    return [Figure(work, subject, figure.metric, figure.unit, figure.value, size) for figure in found]


BOTH_ENDS = Path(__file__).parents[1] / "bfd_many.py"


def both_ends(work: str, bench: Bench, subject: str) -> list[Figure]:
    """Ours at both ends, each on its core: beyond a thousand sessions the peer by hand is the one that breaks."""
    size, seconds = bench.size or 10, 2 if bench.quick else 10
    found = bench.addresses(size)
    (link,) = json.loads(bench.peer_host.run("ip", "-j", "link", "show", "v0"))
    # The kernel's table of neighbors holds 1,024 of them (gc_thresh3) for all namespaces; fixed ones do not count.
    lines = "".join(f"neigh replace {each} lladdr {link['address']} dev v0 nud permanent\n" for each in found)
    ip_batch(bench.dut_host, lines)
    many = [sys.executable, str(BOTH_ENDS)]
    arguments = [str(size), "50", "3"]
    bench.peer_host.spawn(["taskset", "-c", "1", *many, "far", *arguments, str(seconds + 30)], "far.log")
    near = ["taskset", "-c", "0", *many, "near", *arguments, str(seconds)]
    up, end = map(json.loads, bench.dut_host.run(*near, timeout=seconds + 90).splitlines())
    return [
        Figure(work, subject, "all up after", "s", up["took_s"], size),
        Figure(work, subject, "cpu a packet", "µs", end["cpu_us_a_packet"], size),
        Figure(work, subject, "cpu", "% of a core", end["cpu"] * 100, size),
        Figure(work, subject, "packets", "1/s", end["packets_per_s"], size),
        Figure(work, subject, "sessions that fell", "", end["falls"] + size - end["up"], size),
        Figure(work, subject, "memory of the worker", "MB", end["memory_mb"], size),
    ]


WORKS = [
    Work(
        "bfd-1-50",
        "BFD, one session, 50 ms × 3",
        ("bgpbfd", "bird", "frr", "aiobfd"),
        partial(steady, "bfd-1-50", 1, 50, 10),
        (Target("sessions that fell", 0),),
    ),
    Work(
        "bfd-200-50",
        "BFD, 200 sessions, 50 ms × 3",
        ("bgpbfd", "bird", "frr"),
        partial(steady, "bfd-200-50", 200, 50, 10),
        (Target("cpu a packet", 0.3, "bird"), Target("cpu a packet", 0.05, "frr"), Target("sessions that fell", 0)),
    ),
    Work(
        "bfd-200-300",
        "BFD, 200 sessions, 300 ms × 3",
        ("bgpbfd", "bird", "frr"),
        partial(steady, "bfd-200-300", 200, 300, 20),
        (Target("cpu a packet", 0.5, "bird"), Target("sessions that fell", 0)),
    ),
    Work(
        "bfd-1000",
        "BFD, 1,000 sessions, 50 ms × 3 on one core, 60 s",
        ("bgpbfd", "bird"),
        partial(steady, "bfd-1000", 1000, 50, 60),
        (Target("sessions that fell", 0), Target("cpu", 30)),
    ),
    Work(
        "bfd-growth",
        "BFD, 50 ms × 3, by the number of sessions",
        ("bgpbfd", "bird"),
        partial(grown, "bfd-growth"),
        growth=(10, 50, 100, 200, 500, 1000),
    ),
    Work(
        "bfd-both-growth",
        "BFD, 50 ms × 3, by the number of sessions, ours at both ends",
        ("bgpbfd",),
        partial(both_ends, "bfd-both-growth"),
        growth=(500, 1000, 1500, 2000),
    ),
]
