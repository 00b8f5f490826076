"""An OPEN that has been accepted while something keeps our KEEPALIVE back: the connection stays in OpenSent.

Two things can keep it back, also both at once: another connection, whose OPEN has yet to come and by which this one
would lose (RFC 4271 §6.8), and BFD. draft-ietf-idr-bgp-bfd-strict-mode §8.1 calls the latter OpenSentBfdUpPending, and
OpenSentConfirmedBfdUpPending once the peer's KEEPALIVE has come.

How long BFD is waited for:

- At most ``BfdGate.hold_s`` from the peer's OPEN. DEVIATES draft §3 (BfdHoldTimer), which runs it at hold time 0 only:
  an operator who sets 30 s means 30 s.
- Less than the negotiated hold time. Where the peer does not wait (it has not offered capability 74, or its BFD is Up)
  it is in OpenConfirm since its KEEPALIVE, and will send 4/0 when its hold timer expires; none of its later KEEPALIVEs
  changes that, so that only the first counts. We end a second earlier. DEVIATES draft §8.5.5, by which our HoldTimer
  would end it with 4/0: Cease 6/10 (§9) tells the people at the other end what to look at.
- Without either, the large hold time of OpenSent (RFC 4271 §8.2.2), lest a dead peer holds the connection for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from bgpbfd.bgp.events import BfdGate, Cause, CauseKind
from bgpbfd.core import SECOND, Instant, Micros

LARGE_HOLD_TIME: Final[Micros] = 240 * SECOND  # RFC 4271 §8.2.2: "a value of 4 minutes is suggested"
COLLISION_WAIT: Final[Micros] = 2 * SECOND
BEFORE_PEERS_HOLD_TIMER: Final[Micros] = SECOND  # the shortest hold time is 3 s (RFC 4271 §4.2)


class Collision(Enum):
    """What a good OPEN means to its connection, RFC 4271 §6.8."""

    NONE = auto()
    LOST = auto()
    WAIT = auto()  # it would lose against one whose OPEN has yet to come


@dataclass(slots=True)
class Pending:
    """``hold``: the negotiated hold time, 0 for none. ``confirmed_at``: when the peer's first KEEPALIVE came."""

    accepted_at: Instant
    hold: Micros
    collision_until: Instant | None = None
    confirmed_at: Instant | None = None
    waited_for_bfd: bool = False

    def bfd_deadline(self, gate: BfdGate) -> Instant:
        """When the wait for BFD is at its end."""
        if self.hold:
            in_open_confirm_since = self.accepted_at if self.confirmed_at is None else self.confirmed_at
            end = in_open_confirm_since + self.hold - BEFORE_PEERS_HOLD_TIMER
        else:
            end = self.accepted_at + LARGE_HOLD_TIME
        if gate.hold_s is not None and not math.isinf(gate.hold_s):
            end = min(end, self.accepted_at + math.ceil(gate.hold_s * SECOND))
        return end

    def bfd_overdue(self, gate: BfdGate, now: Instant) -> Cause:
        """It is: the cause of the Cease 6/10 (draft §8.5.3)."""
        limit = round((self.bfd_deadline(gate) - self.accepted_at) / SECOND, 1)
        text = f"BFD has not come up within {limit:g} s (strict mode)"
        if gate.reason:
            text += f": {gate.reason}"
        return Cause(CauseKind.BFD_DOWN, text, now, facts={"waited_s": round((now - self.accepted_at) / SECOND, 1)})
