"""Faults of a configuration: every one has a key's path, what would be right, and where it stands."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_REASON = 400
MAX_FAULTS = 1000


@dataclass(slots=True, frozen=True)
class Fault:
    """``path`` as in ``peers[1].hold_timer``, empty for the file as a whole; ``line`` and ``column`` count from 1."""

    path: str
    reason: str
    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        return ": ".join(part for part in (place, self.path, self.reason) if part)


class ConfigError(Exception):
    """A configuration that cannot be used, with all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(slots=True, frozen=True)
class Origin:
    """Where a merged path was written: the file, and the path inside that file."""

    file: str
    path: str


class FaultList:
    """Collects faults while a configuration is read; places each in the file that it came from."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.origins: dict[str, Origin] = {}
        self.texts: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.suppressed = 0
        self._lines: dict[str, dict[str, int]] = {}

    def add(self, path: str, reason: str) -> None:
        """A fault of the merged path."""
        origin = self.origin(path)
        self.place(origin.path, reason, origin.file, self._line(origin))

    @property
    def count(self) -> int:
        """How many were found, shown or not."""
        return len(self.faults) + self.suppressed

    def place(self, path: str, reason: str, file: str, line: int | None = None, column: int | None = None) -> None:
        """A fault whose place is known."""
        if len(self.faults) >= MAX_FAULTS:
            self.suppressed += 1
            return
        reason = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "…"
        self.faults.append(Fault(path, reason, file, line, column))

    def finish(self) -> list[Fault]:
        """All of them, by file as first read and by line where known."""
        order = {file: index for index, file in enumerate(self.texts)}
        faults = sorted(self.faults, key=lambda fault: (order.get(fault.file, len(order)), fault.line or 0))
        if self.suppressed:
            faults.append(Fault("", f"{self.suppressed} more faults are not shown", self.source))
        return faults

    def where(self, path: str) -> str:
        """The key, and its file when it is another than the main one."""
        origin = self.origin(path)
        return origin.path if origin.file == self.source else f"{origin.path} in {origin.file}"

    def origin(self, path: str) -> Origin:
        """The file, and the path in it, of a merged path."""
        for head in _heads(path):
            origin = self.origins.get(head)
            if origin is not None:
                return Origin(origin.file, origin.path + path[len(head) :])
        return Origin(self.source, path)

    def _line(self, origin: Origin) -> int | None:
        lines = self._lines.get(origin.file)
        if lines is None:
            lines = self._lines[origin.file] = key_lines(self.texts.get(origin.file, ""))
        return next((lines[head] for head in _heads(origin.path) if head in lines), None)


def _heads(path: str) -> list[str]:
    """``a.b[1].c`` → itself, ``a.b[1]``, ``a.b``, ``a``."""
    cuts = [match.start() for match in re.finditer(r"[.\[]", path)]
    return [path, *(path[:cut] for cut in reversed(cuts))]


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """The lines of the headers and keys of a TOML text, by path: a hint for the reader of a fault.

    It looks at lines only, so what is inside a value that spans lines may be taken for a key.
    """
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header is not None:
            table = _table_path(header[2], counts, array=header[1] == "[[")
            lines.setdefault(table.removesuffix("[0]"), number)
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key is not None:
            lines.setdefault(f"{table}.{key[1]}" if table else key[1], number)
    return lines


def _table_path(name: str, counts: dict[str, int], *, array: bool) -> str:
    path = ""
    parts = [part.strip().strip("\"'") for part in name.split(".")]
    for index, part in enumerate(parts):
        path = f"{path}.{part}" if path else part
        if array and index == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
            return f"{path}[{counts[path]}]"
        if path in counts:
            path = f"{path}[{counts[path]}]"
    return path
