"""Static routes: from their tables, or a prefix a line from a ``routes_file``.

A hundred thousand of them are usual, so the common case is kept short: tables of a prefix alone are one source, a
prefix is parsed by ``inet_pton``, equal attributes are parsed once and shared, and only what fails takes the path that
explains itself.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

from bgpbfd.config.faults import FaultList
from bgpbfd.config.files import beside, read_text
from bgpbfd.config.model import StaticRoute
from bgpbfd.config.names import parse_address, parse_network
from bgpbfd.config.values import Table, integer, shown, string, text_list
from bgpbfd.core import AFI_IPV4, AFI_IPV6, Prefix
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.text import MAX_U32, parse_as_path, parse_communities, parse_origin

MAX_FILE_FAULTS = 100
ATTRIBUTE_KEYS = ("next_hop", "origin", "as_path", "local_pref", "multi_exit_disc", "communities")
ROUTE_KEYS = ("prefix", "routes_file", *ATTRIBUTE_KEYS)
_LENGTHS = {str(length): (length, (length + 7) // 8) for length in range(129)}
_OCTETS = [bytes((length,)) for length in range(129)]


@dataclass(slots=True)
class RouteSource:
    """Routes that share their attributes, and where each stands.

    From a file, with their ``lines``; or of one table, or of several one after the other, whose ``numbers`` in the
    array at ``path`` they have.
    """

    path: str
    routes: list[StaticRoute]
    file: str | None = None
    lines: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def table(self, index: int) -> str:
        """The path of the table that the route at ``index`` is from."""
        return f"{self.path}[{self.numbers[index]}]" if self.numbers else self.path

    def fault(self, faults: FaultList, index: int, key: str, reason: str) -> None:
        """A fault of the route at ``index``."""
        if self.file is None:
            faults.add(f"{self.table(index)}.{key}", reason)
        else:
            prefix = self.routes[index].prefix
            faults.place(f"{self.path}.routes_file", f"{prefix}: {reason}", self.file, self.lines[index])

    def place(self, faults: FaultList, index: int) -> str:
        """Where the route at ``index`` stands, for the fault of another one."""
        return faults.where(self.table(index)) if self.file is None else f"{self.file}:{self.lines[index]}"


def parse_prefix(text: str) -> Prefix:
    """A prefix without host bits; a bare address is its host prefix. Raises ValueError with what would be right."""
    head, slash, tail = text.partition("/")
    try:
        if ":" in head:
            afi, packed, bits = AFI_IPV6, socket.inet_pton(socket.AF_INET6, head), 128
        else:
            afi, packed, bits = AFI_IPV4, socket.inet_pton(socket.AF_INET, head), 32
        length, octets = _LENGTHS[tail] if slash else (bits, bits // 8)
        if length <= bits and not int.from_bytes(packed, "big") & ((1 << (bits - length)) - 1):
            return Prefix(afi, _OCTETS[length] + packed[:octets])
    except (KeyError, ValueError, OSError):
        pass
    return Prefix.of(parse_network(text))


class RouteReader:
    """Reads route tables; keeps the attributes that it has seen, so that equal ones are one object."""

    def __init__(self, faults: FaultList, base: Path) -> None:
        self._faults = faults
        self._base = base
        self._by_text: dict[str, PathAttributes] = {}
        self._by_value: dict[PathAttributes, PathAttributes] = {}

    def read(self, table: Table, key: str) -> list[RouteSource]:
        """All routes of the array of tables; what is wrong is noted and left out."""
        sources: list[RouteSource] = []
        pattern = f"{table.pattern}.{key}" if table.pattern else key
        parent = table.key_path(key)
        group: RouteSource | None = None  # of plain prefixes
        plain = path_attributes(Table({}, parent, pattern, ROUTE_KEYS, self._faults))
        plain = self._by_value.setdefault(plain, plain)
        for number, raw in table.numbered(key):
            prefix = raw.get("prefix")
            if len(raw) == 1 and type(prefix) is str:
                try:
                    route = StaticRoute(parse_prefix(prefix), plain)
                except ValueError as error:
                    self._faults.add(f"{parent}[{number}].prefix", str(error))
                    continue
                if group is None:
                    group = RouteSource(parent, [])
                    sources.append(group)
                group.routes.append(route)
                group.numbers.append(number)
                continue
            group = None
            source = self.read_one(raw, f"{parent}[{number}]", pattern)
            if source is not None:
                sources.append(source)
        return sources

    def read_one(self, raw: dict[str, object], path: str, pattern: str) -> RouteSource | None:
        """The routes of one table; None with a fault noted when none can be had."""
        prefix = raw.get("prefix")
        rest = dict(raw)
        rest.pop("prefix", None)
        rest.pop("routes_file", None)
        memo = repr(rest)
        attributes = self._by_text.get(memo)
        if attributes is None:
            before = self._faults.count
            table = Table(raw, path, pattern, ROUTE_KEYS, self._faults)
            parsed = path_attributes(table)
            attributes = self._by_value.setdefault(parsed, parsed)
            if self._faults.count == before:
                self._by_text[memo] = attributes
        if "routes_file" in raw:
            if prefix is not None:
                self._faults.add(f"{path}.routes_file", "stands in the place of prefix: set one of the two")
                return None
            return self._from_file(raw["routes_file"], path, attributes)
        if prefix is None:
            self._faults.add(f"{path}.prefix", 'missing: set a prefix, such as "203.0.113.0/24"')
            return None
        try:
            return RouteSource(path, [StaticRoute(parse_prefix(string(prefix)), attributes)])
        except ValueError as error:
            self._faults.add(f"{path}.prefix", str(error))
            return None

    def _from_file(self, name: object, path: str, attributes: PathAttributes) -> RouteSource | None:
        key = f"{path}.routes_file"
        try:
            file = beside(self._faults, key, self._base) / string(name)
            text = read_text(file)
        except ValueError as error:
            self._faults.add(key, str(error))
            return None
        source = RouteSource(path, [], str(file))
        wrong = 0
        for number, line in enumerate(text.split("\n"), 1):
            word = line.partition("#")[0].strip()
            if not word:
                continue
            try:
                route = StaticRoute(parse_prefix(word), attributes)
            except ValueError as error:
                wrong += 1
                if wrong <= MAX_FILE_FAULTS:
                    self._faults.place(key, str(error), str(file), number)
                continue
            source.routes.append(route)
            source.lines.append(number)
        if wrong > MAX_FILE_FAULTS:
            self._faults.place(key, f"{wrong - MAX_FILE_FAULTS} more lines are wrong", str(file))
        return source


def path_attributes(table: Table) -> PathAttributes:
    """The attributes that the table's keys give, each fault noted."""
    communities = table.get(
        "communities", lambda value: parse_communities(text_list(value), ipv6=True), parse_communities([])
    )
    return PathAttributes(
        origin=table.get("origin", lambda value: parse_origin(string(value)), parse_origin("igp")),
        as_path=table.get("as_path", lambda value: parse_as_path(text_list(value)), ()),
        next_hop=table.get("next_hop", next_hop, None),
        med=table.get("multi_exit_disc", _optional_u32, None),
        local_pref=table.get("local_pref", _optional_u32, None),
        communities=communities.standard,
        extended_communities=communities.extended,
        ipv6_extended_communities=communities.ipv6_extended,
        large_communities=communities.large,
    )


def _optional_u32(value: object) -> int | None:
    return integer(0, MAX_U32)(value)


def next_hop(value: object) -> bytes | None:
    """None for ``self``, else the packed address of a host that a neighbor could reach (RFC 4271 §6.3)."""
    text = string(value)
    if text == "self":
        return None
    try:
        address, scope = parse_address(text)
    except ValueError:
        raise ValueError(f'{shown(text)}: expected "self" or an IP address') from None
    if isinstance(address, ipaddress.IPv4Address):
        first = address.packed[0]
        if first == 0 or first >= 224:
            raise ValueError(f'{shown(text)} is no host\'s address: write one, or "self"')
    elif address.is_unspecified or address.is_multicast:
        raise ValueError(f'{shown(text)} is no host\'s address: write one, or "self"')
    elif address.is_link_local or scope is not None:
        # RFC 2545 §3: the link-local address only goes beside a global one
        raise ValueError(f'{shown(text)} is link-local: write a global address, or "self"')
    return address.packed
