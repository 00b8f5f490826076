"""Interop tests need root, namespaces and the peers' packages; without them they are skipped, each with its reason."""

from __future__ import annotations

import os
import shutil

import pytest

from .harness.lab import remove_leftovers
from .harness.peers import PEERS

_TOOLS = {"ip": "iproute2", "sysctl": "procps", "nft": "nftables", "tcpdump": "tcpdump", "tshark": "tshark"}


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
        if item.get_closest_marker("interop") is None or "interop" not in item.path.parts:
            continue
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        name = parameters.get("name")
        why = reason or (missing.get(name) if isinstance(name, str) else None)
        if why:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> None:
    if why_not() is None:
        remove_leftovers()
