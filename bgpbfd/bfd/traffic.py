"""The packets of all sessions, in and out, and their deadlines: what the BFD worker does between two commands.

Packets come in by ``read``, deadlines by ``run_deadlines``. Both have a short way for what a session does nearly always
(the same packet once more), with the long one as its twin: the rules are in ``session``, and the tests compare the two.

A turn reads before it judges: before a neighbor is declared silent the sockets are read once more, so that a stall of
this process never counts as one of the neighbor.
"""

from __future__ import annotations

import contextlib
import heapq
import ipaddress
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from bgpbfd.bfd.demux import Arrival, Demultiplexer
from bgpbfd.bfd.echoes import Echoes
from bgpbfd.bfd.listeners import WELCOME_MOST, Listeners, echo_port, multihop_port
from bgpbfd.bfd.outbox import Outbox
from bgpbfd.bfd.owner import Owner, late_packets, state_change
from bgpbfd.bfd.protocol import AcceptUnsolicited, Add, Settings, Unsolicited
from bgpbfd.bfd.senders import Senders
from bgpbfd.bfd.sockets import DISCRIMINATOR_PREFIX_BITS, Kind, Listener, monotonic_us
from bgpbfd.bfd.states import Action, Transition, Transmit
from bgpbfd.bfd.timers import LAG_US
from bgpbfd.core import MILLISECOND, Instant, Micros
from bgpbfd.wire.bfd import SINGLE_HOP_TTL, Discard

BUSY_US: Micros = 200 * MILLISECOND

_PROMPT = Arrival("", "", 0, SINGLE_HOP_TTL)
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
        self._echoes = Echoes(epoll, self._demux, self._senders, self.carry_out)
        self._heap: list[tuple[Instant, int, Owner]] = []
        self._sequence = 0
        self._lost_at: Instant = 0
        self._busy_until: Instant = 0
        self._interfaces = 0  # sessions that are bound to one
        self.handled = 0  # packets since the loop last looked

    def next_deadline(self) -> Instant | None:
        return self._heap[0][0] if self._heap else None

    def read_ready(self, fd: int) -> None:
        """The epoll says that there is something to read."""
        listener = self._listeners.get(fd)
        if listener is not None:
            self._read(listener, monotonic_us())
        else:
            self._echoes.read(fd, monotonic_us())

    def housekeeping(self, now: Instant, owners: Iterable[Owner]) -> None:
        """Once a second: what could not be opened, and packets that were dropped or late."""
        if not self._listeners.complete:
            self._listeners.bind()
        for owner in owners:
            if owner.sock is None:
                self.open(owner)
            if (late := late_packets(owner, now)) is not None:
                self._outbox.post(late)
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
        if listener.filtered and not listener.multihop and not self._interfaces and listener.is_prompt(until):
            self._read_promptly(listener, until)
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
            for data, arrival, at in listener.packets(until, most):
                count += 1
                owner = self._steady.get(data)
                if (
                    owner is not None
                    and arrival.ttl == SINGLE_HOP_TTL
                    and owner.add.multihop is listener.multihop
                    and (owner.ifindex is None or owner.ifindex == arrival.ifindex)
                ):
                    # The same bytes as last time: validated then, and nothing but the detection timer is moved.
                    owner.session.receive_steady(at)
                elif self._take(demux, data, arrival, at, listener.kind) and listener.kind is Kind.STRANGER:
                    taken += 1
                    if taken >= welcome:
                        most = count
                        break
        self.handled += count
        if most is not None and count >= most:
            self._later(self._listeners.rest(listener, until), self._listeners.wake)
        if self._demux.asking:
            self._tell_who_asks()

    def _read_promptly(self, listener: Listener, now: Instant) -> None:
        """What ``_read`` does, where the kernel has looked at TTL and discriminator, no session asks for an interface,
        and the socket was empty just now. A thousand sessions at 50 ms come here 23,000 times a second."""
        steady = self._steady
        count = 0
        for data in listener.payloads():
            count += 1
            owner = steady.get(data)
            if owner is not None and not owner.add.multihop:
                owner.session.receive_steady(now)
            else:
                self._take(self._demux, data, _PROMPT, now)
        self.handled += count

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
            owner.steady = data
            self._steady[data] = owner
        return True

    def forget_steady(self, owner: Owner) -> None:
        if owner.steady is not None:
            self._steady.pop(owner.steady, None)
            owner.steady = None

    def _tell_who_asks(self) -> None:
        for arrival in self._demux.asking.values():
            with contextlib.suppress(OSError):  # the interface is gone again
                interface = socket.if_indextoname(arrival.ifindex)
                self._outbox.post(Unsolicited(remote=arrival.remote, local=arrival.local, interface=interface))
        self._demux.asking.clear()

    def run_deadlines(self, now: Instant) -> None:
        """What is due at ``now``."""
        heap = self._heap
        due: list[Owner] = []
        if heap and now > heap[0][0] + LAG_US:
            # Sessions that are up come before those that want to be: else a moment of too much work ends in sessions
            # that go down, come up and thereby bring down others.
            self._busy_until = now + BUSY_US
        while heap and heap[0][0] <= now:
            at, _, owner = heapq.heappop(heap)
            if owner.armed == at and not owner.closed:
                owner.armed = None
                due.append(owner)
        due = [owner for owner in due if not self._sent_steady(owner, now)]
        expiring = False
        for owner in due:
            expiry = owner.session.judged_at()
            expiring = expiring or (expiry is not None and expiry <= now)
        if expiring:
            # What reached the host before ``now`` is handed in before ``now`` is judged by.
            for listener in list(self._listeners.of_sessions()):
                self._read(listener, now)
            self._echoes.read_all(now)
            self._note_drops(now)
        for owner in due:
            last_rx = owner.session.last_rx
            evidence_lost = expiring and last_rx is not None and self._lost_at >= last_rx
            self.carry_out(owner, owner.session.wake(now, evidence_lost))

    def _sent_steady(self, owner: Owner, now: Instant) -> bool:
        """The usual case of a deadline: the same packet once more."""
        packet = owner.session.transmit_steady(now)
        if packet is None:
            return False
        self.handled += 1
        self._senders.send(owner, packet)
        self._arm(owner)
        return True

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
            else:
                self._echoes.send(owner, action.data, self._listeners.port)
        self._arm(owner)

    def _arm(self, owner: Owner) -> None:
        deadline = owner.session.next_deadline()
        if deadline is not None and (owner.armed is None or deadline < owner.armed) and not owner.closed:
            # A later deadline than the armed one costs nothing: the entry fires in vain and is set anew.
            owner.armed = deadline
            self._sequence += 1
            heapq.heappush(self._heap, (deadline, self._sequence, owner))

    # -- sockets ---------------------------------------------------------------------------------------------

    def open(self, owner: Owner) -> None:
        """Give the session its socket, if that can be had now; ``housekeeping`` tries again."""
        if self._senders.open(owner, self._listeners.port):
            (self._multihop if owner.add.multihop else self._demux).add(owner)
            self._interfaces += owner.ifindex is not None

    def _sender_gone(self, owner: Owner) -> None:
        (self._multihop if owner.add.multihop else self._demux).remove(owner)
        self._interfaces -= owner.ifindex is not None
        self.forget_steady(owner)
        self._echoes.gone(owner)

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
