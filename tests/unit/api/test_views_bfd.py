"""BFD in JSON: FRR's fields, and ours; no key in any of them."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from api_fake import NOW, REPORT

from bgpbfd.api import views_bfd
from bgpbfd.api.bfd_names import sessions_named
from bgpbfd.api.clock import Clock
from bgpbfd.bfd.protocol import Late
from bgpbfd.control.snapshot import BfdSnapshot
from bgpbfd.core import SECOND, Instant

FRR_PEERS = (
    "peer local interface vrf multihop id remote-id passive-mode minimum-ttl status uptime downtime diagnostic "
    "remote-diagnostic type profile receive-interval transmit-interval detect-multiplier detection-timeout "
    "echo-receive-interval echo-transmit-interval remote-receive-interval remote-transmit-interval "
    "remote-echo-receive-interval remote-detect-multiplier rtt-min rtt-avg rtt-max"
)
FRR_COUNTERS = (
    "multihop peer vrf control-packet-input control-packet-output echo-packet-input echo-packet-output session-up "
    "session-down"
)


def wall(at: Instant) -> float:
    return 1_000_000 + at / SECOND


CLOCK = Clock(NOW, wall)
SESSION = BfdSnapshot("192.0.2.1", "tor-1", "fast", False, REPORT, "track")
FULL = msgspec.structs.replace(
    REPORT,
    multihop=True,
    minimum_ttl=250,
    passive=True,
    demand=True,
    remote_demand=True,
    control_plane_independent=True,
    remote_control_plane_independent=True,
    auth_type="meticulous-keyed-sha1",
    auth_key_id=1,
    remote_auth_key_id=2,
    required_min_echo_rx_us=50_000,
    echo_tx_us=100_000,
    remote_required_min_echo_rx_us=20_000,
    echo_received=11,
    echo_sent=12,
    rtt_min_us=120,
    rtt_avg_us=150,
    rtt_max_us=900,
    late_packets=5,
    previous_rx=NOW - 62_000,
    last_tx=NOW - 5_000,
)


def test_every_field_of_frrs_show_bfd_peers_is_there() -> None:
    for report in (None, REPORT, FULL):
        view = views_bfd.bfd_session(replace(SESSION, report=report), CLOCK)
        assert set(FRR_PEERS.replace("-", "_").split()) <= set(view)


def test_every_field_of_frrs_show_bfd_peers_counters_is_there() -> None:
    for report in (None, REPORT, FULL):
        view = views_bfd.bfd_counters(replace(SESSION, report=report))
        assert set(FRR_COUNTERS.replace("-", "_").split()) <= set(view)


def test_a_session_that_the_worker_has_not_reported_has_the_same_fields() -> None:
    reported, not_yet = (views_bfd.bfd_session(replace(SESSION, report=report), CLOCK) for report in (FULL, None))
    assert list(reported) == list(not_yet)


def test_what_the_session_uses_is_told() -> None:
    view = views_bfd.bfd_session(replace(SESSION, report=FULL), CLOCK)
    expected = {
        "multihop": True, "minimum_ttl": 250, "passive_mode": True, "demand": True, "remote_demand": True,
        "control_plane_independent": True, "remote_control_plane_independent": True,
        "auth_type": "meticulous-keyed-sha1", "auth_key_id": 1, "remote_auth_key_id": 2,
        "echo_receive_interval": 50, "echo_transmit_interval": 100, "remote_echo_receive_interval": 20,
        "rtt_min": 120, "rtt_avg": 150, "rtt_max": 900, "late_packets": 5, "last_packet_age_ms": 12.5,
        "previous_packet_age_ms": 62, "last_transmit_age_ms": 5,
    }  # fmt: skip
    assert {key: view[key] for key in expected} == expected


def test_multihop_without_a_report_is_what_the_configuration_says() -> None:
    view = views_bfd.bfd_session(replace(SESSION, report=None, multihop=True, minimum_ttl=250), CLOCK)
    assert (view["multihop"], view["minimum_ttl"]) == (True, 250)
    assert views_bfd.bfd_counters(replace(SESSION, report=None, multihop=True))["multihop"] is True


def test_packets_that_were_not_sent_are_no_bad_input() -> None:
    report = msgspec.structs.replace(FULL, packets_discarded={"ttl": 2, "not-sent-eperm": 40})
    view = views_bfd.bfd_counters(replace(SESSION, report=report))
    assert (view["control_packet_bad"], view["packets_not_sent"]) == (2, 40)
    assert view["discarded"] == {"ttl": 2, "not-sent-eperm": 40}
    assert (view["echo_packet_input"], view["echo_packet_output"], view["late_packets"]) == (11, 12, 5)


@pytest.mark.parametrize(
    ("dynamic", "clients", "type_"),
    [
        (False, ("bgp",), "configured"),
        (False, ("configured",), "configured"),
        (False, ("bgp", "configured"), "configured"),
        (True, ("bgp",), "dynamic"),
        (True, ("bgp", "unsolicited"), "dynamic"),
        (True, ("unsolicited",), "unsolicited"),
    ],
)
def test_type(dynamic: bool, clients: tuple[str, ...], type_: str) -> None:
    view = views_bfd.bfd_session(replace(SESSION, dynamic=dynamic, clients=clients), CLOCK)
    assert (view["type"], view["clients"]) == (type_, list(clients))


def test_damping_that_is_over_is_not_shown() -> None:
    for until, shown in ((None, None), (NOW - SECOND, None), (NOW, None), (NOW + 1_500_000, 1.5)):
        assert views_bfd.bfd_session(replace(SESSION, damped_until=until), CLOCK)["damped_for"] == shown


def test_the_last_down_has_the_blame_and_the_times_of_the_last_packets() -> None:
    assert FULL.last_down is not None
    down = msgspec.structs.replace(FULL.last_down, previous_rx=FULL.last_down.at - 200_000)
    report = msgspec.structs.replace(FULL, last_down=down)
    view = views_bfd.bfd_session(replace(SESSION, report=report), CLOCK)["last_down"]
    at = wall(down.at)
    expected = {
        "at": at, "age": 70.0, "old_status": "up", "status": "down", "blame": "path-loss",
        "diagnostic": "control detection time expired", "last_packet_at": round(at - 0.1504, 3),
        "last_packet_before_ms": 150.4, "previous_packet_at": round(at - 0.2, 3), "previous_packet_before_ms": 200,
        "detection_timeout_ms": 150, "remote_admin_down": False,
    }  # fmt: skip
    assert {key: view[key] for key in expected} == expected


def test_admin_down_is_frrs_shutdown() -> None:
    assert [views_bfd.status(state) for state in ("admin-down", "down", "init", "up")] == [
        "shutdown",
        "down",
        "init",
        "up",
    ]


def test_a_diagnostic_without_a_name() -> None:
    assert (views_bfd.diagnostic(8), views_bfd.diagnostic(9)) == ("reverse concatenated path down", "diagnostic 9")


def test_lines_are_json_with_an_event_each() -> None:
    assert FULL.last_down is not None
    late = Late(key="192.0.2.1", generation=1, count=2, gap_us=90_500, interval_us=50_000, at=NOW)
    lines = [
        views_bfd.line_state("192.0.2.1", FULL.last_down, CLOCK),
        views_bfd.line_late("192.0.2.1", late, CLOCK),
        views_bfd.line_message("warning", "text", CLOCK),
        views_bfd.line_summary([replace(SESSION, report=FULL)], {"ttl": 1}, CLOCK),
    ]
    assert [json.loads(json.dumps(line))["event"] for line in lines] == ["state", "late", "message", "summary"]
    assert (lines[1]["gap_ms"], lines[1]["interval_ms"], lines[1]["count"]) == (90.5, 50, 2)
    (session,) = lines[3]["sessions"]
    assert (session["status"], session["control_packet_input"]) == ("up", 100)


# -- which session is meant ----------------------------------------------------------------------------------


def named(name: str, *sessions: BfdSnapshot) -> list[str]:
    return [session.peer for session in sessions_named(sessions, name)]


def stand_alone(peer: str, **changes: object) -> BfdSnapshot:
    address, _, scope = peer.partition("%")
    report = msgspec.structs.replace(REPORT, remote=address, interface=scope or None)
    return replace(BfdSnapshot(peer, None, None, False, report, "none"), **changes)  # type: ignore[arg-type]


def test_an_address_is_found_in_any_spelling() -> None:
    sessions = (stand_alone("2001:db8::7"), stand_alone("192.0.2.7"))
    for name in ("2001:db8::7", "2001:DB8:0:0::7", "2001:db8::0007"):
        assert named(name, *sessions) == ["2001:db8::7"]
    for name in ("192.0.2.7", "::ffff:192.0.2.7"):
        assert named(name, *sessions) == ["192.0.2.7"]
    for name in ("192.0.2.8", "nonsense", "", "fe80::1%", "%"):
        assert named(name, *sessions) == []


def test_all_paths_to_an_address_are_meant() -> None:
    direct, far = stand_alone("192.0.2.7"), stand_alone("192.0.2.7", multihop=True)
    assert named("192.0.2.7", direct, stand_alone("192.0.2.8"), far) == ["192.0.2.7", "192.0.2.7"]


def test_a_link_local_address_is_that_of_its_scope_or_of_all() -> None:
    sessions = (stand_alone("fe80::1%eth0"), stand_alone("fe80::1%eth1"), stand_alone("fe80::2%eth1"))
    assert named("fe80::1%eth1", *sessions) == ["fe80::1%eth1"]
    assert named("FE80:0::1%eth1", *sessions) == ["fe80::1%eth1"]
    assert named("fe80::1", *sessions) == ["fe80::1%eth0", "fe80::1%eth1"]


def test_a_session_without_a_report_is_found() -> None:
    assert named("2001:DB8::7", stand_alone("2001:db8::7", report=None, description="x")) == ["2001:db8::7"]
    assert named("x", stand_alone("2001:db8::7", report=None, description="x")) == ["2001:db8::7"]
