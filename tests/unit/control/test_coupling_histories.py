"""The coupling over longer histories: new workers, changed configurations, failures in short order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.bfd.protocol import StateChange
from bgpbfd.bgp.events import BfdGate, BfdUp
from bgpbfd.control.coupling import OPEN, Coupling, Verdict
from bgpbfd.core import SECOND
from tests.unit.control.coupling_changes import NOW, change

ADMIN_DOWN = {"blame": "admin", "remote_admin_down": True}


def bound(mode: str = "track", state: str = "down") -> Coupling:
    coupling = Coupling()
    coupling.bind(30.0 if mode == "strict" else None, NOW, state)
    return coupling


def gates(verdicts: list[Verdict]) -> list[bool]:
    """Each gate among the verdicts: whether it is closed."""
    return [verdict.closed for verdict in verdicts if isinstance(verdict, BfdGate)]


def flapped(coupling: Coupling, times: int, now: int = NOW) -> int:
    """So many failures, a second apart; when the last one was."""
    for _ in range(times):
        now += SECOND // 2
        coupling.handle(change("down", "up", at=now), now)
        now += SECOND // 2
        coupling.handle(change("up", "down", at=now), now)
    return now


@pytest.mark.parametrize("last", [change("init", "up"), change("init", "down", blame="admin", remote_admin_down=True)])
def test_a_new_worker_does_not_close_the_gate_before_its_time_is_over(last: StateChange) -> None:
    coupling = bound("strict")
    coupling.handle(last, NOW)
    assert not coupling.gate.closed
    coupling.lose_sight()
    coupling.handle(change("down", "down", remote_admin_down=last.remote_admin_down), NOW)
    coupling.lose_sight()
    assert coupling.set_fault(None, NOW) == []
    assert gates(coupling.give_up(NOW)) == [True]


def test_a_session_that_others_have_brought_up_is_known_at_once() -> None:
    coupling = Coupling()
    assert coupling.bind(30.0, NOW, "up") == []
    assert coupling.bind(30.0, NOW, "down", remote_admin_down=True) == []
    (gate,) = coupling.bind(30.0, NOW, "down", fault="no such device")
    assert gate == BfdGate(closed=True, reason="no such device", hold_s=30.0)


def test_what_it_comes_to_look_at_is_no_failure() -> None:
    coupling = bound("strict", "up")
    assert coupling.look(NOW, "admin-down", remote_admin_down=False) == []
    assert gates(coupling.look(NOW, "down", remote_admin_down=False)) == [True]
    assert coupling.look(NOW, "up", remote_admin_down=False) == [OPEN, BfdUp()]
    assert coupling.down_count == 0


def test_a_new_worker_and_another_configuration_forget_no_failure() -> None:
    coupling = bound()
    now = flapped(coupling, 6)
    coupling.lose_sight()
    coupling.configure(30.0, now)
    coupling.configure(None, now)
    coupling.unbind(now)
    coupling.bind(None, now)
    assert coupling.gate.closed
    assert coupling.next_deadline() == now + coupling.damping.hold


def test_without_damping_there_is_none() -> None:
    coupling = Coupling()
    coupling.bind(None, NOW, damps=False)
    flapped(coupling, 20)
    assert coupling.gate == OPEN


def test_switching_it_off_ends_what_it_holds() -> None:
    coupling = bound()
    now = flapped(coupling, 6)
    assert gates(coupling.configure(None, now, damps=False)) == [False]


def test_rfc5882_3_2_admin_down_ends_the_waiting_and_no_failure_is_forgotten() -> None:
    coupling = bound()
    now = flapped(coupling, 5)
    assert coupling.gate.closed
    assert coupling.handle(change("down", "down", blame="", remote_admin_down=True, at=now), now) == [OPEN]
    coupling.handle(change("down", "up", at=now), now)
    assert gates(coupling.handle(change("up", "down", at=now), now)) == [True]


def test_failures_are_counted_as_people_count_them() -> None:
    coupling = bound()
    now = flapped(coupling, 4)
    damping = coupling.damping
    assert (damping.failures, damping.since) == (4, NOW + SECOND)
    flapped(coupling, 1, now + 10 * 60 * SECOND)
    assert (damping.failures, damping.since) == (1, now + 10 * 60 * SECOND + SECOND)


steps = st.lists(
    st.tuples(st.sampled_from(("up", "down", "remote", "shut", "worker", "late", "time")), st.integers(0, 9))
)


@given(strict=st.booleans(), script=steps)
def test_whatever_happens_the_gate_is_as_the_states_say(strict: bool, script: list[tuple[str, int]]) -> None:
    """The last gate told is the one that holds; what is closed has a way out; BfdUp comes through an open one only."""
    now, told = NOW, OPEN
    coupling = Coupling()
    verdicts = coupling.bind(30.0 if strict else None, now)
    for what, seconds in [("time", 0), *script, ("time", 70)]:
        for verdict in verdicts:
            if isinstance(verdict, BfdGate):
                assert verdict != told
                told = verdict
            assert not (isinstance(verdict, BfdUp) and told.closed)
        verdicts = []
        now += seconds * SECOND
        old = coupling.state
        match what:
            case "up" if old != "up":
                verdicts = coupling.handle(change(old, "up", at=now), now)
            case "down" if old != "down":
                verdicts = coupling.handle(change(old, "down", at=now), now)
            case "remote":
                verdicts = coupling.handle(change(old, "down", at=now, **ADMIN_DOWN), now)
            case "shut" if old != "admin-down":
                verdicts = coupling.handle(change(old, "admin-down", blame="admin", at=now), now)
            case "worker":
                coupling.lose_sight("admin-down" if old == "admin-down" else "down")  # shut down by us: so it begins
            case "late":
                verdicts = coupling.give_up(now)
            case _:
                verdicts = coupling.timer(now)
        deadline = coupling.next_deadline()
        assert deadline is None or deadline <= now + 60 * SECOND
    for verdict in verdicts:
        told = verdict if isinstance(verdict, BfdGate) else told
    assert told == coupling.gate
    blocks = strict and coupling.state not in {"up", "admin-down"} and not coupling.remote_admin_down
    assert told.closed == (blocks and not coupling.regaining)
