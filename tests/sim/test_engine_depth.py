"""Whole engines in virtual time: policy, restarts, reflection, ADD-PATH, limits, roles."""

from __future__ import annotations

import pytest

from bgpbfd.config.model import StaticRoute
from bgpbfd.control.snapshot import Refused
from bgpbfd.core import MILLISECOND, SECOND, Prefix
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.iana import CeaseSubcode, MessageType
from tests.sim.engine_toml import peer, toml
from tests.sim.engine_world import Host, World

A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
ALL = '[policies.all]\ndefault = "accept"\n'
TRANSIT = 'import_policy = "all"\nexport_policy = "all"\nadvertise_sources = ["api", "config", "peer"]'
RESTART = "graceful_restart = { enabled = true, restart_time = 20 }"


def line(
    *, middle: str = "", to_a: tuple[str, ...] = (TRANSIT,), to_c: tuple[str, ...] = (TRANSIT,),
    a: tuple[str, ...] = (), c: tuple[str, ...] = (), asns: tuple[int, int, int] = (65001, 65002, 65003),
    routes: tuple[str, ...] = ("192.0.2.0/24", "198.51.100.0/24"),
) -> tuple[World, Host, Host, Host]:  # fmt: skip
    """A announces, B is in the middle, C listens; ``to_a`` and ``to_c`` are keys of B's peers."""
    world = World()
    first = world.host(A, toml(A, asns[0], peer(B, asns[1], *a, routes=routes)))
    last = world.host(C, toml(C, asns[2], peer(B, asns[1], *c)))
    text = toml(B, asns[1], peer(A, asns[0], *to_a), peer(C, asns[2], *to_c), extra=ALL + middle)
    host = world.host(B, text)
    world.run(4 * SECOND)
    assert [first.state(B), last.state(B)] == ["established", "established"]
    return world, first, host, last


def reload_middle(host: Host, *, middle: str = "", to_a: str = TRANSIT, to_c: str = TRANSIT) -> None:
    host.load(toml(B, 65002, peer(A, 65001, to_a), peer(C, 65003, to_c), extra=ALL + middle))


BOTH = {"192.0.2.0/24", "198.51.100.0/24"}
NO_TEST_NET = """[policies.no-test-net]
default = "accept"
terms = [{ name = "documentation", match = { prefixes = ["192.0.2.0/24"] }, action = "reject" }]
"""


def test_learned_routes_are_passed_on_with_policies_on_both_sides() -> None:
    _, _, _, c = line()
    assert c.learned() == BOTH


@pytest.mark.parametrize("side", ["import", "export"])
def test_rfc8212_without_a_policy_nothing_is_passed_between_external_peers(side: str) -> None:
    bare = 'advertise_sources = ["api", "config", "peer"]\n' + (
        'export_policy = "all"' if side == "import" else 'import_policy = "all"'
    )
    _world, _, b, c = line(to_a=(bare,), to_c=(bare,))
    assert c.learned() == set()
    assert b.learned(A) == BOTH  # kept and shown
    assert all(route.valid for route in b.operations.routes_learned(A))


def test_import_policy_rejects_and_says_which_term() -> None:
    keys = TRANSIT.replace('import_policy = "all"', 'import_policy = "no-test-net"')
    _, _, b, c = line(middle=NO_TEST_NET, to_a=(keys,))
    assert c.learned() == {"198.51.100.0/24"}
    routes = {str(route.prefix): route for route in b.operations.routes_learned(A)}
    rejected, accepted = routes["192.0.2.0/24"], routes["198.51.100.0/24"]
    assert (rejected.valid, accepted.valid) == (False, True)
    for route in (rejected, accepted):
        assert route.why is not None
        assert "no-test-net" in route.why
    assert "documentation" in (rejected.why or "")
    assert rejected.reason is not None


def test_export_policy_rejects_and_says_which_term() -> None:
    keys = TRANSIT.replace('export_policy = "all"', 'export_policy = "no-test-net"')
    _, _, b, c = line(middle=NO_TEST_NET, to_c=(keys,))
    assert c.learned() == {"198.51.100.0/24"}
    (sent,) = b.operations.routes_advertised(C, why=True)
    assert "no-test-net" in (sent.why or "")


def test_changed_import_policy_is_applied_without_a_reset_and_asks_for_a_refresh() -> None:
    world, _a, b, c = line()
    established = b.operations.neighbor(A).established_at
    b.take_sent(MessageType.UPDATE)
    keys = TRANSIT.replace('import_policy = "all"', 'import_policy = "no-test-net"')
    reload_middle(b, middle=NO_TEST_NET, to_a=keys)
    world.run(SECOND)
    assert c.learned() == {"198.51.100.0/24"}
    assert len(b.take_sent(MessageType.ROUTE_REFRESH)) == 1
    reload_middle(b)
    world.run(SECOND)
    assert c.learned() == BOTH
    assert b.operations.neighbor(A).established_at == established
    assert b.operations.neighbor(A).flaps == 0


def test_changed_terms_of_a_policy_are_applied_too() -> None:
    world, _a, b, c = line()
    closed = '[policies.all]\ndefault = "reject"\n'
    b.load(toml(B, 65002, peer(A, 65001, TRANSIT), peer(C, 65003, TRANSIT), extra=closed))
    world.run(SECOND)
    assert c.learned() == set()
    assert {route.valid for route in b.operations.routes_learned(A)} == {False}


def test_changed_export_policy_withdraws_and_announces_the_difference_alone() -> None:
    world, _, b, c = line()
    keys = TRANSIT.replace('export_policy = "all"', 'export_policy = "no-test-net"')
    b.take_sent(MessageType.UPDATE)
    reload_middle(b, middle=NO_TEST_NET, to_c=keys)
    world.run(SECOND)
    assert c.learned() == {"198.51.100.0/24"}
    assert len(b.take_sent(MessageType.UPDATE)) == 1  # the withdrawal


# -- graceful restart --------------------------------------------------------------------------------------


def stale(host: Host, remote: str) -> set[str]:
    return {str(route.prefix) for route in host.operations.routes_learned(remote) if route.stale}


def test_rfc4724_a_lost_connection_keeps_the_routes_until_they_are_sent_again() -> None:
    world, a, b, c = line(to_a=(TRANSIT, RESTART), a=(RESTART,))
    world.crash(a)
    world.run(2 * SECOND)
    assert stale(b, A) == BOTH
    assert c.learned() == BOTH
    assert b.operations.neighbor(A).stale_until is not None
    world.start(a, toml(A, 65001, peer(B, 65002, RESTART, routes=("192.0.2.0/24",))))
    world.run(5 * SECOND)
    assert b.state(A) == "established"
    assert (stale(b, A), b.learned(A)) == (set(), {"192.0.2.0/24"})
    assert c.learned() == {"192.0.2.0/24"}
    assert b.operations.neighbor(A).stale_until is None
    assert c.operations.neighbor(B).flaps == 0


def test_rfc4724_stale_routes_go_when_the_restart_time_is_over() -> None:
    world, a, b, c = line(to_a=(TRANSIT, RESTART), a=(RESTART,))
    world.crash(a)
    world.run(19 * SECOND)
    assert c.learned() == BOTH
    world.run(2 * SECOND)
    assert (b.learned(A), c.learned()) == (set(), set())
    assert b.events("stale-routes-dropped")


def test_without_graceful_restart_a_lost_connection_takes_the_routes_with_it() -> None:
    world, a, b, c = line(a=(RESTART,))
    world.crash(a)
    world.run(2 * SECOND)
    assert (b.learned(A), c.learned()) == (set(), set())


def test_rfc4724_without_the_f_bit_stale_routes_go_at_once() -> None:
    """A neighbor that comes back without graceful restart has kept nothing."""
    world, a, b, c = line(to_a=(TRANSIT, RESTART), a=(RESTART,))
    world.crash(a)
    world.run(SECOND)
    world.start(a, toml(A, 65001, peer(B, 65002, routes=())))
    world.run(3 * SECOND)
    assert b.state(A) == "established"
    assert (b.learned(A), c.learned()) == (set(), set())


def test_a_disabled_neighbor_s_stale_routes_are_not_kept() -> None:
    world, a, b, c = line(to_a=(TRANSIT, RESTART), a=(RESTART,))
    world.crash(a)
    world.run(SECOND)
    b.operations.peer_disable(A)
    world.run(SECOND)
    assert (b.learned(A), c.learned()) == (set(), set())
    assert not [key for key in b.armed if key.startswith("stale")]


def test_bfd_down_keeps_nothing() -> None:
    bfd = "bfd = { transmit_interval_ms = 50, receive_interval_ms = 50, detect_multiplier = 3 }"
    world, _a, b, c = line(to_a=(TRANSIT, RESTART, bfd), a=(RESTART, bfd))
    b.bfd_says(A, "down", "up")
    world.run(SECOND)
    b.bfd_says(A, "up", "down", diag=1, blame="path-loss")
    world.run(100 * MILLISECOND)
    assert (b.learned(A), c.learned()) == (set(), set())


def test_rfc8538_operator_s_reset_is_a_hard_reset_and_flushes() -> None:
    world, a, b, c = line(to_a=(TRANSIT, RESTART), a=(RESTART,))
    a.take_sent(MessageType.NOTIFICATION)
    a.operations.peer_disable(B, "maintenance")
    world.run(SECOND)
    body = a.take_sent(MessageType.NOTIFICATION)[0]  # the next ones refuse B's connections
    assert body[:4] == bytes((6, CeaseSubcode.HARD_RESET, 6, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN))
    assert (b.learned(A), c.learned()) == (set(), set())


def test_rfc8538_hold_timer_expiry_keeps_the_routes() -> None:
    hold = "hold_timer = 9"
    world, _a, b, c = line(to_a=(TRANSIT, RESTART, hold), a=(RESTART,))
    world.cut.add(frozenset({A, B}))
    world.run(12 * SECOND)
    assert b.state(A) != "established"
    assert stale(b, A) == BOTH
    assert c.learned() == BOTH
    world.cut.clear()
    world.run(5 * SECOND)
    assert b.state(A) == "established"
    assert (stale(b, A), b.learned(A)) == (set(), BOTH)
    assert c.operations.neighbor(B).flaps == 0


def test_clean_stop_withdraws_unless_it_is_to_retain() -> None:
    for on_stop, expected in (("withdraw", set()), ("retain", BOTH)):
        keys = f'graceful_restart = {{ enabled = true, restart_time = 20, on_stop = "{on_stop}" }}'
        world, a, b, c = line(to_a=(TRANSIT, RESTART), a=(keys,))
        a.engine.stop("going")
        world.run(SECOND)
        assert b.state(A) != "established"
        assert b.learned(A) == expected
        assert c.learned() == expected


def test_rfc4724_a_restarted_speaker_waits_for_its_peers_before_it_passes_routes_on() -> None:
    """B restarts: C keeps what B had passed on, and B's End-of-RIB waits for A's routes."""
    keys = (TRANSIT, RESTART)
    world, _a, b, c = line(to_a=keys, to_c=keys, a=(RESTART,), c=(RESTART,))
    world.crash(b)
    world.run(SECOND)
    assert stale(c, B) == BOTH
    a_is_away = frozenset({A, B})
    world.cut.add(a_is_away)
    world.start(b, toml(B, 65002, peer(A, 65001, *keys), peer(C, 65003, *keys), extra=ALL))
    world.run(5 * SECOND)
    assert c.state(B) == "established"
    assert c.learned(B) == BOTH  # A's routes are not known yet, and nothing was taken back
    world.cut.clear()
    world.run(5 * SECOND)
    assert b.state(A) == "established"
    assert (stale(c, B), c.learned(B)) == (set(), BOTH)


def test_rfc4724_the_deferral_ends_with_the_restart_time() -> None:
    keys = (TRANSIT, RESTART)
    world, a, b, c = line(to_a=keys, to_c=keys, a=(RESTART,), c=(RESTART,))
    world.crash(b)
    world.crash(a)
    world.run(SECOND)
    world.start(b, toml(B, 65002, peer(A, 65001, *keys), peer(C, 65003, *keys), extra=ALL))
    world.run(15 * SECOND)
    assert c.learned(B) == BOTH
    world.run(10 * SECOND)
    assert c.state(B) == "established"
    assert c.learned(B) == set()


@pytest.mark.parametrize("change", ["removed", "graceful restart off", "learned routes not for C"])
def test_rfc4724_a_reload_can_end_the_deferral(change: str) -> None:
    """B has restarted and waits for A, which is away; what a reload makes of that is in force at once."""
    keys = (TRANSIT, RESTART)
    world, a, b, c = line(to_a=keys, to_c=keys, a=(RESTART,), c=(RESTART,))
    world.crash(b)
    world.crash(a)
    world.start(b, toml(B, 65002, peer(A, 65001, *keys), peer(C, 65003, *keys), extra=ALL))
    world.run(3 * SECOND)
    assert (c.state(B), stale(c, B)) == ("established", BOTH)
    to_a = {"removed": (), "graceful restart off": (peer(A, 65001, TRANSIT),)}.get(change, (peer(A, 65001, *keys),))
    to_c = peer(C, 65003, TRANSIT.replace(', "peer"', "") if "learned" in change else TRANSIT, RESTART)
    b.load(toml(B, 65002, *to_a, to_c, extra=ALL))
    world.run(2 * SECOND if "learned" not in change else 20 * SECOND)
    assert c.state(B) == "established"
    assert c.learned(B) == set()
    assert c.operations.neighbor(B).end_of_rib == ("ipv4 unicast",)


# -- who is told of a change ---------------------------------------------------------------------------------


def test_rfc4271_9_1_3_whoever_changes_the_best_path_is_told_of_the_other_one_too() -> None:
    """A and C announce the same prefix to B, which sends each the other's as long as that one is the best."""
    prefix = "203.0.113.0/24"
    world, a, _, c = line(c=(), to_c=(TRANSIT,))
    c.operations.advertise(_route(prefix))
    world.run(SECOND)
    assert prefix in a.learned(B)
    a.operations.advertise(_route(prefix))  # from the lower address: B's best from now on
    world.run(SECOND)
    assert (prefix in a.learned(B), prefix in c.learned(B)) == (False, True)
    a.operations.withdraw(prefix)
    world.run(SECOND)
    assert (prefix in a.learned(B), prefix in c.learned(B)) == (True, False)


# -- reflection, ADD-PATH, roles, limits, communities ---------------------------------------------------------


def test_rfc4456_routes_of_a_client_are_reflected() -> None:
    keys = ('advertise_sources = ["peer"]', "route_reflector_client = true")
    _, _, _b, c = line(asns=(65002, 65002, 65002), to_a=keys, to_c=keys)
    routes = c.operations.routes_learned(B)
    assert {str(route.prefix) for route in routes} == BOTH
    for route in routes:
        assert route.valid
        assert route.attributes.originator_id == bytes((10, 0, 0, 1))
        assert route.attributes.cluster_list == (bytes((10, 0, 0, 2)),)


def test_rfc4271_9_2_internal_routes_are_not_passed_on_without_reflection() -> None:
    keys = ('advertise_sources = ["peer"]',)
    _, _, _, c = line(asns=(65002, 65002, 65002), to_a=keys, to_c=keys)
    assert c.learned() == set()


def test_rfc7911_all_paths_are_sent_and_received() -> None:
    world = World()
    for address, asn in ((A, 65001), (D, 65004)):
        world.host(address, toml(address, asn, peer(B, 65002, routes=("192.0.2.0/24",))))
    c = world.host(C, toml(C, 65003, peer(B, 65002, 'add_path = "receive"')))
    text = [peer(A, 65001, TRANSIT), peer(D, 65004, TRANSIT), peer(C, 65003, TRANSIT, 'add_path = "send"')]
    world.host(B, toml(B, 65002, *text, extra=ALL))
    world.run(4 * SECOND)

    def paths() -> dict[int | None, tuple[int, ...]]:
        return {r.path_id: r.attributes.as_path[0].asns for r in c.operations.routes_learned(B)}

    before = paths()
    assert sorted(before.values()) == [(65002, 65001), (65002, 65004)]
    assert None not in before
    world.hosts[A].operations.peer_disable(B)
    world.run(SECOND)
    assert paths() == {key: path for key, path in before.items() if path == (65002, 65004)}
    world.hosts[A].operations.peer_enable(B)
    world.run(4 * SECOND)
    assert sorted(paths().values()) == [(65002, 65001), (65002, 65004)]


def test_rfc9234_wrong_roles_do_not_come_up() -> None:
    world = World()
    a = world.host(A, toml(A, 65001, peer(B, 65002, 'role = "provider"')))
    b = world.host(B, toml(B, 65002, peer(A, 65001, 'role = "peer"')))
    world.run(5 * SECOND)
    assert a.state(B) != "established"
    errors = [host.operations.neighbor(other).last_error for host, other in ((a, B), (b, A))]
    assert any(error is not None and (error.code, error.subcode) == (2, 11) for error in errors)


def test_rfc9234_route_of_a_provider_is_not_leaked_to_another_one() -> None:
    to_a = (TRANSIT, 'role = "customer"')
    to_c = (TRANSIT, 'role = "customer"')
    _, _, b, c = line(to_a=to_a, to_c=to_c, a=('role = "provider"',), c=('role = "provider"',))
    (first, second) = b.operations.routes_learned(A)
    assert first.attributes.only_to_customer == second.attributes.only_to_customer == 65001
    assert c.learned() == set()


def test_max_prefixes_warns_then_ends_and_waits_for_the_restart_time() -> None:
    keys = (TRANSIT, "max_prefixes = { limit = 4, warning = 50, restart_time = 30 }")
    world, a, b, _ = line(to_a=keys)
    assert len(b.events("max-prefixes-warning")) == 1
    for number in range(3):
        a.operations.advertise(_route(f"203.0.113.{number * 64}/26"))
    b.take_sent(MessageType.NOTIFICATION)
    world.run(100 * MILLISECOND)
    assert b.take_sent(MessageType.NOTIFICATION)[0] == bytes((6, 1, 0, 1, 1, 0, 0, 0, 4))
    assert b.learned(A) == set()
    a.operations.withdraw("203.0.113.0/26")
    world.run(28 * SECOND)
    assert b.state(A) != "established"
    world.run(10 * SECOND)
    assert b.state(A) == "established"
    assert len(b.learned(A)) == 4


def test_max_prefixes_with_restart_time_0_stays_down_until_an_operator_resets() -> None:
    keys = (TRANSIT, "max_prefixes = { limit = 1, restart_time = 0 }")
    world = World()
    a = world.host(A, toml(A, 65001, peer(B, 65002, routes=("192.0.2.0/24", "198.51.100.0/24"))))
    b = world.host(B, toml(B, 65002, peer(A, 65001, *keys), extra=ALL))
    world.run(600 * SECOND)
    assert b.operations.neighbor(A).flaps == 1
    b.load(toml(B, 65002, peer(A, 65001, TRANSIT), extra=ALL))
    b.operations.peer_reset(A)
    world.run(10 * SECOND)
    assert b.state(A) == "established"
    assert a.state(B) == "established"


def test_a_limit_that_a_reload_puts_below_what_is_there_is_exceeded_at_once() -> None:
    world, _a, b, c = line()
    reload_middle(b, to_a=TRANSIT + "\nmax_prefixes = { limit = 2, restart_time = 0 }")
    world.run(SECOND)
    assert c.learned() == BOTH
    reload_middle(b, to_a=TRANSIT + "\nmax_prefixes = { limit = 1, restart_time = 0 }")
    world.run(SECOND)
    assert b.state(A) == "idle"
    assert (b.learned(A), c.learned()) == (set(), set())


def test_rfc8326_graceful_shutdown_is_sent_and_honoured() -> None:
    world, a, b, _c = line()
    a.load(toml(A, 65001, peer(B, 65002, "graceful_shutdown = true", routes=tuple(sorted(BOTH)))))
    world.run(SECOND)
    for route in b.operations.routes_learned(A):
        assert 0xFFFF0000 in route.attributes.communities
        assert route.attributes.local_pref == 0
    assert b.operations.neighbor(A).flaps == 0
    a.load(toml(A, 65001, peer(B, 65002, routes=tuple(sorted(BOTH)))))
    world.run(SECOND)
    assert all(route.attributes.communities == () for route in b.operations.routes_learned(A))


def test_rfc8950_ipv6_next_hop_of_an_ipv4_route_needs_a_neighbor_that_takes_it() -> None:
    _, a, _, _ = line()
    route = StaticRoute(Prefix.parse("203.0.113.0/26"), PathAttributes(next_hop=bytes(15) + b"\1"))
    with pytest.raises(Refused, match="extended_next_hop") as caught:
        a.operations.advertise(route)
    assert caught.value.path == "route.next_hop"
    a.load(toml(A, 65001, peer(B, 65002, "extended_next_hop = true")))
    assert a.operations.advertise(route) == 1


def test_networks_take_no_more_neighbors_than_they_are_allowed() -> None:
    world = World()
    b = world.host(B, toml(B, 65002, peer("10.0.0.0/24", 65001, "max_neighbors = 1")))
    a = world.host(A, toml(A, 65001, peer(B, 65002)))
    world.run(3 * SECOND)
    c = world.host(C, toml(C, 65001, peer(B, 65002)))
    world.run(3 * SECOND)
    assert (a.state(B), c.state(B) == "established") == ("established", False)
    assert b.engine.refused_connections > 0


def _route(prefix: str) -> StaticRoute:
    return StaticRoute(Prefix.parse(prefix), PathAttributes())
