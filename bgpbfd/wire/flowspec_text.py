"""Flow specifications as text, in BGPd-rs's syntax and beyond it.

``destination-port >8000 <=8080``: a space (or ``&``) means AND, ``|`` is OR and binds less tightly (RFC 8955
§4.2.1.1); a bare number means ``=``. In ``tcp-flags`` and ``fragment`` a bare value means any of its bits, ``=`` all
of them, ``!`` none of them, ``!=`` not all of them. IPv6 prefixes take an offset: ``::1:0:0/96/64``.

Every ``parse_*`` raises ValueError with a text that says what would be right.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import assert_never

from bgpbfd.core import AFI_IPV4, AFI_IPV6, SAFI_FLOW, Prefix
from bgpbfd.wire import text as words
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.flowspec import (
    BITMASKS,
    KEYWORDS,
    NOT,
    PREFIXES,
    Action,
    ComponentType,
    FlowRule,
    FlowspecError,
    Mark,
    Match,
    PrefixMatch,
    Redirect,
    Term,
    TrafficAction,
    TrafficRate,
    ValueMatch,
    decode_action,
    decode_nlri,
    leading_bits,
)

_KINDS = {keyword: kind for kind, keyword in KEYWORDS.items()} | {
    "next-header": ComponentType.IP_PROTOCOL,
    "traffic-class": ComponentType.DSCP,
}
_MAX_VALUE = {
    ComponentType.IP_PROTOCOL: 0xFF,
    ComponentType.ICMP_TYPE: 0xFF,
    ComponentType.ICMP_CODE: 0xFF,
    ComponentType.TCP_FLAGS: 0x0FFF,
    ComponentType.DSCP: 0x3F,
    ComponentType.FRAGMENT: 0x0F,
    ComponentType.FLOW_LABEL: 0xFFFFF,
}
_PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "ospf": 89,
    "sctp": 132,
}
_TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
_FRAGMENTS = {"dont-fragment": 1, "is-fragment": 2, "first-fragment": 4, "last-fragment": 8}
_VALUE_NAMES = {
    ComponentType.IP_PROTOCOL: _PROTOCOLS,
    ComponentType.TCP_FLAGS: _TCP_FLAGS,
    ComponentType.FRAGMENT: _FRAGMENTS,
}
_NUMERIC_TEXT = ("!<=>", "=", ">", ">=", "<", "<=", "!=", "<=>")  # by operator; the ends match never and always
_BITMASK_TEXT = ("", "=", "!", "!=")
_NUMERIC_SPELLINGS = {frozenset(text): value for value, text in enumerate(_NUMERIC_TEXT)} | {frozenset("<>"): 6}
_TOKEN = re.compile(r"[&|]|[^\s&|]+")
_TERM = re.compile(r"([<>=!]*)([^<>=!]+)")


def parse_rule(afi: int, matches: Iterable[str]) -> FlowRule:
    """A rule from its matches in any order; raises ValueError that says what would be right."""
    return FlowRule.of(afi, [parse_match(afi, match) for match in matches])


def format_rule(rule: FlowRule) -> list[str]:
    """The matches as text, which ``parse_rule`` takes back (widths apart: it picks the shortest)."""
    return [format_match(rule.afi, match) for match in rule.matches]


def nlri_text(prefix: Prefix) -> str:
    """What a route is for, in words: a prefix, or a rule's matches with commas between; hex where it is malformed."""
    if prefix.safi != SAFI_FLOW:
        return str(prefix)
    return ", ".join(nlri_matches(prefix))


def nlri_matches(prefix: Prefix) -> list[str]:
    """The matches of a rule's NLRI; of a malformed one its octets, ``0x…``."""
    try:
        return format_rule(decode_nlri(prefix.afi, prefix.nlri))
    except FlowspecError:
        return [f"0x{prefix.nlri.hex()}"]


def parse_match(afi: int, text: str) -> Match:
    """One match: ``source 192.0.2.0/24``, ``destination ::1:0:0/96/64`` (length, offset), ``port =80 | =443``."""
    keyword, _, rest = text.strip().lower().partition(" ")
    kind = _KINDS.get(keyword)
    if kind is None:
        raise ValueError(f"{text!r}: expected a match that starts with one of {', '.join(KEYWORDS.values())}")
    if kind == ComponentType.FLOW_LABEL and afi == AFI_IPV4:
        raise ValueError(f"{text!r}: flow-label is for IPv6 flows only (afi = 2)")
    if kind in PREFIXES:
        return _parse_prefix(afi, kind, rest.strip())
    return _parse_values(afi, kind, text, rest)


def _parse_prefix(afi: int, kind: ComponentType, text: str) -> PrefixMatch:
    family = ipaddress.IPv4Address if afi == AFI_IPV4 else ipaddress.IPv6Address
    bits = 32 if afi == AFI_IPV4 else 128
    address_text, _, rest = text.partition("/")
    length_text, slash, offset_text = rest.partition("/")
    length = words.parse_number(length_text, bits) if rest else bits
    offset = words.parse_number(offset_text, bits - 1) if slash else 0
    try:
        address: int | None = None if "%" in address_text else int(family(address_text))
    except ipaddress.AddressValueError:
        address = None
    if address is None or length is None or offset is None or (slash and (afi == AFI_IPV4 or offset >= length)):
        example = "192.0.2.0/24" if afi == AFI_IPV4 else "2001:db8::/32, or with an offset ::1:0:0/96/64"
        raise ValueError(f"{KEYWORDS[kind]} {text!r}: expected an IPv{4 if afi == AFI_IPV4 else 6} prefix, {example}")
    if address & ((1 << bits - length) - 1) or (address >> bits - offset if offset else 0):
        mask = ((1 << length - offset) - 1) << bits - length
        right = f"{family(address & mask)}/{length}" + (f"/{offset}" if offset else "")
        raise ValueError(f"{KEYWORDS[kind]} {text!r}: has bits outside its length; expected {right}")
    size = length - offset
    octets = (size + 7) // 8
    pattern = (address >> bits - length << octets * 8 - size).to_bytes(octets, "big")
    return PrefixMatch(kind, length, offset, pattern)


def _parse_values(afi: int, kind: ComponentType, text: str, rest: str) -> ValueMatch:
    terms: list[Term] = []
    joint: str | None = None
    for token in _TOKEN.findall(rest):
        if token in {"&", "|"}:
            if joint is not None or not terms:
                raise ValueError(f"{text!r}: expected a value on both sides of {token!r}")
            joint = token
            continue
        operator, value = _parse_term(afi, kind, text, token)
        terms.append(Term(operator, value, bool(terms) and joint != "|", _width(kind, value)))
        joint = None
    if joint is not None or not terms:
        raise ValueError(f"{text!r}: expected a value at the end, such as {_EXAMPLES.get(kind, '=80')}")
    return ValueMatch(kind, tuple(terms))


_EXAMPLES = {
    ComponentType.TCP_FLAGS: "=syn+ack, !rst or 0x02",
    ComponentType.FRAGMENT: "is-fragment or first-fragment+last-fragment",
    ComponentType.IP_PROTOCOL: "=tcp or =17",
}


def _parse_term(afi: int, kind: ComponentType, text: str, token: str) -> tuple[int, int]:
    if kind == ComponentType.FRAGMENT and token == "not-a-fragment":
        return NOT, _FRAGMENTS["is-fragment"]
    parts = _TERM.fullmatch(token)
    operator: int | None = None
    value: int | None = None
    if parts is not None:
        signs = parts[1]
        if kind in BITMASKS:
            operator = _BITMASK_TEXT.index(signs) if signs in _BITMASK_TEXT else None
        elif len(set(signs)) == len(signs):
            operator = _NUMERIC_SPELLINGS.get(frozenset(signs or "="))
        value = _parse_value(kind, parts[2])
    maximum = _MAX_VALUE.get(kind, words.MAX_U16)
    if operator is None or value is None or value > maximum:
        example = _EXAMPLES.get(kind, "=80, >8000 or <=8080")
        raise ValueError(f"{text!r}: {token!r}: expected a value up to {maximum}, such as {example}")
    if kind == ComponentType.FRAGMENT and afi == AFI_IPV6 and value & 1:
        raise ValueError(f"{text!r}: IPv6 has no dont-fragment (RFC 8956 §3.6)")
    return operator, value


def _parse_value(kind: ComponentType, text: str) -> int | None:
    names = _VALUE_NAMES.get(kind, {})
    if text in names:
        return names[text]
    if kind in BITMASKS:
        flags = text.split("+")
        if all(flag in names for flag in flags):
            return sum({names[flag] for flag in flags})
        if re.fullmatch(r"0x[0-9a-f]{1,4}", text):
            return int(text, 16)
    return words.parse_number(text, words.MAX_U32)


def _width(kind: ComponentType, value: int) -> int:
    if kind == ComponentType.FLOW_LABEL:
        return 4  # RFC 8956 §3.7
    return 1 if value <= 0xFF else 2


def format_match(afi: int, match: Match) -> str:
    keyword = KEYWORDS[match.kind]
    if isinstance(match, PrefixMatch):
        bits = 32 if afi == AFI_IPV4 else 128
        size = match.length - match.offset
        address = leading_bits(match.pattern, size) << bits - match.length
        packed = address.to_bytes(bits // 8, "big")
        offset = f"/{match.offset}" if match.offset else ""
        return f"{keyword} {words.format_address(packed)}/{match.length}{offset}"
    shown = [keyword]
    for term in match.terms:
        if len(shown) > 1 and not term.conjunct:
            shown.append("|")
        shown.append(_format_term(match.kind, term))
    return " ".join(shown)


def _format_term(kind: ComponentType, term: Term) -> str:
    if kind not in BITMASKS:
        return f"{_NUMERIC_TEXT[term.operator]}{term.value}"
    names = _VALUE_NAMES[kind]
    known = [name for name, bit in names.items() if term.value & bit]
    exact = known and sum(names[name] for name in known) == term.value
    return _BITMASK_TEXT[term.operator] + ("+".join(known) if exact else f"0x{term.value:02x}")


# -- actions -----------------------------------------------------------------------------------------------

_ACTION_HINT = (
    "expected traffic-rate BYTES_PER_SECOND, traffic-rate-packets PACKETS_PER_SECOND, discard, "
    "traffic-action sample|continue, redirect AS:N or mark DSCP"
)
_IPV6_TARGET = re.compile(r"\[([0-9a-f:.]+)\]:([0-9]+)")


def parse_actions(text: str) -> tuple[Action, ...]:
    """``traffic-rate 24000``, or several with commas between: ``traffic-rate 24000, mark 10``."""
    return tuple(_parse_action(part) for part in text.split(","))


def format_actions(actions: Iterable[Action]) -> str:
    """``parse_actions`` takes it back."""
    return ", ".join(map(_format_action, actions))


def split_actions(attributes: PathAttributes) -> tuple[list[Action], list[bytes]]:
    """The actions among a rule's extended communities, and those communities (8 or 20 octets) that are none."""
    actions: list[Action] = []
    rest: list[bytes] = []
    for community in (*attributes.extended_communities, *attributes.ipv6_extended_communities):
        action = decode_action(community)
        if action is None:
            rest.append(community)
        else:
            actions.append(action)
    return actions, rest


def _parse_action(text: str) -> Action:
    name, *arguments = text.lower().split() or [""]
    match name, arguments:
        case "discard", []:
            return TrafficRate(0.0)
        case "traffic-rate" | "traffic-rate-packets", [rate_text, *rest]:
            rate = words.parse_float32(rate_text)
            asn = words.parse_number(rest[1], words.MAX_U16) if len(rest) == 2 and rest[0] == "as" else None
            if rate is not None and (asn is not None or not rest):
                return TrafficRate(rate, name == "traffic-rate-packets", asn or 0)
        case "traffic-action", [_, *_]:
            if "terminal" in arguments:
                raise ValueError(
                    f'{text.strip()!r}: the bit that RFC 8955 §7.3 names "terminal" makes later rules count '
                    'as well; write "traffic-action continue" for it'
                )
            if set(arguments) <= {"sample", "continue", "none"}:
                return TrafficAction("sample" in arguments, "continue" in arguments)
        case "redirect", [target]:
            return Redirect(_parse_target(target))
        case "mark", [dscp_text]:
            dscp = words.parse_number(dscp_text, 0x3F)
            if dscp is not None:
                return Mark(dscp)
            raise ValueError(f"{text.strip()!r}: expected mark and a DSCP from 0 to 63")
    raise ValueError(f"{text.strip()!r}: {_ACTION_HINT}")


def _parse_target(text: str) -> bytes:
    parts = _IPV6_TARGET.fullmatch(text)
    if parts is None:
        return words.parse_extended(f"rt:{text}")
    number = words.parse_number(parts[2], words.MAX_U16)
    try:
        address: bytes | None = ipaddress.IPv6Address(parts[1]).packed
    except ipaddress.AddressValueError:
        address = None
    if number is None or address is None:
        raise ValueError(f"redirect {text!r}: expected [IPV6_ADDRESS]:N with N up to 65535")
    return address + number.to_bytes(2, "big")


def _format_action(action: Action) -> str:
    match action:
        case TrafficRate(rate, packets, asn):
            name = "traffic-rate-packets" if packets else "traffic-rate"
            return f"{name} {words.format_float32(rate)}" + (f" as {asn}" if asn else "")
        case TrafficAction(sample, more):
            return f"traffic-action {' '.join(['sample'] * sample + ['continue'] * more) or 'none'}"
        case Redirect(target):
            if len(target) == 18:
                number = int.from_bytes(target[16:], "big")
                return f"redirect [{words.format_address(target[:16])}]:{number}"
            return f"redirect {words.format_extended(target).removeprefix('rt:')}"
        case Mark(dscp):
            return f"mark {dscp}"
        case _:
            assert_never(action)
