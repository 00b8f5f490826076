"""The sockets of BGP's connections and their options, those included that Python's ``socket`` does not name.

A connection of an IPv4 peer on an IPv6 listener is an IPv6 socket whose packets obey the options of IPPROTO_IP alone.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct

from bgpbfd.bgp.events import Endpoint
from bgpbfd.config.model import Secret
from bgpbfd.control.ports import DialTarget, TransportOptions

TOS_CS6 = 0xC0  # RFC 4271 Appendix E: internetwork control
LISTEN_BACKLOG = 128
LISTENER_TTL = 255
PASSWORD_MAX = 80  # octets; TCP_MD5SIG_MAXKEYLEN

# linux/in.h, linux/in6.h, linux/tcp.h
_IP_MINTTL = 21
_IP_BIND_ADDRESS_NO_PORT = 24
_IPV6_MINHOPCOUNT = 73
_TCP_MD5SIG = 14
_TCP_SAVE_SYN = 27
_TCP_SAVED_SYN = 28
_TCP_MD5SIG_EXT = 32
_TCP_MD5SIG_FLAG_PREFIX = 1

_DEFAULT_TTL = -1
_SAVED_SYN_MAX = 1024
_MAPPED = b"\0" * 10 + b"\xff\xff"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# -- making sockets ------------------------------------------------------------------------------------------


def dialling_socket(target: DialTarget) -> tuple[socket.socket, tuple[str, int] | tuple[str, int, int, int]]:
    """A socket set up as ``target`` says, its password included, and the address to connect it to. Raises OSError."""
    v6 = ":" in target.remote
    scope = socket.if_nametoindex(target.interface) if v6 and target.interface else 0
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        prepare(sock)
        if target.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, target.interface.encode() + b"\0")
        set_ttl(sock, target.options, v4=not v6)
        if target.options.password is not None:
            set_password(sock, ipaddress.ip_network(target.remote), target.options.password)
        if target.local is not None:
            # The port is chosen at connect time, when the whole 4-tuple is known.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            local_scope = scope if target.local.lower().startswith("fe80:") else 0
            sock.bind((target.local, 0, 0, local_scope) if v6 else (target.local, 0))
    except OSError:
        sock.close()
        raise
    return sock, ((target.remote, target.port, 0, scope) if v6 else (target.remote, target.port))


def listening_socket(address: str) -> socket.socket:
    """Bound to ``ADDR:PORT``, not listening yet: first come the passwords. ``[::]`` takes IPv4 too. Raises OSError."""
    host, port = split_address(address)
    v6 = ":" in host
    host, _, zone = host.partition("%")
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        prepare(sock)
        # RFC 5082 §3: our SYN-ACK has to pass the filter of a peer that wants 255, before we know which peer it is.
        # For the same reason the listener has no minimum of its own: see ``came_from_near``.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, LISTENER_TTL)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, LISTENER_TTL)
        with contextlib.suppress(OSError):  # without it ``came_from_near`` is more careful
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, 1)
        sock.bind((host, port, 0, socket.if_nametoindex(zone) if zone else 0) if v6 else (host, port))
    except OSError:
        sock.close()
        raise
    return sock


def prepare(sock: socket.socket) -> None:
    """What every connection has: network control's traffic class, and no waiting for more to send."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS_CS6)
    if sock.family == socket.AF_INET6:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS_CS6)
    # asyncio does so only on sockets that were made with the protocol's number.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# -- addresses -----------------------------------------------------------------------------------------------


def split_address(text: str) -> tuple[str, int]:
    """``ADDR:PORT`` or ``[ADDR]:PORT`` as (address, port)."""
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def endpoints(sock: socket.socket) -> tuple[Endpoint, Endpoint]:
    """(local, remote). Raises OSError when the connection has ended."""
    return _endpoint(sock.getsockname()), _endpoint(sock.getpeername())


def _endpoint(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    host = address[0].partition("%")[0]
    scope = address[3] if len(address) == 4 else 0
    if ":" not in host:
        return Endpoint(socket.inet_aton(host), host, address[1])
    packed = socket.inet_pton(socket.AF_INET6, host)
    if packed[:12] == _MAPPED:  # an IPv4 peer on the IPv6 wildcard
        return Endpoint(packed[12:], socket.inet_ntoa(packed[12:]), address[1])
    return Endpoint(packed, socket.inet_ntop(socket.AF_INET6, packed), address[1], scope)


# -- TTL and GTSM (RFC 5082) ---------------------------------------------------------------------------------


def set_ttl(sock: socket.socket, options: TransportOptions, *, v4: bool) -> None:
    """What ``options`` say for a connection over IPv4 (``v4``) or IPv6. Raises OSError with the whole text.

    An accepted socket has the listener's TTL until here: without a TTL of its own it goes back to the kernel's default.
    """
    ttl = _DEFAULT_TTL if options.ttl is None else options.ttl
    minimum = options.minimum_ttl or 0
    try:
        if v4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, minimum)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, minimum)
    except OSError as error:
        raise OSError(f"the kernel refuses the TTL or its minimum: {error_text(error)}") from None


def came_from_near(sock: socket.socket, minimum_ttl: int) -> bool:
    """Whether an accepted connection began near enough. Ask after ``set_ttl``.

    The kernel drops what comes from farther away from now on; what it took before, while nobody had told it the
    minimum, may already wait to be read. Who was too far to send the SYN is too far for all of it, so the SYN's TTL
    decides. Where the kernel did not keep the SYN (SYN cookies) only a connection that has nothing to read yet is good.
    """
    ttl = _syn_ttl(sock)
    if ttl is not None:
        return ttl >= minimum_ttl
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _syn_ttl(sock: socket.socket) -> int | None:
    try:
        headers = sock.getsockopt(socket.IPPROTO_TCP, _TCP_SAVED_SYN, _SAVED_SYN_MAX)
    except OSError:
        return None
    if len(headers) < 20:
        return None
    return headers[8] if headers[0] >> 4 == 4 else headers[7]


# -- passwords (RFC 2385) ------------------------------------------------------------------------------------


def set_password(sock: socket.socket, network: Network, password: Secret | None) -> None:
    """From now on segments from and to ``network`` are signed with ``password``; None: no longer signed.

    Raises OSError with the whole text, in which the password is not.
    """
    key = b"" if password is None else password.reveal().encode(errors="surrogatepass")
    if password is not None and not 1 <= len(key) <= PASSWORD_MAX:
        raise OSError(f"a TCP MD5 password has 1 to {PASSWORD_MAX} octets, this one has {len(key)}")
    host = network.prefixlen == network.max_prefixlen
    # struct tcp_md5sig. The prefix length of a mapped address counts the IPv4 address's bits.
    # The field for an interface is for VRFs only: the kernel takes no other interface there.
    value = struct.pack(
        "=128sBBHi80s",
        _sockaddr(sock.family, network),
        0 if host else _TCP_MD5SIG_FLAG_PREFIX,
        0 if host else network.prefixlen,
        len(key),
        0,
        key,
    )
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG if host else _TCP_MD5SIG_EXT, value)
    except OSError as error:
        if password is None and error.errno == errno.ENOENT:
            return  # there was none
        text = f"the kernel refuses the TCP MD5 password: {error_text(error)}"
        if error.errno == errno.ENOMEM:
            text += "; net.core.optmem_max limits how many a socket can have"
        elif error.errno == errno.ENOPROTOOPT:
            text += "; it was built without TCP MD5"
        raise OSError(text) from None


def _sockaddr(family: int, network: Network) -> bytes:
    packed = network.network_address.packed
    if family == socket.AF_INET:
        return struct.pack("=HH4s", family, 0, packed)
    return struct.pack("=HHI16sI", family, 0, 0, packed if network.version == 6 else _MAPPED + packed, 0)


def error_text(error: BaseException) -> str:
    """In the words of the kernel, or in those of who raised it."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
