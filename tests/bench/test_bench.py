"""The benchmark runs: a few works with tiny sizes, ours and BIRD. What they measure here is not to be quoted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.harness.duts import missing

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
SUBJECTS = ("bgpbfd", "bird")
WORKS = ("bfd-1-50", "failover", "announce", "reload")
_LOST = {subject: why for subject in SUBJECTS if (why := missing(subject))}


@pytest.mark.skipif(bool(_LOST), reason=f"bench: {_LOST}")
def test_a_few_works_end_with_all_figures_of_both(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.bench", *WORKS, "--quick", "--rounds", "1", "--out", str(tmp_path)]
    done = subprocess.run(
        [*argv, "--only", ",".join(SUBJECTS)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    results["skipped"].pop("plots", None)
    assert results["skipped"] == {}
    measured = {(figure["work"], figure["subject"]) for figure in results["figures"]}
    assert measured == {(work, subject) for work in WORKS for subject in SUBJECTS}
    assert all(figure["value"] >= 0 for figure in results["figures"] if "over the detection" not in figure["metric"])
    values = {(f["work"], f["subject"], f["metric"]): f["value"] for f in results["figures"]}
    for subject in SUBJECTS:
        assert values["bfd-1-50", subject, "sessions that fell"] == 0
        assert values["failover", subject, "cuts not answered"] == 0
        assert values["announce", subject, "Established to last prefix"] < 2  # BIRD would sleep for 3 s
    loops = {(pauses["work"], pauses["loop"]) for pauses in results["pauses"]}
    assert loops == {(work, loop) for work in WORKS for loop in ("main", "bfd")}
    assert "### announce" in (tmp_path / "results.md").read_text()
