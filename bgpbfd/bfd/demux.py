"""Which session a packet belongs to (RFC 5880 §6.3, RFC 5881 §3–5, RFC 5883 §4): by our discriminator, else by the
addresses. Those of single-hop and of multihop sessions come by different ports, and have tables of their own.

Sockets and addresses stop here; sessions know neither. Addresses are compared in one canonical text form, never as
somebody wrote them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from bgpbfd.wire.bfd import SINGLE_HOP_TTL, ControlPacket, Discard, pull_control
from bgpbfd.wire.iana import BfdState

ASKING_MAX = 64


def canonical(address: str) -> str:
    """The kernel's own spelling of an address, without scope. ValueError for anything else."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, address))
    except OSError as error:
        raise ValueError(f"not an IP address: {address!r}") from error


@dataclass(slots=True)
class Arrival:
    """What the socket knows of a packet beside its bytes; ``ifindex`` 0 and ``local`` empty: not told."""

    remote: str
    local: str
    ifindex: int
    ttl: int
    port: int = 0  # the remote's


class Route(Protocol):
    """What the demultiplexer has to know of a session's owner; ``local`` and ``ifindex`` None: any."""

    remote: str
    local: str | None
    ifindex: int | None
    discriminator: int

    @property
    def minimum_ttl(self) -> int: ...

    def discard(self, reason: str) -> None:
        """Count a packet for it that was discarded."""


OwnerT = TypeVar("OwnerT", bound=Route)


@dataclass(slots=True)
class Demultiplexer(Generic[OwnerT]):
    """The tables, and the counts of packets that no session could be found for.

    ``welcome``: whether a session is wanted with whoever asks for one from there (RFC 9468); ``asking`` holds those
    that did, a few of them at most, until the shell takes them.
    """

    multihop: bool = False
    welcome: Callable[[Arrival], bool] | None = None
    asking: dict[tuple[str, int], Arrival] = field(default_factory=dict)
    by_discriminator: dict[int, OwnerT] = field(default_factory=dict)
    by_remote: dict[str, list[OwnerT]] = field(default_factory=dict)
    discards: dict[str, int] = field(default_factory=dict)

    def add(self, owner: OwnerT) -> None:
        self.by_discriminator[owner.discriminator] = owner
        self.by_remote.setdefault(owner.remote, []).append(owner)

    def remove(self, owner: OwnerT) -> None:
        del self.by_discriminator[owner.discriminator]
        owners = self.by_remote[owner.remote]
        owners.remove(owner)
        if not owners:
            del self.by_remote[owner.remote]

    def discard(self, reason: str) -> None:
        self.discards[reason] = self.discards.get(reason, 0) + 1

    def select(self, data: bytes, arrival: Arrival) -> tuple[OwnerT, ControlPacket] | None:
        """The session's owner and the packet; None when it was discarded, which is counted."""
        if not self.multihop and arrival.ttl != SINGLE_HOP_TTL:
            # RFC 5881 §5, before anything in the packet is believed.
            self.discard(Discard.TTL)
            return None
        packet = pull_control(data)
        if isinstance(packet, Discard):
            self.discard(packet)
            return None
        if packet.your_discriminator:
            # RFC 5880 §6.3: the discriminator alone selects; the source address may have changed.
            owner = self.by_discriminator.get(packet.your_discriminator)
            if owner is None:
                self.discard(Discard.UNKNOWN_DISCRIMINATOR)
                return None
            if owner.ifindex is not None and owner.ifindex != arrival.ifindex:
                # RFC 5881 §3: a single-hop session is bound to its interface.
                self.discard(Discard.WRONG_INTERFACE)
                return None
            return self._within_reach(owner, packet, arrival)
        if packet.state not in {BfdState.DOWN, BfdState.ADMIN_DOWN}:
            self.discard(Discard.YOUR_DISCRIMINATOR_ZERO)
            return None
        owner = self.by_address(arrival)
        if owner is None:
            self.discard(Discard.UNKNOWN_SESSION)
            if self.welcome is not None and len(self.asking) < ASKING_MAX and self.welcome(arrival):
                self.asking[arrival.remote, arrival.ifindex] = arrival
            return None
        return self._within_reach(owner, packet, arrival)

    def _within_reach(
        self, owner: OwnerT, packet: ControlPacket, arrival: Arrival
    ) -> tuple[OwnerT, ControlPacket] | None:
        if self.multihop and arrival.ttl < owner.minimum_ttl:
            # RFC 5883 §6: how far a neighbor may be is the operator's to say. Counted on the session, whose neighbor is
            # then seen to be there, and too far.
            owner.discard(Discard.TTL)
            return None
        return owner, packet

    def by_address(self, arrival: Arrival) -> OwnerT | None:
        """The session of these addresses and this interface; the one that says more of itself comes first."""
        best: OwnerT | None = None
        best_rank = -1
        for owner in self.by_remote.get(arrival.remote, ()):
            if owner.local is not None and owner.local != arrival.local:
                continue
            if owner.ifindex is not None and owner.ifindex != arrival.ifindex:
                continue
            rank = 2 * (owner.ifindex is not None) + (owner.local is not None)
            if rank > best_rank:
                best, best_rank = owner, rank
        return best
