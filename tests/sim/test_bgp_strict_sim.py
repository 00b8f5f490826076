"""Two whole neighbors whose BFD gates open and close at any time: no session without BFD, and one when it is up.

``bgp_wire.Side`` checks at every step that no session comes up, and no dial goes out, against its own gate.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from bgp_wire import Side, Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.bgp.events import (
    AttemptFailed,
    BfdDown,
    BfdGate,
    BfdUp,
    Cause,
    CauseKind,
    Dial,
    ManualStart,
    SessionDown,
    SessionUp,
    State,
)
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.core import IPV4_UNICAST, MILLISECOND, SECOND, Instant

A = PeerSettings(65001, 65002, 0x01010101, (IPV4_UNICAST,), hold_time_s=9, bfd_strict=True)
B = PeerSettings(65002, 65001, 0x02020202, (IPV4_UNICAST,), hold_time_s=30, bfd_strict=True)
OPEN = BfdGate(closed=False, reason="BFD is up")
RETRY_AND_WAIT = 20 * SECOND  # a wait that has just begun (8 s), the retry time (5 s), and then some

seeds = st.integers(0, 2**32)
identifiers = st.sampled_from([(1, 2), (2, 1), (5, 5), (0xF0000000, 1)])
strictness = st.sampled_from([(True, True), (True, False), (False, True)])
hold_times = st.sampled_from([(9, 30), (0, 30), (3, 3)])
gates = st.builds(
    BfdGate,
    closed=st.sampled_from([True, True, False]),
    reason=st.just("BFD"),
    dials=st.booleans(),
    hold_s=st.sampled_from([None, 0.5, 4, 30]),
)
# when, whose, and whether BFD's own events come with it: before the gate's, after it, or not at all
moves = st.tuples(
    st.integers(0, 40_000), st.sampled_from("ab"), gates, st.sampled_from(["before", "after", "not at all"])
)


def network(seed: int, ids: tuple[int, int] = (1, 2), a: PeerSettings = A, b: PeerSettings = B) -> Wire:
    return Wire(replace(a, router_id=ids[0]), replace(b, router_id=ids[1]), seed)


def sides(wire: Wire) -> tuple[Side, Side]:
    return wire.a, wire.b


def start(wire: Wire, apart: int = 0) -> None:
    wire.at(0, lambda: wire.a.do(ManualStart()))
    wire.at(apart, lambda: wire.b.do(ManualStart()))


def change(side: Side, gate: BfdGate, bfd: str) -> None:
    """What the coupling does when BFD's state changes."""
    if gate.closed == side.gate.closed:
        bfd = "not at all"
    event = BfdDown(Cause(CauseKind.BFD_DOWN, "silence", side.wire.now)) if gate.closed else BfdUp()
    if bfd == "before":
        side.do(event)
    side.do(gate)
    if bfd == "after":
        side.do(event)


def ups(side: Side) -> list[Instant]:
    return [at for at, action in side.log if isinstance(action, SessionUp)]


def downs(side: Side) -> list[SessionDown]:
    return [action for _, action in side.log if isinstance(action, SessionDown)]


def failures(side: Side) -> list[Cause]:
    return [action.cause for _, action in side.log if isinstance(action, AttemptFailed)]


def settled(wire: Wire) -> None:
    """Both are Established on the same connection, nothing else is left, and it lasts."""
    assert wire.agreed(), (wire.a.peer.last_cause, wire.b.peer.last_cause)
    before = [(len(ups(side)), len(downs(side))) for side in sides(wire)]
    wire.run(wire.now + 120 * SECOND)
    assert wire.agreed()
    assert [(len(ups(side)), len(downs(side))) for side in sides(wire)] == before
    assert len(wire.a.pipes) == len(wire.b.pipes) == 1
    for side in sides(wire):
        assert not side.peer.waiting_for_bfd
        assert side.peer.next_attempt_at is None


@settings(max_examples=400, deadline=None)
@given(seeds, identifiers, strictness, hold_times, st.integers(0, 60 * MILLISECOND), st.lists(moves, max_size=16))
def test_gates_that_open_and_close_at_any_time(
    seed: int,
    ids: tuple[int, int],
    strict: tuple[bool, bool],
    hold: tuple[int, int],
    apart: int,
    script: list[tuple[int, str, BfdGate, str]],
) -> None:
    a = replace(A, bfd_strict=strict[0], hold_time_s=hold[0])
    b = replace(B, bfd_strict=strict[1], hold_time_s=hold[1])
    wire = network(seed, ids, a, b)
    start(wire, apart)
    for when_ms, whose, gate, bfd in script:
        side = wire.a if whose == "a" else wire.b
        wire.at(when_ms * MILLISECOND, lambda side=side, gate=gate, bfd=bfd: change(side, gate, bfd))
    wire.run(40 * SECOND)
    # No gate has the other end break a rule, so that nobody has to be kept in an idle hold.
    for side in sides(wire):
        assert all(cause.kind is not CauseKind.NOTIFICATION_SENT for cause in failures(side))
        assert side.peer.state is not State.IDLE
    for side in sides(wire):
        wire.at(wire.now, lambda side=side: change(side, OPEN, "after"))
    wire.run(wire.now + RETRY_AND_WAIT)
    settled(wire)


@settings(max_examples=300, deadline=None)
@given(
    seeds,
    identifiers,
    strictness,
    st.integers(0, 60 * MILLISECOND),
    st.tuples(st.integers(0, 7_000), st.integers(0, 7_000)),
    st.tuples(st.booleans(), st.booleans()),
)
def test_gates_that_open_once_lose_neither_a_connection_nor_a_session(
    seed: int,
    ids: tuple[int, int],
    strict: tuple[bool, bool],
    apart: int,
    open_at_ms: tuple[int, int],
    dials: tuple[bool, bool],
) -> None:
    """Within the hold time: exactly one session each, as soon as both gates are open, in whatever order."""
    wire = network(seed, ids, replace(A, bfd_strict=strict[0]), replace(B, bfd_strict=strict[1]))
    for side, at, dial in zip(sides(wire), open_at_ms, dials, strict=True):
        side.do(BfdGate(closed=True, reason="BFD is down", dials=dial, hold_s=30))
        wire.at(at * MILLISECOND, lambda side=side: side.do(OPEN))
    start(wire, apart)
    wire.run(RETRY_AND_WAIT)
    settled(wire)
    both_open = max(max(open_at_ms) * MILLISECOND, apart)
    for side in sides(wire):
        (up,) = ups(side)
        assert both_open <= up <= both_open + 500 * MILLISECOND  # a few round trips (40 ms at most), and no retry
        assert downs(side) == []
        kinds = {cause.kind for cause in failures(side)}
        # a collision's loser at most, and a dial that was given up for an accepted OPEN
        assert kinds <= {CauseKind.COLLISION, CauseKind.NOTIFICATION_RECEIVED, CauseKind.CONNECTION_LOST}


@pytest.mark.parametrize("strict", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("passive", ["", "a", "b"])
def test_bfd_that_does_not_come_up_for_an_hour_is_no_storm_and_no_deadlock(
    strict: tuple[bool, bool], passive: str
) -> None:
    a = replace(A, bfd_strict=strict[0], passive=passive == "a", hold_time_s=180)
    b = replace(B, bfd_strict=strict[1], passive=passive == "b", hold_time_s=180)
    wire = network(7, a=a, b=b)
    for side, closed in zip(sides(wire), strict, strict=True):
        side.do(BfdGate(closed=closed, reason="BFD is down", hold_s=30))
    start(wire)
    wire.run(3600 * SECOND)
    for side in sides(wire):
        assert ups(side) == []
        assert side.peer.state is not State.IDLE
        dials = [action for _, action in side.log if isinstance(action, Dial)]
        assert len(dials) <= 3600 // 30 * 2
    waited = [cause for side in sides(wire) for cause in failures(side) if cause.kind is CauseKind.BFD_DOWN]
    assert len(waited) >= 3600 // 40
    assert {cause.text for cause in waited} == {"BFD has not come up within 30 s (strict mode): BFD is down"}
    assert all(
        cause.subcode == 10 for side in sides(wire) for cause in failures(side) if cause.subcode not in {None, 7}
    )
    for side in sides(wire):
        side.do(OPEN)
    wire.run(wire.now + 10 * SECOND)
    settled(wire)


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(0, 30_000), st.booleans())
def test_a_path_that_fails_and_comes_back_is_one_flap(seed: int, away_ms: int, dials: bool) -> None:
    """BFD goes down at both ends and comes back: 6/10, held back meanwhile, and one new session."""
    wire = network(seed)
    start(wire)
    wire.run(5 * SECOND)
    assert wire.agreed()
    for side in sides(wire):
        delay = wire.rng.randint(0, 50 * MILLISECOND)
        gate = BfdGate(closed=True, reason="BFD is down", dials=dials, hold_s=30)
        wire.at(wire.now + delay, lambda side=side, gate=gate: change(side, gate, wire.rng.choice(("before", "after"))))
    wire.run(wire.now + 100 * MILLISECOND)
    assert (wire.a.up, wire.b.up) == (None, None)
    wire.run(wire.now + away_ms * MILLISECOND)
    back = wire.now
    for side in sides(wire):
        wire.at(back + wire.rng.randint(0, 50 * MILLISECOND), lambda side=side: change(side, OPEN, "after"))
    wire.run(back + SECOND)
    settled(wire)
    for side in sides(wire):
        assert len(ups(side)) == 2
        (down,) = downs(side)
        assert down.cause.subcode == 10
