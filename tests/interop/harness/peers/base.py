"""What a test can ask of a real BGP daemon, whichever it is."""

from __future__ import annotations

import re
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar, Final

from ..lab import Host
from ..process import HarnessError, Process, wait_until


@dataclass(slots=True, frozen=True)
class Route:
    """A route to originate, or one as a daemon's own CLI or API shows it: the two compare with ``==``.

    ``next_hop`` None: the daemon's own address on the link (only to originate). ``med`` and ``local_pref`` None: the
    attribute is absent. Communities are ``"A:B"`` and ``"A:B:C"`` in ascending order.
    """

    prefix: str
    next_hop: str | None = None
    as_path: tuple[int, ...] = ()
    med: int | None = None
    local_pref: int | None = None
    origin: str = "igp"
    communities: tuple[str, ...] = ()
    large_communities: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        return ip_network(self.prefix).version


@dataclass(slots=True, frozen=True)
class Bfd:
    """Single-hop BFD, the same interval for both directions."""

    interval_ms: int = 100
    multiplier: int = 3


@dataclass(slots=True, frozen=True)
class Notification:
    """A NOTIFICATION in a daemon's log: its RFC 4271 §4.5 numbers, and the line that tells of it."""

    sent: bool  # by that daemon
    code: int
    subcode: int
    text: str


@dataclass(slots=True)
class PeerConfig:
    """One session of one daemon, seen from that daemon. Both unicast families run over it.

    ``flows``: and both families of flow specifications, where it has them. ``own_flows``: those to originate, in the
    daemon's own words. ``scoped``: the addresses are link-local, of ``interface``.
    """

    local_as: int
    remote_as: int
    local_address: str
    remote_address: str
    router_id: str
    own4: str  # its addresses on the link: next hops for what it originates
    own6: str
    interface: str
    passive: bool = False
    hold_time: int = 90
    bfd: Bfd | None = None
    routes: list[Route] = field(default_factory=list)
    flows: bool = False
    own_flows: list[str] = field(default_factory=list)
    scoped: bool = False

    @property
    def ibgp(self) -> bool:
        return self.local_as == self.remote_as

    @property
    def scope(self) -> str:
        """What follows an address that means nothing without its interface: BIRD and FRR name that elsewhere."""
        return f"%{self.interface}" if self.scoped else ""

    def next_hop(self, route: Route) -> str:
        return route.next_hop or (self.own4 if route.version == 4 else self.own6)

    def of_version(self, version: int) -> list[Route]:
        return [route for route in self.routes if route.version == version]


class Peer(ABC):
    """A real daemon in a namespace, with a real configuration of its own.

    ``Route.as_path`` of a route to originate is what stands *before* the daemon's own AS is put in front.
    """

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    package: ClassVar[str]
    has_bfd: ClassVar[bool] = False
    has_flows: ClassVar[bool] = False
    any_as_path: ClassVar[bool] = True  # False: only repetitions of its own AS
    reads_shutdown_text: ClassVar[bool] = True  # RFC 9003
    survives_collisions: ClassVar[bool] = True  # False: after one it may never send an OPEN again
    as_path_over_ibgp: ClassVar[bool] = True
    shown_local_pref: ClassVar[int | None] = None  # what its CLI shows for a route that came without
    default_med: ClassVar[int | None] = None  # what it sends where none is configured

    def __init__(self, host: Host, config: PeerConfig) -> None:
        self.host = host
        self.config = config
        self.directory: Final[Path] = host.scratch
        self.processes: list[Process] = []

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be used here, or None."""
        lost = [program for program in cls.programs if shutil.which(program) is None]
        return f"{cls.name}: no {', '.join(lost)} (Debian package {cls.package})" if lost else None

    @abstractmethod
    def start(self) -> None:
        """Write the configuration, start, and return when it answers its CLI. Works again after stop and kill9."""

    def stop(self) -> None:
        """A clean end, as an administrator's."""
        for process in self.processes:
            process.stop(timeout=15)
        self.processes.clear()

    def kill9(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL, group=True)
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def freeze(self) -> None:
        """It hangs: nothing is sent or answered any more, the kernel keeps its connections."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP, group=True)

    def thaw(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT, group=True)

    @property
    def alive(self) -> bool:
        return bool(self.processes) and all(process.alive for process in self.processes)

    @abstractmethod
    def session_state(self) -> str:
        """RFC 4271's name in lower case: idle, connect, active, opensent, openconfirm, established."""

    @abstractmethod
    def routes(self) -> list[Route]:
        """What it has learned from its BGP neighbor, both families, by prefix."""

    @abstractmethod
    def notifications(self) -> list[Notification]:
        """Every NOTIFICATION that its log speaks of, oldest first, from all its lives."""

    def flows(self, version: int) -> list[str]:
        """The flow specifications that it has learned: each with its actions, as its CLI or API shows them."""
        raise HarnessError(f"{self.name} has no flow specifications")

    def bfd_state(self) -> str:
        """admin-down, down, init or up."""
        raise HarnessError(f"{self.name} has no BFD")

    def hasten(self) -> None:  # noqa: B027
        """End a wait of its own before it lets the session try again, where that is long; most have none."""

    def logs(self) -> list[Path]:
        return self.host.log_files()

    def log_text(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.logs())

    def route(self, prefix: str) -> Route | None:
        return next((route for route in self.routes() if route.prefix == prefix), None)

    def wait_established(self, timeout: float = 20) -> None:
        self.wait_state("established", timeout)

    def wait_state(self, state: str, timeout: float = 20) -> None:
        wait_until(lambda: self.session_state() == state, timeout, f"{self.name}: {state}", self.logs())

    def _check_started(self) -> None:
        for process in self.processes:
            if not process.alive:
                raise RuntimeError(f"{self.name} ended at start: {self.log_text()[-2000:]}")


def ordered(communities: Iterable[str | tuple[int, ...]]) -> tuple[str, ...]:
    """Communities as texts in ascending numerical order, well-known names as numbers."""
    numbers: list[tuple[int, ...]] = []
    for community in communities:
        if isinstance(community, str):
            named = _WELL_KNOWN.get(re.sub("[^a-z]", "", community.lower()))
            numbers.append(named or tuple(int(part) for part in community.split(":")))
        else:
            numbers.append(tuple(community))
    return tuple(":".join(str(part) for part in parts) for parts in sorted(numbers))


_WELL_KNOWN: Final[dict[str, tuple[int, ...]]] = {
    "noexport": (65535, 65281),
    "noadvertise": (65535, 65282),
    "localas": (65535, 65283),
    "noexportsubconfed": (65535, 65283),
    "nopeer": (65535, 65284),
    "blackhole": (65535, 666),
    "gracefulshutdown": (65535, 0),
}
