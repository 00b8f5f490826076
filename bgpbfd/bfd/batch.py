"""Many packets in one system call: recvmmsg(2), which Python's socket module does not offer, by ctypes.

The worker reads its busiest sockets by the tick, some twenty packets at once. A call each would cost more than all else
that is done with them. ``Listener.packets`` is the plain twin, and what serves where recvmmsg is not to be had.

The kernel writes into arrays that are laid out once. What is needed of every packet (octets, length, time stamp) is
taken for the whole batch by slices; addresses, TTL and interface only of those packets that are asked about.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from struct import Struct

from bgpbfd.bfd.ancillary import SO_TIMESTAMPNS, note, pull_messages
from bgpbfd.bfd.demux import Arrival
from bgpbfd.core import Instant, Micros
from bgpbfd.wire.bfd import CONTROL_LENGTH

SIZE = 64
"""Packets a call."""
PAYLOAD_MAX = 256
"""Length is one octet: no more of a payload can matter."""

_MSG_DONTWAIT = 0x40
_CONTROL_MAX = 128
_NAME_MAX = 32
_STAMPED = int.from_bytes(Struct("@ii").pack(socket.SOL_SOCKET, SO_TIMESTAMPNS), sys.byteorder)
"""Level and type of a time stamp's message as one word: each packet's first, as they come in a fixed order."""


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint))


class BatchReader:
    """Reads up to ``SIZE`` packets at once. One serves any number of sockets: the last ``read`` is what it holds.

    OSError (ENOSYS, EPERM): this host has no recvmmsg for us.
    """

    def __init__(self) -> None:
        if ctypes.sizeof(ctypes.c_size_t) != 8:
            raise OSError(errno.ENOSYS, "recvmmsg is used on hosts of 64 bit")
        self._recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._data = bytearray(SIZE * PAYLOAD_MAX)
        self._names = bytearray(SIZE * _NAME_MAX)
        self._control = bytearray(SIZE * _CONTROL_MAX)
        self._iovecs = (_Iovec * SIZE)()
        self._headers = (_Mmsghdr * SIZE)()
        data, names, control = (_address(each) for each in (self._data, self._names, self._control))
        for i in range(SIZE):
            self._iovecs[i].base, self._iovecs[i].len = data + i * PAYLOAD_MAX, PAYLOAD_MAX
            header = self._headers[i].hdr
            header.name, header.namelen = names + i * _NAME_MAX, _NAME_MAX
            header.iov, header.iovlen = ctypes.addressof(self._iovecs[i]), 1
            header.control, header.controllen = control + i * _CONTROL_MAX, _CONTROL_MAX
        self._where = ctypes.addressof(self._headers)
        self._view = memoryview(self._headers).cast("B")
        self._fresh = bytes(self._view)  # the kernel overwrites lengths that it wants to be told again
        size = ctypes.sizeof(_Mmsghdr)
        self._size = size
        self._lengths = self._view.cast("I")[_Mmsghdr.len.offset // 4 :: size // 4]
        words = memoryview(self._control).cast("q")
        step = _CONTROL_MAX // 8
        self._stamped, self._seconds, self._nanoseconds = words[1::step], words[2::step], words[3::step]
        self._starts = [i * PAYLOAD_MAX for i in range(SIZE)]
        self._told = b""
        self.payloads: list[bytes] = []
        self.times: list[Instant] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            self.read(sock.fileno(), 0)

    def read(self, fd: int, since_epoch_us: Micros) -> int:
        """What waits on the socket, up to ``SIZE`` packets, into ``payloads`` and ``times``; how many.

        Times are the kernel's stamps less ``since_epoch_us`` (what the wall clock is ahead of ours), negative where it
        gave none. Fewer packets than ``SIZE``: the socket has been emptied. OSError as recvmsg would raise it, but for
        EAGAIN.
        """
        count: int = self._recvmmsg(fd, self._where, SIZE, _MSG_DONTWAIT, None)
        if count <= 0:
            self.payloads, self.times = [], []
            number = ctypes.get_errno()
            if count == 0 or number == errno.EAGAIN:
                return 0
            raise OSError(number, os.strerror(number))
        data = bytes(memoryview(self._data)[: count * PAYLOAD_MAX])
        lengths = self._lengths[:count].tolist()
        if lengths.count(CONTROL_LENGTH) == count:
            self.payloads = [data[start : start + CONTROL_LENGTH] for start in self._starts[:count]]
        else:
            self.payloads = [
                data[start : start + length] for start, length in zip(self._starts[:count], lengths, strict=True)
            ]
        seconds, nanoseconds = self._seconds[:count].tolist(), self._nanoseconds[:count].tolist()
        second = seconds[0]
        base_us = second * 1_000_000 - since_epoch_us
        if seconds.count(second) == count:
            self.times = [base_us + ns // 1000 for ns in nanoseconds]
        else:
            pairs = zip(seconds, nanoseconds, strict=True)
            self.times = [base_us + (s - second) * 1_000_000 + ns // 1000 for s, ns in pairs]
        stamped = self._stamped[:count].tolist()
        if stamped.count(_STAMPED) != count:
            self.times = [at if ok == _STAMPED else -1 for at, ok in zip(self.times, stamped, strict=True)]
        self._told = self._view[: count * self._size].tobytes()
        self._view[: count * self._size] = self._fresh[: count * self._size]
        return count

    def arrival(self, index: int) -> Arrival:
        """Where the packet of ``payloads[index]`` came from, and how."""
        header = _Mmsghdr.from_buffer_copy(self._told, index * self._size).hdr
        name = bytes(self._names[index * _NAME_MAX : index * _NAME_MAX + header.namelen])
        family = int.from_bytes(name[:2], sys.byteorder)
        port = int.from_bytes(name[2:4], "big")
        remote = socket.inet_ntop(family, name[8:24] if family == socket.AF_INET6 else name[4:8])
        arrival = Arrival(remote, "", 0, 0, port)
        start = index * _CONTROL_MAX
        note(arrival, pull_messages(bytes(self._control[start : start + header.controllen])))
        return arrival


def _address(of: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(of))
