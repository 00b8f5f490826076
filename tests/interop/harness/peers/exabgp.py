"""ExaBGP 4.2: routes from its configuration, received ones from its JSON process API."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ..lab import Host
from ..process import HarnessError, wait_until
from .base import Notification, Peer, PeerConfig, Route, ordered


class ExaBgp(Peer):
    """It keeps no table: the one here is what its API has told since the session came up.

    A Cease with a shutdown communication (RFC 9003) is an error to it (4.2.21 with Python 3): it answers 1/0.
    As an AS path it sends what is configured, so its own AS is configured too.
    """

    name = "exabgp"
    programs = ("exabgp",)
    package = "exabgp"
    has_flows = True
    reads_shutdown_text = False
    survives_collisions = False

    def __init__(self, host: Host, config: PeerConfig) -> None:
        super().__init__(host, config)
        self._lives = 0

    def start(self) -> None:
        self._lives += 1
        path = self.directory / "exabgp.conf"
        path.write_text(self._configuration())
        env = {
            "exabgp.daemon.user": "root",
            "exabgp.daemon.daemonize": "false",
            "exabgp.tcp.bind": "::" if self.config.scoped else self.config.local_address,  # it knows no scope
            "exabgp.log.destination": "stdout",
            "exabgp.log.level": "DEBUG",
            "exabgp.api.cli": "false",
            "exabgp.api.ack": "false",
        }
        self.processes = [self.host.spawn(["exabgp", str(path)], "exabgp.log", env)]
        wait_until(self._ready, 15, "exabgp loaded its configuration", self.logs())

    def _ready(self) -> bool:
        self._check_started()
        return self._feed.exists()

    @property
    def _feed(self) -> Path:
        return self.directory / f"feed-{self._lives}.json"

    @property
    def _orders(self) -> Path:
        return self.directory / f"orders-{self._lives}"

    def order(self, command: str) -> None:
        """A command of its API."""

        def given() -> bool:
            try:
                descriptor = os.open(self._orders, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                raise HarnessError(str(error)) from error
            with os.fdopen(descriptor, "w") as orders:
                orders.write(f"{command}\n")
            return True

        wait_until(given, 5, "exabgp's process reads orders", self.logs())

    def feed_text(self) -> str:
        """What its API has told in this life, a JSON object a line."""
        return self._feed.read_text()

    def _configuration(self) -> str:
        c = self.config
        writer = self.directory / "writer.py"
        writer.write_text(_WRITER)
        routes = "\n".join(f"    {self._static(route)}" for route in c.routes)
        families = "".join(f"    ipv{version} flow;\n" for version in (4, 6)) if c.flows else ""
        flows = "\n".join(c.own_flows)
        return f"""process feed {{
  run {sys.executable} {writer} {self._feed} {self._orders};
  encoder json;
}}
neighbor {c.remote_address} {{
  router-id {c.router_id};
  local-address {c.local_address};
  local-as {c.local_as};
  peer-as {c.remote_as};
  hold-time {c.hold_time};
  passive {str(c.passive).lower()};
  family {{
    ipv4 unicast;
    ipv6 unicast;
{families}  }}
  api {{
    processes [ feed ];
    neighbor-changes;
    receive {{ parsed; update; notification; }}
    send {{ parsed; notification; }}
  }}
  static {{
{routes}
  }}
  flow {{
{flows}
  }}
}}
"""

    def _static(self, route: Route) -> str:
        c = self.config
        words = [f"route {route.prefix} next-hop {c.next_hop(route)} origin {route.origin}"]
        path = route.as_path if c.ibgp else (c.local_as, *route.as_path)
        if path:
            words.append(f"as-path [ {' '.join(map(str, path))} ]")
        if route.med is not None:
            words.append(f"med {route.med}")
        if route.local_pref is not None:
            words.append(f"local-preference {route.local_pref}")
        if route.communities:
            words.append(f"community [ {' '.join(route.communities)} ]")
        if route.large_communities:
            words.append(f"large-community [ {' '.join(route.large_communities)} ]")
        return " ".join(words) + ";"

    def _messages(self, feeds: list[Path]) -> list[dict[str, Any]]:
        lines = [line for feed in feeds if feed.exists() for line in feed.read_text().splitlines()]
        # Not strict: the Data of a NOTIFICATION stands in it octet by octet.
        return [json.loads(line, strict=False) for line in lines if line.startswith("{") and line.endswith("}")]

    def session_state(self) -> str:
        state = "idle"
        for message in self._messages([self._feed]):
            if message["type"] == "state":
                state = {"up": "established", "connected": "connect"}.get(message["neighbor"]["state"], "idle")
        return state

    def flows(self, version: int) -> list[str]:
        table: dict[str, str] = {}
        family = f"ipv{version} flow"
        for message in self._messages([self._feed]):
            if message["type"] == "state" and message["neighbor"]["state"] == "down":
                table.clear()
            if message["type"] != "update" or message["neighbor"].get("direction") == "send":
                continue
            update = message["neighbor"]["message"].get("update", {})
            for entry in update.get("withdraw", {}).get(family, []):
                table.pop(entry["string"], None)
            for entries in update.get("announce", {}).get(family, {}).values():
                for entry in entries:
                    table[entry["string"]] = f"{entry['string']} {json.dumps(update.get('attribute'))}"
        return list(table.values())

    def routes(self) -> list[Route]:
        table: dict[tuple[str, str], Route] = {}
        for message in self._messages([self._feed]):
            if message["type"] == "state" and message["neighbor"]["state"] == "down":
                table.clear()
            if message["type"] != "update" or message["neighbor"].get("direction") == "send":
                continue
            update = message["neighbor"]["message"].get("update", {})
            for family in update.get("withdraw", {}).values():
                for entry in family:
                    table.pop(_key(entry), None)
            for family in update.get("announce", {}).values():
                for next_hop, entries in reversed(family.items()):  # a link-local address follows the global one
                    for entry in entries if isinstance(entries, list) else []:
                        table[_key(entry)] = _parse(entry["nlri"], next_hop, update.get("attribute", {}))
        return sorted(table.values(), key=lambda route: route.prefix)

    def notifications(self) -> list[Notification]:
        found = []
        for message in self._messages(sorted(self.directory.glob("feed-*.json"))):
            if message["type"] == "notification":
                neighbor = message["neighbor"]
                fact = neighbor.get("notification") or neighbor["message"]["notification"]
                sent = neighbor.get("direction") == "send"
                found.append(Notification(sent, int(fact["code"]), int(fact["subcode"]), json.dumps(message)))
        return found


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    """A route's prefix and path identifier (RFC 7911)."""
    return entry["nlri"], str(entry.get("path-information", ""))


def _parse(prefix: str, next_hop: str, attribute: dict[str, Any]) -> Route:
    path = attribute.get("as-path", [])
    return Route(
        prefix=prefix,
        next_hop=next_hop,
        as_path=tuple(path),
        med=attribute.get("med"),
        local_pref=attribute.get("local-preference"),
        origin=attribute["origin"],
        communities=ordered([tuple(community) for community in attribute.get("community", [])]),
        large_communities=ordered([tuple(community) for community in attribute.get("large-community", [])]),
    )


_WRITER = """import os, sys, threading
def order():
    while True:
        with open(sys.argv[2]) as orders:
            print(orders.read(), end="", flush=True)
os.mkfifo(sys.argv[2])
threading.Thread(target=order, daemon=True).start()
with open(sys.argv[1], "w", buffering=1) as feed:
    for line in sys.stdin:
        feed.write(line)
"""
