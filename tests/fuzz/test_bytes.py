"""Whatever bytes come in, the codecs answer with a value or with their typed errors, and never with anything else.

Valid messages are mutated (flipped, cut, stretched, spliced), since random bytes seldom get past a header.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import AFI_IPV4, AFI_IPV6, IPV4_FLOW, IPV4_UNICAST, IPV6_FLOW, IPV6_UNICAST, Family, Prefix
from bgpbfd.wire import flowspec, flowspec_text, messages, notification_text, text, update, update_out
from bgpbfd.wire.attributes import PathAttributes, Segment, UnknownAttribute
from bgpbfd.wire.bfd import ControlPacket, Discard, pull_control, push_control
from bgpbfd.wire.capabilities import Capability, describe_capability, parse_capabilities
from bgpbfd.wire.iana import BfdState
from bgpbfd.wire.messages import MessageReader, Notification, NotificationError, Open, RouteRefresh
from bgpbfd.wire.update import Reach, UpdateContext

T = TypeVar("T")
HEADER = 19
FAMILIES = (IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW, IPV6_FLOW)


def context(
    asn4: bool, external: bool, families: tuple[Family, ...], extended_next_hop: bool, add_path: bool = False
) -> UpdateContext:
    paths = frozenset({IPV4_UNICAST, IPV6_UNICAST}) if add_path else frozenset[Family]()
    return UpdateContext(
        asn4=asn4,
        external=external,
        families=frozenset(families),
        remote_asn=65001 if external else 65010,
        local_asn=65010,
        extended_next_hop=frozenset({IPV4_UNICAST} if extended_next_hop else ()),
        add_path_receive=paths,
        add_path_send=paths,
    )


BOTH = (True, False)
CONTEXTS = [
    context(*flags)
    for flags in product(BOTH, BOTH, (FAMILIES, (IPV4_UNICAST,), (IPV6_FLOW,), ()), BOTH)  # 32 of them
] + [context(*flags, add_path=True) for flags in product(BOTH, BOTH, (FAMILIES, (IPV6_UNICAST,)), BOTH)]  # 16
for number, family in enumerate(FAMILIES):
    CONTEXTS.append(context(True, True, FAMILIES, extended_next_hop=bool(number % 2)))
    CONTEXTS[-1].disable(family)

# -- the corpus: what a speaker sends ----------------------------------------------------------------------

OPENS = [
    Open(65001, 90, 0xC0000201),
    Open(
        23456,
        180,
        0xC0000201,
        (
            Capability(1, bytes.fromhex("00010001")),
            Capability(1, bytes.fromhex("00020085")),
            Capability(2),
            Capability(5, bytes.fromhex("000100010002")),
            Capability(6),
            Capability(9, b"\x00"),
            Capability(64, bytes.fromhex("c0780001018000020180")),
            Capability(65, bytes.fromhex("fa56ea00")),
            Capability(69, bytes.fromhex("00010103")),
            Capability(70),
            Capability(71, bytes.fromhex("0001018000003c")),
            Capability(73, b"\x04host\x06domain"),
            Capability(74),
            Capability(75, b"\x06router"),
            Capability(199, b"unknown"),
        ),
    ),
    Open(65001, 0, 1, tuple(Capability(200, bytes(200)) for _ in range(4))),  # RFC 9072
]
ATTRIBUTES = PathAttributes(
    origin=2,
    as_path=(Segment(2, (65001, 4200000000)), Segment(1, (64512, 64513)), Segment(2, (7,))),
    next_hop=bytes.fromhex("c0000201"),
    med=50,
    local_pref=100,
    atomic_aggregate=True,
    aggregator=(4200000000, bytes.fromhex("c0000202")),
    communities=(0xFFFFFF01, 65000 << 16 | 99),
    originator_id=bytes.fromhex("c0000203"),
    cluster_list=(bytes.fromhex("c0000204"), bytes.fromhex("c0000205")),
    extended_communities=(bytes.fromhex("0002fde800000001"), bytes.fromhex("8006000046bb8000")),
    ipv6_extended_communities=(bytes.fromhex("000220010db80000000000000000000000010007"),),
    large_communities=((65000, 1, 2),),
    only_to_customer=65001,
    unknown=(UnknownAttribute(0xE0, 99, b"\x01\x02"),),
    partial=frozenset({8}),
)
GLOBAL = bytes.fromhex("20010db8000000000000000000000001")
LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000001")
RULES_V4 = [
    flowspec_text.parse_rule(AFI_IPV4, matches)
    for matches in (
        ["destination 192.0.2.0/24", "protocol =6", "port >=137 <=139 | =8080"],
        ["source 0.0.0.0/0", "tcp-flags =syn+ack | rst", "fragment !is-fragment", "dscp =46", "packet-length >100"],
    )
]
RULES_V6 = [
    flowspec_text.parse_rule(AFI_IPV6, matches)
    for matches in (
        ["destination 2001:db8::/32", "source ::1234:5678:9a00:0/104/65", "flow-label =1 | =2"],
        ["icmp-type =8 | =0", "icmp-code =0", "destination-port <10", "source-port !=53"],
    )
]
V4 = [Prefix.parse(one).nlri for one in ("0.0.0.0/0", "10.0.0.0/8", "192.0.2.128/25", "203.0.113.53/32")]
V6 = [Prefix.parse(one).nlri for one in ("::/0", "2001:db8::/32", "2001:db8:53::53/128")]


def updates() -> list[bytes]:
    found: list[bytes] = []
    for asn4 in BOTH:
        session = context(asn4, False, FAMILIES, True)
        v6 = ATTRIBUTES_V6
        found += update_out.encode_announce(IPV4_UNICAST, ATTRIBUTES, V4, session)
        found += update_out.encode_announce(IPV4_UNICAST, v6, V4, session)
        found += update_out.encode_announce(IPV6_UNICAST, v6, V6, session)
        flows = [flowspec.encode_nlri(rule) for rule in RULES_V4], [flowspec.encode_nlri(rule) for rule in RULES_V6]
        found += update_out.encode_announce(IPV4_FLOW, ATTRIBUTES, flows[0], session)
        found += update_out.encode_announce(IPV6_FLOW, ATTRIBUTES, flows[1], session)
        for family, nlri in zip(FAMILIES, (V4, V6, *flows), strict=True):
            found += update_out.encode_withdraw(family, nlri, session)
            found.append(update_out.encode_end_of_rib(family))
        paths = context(asn4, False, FAMILIES, True, True)
        found += update_out.encode_announce(IPV4_UNICAST, ATTRIBUTES, identified(V4), paths)
        found += update_out.encode_announce(IPV4_UNICAST, v6, identified(V4), paths)
        found += update_out.encode_announce(IPV6_UNICAST, v6, identified(V6), paths)
        found += update_out.encode_withdraw(IPV4_UNICAST, identified(V4), paths)
        found += update_out.encode_withdraw(IPV6_UNICAST, identified(V6), paths)
    return found


def identified(nlri: list[bytes], path_ids: list[int] | None = None) -> list[bytes]:
    """With a path identifier before each (RFC 7911 §3)."""
    numbers = range(7, 7 + len(nlri)) if path_ids is None else path_ids
    return [path_id.to_bytes(4, "big") + octets for path_id, octets in zip(numbers, nlri, strict=True)]


ATTRIBUTES_V6 = PathAttributes(
    as_path=ATTRIBUTES.as_path, next_hop=GLOBAL + LINK_LOCAL, local_pref=100, communities=ATTRIBUTES.communities
)
UPDATES = updates()
OTHERS = [
    messages.encode_notification(Notification(6, 2, b"\x05hello")),
    messages.encode_notification(Notification(6, 9, b"\x06\x0a")),
    messages.encode_route_refresh(RouteRefresh(IPV6_UNICAST, 1)),
    messages.encode_message(4, b""),
]
STREAM = [*(messages.encode_open(one) for one in OPENS), *UPDATES, *OTHERS]
PACKETS = [
    push_control(ControlPacket(BfdState.UP, 3, 1, 2, 50_000, 50_000, poll=True)),
    push_control(ControlPacket(BfdState.DOWN, 5, 0xFFFFFFFF, 0, 1_000_000, 1_000_000, 1, diag=1, final=True)),
    push_control(ControlPacket(BfdState.UP, 3, 1, 2, 3, 4, 5, demand=True, authentication=b"\x01\x06\x01key")),
    push_control(ControlPacket(BfdState.INIT, 3, 1, 2, 3, 4, authentication=b"\x05\x1c\x01\x00" + bytes(24))),
]


@st.composite
def mutated(draw: st.DrawFn, corpus: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0 if at < len(data):  # a value at the edges, where lengths go wrong
                data[at] = draw(st.sampled_from([0, 1, 2, 3, 4, 0x7F, 0x80, 0xEF, 0xF0, 0xFE, 0xFF]))
            case 1 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                del data[at : at + draw(st.integers(1, 8))]
            case 3:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                other = draw(st.sampled_from(corpus))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


def bodies(corpus: list[bytes]) -> list[bytes]:
    return [message[HEADER:] for message in corpus]


# -- the properties ----------------------------------------------------------------------------------------


@given(st.lists(mutated(STREAM), min_size=1, max_size=4), st.booleans(), st.data())
@settings(max_examples=200, deadline=None)
def test_framing(sent: list[bytes], extended: bool, data: st.DataObject) -> None:
    stream = b"".join(sent)
    whole, fault = read_all([stream], extended)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    # how TCP cuts the stream changes nothing
    assert read_all(pieces, extended) == (whole, fault)
    for kind, body in whole:
        decode(kind, body)


def read_all(pieces: list[bytes], extended: bool) -> tuple[list[tuple[int, bytes]], tuple[int, int] | None]:
    reader = MessageReader()
    reader.extended = extended
    found: list[tuple[int, bytes]] = []
    fault = None
    for piece in pieces:
        reader.feed(piece)
        while isinstance(message := outcome(reader.next_message), tuple):
            found.append(message)
        if message is not None:
            assert message.code == 1
            fault = message.code, message.subcode
            assert outcome(reader.next_message) is not None  # the fault stays
    return found, fault


def outcome(decode: Callable[[], T]) -> T | NotificationError:
    """What ``decode`` returns, or the one error that it may raise."""
    try:
        return decode()
    except NotificationError as error:
        return error


def verdict_is_sound(got: update.Update, context: UpdateContext) -> None:
    """RFC 7606 §2: routes are of families that are taken alone, and a session that goes on has one left."""
    disabled = {family for family, _ in got.disabled}
    assert disabled <= context.families
    taken = context.families - disabled
    assert taken or not disabled
    assert {item.family for item in (*got.announced, *got.withdrawn)} <= taken
    assert got.end_of_rib is None or got.end_of_rib in taken
    assert bool(disabled) is any(fault.treatment == "afi-safi-disable" for fault in got.faults)


def decode(kind: int, body: bytes) -> None:
    with contextlib.suppress(NotificationError):
        match kind:
            case 1:
                messages.decode_open(body)
            case 2:
                for one in CONTEXTS:
                    with contextlib.suppress(NotificationError):
                        verdict_is_sound(update.decode_update(body, one), one)
            case 3:
                notification = messages.decode_notification(body)
                notification_text.shutdown_communication(notification)
                assert notification_text.describe_notification(notification)
            case 5:
                messages.decode_route_refresh(body)


@given(mutated(bodies([messages.encode_open(one) for one in OPENS])))
@settings(max_examples=400, deadline=None)
def test_open(body: bytes) -> None:
    found = outcome(lambda: messages.decode_open(body))
    if isinstance(found, NotificationError):
        assert found.code in {1, 2}
        return
    with contextlib.suppress(NotificationError):
        parse_capabilities(found.capabilities)
    for capability in found.capabilities:
        assert describe_capability(capability)


@given(mutated(bodies(UPDATES)))
@settings(max_examples=400, deadline=None)
def test_update_in_every_context(body: bytes) -> None:
    for one in CONTEXTS:
        check_update(body, one)


@pytest.mark.parametrize("body", bodies(UPDATES))
def test_the_corpus_is_taken_without_a_fault(body: bytes) -> None:
    """Or the mutations would never get deep."""
    found = []
    for flags in product(BOTH, BOTH):
        one = context(flags[0], False, FAMILIES, True, flags[1])
        with contextlib.suppress(NotificationError):
            found.append(update.decode_update(body, one))
    assert any(not one.faults for one in found)


def check_update(body: bytes, session: UpdateContext) -> None:
    found = outcome(lambda: update.decode_update(body, session))
    if isinstance(found, NotificationError):
        assert found.code in {1, 3}
        return
    for routes in (*found.announced, *found.withdrawn):
        assert (routes.path_ids is not None) == (routes.family in session.add_path_receive)
        assert routes.path_ids is None or len(routes.path_ids) == len(routes.nlri)
    for reach in found.announced:
        assert reach.family in session.families
        check_again(reach, session)
        if reach.family.safi == 1:
            check_prefixes(reach.family, reach.nlri)
        else:
            check_flows(reach.family, reach.nlri)
        check_texts(reach.attributes)
    for unreach in found.withdrawn:
        if unreach.family.safi == 1:
            check_prefixes(unreach.family, unreach.nlri)
    # the cache must not change the verdict
    again = update.decode_update(body, session)
    assert again == found


def check_again(reach: Reach, session: UpdateContext) -> None:
    """What was read can be written, and is then read as the same."""
    nlri = reach.nlri if reach.path_ids is None else identified(reach.nlri, reach.path_ids)
    open_minded = replace(session, asn4=True, remote_asn=0, max_length=65535, cache={})
    (message,) = update_out.encode_announce(reach.family, reach.attributes, nlri, open_minded)
    again = update.decode_update(message[HEADER:], open_minded)
    assert again.announced == [reach]
    assert not again.faults
    (message,) = update_out.encode_withdraw(reach.family, nlri, open_minded)
    (gone,) = update.decode_update(message[HEADER:], open_minded).withdrawn
    assert (gone.family, gone.nlri, gone.path_ids) == (reach.family, reach.nlri, reach.path_ids)


def check_prefixes(family: Family, nlri: list[bytes]) -> None:
    for octets in nlri:
        assert Prefix.of(Prefix(family.afi, octets).network()).nlri == octets


def check_flows(family: Family, nlri: list[bytes]) -> None:
    for octets in nlri:
        with contextlib.suppress(flowspec.FlowspecError):
            assert flowspec_text.format_rule(flowspec.decode_nlri(family.afi, octets))


def check_texts(attributes: PathAttributes) -> None:
    text.origin_text(attributes.origin)
    text.as_path_text(attributes.as_path)
    shown = text.format_communities(
        text.Communities(
            attributes.communities,
            attributes.extended_communities,
            attributes.large_communities,
            attributes.ipv6_extended_communities,
        )
    )
    back = text.parse_communities(shown, ipv6=True)
    assert set(back.ipv6_extended) == set(attributes.ipv6_extended_communities)
    assert set(back.standard) == set(attributes.communities)
    assert set(back.extended) == set(attributes.extended_communities)
    assert set(back.large) == set(attributes.large_communities)
    for community in (*attributes.extended_communities, *attributes.ipv6_extended_communities):
        action = flowspec.decode_action(community)
        if action is not None:
            flowspec_text.format_actions([action])
    if attributes.next_hop:
        text.format_address(attributes.next_hop)


@given(mutated(PACKETS))
@settings(max_examples=500, deadline=None)
def test_bfd_control(data: bytes) -> None:
    found = pull_control(data)
    if not isinstance(found, Discard):
        assert pull_control(push_control(found)) == found


FLOWS = [b"".join(map(flowspec.encode_nlri, rules)) for rules in (RULES_V4, RULES_V6)]


@given(mutated(FLOWS), st.sampled_from([AFI_IPV4, AFI_IPV6]))
@settings(max_examples=500, deadline=None)
def test_flowspec(data: bytes, afi: int) -> None:
    try:
        rules = flowspec.split_nlri(data)
    except flowspec.FramingError:
        return
    for octets in rules:
        try:
            rule = flowspec.decode_rule(afi, octets)
        except flowspec.RuleError:
            continue
        again = flowspec.decode_rule(afi, flowspec.encode_rule(rule))
        assert again == rule
        assert flowspec.compare(again, rule) == 0
        assert flowspec_text.format_rule(rule)
