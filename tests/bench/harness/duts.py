"""The daemons under test: each with a configuration of its own for what a work asks of it, on core 0."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.bench.harness import metrics
from tests.bench.harness.figures import Pauses
from tests.interop.harness.lab import Host
from tests.interop.harness.process import HarnessError, Process, run, tail

_BIN = Path(sys.executable).parent
PEERS = _BIN.parent / "peers"
"""Virtual environments of what comes from PyPI and wants other versions than we do; ``tests/bench/run`` makes them."""


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An external neighbor that dials (or, of ``dials`` DUTs, is dialled)."""

    address: str
    asn: int
    bfd: bool = False


@dataclass(frozen=True, slots=True)
class Spec:
    """What a DUT is to do. ``routes`` go to all neighbors; ``bfd_sessions`` stand alone; ``interval_ms`` × ``mult``."""

    address: str
    asn: int
    neighbors: tuple[Neighbor, ...] = ()
    routes: Sequence[str] = field(default=())
    bfd_sessions: tuple[str, ...] = ()
    interval_ms: int = 50
    mult: int = 3


class Dut(ABC):
    """Configured by its constructor, started by ``launch``."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    version_argv: ClassVar[tuple[str, ...]]
    dials: ClassVar[bool] = False
    """It cannot be dialled as configured here."""

    def __init__(self, host: Host, spec: Spec) -> None:
        self.host = host
        self.spec = spec
        self.processes: list[Process] = []
        self.prepare()

    @classmethod
    def missing(cls) -> str | None:
        lost = [program for program in cls.programs if shutil.which(program) is None]
        return f"no {', '.join(lost)}" if lost else None

    @classmethod
    def version(cls) -> str:
        done = subprocess.run(cls.version_argv, capture_output=True, text=True, check=False)
        found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
        return found[0] if found else "unknown"

    def path(self, name: str) -> Path:
        return self.host.scratch / name

    def spawn(self, *argv: str, env: dict[str, str] | None = None) -> Process:
        process = self.host.spawn(["taskset", "-c", "0", *argv], f"{self.name}.log", env)
        self.processes.append(process)
        return process

    def check(self) -> None:
        """Raises HarnessError if one of its processes has ended."""
        for process in self.processes:
            if not process.alive:
                raise HarnessError(f"{self.name} ended with exit {process.exit_code}\n{tail(process.log)}")

    @abstractmethod
    def prepare(self) -> None:
        """Write the configuration: not measured."""

    @abstractmethod
    def launch(self) -> None: ...

    def prefixes(self) -> int:
        """How many it has learned, by its own CLI or API."""
        raise HarnessError(f"{self.name} is not asked this")

    def bfd_up(self) -> int:
        """How many BFD sessions are Up, by its own CLI or API."""
        raise HarnessError(f"{self.name} is not asked this")

    def reload(self) -> None:
        raise HarnessError(f"{self.name} is not asked this")

    def show_neighbors(self) -> list[str]:
        """The command by which a person looks at the neighbors."""
        raise HarnessError(f"{self.name} is not asked this")

    def pauses(self) -> dict[str, Pauses]:
        """Of each of its loops, if it says."""
        return {}

    def rewrite(self, routes: Sequence[str]) -> None:
        """Other routes in the configuration, for ``reload``."""
        self.spec = Spec(
            self.spec.address,
            self.spec.asn,
            self.spec.neighbors,
            routes,
            self.spec.bfd_sessions,
            self.spec.interval_ms,
            self.spec.mult,
        )
        self.prepare()


class Bgpbfd(Dut):
    name = "bgpbfd"
    programs = ()
    version_argv = (str(_BIN / "bgpbfd"), "--version")

    def prepare(self) -> None:
        s = self.spec
        bfd = f"transmit_interval_ms = {s.interval_ms}\nreceive_interval_ms = {s.interval_ms}\n"
        bfd += f"detect_multiplier = {s.mult}"
        lines = [
            f'router_id = "{s.address}"\ndefault_as = {s.asn}',
            f'api_socket = "unix:{self.socket}"\n[api]\nmetrics = true\n[bfd.profiles.bench]\n{bfd}\ndamping = false\n',
        ]
        for address in s.bfd_sessions:
            lines.append(f'[[bfd.sessions]]\npeer = "{address}"\nlocal = "{s.address}"\nprofile = "bench"')
        for neighbor in s.neighbors:
            lines.append(f'[[peers]]\nremote_ip = "{neighbor.address}"\nremote_as = {neighbor.asn}\npassive = true')
            lines.append(f'local_ip = "{s.address}"')
            if neighbor.bfd:
                lines.append('bfd = "bench"')
        lines += [f'[[static_routes]]\nprefix = "{prefix}"' for prefix in s.routes]
        self.path("bgpbfd.toml").write_text("\n".join([*lines, ""]))

    @property
    def socket(self) -> Path:
        return self.path("api.sock")

    def launch(self) -> None:
        self.spawn(str(_BIN / "bgpbfd"), "run", str(self.path("bgpbfd.toml")))

    def _ctl(self, *argv: str) -> str:
        return self.host.run(*self._ctl_argv("--json", *argv), timeout=30)

    def _ctl_argv(self, *argv: str) -> list[str]:
        return [str(_BIN / "bgpbfdctl"), "--api", f"unix:{self.socket}", *argv]

    def prefixes(self) -> int:
        return sum(int(peer["prefixes_received"]) for peer in json.loads(self._ctl("show", "neighbors")))

    def bfd_up(self) -> int:
        return sum(session["status"] == "up" for session in json.loads(self._ctl("show", "bfd")))

    def reload(self) -> None:
        self.processes[0].send_signal(signal.SIGHUP)

    def show_neighbors(self) -> list[str]:
        return self._ctl_argv("show", "neighbors")

    def pauses(self) -> dict[str, Pauses]:
        return metrics.pauses(metrics.scrape(self.socket))


class Bird(Dut):
    name = "bird"
    programs = ("bird", "birdc")
    version_argv = ("bird", "--version")

    def prepare(self) -> None:
        s = self.spec
        lines = [f"router id {s.address};", "protocol device {}"]
        if s.bfd_sessions or any(neighbor.bfd for neighbor in s.neighbors):
            lines.append(f'protocol bfd {{ interface "*" {{ interval {s.interval_ms} ms; multiplier {s.mult}; }};')
            lines += [f"  neighbor {address} local {s.address};" for address in s.bfd_sessions]
            lines.append("}")
        if s.routes:
            lines += ["protocol static { ipv4;", *(f"route {prefix} blackhole;" for prefix in s.routes), "}"]
        for number, neighbor in enumerate(s.neighbors):
            bfd = "on" if neighbor.bfd else "off"
            lines.append(
                f"protocol bgp p{number} {{ local {s.address} as {s.asn}; "
                f"neighbor {neighbor.address} as {neighbor.asn}; passive on; bfd {bfd}; "
                "connect delay time 1; error wait time 1,1; error forget time 1; "
                "ipv4 { import all; export where source = RTS_STATIC; }; }"
            )
        self.path("bird.conf").write_text("\n".join([*lines, ""]))

    @property
    def socket(self) -> str:
        return str(self.path("bird.ctl"))

    def launch(self) -> None:
        self.spawn("bird", "-f", "-c", str(self.path("bird.conf")), "-s", self.socket, "-P", str(self.path("bird.pid")))

    def _birdc(self, *command: str) -> str:
        return run(["birdc", "-s", self.socket, *command], timeout=60)

    def prefixes(self) -> int:
        return sum(
            int(count) for count in re.findall(r"Routes: +(\d+) imported", self._birdc("show", "protocols", "all"))
        )

    def bfd_up(self) -> int:
        return len(re.findall(r"\bUp\b", self._birdc("show", "bfd", "sessions")))

    def reload(self) -> None:
        self._birdc("configure")

    def show_neighbors(self) -> list[str]:
        return ["birdc", "-s", self.socket, "show", "protocols"]


class Frr(Dut):
    """zebra, bgpd and bfdd in a path space of their own."""

    name = "frr"
    programs = ("vtysh", "/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "/usr/lib/frr/bfdd")
    version_argv = ("/usr/lib/frr/bgpd", "--version")
    _parents: ClassVar[tuple[Path, ...]] = (Path("/run/frr"), Path("/etc/frr"))

    def prepare(self) -> None:
        s = self.spec
        for parent in self._parents:
            directory = parent / self.host.name
            directory.mkdir(parents=True, exist_ok=True)
            shutil.chown(directory, "frr", "frr")
        Path("/etc/frr", self.host.name, "vtysh.conf").touch()  # vtysh complains without it
        lines = ["frr defaults datacenter"]
        if s.bfd_sessions:
            timers = (
                f"  detect-multiplier {s.mult}\n  receive-interval {s.interval_ms}\n  transmit-interval {s.interval_ms}"
            )
            lines.append("bfd")
            lines += [f" peer {address} local-address {s.address}\n{timers}\n exit" for address in s.bfd_sessions]
            lines.append("exit")
        if s.neighbors:
            lines += [f"router bgp {s.asn}", f" bgp router-id {s.address}", " no bgp ebgp-requires-policy"]
            lines += [" no bgp network import-check", " coalesce-time 0"]
            for neighbor in s.neighbors:
                own = f" neighbor {neighbor.address}"
                lines += [f"{own} remote-as {neighbor.asn}", f"{own} passive", f"{own} advertisement-interval 0"]
                lines += [f"{own} timers connect 1", f"{own} update-source {s.address}"]
                if neighbor.bfd:
                    lines.append(f"{own} bfd {s.mult} {s.interval_ms} {s.interval_ms}")
            lines += [" address-family ipv4 unicast", *(f"  network {prefix}" for prefix in s.routes), "exit"]
        path = self.path("frr.conf")
        path.write_text("\n".join([*lines, ""]))
        path.chmod(0o644)

    def launch(self) -> None:
        daemons = ["zebra"] if self.spec.neighbors else []
        daemons += ["bfdd"] if self.spec.bfd_sessions or any(n.bfd for n in self.spec.neighbors) else []
        daemons += ["bgpd"] if self.spec.neighbors else []
        for daemon in daemons:
            argv = [f"/usr/lib/frr/{daemon}", "-N", self.host.name, "-f", str(self.path("frr.conf"))]
            if daemon == "bgpd":
                argv += ["-n"]  # its routes stay out of zebra, as BIRD's do out of the kernel
            self.spawn(*argv, "--log", "file:/dev/null", "--log-level", "errors")

    def _vtysh(self, daemon: str, command: str) -> str:
        return run(["vtysh", "-N", self.host.name, "-d", daemon, "-c", command], timeout=60)

    def prefixes(self) -> int:
        peers = json.loads(self._vtysh("bgpd", "show bgp ipv4 unicast summary json")).get("peers", {})
        return sum(int(peer.get("pfxRcd", 0)) for peer in peers.values())

    def bfd_up(self) -> int:
        return sum(peer["status"] == "up" for peer in json.loads(self._vtysh("bfdd", "show bfd peers json")))

    def show_neighbors(self) -> list[str]:
        return ["vtysh", "-N", self.host.name, "-d", "bgpd", "-c", "show bgp summary"]


class OpenBgpd(Dut):
    name = "openbgpd"
    programs = ("/usr/sbin/bgpd", "bgpctl")
    version_argv = ("/usr/sbin/bgpd", "-V")

    def prepare(self) -> None:
        s = self.spec
        Path("/run/openbgpd").mkdir(exist_ok=True)
        lines = [f"AS {s.asn}", f"router-id {s.address}", "fib-update no", f"listen on {s.address}"]
        lines += [f'socket "{self.socket}"', *(f"network {prefix}" for prefix in s.routes)]
        for neighbor in s.neighbors:
            lines.append(f"neighbor {neighbor.address} {{\n remote-as {neighbor.asn}\n local-address {s.address}")
            lines.append(" passive\n}")
        path = self.path("bgpd.conf")
        path.write_text("\n".join([*lines, "allow from any", "allow to any", ""]))
        path.chmod(0o600)

    @property
    def socket(self) -> str:
        return str(self.path("bgpd.sock"))

    def launch(self) -> None:
        self.spawn("/usr/sbin/bgpd", "-d", "-f", str(self.path("bgpd.conf")))

    def prefixes(self) -> int:
        shown = json.loads(run(["bgpctl", "-s", self.socket, "-j", "show", "neighbor"], timeout=60))
        return sum(int(peer["stats"]["prefixes"]["received"]) for peer in shown.get("neighbors", []))


class GoBgp(Dut):
    """Its configuration file has no routes of its own."""

    name = "gobgp"
    programs = ("gobgpd", "gobgp")
    version_argv = ("gobgpd", "--version")

    def prepare(self) -> None:
        s = self.spec
        lines = [f'[global.config]\nas = {s.asn}\nrouter-id = "{s.address}"\nlocal-address-list = ["{s.address}"]']
        for neighbor in s.neighbors:
            lines.append(f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{neighbor.address}"')
            lines.append(f"peer-as = {neighbor.asn}\n[neighbors.transport.config]\npassive-mode = true")
        self.path("gobgp.toml").write_text("\n".join([*lines, ""]))

    def launch(self) -> None:
        self.host.run("sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0")
        self.spawn("gobgpd", "-f", str(self.path("gobgp.toml")), "-l", "error")

    def prefixes(self) -> int:
        shown = json.loads(self.host.run("gobgp", "-j", "neighbor", timeout=60))
        count = 0
        for peer in shown:
            for family in peer.get("afi_safis", []):
                count += int(family.get("state", {}).get("received", 0))
        return count


class ExaBgp(Dut):
    name = "exabgp"
    programs = ("exabgp",)
    version_argv = ("exabgp", "--version")
    dials = True
    log_level: ClassVar[str] = "ERR"

    def prepare(self) -> None:
        s = self.spec
        lines = []
        for neighbor in s.neighbors:
            lines.append(f"neighbor {neighbor.address} {{ router-id {s.address}; local-address {s.address};")
            lines.append(f" local-as {s.asn}; peer-as {neighbor.asn}; family {{ ipv4 unicast; }}\n static {{")
            lines += [f"  route {prefix} next-hop self;" for prefix in s.routes]
            lines.append(" }\n}")
        self.path("exabgp.conf").write_text("\n".join([*lines, ""]))

    @property
    def argv(self) -> tuple[str, ...]:
        return ("exabgp",)

    def launch(self) -> None:
        env = {"exabgp.log.level": self.log_level, "exabgp.api.cli": "false", "exabgp.daemon.user": "root"}
        self.spawn(*self.argv, str(self.path("exabgp.conf")), env={**env, "exabgp.daemon.drop": "false"})


class ExaBgp5(ExaBgp):
    """PyPI's, beside Debian's."""

    name = "exabgp5"
    programs = (str(PEERS / "exabgp5/bin/exabgp"),)
    version_argv = (*programs, "version")
    log_level = "ERROR"

    @property
    def argv(self) -> tuple[str, ...]:
        return (*self.programs, "server")


class AioBfd(Dut):
    """PyPI's: BFD alone, one session a process as its command line has it."""

    name = "aiobfd"
    programs = (str(PEERS / "aiobfd/bin/aiobfd"),)
    version_argv = (str(PEERS / "aiobfd/bin/pip"), "--disable-pip-version-check", "show", "aiobfd")

    def prepare(self) -> None:
        if len(self.spec.bfd_sessions) != 1 or self.spec.neighbors:
            raise HarnessError("aiobfd has one BFD session and no BGP")

    def launch(self) -> None:
        s = self.spec
        interval = str(s.interval_ms)
        self.spawn(*self.programs, s.address, *s.bfd_sessions, "-r", interval, "-t", interval, "-m", str(s.mult))

    def bfd_up(self) -> int:
        """As its log says, which has a line for each change of state."""
        changes = re.findall(r"going (?:to )?(\w+)", self.processes[0].log.read_text())
        return int(changes[-1:] == ["UP"])


DUTS: dict[str, type[Dut]] = {kind.name: kind for kind in (Bgpbfd, Bird, Frr, OpenBgpd, GoBgp, ExaBgp, ExaBgp5, AioBfd)}


def dut(name: str, host: Host, spec: Spec) -> Dut:
    return DUTS[name](host, spec)


def missing(name: str) -> str | None:
    """Why it cannot be measured here."""
    if os.geteuid() != 0:
        return "needs root"
    if (os.cpu_count() or 1) < 2:
        return "needs two cores"
    return DUTS[name].missing() if name in DUTS else "unknown"
