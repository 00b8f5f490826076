"""The usual case of BFD's transmission: the same packet once more, for all sessions that have nothing else to say.

A thousand sessions at 50 ms send 23,000 packets a second. So what a packet costs is a step on a wheel (``wheel``), one
look at the detection time, and the system call. The rules are in ``session``: a session is here as long as its
``steady_packet`` is all that they would send, and the tests compare the two on random histories.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from bgpbfd.bfd.owner import Beat, Owner
from bgpbfd.bfd.timers import LAG_US, TICK_MAX_US, jitter, tick_us
from bgpbfd.bfd.wheel import GRAIN_US, Wheel
from bgpbfd.core import Instant, Micros


class Pulse:
    """``resend``: a packet that the socket did not take; ``watch``: the owner is to be looked at by the rules then."""

    def __init__(
        self, rng: Random, *, resend: Callable[[Owner, bytes], None], watch: Callable[[Owner, Instant], None]
    ) -> None:
        self._rng = rng
        self._resend = resend
        self._watch = watch
        self._wheel: Wheel[Beat] = Wheel()
        self.tick_us: Micros = TICK_MAX_US
        """The longest that a busy worker may look away, for the jitter of the fastest session."""
        self.sent = 0
        self.behind = False
        """The last ``transmit`` came later to some than a busy worker may."""

    def next_at(self) -> Instant | None:
        return self._wheel.next_at()

    def arm(self, owner: Owner) -> Instant | None:
        """After anything but steady packets and their sending: when the rules have to be asked, if nothing else comes.

        What is steady goes onto the wheel. Its detection time is looked at when a packet goes out, and is a deadline
        where it ends before the next one, or so soon after it that a busy worker might be late.
        """
        session = owner.session
        due = session.tx_due
        packet = None if owner.sock is None else session.steady_packet()
        owner.beat = None
        if packet is None or due is None:
            return session.next_deadline()
        interval_us, detect_mult = session.transmit_interval_us, session.settings.detect_mult
        tick = tick_us(interval_us, detect_mult)
        self.tick_us = min(self.tick_us, tick)
        floor_us, window_us = jitter(interval_us, detect_mult, session.late_us)
        watch_us = GRAIN_US + tick + LAG_US
        owner.beat = (owner, session, owner.send, packet, session.detection_time_us, watch_us, floor_us, window_us)
        self._wheel.put(owner.beat, due)
        expiry = session.detection_deadline()
        return expiry if expiry is not None and expiry < due + watch_us else None

    def transmit(self, now: Instant, late_us: Micros) -> list[Owner]:
        """Send what is due; those that the rules have to be asked about instead.

        ``late_us``: how late it may be without that being a stall.
        """
        slots, random = self._wheel.slots, self._rng.random
        others: list[Owner] = []
        self.behind = False
        for slot, beats in self._wheel.take(now):
            late = now > (slot - 1) * GRAIN_US + late_us
            self.behind = self.behind or late
            for beat in beats:
                owner, session, send, packet, detection_time_us, watch_us, floor_us, window_us = beat
                if owner.beat is not beat:
                    continue  # something came in between, and there is another
                expiry = session.last_rx + detection_time_us  # type: ignore[operator]  # it is Up: it was heard
                if now >= expiry:
                    others.append(owner)
                    continue
                if late and now > session.tx_due + late_us:  # type: ignore[operator]  # it is on the wheel
                    session.note_stall(now)
                try:
                    send(packet)
                except OSError:
                    self._resend(owner, packet)
                session.last_tx = now
                session.packets_sent += 1
                session.tx_due = due = now + floor_us + int(random() * window_us)  # timers.jittered
                again = -(-due // GRAIN_US)
                if again in slots:
                    slots[again].append(beat)
                else:
                    slots[again] = [beat]
                if expiry < due + watch_us:
                    self._watch(owner, expiry)
            self.sent += len(beats)
        return others
