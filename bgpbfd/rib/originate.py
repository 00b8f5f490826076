"""Our own routes, by where they come from, and which of them counts for one prefix at one peer.

Precedence: api before service before config, as what a person does now is meant to override what a file says; within
one source a route for that peer before a route for every peer. Of two routes of one source for the same prefix and
peer, the later one stands.

A route for every peer is stored once, however many peers there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from bgpbfd.core import Family, Instant, PeerId, Prefix
from bgpbfd.wire.attributes import PathAttributes

Source: TypeAlias = Literal["config", "api", "service"]
PRECEDENCE: tuple[Source, ...] = ("api", "service", "config")
Affected: TypeAlias = list[tuple[PeerId | None, Prefix]]
"""(peer, prefix) to look at again; peer None means every peer."""
Runs: TypeAlias = dict[tuple[Family, int], tuple[PathAttributes, list[bytes]]]
"""NLRI by family and id of the attributes that they share, which stand beside them."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """A route of ours. ``attributes.next_hop`` None: the session's own address. ``peers`` None: every peer.

    ``at`` is when it was given; ``expires`` when its lease ends, None never.
    """

    source: Source
    prefix: Prefix
    attributes: PathAttributes
    peers: frozenset[PeerId] | None = None
    at: Instant = 0
    expires: Instant | None = None


@dataclass(slots=True)
class _Store:
    """The routes of one source."""

    common: dict[Prefix, Route] = field(default_factory=dict)
    by_peer: dict[PeerId, dict[Prefix, Route]] = field(default_factory=dict)
    _runs: Runs | None = None  # of the common ones, worked out once for all sessions that come up

    def add(self, route: Route) -> None:
        if route.peers is None:
            self.common[route.prefix] = route
            self._runs = None
            return
        for peer in route.peers:
            self.by_peer.setdefault(peer, {})[route.prefix] = route

    def drop_common(self, prefix: Prefix) -> bool:
        self._runs = None
        return self.common.pop(prefix, None) is not None

    def common_runs(self) -> Runs:
        if self._runs is None:
            self._runs = _runs(self.common)
        return self._runs

    def drop(self, peer: PeerId, prefix: Prefix) -> bool:
        routes = self.by_peer.get(peer)
        if routes is None or routes.pop(prefix, None) is None:
            return False
        if not routes:
            del self.by_peer[peer]
        return True

    def shrink(self, prefix: Prefix, peers: frozenset[PeerId]) -> None:
        """Routes that also named one of ``peers`` name it no longer, as another one takes over there."""
        for route in {id(r): r for p in peers if (r := self.by_peer.get(p, {}).get(prefix))}.values():
            for peer in route.peers or ():
                self.drop(peer, prefix)
            if left := (route.peers or frozenset()) - peers:
                self.add(replace(route, peers=left))

    def distinct(self) -> Iterator[Route]:
        yield from self.common.values()
        for peer, routes in self.by_peer.items():
            for route in routes.values():
                if route.peers is not None and peer == min(route.peers):
                    yield route


class Originated:
    """The set of our own routes, all sources together."""

    def __init__(self) -> None:
        self._stores: dict[Source, _Store] = {source: _Store() for source in PRECEDENCE}

    def set(self, route: Route, now: Instant) -> Affected:
        """Add or replace; nothing is affected where an equal route was there (its lease is renewed, its age kept)."""
        store = self._stores[route.source]
        if route.peers is None:
            old = store.common.get(route.prefix)
            same = old is not None and old.attributes == route.attributes
            store.add(replace(route, at=old.at if old is not None and same else now))
            return [] if same else [(None, route.prefix)]
        before = {peer: store.by_peer.get(peer, {}).get(route.prefix) for peer in route.peers}
        affected: Affected = []
        since = now
        for peer, old in sorted(before.items()):
            if old is None or old.attributes != route.attributes:
                affected.append((peer, route.prefix))
            elif not affected:
                since = min(since, old.at)
        store.shrink(route.prefix, route.peers)
        store.add(replace(route, at=now if affected else since))
        return affected

    def remove(self, source: Source, prefix: Prefix, peers: frozenset[PeerId] | None) -> Affected:
        """Take away the route for every peer (``peers`` None), or the routes given for these peers."""
        store = self._stores[source]
        if peers is None:
            return [(None, prefix)] if store.drop_common(prefix) else []
        affected: Affected = [(p, prefix) for p in sorted(peers) if prefix in store.by_peer.get(p, {})]
        store.shrink(prefix, peers)
        return affected

    def remove_all(self, source: Source, prefix: Prefix) -> Affected:
        """Take away whatever ``source`` says about the prefix, for every peer and for single ones."""
        named = frozenset(p for p, routes in self._stores[source].by_peer.items() if prefix in routes)
        return self.remove(source, prefix, None) + self.remove(source, prefix, named)

    def replace_source(self, source: Source, routes: Iterable[Route], now: Instant) -> Affected:
        """Make ``routes`` the whole of ``source``; the differences are affected, what stays the same keeps its age."""
        old, new = self._stores[source], _Store()
        fresh = not old.common and not old.by_peer
        for route in routes:
            if route.peers is not None and any(route.prefix in new.by_peer.get(p, {}) for p in route.peers):
                new.shrink(route.prefix, route.peers)
            new.add(route if fresh and route.at == now else _aged(route, old, now))
        self._stores[source] = new
        new.common_runs()  # for the sessions to come, while none waits for it
        if fresh:
            affected: Affected = [(None, prefix) for prefix in new.common]
        else:
            affected = [(None, prefix) for prefix in _differences(old.common, new.common)]
        for peer in old.by_peer.keys() | new.by_peer.keys():
            changes = _differences(old.by_peer.get(peer, {}), new.by_peer.get(peer, {}))
            affected.extend((peer, prefix) for prefix in changes)
        return affected

    def wanted(
        self, peer: PeerId, prefix: Prefix, sources: frozenset[str], *, parent: PeerId | None = None
    ) -> Route | None:
        """The route that counts for ``prefix`` at ``peer``, of the sources that it takes, by the precedence above.

        ``parent`` is the network that a dynamic neighbor came from: its routes count after the neighbor's own.
        """
        for source in PRECEDENCE:
            if source not in sources:
                continue
            store = self._stores[source]
            if store.by_peer:
                for name in (peer, parent):
                    if name is not None and (route := store.by_peer.get(name, {}).get(prefix)) is not None:
                        return route
            if (route := store.common.get(prefix)) is not None:
                return route
        return None

    def wanted_routes(self, peer: PeerId, sources: frozenset[str], *, parent: PeerId | None = None) -> Iterator[Route]:
        """Each prefix's counting route at ``peer``. The routes must not be changed while it runs."""
        layers = self._layers(peer, sources, parent)
        for position, (_, layer) in enumerate(layers):
            above = [other for _, other in layers[:position]]
            if not above:
                yield from layer.values()
                continue
            for prefix, route in layer.items():
                if not any(prefix in other for other in above):
                    yield route

    def _layers(
        self, peer: PeerId, sources: frozenset[str], parent: PeerId | None
    ) -> list[tuple[Source, dict[Prefix, Route]]]:
        """Where a route may stand that counts at ``peer``, the first to have the prefix first."""
        found: list[tuple[Source, dict[Prefix, Route]]] = []
        for source in PRECEDENCE:
            if source in sources:
                store = self._stores[source]
                named = [store.by_peer.get(name, {}) for name in (peer, parent) if name is not None]
                found.extend((source, layer) for layer in (*named, store.common) if layer)
        return found

    def wanted_runs(
        self, peer: PeerId, family: Family, sources: frozenset[str], *, parent: PeerId | None = None
    ) -> Iterator[tuple[Source, PathAttributes, list[bytes]]]:
        """``wanted_routes`` of one family by the attributes that they share: source, attributes, NLRI.

        The lists are not to be changed, nor are they when the routes are: they are how it was when asked.
        """
        above: set[bytes] = set()  # NLRI of the layers before
        layers = self._layers(peer, sources, parent)
        for number, (source, layer) in enumerate(layers, 1):
            store = self._stores[source]
            runs = store.common_runs() if layer is store.common else _runs(layer)
            mine = [run for (of, _), run in runs.items() if of == family]
            for attributes, nlri in mine:
                left = [key for key in nlri if key not in above] if above else nlri
                if left:
                    yield source, attributes, left
            if number < len(layers):  # else: nothing comes after it
                above.update(*(nlri for _, nlri in mine))

    def routes(self, source: Source | None = None) -> Iterator[Route]:
        """Every route once, shadowed ones included."""
        for name in PRECEDENCE:
            if source is None or source == name:
                yield from self._stores[name].distinct()

    def count(self, source: Source | None = None) -> int:
        return sum(1 for _ in self.routes(source))


def _runs(routes: dict[Prefix, Route]) -> Runs:
    found: dict[tuple[int, int, int], tuple[PathAttributes, list[bytes]]] = {}
    for (afi, nlri, safi), route in routes.items():
        attributes = route.attributes
        run = found.get((afi, safi, id(attributes)))
        if run is None:
            run = found[afi, safi, id(attributes)] = attributes, []
        run[1].append(nlri)
    return {(Family(afi, safi), number): run for (afi, safi, number), run in found.items()}


def _aged(route: Route, old: _Store, now: Instant) -> Route:
    if route.peers is None:
        before = old.common.get(route.prefix)
    else:
        before = old.by_peer.get(min(route.peers), {}).get(route.prefix) if route.peers else None
    if before is not None and before.attributes == route.attributes:
        if before.peers == route.peers and before.expires == route.expires:
            return before
        return replace(route, at=before.at)
    return route if route.at == now else replace(route, at=now)


def _differences(old: dict[Prefix, Route], new: dict[Prefix, Route]) -> Iterator[Prefix]:
    for prefix, route in new.items():
        before = old.get(prefix)
        if before is None or (before is not route and before.attributes != route.attributes):
            yield prefix
    for prefix in old:
        if prefix not in new:
            yield prefix
