"""The arithmetic of BFD's intervals (RFC 5880 §6.8.2–6.8.7). All durations in µs."""

from __future__ import annotations

from random import Random

from bgpbfd.core import MILLISECOND, SECOND, Micros

SLOW_TX_US: Micros = SECOND
"""§6.8.3: the least DesiredMinTxInterval while the session is not Up."""
TICK_US: Micros = MILLISECOND
"""How late a timer may fire: the shell's waits have this grain."""


LAG_US: Micros = 5 * TICK_US
"""How late a busy worker may come to a deadline or to a packet before that counts as a stall of its own."""
FIRST_TX_WITHIN_US: Micros = 50 * TICK_US
"""A session's first packet goes out at random within this time; longer where there are many (``Worker``)."""


TICK_MAX_US: Micros = 50 * TICK_US


def tick_us(interval_us: Micros, detect_mult: int) -> Micros:
    """How far apart a busy worker's looks may be with sessions of this interval: most of the jitter's window."""
    part = interval_us // 8 if detect_mult == 1 else interval_us // 5
    return min(max(part, TICK_US), TICK_MAX_US)


def jitter(interval_us: Micros, detect_mult: int, late_us: Micros) -> tuple[Micros, Micros]:
    """The least delay to the next transmission, and below how much more is drawn on top of it (1: nothing).

    §6.8.7: the interval less 0–25 %, with Detect Mult 1 less 10–25 %. The shell is up to ``late_us`` late; the draw
    leaves room for that, so that the wire keeps to the interval too.
    """
    ceiling = interval_us * 9 // 10 if detect_mult == 1 else interval_us
    floor = interval_us * 3 // 4
    return floor, max(0, ceiling - late_us - floor) + 1


def jittered(interval_us: Micros, detect_mult: int, rng: Random, late_us: Micros) -> Micros:
    """One transmission's delay (``jitter``)."""
    floor_us, window_us = jitter(interval_us, detect_mult, late_us)
    # Not randint, which costs five times as much: this is drawn for every packet.
    return floor_us + int(rng.random() * window_us)


def detection_time(remote_detect_mult: int, required_min_rx_us: Micros, remote_desired_min_tx_us: Micros) -> Micros:
    """§6.8.4, asynchronous mode: the *remote's* multiplier over the interval agreed for its packets."""
    return remote_detect_mult * max(required_min_rx_us, remote_desired_min_tx_us)
