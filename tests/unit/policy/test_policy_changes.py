"""What a policy makes of attributes, which term speaks, and what it shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.communities import parse_pattern
from bgpbfd.policy.match import Facts, Match, Range
from bgpbfd.policy.memo import MAX_WEIGHT, Memo
from bgpbfd.policy.policy import ACCEPT, NEXT, REJECT, Policy, Term
from bgpbfd.policy.prefixes import PrefixRange
from bgpbfd.wire.as_path import Segment, path_length, prepend, push_as_path
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.text import Communities, format_communities, parse_as_path, parse_communities

FACTS = Facts("config", frozenset(), 65010)
NLRI = Prefix.parse("203.0.113.0/24").nlri
AS_SEQUENCE = 2
AS_SET = 1


def changed(changes: Changes, attributes: PathAttributes, family: Family = IPV4_UNICAST) -> PathAttributes:
    verdict = Policy("p", REJECT, (Term(changes=changes),)).evaluate(attributes, family, NLRI, FACTS)
    assert verdict.accepted
    return verdict.attributes


def given_communities(*texts: str) -> PathAttributes:
    parsed = parse_communities(texts, ipv6=True)
    return PathAttributes(
        communities=parsed.standard,
        extended_communities=parsed.extended,
        large_communities=parsed.large,
        ipv6_extended_communities=parsed.ipv6_extended,
    )


def texts_of(attributes: PathAttributes) -> list[str]:
    found = Communities(
        attributes.communities,
        attributes.extended_communities,
        attributes.large_communities,
        attributes.ipv6_extended_communities,
    )
    return format_communities(found)


# -- numbers, origin, next hop -----------------------------------------------------------------------------


def test_set_numbers_and_origin() -> None:
    before = PathAttributes(local_pref=100, med=5, origin=2)
    after = changed(Changes(local_pref=200, med=0, origin=0), before)
    assert after == PathAttributes(local_pref=200, med=0, origin=0)
    assert changed(Changes(clear_med=True), before) == replace(before, med=None)


def test_next_hop_self_is_none_and_an_address_is_for_its_own_family() -> None:
    v4, v6 = bytes((192, 0, 2, 1)), bytes.fromhex("20010db8") + bytes(11) + b"\x01"
    before = PathAttributes(next_hop=bytes((198, 51, 100, 1)))
    assert changed(Changes(next_hop_self=True), before).next_hop is None
    both = Changes(next_hops=(v4, v6))
    assert changed(both, before).next_hop == v4
    assert changed(both, before, IPV6_UNICAST).next_hop == v6
    assert changed(Changes(next_hops=(v4,)), before, IPV6_UNICAST) is before


def test_next_hop_that_was_set_is_told_from_the_same_octets_learned() -> None:
    octets = bytes((192, 0, 2, 1))
    before = PathAttributes(next_hop=bytes(bytearray(octets)))
    after = changed(Changes(next_hops=(octets,)), before)
    assert after.next_hop == before.next_hop
    assert after.next_hop is octets
    assert after.next_hop is not before.next_hop


def test_rfc8955_4_a_flow_specification_gets_no_next_hop() -> None:
    before = PathAttributes()
    assert changed(Changes(next_hops=(bytes((192, 0, 2, 1)),)), before, IPV4_FLOW) is before
    assert changed(Changes(next_hop_self=True), before, IPV4_FLOW) is before


# -- communities -------------------------------------------------------------------------------------------


def test_added_communities_come_behind_and_each_once() -> None:
    before = given_communities("1:1", "2:2", "1:1:1", "rt:1:1")
    after = changed(Changes(add_communities=parse_communities(["2:2", "3:3", "1:1:2", "rt:1:1", "rt:1:2"])), before)
    assert texts_of(after) == ["1:1", "2:2", "3:3", "rt:1:1", "rt:1:2", "1:1:1", "1:1:2"]


def test_removed_communities_are_those_that_a_pattern_means() -> None:
    before = given_communities("1:1", "2:2", "no-export", "1:1:1", "2:2:2", "rt:1:1", "soo:1:1")
    patterns = tuple(parse_pattern(text) for text in ("1:*", "no-export", "2:*:*", "rt:*"))
    assert texts_of(changed(Changes(remove_communities=patterns), before)) == ["2:2", "soo:1:1", "1:1:1"]


def test_set_communities_replace_their_kind_and_leave_the_others() -> None:
    before = given_communities("1:1", "2:2", "1:1:1", "rt:1:1", "soo:1:1")
    after = changed(Changes(set_communities=parse_communities(["9:9"])), before)
    assert texts_of(after) == ["9:9", "rt:1:1", "soo:1:1", "1:1:1"]
    after = changed(Changes(set_communities=parse_communities(["9:9:9"])), before)
    assert texts_of(after) == ["1:1", "2:2", "rt:1:1", "soo:1:1", "9:9:9"]


def test_rfc7153_5_set_extended_communities_replace_those_of_the_name_in_every_form() -> None:
    rate = bytes.fromhex("8006 0000 00000000")  # RFC 8955 §7.1: a flow's action is not a route target
    before = given_communities("rt:1:1", "rt:192.0.2.1:1", "rt:4200000000:1", "soo:1:1")
    before = replace(before, extended_communities=(*before.extended_communities, rate))
    after = changed(Changes(set_communities=parse_communities(["rt:9:9"])), before)
    assert texts_of(after) == ["soo:1:1", f"ext:0x{rate.hex()}", "rt:9:9"]


def test_rfc5701_ipv6_communities_are_removed_set_and_added() -> None:
    before = given_communities("rt:1:1", "rt:[2001:db8::1]:1", "rt:[2001:db8::2]:1", "soo:[2001:db8::1]:1")
    removed = Changes(remove_communities=(parse_pattern("rt:[2001:DB8::1]:1"), parse_pattern("rt:1:1")))
    assert texts_of(changed(removed, before)) == ["rt:[2001:db8::2]:1", "soo:[2001:db8::1]:1"]
    after = changed(Changes(set_communities=parse_communities(["rt:[2001:db8::9]:9"], ipv6=True)), before)
    assert texts_of(after) == ["rt:1:1", "soo:[2001:db8::1]:1", "rt:[2001:db8::9]:9"]
    added = Changes(add_communities=parse_communities(["rt:[2001:db8::1]:1", "rt:[::1]:1"], ipv6=True))
    assert texts_of(changed(added, before)) == [*texts_of(before), "rt:[::1]:1"]


def test_communities_are_removed_then_set_then_added() -> None:
    changes = Changes(
        remove_communities=(parse_pattern("*:*"), parse_pattern("*:*:*")),
        set_communities=parse_communities(["5:5"]),
        add_communities=parse_communities(["6:6", "6:6:6"]),
    )
    assert texts_of(changed(changes, given_communities("1:1", "1:1:1"))) == ["5:5", "6:6", "6:6:6"]


def test_rfc1997_a_community_that_came_twice_goes_once() -> None:
    before = PathAttributes(communities=(65536, 65536, 131072))
    assert changed(Changes(add_communities=parse_communities(["3:3"])), before).communities.count(65536) == 1


# -- paths -------------------------------------------------------------------------------------------------


def test_prepend_repeats_our_own_as_before_the_given_ones() -> None:
    before = PathAttributes(as_path=parse_as_path(["65001 {65002}"]))
    assert changed(Changes(prepend_own=2), before).as_path == parse_as_path(["65010 65010 65001 {65002}"])
    assert changed(Changes(prepend_asns=(1, 2)), before).as_path == parse_as_path(["1 2 65001 {65002}"])
    assert changed(Changes(prepend_own=1), PathAttributes()).as_path == parse_as_path(["65010"])


def test_prepend_is_of_the_session_that_it_is_evaluated_for() -> None:
    policy = Policy("p", REJECT, (Term(changes=Changes(prepend_own=1)),))
    route = PathAttributes()
    for asn in (65010, 65011, 65010):
        facts = Facts("config", frozenset(), asn)
        assert policy.evaluate(route, IPV4_UNICAST, NLRI, facts).attributes.as_path == parse_as_path([str(asn)])


def test_rfc4271_5_1_2_b_before_a_set_goes_a_new_sequence() -> None:
    path = (Segment(AS_SET, (1, 2)),)
    assert prepend([9], path) == (Segment(AS_SEQUENCE, (9,)), Segment(AS_SET, (1, 2)))


def test_rfc4271_4_3_a_segment_has_at_most_255_ases() -> None:
    full = (Segment(AS_SEQUENCE, tuple(range(1, 255))),)
    assert prepend([7, 8, 9], full) == (
        Segment(AS_SEQUENCE, (7, 8)),
        Segment(AS_SEQUENCE, (9, *range(1, 255))),
    )


@given(
    st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=32),
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 255)).map(
            lambda pair: Segment(pair[0], tuple(range(1, pair[1] + 1)))
        ),
        max_size=3,
    ).map(tuple),
)
def test_prepend_keeps_the_order_and_the_rest(asns: list[int], path: tuple[Segment, ...]) -> None:
    after = prepend(asns, path)
    flat = [(segment.kind, asn) for segment in after for asn in segment.asns]
    assert flat == [(AS_SEQUENCE, asn) for asn in asns] + [(s.kind, asn) for s in path for asn in s.asns]
    assert all(len(segment.asns) <= 255 for segment in after)
    assert path_length(after) == len(asns) + path_length(path)
    assert push_as_path(after, True)


# -- terms -------------------------------------------------------------------------------------------------


def test_first_term_that_decides_decides_and_says_so() -> None:
    policy = Policy(
        "edge",
        ACCEPT,
        (
            Term(Match(origins=(2,)), REJECT),
            Term(Match(origins=(1,)), ACCEPT, Changes(local_pref=50), "far"),
            Term(Match(origins=(1,)), REJECT),
        ),
    )
    said = [policy.evaluate(PathAttributes(origin=n), IPV4_UNICAST, NLRI, FACTS) for n in (2, 1, 0)]
    assert [verdict.accepted for verdict in said] == [False, True, True]
    assert [verdict.reason for verdict in said] == [
        'policy "edge": term 1 rejects',
        'policy "edge": term "far" accepts',
        'policy "edge": default accepts',
    ]
    assert said[1].attributes.local_pref == 50
    assert policy.evaluate(PathAttributes(origin=2), IPV4_UNICAST, NLRI, FACTS).reason is said[0].reason


def test_next_changes_and_goes_on_and_later_terms_see_it() -> None:
    policy = Policy(
        "p",
        REJECT,
        (
            Term(action=NEXT, changes=Changes(local_pref=200)),
            Term(Match(local_pref=Range(200, 200)), ACCEPT, Changes(med=1)),
        ),
    )
    assert policy.evaluate(PathAttributes(), IPV4_UNICAST, NLRI, FACTS).attributes == PathAttributes(
        local_pref=200, med=1
    )


def test_what_next_changed_is_not_kept_by_a_rejection() -> None:
    before = PathAttributes()
    policy = Policy("p", REJECT, (Term(action=NEXT, changes=Changes(local_pref=200)),))
    verdict = policy.evaluate(before, IPV4_UNICAST, NLRI, FACTS)
    assert not verdict.accepted
    assert verdict.attributes is before
    accepted = Policy("p", ACCEPT, policy.terms).evaluate(before, IPV4_UNICAST, NLRI, FACTS)
    assert accepted.attributes.local_pref == 200


def test_route_that_no_term_changes_keeps_its_very_attributes() -> None:
    before = PathAttributes(local_pref=100, communities=(1,))
    assert Policy("p").evaluate(before, IPV4_UNICAST, NLRI, FACTS).attributes is before
    same = Changes(local_pref=100, add_communities=Communities(standard=(1,)))
    assert changed(same, before) is before


def test_routes_that_share_attributes_share_the_changed_ones() -> None:
    policy = Policy("p", REJECT, (Term(changes=Changes(local_pref=200)),))
    before = PathAttributes()
    first = policy.evaluate(before, IPV4_UNICAST, NLRI, FACTS).attributes
    assert policy.evaluate(before, IPV4_UNICAST, b"\0", FACTS).attributes is first


def test_attributes_that_take_the_place_of_others_in_memory_are_not_taken_for_them() -> None:
    policy = Policy("p", REJECT, (Term(changes=Changes(local_pref=200)),))
    for med in range(2000):  # freed ones hand their id on
        verdict = policy.evaluate(PathAttributes(med=med), IPV4_UNICAST, NLRI, FACTS)
        assert verdict.attributes == PathAttributes(med=med, local_pref=200)


PREFIXES = Match(prefixes=(PrefixRange.exactly(Prefix.parse("10.0.0.0/8")),))


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ((), False),
        ((Term(PREFIXES),), True),
        ((Term(Match(origins=(1,))), Term(PREFIXES)), True),
        ((Term(Match(exclude=PREFIXES)),), True),
        ((Term(action=NEXT), Term(PREFIXES)), True),
        ((Term(action=REJECT), Term(PREFIXES)), False),  # never asked
        ((Term(Match(families=(IPV4_UNICAST,), next_hops=PREFIXES.prefixes)),), False),
    ],
)
def test_depends_on_prefix(terms: tuple[Term, ...], expected: bool) -> None:
    assert Policy("p", ACCEPT, terms).depends_on_prefix is expected


def test_equal_by_configuration_not_by_what_it_has_seen() -> None:
    def make() -> Policy:
        changes = Changes(local_pref=1, remove_communities=(parse_pattern("1:*"),))
        return Policy("p", REJECT, (Term(PREFIXES, ACCEPT, changes),))

    used = make()
    used.evaluate(PathAttributes(), IPV4_UNICAST, PREFIXES.prefixes[0].prefix.nlri, FACTS)
    assert used == make()
    assert used != replace(make(), default=ACCEPT)
    assert used != Policy("p", REJECT, (Term(PREFIXES),))
    assert used != Policy("q", REJECT, used.terms)


def test_names_what_it_refers_to() -> None:
    policy = Policy("p", ACCEPT, (Term(Match(peers=("tor-1",), exclude=Match(peers=("192.0.2.9",)))),))
    assert policy.peers == {"tor-1", "192.0.2.9"}
    assert not policy.next_hop_self
    assert Policy("p", ACCEPT, (Term(changes=Changes(next_hop_self=True)),)).next_hop_self


def test_what_is_remembered_is_bounded_by_its_weight() -> None:
    memo: Memo[int, int] = Memo()
    for key in range(5):
        memo.keep(key, key, MAX_WEIGHT // 4)
        assert memo.get(key) == key
        assert memo.weight <= MAX_WEIGHT
    assert memo.get(0) is None
