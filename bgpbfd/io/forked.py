"""Work on what this process has in memory, done in a process of its own: long work that would hold the loop.

A fork has the whole of our state at no cost but its page tables' (3 ms at 60 MB, 17 ms at 300 MB), so nothing has to be
handed over, and what it says comes back through a pipe in pieces. It is of low priority and shares nothing else with
us: signals are blocked until it has let go of our handlers, and every descriptor of ours is closed at once, so that no
neighbor's connection outlives us. Locks that a thread of ours may hold at the fork are those of the interpreter and of
the C library, which both set right; the work itself must take no others.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

NICE = 5
KILL_S = 1.0  # how long the caller waits for the kernel to end it; stuck in a dead mount, it is seen to later
_LENGTH = struct.Struct("!I")
_FIRST_FD = 3  # after standard input, output and error
_LAST_FD = 1 << 20


class ForkedError(Exception):
    """The process did not end as it should: the text says how."""


@asynccontextmanager
async def pieces(work: Callable[[], Iterable[bytes]]) -> AsyncIterator[AsyncIterator[bytes]]:
    """What ``work`` gives, from a process of its own, which is gone when the context is left.

    ``work`` must handle its own faults. Raises OSError when there can be no process, and, while iterating, ForkedError
    when it ends before its work does.
    """
    loop = asyncio.get_running_loop()
    read_fd, write_fd = os.pipe()
    try:
        try:
            pid = _fork(work, write_fd)
        finally:
            os.close(write_fd)
        ended = _watch(loop, pid)
    except BaseException:
        os.close(read_fd)
        raise
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0)
    )
    try:
        yield _read(reader, ended)
    finally:
        transport.close()
        if not ended.done():
            os.kill(pid, signal.SIGKILL)  # not yet waited for: its number is nobody else's
            await asyncio.wait({ended}, timeout=KILL_S)


async def _read(reader: asyncio.StreamReader, ended: asyncio.Future[int]) -> AsyncIterator[bytes]:
    while True:
        try:
            head = await reader.readexactly(_LENGTH.size)
            (length,) = _LENGTH.unpack(head)
            if not length:
                return
            yield await reader.readexactly(length)
        except asyncio.IncompleteReadError:
            status = await ended
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise ForkedError(f"the process that does it ended {how}") from None


def _watch(loop: asyncio.AbstractEventLoop, pid: int) -> asyncio.Future[int]:
    """Its exit status, negative: the signal; no child is left behind, whoever still waits."""
    ended: asyncio.Future[int] = loop.create_future()
    try:
        pid_fd = os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise

    def reap() -> None:
        loop.remove_reader(pid_fd)
        os.close(pid_fd)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not ended.done():
            ended.set_result(status)

    loop.add_reader(pid_fd, reap)
    return ended


def _fork(work: Callable[[], Iterable[bytes]], write_fd: int) -> int:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _child(work, write_fd)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _child(work: Callable[[], Iterable[bytes]], write_fd: int) -> None:
    """Never returns."""
    status = 1
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)  # ours: a signal to the child would be one to us
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by name it is sent to both of us
        os.closerange(_FIRST_FD, write_fd)
        os.closerange(write_fd + 1, _LAST_FD)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        for piece in work():
            _write(write_fd, _LENGTH.pack(len(piece)) + piece)
        _write(write_fd, _LENGTH.pack(0))
        status = 0
    finally:
        os._exit(status)


def _write(fd: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(fd, view) :]
