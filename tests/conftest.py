"""What all tests share: the marker ``interop`` and the options about the interop tests."""

from __future__ import annotations

import pytest

_INTEROP_OUTCOMES = pytest.StashKey[dict[str, list[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-interop",
        action="store_true",
        help="fail if an interop test was skipped, if there was none, or if they show another table than README.md's",
    )
    parser.addoption("--write-matrix", action="store_true", help="write the interop tests' table of features and peers")


def pytest_configure(config: pytest.Config) -> None:
    outcomes: dict[str, list[str]] = {"ran": [], "skipped": []}
    config.stash[_INTEROP_OUTCOMES] = outcomes
    config.pluginmanager.register(_InteropWatch(config), "interop-watch")


class _InteropWatch:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "interop" not in report.keywords:
            return
        outcomes = self._config.stash[_INTEROP_OUTCOMES]
        if report.skipped:
            outcomes["skipped"].append(report.nodeid)
        elif report.when == "call":
            outcomes["ran"].append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._config.getoption("--require-interop") and session.exitstatus == pytest.ExitCode.OK:
            outcomes = self._config.stash[_INTEROP_OUTCOMES]
            if outcomes["skipped"] or not outcomes["ran"]:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        outcomes = self._config.stash[_INTEROP_OUTCOMES]
        if not self._config.getoption("--require-interop"):
            return
        for nodeid in outcomes["skipped"]:
            terminalreporter.write_line(f"--require-interop: skipped: {nodeid}")
        if not outcomes["ran"]:
            terminalreporter.write_line("--require-interop: no interop test ran")
