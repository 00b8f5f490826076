from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.core import Prefix
from bgpbfd.wire.nlri import NlriError, pull_flows, pull_prefixes


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def test_rfc4271_4_3_lengths_take_as_many_octets_as_they_need() -> None:
    field = raw("00 01 80 08 0a 09 0a80 10 c000 19 c0000280 20 c0000201")
    assert pull_prefixes(field, 1) == [
        raw("00"),
        raw("0180"),
        raw("080a"),
        raw("090a80"),
        raw("10c000"),
        raw("19c0000280"),
        raw("20c0000201"),
    ]


@pytest.mark.parametrize(
    ("got", "masked"),
    [("01 ff", "01 80"), ("19 c00002ff", "19 c0000280"), ("18 c00002", "18 c00002"), ("1f ffffffff", "1f fffffffe")],
)
def test_rfc4271_4_3_host_bits_are_irrelevant(got: str, masked: str) -> None:
    assert pull_prefixes(raw(got), 1) == [raw(masked)]


@pytest.mark.parametrize("field", ["21 0102030405", "ff", "21", "20 010203", "01", "08 0a 18 0a00"])
def test_rfc4271_6_3_length_over_32_or_overrun(field: str) -> None:
    with pytest.raises(NlriError):
        pull_prefixes(raw(field), 1)


def test_ipv6_takes_up_to_128() -> None:
    assert pull_prefixes(b"\x80" + bytes(16) + b"\x21" + raw("20010db8ff"), 2) == [
        b"\x80" + bytes(16),
        raw("21 20010db880"),
    ]
    with pytest.raises(NlriError):
        pull_prefixes(b"\x81" + bytes(17), 2)


def test_a_memoryview_will_do() -> None:
    assert pull_prefixes(memoryview(raw("080a")), 1) == [raw("080a")]


@given(st.lists(st.ip_addresses(v=4).flatmap(lambda a: st.tuples(st.just(a), st.integers(0, 32)))))
def test_prefixes_round_trip(pairs: list[tuple[ipaddress.IPv4Address, int]]) -> None:
    prefixes = [Prefix.of(ipaddress.IPv4Network((address, length), strict=False)) for address, length in pairs]
    assert pull_prefixes(b"".join(p.nlri for p in prefixes), 1) == [p.nlri for p in prefixes]


@given(st.binary(max_size=60), st.sampled_from([1, 2]))
def test_any_octets_split_or_raise(data: bytes, afi: int) -> None:
    try:
        got = pull_prefixes(data, afi)
    except NlriError:
        return
    assert sum(map(len, got)) == len(data)
    assert all(Prefix(afi, p).network().prefixlen == p[0] for p in got)


def test_rfc8955_4_1_lengths_of_one_and_two_octets() -> None:
    first = raw("0b 01 18 c00002 03 81 06 04 81 19")
    short, long, longer = b"\xef" + bytes(239), b"\xf0\xf0" + bytes(240), b"\xf1\x00" + bytes(256)
    assert pull_flows(first + short + long + longer) == [first, short, long, longer]
    assert pull_flows(b"\xff\xff" + bytes(4095)) == [b"\xff\xff" + bytes(4095)]


def test_rfc8955_4_1_a_short_rule_with_a_length_of_two_octets_is_the_same_rule() -> None:
    assert pull_flows(raw("f0 03 03 81 06 03 03 81 06")) == [raw("03 03 81 06")] * 2


@pytest.mark.parametrize("field", ["0b 01", "f0", "f0 f0 00", "00", "05 01 18 c000"])
def test_rfc8955_4_1_overrun_or_empty(field: str) -> None:
    with pytest.raises(NlriError):
        pull_flows(raw(field))
