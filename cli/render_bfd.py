"""BFD sessions in tables and records: what FRR's ``show bfd peers``, ``brief`` and ``counters`` have, and more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .render import clean, duration, milliseconds, moment, record

SESSIONS = ("Peer", "Interface", "State", "Since", "Tx", "Rx", "Mult", "Detect", "Flaps", "Diag", "Remote diag")
BRIEF = ("Session ID", "Local", "Peer", "Status")
COUNTERS = ("Peer", "In", "Out", "Bad", "Late", "Echo in", "Echo out", "Up", "Down", "Discarded for")


def session_row(session: dict[str, Any]) -> list[object]:
    return [
        session["peer"],
        session["interface"],
        session["status"],
        _since(session),
        milliseconds(session["transmit_interval"]),
        milliseconds(session["receive_interval"]),
        session["detect_multiplier"],
        milliseconds(session["detection_timeout"]),
        session["session_down"],
        session["diagnostic"],
        session["remote_diagnostic"],
    ]


def notes(sessions: Iterable[dict[str, Any]]) -> str:
    """Under the table: which sessions cannot run, and which BGP is held back by."""
    lines = []
    for session in sessions:
        if session["fault"] is not None:
            lines.append(f"{clean(session['peer'])}: {clean(session['fault'])}\n")
        if session["damped_for"] is not None:
            lines.append(f"{clean(session['peer'])}: {_damped(session['damped_for'])}\n")
    return "".join(lines)


def brief_row(session: dict[str, Any]) -> list[object]:
    return [session["id"], session["local"], session["peer"], session["status"]]


def counter_row(session: dict[str, Any]) -> list[object]:
    return [
        session["peer"],
        session["control_packet_input"],
        session["control_packet_output"],
        session["control_packet_bad"],
        session["late_packets"],
        session["echo_packet_input"],
        session["echo_packet_output"],
        session["session_up"],
        session["session_down"],
        _reasons(session["discarded"]),
    ]


def strangers(discards: dict[str, int]) -> str:
    """A line with the packets that belonged to no session; nothing if there were none."""
    return f"Discarded without a session: {clean(_reasons(discards))}\n" if discards else ""


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())


def session_record(session: dict[str, Any]) -> str:
    """Everything of one session; what it does not use has no line."""
    name = session["peer"] + (f" ({session['description']})" if session["description"] else "")
    pairs: list[tuple[str, object]] = [
        ("State", f"{session['status']} for {_since(session)}, the peer's {clean(session['remote_status'])}"),
        ("Fault", session["fault"]),
        ("BGP", None if session["damped_for"] is None else _damped(session["damped_for"])),
        ("Type", f"{session['type']}, mode {session['mode']}, profile {clean(session['profile'])}"),
        ("For", ", ".join(session["clients"]) or None),
        ("Local", f"{clean(session['local'])}, interface {clean(session['interface'])}"),
        ("Multihop", f"TTL of {session['minimum_ttl']} and up" if session["multihop"] else None),
        ("Discriminators", f"{clean(session['id'])} ours, {clean(session['remote_id'])} the peer's"),
        ("Diagnostic", f"{clean(session['diagnostic'])}, the peer's: {clean(session['remote_diagnostic'])}"),
        ("Ours", _timers(session, "")),
        ("The peer's", _timers(session, "remote_")),
        ("Detection time", milliseconds(session["detection_timeout"])),
        ("Sending every", _sending(session)),
        ("Echo", _echo(session)),
        ("Round trip", _round_trip(session)),
        ("Demand", _whose(session, "demand", "in force: the peer may be silent", "asked for by the peer")),
        ("Control plane", _whose(session, "control_plane_independent", "ours is independent", "the peer's is")),
        ("Authentication", _authentication(session)),
        ("Last packet", _last_packets(session)),
        ("Last sent", _ago(session["last_transmit_age_ms"])),
        ("Late packets", session["late_packets"] or None),
        ("Passive", "yes" if session["passive_mode"] else None),
        ("Up, down", f"{clean(session['session_up'])}, {clean(session['session_down'])} times"),
        *_last_down(session["last_down"]),
    ]
    return record(name, pairs)


def _since(session: dict[str, Any]) -> str:
    return duration(session["uptime"] if session["uptime"] is not None else session["downtime"])


def _damped(seconds: float) -> str:
    return f"held back for {duration(seconds)} more: BFD has failed too often"


def _timers(session: dict[str, Any], prefix: str) -> str:
    return (
        f"transmit {milliseconds(session[prefix + 'transmit_interval'])}, "
        f"receive {milliseconds(session[prefix + 'receive_interval'])}, "
        f"multiplier {clean(session[prefix + 'detect_multiplier'])}"
    )


def _sending(session: dict[str, Any]) -> str:
    interval = milliseconds(session["in_force_transmit_interval_ms"])
    return f"{interval}, new timers being agreed on" if session["polling"] else interval


def _echo(session: dict[str, Any]) -> str | None:
    """Who sends echo packets how often, and how often each end would take them."""
    ours, sent, theirs = (
        session[key] for key in ("echo_receive_interval", "echo_transmit_interval", "remote_echo_receive_interval")
    )
    words = [
        f"sent every {milliseconds(sent)}" if sent else "",
        f"looped back every {milliseconds(ours)} at most" if ours else "",
        f"by the peer every {milliseconds(theirs)} at most" if theirs else "",
    ]
    return ", ".join(filter(None, words)) or None


def _round_trip(session: dict[str, Any]) -> str | None:
    if session["rtt_avg"] is None:
        return None
    return f"{session['rtt_min']} µs least, {session['rtt_avg']} µs on average, {session['rtt_max']} µs most"


def _whose(session: dict[str, Any], key: str, ours: str, theirs: str) -> str | None:
    """What of a flag is set at which end; nothing if neither."""
    words = [ours] * bool(session[key]) + [theirs] * bool(session[f"remote_{key}"])
    return ", ".join(words) or None


def _authentication(session: dict[str, Any]) -> str | None:
    if session["auth_type"] is None:
        return None
    theirs = clean(session["remote_auth_key_id"])
    return f"{session['auth_type']}, key {session['auth_key_id']}, the peer's key {theirs}"


def _last_packets(session: dict[str, Any]) -> str | None:
    last = _ago(session["last_packet_age_ms"])
    previous = _ago(session["previous_packet_age_ms"])
    return last if previous is None else f"{last}, the one before it {previous}"


def _ago(age_ms: float | None) -> str | None:
    return None if age_ms is None else f"{_span(age_ms)} ago"


def _span(ms: float) -> str:
    """Milliseconds for as long as they matter."""
    return milliseconds(ms) if ms < 10_000 else duration(ms / 1000)


def _last_down(down: dict[str, Any] | None) -> list[tuple[str, object]]:
    """Why it went down the last time, and when the last packets before that had come."""
    if down is None:
        return []
    return [
        ("Last down", f"{moment(down['at'])}, {duration(down['age'])} ago, from {down['old_status']}"),
        ("", f"{clean(down['blame'])}: {down['diagnostic']}, the peer's: {down['remote_diagnostic']}"),
        ("", _packet("last packet", down["last_packet_at"], down["last_packet_before_ms"])),
        ("", _packet("the one before it", down["previous_packet_at"], down["previous_packet_before_ms"])),
        ("", f"detection time {milliseconds(down['detection_timeout_ms'])}"),
    ]


def _packet(which: str, at: float | None, before_ms: float | None) -> str:
    return f"{which}: none" if at is None or before_ms is None else f"{which} {moment(at)}, {_span(before_ms)} before"
