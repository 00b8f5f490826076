"""What neighbors send is worked on for a bounded time in each turn of the loop.

A neighbor that sends a full table keeps this process busy for seconds, and several may do so at once. In between a BFD
Down has to get its Cease out. So what is read when the turn's time is up waits, and its connection is not read from
meanwhile; in the next turns those that wait come first, in their order, each for one read. Before each read is worked
on, ``first`` is called: the loop would hear of what happened meanwhile only after all that it has found to be read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from bgpbfd.control.ports import Clock
from bgpbfd.core import MILLISECOND, Micros

TURN: Micros = 2 * MILLISECOND


class Reader(Protocol):
    def pause(self) -> None: ...

    def resume(self) -> None: ...


R = TypeVar("R", bound=Reader)


class Turns(Generic[R]):
    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, deliver: Callable[[R, bytes], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._deliver = deliver
        self._spent: Micros = 0
        self._waiting: deque[tuple[R, bytes]] = deque()
        self._scheduled = False
        self.first: Callable[[], None] = _nothing

    def received(self, reader: R, data: bytes) -> None:
        """Deliver ``data`` now, or in one of the next turns; until then ``reader`` is paused.

        An error of the delivery is the caller's, or the loop's; the others have their turn all the same.
        """
        if self._waiting or self._spent >= TURN:
            self._waiting.append((reader, data))
            reader.pause()
        else:
            self._take(reader, data)

    def hurry(self, reader: R) -> None:
        """Deliver what waits of ``reader`` now: its connection has ended."""
        for entry in [entry for entry in self._waiting if entry[0] is reader]:
            self._waiting.remove(entry)
            self._take(*entry)

    def forget(self, reader: R) -> None:
        """Nobody wants what waits of ``reader`` any more."""
        if any(entry[0] is reader for entry in self._waiting):
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not reader)
            reader.resume()

    def _next_turn(self) -> None:
        self._scheduled = False
        self._spent = 0
        while self._waiting and self._spent < TURN:
            reader, data = self._waiting.popleft()
            reader.resume()
            self._take(reader, data)

    def _take(self, reader: R, data: bytes) -> None:
        if not self._scheduled:  # what is scheduled in one turn is called first in the next
            self._scheduled = True
            self._loop.call_soon(self._next_turn)
        self.first()
        began = self._clock.now()
        try:
            self._deliver(reader, data)
        finally:
            self._spent += self._clock.now() - began


def _nothing() -> None:
    return None
