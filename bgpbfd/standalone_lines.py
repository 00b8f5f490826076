"""What ``bgpbfd bfd`` prints: lines for people, or JSON objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from bgpbfd.api import views_bfd
from bgpbfd.api.clock import Clock
from bgpbfd.bfd.protocol import Late, SessionReport, StateChange
from bgpbfd.control.snapshot import BfdSnapshot
from bgpbfd.core import Instant, Micros
from bgpbfd.standalone_options import Host

TABLE = ("Peer", "State", "Since", "In", "Out", "Late", "Up", "Down", "Discarded for")


class WallClock(Protocol):
    def now(self) -> Instant: ...

    def wall(self, at: Instant) -> float:
        """Unix seconds."""
        ...


class TextLines:
    def __init__(self, clock: WallClock, hosts: Iterable[Host]) -> None:
        self._clock = clock
        self._titles = {host.text: host.title for host in hosts}

    def state(self, change: StateChange) -> str:
        line = f"{self._moment(change.at)}  {change.key}  {change.old} -> {change.new}"
        return line + (f": {self._down(change)}" if change.blame else "")

    def _down(self, change: StateChange) -> str:
        """Whose fault it was, and when the last packets before it had come."""
        whose = ""
        if change.blame == "admin":
            whose = " by us" if change.new == "admin-down" else " by the peer"
        ours, theirs = views_bfd.diagnostic(change.diag), views_bfd.diagnostic(change.remote_diag)
        words = [f"{change.blame}{whose} ({ours}; the peer's: {theirs})"]
        words.append(self._packet("last packet", change.last_rx, change.at))
        if change.previous_rx is not None:
            words.append(self._packet("the one before it", change.previous_rx, change.at))
        return f"{', '.join(words)}, detection time {_ms(change.detection_time_us)}"

    def _packet(self, which: str, at: Instant | None, down_at: Instant) -> str:
        if at is None:
            return f"no {which}"
        return f"{which} {self._moment(at)[11:]} ({_ms(down_at - at)} before)"

    def late(self, late: Late) -> str:
        packets = "a packet" if late.count == 1 else f"{late.count} packets"
        gap = f"{_ms(late.gap_us)} where {_ms(late.interval_us)} was agreed"
        return self.message("warning", f"{late.key}: {packets} came late: {gap}")

    def message(self, level: str, text: str) -> str:
        return f"{self._moment(self._clock.now())}  {level}: {_clean(text)}"

    def table(self, reports: Sequence[SessionReport], discards: dict[str, int]) -> Iterable[str]:
        now = self._clock.now()
        rows = [TABLE, *(self._row(report, now) for report in reports)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(TABLE))]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for report in reports:
            if report.fault is not None:
                yield f"{report.key}: {_clean(report.fault)}"
        if discards:
            yield f"Discarded without a session: {_counts(discards)}"

    def _row(self, report: SessionReport, now: Instant) -> tuple[str, ...]:
        return (
            _clean(self._titles.get(report.key, report.key)),
            report.state,
            _duration(now - report.since),
            str(report.packets_received),
            str(report.packets_sent),
            str(report.late_packets),
            str(report.up_count),
            str(report.down_count),
            _counts(report.packets_discarded) or "-",
        )

    def _moment(self, at: Instant) -> str:
        """Local time with ms."""
        return datetime.fromtimestamp(self._clock.wall(at)).isoformat(" ", "milliseconds")


class JsonLines:
    """Fields as the API has them."""

    def __init__(self, clock: WallClock, hosts: Iterable[Host]) -> None:
        self._clock = clock
        self._names = {host.text: host.name for host in hosts}

    def state(self, change: StateChange) -> str:
        return json.dumps(views_bfd.line_state(change.key, change, self._now()))

    def late(self, late: Late) -> str:
        return json.dumps(views_bfd.line_late(late.key, late, self._now()))

    def message(self, level: str, text: str) -> str:
        return json.dumps(views_bfd.line_message(level, text, self._now()))

    def table(self, reports: Sequence[SessionReport], discards: dict[str, int]) -> Iterable[str]:
        """One line."""
        sessions = [self._snapshot(report) for report in reports]
        yield json.dumps(views_bfd.line_summary(sessions, discards, self._now()))

    def _snapshot(self, report: SessionReport) -> BfdSnapshot:
        name = self._names.get(report.key, report.key)
        return BfdSnapshot(
            peer=report.key,
            description=None if name == report.key else name,
            profile=None,
            dynamic=False,
            report=report,
            mode="none",
            clients=("configured",),
        )

    def _now(self) -> Clock:
        return Clock(self._clock.now(), self._clock.wall)


def _ms(duration: Micros) -> str:
    whole, rest = divmod(duration, 1000)
    return f"{duration / 1000:.1f} ms" if rest else f"{whole} ms"


def _duration(duration: Micros) -> str:
    """``00:04:07``, from a day on ``3d04h05m``."""
    minutes, seconds = divmod(max(0, duration) // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h{minutes:02}m" if days else f"{hours:02}:{minutes:02}:{seconds:02}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())


def _clean(text: str) -> str:
    """Safe on a terminal, and one line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
