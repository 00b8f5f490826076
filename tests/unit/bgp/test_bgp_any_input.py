"""Whatever comes, in whatever order: nothing is raised, nothing is our fault, the bookkeeping stays whole."""

from __future__ import annotations

from dataclasses import replace

from bgp_harness import (
    CAP_MP_IPV4,
    END_OF_RIB,
    IPV4_KEPT,
    KEEPALIVE,
    OPEN,
    OURS,
    REFRESH,
    SETTINGS,
    THEIRS,
    UPDATE,
    Driver,
    cap_as4,
    cap_restart,
    message,
    notification,
    open_message,
    with_settings,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.bgp.events import (
    AutomaticStop,
    BfdDown,
    BfdGate,
    BfdUp,
    Cause,
    CauseKind,
    Close,
    ConnId,
    DataReceived,
    Dial,
    Event,
    ManualStart,
    ManualStop,
    NotificationSeen,
    Reconfigure,
    Send,
    SendResumed,
    SendRouteRefresh,
    SendStalled,
    SendUpdates,
    SessionDown,
    SessionUp,
    State,
    TcpConnectionConfirmed,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
)
from bgpbfd.core import IPV4_UNICAST, SECOND
from bgpbfd.wire.iana import BgpRole, CeaseSubcode

# With graceful restart (N bit), additional paths both ways, IPv6 next hops, a role
DEEP = open_message(
    caps=CAP_MP_IPV4
    + cap_as4(65001)
    + cap_restart(0xC078, IPV4_KEPT)
    + bytes.fromhex("4504 00010103 0506 000100010002 0901 00 4600 4a00")
)
GOOD = [OPEN, DEEP, KEEPALIVE, UPDATE, END_OF_RIB, REFRESH, notification(6, 4), notification(6, 9, b"\x06\x02")]
SETTINGS_DEEP = with_settings(
    restart_time_s=90,
    add_path_receive=True,
    add_path_send=True,
    extended_next_hop=True,
    role=BgpRole.CUSTOMER,
    bfd_strict=True,
)
bodies = st.builds(message, st.integers(0, 6), st.binary(max_size=60))
mutated = st.builds(
    lambda data, at, octet: data[: at % len(data)] + bytes((octet,)) + data[at % len(data) + 1 :],
    st.sampled_from(GOOD),
    st.integers(0, 200),
    st.integers(0, 255),
)
streams = st.lists(st.one_of(st.sampled_from(GOOD), bodies, mutated, st.binary(max_size=40)), max_size=6).map(b"".join)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED]), streams, st.booleans(), st.booleans())
def test_any_bytes_have_a_verdict_and_never_ours(state: State, data: bytes, deep: bool, gate: bool) -> None:
    """``gate``: in OpenSent BFD is waited for, with the peer's OPEN here (instead of OpenConfirm) or to come."""
    driver = Driver(SETTINGS_DEEP if deep else SETTINGS)
    if gate and state is not State.ESTABLISHED:
        driver.do(BfdGate(closed=True))
    reach = getattr(driver, state.name.lower())
    conn = reach() if state is State.OPEN_SENT else reach(DEEP if deep else OPEN)
    actions = driver.receive(conn, data)
    cause = driver.peer.last_cause
    assert cause is None or cause.kind in {CauseKind.NOTIFICATION_SENT, CauseKind.NOTIFICATION_RECEIVED}
    ended = [a for a in actions if isinstance(a, Close)]
    assert len(ended) == (cause is not None)
    if cause is not None and cause.kind is CauseKind.NOTIFICATION_SENT:
        assert cause.text
        (seen,) = [a for a in actions if isinstance(a, NotificationSeen)]
        assert (seen.notification.code, seen.notification.subcode) == (cause.code, cause.subcode)
        shown = bytes.fromhex(str(cause.facts["message"]))
        assert 19 <= len(shown) <= 512
        assert shown in data
        assert 1 <= seen.notification.code <= 7


@settings(max_examples=200, deadline=None)
@given(streams, st.lists(st.integers(1, 50), max_size=30))
def test_segmentation_changes_nothing(data: bytes, cuts: list[int]) -> None:
    whole, pieces = Driver(), Driver()
    whole.receive(whole.established(), data)
    conn = pieces.established()
    rest = data
    for cut in [*cuts, len(data)]:
        pieces.receive(conn, rest[:cut])
        rest = rest[cut:]
    assert whole.log == pieces.log


def cause(driver: Driver, kind: CauseKind) -> Cause:
    return Cause(kind, "said so", driver.now)


conns = st.integers(0, 6)
gates = st.builds(
    BfdGate, st.booleans(), st.sampled_from(["", "BFD is down"]), st.booleans(), st.sampled_from([None, 0, 1.5, 30])
)
steps = st.one_of(
    st.sampled_from(["start", "stop", "auto", "damped", "bfd-up", "bfd-down", "accept", "timer", "refresh", "updates"]),
    st.sampled_from(["restarted", "retain", "away", "away for ever"]),
    gates,
    st.tuples(st.sampled_from(["passive", "hold"]), st.booleans()),
    st.tuples(st.sampled_from(["acked", "fails", "stalled", "long stalled", "resumed"]), conns),
    st.tuples(conns, streams),
    st.integers(1, 20),
)


def event_of(driver: Driver, step: object) -> Event:
    match step:
        case "start":
            return ManualStart()
        case "restarted":
            return ManualStart(restarting_until=driver.now + 9 * SECOND)
        case "stop" | "retain":
            return ManualStop(message="m", retain=step == "retain")
        case "away" | "away for ever":
            idle_s = 25 if step == "away" else float("inf")
            return AutomaticStop(cause(driver, CauseKind.MAX_PREFIXES), CeaseSubcode.MAXIMUM_PREFIXES, idle_s=idle_s)
        case "auto" | "damped":
            reset = cause(driver, CauseKind.ADMIN_RESET)
            return AutomaticStop(reset, CeaseSubcode.ADMINISTRATIVE_RESET, damped=step == "damped")
        case "bfd-up":
            return BfdUp()
        case BfdGate():
            return step
        case "bfd-down":
            return BfdDown(cause(driver, CauseKind.BFD_DOWN))
        case "accept":
            return TcpConnectionConfirmed(driver.peer.new_connection_id(), OURS, THEIRS)
        case "refresh":
            return SendRouteRefresh(IPV4_UNICAST)
        case "updates":
            return SendUpdates(driver.peer.generation, [UPDATE])
        case ("passive", bool(value)):
            return Reconfigure(replace(driver.settings, passive=value))
        case ("hold", bool(value)):
            return Reconfigure(replace(driver.settings, hold_time_s=30 if value else SETTINGS.hold_time_s))
        case ("acked", int(conn)):
            return TcpCrAcked(conn, OURS, THEIRS)
        case ("fails", int(conn)):
            return TcpConnectionFails(conn, "reset")
        case ("stalled" | "long stalled", int(conn)):
            return SendStalled(conn, driver.now - (1 if step[0] == "stalled" else 479) * SECOND)  # type: ignore[index]
        case ("resumed", int(conn)):
            return SendResumed(conn)
        case (int(conn), bytes(data)):
            return DataReceived(conn, data)
        case int(seconds):
            driver.now += seconds * SECOND
            return TimerExpired()
        case _:
            return TimerExpired()


@settings(max_examples=500, deadline=None)
@given(st.lists(steps, max_size=40), st.booleans())
def test_any_order_of_events(script: list[object], deep: bool) -> None:
    driver = Driver(SETTINGS_DEEP if deep else SETTINGS)
    away: float | None = None
    open_conns: set[ConnId] = set()
    up: int | None = None
    gate = BfdGate(closed=False)
    for step in script:
        event = event_of(driver, step)
        if isinstance(event, TcpConnectionFails):
            open_conns.discard(event.conn)
        if isinstance(event, TcpConnectionConfirmed):
            open_conns.add(event.conn)
        match event:
            case ManualStart() | ManualStop():
                away = None
            case AutomaticStop() if driver.peer.admin_up:
                if event.idle_s is not None:
                    away = driver.now + event.idle_s * SECOND
                elif not event.damped:
                    away = None
            case _:
                pass
        if away is not None and driver.now >= away:
            away = None
        gate = event if isinstance(event, BfdGate) else gate
        for action in driver.do(event):
            match action:
                case Dial():
                    assert away is None
                    assert gate.dials or not gate.closed
                    open_conns.add(action.conn)
                case Send():
                    assert action.conn in open_conns
                case Close():
                    open_conns.discard(action.conn)
                case SessionUp():
                    assert not gate.closed
                    assert up is None
                    up = action.generation
                case SessionDown():
                    assert up == action.generation
                    up = None
                    assert bool(action.retain) == bool(action.retain_s)
                    assert deep or not action.retain
                case _:
                    pass
        assert len(open_conns) <= 3  # one a direction, and the established one
        assert (up is not None) == (driver.peer.state is State.ESTABLISHED)
        assert driver.peer.last_cause is None or driver.peer.last_cause.kind is not CauseKind.INTERNAL_ERROR
        if isinstance(event, TimerExpired):
            deadline = driver.peer.next_deadline()
            assert deadline is None or deadline > driver.now
        if not driver.peer.admin_up:
            assert not open_conns
            assert driver.peer.next_deadline() is None
        elif away is not None:
            assert not open_conns
            assert driver.peer.state is State.IDLE
        elif not driver.peer.settings.passive:  # never forgotten: something is under way or planned
            dials = {a.conn for a in driver.log if isinstance(a, Dial)}
            trying = open_conns & dials or driver.peer.state >= State.OPEN_CONFIRM or driver.peer.waiting_for_bfd
            muted = gate.closed and not gate.dials  # and dials when that is over
            assert trying or driver.peer.next_attempt_at is not None or muted
            assert not muted or driver.peer.next_attempt_at is None
        if gate.closed:
            assert driver.peer.state is not State.OPEN_CONFIRM
        else:
            assert not driver.peer.waiting_for_bfd
