"""Two BFD sessions joined by a wire that loses, repeats, reorders and delays, in virtual time."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.bfd.demux import Arrival, Demultiplexer
from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.session import Session
from bgpbfd.bfd.states import Action, Transition, Transmit
from bgpbfd.bfd.timers import TICK_US
from bgpbfd.core import SECOND
from bgpbfd.wire.bfd import ControlPacket
from bgpbfd.wire.iana import BfdState

MS = 1000


@dataclass
class Faults:
    loss: float = 0.0
    duplicates: float = 0.0
    delay_us: int = 100
    spread_us: int = 0
    reorder: bool = False


@dataclass(eq=False)
class Node:
    """A host with one session: demultiplexer, timers that fire up to a tick late, restarts."""

    name: str
    timers: Settings
    rng: Random
    now: int
    remote: str = ""
    local: str | None = None
    ifindex: int | None = None
    discriminator: int = 0
    session: Session = field(init=False)
    demux: Demultiplexer[Node] = field(init=False)
    transitions: list[Transition] = field(default_factory=list)
    heard_by: set[int] = field(default_factory=set)
    """Discriminators of ours that the other node has accepted a packet of."""

    def __post_init__(self) -> None:
        self.restart(self.now)

    def restart(self, now: int) -> None:
        self.discriminator = self.rng.randint(1, 2**32 - 1)
        self.session = Session(local_discriminator=self.discriminator, settings=self.timers, rng=self.rng, now=now)
        self.demux = Demultiplexer()
        self.remote = "peer"
        self.demux.add(self)


class Simulation:
    def __init__(self, seed: int, first: Settings, second: Settings) -> None:
        self.rng = Random(seed)
        self.now = 1_000_000_000
        self.nodes = [Node("a", first, self.rng, self.now), Node("b", second, self.rng, self.now)]
        self.faults = [Faults(), Faults()]  # towards the node of the same index
        self.flying: list[tuple[int, int, int, bytes]] = []
        self.last_arrival = [0, 0]
        self.sequence = 0

    def carry(self, to: int, data: bytes) -> None:
        faults = self.faults[to]
        if self.rng.random() < faults.loss:
            return
        for _ in range(2 if self.rng.random() < faults.duplicates else 1):
            at = self.now + faults.delay_us + self.rng.randint(0, faults.spread_us)
            if not faults.reorder:
                at = max(at, self.last_arrival[to])
            self.last_arrival[to] = at
            self.sequence += 1
            heapq.heappush(self.flying, (at, self.sequence, to, data))

    def act(self, index: int, actions: list[Action], cause: ControlPacket | None) -> None:
        node = self.nodes[index]
        for action in actions:
            if isinstance(action, Transmit):
                self.carry(1 - index, action.data)
                continue
            node.transitions.append(action)
            if action.new is BfdState.UP:
                # Three-way: they told us that they heard us, and they did.
                assert cause is not None
                assert cause.your_discriminator == node.discriminator
                assert cause.state in {BfdState.INIT, BfdState.UP}
                assert node.discriminator in node.heard_by
            if action.blame == "path-loss":
                assert action.last_rx is not None
                late = action.at - (action.last_rx + action.detection_time_us)
                assert 0 <= late <= TICK_US

    def run(self, duration: int) -> None:
        end = self.now + duration
        wakes: list[int | None] = [None, None]
        while True:
            for index, node in enumerate(self.nodes):
                deadline = node.session.next_deadline()
                wakes[index] = None if deadline is None else max(self.now, deadline)
            candidates = [(w, 1, i) for i, w in enumerate(wakes) if w is not None]
            if self.flying:
                candidates.append((self.flying[0][0], 0, -1))
            if not candidates or min(candidates)[0] > end:
                self.now = max(self.now, end)
                return
            at, kind, index = min(candidates)
            self.now = max(self.now, at)
            if kind == 0:
                _, _, to, data = heapq.heappop(self.flying)
                self.deliver(to, data)
            else:
                late = self.rng.randint(0, TICK_US)
                # Within the lateness packets still arrive first, as the worker reads before it judges.
                deadline = self.nodes[index].session.next_deadline()
                assert deadline is not None
                moment = max(self.now, deadline + late)
                while self.flying and self.flying[0][0] <= moment:
                    arrival, _, to, data = heapq.heappop(self.flying)
                    self.now = max(self.now, arrival)
                    self.deliver(to, data)
                self.now = moment
                self.act(index, self.nodes[index].session.wake(moment), None)

    def deliver(self, to: int, data: bytes) -> None:
        node = self.nodes[to]
        found = node.demux.select(data, Arrival("peer", "", 0, 255))
        if found is None:
            return
        packet = found[1]
        self.nodes[1 - to].heard_by.add(packet.my_discriminator)
        self.act(to, node.session.receive(packet, self.now, self.now), packet)

    def restart(self, index: int) -> None:
        self.nodes[index].restart(self.now)

    def change(self, index: int, timers: Settings) -> None:
        self.nodes[index].timers = timers
        self.act(index, self.nodes[index].session.change(timers, self.now), None)

    def admin_down(self, index: int, down: bool) -> None:
        self.act(index, self.nodes[index].session.set_admin_down(down, self.now), None)

    @property
    def states(self) -> list[BfdState]:
        return [n.session.state for n in self.nodes]

    def falls(self) -> int:
        return sum(t.old is BfdState.UP for n in self.nodes for t in n.transitions)

    def assert_agreed(self) -> None:
        assert self.states == [BfdState.UP, BfdState.UP]
        for near, far in ((0, 1), (1, 0)):
            ours, theirs = self.nodes[near].session, self.nodes[far].session
            assert ours.remote_discriminator == theirs.local_discriminator
            assert not ours.polling
            assert ours.desired_min_tx_us == self.nodes[near].timers.desired_min_tx_us
            assert ours.required_min_rx_us == self.nodes[near].timers.required_min_rx_us
            assert ours.transmit_interval_us == max(ours.desired_min_tx_us, theirs.required_min_rx_us)
            assert ours.detection_time_us == theirs.settings.detect_mult * theirs.transmit_interval_us


INTERVALS = st.sampled_from([10 * MS, 50 * MS, 100 * MS, 300 * MS, SECOND])
TIMERS = st.builds(
    lambda tx, rx, mult: Settings(desired_min_tx_us=tx, required_min_rx_us=rx, detect_mult=mult),
    INTERVALS,
    INTERVALS,
    st.integers(3, 6),
)
SEEDS = st.integers(0, 2**32)
SIDES = st.integers(0, 1)
FAULTS = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    duplicates=st.sampled_from([0.0, 0.3]),
    delay_us=st.sampled_from([50, 5 * MS, 80 * MS]),
    spread_us=st.sampled_from([0, 20 * MS, 200 * MS]),
    reorder=st.booleans(),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("faults"), SIDES, FAULTS),
        st.tuples(st.just("restart"), SIDES, st.none()),
        st.tuples(st.just("change"), SIDES, TIMERS),
        st.tuples(st.just("admin"), SIDES, st.booleans()),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(SEEDS, TIMERS, TIMERS, STEPS, st.integers(50 * MS, 3 * SECOND))
def test_whatever_happens_both_ends_agree_when_it_is_over(
    seed: int, first: Settings, second: Settings, steps: list[tuple[str, int, object]], pause: int
) -> None:
    simulation = Simulation(seed, first, second)
    for kind, side, value in steps:
        if kind == "faults":
            assert isinstance(value, Faults)
            simulation.faults[side] = value
        elif kind == "restart":
            simulation.restart(side)
        elif kind == "change":
            assert isinstance(value, Settings)
            simulation.change(side, value)
        else:
            simulation.admin_down(side, bool(value))
        simulation.run(pause)
    simulation.faults = [Faults(), Faults()]
    for side in (0, 1):
        simulation.admin_down(side, False)
    simulation.run(30 * SECOND)
    simulation.assert_agreed()
    falls = simulation.falls()
    simulation.run(5 * SECOND)
    assert simulation.falls() == falls


@settings(max_examples=40, deadline=None)
@given(SEEDS, TIMERS, TIMERS, st.lists(st.tuples(SIDES, TIMERS), max_size=6), st.integers(1, 4 * SECOND))
def test_never_down_while_packets_arrive_in_time_whatever_the_timers_become(
    seed: int, first: Settings, second: Settings, changes: list[tuple[int, Settings]], pause: int
) -> None:
    simulation = Simulation(seed, first, second)
    simulation.faults = [Faults(spread_us=2 * MS, duplicates=0.1), Faults(spread_us=2 * MS, duplicates=0.1)]
    simulation.run(10 * SECOND)
    for side, timers in changes:
        simulation.change(side, timers)
        simulation.run(pause)
    simulation.run(20 * SECOND)
    assert simulation.falls() == 0
    simulation.assert_agreed()


@settings(max_examples=40, deadline=None)
@given(SEEDS, TIMERS, TIMERS, st.integers(0, 3 * SECOND))
def test_rfc5880_6_8_4_a_cut_is_seen_within_the_detection_time(
    seed: int, first: Settings, second: Settings, phase: int
) -> None:
    simulation = Simulation(seed, first, second)
    simulation.run(20 * SECOND + phase)
    expected = [n.session.detection_time_us for n in simulation.nodes]
    simulation.faults = [Faults(loss=1.0), Faults(loss=1.0)]
    cut_at = simulation.now
    simulation.run(30 * SECOND)
    for node, detection_us in zip(simulation.nodes, expected, strict=True):
        [down] = [t for t in node.transitions if t.old is BfdState.UP]
        assert down.detection_time_us == detection_us
        assert down.at <= cut_at + 200 + detection_us + TICK_US
        assert down.blame == "path-loss"


@pytest.mark.parametrize("towards", [0, 1])
def test_one_way_loss_takes_both_ends_down(towards: int) -> None:
    fast = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS)
    simulation = Simulation(3, fast, fast)
    simulation.run(5 * SECOND)
    simulation.faults[towards] = Faults(loss=1.0)
    cut_at = simulation.now
    simulation.run(5 * SECOND)
    deaf = [t for t in simulation.nodes[towards].transitions if t.old is BfdState.UP]
    told = [t for t in simulation.nodes[1 - towards].transitions if t.old is BfdState.UP]
    assert [(t.diag, t.blame) for t in deaf] == [(1, "path-loss")]
    assert [(t.diag, t.blame, t.remote_diag) for t in told] == [(3, "remote-signalled", 1)]
    assert told[0].at <= cut_at + 152 * MS
    # Down on one side, Init on the other: no Up without both directions.
    simulation.run(60 * SECOND)
    assert BfdState.UP not in simulation.states


@settings(max_examples=20, deadline=None)
@given(SEEDS, SIDES, st.integers(1, 5 * SECOND))
def test_fault_7_a_passive_end_that_restarts_is_found_again(seed: int, side: int, pause: int) -> None:
    active = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS)
    passive = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS, passive=True)
    simulation = Simulation(seed, *((passive, active) if side == 0 else (active, passive)))
    simulation.run(10 * SECOND)
    simulation.assert_agreed()
    simulation.restart(side)
    simulation.run(pause)
    simulation.restart(side)
    simulation.run(20 * SECOND)
    simulation.assert_agreed()


def test_rfc5882_3_2_admin_down_is_known_as_such_on_the_other_side() -> None:
    fast = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS)
    simulation = Simulation(5, fast, fast)
    simulation.run(5 * SECOND)
    simulation.admin_down(0, True)
    simulation.run(30 * SECOND)
    assert simulation.states == [BfdState.ADMIN_DOWN, BfdState.DOWN]
    [down] = [t for t in simulation.nodes[1].transitions if t.old is BfdState.UP]
    assert (down.blame, down.remote_admin_down) == ("admin", True)
    simulation.admin_down(0, False)
    simulation.run(5 * SECOND)
    simulation.assert_agreed()


def test_sessions_use_about_their_interval_and_no_more() -> None:
    """A bound on chatter: nothing but the interval, its jitter and the answers to polls."""
    fast = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS)
    simulation = Simulation(8, fast, fast)
    simulation.run(5 * SECOND)
    before = [n.session.packets_sent for n in simulation.nodes]
    simulation.run(100 * SECOND)
    for node, count in zip(simulation.nodes, before, strict=True):
        assert 2000 <= node.session.packets_sent - count <= 2000 / 0.75
