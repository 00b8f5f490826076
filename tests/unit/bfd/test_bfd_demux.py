"""RFC 5880 §6.3 and §6.8.6, RFC 5881 §3–5: to whom a packet belongs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from bgpbfd.bfd.demux import Arrival, Demultiplexer, canonical
from bgpbfd.wire.bfd import ControlPacket, push_control
from bgpbfd.wire.iana import BfdState


@dataclass(eq=False)
class Owner:
    remote: str
    local: str | None
    ifindex: int | None
    discriminator: int


HERE = Arrival(remote="192.0.2.1", local="192.0.2.10", ifindex=2, ttl=255)
PACKET = ControlPacket(
    state=BfdState.DOWN,
    detect_mult=3,
    my_discriminator=7,
    your_discriminator=0,
    desired_min_tx_us=1_000_000,
    required_min_rx_us=50_000,
)


def selected(demux: Demultiplexer[Owner], packet: ControlPacket, arrival: Arrival = HERE) -> Owner | None:
    found = demux.select(push_control(packet), arrival)
    return None if found is None else found[0]


@pytest.mark.parametrize("ttl", [254, 64, 1, 0])
def test_rfc5881_5_discards_ttl_below_255_before_anything_else(ttl: int) -> None:
    demux: Demultiplexer[Owner] = Demultiplexer()
    demux.add(Owner("192.0.2.1", None, None, 5))
    assert demux.select(b"garbage", replace(HERE, ttl=ttl)) is None
    assert selected(demux, PACKET, replace(HERE, ttl=ttl)) is None
    assert demux.discards == {"ttl": 2}


def test_rfc5880_6_3_discriminator_alone_selects_even_from_another_address() -> None:
    demux: Demultiplexer[Owner] = Demultiplexer()
    owner = Owner("192.0.2.1", "192.0.2.10", None, 5)
    demux.add(owner)
    packet = replace(PACKET, your_discriminator=5, state=BfdState.UP)
    assert selected(demux, packet, replace(HERE, remote="192.0.2.77")) is owner
    assert demux.discards == {}


def test_rfc5880_6_8_6_discards_unknown_discriminator() -> None:
    demux: Demultiplexer[Owner] = Demultiplexer()
    demux.add(Owner("192.0.2.1", None, None, 5))
    assert selected(demux, replace(PACKET, your_discriminator=6)) is None
    assert demux.discards == {"unknown-discriminator": 1}


@pytest.mark.parametrize("state", [BfdState.INIT, BfdState.UP])
def test_rfc5880_6_8_6_discards_zero_your_discriminator_unless_down(state: BfdState) -> None:
    demux: Demultiplexer[Owner] = Demultiplexer()
    demux.add(Owner("192.0.2.1", None, None, 5))
    assert selected(demux, replace(PACKET, state=state)) is None
    assert demux.discards == {"your-discriminator-zero": 1}


def test_rfc5880_6_8_6_selects_by_remote_local_and_interface() -> None:
    demux: Demultiplexer[Owner] = Demultiplexer()
    anywhere = Owner("192.0.2.1", None, None, 1)
    by_local = Owner("192.0.2.1", "192.0.2.10", None, 2)
    by_interface = Owner("192.0.2.1", "192.0.2.10", 2, 3)
    elsewhere = Owner("192.0.2.1", "192.0.2.10", 4, 4)
    for owner in (anywhere, elsewhere):
        demux.add(owner)
    assert selected(demux, PACKET) is anywhere
    demux.add(by_local)
    assert selected(demux, PACKET) is by_local
    demux.add(by_interface)
    assert selected(demux, PACKET) is by_interface
    assert selected(demux, PACKET, replace(HERE, local="192.0.2.11")) is anywhere
    for owner in (anywhere, by_local, by_interface):
        demux.remove(owner)
    assert selected(demux, PACKET) is None
    assert demux.discards == {"unknown-session": 1}


def test_rfc5881_3_session_is_bound_to_its_interface() -> None:
    demux: Demultiplexer[Owner] = Demultiplexer()
    demux.add(Owner("192.0.2.1", None, 4, 5))
    assert selected(demux, replace(PACKET, your_discriminator=5)) is None
    assert demux.discards == {"wrong-interface": 1}


def test_two_interfaces_with_the_same_link_local_neighbor() -> None:
    demux: Demultiplexer[Owner] = Demultiplexer()
    first, second = Owner("fe80::1", None, 2, 1), Owner("fe80::1", None, 3, 2)
    demux.add(first)
    demux.add(second)
    assert selected(demux, PACKET, Arrival("fe80::1", "fe80::a", 2, 255)) is first
    assert selected(demux, PACKET, Arrival("fe80::1", "fe80::a", 3, 255)) is second


def test_fault_12_addresses_are_compared_in_canonical_form() -> None:
    assert canonical("2001:DB8:0:0::1") == "2001:db8::1"
    assert canonical("192.0.2.1") == "192.0.2.1"
    for wrong in ("router.example", "192.0.2.01", "fe80::1%eth0", ""):
        with pytest.raises(ValueError, match="not an IP address"):
            canonical(wrong)
