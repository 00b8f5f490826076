"""What the kernel tells of a packet, and when it came."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from random import Random

import pytest

from bgpbfd.bfd.sockets import Listener, SourcePorts, monotonic_us, open_sender

A, B = "127.17.2.1", "127.17.2.2"


@pytest.fixture(name="listener")
def listener_fixture() -> Iterator[Listener]:
    listener = Listener.open(A, 0)
    with listener.sock:
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
