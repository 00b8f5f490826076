"""More than one path a prefix (RFC 7911), and IPv4 over IPv6 next hops (RFC 8950), global and link-local."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import PEERS, Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer, PeerConfig, Route
from .more import (
    Site,
    Spec,
    birdc,
    edited,
    faulty,
    gobgp,
    policy,
    replaced,
    since,
    source,
    up,
    vtysh,
    wait_equal,
)
from .star import OUR_AS

pytestmark = pytest.mark.interop

NAMES = [kind.name for kind in PEERS]
TWICE = {name: f"203.0.113.{16 * number}/28" for number, name in enumerate(NAMES)}  # each peer's own, by two paths
SENDERS = ["bird", "frr", "gobgp", "exabgp", "openbgpd"]
FEEDER_AS = 64499
OVER_V6 = ["bird-v6only", "frr-v6only", "gobgp-v6only", "exabgp-v6only"]
LINK_LOCAL = ["bird-ll", "frr-ll", "gobgp-ll", "exabgp-ll"]
OURS4, OURS6 = Route("198.51.100.0/24", med=4), Route("2001:db8:a::/48", med=6)
THEIRS4, THEIRS6 = Route("192.0.2.0/24", med=4), Route("2001:db8:b::/48", med=6)


def _two_paths(kind: type[Peer], prefix: str) -> type[Peer]:
    """ADD-PATH in both directions, and a second path of ``prefix`` where the configuration can have one."""

    def edit(text: str, config: PeerConfig) -> str:
        if issubclass(kind, Bird):
            text = re.sub(r"(  ipv[46] \{ )", r"\1add paths on; ", text)
            text += f"protocol static again {{ ipv4; route {prefix} blackhole {{ bgp_med = 2; }}; }}\n"
            return text.replace("if net = ", 'if proto = "out4" && net = ')  # the first path's attributes
        if issubclass(kind, Frr):
            text = re.sub(r"(  neighbor (\S+) activate)", r"\1\n  neighbor \2 addpath-tx-all-paths", text)
            more = "  redistribute connected route-map again\n"
            text = replaced(text, " address-family ipv4 unicast\n", f" address-family ipv4 unicast\n{more}")
            rule = f"ip prefix-list again permit {prefix}\nroute-map again permit 10\n"
            return f"{rule} match ip address prefix-list again\n set metric 2\nexit\n{text}"
        if issubclass(kind, GoBgp):
            more = "    [neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8\n"
            return re.sub(r'(      afi-safi-name = "ipv.-unicast"\n)', rf"\1{more}", text)
        if issubclass(kind, OpenBgpd):
            text = replaced(
                text,
                "  announce IPv4 unicast\n",
                "  announce add-path recv yes\n  announce add-path send all\n  announce IPv4 unicast\n",
            )
            return replaced(
                text,
                "allow from any",
                f"neighbor {_feeder_address(config)[0]} {{\n  remote-as {FEEDER_AS}\n}}\nallow from any",
            )
        text = replaced(text, "  family {", "  capability { add-path send/receive; }\n  family {")
        first = f"    route {prefix} next-hop {config.own4} "
        again = f"{first}path-information 0.0.0.2 origin igp as-path [ {config.local_as} ] med 2;"
        return replaced(
            replaced(text, first, f"{first}path-information 0.0.0.1 "), "  static {\n", f"  static {{\n{again}\n"
        )

    return edited(kind, edit)


def _feeder_address(config: PeerConfig) -> tuple[str, str]:
    """The feeder's, and OpenBGPD's own, on a cable of theirs: the number after that of the session's."""
    number = int(config.own4.split(".")[2])
    return f"10.78.{number}.2", f"10.78.{number}.1"


def _extended(kind: type[Peer], link_local: bool = False) -> type[Peer]:
    """With capability 5, and nothing that would need an IPv4 address."""

    def edit(text: str, config: PeerConfig) -> str:
        if issubclass(kind, Bird):
            text = replaced(
                text, f"next hop address {config.own4};", f"next hop address {config.own6}; extended next hop on;"
            )
            return replaced(text, "  direct;", f'  direct;\n  interface "{config.interface}";') if link_local else text
        if issubclass(kind, Frr):
            neighbor = f" neighbor {config.remote_address}"
            if link_local:
                text = replaced(
                    text, f"{neighbor} update-source {config.local_address}", f"{neighbor} interface {config.interface}"
                )
            return replaced(
                text, " address-family ipv4", f"{neighbor} capability extended-nexthop\n address-family ipv4"
            )
        if issubclass(kind, ExaBgp):
            text = replaced(
                text, "  family {", "  capability { nexthop enable; }\n  nexthop { ipv4 unicast ipv6; }\n  family {"
            )
            return text.replace(f"next-hop {config.own4}", f"next-hop {config.own6}")
        return text

    return edited(kind, edit)


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Lab(tmp_path_factory.mktemp("paths")) as lab:
        both = [
            'add_path = "both"',
            'advertise_sources = ["config", "peer"]',
            'import_policy = "all"',
            'export_policy = "all"',
        ]
        extended = ["extended_next_hop = true"]
        specs = [
            *[
                Spec(_two_paths(kind, TWICE[kind.name]), dial="we", ours=both, routes=[Route(TWICE[kind.name], med=1)])
                for kind in PEERS
            ],
            *[
                Spec(
                    _extended(kind),
                    f"{kind.name}-v6only",
                    version=6,
                    dial="we",
                    ours=extended,
                    routes=[THEIRS4, THEIRS6],
                )
                for kind in (Bird, Frr, GoBgp, ExaBgp)
            ],
            *[
                Spec(
                    _extended(kind, True),
                    f"{kind.name}-ll",
                    version=6,
                    link_local=True,
                    dial="we" if kind is ExaBgp else "both",
                    ours=extended,
                    routes=[THEIRS4],
                )
                for kind in (Bird, Frr, GoBgp, ExaBgp)
            ],
        ]
        for spec in specs[len(PEERS) :]:
            spec.announced = [OURS4, OURS6]
        site = Site(lab, specs, top=policy("all"))
        for name in [*OVER_V6, *LINK_LOCAL]:
            if name in site.arms:
                _remove_ipv4(site, name)
        frr = site.arms["frr"].link
        frr.b.add_address(str(next(ipaddress.ip_network(TWICE["frr"]).hosts())) + "/28")
        feeder = _feeder(lab, site)
        captures = site.captures()
        site.start()
        if feeder:
            feeder.start()
        gobgpd = site.arms["gobgp"].peer
        more = ["nexthop", gobgpd.config.own4, "med", "2", "identifier", "2"]
        gobgp(gobgpd, "global", "rib", "add", "-a", "ipv4", TWICE["gobgp"], *more)
        yield World(site, captures)


def _remove_ipv4(site: Site, name: str) -> None:
    link = site.arms[name].link
    link.a.ip("addr", "del", f"{link.a4}/24", "dev", link.interface)
    link.b.ip("addr", "del", f"{link.b4}/24", "dev", link.interface)
    config = site.arms[name].peer.config
    if issubclass(site.specs[name].kind, GoBgp):
        config.routes = [Route(route.prefix, config.own6, med=route.med) for route in config.routes]


def _feeder(lab: Lab, site: Site) -> Peer | None:
    """A BIRD behind OpenBGPD, which has but one path for a network of its own."""
    if "openbgpd" not in site.arms:
        return None
    there = site.arms["openbgpd"].peer
    host = lab.host("feeder")
    remote, local = _feeder_address(there.config)
    there.host.ip("link", "add", "feed", "type", "veth", "peer", "name", "feed", "netns", host.name)
    for end, address in ((there.host, local), (host, remote)):
        end.add_address(f"{address}/24", "feed")
        end.ip("link", "set", "feed", "up")
    config = PeerConfig(
        local_as=FEEDER_AS,
        remote_as=there.config.local_as,
        local_address=remote,
        remote_address=local,
        router_id=remote,
        own4=remote,
        own6="fd78::1",
        interface="feed",
        routes=[Route(TWICE["openbgpd"], med=2)],
    )
    return Bird(host, config)


# -- RFC 7911 ---------------------------------------------------------------------------------------------------


def _received(site: Site, name: str) -> dict[int, int]:
    """Path identifier → MED of the prefix that the peer has two paths for."""
    return {
        view["path_id"]: view["multi_exit_disc"]
        for view in site.ours.learned(site.peer_id(name))
        if view["prefix"] == TWICE[name]
    }


@pytest.mark.feature("ADD-PATH received")
@pytest.mark.parametrize("name", SENDERS)
def test_rfc7911_3_two_paths_of_one_prefix_are_kept_apart(world: World, name: str) -> None:
    site = world.site
    up(site, name)
    meds = [0, 1] if name == "openbgpd" else [1, 2]
    wait_equal(lambda: len(_received(site, name)), 2)
    if name != "openbgpd":
        assert sorted(_received(site, name).values()) == meds
    neighbor = site.ours.neighbor(site.peer_id(name))
    assert "ipv4 unicast" in neighbor["add_path_receive"]
    assert "ipv4 unicast" in neighbor["add_path_send"]


def _paths_there(site: Site, name: str, origin: str) -> list[tuple[int, ...]]:
    """The AS paths that the peer's CLI shows of what ``origin`` has two paths for."""
    return sorted(route.as_path for route in site.arm(name).peer.routes() if route.prefix == TWICE[origin])


def _origin(name: str) -> str:
    return "gobgp" if name == "bird" else "bird"


@pytest.mark.feature("ADD-PATH sent")
@pytest.mark.parametrize("name", NAMES)
def test_rfc7911_5_both_paths_are_sent_on(world: World, name: str) -> None:
    site, origin = world.site, _origin(name)
    up(site, name)
    up(site, origin)
    asn = site.arm(origin).peer.config.local_as
    wait_equal(lambda: _paths_there(site, name, origin), [(OUR_AS, asn)] * 2)


@pytest.mark.feature("ADD-PATH sent", peers=["frr", "gobgp", "exabgp", "openbgpd"])
def test_rfc7911_3_one_is_withdrawn_and_the_other_stays(world: World) -> None:
    """BIRD's second path goes and comes back; nobody is sent anything for the first."""
    site = world.site
    sinks = [name for name in site.working() if name in NAMES and name != "bird"]
    site.wait_up([*sinks, "bird"])
    for name in sinks:
        wait_equal(lambda name=name: len(_paths_there(site, name, "bird")), 2)  # type: ignore[misc]
    before = since(site, sinks)
    birdc(site.arm("bird").peer, "disable again")
    for name in sinks:
        wait_equal(lambda name=name: len(_paths_there(site, name, "bird")), 1)  # type: ignore[misc]
    assert list(_received(site, "bird").values()) == [1]
    birdc(site.arm("bird").peer, "enable again")
    for name in sinks:
        wait_equal(lambda name=name: len(_paths_there(site, name, "bird")), 2)  # type: ignore[misc]
    assert since(site, sinks) == before


# -- RFC 8950 ---------------------------------------------------------------------------------------------------


def _next_hops(site: Site, name: str) -> dict[str, str | None]:
    return {route.prefix: route.next_hop for route in site.arm(name).peer.routes()}


@pytest.mark.feature("extended next hop")
@pytest.mark.parametrize("name", OVER_V6)
def test_rfc8950_3_ipv4_both_ways_without_an_ipv4_address(world: World, name: str) -> None:
    site = world.site
    arm = up(site, name)
    wait_equal(lambda: _next_hops(site, name), {OURS4.prefix: arm.link.a6, OURS6.prefix: arm.link.a6})
    wait_equal(lambda: {route.prefix for route in arm.learned()}, {THEIRS4.prefix, THEIRS6.prefix})
    assert {route.prefix: route.next_hop for route in arm.learned()}[THEIRS4.prefix] == arm.link.b6
    assert site.ours.neighbor(site.peer_id(name))["extended_next_hop"] == ["ipv4 unicast"]


@pytest.mark.feature("extended next hop", "link-local sessions")
@pytest.mark.parametrize("name", LINK_LOCAL)
def test_rfc8950_3_ipv4_over_a_link_local_session(world: World, name: str) -> None:
    site = world.site
    arm = up(site, name)
    wait_equal(lambda: set(_next_hops(site, name)), {OURS4.prefix, OURS6.prefix})
    assert _next_hops(site, name)[OURS4.prefix] in {arm.link.a6, "fe80::a"}
    peer = site.peer_id(name)
    wait_equal(lambda: [view["prefix"] for view in site.ours.learned(peer) if view["valid"]], [THEIRS4.prefix])
    learned = next(view for view in site.ours.learned(peer) if view["prefix"] == THEIRS4.prefix)
    assert {learned["next_hop"], learned.get("next_hop_link_local")} & {arm.link.b6, "fe80::b"}
    if name == "frr-ll":
        assert "fe80::a" in vtysh(arm.peer, f"show bgp ipv4 unicast {OURS4.prefix}")


def test_zz_wireshark_finds_no_fault(world: World) -> None:
    for name in world.site.working():
        arm, capture = world.site.arm(name), world.captures[name]
        capture.stop()
        assert capture.packets(f"bgp.type == 2 && {source(arm.our_address)}", ["bgp.type"]), name
        assert faulty(capture, arm.our_address) == [], name
    assert "Traceback" not in world.site.ours.log.read_text()
