"""What the kernel tells of a packet, and when it came."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from random import Random

import pytest

from bgpbfd.bfd import batch
from bgpbfd.bfd.batch import BatchReader
from bgpbfd.bfd.sockets import Kind, Listener, SourcePorts, monotonic_us, open_port, open_sender
from bgpbfd.wire.bfd import ControlPacket, push_control
from bgpbfd.wire.iana import BfdState

A, B = "127.17.2.1", "127.17.2.2"


@pytest.fixture(name="listener")
def listener_fixture() -> Iterator[Listener]:
    """The kernel begins to stamp packets a moment after the host's first socket has asked for it."""
    listener = Listener.open(A, 0)
    with listener.sock:
        for _ in range(200):
            send(listener, b"")
            time.sleep(0.002)
            [(_, _, at)] = listener.packets(monotonic_us())
            if monotonic_us() - at >= 1000:
                break
        yield listener


def send(listener: Listener, data: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((B, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        sock.sendto(data, listener.sock.getsockname())


def test_fault_4_arrival_is_the_kernels_time_not_that_of_reading(listener: Listener) -> None:
    before = monotonic_us()
    send(listener, b"x")
    after = monotonic_us()
    time.sleep(0.1)
    [(data, arrival, at)] = listener.packets(monotonic_us())
    assert before - 500 <= at <= after + 500
    assert (data, arrival.remote, arrival.local, arrival.ttl) == (b"x", B, A, 255)
    assert arrival.ifindex == socket.if_nametoindex("lo")


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_fault_5_a_step_of_the_wall_clock_moves_no_arrival_out_of_what_is_possible(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    assert list(listener.packets(monotonic_us())) == []
    emptied_at = listener.emptied_at
    send(listener, b"x")
    honest = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: honest() + step_s * 1_000_000_000)
    [(_, _, at)] = listener.packets(monotonic_us())
    assert emptied_at <= at <= monotonic_us()


def test_reading_ends_with_what_arrived_after_the_call(listener: Listener) -> None:
    """However fast they come in: a flood cannot keep the loop from its deadlines."""
    for _ in range(10):
        send(listener, b"x")
    read = 0
    for _ in listener.packets(monotonic_us()):
        read += 1
        send(listener, b"y")
    assert read <= 12


def test_dropped_packets_are_noticed_once(listener: Listener) -> None:
    listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    assert not listener.lost_packets()
    for _ in range(50):
        send(listener, bytes(200))
    assert listener.lost_packets()
    assert not listener.lost_packets()


def test_rfc5881_4_source_ports_are_unique_and_in_range() -> None:
    ports = SourcePorts(Random(1))
    opened = [open_sender(B, A, None, 3784, ports) for _ in range(300)]
    try:
        numbers = {port for _, _, port in opened}
        assert len(numbers) == 300
        assert ports.used == numbers
        assert min(numbers) >= 49152
        assert max(numbers) <= 65535
    finally:
        for sock, _, _ in opened:
            sock.close()


# -- many packets at once -------------------------------------------------------------------------------------


def test_a_batch_tells_what_packet_by_packet_reading_does() -> None:
    """The same packets to two sockets: octets, addresses, TTL, interface; times within what passed in between."""
    reader = BatchReader()
    lengths = [24, 24, 0, 1, 23, 25, 52, 255, 256, 300, 24]
    plain, batched = Listener.open(A, 0), Listener.open(A, 0)
    with plain.sock, batched.sock:
        before = monotonic_us()
        for number, length in enumerate(lengths):
            for listener in (plain, batched):
                send(listener, bytes([number]) * length)
        after = monotonic_us()
        expected = list(plain.packets(monotonic_us()))
        times = batched.read_batch(reader)
        assert reader.payloads == [data for data, _, _ in expected]
        assert [len(data) for data in reader.payloads] == [min(length, 256) for length in lengths]
        for index, (_, arrival, _) in enumerate(expected):
            ours = reader.arrival(index)
            assert (ours.remote, ours.local, ours.ifindex, ours.ttl) == (B, A, arrival.ifindex, 255)
        assert times == sorted(times)
        assert before - 500 <= times[0] <= times[-1] <= after + 500
        assert batched.read_batch(reader) == []


def test_a_batch_over_ipv6() -> None:
    reader = BatchReader()
    listener = Listener.open("::1", 0)
    with listener.sock, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        sock.sendto(bytes(24), listener.sock.getsockname())
        assert len(listener.read_batch(reader)) == 1
        arrival = reader.arrival(0)
        assert (arrival.remote, arrival.local, arrival.ttl) == ("::1", "::1", 255)
        assert (arrival.port, arrival.ifindex) == (sock.getsockname()[1], socket.if_nametoindex("lo"))


def test_a_full_batch_has_more_behind_it(listener: Listener) -> None:
    reader = BatchReader()
    emptied_at = listener.emptied_at
    for number in range(batch.SIZE + 3):
        send(listener, bytes([number]))
    assert len(listener.read_batch(reader)) == batch.SIZE
    assert listener.emptied_at == emptied_at  # what is left may have come at any time since
    assert len(listener.read_batch(reader)) == 3
    assert reader.payloads == [bytes([batch.SIZE + number]) for number in range(3)]
    assert listener.emptied_at > emptied_at


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_fault_5_a_step_of_the_wall_clock_moves_no_arrival_of_a_batch_out_of_what_is_possible(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    reader = BatchReader()
    assert listener.read_batch(reader) == []
    emptied_at = listener.emptied_at
    send(listener, bytes(24))
    honest = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: honest() + step_s * 1_000_000_000)
    [at] = listener.read_batch(reader)
    assert emptied_at <= at <= monotonic_us()


def control(state: BfdState, discriminator: int, *, poll: bool = False, final: bool = False) -> bytes:
    packet = ControlPacket(
        state=state,
        poll=poll,
        final=final,
        detect_mult=3,
        my_discriminator=7,
        your_discriminator=discriminator,
        desired_min_tx_us=50_000,
        required_min_rx_us=50_000,
    )
    return push_control(packet)


@pytest.mark.parametrize("address", [A, "::1"])
def test_the_kernel_sorts_what_is_steady_from_what_is_not(address: str) -> None:
    prefix = 0xABC
    ours, theirs = prefix << 20 | 5, 0xABD << 20 | 5
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    up, down, init = BfdState.UP, BfdState.DOWN, BfdState.INIT
    packets = [
        (Kind.STEADY, 255, control(up, ours)),
        (Kind.KNOWN, 255, control(up, ours, poll=True)),
        (Kind.KNOWN, 255, control(up, ours, final=True)),
        (Kind.KNOWN, 255, control(down, ours)),
        (Kind.KNOWN, 255, control(init, ours)),
        (Kind.STRANGER, 255, control(up, theirs)),
        (Kind.STRANGER, 255, control(down, 0)),
        (Kind.STRANGER, 254, control(up, ours)),
        (Kind.STRANGER, 255, b""),
        (Kind.STRANGER, 255, control(up, ours)[:11]),
    ]
    listeners = open_port(address, port, prefix, multihop=False)
    with contextlib.ExitStack() as stack:
        sender = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        for listener in listeners:
            stack.enter_context(listener.sock)
        for _, ttl, data in packets:
            if family == socket.AF_INET6:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            else:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            sender.sendto(data, (address, port))
        got = {listener.kind: [data for data, _, _ in listener.packets(monotonic_us())] for listener in listeners}
    assert got == {kind: [data for sorted_to, _, data in packets if sorted_to is kind] for kind in got}
    assert set(got) == {Kind.STEADY, Kind.KNOWN, Kind.STRANGER}
