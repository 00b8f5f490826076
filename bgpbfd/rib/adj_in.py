"""The Adj-RIB-In of one family from one peer (RFC 4271 §3.2), in two forms.

``Table`` has one path a prefix, and nothing beside the dictionary entry. ``PathsTable`` is for a family that came with
ADD-PATH (RFC 7911 §3): several paths a prefix, each with its identifier.

Stale paths, of a peer that restarts (RFC 4724 §4.2) or that sends all again (RFC 7313 §4), are told by their epoch: to
make all present paths stale, the table enters the next one. Nothing is gone through for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from bgpbfd.rib.select import Path

SHARDS = 256


class _Counts:
    """``count``: of paths, ``stale`` among them. ``restarted``: the epoch that the peer's last restart began.

    ``changes`` is another number after each change of what is in the table. ``line``: the same object as long as it is
    the same table, in whatever form; epochs of another one mean nothing.
    """

    __slots__ = ("changes", "count", "epoch", "line", "restarted", "stale")

    def __init__(self) -> None:
        self.count = 0
        self.stale = 0
        self.epoch = 0
        self.restarted = 0
        self.changes = 0
        self.line = object()

    def age(self) -> None:
        """All that is there is stale from now on, until it is announced again."""
        self.epoch += 1
        self.stale = self.count

    def restart(self) -> None:
        self.age()
        self.restarted = self.epoch


class Table(_Counts):
    """One path a prefix."""

    __slots__ = ("shards",)

    def __init__(self) -> None:
        super().__init__()
        self.shards: list[dict[bytes, Path]] = [{} for _ in range(SHARDS)]

    def at(self, nlri: bytes) -> list[Path]:
        path = self.shards[nlri[-1]].get(nlri)
        return [] if path is None else [path]

    def items(self) -> Iterator[tuple[bytes, Path]]:
        for shard in self.shards:
            yield from shard.items()

    def keys(self, number: int) -> Iterable[bytes]:
        """The prefixes of one shard."""
        return self.shards[number].keys()

    def exchange(self, nlri: bytes, news: list[Path]) -> None:
        """Put others in the place of the paths that are there: as many, and as fresh."""
        self.shards[nlri[-1]][nlri] = news[0]

    def expire(self, number: int, before: int) -> Iterator[tuple[bytes, list[Path], list[Path]]]:
        """Take out of one shard what is older than the epoch ``before``; gives (NLRI, paths until now, paths left)."""
        shard = self.shards[number]
        for nlri in [nlri for nlri, path in shard.items() if path.epoch < before]:
            path = shard.pop(nlri)
            self.count -= 1
            self.stale -= 1
            self.changes += 1
            yield nlri, [path], []


class PathsTable(_Counts):
    """Several paths a prefix, each under its path identifier.

    Identifier None is of a session without ADD-PATH: stale paths of an older session, or fresh ones where the older one
    had ADD-PATH. Whichever kind comes later speaks of the whole prefix and replaces the other.
    """

    __slots__ = ("shards",)

    def __init__(self) -> None:
        super().__init__()
        self.shards: list[dict[bytes, dict[int | None, Path]]] = [{} for _ in range(SHARDS)]

    @classmethod
    def of(cls, table: Table) -> PathsTable:
        """The same paths, without identifiers."""
        made = cls()
        made.shards = [{nlri: {None: path} for nlri, path in shard.items()} for shard in table.shards]
        made.count, made.stale, made.epoch = table.count, table.stale, table.epoch
        made.restarted, made.changes, made.line = table.restarted, table.changes + 1, table.line
        return made

    def at(self, nlri: bytes) -> list[Path]:
        paths = self.shards[nlri[-1]].get(nlri)
        return [] if paths is None else list(paths.values())

    def get(self, nlri: bytes, path_id: int | None) -> Path | None:
        paths = self.shards[nlri[-1]].get(nlri)
        return None if paths is None else paths.get(path_id)

    def items(self) -> Iterator[tuple[bytes, Path]]:
        for shard in self.shards:
            for nlri, paths in shard.items():
                for path in paths.values():
                    yield nlri, path

    def keys(self, number: int) -> Iterable[bytes]:
        return self.shards[number].keys()

    def put(self, nlri: bytes, path: Path) -> None:
        path_id = path.path_id
        paths = self.shards[nlri[-1]].setdefault(nlri, {})
        for replaced in (path_id,) if path_id in paths else _other_kind(paths, path_id):
            self._gone(paths.pop(replaced))
        paths[path_id] = path
        self.count += 1

    def take(self, nlri: bytes, path_id: int | None) -> bool:
        """Whether there was something to take out."""
        shard = self.shards[nlri[-1]]
        paths = shard.get(nlri)
        if paths is None:
            return False
        gone = [path_id] if path_id in paths else _other_kind(paths, path_id) if path_id is None else []
        for one in gone:
            self._gone(paths.pop(one))
        if not paths:
            del shard[nlri]
        return bool(gone)

    def _gone(self, path: Path) -> None:
        self.count -= 1
        self.stale -= path.epoch != self.epoch

    def exchange(self, nlri: bytes, news: list[Path]) -> None:
        self.shards[nlri[-1]][nlri] = {path.path_id: path for path in news}

    def expire(self, number: int, before: int) -> Iterator[tuple[bytes, list[Path], list[Path]]]:
        shard = self.shards[number]
        aged = [nlri for nlri, paths in shard.items() if any(path.epoch < before for path in paths.values())]
        for nlri in aged:
            olds = list(shard[nlri].values())
            news = [path for path in olds if path.epoch >= before]
            self.count -= len(olds) - len(news)
            self.stale -= len(olds) - len(news)
            self.changes += 1
            if news:
                shard[nlri] = {path.path_id: path for path in news}
            else:
                del shard[nlri]
            yield nlri, olds, news


AnyTable: TypeAlias = Table | PathsTable


def _other_kind(paths: dict[int | None, Path], path_id: int | None) -> list[int | None]:
    """The paths that one with ``path_id`` replaces because they are of a session that differed in ADD-PATH."""
    if path_id is None:
        return list(paths)
    return [None] if None in paths else []
