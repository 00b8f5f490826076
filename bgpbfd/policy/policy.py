"""Policy for learned and advertised routes: terms in order, the first that accepts or rejects decides.

Values and their evaluation only: parsing is ``config.policies``, where policies apply is ``rib``'s business.

A policy is compiled when it is made. Evaluating one is a few set look-ups a term; nothing that a neighbor sends makes
it take longer than in proportion to what was sent (``path_regex``). It is used from one thread: what it has seen is
kept (``memo``), within a bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from bgpbfd.core import Family
from bgpbfd.policy.changes import NOTHING, Changes
from bgpbfd.policy.match import EVERYTHING, Condition, Facts, Match
from bgpbfd.wire.attributes import PathAttributes

__all__ = ["ACCEPT", "NEXT", "REJECT", "Facts", "Policy", "Term", "Verdict"]

ACCEPT = "accept"
REJECT = "reject"
NEXT = "next"


class Verdict(NamedTuple):
    """``reason``: the policy, its term and what it said, for people; one text object a term."""

    accepted: bool
    attributes: PathAttributes
    reason: str


@dataclass(slots=True, frozen=True)
class Term:
    """``action``: accept, reject, or next (the changes are made, later terms see them and decide)."""

    match: Match = EVERYTHING
    action: str = ACCEPT
    changes: Changes = NOTHING
    name: str | None = None


class _Step(NamedTuple):
    """A compiled term. ``accepted`` None: the next term goes on."""

    conditions: tuple[Condition, ...]
    changes: Changes | None
    accepted: bool | None
    reason: str


_Steps: TypeAlias = tuple[_Step, ...]


@dataclass(slots=True, frozen=True)
class Policy:
    """Equal to another by what it was configured to be. ``default``: accept or reject, where no term decides.

    ``depends_on_prefix``: one set of attributes may get several verdicts, by the NLRI; otherwise the attributes, the
    family and the facts are all that counts. ``depends_on_attributes``: without, they are neither looked at nor
    changed, and the verdict is the same whatever they are.
    """

    name: str
    default: str = ACCEPT
    terms: tuple[Term, ...] = ()
    depends_on_prefix: bool = field(init=False, compare=False, repr=False)
    depends_on_attributes: bool = field(init=False, compare=False, repr=False)
    _steps: _Steps = field(init=False, compare=False, repr=False)
    _otherwise: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        reachable = list(_reachable(self.terms))
        steps = tuple(self._step(number, term) for number, term in enumerate(reachable, 1))
        object.__setattr__(self, "depends_on_prefix", any(term.match.depends_on_prefix for term in reachable))
        by_attributes = any(term.changes or term.match.depends_on_attributes for term in reachable)
        object.__setattr__(self, "depends_on_attributes", by_attributes)
        object.__setattr__(self, "_steps", steps)
        object.__setattr__(self, "_otherwise", f'policy "{self.name}": default {self.default}s')

    def __reduce__(self) -> tuple[type[Policy], tuple[str, str, tuple[Term, ...]]]:
        """Pickled as what it was configured to be: what is compiled stays in its process."""
        return Policy, (self.name, self.default, self.terms)

    def _step(self, number: int, term: Term) -> _Step:
        label = f'term "{term.name}"' if term.name else f"term {number}"
        accepted = {ACCEPT: True, REJECT: False, NEXT: None}[term.action]
        verb = "goes on" if accepted is None else f"{term.action}s"
        return _Step(term.match.conditions(), term.changes or None, accepted, f'policy "{self.name}": {label} {verb}')

    @property
    def peers(self) -> frozenset[str]:
        """Every neighbor that a term names."""
        matches = [match for term in self.terms for match in (term.match, term.match.exclude) if match is not None]
        return frozenset(name for match in matches for name in match.peers)

    @property
    def next_hop_self(self) -> bool:
        """Whether a term sets the next hop to our own address, which has no meaning for a route that is learned."""
        return any(term.changes.next_hop_self for term in self.terms)

    def evaluate(self, attributes: PathAttributes, family: Family, nlri: bytes, facts: Facts) -> Verdict:
        """``nlri`` without a path identifier. ``attributes.next_hop`` None in the answer means our own address.

        A rejected route has the attributes that it came with; an accepted one as well, the very object, if no term
        changes it.
        """
        current = attributes
        for conditions, changes, accepted, reason in self._steps:
            for condition in conditions:
                if not condition(current, family, nlri, facts):
                    break
            else:
                if accepted is False:
                    return Verdict(False, attributes, reason)
                if changes is not None:
                    current = changes.apply(current, family, facts.local_asn)
                if accepted:
                    return Verdict(True, current, reason)
        if self.default == ACCEPT:
            return Verdict(True, current, self._otherwise)
        return Verdict(False, attributes, self._otherwise)


def _reachable(terms: Iterable[Term]) -> Iterable[Term]:
    """Up to the first that decides about every route."""
    for term in terms:
        yield term
        if term.action != NEXT and term.match == EVERYTHING:
            return
