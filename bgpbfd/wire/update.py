"""UPDATE messages that come in (RFC 4271 §4.3, RFC 4760, RFC 7606), and what of a session both ways hang on.

The attributes are interned: a block of octets that was once checked and found good is checked no second
time, and all its routes share one object, which is read out when somebody asks (``wire.received``). RFC 4724 §2
(End-of-RIB), RFC 7911 (path identifiers), RFC 8654 (lengths),
RFC 8950 (IPv4 over IPv6 next hops), RFC 8955 §4 (where flow specifications travel).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from bgpbfd.core import AFI_IPV4, IPV4_UNICAST, SAFI_FLOW, Family
from bgpbfd.wire.attributes import (
    AttributeFault,
    PathAttributes,
    RawAttribute,
    Treatment,
    decode_attributes,
    missing,
    split_attributes,
)
from bgpbfd.wire.flowspec import FlowspecError, decode_nlri
from bgpbfd.wire.iana import AttributeCode, ErrorCode, HeaderSubcode, UpdateSubcode
from bgpbfd.wire.messages import HEADER_LENGTH, NotificationError
from bgpbfd.wire.multiprotocol import (
    AFIS,
    NO_ROUTES,
    SAFIS,
    FamilyError,
    MpReach,
    Routes,
    family_of,
    find_attribute,
    pull_reach,
    pull_unreach,
)
from bgpbfd.wire.nlri import NlriError, pull_paths, pull_prefixes
from bgpbfd.wire.received import Attributes, Reading, ReceivedAttributes, pull_regular, read_out

CACHE_LIMIT = 1 << 12  # distinct attribute blocks kept a session; they are forgotten all at once, which takes its time


# Structs where dataclasses would do: of these a full table makes several a message, in a third of the time. gc=False:
# none of them is ever part of a cycle.
class Reach(msgspec.Struct, gc=False):
    """Prefixes of one family announced with one set of attributes; ``nlri``: wire octets (length, masked address).

    ``path_ids``, one for each of ``nlri``: the path identifiers of a family received with ADD-PATH (RFC 7911 §3), None
    for all others. ``received``: the attributes as they are kept.
    """

    family: Family
    received: Attributes
    nlri: list[bytes]
    path_ids: list[int] | None = None

    @property
    def attributes(self) -> PathAttributes:
        return read_out(self.received)


class Unreach(msgspec.Struct, gc=False):
    """``path_ids`` as in Reach."""

    family: Family
    nlri: list[bytes]
    path_ids: list[int] | None = None


@dataclass(slots=True, frozen=True)
class UpdateFault:
    """A malformed attribute that did not end the session.

    ``treatment``: treat-as-withdraw|attribute-discard|afi-safi-disable, or ignored for what is no error but is not
    used: a family that was not negotiated, or is disabled. ``data``: the octets at fault as received: the attribute,
    what of it is there where it is cut short, the routes of the field (``attribute`` None), or all attributes where one
    is missing.
    """

    treatment: str
    attribute: int | None
    reason: str
    data: bytes


class Update(msgspec.Struct, gc=False):
    """A decoded UPDATE, RFC 7606's verdict already applied (a treat-as-withdraw has moved to ``withdrawn``).

    ``disabled``: families whose routes, those of earlier UPDATEs too, are all to go, and why (RFC 7606 §2); nothing of
    them is in the rest.
    """

    announced: list[Reach] = msgspec.field(default_factory=list)
    withdrawn: list[Unreach] = msgspec.field(default_factory=list)
    end_of_rib: Family | None = None
    faults: list[UpdateFault] = msgspec.field(default_factory=list)
    disabled: tuple[tuple[Family, str], ...] = ()


@dataclass(slots=True)
class UpdateContext:
    """What of the session changes how its UPDATEs are read and written.

    ``families``: those whose routes are taken; ``disabled``: those that were, until a fault of theirs (``disable``).
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
    cache: dict[object, object] = field(default_factory=dict)
    extended_next_hop: frozenset[Family] = frozenset()
    add_path_receive: frozenset[Family] = frozenset()
    add_path_send: frozenset[Family] = frozenset()
    disabled: frozenset[Family] = frozenset()
    reading: Reading = field(init=False)
    first_as: bytes = field(init=False, repr=False)  # what a regular AS_PATH begins with

    def __post_init__(self) -> None:
        self.reading = Reading(self.asn4, self.external)
        self.first_as = self.remote_asn.to_bytes(4) if self.external and self.remote_asn else b""

    def disable(self, family: Family) -> None:
        """RFC 4760 §7: what still comes of it on this session is ignored. Sending goes on."""
        self.families -= {family}
        self.disabled |= {family}


# -- receiving ---------------------------------------------------------------------------------------------


def decode_update(body: bytes, context: UpdateContext) -> Update:
    """Decode and check an UPDATE without its header; every fault of it is in ``faults``.

    Raises NotificationError only where RFC 7606 leaves nothing but a session reset.
    """
    size = len(body)
    if size < 4:
        length = (HEADER_LENGTH + size).to_bytes(2, "big")
        code, subcode = ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_LENGTH
        raise NotificationError(code, subcode, length, "UPDATE too short", body)
    start = 4 + (body[0] << 8 | body[1])
    if start > size:
        raise _reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, "the withdrawn routes run past the message", b"", body)
    end = start + (body[start - 2] << 8 | body[start - 1])
    if end > size:
        octets = body[start - 2 :]
        raise _reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, "the attributes run past the message", b"", octets)
    block = body[start:end]

    # The bulk of a table: announcements in the NLRI field alone
    if start == 4 and end < size and IPV4_UNICAST in context.families:
        known = context.cache.get(block)
        if known is None and (known := pull_regular(block, context.reading, context.first_as)) is not None:
            _remember(context, block, known)
        faults: list[UpdateFault] = []
        if type(known) is _Checked:
            faults = list(known.faults)
            known = known.received
        if type(known) is ReceivedAttributes and known.next_hop is not None:
            octets = body[end:]
            if context.add_path_receive:
                nlri, path_ids = _pull_classic(octets, context)
                return Update([Reach(IPV4_UNICAST, known, nlri, path_ids)], [], None, faults)
            try:
                nlri = pull_prefixes(octets, AFI_IPV4)
            except NlriError as error:
                raise _bad_field(octets, error) from error
            return Update([Reach(IPV4_UNICAST, known, nlri)], [], None, faults)
    return _decode(body[2 : start - 2], block, body[end:], context)


def _decode(withdrawn_field: bytes, block: bytes, nlri_field: bytes, context: UpdateContext) -> Update:
    items, cut = split_attributes(block)
    overrun = items.pop() if items and items[-1][4] > len(block) else None
    reach_item = find_attribute(block, items, AttributeCode.MP_REACH_NLRI, overrun)
    unreach_item = find_attribute(block, items, AttributeCode.MP_UNREACH_NLRI, overrun)

    # RFC 4724 §2: nothing at all, or a lone MP_UNREACH_NLRI without routes
    if not (block or nlri_field or withdrawn_field):
        return _end_of_rib(IPV4_UNICAST, bytes(4), context)
    lone = len(items) == 1 and not (cut or withdrawn_field or nlri_field)
    if lone and unreach_item is not None and unreach_item[4] - unreach_item[3] == 3:
        return _end_of_rib(family_of(block, unreach_item), block, context)

    update = Update([], [], None, [])
    gone: dict[Family, Routes] = {}
    _withdraw(IPV4_UNICAST, _negotiated_classic(withdrawn_field, context, update), gone)
    if unreach_item is not None:
        family = family_of(block, unreach_item)
        if _usable(family, context):
            try:
                routes = pull_unreach(block, unreach_item, add_path=family in context.add_path_receive)
            except FamilyError as error:
                _disable(error, context, update)
                routes = NO_ROUTES
            if family.safi == SAFI_FLOW:
                # To count what never was here
                _judge_rules(family, routes.nlri, AttributeCode.MP_UNREACH_NLRI, update)
            _withdraw(family, routes, gone)
        else:
            octets = block[unreach_item[2] : unreach_item[4]]
            _ignored(family, context, update, AttributeCode.MP_UNREACH_NLRI, octets)
    classic = _negotiated_classic(nlri_field, context, update)
    reach = None if reach_item is None else _pull_reach(block, reach_item, context, update)

    if reach is not None or nlri_field or len(items) > (unreach_item is not None) or cut:
        reachable = bool(nlri_field) or (reach is not None and reach.occupied)
        rest = block
        if reach_item is not None or unreach_item is not None:
            kept = [item for item in items if item is not reach_item and item is not unreach_item]
            if reach_item is not None and not nlri_field:
                # RFC 4760 §3: NEXT_HOP beside no other NLRI than MP_REACH_NLRI's is ignored
                kept = [item for item in kept if item[1] != AttributeCode.NEXT_HOP]
            rest = b"".join([block[item[2] : item[4]] for item in kept])
        tail = block[items[-1][4] if items else 0 :] if cut else b""
        checked = _intern(rest, cut, tail, reachable, context)
        update.faults += checked.faults
        if classic.nlri:
            received = checked.received
            if not (checked.has_next_hop or cut):
                received = None
                update.faults += _public([missing(AttributeCode.NEXT_HOP, block)])
            _place(IPV4_UNICAST, classic, received, update, gone)
        if reach is not None and reach.routes.nlri:
            received = checked.received
            if received is not None:
                received = _with_next_hop(received, reach.next_hop, rest, context)
            routes = reach.routes
            if reach.family.safi == SAFI_FLOW:
                good, malformed = _judge_rules(reach.family, routes.nlri, AttributeCode.MP_REACH_NLRI, update)
                _withdraw(reach.family, Routes(malformed), gone)
                routes = Routes(good)
            if routes.nlri:
                _place(reach.family, routes, received, update, gone)

    for family, routes in gone.items():
        again = {route for r in update.announced if r.family == family for route in _identities(r)}
        # RFC 4271 §4.3: a prefix in both is treated as if it had not been withdrawn; RFC 7911 §3: of the same path
        left = _without(routes, again) if again else routes
        if left.nlri:
            update.withdrawn.append(Unreach(family, left.nlri, left.path_ids))
    for family, _ in update.disabled:
        # What else came of it goes with the rest of it
        update.announced = [r for r in update.announced if r.family != family]
        update.withdrawn = [u for u in update.withdrawn if u.family != family]
    return update


def _disable(error: FamilyError, context: UpdateContext, update: Update) -> None:
    """RFC 7606 §5.3: the session goes on without the family where it has another one, and ends where it has none."""
    disabled = {family for family, _ in update.disabled}
    if not context.families - disabled - {error.family}:
        raise error
    if error.family not in disabled:
        update.disabled += ((error.family, error.reason),)
    treatment = Treatment.AFI_SAFI_DISABLE.value
    update.faults.append(UpdateFault(treatment, error.attribute, error.reason, error.octets))


def _reset(
    subcode: UpdateSubcode, reason: str, data: bytes, octets: bytes, attribute: int | None = None
) -> NotificationError:
    return NotificationError(ErrorCode.UPDATE_MESSAGE, subcode, data, reason, octets, attribute)


def _bad_field(octets: bytes, error: NlriError) -> NotificationError:
    return _reset(UpdateSubcode.INVALID_NETWORK_FIELD, str(error), b"", octets)


def _public(faults: Sequence[AttributeFault]) -> list[UpdateFault]:
    return [UpdateFault(f.treatment.value, f.code, f.reason, f.octets) for f in faults]


def _pull_classic(octets: bytes, context: UpdateContext) -> Routes:
    """The withdrawn routes or NLRI field; raises NotificationError 3/10 (RFC 7606 §3 i, §5.3)."""
    try:
        if IPV4_UNICAST in context.add_path_receive:
            return Routes(*pull_paths(octets, AFI_IPV4))
        return Routes(pull_prefixes(octets, AFI_IPV4))
    except NlriError as error:
        raise _bad_field(octets, error) from error


def _negotiated_classic(octets: bytes, context: UpdateContext, update: Update) -> Routes:
    if not octets:
        return NO_ROUTES
    if IPV4_UNICAST not in context.disabled:
        routes = _pull_classic(octets, context)
        if IPV4_UNICAST in context.families:
            return routes
    _ignored(IPV4_UNICAST, context, update, None, octets)
    return NO_ROUTES


def _ignored(family: Family, context: UpdateContext, update: Update, code: int | None, octets: bytes) -> None:
    reason = f"{family} was disabled" if family in context.disabled else f"{family} was not negotiated"
    update.faults.append(UpdateFault(Treatment.IGNORED.value, code, reason, octets))


def _end_of_rib(family: Family, octets: bytes, context: UpdateContext) -> Update:
    update = Update([], [], None, [])
    if family in context.families:
        update.end_of_rib = family
    else:
        _ignored(family, context, update, None, octets)
    return update


def _usable(family: Family, context: UpdateContext) -> bool:
    return family in context.families and family.afi in AFIS and family.safi in SAFIS


def _pull_reach(block: bytes, item: RawAttribute, context: UpdateContext, update: Update) -> MpReach:
    family = family_of(block, item)
    usable = _usable(family, context)
    if not usable:
        _ignored(family, context, update, AttributeCode.MP_REACH_NLRI, block[item[2] : item[4]])
    try:
        return pull_reach(
            block,
            item,
            usable=usable,
            extended_next_hop=family in context.extended_next_hop,
            add_path=family in context.add_path_receive,
        )
    except FamilyError as error:
        _disable(error, context, update)
        return MpReach(family, None, NO_ROUTES, True)


class _Checked(msgspec.Struct, gc=False):
    """What was found of a block without 14 and 15. ``received`` is None where its routes are treated as withdrawn.

    ``has_next_hop``: there is a NEXT_HOP, good or bad.
    """

    received: ReceivedAttributes | None
    has_next_hop: bool
    faults: list[UpdateFault]


def _intern(rest: bytes, cut: str | None, tail: bytes, reachable: bool, context: UpdateContext) -> _Checked:
    """``rest`` checked, from the cache if it is there; ``tail``: the octets behind it that are ``cut`` short.

    Raises what RFC 7606 §5.2 makes of a fault without routes.
    """
    if not cut:
        hit = context.cache.get(rest)
        if hit is None and (hit := pull_regular(rest, context.reading, context.first_as)) is not None:
            _remember(context, rest, hit)
        if type(hit) is ReceivedAttributes:
            return _Checked(hit, hit.next_hop is not None, [])
        if type(hit) is _Checked:
            return hit
    items = [item for item in split_attributes(rest)[0] if item[4] <= len(rest)]
    decoded = decode_attributes(
        rest, items, asn4=context.asn4, external=context.external, remote_asn=context.remote_asn
    )
    if cut or not reachable:
        # What is missing says nothing where the rest was cut off, or where nothing is announced
        decoded.faults = [f for f in decoded.faults if f.subcode is not UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE]
    if cut:
        subcode = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
        decoded.attributes = None
        decoded.faults.append(AttributeFault(Treatment.TREAT_AS_WITHDRAW, None, subcode, cut, tail, b""))
    fault = decoded.withdraw
    if fault is not None and not reachable:
        # RFC 7606 §5.2: without a route in sight we cannot tell that the routes were found
        raise _reset(fault.subcode, fault.reason, fault.data, fault.octets, fault.code)
    checked = _Checked(None, decoded.has_next_hop, _public(decoded.faults))
    if decoded.attributes is not None:
        checked.received = ReceivedAttributes(rest, decoded.attributes.next_hop, context.reading)
        _remember(context, rest, checked)
    return checked


def _remember(context: UpdateContext, key: object, value: object) -> None:
    if len(context.cache) >= CACHE_LIMIT:
        context.cache.clear()
    context.cache[key] = value


def _with_next_hop(
    received: ReceivedAttributes, next_hop: bytes | None, rest: bytes, context: UpdateContext
) -> ReceivedAttributes:
    if next_hop == received.next_hop:
        return received
    key = (next_hop, rest)
    hit = context.cache.get(key)
    if type(hit) is ReceivedAttributes:
        return hit
    received = received.with_next_hop(next_hop)
    _remember(context, key, received)
    return received


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
    family: Family, routes: Routes, received: Attributes | None, update: Update, gone: dict[Family, Routes]
) -> None:
    if received is None:
        _withdraw(family, routes, gone)
    else:
        update.announced.append(Reach(family, received, routes.nlri, routes.path_ids))


def _withdraw(family: Family, routes: Routes, gone: dict[Family, Routes]) -> None:
    if not routes.nlri:
        return
    before = gone.get(family)
    if before is None:
        gone[family] = routes
        return
    path_ids = None if routes.path_ids is None else [*(before.path_ids or ()), *routes.path_ids]
    gone[family] = Routes(before.nlri + routes.nlri, path_ids)


def _identities(routes: Routes | Reach) -> Iterable[object]:
    """What tells a route from others of its family: the prefix, and its path identifier (RFC 7911 §3)."""
    return routes.nlri if routes.path_ids is None else zip(routes.path_ids, routes.nlri, strict=True)


def _without(routes: Routes, again: set[object]) -> Routes:
    if routes.path_ids is None:
        return Routes([nlri for nlri in routes.nlri if nlri not in again])
    left = [route for route in zip(routes.path_ids, routes.nlri, strict=True) if route not in again]
    return Routes([nlri for _, nlri in left], [path_id for path_id, _ in left])
