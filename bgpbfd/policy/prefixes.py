"""Prefixes with ranges of lengths, and sets of them whose look-up does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bgpbfd.core import AFI_IPV4, AFI_IPV6, SAFI_UNICAST, Family, Prefix

BITS = {AFI_IPV4: 32, AFI_IPV6: 128}


class PrefixRange(NamedTuple):
    """Prefixes in ``prefix`` (of SAFI 1) that are ``low`` to ``high`` bits long, both from its own length up."""

    prefix: Prefix
    low: int
    high: int

    @classmethod
    def exactly(cls, prefix: Prefix) -> PrefixRange:
        return cls(prefix, prefix.length, prefix.length)

    @classmethod
    def within(cls, prefix: Prefix) -> PrefixRange:
        """The prefix and all that is in it."""
        return cls(prefix, prefix.length, BITS[prefix.afi])

    def __str__(self) -> str:
        length = self.prefix.length
        if self.low == self.high == length:
            return str(self.prefix)
        low = f" ge {self.low}" if self.low != length else ""
        high = f" le {self.high}" if self.high != BITS[self.prefix.afi] or not low else ""
        return f"{self.prefix}{low}{high}"


class PrefixSet:
    """Any of some ranges. A look-up costs one step for each length that the ranges' own prefixes have."""

    __slots__ = ("_exact", "_ranges")

    def __init__(self, ranges: Iterable[PrefixRange]) -> None:
        exact: dict[int, set[bytes]] = {AFI_IPV4: set(), AFI_IPV6: set()}
        # by AFI and length: the leading bits → a bit for every length that fits
        tables: dict[int, dict[int, dict[int, int]]] = {AFI_IPV4: {}, AFI_IPV6: {}}
        for prefix, low, high in ranges:
            length = prefix.length
            if low == high == length:
                exact[prefix.afi].add(prefix.nlri)
                continue
            table = tables[prefix.afi].setdefault(length, {})
            lead = _number(prefix.nlri, BITS[prefix.afi]) >> (BITS[prefix.afi] - length)
            table[lead] = table.get(lead, 0) | ((1 << (high + 1)) - (1 << low))
        self._exact = {afi: frozenset(nlri) for afi, nlri in exact.items()}
        self._ranges = {afi: sorted(by_length.items()) for afi, by_length in tables.items()}

    def matches(self, family: Family, nlri: bytes) -> bool:
        """Whether this NLRI, without a path identifier, is in the set; a flow specification never is."""
        afi, safi = family
        if safi != SAFI_UNICAST or afi not in BITS:
            return False
        return nlri in self._exact[afi] or bool(self._ranges[afi] and self._in_range(afi, nlri))

    def contains(self, address: bytes) -> bool:
        """The same of a packed address of 4 or 16 octets."""
        return self.matches(
            Family(AFI_IPV4 if len(address) == 4 else AFI_IPV6, 1), bytes((len(address) * 8,)) + address
        )

    def _in_range(self, afi: int, nlri: bytes) -> bool:
        bits = BITS[afi]
        length = nlri[0]
        number = _number(nlri, bits)
        for own, table in self._ranges[afi]:
            if own > length:
                break
            if table.get(number >> (bits - own), 0) >> length & 1:
                return True
        return False


def _number(nlri: bytes, bits: int) -> int:
    """The address of ``nlri`` as a number of ``bits``."""
    return int.from_bytes(nlri[1:], "big") << (bits - 8 * (len(nlri) - 1))
