"""The table of features and peers: made of results, and what it refuses. Needs no peer."""

from __future__ import annotations

import pytest

from .harness import matrix
from .harness.matrix import COLUMNS, FEATURES, LACKS, Matrix, committed, peer_of, rewritten


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """MD5 and BFD are tried; MD5 passed everywhere, BFD with BIRD and FRR alone."""
    known = {("BFD", peer): "no BFD" for peer in ("gobgp", "exabgp", "openbgpd")}
    monkeypatch.setattr(matrix, "LACKS", known)
    made = Matrix(rows={"BFD", "MD5"})
    made.add(["MD5"], COLUMNS, "passed")
    made.add(["BFD"], ["bird", "frr"], "passed")
    return made


def test_rows_are_in_the_order_of_the_features_and_notes_are_numbered(made: Matrix) -> None:
    assert made.faults() == []
    assert made.table() == (
        "| | BIRD | FRR | GoBGP | ExaBGP | OpenBGPD |\n"
        "|---|---|---|---|---|---|\n"
        "| MD5 | yes | yes | yes | yes | yes |\n"
        "| BFD | yes | yes | – (1) | – (2) | – (3) |\n"
        "\n1. GoBGP: no BFD\n2. ExaBGP: no BFD\n3. OpenBGPD: no BFD\n"
    )


def test_one_failure_outweighs_what_passed(made: Matrix) -> None:
    made.add(["MD5"], ["frr"], "failed")
    assert made.faults() == ["MD5: failed with frr"]
    assert "| MD5 | yes | failed |" in made.table()


def test_what_nobody_tried_is_a_fault(made: Matrix) -> None:
    made.rows.add("GTSM")
    made.add(["GTSM"], ["bird", "frr", "gobgp", "exabgp"], "passed")
    assert made.faults() == ["GTSM: not tried with openbgpd"]


def test_a_skip_is_a_fault_with_its_reason(made: Matrix) -> None:
    made.add(["MD5"], ["gobgp"], "skipped", "not installed")
    assert made.faults() == ["MD5: skipped with gobgp: not installed"]


def test_what_is_said_to_lack_and_passes_is_a_fault(made: Matrix) -> None:
    made.add(["BFD"], ["gobgp"], "passed")
    assert made.faults() == ["BFD: gobgp is said to lack it, and passes"]


@pytest.mark.parametrize(
    ("name", "peer"),
    [("bird", "bird"), ("bird-ll", "bird"), ("bird4", "bird"), ("birds", None), ("exabgp", "exabgp"), ("", None)],
)
def test_the_peer_is_what_the_name_begins_with(name: str, peer: str | None) -> None:
    assert peer_of(name) == peer


def test_only_what_is_between_the_markers_changes() -> None:
    text = "a\n<!-- matrix -->\nold\n<!-- /matrix -->\nb\n"
    assert committed(text) == "old\n"
    assert rewritten(text, "new\n") == "a\n<!-- matrix -->\nnew\n<!-- /matrix -->\nb\n"
    with pytest.raises(ValueError, match="matrix"):
        rewritten("a\nb\n", "new\n")


def test_what_a_peer_lacks_is_a_feature_of_the_table() -> None:
    assert {feature for feature, _ in LACKS} <= set(FEATURES)
    assert {peer for _, peer in LACKS} <= set(COLUMNS)
