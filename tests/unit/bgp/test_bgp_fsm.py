"""Every (state, event) pair of RFC 4271 §8.2.2, and the timers and messages of one connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from bgp_harness import (
    END_OF_RIB,
    KEEPALIVE,
    OPEN,
    OURS,
    REFRESH,
    SETTINGS,
    THEIRS,
    UPDATE,
    UPDATE_BAD_LENGTHS,
    Driver,
    closes,
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
    AutomaticStop,
    BfdDown,
    BfdUp,
    Cause,
    CauseKind,
    ConnId,
    DataReceived,
    Dial,
    Event,
    ManualStart,
    ManualStop,
    NotificationSeen,
    RouteRefreshReceived,
    Send,
    SendRouteRefresh,
    SendUpdates,
    SessionDown,
    SessionUp,
    State,
    StateChanged,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
    UpdateReceived,
)
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, MILLISECOND, SECOND, Family
from bgpbfd.wire.iana import CeaseSubcode

IDLE, CONNECT, ACTIVE = State.IDLE, State.CONNECT, State.ACTIVE
OPEN_SENT, OPEN_CONFIRM, ESTABLISHED = State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED
STATES = (IDLE, CONNECT, ACTIVE, OPEN_SENT, OPEN_CONFIRM, ESTABLISHED)


def in_state(state: State) -> tuple[Driver, ConnId]:
    """A dialling neighbor brought to ``state``, and its (last) connection."""
    driver = Driver()
    reach: dict[State, Callable[[], ConnId]] = {
        IDLE: lambda: 1,
        CONNECT: driver.start,
        ACTIVE: driver.active,
        OPEN_SENT: driver.open_sent,
        OPEN_CONFIRM: driver.open_confirm,
        ESTABLISHED: driver.established,
    }
    conn = reach[state]()
    assert driver.peer.state is state
    return driver, conn


RESET = Cause(CauseKind.ADMIN_RESET, "reset by hand", 0)
EVENTS: dict[str, Callable[[ConnId], Event]] = {
    "1 ManualStart": lambda conn: ManualStart(),
    "2 ManualStop": lambda conn: ManualStop(),
    "8 AutomaticStop": lambda conn: AutomaticStop(RESET, CeaseSubcode.ADMINISTRATIVE_RESET),
    "9-13 nothing due": lambda conn: TimerExpired(),
    "16 Tcp_CR_Acked": lambda conn: TcpCrAcked(conn, OURS, THEIRS),
    "18 TcpConnectionFails": lambda conn: TcpConnectionFails(conn, "connection reset"),
    "19 BGPOpen": lambda conn: DataReceived(conn, OPEN),
    "21 BGPHeaderErr": lambda conn: DataReceived(conn, bytes(19)),
    "22 BGPOpenMsgErr": lambda conn: DataReceived(conn, open_message(asn=65002, caps=b"")),
    "24 NotifMsgVerErr": lambda conn: DataReceived(conn, notification(2, 1, b"\x00\x04")),
    "25 NotifMsg": lambda conn: DataReceived(conn, notification(6, 4)),
    "26 KeepAliveMsg": lambda conn: DataReceived(conn, KEEPALIVE),
    "27 UpdateMsg": lambda conn: DataReceived(conn, UPDATE),
    "28 UpdateMsgErr": lambda conn: DataReceived(conn, UPDATE_BAD_LENGTHS),
    "RFC2918 ROUTE-REFRESH": lambda conn: DataReceived(conn, REFRESH),
}


@dataclass
class Row:
    """``notification``: code, subcode, Data. ``closed``: None, or how: with lingering after a NOTIFICATION."""

    state: State
    notification: bytes | None = None
    closed: bool = False


SAME = "same state, nothing sent, nothing closed"
# What the RFC says; where it says Idle and the neighbor starts again by itself, that is Active (waiting for the
# ConnectRetryTimer), or Idle where the end is damped.
TABLE: dict[str, dict[State, Row | str]] = {
    "1 ManualStart": {IDLE: Row(CONNECT), **dict.fromkeys(STATES[1:], SAME)},
    "2 ManualStop": {
        IDLE: SAME,
        CONNECT: Row(IDLE, closed=True),
        ACTIVE: Row(IDLE),
        **dict.fromkeys(STATES[3:], Row(IDLE, b"\x06\x02", True)),
    },
    "8 AutomaticStop": {
        IDLE: SAME,
        CONNECT: Row(IDLE, closed=True),
        ACTIVE: Row(IDLE),
        **dict.fromkeys(STATES[3:], Row(IDLE, b"\x06\x04", True)),
    },
    "9-13 nothing due": dict.fromkeys(STATES, SAME),
    "16 Tcp_CR_Acked": {
        IDLE: Row(IDLE, closed=True),  # a connection that nobody has asked for
        CONNECT: Row(OPEN_SENT),
        ACTIVE: Row(ACTIVE, closed=True),
        **dict.fromkeys(STATES[3:], SAME),
    },
    "18 TcpConnectionFails": {
        IDLE: SAME,
        CONNECT: Row(ACTIVE),
        ACTIVE: SAME,
        **dict.fromkeys(STATES[3:], Row(ACTIVE)),
    },
    "19 BGPOpen": {
        **dict.fromkeys(STATES[:3], SAME),
        OPEN_SENT: Row(OPEN_CONFIRM),
        OPEN_CONFIRM: Row(IDLE, b"\x05\x02\x01", True),
        ESTABLISHED: Row(IDLE, b"\x05\x03\x01", True),
    },
    "21 BGPHeaderErr": {
        **dict.fromkeys(STATES[:3], SAME),
        **dict.fromkeys(STATES[3:], Row(IDLE, b"\x01\x01", True)),
    },
    "22 BGPOpenMsgErr": {
        **dict.fromkeys(STATES[:3], SAME),
        OPEN_SENT: Row(IDLE, b"\x02\x02", True),
        OPEN_CONFIRM: Row(IDLE, b"\x05\x02\x01", True),
        ESTABLISHED: Row(IDLE, b"\x05\x03\x01", True),
    },
    "24 NotifMsgVerErr": {
        **dict.fromkeys(STATES[:3], SAME),
        **dict.fromkeys(STATES[3:], Row(ACTIVE, closed=True)),
    },
    "25 NotifMsg": {
        **dict.fromkeys(STATES[:3], SAME),
        **dict.fromkeys(STATES[3:], Row(ACTIVE, closed=True)),
    },
    "26 KeepAliveMsg": {
        **dict.fromkeys(STATES[:3], SAME),
        OPEN_SENT: Row(IDLE, b"\x05\x01\x04", True),
        OPEN_CONFIRM: Row(ESTABLISHED),
        ESTABLISHED: SAME,
    },
    "27 UpdateMsg": {
        **dict.fromkeys(STATES[:3], SAME),
        OPEN_SENT: Row(IDLE, b"\x05\x01\x02", True),
        OPEN_CONFIRM: Row(IDLE, b"\x05\x02\x02", True),
        ESTABLISHED: SAME,
    },
    "28 UpdateMsgErr": {
        **dict.fromkeys(STATES[:3], SAME),
        OPEN_SENT: Row(IDLE, b"\x05\x01\x02", True),
        OPEN_CONFIRM: Row(IDLE, b"\x05\x02\x02", True),
        ESTABLISHED: Row(IDLE, b"\x03\x01", True),
    },
    "RFC2918 ROUTE-REFRESH": {
        **dict.fromkeys(STATES[:3], SAME),
        OPEN_SENT: Row(IDLE, b"\x05\x01\x05", True),
        OPEN_CONFIRM: Row(IDLE, b"\x05\x02\x05", True),
        ESTABLISHED: SAME,
    },
}


def test_the_table_is_whole() -> None:
    assert TABLE.keys() == EVENTS.keys()
    assert all(set(row) == set(STATES) for row in TABLE.values())


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.name)
@pytest.mark.parametrize("name", EVENTS)
def test_rfc4271_8_2_2(state: State, name: str) -> None:
    driver, conn = in_state(state)
    expected = TABLE[name][state]
    row = Row(state) if isinstance(expected, str) else expected
    actions = driver.do(EVENTS[name](conn))
    assert driver.peer.state is row.state
    assert [body for _, body in notifications(actions)] == ([] if row.notification is None else [row.notification])
    assert [c.conn for c in closes(actions)] == ([conn] if row.closed else [])
    if row.closed:
        assert one(actions, type(closes(actions)[0])).linger is (row.notification is not None)
    # Established is left with a SessionDown, and only then; entered with a SessionUp.
    assert len(of(actions, SessionDown)) == (state is ESTABLISHED and row.state is not ESTABLISHED)
    assert len(of(actions, SessionUp)) == (state is not ESTABLISHED and row.state is ESTABLISHED)
    changes = [(a.old, a.new) for a in of(actions, StateChanged)]
    if row.state is state:
        assert not changes
    else:
        assert changes[0][0] is state
        assert changes[-1][1] is row.state
    deadline = driver.peer.next_deadline()
    assert deadline is None or deadline > driver.now


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.name)
def test_rfc4271_8_2_2_event_17_a_connection_comes_in(state: State) -> None:
    driver, first = in_state(state)
    conn = driver.incoming()
    data = sent(driver.log, conn)
    if state is IDLE:  # stopped: "refuses all incoming BGP connections"; RFC 4486: Connection Rejected
        assert data == [notification(6, 5)]
        assert [c.conn for c in closes(driver.log)] == [conn]
        assert driver.peer.state is IDLE
    else:
        assert [d[18] for d in data] == [1]  # our OPEN goes out at once, the peer's need not come first
        assert driver.peer.state is max(state, OPEN_SENT)
        assert first not in [c.conn for c in closes(driver.log)]


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.name)
def test_rfc9384_bfd_down(state: State) -> None:
    driver, conn = in_state(state)
    before = driver.peer.next_deadline()
    actions = driver.do(BfdDown(Cause(CauseKind.BFD_DOWN, "BFD went down", driver.now)))
    if state < OPEN_SENT:
        assert actions == []
        assert (driver.peer.state, driver.peer.next_deadline()) == (state, before)
        return
    assert notifications(actions) == [(conn, b"\x06\x0a")]
    assert one(actions, type(closes(actions)[0])).linger
    assert driver.peer.state is ACTIVE
    cause = driver.peer.last_cause
    assert cause is not None
    assert (cause.kind, cause.code, cause.subcode) == (CauseKind.BFD_DOWN, 6, 10)
    assert driver.peer.next_attempt_at is not None
    assert driver.peer.next_attempt_at - driver.now <= SETTINGS.connect_retry_s * SECOND
    if state is ESTABLISHED:
        assert one(actions, SessionDown).cause == cause


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.name)
def test_rfc5882_bfd_up_dials_at_once_where_that_helps(state: State) -> None:
    driver, conn = in_state(state)
    actions = driver.do(BfdUp(), after=SECOND)
    assert bool(of(actions, Dial)) is (state in {CONNECT, ACTIVE})
    if state is CONNECT:  # the SYN of a whole second ago was lost
        assert [c.conn for c in closes(actions)] == [conn]
    elif state is not ACTIVE:
        assert actions == []


def test_bfd_up_leaves_a_young_dial_alone() -> None:
    driver, _ = in_state(CONNECT)
    assert driver.do(BfdUp(), after=100 * MILLISECOND) == []


# -- timers ------------------------------------------------------------------------------------------------


def test_rfc4271_8_2_2_open_sent_has_the_large_hold_time() -> None:
    driver, conn = in_state(OPEN_SENT)
    assert notifications(driver.at(driver.now + 240 * SECOND - 1)) == []
    actions = driver.at(driver.now + 1)
    assert notifications(actions) == [(conn, b"\x04\x00")]
    assert driver.peer.last_cause is not None
    assert driver.peer.last_cause.text == "no OPEN for 240 s"


@pytest.mark.parametrize("state", [OPEN_CONFIRM, ESTABLISHED])
def test_rfc4271_8_2_2_event_10_hold_timer(state: State) -> None:
    driver, conn = in_state(state)
    assert notifications(driver.at(driver.now + 9 * SECOND - 1)) == []
    actions = driver.at(driver.now + 1)
    assert notifications(actions) == [(conn, b"\x04\x00")]
    cause = driver.peer.last_cause
    assert cause is not None
    assert cause.kind is CauseKind.HOLD_TIMER_EXPIRED
    assert cause.text == "no KEEPALIVE or UPDATE for 9 s (hold time)"


@pytest.mark.parametrize("data", [KEEPALIVE, UPDATE, END_OF_RIB], ids=["keepalive", "update", "end-of-rib"])
def test_rfc4271_8_2_2_keepalive_and_update_restart_the_hold_timer(data: bytes) -> None:
    driver, conn = in_state(ESTABLISHED)
    for _ in range(5):
        driver.at(driver.now + 8 * SECOND)
        driver.receive(conn, data)
    assert driver.peer.state is ESTABLISHED
    driver.at(driver.now + 9 * SECOND)
    assert driver.peer.state is not ESTABLISHED


def test_half_a_message_does_not_restart_the_hold_timer() -> None:
    driver, conn = in_state(ESTABLISHED)
    driver.at(driver.now + 8 * SECOND)
    driver.receive(conn, KEEPALIVE[:-1])
    driver.at(driver.now + SECOND)
    assert driver.peer.state is not ESTABLISHED


def test_rfc4271_10_keepalives_are_jittered_anew_each_time() -> None:
    driver, conn = in_state(ESTABLISHED)
    gaps = []
    last = driver.now
    for _ in range(60):
        deadline = driver.peer.next_deadline()
        assert deadline is not None
        driver.receive(conn, KEEPALIVE)
        actions = driver.at(deadline)
        assert sent(actions, conn) == [KEEPALIVE]
        gaps.append(deadline - last)
        last = deadline
    assert all(2.25 * SECOND <= gap <= 3 * SECOND for gap in gaps)
    assert len(set(gaps)) > 50
    assert max(gaps) - min(gaps) > 0.5 * SECOND


def test_rfc4271_8_2_2_updates_restart_the_keepalive_timer() -> None:
    driver, conn = in_state(ESTABLISHED)
    for _ in range(10):
        driver.receive(conn, KEEPALIVE)
        actions = driver.do(SendUpdates(1, [UPDATE]), after=2 * SECOND)
        assert sent(actions, conn) == [UPDATE]
        assert not sent(driver.at(driver.now), conn)


def test_rfc4271_4_4_hold_time_zero_switches_both_timers_off() -> None:
    driver = Driver(with_settings(hold_time_s=0))
    conn = driver.established()
    assert driver.peer.next_deadline() is None
    driver.do(SendUpdates(1, [UPDATE]))
    driver.receive(conn, UPDATE)
    assert driver.peer.next_deadline() is None
    assert driver.at(driver.now + 100_000 * SECOND) == []
    assert driver.peer.state is ESTABLISHED


def test_hold_time_zero_does_not_let_a_silent_peer_keep_open_confirm() -> None:
    driver = Driver(with_settings(hold_time_s=0))
    conn = driver.open_confirm()
    actions = driver.at(driver.now + 240 * SECOND)
    assert notifications(actions) == [(conn, b"\x04\x00")]


def test_our_own_stall_is_not_the_peers_fault() -> None:
    driver, conn = in_state(ESTABLISHED)
    actions = driver.do(TimerExpired(), after=30 * SECOND)
    assert notifications(actions) == []
    driver.receive(conn, KEEPALIVE)  # what lay unread
    assert driver.peer.state is ESTABLISHED


def test_but_after_our_stall_a_silent_peer_is_still_found_out() -> None:
    driver, conn = in_state(ESTABLISHED)
    driver.do(TimerExpired(), after=30 * SECOND)
    actions = driver.do(TimerExpired(), after=30 * SECOND)
    assert notifications(actions) == [(conn, b"\x04\x00")]


# -- messages ----------------------------------------------------------------------------------------------


def test_rfc4271_the_opening_exchange_byte_by_byte() -> None:
    driver, conn = in_state(OPEN_SENT)
    for octet in OPEN + KEEPALIVE + UPDATE:
        driver.receive(conn, bytes((octet,)))
    assert driver.peer.state is ESTABLISHED
    assert [d[18] for d in sent(driver.log, conn)] == [1, 4]
    assert len(of(driver.log, UpdateReceived)) == 1


def test_everything_in_one_segment() -> None:
    driver, conn = in_state(OPEN_SENT)
    actions = driver.receive(conn, OPEN, KEEPALIVE, UPDATE, END_OF_RIB)
    states = [a.new for a in of(actions, StateChanged)]
    assert states == [OPEN_CONFIRM, ESTABLISHED]
    updates = of(actions, UpdateReceived)
    assert [u.generation for u in updates] == [1, 1]
    assert updates[0].update.announced[0].nlri == [b"\x18\xcb\x00\x71"]
    assert updates[1].update.end_of_rib == IPV4_UNICAST
    assert actions.index(one(actions, SessionUp)) < actions.index(updates[0])


def test_nothing_after_the_message_that_ended_the_session_counts() -> None:
    driver, conn = in_state(ESTABLISHED)
    actions = driver.receive(conn, notification(6, 2), UPDATE, OPEN)
    assert of(actions, UpdateReceived) == []
    assert of(actions, Send) == []


def test_rfc4271_6_4_a_notification_is_never_answered_and_its_words_are_kept() -> None:
    driver, conn = in_state(ESTABLISHED)
    actions = driver.receive(conn, notification(6, 2, b"\x0bmaintenance"))
    assert of(actions, Send) == []
    assert not one(actions, NotificationSeen).sent
    cause = one(actions, SessionDown).cause
    assert cause.kind is CauseKind.NOTIFICATION_RECEIVED
    assert cause.text == 'peer sent Cease, Administrative Shutdown: "maintenance"'
    assert (cause.code, cause.subcode, cause.facts["data"]) == (6, 2, "0b6d61696e74656e616e6365")


@pytest.mark.parametrize("state", [OPEN_SENT, OPEN_CONFIRM, ESTABLISHED])
@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (bytes(19), b"\x01\x01"),
        (b"\xff" * 16 + b"\x00\x12\x04", b"\x01\x02\x00\x12"),
        (b"\xff" * 16 + b"\xff\xff\x01", b"\x01\x02\xff\xff"),
        (b"\xff" * 16 + b"\x00\x14\x04\x00", b"\x01\x02\x00\x14"),
        (b"\xff" * 16 + b"\x00\x13\x09", b"\x01\x03\x09"),
    ],
)
def test_rfc4271_6_1_header_faults_in_every_state(state: State, data: bytes, verdict: bytes) -> None:
    driver, conn = in_state(state)
    assert notifications(driver.receive(conn, data)) == [(conn, verdict)]


TOO_SHORT = [(1, 28), (2, 22), (3, 20), (4, 18), (5, 22), (0, 18), (6, 0), (255, 18)]
TOO_LONG = [(1, 4097), (1, 65535), (4, 20), (4, 65535)]  # RFC 8654 §4: these two types are never extended
STANDARD = [(2, 4097), (3, 4097), (5, 4097), (6, 65535)]


@pytest.mark.parametrize("state", [OPEN_SENT, OPEN_CONFIRM, ESTABLISHED])
@pytest.mark.parametrize(
    ("kind", "length", "extended"),
    [(*row, extended) for row in TOO_SHORT + TOO_LONG for extended in (True, False)]
    + [(*row, False) for row in STANDARD],
)
def test_rfc4271_6_1_each_types_shortest_and_longest(state: State, kind: int, length: int, extended: bool) -> None:
    """NOTIFICATION too: §6.1 names its minimum, before §6.4 forbids to answer what is wrong inside one."""
    driver = Driver(with_settings(extended_messages=extended))
    conn = getattr(driver, state.name.lower())()
    octets = length.to_bytes(2, "big")
    actions = driver.receive(conn, b"\xff" * 16 + octets + bytes((kind,)))
    assert notifications(actions) == [(conn, b"\x01\x02" + octets)]
    cause = driver.peer.last_cause
    assert cause is not None
    assert (cause.kind, cause.code, cause.subcode) == (CauseKind.NOTIFICATION_SENT, 1, 2)
    assert cause.facts["data"] == octets.hex()


@pytest.mark.parametrize("kind", [0, 6, 128, 255])
def test_rfc4271_6_1_unknown_types(kind: int) -> None:
    driver, conn = in_state(ESTABLISHED)
    assert notifications(driver.receive(conn, message(kind, bytes(4)))) == [(conn, b"\x01\x03" + bytes((kind,)))]


def test_rfc8654_4097_octets_only_where_we_have_offered_that() -> None:
    long = b"\xff" * 16 + b"\x10\x01\x02"  # 4097
    driver = Driver(with_settings(extended_messages=False))
    conn = driver.established()
    assert notifications(driver.receive(conn, long)) == [(conn, b"\x01\x02\x10\x01")]
    driver, conn = in_state(ESTABLISHED)
    assert driver.receive(conn, long) == []


def test_update_faults_are_counted_by_treatment() -> None:
    driver, conn = in_state(ESTABLISHED)
    bad_origin = UPDATE.replace(bytes.fromhex("40010100"), bytes.fromhex("40010109"))
    update = one(driver.receive(conn, bad_origin), UpdateReceived).update
    assert update.announced == []
    assert update.withdrawn[0].nlri == [b"\x18\xcb\x00\x71"]
    assert driver.peer.update_faults == {"treat-as-withdraw": 1}
    driver.receive(conn, UPDATE_BAD_LENGTHS)
    assert driver.peer.update_faults == {"treat-as-withdraw": 1, "session-reset": 1}


def test_messages_are_counted_both_ways() -> None:
    driver, conn = in_state(ESTABLISHED)
    driver.do(SendUpdates(1, [UPDATE, END_OF_RIB]))
    driver.do(SendRouteRefresh(IPV4_UNICAST))
    driver.receive(conn, UPDATE, REFRESH)
    driver.do(ManualStop(), after=SECOND)
    peer = driver.peer
    zero = {"open": 0, "update": 0, "notification": 0, "keepalive": 0, "route-refresh": 0}
    assert peer.received_by_type == zero | {"open": 1, "keepalive": 1, "update": 1, "route-refresh": 1}
    assert peer.sent_by_type == zero | {
        "open": 1,
        "keepalive": 1,
        "update": 2,
        "route-refresh": 1,
        "notification": 1,
    }
    assert (peer.last_received_at, peer.last_sent_at) == (driver.now - SECOND, driver.now)


# -- route refresh -----------------------------------------------------------------------------------------


def test_rfc2918_a_refresh_is_passed_on() -> None:
    driver, conn = in_state(ESTABLISHED)
    seen = one(driver.receive(conn, REFRESH), RouteRefreshReceived)
    assert (seen.generation, seen.refresh.family, seen.refresh.subtype) == (1, IPV4_UNICAST, 0)


def test_rfc2918_4_a_family_that_is_not_in_force_is_ignored() -> None:
    driver, conn = in_state(ESTABLISHED)
    assert driver.receive(conn, message(5, bytes((0, 2, 0, 1)))) == []
    assert driver.peer.state is ESTABLISHED
    assert sum(driver.peer.discards.values()) == 1


@pytest.mark.parametrize(("subtype", "passed"), [(0, True), (1, True), (2, True), (3, False), (255, False)])
def test_rfc7313_5_subtypes(subtype: int, passed: bool) -> None:
    driver = Driver()
    conn = driver.established(open_message(caps=bytes((2, 0, 70, 0))))
    seen = of(driver.receive(conn, message(5, bytes((0, 1, subtype, 1)))), RouteRefreshReceived)
    assert [s.refresh.subtype for s in seen] == ([subtype] if passed else [])


def test_rfc2918_3_without_rfc7313_the_octet_is_reserved() -> None:
    driver, conn = in_state(ESTABLISHED)
    seen = one(driver.receive(conn, message(5, bytes((0, 1, 2, 1)))), RouteRefreshReceived)
    assert seen.refresh.subtype == 0


def test_rfc7313_5_a_marker_of_wrong_length_is_7_1_with_the_message() -> None:
    for subtype in (1, 2):
        driver = Driver()
        conn = driver.established(open_message(caps=bytes((2, 0, 70, 0))))
        wrong = message(5, bytes((0, 1, subtype, 1, 9)))
        assert notifications(driver.receive(conn, wrong)) == [(conn, b"\x07\x01" + wrong)]


def test_rfc7313_5_applies_only_to_a_peer_that_has_the_capability() -> None:
    driver, conn = in_state(ESTABLISHED)
    seen = one(driver.receive(conn, message(5, bytes((0, 1, 1, 1, 9)))), RouteRefreshReceived)
    assert seen.refresh.subtype == 0
    assert driver.peer.state is ESTABLISHED


def test_rfc2918_we_ask_only_a_peer_that_has_offered_it() -> None:
    driver, conn = in_state(ESTABLISHED)
    assert sent(driver.do(SendRouteRefresh(IPV4_UNICAST)), conn) == [message(5, bytes((0, 1, 0, 1)))]
    assert driver.do(SendRouteRefresh(IPV6_UNICAST)) == []  # not in force
    assert driver.do(SendRouteRefresh(Family(25, 70))) == []
    driver = Driver()
    driver.established(open_message(caps=b""))
    assert driver.do(SendRouteRefresh(IPV4_UNICAST)) == []


def test_rfc7313_4_markers_among_updates_are_counted_as_what_they_are() -> None:
    driver, conn = in_state(ESTABLISHED)
    begin, end = message(5, bytes((0, 1, 1, 1))), message(5, bytes((0, 1, 2, 1)))
    assert sent(driver.do(SendUpdates(1, [begin, UPDATE, UPDATE, end])), conn) == [begin + UPDATE + UPDATE + end]
    assert driver.peer.sent_by_type["update"] == driver.peer.sent_by_type["route-refresh"] == 2


def test_rfc4271_4_4_a_marker_alone_does_not_put_off_the_keepalive() -> None:
    """The peer's hold timer is restarted by KEEPALIVE and UPDATE only."""
    driver, _ = in_state(ESTABLISHED)
    due = driver.peer.next_deadline()
    driver.do(SendUpdates(1, [message(5, bytes((0, 1, 1, 1)))]), after=SECOND)
    assert driver.peer.next_deadline() == due
    driver.do(SendUpdates(1, [UPDATE]))
    assert driver.peer.next_deadline() != due


# -- the session's generation ------------------------------------------------------------------------------


def test_updates_for_another_session_are_refused() -> None:
    driver, conn = in_state(ESTABLISHED)
    assert driver.do(SendUpdates(0, [UPDATE])) == []
    assert driver.do(SendUpdates(2, [UPDATE])) == []
    assert sent(driver.do(SendUpdates(1, [UPDATE, END_OF_RIB])), conn) == [UPDATE + END_OF_RIB]
    driver.do(TcpConnectionFails(conn, "connection reset"))
    assert driver.do(SendUpdates(1, [UPDATE])) == []
    assert driver.peer.discards["updates for a session that is gone"] == 3


def test_generation_grows_and_the_context_is_the_sessions() -> None:
    driver, conn = in_state(ESTABLISHED)
    context = driver.peer.context
    assert context is not None
    assert (context.asn4, context.external, context.max_length) == (True, True, 4096)
    assert context.families == {IPV4_UNICAST}
    assert (context.remote_asn, context.local_asn) == (65001, 65010)
    driver.do(TcpConnectionFails(conn, "connection reset"))
    assert driver.peer.context is None
    assert driver.peer.negotiated is None
    dial = one(driver.at(driver.now + 5 * SECOND), Dial)
    driver.do(TcpCrAcked(dial.conn, OURS, THEIRS))
    up = one(driver.receive(dial.conn, OPEN, KEEPALIVE), SessionUp)
    assert (up.generation, driver.peer.generation, up.conn) == (2, 2, dial.conn)
    assert driver.peer.context is not context
    assert driver.peer.flaps == 1
