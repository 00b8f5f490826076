"""Which feature has been shown with which peer: the table in README.md, made of a run's results.

A test carries ``@pytest.mark.feature("MD5")``; its parameter ``name`` says with whom. The marker's ``peers`` does for a
test that has no such parameter, and limits what one that has it counts for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

README: Final = Path(__file__).parent.parent / "README.md"
BEGIN: Final = "<!-- matrix -->"
END: Final = "<!-- /matrix -->"

COLUMNS: Final = {"bird": "BIRD", "frr": "FRR", "gobgp": "GoBGP", "exabgp": "ExaBGP", "openbgpd": "OpenBGPD"}

# Every feature that a marker may name, in the order of the rows.
FEATURES: Final = (
    "sessions over IPv4 and IPv6",
    "both ends dial: collisions",
    "link-local sessions",
    "neighbors of a network",
    "hold time 0, the smaller one",
    "Cease subcodes and their texts",
    "their shutdown's text in our words",
    "2-octet AS numbers",
    "IPv6 routes over IPv4 sessions and the reverse",
    "standard and large communities",
    "extended and well-known communities",
    "flow specifications",
    "route refresh asked by the peer",
    "route refresh asked by us",
    "enhanced route refresh",
    "learned routes passed on",
    "policies, changed live",
    "route reflection",
    "max_prefixes",
    "GRACEFUL_SHUTDOWN",
    "ADD-PATH received",
    "ADD-PATH sent",
    "extended next hop",
    "extended messages",
    "roles and OTC",
    "graceful restart, theirs",
    "graceful restart, ours",
    "graceful restart after a NOTIFICATION",
    "MD5",
    "GTSM",
    "multihop",
    "BFD",
    "BFD on link-local addresses",
    "BFD on every path",
    "BFD timers changed live",
    "BFD of a peer that restarts",
    "BFD AdminDown",
    "BFD and loss in one direction",
    "BFD demand mode",
    "BFD echo",
    "BFD authentication",
    "BFD sessions that were asked for",
    "BFD strict mode",
    "what Wireshark reads",
)

# (feature, peer) → what that peer's release lacks; a test that passes there all the same is an error.
LACKS: Final[dict[tuple[str, str], str]] = {}


def lacks(peers: Iterable[str], features: Iterable[str], reason: str) -> None:
    """Note what these peers cannot do, so that there is nothing to test."""
    for feature in features:
        if feature not in FEATURES:
            raise ValueError(f"no feature {feature!r}")
        for peer in peers:
            LACKS[feature, peer] = reason


_BFD = tuple(feature for feature in FEATURES if feature.startswith("BFD"))
lacks(["gobgp", "exabgp"], _BFD, "no BFD")
lacks(["openbgpd"], _BFD, "no BFD in the portable release")
lacks(["bird"], ["BFD echo"], "no echo function in BIRD 2")
lacks(["frr"], ["BFD authentication"], "none in 8.4.4: it takes authenticated packets for plain ones")
lacks(["frr"], ["BFD demand mode"], "8.4.4 goes on sending")
lacks(["openbgpd"], ["flow specifications"], "none in 7.7")
lacks(["exabgp"], ["both ends dial: collisions"], "4.2.21 stops serving the connection that won")
lacks(["gobgp"], ["route refresh asked by the peer"], "its CLI asks nobody: it looks through what it has kept")
lacks(["exabgp"], ["route refresh asked by us"], "4.2.21 ends the session over its own BoRR: a TypeError")
lacks(["openbgpd"], ["route refresh asked by us"], "7.7 answers each request with “not negotiated”")
lacks(["gobgp"], ["2-octet AS numbers"], "3.10 has no key to leave capability 65 out")
lacks(["gobgp", "openbgpd"], ["extended messages"], "no RFC 8654")
lacks(["gobgp", "exabgp"], ["roles and OTC"], "no RFC 9234")
lacks(["openbgpd"], ["extended next hop"], "no RFC 8950 in 7.7")
lacks(["gobgp"], ["enhanced route refresh"], "no RFC 7313")
lacks(["openbgpd"], ["graceful restart, theirs"], "7.7 is a helper alone: no family in its capability")
lacks(["exabgp"], ["graceful restart, ours"], "keeps no table to leave our routes in")
lacks(["bird", "exabgp", "openbgpd"], ["graceful restart after a NOTIFICATION"], "no RFC 8538: no N bit in its OPEN")


def peer_of(name: str) -> str | None:
    """The column of a test's parameter ``name``: that of the peer with which it begins (``bird-ll`` is BIRD)."""
    return next((peer for peer in COLUMNS if re.match(rf"{peer}(\d|-|$)", name)), None)


@dataclass(slots=True)
class Matrix:
    """What the tests of a run showed. ``rows``: the features that have tests at all."""

    rows: set[str] = field(default_factory=set)
    passed: set[tuple[str, str]] = field(default_factory=set)
    failed: set[tuple[str, str]] = field(default_factory=set)
    skipped: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, features: Iterable[str], peers: Iterable[str], outcome: str, reason: str = "") -> None:
        """One test's outcome: passed, failed or skipped."""
        cells = [(feature, peer) for feature in features for peer in peers]
        if outcome == "passed":
            self.passed.update(cells)
        elif outcome == "failed":
            self.failed.update(cells)
        else:
            self.skipped.update(dict.fromkeys(cells, reason))

    def faults(self) -> list[str]:
        """Why this is no table to write: what the results and ``LACKS`` disagree on, and what nobody tried."""
        texts = [f"{feature}: failed with {peer}" for feature, peer in sorted(self.failed)]
        texts += [f"{cell[0]}: skipped with {cell[1]}: {why}" for cell, why in sorted(self.skipped.items())]
        wrong = sorted(self.passed & set(LACKS))
        texts += [f"{feature}: {peer} is said to lack it, and passes" for feature, peer in wrong]
        tried = self.passed | self.failed | set(self.skipped) | set(LACKS)
        untried = [(feature, peer) for feature in FEATURES if feature in self.rows for peer in COLUMNS]
        texts += [f"{feature}: not tried with {peer}" for feature, peer in untried if (feature, peer) not in tried]
        return texts

    def table(self) -> str:
        """Markdown; the notes under it say what a peer lacks."""
        lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
        notes: dict[str, int] = {}
        for feature in (feature for feature in FEATURES if feature in self.rows):
            cells = [self._cell(feature, peer, notes) for peer in COLUMNS]
            lines.append(f"| {feature} | {' | '.join(cells)} |")
        lines += ["", *(f"{number}. {text}" for text, number in notes.items())]
        return "\n".join(lines).rstrip() + "\n"

    def _cell(self, feature: str, peer: str, notes: dict[str, int]) -> str:
        cell = feature, peer
        if cell in self.failed:
            return "failed"
        if cell in self.passed:
            return "yes"
        if cell not in LACKS:
            return "not tried"
        text = f"{COLUMNS[peer]}: {LACKS[cell]}"
        return f"– ({notes.setdefault(text, len(notes) + 1)})"


def committed(text: str) -> str:
    """The table between the markers of README.md."""
    return text.partition(f"{BEGIN}\n")[2].partition(END)[0]


def rewritten(text: str, table: str) -> str:
    """README.md with another table; raises ValueError if the markers are not there."""
    head, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END}")
    return f"{head}{begin}{table}{end}{tail}"
