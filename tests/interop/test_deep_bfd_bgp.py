"""BFD and BGP together: strict mode, one session for two clients, `bgpbfd bfd`, hooks; and a flood of strangers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from .harness.bfd_peers import BirdBfd, FarPath, FrrBfd
from .harness.capture import Capture
from .harness.lab import Host, Lab
from .harness.ours import Bgpbfd
from .harness.peers import Bfd, Bird, Frr
from .harness.process import Process, wait_until
from .more import Site, Spec, bfd_line, up
from .star import Arm

pytestmark = pytest.mark.interop

TIMERS = Bfd(interval_ms=50, multiplier=3)
STRICT = bfd_line(TIMERS, mode="strict", strict_hold_time=3)
NAMES = ["bird", "frr", "bird-listened", "frr-dynamic"]
NETWORK = "10.77.4.0/24"  # of the fourth cable
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Who dials: both, both, the peer (to a passive neighbor), the peer (to a network)."""
    with Lab(tmp_path_factory.mktemp("bfd-strict")) as lab:
        specs = [
            Spec(Bird, bfd=TIMERS, ours=[STRICT]),
            Spec(Frr, bfd=TIMERS, version=6, ours=[STRICT]),
            Spec(Bird, "bird-listened", bfd=TIMERS, dial="they", ours=[STRICT]),
            Spec(Frr, "frr-dynamic", bfd=TIMERS, dial="they", listed=False, asn=65200),
        ]
        network = ["[[peers]]", f'remote_ip = "{NETWORK}"', "remote_as = 65200", STRICT]
        hook = lab.logs / "hook.jsonl"
        script = lab.logs / "hook"
        script.write_text(f"#!/bin/sh\ncat >> {hook}\n")
        script.chmod(0o755)
        hooks = ["[[hooks]]", 'on = ["bfd-up", "bfd-down", "bgp-up", "bgp-down"]', f'command = ["{script}"]']
        site = Site(lab, specs, top=[*network, *hooks])
        for name in site.working():
            site.arms[name].link.cut_bfd()
        site.start()
        yield site


def _waits(site: Site, name: str) -> bool:
    """BGP has got as far as OpenSent and waits; a neighbor of a network exists only with its connection."""
    peer = site.peer_id(name)
    found = [view for view in site.ours.call("show_peers") if view["peer"] == peer]
    return bool(found and found[0]["state"] == "opensent" and site.ours.neighbor(peer)["waiting_for_bfd"])


@pytest.mark.feature("BFD strict mode")
@pytest.mark.parametrize("name", NAMES)
def test_bgp_waits_for_bfd_and_comes_up_with_it(site: Site, name: str) -> None:
    """Cut BFD: no BGP, and a Cease 6/10 when it has taken too long. Then both, BFD first."""
    arm = site.arm(name)
    with Capture(site.ours.host, arm.link.interface) as capture:
        wait_until(partial(_waits, site, name), 20, "BGP waits for BFD", arm.logs(), 0.05)
        wait_until(lambda: ("6", "10") in _sent(capture, arm), 15, "the wait has an end", arm.logs(), 0.5)
    assert not any(event["kind"] == "bgp-up" for event in _events(site, name))
    arm.link.heal()
    up(site, name)
    kinds = [event["kind"] for event in _events(site, name) if event["kind"] in {"bfd-up", "bgp-up"}]
    assert kinds[0] == "bfd-up"
    assert kinds.index("bgp-up") > kinds.index("bfd-up")


def _sent(capture: Capture, arm: Arm) -> list[tuple[str | None, str | None]]:
    """Our NOTIFICATIONs: (code, subcode of a Cease)."""
    return [
        (packet.first("bgp.notify.major_error"), packet.first("bgp.notify.minor_error_cease"))
        for packet in capture.notifications_from(arm.our_address)
    ]


@pytest.mark.feature("BFD strict mode")
@pytest.mark.parametrize("name", ["bird", "frr"])
def test_it_is_torn_down_and_waits_again(site: Site, name: str) -> None:
    arm = up(site, name)
    before = len(_events(site, name))
    arm.link.cut_bfd()
    wait_until(lambda: site.ours.state(site.peer_id(name)) != "established", 3, "the teardown", arm.logs(), 0.05)
    if name == "bird":  # FRR takes no connection while its own BFD is down
        wait_until(partial(_waits, site, name), 20, "BGP waits for BFD", arm.logs(), 0.05)
    arm.link.heal()
    up(site, name)
    events = _events(site, name)[before:]
    times = {kind: [event["at"] for event in events if event["kind"] == kind] for kind in ("bfd-up", "bgp-up")}
    # Where a connection was waiting, BGP is back as soon as BFD is: the peer's KEEPALIVE was there already.
    assert times["bgp-up"][-1] >= times["bfd-up"][0]


def test_hooks_have_been_told(site: Site) -> None:
    lines = [json.loads(line) for line in (site.lab.logs / "hook.jsonl").read_text().splitlines()]
    assert {line["event"] for line in lines} >= {"bfd-up", "bgp-up", "bfd-down", "bgp-down"}
    downs = [line for line in lines if line["event"] == "bfd-down"]
    assert all({"blame", "detection_time_ms", "silence_ms"} <= set(line["facts"]) for line in downs)


def test_rfc5882_2_one_session_for_a_neighbor_and_a_standalone_entry(site: Site) -> None:
    arm = up(site, "bird")
    before = site.ours.bfd(arm.address)
    entry = ["[[bfd.sessions]]", f'peer = "{arm.address}"', f'local = "{arm.our_address}"']
    site.top += [*entry, "receive_interval_ms = 50", "transmit_interval_ms = 50", "detect_multiplier = 5"]
    site.reload()
    shared = site.ours.bfd(arm.address)
    assert shared["clients"] == ["bgp", "configured"] or shared["clients"] == ["configured", "bgp"]
    assert (shared["id"], shared["session_down"]) == (before["id"], before["session_down"])
    assert shared["detect_multiplier"] == 3
    assert len([view for view in site.ours.call("show_bfd") if view["peer"] == arm.address]) == 1
    # Without the neighbor's BFD the session stays for the other; BGP is untouched.
    connected = site.ours.neighbor(arm.address)["connect_time"]
    site.specs["bird"].ours = ["bfd = false"]
    site.reload()
    alone = site.ours.bfd(arm.address)
    assert (alone["clients"], alone["id"], alone["status"]) == (["configured"], before["id"], "up")
    assert site.ours.neighbor(arm.address)["connect_time"] == connected
    site.specs["bird"].ours = [STRICT]
    site.reload()
    assert site.ours.bfd(arm.address)["id"] == before["id"]
    assert site.ours.neighbor(arm.address)["connect_time"] == connected


def _events(site: Site, name: str) -> list[dict[str, object]]:
    peer = site.peer_id(name)
    return [event for event in site.ours.call("show_events", limit=2000) if event["peer"] == peer]


# -- strangers ------------------------------------------------------------------------------------------------

FLOODER = """
import os, socket, sys, time
from bgpbfd.wire.bfd import ControlPacket, push_control
from bgpbfd.wire.iana import BfdState
os.nice(19)
target, seconds = sys.argv[1], float(sys.argv[2])
down = dict(state=BfdState.DOWN, detect_mult=3, my_discriminator=7, desired_min_tx_us=10000, required_min_rx_us=10000)
kinds = [push_control(ControlPacket(your_discriminator=number, **down)) for number in (0, 1, 0x80000001)]
kinds += [b"\\x20" + bytes(23), bytes(24), b"\\x40" * 24]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
sock.connect((target, 3784))
sock.setblocking(False)
end, count = time.monotonic() + seconds, 0
while time.monotonic() < end:
    for data in kinds * 16:
        try:
            sock.send(data)
            count += 1
        except OSError:
            pass
print(count / seconds)
"""


def test_a_flood_from_a_stranger_leaves_the_sessions_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    """From a host of its own, as fast as two processes can: 50 ms x 3 sessions with BIRD and FRR do not notice."""
    for kind in (Bird, Frr):
        if reason := kind.missing():
            pytest.skip(reason)
    with Lab(tmp_path_factory.mktemp("bfd-flood")) as lab:
        site = Site(lab, [Spec(Bird, bfd=TIMERS), Spec(Frr, bfd=TIMERS, version=6)])
        stranger = lab.host("stranger")
        cable = lab.link(site.ours.host, stranger)
        site.start()
        for name in ("bird", "frr"):
            up(site, name)
            wait_until(lambda name=name: site.ours.bfd(site.peer_id(name))["detection_timeout"] == 150, 10, "fast")
        before = {name: site.ours.bfd(site.peer_id(name))["session_down"] for name in ("bird", "frr")}
        rates = _flood(stranger, cable.a4, 6.0)
        for name in ("bird", "frr"):
            shown = site.ours.bfd(site.peer_id(name))
            assert (shown["status"], shown["session_down"]) == ("up", before[name])
            assert site.ours.neighbor(site.peer_id(name))["flaps"] == 0
        assert sum(rates) > 20_000, "that was no flood"
        print(f"flood: {sum(rates):.0f} packets a second")
        discards = site.ours.call("show_bfd_counters")["discards"]
        assert {"unknown-session", "unknown-discriminator", "version", "length"} <= set(discards)


def _flood(stranger: Host, target: str, seconds: float) -> list[float]:
    script = stranger.scratch / "flood.py"
    script.write_text(FLOODER)
    running: list[Process] = []
    for number in range(2):
        argv = [sys.executable, str(script), target, str(seconds)]
        running.append(stranger.spawn(argv, f"flood-{number}.log", env={**os.environ, "PYTHONPATH": str(_root())}))
    for process in running:
        assert process.wait(seconds + 20) == 0
    return [float((stranger.logs / f"flood-{number}.log").read_text().split()[-1]) for number in range(2)]


def _root() -> Path:
    return Path(__file__).parents[2]


# -- bgpbfd bfd -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BirdBfd, FrrBfd], ids=lambda kind: kind.name)
def test_bgpbfd_bfd(tmp_path_factory: pytest.TempPathFactory, kind: type[BirdBfd] | type[FrrBfd]) -> None:
    """As aiobfd was used: no BGP, no file."""
    if reason := (Bird if kind is BirdBfd else Frr).missing():
        pytest.skip(reason)
    with Lab(tmp_path_factory.mktemp("bfd-alone")) as lab:
        host, far = lab.host("ours"), lab.host("far")
        link = lab.link(host, far)
        peer = kind(far, [FarPath(link.a4, link.b4, link.interface)])
        argv = [str(BIN / "bgpbfd"), "bfd", link.a4, link.b4, "-r", "50", "-t", "50", "--json"]
        process = host.spawn(argv, "bfd.log")
        peer.start()
        wait_until(lambda: peer.state(link.a4) == "up", 15, "up", host.log_files())
        assert process.stop() == 0
        wait_until(lambda: peer.state(link.a4) != "up", 3, "AdminDown is heard", host.log_files())
        lines = [json.loads(line) for line in (host.logs / "bfd.log").read_text().splitlines()]
        assert [(line["old_status"], line["status"]) for line in lines if line["event"] == "state"][-2][1] == "up"


def test_two_of_ours_in_strict_mode(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Capability 74 at both ends, seen on the wire; BGP is up within 100 ms of BFD."""
    with Lab(tmp_path_factory.mktemp("bfd-two")) as lab:
        one, other = lab.host("one"), lab.host("other")
        link = lab.link(one, other)
        link.cut_bfd()
        ends = [_strict_end(one, 65001, link.b4, 65002), _strict_end(other, 65002, link.a4, 65001)]
        with Capture(one, link.interface) as capture:
            for end in ends:
                end.start()
            remotes = (link.b4, link.a4)
            for end, remote in zip(ends, remotes, strict=True):
                wait_until(
                    lambda end=end, remote=remote: end.neighbor(remote)["waiting_for_bfd"], 15, "waiting", [end.log]
                )
            link.heal()
            for end, remote in zip(ends, remotes, strict=True):
                end.wait_state(remote, "established", 15)
            opens = capture.packets("bgp.type == 1", ["bgp.cap.type"])
        assert all("74" in packet.fields["bgp.cap.type"] for packet in opens)
        for end, remote in zip(ends, remotes, strict=True):
            at = {event["kind"]: event["at"] for event in end.events(remote) if event["kind"] in {"bfd-up", "bgp-up"}}
            assert 0 <= at["bgp-up"] - at["bfd-up"] < 1.2  # the other end's BFD may be up a packet later


def _strict_end(host: Host, asn: int, remote: str, remote_as: int) -> Bgpbfd:
    text = [
        f'router_id = "10.255.1.{asn - 65000}"', f"default_as = {asn}", "poll_interval = 1",
        "[[peers]]", f'remote_ip = "{remote}"', f"remote_as = {remote_as}",
        bfd_line(TIMERS, mode="strict", strict_hold_time=30),
    ]  # fmt: skip
    return Bgpbfd(host, "\n".join([*text, ""]))
