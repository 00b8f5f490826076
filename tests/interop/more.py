"""Sites: one bgpbfd and the daemons that a module needs, each session with its own particulars.

``Star`` has all sessions alike; here each ``Spec`` says how its session differs, and what is to stand in bgpbfd's
``[[peers]]`` beside the addresses and AS numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from .harness.capture import Capture, Packet
from .harness.lab import Host, Lab, Link
from .harness.ours import Bgpbfd
from .harness.peers import Bfd, Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer, PeerConfig, Route
from .harness.process import HarnessError, run, wait_until
from .star import OUR_AS, Arm, Arrangement

T = TypeVar("T")


@dataclass(slots=True)
class Spec:
    """One session. ``ours``: further keys of our ``[[peers]]``; ``listed`` False: there is no such entry."""

    kind: type[Peer]
    label: str = ""
    version: int = 4
    dial: str = "both"
    ibgp: bool = False
    link_local: bool = False
    routed: bool = False  # a router is between us; Arm.link is the cable at our end
    hold_time: int = 60
    bfd: Bfd | None = None
    ours: list[str] = field(default_factory=list)
    listed: bool = True
    announced: list[Route] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    asn: int = 0  # 0: one of its own

    @property
    def name(self) -> str:
        return self.label or self.kind.name


class Site:
    """A peer that cannot be used or does not start fails or skips only the tests that ask for its arm."""

    def __init__(
        self,
        lab: Lab,
        specs: Sequence[Spec],
        top: Sequence[str] = (),
        our_as: int = OUR_AS,
        daemon: Callable[[Host], Bgpbfd] | None = None,
    ) -> None:
        self.lab = lab
        self.top = list(top)
        self.our_as = our_as
        self.specs = {spec.name: spec for spec in specs}
        self.arms: dict[str, Arm] = {}
        self._faults: dict[str, BaseException] = {}
        self.late: set[str] = set()  # was not Established in time: the tests after it need not wait as long
        host = lab.host("ours")
        self.ours = daemon(host) if daemon else Bgpbfd(host, "")
        for number, spec in enumerate(specs, 1):
            if reason := spec.kind.missing():
                self._faults[spec.name] = pytest.skip.Exception(reason)
                continue
            self._add(spec, number, host)
        self.write()

    def _add(self, spec: Spec, number: int, host: Host) -> None:
        there = self.lab.host(spec.name)
        if spec.routed:
            link, far = _routed(self.lab, host, there)
        else:
            link = far = self.lab.link(host, there)
        local, remote = (far.b4, link.a4) if spec.version == 4 else (far.b6, link.a6)
        if spec.link_local:
            local, remote = _link_local(link)
        spec.asn = spec.asn or (self.our_as if spec.ibgp else 65100 + number)
        config = PeerConfig(
            local_as=spec.asn,
            remote_as=self.our_as,
            local_address=local,
            remote_address=remote,
            router_id=far.b4,
            own4=far.b4,
            own6=far.b6,
            interface=far.interface,
            passive=spec.dial == "we",
            hold_time=spec.hold_time,
            bfd=spec.bfd,
            routes=spec.routes,
            scoped=spec.link_local,
        )
        arrangement = Arrangement(spec.dial, spec.ibgp, spec.version)
        self.arms[spec.name] = Arm(
            spec.kind(there, config), link, self.ours, arrangement, list(spec.announced), self.write
        )

    def peer_id(self, name: str) -> str:
        """What bgpbfd and its CLI call the neighbor."""
        arm = self.arms[name]
        scope = f"%{arm.link.interface}" if self.specs[name].link_local else ""
        return arm.address + scope

    def write(self) -> None:
        lines = ['router_id = "10.255.0.10"', f"default_as = {self.our_as}"]
        lines += [f"{key} = {value}" for key, value in _DEFAULTS.items() if not _has(self.top, key)]
        lines += self.top
        for name, arm in self.arms.items():
            spec = self.specs[name]
            if not spec.listed:
                continue
            entry = [
                "[[peers]]",
                f'remote_ip = "{self.peer_id(name)}"',
                f"remote_as = {arm.peer.config.local_as}",
                f'local_ip = "{arm.our_address}"',
                f'description = "{name}"',
                f"passive = {json.dumps(spec.dial == 'they')}",
                *spec.ours,
            ]
            if spec.bfd and not _has(spec.ours, "bfd"):
                entry.append(bfd_line(spec.bfd))
            lines += entry
            for route in arm.announced:
                lines += static_route(route)
        self.ours.write("\n".join([*lines, ""]))

    def reload(self) -> None:
        self.write()
        self.ours.ctl("reload")

    def start(self, ours: bool = True) -> None:
        """Everything at once."""
        with ThreadPoolExecutor(len(self.arms) + 1) as pool:
            own = pool.submit(self.ours.start) if ours else None
            started: dict[str, Future[None]] = {name: pool.submit(arm.peer.start) for name, arm in self.arms.items()}
        if own is not None:
            own.result()
        for name, future in started.items():
            if (error := future.exception()) is not None:
                self._faults[name] = error

    def arm(self, name: str) -> Arm:
        fault = self._faults.get(name)
        if isinstance(fault, pytest.skip.Exception):
            raise fault
        if fault is not None:
            raise AssertionError(f"{name} did not start") from fault
        return self.arms[name]

    def working(self) -> list[str]:
        return [name for name in self.arms if name not in self._faults]

    def wait_up(self, names: Iterable[str] | None = None, timeout: float = 25) -> None:
        """These (default: all that started) are Established at both ends; asked all at once."""
        left = set(self.working() if names is None else names)

        def ended() -> bool:
            ours = self.states()
            for name in list(left):
                peer = self.arms[name].peer
                if ours.get(self.peer_id(name)) == "established" == peer.session_state():
                    left.discard(name)
                else:
                    peer.hasten()
            return not left

        try:
            wait_until(ended, timeout, "every session established at both ends", logs_of(self), 0.1)
        except HarnessError as error:
            raise HarnessError(f"not established: {left}\n{error}") from error

    def states(self) -> dict[str, str]:
        """Of every neighbor."""
        return {view["peer"]: view["state"] for view in self.ours.call("show_peers")}

    def captures(self, what: str = "tcp port 179") -> dict[str, Capture]:
        """One a link, started together."""
        names = self.working()
        with ThreadPoolExecutor(len(names)) as pool:
            made = pool.map(lambda name: Capture(self.ours.host, self.arms[name].link.interface, what), names)
            return dict(zip(names, made, strict=True))


_DEFAULTS = {"poll_interval": "1", "bgp_socket": '"[::]:179"'}


def _has(lines: Iterable[str], key: str) -> bool:
    return any(re.match(rf"{key}\s*=", line) for line in lines)


def _link_local(link: Link) -> tuple[str, str]:
    """Addresses that a person can write down, in place of those made of the interfaces' MAC addresses."""
    for host, address in ((link.a, "fe80::a"), (link.b, "fe80::b")):
        host.ip("-6", "addr", "flush", "dev", link.interface, "scope", "link")
        host.add_address(f"{address}/64", link.interface)
    return "fe80::b", "fe80::a"


def _routed(lab: Lab, host: Host, there: Host) -> tuple[Link, Link]:
    """Ours – a router that forwards – theirs: the cables at our end and at theirs."""
    router = lab.host(f"{there.label}-router")
    near, far = lab.link(host, router), lab.link(router, there)
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    host.ip("route", "add", f"{far.b4}/32", "via", near.b4)
    host.ip("-6", "route", "add", f"{far.b6}/128", "via", near.b6)
    there.ip("route", "add", f"{near.a4}/32", "via", far.a4)
    there.ip("-6", "route", "add", f"{near.a6}/128", "via", far.a6)
    return near, far


def bfd_line(bfd: Bfd, **more: object) -> str:
    keys: dict[str, object] = {
        "transmit_interval_ms": bfd.interval_ms,
        "receive_interval_ms": bfd.interval_ms,
        "detect_multiplier": bfd.multiplier,
        "damping": False,  # failures come one after another here
    }
    pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in (keys | more).items())
    return f"bfd = {{ {pairs} }}"


def static_route(route: Route) -> list[str]:
    lines = [
        "[[peers.static_routes]]",
        f'prefix = "{route.prefix}"',
        f'next_hop = "{route.next_hop or "self"}"',
        f'origin = "{route.origin}"',
    ]
    if route.as_path:
        lines.append(f"as_path = {json.dumps([str(asn) for asn in route.as_path])}")
    if route.med is not None:
        lines.append(f"multi_exit_disc = {route.med}")
    if route.communities or route.large_communities:
        lines.append(f"communities = {json.dumps([*route.communities, *route.large_communities])}")
    return lines


def up(site: Site, name: str, timeout: float = 25) -> Arm:
    """The arm, Established at both ends. Unlike ``Arm.wait_up`` it knows of link-local neighbors."""
    arm = site.arm(name)
    peer = site.peer_id(name)

    def both() -> bool:
        if site.states().get(peer) == "established" == arm.peer.session_state():
            return True
        arm.peer.hasten()
        return False

    try:
        wait_until(both, 2 if name in site.late else timeout, f"{name}: established at both ends", arm.logs(), 0.1)
    except HarnessError:
        site.late.add(name)
        raise
    return arm


def wait_bfd(site: Site, name: str, state: str = "up", timeout: float = 10) -> None:
    """Ours says so, and the peer's CLI does."""
    arm = site.arm(name)
    ours = {"admin-down": "shutdown"}.get(state, state)

    def both() -> bool:
        return bool(site.ours.bfd(site.peer_id(name))["status"] == ours and arm.peer.bfd_state() == state)

    wait_until(both, timeout, f"{name}: BFD {state} at both ends", arm.logs())


def wait_equal(read: Callable[[], object], expected: object, timeout: float = 10) -> None:
    """The difference is asserted in the end, so that pytest shows it."""
    try:
        wait_until(lambda: read() == expected, timeout, "the expected value", interval=0.1)
    except AssertionError:
        assert read() == expected


def source(address: str) -> str:
    """A display filter for what ``address`` sent."""
    return f"{'ipv6' if ':' in address else 'ip'}.src == {address}"


BGP_TYPES = {1: "open", 2: "update", 3: "notification", 4: "keepalive", 5: "route-refresh"}


def since(site: Site, names: Iterable[str] | None = None) -> dict[str, object]:
    """When each session came up: equal later means that none was reset."""
    return {name: site.ours.neighbor(site.peer_id(name))["connect_time"] for name in names or site.working()}


def policy(name: str, *terms: str, default: str = "accept") -> list[str]:
    """``[policies.NAME]``, for the configuration's top; terms are TOML inline tables."""
    return [f"[policies.{name}]", f'default = "{default}"', f"terms = [ {', '.join(terms)} ]"]


def messages(capture: Capture, address: str) -> list[str]:
    """The kinds of the BGP messages that ``address`` sent, in order."""
    packets = capture.packets(f"bgp && {source(address)} && !tcp.analysis.retransmission", ["bgp.type"])
    return [BGP_TYPES[int(number)] for packet in packets for number in packet.fields["bgp.type"]]


_REACHED = ("bgp.nlri_prefix", "bgp.mp_reach_nlri_ipv6_prefix")
_WITHDRAWN = ("bgp.withdrawn_prefix", "bgp.mp_unreach_nlri_ipv6_prefix")


def reached(capture: Capture, address: str) -> list[str]:
    """Each announcement in the UPDATEs of ``address``: the prefixes' addresses, in order."""
    return _prefixes(capture, address, _REACHED)


def withdrawn(capture: Capture, address: str) -> list[str]:
    return _prefixes(capture, address, _WITHDRAWN)


def _prefixes(capture: Capture, address: str, fields: Sequence[str]) -> list[str]:
    packets = capture.packets(f"bgp.type == 2 && {source(address)} && !tcp.analysis.retransmission", fields)
    return [text for packet in packets for name in fields for text in packet.fields[name]]


def refreshes(capture: Capture, address: str) -> list[tuple[str, str]]:
    """(AFI, subtype) of the ROUTE-REFRESH messages: 0 asks, 1 and 2 mark beginning and end."""
    fields = ["bgp.route_refresh.afi", "bgp.route_refresh.subtype"]
    packets = capture.packets(f"bgp.type == 5 && {source(address)}", fields)
    return [pair for packet in packets for pair in zip(*(packet.fields[field] for field in fields), strict=True)]


def faulty(capture: Capture, address: str) -> list[Packet]:
    """Frames of ``address`` that Wireshark calls malformed, or finds an error in."""
    wrong = '(_ws.malformed || _ws.expert.severity == "Error")'
    return capture.packets(f"{wrong} && {source(address)}", ["frame.number", "_ws.expert.message"])


def gaps(packets: Sequence[Packet]) -> list[float]:
    """s between one packet and the next."""
    times = [packet.time for packet in packets]
    return [later - earlier for earlier, later in pairwise(times)]


# -- what the peers' own CLIs are asked, beyond ``Peer`` -----------------------------------------------------


def birdc(peer: Peer, command: str) -> str:
    return run(["birdc", "-s", str(peer.directory / "bird.ctl"), *command.split()])


def vtysh(peer: Peer, *commands: str, daemon: str = "bgpd") -> str:
    argv = [word for command in commands for word in ("-c", command)]
    return run(["vtysh", "-N", peer.host.name, "-d", daemon, *argv])


def gobgp(peer: Peer, *argv: str) -> str:
    return peer.host.run("gobgp", *argv)


def bgpctl(peer: Peer, *argv: str) -> str:
    return peer.host.run("bgpctl", "-s", str(peer.directory / "bgpd.sock"), *argv)


def edited(kind: type[Peer], edit: Callable[[str, PeerConfig], str]) -> type[Peer]:
    """The same daemon with another configuration: what ``edit`` makes of the usual one."""

    class Edited(kind):  # type: ignore[valid-type, misc]
        def _configuration(self) -> str:
            return edit(super()._configuration(), self.config)

    Edited.__name__ = f"{kind.__name__}Edited"
    return Edited


def with_bird(extra: str) -> type[Peer]:
    """BIRD with more in its ``protocol bgp``."""
    return edited(Bird, lambda text, _: replaced(text, "  direct;", f"  direct;\n  {extra}"))


def with_exabgp(extra: str) -> type[Peer]:
    """ExaBGP with more in its ``neighbor``."""
    return edited(ExaBgp, lambda text, _: replaced(text, "  family {", f"  {extra}\n  family {{"))


def with_frr(*extra: str) -> type[Peer]:
    """FRR with more in its ``router bgp``; ``{}`` stands for our address."""

    def edit(text: str, config: PeerConfig) -> str:
        lines = "\n".join(f" {line.format(config.remote_address)}" for line in extra)
        return replaced(text, " address-family ipv4", f"{lines}\n address-family ipv4")

    return edited(Frr, edit)


def with_gobgp(section: str, extra: str) -> type[Peer]:
    """GoBGP with more keys under ``[section]``."""
    return edited(GoBgp, lambda text, _: replaced(text, f"[{section}]\n", f"[{section}]\n{extra}\n"))


def with_openbgpd(*extra: str) -> type[Peer]:
    """OpenBGPD with more in its ``neighbor``."""
    lines = "".join(f"  {line}\n" for line in extra)
    return edited(
        OpenBgpd, lambda text, _: replaced(text, "  announce IPv4 unicast\n", f"{lines}  announce IPv4 unicast\n")
    )


def replaced(text: str, old: str, new: str) -> str:
    """The first ``old`` becomes ``new``; without one the configuration is not what the caller believes."""
    if old not in text:
        raise ValueError(f"no {old!r} in the configuration")
    return text.replace(old, new, 1)


def logs_of(site: Site) -> list[Path]:
    return [path for host in site.lab.hosts for path in host.log_files()]
