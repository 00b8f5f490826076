"""What peers and strangers can make the TCP shell hold: stalled senders (RFC 9687), refused connections, floods."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time

import pytest
from chaos_daemon import address
from tcp_peer import PATIENCE_S, PEER, connects, listen, plain_socket, read, running, until

from bgpbfd.bgp.events import Endpoint
from bgpbfd.control.ports import Accepted, NotTaken, TransportOptions
from bgpbfd.core import SECOND
from bgpbfd.io import refusals, tcp

NOTIFICATION = b"\xff" * 16 + b"\x00\x15\x03\x06\x05"  # Cease, Connection Rejected


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- stalls --------------------------------------------------------------------------------------------------


async def test_rfc9687_a_peer_that_takes_nothing_is_told_of_once_and_when_it_reads_again() -> None:
    async with running() as (shell, sink):
        to = listen(shell, address())
        with plain_socket(address()) as stuck, plain_socket(address()) as reader:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            assert await connects(stuck, to)
            conn = await sink.connection()
            assert await connects(reader, to)
            await until(lambda: len(sink.up) == 2, "both connections")
            other = max(sink.up)
            shell.send(PEER, conn, b"a few bytes that the kernel takes")
            await asyncio.sleep(1.2)
            assert sink.stalls == []
            began = time.monotonic_ns() // 1000
            data = bytes(16 << 20)
            shell.send(PEER, conn, data)
            shell.send(PEER, other, data)
            assert not shell.writable(PEER, conn)
            assert len(await read(reader, len(data))) == len(data)
            await until(lambda: bool(sink.stalls), "the stall")
            ((what, which, since),) = sink.stalls
            assert (what, which) == ("stalled", conn)
            now = time.monotonic_ns() // 1000
            assert began <= since <= now - SECOND
            await asyncio.sleep(1.5)
            assert len(sink.stalls) == 1
            rest = len(data) + 33
            while rest:
                rest -= len(await read(stuck, min(rest, 1 << 20)))
            await until(lambda: len(sink.stalls) == 2, "that it reads again")
            assert sink.stalls[1][:2] == ("resumed", conn)
            assert shell.writable(PEER, conn)


async def test_rfc9687_nothing_is_told_of_a_connection_that_was_closed() -> None:
    async with running() as (shell, sink):
        to = listen(shell, address())
        with plain_socket(address()) as stuck:
            assert await connects(stuck, to)
            conn = await sink.connection()
            shell.send(PEER, conn, bytes(16 << 20))
            shell.close(PEER, conn, linger=True)
            await asyncio.sleep(1.3)
            assert sink.stalls == []


# -- refusals ------------------------------------------------------------------------------------------------


def refuse(local: Endpoint, remote: Endpoint) -> Accepted | NotTaken:
    return NotTaken(NOTIFICATION)


async def test_who_is_not_taken_can_read_why_even_when_it_sends() -> None:
    async with running() as (shell, sink):
        sink.answer = refuse
        to = listen(shell, address())
        with plain_socket(address()) as sock:
            assert await connects(sock, to)
            await asyncio.get_running_loop().sock_sendall(sock, b"OPEN" * 1000)
            await asyncio.sleep(0.05)
            await asyncio.get_running_loop().sock_sendall(sock, b"more" * 1000)
            assert await read(sock, 100) == NOTIFICATION
        sink.answer = lambda *_: NotTaken()
        with plain_socket(address()) as sock:
            assert await connects(sock, to)
            assert await read(sock, 100) == b""
        assert sink.up == sink.failed == {}


async def test_a_flood_of_the_refused_holds_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_WAITING", 20)
    monkeypatch.setattr(refusals, "WAIT_S", 1.0)
    async with running() as (shell, sink):
        sink.answer = refuse
        to = listen(shell, address())
        local = address()
        before = open_files()
        socks = [plain_socket(local) for _ in range(150)]
        try:
            assert all(await asyncio.gather(*(connects(sock, to, PATIENCE_S) for sock in socks)))
            await until(lambda: open_files() <= before + len(socks) + 20, "the limit")
            assert await asyncio.gather(*(read(sock, 100) for sock in socks)) == [NOTIFICATION] * len(socks)
            # They keep their end open and mute: the time is over for them.
            await until(lambda: open_files() <= before + len(socks), "the end of all of them")
        finally:
            for sock in socks:
                sock.close()


async def test_a_refused_peer_that_never_stops_sending_is_cut_off() -> None:
    async with running() as (shell, sink):
        sink.answer = refuse
        to = listen(shell, address())
        with plain_socket(address()) as sock:
            assert await connects(sock, to)

            async def send_for_ever() -> None:
                while True:
                    await asyncio.get_running_loop().sock_sendall(sock, bytes(4096))
                    await asyncio.sleep(0)

            with pytest.raises((ConnectionResetError, BrokenPipeError)):  # before the time of others is over
                await asyncio.wait_for(send_for_ever(), refusals.WAIT_S / 2)


async def test_stopping_waits_for_no_refused_connection() -> None:
    async with running() as (shell, sink):
        sink.answer = refuse
        to = listen(shell, address())
        with plain_socket(address()) as sock:
            assert await connects(sock, to)
            assert await read(sock, len(NOTIFICATION)) == NOTIFICATION
            began = time.monotonic()
            await shell.stop()
            assert time.monotonic() - began < 1.0


# -- too many at once ----------------------------------------------------------------------------------------


async def test_one_neighbor_s_connections_of_one_moment_are_limited() -> None:
    async with running() as (shell, sink):
        to = listen(shell, address())
        local, other = address(), address()
        sink.answer = lambda _, remote: Accepted(remote.text, next(sink.numbers))
        socks = [plain_socket(local) for _ in range(20)] + [plain_socket(other)]
        try:
            for sock in socks:  # the loop has no turn meanwhile
                sock.settimeout(PATIENCE_S)
                sock.connect(to)
            await until(lambda: len(sink.up) + len(sink.failed) == len(socks), "an answer for each")
            remotes = [remote.text for _, remote in sink.up.values()]
            assert remotes.count(local) == tcp.MAX_UNCONFIRMED
            assert remotes.count(other) == 1
            assert sum(shell.discards.values()) == 20 - tcp.MAX_UNCONFIRMED
            with plain_socket(local) as later:  # what was confirmed does not count any more
                assert await connects(later, to)
                await until(lambda: len(sink.up) == tcp.MAX_UNCONFIRMED + 2, "one more")
        finally:
            for sock in socks:
                sock.close()


async def test_faults_of_ever_new_neighbors_are_not_remembered_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_FAULTS_TOLD", 3)
    async with running() as (shell, sink):
        options = TransportOptions(minimum_ttl=255)
        names = itertools.cycle("abcd")
        sink.answer = lambda *_: Accepted(next(names), next(sink.numbers), options)
        to = listen(shell, address())
        for _ in range(8):
            with plain_socket(address()) as sock:
                before = len(sink.failed)
                assert await connects(sock, to)
                await until(lambda: len(sink.failed) > before, "the refusal")  # noqa: B023
        assert len(shell._told) == 3
        assert {name for _, name in sink.faults} == set("abcd")
