"""RFC 9687: when a sender counts as stalled, in virtual time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.core import MILLISECOND, SECOND, Instant
from bgpbfd.io.stalls import Key, Stalls


class Handle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """The loop's timers, and the clock."""

    def __init__(self) -> None:
        self.time: Instant = 5 * SECOND
        self.queue: list[tuple[Instant, int, Handle, Callable[[], None]]] = []
        self.order = itertools.count()
        self.told: list[tuple[str, Key, Instant]] = []
        self.stalls = Stalls(
            cast(asyncio.AbstractEventLoop, self),
            self,
            lambda key, since: self.told.append(("stalled", key, since)),
            lambda key: self.told.append(("resumed", key, self.time)),
        )

    def now(self) -> Instant:
        return self.time

    def wall(self, at: Instant) -> float:
        raise AssertionError

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        handle = Handle()
        heapq.heappush(self.queue, (self.time + round(delay * 1e6), next(self.order), handle, callback))
        return handle

    def armed(self) -> int:
        return sum(not handle.cancelled for _, _, handle, _ in self.queue)

    def run(self, duration: int) -> None:
        end = self.time + duration
        while self.queue and self.queue[0][0] <= end:
            when, _, handle, callback = heapq.heappop(self.queue)
            self.time = max(self.time, when)
            if not handle.cancelled:
                callback()
        self.time = end


class Sender:
    """A connection whose kernel takes as much as ``room`` says."""

    def __init__(self, world: World, key: Key = ("peer", 1)) -> None:
        self.world = world
        self.key = key
        self.handed = 0
        self.taken = 0
        self.transport: Any = self

    def get_write_buffer_size(self) -> int:
        return self.handed - self.taken

    def send(self, count: int, room: int = 0) -> None:
        self.handed += count
        self.take(room)
        self.world.stalls.watch(self.key, self)

    def take(self, count: int) -> None:
        self.taken = min(self.handed, self.taken + count)


def test_what_the_kernel_takes_at_once_arms_no_timer() -> None:
    world = World()
    sender = Sender(world)
    sender.send(100, room=100)
    assert world.armed() == 0
    world.run(10 * SECOND)
    assert world.told == []


def test_a_stall_is_told_after_a_second_with_its_beginning_and_only_once() -> None:
    world = World()
    sender = Sender(world)
    sender.send(100)
    began = world.time
    world.run(SECOND - 1)
    assert world.told == []
    world.run(1)
    assert world.told == [("stalled", sender.key, began)]
    sender.send(100)  # more to wait changes nothing
    world.run(600 * SECOND)
    assert len(world.told) == 1


def test_any_progress_ends_a_stall_and_a_new_one_counts_from_then() -> None:
    world = World()
    sender = Sender(world)
    sender.send(100)
    world.run(5 * SECOND)
    sender.take(1)
    world.run(SECOND)
    resumed = world.time
    assert world.told[1:] == [("resumed", sender.key, resumed)]
    world.run(SECOND)
    assert world.told[2:] == [("stalled", sender.key, resumed)]
    sender.take(1000)
    world.run(SECOND)
    assert world.told[3:] == [("resumed", sender.key, world.time)]
    assert world.armed() == 0


def test_a_slow_reader_is_no_stall() -> None:
    world = World()
    sender = Sender(world)
    sender.send(10_000)
    for _ in range(3000):
        world.run(900 * MILLISECOND)
        sender.take(1)
    assert world.told == []


def test_one_timer_serves_all_and_a_closed_connection_is_forgotten() -> None:
    world = World()
    senders = [Sender(world, ("peer", number)) for number in range(100)]
    for sender in senders:
        sender.send(10)
    assert world.armed() == 1
    for sender in senders[1:]:
        world.stalls.forget(sender.key)
    world.run(2 * SECOND)
    assert [key for _, key, _ in world.told] == [senders[0].key]
    world.stalls.forget(senders[0].key)
    assert world.armed() == 0


def test_what_is_told_may_close_any_connection_and_an_error_stops_nothing() -> None:
    world = World()
    one, other, third = (Sender(world, ("peer", number)) for number in range(3))
    for sender in (one, other, third):
        sender.send(10)
    told: list[Key] = []

    def hear(key: Key, _: Instant) -> None:
        told.append(key)
        if key == one.key:
            world.stalls.forget(one.key)
            world.stalls.forget(other.key)
            raise RuntimeError("a fault of ours")

    world.stalls._stalled = hear
    try:
        world.run(SECOND)
    except RuntimeError:
        world.run(2 * SECOND)
    assert told == [one.key, third.key]


@given(st.lists(st.tuples(st.sampled_from(["send", "take", "wait"]), st.integers(1, 3_000_000)), max_size=60))
def test_stalled_and_resumed_alternate_and_tell_the_truth(steps: list[tuple[str, int]]) -> None:
    world = World()
    sender = Sender(world)
    progress = world.time  # when the kernel last took some, or what waits began to wait
    for what, count in steps:
        if what == "send":
            if not sender.get_write_buffer_size():
                progress = world.time
            sender.send(count)
        elif what == "take":
            if sender.get_write_buffer_size():
                progress = world.time
            sender.take(count)
        else:
            heard = len(world.told)
            world.run(count)
            for kind, _, at in world.told[heard:]:
                if kind == "stalled":
                    assert progress <= at <= world.time - SECOND
                    assert sender.get_write_buffer_size()
            if sender.get_write_buffer_size() and world.time - progress >= 3 * SECOND:
                assert world.told[-1][0] == "stalled"
    world.run(3 * SECOND)
    kinds = [kind for kind, _, _ in world.told]
    assert kinds == (["stalled", "resumed"] * len(kinds))[: len(kinds)]
    assert (kinds[-1:] == ["stalled"]) == (sender.get_write_buffer_size() > 0)
    assert world.armed() == (sender.get_write_buffer_size() > 0)
