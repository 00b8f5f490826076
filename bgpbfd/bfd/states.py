"""The states of a BFD session, what moves between them (RFC 5880 §6.8.6), and what a session wants done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bgpbfd.core import Instant, Micros
from bgpbfd.wire.iana import BfdDiag, BfdState

STATE_NAMES = {
    BfdState.ADMIN_DOWN: "admin-down",
    BfdState.DOWN: "down",
    BfdState.INIT: "init",
    BfdState.UP: "up",
}

NEXT_STATE = {
    # RFC 5880 §6.8.6: (ours, received) → ours. Not listed: AdminDown, which discards before it comes to this.
    (BfdState.DOWN, BfdState.ADMIN_DOWN): BfdState.DOWN,
    (BfdState.DOWN, BfdState.DOWN): BfdState.INIT,
    (BfdState.DOWN, BfdState.INIT): BfdState.UP,
    (BfdState.DOWN, BfdState.UP): BfdState.DOWN,
    (BfdState.INIT, BfdState.ADMIN_DOWN): BfdState.DOWN,
    (BfdState.INIT, BfdState.DOWN): BfdState.INIT,
    (BfdState.INIT, BfdState.INIT): BfdState.UP,
    (BfdState.INIT, BfdState.UP): BfdState.UP,
    (BfdState.UP, BfdState.ADMIN_DOWN): BfdState.DOWN,
    (BfdState.UP, BfdState.DOWN): BfdState.DOWN,
    (BfdState.UP, BfdState.INIT): BfdState.UP,
    (BfdState.UP, BfdState.UP): BfdState.UP,
}


@dataclass(slots=True)
class Transmit:
    """Send this control packet now."""

    data: bytes


@dataclass(slots=True)
class TransmitEcho:
    """Send this payload to the remote's echo port now (RFC 5881 §4)."""

    data: bytes


@dataclass(slots=True)
class Transition:
    """The state changed. ``blame`` and the times are those of protocol.StateChange."""

    old: BfdState
    new: BfdState
    diag: BfdDiag
    remote_diag: int
    remote_admin_down: bool
    blame: str
    at: Instant
    last_rx: Instant | None
    previous_rx: Instant | None
    detection_time_us: Micros
    control_plane_independent: bool


Action: TypeAlias = Transmit | TransmitEcho | Transition
