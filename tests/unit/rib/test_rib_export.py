"""The attributes that leave, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export_bench import (
    EBGP,
    FROM_EBGP,
    FROM_IBGP,
    IBGP,
    LEARNED,
    NLRI,
    OUR_LL,
    OUR_V4,
    OUR_V6,
    PEER_V4,
    PEER_V6,
    THIRD_V4,
    exported,
    refused,
    sent,
    sequence,
)

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.rib.export import NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED, ExportContext, export
from bgpbfd.wire.as_path import prepend
from bgpbfd.wire.attributes import PathAttributes, Segment, UnknownAttribute
from bgpbfd.wire.iana import Origin, SegmentType

# -- our own routes ----------------------------------------------------------------------------------------


def test_rfc4271_5_1_own_route_to_an_external_peer() -> None:
    own = PathAttributes(med=50, local_pref=200, communities=(NO_EXPORT,))
    assert sent(own, EBGP) == PathAttributes(
        as_path=sequence(65010), next_hop=OUR_V4, med=50, local_pref=None, communities=(NO_EXPORT,)
    )


def test_rfc4271_5_1_own_route_to_an_internal_peer() -> None:
    assert sent(PathAttributes(med=50), IBGP) == PathAttributes(next_hop=OUR_V4, med=50, local_pref=100)
    assert sent(PathAttributes(local_pref=7), IBGP).local_pref == 7


def test_rfc4271_5_1_2_a_configured_path_stays_behind_our_as() -> None:
    own = PathAttributes(as_path=(*sequence(65000, 500), Segment(SegmentType.AS_SET, (1, 2))))
    assert sent(own, EBGP).as_path == (*sequence(65010, 65000, 500), Segment(SegmentType.AS_SET, (1, 2)))
    assert sent(own, IBGP).as_path == own.as_path


def test_rfc4271_5_1_2_prepend_opens_a_new_segment_where_the_first_is_full_or_no_sequence() -> None:
    full = sequence(*range(1, 256))
    assert prepend((9,), full) == (*sequence(9), *full)
    assert prepend((9,), sequence(*range(1, 255))) == sequence(9, *range(1, 255))
    a_set = (Segment(SegmentType.AS_SET, (1, 2)),)
    assert prepend((9,), a_set) == (*sequence(9), *a_set)


@pytest.mark.parametrize("community", [NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED])
@pytest.mark.parametrize("context", [EBGP, IBGP])
def test_rfc1997_well_known_communities_on_our_own_routes_are_for_the_peer(
    community: int, context: ExportContext
) -> None:
    assert sent(PathAttributes(communities=(community,)), context).communities == (community,)


def test_rfc4271_5_1_3_never_the_peers_own_address_as_next_hop() -> None:
    assert "peer's own" in refused(PathAttributes(next_hop=PEER_V4), EBGP)
    assert "peer's own" in refused(PathAttributes(next_hop=PEER_V4), IBGP)
    over_v6 = replace(EBGP, remote_address=PEER_V6)
    assert "peer's own" in refused(PathAttributes(next_hop=PEER_V6 + OUR_LL), over_v6, family=IPV6_UNICAST)


def test_a_configured_next_hop_is_sent_as_it_is() -> None:
    assert sent(PathAttributes(next_hop=THIRD_V4), EBGP).next_hop == THIRD_V4
    assert sent(PathAttributes(next_hop=THIRD_V4), replace(IBGP, next_hop_self=True)).next_hop == THIRD_V4
    assert sent(PathAttributes(next_hop=PEER_V6), EBGP, family=IPV6_UNICAST).next_hop == PEER_V6


def test_next_hop_of_the_other_family_is_refused() -> None:
    assert "RFC 8950" in refused(PathAttributes(next_hop=OUR_V6), EBGP)
    assert "IPv6 next hop" in refused(PathAttributes(next_hop=OUR_V4), EBGP, family=IPV6_UNICAST)


def test_self_needs_an_address_of_the_family() -> None:
    bare = replace(EBGP, local_ipv4=None, local_ipv6=None)
    assert "IPv4" in refused(PathAttributes(), bare)
    assert "IPv6" in refused(PathAttributes(), bare, family=IPV6_UNICAST)
    assert sent(PathAttributes(), EBGP, family=IPV6_UNICAST).next_hop == OUR_V6


def test_rfc2545_3_the_link_local_half_only_on_a_shared_subnet() -> None:
    assert sent(PathAttributes(), EBGP, family=IPV6_UNICAST).next_hop == OUR_V6
    shared = replace(EBGP, local_link_local=OUR_LL)
    assert sent(PathAttributes(), shared, family=IPV6_UNICAST).next_hop == OUR_V6 + OUR_LL
    assert "shared" in refused(PathAttributes(next_hop=OUR_LL), EBGP, family=IPV6_UNICAST)
    assert "shared" in refused(PathAttributes(next_hop=PEER_V6 + OUR_LL), EBGP, family=IPV6_UNICAST)
    only = replace(shared, local_ipv6=None)
    assert sent(PathAttributes(), only, family=IPV6_UNICAST).next_hop == OUR_LL * 2
    assert sent(PathAttributes(), shared).next_hop == OUR_V4  # nothing of it in an IPv4 route


def test_a_family_that_was_not_negotiated_is_refused() -> None:
    only_v4 = replace(EBGP, families=frozenset({IPV4_UNICAST}))
    assert "not negotiated" in refused(PathAttributes(), only_v4, family=IPV6_UNICAST)


def test_rfc8955_4_flow_specifications_have_no_next_hop() -> None:
    bare = replace(EBGP, local_ipv4=None)
    assert sent(PathAttributes(next_hop=None), bare, family=IPV4_FLOW).next_hop is None


def test_rfc8955_6_a_learned_flow_specification_that_nobody_validated_is_not_passed_on() -> None:
    context = replace(EBGP, families=EBGP.families | {IPV4_FLOW})
    assert "validated" in refused(LEARNED, context, FROM_EBGP, family=IPV4_FLOW)
    found = export(LEARNED, FROM_EBGP, context, IPV4_FLOW, NLRI, "peer", validated=True).result
    assert isinstance(found, PathAttributes)
    assert (found.next_hop, found.as_path) == (None, sequence(65010, 65002, 7))


# -- routes passed on --------------------------------------------------------------------------------------


def test_rfc4271_9_1_3_learned_route_to_another_external_peer() -> None:
    assert sent(LEARNED, EBGP, FROM_EBGP) == PathAttributes(
        as_path=sequence(65010, 65002, 7),
        next_hop=OUR_V4,
        med=None,  # §5.1.4
        origin=Origin.EGP,
        communities=(0xFDE90001,),
    )


def test_rfc4271_9_1_3_learned_route_to_an_internal_peer() -> None:
    assert sent(LEARNED, IBGP, FROM_EBGP) == replace(LEARNED, local_pref=100)
    assert sent(LEARNED, replace(IBGP, next_hop_self=True), FROM_EBGP).next_hop == OUR_V4


def test_rfc4271_9_2_internal_routes_are_not_told_to_internal_peers() -> None:
    assert "internal" in refused(LEARNED, IBGP, FROM_IBGP)
    assert sent(LEARNED, EBGP, FROM_IBGP).as_path == sequence(65010, 65002, 7)


def test_never_back_to_where_it_came_from() -> None:
    assert "this peer" in refused(LEARNED, EBGP, replace(FROM_EBGP, address=PEER_V4))


@pytest.mark.parametrize(
    ("community", "to_external", "to_internal"),
    [(NO_EXPORT, False, True), (NO_EXPORT_SUBCONFED, False, True), (NO_ADVERTISE, False, False)],
)
def test_rfc1997_well_known_communities_on_learned_routes(community: int, to_external: bool, to_internal: bool) -> None:
    route = replace(LEARNED, communities=(1, community))
    assert isinstance(exported(route, EBGP, FROM_EBGP).result, PathAttributes) is to_external
    assert isinstance(exported(route, IBGP, FROM_EBGP).result, PathAttributes) is to_internal


def test_rfc4456_8_reflection_attributes_never_leave_the_as() -> None:
    route = replace(LEARNED, originator_id=b"\1\1\1\1", cluster_list=(b"\2\2\2\2",), local_pref=300)
    out = sent(route, EBGP, FROM_IBGP)
    assert (out.originator_id, out.cluster_list, out.local_pref) == (None, (), None)
    own = sent(replace(route, next_hop=None), EBGP)
    assert (own.originator_id, own.cluster_list, own.local_pref) == (None, (), None)


def test_rfc4271_5_unknown_attributes_pass_only_if_transitive_and_then_partial() -> None:
    route = replace(LEARNED, unknown=(UnknownAttribute(0xC0, 99, b"x"), UnknownAttribute(0x80, 26, b"y")))
    for context in (EBGP, IBGP):
        assert sent(route, context, FROM_EBGP).unknown == (UnknownAttribute(0xE0, 99, b"x"),)


def test_rfc4360_6_non_transitive_extended_communities_stay_in_the_as() -> None:
    target, bandwidth = bytes.fromhex("0002fde900000001"), bytes.fromhex("4004fde94b18967f")
    route = replace(LEARNED, extended_communities=(target, bandwidth))
    assert sent(route, EBGP, FROM_EBGP).extended_communities == (target,)
    assert sent(route, IBGP, FROM_EBGP).extended_communities == (target, bandwidth)


def test_rfc4271_5_1_3_an_internal_peer_is_never_its_own_next_hop() -> None:
    assert sent(replace(LEARNED, next_hop=PEER_V4), IBGP, FROM_EBGP).next_hop == OUR_V4


def test_rfc2545_3_a_received_link_local_half_is_not_passed_on() -> None:
    v6 = bytes.fromhex("20010db8000000000000000000000077")
    route = replace(LEARNED, next_hop=v6 + OUR_LL)
    assert sent(route, IBGP, FROM_EBGP, IPV6_UNICAST).next_hop == v6
    for useless in (OUR_LL, bytes(16) + OUR_LL):
        assert sent(replace(LEARNED, next_hop=useless), IBGP, FROM_EBGP, IPV6_UNICAST).next_hop == OUR_V6
