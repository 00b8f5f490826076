"""The worker's UDP sockets: listening ones with all that the kernel tells of a packet, one sending one a session."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from struct import Struct

from bgpbfd.bfd.demux import Arrival
from bgpbfd.core import Instant
from bgpbfd.wire.bfd import SINGLE_HOP_TTL, SOURCE_PORT_FIRST, SOURCE_PORT_LAST

# Linux values that the socket module of Python 3.11 does not name.
IP_PKTINFO, IP_RECVTTL = 8, 12
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55

DSCP_CS6 = 48 << 2  # network control, as the TOS octet
RECEIVE_BUFFER = 4 << 20
_PACKET_MAX = 256  # Length is one octet: no more of a payload can matter
_ANCILLARY_MAX = 256
_DROPS = 8  # SK_MEMINFO_DROPS

_TIMESPEC = Struct("@qq")
_INT = Struct("@i")
_PKTINFO4 = Struct("@i4s4s")
_PKTINFO6 = Struct("@16si")
_MEMINFO = Struct("@9I")


def monotonic_us() -> Instant:
    return time.monotonic_ns() // 1000


def interface_index(name: str | None) -> int | None:
    """Raises OSError for an interface that is not there."""
    return None if name is None else socket.if_nametoindex(name)


@dataclass(slots=True)
class Listener:
    """The control port on one local address (RFC 5881 §4)."""

    address: str
    sock: socket.socket
    drops_seen: int = 0
    emptied_at: Instant = 0
    """When the socket was last read empty: nothing that it holds can have arrived before."""

    @classmethod
    def open(cls, address: str, port: int) -> Listener:
        """Raises OSError: the address is not on this host, or the port is taken."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            scoped, _, scope = address.partition("%")
            sock.bind((scoped, port, 0, socket.if_nametoindex(scope)) if scope else (scoped, port))
        except OSError:
            sock.close()
            raise
        return cls(address, sock, emptied_at=monotonic_us())

    def packets(self, until: Instant) -> Iterator[tuple[bytes, Arrival, Instant]]:
        """Everything that arrived up to ``until``, with the times of arrival.

        The kernel stamps packets with the wall clock, which may be set at any time: the instant is kept between the
        last time the socket was empty and now, so that a clock step cannot make a neighbor look silent.
        """
        while True:
            now = monotonic_us()
            try:
                data, ancillary, _, source = self.sock.recvmsg(_PACKET_MAX, _ANCILLARY_MAX)
            except BlockingIOError:
                self.emptied_at = now
                return
            except OSError as error:
                if error.errno in {errno.ENETDOWN, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH}:
                    continue  # an ICMP error that waited on the socket: nobody's packet
                raise
            ttl = ifindex = 0
            local = ""
            at = now
            for level, kind, value in ancillary:
                if kind == SO_TIMESTAMPNS and level == socket.SOL_SOCKET:
                    seconds, nanoseconds = _TIMESPEC.unpack(value)
                    age_ns = time.time_ns() - (seconds * 1_000_000_000 + nanoseconds)
                    at = min(max(monotonic_us() - age_ns // 1000, self.emptied_at), now)
                elif level == socket.IPPROTO_IP:
                    if kind == socket.IP_TTL:
                        ttl = _INT.unpack(value)[0]
                    elif kind == IP_PKTINFO:
                        ifindex, _, destination = _PKTINFO4.unpack(value)
                        local = socket.inet_ntop(socket.AF_INET, destination)
                elif level == socket.IPPROTO_IPV6:
                    if kind == socket.IPV6_HOPLIMIT:
                        ttl = _INT.unpack(value)[0]
                    elif kind == socket.IPV6_PKTINFO:
                        destination, ifindex = _PKTINFO6.unpack(value)
                        local = socket.inet_ntop(socket.AF_INET6, destination)
            yield data, Arrival(source[0], local, ifindex, ttl), at
            if at > until:
                return

    def lost_packets(self) -> bool:
        """Whether the kernel dropped packets for this socket since the last call."""
        drops: int = _MEMINFO.unpack(self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[_DROPS]
        lost = drops != self.drops_seen
        self.drops_seen = drops
        return lost


@dataclass(slots=True)
class SourcePorts:
    """RFC 5881 §4: 49152–65535, one a session, constant and unique."""

    rng: Random
    used: set[int] = field(default_factory=set)

    def candidates(self, attempts: int = 64) -> Iterator[int]:
        for _ in range(attempts):
            port = self.rng.randint(SOURCE_PORT_FIRST, SOURCE_PORT_LAST)
            if port not in self.used:
                yield port


def open_sender(
    remote: str, local: str | None, interface: str | None, port: int, ports: SourcePorts
) -> tuple[socket.socket, str, int]:
    """A connected socket to send one session's packets from: it, its local address and its source port.

    The port is entered into ``ports``. Raises OSError: the address is not on this host, no route, no interface.
    """
    family = socket.AF_INET6 if ":" in remote else socket.AF_INET
    ifindex = interface_index(interface) or 0
    for source_port in ports.candidates():
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, SINGLE_HOP_TTL)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_CS6)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, SINGLE_HOP_TTL)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_CS6)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # never read
            if interface is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            source = local if local is not None else ("::" if family == socket.AF_INET6 else "0.0.0.0")
            scope = (0, ifindex) if family == socket.AF_INET6 else ()
            sock.bind((source, source_port, *scope))
            sock.connect((remote, port, *scope))
            chosen: str = sock.getsockname()[0]
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise
        ports.used.add(source_port)
        return sock, chosen, source_port
    raise OSError(errno.EADDRINUSE, "no free source port")
