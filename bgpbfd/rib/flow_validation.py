"""Whether a learned flow specification is feasible (RFC 8955 §6, RFC 9117 §4, RFC 8956 §5).

A rule acts on traffic towards its destination, so only who is in the path of that traffic may say it:

a. it has a destination prefix; of IPv6, one that begins at bit 0;
b. it comes from where the best unicast route for that prefix comes from, or was made in our own AS;
c. no longer unicast route beneath that prefix comes by another AS.

Learned routes alone count; our own, which no peer could speak for, are not in the table.

Cost: a is nothing, b one lookup a prefix length. For c the possible prefixes beneath a long destination are looked up
one by one; for shorter ones all unicast routes are sorted, once for all rules, and again after they have changed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from bgpbfd.core import AFI_IPV4, IPV4_UNICAST, IPV6_UNICAST, Family
from bgpbfd.rib.select import neighbor_asn
from bgpbfd.rib.table import LearnedRoute, Rib
from bgpbfd.wire.flowspec import ComponentType, FlowspecError, PrefixMatch, decode_nlri
from bgpbfd.wire.iana import SegmentType

LOOKUP_BITS = 9  # so many bits beneath a destination are looked up: 1022 prefixes
SORT_MAX = 1 << 15  # routes that are sorted for c; takes in the order of 0.1 s


class _Index(NamedTuple):
    """The best unicast routes in order of their addresses. ``ends``: where the run of one neighbor AS ends."""

    keys: list[bytes]
    neighbors: list[int]
    ends: list[int]


class FlowValidator:
    """Answers for the rules of one RIB."""

    def __init__(self, rib: Rib) -> None:
        self._rib = rib
        self._indexes: dict[Family, tuple[tuple[int, ...], _Index]] = {}

    def validate_flow(self, route: LearnedRoute) -> str | None:
        """Why the rule is not feasible, None for one that is; holds until unicast routes change.

        Nothing is said of the route's own validity, nor of its peer's eligibility.
        """
        family = IPV4_UNICAST if route.family.afi == AFI_IPV4 else IPV6_UNICAST
        destination = _destination(route)
        if destination is None:
            return "not feasible: the rule has no destination prefix (RFC 8955 §6 a)"
        unicast = self._longest_match(family, destination)
        if not _of_our_own_as(route):
            if unicast is None:
                return "not feasible: there is no unicast route for the rule's destination (RFC 8955 §6 b)"
            if _originator(route) != _originator(unicast):
                return f"not feasible: the unicast route for the rule's destination is {unicast.peer}'s (RFC 8955 §6 b)"
            if route.info.external and _leftmost(route) != _leftmost(unicast):
                return "not feasible: the unicast route for the rule's destination is of another AS (RFC 9117 §4.2)"
        if unicast is None:
            return None
        return self._more_specific(family, destination, neighbor_asn(unicast.received, unicast.info))

    def _longest_match(self, family: Family, destination: bytes) -> LearnedRoute | None:
        """The best route of the longest prefix around ``destination`` that has one."""
        for length in range(destination[0], -1, -1):
            route = self._rib.best(family, _shortened(destination, length))
            if route is not None:
                return route
        return None

    def _more_specific(self, family: Family, destination: bytes, neighbor: int) -> str | None:
        """RFC 8955 §6 c: by any other AS than ``neighbor``."""
        fault = "not feasible: another AS has a longer unicast route under the rule's destination (RFC 8955 §6 c)"
        bits = _BITS[family]
        if bits - destination[0] <= LOOKUP_BITS:
            for nlri in _beneath(destination, bits):
                route = self._rib.best(family, nlri)
                if route is not None and neighbor_asn(route.received, route.info) != neighbor:
                    return fault
            return None
        if self._rib.total(family) > SORT_MAX:
            # DEVIATES RFC 8955 §6 c: with each change of a large table, a peer could make us sort it. To call the rule
            # not feasible is the safe side: it is shown, and not passed on.
            return f"not checked: among more than {SORT_MAX} unicast routes (RFC 8955 §6 c)"
        index = self._index(family)
        address = _address(destination, bits)
        first = bisect_right(index.keys, address + destination[:1])
        last = bisect_left(index.keys, _following(address, bits - destination[0]))
        if first < last and (index.neighbors[first] != neighbor or index.ends[first] < last):
            return fault
        return None

    def _index(self, family: Family) -> _Index:
        version = self._rib.version(family)
        known = self._indexes.get(family)
        if known is None or known[0] != version:
            known = self._indexes[family] = (version, self._sorted(family))
        return known[1]

    def _sorted(self, family: Family) -> _Index:
        bits = _BITS[family]
        found = [(_address(nlri, bits) + nlri[:1], neighbor) for nlri, neighbor in self._rib.neighbors(family)]
        found.sort()
        neighbors = [neighbor for _, neighbor in found]
        ends = [len(found)] * len(found)
        for at in range(len(found) - 2, -1, -1):
            ends[at] = ends[at + 1] if neighbors[at] == neighbors[at + 1] else at + 1
        return _Index([key for key, _ in found], neighbors, ends)


_BITS = {IPV4_UNICAST: 32, IPV6_UNICAST: 128}


def _destination(route: LearnedRoute) -> bytes | None:
    """The rule's destination prefix as unicast NLRI."""
    try:
        rule = decode_nlri(route.family.afi, route.nlri)
    except FlowspecError:
        return None  # UPDATEs are decoded with the same function, which lets none in
    for match in rule.matches:
        if isinstance(match, PrefixMatch) and match.kind == ComponentType.DESTINATION_PREFIX:
            # RFC 8956 §5: a pattern that does not begin at bit 0 is no prefix
            return bytes((match.length,)) + match.pattern if match.offset == 0 else None
    return None


def _of_our_own_as(route: LearnedRoute) -> bool:
    """RFC 9117 §4.1 b 2."""
    path = route.received.as_path
    return not route.info.external and all(kind == SegmentType.AS_CONFED_SEQUENCE for kind, _ in path)


def _originator(route: LearnedRoute) -> tuple[bytes, int]:
    """RFC 8955 §6: ORIGINATOR_ID, else the peer's address, which for a link-local one includes its interface."""
    if route.received.originator_id is not None:
        return route.received.originator_id, -1
    return route.info.address, route.info.scope_id


def _leftmost(route: LearnedRoute) -> int | None:
    path = route.received.as_path
    return path[0].asns[0] if path else None


def _address(nlri: bytes, bits: int) -> bytes:
    return nlri[1:].ljust(bits // 8, b"\0")


def _following(address: bytes, host_bits: int) -> bytes:
    """The first address after the prefix; longer than all others where there is none."""
    following = int.from_bytes(address) + (1 << host_bits)
    return b"\xff" * (len(address) + 2) if following >> len(address) * 8 else following.to_bytes(len(address))


def _shortened(nlri: bytes, length: int) -> bytes:
    octets = nlri[1 : 1 + (length + 7) // 8]
    spare = -length % 8
    if spare:
        octets = octets[:-1] + bytes((octets[-1] >> spare << spare,))
    return bytes((length,)) + octets


def _beneath(nlri: bytes, bits: int) -> Iterator[bytes]:
    """Every longer prefix under ``nlri``."""
    address = int.from_bytes(_address(nlri, bits))
    for length in range(nlri[0] + 1, bits + 1):
        for number in range(1 << (length - nlri[0])):
            octets = (address + (number << (bits - length))).to_bytes(bits // 8)
            yield bytes((length,)) + octets[: (length + 7) // 8]
