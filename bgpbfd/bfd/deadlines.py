"""What can be asked of a BFD session: when it wants to be woken, and why. Asking changes nothing."""

from __future__ import annotations

from bgpbfd.bfd.states import NEXT_STATE
from bgpbfd.bfd.timers import SLOW_TX_US
from bgpbfd.bfd.variables import Variables
from bgpbfd.core import Instant, Micros
from bgpbfd.wire.bfd import ControlPacket
from bgpbfd.wire.iana import BfdState


class Deadlines(Variables):
    """The deadlines of the session, each from its variables."""

    __slots__ = ()

    def next_deadline(self) -> Instant | None:
        """When ``wake`` wants to be called; asking changes nothing."""
        earliest = self.tx_due
        expiry = self.detection_deadline()
        if expiry is not None and (earliest is None or expiry < earliest):
            earliest = expiry
        if self.settings.demand or self._poll_rests or self.echo.interval_us:
            others = (self._verify_at(), self._rest_ends_at(), self.echo.due, self._echo_deadline())
            earliest = min((at for at in (earliest, *others) if at is not None), default=None)
        return earliest

    def detection_deadline(self) -> Instant | None:
        """When the remote counts as silent; None with nothing to lose (no packet yet, or it is already forgotten).

        In demand mode only a poll can find that out (§6.8.4).
        """
        if self.last_rx is None or self.remote_discriminator == 0:
            return None
        heard_at = max(self.last_rx, self._excused_at)
        if self.settings.demand and self.demand_in_force:
            return max(heard_at, self._poll_since) + self.detection_in_force_us if self.polling else None
        return heard_at + self.detection_time_us

    def judged_at(self) -> Instant | None:
        """The earliest moment at which ``wake`` may declare the remote gone: the shell reads its sockets before it."""
        expiry, echo = self.detection_deadline(), self._echo_deadline()
        if expiry is None or echo is None:
            return expiry if echo is None else echo
        return min(expiry, echo)

    def is_steady(self, packet: ControlPacket) -> bool:
        """Whether the same packet, arriving again, would do nothing but refresh the detection timer."""
        return (
            self.state is BfdState.UP
            and self.remote_state is packet.state
            and NEXT_STATE[self.state, packet.state] is self.state
            and not (packet.poll or packet.final)
            and self.tx_due is not None
            and not self.remote_demand
            and not self.auth.active
        )

    def steady_packet(self) -> bytes | None:
        """The packet whose sending is all that ``wake`` would do at ``tx_due``, before the detection time; else None.

        So it stays until anything but a repetition of a packet that ``is_steady`` is handed in.
        """
        if (
            self.state is not BfdState.UP
            or self.tx_due is None
            or self.last_rx is None
            or self._unsettled
            or self._poll_rests
            or self.remote_demand
            or self.settings.demand
            or self.echo.interval_us
            or self.auth.active
        ):
            return None
        return self._packet

    def linger_us(self) -> Micros:
        """How long AdminDown has to be signalled before this end may fall silent (§6.8.16): one detection time.

        The greater of both directions', as in force now; ask before going AdminDown. A remote that does not hold the
        session for up is told once, and not waited for.
        """
        if self.state not in {BfdState.INIT, BfdState.UP}:
            return 0
        return max(self.detection_time_us, self.settings.detect_mult * self.transmit_interval_us)

    def _verify_at(self) -> Instant | None:
        """Demand mode: when the next poll is due. A silent remote is found out within two detection times."""
        if not self.settings.demand or self.polling or self.last_rx is None or not self.demand_in_force:
            return None
        return self.last_rx + self.detection_in_force_us

    def _rest_ends_at(self) -> Instant | None:
        """When a changed timer need not wait any longer for a packet between two polls, where none goes by itself."""
        if not self._poll_rests or self.tx_due is not None:
            return None
        desired, required = self._wanted()
        changed = (desired, required) != (self.desired_min_tx_us, self.required_min_rx_us)
        return self._poll_rests_until if changed else None

    def _echo_deadline(self) -> Instant | None:
        """When echo packets have been away for too long; never before one has come back (a remote that returns none,
        though it says so, is no failure: as RFC 5882 §3.3 has it of a session that was never Up)."""
        return self.echo.deadline(self.settings.detect_mult) if self.echo.working else None

    def _wanted(self) -> tuple[Micros, Micros]:
        """(DesiredMinTxInterval, RequiredMinRxInterval) as they should be now, §6.8.3."""
        desired, required = self.settings.desired_min_tx_us, self.settings.required_min_rx_us
        if self.state is not BfdState.UP:
            desired = max(desired, SLOW_TX_US)
        elif self.echo.working:
            # "When the Echo function is active, a system SHOULD set bfd.RequiredMinRxInterval to a value of not less
            # than one second": the echo packets find a failure sooner.
            required = max(required, SLOW_TX_US)
        return desired, required
