"""What the schema has and the daemon does not do yet: the one table to shrink as features come.

A path has ``[]`` for a list's index and ``*`` for a name of the user's choice.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TypeAlias

REASON = "is not supported yet"
TCP_AO_INFO = 40  # linux/tcp.h, since Linux 6.7

Asks: TypeAlias = Callable[[object], bool]
"""Whether a value asks for the feature; one that only says "off" is taken."""


def _always(_value: object) -> bool:
    return True


def _unless_empty(value: object) -> bool:
    return value not in ([], {})


_UNSUPPORTED: dict[str, Asks] = {
    "services": _unless_empty,
    "api.token_file": _always,
    "peers[].tcp_ao": _always,
}

HOOK_EVENTS = ("service-up", "service-down")
"""Events of hooks that nothing makes yet."""


def listed(path: str) -> bool:
    """Whether the key's feature is missing, so that its value is refused or has no effect."""
    return path in _UNSUPPORTED


def refusal(path: str, value: object) -> str | None:
    """Why the value is refused, where it asks for a feature that is not there."""
    asks = _UNSUPPORTED.get(path)
    if asks is None or not asks(value):
        return None
    return tcp_ao_refusal(kernel_has_tcp_ao()) if path == "peers[].tcp_ao" else REASON


def tcp_ao_refusal(in_kernel: bool) -> str:
    """RFC 5925: what to do instead, and whether a newer kernel would be part of it."""
    if in_kernel:
        return f"{REASON}: use md5_password"
    return "this kernel has no TCP-AO (Linux 6.7 with CONFIG_TCP_AO): use md5_password"


def kernel_has_tcp_ao() -> bool:
    """Whether the kernel knows the socket option at all; with TCP-AO it knows of no key on a new socket (ENOENT)."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.getsockopt(socket.IPPROTO_TCP, TCP_AO_INFO, 128)
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT
    return True
