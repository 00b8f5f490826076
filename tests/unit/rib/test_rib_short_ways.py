"""The short ways that most of a full table takes, against the long ones: the same judgements, the same tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rib_fakes import flat

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.match import Facts, Match
from bgpbfd.policy.policy import ACCEPT, NEXT, REJECT, Policy, Term
from bgpbfd.policy.prefixes import PrefixRange
from bgpbfd.rib.importing import GRACEFUL_SHUTDOWN, Importer, kept
from bgpbfd.rib.select import Outcome, PeerInfo
from bgpbfd.rib.table import Rib
from bgpbfd.wire.attributes import PathAttributes, Segment, encode_attributes
from bgpbfd.wire.iana import BgpRole, SegmentType
from bgpbfd.wire.received import Reading, ReceivedAttributes, pull_regular, read_out
from bgpbfd.wire.update import Reach, Unreach, Update

US, THEM = 65010, 65001
OUR_ID, CLUSTER = 0x0A0A0A0A, 0x02020202
P = [
    Prefix.parse(text).nlri for text in ("198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/8", "0.0.0.0/0", "10.1.0.0/16")
]

POLICIES = st.sampled_from(
    [
        None,
        Policy("accept"),
        Policy("reject", REJECT),
        Policy("defaults", terms=(Term(Match(prefixes=(PrefixRange(Prefix.parse("0.0.0.0/0"), 0, 0),)), REJECT),)),
        Policy("wide", REJECT, (Term(Match(prefixes=(PrefixRange(Prefix.parse("10.0.0.0/8"), 8, 24),))),)),
        Policy("peers", terms=(Term(Match(peers=("upstream",)), NEXT), Term(Match(sources=("config",)), REJECT))),
        Policy("pref", terms=(Term(changes=Changes(local_pref=300)),)),
        Policy("med", terms=(Term(Match(origins=(2,)), REJECT), Term(Match(prefixes=()), ACCEPT, Changes(med=7)))),
        Policy("without", terms=(Term(Match(exclude=Match(origins=(0,))), REJECT),)),
    ]
)
INFOS = st.builds(
    lambda external, role, cluster_id, policy: PeerInfo(
        external=external,
        remote_asn=THEM if external else US,
        local_asn=US,
        router_id=1,
        local_router_id=OUR_ID,
        address=b"\xc0\0\2\1",
        local_addresses=frozenset({b"\xc0\0\2\x63"}),
        policy=policy,
        names=frozenset({"192.0.2.1", "upstream"}),
        role=role,
        cluster_id=cluster_id,
    ),
    st.booleans(),
    st.sampled_from([None, None, *BgpRole]),
    st.sampled_from([None, CLUSTER]),
    POLICIES,
)
ATTRIBUTES = st.builds(
    PathAttributes,
    origin=st.integers(0, 2),
    as_path=st.lists(st.sampled_from([65002, 70000, US, US << 8]), max_size=3).map(
        lambda asns: (Segment(SegmentType.AS_SEQUENCE, (THEM, *asns)),)
    ),
    next_hop=st.sampled_from([b"\xc0\0\2\1", b"\xc0\0\2\x63", b"\x7f\0\0\1", b"\xe0\0\0\1", bytes(4)]),
    med=st.sampled_from([None, 0, US, GRACEFUL_SHUTDOWN]),
    communities=st.lists(st.sampled_from([THEM << 16 | 1, GRACEFUL_SHUTDOWN]), max_size=2).map(tuple),
    only_to_customer=st.sampled_from([None, THEM, 7]),
    local_pref=st.just(100),
    originator_id=st.sampled_from([None, OUR_ID.to_bytes(4), b"\1\2\3\4"]),
    cluster_list=st.lists(st.sampled_from([b"\1\1\1\1", CLUSTER.to_bytes(4), OUR_ID.to_bytes(4)]), max_size=2).map(
        tuple
    ),
)


def as_octets(attributes: PathAttributes, *, external: bool) -> ReceivedAttributes:
    block = encode_attributes(attributes, asn4=True, with_next_hop=True)
    received = pull_regular(block, Reading(asn4=True, external=external), b"")
    assert received is not None
    return received


def of_session(attributes: PathAttributes, info: PeerInfo) -> PathAttributes:
    """Without what does not come from an external neighbor."""
    return replace(attributes, local_pref=None, originator_id=None, cluster_list=()) if info.external else attributes


@settings(max_examples=600, deadline=None)
@given(INFOS, ATTRIBUTES, st.sampled_from([IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW]), st.sampled_from(P))
def test_octets_are_judged_as_what_they_say(
    info: PeerInfo, attributes: PathAttributes, family: Family, nlri: bytes
) -> None:
    attributes = of_session(attributes, info)
    received = as_octets(attributes, external=info.external)
    in_force, outcome = Importer(info).judge(attributes, family, nlri)
    importer = Importer(info)
    for _ in range(2):  # and again, with what it has kept
        got = importer.judge(received, family, nlri)
        assert read_out(got[0]) == in_force
        assert got[1] == outcome
        assert read_out(kept(got, received, info, family, nlri)) == in_force


@settings(max_examples=300, deadline=None)
@given(INFOS, ATTRIBUTES, st.lists(st.sampled_from(P), min_size=1, max_size=5, unique=True))
def test_groups_are_what_each_prefix_gets(info: PeerInfo, attributes: PathAttributes, nlri: list[bytes]) -> None:
    attributes = of_session(attributes, info)
    received = as_octets(attributes, external=info.external)
    importer = Importer(info)
    groups = importer.groups(received, IPV4_UNICAST, nlri)
    assert sorted(item for _, items in groups for item in items) == sorted(nlri)
    assert len({_key(read_out(attributes), outcome) for (attributes, outcome), _ in groups}) == len(groups)
    for (in_force, outcome), items in groups:
        for item in items:
            alone = importer.judge(attributes, IPV4_UNICAST, item)
            assert (read_out(in_force), outcome) == alone


def _key(attributes: PathAttributes, outcome: Outcome | None) -> object:
    return attributes, None if outcome is None else (outcome.reason, outcome.why)


@settings(max_examples=300, deadline=None)
@given(POLICIES.filter(bool), ATTRIBUTES, ATTRIBUTES, st.sampled_from(P))
def test_a_policy_that_does_not_depend_on_attributes_says_the_same_of_all(
    policy: Policy, one: PathAttributes, other: PathAttributes, nlri: bytes
) -> None:
    facts = Facts("peer", frozenset({"upstream"}), US)
    verdicts = [policy.evaluate(attributes, IPV4_UNICAST, nlri, facts) for attributes in (one, other)]
    if not policy.depends_on_attributes:
        assert [verdict[::2] for verdict in verdicts] == [verdicts[0][::2]] * 2
        assert [verdict.attributes for verdict in verdicts] == [one, other]


@pytest.mark.parametrize(
    ("policy", "depends"),
    [
        (Policy("a"), False),
        (Policy("b", terms=(Term(Match(prefixes=(PrefixRange(Prefix.parse("::/0"), 0, 0),)), REJECT),)), False),
        (Policy("c", terms=(Term(Match(families=(IPV4_UNICAST,), peers=("x",), sources=("api",)), REJECT),)), False),
        (Policy("d", terms=(Term(Match(exclude=Match(families=(IPV4_UNICAST,))), REJECT),)), False),
        (Policy("e", terms=(Term(Match(origins=(1,)), REJECT),)), True),
        (Policy("f", terms=(Term(Match(next_hop_self=True), REJECT),)), True),
        (Policy("g", terms=(Term(changes=Changes(med=1)),)), True),
        (Policy("h", terms=(Term(Match(exclude=Match(exclude=Match(med=None, origins=(1,)))), REJECT),)), True),
        (Policy("i", terms=(Term(action=REJECT), Term(Match(origins=(1,))))), False),  # the second is never asked
    ],
)
def test_what_depends_on_attributes(policy: Policy, depends: bool) -> None:
    assert policy.depends_on_attributes is depends


INFO = PeerInfo(True, THEM, US, 1, OUR_ID, b"\xc0\0\2\1", policy=Policy("accept"))
CHANGES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(P), max_size=2),
        st.none() | ATTRIBUTES,
        st.lists(st.sampled_from(P), min_size=1, max_size=6),
    ),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(CHANGES, st.sets(st.integers(0, 5)), st.sampled_from([INFO, replace(INFO, policy=None)]))
def test_a_table_is_the_same_whether_or_not_anybody_asks_for_changes(
    changes: list[tuple[list[bytes], PathAttributes | None, list[bytes]]], refreshes: set[int], info: PeerInfo
) -> None:
    ribs = Rib(), Rib()
    for rib in ribs:
        flat(rib.session_up("a", info))
    for now, (withdrawn, attributes, nlri) in enumerate(changes):
        unreach = [Unreach(IPV4_UNICAST, withdrawn)] if withdrawn else []
        reach = []
        if attributes is not None:
            received = as_octets(of_session(attributes, info), external=True)
            reach = [Reach(IPV4_UNICAST, received, nlri)]  # may name a prefix twice
        for rib, report in zip(ribs, (True, False), strict=True):
            if now in refreshes:
                rib.begin_refresh("a", IPV4_UNICAST)
            rib.apply("a", Update(reach, unreach), now, report=report)
    one, other = ribs
    key = lambda route: (route.family, route.nlri)  # noqa: E731
    assert sorted(one.learned(), key=key) == sorted(other.learned(), key=key)
    assert one.count("a") == other.count("a") == len(list(other.learned()))
    assert one.stale_count("a") == other.stale_count("a") == sum(route.stale for route in other.learned())
    assert flat(other.purge_stale("a", IPV4_UNICAST)) is not None
    assert not any(route.stale for route in other.learned())
