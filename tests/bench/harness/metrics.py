"""What bgpbfd says of its loops' pauses at ``GET /metrics``."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

from tests.bench.harness.figures import Pauses

TIMEOUT_S = 30.0
_LINE = re.compile(
    r"^bgpbfd_loop_lag_(?P<what>seconds_bucket|worst_seconds)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE
)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def scrape(path: Path) -> str:
    """What the daemon answers on its Unix socket."""
    connection = _Connection(path)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def pauses(text: str) -> dict[str, Pauses]:
    """By loop: ``main``, ``bfd``."""
    worst: dict[str, float] = {}
    buckets: dict[str, list[tuple[float, int]]] = {}
    for found in _LINE.finditer(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', found["labels"]))
        value = float(found["value"])
        if found["what"] == "worst_seconds":
            worst[labels["process"]] = value * 1000
        else:
            buckets.setdefault(labels["process"], []).append((float(labels["le"]) * 1000, int(value)))
    return {loop: Pauses(worst[loop], tuple(sorted(buckets[loop]))) for loop in worst}
