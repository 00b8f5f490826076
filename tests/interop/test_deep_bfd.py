"""BFD in full depth with BIRD and FRR: every path and mode, authentication; sessions without BGP (RFC 5880 and on).

Both sides' own CLIs are asked; tshark reads the packets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from .harness.bfd_peers import BfdPeer, BirdBfd, FarPath, FrrBfd, bird_auth
from .harness.capture import Capture
from .harness.lab import Host, Lab, Link
from .harness.ours import Bgpbfd
from .harness.peers import Bird, Frr
from .harness.process import wait_until
from .more import _link_local, _routed, gaps, source

pytestmark = pytest.mark.interop

PEERS = ["bird", "frr"]
PATHS = ["ipv4", "ipv6", "link-local", "multihop"]
AUTH = ["simple", "keyed-md5", "meticulous-keyed-md5", "keyed-sha1", "meticulous-keyed-sha1"]
FIELDS = ["ip.ttl", "ipv6.hlim", "udp.srcport", "udp.dstport", "bfd.sta", "bfd.flags.p", "bfd.flags.f", "bfd.flags.d"]


@dataclass(slots=True)
class Arm:
    """One peer with four paths to it. ``paths``: by kind, (our entry's peer, our address, the far end's view)."""

    peer: BfdPeer
    direct: Link
    near: Link
    paths: dict[str, tuple[str, str, FarPath]]
    number: int


@dataclass(slots=True)
class World:
    ours: Bgpbfd
    arms: dict[str, Arm]
    settings: dict[str, Any] = field(default_factory=dict)
    of: dict[str, dict[str, Any]] = field(default_factory=dict)  # further keys, by our entry's peer
    extra: str = ""

    def write(self) -> None:
        keys = {"transmit_interval_ms": 50, "receive_interval_ms": 50, "detect_multiplier": 3} | self.settings
        lines = ['router_id = "10.255.0.10"', "default_as = 65010", "bgp_socket = []", self.extra]
        for arm in self.arms.values():
            for kind, (peer, local, _) in arm.paths.items():
                lines += ["[[bfd.sessions]]", f'peer = "{peer}"', f'description = "{arm.peer.name}-{kind}"']
                if kind != "link-local":
                    lines.append(f'local = "{local}"')
                if kind == "multihop":
                    # BIRD sends with a TTL of 64, whatever the distance; a router is between us
                    lines += ["multihop = true", f"minimum_ttl = {63 if arm.peer.name == 'bird' else 254}"]
                mine = keys | self.of.get(peer, {})
                lines += [f"{key} = {_toml(value)}" for key, value in mine.items()]
        self.ours.write("\n".join([*lines, ""]))

    def reload(self) -> None:
        self.write()
        self.ours.ctl("reload")

    def bfd(self, name: str, kind: str) -> dict[str, Any]:
        return self.ours.bfd(f"{name}-{kind}")

    def up(self, name: str, kind: str) -> bool:
        """Up at both ends, as both print it, at the fast rate."""
        arm = self.arms[name]
        there = arm.paths[kind][2].remote
        mine = self.bfd(name, kind)
        return bool(mine["status"] == "up" == arm.peer.state(there) and not mine["polling"])

    def wait_up(self, name: str, kind: str) -> None:
        wait_until(partial(self.up, name, kind), 15, f"{name} {kind} up at both ends", self.ours.host.log_files())

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        peer = self.arms[name].paths[kind][0]
        return [event for event in self.ours.events(peer) if event["kind"].startswith("bfd")]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _arm(lab: Lab, ours: Host, kind: type[BirdBfd] | type[FrrBfd]) -> Arm:
    there = lab.host(kind.name)
    direct = lab.link(ours, there)
    near, far = _routed(lab, ours, there)
    _link_local(direct)
    interface = direct.interface
    paths = {
        "ipv4": (direct.b4, direct.a4, FarPath(direct.a4, direct.b4, interface)),
        "ipv6": (direct.b6, direct.a6, FarPath(direct.a6, direct.b6, interface)),
        "link-local": (f"fe80::b%{interface}", "fe80::a", FarPath("fe80::a", "fe80::b", interface)),
        "multihop": (far.b4, near.a4, FarPath(near.a4, far.b4, multihop=True)),
    }
    return Arm(kind(there, [path for _, _, path in paths.values()]), direct, near, paths, direct.number)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    for kind in (Bird, Frr):
        if reason := kind.missing():
            pytest.skip(reason)
    with Lab(tmp_path_factory.mktemp("deep-bfd")) as lab:
        host = lab.host("ours")
        found = World(Bgpbfd(host, ""), {kind.name: _arm(lab, host, kind) for kind in (BirdBfd, FrrBfd)})
        found.write()
        found.ours.start()
        for arm in found.arms.values():
            arm.peer.start()
        yield found


@pytest.fixture
def clean(world: World) -> Iterator[World]:
    """Whatever a test changes is put back, and all is up again before the next."""
    yield world
    world.settings, world.of, world.extra = {}, {}, ""
    for arm in world.arms.values():
        arm.direct.heal()
        arm.near.heal()
        arm.peer.knobs = type(arm.peer.knobs)()
        arm.peer.apply()
    world.reload()


@pytest.mark.feature("BFD on every path")
@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", PEERS)
def test_up_as_both_ends_print_it(world: World, name: str, kind: str) -> None:
    world.wait_up(name, kind)
    ours = world.bfd(name, kind)
    assert (ours["multihop"], ours["detection_timeout"]) == (kind == "multihop", 150)
    assert (ours["remote_receive_interval"], ours["remote_transmit_interval"]) == (50, 50)
    assert (ours["mode"], ours["clients"]) == ("none", ["configured"])


@pytest.mark.feature("BFD on every path")
@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", PEERS)
def test_rfc5881_rfc5883_packets(world: World, name: str, kind: str) -> None:
    """Ports, TTL, constant source port; 75 to 100 % of the interval (RFC 5880 §6.8.7)."""
    world.wait_up(name, kind)
    arm = world.arms[name]
    _, local, _ = arm.paths[kind]
    link, port = (arm.near, 4784) if kind == "multihop" else (arm.direct, 3784)
    with Capture(world.ours.host, link.interface, f"udp port {port}") as capture:
        sent = partial(capture.packets, f"bfd && {source(local)}", FIELDS)
        packets = wait_until(lambda: found if len(found := sent()) >= 25 else [], 10, "25 packets", interval=0.4)
    assert {packet.first("udp.dstport") for packet in packets} == {str(port)}
    ports = {int(packet.first("udp.srcport") or 0) for packet in packets}
    assert len(ports) == 1
    assert 49152 <= ports.pop() <= 65535
    assert {packet.first("ip.ttl") or packet.first("ipv6.hlim") for packet in packets} == {"255"}
    spaces = [gap * 1000 / 50 for gap in gaps(packets)]
    assert min(spaces) >= 0.72
    assert sorted(spaces)[len(spaces) // 2] <= 1.0
    assert max(spaces) - min(spaces) > 0.05


@pytest.mark.feature("BFD timers changed live")
@pytest.mark.parametrize("name", PEERS)
def test_timers_raised_and_lowered_from_either_end_without_a_flap(clean: World, name: str) -> None:
    world, arm = clean, clean.arms[name]
    for kind in PATHS:
        world.wait_up(name, kind)
    before = {kind: world.bfd(name, kind)["session_down"] for kind in PATHS}
    for interval in (120, 40):
        world.settings = {"transmit_interval_ms": interval, "receive_interval_ms": interval}
        world.reload()
        for kind in PATHS:
            want = max(interval, 50)
            wait_until(
                lambda kind=kind, want=want: world.bfd(name, kind)["in_force_transmit_interval_ms"] == want,
                5, f"{name} {kind}: our interval", world.ours.host.log_files(),
            )  # fmt: skip
    arm.peer.knobs.interval_ms = 200
    arm.peer.apply()
    for kind in PATHS:
        wait_until(lambda kind=kind: world.bfd(name, kind)["detection_timeout"] == 600, 5, f"{name} {kind}: theirs")
    arm.peer.knobs.interval_ms = 50
    arm.peer.apply()
    for kind in PATHS:
        wait_until(lambda kind=kind: world.bfd(name, kind)["detection_timeout"] == 150, 5, f"{name} {kind}: theirs")
    assert {kind: world.bfd(name, kind)["session_down"] for kind in PATHS} == before
    assert {arm.peer.state(path.remote) for _, _, path in arm.paths.values()} == {"up"}


@pytest.mark.feature("BFD of a peer that restarts")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_killed_and_comes_back(clean: World, name: str) -> None:
    world, arm = clean, clean.arms[name]
    for kind in PATHS:
        world.wait_up(name, kind)
    arm.peer.kill9()
    for kind in PATHS:
        wait_until(lambda kind=kind: world.bfd(name, kind)["status"] != "up", 3, f"{name} {kind} down")
        down = world.bfd(name, kind)["last_down"]
        assert (down["blame"], down["diagnostic"]) == ("path-loss", "control detection time expired")
        assert 150 <= down["last_packet_before_ms"] <= 175
    arm.peer.start()
    for kind in PATHS:
        world.wait_up(name, kind)


@pytest.mark.feature("BFD AdminDown")
@pytest.mark.parametrize("name", PEERS)
def test_rfc5880_6_8_16_our_admin_down(clean: World, name: str) -> None:
    world, arm = clean, clean.arms[name]
    for kind in PATHS:
        world.wait_up(name, kind)
    world.settings = {"shutdown": True}
    world.reload()
    for kind in PATHS:
        assert world.bfd(name, kind)["status"] == "shutdown"
        remote = arm.paths[kind][2].remote
        wait_until(lambda remote=remote: arm.peer.state(remote) != "up", 3, f"{name} {kind} sees it")
    world.settings = {}
    world.reload()
    for kind in PATHS:
        world.wait_up(name, kind)
        assert world.bfd(name, kind)["last_down"]["blame"] == "admin"


@pytest.mark.feature("BFD AdminDown", peers=("frr",))
def test_rfc5882_3_2_frr_admin_down_is_told_apart(clean: World) -> None:
    """BIRD has no way to say it: it falls silent."""
    world, arm = clean, clean.arms["frr"]
    for kind in PATHS:
        world.wait_up("frr", kind)
    arm.peer.knobs.shutdown = True
    arm.peer.apply()
    for kind in PATHS:
        wait_until(lambda kind=kind: world.bfd("frr", kind)["remote_status"] == "shutdown", 5, f"{kind}: we see it")
        assert world.bfd("frr", kind)["last_down"]["blame"] == "admin"
        assert any(event["kind"] == "bfd-admin-down" for event in world.events("frr", kind))


@pytest.mark.feature("BFD and loss in one direction")
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("deaf", ["we", "they"])
def test_one_way_loss_takes_both_ends_down(clean: World, name: str, deaf: str) -> None:
    world, arm = clean, clean.arms[name]
    for kind in PATHS:
        world.wait_up(name, kind)
    before = {kind: world.bfd(name, kind)["session_down"] for kind in PATHS}
    for link in (arm.direct, arm.near):
        link.cut("udp dport { 3784, 4784 }", [link.b if deaf == "we" else link.a])
    for kind in PATHS:
        wait_until(
            lambda kind=kind: world.bfd(name, kind)["session_down"] == before[kind] + 1, 3, f"{name} {kind} down here"
        )
        down = world.bfd(name, kind)["last_down"]
        assert down["blame"] == ("path-loss" if deaf == "we" else "remote-signalled")
        remote = arm.paths[kind][2].remote
        wait_until(lambda remote=remote: arm.peer.state(remote) != "up", 3, f"{name} {kind} down there")
    for link in (arm.direct, arm.near):
        link.heal()
    for kind in PATHS:
        world.wait_up(name, kind)


@pytest.mark.feature("BFD demand mode", peers=("bird",))
def test_rfc5880_6_6_bird_honours_demand_and_is_polled(clean: World) -> None:
    world, arm = clean, clean.arms["bird"]
    world.wait_up("bird", "ipv4")
    peer, _, _ = arm.paths["ipv4"]
    world.of = {peer: {"demand": True}}
    with Capture(world.ours.host, arm.direct.interface, "udp port 3784 and ip") as capture:
        world.reload()
        wait_until(lambda: world.bfd("bird", "ipv4")["demand"], 5, "demand in force")
        begun = time.time() + 0.5
        wait_until(lambda: time.time() > begun + 2.5, 5, "time passes", interval=0.5)
    theirs = [p for p in capture.packets(f"bfd && {source(arm.direct.b4)}", FIELDS) if p.time > begun]
    ours = [p for p in capture.packets(f"bfd && {source(arm.direct.a4)}", FIELDS) if p.time > begun]
    assert {_flag(p, "bfd.flags.d") for p in ours} == {True}
    assert theirs
    assert all(_flag(p, "bfd.flags.f") for p in theirs), "BIRD went on sending"
    assert any(_flag(p, "bfd.flags.p") for p in ours)
    assert world.bfd("bird", "ipv4")["session_down"] == 0 or world.bfd("bird", "ipv4")["status"] == "up"
    downs = world.bfd("bird", "ipv4")["session_down"]
    arm.direct.cut("udp dport 3784", [arm.direct.b])
    wait_until(lambda: world.bfd("bird", "ipv4")["session_down"] == downs + 1, 3, "the poll is not answered")
    down = world.bfd("bird", "ipv4")["last_down"]
    assert down["blame"] == "path-loss"
    assert down["last_packet_before_ms"] <= 2 * 150 + 25


@pytest.mark.feature("BFD echo", peers=("frr",))
@pytest.mark.parametrize(("kind", "forwards"), [("ipv4", True), ("ipv4", False), ("ipv6", False)])
def test_rfc5880_6_4_echo_with_frr(clean: World, kind: str, forwards: bool) -> None:
    """IPv4: by the host that forwards; ours returns FRR's without forwarding. IPv6: by either's BFD."""
    world, arm = clean, clean.arms["frr"]
    assert isinstance(arm.peer, FrrBfd)
    world.wait_up("frr", kind)
    peer, _, path = arm.paths[kind]
    arm.peer.host.run("sysctl", "-qw", f"net.ipv4.ip_forward={int(forwards)}")
    downs = world.bfd("frr", kind)["session_down"]
    world.of = {peer: {"echo": True}}
    world.reload()
    arm.peer.knobs.echo = True
    arm.peer.apply()

    def answered() -> bool:
        counters = world.ours.call("show_bfd_counters", peer=f"frr-{kind}")["sessions"][0]
        theirs = arm.peer.counters(path.remote) if isinstance(arm.peer, FrrBfd) else {}
        ours_too = counters["echo_packet_input"] >= 20 or (kind == "ipv4" and not forwards)
        return bool(ours_too and theirs.get("echo-packet-input", 0) >= 20)

    wait_until(answered, 10, "echo packets both ways", world.ours.host.log_files())
    shown = world.bfd("frr", kind)
    assert (shown["status"], shown["session_down"]) == ("up", downs)
    if kind == "ipv4":
        assert arm.peer.facts(path.remote)["rtt-avg"] > 0
    if kind == "ipv6" or forwards:
        assert 0 < shown["rtt_min"] <= shown["rtt_avg"] <= shown["rtt_max"] < 50_000
        assert shown["receive_interval"] == 1000  # RFC 5880 §6.8.3
        arm.direct.cut("udp dport 3785", [arm.direct.b])
        wait_until(lambda: world.bfd("frr", kind)["session_down"] > downs, 3, "the echo fails")
        assert "echo function failed" in {
            world.bfd("frr", kind)["last_down"]["diagnostic"],
            world.bfd("frr", kind)["last_down"]["remote_diagnostic"],
        }


@pytest.mark.feature("BFD authentication", peers=("bird",))
@pytest.mark.parametrize("auth", AUTH)
def test_rfc5880_6_7_authentication_with_bird(clean: World, auth: str) -> None:
    """Up in both directions, the right section on the wire; a wrong key is refused; the right one brings it back."""
    world, arm = clean, clean.arms["bird"]
    arm.peer.knobs.auth = bird_auth(auth, (7, "kilimanjaro"))
    arm.peer.apply()
    _keys(world, {"type": auth, "key_id": 7, "key": "0x" + b"kilimanjaro".hex()})
    with Capture(world.ours.host, arm.direct.interface, "udp port 3784") as capture:
        for kind in ("ipv4", "ipv6", "link-local"):
            world.wait_up("bird", kind)
            shown = world.bfd("bird", kind)
            assert (shown["auth_type"], shown["auth_key_id"], shown["remote_auth_key_id"]) == (auth, 7, 7)
        wire = wait_until(
            lambda: capture.packets(f"bfd.sta == 3 && {source(arm.direct.a4)}", ["bfd.auth.type", "bfd.auth.key"]),
            5, "a packet of ours", interval=0.3,
        )  # fmt: skip
    assert {int(packet.first("bfd.auth.type") or "0", 0) for packet in wire} == {AUTH.index(auth) + 1}
    _keys(world, {"type": auth, "key_id": 7, "key": "mauna kea"})
    wait_until(lambda: world.bfd("bird", "ipv4")["status"] != "up", 5, "another key")
    # A password of another length is another section (§4.2); a digest has the same length with any key.
    reason = "auth-length" if auth == "simple" else "auth-digest"
    wait_until(lambda: _discards(world, "ipv4").get(reason), 5, "counted")
    assert "mauna kea" not in world.ours.log.read_text()
    assert "kilimanjaro" not in json.dumps(world.ours.ctl("show", "config"))
    _keys(world, {"type": auth, "key_id": 7, "key": "kilimanjaro"})
    world.wait_up("bird", "ipv4")


@pytest.mark.feature("BFD authentication", peers=("bird",))
@pytest.mark.parametrize("auth", ["meticulous-keyed-md5", "meticulous-keyed-sha1"])
def test_rfc5880_6_7_a_replayed_packet_is_refused(clean: World, auth: str) -> None:
    world, arm = clean, clean.arms["bird"]
    arm.peer.knobs.auth = bird_auth(auth, (1, "denali"))
    arm.peer.apply()
    _keys(world, {"type": auth, "key_id": 1, "key": "denali"})
    world.wait_up("bird", "ipv4")
    with Capture(world.ours.host, arm.direct.interface, "udp port 3784 and ip") as capture:
        seen = wait_until(
            lambda: capture.packets(f"bfd.sta == 3 && {source(arm.direct.b4)}", ["udp.payload"]), 5, "a packet of BIRD"
        )
    downs = world.bfd("bird", "ipv4")["session_down"]
    old = _discards(world, "ipv4").get("auth-sequence", 0)
    script = (
        "import socket,sys; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, 2, 255);"
        f"s.bind(({arm.direct.b4!r}, 0));"
        f"[s.sendto(bytes.fromhex({(seen[0].first('udp.payload') or '').replace(':', '')!r}), "
        f"({arm.direct.a4!r}, 3784)) for _ in range(5)]"
    )
    arm.peer.host.run("python3", "-c", script)
    wait_until(lambda: _discards(world, "ipv4").get("auth-sequence", 0) >= old + 5, 3, "refused and counted")
    assert world.bfd("bird", "ipv4")["session_down"] == downs


@pytest.mark.feature("BFD authentication", peers=("bird",))
def test_rfc5880_6_7_keys_are_rotated_without_a_flap(clean: World) -> None:
    world, arm = clean, clean.arms["bird"]
    kind = "meticulous-keyed-sha1"
    first = {"type": kind, "key_id": 1, "key": "elbrus"}
    second = {"type": kind, "key_id": 2, "key": "0x" + b"aconcagua".hex()}
    arm.peer.knobs.auth = bird_auth(kind, (1, "elbrus"))
    arm.peer.apply()
    _keys(world, first)
    world.wait_up("bird", "ipv4")
    downs = world.bfd("bird", "ipv4")["session_down"]
    _keys(world, [first, second])
    arm.peer.knobs.auth = bird_auth(kind, (2, "aconcagua"), (1, "elbrus"))
    arm.peer.apply()
    wait_until(lambda: world.bfd("bird", "ipv4")["remote_auth_key_id"] == 2, 5, "BIRD signs with the new key")
    _keys(world, [second, first])
    arm.peer.knobs.auth = bird_auth(kind, (2, "aconcagua"))
    arm.peer.apply()
    _keys(world, second)
    wait_until(lambda: world.bfd("bird", "ipv4")["auth_key_id"] == 2, 5, "so do we")
    wait_until(lambda: world.bfd("bird", "ipv4")["last_packet_age_ms"] < 60, 5, "packets go on")
    assert world.bfd("bird", "ipv4")["session_down"] == downs
    assert arm.peer.state(arm.direct.a4) == "up"


@pytest.mark.feature("BFD sessions that were asked for")
@pytest.mark.parametrize("name", PEERS)
def test_rfc9468_unsolicited_session(clean: World, name: str) -> None:
    world, arm = clean, clean.arms[name]
    peer = arm.paths["ipv6"][0]
    world.extra = f'[bfd.unsolicited]\nnetworks = ["{peer}/128"]\n'
    kept = arm.paths.pop("ipv6")
    try:
        world.reload()
        wait_until(
            lambda: _status(world, peer) == "up" == arm.peer.state(kept[2].remote), 10, "an unsolicited session is up"
        )
        shown = world.ours.bfd(peer)
        assert (shown["type"], shown["clients"], shown["passive_mode"]) == ("unsolicited", ["unsolicited"], True)
        assert any(event["kind"] == "bfd-unsolicited" for event in world.ours.events(peer))
    finally:
        arm.paths["ipv6"] = kept


def _status(world: World, peer: str) -> str | None:
    found = [view for view in world.ours.call("show_bfd") if view["peer"] == peer]
    return str(found[0]["status"]) if found else None


def _keys(world: World, auth: object) -> None:
    """For the sessions with BIRD on its direct link."""
    arm = world.arms["bird"]
    world.of = {arm.paths[kind][0]: {"auth": auth} for kind in ("ipv4", "ipv6", "link-local")}
    world.reload()


def _discards(world: World, kind: str) -> dict[str, int]:
    return dict(world.ours.call("show_bfd_counters", peer=f"bird-{kind}")["sessions"][0]["discarded"])


def _flag(packet: Any, name: str) -> bool:
    return packet.first(name) in {"1", "True"}
