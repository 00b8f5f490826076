"""How a neighbor comes back after an end: the ConnectRetryTimer and the idle hold of RFC 4271 §8.1, §8.2.2, §10.

- *Plain*: the neighbor waits in Active for the ConnectRetryTimer and takes what comes in meanwhile. A refused dial, a
  lost connection, a hold timer, BFD: the neighbor or the path was away, and it is not the neighbor's fault.
- *Damped* (RFC 4271 §8.1.1, DampPeerOscillations): a rule was broken, or a fault of ours. Idle hold, doubling with each
  repetition, forgotten after STABLE_TIME of Established. It mutes our dials. Connections that the neighbor dials are
  refused only if the fault ended an Established session: there each repetition flaps routes in the network. A fault
  before Established flaps nothing, and whoever dials us may have mended it: that is no reason to stay down.
- *At once*: an operator's reset, a corrected configuration, BFD back Up.

Beside these a neighbor can be told to *stay away* for a given time, after max prefixes: nothing but the end of that
time, a start or a reset by hand brings it back, and its connections are refused.
"""

from __future__ import annotations

import math
import random
from enum import Enum
from typing import Final, assert_never

from bgpbfd.bgp.events import Cause, CauseKind, State
from bgpbfd.core import SECOND, Instant, Micros
from bgpbfd.wire.iana import CeaseSubcode, ErrorCode, OpenSubcode

STABLE_TIME: Final[Micros] = 60 * SECOND
MAX_BACK_OFF: Final = 3  # doublings: eight times the retry time
MAX_IDLE_HOLD: Final[Micros] = 120 * SECOND

_PEER_STAYS_AWAY = (
    CeaseSubcode.MAXIMUM_PREFIXES,
    CeaseSubcode.CONNECTION_REJECTED,
    CeaseSubcode.OUT_OF_RESOURCES,
)


class Recovery(Enum):
    AT_ONCE = "at-once"
    PLAIN = "plain"
    DAMPED = "damped"


class Retry:
    """When to dial next. ``refuses``: connections from the neighbor are not taken until the idle hold ends.

    ``away``: the hold is of a length that was asked for; without ``idle_until`` it has no end of its own.
    """

    def __init__(self, rng: random.Random) -> None:
        self.attempt_at: Instant | None = None
        self.idle_until: Instant | None = None
        self.refuses = False
        self.away = False
        self._back_off = 0
        self._rng = rng

    @property
    def idle(self) -> bool:
        return self.idle_until is not None or self.away

    def next_deadline(self) -> Instant | None:
        return min((d for d in (self.attempt_at, self.idle_until) if d is not None), default=None)

    def plan(self, recovery: Recovery, was: State, retry_time: Micros, dials: bool, now: Instant) -> None:
        """What follows an end in state ``was``; ``dials``: an attempt of ours is wanted at all."""
        if self.away and recovery is not Recovery.AT_ONCE:
            return
        match recovery:
            case Recovery.AT_ONCE:
                self.end_idle_hold()
                self.attempt_at = now if dials else None
            case Recovery.PLAIN:
                if self.idle_until is None or now >= self.idle_until:
                    self.end_idle_hold()
                    self.attempt_at = now + jittered(retry_time, self._rng) if dials else None
                elif dials and self.attempt_at is None:
                    self.attempt_at = self.idle_until
            case Recovery.DAMPED:
                hold = min(retry_time << self._back_off, max(MAX_IDLE_HOLD, retry_time))
                self._back_off = min(self._back_off + 1, MAX_BACK_OFF)
                self.idle_until = now + jittered(hold, self._rng)
                self.refuses = self.refuses or was is State.ESTABLISHED
                self.attempt_at = self.idle_until if dials else None
            case _:
                assert_never(recovery)

    def stay_away(self, seconds: float, dials: bool, now: Instant) -> None:
        """Idle for ``seconds``, infinity included, without jitter."""
        self.away = self.refuses = True
        self.idle_until = None if math.isinf(seconds) else now + math.ceil(seconds * SECOND)
        self.attempt_at = self.idle_until if dials else None

    def expire(self, now: Instant) -> bool:
        """Take note of the time; True when a dial is due."""
        if self.idle_until is not None and now >= self.idle_until:
            self.end_idle_hold()  # event 13, IdleHoldTimer_Expires
        if self.attempt_at is None or now < self.attempt_at:
            return False
        self.attempt_at = None
        return True

    def end_idle_hold(self) -> None:
        self.idle_until = None
        self.refuses = self.away = False

    def lasted(self, duration: Micros) -> None:
        """A session was Established for ``duration``."""
        if duration >= STABLE_TIME:
            self._back_off = 0

    def reset(self) -> None:
        """RFC 4271 §8.2.2: "sets the ConnectRetryCounter to zero"; nothing is planned any more."""
        self.end_idle_hold()
        self.attempt_at = None
        self._back_off = 0


def recovery_from(cause: Cause) -> Recovery:
    """Whose fault an end was that we did not decide on."""
    match cause.kind:
        case CauseKind.NOTIFICATION_SENT | CauseKind.INTERNAL_ERROR | CauseKind.MAX_PREFIXES:
            return Recovery.DAMPED
        case CauseKind.SEND_HOLD_TIMER_EXPIRED:
            return Recovery.DAMPED  # RFC 9687 §4: "performs peer oscillation damping"; whoever does not read is broken
        case CauseKind.NOTIFICATION_RECEIVED:
            if cause.code == ErrorCode.HOLD_TIMER_EXPIRED or refused_capabilities(cause):
                return Recovery.PLAIN
            if cause.code == ErrorCode.OPEN_MESSAGE and cause.subcode == OpenSubcode.UNSUPPORTED_VERSION_NUMBER:
                return Recovery.PLAIN  # RFC 4271 §8.2.2, event 24: not counted as an oscillation
            if cause.code == ErrorCode.CEASE and cause.subcode not in _PEER_STAYS_AWAY:
                return Recovery.PLAIN
            # DEVIATES RFC 5492 §5, which would not retry after 2/7 at all: the neighbor's configuration may be mended.
            return Recovery.DAMPED
        case _:
            return Recovery.PLAIN


def refused_capabilities(cause: Cause) -> bool:
    """The peer does not know optional parameters at all: RFC 5492 §3 says to come again without."""
    return (
        cause.kind is CauseKind.NOTIFICATION_RECEIVED
        and cause.code == ErrorCode.OPEN_MESSAGE
        and cause.subcode == OpenSubcode.UNSUPPORTED_OPTIONAL_PARAMETER
    )


def jittered(interval: Micros, rng: random.Random) -> Micros:
    """RFC 4271 §10: a random factor between 0.75 and 1.0."""
    return int(interval * rng.uniform(0.75, 1.0))
