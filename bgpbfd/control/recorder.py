"""What happened, when, and why: a bounded record of every transition, the source of logs and of ``show events``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from bgpbfd.control.snapshot import RecordedEvent
from bgpbfd.core import Instant, PeerId

Listener = Callable[[RecordedEvent], None]

CAPACITY = 10_000


class Recorder:
    """Keeps the last ``capacity`` events and hands each to its listeners as it happens."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._events: deque[RecordedEvent] = deque(maxlen=capacity)
        self._number = 0
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def add(
        self,
        kind: str,
        text: str,
        now: Instant,
        *,
        peer: PeerId | None = None,
        level: str = "info",
        facts: Mapping[str, str | int | float] | None = None,
    ) -> RecordedEvent:
        self._number += 1
        event = RecordedEvent(self._number, now, kind, peer, text, level, dict(facts or {}))
        self._events.append(event)
        for listener in self._listeners:
            listener(event)
        return event

    def select(self, since: int = 0, limit: int = 100, peer: PeerId | None = None) -> list[RecordedEvent]:
        """Events oldest first, with ``peer`` only that neighbor's.

        ``since`` 0: the latest ``limit`` of them; else the first ``limit`` numbered above ``since``, to follow on.
        """
        if since == 0:
            latest: list[RecordedEvent] = []
            for event in reversed(self._events):
                if len(latest) >= limit:
                    break
                if peer is None or event.peer == peer:
                    latest.append(event)
            latest.reverse()
            return latest
        found: list[RecordedEvent] = []
        for event in self._events:
            if len(found) >= limit:
                break
            if event.number > since and (peer is None or event.peer == peer):
                found.append(event)
        return found
