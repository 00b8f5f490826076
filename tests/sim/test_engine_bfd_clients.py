"""One BFD session a path, whoever uses it (RFC 5882 §2): neighbors, stand-alone entries, who asks (RFC 9468)."""

from __future__ import annotations

import asyncio

import pytest

from bgpbfd.bfd import protocol as bfd
from bgpbfd.control import bfd_neighbors, bfd_sessions
from bgpbfd.control.snapshot import BfdSnapshot
from bgpbfd.core import MILLISECOND, SECOND
from tests.sim.engine_toml import peer, toml
from tests.sim.engine_world import Host, World

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
FAST = "bfd = { transmit_interval_ms = 50, receive_interval_ms = 50 }"
NETWORK = peer("10.0.0.0/24", 65001, "bfd = true")
UNSOLICITED = '[bfd.unsolicited]\nnetworks = ["10.0.0.0/24"]\n'
ON_ETH0 = f"{B} from {A} on eth0"
ASKS = bfd.Unsolicited(remote=B, local=A, interface="eth0")


def alone(address: str = B, *keys: str) -> str:
    return "\n".join(["[[bfd.sessions]]", f'peer = "{address}"', *keys, ""])


def one(text: str) -> tuple[World, Host]:
    world = World()
    return world, world.host(A, text)


def two(to_b: str = FAST, extra: str = "") -> tuple[World, Host]:
    """A with B beyond a BGP session."""
    world = World()
    world.host(B, toml(B, 65001, peer(A, 65010)))
    a = world.host(A, toml(A, 65010, peer(B, 65001, to_b), extra=extra))
    world.run(2 * SECOND)
    assert a.state(B) == "established"
    return world, a


def with_network() -> tuple[World, Host, Host]:
    """A takes B from a network, and BFD sessions from there."""
    world = World()
    a = world.host(A, toml(A, 65010, NETWORK, extra=UNSOLICITED))
    b = world.host(B, toml(B, 65001))
    return world, a, b


def touched(host: Host) -> list[object]:
    """What the worker was told about sessions since the last look."""
    told = [c for c in host.bfd_commands if not (isinstance(c, tuple) and c[0] in {"bind", "unsolicited"})]
    host.bfd_commands.clear()
    return told


def shown(host: Host) -> list[BfdSnapshot]:
    return asyncio.run(host.operations.bfd_sessions())


# -- sharing -----------------------------------------------------------------------------------------------


def test_rfc5882_2_a_neighbor_and_a_stand_alone_entry_share_a_session_and_its_failures() -> None:
    world, a = two("bfd = true", alone(B, "transmit_interval_ms = 100", "detect_multiplier = 5"))
    assert a.bfd_keys == {B}
    (snapshot,) = shown(a)
    assert (snapshot.clients, snapshot.mode, snapshot.dynamic) == (("configured", "bgp"), "track", False)
    touched(a)
    a.bfd_says(B, "init", "up")
    a.load(
        toml(A, 65010, peer(B, 65001, "bfd = true"))
    )  # the entry goes, and the session stays with the neighbor's wish
    assert touched(a) == [("change", B, bfd.Settings(minimum_ttl=255))]
    a.load(toml(A, 65010, peer(B, 65001), extra=alone()))
    world.run(SECOND)
    assert touched(a) == []
    a.bfd_says(B, "up", "down", blame="path-loss")
    world.run(SECOND)
    assert a.state(B) == "established"  # BGP does not use it any more
    assert len(a.events("bfd-down")) == 1


def test_a_reload_that_hands_a_session_from_one_client_to_another_does_not_touch_it() -> None:
    world, a = one(toml(A, 65010, extra=alone(B)))
    a.bfd_says(B, "init", "up")
    touched(a)
    a.load(toml(A, 65010, peer(B, 65001, "bfd = true")))
    assert touched(a) == []
    assert a.operations.neighbor(B).bfd_state == "up"  # it learns at once what is known
    a.load(toml(A, 65010, extra=alone(B)))
    world.run(SECOND)
    assert touched(a) == []
    assert a.bfd_keys == {B}
    a.load(toml(A, 65010))
    assert touched(a) == [("remove", B)]


def test_a_neighbor_that_gets_an_entry_of_its_own_keeps_its_bfd_session() -> None:
    world, a, b = with_network()
    b.load(toml(B, 65001, peer(A, 65010)))
    world.run(2 * SECOND)
    a.bfd_says(B, "init", "up")
    touched(a)
    a.load(toml(A, 65010, peer(B, 65001, "bfd = true"), NETWORK, extra=UNSOLICITED))
    world.run(SECOND)
    assert touched(a) == []
    assert a.operations.neighbor(B).bfd_state == "up"
    assert not a.operations.neighbor(B).dynamic


def test_only_another_path_is_another_session() -> None:
    _, a = one(toml(A, 65010, peer(B, 65001, "bfd = true"), extra=alone(C)))
    touched(a)
    a.load(toml(A, 65010, peer(B, 65001, "bfd = true", f'local_ip = "{A}"'), extra=alone(C)))
    added, removed = touched(a)
    assert isinstance(added, bfd.Add)
    assert (added.local, removed) == (A, ("remove", B))


def test_who_has_bfd_shut_down_sees_admin_down_of_a_session_that_others_use() -> None:
    off = "bfd = { shutdown = true, transmit_interval_ms = 10 }"
    world, a = two(off, alone())
    (added,) = [c for c in a.bfd_commands if isinstance(c, bfd.Add)]
    assert not added.admin_down
    assert not [c for c in a.bfd_commands if isinstance(c, tuple) and c[0] == "change"]  # nor are its timers wanted
    a.bfd_says(B, "init", "up")
    assert a.operations.neighbor(B).bfd_state == "admin-down"
    a.bfd_says(B, "up", "down", blame="path-loss")
    world.run(SECOND)
    assert a.state(B) == "established"

    a.bfd_says(B, "init", "up")
    a.load(toml(A, 65010, peer(B, 65001, "bfd = true"), extra=alone()))
    assert a.operations.neighbor(B).bfd_state == "up"
    a.bfd_says(B, "up", "down", blame="path-loss")
    world.run(0)
    assert a.state(B) != "established"


def test_a_shutdown_that_begins_under_a_shared_session_is_no_failure() -> None:
    world, a = two("bfd = true", alone())
    a.bfd_says(B, "init", "up")
    touched(a)
    a.load(toml(A, 65010, peer(B, 65001, "bfd = { shutdown = true }"), extra=alone()))
    world.run(SECOND)
    assert touched(a) == []
    assert (a.state(B), a.operations.neighbor(B).bfd_state) == ("established", "admin-down")
    a.load(toml(A, 65010, peer(B, 65001, "bfd = { shutdown = true }")))
    assert touched(a) == [("admin-down", B, True)]


# -- events of what was before -----------------------------------------------------------------------------


def test_an_event_of_an_earlier_session_on_the_same_path_reaches_nobody() -> None:
    """Fault 15: the link sifts them by generation, and the registry does not rely on that alone."""
    world, a = two()
    a.bfd_says(B, "init", "up")
    earlier = bfd.StateChange(
        key=B,
        generation=0,
        old="up",
        new="down",
        diag=1,
        remote_diag=0,
        remote_admin_down=False,
        blame="path-loss",
        at=world.now,
        last_rx=world.now,
        previous_rx=None,
        detection_time_us=150 * MILLISECOND,
    )
    a.engine.bfd_event(earlier)
    a.engine.bfd_event(bfd.SessionFault(key=B, generation=0, error="no such address"))
    a.engine.bfd_event(bfd.Late(key=B, generation=0, count=1, gap_us=90_000, interval_us=50_000, at=world.now))
    world.run(SECOND)
    assert (a.state(B), a.operations.neighbor(B).bfd_state) == ("established", "up")
    assert [event for kind in ("bfd-down", "bfd-fault", "bfd-late") for event in a.events(kind)] == []
    assert shown(a)[0].fault is None


def test_a_client_that_left_hears_nothing_and_one_that_comes_back_begins_from_what_is_known() -> None:
    world, a = two("bfd = true", alone())
    a.bfd_says(B, "init", "up")
    a.operations.peer_disable(B)
    world.run(SECOND)
    a.bfd_says(B, "up", "down", blame="path-loss")
    a.bfd_says(B, "down", "up")
    assert a.bfd_keys == {B}
    a.operations.peer_enable(B)
    assert a.operations.neighbor(B).bfd_state == "up"
    world.run(3 * SECOND)
    assert a.state(B) == "established"


# -- neighbors that ask ------------------------------------------------------------------------------------


def test_rfc9468_a_dynamic_neighbor_takes_over_the_session_that_it_had_asked_for() -> None:
    world, a, b = with_network()
    a.engine.bfd_event(ASKS)
    a.bfd_says(ON_ETH0, "init", "up")
    assert [s.clients for s in shown(a)] == [("unsolicited",)]
    touched(a)
    b.load(toml(B, 65001, peer(A, 65010)))
    world.run(2 * SECOND)
    (changed,) = touched(a)
    assert changed == ("change", ON_ETH0, bfd.Settings(minimum_ttl=255))  # not passive any more
    assert a.operations.neighbor(B).bfd_state == "up"
    (snapshot,) = shown(a)
    assert (snapshot.peer, snapshot.clients, snapshot.mode, snapshot.dynamic) == (B, ("bgp",), "track", True)
    world.run(2 * bfd_sessions.UNSOLICITED_GRACE)
    assert touched(a) == []


def test_a_second_client_joins_a_session_that_was_taken_over() -> None:
    world, a, b = with_network()
    a.engine.bfd_event(ASKS)
    b.load(toml(B, 65001, peer(A, 65010)))
    world.run(2 * SECOND)
    touched(a)
    a.load(toml(A, 65010, NETWORK, extra=UNSOLICITED + alone(B, 'description = "tor"')))
    assert touched(a) == []
    (snapshot,) = shown(a)
    assert (snapshot.clients, snapshot.dynamic, snapshot.description) == (("bgp", "configured"), False, "tor")
    asyncio.run(a.operations.clear_bfd_counters("tor"))
    assert touched(a) == [("clear", ON_ETH0)]


def test_no_session_is_made_for_a_neighbor_that_is_disabled() -> None:
    _, a = one(toml(A, 65010, peer(B, 65001, "bfd = true", "enabled = false"), extra=UNSOLICITED))
    a.engine.bfd_event(ASKS)
    assert a.bfd_keys == set()
    a.engine.bfd_event(bfd.Unsolicited(remote=C, local=A, interface="eth0"))
    assert a.bfd_keys == {f"{C} from {A} on eth0"}


def test_no_session_is_made_while_the_daemon_stops() -> None:
    _, a = one(toml(A, 65010, extra=UNSOLICITED))
    a.engine.stop("bgpbfd is stopping (SIGTERM)")
    a.engine.bfd_event(ASKS)
    assert a.bfd_keys == set()


def test_that_there_is_no_room_is_told_of_once_a_minute_however_they_come_and_go() -> None:
    world, a = one(toml(A, 65010, extra=UNSOLICITED + "max_sessions = 1\n"))
    a.engine.bfd_event(ASKS)
    for number in range(3, 63):
        a.engine.bfd_event(bfd.Unsolicited(remote=f"10.0.0.{number}", local=A, interface="eth0"))
        world.run(SECOND - 1)
    assert a.bfd_keys == {ON_ETH0}
    assert len(a.events("bfd-unsolicited-refused")) == 1
    world.run(2 * SECOND)  # the first has not come up within its time
    assert a.bfd_keys == set()
    a.engine.bfd_event(ASKS)
    a.engine.bfd_event(bfd.Unsolicited(remote=C, local=A, interface="eth0"))
    assert len(a.events("bfd-unsolicited-refused")) == 2


# -- a new worker ------------------------------------------------------------------------------------------


def test_a_fault_is_the_worker_s_word_and_goes_with_it() -> None:
    _, a = one(toml(A, 65010, peer(B, 65001, 'bfd = { mode = "strict" }')))
    a.engine.bfd_event(bfd.SessionFault(key=B, generation=1, error="address 10.0.0.1: Cannot assign"))
    assert a.engine.neighbors[B].peer.gate.reason == "address 10.0.0.1: Cannot assign"
    assert shown(a)[0].fault == "address 10.0.0.1: Cannot assign"
    a.engine.bfd_event(bfd.Ready(pid=2))
    assert shown(a)[0].fault is None
    a.bfd_says(B, "down", "init")
    assert a.engine.neighbors[B].peer.gate.reason == "BFD is init"


def test_a_neighbor_s_admin_down_is_believed_until_the_new_worker_has_had_its_time() -> None:
    """RFC 5882 §4.1: it must not keep BGP from coming up; and what is not said again does not let it up for ever."""
    world, a = one(toml(A, 65010, peer(B, 65001, 'bfd = { mode = "strict" }')))
    gate = a.engine.neighbors[B].peer.gate
    assert gate.closed
    a.bfd_says(B, "init", "down", remote_admin_down=True, blame="admin")
    a.engine.bfd_event(bfd.Ready(pid=2))
    a.engine.bfd_event(bfd.SessionFault(key=B, generation=1, error=None))
    world.run(bfd_neighbors.BFD_REGAIN - 1)
    assert not a.engine.neighbors[B].peer.gate.closed
    world.run(1)
    assert a.engine.neighbors[B].peer.gate.closed
    assert a.events("bgp-down") == []


def test_a_session_that_is_shut_down_is_so_under_a_new_worker() -> None:
    _, a = one(toml(A, 65010, peer(B, 65001, 'bfd = { mode = "strict", shutdown = true }')))
    a.engine.bfd_event(bfd.Ready(pid=2))
    assert a.operations.neighbor(B).bfd_state == "admin-down"
    assert not a.engine.neighbors[B].peer.gate.closed


# -- damping -----------------------------------------------------------------------------------------------


def flap(world: World, host: Host, times: int) -> None:
    for _ in range(times):
        host.bfd_says(B, "down", "up")
        world.run(500 * MILLISECOND)
        host.bfd_says(B, "up", "down", blame="path-loss")
        world.run(500 * MILLISECOND)


def test_the_record_tells_the_failure_first_and_counts_right() -> None:
    world, a = two()
    flap(world, a, 4)
    kinds = [e.kind for e in a.operations.events(limit=1000) if e.kind in {"bfd-down", "bfd-damped"}]
    assert kinds == ["bfd-down"] * 4 + ["bfd-damped"]
    (event,) = [e for e in a.operations.events(limit=1000) if e.kind == "bfd-damped"]
    assert event.facts == {"failures": 4, "within_s": 3, "hold_s": 1}


def test_rfc5882_3_2_admin_down_ends_the_waiting_but_not_the_memory() -> None:
    world, a = two()
    flap(world, a, 5)
    assert a.engine.neighbors[B].peer.gate.closed
    a.bfd_says(B, "down", "down", remote_admin_down=True)
    assert not a.engine.neighbors[B].peer.gate.closed
    flap(world, a, 1)
    assert a.engine.neighbors[B].peer.gate.closed


@pytest.mark.parametrize("verb", ["enable", "reset"])
def test_an_operator_who_wants_the_neighbor_back_has_it_at_once(verb: str) -> None:
    world, a = two()
    flap(world, a, 6)
    a.bfd_says(B, "down", "up")
    world.run(1500 * MILLISECOND)
    assert a.state(B) != "established"
    assert shown(a)[0].damped_until is not None
    {"enable": a.operations.peer_enable, "reset": a.operations.peer_reset}[verb](B)
    world.run(100 * MILLISECOND)
    assert a.state(B) == "established"
    assert shown(a)[0].damped_until is None


def test_a_dynamic_neighbor_s_failures_are_remembered_though_it_goes_with_each() -> None:
    world, a, b = with_network()
    b.load(toml(B, 65001, peer(A, 65010)))
    world.run(2 * SECOND)
    for _ in range(5):
        a.bfd_says(B, "down", "up")
        world.run(100 * MILLISECOND)
        a.bfd_says(B, "up", "down", blame="path-loss")
        assert B not in a.engine.neighbors
        world.run(2 * SECOND)  # it dials again
        assert B in a.engine.neighbors
    world.run(5 * SECOND)
    assert a.state(B) == "established"  # BFD has not come back: it may be BFD alone that is lost
    a.bfd_says(B, "down", "up")
    a.bfd_says(B, "up", "down", blame="path-loss")
    hold = a.events("bfd-damped")[-1]
    world.run(1500 * MILLISECOND)
    assert a.state(B) != "established"
    assert hold.startswith("BFD has failed 6 times within ")
    a.bfd_says(B, "down", "up")
    world.run(60 * SECOND)
    assert a.state(B) == "established"


def test_what_is_remembered_of_neighbors_that_went_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfd_neighbors, "DAMPINGS_MAX", 2)
    world = World()
    a = world.host(A, toml(A, 65010, NETWORK))
    for number in range(2, 6):
        address = f"10.0.0.{number}"
        world.host(address, toml(address, 65001, peer(A, 65010)))
        world.run(2 * SECOND)
        a.bfd_says(address, "down", "up")
        world.cut.add(frozenset({A, address}))
        a.bfd_says(address, "up", "down", blame="path-loss")
    assert list(a.engine.bfd_neighbors._dampings) == ["10.0.0.4", "10.0.0.5"]


# -- late packets ------------------------------------------------------------------------------------------


def test_late_packets_are_told_of_every_ten_seconds_at_most_and_none_is_left_out() -> None:
    world, a = two()
    for gap_ms in (90, 200, 110):
        a.engine.bfd_event(
            bfd.Late(key=B, generation=1, count=2, gap_us=gap_ms * 1000, interval_us=50_000, at=world.now)
        )
        world.run(4 * SECOND)
    assert len(a.events("bfd-late")) == 1
    a.engine.bfd_event(bfd.Late(key=B, generation=1, count=1, gap_us=80_000, interval_us=50_000, at=world.now))
    told = [event.facts for event in a.operations.events(limit=1000) if event.kind == "bfd-late"]
    assert told == [
        {"count": 2, "gap_ms": 90.0, "interval_ms": 50.0},
        {"count": 5, "gap_ms": 200.0, "interval_ms": 50.0},
    ]
