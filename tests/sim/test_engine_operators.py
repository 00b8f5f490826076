"""Operators and reloads meet neighbors in every state: restarting, held off, over the limit; in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bgpbfd.config.model import StaticRoute
from bgpbfd.control.snapshot import Refused
from bgpbfd.core import SECOND, Prefix
from bgpbfd.wire.attributes import PathAttributes
from tests.sim.engine_toml import peer, toml
from tests.sim.engine_world import Host, World

A, B = "10.0.0.1", "10.0.0.2"
RESTART = "graceful_restart = { enabled = true, restart_time = 60 }"


def advertise(host: Host, *prefixes: str, med: int | None = None) -> None:
    for prefix in prefixes:
        host.operations.advertise(StaticRoute(Prefix.parse(prefix), PathAttributes(med=med)))


def some(count: int, block: int = 0) -> tuple[str, ...]:
    return tuple(f"192.{block}.{number}.0/24" for number in range(count))


def pair(*keys: str, a: tuple[str, ...] = (), routes: tuple[str, ...] = ()) -> tuple[World, Host, Host]:
    world = World()
    first = world.host(A, toml(A, 65001, peer(B, 65002, *a, routes=routes)))
    second = world.host(B, toml(B, 65002, peer(A, 65001, *keys)))
    world.run(4 * SECOND)
    assert first.state(B) == second.state(A) == "established"
    return world, first, second


# -- the limit ---------------------------------------------------------------------------------------------


def test_rfc4486_the_limit_that_many_updates_of_one_read_exceed_is_one_fault() -> None:
    """The idle hold doubles with each repetition: the rest of the bytes is none."""
    world, a, b = pair("max_prefixes = 2")
    for number, prefix in enumerate(some(40)):
        advertise(a, prefix, med=number)  # an UPDATE each
    world.run(SECOND // 2)
    assert b.state(A) == "idle"
    assert b.operations.neighbor(A).notifications_sent["6/1"] == 1
    deadline = b.engine.neighbors[A].peer.next_deadline()
    assert deadline is not None
    assert deadline - world.now <= SECOND  # poll_interval, the first time


def test_rfc4724_stale_routes_do_not_count_against_the_limit() -> None:
    world, a, b = pair(RESTART, "max_prefixes = 10", a=(RESTART,), routes=some(8))
    world.run(3 * SECOND)
    world.crash(a)
    world.run(SECOND)
    assert len(b.learned(A)) == 8
    world.start(a, toml(A, 65001, peer(B, 65002, RESTART, routes=some(8, block=1))))
    world.run(10 * SECOND)
    assert b.learned(A) == set(some(8, block=1))
    assert b.events("bgp-down") == ["connection lost: Connection reset by peer"]
    assert b.operations.neighbor(A).flaps == 1


# -- restarting neighbors ----------------------------------------------------------------------------------


def restarting(*keys: str) -> tuple[World, Host, Host]:
    """A is gone; B keeps its routes."""
    world, a, b = pair(RESTART, *keys, a=(RESTART,), routes=some(3))
    world.run(3 * SECOND)
    world.crash(a)
    world.run(SECOND)
    assert b.learned(A) == set(some(3))
    assert b.operations.neighbor(A).stale_until is not None
    return world, a, b


def test_an_operator_s_reset_of_a_restarting_neighbor_begins_from_nothing() -> None:
    _, _, b = restarting()
    b.operations.peer_reset(A)
    assert b.learned(A) == set()
    assert b.operations.neighbor(A).stale_until is None
    assert not [key for key in b.armed if key.startswith("stale")]


def test_a_restarting_neighbor_s_routes_go_with_its_graceful_restart() -> None:
    world, _, b = restarting()
    b.load(toml(B, 65002, peer(A, 65001)))
    world.run(0)
    assert b.learned(A) == set()
    assert not [key for key in b.armed if key.startswith("stale")]


def test_another_as_has_nothing_of_the_one_that_went_to_restart() -> None:
    world, _, b = restarting()
    b.load(toml(B, 65002, peer(A, 65009, RESTART)))
    world.run(0)
    assert b.learned(A) == set()


def test_a_restarting_neighbor_keeps_its_routes_through_a_reload_that_is_not_about_it() -> None:
    world, _, b = restarting()
    b.load(toml(B, 65002, peer(A, 65001, RESTART, 'description = "tor"'), peer("10.0.0.9", 65009)))
    world.run(SECOND)
    assert b.learned(A) == set(some(3))


def test_rfc5882_4_3_bfd_down_takes_a_restarting_neighbor_s_routes_only_with_the_c_bit_of_both_ends() -> None:
    """Without it BFD goes down with a restarting control plane, and says nothing of the path; AdminDown never does."""
    for blame, independent, kept in (
        ("path-loss", True, set()),
        ("path-loss", False, set(some(3))),
        ("admin", True, set(some(3))),
    ):
        world, a, b = pair(RESTART, "bfd = true", a=(RESTART, "bfd = true"), routes=some(3))
        b.bfd_says(A, "down", "up")
        world.run(3 * SECOND)
        world.crash(a)
        world.run(SECOND // 10)
        assert b.learned(A) == set(some(3))
        told = len(b.events("bgp-restarting"))
        b.bfd_says(
            *(A, "up", "down"),
            blame=blame,
            remote_admin_down=blame == "admin",
            control_plane_independent=independent,
        )
        world.run(0)
        assert b.learned(A) == kept
        assert (b.operations.neighbor(A).stale_until is None) == (not kept)
        assert len(b.events("stale-routes-dropped")) == (not kept)
        assert len(b.events("bgp-restarting")) - told == (blame == "path-loss" and not independent)


def test_stop_while_a_neighbor_restarts_leaves_no_timer() -> None:
    world, _, b = restarting()
    b.engine.stop("test")
    assert b.armed == {} or set(b.armed) <= {"graceful restart"}
    world.run(100 * SECOND)


def test_disable_and_enable_while_it_restarts() -> None:
    world, a, b = restarting()
    b.operations.peer_disable(A)
    assert b.learned(A) == set()
    assert b.state(A) == "idle"
    b.operations.peer_enable(A)
    world.start(a, toml(A, 65001, peer(B, 65002, RESTART, routes=some(2))))
    world.run(4 * SECOND)
    assert b.learned(A) == set(some(2))
    assert b.operations.neighbor(A).stale_until is None


def test_removed_while_it_restarts() -> None:
    world, _, b = restarting()
    b.load(toml(B, 65002, peer("10.0.0.9", 65009)))
    world.run(0)
    assert b.learned() == set()
    assert not [key for key in b.armed if A in key]


# -- dynamic neighbors -------------------------------------------------------------------------------------


def network(*keys: str, a: tuple[str, ...] = (), routes: tuple[str, ...] = ()) -> tuple[World, Host, Host]:
    world = World()
    second = world.host(B, toml(B, 65002, peer("10.0.0.0/24", 65001, *keys)))
    first = world.host(A, toml(A, 65001, peer(B, 65002, *a, routes=routes)))
    world.run(4 * SECOND)
    assert first.state(B) == "established"
    return world, first, second


def test_a_dynamic_neighbor_over_its_limit_is_kept_out_and_comes_back() -> None:
    world, a, b = network("max_prefixes = { limit = 2, restart_time = 30 }")
    advertise(a, *some(3))
    world.run(5 * SECOND)
    assert b.state(A) == "idle"
    assert a.operations.neighbor(B).last_error is not None
    for prefix in some(3)[1:]:
        a.operations.withdraw(prefix)
    world.run(20 * SECOND)
    assert b.state(A) == "idle"
    world.run(20 * SECOND)
    assert b.state(A) == "established"
    assert b.learned() == set(some(1))


def test_a_dynamic_neighbor_kept_out_for_ever_is_let_in_by_a_reset_or_a_reload() -> None:
    world, a, b = network("max_prefixes = { limit = 2, restart_time = 0 }")
    advertise(a, *some(3))
    world.run(50 * SECOND)
    assert b.state(A) == "idle"
    b.operations.peer_reset(A)
    a.operations.withdraw(some(1)[0])
    world.run(150 * SECOND)
    assert b.state(A) == "established"
    advertise(a, *some(3))
    world.run(50 * SECOND)
    assert b.state(A) == "idle"
    b.load(
        toml(
            B,
            65002,
            peer(
                "10.0.0.0/24",
                65001,
            ),
        )
    )
    world.run(150 * SECOND)
    assert b.state(A) == "established"


def test_a_dynamic_neighbor_s_routes_go_with_it_whatever_restarts() -> None:
    world, a, b = network(RESTART, a=(RESTART,), routes=some(3))
    assert b.learned() == set(some(3))
    world.crash(a)
    world.run(SECOND)
    assert b.learned() == set()
    assert A not in b.engine.neighbors
    assert not [key for key in b.armed if A in key]


def test_a_disabled_dynamic_neighbor_stays_away() -> None:
    world, a, b = network()
    b.operations.peer_disable(A)
    world.run(100 * SECOND)
    assert a.state(B) != "established"
    b.operations.peer_enable(A)
    world.run(100 * SECOND)
    assert a.state(B) == "established"


def test_who_has_never_been_established_takes_no_dynamic_neighbor_s_place() -> None:
    """A stranger within the network, whose OPEN is refused, has earned no idle hold that would be kept for it."""
    world = World()
    b = world.host(B, toml(B, 65002, peer("10.0.0.0/24", 65001, "max_neighbors = 1")))
    stranger = world.host("10.0.0.3", toml("10.0.0.3", 65009, peer(B, 65002)))
    world.run(SECOND // 2)
    assert stranger.operations.neighbor(B).notifications_received == {"2/2": 1}
    assert list(b.engine.neighbors) == []
    world.crash(stranger)
    a = world.host(A, toml(A, 65001, peer(B, 65002)))
    world.run(SECOND // 2)
    assert a.state(B) == "established"


def test_a_command_for_a_network_names_its_neighbors() -> None:
    _, _, b = network()
    with pytest.raises(Refused, match=r"10\.0\.0\.0/24 is a network; name one of its neighbors: 10\.0\.0\.1$"):
        b.operations.peer_disable("10.0.0.0/24")


# -- reloads -----------------------------------------------------------------------------------------------


def test_what_waits_for_the_next_session_is_told_in_the_file_s_words() -> None:
    world, _, b = pair("ttl_security = 1", 'add_path = "both"', "hold_timer = 90")
    assert b.operations.neighbor(A).pending_changes == ()
    b.load(
        toml(B, 65002, peer(A, 65001, "ttl_security = 2", "hold_timer = 60", 'description = "a"', "max_prefixes = 9"))
    )
    world.run(SECOND)
    assert b.state(A) == "established"
    assert sorted(b.operations.neighbor(A).pending_changes) == ["add_path", "hold_timer", "ttl_security"]
    b.operations.peer_reset(A)
    world.run(4 * SECOND)
    assert b.state(A) == "established"
    assert b.operations.neighbor(A).pending_changes == ()
    assert b.targets[A].options.minimum_ttl == 254


def test_connections_that_are_no_neighbor_s_are_counted_where_an_operator_finds_them() -> None:
    world, _, b = pair()
    b.discards["its password is not in force"] = 2
    c = world.host("10.0.0.3", toml("10.0.0.3", 65003, peer(B, 65002)))
    world.run(SECOND)
    assert c.state(B) != "established"
    version = b.operations.version()
    assert version["connections_dropped"] == {"its password is not in force": 2}
    assert version["connections_refused"] in range(1, 4)


def test_a_neighbor_that_does_not_answer_is_told_of_once() -> None:
    world = World()
    b = world.host(B, toml(B, 65002, peer(A, 65001)).replace("poll_interval = 1", "poll_interval = 10"))
    world.cut.add(frozenset({A, B}))
    world.run(200 * SECOND)
    assert len(b.events("bgp-attempt-failed")) == 1


def test_rfc4724_4_1_a_neighbor_that_is_switched_off_does_not_hold_others_up_for_its_whole_restart_time() -> None:
    world = World()
    absent = peer("10.0.0.9", 65002, "graceful_restart = { enabled = true, restart_time = 4095 }")
    of_a = peer(A, 65001, 'import_policy = "all"')
    of_c = peer("10.0.0.3", 65002, 'advertise_sources = ["peer"]')
    b = world.host(B, toml(B, 65002, absent, of_a, of_c, extra='[policies.all]\ndefault = "accept"\n'))
    world.host(A, toml(A, 65001, peer(B, 65002, routes=some(2))))
    c = world.host("10.0.0.3", toml("10.0.0.3", 65002, peer(B, 65002)))
    world.run(300 * SECOND)
    assert c.learned() == set()
    (waiting,) = b.events("graceful-restart")
    assert "in 360 s at the latest" in waiting
    world.run(70 * SECOND)
    assert c.learned() == set(some(2))
    assert len(b.events("graceful-restart")) == 2


# -- every state, every command ----------------------------------------------------------------------------

ROUTES = some(3)
KEYS = (RESTART, "max_prefixes = { limit = 5, restart_time = 0 }")


def _middle(*keys: str) -> str:
    return toml(B, 65002, peer(A, 65001, *keys))


def _established(world: World, a: Host, b: Host) -> None:
    pass


def _away(world: World, a: Host, b: Host) -> None:
    world.crash(a)
    world.run(70 * SECOND)
    assert b.state(A) in {"active", "connect"}


def _gone_to_restart(world: World, a: Host, b: Host) -> None:
    world.crash(a)
    world.run(SECOND)
    assert b.operations.neighbor(A).stale_until is not None


def _back_without_end_of_rib(world: World, a: Host, b: Host) -> None:
    world.crash(a)
    world.run(SECOND)
    world.start(a, toml(A, 65001, peer(B, 65002, RESTART, routes=ROUTES)))
    a.blocked.add(B)
    world.run(4 * SECOND)
    assert b.state(A) == "established"
    assert b.operations.neighbor(A).stale_until is not None


def _over_the_limit(world: World, a: Host, b: Host) -> None:
    advertise(a, *some(9, block=7))
    world.run(SECOND)
    assert b.state(A) == "idle"


def _refused(world: World, a: Host, b: Host) -> None:
    """Damped: A expects another AS."""
    a.load(toml(A, 65001, peer(B, 65077, RESTART, routes=ROUTES)))
    a.operations.peer_reset(B)
    world.run(3 * SECOND)
    assert b.state(A) != "established"


def _disabled(world: World, a: Host, b: Host) -> None:
    b.operations.peer_disable(A)


STATES = [_established, _away, _gone_to_restart, _back_without_end_of_rib, _over_the_limit, _refused, _disabled]


def _enable_again(world: World, b: Host) -> None:
    b.operations.peer_disable(A, "short")
    b.operations.peer_enable(A)


def _reset(world: World, b: Host) -> None:
    b.operations.peer_enable(A)
    b.operations.peer_reset(A)


def _reset_twice(world: World, b: Host) -> None:
    _reset(world, b)
    world.run(SECOND // 3)
    _reset(world, b)


def _remove_and_add(world: World, b: Host) -> None:
    b.load(toml(B, 65002))
    world.run(SECOND // 2)
    b.load(_middle(*KEYS))


def _switch_off_and_on(world: World, b: Host) -> None:
    b.load(_middle(*KEYS, "enabled = false"))
    world.run(SECOND // 2)
    b.load(_middle(*KEYS))


def _restart_off_and_on(world: World, b: Host) -> None:
    b.operations.peer_enable(A)
    b.load(_middle(KEYS[1]))
    world.run(2 * SECOND)
    b.load(_middle(*KEYS))
    b.operations.peer_reset(A)


def _passive_and_back(world: World, b: Host) -> None:
    b.operations.peer_enable(A)
    b.load(_middle(*KEYS, "passive = true"))
    world.run(2 * SECOND)
    b.load(_middle(*KEYS))
    b.operations.peer_reset(A)


def _other_settings(world: World, b: Host) -> None:
    b.operations.peer_enable(A)
    b.load(_middle(RESTART, "max_prefixes = 6", "hold_timer = 30", "ttl_security = 3", 'add_path = "both"'))
    world.run(2 * SECOND)
    b.operations.peer_reset(A)


COMMANDS = [
    _enable_again, _reset, _reset_twice, _remove_and_add, _switch_off_and_on, _restart_off_and_on, _passive_and_back,
    _other_settings,
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__[1:])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__[1:])
@pytest.mark.parametrize("seed", range(3))
def test_every_command_in_every_state_ends_in_a_session_with_its_routes(
    state: Callable[[World, Host, Host], None], command: Callable[[World, Host], None], seed: int
) -> None:
    world = World(seed)
    a = world.host(A, toml(A, 65001, peer(B, 65002, RESTART, routes=ROUTES)))
    b = world.host(B, _middle(*KEYS))
    world.run(4 * SECOND)
    state(world, a, b)
    command(world, b)
    # What was wrong at A's end is mended.
    a.blocked.clear()
    if A in world.hosts:
        world.crash(a)
        world.run(SECOND // 10)
    world.start(a, toml(A, 65001, peer(B, 65002, RESTART, routes=ROUTES)))
    world.run(130 * SECOND)
    assert (a.state(B), b.state(A)) == ("established", "established")
    assert b.learned() == set(ROUTES)
    assert b.operations.neighbor(A).stale_until is None
    assert b.operations.neighbor(A).pending_changes == ()
    assert set(b.armed) == {f"bgp {A}"}
    flaps = b.operations.neighbor(A).flaps
    world.run(400 * SECOND)
    assert b.operations.neighbor(A).flaps == flaps
    assert b.learned() == set(ROUTES)
    assert b.events("internal-error") + a.events("internal-error") == []
