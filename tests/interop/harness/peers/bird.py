"""BIRD 2."""

from __future__ import annotations

import re
from typing import Final

from ..process import run, wait_until
from .base import Notification, Peer, Route, ordered


class Bird(Peer):
    """Error waits are cut to a second: by default BIRD refuses TCP for a minute after an error."""

    name = "bird"
    programs = ("bird", "birdc")
    shown_local_pref = 100
    package = "bird2"
    has_bfd = True
    has_flows = True

    def start(self) -> None:
        path = self.directory / "bird.conf"
        path.write_text(self._configuration())
        argv = ["bird", "-f", "-c", str(path), "-s", str(self._socket), "-P", str(self.directory / "bird.pid")]
        self.processes = [self.host.spawn(argv, "bird.out.log")]
        wait_until(self._ready, 10, "bird answers birdc", self.logs())

    @property
    def _socket(self) -> str:
        return str(self.directory / "bird.ctl")

    def _ready(self) -> bool:
        self._check_started()
        return "Daemon is up and running" in self._birdc("show status")

    def _birdc(self, command: str) -> str:
        return run(["birdc", "-s", self._socket, *command.split()])

    def _configuration(self) -> str:
        c = self.config
        lines = [
            f'log "{self.host.logs / "bird.log"}" all;',
            f"router id {c.router_id};",
            "protocol device { scan time 2; }",
        ]
        if c.bfd:
            lines.append(
                f'protocol bfd {{ interface "{c.interface}" {{ interval {c.bfd.interval_ms} ms; '
                f"multiplier {c.bfd.multiplier}; idle tx interval 1 s; }}; }}"
            )
        for version in (4, 6):
            lines.append(f"protocol static out{version} {{\n  ipv{version};")
            lines += [f"  route {route.prefix} blackhole;" for route in c.of_version(version)]
            lines += ["}", f"filter attributes{version} {{", "  if source != RTS_STATIC then reject;"]
            lines += [self._attributes(route) for route in c.of_version(version)]
            lines += ["  accept;", "}"]
        lines += [
            "protocol bgp ours {",
            f"  local {c.local_address} as {c.local_as};",
            f"  neighbor {c.remote_address} as {c.remote_as};",
            "  direct;",
            f"  passive {'on' if c.passive else 'off'};",
            f"  hold time {c.hold_time};",
            "  connect delay time 1; connect retry time 1; error wait time 1, 1;",
            f"  bfd {'on' if c.bfd else 'off'};",
        ]
        for version, own in ((4, c.own4), (6, c.own6)):
            lines.append(
                f"  ipv{version} {{ import all; export filter attributes{version}; next hop address {own}; }};"
            )
        if c.flows:
            lines.insert(0, "flow4 table flows4; flow6 table flows6;")
            lines += [f"  flow{version} {{ table flows{version}; import all; export none; }};" for version in (4, 6)]
        return "\n".join([*lines, "}", ""])

    def _attributes(self, route: Route) -> str:
        sets = [f"bgp_origin = ORIGIN_{route.origin.upper()};"] if route.origin != "igp" else []
        if route.med is not None:
            sets.append(f"bgp_med = {route.med};")
        if route.local_pref is not None:
            sets.append(f"bgp_local_pref = {route.local_pref};")
        sets += [f"bgp_path.prepend({asn});" for asn in reversed(route.as_path)]
        sets += [f"bgp_community.add(({c.replace(':', ',')}));" for c in route.communities]
        sets += [f"bgp_large_community.add(({c.replace(':', ',')}));" for c in route.large_communities]
        return f"  if net = {route.prefix} then {{ {' '.join(sets)} }}"

    def session_state(self) -> str:
        found = re.search(r"BGP state:\s+(\w+)", self._birdc("show protocols all ours"))
        state = found[1].lower() if found else "idle"
        return {"down": "idle", "close": "idle", "passive": "active"}.get(state, state)

    def routes(self) -> list[Route]:
        seen = [
            _parse_route(prefix, block)
            for table in ("master4", "master6")
            for prefix, block in _blocks(self._birdc(f"show route all table {table} protocol ours"))
        ]
        return sorted(seen, key=lambda route: route.prefix)

    def flows(self, version: int) -> list[str]:
        return re.split(r"\n(?=flow\d )", self._birdc(f"show route table flows{version} all"))[1:]

    def bfd_state(self) -> str:
        for line in self._birdc("show bfd sessions").splitlines():
            fields = line.split()
            if fields and fields[0] == self.config.remote_address:
                return {"admindown": "admin-down"}.get(fields[2].lower(), fields[2].lower())
        return "down"

    def notifications(self) -> list[Notification]:
        found = []
        for line in self.log_text().splitlines():
            match = re.search(r"ours: (Received|Error): (.*)", line)
            numbers = match and _numbers(match[2])
            if match and numbers:
                found.append(Notification(match[1] == "Error", *numbers, line))
        return found


# BIRD writes messages, not numbers; an unknown pair is written "Unknown error 6.10".
_MESSAGES: Final[dict[str, tuple[int, int]]] = {
    "Hold timer expired": (4, 0),
    "Finite state machine error": (5, 0),
    "Unexpected message in OpenSent state": (5, 1),
    "Unexpected message in OpenConfirm state": (5, 2),
    "Unexpected message in Established state": (5, 3),
    "Bad peer AS": (2, 2),
    "Bad BGP identifier": (2, 3),
    "Unacceptable hold time": (2, 6),
    "Required capability missing": (2, 7),
    "Maximum number of prefixes reached": (6, 1),
    "Administrative shutdown": (6, 2),
    "Peer de-configured": (6, 3),
    "Administrative reset": (6, 4),
    "Connection rejected": (6, 5),
    "Other configuration change": (6, 6),
    "Connection collision resolution": (6, 7),
    "Out of Resources": (6, 8),
    "Cease": (6, 0),
}


def _numbers(text: str) -> tuple[int, int] | None:
    unknown = re.search(r"(\d+)\.(\d+)", text)
    if text.startswith("Unknown") and unknown:
        return int(unknown[1]), int(unknown[2])
    return next((pair for message, pair in _MESSAGES.items() if text.startswith(message)), None)


def _blocks(output: str) -> list[tuple[str, list[str]]]:
    """``show route all`` → (prefix, the lines under it)."""
    blocks: list[tuple[str, list[str]]] = []
    for line in output.splitlines():
        head = re.match(r"([0-9a-f.:]+/\d+)\s", line)
        if head:
            blocks.append((head[1], []))
        elif blocks and re.match(r" +\w+ \[", line):  # one more path of the same prefix (RFC 7911)
            blocks.append((blocks[-1][0], []))
        elif blocks and line.startswith("\t"):
            blocks[-1][1].append(line.strip())
    return blocks


def _parse_route(prefix: str, lines: list[str]) -> Route:
    facts = dict(line.split(": ", 1) for line in lines if line.startswith("BGP.") and ": " in line)

    def tuples(name: str) -> list[tuple[int, ...]]:
        groups = re.findall(r"\(([\d, ]+)\)", facts.get(name, ""))
        return [tuple(int(part) for part in group.split(",")) for group in groups]

    return Route(
        prefix=prefix,
        next_hop=facts["BGP.next_hop"].split()[0],
        as_path=tuple(int(asn) for asn in facts.get("BGP.as_path", "").split()),
        med=int(facts["BGP.med"]) if "BGP.med" in facts else None,
        local_pref=int(facts["BGP.local_pref"]) if "BGP.local_pref" in facts else None,
        origin=facts["BGP.origin"].lower(),
        communities=ordered(tuples("BGP.community")),
        large_communities=ordered(tuples("BGP.large_community")),
    )
