"""What every layer shares: time, address families, prefixes, and the shape of a sans-IO core.

Time inside the cores is an ``Instant``: whole microseconds of CLOCK_MONOTONIC, which all processes of one
host share, so the BFD worker's times compare with the main process's.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

Instant: TypeAlias = int
"""µs of CLOCK_MONOTONIC."""
Micros: TypeAlias = int
"""A duration in µs."""
PeerId: TypeAlias = str
"""A neighbor's canonical address text: ``192.0.2.1``, ``2001:db8::1``, ``fe80::1%eth0``; of a dynamic
neighbor's parent, the network: ``192.0.2.0/24``."""

MILLISECOND: Micros = 1_000
SECOND: Micros = 1_000_000

AFI_IPV4 = 1
AFI_IPV6 = 2


class Family(NamedTuple):
    """An (AFI, SAFI) pair, RFC 4760 §3; unknown ones are representable."""

    afi: int
    safi: int

    def __str__(self) -> str:
        return _FAMILY_NAMES.get(self) or f"afi {self.afi} safi {self.safi}"


IPV4_UNICAST = Family(1, 1)
IPV6_UNICAST = Family(2, 1)
IPV4_FLOW = Family(1, 133)
IPV6_FLOW = Family(2, 133)
_FAMILY_NAMES = {
    IPV4_UNICAST: "ipv4 unicast",
    IPV6_UNICAST: "ipv6 unicast",
    IPV4_FLOW: "ipv4 flow",
    IPV6_FLOW: "ipv6 flow",
}
FAMILIES_BY_NAME = {name: family for family, name in _FAMILY_NAMES.items()}


SAFI_UNICAST = 1
SAFI_FLOW = 133


class Prefix(NamedTuple):
    """What a route is for, as BGP carries it: its address family and its NLRI octets.

    Of SAFI 1 an IP prefix: length, then the masked address (RFC 4271 §4.3); ``length`` and ``network`` are of this one
    only. Of SAFI 133 a flow specification rule, its length before it (RFC 8955 §4); ``wire.flowspec_text.nlri_text``
    has its words.
    """

    afi: int
    nlri: bytes
    safi: int = SAFI_UNICAST

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """From ``192.0.2.0/24`` or ``2001:db8::/32``; a bare address is its host prefix.

        Raises ValueError for anything else, host bits included.
        """
        return cls.of(ipaddress.ip_network(text))

    @classmethod
    def of(cls, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Prefix:
        length = network.prefixlen
        octets = network.network_address.packed[: (length + 7) // 8]
        return cls(AFI_IPV4 if network.version == 4 else AFI_IPV6, bytes((length,)) + octets)

    @property
    def length(self) -> int:
        return self.nlri[0]

    @property
    def family(self) -> Family:
        if self.safi == SAFI_UNICAST:
            return IPV4_UNICAST if self.afi == AFI_IPV4 else IPV6_UNICAST
        return Family(self.afi, self.safi)

    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        octets = self.nlri[1:]
        if self.afi == AFI_IPV4:
            return ipaddress.IPv4Network((octets.ljust(4, b"\0"), self.nlri[0]))
        return ipaddress.IPv6Network((octets.ljust(16, b"\0"), self.nlri[0]))

    def __str__(self) -> str:
        return str(self.network()) if self.safi == SAFI_UNICAST else f"{self.family} 0x{self.nlri.hex()}"


EventT_contra = TypeVar("EventT_contra", contravariant=True)
ActionT = TypeVar("ActionT")


class Core(Protocol[EventT_contra, ActionT]):
    """A sans-IO state machine: it opens no socket, reads no clock, draws no random number of its own."""

    def handle(self, event: EventT_contra, now: Instant) -> list[ActionT]:
        """Take one event at ``now``; the actions are for the shell to carry out, in their order."""
        ...

    def next_deadline(self) -> Instant | None:
        """When the core wants to be woken; asking changes nothing."""
        ...
