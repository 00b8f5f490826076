"""Rules across the keys of BFD, and across its sessions: what each value alone cannot tell."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from bgpbfd.config.drafts import BfdDraft, BfdDrafts, PeerDraft, SessionDraft
from bgpbfd.config.faults import FaultList
from bgpbfd.config.model import BfdAuth, BfdPath, BfdUnsolicited, Config, is_link_local
from bgpbfd.config.names import Network

UNSOLICITED = "bfd.unsolicited"
WIDEST = {4: 16, 6: 48}
"""By IP version, the shortest prefix that may be a link's."""

_ECHO = "echo is for single hop (RFC 5883 §3), and this session is multihop"
_MINIMUM_TTL = (
    "minimum_ttl is for multihop, and a single-hop session takes nothing below 255 (RFC 5881 §5): "
    "set multihop = true, or leave minimum_ttl out"
)
# RFC 5881 §4; Linux, for one, forwards nothing that has a link-local source
_LINK_LOCAL_ECHO = "echo packets do not come back to a link-local address (RFC 5881 §4): set echo = false"
_LINK_LOCAL_HOPS = "a link-local address is one hop away: set multihop = false"


def check(config: Config, peers: list[PeerDraft], bfd: BfdDrafts, faults: FaultList) -> None:
    """Note every fault across keys of ``[bfd]`` and of the peers' ``bfd``."""
    for profile in bfd.profiles:
        _profile(profile, faults)
    for peer in peers:
        if peer.bfd is not None:
            _keys(peer.bfd, faults, link_local=_has_link_local(peer.peer.remote_ip, peer.peer.local_ip))
            _bound(config, faults, peer.bfd.path, peer.bfd.path, peer.peer.remote_ip, ("local_ip", peer.peer.local_ip))
    for draft in bfd.sessions:
        session = draft.session
        _addresses(draft, faults)
        _keys(draft.keys, faults, link_local=_has_link_local(session.peer, session.local))
        _bound(config, faults, f"{draft.path}.peer", f"{draft.path}.local", session.peer, ("local", session.local))
    _repeated(bfd.sessions, faults)
    _shared(peers, bfd.sessions, faults)
    if bfd.unsolicited is not None and config.bfd.unsolicited is not None:
        _unsolicited(config, config.bfd.unsolicited, bfd.unsolicited, faults)


def warnings(config: Config, faults: FaultList) -> Iterator[str]:
    """What is right, and probably not what was meant."""
    unsolicited = config.bfd.unsolicited
    for text in unsolicited.networks if unsolicited is not None else ():
        network: Network = ipaddress.ip_network(text)
        if network.prefixlen < WIDEST[network.version] and not is_link_local(text):
            where = faults.where(f"{UNSOLICITED}.networks")
            yield f"{where}: {text} is more than a link has: name the networks of this host's own links (RFC 9468 §6.1)"


def _profile(draft: BfdDraft, faults: FaultList) -> None:
    """What cannot hold for any session, so that who uses it is not to blame."""
    if not draft.sound:
        return
    if draft.merged.multihop and draft.merged.echo:
        faults.add(f"{draft.path}.echo", f"{_ECHO}: set echo = false, or multihop = false")
    if draft.merged.multihop is False and draft.merged.minimum_ttl is not None:
        faults.add(f"{draft.path}.minimum_ttl", _MINIMUM_TTL)


def _keys(draft: BfdDraft, faults: FaultList, *, link_local: bool) -> None:
    if not draft.sound:
        return
    merged, multihop = draft.merged, draft.settings.multihop
    hops_of_profile = "multihop" not in draft.own and draft.profile.multihop is not None
    if multihop and merged.echo and not (hops_of_profile and draft.from_profile("echo")):
        because = "" if merged.multihop is not None else ", by the peer's own multihop or ttl_security"
        reason = f"{_ECHO}{because}: set echo = false, or multihop = false here"
        faults.add(draft.place("echo", "multihop"), reason)
    blamed = hops_of_profile and draft.from_profile("minimum_ttl")
    if not multihop and merged.minimum_ttl is not None and not blamed:
        faults.add(draft.place("minimum_ttl", "multihop"), _MINIMUM_TTL)
    if link_local and multihop:
        faults.add(draft.place("multihop"), _LINK_LOCAL_HOPS)
    elif link_local and merged.echo:
        faults.add(draft.place("echo"), _LINK_LOCAL_ECHO)


def _addresses(draft: SessionDraft, faults: FaultList) -> None:
    session = draft.session
    if is_link_local(session.peer) and session.interface is None:
        reason = f'a link-local address needs its interface: write "{session.peer}%eth0", or set interface'
        faults.add(f"{draft.path}.peer", reason)
    if session.local is None:
        return
    peer, local = ipaddress.ip_address(session.peer), ipaddress.ip_address(session.local)
    path = f"{draft.path}.local"
    if peer.version != local.version:
        faults.add(path, f"is IPv{local.version}, and peer is IPv{peer.version}: both need one family")
    elif peer == local:
        faults.add(path, "is the neighbor's own address, peer: set an address of this host")
    elif is_link_local(session.local) and session.interface is None:
        faults.add(path, "a link-local address needs its interface: set interface")


def _bound(
    config: Config,
    faults: FaultList,
    family_path: str,
    local_path: str,
    remote: str,
    own: tuple[str, str | None],
) -> None:
    """The BFD ports are taken on ``bfd.bind`` alone; ``own`` is the key of our own address, and the address."""
    key, local = own
    version = ipaddress.ip_network(remote).version
    bound = [item.partition("%")[0] for item in config.bfd.bind]
    of_family = [item for item in bound if ipaddress.ip_address(item).version == version]
    wildcard = "0.0.0.0" if version == 4 else "::"
    if not of_family:
        faults.add(family_path, f"bfd.bind has no IPv{version} address: add one, or {wildcard!r}")
        return
    if local is None or wildcard in of_family or ipaddress.ip_address(local).version != version:
        return
    if local not in of_family:
        faults.add(local_path, f"bfd.bind does not have {key}: add {local!r} to it")


def _repeated(sessions: list[SessionDraft], faults: FaultList) -> None:
    """One session a path (RFC 5882 §2), and none that may turn out to be another's when the kernel has chosen."""
    by_remote: dict[tuple[str, bool], list[SessionDraft]] = {}
    for draft in sessions:
        path = draft.session.path
        earlier = by_remote.setdefault((path.remote, path.multihop), [])
        for other in earlier:
            if other.session.path == path:
                reason = f"{path} is {faults.where(other.path)} already: each path stands once"
                faults.add(f"{draft.path}.peer", reason)
                break
            if _may_meet(path, other.session.path):
                _half_said(draft, other.path, other.session.path, faults)
                break
        earlier.append(draft)


def _shared(peers: list[PeerDraft], sessions: list[SessionDraft], faults: FaultList) -> None:
    """RFC 5882 §2: a stand-alone session and a peer on one path share a session, so it has to be the same for both."""
    by_remote: dict[str, list[PeerDraft]] = {}
    networks: list[tuple[Network, PeerDraft]] = []
    for peer in peers:
        if peer.peer.dynamic:
            networks.append((ipaddress.ip_network(peer.peer.id), peer))
        else:
            by_remote.setdefault(peer.peer.remote_ip, []).append(peer)
    networks.sort(key=lambda entry: entry[0].prefixlen, reverse=True)
    for draft in sessions:
        remote = ipaddress.ip_address(draft.session.peer)
        of_network = next((peer for network, peer in networks if remote in network), None)
        around = [of_network] if of_network is not None else []
        for peer in by_remote.get(draft.session.peer, around):
            _share(draft, peer, faults)


def _share(draft: SessionDraft, peer: PeerDraft, faults: FaultList) -> None:
    path, theirs = draft.session.path, peer.peer.bfd_path
    if peer.peer.bfd is None or peer.bfd is None or theirs is None:
        return
    interface = theirs.interface
    if peer.peer.dynamic and is_link_local(path.remote):
        interface = interface or path.interface  # a neighbor's own is that which it dials in by
    theirs = BfdPath(path.remote, theirs.local, interface, theirs.multihop)
    if not (draft.keys.sound and peer.bfd.sound and _may_meet(path, theirs)):
        return
    where = faults.where(peer.path)
    if path.multihop != theirs.multihop:
        right = "true" if theirs.multihop else "false"
        reason = f"{where} has a session with the same neighbor, and shares it: set multihop = {right} here as well"
        faults.add(f"{draft.path}.multihop", reason)
    elif (path.local, path.interface) != (theirs.local, theirs.interface):
        _half_said(draft, peer.path, theirs, faults, ours="local_ip")
    elif not _same_keys(draft.session.auth, peer.peer.bfd.auth):
        reason = f"{where} shares this session (RFC 5882 §2), and its bfd.auth is another: set the same keys in both"
        faults.add(draft.keys.profile_path if draft.keys.from_profile("auth") else f"{draft.path}.auth", reason)


def _half_said(draft: SessionDraft, other: str, theirs: BfdPath, faults: FaultList, *, ours: str = "local") -> None:
    """Two that differ only in that one leaves to the kernel what the other says."""
    path = draft.session.path
    key = "interface" if path.local == theirs.local else "local"
    name = ours if key == "local" else key
    said = getattr(theirs, key) or getattr(path, key)
    reason = (
        f"{faults.where(other)} is to the same neighbor, and only one of the two says {key}: it may come to the same "
        f"path; set {key} = {said!r} here and {name} there"
    )
    faults.add(f"{draft.path}.{key if getattr(path, key) else 'peer'}", reason)


def _may_meet(one: BfdPath, other: BfdPath) -> bool:
    """Whether packets of one could be the other's, hops aside."""
    return (one.local is None or other.local is None or one.local == other.local) and (
        one.interface is None or other.interface is None or one.interface == other.interface
    )


def _same_keys(one: tuple[BfdAuth, ...], other: tuple[BfdAuth, ...]) -> bool:
    return len(one) == len(other) and all(mine.same_key(theirs) for mine, theirs in zip(one, other, strict=True))


def _unsolicited(config: Config, unsolicited: BfdUnsolicited, draft: BfdDraft, faults: FaultList) -> None:
    path = f"{UNSOLICITED}.networks"
    for version in sorted({ipaddress.ip_network(network).version for network in unsolicited.networks}):
        remote = next(item for item in unsolicited.networks if ipaddress.ip_network(item).version == version)
        _bound(config, faults, path, path, remote, ("local", None))
    if not draft.sound:
        return
    if draft.merged.multihop:
        reason = f"profile {unsolicited.profile!r} is multihop, and unsolicited sessions are single hop (RFC 9468 §2)"
        faults.add(draft.profile_path, f"{reason}: name another")
        return
    _keys(draft, faults, link_local=any(is_link_local(network) for network in unsolicited.networks))


def _has_link_local(remote: str, local: str | None) -> bool:
    return is_link_local(remote) or (local is not None and is_link_local(local))
