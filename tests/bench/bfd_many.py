"""One end of many BFD sessions: our link and worker, without BGP. Prints what it has seen as JSON lines.

    python bfd_many.py near|far COUNT INTERVAL_MS MULT SECONDS

The *near* end has one address (10.88.255.254) and COUNT sessions; the *far* end has an address for each of them
(10.88.0.1 and up). ``up`` is printed when all are Up, with the seconds that it took; ``end`` after SECONDS more.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from bgpbfd.bfd.link import BfdLink
from bgpbfd.bfd.protocol import Add, Bound, Event, Log, Settings, StateChange

NEAR = "10.88.255.254"


def far(index: int) -> str:
    return f"10.88.{(index + 1) >> 8}.{(index + 1) & 255}"


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def run(side: str, count: int, interval_ms: int, mult: int, seconds: float) -> None:
    states: dict[str, str] = {}
    falls: list[str] = []
    texts: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StateChange):
            states[event.key] = event.new
            if event.old == "up":
                silence = None if event.last_rx is None else (event.at - event.last_rx) / 1000
                falls.append(f"{event.key} {event.blame} diag {event.diag}/{event.remote_diag} silence {silence} ms")
        elif isinstance(event, Log) or (isinstance(event, Bound) and event.error is not None):
            texts.append(str(event))

    link = BfdLink(on_event)
    link.bind([NEAR] if side == "near" else ["0.0.0.0"])
    settings = Settings(desired_min_tx_us=interval_ms * 1000, required_min_rx_us=interval_ms * 1000, detect_mult=mult)
    for index in range(count):
        remote, local = (far(index), NEAR) if side == "near" else (NEAR, far(index))
        link.add(Add(key=far(index), generation=0, remote=remote, local=local, settings=settings))
    start = time.monotonic()
    await link.start()
    while sum(state == "up" for state in states.values()) < count:
        await asyncio.sleep(0.05)
        if time.monotonic() - start > 60:
            break
    assert link.pid is not None
    up = sum(state == "up" for state in states.values())
    print(json.dumps({"up": up, "took_s": round(time.monotonic() - start, 2), "falls": falls[:5]}), flush=True)
    await asyncio.sleep(2)
    falls.clear()
    before, then = cpu_s(link.pid), time.monotonic()
    reports = await link.query(10)
    packets = sum(report.packets_received + report.packets_sent for report in reports)
    while time.monotonic() - then < seconds and not any(" admin " in fall for fall in falls):
        await asyncio.sleep(0.1)
    fallen = list(falls)  # before the other end, which began earlier or later, says AdminDown
    reports = await link.query(10)
    took = time.monotonic() - then
    packets = sum(report.packets_received + report.packets_sent for report in reports) - packets
    cpu = cpu_s(link.pid) - before
    end = {
        "seconds": round(took, 1),
        "falls": sum(" admin " not in fall for fall in fallen),
        "first_falls": fallen[:5],
        "up": sum(report.state == "up" for report in reports),
        "packets_per_s": round(packets / took),
        "cpu": round(cpu / took, 3),
        "cpu_us_a_packet": round(cpu / packets * 1e6, 2) if packets else None,
        "memory_mb": round(memory_mb(link.pid), 1),
        "descriptors": len(list(Path(f"/proc/{link.pid}/fd").iterdir())),
        "late": sum(report.late_packets for report in reports),
        "discards": link.discards,
        "texts": texts,
    }
    print(json.dumps(end), flush=True)
    await link.stop()


if __name__ == "__main__":
    side, count, interval_ms, mult, seconds = sys.argv[1:]
    asyncio.run(run(side, int(count), int(interval_ms), int(mult), float(seconds)))
