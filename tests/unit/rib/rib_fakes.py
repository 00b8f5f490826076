"""A policy for tests of those who ask policies: what it says is plain to see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import cast

from bgpbfd.core import Family
from bgpbfd.policy.policy import Facts, Policy, Verdict
from bgpbfd.wire.attributes import PathAttributes


@dataclass
class FakePolicy:
    """Rejects one prefix or one community; else sets LOCAL_PREF and removes all communities, as told."""

    reject: bytes | None = None
    reject_community: int | None = None
    local_pref: int | None = None
    strip: bool = False
    asked: list[tuple[PathAttributes, Family, bytes, Facts]] = field(default_factory=list, compare=False)

    @property
    def depends_on_prefix(self) -> bool:
        return self.reject is not None

    @property
    def depends_on_attributes(self) -> bool:
        return True

    def evaluate(self, attributes: PathAttributes, family: Family, nlri: bytes, facts: Facts) -> Verdict:
        self.asked.append((attributes, family, nlri, facts))
        if self.reject == nlri or self.reject_community in attributes.communities:
            return Verdict(False, attributes, "rejected by policy 'fake'")
        if self.local_pref is not None:
            attributes = replace(attributes, local_pref=self.local_pref)
        if self.strip:
            attributes = replace(attributes, communities=())
        return Verdict(True, attributes, "policy 'fake' accepts")


def fake(**more: object) -> Policy:
    return cast(Policy, FakePolicy(**more))  # type: ignore[arg-type]


def asked(policy: Policy) -> list[tuple[PathAttributes, Family, bytes, Facts]]:
    return cast(FakePolicy, policy).asked


def flat(slices: Iterable[list[tuple[Family, bytes]]]) -> list[tuple[Family, bytes]]:
    """What all slices of one change of the RIB changed; the same key may be in several."""
    return list({key: None for changed in slices for key in changed})
