"""Both ends of a TCP connection for the tests of the TCP shell: a sink that remembers, and plain sockets of a peer.

The numbers and shapes are the kernel's (linux/tcp.h, linux/in.h), written down here a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable

from chaos_daemon import free_port

from bgpbfd.bgp.events import ConnId, Endpoint
from bgpbfd.control.ports import Accepted, NotTaken, TransportOptions
from bgpbfd.core import Instant, PeerId
from bgpbfd.io.driver import SystemClock
from bgpbfd.io.tcp import TcpShell

IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73
TCP_SAVE_SYN = 27
TCP_SAVED_SYN = 28
SHORT_S = 1.5  # a SYN and its first repetition
PATIENCE_S = 10.0
PEER = "peer"


class Sink:
    """Takes whoever ``answer`` takes, and remembers what it is told."""

    def __init__(self) -> None:
        self.options = TransportOptions()
        self.numbers = itertools.count(1_000_000)
        self.answer: Callable[[Endpoint, Endpoint], Accepted | NotTaken] = self.take
        self.up: dict[ConnId, tuple[Endpoint, Endpoint]] = {}
        self.received: dict[ConnId, bytes] = {}
        self.failed: dict[ConnId, str] = {}
        self.stalls: list[tuple[str, ConnId, Instant]] = []
        self.faults: list[tuple[str, str]] = []

    def take(self, local: Endpoint, remote: Endpoint) -> Accepted | NotTaken:
        return Accepted(PEER, next(self.numbers), self.options)

    def connection_accepted(self, local: Endpoint, remote: Endpoint) -> Accepted | NotTaken:
        return self.answer(local, remote)

    def connection_confirmed(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None:
        self.up[conn] = (local, remote)

    def dial_succeeded(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None:
        self.up[conn] = (local, remote)

    def connection_failed(self, peer: PeerId, conn: ConnId, error: str) -> None:
        self.up.pop(conn, None)
        self.failed[conn] = error

    def data_received(self, peer: PeerId, conn: ConnId, data: bytes) -> None:
        assert conn in self.up
        self.received[conn] = self.received.get(conn, b"") + data

    def connection_writable(self, peer: PeerId, conn: ConnId) -> None: ...

    def send_stalled(self, peer: PeerId, conn: ConnId, since: Instant) -> None:
        self.stalls.append(("stalled", conn, since))

    def send_resumed(self, peer: PeerId, conn: ConnId) -> None:
        self.stalls.append(("resumed", conn, 0))

    def transport_fault(self, text: str, peer_or_network: str) -> None:
        self.faults.append((text, peer_or_network))

    def listening(self, address: str, error: str | None) -> None:
        assert error is None

    async def connection(self) -> ConnId:
        """The newest connection, when there is one."""
        await until(lambda: bool(self.up), "a connection")
        return max(self.up)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[TcpShell, Sink]]:
    shell = TcpShell(asyncio.get_running_loop(), SystemClock())
    shell.sink = sink = Sink()
    try:
        yield shell, sink
    finally:
        await shell.stop()


def listen(shell: TcpShell, host: str) -> tuple[str, int]:
    """``shell`` listens on ``host``, [] for IPv6; where to connect to."""
    port = free_port("127.0.0.1" if ":" in host else host)
    shell.listen((f"[{host}]:{port}" if ":" in host else f"{host}:{port}",))
    return host, port


async def until(check: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not check():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


# -- the peer's sockets --------------------------------------------------------------------------------------


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def sign(sock: socket.socket, remote: str, key: str) -> None:
    """struct tcp_md5sig for one address, of the socket's own family; an empty key deletes."""
    packed = ipaddress.ip_address(remote).packed
    where = struct.pack("=HH4s", sock.family, 0, packed) if len(packed) == 4 else b""
    where = where or struct.pack("=HHI16sI", sock.family, 0, 0, packed, 0)
    value = where.ljust(128, b"\0") + struct.pack("=BBHI", 0, 0, len(key), 0) + key.encode().ljust(80, b"\0")
    sock.setsockopt(socket.IPPROTO_TCP, 14, value)


def plain_socket(local: str, *, key: str = "", remote: str = "") -> socket.socket:
    """Bound to ``local``, of its address family; signs what goes to ``remote`` where there is a key."""
    sock = socket.socket(family(local), socket.SOCK_STREAM)
    sock.setblocking(False)
    if key:
        sign(sock, remote, key)
    sock.bind((local, 0))
    return sock


async def connects(sock: socket.socket, to: tuple[str, int], timeout: float = SHORT_S) -> bool:
    """Whether the handshake succeeds within ``timeout`` s."""
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, to)
    except TimeoutError:
        return False
    return True


async def read(sock: socket.socket, count: int) -> bytes:
    """``count`` octets, fewer at the end of the stream."""
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < count and (more := await asyncio.get_running_loop().sock_recv(sock, count - len(data))):
            data += more
    return data


async def silent(sock: socket.socket, seconds: float = 0.7) -> bool:
    """Whether nothing at all arrives: longer than the first retransmissions take."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_recv(sock, 1)
    except TimeoutError:
        return True
    return False
