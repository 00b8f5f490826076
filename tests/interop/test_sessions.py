"""bgpbfd against five real daemons: sessions, routes both ways, reload, clean stop, kill -9.

Each arrangement is one star: all daemons at once around one bgpbfd.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from .harness.capture import Capture, Packet
from .harness.lab import Lab
from .harness.peers import PEERS, Notification, Route
from .harness.process import HarnessError, run, wait_until
from .star import HOLD_TIME, Arm, Arrangement, Star

pytestmark = pytest.mark.interop

ARRANGEMENTS = [
    Arrangement("we", ibgp=False, version=4),
    Arrangement("they", ibgp=False, version=6),
    Arrangement("we", ibgp=True, version=6),
    Arrangement("they", ibgp=True, version=4),
    Arrangement("both", ibgp=False, version=4),
]
# What ends a session, and how it comes back, is the same for internal peers: shown with the external ones.
external_only = pytest.mark.parametrize(
    "star", [each for each in ARRANGEMENTS if not each.ibgp], ids=str, indirect=True, scope="module"
)
each_peer = pytest.mark.parametrize("name", [kind.name for kind in PEERS])


@pytest.fixture(scope="module", params=ARRANGEMENTS, ids=str)
def star(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    kinds = [kind for kind in PEERS if kind.missing() is None]
    with Lab(tmp_path_factory.mktemp(f"star-{request.param}")) as lab:
        star = Star(lab, kinds, request.param)
        star.start()
        yield star


@pytest.mark.feature("sessions over IPv4 and IPv6")
@each_peer
def test_session_is_established(star: Star, name: str) -> None:
    arm = star.arm(name)
    arm.wait_up()
    neighbor = star.ours.neighbor(arm.address)
    local, remote = neighbor["tcp_connection"]
    if star.arrangement.dial == "we":
        assert remote.endswith(":179")
    if star.arrangement.dial == "they":
        assert local.endswith(":179")
    assert neighbor["hold_time"] == HOLD_TIME  # RFC 4271 §4.2: the smaller of the two
    assert sorted(neighbor["families"]) == ["ipv4 unicast", "ipv6 unicast"]
    assert neighbor["remote_asn"] == arm.peer.config.local_as
    assert neighbor["router_id"] == arm.peer.config.router_id


@pytest.mark.feature("standard and large communities")
@each_peer
def test_our_routes_arrive_attribute_for_attribute(star: Star, name: str) -> None:
    arm = star.arm(name)
    arm.wait_up()
    arm.wait_routes_there()


@pytest.mark.feature("standard and large communities")
@each_peer
def test_their_routes_arrive_attribute_for_attribute(star: Star, name: str) -> None:
    arm = star.arm(name)
    arm.wait_up()
    arm.wait_routes_here()


@each_peer
def test_sighup_sends_exactly_the_difference(star: Star, name: str) -> None:
    """One route added, one removed, one changed: the session stays, and nothing else is in the UPDATEs."""
    arm = star.arm(name)
    arm.wait_up()
    arm.wait_routes_there()
    before = star.ours.neighbor(arm.address)
    old = list(arm.announced)
    changed = Route("198.51.100.128/25", origin="incomplete", med=77)
    added = Route("2001:db8:cafe::/48", communities=("65000:7",))
    kept = [route for route in old if route.prefix not in {"198.51.100.0/24", changed.prefix}]
    try:
        with Capture(star.ours.host, arm.link.interface, "tcp port 179") as capture:
            arm.announced = [changed, added, *kept]
            star.write()
            star.ours.hangup()
            arm.wait_routes_there()
            wait_until(lambda: len(_updated(capture, arm.our_address)) >= 3, 5, "the UPDATEs in the capture")
        assert _updated(capture, arm.our_address) == {"198.51.100.0", "198.51.100.128", "2001:db8:cafe::"}
    finally:
        arm.announced = old
        star.write()
        star.ours.hangup()
    arm.wait_routes_there()
    after = star.ours.neighbor(arm.address)
    assert after["connect_time"] == before["connect_time"]
    assert after["flaps"] == before["flaps"]


def _updated(capture: Capture, source: str) -> set[str]:
    """Every prefix's address in the UPDATEs of ``source``, announced or withdrawn."""
    fields = [
        "bgp.nlri_prefix",
        "bgp.withdrawn_prefix",
        "bgp.mp_reach_nlri_ipv6_prefix",
        "bgp.mp_unreach_nlri_ipv6_prefix",
    ]
    family = "ipv6" if ":" in source else "ip"
    packets = capture.packets(f"bgp.type == 2 && {family}.src == {source}", fields)
    return {text for packet in packets for texts in packet.fields.values() for text in texts}


def test_pkill_hup_reloads(star: Star) -> None:
    """`pkill -HUP bgpbfd`, as a user types it, kept inside the namespace."""
    process = star.ours.process
    assert process is not None
    before = len([event for event in star.ours.events() if event["kind"] == "reload"])
    run(["pkill", "-HUP", "--ns", str(process.pid), "--nslist", "net", "bgpbfd"])
    wait_until(
        lambda: len([event for event in star.ours.events() if event["kind"] == "reload"]) > before, 5, "the reload"
    )
    assert star.ours.alive


@each_peer
def test_route_over_the_api_mid_session(star: Star, name: str) -> None:
    arm = star.arm(name)
    arm.wait_up()
    route = Route("198.51.101.0/24", med=5, communities=("65000:8",))
    arguments = ["198.51.101.0/24", arm.link.a4, "--med", "5", "--communities", "65000:8", "--peer", arm.address]
    star.ours.ctl("advertise", "route", *arguments)
    arm.wait_routes_there([*arm.announced, route])
    star.ours.ctl("withdraw", "route", "198.51.101.0/24", "--peer", arm.address)
    arm.wait_routes_there()


@external_only
@each_peer
def test_kill_9_of_theirs_is_survived(star: Star, name: str) -> None:
    arm = star.arm(name)
    arm.wait_up()
    arm.wait_routes_here()
    others = {
        other.address: star.ours.neighbor(other.address)["connect_time"]
        for other in star.working()
        if other is not arm and star.ours.state(other.address) == "established"
    }
    arm.peer.kill9()
    wait_until(lambda: star.ours.state(arm.address) != "established", 5, "bgpbfd notices", arm.logs())
    assert star.ours.learned(arm.address) == []
    arm.peer.start()
    arm.wait_up()
    arm.wait_routes_there()
    arm.wait_routes_here()
    for address, connected in others.items():
        assert star.ours.neighbor(address)["connect_time"] == connected, f"{address} was reset as well"


@dataclass(slots=True)
class Stop:
    """A clean stop of ours, as one peer logs it and as the wire has it."""

    exit_code: int
    logged: list[Notification]
    sent: list[Packet]


@pytest.fixture(scope="module")
def stopped(star: Star) -> dict[str, Stop]:
    """bgpbfd ended by SIGTERM and started again, by the name of the peer."""
    for arm in star.working():
        arm.wait_up()
    before = {arm.peer.name: len(arm.peer.notifications()) for arm in star.working()}
    captures = {arm.peer.name: Capture(star.ours.host, arm.link.interface, "tcp port 179") for arm in star.working()}
    code = star.ours.stop()
    for arm in star.working():
        wait_until(partial(_holds_nothing, arm), 5, f"{arm.peer.name} drops our routes", arm.logs())
        captures[arm.peer.name].stop()
    stops = {}
    for arm in star.working():
        name = arm.peer.name
        sent = captures[name].notifications_from(arm.our_address)
        stops[name] = Stop(code, arm.peer.notifications()[before[name] :], sent)
    star.ours.start()
    return stops


def _holds_nothing(arm: Arm) -> bool:
    return not arm.peer.routes()


def _is_down(arm: Arm) -> bool:
    return arm.peer.session_state() != "established"


@pytest.mark.feature("Cease subcodes and their texts")
@external_only
@each_peer
def test_clean_stop_is_a_cease_there(star: Star, stopped: dict[str, Stop], name: str) -> None:
    arm = star.arm(name)
    stop = stopped[name]
    assert stop.exit_code == 0
    numbers = [(p.first("bgp.notify.major_error"), p.first("bgp.notify.minor_error_cease")) for p in stop.sent]
    assert numbers == [("6", "2")]
    if arm.peer.reads_shutdown_text:
        assert [(n.sent, n.code, n.subcode) for n in stop.logged] == [(False, 6, 2)], stop.logged
    arm.wait_up()
    arm.wait_routes_there()


@pytest.fixture(scope="module")
def killed(star: Star) -> float:
    """bgpbfd ended by SIGKILL and started again; when."""
    for arm in star.working():
        arm.wait_up()
    star.ours.kill9()
    for arm in star.working():
        wait_until(partial(_is_down, arm), 5, f"{arm.peer.name} notices", arm.logs())
    star.ours.start()
    return time.monotonic()


@external_only
@each_peer
def test_kill_9_of_ours_is_survived(star: Star, killed: float, name: str) -> None:
    arm = star.arm(name)
    arm.wait_up()
    arm.wait_routes_there()
    arm.wait_routes_here()


@external_only
@each_peer
def test_clean_stop_of_theirs_is_survived(star: Star, name: str) -> None:
    arm = star.arm(name)
    arm.wait_up()
    arm.peer.stop()
    wait_until(lambda: star.ours.state(arm.address) != "established", 5, "bgpbfd notices", arm.logs())
    error = star.ours.neighbor(arm.address)["last_error"]
    assert error is not None
    assert error["text"]
    arm.peer.start()
    arm.wait_up()


def test_nothing_went_wrong_inside(star: Star) -> None:
    """No traceback in our log, whatever the peers did."""
    text = star.ours.log.read_text()
    assert "Traceback" not in text
    assert "internal" not in text.lower()
    if not star.ours.alive:
        raise HarnessError(f"bgpbfd ended: {text[-2000:]}")
