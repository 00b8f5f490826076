"""What peers taught us: an Adj-RIB-In for each, and the best of them (RFC 4271 §3.2, §9.1).

Memory: a route is one dictionary entry, NLRI octets → a ``Path`` that all prefixes of its UPDATE share. There is no
Loc-RIB beside it: the best path of a prefix is computed when asked for, from the tables of the peers that have it,
which for most prefixes of an anycast host is one. Its cost so grows with the number of peers that announce routes of
that family to us.

Each table is split by the last octet of the NLRI into 256 dictionaries, so that growing one of them never rehashes more
than a small part of a full table at once.

What a peer sent is kept whatever our rules and policy say of it (``importing``), so that a changed policy is applied to
what is there, without asking the peer. RFC 4724 §4.2, RFC 7313 §4: a restarting or refreshing peer's paths stay in use
as stale ones (``adj_in``). RFC 7911: several paths a prefix. RFC 8212 §2.1: see ``PeerInfo.eligible``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import TypeAlias

from bgpbfd.core import Family, Instant, PeerId
from bgpbfd.rib.adj_in import SHARDS, AnyTable, PathsTable, Table
from bgpbfd.rib.compare import alike, differ, judged, matters, only_withdrawn, paths_at, same
from bgpbfd.rib.importing import Importer, Judgement, identity, kept, unusable
from bgpbfd.rib.learned import LearnedRoute, learned_route
from bgpbfd.rib.select import Path, PathWithId, PeerInfo, best_path, in_order, neighbor_asn
from bgpbfd.wire.update import Reach, Update

__all__ = ["LearnedRoute", "Path", "PeerInfo", "Rib", "unusable"]

Changed: TypeAlias = list[tuple[Family, bytes]]
Made: TypeAlias = list[dict[tuple[object, ...], tuple[Path, bool]]]  # in parts: a large one would be rehashed

PATHS_MAX = 1000  # of one prefix from one peer: each change of one goes through them all
_FREED = 16  # parts of a pass's memory that are freed in one turn
SLICE = 400  # routes gone through in one turn, about
_PASSED = 8  # routes that are only passed by cost as much as one


class _Peer:
    """``live``: it has a session; without, its tables hold what it left when it went to restart."""

    __slots__ = ("add_path", "importer", "info", "live", "tables")

    def __init__(self, info: PeerInfo, add_path: frozenset[Family]) -> None:
        self.info = info
        self.importer = Importer(info)
        self.add_path = add_path
        self.live = True
        self.tables: dict[Family, AnyTable] = {}

    def table(self, family: Family, path_ids: list[int] | None) -> AnyTable:
        """The family's table, in the form that its paths need."""
        table = self.tables.get(family)
        if table is None:
            many = path_ids is not None or family in self.add_path
            table = self.tables[family] = PathsTable() if many else Table()
        elif path_ids is not None and isinstance(table, Table):
            table = self.tables[family] = PathsTable.of(table)
        return table


class Rib:
    """All that was learned, and the decision between peers.

    ``ignored`` counts UPDATEs for peers without a session: a fault of the caller or an event that came late.
    ``refused`` counts paths that were not taken in because their prefix has ``PATHS_MAX`` from the same peer already.

    What returns (family, NLRI) names those whose best path is now another one, or none; with ``report`` False the
    answer is empty, and the comparison of best paths, which costs more than the rest, is saved: for a caller that sends
    no learned routes on. With ``every`` those are named where any path changed: for one that sends them all.

    What goes through a whole table works in slices: iterators, each step of which gives what it changed, and which have
    to be followed to their end. Anything may happen between two steps. What a session's end takes away is gone at once.
    """

    def __init__(self) -> None:
        self._peers: dict[PeerId, _Peer] = {}
        self._drops = 0
        self.ignored = 0
        self.refused = 0

    # -- sessions ----------------------------------------------------------------------------------------

    def session_up(
        self,
        peer: PeerId,
        info: PeerInfo,
        *,
        keep: frozenset[Family] = frozenset(),
        add_path: frozenset[Family] = frozenset(),
        report: bool = True,
        every: bool = False,
    ) -> Iterator[Changed]:
        """A session reached Established. ``add_path``: families received with path identifiers.

        What an older session left stays, as stale, in the families of ``keep`` (RFC 4724 §4.2); the rest of it goes.
        """
        slices: Iterator[Changed] = iter(())
        old = self._peers.get(peer)
        if old is not None and old.info == info:
            info = old.info  # the same object: paths are compared by it
        state = _Peer(info, add_path)
        if old is not None:
            slices = self._retain(peer, old, keep, report, every)
            state.tables = old.tables
            for family, table in state.tables.items():
                if family in add_path and isinstance(table, Table):
                    state.tables[family] = PathsTable.of(table)
        self._peers[peer] = state
        return slices

    def retain(
        self, peer: PeerId, families: frozenset[Family], *, report: bool = True, every: bool = False
    ) -> Iterator[Changed]:
        """The session is lost, and the peer may be restarting (RFC 4724 §4.2): keep ``families`` as stale.

        Of these, what has been stale since an earlier restart goes; so do all other families.
        """
        state = self._peers.get(peer)
        return iter(()) if state is None else self._retain(peer, state, families, report, every)

    def flush(self, peer: PeerId, *, report: bool = True, every: bool = False) -> Iterator[Changed]:
        """Forget the peer, its session and all that it taught."""
        state = self._peers.pop(peer, None)
        return iter(()) if state is None else self._drop(list(state.tables.items()), report, every)

    def begin_refresh(self, peer: PeerId, family: Family) -> None:
        """RFC 7313 §4, BoRR: all that is there is stale until it is announced again, or ``purge_stale``."""
        state = self._peers.get(peer)
        if state is not None and family in state.tables:
            state.tables[family].age()

    def purge_stale(
        self, peer: PeerId, family: Family, *, restart: bool = False, report: bool = True, every: bool = False
    ) -> Iterator[Changed]:
        """What has not been announced again goes: at EoRR, at a restarted peer's End-of-RIB, at the time limits.

        ``restart``: what was there before the peer restarted, and not what a refresh alone (RFC 7313) has made stale.
        """
        state = self._peers.get(peer)
        table = None if state is None else state.tables.get(family)
        if table is None or not table.stale:
            return iter(())
        return self._expire(peer, family, table, table.restarted if restart else table.epoch, report, every)

    def change_info(self, peer: PeerId, info: PeerInfo) -> None:
        """The peer's configuration changed: what it announces from now on is judged by ``info``.

        What is there keeps its judgement until ``reevaluate`` has come to it.
        """
        state = self._peers.get(peer)
        if state is not None and state.info != info:
            state.info = info
            state.importer = Importer(info)

    def reevaluate(self, peer: PeerId, *, every: bool = False) -> Iterator[Changed]:
        """Judge what is there by the ``info`` that ``change_info`` or ``session_up`` gave, in slices of about ``SLICE``
        routes. After another one of these, and after a flush, the rest is for a new call.
        """
        state = self._peers.get(peer)
        if state is None:
            return
        importer = state.importer
        made: Made = [{} for _ in range(SHARDS)]
        changed: Changed = []
        done = 0
        for family in list(state.tables):
            table = state.tables.get(family)
            for number in range(SHARDS if table is not None else 0):
                for nlri in list(table.keys(number)) if table is not None else ():
                    if done >= SLICE:
                        yield changed
                        changed, done = [], 0
                        if self._peers.get(peer) is not state or state.importer is not importer:
                            return
                    if table is None or state.tables.get(family) is not table:
                        break
                    done += self._judge_again(peer, table, family, nlri, importer, made, changed, every)
        yield changed
        while made:  # a full table's old paths: freeing them takes its time, too
            del made[-_FREED:]
            yield []

    # -- UPDATEs -----------------------------------------------------------------------------------------

    def apply(self, peer: PeerId, update: Update, now: Instant, *, report: bool = True) -> Changed:
        """Take an UPDATE in. One for a peer without a session is counted as ``ignored``."""
        state = self._peers.get(peer)
        if state is None or not state.live:
            self.ignored += 1
            return []
        changed: Changed | None = [] if report else None
        for unreach in update.withdrawn:
            if unreach.family not in state.tables:
                continue  # never announced: RFC 4271 §4.3 makes no error of it
            table = state.table(unreach.family, unreach.path_ids)
            nlri, path_ids = unreach.nlri, unreach.path_ids
            if update.announced:
                nlri, path_ids = only_withdrawn(unreach, update)
            if isinstance(table, Table):
                self._withdraw(peer, table, unreach.family, nlri, changed)
            else:
                self._withdraw_paths(table, unreach.family, nlri, path_ids, changed)
        importer = state.importer
        for reach in update.announced:
            known = state.tables.get(reach.family)
            table = state.table(reach.family, reach.path_ids) if known is None or reach.path_ids is not None else known
            if isinstance(table, PathsTable):
                self._announce_paths(peer, state, table, reach, now, changed)
            elif importer.by_prefix:
                for judgement, nlri in importer.groups(reach.received, reach.family, reach.nlri):
                    self._announce(peer, state.info, table, reach, nlri, judgement, now, changed)
            else:
                judgement = importer.judge(reach.received, reach.family, b"")
                self._announce(peer, state.info, table, reach, reach.nlri, judgement, now, changed)
        return changed or []

    # -- what is there -----------------------------------------------------------------------------------

    def count(self, peer: PeerId, family: Family | None = None) -> int:
        """How many paths ``peer`` has announced, unusable and stale ones included."""
        return sum(table.count for table in self._tables_of(peer, family))

    def stale_count(self, peer: PeerId, family: Family | None = None) -> int:
        """How many of them are stale."""
        return sum(table.stale for table in self._tables_of(peer, family))

    def total(self, family: Family | None = None) -> int:
        return sum(self.count(peer, family) for peer in self._peers)

    def learned(self, peer: PeerId | None = None, safi: int | None = None) -> Iterator[LearnedRoute]:
        """The routes of one peer or of all, of one SAFI or of all. The tables must not be changed while it runs."""
        for name, state in self._peers.items():
            if peer is not None and name != peer:
                continue
            for family, table in state.tables.items():
                if safi is not None and family.safi != safi:
                    continue
                epoch = table.epoch
                for nlri, path in table.items():
                    yield learned_route(path, family, nlri, path.reason, epoch)

    def paths(self, family: Family, nlri: bytes) -> list[LearnedRoute]:
        """Every peer's routes for one prefix."""
        return [self._route(path, family, nlri, path.reason) for path in self._candidates(family, nlri)]

    def usable_paths(self, family: Family, nlri: bytes) -> list[LearnedRoute]:
        """Those that take part in the decision, the best first, each the best of itself and those after it."""
        return [self._route(path, family, nlri, path.reason) for path in in_order(self._candidates(family, nlri))]

    def best(self, family: Family, nlri: bytes) -> LearnedRoute | None:
        """The route that RFC 4271 §9.1.2 prefers; its ``reason`` is the word of the step that decided."""
        chosen = best_path(self._candidates(family, nlri))
        return None if chosen is None else self._route(chosen[0], family, nlri, chosen[1])

    def info(self, peer: PeerId) -> PeerInfo | None:
        """What was last said of the peer; it may have no session any more (``retain``)."""
        state = self._peers.get(peer)
        return None if state is None else state.info

    def prefixes(self, family: Family) -> Iterator[bytes]:
        """Each NLRI that some peer has announced, once. The tables must not be changed while it runs."""
        tables = self._tables(family)
        for number in range(SHARDS):
            shards = [table.shards[number] for table in tables if table.shards[number]]
            if len(shards) == 1:
                yield from shards[0]
            elif shards:
                yield from set().union(*shards)

    def neighbors(self, family: Family) -> Iterator[tuple[bytes, int]]:
        """Each NLRI that has a best route, with the AS that this one came by. As ``prefixes`` otherwise."""
        tables = self._tables(family)
        for nlri in self.prefixes(family):
            chosen = best_path(paths_at(tables, nlri))
            if chosen is not None:
                yield nlri, neighbor_asn(chosen[0].received, chosen[0].info)

    def version(self, family: Family) -> tuple[int, ...]:
        """Another value after every change of what was learned in ``family``."""
        return (self._drops, *(table.changes for table in self._tables(family)))

    # -- taking in ---------------------------------------------------------------------------------------

    def _announce(
        self,
        peer: PeerId,
        info: PeerInfo,
        table: Table,
        reach: Reach,
        nlri: list[bytes],
        judgement: Judgement,
        now: Instant,
        changed: Changed | None,
    ) -> None:
        shards, epoch, family, received = table.shards, table.epoch, reach.family, reach.received
        in_force, outcome = kept(judgement, received, info, family, nlri[0] if nlri else b""), judgement[1]
        path = Path(peer, info, in_force, now, outcome, epoch)
        table.changes += 1
        if changed is None:
            # Nearly all of a first table: prefixes that were not there, and nobody who asks what that changes.
            known = []
            for item in nlri:
                shard = shards[item[-1]]
                if item in shard:
                    known.append(item)
                else:
                    shard[item] = path
            table.count += len(nlri) - len(known)
            if not known:
                return
            nlri = known
        others = self._others(peer, family) if changed is not None else []
        added = 0
        again: dict[Path, Path] | None = None
        for item in nlri:
            shard = shards[item[-1]]
            old = shard.get(item)
            if old is None:
                shard[item] = new = path
                added += 1
            else:
                new = path
                if old.as_received == received:
                    if old.epoch == epoch and old.info is info:
                        continue  # nothing new: the route keeps its age
                    if again is None:
                        again = {}  # paths that were there, and what they become: as old as before
                    found = again.get(old)
                    new = found or Path(peer, info, in_force, old.received_at, outcome, epoch)
                    again[old] = new
                if old.epoch != epoch:
                    table.stale -= 1
                shard[item] = new
            if changed is not None and matters(old, new, paths_at(others, item) if others else []):
                changed.append((family, item))
        table.count += added

    def _announce_paths(
        self, peer: PeerId, state: _Peer, table: PathsTable, reach: Reach, now: Instant, changed: Changed | None
    ) -> None:
        importer, epoch, info, received, family = (
            state.importer,
            table.epoch,
            state.info,
            reach.received,
            reach.family,
        )
        path_ids: Iterator[int | None] = repeat(None) if reach.path_ids is None else iter(reach.path_ids)
        before: dict[bytes, Path | None] = {}
        made: dict[tuple[object, ...], Path] = {}
        judgement = None if importer.by_prefix else importer.judge(received, family, b"")
        table.changes += 1
        for item, path_id in zip(reach.nlri, path_ids, strict=reach.path_ids is not None):
            old = table.get(item, path_id)
            if old is None and len(table.shards[item[-1]].get(item, ())) >= PATHS_MAX:
                self.refused += 1
                continue
            received_at = now
            if old is not None and old.as_received == received:
                if old.epoch == epoch and old.info is info:
                    continue
                received_at = old.received_at
            if changed is not None and item not in before:
                before[item] = self._best(family, item)
            said = judgement or importer.judge(received, family, item)
            key = (path_id, received_at, *identity(said))
            path = made.get(key)
            if path is None:
                in_force = kept(said, received, info, family, item)
                path = made[key] = PathWithId(peer, info, in_force, received_at, said[1], epoch, path_id)
            table.put(item, path)
        self._compare(family, before, changed)

    def _withdraw(self, peer: PeerId, table: Table, family: Family, nlri: list[bytes], changed: Changed | None) -> None:
        shards = table.shards
        others = self._others(peer, family) if changed is not None else []
        table.changes += 1
        for item in nlri:
            old = shards[item[-1]].pop(item, None)
            if old is None:
                continue  # a withdrawal of what was never announced is no error
            table.count -= 1
            if old.epoch != table.epoch:
                table.stale -= 1
            if changed is not None and matters(old, None, paths_at(others, item)):
                changed.append((family, item))

    def _withdraw_paths(
        self, table: PathsTable, family: Family, nlri: list[bytes], path_ids: list[int] | None, changed: Changed | None
    ) -> None:
        before: dict[bytes, Path | None] = {}
        table.changes += 1
        for item, path_id in zip(nlri, path_ids or repeat(None), strict=False):
            if changed is not None and item not in before:
                before[item] = self._best(family, item)
            table.take(item, path_id)
        self._compare(family, before, changed)

    def _judge_again(
        self,
        peer: PeerId,
        table: AnyTable,
        family: Family,
        nlri: bytes,
        importer: Importer,
        made: Made,
        changed: Changed,
        every: bool,
    ) -> int:
        """``made``: the new paths of this pass, so that what shared a path goes on sharing one, and whether they are to
        everybody else what the old ones were."""
        olds = table.at(nlri)
        news = []
        quiet = True
        for old in olds:
            new = old
            if old.info is not importer.info:
                said = importer.judge(old.as_received, family, nlri) if importer.by_prefix else None
                key = (old,) if said is None else (old, *identity(said))
                part = made[(id(old) >> 6) % SHARDS]
                found = part.get(key)
                if found is None:
                    said = said or importer.judge(old.as_received, family, nlri)
                    new = judged(old, importer.info, said, family, nlri)
                    found = part[key] = new, alike(old, new)
                new = found[0]
                quiet = quiet and found[1]
            news.append(new)
        if news != olds:
            table.exchange(nlri, news)
            table.changes += 1
            if not quiet and (every or differ(olds, news, paths_at(self._others(peer, family), nlri))):
                changed.append((family, nlri))
        return max(1, len(olds))

    # -- taking out --------------------------------------------------------------------------------------

    def _retain(
        self, peer: PeerId, state: _Peer, families: frozenset[Family], report: bool, every: bool
    ) -> Iterator[Changed]:
        dropped = [(family, state.tables.pop(family)) for family in list(state.tables) if family not in families]
        slices = [self._drop(dropped, report, every)] if dropped else []
        if state.live:
            for family, table in state.tables.items():
                # What a refresh alone has made stale (RFC 7313) was valid when the session ended: it stays.
                if table.stale:
                    slices.append(self._expire(peer, family, table, table.restarted, report, every))
                table.restart()
        state.live = False
        return chain.from_iterable(slices)

    def _expire(
        self, peer: PeerId, family: Family, table: AnyTable, before: int, report: bool, every: bool
    ) -> Iterator[Changed]:
        """Take the paths out that are older than the epoch ``before``."""
        line = table.line
        changed: Changed = []
        number = done = 0
        while number < SHARDS:
            state = self._peers.get(peer)
            now = None if state is None else state.tables.get(family)
            if now is None or now.line is not line:
                break  # the rest has gone with its table
            others = self._others(peer, family) if report else []
            for nlri, olds, news in now.expire(number, before):
                done += 1
                if report and (every or differ(olds, news, paths_at(others, nlri))):
                    changed.append((family, nlri))
                if done >= SLICE:
                    break  # the shard is looked at again in the next turn
            else:
                done += len(now.shards[number]) // _PASSED
                number += 1
            if done >= SLICE:
                yield changed
                changed, done = [], 0
        yield changed

    def _drop(self, tables: list[tuple[Family, AnyTable]], report: bool, every: bool) -> Iterator[Changed]:
        """Whole tables have been taken out."""
        self._drops += 1
        return self._dropped(tables, report, every)

    def _dropped(self, tables: list[tuple[Family, AnyTable]], report: bool, every: bool) -> Iterator[Changed]:
        changed: Changed = []
        done = 0
        for family, table in tables:
            for number in range(SHARDS):
                others = [other for other in self._tables(family) if other.count] if report else []
                for nlri in table.keys(number) if report else ():
                    done += 1
                    if done >= SLICE:
                        yield changed
                        changed, done = [], 0
                        others = [other for other in self._tables(family) if other.count]
                    olds = table.at(nlri)
                    if (rivals := paths_at(others, nlri)) and not every:
                        if differ(olds, [], rivals):
                            changed.append((family, nlri))
                    elif any(path.usable for path in olds):
                        changed.append((family, nlri))
                done += len(table.shards[number]) // _PASSED
                table.shards[number].clear()  # what is freed comes in slices, too
                if done >= SLICE:
                    yield changed
                    changed, done = [], 0
        yield changed

    # -- the decision ------------------------------------------------------------------------------------

    def _compare(self, family: Family, before: dict[bytes, Path | None], changed: Changed | None) -> None:
        if changed is not None:
            changed += [(family, nlri) for nlri, path in before.items() if not same(path, self._best(family, nlri))]

    def _best(self, family: Family, nlri: bytes) -> Path | None:
        chosen = best_path(self._candidates(family, nlri))
        return None if chosen is None else chosen[0]

    def _candidates(self, family: Family, nlri: bytes) -> list[Path]:
        return paths_at(self._tables(family), nlri)

    def _others(self, peer: PeerId, family: Family) -> list[AnyTable]:
        return [
            table
            for name, state in self._peers.items()
            if name != peer and (table := state.tables.get(family)) is not None and table.count
        ]

    def _tables(self, family: Family) -> list[AnyTable]:
        return [table for state in self._peers.values() if (table := state.tables.get(family)) is not None]

    def _tables_of(self, peer: PeerId, family: Family | None) -> list[AnyTable]:
        state = self._peers.get(peer)
        if state is None:
            return []
        return [table for key, table in state.tables.items() if family is None or key == family]

    def _route(self, path: Path, family: Family, nlri: bytes, reason: str | None) -> LearnedRoute:
        return learned_route(path, family, nlri, reason, self._peers[path.peer].tables[family].epoch)
