"""The API over real sockets, with a fake engine behind it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_fake import NOW, FakeEngine

from bgpbfd.api import server as server_module
from bgpbfd.api.server import BATCH_MAX, BODY_MAX, CONNECTIONS_MAX, ApiServer, ListenError
from bgpbfd.control.snapshot import PlannedChange, ReloadResult


class Api:
    """One running server and raw HTTP to it."""

    def __init__(self, engine: FakeEngine, server: ApiServer, path: str) -> None:
        self.engine = engine
        self.server = server
        self.path = path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path, limit=64 * 1024 * 1024)

    async def raw(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await self.connect()
        try:
            writer.write(request)
            await writer.drain()
            return await answer(reader)
        finally:
            writer.close()
            await writer.wait_closed()

    async def post(self, body: bytes, *headers: str) -> tuple[int, dict[str, str], bytes]:
        return await self.raw(http_post(body, *headers))

    async def rpc(self, method: str, params: Any = None) -> Any:
        call = {"jsonrpc": "2.0", "method": method, "id": 7}
        if params is not None:
            call["params"] = params
        status, headers, body = await self.post(json.dumps(call).encode())
        assert status == 200
        assert headers["content-type"].startswith("application/json")
        message = json.loads(body)
        assert message["jsonrpc"] == "2.0"
        assert message["id"] == 7
        return message

    async def result(self, method: str, params: Any = None) -> Any:
        message = await self.rpc(method, params)
        assert "error" not in message, message
        return message["result"]

    async def error(self, method: str, params: Any = None) -> Any:
        message = await self.rpc(method, params)
        assert "result" not in message, message
        return message["error"]


def http_post(body: bytes, *headers: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, body


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    engine = FakeEngine()
    path = str(tmp_path / "api.sock")
    server = ApiServer(engine, [f"unix:{path}"], 0o660, body_timeout_s=0.5, answer_timeout_s=0.5, idle_timeout_s=0.5)
    await server.start()
    yield Api(engine, server, path)
    await server.stop()


# -- JSON-RPC 2.0 ------------------------------------------------------------------------------------------


async def test_show_peers_has_bgpd_rs_fields_and_ours(api: Api) -> None:
    peers = await api.result("show_peers")
    assert [peer["peer"] for peer in peers] == ["192.0.2.1", "2001:db8::1"]
    first = peers[0]
    expected = {
        "enabled": True,
        "router_id": "192.0.2.1",
        "remote_asn": 65001,
        "local_asn": 65010,
        "msg_received": 12,
        "msg_sent": 34,
        "uptime": 90061.0,
        "connect_time": 1_700_000_000.0 + 5000 - 90061,
        "state": "established",
        "prefixes_received": 2,
        "prefixes_sent": 1,
        "description": "tor-1",
        "bfd": "up",
        "flaps": 3,
        "passive": False,
    }
    assert {key: first[key] for key in expected} == expected
    assert first["last_error"] == {
        "kind": "notification-received",
        "text": "Cease, administrative shutdown: \x1b[31mred\x07",
        "code": 6,
        "subcode": 2,
        "at": 1_700_000_000.0 + 5000 - 90,
        "age": 90.0,
        "facts": {"message": "\x1b]0;owned\x07"},
    }
    assert peers[1]["uptime"] is None
    assert peers[1]["router_id"] is None
    assert peers[1]["next_connect_in"] == 2.5


async def test_show_peer_detail_of_all_is_a_list_and_of_one_an_object(api: Api) -> None:
    assert [peer["peer"] for peer in await api.result("show_peer_detail")] == ["192.0.2.1", "2001:db8::1"]
    one = await api.result("show_peer_detail", ["tor-1"])
    expected = {
        "peer": "192.0.2.1",
        "hold_timer": 180,
        "hold_timer_interval": 30,
        "hold_time": 90,
        "last_received": 1.5,
        "last_sent": 2.0,
        "tcp_connection": ["192.0.2.10:40000", "192.0.2.1:179"],
        "families": ["ipv4 unicast", "ipv6 unicast"],
        "disabled_families": ["ipv6 unicast"],
        "pending_changes": ["hold_timer"],
        "update_faults": {"treat-as-withdraw": 1},
    }
    assert {key: one[key] for key in expected} == expected
    in_depth = {
        "last_update_fault": {
            "at": 1_700_000_000.0 + 4999, "age": 1.0, "treatment": "treat-as-withdraw", "attribute": 1,
            "reason": "ORIGIN: origin 7 \x1b[2J", "data": "0102", "length": 900,
        },
        "notifications_sent": {"3/1": 1}, "notifications_received": {"6/2": 2},
        "discards": {"route refresh that was not offered": 3}, "role": "customer", "remote_role": "provider",
        "add_path_receive": ["ipv4 unicast"], "add_path_send": [], "extended_next_hop": ["ipv4 unicast"],
        "restart_time": 120, "restart_notification": True, "stale_until": 1_700_000_000.0 + 5030,
        "end_of_rib": ["ipv4 unicast"], "import_policy": "no-defaults", "export_policy": None, "max_prefixes": 1000,
        "md5": True, "ttl_security": 1, "multihop": None,
    }  # fmt: skip
    assert {key: one[key] for key in in_depth} == in_depth
    assert (one["last_session_error"]["code"], one["last_session_error"]["age"]) == (1, 100.0)
    assert len(one["capabilities"]) == 3
    assert "65001" in one["capabilities"][1]
    assert one == await api.result("show_peer_detail", {"peer": "192.0.2.1"})


async def test_unknown_peer_is_refused_with_path_and_reason(api: Api) -> None:
    error = await api.error("show_peer_detail", {"peer": "tor-9"})
    assert error["code"] == -32001
    assert error["data"] == {"path": "peer", "reason": "no such neighbor; known are 192.0.2.1 (tor-1), 2001:db8::1"}


@pytest.mark.parametrize("params", [["192.0.2.1"], {"from_peer": "192.0.2.1"}, {"from_peer": "tor-1"}])
async def test_routes_learned_by_position_and_by_name(api: Api, params: Any) -> None:
    (route,) = await api.result("show_routes_learned", params)
    assert route == {
        "source": "192.0.2.1",
        "peer": "192.0.2.1",
        "afi": "ipv4",
        "safi": "unicast",
        "received_at": 1_700_000_000.0 + 4997,
        "age": 3.0,
        "prefix": "203.0.113.0/24",
        "next_hop": "192.0.2.1",
        "origin": "incomplete",
        "as_path": "65001 65002 {1,2}",
        "local_pref": 100,
        "multi_exit_disc": 5,
        "communities": ["no-export", "65001:99"],
        "large_communities": ["65001:1:2"],
        "extended_communities": ["rt:65001:1"],
        "atomic_aggregate": True,
        "aggregator": {"asn": 65001, "address": "192.0.2.1"},
        "originator_id": "1.2.3.4",
        "cluster_list": ["5.6.7.8"],
        "unknown_attributes": [{"flags": 0xC0, "type": 99, "value": "0x0102"}],
        "valid": True,
        "reason": None,
    }


async def test_route_that_is_not_usable_says_why(api: Api) -> None:
    route = (await api.result("show_routes_learned"))[1]
    assert (route["valid"], route["reason"]) == (False, "AS loop")
    assert (route["afi"], route["next_hop"], route["next_hop_link_local"]) == ("ipv6", "::1", "fe80::2")
    assert "large_communities" not in route


async def test_why_is_told_when_asked_for(api: Api) -> None:
    plain = await api.result("show_routes_learned")
    assert not any("why" in route for route in plain)
    assert ["path_id" in route for route in plain] == [False, True]
    routes = await api.result("show_routes_learned", {"why": True})
    assert [route["why"] for route in routes] == [None, "policy 'no-defaults': term 1 accepts"]
    assert [route["why"] for route in await api.result("show_routes", {"why": True})] == ["asked"]
    await api.result("show_routes_advertised", {"why": True})
    assert api.engine.calls == [("advertised", None, "why")]
    assert (await api.error("show_routes", {"why": "yes"}))["data"]["path"] == "why"


async def test_stale_route_is_marked(api: Api) -> None:
    api.engine.learned = [replace(api.engine.learned[0], stale=True), api.engine.learned[0]]
    assert [route.get("stale") for route in await api.result("show_routes_learned")] == [True, None]


async def test_wanted_routes_say_how_far_they_got(api: Api) -> None:
    (route,) = await api.result("show_routes")
    assert (route["next_hop"], route["announced_to"], route["wanted_by"]) == ("self", 1, 2)


async def test_show_bfd_has_frr_fields_in_ms(api: Api) -> None:
    up, missing = await api.result("show_bfd")
    expected = {
        "peer": "192.0.2.1", "local": "192.0.2.10", "interface": "eth0", "vrf": "default", "multihop": False,
        "id": 7, "remote_id": 9, "passive_mode": False, "status": "up", "uptime": 60.0, "downtime": None,
        "diagnostic": "ok", "remote_diagnostic": "neighbor signaled session down", "type": "configured",
        "profile": "fast", "receive_interval": 60, "transmit_interval": 50, "detect_multiplier": 3,
        "detection_timeout": 1500, "echo_receive_interval": 0, "echo_transmit_interval": 0,
        "remote_receive_interval": 33.3, "remote_transmit_interval": 300, "remote_echo_receive_interval": 0,
        "remote_detect_multiplier": 5, "rtt_min": None, "rtt_avg": None, "rtt_max": None, "last_packet_age_ms": 12.5,
    }  # fmt: skip
    assert {key: up[key] for key in expected} == expected
    assert isinstance(up["minimum_ttl"], int)
    assert up["last_down"]["blame"] == "path-loss"
    assert up["last_down"]["last_packet_before_ms"] == 150.4
    assert up["last_down"]["previous_packet_before_ms"] is None
    assert (missing["status"], missing["fault"], missing["type"]) == ("down", "no such address", "dynamic")
    assert set(missing) == set(up)


async def test_bfd_counters_shown_and_cleared(api: Api) -> None:
    counters = await api.result("show_bfd_counters", ["tor-1"])
    (session,) = counters["sessions"]
    assert session["control_packet_input"] == 100
    assert session["control_packet_output"] == 200
    assert session["control_packet_bad"] == 3
    assert session["discarded"] == {"bad-ttl": 2, "bad-version": 1}
    assert counters["discards"] == {"no-session": 4}
    assert await api.result("clear_bfd_counters") == {"cleared": 2}
    assert await api.result("clear_bfd_counters", {"peer": "tor-1"}) == {"cleared": 1}
    assert api.engine.calls == [("clear", None), ("clear", "192.0.2.1")]


async def test_bfd_worker_that_is_silent_is_an_error_in_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("bgpbfd.api.methods.BFD_TIMEOUT_S", 0.05)
    monkeypatch.setattr(api.engine, "bfd_sessions", stuck)
    error = await api.error("show_bfd")
    assert (error["code"], error["data"]["path"]) == (-32001, "bfd")


ROUTE = {
    "prefix": "203.0.113.0/24",
    "next_hop": "192.0.2.10",
    "origin": "egp",
    "as_path": ["65000", "500"],
    "local_pref": 50,
    "multi_exit_disc": 7,
    "communities": ["65000:99", "no-export"],
}


@pytest.mark.parametrize(
    "route",
    [ROUTE, {key: ROUTE[key] for key in ("prefix", "next_hop")} | {"attributes": dict(list(ROUTE.items())[2:])}],
    ids=["configuration", "bgpd-rs"],
)
async def test_advertise_route_takes_both_shapes(api: Api, route: Any) -> None:
    assert await api.result("advertise_route", [route]) == {"prefix": "203.0.113.0/24", "peers": 2}
    (verb, parsed, peers) = api.engine.calls[0]
    assert (verb, peers) == ("advertise", None)
    assert str(parsed.prefix) == "203.0.113.0/24"
    assert parsed.next_hop == "192.0.2.10"
    assert parsed.attributes.med == 7
    assert parsed.attributes.communities == (65000 << 16 | 99, 0xFFFFFF01)
    assert parsed.attributes.as_path[0].asns == (65000, 500)


async def test_advertise_to_named_peers_uses_their_addresses(api: Api) -> None:
    await api.result("advertise_route", {"route": ROUTE, "peers": ["tor-1"]})
    assert api.engine.calls[0][2] == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"route": ROUTE | {"prefix": "203.0.113.1/24"}}, "route.prefix"),
        ({"route": ROUTE | {"prefix": "2001:db8::/48"}}, "route.next_hop"),
        ({"route": ROUTE | {"communities": ["1:2:3:4"]}}, "route.communities"),
        ({"route": ROUTE | {"med": 5}}, "route.med"),
        ({"route": "203.0.113.0/24"}, "route"),
        ({"route": ROUTE, "ttl": 15}, "ttl"),
        ({"route": ROUTE, "peers": ["tor-1", "tor-9"]}, "peers[1]"),
        ({"route": ROUTE, "peers": []}, "peers"),
        ({"route": ROUTE, "peers": 5}, "peers"),
    ],
)
async def test_refused_route_names_the_key(api: Api, params: Any, path: str) -> None:
    error = await api.error("advertise_route", params)
    assert error["code"] == -32001
    assert error["data"]["path"].startswith(path)
    assert error["data"]["reason"]
    assert api.engine.calls == []


async def test_withdraw_route(api: Api) -> None:
    assert await api.result("withdraw_route", ["203.0.113.0/24"]) == {"prefix": "203.0.113.0/24", "peers": 1}
    assert api.engine.calls == [("withdraw", "203.0.113.0/24", None)]
    assert (await api.error("withdraw_route", ["10.0.0.0/8"]))["data"]["path"] == "prefix"
    assert (await api.error("withdraw_route", ["10.0.0.1/8"]))["data"]["path"] == "prefix"
    assert (await api.error("withdraw_route", [None]))["data"]["path"] == "prefix"


async def test_peer_commands(api: Api) -> None:
    assert (await api.result("peer_disable", ["tor-1", "going home"]))["peer"] == "192.0.2.1"
    for verb in ("enable", "reset", "refresh"):
        await api.result(f"peer_{verb}", {"peer": "192.0.2.1"})
    assert api.engine.calls == [
        ("disable", "192.0.2.1", "going home"),
        ("enable", "192.0.2.1"),
        ("reset", "192.0.2.1"),
        ("refresh", "192.0.2.1"),
    ]


async def test_rfc9003_2_shutdown_communication_longer_than_255_octets_is_refused(api: Api) -> None:
    error = await api.error("peer_disable", ["tor-1", "ä" * 128])
    assert (error["code"], error["data"]["path"]) == (-32001, "message")
    await api.result("peer_disable", ["tor-1", "ä" * 127 + "x"])
    assert len(api.engine.calls) == 1


async def test_reload_tells_the_changes(api: Api) -> None:
    assert await api.result("reload") == {
        "ok": True,
        "changes": [{"path": 'peers["x"]', "text": "peer x: added", "impact": "soft"}],
    }


async def test_reload_of_a_bad_file_is_refused_with_every_fault(api: Api) -> None:
    faults = (("peers[0].hold_timer", "0, or 3 and up"), ("router_id", "missing"))
    api.engine.result = ReloadResult(False, (PlannedChange("x", "y", "soft"),), faults)
    error = await api.error("reload")
    assert error["code"] == -32001
    assert error["data"] == {
        "path": "peers[0].hold_timer",
        "reason": "0, or 3 and up",
        "faults": [
            {"path": "peers[0].hold_timer", "reason": "0, or 3 and up"},
            {"path": "router_id", "reason": "missing"},
        ],
    }


async def test_events_latest_and_since(api: Api) -> None:
    events = await api.result("show_events", {"limit": 2})
    assert [event["number"] for event in events] == [4, 5]
    assert events[0]["kind"] == "bgp-down"
    assert events[0]["at"] == pytest.approx(1_700_000_000 + NOW / 1e6, abs=0.01)
    assert [event["number"] for event in await api.result("show_events", [2, 2])] == [3, 4]
    for params in ({"limit": 0}, {"limit": True}, {"limit": "9"}, {"since": -1}, {"peer": "tor-9"}):
        assert (await api.error("show_events", params))["code"] == -32001


async def test_config_and_version(api: Api) -> None:
    assert await api.result("show_config") == api.engine.config
    assert await api.result("show_version") == {"version": "0.1.0", "pid": 1}


@pytest.mark.parametrize("method", ["drain", "explain", "plan", "show_services", "service_enable"])
async def test_methods_of_later_answer_not_supported_yet(api: Api, method: str) -> None:
    error = await api.error(method, ["x", 1])
    assert error == {"code": -32601, "message": "Method not found", "data": {"reason": "not supported yet"}}


@pytest.mark.parametrize("verb", ["peer_reset", "peer_enable"])
async def test_a_dynamic_neighbor_that_goes_with_the_command_is_answered_for(
    api: Api, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    api.engine.peers[0] = replace(api.engine.peers[0], enabled=verb == "peer_reset")
    monkeypatch.setattr(api.engine, verb, lambda peer: api.engine.peers.clear())
    answer = await api.result(verb, ["tor-1"])
    assert answer == {"peer": "192.0.2.1", "description": "tor-1", "enabled": True, "state": "idle"}


async def test_unknown_method_and_wrong_parameters(api: Api) -> None:
    error = await api.error("show_everything")
    assert error["code"] == -32601
    assert "show_everything" in error["data"]["reason"]
    for params in ([1, 2, 3, 4, 5], {"nobody": 1}, {"context": 1}):
        error = await api.error("show_peer_detail", params)
        assert error["code"] == -32602
        assert error["data"]["reason"]
    assert (await api.error("peer_reset"))["code"] == -32602


async def test_a_fault_of_ours_is_logged_and_not_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise KeyError("secret internals")

    monkeypatch.setattr(api.engine, "neighbors", broken)
    error = await api.error("show_peers")
    assert error["code"] == -32603
    assert "secret" not in json.dumps(error)
    assert [record.name for record in caplog.records] == ["bgpbfd.api"]
    assert "secret internals" in caplog.text


async def test_an_answer_that_is_no_json_is_a_fault_of_ours(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.engine.config = {"socket": object()}
    assert (await api.error("show_config"))["code"] == -32603
    assert "show_config" in caplog.text


async def test_batch_answers_in_order_without_the_notifications(api: Api) -> None:
    batch = [
        {"jsonrpc": "2.0", "method": "show_version", "id": "a"},
        {"jsonrpc": "2.0", "method": "peer_reset", "params": ["tor-1"]},
        {"method": "show_version", "id": 3},
        5,
        {"jsonrpc": "2.0", "method": "show_version", "id": None},
    ]
    _, _, body = await api.post(json.dumps(batch).encode())
    answers = json.loads(body)
    assert [one["id"] for one in answers] == ["a", None, None, None]
    assert [one.get("error", {}).get("code") for one in answers] == [None, -32600, -32600, None]
    assert api.engine.calls == [("reset", "192.0.2.1")]


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","method":"peer_enable","params":["tor-1"]}',
        b'[{"jsonrpc":"2.0","method":"peer_enable","params":["tor-1"]}]',
    ],
)
async def test_notifications_are_carried_out_and_not_answered(api: Api, body: bytes) -> None:
    status, _, answered = await api.post(body)
    assert (status, answered) == (204, b"")
    assert api.engine.calls == [("enable", "192.0.2.1")]


async def test_notification_that_fails_is_not_answered_either(api: Api) -> None:
    status, _, answered = await api.post(b'{"jsonrpc":"2.0","method":"peer_enable","params":["tor-9"]}')
    assert (status, answered) == (204, b"")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe{}", -32700),
        (b'"\xc3\x28"', -32700),
        (b"[" * 100_000, -32700),
        (b"nonsense", -32700),
        (b"{}", -32600),
        (b"[]", -32600),
        (b"null", -32600),
        (b"1", -32600),
        (b'{"jsonrpc":"1.0","method":"show_peers","id":1}', -32600),
        (b'{"jsonrpc":"2.0","method":5,"id":1}', -32600),
        (b'{"jsonrpc":"2.0","method":"show_peers","params":"x","id":1}', -32600),
        (b'{"jsonrpc":"2.0","method":"show_peers","id":{}}', -32600),
        (b'{"jsonrpc":"2.0","method":"show_peers","id":true}', -32600),
        (b"[" + b"1," * BATCH_MAX + b"1]", -32600),
    ],
)
async def test_garbage_gets_its_json_rpc_code(api: Api, body: bytes, code: int) -> None:
    status, _, answered = await api.post(body)
    assert status == 200
    message = json.loads(answered)
    assert message["error"]["code"] == code
    assert message["error"]["data"]["reason"]
    assert message["id"] is None
    assert await api.result("show_version")


# -- long lists --------------------------------------------------------------------------------------------


async def test_pages_are_of_one_moment(api: Api) -> None:
    route = api.engine.learned[0]
    api.engine.learned = [route] * 25
    whole = await api.result("show_routes_learned")
    first = await api.result("show_routes_learned", {"limit": 10})
    assert (len(first["routes"]), first["total"]) == (10, 25)
    api.engine.learned = []
    second = await api.result("show_routes_learned", {"limit": 10, "cursor": first["cursor"]})
    last = await api.result("show_routes_learned", {"cursor": second["cursor"]})
    assert last["cursor"] is None
    assert first["routes"] + second["routes"] + last["routes"] == whole
    error = await api.error("show_routes_learned", {"cursor": second["cursor"]})
    assert (error["code"], error["data"]["path"]) == (-32001, "cursor")


@pytest.mark.parametrize("cursor", ["", "x", "x:1", ":", "²:²"])
async def test_cursor_that_is_none_is_refused(api: Api, cursor: str) -> None:
    assert (await api.error("show_routes", {"cursor": cursor}))["data"]["path"] == "cursor"


async def test_a_list_too_long_for_one_answer_asks_for_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpbfd.api.methods.UNPAGED_MAX", 1)
    error = await api.error("show_routes_learned")
    assert (error["code"], error["data"]["path"]) == (-32001, "limit")


async def test_a_long_list_lets_the_loop_go(api: Api) -> None:
    api.engine.learned = [api.engine.learned[0]] * 20_000
    loop = asyncio.get_running_loop()
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        handle[0] = loop.call_soon(turn)

    handle = [loop.call_soon(turn)]
    await api.result("show_routes_learned")
    handle[0].cancel()
    assert turns >= 20_000 // 250


# -- clients that misbehave --------------------------------------------------------------------------------


async def test_healthz(api: Api) -> None:
    status, _, body = await api.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status == 200
    assert json.loads(body) == {"status": "ok", "neighbors": 2, "established": 1}


@pytest.mark.parametrize(("line", "status"), [(b"GET / HTTP/1.1", 405), (b"POST /x HTTP/1.1", 404), (b"\0\1\2", 400)])
async def test_other_requests(api: Api, line: bytes, status: int) -> None:
    assert (await api.raw(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n"))[0] == status


async def test_oversized_body_is_refused(api: Api) -> None:
    body = b'"' + b"x" * BODY_MAX + b'"'
    reader, writer = await api.connect()
    writer.write(http_post(body))
    status, _, answered = await answer(reader)
    writer.transport.abort()
    assert status == 413
    assert json.loads(answered)["error"]["code"] == -32600
    assert await api.result("show_version")


async def test_request_of_a_web_page_is_refused(api: Api) -> None:
    call = b'{"jsonrpc":"2.0","method":"peer_reset","params":["tor-1"],"id":1}'
    status, _, _ = await api.post(call, "Origin: http://evil.example", "Content-Type: text/plain")
    assert status == 403
    assert api.engine.calls == []


async def test_half_a_body_times_out(api: Api) -> None:
    status, _, body = await api.raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert status == 408
    assert json.loads(body)["error"]["code"] == -32600


@pytest.mark.parametrize("start", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\n"])
async def test_connection_without_a_whole_head_is_closed(api: Api, start: bytes) -> None:
    reader, writer = await api.connect()
    writer.write(start)
    async with asyncio.timeout(5):
        assert b"200" not in await reader.read()
    writer.close()


async def test_fifty_slow_clients_do_not_keep_another_waiting(tmp_path: Path) -> None:
    server = server_on(f"unix:{tmp_path}/api.sock")
    await server.start()
    api = Api(FakeEngine(), server, f"{tmp_path}/api.sock")
    slow = [await api.connect() for _ in range(50)]
    for index, (_, writer) in enumerate(slow):
        writer.write(
            (b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")[index % 3]
        )
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(20):
        assert len(await api.result("show_peers")) == 2
    assert loop.time() - started < 5.0  # before any of them has timed out
    for _, writer in slow:
        writer.transport.abort()
    await server.stop()


async def test_client_that_does_not_read_is_dropped(api: Api) -> None:
    api.engine.learned = [api.engine.learned[0]] * 20_000
    reader, writer = await api.connect()
    writer.transport.pause_reading()
    writer.write(http_post(b'{"jsonrpc":"2.0","method":"show_routes_learned","id":1}'))
    await asyncio.sleep(0.2)
    assert await api.result("show_version")
    await asyncio.sleep(1.0)
    writer.transport.resume_reading()
    async with asyncio.timeout(5):
        received = await reader.read()
    assert 0 < len(received) < 4_000_000
    writer.close()


async def test_connections_beyond_the_limit_are_told_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CONNECTIONS_MAX < 1024
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 3)
    held = [await api.connect() for _ in range(3)]
    await asyncio.sleep(0.05)
    status, _, _ = await api.raw(b"")
    assert status == 503
    for _, writer in held:
        writer.transport.abort()
    await asyncio.sleep(0.05)
    assert await api.result("show_version")


# -- sockets -----------------------------------------------------------------------------------------------


def server_on(*names: str, mode: int = 0o600) -> ApiServer:
    return ApiServer(FakeEngine(), list(names), mode)


async def test_unix_socket_has_its_mode_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    server = server_on(f"unix:{path}", mode=0o640)
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["api.sock"]
    await server.stop()
    assert os.listdir(path.parent) == []


async def test_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.listen()
    dead.close()
    assert path.is_socket()
    server = server_on(f"unix:{path}")
    await server.start()
    assert await Api(FakeEngine(), server, str(path)).result("show_version")
    await server.stop()


async def test_socket_of_a_live_daemon_is_left_alone(tmp_path: Path) -> None:
    name = f"unix:{tmp_path}/api.sock"
    first = server_on(name)
    await first.start()
    with pytest.raises(ListenError, match=r"api\.sock: another process answers"):
        await server_on(name).start()
    assert await Api(FakeEngine(), first, f"{tmp_path}/api.sock").result("show_version")
    await first.stop()


def _file(path: Path) -> str:
    (path / "api.sock").write_text("precious")
    return f"unix:{path}/api.sock"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_file, "not a socket"),
        (lambda path: f"unix:{path}/{'x' * 120}", "longer"),
        (lambda path: f"unix:{path}/no/such/api.sock", "No such file"),
        (lambda path: "192.0.2.1:8080", "token"),
        (lambda path: "[::]:8080", "token"),
        (lambda path: "localhost:8080", "ADDR:PORT"),
        (lambda path: "127.0.0.1:99999", "port"),
        (lambda path: "8080", "ADDR:PORT"),
    ],
)
async def test_socket_that_cannot_be_opened_says_why(tmp_path: Path, make: Callable[[Path], str], reason: str) -> None:
    name = make(tmp_path)
    good = f"unix:{tmp_path}/good.sock"
    with pytest.raises(ListenError, match=reason) as caught:
        await server_on(good, name).start()
    assert name in str(caught.value)
    assert not os.path.exists(f"{tmp_path}/good.sock")


async def test_several_sockets_and_their_change(tmp_path: Path) -> None:
    unix = f"unix:{tmp_path}/api.sock"
    server = server_on(unix, "127.0.0.1:0", "[::1]:0")
    await server.start()
    addresses = server.addresses()
    assert addresses[0] == unix
    assert addresses[2].startswith("[::1]:")
    host, port = addresses[1].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(http_post(b'{"jsonrpc":"2.0","method":"show_version","id":1}'))
    assert (await answer(reader))[0] == 200
    writer.close()

    inode = os.stat(f"{tmp_path}/api.sock").st_ino
    with pytest.raises(ListenError):
        await server.reconfigure([unix, "198.51.100.1:1"], 0o600)
    assert server.addresses() == addresses
    await server.reconfigure([unix, f"unix:{tmp_path}/two.sock"], 0o666)
    assert server.addresses() == [unix, f"unix:{tmp_path}/two.sock"]
    assert os.stat(f"{tmp_path}/api.sock").st_ino == inode
    assert {stat.S_IMODE(os.stat(f"{tmp_path}/{name}.sock").st_mode) for name in ("api", "two")} == {0o666}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))
    await server.stop()
    assert os.listdir(tmp_path) == []


async def test_socket_file_that_was_removed_comes_back_with_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    server = server_on(f"unix:{path}")
    await server.start()
    path.unlink()
    await server.reconfigure([f"unix:{path}"], 0o600)
    assert await Api(FakeEngine(), server, str(path)).result("show_version")
    await server.stop()


async def test_another_daemons_socket_is_not_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    server = server_on(f"unix:{path}")
    await server.start()
    path.unlink()
    other = server_on(f"unix:{path}")
    await other.start()
    await server.stop()
    assert path.is_socket()
    await other.stop()
