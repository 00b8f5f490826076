"""One neighbor as the engine holds it: its configuration and the cores that carry it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

import msgspec

from bgpbfd.bfd import protocol as bfd
from bgpbfd.bgp.events import SessionUp
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.bgp.peer import Peer
from bgpbfd.config.model import BfdSettings, PeerConfig
from bgpbfd.control.coupling import Coupling
from bgpbfd.control.ports import DialTarget, Interfaces
from bgpbfd.core import MILLISECOND, PeerId, Prefix
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import ExportContext
from bgpbfd.rib.table import PeerInfo


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
    pump_scheduled: bool = False
    last_attempt: str | None = None  # what the last failed try said, to tell of a change only
    bfd_fault: str | None = None
    bfd_added: bool = False
    end_of_rib: set[str] = field(default_factory=set)  # families that the peer has sent whole

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

    def dial_target(self) -> DialTarget:
        config = self.config
        return DialTarget(config.remote_ip, config.dest_port, config.local_ip, config.interface)


def peer_settings(config: PeerConfig, poll_interval_s: float) -> PeerSettings:
    """The BGP core's settings of a peer's configuration."""
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
    )


def bfd_timers(settings: BfdSettings) -> bfd.Timers:
    return bfd.Timers(
        desired_min_tx_us=settings.transmit_interval_ms * MILLISECOND,
        required_min_rx_us=settings.receive_interval_ms * MILLISECOND,
        detect_mult=settings.detect_multiplier,
        passive=settings.passive,
    )


def bfd_session(config: PeerConfig, settings: BfdSettings) -> bfd.Add:
    """The worker's command for a neighbor's BFD session; the link puts the generation in."""
    return bfd.Add(
        key=config.id,
        generation=0,
        remote=config.remote_ip,
        local=config.local_ip,
        interface=config.interface,
        timers=bfd_timers(settings),
        admin_down=settings.shutdown,
    )


def dynamic_config(network: PeerConfig, address: str, interface: str | None, peer: PeerId) -> PeerConfig:
    """The configuration of a neighbor that dialled in from ``network``."""
    return msgspec.structs.replace(network, id=peer, remote_ip=address, interface=interface or network.interface)


def export_context(config: PeerConfig, up: SessionUp, interfaces: Interfaces) -> ExportContext:
    """How routes leave for this session: who we are to each other, and our addresses on its interface."""
    around = interfaces.around(up.local.address, up.remote.address, up.local.scope_id)
    local = up.local.address
    v4, v6 = len(local) == 4, len(local) == 16
    link_local_session = _is_link_local(local)
    return ExportContext(
        local_asn=config.local_as,
        remote_asn=up.negotiated.remote_asn,
        external=up.negotiated.external,
        families=up.negotiated.families,
        local_ipv4=local if v4 else around.ipv4,
        local_ipv6=local if v6 and not link_local_session else around.ipv6,
        local_link_local=around.link_local if around.on_link else None,
        remote_address=up.remote.address,
        next_hop_self=config.next_hop_self,
        router_id=config.router_id_number,
        remote_scope_id=up.remote.scope_id,
    )


def peer_info(config: PeerConfig, up: SessionUp, interfaces: Interfaces) -> PeerInfo:
    return PeerInfo(
        external=up.negotiated.external,
        remote_asn=up.negotiated.remote_asn,
        local_asn=config.local_as,
        router_id=up.negotiated.remote_router_id,
        local_router_id=config.router_id_number,
        address=up.remote.address,
        local_addresses=_own_addresses(interfaces.all_addresses(), up),
        scope_id=up.remote.scope_id,
    )


def _own_addresses(everywhere: frozenset[bytes], up: SessionUp) -> frozenset[bytes]:
    """Those that as a next hop would be us. A link-local one of another link may be the peer's own on this link."""
    return frozenset(address for address in everywhere if not _is_link_local(address)) | {up.local.address}


def _is_link_local(address: bytes) -> bool:
    return len(address) == 16 and ipaddress.IPv6Address(address).is_link_local
