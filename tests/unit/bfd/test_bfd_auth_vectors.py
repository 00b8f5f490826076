"""Packets that BIRD signed: accepted as they came, and signed by us to the same octets."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from random import Random

import pytest

from bgpbfd.bfd.auth import AUTH_TYPES, Authenticator
from bgpbfd.bfd.protocol import AuthKey
from bgpbfd.wire.bfd import ControlPacket, pull_control

LINES = (Path(__file__).parents[2] / "vectors" / "bfd_auth.txt").read_text().splitlines()
ROWS = [line.split() for line in LINES if not line.startswith("#")]
SESSIONS = [
    (AuthKey(type=name, key_id=int(key_id), key=bytes.fromhex(key)), [bytes.fromhex(row[3]) for row in rows])
    for (name, key_id, key), rows in ((head, list(rows)) for head, rows in groupby(ROWS, lambda row: tuple(row[:3])))
]
IDS = [f"{key.type}-{key.key_id}" for key, _ in SESSIONS]


def test_every_type_is_there() -> None:
    assert {key.type for key, _ in SESSIONS} == set(AUTH_TYPES)
    assert all(len(packets) >= 5 for _, packets in SESSIONS)


@pytest.mark.parametrize(("key", "packets"), SESSIONS, ids=IDS)
def test_bird_s_packets_are_accepted(key: AuthKey, packets: list[bytes]) -> None:
    receiver = Authenticator((key,), Random(1))
    for packet in packets:
        assert isinstance(pull_control(packet), ControlPacket)
        assert receiver.verify(packet) is None
    assert receiver.last_key_id == key.key_id


@pytest.mark.parametrize(("key", "packets"), SESSIONS, ids=IDS)
def test_bird_s_packets_are_refused_under_another_key(key: AuthKey, packets: list[bytes]) -> None:
    other = AuthKey(type=key.type, key_id=key.key_id, key=key.key[:-1] + bytes([key.key[-1] ^ 1]))
    receiver = Authenticator((other,), Random(1))
    assert {receiver.verify(packet) for packet in packets} == {"auth-digest"}


@pytest.mark.parametrize(("key", "packets"), SESSIONS, ids=IDS)
def test_bird_s_packets_again_are_a_replay_where_the_type_has_it_so(key: AuthKey, packets: list[bytes]) -> None:
    receiver = Authenticator((key,), Random(1))
    for packet in packets:
        assert receiver.verify(packet) is None
    expected = "auth-sequence" if key.type.startswith("meticulous") else None
    assert receiver.verify(packets[-1]) == expected


@pytest.mark.parametrize(("key", "packets"), SESSIONS, ids=IDS)
def test_the_same_packets_are_signed_to_the_same_octets(key: AuthKey, packets: list[bytes]) -> None:
    for packet in packets:
        number = int.from_bytes(packet[28:32], "big")

        class Before(Random):
            def getrandbits(self, bits: int, /, *, before: int = number - 1) -> int:
                return before

        bare = packet[:1] + bytes((packet[1] & ~4, packet[2], 24)) + packet[4:24]
        assert Authenticator((key,), Before()).sign(bare) == packet
