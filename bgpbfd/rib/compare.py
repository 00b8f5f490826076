"""Whether a change of paths is a change of the best one; small parts of ``table``."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

from bgpbfd.core import Family
from bgpbfd.rib.adj_in import AnyTable
from bgpbfd.rib.importing import Judgement, kept
from bgpbfd.rib.select import Path, PathWithId, PeerInfo, best_path
from bgpbfd.wire.update import Unreach, Update


def paths_at(tables: list[AnyTable], nlri: bytes) -> list[Path]:
    return [path for table in tables for path in table.at(nlri)] if tables else []


def only_withdrawn(unreach: Unreach, update: Update) -> tuple[list[bytes], list[int] | None]:
    """RFC 4271 §4.3: a prefix in both fields is treated as if it were not withdrawn; with RFC 7911 a path of it."""
    reaches = [reach for reach in update.announced if reach.family == unreach.family]
    if unreach.path_ids is None:
        announced = {item for reach in reaches for item in reach.nlri}
        return [item for item in unreach.nlri if item not in announced], None
    paths = {key for reach in reaches for key in zip(reach.nlri, reach.path_ids or repeat(None), strict=False)}
    left = [key for key in zip(unreach.nlri, unreach.path_ids, strict=True) if key not in paths]
    return [item for item, _ in left], [path_id for _, path_id in left]


def judged(old: Path, info: PeerInfo, judgement: Judgement, family: Family, nlri: bytes) -> Path:
    """The same path in the light of another ``info``; as old and as fresh."""
    in_force, outcome = kept(judgement, old.as_received, info, family, nlri), judgement[1]
    if old.path_id is None:
        return Path(old.peer, info, in_force, old.received_at, outcome, old.epoch)
    return PathWithId(old.peer, info, in_force, old.received_at, outcome, old.epoch, old.path_id)


def alike(old: Path, new: Path) -> bool:
    """Whether to everybody else a path is what it was, though an import policy has judged it anew."""
    return old.usable == new.usable and old.in_force == new.in_force and _same_session(old.info, new.info)


def _same_session(one: PeerInfo, other: PeerInfo) -> bool:
    """The import policy has had its say when a path was judged; nobody asks for it afterwards."""
    return one is other or replace(one, policy=None) == replace(other, policy=None)


def matters(old: Path | None, new: Path | None, rivals: list[Path]) -> bool:
    """Whether the best path is another one with ``new`` in the place of ``old``.

    Both decisions are made in full: as MED compares only within one AS, a path that is never the best can still decide
    between two others (RFC 4271 §9.1.2.2 c).
    """
    if old is None and new is not None and not rivals:
        return new.usable  # nearly all of a first table
    if (old is None or not old.usable) and (new is None or not new.usable):
        return False
    return differ([] if old is None else [old], [] if new is None else [new], rivals)


def differ(olds: list[Path], news: list[Path], rivals: list[Path]) -> bool:
    before, after = best_path(olds + rivals), best_path(news + rivals)
    return not same(None if before is None else before[0], None if after is None else after[0])


def same(before: Path | None, after: Path | None) -> bool:
    """Whether a best path is to everybody else what it was: its age and its staleness may differ."""
    if before is after:
        return True
    if before is None or after is None:
        return False
    return (
        before.peer == after.peer
        and before.path_id == after.path_id
        and before.in_force == after.in_force
        and _same_session(before.info, after.info)
    )
