"""A BFD speaker for tests: comes up, remembers all that it hears, and falls silent when told."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass

from bgpbfd.wire.bfd import SINGLE_HOP_PORT, SOURCE_PORT_FIRST, ControlPacket, pull_control, push_control
from bgpbfd.wire.iana import BfdState

INTERVAL_US = 50_000


@dataclass
class Heard:
    at: float  # monotonic s
    state: BfdState
    diag: int


class RawBfd:
    """Single-hop, from ``local`` to ``remote``, 50 ms x ``detect_mult``; answers as RFC 5880 §6.8.6 wants it."""

    def __init__(self, local: str, remote: str, detect_mult: int = 3) -> None:
        self.heard: list[Heard] = []
        self.silent = False
        self._state = BfdState.DOWN
        self._yours = 0
        self._mult = detect_mult
        self._stopping = False
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind((local, SINGLE_HOP_PORT))
        self._receiver.settimeout(INTERVAL_US / 2e6)
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        port = SOURCE_PORT_FIRST + int(local.rpartition(".")[2])
        self._sender.bind((local, port))
        self._remote = (remote, SINGLE_HOP_PORT)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        due = 0.0
        while not self._stopping:
            try:
                packet = pull_control(self._receiver.recv(256))
            except TimeoutError:
                packet = None
            if isinstance(packet, ControlPacket):
                self.heard.append(Heard(time.monotonic(), packet.state, packet.diag))
                self._yours = packet.my_discriminator
                self._follow(packet.state)
                if packet.poll:
                    self._send(final=True)
            if time.monotonic() >= due:
                due = time.monotonic() + INTERVAL_US / 1e6
                self._send()

    def _follow(self, theirs: BfdState) -> None:
        if theirs is BfdState.ADMIN_DOWN or (theirs is BfdState.DOWN and self._state is BfdState.UP):
            self._state = BfdState.DOWN
        elif theirs is BfdState.DOWN and self._state is BfdState.DOWN:
            self._state = BfdState.INIT
        elif theirs in {BfdState.INIT, BfdState.UP}:
            self._state = BfdState.UP

    def _send(self, final: bool = False) -> None:
        if self.silent:
            return
        packet = ControlPacket(
            state=self._state,
            detect_mult=self._mult,
            my_discriminator=0x77,
            your_discriminator=self._yours,
            desired_min_tx_us=INTERVAL_US,
            required_min_rx_us=INTERVAL_US,
            final=final,
        )
        self._sender.sendto(push_control(packet), self._remote)

    @property
    def up(self) -> bool:
        return self._state is BfdState.UP

    def since(self, moment: float) -> list[Heard]:
        """What was heard after ``moment``."""
        return [heard for heard in list(self.heard) if heard.at >= moment]

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
        self._receiver.close()
        self._sender.close()
