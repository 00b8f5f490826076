"""From what changed to what is sent: which neighbors a changed route concerns, and their turns at sending.

A change only marks prefixes. In a later turn of the loop each neighbor's announcer looks up what is wanted now,
compares with what it sent, and gives UPDATEs; what changed in between goes out together, and nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from bgpbfd.bgp import events as bgp
from bgpbfd.config.model import Config
from bgpbfd.control.neighbor import Neighbor, export_context
from bgpbfd.control.ports import Clock, Connections, Interfaces, Timers
from bgpbfd.control.restarting import Restart
from bgpbfd.core import SAFI_FLOW, SAFI_UNICAST, SECOND, Family, Instant, Micros, PeerId, Prefix
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.flow_validation import FlowValidator
from bgpbfd.rib.originate import Originated, Route
from bgpbfd.rib.path_ids import OWN, path_ids
from bgpbfd.rib.table import LearnedRoute, Rib
from bgpbfd.wire.attributes import PathAttributes

MESSAGES_A_TURN = 25  # a peer's share of one turn of the loop; keeps any one peer from holding up the others
SHORTEST_RUN = 64  # routes of the same attributes: fewer are looked at one by one, which others' turns come between
FLOWS_PAUSE: Micros = SECOND  # between two looks at the feasibility of learned flow specifications, at least
FLOW_PAUSE: Micros = SECOND // 2000  # of that for each one and neighbor: a look takes a tenth of it, mostly
_FLOWS_KEY = "flow specifications"


class Host(Protocol):
    """What announcing needs of the engine."""

    neighbors: dict[PeerId, Neighbor]
    rib: Rib
    originated: Originated
    clock: Clock
    timers: Timers
    connections: Connections
    interfaces: Interfaces
    config: Config
    restart: Restart

    def feed(self, neighbor: Neighbor, event: bgp.Event) -> None: ...

    def internal_error(self, neighbor: Neighbor, where: str) -> None:
        """Called while the exception is being handled."""
        ...


class Announcing:
    def __init__(self, host: Host) -> None:
        self._host = host
        self.flows = FlowValidator(host.rib)
        self._passes_on: tuple[Config | None, bool] = (None, False)  # of which configuration
        self._flows_due: set[int] = set()  # AFIs
        self._flows_not_before: Instant = 0

    def announcer(self, peer: PeerId) -> Announcer:
        """An announcer that is told from the engine's tables what ``peer`` should be sent.

        Our own routes come before learned ones for the same prefix.
        """
        host = self._host

        def learned(neighbor: Neighbor, route: LearnedRoute, nlri: bytes) -> PathAttributes | str:
            family, announcer = route.family, neighbor.announcer
            if family.safi != SAFI_FLOW:
                return announcer.exported(route.attributes, route.info, family, nlri, "peer")
            infeasible = self.flows.validate_flow(route)
            return infeasible or announcer.exported_flow(route.attributes, route.info, family, nlri)

        def own(neighbor: Neighbor, family: Family, nlri: bytes) -> Route | None:
            prefix = Prefix(family.afi, nlri, family.safi)
            return host.originated.wanted(peer, prefix, neighbor.sources, parent=neighbor.network)

        def wanted(family: Family, nlri: bytes) -> PathAttributes | str | None:
            neighbor = host.neighbors[peer]
            route = own(neighbor, family, nlri)
            if route is not None:
                return neighbor.announcer.exported(route.attributes, None, family, nlri, route.source)
            if "peer" in neighbor.sources and not host.restart.deferring:
                best = host.rib.best(family, nlri)
                if best is not None and best.peer != peer:
                    return learned(neighbor, best, nlri)
            return None

        def wanted_paths(family: Family, nlri: bytes) -> Iterator[tuple[int, PathAttributes | str]]:
            neighbor = host.neighbors[peer]
            route = own(neighbor, family, nlri)
            if route is not None:
                yield OWN, neighbor.announcer.exported(route.attributes, None, family, nlri, route.source)
            if "peer" in neighbor.sources and not host.restart.deferring:
                for path_id, path in self._numbered(family, nlri):
                    if path.peer != peer:
                        yield path_id, learned(neighbor, path, nlri)

        def candidates(family: Family) -> Iterable[bytes]:
            neighbor = host.neighbors[peer]
            for route in host.originated.wanted_routes(peer, neighbor.sources, parent=neighbor.network):
                if route.prefix.family == family:
                    yield route.prefix.nlri
            if "peer" in neighbor.sources:
                yield from host.rib.prefixes(family)

        def initial(family: Family) -> tuple[list[tuple[PathAttributes, list[bytes]]], Iterable[bytes]]:
            neighbor = host.neighbors[peer]
            runs: list[tuple[PathAttributes, list[bytes]]] = []
            others: list[Iterable[bytes]] = []
            for source, attributes, nlri in host.originated.wanted_runs(
                peer, family, neighbor.sources, parent=neighbor.network
            ):
                enough = len(nlri) >= SHORTEST_RUN
                leaves = neighbor.announcer.exported_alike(attributes, family, nlri, source) if enough else None
                if leaves is None:
                    others.append(nlri)
                else:
                    runs.append((leaves, nlri))
            if "peer" in neighbor.sources:
                others.append(host.rib.prefixes(family))
            return runs, chain.from_iterable(others)

        return Announcer(wanted, candidates, wanted_paths, initial)

    def _numbered(self, family: Family, nlri: bytes) -> list[tuple[int, LearnedRoute]]:
        """The learned paths of a prefix, the best first, each with its path identifier, the same for every peer."""
        paths = self._host.rib.usable_paths(family, nlri)
        # A restart may turn ADD-PATH on or off, and stale paths are of both kinds then: None has its place, too.
        origins = sorted(
            {(path.peer, path.path_id) for path in paths}, key=lambda of: (of[0], -1 if of[1] is None else of[1])
        )
        numbers = dict(zip(origins, path_ids(origins), strict=True))
        return [(numbers[path.peer, path.path_id], path) for path in paths]

    def path_of(self, prefix: Prefix, path_id: int) -> LearnedRoute | None:
        """The learned path that is sent under ``path_id``."""
        return next((path for found, path in self._numbered(prefix.family, prefix.nlri) if found == path_id), None)

    def passes_on(self) -> bool:
        """Whether any neighbor, there or yet to come, is sent learned routes: only then do best paths matter."""
        config = self._host.config
        if self._passes_on[0] is not config:
            self._passes_on = config, any("peer" in peer.advertise_sources for peer in config.peers)
        return self._passes_on[1]

    def sends_paths(self) -> bool:
        """Whether any session is sent every path and not the best alone (RFC 7911)."""
        return self.passes_on() and any(
            neighbor.session is not None and neighbor.session.negotiated.add_path_send and "peer" in neighbor.sources
            for neighbor in self._host.neighbors.values()
        )

    def mark_learned(
        self,
        changed: Iterable[tuple[Family, bytes]],
        source: PeerId,
        touched: Iterable[tuple[Family, bytes]] = (),
    ) -> None:
        """Best paths changed by ``source``: mark them at the neighbors that learned routes are passed on to.

        ``source`` is one of them: it has to be told when the best path was another's, or is now.
        ``touched``: any path of these did; for those that are sent every path, each but its own.
        """
        takers = self._takers()
        if not takers:
            return
        keys, paths = list(changed), list(touched)
        self._look_at_flows({family.afi for family, _ in keys if family.safi == SAFI_UNICAST})
        for neighbor, session in takers:
            for family, nlri in keys:
                neighbor.announcer.mark(family, nlri)
            if session.negotiated.add_path_send and neighbor.id != source:
                for family, nlri in paths:
                    neighbor.announcer.mark(family, nlri)
            self.pump(neighbor)

    def _look_at_flows(self, afis: set[int]) -> None:
        """The feasibility of learned flow specifications may hang on unicast routes that changed (RFC 8955 §6).

        The first change is looked at at once, those that follow it together, and not all the time.
        """
        afis = {afi for afi in afis if self._host.rib.total(Family(afi, SAFI_FLOW))}
        if not afis <= self._flows_due:
            self._flows_due |= afis
            deadline = max(self._flows_not_before, self._host.clock.now())
            self._host.timers.arm(_FLOWS_KEY, deadline, self._mark_flows)

    def _mark_flows(self) -> None:
        host, takers = self._host, self._takers()
        families, self._flows_due = [Family(afi, SAFI_FLOW) for afi in self._flows_due], set()
        pause = FLOW_PAUSE * len(takers) * sum(host.rib.total(family) for family in families)
        self._flows_not_before = host.clock.now() + max(FLOWS_PAUSE, pause)
        for family in families:
            for nlri in host.rib.prefixes(family):
                for neighbor, _ in takers:
                    neighbor.announcer.mark(family, nlri)
        for neighbor, _ in takers:
            self.pump(neighbor)

    def _takers(self) -> list[tuple[Neighbor, bgp.SessionUp]]:
        return [
            (neighbor, neighbor.session)
            for neighbor in self._host.neighbors.values()
            if neighbor.session is not None and "peer" in neighbor.config.advertise_sources
        ]

    def session_up(self, neighbor: Neighbor, up: bgp.SessionUp) -> None:
        context = export_context(neighbor, up, self._host.config, self._host.interfaces)
        neighbor.export = context
        hold = self._host.restart.holds_end_of_rib(neighbor)
        neighbor.announcer.session_up(up.context, context, end_of_rib=True, hold_end_of_rib=hold)

    def restart_is_over(self) -> None:
        """RFC 4724 §4.1: the Selection_Deferral_Timer has ended."""
        for neighbor in self._host.neighbors.values():
            if neighbor.session is not None:
                if "peer" in neighbor.sources:
                    neighbor.announcer.mark_all()
                neighbor.announcer.release_end_of_rib()  # a reload may have ended its taking of learned routes
                self.pump(neighbor)

    def mark_originated(self, affected: Iterable[tuple[PeerId | None, Prefix]]) -> None:
        """Routes of ours changed: for one peer, or (None) for all."""
        up = [neighbor for neighbor in self._host.neighbors.values() if neighbor.session is not None]
        for peer, prefix in affected if up else ():
            for neighbor in up:
                if peer is None or peer in {neighbor.id, neighbor.network}:
                    neighbor.announcer.mark(prefix.family, prefix.nlri)
                    self.pump(neighbor)

    def config_changed(self, neighbor: Neighbor) -> None:
        """After a reload: if routes leave for this neighbor in another way now, send what differs."""
        if neighbor.session is None:
            return
        context = export_context(neighbor, neighbor.session, self._host.config, self._host.interfaces)
        if context != neighbor.export:
            neighbor.export = context
            neighbor.announcer.change_export(context)
            self.pump(neighbor)

    def sources_changed(self, neighbor: Neighbor) -> None:
        """Another set of routes is for this neighbor."""
        if neighbor.session is not None:
            neighbor.announcer.mark_all()
            self.pump(neighbor)

    def pump(self, neighbor: Neighbor) -> None:
        """Send what is pending to a neighbor in the next turns of the loop; changes until then go out together."""
        if not neighbor.pump_scheduled:
            neighbor.pump_scheduled = True
            self._host.timers.soon(lambda: self._turn(neighbor))

    def _turn(self, neighbor: Neighbor) -> None:
        neighbor.pump_scheduled = False
        session = neighbor.session
        if session is None or not neighbor.announcer.has_pending:
            return
        if not self._host.connections.writable(neighbor.id, session.conn):
            return  # connection_writable comes back here
        try:
            messages = neighbor.announcer.next_batch(MESSAGES_A_TURN)
        except Exception:  # noqa: BLE001  without its session's end the neighbor would keep what is outdated
            self._host.internal_error(neighbor, "announcing")
            return
        if messages:
            self._host.feed(neighbor, bgp.SendUpdates(session.generation, messages))
        if neighbor.announcer.has_pending:
            self.pump(neighbor)
