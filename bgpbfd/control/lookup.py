"""Whom an operator means: neighbors and networks by address in any spelling, or by description."""

from __future__ import annotations

import contextlib

from bgpbfd.config.model import PeerConfig
from bgpbfd.config.names import peer_id
from bgpbfd.control.engine import Engine
from bgpbfd.control.neighbor import Neighbor
from bgpbfd.control.snapshot import Refused


def find_network(engine: Engine, peer: str) -> PeerConfig | None:
    """The configured network of that name."""
    entries = (entry for entry in engine.config.peers if entry.dynamic)
    return next((entry for entry in entries if peer in {entry.id, entry.description}), None)


def find_neighbor(engine: Engine, peer: str) -> Neighbor:
    """Raises Refused where none, or more than one, is of that name."""
    neighbors = engine.neighbors
    found = neighbors.get(peer)
    named = [n for n in neighbors.values() if n.config.description == peer]
    if found is None and len(named) == 1:
        found = named[0]
    if found is None and not named:
        with contextlib.suppress(ValueError):
            found = neighbors.get(peer_id(peer))
    if found is not None:
        return found
    if named:
        which = ", ".join(n.id for n in named)
        raise Refused("peer", f"{peer!r} is the description of several neighbors: say which of {which}")
    if (network := find_network(engine, peer)) is not None:
        of_it = ", ".join(n.id for n in neighbors.values() if n.network == network.id) or "none just now"
        raise Refused("peer", f"{network.id} is a network; name one of its neighbors: {of_it}")
    raise Refused("peer", f"no neighbor {peer!r}; known: {', '.join(neighbors) or 'none'}")
