"""One BFD session (RFC 5880 §6), single hop and asynchronous, sans-IO.

The shell hands in what happened and the time, and carries out the actions that come back. Reception follows
§6.8.6 from the point where the session is known, transmission §6.8.7, timer changes §6.8.3. Two timers exist: the
next periodic transmission, and the detection time. The latter is never moved when a packet arrives: the arrival is
noted, and whoever wakes at ``next_deadline`` finds it later than thought.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.timers import SLOW_TX_US, TICK_US, detection_time, jittered
from bgpbfd.core import Instant, Micros
from bgpbfd.wire.bfd import ControlPacket, Discard, push_control
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
    """Send these bytes now."""

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


Action: TypeAlias = Transmit | Transition


class Session:
    """The variables of RFC 5880 §6.8.1 under their names, and the rules that move them.

    ``desired_min_tx_us`` and ``required_min_rx_us`` are what our packets say; ``tx_in_force_us`` and
    ``rx_in_force_us`` what is reckoned with, which differs while a poll is under way (§6.8.3).
    """

    __slots__ = (
        "_excused_at",
        "_packet",
        "_poll_rests",
        "_stall_at",
        "_stall_us",
        "control_lost",
        "desired_min_tx_us",
        "detection_time_us",
        "diag",
        "discards",
        "down_count",
        "last_down",
        "last_rx",
        "last_tx",
        "local_discriminator",
        "packets_received",
        "packets_sent",
        "polling",
        "previous_rx",
        "remote_demand",
        "remote_desired_min_tx_us",
        "remote_detect_mult",
        "remote_diag",
        "remote_discriminator",
        "remote_min_echo_rx_us",
        "remote_min_rx_us",
        "remote_state",
        "required_min_rx_us",
        "rng",
        "rx_in_force_us",
        "settings",
        "since",
        "state",
        "transmit_interval_us",
        "tx_due",
        "tx_in_force_us",
        "up_count",
    )

    def __init__(
        self,
        *,
        local_discriminator: int,
        settings: Settings,
        rng: Random,
        now: Instant,
        admin_down: bool = False,
        control_lost: bool = False,
    ) -> None:
        self.local_discriminator = local_discriminator
        self.settings = settings
        self.rng = rng
        self.state = BfdState.ADMIN_DOWN if admin_down else BfdState.DOWN
        self.diag = BfdDiag.ADMINISTRATIVELY_DOWN if admin_down else BfdDiag.NONE
        self.since = now
        self.control_lost = control_lost
        # §6.8.1: what is known of the remote before it spoke.
        self.remote_discriminator = 0
        self.remote_state = BfdState.DOWN
        self.remote_diag = 0
        self.remote_demand = False
        self.remote_detect_mult = 0
        self.remote_min_rx_us: Micros = 1
        self.remote_desired_min_tx_us: Micros = 0
        self.remote_min_echo_rx_us: Micros = 0
        self.last_rx: Instant | None = None
        self.previous_rx: Instant | None = None
        self.last_tx: Instant | None = None
        self.detection_time_us: Micros = 0
        self.polling = False
        self._poll_rests = False
        self._excused_at: Instant = 0
        self._stall_us: Micros = 0
        self._stall_at: Instant = 0
        self._packet: bytes | None = None
        self.packets_received = self.packets_sent = self.up_count = self.down_count = 0
        self.discards: dict[str, int] = {}
        self.last_down: Transition | None = None
        self.desired_min_tx_us = self.tx_in_force_us = max(settings.desired_min_tx_us, SLOW_TX_US)
        self.required_min_rx_us = self.rx_in_force_us = settings.required_min_rx_us
        self.transmit_interval_us = self.desired_min_tx_us
        # A host's sessions do not all speak in the same instant of its start.
        self.tx_due: Instant | None = None if settings.passive else now + rng.randint(0, 50 * TICK_US)

    # -- what the shell asks ---------------------------------------------------------------------------------

    def next_deadline(self) -> Instant | None:
        """When ``wake`` wants to be called; asking changes nothing."""
        expiry = self.detection_deadline()
        if expiry is None or (self.tx_due is not None and self.tx_due < expiry):
            return self.tx_due
        return expiry

    def detection_deadline(self) -> Instant | None:
        """When the remote counts as silent; None with nothing to lose (no packet yet, or it is already forgotten)."""
        if self.last_rx is None or self.remote_discriminator == 0:
            return None
        return max(self.last_rx, self._excused_at) + self.detection_time_us

    def is_steady(self, packet: ControlPacket) -> bool:
        """Whether the same packet, arriving again, would do nothing but refresh the detection timer."""
        return (
            self.state is BfdState.UP
            and self.remote_state is packet.state
            and NEXT_STATE[self.state, packet.state] is self.state
            and not (packet.poll or packet.final)
            and self.tx_due is not None
            and not self.remote_demand
        )

    def linger_us(self) -> Micros:
        """How long AdminDown has to be signalled before this end may fall silent (§6.8.16): one detection time.

        The greater of both directions', as in force now; ask before going AdminDown. A remote that does not hold the
        session for up is told once, and not waited for.
        """
        if self.state not in {BfdState.INIT, BfdState.UP}:
            return 0
        return max(self.detection_time_us, self.settings.detect_mult * self.transmit_interval_us)

    # -- what the shell tells --------------------------------------------------------------------------------

    def receive_steady(self, at: Instant) -> None:
        """A repetition of a packet that ``is_steady``; ``receive`` would come to the same."""
        self.previous_rx = self.last_rx
        self.last_rx = at
        self.packets_received += 1

    def receive(self, packet: ControlPacket, at: Instant, now: Instant) -> list[Action]:
        """A packet that was found to be this session's; ``at`` is when it reached the host.

        RFC 5880 §6.8.6 from the authentication step on.
        """
        if packet.authentication is not None:
            self.discard(Discard.AUTHENTICATION)
            return []
        actions: list[Action] = []
        self.packets_received += 1
        if packet.my_discriminator != self.remote_discriminator:
            self.remote_discriminator = packet.my_discriminator
            self._packet = None
        self.remote_state = packet.state
        self.remote_diag = packet.diag
        self.remote_demand = packet.demand
        self.remote_detect_mult = packet.detect_mult
        self.remote_desired_min_tx_us = packet.desired_min_tx_us
        self.remote_min_echo_rx_us = packet.required_min_echo_rx_us
        self.remote_min_rx_us = packet.required_min_rx_us
        if packet.final and self.polling:
            self.polling = False
            self._poll_rests = True
            self._packet = None
            self.tx_in_force_us = self.desired_min_tx_us
            self.rx_in_force_us = self.required_min_rx_us
        self._recompute(now)
        # §6.8.6 does this last, so that no earlier discard keeps a session alive; the one that follows, in AdminDown,
        # has no detection timer to mind.
        self.previous_rx, self.last_rx = self.last_rx, at
        if self.state is BfdState.ADMIN_DOWN:
            self.discard(Discard.ADMIN_DOWN)
            self._reschedule(now)
            return actions
        new = NEXT_STATE[self.state, packet.state]
        if self.control_lost and self.state is BfdState.DOWN:
            # DEVIATES RFC 5880 §6.8.6: with nobody in charge the session stays Down, whatever the remote offers.
            new = BfdState.DOWN
        if new is BfdState.DOWN and self.state is not BfdState.DOWN:
            blame = self._blame_for_signal(packet, now)
            self._enter(new, BfdDiag.NEIGHBOR_SIGNALED_SESSION_DOWN, blame, now, actions, final=packet.poll)
        elif new is not self.state:
            diag = BfdDiag.NONE if new is BfdState.UP else self.diag
            self._enter(new, diag, "", now, actions, final=packet.poll)
        elif packet.poll:
            # §6.8.7: at once, whatever the transmission timer and the reasons for silence say.
            self._send(now, actions, final=True)
        self._reschedule(now)
        return actions

    def wake(self, now: Instant, evidence_lost: bool = False) -> list[Action]:
        """A deadline may have come. Every packet that reached the host before ``now`` must have been handed in.

        ``evidence_lost``: the host dropped packets unseen since the last call (its socket overflowed).
        """
        actions: list[Action] = []
        expiry = self.detection_deadline()
        if expiry is not None and now >= expiry:
            if evidence_lost and self.last_rx is not None and self._excused_at < self.last_rx:
                # DEVIATES RFC 5880 §6.8.4: what we dropped ourselves is not held against the remote, once.
                self._excused_at = now
            else:
                self._expire(now, evidence_lost, actions)
        if self.tx_due is not None and now >= self.tx_due:
            if now > self.tx_due + 2 * TICK_US and self.last_tx is not None:
                self._stall_us, self._stall_at = now - self.last_tx, now
            if self._poll_rests:
                # §6.5: a packet without P goes between two polls, so that a late Final of the first is not
                # taken for the second's.
                self._poll_rests = False
            else:
                self._adopt_timers(now)
            self._send(now, actions)
        return actions

    def set_admin_down(self, admin_down: bool, now: Instant) -> list[Action]:
        """RFC 5880 §6.8.16."""
        actions: list[Action] = []
        if admin_down and self.state is not BfdState.ADMIN_DOWN:
            self._enter(BfdState.ADMIN_DOWN, BfdDiag.ADMINISTRATIVELY_DOWN, "admin", now, actions)
        elif not admin_down and self.state is BfdState.ADMIN_DOWN:
            self._enter(BfdState.DOWN, BfdDiag.NONE, "admin", now, actions)
        self._reschedule(now)
        return actions

    def set_control_lost(self, lost: bool, now: Instant) -> list[Action]:
        """The process that BFD speaks for is gone or hung: Down, and Down it stays until it is back.

        Diag 4: "the remote system can no longer rely on the local forwarding state" (§6.8.15) is what it means to
        the neighbor. Not 7: AdminDown is no failure (RFC 5882 §3.2), and this is one.
        """
        actions: list[Action] = []
        self.control_lost = lost
        if lost and self.state in {BfdState.INIT, BfdState.UP}:
            self._enter(BfdState.DOWN, BfdDiag.FORWARDING_PLANE_RESET, "local-stall", now, actions)
            self._reschedule(now)
        return actions

    def change(self, settings: Settings, now: Instant) -> list[Action]:
        """New timers, never a flap: §6.8.3."""
        actions: list[Action] = []
        if settings.detect_mult != self.settings.detect_mult:
            self._packet = None
        self.settings = settings
        if not self.polling and not self._poll_rests:
            self._adopt_timers(now)
        if self._packet is None and not self._mute():
            self._send(now, actions)
        self._reschedule(now)
        return actions

    def discard(self, reason: str) -> None:
        self.discards[reason] = self.discards.get(reason, 0) + 1

    def clear_counters(self) -> None:
        self.packets_received = self.packets_sent = self.up_count = self.down_count = 0
        self.discards.clear()

    # -- the rules -------------------------------------------------------------------------------------------

    def _enter(
        self,
        new: BfdState,
        diag: BfdDiag,
        blame: str,
        now: Instant,
        actions: list[Action],
        final: bool = False,
    ) -> None:
        """The only place where the state changes: the record, the timers that go with it, and a packet at once."""
        old = self.state
        transition = Transition(
            old=old,
            new=new,
            diag=diag,
            remote_diag=self.remote_diag,
            remote_admin_down=self.remote_state is BfdState.ADMIN_DOWN,
            blame=blame,
            at=now,
            last_rx=self.last_rx,
            previous_rx=self.previous_rx,
            detection_time_us=self.detection_time_us,
        )
        self.state = new
        self.diag = diag
        self.since = now
        self._packet = None
        if new is BfdState.UP:
            self.up_count += 1
        if old is BfdState.UP:
            self.down_count += 1
            self.last_down = transition
        # Before the packet: a neighbor that reads Down in it closes BGP, and our side should know why by then.
        actions.append(transition)
        self._adopt_timers(now)
        if not self._mute():
            # §6.8.7: the contents changed, so it does not wait for the interval.
            self._send(now, actions, final=final)

    def _expire(self, now: Instant, evidence_lost: bool, actions: list[Action]) -> None:
        """A detection time without a packet (§6.8.4); in Down and AdminDown the remote is merely forgotten."""
        # §6.8.1 RemoteDiscr: zero, or a passive remote that restarted and we would discard each other for ever.
        # §6.8.18: a remote that said "send nothing" is spoken to again.
        self.remote_discriminator = 0
        self.remote_min_rx_us = 1
        self.remote_demand = False
        self.remote_state = BfdState.DOWN
        self._packet = None
        if self.state in {BfdState.INIT, BfdState.UP}:
            blame = "local-stall" if evidence_lost else "path-loss"
            self._enter(BfdState.DOWN, BfdDiag.CONTROL_DETECTION_TIME_EXPIRED, blame, now, actions)
        else:
            self._recompute(now)
        self._reschedule(now)

    def _blame_for_signal(self, packet: ControlPacket, now: Instant) -> str:
        if packet.state is BfdState.ADMIN_DOWN:
            return "admin"
        # Our own silence, if it was long enough to make the remote's detection time expire.
        remote_detection_us = self.settings.detect_mult * self.transmit_interval_us
        silence_us = 0
        if self.tx_due is not None and now > self.tx_due and self.last_tx is not None:
            silence_us = now - self.last_tx
        if now - self._stall_at < 2 * remote_detection_us:
            silence_us = max(silence_us, self._stall_us)
        expired = packet.diag == BfdDiag.CONTROL_DETECTION_TIME_EXPIRED
        return "local-stall" if expired and silence_us >= remote_detection_us else "remote-signalled"

    def _adopt_timers(self, now: Instant) -> None:
        """Bring what is advertised to what is configured (§6.8.3); called when no poll is under way, or to end one."""
        desired, required = self.settings.desired_min_tx_us, self.settings.required_min_rx_us
        if self.state is not BfdState.UP:
            # DEVIATES RFC 5880 §6.8.3: no poll while not Up; there is no agreed rate yet that it could protect.
            self.polling = self._poll_rests = False
            desired = max(desired, SLOW_TX_US)
            if (desired, required) != (self.desired_min_tx_us, self.required_min_rx_us):
                self._packet = None
            self.desired_min_tx_us = self.tx_in_force_us = desired
            self.required_min_rx_us = self.rx_in_force_us = required
        elif not self.polling and (desired, required) != (self.desired_min_tx_us, self.required_min_rx_us):
            self.polling = True
            self._packet = None
            self.desired_min_tx_us, self.required_min_rx_us = desired, required
            # The remote must have agreed before we send less often, or expect it more often.
            self.tx_in_force_us = min(self.tx_in_force_us, desired)
            self.rx_in_force_us = max(self.rx_in_force_us, required)
        self._recompute(now)

    def _recompute(self, now: Instant) -> None:
        """The transmit interval and the detection time from what either side said last."""
        self.detection_time_us = detection_time(
            self.remote_detect_mult, self.rx_in_force_us, self.remote_desired_min_tx_us
        )
        interval = max(self.tx_in_force_us, self.remote_min_rx_us)
        if interval != self.transmit_interval_us:
            self.transmit_interval_us = interval
            if self.tx_due is not None and self.last_tx is not None:
                self.tx_due = max(now, self.last_tx + jittered(interval, self.settings.detect_mult, self.rng))

    def _mute(self) -> bool:
        """§6.1: a passive end does not speak first."""
        return self.settings.passive and self.remote_discriminator == 0

    def _periodic_forbidden(self) -> bool:
        """§6.8.7: the reasons for which nothing goes out by the timer."""
        if self._mute() or self.remote_min_rx_us == 0:
            return True
        both_up = self.state is BfdState.UP and self.remote_state is BfdState.UP
        return self.remote_demand and both_up and not self.polling

    def _reschedule(self, now: Instant) -> None:
        if self._periodic_forbidden():
            self.tx_due = None
        elif self.tx_due is None:
            self.tx_due = now
            if self.last_tx is not None:
                interval = jittered(self.transmit_interval_us, self.settings.detect_mult, self.rng)
                self.tx_due = max(now, self.last_tx + interval)

    def _send(self, now: Instant, actions: list[Action], final: bool = False) -> None:
        """One packet; the answer to a poll leaves the transmission timer alone, any other restarts it."""
        if final:
            data = self._build(final=True)
        else:
            if self._packet is None:
                self._packet = self._build(final=False)
            data = self._packet
            if not self._periodic_forbidden():
                self.tx_due = now + jittered(self.transmit_interval_us, self.settings.detect_mult, self.rng)
            else:
                self.tx_due = None
            self.last_tx = now
        self.packets_sent += 1
        actions.append(Transmit(data))

    def _build(self, final: bool) -> bytes:
        return push_control(
            ControlPacket(
                state=self.state,
                diag=self.diag,
                poll=self.polling and not final,
                final=final,
                detect_mult=self.settings.detect_mult,
                my_discriminator=self.local_discriminator,
                your_discriminator=self.remote_discriminator,
                desired_min_tx_us=self.desired_min_tx_us,
                required_min_rx_us=self.required_min_rx_us,
            )
        )
