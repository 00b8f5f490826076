"""Path identifiers for what we send with ADD-PATH (RFC 7911 §3).

An identifier only has to tell the paths of one prefix apart at one peer, and to stay with its path: another one is a
withdrawal and a new announcement. It is made of where the path came from, so nothing has to be remembered however many
paths come and go, every peer is told the same, and so is one that kept our paths over a restart of ours (RFC 4724).
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from bgpbfd.core import PeerId

OWN = 1
"""The path of our own route."""


def path_ids(origins: Iterable[tuple[PeerId, int | None]]) -> list[int]:
    """An identifier for each path of one prefix, by the peer that it was learned from and its identifier there (None
    without ADD-PATH).

    Two that come out alike, one in four thousand million, are told apart by their order, which so should not change.
    """
    taken = {0, OWN}
    found: list[int] = []
    for peer, received in origins:
        path_id = crc32(f"{peer} {received}".encode())
        while path_id in taken:
            path_id = (path_id + 1) & 0xFFFFFFFF
        taken.add(path_id)
        found.append(path_id)
    return found
