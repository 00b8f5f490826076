"""Two BFD sessions joined by a wire that loses, repeats, reorders and delays, in virtual time.

Demand mode, echo, passive ends and authentication are drawn along with the timers; hosts restart, stall, are switched
off. ``BGPBFD_SIM_FACTOR=20`` makes as many times more runs of it.
"""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field
from random import Random

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bgpbfd.bfd.demux import Arrival, Demultiplexer
from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.session import Session
from bgpbfd.bfd.states import Action, Transition, Transmit, TransmitEcho
from bgpbfd.bfd.timers import LAG_US, TICK_US
from bgpbfd.core import SECOND
from bgpbfd.wire.bfd import ControlPacket
from bgpbfd.wire.iana import BfdState
from tests.unit.bfd.bfd_pulse import PulseShell

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
    shell: PulseShell = field(init=False)
    demux: Demultiplexer[Node] = field(init=False)
    transitions: list[Transition] = field(default_factory=list)
    heard_by: set[int] = field(default_factory=set)
    """Discriminators of ours that the other node has accepted a packet of."""
    stalled_until: int = 0
    demanded: bool = False
    waiting: list[tuple[int, str, bytes]] = field(default_factory=list)
    """What lies in the socket of a node that is stalled, with the time of its arrival."""

    def __post_init__(self) -> None:
        self.demanded = self.timers.demand
        self.restart(self.now)

    def restart(self, now: int) -> None:
        self.discriminator = self.rng.randint(1, 2**32 - 1)
        self.session = Session(local_discriminator=self.discriminator, settings=self.timers, rng=self.rng, now=now)
        self.shell = PulseShell(self.session)
        self.demux = Demultiplexer()
        self.remote = "peer"
        self.demux.add(self)
        self.waiting.clear()

    @property
    def minimum_ttl(self) -> int:
        return 255

    def discard(self, reason: str) -> None:
        self.session.discard(reason)


class Simulation:
    def __init__(self, seed: int, first: Settings, second: Settings) -> None:
        self.rng = Random(seed)
        self.now = 1_000_000_000
        self.nodes = [Node("a", first, self.rng, self.now), Node("b", second, self.rng, self.now)]
        self.faults = [Faults(), Faults()]  # towards the node of the same index
        self.flying: list[tuple[int, int, int, str, bytes]] = []
        self.last_arrival = [0, 0]
        self.sequence = 0

    def carry(self, to: int, data: bytes, kind: str = "control") -> None:
        faults = self.faults[to]
        if self.rng.random() < faults.loss:
            return
        for _ in range(2 if self.rng.random() < faults.duplicates else 1):
            at = self.now + faults.delay_us + self.rng.randint(0, faults.spread_us)
            if not faults.reorder:
                at = max(at, self.last_arrival[to])
            self.last_arrival[to] = at
            self.sequence += 1
            heapq.heappush(self.flying, (at, self.sequence, to, kind, data))

    def act(self, index: int, actions: list[Action], cause: ControlPacket | None, *, told: bool = True) -> None:
        """``told``: the session heard of something; else it came to a deadline of its own."""
        node = self.nodes[index]
        if told:
            node.shell.arm()
        for action in actions:
            if isinstance(action, Transmit):
                self.carry(1 - index, action.data)
                continue
            if isinstance(action, TransmitEcho):
                assert node.session.state is BfdState.UP  # RFC 5880 §6.8.9
                self.carry(1 - index, action.data, "echo")
                continue
            node.transitions.append(action)
            if action.new is BfdState.UP:
                # Three-way: they told us that they heard us, and they did.
                assert cause is not None
                assert cause.your_discriminator == node.discriminator
                assert cause.state in {BfdState.INIT, BfdState.UP}
                assert node.discriminator in node.heard_by
            if action.blame == "path-loss" and action.diag == 1:
                assert action.last_rx is not None
                due = action.last_rx + action.detection_time_us
                # In demand mode silence is first noticed, and then asked about: twice the detection time. After a stall
                # it is judged when the stall is over, after demand mode from its end.
                if not node.demanded:
                    assert due <= action.at <= max(due, node.stalled_until) + TICK_US

    def run(self, duration: int) -> None:
        end = self.now + duration
        while True:
            candidates: list[tuple[int, int, int]] = []
            for index, node in enumerate(self.nodes):
                deadline = node.shell.next_at()
                # By when each is due, though the clock may be past that: a turn of the one is no delay of the other.
                if node.waiting:
                    candidates.append((node.stalled_until, 1, index))
                elif deadline is not None:
                    candidates.append((max(deadline, node.stalled_until), 1, index))
            if self.flying:
                candidates.append((self.flying[0][0], 0, -1))
            if not candidates or min(candidates)[0] > end:
                self.now = max(self.now, end)
                return
            at, kind, index = min(candidates)
            self.now = max(self.now, at)
            if kind == 0:
                self.land()
            else:
                self.wake(index, at)

    def wake(self, index: int, due: int) -> None:
        """The shell's turn: up to a tick late, packets before deadlines."""
        node = self.nodes[index]
        moment = max(self.now, due + self.rng.randint(0, TICK_US))
        while self.flying and self.flying[0][0] <= moment:
            self.now = max(self.now, self.flying[0][0])
            self.land()
        self.now = moment
        for at, kind, data in list(node.waiting):
            self.hand_in(index, kind, data, at)
        node.waiting.clear()
        self.act(index, node.shell.turn(moment, LAG_US), None, told=False)

    def land(self) -> None:
        at, _, to, kind, data = heapq.heappop(self.flying)
        self.now = max(self.now, at)
        node = self.nodes[to]
        if node.stalled_until > self.now:
            node.waiting.append((self.now, kind, data))
        else:
            self.hand_in(to, kind, data, self.now)

    def hand_in(self, to: int, kind: str, data: bytes, at: int) -> None:
        node = self.nodes[to]
        if kind == "answer":
            self.act(to, node.session.receive_echo(data, at, self.now), None)
        elif kind == "echo":
            if node.session.state is BfdState.UP and node.session.settings.required_min_echo_rx_us:
                self.carry(1 - to, data, "answer")
        else:
            self.deliver(to, data, at)

    def stall(self, index: int, duration: int) -> None:
        """The host's process does not run; its kernel goes on."""
        self.nodes[index].stalled_until = self.now + duration

    def deliver(self, to: int, data: bytes, at: int) -> None:
        node = self.nodes[to]
        found = node.demux.select(data, Arrival("peer", "", 0, 255))
        if found is None:
            return
        packet = found[1]
        before = node.session.packets_received
        actions = node.session.receive(packet, at, self.now, data)
        if node.session.packets_received > before:  # it was believed
            self.nodes[1 - to].heard_by.add(packet.my_discriminator)
        self.act(to, actions, packet)

    def restart(self, index: int) -> None:
        self.nodes[index].restart(self.now)

    def change(self, index: int, timers: Settings) -> None:
        self.nodes[index].timers = timers
        self.nodes[index].demanded |= timers.demand
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
            assert ours.demand_in_force or not ours.polling  # in demand mode a poll is how life is proved
            assert ours.desired_min_tx_us == self.nodes[near].timers.desired_min_tx_us
            required = self.nodes[near].timers.required_min_rx_us
            assert ours.required_min_rx_us == (max(required, SECOND) if ours.echo.working else required)
            assert ours.transmit_interval_us == max(ours.desired_min_tx_us, theirs.required_min_rx_us)
            assert ours.detection_time_us == theirs.settings.detect_mult * theirs.transmit_interval_us


INTERVALS = st.sampled_from([30 * MS, 50 * MS, 100 * MS, 300 * MS, SECOND])
TIMERS = st.builds(
    lambda tx, rx, mult: Settings(desired_min_tx_us=tx, required_min_rx_us=rx, detect_mult=mult),
    INTERVALS,
    INTERVALS,
    st.integers(3, 6),
)
ECHOES = st.sampled_from([0, 0, 20 * MS, 100 * MS])
MODES = st.builds(
    lambda timers, demand, echo, echo_rx: msgspec.structs.replace(
        timers, demand=demand, echo_tx_us=echo, required_min_echo_rx_us=echo_rx
    ),
    TIMERS,
    st.booleans(),
    ECHOES,
    ECHOES,
)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a failure names its seed; to shrink it takes minutes
FACTOR = int(os.environ.get("BGPBFD_SIM_FACTOR", "1"))
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
        st.tuples(st.just("change"), SIDES, MODES),
        st.tuples(st.just("stall"), SIDES, st.sampled_from([30 * MS, 200 * MS, 2 * SECOND])),
        st.tuples(st.just("admin"), SIDES, st.booleans()),
    ),
    max_size=8,
)


@settings(max_examples=80 * FACTOR, deadline=None, phases=PHASES)
@given(SEEDS, MODES, MODES, STEPS, st.integers(50 * MS, 3 * SECOND))
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
        elif kind == "stall":
            assert isinstance(value, int)
            simulation.stall(side, value)
        else:
            simulation.admin_down(side, bool(value))
        simulation.run(pause)
    simulation.faults = [Faults(), Faults()]
    for side in (0, 1):
        simulation.admin_down(side, False)
    simulation.run(20 * SECOND)
    simulation.assert_agreed()
    falls = simulation.falls()
    simulation.run(5 * SECOND)
    assert simulation.falls() == falls


@settings(max_examples=40 * FACTOR, deadline=None, phases=PHASES)
@given(SEEDS, MODES, MODES, st.lists(st.tuples(SIDES, MODES), max_size=6), st.integers(1, 4 * SECOND))
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


@settings(max_examples=40 * FACTOR, deadline=None, phases=PHASES)
@given(SEEDS, TIMERS, TIMERS, st.integers(0, 3 * SECOND))
def test_rfc5880_6_8_4_a_cut_is_seen_within_the_detection_time(
    seed: int, first: Settings, second: Settings, phase: int
) -> None:
    simulation = Simulation(seed, first, second)
    simulation.run(12 * SECOND + phase)
    expected = [n.session.detection_time_us for n in simulation.nodes]
    simulation.faults = [Faults(loss=1.0), Faults(loss=1.0)]
    cut_at = simulation.now
    simulation.run(10 * SECOND)
    for node, detection_us in zip(simulation.nodes, expected, strict=True):
        [down] = [t for t in node.transitions if t.old is BfdState.UP]
        assert down.detection_time_us == detection_us
        assert down.at <= cut_at + 200 + detection_us + TICK_US
        assert down.blame == "path-loss"


@settings(max_examples=40 * FACTOR, deadline=None, phases=PHASES)
@given(SEEDS, MODES, MODES, st.integers(0, 3 * SECOND))
def test_a_cut_is_seen_in_every_mode(seed: int, first: Settings, second: Settings, phase: int) -> None:
    """Demand mode: silence is noticed, then asked about (§6.6). Echo: sooner than by control packets (§6.4)."""
    simulation = Simulation(seed, first, second)
    simulation.run(12 * SECOND + phase)
    simulation.assert_agreed()
    limits = []
    for node in simulation.nodes:
        session = node.session
        limit = session.detection_in_force_us * (2 if session.demand_in_force else 1)
        if session.echo.working:
            limit = min(limit, (session.settings.detect_mult + 1) * session.echo.interval_us)
        limits.append(limit)
    simulation.faults = [Faults(loss=1.0), Faults(loss=1.0)]
    cut_at = simulation.now
    simulation.run(15 * SECOND)
    for node, limit in zip(simulation.nodes, limits, strict=True):
        [down] = [t for t in node.transitions if t.old is BfdState.UP]
        assert down.at <= cut_at + 200 + limit + 4 * TICK_US
        assert down.blame == "path-loss"


@settings(max_examples=40 * FACTOR, deadline=None, phases=PHASES)
@given(SEEDS, SIDES, st.lists(st.integers(1, 5 * SECOND), min_size=1, max_size=5))
def test_fault_4_a_stall_of_ours_never_takes_the_neighbor_down(seed: int, side: int, stalls: list[int]) -> None:
    """The neighbor hears us rarely and is patient; its packets lie in our socket, and count from their arrival."""
    ours = Settings(desired_min_tx_us=SECOND, required_min_rx_us=50 * MS, detect_mult=10)
    theirs = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=SECOND, detect_mult=3)
    simulation = Simulation(seed, *((ours, theirs) if side == 0 else (theirs, ours)))
    simulation.run(10 * SECOND)
    assert simulation.nodes[side].session.detection_time_us == 150 * MS
    for duration in stalls:
        simulation.stall(side, duration)
        simulation.run(duration + SECOND)
    assert simulation.falls() == 0


@settings(max_examples=40 * FACTOR, deadline=None, phases=PHASES)
@given(SEEDS, SIDES, st.integers(0, 60 * MS))
def test_a_stop_of_100_ms_at_50_ms_x_3_is_no_flap(seed: int, side: int, phase: int) -> None:
    """Of neither end: the last packet before it is at most 50 ms old, and the next one leaves at once after it."""
    fast = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS)
    simulation = Simulation(seed, fast, fast)
    simulation.run(5 * SECOND + phase)
    for _ in range(5):
        simulation.stall(side, 99 * MS)  # and up to a tick until it runs again
        simulation.run(400 * MS + phase)
    assert simulation.falls() == 0


@settings(max_examples=25 * FACTOR, deadline=None, phases=PHASES)
@given(SEEDS, SIDES, st.integers(200 * MS, 3 * SECOND))
def test_a_stall_that_the_neighbor_notices_is_blamed_on_ourselves(seed: int, side: int, duration: int) -> None:
    fast = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS)
    simulation = Simulation(seed, fast, fast)
    simulation.run(10 * SECOND)
    simulation.stall(side, duration)
    simulation.run(duration + 10 * SECOND)
    [theirs] = [t for t in simulation.nodes[1 - side].transitions if t.old is BfdState.UP]
    [ours] = [t for t in simulation.nodes[side].transitions if t.old is BfdState.UP]
    assert (theirs.blame, theirs.diag) == ("path-loss", 1)
    assert (ours.blame, ours.remote_diag) == ("local-stall", 1)
    simulation.assert_agreed()


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


@settings(max_examples=20 * FACTOR, deadline=None, phases=PHASES)
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
