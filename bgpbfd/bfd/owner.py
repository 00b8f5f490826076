"""A session together with what carries it, and what the worker tells of it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from bgpbfd.bfd.protocol import Add, SessionReport, StateChange
from bgpbfd.bfd.session import STATE_NAMES, Session, Transition
from bgpbfd.core import Instant


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
    steady: bytes | None = None
    fault: str | None = None
    sends_failed: dict[str, int] = field(default_factory=dict)
    leaving: bool = False
    leaves_at: Instant = 0  # while leaving: until then it signals AdminDown
    closed: bool = False


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
    )


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
        detection_time_us=session.detection_time_us,
        last_rx=session.last_rx,
        packets_received=session.packets_received,
        packets_sent=session.packets_sent - sum(owner.sends_failed.values()),
        packets_discarded={
            **session.discards,
            **{f"not-sent-{reason.lower()}": count for reason, count in owner.sends_failed.items()},
        },
        up_count=session.up_count,
        down_count=session.down_count,
        last_down=None if session.last_down is None else state_change(owner.add, session.last_down),
        fault=owner.fault,
    )
