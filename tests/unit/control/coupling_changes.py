"""State changes of the one BFD session that the tests of the coupling are about."""

from __future__ import annotations

from bgpbfd.bfd.protocol import StateChange
from bgpbfd.core import MILLISECOND, SECOND

NOW = 100 * SECOND


def change(
    old: str,
    new: str,
    *,
    blame: str = "path-loss",
    remote_admin_down: bool = False,
    silence_ms: int = 150,
    at: int = NOW,
) -> StateChange:
    return StateChange(
        key="192.0.2.1",
        generation=1,
        old=old,
        new=new,
        diag=1,
        remote_diag=0,
        remote_admin_down=remote_admin_down,
        blame=blame,
        at=at,
        last_rx=at - silence_ms * MILLISECOND,
        previous_rx=at - (silence_ms + 45) * MILLISECOND,
        detection_time_us=150 * MILLISECOND,
    )
