"""UPDATEs in: framing, RFC 7606's verdicts, families, End-of-RIB; the octets are put together by hand."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_FLOW, IPV6_UNICAST, Family
from bgpbfd.wire import update as update_module
from bgpbfd.wire.attributes import PathAttributes, Segment, UnknownAttribute
from bgpbfd.wire.messages import NotificationError
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, UpdateFault, decode_update
from bgpbfd.wire.update_out import encode_end_of_rib

W, D, IGNORED = "treat-as-withdraw", "attribute-discard", "ignored"
FAMILIES = frozenset({IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW, IPV6_FLOW})

ORIGIN = "40 01 01 00"
AS_PATH = "40 02 06 02 01 0000fde9"  # 65001
NEXT_HOP = "40 03 04 c0000201"
BASE = ORIGIN + AS_PATH + NEXT_HOP
LOCAL_PREF = "40 05 04 00000064"
ROUTE = "18 cb0071"  # 203.0.113.0/24
NLRI = bytes.fromhex(ROUTE)
V6 = "20010db8 00000000 00000000 00000001"
LL = "fe800000 00000000 00000000 00000001"
V6_ROUTE = "20 20010db8"
REACH6 = f"80 0e 1a 0002 01 10 {V6} 00 {V6_ROUTE}"
UNREACH6 = f"80 0f 08 0002 01 {V6_ROUTE}"


def ebgp(**changes: object) -> UpdateContext:
    context = UpdateContext(asn4=True, external=True, families=FAMILIES, remote_asn=65001, local_asn=65010)
    return replace(context, **changes)  # type: ignore[arg-type]


def ibgp(**changes: object) -> UpdateContext:
    return ebgp(external=False, remote_asn=65010, **changes)


def body(attributes: str = "", nlri: str = "", withdrawn: str = "") -> bytes:
    w, a, n = bytes.fromhex(withdrawn), bytes.fromhex(attributes), bytes.fromhex(nlri)
    return len(w).to_bytes(2, "big") + w + len(a).to_bytes(2, "big") + a + n


def read(attributes: str = "", nlri: str = "", withdrawn: str = "", context: UpdateContext | None = None) -> Update:
    return decode_update(body(attributes, nlri, withdrawn), context or ebgp())


def reset(
    attributes: str = "", nlri: str = "", withdrawn: str = "", context: UpdateContext | None = None
) -> tuple[int, int, bytes]:
    with pytest.raises(NotificationError) as caught:
        read(attributes, nlri, withdrawn, context)
    return caught.value.code, caught.value.subcode, caught.value.data


def brief(got: Update) -> list[tuple[str, int | None]]:
    return [(fault.treatment, fault.attribute) for fault in got.faults]


def the_attributes(got: Update) -> PathAttributes:
    assert len(got.announced) == 1
    return got.announced[0].attributes


# -- well-formed -------------------------------------------------------------------------------------------


def test_rfc4271_4_3_announcement_and_withdrawal() -> None:
    got = read(BASE, ROUTE + "00", "08 0a 20 c0000201")
    path = PathAttributes(as_path=(Segment(2, (65001,)),), next_hop=bytes.fromhex("c0000201"))
    assert got == Update(
        [Reach(IPV4_UNICAST, path, [NLRI, b"\0"])],
        [Unreach(IPV4_UNICAST, [b"\x08\x0a", bytes.fromhex("20c0000201")])],
    )


def test_every_attribute_of_an_internal_session() -> None:
    got = read(
        "40 01 01 02"
        "40 02 0c 02 01 0000fde9 01 01 00011170"
        "40 03 04 c0000201 80 04 04 00000032 40 05 04 000000c8 40 06 00 c0 07 08 00011170 c0000209"
        "c0 08 08 fde90063 ffffff01 80 09 04 0a000001 80 0a 08 0a000002 0a000003"
        "c0 10 08 0002fde900000001"
        "c0 19 14 000220010db8000000000000000000000001 0007"
        "c0 20 0c 0000fde9 00000001 00000002"
        "c0 23 04 0000fde9"
        "c0 63 02 abcd",
        ROUTE,
        context=ibgp(),
    )
    assert got.faults == []
    assert the_attributes(got) == PathAttributes(
        origin=2,
        as_path=(Segment(2, (65001,)), Segment(1, (70000,))),
        next_hop=bytes.fromhex("c0000201"),
        med=50,
        local_pref=200,
        atomic_aggregate=True,
        aggregator=(70000, bytes.fromhex("c0000209")),
        communities=(0xFDE90063, 0xFFFFFF01),
        originator_id=bytes.fromhex("0a000001"),
        cluster_list=(bytes.fromhex("0a000002"), bytes.fromhex("0a000003")),
        extended_communities=(bytes.fromhex("0002fde900000001"),),
        ipv6_extended_communities=(bytes.fromhex("000220010db80000000000000000000000010007"),),
        large_communities=((65001, 1, 2),),
        only_to_customer=65001,
        unknown=(UnknownAttribute(0xE0, 99, b"\xab\xcd"),),
    )


def test_rfc4271_4_3_extended_length_is_read() -> None:
    assert the_attributes(read("50 01 0001 01" + AS_PATH + NEXT_HOP, ROUTE)).origin == 1


def test_rfc4271_4_3_low_flag_bits_are_ignored() -> None:
    assert read("4f 01 01 00" + AS_PATH + NEXT_HOP, ROUTE).faults == []


def test_rfc4271_4_3_prefix_in_both_fields_counts_as_announced() -> None:
    got = read(BASE, ROUTE, "08 0a" + ROUTE)
    assert got.withdrawn == [Unreach(IPV4_UNICAST, [b"\x08\x0a"])]
    assert got.announced[0].nlri == [NLRI]
    got = read(ORIGIN + AS_PATH + REACH6 + UNREACH6)
    assert (len(got.announced), got.withdrawn) == (1, [])


def test_rfc4760_3_ipv6_next_hops_of_16_and_32_octets() -> None:
    one = read(REACH6 + ORIGIN + AS_PATH)
    assert one.announced[0].family == IPV6_UNICAST
    assert one.announced[0].nlri == [bytes.fromhex(V6_ROUTE)]
    assert the_attributes(one).next_hop == bytes.fromhex(V6)
    two = read(f"80 0e 2a 0002 01 20 {V6} {LL} 00 {V6_ROUTE}" + ORIGIN + AS_PATH)
    assert the_attributes(two).next_hop == bytes.fromhex(V6 + LL)


def test_rfc4760_3_reserved_octet_is_ignored() -> None:
    assert len(read(REACH6.replace(" 00 20 ", " 7f 20 ") + ORIGIN + AS_PATH).announced) == 1


def test_rfc4760_3_next_hop_beside_mp_reach_alone_is_ignored() -> None:
    for next_hop in (NEXT_HOP, "40 03 03 c00002"):
        got = read(ORIGIN + AS_PATH + next_hop + REACH6)
        assert got.faults == []
        assert the_attributes(got).next_hop == bytes.fromhex(V6)


def test_rfc4760_3_mp_reach_needs_no_next_hop_attribute() -> None:
    assert read(ORIGIN + AS_PATH + REACH6).faults == []


def test_both_kinds_of_nlri_in_one_update_keep_their_own_next_hops() -> None:
    got = read(BASE + REACH6, ROUTE)
    assert [(r.family, r.attributes.next_hop) for r in got.announced] == [
        (IPV4_UNICAST, bytes.fromhex("c0000201")),
        (IPV6_UNICAST, bytes.fromhex(V6)),
    ]


def test_rfc8950_ipv4_over_ipv6_next_hop_where_negotiated() -> None:
    attributes = f"80 0e 19 0001 01 10 {V6} 00 {ROUTE}" + ORIGIN + AS_PATH
    got = read(attributes, context=ebgp(extended_next_hop=frozenset({IPV4_UNICAST})))
    assert got.announced[0].family == IPV4_UNICAST
    assert the_attributes(got).next_hop == bytes.fromhex(V6)
    assert reset(attributes, context=ebgp(families=frozenset({IPV4_UNICAST})))[:2] == (3, 9)


def test_bird_puts_ipv4_with_4_octet_next_hops_into_mp_reach() -> None:
    got = read(f"80 0e 0d 0001 01 04 c0000201 00 {ROUTE}" + ORIGIN + AS_PATH)
    assert (got.announced[0].family, the_attributes(got).next_hop) == (IPV4_UNICAST, bytes.fromhex("c0000201"))


def test_rfc8955_4_flows_are_split_and_carry_no_next_hop() -> None:
    flow = "0b 01 18 c00002 03 81 06 04 81 19"
    got = read(f"80 0e 11 0001 85 00 00 {flow}" + ORIGIN + AS_PATH)
    assert got.announced[0].nlri == [bytes.fromhex(flow)]
    assert got.announced[0].family == IPV4_FLOW
    assert the_attributes(got).next_hop is None
    gone = read(f"80 0f 0f 0001 85 {flow}")
    assert gone.withdrawn == [Unreach(IPV4_FLOW, [bytes.fromhex(flow)])]


# -- interning ---------------------------------------------------------------------------------------------


def test_equal_octets_share_one_object() -> None:
    context = ebgp()
    first, second = read(BASE, ROUTE, context=context), read(BASE, "08 0a", context=context)
    assert the_attributes(first) is the_attributes(second)
    six = [read(ORIGIN + AS_PATH + REACH6, context=context) for _ in range(2)]
    assert the_attributes(six[0]) is the_attributes(six[1])


def test_a_cached_fault_is_reported_each_time() -> None:
    context = ebgp()
    for _ in range(3):
        assert brief(read(BASE + "40 05 04 00000064", ROUTE, context=context)) == [(D, 5)]


def test_withdrawn_attributes_are_not_taken_from_the_cache() -> None:
    context = ebgp()
    for _ in range(2):
        assert read(ORIGIN + NEXT_HOP, ROUTE, context=context).announced == []
    without_next_hop = ORIGIN + AS_PATH
    read(without_next_hop + REACH6, context=context)
    assert brief(read(without_next_hop, ROUTE, context=context)) == [(W, 3)]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_module, "CACHE_LIMIT", 8)
    context = ebgp()
    for med in range(50):
        got = read(BASE + f"80 04 04 {med:08x}", ROUTE, context=context)
        assert the_attributes(got).med == med
        assert len(context.cache) <= 8


# -- framing faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", ["0001 0000", "ffff 0000", "0000 0001", "0000 ffff 00", "0004 0000 0000"])
def test_rfc4271_6_3_lengths_past_the_message_are_3_1(octets: str) -> None:
    with pytest.raises(NotificationError) as caught:
        decode_update(bytes.fromhex(octets), ebgp())
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (3, 1, b"")


@pytest.mark.parametrize("tail", ["80", "80 04", "90 04 00", "80 04 05 00000000", "90 04 0100 00", "c0 63 01"])
def test_rfc7606_4_attributes_cut_short_are_treated_as_withdraw(tail: str) -> None:
    got = read(BASE + tail, ROUTE)
    assert got.announced == []
    assert got.withdrawn == [Unreach(IPV4_UNICAST, [NLRI])]
    assert brief(got) == [(W, None)]


def test_rfc7606_4_the_total_length_alone_locates_the_nlri() -> None:
    assert read(BASE + "80 04 ff", ROUTE + "08 0a").withdrawn == [Unreach(IPV4_UNICAST, [NLRI, b"\x08\x0a"])]


@pytest.mark.parametrize("code", ["0e", "0f"])
def test_rfc7606_3_j_routes_that_overrun_reset(code: str) -> None:
    assert reset(BASE + f"80 {code} 08 0002 01", ROUTE)[:2] == (3, 9)


@pytest.mark.parametrize("second", [REACH6, UNREACH6])
def test_rfc7606_3_g_multiprotocol_attribute_twice_is_3_1(second: str) -> None:
    assert reset(ORIGIN + AS_PATH + second + second) == (3, 1, b"")


@pytest.mark.parametrize("attribute", [ORIGIN, AS_PATH, NEXT_HOP])
def test_rfc7606_3_g_of_other_duplicates_the_first_wins(attribute: str) -> None:
    changed = attribute.replace("00", "02") if attribute == ORIGIN else attribute[:-2] + "07"
    got = read(BASE + changed, ROUTE)
    assert the_attributes(got) == the_attributes(read(BASE, ROUTE))
    assert brief(got) == [(D, bytes.fromhex(attribute)[1])]


@pytest.mark.parametrize(
    ("nlri", "withdrawn"), [("21 0102030405", ""), ("18 cb00", ""), ("", "21 0102030405"), ("", "18")]
)
def test_rfc4271_6_3_bad_network_field_is_3_10(nlri: str, withdrawn: str) -> None:
    assert reset(BASE, nlri, withdrawn)[:2] == (3, 10)


# -- missing attributes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "code"), [(AS_PATH + NEXT_HOP, 1), (ORIGIN + NEXT_HOP, 2), (ORIGIN + AS_PATH, 3)]
)
def test_rfc7606_3_d_missing_mandatory_is_treated_as_withdraw(attributes: str, code: int) -> None:
    got = read(attributes, ROUTE)
    assert (got.announced, got.withdrawn) == ([], [Unreach(IPV4_UNICAST, [NLRI])])
    assert brief(got) == [(W, code)]


def test_rfc7606_3_d_local_pref_is_mandatory_inside() -> None:
    assert brief(read(BASE, ROUTE, context=ibgp())) == [(W, 5)]
    assert read(BASE + LOCAL_PREF, ROUTE, context=ibgp()).faults == []


def test_rfc7606_3_d_missing_beside_mp_reach() -> None:
    got = read(ORIGIN + REACH6)
    assert brief(got) == [(W, 2)]
    assert got.withdrawn == [Unreach(IPV6_UNICAST, [bytes.fromhex(V6_ROUTE)])]


def test_attributes_without_any_route_are_no_fault() -> None:
    assert read(ORIGIN) == Update()
    assert read(ORIGIN + UNREACH6).withdrawn == [Unreach(IPV6_UNICAST, [bytes.fromhex(V6_ROUTE)])]


# -- RFC 7606, attribute by attribute ----------------------------------------------------------------------

WITHDRAWING = {
    "origin length 0": "40 01 00" + AS_PATH + NEXT_HOP,
    "origin length 2": "40 01 02 0000" + AS_PATH + NEXT_HOP,
    "origin 3": "40 01 01 03" + AS_PATH + NEXT_HOP,
    "origin flags": "c0 01 01 00" + AS_PATH + NEXT_HOP,
    "origin not transitive": "00 01 01 00" + AS_PATH + NEXT_HOP,
    "segment type 0": ORIGIN + "40 02 06 00 01 0000fde9" + NEXT_HOP,
    "segment type 5": ORIGIN + "40 02 06 05 01 0000fde9" + NEXT_HOP,
    "segment overrun": ORIGIN + "40 02 06 02 02 0000fde9" + NEXT_HOP,
    "one octet over": ORIGIN + "40 02 07 02 01 0000fde9 02" + NEXT_HOP,
    "empty segment": ORIGIN + "40 02 08 02 01 0000fde9 02 00" + NEXT_HOP,
    "AS 0": ORIGIN + "40 02 0a 02 02 0000fde9 00000000" + NEXT_HOP,
    "confederation": ORIGIN + "40 02 0c 02 01 0000fde9 03 01 0000fde9" + NEXT_HOP,
    "first AS": ORIGIN + "40 02 06 02 01 0000fdea" + NEXT_HOP,
    "empty path outside": ORIGIN + "40 02 00" + NEXT_HOP,
    "path flags": ORIGIN + "80 02 06 02 01 0000fde9" + NEXT_HOP,
    "next hop length 0": ORIGIN + AS_PATH + "40 03 00",
    "next hop length 5": ORIGIN + AS_PATH + "40 03 05 c000020100",
    "next hop flags": ORIGIN + AS_PATH + "c0 03 04 c0000201",
    "med length": BASE + "80 04 03 000000",
    "med length 0": BASE + "80 04 00",
    "med flags": BASE + "c0 04 04 00000000",
    "atomic flags": BASE + "80 06 00",
    "aggregator flags": BASE + "40 07 08 0000fde9 c0000201",
    "communities length 0": BASE + "c0 08 00",
    "communities length": BASE + "c0 08 05 0000000000",
    "communities flags": BASE + "80 08 04 00000000",
    "extended length 0": BASE + "c0 10 00",
    "extended length": BASE + "c0 10 04 00000000",
    "ipv6 extended length 0": BASE + "c0 19 00",
    "ipv6 extended length": BASE + "c0 19 08 0000000000000000",
    "large length 0": BASE + "c0 20 00",
    "large length": BASE + "c0 20 0d 00000000000000000000000000",
    "otc length": BASE + "c0 23 03 000000",
    "otc length 0": BASE + "c0 23 00",
}


@pytest.mark.parametrize("attributes", WITHDRAWING.values(), ids=WITHDRAWING.keys())
def test_rfc7606_7_treated_as_withdraw(attributes: str) -> None:
    got = read(attributes, ROUTE, "08 0a")
    assert got.announced == []
    assert got.withdrawn == [Unreach(IPV4_UNICAST, [b"\x08\x0a", NLRI])]
    assert [fault.treatment for fault in got.faults] == [W]
    fault = got.faults[0]
    assert fault.data in bytes.fromhex(attributes)
    assert fault.data[1] == fault.attribute


@pytest.mark.parametrize("attributes", WITHDRAWING.values(), ids=WITHDRAWING.keys())
def test_rfc7606_5_2_the_same_without_routes_resets(attributes: str) -> None:
    assert reset(attributes)[0] == 3
    assert reset(attributes + UNREACH6)[0] == 3
    assert reset(attributes, "", ROUTE)[0] == 3


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("origin flags", (3, 4, "c0010100")),
        ("med length", (3, 5, "800403000000")),
        ("origin 3", (3, 6, "40010103")),
        ("first AS", (3, 11, "")),
        ("segment type 5", (3, 11, "")),
    ],
)
def test_rfc4271_6_3_what_a_reset_then_says(name: str, verdict: tuple[int, int, str]) -> None:
    assert reset(WITHDRAWING[name]) == (*verdict[:2], bytes.fromhex(verdict[2]))


INTERNAL_WITHDRAWING = {
    "local pref length": BASE + "40 05 03 000000",
    "local pref length 0": BASE + "40 05 00",
    "local pref flags": BASE + "c0 05 04 00000000",
    "originator length": BASE + LOCAL_PREF + "80 09 03 000000",
    "originator flags": BASE + LOCAL_PREF + "c0 09 04 00000000",
    "cluster list length 0": BASE + LOCAL_PREF + "80 0a 00",
    "cluster list length": BASE + LOCAL_PREF + "80 0a 05 0000000000",
}


@pytest.mark.parametrize("attributes", INTERNAL_WITHDRAWING.values(), ids=INTERNAL_WITHDRAWING.keys())
def test_rfc7606_7_treated_as_withdraw_inside(attributes: str) -> None:
    got = read(attributes, ROUTE, context=ibgp())
    assert (got.announced, got.withdrawn) == ([], [Unreach(IPV4_UNICAST, [NLRI])])
    assert [fault.treatment for fault in got.faults] == [W]


@pytest.mark.parametrize(
    "attribute",
    [
        "40 05 04 00000064",
        "40 05 03 000000",
        "c0 05 00",
        "80 09 04 0a000001",
        "80 09 01 00",
        "80 0a 00",
        "80 0a 04 00000000",
    ],
)
def test_rfc7606_7_internal_attributes_from_outside_are_discarded_whatever_they_are(attribute: str) -> None:
    got = read(BASE + attribute, ROUTE)
    assert the_attributes(got) == the_attributes(read(BASE, ROUTE))
    assert got.faults[0] == UpdateFault(D, bytes.fromhex(attribute)[1], got.faults[0].reason, bytes.fromhex(attribute))


@pytest.mark.parametrize(
    "attribute",
    [
        "40 06 01 00",
        "c0 07 00",
        "c0 07 06 fde9 c0000201",
        "c0 07 08 00000000 c0000201",
        "c0 11 0a 02 01 0000fde9 00000000",
        "c0 12 08 0000fde9 c0000201",
    ],
)
def test_rfc7606_7_discarded(attribute: str) -> None:
    for octets in (BASE + attribute, attribute + BASE):
        got = read(octets, ROUTE)
        assert the_attributes(got) == the_attributes(read(BASE, ROUTE))
        assert brief(got) == [(D, bytes.fromhex(attribute)[1])]


def test_rfc7606_5_2_a_discard_without_routes_does_not_reset() -> None:
    assert brief(read(ORIGIN + "40 06 01 00" + UNREACH6)) == [(D, 6)]


def test_rfc7606_3_h_the_strongest_action_wins() -> None:
    got = read(BASE + "40 06 01 00 c0 08 01 00", ROUTE)
    assert got.announced == []
    assert brief(got) == [(D, 6), (W, 8)]
    assert reset(BASE + "c0 08 01 00", "21 0102030405")[:2] == (3, 10)


def test_rfc7606_treat_as_withdraw_covers_both_kinds_of_nlri() -> None:
    got = read(BASE + "c0 08 01 00" + REACH6, ROUTE)
    assert got.withdrawn == [Unreach(IPV4_UNICAST, [NLRI]), Unreach(IPV6_UNICAST, [bytes.fromhex(V6_ROUTE)])]


def test_rfc7607_and_4271_paths_that_are_fine() -> None:
    inside = read(ORIGIN + "40 02 00" + NEXT_HOP + LOCAL_PREF, ROUTE, context=ibgp())
    assert the_attributes(inside).as_path == ()
    confed = ORIGIN + "40 02 0c 03 01 0000fde9 04 01 0000fdea" + NEXT_HOP + LOCAL_PREF
    assert [s.kind for s in the_attributes(read(confed, ROUTE, context=ibgp())).as_path] == [3, 4]
    assert read(BASE, ROUTE, context=ebgp(remote_asn=0)).faults == []


@pytest.mark.parametrize("attribute", ["80 1a 0b 01 000b 0000000000000001", "80 1a 00", "c0 1a 01 00"])
def test_rfc7311_3_3_aigp_is_discarded_and_counted(attribute: str) -> None:
    got = read(BASE + attribute, ROUTE)
    assert the_attributes(got) == the_attributes(read(BASE, ROUTE))
    assert brief(got) == [(D, 26)]
    assert got.faults[0].data == bytes.fromhex(attribute)


def test_rfc4271_5_unknown_attributes() -> None:
    got = read(BASE + "c0 63 01 07 80 64 01 07 e0 65 00 d0 66 0001 07", ROUTE)
    assert the_attributes(got).unknown == (
        UnknownAttribute(0xE0, 0x63, b"\x07"),
        UnknownAttribute(0xE0, 0x65, b""),
        UnknownAttribute(0xE0, 0x66, b"\x07"),
    )
    # §6.3: a non-transitive one is ignored, which is no error, and counted
    assert got.faults == [UpdateFault(IGNORED, 0x64, got.faults[0].reason, bytes.fromhex("80640107"))]


@pytest.mark.parametrize("flags", ["00", "40"])
def test_rfc4271_6_3_unrecognised_well_known_is_3_2_with_the_attribute(flags: str) -> None:
    assert reset(BASE + flags + "63 01 07", ROUTE) == (3, 2, bytes.fromhex(flags + "630107"))


def test_rfc8092_3_duplicates_are_removed() -> None:
    one = "0000fde9 00000001 00000002"
    assert the_attributes(read(BASE + "c0 20 18" + one + one, ROUTE)).large_communities == ((65001, 1, 2),)


@pytest.mark.parametrize(
    "attribute",
    [
        "80 0e 04 0002 01 00",
        f"80 0e 1a 0002 01 16 {V6} 00 {V6_ROUTE}",
        f"80 0e 0e 0002 01 04 c0000201 00 {V6_ROUTE}",
        f"80 0e 1a 0002 01 10 {V6} 00 81 20010db8",
        f"80 0e 1a 0002 01 10 {V6} 00 28 20010db8",
        f"c0 0e 1a 0002 01 10 {V6} 00 {V6_ROUTE}",
        "80 0f 02 0002",
        "80 0f 00",
        "80 0f 08 0002 01 81 20010db8",
        "c0 0f 08 0002 01 20 20010db8",
        "80 0e 08 0001 85 00 00 05 01 18",
    ],
)
def test_rfc7606_7_11_malformed_multiprotocol_attributes_are_3_9(attribute: str) -> None:
    octets = bytes.fromhex(attribute)
    only = frozenset({Family(octets[3] << 8 | octets[4], octets[5]) if len(octets) > 5 else IPV6_UNICAST})
    assert reset(ORIGIN + AS_PATH + attribute, context=ebgp(families=only)) == (3, 9, octets)


def test_rfc4760_3_mp_reach_without_routes_announces_nothing() -> None:
    assert read(ORIGIN + AS_PATH + f"80 0e 15 0002 01 10 {V6} 00") == Update()


# -- families ----------------------------------------------------------------------------------------------


def test_family_that_was_not_negotiated_is_ignored_and_counted() -> None:
    only4 = ebgp(families=frozenset({IPV4_UNICAST}))
    for attributes, code in (
        (ORIGIN + AS_PATH + REACH6, 14),
        (UNREACH6, 15),
        ("80 0e 07 4004 47 00 00 ffff" + BASE, 14),
    ):
        got = read(attributes, context=only4)
        assert (got.announced, got.withdrawn, brief(got)) == ([], [], [(IGNORED, code)])
    both = read(BASE + REACH6, ROUTE, context=only4)
    assert [r.family for r in both.announced] == [IPV4_UNICAST]
    only6 = ebgp(families=frozenset({IPV6_UNICAST}))
    got = read(BASE, ROUTE, "08 0a", context=only6)
    assert (got.announced, got.withdrawn, brief(got)) == ([], [], [(IGNORED, None), (IGNORED, None)])


def test_rfc4724_2_end_of_rib() -> None:
    assert read() == Update(end_of_rib=IPV4_UNICAST)
    assert read("80 0f 03 0002 01") == Update(end_of_rib=IPV6_UNICAST)
    assert read("90 0f 0003 0001 85") == Update(end_of_rib=IPV4_FLOW)
    for family in FAMILIES:
        assert decode_update(encode_end_of_rib(family)[19:], ebgp()) == Update(end_of_rib=family)


def test_rfc4724_2_only_a_lone_empty_mp_unreach_is_end_of_rib() -> None:
    assert read("80 0f 03 0002 01" + ORIGIN).end_of_rib is None
    assert read("80 0f 03 0002 01", "", ROUTE).end_of_rib is None


def test_end_of_rib_of_a_family_that_was_not_negotiated() -> None:
    got = read("80 0f 03 0019 46")
    assert (got.end_of_rib, brief(got)) == (None, [(IGNORED, None)])


def test_short_body_is_1_2() -> None:
    with pytest.raises(NotificationError) as caught:
        decode_update(b"\0\0\0", ebgp())
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (1, 2, b"\0\x16")


# -- any octets --------------------------------------------------------------------------------------------

contexts = st.builds(
    lambda asn4, external, families: UpdateContext(asn4, external, families, 65001, 65010),
    st.booleans(),
    st.booleans(),
    st.frozensets(st.sampled_from([*FAMILIES, Family(1, 2), Family(25, 70)])),
)
attribute_octets = st.builds(
    lambda flags, code, value: bytes((flags & 0xEF, code, len(value))) + value,
    st.sampled_from([0x40, 0x80, 0xC0, 0xE0, 0x00]),
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 25, 26, 32, 35, 99]),
    st.one_of(
        st.binary(max_size=24),
        st.binary(max_size=24).map(lambda tail: b"\0\2\1\x10" + bytes(17) + tail),
        st.binary(max_size=8).map(lambda tail: b"\2\1\0\0\xfd\xe9" + tail),
    ),
)


def check_any(octets: bytes, context: UpdateContext) -> None:
    with contextlib.suppress(NotificationError):
        got = decode_update(octets, context)
        assert decode_update(octets, context) == got  # the cache changes nothing
        assert all(reach.family in context.families for reach in got.announced)
        assert all(gone.family in context.families for gone in got.withdrawn)


@given(st.binary(max_size=80), contexts)
def test_any_octets_raise_nothing_but_notification_errors(data: bytes, context: UpdateContext) -> None:
    check_any(data, context)


@given(
    st.binary(max_size=8),
    st.lists(attribute_octets, max_size=6),
    st.binary(max_size=3),
    st.binary(max_size=8),
    contexts,
)
@settings(max_examples=400)
def test_any_attributes_raise_nothing_but_notification_errors(
    withdrawn: bytes, attributes: list[bytes], tail: bytes, nlri: bytes, context: UpdateContext
) -> None:
    block = b"".join(attributes) + tail
    check_any(len(withdrawn).to_bytes(2, "big") + withdrawn + len(block).to_bytes(2, "big") + block + nlri, context)
