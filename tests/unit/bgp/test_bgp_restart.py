"""Ends of sessions that leave routes in place, and ends that must not: RFC 4724, RFC 8538, RFC 9687, RFC 4486."""

from __future__ import annotations

import pytest
from bgp_harness import (
    CAP_MP_IPV4,
    CAP_MP_IPV6,
    END_OF_RIB,
    IPV4_KEPT,
    IPV6_KEPT,
    KEEPALIVE,
    OPEN,
    OURS,
    THEIRS,
    UPDATE_BAD_LENGTHS,
    Driver,
    cap_as4,
    cap_restart,
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
    Action,
    AutomaticStop,
    BfdDown,
    BfdUp,
    Cause,
    CauseKind,
    ConnId,
    Dial,
    ManualStart,
    ManualStop,
    Reconfigure,
    Send,
    SendResumed,
    SendStalled,
    SendUpdates,
    SessionDown,
    State,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
)
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, MILLISECOND, SECOND, Family
from bgpbfd.wire.iana import CeaseSubcode
from bgpbfd.wire.messages import encode_prefix_limit

RESTART = with_settings(restart_time_s=90)
R_TIME, N = 120, 0x4000
FAMILIES = CAP_MP_IPV4 + CAP_MP_IPV6 + cap_as4(65001)
KEPT = {IPV4_UNICAST, IPV6_UNICAST}


def peer_open(flags_and_time: int | None, *families: bytes) -> bytes:
    caps = FAMILIES if flags_and_time is None else FAMILIES + cap_restart(flags_and_time, *families)
    return open_message(caps=caps)


PLAIN_GR = peer_open(R_TIME, IPV4_KEPT, IPV6_KEPT)
WITH_N = peer_open(N | R_TIME, IPV4_KEPT, IPV6_KEPT)
HELPER_ONLY = peer_open(0)  # RFC 4724 §3: no families: it keeps ours, we keep nothing of its
NO_GR = peer_open(None)


def session(open_: bytes = WITH_N, restart_time_s: int | None = 90) -> tuple[Driver, ConnId]:
    driver = Driver(with_settings(restart_time_s=restart_time_s))
    return driver, driver.established(open_)


def cause(driver: Driver, kind: CauseKind) -> Cause:
    return Cause(kind, "said so", driver.now)


def end(driver: Driver, conn: ConnId, how: str) -> list[Action]:
    match how:
        case "tcp lost":
            return driver.do(TcpConnectionFails(conn, "connection reset"))
        case "new connection":
            before = len(driver.log)
            driver.now += 2 * SECOND
            driver.incoming()
            return driver.log[before:]
        case "hold timer":
            return driver.at(driver.now + 9 * SECOND)
        case "our error":
            return driver.receive(conn, UPDATE_BAD_LENGTHS)
        case "header error":
            return driver.receive(conn, bytes(19))
        case "fsm error":
            return driver.receive(conn, OPEN)
        case "their cease":
            return driver.receive(conn, notification(6, 4))
        case "their error":
            return driver.receive(conn, notification(3, 1))
        case "their hold timer":
            return driver.receive(conn, notification(4, 0))
        case "their hard reset":
            return driver.receive(conn, notification(6, 9, b"\x06\x02"))
        case "stop":
            return driver.do(ManualStop())
        case "deconfigured":
            return driver.do(ManualStop(CauseKind.DECONFIGURED, CeaseSubcode.PEER_DECONFIGURED))
        case "daemon stop":
            return driver.do(ManualStop(CauseKind.DAEMON_STOP))
        case "planned restart":
            return driver.do(ManualStop(CauseKind.DAEMON_STOP, retain=True))
        case "reset":
            reset = cause(driver, CauseKind.ADMIN_RESET)
            return driver.do(AutomaticStop(reset, CeaseSubcode.ADMINISTRATIVE_RESET, damped=False))
        case "max prefixes":
            flood = cause(driver, CauseKind.MAX_PREFIXES)
            return driver.do(AutomaticStop(flood, CeaseSubcode.MAXIMUM_PREFIXES))
        case "config change":
            changed = cause(driver, CauseKind.CONFIG_CHANGE)
            return driver.do(AutomaticStop(changed, CeaseSubcode.CONFIGURATION_CHANGE, damped=False))
        case "out of resources":
            short = cause(driver, CauseKind.INTERNAL_ERROR)
            return driver.do(AutomaticStop(short, CeaseSubcode.OUT_OF_RESOURCES))
        case "bfd":
            return driver.do(BfdDown(cause(driver, CauseKind.BFD_DOWN)))
        case "send hold":
            driver.do(SendStalled(conn, driver.now - 480 * SECOND))
            return driver.at(driver.now)
        case _:
            raise AssertionError(how)


# -- what the helper keeps ---------------------------------------------------------------------------------

ALWAYS = ["tcp lost", "new connection"]  # RFC 4724 §4.2, §5
WITH_N_BIT = ["hold timer", "our error", "header error", "fsm error", "their cease", "their error", "their hold timer"]
NEVER = ["their hard reset", "stop", "deconfigured", "daemon stop", "planned restart", "reset", "max prefixes", "bfd"]
NEVER += ["config change", "out of resources", "send hold"]


@pytest.mark.parametrize("how", ALWAYS + WITH_N_BIT + NEVER)
@pytest.mark.parametrize("n_bit", [True, False])
def test_rfc4724_4_2_rfc8538_4_what_is_retained(how: str, n_bit: bool) -> None:
    driver, conn = session(WITH_N if n_bit else PLAIN_GR)
    down = one(end(driver, conn, how), SessionDown)
    if how in ALWAYS or (n_bit and how in WITH_N_BIT):
        assert (down.retain, down.retain_s) == (KEPT, R_TIME)
    else:
        assert (down.retain, down.retain_s) == (frozenset(), 0)


@pytest.mark.parametrize("how", [*ALWAYS, *WITH_N_BIT])
def test_rfc4724_only_where_it_is_configured_here(how: str) -> None:
    driver, conn = session(WITH_N, restart_time_s=None)
    down = one(end(driver, conn, how), SessionDown)
    assert (down.retain, down.retain_s) == (frozenset(), 0)


@pytest.mark.parametrize("open_", [HELPER_ONLY, NO_GR, peer_open(N | R_TIME)], ids=["no families", "none", "N alone"])
def test_rfc4724_4_2_only_of_a_peer_that_lists_families(open_: bytes) -> None:
    driver, conn = session(open_)
    down = one(end(driver, conn, "tcp lost"), SessionDown)
    assert (down.retain, down.retain_s) == (frozenset(), 0)


def test_rfc4724_4_2_only_the_families_that_are_listed_and_in_force() -> None:
    not_in_force = bytes((0, 1, 133, 0x80))
    driver, conn = session(peer_open(R_TIME, IPV6_KEPT[:3] + b"\x00", not_in_force))
    down = one(end(driver, conn, "tcp lost"), SessionDown)
    assert down.retain == {IPV6_UNICAST}  # its F bit is for the next session to say
    driver, conn = session(peer_open(R_TIME, not_in_force))
    assert one(end(driver, conn, "tcp lost"), SessionDown).retain == frozenset[Family]()


@pytest.mark.parametrize("seconds", [1, 4095])
def test_rfc4724_3_for_the_peers_restart_time(seconds: int) -> None:
    driver, conn = session(peer_open(seconds, IPV4_KEPT))
    assert one(end(driver, conn, "tcp lost"), SessionDown).retain_s == seconds


def test_rfc4724_4_2_a_restart_time_of_zero_is_over_at_once() -> None:
    driver, conn = session(peer_open(N, IPV4_KEPT))
    down = one(end(driver, conn, "tcp lost"), SessionDown)
    assert (down.retain, down.retain_s) == (frozenset(), 0)


def test_rfc4724_5_a_new_connection_ends_the_old_one_without_a_notification() -> None:
    driver, conn = session(PLAIN_GR)
    actions = end(driver, conn, "new connection")
    assert notifications(actions) == []
    assert [(c.conn, c.linger) for c in closes(actions)] == [(conn, False)]
    down = one(actions, SessionDown)
    opened = next(a for a in actions if isinstance(a, Send))
    assert (opened.conn, opened.data[18]) == (conn + 1, 1)
    assert actions.index(down) < actions.index(opened)


def test_rfc4724_5_but_a_dial_that_ours_overtook_is_a_collision() -> None:
    driver, conn = session(PLAIN_GR)
    driver.now += 2 * SECOND - 1
    late = driver.incoming()
    assert driver.peer.established_conn == conn
    assert notifications(driver.receive(late, PLAIN_GR)) == [(late, b"\x06\x07")]
    assert driver.peer.established_conn == conn


def test_a_session_whose_settings_changed_meanwhile_ends_by_those_of_its_open() -> None:
    driver, conn = session(WITH_N)
    driver.do(Reconfigure(with_settings(restart_time_s=None)))
    assert one(end(driver, conn, "tcp lost"), SessionDown).retain == KEPT


# -- hard reset --------------------------------------------------------------------------------------------

HARD = {  # RFC 8538 §5.1; Cease 6/10 by the same reason as a final stop
    "stop": b"\x06\x02",
    "deconfigured": b"\x06\x03",
    "daemon stop": b"\x06\x02",
    "reset": b"\x06\x04",
    "max prefixes": b"\x06\x01",
    "bfd": b"\x06\x0a",
}
GRACEFUL = {"config change": b"\x06\x06", "out of resources": b"\x06\x08"}


@pytest.mark.parametrize("how", [*HARD, *GRACEFUL])
@pytest.mark.parametrize("n_bit", [True, False])
def test_rfc4486_the_subcode_of_each_end_and_rfc8538_5_1_its_hard_reset(how: str, n_bit: bool) -> None:
    driver, conn = session(WITH_N if n_bit else PLAIN_GR)
    plain = (HARD | GRACEFUL)[how]
    hard = n_bit and how in HARD
    actions = end(driver, conn, how)
    assert notifications(actions) == [(conn, b"\x06\x09" + plain if hard else plain)]
    ended = one(actions, SessionDown).cause
    assert (ended.code, ended.subcode) == (6, plain[1])
    assert ended.facts.get("hard_reset", False) is hard
    assert driver.peer.notifications_sent == {("6/9" if hard else f"6/{plain[1]}"): 1}
    assert driver.peer.last_cause == ended


def test_rfc8538_3_1_the_operators_words_are_inside() -> None:
    driver, conn = session(WITH_N)
    actions = driver.do(ManualStop(message="back at 6"))
    assert notifications(actions) == [(conn, b"\x06\x09\x06\x02\x09back at 6")]


def test_rfc8538_before_established_a_cease_is_plain() -> None:
    driver = Driver(RESTART)
    conn = driver.open_confirm(WITH_N)
    assert notifications(driver.do(ManualStop())) == [(conn, b"\x06\x02")]


def test_rfc8538_5_1_errors_and_collisions_stay_plain() -> None:
    driver, conn = session(WITH_N)
    assert notifications(driver.receive(conn, UPDATE_BAD_LENGTHS)) == [(conn, b"\x03\x01")]
    driver, conn = session(peer_open(N | R_TIME))  # no families: RFC 4724 §5 does not apply
    new = driver.incoming()
    assert notifications(driver.receive(new, WITH_N)) == [(new, b"\x06\x07")]


@pytest.mark.parametrize(
    ("data", "code", "subcode", "text", "damped"),
    [
        (b"\x06\x02", 6, 2, "peer sent Cease, Hard Reset (Cease, Administrative Shutdown)", False),
        (b"\x06\x02\x04down", 6, 2, 'peer sent Cease, Hard Reset (Cease, Administrative Shutdown: "down")', False),
        (b"\x06\x01", 6, 1, "peer sent Cease, Hard Reset (Cease, Maximum Number of Prefixes Reached)", True),
        (b"\x06\x0a", 6, 10, "peer sent Cease, Hard Reset (Cease, BFD Down)", False),
        (b"\x03\x01", 3, 1, "peer sent Cease, Hard Reset (UPDATE Message Error, Malformed Attribute List)", True),
        (b"", 6, 9, "peer sent Cease, Hard Reset", False),
        (b"\x06", 6, 9, "peer sent Cease, Hard Reset", False),
        (b"\x06\x09\x06\x02", 6, 9, "peer sent Cease, Hard Reset", False),
    ],
)
@pytest.mark.parametrize("n_bit", [True, False])
def test_rfc8538_3_1_a_hard_reset_that_comes_is_what_it_wraps(
    data: bytes, code: int, subcode: int, text: str, damped: bool, n_bit: bool
) -> None:
    driver, conn = session(WITH_N if n_bit else PLAIN_GR)
    down = one(driver.receive(conn, notification(6, 9, data)), SessionDown)
    assert (down.cause.code, down.cause.subcode, down.cause.text) == (code, subcode, text)
    assert down.cause.facts["hard_reset"] is True
    assert down.cause.facts.get("data", "") == data.hex()
    assert not down.retain
    assert driver.peer.state is (State.IDLE if damped else State.ACTIVE)
    assert driver.peer.notifications_received == {"6/9": 1}


# -- a planned restart ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("open_", [PLAIN_GR, WITH_N, HELPER_ONLY], ids=["families", "N", "helper only"])
def test_rfc4724_a_planned_restart_closes_tcp_without_a_word(open_: bytes) -> None:
    driver, conn = session(open_)
    driver.do(SendUpdates(1, [END_OF_RIB]))
    actions = end(driver, conn, "planned restart")
    assert sent(actions, conn) == []
    assert [(c.conn, c.linger) for c in closes(actions)] == [(conn, True)]  # what was sent before still arrives
    ended = one(actions, SessionDown).cause
    assert (ended.kind, ended.code, ended.subcode) == (CauseKind.DAEMON_STOP, None, None)
    assert not driver.peer.admin_up
    assert driver.peer.state is State.IDLE
    assert driver.peer.next_deadline() is None


@pytest.mark.parametrize(("open_", "restart_time_s"), [(NO_GR, 90), (PLAIN_GR, None)])
def test_rfc4724_whose_peer_would_not_keep_routes_gets_the_cease(open_: bytes, restart_time_s: int | None) -> None:
    driver, conn = session(open_, restart_time_s)
    assert notifications(end(driver, conn, "planned restart")) == [(conn, b"\x06\x02")]


def test_a_planned_restart_tells_who_has_no_session_yet() -> None:
    driver = Driver(RESTART)
    conn = driver.open_confirm(WITH_N)
    assert notifications(end(driver, conn, "planned restart")) == [(conn, b"\x06\x02")]
    driver, conn = session(peer_open(N | 120))
    second = driver.incoming()
    actions = end(driver, conn, "planned restart")
    assert notifications(actions) == [(second, b"\x06\x02")]
    assert [(c.conn, c.linger) for c in closes(actions)] == [(conn, True), (second, True)]


# -- the send hold timer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hold_s", "limit_s"), [(9, 480), (240, 480), (241, 482), (3600, 7200)])
def test_rfc9687_4_eight_minutes_or_twice_the_hold_time(hold_s: int, limit_s: int) -> None:
    driver = Driver(with_settings(hold_time_s=hold_s, restart_time_s=90))
    conn = driver.established(open_message(hold=hold_s, caps=FAMILIES + cap_restart(N | R_TIME, IPV4_KEPT)))
    since = driver.now
    driver.do(SendStalled(conn, since), after=5 * SECOND)
    while driver.now + 2 * SECOND < since + limit_s * SECOND:
        driver.at(driver.now + 2 * SECOND)
        driver.receive(conn, KEEPALIVE)
    driver.at(since + limit_s * SECOND - 1)
    assert driver.peer.state is State.ESTABLISHED
    actions = driver.at(since + limit_s * SECOND)
    assert notifications(actions) == []  # it would queue up behind the rest
    assert [(c.conn, c.linger) for c in closes(actions)] == [(conn, False)]
    down = one(actions, SessionDown)
    assert down.cause.kind is CauseKind.SEND_HOLD_TIMER_EXPIRED
    assert down.cause.text == (
        f"Send Hold Timer Expired: the peer has taken nothing of what is to be sent for {limit_s} s"
    )
    assert (down.cause.code, down.cause.subcode) == (None, None)
    assert driver.peer.state is State.IDLE  # "performs peer oscillation damping"


def test_rfc9687_taken_again_clears_it() -> None:
    driver, conn = session()
    driver.do(SendStalled(conn, driver.now))
    before = driver.peer.next_deadline()
    assert driver.do(SendResumed(conn)) == []
    for _ in range(300):
        driver.at(driver.now + 2 * SECOND)
        driver.receive(conn, KEEPALIVE)
    assert driver.peer.state is State.ESTABLISHED
    assert before is not None


def test_rfc9687_a_new_stall_counts_anew() -> None:
    driver, conn = session()
    driver.do(SendStalled(conn, driver.now - 400 * SECOND))
    driver.do(SendResumed(conn))
    driver.do(SendStalled(conn, driver.now - 470 * SECOND))
    driver.at(driver.now + 8 * SECOND)
    assert driver.peer.state is State.ESTABLISHED
    driver.receive(conn, KEEPALIVE)
    driver.at(driver.now + 2 * SECOND)
    assert one(driver.log, SessionDown).cause.kind is CauseKind.SEND_HOLD_TIMER_EXPIRED


def test_rfc9687_4_off_at_hold_time_zero() -> None:
    driver = Driver(with_settings(hold_time_s=0))
    conn = driver.established()
    driver.do(SendStalled(conn, driver.now))
    assert driver.peer.next_deadline() is None
    driver.do(TimerExpired(), after=10_000 * SECOND)
    assert driver.peer.state is State.ESTABLISHED


def test_rfc9687_4_only_in_established() -> None:
    driver = Driver()
    conn = driver.open_confirm()
    driver.do(SendStalled(conn, driver.now - 1000 * SECOND))
    driver.do(TimerExpired())
    assert driver.peer.state is State.OPEN_CONFIRM
    driver.receive(conn, KEEPALIVE)
    assert driver.peer.next_deadline() is not None


def test_rfc9687_our_own_sleep_is_not_the_peers_fault() -> None:
    driver, conn = session()
    driver.do(SendStalled(conn, driver.now))
    driver.receive(conn, KEEPALIVE)
    driver.now += 2000 * SECOND
    driver.receive(conn, KEEPALIVE)
    driver.do(TimerExpired())
    assert driver.peer.state is State.ESTABLISHED
    deadline = driver.peer.next_deadline()
    assert deadline is not None
    assert driver.now < deadline <= driver.now + SECOND
    driver.at(driver.now + SECOND)
    assert one(driver.log, SessionDown).cause.kind is CauseKind.SEND_HOLD_TIMER_EXPIRED
    assert one(driver.log, SessionDown).cause.text.endswith("2001 s")


def test_stalls_of_unknown_connections_are_counted() -> None:
    driver, _ = session()
    assert driver.do(SendStalled(99, driver.now)) == []
    assert driver.do(SendResumed(99)) == []
    assert driver.peer.discards == {"event of a closed connection": 2}


# -- staying away --------------------------------------------------------------------------------------------


def flooded(idle_s: float, open_: bytes = NO_GR, **settings: object) -> tuple[Driver, ConnId]:
    driver = Driver(with_settings(**settings))
    driver.do(ManualStart())
    conn = driver.incoming()
    driver.receive(conn, open_, KEEPALIVE)
    assert driver.peer.established_conn == conn
    data = encode_prefix_limit(IPV4_UNICAST, 1000)
    flood = cause(driver, CauseKind.MAX_PREFIXES)
    actions = driver.do(AutomaticStop(flood, CeaseSubcode.MAXIMUM_PREFIXES, idle_s=idle_s, data=data))
    assert notifications(actions) == [(conn, b"\x06\x01" + data)]
    assert of(actions, Dial) == []
    assert driver.peer.state is State.IDLE
    return driver, conn


def test_rfc4486_4_the_data_of_max_prefixes_is_inside_a_hard_reset_too() -> None:
    driver, conn = session(WITH_N)
    flood = cause(driver, CauseKind.MAX_PREFIXES)
    actions = driver.do(AutomaticStop(flood, CeaseSubcode.MAXIMUM_PREFIXES, data=b"\x00\x01\x01\x00\x00\x00\x05"))
    assert notifications(actions) == [(conn, b"\x06\x09\x06\x01\x00\x01\x01\x00\x00\x00\x05")]


@pytest.mark.parametrize(
    ("family", "limit", "data"),
    [
        (IPV4_UNICAST, 1000, "0001 01 000003e8"),
        (Family(2, 133), 0, "0002 85 00000000"),
        (IPV6_UNICAST, 1 << 40, "0002 01 ffffffff"),
    ],
)
def test_rfc4486_4_the_data_of_max_prefixes(family: Family, limit: int, data: str) -> None:
    assert encode_prefix_limit(family, limit) == bytes.fromhex(data)


@pytest.mark.parametrize("idle_s", [0.25, 60, 86400])
def test_an_asked_idle_time_is_kept_to_the_microsecond_then_dialled(idle_s: float) -> None:
    driver, _ = flooded(idle_s)
    due = driver.now + int(idle_s * SECOND)
    assert driver.peer.next_attempt_at == driver.peer.next_deadline() == due
    assert driver.at(due - 1) == []
    assert one(driver.at(due), Dial)


def test_while_away_connections_get_6_5_and_bfd_and_settings_do_not_end_it() -> None:
    driver, _ = flooded(600)
    due = driver.peer.next_deadline()
    for event in (BfdUp(), Reconfigure(with_settings(hold_time_s=30)), BfdDown(cause(driver, CauseKind.BFD_DOWN))):
        assert driver.do(event, after=SECOND) == []
    refused = driver.incoming()
    assert sent(driver.log, refused) == [notification(6, 5)]
    assert closes(driver.log)[-1].conn == refused
    assert driver.peer.notifications_sent["6/5"] == 1
    assert driver.peer.next_deadline() == driver.peer.next_attempt_at == due
    assert driver.peer.state is State.IDLE


def test_the_end_of_it_takes_connections_again() -> None:
    driver, _ = flooded(600, passive=True)
    assert driver.peer.next_attempt_at is None
    due = driver.peer.next_deadline()
    assert due is not None
    driver.at(due)
    assert driver.peer.state is State.ACTIVE
    conn = driver.incoming()
    driver.receive(conn, OPEN, KEEPALIVE)
    assert driver.peer.established_conn == conn


def test_for_ever_is_until_a_start() -> None:
    driver, _ = flooded(float("inf"))
    assert (driver.peer.next_deadline(), driver.peer.next_attempt_at) == (None, None)
    driver.do(TimerExpired(), after=10**9 * SECOND)
    driver.do(BfdUp())
    assert sent(driver.log, driver.incoming()) == [notification(6, 5)]
    assert driver.peer.state is State.IDLE
    assert one(driver.do(ManualStart()), Dial)
    conn = driver.incoming()
    assert [d[18] for d in sent(driver.log, conn)] == [1]


@pytest.mark.parametrize("idle_s", [600, float("inf")])
def test_a_reset_by_hand_ends_it_at_once(idle_s: float) -> None:
    driver, _ = flooded(idle_s)
    reset = cause(driver, CauseKind.ADMIN_RESET)
    dial = one(driver.do(AutomaticStop(reset, CeaseSubcode.ADMINISTRATIVE_RESET, damped=False)), Dial)
    driver.do(TcpCrAcked(dial.conn, OURS, THEIRS))
    driver.receive(dial.conn, OPEN, KEEPALIVE)
    assert driver.peer.state is State.ESTABLISHED


def test_a_stop_ends_it_and_nothing_is_left() -> None:
    driver, _ = flooded(600)
    driver.do(ManualStop())
    assert driver.peer.next_deadline() is None
    assert one(driver.do(ManualStart()), Dial)


def test_made_passive_and_back_while_away_it_dials_when_the_time_is_over() -> None:
    driver, _ = flooded(600)
    due = driver.peer.next_attempt_at
    assert driver.do(Reconfigure(with_settings(passive=True))) == []
    assert driver.peer.next_attempt_at is None
    assert driver.do(Reconfigure(with_settings())) == []
    assert driver.peer.next_attempt_at == due


def test_another_damped_stop_does_not_shorten_it() -> None:
    driver, _ = flooded(600)
    due = driver.peer.next_deadline()
    driver.do(AutomaticStop(cause(driver, CauseKind.INTERNAL_ERROR), CeaseSubcode.UNSPECIFIC), after=MILLISECOND)
    assert driver.peer.next_deadline() == due


def test_it_ends_a_dial_that_is_under_way_too() -> None:
    driver = Driver()
    conn = driver.start()
    flood = cause(driver, CauseKind.MAX_PREFIXES)
    actions = driver.do(AutomaticStop(flood, CeaseSubcode.MAXIMUM_PREFIXES, idle_s=60))
    assert [c.conn for c in closes(actions)] == [conn]
    assert driver.peer.next_attempt_at == driver.now + 60 * SECOND


# -- what is kept of faults ------------------------------------------------------------------------------------


def test_rfc4271_6_1_a_bad_header_is_shown() -> None:
    for data, verdict in (
        (bytes(19), b"\x01\x01"),
        (b"\xff" * 16 + b"\x00\x12\x04", b"\x01\x02\x00\x12"),
        (b"\xff" * 16 + b"\x00\x13\x09", b"\x01\x03\x09"),
    ):
        driver, conn = session(NO_GR)
        driver.receive(conn, KEEPALIVE)
        ended = one(driver.receive(conn, data + b"and more"), SessionDown).cause
        assert ended.facts["message"] == data.hex()
        assert ended.facts.get("data", "") == verdict[2:].hex()


def test_the_message_at_fault_is_shown_to_512_octets() -> None:
    driver, conn = session(NO_GR)
    long = message(2, b"\xff\xff" + bytes(2000))
    ended = one(driver.receive(conn, KEEPALIVE + long), SessionDown).cause
    assert ended.facts["message"] == long[:512].hex()
    assert ended.facts["message_length"] == len(long)


def test_rfc6608_an_unexpected_message_is_shown() -> None:
    driver, conn = session(NO_GR)
    ended = one(driver.receive(conn, OPEN), SessionDown).cause
    assert (ended.facts["message"], ended.facts["data"]) == (OPEN.hex(), "01")


ATTRIBUTES = "40010100 400206 0201 0000fde9 400304 c0000201".replace(" ", "")


def update(attributes: str, nlri: str = "18cb0071") -> bytes:
    raw = bytes.fromhex(attributes)
    return message(2, b"\x00\x00" + len(raw).to_bytes(2, "big") + raw + bytes.fromhex(nlri))


@pytest.mark.parametrize(
    ("attributes", "treatment", "attribute", "data"),
    [
        (ATTRIBUTES.replace("40010100", "40010107"), "treat-as-withdraw", 1, "40010107"),
        (ATTRIBUTES + "c00703000000", "attribute-discard", 7, "c00703000000"),
        # of two the graver
        (ATTRIBUTES.replace("40010100", "40010107") + "c00703000000", "treat-as-withdraw", 1, "40010107"),
    ],
)
def test_rfc7606_the_last_update_at_fault_is_kept(attributes: str, treatment: str, attribute: int, data: str) -> None:
    driver, conn = session(NO_GR)
    assert driver.peer.last_update_fault is None
    driver.receive(conn, update(attributes))
    fault = driver.peer.last_update_fault
    assert fault is not None
    assert (fault.at, fault.treatment, fault.attribute) == (driver.now, treatment, attribute)
    assert (fault.data.hex(), fault.length) == (data, len(data) // 2)
    assert fault.reason
    assert driver.peer.state is State.ESTABLISHED
    driver.receive(conn, update(ATTRIBUTES))
    assert driver.peer.last_update_fault is fault


def test_rfc7606_a_reset_is_the_last_fault_and_outlives_the_session() -> None:
    driver, conn = session(NO_GR)
    driver.receive(conn, UPDATE_BAD_LENGTHS)
    fault = driver.peer.last_update_fault
    assert fault is not None
    assert (fault.treatment, fault.attribute) == ("session-reset", None)
    assert fault.data
    assert fault.length == len(fault.data)
    assert fault.reason == "the withdrawn routes run past the message"
    assert driver.peer.update_faults == {"session-reset": 1}


def test_a_long_attribute_at_fault_is_cut() -> None:
    driver, conn = session(NO_GR)
    communities = "d008" + "03e9" + "00" * 1001  # not a multiple of 4
    driver.receive(conn, update(ATTRIBUTES + communities))
    fault = driver.peer.last_update_fault
    assert fault is not None
    assert (fault.attribute, len(fault.data), fault.length) == (8, 512, 1005)


def test_a_family_that_is_not_in_force_is_an_ignored_update() -> None:
    driver = Driver()
    conn = driver.established()
    body = bytes.fromhex("0000 0007 800f04 0002 01 00".replace(" ", ""))
    driver.receive(conn, message(2, body))
    fault = driver.peer.last_update_fault
    assert fault is not None
    assert fault.treatment == "ignored"
    assert driver.peer.update_faults == {"ignored": 1}


def test_notifications_are_counted_by_code_both_ways() -> None:
    driver = Driver()
    conn = driver.open_sent()
    driver.receive(conn, notification(2, 2))
    conn = driver.incoming()
    driver.receive(conn, notification(2, 2))
    conn = driver.incoming()
    driver.receive(conn, notification(6, 77))
    conn = driver.incoming()
    driver.receive(conn, KEEPALIVE)
    assert driver.peer.notifications_received == {"2/2": 2, "6/77": 1}
    assert driver.peer.notifications_sent == {"5/1": 1}
