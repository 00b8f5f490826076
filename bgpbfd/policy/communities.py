"""Communities as policy matches and removes them: one, or with ``*`` a group of them.

``65000:99``, ``65000:*``, ``*:99``, ``no-export``; large ``65000:*:7``; extended ``rt:65000:1``, ``rt:65000:*``,
``rt:*``, ``soo:…``, ``bandwidth:…``, ``ext:0x…``, ``ext:*``. Those of RFC 5701, ``rt:[2001:db8::1]:7``, are
only named one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.text import (
    MAX_U16,
    MAX_U32,
    format_communities,
    format_extended,
    parse_communities,
    parse_extended,
    parse_number,
)

STANDARD = 0
EXTENDED = 1
LARGE = 2
IPV6_EXTENDED = 3
_ALL = ((1 << 32) - 1, (1 << 64) - 1, (1 << 96) - 1, (1 << 160) - 1)
_TYPE = 0xFFFF << 48
# RFC 7153 §5: type and subtype, for each form that the administrator can have
_NAMED = {
    "rt": (0x0002, 0x0102, 0x0202),
    "soo": (0x0003, 0x0103, 0x0203),
    "bandwidth": (0x4004,),
}
_ALIASES = {"ro": "soo"}


class CommunityPattern(NamedTuple):
    """``wanted``: pairs of a mask and the value under it, of which one has to fit the community as a number.

    ``kind``: STANDARD, EXTENDED, LARGE or IPV6_EXTENDED. ``text`` is canonical.
    """

    kind: int
    text: str
    wanted: tuple[tuple[int, int], ...]


def parse_pattern(text: str) -> CommunityPattern:
    """Raises ValueError with what would be right."""
    word = text.strip().lower()
    if "*" not in word:
        parsed = parse_communities([word], ipv6=True)
        (shown,) = format_communities(parsed)
        for standard in parsed.standard:
            return _exact(STANDARD, shown, standard)
        for octets in parsed.extended:
            return _exact(EXTENDED, shown, _extended_number(octets))
        for octets in parsed.ipv6_extended:
            return _exact(IPV6_EXTENDED, shown, _extended_number(octets))
        return _exact(LARGE, shown, _large_number(parsed.large[0]))
    name, _, rest = word.partition(":")
    name = _ALIASES.get(name, name)
    if name in _NAMED or name == "ext":
        return _extended_pattern(text, name, rest)
    parts = word.split(":")
    if len(parts) not in {2, 3}:
        raise ValueError(f'{text!r}: expected "A:B" or "A:B:C", each a number or *')
    width, highest = (16, MAX_U16) if len(parts) == 2 else (32, MAX_U32)
    mask = value = 0
    for part in parts:
        number = 0 if part == "*" else parse_number(part, highest)
        if number is None:
            raise ValueError(f"{text!r}: expected each part to be * or a number up to {highest}")
        mask = mask << width | (0 if part == "*" else highest)
        value = value << width | number
    return CommunityPattern(STANDARD if len(parts) == 2 else LARGE, word, ((mask, value),))


def _exact(kind: int, text: str, value: int) -> CommunityPattern:
    return CommunityPattern(kind, text, ((_ALL[kind], value),))


def _extended_pattern(text: str, name: str, rest: str) -> CommunityPattern:
    admin, _, last = rest.rpartition(":")
    if rest == "*" or (admin == last == "*" and name != "ext"):
        wanted = tuple((_TYPE, kind << 48) for kind in _NAMED[name]) if name in _NAMED else ((0, 0),)
        return CommunityPattern(EXTENDED, f"{name}:*", wanted)
    if name == "ext" or last != "*" or "*" in admin:
        raise ValueError(f'{text!r}: expected "{name}:*"' + (f' or "{name}:ADMIN:*"' if name != "ext" else ""))
    octets = parse_extended(f"{name}:{admin}:0")
    free = 2 if octets[0] in {0x01, 0x02} else 4  # RFC 4360 §3.2, RFC 5668 §2: octets behind the administrator
    mask = _ALL[EXTENDED] ^ ((1 << 8 * free) - 1)
    shown = format_extended(octets).removesuffix("0") + "*"
    return CommunityPattern(EXTENDED, shown, ((mask, _extended_number(octets)),))


def _large_number(value: tuple[int, int, int]) -> int:
    return value[0] << 64 | value[1] << 32 | value[2]


def _extended_number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


class CommunitySet:
    """Any of some patterns. A look-up costs one step for each different mask, however many patterns there are."""

    __slots__ = ("_extended", "_ipv6", "_large", "_masks", "_standard")

    def __init__(self, patterns: Iterable[CommunityPattern]) -> None:
        standard: set[int] = set()
        extended: set[bytes] = set()
        large: set[tuple[int, int, int]] = set()
        ipv6: set[bytes] = set()
        masks: tuple[dict[int, set[int]], ...] = ({}, {}, {}, {})
        for kind, _, wanted in patterns:
            for mask, value in wanted:
                if mask != _ALL[kind]:
                    masks[kind].setdefault(mask, set()).add(value)
                elif kind == STANDARD:
                    standard.add(value)
                elif kind == EXTENDED:
                    extended.add(value.to_bytes(8, "big"))
                elif kind == IPV6_EXTENDED:
                    ipv6.add(value.to_bytes(20, "big"))
                else:
                    large.add((value >> 64, value >> 32 & MAX_U32, value & MAX_U32))
        self._standard, self._extended, self._large = frozenset(standard), frozenset(extended), frozenset(large)
        self._ipv6 = frozenset(ipv6)
        self._masks = tuple(tuple(by_mask.items()) for by_mask in masks)

    def fits_any(self, attributes: PathAttributes) -> bool:
        """Whether the route has a community that one of the patterns means."""
        standard, extended, large, _ = self._masks
        return (
            not self._standard.isdisjoint(attributes.communities)
            or not self._large.isdisjoint(attributes.large_communities)
            or not self._extended.isdisjoint(attributes.extended_communities)
            or not self._ipv6.isdisjoint(attributes.ipv6_extended_communities)
            or (bool(standard) and _under(standard, attributes.communities))
            or (bool(large) and _under(large, map(_large_number, attributes.large_communities)))
            or (bool(extended) and _under(extended, map(_extended_number, attributes.extended_communities)))
        )

    def has_standard(self, value: int) -> bool:
        return value in self._standard or _under(self._masks[STANDARD], (value,))

    def has_extended(self, octets: bytes) -> bool:
        masks = self._masks[EXTENDED]
        return octets in self._extended or (bool(masks) and _under(masks, (_extended_number(octets),)))

    def has_ipv6_extended(self, octets: bytes) -> bool:
        return octets in self._ipv6

    def has_large(self, value: tuple[int, int, int]) -> bool:
        masks = self._masks[LARGE]
        return value in self._large or (bool(masks) and _under(masks, (_large_number(value),)))


def _under(masks: Sequence[tuple[int, set[int]]], numbers: Iterable[int]) -> bool:
    for number in numbers:
        for mask, values in masks:
            if number & mask in values:
                return True
    return False
