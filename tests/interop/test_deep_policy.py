"""Policies, GRACEFUL_SHUTDOWN, limits and refresh with five external peers: everything by reload, no session reset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import PEERS, Frr, OpenBgpd, Peer, Route
from .harness.process import wait_until
from .more import (
    Site,
    Spec,
    bgpctl,
    birdc,
    edited,
    faulty,
    policy,
    reached,
    refreshes,
    since,
    up,
    vtysh,
    wait_equal,
    with_openbgpd,
)
from .star import OUR_AS

pytestmark = pytest.mark.interop

NAMES = [kind.name for kind in PEERS]
GSHUT = "65535:0"
OURS = [Route("198.51.100.0/24", med=3), Route("198.51.101.0/24"), Route("2001:db8:a::/48", med=3)]
PLAIN, UNWANTED, LEAVING = (f"203.0.{number}.0/24" for number in (113, 114, 115))


def _theirs(name: str) -> list[Route]:
    """Of each peer its own, so that nobody's hide another's: the third octet's hundreds are the same."""
    octet = 16 * NAMES.index(name)
    return [
        Route(PLAIN.replace(".0/24", f".{octet}/28"), med=3, communities=("65000:99",)),
        Route(UNWANTED.replace(".0/24", f".{octet}/28"), communities=("65000:666",)),
        Route(LEAVING.replace(".0/24", f".{octet}/28"), communities=(GSHUT,)),
        Route(f"2001:db8:b{NAMES.index(name)}::/48", med=3),
    ]


IMPORT = policy(
    "in",
    '{ name = "unwanted", match = { communities = ["65000:666"] }, action = "reject" }',
    '{ name = "better", match = { prefixes = ["203.0.113.0/24 le 32"] }, '
    'set = { local_pref = 250 }, add = { communities = ["65000:1", "65000:2:3"] } }',
)
IMPORT_CHANGED = policy(
    "in",
    '{ name = "worse", match = { prefixes = ["203.0.113.0/24 le 32"] }, set = { local_pref = 50 } }',
)
EXPORT = policy(
    "out",
    '{ name = "far", match = { prefixes = ["198.51.100.0/24"] }, prepend = 2, add = { communities = ["65000:77"] } }',
    '{ name = "hidden", match = { prefixes = ["198.51.101.0/24"] }, action = "reject" }',
    '{ name = "others", match = { source = "peer" }, action = "reject" }',
)
EXPORT_CHANGED = policy(
    "out",
    '{ name = "near", match = { prefixes = ["198.51.100.0/23 le 24"] }, set = { multi_exit_disc = 9 } }',
    '{ name = "passed", match = { source = "peer" }, add = { communities = ["65000:88"] } }',
)
LINES = [
    'advertise_sources = ["config", "peer"]',
    'import_policy = "in"',
    'export_policy = "out"',
]


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    kinds: dict[type[Peer], type[Peer]] = {
        # With a copy of what we sent it would not ask.
        Frr: edited(Frr, lambda text, _: re.sub(r".*soft-reconfiguration inbound\n", "", text)),
        OpenBgpd: with_openbgpd("announce enhanced refresh yes"),
    }
    with Lab(tmp_path_factory.mktemp("policy")) as lab:
        specs = [
            Spec(kinds.get(kind, kind), dial="we", ours=LINES, announced=OURS, routes=_theirs(kind.name))
            for kind in PEERS
        ]
        site = Site(lab, specs, top=[*IMPORT, *EXPORT])
        captures = site.captures()
        site.start()
        yield World(site, captures)


each_peer = pytest.mark.parametrize("name", NAMES)


def _learned(site: Site, name: str, *more: str) -> dict[str, dict[str, Any]]:
    """Its own routes; FRR sends ours and others' back."""
    own = {route.prefix for route in _theirs(name)}
    views = site.ours.ctl("show", "routes", "learned", site.peer_id(name), *more)
    return {view["prefix"]: view for view in views if view["prefix"] in own}


def _there(site: Site, name: str) -> dict[str, Route]:
    return {route.prefix: route for route in site.arm(name).peer.routes()}


@pytest.mark.feature("policies, changed live")
@each_peer
def test_1_import_rejects_and_sets(world: World, name: str) -> None:
    site = world.site
    up(site, name)
    plain, unwanted, leaving, v6 = _theirs(name)
    wait_equal(lambda: len(_learned(site, name)), 4)
    views = _learned(site, name, "--why")
    assert not views[unwanted.prefix]["valid"]
    assert "unwanted" in str(views[unwanted.prefix]["why"])
    assert views[plain.prefix]["valid"]
    assert views[plain.prefix]["local_pref"] == 250
    assert sorted(views[plain.prefix]["communities"]) == ["65000:1", "65000:99"]
    assert views[plain.prefix]["large_communities"] == ["65000:2:3"]
    assert "better" in str(views[plain.prefix]["why"])
    assert views[v6.prefix]["valid"]
    assert views[leaving.prefix]["valid"]


@pytest.mark.feature("GRACEFUL_SHUTDOWN")
@each_peer
def test_1_rfc8326_4_4_what_is_leaving_is_the_last_choice(world: World, name: str) -> None:
    up(world.site, name)
    leaving = _theirs(name)[2]
    wait_equal(lambda: leaving.prefix in _learned(world.site, name), True)
    assert _learned(world.site, name)[leaving.prefix]["local_pref"] == 0


@pytest.mark.feature("policies, changed live")
@each_peer
def test_1_export_prepends_adds_and_rejects(world: World, name: str) -> None:
    site = world.site
    up(site, name)
    wait_equal(lambda: set(_there(site, name)), {OURS[0].prefix, OURS[2].prefix})
    first = _there(site, name)[OURS[0].prefix]
    assert first.as_path == (OUR_AS,) * 3
    assert first.communities == ("65000:77",)
    assert first.med == 3
    refused = site.ours.ctl("show", "routes", "advertised", site.peer_id(name), "--why")
    sent = {view["prefix"]: view for view in refused}
    assert "far" in str(sent[OURS[0].prefix]["why"])


@pytest.fixture(scope="module")
def changed(world: World) -> dict[str, object]:
    """Both policies changed by a reload; since when the sessions stood before."""
    site = world.site
    site.wait_up()
    before = since(site)
    site.top = [*IMPORT_CHANGED, *EXPORT_CHANGED]
    site.reload()
    return before


@pytest.mark.feature("policies, changed live", "learned routes passed on")
@each_peer
def test_2_a_reload_judges_all_again_and_keeps_the_session(world: World, changed: dict[str, object], name: str) -> None:
    site = world.site
    plain, unwanted = _theirs(name)[:2]
    wait_equal(lambda: _learned(site, name)[plain.prefix]["local_pref"], 50)
    wait_equal(lambda: _learned(site, name)[unwanted.prefix]["valid"], True)
    assert _learned(site, name)[plain.prefix]["communities"] == ["65000:99"]
    others = {route.prefix for other in site.working() if other != name for route in _theirs(other)}
    own = {route.prefix for route in OURS}
    wait_equal(lambda: set(_there(site, name)), others | own)
    there = _there(site, name)
    assert {there[prefix].med for prefix in (OURS[0].prefix, OURS[1].prefix)} == {9}
    assert there[OURS[0].prefix].as_path == (OUR_AS,)
    origin = "frr" if name == "bird" else "bird"
    passed = there[_theirs(origin)[0].prefix]
    assert passed.as_path == (OUR_AS, site.arm(origin).peer.config.local_as)
    assert passed.communities == ("65000:88", "65000:99")
    assert passed.med is None  # RFC 4271 §5.1.4
    assert since(site, [name])[name] == changed[name]


@pytest.fixture(scope="module")
def leaving(world: World, changed: dict[str, object]) -> dict[str, object]:
    """``graceful_shutdown`` switched on for all."""
    for spec in world.site.specs.values():
        spec.ours = [*LINES, "graceful_shutdown = true"]
    world.site.reload()
    return changed


@pytest.mark.feature("GRACEFUL_SHUTDOWN")
@each_peer
def test_3_rfc8326_4_2_our_leaving_is_told_by_the_community(
    world: World, leaving: dict[str, object], name: str
) -> None:
    site = world.site
    wait_equal(lambda: all(GSHUT in route.communities for route in _there(site, name).values()), True)
    assert len(_there(site, name)) > 3
    assert since(site, [name])[name] == leaving[name]


# -- refresh, RFC 2918 and 7313 -----------------------------------------------------------------------------------

ENHANCED = ["bird", "frr", "openbgpd"]


ASKS = {
    "bird": lambda peer: birdc(peer, "reload in ours"),
    "frr": lambda peer: vtysh(peer, f"clear bgp {peer.config.remote_address} in"),
    "openbgpd": lambda peer: bgpctl(peer, "neighbor", peer.config.remote_address, "refresh"),
}


@pytest.mark.feature("enhanced route refresh")
@pytest.mark.parametrize("name", ENHANCED)
def test_4_rfc7313_4_the_peer_asks_and_the_answer_has_its_marks(
    world: World, leaving: dict[str, object], name: str
) -> None:
    site, arm = world.site, world.site.arm(name)
    site.wait_up()
    with Capture(site.ours.host, arm.link.interface, "tcp port 179") as capture:
        ASKS[name](arm.peer)
        marks = [(afi, subtype) for afi in "12" for subtype in "12"]
        wait_until(lambda: set(refreshes(capture, arm.our_address)) >= set(marks), 8, "BoRR and EoRR", arm.logs(), 0.3)
        assert sorted(refreshes(capture, arm.our_address)) == marks
    assert set(reached(capture, arm.our_address)) >= {OURS[0].prefix.partition("/")[0]}
    assert faulty(capture, arm.our_address) == []
    assert since(site, [name])[name] == leaving[name]


@pytest.mark.feature("enhanced route refresh")
@pytest.mark.parametrize("name", ["bird", "frr"])
def test_4_rfc7313_4_we_ask_and_nothing_is_lost(world: World, leaving: dict[str, object], name: str) -> None:
    site, arm = world.site, world.site.arm(name)
    site.wait_up()
    before = {prefix: view["received_at"] for prefix, view in _learned(site, name).items()}
    with Capture(site.ours.host, arm.link.interface, "tcp port 179") as capture:
        site.ours.ctl("neighbor", arm.address, "refresh")
        own = {route.prefix.partition("/")[0] for route in _theirs(name)}
        wait_until(lambda: own <= set(reached(capture, arm.address)), 10, "their routes again", arm.logs(), 0.3)
        wait_until(
            lambda: {subtype for _, subtype in refreshes(capture, arm.address)} >= {"1", "2"}, 5, "BoRR and EoRR"
        )
    assert [subtype for _, subtype in refreshes(capture, arm.our_address)] == ["0", "0"]
    wait_equal(lambda: set(_learned(site, name)), set(before))
    assert since(site, [name])[name] == leaving[name]


# -- max_prefixes ---------------------------------------------------------------------------------------------------

RESTART_S = 4


@pytest.fixture(scope="module")
def limited(world: World, leaving: dict[str, object]) -> dict[str, int]:
    """At most two prefixes of a family, after which the sessions are made anew; the peers' log lengths before."""
    site = world.site
    logged = {name: len(site.arm(name).peer.notifications()) for name in site.working()}
    for spec in site.specs.values():
        spec.ours = [*LINES, f"max_prefixes = {{ limit = 2, warning = 50, restart_time = {RESTART_S} }}"]
    site.reload()
    for name in site.working():
        peer = site.peer_id(name)
        if site.ours.state(peer) == "established":
            site.ours.ctl("neighbor", peer, "reset")
    return logged


@pytest.mark.feature("max_prefixes", "Cease subcodes and their texts")
@each_peer
def test_5_rfc4486_the_limit_is_a_6_1_and_a_pause(world: World, limited: dict[str, int], name: str) -> None:
    site, peer = world.site, world.site.peer_id(name)
    arm = site.arm(name)
    wait_until(partial(_over_the_limit, site, name), 25, "the limit", arm.logs(), 0.2)
    if arm.peer.reads_shutdown_text:
        wait_until(
            lambda: (6, 1) in {(n.code, n.subcode) for n in arm.peer.notifications()[limited[name] :]},
            5,
            "6/1 in its log",
            arm.logs(),
        )
    sent = world.captures[name].notifications_from(arm.our_address)
    assert ("6", "1") in {(p.first("bgp.notify.major_error"), p.first("bgp.notify.minor_error_cease")) for p in sent}
    warnings = [event for event in site.ours.events(peer) if event["level"] == "warning" and "prefix" in event["text"]]
    assert warnings


def _over_the_limit(site: Site, name: str) -> bool:
    """Told by the event: ``last_error`` is soon that of the next try."""
    events = site.ours.events(site.peer_id(name))
    return any((event["facts"].get("code"), event["facts"].get("subcode")) == (6, 1) for event in events)


def test_6_without_the_limit_all_come_back(world: World, limited: dict[str, int]) -> None:
    site = world.site
    for spec in site.specs.values():
        spec.ours = list(LINES)
    site.reload()
    for name in site.working():
        if site.ours.state(site.peer_id(name)) != "established":
            site.ours.ctl("neighbor", site.peer_id(name), "reset")
    site.wait_up(timeout=40)
    for name in site.working():
        wait_equal(partial(lambda name: len(_learned(site, name)), name), 4)


def test_zz_wireshark_finds_no_fault(world: World) -> None:
    for name in world.site.working():
        arm, capture = world.site.arm(name), world.captures[name]
        capture.stop()
        assert reached(capture, arm.our_address), name
        assert faulty(capture, arm.our_address) == [], name
    assert "Traceback" not in world.site.ours.log.read_text()
