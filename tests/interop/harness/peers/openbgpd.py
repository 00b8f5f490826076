"""OpenBGPD (the portable release)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..process import HarnessError, wait_until
from .base import Notification, Peer, Route, ordered


class OpenBgpd(Peer):
    """It holds a session idle for half a minute after an error, and refuses TCP meanwhile: ``hasten`` ends that."""

    name = "openbgpd"
    programs = ("/usr/sbin/bgpd", "bgpctl")
    shown_local_pref = 100
    package = "openbgpd"
    any_as_path = False

    def start(self) -> None:
        Path("/run/openbgpd").mkdir(exist_ok=True)  # its children's root directory; the socket is elsewhere
        path = self.directory / "bgpd.conf"
        path.write_text(self._configuration())
        path.chmod(0o600)
        self.processes = [self.host.spawn(["/usr/sbin/bgpd", "-d", "-v", "-f", str(path)], "openbgpd.log")]
        wait_until(self._ready, 10, "bgpd answers bgpctl", self.logs())

    def _ready(self) -> bool:
        self._check_started()
        return bool(self._json("show", "neighbor").get("neighbors"))

    @property
    def _socket(self) -> str:
        return str(self.directory / "bgpd.sock")

    @property
    def _neighbor(self) -> str:
        return self.config.remote_address + self.config.scope

    def _json(self, *argv: str) -> Any:
        output = self.host.run("bgpctl", "-s", self._socket, "-j", *argv)  # a scope is a name of its namespace
        try:
            return json.loads(output)
        except ValueError as error:
            raise HarnessError(f"bgpctl {argv}: {output[-500:]}") from error

    def _configuration(self) -> str:
        c = self.config
        lines = [
            f"AS {c.local_as}",
            f"router-id {c.router_id}",
            "fib-update no",
            "log updates",
            "connect-retry 1",
            f"listen on {c.local_address}{c.scope}",
            f'socket "{self._socket}"',
            f"holdtime {c.hold_time}",
            *[self._network(route) for route in c.routes],
            f"neighbor {c.remote_address}{c.scope} {{",
            f"  remote-as {c.remote_as}",
            f"  local-address {c.local_address}{c.scope}",
            "  announce IPv4 unicast",
            "  announce IPv6 unicast",
            # Over a session of the other family the portable release sends ::1 as the next hop of a directly
            # connected neighbor; "no-modify" stops that, for a multihop one.
            *(["  multihop 2"] if not c.ibgp else []),
            *(["  passive"] if c.passive else []),
            "}",
            "allow from any",
            "allow to any",
            "match to any set nexthop no-modify",
            "",
        ]
        return "\n".join(lines)

    def _network(self, route: Route) -> str:
        c = self.config
        sets = [f"origin {route.origin}", f"nexthop {c.next_hop(route)}"]
        if route.med is not None:
            sets.append(f"metric {route.med}")
        if route.local_pref is not None:
            sets.append(f"localpref {route.local_pref}")
        if route.as_path:
            if set(route.as_path) != {c.local_as}:
                raise ValueError("OpenBGPD can only prepend its own AS to a network")
            sets.append(f"prepend-self {len(route.as_path)}")
        sets += [f"community {community}" for community in route.communities]
        sets += [f"large-community {community}" for community in route.large_communities]
        return f"network {route.prefix} set {{ {' '.join(sets)} }}"

    def session_state(self) -> str:
        neighbors = self._json("show", "neighbor", self._neighbor)["neighbors"]
        return str(neighbors[0]["state"]).lower()

    def routes(self) -> list[Route]:
        # "in" is the Adj-RIB-In: what the neighbor sent, before any filter.
        table = self._json("show", "rib", "detail", "in", "neighbor", self._neighbor)
        return sorted((_parse(entry) for entry in table.get("rib", [])), key=lambda route: route.prefix)

    def hasten(self) -> None:
        if self.session_state() == "idle":
            self.host.run("bgpctl", "-s", self._socket, "neighbor", self._neighbor, "up", check=False)

    def notifications(self) -> list[Notification]:
        found = []
        for line in self.log_text().splitlines():
            match = re.search(r"(received|sending) notification: (.*)", line)
            if match:
                found.append(Notification(match[1] == "sending", *_numbers(match[2]), line))
        return found


# It writes names: "Cease, administratively down".
_CEASE = {
    "max-prefix exceeded": 1,
    "administratively down": 2,
    "peer unconfigured": 3,
    "administrative reset": 4,
    "connection rejected": 5,
    "other config change": 6,
    "collision": 7,
    "resource exhaustion": 8,
    "hard reset": 9,
}
_CODES = {
    "Header error": 1,
    "error in OPEN message": 2,
    "error in UPDATE message": 3,
    "HoldTimer expired": 4,
    "Finite State Machine error": 5,
    "Cease": 6,
}


def _numbers(text: str) -> tuple[int, int]:
    code = next((number for name, number in _CODES.items() if text.startswith(name)), 0)
    unknown = re.search(r"unknown subcode (\d+)", text)
    if unknown:
        return code, int(unknown[1])
    if code == 6:
        return code, next((number for name, number in _CEASE.items() if name in text), 0)
    return code, 0


def _parse(entry: dict[str, Any]) -> Route:
    """It prints 0 for a MED that is absent, and its default of 100 for a LOCAL_PREF."""
    return Route(
        prefix=entry["prefix"],
        next_hop=entry["exit_nexthop"],
        as_path=tuple(int(asn) for asn in entry.get("aspath", "").split()),
        med=entry["metric"] or None,
        local_pref=entry["localpref"],
        origin=entry["origin"].lower(),
        communities=ordered(entry.get("communities", [])),
        large_communities=ordered(entry.get("large_communities", [])),
    )
