"""Policy for learned and advertised routes: terms in order, the first that matches decides.

Values and their evaluation only: parsing is ``config.policies``, where policies apply is ``rib``'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bgpbfd.core import Family
from bgpbfd.wire.attributes import PathAttributes


@dataclass(slots=True, frozen=True)
class Facts:
    """What of a route is not in its attributes. ``source``: config, api, service or peer.

    ``names``: what the peer that it was learned from may be called: id, description, network; empty for ours.
    ``local_asn``: ours on the session that the policy belongs to, which ``prepend = N`` repeats.
    """

    source: str
    names: frozenset[str]
    local_asn: int


class Verdict(NamedTuple):
    """``reason``: the policy, its term and what it said, for people; one text object a term."""

    accepted: bool
    attributes: PathAttributes
    reason: str


@dataclass(slots=True, frozen=True)
class Policy:
    """``depends_on_prefix``: one set of attributes may get several verdicts, by the NLRI."""

    name: str
    default: str = "accept"

    @property
    def depends_on_prefix(self) -> bool:
        return False

    def evaluate(self, attributes: PathAttributes, family: Family, nlri: bytes, facts: Facts) -> Verdict:
        """``nlri`` without a path identifier. ``attributes.next_hop`` None in the answer means our own address."""
        return Verdict(self.default == "accept", attributes, f"policy {self.name!r}: default {self.default}")
