"""What the engine needs of the outside world; ``io`` and ``bfd.link`` provide it, tests simulate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bgpbfd.bfd import protocol as bfd
from bgpbfd.bgp.events import ConnId
from bgpbfd.config.model import Secret
from bgpbfd.core import Instant, PeerId


@dataclass(slots=True, frozen=True)
class TransportOptions:
    """What a neighbor's sockets need beside addresses; None leaves the kernel's default.

    ``ttl`` of what we send; ``minimum_ttl``: packets that come with less are dropped by the kernel (RFC 5082 §3).
    ``password``: of RFC 2385.
    """

    ttl: int | None = None
    minimum_ttl: int | None = None
    password: Secret | None = None


@dataclass(slots=True, frozen=True)
class TcpKey:
    """An RFC 2385 password for what comes from ``network``: an address or a network, text without scope."""

    network: str
    password: Secret
    interface: str | None = None  # of a link-local address


@dataclass(slots=True, frozen=True)
class DialTarget:
    """Where and how to dial: addresses as text without scope, ``interface`` None where the kernel may choose."""

    remote: str
    port: int
    local: str | None
    interface: str | None
    options: TransportOptions = TransportOptions()


@dataclass(slots=True, frozen=True)
class Accepted:
    """Whose connection it is that came in, and how its socket is to be set up."""

    peer: PeerId
    conn: ConnId
    options: TransportOptions = TransportOptions()


@dataclass(slots=True, frozen=True)
class NotTaken:
    """Nobody's connection: closed, after ``notification`` (a whole message) where there is one."""

    notification: bytes = b""


@dataclass(slots=True, frozen=True)
class InterfaceAddresses:
    """The addresses of the interface that holds a session's local address, packed; None where there is none."""

    ipv4: bytes | None
    ipv6: bytes | None  # a global one
    link_local: bytes | None
    on_link: bool  # the remote address lies in one of the interface's subnets


class Connections(Protocol):
    """TCP, by (peer, connection)."""

    def dial(self, peer: PeerId, conn: ConnId, target: DialTarget) -> None: ...

    def send(self, peer: PeerId, conn: ConnId, data: bytes) -> None: ...

    def close(self, peer: PeerId, conn: ConnId, linger: bool) -> None: ...

    def writable(self, peer: PeerId, conn: ConnId) -> bool:
        """False while the send buffer is over its mark: hold back UPDATEs."""
        ...

    def set_keys(self, keys: tuple[TcpKey, ...]) -> None:
        """Exactly these passwords are in force on every listener, and at once on live connections from there.

        Of several that cover an address the longest prefix counts; the kernel knows no exception inside a network. A
        dial brings its own in its options, and follows the key of its own address from then on. A key that the kernel
        refuses is told to the sink (``transport_fault``), and who would need it is not let in.

        Before ``listen`` and before new neighbors are started; after those that go were told to (their Cease has to be
        signed with what they still know).
        """
        ...

    @property
    def discards(self) -> Mapping[str, int]:
        """Connections that were closed without asking whose they are, by reason."""
        ...

    def listen(self, addresses: tuple[str, ...]) -> None:
        """Listen on exactly these ``ADDR:PORT``; one that cannot be bound is tried again and reported."""
        ...


class Timers(Protocol):
    def arm(self, key: str, deadline: Instant | None, callback: Callable[[], None]) -> None:
        """Call back once at ``deadline``; replaces what was armed under ``key``; None disarms."""
        ...

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back in the loop's next turn, after other ready work had its chance."""
        ...


class BfdControl(Protocol):
    """The main process's end of the BFD worker."""

    def bind(self, addresses: list[str]) -> None: ...

    def accept_unsolicited(self, networks: list[str], interface: str | None) -> None: ...

    def add(self, session: bfd.Add) -> int: ...

    def change(self, key: str, settings: bfd.Settings) -> None: ...

    def remove(self, key: str) -> None: ...

    def set_admin_down(self, key: str, admin_down: bool) -> None: ...

    def clear(self, key: str | None = None) -> None: ...

    async def query(self) -> list[bfd.SessionReport]: ...

    @property
    def discards(self) -> Mapping[str, int]:
        """Packets that no session could be found for, by reason, as of the last query."""
        ...


class Interfaces(Protocol):
    def around(self, local: bytes, remote: bytes, scope_id: int = 0) -> InterfaceAddresses:
        """``scope_id``: the interface of a link-local ``local``, which several interfaces may have (RFC 4007 §6)."""
        ...

    def on_link(self, remote: str) -> bool:
        """Whether ``remote`` (text without scope) lies in a subnet of one of this host's interfaces."""
        ...

    def name(self, index: int) -> str | None:
        """The interface of that index (a scope id), None where there is none."""
        ...

    def all_addresses(self) -> frozenset[bytes]:
        """Every address of this host, packed."""
        ...


class Clock(Protocol):
    def now(self) -> Instant: ...

    def wall(self, at: Instant) -> float:
        """Unix time in s of a monotonic instant."""
        ...
