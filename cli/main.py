"""The entry of ``bgpbfdctl``. ``pkill -HUP bgpbfd`` matches this name too, so SIGHUP is ignored before all else."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        from .commands import run

        return run(argv)
    except KeyboardInterrupt:
        return 130
