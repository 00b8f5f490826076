"""Interop tests need root, namespaces and the peers' packages; without them they are skipped, each with its reason.

What they show of which feature is collected for the table in README.md (``harness/matrix.py``).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .harness import matrix
from .harness.lab import remove_leftovers
from .harness.peers import PEERS

_TOOLS = {"ip": "iproute2", "sysctl": "procps", "nft": "nftables", "tcpdump": "tcpdump", "tshark": "tshark"}


class Results:
    """One run's, by feature and peer."""

    def __init__(self) -> None:
        self.matrix = matrix.Matrix()
        self.cells: dict[str, tuple[list[str], list[str]]] = {}  # node → its features and peers
        self.modules: set[Path] = set()
        self.deselected = 0

    @property
    def whole(self) -> bool:
        """Every interop test was there to run."""
        return not self.deselected and self.modules >= set(Path(__file__).parent.glob("test_*.py"))

    def take(self, item: pytest.Item) -> None:
        self.modules.add(item.path)
        features = [feature for marker in item.iter_markers("feature") for feature in marker.args]
        if unknown := [feature for feature in features if feature not in matrix.FEATURES]:
            raise pytest.UsageError(f"{item.nodeid}: no such feature: {unknown} (harness/matrix.py lists them)")
        named = {peer for marker in item.iter_markers("feature") for peer in marker.kwargs.get("peers", ())}
        own = matrix.peer_of(_name(item) or "")
        peers = {own} & (named or {own}) if own else named
        if features and not own and not named:
            raise pytest.UsageError(f"{item.nodeid}: a feature without a peer: no parameter `name`, no `peers=`")
        self.cells[item.nodeid] = features, sorted(peers)
        self.matrix.rows.update(features)


_results = Results()


def _name(item: pytest.Item) -> str | None:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    name = parameters.get("name", parameters.get("arm"))  # an arm's parameter begins with the name
    name = name[0] if isinstance(name, tuple) else name
    return name if isinstance(name, str) else None


def why_not() -> str | None:
    """Why no interop test can run here, or None."""
    if os.geteuid() != 0:
        return "interop: not root"
    lost = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    return f"interop: not installed: {', '.join(lost)}" if lost else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not()
    missing = {kind.name: kind.missing() for kind in PEERS}
    for item in items:
        if "interop" not in item.path.parts:
            continue
        _results.take(item)
        if item.get_closest_marker("interop") is None:
            continue
        peer = matrix.peer_of(_name(item) or "")
        why = reason or (missing.get(peer) if peer else None)
        if why:
            item.add_marker(pytest.mark.skip(reason=why))


def pytest_deselected(items: list[pytest.Item]) -> None:
    _results.deselected += sum("interop" in item.path.parts for item in items)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    features, peers = _results.cells.get(report.nodeid, ([], []))
    if report.failed or report.skipped or report.when == "call":
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _results.matrix.add(features, peers, report.outcome, why)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """``--write-matrix`` writes the table; with ``--require-interop`` one that differs from the committed one fails."""
    config = session.config
    write, check = config.getoption("--write-matrix"), config.getoption("--require-interop")
    if not (write or check) or not _results.whole or exitstatus != pytest.ExitCode.OK:
        if write:
            _say(session, ["--write-matrix: not written: some tests were not run, or failed"])
        return
    text = matrix.README.read_text()
    table = _results.matrix.table()
    faults = _results.matrix.faults()
    if write and not faults:
        matrix.README.write_text(matrix.rewritten(text, table))
    elif matrix.committed(text) != table:
        faults.append("README.md's table is not what the tests show: run them with --write-matrix, as root")
    if faults:
        _say(session, faults)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _say(session: pytest.Session, texts: list[str]) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for text in texts:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"matrix: {text}")


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> None:
    if why_not() is None:
        remove_leftovers()
