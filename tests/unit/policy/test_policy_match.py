"""What each key of a match means, and policies against a naive reader of the same rules."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.communities import CommunitySet, parse_pattern
from bgpbfd.policy.match import Facts, Match, Range
from bgpbfd.policy.path_regex import PathRegex
from bgpbfd.policy.policy import ACCEPT, NEXT, REJECT, Policy, Term
from bgpbfd.policy.prefixes import BITS, PrefixRange, PrefixSet
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.text import parse_as_path, parse_communities

FACTS = Facts("peer", frozenset({"192.0.2.1", "tor-1", "192.0.2.0/24"}), 65010)
OURS = Facts("config", frozenset(), 65010)
PLAIN = PathAttributes()
PREFIX = "203.0.113.0/24"


def meant(
    match: Match,
    attributes: PathAttributes = PLAIN,
    prefix: str = PREFIX,
    facts: Facts = FACTS,
    family: Family | None = None,
) -> bool:
    """Whether a term with this match decides."""
    parsed = Prefix.parse(prefix)
    policy = Policy("p", REJECT, (Term(match),))
    return policy.evaluate(attributes, family or parsed.family, parsed.nlri, facts).accepted


def within(text: str, low: int, high: int) -> PrefixRange:
    return PrefixRange(Prefix.parse(text), low, high)


def exactly(*texts: str) -> Match:
    return Match(prefixes=tuple(PrefixRange.exactly(Prefix.parse(text)) for text in texts))


def communities(*texts: str) -> PathAttributes:
    parsed = parse_communities(texts, ipv6=True)
    return PathAttributes(
        communities=parsed.standard,
        extended_communities=parsed.extended,
        large_communities=parsed.large,
        ipv6_extended_communities=parsed.ipv6_extended,
    )


def path(text: str) -> PathAttributes:
    return PathAttributes(as_path=parse_as_path([text]))


# -- prefixes ----------------------------------------------------------------------------------------------


def test_plain_prefix_is_exactly_that_one() -> None:
    match = exactly("0.0.0.0/0", "10.0.0.0/8")
    assert meant(match, prefix="0.0.0.0/0")
    assert meant(match, prefix="10.0.0.0/8")
    assert not meant(match, prefix="10.0.0.0/9")
    assert not meant(match, prefix="::/0")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("10.0.0.0/8", False),
        ("10.1.0.0/15", False),
        ("10.1.0.0/16", True),
        ("10.255.255.0/24", True),
        ("10.1.1.0/25", False),
        ("11.0.0.0/16", False),
        ("a00::/16", False),
    ],
)
def test_range_takes_lengths_within_it(prefix: str, expected: bool) -> None:
    prefix = str(ip_network(prefix, strict=False))
    assert meant(Match(prefixes=(within("10.0.0.0/8", 16, 24),)), prefix=prefix) is expected


def test_ranges_of_one_prefix_add_up() -> None:
    match = Match(prefixes=(within("10.0.0.0/8", 9, 10), within("10.0.0.0/8", 24, 24)))
    assert [length for length in range(8, 33) if meant(match, prefix=f"10.0.0.0/{length}")] == [9, 10, 24]


def test_default_range_takes_everything_of_its_family() -> None:
    match = Match(prefixes=(within("::/0", 0, 128),))
    assert meant(match, prefix="::/0")
    assert meant(match, prefix="2001:db8::1/128")
    assert not meant(match, prefix="0.0.0.0/0")


def test_rfc8955_flow_specification_is_in_no_set_of_prefixes() -> None:
    rule = bytes.fromhex("03 01 08 0a")  # destination 10.0.0.0/8
    policy = Policy("p", REJECT, (Term(Match(prefixes=(within("0.0.0.0/0", 0, 32),))),))
    assert not policy.evaluate(PathAttributes(), IPV4_FLOW, rule, FACTS).accepted


def nearby(afi: int) -> st.SearchStrategy[Prefix]:
    """Prefixes that often lie in one another: few different bits."""
    bits = BITS[afi]

    def build(parts: tuple[int, int]) -> Prefix:
        length, seed = parts
        number = int.from_bytes(bytes((seed,)) * (bits // 8), "big") >> (bits - length) << (bits - length)
        return Prefix.of(ip_network((number if afi == 1 else number.to_bytes(16, "big"), length)))

    return st.tuples(st.integers(0, bits), st.sampled_from([0x00, 0x0A, 0x0B, 0xFF])).map(build)


prefixes = st.one_of(nearby(1), nearby(2))


@st.composite
def ranges(draw: st.DrawFn) -> PrefixRange:
    prefix = draw(prefixes)
    if draw(st.booleans()):
        return PrefixRange.exactly(prefix)
    low = draw(st.integers(prefix.length, BITS[prefix.afi]))
    return PrefixRange(prefix, low, draw(st.integers(low, BITS[prefix.afi])))


def naive_in(item: PrefixRange, prefix: Prefix) -> bool:
    inner, outer = prefix.network(), item.prefix.network()
    return (
        item.prefix.afi == prefix.afi
        and inner.subnet_of(outer)  # type: ignore[arg-type]
        and item.low <= prefix.length <= item.high
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(ranges(), max_size=6), prefixes)
def test_set_of_prefixes_says_what_its_ranges_say(items: list[PrefixRange], prefix: Prefix) -> None:
    assert PrefixSet(items).matches(prefix.family, prefix.nlri) == any(naive_in(item, prefix) for item in items)


def test_thousands_of_prefixes_cost_one_look_up_a_length() -> None:
    class CountedBytes(bytes):
        hashed = 0

        def __hash__(self) -> int:
            CountedBytes.hashed += 1
            return super().__hash__()

        __eq__ = bytes.__eq__

    wanted = PrefixSet(
        PrefixRange.exactly(Prefix.of(network)) for network in ip_network("10.0.0.0/8").subnets(new_prefix=20)
    )
    assert wanted.matches(IPV4_UNICAST, CountedBytes(Prefix.parse("10.255.240.0/20").nlri))
    assert CountedBytes.hashed == 1


# -- the other keys ----------------------------------------------------------------------------------------


def test_families() -> None:
    match = Match(families=(IPV6_UNICAST, IPV4_FLOW))
    assert meant(match, prefix="2001:db8::/32")
    assert not meant(match)
    assert meant(match, family=IPV4_FLOW)


@pytest.mark.parametrize(
    ("pattern", "community", "expected"),
    [
        ("65000:99", "65000:99", True),
        ("65000:99", "65000:100", False),
        ("65000:*", "65000:0", True),
        ("65000:*", "65001:0", False),
        ("*:99", "1:99", True),
        ("*:99", "99:1", False),
        ("*:*", "no-export", True),
        ("no-export", "no-export", True),
        ("NO_EXPORT", "65535:65281", True),
        ("65535:*", "no-advertise", True),
        ("65000:1:2", "65000:1:2", True),
        ("65000:1:2", "65000:1:3", False),
        ("65000:1:*", "65000:1:4294967295", True),
        ("65000:*:2", "65000:7:2", True),
        ("65000:*:2", "65000:7:3", False),
        ("*:*:*", "1:2:3", True),
        ("*:*:*", "1:2", False),
        ("*:*", "1:2:3", False),
        ("rt:65000:1", "rt:65000:1", True),
        ("rt:65000:1", "soo:65000:1", False),
        ("rt:65000:*", "rt:65000:4294967295", True),
        ("rt:65000:*", "rt:65001:1", False),
        ("rt:65000:*", "rt:65000L:1", False),
        ("rt:4200000000:*", "rt:4200000000:7", True),
        ("rt:192.0.2.1:*", "rt:192.0.2.1:7", True),
        ("rt:192.0.2.1:*", "rt:192.0.2.2:7", False),
        ("rt:*", "rt:65000:1", True),
        ("rt:*", "rt:192.0.2.1:1", True),
        ("rt:*:*", "rt:4200000000:1", True),
        ("rt:*", "soo:65000:1", False),
        ("ro:*", "soo:65000:1", True),
        ("bandwidth:65000:*", "bandwidth:65000:1250000", True),
        ("bandwidth:*", "bandwidth:65000:1250000", True),
        ("bandwidth:*", "rt:65000:1", False),
        ("ext:*", "rt:65000:1", True),
        ("ext:*", "65000:1", False),
        ("rt:[2001:db8::1]:7", "rt:[2001:DB8:0::1]:7", True),
        ("rt:[2001:db8::1]:7", "soo:[2001:db8::1]:7", False),
        ("rt:*", "rt:[2001:db8::1]:7", False),
        ("ext:0x0002fde800000001", "rt:65000:1", True),
    ],
)
def test_community_patterns(pattern: str, community: str, expected: bool) -> None:
    match = Match(communities=(parse_pattern(pattern),))
    assert meant(match, communities(community)) is expected
    assert not meant(match, PLAIN)
    assert parse_pattern(parse_pattern(pattern).text) == parse_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "65000:1*",
        "65536:*",
        "*:*:*:*",
        "4294967296:*:1",
        "rt:*:5",
        "rt:65000:1*",
        "ext:0x*",
        "ext:*:*",
        "x:*",
        "rt:0:*",
    ],
)
def test_community_pattern_that_means_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        parse_pattern(pattern)


def test_communities_any_of_and_all_of() -> None:
    both = tuple(parse_pattern(text) for text in ("65000:1", "65000:1:*"))
    one = communities("65000:1", "65000:2")
    assert meant(Match(communities=both), one)
    assert not meant(Match(all_communities=both), one)
    assert meant(Match(all_communities=both), communities("65000:1", "65000:1:9"))


def test_as_path_any_of_the_expressions() -> None:
    match = Match(as_path=(PathRegex("^65001_"), PathRegex("_65009$")))
    assert meant(match, path("65001 65002"))
    assert meant(match, path("65002 65009"))
    assert not meant(match, path("65002 65001"))
    assert not meant(match, path("65002 65001"))  # remembered


def test_as_path_of_a_set() -> None:
    match = Match(as_path=(PathRegex("_65003_"),))
    assert meant(match, path("65001 {65003,65004}"))
    assert not meant(match, path("65001 {65005,65004}"))


def test_rfc4271_9_1_2_2_a_set_counts_as_one_in_the_length() -> None:
    match = Match(as_path_length=Range(2, 2))
    assert meant(match, path("65001 {65003,65004}"))
    assert not meant(match, path("65001 65002 {65003}"))
    assert meant(Match(as_path_length=Range(0, 1)), PathAttributes())
    assert meant(Match(as_path_length=Range(3, None)), path("1 2 3 4"))
    assert not meant(Match(as_path_length=Range(3, None)), path("1 2"))


def test_origin() -> None:
    assert meant(Match(origins=(0, 2)), PathAttributes(origin=2))
    assert not meant(Match(origins=(0, 2)), PathAttributes(origin=1))


def test_source_and_peer() -> None:
    assert meant(Match(sources=("peer", "api")))
    assert not meant(Match(sources=("api",)))
    assert meant(Match(sources=("config",)), facts=OURS)
    assert meant(Match(peers=("tor-1", "tor-2")))
    assert meant(Match(peers=("192.0.2.0/24",)))
    assert not meant(Match(peers=("tor-2",)))
    assert not meant(Match(peers=("tor-1",)), facts=OURS)


def test_next_hop_is_in_one_of_the_networks() -> None:
    networks = tuple(PrefixRange.within(Prefix.parse(text)) for text in ("192.0.2.0/24", "2001:db8::/32"))
    match = Match(next_hops=networks)
    assert meant(match, PathAttributes(next_hop=bytes((192, 0, 2, 9))))
    assert not meant(match, PathAttributes(next_hop=bytes((192, 0, 3, 9))))
    assert not meant(match, PathAttributes(next_hop=None))
    assert meant(replace(match, next_hop_self=True), PathAttributes(next_hop=None))
    # RFC 2545 §3: the global address is the next hop, the link-local one goes beside it
    link_local = bytes.fromhex("fe80") + bytes(14)
    assert meant(match, PathAttributes(next_hop=bytes.fromhex("20010db8") + bytes(12) + link_local))
    assert not meant(match, PathAttributes(next_hop=link_local))


@pytest.mark.parametrize(("field", "key"), [("local_pref", "local_pref"), ("med", "med")])
def test_numbers_are_in_their_range_and_absent_ones_in_none(field: str, key: str) -> None:
    match = replace(Match(), **{key: Range(100, 200)})  # type: ignore[arg-type]
    found = [
        value for value in (None, 0, 99, 100, 200, 201) if meant(match, replace(PathAttributes(), **{field: value}))
    ]  # type: ignore[arg-type]
    assert found == [100, 200]
    assert not meant(replace(Match(), **{key: Range(0, None)}), PathAttributes())  # type: ignore[arg-type]


def test_all_keys_have_to_hold() -> None:
    match = replace(exactly(PREFIX), origins=(0,), exclude=Match(communities=(parse_pattern("65000:1"),)))
    assert meant(match)
    assert not meant(match, PathAttributes(origin=1))
    assert not meant(match, prefix="203.0.112.0/24")
    assert not meant(match, communities("65000:1"))


def test_not_excludes_only_what_all_its_keys_mean() -> None:
    match = Match(exclude=Match(origins=(0,), sources=("api",)))
    assert meant(match)
    assert not meant(match, facts=Facts("api", frozenset(), 1))
    assert meant(match, PathAttributes(origin=1), facts=Facts("api", frozenset(), 1))


# -- against a naive reader --------------------------------------------------------------------------------

POOL = ("65000:1", "65000:2", "1:1", "no-export", "65000:1:1", "65000:1:2", "rt:65000:1", "soo:65000:1")
PATTERNS = (*POOL, "65000:*", "*:1", "65000:1:*", "rt:*", "soo:65000:*")


def naive_pattern(pattern: str, community: str) -> bool:
    wanted, given_ = pattern.split(":"), community.split(":")
    if pattern.endswith(":*") and len(wanted) == 2 and wanted[0].isalpha():
        return given_[0] == wanted[0]
    return len(wanted) == len(given_) and all(a in {"*", b} for a, b in zip(wanted, given_, strict=True))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PATTERNS), max_size=3), st.lists(st.sampled_from(POOL), max_size=4))
def test_set_of_patterns_says_what_its_patterns_say(patterns: list[str], found: list[str]) -> None:
    numeric = ["65535:65281" if text == "no-export" else text for text in found]
    texts = ["65535:65281" if text == "no-export" else text for text in patterns]
    expected = any(naive_pattern(pattern, community) for pattern in texts for community in numeric)
    assert CommunitySet(map(parse_pattern, patterns)).fits_any(communities(*found)) == expected


@st.composite
def matches(draw: st.DrawFn, depth: int = 0) -> Match:
    def some(strategy: st.SearchStrategy[object]) -> tuple[object, ...]:
        return draw(st.one_of(st.just(()), st.lists(strategy, min_size=1, max_size=3).map(tuple)))

    return Match(
        prefixes=some(ranges()),  # type: ignore[arg-type]
        origins=some(st.integers(0, 2)),  # type: ignore[arg-type]
        sources=some(st.sampled_from(["api", "config", "peer"])),  # type: ignore[arg-type]
        communities=some(st.sampled_from(PATTERNS).map(parse_pattern)),  # type: ignore[arg-type]
        exclude=draw(st.one_of(st.none(), matches(depth=1))) if depth == 0 else None,
    )


terms = st.builds(
    Term,
    matches(),
    st.sampled_from([ACCEPT, REJECT, NEXT]),
    st.builds(Changes, local_pref=st.sampled_from([None, 1, 2]), origin=st.sampled_from([None, 0, 1])),
)


def naive_meant(match: Match, attributes: PathAttributes, prefix: Prefix, source: str, found: list[str]) -> bool:
    return (
        (not match.prefixes or any(naive_in(item, prefix) for item in match.prefixes))
        and (not match.origins or attributes.origin in match.origins)
        and (not match.sources or source in match.sources)
        and (
            not match.communities
            or any(
                naive_pattern(pattern.text.replace("no-export", "65535:65281"), community)
                for pattern in match.communities
                for community in found
            )
        )
        and (match.exclude is None or not naive_meant(match.exclude, attributes, prefix, source, found))
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(terms, max_size=4),
    st.sampled_from([ACCEPT, REJECT]),
    prefixes,
    st.integers(0, 2),
    st.sampled_from(["api", "config", "peer"]),
    st.lists(st.sampled_from(POOL), max_size=3, unique=True),
)
def test_policy_says_what_reading_its_terms_in_order_says(
    items: list[Term], default: str, prefix: Prefix, origin: int, source: str, found: list[str]
) -> None:
    attributes = replace(communities(*found), origin=origin)
    numeric = ["65535:65281" if text == "no-export" else text for text in found]
    current, action, decided = attributes, default, "default"
    for number, term in enumerate(items, 1):
        if not naive_meant(term.match, current, prefix, source, numeric):
            continue
        if term.action != REJECT and term.changes.local_pref is not None:
            current = replace(current, local_pref=term.changes.local_pref)
        if term.action != REJECT and term.changes.origin is not None:
            current = replace(current, origin=term.changes.origin)
        if term.action != NEXT:
            action, decided = term.action, f"term {number}"
            break
    policy = Policy("p", default, tuple(items))
    verdict = policy.evaluate(attributes, prefix.family, prefix.nlri, Facts(source, frozenset(), 65010))
    assert verdict.accepted == (action == ACCEPT)
    assert verdict.attributes == (current if action == ACCEPT else attributes)
    assert verdict.reason == f'policy "p": {decided} {action}s'
    if not policy.depends_on_prefix:
        other = policy.evaluate(attributes, prefix.family, b"\0", Facts(source, frozenset(), 65010))
        assert other == verdict
