"""Whole engines whose BGP follows BFD: strict mode, the way back after a failure, minutes of flapping."""

from __future__ import annotations

import random

import pytest

from bgpbfd.bfd import protocol as bfd
from bgpbfd.control.bfd_neighbors import BFD_REGAIN
from bgpbfd.core import MILLISECOND, SECOND
from bgpbfd.wire.iana import CeaseSubcode, MessageType
from tests.sim.engine_toml import peer, toml
from tests.sim.engine_world import Host, World

A, B = "10.0.0.1", "10.0.0.2"
STRICT = 'bfd = { mode = "strict" }'
TRACK = "bfd = true"
WAY_BACK = 100 * MILLISECOND  # from BFD Up to Established, as promised to operators
CEASE_BFD_DOWN = bytes((6, CeaseSubcode.BFD_DOWN))


def two(of_a: str = STRICT, of_b: str = STRICT, *more: str) -> tuple[World, Host, Host]:
    world = World()
    b = world.host(B, toml(B, 65001, peer(A, 65010, of_b, *more)))
    a = world.host(A, toml(A, 65010, peer(B, 65001, of_a, routes=("203.0.113.0/24",))))
    return world, a, b


def both(world: World, a: Host, b: Host, old: str, new: str, **kwargs: object) -> None:
    a.bfd_says(B, old, new, **kwargs)  # type: ignore[arg-type]
    b.bfd_says(A, old, new, **kwargs)  # type: ignore[arg-type]


def established(a: Host, b: Host) -> bool:
    return a.state(B) == b.state(A) == "established"


# -- strict ------------------------------------------------------------------------------------------------


def test_rfc5882_4_1_bgp_waits_for_bfd_and_comes_with_it() -> None:
    world, a, b = two()
    world.run(10 * SECOND)
    assert {a.state(B), b.state(A)} == {"opensent"}
    assert a.operations.neighbor(B).waiting_for_bfd
    assert a.take_sent(MessageType.KEEPALIVE) == []
    a.bfd_says(B, "init", "up")
    world.run(SECOND)
    assert not established(a, b)  # the other end waits still
    b.bfd_says(A, "init", "up")
    world.run(WAY_BACK)
    assert established(a, b)
    assert not a.operations.neighbor(B).waiting_for_bfd
    assert b.learned(A) == {"203.0.113.0/24"}


def test_who_is_strict_alone_waits_all_the_same() -> None:
    world, a, b = two(STRICT, TRACK)
    world.run(10 * SECOND)
    assert not established(a, b)
    a.bfd_says(B, "init", "up")
    world.run(WAY_BACK)
    assert established(a, b)


def test_a_bfd_that_does_not_come_ends_the_wait_with_cease_6_10() -> None:
    world, a, _b = two('bfd = { mode = "strict", strict_hold_time = 5 }', TRACK)
    world.run(4 * SECOND)
    assert CEASE_BFD_DOWN not in [body[:2] for body in a.take_sent(MessageType.NOTIFICATION)]
    world.run(2 * SECOND)
    assert CEASE_BFD_DOWN in [body[:2] for body in a.take_sent(MessageType.NOTIFICATION)]
    world.run(60 * SECOND)
    a.bfd_says(B, "init", "up")
    world.run(WAY_BACK)
    assert a.state(B) == "established"


@pytest.mark.parametrize("remote", [True, False])
def test_rfc5882_4_1_admin_down_does_not_keep_it_back(remote: bool) -> None:
    world, a, b = two(STRICT, TRACK)
    world.run(3 * SECOND)
    if remote:
        a.bfd_says(B, "down", "down", remote_admin_down=True)
    else:
        a.load(toml(A, 65010, peer(B, 65001, 'bfd = { mode = "strict", shutdown = true }')))
    world.run(WAY_BACK)
    assert established(a, b)


@pytest.mark.parametrize("key", ["passive = true", "bfd = false"])
def test_a_passive_strict_neighbor_waits_too(key: str) -> None:
    """``key``: the other end dials, with BFD or without."""
    world = World()
    a = world.host(A, toml(A, 65010, peer(B, 65001, STRICT, "passive = true")))
    world.host(B, toml(B, 65001, peer(A, 65010, *(["bfd = false"] if key == "bfd = false" else [TRACK]))))
    world.run(5 * SECOND)
    assert a.state(B) == "opensent"
    a.bfd_says(B, "init", "up")
    world.run(WAY_BACK)
    assert a.state(B) == "established"


def test_a_dynamic_strict_neighbor_s_first_connection_waits() -> None:
    world = World()
    a = world.host(A, toml(A, 65010, peer("10.0.0.0/24", 65001, STRICT)))
    world.host(B, toml(B, 65001, peer(A, 65010, TRACK)))
    world.run(5 * SECOND)
    assert a.state(B) == "opensent"
    assert a.take_sent(MessageType.KEEPALIVE) == []
    assert a.bfd_keys == {B}
    a.bfd_says(B, "init", "up")
    world.run(WAY_BACK)
    assert a.state(B) == "established"
    a.bfd_says(B, "up", "down", blame="path-loss")
    world.run(0)
    assert B not in a.engine.neighbors
    assert a.bfd_keys == set()


def test_removing_bfd_lets_waiting_bgp_up() -> None:
    world, a, b = two(STRICT, TRACK)
    world.run(3 * SECOND)
    a.load(toml(A, 65010, peer(B, 65001)))
    world.run(2 * SECOND)
    assert established(a, b)
    a.load(toml(A, 65010, peer(B, 65001, STRICT)))
    world.run(60 * SECOND)
    assert established(a, b)  # a session that is there is BfdDown's to end


def test_a_new_worker_leaves_an_established_strict_session_alone() -> None:
    world, a, b = two()
    world.run(SECOND)
    both(world, a, b, "init", "up")
    world.run(SECOND)
    a.engine.bfd_event(bfd.Ready(pid=2))
    world.run(BFD_REGAIN - SECOND)
    a.bfd_says(B, "down", "init")
    a.bfd_says(B, "init", "up")
    world.run(10 * BFD_REGAIN)
    assert established(a, b)
    assert a.events("bgp-down") == []
    assert not a.engine.neighbors[B].peer.gate.closed


# -- faults of others (reference/bfd.md §8) ------------------------------------------------------------------


@pytest.mark.parametrize("mode", [STRICT, TRACK])
def test_fault_16_bgp_goes_at_once_with_bfd_and_comes_back_with_it(mode: str) -> None:
    world, a, b = two(mode, mode)
    both(world, a, b, "init", "up")
    world.run(5 * SECOND)
    for _ in range(3):
        assert established(a, b)
        both(world, a, b, "up", "down", blame="path-loss")
        assert a.state(B) != "established"  # in the same turn
        world.cut.add(frozenset({A, B}))
        world.run(20 * SECOND)
        world.cut.clear()
        both(world, a, b, "down", "up")
        world.run(WAY_BACK)


def test_fault_17_a_bfd_that_was_never_up_tears_nothing() -> None:
    world, a, b = two(TRACK, TRACK)
    world.run(3 * SECOND)
    for new, old in (("init", "down"), ("down", "init"), ("init", "down"), ("down", "init")):
        a.bfd_says(B, old, new, diag=1, blame="path-loss" if new == "down" else "")
        world.run(SECOND)
    assert established(a, b)
    assert a.events("bgp-down") == []


def test_fault_14_an_edit_of_the_timers_is_a_poll() -> None:
    world, a, b = two()
    both(world, a, b, "init", "up")
    world.run(2 * SECOND)
    a.bfd_commands.clear()
    slower = 'bfd = { mode = "strict", transmit_interval_ms = 900, strict_hold_time = 7 }'
    a.load(toml(A, 65010, peer(B, 65001, slower, routes=("203.0.113.0/24",))))
    world.run(SECOND)
    changed = [command for command in a.bfd_commands if command[0] != "bind"]  # type: ignore[index]
    assert changed == [("change", B, bfd.Settings(desired_min_tx_us=900_000, minimum_ttl=255))]
    assert established(a, b)


# -- flapping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [STRICT, TRACK])
def test_minutes_of_flapping_cost_few_sessions_and_one_minute_of_waiting(mode: str) -> None:
    world, a, b = two(mode, mode)
    both(world, a, b, "init", "up")
    world.run(3 * SECOND)
    flaps = 60
    for _ in range(flaps):
        both(world, a, b, "up", "down", blame="path-loss")
        assert a.state(B) != "established"
        world.run(SECOND)
        both(world, a, b, "down", "up")
        world.run(4 * SECOND)
    assert len(a.events("bfd-down")) == flaps
    assert len(a.events("bgp-up")) < 10
    assert not established(a, b)
    world.run(56 * SECOND + WAY_BACK)
    assert established(a, b)
    assert "bfd gate " + B not in a.armed

    # And after a quiet time all is as before.
    world.run(10 * 60 * SECOND)
    both(world, a, b, "up", "down", blame="path-loss")
    world.run(SECOND)
    both(world, a, b, "down", "up")
    world.run(WAY_BACK)
    assert established(a, b)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_has_happened_bgp_is_back_a_minute_after_bfd(seed: int) -> None:
    rng = random.Random(seed)
    world, a, b = two(rng.choice((STRICT, TRACK)), rng.choice((STRICT, TRACK)))
    state = {A: "down", B: "down"}
    for _ in range(rng.randrange(60)):
        host, other = rng.choice(((a, B), (b, A)))
        old = state[host.address]
        match rng.randrange(5):
            case 0 | 1 if old != "up":
                host.bfd_says(other, old, "up")
                state[host.address] = "up"
            case 2 if old != "down":
                host.bfd_says(other, old, "down", blame="path-loss")
                state[host.address] = "down"
            case 3:
                host.bfd_says(other, old, "down", blame="admin", remote_admin_down=True)
                state[host.address] = "down"
            case 4:
                host.engine.bfd_event(bfd.Ready(pid=1))
                state[host.address] = "down"
            case _:
                pass
        world.run(rng.choice((0, SECOND, 3 * SECOND, 20 * SECOND)))
    for host, other in ((a, B), (b, A)):
        if state[host.address] != "up":
            host.bfd_says(other, state[host.address], "up")
    world.run(62 * SECOND)
    assert established(a, b)
    for host in (a, b):
        neighbor = next(iter(host.engine.neighbors.values()))
        assert not neighbor.peer.gate.closed
        assert host.events("internal-error") == []
