"""Connections whose peer takes nothing: the shell's part of RFC 9687.

What the kernel does not take waits in the transport's buffer. While anything waits there a look once a second tells
whether some of it went: one timer for all connections, and none when nothing waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bgpbfd.bgp.events import ConnId
from bgpbfd.control.ports import Clock
from bgpbfd.core import SECOND, Instant, Micros, PeerId

STALL_AFTER: Micros = SECOND  # shorter is no stall but a busy network
_LOOK_EVERY_S = 1.0

Key = tuple[PeerId, ConnId]


class Sender(Protocol):
    """A connection: the octets handed to its transport so far, and the transport."""

    handed: int
    transport: asyncio.Transport | None


@dataclass(slots=True)
class _Watched:
    sender: Sender
    taken: int
    since: Instant  # when the kernel was last known to take some, or what waits began to wait
    told: bool = False


class Stalls:
    """Tells ``stalled`` (connection, since when) once, and ``resumed`` when the kernel takes data again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        stalled: Callable[[Key, Instant], None],
        resumed: Callable[[Key], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._stalled = stalled
        self._resumed = resumed
        self._watched: dict[Key, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, key: Key, sender: Sender) -> None:
        """Call after each write."""
        if key in self._watched or not (waiting := _waiting(sender)):
            return
        self._watched[key] = _Watched(sender, sender.handed - waiting, self._clock.now())
        self._arm()

    def forget(self, key: Key) -> None:
        """The connection is no more; nothing is told of it."""
        if self._watched.pop(key, None) is not None and not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None and self._watched:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        try:
            now = self._clock.now()
            for key, watched in list(self._watched.items()):
                if self._watched.get(key) is watched:  # what is told of one may end another
                    self._look_at(key, watched, now)
        finally:
            self._arm()

    def _look_at(self, key: Key, watched: _Watched, now: Instant) -> None:
        waiting = _waiting(watched.sender)
        taken = watched.sender.handed - waiting
        if not waiting:
            del self._watched[key]
        if taken > watched.taken:
            # DEVIATES RFC 9687 §3.2: some octets count, not only a whole message: who takes any is not stuck.
            watched.taken, watched.since = taken, now
            if watched.told:
                watched.told = False
                self._resumed(key)
        elif not watched.told and now - watched.since >= STALL_AFTER:
            watched.told = True
            self._stalled(key, watched.since)


def _waiting(sender: Sender) -> int:
    return 0 if sender.transport is None else sender.transport.get_write_buffer_size()
