"""What path attributes say, and how each value is read and written; the table of them is in ``wire.attributes``.

The readers raise MalformedAttribute with the subcode of RFC 4271 §6.3; what that does is the table's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from bgpbfd.wire.as_path import CONFED_KINDS, MalformedAttribute, Segment, is_wide, pull_as_path, push_as_path
from bgpbfd.wire.iana import AS_TRANS, UpdateSubcode

_LARGE = Struct("!III")


class UnknownAttribute(NamedTuple):
    """Optional and transitive, passed on as it came but for the Partial bit, which is set (RFC 4271 §5)."""

    flags: int
    code: int
    value: bytes


@dataclass(slots=True, frozen=True)
class PathAttributes:
    """The attributes of a path; shared by all prefixes of an UPDATE, so immutable.

    ``next_hop``: packed, 4, 16 or 32 octets (global, link-local; RFC 2545 §3), from NEXT_HOP or MP_REACH_NLRI alike;
    None in a route of ours means the session's local address. ``aggregator`` is (AS, packed IPv4 address).
    ``partial``: codes of known attributes that came with the Partial bit, which is never taken back (RFC 4271 §5).
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
    partial: frozenset[int] = frozenset()


# -- the values: octets of one attribute without its head, and whether AS numbers have four octets ---------


def _check_length(value: bytes, length: int) -> None:
    if len(value) != length:
        raise MalformedAttribute(UpdateSubcode.ATTRIBUTE_LENGTH, f"length {len(value)}, not {length}")


def _check_multiple(value: bytes, size: int) -> None:
    if not value or len(value) % size:
        raise MalformedAttribute(UpdateSubcode.ATTRIBUTE_LENGTH, f"length {len(value)}, not a multiple of {size}")


def pull_origin(value: bytes, asn4: bool) -> int:
    _check_length(value, 1)
    if value[0] > 2:
        raise MalformedAttribute(UpdateSubcode.INVALID_ORIGIN, f"origin {value[0]}")
    return value[0]


def pull_as4_path(value: bytes, asn4: bool) -> tuple[Segment, ...]:
    if len(value) < 6 or len(value) % 2:
        raise MalformedAttribute(UpdateSubcode.ATTRIBUTE_LENGTH, f"length {len(value)}")
    # RFC 6793 §3: confederation segments are not allowed here; §6: cut them and go on
    return tuple(segment for segment in pull_as_path(value, True) if segment.kind not in CONFED_KINDS)


def pull_address(value: bytes, asn4: bool) -> bytes:
    _check_length(value, 4)
    return value


def pull_uint32(value: bytes, asn4: bool) -> int:
    _check_length(value, 4)
    return int.from_bytes(value, "big")


def pull_flag(value: bytes, asn4: bool) -> bool:
    _check_length(value, 0)
    return True


def pull_aggregator(value: bytes, asn4: bool) -> tuple[int, bytes]:
    _check_length(value, 8 if asn4 else 6)
    asn = int.from_bytes(value[:-4], "big")
    if asn == 0:
        raise MalformedAttribute(UpdateSubcode.OPTIONAL_ATTRIBUTE, "AS 0")  # RFC 7607 §2
    return asn, value[-4:]


def pull_as4_aggregator(value: bytes, asn4: bool) -> tuple[int, bytes]:
    return pull_aggregator(value, True)


def pull_communities(value: bytes, asn4: bool) -> tuple[int, ...]:
    _check_multiple(value, 4)
    count = len(value) // 4
    return Struct(f"!{count}I").unpack(value)


def pull_large_communities(value: bytes, asn4: bool) -> tuple[tuple[int, int, int], ...]:
    _check_multiple(value, 12)
    # RFC 8092 §3: duplicates are to be removed on receipt
    return tuple(dict.fromkeys(_LARGE.iter_unpack(value)))


def pull_octets(size: int) -> Callable[[bytes, bool], tuple[bytes, ...]]:
    def pull(value: bytes, asn4: bool) -> tuple[bytes, ...]:
        _check_multiple(value, size)
        return tuple(value[at : at + size] for at in range(0, len(value), size))

    return pull


def push_uint32(value: int | None) -> bytes | None:
    return None if value is None else value.to_bytes(4, "big")


def push_aggregator(a: PathAttributes, asn4: bool) -> bytes | None:
    if a.aggregator is None:
        return None
    asn, address = a.aggregator
    if asn4:
        return asn.to_bytes(4, "big") + address
    return (asn if asn <= 0xFFFF else AS_TRANS).to_bytes(2, "big") + address


def push_as4_path(a: PathAttributes, asn4: bool) -> bytes | None:
    # RFC 6793 §4.2.2: only where AS_PATH loses something, and without confederation segments
    if asn4 or not is_wide(a.as_path):
        return None
    return push_as_path([s for s in a.as_path if s.kind not in CONFED_KINDS], True) or None


def push_as4_aggregator(a: PathAttributes, asn4: bool) -> bytes | None:
    if asn4 or a.aggregator is None or a.aggregator[0] <= 0xFFFF:
        return None
    return a.aggregator[0].to_bytes(4, "big") + a.aggregator[1]


def push_communities(a: PathAttributes, asn4: bool) -> bytes | None:
    return b"".join(c.to_bytes(4, "big") for c in a.communities) or None


def push_large_communities(a: PathAttributes, asn4: bool) -> bytes | None:
    return b"".join(_LARGE.pack(*c) for c in a.large_communities) or None
