"""The sockets of the echo function: our packets on their way out and back, and the neighbors' that we return.

- IPv4: a packet to oneself, handed to the neighbor's link-layer address, comes back by the neighbor's forwarding (RFC
  5881 §4), as FRR does it. Neighbors' packets are forwarded by this host's kernel if it forwards at all; a host that
  serves addresses usually does not, and then it is done here, for packets to configured neighbors alone.
- IPv6: to the neighbor's echo port, and its BFD returns it, as FRR does it.

What was sent with a TTL of 255 is returned with one less, and only that: nothing goes round twice, and nobody but a
neighbor can have anything returned.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from array import array
from collections.abc import Callable, Iterable

from bgpbfd.bfd.ancillary import SO_TIMESTAMPNS
from bgpbfd.bfd.demux import Arrival, Demultiplexer
from bgpbfd.bfd.echo import echo_discriminator
from bgpbfd.bfd.listeners import ECHOES_MOST
from bgpbfd.bfd.owner import Owner
from bgpbfd.bfd.protocol import Settings
from bgpbfd.bfd.senders import Senders
from bgpbfd.bfd.sockets import DSCP_CS6, Kind, Listener, monotonic_us, receive_stamped
from bgpbfd.bfd.states import Action
from bgpbfd.core import Instant
from bgpbfd.wire.bfd import SINGLE_HOP_TTL, Discard
from bgpbfd.wire.echo import forwarded, pull_echo, push_echo
from bgpbfd.wire.iana import BfdState

RETURNED_TTL = SINGLE_HOP_TTL - 1
_ETH_P_IP = 0x0800
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SO_ATTACH_FILTER = 26
_NO_RIGHT = "the echo function over IPv4 needs CAP_NET_RAW: it is left out"

# Classic BPF over the IPv4 header: UDP, no fragment, source and destination the same, port 3785.
_PROGRAM = (
    (0x30, 0, 0, 9), (0x15, 0, 10, 17),  # protocol
    (0x28, 0, 0, 6), (0x45, 8, 0, 0x3FFF),  # fragment
    (0x20, 0, 0, 12), (0x07, 0, 0, 0), (0x20, 0, 0, 16), (0x1D, 0, 4, 0),  # source, destination
    (0xB1, 0, 0, 0), (0x48, 0, 0, 2), (0x15, 0, 1, 3785),  # UDP destination port
    (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0),
)  # fmt: skip


class Echoes:
    """``done``: what a session wants done now that it has been given something."""

    def __init__(
        self,
        epoll: select.epoll,
        demux: Demultiplexer[Owner],
        senders: Senders,
        done: Callable[[Owner, Iterable[Action]], None],
    ) -> None:
        self._epoll = epoll
        self._demux = demux
        self._senders = senders
        self._done = done
        self._answers: dict[int, tuple[Owner, Listener]] = {}  # IPv6, by file descriptor
        self._interfaces: dict[int, _Interface] = {}  # IPv4, by interface
        self._by_fd: dict[int, _Interface] = {}

    def possible(self, settings: Settings, remote: str) -> tuple[Settings, str | None]:
        """``settings`` with as much of the echo function as this process can do, and why not all of it.

        Saying that we take echo packets and not returning them would take the neighbor's session down.
        """
        if ":" in remote or not (settings.echo_tx_us or settings.required_min_echo_rx_us):
            return settings, None
        try:
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
        except OSError:
            plain = {name: getattr(settings, name) for name in settings.__struct_fields__}
            return Settings(**{**plain, "echo_tx_us": 0, "required_min_echo_rx_us": 0}), _NO_RIGHT
        return settings, None

    def heard(self, owner: Owner, ifindex: int) -> None:
        """A packet of a session that may use echo has come in there: from now on its echo packets may, too."""
        settings = owner.add.settings
        if ":" in owner.remote or not (settings.echo_tx_us or settings.required_min_echo_rx_us):
            return
        owner.arrived_on = ifindex
        if ifindex not in self._interfaces:
            try:
                interface = _Interface(ifindex)
            except OSError as error:
                self._senders.set_fault(owner, f"echo: {error.strerror}")
                return
            self._interfaces[ifindex] = interface
            self._by_fd[interface.sock.fileno()] = interface
            self._epoll.register(interface.sock, select.EPOLLIN)

    def send(self, owner: Owner, data: bytes, port: int) -> None:
        if ":" in owner.remote:
            if self._senders.send_echo(owner, data, port) and owner.echo_sock is not None:
                fd = owner.echo_sock.fileno()
                self._answers[fd] = owner, Listener(owner.remote, owner.echo_sock, Kind.ECHO, emptied_at=monotonic_us())
                self._epoll.register(fd, select.EPOLLIN)
            return
        interface = self._interfaces.get(owner.arrived_on)
        if interface is None or owner.source is None or not interface.send(owner.source, owner.remote, data):
            self._senders.count_failure(owner, "echo")

    def read(self, fd: int, until: Instant) -> bool:
        """False if the descriptor is none of ours."""
        if fd in self._answers:
            self._read_answers(*self._answers[fd], until)
        elif fd in self._by_fd:
            self._read_interface(self._by_fd[fd], until)
        else:
            return False
        return True

    def read_all(self, until: Instant) -> None:
        """Before a verdict."""
        for fd in (*self._answers, *self._by_fd):
            self.read(fd, until)

    def gone(self, owner: Owner) -> None:
        """Its sending socket has been closed, and the one for answers with it."""
        for fd in [fd for fd, (other, _) in self._answers.items() if other is owner]:
            del self._answers[fd]

    def housekeeping(self, owners: Iterable[Owner]) -> None:
        """Once a second: close what no session needs any more, look up what the kernel may have changed."""
        used = {owner.arrived_on for owner in owners}
        for ifindex in [ifindex for ifindex in self._interfaces if ifindex not in used]:
            interface = self._interfaces.pop(ifindex)
            del self._by_fd[interface.sock.fileno()]
            interface.sock.close()
        for interface in self._interfaces.values():
            interface.refresh()

    def return_to(self, listener: Listener, data: bytes, arrival: Arrival) -> None:
        """An IPv6 packet that a neighbor sent to our echo port."""
        if arrival.ttl != SINGLE_HOP_TTL:
            self._demux.discard(Discard.TTL)
        elif not self._returns(arrival.remote, arrival.ifindex):
            self._demux.discard(Discard.ECHO)
        else:
            listener.answer(data, arrival, RETURNED_TTL)

    def _read_answers(self, owner: Owner, listener: Listener, until: Instant) -> None:
        for data, arrival, at in listener.packets(until, ECHOES_MOST):
            if arrival.ttl < RETURNED_TTL:
                self._demux.discard(Discard.TTL)
            else:
                self._done(owner, owner.session.receive_echo(data, at, until))

    def _read_interface(self, interface: _Interface, until: Instant) -> None:
        for packet, sender, at in interface.packets():
            echo = pull_echo(packet)
            if echo is None:
                self._demux.discard(Discard.ECHO)
                continue
            owner = self._demux.by_discriminator.get(echo_discriminator(echo.payload) or 0)
            if owner is not None and owner.source == socket.inet_ntop(socket.AF_INET, echo.address):
                if echo.ttl == RETURNED_TTL:
                    self._done(owner, owner.session.receive_echo(echo.payload, at, until))
                else:
                    self._demux.discard(Discard.TTL)
            elif echo.ttl != SINGLE_HOP_TTL:
                self._demux.discard(Discard.TTL)
            elif interface.kernel_forwards:
                pass  # the kernel has sent it back
            elif not self._returns(socket.inet_ntop(socket.AF_INET, echo.address), interface.ifindex):
                self._demux.discard(Discard.ECHO)
            else:
                interface.transmit(forwarded(packet), sender)

    def _returns(self, remote: str, ifindex: int) -> bool:
        """Whether a session with that neighbor has said that it would."""
        return any(
            owner.session.state is BfdState.UP
            and owner.session.settings.required_min_echo_rx_us > 0
            and owner.ifindex in {None, ifindex}
            for owner in self._demux.by_remote.get(remote, ())
        )


class _Interface:
    """IPv4 echo packets on one interface. OSError: no right to it, or the interface is gone."""

    def __init__(self, ifindex: int) -> None:
        self.ifindex = ifindex
        self.name = socket.if_indextoname(ifindex)
        self._neighbors: dict[str, bytes] = {}
        self.kernel_forwards = False
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        try:
            program = array("B", b"".join(struct.pack("@HBBI", *instruction) for instruction in _PROGRAM))
            filter_ = struct.pack("@HP", len(_PROGRAM), program.buffer_info()[0])
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
            with contextlib.suppress(OSError):  # older kernels: our own packets are recognised by their TTL
                self.sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self.sock.bind((self.name, _ETH_P_IP))
        except OSError:
            self.sock.close()
            raise
        self.refresh()

    def refresh(self) -> None:
        """Whether the kernel forwards here, and the link-layer addresses of neighbors."""
        with contextlib.suppress(OSError):
            self.kernel_forwards = _read(f"/proc/sys/net/ipv4/conf/{self.name}/forwarding").strip() == "1"
        with contextlib.suppress(OSError):
            self._neighbors = dict(_neighbors(_read("/proc/net/arp"), self.name))

    def send(self, address: str, remote: str, payload: bytes) -> bool:
        """An echo packet of ours, by way of ``remote``; False: not now."""
        link = self._neighbors.get(remote)
        if link is None:
            self.refresh()
            link = self._neighbors.get(remote)
        if link is None:
            return False
        return self.transmit(push_echo(socket.inet_aton(address), SINGLE_HOP_TTL, payload, DSCP_CS6), link)

    def transmit(self, packet: bytes, link: bytes) -> bool:
        try:
            self.sock.sendto(packet, (self.name, _ETH_P_IP, 0, 0, link))
        except OSError:
            return False
        return True

    def packets(self) -> list[tuple[bytes, bytes, Instant]]:
        """Up to ECHOES_MOST of them: packet, link-layer address of the sender, arrival."""
        found: list[tuple[bytes, bytes, Instant]] = []
        while len(found) < ECHOES_MOST:
            try:
                packet, source, at = receive_stamped(self.sock)
            except OSError:
                break
            found.append((packet, source[4], at))
        return found


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # pathlib is half a MB that nothing else in the worker needs
        return file.read()


def _neighbors(table: str, interface: str) -> Iterable[tuple[str, bytes]]:
    """/proc/net/arp: address → link-layer address, of complete entries."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 6 and fields[5] == interface and int(fields[2], 16) & 2:
            yield fields[0], bytes.fromhex(fields[3].replace(":", ""))
