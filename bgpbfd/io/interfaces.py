"""The addresses of this host's interfaces, read from the kernel when they are asked for."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

from bgpbfd.control.ports import InterfaceAddresses

_NOTHING = InterfaceAddresses(None, None, None, False)


@dataclass(slots=True)
class _Interface:
    ipv4: list[tuple[bytes, int]] = field(default_factory=list)  # (packed address, prefix length)
    ipv6: list[tuple[bytes, int]] = field(default_factory=list)
    link_local: list[tuple[bytes, int]] = field(default_factory=list)

    def holds(self, address: bytes) -> bool:
        return any(address == own for own, _ in (*self.ipv4, *self.ipv6, *self.link_local))

    def on_link(self, address: bytes) -> bool:
        pools = self.ipv4 if len(address) == 4 else (*self.ipv6, *self.link_local)
        return any(_same_subnet(own, address, length) for own, length in pools)


def _same_subnet(one: bytes, other: bytes, length: int) -> bool:
    shift = len(one) * 8 - length
    return int.from_bytes(one) >> shift == int.from_bytes(other) >> shift


SEEN_S = 0.1


class SystemInterfaces:
    """psutil's view of the interfaces, in this process's network namespace.

    A look takes 0.4 ms, and a session that comes up takes three: where many come up together one look is for all. What
    it has not is looked for anew.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Interface] = {}
        self._seen_at = -SEEN_S

    def _views(self) -> Iterator[dict[str, _Interface]]:
        """What was seen a moment ago, then, for who does not find it there, what is there now."""
        if time.monotonic() - self._seen_at < SEEN_S:
            yield self._seen
        self._seen = _read()
        self._seen_at = time.monotonic()
        yield self._seen

    def around(self, local: bytes, remote: bytes, scope_id: int = 0) -> InterfaceAddresses:
        return next(
            (found for view in self._views() if (found := self._around(view, local, remote, scope_id))), _NOTHING
        )

    def _around(
        self, view: dict[str, _Interface], local: bytes, remote: bytes, scope_id: int
    ) -> InterfaceAddresses | None:
        wanted = self.name(scope_id) if scope_id else None
        for name, interface in view.items():
            if wanted in {None, name} and interface.holds(local):
                same = interface.ipv4 if len(local) == 4 else interface.ipv6
                first_v4 = interface.ipv4[0][0] if interface.ipv4 else None
                first_v6 = interface.ipv6[0][0] if interface.ipv6 else None
                own = any(local == address for address, _ in same)
                link_local = [address for address, _ in interface.link_local]
                return InterfaceAddresses(
                    ipv4=local if own and len(local) == 4 else first_v4,
                    ipv6=local if own and len(local) == 16 else first_v6,
                    link_local=local if local in link_local else next(iter(link_local), None),
                    on_link=interface.on_link(remote),
                )
        return None

    def on_link(self, remote: str) -> bool:
        address = socket.inet_pton(socket.AF_INET6 if ":" in remote else socket.AF_INET, remote)
        return any(interface.on_link(address) for view in self._views() for interface in view.values())

    def name(self, index: int) -> str | None:
        try:
            return socket.if_indextoname(index)
        except OSError:  # it went away
            return None

    def all_addresses(self) -> frozenset[bytes]:
        return frozenset(
            address
            for interface in next(self._views()).values()
            for address, _ in (*interface.ipv4, *interface.ipv6, *interface.link_local)
        )


def _read() -> dict[str, _Interface]:
    found: dict[str, _Interface] = {}
    for name, entries in psutil.net_if_addrs().items():
        interface = _Interface()
        for entry in entries:
            if entry.family == socket.AF_INET:
                length = ipaddress.IPv4Network((0, entry.netmask or "255.255.255.255")).prefixlen
                interface.ipv4.append((socket.inet_aton(entry.address), length))
            elif entry.family == socket.AF_INET6:
                address = socket.inet_pton(socket.AF_INET6, entry.address.partition("%")[0])
                mask = int.from_bytes(socket.inet_pton(socket.AF_INET6, entry.netmask or "ffff::"))
                pool = interface.link_local if address[:2] == b"\xfe\x80" else interface.ipv6
                pool.append((address, mask.bit_count()))
        found[name] = interface
    return found
