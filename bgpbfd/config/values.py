"""Reading one TOML table key by key: leaf parsers, and the Table that notes every fault and goes on.

A leaf parser takes the raw value and gives the typed one, or raises ValueError with what would be right. The value
of a wrong type is never repeated in the reason: it may be a secret in the wrong place.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time
from typing import TypeAlias, TypeVar

from bgpbfd.config import support
from bgpbfd.config.faults import FaultList
from bgpbfd.config.model import ApiListen, Listen, UnixListen
from bgpbfd.config.names import check_interface, did_you_mean, parse_address
from bgpbfd.core import FAMILIES_BY_NAME, Family
from bgpbfd.wire.text import MAX_U32, parse_asn, parse_router_id

T = TypeVar("T")
Parser: TypeAlias = Callable[[object], T]

AS_TRANS = 23456
MAX_SHOWN = 60
MAX_UNIX_PATH = 107  # sun_path without its final zero


def kind(value: object) -> str:
    """The TOML name of a value's type."""
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a float"),
        (str, "a string"),
        (list, "a list"),
        (dict, "a table"),
        ((datetime, date, time), "a date or time"),
    ]
    return next((name for types, name in names if isinstance(value, types)), "something else")


def shown(value: object) -> str:
    """A value as a fault repeats it: quoted, and cut when long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def wrong_type(expected: str, value: object) -> ValueError:
    return ValueError(f"expected {expected}, not {kind(value)}")


def string(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type("a string", value)
    return value


def label(value: object) -> str:
    """Text for people: not empty, one line, nothing that would disturb a terminal."""
    text = string(value)
    if not text.strip() or not text.isprintable():
        raise ValueError("expected text without control characters, not empty")
    return text


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong_type("true or false", value)
    return value


def integer(low: int, high: int, unit: str = "") -> Parser[int]:
    expected = f"an integer from {low} to {high}{unit}"

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(expected, value)
        if not low <= value <= high:
            raise ValueError(f"expected {expected}, not {shown(value)}")
        return value

    return parse


def seconds(low: float, high: float) -> Parser[float]:
    expected = f"a number of seconds from {low:g} to {high:g}"

    def parse(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(expected, value)
        if not low <= value <= high:
            raise ValueError(f"expected {expected}, not {shown(value)}")
        return float(value)

    return parse


def choice(*names: str) -> Parser[str]:
    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type("one of " + ", ".join(map(repr, names)), value)
        text = value
        if text not in names:
            raise ValueError(f"{shown(text)} is unknown; {did_you_mean(text, names)}")
        return text

    return parse


def hold_time(value: object) -> int:
    """RFC 4271 §4.2: zero, or at least three seconds."""
    seconds_held = integer(0, 65535, " s")(value)
    if seconds_held in {1, 2}:
        raise ValueError("expected 0 (off), or 3 s and up (RFC 4271 §4.2)")
    return seconds_held


def address_family(value: object) -> Family:
    text = string(value)
    found = FAMILIES_BY_NAME.get(text)
    if found is None:
        raise ValueError(f"{shown(text)} is no address family; {did_you_mean(text, FAMILIES_BY_NAME)}")
    return found


def asn(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong_type("an AS number", value)
    number = parse_asn(value)
    if number == AS_TRANS:
        raise ValueError("AS 23456 (AS_TRANS) stands for 4-octet numbers and is nobody's (RFC 6793 §9)")
    return number


def router_id(value: object) -> str:
    text = string(value).strip()
    parse_router_id(text)
    return text


def cluster_id(value: object) -> str | None:
    """RFC 4456 §7: four octets, not zero, as an IPv4 address or its number; canonical text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(ipaddress.IPv4Address(integer(1, MAX_U32)(value)))
    try:
        return router_id(value)
    except ValueError:
        shows = f"{shown(value)}: " if isinstance(value, str) else ""
        raise ValueError(f'{shows}expected an IPv4 address such as "192.0.2.1", or a number from 1') from None


def address(value: object) -> str:
    """Canonical text, with its scope if it has one; a host's address, so neither multicast nor unspecified."""
    parsed, scope = parse_address(string(value))
    if parsed.is_multicast or parsed.is_unspecified or str(parsed) == "255.255.255.255":
        raise ValueError(f"{shown(value)} is no host's address")
    return f"{parsed}%{scope}" if scope else str(parsed)


def bind_address(value: object) -> str:
    """Canonical text of an address to listen on; the wildcards are allowed."""
    parsed, scope = parse_address(string(value))
    if parsed.is_multicast:
        raise ValueError(f"{shown(value)} is no host's address")
    return f"{parsed}%{scope}" if scope else str(parsed)


def interface_name(value: object) -> str:
    """What the kernel would take as an interface's name; whether there is one is seen at run time."""
    return check_interface(string(value))


def listen(value: object) -> Listen:
    text = string(value)
    expected = 'expected "ADDRESS:PORT", such as "[::]:179" or "192.0.2.10:179"'
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or (":" in host) != bracketed:
        raise ValueError(f"{shown(text)}: {expected}")
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"{shown(text)}: expected a port from 1 to 65535")
    try:
        return Listen(bind_address(host[1:-1] if bracketed else host), int(port))
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {error}; {expected}") from None


def api_listen(value: object) -> ApiListen:
    text = string(value)
    if not text.startswith("unix:"):
        try:
            return listen(text)
        except ValueError as error:
            raise ValueError(f'{error}, or "unix:PATH"') from None
    path = text.removeprefix("unix:")
    if not path or "\0" in path or len(path.encode("utf-8", "surrogatepass")) > MAX_UNIX_PATH:
        raise ValueError(f'expected "unix:PATH", the path from 1 to {MAX_UNIX_PATH} bytes long')
    return UnixListen(path)


def octal_mode(value: object) -> int:
    text = string(value)
    if not re.fullmatch(r"(0o)?[0-7]{3,4}", text) or int(text.removeprefix("0o"), 8) > 0o777:
        raise ValueError(f'{shown(text)}: expected an octal mode, such as "0660"')
    return int(text.removeprefix("0o"), 8)


def text_list(value: object) -> tuple[str, ...]:
    """A list of strings, or one string."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise wrong_type("a string or a list of strings", value)
    for item in value:
        if not isinstance(item, str):
            raise wrong_type("a list of strings", item)
    return tuple(value)


def key_text(key: str) -> str:
    """A key as a path shows it: bare where TOML would take it bare."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) else json.dumps(key[:64])


class Table:
    """One table of the file. ``path`` is where it stands, ``pattern`` the same without indexes and names.

    Keys that are not in ``known``, and values that ask for what is not there yet, are faults at once.
    """

    def __init__(
        self, raw: Mapping[str, object], path: str, pattern: str, known: Collection[str], faults: FaultList
    ) -> None:
        self.path = path
        self.pattern = pattern
        self.faults = faults
        self.raw: dict[str, object] = {}
        for key, value in raw.items():
            pattern_of_key = f"{pattern}.{key}" if pattern else key
            missing = support.refusal(pattern_of_key, value)
            if missing is not None:
                self.fault(key, missing)
            elif key not in known:
                self.fault(key, f"unknown key; {did_you_mean(key, known)}")
            elif not support.listed(pattern_of_key):
                self.raw[key] = value

    def key_path(self, key: str) -> str:
        return f"{self.path}.{key_text(key)}" if self.path else key_text(key)

    def fault(self, key: str, reason: str) -> None:
        self.faults.add(self.key_path(key), reason)

    def get(self, key: str, parse: Parser[T], default: T) -> T:
        """The key's value; the default when it is absent, or (with a fault noted) wrong."""
        if key not in self.raw:
            return default
        try:
            return parse(self.raw[key])
        except ValueError as error:
            self.fault(key, str(error))
            return default

    def require(self, key: str, parse: Parser[T], hint: str) -> T | None:
        """As ``get``, of a key that must be there; None with a fault noted."""
        if key not in self.raw:
            self.fault(key, f"missing: set {hint}")
            return None
        return self.get(key, parse, None)

    def items(self, key: str, parse: Parser[T], default: tuple[T, ...]) -> tuple[T, ...]:
        """A list, or one value for a list of one; a fault for every wrong item; repeats count once."""
        if key not in self.raw:
            return default
        value = self.raw[key]
        if isinstance(value, dict):
            self.fault(key, "expected a list, not a table")
            return default
        parsed: dict[T, None] = {}
        path = self.key_path(key)
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            try:
                parsed[parse(item)] = None
            except ValueError as error:
                self.faults.add(f"{path}[{index}]" if isinstance(value, list) else path, str(error))
        return tuple(parsed)

    def table(self, key: str, known: Collection[str]) -> Table:
        """A sub-table; an empty one when it is absent, or (with a fault noted) no table."""
        value = self.raw.get(key, {})
        if not isinstance(value, dict):
            self.fault(key, f"expected a table, not {kind(value)}")
            value = {}
        pattern = f"{self.pattern}.{key}" if self.pattern else key
        return Table(value, self.key_path(key), pattern, known, self.faults)

    def named(self, key: str, known: Collection[str]) -> Iterable[tuple[str, Table]]:
        """The tables under the user's own names."""
        parent = self.table(key, self._names(key))
        for name in parent.raw:
            child = parent.table(name, known)
            yield name, Table(child.raw, child.path, f"{parent.pattern}.*", known, self.faults)

    def tables(self, key: str) -> list[tuple[str, dict[str, object]]]:
        """The raw tables of an array of tables, each with its path; a fault for what is none."""
        parent = self.key_path(key)
        return [(f"{parent}[{number}]", item) for number, item in self.numbered(key)]

    def numbered(self, key: str) -> list[tuple[int, dict[str, object]]]:
        """The same, each with its number in the array instead."""
        value = self.raw.get(key, [])
        if not isinstance(value, list):
            self.fault(key, f"expected an array of tables ([[{self.key_path(key)}]]), not {kind(value)}")
            return []
        found: list[tuple[int, dict[str, object]]] = []
        for number, item in enumerate(value):
            if isinstance(item, dict):
                found.append((number, item))
            else:
                self.faults.add(f"{self.key_path(key)}[{number}]", f"expected a table, not {kind(item)}")
        return found

    def _names(self, key: str) -> Collection[str]:
        value = self.raw.get(key)
        return value.keys() if isinstance(value, dict) else ()
