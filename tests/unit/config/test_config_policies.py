"""Policies of the file: what is taken, what is named as wrong, and that what is shown reads as the same policy."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.config.faults import FaultList
from bgpbfd.config.policies import TERM_KEYS, parse_range, read_policies
from bgpbfd.config.values import Table
from bgpbfd.core import IPV4_UNICAST, IPV6_FLOW, IPV6_UNICAST, Prefix
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.communities import parse_pattern
from bgpbfd.policy.match import Facts, Match, Range
from bgpbfd.policy.path_regex import PathRegex
from bgpbfd.policy.policy import ACCEPT, NEXT, REJECT, Policy, Term
from bgpbfd.policy.prefixes import PrefixRange
from bgpbfd.policy.text import policy_as_plain
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.text import parse_communities

FACTS = Facts("peer", frozenset(), 65010)


def read(raw: dict[str, object]) -> tuple[dict[str, Policy], dict[str, str]]:
    faults = FaultList("f.toml")
    found = read_policies(Table(raw, "", "test", ("policies",), faults))
    return found, {fault.path: fault.reason for fault in faults.faults}


def one(text: str) -> Policy:
    """The policy of the lines of ``[policies.p]``."""
    found, faults = read(tomli.loads("[policies.p]\n" + text))
    assert faults == {}
    return found["p"]


def term(text: str) -> Term:
    (found,) = one(f'default = "reject"\nterms = [ {{ {text} }} ]').terms
    return found


def faults_of(text: str) -> dict[str, str]:
    return read(tomli.loads("[policies.p]\n" + text))[1]


def term_faults(text: str) -> dict[str, str]:
    found = faults_of(f'default = "reject"\nterms = [ {{ {text} }} ]')
    return {path.removeprefix("policies.p.terms[0]."): reason for path, reason in found.items()}


def verdict(policy: Policy, prefix: str) -> tuple[bool, str]:
    parsed = Prefix.parse(prefix)
    answer = policy.evaluate(PathAttributes(), parsed.family, parsed.nlri, FACTS)
    return answer.accepted, answer.reason


# -- what is taken -----------------------------------------------------------------------------------------


def test_interface_example() -> None:
    found, faults = read(
        tomli.loads(
            '[policies.no-defaults]\ndefault = "accept"\n'
            'terms = [ { match = { prefixes = ["0.0.0.0/0"] }, action = "reject" } ]\n'
        )
    )
    assert faults == {}
    policy = found["no-defaults"]
    assert verdict(policy, "0.0.0.0/0") == (False, 'policy "no-defaults": term 1 rejects')
    assert verdict(policy, "10.0.0.0/8") == (True, 'policy "no-defaults": default accepts')


def test_no_policies_at_all() -> None:
    assert read({}) == ({}, {})


def test_terms_as_an_array_of_tables() -> None:
    policy = one('[[policies.p.terms]]\nmatch.prefixes = "10.0.0.0/8 le 24"\n[[policies.p.terms]]\naction = "reject"\n')
    assert [item.action for item in policy.terms] == [ACCEPT, REJECT]


def test_left_out_default_rejects_what_no_term_accepts() -> None:
    policy = one('terms = [ { match = { prefixes = ["10.0.0.0/8"] } } ]')
    assert verdict(policy, "10.0.0.0/8") == (True, 'policy "p": term 1 accepts')
    assert verdict(policy, "0.0.0.0/0") == (False, 'policy "p": default rejects')


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("10.0.0.0/8", 8, 8),
        ("10.0.0.0/8 le 24", 8, 24),
        ("10.0.0.0/8 ge 16", 16, 32),
        ("10.0.0.0/8 ge 16 le 24", 16, 24),
        (" 10.0.0.0/8  ge  16  le  24 ", 16, 24),
        ("10.0.0.0/8{16,24}", 16, 24),
        ("10.0.0.0/8 { 16 , 24 }", 16, 24),
        ("10.0.0.0/8+", 8, 32),
        ("10.0.0.0/8 ge 8 le 8", 8, 8),
        ("0.0.0.0/0 le 32", 0, 32),
        ("192.0.2.1", 32, 32),
        ("2001:db8::/32 le 48", 32, 48),
        ("2001:db8::/32+", 32, 128),
    ],
)
def test_ranges_of_prefixes(text: str, low: int, high: int) -> None:
    prefix = Prefix.parse(text.split(maxsplit=1)[0].rstrip("+").partition("{")[0])
    assert parse_range(text) == PrefixRange(prefix, low, high)
    assert parse_range(str(parse_range(text))) == parse_range(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("10.0.0.0/8 le 33", "8 to 32"),
        ("10.0.0.0/8 le 7", "8 to 32"),
        ("10.0.0.0/8 ge 7", "8 to 32"),
        ("10.0.0.0/8 ge 24 le 16", "lower one first"),
        ("10.0.0.0/8{24,16}", "lower one first"),
        ("10.0.0.0/8 le", '"le 24"'),
        ("10.0.0.0/8 eq 24", '"le 24"'),
        ("10.0.0.0/8-", "no network"),
        ("10.0.0.0/8{16}", '"{16,24}"'),
        ("10.0.0.1/8 le 24", "write 10.0.0.0/8"),
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("10.0.0/8 le 24", "no network"),
        ("le 24", '"le 24"'),
        ("", "no network"),
        ("10.0.0.0/8 le 99999999999999999999", "8 to 32"),
    ],
)
def test_range_that_is_none_says_what_would_be_right(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_range(text)
    assert word in str(caught.value)


def test_every_match_key() -> None:
    found = term(
        'match = { prefixes = ["10.0.0.0/8 le 24", "2001:db8::/32"], families = ["ipv4 unicast", "ipv6 flow"], '
        'communities = ["65000:*", "no-export", "65000:1:*", "rt:65000:*"], all_communities = "65000:9", '
        'as_path = ["^65001_", "_65009$"], as_path_length = { max = 5 }, origin = ["igp", "EGP"], '
        'source = ["peer", "config"], peer = ["192.0.2.1", "tor-1", "2001:DB8::/32"], '
        'next_hop = ["self", "192.0.2.0/24", "2001:db8::1"], local_pref = 100, multi_exit_disc = { min = 1, max = 9 }, '
        'not = { origin = "incomplete" } }'
    ).match
    assert found == Match(
        prefixes=(PrefixRange(Prefix.parse("10.0.0.0/8"), 8, 24), PrefixRange.exactly(Prefix.parse("2001:db8::/32"))),
        families=(IPV4_UNICAST, IPV6_FLOW),
        communities=tuple(map(parse_pattern, ("65000:*", "no-export", "65000:1:*", "rt:65000:*"))),
        all_communities=(parse_pattern("65000:9"),),
        as_path=(PathRegex("^65001_"), PathRegex("_65009$")),
        as_path_length=Range(0, 5),
        origins=(0, 1),
        sources=("peer", "config"),
        peers=("192.0.2.1", "tor-1", "2001:db8::/32"),
        next_hops=(
            PrefixRange.within(Prefix.parse("192.0.2.0/24")),
            PrefixRange.within(Prefix.parse("2001:db8::1/128")),
        ),
        next_hop_self=True,
        local_pref=Range(100, 100),
        med=Range(1, 9),
        exclude=Match(origins=(2,)),
    )


def test_every_change() -> None:
    found = term(
        'name = "prefer-a", action = "next", set = { local_pref = 200, multi_exit_disc = 0, origin = "igp", '
        'next_hop = ["192.0.2.1", "2001:db8::1"], communities = ["65000:1", "65000:1:2"] }, '
        'add = { communities = "rt:65000:1" }, remove = { communities = ["65000:*"] }, prepend = 3'
    )
    assert found == Term(
        action=NEXT,
        name="prefer-a",
        changes=Changes(
            local_pref=200,
            med=0,
            origin=0,
            next_hops=(bytes((192, 0, 2, 1)), bytes.fromhex("20010db8") + bytes(11) + b"\x01"),
            set_communities=parse_communities(["65000:1", "65000:1:2"]),
            add_communities=parse_communities(["rt:65000:1"]),
            remove_communities=(parse_pattern("65000:*"),),
            prepend_own=3,
        ),
    )


def test_other_ways_to_write_changes() -> None:
    assert term('set = { multi_exit_disc = "none", next_hop = "self" }').changes == Changes(
        clear_med=True, next_hop_self=True
    )
    assert term('prepend = [65001, "65001", "1.10"]').changes == Changes(prepend_asns=(65001, 65001, 65546))
    assert not term('match = { source = "peer" }').changes


# -- what is named as wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "word"),
    [
        ('action = "acept"', "action", "'accept'"),
        ("actions = 1", "actions", "'action'"),
        ('match = { prefix = ["10.0.0.0/8"] }', "match.prefix", "'prefixes'"),
        ('match = { prefixes = ["10.0.0.0/8", "10.0.0.0/8 le 99"] }', "match.prefixes[1]", "8 to 32"),
        ("match = { prefixes = [] }", "match.prefixes", "at least one"),
        ("match = { prefixes = [1] }", "match.prefixes[0]", "a string"),
        ('match = "10.0.0.0/8"', "match", "a table"),
        ('match = { families = "ipv4" }', "match.families", "ipv4"),
        ('match = { communities = ["65000:1", "65000:x"] }', "match.communities[1]", "65000:x"),
        ('match = { all_communities = ["*"] }', "match.all_communities[0]", "expected"),
        ('match = { as_path = ["_65001_", "_(65001"] }', "match.as_path[1]", "character 2"),
        ("match = { as_path_length = -1 }", "match.as_path_length", "min = "),
        ("match = { as_path_length = { min = 5, max = 4 } }", "match.as_path_length.max", "under min 5"),
        ("match = { as_path_length = { minimum = 5 } }", "match.as_path_length.minimum", "'min'"),
        ("match = { as_path_length = {} }", "match.as_path_length", "at least one"),
        ('match = { origin = "ibgp" }', "match.origin", "igp"),
        ('match = { source = ["peers"] }', "match.source[0]", "'peer'"),
        ('match = { peer = "" }', "match.peer", "empty"),
        ('match = { next_hop = "192.0.2.1/24" }', "match.next_hop", "host bits"),
        ('match = { next_hop = "own" }', "match.next_hop", '"self"'),
        ("match = { not = {} }", "match.not", "at least one"),
        ('match = { not = { not = { origin = "igp" } } }', "match.not.not", "unknown"),
        ("set = { local_pref = 4294967296 }", "set.local_pref", "4294967295"),
        ("set = { med = 1 }", "set.med", "known"),
        ('set = { multi_exit_disc = "off" }', "set.multi_exit_disc", '"none"'),
        ('set = { next_hop = ["self", "192.0.2.1"] }', "set.next_hop", "alone"),
        ('set = { next_hop = ["192.0.2.2", "192.0.2.1"] }', "set.next_hop", "one address a family"),
        ('set = { next_hop = "fe80::1" }', "set.next_hop", "link-local"),
        ("set = { communities = [] }", "set.communities", "remove"),
        ('set = { communities = ["65000:*"] }', "set.communities", "65000:*"),
        ('add = { community = ["65000:1"] }', "add.community", "'communities'"),
        ("remove = { communities = [] }", "remove.communities", "at least one"),
        ("prepend = 0", "prepend", "1 to 32"),
        ("prepend = 33", "prepend", "1 to 32"),
        ("prepend = true", "prepend", "not a boolean"),
        ('prepend = "65001"', "prepend", "a list of AS numbers"),
        ("prepend = []", "prepend", "1 to 32"),
        ("prepend = [0]", "prepend", "AS number"),
        ("prepend = [23456]", "prepend", "AS_TRANS"),
        ('action = "reject", prepend = 1', "prepend", "leave it out"),
        ('action = "reject", set = { local_pref = 1 }', "set", "leave it out"),
        ('name = ""', "name", "not empty"),
    ],
)
def test_wrong_value_is_named_with_its_place(text: str, path: str, word: str) -> None:
    found = term_faults(text)
    assert list(found) == [path]
    assert word in found[path]


def test_all_faults_at_once() -> None:
    found = faults_of(
        'default = "maybe"\nterm = []\n'
        'terms = [ { action = "no" }, { match = { origin = "x", source = "y" } }, 5, { name = "a" }, { name = "a" } ]'
    )
    assert set(found) == {
        "policies.p.default",
        "policies.p.term",
        "policies.p.terms[0].action",
        "policies.p.terms[1].match.origin",
        "policies.p.terms[1].match.source",
        "policies.p.terms[2]",
        "policies.p.terms[4].name",
    }


@pytest.mark.parametrize("text", ["", "terms = []", 'terms = [ { match = { source = "api" }, action = "reject" } ]'])
def test_policy_that_lets_nothing_through_has_to_say_so(text: str) -> None:
    assert "say" in faults_of(text)["policies.p.default"]
    assert not verdict(one(text + '\ndefault = "reject"'), "10.0.0.0/8")[0]


@pytest.mark.parametrize("name", ["", " ", "a\x1b[2J", "x" * 65])
def test_name_that_would_disturb_is_refused(name: str) -> None:
    _, faults = read({"policies": {name: {"default": "accept"}}})
    assert len(faults) == 1
    assert "control character" in next(iter(faults.values()))


# -- what is shown -----------------------------------------------------------------------------------------

EVERYTHING = """
default = "reject"
[[policies.p.terms]]
name = "a"
action = "next"
prepend = [65001, 65001]
set = { local_pref = 200, multi_exit_disc = "none", origin = "egp", next_hop = "self", communities = ["1:1", "rt:1:1"] }
add = { communities = ["no-export", "1:1:1"] }
remove = { communities = ["1:*", "rt:192.0.2.1:*", "soo:*", "bandwidth:*", "ext:*", "*:*:3"] }
[[policies.p.terms]]
match.prefixes = ["10.0.0.0/8 ge 16 le 24", "10.0.0.0/8{9,32}", "192.0.2.1", "::/0+", "::/0"]
match.families = ["ipv6 unicast"]
match.communities = ["65535:65281", "65000:*"]
match.all_communities = ["*:*"]
match.as_path = ["^$", '_\\{65001,65002\\}_']
match.as_path_length = { min = 3 }
match.origin = "incomplete"
match.source = ["service"]
match.peer = ["tor-1", "fe80::1%eth0"]
match.next_hop = ["self", "192.0.2.0/24"]
match.local_pref = { min = 5, max = 5 }
match.multi_exit_disc = 0
match.not = { prefixes = ["10.0.0.0/8"], as_path_length = { max = 9 } }
prepend = 2
[[policies.p.terms]]
action = "reject"
"""


def again(policy: Policy) -> Policy:
    plain = json.loads(json.dumps(policy_as_plain(policy)))
    found, faults = read({"policies": {policy.name: plain}})
    assert faults == {}
    return found[policy.name]


def test_shown_policy_reads_as_the_same() -> None:
    policy = one(EVERYTHING)
    assert again(policy) == policy


def test_shown_in_the_words_of_the_file() -> None:
    policy = one('terms = [ { match = { prefixes = ["10.0.0.0/8{16,24}"], as_path_length = 3 }, prepend = 2 } ]')
    assert policy_as_plain(policy) == {
        "default": "reject",
        "terms": [
            {
                "match": {"prefixes": ["10.0.0.0/8 ge 16 le 24"], "as_path_length": 3},
                "action": "accept",
                "prepend": 2,
            }
        ],
    }


numbers = st.one_of(st.none(), st.integers(0, 2**32 - 1))
number_ranges = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 50), st.integers(50, 100)).map(lambda pair: Range(*pair)),
    st.integers(0, 9).map(lambda low: Range(low, None)),
)
community_texts = st.sampled_from(
    ["1:1", "7", "no-export", "1:2:3", "rt:1:1", "soo:192.0.2.1:7", "ext:0x99" + 14 * "0", "rt:[2001:db8::1]:7"]
)
community_lists = st.lists(community_texts, max_size=4).map(lambda texts: parse_communities(texts, ipv6=True))
pattern_texts = st.sampled_from(["1:1", "*:1", "1:*:2", "rt:*", "rt:70000:*", "bandwidth:7:*", "ext:*", "rt:[::1]:1"])
pattern_lists = st.lists(pattern_texts.map(parse_pattern), max_size=3, unique=True).map(tuple)
range_lists = st.lists(
    st.tuples(st.integers(0, 32), st.integers(0, 32), st.integers(0, 32))
    .map(sorted)
    .map(lambda three: PrefixRange(Prefix.parse(f"0.0.0.0/{three[0]}"), three[1], three[2])),
    max_size=3,
    unique=True,
).map(tuple)
inner_matches = st.builds(
    Match,
    prefixes=range_lists,
    communities=pattern_lists,
    as_path_length=number_ranges,
    origins=st.lists(st.integers(0, 2), max_size=2, unique=True).map(tuple),
    local_pref=number_ranges,
)
matches = st.builds(
    lambda match, exclude: replace(match, exclude=exclude),
    inner_matches,
    st.one_of(st.none(), inner_matches.filter(lambda match: match != Match())),
)
changes = st.builds(
    Changes,
    local_pref=numbers,
    med=numbers,
    origin=st.one_of(st.none(), st.integers(0, 2)),
    remove_communities=pattern_lists,
    set_communities=community_lists,
    add_communities=community_lists,
    prepend_own=st.integers(0, 32),
)
terms = st.one_of(
    st.builds(Term, matches, st.sampled_from([ACCEPT, NEXT]), changes),
    st.builds(Term, matches, st.just(REJECT)),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([ACCEPT, REJECT]), st.lists(terms, max_size=3).map(tuple))
def test_every_policy_that_is_shown_reads_as_the_same(default: str, items: tuple[Term, ...]) -> None:
    policy = Policy("p", default, items)
    assert again(policy) == policy


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=4,
)
inner_keys = (
    "prefixes",
    "families",
    "communities",
    "as_path",
    "as_path_length",
    "origin",
    "peer",
    "next_hop",
    "not",
    "local_pref",
    "multi_exit_disc",
)
odd_terms = st.dictionaries(
    st.sampled_from(TERM_KEYS),
    st.one_of(json_values, st.dictionaries(st.sampled_from(inner_keys), json_values, max_size=3)),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(json_values, st.lists(odd_terms, max_size=2))
def test_whatever_stands_there_is_a_policy_or_faults(default: object, items: list[object]) -> None:
    found, faults = read({"policies": {"p": {"default": default, "terms": items}}})
    assert set(found) == {"p"}
    if not faults:
        assert again(found["p"]) == found["p"]


def test_ipv6_default_and_range() -> None:
    policy = one('terms = [ { match = { prefixes = "2000::/3 le 48", families = "ipv6 unicast" } } ]')
    assert verdict(policy, "2001:db8::/32")[0]
    assert not verdict(policy, "2001:db8::/49")[0]
    assert policy.depends_on_prefix
    assert policy.terms[0].match.families == (IPV6_UNICAST,)
