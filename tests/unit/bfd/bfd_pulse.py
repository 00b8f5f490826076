"""One session served as the worker serves it: the short way of sending where there is one, else the rules."""

from __future__ import annotations

import socket
from typing import cast

from bgpbfd.bfd.owner import Owner
from bgpbfd.bfd.protocol import Add
from bgpbfd.bfd.pulse import Pulse
from bgpbfd.bfd.session import Session
from bgpbfd.bfd.states import Action, Transmit


class PulseShell:
    """``arm`` is to be called when the session was told something, ``turn`` at ``next_at`` or later."""

    def __init__(self, session: Session) -> None:
        add = Add(key="x", generation=0, remote="192.0.2.1", local="192.0.2.2", settings=session.settings)
        self.owner = Owner(add, session, add.remote, add.local, session.local_discriminator)
        self.owner.sock = cast(socket.socket, object())
        self.owner.send = self._send
        self.short = 0
        """Packets that went the short way."""
        self._sent: list[Action] = []
        self._pulse = Pulse(session.rng, resend=lambda *_: None, watch=self._watch)
        self._deadline: int | None = None
        self.arm()

    def _send(self, data: bytes) -> int:
        self.short += 1
        self._sent.append(Transmit(data))
        return len(data)

    def _watch(self, _: Owner, at: int) -> None:
        self._deadline = at if self._deadline is None else min(at, self._deadline)

    def arm(self) -> None:
        self._deadline = self._pulse.arm(self.owner)

    def next_at(self) -> int | None:
        return min((at for at in (self._deadline, self._pulse.next_at()) if at is not None), default=None)

    def turn(self, now: int, late_us: int) -> list[Action]:
        self._sent = []
        others = self._pulse.transmit(now, late_us)
        if others or (self._deadline is not None and self._deadline <= now):
            self._sent += self.owner.session.wake(now)
            self.arm()
        return self._sent
