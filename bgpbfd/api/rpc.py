"""The one place that imports jsonrpcserver.

It makes a validator of its schema as a default that is not used here (each call is checked before): jsonschema for
that is 3 MB, and a sixth of what the API takes to import. An idle stand-in takes its place while it is imported.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class _Validator:
    """What ``jsonrpcserver.main`` asks of a class of jsonschema's. Refuses all: it is not meant to be used."""

    def __init__(self, schema: Any) -> None:
        pass

    @staticmethod
    def check_schema(schema: Any) -> None:
        pass

    def validate(self, request: Any) -> None:
        raise NotImplementedError("jsonrpcserver's own validator; pass another")


@contextlib.contextmanager
def _without_jsonschema() -> Iterator[None]:
    package, validators = ModuleType("jsonschema"), ModuleType("jsonschema.validators")
    validators.validator_for = lambda schema: _Validator  # type: ignore[attr-defined]
    hidden = {module.__name__: module for module in (package, validators)}
    if not hidden.keys().isdisjoint(sys.modules):  # it is here: nothing is to be gained
        yield
        return
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with warnings.catch_warnings(), _without_jsonschema():
    # Version 5 reads its schema by a function that Python 3.11 calls deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonrpcserver import JsonRpcError, Result, Success
    from jsonrpcserver.async_main import dispatch_to_serializable

__all__ = ["JsonRpcError", "Result", "Success", "dispatch_to_serializable"]
