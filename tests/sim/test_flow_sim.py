"""Flow specifications between whole engines in virtual time: announced, shown, changed by reload and over the API."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpbfd.bgp.events import SendUpdates
from bgpbfd.config.load import parse_flow
from bgpbfd.config.model import StaticFlow
from bgpbfd.control.snapshot import Refused
from bgpbfd.core import IPV4_FLOW, IPV6_FLOW, SECOND, Prefix
from bgpbfd.wire.flowspec_text import format_actions, nlri_text, split_actions
from bgpbfd.wire.iana import MessageType
from bgpbfd.wire.update import decode_update
from tests.sim.engine_world import Host, World

BGPD_RS = Path(__file__).parents[1] / "unit" / "config" / "data" / "bgpd-rs-flows.toml"
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
FLOWS = 'families = ["ipv4 unicast", "ipv4 flow", "ipv6 flow"]'
MAIL = ("destination 192.0.2.0/24", "protocol =6", "port =25")
DNS = ("protocol =17", "port =53")
SIX = ("source 2001:db8::/32", "packet-length >100")


def flow(afi: int, action: str, *matches: str) -> str:
    return f'[[peers.static_flows]]\nafi = {afi}\naction = "{action}"\nmatches = {list(matches)}\n'


def toml(local: str, asn: int, *peers: str) -> str:
    return f'router_id = "{local}"\ndefault_as = {asn}\nbgp_socket = "[::]:179"\npoll_interval = 1\n' + "".join(peers)


def peer(remote: str, asn: int, *parts: str, families: str = FLOWS) -> str:
    return f'[[peers]]\nremote_ip = "{remote}"\nremote_as = {asn}\n{families}\n' + "\n".join(parts)


def announcer(*flows: str) -> str:
    return toml(A, 65010, peer(B, 65001, *flows))


def two(*flows: str, theirs: str = FLOWS) -> tuple[World, Host, Host]:
    """Announcer A and router B, established."""
    world = World()
    b = world.host(B, toml(B, 65001, peer(A, 65010, families=theirs)))
    a = world.host(A, announcer(*flows))
    world.run(3 * SECOND)
    assert a.state(B) == b.state(A) == "established"
    return world, a, b


def shown(host: Host, kind: str = "learned") -> dict[str, str]:
    """Rule → action."""
    return {
        nlri_text(item.prefix): format_actions(split_actions(item.attributes)[0])
        for item in host.operations.flows(kind, None)
    }


def words(*matches: str) -> str:
    return ", ".join(matches)


def changes(sender: Host, receiver: Host) -> tuple[set[str], set[str]]:
    """(announced, withdrawn) rules of the UPDATEs sent since the last call."""
    context = receiver.engine.neighbors[sender.address].peer.context
    assert context is not None
    announced: set[str] = set()
    withdrawn: set[str] = set()
    for body in sender.take_sent(MessageType.UPDATE):
        update = decode_update(body, context)
        for reach in update.announced:
            announced |= {nlri_text(Prefix(reach.family.afi, nlri, reach.family.safi)) for nlri in reach.nlri}
        for unreach in update.withdrawn:
            withdrawn |= {nlri_text(Prefix(unreach.family.afi, nlri, unreach.family.safi)) for nlri in unreach.nlri}
    return announced, withdrawn


def test_static_flows_of_both_families_arrive_with_their_actions() -> None:
    _, a, b = two(flow(1, "traffic-rate 24000", *MAIL), flow(2, "redirect 65000:1, mark 10", *SIX))
    assert shown(b) == {words(*MAIL): "traffic-rate 24000", words(*SIX): "redirect 65000:1, mark 10"}
    learned = b.operations.flows("learned", A)
    assert {item.prefix.family for item in learned} == {IPV4_FLOW, IPV6_FLOW}
    assert all(item.valid and item.attributes.next_hop is None for item in learned)
    # RFC 4271 §5.1.2: an external peer sees our AS, and no LOCAL_PREF
    assert all(item.attributes.as_path[0].asns == (65010,) for item in learned)
    ours = a.operations.flows()
    assert [(item.source, item.announced_to, item.wanted_by, item.reason) for item in ours] == [
        ("config", 1, 1, None),
        ("config", 1, 1, None),
    ]
    assert shown(a, "advertised") == shown(b)
    assert b.operations.neighbor(A).prefixes_by_family == {"ipv4 unicast": 0, "ipv4 flow": 1, "ipv6 flow": 1}


def test_flows_are_told_apart_from_routes() -> None:
    route = '[[peers.static_routes]]\nprefix = "203.0.113.0/24"\n'
    world, a, b = two(route, flow(1, "discard", *MAIL))
    world.run(SECOND)
    for host, kind in ((b, "learned"), (a, "advertised")):
        assert set(shown(host, kind)) == {words(*MAIL)}
    assert [nlri_text(item.prefix) for item in a.operations.flows()] == [words(*MAIL)]
    assert [nlri_text(item.prefix) for item in b.operations.flows()] == [words(*MAIL)]
    assert {nlri_text(item.prefix) for item in b.operations.routes_learned(A)} == {"203.0.113.0/24", words(*MAIL)}
    # only a route has a next hop, and so "self"
    assert {item.prefix.safi: item.next_hop_self for item in a.operations.routes()} == {1: True, 133: False}


def test_reload_sends_exactly_the_rules_that_differ_and_keeps_the_session() -> None:
    world, a, b = two(flow(1, "discard", *MAIL), flow(2, "discard", *SIX))
    since = a.operations.neighbor(B).established_at
    a.take_sent(MessageType.UPDATE)
    a.load(announcer(flow(1, "discard", *DNS), flow(2, "discard", *SIX)))
    world.run(SECOND)
    assert changes(a, b) == ({words(*DNS)}, {words(*MAIL)})
    a.load(announcer(flow(1, "mark 8", *DNS), flow(2, "discard", *SIX)))
    world.run(SECOND)
    assert changes(a, b) == ({words(*DNS)}, set())
    assert shown(b) == {words(*DNS): "mark 8", words(*SIX): "traffic-rate 0"}
    a.load(announcer())
    world.run(SECOND)
    assert shown(b) == {}
    assert a.operations.neighbor(B).established_at == since


def request(*matches: str, action: str = "discard", afi: int = 1) -> StaticFlow:
    return parse_flow({"afi": afi, "action": action, "matches": list(matches)})


def test_a_flow_over_the_api_comes_goes_and_comes_before_the_file() -> None:
    world, a, b = two(flow(1, "discard", *MAIL))
    assert a.operations.advertise(request(*MAIL, action="mark 8")) == 1
    assert a.operations.advertise(request(*DNS), [B]) == 1
    world.run(SECOND)
    assert shown(b) == {words(*MAIL): "mark 8", words(*DNS): "traffic-rate 0"}
    assert a.operations.withdraw_flow(request(*MAIL).prefix) == 1
    assert a.operations.withdraw_flow(request(*DNS).prefix, [B]) == 1
    world.run(SECOND)
    assert shown(b) == {words(*MAIL): "traffic-rate 0"}
    assert a.events("route-advertised")[0] == f"{words(*MAIL)} advertised over the API"
    with pytest.raises(Refused, match="static flow of the configuration"):
        a.operations.withdraw_flow(request(*MAIL).prefix)
    with pytest.raises(Refused, match="see show flows") as caught:
        a.operations.withdraw_flow(request(*DNS).prefix)
    assert caught.value.path == "flow"


def test_the_file_of_bgpd_rs_readme_is_announced_as_it_stands() -> None:
    world = World()
    router = toml("127.0.0.2", 65000, peer("127.0.0.1", 65000, families='families = ["ipv4 unicast", "ipv6 flow"]'))
    b = world.host("127.0.0.2", router)
    a = world.host("127.0.0.1", BGPD_RS.read_text())
    world.run(10 * SECOND)
    assert a.state("127.0.0.2") == "established"
    matches = ("source 3001:100::/56", "destination-port >8000 <=8080", "packet-length >100")
    assert shown(b) == {words(*matches): "traffic-rate 24000"}
    (learned,) = b.operations.flows("learned", "127.0.0.1")
    assert learned.attributes.communities == (101, 202, 65000 << 16 | 99)
    assert learned.attributes.as_path[0].asns == (65000, 500)
    assert learned.reason == "AS loop: our AS 65000 is in the AS_PATH"


def test_a_flow_for_a_peer_without_the_family_is_refused() -> None:
    world = World()
    a = world.host(A, toml(A, 65010, peer(B, 65001, families='families = ["ipv4 unicast"]')))
    with pytest.raises(Refused, match="none of them takes ipv4 flow") as caught:
        a.operations.advertise(request(*DNS), [B])
    assert caught.value.path == "peers"


def test_without_the_family_at_the_other_end_the_session_is_up_and_says_why_not() -> None:
    _, a, b = two(flow(1, "discard", *MAIL), theirs='families = ["ipv4 unicast"]')
    (ours,) = a.operations.flows()
    assert (ours.announced_to, ours.wanted_by) == (0, 1)
    assert ours.reason == f"{B}: ipv4 flow was not negotiated with this peer"
    assert b.operations.flows() == []


def test_a_rule_and_a_route_of_equal_octets_do_not_meet() -> None:
    _, a, b = two(flow(1, "discard", "protocol =6"))
    (rule,) = a.operations.flows()
    assert a.engine.originated.wanted(B, Prefix(1, rule.prefix.nlri), frozenset({"config"})) is None
    assert a.engine.originated.wanted(B, rule.prefix, frozenset({"config"})) is not None
    assert [nlri_text(item.prefix) for item in b.operations.routes_learned(A)] == ["protocol =6"]


def test_rfc8955_10_a_malformed_rule_is_counted_and_the_session_stays() -> None:
    world, a, b = two(flow(1, "discard", *MAIL))
    session = a.engine.neighbors[B].session
    assert session is not None
    attributes = "400101004002060201" + "0000fdf2"
    rules = "030e8106" + "03038111"  # a component type that nobody knows, then protocol =17
    mp = "800e" + f"{5 + len(rules) // 2:02x}" + "0001850000" + rules
    block = bytes.fromhex(mp + attributes)
    body = bytes(2) + len(block).to_bytes(2, "big") + block
    message = b"\xff" * 16 + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body
    a.engine.feed(a.engine.neighbors[B], SendUpdates(session.generation, [message]))
    world.run(SECOND)
    assert b.state(A) == "established"
    assert b.operations.neighbor(A).update_faults == {"treat-as-withdraw": 1}
    assert set(shown(b)) == {words(*MAIL), "protocol =17"}


TRANSIT = 'import_policy = "all"\nexport_policy = "all"\nadvertise_sources = ["peer"]\n'


def transit(*routes_of_a: str) -> tuple[World, Host, Host, Host]:
    """A announces to B, which passes on to C."""
    world = World()
    c = world.host(C, toml(C, 65003, peer(B, 65002)))
    policy = '[policies.all]\ndefault = "accept"\n'
    b = world.host(B, toml(B, 65002, peer(A, 65010, TRANSIT), peer(C, 65003, TRANSIT), policy))
    a = world.host(A, toml(A, 65010, peer(B, 65002, *routes_of_a)))
    world.run(4 * SECOND)
    return world, a, b, c


TO_TEST_NET = ("destination 203.0.113.0/24", "protocol =17")
TEST_NET = '[[peers.static_routes]]\nprefix = "203.0.113.0/24"\n'


def test_rfc8955_6_infeasible_flow_is_shown_with_the_reason_and_not_passed_on() -> None:
    _, _, b, c = transit(flow(1, "discard", *TO_TEST_NET))
    (learned,) = b.operations.flows("learned", A)
    assert learned.valid
    assert "RFC 8955 §6" in (learned.reason or "")
    assert shown(c) == {}
    assert len(list(b.engine.neighbors[C].announcer.refused())) == 1


def test_rfc8955_6_flow_beside_the_route_that_it_is_about_is_passed_on_as_long_as_that_is_there() -> None:
    world, a, b, c = transit(TEST_NET, flow(1, "discard", *TO_TEST_NET))
    (learned,) = b.operations.flows("learned", A)
    assert learned.reason is None
    assert set(shown(c)) == {words(*TO_TEST_NET)}
    a.load(toml(A, 65010, peer(B, 65002, flow(1, "discard", *TO_TEST_NET))))
    world.run(SECOND)
    assert shown(c) == {}
    a.load(toml(A, 65010, peer(B, 65002, TEST_NET, flow(1, "discard", *TO_TEST_NET))))
    world.run(SECOND)
    assert set(shown(c)) == {words(*TO_TEST_NET)}
