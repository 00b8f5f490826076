"""BGP messages: framing, OPEN, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH (RFC 4271 §4, RFC 2918, RFC 5492, RFC 9072)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from bgpbfd.core import Family
from bgpbfd.wire.buffer import Buffer, BufferReadError
from bgpbfd.wire.capabilities import Capability
from bgpbfd.wire.iana import (
    ErrorCode,
    HeaderSubcode,
    MessageType,
    OpenSubcode,
)

MARKER = b"\xff" * 16
HEADER_LENGTH = 19
MAX_LENGTH = 4096
EXTENDED_MAX_LENGTH = 65535  # RFC 8654 §3
KEEPALIVE = MARKER + b"\x00\x13\x04"

_HEADER = Struct("!16sHB")
_OPEN = Struct("!BHHIB")
_VERSION = 4
_CAPABILITIES_PARAMETER = 2  # RFC 5492 §4
_EXTENDED_PARAMETERS = 255  # RFC 9072 §2


class NotificationError(Exception):
    """A peer broke a rule that ends the session: what to put into the NOTIFICATION (RFC 4271 §6).

    ``octets``: what was received and is at fault, an attribute or an NLRI field, and ``attribute``: which one; for
    display, they are not sent.
    """

    def __init__(
        self,
        code: int,
        subcode: int,
        data: bytes = b"",
        reason: str = "",
        octets: bytes = b"",
        attribute: int | None = None,
    ) -> None:
        super().__init__(reason or f"{code}/{subcode}")
        self.code = code
        self.subcode = subcode
        self.data = data
        self.reason = reason
        self.octets = octets
        self.attribute = attribute


@dataclass(slots=True, frozen=True)
class Open:
    """RFC 4271 §4.2. ``asn`` is the 2-octet field; ``hold_time`` in s; ``router_id`` as an unsigned 32-bit number."""

    asn: int
    hold_time: int
    router_id: int
    capabilities: tuple[Capability, ...] = ()
    version: int = 4


@dataclass(slots=True, frozen=True)
class Notification:
    code: int
    subcode: int
    data: bytes = b""


@dataclass(slots=True, frozen=True)
class RouteRefresh:
    family: Family
    subtype: int = 0


class MessageReader:
    """Cuts a TCP stream into messages and checks their headers (RFC 4271 §4.1, §6.1).

    ``extended``: we have sent the Extended Message capability, so that the peer may send up to 65535 octets in
    anything but OPEN and KEEPALIVE (RFC 8654 §4).
    """

    __slots__ = ("_available", "_data", "_needed", "_pending", "_position", "extended")

    def __init__(self) -> None:
        self.extended = False
        self._data = b""
        self._position = 0
        self._pending: list[bytes] = []  # joined to _data only once a whole header or message is there
        self._available = 0
        self._needed = HEADER_LENGTH

    def feed(self, data: bytes) -> None:
        """Append what the connection delivered, in pieces of any size."""
        if data:
            self._pending.append(data)
            self._available += len(data)

    def next_message(self) -> tuple[int, bytes] | None:
        """The next whole message as (type, body without header), None while it is incomplete.

        Raises NotificationError 1/1, 1/2 or 1/3 as soon as the header shows the fault, and again at every later call.
        """
        if self._available < self._needed:
            return None
        if self._pending and len(self._data) - self._position < self._needed:
            self._join()
        marker, length, kind = _HEADER.unpack_from(self._data, self._position)
        if marker != MARKER:
            raise NotificationError(
                ErrorCode.MESSAGE_HEADER, HeaderSubcode.CONNECTION_NOT_SYNCHRONIZED, b"", "the marker is not all ones"
            )
        if not _SHORTEST[kind] <= length <= (_LONGEST_EXTENDED if self.extended else _LONGEST)[kind]:
            raise _bad_length(length)
        if kind not in _KINDS:
            raise NotificationError(
                ErrorCode.MESSAGE_HEADER,
                HeaderSubcode.BAD_MESSAGE_TYPE,
                bytes((kind,)),
                f"message type {kind} is unknown",
            )
        if self._available < length:
            self._needed = length
            return None
        if len(self._data) - self._position < length:
            self._join()
        start = self._position
        self._position = end = start + length
        self._available -= length
        self._needed = HEADER_LENGTH
        return kind, self._data[start + HEADER_LENGTH : end]

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """All whole messages, one after the other, as ``next_message`` has them.

        Of a full table nearly all messages are UPDATEs that lie in one piece: they are cut out here.
        """
        while True:
            data, position = self._data, self._position
            end = len(data) - HEADER_LENGTH
            longest = EXTENDED_MAX_LENGTH if self.extended else MAX_LENGTH
            while position <= end:
                marker, length, kind = _HEADER.unpack_from(data, position)
                following = position + length
                if (
                    kind != _UPDATE
                    or not _SHORTEST_UPDATE <= length <= longest
                    or following > end + HEADER_LENGTH
                    or marker != MARKER
                ):
                    break
                self._position = following
                self._available -= length
                self._needed = HEADER_LENGTH
                yield _UPDATE, data[position + HEADER_LENGTH : following]
                position = following
            message = self.next_message()
            if message is None:
                return
            yield message

    def header(self) -> bytes:
        """That of the message at which next_message has raised, for display."""
        return self._data[self._position : self._position + HEADER_LENGTH]

    def _join(self) -> None:
        rest = self._data[self._position :]
        self._data = b"".join((rest, *self._pending)) if rest or len(self._pending) > 1 else self._pending[0]
        self._position = 0
        self._pending.clear()


_UPDATE = int(MessageType.UPDATE)
_SHORTEST_UPDATE = 23
_KINDS = frozenset(int(kind) for kind in MessageType)
_SHORTEST = [HEADER_LENGTH] * 256
_SHORTEST[MessageType.OPEN] = 29
_SHORTEST[MessageType.UPDATE] = _SHORTEST_UPDATE
_SHORTEST[MessageType.NOTIFICATION] = 21
_SHORTEST[MessageType.ROUTE_REFRESH] = 23
_LONGEST = [MAX_LENGTH] * 256
_LONGEST[MessageType.KEEPALIVE] = HEADER_LENGTH
_LONGEST_EXTENDED = [EXTENDED_MAX_LENGTH] * 256
_LONGEST_EXTENDED[MessageType.OPEN] = MAX_LENGTH
_LONGEST_EXTENDED[MessageType.KEEPALIVE] = HEADER_LENGTH


def _bad_length(length: int) -> NotificationError:
    return NotificationError(
        ErrorCode.MESSAGE_HEADER,
        HeaderSubcode.BAD_MESSAGE_LENGTH,
        (length & 0xFFFF).to_bytes(2, "big"),
        f"message length {length}",
    )


def encode_message(kind: int, body: bytes) -> bytes:
    """A whole message: header and ``body``."""
    return MARKER + (HEADER_LENGTH + len(body)).to_bytes(2, "big") + bytes((kind,)) + body


def decode_open(body: bytes) -> Open:
    """RFC 4271 §4.2, RFC 5492 §4, RFC 9072 §2: syntax and version; what the values mean is for the negotiation.

    Raises NotificationError 1/2, 2/0, 2/1 or 2/4.
    """
    if len(body) < _OPEN.size:
        raise _bad_length(HEADER_LENGTH + len(body))
    version, asn, hold_time, router_id, parameters_length = _OPEN.unpack_from(body)
    if version != _VERSION:
        # RFC 4271 §6.2: the Data is the largest version that we support
        raise NotificationError(
            ErrorCode.OPEN_MESSAGE,
            OpenSubcode.UNSUPPORTED_VERSION_NUMBER,
            _VERSION.to_bytes(2, "big"),
            f"version {version}",
        )
    try:
        capabilities = _pull_parameters(body[_OPEN.size :], parameters_length)
    except BufferReadError as error:
        raise _malformed_open(str(error)) from error
    return Open(asn, hold_time, router_id, capabilities, version)


def _malformed_open(reason: str) -> NotificationError:
    return NotificationError(
        ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSPECIFIC, b"", f"malformed optional parameters: {reason}"
    )


def _pull_parameters(data: bytes, length: int) -> tuple[Capability, ...]:
    buffer = Buffer(data)
    # RFC 9072 §2: a parameter of type 255 right after a length that is not 0 announces two-octet lengths
    extended = bool(length and data[:1] == bytes((_EXTENDED_PARAMETERS,)))
    if extended:
        buffer.pull_uint8()
        length = buffer.pull_uint16()
    if length != len(buffer):
        raise _malformed_open(f"their length says {length}, {len(buffer)} octets are there")
    capabilities: list[Capability] = []
    while buffer:
        kind = buffer.pull_uint8()
        value = buffer.pull_bytes(buffer.pull_uint16() if extended else buffer.pull_uint8())
        if kind != _CAPABILITIES_PARAMETER:
            raise NotificationError(
                ErrorCode.OPEN_MESSAGE,
                OpenSubcode.UNSUPPORTED_OPTIONAL_PARAMETER,
                b"",
                f"optional parameter {kind} is unknown",
            )
        parameter = Buffer(value)
        while parameter:
            code = parameter.pull_uint8()
            capabilities.append(Capability(code, parameter.pull_bytes(parameter.pull_uint8())))
    return tuple(capabilities)


def encode_open(o: Open) -> bytes:
    """The whole message: all capabilities in one parameter, in the form of RFC 9072 only when they need it.

    Raises ValueError when a capability is longer than 255 octets or the message longer than 4096.
    """
    tlvs = b"".join(bytes((c.code, len(c.value))) + c.value for c in o.capabilities)
    if not tlvs:
        length, parameters = 0, b""
    elif len(tlvs) <= 253:
        length, parameters = len(tlvs) + 2, bytes((_CAPABILITIES_PARAMETER, len(tlvs))) + tlvs
    else:
        value = bytes((_CAPABILITIES_PARAMETER,)) + len(tlvs).to_bytes(2, "big") + tlvs
        length, parameters = 255, bytes((_EXTENDED_PARAMETERS,)) + len(value).to_bytes(2, "big") + value
    body = _OPEN.pack(o.version, o.asn, o.hold_time, o.router_id, length) + parameters
    if HEADER_LENGTH + len(body) > MAX_LENGTH:
        raise ValueError(f"an OPEN of {HEADER_LENGTH + len(body)} octets is too long")
    return encode_message(MessageType.OPEN, body)


def decode_notification(body: bytes) -> Notification:
    """RFC 4271 §4.5. Raises NotificationError 1/2, which is not to be sent (§6.4)."""
    if len(body) < 2:
        raise _bad_length(HEADER_LENGTH + len(body))
    return Notification(body[0], body[1], body[2:])


def encode_notification(n: Notification) -> bytes:
    """The whole message; Data is cut to what 4096 octets hold."""
    data = n.data[: MAX_LENGTH - HEADER_LENGTH - 2]
    return encode_message(MessageType.NOTIFICATION, bytes((n.code, n.subcode)) + data)


def decode_route_refresh(body: bytes) -> RouteRefresh:
    """RFC 2918 §3, RFC 7313 §3.2. Outbound route filters after a plain request are ignored.

    Raises NotificationError 1/2, or 7/1 for a BoRR or EoRR of the wrong length.
    """
    if len(body) < 4:
        raise _bad_length(HEADER_LENGTH + len(body))
    subtype = body[2]
    if subtype in {1, 2} and len(body) != 4:
        # RFC 7313 §5: the Data is the complete message
        raise NotificationError(
            ErrorCode.ROUTE_REFRESH,
            1,
            encode_message(MessageType.ROUTE_REFRESH, body),
            f"ROUTE-REFRESH subtype {subtype} with {len(body)} octets",
        )
    return RouteRefresh(Family(body[0] << 8 | body[1], body[3]), subtype)


def encode_route_refresh(r: RouteRefresh) -> bytes:
    body = r.family.afi.to_bytes(2, "big") + bytes((r.subtype, r.family.safi))
    return encode_message(MessageType.ROUTE_REFRESH, body)


def encode_shutdown_communication(text: str, limit: int = 128) -> bytes:
    """Data of Cease 6/2 and 6/4 (RFC 9003 §2): length octet and UTF-8, cut between characters to ``limit`` octets.

    Empty text gives no Data.
    """
    raw = text.encode("utf-8", "replace")[: min(limit, 255)].decode("utf-8", "ignore").encode()
    return bytes((len(raw),)) + raw if raw else b""


def encode_prefix_limit(family: Family, limit: int) -> bytes:
    """Data of Cease 6/1 (RFC 4486 §4): the family and how many of its prefixes are too many."""
    return family.afi.to_bytes(2, "big") + bytes((family.safi,)) + min(limit, 0xFFFFFFFF).to_bytes(4, "big")
