"""FRRouting: zebra, bgpd and bfdd in a path space of their own (``-N``)."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..lab import Host
from ..process import HarnessError, run, wait_until
from .base import Notification, Peer, PeerConfig, Route, ordered


class Frr(Peer):
    """The daemons run as the user ``frr``, which has to own the path space."""

    name = "frr"
    programs = ("vtysh", "/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "/usr/lib/frr/bfdd")
    package = "frr"
    has_bfd = True
    has_flows = True
    default_med = 0
    _directories: ClassVar[tuple[Path, ...]] = (Path("/run/frr"), Path("/etc/frr"))

    def __init__(self, host: Host, config: PeerConfig) -> None:
        super().__init__(host, config)
        self.space = host.name

    def start(self) -> None:
        for parent in self._directories:
            directory = parent / self.space
            directory.mkdir(parents=True, exist_ok=True)
            shutil.chown(directory, "frr", "frr")
        path = self.directory / "frr.conf"
        path.write_text(self._configuration())
        path.chmod(0o644)
        self.processes = []
        try:
            for daemon in ("zebra", "bfdd", "bgpd"):
                argv = [f"/usr/lib/frr/{daemon}", "-N", self.space, "-f", str(path), "--log", "stdout"]
                self.processes.append(self.host.spawn([*argv, "--log-level", "debugging"], f"{daemon}.log"))
                wait_until(partial(self._ready, daemon), 10, f"frr: {daemon} answers", self.logs())
        except BaseException:
            self.kill9()
            raise

    def _ready(self, daemon: str) -> bool:
        self._check_started()
        socket = self._directories[0] / self.space / f"{daemon}.vty"
        return socket.exists() and "FRRouting" in self._vtysh("show version", daemon)

    def stop(self) -> None:
        bgpd_first = list(reversed(self.processes))
        try:
            for process in bgpd_first:
                process.stop(timeout=15)
        finally:
            self.kill9()

    def kill9(self) -> None:
        super().kill9()
        for parent in self._directories:
            shutil.rmtree(parent / self.space, ignore_errors=True)

    def _vtysh(self, command: str, daemon: str = "bgpd") -> str:
        return run(["vtysh", "-N", self.space, "-d", daemon, "-c", command])

    def _json(self, command: str, daemon: str = "bgpd") -> Any:
        output = self._vtysh(command, daemon)
        try:
            return json.loads(output)
        except ValueError as error:
            raise HarnessError(f"vtysh: {command}: {output[-500:]}") from error

    def _configuration(self) -> str:
        c = self.config
        neighbor = f"neighbor {c.remote_address}"
        # The route maps come first: one that is defined later is taken up after a delay of 5 s.
        lines = [
            "frr defaults datacenter",
            *[
                line
                for version in (4, 6)
                for number, route in enumerate(c.of_version(version))
                for line in self._route_map(f"v{version}-{number}", route)
            ],
            f"router bgp {c.local_as}",
            f" bgp router-id {c.router_id}",
            " bgp log-neighbor-changes",
            " no bgp ebgp-requires-policy",
            " no bgp default ipv4-unicast",
            " no bgp network import-check",
            f" {neighbor} remote-as {c.remote_as}",
            f" {neighbor} update-source {c.local_address}",
            f" {neighbor} advertisement-interval 0",
            f" {neighbor} timers {max(1, c.hold_time // 3)} {c.hold_time}",
            f" {neighbor} timers connect 1",
        ]
        if c.passive:
            lines.append(f" {neighbor} passive")
        if c.bfd:
            lines.append(f" {neighbor} bfd {c.bfd.multiplier} {c.bfd.interval_ms} {c.bfd.interval_ms}")
        for version in (4, 6):
            lines.append(f" address-family ipv{version} unicast")
            for number, route in enumerate(c.of_version(version)):
                lines.append(f"  network {route.prefix} route-map v{version}-{number}")
            lines.append(f"  {neighbor} activate")
            lines.append(f"  {neighbor} soft-reconfiguration inbound")
            if c.ibgp:
                lines.append(f"  {neighbor} next-hop-self")
            lines.append(" exit-address-family")
        for version in (4, 6) if c.flows else ():
            lines += [f" address-family ipv{version} flowspec", f"  {neighbor} activate", " exit-address-family"]
        lines += ["exit", "debug bgp neighbor-events", ""]
        return "\n".join(lines)

    def _route_map(self, name: str, route: Route) -> list[str]:
        lines = [f"route-map {name} permit 10", f" set origin {route.origin}"]
        if route.med is not None:
            lines.append(f" set metric {route.med}")
        if route.local_pref is not None:
            lines.append(f" set local-preference {route.local_pref}")
        if route.as_path:
            lines.append(f" set as-path prepend {' '.join(map(str, route.as_path))}")
        if route.communities:
            lines.append(f" set community {' '.join(route.communities)}")
        if route.large_communities:
            lines.append(f" set large-community {' '.join(route.large_communities)}")
        return [*lines, "exit"]

    def session_state(self) -> str:
        neighbors = self._json("show bgp neighbors json")
        state = neighbors.get(self.config.remote_address, {}).get("bgpState", "idle")
        return "idle" if state in {"Clearing", "Deleted"} else str(state).lower()

    def routes(self) -> list[Route]:
        seen = []
        for family in ("ipv4", "ipv6"):
            table = self._json(f"show bgp {family} unicast json")
            for prefix, paths in table.get("routes", {}).items():
                if any(path["peerId"] == self.config.remote_address for path in paths):
                    seen += self._details(family, prefix)
        return sorted(seen, key=lambda route: route.prefix)

    def _details(self, family: str, prefix: str) -> list[Route]:
        """The route from our neighbor, or nothing: it may be gone since the table was read."""
        detail = self._json(f"show bgp {family} unicast {prefix} json")
        paths = [path for path in detail.get("paths", []) if path["peer"]["peerId"] == self.config.remote_address]
        return [self._parse(prefix, path) for path in paths]

    def _parse(self, prefix: str, path: dict[str, Any]) -> Route:
        hops = [hop["ip"] for hop in path["nexthops"] if hop.get("scope", "global") == "global"]
        return Route(
            prefix=prefix,
            next_hop=hops[0] if hops else path["nexthops"][0]["ip"],
            as_path=tuple(asn for segment in path["aspath"]["segments"] for asn in segment["list"]),
            med=path.get("metric"),
            local_pref=path.get("locPrf"),
            origin=path["origin"].lower(),
            communities=ordered(path.get("community", {}).get("list", [])),
            large_communities=ordered(path.get("largeCommunity", {}).get("list", [])),
        )

    def flows(self, version: int) -> list[str]:
        return self._vtysh(f"show bgp ipv{version} flowspec detail").split("BGP flowspec entry")[1:]

    def bfd_state(self) -> str:
        for peer in self._json("show bfd peers json", "bfdd"):
            if peer["peer"] == self.config.remote_address:
                return {"shutdown": "admin-down"}.get(peer["status"], str(peer["status"]))
        return "down"

    def notifications(self) -> list[Notification]:
        found = []
        for line in self.log_text().splitlines():
            match = re.search(r"%NOTIFICATION: (received from|sent to) neighbor \S+ (\d+)/(\d+)", line)
            if match:
                found.append(Notification(match[1] == "sent to", int(match[2]), int(match[3]), line))
        return found
