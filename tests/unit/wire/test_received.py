"""Attributes kept as octets: the short way in against the full one, and what is equal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bgpbfd.wire.attributes import (
    OPTIONAL,
    PARTIAL,
    TRANSITIVE,
    DecodedAttributes,
    PathAttributes,
    Segment,
    decode_attributes,
    encode_attribute,
    encode_attributes,
    split_attributes,
)
from bgpbfd.wire.iana import AttributeCode, SegmentType
from bgpbfd.wire.messages import NotificationError
from bgpbfd.wire.received import Reading, ReceivedAttributes, pull_regular, read_out

REMOTE = 65001
_C = AttributeCode
HOP = b"\xc0\0\2\1"


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),)


def in_full(block: bytes, reading: Reading, remote_asn: int) -> DecodedAttributes | None:
    """None: it ends the session, or is cut short."""
    items, cut = split_attributes(block)
    if cut:
        return None
    try:
        return decode_attributes(block, items, asn4=reading.asn4, external=reading.external, remote_asn=remote_asn)
    except NotificationError:
        return None


def first_as(reading: Reading, remote_asn: int) -> bytes:
    return remote_asn.to_bytes(4) if reading.external and remote_asn else b""


READINGS = st.builds(Reading, st.booleans() | st.just(True), st.booleans())
ASNS = st.sampled_from([0, 1, REMOTE, 65536, 0x00FF0000, 0xFFFFFFFF]) | st.integers(1, 0xFFFFFFFF)
SEGMENTS = st.builds(
    lambda kind, asns: bytes((kind, len(asns))) + b"".join(asn.to_bytes(4) for asn in asns),
    st.sampled_from([2, 2, 2, 2, 1, 3, 0]),
    st.lists(ASNS, max_size=6).map(lambda asns: [REMOTE, *asns]) | st.lists(ASNS, max_size=70),
)
VALUES = {
    _C.ORIGIN: st.binary(min_size=1, max_size=1) | st.sampled_from([b"\0", b"\2"]),
    _C.AS_PATH: st.lists(SEGMENTS, min_size=1, max_size=1).map(b"".join) | st.lists(SEGMENTS, max_size=3).map(b"".join),
    _C.NEXT_HOP: st.binary(min_size=4, max_size=4),
    _C.MULTI_EXIT_DISC: st.binary(min_size=4, max_size=4),
    _C.LOCAL_PREF: st.binary(min_size=4, max_size=4),
    _C.ATOMIC_AGGREGATE: st.just(b""),
    _C.AGGREGATOR: st.binary(min_size=8, max_size=8) | st.just(bytes(8)),
    _C.COMMUNITIES: st.integers(1, 66).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
    _C.ORIGINATOR_ID: st.binary(min_size=4, max_size=4),
    _C.CLUSTER_LIST: st.integers(1, 3).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
    _C.EXTENDED_COMMUNITIES: st.integers(1, 3).flatmap(lambda n: st.binary(min_size=8 * n, max_size=8 * n)),
    _C.LARGE_COMMUNITIES: st.integers(1, 2).flatmap(lambda n: st.binary(min_size=12 * n, max_size=12 * n)),
    _C.ONLY_TO_CUSTOMER: st.binary(min_size=4, max_size=4),
    255: st.binary(max_size=5),
}
FLAGS = {
    **dict.fromkeys((_C.ORIGIN, _C.AS_PATH, _C.NEXT_HOP, _C.LOCAL_PREF, _C.ATOMIC_AGGREGATE), TRANSITIVE),
    **dict.fromkeys((_C.MULTI_EXIT_DISC, _C.ORIGINATOR_ID, _C.CLUSTER_LIST), OPTIONAL),
}


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Mostly good ones, as speakers write them; then something is done to them."""
    codes = {_C.ORIGIN, _C.AS_PATH, _C.NEXT_HOP, *draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=5))}
    parts = []
    for code in sorted(codes):
        value = draw(VALUES[code])
        flags = FLAGS.get(code, OPTIONAL | TRANSITIVE)
        if code == _C.AS_PATH and len(value) < 256 and draw(st.booleans()):
            parts.append(bytes((flags | 0x10, code)) + len(value).to_bytes(2) + value)  # as FRR does
        else:
            parts.append(encode_attribute(flags, code, value))
    damage = draw(st.integers(0, 9))
    if damage == 1:
        parts = draw(st.permutations(parts))
    elif damage == 2:
        parts.append(draw(st.sampled_from(parts)))
    elif damage == 3:
        del parts[draw(st.integers(0, len(parts) - 1))]
    block = bytearray(b"".join(parts))
    if damage in {4, 5} and block:
        block[draw(st.integers(0, len(block) - 1))] = draw(st.integers(0, 255))
    elif damage == 6:
        block = block[: draw(st.integers(0, len(block)))]
    return bytes(block)


@settings(max_examples=1500, deadline=None)
@given(blocks() | st.binary(max_size=40), READINGS, st.sampled_from([REMOTE, REMOTE, 0, 65002]))
@example(b"", Reading(asn4=True, external=True), REMOTE)
@example(b"\x40\x01\x01\x00\x40\x02", Reading(asn4=True, external=True), REMOTE)
@example(b"\x40\x01\x01\x00\x50\x02\x00", Reading(asn4=True, external=True), REMOTE)
def test_the_short_way_takes_only_what_the_full_one_finds_faultless_and_reads_it_the_same(
    block: bytes, reading: Reading, remote_asn: int
) -> None:
    received = pull_regular(block, reading, first_as(reading, remote_asn))
    if received is None:
        return
    full = in_full(block, reading, remote_asn)
    assert full is not None
    assert full.faults == []
    assert received.next_hop == (None if full.attributes is None else full.attributes.next_hop)
    assert received.read_out() == full.attributes


@settings(max_examples=300, deadline=None)
@given(blocks(), blocks(), st.booleans())
def test_equal_is_what_says_the_same(one: bytes, other: bytes, external: bool) -> None:
    reading = Reading(asn4=True, external=external)
    made = []
    for block in (one, other):
        full = in_full(block, reading, 0)
        if full is None or full.attributes is None:
            return
        plain = ReceivedAttributes(block, full.attributes.next_hop, reading)
        made.append([full.attributes, plain, pull_regular(block, reading, b"") or plain])
    for left in made[0]:
        for right in made[1]:
            assert (left == right) is (made[0][0] == made[1][0])
            assert (right == left) is (made[0][0] == made[1][0])


GOOD = PathAttributes(
    as_path=sequence(REMOTE, 65002, 70000), next_hop=HOP, med=7, communities=(65001 << 16 | 1,), only_to_customer=9
)


@pytest.mark.parametrize("external", [False, True])
def test_what_we_write_is_regular(external: bool) -> None:
    attributes = GOOD if external else replace(GOOD, local_pref=100, cluster_list=(b"1234",), originator_id=b"5678")
    block = encode_attributes(attributes, asn4=True, with_next_hop=True)
    reading = Reading(asn4=True, external=external)
    received = pull_regular(block, reading, first_as(reading, REMOTE))
    assert received is not None
    assert read_out(received) == attributes
    assert received == attributes
    assert attributes == received


def test_the_first_as_is_the_neighbors() -> None:
    block = encode_attributes(GOOD, asn4=True, with_next_hop=True)
    reading = Reading(asn4=True, external=True)
    assert pull_regular(block, reading, (65002).to_bytes(4)) is None
    assert pull_regular(block, reading, b"") is not None


def test_an_attribute_with_the_partial_bit_is_read_in_full() -> None:
    block = encode_attributes(GOOD, asn4=True, with_next_hop=True)
    at = block.index(bytes((OPTIONAL | TRANSITIVE, _C.COMMUNITIES)))
    marked = block[:at] + bytes((block[at] | PARTIAL,)) + block[at + 1 :]
    assert pull_regular(marked, Reading(asn4=True, external=True), b"") is None


def test_rfc4760_3_a_next_hop_of_mp_reach_nlri_is_part_of_what_is_compared() -> None:
    block = encode_attributes(replace(GOOD, next_hop=None), asn4=True, with_next_hop=False)
    received = pull_regular(block, Reading(asn4=True, external=True), b"")
    assert received is not None
    one, other = received.with_next_hop(bytes(15) + b"\1"), received.with_next_hop(bytes(15) + b"\2")
    assert one != other
    assert one == received.with_next_hop(bytes(15) + b"\1")
    assert read_out(one) == replace(GOOD, next_hop=bytes(15) + b"\1")
    assert received != one
    beside = ReceivedAttributes(encode_attributes(GOOD, asn4=True, with_next_hop=True), HOP, received.reading, 1)
    assert beside.with_next_hop(bytes(15) + b"\1") == one  # its NEXT_HOP counts for nothing


def test_rfc8092_3_large_communities_that_may_come_twice_are_read_in_full() -> None:
    block = encode_attributes(GOOD, asn4=True, with_next_hop=True)
    reading = Reading(asn4=True, external=True)
    before, after = block[:-7], block[-7:]  # ONLY_TO_CUSTOMER is the last, and comes after them
    twice = encode_attribute(OPTIONAL | TRANSITIVE, _C.LARGE_COMMUNITIES, bytes(range(12)) * 2)
    assert pull_regular(before + twice + after, reading, b"") is None
    once = encode_attribute(OPTIONAL | TRANSITIVE, _C.LARGE_COMMUNITIES, bytes(range(12)))
    assert pull_regular(before + once + after, reading, b"") is not None


def test_what_was_written_in_two_ways_is_equal() -> None:
    """The same AS_PATH with one length octet and with two, as FRR has it."""
    block = encode_attributes(GOOD, asn4=True, with_next_hop=True)
    at = block.index(bytes((TRANSITIVE, _C.AS_PATH)))
    longer = block[:at] + bytes((block[at] | 0x10, _C.AS_PATH, 0)) + block[at + 2 :]
    reading = Reading(asn4=True, external=True)
    one, other = pull_regular(block, reading, b""), pull_regular(longer, reading, b"")
    assert one is not None
    assert other is not None
    assert one == other
    assert read_out(other) == GOOD
