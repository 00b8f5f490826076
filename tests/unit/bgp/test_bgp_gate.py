"""Who dials, collisions and administration while BFD keeps a session back.

draft-ietf-idr-bgp-bfd-strict-mode ("draft" in the names), RFC 4271 §6.8, RFC 5882 §4.1, RFC 9384.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from bgp_gate import (
    BFD_DOWN,
    CAP_STRICT,
    CAPS,
    CLOSED,
    HIGHER,
    LOWER,
    OPEN_STRICT,
    OPENED,
    SILENT,
    STRICT,
    WORDS,
    down_cause,
    ends_at,
    held,
    waiting,
)
from bgp_harness import (
    KEEPALIVE,
    OURS,
    THEIRS,
    UPDATE_BAD_LENGTHS,
    Driver,
    cap_restart,
    closes,
    notification,
    notifications,
    of,
    one,
    open_message,
    sent,
    with_settings,
)

from bgpbfd.bgp.events import (
    AutomaticStop,
    BfdDown,
    BfdGate,
    BfdUp,
    Cause,
    CauseKind,
    ConnId,
    Dial,
    ManualStart,
    ManualStop,
    Reconfigure,
    SessionDown,
    SessionUp,
    State,
    StateChanged,
    TcpConnectionFails,
    TcpCrAcked,
)
from bgpbfd.core import MILLISECOND, SECOND
from bgpbfd.wire.iana import CeaseSubcode

# -- who dials ------------------------------------------------------------------------------------------------


def test_dials_false_the_first_dial_waits_for_bfd() -> None:
    driver = held(gate=SILENT)
    actions = driver.do(ManualStart())
    assert of(actions, Dial) == []
    assert one(actions, StateChanged) == StateChanged(State.IDLE, State.ACTIVE, f"started; {WORDS}")
    assert driver.peer.waiting_for_bfd
    assert driver.peer.next_deadline() is None
    assert of(driver.at(driver.now + 3600 * SECOND), Dial) == []
    one(driver.do(OPENED), Dial)
    assert not driver.peer.waiting_for_bfd


def test_dials_false_a_dial_that_is_out_is_given_up() -> None:
    driver = Driver(STRICT)
    conn = driver.start()
    actions = driver.do(SILENT)
    assert [(c.conn, c.linger) for c in closes(actions)] == [(conn, False)]
    assert one(actions, StateChanged).reason == f"BFD is down; {WORDS}"
    late = driver.do(TcpCrAcked(conn, OURS, THEIRS))
    assert [c.conn for c in closes(late)] == [conn]
    assert of(driver.do(OPENED), Dial)


def test_dials_false_a_pending_retry_waits() -> None:
    driver = Driver(STRICT)
    driver.active()
    driver.do(SILENT)
    assert driver.peer.next_attempt_at is None
    assert of(driver.at(driver.now + 60 * SECOND), Dial) == []
    one(driver.do(OPENED), Dial)


def test_dials_false_what_the_peer_dials_is_taken_and_waits() -> None:
    driver = held(gate=SILENT)
    driver.do(ManualStart())
    conn = driver.incoming()
    assert driver.receive(conn, OPEN_STRICT, KEEPALIVE) == []
    assert driver.peer.waiting_for_bfd
    actions = driver.do(OPENED)
    assert one(actions, SessionUp).conn == conn
    assert of(actions, Dial) == []


def test_dials_false_a_failure_plans_no_dial_and_says_so() -> None:
    driver = held(gate=SILENT)
    driver.do(ManualStart())
    conn = driver.incoming()
    driver.receive(conn, OPEN_STRICT)
    actions = driver.do(TcpConnectionFails(conn, "reset"))
    assert one(actions, StateChanged).reason.endswith(WORDS)
    assert driver.peer.next_attempt_at is None
    one(driver.do(OPENED), Dial)


def test_dials_false_a_connection_that_we_dialled_before_may_go_on_waiting() -> None:
    driver, conn = waiting()
    assert driver.do(SILENT) == []
    assert sent(driver.do(OPENED), conn) == [KEEPALIVE]


def test_dials_true_again_while_closed_dials_and_waits() -> None:
    driver = held(gate=SILENT)
    driver.do(ManualStart())
    conn = one(driver.do(CLOSED), Dial).conn
    driver.do(TcpCrAcked(conn, OURS, THEIRS))
    driver.receive(conn, OPEN_STRICT)
    assert driver.peer.waiting_for_bfd


def test_dials_false_bfd_up_before_the_gate_opens_does_not_dial() -> None:
    """A recovery that is damped: BFD is Up, and does not count yet."""
    driver = held(gate=SILENT)
    driver.do(ManualStart())
    assert of(driver.do(BfdUp()), Dial) == []
    one(driver.do(OPENED), Dial)
    assert of(driver.do(BfdUp()), Dial) == []  # and not twice, in the other order


def test_dials_false_an_idle_hold_that_has_another_reason_is_still_kept() -> None:
    driver = Driver(STRICT)
    conn = driver.established(OPEN_STRICT)
    driver.do(SILENT)
    driver.receive(conn, UPDATE_BAD_LENGTHS)
    assert (driver.peer.state, driver.peer.next_attempt_at) == (State.IDLE, None)
    assert not driver.peer.waiting_for_bfd  # BFD alone it is not
    ends = driver.peer.next_deadline()
    assert ends is not None
    assert of(driver.do(OPENED), Dial) == []
    assert driver.peer.next_attempt_at == ends
    one(driver.at(ends), Dial)


def test_dials_false_past_an_idle_hold_it_is_bfd_that_is_waited_for() -> None:
    driver = Driver(STRICT)
    conn = driver.established(OPEN_STRICT)
    driver.do(SILENT)
    driver.receive(conn, UPDATE_BAD_LENGTHS)
    ends = driver.peer.next_deadline()
    assert ends is not None
    actions = driver.at(ends)
    assert of(actions, Dial) == []
    assert one(actions, StateChanged).reason == f"waited long enough; {WORDS}"
    assert driver.peer.waiting_for_bfd
    one(driver.do(OPENED), Dial)


@pytest.mark.parametrize("idle_s", [25.0, math.inf])
def test_dials_false_a_neighbor_that_is_to_stay_away_stays_away(idle_s: float) -> None:
    driver = held(gate=SILENT)
    driver.do(ManualStart())
    flood = Cause(CauseKind.MAX_PREFIXES, "too many", driver.now)
    driver.do(AutomaticStop(flood, CeaseSubcode.MAXIMUM_PREFIXES, idle_s=idle_s))
    assert of(driver.do(OPENED), Dial) == []
    if math.isinf(idle_s):
        assert driver.peer.next_deadline() is None
        return
    due = driver.peer.next_attempt_at
    assert due == driver.now + 25 * SECOND
    one(driver.at(due), Dial)


def test_an_open_gate_ends_the_wait_for_a_retry() -> None:
    driver = held()
    driver.active()
    assert driver.peer.next_attempt_at is not None
    one(driver.do(OPENED), Dial)


def test_an_open_gate_replaces_a_dial_whose_syn_was_lost_and_no_fresh_one() -> None:
    driver = held()
    first = driver.start()
    driver.now += 249 * MILLISECOND
    assert driver.do(OPENED) == []
    driver.do(CLOSED)
    driver.now += MILLISECOND
    actions = driver.do(OPENED)
    assert [c.conn for c in closes(actions)] == [first]
    one(actions, Dial)


@pytest.mark.parametrize("change", [{"passive": True}, {"dynamic": True}])
@pytest.mark.parametrize("gate", [CLOSED, SILENT])
def test_passive_and_dynamic_neighbors_obey_it_as_well(change: dict[str, Any], gate: BfdGate) -> None:
    driver = held(with_settings(bfd_strict=True, **change), gate)
    actions = driver.do(ManualStart())
    assert one(actions, StateChanged).reason == "started"
    assert not driver.peer.waiting_for_bfd  # but for the neighbor
    conn = driver.incoming()
    assert driver.receive(conn, OPEN_STRICT, KEEPALIVE) == []
    assert driver.peer.waiting_for_bfd
    actions = driver.do(OPENED)
    assert one(actions, SessionUp).conn == conn
    driver.receive(conn, notification(6, 4))
    driver.do(gate)
    driver.do(OPENED)
    assert of(driver.log, Dial) == []


@pytest.mark.parametrize("change", [{"passive": True}, {"dynamic": True}])
def test_passive_and_dynamic_neighbors_end_the_wait_too(change: dict[str, Any]) -> None:
    driver = held(with_settings(bfd_strict=True, **change))
    driver.do(ManualStart())
    driver.receive(driver.incoming(), OPEN_STRICT)
    ends_at(driver)
    assert driver.peer.next_deadline() is None


# -- collisions, RFC 4271 §6.8 ---------------------------------------------------------------------------------

ORDERS = [("dialled", "accepted"), ("accepted", "dialled")]


def both_ways(gate: BfdGate = CLOSED) -> tuple[Driver, dict[str, ConnId]]:
    driver = held(gate=gate)
    return driver, {"dialled": driver.open_sent(), "accepted": driver.incoming()}


def strict_open(router_id: int) -> bytes:
    return open_message(router_id=router_id, caps=CAPS + CAP_STRICT)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("router_id", "kept"), [(LOWER, "dialled"), (HIGHER, "accepted")])
@pytest.mark.parametrize("between", [0, 3 * SECOND])  # within the wait for the other OPEN, and after it
@pytest.mark.parametrize("early", [False, True])
def test_rfc4271_6_8_while_both_wait_the_second_open_decides(
    order: tuple[str, str], router_id: int, kept: str, between: int, early: bool
) -> None:
    driver, conns = both_ways()
    loser = "accepted" if kept == "dialled" else "dialled"
    keepalive = [KEEPALIVE] if early else []
    assert driver.receive(conns[order[0]], strict_open(router_id), *keepalive) == []
    assert driver.at(driver.now + between) == []
    actions = driver.receive(conns[order[1]], strict_open(router_id))
    assert notifications(actions) == [(conns[loser], b"\x06\x07")]
    assert [(c.conn, c.linger) for c in closes(actions)] == [(conns[loser], True)]
    assert driver.peer.state is State.OPEN_SENT
    assert driver.peer.waiting_for_bfd
    driver.do(TcpConnectionFails(conns[loser], "connection reset"))
    driver.receive(conns[kept], *keepalive * (kept != order[0]))
    actions = driver.do(OPENED)
    assert sent(actions, conns[kept]) == [KEEPALIVE]
    if not early:
        actions = driver.receive(conns[kept], KEEPALIVE)
    assert one(actions, SessionUp).conn == conns[kept]
    assert driver.peer.next_attempt_at is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("router_id", "kept"), [(LOWER, "dialled"), (HIGHER, "accepted")])
@pytest.mark.parametrize("opens_after", [SECOND, 3 * SECOND])
def test_rfc4271_6_8_the_gate_opens_between_the_two_opens(
    order: tuple[str, str], router_id: int, kept: str, opens_after: int
) -> None:
    """A loser to be waits for the winner's OPEN for as long as without a gate, not longer and not shorter."""
    driver, conns = both_ways()
    loser = "accepted" if kept == "dialled" else "dialled"
    first, second = conns[order[0]], conns[order[1]]
    driver.receive(first, strict_open(router_id))
    driver.at(driver.now + opens_after)
    actions = driver.do(OPENED)
    waits = order[0] == loser and opens_after < 2 * SECOND
    assert sent(actions, first) == ([] if waits else [KEEPALIVE])
    assert not driver.peer.waiting_for_bfd
    if waits:
        deadline = driver.peer.next_deadline()
        assert deadline == driver.now + 2 * SECOND - opens_after
    actions = driver.receive(second, strict_open(router_id))
    assert notifications(actions) == [(conns[loser], b"\x06\x07")]
    assert one(driver.receive(conns[kept], KEEPALIVE), SessionUp).conn == conns[kept]


def test_a_loser_to_be_is_not_ended_by_the_bfd_hold_timer_once_bfd_is_up() -> None:
    driver, conns = both_ways(BfdGate(closed=True, hold_s=1.5))
    driver.receive(conns["accepted"], strict_open(LOWER), KEEPALIVE)
    driver.at(driver.now + SECOND)
    driver.do(OPENED)
    actions = driver.at(driver.now + SECOND)
    assert notifications(actions) == []
    assert one(actions, SessionUp).conn == conns["accepted"]


def test_rfc4271_6_8_a_loser_to_be_goes_on_after_both_waits_in_any_order() -> None:
    for first in ("gate", "collision"):
        driver, conns = both_ways()
        driver.receive(conns["accepted"], strict_open(LOWER), KEEPALIVE)
        if first == "gate":
            assert of(driver.do(OPENED), SessionUp) == []
            actions = driver.at(driver.now + 2 * SECOND)
        else:
            assert driver.at(driver.now + 2 * SECOND) == []
            actions = driver.do(OPENED)
        assert one(actions, SessionUp).conn == conns["accepted"]
        late = driver.receive(conns["dialled"], strict_open(LOWER))
        assert notifications(late) == [(conns["dialled"], b"\x06\x07")]


def test_the_gate_closes_while_a_loser_to_be_waits_for_the_other_open() -> None:
    driver, conns = both_ways(OPENED)
    driver.receive(conns["accepted"], strict_open(LOWER))
    at = driver.now
    driver.do(CLOSED)
    assert driver.peer.waiting_for_bfd
    assert driver.at(at + 2 * SECOND) == []
    driver.do(TcpConnectionFails(conns["dialled"], "reset"))
    assert KEEPALIVE not in sent(driver.log, conns["accepted"])
    assert ends_at(driver) == at + 8 * SECOND


def test_the_other_connection_fails_and_the_one_that_waits_is_enough() -> None:
    """No second dial beside an accepted OPEN, however long that waits."""
    driver, conns = both_ways()
    driver.receive(conns["accepted"], strict_open(LOWER))
    actions = driver.do(TcpConnectionFails(conns["dialled"], "reset"))
    assert of(actions, SessionUp) == []
    assert driver.peer.next_attempt_at is None
    assert of(driver.at(driver.now + 7 * SECOND), Dial) == []
    assert of(driver.do(BfdUp()), Dial) == []
    assert sent(driver.do(OPENED), conns["accepted"]) == [KEEPALIVE]


def test_an_accepted_open_that_waits_stops_our_dial() -> None:
    driver = held()
    dialled = driver.start()
    accepted = driver.incoming()
    assert [c.conn for c in closes(driver.receive(accepted, OPEN_STRICT))] == [dialled]
    assert of(driver.at(driver.now + 7 * SECOND), Dial) == []


@pytest.mark.parametrize(("router_id", "kept"), [(LOWER, "old"), (HIGHER, "new")])
def test_the_peer_dials_while_our_connection_waits(router_id: int, kept: str) -> None:
    driver, old = waiting(strict_open(router_id))
    driver.now += 4 * SECOND
    new = driver.incoming()
    actions = driver.receive(new, strict_open(router_id), KEEPALIVE)
    assert [c.conn for c in closes(actions)] == [new if kept == "old" else old]
    conn = old if kept == "old" else new
    assert sent(driver.do(OPENED), conn) == [KEEPALIVE]


def test_the_peer_dials_anew_while_the_connection_that_it_dialled_waits() -> None:
    driver, old = waiting(dialled=False)
    new = driver.incoming()
    assert (old, b"\x06\x07") in notifications(driver.log)
    driver.receive(new, OPEN_STRICT)
    assert sent(driver.do(OPENED), new) == [KEEPALIVE]


def test_bfd_down_ends_both_connections_that_wait() -> None:
    driver, conns = both_ways()
    driver.receive(conns["accepted"], strict_open(LOWER))
    actions = driver.do(BfdDown(down_cause(driver)))
    assert sorted(notifications(actions)) == sorted((conn, BFD_DOWN) for conn in conns.values())
    assert driver.peer.state is State.ACTIVE
    assert driver.peer.next_attempt_at is not None


def test_a_bfd_failure_hits_only_what_is_older() -> None:
    driver = Driver(STRICT)
    driver.active()
    driver.now += SECOND
    failed_at = driver.now
    driver.now += SECOND
    driver.do(CLOSED)
    conn = driver.incoming()
    driver.receive(conn, OPEN_STRICT)
    assert driver.do(BfdDown(down_cause(driver), failed_at)) == []
    assert sent(driver.do(OPENED), conn) == [KEEPALIVE]


def test_of_two_connections_one_in_open_confirm_ends_and_the_other_one_waits() -> None:
    driver, conns = both_ways(OPENED)
    driver.receive(conns["dialled"], strict_open(LOWER))
    assert driver.peer.state is State.OPEN_CONFIRM
    actions = driver.do(CLOSED)
    assert notifications(actions) == [(conns["dialled"], BFD_DOWN)]
    driver.receive(conns["accepted"], strict_open(LOWER))
    assert driver.peer.waiting_for_bfd
    assert sent(driver.do(OPENED), conns["accepted"]) == [KEEPALIVE]


# -- administration -------------------------------------------------------------------------------------------


def test_a_stop_ends_what_waits_and_a_start_finds_the_gate_as_it_was() -> None:
    driver, conn = waiting()
    assert notifications(driver.do(ManualStop())) == [(conn, b"\x06\x02")]
    assert driver.peer.next_deadline() is None
    assert not driver.peer.waiting_for_bfd
    again = one(driver.do(ManualStart()), Dial).conn
    driver.do(TcpCrAcked(again, OURS, THEIRS))
    assert driver.receive(again, OPEN_STRICT, KEEPALIVE) == []
    assert driver.peer.waiting_for_bfd


def test_a_stopped_neighbor_takes_note_of_the_gate_and_does_nothing() -> None:
    driver = Driver(STRICT)
    assert driver.do(SILENT) == []
    assert driver.do(OPENED) == []
    assert driver.peer.next_deadline() is None
    driver.do(SILENT)
    assert of(driver.do(ManualStart()), Dial) == []


def test_the_gate_outlives_a_session() -> None:
    driver = Driver(STRICT)
    conn = driver.established(OPEN_STRICT)
    driver.do(CLOSED)
    driver.do(TcpConnectionFails(conn, "reset"))
    due = driver.peer.next_attempt_at
    assert due is not None
    again = one(driver.at(due), Dial).conn
    driver.do(TcpCrAcked(again, OURS, THEIRS))
    assert driver.receive(again, OPEN_STRICT, KEEPALIVE) == []


def test_a_reset_by_hand_while_bfd_is_waited_for() -> None:
    driver, conn = waiting()
    reset = Cause(CauseKind.ADMIN_RESET, "reset", driver.now)
    actions = driver.do(AutomaticStop(reset, CeaseSubcode.ADMINISTRATIVE_RESET, damped=False))
    assert notifications(actions) == [(conn, b"\x06\x04")]
    one(actions, Dial)


def test_new_settings_while_bfd_is_waited_for() -> None:
    driver, conn = waiting()
    actions = driver.do(Reconfigure(with_settings(bfd_strict=True, hold_time_s=30)))
    assert notifications(actions) == [(conn, b"\x06\x06")]
    again = one(actions, Dial).conn
    driver.do(TcpCrAcked(again, OURS, THEIRS))
    assert driver.receive(again, OPEN_STRICT) == []
    assert driver.do(Reconfigure(with_settings(bfd_strict=True, hold_time_s=30, connect_retry_s=7.0))) == []
    assert driver.peer.waiting_for_bfd


def test_passive_no_longer_while_muted_dials_when_the_gate_opens() -> None:
    driver = held(with_settings(bfd_strict=True, passive=True), SILENT)
    driver.do(ManualStart())
    assert of(driver.do(Reconfigure(STRICT)), Dial) == []
    assert driver.peer.waiting_for_bfd
    one(driver.do(OPENED), Dial)


def test_rfc5492_3_a_peer_without_capabilities_waits_as_well() -> None:
    driver = held()
    conn = driver.open_sent()
    driver.receive(conn, notification(2, 4))
    due = driver.peer.next_attempt_at
    assert due is not None
    again = one(driver.at(due), Dial).conn
    driver.do(TcpCrAcked(again, OURS, THEIRS))
    assert driver.receive(again, open_message(caps=b""), KEEPALIVE) == []
    assert one(driver.do(OPENED), SessionUp).conn == again


def test_rfc9384_with_rfc8538_only_an_established_session_needs_a_hard_reset() -> None:
    settings = with_settings(bfd_strict=True, restart_time_s=120)
    open_ = open_message(caps=CAPS + CAP_STRICT + cap_restart(0x4078, bytes((0, 1, 1, 0x80))))
    driver = held(settings)
    conn = driver.open_sent()
    driver.receive(conn, open_)
    assert notifications(driver.do(BfdDown(down_cause(driver)))) == [(conn, BFD_DOWN)]
    driver = Driver(settings)
    conn = driver.established(open_)
    actions = driver.do(BfdDown(down_cause(driver)))
    assert notifications(actions) == [(conn, b"\x06\x09" + BFD_DOWN)]
    assert one(actions, SessionDown).retain == frozenset()
