"""Text ↔ values: how AS numbers, paths, communities and addresses are written in configuration, API and CLI.

Every ``parse_*`` raises ValueError with a text that says what would be right; every ``format_*`` gives text
that its ``parse_*`` takes back. Numbers are plain decimal without sign or leading zeros (RFC 8092 §5 asks it
of large communities; the rest follows), so that one number has one spelling.

RFCs: 5396 (asplain, asdot), 1997 and IANA's registry (standard communities), 4360, 5668 and 7153 (extended),
draft-ietf-idr-link-bandwidth (link bandwidth), 5701 (extended of IPv6), 8092 (large), 6286 (router id).
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bgpbfd.wire.as_path import MAX_SEGMENT_ASNS, Segment
from bgpbfd.wire.iana import Origin, SegmentType, WellKnownCommunity

MAX_U16 = 0xFFFF
MAX_U32 = 0xFFFFFFFF

_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
_DECIMAL = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?(e[+-]?[0-9]{1,3})?", re.ASCII)
_PATH_TOKEN = re.compile(r"\{[^{}]*\}|[^\s{}]+|\S")

_ASN_HINT = "an AS number from 1 to 4294967295 (65000) or in asdot (1.10)"


def parse_number(text: str, maximum: int) -> int | None:
    """The decimal number, or None where ``text`` is none or lies above ``maximum``."""
    if _NUMBER.fullmatch(text) is None:
        return None
    value = int(text)
    return value if value <= maximum else None


# -- AS numbers and paths ----------------------------------------------------------------------------------


def parse_asn(value: str | int) -> int:
    """An AS number in asplain or asdot (RFC 5396), 1 to 2^32-1; AS 0 is refused (RFC 7607)."""
    if isinstance(value, int):
        # bool is an int: `true` in a file must not become AS 1
        if isinstance(value, bool) or not 0 < value <= MAX_U32:
            raise ValueError(f"{value!r}: expected {_ASN_HINT}")
        return value
    high, dot, low = value.strip().partition(".")
    asn: int | None
    if dot:
        first, second = parse_number(high, MAX_U16), parse_number(low, MAX_U16)
        asn = None if first is None or second is None else first << 16 | second
    else:
        asn = parse_number(high, MAX_U32)
    if not asn:
        raise ValueError(f"{value!r}: expected {_ASN_HINT}")
    return asn


def parse_as_path(items: Iterable[str]) -> tuple[Segment, ...]:
    """``["65000", "1.10", "{65001,65002}"]``: plain numbers in path order, braces for an AS_SET.

    Neighboring plain numbers share AS_SEQUENCE segments of at most 255. One string may hold several, with
    spaces between.
    """
    segments: list[Segment] = []
    run: list[int] = []
    for item in items:
        for token in _PATH_TOKEN.findall(item):
            if token.startswith("{"):
                segments.extend(_sequences(run))
                run = []
                segments.append(_as_set(token))
            else:
                run.append(parse_asn(token))
    segments.extend(_sequences(run))
    return tuple(segments)


def _sequences(asns: Sequence[int]) -> list[Segment]:
    return [
        Segment(SegmentType.AS_SEQUENCE, tuple(asns[i : i + MAX_SEGMENT_ASNS]))
        for i in range(0, len(asns), MAX_SEGMENT_ASNS)
    ]


def _as_set(token: str) -> Segment:
    members = token[1:-1].replace(",", " ").split() if token.endswith("}") and len(token) > 1 else []
    if not 0 < len(members) <= MAX_SEGMENT_ASNS:
        raise ValueError(f"{token!r}: expected an AS_SET of 1 to 255 AS numbers, such as {{65001,65002}}")
    return Segment(SegmentType.AS_SET, tuple(dict.fromkeys(parse_asn(member) for member in members)))


def format_as_path(segments: Iterable[Segment]) -> list[str]:
    """One string for each AS of a sequence and one for each other segment.

    ``{1,2}`` is an AS_SET; of confederation segments (RFC 5065; received only, so ``parse_as_path`` refuses
    them) ``(1 2)`` is a sequence and ``[1,2]`` a set.
    """
    items: list[str] = []
    for kind, asns in segments:
        if kind == SegmentType.AS_SEQUENCE:
            items.extend(map(str, asns))
        elif kind == SegmentType.AS_SET:
            items.append("{" + ",".join(map(str, asns)) + "}")
        elif kind == SegmentType.AS_CONFED_SEQUENCE:
            items.append("(" + " ".join(map(str, asns)) + ")")
        else:
            items.append("[" + ",".join(map(str, asns)) + "]")
    return items


def as_path_text(segments: Iterable[Segment]) -> str:
    """The path on one line: ``65000 500 {1,2}``."""
    return " ".join(format_as_path(segments))


# -- communities -------------------------------------------------------------------------------------------

WELL_KNOWN_COMMUNITIES: dict[str, int] = {
    community.name.lower().replace("_", "-"): int(community) for community in WellKnownCommunity
}
_WELL_KNOWN_NAMES = {value: name for name, value in WELL_KNOWN_COMMUNITIES.items()}
_WELL_KNOWN_SPELLINGS = WELL_KNOWN_COMMUNITIES | {
    "nopeer": int(WellKnownCommunity.NO_PEER),
    "local-as": int(WellKnownCommunity.NO_EXPORT_SUBCONFED),
}

# Extended community types (RFC 7153 §5): the administrator's form, with bit 0x40 clear for transitive.
_TWO_OCTET_AS = 0x00
_IPV4_ADDRESS = 0x01
_FOUR_OCTET_AS = 0x02
_NON_TRANSITIVE_TWO_OCTET_AS = 0x40
_IPV6_ADDRESS = 0x00  # of 20 octets, transitive (RFC 5701 §2)
_LINK_BANDWIDTH = 0x04
_IPV6_EXTENDED_LENGTH = 20
_SUBTYPES = {"rt": 0x02, "soo": 0x03, "ro": 0x03}
_SUBTYPE_NAMES = {0x02: "rt", 0x03: "soo"}

_COMMUNITY_HINT = (
    'expected "N", "A:B" with both up to 65535, a well-known name such as no-export, "A:B:C" (large), '
    '"rt:AS:N", "soo:AS:N", "bandwidth:AS:BYTES_PER_SECOND" or "ext:0x" and 16 hex digits'
)


class Communities(NamedTuple):
    """Communities by attribute, no duplicates: standard as u32, extended as 8 octets, large as three u32.

    ``ipv6_extended``: 20 octets each (RFC 5701).
    """

    standard: tuple[int, ...] = ()
    extended: tuple[bytes, ...] = ()
    large: tuple[tuple[int, int, int], ...] = ()
    ipv6_extended: tuple[bytes, ...] = ()


def parse_communities(items: Iterable[str], *, ipv6: bool = False) -> Communities:
    """Sort texts of all kinds into their attributes; a repeated one counts once (RFC 8092 §3).

    ``ipv6``: those of RFC 5701 too, for callers who have a use for them.
    """
    # dicts are used as ordered sets
    standard: dict[int, None] = {}
    extended: dict[bytes, None] = {}
    large: dict[tuple[int, int, int], None] = {}
    ipv6_extended: dict[bytes, None] = {}
    for item in items:
        text = item.strip().lower()
        word, colon, _ = text.partition(":")
        if ipv6 and _is_ipv6_extended(text):
            ipv6_extended[parse_ipv6_extended(text)] = None
        elif colon and word in _EXTENDED_WORDS:
            extended[parse_extended(text)] = None
        elif text.count(":") == 2:
            large[parse_large(text)] = None
        else:
            standard[parse_community(text)] = None
    return Communities(tuple(standard), tuple(extended), tuple(large), tuple(ipv6_extended))


def format_communities(communities: Communities) -> list[str]:
    """All of them, standard first; ``parse_communities`` with ``ipv6`` takes the list back."""
    return [
        *map(format_community, communities.standard),
        *map(format_extended, communities.extended),
        *map(format_extended, communities.ipv6_extended),
        *map(format_large, communities.large),
    ]


def parse_community(text: str) -> int:
    """A standard community (RFC 1997): ``"N"``, ``"A:B"`` or a well-known name."""
    word = text.strip().lower()
    known = _WELL_KNOWN_SPELLINGS.get(word.replace("_", "-"))
    if known is not None:
        return known
    first, colon, second = word.partition(":")
    if not colon:
        value = parse_number(first, MAX_U32)
        if value is None:
            raise ValueError(f"{text!r}: {_COMMUNITY_HINT}")
        return value
    high, low = parse_number(first, MAX_U16), parse_number(second, MAX_U16)
    if high is None or low is None:
        if parse_number(first, MAX_U32) is not None and parse_number(second, MAX_U32) is not None:
            raise ValueError(
                f"{text!r}: both halves of a standard community are at most 65535; "
                'larger numbers need a large community "A:B:C"'
            )
        raise ValueError(f"{text!r}: {_COMMUNITY_HINT}")
    return high << 16 | low


def format_community(value: int) -> str:
    """The well-known name, or ``"A:B"``; a plain ``"N"`` where A is 0, as BGPd-rs shows it."""
    if value <= MAX_U16:
        return str(value)
    return _WELL_KNOWN_NAMES.get(value) or f"{value >> 16}:{value & MAX_U16}"


def parse_large(text: str) -> tuple[int, int, int]:
    """``"A:B:C"``, three u32 in decimal without leading zeros (RFC 8092 §5)."""
    parts = [parse_number(part, MAX_U32) for part in text.strip().split(":")]
    if len(parts) == 3:
        first, second, third = parts
        if first is not None and second is not None and third is not None:
            return first, second, third
    raise ValueError(f'{text!r}: expected a large community "A:B:C", each from 0 to 4294967295 without leading zeros')


def format_large(value: tuple[int, int, int]) -> str:
    return f"{value[0]}:{value[1]}:{value[2]}"


def parse_extended(text: str) -> bytes:
    """An extended community's 8 octets (RFC 4360).

    ``rt:ADMIN:N`` and ``soo:ADMIN:N`` (also ``ro:``), where ADMIN is a 2-octet AS, a 4-octet AS (above 65535,
    in asdot, or with ``L`` behind it) or an IPv4 address: N is up to 4294967295 for the first and up to 65535
    for the others; ``bandwidth:AS:BYTES_PER_SECOND``; ``ext:0x…`` for any other.
    """
    word, _, rest = text.strip().lower().partition(":")
    parser = _EXTENDED_WORDS.get(word)
    if parser is None:
        raise ValueError(f"{text!r}: {_COMMUNITY_HINT}")
    return parser(word, rest)


def _parse_administered(word: str, rest: str) -> bytes:
    subtype = _SUBTYPES[word]
    admin, _, local = rest.partition(":")
    number = parse_number(local, MAX_U32)
    address = _ipv4(admin)
    if number is None:
        raise ValueError(f'"{word}:{rest}": expected "{word}:ADMIN:N", ADMIN an AS number or an IPv4 address')
    if address is None:
        asn = parse_asn(admin.removesuffix("l"))
        if asn <= MAX_U16 and not admin.endswith("l") and "." not in admin:
            return struct.pack(">BBHI", _TWO_OCTET_AS, subtype, asn, number)
        head = struct.pack(">BBI", _FOUR_OCTET_AS, subtype, asn)
    else:
        head = bytes((_IPV4_ADDRESS, subtype)) + address
    if number > MAX_U16:
        raise ValueError(f'"{word}:{rest}": the number behind a 4-octet AS or an IPv4 address is at most 65535')
    return head + number.to_bytes(2, "big")


def _parse_bandwidth(word: str, rest: str) -> bytes:
    admin, _, rate_text = rest.partition(":")
    asn, rate = parse_number(admin, MAX_U16), parse_float32(rate_text)
    if asn is None or rate is None:
        raise ValueError(
            f'"{word}:{rest}": expected "bandwidth:AS:BYTES_PER_SECOND", the AS up to 65535, '
            "such as bandwidth:65000:1250000"
        )
    return struct.pack(">BBHf", _NON_TRANSITIVE_TWO_OCTET_AS, _LINK_BANDWIDTH, asn, rate)


def _parse_generic(word: str, rest: str) -> bytes:
    if re.fullmatch(r"0x[0-9a-f]{16}", rest) is None:
        raise ValueError(f'"{word}:{rest}": expected "ext:0x" and 16 hex digits')
    return bytes.fromhex(rest[2:])


_EXTENDED_WORDS = {
    "rt": _parse_administered,
    "soo": _parse_administered,
    "ro": _parse_administered,
    "bandwidth": _parse_bandwidth,
    "ext": _parse_generic,
}


_IPV6_WORDS = re.compile(r"(rt|soo|ro):\[([0-9a-f:.]+)\]:([0-9]+)")
_IPV6_GENERIC = re.compile(r"ext:0x([0-9a-f]{40})")


def _is_ipv6_extended(text: str) -> bool:
    return "[" in text or _IPV6_GENERIC.fullmatch(text) is not None


def parse_ipv6_extended(text: str) -> bytes:
    """The 20 octets of RFC 5701: ``rt:[IPV6]:N``, ``soo:[IPV6]:N`` with N up to 65535, or ``ext:0x`` and 40 digits."""
    word = text.strip().lower()
    generic = _IPV6_GENERIC.fullmatch(word)
    if generic is not None:
        return bytes.fromhex(generic[1])
    parts = _IPV6_WORDS.fullmatch(word)
    number = None if parts is None else parse_number(parts[3], MAX_U16)
    if parts is not None and number is not None:
        with contextlib.suppress(ipaddress.AddressValueError):
            address = ipaddress.IPv6Address(parts[2]).packed
            return bytes((_IPV6_ADDRESS, _SUBTYPES[parts[1]])) + address + number.to_bytes(2, "big")
    raise ValueError(
        f'{text!r}: expected "rt:[IPV6]:N" or "soo:[IPV6]:N" with N up to 65535, such as rt:[2001:db8::1]:7, '
        'or "ext:0x" and 40 hex digits'
    )


def format_extended(value: bytes) -> str:
    """Text that ``parse_extended`` takes back, of 20 octets ``parse_ipv6_extended``; ``ext:0x…`` if nothing better."""
    if len(value) == _IPV6_EXTENDED_LENGTH:
        return _format_ipv6_extended(value)
    kind, subtype = value[0], value[1]
    name = _SUBTYPE_NAMES.get(subtype)
    if name is not None:
        if kind == _TWO_OCTET_AS:
            asn, number = struct.unpack_from(">HI", value, 2)
            if asn:
                return f"{name}:{asn}:{number}"
        elif kind == _IPV4_ADDRESS:
            return f"{name}:{format_address(value[2:6])}:{int.from_bytes(value[6:], 'big')}"
        elif kind == _FOUR_OCTET_AS:
            asn, number = struct.unpack_from(">IH", value, 2)
            if asn:
                return f"{name}:{asn}{'L' if asn <= MAX_U16 else ''}:{number}"
    elif kind == _NON_TRANSITIVE_TWO_OCTET_AS and subtype == _LINK_BANDWIDTH:
        asn, rate = struct.unpack_from(">Hf", value, 2)
        if math.isfinite(rate) and math.copysign(1.0, rate) > 0:
            return f"bandwidth:{asn}:{format_float32(rate)}"
    return f"ext:0x{value.hex()}"


def _format_ipv6_extended(value: bytes) -> str:
    name = _SUBTYPE_NAMES.get(value[1])
    if name is not None and value[0] == _IPV6_ADDRESS:
        return f"{name}:[{format_address(value[2:18])}]:{int.from_bytes(value[18:], 'big')}"
    return f"ext:0x{value.hex()}"


def parse_float32(text: str) -> float | None:
    """A decimal number, not negative, rounded to the IEEE 754 single next to it; None for any other text."""
    if _DECIMAL.fullmatch(text) is None:
        return None
    return _to_float32(float(text))


def _to_float32(value: float) -> float | None:
    try:
        (single,) = struct.unpack(">f", struct.pack(">f", value))
    except OverflowError:
        return None
    return float(single) if math.isfinite(single) else None


def format_float32(value: float) -> str:
    """The shortest decimal text of this finite IEEE 754 single; whole numbers without an exponent."""
    if value.is_integer() and abs(value) < 1e12:
        return str(int(value))
    # 9 significant digits always suffice
    for digits in range(1, 9):
        text = f"{value:.{digits}g}"
        if _to_float32(float(text)) == value:
            return text
    return f"{value:.9g}"


# -- origin, router id, addresses --------------------------------------------------------------------------

_ORIGINS = {"igp": Origin.IGP, "egp": Origin.EGP, "incomplete": Origin.INCOMPLETE}
_ORIGIN_TEXTS = {value: text for text, value in _ORIGINS.items()}


def parse_origin(text: str) -> Origin:
    """RFC 4271 §5.1.1; the letter case does not matter (BGPd-rs writes ``IGP``)."""
    origin = _ORIGINS.get(text.strip().lower())
    if origin is None:
        raise ValueError(f"{text!r}: expected igp, egp or incomplete")
    return origin


def origin_text(value: int) -> str:
    return _ORIGIN_TEXTS[Origin(value)]


def _ipv4(text: str) -> bytes | None:
    try:
        return ipaddress.IPv4Address(text).packed
    except ipaddress.AddressValueError:
        return None


def parse_router_id(text: str) -> int:
    """A BGP Identifier: a dotted quad that is not 0.0.0.0 (RFC 6286 §2.1); the value is unsigned 32-bit."""
    packed = _ipv4(text.strip())
    if packed is None or packed == bytes(4):
        raise ValueError(f"{text!r}: expected a router id such as 192.0.2.1, not 0.0.0.0")
    return int.from_bytes(packed, "big")


def format_router_id(value: int) -> str:
    return str(ipaddress.IPv4Address(value))


def parse_address(text: str) -> bytes:
    """Packed: IPv4 (4 octets), IPv6 (16), or ``"global,link-local"`` (32, RFC 2545 §3); zones are refused."""
    first, comma, second = text.partition(",")
    try:
        head = ipaddress.ip_address(first.strip())
        tail = ipaddress.IPv6Address(second.strip()) if comma else None
    except ValueError:
        head, tail = None, None
    if head is None or "%" in text or (tail is not None and not (head.version == 6 and tail.is_link_local)):
        raise ValueError(
            f"{text!r}: expected an IPv4 or IPv6 address, or an IPv6 address, a comma and a link-local one"
        )
    return head.packed + (tail.packed if tail is not None else b"")


def format_address(packed: bytes) -> str:
    """The text of 4 or 16 octets; ``"global,link-local"`` of 32."""
    if len(packed) == 32:
        return f"{format_address(packed[:16])},{format_address(packed[16:])}"
    return str(ipaddress.ip_address(packed))
