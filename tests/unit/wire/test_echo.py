"""RFC 5881 §4 over IPv4: echo packets, octet by octet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.wire.echo import forwarded, pull_echo, push_echo


def ones_complement_sum(octets: bytes) -> int:
    """RFC 1071, as a receiver does it: 0xffff where the checksum is right."""
    total = 0
    for i in range(0, len(octets), 2):
        total += octets[i] << 8 | octets[i + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total


ADDRESSES = st.binary(min_size=4, max_size=4)


@given(ADDRESSES, st.integers(1, 255), st.binary(max_size=200))
def test_what_is_pushed_is_pulled(address: bytes, ttl: int, payload: bytes) -> None:
    packet = push_echo(address, ttl, payload, 0xC0)
    assert ones_complement_sum(packet[:20]) == 0xFFFF
    echo = pull_echo(packet)
    assert echo is not None
    assert (echo.address, echo.ttl, echo.payload) == (address, ttl, payload)
    # What a link pads a short frame with is none of the packet.
    padded = pull_echo(packet + bytes(18))
    assert padded == echo


@given(ADDRESSES, st.binary(max_size=60), st.integers(2, 255))
def test_rfc1812_5_3_1_forwarded_is_one_less_with_a_right_checksum(address: bytes, payload: bytes, ttl: int) -> None:
    packet = push_echo(address, ttl, payload)
    onward = forwarded(packet)
    assert onward[8] == ttl - 1
    assert ones_complement_sum(onward[:20]) == 0xFFFF
    assert onward[:8] + onward[12:] == packet[:8] + packet[12:]


@given(st.binary(max_size=80))
def test_octets_that_are_no_echo_packet_raise_nothing(octets: bytes) -> None:
    echo = pull_echo(octets)
    assert echo is None or len(octets) >= 28


def test_what_is_no_echo_packet() -> None:
    good = push_echo(b"\x0a\0\0\1", 255, b"x" * 24)
    changed = {
        "version": bytes((0x65,)) + good[1:],
        "header length": bytes((0x44,)) + good[1:],
        "a fragment": good[:6] + b"\x20\x00" + good[8:],
        "a later fragment": good[:6] + b"\x00\x01" + good[8:],
        "TCP": good[:9] + b"\x06" + good[10:],
        "to somebody else": good[:16] + b"\x0a\0\0\2" + good[20:],
        "another port": good[:22] + b"\x0e\xc8" + good[24:],
        "UDP length beyond the packet": good[:24] + b"\xff\xff" + good[26:],
        "UDP length below its header": good[:24] + b"\x00\x07" + good[26:],
        "length beyond what is there": good[:2] + b"\xff\xff" + good[4:],
    }
    assert pull_echo(good) is not None
    for what, packet in changed.items():
        assert pull_echo(packet) is None, what
    for cut in range(len(good)):
        assert pull_echo(good[:cut]) is None
