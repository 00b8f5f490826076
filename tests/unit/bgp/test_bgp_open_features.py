"""What capabilities put in force: RFC 4724, RFC 8538, RFC 7911, RFC 8950, RFC 9234."""

from __future__ import annotations

import pytest
from bgp_harness import (
    CAP_MP_IPV4,
    CAP_MP_IPV6,
    IPV4_KEPT,
    IPV6_KEPT,
    KEEPALIVE,
    OURS,
    SETTINGS,
    THEIRS,
    UPDATE,
    Driver,
    cap_as4,
    cap_restart,
    message,
    notifications,
    one,
    open_message,
    sent,
    with_settings,
)

from bgpbfd.bgp.events import (
    ConnId,
    Dial,
    Event,
    ManualStart,
    ManualStop,
    SessionUp,
    TcpConnectionFails,
    TcpCrAcked,
    UpdateReceived,
)
from bgpbfd.bgp.negotiate import Negotiated, PeerSettings, can_be_plain, our_open, validate_open
from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, SECOND, Family
from bgpbfd.wire.iana import BgpRole
from bgpbfd.wire.messages import NotificationError, decode_open, encode_open

US, THEM = 65010, 65001
BOTH = CAP_MP_IPV4 + CAP_MP_IPV6


def negotiate(caps: bytes, settings: PeerSettings = SETTINGS, asn: int = THEM, *, plain: bool = False) -> Negotiated:
    return validate_open(settings, decode_open(open_message(asn=asn, caps=caps + cap_as4(asn))[19:]), plain=plain)


def refused(caps: bytes, settings: PeerSettings, asn: int = THEM) -> tuple[int, int, bytes]:
    with pytest.raises(NotificationError) as caught:
        negotiate(caps, settings, asn)
    assert caught.value.reason
    return caught.value.code, caught.value.subcode, caught.value.data


def values(settings: PeerSettings, code: int, *, restarting: bool = False) -> list[str]:
    return [c.value.hex() for c in our_open(settings, restarting=restarting).capabilities if c.code == code]


# -- what we send ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("receive", "send", "sent_values"),
    [
        (False, False, []),
        (True, False, ["0001010100020101"]),
        (False, True, ["0001010200020102"]),
        (True, True, ["0001010300020103"]),
    ],
)
def test_rfc7911_4_each_unicast_family_and_its_direction(receive: bool, send: bool, sent_values: list[str]) -> None:
    families = (IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW)
    assert values(with_settings(add_path_receive=receive, add_path_send=send, families=families), 69) == sent_values


def test_rfc7911_no_unicast_family_no_capability() -> None:
    assert values(with_settings(add_path_receive=True, families=(IPV4_FLOW,)), 69) == []


def test_rfc8950_4_ipv4_unicast_with_a_two_octet_safi() -> None:
    assert values(with_settings(extended_next_hop=True), 5) == ["000100010002"]
    assert values(with_settings(extended_next_hop=True, families=(IPV6_UNICAST,)), 5) == []
    assert values(SETTINGS, 5) == []


@pytest.mark.parametrize("role", BgpRole)
def test_rfc9234_4_1_the_role_goes_to_external_peers_only(role: BgpRole) -> None:
    assert values(with_settings(role=role), 9) == [f"{role:02x}"]
    assert values(with_settings(role=role, remote_asn=US), 9) == []


def test_rfc4724_3_without_a_restart_time_only_the_promise_of_end_of_rib() -> None:
    assert values(SETTINGS, 64) == ["0000"]
    assert values(SETTINGS, 64, restarting=True) == ["0000"]


@pytest.mark.parametrize(
    ("seconds", "restarting", "head"),
    [(120, False, "4078"), (120, True, "c078"), (4095, True, "cfff"), (0, False, "4000"), (1, False, "4001")],
)
def test_rfc4724_3_rfc8538_2_r_n_time_and_families(seconds: int, restarting: bool, head: str) -> None:
    """RFC 8538 §4: F is set in every OPEN, else the peer drops after a mere loss of TCP what it has kept."""
    assert values(with_settings(restart_time_s=seconds), 64, restarting=restarting) == [head + "0001018000020180"]


def test_an_open_with_everything_fits_and_reads_back() -> None:
    families = (IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW, Family(2, 133))
    settings = with_settings(
        families=families,
        add_path_receive=True,
        add_path_send=True,
        extended_next_hop=True,
        restart_time_s=120,
        role=BgpRole.CUSTOMER,
    )
    data = encode_open(our_open(settings, restarting=True))
    assert decode_open(data[19:]) == our_open(settings, restarting=True)
    assert data[28] == len(data) - 29  # one octet of parameters' length is enough: no RFC 9072


def test_a_plain_open_has_none_of_it() -> None:
    settings = with_settings(
        add_path_receive=True, extended_next_hop=True, restart_time_s=120, role=BgpRole.PEER, add_path_send=True
    )
    assert our_open(settings, plain=True).capabilities == ()
    caps = CAP_MP_IPV4 + cap_restart(0x4078, IPV4_KEPT) + bytes.fromhex("4504 00010103 0506 000100010002 0901 00")
    negotiated = negotiate(caps, settings, plain=True)
    assert not negotiated.add_path_receive
    assert not negotiated.add_path_send
    assert not negotiated.extended_next_hop
    assert not negotiated.restart_notification
    assert not negotiated.asn4


# -- ADD-PATH ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [0, 1, 2, 3])
@pytest.mark.parametrize("ours", [0, 1, 2, 3])
def test_rfc7911_4_our_receive_needs_their_send_and_the_other_way_round(ours: int, theirs: int) -> None:
    settings = with_settings(add_path_receive=bool(ours & 1), add_path_send=bool(ours & 2))
    caps = BOTH + (bytes((69, 4, 0, 1, 1, theirs)) if theirs else b"")
    negotiated = negotiate(caps, settings)
    assert negotiated.add_path_receive == ({IPV4_UNICAST} if ours & 1 and theirs & 2 else set())
    assert negotiated.add_path_send == ({IPV4_UNICAST} if ours & 2 and theirs & 1 else set())


def test_rfc7911_4_family_by_family() -> None:
    settings = with_settings(add_path_receive=True, add_path_send=True)
    negotiated = negotiate(BOTH + bytes((69, 8, 0, 1, 1, 1, 0, 2, 1, 2)), settings)
    assert negotiated.add_path_send == {IPV4_UNICAST}
    assert negotiated.add_path_receive == {IPV6_UNICAST}


def test_rfc7911_a_family_that_is_not_in_force_has_no_identifiers() -> None:
    negotiated = negotiate(CAP_MP_IPV4 + bytes((69, 8, 0, 2, 1, 3, 0, 1, 4, 3)), with_settings(add_path_receive=True))
    assert negotiated.add_path_receive == set()


def test_rfc7911_the_sessions_context_reads_identifiers() -> None:
    driver = Driver(with_settings(add_path_receive=True))
    conn = driver.established(open_message(caps=CAP_MP_IPV4 + cap_as4(THEM) + bytes((69, 4, 0, 1, 1, 2))))
    context = driver.peer.context
    assert context is not None
    assert (context.add_path_receive, context.add_path_send) == ({IPV4_UNICAST}, frozenset())
    with_id = UPDATE[:-4] + bytes((0, 0, 0, 7)) + UPDATE[-4:]
    with_id = with_id[:16] + len(with_id).to_bytes(2, "big") + with_id[18:]
    (reach,) = one(driver.receive(conn, with_id), UpdateReceived).update.announced
    assert (reach.nlri, reach.path_ids) == ([b"\x18\xcb\x00\x71"], [7])


# -- extended next hop -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "in_force"),
    [
        (True, "0506 000100010002", True),
        (True, "", False),
        (False, "0506 000100010002", False),
        (True, "0506 000100010001", False),  # next hops of AFI 1: nothing new
        (True, "0506 000100020002", False),  # multicast
        (True, "050c 000100800002 000100010002", True),
        (True, "0505 0001000100", False),  # of the wrong length: not in force
    ],
)
def test_rfc8950_4_in_force_only_when_both_say_so(ours: bool, theirs: str, in_force: bool) -> None:
    negotiated = negotiate(CAP_MP_IPV4 + bytes.fromhex(theirs), with_settings(extended_next_hop=ours))
    assert negotiated.extended_next_hop == ({IPV4_UNICAST} if in_force else set())


def test_rfc8950_the_sessions_context_knows() -> None:
    driver = Driver(with_settings(extended_next_hop=True))
    driver.established(open_message(caps=CAP_MP_IPV4 + cap_as4(THEM) + bytes.fromhex("0506 000100010002")))
    context = driver.peer.context
    assert context is not None
    assert context.extended_next_hop == {IPV4_UNICAST}


# -- roles -------------------------------------------------------------------------------------------------

PAIRS = {(0, 3), (3, 0), (1, 2), (2, 1), (4, 4)}  # RFC 9234 §4.2, table 2


@pytest.mark.parametrize("theirs", [*BgpRole, 5, 255])
@pytest.mark.parametrize("ours", BgpRole)
def test_rfc9234_4_2_allowed_pairs(ours: BgpRole, theirs: int) -> None:
    settings, caps = with_settings(role=ours), CAP_MP_IPV4 + bytes((9, 1, theirs))
    if (ours, theirs) in PAIRS:
        negotiated = negotiate(caps, settings)
        assert (negotiated.role, negotiated.remote_role) == (ours, theirs)
    else:
        assert refused(caps, settings) == (2, 11, b"")


@pytest.mark.parametrize("caps", [b"", bytes((9, 0)), bytes((9, 2, 3, 3))])
def test_rfc9234_4_2_no_role_is_taken_unless_strict(caps: bytes) -> None:
    negotiated = negotiate(CAP_MP_IPV4 + caps, with_settings(role=BgpRole.PROVIDER))
    assert (negotiated.role, negotiated.remote_role) == (BgpRole.PROVIDER, None)
    assert refused(CAP_MP_IPV4 + caps, with_settings(role=BgpRole.PROVIDER, role_strict=True)) == (2, 11, b"")


def test_rfc9234_4_2_equal_copies_are_one_and_differing_copies_are_refused() -> None:
    settings = with_settings(role=BgpRole.PROVIDER)
    assert negotiate(bytes((9, 1, 3, 9, 1, 3)) + CAP_MP_IPV4, settings).remote_role is BgpRole.CUSTOMER
    for copies in (bytes((9, 1, 3, 9, 1, 0)), bytes((9, 1, 0, 9, 1, 3))):
        assert refused(copies + CAP_MP_IPV4, settings) == (2, 11, b"")
        assert refused(copies + CAP_MP_IPV4, SETTINGS) == (2, 11, b"")


@pytest.mark.parametrize("theirs", [0, 4, 9])
def test_rfc9234_4_without_a_role_of_ours_the_peers_is_only_shown(theirs: int) -> None:
    negotiated = negotiate(CAP_MP_IPV4 + bytes((9, 1, theirs)))
    assert negotiated.role is None
    assert negotiated.remote_role == (theirs if theirs < 5 else None)


def test_rfc9234_4_internal_sessions_have_no_roles() -> None:
    settings = with_settings(remote_asn=US, role=BgpRole.PROVIDER, role_strict=True)
    for caps in (b"", bytes((9, 1, 0)), bytes((9, 1, 0, 9, 1, 3))):
        negotiated = negotiate(CAP_MP_IPV4 + caps, settings, asn=US)
        assert (negotiated.role, negotiated.remote_role) == (None, None)


def test_rfc9234_strict_is_not_tried_without_capabilities() -> None:
    assert can_be_plain(with_settings(role=BgpRole.PROVIDER))
    assert not can_be_plain(with_settings(role=BgpRole.PROVIDER, role_strict=True))
    assert can_be_plain(with_settings(remote_asn=US, role=BgpRole.PROVIDER, role_strict=True))
    with pytest.raises(NotificationError):
        negotiate(b"", with_settings(role=BgpRole.PROVIDER, role_strict=True), plain=True)


def test_rfc9234_2_11_goes_out() -> None:
    driver = Driver(with_settings(role=BgpRole.PROVIDER))
    conn = driver.open_sent()
    actions = driver.receive(conn, open_message(caps=CAP_MP_IPV4 + cap_as4(THEM) + bytes((9, 1, 0))))
    assert notifications(actions) == [(conn, b"\x02\x0b")]
    cause = driver.peer.last_cause
    assert cause is not None
    assert cause.text.startswith("the peer's role is provider, ours provider")


# -- the order of the checks (reference, 2) ---------------------------------------------------------------------


def broken(**right: int | bytes) -> bytes:
    """An OPEN in which everything is wrong but what ``right`` says."""
    no_family = bytes((1, 4, 0, 1, 0, 128))
    parts: dict[str, int | bytes] = {
        "version": 3,
        "params": b"\x02\x09\x01",  # runs past its end
        "hold": 1,
        "router_id": 0,
        "asn": 1,
        "role": 0,
        "families": no_family,
    }
    parts |= right
    caps = bytes((9, 1, int(parts["role"]))) + bytes(parts["families"])
    whole = open_message(
        asn=int(parts["asn"]),
        hold=int(parts["hold"]),
        router_id=int(parts["router_id"]),
        version=int(parts["version"]),
        caps=caps,
    )
    if parts["params"] == b"":
        return whole
    body = whole[19:28] + bytes((len(bytes(parts["params"])),)) + bytes(parts["params"])
    return message(1, body)


ORDER: list[tuple[str, int | bytes, bytes]] = [
    ("version", 4, b"\x02\x01\x00\x04"),
    ("params", b"\x03\x01\x00", b"\x02\x00"),
    ("params", b"", b"\x02\x04"),
    ("hold", 9, b"\x02\x06"),
    ("router_id", 7, b"\x02\x03"),
    ("asn", THEM, b"\x02\x02"),
    ("role", 3, b"\x02\x0b"),
    ("families", CAP_MP_IPV4, b"\x02\x07" + CAP_MP_IPV4 + CAP_MP_IPV6),
]


@pytest.mark.parametrize("row", range(len(ORDER)), ids=[f"{verdict[0]}-{verdict[1]}" for _, _, verdict in ORDER])
def test_rfc4271_6_2_the_first_fault_in_order_is_the_one_that_is_answered(row: int) -> None:
    mended: dict[str, int | bytes] = {}
    for name, right, _ in ORDER[:row]:
        mended[name] = right
    driver = Driver(with_settings(role=BgpRole.PROVIDER))
    conn = driver.open_sent()
    data = broken(**mended)
    actions = driver.receive(conn, data)
    verdict = ORDER[row][2]
    assert notifications(actions) == [(conn, verdict)]
    cause = driver.peer.last_cause
    assert cause is not None
    assert (cause.code, cause.subcode) == (verdict[0], verdict[1])
    assert cause.facts.get("data", "") == verdict[2:].hex()
    assert cause.facts["message"] == data.hex()
    assert driver.peer.notifications_sent == {f"{verdict[0]}/{verdict[1]}": 1}


def test_an_open_without_a_fault_passes_them_all() -> None:
    driver = Driver(with_settings(role=BgpRole.PROVIDER))
    conn = driver.open_sent()
    actions = driver.receive(conn, broken(**{name: right for name, right, _ in ORDER}))
    assert notifications(actions) == []


def test_rfc5492_4_several_parameters_with_several_capabilities_each() -> None:
    params = bytes((2, 6)) + CAP_MP_IPV4 + bytes((2, 8)) + CAP_MP_IPV6 + bytes((2, 0)) + bytes((2, 6)) + cap_as4(THEM)
    body = open_message()[19:28] + bytes((len(params),)) + params
    driver = Driver()
    conn = driver.open_sent()
    driver.receive(conn, message(1, body), KEEPALIVE)
    up = one(driver.log, SessionUp)
    assert up.negotiated.families == {IPV4_UNICAST, IPV6_UNICAST}
    assert up.negotiated.asn4
    assert up.negotiated.may_send_refresh


# -- first AS ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enforce", [True, False])
def test_rfc4271_6_3_the_first_as_is_checked_where_that_is_configured(enforce: bool) -> None:
    driver = Driver(with_settings(enforce_first_as=enforce))
    conn = driver.established()
    other = UPDATE.replace(bytes.fromhex("0000fde9"), bytes.fromhex("0000fdea"))
    update = one(driver.receive(conn, other), UpdateReceived).update
    assert bool(update.announced) is not enforce
    assert bool(update.faults) is enforce


# -- graceful restart --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [(120, 0x4078, True), (120, 0x0078, False), (None, 0x4078, False), (120, None, False), (0, 0xC000, True)],
)
def test_rfc8538_2_the_n_bit_counts_when_both_have_it(ours: int | None, theirs: int | None, both: bool) -> None:
    caps = CAP_MP_IPV4 + (b"" if theirs is None else cap_restart(theirs, IPV4_KEPT))
    assert negotiate(caps, with_settings(restart_time_s=ours)).restart_notification is both


def test_rfc4724_3_the_peers_capability_is_kept_and_of_several_the_last_counts() -> None:
    caps = CAP_MP_IPV4 + cap_restart(0x0001) + cap_restart(0xC078, IPV4_KEPT, IPV6_KEPT[:3] + b"\x00")
    restart = negotiate(caps).restart
    assert restart is not None
    assert (restart.restarting, restart.notification, restart.time_s) == (True, True, 120)
    assert restart.families == ((IPV4_UNICAST, True), (IPV6_UNICAST, False))
    assert negotiate(CAP_MP_IPV4).restart is None


def restart_flags(driver: Driver, conn: ConnId) -> int:
    """The R and N bits of the OPEN that went out on ``conn``."""
    (data,) = [data for data in sent(driver.log, conn) if data[18] == 1]
    (value,) = [c.value for c in decode_open(data[19:]).capabilities if c.code == 64]
    return value[0] >> 4


def dialled(driver: Driver, event: Event) -> ConnId:
    conn = one(driver.do(event), Dial).conn
    driver.do(TcpCrAcked(conn, OURS, THEIRS))
    return conn


def test_rfc4724_4_1_r_until_the_first_session_and_never_after() -> None:
    driver = Driver(with_settings(restart_time_s=120))
    restarting = ManualStart(restarting_until=driver.now + 120 * SECOND)
    conn = dialled(driver, restarting)
    assert restart_flags(driver, conn) == 0xC
    driver.do(TcpConnectionFails(conn, "reset"))  # that was no session yet
    conn = driver.incoming()
    assert restart_flags(driver, conn) == 0xC
    up = one(driver.receive(conn, open_message(), KEEPALIVE), SessionUp)
    assert [c.value[0] >> 4 for c in up.negotiated.capabilities_sent if c.code == 64] == [0xC]
    driver.do(TcpConnectionFails(conn, "reset"))
    assert restart_flags(driver, driver.incoming()) == 0x4
    driver.do(ManualStop())
    assert restart_flags(driver, dialled(driver, restarting)) == 0x4


def test_rfc4724_4_1_r_only_within_the_restart() -> None:
    driver = Driver(with_settings(restart_time_s=120))
    conn = one(driver.do(ManualStart(restarting_until=driver.now + 5)), Dial).conn
    driver.do(TcpCrAcked(conn, OURS, THEIRS), after=5)
    assert restart_flags(driver, conn) == 0x4


@pytest.mark.parametrize("restart_time_s", [None, 120])
def test_rfc4724_r_is_for_a_process_that_was_running_before(restart_time_s: int | None) -> None:
    driver = Driver(with_settings(restart_time_s=restart_time_s))
    until = driver.now + 120 * SECOND if restart_time_s is None else None
    conn = dialled(driver, ManualStart(restarting_until=until))
    assert restart_flags(driver, conn) == (0 if restart_time_s is None else 0x4)
