"""Flow specifications over the API: BGPd-rs's shape in, its fields and ours out."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from api_fake import FakeEngine

from bgpbfd.api.server import ApiServer
from bgpbfd.core import Prefix

FLOW = {
    "afi": 2,
    "action": "traffic-rate 24000",
    "matches": ["source 3001:100::/56", "destination-port >8000 <=8080", "packet-length >100"],
    "as_path": ["65000", "500"],
    "multi_exit_disc": 7,
    "communities": ["65000:99"],
}


class Api:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self._server = ApiServer(self.engine, [], 0o600)

    def ask(self, method: str, params: Any = None) -> Any:
        body = {"jsonrpc": "2.0", "method": method, "id": 1} | ({} if params is None else {"params": params})
        answered = asyncio.run(self._server._dispatch(json.dumps(body).encode()))
        assert answered
        return json.loads(b"".join(answered))

    def result(self, method: str, params: Any = None) -> Any:
        message = self.ask(method, params)
        assert "error" not in message, message
        return message["result"]

    def error(self, method: str, params: Any = None) -> Any:
        return self.ask(method, params)["error"]


@pytest.fixture
def api() -> Api:
    return Api()


def test_show_flows_has_bgpd_rs_fields_and_ours(api: Api) -> None:
    ours, learned = api.result("show_flows")
    assert ours == {
        "source": "config",
        "peer": None,
        "afi": "ipv4",
        "safi": "flow",
        "received_at": ours["received_at"],
        "age": 1.0,
        "prefix": "destination 192.0.2.0/24, protocol =6, port =25",
        "matches": ["destination 192.0.2.0/24", "protocol =6", "port =25"],
        "action": "traffic-rate 24000",
        "next_hop": None,
        "origin": "igp",
        "as_path": "",
        "local_pref": None,
        "multi_exit_disc": 7,
        "communities": [],
        "extended_communities": ["rt:65001:1"],
        "valid": True,
        "reason": "192.0.2.1: ipv4 flow was not negotiated with this peer",
        "announced_to": 1,
        "wanted_by": 2,
    }
    assert (learned["afi"], learned["peer"], learned["matches"]) == ("ipv6", "192.0.2.1", ["destination 2001:db8::/32"])
    assert learned["action"] == "redirect [2001:db8::]:6"
    assert "extended_communities" not in learned
    assert "announced_to" not in learned


def test_a_route_with_the_attributes_of_a_flow_keeps_its_own_words(api: Api) -> None:
    """RouteView puts shared attributes into words once; those of a flow have other words."""
    flow = api.engine.rules[0]
    api.engine.wanted = [flow, replace(flow, prefix=Prefix.parse("192.0.2.0/24")), flow]
    views = api.result("show_routes")
    assert [view["safi"] for view in views] == ["flow", "unicast", "flow"]
    assert [view["extended_communities"] for view in views] == [
        ["rt:65001:1"],
        ["ext:0x8006000046bb8000", "rt:65001:1"],
        ["rt:65001:1"],
    ]
    assert ["action" in view for view in views] == ["matches" in view for view in views] == [True, False, True]


def test_show_flows_of_a_kind_and_page_by_page(api: Api) -> None:
    api.result("show_flows", {"kind": "learned", "peer": "tor-1"})
    api.result("show_flows", {"kind": "advertised"})
    assert api.engine.calls == [("flows", "learned", "tor-1"), ("flows", "advertised", None)]
    page = api.result("show_flows", {"limit": 1})
    assert (len(page["flows"]), page["total"]) == (1, 2)
    assert api.error("show_flows", {"kind": "ours"})["data"]["path"] == "kind"
    assert api.error("show_flows", {"peer": "tor-1"})["data"]["path"] == "kind"


@pytest.mark.parametrize(
    "flow",
    [FLOW, {key: FLOW[key] for key in ("afi", "action", "matches")} | {"attributes": dict(list(FLOW.items())[3:])}],
    ids=["configuration", "bgpd-rs"],
)
def test_advertise_flow_takes_both_shapes(api: Api, flow: Any) -> None:
    answer = api.result("advertise_flow", [flow])
    assert answer == {"afi": 2, "action": "traffic-rate 24000", "matches": FLOW["matches"], "peers": 2}
    verb, parsed, peers = api.engine.calls[0]
    assert (verb, peers) == ("advertise", None)
    assert parsed.prefix.nlri == bytes.fromhex("14 02 38 00 30010100000000 05 12 1f40 d5 1f90 0a 82 64")
    assert parsed.attributes.extended_communities == (bytes.fromhex("8006000046bb8000"),)
    assert (parsed.attributes.med, parsed.attributes.communities) == (7, (65000 << 16 | 99,))
    assert parsed.attributes.as_path[0].asns == (65000, 500)


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"flow": FLOW | {"afi": 3}}, "flow.afi"),
        ({"flow": FLOW | {"action": "drop"}}, "flow.action"),
        ({"flow": FLOW | {"matches": ["port =1", "x"]}}, "flow.matches[1]"),
        ({"flow": FLOW | {"med": 5}}, "flow.med"),
        ({"flow": FLOW | {"next_hop": "self"}}, "flow.next_hop"),
        ({"flow": "discard"}, "flow"),
        ({"flow": FLOW, "peers": ["tor-9"]}, "peers[0]"),
    ],
)
def test_refused_flow_names_the_key(api: Api, params: Any, path: str) -> None:
    error = api.error("advertise_flow", params)
    assert (error["code"], error["data"]["path"]) == (-32001, path)
    assert error["data"]["reason"]
    assert api.engine.calls == []


def test_withdraw_flow_names_the_rule_by_its_matches(api: Api) -> None:
    rule = {"afi": 1, "matches": ["port =25", "protocol =tcp"]}
    answer = {"afi": 1, "matches": ["protocol =6", "port =25"], "peers": 1}
    assert api.result("withdraw_flow", [rule]) == answer
    assert api.result("withdraw_flow", {"flow": rule | {"action": "discard"}, "peers": ["tor-1"]}) == answer
    assert [call[1].nlri.hex() for call in api.engine.calls] == ["06038106048119"] * 2
    assert api.engine.calls[1][2] == ["192.0.2.1"]
    assert api.error("withdraw_flow", [rule | {"afi": 2}])["data"]["path"] == "flow"
    assert api.error("withdraw_flow", [rule | {"matches": []}])["data"]["path"] == "flow.matches"
