"""Flow specifications of the file and of API requests: what is taken, what is named as wrong, and what a change is."""

from __future__ import annotations

import json

import pytest

from bgpbfd.config.diff import Impact, PeerAdded, RoutesChanged, diff
from bgpbfd.config.dump import dump_config, dump_flow
from bgpbfd.config.load import ConfigError, loads, parse_flow, parse_flow_rule
from bgpbfd.config.model import StaticFlow
from bgpbfd.core import IPV4_FLOW, IPV6_FLOW, Prefix

HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
FAMILIES = 'families = ["ipv4 unicast", "ipv4 flow", "ipv6 flow"]\n'
PEER = f'[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n{FAMILIES}'
RULE = 'afi = 1\nmatches = ["destination 192.0.2.0/24", "protocol =tcp", "port =25"]\n'
DISCARD = 'action = "discard"'
# RFC 8955 §4.3.1, the first example's rule for 192.0.2.0/24, TCP, port 25
RULE_NLRI = bytes.fromhex("0b 01 18 c00002 03 81 06 04 81 19")


def flow(*lines: str) -> str:
    return "[[peers.static_flows]]\n" + "".join(f"{line}\n" for line in lines)


def one(text: str) -> StaticFlow:
    (found,) = loads(HEAD + PEER + text).peers[0].static_flows
    return found


def faults(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        loads(HEAD + text, "f.toml")
    return {fault.path: fault.reason for fault in caught.value.faults}


def test_rfc8955_4_3_1_a_rule_becomes_its_nlri() -> None:
    found = one(flow(RULE, DISCARD))
    assert found.prefix == Prefix(1, RULE_NLRI, 133)
    assert found.prefix.family == IPV4_FLOW
    assert found.attributes.extended_communities == (bytes.fromhex("8006000000000000"),)
    assert found.attributes.next_hop is None


def test_rfc8955_5_1_the_order_of_matches_in_the_file_does_not_count() -> None:
    matches = 'matches = ["port =25", "protocol =tcp", "destination 192.0.2.0/24"]'
    assert one(flow("afi = 1", matches, DISCARD)).prefix.nlri == RULE_NLRI


def test_attributes_and_communities_of_every_kind() -> None:
    found = one(
        flow(
            RULE,
            'action = "traffic-rate 24000, mark 10"',
            'origin = "egp"',
            'as_path = ["65000", "1.10"]',
            "local_pref = 200",
            "multi_exit_disc = 7",
            'communities = ["65000:99", "65000:1:2", "rt:65000:1"]',
        )
    )
    attributes = found.attributes
    assert attributes.extended_communities == (
        bytes.fromhex("8006000046bb8000"),
        bytes.fromhex("800900000000000a"),
        bytes.fromhex("0002fde800000001"),
    )
    assert (attributes.origin, attributes.local_pref, attributes.med) == (1, 200, 7)
    assert attributes.communities == (65000 << 16 | 99,)
    assert attributes.large_communities == ((65000, 1, 2),)
    assert attributes.as_path[0].asns == (65000, 65546)


def test_rfc8956_6_1_an_ipv6_redirect_goes_into_attribute_25() -> None:
    found = one(flow("afi = 2", 'matches = ["flow-label =1"]', 'action = "redirect [2001:db8::1]:6"'))
    assert found.prefix.family == IPV6_FLOW
    assert found.attributes.extended_communities == ()
    (wide,) = found.attributes.ipv6_extended_communities
    assert wide == bytes.fromhex("000d 20010db8000000000000000000000001 0006")


WRONG = [
    (flow(RULE), "peers[0].static_flows[0].action", "traffic-rate 24000"),
    (flow(DISCARD, 'matches = ["port =1"]'), "peers[0].static_flows[0].afi", "1 (IPv4) or 2 (IPv6)"),
    (flow(DISCARD, "afi = 1"), "peers[0].static_flows[0].matches", "missing"),
    (
        flow(DISCARD, "afi = 3", 'matches = ["port =1"]'),
        "peers[0].static_flows[0].afi",
        "3: expected 1 (IPv4) or 2 (IPv6)",
    ),
    (
        flow(DISCARD, "afi = true", 'matches = ["port =1"]'),
        "peers[0].static_flows[0].afi",
        "not a boolean",
    ),
    (
        flow('action = "drop"', RULE),
        "peers[0].static_flows[0].action",
        "expected traffic-rate",
    ),
    (flow("action = 5", RULE), "peers[0].static_flows[0].action", "expected a string"),
    (flow(DISCARD, "afi = 1", "matches = []"), "peers[0].static_flows[0].matches", "at least one"),
    (flow(DISCARD, "afi = 1", "matches = [5]"), "peers[0].static_flows[0].matches", "list of strings"),
    (
        flow(DISCARD, "afi = 1", 'matches = ["protocol =6", "destination 2001:db8::/32"]'),
        "peers[0].static_flows[0].matches[1]",
        "IPv4 prefix",
    ),
    (
        flow(DISCARD, "afi = 1", 'matches = ["port =80", "port =443"]'),
        "peers[0].static_flows[0].matches",
        "only once",
    ),
    (
        flow(DISCARD, "afi = 1", f'matches = ["port {" | ".join(["=443"] * 1400)}"]'),
        "peers[0].static_flows[0].matches",
        "4095",
    ),
    (flow(DISCARD, RULE, 'next_hop = "self"'), "peers[0].static_flows[0].next_hop", "unknown key"),
    (
        flow(DISCARD, RULE, "multi_exit_disc = -1"),
        "peers[0].static_flows[0].multi_exit_disc",
        "4294967295",
    ),
    (
        flow(DISCARD, RULE) + flow('action = "mark 1"', RULE),
        "peers[0].static_flows[1].matches",
        "peers[0].static_flows[0]",
    ),
]


@pytest.mark.parametrize(("text", "path", "reason"), WRONG)
def test_what_is_wrong_is_named(text: str, path: str, reason: str) -> None:
    found = faults(PEER + text)
    assert list(found) == [path]
    assert reason in found[path]


def test_every_wrong_match_is_named() -> None:
    text = flow(DISCARD, "afi = 1", 'matches = ["prot =6", "port =80", "icmp-type =256"]')
    assert list(faults(PEER + text)) == [f"peers[0].static_flows[0].matches[{index}]" for index in (0, 2)]


def test_a_flow_needs_its_family_at_the_peer() -> None:
    text = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\nfamilies = ["ipv4 unicast", "ipv6 flow"]\n'
    found = faults(text + flow(DISCARD, RULE))
    assert list(found) == ["peers[0].static_flows[0].afi"]
    assert "'ipv4 flow'" in found["peers[0].static_flows[0].afi"]


def test_flows_for_all_peers_are_no_key() -> None:
    assert "unknown key" in faults(f"static_flows = []\n{PEER}")["static_flows"]


def test_the_dump_loads_again() -> None:
    communities = 'communities = ["rt:65000:1", "65000:1:2", "no-export"]'
    text = flow(RULE, 'action = "traffic-rate 24000, redirect 65000:1"', communities)
    text += flow("afi = 2", 'matches = ["flow-label =1"]', 'action = "redirect [2001:db8::1]:6"', "local_pref = 5")
    config = loads(HEAD + PEER + text)
    peers = dump_config(config)["peers"]
    assert isinstance(peers, list)
    plain = peers[0]["static_flows"]
    assert plain[0]["action"] == "traffic-rate 24000, redirect 65000:1"
    assert plain[0]["communities"] == ["no-export", "65000:1:2", "rt:65000:1"]
    assert plain[0]["matches"] == ["destination 192.0.2.0/24", "protocol =6", "port =25"]
    written = [flow(*(f"{key} = {json.dumps(value)}" for key, value in entry.items())) for entry in plain]
    assert loads(HEAD + PEER + "".join(written)).peers[0].static_flows == config.peers[0].static_flows


# -- what a reload changes ---------------------------------------------------------------------------------


def test_diff_tells_added_removed_and_changed_rules_without_a_reset() -> None:
    kept = flow("afi = 1", 'matches = ["port =1"]', DISCARD)
    gone, added = (flow(RULE.replace("25", port), 'action = "mark 1"') for port in ("26", "27"))
    old = loads(HEAD + PEER + kept + flow(RULE, DISCARD) + gone)
    new = loads(HEAD + PEER + flow(RULE, 'action = "mark 2"') + added + kept)
    (change,) = diff(old, new)
    assert isinstance(change, RoutesChanged)
    assert (change.path, change.impact) == ("peers[192.0.2.1].static_flows", Impact.HITLESS)
    assert [item.prefix.nlri[-1] for item in (*change.added, *change.removed, *change.changed)] == [27, 26, 25]
    assert change.text == (
        "added destination 192.0.2.0/24, protocol =6, port =27; "
        "removed destination 192.0.2.0/24, protocol =6, port =26; "
        "changed destination 192.0.2.0/24, protocol =6, port =25"
    )
    assert diff(new, new) == []


def test_diff_counts_the_flows_of_a_new_peer() -> None:
    (change,) = diff(loads(HEAD), loads(HEAD + PEER + flow(RULE, DISCARD)))
    assert isinstance(change, PeerAdded)
    assert change.text == "new, AS 65001, 0 static routes, 1 static flow"


# -- an API request's --------------------------------------------------------------------------------------


def test_request_is_read_like_the_file() -> None:
    raw = {"afi": "ipv4", "matches": ["destination 192.0.2.0/24", "protocol =tcp", "port =25"], "action": "discard"}
    found = parse_flow(raw)
    assert found.prefix.nlri == RULE_NLRI
    assert dump_flow(found)["afi"] == 1
    del raw["action"]
    assert parse_flow_rule(raw) == found.prefix
    with pytest.raises(ConfigError) as caught:
        parse_flow(raw | {"action": "discard", "matches": ["port"], "med": 5})
    assert {fault.path for fault in caught.value.faults} == {"flow.matches[0]", "flow.med"}
    with pytest.raises(ConfigError):
        parse_flow_rule({"afi": 1})
