"""The real daemons that bgpbfd is tried against."""

from __future__ import annotations

from .base import Bfd, Notification, Peer, PeerConfig, Route
from .bird import Bird
from .exabgp import ExaBgp
from .frr import Frr
from .gobgp import GoBgp
from .openbgpd import OpenBgpd

PEERS: tuple[type[Peer], ...] = (Bird, Frr, GoBgp, ExaBgp, OpenBgpd)

__all__ = [
    "PEERS",
    "Bfd",
    "Bird",
    "ExaBgp",
    "Frr",
    "GoBgp",
    "Notification",
    "OpenBgpd",
    "Peer",
    "PeerConfig",
    "Route",
]
