"""Two BGP neighbors' cores joined by a simulated TCP, in virtual time.

The wire delays, cuts the stream anywhere, refuses and swallows dials, resets connections at both ends or only one
(half-open: the other end learns it from the reset that answers its next segment), and loses a host whole.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bgpbfd.bgp.events import (
    Action,
    BfdGate,
    CauseKind,
    Close,
    ConnId,
    DataReceived,
    Dial,
    Endpoint,
    Event,
    Send,
    SessionDown,
    SessionUp,
    State,
    StateChanged,
    TcpConnectionConfirmed,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
    UpdateReceived,
)
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.bgp.peer import Peer
from bgpbfd.core import MILLISECOND, Instant, Micros


@dataclass(eq=False)
class Pipe:
    """A TCP connection: the connection ids at the dialling and the accepting end, and who still holds it."""

    dialler: Side
    acceptor: Side
    ids: dict[str, ConnId]
    open_at: set[str]
    lingering: set[str] = field(default_factory=set)  # half-closed, and reads off what still comes
    # Per receiving end, for TCP keeps the order:
    arrives: dict[str, Instant] = field(default_factory=dict)
    queues: dict[str, deque[tuple[Peer, bytes | None]]] = field(default_factory=dict)

    def far(self, side: Side) -> Side:
        return self.acceptor if side is self.dialler else self.dialler


class Side:
    """One host: its core, and the checks that hold after every step."""

    def __init__(self, name: str, address: int, settings: PeerSettings, wire: Wire) -> None:
        self.name = name
        self.settings = settings
        self.wire = wire
        self.endpoint = Endpoint(bytes((192, 0, 2, address)), f"192.0.2.{address}", 179)
        self.log: list[tuple[Instant, Action]] = []
        self.refusing = False
        self.boot()

    def boot(self) -> None:
        self.peer = Peer("peer", self.settings, random.Random(self.wire.rng.random()))
        self.pipes: dict[ConnId, Pipe] = {}
        self.up: int | None = None
        self.gate = BfdGate(closed=False)
        self.seen_state = State.IDLE

    def do(self, event: Event) -> None:
        now = self.wire.now
        if isinstance(event, BfdGate):
            self.gate = event
        actions = self.peer.handle(event, now)
        self.log += [(now, action) for action in actions]
        for action in actions:
            self._check(action)
        assert self.seen_state is self.peer.state
        assert (self.up is not None) == (self.peer.state is State.ESTABLISHED)
        if isinstance(event, TimerExpired):
            deadline = self.peer.next_deadline()
            assert deadline is None or deadline > now, "a deadline in the past"
        cause = self.peer.last_cause
        assert cause is None or cause.kind is not CauseKind.INTERNAL_ERROR, cause
        for action in actions:
            self._carry_out(action)

    def _check(self, action: Action) -> None:
        match action:
            case StateChanged():
                assert action.old is self.seen_state
                self.seen_state = action.new
            case Dial():
                assert self.gate.dials or not self.gate.closed, "dials before BFD is up"
            case SessionUp():
                assert not self.gate.closed, "a session without BFD"
                assert self.up is None, "two sessions at once"
                self.up = action.generation
            case SessionDown():
                assert self.up == action.generation
                self.up = None
            case UpdateReceived():
                assert self.up == action.generation
            case _:
                pass

    def _carry_out(self, action: Action) -> None:
        match action:
            case Dial():
                self.wire.dial(self, action.conn)
            case Send():
                assert action.conn in self.pipes, "bytes for a connection that is not open"
                self.wire.send(self, self.pipes[action.conn], action.data)
            case Close():
                self.wire.close(self, action.conn, action.linger)
            case _:
                pass


class Wire:
    """The network between ``a`` and ``b``."""

    def __init__(self, a: PeerSettings, b: PeerSettings, seed: int, max_delay: Micros = 20 * MILLISECOND) -> None:
        self.rng = random.Random(seed)
        self.now: Instant = 0
        self.cut = False
        self.max_delay = max_delay
        self._events: list[tuple[Instant, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._given_up: dict[Peer, set[ConnId]] = {}  # dials that were closed before their answer came
        self._held: list[Callable[[], None]] = []  # what TCP sends again when the cut is mended
        self.a = Side("a", 1, a, self)
        self.b = Side("b", 2, b, self)

    def far(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    def at(self, when: Instant, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._count), what))

    def run(self, until: Instant) -> None:
        steps = 0
        while True:
            deadlines = [(d, side) for side in (self.a, self.b) if (d := side.peer.next_deadline()) is not None]
            timer = min(deadlines, key=lambda entry: entry[0], default=None)
            if self._events and (timer is None or self._events[0][0] <= timer[0]):
                if self._events[0][0] > until:
                    break
                self.now, _, what = heapq.heappop(self._events)
                what()
            elif timer is not None and timer[0] <= until:
                self.now = max(self.now, timer[0])
                timer[1].do(TimerExpired())
            else:
                break
            steps += 1
            assert steps < 20_000, "a storm of events"
        self.now = until

    # -- TCP -----------------------------------------------------------------------------------------------

    def dial(self, side: Side, conn: ConnId) -> None:
        peer = side.peer
        delay = self._delay()

        def arrive() -> None:
            far = self.far(side)
            if self.cut:
                return  # no answer: the dialler's own time limit ends it
            if far.refusing:
                self.at(self.now + delay, refused)
                return
            pipe = Pipe(side, far, {side.name: conn, far.name: far.peer.new_connection_id()}, {side.name, far.name})
            far.pipes[pipe.ids[far.name]] = pipe
            self.at(self.now + delay, lambda: answered(pipe))
            far.do(TcpConnectionConfirmed(pipe.ids[far.name], far.endpoint, side.endpoint))

        def refused() -> None:
            if side.peer is peer:
                side.do(TcpConnectionFails(conn, "connection refused"))

        def answered(pipe: Pipe) -> None:
            if side.peer is not peer or conn in given_up:
                pipe.open_at.discard(side.name)
                self._fail(pipe, self.far(side), "connection reset")
                return
            side.pipes[conn] = pipe
            side.do(TcpCrAcked(conn, side.endpoint, self.far(side).endpoint))

        given_up: set[ConnId] = self._given_up.setdefault(side.peer, set())
        self.at(self.now + delay, arrive)

    def send(self, side: Side, pipe: Pipe, data: bytes) -> None:
        while data:
            size = self.rng.choice((1, 7, 19, 64, 1460, len(data)))
            segment, data = data[:size], data[size:]
            self._deliver(side, pipe, segment)

    def close(self, side: Side, conn: ConnId, linger: bool) -> None:
        self._given_up.setdefault(side.peer, set()).add(conn)
        pipe = side.pipes.pop(conn, None)
        if pipe is not None:
            pipe.open_at.discard(side.name)
            if linger:
                pipe.lingering.add(side.name)
            self._deliver(side, pipe, None)

    def _deliver(self, side: Side, pipe: Pipe, segment: bytes | None) -> None:
        """Bring ``segment`` (None: the end of the stream) to the other end, in order."""
        far = pipe.far(side)
        queue = pipe.queues.setdefault(far.name, deque())
        queue.append((far.peer, segment))

        def arrive() -> None:
            if self.cut:
                self._held.append(arrive)
                return
            if far is pipe.dialler and far.name in pipe.open_at and pipe.ids[far.name] not in far.pipes:
                self.at(self.now + MILLISECOND, arrive)  # before its own end is up
                return
            peer, segment = queue.popleft()
            if far.peer is not peer or far.name not in pipe.open_at:
                if segment is not None and side.name in pipe.open_at and far.name not in pipe.lingering:
                    self._fail(pipe, side, "connection reset")  # TCP answers a stray segment with a reset
            elif segment is None:
                self._fail(pipe, far, "the peer closed the connection")
            else:
                far.do(DataReceived(pipe.ids[far.name], segment))

        when = max(pipe.arrives.get(far.name, 0) + 1, self.now + self._delay())
        pipe.arrives[far.name] = when
        self.at(when, arrive)

    def _fail(self, pipe: Pipe, side: Side, error: str) -> None:
        if side.name in pipe.open_at:
            pipe.open_at.discard(side.name)
            conn = pipe.ids[side.name]
            if side.pipes.pop(conn, None) is not None:
                side.do(TcpConnectionFails(conn, error))

    def _delay(self) -> Micros:
        return self.rng.randint(50, self.max_delay)

    # -- faults --------------------------------------------------------------------------------------------

    def reset(self, *, half: Side | None = None) -> None:
        """Break every connection, at both ends or only at ``half``."""
        for side in (self.a, self.b):
            if half is None or half is side:
                for pipe in list(side.pipes.values()):
                    self._fail(pipe, side, "connection reset")

    def mend(self) -> None:
        self.cut = False
        self.a.refusing = self.b.refusing = False
        held, self._held = self._held, []
        for arrive in held:
            self.at(self.now, arrive)

    def lose_host(self, side: Side) -> None:
        """The host is gone without a word and comes back with no memory."""
        for pipe in side.pipes.values():
            pipe.open_at.discard(side.name)
            pipe.lingering.discard(side.name)
        side.boot()

    # -- what must hold at rest ------------------------------------------------------------------------------

    def agreed(self) -> bool:
        a, b = self.a.peer.established_conn, self.b.peer.established_conn
        if a is None or b is None:
            return False
        return self.a.pipes.get(a) is not None and self.a.pipes[a] is self.b.pipes.get(b)
