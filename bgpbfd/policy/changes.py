"""What a term makes of a route's attributes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from bgpbfd.core import SAFI_UNICAST, Family
from bgpbfd.policy.communities import CommunityPattern, CommunitySet
from bgpbfd.policy.memo import Memo, attributes_weight
from bgpbfd.wire.as_path import prepend
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.text import Communities

MAX_PREPEND = 32

_NO_COMMUNITIES = Communities()

Key: TypeAlias = tuple[int, Family, int]


@dataclass(slots=True, frozen=True)
class Changes:
    """In the order of carrying out: communities are removed, set, added; then the path; the rest stands for itself.

    ``set_communities`` replaces what the route has of the same kind: the standard ones, the large ones, and of the
    extended ones each name's (route targets, origins, …). Kinds that are not in it stay. ``next_hops``: packed, at most
    one a family, each for unicast routes of its own. ``prepend_own``: how often our own AS goes before the path.
    """

    local_pref: int | None = None
    med: int | None = None
    clear_med: bool = False
    origin: int | None = None
    next_hop_self: bool = False
    next_hops: tuple[bytes, ...] = ()
    remove_communities: tuple[CommunityPattern, ...] = ()
    set_communities: Communities = _NO_COMMUNITIES
    add_communities: Communities = _NO_COMMUNITIES
    prepend_own: int = 0
    prepend_asns: tuple[int, ...] = ()
    _removed: CommunitySet = field(init=False, compare=False, repr=False)
    _seen: Memo[Key, tuple[PathAttributes, PathAttributes]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_removed", CommunitySet(self.remove_communities))
        object.__setattr__(self, "_seen", Memo())

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self != NOTHING

    def apply(self, attributes: PathAttributes, family: Family, local_asn: int) -> PathAttributes:
        """The changed attributes; the same object where nothing changes, and one object for one that comes again.

        Routes that share their attributes share them afterwards, too.
        """
        # By identity: hashing all the attributes of every route costs more than the change. The entry keeps its
        # key's object alive, so its id is not another's.
        key = (id(attributes), family, local_asn)
        known = self._seen.get(key)
        if known is not None:
            return known[1]
        changed = replace(attributes, **self._values(attributes, family, local_asn))
        # A next hop that was set is another object even if the octets are the same: so the export rules can tell it
        # from one that was learned.
        if changed.next_hop is attributes.next_hop and changed == attributes:
            changed = attributes
        weight = attributes_weight(attributes) + (attributes_weight(changed) if changed is not attributes else 0)
        return self._seen.keep(key, (attributes, changed), weight)[1]

    def _values(self, attributes: PathAttributes, family: Family, local_asn: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if self.local_pref is not None:
            values["local_pref"] = self.local_pref
        if self.med is not None or self.clear_med:
            values["med"] = self.med
        if self.origin is not None:
            values["origin"] = self.origin
        if family.safi == SAFI_UNICAST:  # RFC 8955 §4: a flow specification has no next hop
            if self.next_hop_self:
                values["next_hop"] = None
            length = 4 if family.afi == 1 else 16
            values.update(("next_hop", packed) for packed in self.next_hops if len(packed) == length)
        if self.prepend_own or self.prepend_asns:
            values["as_path"] = prepend((local_asn,) * self.prepend_own + self.prepend_asns, attributes.as_path)
        if self.remove_communities or any(self.set_communities) or any(self.add_communities):
            values.update(self._communities(attributes))
        return values

    def _communities(self, attributes: PathAttributes) -> dict[str, Any]:
        removed, fixed, added = self._removed, self.set_communities, self.add_communities
        standard = [] if fixed.standard else [c for c in attributes.communities if not removed.has_standard(c)]
        large = [] if fixed.large else [c for c in attributes.large_communities if not removed.has_large(c)]
        names = {_name(octets) for octets in fixed.extended}
        extended = [
            octets
            for octets in attributes.extended_communities
            if _name(octets) not in names and not removed.has_extended(octets)
        ]
        ipv6_names = {octets[:2] for octets in fixed.ipv6_extended}
        ipv6_extended = [
            octets
            for octets in attributes.ipv6_extended_communities
            if octets[:2] not in ipv6_names and not removed.has_ipv6_extended(octets)
        ]
        # Each once, RFC 8092 §3; a dict keeps the order
        return {
            "communities": tuple(dict.fromkeys([*standard, *fixed.standard, *added.standard])),
            "large_communities": tuple(dict.fromkeys([*large, *fixed.large, *added.large])),
            "extended_communities": tuple(dict.fromkeys([*extended, *fixed.extended, *added.extended])),
            "ipv6_extended_communities": tuple(
                dict.fromkeys([*ipv6_extended, *fixed.ipv6_extended, *added.ipv6_extended])
            ),
        }


NOTHING = Changes()


def _name(octets: bytes) -> tuple[int, int]:
    """Extended communities of one name: the forms of the administrator (RFC 7153 §5) are one."""
    kind, subtype = octets[0], octets[1]
    return (0 if kind in {0x00, 0x01, 0x02} else kind), subtype
