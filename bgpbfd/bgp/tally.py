"""What a neighbor's connections have seen together; it outlives each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bgpbfd.core import Instant
from bgpbfd.wire.iana import MessageType
from bgpbfd.wire.messages import Notification
from bgpbfd.wire.update import UpdateFault

SHOWN_OCTETS: Final = 512  # of a message or attribute at fault: enough to see why, whatever the peer sends

TYPE_NAMES: Final[dict[int, str]] = {
    MessageType.OPEN: "open",
    MessageType.UPDATE: "update",
    MessageType.NOTIFICATION: "notification",
    MessageType.KEEPALIVE: "keepalive",
    MessageType.ROUTE_REFRESH: "route-refresh",
}
SESSION_RESET: Final = "session-reset"
IGNORED: Final = "ignored"
# RFC 7606 §2, ascending
_GRAVITY: Final = (IGNORED, "attribute-discard", "treat-as-withdraw", "afi-safi-disable", SESSION_RESET)


def _zeroes() -> dict[str, int]:
    return dict.fromkeys(TYPE_NAMES.values(), 0)


@dataclass(slots=True, frozen=True)
class LastFault:
    """The last UPDATE that was malformed: its gravest fault. Before there is one, the last that was ignored.

    ``treatment``: RFC 7606's word, or ignored. ``data``: the octets at fault (an attribute, NLRI, where neither can be
    told the whole message), cut to 512; ``length``: how many there were.
    """

    at: Instant
    treatment: str
    attribute: int | None
    reason: str
    data: bytes
    length: int


@dataclass(slots=True)
class Tally:
    received_by_type: dict[str, int] = field(default_factory=_zeroes)
    sent_by_type: dict[str, int] = field(default_factory=_zeroes)
    update_faults: dict[str, int] = field(default_factory=dict)
    last_update_fault: LastFault | None = None
    notifications_sent: dict[str, int] = field(default_factory=dict)  # by "code/subcode", as on the wire
    notifications_received: dict[str, int] = field(default_factory=dict)
    discards: dict[str, int] = field(default_factory=dict)
    last_received_at: Instant | None = None
    last_sent_at: Instant | None = None

    def discard(self, reason: str) -> None:
        self.discards[reason] = self.discards.get(reason, 0) + 1

    def sent(self, kind: str, now: Instant, count: int = 1) -> None:
        self.sent_by_type[kind] += count
        self.last_sent_at = now

    def notification(self, notification: Notification, *, sent: bool) -> None:
        counts = self.notifications_sent if sent else self.notifications_received
        name = f"{notification.code}/{notification.subcode}"
        counts[name] = counts.get(name, 0) + 1

    def faulty_update(self, faults: list[UpdateFault], now: Instant) -> None:
        """The faults of one UPDATE, at least one: each is counted, the gravest is kept.

        What is ignored is no error, and would push the last error out of sight.
        """
        for fault in faults:
            self.update_faults[fault.treatment] = self.update_faults.get(fault.treatment, 0) + 1
        worst = max(faults, key=lambda fault: _GRAVITY.index(fault.treatment))
        last = self.last_update_fault
        if worst.treatment == IGNORED and last is not None and last.treatment != IGNORED:
            return
        data = worst.data
        self.last_update_fault = LastFault(
            now, worst.treatment, worst.attribute, worst.reason, data[:SHOWN_OCTETS], len(data)
        )
