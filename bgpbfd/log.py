"""Log lines: from recorded events and the standard library's loggers to standard error.

Text for people, one line each::

    2026-11-21T21:50:00.123Z INFO bgp 192.0.2.1 established hold_time_s=180

or a JSON object a line for machines: ``time level part peer event old new reason text`` and the event's facts.
The part is ``bgpbfd.<part>`` of the logger's name, or the first word of the event's kind; levels are set by part.

Nothing here may harm the daemon: a line is put on a bounded queue that a thread writes, so a stuck standard error
costs lines (counted, and told when it moves again) and never time; no call raises; what repeats too often is
counted instead of written. What peers send cannot forge a line (control characters are escaped), and registered
secrets are masked wherever they turn up.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import re
import select
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, TypeAlias

Value: TypeAlias = str | int | float | None

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("text", "json")

QUEUE_LINES = 10_000
MAX_TEXT = 8_192  # characters of one value: a peer must not fill the disk with one line
MASK = "***"
REPEAT_WINDOW_S = 10.0
REPEAT_BURST = 10  # lines of one (part, peer, kind) in a window; debug lines are not limited
MAX_KEYS = 2_000  # of the repeat limiter
STUCK_POLL_MS = 200

ROOT = "bgpbfd"
_PARTS = {"bgp", "bfd", "rib", "service", "hook", "api", "config", "daemon", "route"}
_PART_OF_KIND = {"reload": "config", "neighbor": "bgp"}
# facts with a field of their own: the text line's sentence has them already
_FIELDS = ("old", "new", "reason")


class Recorded(Protocol):
    """What ``record`` needs of an event; ``control.snapshot.RecordedEvent`` fits."""

    @property
    def kind(self) -> str: ...
    @property
    def peer(self) -> str | None: ...
    @property
    def text(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def facts(self) -> Mapping[str, str | int | float]: ...


@dataclass(slots=True)
class Line:
    """One line before it has a form. ``at``: wall-clock s; ``level``: a number of the standard library."""

    at: float
    level: int
    part: str
    text: str
    peer: str | None = None
    event: str | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)
    trace: str | None = None


# -- cleaning ----------------------------------------------------------------------------------------------


def sanitise(text: str) -> str:
    """``text`` without control, format and other unprintable characters: each becomes its escape."""
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Secrets:
    """Masks registered strings, as they are and as ``repr`` and JSON write them."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secrets: Iterable[str]) -> None:
        for secret in secrets:
            if secret:
                self._known |= {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], sanitise(secret)}
        if self._known:
            # the longest first: one secret may hold another
            ordered = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, ordered)))

    def mask(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)


# -- forms -------------------------------------------------------------------------------------------------


def _timestamp(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _priority(level: int) -> int:
    """syslog(3)'s number, which journald reads from ``<n>``."""
    if level >= logging.CRITICAL:
        return 2
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7


def _clean(value: object, clean: Callable[[str], str]) -> Value:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return clean(value if isinstance(value, str) else str(value))


def as_text(line: Line, clean: Callable[[str], str], prefix: bool = False) -> str:
    """The line for people; a traceback follows, indented so that no line of it can pass for another entry."""
    words = [_timestamp(line.at), logging.getLevelName(line.level), clean(line.part)]
    if line.peer:
        words.append(clean(line.peer))
    words.append(clean(line.text))
    for name, value in line.facts.items():
        if name not in _FIELDS and value is not None:
            shown = str(_clean(value, clean))
            words.append(f"{clean(name)}={json.dumps(shown, ensure_ascii=False) if _needs_quotes(shown) else shown}")
    head = f"<{_priority(line.level)}>" if prefix else ""
    lines = [head + " ".join(words)]
    if line.trace:
        lines += [f"{head}    {clean(row)}" for row in line.trace.rstrip("\n").split("\n")]
    return "\n".join(lines) + "\n"


def _needs_quotes(shown: str) -> bool:
    return not shown or any(c in ' "=' for c in shown)


def as_json(line: Line, clean: Callable[[str], str]) -> str:
    """The line for machines; a fact whose name is a field's gets ``fact_`` before it."""
    fields: dict[str, Value] = {
        "time": _timestamp(line.at),
        "level": logging.getLevelName(line.level).lower(),
        "part": clean(line.part),
        "peer": _clean(line.peer, clean),
        "event": _clean(line.event, clean),
    }
    for name in _FIELDS:
        fields[name] = _clean(line.facts.get(name), clean)
    fields["text"] = clean(line.text)
    if line.trace:
        fields["trace"] = "\n".join(clean(row) for row in line.trace.rstrip("\n").split("\n"))
    for name, value in line.facts.items():
        if name not in _FIELDS:
            key = clean(str(name))
            fields[f"fact_{key}" if key in fields else key] = _clean(value, clean)
    return json.dumps(fields, ensure_ascii=False) + "\n"


# -- repeats -----------------------------------------------------------------------------------------------


class _Repeat:
    __slots__ = ("allowed", "last", "since", "suppressed")

    def __init__(self, since: float) -> None:
        self.since = since
        self.allowed = 0
        self.suppressed = 0
        self.last: Line | None = None


class RepeatLimit:
    """At most ``REPEAT_BURST`` lines of one key in a window; the rest are counted, and summed up when it ends."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str | None, str], _Repeat] = {}
        self.pending = 0  # keys with lines held back

    def admit(self, line: Line, kind: str, now: float) -> tuple[bool, list[Line]]:
        """Whether to write the line, and the summaries that are due before it. ``now``: monotonic s."""
        due = self.expire(now)
        key = (line.part, line.peer, kind)
        entry = self._keys.get(key)
        if entry is None:
            if len(self._keys) >= MAX_KEYS:
                summary = self._forget(next(iter(self._keys)))
                due += [summary] if summary else []
            entry = self._keys[key] = _Repeat(now)
        if entry.allowed < REPEAT_BURST:
            entry.allowed += 1
            return True, due
        self.pending += entry.suppressed == 0
        entry.suppressed += 1
        entry.last = line
        return False, due

    def expire(self, now: float) -> list[Line]:
        """Close the windows that are over; a summary for each that held lines back."""
        due: list[Line] = []
        # insertion order is the order of ``since``
        for key in list(self._keys):
            if now - self._keys[key].since < REPEAT_WINDOW_S:
                break
            summary = self._forget(key)
            if summary is not None:
                due.append(summary)
        return due

    def _forget(self, key: tuple[str, str | None, str]) -> Line | None:
        entry = self._keys.pop(key)
        last = entry.last
        if last is None:
            return None
        self.pending -= 1
        text = f"repeated {entry.suppressed} times within {REPEAT_WINDOW_S:.0f} s, the last: {last.text}"
        facts = {**last.facts, "repeated": entry.suppressed}
        return Line(last.at, last.level, last.part, text, last.peer, last.event, facts)


# -- writing -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Counters:
    """Lines by fate, since the start."""

    written: int = 0
    suppressed: int = 0  # repeats, summed up
    dropped: int = 0  # the queue was full: standard error is stuck
    failed: int = 0  # the write, or the making of the line, failed


class _Settings(NamedTuple):
    form: str = "text"
    prefix: bool = False


class Log:
    """Takes lines from any thread and writes them to ``fd`` from its own."""

    def __init__(self, fd: int = 2, capacity: int = QUEUE_LINES) -> None:
        self.counters = Counters()
        self.secrets = Secrets()
        self._fd = fd
        self._capacity = capacity
        self._settings = _Settings()
        self._queue: queue.SimpleQueue[Line | threading.Event | None] = queue.SimpleQueue()
        self._limit = RepeatLimit()
        self._lock = threading.Lock()  # of the limiter; never held while writing
        self._told_dropped = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def configure(self, form: str) -> None:
        """``text`` or ``json``; the first call starts the writer. Raises ValueError for any other word."""
        if form not in FORMATS:
            raise ValueError(f"{form!r}: expected text or json")
        self._settings = _Settings(form, form == "text" and _is_journal(self._fd))
        if self._thread is None:
            self._closing.clear()
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def put(self, line: Line, kind: str) -> None:
        """Queue the line, or count it away; never blocks."""
        lines = [line]
        if line.level > logging.DEBUG:
            with self._lock:
                was_pending = self._limit.pending
                admitted, due = self._limit.admit(line, kind, time.monotonic())
                pending = self._limit.pending
            lines = [*due, line] if admitted else due
            self.counters.suppressed += not admitted
            if pending and not was_pending:
                self._queue.put(threading.Event())  # the writer has to look at the time from now on
        for one in lines:
            if self._queue.qsize() >= self._capacity:
                self.counters.dropped += 1
            else:
                self._queue.put(one)

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait for what is queued so far; False when that took too long."""
        if self._thread is None or not self._thread.is_alive():
            return False
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Write what is left, for ``timeout`` s at most, and end the writer."""
        if self._thread is None:
            return
        with self._lock:
            for summary in self._limit.expire(float("inf")):
                self._queue.put(summary)
        self._queue.put(None)
        self._thread.join(timeout)
        self._closing.set()
        self._thread = None

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=1.0 if self._limit.pending else None)
            except queue.Empty:
                self._sweep()
                continue
            if item is None:
                return
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._tell_dropped()
            self._write_line(item)

    def _sweep(self) -> None:
        with self._lock:
            due = self._limit.expire(time.monotonic())
        for line in due:
            self._write_line(line)

    def _tell_dropped(self) -> None:
        lost = self.counters.dropped - self._told_dropped
        if lost:
            self._told_dropped += lost
            text = f"{lost} lines lost: standard error did not take them"
            self._write_line(Line(time.time(), logging.WARNING, "log", text, event="log-lost", facts={"lost": lost}))

    def _write_line(self, line: Line) -> None:
        form, prefix = self._settings
        try:
            text = as_json(line, self._clean) if form == "json" else as_text(line, self._clean, prefix)
            self._write(text.encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - the log must not end the daemon; the count tells of it
            self.counters.failed += 1
        else:
            self.counters.written += 1

    def _clean(self, text: str) -> str:
        return sanitise(self.secrets.mask(text))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # standard error may have been made non-blocking by whoever shares it
                if self._closing.is_set():
                    raise
                poller = select.poll()
                poller.register(self._fd, select.POLLOUT)
                poller.poll(STUCK_POLL_MS)


def _is_journal(fd: int) -> bool:
    """Whether ``fd`` is the journal's socket that JOURNAL_STREAM names (systemd.exec(5)), and not redirected since."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(fd)
        return (int(device), int(inode)) == (status.st_dev, status.st_ino)
    except (OSError, ValueError):
        return False


class _Handler(logging.Handler):
    """From the standard library's loggers; ``extra`` may hold ``peer``, ``event`` and ``facts``."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # part bgp of bgpbfd.bgp.peer, part asyncio of asyncio
            names = record.name.split(".")
            part = names[1] if names[0] == ROOT and len(names) > 1 else "daemon" if names[0] == ROOT else names[0]
            trace = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else None
            event = getattr(record, "event", None)
            facts = getattr(record, "facts", None)
            line = Line(
                record.created,
                record.levelno,
                part,
                record.getMessage(),
                getattr(record, "peer", None),
                event,
                facts if isinstance(facts, Mapping) else {},
                trace,
            )
            self._log.put(line, event or str(record.msg))
        except Exception:  # noqa: BLE001 - a bad format string must not end what it reports on
            self._log.counters.failed += 1


# -- the daemon's log --------------------------------------------------------------------------------------

_log = Log()
_handler = _Handler(_log)
_levelled: set[str] = set()


def configure(level: str | Mapping[str, str], form: str = "text") -> None:
    """Set levels and form; may be called again at a reload.

    ``level``: one of debug, info, warning, error, or a table of part → level with ``default``. Raises ValueError that
    says what would be right, and changes nothing then.
    """
    table = {"default": level} if isinstance(level, str) else dict(level)
    for part, word in table.items():
        if word not in LEVELS:
            raise ValueError(f"log level {part} {word!r}: expected debug, info, warning or error")
    _log.configure(form)
    logging.getLogger(ROOT).setLevel(LEVELS[table.pop("default", "info")])
    for part in _levelled - table.keys():
        logging.getLogger(f"{ROOT}.{part}").setLevel(logging.NOTSET)
    for part, word in table.items():
        logging.getLogger(f"{ROOT}.{part}").setLevel(LEVELS[word])
    _levelled.clear()
    _levelled.update(table)
    # at the root: what libraries warn of is shown too (their own level stays at warning)
    if _handler not in logging.getLogger().handlers:
        logging.getLogger().addHandler(_handler)


def part_of(kind: str) -> str:
    """The part that an event's kind belongs to: ``bgp`` of ``bgp-down``, ``config`` of ``reload``."""
    word = kind.partition("-")[0]
    return _PART_OF_KIND.get(word) or (word if word in _PARTS else "daemon")


def record(event: Recorded, at: float | None = None) -> None:
    """Log a recorded event; ``at``: its wall-clock time in s, by default now (the event's own ``at`` is monotonic)."""
    try:
        level = LEVELS.get(event.level, logging.INFO)
        part = part_of(event.kind)
        if logging.getLogger(f"{ROOT}.{part}").isEnabledFor(level):
            when = time.time() if at is None else at
            _log.put(Line(when, level, part, event.text, event.peer, event.kind, event.facts), event.kind)
    except Exception:  # noqa: BLE001 - logging must not end what it reports on; the count tells of it
        _log.counters.failed += 1


def hide(*secrets: str) -> None:
    """Mask these strings in every line from now on."""
    _log.secrets.add(secrets)


def counters() -> Counters:
    return _log.counters


def flush(timeout: float = 1.0) -> bool:
    """Wait until what was logged so far is written, ``timeout`` s at most."""
    return _log.flush(timeout)


def close(timeout: float = 1.0) -> None:
    """Write what is left, for ``timeout`` s at most; later lines are lost. ``configure`` starts it anew."""
    logging.getLogger().removeHandler(_handler)
    _log.close(timeout)
