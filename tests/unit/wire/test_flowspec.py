"""Flow specifications: octets, order, actions and text."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.core import AFI_IPV4, AFI_IPV6
from bgpbfd.wire import flowspec, flowspec_text
from bgpbfd.wire.flowspec import (
    ComponentType,
    FlowRule,
    FramingError,
    Mark,
    PrefixMatch,
    Redirect,
    RuleError,
    Term,
    TrafficAction,
    TrafficRate,
    ValueMatch,
)


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def rule(afi: int, *matches: str) -> FlowRule:
    return flowspec_text.parse_rule(afi, matches)


# -- the RFCs' examples ------------------------------------------------------------------------------------

EXAMPLES = [
    # RFC 8955 §4.3.1
    (AFI_IPV4, "0b 01 18 c00002 03 81 06 04 81 19", ["destination 192.0.2.0/24", "protocol =6", "port =25"]),
    # §4.3.2
    (
        AFI_IPV4,
        "12 01 18 c00002 02 18 cb0071 04 03 89 45 8b 91 1f90",
        ["destination 192.0.2.0/24", "source 203.0.113.0/24", "port >=137 <=139 | =8080"],
    ),
    # RFC 8956 §3.8.1
    (
        AFI_IPV6,
        "12 01 20 00 20010db8 02 68 40 123456789a 03 81 06",
        ["destination 2001:db8::/32", "source ::1234:5678:9a00:0/104/64", "protocol =6"],
    ),
    # §3.8.2
    (
        AFI_IPV6,
        "0f 01 20 00 20010db8 02 68 41 2468acf134",
        ["destination 2001:db8::/32", "source ::1234:5678:9a00:0/104/65"],
    ),
]


@pytest.mark.parametrize(("afi", "nlri", "text"), EXAMPLES)
def test_rfc8955_4_3_and_rfc8956_3_8_examples(afi: int, nlri: str, text: list[str]) -> None:
    (body,) = flowspec.split_nlri(octets(nlri))
    decoded = flowspec.decode_rule(afi, body)
    assert flowspec_text.format_rule(decoded) == text
    assert flowspec.frame_rule(flowspec.encode_rule(decoded)) == octets(nlri)
    assert flowspec.encode_nlri(rule(afi, *text)) == octets(nlri)
    assert flowspec.decode_nlri(afi, octets(nlri)) == decoded


def test_bgpd_rs_example_of_the_configuration() -> None:
    matches = ["source 3001:100::/56", "destination-port >8000 <=8080", "packet-length >100"]
    assert flowspec.encode_rule(rule(AFI_IPV6, *matches)) == octets(
        "02 38 00 30010100000000 05 12 1f40 d5 1f90 0a 82 64"
    )


def test_components_are_put_in_ascending_order() -> None:
    forward = rule(AFI_IPV4, "destination 192.0.2.0/24", "protocol =17", "dscp =46")
    assert rule(AFI_IPV4, "dscp =46", "protocol =17", "destination 192.0.2.0/24") == forward
    assert [match.kind for match in forward.matches] == [1, 3, 11]


# -- framing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "head"), [(0xEF, "ef"), (0xF0, "f0f0"), (0xFFF, "ffff")])
def test_rfc8955_4_1_length_of_240_and_more_takes_two_octets(size: int, head: str) -> None:
    framed = flowspec.frame_rule(bytes(size))
    assert framed == octets(head) + bytes(size)
    assert flowspec.split_nlri(framed + b"\x01\xff") == [bytes(size), b"\xff"]


def test_rfc8955_4_1_a_rule_above_4095_octets_cannot_be_framed() -> None:
    with pytest.raises(ValueError, match="at most 4095"):
        flowspec.frame_rule(bytes(4096))


@pytest.mark.parametrize("data", ["05 01020304", "f0", "f1", "f005 01020304", "01"])
def test_a_length_beyond_the_field_is_a_framing_error(data: str) -> None:
    with pytest.raises(FramingError):
        flowspec.split_nlri(octets(data))


@pytest.mark.parametrize("data", ["", "03 03 81 06 03 03 81 11"])
def test_one_nlri_is_one_rule(data: str) -> None:
    with pytest.raises(FramingError, match="expected one"):
        flowspec.decode_nlri(AFI_IPV4, octets(data))


# -- malformed rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("afi", "body"),
    [
        (AFI_IPV4, ""),
        (AFI_IPV4, "00 81 06"),  # type 0 is reserved
        (AFI_IPV4, "0d a1 00000001"),  # flow label is IPv6's
        (AFI_IPV6, "0e 81 01"),  # unassigned
        (AFI_IPV4, "03 81 06 03 81 11"),  # twice
        (AFI_IPV4, "04 81 19 03 81 06"),  # out of order
        (AFI_IPV4, "01"),
        (AFI_IPV4, "01 21 c000020100"),  # longer than 32
        (AFI_IPV4, "01 18 c000"),  # cut short
        (AFI_IPV6, "01 20"),
        (AFI_IPV6, "01 81 00 " + "00" * 17),
        (AFI_IPV6, "01 20 20"),  # offset = length
        (AFI_IPV6, "01 20 21 00"),
        (AFI_IPV6, "01 00 01"),
        (AFI_IPV4, "03"),
        (AFI_IPV4, "03 01 06"),  # no end of list
        (AFI_IPV4, "03 91 06"),  # value cut short
        (AFI_IPV4, "09 a1 00000002"),  # TCP flags are 1 or 2 octets
        (AFI_IPV4, "0b 91 002e"),  # DSCP is 1 octet
        (AFI_IPV4, "0c 91 0002"),  # fragment is 1 octet
    ],
)
def test_rfc8955_4_malformed_rules_are_typed(afi: int, body: str) -> None:
    with pytest.raises(RuleError) as error:
        flowspec.decode_rule(afi, octets(body))
    assert error.value.octets == octets(body)


# -- what is ignored when received -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("afi", "received", "meant"),
    [
        (AFI_IPV4, "03 89 06", "03 81 06"),  # §4.2.1.1: the reserved bit
        (AFI_IPV4, "09 8d 02", "09 81 02"),  # §4.2.1.2
        (AFI_IPV4, "03 c1 06", "03 81 06"),  # §4.2.1.1: AND in the first operator
        (AFI_IPV4, "0b 81 ee", "0b 81 2e"),  # §4.2.2.11: six bits of DSCP
        (AFI_IPV4, "0c 81 f2", "0c 81 02"),  # §4.2.2.12
        (AFI_IPV6, "0c 81 f3", "0c 81 02"),  # RFC 8956 §3.6: no DF
        (AFI_IPV4, "09 91 f012", "09 91 0012"),  # §4.2.2.9: the data offset's bits
        (AFI_IPV4, "01 14 c0000f", "01 14 c00000"),  # padding
        (AFI_IPV6, "02 68 41 2468acf135", "02 68 41 2468acf134"),  # RFC 8956 §3.1
    ],
)
def test_reserved_bits_and_padding_are_ignored(afi: int, received: str, meant: str) -> None:
    assert flowspec.encode_rule(flowspec.decode_rule(afi, octets(received))) == octets(meant)


def test_widths_that_are_only_a_should_are_kept() -> None:
    body = octets("03 91 0006 05 a1 00000050 0a b1 0000000000000064")
    decoded = flowspec.decode_rule(AFI_IPV4, body)
    assert flowspec_text.format_rule(decoded) == ["protocol =6", "destination-port =80", "packet-length =100"]
    assert flowspec.encode_rule(decoded) == body


# -- order -------------------------------------------------------------------------------------------------

# Each list has the rule with the highest precedence first (RFC 8955 §5.1).
ORDERED = [
    (AFI_IPV4, [["destination 10.0.0.0/8"], ["source 10.0.0.0/8"], ["protocol =6"]]),
    (AFI_IPV4, [["destination 10.1.0.0/16"], ["destination 10.0.0.0/8"]]),  # more specific first
    (AFI_IPV4, [["destination 10.0.0.0/8"], ["destination 11.1.0.0/16"]]),  # else the lower address
    (AFI_IPV4, [["source 10.0.0.0/9"], ["source 10.128.0.0/10"], ["source 0.0.0.0/0"]]),
    (AFI_IPV4, [["port =25", "dscp =1"], ["port =25"]]),  # a component that the other lacks
    (AFI_IPV4, [["port =25"], ["destination-port =1", "source-port =1"]]),
    (AFI_IPV4, [["port =6"], ["port =7"]]),  # memcmp
    (AFI_IPV4, [["port <7 | =9"], ["port =7"]]),  # 04 07 … before 81 07
    (AFI_IPV4, [["protocol =1 | =2 | =3"], ["protocol =1 | =3"]]),
    (AFI_IPV6, [["source ::1:0/112/64"], ["source ::1:0/128/65"]]),  # RFC 8956 §4: lower offset first
    (AFI_IPV6, [["source ::1:0/112/64"], ["source ::/96/64"], ["source ::2:0:0/112/64"]]),
]


@pytest.mark.parametrize(("afi", "ordered"), ORDERED)
def test_rfc8955_5_1_order(afi: int, ordered: list[list[str]]) -> None:
    rules = [rule(afi, *matches) for matches in ordered]
    backwards = rules[::-1]
    assert sorted(backwards, key=flowspec.precedence) == rules
    for index, first in enumerate(rules):
        assert flowspec.compare(first, first) == 0
        for second in rules[index + 1 :]:
            assert flowspec.compare(first, second) < 0 < flowspec.compare(second, first)


def test_rfc8955_5_1_on_an_equal_common_prefix_the_longer_string_comes_first() -> None:
    # 81 06 is a prefix of no other list (the end-of-list bit ends it), so only widths can show it
    long = FlowRule(AFI_IPV4, (ValueMatch(ComponentType.PORT, (Term(1, 0x06), Term(1, 7))),))
    short = FlowRule(AFI_IPV4, (ValueMatch(ComponentType.PORT, (Term(1, 0x07),)),))
    assert flowspec.compare(long, short) < 0  # 01 … below 81 …
    assert flowspec._compare_octets(b"\x01\x02\x03", b"\x01\x02") < 0


# -- text of matches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("destination-port >8000 <=8080", "05 12 1f40 d5 1f90"),
        ("destination-port >8000&<=8080", "05 12 1f40 d5 1f90"),
        ("destination-port >8080 & <8088 | =3128", "05 12 1f90 54 1f98 91 0c38"),
        ("source-port >=1024", "06 93 0400"),
        ("source-port =>1024", "06 93 0400"),
        ("port 80", "04 81 50"),
        ("port !=80 <>81", "04 06 50 c6 51"),
        ("port <=>1 | !<=>1", "04 07 01 80 01"),
        ("port 255 | 256", "04 01 ff 91 0100"),
        ("protocol tcp | =udp | 47", "03 01 06 01 11 81 2f"),
        ("icmp-type =8", "07 81 08"),
        ("icmp-code =0", "08 81 00"),
        ("tcp-flags =syn+ack", "09 81 12"),
        ("tcp-flags syn !ack", "09 00 02 c2 10"),
        ("tcp-flags !=fin+syn", "09 83 03"),
        ("tcp-flags =0x100", "09 91 0100"),
        ("packet-length >100", "0a 82 64"),
        ("dscp =46", "0b 81 2e"),
        ("fragment is-fragment", "0c 80 02"),
        ("fragment not-a-fragment", "0c 82 02"),
        ("fragment =first-fragment+last-fragment | dont-fragment", "0c 01 0c 80 01"),
        ("DESTINATION 192.0.2.128/25", "01 19 c0000280"),
        ("source 0.0.0.0/0", "02 00"),
        ("source 192.0.2.1", "02 20 c0000201"),
    ],
)
def test_text_of_ipv4_matches(text: str, encoded: str) -> None:
    match = flowspec_text.parse_match(AFI_IPV4, text)
    assert flowspec.encode_rule(FlowRule(AFI_IPV4, (match,))) == octets(encoded)
    assert flowspec_text.parse_match(AFI_IPV4, flowspec_text.format_match(AFI_IPV4, match)) == match


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("flow-label =1048575", "0d a1 000fffff"),  # RFC 8956 §3.7: 4 octets
        ("next-header =58", "03 81 3a"),
        ("source ::/0", "02 00 00"),
        ("source 2001:db8::1", "02 80 00 20010db8000000000000000000000001"),
        ("destination ::1:0:0/96/64", "01 60 40 00000001"),
        ("fragment last-fragment", "0c 80 08"),
    ],
)
def test_text_of_ipv6_matches(text: str, encoded: str) -> None:
    match = flowspec_text.parse_match(AFI_IPV6, text)
    assert flowspec.encode_rule(FlowRule(AFI_IPV6, (match,))) == octets(encoded)
    assert flowspec_text.parse_match(AFI_IPV6, flowspec_text.format_match(AFI_IPV6, match)) == match


@pytest.mark.parametrize(
    ("afi", "text", "hint"),
    [
        (AFI_IPV4, "", "one of destination, source"),
        (AFI_IPV4, "dport =1", "destination-port"),
        (AFI_IPV4, "port", "at the end"),
        (AFI_IPV4, "port =80 |", "at the end"),
        (AFI_IPV4, "port | =80", "both sides"),
        (AFI_IPV4, "port =80 | | =81", "both sides"),
        (AFI_IPV4, "port =65536", "up to 65535"),
        (AFI_IPV4, "port ==80", "such as =80"),
        (AFI_IPV4, "port !80", "such as =80"),
        (AFI_IPV4, "port http", "such as =80"),
        (AFI_IPV4, "port 80-90", "such as =80"),
        (AFI_IPV4, "dscp =64", "up to 63"),
        (AFI_IPV4, "protocol =256", "up to 255"),
        (AFI_IPV4, "tcp-flags =xyz", "syn"),
        (AFI_IPV4, "tcp-flags >2", "syn"),
        (AFI_IPV4, "flow-label =1", "IPv6"),
        (AFI_IPV6, "flow-label =1048576", "1048575"),
        (AFI_IPV6, "fragment dont-fragment", "RFC 8956"),
        (AFI_IPV4, "destination 192.0.2.1/24", "expected 192.0.2.0/24"),
        (AFI_IPV4, "destination 192.0.2.0/33", "IPv4 prefix"),
        (AFI_IPV4, "destination 2001:db8::/32", "IPv4 prefix"),
        (AFI_IPV6, "destination 192.0.2.0/24", "IPv6 prefix"),
        (AFI_IPV6, "destination 2001:db8::1:0:0/96/64", "expected ::1:0:0/96/64"),
        (AFI_IPV6, "destination ::/64/64", "IPv6 prefix"),
        (AFI_IPV6, "destination fe80::%1/64", "IPv6 prefix"),
        (AFI_IPV4, "destination 0.0.0.0/8/4", "IPv4 prefix"),
    ],
)
def test_bad_match_is_refused_with_what_would_be_right(afi: int, text: str, hint: str) -> None:
    with pytest.raises(ValueError) as error:
        flowspec_text.parse_match(afi, text)
    assert hint in str(error.value)


def test_a_rule_takes_each_type_once_and_is_not_empty() -> None:
    with pytest.raises(ValueError, match="port: only once"):
        rule(AFI_IPV4, "port =80", "port =81")
    with pytest.raises(ValueError, match="at least one match"):
        rule(AFI_IPV4)


# -- actions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "action", "encoded"),
    [
        ("traffic-rate 24000", TrafficRate(24000.0), "8006 0000 46bb8000"),  # RFC 8955 §7.1
        ("traffic-rate 0", TrafficRate(0.0), "8006 0000 00000000"),
        ("traffic-rate 1.5 as 65000", TrafficRate(1.5, asn=65000), "8006 fde8 3fc00000"),
        ("traffic-rate-packets 1000", TrafficRate(1000.0, packets=True), "800c 0000 447a0000"),  # §7.2
        ("traffic-action sample", TrafficAction(True, False), "8007 000000000002"),  # §7.3
        ("traffic-action continue", TrafficAction(False, True), "8007 000000000001"),
        ("traffic-action sample continue", TrafficAction(True, True), "8007 000000000003"),
        ("traffic-action none", TrafficAction(False, False), "8007 000000000000"),
        ("redirect 6:302", Redirect(octets("0002 0006 0000012e")), "8008 0006 0000012e"),  # §7.4
        ("redirect 192.0.2.1:5", Redirect(octets("0102 c0000201 0005")), "8108 c0000201 0005"),
        ("redirect 4200000000:1", Redirect(octets("0202 fa56ea00 0001")), "8208 fa56ea00 0001"),
        ("mark 46", Mark(46), "8009 00000000002e"),  # §7.5
        (
            "redirect [2001:db8::1]:5",
            Redirect(octets("20010db8000000000000000000000001 0005")),
            "000d 20010db8000000000000000000000001 0005",  # RFC 8956 §6.1
        ),
    ],
)
def test_actions_both_ways(text: str, action: flowspec.Action, encoded: str) -> None:
    assert flowspec_text.parse_actions(text) == (action,)
    assert flowspec_text.format_actions([action]) == text
    assert flowspec.encode_action(action) == octets(encoded)
    assert flowspec.decode_action(octets(encoded)) == action


def test_several_actions_and_other_spellings() -> None:
    assert flowspec_text.parse_actions("Discard, mark 10") == (TrafficRate(0.0), Mark(10))
    assert flowspec_text.format_actions([TrafficRate(0.0), Mark(10)]) == "traffic-rate 0, mark 10"


@pytest.mark.parametrize(
    ("received", "action"),
    [
        ("8006 0000 c47a0000", TrafficRate(0.0)),  # §7.1: negative is 0
        ("8006 0000 80000000", TrafficRate(0.0)),
        ("8007 ffffffffff fc".replace(" ", ""), TrafficAction(False, False)),  # §7.3: unused bits ignored
        ("8009 ffffffffff ff".replace(" ", ""), Mark(63)),  # §7.5: reserved bits ignored
        ("8006 0000 7fc00000", None),  # no number
        ("8006 0000 7f800000", None),
        ("8008 0000 00000001", None),  # AS 0
        ("0002 fde8 00000001", None),  # a plain route target
        ("800b 0000 00000000", None),
        ("000c" + "00" * 18, None),
    ],
)
def test_rfc8955_7_what_is_received(received: str, action: flowspec.Action | None) -> None:
    assert flowspec.decode_action(octets(received)) == action


def test_a_negative_zero_rate_is_zero() -> None:
    action = flowspec.decode_action(octets("8006 0000 80000000"))
    assert isinstance(action, TrafficRate)
    assert struct.pack(">f", action.rate) == bytes(4)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "expected traffic-rate"),
        ("drop", "expected traffic-rate"),
        ("traffic-rate", "expected traffic-rate"),
        ("traffic-rate 10Kbps", "expected traffic-rate"),
        ("traffic-rate -1", "expected traffic-rate"),
        ("traffic-rate 1 as x", "expected traffic-rate"),
        ("traffic-action terminal", "traffic-action continue"),
        ("traffic-action", "expected traffic-rate"),
        ("mark 64", "0 to 63"),
        ("redirect vrf:test", "AS number"),
        ("redirect [::1]:65536", "up to 65535"),
        ("redirect [::g]:1", "expected"),
        ("mark 1,", "expected traffic-rate"),
    ],
)
def test_bad_action_is_refused_with_what_would_be_right(text: str, hint: str) -> None:
    with pytest.raises(ValueError) as error:
        flowspec_text.parse_actions(text)
    assert hint in str(error.value)


# -- properties --------------------------------------------------------------------------------------------

LIMITS = {3: 0xFF, 7: 0xFF, 8: 0xFF, 9: 0x0FFF, 11: 0x3F, 12: 0x0F, 13: 0xFFFFF}


@st.composite
def prefix_matches(draw: st.DrawFn, afi: int, kind: ComponentType) -> PrefixMatch:
    length = draw(st.integers(0, 32 if afi == AFI_IPV4 else 128))
    offset = draw(st.integers(0, length - 1)) if afi == AFI_IPV6 and length else 0
    size = length - offset
    bits = draw(st.integers(0, (1 << size) - 1))
    count = (size + 7) // 8
    return PrefixMatch(kind, length, offset, (bits << count * 8 - size).to_bytes(count, "big"))


@st.composite
def value_matches(draw: st.DrawFn, afi: int, kind: ComponentType) -> ValueMatch:
    terms = []
    for index in range(draw(st.integers(1, 4))):
        value = draw(st.integers(0, LIMITS.get(kind, 0xFFFF)))
        if kind == 12 and afi == AFI_IPV6:
            value &= 0x0E
        width = 4 if kind == 13 else 1 if value <= 0xFF else 2
        operator = draw(st.integers(0, 3 if kind in {9, 12} else 7))
        terms.append(Term(operator, value, draw(st.booleans()) and index > 0, width))
    return ValueMatch(kind, tuple(terms))


@st.composite
def rules(draw: st.DrawFn, afi: int | None = None) -> FlowRule:
    afi = afi or draw(st.sampled_from([AFI_IPV4, AFI_IPV6]))
    numbers = st.integers(1, 13 if afi == AFI_IPV6 else 12)
    kinds = [ComponentType(k) for k in sorted(draw(st.sets(numbers, min_size=1, max_size=5)))]
    matches: list[flowspec.Match] = []
    for kind in kinds:
        if kind <= 2:
            matches.append(draw(prefix_matches(afi, kind)))
        else:
            matches.append(draw(value_matches(afi, kind)))
    return FlowRule(afi, tuple(matches))


@given(st.lists(rules(AFI_IPV6), max_size=4))
def test_octets_round_trip(many: list[FlowRule]) -> None:
    data = b"".join(flowspec.frame_rule(flowspec.encode_rule(one)) for one in many)
    assert [flowspec.decode_rule(AFI_IPV6, body) for body in flowspec.split_nlri(data)] == many


@given(rules())
def test_text_round_trip(one: FlowRule) -> None:
    assert flowspec_text.parse_rule(one.afi, flowspec_text.format_rule(one)) == one
    assert flowspec.decode_rule(one.afi, flowspec.encode_rule(one)) == one


@given(rules(AFI_IPV6), rules(AFI_IPV6), rules(AFI_IPV6))
def test_order_is_total(a: FlowRule, b: FlowRule, c: FlowRule) -> None:
    assert (flowspec.compare(a, b) > 0) == (flowspec.compare(b, a) < 0)
    assert (flowspec.compare(a, b) == 0) == (flowspec.encode_rule(a) == flowspec.encode_rule(b))
    first, second, third = sorted([a, b, c], key=flowspec.precedence)
    assert flowspec.compare(first, third) <= 0
    assert flowspec.compare(first, second) <= 0
    assert flowspec.compare(second, third) <= 0


@given(st.sampled_from([AFI_IPV4, AFI_IPV6]), st.binary(max_size=60))
def test_any_octets_decode_or_raise_the_typed_errors(afi: int, data: bytes) -> None:
    with contextlib.suppress(FramingError):
        flowspec.split_nlri(data)
    with contextlib.suppress(RuleError):
        decoded = flowspec.decode_rule(afi, data)
        assert flowspec.decode_rule(afi, flowspec.encode_rule(decoded)) == decoded
        assert flowspec_text.format_rule(decoded)


@given(st.one_of(st.binary(min_size=8, max_size=8), st.binary(min_size=6, max_size=6).map(lambda v: b"\x80\x06" + v)))
def test_any_community_is_an_action_that_round_trips_or_none(community: bytes) -> None:
    action = flowspec.decode_action(community)
    if action is not None:
        assert flowspec.decode_action(flowspec.encode_action(action)) == action
        assert flowspec_text.parse_actions(flowspec_text.format_actions([action])) == (action,)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused_by_value_error(text: str) -> None:
    for keyword in ("", "port ", "source ", "tcp-flags ", "destination "):
        with contextlib.suppress(ValueError):
            flowspec_text.parse_match(AFI_IPV6, keyword + text)
    for keyword in ("", "redirect ", "traffic-rate ", "mark ", "traffic-action "):
        with contextlib.suppress(ValueError):
            flowspec_text.parse_actions(keyword + text)
