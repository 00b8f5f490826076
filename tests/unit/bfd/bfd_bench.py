"""One BFD session at a virtual time, and a remote whose packets are made by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.session import Session
from bgpbfd.bfd.states import Action, Transition, Transmit
from bgpbfd.core import SECOND
from bgpbfd.wire.bfd import ControlPacket, pull_control
from bgpbfd.wire.iana import BfdState

MS = 1000
FAST = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS, detect_mult=3)
ADMIN_DOWN, DOWN, INIT, UP = BfdState.ADMIN_DOWN, BfdState.DOWN, BfdState.INIT, BfdState.UP


class Bench:
    """A session at a virtual time, and a remote whose packets are made by hand."""

    def __init__(self, timers: Settings = FAST, *, seed: int = 1, admin_down: bool = False) -> None:
        self.now = 1_000_000_000
        self.session = Session(
            local_discriminator=5, settings=timers, rng=Random(seed), now=self.now, admin_down=admin_down
        )
        self.remote = ControlPacket(
            state=DOWN,
            detect_mult=3,
            my_discriminator=9,
            your_discriminator=5,
            desired_min_tx_us=50 * MS,
            required_min_rx_us=50 * MS,
        )
        self.transitions: list[Transition] = []
        self.echoes: list[tuple[int, bytes]] = []

    def take(self, actions: list[Action]) -> list[ControlPacket]:
        sent: list[ControlPacket] = []
        for action in actions:
            if isinstance(action, Transmit):
                packet = pull_control(action.data)
                assert isinstance(packet, ControlPacket)
                sent.append(packet)
            elif isinstance(action, Transition):
                self.transitions.append(action)
            else:
                self.echoes.append((self.now, action.data))
        return sent

    def hear(self, **fields: object) -> list[ControlPacket]:
        packet = replace(self.remote, **fields)  # type: ignore[arg-type]
        return self.take(self.session.receive(packet, self.now, self.now))

    def run(self, duration: int, *, hear_every: int = 0, **fields: object) -> list[tuple[int, ControlPacket]]:
        """Let time pass, to the µs; ``hear_every``: the remote's packets come at that interval."""
        sent: list[tuple[int, ControlPacket]] = []
        end = self.now + duration
        next_heard = self.now + hear_every if hear_every else end + 1
        while True:
            deadline = self.session.next_deadline()
            at = min(next_heard, deadline if deadline is not None else end + 1)
            if at > end:
                self.now = end
                return sent
            self.now = max(at, self.now)
            if at == next_heard:
                next_heard += hear_every
                sent += [(self.now, p) for p in self.hear(**fields)]
            else:
                sent += [(self.now, p) for p in self.take(self.session.wake(self.now))]

    def up(self) -> Bench:
        """Up, and the opening poll answered."""
        self.run(60 * MS)
        self.hear(state=INIT)
        assert self.session.state is UP
        self.hear(state=UP, final=True)
        self.transitions.clear()
        return self


def intervals(sent: list[tuple[int, ControlPacket]]) -> list[int]:
    return [b - a for (a, _), (b, _) in pairwise(sent)]


def settled(timers: Settings = FAST) -> Bench:
    bench = Bench(timers).up()
    bench.run(SECOND, hear_every=50 * MS, state=UP)
    return bench
