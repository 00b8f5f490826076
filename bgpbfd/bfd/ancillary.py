"""What the kernel tells beside a packet (cmsg(3), ip(7), ipv6(7), socket(7)): TTL, destination, interface, time."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from struct import Struct

from bgpbfd.bfd.demux import Arrival

# Linux values that the socket module of Python 3.11 does not name.
IP_PKTINFO, IP_RECVTTL = 8, 12
SO_TIMESTAMPNS = 35

TIMESPEC = Struct("@qq")
INT = Struct("@i")
PKTINFO4 = Struct("@i4s4s")
PKTINFO6 = Struct("@16si")
CMSGHDR = Struct("@Nii")

Message = tuple[int, int, bytes]
"""Level, type, octets."""


def note(arrival: Arrival, messages: Iterable[Message]) -> None:
    """Enter TTL, destination and interface."""
    for level, kind, value in messages:
        if level == socket.IPPROTO_IP:
            if kind == socket.IP_TTL:
                arrival.ttl = INT.unpack(value)[0]
            elif kind == IP_PKTINFO:
                arrival.ifindex, _, destination = PKTINFO4.unpack(value)
                arrival.local = socket.inet_ntop(socket.AF_INET, destination)
        elif level == socket.IPPROTO_IPV6:
            if kind == socket.IPV6_HOPLIMIT:
                arrival.ttl = INT.unpack(value)[0]
            elif kind == socket.IPV6_PKTINFO:
                destination, arrival.ifindex = PKTINFO6.unpack(value)
                arrival.local = socket.inet_ntop(socket.AF_INET6, destination)


def stamp_ns(messages: Iterable[Message]) -> int | None:
    """When the packet came in, by the wall clock."""
    for level, kind, value in messages:
        if kind == SO_TIMESTAMPNS and level == socket.SOL_SOCKET:
            seconds, nanoseconds = TIMESPEC.unpack(value)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return None


def pull_messages(control: bytes) -> list[Message]:
    """The messages of a control buffer as recvmsg(2) fills it."""
    found: list[Message] = []
    at = 0
    while at + CMSGHDR.size <= len(control):
        length, level, kind = CMSGHDR.unpack_from(control, at)
        if length < CMSGHDR.size:
            break
        found.append((level, kind, control[at + CMSGHDR.size : at + length]))
        at += (length + 7) & ~7
    return found
