"""From a route as we have it to the attributes that one peer is sent.

RFC 4271 §5 and §9.1.3, RFC 1997, RFC 2545, RFC 4456 (route reflection), RFC 5065 (confederation segments stay within),
RFC 7999, RFC 8212, RFC 8326, RFC 8950, RFC 9234.

Two kinds of routes are told apart everywhere: those we originate (``learned_from`` None) and those we pass on.
The well-known communities bind who *received* a route (RFC 1997), so one that is configured on a route of ours is
for the peer and does not keep us from sending it. Nor does RFC 8212 concern our own: that a peer's configuration takes
their source is the explicit policy.

The order: what the RFCs forbid or demand (``prepare``), then the export policy, then what is the session's own and no
policy's business (``finish``): next hop, our AS in the path, no LOCAL_PREF to external peers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, SAFI_FLOW, SAFI_UNICAST, Family
from bgpbfd.policy.policy import Facts, Policy
from bgpbfd.rib.select import DEFAULT_LOCAL_PREF, PeerInfo
from bgpbfd.wire.as_path import CONFED_KINDS, Segment, prepend
from bgpbfd.wire.attributes import PARTIAL, TRANSITIVE, PathAttributes, UnknownAttribute
from bgpbfd.wire.iana import BgpRole, WellKnownCommunity

GRACEFUL_SHUTDOWN = int(WellKnownCommunity.GRACEFUL_SHUTDOWN)
BLACKHOLE = int(WellKnownCommunity.BLACKHOLE)
NO_EXPORT = int(WellKnownCommunity.NO_EXPORT)
NO_ADVERTISE = int(WellKnownCommunity.NO_ADVERTISE)
NO_EXPORT_SUBCONFED = int(WellKnownCommunity.NO_EXPORT_SUBCONFED)

# RFC 1997, RFC 7999 §3.2. NO_EXPORT_SUBCONFED: not to external peers, those of other member ASes included.
_NOT_TO_EXTERNAL = {
    NO_EXPORT: "NO_EXPORT",
    NO_EXPORT_SUBCONFED: "NO_EXPORT_SUBCONFED",
    BLACKHOLE: "BLACKHOLE (RFC 7999)",
}
# RFC 9234 §5, by our own role: whom a route that is only for customers must not go to, and whom it is marked for.
_OTC_FORBIDS = frozenset({BgpRole.CUSTOMER, BgpRole.PEER, BgpRole.RS_CLIENT})
_OTC_ADDED = frozenset({BgpRole.PROVIDER, BgpRole.PEER, BgpRole.RS})

_EXTENDED_NON_TRANSITIVE = 0x40  # RFC 4360 §2, in the type octet
_NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True, frozen=True)
class ExportContext:
    """What of one session shapes the routes that are sent over it. Addresses are packed.

    ``local_ipv4``/``local_ipv6``: our addresses towards the peer, None where there is none of that family.
    ``local_link_local``: ours on the subnet that we share with the peer; None when we share none (RFC 2545 §3).
    ``families``: those negotiated. ``next_hop_self``: routes passed on to an internal peer get our address.
    ``router_id``: ours; ``remote_router_id``: the peer's. ``policy``: the export policy. ``extended_next_hop``: RFC
    8950 is in force for IPv4 unicast. ``role``: ours towards this peer. ``cluster_id``: 4 octets; empty: our router id
    (RFC 4456 §7). ``graceful_shutdown``: the session is about to be taken down (RFC 8326).
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
    remote_router_id: int = 0
    policy: Policy | None = None
    extended_next_hop: bool = False
    role: BgpRole | None = None
    route_reflector_client: bool = False
    cluster_id: bytes = b""
    graceful_shutdown: bool = False


class Exported(NamedTuple):
    """``result``: the attributes as the peer is sent them, or why it cannot have the route (for people, one clause).

    ``why``: what the export policy said, accepted or not; None where it was not asked.
    """

    result: PathAttributes | str
    why: str | None


def export(
    attributes: PathAttributes,
    learned_from: PeerInfo | None,
    context: ExportContext,
    family: Family,
    nlri: bytes,
    source: str,
    *,
    validated: bool = False,
) -> Exported:
    """How one route leaves; ``nlri`` (without path identifier) and ``source`` (config, api, service, peer) are the
    policy's to ask for. A learned flow specification must have been found feasible (RFC 8955 §6).
    """
    prepared = prepare(attributes, learned_from, context, family, validated=validated)
    if isinstance(prepared, str):
        return Exported(prepared, None)
    if context.policy is None:
        return Exported(finish(prepared, prepared, learned_from, context, family), None)
    verdict = context.policy.evaluate(prepared, family, nlri, facts(source, learned_from, context))
    if not verdict.accepted:
        return Exported(verdict.reason, verdict.reason)
    return Exported(finish(verdict.attributes, prepared, learned_from, context, family), verdict.reason)


def facts(source: str, learned_from: PeerInfo | None, context: ExportContext) -> Facts:
    """What the export policy is told beside the attributes and the prefix."""
    return Facts(source, _NOBODY if learned_from is None else learned_from.names, context.local_asn)


def prepare(
    attributes: PathAttributes,
    learned_from: PeerInfo | None,
    context: ExportContext,
    family: Family,
    *,
    validated: bool = False,
) -> PathAttributes | str:
    """The attributes as the export policy gets to see them, or why no policy can let the route out."""
    if family not in context.families:
        return f"{family} was not negotiated with this peer"
    sent = attributes
    if learned_from is not None:
        if family.safi == SAFI_FLOW and not validated:
            return "a learned flow specification is not passed on, as it has not been validated (RFC 8955 §6)"
        refusal = _may_not_pass_on(attributes, learned_from, context)
        if refusal is not None:
            return refusal
        sent = _passed_on(attributes, learned_from, context)
    if context.role is not None and context.external and family.safi == SAFI_UNICAST:
        if sent.only_to_customer is None:
            if context.role in _OTC_ADDED:
                sent = replace(sent, only_to_customer=context.local_asn)
        elif context.role in _OTC_FORBIDS:
            return "carries ONLY_TO_CUSTOMER, and the peer is no customer (RFC 9234 §5)"
    if learned_from is not None:
        if not learned_from.eligible:
            return "no import_policy on the external peer it came from (RFC 8212)"
        if context.external and context.policy is None:
            return "no export_policy towards this external peer (RFC 8212)"
    return sent


def finish(
    attributes: PathAttributes,
    prepared: PathAttributes,
    learned_from: PeerInfo | None,
    context: ExportContext,
    family: Family,
) -> PathAttributes | str:
    """``attributes``, which the export policy made of ``prepared``, as they go out; or why they cannot."""
    next_hop: bytes | None = None  # flow specifications carry none
    if family in {IPV4_UNICAST, IPV6_UNICAST}:
        # The same octets in another object were set by the policy: configured, like those of a route of ours.
        if learned_from is None or attributes.next_hop is not prepared.next_hop:
            found = _configured_next_hop(attributes.next_hop, context, family)
        else:
            found = _learned_next_hop(attributes.next_hop, learned_from, context, family)
        if isinstance(found, str):
            return found
        next_hop = found
    communities, preference = attributes.communities, attributes.local_pref
    if context.graceful_shutdown:
        # RFC 8326 §4: marked for who is outside, and of the lowest preference within our AS.
        if GRACEFUL_SHUTDOWN not in communities:
            communities = (*communities, GRACEFUL_SHUTDOWN)
        preference = 0
    if context.external:
        return replace(
            attributes,
            next_hop=next_hop,
            as_path=prepend((context.local_asn,), _without_confederations(attributes.as_path)),
            communities=communities,
            local_pref=None,  # RFC 4271 §5.1.5: MUST NOT be sent to external peers
            originator_id=None,  # RFC 4456 §8: both are of the local AS only
            cluster_list=(),
        )
    # RFC 4271 §5.1.5: LOCAL_PREF SHALL be there for internal peers.
    preference = DEFAULT_LOCAL_PREF if preference is None else preference
    return replace(attributes, next_hop=next_hop, communities=communities, local_pref=preference)


def _without_confederations(as_path: tuple[Segment, ...]) -> tuple[Segment, ...]:
    # RFC 5065 §5: outside of the confederation they are an error
    if any(segment.kind in CONFED_KINDS for segment in as_path):
        return tuple(segment for segment in as_path if segment.kind not in CONFED_KINDS)
    return as_path


# -- passing on --------------------------------------------------------------------------------------------


def _may_not_pass_on(attributes: PathAttributes, origin: PeerInfo, context: ExportContext) -> str | None:
    if (origin.address, origin.scope_id) == (context.remote_address, context.remote_scope_id):
        return "learned from this peer"
    if not context.external and attributes.originator_id == context.remote_router_id.to_bytes(4):
        # RFC 4456 §8: it would be ignored there. Outside of our AS the same router id is another router's (RFC 6286).
        return "began at this peer (its router id is the ORIGINATOR_ID)"
    if NO_ADVERTISE in attributes.communities:
        return "carries NO_ADVERTISE"
    if context.external:
        for community, name in _NOT_TO_EXTERNAL.items():
            if community in attributes.communities:
                return f"carries {name}, and the peer is external"
    elif not (origin.external or origin.route_reflector_client or context.route_reflector_client):
        # RFC 4456 §6: only to or from a client do we reflect
        return "learned from an internal peer, and internal peers tell each other (RFC 4271 §9.2)"
    return None


def _passed_on(sent: PathAttributes, origin: PeerInfo, context: ExportContext) -> PathAttributes:
    # RFC 4271 §5 and §9: unrecognised attributes go on only when transitive, marked Partial.
    unknown = tuple(
        UnknownAttribute(flags | PARTIAL, code, value) for flags, code, value in sent.unknown if flags & TRANSITIVE
    )
    if unknown != sent.unknown:
        sent = replace(sent, unknown=unknown)
    if not context.external:
        if origin.external:
            return sent
        # RFC 4456 §8; what the route itself says is not touched (§10).
        return replace(
            sent,
            originator_id=origin.router_id.to_bytes(4) if sent.originator_id is None else sent.originator_id,
            cluster_list=(context.cluster_id or context.router_id.to_bytes(4), *sent.cluster_list),
        )
    # RFC 4360 §6, RFC 5701 §2: non-transitive communities stay within the AS.
    return replace(
        sent,
        med=None,  # RFC 4271 §5.1.4: a received MED MUST NOT be propagated to other neighboring ASes
        extended_communities=_transitive(sent.extended_communities),
        ipv6_extended_communities=_transitive(sent.ipv6_extended_communities),
    )


def _transitive(communities: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(community for community in communities if not community[0] & _EXTENDED_NON_TRANSITIVE)


# -- next hops ---------------------------------------------------------------------------------------------


def _learned_next_hop(
    given: bytes | None, learned_from: PeerInfo, context: ExportContext, family: Family
) -> bytes | str:
    # RFC 4456 §10: next_hop_self is for what comes from outside; what is reflected keeps its next hop.
    reflected = not learned_from.external
    if context.external or not given or (context.next_hop_self and not reflected):
        return _self(context, family)
    # RFC 4271 §5.1.3 1: passed on to internal peers unchanged. A link-local half was for our own link (RFC 2545 §3).
    kept = given[:16]
    if _is_link_local(kept) or not any(kept):
        return _self(context, family)
    if kept == context.remote_address:
        if reflected:
            return "its next hop is this peer"
        return _self(context, family)  # a peer that is its own next hop would route in circles
    return _unfit(kept, context, family) or kept


def _configured_next_hop(given: bytes | None, context: ExportContext, family: Family) -> bytes | str:
    if given is None:
        return _self(context, family)
    if context.remote_address in {given[:16], given[16:]}:
        return "next hop is the peer's own address (RFC 4271 §5.1.3)"
    if (unfit := _unfit(given, context, family)) is not None:
        return unfit
    if context.local_link_local is None and (len(given) == 32 or _is_link_local(given)):
        return "a link-local next hop needs a subnet shared with the peer (RFC 2545 §3)"
    return given


def _unfit(next_hop: bytes, context: ExportContext, family: Family) -> str | None:
    if family == IPV6_UNICAST:
        return None if len(next_hop) in {16, 32} else "an IPv6 prefix needs an IPv6 next hop"
    if len(next_hop) != 4 and not context.extended_next_hop:
        return "an IPv6 next hop for an IPv4 prefix needs extended next hop (RFC 8950)"
    return None


def _self(context: ExportContext, family: Family) -> bytes | str:
    if family == IPV6_UNICAST:
        return _self_ipv6(context)
    if context.extended_next_hop and len(context.remote_address) == 16:
        # RFC 8950: over IPv6 the session's own address, which works whether or not the link has any IPv4, or the same
        # IPv4 subnet at both ends. BIRD and FRR do the same.
        found = _self_ipv6(context)
        if isinstance(found, bytes):
            return found
    if context.local_ipv4 is None:
        return "no local IPv4 address to use as next hop towards this peer"
    return context.local_ipv4


def _self_ipv6(context: ExportContext) -> bytes | str:
    link_local, unicast = context.local_link_local, context.local_ipv6
    if unicast is not None and _is_link_local(unicast):
        link_local, unicast = link_local or unicast, None
    if unicast is None:
        if link_local is None:
            return "no local IPv6 address to use as next hop towards this peer"
        # RFC 2545 §3 wants a global address first; where there is none, the link-local one stands in its place, as FRR
        # sends it. Of the forms in use it is the one that BIRD, FRR, GoBGP and OpenBGPD were all seen to take: after
        # "::" it is no next hop for GoBGP, and alone, in 16 octets, it is for those who agreed on it (capability 77).
        return link_local + link_local
    return unicast if link_local is None else unicast + link_local


def _is_link_local(address: bytes) -> bool:
    return len(address) >= 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
