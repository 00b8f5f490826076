"""Many sessions at once; a thousand for a minute are `tests/bench/bfd_scale.sh`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

SCRIPT = Path(__file__).parents[1] / "bench" / "bfd_scale.sh"
COUNT = 250


def test_hundreds_of_sessions_come_up_without_a_storm_and_stay_up() -> None:
    done = subprocess.run(
        [str(SCRIPT), str(COUNT), "50", "3", "5"], capture_output=True, text=True, timeout=90, check=False
    )
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    starts, ends = reports[::2], reports[1::2]
    assert [start["up"] for start in starts] == [COUNT, COUNT], done.stdout + done.stderr
    assert [end["falls"] for end in ends] == [0, 0], done.stdout
    for end in ends:
        assert end["packets_per_s"] >= COUNT * 2 * 20  # both ways, at 50 ms or a little less
        assert end["descriptors"] <= COUNT + 20  # a socket a session, and the few that all share
        assert end["memory_mb"] < 60
        assert end["texts"] == []
