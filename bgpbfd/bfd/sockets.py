"""The worker's UDP sockets: listening ones with all that the kernel tells of a packet, one sending one a session."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from struct import Struct
from typing import Any

from bgpbfd.bfd import batch
from bgpbfd.bfd.ancillary import INT, IP_PKTINFO, IP_RECVTTL, PKTINFO4, PKTINFO6, SO_TIMESTAMPNS, note, stamp_ns
from bgpbfd.bfd.batch import BatchReader
from bgpbfd.bfd.demux import Arrival
from bgpbfd.core import SECOND, Instant
from bgpbfd.wire.bfd import SINGLE_HOP_TTL, SOURCE_PORT_FIRST, SOURCE_PORT_LAST

# Linux values that the socket module of Python 3.11 does not name.
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
SO_ATTACH_REUSEPORT_CBPF = 51
SKF_NET_OFF = 0xFFF00000  # linux/filter.h: offsets from here on are the network header's

DSCP_CS6 = 48 << 2  # network control, as the TOS octet
RECEIVE_BUFFER = 4 << 20
_PACKET_MAX = 256  # Length is one octet: no more of a payload can matter
_ANCILLARY_MAX = 256
_DROPS = 8  # SK_MEMINFO_DROPS
_ICMP_ERRORS = {errno.ENETDOWN, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH}

_MEMINFO = Struct("@9I")
_INSTRUCTION = Struct("@HBBI")  # struct sock_filter
_FPROG = Struct("@HP")  # struct sock_fprog

DISCRIMINATOR_PREFIX_BITS = 12
"""The upper bits that all discriminators of one worker share; the other 20 are random."""


def monotonic_us() -> Instant:
    return time.monotonic_ns() // 1000


def ipv6_link_local(address: str) -> bool:
    return address.startswith(("fe8", "fe9", "fea", "feb"))


def interface_index(name: str | None) -> int | None:
    """Raises OSError for an interface that is not there."""
    return None if name is None else socket.if_nametoindex(name)


class Kind(Enum):
    """What a listening socket is for.

    ``steady``: what carries a discriminator of ours, and says Up without Poll and Final: nearly all that comes, and
    nothing that would have to be answered; ``known``: what else carries one; ``stranger``: all else.
    """

    STEADY = "steady"
    KNOWN = "known"
    STRANGER = "stranger"
    ECHO = "echo"


@dataclass(slots=True, eq=False)
class Listener:
    """One listening socket on one local address (RFC 5881 §4, RFC 5883 §5)."""

    address: str
    sock: socket.socket
    kind: Kind = Kind.KNOWN
    multihop: bool = False
    drops_seen: int = 0
    emptied_at: Instant = 0
    """When the socket was last read empty: nothing that it holds can have arrived before."""

    @classmethod
    def open(
        cls, address: str, port: int, *, kind: Kind = Kind.KNOWN, shared: bool = False, program: bytes = b""
    ) -> Listener:
        """Raises OSError: the address is not on this host, or the port is taken.

        ``shared``: another socket of this process takes the same port too (SO_REUSEPORT); ``program``: classic BPF that
        says which of them gets a packet.
        """
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
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if program:
                instructions = array("B", program)  # alive as long as its address is used
                where, octets = instructions.buffer_info()
                filter_ = _FPROG.pack(octets // _INSTRUCTION.size, where)
                sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filter_)
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            scoped, _, scope = address.partition("%")
            sock.bind((scoped, port, 0, socket.if_nametoindex(scope)) if scope else (scoped, port))
        except OSError:
            sock.close()
            raise
        return cls(address, sock, kind, emptied_at=monotonic_us())

    def packets(self, until: Instant, most: int | None = None) -> Iterator[tuple[bytes, Arrival, Instant]]:
        """Everything that arrived up to ``until``, ``most`` of it at most, with the times of arrival.

        The kernel stamps packets with the wall clock, which may be set at any time: the instant is kept between the
        last time the socket was empty and now, so that a clock step cannot make a neighbor look silent.
        """
        while most is None or most > 0:
            now = monotonic_us()
            try:
                data, ancillary, _, source = self.sock.recvmsg(_PACKET_MAX, _ANCILLARY_MAX)
            except BlockingIOError:
                self.emptied_at = now
                return
            except OSError as error:
                if error.errno in _ICMP_ERRORS:
                    continue  # an ICMP error that waited on the socket: nobody's packet
                raise
            at = now
            stamp = stamp_ns(ancillary)
            if stamp is not None:
                age_ns = time.time_ns() - stamp
                at = min(max(monotonic_us() - age_ns // 1000, self.emptied_at), now)
            arrival = Arrival(source[0].partition("%")[0], "", 0, 0, source[1])
            note(arrival, ancillary)
            yield data, arrival, at
            if at > until:
                return
            if most is not None:
                most -= 1

    def read_batch(self, reader: BatchReader) -> list[Instant]:
        """As ``packets``, into ``reader.payloads``: up to ``batch.SIZE`` packets by one call; their times of arrival.

        Fewer than that: the socket is empty now.
        """
        before, floor = monotonic_us(), self.emptied_at
        try:
            count = reader.read(self.sock.fileno(), time.time_ns() // 1000 - before)
        except OSError as error:
            if error.errno in _ICMP_ERRORS:
                return []
            raise
        if count < batch.SIZE:
            self.emptied_at = before
        times = reader.times
        if times and (min(times) < floor or max(times) > before):
            # It came while we were reading, or the clock was set: as in ``packets``.
            now = monotonic_us()
            times = [now if at < 0 else min(max(at, floor), now) for at in times]
        return times

    def answer(self, data: bytes, arrival: Arrival, ttl: int) -> None:
        """Back to where it came from, from the address that it was sent to; what cannot be sent now is lost."""
        if arrival.local.count(":"):
            scope = arrival.ifindex if ipv6_link_local(arrival.remote) else 0
            to: tuple[str, int] | tuple[str, int, int, int] = (arrival.remote, arrival.port, 0, scope)
            source = PKTINFO6.pack(socket.inet_pton(socket.AF_INET6, arrival.local), arrival.ifindex)
            ancillary = [
                (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source),
                (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, INT.pack(ttl)),
            ]
        else:
            to = (arrival.remote, arrival.port)
            source = PKTINFO4.pack(arrival.ifindex, socket.inet_pton(socket.AF_INET, arrival.local), bytes(4))
            ancillary = [(socket.IPPROTO_IP, IP_PKTINFO, source), (socket.IPPROTO_IP, socket.IP_TTL, INT.pack(ttl))]
        with contextlib.suppress(OSError):
            self.sock.sendmsg([data], ancillary, 0, to)

    def lost_packets(self) -> bool:
        """Whether the kernel dropped packets for this socket since the last call."""
        drops: int = _MEMINFO.unpack(self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[_DROPS]
        lost = drops != self.drops_seen
        self.drops_seen = drops
        return lost


def receive_stamped(sock: socket.socket) -> tuple[bytes, tuple[Any, ...], Instant]:
    """One packet of a socket with SO_TIMESTAMPNS: its octets, where it came from, when. OSError when there is none.

    The time is the kernel's, unless the wall clock was set in between.
    """
    data, ancillary, _, source = sock.recvmsg(_PACKET_MAX, _ANCILLARY_MAX)
    now = monotonic_us()
    at = now
    stamp = stamp_ns(ancillary)
    if stamp is not None:
        age_us = (time.time_ns() - stamp) // 1000
        at = now - age_us if 0 <= age_us < SECOND else now
    return data, source, at


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


def open_port(address: str, port: int, prefix: int, *, multihop: bool) -> tuple[Listener, ...]:
    """The sockets of a control port: for what is steady, what else is known, and strangers' (``Kind``).

    The kernel tells them apart (SO_ATTACH_REUSEPORT_CBPF). A flood of a stranger fills the queue of its own, and what
    changes a session's state need not wait behind what does not: a discriminator of ours has ``prefix`` in its upper
    DISCRIMINATOR_PREFIX_BITS, and a single-hop packet has a TTL of 255. Where the kernel knows no such filter there is
    one socket for all.

    Raises OSError as ``Listener.open``.
    """
    # Without SO_REUSEPORT first: another daemon on this port must not be robbed of its packets unnoticed.
    Listener.open(address, port).sock.close()
    # In the order of the filter's words. What a multihop packet's TTL has to be differs from session to session, and is
    # looked at here.
    kinds = [Kind.STRANGER, Kind.KNOWN] if multihop else [Kind.STRANGER, Kind.KNOWN, Kind.STEADY]
    ttl_at = 7 if ":" in address else 8
    program = _sorting(prefix, ttl_at=None if multihop else ttl_at, steady=len(kinds) - 1)
    listeners: list[Listener] = []
    try:
        for kind in kinds:
            first = b"" if listeners else program
            listeners.append(Listener.open(address, port, kind=kind, shared=True, program=first))
    except OSError:
        for listener in listeners:
            listener.sock.close()
        listeners = [Listener.open(address, port)]
    for listener in listeners:
        listener.multihop = multihop
    return tuple(listeners)


def _sorting(prefix: int, *, ttl_at: int | None, steady: int) -> bytes:
    """A classic BPF program over the UDP payload, whose result is the number of a socket.

    0 for a packet that cannot be a session's, short ones too; ``steady`` for an Up without Poll and Final; 1 for the
    others. ``ttl_at``: where the network header has the TTL, if it is to be 255.
    """
    load_word, load_octet, shift_right, mask, equals, result = 0x20, 0x30, 0x74, 0x54, 0x15, 0x06
    of_header = [] if ttl_at is None else [(load_octet, 0, 0, SKF_NET_OFF + ttl_at), (equals, 0, 8, SINGLE_HOP_TTL)]
    of_payload = [
        (load_word, 0, 0, 8),  # Your Discriminator
        (shift_right, 0, 0, 32 - DISCRIMINATOR_PREFIX_BITS),
        (equals, 0, 5, prefix),
        (load_octet, 0, 0, 1),
        (mask, 0, 0, 0xF0),  # State, Poll, Final
        (equals, 1, 0, 0xC0),
        (result, 0, 0, 1),
        (result, 0, 0, steady),
        (result, 0, 0, 0),
    ]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in (*of_header, *of_payload))


def open_sender(
    remote: str, local: str | None, interface: str | None, port: int, ports: SourcePorts, *, reads: bool = False
) -> tuple[socket.socket, str, int]:
    """A connected socket to send one session's packets from: it, its local address and its source port.

    ``reads``: answers are read from it, with their TTL and time (echo packets).

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
            if reads:
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
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
