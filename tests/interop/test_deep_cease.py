"""Cease (RFC 4486): every administrative act of ours as the peers' logs have it, and theirs in our words (RFC 9003)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import PEERS, ExaBgp, Notification, Peer, Route
from .harness.process import wait_until
from .more import Site, Spec, bgpctl, birdc, faulty, gobgp, since, up, vtysh

pytestmark = pytest.mark.interop

NAMES = [kind.name for kind in PEERS]
OURS, THEIRS = Route("198.51.100.0/24", med=3), Route("203.0.113.0/24", med=3)
GOODBYE, THEIR_GOODBYE = "moving out", "window until 4"
STAYS = "bird-stays"  # nothing is done to it: what is done to others is no matter of its own

# Its neighbor's address, its own and its AS number come as arguments. What it is answered is printed in hexadecimal.
SECOND_CONNECTION = """
import socket, struct, sys
remote, local, asn = sys.argv[1:]
with socket.create_connection((remote, 179), 5, (local, 0)) as s:
    mark = b"\\xff" * 16
    s.sendall(mark + struct.pack("!HBBHH4sB", 29, 1, 4, int(asn), 90, socket.inet_aton(local), 0))
    data = b""
    while more := s.recv(4096):
        data += more
print(data.hex())
"""


def _order(command: str, peer: Peer) -> None:
    assert isinstance(peer, ExaBgp)
    peer.order(command.format(peer.config.remote_address))


def _frr(command: str, peer: Peer) -> None:
    config = peer.config
    vtysh(peer, "configure terminal", f"router bgp {config.local_as}", command.format(config.remote_address))


DOWN: dict[str, Callable[[Peer], object]] = {
    "bird": lambda peer: birdc(peer, f'disable ours "{THEIR_GOODBYE}"'),
    "frr": partial(_frr, f"neighbor {{}} shutdown message {THEIR_GOODBYE}"),
    "gobgp": lambda peer: gobgp(peer, "neighbor", peer.config.remote_address, "shutdown", "--reason", THEIR_GOODBYE),
    "exabgp": partial(_order, "neighbor {} teardown 2"),
    "openbgpd": lambda peer: bgpctl(peer, "neighbor", peer.config.remote_address, "down", THEIR_GOODBYE),
}
UP: dict[str, Callable[[Peer], object]] = {
    "bird": lambda peer: birdc(peer, "enable ours"),
    "frr": partial(_frr, "no neighbor {} shutdown"),
    "gobgp": lambda peer: gobgp(peer, "neighbor", peer.config.remote_address, "enable"),
    "exabgp": lambda _: None,
    "openbgpd": lambda peer: bgpctl(peer, "neighbor", peer.config.remote_address, "up"),
}


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]
    logged: dict[str, int] = field(default_factory=dict)  # length of each peer's list of NOTIFICATIONs before the act

    def begin(self) -> None:
        self.site.wait_up(timeout=40)
        for name in self.site.working():
            self.logged[name] = len(self.site.arm(name).peer.notifications())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Lab(tmp_path_factory.mktemp("cease")) as lab:
        kinds = {kind.name: kind for kind in PEERS}
        specs = [Spec(kind, dial="we" if kind is ExaBgp else "both") for kind in PEERS]
        specs.append(Spec(kinds["bird"], STAYS, dial="we"))
        for spec in specs:
            spec.announced, spec.routes = [OURS], [THEIRS]
        site = Site(lab, specs)
        captures = site.captures()
        site.start()
        yield World(site, captures)


each_peer = pytest.mark.parametrize("name", NAMES)


def _ceases(world: World, name: str) -> list[int]:
    """The subcodes that we sent, in order."""
    arm = world.site.arm(name)
    sent = world.captures[name].notifications_from(arm.our_address)
    assert {packet.first("bgp.notify.major_error") for packet in sent} <= {"6"}
    return [int(subcode) for packet in sent for subcode in packet.fields["bgp.notify.minor_error_cease"]]


def _received(world: World, name: str) -> list[Notification]:
    """What the peer's own log has had of us since ``World.begin``."""
    return [note for note in world.site.arm(name).peer.notifications()[world.logged[name] :] if not note.sent]


def _told(world: World, name: str, subcode: int, text: str = "") -> None:
    """On the wire, and by the peer's log where it can read it."""
    arm = world.site.arm(name)
    wait_until(lambda: subcode in _ceases(world, name), 8, f"6/{subcode} on the wire", arm.logs(), 0.3)
    if arm.peer.reads_shutdown_text or not text:
        wait_until(
            lambda: (6, subcode) in {(note.code, note.subcode) for note in _received(world, name)},
            5,
            f"6/{subcode} in {name}'s log",
            arm.logs(),
            0.2,
        )
    if text:
        raw = world.captures[name].packets(f"bgp.notify.minor_error_cease == {subcode}", ["tcp.payload"])
        assert any(text.encode().hex() in (packet.first("tcp.payload") or "") for packet in raw)
        if arm.peer.reads_shutdown_text:
            assert text in arm.peer.log_text()


# -- theirs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(world: World) -> dict[str, dict[str, object]]:
    """Each peer's administrator ends its session with a text: our ``last_error`` of each, before the next try's."""
    site = world.site
    world.begin()
    errors = {}
    for name in NAMES:
        if name in site.working():
            arm = site.arm(name)
            DOWN[name](arm.peer)
            errors[name] = wait_until(partial(_last_error, site, name), 5, f"{name}'s end", arm.logs())
    return errors


def _last_error(site: Site, name: str) -> dict[str, object]:
    return dict(site.ours.neighbor(site.peer_id(name))["last_error"] or {})


@pytest.mark.feature("their shutdown's text in our words")
@each_peer
def test_1_rfc9003_2_their_shutdown_and_its_text_are_told_here(
    world: World, theirs: dict[str, dict[str, object]], name: str
) -> None:
    """ExaBGP's API takes no text: it sends one of its own."""
    arm = world.site.arm(name)
    error = theirs[name]
    assert (error["kind"], error["code"], error["subcode"]) == ("notification-received", 6, 2)
    text = "Administrative Shutdown" if name == "exabgp" else THEIR_GOODBYE
    assert error["text"] == f'peer sent Cease, Administrative Shutdown: "{text}"'
    assert error["text"] in [event["text"] for event in world.site.ours.events(arm.address)]


# -- ours -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reset(world: World, theirs: dict[str, dict[str, object]]) -> World:
    for name in theirs:
        UP[name](world.site.arm(name).peer)
    world.begin()
    for name in theirs:
        world.site.ours.ctl("neighbor", world.site.peer_id(name), "reset")
    return world


@pytest.mark.feature("Cease subcodes and their texts")
@each_peer
def test_2_rfc4486_a_reset_is_6_4(reset: World, name: str) -> None:
    _told(reset, name, 4)


@pytest.fixture(scope="module")
def disabled(reset: World) -> World:
    reset.begin()
    for name in NAMES:
        if name in reset.site.working():
            reset.site.ours.ctl("neighbor", reset.site.peer_id(name), "disable", GOODBYE)
    return reset


@pytest.mark.feature("Cease subcodes and their texts")
@each_peer
def test_3_rfc9003_2_a_neighbor_disabled_is_6_2_with_the_text(disabled: World, name: str) -> None:
    _told(disabled, name, 2, GOODBYE)


@pytest.mark.feature("Cease subcodes and their texts")
@pytest.mark.parametrize("name", ["bird", "frr"])
def test_3_rfc4486_who_dials_a_disabled_neighbor_is_told_6_5(disabled: World, name: str) -> None:
    """OpenBGPD stays idle after a shutdown, and GoBGP for longer than a test should wait."""
    _told(disabled, name, 5)
    assert disabled.site.ours.neighbor(disabled.site.peer_id(name))["state"] == "idle"


@pytest.fixture(scope="module")
def removed(disabled: World) -> World:
    """The five leave the file; a reload."""
    site = disabled.site
    for name in NAMES:
        if name in site.working():
            site.ours.ctl("neighbor", site.peer_id(name), "enable")
    disabled.begin()
    stays = since(site, [STAYS])
    for name in NAMES:
        site.specs[name].listed = False
    site.reload()
    assert since(site, [STAYS]) == stays
    return disabled


@pytest.mark.feature("Cease subcodes and their texts")
@each_peer
def test_4_rfc4486_a_neighbor_that_leaves_the_file_is_6_3(removed: World, name: str) -> None:
    _told(removed, name, 3)
    assert removed.site.arm(name).address not in removed.site.states()


def test_5_rfc4271_6_8_a_second_connection_is_6_7_and_the_session_stays(world: World) -> None:
    """From the neighbor's own address, with its own OPEN, while BIRD's session stands."""
    arm = up(world.site, STAYS)
    before = since(world.site, [STAYS])
    arguments = [arm.our_address, arm.address, str(arm.peer.config.local_as)]
    answer = bytes.fromhex(arm.link.b.run(sys.executable, "-c", SECOND_CONNECTION, *arguments))
    assert answer.endswith(bytes([0, 21, 3, 6, 7]))
    assert since(world.site, [STAYS]) == before


def test_zz_wireshark_finds_no_fault(world: World) -> None:
    for name in world.site.working():
        arm, capture = world.site.arm(name), world.captures[name]
        capture.stop()
        assert faulty(capture, arm.our_address) == [], name
    assert "Traceback" not in world.site.ours.log.read_text()
