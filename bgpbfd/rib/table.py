"""What peers taught us: an Adj-RIB-In for each, and the best of them (RFC 4271 §3.2, §9.1).

Memory: a route is one dictionary entry, NLRI octets → a ``Path`` that all prefixes of its UPDATE share. There is no
Loc-RIB beside it: the best path of a prefix is computed when asked for, from the tables of the peers that have it,
which for most prefixes of an anycast host is one. Its cost so grows with the number of peers that announce routes of
that family to us.

Each table is split by the last octet of the NLRI into 256 dictionaries, so that growing one of them never rehashes more
than a small part of a full table at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bgpbfd.core import Family, Instant, PeerId
from bgpbfd.rib.select import Path, PeerInfo, best_path
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update import Update

__all__ = ["LearnedRoute", "Path", "PeerInfo", "Rib", "unusable"]

_SHARDS = 256
_UNICAST = 1  # SAFI
_IPV6_LOOPBACK = bytes(15) + b"\x01"
_UNSPECIFIED_IPV6 = bytes(16)


@dataclass(slots=True, frozen=True)
class LearnedRoute:
    """A route as a peer announced it. ``valid`` False: kept and shown, but not used, for ``reason``.

    In the answer of ``Rib.best`` the reason is the word of the step that chose the route, see ``select.best_path``.
    """

    peer: PeerId
    family: Family
    nlri: bytes
    attributes: PathAttributes
    received_at: Instant
    valid: bool
    reason: str | None


class _Table:
    """The routes of one family from one peer."""

    __slots__ = ("count", "shards")

    def __init__(self) -> None:
        self.count = 0
        self.shards: list[dict[bytes, Path]] = [{} for _ in range(_SHARDS)]


class _Peer:
    __slots__ = ("info", "tables")

    def __init__(self, info: PeerInfo) -> None:
        self.info = info
        self.tables: dict[Family, _Table] = {}


class Rib:
    """All that was learned, and the decision between peers.

    ``ignored`` counts UPDATEs for peers without a session: a fault of the caller or an event that came late.
    """

    def __init__(self) -> None:
        self._peers: dict[PeerId, _Peer] = {}
        self.ignored = 0

    def session_up(self, peer: PeerId, info: PeerInfo) -> None:
        """A session reached Established: its table starts empty. Flush what an older session left first."""
        self._peers[peer] = _Peer(info)

    def apply(self, peer: PeerId, update: Update, now: Instant, *, report: bool = True) -> list[tuple[Family, bytes]]:
        """Take an UPDATE in; return the (family, NLRI) whose best path is now another one, or none.

        Without ``report`` the answer is empty, and the comparison of best paths, which costs more than the rest, is
        saved: for a caller that sends no learned routes on.
        """
        state = self._peers.get(peer)
        if state is None:
            self.ignored += 1
            return []
        changed: list[tuple[Family, bytes]] = []
        for unreach in update.withdrawn:
            table = state.tables.get(unreach.family)
            if table is None:
                continue  # never announced: RFC 4271 §4.3 makes no error of it
            family, nlri = unreach.family, unreach.nlri
            if update.announced:
                # RFC 4271 §4.3: a prefix in both fields is treated as if it were not withdrawn.
                announced = {item for reach in update.announced if reach.family == family for item in reach.nlri}
                nlri = [item for item in nlri if item not in announced]
            self._withdraw(peer, table, family, nlri, changed if report else None)
        for reach in update.announced:
            info = state.info
            reason = unusable(reach.attributes, info, reach.family)
            path = Path(peer, info, reach.attributes, now, reason)
            table = state.tables.get(reach.family)
            if table is None:
                table = state.tables[reach.family] = _Table()
            self._announce(peer, table, reach.family, reach.nlri, path, changed if report else None)
        return changed

    def flush(self, peer: PeerId, *, report: bool = True) -> list[tuple[Family, bytes]]:
        """Forget the peer's session and all that it taught; return the (family, NLRI) whose best path changed.

        ``report`` as in ``apply``.
        """
        state = self._peers.pop(peer, None)
        if state is None or not report:
            return []
        changed: list[tuple[Family, bytes]] = []
        for family, table in state.tables.items():
            others = self._others(peer, family)
            for shard in table.shards:
                for nlri, path in shard.items():
                    if path.reason is None and (not others or _matters(path, None, _paths(others, nlri))):
                        changed.append((family, nlri))
        return changed

    def count(self, peer: PeerId, family: Family | None = None) -> int:
        """How many routes ``peer`` has announced, unusable ones included."""
        state = self._peers.get(peer)
        if state is None:
            return 0
        return sum(table.count for key, table in state.tables.items() if family is None or key == family)

    def total(self) -> int:
        return sum(table.count for state in self._peers.values() for table in state.tables.values())

    def learned(self, peer: PeerId | None = None, safi: int | None = None) -> Iterator[LearnedRoute]:
        """The routes of one peer or of all, of one SAFI or of all. The tables must not be changed while it runs."""
        for name, state in self._peers.items():
            if peer is not None and name != peer:
                continue
            for family, table in state.tables.items():
                if safi is not None and family.safi != safi:
                    continue
                for shard in table.shards:
                    for nlri, path in shard.items():
                        yield _route(path, family, nlri, path.reason)

    def paths(self, family: Family, nlri: bytes) -> list[LearnedRoute]:
        """Every peer's route for one prefix."""
        return [_route(path, family, nlri, path.reason) for path in self._candidates(family, nlri)]

    def best(self, family: Family, nlri: bytes) -> LearnedRoute | None:
        """The route that RFC 4271 §9.1.2 prefers; its ``reason`` is the word of the step that decided."""
        chosen = best_path(self._candidates(family, nlri))
        return None if chosen is None else _route(chosen[0], family, nlri, chosen[1])

    def info(self, peer: PeerId) -> PeerInfo | None:
        state = self._peers.get(peer)
        return None if state is None else state.info

    def prefixes(self, family: Family) -> Iterator[bytes]:
        """Each NLRI that some peer has announced, once. The tables must not be changed while it runs."""
        tables = [state.tables[family] for state in self._peers.values() if family in state.tables]
        for number in range(_SHARDS):
            shards = [table.shards[number] for table in tables if table.shards[number]]
            if len(shards) == 1:
                yield from shards[0]
            elif shards:
                yield from set().union(*shards)

    def _announce(
        self,
        peer: PeerId,
        table: _Table,
        family: Family,
        nlri: list[bytes],
        path: Path,
        changed: list[tuple[Family, bytes]] | None,
    ) -> None:
        shards, attributes, added = table.shards, path.attributes, 0
        others = self._others(peer, family) if changed is not None else []
        for item in nlri:
            shard = shards[item[-1]]
            old = shard.get(item)
            if old is None:
                added += 1
            elif old.attributes is attributes or old.attributes == attributes:
                continue  # nothing new: the route keeps its age
            shard[item] = path
            if changed is None:
                continue
            if _matters(old, path, _paths(others, item) if others else []):
                changed.append((family, item))
        table.count += added

    def _withdraw(
        self,
        peer: PeerId,
        table: _Table,
        family: Family,
        nlri: list[bytes],
        changed: list[tuple[Family, bytes]] | None,
    ) -> None:
        shards = table.shards
        others = self._others(peer, family) if changed is not None else []
        for item in nlri:
            old = shards[item[-1]].pop(item, None)
            if old is None:
                continue  # a withdrawal of what was never announced is no error
            table.count -= 1
            if changed is not None and old.reason is None and _matters(old, None, _paths(others, item)):
                changed.append((family, item))

    def _others(self, peer: PeerId, family: Family) -> list[_Table]:
        return [
            table
            for name, state in self._peers.items()
            if name != peer and (table := state.tables.get(family)) is not None and table.count
        ]

    def _candidates(self, family: Family, nlri: bytes) -> list[Path]:
        tables = [table for state in self._peers.values() if (table := state.tables.get(family)) is not None]
        return _paths(tables, nlri)


def _paths(tables: list[_Table], nlri: bytes) -> list[Path]:
    number = nlri[-1]
    return [path for table in tables if (path := table.shards[number].get(nlri)) is not None]


def _matters(old: Path | None, new: Path | None, rivals: list[Path]) -> bool:
    """Whether the best path is another one with ``new`` in the place of ``old``.

    Both decisions are made in full: as MED compares only within one AS, a path that is never the best can still decide
    between two others (RFC 4271 §9.1.2.2 c).
    """
    if not rivals:
        return (old is not None and old.reason is None) or (new is not None and new.reason is None)
    before = best_path(rivals if old is None else [old, *rivals])
    after = best_path(rivals if new is None else [new, *rivals])
    return (None if before is None else before[0]) is not (None if after is None else after[0])


def _route(path: Path, family: Family, nlri: bytes, reason: str | None) -> LearnedRoute:
    return LearnedRoute(path.peer, family, nlri, path.attributes, path.received_at, path.reason is None, reason)


def unusable(attributes: PathAttributes, info: PeerInfo, family: Family) -> str | None:
    """Why a route from that peer may not be used, or None.

    Loops (RFC 4271 §9.1.2, RFC 4456 §8) and next hops that cannot be (RFC 4271 §5.1.3, §6.3).
    """
    for _, asns in attributes.as_path:
        if info.local_asn in asns:
            return f"AS loop: our AS {info.local_asn} is in the AS_PATH"
    own_id = info.local_router_id.to_bytes(4)
    if attributes.originator_id == own_id:
        return "originator loop: ORIGINATOR_ID is our router id"
    if own_id in attributes.cluster_list:
        return "cluster loop: our cluster id is in the CLUSTER_LIST"
    if family.safi != _UNICAST:
        return None  # flow specifications carry no next hop (RFC 8955 §4)
    return _unusable_next_hop(attributes.next_hop, info)


def _unusable_next_hop(next_hop: bytes | None, info: PeerInfo) -> str | None:
    if not next_hop:
        return "next hop: none"
    if next_hop in info.local_addresses or next_hop[:16] in info.local_addresses:
        return "next hop: our own address"
    if len(next_hop) == 4:
        first = next_hop[0]
        if first == 0:
            return "next hop: in 0.0.0.0/8"
        if first == 127 and not (len(info.address) == 4 and info.address[0] == 127):
            return "next hop: loopback address"
        if first >= 224:
            return "next hop: multicast or reserved address"
        return None
    first_half = next_hop[:16]
    if first_half[0] == 0xFF:
        return "next hop: multicast address"
    if first_half == _UNSPECIFIED_IPV6 and len(next_hop) == 16:
        return "next hop: unspecified address"  # with a link-local half behind it, it is BIRD's way to say "only that"
    if first_half == _IPV6_LOOPBACK and info.address != _IPV6_LOOPBACK:
        return "next hop: loopback address"
    return None
