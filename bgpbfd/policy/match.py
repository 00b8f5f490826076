"""Which routes a term is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from bgpbfd.core import Family
from bgpbfd.policy.communities import CommunityPattern, CommunitySet
from bgpbfd.policy.memo import Memo, path_weight
from bgpbfd.policy.path_regex import PathRegex
from bgpbfd.policy.prefixes import PrefixRange, PrefixSet
from bgpbfd.wire.as_path import path_length
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.text import as_path_text


@dataclass(slots=True, frozen=True)
class Facts:
    """What of a route is not in its attributes. ``source``: config, api, service or peer.

    ``names``: what the peer that it was learned from may be called: id, description, network; empty for ours.
    ``local_asn``: ours on the session that the policy belongs to, which ``prepend = N`` repeats.
    """

    source: str
    names: frozenset[str]
    local_asn: int


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both included; ``high`` None: no end."""

    low: int
    high: int | None

    def has(self, number: int | None) -> bool:
        """False of an attribute that is not there."""
        return number is not None and self.low <= number and (self.high is None or number <= self.high)


Condition: TypeAlias = Callable[[PathAttributes, Family, bytes, Facts], bool]


@dataclass(slots=True, frozen=True)
class Match:
    """Conditions that must all hold; of the values of one, any. What is None or empty is no condition.

    ``all_communities``: the route has to have one for each of the patterns. ``next_hops``: ranges of whole networks;
    ``next_hop_self`` stands beside them, for routes that go out with our own address. ``exclude``: the routes
    that this one matches are not meant.
    """

    prefixes: tuple[PrefixRange, ...] = ()
    families: tuple[Family, ...] = ()
    communities: tuple[CommunityPattern, ...] = ()
    all_communities: tuple[CommunityPattern, ...] = ()
    as_path: tuple[PathRegex, ...] = ()
    as_path_length: Range | None = None
    origins: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    next_hops: tuple[PrefixRange, ...] = ()
    next_hop_self: bool = False
    local_pref: Range | None = None
    med: Range | None = None
    exclude: Match | None = None

    @property
    def depends_on_prefix(self) -> bool:
        return bool(self.prefixes) or (self.exclude is not None and self.exclude.depends_on_prefix)

    @property
    def depends_on_attributes(self) -> bool:
        """False where prefix, family, peer and source say all."""
        others = Match(self.prefixes, self.families, sources=self.sources, peers=self.peers, exclude=self.exclude)
        return self != others or (self.exclude is not None and self.exclude.depends_on_attributes)

    def conditions(self) -> tuple[Condition, ...]:
        """Ready to be asked, cheap ones first; none: every route is meant."""
        found: list[Condition] = []
        if self.sources:
            sources = frozenset(self.sources)
            found.append(lambda attributes, family, nlri, facts: facts.source in sources)
        if self.peers:
            peers = frozenset(self.peers)
            found.append(lambda attributes, family, nlri, facts: not peers.isdisjoint(facts.names))
        if self.families:
            families = frozenset(self.families)
            found.append(lambda attributes, family, nlri, facts: family in families)
        if self.origins:
            origins = frozenset(self.origins)
            found.append(lambda attributes, family, nlri, facts: attributes.origin in origins)
        if self.local_pref is not None:
            local_pref = self.local_pref
            found.append(lambda attributes, family, nlri, facts: local_pref.has(attributes.local_pref))
        if self.med is not None:
            med = self.med
            found.append(lambda attributes, family, nlri, facts: med.has(attributes.med))
        if self.prefixes:
            prefixes = PrefixSet(self.prefixes)
            found.append(lambda attributes, family, nlri, facts: prefixes.matches(family, nlri))
        if self.next_hops or self.next_hop_self:
            found.append(_next_hop(self))
        if self.as_path_length is not None:
            length = self.as_path_length
            found.append(lambda attributes, family, nlri, facts: length.has(path_length(attributes.as_path)))
        if self.communities:
            found.append(_has_one(CommunitySet(self.communities)))
        found.extend(_has_one(CommunitySet([pattern])) for pattern in self.all_communities)
        if self.as_path:
            found.append(_as_path(self.as_path))
        if self.exclude is not None:
            found.append(_excluded(self.exclude.conditions()))
        return tuple(found)


EVERYTHING = Match()


def _next_hop(match: Match) -> Condition:
    networks, own = PrefixSet(match.next_hops), match.next_hop_self

    def condition(attributes: PathAttributes, family: Family, nlri: bytes, facts: Facts) -> bool:
        if attributes.next_hop is None:
            return own
        return networks.contains(attributes.next_hop[:16])  # RFC 2545 §3: the global address, not the link-local one

    return condition


def _has_one(communities: CommunitySet) -> Condition:
    return lambda attributes, family, nlri, facts: communities.fits_any(attributes)


def _as_path(expressions: tuple[PathRegex, ...]) -> Condition:
    seen: Memo[tuple[Segment, ...], bool] = Memo()

    def condition(attributes: PathAttributes, family: Family, nlri: bytes, facts: Facts) -> bool:
        path = attributes.as_path
        known = seen.get(path)
        if known is not None:
            return known
        text = as_path_text(path)
        return seen.keep(path, any(expression.matches(text) for expression in expressions), path_weight(path))

    return condition


def _excluded(conditions: tuple[Condition, ...]) -> Condition:
    return lambda attributes, family, nlri, facts: (
        not all(condition(attributes, family, nlri, facts) for condition in conditions)
    )
