"""An operator's command in a process group of its own: started without holding up the loop, bounded, never left behind.

- **Start.** ``subprocess`` uses vfork here: a third of a millisecond whatever this process weighs, where a fork would
  copy its page tables (17 ms at 300 MB). vfork holds the whole process until the exec is done, so what is executed is
  ``nice``, always at hand; that one executes the command, which may lie on a mount that is dead. It also takes back
  this process's priority. Where there is no ``nice`` that is done from outside, right after the start.
- **Standard input** is a file in memory: written before the start, it never fills up and needs no reader.
- **Output** is read to its end, so that no full pipe blocks the command; the first ``OUTPUT_KEPT`` octets are kept.
- **End.** The run is over when the command is, and what it started in its group is ended with it; a program that is to
  live longer has to leave the group (setsid, systemd-run). The group is killed while the command is not yet
  waited for: until then its number is nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

OUTPUT_KEPT = 4096
GRACE_S = 1.0  # from SIGTERM to SIGKILL; and for the last words of what the command has started
KILL_S = 1.0  # how long whoever cancels a run waits for the kernel to end what was killed
_CHUNK = 1 << 16
_READ_PAUSE_S = 0.005  # between two reads: a command that never stops talking takes no more of the loop than this
_LOOK_FIRST_S, _LOOK_MAX_S, _LOOK_KILLED_S = 0.001, 0.05, 1.0
_NOT_EXECUTED = (126, 127)  # nice(1)
_NICE = shutil.which("nice")


@dataclass(slots=True, frozen=True)
class Outcome:
    """How a run ended. ``status``: the exit status, negative: the signal; None when it did not start.

    ``failure``: what went wrong, in words, None if all is well. ``output``: the first octets of what it wrote.
    """

    status: int | None
    failure: str | None = None
    output: bytes = b""


async def run(command: Sequence[str], environment: Mapping[bytes, bytes], stdin: bytes, timeout_s: float) -> Outcome:
    """Run ``command`` to its end or for ``timeout_s``; then its group gets SIGTERM, and a second later SIGKILL.

    Raises nothing: what cannot be started is an Outcome. When cancelled the group is killed at once.
    """
    loop = asyncio.get_running_loop()
    try:
        process, output_fd = _start(command, environment, stdin)
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL in the command
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return Outcome(None, f"cannot be started: {reason}")
    child = _Child(process, _Output(loop, output_fd))
    try:
        timed_out = not await child.ended_within(timeout_s)
        if timed_out:
            child.signal(signal.SIGTERM)
            await asyncio.sleep(GRACE_S)  # the whole of it: the command's end is not that of its group
        else:
            await child.output.ended_within(GRACE_S)
        child.signal(signal.SIGKILL)
        # One that hangs in the kernel stays ours however long: it counts as running, or they would pile up.
        while not await child.reaped_within(_LOOK_KILLED_S):
            pass
    except BaseException:
        child.signal(signal.SIGKILL)
        await child.reaped_within(KILL_S)
        raise
    finally:
        child.output.close()
    return _outcome(process.returncode, bytes(child.output.kept), timeout_s if timed_out else None)


def _outcome(status: int, output: bytes, timed_out_s: float | None) -> Outcome:
    if timed_out_s is not None:
        return Outcome(status, f"still running after {timed_out_s:g} s, and ended", output)
    if status in _NOT_EXECUTED and output.startswith(b"nice: "):
        reason = output.decode("utf-8", "replace").removeprefix("nice: ").strip()
        return Outcome(None, f"cannot be started: {reason}")
    if status < 0:
        return Outcome(status, f"ended by {_signal_name(-status)}", output)
    return Outcome(status, f"exit status {status}" if status else None, output)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


# -- start -------------------------------------------------------------------------------------------------


def _start(
    command: Sequence[str], environment: Mapping[bytes, bytes], stdin: bytes
) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and our end of its output. Raises OSError, ValueError, MemoryError, with nothing left open."""
    words = [word.encode("utf-8", "surrogateescape") for word in command]
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    if _NICE is not None:
        words = [b"nice", b"-n", b"%d" % max(0, -priority), b"--", *words]
    with contextlib.ExitStack() as given, contextlib.ExitStack() as kept:
        source = os.memfd_create("stdin", os.MFD_CLOEXEC)
        given.callback(os.close, source)
        os.write(source, stdin)
        os.lseek(source, 0, os.SEEK_SET)
        ours, theirs = os.pipe()
        kept.callback(os.close, ours)
        given.callback(os.close, theirs)
        os.set_blocking(ours, False)
        with _no_signal_blocked():
            process = subprocess.Popen(
                words,
                executable=_NICE,
                stdin=source,
                stdout=theirs,
                stderr=theirs,
                env=environment,
                close_fds=True,
                restore_signals=True,  # those that Python ignores; what it catches the exec resets
                start_new_session=True,
            )
        kept.pop_all()
    if _NICE is None and priority < 0:
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user by its setuid bit
            os.setpriority(os.PRIO_PGRP, process.pid, 0)
    return process, ours


@contextmanager
def _no_signal_blocked() -> Iterator[None]:
    """The child has the mask that this thread has when it is started."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- while it runs -----------------------------------------------------------------------------------------


class _Output:
    """Reads all, keeps the beginning."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self.kept = bytearray()
        self._loop = loop
        self._fd = fd
        self._end = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        self._loop.remove_reader(self._fd)
        if not data:
            self._end.set()
            return
        self.kept += data[: OUTPUT_KEPT - len(self.kept)]
        self._pause = self._loop.call_later(_READ_PAUSE_S, self._loop.add_reader, self._fd, self._read)

    async def ended_within(self, timeout_s: float) -> bool:
        """Whether nobody can write any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._end.wait()
        return self._end.is_set()

    @property
    def ended(self) -> bool:
        return self._end.is_set()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class _Child:
    """The command's process, which leads its group until it is reaped."""

    def __init__(self, process: subprocess.Popen[bytes], output: _Output) -> None:
        self.output = output
        self._process = process
        self._ours = True  # not waited for yet: the number is that of this process and group

    def _has_ended(self) -> bool:
        """Without reaping it."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # SIGCHLD is ignored, as whoever started us had it: the kernel has reaped it
            self._ours = False
            return True

    async def ended_within(self, timeout_s: float) -> bool:
        """Looked for when its output ends, which is when most commands do, and every now and then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause_s = _LOOK_FIRST_S
        while not self._has_ended():
            left_s = deadline - loop.time()
            if left_s <= 0:
                return False
            if self.output.ended:
                await asyncio.sleep(min(left_s, pause_s))
                pause_s = min(2 * pause_s, _LOOK_MAX_S)
            else:
                await self.output.ended_within(min(left_s, _LOOK_MAX_S))
        return True

    def signal(self, number: int) -> None:
        """To the whole group, as long as its number is surely ours."""
        self._has_ended()
        if self._ours:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # all of it runs as another user
                os.killpg(self._process.pid, number)

    async def reaped_within(self, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause_s = _LOOK_FIRST_S
        while self._process.poll() is None:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_MAX_S)
        self._ours = False
        return True
