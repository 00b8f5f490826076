"""What the daemon's processes do not import: it would cost the start its time, and the host its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

MAIN = "from bgpbfd.lean import without_openssl\nwith without_openssl():\n    import bgpbfd.daemon\n"
SERVING = MAIN + "from bgpbfd.api import late\nlate._import_server()\n"
WORKER = "import bgpbfd.bfd.worker\n"
SIGNED = (
    "from random import Random\nfrom bgpbfd.bfd.auth import Authenticator\nfrom bgpbfd.bfd.protocol import AuthKey\n"
    "Authenticator((AuthKey(type='simple', key_id=1, key=b'x'),), Random(1))\n"
)


def imported(code: str, *flags: str) -> set[str]:
    """The modules that a process has after this."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        (MAIN, {"aiohttp", "jsonrpcserver", "jsonschema", "bgpbfd.api.server", "prometheus_client", "rich", "ssl"}),
        (SERVING, {"jsonschema", "prometheus_client", "rich", "ssl", "_ssl", "_hashlib"}),
        (WORKER, {"asyncio", "aiohttp", "hashlib", "hmac", "ssl", "logging", "subprocess", "bgpbfd.control"}),
    ],
    ids=["main until it serves the API", "main", "the BFD worker"],
)
def test_not_imported(code: str, unwanted: set[str]) -> None:
    assert not imported(code) & unwanted


def test_what_serves_the_api_is_imported_then() -> None:
    assert {"aiohttp", "jsonrpcserver", "bgpbfd.api.server"} <= imported(SERVING)


def test_the_worker_hashes_once_it_has_a_key() -> None:
    assert {"hashlib", "hmac"} <= imported(WORKER + SIGNED)


def test_openssl_can_be_imported_again_by_whom_needs_it() -> None:
    """prometheus_client does."""
    assert {"ssl", "prometheus_client"} <= imported(SERVING + "import bgpbfd.api.metrics\n")


def test_only_what_is_imported_without_openssl_misses_it() -> None:
    code = (
        "from bgpbfd.lean import without_openssl\n"
        "import http.client as before\n"
        "with without_openssl():\n"
        "    import http.client, urllib.request\n"
        "    assert http.client is before and hasattr(before, 'HTTPSConnection')\n"
        "import urllib.request\n"
        "assert hasattr(urllib.request, 'HTTPSHandler')\n"
    )
    assert "ssl" in imported(code)


def test_hashlib_hashes_without_openssl() -> None:
    code = (
        MAIN + "with without_openssl():\n    import hashlib\n"
        "assert hashlib.sha1(b'', usedforsecurity=False).hexdigest() == 'da39a3ee5e6b4b0d3255bfef95601890afd80709'\n"
        "assert hashlib.algorithms_guaranteed\n"
    )
    assert "_hashlib" not in imported(code)
