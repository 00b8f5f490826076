"""Events on their way to the main process: never blocking, bounded, and no state change lost.

While the main process does not read, later news replace earlier news of the same kind; state changes are kept one by
one up to a depth a session, and then the oldest two are made one. The order holds within a session.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TypeAlias

import msgspec

from bgpbfd.bfd.protocol import Bound, Event, Log, Report, SessionFault, StateChange

STATE_CHANGES_KEPT = 8  # a session
LOGS_KEPT = 256

_Slot: TypeAlias = tuple[str, str, int]


def merge(first: StateChange, second: StateChange) -> StateChange:
    """Two changes in a row as one; of the facts, those of the Down are kept, if one of the two is a Down."""
    told = first if first.blame and not second.blame else second
    return msgspec.structs.replace(told, old=first.old, new=second.new, at=second.at)


class Outbox:
    __slots__ = ("_encode", "_slots", "_sock", "dropped")

    def __init__(self, sock: socket.socket) -> None:
        """``sock``: non-blocking, SOCK_SEQPACKET."""
        self._sock = sock
        self._slots: dict[_Slot, deque[Event]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self.dropped = 0

    def __bool__(self) -> bool:
        """Whether something waits for the socket to take more."""
        return bool(self._slots)

    def post(self, event: Event) -> None:
        slot: _Slot
        if isinstance(event, StateChange):
            slot = ("state", event.key, event.generation)
        elif isinstance(event, SessionFault):
            slot = ("fault", event.key, event.generation)
            self._slots.pop(slot, None)
        elif isinstance(event, Bound):
            slot = ("bound", event.address, 0)
            self._slots.pop(slot, None)
        elif isinstance(event, Report):
            slot = ("report", "", event.request)
            for other in [s for s in self._slots if s[0] == "report" and s != slot]:
                del self._slots[other]
        else:
            slot = ("log", "", 0)
        waiting = self._slots.setdefault(slot, deque())
        if isinstance(event, Log) and len(waiting) >= LOGS_KEPT:
            self.dropped += 1
            return
        waiting.append(event)
        if isinstance(event, StateChange) and len(waiting) > STATE_CHANGES_KEPT:
            first, second = waiting.popleft(), waiting.popleft()
            assert isinstance(first, StateChange)
            assert isinstance(second, StateChange)
            waiting.appendleft(merge(first, second))

    def flush(self) -> None:
        """Hand over what the socket takes now. Raises OSError when the other end is gone."""
        while self._slots:
            slot, waiting = next(iter(self._slots.items()))
            while waiting:
                try:
                    self._sock.send(self._encode(waiting[0]))
                except BlockingIOError:
                    return
                waiting.popleft()
            del self._slots[slot]
