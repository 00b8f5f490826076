"""Reading in turns: a bounded time a turn, in order, and nothing is lost."""

from __future__ import annotations

import asyncio

from bgpbfd.core import Instant
from bgpbfd.io.turns import TURN, Turns


class Clock:
    def __init__(self) -> None:
        self.at: Instant = 0

    def now(self) -> Instant:
        return self.at

    def wall(self, at: Instant) -> float:
        return 0.0


class Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False

    def pause(self) -> None:
        assert not self.paused
        self.paused = True

    def resume(self) -> None:
        assert self.paused
        self.paused = False


class World:
    """Each octet takes 100 µs to work on."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.done: list[tuple[str, bytes]] = []
        self.broken: Reader | None = None
        self.turns: Turns[Reader] = Turns(asyncio.get_running_loop(), self.clock, self.deliver)
        self.a, self.b, self.c = Reader("a"), Reader("b"), Reader("c")

    def deliver(self, reader: Reader, data: bytes) -> None:
        assert not reader.paused
        if reader is self.broken:
            raise RuntimeError("broken")
        self.done.append((reader.name, data))
        self.clock.at += 100 * len(data)

    def took(self) -> list[str]:
        taken = [name for name, _ in self.done]
        self.done.clear()
        return taken


FULL = bytes(TURN // 100)


async def test_within_its_time_a_turn_takes_all_at_once() -> None:
    world = World()
    world.turns.received(world.a, b"1")
    world.turns.received(world.b, b"2")
    assert world.took() == ["a", "b"]


async def test_what_is_read_when_the_time_is_up_waits_and_its_reader_pauses() -> None:
    world = World()
    world.turns.received(world.a, FULL)
    world.turns.received(world.b, FULL)
    world.turns.received(world.c, b"3")  # behind the other, though it would be quick
    assert world.took() == ["a"]
    assert (world.a.paused, world.b.paused, world.c.paused) == (False, True, True)
    await asyncio.sleep(0)
    assert world.took() == ["b"]
    world.turns.received(world.a, b"4")  # those that wait come first
    assert world.a.paused
    await asyncio.sleep(0)
    assert world.took() == ["c", "a"]
    assert [reader.paused for reader in (world.a, world.b, world.c)] == [False] * 3


async def test_one_that_is_busy_leaves_each_turn_to_the_loop() -> None:
    """Whatever else is scheduled has its turn between two reads."""
    world = World()
    for _ in range(5):
        world.turns.received(world.a, FULL)
        world.turns.received(world.b, FULL)
        assert world.took() == ["a"]
        await asyncio.sleep(0)
        assert world.took() == ["b"]
        await asyncio.sleep(0)


async def test_what_waits_is_delivered_before_the_end_of_its_connection() -> None:
    world = World()
    world.turns.received(world.a, FULL)
    world.turns.received(world.b, b"last words")
    world.b.resume()  # as its transport closes
    world.turns.hurry(world.b)
    assert world.done[1:] == [("b", b"last words")]
    await asyncio.sleep(0)
    assert len(world.done) == 2


async def test_what_nobody_wants_any_more_is_dropped_and_the_reader_reads_on() -> None:
    world = World()
    world.turns.received(world.a, FULL)
    world.turns.received(world.b, b"2")
    world.turns.received(world.c, b"3")
    world.turns.forget(world.b)
    world.turns.forget(world.a)
    assert (world.b.paused, world.c.paused) == (False, True)
    await asyncio.sleep(0)
    assert world.took() == ["a", "c"]


async def test_a_fault_in_the_delivery_stops_nobody_else() -> None:
    world = World()
    world.turns.received(world.a, FULL)
    world.turns.received(world.b, b"2")
    world.turns.received(world.c, b"3")
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    world.broken = world.b
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.took() == ["a", "c"]
    assert len(faults) == 1
