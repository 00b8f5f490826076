"""Five peers at once: route refresh both ways, routes over the API, every message as Wireshark reads it, collisions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import PEERS, Frr, Peer, Route
from .harness.process import HarnessError, wait_until
from .more import (
    Site,
    Spec,
    bgpctl,
    birdc,
    edited,
    faulty,
    messages,
    reached,
    source,
    up,
    vtysh,
    wait_equal,
    withdrawn,
)
from .star import OUR_AS

pytestmark = pytest.mark.interop

ROUTES = [
    Route("198.51.100.0/24", as_path=(64500,), med=4, communities=("65000:99",), large_communities=("65000:1:2",)),
    Route("2001:db8:a::/48", med=6),
]
THEIRS = [Route("203.0.113.0/24", med=4), Route("2001:db8:b::/48", med=6)]
GOODBYE = "back at 10:00 · ünïcode"
PLAIN_GOODBYE = "back at 10:00"  # bgpctl's JSON is none any more when OpenBGPD has been told anything but ASCII
each_peer = pytest.mark.parametrize("name", [kind.name for kind in PEERS])


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]  # of every link, from before the first connection to the clean end


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    kinds: dict[type[Peer], type[Peer]] = {
        # With a copy of what we sent it would not ask.
        Frr: edited(Frr, lambda text, _: re.sub(r".*soft-reconfiguration inbound\n", "", text)),
    }
    with Lab(tmp_path_factory.mktemp("routes")) as lab:
        specs = [
            Spec(kinds.get(kind, kind), announced=ROUTES, routes=THEIRS, ours=["hold_timer = 30"]) for kind in PEERS
        ]
        # ExaBGP 4.2.21 may take the connection that won a collision and then not run it ("stopping, other connection
        # is established"): nothing is heard of it until our OpenSent ends after 4 minutes. So it does not dial here.
        next(spec for spec in specs if spec.name == "exabgp").dial = "we"
        site = Site(lab, specs)
        captures = site.captures()
        site.start()
        yield World(site, captures)


def _seen(peer: Peer) -> dict[str, int | None]:
    return {route.prefix: route.med for route in peer.routes()}


def _settled(world: World, name: str) -> None:
    """All routes are there, both ways, and the End-of-RIB markers have been sent."""
    arm = up(world.site, name)
    wait_equal(lambda: set(_seen(arm.peer)), {route.prefix for route in ROUTES})
    wait_equal(lambda: {route.prefix for route in arm.learned()}, {route.prefix for route in THEIRS})


ASKS: dict[str, Callable[[Peer], object]] = {
    "bird": lambda peer: birdc(peer, "reload in ours"),
    "frr": lambda peer: vtysh(peer, f"clear bgp {peer.config.remote_address} in"),
    "openbgpd": lambda peer: bgpctl(peer, "neighbor", peer.config.remote_address, "refresh"),
}


@pytest.mark.feature("route refresh asked by the peer")
@pytest.mark.parametrize("name", list(ASKS))
def test_rfc2918_4_the_peer_asks_and_gets_everything_once_more(world: World, name: str) -> None:
    """ExaBGP cannot ask, and GoBGP's ``softresetin`` looks through what it has instead."""
    _settled(world, name)
    arm = world.site.arm(name)
    before = world.site.ours.neighbor(arm.address)
    with Capture(world.site.ours.host, arm.link.interface, "tcp port 179") as capture:
        ASKS[name](arm.peer)
        expected = {"198.51.100.0": 1, "2001:db8:a::": 1}
        wait_until(lambda: len(reached(capture, arm.our_address)) >= 2, 5, "the routes again", arm.logs(), 0.2)
        wait_until(lambda: "route-refresh" in messages(capture, arm.address), 5, "the request")
    assert Counter(reached(capture, arm.our_address)) == expected
    assert withdrawn(capture, arm.our_address) == []
    after = world.site.ours.neighbor(arm.address)
    assert (after["connect_time"], after["flaps"]) == (before["connect_time"], before["flaps"])
    wait_equal(lambda: set(_seen(arm.peer)), {route.prefix for route in ROUTES})


@pytest.mark.feature("route refresh asked by us")
@pytest.mark.parametrize("name", ["bird", "frr", "gobgp"])
def test_rfc2918_4_we_ask_and_get_everything_once_more(world: World, name: str) -> None:
    _settled(world, name)
    arm = world.site.arm(name)
    before = world.site.ours.neighbor(arm.address)
    with Capture(world.site.ours.host, arm.link.interface, "tcp port 179") as capture:
        world.site.ours.ctl("neighbor", arm.address, "refresh")
        both = {"203.0.113.0", "2001:db8:b::"}
        wait_until(lambda: both <= set(reached(capture, arm.address)), 10, "their routes again", arm.logs(), 0.2)
    assert reached(capture, arm.our_address) == []
    sent = capture.packets(f"bgp.type == 5 && {source(arm.our_address)}", ["bgp.route_refresh.afi"])
    assert sorted(afi for packet in sent for afi in packet.fields["bgp.route_refresh.afi"]) == ["1", "2"]
    after = world.site.ours.neighbor(arm.address)
    assert (after["connect_time"], after["flaps"]) == (before["connect_time"], before["flaps"])
    wait_equal(lambda: {route.prefix for route in arm.learned()}, {route.prefix for route in THEIRS})


def test_openbgpd_does_not_take_a_request_for_what_it_negotiated(world: World) -> None:
    """Its 7.7 says so to anybody, BIRD too; the session has to stand it."""
    _settled(world, "openbgpd")
    arm = world.site.arm("openbgpd")
    before = world.site.ours.neighbor(arm.address)
    world.site.ours.ctl("neighbor", arm.address, "refresh")
    wait_until(
        lambda: (
            all(f"AID {family} unicast not negotiated" in arm.peer.log_text() for family in ("IPv4", "IPv6"))
            or world.site.ours.neighbor(arm.address)["received_by_type"]["update"]
            > before["received_by_type"]["update"]
        ),
        5,
        "its answer",
        arm.logs(),
    )
    after = world.site.ours.neighbor(arm.address)
    assert (after["connect_time"], after["flaps"]) == (before["connect_time"], before["flaps"])


def test_rfc2918_4_nothing_is_asked_of_a_peer_that_did_not_offer_it(world: World) -> None:
    _settled(world, "exabgp")
    arm = world.site.arm("exabgp")
    with pytest.raises(HarnessError, match=r"exit 1.*does not offer route refresh"):
        world.site.ours.ctl("neighbor", arm.address, "refresh")


def test_a_route_over_the_api_is_announced_replaced_and_withdrawn(world: World) -> None:
    """At all five at once; the replacement is implicit (RFC 4271 §3.1): no withdrawal is sent for it."""
    site = world.site
    names = site.working()
    prefixes = {"192.0.2.0/24": "192.0.2.0", "2001:db8:c::/48": "2001:db8:c::"}
    world.site.wait_up(names)
    since = {name: site.ours.neighbor(site.peer_id(name))["connect_time"] for name in names}
    captures = site.captures()
    for med in (11, 22):
        for prefix in prefixes:
            site.ours.ctl(
                "advertise", "route", prefix, "self", "--med", str(med), "--communities", "65000:8", "no-peer"
            )
        for name in names:
            wait_equal(partial(_added, site, name), {(p, med, (OUR_AS,), ("65000:8", "65535:65284")) for p in prefixes})
    for name in names:
        assert withdrawn(captures[name], site.arm(name).our_address) == [], name
    for prefix in prefixes:
        site.ours.ctl("withdraw", "route", prefix)
    for name in names:
        wait_equal(partial(_added, site, name), set())
        address = site.arm(name).our_address
        captures[name].stop()
        assert Counter(reached(captures[name], address)) == dict.fromkeys(prefixes.values(), 2)
        assert Counter(withdrawn(captures[name], address)) == dict.fromkeys(prefixes.values(), 1)
        assert site.ours.neighbor(site.peer_id(name))["connect_time"] == since[name]


def _added(site: Site, name: str) -> set[tuple[object, ...]]:
    """What the peer has of ours beyond the configured routes."""
    known = {route.prefix for route in ROUTES}
    routes = site.arm(name).peer.routes()
    return {(r.prefix, r.med, r.as_path, r.communities) for r in routes if r.prefix not in known}


def _has(site: Site, name: str, prefix: str) -> bool:
    return prefix in _seen(site.arm(name).peer)


def test_peer_limits_who_gets_a_route(world: World) -> None:
    site = world.site
    names = site.working()
    chosen = names[::2]
    world.site.wait_up(names)
    # By description and by address.
    words = [name if number % 2 else site.peer_id(name) for number, name in enumerate(chosen)]
    site.ours.ctl("advertise", "route", "192.0.2.128/25", "self", "--peer", *words)
    for name in chosen:
        wait_equal(partial(_has, site, name, "192.0.2.128/25"), True)
    listed = [view for view in site.ours.ctl("show", "routes") if view["prefix"] == "192.0.2.128/25"]
    assert [(view["announced_to"], view["wanted_by"]) for view in listed] == [(len(chosen), len(chosen))]
    for name in names:
        if name not in chosen:
            assert "192.0.2.128/25" not in _seen(site.arm(name).peer), name
    site.ours.ctl("withdraw", "route", "192.0.2.128/25", "--peer", words[0])
    wait_equal(partial(_has, site, chosen[0], "192.0.2.128/25"), False)
    for name in chosen[1:]:
        assert "192.0.2.128/25" in _seen(site.arm(name).peer), name
    site.ours.ctl("withdraw", "route", "192.0.2.128/25", "--peer", *words[1:])
    for name in chosen[1:]:
        wait_equal(partial(_has, site, name, "192.0.2.128/25"), False)


def _goodbye(name: str) -> str:
    return PLAIN_GOODBYE if name == "openbgpd" else GOODBYE


@pytest.fixture(scope="module")
def ended(world: World) -> World:
    """Every neighbor disabled with a message: the captures hold every kind of message that we send."""
    world.site.wait_up()
    for name in world.site.working():
        arm = world.site.arm(name)
        world.site.ours.ctl("neighbor", arm.address, "disable", _goodbye(name))
        wait_until(partial(world.captures[name].notifications_from, arm.our_address), 5, "the NOTIFICATION")
    for capture in world.captures.values():
        capture.stop()
    return world


@pytest.mark.feature("what Wireshark reads")
@each_peer
def test_wireshark_finds_no_fault_in_what_we_send(ended: World, name: str) -> None:
    arm = ended.site.arm(name)
    capture = ended.captures[name]
    asked = set() if name == "exabgp" else {"route-refresh"}
    sent = set(messages(capture, arm.our_address))
    assert sent == {"open", "update", "keepalive", "notification", *asked}
    assert faulty(capture, arm.our_address) == []


_READ = [
    "bgp.type",
    "bgp.length",
    "bgp.open.version",
    "bgp.open.myas",
    "bgp.open.holdtime",
    "bgp.open.identifier",
    "bgp.cap.4as",
    "bgp.cap.type",
    "bgp.nlri_prefix",
    "bgp.mp_reach_nlri_ipv6_prefix",
    "bgp.update.path_attribute.next_hop",
    "bgp.update.path_attribute.multi_exit_disc",
    "bgp.update.path_attribute.as_path_segment.as4",
    "bgp.update.path_attribute.community_as",
    "bgp.update.path_attribute.local_pref",
    "bgp.update.path_attribute.mp_reach_nlri.next_hop.ipv6",
    "bgp.notify.major_error",
    "bgp.notify.minor_error_cease",
    "bgp.notify.communication_length",
    "bgp.notify.communication",
]


@pytest.mark.feature("what Wireshark reads")
@each_peer
def test_wireshark_reads_what_was_configured(ended: World, name: str) -> None:
    arm = ended.site.arm(name)
    capture = ended.captures[name]
    ours = source(arm.our_address)
    packets = [packet.fields for packet in capture.packets(f"bgp && {ours}", _READ)]
    opened = next(fields for fields in packets if "1" in fields["bgp.type"])
    assert opened["bgp.open.version"] == ("4",)
    assert opened["bgp.open.myas"] == (str(OUR_AS),)
    assert opened["bgp.open.holdtime"] == ("30",)
    assert opened["bgp.open.identifier"] == ("10.255.0.10",)
    assert opened["bgp.cap.4as"] == (str(OUR_AS),)
    assert set(opened["bgp.cap.type"]) >= {"1", "2", "6", "64", "65", "70"}

    v4 = next(fields for fields in packets if "198.51.100.0" in fields["bgp.nlri_prefix"])
    assert v4["bgp.update.path_attribute.next_hop"][0] == arm.link.a4
    assert v4["bgp.update.path_attribute.multi_exit_disc"][0] == "4"
    assert v4["bgp.update.path_attribute.as_path_segment.as4"][:2] == (str(OUR_AS), "64500")
    assert v4["bgp.update.path_attribute.community_as"][0] == "65000"
    assert v4["bgp.update.path_attribute.local_pref"] == ()  # RFC 4271 §5.1.5

    v6 = next(fields for fields in packets if "2001:db8:a::" in fields["bgp.mp_reach_nlri_ipv6_prefix"])
    assert arm.link.a6 in v6["bgp.update.path_attribute.mp_reach_nlri.next_hop.ipv6"]

    # RFC 4724 §2: an UPDATE with nothing in it, and one with an MP_UNREACH_NLRI of no routes.
    sizes = {
        size
        for fields in packets
        for kind, size in zip(fields["bgp.type"], fields["bgp.length"], strict=True)
        if kind == "2"
    }
    assert "23" in sizes
    assert {"29", "30"} & sizes

    # A peer that dials again is told 6/5.
    goodbye = next(fields for fields in packets if "2" in fields["bgp.notify.minor_error_cease"])
    assert goodbye["bgp.notify.major_error"] == ("6",)
    assert goodbye["bgp.notify.communication_length"] == (str(len(_goodbye(name).encode())),)
    assert goodbye["bgp.notify.communication"] == (_goodbye(name),)


@pytest.fixture(scope="module")
def starts(ended: World) -> dict[str, list[str]]:
    """Ten starts of ours while the peers (but ExaBGP) dial too. What was wrong after each, by peer; nothing is right.

    GoBGP, which keeps a session idle for some seconds after its end, is looked at in the last one, and that is watched
    for three seconds.
    """
    site = ended.site
    faults: dict[str, list[str]] = {name: [] for name in site.working()}
    for number in range(10):
        if site.ours.alive:
            assert site.ours.stop() == 0
        site.ours.start()
        looked_at = [name for name in site.working() if name != "gobgp" or number == 9]
        site.wait_up(looked_at)
        if number == 9:
            wait_until(partial(_have_stood_for, site, 3.0), 10, "3 s of sessions")
        for name, text in _wrong(site, looked_at):
            faults[name].append(f"start {number}: {text}")
    return faults


def _have_stood_for(site: Site, seconds: float) -> bool:
    return all(view["state_age"] >= seconds for view in site.ours.ctl("show", "neighbors"))


def _wrong(site: Site, names: list[str]) -> Iterator[tuple[str, str]]:
    views = {view["peer"]: view for view in site.ours.ctl("show", "neighbors")}
    lines = site.ours.host.run("ss", "-Htn", "state", "established").splitlines()
    for name in names:
        address = site.arm(name).address
        view = views[address]
        if view["state"] != "established" or view["flaps"]:
            yield name, f"{view['state']}, {view['flaps']} flaps, {view['last_error']}"
        if len([line for line in lines if address in line]) != 1:
            yield name, f"connections: {lines}"


@pytest.mark.feature("both ends dial: collisions", peers=["bird", "frr", "gobgp", "openbgpd"])
@each_peer
def test_rfc4271_6_8_both_dial_and_one_session_remains(ended: World, starts: dict[str, list[str]], name: str) -> None:
    ended.site.arm(name)
    assert starts[name] == []
