"""Whole engines against each other in virtual time: announce, fail over, come back, reload."""

from __future__ import annotations

import asyncio

import pytest

from bgpbfd.bfd import protocol as bfd
from bgpbfd.config.model import StaticRoute
from bgpbfd.control import engine
from bgpbfd.control.operations import Operations
from bgpbfd.control.snapshot import Refused
from bgpbfd.core import MILLISECOND, SECOND, Prefix
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.iana import CeaseSubcode, MessageType
from bgpbfd.wire.update import UpdateContext, decode_update
from tests.sim.engine_world import Host, World

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def toml(local: str, asn: int, *peers: str, extra: str = "") -> str:
    head = f'router_id = "{local}"\ndefault_as = {asn}\nbgp_socket = "[::]:179"\npoll_interval = 1\n{extra}\n'
    return head + "\n".join(peers)


def peer(remote: str, asn: int, *, bfd_on: bool = False, routes: tuple[str, ...] = (), extra: str = "") -> str:
    text = f'[[peers]]\nremote_ip = "{remote}"\nremote_as = {asn}\n{extra}\n'
    if bfd_on:
        text += "bfd = { transmit_interval_ms = 50, receive_interval_ms = 50, detect_multiplier = 3 }\n"
    for prefix in routes:
        text += f'[[peers.static_routes]]\nprefix = "{prefix}"\nnext_hop = "self"\n'
    return text


ROUTES = ("203.0.113.0/24", "198.51.100.0/24")


def two(*, bfd_on: bool = True, routes: tuple[str, ...] = ROUTES, extra: str = "") -> tuple[World, Host, Host]:
    """Announcer A and router B, established."""
    world = World()
    b = world.host(B, toml(B, 65001, peer(A, 65010, bfd_on=bfd_on)))
    a = world.host(A, toml(A, 65010, peer(B, 65001, bfd_on=bfd_on, routes=routes, extra=extra)))
    world.run(3 * SECOND)
    assert a.state(B) == b.state(A) == "established"
    return world, a, b


def context(host: Host, remote: str) -> UpdateContext:
    found = host.engine.neighbors[remote].peer.context
    assert found is not None
    return found


def updates(host: Host, receiver: Host) -> tuple[set[str], set[str]]:
    """(announced, withdrawn) prefixes of the UPDATEs that ``host`` has sent since it was last asked."""
    announced: set[str] = set()
    withdrawn: set[str] = set()
    for body in host.take_sent(MessageType.UPDATE):
        update = decode_update(body, context(receiver, host.address))
        for reach in update.announced:
            announced |= {str(Prefix(reach.family.afi, nlri)) for nlri in reach.nlri}
        for unreach in update.withdrawn:
            withdrawn |= {str(Prefix(unreach.family.afi, nlri)) for nlri in unreach.nlri}
    return announced, withdrawn


def test_static_routes_reach_the_peer_at_start() -> None:
    _, a, b = two()
    assert b.learned() == set(ROUTES)
    assert {str(r.prefix) for r in a.operations.routes_advertised(B)} == set(ROUTES)
    assert all(r.announced_to == r.wanted_by == 1 for r in a.operations.routes())


def test_reload_sends_exactly_the_difference_and_keeps_the_session() -> None:
    world, a, b = two()
    established = a.operations.neighbor(B).established_at
    a.take_sent(MessageType.UPDATE)
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=("203.0.113.0/24", "192.0.2.128/25"))))
    world.run(SECOND)
    assert updates(a, b) == ({"192.0.2.128/25"}, {"198.51.100.0/24"})
    assert b.learned() == {"203.0.113.0/24", "192.0.2.128/25"}
    assert a.operations.neighbor(B).established_at == established


def test_reload_of_an_equal_file_sends_nothing() -> None:
    world, a, _ = two()
    a.take_sent(MessageType.UPDATE)
    a.bfd_commands.clear()
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES)))
    world.run(SECOND)
    assert a.take_sent(MessageType.UPDATE) == []
    assert a.bfd_commands == [("bind", ("0.0.0.0", "::"))]


def test_reload_of_bfd_timers_polls_and_makes_no_new_session() -> None:
    world, a, _ = two()
    a.bfd_commands.clear()
    a.load(toml(A, 65010, peer(B, 65001, routes=ROUTES, extra="bfd = { transmit_interval_ms = 100 }")))
    world.run(SECOND)
    changes = [c for c in a.bfd_commands if isinstance(c, tuple) and c[0] == "change"]
    assert changes == [
        (
            "change",
            B,
            bfd.Settings(desired_min_tx_us=100_000, required_min_rx_us=300_000, detect_mult=3, minimum_ttl=255),
        )
    ]
    assert not any(isinstance(c, bfd.Add) or (isinstance(c, tuple) and c[0] == "remove") for c in a.bfd_commands)
    assert a.state(B) == "established"


def test_reload_of_what_stands_in_the_open_waits_for_the_next_session() -> None:
    world, a, _ = two()
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES, extra="hold_timer = 30")))
    world.run(SECOND)
    snapshot = a.operations.neighbor(B)
    assert (snapshot.state, snapshot.hold_time_s, snapshot.pending_changes) == ("established", 180, ("hold_timer",))
    a.operations.peer_reset(B)
    world.run(3 * SECOND)
    snapshot = a.operations.neighbor(B)
    assert (snapshot.state, snapshot.hold_time_s, snapshot.pending_changes) == ("established", 30, ())


def test_reload_adds_and_removes_peers() -> None:
    world, a, b = two()
    c = world.host(C, toml(C, 65003, peer(A, 65010)))
    a.load(toml(A, 65010, peer(C, 65003, routes=ROUTES)))
    world.run(3 * SECOND)
    assert list(a.engine.neighbors) == [C]
    assert a.state(C) == "established"
    assert c.learned() == set(ROUTES)
    assert b.learned() == set()
    cease = b.operations.neighbor(A).last_error
    assert cease is not None
    assert a.bfd_keys == set()
    # RFC 4486: Peer De-configured is what the removed peer was told.
    assert any("De-configured" in text or "Deconfigured" in text for text in b.events("bgp-down"))


def test_disabled_in_the_file_sends_cease_and_comes_back_enabled() -> None:
    world, a, b = two()
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES, extra="enabled = false")))
    world.run(3 * SECOND)
    assert a.state(B) == "idle"
    assert b.learned() == set()
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES)))
    world.run(3 * SECOND)
    assert b.learned() == set(ROUTES)


def test_rfc9384_bfd_down_sends_cease_6_10_closes_and_flushes() -> None:
    world, a, b = two()
    b.operations.advertise(_route("192.0.2.0/25"), None)
    world.run(SECOND)
    assert a.learned() == {"192.0.2.0/25"}
    a.bfd_says(B, "init", "up")
    a.take_sent(MessageType.UPDATE)
    a.bfd_says(B, "up", "down", diag=1, blame="path-loss")
    assert a.take_sent(MessageType.NOTIFICATION) == [bytes((6, CeaseSubcode.BFD_DOWN))]
    assert a.learned() == set()
    assert a.state(B) != "established"
    snapshot = a.operations.neighbor(B)
    assert snapshot.last_error is not None
    assert snapshot.last_error.kind.value == "bfd-down"
    assert snapshot.last_error.facts["detection_time_ms"] == 150
    assert snapshot.last_error.facts["silence_ms"] == 150
    (event,) = (e for e in a.operations.events(limit=1000) if e.kind == "bgp-down")
    assert event.facts["silence_to_cease_ms"] == 150
    assert event.facts["blame"] == "path-loss"
    world.run(5 * MILLISECOND)
    assert b.learned() == set()


def test_bfd_up_again_dials_at_once() -> None:
    world, a, b = two()
    a.bfd_says(B, "init", "up")
    world.cut.add(frozenset({A, B}))
    a.bfd_says(B, "up", "down", diag=1, blame="path-loss")
    world.run(20 * SECOND)
    assert a.state(B) != "established"
    b.bfd_says(A, "init", "up")
    b.bfd_says(A, "up", "down", diag=1, blame="path-loss")
    world.cut.clear()
    a.bfd_says(B, "init", "up")
    world.run(100 * MILLISECOND)
    assert a.state(B) == "established"


@pytest.mark.parametrize(
    ("old", "new", "remote_admin_down"),
    [("up", "down", True), ("up", "admin-down", False), ("init", "down", False), ("down", "init", False)],
)
def test_rfc5882_3_2_4_2_admin_down_and_bring_up_are_no_failure(old: str, new: str, remote_admin_down: bool) -> None:
    world, a, b = two()
    if old == "up":
        a.bfd_says(B, "init", "up")
    a.bfd_says(B, old, new, diag=3, remote_admin_down=remote_admin_down, blame="admin" if old == "up" else "")
    world.run(SECOND)
    assert a.state(B) == "established"
    assert b.learned() == set(ROUTES)


def test_a_failure_older_than_the_bgp_session_does_not_hit_it() -> None:
    world, a, _ = two()
    a.bfd_says(B, "init", "up")
    a.bfd_says(B, "up", "down", diag=3, blame="remote-signalled", silence=10 * SECOND)
    world.run(SECOND)
    assert a.state(B) == "established"
    assert a.events("bgp-down") == []


def test_a_bfd_worker_that_is_restarted_blames_nobody() -> None:
    world, a, _ = two()
    a.bfd_says(B, "init", "up")
    a.engine.bfd_event(bfd.Ready(pid=2))
    a.bfd_says(B, "down", "init")
    a.bfd_says(B, "init", "up")
    world.run(60 * SECOND)
    assert a.state(B) == "established"
    assert a.events("bgp-down") == []


def test_a_neighbor_lost_while_the_worker_was_restarted_is_noticed() -> None:
    world, a, b = two()
    a.bfd_says(B, "init", "up")
    a.engine.bfd_event(bfd.Ready(pid=2))
    world.cut.add(frozenset({A, B}))
    world.run(11 * SECOND)
    assert a.state(B) != "established"
    assert len(a.events("bgp-down")) == 1
    assert b.address == B


def test_hold_timer_tears_down_without_bfd() -> None:
    world, a, b = two(bfd_on=False, extra="hold_timer = 9")
    world.cut.add(frozenset({A, B}))
    world.run(10 * SECOND)
    assert a.state(B) != "established"
    assert b.learned() == set()
    world.cut.clear()
    world.run(10 * SECOND)
    assert b.learned() == set(ROUTES)


# -- dynamic neighbors -------------------------------------------------------------------------------------


def test_dynamic_neighbor_lives_with_its_connection() -> None:
    world = World()
    a = world.host(A, toml(A, 65010, peer("10.0.0.0/24", 65001, bfd_on=True, routes=ROUTES)))
    b = world.host(B, toml(B, 65001, peer(A, 65010)))
    world.run(3 * SECOND)
    assert b.learned() == set(ROUTES)
    snapshot = a.operations.neighbor(B)
    assert (snapshot.dynamic, snapshot.network) == (True, "10.0.0.0/24")
    assert a.bfd_keys == {B}
    b.operations.peer_disable(A)
    world.run(SECOND)
    assert a.engine.neighbors == {}
    assert a.bfd_keys == set()
    assert not [key for key in a.armed if B in key]


def test_the_longest_matching_network_decides() -> None:
    world = World()
    a = world.host(A, toml(A, 65010, peer("10.0.0.0/8", 65099), peer("10.0.0.2/31", 65001), peer("10.0.0.0/24", 65098)))
    b = world.host(B, toml(B, 65001, peer(A, 65010)))
    world.run(3 * SECOND)
    assert b.state(A) == "established"
    assert a.operations.neighbor(B).network == "10.0.0.2/31"


def test_neighbors_made_of_networks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "DYNAMIC_MAX", 1)
    world = World()
    world.host(A, toml(A, 65010, peer("10.0.0.0/24", 65001, routes=ROUTES)))
    b = world.host(B, toml(B, 65001, peer(A, 65010)))
    world.run(3 * SECOND)
    c = world.host(C, toml(C, 65001, peer(A, 65010)))
    world.run(3 * SECOND)
    assert (b.state(A), c.state(A) == "established") == ("established", False)
    b.operations.peer_disable(A)
    world.run(3 * SECOND)
    assert c.state(A) == "established"


def test_removing_the_network_ends_its_neighbors() -> None:
    world = World()
    a = world.host(A, toml(A, 65010, peer("10.0.0.0/24", 65001, routes=ROUTES)))
    b = world.host(B, toml(B, 65001, peer(A, 65010)))
    world.run(3 * SECOND)
    a.load(toml(A, 65010))
    world.run(SECOND)
    assert a.engine.neighbors == {}
    assert b.learned() == set()


def test_reload_changes_the_routes_of_a_dynamic_neighbor() -> None:
    world = World()
    a = world.host(A, toml(A, 65010, peer("10.0.0.0/24", 65001, routes=ROUTES)))
    b = world.host(B, toml(B, 65001, peer(A, 65010)))
    world.run(3 * SECOND)
    a.load(toml(A, 65010, peer("10.0.0.0/24", 65001, routes=("192.0.2.128/25",))))
    world.run(SECOND)
    assert b.learned() == {"192.0.2.128/25"}
    assert b.operations.neighbor(A).flaps == 0


def test_an_unknown_source_is_refused() -> None:
    world = World()
    a = world.host(A, toml(A, 65010, peer(C, 65003)))
    b = world.host(B, toml(B, 65001, peer(A, 65010)))
    world.run(3 * SECOND)
    assert b.state(A) != "established"
    assert a.engine.refused_connections > 0


# -- routes over the API -----------------------------------------------------------------------------------


def _route(prefix: str, med: int | None = None) -> StaticRoute:
    return StaticRoute(Prefix.parse(prefix), PathAttributes(med=med))


def test_api_route_is_announced_replaced_and_withdrawn_mid_session() -> None:
    world, a, b = two()
    a.take_sent(MessageType.UPDATE)
    assert a.operations.advertise(_route("192.0.2.0/25")) == 1
    world.run(SECOND)
    assert updates(a, b) == ({"192.0.2.0/25"}, set())
    a.operations.advertise(_route("192.0.2.0/25", med=7))
    world.run(SECOND)
    assert updates(a, b) == ({"192.0.2.0/25"}, set())
    (route,) = (r for r in b.operations.routes_learned() if str(r.prefix) == "192.0.2.0/25")
    assert route.attributes.med == 7
    assert a.operations.withdraw("192.0.2.0/25") == 1
    world.run(SECOND)
    assert updates(a, b) == (set(), {"192.0.2.0/25"})


def test_api_route_for_one_peer_goes_to_that_peer_only() -> None:
    world, a, b = two()
    c = world.host(C, toml(C, 65003, peer(A, 65010)))
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES), peer(C, 65003)))
    world.run(3 * SECOND)
    assert c.learned() == set()  # a peer's static routes are that peer's
    a.operations.advertise(_route("192.0.2.0/25"), [C])
    world.run(SECOND)
    assert c.learned() == {"192.0.2.0/25"}
    assert b.learned() == set(ROUTES)


def test_a_static_route_is_not_withdrawn_over_the_api() -> None:
    _, a, _ = two()
    with pytest.raises(Refused, match="static route of the configuration"):
        a.operations.withdraw("203.0.113.0/24")
    with pytest.raises(Refused, match="not advertised"):
        a.operations.withdraw("192.0.2.0/25")
    with pytest.raises(Refused, match="prefix"):
        a.operations.withdraw("192.0.2.1/25")


def test_api_route_over_a_static_one_gives_it_back_when_withdrawn() -> None:
    world, a, b = two()
    a.operations.advertise(_route("203.0.113.0/24", med=9))
    world.run(SECOND)
    assert {r.attributes.med for r in b.operations.routes_learned() if str(r.prefix) == "203.0.113.0/24"} == {9}
    a.operations.withdraw("203.0.113.0/24")
    world.run(SECOND)
    assert {r.attributes.med for r in b.operations.routes_learned() if str(r.prefix) == "203.0.113.0/24"} == {None}


def test_advertise_sources_says_which_routes_a_peer_gets() -> None:
    world, a, b = two(extra='advertise_sources = ["api"]')
    assert b.learned() == set()
    a.operations.advertise(_route("192.0.2.0/25"))
    world.run(SECOND)
    assert b.learned() == {"192.0.2.0/25"}
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES, extra='advertise_sources = ["config"]')))
    world.run(SECOND)
    assert b.learned() == set(ROUTES)


def test_advertise_sources_peer_passes_learned_routes_on() -> None:
    world, a, b = two()
    c = world.host(C, toml(C, 65003, peer(A, 65010)))
    taken = peer(B, 65001, bfd_on=True, extra='import_policy = "all"')
    given = peer(C, 65003, extra='advertise_sources = ["peer"]\nexport_policy = "all"')
    a.load(toml(A, 65010, taken, given, '[policies.all]\ndefault = "accept"'))
    b.operations.advertise(_route("192.0.2.0/25"))
    world.run(3 * SECOND)
    assert c.learned() == {"192.0.2.0/25"}
    (route,) = c.operations.routes_learned()
    assert [asn for segment in route.attributes.as_path for asn in segment.asns] == [65010, 65001]
    b.operations.withdraw("192.0.2.0/25")
    world.run(SECOND)
    assert c.learned() == set()


def test_a_stalled_reader_gets_the_rest_when_it_reads_again_and_others_do_not_wait() -> None:
    world, a, b = two()
    c = world.host(C, toml(C, 65003, peer(A, 65010)))
    a.load(toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES), peer(C, 65003)))
    world.run(3 * SECOND)
    a.blocked.add(B)
    a.operations.advertise(_route("192.0.2.0/25"))
    world.run(SECOND)
    assert c.learned() == {"192.0.2.0/25"}
    assert b.learned() == set(ROUTES)
    a.operations.withdraw("192.0.2.0/25")
    a.operations.advertise(_route("192.0.2.128/25"))
    a.blocked.clear()
    a.engine.connection_writable(B, 0)
    world.run(SECOND)
    assert b.learned() == {*ROUTES, "192.0.2.128/25"}


# -- operators ---------------------------------------------------------------------------------------------


def test_disable_enable_and_reload_between() -> None:
    world, a, b = two()
    a.operations.peer_disable(B, "maintenance")
    world.run(SECOND)
    assert a.state(B) == "idle"
    assert any("maintenance" in text for text in b.events("bgp-down"))
    assert a.bfd_keys == set()
    a.load(a_file := toml(A, 65010, peer(B, 65001, bfd_on=True, routes=ROUTES)))
    world.run(5 * SECOND)
    assert a.state(B) == "idle"  # what the operator said stands
    a.operations.peer_enable(B)
    world.run(3 * SECOND)
    assert b.learned() == set(ROUTES)
    assert a.bfd_keys == {B}
    assert a_file


def test_neighbors_are_found_by_address_and_description_and_others_refused_by_name() -> None:
    _, a, _ = two(extra='description = "tor-1"')
    assert a.operations.neighbor("tor-1").peer == B
    assert a.operations.neighbor(B).description == "tor-1"
    with pytest.raises(Refused, match=r"no neighbor 'tor-2'.*10\.0\.0\.2"):
        a.operations.neighbor("tor-2")


def test_neighbors_are_found_in_any_spelling_and_an_ambiguous_description_names_them() -> None:
    named = 'description = "tor"'
    world = World()
    a = world.host(A, toml(A, 65010, peer(B, 65001, extra=named), peer(C, 65003, extra=named)))
    assert a.operations.neighbor("::ffff:10.0.0.2").peer == B
    with pytest.raises(Refused, match=r"several neighbors.*10\.0\.0\.2, 10\.0\.0\.3"):
        a.operations.neighbor("tor")


def test_counters_of_a_bfd_session_that_is_not_there_are_refused() -> None:
    """A disabled neighbor has BFD configured, and no session."""
    _, a, _ = two()
    a.operations.peer_disable(B)
    with pytest.raises(Refused, match="no BFD session"):
        asyncio.run(a.operations.clear_bfd_counters(B))


def test_clean_stop_sends_cease_with_a_shutdown_communication() -> None:
    world, a, b = two()
    a.engine.stop("bgpbfd is stopping (SIGTERM)")
    world.run(SECOND)
    assert any("SIGTERM" in text for text in b.events("bgp-down"))
    assert b.learned() == set()
    assert a.engine.neighbors == {}
    assert a.armed == {}


def test_max_prefixes_sends_cease_6_1() -> None:
    world, a, b = two(extra="max_prefixes = 2")
    for number in range(3):
        b.operations.advertise(_route(f"192.0.2.{number * 32}/27"))
    world.run(100 * MILLISECOND)
    assert bytes((6, CeaseSubcode.MAXIMUM_PREFIXES)) in [body[:2] for body in a.take_sent(MessageType.NOTIFICATION)]
    assert a.learned() == set()


def test_route_refresh_is_asked_for_and_answered() -> None:
    world, a, b = two()
    a.take_sent(MessageType.UPDATE)
    b.operations.peer_refresh(A)
    world.run(SECOND)
    assert updates(a, b)[0] == set(ROUTES)


def test_a_refused_file_changes_nothing_and_says_why() -> None:
    world, a, b = two()

    async def broken(_: object) -> object:
        from bgpbfd.config.load import loads

        return loads("router_id = 1")

    operations = Operations(a.engine, broken)  # type: ignore[arg-type]
    result = asyncio.run(operations.reload())
    assert not result.ok
    assert any("router_id" in path for path, _ in result.faults)
    world.run(SECOND)
    assert b.learned() == set(ROUTES)
    assert a.events("reload-failed")


def test_ipv6_route_over_an_ipv4_session_takes_the_interface_s_address() -> None:
    world = World()
    b = world.host(B, toml(B, 65001, peer(A, 65010)))
    world.host(A, toml(A, 65010, peer(B, 65001, routes=("2001:db8:53::/48",))), ipv6="2001:db8::1")
    world.run(3 * SECOND)
    (route,) = b.operations.routes_learned()
    assert route.attributes.next_hop is not None
    assert route.attributes.next_hop[:16].hex() == "20010db8000000000000000000000001"


def test_ipv6_route_without_an_ipv6_address_says_why_it_is_not_sent() -> None:
    world = World()
    world.host(B, toml(B, 65001, peer(A, 65010)))
    a = world.host(A, toml(A, 65010, peer(B, 65001, routes=("2001:db8:53::/48",))))
    world.run(3 * SECOND)
    (route,) = a.operations.routes()
    assert (route.announced_to, route.wanted_by) == (0, 1)
    assert route.reason is not None
    assert "IPv6" in route.reason
