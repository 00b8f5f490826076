"""As much of BGP as the raw peers need."""

from __future__ import annotations

import socket
import struct

PORT = 179
MARKER = b"\xff" * 16
KEEPALIVE = MARKER + b"\x00\x13\x04"
END_OF_RIB = MARKER + b"\x00\x17\x02" + bytes(4)
OPEN, UPDATE, NOTIFICATION, ALIVE = 1, 2, 3, 4


def open_message(asn: int, router_id: str, hold_time_s: int = 180) -> bytes:
    """With IPv4 unicast and 4-octet AS numbers."""
    capabilities = b"\x01\x04\x00\x01\x00\x01" + struct.pack("!BBI", 65, 4, asn)
    options = bytes([2, len(capabilities)]) + capabilities
    body = struct.pack("!BHH4sB", 4, min(asn, 23456), hold_time_s, socket.inet_aton(router_id), len(options)) + options
    return MARKER + struct.pack("!HB", 19 + len(body), OPEN) + body


def messages(buffer: bytearray) -> list[bytes]:
    """The whole messages at the front of the buffer, which are taken from it."""
    found: list[bytes] = []
    at = 0
    while len(buffer) - at >= 19:
        length = buffer[at + 16] << 8 | buffer[at + 17]
        if len(buffer) - at < length:
            break
        found.append(bytes(buffer[at : at + length]))
        at += length
    del buffer[:at]
    return found


def nlri_of(update: bytes) -> tuple[int, int]:
    """How many prefixes an UPDATE announces and withdraws, of IPv4 in the classic fields."""
    withdrawn_length = update[19] << 8 | update[20]
    attributes_at = 21 + withdrawn_length
    attributes_length = update[attributes_at] << 8 | update[attributes_at + 1]
    return _count(update, attributes_at + 2 + attributes_length, len(update)), _count(update, 21, attributes_at)


def _count(data: bytes, at: int, end: int) -> int:
    count = 0
    while at < end:
        at += 1 + (data[at] + 7 >> 3)
        count += 1
    return count


def dial(local: str, remote: str, timeout_s: float = 0.2) -> socket.socket | None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((local, 0))
    sock.settimeout(timeout_s)
    try:
        sock.connect((remote, PORT))
    except OSError:
        sock.close()
        return None
    return sock
