"""Capabilities of the OPEN (RFC 5492): raw TLVs and what they say."""

from __future__ import annotations

from typing import NamedTuple


class Capability(NamedTuple):
    """One TLV as sent or received; ``code`` may be unknown to us."""

    code: int
    value: bytes = b""
