"""The TCP shell alone, on a real loop: what is closed is closed, whenever that is."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator

import pytest
from chaos_daemon import address, free_port

from bgpbfd.bgp.events import ConnId, Endpoint
from bgpbfd.control.ports import Accepted, DialTarget, NotTaken
from bgpbfd.core import Instant, PeerId
from bgpbfd.io.driver import SystemClock
from bgpbfd.io.tcp import TcpShell

PEER = "peer"


class Sink:
    """Accepts everything; answers what it no longer knows as the engine does: with a close."""

    def __init__(self, shell: TcpShell) -> None:
        self.shell = shell
        self.numbers = iter(range(1_000_000, 2_000_000))
        self.wanted: set[ConnId] = set()
        self.up: set[ConnId] = set()
        self.failed: list[ConnId] = []
        self.received = b""

    def connection_accepted(self, local: Endpoint, remote: Endpoint) -> Accepted | NotTaken:
        conn = next(self.numbers)
        self.wanted.add(conn)
        return Accepted(PEER, conn)

    def connection_confirmed(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None:
        self.dial_succeeded(peer, conn, local, remote)

    def dial_succeeded(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None:
        if conn not in self.wanted:
            self.shell.close(peer, conn, linger=False)
        else:
            self.up.add(conn)

    def connection_failed(self, peer: PeerId, conn: ConnId, error: str) -> None:
        self.up.discard(conn)
        self.failed.append(conn)

    def data_received(self, peer: PeerId, conn: ConnId, data: bytes) -> None:
        assert conn in self.up
        self.received += data

    def connection_writable(self, peer: PeerId, conn: ConnId) -> None: ...

    def send_stalled(self, peer: PeerId, conn: ConnId, since: Instant) -> None: ...

    def send_resumed(self, peer: PeerId, conn: ConnId) -> None: ...

    def transport_fault(self, text: str, peer_or_network: str) -> None: ...

    def listening(self, address: str, error: str | None) -> None:
        assert error is None


@pytest.fixture
async def shell() -> AsyncIterator[tuple[TcpShell, Sink, DialTarget]]:
    shell = TcpShell(asyncio.get_running_loop(), SystemClock())
    shell.sink = sink = Sink(shell)
    host = address()
    port = free_port(host)
    before = len(os.listdir("/proc/self/fd"))
    shell.listen((f"{host}:{port}",))
    yield shell, sink, DialTarget(host, port, None, None)
    await shell.stop()
    async with asyncio.timeout(5):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)
    assert shell._connections == {}
    assert shell._dials == {}


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_dial_that_is_given_up_at_any_moment_leaves_nothing(
    shell: tuple[TcpShell, Sink, DialTarget],
) -> None:
    tcp, sink, target = shell
    rng = random.Random(1)
    for conn in range(300):
        sink.wanted.add(conn)
        tcp.dial(PEER, conn, target)
        await turns(rng.randrange(8))
        sink.wanted.discard(conn)
        sink.up.discard(conn)
        tcp.close(PEER, conn, linger=rng.random() < 0.5)
        assert not tcp.writable(PEER, conn)
    await turns(50)
    assert [conn for conn in sink.up if conn < 1000] == []


async def test_stop_at_any_moment_leaves_nothing() -> None:
    host = address()
    for moment in range(12):
        port = free_port(host)
        tcp = TcpShell(asyncio.get_running_loop(), SystemClock())
        tcp.sink = sink = Sink(tcp)
        before = len(os.listdir("/proc/self/fd"))
        tcp.listen((f"{host}:{port}",))
        for conn in range(5):
            sink.wanted.add(conn)
            tcp.dial(PEER, conn, DialTarget(host, port, None, None))
        await turns(moment)
        sink.wanted.clear()
        for conn in list(sink.up):
            tcp.close(PEER, conn, linger=True)
        await tcp.stop()
        async with asyncio.timeout(5):
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.01)
        assert tcp._connections == {}, moment


async def test_what_was_sent_before_the_close_arrives(shell: tuple[TcpShell, Sink, DialTarget]) -> None:
    """A NOTIFICATION reaches a peer that still sends: no reset overtakes it."""
    tcp, sink, target = shell
    reader, writer = await asyncio.open_connection(target.remote, target.port)
    async with asyncio.timeout(5):
        while not sink.up:
            await asyncio.sleep(0)
    (conn,) = sink.up
    writer.write(b"x" * 100_000)
    tcp.send(PEER, conn, b"last words")
    sink.up.discard(conn)
    tcp.close(PEER, conn, linger=True)
    writer.write(b"y" * 100_000)
    async with asyncio.timeout(5):
        assert await reader.read() == b"last words"
    writer.close()


async def test_a_peer_that_never_closes_is_dropped_after_the_linger(
    shell: tuple[TcpShell, Sink, DialTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpbfd.io.tcp.LINGER_S", 0.1)
    tcp, sink, target = shell
    with socket.create_connection((target.remote, target.port)) as mute:
        async with asyncio.timeout(5):
            while not sink.up:
                await asyncio.sleep(0)
        (conn,) = sink.up
        sink.up.discard(conn)
        tcp.close(PEER, conn, linger=True)
        async with asyncio.timeout(2):
            while tcp._lingering:
                await asyncio.sleep(0.01)
        assert sink.failed == []
        assert mute.recv(1) == b""


async def test_an_error_in_the_sink_costs_that_connection_alone(
    shell: tuple[TcpShell, Sink, DialTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sink, target = shell
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def broken(local: Endpoint, remote: Endpoint) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(sink, "connection_accepted", broken)
        with socket.create_connection((target.remote, target.port)) as refused:
            refused.setblocking(False)
            async with asyncio.timeout(5):
                while not told:
                    await asyncio.sleep(0)
                assert await asyncio.get_running_loop().sock_recv(refused, 1) == b""
    with socket.create_connection((target.remote, target.port)):
        async with asyncio.timeout(5):
            while not sink.up:
                await asyncio.sleep(0)
