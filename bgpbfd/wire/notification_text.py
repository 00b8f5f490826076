"""NOTIFICATIONs in words: codes, subcodes, and what their Data says (RFC 4271 §6, RFC 4486 §4, RFC 5492 §5, RFC 6608,
RFC 7313 §5, RFC 8538 §3.1, RFC 9003).

Data comes from the peer: whatever it holds, the words are short, printable, and nothing is raised.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from bgpbfd.core import Family
from bgpbfd.wire.buffer import Buffer, BufferReadError, clean_text
from bgpbfd.wire.capabilities import Capability, describe_capability
from bgpbfd.wire.iana import (
    AttributeCode,
    CeaseSubcode,
    ErrorCode,
    FsmSubcode,
    HeaderSubcode,
    MessageType,
    OpenSubcode,
    UpdateSubcode,
)
from bgpbfd.wire.messages import Notification, decode_notification

LONGEST = 240  # characters of what Data says

_CODE_NAMES: dict[int, str] = {
    ErrorCode.MESSAGE_HEADER: "Message Header Error",
    ErrorCode.OPEN_MESSAGE: "OPEN Message Error",
    ErrorCode.UPDATE_MESSAGE: "UPDATE Message Error",
    ErrorCode.HOLD_TIMER_EXPIRED: "Hold Timer Expired",
    ErrorCode.FSM: "Finite State Machine Error",
    ErrorCode.CEASE: "Cease",
    ErrorCode.ROUTE_REFRESH: "ROUTE-REFRESH Message Error",
    ErrorCode.SEND_HOLD_TIMER_EXPIRED: "Send Hold Timer Expired",
}
_SUBCODE_NAMES: dict[tuple[int, int], str] = {
    (ErrorCode.MESSAGE_HEADER, HeaderSubcode.CONNECTION_NOT_SYNCHRONIZED): "Connection Not Synchronized",
    (ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_LENGTH): "Bad Message Length",
    (ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_TYPE): "Bad Message Type",
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_VERSION_NUMBER): "Unsupported Version Number",
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.BAD_PEER_AS): "Bad Peer AS",
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.BAD_BGP_IDENTIFIER): "Bad BGP Identifier",
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_OPTIONAL_PARAMETER): "Unsupported Optional Parameter",
    (ErrorCode.OPEN_MESSAGE, 5): "Authentication Failure",  # deprecated, as 3/7
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNACCEPTABLE_HOLD_TIME): "Unacceptable Hold Time",
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_CAPABILITY): "Unsupported Capability",
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.ROLE_MISMATCH): "Role Mismatch",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.MALFORMED_ATTRIBUTE_LIST): "Malformed Attribute List",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE): "Unrecognized Well-known Attribute",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE): "Missing Well-known Attribute",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.ATTRIBUTE_FLAGS): "Attribute Flags Error",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.ATTRIBUTE_LENGTH): "Attribute Length Error",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.INVALID_ORIGIN): "Invalid ORIGIN Attribute",
    (ErrorCode.UPDATE_MESSAGE, 7): "AS Routing Loop",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.INVALID_NEXT_HOP): "Invalid NEXT_HOP Attribute",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.OPTIONAL_ATTRIBUTE): "Optional Attribute Error",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.INVALID_NETWORK_FIELD): "Invalid Network Field",
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.MALFORMED_AS_PATH): "Malformed AS_PATH",
    (ErrorCode.FSM, FsmSubcode.OPEN_SENT): "Unexpected Message in OpenSent State",
    (ErrorCode.FSM, FsmSubcode.OPEN_CONFIRM): "Unexpected Message in OpenConfirm State",
    (ErrorCode.FSM, FsmSubcode.ESTABLISHED): "Unexpected Message in Established State",
    (ErrorCode.CEASE, CeaseSubcode.MAXIMUM_PREFIXES): "Maximum Number of Prefixes Reached",
    (ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN): "Administrative Shutdown",
    (ErrorCode.CEASE, CeaseSubcode.PEER_DECONFIGURED): "Peer De-configured",
    (ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_RESET): "Administrative Reset",
    (ErrorCode.CEASE, CeaseSubcode.CONNECTION_REJECTED): "Connection Rejected",
    (ErrorCode.CEASE, CeaseSubcode.CONFIGURATION_CHANGE): "Other Configuration Change",
    (ErrorCode.CEASE, CeaseSubcode.CONNECTION_COLLISION): "Connection Collision Resolution",
    (ErrorCode.CEASE, CeaseSubcode.OUT_OF_RESOURCES): "Out of Resources",
    (ErrorCode.CEASE, CeaseSubcode.HARD_RESET): "Hard Reset",
    (ErrorCode.CEASE, CeaseSubcode.BFD_DOWN): "BFD Down",
    (ErrorCode.ROUTE_REFRESH, 1): "Invalid Message Length",
}


def describe_notification(n: Notification) -> str:
    """One line for people: names where we have them, numbers elsewhere, and what the Data says where that is known."""
    name = _CODE_NAMES.get(n.code)
    if name is None:
        return f"code {n.code}, subcode {n.subcode}"
    subname = _SUBCODE_NAMES.get((n.code, n.subcode))
    if subname is not None:
        name = f"{name}, {subname}"
    elif n.subcode:
        name = f"{name}, subcode {n.subcode}"
    if n.code == ErrorCode.CEASE and n.subcode == CeaseSubcode.HARD_RESET and len(n.data) >= 2:
        wrapped = decode_notification(n.data)
        if wrapped.code == ErrorCode.CEASE and wrapped.subcode == CeaseSubcode.HARD_RESET:
            return name  # RFC 8538 §3.1 wraps once
        return f"{name} ({describe_notification(wrapped)})"
    message = shutdown_communication(n)
    if message is not None:
        return f'{name}: "{message}"'
    said = _describe_data(n)
    return f"{name}: {said}" if said else name


def shutdown_communication(n: Notification) -> str | None:
    """What the operator at the other end wrote, fit for display; None without a message. Looks into a hard reset."""
    if n.code != ErrorCode.CEASE:
        return None
    if n.subcode == CeaseSubcode.HARD_RESET and len(n.data) >= 2:
        wrapped = decode_notification(n.data)
        return None if wrapped.subcode == CeaseSubcode.HARD_RESET else shutdown_communication(wrapped)
    if n.subcode not in {CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, CeaseSubcode.ADMINISTRATIVE_RESET} or not n.data:
        return None
    return clean_text(n.data[1 : 1 + n.data[0]]) or None


# -- Data --------------------------------------------------------------------------------------------------


def _describe_data(n: Notification) -> str | None:
    """None where there is nothing, or nothing that the RFCs give a meaning to: it is shown in hex elsewhere."""
    describe = _DATA.get((n.code, n.subcode)) or _DATA.get((n.code, None))
    if describe is None or not n.data:
        return None
    try:
        text = describe(n.data)
    except BufferReadError:
        return None
    return text if text is None or len(text) <= LONGEST else text[:LONGEST] + "…"


def _length(data: bytes) -> str | None:
    return f"length {int.from_bytes(data)}" if len(data) == 2 else None


def _type(data: bytes) -> str | None:
    kind = data[0]
    name = next((known.name.replace("_", "-") for known in MessageType if known == kind), f"type {kind}")
    return name if len(data) == 1 else None


def _version(data: bytes) -> str | None:
    # RFC 4271 §6.2 says two octets, most significant first; some send them swapped, some only one.
    return f"supported is version {max(data)}" if len(data) <= 2 else None


def _asn(data: bytes) -> str | None:
    return f"AS {int.from_bytes(data)}" if len(data) in {2, 4} else None


def _identifier(data: bytes) -> str | None:
    return str(ipaddress.IPv4Address(data)) if len(data) == 4 else None


def _hold_time(data: bytes) -> str | None:
    return f"{int.from_bytes(data)} s" if len(data) == 2 else None


def _capabilities(data: bytes) -> str | None:
    """RFC 5492 §5: the capabilities that the peer wants to see, as in an OPEN."""
    buffer = Buffer(data)
    words: list[str] = []
    length = 0
    while buffer and length <= LONGEST:
        words.append(describe_capability(Capability(buffer.pull_uint8(), buffer.pull_bytes(buffer.pull_uint8()))))
        length += len(words[-1])
    return ", ".join(words)


def _attribute(data: bytes) -> str | None:
    """RFC 4271 §6.3: the attribute, its flags and length before its value."""
    return _attribute_name(data[1]) if len(data) >= 3 else None


def _missing_attribute(data: bytes) -> str | None:
    return _attribute_name(data[0]) if len(data) == 1 else None


def _attribute_name(code: int) -> str:
    return next((known.name for known in AttributeCode if known == code), f"attribute {code}")


def _prefix_limit(data: bytes) -> str | None:
    """RFC 4486 §4."""
    if len(data) != 7:
        return None
    return f"{Family(int.from_bytes(data[:2]), data[2])}, at most {int.from_bytes(data[3:])}"


def _refresh(data: bytes) -> str | None:
    """RFC 7313 §5: the whole message."""
    if len(data) < 23:
        return None
    return f"subtype {data[21]} of {Family(int.from_bytes(data[19:21]), data[22])} in {len(data)} octets"


_DATA: dict[tuple[int, int | None], Callable[[bytes], str | None]] = {
    (ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_LENGTH): _length,
    (ErrorCode.MESSAGE_HEADER, HeaderSubcode.BAD_MESSAGE_TYPE): _type,
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_VERSION_NUMBER): _version,
    # RFC 4271 gives these three no Data; there are speakers that send what they have refused.
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.BAD_PEER_AS): _asn,
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.BAD_BGP_IDENTIFIER): _identifier,
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNACCEPTABLE_HOLD_TIME): _hold_time,
    (ErrorCode.OPEN_MESSAGE, OpenSubcode.UNSUPPORTED_CAPABILITY): _capabilities,
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE): _attribute,
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE): _missing_attribute,
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.ATTRIBUTE_FLAGS): _attribute,
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.ATTRIBUTE_LENGTH): _attribute,
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.INVALID_ORIGIN): _attribute,
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.INVALID_NEXT_HOP): _attribute,
    (ErrorCode.UPDATE_MESSAGE, UpdateSubcode.OPTIONAL_ATTRIBUTE): _attribute,
    (ErrorCode.FSM, None): _type,
    (ErrorCode.CEASE, CeaseSubcode.MAXIMUM_PREFIXES): _prefix_limit,
    (ErrorCode.ROUTE_REFRESH, 1): _refresh,
}
