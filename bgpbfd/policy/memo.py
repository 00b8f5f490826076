"""Answers kept for what comes again, within a bound of memory: what is kept was sent by neighbors."""

from __future__ import annotations

from typing import Generic, TypeVar

from bgpbfd.wire.attributes import PathAttributes, Segment

K = TypeVar("K")
V = TypeVar("V")

MAX_WEIGHT = 8 << 20  # octets, roughly


class Memo(Generic[K, V]):
    """A dict that starts anew when the weight of what it has passes ``MAX_WEIGHT``."""

    __slots__ = ("_found", "weight")

    def __init__(self) -> None:
        self._found: dict[K, V] = {}
        self.weight = 0

    def get(self, key: K) -> V | None:
        return self._found.get(key)

    def keep(self, key: K, value: V, weight: int) -> V:
        """``weight``: about how many octets of memory key and value hold."""
        if self.weight + weight > MAX_WEIGHT:
            self._found.clear()
            self.weight = 0
        self.weight += weight
        self._found[key] = value
        return value


def path_weight(path: tuple[Segment, ...]) -> int:
    return 200 + sum(100 + 40 * len(asns) for _, asns in path)


def attributes_weight(attributes: PathAttributes) -> int:
    return (
        300
        + path_weight(attributes.as_path)
        + 40 * len(attributes.communities)
        + 50 * (len(attributes.extended_communities) + len(attributes.ipv6_extended_communities))
        + 160 * len(attributes.large_communities)
        + 40 * len(attributes.cluster_list)
        + sum(150 + len(value) for _, _, value in attributes.unknown)
    )
