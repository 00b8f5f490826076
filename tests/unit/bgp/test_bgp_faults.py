"""What a connection makes of malformed UPDATEs: RFC 7606's verdicts as actions, and what is kept of them."""

from __future__ import annotations

import pytest
from bgp_harness import (
    CAP_MP_IPV4,
    CAP_MP_IPV6,
    CAP_REFRESH,
    Driver,
    cap_as4,
    message,
    notifications,
    of,
    one,
    open_message,
    sent,
)

from bgpbfd.bgp.events import (
    CauseKind,
    FamilyDisabled,
    SendRouteRefresh,
    SessionDown,
    State,
    UpdateReceived,
)
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, SECOND

BOTH = CAP_MP_IPV4 + CAP_MP_IPV6 + CAP_REFRESH + cap_as4(65001)
PATH = "40010100 40020602010000fde9"
BASE = PATH + "400304c0000201"
BROKEN = "800f 04 0002 01 81"
UNKNOWN_FAMILY = "800f 05 0019 41 0000"
NON_TRANSITIVE = "80630107"


def update(attributes: str, nlri: str = "") -> bytes:
    raw = bytes.fromhex(attributes)
    return message(2, b"\x00\x00" + len(raw).to_bytes(2, "big") + raw + bytes.fromhex(nlri))


def session() -> tuple[Driver, int]:
    driver = Driver()
    return driver, driver.established(open_message(caps=BOTH))


def test_rfc7606_2_a_family_is_disabled_before_the_rest_of_its_update_is_taken() -> None:
    driver, conn = session()
    actions = driver.receive(conn, update(BASE + BROKEN, "18cb0071"))
    disabled, received = actions
    assert isinstance(disabled, FamilyDisabled)
    assert (disabled.generation, disabled.family) == (driver.peer.generation, IPV6_UNICAST)
    assert isinstance(received, UpdateReceived)
    assert [reach.family for reach in received.update.announced] == [IPV4_UNICAST]
    assert driver.peer.state is State.ESTABLISHED
    fault = driver.peer.last_update_fault
    assert fault is not None
    assert (fault.treatment, fault.attribute, fault.data.hex()) == ("afi-safi-disable", 15, BROKEN.replace(" ", ""))
    assert fault.reason == disabled.reason
    assert driver.peer.context is not None
    assert driver.peer.context.disabled == {IPV6_UNICAST}


def test_rfc4271_the_update_that_disables_a_family_restarts_the_hold_timer() -> None:
    driver, conn = session()
    driver.at(driver.now + 8 * SECOND)
    driver.receive(conn, update(BROKEN))
    driver.at(driver.now + 8 * SECOND)
    assert driver.peer.state is State.ESTABLISHED


def test_rfc4760_7_disabled_once_and_the_last_family_resets() -> None:
    driver, conn = session()
    broken4 = update("800f 04 0001 01 21")
    assert len(of(driver.receive(conn, update(BROKEN), update(BROKEN)), FamilyDisabled)) == 1
    actions = driver.receive(conn, broken4)
    assert notifications(actions) == [(conn, b"\x03\x09" + bytes.fromhex("800f 04 0001 01 21"))]
    assert one(actions, SessionDown)
    assert driver.peer.update_faults == {"afi-safi-disable": 1, "ignored": 1, "session-reset": 1}
    fault = driver.peer.last_update_fault
    assert fault is not None
    assert (fault.treatment, fault.attribute) == ("session-reset", 15)


def test_nothing_is_asked_again_of_a_disabled_family() -> None:
    driver, conn = session()
    driver.receive(conn, update(BROKEN))
    assert driver.do(SendRouteRefresh(IPV6_UNICAST)) == []
    assert driver.peer.discards["route refresh of a disabled family"] == 1
    assert sent(driver.do(SendRouteRefresh(IPV4_UNICAST)), conn) == [message(5, bytes((0, 1, 0, 1)))]


def test_a_new_session_has_nothing_disabled() -> None:
    driver, conn = session()
    driver.receive(conn, update(BROKEN))
    driver.receive(conn, message(3, b"\x06\x04"))
    again = driver.incoming()
    driver.receive(again, open_message(caps=BOTH), message(4))
    assert driver.peer.state is State.ESTABLISHED
    assert driver.peer.context is not None
    assert (driver.peer.context.families, driver.peer.context.disabled) == ({IPV4_UNICAST, IPV6_UNICAST}, frozenset())


@pytest.mark.parametrize("ignored", [UNKNOWN_FAMILY, BASE + NON_TRANSITIVE])
def test_what_is_ignored_is_no_error_and_does_not_hide_the_last_one(ignored: str) -> None:
    driver, conn = session()
    driver.receive(conn, update(ignored))
    first = driver.peer.last_update_fault
    assert first is not None
    assert first.treatment == "ignored"  # better than nothing
    driver.receive(conn, update(BASE + "c0080100", "18cb0071"))
    error = driver.peer.last_update_fault
    assert error is not None
    assert (error.treatment, error.attribute) == ("treat-as-withdraw", 8)
    driver.receive(conn, update(ignored))
    assert driver.peer.last_update_fault is error
    assert driver.peer.update_faults == {"ignored": 2, "treat-as-withdraw": 1}
    driver.receive(conn, update(BASE + "c00703000000", "18cb0071"))
    latest = driver.peer.last_update_fault
    assert latest is not None
    assert latest.treatment == "attribute-discard"  # a lesser error is an error all the same


@pytest.mark.parametrize(
    ("attributes", "nlri", "attribute"),
    [
        (BASE + "40630107", "18cb0071", 0x63),
        ("4001020000", "", 1),
        ("800f020002", "", 15),
        ("800f04000201ff 800f04000201ff", "", 15),
        (BASE, "21cb00710000", None),
    ],
)
def test_a_reset_names_the_attribute_at_fault(attributes: str, nlri: str, attribute: int | None) -> None:
    driver, conn = session()
    assert one(driver.receive(conn, update(attributes, nlri)), SessionDown)
    fault = driver.peer.last_update_fault
    assert fault is not None
    assert (fault.treatment, fault.attribute) == ("session-reset", attribute)


def test_the_data_of_a_notification_is_shown_to_512_octets() -> None:
    """It outlives the session in the record of events, and a peer can send 65 kB of it again and again."""
    driver, conn = session()
    ended = one(driver.receive(conn, message(3, b"\x06\x63" + bytes(4000))), SessionDown).cause
    assert ended.facts == {"data": bytes(512).hex(), "data_length": 4000}
    assert ended.text == "peer sent Cease, subcode 99"


def test_the_data_of_a_notification_is_told_in_words() -> None:
    driver, conn = session()
    ended = one(driver.receive(conn, message(3, b"\x06\x01" + bytes.fromhex("0001 01 00000064"))), SessionDown).cause
    assert ended.text == "peer sent Cease, Maximum Number of Prefixes Reached: ipv4 unicast, at most 100"


def test_what_ended_the_session_outlives_attempts_that_fail_after_it() -> None:
    driver, conn = session()
    driver.receive(conn, message(9))
    driver.at(driver.now + 60 * SECOND)  # dials, and nobody answers
    last, ended = driver.peer.last_cause, driver.peer.last_session_cause
    assert last is not None
    assert last.kind is CauseKind.CONNECTION_FAILED
    assert ended is not None
    assert (ended.code, ended.subcode, ended.facts["message"]) == (1, 3, message(9).hex())
