"""BFD over IPv6 with BIRD and FRR: timers changed live, AdminDown of either end, passive ends, the packets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest

from .harness.capture import Capture, Packet
from .harness.lab import Lab
from .harness.peers import Bfd, Bird, Frr, GoBgp
from .harness.process import wait_until
from .more import Site, Spec, bfd_line, birdc, faulty, gaps, source, up, vtysh, wait_bfd, wait_equal

pytestmark = pytest.mark.interop

TIMERS = Bfd(interval_ms=150, multiplier=4)
WITH_BFD = ["bird", "frr"]
PASSIVE = ["bird-passive", "frr-passive"]
FIELDS = [
    "ip.ttl",
    "ipv6.hlim",
    "udp.srcport",
    "udp.dstport",
    "bfd.version",
    "bfd.sta",
    "bfd.detect_time_multiplier",
    "bfd.desired_min_tx_interval",
    "bfd.required_min_rx_interval",
    "bfd.required_min_echo_interval",
    "bfd.flags.p",
    "bfd.flags.f",
]
UP = "0x03"
IN_PROFILE = ("configure terminal", "bfd", "profile live")


class ProfileFrr(Frr):
    """FRR with its BFD keys in a profile, which can be changed while it runs."""

    keys: ClassVar[tuple[str, ...]] = (
        f"detect-multiplier {TIMERS.multiplier}",
        f"transmit-interval {TIMERS.interval_ms}",
        f"receive-interval {TIMERS.interval_ms}",
    )

    def start(self) -> None:
        super().start()
        vtysh(self, *IN_PROFILE, *self.keys, daemon="bfdd")

    def _configuration(self) -> str:
        neighbor = f"neighbor {self.config.remote_address} bfd"
        return re.sub(rf"{neighbor} \d.*", f"{neighbor}\n {neighbor} profile live", super()._configuration())


class PassiveFrr(ProfileFrr):
    keys = (*ProfileFrr.keys, "passive-mode")


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Lab(tmp_path_factory.mktemp("bfd6")) as lab:
        specs = [
            Spec(Bird, version=6, bfd=TIMERS),
            Spec(ProfileFrr, version=6, bfd=TIMERS),
            Spec(GoBgp, version=6, ours=[bfd_line(TIMERS)]),
            Spec(Bird, "bird-passive", bfd=TIMERS, ours=[bfd_line(TIMERS, passive=True)]),
            Spec(PassiveFrr, "frr-passive", bfd=TIMERS),
        ]
        site = Site(lab, specs)
        captures = site.captures("udp port 3784")
        site.start()
        yield World(site, captures)


def _fast(site: Site, name: str, transmit_ms: int = TIMERS.interval_ms) -> bool:
    return bool(site.ours.bfd(site.peer_id(name))["in_force_transmit_interval_ms"] == transmit_ms)


def _settled(world: World, name: str) -> None:
    up(world.site, name)
    wait_bfd(world.site, name)
    wait_equal(partial(_fast, world.site, name), True)


def _stamp(site: Site, name: str) -> tuple[object, ...]:
    """What changes when BGP or BFD flaps."""
    neighbor = site.ours.neighbor(site.peer_id(name))
    return neighbor["connect_time"], neighbor["flaps"], neighbor["state"], site.arm(name).peer.session_state()


def _shown_there(site: Site, name: str) -> tuple[int, int]:
    """As the peer's CLI has it: ms between its packets to us, and its detection time."""
    peer = site.arm(name).peer
    if isinstance(peer, Bird):
        line = next(
            line
            for line in birdc(peer, "show bfd sessions").splitlines()
            if line.startswith(peer.config.remote_address)
        )
        interval, timeout = line.split()[-2:]
        return round(float(interval) * 1000), round(float(timeout) * 1000)
    entry = json.loads(vtysh(peer, "show bfd peers json", daemon="bfdd"))[0]
    sends = max(entry["transmit-interval"], entry["remote-receive-interval"])
    expects = max(entry["receive-interval"], entry["remote-transmit-interval"])
    return sends, expects * entry["remote-detect-multiplier"]


@pytest.mark.feature("BFD")
@pytest.mark.parametrize("name", WITH_BFD)
def test_timers_are_raised_and_lowered_live(world: World, name: str) -> None:
    """RFC 5880 §6.8.3: by a Poll Sequence, seen at both ends, and nothing flaps."""
    site = world.site
    _settled(world, name)
    spec = site.specs[name]
    before, downs = _stamp(site, name), site.ours.bfd(site.peer_id(name))["session_down"]
    with Capture(site.ours.host, site.arm(name).link.interface, "udp port 3784") as capture:
        for interval in (400, 60, TIMERS.interval_ms):
            spec.ours = [bfd_line(Bfd(interval, TIMERS.multiplier))]
            site.reload()
            slowest = max(interval, TIMERS.interval_ms)
            wait_equal(partial(_shown_there, site, name), (slowest, slowest * TIMERS.multiplier))
            wait_equal(partial(_fast, site, name, slowest), True)
            assert site.ours.bfd(site.peer_id(name))["detection_timeout"] == slowest * TIMERS.multiplier
            wait_equal(partial(_polled_with, capture, site.arm(name).our_address, interval * 1000), True)
    assert _stamp(site, name) == before
    assert site.ours.bfd(site.peer_id(name))["session_down"] == downs
    assert _polls(capture, site.arm(name).our_address) == {400_000, 60_000, 150_000}
    theirs = capture.packets(f"bfd && {source(site.arm(name).address)}", FIELDS)
    assert len([packet for packet in theirs if _set(packet, "bfd.flags.f")]) >= 3


def _polls(capture: Capture, address: str) -> set[int]:
    """The Desired Min TX Intervals (µs) of the packets of ``address`` with the Poll bit."""
    sent = capture.packets(f"bfd && {source(address)}", FIELDS)
    return {_us(packet.first("bfd.desired_min_tx_interval")) for packet in sent if _set(packet, "bfd.flags.p")}


def _polled_with(capture: Capture, address: str, interval_us: int) -> bool:
    """Asked of the wire: at the slower end's pace what the CLIs show may be the same before and after."""
    return interval_us in _polls(capture, address)


def _set(packet: Packet, flag: str) -> bool:
    return packet.first(flag) in {"1", "True"}


def _us(text: str | None) -> int:
    """tshark writes intervals in µs, or as "150 ms (150000 us)"."""
    assert text is not None
    found = re.search(r"(\d+) us", text)
    return int(found[1] if found else text)


@pytest.mark.parametrize("name", WITH_BFD)
def test_rfc5882_4_2_our_admin_down_is_no_reason_for_us(world: World, name: str) -> None:
    """It is one for BIRD 2.0 and FRR 8.4, against RFC 5882 §3.2: they end BGP. We do not; it stands without BFD."""
    site = world.site
    _settled(world, name)
    arm, peer = site.arm(name), site.peer_id(name)
    with Capture(site.ours.host, arm.link.interface) as capture:
        site.specs[name].ours = [bfd_line(TIMERS, shutdown=True)]
        site.reload()
        wait_until(lambda: arm.peer.bfd_state() == "down", 5, f"{name} sees it")
        assert site.ours.bfd(peer)["status"] == "shutdown"
        wait_until(lambda: site.ours.neighbor(peer)["state"] == "established", 15, "BGP", arm.logs())
        up(site, name)
        assert site.ours.bfd(peer)["status"] == "shutdown"
        without = _stamp(site, name)
        site.specs[name].ours = []
        site.reload()
        _settled(world, name)
    assert _stamp(site, name) == without
    sent = capture.packets(f"bfd.sta == 0 && {source(arm.our_address)}", ["bfd.diag"])
    assert {packet.first("bfd.diag") for packet in sent} == {"0x07"}  # RFC 5880 §4.1: administratively down
    cease = [
        (p.first("bgp.notify.major_error"), p.first("bgp.notify.minor_error_cease"))
        for p in capture.notifications_from(arm.our_address)
    ]
    assert set(cease) <= {("6", "7")}  # of a collision, when both dial again


def test_bird_falls_silent_when_its_bfd_is_disabled(world: World) -> None:
    """It sends no AdminDown, so this is a failure; BGP is back without BFD, and BFD's return is no event for it."""
    site = world.site
    _settled(world, "bird")
    peer = site.arm("bird").peer
    flaps = site.ours.neighbor(site.peer_id("bird"))["flaps"]
    birdc(peer, "disable bfd1")
    wait_until(lambda: site.ours.neighbor(site.peer_id("bird"))["flaps"] == flaps + 1, 5, "the teardown", interval=0.02)
    assert site.ours.neighbor(site.peer_id("bird"))["last_error"]["kind"] == "bfd-down"
    up(site, "bird")
    assert site.ours.bfd(site.peer_id("bird"))["status"] == "down"
    without = _stamp(site, "bird")
    birdc(peer, "enable bfd1")
    _settled(world, "bird")
    assert _stamp(site, "bird") == without


def test_rfc5882_4_2_frr_admin_down_leaves_bgp_alone(world: World) -> None:
    site = world.site
    _settled(world, "frr")
    before = _stamp(site, "frr")
    peer = site.arm("frr").peer
    vtysh(peer, *IN_PROFILE, "shutdown", daemon="bfdd")
    wait_until(lambda: peer.bfd_state() == "admin-down", 5, "FRR's own view")
    wait_until(lambda: site.ours.bfd(site.peer_id("frr"))["remote_status"] == "shutdown", 5, "we see it")
    assert site.ours.bfd(site.peer_id("frr"))["status"] == "down"
    vtysh(peer, *IN_PROFILE, "no shutdown", daemon="bfdd")
    _settled(world, "frr")
    assert _stamp(site, "frr") == before


def test_rfc5882_3_3_a_peer_without_bfd_keeps_bgp(world: World) -> None:
    """And RFC 5880 §6.8.3: nothing faster than one packet a second while the session is not Up."""
    site, name = world.site, "gobgp"
    arm = up(site, name)
    capture = world.captures[name]
    sent = partial(capture.packets, f"bfd && {source(arm.our_address)}", FIELDS)
    packets = wait_until(lambda: found if len(found := sent()) >= 5 else [], 10, "slow packets", interval=0.3)
    assert all(0.74 <= gap <= 1.05 for gap in gaps(packets)), gaps(packets)
    assert {packet.first("bfd.sta") for packet in packets} == {"0x01"}
    neighbor = site.ours.neighbor(arm.address)
    assert (neighbor["state"], neighbor["flaps"]) == ("established", 0)
    assert site.ours.bfd(arm.address)["status"] == "down"


@pytest.mark.parametrize("name", PASSIVE)
def test_rfc5880_6_1_one_passive_end_is_enough(world: World, name: str) -> None:
    _settled(world, name)
    assert world.site.ours.bfd(world.site.peer_id(name))["passive_mode"] is (name == "bird-passive")
    if name == "bird-passive":
        arm = world.site.arm(name)
        packets = world.captures[name].packets("bfd", ["ip.src"])
        assert packets[0].first("ip.src") == arm.address, "we spoke first, though passive"


@pytest.mark.parametrize("name", [*WITH_BFD, *PASSIVE, "gobgp"])
def test_packets_are_as_rfc5881_wants_them(world: World, name: str) -> None:
    arm = world.site.arm(name)
    capture = world.captures[name]
    packets = capture.packets(f"bfd && {source(arm.our_address)}", FIELDS)
    assert packets
    assert faulty(capture, arm.our_address) == []
    assert {packet.first("ipv6.hlim") or packet.first("ip.ttl") for packet in packets} == {"255"}
    ports = {packet.first("udp.srcport") for packet in packets}
    assert len(ports) == 1  # §4: "MUST NOT change" while the session lives
    assert 49152 <= int(ports.pop() or 0) <= 65535
    assert {packet.first("udp.dstport") for packet in packets} == {"3784"}
    assert {packet.first("bfd.version") for packet in packets} == {"1"}
    assert {packet.first("bfd.detect_time_multiplier") for packet in packets} == {str(TIMERS.multiplier)}
    assert {_us(packet.first("bfd.required_min_echo_interval")) for packet in packets} == {0}


@pytest.mark.parametrize("name", WITH_BFD)
def test_rfc5880_6_8_7_jitter(world: World, name: str) -> None:
    """75 to 100 % of the interval, spread and not at one end."""
    site = world.site
    _settled(world, name)
    arm = site.arm(name)
    with Capture(site.ours.host, arm.link.interface, "udp port 3784") as capture:
        sent = partial(capture.packets, f"bfd && {source(arm.our_address)}", FIELDS)
        wait_until(lambda: len(sent()) >= 15, 10, "15 packets", interval=0.7)
    packets = [packet for packet in sent() if not _set(packet, "bfd.flags.f")]
    assert {packet.first("bfd.sta") for packet in packets} == {UP}
    assert {_us(packet.first("bfd.desired_min_tx_interval")) for packet in packets} == {150_000}
    assert {_us(packet.first("bfd.required_min_rx_interval")) for packet in packets} == {150_000}
    spaces = [gap * 1000 / TIMERS.interval_ms for gap in gaps(packets)]
    assert min(spaces) >= 0.74
    assert max(spaces) <= 1.10  # the host may be late, and is not early
    assert max(spaces) - min(spaces) > 0.05


def test_nothing_went_wrong_inside(world: World) -> None:
    assert "Traceback" not in world.site.ours.log.read_text()
