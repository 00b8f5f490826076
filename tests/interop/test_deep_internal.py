"""Inside one AS: route reflection (RFC 4456) and extended communities with five clients; long UPDATEs (RFC 8654)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import PEERS, Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer, PeerConfig, Route
from .harness.process import wait_until
from .more import (
    Site,
    Spec,
    bgpctl,
    birdc,
    edited,
    faulty,
    gobgp,
    replaced,
    source,
    up,
    vtysh,
    wait_equal,
    with_bird,
    with_exabgp,
)

pytestmark = pytest.mark.interop

NAMES = [kind.name for kind in PEERS]
CLUSTER = "10.255.0.99"
OURS = Route("198.51.100.0/24", local_pref=150)
OUR_COMMUNITIES = [
    "65000:99", "no-peer", "65000:1:2", "rt:65000:1", "soo:65000:2", "rt:192.0.2.9:3", "bandwidth:65000:1000000",
]  # fmt: skip
EXTENDED = ["rt:65000:1", "soo:65000:2"]
BANDWIDTH = "0x4004fde849742400"  # AS 65000, 1000000 octets a second (draft-ietf-idr-link-bandwidth)
TARGET, ORIGIN = "0x0002fde800000001", "0x0003fde800000002"
BIG = ["bird-big", "frr-big", "exabgp-big"]
MANY = 1300


def _theirs(name: str) -> Route:
    prefix = f"203.0.113.{16 * NAMES.index(name)}/28"
    return Route(
        prefix, med=3, local_pref=200, communities=("65000:7", "65535:65284"), large_communities=("65000:1:2",)
    )


class _GoBgpWithCommunities(GoBgp):
    def _add(self, route: Route) -> list[str]:
        return [*super()._add(route), "rt", "65000:1"]


def _communities(kind: type[Peer]) -> type[Peer]:
    """Its own route with a route target and, where it can, a site of origin."""

    def edit(text: str, config: PeerConfig) -> str:
        prefix = config.routes[0].prefix
        if issubclass(kind, Bird):
            more = "bgp_ext_community.add((rt, 65000, 1)); bgp_ext_community.add((ro, 65000, 2)); "
            text = text.replace(
                "import all;", "import all; gateway recursive;"
            )  # for next hops that are not on its link
            return replaced(text, f"if net = {prefix} then {{ ", f"if net = {prefix} then {{ {more}")
        if issubclass(kind, Frr):
            more = " set extcommunity rt 65000:1\n set extcommunity soo 65000:2\n"
            return replaced(text, " set large-community", f"{more} set large-community")
        if issubclass(kind, OpenBgpd):
            return replaced(
                text, "large-community", "ext-community rt 65000:1 ext-community soo 65000:2 large-community"
            )
        return replaced(text, "origin igp", f"origin igp extended-community [ {TARGET} {ORIGIN} ]")

    return _GoBgpWithCommunities if issubclass(kind, GoBgp) else edited(kind, edit)


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    client = ["route_reflector_client = true", 'advertise_sources = ["config", "peer"]']
    static = [
        "[[peers.static_routes]]",
        f'prefix = "{OURS.prefix}"',
        f"local_pref = {OURS.local_pref}",
        f"communities = {json.dumps(OUR_COMMUNITIES)}",
    ]
    many = [
        line
        for number in range(MANY)
        for line in ("[[peers.static_routes]]", f'prefix = "100.{64 + number // 256}.{number % 256}.0/24"')
    ]
    with Lab(tmp_path_factory.mktemp("internal")) as lab:
        specs = [
            *[
                Spec(_communities(kind), ibgp=True, dial="we", ours=[*client, *static], routes=[_theirs(kind.name)])
                for kind in PEERS
            ],
            Spec(with_bird("enable extended messages on;"), "bird-big", dial="we", ours=many),
            Spec(Frr, "frr-big", dial="we", ours=many),
            Spec(with_exabgp("capability { extended-message enable; }"), "exabgp-big", dial="we", ours=many),
        ]
        site = Site(lab, specs, top=[f'cluster_id = "{CLUSTER}"'])
        captures = site.captures()
        site.start()
        yield World(site, captures)


each_peer = pytest.mark.parametrize("name", NAMES)


def _detail(peer: Peer, prefix: str) -> str:
    """A route as the peer shows it in full, in one line."""
    if isinstance(peer, Bird):
        text = birdc(peer, f"show route all {prefix} protocol ours")
    elif isinstance(peer, Frr):
        text = vtysh(peer, f"show bgp ipv4 unicast {prefix}")
    elif isinstance(peer, OpenBgpd):
        text = bgpctl(peer, "show", "rib", "detail", "in", prefix)
    elif isinstance(peer, GoBgp):
        text = gobgp(peer, "-j", "neighbor", peer.config.remote_address, "adj-in", prefix)
    else:
        assert isinstance(peer, ExaBgp)
        text = "\n".join(line for line in peer.feed_text().splitlines() if f'"{prefix}"' in line)
    return re.sub(r"\s+", " ", text)


SHOWN = {  # route target, site of origin, route target of an address, bandwidth
    "bird": ["(rt, 65000, 1)", "(ro, 65000, 2)", "(rt, 192.0.2.9, 3)", "(unknown 0x4004, 65000, 1232348160)"],
    "frr": ["RT:65000:1", "SoO:65000:2", "RT:192.0.2.9:3", "LB:65000:1000000"],
    "gobgp": ['"value":"65000:1"', '"value":"65000:2"', '"value":"192.0.2.9:3"', '"asn":65000,"bandwidth":1000000'],
    "exabgp": ["target:65000:1", "origin:65000:0.0.0.2", "target:192.0.2.9:3", str(int(BANDWIDTH, 16))],
    "openbgpd": ["rt 65000:1", "soo 65000:2", "rt 192.0.2.9:3", "0x4004"],  # it shows zeros for what it does not know
}


@pytest.mark.feature("extended and well-known communities")
@each_peer
def test_rfc4360_ours_arrive_there(world: World, name: str) -> None:
    arm = up(world.site, name)
    wait_equal(lambda: arm.peer.route(OURS.prefix) is not None, True)
    route = arm.peer.route(OURS.prefix)
    assert route is not None
    assert route.communities == ("65000:99", "65535:65284")
    assert route.large_communities == ("65000:1:2",)
    assert route.local_pref == OURS.local_pref
    text = _detail(arm.peer, OURS.prefix)
    assert [piece for piece in SHOWN[name] if piece not in text] == [], text


@pytest.mark.feature("extended and well-known communities")
@each_peer
def test_rfc4360_theirs_arrive_here(world: World, name: str) -> None:
    site = world.site
    arm = up(site, name)
    wait_equal(
        lambda: [view["prefix"] for view in site.ours.learned(arm.address) if view["valid"]], [_theirs(name).prefix]
    )
    view = next(view for view in site.ours.learned(arm.address) if view["valid"])
    assert view["communities"] == ["65000:7", "no-peer"]
    assert view["large_communities"] == ["65000:1:2"]
    assert sorted(view["extended_communities"]) == (EXTENDED[:1] if name == "gobgp" else EXTENDED)
    assert view["local_pref"] == 200


REFLECTED = {
    "bird": (r"BGP.originator_id: ([\d.]+)", r"BGP.cluster_list: ([\d.]+)"),
    "frr": (r"Originator: ([\d.]+)", r"Cluster list: ([\d.]+)"),
    "gobgp": (r'"type":9,"value":"([\d.]+)"', r'"type":10,"value":\["([\d.]+)"\]'),
    "exabgp": (r'"originator-id": "([\d.]+)"', r'"cluster-list": \[ "([\d.]+)" \]'),
    "openbgpd": (r"Originator Id: ([\d.]+)", r"Cluster Id List: ([\d.]+)"),
}


@pytest.mark.feature("route reflection")
@each_peer
def test_rfc4456_8_a_client_gets_the_others_routes(world: World, name: str) -> None:
    """ORIGINATOR_ID and CLUSTER_LIST are put on, next hop, LOCAL_PREF and MED stay (§10)."""
    site = world.site
    arm = up(site, name)
    origin = "frr" if name == "bird" else "bird"
    there = up(site, origin)
    reflected = _theirs(origin)
    wait_equal(lambda: arm.peer.route(reflected.prefix) is not None, True)
    route = arm.peer.route(reflected.prefix)
    assert route is not None
    assert (route.next_hop, route.as_path) == (there.link.b4, ())
    assert (route.local_pref, route.med) == (200, 3)
    text = _detail(arm.peer, reflected.prefix)
    found = [re.search(pattern, text) for pattern in REFLECTED[name]]
    assert [match and match[1] for match in found] == [there.peer.config.router_id, CLUSTER], text
    others = {_theirs(other).prefix for other in site.working() if other in NAMES and other != name}
    wait_equal(lambda: {route.prefix for route in arm.peer.routes()}, {*others, OURS.prefix})


def _count(peer: Peer) -> int:
    if isinstance(peer, Bird):
        found = re.search(r"^(\d+) of", birdc(peer, "show route count protocol ours"), re.M)
        return int(found[1]) if found else 0
    if isinstance(peer, Frr):
        summary = json.loads(vtysh(peer, "show bgp ipv4 unicast summary json"))
        return int(summary["peers"][peer.config.remote_address]["pfxRcd"])
    return len(peer.routes())


def _longest(capture: Capture, address: str) -> int:
    packets = capture.packets(f"bgp.type == 2 && {source(address)}", ["bgp.length"])
    return max((int(text) for packet in packets for text in packet.fields["bgp.length"]), default=0)


@pytest.mark.feature("extended messages")
@pytest.mark.parametrize("name", BIG)
def test_rfc8654_4_many_prefixes_go_in_one_long_update(world: World, name: str) -> None:
    arm = up(world.site, name)
    wait_equal(partial(_count, arm.peer), MANY, 15)
    wait_until(lambda: _longest(world.captures[name], arm.our_address) > 5000, 5, "a long UPDATE in the capture")


def test_rfc8654_4_nobody_else_is_sent_one(world: World) -> None:
    for name in NAMES:
        assert 0 < _longest(world.captures[name], world.site.arm(name).our_address) <= 4096


def test_zz_wireshark_finds_no_fault(world: World) -> None:
    for name in world.site.working():
        arm, capture = world.site.arm(name), world.captures[name]
        capture.stop()
        assert capture.packets(f"bgp.type == 2 && {source(arm.our_address)}", ["bgp.type"]), name
        # Wireshark 4.0 knows of no BGP message beyond 4096 octets, and reads it all the same.
        known = rf"Length is invalid {_longest(capture, arm.our_address)}" if name in BIG else "nothing"
        wrong = [packet.fields["_ws.expert.message"] for packet in faulty(capture, arm.our_address)]
        assert [texts for texts in wrong if known not in texts or len(texts) > 2] == [], name  # beside it: TTL 1
    assert "Traceback" not in world.site.ours.log.read_text()
