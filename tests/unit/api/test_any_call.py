"""Whatever JSON comes: an answer by JSON-RPC 2.0, never an exception, never an internal error."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from api_fake import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.api.methods import METHODS
from bgpbfd.api.server import ApiServer

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
routes = st.fixed_dictionaries(
    {},
    optional={
        "prefix": st.sampled_from(["10.0.0.0/8", "2001:db8::/32", "10.0.0.1/8", "x"]) | values,
        "next_hop": st.sampled_from(["self", "192.0.2.1", "fe80::1"]) | values,
        "origin": st.sampled_from(["igp", "IGP"]) | values,
        "as_path": st.lists(st.sampled_from(["65000", "{1,2}", "0"]) | values, max_size=3) | values,
        "communities": st.lists(st.sampled_from(["1:2", "1:2:3", "rt:1:2"]) | values, max_size=3) | values,
        "multi_exit_disc": st.integers() | values,
        "local_pref": st.integers() | values,
        "attributes": values,
    },
)
flows = st.fixed_dictionaries(
    {},
    optional={
        "afi": st.sampled_from([1, 2, "ipv4", 3]) | values,
        "action": st.sampled_from(["discard", "mark 5, redirect 65000:1", "drop", ""]) | values,
        "matches": st.lists(st.sampled_from(["port =25", "source 10.0.0.0/8", "flow-label >1"]) | values, max_size=3)
        | values,
        "communities": st.lists(st.sampled_from(["1:2", "ext:0x8006000000000000"]) | values, max_size=3) | values,
        "attributes": values,
    },
)
names = st.sampled_from(
    ["peer", "from_peer", "to_peer", "limit", "cursor", "since", "message", "prefix", "peers", "ttl", "kind"]
)
arguments = st.sampled_from(["tor-1", "192.0.2.1", "10.0.0.0/8", 1, 0]) | values
params = (
    st.lists(arguments, max_size=3)
    | st.dictionaries(names, arguments, max_size=3)
    | st.fixed_dictionaries({"route": routes}, optional={"peers": arguments})
    | st.fixed_dictionaries({"flow": flows}, optional={"peers": arguments})
    | st.tuples(routes | flows).map(list)
)
calls = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(sorted(METHODS)), "id": st.integers(0, 9)},
    optional={"params": params},
)


def ask(body: Any) -> Any:
    server = ApiServer(FakeEngine(), [], 0o600)
    answered = asyncio.run(server._dispatch(json.dumps(body).encode()))
    return json.loads(b"".join(answered)) if answered else None


@settings(max_examples=400, deadline=None)
@given(calls)
def test_every_call_is_answered_or_refused_with_a_reason(call: dict[str, Any]) -> None:
    message = ask(call)
    assert message["jsonrpc"] == "2.0"
    assert message["id"] == call["id"]
    assert ("result" in message) != ("error" in message)
    if "error" in message:
        assert message["error"]["code"] in (-32001, -32601, -32602)
        assert message["error"]["data"]["reason"]


@settings(max_examples=150, deadline=None)
@given(values)
def test_any_json_is_answered(body: Any) -> None:
    message = ask(body)
    for one in message if isinstance(message, list) else [message]:
        assert one["error"]["code"] == -32600
