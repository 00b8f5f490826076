"""What BFD's state changes mean to BGP, RFC 5882."""

from __future__ import annotations

import itertools

import pytest

from bgpbfd.bfd.protocol import StateChange
from bgpbfd.bgp.events import BfdDown, BfdGate, BfdUp, CauseKind
from bgpbfd.control.coupling import OPEN, Coupling, Verdict, down_cause, failed_at
from bgpbfd.core import MILLISECOND, SECOND
from tests.unit.control.coupling_changes import NOW, change

STATES = ("admin-down", "down", "init", "up")


@pytest.mark.parametrize(("old", "new"), [pair for pair in itertools.product(STATES, STATES) if pair[0] != pair[1]])
def test_rfc5882_3_3_only_up_to_down_is_a_failure(old: str, new: str) -> None:
    blame = "admin" if "admin-down" in (old, new) else "path-loss"
    verdicts = Coupling().handle(change(old, new, blame=blame), NOW)
    if new == "up":
        assert verdicts == [BfdUp()]
    elif (old, new) in {("up", "down"), ("up", "init")}:
        assert [type(verdict) for verdict in verdicts] == [BfdDown]
    else:
        assert verdicts == []


def down(verdicts: list[Verdict]) -> BfdDown:
    [verdict] = verdicts
    assert isinstance(verdict, BfdDown)
    return verdict


@pytest.mark.parametrize("blame", ["path-loss", "remote-signalled", "local-stall"])
def test_the_cause_has_blame_and_times(blame: str) -> None:
    cause = down(Coupling().handle(change("up", "down", blame=blame), NOW)).cause
    assert cause.kind is CauseKind.BFD_DOWN
    assert cause.at == NOW
    assert cause.facts["blame"] == blame
    assert cause.facts["silence_ms"] == 150.0
    assert cause.facts["detection_time_ms"] == 150.0
    assert cause.facts["last_packet_at_us"] == NOW - 150 * MILLISECOND
    assert cause.facts["previous_packet_at_us"] == NOW - 195 * MILLISECOND
    assert blame in cause.text


def test_rfc5882_4_2_remote_admin_down_leaves_bgp_alone() -> None:
    coupling = Coupling()
    assert coupling.handle(change("up", "down", blame="admin", remote_admin_down=True), NOW) == []
    assert coupling.down_count == 0


def test_it_is_told_when_the_path_failed() -> None:
    """The neighbor's word counts from its arrival, silence from the end of the detection time."""
    word = change("up", "down", blame="remote-signalled", silence_ms=2000)
    assert failed_at(word) == NOW - 2 * SECOND
    assert Coupling().handle(word, NOW) == [BfdDown(down_cause(word), NOW - 2 * SECOND)]
    silent = change("up", "down", silence_ms=2000)
    assert Coupling().handle(silent, NOW) == [BfdDown(down_cause(silent), NOW - 1850 * MILLISECOND)]
    echo = change("up", "down", silence_ms=20)  # an echo failure: control packets came until now
    assert failed_at(echo) == NOW


def test_a_new_worker_is_given_time_to_bring_the_session_back() -> None:
    coupling = Coupling()
    coupling.handle(change("init", "up"), NOW)
    assert coupling.lose_sight()
    assert coupling.lose_sight()  # the worker died twice
    down(coupling.give_up(NOW))
    assert coupling.give_up(NOW) == []


@pytest.mark.parametrize(
    "end",
    [
        change("init", "up"),
        change("down", "admin-down", blame="admin"),
        change("init", "down", blame="admin", remote_admin_down=True),
    ],
)
def test_a_session_that_came_back_or_was_switched_off_is_not_given_up(end: StateChange) -> None:
    coupling = Coupling()
    coupling.handle(change("init", "up"), NOW)
    coupling.lose_sight()
    coupling.handle(change("down", "init"), NOW)
    coupling.handle(end, NOW)
    assert coupling.give_up(NOW) == []


def test_a_session_that_was_not_up_has_nothing_to_regain() -> None:
    coupling = Coupling()
    coupling.handle(change("down", "init"), NOW)
    assert not coupling.lose_sight()
    assert coupling.give_up(NOW) == []


# -- strict mode ----------------------------------------------------------------------------------------------


def strict() -> Coupling:
    coupling = Coupling()
    [gate] = coupling.bind(30, NOW)
    assert gate == BfdGate(closed=True, reason="BFD is down", hold_s=30)
    return coupling


def gates(verdicts: list[Verdict]) -> list[bool]:
    """Of each gate whether it is closed."""
    return [verdict.closed for verdict in verdicts if isinstance(verdict, BfdGate)]


def test_track_mode_has_no_gate() -> None:
    coupling = Coupling()
    verdicts = coupling.bind(None, NOW)
    for old, new in itertools.pairwise(["down", "init", "up", "down"]):
        verdicts += coupling.handle(change(old, new), NOW)
    assert gates(verdicts) == []


def test_strict_mode_opens_when_bfd_is_up_and_closes_with_it() -> None:
    coupling = strict()
    assert gates(coupling.handle(change("down", "init"), NOW)) == [True]  # with another reason
    assert coupling.handle(change("init", "up"), NOW) == [OPEN, BfdUp()]
    verdicts = coupling.handle(change("up", "down"), NOW)
    assert isinstance(verdicts[0], BfdDown)
    assert gates(verdicts) == [True]


@pytest.mark.parametrize(
    "switched_off",
    [change("down", "admin-down", blame="admin"), change("down", "down", blame="", remote_admin_down=True)],
    ids=["ours", "theirs"],
)
def test_rfc5882_4_1_admin_down_of_either_end_lets_bgp_up(switched_off: StateChange) -> None:
    coupling = strict()
    assert coupling.handle(switched_off, NOW) == [OPEN]
    assert gates(coupling.handle(change(switched_off.new, "down", blame=""), NOW)) == [True]


def test_strict_mode_says_why_the_session_can_not_run() -> None:
    coupling = strict()
    [gate] = coupling.set_fault("address 192.0.2.10: Cannot assign requested address", NOW)
    assert isinstance(gate, BfdGate)
    assert "Cannot assign" in gate.reason
    assert gate.closed
    assert coupling.set_fault("address 192.0.2.10: Cannot assign requested address", NOW) == []  # not told twice


def test_a_session_that_others_have_brought_up_needs_no_wait() -> None:
    assert Coupling().bind(30, NOW, "up") == []
    assert Coupling().bind(30, NOW, "down", remote_admin_down=True) == []


def test_mode_changed_live_and_bfd_taken_away() -> None:
    coupling = Coupling()
    coupling.bind(None, NOW)
    assert gates(coupling.configure(10, NOW)) == [True]
    assert coupling.configure(None, NOW) == [OPEN]
    coupling.configure(10, NOW)
    assert coupling.unbind(NOW) == [OPEN]


def test_a_worker_restart_closes_no_gate() -> None:
    coupling = strict()
    coupling.handle(change("init", "up"), NOW)
    coupling.lose_sight()
    assert coupling.handle(change("down", "init"), NOW) == []
    assert coupling.handle(change("init", "up"), NOW) == [BfdUp()]
    coupling.lose_sight()
    verdicts = coupling.give_up(NOW)
    assert isinstance(verdicts[0], BfdDown)
    assert gates(verdicts) == [True]


# -- damping --------------------------------------------------------------------------------------------------


def fail(coupling: Coupling, times: int, now: int = NOW) -> list[Verdict]:
    """Up and Down again, one second each; the verdicts of the last Down."""
    verdicts: list[Verdict] = []
    for number in range(times):
        at = now + 2 * number * SECOND
        coupling.timer(at)
        coupling.handle(change("init", "up", at=at), at)
        verdicts = coupling.handle(change("up", "down", at=at + SECOND), at + SECOND)
        assert any(isinstance(verdict, BfdDown) for verdict in verdicts)  # a failure is never held back
    return verdicts


def test_three_failures_are_free() -> None:
    coupling = Coupling()
    coupling.bind(None, NOW)
    assert gates(fail(coupling, 3)) == []
    assert coupling.handle(change("init", "up"), NOW + 6 * SECOND) == [BfdUp()]


def test_after_that_bfd_has_to_stay_up() -> None:
    coupling = Coupling()
    coupling.bind(None, NOW)
    verdicts = fail(coupling, 4)
    assert gates(verdicts) == [True]
    up_at = NOW + 7 * SECOND + 500 * MILLISECOND
    assert coupling.handle(change("init", "up", at=up_at), up_at) == []  # no dial at once
    assert coupling.next_deadline() == up_at + SECOND
    assert coupling.timer(up_at + SECOND - 1) == []
    assert coupling.timer(up_at + SECOND) == [OPEN, BfdUp()]
    assert coupling.next_deadline() is None


def test_a_neighbor_that_has_lost_bfd_alone_is_taken_back_without_it() -> None:
    coupling = Coupling()
    coupling.bind(None, NOW)
    fail(coupling, 4)
    deadline = coupling.next_deadline()
    assert deadline is not None
    assert coupling.timer(deadline) == [OPEN]


def test_strict_mode_outlasts_the_damping() -> None:
    coupling = strict()
    fail(coupling, 4)
    deadline = coupling.next_deadline()
    assert deadline is not None
    assert gates(coupling.timer(deadline)) == [True]  # now for BFD itself


def test_an_operator_ends_it() -> None:
    coupling = Coupling()
    coupling.bind(None, NOW)
    fail(coupling, 6)
    coupling.handle(change("init", "up"), NOW + 20 * SECOND)
    assert coupling.forgive(NOW + 20 * SECOND) == [OPEN, BfdUp()]
    assert gates(fail(coupling, 3, NOW + 30 * SECOND)) == []
    assert coupling.forgive(NOW) == []


def test_damping_can_be_switched_off() -> None:
    coupling = Coupling()
    coupling.bind(None, NOW, damps=False)
    assert gates(fail(coupling, 20)) == []
    coupling.configure(None, NOW, damps=True)
    assert gates(fail(coupling, 8, NOW + 100 * SECOND)) != []
    assert OPEN in coupling.configure(None, NOW + 200 * SECOND, damps=False)
