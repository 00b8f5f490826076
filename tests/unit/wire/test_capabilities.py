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
    describe_capability,
    four_octet_as,
    graceful_restart,
    multiprotocol,
    parse_capabilities,
)


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
        (cap(5, "0001 0001 0002"), "extended next hop: ipv4 unicast over afi 2"),
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
