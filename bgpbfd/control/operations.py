"""What an operator can ask of the engine: every ``show`` and every command of the API.

Queries give snapshots, never live objects. A value that cannot be taken raises ``Refused`` with its place and
what would be right; nothing has then changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable

import bgpbfd
from bgpbfd.bgp import events as bgp
from bgpbfd.config.diff import diff
from bgpbfd.config.dump import dump_config
from bgpbfd.config.faults import ConfigError
from bgpbfd.config.model import Announced, Config, PeerConfig
from bgpbfd.config.names import peer_id
from bgpbfd.control.engine import Engine, state_text
from bgpbfd.control.neighbor import Neighbor
from bgpbfd.control.reconcile import apply_config
from bgpbfd.control.snapshot import (
    BfdSnapshot,
    NeighborSnapshot,
    PlannedChange,
    RecordedEvent,
    Refused,
    ReloadResult,
    RouteSnapshot,
)
from bgpbfd.core import SAFI_FLOW, SAFI_UNICAST, Instant, PeerId, Prefix
from bgpbfd.rib.originate import Route
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.flowspec_text import nlri_text
from bgpbfd.wire.iana import CeaseSubcode


class Operations:
    """The engine's face to the API. ``load`` reads and checks the configuration file, off the loop."""

    def __init__(self, engine: Engine, load: Callable[[], Awaitable[Config]]) -> None:
        self._engine = engine
        self._load = load
        self._reloading = asyncio.Lock()
        self._on_reload: list[Callable[[Config], Awaitable[None]]] = []
        self.last_reload: ReloadResult | None = None
        self.started_at = engine.clock.now()

    def on_reload(self, callback: Callable[[Config], Awaitable[None]]) -> None:
        """What else (logs, API sockets) follows the configuration; it comes first, and may raise Refused."""
        self._on_reload.append(callback)

    def now(self) -> Instant:
        return self._engine.clock.now()

    def wall(self, at: Instant) -> float:
        return self._engine.clock.wall(at)

    # -- neighbors ---------------------------------------------------------------------------------------

    def neighbors(self) -> list[NeighborSnapshot]:
        engine = self._engine
        found = [self._snapshot(neighbor) for neighbor in engine.neighbors.values()]
        found += [self._network_snapshot(peer) for peer in engine.config.peers if peer.dynamic]
        return found

    def neighbor(self, peer: str) -> NeighborSnapshot:
        network = self._network(peer)
        return self._snapshot(self._find(peer)) if network is None else self._network_snapshot(network)

    def _network(self, peer: str) -> PeerConfig | None:
        """The configured network of that name."""
        entries = (entry for entry in self._engine.config.peers if entry.dynamic)
        return next((entry for entry in entries if peer in {entry.id, entry.description}), None)

    def _find(self, peer: str) -> Neighbor:
        """By address in any spelling, or by description."""
        neighbors = self._engine.neighbors
        found = neighbors.get(peer)
        named = [n for n in neighbors.values() if n.config.description == peer]
        if found is None and len(named) == 1:
            found = named[0]
        if found is None and not named:
            with contextlib.suppress(ValueError):
                found = neighbors.get(peer_id(peer))
        if found is not None:
            return found
        if named:
            which = ", ".join(n.id for n in named)
            raise Refused("peer", f"{peer!r} is the description of several neighbors: say which of {which}")
        raise Refused("peer", f"no neighbor {peer!r}; known: {', '.join(neighbors) or 'none'}")

    def _snapshot(self, neighbor: Neighbor) -> NeighborSnapshot:
        engine = self._engine
        peer, config = neighbor.peer, neighbor.config
        negotiated = peer.negotiated
        return NeighborSnapshot(
            peer=neighbor.id,
            description=config.description,
            dynamic=neighbor.network is not None,
            network=neighbor.network,
            enabled=neighbor.enabled,
            passive=config.passive,
            remote_asn=config.remote_as,
            local_asn=config.local_as,
            local_router_id=config.router_id_number,
            remote_router_id=negotiated.remote_router_id if negotiated else None,
            state=state_text(peer.state),
            state_since=peer.state_since,
            established_at=peer.established_at,
            connect_attempt_at=peer.next_attempt_at,
            messages_received=sum(peer.received_by_type.values()),
            messages_sent=sum(peer.sent_by_type.values()),
            prefixes_received=engine.rib.count(neighbor.id),
            prefixes_sent=neighbor.announcer.sent_count(),
            flaps=peer.flaps,
            bfd_state=self._bfd_state(neighbor),
            last_error=peer.last_cause,
            hold_time_configured_s=config.hold_timer,
            hold_time_s=negotiated.hold_time_s if negotiated else None,
            keepalive_time_s=negotiated.keepalive_time_s if negotiated else None,
            last_received_at=peer.last_received_at,
            last_sent_at=peer.last_sent_at,
            local=neighbor.session.local if neighbor.session else None,
            remote=neighbor.session.remote if neighbor.session else None,
            families=tuple(sorted(negotiated.families)) if negotiated else (),
            capabilities_sent=negotiated.capabilities_sent if negotiated else (),
            capabilities_received=negotiated.capabilities_received if negotiated else (),
            received_by_type=dict(peer.received_by_type),
            sent_by_type=dict(peer.sent_by_type),
            prefixes_by_family={
                str(family): engine.rib.count(neighbor.id, family)
                for family in (sorted(negotiated.families) if negotiated else ())
            },
            pending_changes=peer.pending_changes(),
            update_faults=dict(peer.update_faults),
        )

    @staticmethod
    def _bfd_state(neighbor: Neighbor) -> str | None:
        if neighbor.config.bfd is None:
            return None
        return neighbor.coupling.state if neighbor.bfd_added else "admin-down"

    def _network_snapshot(self, config: PeerConfig) -> NeighborSnapshot:
        return NeighborSnapshot(
            peer=config.id,
            description=config.description,
            dynamic=False,
            network=config.id,
            enabled=config.enabled,
            passive=True,
            remote_asn=config.remote_as,
            local_asn=config.local_as,
            local_router_id=config.router_id_number,
            remote_router_id=None,
            state="listening" if config.enabled else "idle",
            state_since=self.started_at,
            established_at=None,
            connect_attempt_at=None,
            messages_received=0,
            messages_sent=0,
            prefixes_received=0,
            prefixes_sent=0,
            flaps=0,
            bfd_state=None,
            last_error=None,
            hold_time_configured_s=config.hold_timer,
        )

    def peer_enable(self, peer: str) -> None:
        neighbor = self._find(peer)
        if not neighbor.enabled:
            neighbor.override = True
            self._record(neighbor, "neighbor-enabled", "enabled by the operator")
            self._engine.start_neighbor(neighbor)

    def peer_disable(self, peer: str, message: str = "") -> None:
        neighbor = self._find(peer)
        if neighbor.enabled:
            neighbor.override = False
            self._record(neighbor, "neighbor-disabled", f"disabled by the operator {message}".rstrip())
            self._engine.stop_neighbor(neighbor, bgp.ManualStop(message=message))

    def peer_reset(self, peer: str, message: str = "") -> None:
        neighbor = self._find(peer)
        if not neighbor.enabled:
            raise Refused("peer", f"{neighbor.id} is disabled: enable it")
        self._record(neighbor, "neighbor-reset", "reset by the operator")
        cause = bgp.Cause(bgp.CauseKind.ADMIN_RESET, "reset by the operator", self.now())
        self._engine.feed(neighbor, bgp.AutomaticStop(cause, CeaseSubcode.ADMINISTRATIVE_RESET, message, damped=False))

    def peer_refresh(self, peer: str) -> None:
        """Ask the neighbor to send its routes again (RFC 2918)."""
        neighbor = self._find(peer)
        session = neighbor.session
        if session is None:
            raise Refused("peer", f"{neighbor.id} is not established (it is {state_text(neighbor.peer.state)})")
        if not session.negotiated.may_send_refresh:
            raise Refused("peer", f"{neighbor.id} does not offer route refresh: use reset")
        for family in sorted(session.negotiated.families):
            self._engine.feed(neighbor, bgp.SendRouteRefresh(family))

    def _record(self, neighbor: Neighbor, kind: str, text: str) -> None:
        self._engine.recorder.add(kind, text, self.now(), peer=neighbor.id)

    # -- BFD ---------------------------------------------------------------------------------------------

    async def bfd_sessions(self) -> list[BfdSnapshot]:
        try:
            reports = {session.key: session for session in await self._engine.bfd.query()}
        except (TimeoutError, ConnectionError):
            raise Refused("bfd", "the BFD worker does not answer just now; see show events") from None
        return [
            BfdSnapshot(
                peer=neighbor.id,
                description=neighbor.config.description,
                profile=neighbor.config.bfd.profile,
                dynamic=neighbor.network is not None,
                report=reports.get(neighbor.id),
                mode=neighbor.config.bfd.mode,
                fault=neighbor.bfd_fault,
            )
            for neighbor in self._engine.neighbors.values()
            if neighbor.config.bfd is not None
        ]

    def bfd_discards(self) -> dict[str, int]:
        """Packets that no session could be found for, by reason, as the last report had them."""
        return dict(self._engine.bfd.discards)

    async def clear_bfd_counters(self, peer: str | None = None) -> None:
        if peer is None:
            self._engine.bfd.clear()
            return
        neighbor = self._find(peer)
        if not neighbor.bfd_added:
            raise Refused("peer", f"{neighbor.id} has no BFD session: it is disabled, or has no bfd configured")
        self._engine.bfd.clear(neighbor.id)

    # -- routes ------------------------------------------------------------------------------------------

    def routes_learned(self, peer: str | None = None, safi: int | None = None) -> list[RouteSnapshot]:
        """What ``peer``, or every neighbor, has sent us; of one SAFI, or of all."""
        only = None if peer is None else self._find(peer).id
        return [
            RouteSnapshot(
                peer=route.peer,
                source=route.peer,
                prefix=Prefix(route.family.afi, route.nlri, route.family.safi),
                attributes=route.attributes,
                received_at=route.received_at,
                valid=route.valid,
                reason=route.reason,
            )
            for route in self._engine.rib.learned(only, safi)
        ]

    def routes_advertised(self, peer: str | None = None, safi: int | None = None) -> list[RouteSnapshot]:
        """What stands at each neighbor, as it was sent."""
        engine = self._engine
        neighbors = list(engine.neighbors.values()) if peer is None else [self._find(peer)]
        found: list[RouteSnapshot] = []
        for neighbor in neighbors:
            for family, nlri, attributes in neighbor.announcer.sent():
                if safi is not None and family.safi != safi:
                    continue
                prefix = Prefix(family.afi, nlri, family.safi)
                source, since = self._origin(neighbor, prefix)
                found.append(RouteSnapshot(neighbor.id, source, prefix, attributes, since))
        return found

    def _origin(self, neighbor: Neighbor, prefix: Prefix) -> tuple[str, Instant]:
        """Which source a sent prefix came from, and since when it stands."""
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

    def routes(self, safi: int | None = None) -> list[RouteSnapshot]:
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
                    attributes=route.attributes,
                    received_at=route.at,
                    next_hop_self=route.attributes.next_hop is None and route.prefix.safi == SAFI_UNICAST,
                    reason=self._why_not(takers, route) if len(sent) < len(takers) or not takers else None,
                    announced_to=len(sent),
                    wanted_by=len(takers),
                )
            )
        return found

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
        network = self._network(peer)
        return self._find(peer).id if network is None else network.id

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
        if next_hop is not None and (len(next_hop) == 4) != (prefix.afi == 1):
            raise Refused("next_hop", f"must be of the prefix's family ({prefix.family})")

    # -- configuration -----------------------------------------------------------------------------------

    async def reload(self) -> ReloadResult:
        """Read the file again and apply the difference; a bad file changes nothing.

        One at a time: of two, the second reads the file after the first has been applied.
        """
        async with self._reloading:
            self._refuse_when_stopping()
            try:
                self.last_reload = await self._reload()
            except ConfigError as error:
                faults = tuple((fault.path, str(fault)) for fault in error.faults)
                self.last_reload = self._reload_refused(faults)
            except Refused as refused:
                self._refuse_when_stopping()
                self.last_reload = self._reload_refused(((refused.path, str(refused)),))
            except Exception as error:  # noqa: BLE001  the next reload must have its chance
                self._refuse_when_stopping()
                text = f"internal error while reloading: {error!r}"
                facts = {"traceback": traceback.format_exc()}
                self._engine.recorder.add("reload-failed", text, self.now(), level="error", facts=facts)
                self.last_reload = ReloadResult(ok=False, faults=(("", text),))
            return self.last_reload

    def _refuse_when_stopping(self) -> None:
        if self._engine.stopping:
            raise Refused("reload", "the daemon is stopping")

    def _reload_refused(self, faults: tuple[tuple[str, str], ...]) -> ReloadResult:
        words = "; ".join(text for _, text in faults[:5])
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        text = f"the configuration is refused, nothing was changed: {words}{more}"
        self._engine.recorder.add("reload-failed", text, self.now(), level="error")
        return ReloadResult(ok=False, faults=faults)

    async def _reload(self) -> ReloadResult:
        """Raises ConfigError and Refused with nothing changed."""
        engine = self._engine
        config = await self._load()
        self._refuse_when_stopping()
        for callback in self._on_reload:
            await callback(config)
        self._refuse_when_stopping()
        changes = tuple(
            PlannedChange(change.path, change.text, str(change.impact)) for change in diff(engine.config, config)
        )
        apply_config(engine, config)
        summary = f"{len(changes)} changes" if len(changes) != 1 else "1 change"
        engine.recorder.add("reload", f"configuration reloaded: {summary}", self.now())
        for warning in config.warnings:
            engine.recorder.add("config-warning", warning, self.now(), level="warning")
        return ReloadResult(ok=True, changes=changes)

    def show_config(self) -> dict[str, object]:
        return dump_config(self._engine.config)

    # -- the rest ----------------------------------------------------------------------------------------

    def events(self, since: int = 0, limit: int = 100, peer: str | None = None) -> list[RecordedEvent]:
        return self._engine.recorder.select(since, limit, peer)

    def version(self) -> dict[str, object]:
        return {"version": bgpbfd.__version__, "uptime": (self.now() - self.started_at) / 1e6}
