"""Which learned flow specifications are feasible."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import msgspec.structs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rib_fakes import flat

from bgpbfd.core import AFI_IPV4, AFI_IPV6, IPV4_FLOW, IPV4_UNICAST, IPV6_FLOW, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.rib import flow_validation
from bgpbfd.rib.flow_validation import FlowValidator
from bgpbfd.rib.select import PeerInfo, neighbor_asn
from bgpbfd.rib.table import LearnedRoute, Rib
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.flowspec import ComponentType, FlowRule, PrefixMatch, Term, ValueMatch, encode_nlri
from bgpbfd.wire.iana import SegmentType
from bgpbfd.wire.update import Reach, Unreach, Update

A = PeerInfo(
    external=True,
    remote_asn=65001,
    local_asn=65010,
    router_id=1,
    local_router_id=9,
    address=b"\xc0\0\2\1",
    policy=Policy("all"),
)
B = replace(A, remote_asn=65002, router_id=2, address=b"\xc0\0\2\2")
C = replace(A, external=False, remote_asn=65010, router_id=3, address=b"\xc0\0\2\3", policy=None)
PEERS = {"a": A, "b": B, "c": C}


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),) if asns else ()


def world() -> Rib:
    rib = Rib()
    for peer, info in PEERS.items():
        flat(rib.session_up(peer, info))
    return rib


def unicast(rib: Rib, peer: str, prefix: str, *asns: int, **more: object) -> None:
    parsed = Prefix.parse(prefix)
    next_hop = b"\xc0\0\2\x63" if parsed.afi == AFI_IPV4 else bytes.fromhex("20010db8") + bytes(11) + b"\1"
    path = PathAttributes(as_path=sequence(*asns), next_hop=next_hop, **more)  # type: ignore[arg-type]
    rib.apply(peer, Update([Reach(parsed.family, path, [parsed.nlri])]), 1)


def rule(destination: str | None, afi: int = AFI_IPV4, offset: int = 0) -> bytes:
    matches: list[PrefixMatch | ValueMatch] = [ValueMatch(ComponentType.IP_PROTOCOL, (Term(1, 17),))]
    if destination is not None:
        nlri = Prefix.parse(destination).nlri
        matches.append(PrefixMatch(ComponentType.DESTINATION_PREFIX, nlri[0], offset, nlri[1 + offset // 8 :]))
    return encode_nlri(FlowRule.of(afi, matches))


def flow(rib: Rib, peer: str, nlri: bytes, *asns: int, family: Family = IPV4_FLOW, **more: object) -> LearnedRoute:
    path = PathAttributes(as_path=sequence(*asns), **more)  # type: ignore[arg-type]
    rib.apply(peer, Update([Reach(family, path, [nlri])]), 1)
    (route,) = (r for r in rib.paths(family, nlri) if r.peer == peer)
    return route


def verdict(rib: Rib, peer: str, destination: str | None, *asns: int, **more: object) -> str | None:
    return FlowValidator(rib).validate_flow(flow(rib, peer, rule(destination), *asns, **more))


def test_rfc8955_6_a_rule_of_him_who_announces_its_destination_is_feasible() -> None:
    rib = world()
    unicast(rib, "a", "198.51.100.0/24", 65001, 7)
    assert verdict(rib, "a", "198.51.100.0/24", 65001) is None
    assert verdict(rib, "a", "198.51.100.9/32", 65001) is None


def test_rfc8955_6_a_a_destination_must_be_there() -> None:
    rib = world()
    unicast(rib, "a", "0.0.0.0/0", 65001)
    assert "no destination prefix (RFC 8955 §6 a)" in str(verdict(rib, "a", None, 65001))


def test_rfc8956_5_a_destination_with_an_offset_is_none() -> None:
    rib = world()
    unicast(rib, "a", "2001:db8::/32", 65001)
    whole = flow(rib, "a", rule("2001:db8:1::/48", AFI_IPV6), 65001, family=IPV6_FLOW)
    part = flow(rib, "a", rule("2001:db8:1::/48", AFI_IPV6, offset=16), 65001, family=IPV6_FLOW)
    validator = FlowValidator(rib)
    assert validator.validate_flow(whole) is None
    assert "(RFC 8955 §6 a)" in str(validator.validate_flow(part))


def test_rfc8955_6_b_without_a_unicast_route_it_is_not_feasible() -> None:
    rib = world()
    unicast(rib, "a", "198.51.100.0/25", 65001)  # longer than the rule's: it does not cover it
    assert "no unicast route" in str(verdict(rib, "a", "198.51.100.0/24", 65001))


def test_rfc8955_6_b_the_longest_match_counts_not_any() -> None:
    rib = world()
    unicast(rib, "a", "198.51.0.0/16", 65001)
    unicast(rib, "b", "198.51.100.0/24", 65002)
    assert "is b's (RFC 8955 §6 b)" in str(verdict(rib, "a", "198.51.100.1/32", 65001))
    assert verdict(rib, "b", "198.51.100.1/32", 65002) is None
    assert verdict(rib, "a", "198.51.101.1/32", 65001) is None


def test_rfc8955_6_b_the_best_route_counts_not_any() -> None:
    rib = world()
    unicast(rib, "a", "198.51.100.0/24", 65001, 7, 8)
    unicast(rib, "b", "198.51.100.0/24", 65002)
    assert "(RFC 8955 §6 b)" in str(verdict(rib, "a", "198.51.100.0/24", 65001))


def test_rfc8955_6_b_unusable_unicast_routes_vouch_for_nothing() -> None:
    rib = world()
    unicast(rib, "a", "198.51.100.0/24", 65001, 65010)  # AS loop
    assert "no unicast route" in str(verdict(rib, "a", "198.51.100.0/24", 65001))


def test_rfc8955_6_b_the_originator_id_stands_in_for_the_address() -> None:
    rib = world()
    unicast(rib, "c", "198.51.100.0/24", 7, originator_id=b"\1\1\1\1")
    assert verdict(rib, "c", "198.51.100.0/24", 7, originator_id=b"\1\1\1\1") is None
    assert "(RFC 8955 §6 b)" in str(verdict(rib, "c", "198.51.100.0/24", 7, originator_id=b"\2\2\2\2"))
    assert "(RFC 8955 §6 b)" in str(verdict(rib, "c", "198.51.100.0/24", 7))


@pytest.mark.parametrize("path", [(), (Segment(SegmentType.AS_CONFED_SEQUENCE, (7,)),)])
def test_rfc9117_4_1_a_rule_made_in_our_own_as_needs_no_matching_originator(path: tuple[Segment, ...]) -> None:
    rib = world()
    unicast(rib, "a", "198.51.100.0/24", 65001)
    made_here = msgspec.structs.replace(
        flow(rib, "c", rule("198.51.100.0/24")), as_received=PathAttributes(as_path=path)
    )
    assert FlowValidator(rib).validate_flow(made_here) is None
    assert verdict(rib, "c", "203.0.113.0/24") is None
    elsewhere = msgspec.structs.replace(made_here, as_received=PathAttributes(as_path=sequence(7)))
    assert FlowValidator(rib).validate_flow(elsewhere) is not None


def test_rfc9117_4_2_the_paths_begin_with_the_same_as() -> None:
    """A route server's clients: one address, one originator, but not one AS."""
    rib = world()
    unicast(rib, "a", "198.51.100.0/24", 65100)
    assert verdict(rib, "a", "198.51.100.0/24", 65100, 7) is None
    assert "(RFC 9117 §4.2)" in str(verdict(rib, "a", "198.51.100.0/24", 65200))


@pytest.mark.parametrize("length", [8, 22, 23, 24, 31])
def test_rfc8955_6_c_a_longer_route_of_another_as_forbids_the_rule(length: int) -> None:
    rib = world()
    destination = str(ipaddress.ip_network(f"198.51.100.0/{length}", strict=False))
    unicast(rib, "a", destination, 65001)
    unicast(rib, "a", "198.51.100.1/32", 65001, 8)
    validator = FlowValidator(rib)
    route = flow(rib, "a", rule(destination), 65001)
    assert validator.validate_flow(route) is None
    unicast(rib, "b", "198.51.100.0/32", 65002)
    assert "(RFC 8955 §6 c)" in str(validator.validate_flow(route))
    nlri = Prefix.parse("198.51.100.0/32").nlri
    rib.apply("b", Update(withdrawn=[Unreach(IPV4_UNICAST, [nlri])]), 2)
    assert validator.validate_flow(route) is None


def test_rfc8955_6_c_routes_beside_the_destination_do_not_count() -> None:
    rib = world()
    unicast(rib, "a", "198.51.64.0/18", 65001)
    for beside in ("198.51.63.255/32", "198.51.128.0/32", "198.51.0.0/16", "0.0.0.0/0"):
        unicast(rib, "b", beside, 65002)
    assert verdict(rib, "a", "198.51.64.0/18", 65001) is None


def test_rfc8955_6_c_not_checked_in_a_large_table_is_not_feasible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_validation, "SORT_MAX", 2)
    rib = world()
    for prefix in ("198.51.0.0/16", "198.51.100.0/24", "203.0.113.0/24"):
        unicast(rib, "a", prefix, 65001)
    assert str(verdict(rib, "a", "198.51.0.0/16", 65001)).startswith("not checked: ")
    assert verdict(rib, "a", "198.51.100.0/24", 65001) is None  # looked up, whatever the table's size


def test_the_verdict_says_nothing_of_ipv4_routes_for_ipv6() -> None:
    rib = world()
    unicast(rib, "a", "0.0.0.0/0", 65001)
    route = flow(rib, "a", rule("2001:db8::/32", AFI_IPV6), 65001, family=IPV6_FLOW)
    assert "no unicast route" in str(FlowValidator(rib).validate_flow(route))


NETWORKS = st.builds(
    lambda number, length, version: ipaddress.ip_network(
        (number << (24 if version == 4 else 120), length * (1 if version == 4 else 4)), strict=False
    ),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 7, 8, 23, 24, 30, 32]),
    st.just(4),
) | st.builds(
    lambda number, length: ipaddress.ip_network((number << 120, length), strict=False),
    st.sampled_from([0, 1, 127, 128, 255]),
    st.sampled_from([0, 1, 8, 119, 120, 127, 128]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), NETWORKS), max_size=12), NETWORKS)
def test_the_verdict_is_that_of_a_look_at_all_routes(
    routes: list[tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network]],
    destination: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> None:
    rib = world()
    for peer, network in routes:
        unicast(rib, peer, str(network), PEERS[peer].remote_asn)
    v4 = destination.version == 4
    family = IPV4_UNICAST if v4 else IPV6_UNICAST
    nlri = rule(str(destination), AFI_IPV4 if v4 else AFI_IPV6)
    route = flow(rib, "a", nlri, 65001, family=IPV4_FLOW if v4 else IPV6_FLOW)

    best = {}
    for _, network in routes:
        chosen = rib.best(family, Prefix.of(network).nlri) if network.version == destination.version else None
        if chosen is not None:
            best[network] = chosen
    around = [network for network in best if destination.subnet_of(network)]  # type: ignore[arg-type]
    feasible = False
    if around:
        unicast_route = best[max(around, key=lambda network: network.prefixlen)]
        beneath = [n for n in best if n != destination and n.subnet_of(destination)]  # type: ignore[arg-type]
        feasible = unicast_route.peer == "a" and all(
            neighbor_asn(best[n].received, best[n].info) == 65001 for n in beneath
        )
    assert (FlowValidator(rib).validate_flow(route) is None) == feasible
