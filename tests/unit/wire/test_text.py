"""Text forms of AS numbers, paths, communities and addresses."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.wire import text
from bgpbfd.wire.attributes import Segment
from bgpbfd.wire.text import Communities

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
ASN = st.integers(1, 0xFFFFFFFF)
AS_SET, AS_SEQUENCE = 1, 2


# -- AS numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "asn"),
    [
        ("65000", 65000),
        ("1", 1),
        ("4294967295", 4294967295),
        ("65536", 65536),
        ("1.0", 65536),
        ("1.10", 65546),
        ("0.65526", 65526),
        ("65535.65535", 4294967295),
        (65010, 65010),
        (" 65000 ", 65000),
    ],
)
def test_rfc5396_asplain_and_asdot(value: str | int, asn: int) -> None:
    assert text.parse_asn(value) == asn


@pytest.mark.parametrize(
    "value",
    [
        *("0", "0.0", 0, -1, "-1", "+1", "4294967296", 4294967296, "1.65536", "65536.1", "1.2.3", "", "AS1"),
        *("01", "1.", ".1", "1_0", "\N{FULLWIDTH DIGIT ONE}", True, "1e3", "9" * 5000),
    ],
)
def test_bad_as_number_is_refused_with_what_would_be_right(value: str | int) -> None:
    with pytest.raises(ValueError, match="from 1 to 4294967295"):
        text.parse_asn(value)


# -- paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "segments"),
    [
        ([], ()),
        (["65000", "500"], (Segment(AS_SEQUENCE, (65000, 500)),)),
        (["1.10", "500"], (Segment(AS_SEQUENCE, (65546, 500)),)),
        (["{65001,65002}"], (Segment(AS_SET, (65001, 65002)),)),
        (
            ["1", "{2, 3}", "4", "5"],
            (Segment(AS_SEQUENCE, (1,)), Segment(AS_SET, (2, 3)), Segment(AS_SEQUENCE, (4, 5))),
        ),
        (["1 2 {3}4"], (Segment(AS_SEQUENCE, (1, 2)), Segment(AS_SET, (3,)), Segment(AS_SEQUENCE, (4,)))),
        (["7", "7", "7"], (Segment(AS_SEQUENCE, (7, 7, 7)),)),
    ],
)
def test_as_path_from_text(items: list[str], segments: tuple[Segment, ...]) -> None:
    assert text.parse_as_path(items) == segments


def test_rfc4271_4_3_a_segment_counts_at_most_255() -> None:
    path = text.parse_as_path([str(n) for n in range(1, 601)])
    assert [len(segment.asns) for segment in path] == [255, 255, 90]
    assert [asn for segment in path for asn in segment.asns] == list(range(1, 601))
    with pytest.raises(ValueError, match="1 to 255"):
        text.parse_as_path(["{" + ",".join(str(n) for n in range(1, 257)) + "}"])


@pytest.mark.parametrize("item", ["{", "}", "{}", "{1", "1}", "{0}", "(1 2)", "[1]", "x", "{1,x}", "0"])
def test_bad_as_path_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match="expected an AS"):
        text.parse_as_path(["1", item])


def test_as_path_text() -> None:
    path = (Segment(AS_SEQUENCE, (65000, 500)), Segment(AS_SET, (1, 2)))
    assert text.format_as_path(path) == ["65000", "500", "{1,2}"]
    assert text.as_path_text(path) == "65000 500 {1,2}"
    assert text.as_path_text(()) == ""


def test_rfc5065_confederation_segments_are_shown_apart() -> None:
    path = (Segment(3, (64512, 64513)), Segment(4, (64514, 64515)), Segment(AS_SEQUENCE, (1,)))
    assert text.as_path_text(path) == "(64512 64513) [64514,64515] 1"


SEQUENCE = st.lists(ASN, min_size=1, max_size=20).map(lambda asns: Segment(AS_SEQUENCE, tuple(asns)))
SET = st.lists(ASN, min_size=1, max_size=20, unique=True).map(lambda asns: Segment(AS_SET, tuple(asns)))


@given(st.lists(st.one_of(SEQUENCE, SET), max_size=6))
def test_as_path_text_parses_back(segments: list[Segment]) -> None:
    items = text.format_as_path(segments)
    back = text.parse_as_path(items)
    assert text.format_as_path(back) == items
    assert text.parse_as_path([text.as_path_text(segments)]) == back
    assert [s for s in back if s.kind == AS_SET] == [s for s in segments if s.kind == AS_SET]


# -- communities -------------------------------------------------------------------------------------------

# The values are IANA's "BGP Well-known Communities" registry.
WELL_KNOWN = [
    ("graceful-shutdown", 0xFFFF0000),
    ("accept-own", 0xFFFF0001),
    ("llgr-stale", 0xFFFF0006),
    ("no-llgr", 0xFFFF0007),
    ("blackhole", 0xFFFF029A),
    ("no-export", 0xFFFFFF01),
    ("no-advertise", 0xFFFFFF02),
    ("no-export-subconfed", 0xFFFFFF03),
    ("no-peer", 0xFFFFFF04),
]


@pytest.mark.parametrize(("name", "value"), WELL_KNOWN)
def test_iana_well_known_communities_both_ways(name: str, value: int) -> None:
    assert text.parse_community(name) == value
    assert text.parse_community(name.upper().replace("-", "_")) == value
    assert text.parse_community(f"{value >> 16}:{value & 0xFFFF}") == value
    assert text.format_community(value) == name


@pytest.mark.parametrize(
    ("item", "value"), [("101", 101), ("65000:99", 65000 << 16 | 99), ("4294967295", 0xFFFFFFFF), ("0:0", 0)]
)
def test_rfc1997_communities_from_text(item: str, value: int) -> None:
    assert text.parse_community(item) == value


@pytest.mark.parametrize(("value", "item"), [(101, "101"), (65000 << 16 | 99, "65000:99"), (65536, "1:0")])
def test_communities_are_shown_as_bgpd_rs_shows_them(value: int, item: str) -> None:
    assert text.format_community(value) == item


def test_a_community_with_a_large_half_points_at_large_communities() -> None:
    with pytest.raises(ValueError, match='need a large community "A:B:C"'):
        text.parse_community("4200000000:1")


@pytest.mark.parametrize("item", ["", "x", "1:", ":1", "4294967296", "-1", "1:x", "no-exports", "0x1"])
def test_bad_standard_community_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        text.parse_community(item)


@pytest.mark.parametrize("item", ["1:2", "01:2:3", "1:2:4294967296", "1::2", "1:2:3:4", "a:b:c", "-1:2:3"])
def test_rfc8092_5_large_communities_are_three_decimal_u32_without_leading_zeros(item: str) -> None:
    with pytest.raises(ValueError, match="large community"):
        text.parse_large(item)


def test_rfc8092_5_large_community_text() -> None:
    assert text.parse_large("4294967295:0:10") == (4294967295, 0, 10)
    assert text.format_large((64496, 4294967295, 2)) == "64496:4294967295:2"


@pytest.mark.parametrize(
    ("item", "octets"),
    [
        ("rt:65000:1", "0002fde800000001"),  # RFC 4360 §3.1, §4
        ("rt:65000:4294967295", "0002fde8ffffffff"),
        ("soo:65000:7", "0003fde800000007"),  # RFC 4360 §5
        ("rt:192.0.2.1:5", "0102c00002010005"),  # §3.2
        ("soo:192.0.2.1:65535", "0103c0000201ffff"),
        ("rt:4200000000:1", "0202fa56ea000001"),  # RFC 5668 §2
        ("rt:65000L:1", "02020000fde80001"),
        ("bandwidth:65000:1250000", "4004fde849989680"),
        ("bandwidth:65000:0", "4004fde800000000"),
        ("bandwidth:65000:0.1", "4004fde83dcccccd"),
        ("ext:0x030b000000000064", "030b000000000064"),  # a type that we do not know
        ("ext:0x4002fde800000001", "4002fde800000001"),  # non-transitive: not what rt: writes
        ("ext:0x0004fde849989680", "0004fde849989680"),  # transitive link bandwidth
        ("ext:0x0002000000000001", "0002000000000001"),  # AS 0 has no spelling
        ("ext:0x4004fde87f800000", "4004fde87f800000"),  # an infinite bandwidth
        ("ext:0x4004fde8bf800000", "4004fde8bf800000"),  # a negative one
        ("ext:0x800600000000c34f", "800600000000c34f"),
    ],
)
def test_extended_communities_both_ways(item: str, octets: str) -> None:
    assert text.parse_extended(item) == bytes.fromhex(octets)
    assert text.format_extended(bytes.fromhex(octets)) == item


@pytest.mark.parametrize(
    ("item", "octets"),
    [
        ("rt:[2001:db8::1]:7", "0002 20010db8000000000000000000000001 0007"),
        ("soo:[::]:65535", "0003 00000000000000000000000000000000 ffff"),
        ("ext:0x400220010db80000000000000000000000010007", "4002 20010db8000000000000000000000001 0007"),
        ("ext:0x000d20010db80000000000000000000000010007", "000d 20010db8000000000000000000000001 0007"),
    ],
)
def test_rfc5701_2_ipv6_extended_communities_both_ways(item: str, octets: str) -> None:
    assert text.parse_ipv6_extended(item) == bytes.fromhex(octets)
    assert text.format_extended(bytes.fromhex(octets)) == item
    assert text.parse_communities([item], ipv6=True) == Communities(ipv6_extended=(bytes.fromhex(octets),))
    # who has no use for one is not given it in silence
    with pytest.raises(ValueError, match="expected"):
        text.parse_communities([item])


@pytest.mark.parametrize(
    "item",
    [
        *("rt:[2001:db8::1]", "rt:[2001:db8::1]:65536", "rt:[192.0.2.1]:1", "rt:[fe80::1%1]:1", "rt:[2001:db8::1:1"),
        *("rt:[]:1", "bandwidth:[::]:1", "rt:2001:db8::1:7", "rt:[::1]:-1", "[::1]:1", "foo:[::1]:1"),
    ],
)
def test_bad_ipv6_extended_community_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match=r"rt:\[2001:db8::1\]:7"):
        text.parse_ipv6_extended(item)
    with pytest.raises(ValueError, match="expected"):
        text.parse_communities([item], ipv6=True)


@pytest.mark.parametrize(
    ("item", "octets"),
    [
        ("ro:65000:7", "0003fde800000007"),
        ("RT:65000:1", "0002fde800000001"),
        ("rt:1.10:7", "02020001000a0007"),
        ("rt:0.10:7", "02020000000a0007"),
        ("ext:0x0002FDE800000001", "0002fde800000001"),
        ("bandwidth:1:1.25E6", "4004000149989680"),
    ],
)
def test_other_spellings_of_extended_communities(item: str, octets: str) -> None:
    assert text.parse_extended(item) == bytes.fromhex(octets)


@pytest.mark.parametrize(
    "item",
    [
        *("rt:65000", "rt:65000:4294967296", "rt:65536:65536", "rt:192.0.2.1:65536", "rt:0:1", "rt:x:1"),
        *("rt:1:2:3", "rt:192.0.2.1L:1", "foo:1:2", "ext:0x00", "ext:0002fde800000001", "bandwidth:1"),
        *("bandwidth:65536:1", "bandwidth:1:-1", "bandwidth:1:nan", "bandwidth:1:inf", "bandwidth:1:1e39"),
        *("bandwidth:1:1_0", "rt:[2001:db8::1]:7", "ext:0x" + "0" * 18, "ext:0x" + "0" * 40, "bandwidth:[::]:1"),
    ],
)
def test_bad_extended_community_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match=r"expected|at most"):
        text.parse_extended(item)


def test_communities_are_sorted_into_their_attributes_in_order() -> None:
    items = ["101", "65000:1:2", "202", "rt:[2001:db8::1]:7", "rt:65000:1", "65000:99", "no-export"]
    assert text.parse_communities(items, ipv6=True) == Communities(
        standard=(101, 202, 65000 << 16 | 99, 0xFFFFFF01),
        extended=(bytes.fromhex("0002fde800000001"),),
        large=((65000, 1, 2),),
        ipv6_extended=(bytes.fromhex("000220010db80000000000000000000000010007"),),
    )


def test_rfc8092_3_a_repeated_community_counts_once() -> None:
    items = ["2:2:2", "1:1:1", "2:2:2", "no-export", "65535:65281", "rt:1:1", "ext:0x0002000100000001"]
    assert text.parse_communities(items) == Communities(
        standard=(0xFFFFFF01,), extended=(bytes.fromhex("0002000100000001"),), large=((2, 2, 2), (1, 1, 1))
    )


@pytest.mark.parametrize("item", ["1:2:3:4", "no-such", "1:65536:", "foo:1:2", ""])
def test_bad_item_in_a_list_is_named(item: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        text.parse_communities(["no-export", item])
    assert repr(item) in str(error.value)


IPV6_EXTENDED = st.tuples(
    st.sampled_from([0x00, 0x40]), st.sampled_from([2, 3, 13]), st.binary(min_size=18, max_size=18)
).map(lambda parts: bytes(parts[:2]) + parts[2])


@given(
    st.lists(U32, unique=True),
    st.lists(st.binary(min_size=8, max_size=8), unique=True),
    st.lists(st.tuples(U32, U32, U32), unique=True),
    st.lists(IPV6_EXTENDED, unique=True),
)
def test_communities_parse_back(
    standard: list[int], extended: list[bytes], large: list[tuple[int, int, int]], ipv6_extended: list[bytes]
) -> None:
    communities = Communities(tuple(standard), tuple(extended), tuple(large), tuple(ipv6_extended))
    assert text.parse_communities(text.format_communities(communities), ipv6=True) == communities


@given(
    st.sampled_from([0x00, 0x01, 0x02, 0x40, 0x41, 0x80]),
    st.sampled_from([2, 3, 4, 6]),
    st.one_of(st.binary(min_size=6, max_size=6), st.tuples(U16, U32).map(lambda v: struct.pack(">HI", *v))),
)
def test_extended_communities_of_named_types_parse_back(kind: int, subtype: int, value: bytes) -> None:
    octets = bytes((kind, subtype)) + value
    assert text.parse_extended(text.format_extended(octets)) == octets


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False, width=32))
def test_float32_text_is_exact(value: float) -> None:
    shown = text.format_float32(value)
    back = text.parse_float32(shown)
    assert back is not None
    assert struct.pack(">f", back) == struct.pack(">f", abs(value))


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_by_value_error(item: str) -> None:
    for parse in (
        text.parse_community,
        text.parse_large,
        text.parse_extended,
        text.parse_ipv6_extended,
        text.parse_asn,
    ):
        with contextlib.suppress(ValueError):
            parse(item)
    for parse_list in (text.parse_as_path, text.parse_communities):
        with contextlib.suppress(ValueError):
            parse_list([item])


# -- origin, router id, addresses --------------------------------------------------------------------------


def test_rfc4271_4_3_origin_values() -> None:
    assert [text.parse_origin(word) for word in ("igp", "egp", "incomplete")] == [0, 1, 2]
    assert text.parse_origin("IGP") == 0
    assert [text.origin_text(value) for value in range(3)] == ["igp", "egp", "incomplete"]
    with pytest.raises(ValueError, match="igp, egp or incomplete"):
        text.parse_origin("bgp")


def test_router_id_is_an_unsigned_number() -> None:
    assert text.parse_router_id("192.0.2.10") == 0xC000020A
    assert text.parse_router_id("255.255.255.255") == 0xFFFFFFFF
    assert text.format_router_id(0xC000020A) == "192.0.2.10"


@pytest.mark.parametrize("value", ["0.0.0.0", "192.0.2", "192.0.2.256", "::1", "", "1", "192.0.2.010"])
def test_rfc6286_2_1_bad_router_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="expected a router id"):
        text.parse_router_id(value)


@given(st.integers(1, 0xFFFFFFFF))
def test_router_id_parses_back(value: int) -> None:
    assert text.parse_router_id(text.format_router_id(value)) == value


@pytest.mark.parametrize(
    ("shown", "octets"),
    [
        ("192.0.2.1", "c0000201"),
        ("2001:db8::1", "20010db8000000000000000000000001"),
        (
            "2001:db8::1,fe80::2",
            "20010db8000000000000000000000001" + "fe800000000000000000000000000002",
        ),
    ],
)
def test_rfc2545_3_next_hop_text_both_ways(shown: str, octets: str) -> None:
    assert text.parse_address(shown) == bytes.fromhex(octets)
    assert text.format_address(bytes.fromhex(octets)) == shown


@pytest.mark.parametrize(
    "value", ["", "x", "192.0.2.1,fe80::1", "2001:db8::1,2001:db8::2", "fe80::1%eth0", "::1,", "192.0.2.0/24"]
)
def test_bad_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="expected an IPv4 or IPv6 address"):
        text.parse_address(value)
