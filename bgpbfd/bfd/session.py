"""One BFD session (RFC 5880 §6), sans-IO: asynchronous and demand mode, echo function, authentication.

The shell hands in what happened and the time, and carries out the actions that come back. Reception follows
§6.8.6 from the point where the session is known, transmission §6.8.7, timer changes §6.8.3. The timers are the next
periodic transmission, the detection time, in demand mode the next poll (§6.6), and what the echo function has. The
detection time is never moved when a packet arrives: the arrival is noted, and whoever wakes at ``next_deadline`` finds
it later than thought.
"""

from __future__ import annotations

from bgpbfd.bfd.deadlines import Deadlines
from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.states import NEXT_STATE, Action, Transition, Transmit, TransmitEcho
from bgpbfd.bfd.timers import LAG_US, TICK_US, detection_time, jittered
from bgpbfd.core import Instant, Micros
from bgpbfd.wire.bfd import ControlPacket, Discard, push_control
from bgpbfd.wire.iana import BfdDiag, BfdState


class Session(Deadlines):
    """The rules that move the variables."""

    __slots__ = ()

    # -- what the shell tells --------------------------------------------------------------------------------

    def receive_steady(self, at: Instant) -> None:
        """A repetition of a packet that ``is_steady``; ``receive`` would come to the same."""
        last = self.last_rx
        self.previous_rx = last
        self.last_rx = at
        self.packets_received += 1
        if last is not None and at - last > self.late_after_us:
            self._note_late(at - last)

    def receive(self, packet: ControlPacket, at: Instant, now: Instant, data: bytes = b"") -> list[Action]:
        """A packet that was found to be this session's; ``at`` is when it reached the host, ``data`` its octets.

        RFC 5880 §6.8.6 from the authentication step on.
        """
        reason = self._unauthentic(packet, at, data)
        if reason is not None:
            self.discard(reason)
            return []
        actions: list[Action] = []
        self.packets_received += 1
        if packet.my_discriminator != self.remote_discriminator:
            self.remote_discriminator = packet.my_discriminator
            self._packet = None
        switched_off = (packet.state is BfdState.ADMIN_DOWN) is not (self.remote_state is BfdState.ADMIN_DOWN)
        self.remote_state = packet.state
        self.remote_diag = packet.diag
        self.remote_demand = packet.demand
        self.remote_control_plane_independent = packet.control_plane_independent
        self.remote_detect_mult = packet.detect_mult
        self.remote_desired_min_tx_us = packet.desired_min_tx_us
        self.remote_min_echo_rx_us = packet.required_min_echo_rx_us
        self.remote_min_rx_us = packet.required_min_rx_us
        poll_ends = packet.final and self.polling
        if poll_ends:
            self.polling = False
            self._poll_rests = True
            self._packet = None
            self._unsettled = True
            self.tx_in_force_us = self.desired_min_tx_us
            self.rx_in_force_us = self.required_min_rx_us
        self._recompute(now)
        if poll_ends:
            self._poll_rests_until = now + self.settings.detect_mult * self.transmit_interval_us
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
        else:
            if switched_off:
                actions.append(self._told(self.state, self.state, self.diag, "", now))
            if (
                self.state is BfdState.UP
                and self.previous_rx is not None
                and at - self.previous_rx > self.late_after_us
            ):
                self._note_late(at - self.previous_rx)
            self._run_echo(now)
            self._settle(now, actions)
            if packet.poll:
                # §6.8.7: at once, whatever the transmission timer and the reasons for silence say.
                self._send(now, actions, final=True)
            if self._built_demand is not self.demand_in_force:
                # §6.8.7: the contents changed; the D bit follows the remote's state.
                self._packet = None
                if not packet.poll:
                    self._send(now, actions)
        self._reschedule(now)
        return actions

    def receive_echo(self, payload: bytes, at: Instant, now: Instant) -> list[Action]:
        """An echo packet that came back at ``at``; what is none of ours is counted and thrown away."""
        actions: list[Action] = []
        if not self.echo.receive(payload, at):
            self.discard(Discard.ECHO)
        else:
            self._settle(now, actions)  # the first one changes what is wanted of the control packets
        return actions

    def wake(self, now: Instant, evidence_lost: bool = False) -> list[Action]:
        """A deadline may have come. Every packet that reached the host before ``now`` must have been handed in.

        ``evidence_lost``: the host dropped packets unseen since the last call (its socket overflowed).
        """
        actions: list[Action] = []
        expiry = self.detection_deadline()
        if expiry is not None and now >= expiry:
            if evidence_lost and self.last_rx is not None and self._excused_at < self.last_rx:
                # DEVIATES RFC 5880 §6.8.4: what we dropped ourselves is not held against the remote, once; nor are the
                # sequence numbers in it.
                self._excused_at = now
                self.auth.forget()
            else:
                self._expire(now, evidence_lost, actions)
        if self.tx_due is not None and now >= self.tx_due:
            if now > self.tx_due + LAG_US:
                self.note_stall(now)
            if self._poll_rests:
                # §6.5: a packet without P goes between two polls, so that a late Final of the first is not
                # taken for the second's.
                self._poll_rests = False
            else:
                self._adopt_timers(now)
            self._send(now, actions)
        if self.settings.demand or self._poll_rests or self.echo.interval_us:
            self._wake_others(now, actions)
        return actions

    def _wake_others(self, now: Instant, actions: list[Action]) -> None:
        """What is not every session's: polls of demand mode, a change that waits for a poll to rest, echo packets."""
        rests = self._rest_ends_at()
        if rests is not None and now >= rests:
            self._poll_rests = False
            self._settle(now, actions)
        verify = self._verify_at()
        if verify is not None and now >= verify:
            # §6.6: the remote has been silent, as it was asked to be; whether it is still there has to be asked.
            self._poll_rests = False  # its Final is a detection time old
            self._begin_poll(now)
            self._send(now, actions)
        lost = self._echo_deadline()
        if lost is not None and now >= lost:
            self._enter(BfdState.DOWN, BfdDiag.ECHO_FUNCTION_FAILED, "path-loss", now, actions)
            self._reschedule(now)
        if self.echo.due is not None and now >= self.echo.due:
            # §6.8.9: the interval less up to a quarter.
            delay_us = jittered(self.echo.pace_us, self.settings.detect_mult, self.rng, TICK_US)
            actions.append(TransmitEcho(self.echo.send(now, delay_us)))

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
        """New settings, never a flap: timers by §6.8.3, what else our packets say at once.

        ValueError, and nothing has changed: a key that cannot be used.
        """
        actions: list[Action] = []
        if settings.auth != self.settings.auth:
            self.auth.change(settings.auth)
        demanded = self.demand_in_force
        old, self.settings = self.settings, settings
        if demanded and not settings.demand:
            self._excused_at = now  # the remote is silent because we asked for it, and has yet to hear otherwise
        if _contents(settings) != _contents(old) or self._built_demand is not self.demand_in_force:
            self._packet = None
        self._unsettled = True
        self._run_echo(now)
        if not self.polling and not self._poll_rests:
            self._adopt_timers(now)
        if self._packet is None and not self._mute():
            self._send(now, actions)
        self._reschedule(now)
        return actions

    # -- the rules -------------------------------------------------------------------------------------------

    def _enter(
        self,
        new: BfdState,
        diag: BfdDiag,
        blame: str,
        now: Instant,
        actions: list[Action],
        final: bool = False,
        detection_time_us: Micros | None = None,
    ) -> None:
        """The only place where the state changes: the record, the timers that go with it, and a packet at once."""
        old = self.state
        transition = self._told(old, new, diag, blame, now)
        if detection_time_us is not None:
            transition.detection_time_us = detection_time_us
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
        self._run_echo(now)
        self._adopt_timers(now)
        if not self._mute():
            # §6.8.7: the contents changed, so it does not wait for the interval.
            self._send(now, actions, final=final)

    def _told(self, old: BfdState, new: BfdState, diag: BfdDiag, blame: str, now: Instant) -> Transition:
        """What is told of a change; with one state twice, that the remote has gone AdminDown or come back from it,
        which moves nothing in Down, and is not the same to who uses the session (RFC 5882 §3.2)."""
        return Transition(
            old=old,
            new=new,
            diag=diag,
            remote_diag=self.remote_diag,
            remote_admin_down=self.remote_state is BfdState.ADMIN_DOWN,
            blame=blame,
            at=now,
            last_rx=self.last_rx,
            previous_rx=self.previous_rx,
            detection_time_us=self.detection_in_force_us,
            control_plane_independent=(
                self.settings.control_plane_independent and self.remote_control_plane_independent
            ),
        )

    def _expire(self, now: Instant, evidence_lost: bool, actions: list[Action]) -> None:
        """A detection time without a packet (§6.8.4); in Down and AdminDown the remote is merely forgotten."""
        # §6.8.1 RemoteDiscr: zero, or a passive remote that restarted and we would discard each other for ever.
        # §6.8.18: a remote that said "send nothing" is spoken to again.
        detection_us = self.detection_in_force_us  # which was that of demand mode, if the remote was Up
        self.remote_discriminator = 0
        self.remote_min_rx_us = 1
        self.remote_demand = False
        switched_off = self.remote_state is BfdState.ADMIN_DOWN
        self.remote_state = BfdState.DOWN
        self._packet = None
        if self.state in {BfdState.INIT, BfdState.UP}:
            blame = "local-stall" if evidence_lost else "path-loss"
            diag = BfdDiag.CONTROL_DETECTION_TIME_EXPIRED
            self._enter(BfdState.DOWN, diag, blame, now, actions, detection_time_us=detection_us)
        else:
            if switched_off:
                actions.append(self._told(self.state, self.state, self.diag, "", now))
            self._recompute(now)
        self._reschedule(now)

    def _unauthentic(self, packet: ControlPacket, at: Instant, data: bytes) -> Discard | None:
        """§6.8.6: why the packet is not believed."""
        if not self.auth.active:
            return None if packet.authentication is None else Discard.AUTHENTICATION
        if packet.authentication is None:
            return Discard.AUTH_MISSING
        if self.last_rx is not None and at - self.last_rx >= 2 * self.detection_in_force_us:
            # §6.8.1 AuthSeqKnown: "no packets have been received on this session for at least twice the Detection
            # Time": a remote that restarted begins anywhere.
            self.auth.forget()
        return self.auth.verify(data)

    def _note_late(self, gap_us: Micros) -> None:
        """A packet came more than one and a half intervals after the one before it: one was lost, or held up."""
        if self.settings.demand and self.demand_in_force:
            return
        self.late_packets += 1
        self.late_untold += 1
        self.late_longest_us = max(self.late_longest_us, gap_us)

    def note_stall(self, now: Instant) -> None:
        """We have been silent for longer than we meant: what the remote says next may be our own fault."""
        if self.last_tx is not None:
            self._stall_us, self._stall_at = now - self.last_tx, now

    def _run_echo(self, now: Instant) -> None:
        """§6.8.9: echo packets only while Up, only if the remote takes them, and no faster than it says."""
        interval_us = 0
        if self.state is BfdState.UP and self.settings.echo_tx_us and self.remote_min_echo_rx_us:
            interval_us = max(self.settings.echo_tx_us, self.remote_min_echo_rx_us)
        self.echo.set_interval(interval_us, now)

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
        desired, required = self._wanted()
        self._unsettled = self.polling
        if self.state is not BfdState.UP:
            # DEVIATES RFC 5880 §6.8.3: no poll while not Up; there is no agreed rate yet that it could protect.
            self.polling = self._poll_rests = False
            if (desired, required) != (self.desired_min_tx_us, self.required_min_rx_us):
                self._packet = None
            self.desired_min_tx_us = self.tx_in_force_us = desired
            self.required_min_rx_us = self.rx_in_force_us = required
        elif not self.polling and (desired, required) != (self.desired_min_tx_us, self.required_min_rx_us):
            self._begin_poll(now)
            self.desired_min_tx_us, self.required_min_rx_us = desired, required
            # The remote must have agreed before we send less often, or expect it more often.
            self.tx_in_force_us = min(self.tx_in_force_us, desired)
            self.rx_in_force_us = max(self.rx_in_force_us, required)
        self._recompute(now)

    def _settle(self, now: Instant, actions: list[Action]) -> None:
        """Poll for what is wanted and not said yet, where no packet is due that would see to it."""
        if self.state is not BfdState.UP or self._wanted() == (self.desired_min_tx_us, self.required_min_rx_us):
            return
        self._unsettled = True
        if self.tx_due is None and not self.polling and not self._poll_rests:
            self._adopt_timers(now)
            self._send(now, actions)
            self._reschedule(now)

    def _begin_poll(self, now: Instant) -> None:
        self.polling = self._unsettled = True
        self._poll_since = now
        self._packet = None

    def _recompute(self, now: Instant) -> None:
        """The transmit interval and the detection time from what either side said last."""
        self.detection_time_us = detection_time(
            self.remote_detect_mult, self.rx_in_force_us, self.remote_desired_min_tx_us
        )
        self.late_after_us = max(self.rx_in_force_us, self.remote_desired_min_tx_us) * 3 // 2
        interval = max(self.tx_in_force_us, self.remote_min_rx_us)
        if interval != self.transmit_interval_us:
            self.transmit_interval_us = interval
            if self.tx_due is not None and self.last_tx is not None:
                self.tx_due = max(now, self._due_again(self.last_tx))

    def _due_again(self, sent_at: Instant) -> Instant:
        interval_us, detect_mult = self.transmit_interval_us, self.settings.detect_mult
        return sent_at + jittered(interval_us, detect_mult, self.rng, self.late_us)

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
                self.tx_due = max(now, self._due_again(self.last_tx))

    def _send(self, now: Instant, actions: list[Action], final: bool = False) -> None:
        """One packet; the answer to a poll leaves the transmission timer alone, any other restarts it."""
        if final:
            data = self._build(final=True)
        else:
            if self._packet is None:
                self._packet = self._build(final=False)
            data = self._packet
            if not self._periodic_forbidden():
                self.tx_due = self._due_again(now)
            else:
                self.tx_due = None
            self.last_tx = now
        self.packets_sent += 1
        actions.append(Transmit(self.auth.sign(data) if self.auth.active else data))

    def _build(self, final: bool) -> bytes:
        demand = self.demand_in_force
        if not final:
            self._built_demand = demand
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
                required_min_echo_rx_us=self.settings.required_min_echo_rx_us,
                control_plane_independent=self.settings.control_plane_independent,
                demand=demand,
            )
        )


def _contents(settings: Settings) -> tuple[int, bool, Micros]:
    """What our packets say without a poll."""
    return settings.detect_mult, settings.control_plane_independent, settings.required_min_echo_rx_us
