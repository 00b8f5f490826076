"""Placeholder until the branch with it is merged."""

from __future__ import annotations

from random import Random

from bgpbfd.bfd.protocol import AuthKey
from bgpbfd.wire.bfd import Discard


class Authenticator:
    last_key_id: int | None = None

    def __init__(self, keys: tuple[AuthKey, ...], rng: Random) -> None:
        self.active = bool(keys)

    def change(self, keys: tuple[AuthKey, ...]) -> None:
        self.active = bool(keys)

    def sign(self, packet: bytes) -> bytes:
        return packet

    def verify(self, data: bytes, detect_mult: int) -> Discard | None:
        return None

    def forget(self) -> None:
        pass

    signing_type: str | None = None
    signing_key_id: int | None = None
