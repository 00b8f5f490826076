"""A cursor over received octets for the decoders that are not in a hot path, and cleaning of peers' text."""

from __future__ import annotations

import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, bidirectional overrides, surrogates, separators


class BufferReadError(ValueError):
    """Fewer octets are left than were asked for."""


class Buffer:
    """Reads big-endian integers and octet strings off the front of ``data``; raises BufferReadError at the end."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)

    def __len__(self) -> int:
        """Octets left."""
        return self._end - self._position

    def pull_bytes(self, count: int) -> bytes:
        start = self._position
        if count > self._end - start:
            raise BufferReadError(f"{count} octets wanted, {self._end - start} left")
        self._position = start + count
        return self._data[start : start + count]

    def pull_uint8(self) -> int:
        return self.pull_bytes(1)[0]

    def pull_uint16(self) -> int:
        return int.from_bytes(self.pull_bytes(2), "big")

    def pull_uint32(self) -> int:
        return int.from_bytes(self.pull_bytes(4), "big")


def clean_text(raw: bytes) -> str:
    """UTF-8 of a peer's, fit for a log or a terminal: control characters gone, invalid octets replaced."""
    text = raw.decode("utf-8", "replace")
    return "".join(c for c in text if unicodedata.category(c) not in _INVISIBLE)
