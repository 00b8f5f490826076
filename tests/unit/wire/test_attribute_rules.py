"""RFC 7606 §3, §4, §7, attribute by attribute: flags, lengths, duplicates, on every kind of session.

The table below is from the RFCs that define the attributes; what is expected follows from it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.messages import NotificationError
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, UpdateFault, decode_update
from bgpbfd.wire.update_out import encode_announce

W, D = "treat-as-withdraw", "attribute-discard"
WELL_KNOWN, OPTIONAL, OPTIONAL_TRANSITIVE = 0x40, 0x80, 0xC0
NLRI = bytes.fromhex("18cb0071")


@dataclass(frozen=True)
class Kind:
    """A session: external or not, AS numbers of four octets or two."""

    external: bool
    asn4: bool

    def context(self) -> UpdateContext:
        remote = 65001 if self.external else 65010
        return UpdateContext(self.asn4, self.external, frozenset({IPV4_UNICAST, IPV6_UNICAST}), remote, 65010)

    def __str__(self) -> str:
        return f"{'ebgp' if self.external else 'ibgp'}-as{4 if self.asn4 else 2}"


KINDS = [Kind(external, asn4) for external, asn4 in product((True, False), (True, False))]


@dataclass(frozen=True)
class Rule:
    """``good``: two valid values; ``bad``: malformed ones; ``internal``, ``two_octet``: from others it is discarded."""

    code: int
    flags: int
    good: tuple[str, str]
    bad: tuple[str, ...]
    malformed: str = W
    internal: bool = False
    two_octet: bool = False

    def discarded(self, kind: Kind) -> bool:
        return (self.internal and kind.external) or (self.two_octet and kind.asn4)

    def __str__(self) -> str:
        return f"attribute-{self.code}"


def multiple_of(size: int) -> tuple[str, ...]:
    """Lengths that RFC 7606 §7.8, §7.10, §7.14, §7.15 and RFC 8092 §5 forbid."""
    return ("", *("00" * length for length in (1, size - 1, size + 1, 2 * size - 1, 2 * size + 1)))


def lengths(*wrong: int) -> tuple[str, ...]:
    return tuple("01" * length for length in wrong)


def path_rule(asn4: bool) -> Rule:
    one, two, zero = ("0000fde9", "0000fdea", "00000000") if asn4 else ("fde9", "fdea", "0000")
    return Rule(
        2,
        WELL_KNOWN,
        (f"02 01 {one}", f"02 02 {one} {two}"),
        (
            "02",  # §7.2: a single octet
            "02 00",  # a segment of no ASes
            f"02 01 {one} 02",
            f"02 01 {one} 02 00",
            f"02 02 {one}",  # overrun
            f"02 01 {one[:-2]}",
            f"02 ff {one}",
            f"00 01 {one}",  # segment types that are not defined
            f"05 01 {one}",
            f"ff 01 {one}",
            f"02 02 {one} {zero}",  # RFC 7607 §2
            f"01 01 {zero}",
        ),
    )


def rules(kind: Kind) -> list[Rule]:
    aggregators = ("0000fde9 c0000201", "0000fdea c0000202") if kind.asn4 else ("fde9 c0000201", "fdea c0000202")
    no_aggregator = "00000000 c0000201" if kind.asn4 else "0000 c0000201"
    wrong_width = 6 if kind.asn4 else 8
    return [
        Rule(1, WELL_KNOWN, ("01", "02"), ("", "0000", "03", "ff")),
        path_rule(kind.asn4),
        Rule(3, WELL_KNOWN, ("c0000201", "c0000202"), lengths(0, 1, 3, 5, 16)),
        Rule(4, OPTIONAL, ("00000007", "00000008"), lengths(0, 1, 3, 5, 8)),
        Rule(5, WELL_KNOWN, ("00000064", "00000065"), lengths(0, 1, 3, 5, 8), internal=True),
        Rule(6, WELL_KNOWN, ("", ""), lengths(1, 2, 4), malformed=D),
        Rule(7, OPTIONAL_TRANSITIVE, aggregators, (*lengths(0, 5, wrong_width, 7, 9), no_aggregator), malformed=D),
        Rule(8, OPTIONAL_TRANSITIVE, ("fde90001", "fde90002 ffffff01"), multiple_of(4)),
        Rule(9, OPTIONAL, ("0a000001", "0a000002"), lengths(0, 1, 3, 5, 8), internal=True),
        Rule(10, OPTIONAL, ("0a000001", "0a000002 0a000003"), multiple_of(4), internal=True),
        Rule(16, OPTIONAL_TRANSITIVE, ("0002fde900000001", "0002fde900000002"), multiple_of(8)),
        Rule(
            17,
            OPTIONAL_TRANSITIVE,
            ("02 01 0000fde9", "02 01 00011170"),
            # RFC 6793 §6: too short, odd, bad segments; RFC 7607 §2: AS 0
            (*lengths(0, 1, 5, 7), "02 00 02 00 02 00", "02 02 00011170", "05 01 00011170", "02 01 00000000"),
            malformed=D,
            two_octet=True,
        ),
        Rule(
            18,
            OPTIONAL_TRANSITIVE,
            ("00011170 c0000201", "00011171 c0000201"),
            (*lengths(0, 6, 7, 9), "00000000 c0000201"),
            malformed=D,
            two_octet=True,
        ),
        Rule(25, OPTIONAL_TRANSITIVE, ("0002" + "20" * 18, "0003" + "20" * 18), multiple_of(20)),
        Rule(32, OPTIONAL_TRANSITIVE, ("01" * 12, "02" * 12), multiple_of(12)),
        Rule(35, OPTIONAL_TRANSITIVE, ("0000fde9", "0000fdea"), lengths(0, 1, 3, 5, 8)),
    ]


def attribute(flags: int, code: int, value: str) -> bytes:
    octets = bytes.fromhex(value)
    return bytes((flags, code, len(octets))) + octets


def mandatory(kind: Kind) -> dict[int, bytes]:
    """Well-formed ones: what every UPDATE needs (RFC 4271 §5), LOCAL_PREF inside."""
    needed = {1, 2, 3} if kind.external else {1, 2, 3, 5}
    return {rule.code: attribute(rule.flags, rule.code, rule.good[0]) for rule in rules(kind) if rule.code in needed}


def read(kind: Kind, attributes: list[bytes]) -> Update:
    block = b"".join(attributes)
    return decode_update(bytes(2) + len(block).to_bytes(2, "big") + block + NLRI, kind.context())


def beside(kind: Kind, code: int, *instead: bytes) -> Update:
    """An UPDATE whose attribute ``code`` is ``instead``; the others are the mandatory ones."""
    return read(kind, [octets for other, octets in mandatory(kind).items() if other != code] + list(instead))


def attributes_of(update: Update) -> PathAttributes:
    (reach,) = update.announced
    assert (reach.family, reach.nlri) == (IPV4_UNICAST, [NLRI])
    assert update.withdrawn == []
    return reach.attributes


def faults_of(update: Update) -> list[tuple[str, int | None, bytes]]:
    assert all(fault.reason for fault in update.faults)
    return [(fault.treatment, fault.attribute, fault.data) for fault in update.faults]


def assert_withdrawn(update: Update, code: int, octets: bytes) -> None:
    assert update.announced == []
    assert update.withdrawn == [Unreach(IPV4_UNICAST, [NLRI])]
    assert faults_of(update) == [(W, code, octets)]


CASES = [pytest.param(kind, rule, id=f"{kind}-{rule}") for kind in KINDS for rule in rules(kind)]
EVERY_BAD_VALUE = [
    pytest.param(kind, rule, value, id=f"{kind}-{rule}-{value.replace(' ', '') or 'empty'}")
    for kind in KINDS
    for rule in rules(kind)
    for value in rule.bad
]


@pytest.mark.parametrize(("kind", "rule"), CASES)
def test_well_formed_attributes_are_no_fault(kind: Kind, rule: Rule) -> None:
    for value in rule.good:
        update = beside(kind, rule.code, octets := attribute(rule.flags, rule.code, value))
        attributes_of(update)
        assert faults_of(update) == ([(D, rule.code, octets)] if rule.discarded(kind) else [])


@pytest.mark.parametrize(("kind", "rule", "value"), EVERY_BAD_VALUE)
def test_rfc7606_7_malformed_values(kind: Kind, rule: Rule, value: str) -> None:
    update = beside(kind, rule.code, octets := attribute(rule.flags, rule.code, value))
    if rule.discarded(kind) or rule.malformed == D:
        # RFC 7606 §2: the others stand
        without = beside(kind, rule.code, *([] if rule.code != 5 else [mandatory(kind).get(5, b"")]))
        assert attributes_of(update) == attributes_of(without)
        assert faults_of(update) == [(D, rule.code, octets)]
    else:
        assert_withdrawn(update, rule.code, octets)


@pytest.mark.parametrize(("kind", "rule", "value"), EVERY_BAD_VALUE)
def test_rfc7606_5_2_malformed_values_where_nothing_is_reachable(kind: Kind, rule: Rule, value: str) -> None:
    octets = attribute(rule.flags, rule.code, value)
    # a withdrawal is no reachable route
    body = b"\x00\x04" + NLRI + len(octets).to_bytes(2, "big") + octets
    if rule.discarded(kind) or rule.malformed == D:
        update = decode_update(body, kind.context())
        assert update.withdrawn == [Unreach(IPV4_UNICAST, [NLRI])]
        assert faults_of(update) == [(D, rule.code, octets)]
        return
    with pytest.raises(NotificationError) as caught:
        decode_update(body, kind.context())
    assert caught.value.code == 3
    assert caught.value.octets == octets
    # RFC 4271 §6.3: ORIGIN 3/6, AS_PATH 3/11, lengths 3/5
    expected = {1: 5 if len(octets) != 4 else 6, 2: 11}.get(rule.code, 5)
    assert caught.value.subcode == expected
    assert caught.value.data == (b"" if rule.code == 2 else octets)


@pytest.mark.parametrize(("kind", "rule"), CASES)
@pytest.mark.parametrize("change", [0x80, 0x40, 0xC0], ids=["optional", "transitive", "both"])
def test_rfc7606_3_c_wrong_flags(kind: Kind, rule: Rule, change: int) -> None:
    octets = attribute(rule.flags ^ change, rule.code, rule.good[0])
    update = beside(kind, rule.code, octets)
    if rule.discarded(kind):
        # §7.5, §7.9, §7.10, RFC 6793 §4.1: discarded whatever they are
        attributes_of(update)
        assert faults_of(update) == [(D, rule.code, octets)]
    else:
        assert_withdrawn(update, rule.code, octets)


@pytest.mark.parametrize(("kind", "rule"), CASES)
def test_rfc4271_4_3_the_partial_bit_and_the_low_bits_are_no_fault(kind: Kind, rule: Rule) -> None:
    plain = attributes_of(beside(kind, rule.code, attribute(rule.flags, rule.code, rule.good[0])))
    low = attributes_of(beside(kind, rule.code, attribute(rule.flags | 0x0F, rule.code, rule.good[0])))
    assert low == plain
    partial = beside(kind, rule.code, attribute(rule.flags | 0x20, rule.code, rule.good[0]))
    assert [treatment for treatment, _, _ in faults_of(partial)] == ([D] if rule.discarded(kind) else [])


@pytest.mark.parametrize(("kind", "rule"), CASES)
def test_rfc4271_4_3_extended_length_may_carry_a_short_value(kind: Kind, rule: Rule) -> None:
    value = bytes.fromhex(rule.good[0])
    octets = bytes((rule.flags | 0x10, rule.code)) + len(value).to_bytes(2, "big") + value
    plain = beside(kind, rule.code, attribute(rule.flags, rule.code, rule.good[0]))
    assert attributes_of(beside(kind, rule.code, octets)) == attributes_of(plain)


@pytest.mark.parametrize(("kind", "rule"), CASES)
def test_rfc7606_3_g_of_duplicates_the_first_counts(kind: Kind, rule: Rule) -> None:
    first, second = (attribute(rule.flags, rule.code, value) for value in rule.good)
    malformed = attribute(rule.flags, rule.code, rule.bad[0])
    alone = attributes_of(beside(kind, rule.code, first))
    both = [(D, rule.code, first)] if rule.discarded(kind) else []
    for later in (second, malformed):
        update = beside(kind, rule.code, first, later)
        assert attributes_of(update) == alone
        assert faults_of(update) == [*both, (D, rule.code, later)]
    three = beside(kind, rule.code, first, second, second)
    assert faults_of(three) == [*both, (D, rule.code, second), (D, rule.code, second)]
    # a malformed first one does not make the second count
    update = beside(kind, rule.code, malformed, first)
    treatment = D if rule.discarded(kind) else rule.malformed
    assert faults_of(update) == [(treatment, rule.code, malformed), (D, rule.code, first)]
    assert bool(update.announced) == (treatment == D)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("code", [1, 2, 3, 5])
def test_rfc7606_3_d_missing_ones(kind: Kind, code: int) -> None:
    update = beside(kind, code)
    if code == 5 and kind.external:
        assert faults_of(update) == []
        return
    block = b"".join(octets for other, octets in mandatory(kind).items() if other != code)
    assert_withdrawn(update, code, block)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", range(1, 8))
def test_rfc7606_4_an_attribute_cut_anywhere_is_treated_as_withdraw(kind: Kind, size: int) -> None:
    tail = attribute(0xC0, 8, "fde90001 ffffff01")[:size]
    update = read(kind, [*mandatory(kind).values(), tail])
    assert update.withdrawn == [Unreach(IPV4_UNICAST, [NLRI])]
    assert faults_of(update) == [(W, None, tail)]
    extended = bytes.fromhex("d0 08 0004 fde90001")[: min(size, 7)]
    assert faults_of(read(kind, [*mandatory(kind).values(), extended])) == [(W, None, extended)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rfc7606_4_of_a_cut_block_the_rest_is_checked_still(kind: Kind) -> None:
    first = attribute(0xC0, 8, "00")
    update = read(kind, [*mandatory(kind).values(), first, b"\xc0"])
    assert faults_of(update) == [(W, 8, first), (W, None, b"\xc0")]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rfc7606_3_h_the_strongest_action_is_taken_and_all_are_counted(kind: Kind) -> None:
    discarded, withdrawn = attribute(0x40, 6, "00"), attribute(0xC0, 32, "00")
    for extra in ([discarded, withdrawn], [withdrawn, discarded]):
        update = read(kind, [*mandatory(kind).values(), *extra])
        assert update.announced == []
        assert sorted(treatment for treatment, _, _ in faults_of(update)) == [D, W]
    with pytest.raises(NotificationError) as caught:
        read(kind, [*mandatory(kind).values(), withdrawn, bytes.fromhex("00 63 00")])
    assert (caught.value.code, caught.value.subcode) == (3, 2)


def test_rfc7606_7_2_confederation_segments_are_malformed_from_outside_only() -> None:
    for kind in KINDS:
        asn = "0000fde9" if kind.asn4 else "fde9"
        for segment in (3, 4):
            octets = attribute(0x40, 2, f"{segment:02x} 01 {asn} 02 01 {asn}")
            update = beside(kind, 2, octets)
            if kind.external:
                assert_withdrawn(update, 2, octets)
            else:
                assert [s.kind for s in attributes_of(update).as_path] == [segment, 2]


@pytest.mark.parametrize(("asn4", "path"), [(True, "02 02 0000fdea 0000fde9"), (False, "02 02 fdea fde9")])
def test_rfc4271_6_3_the_leftmost_as_is_the_peers(asn4: bool, path: str) -> None:
    outside, inside = Kind(True, asn4), Kind(False, asn4)
    octets = attribute(0x40, 2, path)
    assert_withdrawn(beside(outside, 2, octets), 2, octets)
    attributes_of(beside(inside, 2, octets))
    empty = attribute(0x40, 2, "")
    assert_withdrawn(beside(outside, 2, empty), 2, empty)
    assert attributes_of(beside(inside, 2, empty)).as_path == ()


def test_rfc4271_6_3_a_set_may_be_leftmost() -> None:
    update = beside(Kind(True, True), 2, attribute(0x40, 2, "01 02 0000fde9 0000fdea"))
    assert [s.kind for s in attributes_of(update).as_path] == [1]


def test_rfc4271_6_3_without_the_check_any_first_as_will_do() -> None:
    context = UpdateContext(True, True, frozenset({IPV4_UNICAST}), 0, 65010)
    block = bytes.fromhex("40010100 40020602010000fdea 400304c0000201")
    update = decode_update(bytes(2) + len(block).to_bytes(2, "big") + block + NLRI, context)
    assert update.faults == []


# -- what is not known to us -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("code", [0, 11, 12, 13, 19, 22, 23, 24, 27, 28, 29, 33, 40, 99, 128, 241, 255])
def test_rfc4271_5_and_6_3_unknown_attributes(kind: Kind, code: int) -> None:
    value = "0102030405"
    kept = attributes_of(read(kind, [*mandatory(kind).values(), octets := attribute(0xC0, code, value)]))
    # passed on with the Partial bit
    ((flags, kept_code, kept_value),) = kept.unknown
    assert (flags, kept_code, kept_value) == (0xE0, code, bytes.fromhex(value))
    for message in encode_announce(IPV4_UNICAST, kept, [NLRI], kind.context()):
        assert attribute(0xE0, code, value) in message
    dropped = read(kind, [*mandatory(kind).values(), octets := attribute(0x80, code, value)])
    assert attributes_of(dropped).unknown == ()
    assert faults_of(dropped) == [("ignored", code, octets)]
    for flags in (0x00, 0x40):
        with pytest.raises(NotificationError) as caught:
            read(kind, [*mandatory(kind).values(), octets := attribute(flags, code, value)])
        assert (caught.value.code, caught.value.subcode) == (3, 2)
        assert caught.value.data == caught.value.octets == octets


def test_rfc7606_3_g_unknown_duplicates_too() -> None:
    kind = Kind(True, True)
    update = read(kind, [*mandatory(kind).values(), attribute(0xC0, 99, "01"), later := attribute(0xC0, 99, "02")])
    assert [unknown.value for unknown in attributes_of(update).unknown] == [b"\x01"]
    assert faults_of(update) == [(D, 99, later)]


def test_rfc7606_7_14_unknown_types_of_extended_communities_are_no_fault() -> None:
    kind = Kind(True, True)
    update = read(kind, [*mandatory(kind).values(), attribute(0xC0, 16, "3f3f000000000000 7f00000000000000")])
    assert faults_of(update) == []
    assert len(attributes_of(update).extended_communities) == 2


@pytest.mark.parametrize("code", [7, 8, 16, 25, 32, 35])
def test_rfc4271_5_a_partial_bit_is_passed_on(code: int) -> None:
    kind = Kind(True, True)
    (value,) = (rule.good[0] for rule in rules(kind) if rule.code == code)
    octets = attribute(0xE0, code, value)
    kept = attributes_of(read(kind, [*mandatory(kind).values(), octets]))
    (message,) = encode_announce(IPV4_UNICAST, kept, [NLRI], kind.context())
    assert octets in message
    whole = attributes_of(read(kind, [*mandatory(kind).values(), attribute(0xC0, code, value)]))
    (message,) = encode_announce(IPV4_UNICAST, whole, [NLRI], kind.context())
    assert attribute(0xC0, code, value) in message


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("octets", ["80 1a 0b 01 000b 0000000000000001", "80 1a 00", "80 1a 03 01 0002", "40 1a 01 00"])
def test_rfc7311_3_3_aigp_is_discarded(kind: Kind, octets: str) -> None:
    update = read(kind, [*mandatory(kind).values(), bytes.fromhex(octets)])
    assert update.announced == [Reach(IPV4_UNICAST, attributes_of(read(kind, list(mandatory(kind).values()))), [NLRI])]
    assert update.faults == [UpdateFault(D, 26, update.faults[0].reason, bytes.fromhex(octets))]
    assert "AIGP" in update.faults[0].reason


def test_equal_attributes_in_another_order_are_equal() -> None:
    kind = Kind(True, True)
    one, two = attribute(0xC0, 99, "01"), attribute(0xC0, 98, "02")
    first, second = ([*mandatory(kind).values(), *extra] for extra in ((one, two), (two, one)))
    assert attributes_of(read(kind, first)) == attributes_of(read(kind, second))
