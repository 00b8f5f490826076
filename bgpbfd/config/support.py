"""What the schema has and the daemon does not do yet: the one table to shrink as features come.

A path has ``[]`` for a list's index and ``*`` for a name of the user's choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

REASON = "is not supported yet"

Asks: TypeAlias = Callable[[object], bool]
"""Whether a value asks for the feature; one that only says "off" is taken."""


def _always(_value: object) -> bool:
    return True


def _unless_false(value: object) -> bool:
    return value is not False


def _unless_empty(value: object) -> bool:
    return value not in ([], {})


def _unless_off(value: object) -> bool:
    return value != "off"


def _unless_disabled(value: object) -> bool:
    return value is not False and not (isinstance(value, dict) and value.get("enabled") is False)


def _if_strict(value: object) -> bool:
    return value == "strict"


_BFD: dict[str, Asks] = {
    "demand": _unless_false,
    "echo": _unless_false,
    "echo_transmit_interval_ms": _always,
    "echo_receive_interval_ms": _always,
    "multihop": _unless_false,
    "minimum_ttl": _always,
    "control_plane_independent": _unless_false,
    "auth": _unless_empty,
}

_UNSUPPORTED: dict[str, Asks] = {
    "services": _unless_empty,
    "hooks": _unless_empty,
    "policies": _unless_empty,
    "api.token_file": _always,
    "api.metrics": _unless_false,
    "bfd.sessions": _unless_empty,
    "peers[].md5_password": _always,
    "peers[].md5_password_file": _always,
    "peers[].ttl_security": _unless_false,
    "peers[].multihop": _unless_false,
    "peers[].extended_next_hop": _unless_false,
    "peers[].add_path": _unless_off,
    "peers[].graceful_restart": _unless_disabled,
    "cluster_id": _always,
    "peers[].role": _always,
    "peers[].role_strict": _unless_false,
    "peers[].enforce_first_as": _always,
    "peers[].route_reflector_client": _unless_false,
    "peers[].graceful_shutdown": _unless_false,
    "peers[].max_neighbors": _always,
    "peers[].import_policy": _always,
    "peers[].export_policy": _always,
    "peers[].bfd.mode": _if_strict,
    **{f"{table}.{key}": asks for table in ("peers[].bfd", "bfd.profiles.*") for key, asks in _BFD.items()},
}


def listed(path: str) -> bool:
    """Whether the key's feature is missing, so that its value is refused or has no effect."""
    return path in _UNSUPPORTED


def refused(path: str, value: object) -> bool:
    """Whether the value asks for a feature that is not there."""
    asks = _UNSUPPORTED.get(path)
    return asks is not None and asks(value)
