"""Packets on a host's interface, from tcpdump, decoded by tshark."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .lab import Host
from .process import HarnessError, run, wait_until


@dataclass(slots=True, frozen=True)
class Packet:
    """One frame: its time (s, wall clock) and the tshark fields asked for; a field occurring twice has two texts."""

    time: float
    fields: dict[str, tuple[str, ...]]

    def first(self, field: str) -> str | None:
        return next(iter(self.fields[field]), None)


class Capture:
    """Runs from its making until ``stop``. Use as a context manager."""

    def __init__(self, host: Host, interface: str, what: str = "tcp port 179 or udp port 3784") -> None:
        self._host = host
        self.path: Path = host.logs / f"{interface}-{len(host.processes)}.pcap"
        argv = ["tcpdump", "-i", interface, "-n", "-s", "0", "-U", "--immediate-mode", "-Z", "root"]
        log = f"tcpdump-{len(host.processes)}.log"
        self._process = host.spawn([*argv, "-w", str(self.path), what], log)
        wait_until(
            lambda: "listening on" in (host.logs / log).read_text(), 5, "tcpdump listens", [host.logs / log], 0.02
        )

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process.alive:
            self._process.stop(signal.SIGINT)

    def packets(self, display_filter: str, fields: Sequence[str]) -> list[Packet]:
        """Those that match a tshark display filter; also while it runs, as far as it has been written."""
        argv = ["tshark", "-n", "-r", str(self.path), "-Y", display_filter, "-T", "fields"]
        argv += ["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|", "-e", "frame.time_epoch"]
        for field in fields:
            argv += ["-e", field]
        try:
            output = run(argv, timeout=30)
        except HarnessError:
            if not self._process.alive:
                raise
            # A packet that is half written ends the reading with an error: what was read before counts.
            done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
            output = done.stdout
        found = []
        for line in output.splitlines():
            time, *values = line.split("\t")
            texts = (tuple(value.split("|")) if value else () for value in values)
            found.append(Packet(float(time), dict(zip(fields, texts, strict=True))))
        return found

    def bfd_from(self, address: str) -> list[Packet]:
        """BFD control packets that ``address`` sent, with ``bfd.sta`` and ``bfd.diag``."""
        return self.packets(f"bfd && {_source(address)}", ["bfd.sta", "bfd.diag"])

    def notifications_from(self, address: str) -> list[Packet]:
        """With ``bgp.notify.major_error`` and ``bgp.notify.minor_error_cease`` (other codes: None)."""
        return self.packets(
            f"bgp.type == 3 && {_source(address)}", ["bgp.notify.major_error", "bgp.notify.minor_error_cease"]
        )


def _source(address: str) -> str:
    return f"{'ipv6' if ':' in address else 'ip'}.src == {address}"
