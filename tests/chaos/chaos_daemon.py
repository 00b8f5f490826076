"""The daemon as its user runs it, one process a ``Daemon``, on loopback addresses of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
from bgpbfdctl.client import Client, RpcError, Unreachable

BIN = Path(sys.executable).parent
RUN = (str(BIN / "bgpbfd"), "run")
START_S = 20.0
T = TypeVar("T")

FIRST_PORT, PORTS = 20_000, 10_000

_port = FIRST_PORT + os.getpid() % PORTS
_octet = os.getpid() % 250 + 1
_last = 0


def address() -> str:
    """A loopback address that nothing else uses."""
    global _octet, _last  # noqa: PLW0603
    _last += 1
    if _last > 250:
        _octet, _last = _octet % 250 + 1, 1
    return f"127.77.{_octet}.{_last}"


def free_port(host: str) -> int:
    """Below those that the kernel gives to connections: one of them could be there before the listener is."""
    global _port  # noqa: PLW0603
    for _ in range(PORTS):
        _port = FIRST_PORT + (_port + 1 - FIRST_PORT) % PORTS
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, _port))
                return _port
    raise AssertionError("no port is free")


def wait_until(check: Callable[[], T | None], timeout: float, what: str) -> T:
    """The first true answer; AssertionError after ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for: {what} (last: {answer!r})")
        time.sleep(0.01)


class Daemon:
    """``text`` is the configuration without ``api_socket``, which is put in front."""

    def __init__(self, folder: Path, text: str, name: str = "d", command: tuple[str, ...] = RUN) -> None:
        self.config = folder / f"{name}.toml"
        self.socket = folder / f"{name}.sock"
        self.log = folder / f"{name}.log"
        self.command = command
        self.client = Client(f"unix:{self.socket}")
        self.process: subprocess.Popen[bytes] | None = None
        self.write(text)

    def whole(self, text: str) -> str:
        return f'api_socket = "unix:{self.socket}"\n{text}'

    def write(self, text: str) -> None:
        """Atomically, as an editor or a deployment does."""
        scratch = self.config.with_suffix(".new")
        scratch.write_text(self.whole(text))
        scratch.rename(self.config)

    def launch(self, **options: Any) -> subprocess.Popen[bytes]:
        """Start the process and return at once."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, str(self.config)], stderr=log, stdout=log, stdin=subprocess.DEVNULL, **options
            )
        return self.process

    def start(self, **options: Any) -> Daemon:
        """Returns when the API answers and the configuration is in force."""
        self.launch(**options)
        wait_until(self.answers, START_S, f"the daemon answers\n{self.tail()}")
        return self

    def answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"the daemon ended: {self.tail()}")
        try:
            return bool(self.rpc("show_version"))
        except (RpcError, Unreachable):
            return False

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    # -- questions -------------------------------------------------------------------------------------------

    def rpc(self, method: str, **params: Any) -> Any:
        return self.client.call(method, **params)

    def neighbor(self, peer: str) -> dict[str, Any]:
        return dict(self.rpc("show_peer_detail", peer=peer))

    def state(self, peer: str) -> str:
        return str(self.neighbor(peer)["state"])

    def wait_state(self, peer: str, state: str, timeout: float = 10) -> None:
        wait_until(lambda: self.state(peer) == state, timeout, f"{peer} {state}\n{self.tail()}")

    def bfd(self, peer: str) -> str:
        return str(self.neighbor(peer)["bfd"])

    def wait_bfd(self, peer: str, state: str, timeout: float = 15) -> None:
        wait_until(lambda: self.bfd(peer) == state, timeout, f"BFD {peer} {state}\n{self.tail()}")

    def peers(self) -> set[str]:
        return {peer["peer"] for peer in self.rpc("show_peers")}

    def events(self, kind: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        found = self.rpc("show_events", since=since, limit=10_000)
        return [event for event in found if kind in (None, event["kind"])]

    def last_event(self) -> int:
        return max((int(event["number"]) for event in self.rpc("show_events", limit=1)), default=0)

    def wait_event(self, kind: str, since: int = 0, timeout: float = 10) -> dict[str, Any]:
        return wait_until(lambda: self.events(kind, since), timeout, f"event {kind}\n{self.tail()}")[-1]

    # -- the process -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def worker(self) -> psutil.Process:
        """The BFD worker's process."""
        return wait_until(self._worker, 10, "a BFD worker")

    def _worker(self) -> psutil.Process | None:
        for child in psutil.Process(self.pid).children():
            if child.status() != psutil.STATUS_ZOMBIE and child.name() == "bgpbfd-bfd":
                return child
        return None

    def fds(self) -> int:
        return psutil.Process(self.pid).num_fds()

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def hangup(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 10) -> tuple[int, float]:
        """Signal it; its exit code, and how many seconds the end took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout)
        return code, time.monotonic() - began

    def end(self) -> None:
        """Whatever state it is in: gone afterwards, with its worker."""
        if self.process is None or self.process.poll() is not None:
            return
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(10)
