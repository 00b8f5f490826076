"""What each daemon's OPEN offers with all that it has switched on: the proof of what the table says that it lacks.

And what needs a daemon of its own: ExaBGP's and GoBGP's refreshes, a route server's paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.matrix import LACKS
from .harness.peers import PEERS, Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer, Route
from .harness.process import wait_until
from .more import (
    Site,
    Spec,
    edited,
    faulty,
    gobgp,
    reached,
    refreshes,
    replaced,
    since,
    up,
    wait_equal,
    with_bird,
    with_exabgp,
    with_frr,
    with_openbgpd,
    withdrawn,
)

pytestmark = pytest.mark.interop

OURS = [Route("198.51.100.0/24", med=3), Route("2001:db8:a::/48", med=3)]
THEIRS = [Route("203.0.113.0/24", med=3), Route("2001:db8:b::/48", med=3)]
MEMBER = 64500  # behind the route servers
SERVED = Route("203.0.114.0/24", as_path=(MEMBER,))


def _gobgp_all(text: str, _: object) -> str:
    lines = "  [neighbors.graceful-restart.config]\n    enabled = true\n    notification-enabled = true\n"
    family = "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n"
    return replaced(text, "  [[neighbors.afi-safis]]", f"{lines}  [[neighbors.afi-safis]]").replace(
        '-unicast"\n', f'-unicast"\n{family}'
    )


# With all that could make it offer more.
ALL: dict[type[Peer], type[Peer]] = {
    Bird: with_bird("graceful restart on; enable extended messages on; enable route refresh on; local role customer;"),
    Frr: with_frr("bgp graceful-restart", "neighbor {} local-role customer", "neighbor {} capability extended-nexthop"),
    GoBgp: edited(GoBgp, _gobgp_all),
    ExaBgp: with_exabgp(
        "capability { graceful-restart 60; route-refresh enable; extended-message enable; nexthop enable; }\n"
        "  nexthop { ipv4 unicast ipv6; }"
    ),
    OpenBgpd: with_openbgpd("announce restart yes", "announce enhanced refresh yes", "announce policy customer"),
}


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Lab(tmp_path_factory.mktemp("offers")) as lab:
        server = with_bird("rs client;")
        every = ["graceful_restart = { enabled = true, restart_time = 60 }", 'role = "provider"']
        specs = [
            *[Spec(ALL[kind], version=6, dial="we", ours=every) for kind in PEERS],
            Spec(server, "bird-server", dial="we", routes=[SERVED], ours=["enforce_first_as = false"]),
            Spec(server, "bird-member", dial="we", routes=[SERVED]),
        ]
        for spec in specs:
            spec.announced = OURS
            spec.routes = spec.routes or THEIRS
        site = Site(lab, specs)
        captures = site.captures()
        site.start()
        yield World(site, captures)


# A regular expression for what ``capabilities`` would tell.
OFFERED = {
    "route refresh asked by us": "^route refresh",
    "enhanced route refresh": "^enhanced route refresh",
    "extended messages": "^extended message",
    "roles and OTC": "^role ",
    "extended next hop": "^extended next hop",
    "graceful restart, theirs": "^graceful restart.* unicast",  # RFC 4724 §3: no family, no restart
    "graceful restart after a NOTIFICATION": "^graceful restart.* notification",  # RFC 8538 §2: the N bit
}
# What it offers and cannot do all the same: each has a test of its own, here or in test_more_routes.py.
BROKEN = [("route refresh asked by us", "exabgp"), ("route refresh asked by us", "openbgpd")]
LACKED = [cell for cell in LACKS if cell[0] in OFFERED and cell not in BROKEN]


@pytest.mark.parametrize(("feature", "name"), LACKED)
def test_what_the_table_says_it_lacks_is_not_in_its_open(world: World, feature: str, name: str) -> None:
    up(world.site, name)
    capabilities = world.site.ours.neighbor(world.site.peer_id(name))["capabilities"]
    assert [text for text in capabilities if re.search(OFFERED[feature], text)] == []


def test_gobgp_has_no_way_to_be_a_2_octet_speaker(world: World) -> None:
    """Its configuration has no key for it: capability 65 is in every OPEN of its."""
    up(world.site, "gobgp")
    capabilities = world.site.ours.neighbor(world.site.peer_id("gobgp"))["capabilities"]
    assert f"4-octet AS {world.site.specs['gobgp'].asn}" in capabilities


# -- refresh --------------------------------------------------------------------------------------------------------


def test_gobgp_asks_nobody_when_told_to_refresh(world: World) -> None:
    site = world.site
    arm = up(site, "gobgp")
    gobgp(arm.peer, "neighbor", arm.our_address, "softresetin")
    gobgp(arm.peer, "global", "rib", "add", "-a", "ipv4", "203.0.115.0/24", "nexthop", arm.link.b4)
    wait_equal(lambda: "203.0.115.0/24" in {route.prefix for route in arm.learned()}, True)  # it has dealt with it
    assert site.ours.neighbor(arm.address)["received_by_type"]["route-refresh"] == 0


@pytest.mark.feature("route refresh asked by the peer", "enhanced route refresh")
@pytest.mark.parametrize("name", ["exabgp"])
def test_rfc7313_4_exabgp_asks_and_the_answer_has_its_marks(world: World, name: str) -> None:
    site = world.site
    arm = up(site, name)
    wait_equal(lambda: {route.prefix for route in arm.peer.routes()}, {route.prefix for route in OURS})
    before = since(site, [name])
    assert isinstance(arm.peer, ExaBgp)
    with Capture(site.ours.host, arm.link.interface, "tcp port 179") as capture:
        arm.peer.order("announce route-refresh ipv4 unicast")
        marks = [("1", "1"), ("1", "2")]
        wait_until(lambda: refreshes(capture, arm.our_address) == marks, 8, "BoRR and EoRR", arm.logs(), 0.2)
    assert reached(capture, arm.our_address) == ["198.51.100.0"]
    assert withdrawn(capture, arm.our_address) == []
    assert since(site, [name]) == before
    assert {route.prefix for route in arm.peer.routes()} == {route.prefix for route in OURS}


def test_exabgp_falls_over_what_it_is_asked_and_comes_back(world: World) -> None:
    """4.2.21, asked on a session with enhanced refresh, cannot sort its own BoRR (a TypeError): it drops the session.

    With ``route_refresh = false`` it is not asked. To us it is a session lost, no more.
    """
    site = world.site
    arm = up(site, "exabgp")
    before = since(site)
    site.ours.ctl("neighbor", arm.address, "refresh")
    wait_equal(lambda: since(site, ["exabgp"])["exabgp"] != before["exabgp"], True, 5)
    assert "'RouteRefresh' object is not iterable" in arm.peer.log_text()
    assert site.ours.neighbor(arm.address)["last_error"]["kind"] == "connection-lost"
    up(site, "exabgp")
    wait_equal(lambda: {route.prefix for route in arm.learned()}, {route.prefix for route in THEIRS})
    after = since(site)
    assert {name: after[name] for name in after if name != "exabgp"} == {
        name: before[name] for name in before if name != "exabgp"
    }


# -- enforce_first_as -------------------------------------------------------------------------------------------------


def test_a_route_servers_paths_are_taken_where_the_first_as_may_be_anothers(world: World) -> None:
    """RFC 4271 §6.3 lets us check it, RFC 7947 §2.2.2.1 asks that it be left out for a route server."""
    site = world.site
    arm = up(site, "bird-server")
    wait_equal(lambda: [(v["prefix"], v["as_path"], v["valid"]) for v in site.ours.learned(arm.address)], [
        (SERVED.prefix, str(MEMBER), True)
    ])  # fmt: skip


def test_rfc7606_7_2_else_they_are_treated_as_withdrawn_and_the_session_stays(world: World) -> None:
    site = world.site
    arm = up(site, "bird-member")
    wait_equal(lambda: site.ours.neighbor(arm.address)["last_update_fault"] is not None, True, 5)
    fault = site.ours.neighbor(arm.address)["last_update_fault"]
    assert (fault["treatment"], site.ours.learned(arm.address)) == ("treat-as-withdraw", [])
    assert site.ours.neighbor(arm.address)["flaps"] == 0


def test_zz_wireshark_finds_no_fault(world: World) -> None:
    for name in world.site.working():
        arm, capture = world.site.arm(name), world.captures[name]
        capture.stop()
        assert reached(capture, arm.our_address), name
        assert faulty(capture, arm.our_address) == [], name
    assert "Traceback" not in world.site.ours.log.read_text()
