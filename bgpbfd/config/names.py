"""Names: a peer's canonical id, and the key that a misspelt one probably meant."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from bgpbfd.core import PeerId

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> tuple[Address, str | None]:
    """An address and its scope (``fe80::1%eth0``); an IPv4-mapped IPv6 address is the IPv4 one.

    Raises ValueError with what would be right.
    """
    bare, percent, scope = text.partition("%")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address, such as 192.0.2.1 or 2001:db8::1") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if percent:
        if not (address.version == 6 and address.is_link_local):
            raise ValueError(f"{text!r}: only a link-local IPv6 address takes a %scope")
        check_interface(scope)
    return address, scope or None


def check_interface(name: str) -> str:
    """A network interface's name; raises ValueError for what the kernel would not take."""
    if not 0 < len(name.encode("utf-8", "replace")) < 16 or "/" in name or not name.isprintable() or " " in name:
        raise ValueError(f"{name!r} is no interface name (1 to 15 characters, no space or slash)")
    return name


def parse_network(text: str) -> Network:
    """A network without host bits; raises ValueError with what would be right."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network, such as 192.0.2.0/24 or 2001:db8::/32") from None
    raise ValueError(f"{text!r} has host bits set: write {network}")


@lru_cache(maxsize=4096)
def peer_id(remote_ip: str) -> PeerId:
    """The canonical id (``core.PeerId``) of an address or network in any spelling.

    A network of one address is that address. Raises ValueError with what would be right.
    """
    if "/" in remote_ip:
        network = parse_network(remote_ip)
        return str(network.network_address) if network.num_addresses == 1 else str(network)
    address, scope = parse_address(remote_ip)
    return f"{address}%{scope}" if scope else str(address)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` is most likely a misspelling of."""
    lowered = {name.lower(): name for name in known}
    folded = word.lower().replace("-", "_")
    matches = difflib.get_close_matches(folded, lowered, n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` or, without a near one, the known words."""
    names = sorted(known)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean {near!r}?"
    return "known: " + ", ".join(names) if names else "none is defined"
