"""What a BFD session knows and counts: the variables of RFC 5880 §6.8.1, without the rules."""

from __future__ import annotations

from random import Random

from bgpbfd.bfd.auth import Authenticator
from bgpbfd.bfd.echo import Echo
from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.states import Transition
from bgpbfd.bfd.timers import FIRST_TX_WITHIN_US, SLOW_TX_US, TICK_US, tick_us
from bgpbfd.core import Instant, Micros
from bgpbfd.wire.iana import BfdDiag, BfdState


class Variables:
    """The variables of RFC 5880 §6.8.1 under their names, and what is counted.

    ``desired_min_tx_us`` and ``required_min_rx_us`` are what our packets say; ``tx_in_force_us`` and
    ``rx_in_force_us`` what is reckoned with, which differs while a poll is under way (§6.8.3). ``first_tx_within_us``:
    a host's sessions do not all speak in the same instant of its start. ``ticked``: the shell goes by the tick, which
    the jitter has to allow for.
    """

    __slots__ = (
        "_built_demand",
        "_excused_at",
        "_packet",
        "_poll_rests",
        "_poll_rests_until",
        "_poll_since",
        "_stall_at",
        "_stall_us",
        "_unsettled",
        "auth",
        "control_lost",
        "desired_min_tx_us",
        "detection_time_us",
        "diag",
        "discards",
        "down_count",
        "echo",
        "last_down",
        "last_rx",
        "last_tx",
        "late_after_us",
        "late_longest_us",
        "late_packets",
        "late_untold",
        "local_discriminator",
        "packets_received",
        "packets_sent",
        "polling",
        "previous_rx",
        "remote_control_plane_independent",
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
        "ticked",
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
        first_tx_within_us: Micros = FIRST_TX_WITHIN_US,
    ) -> None:
        self.local_discriminator = local_discriminator
        self.settings = settings
        self.rng = rng
        self.auth = Authenticator(settings.auth, rng)
        self.echo = Echo(local_discriminator, rng)
        self.state = BfdState.ADMIN_DOWN if admin_down else BfdState.DOWN
        self.diag = BfdDiag.ADMINISTRATIVELY_DOWN if admin_down else BfdDiag.NONE
        self.since = now
        self.control_lost = control_lost
        # §6.8.1: what is known of the remote before it spoke.
        self.remote_discriminator = 0
        self.remote_state = BfdState.DOWN
        self.remote_diag = 0
        self.remote_demand = False
        self.remote_control_plane_independent = False
        self.remote_detect_mult = 0
        self.remote_min_rx_us: Micros = 1
        self.remote_desired_min_tx_us: Micros = 0
        self.remote_min_echo_rx_us: Micros = 0
        self.last_rx: Instant | None = None
        self.previous_rx: Instant | None = None
        self.last_tx: Instant | None = None
        self.detection_time_us: Micros = 0
        self.polling = False
        self._poll_since: Instant = 0
        self._poll_rests = False
        self._poll_rests_until: Instant = 0
        self._excused_at: Instant = 0
        self.ticked = False
        self._stall_us: Micros = 0
        self._stall_at: Instant = 0
        self._packet: bytes | None = None
        self._unsettled = True  # what our packets say of the timers may not be what is wanted
        self._built_demand = False
        self.packets_received = self.packets_sent = self.up_count = self.down_count = 0
        self.late_after_us: Micros = 0
        self.late_packets = self.late_untold = 0
        self.late_longest_us: Micros = 0
        self.discards: dict[str, int] = {}
        self.last_down: Transition | None = None
        self.desired_min_tx_us = self.tx_in_force_us = max(settings.desired_min_tx_us, SLOW_TX_US)
        self.required_min_rx_us = self.rx_in_force_us = settings.required_min_rx_us
        self.transmit_interval_us = self.desired_min_tx_us
        self.tx_due: Instant | None = None if settings.passive else now + rng.randint(0, first_tx_within_us)

    @property
    def demand_in_force(self) -> bool:
        """§6.6: the remote has been asked to be silent. It cannot be polled where it wants no packets at all."""
        both_up = self.state is BfdState.UP and self.remote_state is BfdState.UP
        return self.settings.demand and both_up and self.remote_min_rx_us > 0

    @property
    def detection_in_force_us(self) -> Micros:
        """§6.8.4: in demand mode it is the *local* multiplier over our own interval."""
        if self.settings.demand and self.demand_in_force:
            return self.settings.detect_mult * self.transmit_interval_us
        return self.detection_time_us

    @property
    def late_us(self) -> Micros:
        """By how much the shell may be late to a transmission."""
        return TICK_US + (tick_us(self.transmit_interval_us, self.settings.detect_mult) if self.ticked else 0)

    def discard(self, reason: str) -> None:
        self.discards[reason] = self.discards.get(reason, 0) + 1

    def clear_counters(self) -> None:
        self.packets_received = self.packets_sent = self.up_count = self.down_count = 0
        self.late_packets = 0
        self.echo.clear_counters()
        self.discards.clear()

    def take_late(self) -> tuple[int, Micros]:
        """How many packets were late since the last call, and the longest gap."""
        told = self.late_untold, self.late_longest_us
        self.late_untold = self.late_longest_us = 0
        return told
