"""Passwords and keys that stand in the configuration, or in the first line of a file that it names."""

from __future__ import annotations

import stat
from pathlib import Path

from bgpbfd.config.faults import FaultList
from bgpbfd.config.files import beside, read_text
from bgpbfd.config.model import Secret
from bgpbfd.config.values import Parser, Table, string


class SecretFiles:
    """Reads ``KEY``, or ``KEY_file`` in its place. ``warnings`` grows with what the operator should know.

    ``base`` is the directory of the main file.
    """

    def __init__(self, faults: FaultList, base: Path) -> None:
        self._faults = faults
        self._base = base
        self.warnings: list[str] = []

    def read(self, table: Table, key: str, parse: Parser[Secret]) -> tuple[Secret | None, str | None]:
        """The secret, and the file that it stands in, as written. ``parse`` must not repeat the value in its fault."""
        file_key = f"{key}_file"
        name: str | None = table.get(file_key, string, None)
        secret: Secret | None = table.get(key, parse, None)
        if file_key not in table.raw:
            return secret, None
        if key in table.raw:
            table.fault(file_key, f"stands in the place of {key}: set one of the two")
        elif name is not None:
            return self._of_file(table, file_key, name, parse), name
        return None, None

    def _of_file(self, table: Table, key: str, name: str, parse: Parser[Secret]) -> Secret | None:
        path = table.key_path(key)
        file = beside(self._faults, path, self._base) / name
        try:
            text = read_text(file)
        except ValueError as error:
            table.fault(key, str(error))
            return None
        try:
            secret = parse(text.split("\n", 1)[0].removesuffix("\r"))
        except ValueError as error:
            table.fault(key, f"the first line of {file}: {error}")
            return None
        if _readable_by_all(file):
            self.warnings.append(f"{self._faults.where(path)}: everybody on this host can read {file}")
        return secret


def _readable_by_all(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:  # gone since it was read: there is nothing to read
        return False
