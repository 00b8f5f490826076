"""What may leave and how, beyond RFC 4271: reflection, roles, no policy, shutdown, confederations, policies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export_bench import (
    EBGP,
    FROM_CLIENT,
    FROM_EBGP,
    FROM_IBGP,
    IBGP,
    LEARNED,
    NLRI,
    OUR_AS,
    OUR_LL,
    OUR_V4,
    OUR_V6,
    PEER_V4,
    THIRD_V4,
    TO_CLIENT,
    exported,
    refused,
    sent,
    sequence,
)
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.match import Match
from bgpbfd.policy.policy import REJECT, Policy, Term
from bgpbfd.rib.export import (
    BLACKHOLE,
    GRACEFUL_SHUTDOWN,
    NO_ADVERTISE,
    NO_EXPORT,
    NO_EXPORT_SUBCONFED,
    ExportContext,
)
from bgpbfd.rib.select import PeerInfo
from bgpbfd.wire.attributes import PathAttributes, Segment, UnknownAttribute, split_attributes
from bgpbfd.wire.iana import BgpRole, SegmentType
from bgpbfd.wire.text import Communities
from bgpbfd.wire.update import UpdateContext, decode_update
from bgpbfd.wire.update_out import encode_announce

INTERNAL = replace(LEARNED, local_pref=300)
THEIR_ID, OUR_ID = b"\0\0\0\x09", b"\0\0\0\x01"


# -- RFC 4456 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "target", "passes"),
    [
        (FROM_IBGP, IBGP, False),
        (FROM_IBGP, TO_CLIENT, True),
        (FROM_CLIENT, IBGP, True),
        (FROM_CLIENT, TO_CLIENT, True),
        (FROM_EBGP, IBGP, True),
        (FROM_EBGP, TO_CLIENT, True),
        (FROM_IBGP, EBGP, True),
        (FROM_CLIENT, EBGP, True),
    ],
)
def test_rfc4456_6_who_is_told(origin: PeerInfo, target: ExportContext, passes: bool) -> None:
    assert isinstance(exported(INTERNAL, target, origin).result, PathAttributes) is passes


def test_rfc4456_8_a_reflected_route_is_marked_with_its_originator_and_our_cluster() -> None:
    out = sent(INTERNAL, TO_CLIENT, FROM_IBGP)
    assert (out.originator_id, out.cluster_list) == (THEIR_ID, (OUR_ID,))
    again = sent(replace(INTERNAL, originator_id=b"\7\7\7\7", cluster_list=(b"\2\2\2\2",)), TO_CLIENT, FROM_IBGP)
    assert (again.originator_id, again.cluster_list) == (b"\7\7\7\7", (OUR_ID, b"\2\2\2\2"))
    named = sent(INTERNAL, replace(TO_CLIENT, cluster_id=b"\0\0\0\x63"), FROM_IBGP)
    assert named.cluster_list == (b"\0\0\0\x63",)


def test_rfc4456_10_reflection_leaves_the_route_alone() -> None:
    route = replace(INTERNAL, next_hop=THIRD_V4)
    out = sent(route, replace(TO_CLIENT, next_hop_self=True), FROM_CLIENT)
    assert replace(out, originator_id=None, cluster_list=()) == route


def test_rfc4456_8_what_comes_from_outside_is_not_reflected_but_told() -> None:
    out = sent(LEARNED, TO_CLIENT, FROM_EBGP)
    assert (out.originator_id, out.cluster_list) == (None, ())
    own = sent(PathAttributes(), TO_CLIENT)
    assert (own.originator_id, own.cluster_list) == (None, ())


def test_rfc4456_8_not_to_the_router_where_the_route_began() -> None:
    route = replace(INTERNAL, originator_id=b"\0\0\0\x05")
    assert "began at this peer" in refused(route, TO_CLIENT, FROM_IBGP)
    assert sent(route, replace(TO_CLIENT, remote_router_id=6), FROM_IBGP).originator_id == b"\0\0\0\x05"


def test_rfc6286_2_1_outside_of_our_as_the_same_router_id_is_another_router() -> None:
    assert sent(replace(INTERNAL, originator_id=b"\0\0\0\x05"), EBGP, FROM_IBGP).originator_id is None


def test_rfc4456_a_reflected_next_hop_is_never_the_peer_itself() -> None:
    assert "next hop is this peer" in refused(replace(INTERNAL, next_hop=PEER_V4), TO_CLIENT, FROM_IBGP)


def test_rfc2545_3_a_reflected_next_hop_loses_its_link_local_half() -> None:
    route = replace(INTERNAL, next_hop=OUR_V6[:15] + b"\x77" + OUR_LL)
    assert sent(route, TO_CLIENT, FROM_IBGP, IPV6_UNICAST).next_hop == OUR_V6[:15] + b"\x77"


# -- RFC 9234 ----------------------------------------------------------------------------------------------

ROLES = {
    # our role: (a route with OTC may go out, OTC is added where there is none)
    BgpRole.PROVIDER: (True, True),
    BgpRole.RS: (True, True),
    BgpRole.PEER: (False, True),
    BgpRole.CUSTOMER: (False, False),
    BgpRole.RS_CLIENT: (False, False),
}


@pytest.mark.parametrize("role", list(BgpRole))
@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_rfc9234_5_egress(role: BgpRole, family: object) -> None:
    context, (passes, added) = replace(EBGP, role=role), ROLES[role]
    assert family in {IPV4_UNICAST, IPV6_UNICAST}
    marked = replace(LEARNED, only_to_customer=64999)
    if passes:
        assert sent(marked, context, FROM_EBGP, family).only_to_customer == 64999  # type: ignore[arg-type]
    else:
        assert "RFC 9234" in refused(marked, context, FROM_EBGP, family)  # type: ignore[arg-type]
    expected = OUR_AS if added else None
    assert sent(LEARNED, context, FROM_IBGP, family).only_to_customer == expected  # type: ignore[arg-type]
    assert sent(PathAttributes(), context, None, family).only_to_customer == expected  # type: ignore[arg-type]


def test_rfc9234_5_unicast_only_and_only_where_there_is_a_role() -> None:
    assert sent(PathAttributes(), replace(EBGP, role=BgpRole.PROVIDER), None, IPV4_FLOW).only_to_customer is None
    assert sent(PathAttributes(), EBGP).only_to_customer is None
    marked = replace(LEARNED, only_to_customer=64999)
    assert sent(marked, EBGP, FROM_EBGP).only_to_customer == 64999  # §5: stays as it is
    assert sent(marked, IBGP, FROM_EBGP).only_to_customer == 64999
    assert sent(PathAttributes(), replace(IBGP, role=BgpRole.PROVIDER)).only_to_customer is None


# -- RFC 8212 ----------------------------------------------------------------------------------------------


def test_rfc8212_2_without_policy_nothing_learned_passes_an_external_session() -> None:
    closed = replace(EBGP, policy=None)
    unfiltered = replace(FROM_EBGP, policy=None)
    assert refused(LEARNED, closed, FROM_EBGP) == "no export_policy towards this external peer (RFC 8212)"
    assert refused(LEARNED, closed, FROM_IBGP) == "no export_policy towards this external peer (RFC 8212)"
    text = "no import_policy on the external peer it came from (RFC 8212)"
    assert refused(LEARNED, EBGP, unfiltered) == text
    assert refused(LEARNED, IBGP, unfiltered) == text


def test_rfc8212_is_not_about_our_own_routes_nor_internal_sessions() -> None:
    assert sent(PathAttributes(), replace(EBGP, policy=None)).as_path == sequence(OUR_AS)
    assert sent(LEARNED, IBGP, FROM_EBGP).as_path == LEARNED.as_path
    assert sent(INTERNAL, TO_CLIENT, FROM_IBGP).as_path == LEARNED.as_path


# -- communities that bind, RFC 1997, RFC 7999 --------------------------------------------------------------


@pytest.mark.parametrize("origin", [FROM_EBGP, FROM_CLIENT])
@pytest.mark.parametrize(
    ("community", "outside", "inside"),
    [
        (NO_EXPORT, False, True),
        (NO_EXPORT_SUBCONFED, False, True),
        (BLACKHOLE, False, True),
        (NO_ADVERTISE, False, False),
        (GRACEFUL_SHUTDOWN, True, True),
    ],
)
def test_rfc1997_rfc7999_3_2_communities_that_bind(
    community: int, outside: bool, inside: bool, origin: PeerInfo
) -> None:
    route = replace(INTERNAL, communities=(5, community))
    assert isinstance(exported(route, EBGP, origin).result, PathAttributes) is outside
    assert isinstance(exported(route, IBGP, origin).result, PathAttributes) is inside


def test_rfc7999_3_1_a_blackhole_of_our_own_is_for_the_peer() -> None:
    assert sent(PathAttributes(communities=(BLACKHOLE,)), EBGP).communities == (BLACKHOLE,)


# -- RFC 8326 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attributes", "origin"), [(PathAttributes(local_pref=200), None), (LEARNED, FROM_EBGP)])
def test_rfc8326_4_graceful_shutdown(attributes: PathAttributes, origin: PeerInfo | None) -> None:
    outside = sent(attributes, replace(EBGP, graceful_shutdown=True), origin)
    assert outside.communities == (*attributes.communities, GRACEFUL_SHUTDOWN)
    assert outside.local_pref is None
    inside = sent(attributes, replace(IBGP, graceful_shutdown=True), origin)
    assert (inside.communities[-1], inside.local_pref) == (GRACEFUL_SHUTDOWN, 0)


def test_rfc8326_the_community_is_there_once_and_no_policy_takes_it_away() -> None:
    tagged = PathAttributes(communities=(GRACEFUL_SHUTDOWN,))
    assert sent(tagged, replace(EBGP, graceful_shutdown=True)).communities == (GRACEFUL_SHUTDOWN,)
    preferring = Policy("p", terms=(Term(changes=Changes(local_pref=900)),))
    inside = sent(PathAttributes(), replace(IBGP, graceful_shutdown=True, policy=preferring))
    assert (inside.communities, inside.local_pref) == ((GRACEFUL_SHUTDOWN,), 0)


# -- confederations ----------------------------------------------------------------------------------------


def test_rfc5065_5_confederation_segments_do_not_leave_the_as() -> None:
    path = (
        Segment(SegmentType.AS_CONFED_SEQUENCE, (64512,)),
        *sequence(7, 8),
        Segment(SegmentType.AS_CONFED_SET, (64513, 64514)),
    )
    route = replace(INTERNAL, as_path=path)
    assert sent(route, EBGP, FROM_IBGP).as_path == sequence(OUR_AS, 7, 8)
    assert sent(route, TO_CLIENT, FROM_IBGP).as_path == path


# -- policy ------------------------------------------------------------------------------------------------


def policy(changes: Changes, match: Match | None = None) -> Policy:
    return Policy("p", terms=(Term(match or Match(), changes=changes),))


def test_a_rejected_route_says_which_term_did_it() -> None:
    rejecting = Policy("p", terms=(Term(Match(sources=("config",)), REJECT, name="no-static"),))
    found = exported(PathAttributes(), replace(EBGP, policy=rejecting))
    assert found.result == found.why == 'policy "p": term "no-static" rejects'
    accepted = exported(PathAttributes(), replace(EBGP, policy=rejecting), source="api")
    assert isinstance(accepted.result, PathAttributes)
    assert accepted.why == 'policy "p": default accepts'
    assert exported(PathAttributes(), replace(EBGP, policy=None)).why is None


def test_the_policy_is_told_who_taught_the_route() -> None:
    by_name = Policy("p", terms=(Term(Match(peers=("tor-1",)), REJECT),))
    context = replace(EBGP, policy=by_name)
    assert "rejects" in refused(LEARNED, context, replace(FROM_EBGP, names=frozenset({"tor-1", "192.0.2.2"})))
    sent(LEARNED, context, FROM_EBGP)
    sent(PathAttributes(), context)


def test_rfc4271_5_1_4_a_received_med_ends_here_and_one_that_the_policy_sets_goes_out() -> None:
    seen = Policy("p", terms=(Term(Match(), changes=Changes(med=7)),))
    assert sent(LEARNED, EBGP, FROM_EBGP).med is None
    assert sent(LEARNED, replace(EBGP, policy=seen), FROM_EBGP).med == 7
    assert sent(INTERNAL, TO_CLIENT, FROM_IBGP).med == 50


def test_what_the_policy_prepends_stands_behind_our_own_as() -> None:
    prepending = replace(EBGP, policy=policy(Changes(prepend_own=2)))
    assert sent(PathAttributes(), prepending).as_path == sequence(OUR_AS, OUR_AS, OUR_AS)
    assert sent(LEARNED, prepending, FROM_EBGP).as_path == sequence(OUR_AS, OUR_AS, OUR_AS, 65002, 7)
    inside = replace(IBGP, policy=policy(Changes(prepend_own=2)))
    assert sent(PathAttributes(), inside).as_path == sequence(OUR_AS, OUR_AS)


def test_rfc4271_5_1_3_a_next_hop_that_the_policy_sets_counts_as_configured() -> None:
    third = policy(Changes(next_hops=(THIRD_V4,)))
    assert sent(LEARNED, replace(EBGP, policy=third), FROM_EBGP).next_hop == THIRD_V4
    assert sent(PathAttributes(), replace(EBGP, policy=third)).next_hop == THIRD_V4
    same = policy(Changes(next_hops=(bytes(LEARNED.next_hop or b""),)))
    assert sent(LEARNED, replace(EBGP, policy=Policy("p")), FROM_EBGP).next_hop == OUR_V4
    copied = replace(same, terms=(Term(changes=Changes(next_hops=(b"\xc0\0" + b"\x02\x02",))),))
    assert sent(LEARNED, replace(EBGP, policy=copied), FROM_EBGP).next_hop == LEARNED.next_hop
    own = policy(Changes(next_hop_self=True))
    assert sent(LEARNED, replace(IBGP, policy=own), FROM_EBGP).next_hop == OUR_V4
    assert sent(INTERNAL, replace(TO_CLIENT, policy=own), FROM_IBGP).next_hop == OUR_V4
    peers = policy(Changes(next_hops=(PEER_V4,)))
    assert "peer's own" in refused(LEARNED, replace(EBGP, policy=peers), FROM_EBGP)


def test_the_policy_sees_the_route_as_it_would_leave() -> None:
    """A received MED and non-transitive communities are gone, OTC is there."""
    looked: list[PathAttributes] = []

    class Looking(Policy):
        def evaluate(self, attributes: PathAttributes, *rest: object) -> object:  # type: ignore[override]
            looked.append(attributes)
            return super().evaluate(attributes, *rest)  # type: ignore[arg-type]

    route = replace(LEARNED, extended_communities=(bytes.fromhex("4004fde94b18967f"),))
    sent(route, replace(EBGP, policy=Looking("p"), role=BgpRole.PROVIDER), FROM_EBGP)
    (seen,) = looked
    assert (seen.med, seen.extended_communities, seen.only_to_customer) == (None, (), OUR_AS)
    assert (seen.as_path, seen.next_hop) == (LEARNED.as_path, LEARNED.next_hop)


# -- whatever goes in --------------------------------------------------------------------------------------

SEGMENTS = st.builds(
    Segment, st.sampled_from([1, 2, 3, 4]), st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=3).map(tuple)
)
ANY_ATTRIBUTES = st.builds(
    PathAttributes,
    origin=st.integers(0, 2),
    as_path=st.lists(SEGMENTS, max_size=3).map(tuple),
    next_hop=st.sampled_from([b"\xc0\0\x02\x02", THIRD_V4]),
    med=st.none() | st.integers(0, 9),
    local_pref=st.none() | st.integers(0, 2**32 - 1),
    communities=st.lists(st.sampled_from([1, 2, GRACEFUL_SHUTDOWN]), max_size=2, unique=True).map(tuple),
    originator_id=st.none() | st.binary(min_size=4, max_size=4),
    cluster_list=st.lists(st.binary(min_size=4, max_size=4), max_size=2).map(tuple),
    only_to_customer=st.none() | st.just(64999),
    unknown=st.lists(
        st.builds(UnknownAttribute, st.sampled_from([0xC0, 0xE0, 0x80]), st.integers(60, 62), st.binary(max_size=3)),
        max_size=2,
        unique_by=lambda u: u.code,
    ).map(tuple),
)
POLICIES = st.sampled_from(
    [
        Policy("plain"),
        policy(Changes(local_pref=1, med=3)),
        policy(Changes(prepend_own=3, add_communities=Communities(standard=(NO_EXPORT,)))),
        policy(Changes(next_hop_self=True)),
    ]
)
ORIGINS = st.sampled_from([None, FROM_EBGP, FROM_IBGP, FROM_CLIENT])


@given(
    attributes=ANY_ATTRIBUTES,
    origin=ORIGINS,
    policies=POLICIES,
    role=st.none() | st.sampled_from(list(BgpRole)),
    shutdown=st.booleans(),
    asn4=st.booleans(),
)
def test_rfc4271_5_1_5_rfc4456_8_attributes_5_9_and_10_never_reach_an_external_peer(
    attributes: PathAttributes,
    origin: PeerInfo | None,
    policies: Policy,
    role: BgpRole | None,
    shutdown: bool,
    asn4: bool,
) -> None:
    context = replace(EBGP, policy=policies, role=role, graceful_shutdown=shutdown)
    if origin is None:
        attributes = replace(attributes, unknown=())  # nothing of ours can have any
    found = exported(attributes, context, origin).result
    if isinstance(found, str):
        return
    wire = UpdateContext(
        asn4=asn4, external=True, families=context.families, remote_asn=65001, local_asn=OUR_AS, max_length=65535
    )
    (message,) = encode_announce(IPV4_UNICAST, found, [NLRI], wire)
    block = message[23 : 23 + int.from_bytes(message[21:23])]
    items, cut = split_attributes(block)
    codes = [item[1] for item in items]
    assert cut is None
    assert not {5, 9, 10} & set(codes)
    assert codes == sorted(codes)  # reference §5: ascending
    update = decode_update(message[19:], replace(wire, remote_asn=OUR_AS, local_asn=65001, cache={}))
    assert update.faults == []  # the first AS is ours, no confederation segments, nothing malformed
    (reach,) = update.announced
    assert reach.attributes.as_path[0].asns[0] == (OUR_AS if asn4 else OUR_AS & 0xFFFF)


@given(attributes=ANY_ATTRIBUTES, origin=ORIGINS, client=st.booleans(), shutdown=st.booleans())
def test_rfc4271_5_1_5_internal_peers_always_get_a_local_pref(
    attributes: PathAttributes, origin: PeerInfo | None, client: bool, shutdown: bool
) -> None:
    context = replace(IBGP, route_reflector_client=client, graceful_shutdown=shutdown)
    found = exported(attributes, context, origin).result
    if isinstance(found, PathAttributes):
        assert found.local_pref is not None
        assert found.as_path == attributes.as_path
