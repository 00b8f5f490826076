"""Routes: announced, received, changed by a reload, given to many."""

from __future__ import annotations

import sys
import time
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from subprocess import run

from tests.bench.harness.bench import DUT_ADDRESS, DUT_AS, ROOT, Bench
from tests.bench.harness.duts import DUTS, Neighbor, Spec
from tests.bench.harness.figures import Figure, Target, worst_between
from tests.bench.harness.work import Work
from tests.interop.harness.process import wait_until

RELOAD_PAUSE = "worst pause of the reload, main loop"
ANNOUNCE_TIMEOUT_S = 300.0
"""OpenBGPD takes the square of its `network` lines: minutes for 100,000."""


def prefixes(count: int, *, first: int = 20 << 24) -> list[str]:
    """/24s one after the other, from 20.0.0.0."""
    return [f"{IPv4Address(first + (number << 8))}/24" for number in range(count)]


def table(bench: Bench, count: int, asn: int) -> Path:
    """Made once; the first AS of its paths has to be the sender's."""
    count = min(count, 2000) if bench.quick else count
    path = bench.scratch / f"table-{count}-{asn}.bin"
    if not path.exists():
        run([sys.executable, "-m", "tests.bench.raw.table", str(count), str(path), str(asn)], cwd=ROOT, check=True)
    return path


def announce(work: str, count: int, manner: tuple[str, ...], bench: Bench, subject: str) -> list[Figure]:
    """``count`` static routes: until the neighbor has the last. ``manner``: the sink's."""
    size = bench.size
    count = size or (min(count, 1000) if bench.quick else count)
    [local] = bench.addresses(1)
    listens = ["listen"] if DUTS[subject].dials else []
    sink = bench.helper("bgp_sink", DUT_ADDRESS, 65001, count, local, *manner, *listens)
    time.sleep(0.5)  # its own start is not the DUT's time
    begun = bench.begin(subject, Spec(DUT_ADDRESS, DUT_AS, (Neighbor(local, 65001),), prefixes(count)))
    seen = sink.line(ANNOUNCE_TIMEOUT_S)
    _, peak = bench.memory_mb()
    if seen["announced"] != count:
        raise AssertionError(f"{subject} announced {seen['announced']} prefixes, not {count}")
    return [
        Figure(work, subject, "Established to last prefix", "s", seen["last"] - seen["established"], size),
        Figure(work, subject, "start to last prefix", "s", seen["last"] - begun, size),
        Figure(work, subject, "memory, peak", "MB", peak, size),
    ]


def receive(work: str, count: int, bench: Bench, subject: str) -> list[Figure]:
    """A table of the Internet's shape, until the DUT says that it has all of it."""
    size = bench.size
    count = size or (min(count, 2000) if bench.quick else count)
    [local] = bench.addresses(1)
    file = table(bench, count, 65001)
    dut = bench.start(subject, Spec(DUT_ADDRESS, DUT_AS, (Neighbor(local, 65001),)))
    source = bench.helper("bgp_source", local, DUT_ADDRESS, 65001, file)
    established = source.line()["established"]
    before = bench.cpu_s()
    source.line()
    wait_until(lambda: dut.prefixes() == count, 180, f"{count} prefixes at {subject}", interval=0.5)
    took = time.monotonic() - established
    calm, now = -1.0, bench.cpu_s()
    while now - calm > 0.05:  # what it does afterwards belongs to it
        time.sleep(1)
        calm, now = now, bench.cpu_s()
    resident, peak = bench.memory_mb()
    return [
        Figure(work, subject, "cpu", "s", bench.cpu_s() - before, size),
        Figure(work, subject, "time (asked every 0.5 s)", "s", took, size),
        Figure(work, subject, "memory after", "MB", resident, size),
        Figure(work, subject, "memory, peak", "MB", peak, size),
    ]


def reload(work: str, bench: Bench, subject: str) -> list[Figure]:
    """100 of 100,000 routes are others in the file."""
    count, changed = (1000, 10) if bench.quick else (100_000, 100)
    [local] = bench.addresses(1)
    sink = bench.helper("bgp_sink", DUT_ADDRESS, 65001, count, local, "nudge")
    routes = prefixes(count)
    dut = bench.start(subject, Spec(DUT_ADDRESS, DUT_AS, (Neighbor(local, 65001),), routes))
    sink.line()
    time.sleep(2)
    for number in range(changed):
        routes[number * (count // changed)] = prefixes(1, first=(60 << 24) + (number << 8))[0]
    dut.rewrite(routes)
    pauses = dut.pauses().get("main")
    before, begun = bench.cpu_s(), time.monotonic()
    dut.reload()
    seen = sink.line()
    cpu = bench.cpu_s() - before
    if (seen["announced"], seen["withdrawn"]) != (changed, changed):
        raise AssertionError(f"{subject} changed {seen}, not {changed}")
    figures = [
        Figure(work, subject, "reload to last UPDATE", "s", seen["last"] - begun),
        Figure(work, subject, "cpu", "s", cpu),
    ]
    if pauses is not None:
        time.sleep(1)  # what it does afterwards belongs to it
        worst_ms = worst_between(pauses, dut.pauses()["main"])
        figures.append(Figure(work, subject, RELOAD_PAUSE, "ms", worst_ms))
    return figures


def many_peers(work: str, peers: int, routes: int, bench: Bench, subject: str) -> list[Figure]:
    """Each peer has all routes, from the start of the process."""
    size = bench.size
    peers = size or (min(peers, 5) if bench.quick else peers)
    addresses = bench.addresses(peers)
    sink = bench.helper("bgp_sink", DUT_ADDRESS, 65001, peers * routes, ",".join(addresses), "nudge")
    time.sleep(0.5)
    neighbors = tuple(Neighbor(address, 65001 + number) for number, address in enumerate(addresses))
    begun = bench.begin(subject, Spec(DUT_ADDRESS, DUT_AS, neighbors, prefixes(routes)))
    seen = sink.line()
    resident, _ = bench.memory_mb()
    return [
        Figure(work, subject, "start to last Established", "s", seen["established"] - begun, size),
        Figure(work, subject, "start to last prefix", "s", max(seen["last"], seen["established"]) - begun, size),
        Figure(work, subject, "cpu", "s", bench.cpu_s(), size),
        Figure(work, subject, "memory after", "MB", resident, size),
    ]


WORKS = [
    Work(
        "announce",
        "100,000 static routes announced",
        ("bgpbfd", "bird", "frr", "openbgpd", "exabgp", "exabgp5"),
        partial(announce, "announce", 100_000, ("nudge",)),
        (Target("Established to last prefix", 0.3, "bird"), Target("start to last prefix", 0.8, "bird")),
        once=("openbgpd", "exabgp", "exabgp5"),
    ),
    Work(
        "announce-silent",
        "the same to a neighbor that says nothing from Established on",
        ("bgpbfd", "bird"),
        partial(announce, "announce-silent", 100_000, ()),
    ),
    Work(
        "receive",
        "1,000,000 prefixes received, 147,000 UPDATEs",
        ("bgpbfd", "bird", "frr", "openbgpd", "gobgp"),
        partial(receive, "receive", 1_000_000),
        (
            Target("cpu", 0.5, "openbgpd"),
            Target("cpu", 0.2, "frr"),
            Target("cpu", 0.1, "gobgp"),
            Target("memory after", 0.5, "openbgpd"),
            Target("memory, peak", 0.5, "openbgpd"),
        ),
        once=("frr", "gobgp"),
    ),
    Work(
        "reload",
        "100 of 100,000 routes changed in the file",
        ("bgpbfd", "bird"),
        partial(reload, "reload"),
        (Target("reload to last UPDATE", 1.5), Target(RELOAD_PAUSE, 20)),
    ),
    Work(
        "many-peers",
        "500 peers, 1,000 routes to each",
        ("bgpbfd", "bird"),
        partial(many_peers, "many-peers", 500, 1000),
        (Target("start to last prefix", 2, "bird"),),
    ),
    Work(
        "announce-growth",
        "static routes announced, by their number",
        ("bgpbfd", "bird"),
        partial(announce, "announce-growth", 0, ("nudge",)),
        growth=(1000, 10_000, 100_000, 1_000_000),
    ),
    Work(
        "receive-growth",
        "prefixes received, by their number",
        ("bgpbfd", "bird", "openbgpd"),
        partial(receive, "receive-growth", 0),
        growth=(1000, 10_000, 100_000, 1_000_000),
    ),
    Work(
        "peers-growth",
        "1,000 routes to each of the peers, by their number",
        ("bgpbfd", "bird"),
        partial(many_peers, "peers-growth", 0, 1000),
        growth=(1, 10, 100, 500),
    ),
]
