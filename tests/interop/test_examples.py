"""What examples/ promises: every script runs to its end and shows the prefixes in the router's own words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .harness.peers import PEERS
from .harness.process import wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.interop
@pytest.mark.parametrize("name", [kind.name for kind in PEERS])
def test_example_runs(name: str) -> None:
    before = namespaced()
    done = subprocess.run(
        [str(ROOT / "examples" / name / "run")],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    theirs = done.stdout.split("== ")[-2:]
    assert "203.0.113.53" in "".join(theirs)
    assert "2001:db8:53::53" in "".join(theirs)
    wait_until(lambda: namespaced() <= before, 5, f"nothing of it is left running: {namespaced() - before}")


def namespaced() -> set[str]:
    """The processes in another network namespace than ours, as PID and command line."""
    own = os.readlink("/proc/self/ns/net")
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/net") != own:
                found.add(f"{process.name} {(process / 'cmdline').read_bytes().decode(errors='replace')}")
        except OSError:  # it ended meanwhile
            continue
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/bgpbfd.toml")), ids=lambda path: path.parent.name)
def test_example_configuration_is_accepted(path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "bgpbfd"), "check", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
