"""The OPEN: what we offer, what we take, what is then in force.

RFC 4271 §6.2, RFC 5492, RFC 6286, RFC 6793, RFC 7607, and what capabilities say: RFC 2918 and RFC 7313 (refresh),
RFC 4724 and RFC 8538 (graceful restart), RFC 7911 (ADD-PATH), RFC 8654, RFC 8950 (next hops), RFC 9234 (roles),
draft-ietf-idr-bgp-bfd-strict-mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bgpbfd.core import AFI_IPV6, IPV4_UNICAST, SAFI_UNICAST, Family
from bgpbfd.wire.capabilities import (
    BFD_STRICT,
    ENHANCED_ROUTE_REFRESH,
    EXTENDED_MESSAGE,
    ROLE_NAMES,
    ROUTE_REFRESH,
    Capabilities,
    Capability,
    GracefulRestart,
    add_path,
    extended_next_hop,
    four_octet_as,
    graceful_restart,
    multiprotocol,
    parse_capabilities,
    role,
)
from bgpbfd.wire.iana import AS_TRANS, BgpRole, CapabilityCode, ErrorCode, OpenSubcode
from bgpbfd.wire.messages import NotificationError, Open

STANDARD_MAX_LENGTH = 4096  # RFC 4271 §4.1
EXTENDED_MAX_LENGTH = 65535  # RFC 8654 §4

_RECEIVE, _SEND = 1, 2  # RFC 7911 §4, 3 is both

# RFC 9234 §4.2, table 2: our role and the only one that the peer may have beside it.
_COUNTERPART: Final[dict[BgpRole, BgpRole]] = {
    BgpRole.PROVIDER: BgpRole.CUSTOMER,
    BgpRole.CUSTOMER: BgpRole.PROVIDER,
    BgpRole.RS: BgpRole.RS_CLIENT,
    BgpRole.RS_CLIENT: BgpRole.RS,
    BgpRole.PEER: BgpRole.PEER,
}


@dataclass(slots=True, frozen=True)
class PeerSettings:
    """What one BGP neighbor is configured to be. ``router_id`` is ours for this session; times in s."""

    local_asn: int
    remote_asn: int
    router_id: int
    families: tuple[Family, ...]
    hold_time_s: int = 180
    connect_retry_s: float = 5.0
    passive: bool = False
    dynamic: bool = False  # accepted only, never dialled, no retry
    route_refresh: bool = True
    extended_messages: bool = True
    add_path_receive: bool = False  # RFC 7911, of every unicast family
    add_path_send: bool = False
    extended_next_hop: bool = False  # RFC 8950, IPv4 unicast with IPv6 next hops
    restart_time_s: int | None = None  # RFC 4724: our capability 64 lists the families; None: End-of-RIB marks only
    role: BgpRole | None = None  # RFC 9234: ours towards the peer; external sessions only
    role_strict: bool = False  # RFC 9234 §4.2: a peer without a role is refused
    bfd_strict: bool = False  # draft-ietf-idr-bgp-bfd-strict-mode: capability 74 is offered
    enforce_first_as: bool = True  # RFC 4271 §6.3: an external path begins with the peer's AS


@dataclass(slots=True, frozen=True)
class Negotiated:
    """What both OPENs together put in force."""

    asn4: bool
    families: frozenset[Family]
    hold_time_s: int  # 0: neither hold nor keepalive timer runs
    keepalive_time_s: int
    remote_asn: int
    remote_router_id: int
    external: bool
    may_send_refresh: bool
    enhanced_refresh: bool
    send_max_length: int
    receive_max_length: int
    graceful_restart_peer: bool  # the peer sent capability 64: it marks End-of-RIB
    capabilities_sent: tuple[Capability, ...]
    capabilities_received: tuple[Capability, ...]
    restart_families_listed: bool = False  # its capability 64 named a family: RFC 4724 §5 applies
    add_path_receive: frozenset[Family] = frozenset()  # the peer sends path identifiers
    add_path_send: frozenset[Family] = frozenset()  # we do
    extended_next_hop: frozenset[Family] = frozenset()
    restart: GracefulRestart | None = None  # the peer's capability 64, as it sent it
    restart_notification: bool = False  # N bit on both sides: a NOTIFICATION keeps routes (RFC 8538 §2)
    role: BgpRole | None = None  # ours; in force whether or not the peer sent one (RFC 9234 §5)
    remote_role: BgpRole | None = None
    bfd_strict: bool = False  # both sides hold the session back until BFD is Up


def our_open(settings: PeerSettings, *, plain: bool = False, restarting: bool = False) -> Open:
    """The OPEN that we send (RFC 4271 §4.2).

    ``plain``: without capabilities, for a peer that answered 2/4 (RFC 5492 §3). ``restarting``: this process has just
    been started again, and the peer may hold its routes from before (RFC 4724 §4.1).
    """
    return Open(
        # RFC 6793 §4.2.1: an AS number that does not fit is AS_TRANS in the old field.
        asn=settings.local_asn if settings.local_asn <= 0xFFFF else AS_TRANS,
        hold_time=settings.hold_time_s,
        router_id=settings.router_id,
        capabilities=() if plain else _our_capabilities(settings, restarting),
    )


def can_be_plain(settings: PeerSettings) -> bool:
    """Whether a session without any capability could carry what is configured."""
    fits = settings.local_asn <= 0xFFFF and settings.remote_asn <= 0xFFFF
    return IPV4_UNICAST in settings.families and fits and not (settings.role_strict and _our_role(settings) is not None)


def validate_open(
    settings: PeerSettings, received: Open, *, plain: bool = False, restarting: bool = False
) -> Negotiated:
    """What the peer's OPEN and ours (``plain``, ``restarting`` as in our_open) put in force.

    Raises NotificationError as RFC 4271 §6.2, RFC 5492 §5, RFC 6286 §2.2, RFC 7607 §2 and RFC 9234 §4.2 want it.
    """
    external = settings.local_asn != settings.remote_asn
    if received.version != 4:
        raise _refusal(
            OpenSubcode.UNSUPPORTED_VERSION_NUMBER, f"BGP version {received.version}, ours is 4", b"\x00\x04"
        )
    if received.hold_time in (1, 2):  # RFC 4271 §4.2: zero or at least three seconds
        raise _refusal(OpenSubcode.UNACCEPTABLE_HOLD_TIME, f"hold time {received.hold_time} s, must be 0 or at least 3")
    if received.router_id == 0:
        raise _refusal(OpenSubcode.BAD_BGP_IDENTIFIER, "BGP identifier 0.0.0.0")
    if received.router_id == settings.router_id and not external:  # RFC 6286 §2.2: over eBGP the same id is legal
        raise _refusal(OpenSubcode.BAD_BGP_IDENTIFIER, "the internal peer's BGP identifier is ours")
    offered = parse_capabilities(received.capabilities)
    _check_asn(settings, received, offered.asn4)
    remote_role = _check_role(settings, offered, plain=plain) if external else None
    sent = our_open(settings, plain=plain, restarting=restarting).capabilities
    families = frozenset((IPV4_UNICAST,)) if plain else frozenset(settings.families)
    # No multiprotocol capability at all: IPv4 unicast, as before RFC 4760.
    families &= frozenset((IPV4_UNICAST,) if offered.families is None else offered.families)
    if not families:
        # RFC 5492 §5: Data lists the capabilities whose lack ends the session.
        needed = [c for c in sent if c.code == CapabilityCode.MULTIPROTOCOL]
        data = b"".join(bytes((c.code, len(c.value))) + c.value for c in needed)
        ours = ", ".join(str(family) for family in settings.families)
        raise _refusal(OpenSubcode.UNSUPPORTED_CAPABILITY, f"no address family in common (ours: {ours})", data)
    hold = min(settings.hold_time_s, received.hold_time)
    extended = settings.extended_messages and not plain
    restart = offered.graceful_restart
    mutual = parse_capabilities(sent)  # what was not sent is not in force, whatever the settings say
    return Negotiated(
        asn4=offered.asn4 is not None and not plain,
        families=families,
        hold_time_s=hold,
        keepalive_time_s=max(1, hold // 3) if hold else 0,  # RFC 4271 §4.4
        remote_asn=settings.remote_asn,
        remote_router_id=received.router_id,
        external=external,
        may_send_refresh=offered.route_refresh,  # RFC 2918 §4: the receiver's offer counts
        enhanced_refresh=offered.enhanced_route_refresh and settings.route_refresh and not plain,
        # RFC 8654 §4: each direction by its receiver's offer; switched off here, we send none either.
        send_max_length=EXTENDED_MAX_LENGTH if extended and offered.extended_message else STANDARD_MAX_LENGTH,
        receive_max_length=EXTENDED_MAX_LENGTH if extended else STANDARD_MAX_LENGTH,
        graceful_restart_peer=restart is not None,
        capabilities_sent=sent,
        capabilities_received=received.capabilities,
        restart_families_listed=restart is not None and bool(restart.families),
        # RFC 7911 §4: one end has to be able to receive what the other is able to send.
        add_path_receive=families & _paths(mutual, _RECEIVE) & _paths(offered, _SEND),
        add_path_send=families & _paths(mutual, _SEND) & _paths(offered, _RECEIVE),
        extended_next_hop=families & _ipv6_next_hops(mutual) & _ipv6_next_hops(offered),
        restart=restart,
        restart_notification=_notifies(mutual) and _notifies(offered),
        role=_our_role(settings),
        remote_role=remote_role,
        bfd_strict=mutual.bfd_strict and offered.bfd_strict,  # draft-ietf-idr-bgp-bfd-strict-mode §6
    )


def _our_capabilities(settings: PeerSettings, restarting: bool) -> tuple[Capability, ...]:
    capabilities = [multiprotocol(family) for family in settings.families]
    if settings.route_refresh:
        capabilities += [ROUTE_REFRESH, ENHANCED_ROUTE_REFRESH]
    if settings.extended_next_hop and IPV4_UNICAST in settings.families:
        capabilities.append(extended_next_hop((IPV4_UNICAST,)))
    if settings.extended_messages:
        capabilities.append(EXTENDED_MESSAGE)
    ours = _our_role(settings)
    if ours is not None:
        capabilities.append(role(ours))
    capabilities.append(four_octet_as(settings.local_asn))
    capabilities.append(_restart_capability(settings, restarting))
    ways = (_RECEIVE if settings.add_path_receive else 0) | (_SEND if settings.add_path_send else 0)
    unicast = [family for family in settings.families if family.safi == SAFI_UNICAST]
    if ways and unicast:
        capabilities.append(add_path([(family, ways) for family in unicast]))
    if settings.bfd_strict:
        capabilities.append(BFD_STRICT)
    return tuple(capabilities)


def _restart_capability(settings: PeerSettings, restarting: bool) -> Capability:
    if settings.restart_time_s is None:
        # RFC 4724 §4: without families it promises End-of-RIB marks and keeps no route of a dead host.
        return graceful_restart(False, False, 0, ())
    # The F bit is in every OPEN, not only beside R: packets are forwarded and served by the kernel and the services,
    # whatever becomes of this process. After a mere loss of TCP an OPEN without F would have the peer remove at once
    # what it has kept (RFC 4724 §4.2); RFC 8538 §4 wants the bit set for that reason.
    families = [(family, True) for family in settings.families]
    return graceful_restart(restarting, True, settings.restart_time_s, families)


def _our_role(settings: PeerSettings) -> BgpRole | None:
    return settings.role if settings.local_asn != settings.remote_asn else None  # RFC 9234 §4: eBGP only


def _paths(capabilities: Capabilities, way: int) -> frozenset[Family]:
    return frozenset(family for family, ways in capabilities.add_path if ways & way)


def _ipv6_next_hops(capabilities: Capabilities) -> frozenset[Family]:
    return frozenset(family for family, afi in capabilities.extended_next_hop if afi == AFI_IPV6)


def _notifies(capabilities: Capabilities) -> bool:
    restart = capabilities.graceful_restart
    return restart is not None and restart.notification


def _check_asn(settings: PeerSettings, received: Open, capability_asn: int | None) -> None:
    if capability_asn == AS_TRANS:  # RFC 6793 §9: reserved, nobody's real number
        raise _refusal(OpenSubcode.BAD_PEER_AS, "AS 23456 (AS_TRANS) in the 4-octet AS capability")
    if received.asn == 0 or capability_asn == 0:  # RFC 7607 §2
        raise _refusal(OpenSubcode.BAD_PEER_AS, "AS 0")
    asn = received.asn if capability_asn is None else capability_asn
    if asn != settings.remote_asn:
        raise _refusal(OpenSubcode.BAD_PEER_AS, f"AS {asn}, configured is {settings.remote_asn}")


def _check_role(settings: PeerSettings, offered: Capabilities, *, plain: bool) -> BgpRole | None:
    """RFC 9234 §4.2: the external peer's role, None where it sent none, or one that nobody knows and we do not need."""
    if offered.role_conflict:
        raise _refusal(OpenSubcode.ROLE_MISMATCH, "roles that differ in one OPEN")
    ours, theirs = _our_role(settings), offered.role
    known = BgpRole(theirs) if theirs in set(BgpRole) else None
    if ours is None:
        return known
    if theirs is None:
        if settings.role_strict:
            raise _refusal(OpenSubcode.ROLE_MISMATCH, f"the peer has no role, ours is {_role_name(ours)}")
    elif known is not _COUNTERPART[ours] and not plain:
        raise _refusal(OpenSubcode.ROLE_MISMATCH, f"the peer's role is {_role_name(theirs)}, ours {_role_name(ours)}")
    return known


def _role_name(value: int) -> str:
    return ROLE_NAMES.get(value, str(value))


def _refusal(subcode: OpenSubcode, reason: str, data: bytes = b"") -> NotificationError:
    return NotificationError(ErrorCode.OPEN_MESSAGE, subcode, data, reason)
