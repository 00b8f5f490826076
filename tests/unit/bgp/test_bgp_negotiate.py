"""The OPEN: RFC 4271 §4.2, §6.2 with RFC 5492, 6286, 6793, 7607, 8654, 4724, 7313."""

from __future__ import annotations

import pytest
from bgp_harness import (
    CAP_ENHANCED,
    CAP_EXTENDED,
    CAP_MP_IPV4,
    CAP_MP_IPV6,
    CAP_REFRESH,
    SETTINGS,
    Driver,
    cap_as4,
    notifications,
    open_message,
    with_settings,
)
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.bgp.negotiate import Negotiated, PeerSettings, our_open, validate_open
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.wire.messages import NotificationError, decode_open, encode_open

US, THEM = 65010, 65001


def negotiate(message: bytes, settings: PeerSettings = SETTINGS) -> Negotiated:
    return validate_open(settings, decode_open(message[19:]))


def refused(message: bytes, settings: PeerSettings = SETTINGS) -> tuple[int, int, bytes]:
    with pytest.raises(NotificationError) as caught:
        negotiate(message, settings)
    assert caught.value.reason
    return caught.value.code, caught.value.subcode, caught.value.data


# -- what we send ------------------------------------------------------------------------------------------


def test_rfc4271_4_2_our_open_byte_for_byte() -> None:
    capabilities = (
        "0104 0001 0001"  # RFC 4760: IPv4 unicast is named too
        "0104 0002 0001"
        "0200"  # RFC 2918
        "4600"  # RFC 7313
        "0600"  # RFC 8654
        "4104 0000fdf2"  # RFC 6793
        "4002 0000"  # RFC 4724: no families, no flags: only the promise of End-of-RIB
    )
    params = bytes.fromhex(capabilities)
    body = bytes.fromhex("04 fdf2 0009 c000020a") + bytes((len(params) + 2, 2, len(params))) + params
    assert encode_open(our_open(SETTINGS)) == b"\xff" * 16 + (19 + len(body)).to_bytes(2, "big") + b"\x01" + body


@pytest.mark.parametrize(("asn", "field"), [(65535, 65535), (65536, 23456), (4200000000, 23456), (23457, 23457)])
def test_rfc6793_4_2_1_a_long_as_is_as_trans_in_the_old_field(asn: int, field: int) -> None:
    ours = our_open(with_settings(local_asn=asn))
    assert ours.asn == field
    assert (65, asn.to_bytes(4, "big")) in ours.capabilities


def test_capabilities_that_are_switched_off_are_not_sent() -> None:
    codes = {c.code for c in our_open(with_settings(route_refresh=False, extended_messages=False)).capabilities}
    assert codes == {1, 65, 64}


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 3, 5, 255])
def test_rfc4271_6_2_version(version: int) -> None:
    assert refused(open_message(version=version)) == (2, 1, b"\x00\x04")


@pytest.mark.parametrize("hold", [1, 2])
def test_rfc4271_4_2_hold_time_of_one_or_two_seconds(hold: int) -> None:
    assert refused(open_message(hold=hold)) == (2, 6, b"")


@pytest.mark.parametrize("hold", [0, 3, 65535])
def test_rfc4271_4_2_hold_times_that_must_be_taken(hold: int) -> None:
    assert negotiate(open_message(hold=hold)).hold_time_s == min(hold, SETTINGS.hold_time_s)


def test_rfc6286_2_2_identifier_zero() -> None:
    assert refused(open_message(router_id=0)) == (2, 3, b"")


def test_rfc6286_2_2_our_identifier_from_an_internal_peer() -> None:
    settings = with_settings(remote_asn=US)
    message = open_message(asn=US, router_id=SETTINGS.router_id, caps=CAP_MP_IPV4 + cap_as4(US))
    assert refused(message, settings) == (2, 3, b"")


def test_rfc6286_2_1_our_identifier_from_an_external_peer_is_legal() -> None:
    assert negotiate(open_message(router_id=SETTINGS.router_id)).remote_router_id == SETTINGS.router_id


def test_rfc6286_2_1_an_identifier_need_not_be_a_host_address() -> None:
    assert negotiate(open_message(router_id=0xFFFFFFFF)).remote_router_id == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("field", "capability"),
    [
        (65002, None),  # not the configured one
        (65002, 65002),
        (65001, 65002),  # the capability counts
        (0, None),  # RFC 7607
        (65001, 0),
        (0, 65001),
        (23456, 23456),  # RFC 6793: AS_TRANS is nobody's number
        (65001, 23456),
        (23456, None),  # an old speaker cannot be AS_TRANS either
    ],
)
def test_rfc4271_6_2_bad_peer_as(field: int, capability: int | None) -> None:
    caps = CAP_MP_IPV4 + (b"" if capability is None else cap_as4(capability))
    assert refused(open_message(asn=field, caps=caps)) == (2, 2, b"")


def test_rfc6793_as_trans_in_the_capability_is_refused_even_when_configured() -> None:
    assert refused(open_message(asn=23456, caps=cap_as4(23456)), with_settings(remote_asn=23456)) == (2, 2, b"")


def test_rfc6793_4_1_the_capability_carries_the_real_number() -> None:
    negotiated = negotiate(open_message(asn=23456, caps=cap_as4(4200000001)), with_settings(remote_asn=4200000001))
    assert (negotiated.asn4, negotiated.remote_asn) == (True, 4200000001)


def test_rfc5492_5_no_family_in_common_lists_ours() -> None:
    assert refused(open_message(caps=CAP_MP_IPV4), with_settings(families=(IPV6_UNICAST,))) == (2, 7, CAP_MP_IPV6)
    both = bytes((1, 4, 0, 1, 0, 128))
    assert refused(open_message(caps=both)) == (2, 7, CAP_MP_IPV4 + CAP_MP_IPV6)


def test_order_of_the_checks() -> None:
    everything = {"version": 3, "hold": 1, "router_id": 0, "asn": 1, "caps": bytes((1, 4, 0, 1, 0, 128))}
    verdicts = []
    for name, right in (("version", 4), ("hold", 9), ("router_id", 7), ("asn", THEM)):
        verdicts.append(refused(open_message(**everything))[1])  # type: ignore[arg-type]
        everything[name] = right
    verdicts.append(refused(open_message(**everything))[1])  # type: ignore[arg-type]
    assert verdicts == [1, 6, 3, 2, 7]


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        (b"\xff" * 16 + b"\x00\x1c\x01" + bytes(9), b"\x01\x02\x00\x1c"),  # 28 octets
        (open_message(version=5), b"\x02\x01\x00\x04"),
        (open_message()[:28] + bytes((40, 2, 3)) + open_message()[31:], b"\x02\x00"),  # parameters beyond the end
        (b"\xff" * 16 + b"\x00\x20\x01" + b"\x04\xfd\xe9\x00\x09\xc0\x00\x02\x01\x03\x01\x01\x00", b"\x02\x04"),
        (open_message(hold=2), b"\x02\x06"),
        (open_message(router_id=0), b"\x02\x03"),
        (open_message(asn=65002, caps=b""), b"\x02\x02"),  # BGPd-rs says 3/2
        (open_message(caps=bytes((1, 4, 0, 1, 0, 128))), b"\x02\x07" + CAP_MP_IPV4 + CAP_MP_IPV6),
    ],
)
def test_rfc4271_6_2_each_fault_is_answered_by_its_notification_and_a_close(message: bytes, verdict: bytes) -> None:
    driver = Driver()
    conn = driver.open_sent()
    actions = driver.receive(conn, message)
    assert notifications(actions) == [(conn, verdict)]
    cause = driver.peer.last_cause
    assert cause is not None
    assert (cause.code, cause.subcode) == (verdict[0], verdict[1])


# -- what is then in force -----------------------------------------------------------------------------------


def test_rfc4760_8_no_multiprotocol_capability_is_ipv4_unicast_alone() -> None:
    negotiated = negotiate(open_message(caps=b""))
    assert negotiated.families == {IPV4_UNICAST}
    assert refused(open_message(caps=b""), with_settings(families=(IPV6_UNICAST,))) == (2, 7, CAP_MP_IPV6)


def test_families_are_those_of_both() -> None:
    assert negotiate(open_message(caps=CAP_MP_IPV6)).families == {IPV6_UNICAST}
    assert negotiate(open_message(caps=CAP_MP_IPV4 + CAP_MP_IPV6)).families == {IPV4_UNICAST, IPV6_UNICAST}


@given(st.sampled_from([0, *range(3, 200)]), st.sampled_from([0, *range(3, 200)]))
def test_rfc4271_4_2_hold_time_is_the_smaller_and_keepalive_a_third(ours: int, theirs: int) -> None:
    negotiated = negotiate(open_message(hold=theirs), with_settings(hold_time_s=ours))
    assert negotiated.hold_time_s == min(ours, theirs)
    if negotiated.hold_time_s == 0:
        assert negotiated.keepalive_time_s == 0
    else:
        assert negotiated.keepalive_time_s >= 1
        assert negotiated.keepalive_time_s == negotiated.hold_time_s // 3


@pytest.mark.parametrize(
    ("caps", "asn4", "refresh", "enhanced", "send", "restart"),
    [
        (b"", False, False, False, 4096, False),
        (cap_as4(THEM), True, False, False, 4096, False),
        (CAP_REFRESH, False, True, False, 4096, False),
        (CAP_REFRESH + CAP_ENHANCED, False, True, True, 4096, False),
        (CAP_EXTENDED, False, False, False, 65535, False),
        (bytes((64, 2, 0, 0)), False, False, False, 4096, True),
        (bytes((99, 3, 1, 2, 3)), False, False, False, 4096, False),  # unknown: no matter
    ],
)
def test_capabilities_in_force(
    caps: bytes, asn4: bool, refresh: bool, enhanced: bool, send: int, restart: bool
) -> None:
    negotiated = negotiate(open_message(caps=caps))
    assert negotiated.asn4 is asn4
    assert negotiated.may_send_refresh is refresh
    assert negotiated.enhanced_refresh is enhanced
    assert negotiated.send_max_length == send
    assert negotiated.receive_max_length == 65535  # RFC 8654 §4: by our own offer
    assert negotiated.graceful_restart_peer is restart


def test_what_we_did_not_offer_is_not_in_force() -> None:
    settings = with_settings(route_refresh=False, extended_messages=False)
    negotiated = negotiate(open_message(caps=CAP_REFRESH + CAP_ENHANCED + CAP_EXTENDED), settings)
    assert negotiated.may_send_refresh  # RFC 2918 §4: theirs alone counts
    assert not negotiated.enhanced_refresh
    assert (negotiated.send_max_length, negotiated.receive_max_length) == (4096, 4096)


def test_rfc4724_listed_families_are_noted() -> None:
    assert negotiate(open_message(caps=bytes((64, 6, 0, 120, 0, 1, 1, 0)))).restart_families_listed
    assert not negotiate(open_message(caps=bytes((64, 2, 0, 120)))).restart_families_listed


def test_internal_and_external() -> None:
    assert negotiate(open_message()).external
    internal = negotiate(open_message(asn=US, caps=cap_as4(US)), with_settings(remote_asn=US))
    assert not internal.external


def test_received_capabilities_are_kept_as_they_came() -> None:
    negotiated = negotiate(open_message(caps=bytes((99, 1, 7)) + CAP_MP_IPV4))
    assert negotiated.capabilities_received == ((99, b"\x07"), (1, b"\x00\x01\x00\x01"))
    assert negotiated.capabilities_sent == our_open(SETTINGS).capabilities
