"""Reloading from any configuration to any other comes to the same as starting with the other.

The host under test has an external neighbor and two internal ones, so that routes pass in every direction: to outside,
to inside, and reflected. The neighbors offer all that can be agreed on, so that its own configuration decides.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.bfd import protocol as bfd
from bgpbfd.core import SECOND
from bgpbfd.wire.iana import MessageType
from tests.sim.engine_world import Host, World

LOCAL = "10.0.0.1"
REMOTES = {"10.0.0.2": 65002, "10.0.0.3": 65010, "10.0.0.4": 65010}
PREFIXES = ("192.0.2.0/26", "192.0.2.64/26", "198.51.100.0/24", "172.16.0.0/24")
COMMON = "172.16.0.0/24"  # announced by every neighbor
RESTART_TIME = 5

Entry = dict[str, Any]

TERMS = (
    f'{{ match = {{ prefixes = ["{COMMON}"] }}, action = "reject" }}',
    '{ match = { prefixes = ["172.16.0.0/12 le 32"] }, set = { local_pref = 120 }, action = "next" }',
    '{ match = { as_path = ["_65002_"] }, set = { local_pref = 70, multi_exit_disc = 7 } }',
    '{ match = { peer = ["10.0.0.3"] }, add = { communities = ["65010:3"] }, action = "next" }',
    '{ match = { source = ["config"] }, prepend = 1 }',
    '{ match = { communities = ["65000:1"] }, remove = { communities = ["65000:*"] }, action = "next" }',
)
POLICY = (None, "all", "all", "some")
PEER_KEYS: dict[str, tuple[object, ...]] = {
    "enabled": (True, True, True, False),
    "passive": (True, False),
    "hold_timer": (30, 30, 30, 90),
    "bfd": (None, 50, 300),
    "advertise_sources": (["config"], ["api", "config"], ["config", "peer"], ["config", "peer"], ["config", "peer"]),
    "import_policy": POLICY,
    "export_policy": POLICY,
    "graceful_shutdown": (True, False, False),
    "next_hop_self": (True, False),
    "max_prefixes": (None, None, None, 1, 100),
    "add_path": ("off", "off", "receive", "send", "both"),
    "extended_next_hop": (True, False, False),
    "extended_messages": (True, True, False),
    "graceful_restart": (True, False),
    "md5_password": (None, "one", "two"),
    "description": (None, "10.0.0.3", "other"),
    "role": (None, None, "customer", "provider", "peer"),  # external
    "route_reflector_client": (True, False),  # internal
}

# Configurations are drawn at random and not by hypothesis, which likes simple ones: whatever is off hides what is on.


def some_routes(rng: Random) -> Entry:
    return {prefix: rng.choice((None, 5, 9)) for prefix in rng.sample(PREFIXES, rng.randrange(3))}


def some_peer(rng: Random) -> Entry:
    return {key: rng.choice(among) for key, among in PEER_KEYS.items()} | {"routes": some_routes(rng)}


def some_config(rng: Random) -> Entry:
    terms = rng.sample(TERMS, rng.randrange(4))
    return {
        "peers": {remote: some_peer(rng) for remote in REMOTES if rng.random() < 0.85},
        "routes": some_routes(rng),
        "sessions": rng.sample(
            (*REMOTES, "10.0.0.9"), rng.randrange(3)
        ),  # BFD's, shared with the neighbor if there is one
        "some": {"default": rng.choice(("accept", "reject")), "terms": terms},
        "cluster_id": rng.choice((None, "10.9.9.9")),
    }


def two_configs(rng: Random) -> tuple[Entry, Entry]:
    """A configuration and another one, that differs from it in a few keys, mostly, or altogether."""
    old, new = some_config(rng), some_config(rng)
    if rng.random() < 0.8:
        for key in rng.sample(("routes", "sessions", "some", "cluster_id"), rng.randrange(1, 5)):
            new[key] = old[key]
        for remote, entry in old["peers"].items():
            changed = some_peer(rng)
            keys = rng.sample(sorted(changed), rng.randrange(3))
            new["peers"][remote] = entry | {key: changed[key] for key in keys}
    return old, new


def value(raw: object) -> str:
    return str(raw).lower() if isinstance(raw, bool) else repr(raw).replace("'", '"')


def route_text(table: str, entries: dict[str, int | None]) -> str:
    text = ""
    for prefix, med in entries.items():
        text += f'[[{table}]]\nprefix = "{prefix}"\nnext_hop = "self"\n'
        if med is not None:
            text += f"multi_exit_disc = {med}\n"
    return text


def peer_text(remote: str, entry: Entry) -> str:
    internal = REMOTES[remote] == 65010
    keys = {"remote_ip": remote, "remote_as": REMOTES[remote], "families": ["ipv4 unicast", "ipv6 unicast"]}
    keys |= {key: given for key, given in entry.items() if given is not None}
    for key in ("routes", "bfd", "max_prefixes", "graceful_restart", "role" if internal else "route_reflector_client"):
        keys.pop(key, None)
    text = "[[peers]]\n" + "".join(f"{key} = {value(given)}\n" for key, given in keys.items())
    if entry["bfd"] is not None:
        text += f"bfd = {{ transmit_interval_ms = {entry['bfd']}, receive_interval_ms = {entry['bfd']} }}\n"
    if entry["max_prefixes"] is not None:
        text += f"max_prefixes = {{ limit = {entry['max_prefixes']}, restart_time = 0 }}\n"
    if entry["graceful_restart"]:
        text += f"graceful_restart = {{ enabled = true, restart_time = {RESTART_TIME} }}\n"
    return text + route_text("peers.static_routes", entry["routes"])


def toml(wanted: Entry) -> str:
    text = f'router_id = "{LOCAL}"\ndefault_as = 65010\nbgp_socket = "[::]:179"\npoll_interval = 1\n'
    if wanted["cluster_id"] is not None:
        text += f'cluster_id = "{wanted["cluster_id"]}"\n'
    text += '[policies.all]\ndefault = "accept"\n'
    text += (
        f'[policies.some]\ndefault = "{wanted["some"]["default"]}"\nterms = [{", ".join(wanted["some"]["terms"])}]\n'
    )
    text += "".join(f'[[bfd.sessions]]\npeer = "{remote}"\n' for remote in wanted["sessions"])
    text += route_text("static_routes", wanted["routes"])
    return text + "".join(peer_text(remote, entry) for remote, entry in wanted["peers"].items())


def bfd_paths(wanted: Entry) -> set[str]:
    """Whom there is to be a BFD session with."""
    peers = {remote for remote, entry in wanted["peers"].items() if entry["enabled"] and entry["bfd"] is not None}
    return peers | set(wanted["sessions"])


def other(remote: str) -> str:
    """A neighbor of the host under test."""
    text = f'router_id = "{remote}"\ndefault_as = {REMOTES[remote]}\nbgp_socket = "[::]:179"\npoll_interval = 1\n'
    text += f'[policies.all]\ndefault = "accept"\n[[peers]]\nremote_ip = "{LOCAL}"\nremote_as = 65010\n'
    text += 'import_policy = "all"\nadd_path = "both"\nextended_next_hop = true\n'
    text += f"graceful_restart = {{ enabled = true, restart_time = {RESTART_TIME} }}\n"
    for prefix, community in ((COMMON, "65000:1"), (f"172.16.{remote[-1]}.0/24", "65000:2")):
        text += f'[[peers.static_routes]]\nprefix = "{prefix}"\nnext_hop = "self"\ncommunities = ["{community}"]\n'
    return text


def world_of(text: str) -> tuple[World, Host, list[Host]]:
    world = World()
    others = [world.host(remote, other(remote)) for remote in REMOTES]
    return world, world.host(LOCAL, text), others


def picture(host: Host, others: list[Host]) -> dict[str, object]:
    """What counts at rest: sessions, what each neighbor has, what is learned and why, BFD sessions, timers."""
    return {
        "states": {n.peer: n.state for n in host.operations.neighbors()},
        "there": {
            other.address: sorted(
                (str(r.prefix), r.path_id or 0, str(r.attributes)) for r in other.operations.routes_learned()
            )
            for other in others
        },
        "here": sorted(
            (str(r.prefix), r.source, r.valid, r.reason, r.why, r.stale, str(r.attributes))
            for r in host.operations.routes_learned()
        ),
        "bfd": sorted(host.bfd_keys),
        "keys": sorted((key.network, key.password.reveal()) for key in host.keys),
        "timers": sorted(host.armed),
    }


def settle(world: World, host: Host) -> None:
    """Long enough for handshakes, restart times and what waits for a neighbor's next session."""
    world.run(10 * SECOND)
    for neighbor in host.operations.neighbors():
        if neighbor.enabled and neighbor.pending_changes:
            host.operations.peer_reset(neighbor.peer)
    world.run(20 * SECOND)


@settings(max_examples=200, deadline=None)
@given(rng=st.randoms(use_true_random=True))
def test_a_reload_comes_to_what_a_start_comes_to(rng: Random) -> None:
    old, new = two_configs(rng)
    early = rng.random() < 0.3
    world, host, others = world_of(toml(old))
    world.run(SECOND // 100 if early else 10 * SECOND)  # early: in the middle of the handshakes
    before = {n.peer: n.established_at for n in host.operations.neighbors()}
    host.bfd_commands.clear()
    host.load(toml(new))
    world.run(SECOND)

    # RFC 5882 §2: a session that somebody uses before and after is not touched, whoever it is.
    added = {command.key for command in host.bfd_commands if isinstance(command, bfd.Add)}
    removed = {command[1] for command in host.bfd_commands if isinstance(command, tuple) and command[0] == "remove"}
    assert added == bfd_paths(new) - bfd_paths(old)
    assert removed == bfd_paths(old) - bfd_paths(new)
    assert host.bfd_keys == bfd_paths(new)

    # Nobody is disturbed: what the OPEN says waits, and what a live session can take it takes.
    for remote, entry in new["peers"].items():
        was = old["peers"].get(remote)
        if was is None or not (was["enabled"] and entry["enabled"]) or entry["max_prefixes"] == 1:
            continue
        if not early and before.get(remote) is not None:
            assert host.operations.neighbor(remote).established_at == before[remote]

    settle(world, host)
    fresh_world, fresh, fresh_others = world_of(toml(new))
    settle(fresh_world, fresh)
    assert picture(host, others) == picture(fresh, fresh_others)


@settings(max_examples=80, deadline=None)
@given(rng=st.randoms(use_true_random=True))
def test_reloading_the_same_again_says_nothing(rng: Random) -> None:
    old, new = two_configs(rng)
    world, host, _ = world_of(toml(old))
    world.run(10 * SECOND)
    host.load(toml(new))
    world.run(10 * SECOND)
    host.sent.clear()
    host.bfd_commands.clear()
    host.load(toml(new))
    world.run(SECOND // 2)
    # A disabled neighbor that dials is told so, and keepalives go on; nothing else.
    said = {MessageType.OPEN, MessageType.UPDATE, MessageType.ROUTE_REFRESH}
    assert [message for message in host.sent if message[1] in said] == []
    assert host.bfd_commands == [("bind", ("0.0.0.0", "::"))]
