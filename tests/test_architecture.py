"""The rules of the house that a reviewer would otherwise have to watch: layers, module size, forbidden idioms."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "bgpbfd").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
LONGEST = 560  # "about 500"

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def test_layers_import_downwards_only() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 20


@each_module
def test_module_is_not_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


@each_module
def test_module_has_no_forbidden_idiom(path: Path) -> None:
    """No TYPE_CHECKING (the layering would be wrong), no bare except."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        assert name != "TYPE_CHECKING", f"line {node.lineno}"  # type: ignore[attr-defined]
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"


CORES = ["wire", "policy", "bgp", "rib", "core.py"]
FORBIDDEN_IN_CORES = {"socket", "asyncio", "time", "logging", "select", "threading", "os"}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(ROOT).parts[1] in CORES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_cores_open_no_socket_and_read_no_clock(path: Path) -> None:
    """Sans-IO: time and randomness are passed in, as an argument and as a ``random.Random``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {str(node.module).split(".", maxsplit=1)[0]}
        else:
            continue
        assert not names & FORBIDDEN_IN_CORES, f"line {node.lineno}: {names}"
