"""MP_REACH_NLRI and MP_UNREACH_NLRI as received (RFC 4760 §3, §4).

Whatever is wrong with them hides which routes are meant: an error of the session, 3/9, or of the family where the
attribute still says which one (RFC 7606 §5.3, §7.11, §7.12; RFC 4760 §7). RFC 2545 §3 (IPv6 next hops), RFC 7911 (path
identifiers), RFC 8950 (IPv6 next hops of IPv4), RFC 8955 §4 (flow specifications).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bgpbfd.core import AFI_IPV4, AFI_IPV6, SAFI_FLOW, SAFI_UNICAST, Family
from bgpbfd.wire.attributes import OPTIONAL, TRANSITIVE, RawAttribute
from bgpbfd.wire.iana import AttributeCode, ErrorCode, UpdateSubcode
from bgpbfd.wire.messages import NotificationError
from bgpbfd.wire.nlri import NlriError, pull_flows, pull_paths, pull_prefixes

AFIS = frozenset({AFI_IPV4, AFI_IPV6})
SAFIS = frozenset({SAFI_UNICAST, SAFI_FLOW})

_UNSPECIFIED = bytes(16)


class Routes(NamedTuple):
    """An NLRI field: the wire octets of each route, and its path identifiers where they are in use (RFC 7911 §3)."""

    nlri: list[bytes]
    path_ids: list[int] | None = None


NO_ROUTES = Routes([])


class FamilyError(NotificationError):
    """The family and the extent of the attribute are right, its routes cannot be told.

    RFC 7606 §5.3, §7.11: session reset, or "AFI/SAFI disable" where the session has other families.
    """

    def __init__(self, family: Family, attribute: int, reason: str, octets: bytes) -> None:
        code, subcode = ErrorCode.UPDATE_MESSAGE, UpdateSubcode.OPTIONAL_ATTRIBUTE
        super().__init__(code, subcode, octets, reason, octets, attribute)
        self.family = family


@dataclass(slots=True)
class MpReach:
    """``next_hop``: None of flow specifications. ``occupied``: there are routes, even if they are not for us to use."""

    family: Family
    next_hop: bytes | None
    routes: Routes
    occupied: bool


def find_attribute(
    block: bytes, items: Sequence[RawAttribute], code: AttributeCode, overrun: RawAttribute | None
) -> RawAttribute | None:
    """The attribute ``code`` among ``items``, its length and flags checked; ``overrun``: what ran past the block.

    Raises NotificationError 3/1 for a second one, 3/9 for a malformed one.
    """
    found = [item for item in items if item[1] == code]
    if overrun is not None and overrun[1] == code:
        found.append(overrun)
    if not found:
        return None
    if len(found) > 1:
        # RFC 7606 §3 g
        octets = block[found[1][2] : found[1][4]]
        reason = f"{code.name} came twice"
        subcode = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
        raise NotificationError(ErrorCode.UPDATE_MESSAGE, subcode, b"", reason, octets, code)
    flags, _, _, start, end = item = found[0]
    if item is overrun:
        # RFC 7606 §3 j: its routes cannot be told
        raise _fault(block, item, "runs past the attributes")
    if (flags ^ OPTIONAL) & (OPTIONAL | TRANSITIVE):
        raise _fault(block, item, f"flags 0x{flags:02x}")
    if end - start < (5 if code == AttributeCode.MP_REACH_NLRI else 3):
        raise _fault(block, item, f"length {end - start}")
    return item


def _fault(block: bytes, item: RawAttribute, reason: str) -> NotificationError:
    octets = block[item[2] : item[4]]
    text = f"{AttributeCode(item[1]).name}: {reason}"
    return NotificationError(ErrorCode.UPDATE_MESSAGE, UpdateSubcode.OPTIONAL_ATTRIBUTE, octets, text, octets, item[1])


def _family_fault(block: bytes, item: RawAttribute, reason: str) -> FamilyError:
    family = family_of(block, item)
    text = f"{AttributeCode(item[1]).name} of {family}: {reason}"
    return FamilyError(family, item[1], text, block[item[2] : item[4]])


def family_of(block: bytes, item: RawAttribute) -> Family:
    start = item[3]
    return Family(block[start] << 8 | block[start + 1], block[start + 2])


def pull_unreach(block: bytes, item: RawAttribute, *, add_path: bool) -> Routes:
    """RFC 4760 §4. Raises FamilyError."""
    return _pull_routes(block, item, item[3] + 3, add_path)


def pull_reach(block: bytes, item: RawAttribute, *, usable: bool, extended_next_hop: bool, add_path: bool) -> MpReach:
    """RFC 4760 §3: family, next hop with its length octet, a reserved octet, routes.

    Of a family that is not ``usable`` only the family is read. Raises FamilyError.
    """
    _, _, _, start, end = item
    family = family_of(block, item)
    length = block[start + 3]
    routes_start = start + 4 + length + 1
    occupied = routes_start != end
    if not usable:
        return MpReach(family, None, NO_ROUTES, occupied)
    if routes_start > end:
        raise _family_fault(block, item, f"next hop of {length} octets")
    next_hop: bytes | None = block[start + 4 : start + 4 + length]
    if family.safi == SAFI_FLOW:
        next_hop = None  # RFC 8955 §4: ignored on receipt
    elif length not in _next_hop_lengths(family, extended_next_hop):
        # RFC 7606 §7.11
        raise _family_fault(block, item, f"next hop of {length} octets")
    elif length == 32:
        next_hop = _two_next_hops(block[start + 4 : start + 20], block[start + 20 : start + 36])
    return MpReach(family, next_hop, _pull_routes(block, item, routes_start, add_path), occupied)


def _pull_routes(block: bytes, item: RawAttribute, start: int, add_path: bool) -> Routes:
    family = family_of(block, item)
    octets = block[start : item[4]]
    try:
        if family.safi == SAFI_FLOW:
            return Routes(pull_flows(octets))
        if add_path:
            return Routes(*pull_paths(octets, family.afi))
        return Routes(pull_prefixes(octets, family.afi))
    except NlriError as error:
        raise _family_fault(block, item, str(error)) from error


def _next_hop_lengths(family: Family, extended_next_hop: bool) -> tuple[int, ...]:
    """RFC 2545 §3, RFC 8950 §3."""
    if family.afi == AFI_IPV6:
        return (16, 32)
    return (4, 16, 32) if extended_next_hop else (4,)


def _two_next_hops(first: bytes, second: bytes) -> bytes:
    """RFC 2545 §3: a global address, then a link-local one.

    A speaker without a global address has other ways to fill the first half (``::``, or the link-local address once
    more): then the link-local address alone is meant. A second half that is not link-local says nothing.
    """
    if not _is_link_local(second):
        return first
    return second if first == _UNSPECIFIED or _is_link_local(first) else first + second


def _is_link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
