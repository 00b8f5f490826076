"""Rules across keys: what each value alone cannot tell."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from bgpbfd.config import bfd_rules
from bgpbfd.config.drafts import BfdDrafts, PeerDraft
from bgpbfd.config.faults import FaultList
from bgpbfd.config.flows import FlowSource
from bgpbfd.config.model import Config, PeerConfig
from bgpbfd.config.names import Network, did_you_mean, parse_address, peer_id
from bgpbfd.config.routes import RouteSource
from bgpbfd.config.values import key_text, shown
from bgpbfd.core import AFI_IPV4, Prefix


def check(
    config: Config, drafts: list[PeerDraft], bfd: BfdDrafts, routes: list[RouteSource], faults: FaultList
) -> None:
    """Note every fault across keys. ``routes`` are the ones for all peers."""
    _duplicate_peers(drafts, faults)
    for draft in drafts:
        _addresses(draft, faults)
        _session(draft, faults)
        _peer_routes(draft, faults)
        _peer_flows(draft, faults)
    bfd_rules.check(config, drafts, bfd, faults)
    loopback = any(_is_loopback(peer.remote_ip) for peer in config.peers)
    extended = any(peer.extended_next_hop for peer in config.peers)
    _repeated_routes(routes, faults)
    for source in routes:
        next_hop_family(faults, source, extended_next_hop=extended)
        _loopback_next_hop(faults, source, loopback=loopback)


def warnings(config: Config, drafts: list[PeerDraft], faults: FaultList) -> Iterator[str]:
    """What is right, and probably not what was meant."""
    for draft in drafts:
        peer = draft.peer
        if "peer" in peer.advertise_sources and not peer.internal and peer.export_policy is None:
            where = faults.where(f"{draft.path}.advertise_sources")
            yield f"{where}: sends no learned routes without export_policy (RFC 8212)"
    yield from _passwords_of_networks(drafts, faults)
    yield from bfd_rules.warnings(config, faults)
    used = {name for peer in config.peers for name in (peer.import_policy, peer.export_policy)}
    for name in config.policies:
        if name not in used:
            yield f"{faults.where(f'policies.{key_text(name)}')}: no peer uses it"


def _passwords_of_networks(drafts: list[PeerDraft], faults: FaultList) -> Iterator[str]:
    """The kernel asks a network's password of every address in it: it knows no exception (RFC 2385)."""
    signed = [ipaddress.ip_network(draft.peer.id) for draft in drafts if draft.peer.dynamic and draft.peer.md5_password]
    if not signed:
        return
    for draft in drafts:
        if draft.peer.md5_password is not None:
            continue
        own = ipaddress.ip_network(draft.peer.remote_ip)
        around = next((network for network in signed if _is_within(own, network)), None)
        if around is not None:
            where = faults.where(f"{draft.path}.remote_ip")
            yield f"{where}: lies in {around}, whose md5_password it needs to connect: set md5_password here as well"


def _is_within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def match_dynamic(config: Config, address: str) -> PeerConfig | None:
    """The network that an address not configured by itself belongs to: of several, the longest prefix.

    Raises ValueError for what is no address.
    """
    parsed, _scope = parse_address(address)
    best: tuple[int, PeerConfig] | None = None
    for peer in config.peers:
        if not peer.dynamic:
            continue
        network = ipaddress.ip_network(peer.id)
        if parsed in network and (best is None or network.prefixlen > best[0]):
            best = (network.prefixlen, peer)
    return best[1] if best is not None else None


def find_peer(config: Config, name: str) -> PeerConfig:
    """The peer of an address in any spelling, a network, or a description.

    Raises ValueError where there is none, or where the description is that of several.
    """
    try:
        identity: str | None = peer_id(name)
    except ValueError:
        identity = None
    for peer in config.peers:
        if identity is not None and peer.id == identity:
            return peer
    named = [peer for peer in config.peers if peer.description == name]
    if len(named) > 1:
        raise ValueError(f"{shown(name)} is the description of {', '.join(peer.id for peer in named)}: name one")
    if not named:
        known = {peer.id for peer in config.peers} | {peer.description or peer.id for peer in config.peers}
        raise ValueError(f"no peer {shown(name)}; {did_you_mean(name, known)}")
    return named[0]


def next_hop_family(faults: FaultList, source: RouteSource, *, extended_next_hop: bool) -> None:
    """RFC 8950 lets an IPv4 prefix have an IPv6 next hop; the other way round there is none."""
    for index, route in enumerate(source.routes):
        packed = route.attributes.next_hop
        if packed is None:  # then it is of all of them: the routes of one source share their attributes
            return
        ipv4_prefix = route.prefix.afi == AFI_IPV4
        if ipv4_prefix and len(packed) != 4 and not extended_next_hop:
            reason = (
                'an IPv4 prefix takes an IPv4 next hop or "self"; an IPv6 one needs '
                "extended_next_hop = true of the peer"
            )
            source.fault(faults, index, "next_hop", reason)
        elif not ipv4_prefix and len(packed) == 4:
            source.fault(faults, index, "next_hop", 'an IPv6 prefix takes an IPv6 next hop, or "self"')


def _duplicate_peers(drafts: list[PeerDraft], faults: FaultList) -> None:
    first: dict[str, PeerDraft] = {}
    for draft in drafts:
        other = first.setdefault(draft.peer.id, draft)
        if other is not draft:
            faults.add(
                f"{draft.path}.remote_ip",
                f"{draft.peer.id} is {faults.where(other.path)} already: each peer stands once",
            )


def _addresses(draft: PeerDraft, faults: FaultList) -> None:
    peer = draft.peer
    if peer.dynamic:
        version = ipaddress.ip_network(peer.id).version
    else:
        remote = ipaddress.ip_address(peer.remote_ip)
        version = remote.version
        if version == 6 and remote.is_link_local and peer.interface is None:
            reason = f'a link-local address needs its interface: write "{peer.remote_ip}%eth0", or set interface'
            faults.add(f"{draft.path}.remote_ip", reason)
    if peer.local_ip is None:
        return
    local = ipaddress.ip_address(peer.local_ip)
    path = f"{draft.path}.local_ip"
    if local.version != version:
        faults.add(path, f"is IPv{local.version}, and remote_ip is IPv{version}: both need one family")
    elif peer.local_ip == peer.remote_ip:
        faults.add(path, "is the neighbor's own address, remote_ip: set an address of this host")
    elif local.version == 6 and local.is_link_local and peer.interface is None:
        faults.add(path, "a link-local address needs its interface: set interface")


def _session(draft: PeerDraft, faults: FaultList) -> None:
    peer = draft.peer

    def fault(key: str, reason: str) -> None:
        faults.add(f"{draft.path}.{key}", reason)

    if peer.ttl_security is not None and peer.multihop is not None:
        fault("multihop", "ttl_security says how far the neighbor is already: set one of the two")
    if peer.max_neighbors is not None and not peer.dynamic:
        fault("max_neighbors", f"is for networks, and {peer.id} is one neighbor")
    if peer.role_strict and peer.role is None:
        fault("role_strict", 'needs role, which says what we are to the neighbor, such as "customer"')
    if not draft.as_known:
        return
    if peer.internal:
        if peer.role is not None:
            # RFC 9234 §4.1
            fault("role", "is for external peers, and remote_as is our own AS")
    elif peer.route_reflector_client:
        # RFC 4456 §6
        fault("route_reflector_client", "is for internal peers, and remote_as is another AS")


def _peer_routes(draft: PeerDraft, faults: FaultList) -> None:
    peer = draft.peer
    loopback = _is_loopback(peer.remote_ip)
    remote = None if peer.dynamic else ipaddress.ip_address(peer.remote_ip).packed
    _repeated_routes(draft.sources, faults)
    for source in draft.sources:
        next_hop_family(faults, source, extended_next_hop=peer.extended_next_hop)
        _loopback_next_hop(faults, source, loopback=loopback)
        for index, route in enumerate(source.routes):
            if route.prefix.family not in peer.families:
                reason = f"the peer's families do not have {str(route.prefix.family)!r}"
                source.fault(faults, index, "prefix", reason)
            if remote is not None and route.attributes.next_hop == remote:
                # RFC 4271 §5.1.3
                reason = 'the neighbor must not get its own address as next hop: write another, or "self"'
                source.fault(faults, index, "next_hop", reason)


def _peer_flows(draft: PeerDraft, faults: FaultList) -> None:
    first: dict[Prefix, FlowSource] = {}
    for source in draft.flows:
        rule = source.flow.prefix
        if rule.family not in draft.peer.families:
            faults.add(f"{source.path}.afi", f"the peer's families do not have {str(rule.family)!r}: add it there")
        if rule in first:
            where = faults.where(first[rule].path)
            faults.add(f"{source.path}.matches", f"are those of {where} already: each rule stands once")
        first.setdefault(rule, source)


def _repeated_routes(sources: list[RouteSource], faults: FaultList) -> None:
    if len({route.prefix for source in sources for route in source.routes}) == sum(len(s.routes) for s in sources):
        return
    first: dict[Prefix, tuple[RouteSource, int]] = {}
    for source in sources:
        for index, route in enumerate(source.routes):
            prefix = route.prefix
            if prefix not in first:
                first[prefix] = (source, index)
                continue
            where = first[prefix][0].place(faults, first[prefix][1])
            source.fault(faults, index, "prefix", f"{prefix} is {where} already: each prefix stands once")


def _loopback_next_hop(faults: FaultList, source: RouteSource, *, loopback: bool) -> None:
    if loopback or not source.routes:
        return
    # the routes of one source share their attributes
    packed = source.routes[0].attributes.next_hop
    if packed is not None and ipaddress.ip_address(packed).is_loopback:
        reason = f'{ipaddress.ip_address(packed)} is loopback, which no neighbor reaches: write another, or "self"'
        faults.add(f"{source.path}.next_hop", reason)


def _is_loopback(remote: str) -> bool:
    if "/" in remote:
        network: Network = ipaddress.ip_network(remote)
        return network.network_address.is_loopback
    return ipaddress.ip_address(remote).is_loopback
