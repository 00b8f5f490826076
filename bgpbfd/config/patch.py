"""A configuration as its difference from the one in force, for a process that has that one to take it in small bites.

Static routes may be a hundred thousand: those that stay are named by where they stand among the old ones, so that what
crosses, and what whoever applies it has to do, is as much as has changed. Policies that stay are named as well: to
make one of many prefixes takes time. All the rest crosses whole.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from bgpbfd.config.diff import RoutesChanged, diff
from bgpbfd.config.faults import ConfigError
from bgpbfd.config.model import Announced, Config, StaticRoute
from bgpbfd.core import PeerId, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.wire.attributes import PathAttributes

PIECE = 2000
"""Routes in a piece: 1 to 2 ms of work for whoever takes it."""

Owner: TypeAlias = PeerId | None
"""Whose routes: a peer's, or (None) everybody's."""
_Kept: TypeAlias = tuple[int, int]  # from, to: of the owner's old routes
_Fresh: TypeAlias = int  # so many of the fresh ones
_Place: TypeAlias = tuple[Owner, int]  # an old route
_Row: TypeAlias = tuple[int, bytes, int, int]  # AFI, NLRI, SAFI, number of the attributes


@dataclass(slots=True, frozen=True)
class RouteEdit:
    """What to do about the routes of one owner."""

    owner: Owner
    gone: tuple[Prefix, ...] = ()
    come: tuple[Announced, ...] = ()
    """Added, or other than before."""


@dataclass(slots=True, frozen=True)
class Amended:
    """A configuration, and how it differs from the one before."""

    config: Config
    changes: tuple[tuple[str, str, str], ...]
    """Path, text and impact of each, as ``diff`` has them."""
    edits: tuple[RouteEdit, ...]

    @property
    def routes(self) -> int:
        """How many routes the edits are about."""
        return sum(len(edit.gone) + len(edit.come) for edit in self.edits)


def amended(old: Config, new: Config) -> Amended:
    """The difference from ``old`` to ``new``."""
    changes = diff(old, new)
    texts = tuple((change.path, change.text, str(change.impact)) for change in changes)
    before = {peer.id: peer for peer in old.peers}
    after = {peer.id: peer for peer in new.peers}
    edits = [_edit(change) for change in changes if isinstance(change, RoutesChanged)]
    edits += [
        RouteEdit(peer.id, gone=(*_prefixes(peer.static_routes), *_prefixes(peer.static_flows)))
        for peer in old.peers
        if peer.id not in after
    ]
    edits += [
        RouteEdit(peer.id, come=(*peer.static_routes, *peer.static_flows))
        for peer in new.peers
        if peer.id not in before
    ]
    return Amended(new, texts, tuple(edit for edit in edits if edit.gone or edit.come))


def _edit(change: RoutesChanged) -> RouteEdit:
    return RouteEdit(change.peer, tuple(_prefixes(change.removed)), (*change.changed, *change.added))


def _prefixes(routes: Iterable[Announced]) -> Iterator[Prefix]:
    return (route.prefix for route in routes)


# -- across ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Head:
    config: Config  # without static routes and policies
    policies: dict[str, Policy | None]  # None: as it was
    changes: tuple[tuple[str, str, str], ...]
    attributes: list[PathAttributes | _Place]
    runs: dict[Owner, list[_Kept | _Fresh]]
    edits: list[RouteEdit]  # in parts, each with the fresh ones it takes
    takes: list[list[int]] = field(default_factory=list)


def encode(old: Config, new: Config) -> Iterator[bytes]:
    """The difference in pieces, for ``Decoder`` beside the same ``old``. They hold secrets: for our own pipes only."""
    shared = _Sharing(old)
    new = shared.config(new)
    found = amended(old, new)
    runs = {owner: list(shared.runs(owner, routes)) for owner, routes in _static_routes(new)}
    fresh = shared.fresh
    numbers = {id(route): number for number, route in enumerate(fresh)}
    takes = [[numbers[id(route)] for route in edit.come if id(route) in numbers] for edit in found.edits]
    edits = [
        RouteEdit(edit.owner, come=tuple(route for route in edit.come if id(route) not in numbers))
        for edit in found.edits
    ]
    rows, attributes = shared.rows()
    policies = {name: None if old.policies.get(name) == policy else policy for name, policy in new.policies.items()}
    yield pickle.dumps(_Head(_stripped(new), policies, found.changes, attributes, runs, edits, takes))
    for start in range(0, len(rows), PIECE):
        yield pickle.dumps(("fresh", rows[start : start + PIECE]))
    for number, edit in enumerate(found.edits):
        for start in range(0, len(edit.gone), PIECE):
            yield pickle.dumps(("gone", (number, edit.gone[start : start + PIECE])))


def encode_failure(error: Exception) -> bytes:
    """The piece that says why there is no difference to be had: it ends in this error, or one of its name."""
    return pickle.dumps(("refused", error.faults) if isinstance(error, ConfigError) else ("failed", repr(error)))


class Decoder:
    """Takes the pieces of ``encode``, each for a ms or two; ``finish`` after the last."""

    def __init__(self, old: Config) -> None:
        self._old = dict(_static_routes(old))
        self._policies = old.policies
        self._head: _Head | None = None
        self._attributes: list[PathAttributes] = []
        self._fresh: list[StaticRoute] = []
        self._gone: dict[int, list[Prefix]] = {}

    def feed(self, piece: bytes) -> None:
        """The next one. Only of our own making: a pickle does what it likes.

        Raises ConfigError or RuntimeError for ``encode_failure``.
        """
        found = pickle.loads(piece)
        if isinstance(found, _Head):
            self._head = found
            self._attributes = [self._shared(entry) for entry in found.attributes]
            return
        kind, content = found
        if kind == "fresh":
            attributes = self._attributes
            self._fresh += [
                StaticRoute(Prefix(afi, nlri, safi), attributes[number]) for afi, nlri, safi, number in content
            ]
        elif kind == "refused":
            raise ConfigError(content)
        elif kind == "failed":
            raise RuntimeError(content)
        else:
            number, prefixes = content
            self._gone.setdefault(number, []).extend(prefixes)

    def _shared(self, entry: PathAttributes | _Place) -> PathAttributes:
        if isinstance(entry, PathAttributes):
            return entry
        owner, index = entry
        return self._old[owner][index].attributes

    def finish(self) -> Amended:
        """Raises ValueError when the first piece has not come."""
        head = self._head
        if head is None:
            raise ValueError("the difference is not whole")
        fresh = iter(self._fresh)
        routes = {owner: self._put_together(owner, runs, fresh) for owner, runs in head.runs.items()}
        peers = tuple(msgspec.structs.replace(peer, static_routes=routes[peer.id]) for peer in head.config.peers)
        policies = {name: policy or self._policies[name] for name, policy in head.policies.items()}
        config = msgspec.structs.replace(head.config, peers=peers, static_routes=routes[None], policies=policies)
        edits = tuple(
            RouteEdit(
                edit.owner, tuple(self._gone.get(number, ())), (*(self._fresh[index] for index in takes), *edit.come)
            )
            for number, (edit, takes) in enumerate(zip(head.edits, head.takes, strict=True))
        )
        return Amended(config, head.changes, edits)

    def _put_together(
        self, owner: Owner, runs: list[_Kept | _Fresh], fresh: Iterator[StaticRoute]
    ) -> tuple[StaticRoute, ...]:
        found: list[StaticRoute] = []
        for run in runs:
            if isinstance(run, int):
                found += (next(fresh) for _ in range(run))
            else:
                found += self._old[owner][run[0] : run[1]]
        return tuple(found)


class _Sharing:
    """Finds routes that were there before."""

    def __init__(self, old: Config) -> None:
        self._places: dict[Owner, dict[int, int]] = {}  # id of an old route: where it stands
        self._by_prefix: dict[Owner, dict[Prefix, StaticRoute]] = {}
        self._attributes: dict[PathAttributes, _Place] = {}
        for owner, routes in _static_routes(old):
            self._places[owner] = dict(zip(map(id, routes), range(len(routes)), strict=True))
            self._by_prefix[owner] = {route.prefix: route for route in routes}
            for index in {id(route.attributes): index for index, route in enumerate(routes)}.values():
                self._attributes.setdefault(routes[index].attributes, (owner, index))
        self.fresh: list[StaticRoute] = []

    def config(self, new: Config) -> Config:
        """The same with the old routes where they are equal: comparing them costs nothing from here on."""
        routes = {owner: self._with_old(owner, found) for owner, found in _static_routes(new)}
        peers = tuple(msgspec.structs.replace(peer, static_routes=routes[peer.id]) for peer in new.peers)
        return msgspec.structs.replace(new, peers=peers, static_routes=routes[None])

    def _with_old(self, owner: Owner, routes: Sequence[StaticRoute]) -> tuple[StaticRoute, ...]:
        old = self._by_prefix.get(owner)
        if not old:
            return tuple(routes)
        same: dict[tuple[int, int], bool] = {}
        found: list[StaticRoute] = []
        for route in routes:
            before = old.get(route.prefix)
            if before is None:
                found.append(route)
                continue
            pair = id(before.attributes), id(route.attributes)
            equal = same.get(pair)
            if equal is None:
                equal = same[pair] = before.attributes == route.attributes
            found.append(before if equal else route)
        return tuple(found)

    def runs(self, owner: Owner, routes: Sequence[StaticRoute]) -> Iterator[_Kept | _Fresh]:
        """What the tuple is made of; the fresh ones are noted, in their order."""
        places, fresh = self._places.get(owner, {}), self.fresh
        start = stop = -1
        count = 0
        for route in routes:
            index = places.get(id(route))
            if index is None:
                if start != stop:
                    yield start, stop
                    start = stop
                count += 1
                fresh.append(route)
                continue
            if count:
                yield count
                count = 0
            if index != stop or start == stop:
                if start != stop:
                    yield start, stop
                start = index
            stop = index + 1
        if start != stop:
            yield start, stop
        if count:
            yield count

    def rows(self) -> tuple[list[_Row], list[PathAttributes | _Place]]:
        """The fresh ones, and the attributes that they have by number."""
        attributes: list[PathAttributes | _Place] = []
        numbers: dict[int, int] = {}
        rows: list[_Row] = []
        for route in self.fresh:
            number = numbers.get(id(route.attributes))
            if number is None:
                number = numbers[id(route.attributes)] = len(attributes)
                attributes.append(self._attributes.get(route.attributes, route.attributes))
            rows.append((route.prefix.afi, route.prefix.nlri, route.prefix.safi, number))
        return rows, attributes


def _static_routes(config: Config) -> Iterable[tuple[Owner, tuple[StaticRoute, ...]]]:
    yield None, config.static_routes
    for peer in config.peers:
        yield peer.id, peer.static_routes


def _stripped(config: Config) -> Config:
    peers = tuple(msgspec.structs.replace(peer, static_routes=()) for peer in config.peers)
    return msgspec.structs.replace(config, peers=peers, static_routes=(), policies={})
