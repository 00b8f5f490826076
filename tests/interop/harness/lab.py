"""Several hosts in one: network namespaces joined by veth pairs, with dual-stack addresses and cables that can be cut.

Everything is named after the test process (``bbt<pid>x…``), and what a killed run has left is removed by the next.
A cut drops packets as they leave their sender (nft's egress hook), so they are in no capture, their sender sees no
error, and the carrier stays; ``Link.down`` takes the carrier away as well.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from .process import HarnessError, Process, run, tail

_TAG = "bbt"
_counter = itertools.count(1)


class Host:
    """One namespace: ``run`` commands and ``spawn`` daemons in it."""

    def __init__(self, label: str, logs: Path, scratch: Path) -> None:
        self.label = label
        self.name = f"{_TAG}{os.getpid()}x{next(_counter)}"
        self.logs = logs / label
        self.logs.mkdir(parents=True, exist_ok=True)
        self.scratch = scratch / self.name  # short: Unix socket paths end at 107 octets
        self.scratch.mkdir()
        self.scratch.chmod(0o755)
        self.processes: list[Process] = []
        run(["ip", "netns", "add", self.name])
        for key in ("all", "default"):
            self.run("sysctl", "-qw", f"net.ipv6.conf.{key}.accept_dad=0", f"net.ipv6.conf.{key}.accept_ra=0")
        self.ip("link", "set", "lo", "up")

    def argv(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, timeout: float = 10, check: bool = True, stdin: str | None = None) -> str:
        return run(self.argv(*argv), timeout, check, stdin)

    def ip(self, *argv: str) -> str:
        return run(["ip", "-n", self.name, *argv])

    def spawn(self, argv: Sequence[str], log: str, env: dict[str, str] | None = None) -> Process:
        """The process's pid is the program's own: ``ip netns exec`` replaces itself by it."""
        process = Process(self.argv(*argv), self.logs / log, env, cwd=self.scratch)
        self.processes.append(process)
        return process

    def add_address(self, address: str, interface: str = "lo") -> None:
        family = ["-6"] if ":" in address else []
        nodad = ["nodad"] if ":" in address else []
        run(["ip", "-n", self.name, *family, "addr", "add", address, "dev", interface, *nodad])

    def log_files(self) -> list[Path]:
        return sorted(path for path in self.logs.iterdir() if path.suffix == ".log")

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        _delete_namespace(self.name)
        shutil.rmtree(self.scratch, ignore_errors=True)
        _remove_path_spaces(self.name)


class Link:
    """A cable between two hosts: 10.77.N.1/24 and fd77:N::1/64 at ``a``, .2 and ::2 at ``b``."""

    def __init__(self, a: Host, b: Host, number: int) -> None:
        self.a, self.b, self.number = a, b, number
        self.interface = f"eth{number}"  # the same name at both ends
        self.a4, self.b4 = f"10.77.{number}.1", f"10.77.{number}.2"
        self.a6, self.b6 = f"fd77:{number}::1", f"fd77:{number}::2"
        a.ip("link", "add", self.interface, "type", "veth", "peer", "name", self.interface, "netns", b.name)
        for host, v4, v6 in ((a, self.a4, self.a6), (b, self.b4, self.b6)):
            host.add_address(f"{v4}/24", self.interface)
            host.add_address(f"{v6}/64", self.interface)
            host.ip("link", "set", self.interface, "up")

    def down(self) -> None:
        """Pull the plug: ``b``'s end goes down, and with it the carrier at ``a``."""
        self.b.ip("link", "set", self.interface, "down")

    def up(self) -> None:
        """Plug it in again; the kernel forgot ``b``'s IPv6 address when the link went down."""
        self.b.ip("link", "set", self.interface, "up")
        if f"{self.b6}/" not in self.b.ip("-6", "addr", "show", "dev", self.interface):
            self.b.add_address(f"{self.b6}/64", self.interface)

    def cut(self, what: str = "", senders: Sequence[Host] | None = None) -> None:
        """Drop what ``senders`` (default both) send that matches the nft expression ``what`` (default all)."""
        for host in senders or (self.a, self.b):
            host.run("nft", "-f", "-", stdin=_cut_rules(self.interface, self.number, what))

    def cut_bfd(self, senders: Sequence[Host] | None = None) -> None:
        """Drop single-hop BFD control packets and nothing else."""
        self.cut("udp dport 3784", senders)

    def heal(self) -> None:
        for host in (self.a, self.b):
            host.run("nft", "-f", "-", stdin=_cut_rules(self.interface, self.number, None))


def _cut_rules(interface: str, number: int, what: str | None) -> str:
    table = f"netdev cut{number}"
    forget = f"table {table} {{\n}}\ndelete table {table}\n"
    if what is None:
        return forget
    return (
        f"{forget}table {table} {{\n chain egress {{\n"
        f"  type filter hook egress device {interface} priority 0; policy accept;\n  {what} drop\n }}\n}}\n"
    )


class Lab:
    """A context manager that owns hosts and links and leaves nothing behind.

    ``logs`` keeps every daemon's output after the end; ``scratch`` (configurations, sockets) is deleted.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.hosts: list[Host] = []
        self.links: list[Link] = []
        self._scratch = Path(tempfile.mkdtemp(prefix=f"{_TAG}{os.getpid()}-", dir="/tmp"))
        self._scratch.chmod(0o755)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def host(self, label: str) -> Host:
        host = Host(label, self.logs, self._scratch)
        self.hosts.append(host)
        return host

    def link(self, a: Host, b: Host) -> Link:
        link = Link(a, b, len(self.links) + 1)
        self.links.append(link)
        return link

    def tails(self) -> str:
        return "\n".join(tail(path) for host in self.hosts for path in host.log_files())

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self.hosts.clear()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _delete_namespace(name: str) -> None:
    """Kill what is still in it (only a test's own daemons can be) and remove it."""
    deadline = time.monotonic() + 5
    while pids := run(["ip", "netns", "pids", name], check=False).split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if time.monotonic() > deadline:
            raise HarnessError(f"{name}: processes {pids} do not end")
        time.sleep(0.02)
    run(["ip", "netns", "del", name], check=False)


def _remove_path_spaces(name: str) -> None:
    """FRR's, which cannot be in the scratch directory."""
    for parent in ("/run/frr", "/etc/frr"):
        shutil.rmtree(Path(parent, name), ignore_errors=True)


def remove_leftovers() -> None:
    """Remove the namespaces and scratch directories of test processes that are no more."""
    for line in run(["ip", "netns", "list"]).splitlines():
        found = re.match(rf"{_TAG}(\d+)x\d+\b", line)
        if found and not _pid_exists(int(found[1])):
            _delete_namespace(found[0])
    strays = [*Path("/tmp").glob(f"{_TAG}*-*"), *Path("/run/frr").glob(f"{_TAG}*"), *Path("/etc/frr").glob(f"{_TAG}*")]
    for path in strays:
        found = re.match(rf"{_TAG}(\d+)[-x]", path.name)
        if found and not _pid_exists(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _pid_exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
