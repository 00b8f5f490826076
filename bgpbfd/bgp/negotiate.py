"""The OPEN: what we offer, what we take, what is then in force (RFC 4271 §6.2, RFC 5492, RFC 6793, RFC 6286)."""

from __future__ import annotations

from dataclasses import dataclass

from bgpbfd.core import Family
from bgpbfd.wire.capabilities import Capability


@dataclass(slots=True, frozen=True)
class PeerSettings:
    """What one BGP neighbor is configured to be. ``router_id`` is ours for this session; times in s."""

    local_asn: int
    remote_asn: int
    router_id: int
    families: tuple[Family, ...]
    hold_time_s: int = 180
    connect_retry_s: float = 5.0
    passive: bool = False
    dynamic: bool = False  # accepted only, never dialled, no retry
    route_refresh: bool = True
    extended_messages: bool = True


@dataclass(slots=True, frozen=True)
class Negotiated:
    """What both OPENs together put in force."""

    asn4: bool
    families: frozenset[Family]
    hold_time_s: int  # 0: neither hold nor keepalive timer runs
    keepalive_time_s: int
    remote_asn: int
    remote_router_id: int
    external: bool
    may_send_refresh: bool
    enhanced_refresh: bool
    send_max_length: int
    receive_max_length: int
    graceful_restart_peer: bool  # the peer sent capability 64: it marks End-of-RIB
    capabilities_sent: tuple[Capability, ...]
    capabilities_received: tuple[Capability, ...]
