"""What BFD with BIRD and FRR looks like on the wire, and what their logs and counters say of us.

Multihop over IPv6, the pace while not Up, Poll Sequences, authentication as BIRD sees it, what FRR does with modes
that it lacks, and echo packets that must not be returned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from .harness.bfd_peers import BirdBfd, FarPath, FrrBfd, bird_auth
from .harness.capture import Capture, Packet
from .harness.lab import Host, Lab, Link
from .harness.ours import Bgpbfd
from .harness.peers import Bird, Frr
from .harness.process import run, wait_until
from .more import faulty, gaps, source
from .test_deep_bfd import Arm, World, _arm

pytestmark = pytest.mark.interop

PEERS = ["bird", "frr"]
KINDS = ["ipv4", "multihop6"]
DOWN, INIT, UP = 1, 2, 3
FIELDS = [
    "udp.srcport",
    "bfd.sta",
    "bfd.diag",
    "bfd.flags.p",
    "bfd.flags.f",
    "bfd.desired_min_tx_interval",
    "bfd.required_min_rx_interval",
]
FINAL = "@th,72,8 & 0x10 == 0x10"  # nft: the second octet behind the UDP header is state, P, F, …
SLOWEST_S = 1.1  # the host may be late, and is not early
FASTEST_S = 0.74
ROUND_TRIP_S = 0.1  # what an answer may take on this machine

# Sends the payload (hex) so many times, from one UDP socket with that TTL; prints how many datagrams come back.
SENDER = """
import socket, sys
local, remote, port, ttl, count, payload = sys.argv[1:]
v6 = ":" in local
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(*((41, 16) if v6 else (0, 2)), int(ttl))
s.bind((local, 0))
s.settimeout(0.3)
for _ in range(int(count)):
    s.sendto(bytes.fromhex(payload), (remote, int(port)))
back = 0
try:
    while s.recv(2048):
        back += 1
except TimeoutError:
    print(back)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The paths of ``test_deep_bfd``, and multihop over IPv6; a stranger on a cable of its own."""
    for kind in (Bird, Frr):
        if reason := kind.missing():
            pytest.skip(reason)
    with Lab(tmp_path_factory.mktemp("deep-bfd-wire")) as lab:
        host = lab.host("ours")
        arms: dict[str, Arm] = {}
        for kind in (BirdBfd, FrrBfd):
            arm = _arm(lab, host, kind)
            far = lab.links[-1]
            there = FarPath(arm.near.a6, far.b6, multihop=True)
            arm.paths = {
                "ipv4": arm.paths["ipv4"],
                "ipv6": arm.paths["ipv6"],
                "multihop6": (far.b6, arm.near.a6, there),
            }
            arm.peer.paths[:] = [path for _, _, path in arm.paths.values()]
            arms[kind.name] = arm
        world = World(Bgpbfd(host, ""), arms)
        _put_back(world)
        world.write()
        world.ours.start()
        for arm in arms.values():
            arm.peer.start()
        yield world


def _put_back(world: World) -> None:
    world.settings = {}
    world.of = {arm.paths["multihop6"][0]: _multihop(name) for name, arm in world.arms.items()}


def _multihop(name: str) -> dict[str, Any]:
    """BIRD sends with a TTL of 64, FRR with 255; a router is between us."""
    return {"multihop": True, "minimum_ttl": 63 if name == "bird" else 254}


@pytest.fixture
def clean(site: World) -> Iterator[World]:
    for name in site.arms:
        for kind in KINDS:
            site.wait_up(name, kind)
    yield site
    _put_back(site)
    for arm in site.arms.values():
        arm.direct.heal()
        arm.near.heal()
        arm.peer.knobs = type(arm.peer.knobs)()
        arm.peer.apply()
    site.reload()


def _link(arm: Arm, kind: str) -> Link:
    return arm.near if kind == "multihop6" else arm.direct


def _port(kind: str) -> int:
    return 4784 if kind == "multihop6" else 3784


def _sent(capture: Capture, address: str) -> list[Packet]:
    return capture.packets(f"bfd && {source(address)}", FIELDS)


def _state(packet: Packet) -> int:
    return int(packet.first("bfd.sta") or "", 0)


def _flag(packet: Packet, name: str) -> bool:
    return packet.first(name) in {"1", "True"}


def _us(packet: Packet, name: str) -> int:
    text = packet.first(name) or ""
    found = re.search(r"(\d+) us", text)
    return int(found[1] if found else text)


def _counters(world: World, name: str, kind: str) -> dict[str, Any]:
    return dict(world.ours.call("show_bfd_counters", peer=f"{name}-{kind}")["sessions"][0])


def _send(host: Host, local: str, remote: str, port: int, ttl: int, count: int, payload: str) -> int:
    return int(host.run("python3", "-c", SENDER, local, remote, str(port), str(ttl), str(count), payload))


@pytest.mark.feature("BFD on every path")
@pytest.mark.parametrize("name", PEERS)
def test_rfc5883_multihop_over_ipv6(clean: World, name: str) -> None:
    """Port 4784, one source port; the peer's own CLI has the session without an interface."""
    arm = clean.arms[name]
    peer, local, path = arm.paths["multihop6"]
    with Capture(clean.ours.host, arm.near.interface, "udp port 4784") as capture:
        sent = wait_until(lambda: found if len(found := _sent(capture, local)) > 5 else [], 5, "packets", interval=0.3)
        assert capture.packets(f"udp && {source(peer)} && udp.dstport == 4784", ["ipv6.hlim"])
    ports = {packet.first("udp.srcport") for packet in sent}
    assert len(ports) == 1
    assert 49152 <= int(ports.pop() or 0) <= 65535
    assert faulty(capture, local) == []
    assert clean.bfd(name, "multihop6")["multihop"] is True
    if isinstance(arm.peer, FrrBfd):
        facts = arm.peer.facts(path.remote)
        assert (facts["multihop"], facts["minimum-ttl"], facts["status"]) == (True, 254, "up")
    elif isinstance(arm.peer, BirdBfd):
        line = next(line for line in arm.peer.birdc("show bfd sessions").splitlines() if line.startswith(path.remote))
        assert line.split()[1:3] == ["---", "Up"]


def test_rfc5883_a_packet_from_too_far_is_discarded(clean: World) -> None:
    """BIRD's arrive with 63. (FRR's with 254, the most that ``minimum_ttl`` can ask for.)"""
    peer = clean.arms["bird"].paths["multihop6"][0]
    clean.of[peer] = {"multihop": True, "minimum_ttl": 64}
    clean.reload()
    wait_until(lambda: clean.bfd("bird", "multihop6")["status"] != "up", 3, "down")
    assert clean.bfd("bird", "multihop6")["last_down"]["diagnostic"] == "control detection time expired"
    # On the session: an operator sees that the neighbor is there, and too far.
    before = _counters(clean, "bird", "multihop6")["discarded"].get("ttl", 0)
    wait_until(lambda: _counters(clean, "bird", "multihop6")["discarded"].get("ttl", 0) >= before + 3, 3, "counted")


def test_rfc5880_6_8_3_slow_while_not_up(clean: World) -> None:
    """Nothing comes from the peers: Down with diagnostic 1, one packet in 750 to 1000 ms, 1 s in the packet itself."""
    captures = {
        (name, kind): Capture(clean.ours.host, _link(arm, kind).interface, f"udp port {_port(kind)}")
        for name, arm in clean.arms.items()
        for kind in KINDS
    }
    for arm in clean.arms.values():
        arm.direct.cut("udp dport 3784", [arm.direct.b])
        arm.near.cut("udp dport 4784", [arm.near.b])

    def down(name: str, kind: str) -> list[Packet]:
        sent = _sent(captures[name, kind], clean.arms[name].paths[kind][1])
        found = [packet for packet in sent if _state(packet) == DOWN]
        return found if len(found) >= 5 else []

    for path, capture in captures.items():
        packets = wait_until(partial(down, *path), 10, f"{path}: five slow packets", interval=0.5)
        capture.stop()
        # The first goes out at once, with the news (§6.8.7); the pace begins with it.
        assert all(FASTEST_S <= gap <= SLOWEST_S for gap in gaps(packets)), (path, gaps(packets))
        assert {packet.first("bfd.diag") for packet in packets} == {"0x01"}
        assert {_us(packet, "bfd.desired_min_tx_interval") for packet in packets} == {1_000_000}


@pytest.mark.feature("BFD timers changed live")
@pytest.mark.parametrize("name", PEERS)
def test_rfc5880_6_5_poll_sequences(clean: World, name: str) -> None:
    """Every Final answers a Poll at once, never both in one packet; none comes unasked."""
    arm = clean.arms[name]
    downs = {kind: clean.bfd(name, kind)["session_down"] for kind in KINDS}
    captures = {kind: Capture(clean.ours.host, _link(arm, kind).interface, f"udp port {_port(kind)}") for kind in KINDS}
    for interval in (90, 30):
        clean.settings = {"transmit_interval_ms": interval, "receive_interval_ms": interval}
        clean.reload()
        for kind, capture in captures.items():
            polled = partial(_polled, capture, arm.paths[kind][1], interval * 1000)
            wait_until(polled, 5, f"{kind} polled with {interval}", interval=0.1)
            wait_until(lambda kind=kind: not clean.bfd(name, kind)["polling"], 5, f"{kind}: the poll has ended")
    arm.peer.knobs.interval_ms = 70
    arm.peer.apply()
    for kind, capture in captures.items():
        shown = partial(clean.bfd, name, kind)
        wait_until(lambda shown=shown: shown()["remote_transmit_interval"] == 70, 5, f"{kind}: their new interval")
        final = partial(_any_final, capture, arm.paths[kind][1])
        wait_until(final, 5, f"{kind}: our Final", interval=0.1)
        capture.stop()
        _check_polls(_sent(capture, arm.paths[kind][1]), _sent(capture, arm.paths[kind][0]))
    assert {kind: clean.bfd(name, kind)["session_down"] for kind in KINDS} == downs


def _check_polls(ours: list[Packet], theirs: list[Packet]) -> None:
    both = [packet for packet in [*ours, *theirs] if _flag(packet, "bfd.flags.p") and _flag(packet, "bfd.flags.f")]
    assert both == []
    assert _unanswered(theirs, ours) == []
    assert _unanswered(ours, theirs) == []
    assert _unasked(ours, theirs) == []


@pytest.mark.feature("BFD timers changed live")
@pytest.mark.parametrize("name", PEERS)
def test_rfc5880_6_8_3_a_slower_pace_waits_for_the_final(clean: World, name: str) -> None:
    """Only the peer's Finals are lost: its other packets end no poll, and the old pace goes on until one comes.

    FRR begins its interval anew with each Final, so that without those little is left of it: hence the multiplier.
    """
    arm = clean.arms[name]
    arm.peer.knobs.multiplier = 50
    arm.peer.apply()
    for kind in KINDS:
        shown = partial(clean.bfd, name, kind)
        wait_until(lambda shown=shown: shown()["remote_detect_multiplier"] == 50, 5, f"{kind}: patience")
    downs = {kind: clean.bfd(name, kind)["session_down"] for kind in KINDS}
    arm.direct.cut(f"udp dport 3784 {FINAL}", [arm.direct.b])
    arm.near.cut(f"udp dport 4784 {FINAL}", [arm.near.b])
    captures = {kind: Capture(clean.ours.host, _link(arm, kind).interface, f"udp port {_port(kind)}") for kind in KINDS}
    clean.settings = {"transmit_interval_ms": 200}
    clean.reload()

    def polls(kind: str) -> list[Packet]:
        sent = _sent(captures[kind], arm.paths[kind][1])
        found = [packet for packet in sent if _flag(packet, "bfd.flags.p")]
        return found if len(found) >= 12 else []

    for kind, capture in captures.items():
        packets = wait_until(partial(polls, kind), 5, f"{kind}: twelve polls", interval=0.2)
        assert {_us(packet, "bfd.desired_min_tx_interval") for packet in packets} == {200_000}
        assert max(gaps(packets)) < 0.15  # the least that jitter makes of 200 ms
        view = clean.bfd(name, kind)
        assert (view["polling"], view["in_force_transmit_interval_ms"]) == (True, 50)
        assert not _any_final(capture, arm.paths[kind][0])
    arm.direct.heal()
    arm.near.heal()
    for kind, capture in captures.items():
        wait_until(lambda kind=kind: not clean.bfd(name, kind)["polling"], 5, f"{kind}: the poll has ended")
        assert clean.bfd(name, kind)["in_force_transmit_interval_ms"] == 200
        capture.stop()
    assert {kind: clean.bfd(name, kind)["session_down"] for kind in KINDS} == downs


def _any_final(capture: Capture, address: str) -> bool:
    return any(_flag(packet, "bfd.flags.f") for packet in _sent(capture, address))


def _polled(capture: Capture, address: str, interval_us: int) -> bool:
    polls = [packet for packet in _sent(capture, address) if _flag(packet, "bfd.flags.p")]
    return any(_us(packet, "bfd.desired_min_tx_interval") == interval_us for packet in polls)


def _unanswered(asking: Sequence[Packet], answering: Sequence[Packet]) -> list[float]:
    """Times of Polls that no Final follows within a round trip; those at the end of the capture do not count."""
    finals = [packet.time for packet in answering if _flag(packet, "bfd.flags.f")]
    end = min(asking[-1].time, answering[-1].time) - ROUND_TRIP_S
    polls = [packet.time for packet in asking if _flag(packet, "bfd.flags.p") and packet.time < end]
    return [poll for poll in polls if not any(poll <= final <= poll + ROUND_TRIP_S for final in finals)]


def _unasked(answering: Sequence[Packet], asking: Sequence[Packet]) -> list[float]:
    """Times of Finals that no Poll came before."""
    polls = [packet.time for packet in asking if _flag(packet, "bfd.flags.p")]
    first = asking[0].time
    finals = [packet.time for packet in answering if _flag(packet, "bfd.flags.f") and packet.time > first]
    return [final for final in finals if not any(final - ROUND_TRIP_S <= poll <= final for poll in polls)]


@pytest.mark.parametrize("kind", KINDS)
def test_frr_counts_what_we_count(clean: World, kind: str) -> None:
    """`show bfd peers counters` there, `show bfd counters` here: the same packets (those under way left aside)."""
    arm = clean.arms["frr"]
    assert isinstance(arm.peer, FrrBfd)
    remote = arm.paths[kind][2].remote
    ours = partial(_counters, clean, "frr", kind)
    begun = ours(), arm.peer.counters(remote), ours()
    wait_until(lambda: ours()["control_packet_input"] >= begun[2]["control_packet_input"] + 20, 5, "20 packets")
    ended = ours(), arm.peer.counters(remote), ours()
    for mine, far in (("input", "output"), ("output", "input")):
        there = ended[1][f"control-packet-{far}"] - begun[1][f"control-packet-{far}"]
        key = f"control_packet_{mine}"
        # Theirs was read between two readings of ours, at either end.
        assert ended[0][key] - begun[2][key] - 1 <= there <= ended[2][key] - begun[0][key] + 1
    assert clean.bfd("frr", kind)["id"] == arm.peer.facts(remote)["remote-id"]
    assert clean.bfd("frr", kind)["remote_id"] == arm.peer.facts(remote)["id"]


# -- authentication, as the other end sees it --------------------------------------------------------------


def _auth(world: World, kind: str, ours: str, theirs: str) -> BirdBfd:
    """BIRD on its direct link and ours, each with its key."""
    arm = world.arms["bird"]
    assert isinstance(arm.peer, BirdBfd)
    arm.peer.knobs.auth = bird_auth(kind, (7, theirs))
    arm.peer.apply()
    world.of[arm.paths["ipv4"][0]] = {"auth": {"type": kind, "key_id": 7, "key": ours}}
    world.reload()
    return arm.peer


@pytest.mark.feature("BFD authentication", peers=("bird",))
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("simple", "wrong password"),
        ("keyed-md5", "wrong authentication code"),
        ("meticulous-keyed-sha1", "wrong authentication code"),
    ],
)
def test_rfc5880_6_7_bird_refuses_our_wrong_key(clean: World, kind: str, words: str) -> None:
    """Same length, so that it is the key and not the section's form."""
    peer = _auth(clean, kind, "kibo", "mawe")
    refused = f"Authentication failed for {clean.arms['bird'].direct.a4} - {words}"
    wait_until(lambda: refused in peer.log(), 5, "BIRD's log says so", [clean.ours.log])
    wait_until(lambda: peer.state(clean.arms["bird"].direct.a4) != "up", 3, "down there")
    wait_until(lambda: clean.bfd("bird", "ipv4")["status"] != "up", 3, "down here")
    assert clean.bfd("bird", "multihop6")["status"] == "up"
    assert "kibo" not in json.dumps(clean.ours.ctl("show", "bfd")) + clean.ours.log.read_text()


@pytest.mark.feature("BFD authentication", peers=("bird",))
@pytest.mark.parametrize("kind", ["meticulous-keyed-md5", "meticulous-keyed-sha1"])
def test_rfc5880_6_7_3_our_sequence_moves_and_bird_refuses_a_replay(clean: World, kind: str) -> None:
    """One up with each packet (§6.7.3, §6.7.4); a packet of ours sent again is an old one to BIRD."""
    peer = _auth(clean, kind, "uhuru", "uhuru")
    arm = clean.arms["bird"]
    clean.wait_up("bird", "ipv4")
    fields = ["bfd.auth.seq_num", "bfd.sta", "udp.payload"]
    with Capture(clean.ours.host, arm.direct.interface, "udp port 3784 and ip") as capture:

        def up() -> list[Packet]:
            found = capture.packets(f"bfd.sta == {UP} && {source(arm.direct.a4)}", fields)
            return found if len(found) >= 10 else []

        packets = wait_until(up, 5, "ten packets", interval=0.3)
    numbers = [int(packet.first("bfd.auth.seq_num") or "", 0) for packet in packets]
    steps = {(later - earlier) % 2**32 for earlier, later in pairwise(numbers)}
    assert steps == {1}
    downs, lines = clean.bfd("bird", "ipv4")["session_down"], peer.log().count("Authentication failed")
    payload = (packets[0].first("udp.payload") or "").replace(":", "")
    _send(clean.ours.host, arm.direct.a4, arm.direct.b4, 3784, 255, 5, payload)
    wait_until(lambda: peer.log().count("Authentication failed") >= lines + 5, 3, "BIRD refuses them")
    assert re.search(r"Authentication failed for \S+ - .*(sequence|number)", peer.log())
    assert clean.bfd("bird", "ipv4")["session_down"] == downs
    assert peer.state(arm.direct.a4) == "up"


@pytest.mark.parametrize("signed", ["we", "they"])
def test_rfc5880_6_7_one_signed_end_alone_is_never_up(clean: World, signed: str) -> None:
    """R10, R11: the A bit where there is no authentication, and none where there is."""
    arm = clean.arms["bird"]
    if signed == "we":
        clean.of[arm.paths["ipv4"][0]] = {"auth": {"type": "keyed-sha1", "key_id": 1, "key": "kibo"}}
        clean.reload()
    else:
        arm.peer.knobs.auth = bird_auth("keyed-sha1", (1, "kibo"))
        arm.peer.apply()
    reason = "auth-missing" if signed == "we" else "authentication"
    wait_until(lambda: _counters(clean, "bird", "ipv4")["discarded"].get(reason), 5, f"counted as {reason}")
    wait_until(lambda: clean.bfd("bird", "ipv4")["status"] == "down", 3, "down here")
    wait_until(lambda: arm.peer.state(arm.direct.a4) != "up", 3, "down there")


# -- what FRR lacks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["simple", "keyed-sha1"])
def test_frr_has_no_authentication(clean: World, kind: str) -> None:
    """What ``matrix.LACKS`` says: it takes signed packets for plain ones and never signs; ours fails closed (R11)."""
    arm = clean.arms["frr"]
    assert isinstance(arm.peer, FrrBfd)
    frr, remote = arm.peer, arm.direct.a4
    clean.of[arm.paths["ipv4"][0]] = {"auth": {"type": kind, "key_id": 1, "key": "kibo"}}
    clean.reload()
    wait_until(lambda: _counters(clean, "frr", "ipv4")["discarded"].get("auth-missing"), 5, "not signed")
    wait_until(lambda: clean.bfd("frr", "ipv4")["status"] == "down", 3, "down")
    wait_until(lambda: frr.state(remote) == "init", 5, "FRR has taken our signed Down")


def test_frr_goes_on_sending_under_demand(clean: World) -> None:
    """What ``matrix.LACKS`` says; it harms nothing (RFC 5880 §6.6)."""
    arm = clean.arms["frr"]
    downs = clean.bfd("frr", "ipv4")["session_down"]
    clean.of[arm.paths["ipv4"][0]] = {"demand": True}
    clean.reload()
    wait_until(lambda: clean.bfd("frr", "ipv4")["demand"], 5, "demand in force")
    before = _counters(clean, "frr", "ipv4")["control_packet_input"]
    wait_until(lambda: _counters(clean, "frr", "ipv4")["control_packet_input"] >= before + 20, 5, "20 more packets")
    assert clean.up("frr", "ipv4")
    assert clean.bfd("frr", "ipv4")["session_down"] == downs


# -- echo packets that must not be returned -----------------------------------------------------------------


def test_rfc5880_6_4_each_echo_is_returned_once_and_to_neighbors_alone(clean: World) -> None:
    """FRR returns what comes with 255 and takes 254 for its own: an answer with 255 would go round for ever."""
    arm = clean.arms["frr"]
    peer, local, path = arm.paths["ipv6"]
    clean.wait_up("frr", "ipv6")
    clean.of[peer] = {"echo": True}
    clean.reload()
    arm.peer.knobs.echo = True
    arm.peer.apply()
    assert isinstance(arm.peer, FrrBfd)
    frr = arm.peer
    wait_until(lambda: frr.counters(path.remote)["echo-packet-input"] >= 10, 10, "FRR's echo comes back")
    with Capture(clean.ours.host, arm.direct.interface, "udp port 3785 and ip6") as capture:
        begun = frr.counters(path.remote)["echo-packet-input"]
        wait_until(lambda: frr.counters(path.remote)["echo-packet-input"] >= begun + 20, 5, "20 more")
    hops = {
        "sent": capture.packets(f"{source(peer)} && ipv6.hlim == 255", ["udp.payload"]),
        "returned": capture.packets(f"{source(local)} && ipv6.hlim == 254", ["udp.payload"]),
    }
    assert abs(len(hops["sent"]) - len(hops["returned"])) <= 1
    assert capture.packets(f"{source(local)} && ipv6.hlim < 254", []) == []
    there = arm.peer.host
    echo = "01180000" + "00" * 20
    assert _send(there, peer, local, 3785, 254, 5, echo) == 0
    # A second address there: no session is with it.
    there.add_address("fd77:ffff::2/128", arm.direct.interface)
    clean.ours.host.ip("-6", "route", "add", "fd77:ffff::2/128", "dev", arm.direct.interface)
    assert _send(there, "fd77:ffff::2", local, 3785, 255, 5, echo) == 0
    assert _send(there, peer, local, 3785, 255, 5, echo) == 5


def test_zz_nothing_went_wrong_inside(site: World) -> None:
    text = site.ours.log.read_text()
    assert "Traceback" not in text
    assert run(["ip", "netns", "pids", site.ours.host.name])
