"""UPDATEs out, AS numbers of 2 octets, and round trips."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_FLOW, IPV6_UNICAST, Family, Prefix
from bgpbfd.wire.attributes import PathAttributes, Segment, UnknownAttribute, merge_as4_path, path_length
from bgpbfd.wire.messages import MARKER, MessageReader
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, decode_update
from bgpbfd.wire.update_out import encode_announce, encode_end_of_rib, encode_withdraw

FAMILIES = frozenset({IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW, IPV6_FLOW})
AS_TRANS = 23456


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def session(*, asn4: bool = True, external: bool = True, max_length: int = 4096) -> UpdateContext:
    both = frozenset({IPV4_UNICAST})
    return UpdateContext(asn4, external, FAMILIES, 0, 65010, max_length, {}, both)


PATH = PathAttributes(as_path=(Segment(2, (65010,)),), next_hop=raw("c000020a"))
V6 = raw("20010db8000000000000000000000001")


def only(messages: list[bytes]) -> bytes:
    assert len(messages) == 1
    return messages[0]


# -- octets ------------------------------------------------------------------------------------------------


def test_rfc4271_4_3_classic_announcement_octets() -> None:
    got = only(encode_announce(IPV4_UNICAST, PATH, [raw("18cb0071")], session()))
    assert got == MARKER + raw("002f 02 0000 0014 40 01 01 00 40 02 06 02 01 0000fdf2 40 03 04 c000020a 18 cb0071")


def test_rfc6793_4_2_2_two_octets_where_the_peer_has_two() -> None:
    got = only(encode_announce(IPV4_UNICAST, PATH, [raw("18cb0071")], session(asn4=False)))
    assert got == MARKER + raw("002d 02 0000 0012 40 01 01 00 40 02 04 02 01 fdf2 40 03 04 c000020a 18 cb0071")


def test_rfc6793_4_2_2_as_trans_with_as4_path_and_as4_aggregator() -> None:
    attributes = PathAttributes(
        as_path=(Segment(3, (70001,)), Segment(2, (70000, 500))),
        next_hop=raw("c000020a"),
        aggregator=(70000, raw("c0000209")),
    )
    got = only(encode_announce(IPV4_UNICAST, attributes, [raw("18cb0071")], session(asn4=False)))
    assert got[23:] == raw(
        "40 01 01 00 40 02 0a 03 01 5ba0 02 02 5ba0 01f4 40 03 04 c000020a c0 07 06 5ba0 c0000209"
        "c0 11 0a 02 02 00011170 000001f4 c0 12 08 00011170 c0000209 18 cb0071"
    )


def test_rfc6793_4_2_2_no_as4_attributes_where_nothing_is_lost() -> None:
    attributes = PathAttributes(
        as_path=(Segment(2, (65535,)),), next_hop=raw("c000020a"), aggregator=(65535, raw("c0000209"))
    )
    got = only(encode_announce(IPV4_UNICAST, attributes, [raw("18cb0071")], session(asn4=False)))
    assert got[23:] == raw("40 01 01 00 40 02 04 02 01 ffff 40 03 04 c000020a c0 07 06 ffff c0000209 18 cb0071")


def test_rfc7606_5_1_mp_reach_first_then_ascending() -> None:
    attributes = PathAttributes(
        origin=2,
        as_path=(),
        next_hop=V6,
        med=7,
        local_pref=100,
        atomic_aggregate=True,
        communities=(0xFFFFFF01,),
        originator_id=raw("0a000001"),
        cluster_list=(raw("0a000002"),),
        extended_communities=(raw("0002fde900000001"),),
        large_communities=((1, 2, 3),),
        only_to_customer=65001,
        unknown=(UnknownAttribute(0xE0, 11, b"x"), UnknownAttribute(0xE0, 99, b"")),
    )
    got = only(encode_announce(IPV6_UNICAST, attributes, [raw("2020010db8")], session(external=False)))
    assert got[19:] == raw(
        "0000 0072 80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8"
        "40 01 01 02 40 02 00 80 04 04 00000007 40 05 04 00000064 40 06 00 c0 08 04 ffffff01"
        "80 09 04 0a000001 80 0a 04 0a000002 e0 0b 01 78 c0 10 08 0002fde900000001"
        "c0 20 0c 000000010000000200000003 c0 23 04 0000fde9 e0 63 00"
    )


def test_rfc2545_3_global_and_link_local_next_hop() -> None:
    attributes = PathAttributes(next_hop=V6 + raw("fe800000000000000000000000000001"))
    got = only(encode_announce(IPV6_UNICAST, attributes, [b"\0"], session()))
    assert got[23:32] == raw("80 0e 26 0002 01 20 2001")
    assert got[62:64] == b"\0\0"  # reserved, ::/0


def test_rfc8950_3_ipv4_over_an_ipv6_next_hop() -> None:
    got = only(encode_announce(IPV4_UNICAST, PathAttributes(next_hop=V6), [raw("18cb0071")], session()))
    assert got[23:] == raw("80 0e 19 0001 01 10 20010db8000000000000000000000001 00 18 cb0071 40 01 01 00 40 02 00")


def test_rfc8955_4_flows_have_no_next_hop() -> None:
    flow = raw("0b 01 18 c00002 03 81 06 04 81 19")
    assert only(encode_announce(IPV4_FLOW, PathAttributes(), [flow], session()))[23:] == raw(
        "80 0e 11 0001 85 00 00 0b 01 18 c00002 03 81 06 04 81 19 40 01 01 00 40 02 00"
    )
    assert only(encode_withdraw(IPV4_FLOW, [flow], session()))[19:26] == raw("0000 0012 80 0f 0f")


def test_withdrawals() -> None:
    assert only(encode_withdraw(IPV4_UNICAST, [raw("18cb0071"), b"\0"], session())) == MARKER + raw(
        "001c 02 0005 18 cb0071 00 0000"
    )
    assert only(encode_withdraw(IPV6_UNICAST, [raw("2020010db8")], session())) == MARKER + raw(
        "0022 02 0000 000b 80 0f 08 0002 01 20 20010db8"
    )


def test_rfc4724_2_end_of_rib_octets() -> None:
    assert encode_end_of_rib(IPV4_UNICAST) == MARKER + raw("0017 02 0000 0000")
    assert encode_end_of_rib(IPV6_UNICAST) == MARKER + raw("001d 02 0000 0006 80 0f 03 0002 01")


@pytest.mark.parametrize("count", [63, 64, 65])
def test_rfc4271_4_3_extended_length_only_over_255(count: int) -> None:
    attributes = PathAttributes(next_hop=raw("c000020a"), communities=tuple(range(count)))
    got = only(encode_announce(IPV4_UNICAST, attributes, [b"\0"], session()))
    head = raw("c0 08") + bytes((count * 4,)) if count < 64 else raw("d0 08") + (count * 4).to_bytes(2, "big")
    assert got[37:].startswith(head)


def test_as_path_segments_over_255_are_split() -> None:
    attributes = PathAttributes(as_path=(Segment(2, (65010,) * 300),), next_hop=raw("c000020a"))
    got = decode_update(only(encode_announce(IPV4_UNICAST, attributes, [b"\0"], session()))[19:], session())
    assert [len(s.asns) for s in got.announced[0].attributes.as_path] == [255, 45]


# -- packing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [4096, 65535])
@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_updates_are_packed_to_the_negotiated_length(family: Family, limit: int) -> None:
    size = 4 if family == IPV4_UNICAST else 9
    nlri = [bytes((size * 8 - 8,)) + n.to_bytes(size - 1, "big") for n in range(40000)]
    attributes = PATH if family == IPV4_UNICAST else PathAttributes(next_hop=V6)
    context = session(max_length=limit)
    for messages in (encode_announce(family, attributes, nlri, context), encode_withdraw(family, nlri, context)):
        assert all(limit - size < len(m) <= limit for m in messages[:-1])
        got = [decode_update(m[19:], context) for m in messages]
        assert [p for u in got for r in u.announced for p in r.nlri] + [
            p for u in got for r in u.withdrawn for p in r.nlri
        ] == nlri


def test_uneven_lengths_fill_the_message_too() -> None:
    nlri = [raw("20") + n.to_bytes(4, "big") if n % 2 else b"\x08" + bytes((n % 256,)) for n in range(3000)]
    messages = encode_announce(IPV4_UNICAST, PATH, nlri, session())
    assert all(4096 - 5 < len(m) <= 4096 for m in messages[:-1])


def test_rfc4271_9_2_what_cannot_fit_is_refused() -> None:
    communities = tuple(range(1009))  # 19 + 4 + 4 + 9 + 7 + 4 + 4036 leave 13
    attributes = PathAttributes(as_path=PATH.as_path, next_hop=PATH.next_hop, communities=communities)
    assert len(only(encode_announce(IPV4_UNICAST, attributes, [raw("18cb0071")] * 3, session()))) == 4095
    too_many = PathAttributes(as_path=PATH.as_path, next_hop=PATH.next_hop, communities=tuple(range(1013)))
    with pytest.raises(ValueError, match="no room for 2 prefixes"):
        encode_announce(IPV4_UNICAST, too_many, [b"\0", raw("18cb0071")], session())
    assert len(encode_announce(IPV4_UNICAST, too_many, [raw("18cb0071")], session(max_length=65535))) == 1
    with pytest.raises(ValueError, match="too long"):
        encode_announce(IPV4_UNICAST, PathAttributes(next_hop=bytes(4), communities=(1,) * 20000), [b"\0"], session())


def test_nothing_to_say_is_no_message() -> None:
    assert encode_announce(IPV4_UNICAST, PATH, [], session()) == []
    assert encode_withdraw(IPV6_UNICAST, [], session()) == []


@pytest.mark.parametrize(
    ("family", "next_hop"), [(IPV4_UNICAST, None), (IPV6_UNICAST, bytes(4)), (IPV4_UNICAST, bytes(5))]
)
def test_next_hop_that_does_not_fit_is_refused(family: Family, next_hop: bytes | None) -> None:
    with pytest.raises(ValueError, match="next hop"):
        encode_announce(family, PathAttributes(next_hop=next_hop), [b"\0"], session())


# -- 2-octet peers -----------------------------------------------------------------------------------------


def seq(*asns: int) -> Segment:
    return Segment(2, asns)


@pytest.mark.parametrize(
    ("path", "as4_path", "merged"),
    [
        ((seq(1, AS_TRANS),), (seq(1, 70000),), (seq(1, 70000),)),
        ((seq(5, 1, AS_TRANS),), (seq(1, 70000),), (seq(5, 1, 70000),)),
        ((seq(1),), (seq(1, 70000),), (seq(1),)),  # AS4_PATH is longer: ignored
        (
            (seq(9, AS_TRANS), Segment(1, (3, AS_TRANS))),
            (seq(70000), Segment(1, (3, 70001))),
            (seq(9, 70000), Segment(1, (3, 70001))),
        ),
        ((Segment(1, (7, 8)), seq(AS_TRANS)), (seq(70000),), (Segment(1, (7, 8)), seq(70000))),
        ((Segment(3, (64512,)), seq(AS_TRANS)), (seq(70000),), (Segment(3, (64512,)), seq(70000))),
        ((Segment(3, (64512,)), seq(5, AS_TRANS)), (seq(70000),), (Segment(3, (64512,)), seq(5, 70000))),
    ],
)
def test_rfc6793_4_2_3_paths_are_rebuilt(
    path: tuple[Segment, ...], as4_path: tuple[Segment, ...], merged: tuple[Segment, ...]
) -> None:
    assert merge_as4_path(path, as4_path) == merged


def test_rfc4271_9_1_2_2_and_5065_5_3_path_length() -> None:
    assert path_length((Segment(3, (1, 2)), seq(1, 2, 3), Segment(1, (4, 5)), Segment(4, (6,)))) == 4


AS2_PATH = "40 02 06 02 02 fde9 5ba0"
AS4 = "c0 11 0a 02 02 0000fde9 00011170"


def received(attributes: str) -> Update:
    block = raw("40 01 01 00 40 03 04 c0000201" + attributes)
    body = b"\0\0" + len(block).to_bytes(2, "big") + block + raw("18cb0071")
    return decode_update(body, UpdateContext(False, True, FAMILIES, 65001, 65010))


def test_rfc6793_4_2_3_as4_path_is_merged() -> None:
    assert received(AS2_PATH + AS4).announced[0].attributes.as_path == (seq(65001, 70000),)


def test_rfc6793_4_2_3_aggregator_without_as_trans_voids_both() -> None:
    got = received(AS2_PATH + "c0 07 06 fde9 c0000209" + AS4 + "c0 12 08 00011170 c0000209")
    attributes = got.announced[0].attributes
    assert attributes.as_path == (seq(65001, AS_TRANS),)
    assert attributes.aggregator == (65001, raw("c0000209"))


def test_rfc6793_4_2_3_as4_aggregator_replaces_as_trans() -> None:
    got = received(AS2_PATH + "c0 07 06 5ba0 c0000209" + AS4 + "c0 12 08 00011170 c0000209")
    assert got.announced[0].attributes.aggregator == (70000, raw("c0000209"))
    assert got.announced[0].attributes.as_path == (seq(65001, 70000),)


def test_rfc6793_6_confederation_segments_in_as4_path_are_cut() -> None:
    got = received(AS2_PATH + "c0 11 10 03 01 0000fdff 02 02 0000fde9 00011170")
    assert got.announced[0].attributes.as_path == (seq(65001, 70000),)


@pytest.mark.parametrize(
    "attribute",
    [
        "c0 11 00",
        "c0 11 05 02 01 000000",
        "c0 11 07 02 01 00011170 00",
        "c0 11 06 05 01 00011170",
        "c0 11 06 02 02 00011170",
        "c0 11 06 02 01 00000000",
        "c0 11 08 02 01 00011170 02 00",
        "c0 12 06 0001 c0000209",
        "c0 12 08 00000000 c0000209",
        "c0 07 08 0000fde9 c0000209",
    ],
)
def test_rfc6793_6_malformed_as4_attributes_are_discarded(attribute: str) -> None:
    got = received(AS2_PATH + attribute)
    assert got.announced[0].attributes.as_path == (seq(65001, AS_TRANS),)
    assert [(f.treatment, f.attribute) for f in got.faults] == [("attribute-discard", raw(attribute)[1])]


def test_first_as_over_65535_is_as_trans_in_two_octets() -> None:
    block = raw("40 01 01 00 40 03 04 c0000201 40 02 04 02 01 5ba0 c0 11 06 02 01 00011170")
    body = b"\0\0" + len(block).to_bytes(2, "big") + block + b"\0"
    got = decode_update(body, UpdateContext(False, True, FAMILIES, 70000, 65010))
    assert got.announced[0].attributes.as_path == (seq(70000),)


# -- round trips -------------------------------------------------------------------------------------------

asns = st.integers(1, 2**32 - 1).filter(lambda asn: asn != AS_TRANS)
u32 = st.integers(0, 2**32 - 1)
addresses = st.binary(min_size=4, max_size=4)


def merged_neighbors(segments: list[Segment]) -> tuple[Segment, ...]:
    """Neighbouring sequences joined: rebuilding a path from AS4_PATH cannot tell them apart."""
    path: list[Segment] = []
    for segment in segments:
        if path and path[-1].kind == segment.kind == 2:
            path[-1] = Segment(2, path[-1].asns + segment.asns)
        else:
            path.append(segment)
    return tuple(path)


paths = st.lists(
    st.builds(Segment, st.sampled_from([1, 2]), st.lists(asns, min_size=1, max_size=6).map(tuple)), max_size=4
).map(merged_neighbors)
unknown_attributes = st.lists(
    st.builds(UnknownAttribute, st.just(0xE0), st.integers(40, 255), st.binary(max_size=300)),
    max_size=3,
    unique_by=lambda attribute: attribute.code,
).map(lambda attributes: tuple(sorted(attributes, key=lambda attribute: attribute.code)))


def next_hops(size: int) -> st.SearchStrategy[bytes]:
    if size < 32:
        return st.binary(min_size=size, max_size=size)
    tail = st.binary(min_size=14, max_size=14)
    return st.tuples(tail, tail).map(lambda t: b"\x20\x01" + t[0] + b"\xfe\x80" + t[1])  # global and link-local


@st.composite
def announcements(draw: st.DrawFn) -> tuple[UpdateContext, Family, PathAttributes, list[bytes]]:
    external = draw(st.booleans())
    context = session(asn4=draw(st.booleans()), external=external, max_length=draw(st.sampled_from([4096, 65535])))
    family = draw(st.sampled_from([IPV4_UNICAST, IPV6_UNICAST]))
    sizes = [4, 16, 32] if family == IPV4_UNICAST else [16, 32]
    next_hop = draw(st.sampled_from(sizes).flatmap(next_hops))
    inside = st.none() if external else addresses
    attributes = PathAttributes(
        origin=draw(st.integers(0, 2)),
        as_path=draw(paths),
        next_hop=next_hop,
        med=draw(st.none() | u32),
        local_pref=None if external else draw(u32),
        atomic_aggregate=draw(st.booleans()),
        aggregator=draw(st.none() | st.tuples(asns, addresses)),
        communities=draw(st.lists(u32, max_size=80).map(tuple)),
        originator_id=draw(inside),
        cluster_list=() if external else draw(st.lists(addresses, max_size=3).map(tuple)),
        extended_communities=draw(st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple)),
        ipv6_extended_communities=draw(st.lists(st.binary(min_size=20, max_size=20), max_size=2).map(tuple)),
        large_communities=draw(st.lists(st.tuples(u32, u32, u32), max_size=3, unique=True).map(tuple)),
        only_to_customer=draw(st.none() | u32),
        unknown=draw(unknown_attributes),
    )
    prefixes = draw(st.lists(st.ip_addresses(v=4 if family == IPV4_UNICAST else 6), min_size=1, max_size=50))
    nlri = [Prefix.parse(str(address)).nlri for address in prefixes]
    return context, family, attributes, nlri


@given(announcements())
@settings(max_examples=150)
def test_announce_round_trip(case: tuple[UpdateContext, Family, PathAttributes, list[bytes]]) -> None:
    context, family, attributes, nlri = case
    reader = MessageReader()
    reader.extended = context.max_length > 4096
    for message in encode_announce(family, attributes, nlri, context):
        assert len(message) <= context.max_length
        reader.feed(message)
    got: list[bytes] = []
    while (pair := reader.next_message()) is not None:
        update = decode_update(pair[1], context)
        assert update == Update([Reach(family, attributes, update.announced[0].nlri)])
        got += update.announced[0].nlri
    assert got == nlri


@given(announcements())
@settings(max_examples=40)
def test_withdraw_round_trip(case: tuple[UpdateContext, Family, PathAttributes, list[bytes]]) -> None:
    context, family, _, nlri = case
    message = only(encode_withdraw(family, nlri, context))
    assert decode_update(message[19:], context) == Update(withdrawn=[Unreach(family, nlri)])
