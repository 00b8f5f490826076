from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpbfd.wire.capabilities import (
    ENHANCED_ROUTE_REFRESH,
    EXTENDED_MESSAGE,
    ROUTE_REFRESH,
    Capabilities,
    Capability,
    GracefulRestart,
    add_path,
    describe_capability,
    extended_next_hop,
    four_octet_as,
    graceful_restart,
    multiprotocol,
    parse_capabilities,
    role,
)
from bgpbfd.wire.iana import BgpRole


def cap(code: int, text: str = "") -> Capability:
    return Capability(code, bytes.fromhex(text))


def test_capability_octets_of_the_rfcs() -> None:
    assert multiprotocol(IPV6_UNICAST) == cap(1, "0002 00 01")
    assert four_octet_as(4200000000) == cap(65, "fa56ea00")
    assert (cap(2), cap(70), cap(6)) == (ROUTE_REFRESH, ENHANCED_ROUTE_REFRESH, EXTENDED_MESSAGE)
    assert graceful_restart(False, False, 0, ()) == cap(64, "0000")
    assert graceful_restart(True, True, 120, [(IPV4_UNICAST, True), (IPV6_UNICAST, False)]) == cap(
        64, "c078 0001 01 80 0002 01 00"
    )


@pytest.mark.parametrize("time_s", [-1, 4096])
def test_rfc4724_3_restart_time_has_12_bits(time_s: int) -> None:
    with pytest.raises(ValueError, match="12 bits"):
        graceful_restart(False, False, time_s, ())


def test_rfc4760_8_no_multiprotocol_capability_is_told_from_some() -> None:
    assert parse_capabilities([ROUTE_REFRESH]).families is None
    assert parse_capabilities([multiprotocol(IPV6_UNICAST)] * 2).families == (IPV6_UNICAST,)


def test_everything_that_is_understood() -> None:
    got = parse_capabilities(
        [
            multiprotocol(IPV4_UNICAST),
            multiprotocol(Family(25, 65)),
            ROUTE_REFRESH,
            cap(5, "0001 0001 0002 0001 0080 0002"),
            EXTENDED_MESSAGE,
            cap(9, "03"),
            cap(64, "8078 0001 01 80"),
            four_octet_as(70000),
            cap(69, "0001 01 03 0002 01 01"),
            ENHANCED_ROUTE_REFRESH,
            cap(73, "04 746f7231 03 6c6162"),
            cap(74),
            cap(75, "04 42495244"),
            cap(128, "beef"),
        ]
    )
    assert got == Capabilities(
        families=(IPV4_UNICAST, Family(25, 65)),
        asn4=70000,
        route_refresh=True,
        enhanced_route_refresh=True,
        extended_message=True,
        graceful_restart=GracefulRestart(True, False, 120, ((IPV4_UNICAST, True),)),
        fqdn=("tor1", "lab"),
        software_version="BIRD",
        extended_next_hop=((IPV4_UNICAST, 2), (Family(1, 128), 2)),
        add_path=((IPV4_UNICAST, 3), (IPV6_UNICAST, 1)),
        role=3,
        bfd_strict=True,
        unknown=(cap(128, "beef"),),
    )


def test_rfc4724_3_last_copy_wins() -> None:
    got = parse_capabilities([graceful_restart(True, True, 9, ()), graceful_restart(False, False, 5, ())])
    assert got.graceful_restart == GracefulRestart(False, False, 5, ())


def test_rfc9234_4_2_differing_roles_are_flagged() -> None:
    assert parse_capabilities([cap(9, "03"), cap(9, "03")]).role_conflict is False
    assert parse_capabilities([cap(9, "03"), cap(9, "04")]).role_conflict is True


@pytest.mark.parametrize(
    "bad",
    [
        cap(1, "0001 00"),
        cap(2, "00"),
        cap(5),
        cap(5, "0001 0001 00"),
        cap(6, "00"),
        cap(9),
        cap(9, "0101"),
        cap(64),
        cap(64, "0078 0001 01"),
        cap(65, "fdf2"),
        cap(69),
        cap(69, "0001 01"),
        cap(69, "0001 01 04"),
        cap(69, "0001 01 00"),
        cap(70, "00"),
        cap(73, "05 61"),
        cap(73, "01 61 00 00"),
        cap(74, "00"),
        cap(75),
        cap(75, "01 61 61"),
    ],
)
def test_wrong_lengths_are_not_in_force_but_kept(bad: Capability) -> None:
    assert parse_capabilities([bad]) == Capabilities(malformed=(bad,))
    assert describe_capability(bad).startswith(f"malformed capability {bad.code}")


@pytest.mark.parametrize(
    ("capability", "text"),
    [
        (multiprotocol(IPV6_UNICAST), "multiprotocol ipv6 unicast"),
        (multiprotocol(Family(25, 65)), "multiprotocol afi 25 safi 65"),
        (ROUTE_REFRESH, "route refresh"),
        (four_octet_as(65001), "4-octet AS 65001"),
        (cap(9, "00"), "role provider"),
        (cap(9, "07"), "role 7"),
        (cap(5, "0001 0001 0002"), "extended next hop: ipv4 unicast over ipv6"),
        (
            graceful_restart(True, True, 120, [(IPV4_UNICAST, True)]),
            "graceful restart: time 120 s, restarting, notification, ipv4 unicast (forwarding kept)",
        ),
        (cap(69, "0001 01 02"), "additional paths: ipv4 unicast send"),
        (cap(71, "0001 01 80 000e10"), "long-lived graceful restart: 0x00010180000e10"),
        (cap(73, "01 61 00"), "host name a"),
        (cap(75, "03 61 1b 62"), "software version ab"),
        (cap(128, "beef"), "capability 128: 0xbeef"),
        (cap(129), "capability 129"),
    ],
)
def test_capabilities_in_words(capability: Capability, text: str) -> None:
    assert describe_capability(capability) == text


@given(
    st.lists(
        st.builds(
            Capability,
            st.sampled_from([1, 2, 5, 6, 9, 64, 65, 67, 69, 70, 71, 73, 74, 75, 200]),
            st.binary(max_size=16),
        ),
        max_size=8,
    )
)
def test_any_capability_is_read_or_kept(capabilities: list[Capability]) -> None:
    got = parse_capabilities(capabilities)
    for capability in capabilities:
        assert describe_capability(capability).isprintable()
    assert set(got.unknown) == {c for c in capabilities if c.code in {67, 71, 200}}


# -- constructors ------------------------------------------------------------------------------------------


def test_rfc7911_4_add_path_octets() -> None:
    assert add_path([(IPV4_UNICAST, 3), (IPV6_UNICAST, 1)]) == cap(69, "0001 01 03  0002 01 01")
    assert add_path([(IPV4_UNICAST, 2)]) == cap(69, "0001 01 02")
    for direction in (0, 4, 255):
        with pytest.raises(ValueError, match="none of 1"):
            add_path([(IPV4_UNICAST, direction)])


def test_rfc8950_4_extended_next_hop_octets_have_a_safi_of_two() -> None:
    assert extended_next_hop([IPV4_UNICAST]) == cap(5, "0001 0001 0002")
    assert extended_next_hop([IPV4_UNICAST, Family(1, 128)]) == cap(5, "0001 0001 0002  0001 0080 0002")


@pytest.mark.parametrize(
    ("ours", "octets"),
    [
        (BgpRole.PROVIDER, "00"),
        (BgpRole.RS, "01"),
        (BgpRole.RS_CLIENT, "02"),
        (BgpRole.CUSTOMER, "03"),
        (BgpRole.PEER, "04"),
    ],
)
def test_rfc9234_4_1_role_octets(ours: BgpRole, octets: str) -> None:
    assert role(ours) == cap(9, octets)
    assert parse_capabilities([role(ours)]).role == ours


def test_what_is_built_is_read_back() -> None:
    entries = ((IPV4_UNICAST, 3), (IPV6_UNICAST, 1), (Family(25, 70), 2))
    assert parse_capabilities([add_path(entries)]).add_path == entries
    assert parse_capabilities([extended_next_hop([IPV4_UNICAST])]).extended_next_hop == ((IPV4_UNICAST, 2),)


# -- copies ------------------------------------------------------------------------------------------------


def test_rfc7911_4_a_family_that_is_unknown_voids_no_other() -> None:
    got = parse_capabilities([cap(69, "4004 47 03  0001 01 01  0019 46 02")])
    assert got.add_path == ((Family(0x4004, 0x47), 3), (IPV4_UNICAST, 1), (Family(25, 70), 2))
    assert got.malformed == ()


@pytest.mark.parametrize("direction", ["00", "04", "80", "ff"])
def test_rfc7911_4_any_other_direction_makes_the_capability_one_that_is_ignored(direction: str) -> None:
    bad = cap(69, f"0001 01 03  0002 01 {direction}")
    assert parse_capabilities([bad]) == Capabilities(malformed=(bad,))
    # the copy that is fine stands
    assert parse_capabilities([cap(69, "0001 01 01"), bad]).add_path == ((IPV4_UNICAST, 1),)


def test_of_a_family_that_comes_twice_the_later_entry_counts() -> None:
    assert parse_capabilities([cap(69, "0001 01 03  0001 01 01")]).add_path == ((IPV4_UNICAST, 1),)
    assert parse_capabilities([cap(69, "0001 01 01"), cap(69, "0002 01 02  0001 01 02")]).add_path == (
        (IPV4_UNICAST, 2),
        (IPV6_UNICAST, 2),
    )


def test_rfc5492_4_equal_copies_are_one() -> None:
    one = parse_capabilities([extended_next_hop([IPV4_UNICAST])])
    assert parse_capabilities([extended_next_hop([IPV4_UNICAST])] * 3) == one
    for single in (multiprotocol(IPV4_UNICAST), ROUTE_REFRESH, four_octet_as(65001), role(BgpRole.PEER), cap(74)):
        assert parse_capabilities([single, single]) == parse_capabilities([single])


def test_of_differing_copies_the_last_counts() -> None:
    assert parse_capabilities([four_octet_as(65001), four_octet_as(65002)]).asn4 == 65002
    assert parse_capabilities([cap(73, "01 61 00"), cap(73, "01 62 00")]).fqdn == ("b", "")
    assert parse_capabilities([cap(75, "01 61"), cap(75, "01 62")]).software_version == "b"
    # a malformed copy takes nothing back
    assert parse_capabilities([four_octet_as(65001), cap(65, "00")]).asn4 == 65001


def test_rfc8950_4_other_families_and_next_hops_are_kept_as_they_are() -> None:
    got = parse_capabilities([cap(5, "0001 0001 0002  0001 0080 0002  0002 0001 0001")])
    assert got.extended_next_hop == ((IPV4_UNICAST, 2), (Family(1, 128), 2), (IPV6_UNICAST, 1))


def test_rfc9234_4_1_values_that_are_not_assigned_are_read() -> None:
    got = parse_capabilities([cap(9, "05")])
    assert (got.role, got.role_conflict, got.malformed) == (5, False, ())


def test_rfc4724_3_reserved_bits_are_ignored_and_unknown_families_kept() -> None:
    got = parse_capabilities([cap(64, "3fff  0019 46 ff  0001 01 7f")]).graceful_restart
    assert got == GracefulRestart(False, False, 0xFFF, ((Family(25, 70), True), (IPV4_UNICAST, False)))


def test_rfc4760_8_the_reserved_octet_is_ignored() -> None:
    assert parse_capabilities([cap(1, "0001 ff 01")]).families == (IPV4_UNICAST,)
