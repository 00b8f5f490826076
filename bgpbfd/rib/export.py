"""From a route as we have it to the attributes that one peer is sent.

RFC 4271 §5 and §9.1.3, RFC 1997, RFC 2545, RFC 4456.

Two kinds of routes are told apart everywhere: those we originate (``learned_from`` None) and those we pass on.
The well-known communities bind who *received* a route (RFC 1997), so one that is configured on a route of ours is
for the peer and does not keep us from sending it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, SAFI_FLOW, Family
from bgpbfd.rib.select import DEFAULT_LOCAL_PREF, PeerInfo
from bgpbfd.wire.attributes import PathAttributes, Segment, UnknownAttribute
from bgpbfd.wire.iana import SegmentType

NO_EXPORT = 0xFFFFFF01
NO_ADVERTISE = 0xFFFFFF02
NO_EXPORT_SUBCONFED = 0xFFFFFF03

_LONGEST_SEGMENT = 255  # RFC 4271 §4.3: its count is one octet
_FLAG_TRANSITIVE = 0x40
_FLAG_PARTIAL = 0x20
_EXTENDED_NON_TRANSITIVE = 0x40  # RFC 4360 §2, in the type octet


@dataclass(slots=True, frozen=True)
class ExportContext:
    """What of one session shapes the routes that are sent over it. Addresses are packed.

    ``local_ipv4``/``local_ipv6``: our addresses towards the peer, None where there is none of that family.
    ``local_link_local``: ours on the subnet that we share with the peer; None when we share none (RFC 2545 §3).
    ``families``: those negotiated. ``next_hop_self``: routes passed on to an internal peer get our address.
    """

    local_asn: int
    remote_asn: int
    external: bool
    families: frozenset[Family]
    local_ipv4: bytes | None
    local_ipv6: bytes | None
    local_link_local: bytes | None
    remote_address: bytes
    next_hop_self: bool = False
    router_id: int = 0
    remote_scope_id: int = 0  # the interface of a link-local ``remote_address``


def export(
    attributes: PathAttributes, learned_from: PeerInfo | None, context: ExportContext, family: Family
) -> PathAttributes | str:
    """The attributes as this peer is sent them, or why it cannot have the route (for people, one clause)."""
    if family not in context.families:
        return f"{family} was not negotiated with this peer"
    if learned_from is not None:
        if family.safi == SAFI_FLOW:
            return "a learned flow specification is not passed on, as it has not been validated (RFC 8955 §6)"
        refusal = _may_not_pass_on(attributes, learned_from, context)
        if refusal is not None:
            return refusal
    next_hop: bytes | None = None  # flow specifications carry none
    if family in {IPV4_UNICAST, IPV6_UNICAST}:
        found = _next_hop(attributes.next_hop, learned_from, context, family)
        if isinstance(found, str):
            return found
        next_hop = found
    sent = attributes if learned_from is None else _passed_on(attributes, context)
    if context.external:
        return replace(
            sent,
            next_hop=next_hop,
            as_path=prepend(context.local_asn, sent.as_path),
            local_pref=None,  # RFC 4271 §5.1.5: MUST NOT be sent to external peers
            originator_id=None,  # RFC 4456 §8: both are of the local AS only
            cluster_list=(),
        )
    # RFC 4271 §5.1.5: LOCAL_PREF SHALL be there for internal peers.
    preference = DEFAULT_LOCAL_PREF if sent.local_pref is None else sent.local_pref
    return replace(sent, next_hop=next_hop, local_pref=preference)


def prepend(asn: int, as_path: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """RFC 4271 §5.1.2 b: into a leading AS_SEQUENCE with room, else as a new one."""
    if as_path and as_path[0].kind == SegmentType.AS_SEQUENCE and len(as_path[0].asns) < _LONGEST_SEGMENT:
        return (Segment(SegmentType.AS_SEQUENCE, (asn, *as_path[0].asns)), *as_path[1:])
    return (Segment(SegmentType.AS_SEQUENCE, (asn,)), *as_path)


def _may_not_pass_on(attributes: PathAttributes, origin: PeerInfo, context: ExportContext) -> str | None:
    if (origin.address, origin.scope_id) == (context.remote_address, context.remote_scope_id):
        return "learned from this peer"
    if NO_ADVERTISE in attributes.communities:
        return "carries NO_ADVERTISE"
    if context.external:
        if NO_EXPORT in attributes.communities:
            return "carries NO_EXPORT, and the peer is external"
        # RFC 1997: not to external peers, those of other member ASes of a confederation included.
        if NO_EXPORT_SUBCONFED in attributes.communities:
            return "carries NO_EXPORT_SUBCONFED, and the peer is external"
    elif not origin.external:
        return "learned from an internal peer, and internal peers tell each other (RFC 4271 §9.2)"
    return None


def _passed_on(sent: PathAttributes, context: ExportContext) -> PathAttributes:
    # RFC 4271 §5 and §9: unrecognised attributes go on only when transitive, marked Partial.
    unknown = tuple(
        UnknownAttribute(flags | _FLAG_PARTIAL, code, value)
        for flags, code, value in sent.unknown
        if flags & _FLAG_TRANSITIVE
    )
    if unknown != sent.unknown:
        sent = replace(sent, unknown=unknown)
    if not context.external:
        return sent
    # RFC 4360 §6, RFC 5701 §2: non-transitive communities stay within the AS.
    return replace(
        sent,
        med=None,  # RFC 4271 §5.1.4: a received MED MUST NOT be propagated to other neighboring ASes
        extended_communities=_transitive(sent.extended_communities),
        ipv6_extended_communities=_transitive(sent.ipv6_extended_communities),
    )


def _transitive(communities: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(community for community in communities if not community[0] & _EXTENDED_NON_TRANSITIVE)


def _next_hop(
    given: bytes | None, learned_from: PeerInfo | None, context: ExportContext, family: Family
) -> bytes | str:
    if learned_from is not None:
        if context.external or context.next_hop_self or given is None:
            return _self(context, family)
        # RFC 4271 §5.1.3 1: passed on to internal peers unchanged. A link-local half was for our own link
        # (RFC 2545 §3), and a peer that is its own next hop would route in circles.
        kept = given[:16]
        if _is_link_local(kept) or not any(kept) or kept == context.remote_address:
            return _self(context, family)
        return kept
    if given is None:
        return _self(context, family)
    if given[:16] == context.remote_address:
        return "next hop is the peer's own address (RFC 4271 §5.1.3)"
    if family == IPV4_UNICAST and len(given) != 4:
        return "an IPv6 next hop for an IPv4 prefix needs extended next hop (RFC 8950)"
    if family == IPV6_UNICAST and len(given) not in {16, 32}:
        return "an IPv6 prefix needs an IPv6 next hop"
    if context.local_link_local is None and (len(given) == 32 or _is_link_local(given)):
        return "a link-local next hop needs a subnet shared with the peer (RFC 2545 §3)"
    return given


def _self(context: ExportContext, family: Family) -> bytes | str:
    if family == IPV4_UNICAST:
        if context.local_ipv4 is None:
            return "no local IPv4 address to use as next hop towards this peer"
        return context.local_ipv4
    link_local, unicast = context.local_link_local, context.local_ipv6
    if unicast is not None and _is_link_local(unicast):
        link_local, unicast = link_local or unicast, None
    if unicast is None:
        if link_local is None:
            return "no local IPv6 address to use as next hop towards this peer"
        # RFC 2545 §3 wants a global address first; where there is none, the link-local one stands in its place.
        return link_local + link_local
    return unicast if link_local is None else unicast + link_local


def _is_link_local(address: bytes) -> bool:
    return len(address) >= 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
