"""From what changed to what is sent: which neighbors a changed route concerns, and their turns at sending.

A change only marks prefixes. In a later turn of the loop each neighbor's announcer looks up what is wanted now,
compares with what it sent, and gives UPDATEs; what changed in between goes out together, and nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from bgpbfd.bgp import events as bgp
from bgpbfd.control.neighbor import Neighbor, export_context
from bgpbfd.control.ports import Connections, Interfaces, Timers
from bgpbfd.core import Family, PeerId, Prefix
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.originate import Originated
from bgpbfd.rib.table import Rib
from bgpbfd.wire.attributes import PathAttributes

MESSAGES_A_TURN = 25  # a peer's share of one turn of the loop; keeps any one peer from holding up the others


class Host(Protocol):
    """What announcing needs of the engine."""

    neighbors: dict[PeerId, Neighbor]
    rib: Rib
    originated: Originated
    timers: Timers
    connections: Connections
    interfaces: Interfaces

    def feed(self, neighbor: Neighbor, event: bgp.Event) -> None: ...

    def internal_error(self, neighbor: Neighbor, where: str) -> None:
        """Called while the exception is being handled."""
        ...


class Announcing:
    def __init__(self, host: Host) -> None:
        self._host = host

    def announcer(self, peer: PeerId) -> Announcer:
        """An announcer that is told from the engine's tables what ``peer`` should be sent.

        Our own routes come before learned ones for the same prefix.
        """
        host = self._host

        def wanted(family: Family, nlri: bytes) -> PathAttributes | str | None:
            neighbor = host.neighbors[peer]
            announcer = neighbor.announcer
            route = host.originated.wanted(
                peer, Prefix(family.afi, nlri, family.safi), neighbor.sources, parent=neighbor.network
            )
            if route is not None:
                return announcer.exported(route.attributes, None, family, nlri, route.source)
            if "peer" in neighbor.sources:
                best = host.rib.best(family, nlri)
                if best is not None and best.peer != peer:
                    return announcer.exported(best.attributes, host.rib.info(best.peer), family, nlri, "peer")
            return None

        def candidates(family: Family) -> Iterable[bytes]:
            neighbor = host.neighbors[peer]
            for route in host.originated.wanted_routes(peer, neighbor.sources, parent=neighbor.network):
                if route.prefix.family == family:
                    yield route.prefix.nlri
            if "peer" in neighbor.sources:
                yield from host.rib.prefixes(family)

        return Announcer(wanted, candidates)

    def passes_on(self) -> bool:
        """Whether any neighbor is sent learned routes: only then do changes of best paths matter."""
        return any("peer" in neighbor.config.advertise_sources for neighbor in self._host.neighbors.values())

    def mark_learned(self, changed: Iterable[tuple[Family, bytes]], source: PeerId) -> None:
        """Best paths changed by ``source``: mark them at the neighbors that learned routes are passed on to."""
        takers = [
            neighbor
            for neighbor in self._host.neighbors.values()
            if neighbor.session is not None and "peer" in neighbor.config.advertise_sources and neighbor.id != source
        ]
        if not takers:
            return
        keys = list(changed)
        for neighbor in takers:
            for family, nlri in keys:
                neighbor.announcer.mark(family, nlri)
            self.pump(neighbor)

    def mark_originated(self, affected: Iterable[tuple[PeerId | None, Prefix]]) -> None:
        """Routes of ours changed: for one peer, or (None) for all."""
        for peer, prefix in affected:
            for neighbor in self._host.neighbors.values():
                if neighbor.session is not None and (peer is None or peer in {neighbor.id, neighbor.network}):
                    neighbor.announcer.mark(prefix.family, prefix.nlri)
                    self.pump(neighbor)

    def refresh_export(self, neighbor: Neighbor) -> None:
        """How routes leave for this neighbor has changed: compare everything again, send what differs."""
        if neighbor.session is not None:
            context = export_context(neighbor.config, neighbor.session, self._host.interfaces)
            neighbor.announcer.change_export(context)
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
