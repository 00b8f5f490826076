"""The packets of all sessions, in and out, and their deadlines: what the BFD worker does between two commands.

Packets come in by ``read_ready``, and ``turn`` does what is due. Both have a short way for what a session does nearly
always (the same packet once more), with the long one as its twin: the rules are in ``session``, and the tests compare
the two. What is short about it: one look-up finds the session of a packet and says that it is valid; the next
transmission is a step on a wheel; the detection time is looked at when a packet goes out, and has a deadline of its own
only when it ends before the next one.

A wake-up costs more than a packet. Where many come, the sockets of steady packets are not waited for, but read by a
tick, which leaves the jitter its window (``timers.tick_us``). The kernel's time stamps say when each came, and what
could change a state comes by another socket, and at once.

A turn reads before it judges: before a neighbor is declared silent the sockets are read once more, so that a stall of
this process never counts as one of the neighbor.
"""

from __future__ import annotations

import contextlib
import heapq
import ipaddress
import os
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from bgpbfd.bfd import batch
from bgpbfd.bfd.batch import BatchReader
from bgpbfd.bfd.demux import Arrival, Demultiplexer
from bgpbfd.bfd.echoes import Echoes
from bgpbfd.bfd.listeners import WELCOME_MOST, Listeners, echo_port, multihop_port
from bgpbfd.bfd.outbox import Outbox
from bgpbfd.bfd.owner import Owner, late_packets, state_change
from bgpbfd.bfd.protocol import AcceptUnsolicited, Add, Settings, Unsolicited
from bgpbfd.bfd.pulse import Pulse
from bgpbfd.bfd.senders import Senders
from bgpbfd.bfd.sockets import DISCRIMINATOR_PREFIX_BITS, Kind, Listener, monotonic_us
from bgpbfd.bfd.states import Action, Transition, Transmit
from bgpbfd.bfd.timers import LAG_US, TICK_MAX_US, TICK_US, tick_us
from bgpbfd.core import MILLISECOND, SECOND, Instant, Micros
from bgpbfd.wire.bfd import SINGLE_HOP_TTL, Discard
from bgpbfd.wire.iana import BfdState

BUSY_US: Micros = 200 * MILLISECOND
PACE_US: Micros = 100 * MILLISECOND
TICKING_FROM, TICKING_TO = 600, 300
"""Packets a second, both ways, from which on the loop goes by the tick, and below which it is woken by each again."""
AWAKE_US: Micros = MILLISECOND // 2
"""How long before a verdict the worker wakes up."""
BURST = 256
"""Packets a tick, both ways: what goes out has to fit into a neighbor's socket (Linux: some 270 by default)."""

_DISCRIMINATOR_BITS = 32 - DISCRIMINATOR_PREFIX_BITS


class Traffic:
    """``flush``: hand over to the main process what the outbox holds; ``later``: call back at a time."""

    def __init__(
        self,
        epoll: select.epoll,
        outbox: Outbox,
        rng: Random,
        *,
        flush: Callable[[], None],
        later: Callable[[Instant, Callable[[Instant], None]], None],
    ) -> None:
        self._epoll = epoll
        self._outbox = outbox
        self._rng = rng
        self._flush = flush
        self._later = later
        self._prefix = rng.randint(1, (1 << DISCRIMINATOR_PREFIX_BITS) - 1)
        self._listeners = Listeners(epoll, outbox.post, self._prefix)
        self._senders = Senders(outbox, rng, self._sender_gone)
        self._demux: Demultiplexer[Owner] = Demultiplexer()
        self._multihop: Demultiplexer[Owner] = Demultiplexer(multihop=True)
        self._steady: dict[bytes, Owner] = {}
        self._steady_multihop: dict[bytes, Owner] = {}
        self._echoes = Echoes(epoll, self._demux, self._senders, self.carry_out)
        self._heap: list[tuple[Instant, int, Owner]] = []
        self._sequence = 0
        self._pulse = Pulse(rng, resend=self._senders.send, watch=self._arm_at)
        self._lost_at: Instant = 0
        self._busy_until: Instant = 0
        self._reader = _batch_reader()
        self._ticking = False
        self._tick_most_us: Micros = TICK_MAX_US
        self._tick_at: Instant = 0
        self._paced_at: Instant = 0
        self._received = 0  # since then

    def next_deadline(self) -> Instant | None:
        at = self._tick_at if self._ticking else self._pulse.next_at()
        if self._heap:
            first, _, owner = self._heap[0]
            if _is_verdict(owner, first):
                first -= AWAKE_US
            if at is None or first < at:
                return first
        return at

    def read_ready(self, fd: int) -> None:
        """The epoll says that there is something to read."""
        listener = self._listeners.get(fd)
        now = monotonic_us()
        if listener is None:
            self._echoes.read(fd, now)
            return
        if listener.kind is Kind.KNOWN:
            # What the neighbor sent before it must not be heard after it.
            for steady in self._listeners.of_kind(Kind.STEADY):
                self._read(steady, now)
        self._read(listener, now)

    def turn(self, now: Instant) -> None:
        """What is due at ``now``."""
        if not self._ticking:
            self._transmit(now)
        elif now >= self._tick_at:
            # Of no constant length: much of the jitter comes from it.
            self._tick_at = now + int(self._tick_us() * (0.75 + 0.25 * self._rng.random()))
            for listener in self._listeners.of_kind(Kind.STEADY):
                self._read(listener, now)
            self._transmit(now)
        self._run_deadlines(now)
        if now - self._paced_at >= PACE_US:
            self._pace(now)

    def _pace(self, now: Instant) -> None:
        rate = (self._received + self._pulse.sent) * SECOND // (now - self._paced_at)
        self._paced_at, self._received, self._pulse.sent = now, 0, 0
        self._tick_most_us = max(TICK_US, BURST * SECOND // (rate or 1))
        ticking = rate > (TICKING_TO if self._ticking else TICKING_FROM)
        if ticking != self._ticking:
            self._ticking, self._tick_at = ticking, now
            self._listeners.wait_for_steady(not ticking)
            for owner in (*self._demux.by_discriminator.values(), *self._multihop.by_discriminator.values()):
                self._arm(owner)

    def housekeeping(self, now: Instant, owners: Iterable[Owner]) -> None:
        """Once a second: what could not be opened, packets that were dropped or late, and the tick."""
        if not self._listeners.complete:
            self._listeners.bind()
        tick = TICK_MAX_US
        for owner in owners:
            if owner.sock is None:
                self.open(owner)
            if owner.beat is not None:
                tick = min(tick, tick_us(owner.session.transmit_interval_us, owner.session.settings.detect_mult))
            if (late := late_packets(owner, now)) is not None:
                self._outbox.post(late)
        self._pulse.tick_us = tick
        self._note_drops(now)
        self._echoes.housekeeping(owners)

    def bind(self, addresses: list[str], port: int, owners: Iterable[Owner]) -> None:
        """Listen on these addresses; another port (tests have their own) means other senders as well."""
        moved = list(owners) if port != self._listeners.port else []
        for owner in moved:
            self._senders.close(owner)
        self._listeners.want(addresses, port)
        for owner in moved:
            self.open(owner)

    def accept_unsolicited(self, command: AcceptUnsolicited) -> None:
        self._demux.welcome = _welcome(command) if command.networks else None

    def possible(self, settings: Settings, remote: str) -> tuple[Settings, str | None]:
        """As much of ``settings`` as this process can do, and why not all of it."""
        return self._echoes.possible(settings, remote)

    def discards(self) -> dict[str, int]:
        """Of packets that no session could be found for, by reason."""
        return dict(Counter(self._demux.discards) + Counter(self._multihop.discards))

    def clear_discards(self) -> None:
        self._demux.discards.clear()
        self._multihop.discards.clear()

    # -- packets ---------------------------------------------------------------------------------------------

    def _read(self, listener: Listener, until: Instant) -> None:
        if listener.kind is Kind.STEADY and self._reader is not None:
            self._read_steady(listener, self._reader, until)
            return
        most = self._listeners.most(listener)
        welcome = WELCOME_MOST if until >= self._busy_until else 1
        count = taken = 0
        if listener.kind is Kind.ECHO:
            for data, arrival, _ in listener.packets(until, most):
                count += 1
                self._echoes.return_to(listener, data, arrival)
        else:
            demux = self._multihop if listener.multihop else self._demux
            all_steady = self._steady_multihop if listener.multihop else self._steady
            for data, arrival, at in listener.packets(until, most):
                count += 1
                owner = all_steady.get(data)
                if (
                    owner is not None
                    and arrival.ttl >= (owner.minimum_ttl if listener.multihop else SINGLE_HOP_TTL)
                    and (owner.ifindex is None or owner.ifindex == arrival.ifindex)
                ):
                    # The same bytes as last time: validated then, and nothing but the detection timer is moved.
                    owner.session.receive_steady(at)
                elif self._take(demux, data, arrival, at, listener.kind) and listener.kind is Kind.STRANGER:
                    taken += 1
                    if taken >= welcome:
                        most = count
                        break
        self._received += count
        if most is not None and count >= most:
            self._later(self._listeners.rest(listener, until), self._listeners.wake)
        if self._demux.asking:
            self._tell_who_asks()

    def _read_steady(self, listener: Listener, reader: BatchReader, until: Instant) -> None:
        """What ``_read`` does, where the kernel has looked at TTL and discriminator, for many packets at once.

        A thousand sessions at 50 ms come here 23,000 times a second.
        """
        all_steady = self._steady
        count = batch.SIZE
        while count == batch.SIZE:
            times = listener.read_batch(reader)
            count = len(times)
            for index, data in enumerate(reader.payloads):
                owner = all_steady.get(data)
                if owner is not None and owner.ifindex is None:
                    owner.session.receive_steady(times[index])
                else:
                    self._take_of(reader, index, times[index])
            self._received += count
            if count and times[-1] > until:
                break

    def _take_of(self, reader: BatchReader, index: int, at: Instant) -> None:
        """One packet of a batch that has to be looked at, or its interface at least."""
        data, arrival = reader.payloads[index], reader.arrival(index)
        owner = self._steady.get(data)
        if owner is not None and owner.ifindex == arrival.ifindex:
            owner.session.receive_steady(at)
        else:
            self._take(self._demux, data, arrival, at)

    def _take(
        self, demux: Demultiplexer[Owner], data: bytes, arrival: Arrival, at: Instant, kind: Kind = Kind.KNOWN
    ) -> bool:
        """One packet that has to be looked at; whether it was a session's."""
        found = demux.select(data, arrival)
        if found is None:
            return False
        owner, packet = found
        last_rx = owner.session.last_rx
        if kind is Kind.STRANGER and last_rx is not None and at <= last_rx:
            # It waited in the strangers' queue, and what the neighbor sent after it has been heard already: its Down
            # of then must not undo the Up of now.
            demux.discard(Discard.OVERTAKEN)
            return False
        self.forget_steady(owner)
        if arrival.ifindex and arrival.ifindex != owner.arrived_on and not demux.multihop:
            self._echoes.heard(owner, arrival.ifindex)
        now = monotonic_us()
        self.carry_out(owner, owner.session.receive(packet, at, now, data))
        if owner.session.is_steady(packet):
            owner.steady_rx = data
            (self._steady_multihop if demux.multihop else self._steady)[data] = owner
        return True

    def forget_steady(self, owner: Owner) -> None:
        if owner.steady_rx is not None:
            (self._steady_multihop if owner.add.multihop else self._steady).pop(owner.steady_rx, None)
            owner.steady_rx = None

    def _tell_who_asks(self) -> None:
        for arrival in self._demux.asking.values():
            with contextlib.suppress(OSError):  # the interface is gone again
                interface = socket.if_indextoname(arrival.ifindex)
                self._outbox.post(Unsolicited(remote=arrival.remote, local=arrival.local, interface=interface))
        self._demux.asking.clear()

    def _transmit(self, now: Instant) -> None:
        others = self._pulse.transmit(now, LAG_US + (self._tick_us() if self._ticking else 0))
        if self._pulse.behind:
            # Sessions that are up come before those that want to be: else a moment of too much work ends in sessions
            # that go down, come up and thereby bring down others.
            self._busy_until = now + BUSY_US
        if others:
            self._judge(others, now)

    def _tick_us(self) -> Micros:
        return min(self._pulse.tick_us, self._tick_most_us)

    def _run_deadlines(self, now: Instant) -> None:
        heap = self._heap
        due: list[Owner] = []
        if heap and now < heap[0][0] <= now + AWAKE_US and _is_verdict(heap[0][2], heap[0][0]):
            now = self._await(heap[0][0])
        if heap and now > heap[0][0] + LAG_US:
            self._busy_until = now + BUSY_US
        while heap and heap[0][0] <= now:
            at, _, owner = heapq.heappop(heap)
            if owner.armed == at and not owner.closed:
                owner.armed = None
                due.append(owner)
        if due:
            self._judge(due, now)

    def _await(self, at: Instant) -> Instant:
        """Until a verdict that is near, awake: to be woken takes as long, and the caches are full of what is needed."""
        while (now := monotonic_us()) < at:
            self._read_before_verdict(now)
        return now

    def _read_before_verdict(self, now: Instant) -> None:
        """What reached the host before ``now`` is handed in before ``now`` is judged by."""
        if not self._ticking and not self._epoll.poll(0):
            self._note_drops(now)  # nothing has, says one call for all sockets: the neighbor is silent, and BGP waits
            return
        for listener in list(self._listeners.of_sessions()):
            self._read(listener, now)
        self._echoes.read_all(now)
        self._note_drops(now)

    def _judge(self, due: list[Owner], now: Instant) -> None:
        """What the rules say to deadlines that may have come."""
        expiring = False
        for owner in due:
            expiry = owner.session.judged_at()
            expiring = expiring or (expiry is not None and expiry <= now)
        if expiring:
            self._read_before_verdict(now)
        for owner in due:
            if owner.closed:
                continue
            last_rx = owner.session.last_rx
            evidence_lost = expiring and last_rx is not None and self._lost_at >= last_rx
            self.carry_out(owner, owner.session.wake(now, evidence_lost))

    def _note_drops(self, now: Instant) -> None:
        for listener in self._listeners.of_sessions():
            if listener.lost_packets():
                self._lost_at = now

    def carry_out(self, owner: Owner, actions: Iterable[Action]) -> None:
        """What a session wants done, and then its next deadline."""
        for action in actions:
            if isinstance(action, Transmit):
                self._senders.send(owner, action.data)
            elif isinstance(action, Transition):
                self.forget_steady(owner)
                if not owner.leaving:
                    self._outbox.post(state_change(owner.add, action))
                    self._flush()  # now: what the main process does about a Down is a race with the neighbor
                    if action.old is BfdState.UP:
                        os.sched_yield()  # on a host of one core it would wait for us to finish
            else:
                self._echoes.send(owner, action.data, self._listeners.port)
        self._arm(owner)

    def _arm(self, owner: Owner) -> None:
        if owner.closed:
            return
        owner.session.ticked = self._ticking
        deadline = self._pulse.arm(owner)
        if deadline is not None:
            self._arm_at(owner, deadline)

    def _arm_at(self, owner: Owner, deadline: Instant) -> None:
        """A later deadline than the armed one costs nothing: the entry fires in vain, and is set anew."""
        if owner.armed is None or deadline < owner.armed:
            owner.armed = deadline
            self._sequence += 1
            heapq.heappush(self._heap, (deadline, self._sequence, owner))

    # -- sockets ---------------------------------------------------------------------------------------------

    def open(self, owner: Owner) -> None:
        """Give the session its socket, if that can be had now; ``housekeeping`` tries again."""
        if self._senders.open(owner, self._listeners.port):
            (self._multihop if owner.add.multihop else self._demux).add(owner)
            self._arm(owner)

    def _sender_gone(self, owner: Owner) -> None:
        (self._multihop if owner.add.multihop else self._demux).remove(owner)
        self.forget_steady(owner)
        self._echoes.gone(owner)
        self._arm(owner)

    def close(self, owner: Owner) -> None:
        self._senders.close(owner)

    def listen_for(self, add: Add) -> None:
        """The ports that such a session needs beside the single-hop one."""
        if add.multihop:
            self._listeners.also(multihop_port(self._listeners.port))
        if add.settings.required_min_echo_rx_us and ":" in add.remote:
            self._listeners.also(echo_port(self._listeners.port))

    def new_discriminator(self) -> int:
        """§6.8.1: not zero, unique, random; in its upper bits the word by which the kernel knows it as ours."""
        while True:
            discriminator = self._prefix << _DISCRIMINATOR_BITS | self._rng.getrandbits(_DISCRIMINATOR_BITS)
            taken = discriminator in self._demux.by_discriminator or discriminator in self._multihop.by_discriminator
            if not taken:
                return discriminator


def _is_verdict(owner: Owner, at: Instant) -> bool:
    """Whether at this deadline an Up session goes down, unless something is heard before."""
    session = owner.session
    if session.state is not BfdState.UP or owner.armed != at:
        return False
    expiry = session.detection_deadline()
    return expiry is not None and expiry <= at


def _batch_reader() -> BatchReader | None:
    try:
        return BatchReader()
    except (OSError, AttributeError):  # a kernel that forbids it, a C library that lacks it: packet by packet then
        return None


def _welcome(command: AcceptUnsolicited) -> Callable[[Arrival], bool]:
    """RFC 9468 §2: who may have a session made for it."""
    networks = [ipaddress.ip_network(network) for network in command.networks]

    def is_welcome(arrival: Arrival) -> bool:
        address = ipaddress.ip_address(arrival.remote)
        if not any(address in network for network in networks):
            return False
        if command.interface is None:
            return True
        try:
            return socket.if_nametoindex(command.interface) == arrival.ifindex
        except OSError:
            return False

    return is_welcome
