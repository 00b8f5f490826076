"""What sessions send from: a socket each, opened anew when its address or interface went away under it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random

from bgpbfd.bfd.listeners import echo_port, multihop_port
from bgpbfd.bfd.outbox import Outbox
from bgpbfd.bfd.owner import Owner, no_socket
from bgpbfd.bfd.protocol import SessionFault
from bgpbfd.bfd.sockets import SourcePorts, interface_index, open_sender

_TRANSIENT = {errno.EAGAIN, errno.ENOBUFS, errno.EPERM, errno.ENOMEM, errno.EINTR}
"""A packet not sent (full queue, a packet filter) that says nothing of the socket."""
_SOCKET_GONE = {errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EBADF}
"""The address or the interface went away under the socket: open another."""


class Senders:
    """``on_gone``: a session's socket has been closed, and with it everything that hangs on it has to go."""

    def __init__(self, outbox: Outbox, rng: Random, on_gone: Callable[[Owner], None]) -> None:
        self._outbox = outbox
        self._ports = SourcePorts(rng)
        self._on_gone = on_gone

    def open(self, owner: Owner, port: int) -> bool:
        """Try to give the session its socket; without one it is not reachable either. ``port``: the single-hop one."""
        add = owner.add
        to = multihop_port(port) if add.multihop else port
        try:
            owner.ifindex = interface_index(add.interface)
            owner.sock, owner.source, owner.source_port = open_sender(
                owner.remote, owner.local, add.interface, to, self._ports
            )
        except OSError as error:
            what = f"interface {add.interface}" if owner.ifindex is None and add.interface else "address"
            text = os.strerror(error.errno) if error.errno else str(error)
            self.set_fault(owner, f"{what} {owner.local or owner.remote}: {text}".replace("  ", " "))
            return False
        owner.send = owner.sock.send
        self.set_fault(owner, None)
        return True

    def close(self, owner: Owner) -> None:
        if owner.sock is not None:
            owner.sock.close()
            owner.sock, owner.send = None, no_socket
            self._ports.used.discard(owner.source_port)
            self.close_echo(owner)
            self._on_gone(owner)

    def send(self, owner: Owner, data: bytes) -> None:
        if owner.sock is None:
            self.count_failure(owner, "no socket")
            return
        try:
            try:
                owner.sock.send(data)
            except ConnectionRefusedError:
                owner.sock.send(data)  # the first call only told of an ICMP error, and sent nothing
        except OSError as error:
            self.count_failure(owner, errno.errorcode.get(error.errno or 0, "unknown"))
            if error.errno in _SOCKET_GONE:
                self.close(owner)
            if error.errno not in _TRANSIENT and not isinstance(error, ConnectionRefusedError):
                self.set_fault(owner, f"sending to {owner.remote}: {os.strerror(error.errno or 0)}")
        else:
            if owner.fault is not None:
                self.set_fault(owner, None)

    def send_echo(self, owner: Owner, data: bytes, port: int) -> bool:
        """True when a socket for the answers was opened by it. What cannot be sent counts as lost, like any packet."""
        opened = False
        if owner.echo_sock is None:
            try:
                owner.echo_sock, _, owner.echo_port = open_sender(
                    owner.remote, owner.source, owner.add.interface, echo_port(port), self._ports, reads=True
                )
            except OSError:
                self.count_failure(owner, "echo-no socket")
                return False
            opened = True
        try:
            owner.echo_sock.send(data)
        except OSError as error:
            self.count_failure(owner, "echo-" + errno.errorcode.get(error.errno or 0, "unknown"))
        return opened

    def close_echo(self, owner: Owner) -> None:
        if owner.echo_sock is not None:
            owner.echo_sock.close()
            owner.echo_sock = None
            self._ports.used.discard(owner.echo_port)

    @staticmethod
    def count_failure(owner: Owner, reason: str) -> None:
        owner.sends_failed[reason] = owner.sends_failed.get(reason, 0) + 1

    def set_fault(self, owner: Owner, fault: str | None) -> None:
        if fault != owner.fault:
            owner.fault = fault
            if not owner.leaving:
                self._outbox.post(SessionFault(key=owner.add.key, generation=owner.add.generation, error=fault))
