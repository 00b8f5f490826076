"""One neighbor as the engine holds it: its configuration and the cores that carry it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace

import msgspec

from bgpbfd.bgp.events import SessionUp
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.bgp.peer import Peer
from bgpbfd.config.model import ROLES, Config, PeerConfig
from bgpbfd.control.coupling import Coupling
from bgpbfd.control.ports import DialTarget, Interfaces, TcpKey, TransportOptions
from bgpbfd.core import IPV4_UNICAST, Family, Instant, PeerId, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import ExportContext
from bgpbfd.rib.table import PeerInfo

GTSM_TTL = 255  # RFC 5082 §3


@dataclass(slots=True)
class Neighbor:
    """``network`` is the configured network that a dynamic neighbor came from.

    ``override`` is what an operator said over the API (enabled or not); it stands until the configuration's
    own ``enabled`` changes.
    """

    config: PeerConfig
    peer: Peer
    announcer: Announcer
    coupling: Coupling = field(default_factory=Coupling)
    network: PeerId | None = None
    confirmed: bool = False  # a connection of its has been confirmed (or has failed to be)
    override: bool | None = None
    session: SessionUp | None = None
    session_config: PeerConfig | None = None  # with which the live session began
    pump_scheduled: bool = False
    last_attempt: str | None = None  # what the last failed try said, to tell of a change only
    end_of_rib: set[str] = field(default_factory=set)  # families that the peer has sent whole
    stale_until: Instant | None = None  # routes of a session that is gone are kept until then
    refreshing: set[Family] = field(default_factory=set)  # between BoRR and EoRR
    limit_warned: bool = False
    export: ExportContext | None = None  # of the live session

    @property
    def id(self) -> PeerId:
        return self.peer.peer_id

    @property
    def enabled(self) -> bool:
        return self.config.enabled if self.override is None else self.override

    @property
    def sources(self) -> frozenset[str]:
        return frozenset(self.config.advertise_sources)

    def has_been_sent(self, prefix: Prefix) -> bool:
        return self.announcer.sent_attributes(prefix.family, prefix.nlri) is not None

    def dial_target(self, interfaces: Interfaces) -> DialTarget:
        config = self.config
        options = transport_options(config, interfaces)
        return DialTarget(config.remote_ip, config.dest_port, config.local_ip, config.interface, options)


def transport_options(config: PeerConfig, interfaces: Interfaces) -> TransportOptions:
    """RFC 5082, and the TTL of sessions without it: a neighbor of another AS on one of our subnets is one hop away, so
    that the session does not outlive the link by a detour; for all others the kernel's default."""
    if config.ttl_security is not None:
        ttl: int | None = GTSM_TTL
        minimum: int | None = GTSM_TTL + 1 - config.ttl_security
    else:
        ttl, minimum = config.multihop, None
        if ttl is None and not config.internal and interfaces.on_link(config.remote_ip):
            ttl = 1
    return TransportOptions(ttl, minimum, config.md5_password)


def tcp_keys(config: Config) -> tuple[TcpKey, ...]:
    return tuple(
        TcpKey(peer.remote_ip, peer.md5_password, peer.interface)
        for peer in config.peers
        if peer.md5_password is not None
    )


def peer_settings(config: PeerConfig, poll_interval_s: float) -> PeerSettings:
    """The BGP core's settings of a peer's configuration."""
    restart = config.graceful_restart
    return PeerSettings(
        local_asn=config.local_as,
        remote_asn=config.remote_as,
        router_id=config.router_id_number,
        families=config.families,
        hold_time_s=config.hold_timer,
        connect_retry_s=poll_interval_s,
        passive=config.passive,
        dynamic=config.dynamic,
        route_refresh=config.route_refresh,
        extended_messages=config.extended_messages,
        add_path_receive=config.add_path in {"receive", "both"},
        add_path_send=config.add_path in {"send", "both"},
        extended_next_hop=config.extended_next_hop,
        restart_time_s=restart.restart_time if restart.enabled else None,
        role=None if config.role is None else ROLES[config.role],
        role_strict=config.role_strict,
        bfd_strict=strict_hold_s(config) is not None,
        enforce_first_as=config.enforce_first_as,
    )


def strict_hold_s(config: PeerConfig) -> float | None:
    """How long a connection waits for BFD; None: it does not (mode ``track``, or no BFD)."""
    if config.bfd is None or config.bfd.mode != "strict":
        return None
    return config.bfd.strict_hold_time


def dynamic_config(network: PeerConfig, address: str, interface: str | None, peer: PeerId) -> PeerConfig:
    """The configuration of a neighbor that dialled in from ``network``."""
    return msgspec.structs.replace(network, id=peer, remote_ip=address, interface=interface or network.interface)


def export_context(neighbor: Neighbor, up: SessionUp, config: Config, interfaces: Interfaces) -> ExportContext:
    """How routes leave for this session: who we are to each other, our addresses on its interface, our policy."""
    entry, negotiated = neighbor.config, up.negotiated
    around = interfaces.around(up.local.address, up.remote.address, up.local.scope_id)
    local = up.local.address
    v4, v6 = len(local) == 4, len(local) == 16
    link_local_session = _is_link_local(local)
    return ExportContext(
        local_asn=entry.local_as,
        remote_asn=negotiated.remote_asn,
        external=negotiated.external,
        families=negotiated.families,
        local_ipv4=local if v4 else around.ipv4,
        local_ipv6=local if v6 and not link_local_session else around.ipv6,
        local_link_local=around.link_local if around.on_link else None,
        remote_address=up.remote.address,
        next_hop_self=entry.next_hop_self,
        router_id=entry.router_id_number,
        remote_scope_id=up.remote.scope_id,
        remote_router_id=negotiated.remote_router_id,
        policy=_policy(config, entry.export_policy),
        extended_next_hop=IPV4_UNICAST in negotiated.extended_next_hop,
        role=negotiated.role,
        route_reflector_client=entry.route_reflector_client,
        cluster_id=_cluster_id(config, entry).to_bytes(4),
        graceful_shutdown=entry.graceful_shutdown,
    )


def peer_info(neighbor: Neighbor, up: SessionUp, config: Config, interfaces: Interfaces) -> PeerInfo:
    info = PeerInfo(
        external=up.negotiated.external,
        remote_asn=up.negotiated.remote_asn,
        local_asn=neighbor.config.local_as,
        router_id=up.negotiated.remote_router_id,
        local_router_id=neighbor.config.router_id_number,
        address=up.remote.address,
        local_addresses=_own_addresses(interfaces.all_addresses(), up),
        scope_id=up.remote.scope_id,
        role=up.negotiated.role,
    )
    return import_part(info, neighbor, config)


def import_part(info: PeerInfo, neighbor: Neighbor, config: Config) -> PeerInfo:
    """``info`` with what a reload may change while the session stays."""
    entry = neighbor.config
    return replace(
        info,
        policy=_policy(config, entry.import_policy),
        names=frozenset(name for name in (neighbor.id, entry.description, neighbor.network) if name is not None),
        route_reflector_client=entry.route_reflector_client,
        cluster_id=_cluster_id(config, entry),
    )


def _policy(config: Config, name: str | None) -> Policy | None:
    return None if name is None else config.policies[name]


def _cluster_id(config: Config, entry: PeerConfig) -> int:
    # RFC 4456 §7: the router id, where there is one reflector a cluster.
    return entry.router_id_number if config.cluster_id is None else int(ipaddress.IPv4Address(config.cluster_id))


def _own_addresses(everywhere: frozenset[bytes], up: SessionUp) -> frozenset[bytes]:
    """Those that as a next hop would be us. A link-local one of another link may be the peer's own on this link."""
    return frozenset(address for address in everywhere if not _is_link_local(address)) | {up.local.address}


def _is_link_local(address: bytes) -> bool:
    return len(address) == 16 and ipaddress.IPv6Address(address).is_link_local
