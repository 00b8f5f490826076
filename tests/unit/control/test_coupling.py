"""What BFD's state changes mean to BGP, RFC 5882."""

from __future__ import annotations

import itertools

import pytest

from bgpbfd.bfd.protocol import StateChange
from bgpbfd.bgp.events import BfdDown, BfdUp, CauseKind
from bgpbfd.control.coupling import Coupling, down_cause, failed_at
from bgpbfd.core import MILLISECOND, SECOND

NOW = 100 * SECOND


def change(
    old: str, new: str, *, blame: str = "path-loss", remote_admin_down: bool = False, silence_ms: int = 150
) -> StateChange:
    return StateChange(
        key="192.0.2.1",
        generation=1,
        old=old,
        new=new,
        diag=1,
        remote_diag=0,
        remote_admin_down=remote_admin_down,
        blame=blame,
        at=NOW,
        last_rx=NOW - silence_ms * MILLISECOND,
        previous_rx=NOW - (silence_ms + 45) * MILLISECOND,
        detection_time_us=150 * MILLISECOND,
    )


STATES = ("admin-down", "down", "init", "up")


@pytest.mark.parametrize(("old", "new"), [pair for pair in itertools.product(STATES, STATES) if pair[0] != pair[1]])
def test_rfc5882_3_3_only_up_to_down_is_a_failure(old: str, new: str) -> None:
    verdict = Coupling().handle(change(old, new, blame="admin" if "admin-down" in (old, new) else "path-loss"))
    if new == "up":
        assert isinstance(verdict, BfdUp)
    elif (old, new) in {("up", "down"), ("up", "init")}:
        assert isinstance(verdict, BfdDown)
    else:
        assert verdict is None


@pytest.mark.parametrize("blame", ["path-loss", "remote-signalled", "local-stall"])
def test_the_cause_has_blame_and_times(blame: str) -> None:
    verdict = Coupling().handle(change("up", "down", blame=blame))
    assert isinstance(verdict, BfdDown)
    cause = verdict.cause
    assert cause.kind is CauseKind.BFD_DOWN
    assert cause.at == NOW
    assert cause.facts["blame"] == blame
    assert cause.facts["silence_ms"] == 150.0
    assert cause.facts["detection_time_ms"] == 150.0
    assert cause.facts["last_packet_at_us"] == NOW - 150 * MILLISECOND
    assert blame in cause.text


def test_rfc5882_4_2_remote_admin_down_leaves_bgp_alone() -> None:
    coupling = Coupling()
    assert coupling.handle(change("up", "down", blame="admin", remote_admin_down=True)) is None
    assert coupling.down_count == 0


def test_it_is_told_when_the_path_failed() -> None:
    """The neighbor's word counts from its arrival, silence from the end of the detection time."""
    word = change("up", "down", blame="remote-signalled", silence_ms=2000)
    assert failed_at(word) == NOW - 2 * SECOND
    assert Coupling().handle(word) == BfdDown(down_cause(word), NOW - 2 * SECOND)
    silent = change("up", "down", silence_ms=2000)
    assert Coupling().handle(silent) == BfdDown(down_cause(silent), NOW - 1850 * MILLISECOND)


def test_a_new_worker_is_given_time_to_bring_the_session_back() -> None:
    coupling = Coupling()
    coupling.handle(change("init", "up"))
    assert coupling.lose_sight()
    assert coupling.lose_sight()  # the worker died twice
    assert isinstance(coupling.give_up(NOW), BfdDown)
    assert coupling.give_up(NOW) is None


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
    coupling.handle(change("init", "up"))
    coupling.lose_sight()
    coupling.handle(change("down", "init"))
    coupling.handle(end)
    assert coupling.give_up(NOW) is None


def test_a_session_that_was_not_up_has_nothing_to_regain() -> None:
    coupling = Coupling()
    coupling.handle(change("down", "init"))
    assert not coupling.lose_sight()
    assert coupling.give_up(NOW) is None
