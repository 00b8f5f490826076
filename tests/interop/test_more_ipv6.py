"""IPv6: one wildcard socket for both families, next_hop self across families, and neighbors on link-local addresses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness.lab import Lab
from .harness.peers import PEERS, Bfd, Bird, ExaBgp, Frr, GoBgp, OpenBgpd, PeerConfig, Route
from .more import Site, Spec, birdc, edited, replaced, up, vtysh, wait_bfd, wait_equal

pytestmark = pytest.mark.interop

ROUTES = [Route("198.51.100.0/24", med=4), Route("2001:db8:a::/48", med=6)]
THEIRS = [Route("203.0.113.0/24", med=4), Route("2001:db8:b::/48", med=6)]
TIMERS = Bfd(interval_ms=150, multiplier=4)
DIALLING = [kind.name for kind in PEERS]
LINK_LOCAL = ["bird-ll", "frr-ll", "gobgp-ll", "exabgp-ll", "openbgpd-ll"]
WITH_BFD = ["bird-ll", "frr-ll"]
OVER_IPV4 = "bird4"


def _bird_on_link(text: str, config: PeerConfig) -> str:
    return replaced(text, "  direct;", f'  direct;\n  interface "{config.interface}";')


def _frr_on_link(text: str, config: PeerConfig) -> str:
    """update-source makes bgpd bind to the address alone, which a link-local one does not allow."""
    neighbor = f" neighbor {config.remote_address}"
    return replaced(
        text, f"{neighbor} update-source {config.local_address}", f"{neighbor} interface {config.interface}"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Lab(tmp_path_factory.mktemp("ipv6")) as lab:
        every = [
            *[Spec(kind, version=6, dial="they") for kind in PEERS],
            Spec(edited(Bird, _bird_on_link), "bird-ll", version=6, link_local=True, bfd=TIMERS),
            Spec(edited(Frr, _frr_on_link), "frr-ll", version=6, link_local=True, bfd=TIMERS),
            Spec(GoBgp, "gobgp-ll", version=6, link_local=True),
            Spec(ExaBgp, "exabgp-ll", version=6, link_local=True, dial="we"),  # "Could not bind to local ip fe80::b"
            Spec(OpenBgpd, "openbgpd-ll", version=6, link_local=True),
            Spec(Bird, OVER_IPV4, dial="they"),
        ]
        for spec in every:
            spec.announced, spec.routes = ROUTES, THEIRS
        site = Site(lab, every)
        site.start()
        yield site


def _seen(site: Site, name: str) -> dict[str, str | None]:
    return {route.prefix: route.next_hop for route in site.arm(name).peer.routes()}


@pytest.mark.feature("IPv6 routes over IPv4 sessions and the reverse")
@pytest.mark.parametrize("name", [*DIALLING, OVER_IPV4])
def test_next_hop_self_is_ours_of_the_routes_family(site: Site, name: str) -> None:
    """IPv4 routes over an IPv6 session, IPv6 routes over an IPv4 session: our address on that very link."""
    arm = up(site, name)
    wait_equal(lambda: _seen(site, name), {"198.51.100.0/24": arm.link.a4, "2001:db8:a::/48": arm.link.a6})
    expected = arm.expected_here()
    wait_equal(arm.learned, expected)


@pytest.mark.parametrize("name", [*DIALLING, OVER_IPV4])
def test_all_came_in_by_one_wildcard_socket(site: Site, name: str) -> None:
    arm = up(site, name)
    local, remote = site.ours.neighbor(arm.address)["tcp_connection"]
    assert local == (f"[{arm.our_address}]:179" if ":" in arm.our_address else f"{arm.our_address}:179")
    assert not remote.endswith(":179")
    sockets = site.ours.host.run("ss", "-Hltn", "sport = :179").splitlines()
    assert [line.split()[3] for line in sockets] == ["*:179"]


@pytest.mark.feature("link-local sessions")
@pytest.mark.parametrize("name", LINK_LOCAL)
def test_link_local_neighbor(site: Site, name: str) -> None:
    arm = up(site, name)
    neighbor = site.ours.neighbor(site.peer_id(name))
    assert neighbor["peer"] == f"fe80::b%{arm.link.interface}"
    # RFC 2545 §3: the global address and the link-local one; each shows the global one, or that first.
    wait_equal(lambda: _seen(site, name), {"198.51.100.0/24": arm.link.a4, "2001:db8:a::/48": arm.link.a6})
    learned = {view["prefix"]: view for view in site.ours.learned(site.peer_id(name)) if view["valid"]}
    assert set(learned) == {route.prefix for route in THEIRS}
    assert learned["2001:db8:b::/48"]["next_hop"] == arm.link.b6
    with_both = name in WITH_BFD  # the others send the global one alone
    assert learned["2001:db8:b::/48"].get("next_hop_link_local") == ("fe80::b" if with_both else None)


def test_rfc2545_3_the_link_local_next_hop_goes_with_the_global_one(site: Site) -> None:
    arm = up(site, "bird-ll")
    shown = birdc(arm.peer, "show route all table master6 protocol ours")
    assert f"BGP.next_hop: {arm.link.a6} fe80::a" in shown
    arm = up(site, "frr-ll")
    shown = vtysh(arm.peer, "show bgp ipv6 unicast 2001:db8:a::/48")
    assert arm.link.a6 in shown
    assert "(fe80::a)" in shown


@pytest.mark.feature("BFD on link-local addresses")
@pytest.mark.parametrize("name", WITH_BFD)
def test_rfc5881_4_bfd_on_a_link_local_address(site: Site, name: str) -> None:
    arm = up(site, name)
    wait_bfd(site, name)
    ours = site.ours.bfd(site.peer_id(name))
    assert (ours["local"], ours["interface"]) == ("fe80::a", arm.link.interface)
    assert ours["remote_detect_multiplier"] == TIMERS.multiplier
    wait_equal(lambda: site.ours.bfd(site.peer_id(name))["in_force_transmit_interval_ms"], TIMERS.interval_ms)


@pytest.mark.parametrize("name", WITH_BFD)
def test_bfd_down_tears_a_link_local_session_down(site: Site, name: str) -> None:
    """Two neighbors have one address, each on a link of its own: only the one that went away is torn down."""
    up(site, name)
    wait_bfd(site, name)
    other = site.peer_id(next(label for label in WITH_BFD if label != name))
    before = site.ours.neighbor(other)["flaps"]
    arm = site.arm(name)
    arm.link.cut_bfd([arm.link.b])
    wait_equal(lambda: site.ours.neighbor(site.peer_id(name))["flaps"] > 0, True, 5)
    error = site.ours.neighbor(site.peer_id(name))["last_error"]
    arm.link.heal()
    assert (error["kind"], error["code"], error["subcode"]) == ("bfd-down", 6, 10)
    assert site.ours.neighbor(other)["flaps"] == before
    up(site, name)
    wait_bfd(site, name)
