"""Work in a process of its own: what it gives, how it ends, and that nothing of ours lives on in it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpbfd.io.forked import ForkedError, pieces


async def given_by(work: object) -> list[bytes]:
    async with pieces(work) as stream:  # type: ignore[arg-type]
        return [piece async for piece in stream]


async def test_pieces_come_as_they_were_given() -> None:
    here = os.getpid()
    big = os.urandom(3_000_000)

    def work() -> Iterator[bytes]:
        yield b"other" if os.getpid() != here else b"same"
        yield big

    assert await given_by(work) == [b"other", big]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal 9"),
        (lambda: os._exit(3), "status 3"),
        (lambda: 1 / 0, "status 1"),
    ],
)
async def test_an_early_end_is_told(end: object, said: str) -> None:
    def work() -> Iterator[bytes]:
        yield b"first"
        end()  # type: ignore[operator]
        yield b"never"

    with pytest.raises(ForkedError, match=said):
        await given_by(work)


async def test_connections_of_ours_are_not_kept_open() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    def work() -> Iterator[bytes]:
        yield str(sorted(os.listdir("/proc/self/fd"))).encode()
        signal.pause()

    async with pieces(work) as stream:
        listed = await anext(stream)
        assert str(ours.fileno()).encode() not in [entry.strip(b"' ") for entry in listed.strip(b"[]").split(b",")]
        ours.close()
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 1), 5) == b""
    theirs.close()


async def test_nobody_is_left_when_the_caller_leaves() -> None:
    def work() -> Iterator[bytes]:
        yield str(os.getpid()).encode()
        signal.pause()

    async with pieces(work) as stream:
        pid = int(await anext(stream))
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the process is still there")


async def test_a_hangup_for_all_of_our_name_does_not_end_it_and_a_term_is_not_taken_for_ours() -> None:
    heard: list[int] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, heard.append, signal.SIGTERM)
    try:

        def work() -> Iterator[bytes]:
            os.kill(os.getpid(), signal.SIGHUP)
            yield b"still here"
            os.kill(os.getpid(), signal.SIGTERM)
            yield b"never"

        with pytest.raises(ForkedError, match="signal 15"):
            await given_by(work)
        await asyncio.sleep(0)
        assert heard == []
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
