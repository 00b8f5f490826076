"""The BFD control packet (RFC 5880 §4.1) and the discards that need no session to decide (§6.8.6, first half).

``pull_control`` gives the packet or the reason it is thrown away, in the order of the RFC; nothing here raises on
what a peer sends. The TTL rule of RFC 5881 §5 needs the socket, and is applied by the demultiplexer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct

from bgpbfd.core import Micros
from bgpbfd.wire.iana import AuthType, BfdState

BFD_VERSION = 1
CONTROL_LENGTH = 24
AUTHENTICATED_LENGTH = 26
SINGLE_HOP_PORT = 3784
ECHO_PORT = 3785
MULTIHOP_PORT = 4784  # RFC 5883 §5
SOURCE_PORT_FIRST, SOURCE_PORT_LAST = 49152, 65535  # RFC 5881 §4
SINGLE_HOP_TTL = 255  # RFC 5881 §5

# RFC 5880 §4.2: Auth Type, Auth Len, Auth Key ID, then the password; §4.3, §4.4: Auth Type, Auth Len, Auth Key ID,
# Reserved, Sequence Number, then the digest. Auth Len counts all of it.
AUTH_PASSWORD_OFFSET = 3
AUTH_DIGEST_OFFSET = 8
AUTH_MD5_LENGTH = 24
AUTH_SHA1_LENGTH = 28
AUTH_KEY_LENGTH_MAX = {
    AuthType.SIMPLE: 16,
    AuthType.KEYED_MD5: AUTH_MD5_LENGTH - AUTH_DIGEST_OFFSET,
    AuthType.METICULOUS_KEYED_MD5: AUTH_MD5_LENGTH - AUTH_DIGEST_OFFSET,
    AuthType.KEYED_SHA1: AUTH_SHA1_LENGTH - AUTH_DIGEST_OFFSET,
    AuthType.METICULOUS_KEYED_SHA1: AUTH_SHA1_LENGTH - AUTH_DIGEST_OFFSET,
}

AUTH_TYPES = {
    "simple": AuthType.SIMPLE,
    "keyed-md5": AuthType.KEYED_MD5,
    "meticulous-keyed-md5": AuthType.METICULOUS_KEYED_MD5,
    "keyed-sha1": AuthType.KEYED_SHA1,
    "meticulous-keyed-sha1": AuthType.METICULOUS_KEYED_SHA1,
}
"""By the names that users know them by."""

AUTHENTICATION_PRESENT = 4  # the A bit, in the second octet
_POLL, _FINAL, _CONTROL_PLANE_INDEPENDENT, _DEMAND, _MULTIPOINT = 32, 16, 8, 2, 1
_CONTROL = Struct("!BBBBIIIII")


class Discard(StrEnum):
    """Why a received packet was thrown away; the values are the names of the counters."""

    TTL = "ttl"
    VERSION = "version"
    LENGTH = "length"
    TRUNCATED = "truncated"
    DETECT_MULT_ZERO = "detect-mult-zero"
    MULTIPOINT = "multipoint"
    MY_DISCRIMINATOR_ZERO = "my-discriminator-zero"
    POLL_AND_FINAL = "poll-and-final"
    UNKNOWN_DISCRIMINATOR = "unknown-discriminator"
    YOUR_DISCRIMINATOR_ZERO = "your-discriminator-zero"
    UNKNOWN_SESSION = "unknown-session"
    WRONG_INTERFACE = "wrong-interface"
    AUTHENTICATION = "authentication"  # there is a section, and the session has no keys
    AUTH_MISSING = "auth-missing"
    AUTH_TYPE = "auth-type"
    AUTH_KEY_ID = "auth-key-id"
    AUTH_LENGTH = "auth-length"
    AUTH_SEQUENCE = "auth-sequence"
    AUTH_DIGEST = "auth-digest"  # or the password
    ADMIN_DOWN = "admin-down"
    ECHO = "echo"
    OVERTAKEN = "overtaken"


def auth_key(text: str) -> bytes:
    """A key as it stands in the packet before padding: ``0x…`` is hex, all else is text.

    Raises ValueError, without the text, for what is no hex.
    """
    if text[:2] not in {"0x", "0X"}:
        return text.encode()
    if not re.fullmatch(r"([0-9A-Fa-f]{2})*", text[2:]):
        raise ValueError("expected hex digits after 0x, two an octet")
    return bytes.fromhex(text[2:])


@dataclass(slots=True)
class ControlPacket:
    """RFC 5880 §4.1. Intervals in µs; ``authentication``: the section behind the 24 bytes, None without the A bit."""

    state: BfdState
    detect_mult: int
    my_discriminator: int
    your_discriminator: int
    desired_min_tx_us: Micros
    required_min_rx_us: Micros
    required_min_echo_rx_us: Micros = 0
    diag: int = 0
    poll: bool = False
    final: bool = False
    control_plane_independent: bool = False
    demand: bool = False
    authentication: bytes | None = None


def pull_control(data: bytes) -> ControlPacket | Discard:
    """The packet in a UDP payload, or why it is discarded. Bytes behind Length are padding (RFC 9764)."""
    # RFC 5880 §6.8.6, one step a branch, in its order.
    if not data:
        return Discard.TRUNCATED
    if data[0] >> 5 != BFD_VERSION:
        return Discard.VERSION
    if len(data) < CONTROL_LENGTH:
        # Length is at fault or the payload is cut; it cannot be both right and whole.
        return Discard.LENGTH if len(data) > 3 and data[3] < CONTROL_LENGTH else Discard.TRUNCATED
    first, flags, detect_mult, length, my, your, desired_tx, required_rx, echo_rx = _CONTROL.unpack_from(data)
    if length < (AUTHENTICATED_LENGTH if flags & AUTHENTICATION_PRESENT else CONTROL_LENGTH):
        return Discard.LENGTH
    if length > len(data):
        return Discard.TRUNCATED
    if detect_mult == 0:
        return Discard.DETECT_MULT_ZERO
    if flags & _MULTIPOINT:
        return Discard.MULTIPOINT
    if my == 0:
        return Discard.MY_DISCRIMINATOR_ZERO
    if flags & (_POLL | _FINAL) == _POLL | _FINAL:
        # §6.5: a packet never carries both; which of the two was meant cannot be known.
        return Discard.POLL_AND_FINAL
    return ControlPacket(
        state=BfdState(flags >> 6),
        detect_mult=detect_mult,
        my_discriminator=my,
        your_discriminator=your,
        desired_min_tx_us=desired_tx,
        required_min_rx_us=required_rx,
        required_min_echo_rx_us=echo_rx,
        diag=first & 31,
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        control_plane_independent=bool(flags & _CONTROL_PLANE_INDEPENDENT),
        demand=bool(flags & _DEMAND),
        authentication=data[CONTROL_LENGTH:length] if flags & AUTHENTICATION_PRESENT else None,
    )


def push_control(packet: ControlPacket) -> bytes:
    """The packet's bytes; the A bit and Length follow from ``authentication``."""
    authentication = packet.authentication
    flags = packet.state << 6
    if packet.poll:
        flags |= _POLL
    if packet.final:
        flags |= _FINAL
    if packet.control_plane_independent:
        flags |= _CONTROL_PLANE_INDEPENDENT
    if packet.demand:
        flags |= _DEMAND
    if authentication is not None:
        flags |= AUTHENTICATION_PRESENT
    head = _CONTROL.pack(
        BFD_VERSION << 5 | packet.diag,
        flags,
        packet.detect_mult,
        CONTROL_LENGTH + len(authentication or b""),
        packet.my_discriminator,
        packet.your_discriminator,
        packet.desired_min_tx_us,
        packet.required_min_rx_us,
        packet.required_min_echo_rx_us,
    )
    return head + authentication if authentication else head
