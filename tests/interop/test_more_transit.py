"""``advertise_sources = ["peer"]``: what BIRD announces reaches FRR through us, as RFC 4271 §5 and RFC 1997 want it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import Bird, Frr, PeerConfig, Route
from .harness.process import wait_until
from .more import Site, Spec, birdc, edited, policy, reached, source, up, wait_equal
from .star import OUR_AS

pytestmark = pytest.mark.interop

LARGE = ("65000:1:2",)
ROUTES = [
    Route("203.0.113.0/24", as_path=(64500, 64501), med=50, communities=("65000:99",), large_communities=LARGE),
    Route("203.0.114.0/24", communities=("65000:7", "65535:65281")),  # NO_EXPORT
    Route("203.0.115.0/24", communities=("65535:65282",)),  # NO_ADVERTISE
    Route("2001:db8:b::/48", as_path=(64500,), origin="incomplete"),
]
PASSED_ON = {"203.0.113.0/24", "2001:db8:b::/48"}
OWN = Route("198.51.100.0/24")


def _recursive(text: str, _: PeerConfig) -> str:
    """For next hops that are not on its own link."""
    return text.replace("import all;", "import all; gateway recursive;")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """BIRD outside and inside our AS, FRR outside; "aside" is a neighbor that is to get nothing."""
    sources = 'advertise_sources = ["config", "peer"]'
    outside = [sources, 'import_policy = "all"', 'export_policy = "all"']  # RFC 8212
    with Lab(tmp_path_factory.mktemp("transit")) as lab:
        specs = [
            Spec(Bird, version=6, ours=outside, routes=ROUTES),
            Spec(Frr, ours=outside, announced=[OWN]),
            Spec(
                edited(Bird, _recursive),
                "inside",
                ibgp=True,
                ours=[sources],
                routes=[Route("203.0.116.0/24", local_pref=300)],
            ),
            Spec(Frr, "aside"),
        ]
        site = Site(lab, specs, top=policy("all"))
        site.start()
        yield site


def _frr(site: Site, name: str = "frr") -> dict[str, Route]:
    return {route.prefix: route for route in site.arm(name).peer.routes()}


@pytest.mark.feature("learned routes passed on", peers=["bird", "frr"])
def test_learned_routes_are_passed_on(site: Site) -> None:
    """RFC 4271 §5.1: our AS in front, our next hop, no LOCAL_PREF, the MED left out; communities go on."""
    up(site, "bird")
    up(site, "inside")
    arm = up(site, "frr")
    wait_equal(lambda: set(_frr(site)), PASSED_ON | {OWN.prefix, "203.0.116.0/24"})
    routes = _frr(site)
    asn = site.arm("bird").peer.config.local_as
    first = routes["203.0.113.0/24"]
    assert first.as_path == (OUR_AS, asn, 64500, 64501)
    assert first.next_hop == arm.link.a4
    assert first.med is None
    assert first.local_pref is None
    assert first.communities == ("65000:99",)
    assert first.large_communities == LARGE
    v6 = routes["2001:db8:b::/48"]
    assert (v6.as_path, v6.next_hop, v6.origin) == ((OUR_AS, asn, 64500), arm.link.a6, "incomplete")
    inside = routes["203.0.116.0/24"]
    assert (inside.as_path, inside.local_pref) == ((OUR_AS,), None)


def test_an_internal_peer_keeps_the_next_hop_and_gets_local_pref(site: Site) -> None:
    """RFC 4271 §5.1.3, §5.1.5; NO_EXPORT may go to it, NO_ADVERTISE to nobody (RFC 1997)."""
    arm = up(site, "inside")
    up(site, "bird")
    wait_equal(lambda: {route.prefix for route in arm.peer.routes()}, PASSED_ON | {"203.0.114.0/24"})
    route = arm.peer.route("203.0.113.0/24")
    bird = site.arm("bird")
    assert route is not None
    assert route.next_hop == bird.link.b4
    assert route.as_path == (bird.peer.config.local_as, 64500, 64501)
    assert (route.local_pref, route.med) == (100, 50)


def test_rfc1997_no_export_and_no_advertise_stop_here(site: Site) -> None:
    up(site, "bird")
    up(site, "frr")
    learned = {view["prefix"]: view for view in site.ours.learned(site.peer_id("bird"))}
    assert learned["203.0.114.0/24"]["valid"]
    assert "no-export" in learned["203.0.114.0/24"]["communities"]
    wait_equal(lambda: set(_frr(site)) >= PASSED_ON, True)
    assert not {"203.0.114.0/24", "203.0.115.0/24"} & set(_frr(site))


def test_a_peer_without_the_source_gets_none(site: Site) -> None:
    up(site, "aside")
    up(site, "bird")
    wait_equal(lambda: set(_frr(site)) >= PASSED_ON, True)
    assert _frr(site, "aside") == {}


def test_nothing_goes_back_where_it_came_from(site: Site) -> None:
    arm = up(site, "bird")
    up(site, "inside")
    wait_equal(lambda: {route.prefix for route in arm.peer.routes()}, {"203.0.116.0/24"})


def test_what_is_withdrawn_there_goes_away_here(site: Site) -> None:
    up(site, "frr")
    arm = up(site, "bird")
    wait_equal(lambda: set(_frr(site)) >= PASSED_ON, True)
    since = site.ours.neighbor(site.peer_id("frr"))["connect_time"]
    with Capture(site.ours.host, site.arm("frr").link.interface, "tcp port 179") as capture:
        birdc(arm.peer, "disable out4")
        wait_equal(lambda: "203.0.113.0/24" in _frr(site), False)
        assert "2001:db8:b::/48" in _frr(site)
        birdc(arm.peer, "enable out4")
        wait_equal(lambda: "203.0.113.0/24" in _frr(site), True)
        wait_until(lambda: reached(capture, site.arm("frr").our_address), 5, "the announcement")
    sent = capture.packets(f"bgp.type == 2 && {source(site.arm('frr').our_address)}", ["bgp.withdrawn_prefix"])
    assert {text for packet in sent for text in packet.fields["bgp.withdrawn_prefix"]} == {"203.0.113.0"}
    assert site.ours.neighbor(site.peer_id("frr"))["connect_time"] == since


def test_the_end_of_the_source_withdraws_its_routes(site: Site) -> None:
    up(site, "frr")
    arm = up(site, "bird")
    wait_equal(lambda: set(_frr(site)) >= PASSED_ON, True)
    arm.peer.kill9()
    wait_equal(lambda: set(_frr(site)), {OWN.prefix, "203.0.116.0/24"})
