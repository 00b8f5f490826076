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
from bgpbfd.bfd.protocol import SessionReport
from bgpbfd.bgp import events as bgp
from bgpbfd.bgp.negotiate import Negotiated
from bgpbfd.bgp.tally import LastFault
from bgpbfd.config.diff import waiting_keys
from bgpbfd.config.dump import dump_config
from bgpbfd.config.faults import ConfigError
from bgpbfd.config.model import ROLES, Config, PeerConfig
from bgpbfd.config.names import peer_id
from bgpbfd.config.patch import Amended
from bgpbfd.control.bfd_sessions import SharedSession, client_kinds, neighbor_client
from bgpbfd.control.engine import Engine, state_text
from bgpbfd.control.lookup import find_neighbor, find_network
from bgpbfd.control.neighbor import Neighbor
from bgpbfd.control.reconcile import amend_config, restore_config
from bgpbfd.control.routes import RouteOperations
from bgpbfd.control.snapshot import (
    BfdSnapshot,
    NeighborSnapshot,
    PlannedChange,
    RecordedEvent,
    Refused,
    ReloadResult,
    UpdateFaultRecord,
)
from bgpbfd.core import Instant
from bgpbfd.wire.bfd import SINGLE_HOP_TTL
from bgpbfd.wire.iana import BgpRole, CeaseSubcode


class Operations(RouteOperations):
    """The engine's face to the API.

    ``load`` reads and checks the configuration file, off the loop, and says how it differs from the one given.
    """

    def __init__(self, engine: Engine, load: Callable[[Config], Awaitable[Amended]]) -> None:
        super().__init__(engine)
        self._load = load
        self._reloading = asyncio.Lock()
        self._applying: asyncio.Task[None] | None = None
        self._whole = True  # what is announced is what the configuration in force says
        self._on_reload: list[Callable[[Config], Awaitable[None]]] = []
        self.last_reload: ReloadResult | None = None
        self.started_at = engine.clock.now()

    def on_reload(self, callback: Callable[[Config], Awaitable[None]]) -> None:
        """What else (logs, API sockets) follows the configuration; it comes first, and may raise Refused."""
        self._on_reload.append(callback)

    def wall(self, at: Instant) -> float:
        return self._engine.clock.wall(at)

    # -- neighbors ---------------------------------------------------------------------------------------

    def neighbors(self) -> list[NeighborSnapshot]:
        engine = self._engine
        found = [self._snapshot(neighbor) for neighbor in engine.neighbors.values()]
        found += [self._network_snapshot(peer) for peer in engine.config.peers if peer.dynamic]
        return found

    def neighbor(self, peer: str) -> NeighborSnapshot:
        network = find_network(self._engine, peer)
        return self._snapshot(find_neighbor(self._engine, peer)) if network is None else self._network_snapshot(network)

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
            last_session_error=peer.last_session_cause,
            hold_time_configured_s=config.hold_timer,
            hold_time_s=negotiated.hold_time_s if negotiated else None,
            keepalive_time_s=negotiated.keepalive_time_s if negotiated else None,
            last_received_at=peer.last_received_at,
            last_sent_at=peer.last_sent_at,
            local=neighbor.session.local if neighbor.session else None,
            remote=neighbor.session.remote if neighbor.session else None,
            families=tuple(sorted(negotiated.families)) if negotiated else (),
            disabled_families=tuple(sorted(peer.context.disabled)) if peer.context else (),
            capabilities_sent=negotiated.capabilities_sent if negotiated else (),
            capabilities_received=negotiated.capabilities_received if negotiated else (),
            received_by_type=dict(peer.received_by_type),
            sent_by_type=dict(peer.sent_by_type),
            prefixes_by_family={
                str(family): engine.rib.count(neighbor.id, family)
                for family in (sorted(negotiated.families) if negotiated else ())
            },
            pending_changes=waiting_keys(neighbor.session_config, config) if neighbor.session_config else (),
            update_faults=dict(peer.update_faults),
            last_update_fault=_fault_record(peer.last_update_fault),
            notifications_sent=dict(peer.notifications_sent),
            notifications_received=dict(peer.notifications_received),
            discards=dict(peer.discards),
            role=config.role,
            remote_role=_role_name(negotiated.remote_role) if negotiated else None,
            add_path_receive=tuple(sorted(negotiated.add_path_receive)) if negotiated else (),
            add_path_send=tuple(sorted(negotiated.add_path_send)) if negotiated else (),
            extended_next_hop=tuple(sorted(negotiated.extended_next_hop)) if negotiated else (),
            restart_time_s=_restart_time(negotiated),
            restart_notification=negotiated.restart_notification if negotiated else False,
            stale_until=neighbor.stale_until,
            end_of_rib=tuple(sorted(neighbor.end_of_rib)) if neighbor.session else (),
            import_policy=config.import_policy,
            export_policy=config.export_policy,
            max_prefixes=None if config.max_prefixes is None else config.max_prefixes.limit,
            md5=config.md5_password is not None,
            ttl_security=config.ttl_security,
            multihop=config.multihop,
            waiting_for_bfd=peer.waiting_for_bfd,
        )

    @staticmethod
    def _bfd_state(neighbor: Neighbor) -> str | None:
        if neighbor.config.bfd is None:
            return None
        return neighbor.coupling.state if neighbor.coupling.bound else "admin-down"

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
        neighbor = find_neighbor(self._engine, peer)
        self._engine.bfd_neighbors.forgive(neighbor)
        if not neighbor.enabled:
            neighbor.override = True
            self._record(neighbor, "neighbor-enabled", "enabled by the operator")
            self._engine.start_neighbor(neighbor)

    def peer_disable(self, peer: str, message: str = "") -> None:
        neighbor = find_neighbor(self._engine, peer)
        if neighbor.enabled:
            neighbor.override = False
            self._record(neighbor, "neighbor-disabled", f"disabled by the operator {message}".rstrip())
            self._engine.stop_neighbor(neighbor, bgp.ManualStop(message=message))

    def peer_reset(self, peer: str, message: str = "") -> None:
        neighbor = find_neighbor(self._engine, peer)
        if not neighbor.enabled:
            raise Refused("peer", f"{neighbor.id} is disabled: enable it")
        self._record(neighbor, "neighbor-reset", "reset by the operator")
        self._engine.bfd_neighbors.forgive(neighbor)
        if neighbor.session is None:  # what is kept of one that restarts goes too: a reset begins from nothing
            self._engine.learning.forget(neighbor)
        cause = bgp.Cause(bgp.CauseKind.ADMIN_RESET, "reset by the operator", self.now())
        self._engine.feed(neighbor, bgp.AutomaticStop(cause, CeaseSubcode.ADMINISTRATIVE_RESET, message, damped=False))

    def peer_refresh(self, peer: str) -> None:
        """Ask the neighbor to send its routes again (RFC 2918)."""
        neighbor = find_neighbor(self._engine, peer)
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
        snapshots = [self._bfd_snapshot(session, reports) for session in self._engine.bfd_sessions.by_key.values()]
        return snapshots + [
            BfdSnapshot(
                peer=neighbor.id,
                description=neighbor.config.description,
                profile=neighbor.config.bfd.profile,
                dynamic=neighbor.network is not None,
                report=None,
                mode=neighbor.config.bfd.mode,
                multihop=neighbor.config.bfd.multihop,
                minimum_ttl=neighbor.config.bfd.minimum_ttl,
            )
            for neighbor in self._engine.neighbors.values()
            if neighbor.config.bfd is not None and not neighbor.coupling.bound
        ]

    def _bfd_snapshot(self, session: SharedSession, reports: dict[str, SessionReport]) -> BfdSnapshot:
        """A session by the name of its BGP neighbor, or of its entry in the configuration."""
        peer = next((self._engine.neighbors[name] for name in session.neighbors()), None)
        entry = self._engine.bfd_sessions.standalone_of(session)
        unsolicited = self._engine.config.bfd.unsolicited if entry is None and peer is None else None
        description = profile = damped_until = None
        mode = "none"
        if peer is not None and peer.config.bfd is not None:
            description, profile, mode = peer.config.description, peer.config.bfd.profile, peer.config.bfd.mode
            damped_until = peer.coupling.damping.until
        elif entry is not None:
            profile = entry.profile
        elif unsolicited is not None:
            profile = unsolicited.profile
        if description is None and entry is not None:
            description = entry.description
        return BfdSnapshot(
            peer=session.peer,
            description=description,
            profile=profile,
            dynamic=entry is None and (peer is None or peer.network is not None),
            report=reports.get(session.key),
            mode=mode,
            fault=session.fault,
            clients=client_kinds(session),
            multihop=session.path.multihop,
            minimum_ttl=session.in_force.minimum_ttl if session.path.multihop else SINGLE_HOP_TTL,
            damped_until=damped_until,
        )

    def bfd_discards(self) -> dict[str, int]:
        """Packets that no session could be found for, by reason, as the last report had them."""
        return dict(self._engine.bfd.discards)

    async def clear_bfd_counters(self, peer: str | None = None) -> None:
        """Of all sessions and what belongs to none, or of those with ``peer``, by address or description."""
        if peer is None:
            self._engine.bfd.clear()
            return
        for session in self._sessions_with(peer):
            self._engine.bfd.clear(session.key)

    def _sessions_with(self, peer: str) -> list[SharedSession]:
        sessions = self._engine.bfd_sessions
        address = peer
        with contextlib.suppress(ValueError):
            address = peer_id(peer)

        def meant(session: SharedSession) -> bool:
            entry = sessions.standalone_of(session)
            return session.peer == address or (entry is not None and entry.description == peer)

        found = [session for session in sessions.by_key.values() if meant(session)]
        if not found:
            neighbor = find_neighbor(self._engine, peer)
            session = sessions.of(neighbor_client(neighbor.id))
            if session is None:
                raise Refused("peer", f"{neighbor.id} has no BFD session: it is disabled, or has no bfd configured")
            found = [session]
        return found

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
        if self._applying is not None:
            await asyncio.wait({self._applying})
        found = await self._load(engine.config)
        config, changes = found.config, tuple(PlannedChange(*change) for change in found.changes)
        self._refuse_when_stopping()
        for callback in self._on_reload:
            await callback(config)
        self._refuse_when_stopping()
        # Half a change must not stay, whoever asked for it may have left.
        self._applying = asyncio.create_task(self._apply(found))
        await asyncio.shield(self._applying)
        self._refuse_when_stopping()
        summary = f"{len(changes)} changes" if len(changes) != 1 else "1 change"
        engine.recorder.add("reload", f"configuration reloaded: {summary}", self.now())
        for warning in config.warnings:
            engine.recorder.add("config-warning", warning, self.now(), level="warning")
        return ReloadResult(ok=True, changes=changes)

    async def _apply(self, found: Amended) -> None:
        engine = self._engine
        whole, self._whole = self._whole, False
        if not whole:  # the difference is from what never was
            restore_config(engine, found.config)
        else:
            for _ in amend_config(engine, found):
                await asyncio.sleep(0)  # the others' turn
                if engine.stopping:
                    return
        self._whole = True

    def show_config(self) -> dict[str, object]:
        return dump_config(self._engine.config)

    # -- the rest ----------------------------------------------------------------------------------------

    def events(self, since: int = 0, limit: int = 100, peer: str | None = None) -> list[RecordedEvent]:
        return self._engine.recorder.select(since, limit, peer)

    def version(self) -> dict[str, object]:
        """Also what became of connections that are no neighbor's: no ``show`` of a neighbor has them."""
        return {
            "version": bgpbfd.__version__,
            "uptime": (self.now() - self.started_at) / 1e6,
            "connections_refused": self._engine.refused_connections,
            "connections_dropped": dict(self._engine.connections.discards),
        }


def _fault_record(fault: LastFault | None) -> UpdateFaultRecord | None:
    if fault is None:
        return None
    return UpdateFaultRecord(fault.at, fault.treatment, fault.attribute, fault.reason, fault.data, fault.length)


def _role_name(role: BgpRole | None) -> str | None:
    return next((name for name, known in ROLES.items() if known is role), None)


def _restart_time(negotiated: Negotiated | None) -> int | None:
    if negotiated is None or negotiated.restart is None or not negotiated.restart.families:
        return None
    return negotiated.restart.time_s
