"""BFD with BIRD and FRR: what breaks is torn down within the detection time, and comes back when the path does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import PEERS, Bfd
from .harness.process import wait_until
from .star import Arm, Arrangement, Star

pytestmark = pytest.mark.interop

TIMERS = Bfd(interval_ms=100, multiplier=3)
DETECTION_MS = 300.0
MARGIN_MS = 10.0  # what a teardown may take beyond the detection time
RECOVERY_S = 2.0
POLL_S = 0.25  # the daemon says itself when it was; each question is a process that competes with what is measured


CASES = [
    ("bird", Arrangement("both", ibgp=False, version=4)),
    ("bird", Arrangement("we", ibgp=True, version=6)),
    ("frr", Arrangement("both", ibgp=False, version=6)),
    ("frr", Arrangement("we", ibgp=True, version=4)),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def arm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm]:
    name, arrangement = request.param
    kind = next(kind for kind in PEERS if kind.name == name)
    if reason := kind.missing():
        pytest.skip(reason)
    with Lab(tmp_path_factory.mktemp(f"bfd-{name}")) as lab:
        star = Star(lab, [kind], arrangement, TIMERS)
        star.start()
        yield star.arm(name)


@pytest.fixture(autouse=True)
def _up(arm: Arm) -> None:
    """Each test begins with BGP Established and BFD Up at both ends, and the fast timers in force."""
    arm.link.heal()
    arm.wait_up()
    wait_until(partial(_bfd_up, arm), 15, "BFD Up at both ends at the fast rate", arm.logs())
    arm.wait_routes_there()
    arm.wait_routes_here()


def _bfd_up(arm: Arm) -> bool:
    ours = arm.ours.bfd(arm.address)
    return bool(ours["status"] == arm.peer.bfd_state() == "up" and ours["detection_timeout"] == DETECTION_MS)


def _established(arm: Arm) -> bool:
    return arm.ours.state(arm.address) == arm.peer.session_state() == "established"


def _wait_recovered(arm: Arm, since: float) -> float:
    """Until both ends are Established again; s since ``since`` (monotonic)."""
    wait_until(partial(_established, arm), 20, "established again", arm.logs(), POLL_S)
    # When it happened, not when it was asked: the daemon knows since when the state is what it is.
    age = float(arm.ours.neighbor(arm.address)["state_age"])
    return time.monotonic() - age - since


@pytest.mark.feature("BFD")
def test_bfd_is_up_as_both_ends_print_it(arm: Arm) -> None:
    ours = arm.ours.bfd(arm.address)
    assert ours["status"] == "up"
    assert arm.peer.bfd_state() == "up"
    assert ours["remote_receive_interval"] == TIMERS.interval_ms
    assert ours["remote_detect_multiplier"] == TIMERS.multiplier
    assert ours["detection_timeout"] == DETECTION_MS
    assert arm.ours.neighbor(arm.address)["bfd"] == "up"


Fault = Callable[[Arm], None]


def _cut_bfd_both_ways(arm: Arm) -> None:
    """Ours half a detection time later, so that it is certain who is the first to notice and to send a Cease."""
    arm.link.cut_bfd([arm.link.b])
    time.sleep(DETECTION_MS / 2000)
    arm.link.cut_bfd()


def _cut_bfd_towards_us(arm: Arm) -> None:
    arm.link.cut_bfd([arm.link.b])


def _cut_all_towards_us(arm: Arm) -> None:
    arm.link.cut(senders=[arm.link.b])


def _cut_all(arm: Arm) -> None:
    arm.link.cut()


def _freeze(arm: Arm) -> None:
    arm.peer.freeze()


FAULTS = [_cut_bfd_both_ways, _cut_bfd_towards_us, _freeze, _cut_all_towards_us, _cut_all]


@pytest.mark.feature("BFD")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__[1:])
def test_silence_tears_bgp_down_within_the_detection_time(arm: Arm, fault: Fault) -> None:
    """RFC 5882 §3, RFC 9384: Cease 6/10, our routes gone there and theirs here; back when the path is back."""
    logged = len(arm.peer.notifications())
    with Capture(arm.ours.host, arm.link.interface) as capture:
        wait_until(lambda: capture.bfd_from(arm.address), 5, "a BFD packet in the capture")
        fault(arm)
        wait_until(lambda: arm.ours.state(arm.address) != "established", 5, "the teardown", arm.logs(), POLL_S)
        assert arm.ours.learned(arm.address) == []
        record = arm.ours.neighbor(arm.address)["last_error"]
        if fault is not _freeze:
            wait_until(lambda: not arm.peer.routes(), 5, "our routes gone there", arm.logs())
        healed = time.monotonic()
        arm.peer.thaw()
        arm.link.heal()
        took = _wait_recovered(arm, healed)
    if fault is _cut_bfd_towards_us and record["kind"] == "notification-received":
        # Our Down reaches the peer at once, and its Cease may be here before ours has left.
        _check_wire(capture, arm, arm.address)
    else:
        _check_record(record)
        if fault is not _cut_all:  # our Cease cannot leave: the capture has only its retransmission
            _check_wire(capture, arm, arm.our_address)
    if fault is _cut_bfd_both_ways:  # in the other cases the peer's own BFD may close the session before it reads
        assert (6, 10) in [(n.code, n.subcode) for n in arm.peer.notifications()[logged:] if not n.sent]
    assert took < RECOVERY_S, f"back {took:.2f} s after the path"
    arm.wait_routes_there()
    arm.wait_routes_here()


def _check_record(record: dict[str, object]) -> None:
    """What `show neighbors PEER detail` says of it."""
    assert record["kind"] == "bfd-down"
    assert (record["code"], record["subcode"]) == (6, 10)
    facts = record["facts"]
    assert isinstance(facts, dict)
    assert facts["detection_time_ms"] == DETECTION_MS
    assert DETECTION_MS <= facts["silence_to_cease_ms"] <= DETECTION_MS + MARGIN_MS


def _check_wire(capture: Capture, arm: Arm, sender: str) -> None:
    """The same from the packets: the last BFD packet of the peer that arrived, then the Cease of ``sender``."""
    ceases = [p for p in capture.notifications_from(sender) if p.first("bgp.notify.major_error") == "6"]
    assert ceases, f"no Cease of {sender} on the wire"
    if sender == arm.our_address:
        assert ceases[0].first("bgp.notify.minor_error_cease") == "10"
    cease = ceases[0].time
    last = max(packet.time for packet in capture.bfd_from(arm.address) if packet.time < cease)
    assert (cease - last) * 1000 <= DETECTION_MS + MARGIN_MS


def test_link_down_is_noticed_and_survived(arm: Arm) -> None:
    """The carrier goes too, so nothing can be sent: the record has to say why all the same."""
    arm.link.down()
    wait_until(lambda: arm.ours.state(arm.address) != "established", 5, "the teardown", arm.logs(), POLL_S)
    assert arm.ours.learned(arm.address) == []
    wait_until(lambda: not arm.peer.routes(), 5, "our routes gone there", arm.logs())
    assert arm.ours.neighbor(arm.address)["last_error"]["kind"] == "bfd-down"
    healed = time.monotonic()
    arm.link.up()
    took = _wait_recovered(arm, healed)
    assert took < RECOVERY_S + 1, f"back {took:.2f} s after the link"  # the peer has to learn of its interface first


def test_killed_peer_is_noticed_and_survived(arm: Arm) -> None:
    arm.peer.kill9()
    wait_until(lambda: arm.ours.state(arm.address) != "established", 5, "the teardown", arm.logs(), POLL_S)
    assert arm.ours.learned(arm.address) == []
    arm.peer.start()
    arm.wait_up()
    wait_until(partial(_bfd_up, arm), 10, "BFD Up again", arm.logs())


def test_kill_9_of_ours_is_signalled_by_bfd(arm: Arm) -> None:
    """The BFD worker outlives its daemon only to say Down: the peer's BFD must not stay Up."""
    arm.ours.kill9()
    wait_until(lambda: arm.peer.bfd_state() != "up", 2, "the peer's BFD goes down", arm.logs(), 0.02)
    wait_until(lambda: not arm.peer.routes(), 2, "our routes gone there", arm.logs())
    arm.ours.start()
    arm.wait_up()
    wait_until(partial(_bfd_up, arm), 10, "BFD Up again", arm.logs())


def test_reload_changes_the_timers_by_a_poll(arm: Arm) -> None:
    """RFC 5880 §6.8.3: new timers go in without a flap, of BFD or of BGP."""
    bgp = arm.ours.neighbor(arm.address)["connect_time"]
    flaps = arm.ours.bfd(arm.address)["session_down"]
    arm.write(transmit_interval_ms=200)
    arm.ours.hangup()
    wait_until(
        lambda: arm.ours.bfd(arm.address)["in_force_transmit_interval_ms"] == 200, 5, "the new interval", arm.logs()
    )
    arm.write()
    arm.ours.hangup()
    wait_until(
        lambda: arm.ours.bfd(arm.address)["in_force_transmit_interval_ms"] == 100, 5, "the old interval", arm.logs()
    )
    assert arm.ours.bfd(arm.address)["session_down"] == flaps
    assert arm.peer.bfd_state() == "up"
    assert arm.ours.neighbor(arm.address)["connect_time"] == bgp


def test_clean_stop_is_no_bfd_failure_there(arm: Arm) -> None:
    """RFC 5882 §4.2: we leave with AdminDown; the peer's record of the end is our Cease 6/2, not BFD."""
    logged = len(arm.peer.notifications())
    assert arm.ours.stop() == 0
    wait_until(lambda: not arm.peer.routes(), 5, "our routes gone there", arm.logs())
    seen = [(n.sent, n.code, n.subcode) for n in arm.peer.notifications()[logged:]]
    arm.ours.start()
    assert seen == [(False, 6, 2)]
