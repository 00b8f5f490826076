"""Many sessions at once; a thousand for a minute are the work `bfd-1000` of `tests/bench/run`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .harness.lab import Host, Lab

pytestmark = pytest.mark.interop

PROGRAM = Path(__file__).parents[1] / "bench" / "bfd_many.py"
COUNT = 250
SECONDS = 5


def test_hundreds_of_sessions_come_up_without_a_storm_and_stay_up(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        near, far = lab.host("near"), lab.host("far")
        near.ip("link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", far.name)
        near.add_address("10.88.255.254/16", "v0")
        addresses = "".join(f"addr add 10.88.{n >> 8}.{n & 255}/16 dev v0\n" for n in range(1, COUNT + 1))
        subprocess.run(["ip", "-n", far.name, "-batch", "-"], input=addresses, text=True, check=True)
        for host in (near, far):
            host.ip("link", "set", "v0", "up")
        ends = [_end(near, 0, "near"), _end(far, 1, "far")]
        outputs = []
        try:
            for end in ends:
                output, errors = end.communicate(timeout=90)
                assert end.returncode == 0, errors
                outputs.append(output)
        finally:
            for end in ends:
                end.kill()
                end.communicate()
    reports = [json.loads(line) for output in outputs for line in output.splitlines()]
    starts, finishes = reports[::2], reports[1::2]
    assert [start["up"] for start in starts] == [COUNT, COUNT], outputs
    assert [finish["falls"] for finish in finishes] == [0, 0], outputs
    for finish in finishes:
        assert finish["packets_per_s"] >= COUNT * 2 * 20  # both ways, at 50 ms or a little less
        assert finish["descriptors"] <= COUNT + 20  # a socket a session, and the few that all share
        assert finish["memory_mb"] < 60
        assert finish["texts"] == []


def _end(host: Host, core: int, side: str) -> subprocess.Popen[str]:
    """Either end with its process and its worker on one core."""
    argv = ["taskset", "-c", str(core), sys.executable, str(PROGRAM), side, str(COUNT), "50", "3", str(SECONDS)]
    return subprocess.Popen(host.argv(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
