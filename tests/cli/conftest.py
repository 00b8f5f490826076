"""The daemon that the command talks to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Under a name of its own: there is a conftest in other folders too.
sys.path.insert(0, str(Path(__file__).parent))

from cli_daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "api.sock")
    daemon.start()
    yield daemon
    daemon.end()
