"""bgpbfd in the middle, every real daemon around it, each on a cable of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from .harness.lab import Lab, Link
from .harness.ours import Bgpbfd
from .harness.peers import Bfd, Peer, PeerConfig, Route
from .harness.process import wait_until

OUR_AS = 65010
HOLD_TIME = 60  # of the peers; ours is 180


@dataclass(slots=True, frozen=True)
class Arrangement:
    """How the sessions of one star are made. ``dial``: we, they or both."""

    dial: str
    ibgp: bool
    version: int

    def __str__(self) -> str:
        return f"{self.dial}-dial-{'ibgp' if self.ibgp else 'ebgp'}-over-ipv{self.version}"


@dataclass(slots=True)
class Arm:
    """One peer of the star, and what the two say to each other."""

    peer: Peer
    link: Link
    ours: Bgpbfd
    arrangement: Arrangement
    announced: list[Route]  # by us, as written in the configuration
    write: Callable[..., None]  # the star's configuration file, see Star.write

    @property
    def address(self) -> str:
        """The peer's, that of the session."""
        return self.peer.config.local_address

    @property
    def our_address(self) -> str:
        return self.peer.config.remote_address

    def expected_there(self, routes: Iterable[Route] | None = None) -> list[Route]:
        """What the peer's CLI has to show of our routes (default: those announced)."""
        ibgp = self.arrangement.ibgp
        seen = []
        for route in self.announced if routes is None else routes:
            local_pref = (route.local_pref or 100) if ibgp else self.peer.shown_local_pref
            own = self.link.a4 if route.version == 4 else self.link.a6
            seen.append(
                replace(
                    route,
                    next_hop=route.next_hop or own,
                    as_path=route.as_path if ibgp else (OUR_AS, *route.as_path),
                    local_pref=local_pref,
                )
            )
        return sorted(seen, key=lambda route: route.prefix)

    def expected_here(self) -> list[Route]:
        """What ``show routes learned`` has to show of the peer's routes."""
        config = self.peer.config
        return sorted(
            (
                replace(
                    route,
                    next_hop=config.next_hop(route),
                    as_path=route.as_path if config.ibgp else (config.local_as, *route.as_path),
                    med=self.peer.default_med if route.med is None else route.med,
                    local_pref=(route.local_pref or 100) if config.ibgp else None,
                )
                for route in config.routes
            ),
            key=lambda route: route.prefix,
        )

    def learned(self) -> list[Route]:
        """The usable ones: some peers send our own routes back to us, and those are kept with ``valid: false``."""
        views = [view for view in self.ours.learned(self.address) if view["valid"]]
        return sorted((parse_learned(view) for view in views), key=lambda route: route.prefix)

    def wait_up(self, timeout: float = 25) -> None:
        """Established at both ends."""

        def both() -> bool:
            if self.ours.state(self.address) == self.peer.session_state() == "established":
                return True
            self.peer.hasten()
            return False

        wait_until(both, timeout, f"{self.peer.name}: established at both ends", self.logs(), 0.1)

    def wait_routes_there(self, routes: Iterable[Route] | None = None, timeout: float = 10) -> None:
        """Until the peer shows exactly these of ours; the difference is asserted, so that pytest shows it."""
        expected = self.expected_there(routes)
        _wait_equal(self.peer.routes, expected, timeout)

    def wait_routes_here(self, timeout: float = 10) -> None:
        _wait_equal(self.learned, self.expected_here(), timeout)

    def logs(self) -> list[Path]:
        return [*self.peer.logs(), self.ours.log]


def _wait_equal(read: Any, expected: list[Route], timeout: float) -> None:
    try:
        wait_until(lambda: read() == expected, timeout, "the expected routes", interval=0.1)
    except AssertionError:
        assert read() == expected


def parse_learned(view: dict[str, Any]) -> Route:
    return Route(
        prefix=view["prefix"],
        next_hop=view["next_hop"],
        as_path=tuple(int(asn) for asn in view["as_path"].split()),
        med=view["multi_exit_disc"],
        local_pref=view["local_pref"],
        origin=view["origin"].lower(),
        communities=tuple(view["communities"]),
        large_communities=tuple(view.get("large_communities", ())),
    )


def our_routes(ibgp: bool) -> list[Route]:
    """What bgpbfd announces to each peer: every attribute on one route, none on another, both families."""
    return [
        Route(
            "198.51.100.0/24",
            as_path=(64500, 64501),
            med=50,
            local_pref=200 if ibgp else None,
            communities=("65000:99", "65000:101"),
            large_communities=("65000:1:2",),
        ),
        Route("198.51.100.128/25", origin="incomplete"),
        Route("2001:db8:a::/48", med=7, origin="egp", large_communities=("4200000000:1:2", "4200000000:3:4")),
        Route("2001:db8:a:8000::/49"),
    ]


def their_routes(kind: type[Peer], own_as: int, ibgp: bool) -> list[Route]:
    path: tuple[int, ...] = (64500, 64501) if kind.any_as_path else () if ibgp else (own_as, own_as)
    if ibgp and not kind.as_path_over_ibgp:
        path = ()
    return [
        Route(
            "203.0.113.0/24",
            as_path=path,
            med=50,
            local_pref=200 if ibgp else None,
            communities=("65000:99", "65000:101"),
            large_communities=("65000:1:2",),
        ),
        Route("203.0.113.128/25", origin="incomplete"),
        Route("2001:db8:b::/48", med=7, origin="egp", large_communities=("4200000000:1:2", "4200000000:3:4")),
    ]


class Star:
    """The peers are started together; one that fails to start fails only the tests that need it."""

    def __init__(self, lab: Lab, kinds: Sequence[type[Peer]], arrangement: Arrangement, bfd: Bfd | None = None) -> None:
        self.lab = lab
        self.arrangement = arrangement
        self.bfd = bfd
        self.arms: dict[str, Arm] = {}
        self._faults: dict[str, BaseException] = {}
        host = lab.host("ours")
        self.ours = Bgpbfd(host, "")
        for number, kind in enumerate(kinds, 1):
            link = lab.link(host, there := lab.host(kind.name))
            own_as = OUR_AS if arrangement.ibgp else 65000 + number
            v4 = arrangement.version == 4
            config = PeerConfig(
                local_as=own_as,
                remote_as=OUR_AS,
                local_address=link.b4 if v4 else link.b6,
                remote_address=link.a4 if v4 else link.a6,
                router_id=link.b4,
                own4=link.b4,
                own6=link.b6,
                interface=link.interface,
                passive=arrangement.dial == "we" or (arrangement.dial == "both" and not kind.survives_collisions),
                hold_time=HOLD_TIME,
                bfd=bfd,
                routes=their_routes(kind, own_as, arrangement.ibgp),
            )
            announced = our_routes(arrangement.ibgp)
            self.arms[kind.name] = Arm(kind(there, config), link, self.ours, arrangement, announced, self.write)
        self.write()

    def start(self) -> None:
        with ThreadPoolExecutor(len(self.arms) + 1) as pool:
            ours = pool.submit(self.ours.start)
            started: dict[str, Future[None]] = {name: pool.submit(arm.peer.start) for name, arm in self.arms.items()}
        ours.result()
        for name, future in started.items():
            if (error := future.exception()) is not None:
                self._faults[name] = error

    def arm(self, name: str) -> Arm:
        if name not in self.arms:
            pytest.skip(f"{name} is not installed")
        if name in self._faults:
            raise AssertionError(f"{name} did not start") from self._faults[name]
        return self.arms[name]

    def working(self) -> list[Arm]:
        return [arm for name, arm in self.arms.items() if name not in self._faults]

    def write(self, transmit_interval_ms: int | None = None) -> None:
        """The configuration file from ``announced`` of each arm."""
        lines = ['router_id = "10.255.0.10"', f"default_as = {OUR_AS}", "poll_interval = 1"]
        lines.append("bgp_socket = []" if self.arrangement.dial == "we" else 'bgp_socket = "[::]:179"')
        for arm in self.arms.values():
            config = arm.peer.config
            lines += [
                "[[peers]]",
                f'remote_ip = "{arm.address}"',
                f"remote_as = {config.local_as}",
                f'local_ip = "{arm.our_address}"',
                f'description = "{arm.peer.name}"',
                f"passive = {json.dumps(self.arrangement.dial == 'they')}",
                'families = ["ipv4 unicast", "ipv6 unicast"]',
            ]
            if self.bfd:
                interval = transmit_interval_ms or self.bfd.interval_ms
                lines.append(
                    f"bfd = {{ transmit_interval_ms = {interval}, receive_interval_ms = {self.bfd.interval_ms}, "
                    f"detect_multiplier = {self.bfd.multiplier}, damping = false }}"  # they fail again and again here
                )
            for route in arm.announced:
                lines += self._static(arm, route)
        self.ours.write("\n".join([*lines, ""]))

    def _static(self, arm: Arm, route: Route) -> list[str]:
        other = arm.link.a4 if route.version == 4 else arm.link.a6
        next_hop = route.next_hop or ("self" if route.version == self.arrangement.version else other)
        lines = [
            "[[peers.static_routes]]",
            f'prefix = "{route.prefix}"',
            f'next_hop = "{next_hop}"',
            f'origin = "{route.origin}"',
        ]
        if route.as_path:
            lines.append(f"as_path = {json.dumps([str(asn) for asn in route.as_path])}")
        if route.med is not None:
            lines.append(f"multi_exit_disc = {route.med}")
        if route.local_pref is not None:
            lines.append(f"local_pref = {route.local_pref}")
        if route.communities or route.large_communities:
            lines.append(f"communities = {json.dumps([*route.communities, *route.large_communities])}")
        return lines
