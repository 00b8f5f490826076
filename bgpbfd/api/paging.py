"""Lists that clients take page by page: kept as they were at the first page, for a bounded time and number."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bgpbfd.control.snapshot import Refused

KEPT_MAX = 8
KEPT_S = 60.0


@dataclass(slots=True, frozen=True)
class Page:
    items: Sequence[Any]
    cursor: str | None
    total: int


@dataclass(slots=True)
class _Kept:
    items: Sequence[Any]
    used_at: float


class Pages:
    """A cursor is ``TOKEN:OFFSET``; its list goes when read to the end, after a minute unused, or for newer ones."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def first(self, items: Sequence[Any], size: int) -> Page:
        self._expire()
        if len(items) <= size:
            return Page(items, None, len(items))
        while len(self._kept) >= KEPT_MAX:
            del self._kept[min(self._kept, key=lambda token: self._kept[token].used_at)]
        token = secrets.token_hex(8)
        self._kept[token] = _Kept(items, time.monotonic())
        return self._page(token, 0, size)

    def next(self, cursor: str, size: int) -> Page:
        """Raises Refused for a cursor that is not, or no longer, known."""
        self._expire()
        token, _, offset = cursor.partition(":")
        if token not in self._kept or not (offset.isascii() and offset.isdigit() and len(offset) < 12):
            raise Refused("cursor", "not known, or no longer: start again without one")
        return self._page(token, int(offset), size)

    def _page(self, token: str, offset: int, size: int) -> Page:
        kept = self._kept[token]
        kept.used_at = time.monotonic()
        total = len(kept.items)
        end = min(offset + size, total)
        items = kept.items[offset:end]
        if end == total:
            del self._kept[token]
            return Page(items, None, total)
        return Page(items, f"{token}:{end}", total)

    def _expire(self) -> None:
        oldest = time.monotonic() - KEPT_S
        for token in [token for token, kept in self._kept.items() if kept.used_at < oldest]:
            del self._kept[token]
