"""An announcer with dictionaries of what is wanted, and the other side's decoder."""

from __future__ import annotations

from dataclasses import replace

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import ExportContext
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.iana import MessageType
from bgpbfd.wire.messages import decode_route_refresh
from bgpbfd.wire.update import Update, UpdateContext, decode_update

OUR_V4 = b"\xc0\0\x02\x0a"
OUR_V6 = bytes.fromhex("20010db8000000000000000000000010")
BOTH = frozenset({IPV4_UNICAST, IPV6_UNICAST})
NONE: frozenset[Family] = frozenset()
EXPORT = ExportContext(
    local_asn=65010,
    remote_asn=65001,
    external=True,
    families=BOTH,
    local_ipv4=OUR_V4,
    local_ipv6=OUR_V6,
    local_link_local=None,
    remote_address=b"\xc0\0\x02\x01",
)
P1, P2, P3 = (Prefix.parse(text) for text in ("198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/48"))


class Bench:
    """``routes``: what is wanted of a prefix; ``paths``: what of one in a family with ADD-PATH.

    ``short``: sessions begin the short way, by lists instead of prefix by prefix.
    """

    short = False

    def __init__(
        self, families: frozenset[Family] = BOTH, max_length: int = 4096, add_path: frozenset[Family] = NONE
    ) -> None:
        self.routes: dict[tuple[Family, bytes], PathAttributes | str] = {}
        self.paths: dict[tuple[Family, bytes], list[tuple[int, PathAttributes | str]]] = {}
        self.families = families
        self.max_length = max_length
        self.add_path = add_path
        self.export = replace(EXPORT, families=families)
        initial = self.initial if self.short else None
        self.announcer = Announcer(self.wanted, self.candidates, self.wanted_paths, initial)

    def candidates(self, family: Family) -> list[bytes]:
        return [nlri for table in (self.routes, self.paths) for f, nlri in table if family == f]

    def initial(self, family: Family) -> tuple[list[tuple[PathAttributes, list[bytes]]], list[bytes]]:
        lists: dict[int, tuple[PathAttributes, list[bytes]]] = {}
        others = []
        for (of, nlri), route in self.routes.items():
            if of == family:
                if isinstance(route, PathAttributes):
                    lists.setdefault(id(route), (route, []))[1].append(nlri)
                else:
                    others.append(nlri)
        runs = []
        for route, nlri in lists.values():
            leaves = self.announcer.exported_alike(route, family, nlri, "config")
            if leaves is None:
                others += nlri
            else:
                runs.append((leaves, nlri))
        return runs, others

    def wanted(self, family: Family, nlri: bytes) -> PathAttributes | str | None:
        assert family not in self.add_path
        route = self.routes.get((family, nlri))
        if isinstance(route, PathAttributes):
            return self.announcer.exported(route, None, family, nlri, "config")
        return route

    def wanted_paths(self, family: Family, nlri: bytes) -> list[tuple[int, PathAttributes | str]]:
        assert family in self.add_path
        return [
            (number, path if isinstance(path, str) else self.announcer.exported(path, None, family, nlri, "config"))
            for number, path in self.paths.get((family, nlri), [])
        ]

    def up(self, end_of_rib: bool = False, hold_end_of_rib: bool = False) -> None:
        context = UpdateContext(
            asn4=True,
            external=True,
            families=self.families,
            remote_asn=65001,
            local_asn=65010,
            max_length=self.max_length,
            add_path_send=self.add_path,
        )
        self.announcer.session_up(context, self.export, end_of_rib, hold_end_of_rib)

    def set(self, prefix: Prefix, route: PathAttributes | str | None) -> None:
        if route is None:
            del self.routes[prefix.family, prefix.nlri]
        else:
            self.routes[prefix.family, prefix.nlri] = route
        self.announcer.mark(prefix.family, prefix.nlri)

    def set_paths(self, prefix: Prefix, *paths: tuple[int, PathAttributes | str]) -> None:
        self.paths[prefix.family, prefix.nlri] = list(paths)
        if not paths:
            del self.paths[prefix.family, prefix.nlri]
        self.announcer.mark(prefix.family, prefix.nlri)

    def drain(self, limit: int = 25) -> list[bytes]:
        out: list[bytes] = []
        for _ in range(10_000):
            if not self.announcer.has_pending:
                return out
            batch = self.announcer.next_batch(limit)
            assert len(batch) <= limit
            out += batch
        raise AssertionError("the announcer never comes to rest")


def decode(message: bytes, add_path: frozenset[Family] = NONE) -> Update:
    """As the peer reads it, its own AS and ours exchanged."""
    assert message[18] == MessageType.UPDATE
    context = UpdateContext(
        asn4=True,
        external=True,
        families=BOTH,
        remote_asn=65010,
        local_asn=65001,
        max_length=65535,
        add_path_receive=add_path,
    )
    return decode_update(message[19:], context)


def shape(messages: list[bytes], add_path: frozenset[Family] = NONE) -> list[tuple[object, ...]]:
    """Each message as ("+", {prefixes}), ("-", {prefixes}), ("eor", family) or ("refresh", family, subtype).

    With ADD-PATH the sets are of (prefix, path identifier).
    """
    found: list[tuple[object, ...]] = []
    for message in messages:
        if message[18] == MessageType.ROUTE_REFRESH:
            refresh = decode_route_refresh(message[19:])
            found.append(("refresh", refresh.family, refresh.subtype))
            continue
        update = decode(message, add_path)
        assert update.faults == []
        if update.end_of_rib is not None:
            found.append(("eor", update.end_of_rib))
        found.extend(("-", _routes(unreach.family, unreach.nlri, unreach.path_ids)) for unreach in update.withdrawn)
        found.extend(("+", _routes(reach.family, reach.nlri, reach.path_ids)) for reach in update.announced)
    return found


def _routes(family: Family, nlri: list[bytes], path_ids: list[int] | None) -> set[object]:
    prefixes = [Prefix(family.afi, octets) for octets in nlri]
    return set(prefixes) if path_ids is None else set(zip(prefixes, path_ids, strict=True))
