"""A session together with what carries it, and what the worker tells of it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from bgpbfd.bfd.protocol import Add, Late, SessionReport, StateChange
from bgpbfd.bfd.session import Session
from bgpbfd.bfd.states import STATE_NAMES, Transition
from bgpbfd.core import Instant, Micros
from bgpbfd.wire.bfd import SINGLE_HOP_TTL


def no_socket(_: bytes) -> int:
    raise OSError(errno.EBADF, "not open")


Beat: TypeAlias = "tuple[Owner, Session, Callable[[bytes], int], bytes, Micros, Micros, Micros, int]"
"""All that the sending of a packet once more needs: whose, the socket's ``send``, the packet, the detection time, how
long before its end it is watched by itself, the least delay to the next packet, and below how much more is drawn on
top of it. Made anew whenever something changes."""


@dataclass(slots=True, eq=False)
class Owner:
    """A session and what carries it."""

    add: Add
    session: Session
    remote: str
    local: str | None
    discriminator: int
    ifindex: int | None = None
    sock: socket.socket | None = None
    source: str | None = None
    source_port: int = 0
    armed: Instant | None = None  # the deadline of its valid entry in the heap
    send: Callable[[bytes], int] = no_socket  # that of its socket
    steady_rx: bytes | None = None  # what comes, as long as nothing changes
    beat: Beat | None = None  # what goes out, as long as nothing changes
    fault: str | None = None
    sends_failed: dict[str, int] = field(default_factory=dict)
    leaving: bool = False
    leaves_at: Instant = 0  # while leaving: until then it signals AdminDown
    closed: bool = False
    echo_sock: socket.socket | None = None
    echo_port: int = 0
    arrived_on: int = 0  # the interface of the last packet that was looked at, where echo is configured
    limits: str | None = None  # what of its settings cannot be had here

    def control_lost(self) -> int:
        """Control packets that could not be sent."""
        return sum(self.sends_failed.values()) - self.echo_lost()

    def echo_lost(self) -> int:
        return sum(count for reason, count in self.sends_failed.items() if reason.startswith("echo"))

    @property
    def minimum_ttl(self) -> int:
        return self.add.settings.minimum_ttl

    def discard(self, reason: str) -> None:
        self.session.discard(reason)


def state_change(add: Add, transition: Transition) -> StateChange:
    return StateChange(
        key=add.key,
        generation=add.generation,
        old=STATE_NAMES[transition.old],
        new=STATE_NAMES[transition.new],
        diag=transition.diag,
        remote_diag=transition.remote_diag,
        remote_admin_down=transition.remote_admin_down,
        blame=transition.blame,
        at=transition.at,
        last_rx=transition.last_rx,
        previous_rx=transition.previous_rx,
        detection_time_us=transition.detection_time_us,
        control_plane_independent=transition.control_plane_independent,
    )


def late_packets(owner: Owner, now: Instant) -> Late | None:
    """What came late since the last call; None where nothing did."""
    session = owner.session
    if not session.late_untold:
        return None
    count, gap_us = session.take_late()
    interval_us = max(session.rx_in_force_us, session.remote_desired_min_tx_us)
    add = owner.add
    return Late(key=add.key, generation=add.generation, count=count, gap_us=gap_us, interval_us=interval_us, at=now)


def session_report(owner: Owner) -> SessionReport:
    session = owner.session
    return SessionReport(
        key=owner.add.key,
        generation=owner.add.generation,
        remote=owner.remote,
        local=owner.source or owner.local,
        interface=owner.add.interface,
        state=STATE_NAMES[session.state],
        since=session.since,
        remote_state=STATE_NAMES[session.remote_state],
        diag=session.diag,
        remote_diag=session.remote_diag,
        local_discriminator=session.local_discriminator,
        remote_discriminator=session.remote_discriminator,
        source_port=owner.source_port,
        passive=session.settings.passive,
        polling=session.polling,
        desired_min_tx_us=session.desired_min_tx_us,
        required_min_rx_us=session.required_min_rx_us,
        detect_mult=session.settings.detect_mult,
        remote_desired_min_tx_us=session.remote_desired_min_tx_us,
        remote_required_min_rx_us=session.remote_min_rx_us,
        remote_required_min_echo_rx_us=session.remote_min_echo_rx_us,
        remote_detect_mult=session.remote_detect_mult,
        transmit_interval_us=session.transmit_interval_us,
        detection_time_us=session.detection_in_force_us,
        last_rx=session.last_rx,
        packets_received=session.packets_received,
        packets_sent=session.packets_sent - owner.control_lost(),
        packets_discarded={
            **session.discards,
            **{f"not-sent-{reason.lower()}": count for reason, count in owner.sends_failed.items()},
        },
        up_count=session.up_count,
        down_count=session.down_count,
        last_down=None if session.last_down is None else state_change(owner.add, session.last_down),
        fault=owner.fault or owner.limits,
        multihop=owner.add.multihop,
        minimum_ttl=owner.minimum_ttl if owner.add.multihop else SINGLE_HOP_TTL,
        demand=session.demand_in_force,
        remote_demand=session.remote_demand,
        control_plane_independent=session.settings.control_plane_independent,
        remote_control_plane_independent=session.remote_control_plane_independent,
        auth_type=session.auth.signing_type,
        auth_key_id=session.auth.signing_key_id,
        remote_auth_key_id=session.auth.last_key_id,
        required_min_echo_rx_us=session.settings.required_min_echo_rx_us,
        echo_tx_us=session.echo.interval_us,
        echo_received=session.echo.received,
        echo_sent=session.echo.sent - owner.echo_lost(),
        rtt_min_us=session.echo.rtt_min_us,
        rtt_avg_us=session.echo.rtt_avg_us,
        rtt_max_us=session.echo.rtt_max_us,
        late_packets=session.late_packets,
        previous_rx=session.previous_rx,
        last_tx=session.last_tx,
    )
