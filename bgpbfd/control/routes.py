"""What an operator can ask of routes and flow specifications, and do with those of the source ``api``."""

from __future__ import annotations

from bgpbfd.config.model import Announced
from bgpbfd.control.engine import Engine, state_text
from bgpbfd.control.lookup import find_neighbor, find_network
from bgpbfd.control.neighbor import Neighbor
from bgpbfd.control.snapshot import Refused, RouteSnapshot
from bgpbfd.core import AFI_IPV4, SAFI_FLOW, SAFI_UNICAST, Instant, PeerId, Prefix
from bgpbfd.rib.originate import Route
from bgpbfd.rib.path_ids import OWN
from bgpbfd.rib.table import LearnedRoute
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.flowspec_text import nlri_text


class RouteOperations:
    """The part of ``operations`` that is about routes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def now(self) -> Instant:
        return self._engine.clock.now()

    def routes_learned(self, peer: str | None = None, safi: int | None = None) -> list[RouteSnapshot]:
        """What ``peer``, or every neighbor, has sent us; of one SAFI, or of all."""
        only = None if peer is None else find_neighbor(self._engine, peer).id
        return [self._learned(route) for route in self._engine.rib.learned(only, safi)]

    def _learned(self, route: LearnedRoute) -> RouteSnapshot:
        reason = route.reason
        if route.valid and route.family.safi == SAFI_FLOW:  # a valid route, that is never passed on
            reason = self._engine.announcing.flows.validate_flow(route)
        return RouteSnapshot(
            peer=route.peer,
            source=route.peer,
            prefix=Prefix(route.family.afi, route.nlri, route.family.safi),
            kept=route.in_force,
            received_at=route.received_at,
            valid=route.valid,
            reason=reason,
            path_id=route.path_id,
            stale=route.stale,
            why=route.why,
        )

    def routes_advertised(
        self, peer: str | None = None, safi: int | None = None, *, why: bool = False
    ) -> list[RouteSnapshot]:
        """What stands at each neighbor, as it was sent."""
        engine = self._engine
        neighbors = list(engine.neighbors.values()) if peer is None else [find_neighbor(self._engine, peer)]
        found: list[RouteSnapshot] = []
        for neighbor in neighbors:
            for family, nlri, attributes, path_id in neighbor.announcer.sent():
                if safi is not None and family.safi != safi:
                    continue
                prefix = Prefix(family.afi, nlri, family.safi)
                source, since = self._origin(neighbor, prefix, path_id)
                said = neighbor.announcer.why(family, nlri, path_id) if why else None
                found.append(RouteSnapshot(neighbor.id, source, prefix, attributes, since, path_id=path_id, why=said))
        return found

    def _origin(self, neighbor: Neighbor, prefix: Prefix, path_id: int | None) -> tuple[str, Instant]:
        """Which source a sent prefix came from, and since when it stands."""
        if path_id is not None and path_id != OWN:
            path = self._engine.announcing.path_of(prefix, path_id)
            return ("withdrawing", self.now()) if path is None else (path.peer, path.received_at)
        route = self._engine.originated.wanted(neighbor.id, prefix, neighbor.sources, parent=neighbor.network)
        if route is not None:
            return route.source, route.at
        best = self._engine.rib.best(prefix.family, prefix.nlri)
        if best is not None:
            return best.peer, best.received_at
        return "withdrawing", self.now()

    def flows(self, kind: str | None = None, peer: str | None = None) -> list[RouteSnapshot]:
        """Flow specifications: ours as ``routes`` has them and the learned ones after them, or one ``kind``.

        ``kind``: learned (from ``peer``), or advertised (to ``peer``).
        """
        if kind == "learned":
            return self.routes_learned(peer, SAFI_FLOW)
        if kind == "advertised":
            return self.routes_advertised(peer, SAFI_FLOW)
        return self.routes(SAFI_FLOW) + self.routes_learned(safi=SAFI_FLOW)

    def routes(self, safi: int | None = None, *, why: bool = False) -> list[RouteSnapshot]:
        """Every route of ours, with how many of the neighbors that should have it were sent it, or why not."""
        engine = self._engine
        neighbors = [n for n in engine.neighbors.values() if n.enabled]
        found: list[RouteSnapshot] = []
        for route in engine.originated.routes():
            if safi is not None and route.prefix.safi != safi:
                continue
            takers = [
                n
                for n in neighbors
                if engine.originated.wanted(n.id, route.prefix, n.sources, parent=n.network) is route
                and route.prefix.family in n.config.families
            ]
            sent = [n for n in takers if n.has_been_sent(route.prefix)]
            found.append(
                RouteSnapshot(
                    peer=None,
                    source=route.source,
                    prefix=route.prefix,
                    kept=route.attributes,
                    received_at=route.at,
                    next_hop_self=route.attributes.next_hop is None and route.prefix.safi == SAFI_UNICAST,
                    reason=self._why_not(takers, route) if len(sent) < len(takers) or not takers else None,
                    announced_to=len(sent),
                    wanted_by=len(takers),
                    why=self._policies(takers, route.prefix) if why else None,
                )
            )
        return found

    @staticmethod
    def _policies(takers: list[Neighbor], prefix: Prefix) -> str | None:
        said = ((n.id, n.announcer.why(prefix.family, prefix.nlri)) for n in takers if n.session is not None)
        return "; ".join(f"{peer}: {why}" for peer, why in said if why is not None) or None

    def _why_not(self, takers: list[Neighbor], route: Route) -> str:
        reasons: list[str] = []
        for neighbor in takers:
            if neighbor.session is None:
                reasons.append(f"{neighbor.id}: {state_text(neighbor.peer.state)}")
            elif (why := neighbor.announcer.reason(route.prefix)) is not None:
                reasons.append(f"{neighbor.id}: {why}")
        if not takers:
            return "no neighbor takes it: another route comes first, or the family or source is not configured"
        return "; ".join(reasons) or "being sent"

    def advertise(self, route: Announced, peers: list[str] | None = None) -> int:
        """Announce a route or a flow specification over the API; gives how many neighbors it is wanted at."""
        named = self._named(peers)
        engine = self._engine
        entry = Route("api", route.prefix, route.attributes, named, self.now())
        self._check_reachable(route.prefix, route.attributes, named)
        engine.announcing.mark_originated(engine.originated.set(entry, self.now()))
        engine.recorder.add("route-advertised", f"{nlri_text(route.prefix)} advertised over the API", self.now())
        return len(self._takers(route.prefix, named))

    def withdraw(self, prefix_text: str, peers: list[str] | None = None) -> int:
        """Take back what was announced over the API; gives how many neighbors had it."""
        try:
            prefix = Prefix.parse(prefix_text)
        except ValueError as error:
            raise Refused("prefix", str(error)) from None
        return self._withdraw("prefix", prefix, peers)

    def withdraw_flow(self, rule: Prefix, peers: list[str] | None = None) -> int:
        """Take back a flow specification that was announced over the API; gives how many neighbors had it."""
        return self._withdraw("flow", rule, peers)

    def _withdraw(self, path: str, prefix: Prefix, peers: list[str] | None) -> int:
        engine = self._engine
        named = self._named(peers)
        sent = sum(n.has_been_sent(prefix) for n in self._members(named))
        if named is None:
            affected = engine.originated.remove_all("api", prefix)
        else:
            affected = engine.originated.remove("api", prefix, named)
        if not affected:
            raise Refused(path, self._not_ours(prefix, named))
        engine.announcing.mark_originated(affected)
        engine.recorder.add("route-withdrawn", f"{nlri_text(prefix)} withdrawn over the API", self.now())
        return sent

    def _not_ours(self, prefix: Prefix, named: frozenset[PeerId] | None) -> str:
        if any(route.prefix == prefix for route in self._engine.originated.routes("config")):
            what = "route" if prefix.safi == SAFI_UNICAST else "flow"
            return f"{nlri_text(prefix)} is a static {what} of the configuration: remove it there and reload"
        see = "routes" if prefix.safi == SAFI_UNICAST else "flows"
        where = "" if named is None else " for these peers"
        return f"{nlri_text(prefix)} was not advertised over the API{where}; see show {see}"

    def _named(self, peers: list[str] | None) -> frozenset[PeerId] | None:
        if not peers:
            return None
        return frozenset(self._peer_or_network(peer) for peer in peers)

    def _peer_or_network(self, peer: str) -> PeerId:
        network = find_network(self._engine, peer)
        return find_neighbor(self._engine, peer).id if network is None else network.id

    def _members(self, named: frozenset[PeerId] | None) -> list[Neighbor]:
        return [n for n in self._engine.neighbors.values() if named is None or named & {n.id, n.network}]

    def _takers(self, prefix: Prefix, named: frozenset[PeerId] | None) -> list[Neighbor]:
        return [
            n
            for n in self._members(named)
            if prefix.family in n.config.families and "api" in n.config.advertise_sources
        ]

    def _check_reachable(self, prefix: Prefix, attributes: PathAttributes, named: frozenset[PeerId] | None) -> None:
        if named is not None and not self._takers(prefix, named):
            raise Refused("peers", f"none of them takes {prefix.family} routes of the source api")
        next_hop = attributes.next_hop
        if next_hop is None or (len(next_hop) == 4) == (prefix.afi == AFI_IPV4):
            return
        extended = any(n.config.extended_next_hop for n in self._takers(prefix, named))
        if prefix.afi != AFI_IPV4 or not extended:
            hint = ", or set extended_next_hop at a peer (RFC 8950)" if prefix.afi == AFI_IPV4 else ""
            raise Refused("route.next_hop", f"must be of the prefix's family ({prefix.family}){hint}")
