"""BIRD's and FRR's BFD alone, without BGP: sessions on several paths at once, asked by their own CLIs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .lab import Host
from .process import Process, run, wait_until

STATES = {"admindown": "admin-down", "shutdown": "admin-down"}


@dataclass(slots=True, frozen=True)
class FarPath:
    """One session as its far end has it. ``interface`` is the far end's, of a single hop."""

    remote: str
    local: str
    interface: str = ""
    multihop: bool = False


@dataclass(slots=True)
class Knobs:
    """What all sessions of a peer have in common, and may be changed live."""

    interval_ms: int = 50
    multiplier: int = 3
    passive: bool = False
    shutdown: bool = False
    echo: bool = False
    auth: str = ""  # BIRD's words, of the direct interface
    left_out: set[str] = field(default_factory=set)  # remotes


class BfdPeer(Protocol):
    name: str
    host: Host
    paths: list[FarPath]
    knobs: Knobs

    def start(self) -> None: ...

    def apply(self) -> None:
        """Bring changed knobs in, live."""
        ...

    def kill9(self) -> None: ...

    def state(self, remote: str) -> str:
        """As its own CLI prints it: up, init, down, admin-down; down where there is none."""
        ...


class BirdBfd:
    name = "bird"

    def __init__(self, host: Host, paths: list[FarPath]) -> None:
        self.host, self.paths, self.knobs = host, paths, Knobs()
        self._process: Process | None = None
        self._config = host.scratch / "bird.conf"
        self._socket = str(host.scratch / "bird.ctl")
        self.accepts: str = ""  # networks of neighbors without an entry

    def _text(self) -> str:
        k = self.knobs
        timers = f"interval {k.interval_ms} ms; multiplier {k.multiplier}; idle tx interval 1 s;"
        timers += " passive on;" if k.passive else ""
        lines = [
            f'log "{self.host.logs / "bird.log"}" all;',
            "router id 10.255.0.9;",
            "protocol device { scan time 2; }",
            "protocol bfd one {",
            f'  interface "eth*" {{ {timers} {k.auth} }};',
            f"  multihop {{ {timers} }};",
        ]
        for path in self.paths:
            if path.remote in k.left_out:
                continue
            where = f'dev "{path.interface}"' if not path.multihop else "multihop on"
            local = f"local {path.local}" if not path.local.startswith("fe80") else ""
            lines.append(f"  neighbor {path.remote} {where if not path.multihop else ''} {local} "
                         f"{'multihop on' if path.multihop else ''};")  # fmt: skip
        return "\n".join([*lines, "}", ""])

    def start(self) -> None:
        self._config.write_text(self._text())
        argv = ["bird", "-f", "-c", str(self._config), "-s", self._socket, "-P", str(self.host.scratch / "bird.pid")]
        self._process = self.host.spawn(argv, "bird.out.log")
        wait_until(lambda: "Daemon is up" in self.birdc("show status"), 10, "birdc", [self.host.logs / "bird.out.log"])

    def birdc(self, command: str) -> str:
        return run(["birdc", "-s", self._socket, *command.split()], check=False)

    def apply(self) -> None:
        self._config.write_text(self._text())
        answer = self.birdc("configure")
        assert "Reconfigur" in answer, answer

    def kill9(self) -> None:
        assert self._process is not None
        self._process.kill()

    def state(self, remote: str) -> str:
        for line in self.birdc("show bfd sessions").splitlines():
            fields = line.split()
            if fields and fields[0] == remote:
                state = fields[2].lower()
                return STATES.get(state, state)
        return "down"

    def log(self) -> str:
        path: Path = self.host.logs / "bird.log"
        return path.read_text() if path.exists() else ""


class FrrBfd:
    name = "frr"

    def __init__(self, host: Host, paths: list[FarPath]) -> None:
        self.host, self.paths, self.knobs = host, paths, Knobs()
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        for parent in ("/run/frr", "/etc/frr"):
            folder = Path(parent, self.host.name)
            folder.mkdir(parents=True, exist_ok=True)
            run(["chown", "frr:frr", str(folder)])
        etc = Path("/etc/frr", self.host.name)
        (etc / "zebra.conf").write_text("")
        (etc / "vtysh.conf").write_text("")
        (etc / "bfdd.conf").write_text(self._text())
        run(["chown", "-R", "frr:frr", str(etc)])
        for daemon in ("zebra", "bfdd"):
            if daemon == "zebra" and "zebra" in self._processes and self._processes["zebra"].alive:
                continue
            argv = [f"/usr/lib/frr/{daemon}", "-N", self.host.name, "-f", str(etc / f"{daemon}.conf")]
            self._processes[daemon] = self.host.spawn([*argv, "--log", "stdout"], f"{daemon}.log")
            pid = Path("/run/frr", self.host.name, f"{daemon}.vty")
            wait_until(pid.exists, 10, f"{daemon} is there", [self.host.logs / f"{daemon}.log"])
        wait_until(lambda: self.peers() is not None, 10, "vtysh answers", [self.host.logs / "bfdd.log"])

    def _profile(self) -> list[str]:
        k = self.knobs
        return [
            f"detect-multiplier {k.multiplier}",
            f"transmit-interval {k.interval_ms}",
            f"receive-interval {k.interval_ms}",
            f"{'' if k.passive else 'no '}passive-mode",
            f"{'' if k.echo else 'no '}echo-mode",
            "echo transmit-interval 50",
            "echo receive-interval " + ("50" if k.echo else "disabled"),
            f"{'' if k.shutdown else 'no '}shutdown",
        ]

    def _text(self) -> str:
        lines = ["bfd", " profile one", *(f"  {line}" for line in self._profile()), " exit"]
        for path in self.paths:
            if path.remote in self.knobs.left_out:
                continue
            where = "multihop " if path.multihop else ""
            interface = "" if path.multihop else f" interface {path.interface}"
            lines += [f" peer {path.remote} {where}local-address {path.local}{interface}", "  profile one", " exit"]
        return "\n".join([*lines, "exit", ""])

    def vtysh(self, *commands: str) -> str:
        argv = ["vtysh", "-N", self.host.name, "-d", "bfdd"]
        for command in commands:
            argv += ["-c", command]
        return self.host.run(*argv, check=False)

    def peers(self) -> list[dict[str, Any]] | None:
        return _parsed(self.vtysh("show bfd peers json"))

    def facts(self, remote: str) -> dict[str, Any]:
        return next((peer for peer in self.peers() or [] if peer["peer"] == remote), {})

    def counters(self, remote: str) -> dict[str, Any]:
        found = _parsed(self.vtysh("show bfd peers counters json")) or []
        return next((peer for peer in found if peer["peer"] == remote), {})

    def apply(self) -> None:
        self.vtysh("configure terminal", "bfd", "profile one", *self._profile())

    def kill9(self) -> None:
        self._processes["bfdd"].kill()
        Path("/run/frr", self.host.name, "bfdd.vty").unlink(missing_ok=True)

    def state(self, remote: str) -> str:
        state = str(self.facts(remote).get("status", "down"))
        return STATES.get(state, state)


def _parsed(text: str) -> list[dict[str, Any]] | None:
    try:
        found = json.loads(text[text.index("[") :])
    except ValueError:
        return None
    return list(found)


def bird_auth(kind: str, *keys: tuple[int, str]) -> str:
    """BIRD's words for an authentication type and its passwords; the first is sent with."""
    words = {"simple": "simple", "keyed-md5": "keyed md5", "keyed-sha1": "keyed sha1"}
    plain = kind.removeprefix("meticulous-")
    meticulous = "meticulous " if plain != kind else ""
    passwords = " ".join(f'password "{text}" {{ id {number}; }};' for number, text in keys)
    assert re.fullmatch(r"[a-z0-9-]+", kind)
    return f"authentication {meticulous}{words[plain]}; {passwords}"
