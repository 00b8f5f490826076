"""Files of the configuration: read whole, with every reason why one cannot be."""

from __future__ import annotations

import glob
import stat
from pathlib import Path
from typing import cast

import tomli

from bgpbfd.config.faults import FaultList, Origin
from bgpbfd.config.values import key_text, shown

MAX_FILE = 256 * 1024 * 1024
MAX_FILES = 1000


def read_text(path: Path, *, pipe: bool = False) -> str:
    """The text of a UTF-8 file; ``pipe`` takes one as well. Raises ValueError saying why it cannot be had."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{path} is a directory, not a file")
        if not (stat.S_ISREG(mode) or (pipe and stat.S_ISFIFO(mode))):
            raise ValueError(f"{path} is no regular file")
        with path.open("rb") as stream:
            octets = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        if "null byte" in str(error) or isinstance(error, UnicodeError):
            raise ValueError(f"cannot read {shown(str(path))}: no file can have this name") from None
        raise
    if len(octets) > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE // 1024 // 1024} MB")
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} is not UTF-8 text: line {line}, byte {error.start}") from None


def beside(faults: FaultList, path: str, base: Path) -> Path:
    """What a file's name at ``path`` is relative to: the directory of the file that has the key.

    ``base`` is that of the main one.
    """
    file = faults.origin(path).file
    return base if file == faults.source else Path(file).parent


class Loader:
    """Parses a file and all that it includes into one table; notes where each part was written."""

    def __init__(self, faults: FaultList) -> None:
        self._faults = faults
        self._seen: set[Path] = set()
        self.files: list[str] = []
        self.merged: dict[str, object] = {}

    def load(self, text: str, source: str, base: Path | None) -> None:
        """Merge one text, and the files of its ``include``, relative to ``base``."""
        self.files.append(source)
        self._faults.texts[source] = text
        raw = self._parse(text, source)
        if raw is None:
            return
        patterns = raw.pop("include", [])
        self._merge(self.merged, raw, "", "", source)
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(patterns, list):
            self._fault(source, "include", "expected a list of file patterns")
            return
        for index, pattern in enumerate(patterns):
            self._include(pattern, f"include[{index}]", source, base)

    def mark_seen(self, path: Path) -> None:
        """A file that including again would read twice."""
        self._seen.add(_resolved(path))

    def _include(self, pattern: object, key: str, source: str, base: Path | None) -> None:
        if not isinstance(pattern, str) or "\0" in pattern or not pattern:
            self._fault(source, key, 'expected a file\'s name or pattern, such as "conf.d/*.toml"')
            return
        if base is None:
            self._fault(source, key, "only a configuration that is a file can include others")
            return
        whole = str(base / pattern)
        try:
            paths = sorted(glob.glob(whole)) if glob.has_magic(whole) else [whole]
        except (OSError, ValueError) as error:  # ValueError: what no file can be called
            self._fault(source, key, f"cannot read {shown(whole)}: {error}")
            return
        for name in paths:
            path = Path(name)
            resolved = _resolved(path)
            if resolved in self._seen:
                continue
            if len(self._seen) >= MAX_FILES:
                self._fault(source, key, f"more than {MAX_FILES} files are included")
                return
            self._seen.add(resolved)
            try:
                text = read_text(path)
            except ValueError as error:
                self._fault(source, key, str(error))
                continue
            self.load(text, name, path.parent)

    def _parse(self, text: str, source: str) -> dict[str, object] | None:
        try:
            return cast("dict[str, object]", tomli.loads(text))
        except tomli.TOMLDecodeError as error:
            self._faults.place("", f"TOML: {error.msg}", source, error.lineno, error.colno)
        except RecursionError:
            self._faults.place("", "TOML: nested too deeply", source)
        except ValueError as error:  # a number with too many digits, a date that is none
            self._faults.place("", f"TOML: {error}", source)
        return None

    def _fault(self, source: str, path: str, reason: str) -> None:
        self._faults.origins[path] = Origin(source, path)
        self._faults.add(path, reason)

    def _merge(self, into: dict[str, object], raw: dict[str, object], prefix: str, local: str, source: str) -> None:
        for key, value in raw.items():
            path = f"{prefix}{key_text(key)}"
            here = f"{local}{key_text(key)}"
            old = into.get(key)
            if key not in into:
                into[key] = value
                self._faults.origins[path] = Origin(source, here)
            elif isinstance(old, list) and isinstance(value, list):
                for index in range(len(value)):
                    self._faults.origins[f"{path}[{len(old) + index}]"] = Origin(source, f"{here}[{index}]")
                into[key] = old + value
            elif isinstance(old, dict) and isinstance(value, dict):
                self._merge(old, value, f"{path}.", f"{here}.", source)
            else:
                first = self._faults.origin(path).file
                self._faults.place(here, f"set twice: in {first} and in {source}", source)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path.absolute()
