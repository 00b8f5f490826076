"""IPv4 packets of the BFD echo function (RFC 5881 §4): UDP to port 3785, from and to the sender's own address.

Such a packet is for nobody but its sender: the neighbor that gets it has to forward it, and so it comes back. The
kernel neither sends nor hands over a packet to oneself that travels by another host, so they are made and read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from bgpbfd.wire.bfd import ECHO_PORT

_IPV4 = Struct("!BBHHHBBH4s4s")
_UDP = Struct("!HHHH")
_HEADERS = _IPV4.size + _UDP.size
_UDP_PROTOCOL = 17
_DONT_FRAGMENT = 0x4000


@dataclass(slots=True)
class EchoPacket:
    """``address``: packed, source and destination."""

    address: bytes
    ttl: int
    payload: bytes


def push_echo(address: bytes, ttl: int, payload: bytes, tos: int = 0) -> bytes:
    """The whole IPv4 packet; the UDP checksum is left out, as IPv4 allows (RFC 768)."""
    length = _HEADERS + len(payload)
    head = _IPV4.pack(0x45, tos, length, 0, _DONT_FRAGMENT, ttl, _UDP_PROTOCOL, 0, address, address)
    head = head[:10] + _checksum(head).to_bytes(2) + head[12:]
    return head + _UDP.pack(ECHO_PORT, ECHO_PORT, length - _IPV4.size, 0) + payload


def pull_echo(packet: bytes) -> EchoPacket | None:
    """None for whatever is no echo packet as above."""
    if len(packet) < _HEADERS or packet[0] >> 4 != 4:
        return None
    header = (packet[0] & 15) * 4
    _, _, length, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
    if header < _IPV4.size or not header + _UDP.size <= length <= len(packet):
        return None
    if protocol != _UDP_PROTOCOL or fragment & 0x3FFF or source != destination:
        return None
    _, port, udp_length, _ = _UDP.unpack_from(packet, header)
    if port != ECHO_PORT or not _UDP.size <= udp_length <= length - header:
        return None
    return EchoPacket(source, ttl, packet[header + _UDP.size : header + udp_length])


def forwarded(packet: bytes) -> bytes:
    """The same packet a hop further: its TTL is one less (RFC 1812 §5.3.1), its checksum right again."""
    header = (packet[0] & 15) * 4
    head = packet[:8] + bytes((packet[8] - 1,)) + packet[9:10] + b"\0\0" + packet[12:header]
    return head[:10] + _checksum(head).to_bytes(2) + head[12:] + packet[header:]


def _checksum(header: bytes) -> int:
    """RFC 1071."""
    total = sum(int.from_bytes(header[i : i + 2]) for i in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
