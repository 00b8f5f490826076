"""Path identifiers (RFC 7911) and IPv6 next hops of IPv4 routes (RFC 8950) in UPDATEs, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.messages import MARKER, NotificationError
from bgpbfd.wire.nlri import NlriError, pull_paths
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, decode_update
from bgpbfd.wire.update_out import encode_announce, encode_end_of_rib, encode_withdraw

BOTH = frozenset({IPV4_UNICAST, IPV6_UNICAST})
BASE = "40 01 01 00  40 02 06 02 01 0000fde9  40 03 04 c0000201"
NO_NEXT_HOP = "40 01 01 00  40 02 06 02 01 0000fde9"
MALFORMED = BASE + "c0 08 01 00"
P24, P8 = bytes.fromhex("18cb0071"), bytes.fromhex("080a")
V6 = "20010db8 00000000 00000000 00000001"
LL = "fe800000 00000000 00000000 00000001"
LL2 = "fe800000 00000000 00000000 00000002"
ZEROS = "00" * 16
P32 = bytes.fromhex("2020010db8")
PATH = PathAttributes(as_path=(Segment(2, (65001,)),), next_hop=bytes.fromhex("c0000201"))


def session(**changes: object) -> UpdateContext:
    families = BOTH | {IPV4_FLOW}
    context = UpdateContext(asn4=True, external=True, families=families, remote_asn=65001, local_asn=65010)
    return replace(context, add_path_receive=BOTH, **changes)  # type: ignore[arg-type]


ONLY_IPV4 = frozenset({IPV4_UNICAST})


def read(attributes: str = "", nlri: str = "", withdrawn: str = "", context: UpdateContext | None = None) -> Update:
    w, a, n = bytes.fromhex(withdrawn), bytes.fromhex(attributes), bytes.fromhex(nlri)
    body = len(w).to_bytes(2, "big") + w + len(a).to_bytes(2, "big") + a + n
    return decode_update(body, context or session())


def verdict(
    attributes: str = "", nlri: str = "", withdrawn: str = "", context: UpdateContext | None = None
) -> tuple[int, int]:
    with pytest.raises(NotificationError) as caught:
        read(attributes, nlri, withdrawn, context)
    assert caught.value.octets
    return caught.value.code, caught.value.subcode


def reach6(*routes: str) -> str:
    octets = bytes.fromhex("".join(routes))
    return f"80 0e {21 + len(octets):02x} 0002 01 10 {V6} 00 {octets.hex()}"


def unreach6(*routes: str) -> str:
    octets = bytes.fromhex("".join(routes))
    return f"80 0f {3 + len(octets):02x} 0002 01 {octets.hex()}"


def with_ids(family: Family, nlri: Sequence[bytes], path_ids: Sequence[int]) -> list[bytes]:
    return [path_id.to_bytes(4, "big") + octets for path_id, octets in zip(path_ids, nlri, strict=True)]


# -- reading -----------------------------------------------------------------------------------------------


def test_rfc7911_3_an_identifier_precedes_each_prefix_of_the_nlri_field() -> None:
    got = read(BASE, "00000001 18 cb0071  ffffffff 08 0a  00000000 00")
    assert got == Update([Reach(IPV4_UNICAST, PATH, [P24, P8, b"\0"], [1, 0xFFFFFFFF, 0])])


def test_rfc7911_3_an_identifier_precedes_each_withdrawn_prefix_too() -> None:
    got = read(withdrawn="00000001 18 cb0071  00000002 18 cb0071")
    assert got == Update(withdrawn=[Unreach(IPV4_UNICAST, [P24, P24], [1, 2])])


def test_rfc7911_3_in_mp_reach_and_mp_unreach() -> None:
    got = read(reach6("00000007 20 20010db8", "00000008 20 20010db8") + NO_NEXT_HOP)
    assert (got.announced[0].nlri, got.announced[0].path_ids) == ([P32, P32], [7, 8])
    assert got.announced[0].family == IPV6_UNICAST
    gone = read(unreach6("00000007 20 20010db8"))
    assert gone == Update(withdrawn=[Unreach(IPV6_UNICAST, [P32], [7])])


def test_rfc7911_3_host_bits_behind_an_identifier_are_irrelevant() -> None:
    assert read(BASE, "00000001 19 c00002ff").announced[0].nlri == [bytes.fromhex("19c0000280")]


def test_rfc7911_5_the_same_prefix_twice_is_two_routes() -> None:
    got = read(BASE, "00000001 18 cb0071 00000002 18 cb0071")
    assert (got.announced[0].nlri, got.announced[0].path_ids) == ([P24, P24], [1, 2])


def test_rfc7911_5_only_the_families_in_force_have_identifiers() -> None:
    only6 = replace(session(), add_path_receive=frozenset({IPV6_UNICAST}))
    assert read(BASE, "18 cb0071", context=only6).announced == [Reach(IPV4_UNICAST, PATH, [P24])]
    got = read(reach6("00000007 20 20010db8") + BASE, "18 cb0071", context=only6)
    assert [(r.family, r.path_ids) for r in got.announced] == [(IPV4_UNICAST, None), (IPV6_UNICAST, [7])]
    assert read(withdrawn="18 cb0071", context=only6).withdrawn == [Unreach(IPV4_UNICAST, [P24])]


def test_rfc7911_to_send_identifiers_changes_nothing_in_what_is_received() -> None:
    sending = replace(session(), add_path_receive=frozenset(), add_path_send=BOTH)
    assert read(BASE, "18 cb0071", context=sending).announced == [Reach(IPV4_UNICAST, PATH, [P24])]


def test_flow_specifications_have_no_identifiers() -> None:
    context = replace(session(), add_path_receive=BOTH | {IPV4_FLOW})
    got = read("80 0e 09 0001 85 00 00 03 03 81 06" + NO_NEXT_HOP, context=context)
    assert got.announced[0].nlri == [bytes.fromhex("03038106")]
    assert got.announced[0].path_ids is None


def test_equal_octets_of_attributes_share_one_object_here_too() -> None:
    context = session()
    first, second = (read(BASE, f"0000000{n} 18 cb0071", context=context).announced[0] for n in (1, 2))
    assert first.attributes is second.attributes
    assert (first.path_ids, second.path_ids) == ([1], [2])


def test_rfc4271_4_3_announced_and_withdrawn_is_a_matter_of_the_same_path() -> None:
    got = read(BASE, "00000001 18 cb0071", "00000001 18 cb0071 00000002 18 cb0071")
    assert (got.announced[0].nlri, got.announced[0].path_ids) == ([P24], [1])
    assert got.withdrawn == [Unreach(IPV4_UNICAST, [P24], [2])]
    six = read(reach6("00000001 20 20010db8") + unreach6("00000001 20 20010db8", "00000003 20 20010db8") + NO_NEXT_HOP)
    assert six.withdrawn == [Unreach(IPV6_UNICAST, [P32], [3])]
    none = read(reach6("00000001 20 20010db8") + unreach6("00000001 20 20010db8") + NO_NEXT_HOP)
    assert none.withdrawn == []


def test_rfc7606_2_treat_as_withdraw_keeps_the_identifiers() -> None:
    got = read(MALFORMED + reach6("00000007 20 20010db8"), "00000001 18 cb0071", "00000002 08 0a")
    assert got.announced == []
    assert got.withdrawn == [
        Unreach(IPV4_UNICAST, [P8, P24], [2, 1]),
        Unreach(IPV6_UNICAST, [P32], [7]),
    ]


def test_withdrawals_of_one_family_in_both_fields_are_joined() -> None:
    got = read("80 0f 0b 0001 01 00000009 18 cb0071", "", "00000002 08 0a")
    assert got == Update(withdrawn=[Unreach(IPV4_UNICAST, [P8, P24], [2, 9])])


@pytest.mark.parametrize(
    "field",
    [
        "00",
        "00000001",
        "00000001 18",
        "00000001 18 cb00",
        "00000001 81 cb0071000000000000000000000000000000",
        "00000001 ff",
        "00000001 18 cb0071 000000",
        "18 cb0071",  # the peer left the identifier out
    ],
)
def test_rfc7606_5_3_an_identifier_or_prefix_cut_short_resets(field: str) -> None:
    assert verdict(BASE, field) == (3, 10)
    assert verdict("", "", field) == (3, 10)
    for attributes in (reach6(field) + NO_NEXT_HOP, unreach6(field)):
        assert verdict(attributes, context=session(families=frozenset({IPV6_UNICAST}))) == (3, 9)
        assert [family for family, _ in read(attributes).disabled] == [IPV6_UNICAST]


def test_the_cached_block_meets_the_same_verdict() -> None:
    context = session()
    read(BASE, "00000001 18 cb0071", context=context)
    with pytest.raises(NotificationError) as caught:
        read(BASE, "00000001 18 cb00", context=context)
    assert (caught.value.code, caught.value.subcode, caught.value.octets) == (3, 10, bytes.fromhex("0000000118cb00"))


def test_rfc4724_2_end_of_rib_has_no_identifier() -> None:
    assert read() == Update(end_of_rib=IPV4_UNICAST)
    assert read("80 0f 03 0002 01") == Update(end_of_rib=IPV6_UNICAST)
    assert encode_end_of_rib(IPV6_UNICAST)[19:] == bytes.fromhex("0000 0006 80 0f 03 0002 01")


@given(st.binary(max_size=60), st.sampled_from([1, 2]))
def test_any_octets_split_into_paths_or_raise(data: bytes, afi: int) -> None:
    try:
        nlri, path_ids = pull_paths(data, afi)
    except NlriError:
        return
    assert len(nlri) == len(path_ids)
    assert sum(map(len, nlri)) + 4 * len(path_ids) == len(data)
    assert all(Prefix.of(Prefix(afi, octets).network()).nlri == octets for octets in nlri)


# -- writing -----------------------------------------------------------------------------------------------


def writer(max_length: int = 4096) -> UpdateContext:
    return replace(session(), add_path_send=BOTH, max_length=max_length, extended_next_hop=frozenset({IPV4_UNICAST}))


def test_rfc7911_3_octets_sent() -> None:
    nlri = with_ids(IPV4_UNICAST, [P24, P8], [1, 2])
    (announced,) = encode_announce(IPV4_UNICAST, PATH, nlri, writer())
    assert announced == MARKER + bytes.fromhex(
        "0039 02 0000 0014 40 01 01 00 40 02 06 02 01 0000fde9 40 03 04 c0000201 00000001 18 cb0071 00000002 08 0a"
    )
    (gone,) = encode_withdraw(IPV4_UNICAST, nlri, writer())
    assert gone == MARKER + bytes.fromhex("0025 02 000e 00000001 18 cb0071 00000002 08 0a 0000")
    (six,) = encode_withdraw(IPV6_UNICAST, with_ids(IPV6_UNICAST, [P32], [3]), writer())
    assert six == MARKER + bytes.fromhex("0026 02 0000 000f 80 0f 0c 0002 01 00000003 20 20010db8")


@pytest.mark.parametrize("limit", [4096, 65535])
@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_routes_with_identifiers_are_packed_to_the_limit_and_read_back(family: Family, limit: int) -> None:
    size = 4 if family == IPV4_UNICAST else 9
    plain = [bytes((size * 8 - 8,)) + n.to_bytes(size - 1, "big") for n in range(20000)]
    path_ids = [n % 5 for n in range(20000)]
    nlri = with_ids(family, plain, path_ids)
    context = writer(limit)
    attributes = PATH if family == IPV4_UNICAST else replace(PATH, next_hop=bytes.fromhex(V6))
    announced = [decode_update(m[19:], context) for m in encode_announce(family, attributes, nlri, context)]
    gone = [decode_update(m[19:], context) for m in encode_withdraw(family, nlri, context)]
    for messages in (encode_announce(family, attributes, nlri, context), encode_withdraw(family, nlri, context)):
        assert all(limit - size - 4 < len(m) <= limit for m in messages[:-1])
    assert [p for u in announced for r in u.announced for p in r.nlri] == plain
    assert [i for u in announced for r in u.announced for i in r.path_ids or ()] == path_ids
    assert [p for u in gone for r in u.withdrawn for p in r.nlri] == plain
    assert [i for u in gone for r in u.withdrawn for i in r.path_ids or ()] == path_ids


@given(
    st.sampled_from([IPV4_UNICAST, IPV6_UNICAST]).flatmap(
        lambda family: st.tuples(
            st.just(family),
            st.lists(
                st.tuples(
                    st.integers(0, 0xFFFFFFFF),
                    st.ip_addresses(v=4 if family == IPV4_UNICAST else 6),
                    st.integers(0, 32 if family == IPV4_UNICAST else 128),
                ),
                min_size=1,
                max_size=20,
            ),
        )
    )
)
@settings(max_examples=60)
def test_paths_round_trip(case: tuple[Family, list[tuple[int, object, int]]]) -> None:
    family, routes = case
    full = 32 if family == IPV4_UNICAST else 128
    nlri = []
    for _, address, length in routes:
        octets = address.packed  # type: ignore[attr-defined]
        masked = (int.from_bytes(octets, "big") >> (full - length) << (full - length)).to_bytes(full // 8, "big")
        nlri.append(bytes((length,)) + masked[: (length + 7) // 8])
    path_ids = [path_id for path_id, _, _ in routes]
    attributes = replace(PATH, next_hop=bytes.fromhex(V6)) if family == IPV6_UNICAST else PATH
    (message,) = encode_announce(family, attributes, with_ids(family, nlri, path_ids), writer())
    assert decode_update(message[19:], writer()) == Update([Reach(family, attributes, nlri, path_ids)])
    (message,) = encode_withdraw(family, with_ids(family, nlri, path_ids), writer())
    assert decode_update(message[19:], writer()) == Update(withdrawn=[Unreach(family, nlri, path_ids)])


# -- RFC 8950 ----------------------------------------------------------------------------------------------


def reach4(next_hop: str) -> str:
    octets = bytes.fromhex(next_hop)
    return f"80 0e {9 + len(octets):02x} 0001 01 {len(octets):02x} {octets.hex()} 00 18 cb0071"


def over_ipv6(**changes: object) -> UpdateContext:
    context = replace(session(), add_path_receive=frozenset(), extended_next_hop=frozenset({IPV4_UNICAST}))
    return replace(context, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("next_hop", [V6, V6 + LL, "c0000201"])
def test_rfc8950_3_next_hops_of_ipv4_where_negotiated(next_hop: str) -> None:
    got = read(reach4(next_hop) + NO_NEXT_HOP, context=over_ipv6())
    assert got == Update([Reach(IPV4_UNICAST, replace(PATH, next_hop=bytes.fromhex(next_hop)), [P24])])


@pytest.mark.parametrize("length", [0, 1, 3, 5, 8, 12, 15, 17, 24, 31, 33, 48])
def test_rfc7606_7_11_any_other_length_is_3_9(length: int) -> None:
    with pytest.raises(NotificationError) as caught:
        read(reach4("20" * length) + NO_NEXT_HOP, context=over_ipv6(families=ONLY_IPV4))
    assert (caught.value.code, caught.value.subcode) == (3, 9)
    assert caught.value.data == caught.value.octets == bytes.fromhex(reach4("20" * length))


@pytest.mark.parametrize("next_hop", [V6, V6 + LL])
def test_rfc8950_4_an_ipv6_next_hop_that_was_not_negotiated_is_3_9(next_hop: str) -> None:
    with pytest.raises(NotificationError) as caught:
        read(reach4(next_hop) + NO_NEXT_HOP, context=over_ipv6(extended_next_hop=frozenset(), families=ONLY_IPV4))
    assert (caught.value.code, caught.value.subcode) == (3, 9)


def test_rfc8950_the_classic_fields_stay_legal() -> None:
    got = read(BASE, "18 cb0071", context=over_ipv6())
    assert got.announced == [Reach(IPV4_UNICAST, PATH, [P24])]


def test_rfc8950_withdrawals_are_taken_in_both_forms_and_sent_in_the_classic_field() -> None:
    classic, multiprotocol = (
        read("", "", "18 cb0071", over_ipv6()),
        read("80 0f 07 0001 01 18 cb0071", "", "", over_ipv6()),
    )
    assert classic == multiprotocol == Update(withdrawn=[Unreach(IPV4_UNICAST, [P24])])
    assert encode_withdraw(IPV4_UNICAST, [P24], over_ipv6())[0][19:] == bytes.fromhex("0004 18 cb0071 0000")


def test_rfc8950_with_identifiers_in_mp_reach() -> None:
    context = over_ipv6(add_path_receive=BOTH)
    attributes = f"80 0e 1d 0001 01 10 {V6} 00 00000005 18 cb0071" + NO_NEXT_HOP
    got = read(attributes, context=context)
    assert (got.announced[0].nlri, got.announced[0].path_ids) == ([P24], [5])
    assert got.announced[0].attributes.next_hop == bytes.fromhex(V6)


@pytest.mark.parametrize("next_hop", [V6, V6 + LL])
def test_rfc8950_4_nothing_is_written_that_was_not_negotiated(next_hop: str) -> None:
    attributes = replace(PATH, next_hop=bytes.fromhex(next_hop))
    (message,) = encode_announce(IPV4_UNICAST, attributes, [P24], over_ipv6())
    assert decode_update(message[19:], over_ipv6()) == Update([Reach(IPV4_UNICAST, attributes, [P24])])
    with pytest.raises(ValueError, match="not negotiated"):
        encode_announce(IPV4_UNICAST, attributes, [P24], over_ipv6(extended_next_hop=frozenset()))


@pytest.mark.parametrize(
    ("received", "meant"),
    [
        (V6, V6),
        (LL, LL),
        (V6 + LL, V6 + LL),
        (ZEROS + LL, LL),  # BIRD without a global address
        (LL + LL, LL),  # FRR without a global address
        (LL2 + LL, LL),
        (V6 + ZEROS, V6),  # no link-local one behind it
        (V6 + V6, V6),
        (ZEROS + ZEROS, ZEROS),
    ],
)
def test_rfc2545_3_forms_of_the_next_hop(received: str, meant: str) -> None:
    octets = bytes.fromhex(received)
    six = f"80 0e {10 + len(octets):02x} 0002 01 {len(octets):02x} {received} 00 20 20010db8"
    for attributes in (six, reach4(received)):
        got = read(attributes + NO_NEXT_HOP, context=over_ipv6())
        assert got.faults == []
        assert got.announced[0].attributes.next_hop == bytes.fromhex(meant)
