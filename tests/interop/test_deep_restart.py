"""Graceful restart (RFC 4724, RFC 8538): theirs with us as the helper, ours with them, and what NOTIFICATIONs do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer, PeerConfig, Route
from .harness.process import wait_until
from .more import (
    Site,
    Spec,
    edited,
    faulty,
    gobgp,
    logs_of,
    policy,
    reached,
    replaced,
    source,
    up,
    vtysh,
    wait_equal,
    withdrawn,
)

pytestmark = pytest.mark.interop

RESTARTING = ["bird", "frr", "gobgp", "exabgp"]
HELPING = ["bird", "frr", "gobgp", "openbgpd"]
N_BIT = ["frr", "gobgp"]
BRIEF, PLAIN, SINK = "bird-brief", "bird-plain", "exabgp-sink"
OURS = [Route("198.51.100.0/24", med=3), Route("2001:db8:a::/48", med=3)]
OWN = {route.prefix for route in OURS}
PREFIX = {name: f"203.0.113.{16 * number}/28" for number, name in enumerate([*RESTARTING, "openbgpd", BRIEF, PLAIN])}
BRIEF_S = 3


class _Bird(Bird):
    """From its second start on with ``-R``: it announces that it restarted and kept its forwarding."""

    def start(self) -> None:
        again = (self.directory / "bird.conf").exists()
        host, spawn = self.host, self.host.spawn
        if again:
            host.spawn = lambda argv, log, env=None: spawn([*argv, "-R"], log, env)  # type: ignore[method-assign]
        try:
            super().start()
        finally:
            host.spawn = spawn  # type: ignore[method-assign]


class _GoBgp(GoBgp):
    """The same, which is ``--graceful-restart`` here."""

    def start(self) -> None:
        again = (self.directory / "gobgpd.toml").exists()
        host, spawn = self.host, self.host.spawn
        if again:
            host.spawn = lambda argv, log, env=None: spawn([*argv, "-r"], log, env)  # type: ignore[method-assign]
        try:
            super().start()
        finally:
            host.spawn = spawn  # type: ignore[method-assign]


def _restarting(kind: type[Peer], seconds: int = 60) -> type[Peer]:
    def edit(text: str, config: PeerConfig) -> str:
        if issubclass(kind, Bird):
            lines = f"graceful restart on; graceful restart time {seconds};"
            # -R: nothing is announced before every protocol has recovered, or this is over.
            return "graceful restart wait 5;\n" + replaced(text, "  direct;", f"  direct;\n  {lines}")
        if issubclass(kind, Frr):
            lines = " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n"
            lines += f" bgp graceful-restart restart-time {seconds}\n no bgp hard-administrative-reset\n"
            return replaced(text, " bgp log-neighbor-changes\n", f" bgp log-neighbor-changes\n{lines}")
        if issubclass(kind, ExaBgp):
            lines = f"  capability {{ graceful-restart {seconds}; }}\n"
            return replaced(text, "  family {", f"{lines}  family {{")
        family = "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n"
        text = text.replace('-unicast"\n', f'-unicast"\n{family}')
        lines = f"  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = {seconds}\n"
        lines += "    notification-enabled = true\n"
        return replaced(text, "  [[neighbors.afi-safis]]", f"{lines}  [[neighbors.afi-safis]]")

    return edited(kind, edit)


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Routes of all are passed on to ExaBGP, which keeps none of a session that ended."""
    learns = ['import_policy = "all"']
    graceful = ["graceful_restart = { enabled = true, restart_time = 60 }", *learns]
    with Lab(tmp_path_factory.mktemp("restart")) as lab:
        specs = [
            Spec(_restarting(_Bird), dial="we", ours=graceful),
            Spec(_restarting(Frr), dial="we", ours=graceful),
            Spec(_restarting(_GoBgp), dial="we", ours=graceful),
            Spec(_restarting(ExaBgp), dial="we", ours=graceful),
            Spec(OpenBgpd, dial="we", ours=graceful),
            Spec(_restarting(_Bird, BRIEF_S), BRIEF, dial="we", ours=graceful),
            Spec(_restarting(_Bird), PLAIN, dial="we", ours=learns),
            Spec(ExaBgp, SINK, dial="we", ours=['advertise_sources = ["peer"]', 'export_policy = "all"']),
        ]
        for spec in specs:
            if spec.name != SINK:
                spec.announced, spec.routes = OURS, [Route(PREFIX[spec.name], med=3)]
        site = Site(lab, specs, top=policy("all"))
        captures = site.captures()
        site.start()
        yield World(site, captures)


def _settled(world: World, *names: str) -> None:
    for name in (*names, SINK):
        up(world.site, name)
    for name in names:
        arm = world.site.arm(name)
        wait_equal(lambda arm=arm: {route.prefix for route in arm.peer.routes()}, OWN)  # type: ignore[misc]
        wait_equal(lambda name=name: _learned(world, name), {PREFIX[name]: False})  # type: ignore[misc]
        wait_equal(lambda name=name: PREFIX[name] in _passed_on(world), True)  # type: ignore[misc]


def _learned(world: World, name: str) -> dict[str, bool]:
    """Prefix → whether it is stale; without our own, which FRR sends back."""
    views = world.site.ours.learned(world.site.peer_id(name))
    return {view["prefix"]: bool(view.get("stale")) for view in views if view["valid"]}


def _passed_on(world: World) -> set[str]:
    return {route.prefix for route in world.site.arm(SINK).peer.routes()}


def _address(prefix: str) -> str:
    return prefix.partition("/")[0]


@pytest.mark.feature("graceful restart, theirs")
@pytest.mark.parametrize("name", RESTARTING)
def test_rfc4724_4_2_a_killed_peers_routes_stay_until_it_is_back(world: World, name: str) -> None:
    """Stale, and passed on all the while: ExaBGP is sent nothing about them."""
    site = world.site
    _settled(world, name)
    peer, arm = site.peer_id(name), site.arm(name)
    with Capture(site.ours.host, site.arm(SINK).link.interface, "tcp port 179") as capture:
        arm.peer.kill9()
        wait_until(lambda: site.ours.state(peer) != "established", 5, "bgpbfd notices", arm.logs())
        wait_equal(lambda: _learned(world, name), {PREFIX[name]: True})
        assert site.ours.neighbor(peer)["stale_until"] is not None
        assert PREFIX[name] in _passed_on(world)
        arm.peer.start()
        up(site, name)
        wait_equal(lambda: _learned(world, name), {PREFIX[name]: False}, 20)
        wait_equal(lambda: {route.prefix for route in arm.peer.routes()}, OWN)
        assert PREFIX[name] in _passed_on(world)
    ours = site.arm(SINK).our_address
    if name != "gobgp":  # its routes come over its API: its End-of-RIB is there before them
        assert _address(PREFIX[name]) not in [*withdrawn(capture, ours), *reached(capture, ours)]


def test_rfc4724_4_2_a_peer_that_stays_away_loses_them(world: World) -> None:
    site = world.site
    _settled(world, BRIEF)
    assert site.ours.neighbor(site.peer_id(BRIEF))["restart_time"] == BRIEF_S
    site.arm(BRIEF).peer.kill9()
    wait_equal(lambda: _learned(world, BRIEF), {PREFIX[BRIEF]: True})
    wait_equal(lambda: _learned(world, BRIEF), {}, BRIEF_S + 5)
    wait_equal(lambda: PREFIX[BRIEF] in _passed_on(world), False)
    site.arm(BRIEF).peer.start()  # or our own restart would wait for its End-of-RIB (§4.1)
    _settled(world, BRIEF)


def test_without_it_a_killed_peers_routes_go_at_once(world: World) -> None:
    site = world.site
    _settled(world, PLAIN)
    site.arm(PLAIN).peer.kill9()
    wait_equal(lambda: _learned(world, PLAIN), {}, 3)
    wait_equal(lambda: PREFIX[PLAIN] in _passed_on(world), False, 3)
    site.arm(PLAIN).peer.start()
    _settled(world, PLAIN)


@pytest.fixture(scope="module")
def killed(world: World) -> dict[str, list[set[str]]]:
    """What the peers' CLIs showed of our routes while we were away after a kill -9, and until all were back."""
    site = world.site
    names = [name for name in (*HELPING, PLAIN) if name in site.working()]
    _settled(world, *names)
    seen: dict[str, list[set[str]]] = {name: [] for name in names}

    def look() -> None:
        for name in names:
            seen[name].append(_there(site, name))

    site.ours.kill9()
    for name in names:
        peer = site.arm(name).peer
        wait_until(lambda peer=peer: peer.session_state() != "established", 5, f"{name} notices")  # type: ignore[misc]
    look()
    site.ours.start()

    def back() -> bool:
        look()
        states = site.states()
        return all(states[site.peer_id(name)] == "established" for name in names)

    wait_until(back, 25, "the sessions are back", logs_of(site), 0.1)
    wait_until(partial(_ended, site, names), 20, "End-of-RIB sent and read", logs_of(site), 0.2)
    look()
    return seen


def _ended(site: Site, names: list[str]) -> bool:
    return all(site.ours.neighbor(site.peer_id(name))["end_of_rib"] for name in names)


def _there(site: Site, name: str) -> set[str]:
    """Our routes in the peer's table, stale ones too: GoBGP's Adj-RIB-In of a session that is down is in its table."""
    peer = site.arm(name).peer
    if isinstance(peer, GoBgp):
        return {prefix for version in (4, 6) for prefix in peer.table(version)} & OWN
    return {route.prefix for route in peer.routes()} & OWN


@pytest.mark.feature("graceful restart, ours")
@pytest.mark.parametrize("name", HELPING)
def test_rfc4724_4_1_our_routes_stay_there_while_we_restart(
    world: World, killed: dict[str, list[set[str]]], name: str
) -> None:
    assert name in killed
    assert [seen for seen in killed[name] if seen != OWN] == []
    _settled(world, name)


def test_without_it_our_routes_are_gone_at_once_when_we_are(world: World, killed: dict[str, list[set[str]]]) -> None:
    assert killed[PLAIN][0] == set()
    _settled(world, PLAIN)


@pytest.mark.feature("graceful restart after a NOTIFICATION")
@pytest.mark.parametrize("name", N_BIT)
def test_rfc8538_4_a_notification_keeps_the_peers_routes(world: World, name: str) -> None:
    """Both ends had the N bit. FRR's administrative reset, told not to be a hard one, is 6/4.

    After its own GoBGP is idle for half a minute; so it is shut down, which is 6/2 to it, and comes back at once.
    """
    site = world.site
    _settled(world, name)
    arm, peer = site.arm(name), site.peer_id(name)
    assert site.ours.neighbor(peer)["restart_notification"] is True
    flaps = site.ours.neighbor(peer)["flaps"]
    with (
        Capture(site.ours.host, site.arm(SINK).link.interface, "tcp port 179") as capture,
        Capture(site.ours.host, arm.link.interface, "tcp port 179") as own,
    ):
        if name == "frr":
            vtysh(arm.peer, f"clear bgp {arm.our_address}")
        else:
            gobgp(arm.peer, "neighbor", arm.our_address, "shutdown")
        wait_until(lambda: site.ours.neighbor(peer)["flaps"] > flaps, 5, "the reset", arm.logs())
        assert set(_learned(world, name)) == {PREFIX[name]}
        if name == "gobgp":
            gobgp(arm.peer, "neighbor", arm.our_address, "enable")
        up(site, name)
        wait_equal(lambda: _learned(world, name), {PREFIX[name]: False}, 20)
        wait_until(lambda: own.notifications_from(arm.address), 5, "the NOTIFICATION")
    sent = own.notifications_from(arm.address)
    numbers = {(p.first("bgp.notify.major_error"), p.first("bgp.notify.minor_error_cease")) for p in sent}
    assert numbers == {("6", "4" if name == "frr" else "2")}
    if name == "frr":  # GoBGP comes back without F bits, so what is stale goes (RFC 4724 §4.2) before it is sent again
        assert _address(PREFIX[name]) not in withdrawn(capture, site.arm(SINK).our_address)


@pytest.mark.feature("graceful restart after a NOTIFICATION")
@pytest.mark.parametrize("name", N_BIT)
def test_rfc8538_3_1_a_stop_by_hand_is_a_hard_reset(world: World, name: str) -> None:
    """6/9 with the shutdown in it: the peer drops our routes at once, and we drop its."""
    site = world.site
    _settled(world, name)
    arm, peer = site.arm(name), site.peer_id(name)
    with Capture(site.ours.host, arm.link.interface, "tcp port 179") as capture:
        site.ours.ctl("neighbor", peer, "disable", "moving out")
        wait_equal(lambda: _there(site, name), set(), 5)
        assert _learned(world, name) == {}
        wait_equal(lambda: PREFIX[name] in _passed_on(world), False)
        wait_until(lambda: capture.notifications_from(arm.our_address), 5, "the NOTIFICATION")
    sent = capture.packets(
        f"bgp.type == 3 && {source(arm.our_address)}", ["bgp.notify.minor_error_cease", "tcp.payload"]
    )
    assert sent[0].first("bgp.notify.minor_error_cease") == "9"
    payload = bytes.fromhex(sent[0].first("tcp.payload") or "")
    assert payload[19:24] == bytes([6, 9, 6, 2, len("moving out")])
    assert payload[24:] == b"moving out"
    site.ours.ctl("neighbor", peer, "enable")
    _settled(world, name)


def test_a_clean_stop_with_on_stop_retain_keeps_the_routes_there(world: World) -> None:
    """No NOTIFICATION; the default withdraws, see test_sessions.py."""
    site = world.site
    names = [name for name in ("bird", "frr") if name in site.working()]
    for name in names:
        site.specs[name].ours[0] = 'graceful_restart = { enabled = true, restart_time = 60, on_stop = "retain" }'
    site.reload()
    _settled(world, *names)
    captures = {name: Capture(site.ours.host, site.arm(name).link.interface, "tcp port 179") for name in names}
    assert site.ours.stop() == 0
    for name in names:
        peer = site.arm(name).peer
        wait_until(lambda peer=peer: peer.session_state() != "established", 5, f"{name} notices")  # type: ignore[misc]
        assert _there(site, name) == OWN
        captures[name].stop()
        assert captures[name].notifications_from(site.arm(name).our_address) == []
        assert withdrawn(captures[name], site.arm(name).our_address) == []
    site.ours.start()
    _settled(world, *names)


def test_zz_wireshark_finds_no_fault(world: World) -> None:
    for name in world.site.working():
        arm, capture = world.site.arm(name), world.captures[name]
        capture.stop()
        assert capture.packets(f"bgp.type == 1 && {source(arm.our_address)}", ["bgp.type"]), name
        assert faulty(capture, arm.our_address) == [], name
    assert "Traceback" not in world.site.ours.log.read_text()
