"""Attributes as a neighbor sent them: checked, kept as octets, and read out when somebody asks.

A full table has some 150,000 different sets of attributes. As octets they take a fifth of the memory, nothing of them
is for the garbage collector to walk, and most are never asked for: whether a route may be used can be told without
(``rib.importing``). What is read out is kept for a while, so that the prefixes of one UPDATE, and routes that are
compared, share one PathAttributes.

``pull_regular`` is the short way in, for attributes written as nearly every speaker writes them. It never judges: what
is not plainly good is left to ``attributes.decode_attributes``, the only place that knows faults.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import msgspec

from bgpbfd.wire.as_path import pull_as_path
from bgpbfd.wire.attributes import (
    EXTENDED_LENGTH,
    OPTIONAL,
    SPECS,
    TRANSITIVE,
    PathAttributes,
    decode_attributes,
    split_attributes,
)
from bgpbfd.wire.iana import AttributeCode, SegmentType

READ_OUT_KEPT = 1 << 12  # PathAttributes, of about 500 octets each, and some objects for the collector to walk


class Reading(NamedTuple):
    """What of a session the meaning of octets depends on."""

    asn4: bool
    external: bool


# How attributes are written. Of two in the same form, neither 0, different octets are different attributes.
ANY_FORM = 0
REGULAR = 1
EXTENDED_PATH = 2  # added: the AS_PATH has two length octets, as FRR writes every one
FROM_MP_REACH = 4  # added: the next hop is MP_REACH_NLRI's


# gc=False: none of these can be part of a cycle, and the collector need not walk a full table of them.
class Kept(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Attributes that are kept in a form of their own, to be read out when somebody asks."""

    def read_out(self) -> PathAttributes:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        """Whether they say the same, however they are kept; the other may be PathAttributes, too."""
        if self is other:
            return True
        if isinstance(other, Kept):
            return self.read_out() == other.read_out()
        return self.read_out() == other if isinstance(other, PathAttributes) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


class ReceivedAttributes(Kept, frozen=True, eq=False, gc=False):
    """``block``: the attributes without 14 and 15, known to be good; ``next_hop`` as PathAttributes has it."""

    block: bytes
    next_hop: bytes | None
    reading: Reading
    form: int = ANY_FORM

    def read_out(self) -> PathAttributes:
        return _read_out(self.block, self.next_hop, self.reading, self.form)

    def __eq__(self, other: object) -> bool:
        if type(other) is ReceivedAttributes:
            if self.block == other.block and self.next_hop == other.next_hop and self.reading == other.reading:
                return True
            if self.form and self.form == other.form:
                return False
        return super().__eq__(other)

    __hash__ = None

    def with_next_hop(self, next_hop: bytes | None) -> ReceivedAttributes:
        """MP_REACH_NLRI's in the place of NEXT_HOP."""
        # Beside a NEXT_HOP that counts for nothing different octets can be the same attributes.
        form = self.form | FROM_MP_REACH if self.next_hop is None and self.form else ANY_FORM
        return ReceivedAttributes(self.block, next_hop, self.reading, form)


Attributes: TypeAlias = PathAttributes | Kept


def read_out(attributes: Attributes) -> PathAttributes:
    return attributes.read_out() if isinstance(attributes, Kept) else attributes


@functools.lru_cache(READ_OUT_KEPT)
def _read_out(block: bytes, next_hop: bytes | None, reading: Reading, form: int) -> PathAttributes:
    if form:
        return _read_regular(block, next_hop, form)
    # The first AS was checked when the block came.
    items, _ = split_attributes(block)
    decoded = decode_attributes(block, items, asn4=reading.asn4, external=reading.external, remote_asn=0)
    assert decoded.attributes is not None
    attributes = decoded.attributes
    return attributes if attributes.next_hop == next_hop else replace(attributes, next_hop=next_hop)


def _read_regular(block: bytes, next_hop: bytes | None, form: int) -> PathAttributes:
    """What ``pull_regular`` has found good: nothing is left to check, which saves most of the time."""
    start = 8 if form & EXTENDED_PATH else 7
    position = start + 2 + 4 * block[start + 1]
    values: dict[str, Any] = {"origin": block[3], "as_path": pull_as_path(block[start:position], True)}
    end = len(block)
    while position < end:
        spec = SPECS[block[position + 1]]
        start = position + 3
        position = start + block[position + 2]
        values[spec.field] = spec.decode(block[start:position], True)
    values["next_hop"] = next_hop
    return PathAttributes(**values)


# -- the short way in --------------------------------------------------------------------------------------

_OT = OPTIONAL | TRANSITIVE
_C = AttributeCode
_BEGINNINGS, _BEGINNINGS_EXTENDED = (
    tuple(bytes((TRANSITIVE, _C.ORIGIN, 1, origin, flags, _C.AS_PATH)) for origin in range(3))
    for flags in (TRANSITIVE, TRANSITIVE | EXTENDED_LENGTH)
)
_AS_SEQUENCE = int(SegmentType.AS_SEQUENCE)
_NEXT_HOP = int(_C.NEXT_HOP)
_LOCAL_PREF = int(_C.LOCAL_PREF)
_AGGREGATOR = int(_C.AGGREGATOR)
_LARGE = int(_C.LARGE_COMMUNITIES)


def _heads(external: bool) -> dict[bytes, tuple[int, int]]:
    """What the attributes after AS_PATH may begin with: flags, code and length → code, octets in all."""
    kinds: list[tuple[int, int, range]] = [
        (TRANSITIVE, _C.NEXT_HOP, range(4, 5)),
        (OPTIONAL, _C.MULTI_EXIT_DISC, range(4, 5)),
        (TRANSITIVE, _C.ATOMIC_AGGREGATE, range(1)),
        (_OT, _C.AGGREGATOR, range(8, 9)),
        (_OT, _C.COMMUNITIES, range(4, 256, 4)),
        (_OT, _C.EXTENDED_COMMUNITIES, range(8, 256, 8)),
        (_OT, _C.LARGE_COMMUNITIES, range(12, 256, 12)),
        (_OT, _C.ONLY_TO_CUSTOMER, range(4, 5)),
    ]
    if not external:
        kinds += [
            (TRANSITIVE, _C.LOCAL_PREF, range(4, 5)),
            (OPTIONAL, _C.ORIGINATOR_ID, range(4, 5)),
            (OPTIONAL, _C.CLUSTER_LIST, range(4, 256, 4)),
        ]
    return {
        bytes((flags, code, length)): (int(code), 3 + length) for flags, code, lengths in kinds for length in lengths
    }


_HEADS = {external: _heads(external) for external in (False, True)}


def pull_regular(block: bytes, reading: Reading, first_as: bytes) -> ReceivedAttributes | None:
    """``block`` (without 14 and 15) if it is plainly good; None: it may be good or bad, read it in full.

    Plainly good: ORIGIN, AS_PATH of one AS_SEQUENCE, then others in ascending order with the usual flags and one length
    octet, of a session with 4-octet AS numbers. ``first_as``: what the path has to begin with, in octets; may be empty.

    A third of the time that a full table takes is spent here: the heads are looked up in a table, and values are looked
    at only as far as they can be wrong.
    """
    if not reading.asn4:
        return None
    try:
        if block.startswith(_BEGINNINGS):
            form = REGULAR
            start = 7
            position = 7 + block[6]
        elif block.startswith(_BEGINNINGS_EXTENDED):
            form = REGULAR | EXTENDED_PATH
            start = 8
            position = 8 + (block[6] << 8 | block[7])
        else:
            return None
        if block[start] != _AS_SEQUENCE or position != start + 2 + 4 * block[start + 1]:
            return None
    except IndexError:
        return None
    # An AS 0 has four octets of 0; such octets need not be an AS 0.
    if position == start + 2 or not block.startswith(first_as, start + 2) or block.find(_AS_0, start, position) >= 0:
        return None
    heads = _HEADS[reading.external]
    next_hop: bytes | None = None
    last = 2
    end = len(block)
    preferred = reading.external
    while position < end:
        known = heads.get(block[position : position + 3])
        if known is None:
            return None
        code, size = known
        if code <= last:
            return None
        last = code
        if code == _NEXT_HOP:
            next_hop = _one_object(block[position + 3 : position + 7])
        elif code == _LOCAL_PREF:
            preferred = True
        elif code == _AGGREGATOR:
            if block.startswith(_AS_0, position + 3):
                return None
        elif code == _LARGE and size > 15:
            return None  # RFC 8092 §3: there may be duplicates to remove
        position += size
    if position != end or not preferred:
        return None
    return ReceivedAttributes(block, next_hop, reading, form)


_AS_0 = bytes(4)


@functools.lru_cache(1024)
def _one_object(next_hop: bytes) -> bytes:
    """A neighbor has few next hops."""
    return next_hop
