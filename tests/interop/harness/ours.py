"""bgpbfd as its user runs it: a TOML file, ``bgpbfd run``, ``bgpbfdctl``."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from bgpbfdctl.client import Client, RpcError, Unreachable

from .lab import Host
from .process import HarnessError, Process, tail, wait_until

_BIN = Path(sys.executable).parent


class Bgpbfd:
    """One daemon in a namespace. ``text`` is its configuration without ``api_socket``, which is put in front."""

    def __init__(self, host: Host, text: str) -> None:
        self.host = host
        self.config = host.scratch / "bgpbfd.toml"
        self.socket = host.scratch / "api.sock"
        self.process: Process | None = None
        self.write(text)

    @property
    def log(self) -> Path:
        return self.host.logs / "bgpbfd.log"

    def write(self, text: str) -> None:
        self.config.write_text(f'api_socket = "unix:{self.socket}"\n{text}')

    def start(self) -> None:
        """Returns when the API answers."""
        self.process = self.host.spawn([str(_BIN / "bgpbfd"), "run", str(self.config)], "bgpbfd.log")
        wait_until(self._answers, 15, "bgpbfd answers bgpbfdctl", [self.log])

    def _answers(self) -> bool:
        if self.process is None or not self.process.alive:
            raise RuntimeError(f"bgpbfd ended at start: {tail(self.log)}")
        return bool(self.ctl("show", "version"))

    def ctl(self, *argv: str, check: bool = True) -> Any:
        """What ``bgpbfdctl --json`` prints, parsed; raises HarnessError unless it ends with 0."""
        output = self.host.run(
            str(_BIN / "bgpbfdctl"), "--api", f"unix:{self.socket}", "--json", *argv, check=check, timeout=20
        )
        try:
            return json.loads(output) if output.strip() else None
        except ValueError as error:
            raise HarnessError(f"bgpbfdctl {argv}: {output[-500:]}") from error

    def call(self, method: str, **parameters: Any) -> Any:
        """The API's answer, over bgpbfdctl's own client: what tests ask again and again shall not start a program."""
        try:
            return Client(f"unix:{self.socket}").call(method, **parameters)
        except (RpcError, Unreachable) as error:
            raise HarnessError(f"{method} {parameters}: {error}") from error

    def neighbor(self, peer: str) -> dict[str, Any]:
        """``show neighbors PEER detail``"""
        answer = self.call("show_peer_detail", peer=peer)
        return dict(answer[0] if isinstance(answer, list) else answer)

    def state(self, peer: str) -> str:
        return str(self.neighbor(peer)["state"])

    def bfd(self, peer: str) -> dict[str, Any]:
        answer = self.call("show_bfd", peer=peer)
        return dict(answer[0] if isinstance(answer, list) else answer)

    def learned(self, peer: str) -> list[dict[str, Any]]:
        return list(self.call("show_routes_learned", from_peer=peer, limit=2000)["routes"])

    def events(self, peer: str | None = None) -> list[dict[str, Any]]:
        return list(self.call("show_events", peer=peer, limit=1000))

    def wait_state(self, peer: str, state: str, timeout: float = 20) -> None:
        wait_until(lambda: self.state(peer) == state, timeout, f"bgpbfd: {peer} {state}", self.host.log_files())

    def wait_bfd(self, peer: str, status: str, timeout: float = 10) -> None:
        wait_until(
            lambda: self.bfd(peer)["status"] == status, timeout, f"bgpbfd: BFD {peer} {status}", self.host.log_files()
        )

    def hangup(self) -> None:
        """SIGHUP to the daemon's main process; the effect comes when the file has been read."""
        if self.process is None:
            raise HarnessError("bgpbfd does not run")
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process is None:
            raise HarnessError("bgpbfd does not run")
        process, self.process = self.process, None
        return process.stop(timeout=10)

    def kill9(self) -> None:
        """SIGKILL to the main process alone: what it leaves behind has to notice by itself."""
        if self.process is None:
            raise HarnessError("bgpbfd does not run")
        process, self.process = self.process, None
        process.send_signal(signal.SIGKILL)
        process.wait(5)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive
