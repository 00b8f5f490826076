"""Whole engines joined in virtual time: simulated TCP, timers and BFD; no socket, no sleep."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from bgpbfd.bfd import protocol as bfd
from bgpbfd.bgp.events import ConnId, Endpoint
from bgpbfd.config.load import loads
from bgpbfd.config.model import Config
from bgpbfd.config.patch import Amended, amended
from bgpbfd.control.engine import Engine
from bgpbfd.control.operations import Operations
from bgpbfd.control.ports import Accepted, DialTarget, InterfaceAddresses, TcpKey
from bgpbfd.control.reconcile import apply_config
from bgpbfd.control.recorder import Recorder
from bgpbfd.core import MILLISECOND, SECOND, Instant, PeerId
from bgpbfd.wire.messages import MessageReader

DELAY = MILLISECOND


def pack(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


class World:
    """Virtual time, and the hosts by address."""

    def __init__(self, seed: int = 1) -> None:
        self.now: Instant = SECOND
        self.rng = random.Random(seed)
        self.hosts: dict[str, Host] = {}
        self.cut: set[frozenset[str]] = set()  # pairs of hosts between which nothing passes
        self._queue: list[tuple[Instant, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: Instant, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), call))

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self._queue and self._queue[0][0] <= end:
            when, _, call = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            call()
        self.now = end

    def passes(self, one: str, other: str) -> bool:
        return frozenset({one, other}) not in self.cut

    def crash(self, host: Host) -> None:
        """kill -9: it is gone without a word, and its connections are reset."""
        del self.hosts[host.address]
        host.life += 1
        for link, other in host.links.values():
            link.ends.pop(host.address, None)
            self.at(self.now + DELAY, functools.partial(self._reset, link, other))
        host.links.clear()

    def _reset(self, link: Link, other: str) -> None:
        end = link.ends.get(other)
        remote = self.hosts.get(other)
        if end is not None and remote is not None and remote.links.get(end, (None, ""))[0] is link:
            del remote.links[end]
            remote.engine.connection_failed(*end, "Connection reset by peer")

    def start(self, host: Host, toml: str) -> None:
        """Start what crashed again, from nothing."""
        host.begin()
        self.hosts[host.address] = host
        host.load(toml)

    def host(self, address: str, toml: str, *, ipv6: str | None = None) -> Host:
        host = Host(self, address, ipv6)
        self.hosts[address] = host
        host.load(toml)
        return host


@dataclass
class Link:
    """One TCP connection: two ends, each (host address, peer, conn)."""

    ends: dict[str, tuple[PeerId, ConnId]] = field(default_factory=dict)
    open: bool = True


class Host:
    """An engine with everything around it simulated; implements its ports."""

    def __init__(self, world: World, address: str, ipv6: str | None) -> None:
        self.world = world
        self.address = address
        self.ipv6 = ipv6
        self.life = 0  # what an earlier life has planned does not happen
        self.begin()

    def begin(self) -> None:
        """A process that has just been started."""
        self.links: dict[tuple[PeerId, ConnId], tuple[Link, str]] = {}
        self.sent: list[tuple[PeerId, int, bytes]] = []  # (peer, message type, body)
        self.readers: dict[tuple[PeerId, ConnId], MessageReader] = {}
        self.armed: dict[str, Instant] = {}
        self._timers: dict[str, object] = {}
        self.blocked: set[PeerId] = set()  # peers whose connection takes no more UPDATEs
        self.listening_on: tuple[str, ...] = ()
        self.keys: tuple[TcpKey, ...] = ()
        self.targets: dict[PeerId, DialTarget] = {}  # of the last dial
        self.bfd_commands: list[object] = []
        self.bfd_keys: set[str] = set()
        self.unsolicited: tuple[str, ...] = ()
        self.ports = itertools.count(30000)
        self.discards: dict[str, int] = {}
        self.recorder = Recorder()
        self.engine = Engine(
            Config(router_id="192.0.2.1", default_as=1),
            clock=self,
            timers=self,
            connections=self,
            bfd_control=self,
            interfaces=self,
            rng=self.world.rng,
            recorder=self.recorder,
        )
        self.config = Config(router_id="192.0.2.1", default_as=1)
        self.operations = Operations(self.engine, self._load)

    async def _load(self, old: Config) -> Amended:
        return amended(old, self.config)

    def load(self, toml: str) -> None:
        self.config = loads(toml)
        apply_config(self.engine, self.config)

    # Clock
    def now(self) -> Instant:
        return self.world.now

    def wall(self, at: Instant) -> float:
        return at / 1e6

    # Timers
    def arm(self, key: str, deadline: Instant | None, callback: Callable[[], None]) -> None:
        if deadline is None:
            self.armed.pop(key, None)
            self._timers.pop(key, None)
            return
        if self.armed.get(key) == deadline:
            return
        self.armed[key] = deadline
        timer = self._timers[key] = object()  # one that was disarmed does not fire for another with its deadline
        life = self.life

        def fire() -> None:
            if self.life == life and self._timers.get(key) is timer:
                del self.armed[key], self._timers[key]
                callback()

        self.world.at(max(deadline, self.world.now), fire)

    def soon(self, callback: Callable[[], None]) -> None:
        life = self.life
        self.world.at(self.world.now, lambda: callback() if self.life == life else None)

    # Interfaces
    def around(self, local: bytes, remote: bytes, scope_id: int = 0) -> InterfaceAddresses:
        return InterfaceAddresses(pack(self.address), pack(self.ipv6) if self.ipv6 else None, None, on_link=True)

    def on_link(self, remote: str) -> bool:
        return True

    def name(self, index: int) -> str | None:
        return None

    def all_addresses(self) -> frozenset[bytes]:
        return frozenset({pack(self.address)})

    # Connections
    def set_keys(self, keys: tuple[TcpKey, ...]) -> None:
        self.keys = keys

    def listen(self, addresses: tuple[str, ...]) -> None:
        self.listening_on = addresses

    def dial(self, peer: PeerId, conn: ConnId, target: DialTarget) -> None:
        self.targets[peer] = target
        life = self.life
        self.world.at(self.world.now + DELAY, lambda: self._arrive(peer, conn, target) if self.life == life else None)

    def _arrive(self, peer: PeerId, conn: ConnId, target: DialTarget) -> None:
        if not self.world.passes(self.address, target.remote):
            return  # the SYN is lost; the core gives up by its own timer
        other = self.world.hosts.get(target.remote)
        here = Endpoint(pack(self.address), self.address, next(self.ports))
        there = Endpoint(pack(target.remote), target.remote, target.port)
        accepted = other.engine.connection_accepted(there, here) if other and other.listening_on else None
        if not isinstance(accepted, Accepted) or other is None:
            self.engine.connection_failed(peer, conn, "Connection refused")
            return
        end = (accepted.peer, accepted.conn)
        link = Link({self.address: (peer, conn), other.address: end})
        self.links[peer, conn] = (link, other.address)
        other.links[end] = (link, self.address)
        other.engine.connection_confirmed(*end, there, here)
        if link.open:
            self.engine.dial_succeeded(peer, conn, here, there)

    def send(self, peer: PeerId, conn: ConnId, data: bytes) -> None:
        reader = self.readers.setdefault((peer, conn), MessageReader())
        reader.extended = True
        reader.feed(data)
        while (message := reader.next_message()) is not None:
            self.sent.append((peer, message[0], bytes(message[1])))
        found = self.links.get((peer, conn))
        if found is not None:
            self._transfer(*found, lambda host, end: host.engine.data_received(*end, data))

    def _transfer(self, link: Link, other: str, deliver: Callable[[Host, tuple[PeerId, ConnId]], None]) -> None:
        host = self.world.hosts.get(other)

        def arrive() -> None:
            end = link.ends.get(other)
            if host is None or end is None or host.links.get(end, (None, ""))[0] is not link:
                return
            if self.world.passes(self.address, other):
                deliver(host, end)

        self.world.at(self.world.now + DELAY, arrive)

    def close(self, peer: PeerId, conn: ConnId, linger: bool) -> None:
        found = self.links.pop((peer, conn), None)
        if found is None:
            return
        link, other = found
        link.open = False
        link.ends.pop(self.address, None)

        def ended(host: Host, end: tuple[PeerId, ConnId]) -> None:
            host.links.pop(end, None)
            host.engine.connection_failed(*end, "the peer closed the connection")

        self._transfer(link, other, ended)

    def writable(self, peer: PeerId, conn: ConnId) -> bool:
        return peer not in self.blocked

    # BFD
    def bind(self, addresses: list[str]) -> None:
        self.bfd_commands.append(("bind", tuple(addresses)))

    def accept_unsolicited(self, networks: list[str], interface: str | None) -> None:
        if networks or self.unsolicited:
            self.unsolicited = tuple(networks)
            self.bfd_commands.append(("unsolicited", tuple(networks), interface))

    def add(self, session: bfd.Add) -> int:
        self.bfd_commands.append(session)
        self.bfd_keys.add(session.key)
        return 1

    def change(self, key: str, timers: bfd.Settings) -> None:
        self.bfd_commands.append(("change", key, timers))

    def remove(self, key: str) -> None:
        self.bfd_keys.remove(key)
        self.bfd_commands.append(("remove", key))

    def set_admin_down(self, key: str, admin_down: bool) -> None:
        self.bfd_commands.append(("admin-down", key, admin_down))

    def clear(self, key: str | None = None) -> None:
        if key is not None and key not in self.bfd_keys:
            raise KeyError(key)  # as the link does
        self.bfd_commands.append(("clear", key))

    async def query(self) -> list[bfd.SessionReport]:
        return []

    def bfd_says(
        self,
        key: str,
        old: str,
        new: str,
        *,
        diag: int = 0,
        remote_admin_down: bool = False,
        blame: str = "",
        silence: int = 150 * MILLISECOND,
        control_plane_independent: bool = False,
    ) -> None:
        """The worker's word on a session."""
        self.engine.bfd_event(
            bfd.StateChange(
                key=key,
                generation=1,
                old=old,
                new=new,
                diag=diag,
                remote_diag=7 if remote_admin_down else 0,
                remote_admin_down=remote_admin_down,
                blame=blame,
                at=self.world.now,
                last_rx=self.world.now - silence,
                previous_rx=self.world.now - silence - 50 * MILLISECOND,
                detection_time_us=150 * MILLISECOND,
                control_plane_independent=control_plane_independent,
            )
        )

    # what tests ask
    def state(self, peer: str) -> str:
        return self.operations.neighbor(peer).state

    def learned(self, peer: str | None = None) -> set[str]:
        return {str(route.prefix) for route in self.operations.routes_learned(peer)}

    def events(self, kind: str) -> list[str]:
        return [event.text for event in self.operations.events(limit=10_000) if event.kind == kind]

    def take_sent(self, kind: int) -> list[bytes]:
        """Bodies of the messages of one type sent since the last call; forgets all others too."""
        bodies = [body for _, message, body in self.sent if message == kind]
        self.sent.clear()
        return bodies
