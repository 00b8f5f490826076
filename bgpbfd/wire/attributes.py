"""Path attributes (RFC 4271 §4.3, §5; RFC 7606 for what is malformed)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Segment(NamedTuple):
    """An AS_PATH segment: ``kind`` of SegmentType, ``asns`` in path order."""

    kind: int
    asns: tuple[int, ...]


class UnknownAttribute(NamedTuple):
    flags: int
    code: int
    value: bytes


@dataclass(slots=True, frozen=True)
class PathAttributes:
    """The attributes of a path; shared by all prefixes of an UPDATE, so immutable.

    ``next_hop``: packed, 4, 16 or 32 octets (global then link-local, RFC 2545 §3), from NEXT_HOP or MP_REACH_NLRI alike;
    None in a route of ours means the session's local address. ``aggregator`` is (AS, packed IPv4 address).
    """

    origin: int = 0
    as_path: tuple[Segment, ...] = ()
    next_hop: bytes | None = None
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: tuple[int, bytes] | None = None
    communities: tuple[int, ...] = ()
    originator_id: bytes | None = None
    cluster_list: tuple[bytes, ...] = ()
    extended_communities: tuple[bytes, ...] = ()
    ipv6_extended_communities: tuple[bytes, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    only_to_customer: int | None = None
    unknown: tuple[UnknownAttribute, ...] = ()
