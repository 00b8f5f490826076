"""BFD's gate and strict mode: draft-ietf-idr-bgp-bfd-strict-mode ("draft" below), RFC 5882 §4.1, RFC 9384."""

from __future__ import annotations

import math

import pytest
from bgp_gate import (
    BFD_DOWN,
    CAP_STRICT,
    CAPS,
    CLOSED,
    OPEN_STRICT,
    OPENED,
    RETRY,
    SILENT,
    SLOW,
    SLOW_OPEN,
    STRICT,
    down_cause,
    ends_at,
    failed,
    held,
    incoming,
    states,
    waiting,
)
from bgp_harness import (
    END_OF_RIB,
    KEEPALIVE,
    OPEN,
    OURS,
    REFRESH,
    SETTINGS,
    THEIRS,
    UPDATE,
    Driver,
    message,
    notification,
    notifications,
    of,
    one,
    open_message,
    sent,
    with_settings,
)

from bgpbfd.bgp.events import (
    AttemptFailed,
    BfdDown,
    BfdGate,
    CauseKind,
    Dial,
    Reconfigure,
    SessionDown,
    SessionUp,
    State,
    StateChanged,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
)
from bgpbfd.bgp.negotiate import PeerSettings, our_open, validate_open
from bgpbfd.core import SECOND
from bgpbfd.wire.capabilities import Capability, describe_capability
from bgpbfd.wire.messages import decode_open

# -- the capability, draft §5, §6 ---------------------------------------------------------------------------


def offered(settings: PeerSettings, *, plain: bool = False) -> list[Capability]:
    return [c for c in our_open(settings, plain=plain).capabilities if c.code == 74]


def in_force(ours: bool, theirs: bytes, *, plain: bool = False) -> bool:
    received = decode_open(open_message(caps=CAPS + theirs)[19:])
    return validate_open(with_settings(bfd_strict=ours), received, plain=plain).bfd_strict


def test_draft_5_6_the_capability_is_offered_where_strict_mode_is_configured_and_is_empty() -> None:
    assert offered(STRICT) == [Capability(74, b"")]
    assert offered(SETTINGS) == []
    assert offered(STRICT, plain=True) == []  # RFC 5492 §3: none at all


def test_draft_6_negotiated_when_both_offer_it() -> None:
    assert in_force(True, CAP_STRICT)
    assert in_force(True, CAP_STRICT * 2)
    assert not in_force(True, b"")
    assert not in_force(False, CAP_STRICT)
    assert not in_force(True, CAP_STRICT, plain=True)


def test_draft_5_a_capability_of_another_length_is_ignored_and_shown_in_hex() -> None:
    assert not in_force(True, bytes((74, 1, 0)))
    assert in_force(True, bytes((74, 1, 0)) + CAP_STRICT)
    assert describe_capability(Capability(74, b"\x01")) == "malformed capability 74: 0x01"
    assert describe_capability(Capability(74)) == "BFD strict mode"


def test_the_capability_is_on_the_wire_and_the_session_knows() -> None:
    driver = Driver(STRICT)
    conn = driver.open_sent()
    assert CAP_STRICT in sent(driver.log, conn)[0]
    driver.receive(conn, OPEN_STRICT, KEEPALIVE)
    assert driver.peer.negotiated is not None
    assert driver.peer.negotiated.bfd_strict


def test_draft_8_6_3_changed_strictness_ends_a_handshake_with_6_6_and_8_7_3_no_session() -> None:
    driver = Driver()
    conn = driver.open_confirm()
    actions = driver.do(Reconfigure(STRICT))
    assert notifications(actions) == [(conn, b"\x06\x06")]
    again = one(actions, Dial).conn
    driver.do(TcpCrAcked(again, OURS, THEIRS))
    driver.receive(again, OPEN_STRICT, KEEPALIVE)
    assert driver.do(Reconfigure(SETTINGS)) == []
    assert driver.peer.state is State.ESTABLISHED


# -- waiting, draft §8.5 ------------------------------------------------------------------------------------


def test_without_a_word_from_bfd_the_gate_is_open() -> None:
    driver = Driver(STRICT)
    driver.established(OPEN_STRICT)
    assert driver.peer.state is State.ESTABLISHED
    assert not driver.peer.waiting_for_bfd


@pytest.mark.parametrize("dialled", [True, False])
@pytest.mark.parametrize("open_", [OPEN, OPEN_STRICT], ids=["plain peer", "strict peer"])
def test_draft_8_5_5_no_keepalive_before_bfd_is_up_whether_the_peer_has_the_capability_or_not(
    open_: bytes, dialled: bool
) -> None:
    driver, conn = waiting(open_, dialled=dialled)
    assert driver.peer.waiting_for_bfd
    assert driver.peer.gate is CLOSED
    driver.at(driver.now + 7 * SECOND)
    assert KEEPALIVE not in sent(driver.log, conn)
    assert driver.peer.state is State.OPEN_SENT
    actions = driver.do(OPENED)
    assert sent(actions, conn) == [KEEPALIVE]
    assert of(actions, StateChanged) == [
        StateChanged(State.OPEN_SENT, State.OPEN_CONFIRM, "the wait for BFD is over"),
    ]
    assert not driver.peer.waiting_for_bfd
    assert one(driver.receive(conn, KEEPALIVE), SessionUp).conn == conn


def test_draft_8_5_5_the_keepalive_timer_does_not_run_while_waiting_and_does_after() -> None:
    driver, conn = waiting(SLOW_OPEN)
    driver.do(OPENED)
    before = len(driver.log)
    driver.receive(conn, KEEPALIVE)
    driver.at(driver.now + 3 * SECOND)
    assert sent(driver.log[before:], conn) == [KEEPALIVE]


@pytest.mark.parametrize("dialled", [True, False])
def test_draft_8_5_6_a_keepalive_that_comes_first_counts_when_bfd_is_up(dialled: bool) -> None:
    driver, conn = waiting(dialled=dialled)
    assert driver.receive(conn, KEEPALIVE, KEEPALIVE) == []
    assert driver.peer.state is State.OPEN_SENT
    actions = driver.do(OPENED)
    assert sent(actions, conn) == [KEEPALIVE]
    assert one(actions, SessionUp).conn == conn
    assert states(actions) == [State.OPEN_CONFIRM, State.ESTABLISHED]
    # §8.5.1: "resets the HoldTimer to the negotiated value"
    driver.at(driver.now + 9 * SECOND - 1)
    assert driver.peer.state is State.ESTABLISHED
    driver.at(driver.now + 1)
    assert one(driver.log, SessionDown).cause.kind is CauseKind.HOLD_TIMER_EXPIRED


def test_an_open_that_comes_after_bfd_is_up_does_not_wait() -> None:
    driver = held()
    conn = driver.open_sent()
    assert sent(driver.do(OPENED), conn) == []
    actions = driver.receive(conn, OPEN_STRICT)
    assert sent(actions, conn) == [KEEPALIVE]
    assert of(actions, StateChanged) == [StateChanged(State.OPEN_SENT, State.OPEN_CONFIRM, "OPEN accepted")]


def test_open_keepalive_and_more_in_one_read() -> None:
    driver = held()
    conn = driver.open_sent()
    assert driver.receive(conn, OPEN_STRICT + KEEPALIVE[:7]) == []
    assert driver.receive(conn, KEEPALIVE[7:]) == []
    driver.do(OPENED)
    assert driver.peer.state is State.ESTABLISHED


@pytest.mark.parametrize(
    ("bad", "data"),
    [
        (OPEN_STRICT, b"\x05\x01\x01"),  # draft §8.5.5: "the reception of a second OPEN message is a FSM error"
        (UPDATE, b"\x05\x01\x02"),
        (END_OF_RIB, b"\x05\x01\x02"),
        (REFRESH, b"\x05\x01\x05"),
        (message(9), b"\x01\x03\x09"),
    ],
)
@pytest.mark.parametrize("confirmed", [False, True])
def test_rfc6608_what_is_not_expected_while_waiting_is_an_error(bad: bytes, data: bytes, confirmed: bool) -> None:
    driver, conn = waiting()
    if confirmed:
        driver.receive(conn, KEEPALIVE)
    actions = driver.receive(conn, bad)
    assert notifications(actions) == [(conn, data)]
    assert failed(actions).kind is CauseKind.NOTIFICATION_SENT
    assert driver.peer.state is State.IDLE  # damped
    assert not driver.peer.waiting_for_bfd
    # draft §8.2: what BFD says does not cut an idle hold short that has another reason
    assert of(driver.do(OPENED), Dial) == []
    due = driver.peer.next_attempt_at
    assert due is not None
    one(driver.at(due), Dial)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (notification(4, 0), "peer sent Hold Timer Expired while BFD was waited for (strict mode)"),
        (notification(6, 10), "peer sent Cease, BFD Down while BFD was waited for (strict mode)"),
    ],
)
def test_the_peer_gives_up_first_and_it_is_nobodys_fault(said: bytes, text: str) -> None:
    """Without the capability the peer is in OpenConfirm, and its hold timer runs."""
    driver, conn = waiting(OPEN)
    driver.receive(conn, KEEPALIVE)
    actions = driver.receive(conn, said)
    assert failed(actions).text == text
    assert failed(actions).kind is CauseKind.NOTIFICATION_RECEIVED
    assert notifications(actions) == []  # RFC 4271 §6.4
    assert driver.peer.state is State.ACTIVE
    driver.at(driver.now + RETRY)
    assert len(of(driver.log, Dial)) == 2


def test_the_peer_closes_while_bfd_is_waited_for() -> None:
    driver, conn = waiting()
    actions = driver.do(TcpConnectionFails(conn, "the peer closed the connection"))
    text = "connection lost: the peer closed the connection while BFD was waited for (strict mode)"
    assert (failed(actions).kind, failed(actions).text) == (CauseKind.CONNECTION_LOST, text)
    assert driver.peer.state is State.ACTIVE
    assert of(driver.log, SessionUp) == []
    one(driver.do(OPENED), Dial)  # at once


def test_a_connection_lost_before_its_open_waited_for_nothing() -> None:
    driver = held()
    conn = driver.open_sent()
    actions = driver.do(TcpConnectionFails(conn, "reset"))
    assert failed(actions).text == "connection lost: reset"


def test_draft_8_5_2_bfd_down_while_waiting_is_told_with_6_10() -> None:
    driver, conn = waiting()
    actions = driver.do(BfdDown(down_cause(driver)))
    assert notifications(actions) == [(conn, BFD_DOWN)]
    assert driver.peer.state is State.ACTIVE
    assert driver.peer.next_attempt_at is not None


def test_draft_8_5_1_admin_down_is_an_open_gate_and_lets_go_on() -> None:
    driver, conn = waiting()
    actions = driver.do(BfdGate(closed=False, reason="BFD is AdminDown"))
    assert sent(actions, conn) == [KEEPALIVE]


# -- how long: BfdHoldTimer and the hold time ----------------------------------------------------------------


@pytest.mark.parametrize("dialled", [True, False])
@pytest.mark.parametrize("hold", [0, 180])
def test_draft_8_5_3_the_bfd_hold_timer_ends_it_with_6_10_and_it_is_tried_again(hold: int, dialled: bool) -> None:
    driver = held(with_settings(bfd_strict=True, hold_time_s=hold))
    conn = driver.open_sent() if dialled else incoming(driver)
    driver.now += 2 * SECOND
    at = driver.now
    driver.receive(conn, open_message(hold=hold, caps=CAPS + CAP_STRICT))
    assert ends_at(driver) == at + 30 * SECOND
    cause = driver.peer.last_cause
    assert cause is not None
    assert cause.text == "BFD has not come up within 30 s (strict mode): BFD is down"
    assert cause.facts["waited_s"] == 30.0
    due = driver.peer.next_attempt_at
    assert due is not None
    assert driver.now + RETRY * 3 // 4 <= due <= driver.now + RETRY
    one(driver.at(due), Dial)


def test_repeated_ends_do_not_grow_the_retry_time() -> None:
    driver = held(SLOW)
    conn = driver.open_sent()
    for _ in range(6):
        driver.receive(conn, SLOW_OPEN)
        ends_at(driver)
        due = driver.peer.next_attempt_at
        assert due is not None
        assert due <= driver.now + RETRY
        conn = one(driver.at(due), Dial).conn
        driver.do(TcpCrAcked(conn, OURS, THEIRS))
    texts = {action.cause.text for action in of(driver.log, AttemptFailed)}
    assert len(texts) == 1  # the same reason reads the same


@pytest.mark.parametrize("hold_s", [None, math.inf, 30])
def test_a_negotiated_hold_time_ends_it_a_second_before_the_peers_timer_would(hold_s: float | None) -> None:
    driver, _ = waiting(OPEN, gate=BfdGate(closed=True, hold_s=hold_s))
    at = driver.now
    assert ends_at(driver) == at + 8 * SECOND
    assert driver.peer.last_cause is not None
    assert driver.peer.last_cause.text == "BFD has not come up within 8 s (strict mode)"


def test_draft_8_5_6_the_peers_first_keepalive_restarts_the_hold_time_and_no_later_one_does() -> None:
    """It says since when the peer's own hold timer runs; what it sends after that does not restart that one."""
    driver, conn = waiting(gate=BfdGate(closed=True))
    driver.now += 5 * SECOND
    came = driver.now
    driver.receive(conn, KEEPALIVE)
    driver.now += 3 * SECOND
    driver.receive(conn, KEEPALIVE)
    assert ends_at(driver) == came + 8 * SECOND


def test_draft_3_no_keepalive_restarts_the_bfd_hold_timer() -> None:
    driver = held(SLOW)
    conn = driver.open_sent()
    driver.receive(conn, SLOW_OPEN)
    at = driver.now
    driver.now += 20 * SECOND
    driver.receive(conn, KEEPALIVE)
    assert ends_at(driver) == at + 30 * SECOND


@pytest.mark.parametrize("hold_s", [None, math.inf])
def test_rfc4271_8_2_2_without_any_hold_time_the_large_one_ends_it(hold_s: float | None) -> None:
    driver = held(with_settings(bfd_strict=True, hold_time_s=0), BfdGate(closed=True, hold_s=hold_s))
    conn = driver.open_sent()
    driver.receive(conn, open_message(hold=0), KEEPALIVE)
    at = driver.now
    assert ends_at(driver) == at + 240 * SECOND


def test_the_hold_timer_is_of_the_gate_as_it_is_now_and_counts_from_the_open() -> None:
    driver = held(SLOW)
    conn = driver.open_sent()
    driver.receive(conn, SLOW_OPEN)
    at = driver.now
    driver.now += 2 * SECOND
    driver.do(BfdGate(closed=True, hold_s=3))
    assert ends_at(driver) == at + 3 * SECOND


def test_before_the_peers_open_rfc4271s_large_hold_time_holds_and_4_0_ends_it() -> None:
    driver = held()
    conn = driver.open_sent()
    actions = driver.at(driver.now + 240 * SECOND)
    assert (conn, b"\x04\x00") in notifications(actions)


def test_after_the_wait_the_hold_time_runs_anew_and_says_that_the_peer_may_be_waiting() -> None:
    """Draft §10: who has waited may wait for the other one; "SHOULD log a message"."""
    driver, conn = waiting()
    driver.now += 7 * SECOND
    driver.do(OPENED)
    at = driver.now
    assert not notifications(driver.at(at + 9 * SECOND - 1))
    actions = driver.at(at + 9 * SECOND)
    assert notifications(actions) == [(conn, b"\x04\x00")]
    assert failed(actions).text == (
        "no KEEPALIVE or UPDATE for 9 s (hold time); the peer's BFD may not be up (strict mode)"
    )


def test_of_a_peer_without_the_capability_nothing_is_guessed() -> None:
    driver = Driver(STRICT)
    driver.open_confirm(OPEN)
    assert failed(driver.at(driver.now + 9 * SECOND)).text == "no KEEPALIVE or UPDATE for 9 s (hold time)"


def test_a_process_that_slept_looks_once_more_before_it_gives_up() -> None:
    driver, conn = waiting()
    driver.now += 60 * SECOND
    assert driver.do(TimerExpired()) == []
    actions = driver.do(OPENED)  # BFD's word lay unread
    assert sent(actions, conn) == [KEEPALIVE]


# -- the gate closes later ------------------------------------------------------------------------------------


def test_an_established_session_is_not_touched() -> None:
    driver = Driver(STRICT)
    conn = driver.established(OPEN_STRICT)
    assert driver.do(CLOSED) == []
    assert driver.do(SILENT) == []
    assert not driver.peer.waiting_for_bfd
    driver.at(driver.now + 3 * SECOND)
    driver.receive(conn, KEEPALIVE)
    assert driver.do(OPENED) == []
    assert driver.peer.state is State.ESTABLISHED


@pytest.mark.parametrize("open_", [OPEN, OPEN_STRICT], ids=["plain peer", "strict peer"])
def test_draft_8_6_2_in_open_confirm_it_is_6_10(open_: bytes) -> None:
    driver = Driver(STRICT)
    conn = driver.open_confirm(open_)
    actions = driver.do(CLOSED)
    assert notifications(actions) == [(conn, BFD_DOWN)]
    assert failed(actions).kind is CauseKind.BFD_DOWN
    assert failed(actions).text == "BFD keeps the session back (strict mode): BFD is down"
    assert driver.peer.state is State.ACTIVE
    # with the gate's, BfdDown may come as well, before or after
    assert notifications(driver.do(BfdDown(down_cause(driver)))) == []
    assert driver.peer.next_attempt_at is not None


def test_bfd_down_first_leaves_the_gate_nothing_to_end() -> None:
    driver = Driver(STRICT)
    conn = driver.open_confirm(OPEN_STRICT)
    assert notifications(driver.do(BfdDown(down_cause(driver)))) == [(conn, BFD_DOWN)]
    assert notifications(driver.do(CLOSED)) == []


def test_closed_open_closed_between_open_and_keepalive() -> None:
    driver, conn = waiting()
    assert sent(driver.do(OPENED), conn) == [KEEPALIVE]
    actions = driver.do(CLOSED)
    assert notifications(actions) == [(conn, BFD_DOWN)]
    assert driver.receive(conn, KEEPALIVE) == []
    assert of(driver.log, SessionUp) == []
    assert driver.peer.state is State.ACTIVE


def test_the_same_gate_again_changes_nothing() -> None:
    driver, conn = waiting()
    deadline = driver.peer.next_deadline()
    driver.now += SECOND
    assert driver.do(CLOSED) == []
    assert driver.peer.next_deadline() == deadline
    driver.do(OPENED)
    assert driver.do(OPENED) == []
    assert driver.receive(conn, KEEPALIVE) != []
    dials = len(of(driver.log, Dial))
    driver.receive(conn, notification(6, 4))
    assert driver.do(OPENED) == []  # open as before: no reason to hurry
    assert len(of(driver.log, Dial)) == dials
