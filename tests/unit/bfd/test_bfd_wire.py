"""RFC 5880 §4.1 and the part of §6.8.6 that needs no session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.wire.bfd import AUTH_KEY_LENGTH_MAX, ControlPacket, Discard, pull_control, push_control
from bgpbfd.wire.iana import AuthType, BfdState

# Version 1, diag 1; Up, P, C; mult 3; length 24; 0x01020304, 0x0a0b0c0d; 1 s, 50 ms, 0.
VECTOR = bytes.fromhex("21 e8 03 18 01020304 0a0b0c0d 000f4240 0000c350 00000000")

U32 = st.integers(0, 2**32 - 1)
PACKETS = st.builds(
    ControlPacket,
    state=st.sampled_from(BfdState),
    detect_mult=st.integers(1, 255),
    my_discriminator=st.integers(1, 2**32 - 1),
    your_discriminator=U32,
    desired_min_tx_us=U32,
    required_min_rx_us=U32,
    required_min_echo_rx_us=U32,
    diag=st.integers(0, 31),
    poll=st.booleans(),
    final=st.just(False),
    control_plane_independent=st.booleans(),
    demand=st.booleans(),
    authentication=st.none() | st.binary(min_size=2, max_size=200),
)


def test_rfc5880_4_1_layout() -> None:
    packet = pull_control(VECTOR)
    assert packet == ControlPacket(
        state=BfdState.UP,
        detect_mult=3,
        my_discriminator=0x01020304,
        your_discriminator=0x0A0B0C0D,
        desired_min_tx_us=1_000_000,
        required_min_rx_us=50_000,
        diag=1,
        poll=True,
        control_plane_independent=True,
    )
    assert push_control(packet) == VECTOR


@given(PACKETS)
def test_rfc5880_4_1_round_trip(packet: ControlPacket) -> None:
    assert pull_control(push_control(packet)) == packet


@given(PACKETS, st.binary(max_size=40))
def test_rfc9764_bytes_behind_length_are_padding(packet: ControlPacket, padding: bytes) -> None:
    assert pull_control(push_control(packet) + padding) == packet


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_a_reason(data: bytes) -> None:
    assert isinstance(pull_control(data), ControlPacket | Discard)


def altered(offset: int, value: int) -> bytes:
    return VECTOR[:offset] + bytes((value,)) + VECTOR[offset + 1 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(altered(0, 0x01), "version", id="R1-version-0"),
        pytest.param(altered(0, 0x41), "version", id="R1-version-2"),
        pytest.param(altered(3, 23), "length", id="R2-length-23"),
        pytest.param(altered(1, 0xC4)[:3] + b"\x19" + VECTOR[4:] + b"\0\0", "length", id="R2-length-25-with-A"),
        pytest.param(altered(3, 25), "truncated", id="R3-length-above-payload"),
        pytest.param(VECTOR[:23], "truncated", id="R3-payload-cut"),
        pytest.param(b"", "truncated", id="R3-empty"),
        pytest.param(altered(2, 0), "detect-mult-zero", id="R4"),
        pytest.param(altered(1, 0xC1), "multipoint", id="R5"),
        pytest.param(VECTOR[:4] + bytes(4) + VECTOR[8:], "my-discriminator-zero", id="R6"),
        pytest.param(altered(1, 0xF0), "poll-and-final", id="6.5-P-and-F"),
    ],
)
def test_rfc5880_6_8_6_discards(data: bytes, reason: str) -> None:
    assert pull_control(data) == reason


def test_rfc5880_4_1_the_section_is_what_lies_between_the_24th_octet_and_length() -> None:
    data = altered(1, 0xEC)[:3] + b"\x1c" + VECTOR[4:] + b"\1\4\7s"
    packet = pull_control(data + b"padding")
    assert isinstance(packet, ControlPacket)
    assert packet.authentication == b"\1\4\7s"
    assert push_control(packet) == data


def test_rfc5880_4_1_without_the_a_bit_there_is_no_section() -> None:
    packet = pull_control(altered(3, 0x1C) + b"\1\4\7s")
    assert isinstance(packet, ControlPacket)
    assert packet.authentication is None


def test_rfc5880_4_1_authentication_types_and_their_longest_keys() -> None:
    assert {int(auth_type): longest for auth_type, longest in AUTH_KEY_LENGTH_MAX.items()} == {
        1: 16,
        2: 16,
        3: 16,
        4: 20,
        5: 20,
    }
    assert set(AUTH_KEY_LENGTH_MAX) == set(AuthType)


def test_rfc5880_6_8_6_the_first_rule_that_fails_gives_the_reason() -> None:
    everything_wrong = bytes.fromhex("01 f1 00 00 00000000") + VECTOR[8:]
    reasons = []
    data = everything_wrong
    fixes: list[Callable[[bytes], bytes]] = [
        lambda d: b"\x21" + d[1:],
        lambda d: d[:3] + b"\x19" + d[4:],
        lambda d: d[:3] + b"\x18" + d[4:],
        lambda d: d[:2] + b"\x03" + d[3:],
        lambda d: d[:1] + b"\xf0" + d[2:],
        lambda d: d[:4] + b"\0\0\0\1" + d[8:],
        lambda d: d[:1] + b"\xe0" + d[2:],
    ]
    for fix in fixes:
        reasons.append(pull_control(data))
        data = fix(data)
    assert reasons == [
        "version",
        "length",
        "truncated",
        "detect-mult-zero",
        "multipoint",
        "my-discriminator-zero",
        "poll-and-final",
    ]
    assert isinstance(pull_control(data), ControlPacket)
