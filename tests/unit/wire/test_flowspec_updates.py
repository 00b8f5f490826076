"""Flow specifications inside UPDATEs: one that is malformed costs itself and no other (RFC 8955 §10, RFC 7606 §5.4)."""

from __future__ import annotations

import pytest

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_FLOW, Family, Prefix
from bgpbfd.wire.flowspec_text import nlri_matches, nlri_text
from bgpbfd.wire.messages import NotificationError
from bgpbfd.wire.update import Unreach, Update, UpdateContext, decode_update

GOOD = "0b 01 18 c00002 03 81 06 04 81 19"
OTHER = "03 03 81 11"
GOOD6 = "0f 01 20 00 20010db8 02 68 41 2468acf134"
ATTRIBUTES = "40 01 01 00  40 02 06 02 01 0000fde9"
MALFORMED = [
    "03 0e 81 06",  # RFC 8955 §4.2: a type that is not known
    "06 03 81 06 01 08 0a",  # not ascending
    "06 03 81 06 03 81 11",  # twice
    "03 03 01 06",  # no end of the operator list
    "02 03 81",  # cut short
    "03 01 21 c0",  # a prefix of 33 bits
    "04 0c 91 0001",  # fragment of two octets
]


def read(attributes: str, family: Family = IPV4_FLOW, *, only: bool = False) -> Update:
    octets = bytes.fromhex(attributes)
    families = frozenset({family} if only else {IPV4_UNICAST, family})
    context = UpdateContext(True, True, families, remote_asn=65001, local_asn=65010)
    return decode_update(bytes(2) + len(octets).to_bytes(2, "big") + octets, context)


def reach(*rules: str, family: Family = IPV4_FLOW) -> str:
    octets = bytes.fromhex("".join(rules))
    return f"80 0e {len(octets) + 5:02x} {family.afi:04x} 85 00 00 {octets.hex()} {ATTRIBUTES}"


@pytest.mark.parametrize("wrong", MALFORMED)
def test_rfc7606_5_4_a_malformed_rule_is_treated_as_withdrawn_alone(wrong: str) -> None:
    got = read(reach(GOOD, wrong, OTHER))
    (announced,) = got.announced
    octets = bytes.fromhex(wrong)
    assert announced.nlri == [bytes.fromhex(GOOD), bytes.fromhex(OTHER)]
    assert got.withdrawn == [Unreach(IPV4_FLOW, [octets])]
    (fault,) = got.faults
    assert (fault.treatment, fault.attribute, fault.data) == ("treat-as-withdraw", 14, octets)
    assert "flow specification" in fault.reason


def test_rfc7606_5_4_an_update_of_malformed_rules_alone_announces_nothing() -> None:
    got = read(reach(*MALFORMED))
    assert got.announced == []
    assert got.withdrawn == [Unreach(IPV4_FLOW, [bytes.fromhex(rule) for rule in MALFORMED])]
    assert [fault.treatment for fault in got.faults] == ["treat-as-withdraw"] * len(MALFORMED)


def test_a_malformed_rule_that_is_withdrawn_is_counted() -> None:
    got = read(f"80 0f 13 0001 85 {GOOD} {MALFORMED[0]}")
    assert bytes.fromhex(GOOD) in got.withdrawn[0].nlri
    assert [(fault.treatment, fault.attribute) for fault in got.faults] == [("treat-as-withdraw", 15)]


def test_rfc8956_3_1_an_ipv4_rule_is_malformed_as_an_ipv6_one() -> None:
    assert read(reach(GOOD6, family=IPV6_FLOW), IPV6_FLOW).faults == []
    got = read(reach(GOOD6, GOOD, family=IPV6_FLOW), IPV6_FLOW)
    assert got.announced[0].nlri == [bytes.fromhex(GOOD6)]
    assert [fault.data for fault in got.faults] == [bytes.fromhex(GOOD)]


def test_rfc7606_5_3_a_length_beyond_the_field_hides_the_next_rule() -> None:
    """It disables the family, and resets where the session has no other one."""
    got = read(reach(GOOD, "0c 03 81 06"))
    assert ([family for family, _ in got.disabled], got.announced) == ([IPV4_FLOW], [])
    with pytest.raises(NotificationError) as caught:
        read(reach(GOOD, "0c 03 81 06"), only=True)
    assert (caught.value.code, caught.value.subcode) == (3, 9)


def test_many_malformed_rules_cost_one_look_each() -> None:
    octets = bytes.fromhex(MALFORMED[4]) * 20_000
    block = bytes.fromhex("90 0e") + (len(octets) + 5).to_bytes(2, "big") + bytes.fromhex("0001850000") + octets
    got = read((block + bytes.fromhex(ATTRIBUTES)).hex())
    assert len(got.faults) == 20_000


def test_nlri_text_has_the_rule_in_words_or_in_hex() -> None:
    rule = Prefix(1, bytes.fromhex(GOOD), 133)
    assert nlri_text(rule) == "destination 192.0.2.0/24, protocol =6, port =25"
    assert nlri_matches(Prefix(2, bytes.fromhex(GOOD6), 133))[0] == "destination 2001:db8::/32"
    assert nlri_matches(Prefix(1, bytes.fromhex(MALFORMED[0]), 133)) == ["0x030e8106"]
    assert nlri_text(Prefix.parse("192.0.2.0/24")) == "192.0.2.0/24"


def test_a_rule_and_a_prefix_of_the_same_octets_are_two_keys() -> None:
    octets = bytes.fromhex("08 0a")
    keys = {Prefix(1, octets): "unicast", Prefix(1, octets, 133): "flow"}
    assert len(keys) == 2
    assert [str(key.family) for key in keys] == ["ipv4 unicast", "ipv4 flow"]
    assert str(Prefix(1, octets, 133)) == "ipv4 flow 0x080a"
