"""BFD sessions as JSON fields; with ``views`` the only place that names them.

Names are FRR's, in snake_case, where ``show bfd peers`` or ``counters`` has the field, and ours in the same style for
the rest. FRR's intervals and timeouts are milliseconds, its round-trip times (``rtt_…``) microseconds, ``uptime`` and
``downtime`` seconds; of our own fields a duration is in seconds unless its name ends with a unit, a point in time is
Unix seconds. A field whose value is not known is null. Authentication keys have no field: only their ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from bgpbfd.api.clock import Clock, Json
from bgpbfd.bfd.protocol import Late, SessionReport, StateChange
from bgpbfd.control.snapshot import BfdSnapshot
from bgpbfd.core import Instant, Micros

_DIAGNOSTICS = (
    "ok",
    "control detection time expired",
    "echo function failed",
    "neighbor signaled session down",
    "forwarding plane reset",
    "path down",
    "concatenated path down",
    "administratively down",
    "reverse concatenated path down",
)
NOT_SENT = "not-sent-"
"""What the names of those of the worker's counts begin with that are of packets of ours."""


def bfd_session(session: BfdSnapshot, clock: Clock) -> Json:
    """One session of ``show_bfd``: FRR's fields, then ours."""
    report = session.report
    head: Json = {
        "peer": session.peer,
        "description": session.description,
        "type": _type(session),
        "clients": list(session.clients),
        "profile": session.profile,
        "mode": session.mode,
        "vrf": "default",
        "multihop": session.multihop,
        "minimum_ttl": session.minimum_ttl,
        "damped_for": clock.until(session.damped_until) or None,
    }
    if report is None:
        return head | dict.fromkeys(_REPORTED) | {"status": "down", "fault": session.fault}
    tail = _reported(report, clock)
    return head | tail | {"fault": report.fault or session.fault}


def _reported(report: SessionReport, clock: Clock) -> Json:
    """What the worker says of a session; ``_REPORTED`` has the names."""
    up = report.state == "up"
    age = clock.age(report.since)
    return {
        "multihop": report.multihop,
        "minimum_ttl": report.minimum_ttl,
        "local": report.local,
        "interface": report.interface,
        "id": report.local_discriminator,
        "remote_id": report.remote_discriminator,
        "passive_mode": report.passive,
        "status": status(report.state),
        "uptime": age if up else None,
        "downtime": None if up else age,
        "diagnostic": diagnostic(report.diag),
        "remote_diagnostic": diagnostic(report.remote_diag),
        "receive_interval": _ms(report.required_min_rx_us),
        "transmit_interval": _ms(report.desired_min_tx_us),
        "detect_multiplier": report.detect_mult,
        "detection_timeout": _ms(report.detection_time_us),
        "echo_receive_interval": _ms(report.required_min_echo_rx_us),
        "echo_transmit_interval": _ms(report.echo_tx_us),
        "remote_receive_interval": _ms(report.remote_required_min_rx_us),
        "remote_transmit_interval": _ms(report.remote_desired_min_tx_us),
        "remote_echo_receive_interval": _ms(report.remote_required_min_echo_rx_us),
        "remote_detect_multiplier": report.remote_detect_mult,
        "rtt_min": report.rtt_min_us,
        "rtt_avg": report.rtt_avg_us,
        "rtt_max": report.rtt_max_us,
        "remote_status": status(report.remote_state),
        "since": clock.unix(report.since),
        "in_force_transmit_interval_ms": _ms(report.transmit_interval_us),
        "last_packet_age_ms": _age_ms(clock, report.last_rx),
        "previous_packet_age_ms": _age_ms(clock, report.previous_rx),
        "last_transmit_age_ms": _age_ms(clock, report.last_tx),
        "late_packets": report.late_packets,
        "source_port": report.source_port,
        "polling": report.polling,
        "demand": report.demand,
        "remote_demand": report.remote_demand,
        "control_plane_independent": report.control_plane_independent,
        "remote_control_plane_independent": report.remote_control_plane_independent,
        "auth_type": report.auth_type,
        "auth_key_id": report.auth_key_id,
        "remote_auth_key_id": report.remote_auth_key_id,
        "session_up": report.up_count,
        "session_down": report.down_count,
        "last_down": None
        if report.last_down is None
        else bfd_change(report.last_down, clock) | {"age": clock.age(report.last_down.at)},
    }


_REPORTED = (
    "local", "interface", "id", "remote_id", "passive_mode", "status", "uptime", "downtime", "diagnostic",
    "remote_diagnostic", "receive_interval", "transmit_interval", "detect_multiplier", "detection_timeout",
    "echo_receive_interval", "echo_transmit_interval", "remote_receive_interval", "remote_transmit_interval",
    "remote_echo_receive_interval", "remote_detect_multiplier", "rtt_min", "rtt_avg", "rtt_max",
    "remote_status", "since", "in_force_transmit_interval_ms", "last_packet_age_ms", "previous_packet_age_ms",
    "last_transmit_age_ms", "late_packets", "source_port", "polling", "demand", "remote_demand",
    "control_plane_independent", "remote_control_plane_independent", "auth_type", "auth_key_id", "remote_auth_key_id",
    "session_up", "session_down", "last_down", "fault",
)  # fmt: skip


def _type(session: BfdSnapshot) -> str:
    """FRR's two, and what RFC 9468 adds."""
    if session.clients == ("unsolicited",):
        return "unsolicited"
    return "dynamic" if session.dynamic else "configured"


def bfd_counters(session: BfdSnapshot) -> Json:
    """One session of ``show_bfd_counters``. ``control_packet_bad`` were received; ``discarded`` has both by reason."""
    report = session.report
    discarded = {} if report is None else report.packets_discarded
    not_sent = sum(count for reason, count in discarded.items() if reason.startswith(NOT_SENT))
    return {
        "peer": session.peer,
        "description": session.description,
        "vrf": "default",
        "local": None if report is None else report.local,
        "interface": None if report is None else report.interface,
        "multihop": session.multihop if report is None else report.multihop,
        "control_packet_input": 0 if report is None else report.packets_received,
        "control_packet_output": 0 if report is None else report.packets_sent,
        "control_packet_bad": sum(discarded.values()) - not_sent,
        "packets_not_sent": not_sent,
        "echo_packet_input": 0 if report is None else report.echo_received,
        "echo_packet_output": 0 if report is None else report.echo_sent,
        "late_packets": 0 if report is None else report.late_packets,
        "session_up": 0 if report is None else report.up_count,
        "session_down": 0 if report is None else report.down_count,
        "discarded": discarded,
    }


def bfd_change(change: StateChange, clock: Clock) -> Json:
    """A change of state; of a Down with whose fault it was, and when the last two packets before it had come."""
    return {
        "at": clock.unix(change.at),
        "old_status": status(change.old),
        "status": status(change.new),
        "blame": change.blame or None,
        "diagnostic": diagnostic(change.diag),
        "remote_diagnostic": diagnostic(change.remote_diag),
        "remote_admin_down": change.remote_admin_down,
        "control_plane_independent": change.control_plane_independent,
        "detection_timeout_ms": _ms(change.detection_time_us),
        "last_packet_at": clock.unix(change.last_rx),
        "last_packet_before_ms": None if change.last_rx is None else _ms(change.at - change.last_rx),
        "previous_packet_at": clock.unix(change.previous_rx),
        "previous_packet_before_ms": None if change.previous_rx is None else _ms(change.at - change.previous_rx),
    }


def bfd_late(late: Late, clock: Clock) -> Json:
    """Packets that came late: how many, and the longest gap between two."""
    return {
        "at": clock.unix(late.at),
        "count": late.count,
        "gap_ms": _ms(late.gap_us),
        "interval_ms": _ms(late.interval_us),
    }


def status(state: str) -> str:
    """FRR's word for a state."""
    return "shutdown" if state == "admin-down" else state


def diagnostic(code: int) -> str:
    """RFC 5880 §4.1, Diag, in FRR's words."""
    return _DIAGNOSTICS[code] if code < len(_DIAGNOSTICS) else f"diagnostic {code}"


def _ms(duration: Micros) -> int | float:
    """Whole milliseconds stay integers."""
    whole, rest = divmod(duration, 1000)
    return duration / 1000 if rest else whole


def _age_ms(clock: Clock, at: Instant | None) -> int | float | None:
    return None if at is None else _ms(max(0, clock.now - at))


# -- the lines of ``bgpbfd bfd --json`` ----------------------------------------------------------------------


def line_state(peer: str, change: StateChange, clock: Clock) -> Json:
    return {"event": "state", "peer": peer} | bfd_change(change, clock)


def line_late(peer: str, late: Late, clock: Clock) -> Json:
    return {"event": "late", "peer": peer} | bfd_late(late, clock)


def line_message(level: str, text: str, clock: Clock) -> Json:
    """``level``: debug, info, warning or error."""
    return {"event": "message", "at": clock.unix(clock.now), "level": level, "text": text}


def line_summary(sessions: Sequence[BfdSnapshot], discards: dict[str, int], clock: Clock) -> Json:
    """``sessions``: each with the fields of ``show_bfd`` and of ``show_bfd_counters``."""
    return {
        "event": "summary",
        "at": clock.unix(clock.now),
        "sessions": [bfd_session(session, clock) | bfd_counters(session) for session in sessions],
        "discards": discards,
    }
