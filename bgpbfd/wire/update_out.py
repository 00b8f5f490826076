"""UPDATE messages that go out (RFC 4271 §4.3, RFC 4760): packed, as few as their length allows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

from bgpbfd.core import IPV4_UNICAST, SAFI_FLOW, Family
from bgpbfd.wire.attributes import OPTIONAL, PathAttributes, encode_attribute, encode_attributes
from bgpbfd.wire.iana import AttributeCode, MessageType
from bgpbfd.wire.messages import HEADER_LENGTH, encode_message
from bgpbfd.wire.update import UpdateContext

_FIXED = HEADER_LENGTH + 4  # header and the two length fields
_MP_HEADER = 4  # of an attribute with extended length


def encode_announce(
    family: Family, attributes: PathAttributes, nlri: Sequence[bytes], context: UpdateContext
) -> list[bytes]:
    """Whole UPDATE messages that announce ``nlri``, as few as ``context.max_length`` allows.

    The attributes are written as given. IPv4 unicast with a 4-octet next hop goes into the NLRI field, all else into
    MP_REACH_NLRI, which comes first (RFC 7606 §5.1). Of families in ``context.add_path_send`` each of ``nlri`` begins
    with its 4-octet path identifier. Raises ValueError for a next hop that does not fit the family or that was not
    negotiated for it, and for attributes that leave no room.
    """
    room, message = announcement(family, attributes, context)
    return [message(chunk) for chunk in _chunks(nlri, room)]


def announcement(
    family: Family, attributes: PathAttributes, context: UpdateContext
) -> tuple[int, Callable[[bytes], bytes]]:
    """``encode_announce`` in parts, for many messages with the same attributes.

    How many octets of NLRI fit into one message (fewer than 1: none), and what makes one of them, joined. Raises
    ValueError for the next hop.
    """
    next_hop = b"" if family.safi == SAFI_FLOW else attributes.next_hop
    if next_hop is None:
        raise ValueError(f"no next hop for {family}")
    if family == IPV4_UNICAST and len(next_hop) == 4:
        block = encode_attributes(attributes, asn4=context.asn4, with_next_hop=True)
        return context.max_length - _FIXED - len(block), functools.partial(_update, b"", block)
    if family.safi != SAFI_FLOW and len(next_hop) not in {16, 32}:
        raise ValueError(f"a next hop of {len(next_hop)} octets for {family}")
    if family == IPV4_UNICAST and family not in context.extended_next_hop:
        raise ValueError(f"IPv6 next hops for {family} were not negotiated (RFC 8950 §4)")
    rest = encode_attributes(attributes, asn4=context.asn4, with_next_hop=False)
    head = _family_octets(family) + bytes((len(next_hop),)) + next_hop + b"\x00"

    def message(chunk: bytes) -> bytes:
        return _update(b"", encode_attribute(OPTIONAL, AttributeCode.MP_REACH_NLRI, head + chunk) + rest, b"")

    return context.max_length - _FIXED - len(rest) - _MP_HEADER - len(head), message


def encode_withdraw(family: Family, nlri: Sequence[bytes], context: UpdateContext) -> list[bytes]:
    """Whole UPDATE messages that withdraw ``nlri``: IPv4 unicast in the classic field, all else in MP_UNREACH_NLRI.

    Path identifiers as in ``encode_announce``.
    """
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
