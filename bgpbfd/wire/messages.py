"""BGP messages: framing, OPEN, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH (RFC 4271 §4, RFC 2918, RFC 5492, RFC 9072)."""

from __future__ import annotations

from dataclasses import dataclass

from bgpbfd.core import Family
from bgpbfd.wire.capabilities import Capability


class NotificationError(Exception):
    """A peer broke a rule that ends the session: what to put into the NOTIFICATION (RFC 4271 §6)."""

    def __init__(self, code: int, subcode: int, data: bytes = b"", reason: str = "") -> None:
        super().__init__(reason or f"{code}/{subcode}")
        self.code = code
        self.subcode = subcode
        self.data = data
        self.reason = reason


@dataclass(slots=True, frozen=True)
class Open:
    """RFC 4271 §4.2. ``asn`` is the 2-octet field; ``hold_time`` in s; ``router_id`` as an unsigned 32-bit number."""

    asn: int
    hold_time: int
    router_id: int
    capabilities: tuple[Capability, ...] = ()
    version: int = 4


@dataclass(slots=True, frozen=True)
class Notification:
    code: int
    subcode: int
    data: bytes = b""


@dataclass(slots=True, frozen=True)
class RouteRefresh:
    family: Family
    subtype: int = 0
