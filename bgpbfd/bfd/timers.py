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


def jittered(interval_us: Micros, detect_mult: int, rng: Random) -> Micros:
    """One transmission's delay: the interval less 0–25 %, with Detect Mult 1 less 10–25 % (§6.8.7).

    The shell fires up to a tick late; the draw leaves room for it, so that the wire keeps to the interval too.
    """
    ceiling = interval_us * 9 // 10 if detect_mult == 1 else interval_us
    floor = interval_us * 3 // 4
    # Not randint, which costs five times as much: this is drawn for every packet.
    return floor + int(rng.random() * (max(floor, ceiling - TICK_US) - floor + 1))


def detection_time(remote_detect_mult: int, required_min_rx_us: Micros, remote_desired_min_tx_us: Micros) -> Micros:
    """§6.8.4, asynchronous mode: the *remote's* multiplier over the interval agreed for its packets."""
    return remote_detect_mult * max(required_min_rx_us, remote_desired_min_tx_us)
