"""BFD control packets (RFC 5880 §4.1) as the raw peers need them."""

from __future__ import annotations

import socket
import struct

PORT = 3784
DOWN, INIT, UP = 1, 2, 3
POLL, FINAL = 0x20, 0x10
_CONTROL = struct.Struct("!BBBBIIIII")
SLOW_US = 1_000_000


def push(state: int, mine: int, yours: int, interval_us: int, mult: int, *, flags: int = 0, diag: int = 0) -> bytes:
    """Not Up, it says one second (§6.8.3)."""
    desired = interval_us if state == UP else max(interval_us, SLOW_US)
    return _CONTROL.pack(0x20 | diag, state << 6 | flags, mult, 24, mine, yours, desired, interval_us, 0)


def their_detection_s(data: bytes, interval_us: int) -> float:
    """The detection time that their packet gives us (§6.8.4), with our ``interval_us`` as Required Min RX."""
    return data[2] * max(int.from_bytes(data[12:16], "big"), interval_us) / 1e6


def pull(data: bytes) -> tuple[int, int, int, int]:
    """State, flags, their discriminator, ours."""
    _, state, _, _, mine, yours, _, _, _ = _CONTROL.unpack(data[:24])
    return state >> 6, state & 0x3F, mine, yours


def sender(local: str, remote: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    sock.bind((local, port))
    sock.connect((remote, PORT))
    sock.setblocking(False)
    return sock


def listener() -> socket.socket:
    """With the address that a packet was sent to (IP_PKTINFO)."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, 8, 1)
    sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    sock.bind(("0.0.0.0", PORT))
    sock.setblocking(False)
    return sock
