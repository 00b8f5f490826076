"""What spans a neighbor's connections: collisions, back-off, administration, faults of our own."""

from __future__ import annotations

from typing import Any

import pytest
from bgp_harness import (
    CAP_MP_IPV4,
    KEEPALIVE,
    OPEN,
    OURS,
    SETTINGS,
    THEIRS,
    UPDATE,
    UPDATE_BAD_LENGTHS,
    Driver,
    cap_as4,
    closes,
    notification,
    notifications,
    of,
    one,
    open_message,
    sent,
    with_settings,
)

from bgpbfd.bgp import connections, fsm
from bgpbfd.bgp.events import (
    AttemptFailed,
    AutomaticStop,
    BfdDown,
    BfdUp,
    Cause,
    CauseKind,
    ConnId,
    DataReceived,
    Dial,
    ManualStart,
    ManualStop,
    NotificationSeen,
    Reconfigure,
    SessionDown,
    SessionUp,
    State,
    StateChanged,
    TcpConnectionConfirmed,
    TcpConnectionFails,
    TcpCrAcked,
)
from bgpbfd.core import IPV4_UNICAST, SECOND
from bgpbfd.wire.iana import CeaseSubcode

RETRY = int(SETTINGS.connect_retry_s * SECOND)
LOWER, HIGHER = 0x01020304, 0xF0000001  # than our 192.0.2.10; unsigned


def down(driver: Driver) -> Cause:
    return one(driver.log, SessionDown).cause


# -- collision, RFC 4271 §6.8, RFC 6286 §2.3 ------------------------------------------------------------------


def both_ways(open_: bytes = OPEN, **settings: Any) -> tuple[Driver, ConnId, ConnId]:
    """A dialled and an accepted connection, both in OpenSent."""
    driver = Driver(with_settings(**settings))
    dialled = driver.open_sent()
    accepted = driver.incoming()
    return driver, dialled, accepted


@pytest.mark.parametrize("first", ["dialled", "accepted"])
@pytest.mark.parametrize(
    ("router_id", "remote_asn", "kept"),
    [
        (LOWER, 65001, "dialled"),  # ours is higher: the connection that we dialled
        (HIGHER, 65001, "accepted"),  # compared unsigned
        (SETTINGS.router_id, 65001, "dialled"),  # a tie: AS 65010 is higher than 65001
        (SETTINGS.router_id, 65011, "accepted"),
        (SETTINGS.router_id, 4200000000, "accepted"),
    ],
)
def test_rfc4271_6_8_the_higher_side_keeps_the_connection_it_dialled(
    first: str, router_id: int, remote_asn: int, kept: str
) -> None:
    driver, dialled, accepted = both_ways(remote_asn=remote_asn)
    open_ = open_message(
        asn=min(remote_asn, 23456) if remote_asn > 65535 else remote_asn,
        router_id=router_id,
        caps=CAP_MP_IPV4 + cap_as4(remote_asn),
    )
    order = [dialled, accepted] if first == "dialled" else [accepted, dialled]
    assert notifications(driver.receive(order[0], open_)) == []
    actions = driver.receive(order[1], open_)
    winner, loser = (dialled, accepted) if kept == "dialled" else (accepted, dialled)
    assert notifications(actions) == [(loser, b"\x06\x07")]
    close = one(actions, type(closes(actions)[0]))
    assert (close.conn, close.linger) == (loser, True)
    # The loser's end and its late data do not disturb the winner.
    driver.do(TcpConnectionFails(loser, "connection reset"))
    driver.receive(loser, notification(6, 7))
    assert driver.peer.state is State.OPEN_CONFIRM
    up = one(driver.receive(winner, KEEPALIVE), SessionUp)
    assert up.conn == winner
    assert driver.peer.established_conn == winner
    assert driver.peer.last_cause is None


def test_rfc4271_6_8_an_established_session_stays_and_the_new_connection_gets_6_7() -> None:
    for router_id in (LOWER, HIGHER):
        driver = Driver()
        conn = driver.established(open_message(router_id=router_id))
        new = driver.incoming()
        actions = driver.receive(new, open_message(router_id=router_id))
        assert notifications(actions) == [(new, b"\x06\x07")]
        assert driver.peer.established_conn == conn
        assert of(driver.log, SessionDown) == []


def test_a_second_connection_makes_us_probe_the_established_one() -> None:
    driver = Driver()
    conn = driver.established()
    driver.at(driver.now + SECOND)
    before = len(driver.log)
    driver.incoming()
    assert sent(driver.log[before:], conn) == [KEEPALIVE]
    driver.incoming()
    assert sent(driver.log[before:], conn) == [KEEPALIVE]  # RFC 4271 §4.4: not twice in a second


def test_rfc4724_5_a_restarted_peers_new_connection_replaces_the_old_silently() -> None:
    caps = CAP_MP_IPV4 + cap_as4(65001) + bytes((64, 6, 0, 120, 0, 1, 1, 0))
    driver = Driver()
    old = driver.established(open_message(caps=caps))
    driver.now += 2 * SECOND
    before = len(driver.log)
    new = driver.incoming()
    actions = driver.log[before:]
    assert notifications(actions) == []
    assert [(c.conn, c.linger) for c in closes(actions)] == [(old, False)]
    assert one(actions, SessionDown).generation == 1
    up = one(driver.receive(new, open_message(caps=caps), KEEPALIVE), SessionUp)
    assert (up.conn, up.generation) == (new, 2)


def test_an_accepted_open_stops_our_dial() -> None:
    driver = Driver()
    dialled = driver.start()
    accepted = driver.incoming()
    actions = driver.receive(accepted, OPEN)
    assert [(c.conn, c.linger) for c in closes(actions)] == [(dialled, False)]
    driver.receive(accepted, KEEPALIVE)
    late = driver.do(TcpCrAcked(dialled, OURS, THEIRS))
    assert [c.conn for c in closes(late)] == [dialled]
    assert driver.peer.established_conn == accepted
    assert not of(driver.at(driver.now + 8 * SECOND), Dial)


def test_a_newer_connection_of_the_peer_replaces_its_older_unfinished_one() -> None:
    driver = Driver(with_settings(passive=True))
    driver.do(ManualStart())
    conns = [driver.incoming() for _ in range(50)]
    assert [c for c, _ in notifications(driver.log)] == conns[:-1]
    assert {body for _, body in notifications(driver.log)} == {b"\x06\x07"}
    assert [c.conn for c in closes(driver.log)] == conns[:-1]
    driver.receive(conns[-1], OPEN, KEEPALIVE)
    assert driver.peer.established_conn == conns[-1]


def test_losing_the_connection_that_is_left_over_does_not_end_the_session() -> None:
    driver, dialled, accepted = both_ways()
    driver.do(TcpConnectionFails(dialled, "connection reset"))
    driver.receive(accepted, OPEN, KEEPALIVE)
    assert driver.peer.established_conn == accepted
    assert driver.peer.next_attempt_at is None


def test_6_7_from_the_peer_on_our_loser_leaves_the_winner() -> None:
    driver, dialled, accepted = both_ways()
    driver.receive(accepted, OPEN)
    driver.receive(dialled, notification(6, 7))
    driver.receive(accepted, KEEPALIVE)
    assert driver.peer.established_conn == accepted


def waiting_loser() -> tuple[Driver, ConnId, ConnId]:
    """The connection that the peer dialled has its OPEN, but ours, whose OPEN is yet to come, would win."""
    driver, dialled, accepted = both_ways()
    actions = driver.receive(accepted, open_message(router_id=LOWER), KEEPALIVE)
    assert actions == []
    assert driver.peer.state is State.OPEN_SENT
    return driver, dialled, accepted


def test_a_loser_to_be_is_not_established_before_the_winners_open_decides() -> None:
    driver, dialled, accepted = waiting_loser()
    actions = driver.receive(dialled, open_message(router_id=LOWER))
    assert notifications(actions) == [(accepted, b"\x06\x07")]
    assert one(driver.receive(dialled, KEEPALIVE), SessionUp).conn == dialled


def test_a_loser_to_be_goes_on_when_the_other_connection_fails() -> None:
    driver, dialled, accepted = waiting_loser()
    actions = driver.do(TcpConnectionFails(dialled, "connection reset"))
    assert sent(actions, accepted) == [KEEPALIVE]
    assert one(actions, SessionUp).conn == accepted
    assert driver.peer.next_attempt_at is None


def test_a_loser_to_be_does_not_wait_for_ever() -> None:
    driver, dialled, accepted = waiting_loser()
    actions = driver.at(driver.now + 2 * SECOND)
    assert one(actions, SessionUp).conn == accepted
    actions = driver.receive(dialled, open_message(router_id=LOWER))
    assert notifications(actions) == [(dialled, b"\x06\x07")]


def test_a_loser_to_be_is_ended_by_what_comes_on_it() -> None:
    driver, dialled, accepted = waiting_loser()
    assert notifications(driver.receive(accepted, UPDATE)) == [(accepted, b"\x05\x01\x02")]
    driver.receive(dialled, open_message(router_id=LOWER), KEEPALIVE)
    assert driver.peer.established_conn == dialled


def test_a_stop_ends_a_loser_to_be_too() -> None:
    driver, _, _ = waiting_loser()
    actions = driver.do(ManualStop())
    assert len(notifications(actions)) == 2
    assert of(actions, SessionUp) == []
    assert driver.peer.next_deadline() is None


# -- dialling and coming back --------------------------------------------------------------------------------


def test_the_first_dial_is_at_once_and_a_refused_one_is_repeated_for_ever() -> None:
    driver = Driver()
    conn = driver.start()
    waits = []
    for _ in range(30):
        driver.do(TcpConnectionFails(conn, "connection refused"))
        assert driver.peer.state is State.ACTIVE
        due = driver.peer.next_attempt_at
        assert due is not None
        waits.append(due - driver.now)
        conn = one(driver.at(due), Dial).conn
        assert driver.peer.state is State.CONNECT
    assert all(0.75 * RETRY <= wait <= RETRY for wait in waits)  # no growth: nobody is at fault
    assert len(set(waits)) > 20
    causes = [a.cause for a in of(driver.log, AttemptFailed)]
    assert len(causes) == 30
    assert causes[0].text == "cannot connect: connection refused"
    assert causes[0].kind is CauseKind.CONNECTION_FAILED


def test_rfc4271_8_2_2_connect_event_9_an_unanswered_dial_is_dialled_anew() -> None:
    driver = Driver()
    first = driver.start()
    deadline = driver.peer.next_deadline()
    assert deadline is not None
    assert 0.75 * RETRY <= deadline - driver.now <= RETRY
    actions = driver.at(deadline)
    assert [c.conn for c in closes(actions)] == [first]
    assert one(actions, Dial).conn != first
    assert of(actions, StateChanged) == []  # "stays in the Connect state"
    assert "no answer" in one(actions, AttemptFailed).cause.text


@pytest.mark.parametrize("change", [{"passive": True}, {"dynamic": True}])
def test_passive_and_dynamic_neighbors_never_dial(change: dict[str, bool]) -> None:
    driver = Driver(with_settings(**change))
    driver.do(ManualStart())
    assert driver.peer.state is State.ACTIVE
    driver.at(driver.now + 1000 * SECOND)
    driver.do(BfdUp())
    conn = driver.incoming()
    driver.receive(conn, OPEN, KEEPALIVE)
    assert driver.peer.state is State.ESTABLISHED
    driver.do(TcpConnectionFails(conn, "connection reset"))
    driver.at(driver.now + 1000 * SECOND)
    assert of(driver.log, Dial) == []
    assert driver.peer.next_attempt_at is None


def test_two_sides_that_wait_for_each_others_open_do_not_hang() -> None:
    driver = Driver(with_settings(passive=True))
    driver.do(ManualStart())
    conn = driver.incoming()
    assert [d[18] for d in sent(driver.log, conn)] == [1]


def fail_by_protocol(driver: Driver, conn: ConnId) -> None:
    driver.do(TcpCrAcked(conn, OURS, THEIRS))
    driver.receive(conn, open_message(asn=65009, caps=b""))


def test_rfc4271_8_1_1_protocol_failures_are_damped_doubling_up_to_a_cap() -> None:
    driver = Driver()
    conn = driver.start()
    factors = []
    for _ in range(7):
        fail_by_protocol(driver, conn)
        assert driver.peer.state is State.IDLE
        due = driver.peer.next_attempt_at
        assert due is not None
        factors.append((due - driver.now) / RETRY)
        conn = one(driver.at(due), Dial).conn
    for factor, full in zip(factors, (1, 2, 4, 8, 8, 8, 8), strict=True):
        assert 0.75 * full <= factor <= full


def test_the_idle_hold_has_an_absolute_cap() -> None:
    driver = Driver(with_settings(connect_retry_s=60.0))
    conn = driver.start()
    for _ in range(6):
        fail_by_protocol(driver, conn)
        due = driver.peer.next_attempt_at
        assert due is not None
        assert due - driver.now <= 120 * SECOND
        conn = one(driver.at(due), Dial).conn


def test_a_long_session_makes_the_damping_forget() -> None:
    driver = Driver()
    conn = driver.start()
    for _ in range(4):
        fail_by_protocol(driver, conn)
        due = driver.peer.next_attempt_at
        assert due is not None
        conn = one(driver.at(due), Dial).conn
    driver.do(TcpCrAcked(conn, OURS, THEIRS))
    driver.receive(conn, open_message(hold=0), KEEPALIVE)
    driver.at(driver.now + 60 * SECOND)
    driver.receive(conn, UPDATE_BAD_LENGTHS)
    due = driver.peer.next_attempt_at
    assert due is not None
    assert due - driver.now <= RETRY


@pytest.mark.parametrize(
    "fault",
    [notification(6, 2), notification(6, 4), notification(6, 3), notification(6, 10), notification(4, 0), None],
)
def test_what_is_nobodys_fault_is_not_damped(fault: bytes | None) -> None:
    driver = Driver()
    for _ in range(6):
        conn = driver.start() if driver.peer.state is State.IDLE else one(driver.log[-3:], Dial).conn
        driver.do(TcpCrAcked(conn, OURS, THEIRS))
        driver.receive(conn, OPEN, KEEPALIVE)
        if fault is None:
            driver.do(TcpConnectionFails(conn, "connection reset"))
        else:
            driver.receive(conn, fault)
        due = driver.peer.next_attempt_at
        assert due is not None
        assert due - driver.now <= RETRY
        assert driver.peer.state is State.ACTIVE
        driver.at(due)


@pytest.mark.parametrize("fault", [notification(6, 1), notification(6, 5), notification(6, 8), notification(2, 2)])
def test_a_peer_that_refuses_us_is_left_in_peace_for_longer_each_time(fault: bytes) -> None:
    driver = Driver()
    conn = driver.open_sent()
    waits = []
    for _ in range(3):
        driver.receive(conn, fault)
        due = driver.peer.next_attempt_at
        assert due is not None
        waits.append(due - driver.now)
        conn = one(driver.at(due), Dial).conn
        driver.do(TcpCrAcked(conn, OURS, THEIRS))
    assert waits[2] > 2.9 * RETRY


def test_an_idle_hold_takes_connections_unless_established_sessions_would_flap() -> None:
    driver = Driver()
    fail_by_protocol(driver, driver.start())
    assert driver.peer.state is State.IDLE
    conn = driver.incoming()
    driver.receive(conn, OPEN, KEEPALIVE)
    assert driver.peer.state is State.ESTABLISHED
    driver.receive(conn, UPDATE_BAD_LENGTHS)
    assert driver.peer.state is State.IDLE
    refused = driver.incoming()
    assert sent(driver.log, refused) == [notification(6, 5)]
    assert [c.conn for c in closes(driver.log)][-1] == refused
    due = driver.peer.next_deadline()
    assert due is not None
    driver.at(due)
    accepted = driver.incoming()
    driver.receive(accepted, OPEN, KEEPALIVE)
    assert driver.peer.established_conn == accepted


def test_bfd_up_ends_an_idle_hold() -> None:
    driver = Driver()
    conn = driver.established()
    driver.receive(conn, UPDATE_BAD_LENGTHS)
    assert driver.peer.state is State.IDLE
    assert one(driver.do(BfdUp()), Dial)
    accepted = driver.incoming()
    assert [d[18] for d in sent(driver.log, accepted)] == [1]  # and takes connections again


def test_a_dial_that_fails_within_an_idle_hold_is_repeated_after_it() -> None:
    driver, dialled, accepted = both_ways()
    driver.receive(accepted, open_message(asn=65009, caps=b""))
    held_until = driver.peer.next_deadline()
    assert held_until is not None
    assert driver.peer.next_attempt_at is None  # the dialled one is still being tried
    driver.do(TcpConnectionFails(dialled, "connection reset"))
    assert driver.peer.next_attempt_at == held_until
    assert one(driver.at(held_until), Dial)


def test_a_lost_connection_does_not_shorten_an_idle_hold() -> None:
    driver = Driver()
    conn = driver.start()
    for _ in range(3):
        fail_by_protocol(driver, conn)
        due = driver.peer.next_attempt_at
        assert due is not None
        conn = one(driver.at(due), Dial).conn
    fail_by_protocol(driver, conn)
    due = driver.peer.next_attempt_at
    driver.do(TcpConnectionFails(driver.incoming(), "connection reset"))
    assert driver.peer.next_attempt_at == due
    assert driver.peer.state is State.IDLE


def test_rfc5492_3_after_2_4_the_next_open_has_no_capabilities() -> None:
    driver = Driver()
    conn = driver.open_sent()
    driver.receive(conn, notification(2, 4))
    due = driver.peer.next_attempt_at
    assert due is not None
    conn = one(driver.at(due), Dial).conn
    actions = driver.do(TcpCrAcked(conn, OURS, THEIRS))
    assert sent(actions, conn) == [open_message(asn=65010, router_id=SETTINGS.router_id, caps=b"")]
    up = one(driver.receive(conn, open_message(caps=b""), KEEPALIVE), SessionUp)
    assert up.negotiated.families == {IPV4_UNICAST}
    assert not up.negotiated.asn4


def test_rfc5492_3_a_plain_open_that_is_refused_as_well_is_not_repeated() -> None:
    driver = Driver()
    conn = driver.open_sent()
    lengths = []
    for _ in range(3):
        driver.receive(conn, notification(2, 4))
        due = driver.peer.next_attempt_at
        assert due is not None
        conn = one(driver.at(due), Dial).conn
        (data,) = sent(driver.do(TcpCrAcked(conn, OURS, THEIRS)), conn)
        lengths.append(len(data))
    assert lengths[0] == lengths[2] == 29
    assert lengths[1] > 29


def test_rfc5492_3_but_not_where_the_session_needs_them() -> None:
    driver = Driver(with_settings(local_asn=4200000000))
    conn = driver.open_sent()
    driver.receive(conn, notification(2, 4))
    due = driver.peer.next_attempt_at
    assert due is not None
    conn = one(driver.at(due), Dial).conn
    (data,) = sent(driver.do(TcpCrAcked(conn, OURS, THEIRS)), conn)
    assert cap_as4(4200000000) in data


# -- administration --------------------------------------------------------------------------------------------


def test_rfc9003_a_stop_carries_the_operators_words() -> None:
    driver = Driver()
    conn = driver.established()
    actions = driver.do(ManualStop(message="Wartung ü"))
    text = "Wartung ü".encode()
    assert notifications(actions) == [(conn, b"\x06\x02" + bytes((len(text),)) + text)]
    cause = down(driver)
    assert (cause.kind, cause.code, cause.subcode) == (CauseKind.ADMIN_SHUTDOWN, 6, 2)
    assert cause.text == 'admin shutdown: "Wartung ü"'
    assert one(actions, NotificationSeen).sent
    assert not driver.peer.admin_up
    driver.at(driver.now + 1000 * SECOND)
    driver.do(BfdUp())
    assert driver.peer.state is State.IDLE
    assert driver.peer.next_deadline() is None
    assert len(of(driver.log, Dial)) == 1


@pytest.mark.parametrize(
    ("kind", "subcode"),
    [
        (CauseKind.DECONFIGURED, CeaseSubcode.PEER_DECONFIGURED),
        (CauseKind.DAEMON_STOP, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN),
    ],
)
def test_rfc4486_stops_say_why(kind: CauseKind, subcode: CeaseSubcode) -> None:
    driver = Driver()
    conn = driver.established()
    actions = driver.do(ManualStop(kind, subcode))
    assert notifications(actions) == [(conn, bytes((6, subcode)))]
    assert down(driver).kind is kind


def test_rfc4486_only_2_and_4_carry_words() -> None:
    driver = Driver()
    conn = driver.established()
    actions = driver.do(ManualStop(CauseKind.DECONFIGURED, CeaseSubcode.PEER_DECONFIGURED, "words"))
    assert notifications(actions) == [(conn, b"\x06\x03")]


def test_a_stop_ends_both_connections() -> None:
    driver, dialled, accepted = both_ways()
    actions = driver.do(ManualStop())
    assert sorted(c for c, _ in notifications(actions)) == sorted((dialled, accepted))
    assert driver.peer.next_deadline() is None


def test_started_again_it_dials_at_once() -> None:
    driver = Driver()
    driver.established()
    driver.do(ManualStop())
    assert one(driver.do(ManualStart()), Dial)


def test_start_during_an_idle_hold_ends_it() -> None:
    driver = Driver()
    fail_by_protocol(driver, driver.start())
    assert one(driver.do(ManualStart()), Dial)


def test_an_undamped_stop_comes_back_at_once() -> None:
    driver = Driver()
    conn = driver.established()
    cause = Cause(CauseKind.ADMIN_RESET, "reset by hand", driver.now)
    actions = driver.do(AutomaticStop(cause, CeaseSubcode.ADMINISTRATIVE_RESET, "again", damped=False))
    assert notifications(actions) == [(conn, b"\x06\x04\x05again")]
    dial = one(actions, Dial)
    assert actions.index(one(actions, SessionDown)) < actions.index(dial)
    assert down(driver).kind is CauseKind.ADMIN_RESET
    assert driver.peer.state is State.CONNECT


def test_a_damped_stop_waits() -> None:
    driver = Driver()
    conn = driver.established()
    cause = Cause(CauseKind.MAX_PREFIXES, "too many", driver.now)
    actions = driver.do(AutomaticStop(cause, CeaseSubcode.MAXIMUM_PREFIXES))
    assert notifications(actions) == [(conn, b"\x06\x01")]
    assert of(actions, Dial) == []
    assert driver.peer.state is State.IDLE
    due = driver.peer.next_attempt_at
    assert due is not None
    assert one(driver.at(due), Dial)


def test_bfd_down_then_up_dials_at_once() -> None:
    driver = Driver()
    driver.established()
    driver.do(BfdDown(Cause(CauseKind.BFD_DOWN, "silence", driver.now)))
    assert one(driver.do(BfdUp()), Dial)
    assert down(driver).text == "silence"


@pytest.mark.parametrize("established", [True, False])
def test_a_bfd_failure_hits_only_connections_that_are_older(established: bool) -> None:
    """A process that was suspended learns late of a failure; what was set up over the path since is not its victim."""
    driver = Driver()
    conn = driver.established() if established else driver.open_confirm()
    state = driver.peer.state
    silence = Cause(CauseKind.BFD_DOWN, "silence", driver.now)
    assert driver.do(BfdDown(silence, failed_at=driver.now - SECOND)) == []
    assert driver.peer.state is state
    driver.now += 2 * SECOND
    actions = driver.do(BfdDown(silence, failed_at=driver.now - SECOND))
    assert notifications(actions) == [(conn, b"\x06\x0a")]


# -- reconfiguration -------------------------------------------------------------------------------------------


def test_what_needs_a_new_open_waits_for_the_next_session() -> None:
    driver = Driver()
    conn = driver.established()
    assert driver.do(Reconfigure(with_settings(hold_time_s=30, families=(IPV4_UNICAST,), connect_retry_s=1.0))) == []
    assert driver.peer.state is State.ESTABLISHED
    driver.do(TcpConnectionFails(conn, "connection reset"))
    due = driver.peer.next_attempt_at
    assert due is not None
    assert due - driver.now <= SECOND  # the new retry time is in force already
    dial = one(driver.at(due), Dial).conn
    (data,) = sent(driver.do(TcpCrAcked(dial, OURS, THEIRS)), dial)
    assert data[22:24] == bytes((0, 30))


def test_a_corrected_setting_is_tried_at_once() -> None:
    driver = Driver()
    fail_by_protocol(driver, driver.start())
    actions = driver.do(Reconfigure(with_settings(remote_asn=65009)))
    conn = one(actions, Dial).conn
    driver.do(TcpCrAcked(conn, OURS, THEIRS))
    driver.receive(conn, open_message(asn=65009, caps=b""), KEEPALIVE)
    assert driver.peer.state is State.ESTABLISHED


def test_rfc4486_a_handshake_under_old_settings_gets_6_6() -> None:
    driver = Driver()
    conn = driver.open_confirm()
    actions = driver.do(Reconfigure(with_settings(hold_time_s=30)))
    assert notifications(actions) == [(conn, b"\x06\x06")]
    assert one(actions, Dial)


def test_active_becomes_passive_and_back_without_touching_a_session() -> None:
    driver = Driver()
    dialling = driver.start()
    actions = driver.do(Reconfigure(with_settings(passive=True)))
    assert [c.conn for c in closes(actions)] == [dialling]
    assert driver.peer.state is State.ACTIVE
    assert driver.peer.next_deadline() is None
    assert one(driver.do(Reconfigure(SETTINGS)), Dial)
    driver = Driver()
    conn = driver.established()
    driver.do(Reconfigure(with_settings(passive=True)))
    driver.do(Reconfigure(SETTINGS))
    assert driver.peer.established_conn == conn
    assert closes(driver.log) == []


def test_a_stopped_neighbor_takes_new_settings_and_stays_stopped() -> None:
    driver = Driver()
    assert driver.do(Reconfigure(with_settings(hold_time_s=30))) == []
    assert driver.peer.settings.hold_time_s == 30
    assert driver.peer.state is State.IDLE


# -- faults of our own, and of the shell -----------------------------------------------------------------------


def test_an_exception_of_ours_costs_this_session_and_is_told_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    driver = Driver()
    conn = driver.established()
    monkeypatch.setattr(fsm, "decode_update", broken)
    actions = driver.receive(conn, UPDATE)
    assert notifications(actions) == [(conn, b"\x06\x00")]
    cause = one(actions, SessionDown).cause
    assert cause.kind is CauseKind.INTERNAL_ERROR
    assert cause.text == "internal error: RuntimeError: a bug"
    assert "decode_update" in str(cause.facts["traceback"])
    assert driver.peer.state is State.IDLE
    monkeypatch.undo()
    due = driver.peer.next_attempt_at
    assert due is not None
    retry = one(driver.at(due), Dial).conn
    driver.do(TcpCrAcked(retry, OURS, THEIRS))
    driver.receive(retry, OPEN, KEEPALIVE)
    assert driver.peer.state is State.ESTABLISHED


@pytest.mark.parametrize(
    ("module", "name", "reset"), [(connections, "retained", False), (fsm, "hardened", True), (fsm, "told", True)]
)
def test_an_exception_of_ours_at_a_session_s_end_leaves_no_session_behind(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, reset: bool
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    driver = Driver()
    conn = driver.established()
    generation = driver.peer.generation
    monkeypatch.setattr(module, name, broken)
    end = (
        AutomaticStop(Cause(CauseKind.ADMIN_RESET, "reset", driver.now), CeaseSubcode.ADMINISTRATIVE_RESET)
        if reset
        else TcpConnectionFails(conn, "connection reset")
    )
    actions = driver.do(end)
    assert [close.conn for close in closes(actions)] == [conn] * reset
    down = [action for action in actions if isinstance(action, SessionDown)]
    assert [(action.generation, action.cause.kind, action.retain) for action in down] == [
        (generation, CauseKind.INTERNAL_ERROR, frozenset())
    ]
    assert (driver.peer.state, driver.peer.negotiated, driver.peer.established_conn) == (State.IDLE, None, None)
    monkeypatch.undo()
    due = driver.peer.next_attempt_at
    assert due is not None
    retry = one(driver.at(due), Dial).conn
    driver.do(TcpCrAcked(retry, OURS, THEIRS))
    driver.receive(retry, OPEN, KEEPALIVE)
    assert driver.peer.state is State.ESTABLISHED


def test_events_of_closed_and_unknown_connections_do_nothing() -> None:
    driver = Driver()
    conn = driver.established()
    driver.do(TcpConnectionFails(conn, "connection reset"))
    state = driver.peer.state
    assert driver.do(TcpConnectionFails(conn, "again")) == []
    assert driver.do(DataReceived(conn, UPDATE)) == []
    assert driver.do(DataReceived(999, b"x")) == []
    assert driver.peer.state is state
    assert driver.peer.discards["event of a closed connection"] == 3


def test_a_connection_confirmed_twice_is_one_connection() -> None:
    driver = Driver()
    driver.active()
    conn = driver.incoming()
    assert driver.do(TcpConnectionConfirmed(conn, OURS, THEIRS)) == []


def test_endpoints_and_times_are_told() -> None:
    driver = Driver()
    conn = driver.established()
    peer = driver.peer
    assert (peer.local, peer.remote, peer.established_conn) == (OURS, THEIRS, conn)
    assert (peer.established_at, peer.state_since) == (driver.now, driver.now)
    assert peer.capabilities_received
    driver.do(TcpConnectionFails(conn, "connection reset"), after=SECOND)
    assert (peer.local, peer.remote, peer.established_conn, peer.established_at) == (None, None, None, None)
    assert peer.state_since == driver.now
    assert peer.last_cause is not None
    assert peer.last_cause.text == "connection lost: connection reset"
