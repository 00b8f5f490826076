"""UPDATE messages both ways (RFC 4271 §4.3, RFC 4760, RFC 7606).

Receiving, the attributes are interned: a block of octets that was once read and found good is decoded no second time,
and all its routes share one PathAttributes. RFC 2545 (IPv6 next hops), RFC 4724 §2 (End-of-RIB), RFC 8654 (lengths),
RFC 8950 (IPv4 over IPv6 next hops), RFC 8955 §4 (where flow specifications travel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from bgpbfd.core import AFI_IPV4, AFI_IPV6, IPV4_UNICAST, SAFI_FLOW, SAFI_UNICAST, Family
from bgpbfd.wire.attributes import (
    OPTIONAL,
    TRANSITIVE,
    AttributeFault,
    DecodedAttributes,
    PathAttributes,
    RawAttribute,
    Treatment,
    decode_attributes,
    encode_attribute,
    encode_attributes,
    missing,
    split_attributes,
)
from bgpbfd.wire.flowspec import FlowspecError, decode_nlri
from bgpbfd.wire.iana import AttributeCode, ErrorCode, HeaderSubcode, MessageType, UpdateSubcode
from bgpbfd.wire.messages import HEADER_LENGTH, NotificationError, encode_message
from bgpbfd.wire.nlri import NlriError, pull_flows, pull_prefixes

CACHE_LIMIT = 1 << 16  # distinct attribute blocks kept a session


@dataclass(slots=True)
class Reach:
    """Prefixes of one family announced with one set of attributes; ``nlri``: wire octets (length, masked address).

    ``path_ids``, one for each of ``nlri``: the path identifiers of a family received with ADD-PATH (RFC 7911 §3), None
    for all others.
    """

    family: Family
    attributes: PathAttributes
    nlri: list[bytes]
    path_ids: list[int] | None = None


@dataclass(slots=True)
class Unreach:
    """``path_ids`` as in Reach."""

    family: Family
    nlri: list[bytes]
    path_ids: list[int] | None = None


@dataclass(slots=True, frozen=True)
class UpdateFault:
    """A malformed attribute that did not end the session.

    ``treatment``: treat-as-withdraw|attribute-discard, or ignored for what is no error but is not used: a family that
    was not negotiated. ``data``: the attribute as received.
    """

    treatment: str
    attribute: int | None
    reason: str
    data: bytes


@dataclass(slots=True)
class Update:
    """A decoded UPDATE, RFC 7606's verdict already applied (a treat-as-withdraw has moved to ``withdrawn``)."""

    announced: list[Reach] = field(default_factory=list)
    withdrawn: list[Unreach] = field(default_factory=list)
    end_of_rib: Family | None = None
    faults: list[UpdateFault] = field(default_factory=list)


@dataclass(slots=True)
class UpdateContext:
    """What of the session changes how its UPDATEs are read and written.

    ``max_length``: the longest message we may send (4096, or 65535 with RFC 8654). ``extended_next_hop``: families for
    which RFC 8950 is in force. ``add_path_receive``, ``add_path_send``: families whose NLRI carry path identifiers in
    that direction (RFC 7911 §3); what is to be encoded for them has its 4-octet identifier before each NLRI.
    ``cache`` is the decoder's own and valid only while the rest stays as it is.
    """

    asn4: bool
    external: bool
    families: frozenset[Family]
    remote_asn: int
    local_asn: int
    max_length: int = 4096
    cache: dict[bytes, object] = field(default_factory=dict)
    extended_next_hop: frozenset[Family] = frozenset()
    add_path_receive: frozenset[Family] = frozenset()
    add_path_send: frozenset[Family] = frozenset()


# -- receiving ---------------------------------------------------------------------------------------------

_MP_KEY = b"\x00\x00"  # an attribute 0 with flags 0 is a session reset: no cached block begins so


def decode_update(body: bytes, context: UpdateContext) -> Update:
    """Decode and check an UPDATE without its header; every fault of it is in ``faults``.

    Raises NotificationError only where RFC 7606 leaves nothing but a session reset.
    """
    size = len(body)
    if size < 4:
        length = (HEADER_LENGTH + size).to_bytes(2, "big")
        raise NotificationError(ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_LENGTH, length, "UPDATE too short")
    start = 4 + (body[0] << 8 | body[1])
    if start > size:
        raise _reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, "the withdrawn routes run past the message")
    end = start + (body[start - 2] << 8 | body[start - 1])
    if end > size:
        raise _reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, "the attributes run past the message")
    block = body[start:end]

    # The bulk of a table: announcements in the NLRI field with attributes that have been seen before
    if start == 4 and end < size and IPV4_UNICAST in context.families:
        hit = context.cache.get(block)
        if type(hit) is DecodedAttributes and hit.has_next_hop and hit.attributes is not None:
            nlri = _pull_classic(body[end:])
            return Update([Reach(IPV4_UNICAST, hit.attributes, nlri)], [], None, _public(hit.faults))
    return _decode(body[2 : start - 2], block, body[end:], context)


def _decode(withdrawn_field: bytes, block: bytes, nlri_field: bytes, context: UpdateContext) -> Update:
    items, cut = split_attributes(block)
    overrun = items.pop()[1] if items and items[-1][4] > len(block) else None
    reach_item = _find_multiprotocol(block, items, AttributeCode.MP_REACH_NLRI, overrun)
    unreach_item = _find_multiprotocol(block, items, AttributeCode.MP_UNREACH_NLRI, overrun)

    # RFC 4724 §2: nothing at all, or a lone MP_UNREACH_NLRI without routes
    if not (block or nlri_field or withdrawn_field):
        return _end_of_rib(IPV4_UNICAST, context)
    lone = len(items) == 1 and not (cut or withdrawn_field or nlri_field)
    if lone and unreach_item is not None and unreach_item[4] - unreach_item[3] == 3:
        return _end_of_rib(_mp_family(block, unreach_item), context)

    update = Update([], [], None, [])
    gone: dict[Family, list[bytes]] = {}
    withdrawn = _negotiated(IPV4_UNICAST, _pull_classic(withdrawn_field), context, update)
    if withdrawn:
        gone[IPV4_UNICAST] = withdrawn
    if unreach_item is not None:
        family, routes = _pull_unreach(block, unreach_item, context, update)
        if family.safi == SAFI_FLOW:
            _judge_rules(family, routes, AttributeCode.MP_UNREACH_NLRI, update)  # to count what never was here
        if routes:
            gone[family] = gone.get(family, []) + routes
    nlri = _pull_classic(nlri_field)
    reach = None if reach_item is None else _pull_reach(block, reach_item, context, update)

    if reach is not None or nlri_field or len(items) > (unreach_item is not None) or cut:
        reachable = bool(nlri_field) or (reach is not None and reach.occupied)
        rest, rest_items = block, items
        if reach_item is not None or unreach_item is not None:
            kept = [item for item in items if item is not reach_item and item is not unreach_item]
            if reach_item is not None and not nlri_field:
                # RFC 4760 §3: NEXT_HOP beside no other NLRI than MP_REACH_NLRI's is ignored
                kept = [item for item in kept if item[1] != AttributeCode.NEXT_HOP]
            rest = b"".join([block[item[2] : item[4]] for item in kept])
            rest_items = split_attributes(rest)[0]
        decoded = _intern(rest, rest_items, cut, reachable, context)
        update.faults += _public(decoded.faults)
        nlri = _negotiated(IPV4_UNICAST, nlri, context, update)
        if nlri:
            attributes = decoded.attributes
            if attributes is not None and not decoded.has_next_hop:
                attributes = None
                update.faults += _public([missing(AttributeCode.NEXT_HOP)])
            _place(IPV4_UNICAST, nlri, attributes, update, gone)
        if reach is not None and reach.nlri:
            attributes = decoded.attributes
            if attributes is not None:
                attributes = _with_next_hop(attributes, reach.next_hop, rest, decoded, context)
            nlri = reach.nlri
            if reach.family.safi == SAFI_FLOW:
                nlri, malformed = _judge_rules(reach.family, nlri, AttributeCode.MP_REACH_NLRI, update)
                if malformed:
                    _place(reach.family, malformed, None, update, gone)
            if nlri:
                _place(reach.family, nlri, attributes, update, gone)

    for family, routes in gone.items():
        again = {prefix for r in update.announced if r.family == family for prefix in r.nlri}
        if again:
            # RFC 4271 §4.3: a prefix in both is treated as if it had not been withdrawn
            routes = [prefix for prefix in routes if prefix not in again]  # noqa: PLW2901
        if routes:
            update.withdrawn.append(Unreach(family, routes))
    return update


@dataclass(slots=True)
class _MpReach:
    """``occupied``: the attribute has routes, even if they are not for us to use."""

    family: Family
    next_hop: bytes | None
    nlri: list[bytes]
    occupied: bool


def _reset(subcode: UpdateSubcode, reason: str, data: bytes = b"") -> NotificationError:
    return NotificationError(ErrorCode.UPDATE_MESSAGE, subcode, data, reason)


def _public(faults: Sequence[AttributeFault]) -> list[UpdateFault]:
    return [UpdateFault(f.treatment.value, f.code, f.reason, f.octets) for f in faults]


def _pull_classic(octets: bytes) -> list[bytes]:
    try:
        return pull_prefixes(octets, AFI_IPV4)
    except NlriError as error:
        raise _reset(UpdateSubcode.INVALID_NETWORK_FIELD, str(error)) from error


def _ignored(family: Family, update: Update, code: int | None, octets: bytes) -> None:
    reason = f"{family} was not negotiated"
    update.faults.append(UpdateFault(Treatment.IGNORED.value, code, reason, octets))


def _negotiated(family: Family, routes: list[bytes], context: UpdateContext, update: Update) -> list[bytes]:
    if routes and family not in context.families:
        _ignored(family, update, None, b"")
        return []
    return routes


def _end_of_rib(family: Family, context: UpdateContext) -> Update:
    update = Update([], [], None, [])
    if family in context.families:
        update.end_of_rib = family
    else:
        _ignored(family, update, None, b"")
    return update


def _find_multiprotocol(
    block: bytes, items: Sequence[RawAttribute], code: AttributeCode, overrun: int | None
) -> RawAttribute | None:
    found = [item for item in items if item[1] == code]
    if len(found) + (overrun == code) > 1:
        # RFC 7606 §3 g
        raise _reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, f"{code.name} came twice")
    if overrun == code:
        # RFC 7606 §3 j: its routes cannot be told
        raise _reset(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"{code.name} runs past the attributes")
    if not found:
        return None
    flags, _, _, start, end = item = found[0]
    if (flags ^ OPTIONAL) & (OPTIONAL | TRANSITIVE):
        raise _mp_fault(block, item, f"flags 0x{flags:02x}")
    if end - start < (5 if code == AttributeCode.MP_REACH_NLRI else 3):
        raise _mp_fault(block, item, f"length {end - start}")
    return item


def _mp_fault(block: bytes, item: RawAttribute, reason: str) -> NotificationError:
    name = AttributeCode(item[1]).name
    return _reset(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"{name}: {reason}", block[item[2] : item[4]])


def _mp_family(block: bytes, item: RawAttribute) -> Family:
    start = item[3]
    return Family(block[start] << 8 | block[start + 1], block[start + 2])


def _usable(family: Family, context: UpdateContext) -> bool:
    return family in context.families and family.afi in {AFI_IPV4, AFI_IPV6} and family.safi in _SAFIS


def _pull_routes(family: Family, octets: bytes, block: bytes, item: RawAttribute) -> list[bytes]:
    try:
        return pull_flows(octets) if family.safi == SAFI_FLOW else pull_prefixes(octets, family.afi)
    except NlriError as error:
        raise _mp_fault(block, item, str(error)) from error


def _pull_unreach(
    block: bytes, item: RawAttribute, context: UpdateContext, update: Update
) -> tuple[Family, list[bytes]]:
    """RFC 4760 §4."""
    family = _mp_family(block, item)
    if not _usable(family, context):
        _ignored(family, update, AttributeCode.MP_UNREACH_NLRI, block[item[2] : item[4]])
        return family, []
    return family, _pull_routes(family, block[item[3] + 3 : item[4]], block, item)


def _pull_reach(block: bytes, item: RawAttribute, context: UpdateContext, update: Update) -> _MpReach:
    """RFC 4760 §3: family, next hop with its length octet, a reserved octet, routes."""
    _, _, position, start, end = item
    family = _mp_family(block, item)
    length = block[start + 3]
    routes_start = start + 4 + length + 1
    if routes_start > end:
        raise _mp_fault(block, item, f"next hop of {length} octets")
    occupied = routes_start < end
    if not _usable(family, context):
        _ignored(family, update, AttributeCode.MP_REACH_NLRI, block[position:end])
        return _MpReach(family, None, [], occupied)
    next_hop: bytes | None = block[start + 4 : start + 4 + length]
    if family.safi == SAFI_FLOW:
        next_hop = None  # RFC 8955 §4: ignored on receipt
    elif length not in _next_hop_lengths(family, context):
        # RFC 7606 §7.11
        raise _mp_fault(block, item, f"next hop of {length} octets")
    return _MpReach(family, next_hop, _pull_routes(family, block[routes_start:end], block, item), occupied)


_SAFIS = frozenset({SAFI_UNICAST, SAFI_FLOW})


def _next_hop_lengths(family: Family, context: UpdateContext) -> tuple[int, ...]:
    """RFC 2545 §3, RFC 8950 §3."""
    if family.afi == AFI_IPV6:
        return (16, 32)
    return (4, 16, 32) if family in context.extended_next_hop else (4,)


def _intern(
    rest: bytes, items: Sequence[RawAttribute], cut: str | None, reachable: bool, context: UpdateContext
) -> DecodedAttributes:
    """``rest`` decoded, from the cache if it is there; raises what RFC 7606 §5.2 makes of a fault without routes."""
    hit = None if cut else context.cache.get(rest)
    if type(hit) is DecodedAttributes:
        return hit
    decoded = decode_attributes(
        rest, items, asn4=context.asn4, external=context.external, remote_asn=context.remote_asn
    )
    if cut or not reachable:
        # What is missing says nothing where the rest was cut off, or where nothing is announced
        decoded.faults = [f for f in decoded.faults if f.subcode is not UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE]
    if cut:
        subcode = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
        decoded.attributes = None
        decoded.faults.append(AttributeFault(Treatment.TREAT_AS_WITHDRAW, None, subcode, cut, b"", b""))
    fault = decoded.withdraw
    if fault is not None and not reachable:
        # RFC 7606 §5.2: without a route in sight we cannot tell that the routes were found
        raise _reset(fault.subcode, fault.reason, fault.data)
    if decoded.attributes is not None:
        _remember(context, rest, decoded)
    return decoded


def _remember(context: UpdateContext, key: bytes, value: object) -> None:
    if len(context.cache) >= CACHE_LIMIT:
        context.cache.clear()
    context.cache[key] = value


def _with_next_hop(
    attributes: PathAttributes,
    next_hop: bytes | None,
    rest: bytes,
    decoded: DecodedAttributes,
    context: UpdateContext,
) -> PathAttributes:
    if next_hop == attributes.next_hop:
        return attributes
    key = b"".join((_MP_KEY, bytes((len(next_hop or b""),)), next_hop or b"", rest))
    hit = context.cache.get(key)
    if type(hit) is PathAttributes:
        return hit
    attributes = replace(attributes, next_hop=next_hop)
    _remember(context, key, attributes)
    return attributes


def _judge_rules(
    family: Family, rules: list[bytes], code: AttributeCode, update: Update
) -> tuple[list[bytes], list[bytes]]:
    """The well-formed and the malformed flow specifications; a malformed one is a fault of its own.

    It is treated as withdrawn and the others stay, as each has its length before it (RFC 8955 §10, RFC 7606 §5.4).
    """
    good: list[bytes] = []
    malformed: list[bytes] = []
    for rule in rules:
        try:
            decode_nlri(family.afi, rule)
        except FlowspecError as error:
            malformed.append(rule)
            update.faults.append(UpdateFault(Treatment.TREAT_AS_WITHDRAW.value, code, str(error), rule))
        else:
            good.append(rule)
    return good, malformed


def _place(
    family: Family,
    routes: list[bytes],
    attributes: PathAttributes | None,
    update: Update,
    gone: dict[Family, list[bytes]],
) -> None:
    if attributes is None:
        gone[family] = gone.get(family, []) + routes
    else:
        update.announced.append(Reach(family, attributes, routes))


# -- sending -----------------------------------------------------------------------------------------------

_FIXED = HEADER_LENGTH + 4  # header and the two length fields
_MP_HEADER = 4  # of an attribute with extended length


def encode_announce(
    family: Family, attributes: PathAttributes, nlri: Sequence[bytes], context: UpdateContext
) -> list[bytes]:
    """Whole UPDATE messages that announce ``nlri``, as few as ``context.max_length`` allows.

    The attributes are written as given. IPv4 unicast with a 4-octet next hop goes into the NLRI field, all else into
    MP_REACH_NLRI, which comes first (RFC 7606 §5.1). Raises ValueError for a next hop that does not fit the family and
    for attributes that leave no room.
    """
    next_hop = b"" if family.safi == SAFI_FLOW else attributes.next_hop
    if next_hop is None:
        raise ValueError(f"no next hop for {family}")
    if family == IPV4_UNICAST and len(next_hop) == 4:
        block = encode_attributes(attributes, asn4=context.asn4, with_next_hop=True)
        room = context.max_length - _FIXED - len(block)
        return [_update(b"", block, chunk) for chunk in _chunks(nlri, room)]
    if family.safi != SAFI_FLOW and len(next_hop) not in {16, 32}:
        raise ValueError(f"a next hop of {len(next_hop)} octets for {family}")
    rest = encode_attributes(attributes, asn4=context.asn4, with_next_hop=False)
    head = _family_octets(family) + bytes((len(next_hop),)) + next_hop + b"\x00"
    room = context.max_length - _FIXED - len(rest) - _MP_HEADER - len(head)
    return [
        _update(b"", encode_attribute(OPTIONAL, AttributeCode.MP_REACH_NLRI, head + chunk) + rest, b"")
        for chunk in _chunks(nlri, room)
    ]


def encode_withdraw(family: Family, nlri: Sequence[bytes], context: UpdateContext) -> list[bytes]:
    """Whole UPDATE messages that withdraw ``nlri``: IPv4 unicast in the classic field, all else in MP_UNREACH_NLRI."""
    if family == IPV4_UNICAST:
        return [_update(chunk, b"", b"") for chunk in _chunks(nlri, context.max_length - _FIXED)]
    head = _family_octets(family)
    room = context.max_length - _FIXED - _MP_HEADER - len(head)
    return [
        _update(b"", encode_attribute(OPTIONAL, AttributeCode.MP_UNREACH_NLRI, head + chunk), b"")
        for chunk in _chunks(nlri, room)
    ]


def encode_end_of_rib(family: Family) -> bytes:
    """RFC 4724 §2."""
    if family == IPV4_UNICAST:
        return _update(b"", b"", b"")
    return _update(b"", encode_attribute(OPTIONAL, AttributeCode.MP_UNREACH_NLRI, _family_octets(family)), b"")


def _family_octets(family: Family) -> bytes:
    return family.afi.to_bytes(2, "big") + bytes((family.safi,))


def _update(withdrawn: bytes, attributes: bytes, nlri: bytes) -> bytes:
    body = b"".join(
        (len(withdrawn).to_bytes(2, "big"), withdrawn, len(attributes).to_bytes(2, "big"), attributes, nlri)
    )
    return encode_message(MessageType.UPDATE, body)


def _chunks(nlri: Sequence[bytes], room: int) -> Iterator[bytes]:
    """``nlri`` joined into strings of at most ``room`` octets; raises ValueError if one alone is longer."""
    if not nlri:
        return
    longest = max(map(len, nlri))
    if longest > room:
        raise ValueError(f"the attributes leave no room for {len(nlri)} prefixes: {room} octets, {longest} needed")
    sure = room // longest  # so many always fit
    start = 0
    count = len(nlri)
    while start < count:
        stop = min(start + sure, count)
        used = sum(map(len, nlri[start:stop]))
        while stop < count and used + len(nlri[stop]) <= room:
            used += len(nlri[stop])
            stop += 1
        yield b"".join(nlri[start:stop])
        start = stop
