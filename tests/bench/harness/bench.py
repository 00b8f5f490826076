"""Two hosts on two cores: the daemon under test (DUT) on the one, what talks to it on the other."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.harness.duts import Dut, Spec, dut
from tests.bench.harness.figures import Pauses
from tests.interop.harness.lab import Host, Lab
from tests.interop.harness.process import HarnessError, tail

DUT_ADDRESS = "10.88.255.254"
DUT_AS = 65000
ROOT = Path(__file__).parents[3]
LINE_TIMEOUT_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


def peer_address(index: int) -> str:
    """10.88.0.1 and up."""
    return f"10.88.{(index + 1) >> 8}.{(index + 1) & 255}"


def ip_batch(host: Host, lines: str) -> None:
    """A thousand addresses or neighbors in one go."""
    subprocess.run(["ip", "-n", host.name, "-batch", "-"], input=lines, text=True, check=True)


class Bench:
    """Everything of one round of one subject; ``arranged`` makes it."""

    def __init__(self, lab: Lab, *, quick: bool, scratch: Path, size: int | None) -> None:
        self.lab = lab
        self.quick = quick
        self.size = size
        """Of a work that grows."""
        self.scratch = scratch
        """Kept over the rounds: what is dear to make."""
        self.dut: Dut | None = None
        self.dut_host: Host = lab.host("dut")
        self.peer_host: Host = lab.host("peer")
        self._helpers: list[Helper] = []
        self.dut_host.ip("link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", self.peer_host.name)
        self.dut_host.add_address(f"{DUT_ADDRESS}/16", "v0")
        self.peer_host.add_address("10.88.255.253/16", "v0")
        for host in (self.dut_host, self.peer_host):
            host.ip("link", "set", "v0", "up")

    def addresses(self, count: int) -> list[str]:
        """So many addresses for the peers' host."""
        found = [peer_address(index) for index in range(count)]
        lines = "".join(f"addr add {address}/16 dev v0\n" for address in found)
        ip_batch(self.peer_host, lines)
        return found

    def start(self, subject: str, spec: Spec) -> Dut:
        """Started, not waited for."""
        self.dut = dut(subject, self.dut_host, spec)
        self.dut.launch()
        return self.dut

    def begin(self, subject: str, spec: Spec) -> float:
        """The moment of its start: its configuration was written before."""
        self.dut = dut(subject, self.dut_host, spec)
        begun = time.monotonic()
        self.dut.launch()
        return begun

    def helper(self, module: str, *arguments: object) -> Helper:
        """One of tests.bench.raw on the other core, in the peers' host."""
        argv = ["taskset", "-c", "1", sys.executable, "-m", f"tests.bench.raw.{module}", *(str(a) for a in arguments)]
        started = Helper(self.peer_host.argv(*argv), self.peer_host.logs / f"{module}.log", self._check)
        self._helpers.append(started)
        return started

    def _check(self) -> None:
        if self.dut is not None:
            self.dut.check()

    def pauses(self) -> dict[str, Pauses]:
        """Of each of the DUT's loops; empty if it does not say."""
        return {} if self.dut is None else self.dut.pauses()

    # -- what the DUT costs ----------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        output = subprocess.run(
            ["ip", "netns", "pids", self.dut_host.name], capture_output=True, text=True, check=True
        ).stdout
        return [int(pid) for pid in output.split()]

    def cpu_s(self) -> float:
        """User and system time of all its processes, with that of children that have ended."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(each) for each in fields[11:15])
        return total / _TICKS

    def memory_mb(self) -> tuple[float, float]:
        """Resident now, and the sum of the greatest that each of its processes has been."""
        now = peak = 0.0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    now += int(line.split()[1]) / 1024
                elif line.startswith("VmHWM"):
                    peak += int(line.split()[1]) / 1024
        return now, peak

    def close(self) -> None:
        for each in self._helpers:
            each.stop()


class Helper:
    """A program that answers by lines of JSON, and ends with its standard input."""

    def __init__(self, argv: list[str], log: Path, check: Callable[[], None]) -> None:
        """``check`` raises when there is nothing more to wait for."""
        self._check = check
        self._name = next(word for word in argv if word.startswith("tests.bench.raw"))
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0
            )
        self._pending = b""

    def line(self, timeout_s: float = LINE_TIMEOUT_S) -> dict[str, Any]:
        """The next line. Raises HarnessError when there is none."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            assert self._process.stdout is not None
            if left <= 0:
                raise HarnessError(f"{self._name} says nothing for {timeout_s:g} s\n{tail(self._log)}")
            if not select.select([self._process.stdout], [], [], min(left, 1))[0]:
                self._check()
                continue
            data = self._process.stdout.read(1 << 16)
            if not data:
                raise HarnessError(f"{self._name} has ended\n{tail(self._log)}")
            self._pending += data
        text, _, self._pending = self._pending.partition(b"\n")
        return dict(json.loads(text))

    def ask(self) -> dict[str, Any]:
        """Send it a line, and read one."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return self.line()

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def arranged(logs: Path, scratch: Path, *, quick: bool, size: int | None = None) -> Iterator[Bench]:
    with Lab(logs) as lab:
        bench = Bench(lab, quick=quick, scratch=scratch, size=size)
        try:
            yield bench
        finally:
            bench.close()
