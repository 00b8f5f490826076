"""Imports without OpenSSL."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BUILT_IN_HASHES = ("_md5", "_sha1", "_blake2", "_sha3")
_LESS_WITHOUT_TLS = ("http.client", "urllib.request")


@contextmanager
def without_openssl() -> Iterator[None]:
    """What is imported in here, by any thread, finds a Python that was built without OpenSSL, which would be 8 MB.

    asyncio, aiohttp, hashlib and what they import load it if it is there, and nobody in the main process needs it: no
    TLS is spoken, and it is the BFD worker that hashes. Who imports ``ssl`` later gets it.
    """
    before = set(sys.modules)
    hidden = ["ssl"]
    if all(map(importlib.util.find_spec, _BUILT_IN_HASHES)):  # hashlib needs them then; some distributions have none
        hidden.append("_hashlib")
    hidden = [name for name in hidden if name not in before]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        # Those two have less in them now than others (prometheus_client) may import by name: they get new ones.
        for name in {*hidden, *_LESS_WITHOUT_TLS} - before:
            sys.modules.pop(name, None)
