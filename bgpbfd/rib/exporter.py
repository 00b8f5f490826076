"""``export`` for one session, worked out once for attributes that many routes share.

The routes of one UPDATE, or of one line of the configuration, share an attributes object, so the object's identity is
the key that nearly every prefix hits. Behind it results are found by value, so that equal attributes in several objects
leave as one object and fill messages together. A policy that asks for the prefix is asked for every one; what comes
before and after it is still shared.

Keys by identity are safe as each entry holds what its key is made of. What is kept was sent by neighbors, so it is
bounded by its memory, not by its number.
"""

from __future__ import annotations

from typing import TypeAlias

from bgpbfd.core import Family
from bgpbfd.policy.memo import attributes_weight
from bgpbfd.policy.policy import Facts, Policy
from bgpbfd.rib.export import ExportContext, Exported, export, facts, finish, prepare
from bgpbfd.rib.select import PeerInfo
from bgpbfd.wire.attributes import PathAttributes

MAX_WEIGHT = 32 << 20  # octets, roughly

_Result: TypeAlias = PathAttributes | str
Shared: TypeAlias = dict[int, tuple[_Result, PathAttributes, PeerInfo | None, Family, str]]
"""Results that hold for every prefix, by id(attributes): of the last case of these attributes, whose ``learned_from``,
family and source have to be compared; nearly all that share attributes share these, too.
"""


class _Prepared:
    """What comes before a policy that asks for the prefix, and what comes after it where it changes nothing."""

    __slots__ = ("after", "before", "facts", "of")

    def __init__(self, of: tuple[PathAttributes, PeerInfo | None, Family], before: _Result, facts: Facts) -> None:
        self.of = of  # what its key has the ids of
        self.before = before
        self.facts = facts
        self.after: _Result | None = None


class Exporter:
    """``shared``: the results for its caller to look into first; never filled by a policy that asks for the prefix."""

    def __init__(self, context: ExportContext) -> None:
        self.context = context
        self.shared: Shared = {}
        policy = context.policy
        self._by_prefix: Policy | None = policy if policy is not None and policy.depends_on_prefix else None
        self._values: dict[tuple[PathAttributes, int, Family, str], tuple[_Result, PeerInfo | None]] = {}
        self._prepared: dict[tuple[int, int, int, str], _Prepared] = {}
        self._finished: dict[tuple[PathAttributes, int, Family, bool], tuple[_Result, PeerInfo | None]] = {}
        self._weight = 0

    def work_out(
        self, attributes: PathAttributes, learned_from: PeerInfo | None, family: Family, nlri: bytes, source: str
    ) -> _Result:
        """``export(...).result``; to be called where ``shared`` has none."""
        if self._by_prefix is not None:
            return self._asked(self._by_prefix, attributes, learned_from, family, nlri, source)
        by_value = (attributes, id(learned_from), family, source)
        known = self._values.get(by_value)
        if known is None:
            outcome = export(attributes, learned_from, self.context, family, nlri, source)
            known = (outcome.result, learned_from)
            self._make_room(attributes, outcome.result)
            self._values[by_value] = known
        self._make_room(attributes)
        self.shared[id(attributes)] = (known[0], attributes, learned_from, family, source)
        return known[0]

    def flow(self, attributes: PathAttributes, learned_from: PeerInfo, family: Family, nlri: bytes) -> _Result:
        """The same of a learned flow specification that is feasible; they are few, and nothing is kept."""
        return export(attributes, learned_from, self.context, family, nlri, "peer", validated=True).result

    def _asked(
        self,
        policy: Policy,
        attributes: PathAttributes,
        learned_from: PeerInfo | None,
        family: Family,
        nlri: bytes,
        source: str,
    ) -> _Result:
        key = (id(attributes), id(learned_from), id(family), source)
        entry = self._prepared.get(key)
        if entry is None:
            before = prepare(attributes, learned_from, self.context, family)
            entry = _Prepared((attributes, learned_from, family), before, facts(source, learned_from, self.context))
            self._make_room(attributes, before)
            self._prepared[key] = entry
        prepared = entry.before
        if isinstance(prepared, str):
            return prepared
        verdict = policy.evaluate(prepared, family, nlri, entry.facts)
        if not verdict.accepted:
            return verdict.reason
        if verdict.attributes is not prepared:
            return self._after(verdict.attributes, prepared, learned_from, family)
        if entry.after is None:
            entry.after = self._after(prepared, prepared, learned_from, family)
        return entry.after

    def _after(
        self, attributes: PathAttributes, prepared: PathAttributes, learned_from: PeerInfo | None, family: Family
    ) -> _Result:
        key = (attributes, id(learned_from), family, attributes.next_hop is prepared.next_hop)
        known = self._finished.get(key)
        if known is None:
            known = (finish(attributes, prepared, learned_from, self.context, family), learned_from)
            self._make_room(attributes, known[0])
            self._finished[key] = known
        return known[0]

    def _make_room(self, *kept: _Result) -> None:
        weight = sum(attributes_weight(item) for item in kept if not isinstance(item, str))
        if self._weight + weight > MAX_WEIGHT:
            self.shared.clear()
            self._values.clear()
            self._prepared.clear()
            self._finished.clear()
            self._weight = 0
        self._weight += weight


class Explainer(Exporter):
    """Works everything out anew, and remembers what the policy said of it."""

    def __init__(self, context: ExportContext) -> None:
        super().__init__(context)
        self._said: list[Exported] = []

    def work_out(
        self, attributes: PathAttributes, learned_from: PeerInfo | None, family: Family, nlri: bytes, source: str
    ) -> _Result:
        outcome = export(attributes, learned_from, self.context, family, nlri, source)
        self._said.append(outcome)
        return outcome.result

    def flow(self, attributes: PathAttributes, learned_from: PeerInfo, family: Family, nlri: bytes) -> _Result:
        outcome = export(attributes, learned_from, self.context, family, nlri, "peer", validated=True)
        self._said.append(outcome)
        return outcome.result

    def why(self, result: _Result | None) -> str | None:
        """What the policy said of the route that came out as this very object."""
        return next((outcome.why for outcome in self._said if outcome.result is result), None)
