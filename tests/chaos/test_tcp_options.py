"""TTL, GTSM (RFC 5082), DSCP and the rest of what a neighbor's socket is given, by what the kernel does with it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest
from chaos_daemon import address
from tcp_peer import (
    IP_MINTTL,
    IPV6_MINHOPCOUNT,
    PATIENCE_S,
    PEER,
    TCP_SAVE_SYN,
    TCP_SAVED_SYN,
    Sink,
    connects,
    has_ipv6,
    listen,
    plain_socket,
    read,
    running,
    until,
)

from bgpbfd.config.model import Secret
from bgpbfd.control.ports import DialTarget, TcpKey, TransportOptions
from bgpbfd.io.tcp import TcpShell

CS6 = 0xC0
DEFAULT_TTL = 64
# Who listens where, and from where it is connected to: IPv4, IPv4 on the IPv6 wildcard, IPv6.
WAYS = [
    "ipv4",
    *(
        pytest.param(way, marks=pytest.mark.skipif(not has_ipv6(), reason="this host has no ::1"))
        for way in ("mapped", "ipv6")
    ),
]


def where(way: str) -> tuple[str, str, str]:
    """(listening address, address to connect to, address to connect from)."""
    if way == "ipv6":
        return "::1", "::1", "::1"
    host = address()
    return ("::" if way == "mapped" else host), host, address()


def set_ttl(sock: socket.socket, ttl: int) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)


def set_minimum(sock: socket.socket, ttl: int) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, ttl)


class Sniffer:
    """(source port, TTL, traffic class, has an MD5 signature) of each TCP segment on the loopback interface."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def segments(self, port: int) -> list[tuple[int, int, bool]]:
        """(TTL, traffic class, signed) of what came from ``port`` so far, unique."""
        found = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, info = self.sock.recvfrom(65_536)
                if info[2] == socket.PACKET_OUTGOING:
                    continue  # each is seen twice
                if frame[0] >> 4 == 4:
                    start, ttl, tos, protocol = (frame[0] & 15) * 4, frame[8], frame[1], frame[9]
                else:
                    start, ttl, tos, protocol = 40, frame[7], (frame[0] << 4 | frame[1] >> 4) & 0xFF, frame[6]
                tcp = frame[start:]
                if protocol == socket.IPPROTO_TCP and struct.unpack_from("!H", tcp)[0] == port:
                    found.add((ttl, tos, _signed(tcp[20 : (tcp[12] >> 4) * 4])))
        return sorted(found)


def _signed(options: bytes) -> bool:
    while options and options[0]:
        if options[0] == 19:
            return True
        options = options[1:] if options[0] == 1 else options[options[1] :]
    return False


@pytest.fixture
def sniffer() -> Iterator[Sniffer]:
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    except PermissionError:
        pytest.skip("reading packets needs root")
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(("lo", 0))
        sock.setblocking(False)
        yield Sniffer(sock)


@contextlib.asynccontextmanager
async def accepted(
    way: str, options: TransportOptions, *, ttl: int = 255
) -> AsyncIterator[tuple[TcpShell, Sink, int, socket.socket]]:
    """A connection from a peer that sends with ``ttl``."""
    async with running() as (shell, sink):
        sink.options = options
        on, host, local = where(way)
        if options.password is not None:
            shell.set_keys((TcpKey(local, options.password),))
        _, port = listen(shell, on)
        password = options.password.reveal() if options.password else ""
        with plain_socket(local, key=password, remote=host) as sock:
            set_ttl(sock, ttl)
            assert await connects(sock, (host, port))
            yield shell, sink, await sink.connection(), sock


async def talk(shell: TcpShell, sink: Sink, conn: int, sock: socket.socket) -> None:
    shell.send(PEER, conn, b"from us")
    await asyncio.get_running_loop().sock_sendall(sock, b"to us")
    assert await read(sock, 7) == b"from us"
    await until(lambda: sink.received.get(conn, b"").endswith(b"to us"), "what the peer sent")


# -- GTSM ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_rfc5082_both_ends_with_a_minimum_of_255_connect(way: str) -> None:
    """Our SYN-ACK has 255 before it is known who the peer is: or the peer's own filter would drop it."""
    async with running() as (shell, sink):
        sink.options = TransportOptions(ttl=255, minimum_ttl=255)
        on, host, local = where(way)
        _, port = listen(shell, on)
        with plain_socket(local) as sock:
            set_ttl(sock, 255)
            set_minimum(sock, 255)
            assert await connects(sock, (host, port))
            await talk(shell, sink, await sink.connection(), sock)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("minimum", "ttl"), [(255, 254), (255, 64), (253, 252), (2, 1)])
async def test_rfc5082_3_who_is_too_far_is_refused_with_what_it_sent_before(way: str, minimum: int, ttl: int) -> None:
    """The first data waits to be read before anybody could have told the kernel the minimum."""
    async with running() as (shell, sink):
        sink.options = TransportOptions(ttl=255, minimum_ttl=minimum)
        on, host, local = where(way)
        _, port = listen(shell, on)
        for _ in range(3):
            with plain_socket(local) as sock:
                set_ttl(sock, ttl)
                sock.settimeout(PATIENCE_S)
                sock.connect((host, port))
                sock.send(b"OPEN, KEEPALIVE, UPDATE")
                sock.setblocking(False)
                before = len(sink.failed)
                await until(lambda: len(sink.failed) > before, "the refusal")  # noqa: B023
        assert sink.up == {}
        assert sink.received == {}
        assert sum(shell.discards.values()) == 3
        ((text, peer),) = sink.faults  # told once
        assert peer == PEER
        assert str(minimum) in text


@pytest.mark.parametrize("way", WAYS)
async def test_rfc5082_3_a_live_connection_drops_what_comes_with_less(way: str) -> None:
    async with accepted(way, TransportOptions(ttl=255, minimum_ttl=254), ttl=254) as (shell, sink, conn, sock):
        await talk(shell, sink, conn, sock)
        set_ttl(sock, 253)
        await asyncio.get_running_loop().sock_sendall(sock, b"from afar")
        await asyncio.sleep(0.5)
        assert sink.received[conn] == b"to us"
        set_ttl(sock, 255)
        await until(lambda: sink.received[conn] == b"to usfrom afar", "the repetition from near")


async def test_rfc5082_without_the_syn_what_was_sent_before_the_minimum_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SYN cookies keep no SYN: then an empty connection is taken, for all that is to come is filtered."""
    monkeypatch.setattr("bgpbfd.io.sockopts._TCP_SAVED_SYN", 9999)
    async with running() as (shell, sink):
        sink.options = TransportOptions(ttl=255, minimum_ttl=255)
        to = listen(shell, address())
        with plain_socket(address()) as early, plain_socket(address()) as late:
            for sock in (early, late):
                set_ttl(sock, 255)
                sock.settimeout(PATIENCE_S)
                sock.connect(to)
                if sock is early:
                    sock.send(b"OPEN")
                sock.setblocking(False)
            await talk(shell, sink, await sink.connection(), late)
            assert len(sink.failed) == 1
            assert len(sink.up) == 1
            with contextlib.suppress(ConnectionResetError):
                assert await read(early, 1) == b""


@pytest.mark.parametrize("way", ["ipv4", WAYS[2]])
async def test_rfc5082_a_dial_has_ttl_and_minimum_from_its_syn_on(way: str) -> None:
    _, host, local = where(way)
    async with running() as (shell, sink):
        with plain_socket(host) as near, plain_socket(host) as far:
            for peer, ttl in ((near, 255), (far, 64)):
                set_ttl(peer, ttl)
                set_minimum(peer, 255)
                peer.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
                peer.listen()
            options = TransportOptions(ttl=255, minimum_ttl=255)
            shell.dial(PEER, 1, DialTarget(host, far.getsockname()[1], local, None, options))
            shell.dial(PEER, 2, DialTarget(host, near.getsockname()[1], local, None, options))
            async with asyncio.timeout(PATIENCE_S):
                sock, _ = await asyncio.get_running_loop().sock_accept(near)
            with sock:
                syn = sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256)
                assert (syn[8] if syn[0] >> 4 == 4 else syn[7]) == 255
                await talk(shell, sink, await sink.connection(), sock)
            await asyncio.sleep(0.5)
            assert 1 not in sink.up  # its SYN-ACK came with 64
            shell.close(PEER, 1, linger=False)


# -- what the packets look like ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("password", [None, Secret("a key")])
async def test_an_accepted_connection_s_packets(sniffer: Sniffer, way: str, password: Secret | None) -> None:
    """CS6 (RFC 4271 Appendix E) from the SYN-ACK on; the TTL is 255 only until it is known whose connection it is."""
    signed = password is not None
    for ttl in (None, 1, 255, 200):
        async with accepted(way, TransportOptions(ttl=ttl, password=password)) as (shell, sink, conn, sock):
            port = sock.getpeername()[1]
            await asyncio.sleep(0.05)
            assert sniffer.segments(port)[-1] == (255, CS6, signed)  # the SYN-ACK
            await talk(shell, sink, conn, sock)
            assert sniffer.segments(port) == [(ttl or DEFAULT_TTL, CS6, signed)]


@pytest.mark.parametrize("way", ["ipv4", WAYS[2]])
async def test_a_dial_s_packets(sniffer: Sniffer, way: str) -> None:
    _, host, local = where(way)
    for number, (ttl, password) in enumerate([(None, None), (1, None), (255, Secret("a key")), (17, None)]):
        async with running() as (shell, sink):
            word = password.reveal() if password else ""
            with plain_socket(host, key=word, remote=local) as peer:
                peer.listen()
                options = TransportOptions(ttl=ttl, password=password)
                shell.dial(PEER, number, DialTarget(host, peer.getsockname()[1], local, None, options))
                async with asyncio.timeout(PATIENCE_S):
                    sock, _ = await asyncio.get_running_loop().sock_accept(peer)
                with sock:
                    port = sock.getpeername()[1]
                    await talk(shell, sink, await sink.connection(), sock)
                    assert sniffer.segments(port) == [(ttl or DEFAULT_TTL, CS6, password is not None)]
                    assert sock.getpeername()[0] == local


async def test_a_small_message_does_not_wait_for_the_acknowledgement_of_another() -> None:
    """RFC 9293 §3.7.4: with Nagle's algorithm a KEEPALIVE behind an UPDATE would wait for a delayed ACK."""
    async with accepted("ipv4", TransportOptions()) as (shell, sink, _, sock):
        with plain_socket(address()) as peer:
            peer.listen()
            shell.dial(PEER, 1, DialTarget(*peer.getsockname(), None, None))
            await until(lambda: len(sink.up) == 2, "both connections")
        options = [
            connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for connection in shell._connections.values()
        ]
        assert options == [1, 1]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0  # and it is not the default
