"""BFD and whole engines in virtual time: strict mode, damping, stand-alone sessions, what a reload touches."""

from __future__ import annotations

from engine_world import Host, World

from bgpbfd.bfd import protocol as bfd
from bgpbfd.core import MILLISECOND, SECOND

A, B = "10.0.0.1", "10.0.0.2"
STRICT = 'bfd = { mode = "strict", strict_hold_time = 5 }'


def toml(local: str, asn: int, remote: str, remote_as: int, keys: str, extra: str = "") -> str:
    return (
        f'router_id = "{local}"\ndefault_as = {asn}\nbgp_socket = "[::]:179"\npoll_interval = 1\n{extra}\n'
        f'[[peers]]\nremote_ip = "{remote}"\nremote_as = {remote_as}\n{keys}\n'
    )


def pair(ours: str, theirs: str = "", *, extra: str = "", remote: str = B) -> tuple[World, Host, Host]:
    world = World()
    b = world.host(B, toml(B, 65002, A, 65001, theirs))
    a = world.host(A, toml(A, 65001, remote, 65002, ours, extra))
    return world, a, b


def test_strict_mode_no_bgp_before_bfd_and_at_once_with_it() -> None:
    world, a, b = pair(STRICT, STRICT)
    world.run(4 * SECOND)
    assert (a.state(B), b.state(A)) == ("opensent", "opensent")
    assert a.operations.neighbor(B).waiting_for_bfd
    a.bfd_says(B, "init", "up")
    b.bfd_says(A, "init", "up")
    world.run(100 * MILLISECOND)
    assert (a.state(B), b.state(A)) == ("established", "established")
    assert not a.operations.neighbor(B).waiting_for_bfd


def test_strict_mode_gives_up_waiting_and_tries_again() -> None:
    world, a, b = pair(STRICT)
    world.run(7 * SECOND)
    assert a.events("bgp-up") == []
    error = a.operations.neighbor(B).last_error
    assert error is not None
    assert (error.kind.value, error.code, error.subcode) == ("bfd-down", 6, 10)
    a.bfd_says(B, "init", "up")
    world.run(2 * SECOND)
    assert a.state(B) == b.state(A) == "established"


def test_strict_mode_of_passive_and_dynamic_neighbors() -> None:
    for ours, remote in ((f"passive = true\n{STRICT}", B), (STRICT, "10.0.0.0/24")):
        world, a, b = pair(ours, remote=remote)
        world.run(3 * SECOND)
        assert a.events("bgp-up") == []
        assert a.state(B) == "opensent"
        a.bfd_says(B, "init", "up")
        world.run(SECOND)
        assert a.state(B) == b.state(A) == "established"


def test_rfc5882_4_1_a_neighbor_that_has_switched_bfd_off_is_let_up() -> None:
    world, a, _ = pair(STRICT)
    world.run(2 * SECOND)
    assert a.state(B) == "opensent"
    a.bfd_says(B, "down", "down", remote_admin_down=True)
    world.run(SECOND)
    assert a.state(B) == "established"


def flap(world: World, a: Host) -> None:
    a.bfd_says(B, "init", "up")
    world.run(SECOND)
    a.bfd_says(B, "up", "down", diag=1, blame="path-loss")
    world.run(MILLISECOND)


def test_failures_are_never_damped_and_recovery_is() -> None:
    world, a, _ = pair("bfd = true", "bfd = true")
    world.run(3 * SECOND)
    waits: list[int] = []
    for _ in range(7):
        a.bfd_says(B, "init", "up")
        begun = world.now
        while a.state(B) != "established":
            world.run(10 * MILLISECOND)
            assert world.now - begun < 70 * SECOND
        waits.append((world.now - begun) // MILLISECOND)
        a.bfd_says(B, "up", "down", diag=1, blame="path-loss")
        world.run(10 * MILLISECOND)
        assert a.state(B) != "established"
    assert all(wait <= 100 for wait in waits[:4]), waits
    assert waits[4] >= 1000
    assert waits[6] > waits[5] > waits[4]
    assert len(a.events("bfd-damped")) == 4


def test_an_operator_ends_the_damping() -> None:
    world, a, _ = pair("bfd = true", "bfd = true")
    world.run(3 * SECOND)
    for _ in range(8):
        flap(world, a)
    a.bfd_says(B, "init", "up")
    world.run(SECOND)
    assert a.state(B) != "established"
    a.operations.peer_reset(B)
    world.run(SECOND)
    assert a.state(B) == "established"


def test_damping_that_is_switched_off() -> None:
    world, a, _ = pair("bfd = { damping = false }", "bfd = true")
    world.run(3 * SECOND)
    for _ in range(8):
        flap(world, a)
    a.bfd_says(B, "init", "up")
    world.run(SECOND)
    assert a.state(B) == "established"


def test_fault_15_a_stale_event_of_an_earlier_life_hits_nobody() -> None:
    """The session is removed and made anew on the same path: what the old one still says is not the new one's."""
    world, a, _ = pair("bfd = true", "bfd = true")
    world.run(3 * SECOND)
    a.bfd_says(B, "init", "up")
    a.load(toml(A, 65001, B, 65002, ""))
    a.bfd_says(B, "up", "down", diag=1, blame="path-loss")
    world.run(SECOND)
    assert a.state(B) == "established"
    assert a.operations.neighbor(B).flaps == 0


def test_an_unrelated_edit_touches_no_bfd_session() -> None:
    extra = '[[bfd.sessions]]\npeer = "10.0.0.9"\nlocal = "10.0.0.1"\n'
    world, a, _ = pair("bfd = true", extra=extra)
    world.run(3 * SECOND)
    a.bfd_commands.clear()
    a.load(toml(A, 65001, B, 65002, 'bfd = true\ndescription = "x"\nhold_timer = 30', extra))
    assert a.bfd_commands == [("bind", ("0.0.0.0", "::"))]
    a.bfd_commands.clear()
    a.load(toml(A, 65001, B, 65002, "bfd = true\nmultihop = 3", extra))
    changed = [command for command in a.bfd_commands if command != ("bind", ("0.0.0.0", "::"))]
    kinds = {command[0] if isinstance(command, tuple) else type(command) for command in changed}
    assert kinds == {"remove", bfd.Add}


async def test_what_is_shown_of_every_kind_of_session() -> None:
    extra = '[[bfd.sessions]]\npeer = "10.0.0.9"\ndescription = "lb"\n[bfd.unsolicited]\nnetworks = ["10.0.1.0/24"]\n'
    _world, a, _ = pair('bfd = { mode = "strict" }\ndescription = "tor"', extra=extra)
    a.engine.bfd_event(bfd.Unsolicited(remote="10.0.1.7", local=A, interface="eth0"))
    shown = {view.peer: view for view in await a.operations.bfd_sessions()}
    assert {peer: (view.mode, view.clients, view.dynamic) for peer, view in shown.items()} == {
        B: ("strict", ("bgp",), False),
        "10.0.0.9": ("none", ("configured",), False),
        "10.0.1.7": ("none", ("unsolicited",), True),
    }
    assert shown["10.0.0.9"].description == "lb"
    a.operations.peer_disable(B)
    assert [view.report for view in await a.operations.bfd_sessions() if view.peer == B] == [None]
    a.bfd_commands.clear()
    await a.operations.clear_bfd_counters("lb")
    assert a.bfd_commands == [("clear", "10.0.0.9")]
