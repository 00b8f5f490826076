"""Neighbors that are not listed but come from a network: the longest one decides, and they go when they are gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness.lab import Lab
from .harness.peers import Bfd, Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Route
from .more import Site, Spec, bfd_line, up, wait_bfd, wait_equal

pytestmark = pytest.mark.interop

TIMERS = Bfd(interval_ms=150, multiplier=4)
WIDE, LONG, LONG6 = "10.77.0.0/16", "10.77.2.0/24", "fd77::/16"
ROUTE = Route("198.51.100.0/24", med=3)
THEIRS = Route("203.0.113.0/24", med=3)
each_peer = pytest.mark.parametrize(
    ("name", "network"),
    [("bird", WIDE), ("frr", LONG), ("gobgp", LONG6), ("exabgp", WIDE), ("openbgpd", LONG6)],
    ids=["bird", "frr", "gobgp", "exabgp", "openbgpd"],
)


def _network(network: str, asn: int, *more: str) -> list[str]:
    return [
        "[[peers]]",
        f'remote_ip = "{network}"',
        f"remote_as = {asn}",
        f'description = "from {network}"',
        bfd_line(TIMERS),
        *more,
        "[[peers.static_routes]]",
        f'prefix = "{ROUTE.prefix}"',
        f"multi_exit_disc = {ROUTE.med}",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """FRR's address is in both IPv4 networks; its AS is that of the longer one."""
    with Lab(tmp_path_factory.mktemp("dynamic")) as lab:
        specs = [
            Spec(Bird, bfd=TIMERS, listed=False, routes=[THEIRS], asn=65101),
            Spec(Frr, bfd=TIMERS, listed=False, routes=[THEIRS], asn=65102),
            Spec(GoBgp, version=6, listed=False, routes=[THEIRS], asn=65103),
            Spec(ExaBgp, listed=False, routes=[THEIRS], asn=65101),
            Spec(OpenBgpd, version=6, listed=False, routes=[THEIRS], asn=65103),
        ]
        site = Site(lab, specs, top=[*_network(WIDE, 65101), *_network(LONG, 65102), *_network(LONG6, 65103)])
        assert {view["peer"] for view in _started(site)} == set()
        yield site


def _started(site: Site) -> list[dict[str, object]]:
    site.ours.start()
    views = list(site.ours.ctl("show", "neighbors"))
    site.start(ours=False)
    return [view for view in views if view["dynamic"]]


@pytest.mark.feature("neighbors of a network")
@each_peer
def test_the_longest_network_decides(site: Site, name: str, network: str) -> None:
    arm = up(site, name)
    neighbor = site.ours.neighbor(arm.address)
    assert neighbor["dynamic"] is True
    assert neighbor["network"] == network
    assert neighbor["description"] == f"from {network}"
    assert neighbor["remote_asn"] == arm.peer.config.local_as
    assert neighbor["tcp_connection"][0].endswith(":179")
    wait_equal(lambda: {(route.prefix, route.med) for route in arm.peer.routes()}, {(ROUTE.prefix, ROUTE.med)})
    wait_equal(lambda: [route.prefix for route in arm.learned()], [THEIRS.prefix])


@pytest.mark.parametrize("name", ["bird", "frr"])
def test_bfd_with_a_dynamic_neighbor(site: Site, name: str) -> None:
    arm = up(site, name)
    wait_bfd(site, name)
    ours = site.ours.bfd(arm.address)
    assert ours["type"] == "dynamic"
    assert ours["remote_detect_multiplier"] == TIMERS.multiplier
    assert {view["peer"] for view in site.ours.ctl("show", "bfd") if view["type"] == "dynamic"} >= {arm.address}


@pytest.mark.parametrize("name", ["bird", "frr"])
def test_bfd_down_ends_a_dynamic_neighbor_and_it_comes_back(site: Site, name: str) -> None:
    arm = up(site, name)
    wait_bfd(site, name)
    arm.link.cut_bfd([arm.link.b])
    wait_equal(lambda: arm.peer.session_state() != "established", True, 5)
    arm.link.heal()
    up(site, name)
    wait_bfd(site, name)
    text = [event["text"] for event in site.ours.events(arm.address) if event["kind"] == "bgp-down"]
    assert any("BFD went down" in line for line in text), text


def test_the_network_takes_no_other_as(site: Site) -> None:
    """A neighbor of the wider network's AS in the longer network is refused: RFC 4271 §6.2, Bad Peer AS."""
    arm = up(site, "frr")
    arm.peer.stop()
    logged = len(arm.peer.notifications())
    right = arm.peer.config.local_as
    arm.peer.config.local_as = 65101
    arm.peer.start()
    wait_equal(lambda: (2, 2) in {(n.code, n.subcode) for n in arm.peer.notifications()[logged:]}, True)
    assert arm.peer.session_state() != "established"
    arm.peer.stop()
    arm.peer.config.local_as = right
    arm.peer.start()
    up(site, "frr")


def test_rfc4486_a_network_takes_no_more_than_max_neighbors(site: Site) -> None:
    """6/8, Out of Resources, to the one too many; who is there stays."""
    for name in ("bird", "exabgp"):
        up(site, name)
    bird, stays = site.arm("bird").peer, site.ours.neighbor(site.arm("exabgp").address)["connect_time"]
    bird.stop()
    wait_equal(lambda: site.arm("bird").address in site.states(), False)
    logged = len(bird.notifications())
    unlimited = list(site.top)
    site.top = [*_network(WIDE, 65101, "max_neighbors = 1"), *_network(LONG, 65102), *_network(LONG6, 65103)]
    site.reload()
    bird.start()
    wait_equal(lambda: (6, 8) in {(n.code, n.subcode) for n in bird.notifications()[logged:]}, True)
    assert bird.session_state() != "established"
    site.top = unlimited
    site.reload()
    up(site, "bird")
    assert site.ours.neighbor(site.arm("exabgp").address)["connect_time"] == stays


def test_zz_they_are_gone_when_they_stop(site: Site) -> None:
    """Whichever way: bird by a clean end, the others by a kill."""
    for name in site.working():
        up(site, name)
    site.arm("bird").peer.stop()
    site.arm("frr").peer.kill9()
    for name in ("gobgp", "exabgp", "openbgpd"):
        site.arm(name).peer.kill9()
    wait_equal(lambda: [view["peer"] for view in site.ours.ctl("show", "neighbors") if view["dynamic"]], [])
    assert [view["peer"] for view in site.ours.ctl("show", "bfd") if view["type"] == "dynamic"] == []
    assert site.ours.ctl("show", "routes", "learned") == []
    assert "Traceback" not in site.ours.log.read_text()
