"""A learned route as everybody but the table sees it."""

from __future__ import annotations

import msgspec

from bgpbfd.core import Family, Instant, PeerId
from bgpbfd.rib.select import Path, PeerInfo
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.received import Attributes, read_out


class LearnedRoute(msgspec.Struct, gc=False):
    """A route as a peer announced it. ``valid`` False: kept and shown, but not used, for ``reason``.

    In the answer of ``Rib.best`` the reason is the word of the step that chose the route, see ``select.best_path``.

    ``in_force``, ``as_received``: the attributes as they are kept. ``why``: what the import policy said, None without
    one. ``stale``: kept while its peer restarts or sends all again. ``info``: of the session that the path came from. A
    valid route whose ``info`` is not ``eligible`` takes no part in the decision (RFC 8212).
    """

    peer: PeerId
    family: Family
    nlri: bytes
    in_force: Attributes
    received_at: Instant
    valid: bool
    reason: str | None
    path_id: int | None
    stale: bool
    why: str | None
    as_received: Attributes
    info: PeerInfo

    @property
    def attributes(self) -> PathAttributes:
        return read_out(self.in_force)

    @property
    def received(self) -> PathAttributes:
        return read_out(self.as_received)


def learned_route(path: Path, family: Family, nlri: bytes, reason: str | None, epoch: int) -> LearnedRoute:
    """``epoch``: the present one of the table that the path is in."""
    outcome = path.outcome
    return LearnedRoute(
        peer=path.peer,
        family=family,
        nlri=nlri,
        in_force=path.in_force,
        received_at=path.received_at,
        valid=outcome is None or outcome.reason is None,
        reason=reason,
        path_id=path.path_id,
        stale=path.epoch != epoch,
        why=None if outcome is None else outcome.why,
        as_received=path.as_received,
        info=path.info,
    )
