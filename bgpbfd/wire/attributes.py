"""Path attributes (RFC 4271 §4.3, §5; RFC 7606 for what is malformed).

A table of descriptors carries what is regular: name, flags, how to read and write the value, and how bad a malformed
one is. RFC 1997, RFC 4360, RFC 4456, RFC 5065 (read only), RFC 5701, RFC 6793, RFC 7311 (discarded), RFC 7606,
RFC 7607, RFC 8092, RFC 9234 (carried). MP_REACH_NLRI and MP_UNREACH_NLRI are the business of ``wire.update``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from bgpbfd.wire.as_path import (
    CONFED_KINDS,
    MalformedAttribute,
    Segment,
    merge_as4_path,
    path_length,
    pull_as_path,
    push_as_path,
)
from bgpbfd.wire.attribute_values import (
    PathAttributes,
    UnknownAttribute,
    pull_address,
    pull_aggregator,
    pull_as4_aggregator,
    pull_as4_path,
    pull_communities,
    pull_flag,
    pull_large_communities,
    pull_octets,
    pull_origin,
    pull_uint32,
    push_aggregator,
    push_as4_aggregator,
    push_as4_path,
    push_communities,
    push_large_communities,
    push_uint32,
)
from bgpbfd.wire.iana import AS_TRANS, AttributeCode, ErrorCode, UpdateSubcode
from bgpbfd.wire.messages import NotificationError

__all__ = [
    "ATTRIBUTES",
    "OPTIONAL",
    "PARTIAL",
    "SPECS",
    "TRANSITIVE",
    "AttrSpec",
    "AttributeFault",
    "DecodedAttributes",
    "MalformedAttribute",
    "PathAttributes",
    "RawAttribute",
    "Segment",
    "Treatment",
    "UnknownAttribute",
    "decode_attributes",
    "encode_attribute",
    "encode_attributes",
    "merge_as4_path",
    "missing",
    "path_length",
    "split_attributes",
]

OPTIONAL = 0x80
TRANSITIVE = 0x40
PARTIAL = 0x20
EXTENDED_LENGTH = 0x10
WELL_KNOWN = TRANSITIVE


class Treatment(StrEnum):
    """What a fault does, RFC 7606 §2; ``IGNORED`` is for what is no error but is not used."""

    SESSION_RESET = "session-reset"
    AFI_SAFI_DISABLE = "afi-safi-disable"
    TREAT_AS_WITHDRAW = "treat-as-withdraw"
    ATTRIBUTE_DISCARD = "attribute-discard"
    IGNORED = "ignored"


class AttributeFault(NamedTuple):
    """``octets``: the attribute as received (all of them where one is missing); ``data``: a NOTIFICATION's Data."""

    treatment: Treatment
    code: int | None
    subcode: UpdateSubcode
    reason: str
    octets: bytes
    data: bytes


@dataclass(slots=True)
class DecodedAttributes:
    """A block of attributes without 14 and 15. ``attributes`` is None when they have to be treated as withdrawn."""

    attributes: PathAttributes | None
    has_next_hop: bool = False
    faults: list[AttributeFault] = field(default_factory=list)

    @property
    def withdraw(self) -> AttributeFault | None:
        """The first fault that asks for treat-as-withdraw."""
        if not self.faults:
            return None
        return next((f for f in self.faults if f.treatment is Treatment.TREAT_AS_WITHDRAW), None)


# -- the table ---------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class AttrSpec:
    """``field`` of PathAttributes that ``decode`` fills; ``encode`` gives None where there is nothing to send.

    Both take whether the session's AS numbers have 4 octets. ``treatment`` is for a malformed value; ``internal``
    attributes are always discarded when they come over eBGP; ``two_octet`` ones when they come over an AS4 session.
    """

    code: int
    name: str
    flags: int
    field: str
    decode: Callable[[bytes, bool], Any]
    encode: Callable[[PathAttributes, bool], bytes | None]
    treatment: Treatment = Treatment.TREAT_AS_WITHDRAW
    internal: bool = False
    two_octet: bool = False


_D = Treatment.ATTRIBUTE_DISCARD
_OT = OPTIONAL | TRANSITIVE
_C = AttributeCode

ATTRIBUTES: tuple[AttrSpec, ...] = (
    AttrSpec(_C.ORIGIN, "ORIGIN", WELL_KNOWN, "origin", pull_origin, lambda a, w: bytes((a.origin,))),
    AttrSpec(_C.AS_PATH, "AS_PATH", WELL_KNOWN, "as_path", pull_as_path, lambda a, w: push_as_path(a.as_path, w)),
    # Written by encode_attributes' caller's choice: only beside the NLRI field
    AttrSpec(_C.NEXT_HOP, "NEXT_HOP", WELL_KNOWN, "next_hop", pull_address, lambda a, w: a.next_hop),
    AttrSpec(_C.MULTI_EXIT_DISC, "MULTI_EXIT_DISC", OPTIONAL, "med", pull_uint32, lambda a, w: push_uint32(a.med)),
    AttrSpec(
        _C.LOCAL_PREF,
        "LOCAL_PREF",
        WELL_KNOWN,
        "local_pref",
        pull_uint32,
        lambda a, w: push_uint32(a.local_pref),
        internal=True,
    ),
    AttrSpec(
        _C.ATOMIC_AGGREGATE,
        "ATOMIC_AGGREGATE",
        WELL_KNOWN,
        "atomic_aggregate",
        pull_flag,
        lambda a, w: b"" if a.atomic_aggregate else None,
        _D,
    ),
    AttrSpec(_C.AGGREGATOR, "AGGREGATOR", _OT, "aggregator", pull_aggregator, push_aggregator, _D),
    AttrSpec(_C.COMMUNITIES, "COMMUNITIES", _OT, "communities", pull_communities, push_communities),
    AttrSpec(
        _C.ORIGINATOR_ID,
        "ORIGINATOR_ID",
        OPTIONAL,
        "originator_id",
        pull_address,
        lambda a, w: a.originator_id,
        internal=True,
    ),
    AttrSpec(
        _C.CLUSTER_LIST,
        "CLUSTER_LIST",
        OPTIONAL,
        "cluster_list",
        pull_octets(4),
        lambda a, w: b"".join(a.cluster_list) or None,
        internal=True,
    ),
    AttrSpec(
        _C.EXTENDED_COMMUNITIES,
        "EXTENDED_COMMUNITIES",
        _OT,
        "extended_communities",
        pull_octets(8),
        lambda a, w: b"".join(a.extended_communities) or None,
    ),
    AttrSpec(_C.AS4_PATH, "AS4_PATH", _OT, "as4_path", pull_as4_path, push_as4_path, _D, two_octet=True),
    AttrSpec(
        _C.AS4_AGGREGATOR,
        "AS4_AGGREGATOR",
        _OT,
        "as4_aggregator",
        pull_as4_aggregator,
        push_as4_aggregator,
        _D,
        two_octet=True,
    ),
    AttrSpec(
        _C.IPV6_EXTENDED_COMMUNITIES,
        "IPV6_EXTENDED_COMMUNITIES",
        _OT,
        "ipv6_extended_communities",
        pull_octets(20),
        lambda a, w: b"".join(a.ipv6_extended_communities) or None,
    ),
    AttrSpec(
        _C.LARGE_COMMUNITIES,
        "LARGE_COMMUNITIES",
        _OT,
        "large_communities",
        pull_large_communities,
        push_large_communities,
    ),
    AttrSpec(
        _C.ONLY_TO_CUSTOMER,
        "ONLY_TO_CUSTOMER",
        _OT,
        "only_to_customer",
        pull_uint32,
        lambda a, w: push_uint32(a.only_to_customer),
    ),
)
SPECS: dict[int, AttrSpec] = {int(spec.code): spec for spec in ATTRIBUTES}
_NAMES = {int(code): code.name for code in AttributeCode}

# -- receiving ---------------------------------------------------------------------------------------------

RawAttribute: TypeAlias = tuple[int, int, int, int, int]
"""flags, code, and where in the block the attribute starts, its value starts, and it ends."""


def split_attributes(block: bytes) -> tuple[list[RawAttribute], str | None]:
    """The attributes of ``block``, and what cut the walk short (RFC 7606 §4); then the last one may be the attribute
    that was cut, with an end past the block.
    """
    items: list[RawAttribute] = []
    position = 0
    end = len(block)
    while position < end:
        left = end - position
        if left < 3 or (block[position] & EXTENDED_LENGTH and left < 4):
            if left > 1:
                items.append((block[position], block[position + 1], position, end, end + 1))
            return items, f"{left} octets left for an attribute"
        flags = block[position]
        code = block[position + 1]
        if flags & EXTENDED_LENGTH:
            start = position + 4
            following = start + (block[position + 2] << 8 | block[position + 3])
        else:
            start = position + 3
            following = start + block[position + 2]
        items.append((flags, code, position, start, following))
        if following > end:
            return items, f"attribute {code} runs past the attributes"
        position = following
    return items, None


def decode_attributes(
    block: bytes, items: Sequence[RawAttribute], *, asn4: bool, external: bool, remote_asn: int
) -> DecodedAttributes:
    """Read and check the attributes ``items`` of ``block`` (14 and 15 are not among them).

    ``remote_asn`` 0 leaves the first AS of the path unchecked. Raises NotificationError 3/2 for an unknown well-known.
    """
    values: dict[str, Any] = {}
    partial: set[int] = set()
    unknown: list[UnknownAttribute] = []
    faults: list[AttributeFault] = []
    seen: set[int] = set()

    def fault(treatment: Treatment, code: int, subcode: UpdateSubcode, reason: str, octets: bytes) -> None:
        name = _NAMES.get(code) or f"attribute {code}"
        data = b"" if subcode is UpdateSubcode.MALFORMED_AS_PATH else octets
        faults.append(AttributeFault(treatment, code, subcode, f"{name}: {reason}", octets, data))

    for flags, code, position, start, end in items:
        if code in seen:
            # RFC 7606 §3 g: all but the first occurrence are discarded
            subcode = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
            fault(Treatment.ATTRIBUTE_DISCARD, code, subcode, "came twice", block[position:end])
            continue
        seen.add(code)
        spec = SPECS.get(code)
        if spec is None:
            if code == AttributeCode.AIGP:
                # RFC 7311 §3.3: on a session without AIGP it is not used and not passed on, well-formed or not
                reason = "not enabled on this session"
                fault(Treatment.ATTRIBUTE_DISCARD, code, UpdateSubcode.OPTIONAL_ATTRIBUTE, reason, block[position:end])
                continue
            if not flags & OPTIONAL:
                raise NotificationError(
                    ErrorCode.UPDATE_MESSAGE,
                    UpdateSubcode.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
                    block[position:end],
                    f"attribute {code} is well-known and unknown",
                    block[position:end],
                    code,
                )
            if flags & TRANSITIVE:
                # RFC 4271 §5: passed on with the Partial bit set
                unknown.append(UnknownAttribute(_OT | PARTIAL, code, block[start:end]))
            else:
                # RFC 4271 §6.3: "quietly ignored and not passed along"
                reason = "unknown and non-transitive"
                fault(Treatment.IGNORED, code, UpdateSubcode.OPTIONAL_ATTRIBUTE, reason, block[position:end])
            continue
        if (external and spec.internal) or (asn4 and spec.two_octet):
            # RFC 7606 §7.5, §7.9, §7.10; RFC 6793 §4.1
            reason = "not from this kind of peer"
            fault(Treatment.ATTRIBUTE_DISCARD, code, UpdateSubcode.OPTIONAL_ATTRIBUTE, reason, block[position:end])
            continue
        if (flags ^ spec.flags) & _OT:
            subcode = UpdateSubcode.ATTRIBUTE_FLAGS
            reason = f"flags 0x{flags:02x}"
            fault(Treatment.TREAT_AS_WITHDRAW, code, subcode, reason, block[position:end])
            continue
        try:
            values[spec.field] = spec.decode(block[start:end], asn4)
        except MalformedAttribute as error:
            fault(spec.treatment, code, error.subcode, error.reason, block[position:end])
            continue
        if flags & PARTIAL and spec.flags == _OT and not spec.two_octet:
            partial.add(code)

    path = values.get("as_path")
    if external and path is not None:
        reason_or_none = _external_path_fault(path, asn4, remote_asn)
        if reason_or_none is not None:
            octets = next(block[p:e] for _, c, p, _, e in items if c == AttributeCode.AS_PATH)
            subcode = UpdateSubcode.MALFORMED_AS_PATH
            fault(Treatment.TREAT_AS_WITHDRAW, AttributeCode.AS_PATH, subcode, reason_or_none, octets)
    if not asn4:
        _merge_as4(values)
    _check_mandatory(seen, external, block, faults)
    decoded = DecodedAttributes(None, AttributeCode.NEXT_HOP in seen, faults)
    if decoded.withdraw is None:
        if unknown:
            values["unknown"] = tuple(sorted(unknown, key=lambda attribute: attribute.code))  # as they are sent
        if partial:
            values["partial"] = frozenset(partial)
        decoded.attributes = PathAttributes(**values)
    return decoded


def _check_mandatory(seen: set[int], external: bool, block: bytes, faults: list[AttributeFault]) -> None:
    # RFC 7606 §3 d; NEXT_HOP depends on where the NLRI are
    mandatory = (_C.ORIGIN, _C.AS_PATH) if external else (_C.ORIGIN, _C.AS_PATH, _C.LOCAL_PREF)
    for code in mandatory:
        if code not in seen:
            faults.append(missing(code, block))


def missing(code: AttributeCode, block: bytes) -> AttributeFault:
    """The fault of a mandatory attribute that is not in ``block`` (RFC 7606 §3 d)."""
    return AttributeFault(
        Treatment.TREAT_AS_WITHDRAW,
        int(code),
        UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE,
        f"{SPECS[code].name} is missing",
        block,
        bytes((code,)),  # RFC 4271 §6.3: Data is its type code
    )


def _external_path_fault(path: tuple[Segment, ...], asn4: bool, remote_asn: int) -> str | None:
    """RFC 5065 §5: no confederation segments over eBGP; RFC 4271 §6.3: the leftmost AS is the peer's."""
    if any(segment.kind in CONFED_KINDS for segment in path):
        return "confederation segment from an external peer"
    expected = remote_asn if asn4 or remote_asn <= 0xFFFF else AS_TRANS
    if remote_asn and (not path or path[0].asns[0] != expected):
        return f"does not begin with AS {remote_asn}"
    return None


def _merge_as4(values: dict[str, Any]) -> None:
    """RFC 6793 §4.2.3: rebuild the path and the aggregator that a 2-octet peer passed on in AS4 attributes."""
    as4_path: tuple[Segment, ...] | None = values.pop("as4_path", None)
    as4_aggregator = values.pop("as4_aggregator", None)
    aggregator = values.get("aggregator")
    if aggregator is not None and as4_aggregator is not None:
        if aggregator[0] != AS_TRANS:
            return
        values["aggregator"] = as4_aggregator
    if as4_path and "as_path" in values:
        values["as_path"] = merge_as4_path(values["as_path"], as4_path)


# -- sending -----------------------------------------------------------------------------------------------


def encode_attribute(flags: int, code: int, value: bytes) -> bytes:
    """One attribute; the Extended Length bit follows from the length. Raises ValueError over 65535 octets."""
    length = len(value)
    if length > 255:
        if length > 0xFFFF:
            raise ValueError(f"attribute {code} of {length} octets is too long")
        return bytes((flags | EXTENDED_LENGTH, code)) + length.to_bytes(2, "big") + value
    return bytes((flags & ~EXTENDED_LENGTH, code, length)) + value


def encode_attributes(attributes: PathAttributes, *, asn4: bool, with_next_hop: bool) -> bytes:
    """All but 14 and 15 in ascending order of type (RFC 4271 §5); ``with_next_hop``: NEXT_HOP among them."""
    parts: list[tuple[int, bytes]] = []
    for spec in ATTRIBUTES:
        if spec.code == AttributeCode.NEXT_HOP and not with_next_hop:
            continue
        value = spec.encode(attributes, asn4)
        if value is not None:
            flags = spec.flags | PARTIAL if spec.code in attributes.partial else spec.flags
            parts.append((spec.code, encode_attribute(flags, spec.code, value)))
    if attributes.unknown:
        parts += [(u.code, encode_attribute(u.flags, u.code, u.value)) for u in attributes.unknown]
        parts.sort(key=lambda part: part[0])
    return b"".join([octets for _, octets in parts])
