"""GoBGP: routes are put in over its CLI, as its users do."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ..process import HarnessError, wait_until
from .base import Notification, Peer, Route, ordered


class GoBgp(Peer):
    """It waits 5 to 10 s between tries to connect, and that cannot be shortened."""

    name = "gobgp"
    programs = ("gobgpd", "gobgp")
    package = "gobgpd"
    has_flows = True

    def start(self) -> None:
        path = self.directory / "gobgpd.toml"
        path.write_text(self._configuration())
        argv = ["gobgpd", "-f", str(path), "-l", "debug", "--pprof-disable", "--api-hosts", "127.0.0.1:50051"]
        self.processes = [self.host.spawn(argv, "gobgpd.log")]
        wait_until(self._ready, 10, "gobgpd answers gobgp", self.logs())
        for route in self.config.routes:
            self._gobgp("global", "rib", "add", "-a", f"ipv{route.version}", *self._add(route))
        for rule in self.config.own_flows:
            family, _, words = rule.partition(" ")
            self._gobgp("global", "rib", "add", "-a", family, *words.split())

    def _ready(self) -> bool:
        self._check_started()
        return self.config.remote_address in self._gobgp("neighbor")

    @property
    def _neighbor(self) -> str:
        return self.config.remote_address + self.config.scope

    def _gobgp(self, *argv: str) -> str:
        return self.host.run("gobgp", *argv)

    def _json(self, *argv: str) -> Any:
        output = self._gobgp("-j", *argv)
        try:
            return json.loads(output)
        except ValueError as error:
            raise HarnessError(f"gobgp {argv}: {output[-500:]}") from error

    def _configuration(self) -> str:
        c = self.config
        listened = "::" if c.scoped else c.local_address  # "can't listen on fe80::b%eth1"
        families = "".join(
            f'  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = "ipv{v}-{safi}"\n'
            for safi in (("unicast", "flowspec") if c.flows else ("unicast",))
            for v in (4, 6)
        )
        return (
            f'[global.config]\n  as = {c.local_as}\n  router-id = "{c.router_id}"\n'
            f'  local-address-list = ["{listened}"]\n'
            f"[[neighbors]]\n  [neighbors.config]\n"
            f'    neighbor-address = "{c.remote_address}{c.scope}"\n    peer-as = {c.remote_as}\n'
            f"  [neighbors.transport.config]\n"
            f'    local-address = "{c.local_address}{c.scope}"\n    passive-mode = {str(c.passive).lower()}\n'
            f"  [neighbors.timers.config]\n    connect-retry = 5\n    idle-hold-time-after-reset = 1\n"
            f"    hold-time = {c.hold_time}\n    keepalive-interval = {max(1, c.hold_time // 3)}\n{families}"
        )

    def _add(self, route: Route) -> list[str]:
        argv = [route.prefix, "nexthop", self.config.next_hop(route), "origin", route.origin]
        if route.as_path:
            argv += ["aspath", ",".join(map(str, route.as_path))]
        if route.med is not None:
            argv += ["med", str(route.med)]
        if route.local_pref is not None:
            argv += ["local-pref", str(route.local_pref)]
        if route.communities:
            argv += ["community", ",".join(route.communities)]
        if route.large_communities:
            argv += ["large-community", ",".join(route.large_communities)]
        return argv

    def session_state(self) -> str:
        state = self._json("neighbor", self._neighbor)["state"].get("session_state", 0)
        return _STATES[state] if isinstance(state, int) else str(state).lower()

    def routes(self) -> list[Route]:
        seen: list[Route] = []
        if self.session_state() != "established":
            return seen  # its table is gone, and the CLI says so by an error
        for family in ("ipv4", "ipv6"):
            table = self._json("neighbor", self._neighbor, "adj-in", "-a", family)
            seen += [self._parse(path) for paths in table.values() for path in paths]
        return sorted(seen, key=lambda route: route.prefix)

    def table(self, version: int) -> list[str]:
        """The prefixes in its table, whoever they are of: stale ones are there too."""
        return list(self._json("global", "rib", "-a", f"ipv{version}"))

    def flows(self, version: int) -> list[str]:
        table = self._json("neighbor", self._neighbor, "adj-in", "-a", f"ipv{version}-flowspec")
        return [f"{rule} {json.dumps(paths)}" for rule, paths in table.items()]

    def _parse(self, path: Any) -> Route:
        attributes = {attribute["type"]: attribute for attribute in path["attrs"]}
        reach = attributes.get(14, {})
        return Route(
            prefix=path["nlri"]["prefix"],
            next_hop=(attributes.get(3) or reach)["nexthop"],
            as_path=tuple(asn for segment in attributes.get(2, {}).get("as_paths", []) for asn in segment["asns"]),
            med=attributes[4]["metric"] if 4 in attributes else None,
            local_pref=attributes[5]["value"] if 5 in attributes else None,
            origin=_ORIGINS[attributes[1]["value"]],
            communities=ordered(
                [(number >> 16, number & 0xFFFF) for number in attributes.get(8, {}).get("communities", [])]
            ),
            large_communities=ordered(
                [
                    (value["ASN"], value["LocalData1"], value["LocalData2"])
                    for value in attributes.get(32, {}).get("value", [])
                ]
            ),
        )

    def notifications(self) -> list[Notification]:
        found = []
        for line in self.log_text().splitlines():
            match = re.search(r'"(?:Code|code)":"?(\d+)"?.*"(?:Subcode|subcode)":"?(\d+)"?', line)
            if match and "notification" in line.lower():
                sent = "received notification" not in line.lower()
                found.append(Notification(sent, int(match[1]), int(match[2]), line))
        return found


_STATES: Final = ("unknown", "idle", "connect", "active", "opensent", "openconfirm", "established")
_ORIGINS: Final = ("igp", "egp", "incomplete")
