"""Flow specifications: rules that match traffic, their order, and the actions on it. ``flowspec_text`` has the text.

A rule is an NLRI of its own (a length, then components in ascending order of type); its actions are extended
communities beside it. ``compare`` gives the order in which rules apply.

What RFC 8955 says of decoding is done here: reserved bits and padding are ignored, the AND bit of a first operator
counts as unset, widths that are only a SHOULD are accepted. What is left is malformed, by type: ``FramingError``
(where the next rule starts is unknown) or ``RuleError`` (this rule only). What happens then (RFC 7606 §5) is the
caller's business.

RFCs: 8955 (IPv4), 8956 (IPv6).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from enum import IntEnum
from functools import cmp_to_key
from itertools import pairwise
from typing import NamedTuple, TypeAlias, assert_never

from bgpbfd.core import AFI_IPV4, AFI_IPV6
from bgpbfd.wire.text import format_extended

MAX_RULE_LENGTH = 0xFFF  # RFC 8955 §4.1


class FlowspecError(ValueError):
    """Octets that are no flow specification; ``octets`` are those at fault."""

    def __init__(self, reason: str, octets: bytes) -> None:
        super().__init__(reason)
        self.octets = octets


class FramingError(FlowspecError):
    """A length reaches beyond the field: nothing behind it can be read."""


class RuleError(FlowspecError):
    """One rule is malformed; the rules around it are not touched."""


class ComponentType(IntEnum):
    """IANA's "Flow Spec Component Types"."""

    DESTINATION_PREFIX = 1
    SOURCE_PREFIX = 2
    IP_PROTOCOL = 3
    PORT = 4
    DESTINATION_PORT = 5
    SOURCE_PORT = 6
    ICMP_TYPE = 7
    ICMP_CODE = 8
    TCP_FLAGS = 9
    PACKET_LENGTH = 10
    DSCP = 11
    FRAGMENT = 12
    FLOW_LABEL = 13  # IPv6 only


KEYWORDS: dict[ComponentType, str] = {
    ComponentType.DESTINATION_PREFIX: "destination",
    ComponentType.SOURCE_PREFIX: "source",
    ComponentType.IP_PROTOCOL: "protocol",
    ComponentType.PORT: "port",
    ComponentType.DESTINATION_PORT: "destination-port",
    ComponentType.SOURCE_PORT: "source-port",
    ComponentType.ICMP_TYPE: "icmp-type",
    ComponentType.ICMP_CODE: "icmp-code",
    ComponentType.TCP_FLAGS: "tcp-flags",
    ComponentType.PACKET_LENGTH: "packet-length",
    ComponentType.DSCP: "dscp",
    ComponentType.FRAGMENT: "fragment",
    ComponentType.FLOW_LABEL: "flow-label",
}
"""How text names the types."""


class PrefixMatch(NamedTuple):
    """Types 1 and 2. ``pattern``: the bits from ``offset`` up to ``length``, left-aligned, padding 0.

    ``offset`` is 0 for IPv4 (RFC 8956 §3.1 has it for IPv6).
    """

    kind: ComponentType
    length: int
    offset: int
    pattern: bytes


class Term(NamedTuple):
    """One operator and value. ``conjunct``: ANDed with the term before it.

    ``operator``: LESS, GREATER and EQUAL, or NOT and MATCH in bitmasks. ``width``: the value's octets on the
    wire, 1, 2, 4 or 8.
    """

    operator: int
    value: int
    conjunct: bool = False
    width: int = 1


class ValueMatch(NamedTuple):
    """Types 3 to 13: the terms are ORed, after those that are ANDed."""

    kind: ComponentType
    terms: tuple[Term, ...]


Match: TypeAlias = PrefixMatch | ValueMatch

LESS, GREATER, EQUAL = 4, 2, 1  # numeric_op, RFC 8955 §4.2.1.1
NOT, MATCH = 2, 1  # bitmask_op, §4.2.1.2
_END_OF_LIST = 0x80
_AND = 0x40
_NUMERIC_BITS = LESS | GREATER | EQUAL
_BITMASK_BITS = NOT | MATCH

PREFIXES = (ComponentType.DESTINATION_PREFIX, ComponentType.SOURCE_PREFIX)
BITMASKS = (ComponentType.TCP_FLAGS, ComponentType.FRAGMENT)
# §4.2.2.9, 11, 12: the widths that are a MUST; the other types have only a SHOULD
_MAX_WIDTH = {ComponentType.TCP_FLAGS: 2, ComponentType.DSCP: 1, ComponentType.FRAGMENT: 1}
_WIDTH_CODE = {1: 0x00, 2: 0x10, 4: 0x20, 8: 0x30}


class FlowRule(NamedTuple):
    """The components of one rule, ascending by type, each type once. ``of`` makes it from any order."""

    afi: int
    matches: tuple[Match, ...]

    @classmethod
    def of(cls, afi: int, matches: Iterable[Match]) -> FlowRule:
        """Raises ValueError when a type comes twice, or none at all."""
        ordered = tuple(sorted(matches, key=lambda match: match.kind))
        for before, after in pairwise(ordered):
            if before.kind == after.kind:
                raise ValueError(f"{KEYWORDS[before.kind]}: only once in a rule; join its values in one match")
        if not ordered:
            raise ValueError("expected at least one match in a rule, such as destination 192.0.2.0/24")
        return cls(afi, ordered)


# -- NLRI --------------------------------------------------------------------------------------------------


def split_nlri(data: bytes) -> list[bytes]:
    """The rules of an NLRI field, each without its length (RFC 8955 §4.1). Raises FramingError."""
    rules: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        length = data[at]
        body = at + 1
        if length >= 0xF0:
            if body == end:
                raise FramingError("flow specification: half a length", data[at:])
            length = (length & 0x0F) << 8 | data[body]
            body += 1
        if body + length > end:
            raise FramingError(f"flow specification: length {length} with {end - body} left", data[at:])
        rules.append(data[body : body + length])
        at = body + length
    return rules


def frame_rule(rule: bytes) -> bytes:
    """A rule's octets with the length before them; raises ValueError above 4095 octets."""
    length = len(rule)
    if length < 0xF0:
        return bytes((length,)) + rule
    if length > MAX_RULE_LENGTH:
        raise ValueError(f"a flow specification of {length} octets; expected at most {MAX_RULE_LENGTH}")
    return struct.pack(">H", 0xF000 | length) + rule


def decode_rule(afi: int, rule: bytes) -> FlowRule:
    """One rule without its length (RFC 8955 §4.2, RFC 8956 §3). Raises RuleError."""
    matches: list[Match] = []
    at, last = 0, 0
    while at < len(rule):
        code = rule[at]
        if not 1 <= code <= (13 if afi == AFI_IPV6 else 12):
            raise RuleError(f"flow specification: unknown component type {code}", rule)
        if code <= last:
            raise RuleError(f"flow specification: component type {code} after {last}", rule)
        last = code
        kind = ComponentType(code)
        match: Match
        if kind in PREFIXES:
            match, at = _pull_prefix(afi, kind, rule, at + 1)
        else:
            match, at = _pull_values(afi, kind, rule, at + 1)
        matches.append(match)
    if not matches:
        raise RuleError("flow specification without components", rule)
    return FlowRule(afi, tuple(matches))


def _pull_prefix(afi: int, kind: ComponentType, rule: bytes, at: int) -> tuple[PrefixMatch, int]:
    head = 1 if afi == AFI_IPV4 else 2
    if at + head > len(rule):
        raise RuleError("flow specification: prefix cut short", rule)
    length = rule[at]
    offset = 0 if afi == AFI_IPV4 else rule[at + 1]
    at += head
    # RFC 8956 §3.1: offset < length ≤ 128, or both 0
    if length > (32 if afi == AFI_IPV4 else 128) or (offset >= length and (length, offset) != (0, 0)):
        raise RuleError(f"flow specification: prefix length {length}, offset {offset}", rule)
    end = at + (length - offset + 7) // 8
    if end > len(rule):
        raise RuleError("flow specification: prefix cut short", rule)
    return PrefixMatch(kind, length, offset, _masked(rule[at:end], length - offset)), end


def _masked(octets: bytes, bits: int) -> bytes:
    spare = -bits % 8
    return octets[:-1] + bytes((octets[-1] >> spare << spare,)) if spare else octets


def _pull_values(afi: int, kind: ComponentType, rule: bytes, at: int) -> tuple[ValueMatch, int]:
    terms: list[Term] = []
    bits = _BITMASK_BITS if kind in BITMASKS else _NUMERIC_BITS
    mask = _value_mask(afi, kind)
    while True:
        if at >= len(rule):
            raise RuleError("flow specification: no end of the operator list", rule)
        operator = rule[at]
        width = 1 << (operator >> 4 & 3)
        if width > _MAX_WIDTH.get(kind, 8):
            raise RuleError(f"flow specification: {width}-octet value in component type {int(kind)}", rule)
        end = at + 1 + width
        if end > len(rule):
            raise RuleError("flow specification: value cut short", rule)
        value = int.from_bytes(rule[at + 1 : end], "big") & mask
        # §4.2.1.1: the AND bit of the first operator is always treated as unset
        terms.append(Term(operator & bits, value, bool(operator & _AND) and bool(terms), width))
        at = end
        if operator & _END_OF_LIST:
            return ValueMatch(kind, tuple(terms)), at


def _value_mask(afi: int, kind: ComponentType) -> int:
    """The bits that count; the others are ignored when received (§4.2.2.9, 11, 12, RFC 8956 §3.6)."""
    if kind == ComponentType.TCP_FLAGS:
        return 0x0FFF
    if kind == ComponentType.DSCP:
        return 0x3F
    if kind == ComponentType.FRAGMENT:
        return 0x0F if afi == AFI_IPV4 else 0x0E
    return (1 << 64) - 1


def encode_rule(rule: FlowRule) -> bytes:
    """The rule without its length: what ``frame_rule`` takes, and the rule's identity."""
    return b"".join(bytes((match.kind,)) + _encode_match(rule.afi, match) for match in rule.matches)


def decode_nlri(afi: int, nlri: bytes) -> FlowRule:
    """One rule with its length before it, as UPDATEs carry it. Raises FramingError or RuleError."""
    bodies = split_nlri(nlri)
    if len(bodies) != 1:
        raise FramingError(f"{len(bodies)} flow specifications; expected one", nlri)
    return decode_rule(afi, bodies[0])


def encode_nlri(rule: FlowRule) -> bytes:
    """The rule with its length before it; raises ValueError above 4095 octets."""
    return frame_rule(encode_rule(rule))


def _encode_match(afi: int, match: Match) -> bytes:
    if isinstance(match, PrefixMatch):
        head = (match.length,) if afi == AFI_IPV4 else (match.length, match.offset)
        return bytes(head) + match.pattern
    octets = bytearray()
    for index, term in enumerate(match.terms):
        operator = term.operator | _WIDTH_CODE[term.width]
        if term.conjunct and index:
            operator |= _AND
        if index == len(match.terms) - 1:
            operator |= _END_OF_LIST
        octets.append(operator)
        octets += term.value.to_bytes(term.width, "big")
    return bytes(octets)


# -- order -------------------------------------------------------------------------------------------------


def compare(first: FlowRule, second: FlowRule) -> int:
    """RFC 8955 §5.1, RFC 8956 §4: below 0 when ``first`` has precedence, above 0 when ``second`` has, else 0."""
    for mine, other in zip(first.matches, second.matches, strict=False):
        if mine.kind != other.kind:
            return mine.kind - other.kind
        if isinstance(mine, PrefixMatch) and isinstance(other, PrefixMatch):
            verdict = _compare_prefixes(mine, other)
        else:
            verdict = _compare_octets(_encode_match(first.afi, mine), _encode_match(second.afi, other))
        if verdict:
            return verdict
    # a rule that has a component where the other has none comes first
    return len(second.matches) - len(first.matches)


precedence = cmp_to_key(compare)
"""A sort key: ``sorted(rules, key=precedence)`` has the rule that applies first in front."""


def _compare_prefixes(mine: PrefixMatch, other: PrefixMatch) -> int:
    if mine.offset != other.offset:
        return mine.offset - other.offset
    common = min(mine.length, other.length) - mine.offset
    low, high = leading_bits(mine.pattern, common), leading_bits(other.pattern, common)
    if low != high:
        return -1 if low < high else 1
    return other.length - mine.length


def leading_bits(octets: bytes, bits: int) -> int:
    """The first ``bits`` of the octets as a number."""
    return int.from_bytes(octets, "big") >> (len(octets) * 8 - bits)


def _compare_octets(mine: bytes, other: bytes) -> int:
    common = min(len(mine), len(other))
    if mine[:common] != other[:common]:
        return -1 if mine[:common] < other[:common] else 1
    return len(other) - len(mine)


# -- actions -----------------------------------------------------------------------------------------------


class TrafficRate(NamedTuple):
    """RFC 8955 §7.1, §7.2. ``rate`` in bytes/s, or packets/s; 0 drops. ``asn``: who set it, informative."""

    rate: float
    packets: bool = False
    asn: int = 0


class TrafficAction(NamedTuple):
    """§7.3. ``more``: the T bit, with which later rules are looked at as well."""

    sample: bool
    more: bool


class Redirect(NamedTuple):
    """§7.4, RFC 8956 §6.1: to the VRF that imports this route target.

    ``target``: 8 octets, a route target (types 0x0002, 0x0102, 0x0202), or the IPv6 address and number, 18 octets.
    """

    target: bytes


class Mark(NamedTuple):
    """§7.5: set the DSCP."""

    dscp: int


Action: TypeAlias = TrafficRate | TrafficAction | Redirect | Mark

_RATE_BYTES, _RATE_PACKETS, _ACTION, _REDIRECT, _MARK = 0x06, 0x0C, 0x07, 0x08, 0x09
_EXPERIMENTAL = 0x80  # RFC 7153 §5.2.1; 0x81 and 0x82 are its parts 2 and 3
_REDIRECT_IPV6 = b"\x00\x0d"


def encode_action(action: Action) -> bytes:
    """An extended community, 8 octets; of a redirect to an IPv6 target, 20 octets for attribute 25 (RFC 5701)."""
    match action:
        case TrafficRate(rate, packets, asn):
            return struct.pack(">BBHf", _EXPERIMENTAL, _RATE_PACKETS if packets else _RATE_BYTES, asn, rate)
        case TrafficAction(sample, more):
            return bytes((_EXPERIMENTAL, _ACTION, 0, 0, 0, 0, 0, sample << 1 | more))
        case Redirect(target):
            if len(target) == 18:
                return _REDIRECT_IPV6 + target
            return bytes((_EXPERIMENTAL | target[0], _REDIRECT)) + target[2:]
        case Mark(dscp):
            return bytes((_EXPERIMENTAL, _MARK, 0, 0, 0, 0, 0, dscp))
        case _:
            assert_never(action)


def decode_action(community: bytes) -> Action | None:
    """What an extended community (8 octets, or 20 of attribute 25) asks for; None where that is no flow action.

    None, too, for a rate that is no number and a redirect to AS 0: they cannot be acted on (RFC 8955 §10).
    """
    if len(community) == 20:
        return Redirect(community[2:]) if community[:2] == _REDIRECT_IPV6 else None
    kind, subtype = community[0], community[1]
    if subtype == _REDIRECT and _EXPERIMENTAL <= kind <= _EXPERIMENTAL + 2:
        target = bytes((kind & 0x0F, 0x02)) + community[2:]
        return Redirect(target) if format_extended(target).startswith("rt:") else None
    if kind != _EXPERIMENTAL:
        return None
    if subtype in {_RATE_BYTES, _RATE_PACKETS}:
        asn, rate = struct.unpack_from(">Hf", community, 2)
        # §7.1: negative is treated as 0
        return TrafficRate(max(rate, 0.0) + 0.0, subtype == _RATE_PACKETS, asn) if math.isfinite(rate) else None
    if subtype == _ACTION:
        return TrafficAction(bool(community[7] & 2), bool(community[7] & 1))
    if subtype == _MARK:
        return Mark(community[7] & 0x3F)
    return None
