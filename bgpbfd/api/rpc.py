"""The one place that imports jsonrpcserver."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Version 5 reads its schema by a function that Python 3.11 calls deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonrpcserver import JsonRpcError, Result, Success
    from jsonrpcserver.async_main import dispatch_to_serializable

__all__ = ["JsonRpcError", "Result", "Success", "dispatch_to_serializable"]
