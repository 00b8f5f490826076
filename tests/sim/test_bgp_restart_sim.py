"""Two whole neighbors with graceful restart, and what two OPENs put in force: both ends always say the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bgp_wire import Side, Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.bgp.events import (
    Action,
    AutomaticStop,
    BfdDown,
    Cause,
    CauseKind,
    ManualStart,
    ManualStop,
    NotificationSeen,
    SendStalled,
    SendUpdates,
    SessionDown,
    SessionUp,
    UpdateReceived,
)
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, MILLISECOND, SECOND
from bgpbfd.wire.iana import BgpRole, CeaseSubcode

A = PeerSettings(65001, 65002, 0x01010101, (IPV4_UNICAST, IPV6_UNICAST), hold_time_s=9, restart_time_s=60)
B = PeerSettings(65002, 65001, 0x02020202, (IPV4_UNICAST,), hold_time_s=9, restart_time_s=90)
KEPT = {IPV4_UNICAST}
END_OF_RIB = b"\xff" * 16 + b"\x00\x17\x02\x00\x00\x00\x00"

seeds = st.integers(0, 2**32)


def running(seed: int = 0, a: PeerSettings = A, b: PeerSettings = B) -> Wire:
    wire = Wire(a, b, seed)
    wire.a.do(ManualStart())
    wire.b.do(ManualStart())
    wire.run(30 * SECOND)
    assert wire.agreed()
    return wire


def seen(side: Side, kind: type[Action], since: int) -> list[Action]:
    return [action for at, action in side.log if isinstance(action, kind) and at >= since]


def down(side: Side, since: int) -> SessionDown:
    (action,) = seen(side, SessionDown, since)
    assert isinstance(action, SessionDown)
    return action


def up(side: Side) -> SessionUp:
    return [action for _, action in side.log if isinstance(action, SessionUp)][-1]


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_rfc4724_4_2_tcp_is_cut_and_both_keep_routes_until_it_is_back(seed: int) -> None:
    wire = running(seed)
    cut = wire.now
    wire.reset()
    for side, seconds in ((wire.a, 90), (wire.b, 60)):
        end = down(side, cut)
        assert (end.retain, end.retain_s) == (KEPT, seconds)
    wire.run(cut + 20 * SECOND)
    assert wire.agreed()  # well within the restart time
    for side in (wire.a, wire.b):
        restart = up(side).negotiated.restart
        assert restart is not None
        assert not restart.restarting  # RFC 4724 §4.2: nobody did
        assert all(kept for _, kept in restart.families)  # or the stale routes would go at once


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_rfc8538_4_a_silent_path_ends_by_hold_timers_and_both_keep_routes(seed: int) -> None:
    wire = running(seed)
    cut = wire.now
    wire.cut = True
    wire.run(cut + 10 * SECOND)
    for side in (wire.a, wire.b):
        end = down(side, cut)
        assert end.cause.kind is CauseKind.HOLD_TIMER_EXPIRED
        assert end.retain == KEPT
    wire.mend()
    wire.run(wire.now + 30 * SECOND)
    assert wire.agreed()


def test_rfc4724_without_the_n_bit_a_hold_timer_flushes() -> None:
    wire = running(b=replace(B, restart_time_s=None))
    cut = wire.now
    wire.cut = True
    wire.run(cut + 10 * SECOND)
    assert down(wire.a, cut).retain == down(wire.b, cut).retain == frozenset()


@pytest.mark.parametrize("how", ["stop", "reset", "max prefixes", "bfd"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_rfc8538_3_1_a_hard_reset_empties_both_ends(how: str, name: str) -> None:
    wire = running()
    side, far = (wire.a, wire.b) if name == "a" else (wire.b, wire.a)
    since = wire.now
    match how:
        case "stop":
            side.do(ManualStop(message="moving"))
            subcode = CeaseSubcode.ADMINISTRATIVE_SHUTDOWN
        case "reset":
            subcode = CeaseSubcode.ADMINISTRATIVE_RESET
            side.do(AutomaticStop(Cause(CauseKind.ADMIN_RESET, "reset", since), subcode, damped=False))
        case "max prefixes":
            subcode = CeaseSubcode.MAXIMUM_PREFIXES
            side.do(AutomaticStop(Cause(CauseKind.MAX_PREFIXES, "too many", since), subcode, idle_s=60))
        case _:
            subcode = CeaseSubcode.BFD_DOWN
            side.do(BfdDown(Cause(CauseKind.BFD_DOWN, "silence", since)))
    wire.run(since + SECOND)
    here, there = down(side, since), down(far, since)
    for end in (here, there):
        assert (end.cause.code, end.cause.subcode, end.cause.facts["hard_reset"]) == (6, subcode, True)
        assert (end.retain, end.retain_s) == (frozenset(), 0)
    assert there.cause.kind is CauseKind.NOTIFICATION_RECEIVED
    if how == "stop":
        assert there.cause.text.endswith('(Cease, Administrative Shutdown: "moving")')


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 20_000))
def test_rfc4724_4_1_a_planned_restart_is_seen_as_one(seed: int, away_ms: int) -> None:
    wire = running(seed)
    since = wire.now
    message = END_OF_RIB * 20
    wire.a.do(SendUpdates(wire.a.peer.generation, [message]))
    wire.a.do(ManualStop(CauseKind.DAEMON_STOP, retain=True))
    wire.run(since + SECOND)
    assert seen(wire.a, NotificationSeen, since) == seen(wire.b, NotificationSeen, since) == []
    assert len(seen(wire.b, UpdateReceived, since)) == 20  # what was sent before has arrived
    end = down(wire.b, since)
    assert (end.cause.kind, end.retain, end.retain_s) == (CauseKind.CONNECTION_LOST, KEPT, 60)
    wire.run(wire.now + away_ms * MILLISECOND)
    wire.a.boot()
    wire.a.do(ManualStart(restarting_until=wire.now + 60 * SECOND))
    wire.run(wire.now + 15 * SECOND)
    assert wire.agreed()
    theirs, ours = up(wire.b).negotiated.restart, up(wire.a).negotiated.restart
    assert theirs is not None
    assert ours is not None
    assert (theirs.restarting, ours.restarting) == (True, False)
    wire.reset()
    wire.run(wire.now + 15 * SECOND)
    assert wire.agreed()
    again = up(wire.b).negotiated.restart
    assert again is not None
    assert not again.restarting


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_rfc4724_5_a_host_that_died_is_taken_up_again_at_its_new_connection(seed: int) -> None:
    wire = running(seed, replace(A, hold_time_s=180), replace(B, hold_time_s=180))
    since = wire.now
    wire.lose_host(wire.a)
    wire.a.do(ManualStart(restarting_until=wire.now + 60 * SECOND))
    wire.run(since + 20 * SECOND)
    assert wire.agreed()
    end = down(wire.b, since)
    assert end.cause.kind is CauseKind.CONNECTION_LOST
    assert end.retain == KEPT


def test_rfc9687_a_peer_that_does_not_read_is_left_after_eight_minutes_and_comes_back() -> None:
    wire = running()
    since = wire.now
    conn = wire.a.peer.established_conn
    assert conn is not None
    wire.a.do(SendStalled(conn, since))
    wire.run(since + 480 * SECOND - 1)
    assert wire.agreed()
    wire.run(since + 482 * SECOND)
    end = down(wire.a, since)
    assert (end.cause.kind, end.retain) == (CauseKind.SEND_HOLD_TIMER_EXPIRED, frozenset())
    assert down(wire.b, since).cause.kind is CauseKind.CONNECTION_LOST
    assert seen(wire.a, NotificationSeen, since) == []
    wire.run(since + 520 * SECOND)
    assert wire.agreed()


# -- what both OPENs put in force -----------------------------------------------------------------------------


@st.composite
def offers(draw: st.DrawFn, base: PeerSettings) -> PeerSettings:
    families = draw(st.sampled_from([(IPV4_UNICAST,), (IPV4_UNICAST, IPV6_UNICAST)]))
    return replace(
        base,
        families=families,
        hold_time_s=draw(st.sampled_from([0, 3, 30])),
        route_refresh=draw(st.booleans()),
        extended_messages=draw(st.booleans()),
        add_path_receive=draw(st.booleans()),
        add_path_send=draw(st.booleans()),
        extended_next_hop=draw(st.booleans()),
        restart_time_s=draw(st.sampled_from([None, 0, 60])),
        role=draw(st.sampled_from([None, *BgpRole])),
        role_strict=draw(st.booleans()),
    )


PAIRS = {(0, 3), (3, 0), (1, 2), (2, 1), (4, 4)}  # RFC 9234 §4.2


@settings(max_examples=150, deadline=None)
@given(offers(A), offers(B), seeds)
def test_both_ends_have_the_same_in_force(a: PeerSettings, b: PeerSettings, seed: int) -> None:
    wire = Wire(a, b, seed)
    wire.a.do(ManualStart())
    wire.b.do(ManualStart())
    wire.run(10 * SECOND)
    if a.role is not None and b.role is not None:
        may = (a.role, b.role) in PAIRS
    else:
        may = not (a.role is not None and a.role_strict) and not (b.role is not None and b.role_strict)
    assert wire.agreed() is may
    if not may:
        causes = [side.peer.last_cause for side in (wire.a, wire.b)]
        assert any(cause is not None and (cause.code, cause.subcode) == (2, 11) for cause in causes)
        return
    ours, theirs = up(wire.a).negotiated, up(wire.b).negotiated
    context_a, context_b = up(wire.a).context, up(wire.b).context
    common = set(a.families) & set(b.families)
    assert ours.families == theirs.families == common
    for one, other, this, that in ((ours, theirs, a, b), (theirs, ours, b, a)):
        assert one.add_path_send == other.add_path_receive
        assert one.add_path_send == (common if this.add_path_send and that.add_path_receive else set())
        assert one.extended_next_hop == ({IPV4_UNICAST} if a.extended_next_hop and b.extended_next_hop else set())
        assert one.restart_notification is (a.restart_time_s is not None and b.restart_time_s is not None)
        assert one.graceful_restart_peer
        assert one.restart_families_listed is (that.restart_time_s is not None)
        assert (one.role, one.remote_role) == (this.role, that.role)
        assert one.send_max_length <= other.receive_max_length
        assert one.hold_time_s == min(a.hold_time_s, b.hold_time_s)
        assert one.may_send_refresh is that.route_refresh
    for context, one in ((context_a, ours), (context_b, theirs)):
        assert context.add_path_receive == one.add_path_receive
        assert context.add_path_send == one.add_path_send
        assert context.extended_next_hop == one.extended_next_hop
