"""Capabilities of the OPEN (RFC 5492): raw TLVs and what they say.

RFC 2918, RFC 4724, RFC 4760 §8, RFC 6793, RFC 7313, RFC 7911, RFC 8538, RFC 8654, RFC 8950, RFC 9234,
draft-ietf-idr-bgp-bfd-strict-mode. A capability whose value has the wrong length is not in force; it is kept for
display.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bgpbfd.core import AFI_IPV6, Family
from bgpbfd.wire.buffer import Buffer, clean_text
from bgpbfd.wire.iana import BgpRole, CapabilityCode


class Capability(NamedTuple):
    """One TLV as sent or received; ``code`` may be unknown to us."""

    code: int
    value: bytes = b""


ROUTE_REFRESH = Capability(CapabilityCode.ROUTE_REFRESH)
ENHANCED_ROUTE_REFRESH = Capability(CapabilityCode.ENHANCED_ROUTE_REFRESH)
EXTENDED_MESSAGE = Capability(CapabilityCode.EXTENDED_MESSAGE)
BFD_STRICT = Capability(CapabilityCode.BFD_STRICT)  # draft-ietf-idr-bgp-bfd-strict-mode §5: code 74, length 0

ROLE_NAMES = {0: "provider", 1: "route server", 2: "route server client", 3: "customer", 4: "peer"}
_ADD_PATH_NAMES = {1: "receive", 2: "send", 3: "both"}


def multiprotocol(family: Family) -> Capability:
    """RFC 4760 §8."""
    return Capability(CapabilityCode.MULTIPROTOCOL, family.afi.to_bytes(2, "big") + bytes((0, family.safi)))


def four_octet_as(asn: int) -> Capability:
    """RFC 6793 §3."""
    return Capability(CapabilityCode.FOUR_OCTET_AS, asn.to_bytes(4, "big"))


def graceful_restart(
    restarting: bool, notification: bool, time_s: int, families: Sequence[tuple[Family, bool]]
) -> Capability:
    """RFC 4724 §3, RFC 8538 §2: the R bit, the N bit, the restart time (12 bits), families with their F bit."""
    if not 0 <= time_s < 4096:
        raise ValueError(f"restart time {time_s} s does not fit 12 bits")
    head = restarting << 15 | notification << 14 | time_s
    tail = b"".join(f.afi.to_bytes(2, "big") + bytes((f.safi, forwarding << 7)) for f, forwarding in families)
    return Capability(CapabilityCode.GRACEFUL_RESTART, head.to_bytes(2, "big") + tail)


def add_path(entries: Sequence[tuple[Family, int]]) -> Capability:
    """RFC 7911 §4: what we can do with path identifiers of each family, 1 receive, 2 send, 3 both.

    Raises ValueError for any other value.
    """
    for family, direction in entries:
        if direction not in _ADD_PATH_NAMES:
            raise ValueError(f"additional paths of {family}: {direction} is none of 1 (receive), 2 (send), 3 (both)")
    value = b"".join(f.afi.to_bytes(2, "big") + bytes((f.safi, direction)) for f, direction in entries)
    return Capability(CapabilityCode.ADD_PATH, value)


def extended_next_hop(families: Sequence[Family]) -> Capability:
    """RFC 8950 §4: families whose next hops may be IPv6 addresses; the SAFI has two octets here."""
    value = b"".join(
        f.afi.to_bytes(2, "big") + f.safi.to_bytes(2, "big") + AFI_IPV6.to_bytes(2, "big") for f in families
    )
    return Capability(CapabilityCode.EXTENDED_NEXT_HOP, value)


def role(role: BgpRole) -> Capability:
    """RFC 9234 §4.1: what we are to the peer."""
    return Capability(CapabilityCode.ROLE, bytes((role,)))


@dataclass(slots=True, frozen=True)
class GracefulRestart:
    """RFC 4724 §3. ``families`` carry their F bit: forwarding state was preserved."""

    restarting: bool
    notification: bool
    time_s: int
    families: tuple[tuple[Family, bool], ...]


@dataclass(slots=True)
class Capabilities:
    """What an OPEN's capabilities say; of several copies the last counts, lists of families add up.

    ``families`` is None when no multiprotocol capability came: IPv4 unicast alone is then meant (RFC 4760 §8).
    ``extended_next_hop``: (family, AFI of the next hop), RFC 8950 §4. ``add_path``: (family, 1 receive 2 send 3 both),
    RFC 7911 §4. ``role_conflict``: copies of the role differ, which is 2/11 (RFC 9234 §4.2).
    ``malformed`` came with a wrong length: not in force.
    """

    families: tuple[Family, ...] | None = None
    asn4: int | None = None
    route_refresh: bool = False
    enhanced_route_refresh: bool = False
    extended_message: bool = False
    graceful_restart: GracefulRestart | None = None
    fqdn: tuple[str, str] | None = None
    software_version: str | None = None
    extended_next_hop: tuple[tuple[Family, int], ...] = ()
    add_path: tuple[tuple[Family, int], ...] = ()
    role: int | None = None
    bfd_strict: bool = False
    unknown: tuple[Capability, ...] = ()
    malformed: tuple[Capability, ...] = ()
    role_conflict: bool = False


def _expect(condition: bool) -> None:
    if not condition:
        raise ValueError("wrong length")


def _multiprotocol(value: bytes, into: Capabilities) -> None:
    _expect(len(value) == 4)
    family = Family(value[0] << 8 | value[1], value[3])
    known = into.families or ()
    if family not in known:
        into.families = (*known, family)


def _route_refresh(value: bytes, into: Capabilities) -> None:
    _expect(not value)
    into.route_refresh = True


def _extended_next_hop(value: bytes, into: Capabilities) -> None:
    _expect(len(value) > 0 and len(value) % 6 == 0)
    buffer = Buffer(value)
    while buffer:
        entry = Family(buffer.pull_uint16(), buffer.pull_uint16()), buffer.pull_uint16()
        if entry not in into.extended_next_hop:
            into.extended_next_hop += (entry,)


def _extended_message(value: bytes, into: Capabilities) -> None:
    _expect(not value)
    into.extended_message = True


def _role(value: bytes, into: Capabilities) -> None:
    _expect(len(value) == 1)
    if into.role is not None and into.role != value[0]:
        into.role_conflict = True
    into.role = value[0]


def _graceful_restart(value: bytes, into: Capabilities) -> None:
    into.graceful_restart = _pull_graceful_restart(value)


def _pull_graceful_restart(value: bytes) -> GracefulRestart:
    _expect(len(value) >= 2 and len(value) % 4 == 2)
    buffer = Buffer(value)
    head = buffer.pull_uint16()
    families: list[tuple[Family, bool]] = []
    while buffer:
        family = Family(buffer.pull_uint16(), buffer.pull_uint8())
        families.append((family, bool(buffer.pull_uint8() & 0x80)))
    return GracefulRestart(bool(head & 0x8000), bool(head & 0x4000), head & 0x0FFF, tuple(families))


def _four_octet_as(value: bytes, into: Capabilities) -> None:
    _expect(len(value) == 4)
    into.asn4 = int.from_bytes(value, "big")


def _add_path(value: bytes, into: Capabilities) -> None:
    # §4 asks for a single instance: where a family comes twice all the same, the later entry counts
    into.add_path = tuple((dict(into.add_path) | dict(_pull_add_path(value))).items())


def _pull_add_path(value: bytes) -> tuple[tuple[Family, int], ...]:
    _expect(len(value) > 0 and len(value) % 4 == 0)
    buffer = Buffer(value)
    entries: list[tuple[Family, int]] = []
    while buffer:
        family = Family(buffer.pull_uint16(), buffer.pull_uint8())
        direction = buffer.pull_uint8()
        # RFC 7911 §4: any other value makes the capability one that is not understood
        _expect(direction in _ADD_PATH_NAMES)
        entries.append((family, direction))
    return tuple(entries)


def _enhanced_route_refresh(value: bytes, into: Capabilities) -> None:
    _expect(not value)
    into.enhanced_route_refresh = True


def _fqdn(value: bytes, into: Capabilities) -> None:
    buffer = Buffer(value)
    host = clean_text(buffer.pull_bytes(buffer.pull_uint8()))
    domain = clean_text(buffer.pull_bytes(buffer.pull_uint8())) if buffer else ""
    _expect(not buffer)
    into.fqdn = (host, domain)


def _bfd_strict(value: bytes, into: Capabilities) -> None:
    _expect(not value)
    into.bfd_strict = True


def _software_version(value: bytes, into: Capabilities) -> None:
    buffer = Buffer(value)
    text = clean_text(buffer.pull_bytes(buffer.pull_uint8()))
    _expect(not buffer)
    into.software_version = text


_PULL: dict[int, Callable[[bytes, Capabilities], None]] = {
    CapabilityCode.MULTIPROTOCOL: _multiprotocol,
    CapabilityCode.ROUTE_REFRESH: _route_refresh,
    CapabilityCode.EXTENDED_NEXT_HOP: _extended_next_hop,
    CapabilityCode.EXTENDED_MESSAGE: _extended_message,
    CapabilityCode.ROLE: _role,
    CapabilityCode.GRACEFUL_RESTART: _graceful_restart,
    CapabilityCode.FOUR_OCTET_AS: _four_octet_as,
    CapabilityCode.ADD_PATH: _add_path,
    CapabilityCode.ENHANCED_ROUTE_REFRESH: _enhanced_route_refresh,
    CapabilityCode.FQDN: _fqdn,
    CapabilityCode.BFD_STRICT: _bfd_strict,
    CapabilityCode.SOFTWARE_VERSION: _software_version,
}


def parse_capabilities(caps: Sequence[Capability]) -> Capabilities:
    """Read what ``caps`` say, in their order; never raises."""
    parsed = Capabilities()
    unknown: list[Capability] = []
    malformed: list[Capability] = []
    for capability in caps:
        pull = _PULL.get(capability.code)
        if pull is None:
            unknown.append(capability)
            continue
        try:
            pull(capability.value, parsed)
        except ValueError:
            malformed.append(capability)
    parsed.unknown = tuple(unknown)
    parsed.malformed = tuple(malformed)
    return parsed


def _join(items: Sequence[str]) -> str:
    return ", ".join(items)


def _describe_graceful_restart(one: Capabilities) -> str:
    restart = one.graceful_restart or GracefulRestart(False, False, 0, ())
    words = [f"graceful restart: time {restart.time_s} s"]
    if restart.restarting:
        words.append("restarting")
    if restart.notification:
        words.append("notification")
    words += [f"{family}{' (forwarding kept)' if kept else ''}" for family, kept in restart.families]
    return _join(words)


def _describe_fqdn(one: Capabilities) -> str:
    host, domain = one.fqdn or ("", "")
    return f"host name {host}{'.' + domain if domain else ''}"


def _afi_name(afi: int) -> str:
    return "ipv6" if afi == AFI_IPV6 else f"afi {afi}"


_DESCRIBE: dict[int, Callable[[Capabilities], str]] = {
    CapabilityCode.MULTIPROTOCOL: lambda c: f"multiprotocol {_join([str(f) for f in c.families or ()])}",
    CapabilityCode.ROUTE_REFRESH: lambda c: "route refresh",
    CapabilityCode.EXTENDED_NEXT_HOP: lambda c: (
        "extended next hop: " + _join([f"{family} over {_afi_name(afi)}" for family, afi in c.extended_next_hop])
    ),
    CapabilityCode.EXTENDED_MESSAGE: lambda c: "extended message",
    CapabilityCode.ROLE: lambda c: f"role {ROLE_NAMES.get(c.role or 0, str(c.role))}",
    CapabilityCode.GRACEFUL_RESTART: _describe_graceful_restart,
    CapabilityCode.FOUR_OCTET_AS: lambda c: f"4-octet AS {c.asn4}",
    CapabilityCode.ADD_PATH: lambda c: (
        "additional paths: " + _join([f"{family} {_ADD_PATH_NAMES[way]}" for family, way in c.add_path])
    ),
    CapabilityCode.ENHANCED_ROUTE_REFRESH: lambda c: "enhanced route refresh",
    CapabilityCode.FQDN: _describe_fqdn,
    CapabilityCode.BFD_STRICT: lambda c: "BFD strict mode",
    CapabilityCode.SOFTWARE_VERSION: lambda c: f"software version {c.software_version}",
}
_NAMED_ONLY = {
    CapabilityCode.DYNAMIC: "dynamic capability",
    CapabilityCode.LONG_LIVED_GRACEFUL_RESTART: "long-lived graceful restart",
}


def describe_capability(cap: Capability) -> str:
    """One line for people; unknown and malformed ones with their value in hex."""
    raw = f": 0x{cap.value.hex()}" if cap.value else ""
    parsed = parse_capabilities((cap,))
    if parsed.malformed:
        return f"malformed capability {cap.code}{raw}"
    describe = _DESCRIBE.get(cap.code)
    if describe is not None:
        return describe(parsed)
    for code, name in _NAMED_ONLY.items():
        if code == cap.code:
            return f"{name}{raw}"
    return f"capability {cap.code}{raw}"
