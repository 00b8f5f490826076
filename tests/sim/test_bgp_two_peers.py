"""Two whole neighbors over a bad network: they end Established on the same connection, and never on two."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bgp_wire import Side, Wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpbfd.bgp.events import (
    AttemptFailed,
    AutomaticStop,
    BfdDown,
    BfdUp,
    Cause,
    CauseKind,
    Dial,
    ManualStart,
    ManualStop,
    SendResumed,
    SendStalled,
    SendUpdates,
    SessionDown,
    SessionUp,
    State,
    UpdateReceived,
)
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, MILLISECOND, SECOND
from bgpbfd.wire.iana import CeaseSubcode

A = PeerSettings(65001, 65002, 0x01010101, (IPV4_UNICAST, IPV6_UNICAST), hold_time_s=9)
B = PeerSettings(65002, 65001, 0x02020202, (IPV4_UNICAST,), hold_time_s=30)
END_OF_RIB = b"\xff" * 16 + b"\x00\x17\x02\x00\x00\x00\x00"
SETTLE = 150 * SECOND  # a capped idle hold on each side, and then some

identifiers = st.sampled_from([(1, 2), (2, 1), (5, 5), (0xF0000000, 1)])
seeds = st.integers(0, 2**32)


def network(seed: int = 0, ids: tuple[int, int] = (1, 2), a: PeerSettings = A, b: PeerSettings = B) -> Wire:
    return Wire(replace(a, router_id=ids[0]), replace(b, router_id=ids[1]), seed)


def restarting(*sides: PeerSettings) -> list[PeerSettings]:
    """With graceful restart and its N bit."""
    return [replace(side, restart_time_s=60) for side in sides]


def start(wire: Wire, apart: int = 0) -> None:
    wire.at(0, lambda: wire.a.do(ManualStart()))
    wire.at(apart, lambda: wire.b.do(ManualStart()))


def ups(side: Side) -> list[SessionUp]:
    return [action for _, action in side.log if isinstance(action, SessionUp)]


def downs(side: Side) -> list[SessionDown]:
    return [action for _, action in side.log if isinstance(action, SessionDown)]


@settings(max_examples=300, deadline=None)
@given(seeds, identifiers, st.integers(0, 60 * MILLISECOND), st.booleans())
def test_both_dial_at_once_and_keep_one_connection(seed: int, ids: tuple[int, int], apart: int, graceful: bool) -> None:
    wire = network(seed, ids, *(restarting(A, B) if graceful else (A, B)))
    start(wire, apart)
    wire.run(60 * SECOND)
    assert wire.agreed()
    assert len(wire.a.pipes) == len(wire.b.pipes) == 1
    wire.run(120 * SECOND)  # and it lasts
    assert wire.agreed()
    for side in (wire.a, wire.b):  # nothing was lost on the way: neither a session nor a retry
        assert side.peer.established_at is not None
        assert side.peer.established_at < SECOND
        assert downs(side) == []


@settings(max_examples=60, deadline=None)
@given(seeds, st.booleans())
def test_one_side_passive(seed: int, first: bool) -> None:
    wire = network(seed, a=replace(A, passive=first), b=replace(B, passive=not first))
    start(wire)
    wire.run(20 * SECOND)
    assert wire.agreed()
    passive = wire.a if first else wire.b
    assert not [action for _, action in passive.log if isinstance(action, Dial)]


FAULTS = ("reset", "half-a", "half-b", "cut", "mend", "refuse-a", "refuse-b", "lose-a", "lose-b", "stop-a", "start-a")
FAULTS += ("auto-b", "bfd-down-a", "bfd-up-b", "bfd-up-a", "updates-a", "updates-b")
FAULTS += ("restart-a", "restart-b", "away-a", "stall-a", "stall-b", "resume-a")


def inflict(wire: Wire, fault: str) -> None:
    name, _, which = fault.rpartition("-")
    side = wire.b if which == "b" else wire.a
    match name or fault:
        case "reset":
            wire.reset()
        case "half":
            wire.reset(half=side)
        case "cut":
            wire.cut = True
        case "mend":
            wire.mend()
        case "refuse":
            side.refusing = True
        case "lose":
            wire.lose_host(side)
            side.do(ManualStart())
        case "stop":
            side.do(ManualStop())
        case "start":
            side.do(ManualStart())
        case "auto":
            cause = Cause(CauseKind.ADMIN_RESET, "reset", wire.now)
            side.do(AutomaticStop(cause, CeaseSubcode.ADMINISTRATIVE_RESET, damped=False))
        case "bfd-down":
            side.do(BfdDown(Cause(CauseKind.BFD_DOWN, "silence", wire.now)))
        case "bfd-up":
            side.do(BfdUp())
        case "restart":  # planned: the process goes without a word and comes back
            side.do(ManualStop(CauseKind.DAEMON_STOP, retain=True))
            side.boot()
            side.do(ManualStart(restarting_until=wire.now + 60 * SECOND))
        case "away":
            flood = Cause(CauseKind.MAX_PREFIXES, "too many", wire.now)
            side.do(AutomaticStop(flood, CeaseSubcode.MAXIMUM_PREFIXES, idle_s=20))
        case "stall":
            for conn in list(side.pipes):
                side.do(SendStalled(conn, wire.now - 470 * SECOND))
        case "resume":
            for conn in list(side.pipes):
                side.do(SendResumed(conn))
        case "updates":
            side.do(SendUpdates(side.peer.generation, [END_OF_RIB] * 3))
        case _:
            raise AssertionError(fault)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seeds,
    identifiers,
    st.lists(st.tuples(st.integers(0, 40_000), st.sampled_from(FAULTS)), max_size=14),
    st.booleans(),
    st.booleans(),
)
def test_once_the_faults_stop_they_agree(
    seed: int, ids: tuple[int, int], faults: list[tuple[int, str]], passive: bool, graceful: bool
) -> None:
    a, b = restarting(A, B) if graceful else (A, B)
    wire = network(seed, ids, a, replace(b, passive=passive))
    start(wire)
    for when_ms, fault in faults:
        wire.at(when_ms * MILLISECOND, lambda fault=fault: inflict(wire, fault))  # type: ignore[misc]
    wire.run(41 * SECOND)
    wire.mend()
    inflict(wire, "resume-a")
    inflict(wire, "resume-b")
    wire.a.do(ManualStart())
    wire.b.do(ManualStart())
    wire.run(41 * SECOND + SETTLE)
    assert wire.agreed(), (wire.a.peer.last_cause, wire.b.peer.last_cause)
    flaps = (wire.a.peer.flaps, wire.b.peer.flaps)
    wire.run(41 * SECOND + 2 * SETTLE)
    assert wire.agreed()
    assert (wire.a.peer.flaps, wire.b.peer.flaps) == flaps  # at rest it never flaps
    assert len(wire.a.pipes) == len(wire.b.pipes) == 1


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 20_000))
def test_no_session_survives_the_hold_time_without_traffic(seed: int, when_ms: int) -> None:
    wire = network(seed)
    start(wire)
    wire.at(5 * SECOND + when_ms * MILLISECOND, lambda: inflict(wire, "cut"))
    wire.run(5 * SECOND + when_ms * MILLISECOND)
    assert wire.agreed()
    cut_at = wire.now
    wire.run(cut_at + 9 * SECOND)  # the negotiated hold time is the smaller
    for side in (wire.a, wire.b):
        assert side.peer.state is not State.ESTABLISHED
        assert downs(side)[-1].cause.kind is CauseKind.HOLD_TIMER_EXPIRED
    wire.at(cut_at + 60 * SECOND, wire.mend)
    wire.run(cut_at + 75 * SECOND)
    assert wire.agreed()


def test_hold_time_zero_lasts_without_a_word_and_ends_by_tcp_alone() -> None:
    wire = network(a=replace(A, hold_time_s=0))
    start(wire)
    wire.run(30 * SECOND)
    assert wire.agreed()
    quiet = wire.a.peer.sent_by_type["keepalive"], wire.b.peer.sent_by_type["keepalive"]
    wire.run(100_000 * SECOND)
    assert wire.agreed()
    assert (wire.a.peer.sent_by_type["keepalive"], wire.b.peer.sent_by_type["keepalive"]) == quiet
    wire.reset()
    assert wire.a.peer.state is not State.ESTABLISHED
    assert wire.b.peer.state is not State.ESTABLISHED
    wire.run(100_030 * SECOND)
    assert wire.agreed()


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_a_rebooted_host_is_not_kept_out_until_the_hold_time_ends(seed: int) -> None:
    wire = network(seed, a=replace(A, hold_time_s=180), b=replace(B, hold_time_s=180))
    start(wire)
    wire.run(30 * SECOND)
    assert wire.agreed()
    wire.lose_host(wire.a)
    wire.a.do(ManualStart())
    wire.run(50 * SECOND)  # a few retries, far from 180 s
    assert wire.agreed()


def test_refused_dials_lose_nobody() -> None:
    wire = network(b=replace(B, passive=True))
    wire.b.refusing = True
    start(wire)
    wire.run(600 * SECOND)
    failures = [action for _, action in wire.a.log if isinstance(action, AttemptFailed)]
    assert len(failures) > 100
    wire.mend()
    wire.run(606 * SECOND)
    assert wire.agreed()


@pytest.mark.parametrize("seed", range(10))
def test_updates_arrive_whole_and_in_order_however_the_stream_is_cut(seed: int) -> None:
    wire = network(seed)
    start(wire)
    wire.run(30 * SECOND)
    before = len(wire.b.log)
    prefixes = [bytes((24, 10, n >> 8, n & 255)) for n in range(200)]
    attributes = bytes.fromhex("40010100400206020100 00fde9400304c0000201".replace(" ", ""))
    bodies = [b"\x00\x00\x00" + bytes((len(attributes),)) + attributes + nlri for nlri in prefixes]
    messages = [b"\xff" * 16 + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body for body in bodies]
    wire.a.do(SendUpdates(wire.a.peer.generation, messages))
    wire.run(60 * SECOND)
    updates = [action.update for _, action in wire.b.log[before:] if isinstance(action, UpdateReceived)]
    assert [update.announced[0].nlri[0] for update in updates] == prefixes


def test_a_stop_by_hand_reaches_the_other_side_with_its_words() -> None:
    wire = network()
    start(wire)
    wire.run(30 * SECOND)
    wire.a.do(ManualStop(message="maintenance"))
    wire.run(31 * SECOND)
    assert downs(wire.b)[-1].cause.text == 'peer sent Cease, Administrative Shutdown: "maintenance"'
    assert downs(wire.b)[-1].cause.kind is CauseKind.NOTIFICATION_RECEIVED
    wire.run(300 * SECOND)
    assert wire.a.peer.state is State.IDLE
    assert wire.b.peer.state is not State.ESTABLISHED
    wire.a.do(ManualStart())
    wire.run(310 * SECOND)
    assert wire.agreed()
