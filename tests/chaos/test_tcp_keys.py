"""RFC 2385 on the TCP shell: passwords of addresses and networks, on all listeners, changed on live connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from chaos_daemon import address
from tcp_peer import (
    PEER,
    Sink,
    connects,
    family,
    has_ipv6,
    listen,
    plain_socket,
    read,
    running,
    sign,
    silent,
    until,
)

from bgpbfd.bgp.events import ConnId
from bgpbfd.config.model import Secret
from bgpbfd.control.ports import DialTarget, TcpKey, TransportOptions
from bgpbfd.io.tcp import TcpShell

KEY, OTHER = "correct horse", "battery staple"


def _has_md5() -> bool:
    with socket.socket() as sock:
        try:
            sign(sock, "127.0.0.1", KEY)
        except OSError:
            return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this host has no ::1")
pytestmark = pytest.mark.skipif(not _has_md5(), reason="this kernel has no TCP MD5")


def key(network: str, password: str = KEY) -> TcpKey:
    return TcpKey(network, Secret(password))


@contextlib.contextmanager
def client(local: str, remote: str, password: str = "") -> Iterator[socket.socket]:
    with plain_socket(local, key=password, remote=remote) as sock:
        yield sock


async def taken(local: str, to: tuple[str, int], password: str = "") -> bool:
    with client(local, to[0], password) as sock:
        return await connects(sock, to)


async def both_ways(shell: TcpShell, sink: Sink, conn: ConnId, sock: socket.socket, word: bytes) -> None:
    shell.send(PEER, conn, b"from us: " + word)
    await asyncio.get_running_loop().sock_sendall(sock, b"to us: " + word)
    assert await read(sock, len(word) + 9) == b"from us: " + word
    await until(lambda: sink.received.get(conn, b"").endswith(b"to us: " + word), "what the peer sent")


# -- who gets in ---------------------------------------------------------------------------------------------


async def test_rfc2385_only_the_right_key_connects() -> None:
    async with running() as (shell, sink):
        host, other, stranger = address(), address(), address()
        shell.set_keys((key(other),))
        to = listen(shell, host)
        missing, wrong = await asyncio.gather(taken(other, to), taken(other, to, OTHER))
        assert (missing, wrong) == (False, False)
        assert sink.up == {}
        assert await taken(other, to, KEY)
        assert await taken(stranger, to)  # nobody asked it for a key
        # A signature where none is wanted is not taken either (RFC 2385 §2).
        assert not await taken(stranger, to, KEY)


@pytest.mark.parametrize("length", [1, 79, 80])
async def test_rfc2385_4_5_keys_of_up_to_80_octets(length: int) -> None:
    async with running() as (shell, sink):
        other = address()
        shell.set_keys((key(other, "x" * length),))
        to = listen(shell, address())
        with client(other, to[0], "x" * length) as sock:
            assert await connects(sock, to)
            await both_ways(shell, sink, await sink.connection(), sock, b"hello")
        assert sink.faults == []


async def test_rfc2385_a_key_set_later_holds_on_a_listener_that_is_there_and_one_that_comes() -> None:
    async with running() as (shell, _):
        other = address()
        first = listen(shell, address())
        assert await taken(other, first)
        shell.set_keys((key(other),))
        second = (address(), first[1])
        shell.listen((f"{first[0]}:{first[1]}", f"{second[0]}:{second[1]}"))
        answers = await asyncio.gather(*(taken(other, to, word) for to in (first, second) for word in (KEY, "")))
        assert answers == [True, False, True, False]


async def test_rfc2385_a_key_taken_back_lets_the_unsigned_in() -> None:
    async with running() as (shell, sink):
        other, kept = address(), address()
        shell.set_keys((key(other), key(kept)))
        to = listen(shell, address())
        shell.set_keys((key(kept),))
        answers = await asyncio.gather(taken(other, to), taken(kept, to), taken(kept, to, KEY))
        assert answers == [True, False, True]
        shell.set_keys(())
        assert await taken(kept, to)
        assert sink.faults == []


@pytest.mark.parametrize("listening", [pytest.param("::", marks=needs_ipv6), "ipv4"])
async def test_rfc2385_a_network_s_key_and_the_longest_prefix_wins(listening: str) -> None:
    """IPv4 on the IPv6 wildcard too: its keys are those of mapped addresses."""
    async with running() as (shell, sink):
        host, other, exempt = address(), address(), address()
        octets = other.split(".")
        shell.set_keys((key(exempt, OTHER), key(f"{octets[0]}.{octets[1]}.{octets[2]}.0/24")))
        _, port = listen(shell, host if listening == "ipv4" else "::")
        to = (host, port)
        assert await asyncio.gather(
            taken(other, to, KEY), taken(exempt, to, OTHER), taken(other, to), taken(exempt, to, KEY)
        ) == [True, True, False, False]
        with client(other, host, KEY) as sock:
            assert await connects(sock, to)
            conn = await sink.connection()
            await both_ways(shell, sink, conn, sock, b"hello")
            assert sink.up[conn][1].text == other
        shell.set_keys(())
        assert await taken(other, to)
        assert sink.faults == []


@needs_ipv6
@pytest.mark.parametrize("network", ["::1", "::/120", "::/0"])
@pytest.mark.parametrize("listening", ["::", "::1"])
async def test_rfc2385_ipv6(network: str, listening: str) -> None:
    async with running() as (shell, sink):
        shell.set_keys((key(network), key("192.0.2.0/24")))
        _, port = listen(shell, listening)
        to = ("::1", port)
        with client("::1", "::1", KEY) as sock:
            assert await connects(sock, to)
            await both_ways(shell, sink, await sink.connection(), sock, b"hello")
        assert not await taken("::1", to)
        shell.set_keys(())
        assert await taken("::1", to)
        assert sink.faults == []


# -- dialling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["ipv4", pytest.param("::1", marks=needs_ipv6)])
async def test_rfc2385_a_dial_signs_from_the_first_segment(host: str) -> None:
    host = address() if host == "ipv4" else host
    local = address() if "." in host else "::1"
    async with running() as (shell, sink):
        with socket.socket(family(host)) as peer:
            peer.setblocking(False)
            sign(peer, local, KEY)
            peer.bind((host, 0))
            peer.listen()
            target = DialTarget(host, peer.getsockname()[1], local, None, TransportOptions(password=Secret(KEY)))
            shell.dial(PEER, 1, target)
            async with asyncio.timeout(5):
                sock, _ = await asyncio.get_running_loop().sock_accept(peer)
            with sock:
                assert await sink.connection() == 1
                await both_ways(shell, sink, 1, sock, b"hello")
                shell.dial(PEER, 2, DialTarget(host, target.port, local, None))
                wrong = TransportOptions(password=Secret(OTHER))
                shell.dial(PEER, 3, DialTarget(host, target.port, local, None, wrong))
                await asyncio.sleep(1.2)
                assert list(sink.up) == [1]
                assert sink.failed == {}
            for conn in (2, 3):
                shell.close(PEER, conn, linger=False)


async def test_rfc2385_a_key_that_changes_during_a_dial_is_used_by_its_next_syn() -> None:
    host, local = address(), address()
    async with running() as (shell, sink):
        with plain_socket(host, key=OTHER, remote=local) as peer:
            peer.listen()
            shell.set_keys((key(host),))
            options = TransportOptions(password=Secret(KEY))
            shell.dial(PEER, 1, DialTarget(host, peer.getsockname()[1], local, None, options))
            await asyncio.sleep(0.1)
            assert sink.up == {}
            shell.set_keys((key(host, OTHER),))
            assert await sink.connection() == 1


# -- changes on live connections -----------------------------------------------------------------------------


@pytest.mark.parametrize("covered_by", ["address", "network"])
async def test_rfc2385_a_live_connection_survives_a_key_that_changes_on_both_ends(covered_by: str) -> None:
    async with running() as (shell, sink):
        other = address()
        network = other if covered_by == "address" else other.rpartition(".")[0] + ".0/24"
        shell.set_keys((key(network),))
        to = listen(shell, address())
        with client(other, to[0], KEY) as sock:
            assert await connects(sock, to)
            conn = await sink.connection()
            await both_ways(shell, sink, conn, sock, b"before")
            shell.set_keys((key(network, OTHER),))
            shell.send(PEER, conn, b"in between")
            await asyncio.get_running_loop().sock_sendall(sock, b"in between")
            assert await silent(sock)
            assert not sink.received[conn].endswith(b"in between")
            sign(sock, to[0], OTHER)
            assert await read(sock, 10) == b"in between"
            await until(lambda: sink.received[conn].endswith(b"in between"), "what the peer sent")
            await both_ways(shell, sink, conn, sock, b"after")
        assert not await taken(other, to, KEY)
        assert await taken(other, to, OTHER)


async def test_rfc2385_a_dialled_connection_takes_its_new_key_and_loses_it() -> None:
    host, local = address(), address()
    async with running() as (shell, sink):
        with plain_socket(host, key=KEY, remote=local) as peer:
            peer.listen()
            shell.set_keys((key(host),))
            options = TransportOptions(password=Secret(KEY))
            shell.dial(PEER, 1, DialTarget(host, peer.getsockname()[1], local, None, options))
            async with asyncio.timeout(5):
                sock, _ = await asyncio.get_running_loop().sock_accept(peer)
            with sock:
                await sink.connection()
                await both_ways(shell, sink, 1, sock, b"before")
                shell.set_keys((key(host, OTHER),))
                sign(sock, local, OTHER)
                await both_ways(shell, sink, 1, sock, b"with the other key")
                shell.set_keys(())
                sign(sock, local, "")
                await both_ways(shell, sink, 1, sock, b"without one")
                shell.set_keys((key(host),))
                sign(sock, local, KEY)
                await both_ways(shell, sink, 1, sock, b"with one again")
        assert sink.faults == []


async def test_rfc2385_keys_of_others_leave_a_connection_alone() -> None:
    """The key of a network is for who comes from there: whom we dial is configured by address."""
    host, local, unsigned = address(), address(), address()
    async with running() as (shell, sink):
        with plain_socket(host) as peer:
            peer.listen()
            shell.dial(PEER, 1, DialTarget(host, peer.getsockname()[1], local, None))
            async with asyncio.timeout(5):
                dialled, _ = await asyncio.get_running_loop().sock_accept(peer)
            to = listen(shell, address())
            with dialled, client(unsigned, to[0]) as sock:
                assert await connects(sock, to)
                await until(lambda: len(sink.up) == 2, "both connections")
                accepted = max(sink.up)
                shell.set_keys((key("127.0.0.0/8"), key(unsigned, OTHER)))
                await both_ways(shell, sink, 1, dialled, b"still here")
                shell.set_keys((key("192.0.2.1"),))
                await both_ways(shell, sink, accepted, sock, b"here too, as the key was taken back")


async def test_rfc2385_last_words_are_signed_with_the_key_of_the_connection() -> None:
    """The neighbor is removed, and its key with it: the peer must still be able to read why."""
    async with running() as (shell, sink):
        other = address()
        shell.set_keys((key(other),))
        to = listen(shell, address())
        with client(other, to[0], KEY) as sock:
            assert await connects(sock, to)
            conn = await sink.connection()
            sign(sock, to[0], OTHER)  # the first try is lost
            shell.send(PEER, conn, b"last words")
            shell.close(PEER, conn, linger=True)
            shell.set_keys(())
            assert await silent(sock, 0.1)
            sign(sock, to[0], KEY)
            assert await read(sock, 100) == b"last words"


async def test_a_connection_made_before_its_key_is_signed_from_its_acceptance_on() -> None:
    async with running() as (shell, sink):
        other = address()
        to = listen(shell, address())
        with plain_socket(other) as sock:
            sock.settimeout(5)
            sock.connect(to)  # the loop has no turn: the connection waits to be accepted
            shell.set_keys((key(other),))
            sock.setblocking(False)
            conn = await sink.connection()
            shell.send(PEER, conn, b"signed")
            await asyncio.get_running_loop().sock_sendall(sock, b"unsigned")
            assert await silent(sock)
            assert sink.received == {}
            sign(sock, to[0], KEY)
            assert await read(sock, 6) == b"signed"
            await until(lambda: sink.received.get(conn) == b"unsigned", "what was sent again, with a signature")


# -- what the kernel refuses ---------------------------------------------------------------------------------


async def test_a_key_that_the_kernel_refuses_keeps_its_network_out() -> None:
    async with running() as (shell, sink):
        other, stranger = address(), address()
        secret = "s3cret" * 20  # longer than the kernel takes
        shell.set_keys((key(other, secret),))
        to = listen(shell, address())
        ((text, network),) = sink.faults
        assert network == other
        assert "s3cret" not in text
        assert "80" in text
        with client(other, to[0]) as sock:
            assert await connects(sock, to)
            assert await read(sock, 1) == b""
        assert sink.up == {}
        assert sum(shell.discards.values()) == 1
        with client(stranger, to[0]) as sock:
            assert await connects(sock, to)
            await sink.connection()
        shell.set_keys((key(other, secret),))
        assert len(sink.faults) == 1  # it is told once
        shell.set_keys((key(other),))
        assert await taken(other, to, KEY)
        shell.set_keys((key(other, secret),))
        assert len(sink.faults) == 2


async def test_more_keys_than_a_socket_can_have_are_told_and_kept_out() -> None:
    async with running() as (shell, sink):
        other = address()
        to = listen(shell, address())
        many = tuple(key(f"10.{i >> 8}.{i & 255}.1") for i in range(3000))
        shell.set_keys((*many, key(other)))
        if not sink.faults:
            pytest.skip("this kernel has room for 3000 keys")
        assert "optmem_max" in sink.faults[0][0]
        assert sink.faults[-1][1] == other
        with client(other, to[0]) as sock:
            assert await connects(sock, to)
            assert await read(sock, 1) == b""
        assert sink.up == {}
        # New before old, and the room that the old leave is used.
        shell.set_keys((*(key(f"10.200.{i}.1") for i in range(200)), key(other)))
        answers = await asyncio.gather(taken(other, to, KEY), taken(other, to))
        assert answers == [True, False]


@pytest.mark.parametrize("password", ["s3cret" * 20, "", "s3cret\udc80" * 20])
async def test_a_dial_with_a_password_that_cannot_be_fails_and_does_not_tell_it(
    password: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        async with running() as (shell, sink):
            options = TransportOptions(password=Secret(password))
            shell.dial(PEER, 1, DialTarget(address(), 1, None, None, options))
            await until(lambda: bool(sink.failed), "the failure")
        assert "1 to 80 octets" in sink.failed[1]
    assert "s3cret" not in sink.failed[1] + caplog.text
