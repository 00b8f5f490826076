"""The echo function of one session (RFC 5880 §6.4, §6.8.8, §6.8.9), sans-IO.

We send packets that the remote's forwarding plane, or its BFD, returns. What is in them is our own affair (§6.4): the
session's discriminator, a number, and a random word without which nobody can make up an answer. A packet counts as
lost from the moment at which it was sent, so that a stall of ours, during which none was sent, is no failure.
"""

from __future__ import annotations

from random import Random
from struct import Struct

from bgpbfd.bfd.timers import SLOW_TX_US
from bgpbfd.core import Instant, Micros

# Padded to 32 octets: FRR returns nothing shorter than its own packets of 24.
_ECHO = Struct("!4sIQI12x")
_MAGIC = b"bEch"
KEPT = 256  # unanswered packets that are still known


def echo_discriminator(payload: bytes) -> int | None:
    """Whose echo packet it is; None for what is not one of ours."""
    if len(payload) < _ECHO.size or payload[:4] != _MAGIC:
        return None
    discriminator: int = _ECHO.unpack_from(payload)[1]
    return discriminator


class Echo:
    """``interval_us`` is what is in force, 0 while the function is off; the round-trip times are in µs.

    ``working``: a packet has come back since it was switched on; until then one a second is tried.
    """

    __slots__ = (
        "_discriminator",
        "_nonce",
        "_rtt_sum_us",
        "_sequence",
        "_unanswered",
        "due",
        "interval_us",
        "received",
        "rtt_max_us",
        "rtt_min_us",
        "sent",
        "working",
    )

    def __init__(self, discriminator: int, rng: Random) -> None:
        self._discriminator = discriminator
        self._nonce = rng.getrandbits(64)
        self._sequence = 0
        self._unanswered: dict[int, Instant] = {}
        self.interval_us: Micros = 0
        self.working = False
        self.due: Instant | None = None
        self.clear_counters()

    def clear_counters(self) -> None:
        self.sent = self.received = 0
        self.rtt_min_us: Micros | None = None
        self.rtt_max_us: Micros | None = None
        self._rtt_sum_us: Micros = 0

    @property
    def rtt_avg_us(self) -> Micros | None:
        return self._rtt_sum_us // self.received if self.received else None

    def set_interval(self, interval_us: Micros, now: Instant) -> None:
        """Run at this interval from now on; 0: stop, and forget what is under way."""
        if interval_us == self.interval_us:
            return
        was, self.interval_us = self.interval_us, interval_us
        if not interval_us:
            self.due = None
            self.working = False
            self._unanswered.clear()
        elif not was or self.due is None or self.due > now + self.pace_us:
            self.due = now

    @property
    def pace_us(self) -> Micros:
        """How often packets are sent."""
        return self.interval_us if self.working else max(self.interval_us, SLOW_TX_US)

    def deadline(self, detect_mult: int) -> Instant | None:
        """When the function has failed: ``detect_mult`` intervals after the oldest packet without an answer."""
        oldest = next(iter(self._unanswered.values()), None)
        return None if oldest is None else oldest + detect_mult * self.interval_us

    def send(self, now: Instant, delay_us: Micros) -> bytes:
        """The next packet; the one after it is due in ``delay_us``."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._unanswered[self._sequence] = now
        if len(self._unanswered) > KEPT:
            del self._unanswered[next(iter(self._unanswered))]
        self.sent += 1
        self.due = now + delay_us
        return _ECHO.pack(_MAGIC, self._discriminator, self._nonce, self._sequence)

    def receive(self, payload: bytes, at: Instant) -> bool:
        """An answer that reached the host at ``at``; False for what is none, or not of anything under way."""
        if len(payload) < _ECHO.size:
            return False
        magic, discriminator, nonce, sequence = _ECHO.unpack_from(payload)
        if (magic, discriminator, nonce) != (_MAGIC, self._discriminator, self._nonce):
            return False
        sent_at = self._unanswered.get(sequence)
        if sent_at is None:
            return False  # a duplicate, or of before a stop
        # Whatever was sent before it may have been lost: the path works, and that is what is asked.
        for earlier in list(self._unanswered):
            del self._unanswered[earlier]
            if earlier == sequence:
                break
        if not self.working:
            self.working = True
            if self.due is not None:
                self.due = min(self.due, at + self.interval_us)
        rtt_us = max(0, at - sent_at)
        self.received += 1
        self._rtt_sum_us += rtt_us
        self.rtt_min_us = rtt_us if self.rtt_min_us is None else min(self.rtt_min_us, rtt_us)
        self.rtt_max_us = rtt_us if self.rtt_max_us is None else max(self.rtt_max_us, rtt_us)
        return True
