"""Processes of a test, each with its log and in a session of its own; and waiting that explains itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class HarnessError(AssertionError):
    """A peer or a tool did not do what the test needs of it; the message carries the logs' tails."""


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a log, under its name."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        text = str(error)
    return f"--- {path.name}\n" + "\n".join(text.splitlines()[-lines:])


def wait_until(
    predicate: Callable[[], T],
    timeout: float,
    what: str,
    logs: Iterable[Path] = (),
    interval: float = 0.05,
) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    A HarnessError that it raises meanwhile counts as "not yet". Raises HarnessError after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            result = predicate()
        except HarnessError as error:
            last = error
        else:
            if result:
                return result
            last = result
        if time.monotonic() >= deadline:
            break
        time.sleep(interval)
    tails = "\n".join(tail(path) for path in logs)
    raise HarnessError(f"not within {timeout:g} s: {what}; last seen: {last}\n{tails}")


def run(argv: Sequence[str], timeout: float = 10, check: bool = True, stdin: str | None = None) -> str:
    """A command's standard output; raises HarnessError if it fails or hangs."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=timeout, input=stdin or "", check=False
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"{' '.join(argv)}: no end within {timeout:g} s") from error
    if check and done.returncode:
        raise HarnessError(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


class Process:
    """A long-running program in a session of its own, standard output and error in ``log``."""

    def __init__(
        self, argv: Sequence[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.argv = list(argv)
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    def send_signal(self, number: signal.Signals, group: bool = False) -> None:
        """To the program alone, or to every process that it has started in its session."""
        with contextlib.suppress(ProcessLookupError):
            if group:
                os.killpg(self.pid, number)
            elif self.alive:
                os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """The exit code; raises HarnessError if it is still there after ``timeout`` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise HarnessError(f"{self.argv[-3:]} still runs after {timeout:g} s\n{tail(self.log)}") from error

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 5) -> int:
        """Ask it to end and wait; after ``timeout`` the whole group is killed and HarnessError raised."""
        self.send_signal(number)
        try:
            return self.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL for the whole group; returns when the program is gone."""
        self.send_signal(signal.SIGKILL, group=True)
        self._popen.wait(10)
