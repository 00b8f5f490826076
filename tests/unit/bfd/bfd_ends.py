"""Both ends of BFD sessions on loopback addresses: the real link and worker."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bgpbfd.bfd.link import BfdLink
from bgpbfd.bfd.protocol import Add, Event, SessionReport, Settings, StateChange

MS = 1000
A, B, C = "127.17.0.1", "127.17.0.2", "127.17.0.3"
FAST = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS, detect_mult=3)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((A, 0))
        port: int = sock.getsockname()[1]
        return port


class End:
    """One link, and what it told."""

    def __init__(self, port: int, address: str, control_timeout_s: float = 10.0) -> None:
        self.events: list[Event] = []
        self.address = address
        self.link = BfdLink(self.events.append, port=port, control_timeout_s=control_timeout_s)
        self.link.bind([address])

    def add(self, remote: str, timers: Settings = FAST, *, local: str | None = "", admin_down: bool = False) -> int:
        where = self.address if local == "" else local
        return self.link.add(
            Add(key=remote, generation=0, remote=remote, local=where, settings=timers, admin_down=admin_down)
        )

    @property
    def changes(self) -> list[StateChange]:
        return [e for e in self.events if isinstance(e, StateChange)]

    @property
    def state(self) -> str:
        return self.changes[-1].new if self.changes else "down"

    def falls(self) -> list[StateChange]:
        return [e for e in self.changes if e.old == "up"]

    async def report(self) -> SessionReport:
        [report] = await self.link.query()
        return report


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout_s, "waited in vain"
        await asyncio.sleep(0.002)
    return time.monotonic() - start


@asynccontextmanager
async def started(*ends: End) -> AsyncIterator[None]:
    try:
        for end in ends:
            await end.link.start()
        yield
    finally:
        await asyncio.gather(*(end.link.stop() for end in ends))


@asynccontextmanager
async def pair(timers: Settings = FAST, control_timeout_s: float = 10.0) -> AsyncIterator[tuple[End, End]]:
    port = free_port()
    a, b = End(port, A, control_timeout_s), End(port, B)
    a.add(B, timers)
    b.add(A, timers)
    async with started(a, b):
        await until(lambda: a.state == b.state == "up")
        yield a, b
