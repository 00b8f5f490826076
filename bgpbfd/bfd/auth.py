"""Authentication of control packets (RFC 5880 §4.2–4.4, §6.7), sans-IO.

The digest is a plain hash over the whole packet with the key, padded with zeros, in the place of the digest: no HMAC.
Packet, section and key together fill one block of MD5 or SHA1, so that a packet costs one hash and nothing can be
hashed in advance. Where the sequence number need not move (simple, keyed), a repeated packet costs a comparison.

What makes a key unusable raises ValueError, without the key in the text, before anything has changed: no such key
ever signs or verifies, and no session goes on without authentication because its key was unusable.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from bgpbfd.bfd.protocol import AuthKey
from bgpbfd.wire.bfd import (
    AUTH_DIGEST_OFFSET,
    AUTH_KEY_LENGTH_MAX,
    AUTH_PASSWORD_OFFSET,
    AUTH_TYPES,
    AUTHENTICATION_PRESENT,
    CONTROL_LENGTH,
    Discard,
)
from bgpbfd.wire.iana import AuthType

_Hash: TypeAlias = Callable[[bytes], bytes]
_Equal: TypeAlias = Callable[[bytes, bytes], bool]


@functools.cache
def _crypto() -> tuple[dict[AuthType, _Hash], _Equal]:
    """The hashes, and the comparison that tells nothing by its time. Not before there is a key: OpenSSL is 4 MB."""
    import hashlib
    from hmac import compare_digest

    equal: _Equal = compare_digest

    def md5(data: bytes) -> bytes:
        # RFC 5880 leaves no choice of the hash: the flag admits it on hosts that ban it elsewhere, and costs less.
        return hashlib.md5(data, usedforsecurity=False).digest()

    def sha1(data: bytes) -> bytes:
        return hashlib.sha1(data, usedforsecurity=False).digest()

    hashes: dict[AuthType, _Hash] = {
        AuthType.KEYED_MD5: md5,
        AuthType.METICULOUS_KEYED_MD5: md5,
        AuthType.KEYED_SHA1: sha1,
        AuthType.METICULOUS_KEYED_SHA1: sha1,
    }
    return hashes, equal


_METICULOUS = {AuthType.METICULOUS_KEYED_MD5, AuthType.METICULOUS_KEYED_SHA1}

_TYPE_AT, _LENGTH_AT, _KEY_ID_AT = CONTROL_LENGTH, CONTROL_LENGTH + 1, CONTROL_LENGTH + 2
_PASSWORD_AT = CONTROL_LENGTH + AUTH_PASSWORD_OFFSET
_SEQUENCE_AT = CONTROL_LENGTH + 4
_DIGEST_AT = CONTROL_LENGTH + AUTH_DIGEST_OFFSET
_SEQUENCE_MASK = 0xFFFFFFFF


@dataclass(slots=True)
class _Key:
    """An AuthKey made ready. ``secret``: as it stands in the packet, padded; ``section``: what stands before."""

    name: str
    key_id: int
    meticulous: bool
    hash: _Hash | None
    equal: _Equal
    section_length: int
    section: bytes
    secret: bytes = field(repr=False)


def _ready(key: AuthKey) -> _Key:
    auth_type = AUTH_TYPES.get(key.type)
    if auth_type is None:
        raise ValueError(f"unknown authentication type {key.type!r}")
    if not 0 <= key.key_id <= 255:
        raise ValueError(f"authentication key ID {key.key_id} is not between 0 and 255")
    longest = AUTH_KEY_LENGTH_MAX[auth_type]
    if not 1 <= len(key.key) <= longest:
        raise ValueError(
            f"authentication key {key.key_id} ({key.type}) has {len(key.key)} octets, not between 1 and {longest}"
        )
    if auth_type is AuthType.SIMPLE:
        secret, length, reserved = key.key, AUTH_PASSWORD_OFFSET + len(key.key), b""
    else:
        secret, length, reserved = key.key.ljust(longest, b"\0"), AUTH_DIGEST_OFFSET + longest, b"\0"
    hashes, equal = _crypto()
    return _Key(
        name=key.type,
        key_id=key.key_id,
        meticulous=auth_type in _METICULOUS,
        hash=hashes.get(auth_type),
        equal=equal,
        section_length=length,
        section=bytes((auth_type, length, key.key_id)) + reserved,
        secret=secret,
    )


class Authenticator:
    """What a session signs with and what it accepts; one a session, with bfd.XmitAuthSeq and bfd.RcvAuthSeq.

    ``last_key_id``: of the last packet that was accepted.
    """

    __slots__ = (
        "_accepted",
        "_auth_seq_known",
        "_content",
        "_head",
        "_keys",
        "_rcv_auth_seq",
        "_signed",
        "_signing",
        "_xmit_auth_seq",
        "last_key_id",
    )

    def __init__(self, keys: tuple[AuthKey, ...], rng: Random) -> None:
        """The first key signs, each is accepted; none: no authentication. ValueError: a key that cannot be used."""
        self._xmit_auth_seq = rng.getrandbits(32)  # §6.8.1: MUST be random
        self._rcv_auth_seq = 0
        self._auth_seq_known = False
        self.last_key_id: int | None = None
        self.change(keys)

    def change(self, keys: tuple[AuthKey, ...]) -> None:
        """Other keys from now on; the sequence numbers go on, as the session does. ValueError: nothing has changed."""
        ready = [_ready(key) for key in keys]
        by_id = {(key.section[0], key.key_id): key for key in ready}
        if len(by_id) < len(ready):
            raise ValueError("two authentication keys have the same type and key ID")
        self._keys = by_id
        self._signing = ready[0] if ready else None
        if not any(key.hash for key in ready):
            # The remote's number is no longer followed. Held on to, it would refuse a remote that comes back to a
            # digest with another one, and as packets without a number are accepted meanwhile, no silence clears it.
            self._auth_seq_known = False
        if not ready:
            self.last_key_id = None
        self._content: bytes | None = None  # the packet signed last, as it was handed in,
        self._head = b""  # up to its sequence number,
        self._signed = b""  # and whole
        self._accepted: bytes | None = None  # the packet accepted last, where accepting it again needs no look

    @property
    def active(self) -> bool:
        """Whether bfd.AuthType is not zero."""
        return self._signing is not None

    @property
    def signing_type(self) -> str | None:
        return self._signing.name if self._signing else None

    @property
    def signing_key_id(self) -> int | None:
        return self._signing.key_id if self._signing else None

    def section_length(self) -> int:
        """The octets that ``sign`` appends."""
        return self._signing.section_length if self._signing else 0

    def sign(self, packet: bytes | bytearray) -> bytes:
        """The packet to send, from its first 24 octets with the A bit clear; A bit and Length are set here."""
        key = self._signing
        if key is None:
            return bytes(packet)
        if packet != self._content:
            if len(packet) != CONTROL_LENGTH:
                raise ValueError(f"a control packet has {CONTROL_LENGTH} octets before it is signed, not {len(packet)}")
            head = bytearray(packet)
            head[1] |= AUTHENTICATION_PRESENT
            head[3] = CONTROL_LENGTH + key.section_length
            self._content = bytes(packet)
            self._head = bytes(head) + key.section
        elif not key.meticulous:
            # §6.7.3, §6.7.4: the number SHOULD move when the contents do. Moving it oftener would shut out no more
            # than copies that say what the last packet says, and that one can be replayed anyway.
            return self._signed
        if key.hash is None:
            self._signed = self._head + key.secret
            return self._signed
        self._xmit_auth_seq = (self._xmit_auth_seq + 1) & _SEQUENCE_MASK
        body = self._head + self._xmit_auth_seq.to_bytes(4, "big")
        self._signed = body + key.hash(body + key.secret)
        return self._signed

    def verify(self, data: bytes) -> Discard | None:
        """Why a received packet is discarded, or None (RFC 5880 §6.8.6 from the A bit on, §6.7.2–6.7.4).

        ``data``: what ``pull_control`` took; octets behind Length do not count. Nothing of what a discarded packet
        says is kept.
        """
        if data == self._accepted:
            return None
        if len(data) < CONTROL_LENGTH or not data[1] & AUTHENTICATION_PRESENT:
            return Discard.AUTH_MISSING if self._keys else None
        if not self._keys:
            return Discard.AUTHENTICATION
        data = data[: data[3]]
        if len(data) < _PASSWORD_AT:
            return Discard.AUTH_LENGTH
        key = self._keys.get((data[_TYPE_AT], data[_KEY_ID_AT]))
        if key is None:
            known = any(auth_type == data[_TYPE_AT] for auth_type, _ in self._keys)
            return Discard.AUTH_KEY_ID if known else Discard.AUTH_TYPE
        if data[_LENGTH_AT] != key.section_length or len(data) != CONTROL_LENGTH + key.section_length:
            # The section ends where the packet does: §4.1 has nothing behind it.
            return Discard.AUTH_LENGTH
        if key.hash is None:
            if not key.equal(data[_PASSWORD_AT:], key.secret):
                return Discard.AUTH_DIGEST
        else:
            sequence = int.from_bytes(data[_SEQUENCE_AT:_DIGEST_AT], "big")
            if self._auth_seq_known:
                # "Detect Mult" is the packet's field; were ours meant, it would be written bfd.DetectMult (§6.8.1).
                ahead = (sequence - self._rcv_auth_seq) & _SEQUENCE_MASK
                if ahead > 3 * data[2] or (key.meticulous and not ahead):
                    return Discard.AUTH_SEQUENCE
            if not key.equal(key.hash(data[:_DIGEST_AT] + key.secret), data[_DIGEST_AT:]):
                return Discard.AUTH_DIGEST
            # DEVIATES RFC 5880 §6.7.3, §6.7.4: taken over after the digest was found right, not before, and a first
            # packet needs a right digest with SHA1 too. Else anybody could set the number, and shut the remote out.
            self._rcv_auth_seq = sequence
            self._auth_seq_known = True
        self.last_key_id = key.key_id
        self._accepted = None if key.meticulous else data
        return None

    def forget(self) -> None:
        """bfd.AuthSeqKnown is 0 again, so that a restarted remote is heard.

        RFC 5880 §6.8.1: after twice the detection time without a packet that was accepted; a discarded one does not
        put it off, or those of the restarted remote would.
        """
        self._auth_seq_known = False
        self._accepted = None
