"""Reloading from any configuration to any other comes to the same as starting with the other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import SECOND
from bgpbfd.wire.iana import MessageType
from tests.sim.engine_world import Host, World

LOCAL = "10.0.0.1"
REMOTES = ("10.0.0.2", "10.0.0.3")
PREFIXES = ("192.0.2.0/26", "192.0.2.64/26", "198.51.100.0/24")

routes = st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from((None, 5, 9)), max_size=3)
peer = st.fixed_dictionaries(
    {
        "enabled": st.booleans(),
        "passive": st.booleans(),
        "hold_timer": st.sampled_from((30, 90)),
        "bfd": st.sampled_from((None, 50, 300)),
        "sources": st.sampled_from((("config",), ("api", "config"), ("config", "peer"))),
        "routes": routes,
    }
)
config = st.fixed_dictionaries({"peers": st.dictionaries(st.sampled_from(REMOTES), peer, max_size=2), "routes": routes})


def route_text(table: str, entries: dict[str, int | None]) -> str:
    text = ""
    for prefix, med in entries.items():
        text += f'[[{table}]]\nprefix = "{prefix}"\nnext_hop = "self"\n'
        if med is not None:
            text += f"multi_exit_disc = {med}\n"
    return text


def toml(wanted: dict[str, dict[str, object]]) -> str:
    text = f'router_id = "{LOCAL}"\ndefault_as = 65010\nbgp_socket = "[::]:179"\npoll_interval = 1\n'
    text += route_text("static_routes", wanted["routes"])  # type: ignore[arg-type]
    for remote, raw in wanted["peers"].items():
        entry: dict[str, object] = raw  # type: ignore[assignment]
        text += f'[[peers]]\nremote_ip = "{remote}"\nremote_as = 6500{remote[-1]}\n'
        text += f"enabled = {str(entry['enabled']).lower()}\npassive = {str(entry['passive']).lower()}\n"
        text += f"hold_timer = {entry['hold_timer']}\nadvertise_sources = {list(entry['sources'])}\n".replace("'", '"')
        if entry["bfd"] is not None:
            text += f"bfd = {{ transmit_interval_ms = {entry['bfd']}, receive_interval_ms = {entry['bfd']} }}\n"
        text += route_text("peers.static_routes", entry["routes"])  # type: ignore[arg-type]
    return text


def world_of(text: str) -> tuple[World, Host, list[Host]]:
    world = World()
    others = [
        world.host(
            remote,
            f'router_id = "{remote}"\ndefault_as = 6500{remote[-1]}\nbgp_socket = "[::]:179"\npoll_interval = 1\n'
            f'[[peers]]\nremote_ip = "{LOCAL}"\nremote_as = 65010\n'
            f'[[peers.static_routes]]\nprefix = "172.16.{remote[-1]}.0/24"\nnext_hop = "self"\n',
        )
        for remote in REMOTES
    ]
    return world, world.host(LOCAL, text), others


def picture(host: Host, others: list[Host]) -> dict[str, object]:
    """What counts at rest: sessions, what each neighbor has, what is learned, which BFD sessions run."""
    return {
        "states": {n.peer: n.state for n in host.operations.neighbors()},
        "there": [
            sorted(
                (str(r.prefix), r.attributes.med, str(r.attributes.as_path)) for r in other.operations.routes_learned()
            )
            for other in others
        ],
        "here": sorted((str(r.prefix), r.source) for r in host.operations.routes_learned()),
        "bfd": sorted(host.bfd_keys),
    }


@settings(max_examples=60, deadline=None)
@given(old=config, new=config, early=st.booleans())
def test_a_reload_comes_to_what_a_start_comes_to(
    old: dict[str, dict[str, object]], new: dict[str, dict[str, object]], early: bool
) -> None:
    world, host, others = world_of(toml(old))
    world.run(SECOND // 100 if early else 10 * SECOND)  # early: in the middle of the handshakes
    before = {n.peer: n.established_at for n in host.operations.neighbors()}
    host.load(toml(new))
    world.run(30 * SECOND)

    fresh_world, fresh, fresh_others = world_of(toml(new))
    fresh_world.run(30 * SECOND)
    assert picture(host, others) == picture(fresh, fresh_others)

    # Nobody is disturbed whose OPEN is the same.
    for remote, raw in new["peers"].items():
        was = old["peers"].get(remote)
        entry: dict[str, object] = raw  # type: ignore[assignment]
        if was is None or not (was["enabled"] and entry["enabled"]):  # type: ignore[index]
            continue
        if not early and before.get(remote) is not None:
            assert host.operations.neighbor(remote).established_at == before[remote]


@settings(max_examples=30, deadline=None)
@given(old=config, new=config)
def test_reloading_the_same_again_says_nothing(
    old: dict[str, dict[str, object]], new: dict[str, dict[str, object]]
) -> None:
    world, host, _ = world_of(toml(old))
    world.run(10 * SECOND)
    host.load(toml(new))
    world.run(10 * SECOND)
    host.sent.clear()
    host.bfd_commands.clear()
    host.load(toml(new))
    world.run(SECOND // 2)
    # A disabled neighbor that dials is told so, and keepalives go on; no OPEN, no UPDATE.
    assert [message for message in host.sent if message[1] in {MessageType.OPEN, MessageType.UPDATE}] == []
    assert host.bfd_commands == [("bind", ("0.0.0.0", "::"))]
