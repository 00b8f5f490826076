"""UPDATEs as other speakers and their test suites have them, odd ones and broken ones, each with the RFC's verdict.

The octets are written from the RFCs; the names say who is known to send such a thing or which fault it once caused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_FLOW, IPV6_UNICAST, Family
from bgpbfd.wire.messages import NotificationError
from bgpbfd.wire.update import UpdateContext, decode_update

W, D, I, A = "treat-as-withdraw", "attribute-discard", "ignored", "afi-safi-disable"  # noqa: E741
FAMILIES = frozenset({IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW, IPV6_FLOW})
EBGP, IBGP, EBGP2 = "external", "internal", "external, AS numbers of two octets"

OPA = "40 01 01 00  40 02 06 02 01 0000fde9"
BASE = OPA + "40 03 04 c0000201"
INSIDE = BASE + "40 05 04 00000064"
BASE2 = "40 01 01 00  40 02 04 02 01 fde9  40 03 04 c0000201"
V6 = "20010db8 00000000 00000000 00000001"
LL = "fe800000 00000000 00000000 00000001"
P4, P6 = "18 cb0071", "20 20010db8"
RD = "0000000000000000"


@dataclass(frozen=True)
class Vector:
    """``announced``, ``withdrawn``: (family, routes in hex); ``faults``: (treatment, attribute); or ``reset``.

    ``disables`` is for a session with all families; one with that family alone is reset with 3/9.
    """

    attributes: str = ""
    nlri: str = ""
    withdrawn_field: str = ""
    session: str = EBGP
    announced: tuple[tuple[Family, str], ...] = ()
    withdrawn: tuple[tuple[Family, str], ...] = ()
    faults: tuple[tuple[str, int | None], ...] = ()
    end_of_rib: Family | None = None
    disables: Family | None = None
    reset: tuple[int, int] | None = None
    values: dict[str, object] = field(default_factory=dict)

    def body(self) -> bytes:
        gone, attributes, nlri = (bytes.fromhex(part) for part in (self.withdrawn_field, self.attributes, self.nlri))
        return len(gone).to_bytes(2, "big") + gone + len(attributes).to_bytes(2, "big") + attributes + nlri


def context(session: str) -> UpdateContext:
    external = session != IBGP
    return UpdateContext(session != EBGP2, external, FAMILIES, 65001 if external else 65010, 65010)


IN4, IN6 = ((IPV4_UNICAST, P4),), ((IPV6_UNICAST, P6),)


def mp(code: str, family: str, rest: str, flags: str = "80") -> str:
    octets = bytes.fromhex(family + rest)
    return f"{flags} {code} {len(octets):02x} {octets.hex()}"


def reach(family: str, next_hop: str, nlri: str, reserved: str = "00") -> str:
    return mp("0e", family, f"{len(bytes.fromhex(next_hop)):02x}" + next_hop + reserved + nlri)


REACH6 = reach("0002 01", V6, P6)
UNREACH6 = mp("0f", "0002 01", P6)

VECTORS = {
    # -- odd but legal -------------------------------------------------------------------------------------
    "attributes and no route at all": Vector(BASE),
    "a lone ORIGIN": Vector("40 01 01 00"),
    "default routes": Vector(BASE, "00", announced=((IPV4_UNICAST, "00"),)),
    "ExaBGP: 14 last, classic fields beside it": Vector(
        BASE + REACH6, P4, "08 0a", announced=IN4 + IN6, withdrawn=((IPV4_UNICAST, "08 0a"),)
    ),
    "14 in the middle": Vector("40 01 01 00" + REACH6 + "40 02 06 02 01 0000fde9", announced=IN6),
    "attributes in descending order": Vector(
        "40 03 04 c0000201 40 02 06 02 01 0000fde9 40 01 01 00", P4, announced=IN4
    ),
    "14 and 15 of two families": Vector(
        OPA + mp("0f", "0001 01", P4) + REACH6, announced=IN6, withdrawn=((IPV4_UNICAST, P4),)
    ),
    "GoBGP: NEXT_HOP beside 14": Vector(BASE + REACH6, announced=IN6, values={"next_hop": V6}),
    "NEXT_HOP of six octets beside 14 alone": Vector(OPA + "40 03 06 c00002010000" + REACH6, announced=IN6),
    "NEXT_HOP with wrong flags beside 14 alone": Vector(OPA + "c0 03 04 c0000201" + REACH6, announced=IN6),
    "BIRD: IPv4 in 14, 4-octet next hop": Vector(
        OPA + reach("0001 01", "c0000201", P4), announced=IN4, values={"next_hop": "c0000201"}
    ),
    "BIRD: :: and a link-local next hop": Vector(
        OPA + reach("0002 01", "00" * 16 + LL, P6), announced=IN6, values={"next_hop": LL}
    ),
    "FRR: the link-local next hop twice": Vector(
        OPA + reach("0002 01", LL + LL, P6), announced=IN6, values={"next_hop": LL}
    ),
    "link-local next hop alone": Vector(OPA + reach("0002 01", LL, P6), announced=IN6, values={"next_hop": LL}),
    "RFC 2858: one SNPA, now a reserved octet": Vector(OPA + reach("0002 01", V6, P6, "01"), announced=IN6),
    "MP_REACH_NLRI without routes": Vector(OPA + reach("0002 01", V6, "")),
    "14 with extended length": Vector(OPA + "90 0e 001a 0002 01 10" + V6 + "00" + P6, announced=IN6),
    "all attributes with extended length": Vector(
        "50 01 0001 00 50 02 0006 02 01 0000fde9 50 03 0004 c0000201", P4, announced=IN4
    ),
    "a prefix twice": Vector(BASE, P4 + P4, announced=((IPV4_UNICAST, P4 + P4),)),
    "host bits set": Vector(BASE, "18 cb0071 19 c00002ff", announced=((IPV4_UNICAST, "18 cb0071 19 c0000280"),)),
    "every prefix length of IPv4": Vector(
        BASE,
        "".join(f"{n:02x}" + "00" * ((n + 7) // 8) for n in range(33)),
        announced=((IPV4_UNICAST, "".join(f"{n:02x}" + "00" * ((n + 7) // 8) for n in range(33))),),
    ),
    "every prefix length of IPv6": Vector(
        OPA
        + "90 0e "
        + f"{21 + sum(1 + (n + 7) // 8 for n in range(129)):04x}"
        + "0002 01 10"
        + V6
        + "00"
        + "".join(f"{n:02x}" + "00" * ((n + 7) // 8) for n in range(129)),
        announced=((IPV6_UNICAST, "".join(f"{n:02x}" + "00" * ((n + 7) // 8) for n in range(129))),),
    ),
    "a path of 255 ASes": Vector(
        "40 01 01 00 50 02 03fe 02 ff" + "0000fde9" * 255 + "40 03 04 c0000201", P4, announced=IN4
    ),
    "an attribute of more than 4096 octets": Vector(
        BASE + "d0 08 1388" + "fde90001" * 1250, P4, announced=IN4, values={"communities": (0xFDE90001,) * 1250}
    ),
    "a set after the sequence": Vector(
        "40 01 01 00 40 02 10 02 01 0000fde9 01 02 00000001 00000002 40 03 04 c0000201", P4, announced=IN4
    ),
    "private and reserved ASes in the path": Vector(
        "40 01 01 00 40 02 12 02 04 0000fde9 00005ba0 0000ffff ffffffff 40 03 04 c0000201", P4, announced=IN4
    ),
    "next hop 0.0.0.0 is for the decision process": Vector(OPA + "40 03 04 00000000", P4, announced=IN4),
    "an empty path inside": Vector(
        "40 01 01 00 40 02 00 40 03 04 c0000201 40 05 04 00000064", P4, session=IBGP, announced=IN4
    ),
    "unknown transitive, Partial already set": Vector(BASE + "e0 63 01 07", P4, announced=IN4),
    "ATTR_SET, prefix SID, tunnel encapsulation are passed on": Vector(
        BASE + "c0 80 04 00000001 c0 28 00 c0 17 02 0001", P4, announced=IN4
    ),
    # the attribute 28 of 2023, which took sessions down where it was looked into
    "a malformed attribute that nobody has to look into": Vector(BASE + "e0 1c 00", P4, announced=IN4),
    "withdrawn and announced in one": Vector(BASE, P4, P4, announced=IN4),
    "IPv4 withdrawn in 15": Vector(mp("0f", "0001 01", P4), withdrawn=((IPV4_UNICAST, P4),)),
    "attributes beside a withdrawal": Vector(BASE, "", P4, withdrawn=((IPV4_UNICAST, P4),)),
    "two octets: AS_TRANS and no AS4_PATH": Vector(
        "40 01 01 00 40 02 06 02 02 fde9 5ba0 40 03 04 c0000201", P4, session=EBGP2, announced=IN4
    ),
    "two octets: an AS4_AGGREGATOR without AGGREGATOR": Vector(
        BASE2 + "c0 12 08 00011170 c0000209", P4, session=EBGP2, announced=IN4, values={"aggregator": None}
    ),
    "two octets: an AS4_PATH of confederation segments alone": Vector(
        BASE2 + "c0 11 06 03 01 0000fe00", P4, session=EBGP2, announced=IN4
    ),
    # -- End-of-RIB ----------------------------------------------------------------------------------------
    "End-of-RIB of IPv4": Vector(end_of_rib=IPV4_UNICAST),
    "End-of-RIB of IPv6": Vector("80 0f 03 0002 01", end_of_rib=IPV6_UNICAST),
    "End-of-RIB of IPv4 in 15": Vector("80 0f 03 0001 01", end_of_rib=IPV4_UNICAST),
    "ExaBGP: End-of-RIB with extended length": Vector("90 0f 0003 0002 01", end_of_rib=IPV6_UNICAST),
    "End-of-RIB of IPv6 flow specifications": Vector("80 0f 03 0002 85", end_of_rib=IPV6_FLOW),
    "End-of-RIB of a family that nobody asked for": Vector("80 0f 03 0001 80", faults=((I, None),)),
    "an empty 15 beside an attribute is none": Vector("80 0f 03 0002 01 40 01 01 00"),
    "an empty 15 beside a route is none": Vector(BASE + "80 0f 03 0002 01", P4, announced=IN4),
    "an empty 14 is none": Vector(reach("0002 01", V6, "")),
    # -- families that are not ours ------------------------------------------------------------------------
    "AFI 0 SAFI 0": Vector(OPA + reach("0000 00", V6, P6), faults=((I, 14),)),
    "AFI 65535 SAFI 255": Vector(OPA + reach("ffff ff", "", "ff"), faults=((I, 14),)),
    "SAFI 2, multicast": Vector(OPA + reach("0001 02", "c0000201", P4), faults=((I, 14),)),
    "VPN-IPv4, next hop of 12 octets": Vector(
        OPA + reach("0001 80", RD + "c0000201", "70 000011 0000000000000000 0a00"), faults=((I, 14),)
    ),
    "VPN-IPv6, next hop of 24 octets": Vector(OPA + reach("0002 80", RD + V6, "00"), faults=((I, 14),)),
    "VPN-IPv6, next hop of 48 octets": Vector(OPA + reach("0002 80", RD + V6 + RD + LL, "00"), faults=((I, 14),)),
    "EVPN": Vector(OPA + reach("0019 46", "c0000201", "02 21 00"), faults=((I, 14),)),
    "BGP-LS, prefixes that would be none": Vector(OPA + reach("4004 47", "c0000201", "ffff ffff"), faults=((I, 14),)),
    "withdrawn of a family that is not ours": Vector(mp("0f", "0019 46", "02 21 00"), faults=((I, 15),)),
    "ours beside one that is not": Vector(
        BASE + reach("0019 46", "c0000201", "02 21 00"), P4, announced=IN4, faults=((I, 14),)
    ),
    # -- treat-as-withdraw, attribute-discard --------------------------------------------------------------
    "LARGE_COMMUNITY of 11 octets": Vector(BASE + "c0 20 0b" + "01" * 11, P4, withdrawn=IN4, faults=((W, 32),)),
    "COMMUNITIES of no octets": Vector(BASE + "c0 08 00", P4, withdrawn=IN4, faults=((W, 8),)),
    "no segments from an external peer": Vector(
        "40 01 01 00 40 02 00 40 03 04 c0000201", P4, withdrawn=IN4, faults=((W, 2),)
    ),
    "a segment of no ASes": Vector(
        "40 01 01 00 40 02 08 02 01 0000fde9 02 00 40 03 04 c0000201", P4, withdrawn=IN4, faults=((W, 2),)
    ),
    "confederation segments that leaked": Vector(
        "40 01 01 00 40 02 0c 02 01 0000fde9 03 01 0000fe00 40 03 04 c0000201", P4, withdrawn=IN4, faults=((W, 2),)
    ),
    "two-octet path on a session of four": Vector(
        "40 01 01 00 40 02 04 02 01 fde9 40 03 04 c0000201", P4, withdrawn=IN4, faults=((W, 2),)
    ),
    "four-octet path on a session of two": Vector(BASE, P4, session=EBGP2, withdrawn=IN4, faults=((W, 2),)),
    "NEXT_HOP twice": Vector(BASE + "40 03 04 c0000202", P4, announced=IN4, faults=((D, 3),)),
    "NEXT_HOP of 16 octets": Vector(OPA + "40 03 10" + V6, P4, withdrawn=IN4, faults=((W, 3),)),
    "AGGREGATOR of AS 0": Vector(BASE + "c0 07 08 00000000 c0000201", P4, announced=IN4, faults=((D, 7),)),
    "AGGREGATOR of two octets on a session of four": Vector(
        BASE + "c0 07 06 fde9 c0000201", P4, announced=IN4, faults=((D, 7),)
    ),
    "AS4_PATH between speakers of four octets": Vector(
        BASE + "c0 11 06 02 01 00011170", P4, announced=IN4, faults=((D, 17),)
    ),
    "ATOMIC_AGGREGATE with a value": Vector(BASE + "40 06 01 00", P4, announced=IN4, faults=((D, 6),)),
    "LOCAL_PREF from outside": Vector(
        BASE + "40 05 04 000000c8", P4, announced=IN4, faults=((D, 5),), values={"local_pref": None}
    ),
    "no LOCAL_PREF inside": Vector(BASE, P4, session=IBGP, withdrawn=IN4, faults=((W, 5),)),
    "no attributes at all": Vector("", P4, withdrawn=IN4, faults=((W, 1), (W, 2), (W, 3))),
    "MED with the Transitive bit": Vector(BASE + "c0 04 04 00000001", P4, withdrawn=IN4, faults=((W, 4),)),
    "an attribute that runs into the NLRI": Vector(BASE + "c0 08 08 fde90001", P4, withdrawn=IN4, faults=((W, None),)),
    "extended length of 65535": Vector(BASE + "d0 08 ffff fde90001", P4, withdrawn=IN4, faults=((W, None),)),
    "one octet left": Vector(BASE + "40", P4, withdrawn=IN4, faults=((W, None),)),
    "two octets left": Vector(BASE + "40 06", P4, withdrawn=IN4, faults=((W, None),)),
    "three octets left of an extended one": Vector(BASE + "50 06 00", P4, withdrawn=IN4, faults=((W, None),)),
    "zeros behind the attributes": Vector(BASE + "00", P4, withdrawn=IN4, faults=((W, None),)),
    "malformed with both kinds of routes": Vector(
        BASE + "c0 10 07 00020000000000" + REACH6, P4, withdrawn=IN4 + IN6, faults=((W, 16),)
    ),
    "malformed beside routes of another family": Vector(
        OPA + "c0 08 01 00" + reach("0019 46", "c0000201", "02 21 00"), faults=((I, 14), (W, 8))
    ),
    "what was withdrawn stays so": Vector(
        BASE + "c0 08 01 00", P4, "08 0a", withdrawn=((IPV4_UNICAST, "08 0a" + P4),), faults=((W, 8),)
    ),
    # -- AFI/SAFI disable, session reset where there is no other family ------------------------------------
    "IPv6 prefix length 129": Vector(
        OPA + reach("0002 01", V6, "81" + "00" * 17), disables=IPV6_UNICAST, faults=((A, 14),)
    ),
    "IPv6 prefix cut short": Vector(
        OPA + reach("0002 01", V6, "80 20010db8"), disables=IPV6_UNICAST, faults=((A, 14),)
    ),
    "IPv6 withdrawn, length 129": Vector(
        mp("0f", "0002 01", "81" + "00" * 17), disables=IPV6_UNICAST, faults=((A, 15),)
    ),
    "next hop of no octets": Vector(OPA + reach("0002 01", "", P6), disables=IPV6_UNICAST, faults=((A, 14),)),
    "next hop of 4 octets for IPv6": Vector(
        OPA + reach("0002 01", "c0000201", P6), disables=IPV6_UNICAST, faults=((A, 14),)
    ),
    "next hop of 24 octets for IPv6 unicast": Vector(
        OPA + reach("0002 01", RD + V6, P6), disables=IPV6_UNICAST, faults=((A, 14),)
    ),
    "next hop of 16 octets for IPv4": Vector(OPA + reach("0001 01", V6, P4), disables=IPV4_UNICAST, faults=((A, 14),)),
    "next hop that runs past the attribute": Vector(
        OPA + "80 0e 09 0002 01 10 20010db8 00", disables=IPV6_UNICAST, faults=((A, 14),)
    ),
    "flow specification that runs past the attribute": Vector(
        OPA + reach("0001 85", "", "0a 03 81 06"), disables=IPV4_FLOW, faults=((A, 14),)
    ),
    "flow specification of no octets": Vector(OPA + reach("0001 85", "", "00"), disables=IPV4_FLOW, faults=((A, 14),)),
    "RFC 7606 §5.3: a disabled family leaves the routes of the NLRI field alone": Vector(
        BASE + reach("0002 01", V6, "81" + "00" * 17),
        P4,
        "08 0a",
        announced=IN4,
        withdrawn=((IPV4_UNICAST, "08 0a"),),
        disables=IPV6_UNICAST,
        faults=((A, 14),),
    ),
    "15 of a family goes with the family": Vector(
        OPA + reach("0002 01", "", P6) + UNREACH6, disables=IPV6_UNICAST, faults=((A, 14),)
    ),
    "14 of a family goes with the family": Vector(
        OPA + REACH6 + mp("0f", "0002 01", "81" + "00" * 17), disables=IPV6_UNICAST, faults=((A, 15),)
    ),
    "14 and 15 of a family both broken": Vector(
        OPA + reach("0002 01", "", P6) + mp("0f", "0002 01", "81 00"), disables=IPV6_UNICAST, faults=((A, 15), (A, 14))
    ),
    "15 of another family stays": Vector(
        OPA + reach("0002 01", "", P6) + mp("0f", "0001 85", "03 03 81 06"),
        withdrawn=((IPV4_FLOW, "03 03 81 06"),),
        disables=IPV6_UNICAST,
        faults=((A, 14),),
    ),
    "IPv4 in 14 takes the classic fields with it": Vector(
        BASE + reach("0001 01", V6, P4), P4, "08 0a", disables=IPV4_UNICAST, faults=((A, 14),)
    ),
    "treat-as-withdraw beside a disabled family": Vector(
        BASE + "c0 08 01 00" + reach("0002 01", "", P6),
        P4,
        withdrawn=IN4,
        disables=IPV6_UNICAST,
        faults=((A, 14), (W, 8)),
    ),
    "RFC 7606 §5.2: a disabled family had routes in sight": Vector(
        OPA + "c0 08 01 00" + reach("0002 01", "", P6), disables=IPV6_UNICAST, faults=((A, 14), (W, 8))
    ),
    # -- session reset -------------------------------------------------------------------------------------
    "a reset outweighs AFI/SAFI disable": Vector(BASE + reach("0002 01", "", P6), "21 cb00710000", reset=(3, 10)),
    "unknown well-known beside a disabled family": Vector(
        BASE + reach("0002 01", "", P6) + "40 63 00", P4, reset=(3, 2)
    ),
    "prefix length 33": Vector(BASE, "21 cb00710000", reset=(3, 10)),
    "prefix length 255": Vector(BASE, "ff" * 40, reset=(3, 10)),
    "NLRI cut short": Vector(BASE, "18 cb00", reset=(3, 10)),
    "withdrawn cut short": Vector("", "", "20 c00002", reset=(3, 10)),
    "14 of four octets": Vector(OPA + "80 0e 04 0002 01 00", reset=(3, 9)),
    "14 of no octets": Vector(BASE + "80 0e 00", P4, reset=(3, 9)),
    "15 of two octets": Vector("80 0f 02 0002", reset=(3, 9)),
    "14 with the Transitive bit": Vector(OPA + mp("0e", "0002 01", "10" + V6 + "00" + P6, "c0"), reset=(3, 9)),
    "14 as a well-known one": Vector(OPA + mp("0e", "0002 01", "10" + V6 + "00" + P6, "40"), reset=(3, 9)),
    "15 with the Transitive bit": Vector(mp("0f", "0002 01", P6, "c0"), reset=(3, 9)),
    "14 that runs past the attributes": Vector(BASE + "80 0e 40 0002 01", P4, reset=(3, 9)),
    # RFC 7606 §3 j: which routes it had cannot be told, unlike with any other attribute that is cut there
    "14 cut before its length": Vector(BASE + "80 0e", P4, reset=(3, 9)),
    "15 cut within its extended length": Vector(BASE + "90 0f 00", P4, reset=(3, 9)),
    "14 twice": Vector(OPA + REACH6 + REACH6, reset=(3, 1)),
    "15 twice": Vector(UNREACH6 + UNREACH6, reset=(3, 1)),
    "14 twice, of two families": Vector(OPA + REACH6 + reach("0001 01", "c0000201", P4), reset=(3, 1)),
    "14 twice, the second cut short": Vector(OPA + REACH6 + "80 0e 40 0002 01", reset=(3, 1)),
    "an unknown well-known attribute": Vector(BASE + "40 63 01 00", P4, reset=(3, 2)),
    "an attribute of zeros": Vector(BASE + "00 00 00", P4, reset=(3, 2)),
    "malformed beside a withdrawal": Vector(BASE + "c0 08 01 00", "", P4, reset=(3, 5)),
    "malformed and nothing reachable": Vector(OPA + "c0 08 01 00" + UNREACH6, reset=(3, 5)),
    "malformed beside a 14 without routes": Vector(OPA + "c0 08 01 00" + reach("0002 01", V6, ""), reset=(3, 5)),
    "attributes cut short beside a withdrawal": Vector(BASE + "c0", "", P4, reset=(3, 1)),
    "a reset outweighs treat-as-withdraw": Vector(BASE + "c0 08 01 00", "21 cb00710000", reset=(3, 10)),
}


def routes(found: list[tuple[Family, list[bytes]]]) -> tuple[tuple[Family, bytes], ...]:
    return tuple((family, b"".join(nlri)) for family, nlri in found)


def wanted(pairs: tuple[tuple[Family, str], ...]) -> tuple[tuple[Family, bytes], ...]:
    return tuple((family, bytes.fromhex(nlri)) for family, nlri in pairs)


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
def test_vector(vector: Vector) -> None:
    one = context(vector.session)
    for _ in range(2):  # the second time with a warm cache
        if vector.reset is not None:
            with pytest.raises(NotificationError) as caught:
                decode_update(vector.body(), one)
            assert (caught.value.code, caught.value.subcode) == vector.reset
            assert caught.value.octets
            assert caught.value.octets in vector.body()
            assert caught.value.reason
            continue
        update = decode_update(vector.body(), one)
        assert routes([(r.family, r.nlri) for r in update.announced]) == wanted(vector.announced)
        assert routes([(u.family, u.nlri) for u in update.withdrawn]) == wanted(vector.withdrawn)
        assert update.end_of_rib == vector.end_of_rib
        assert [family for family, _ in update.disabled] == ([vector.disables] if vector.disables else [])
        for (treatment, code), fault in zip(vector.faults, update.faults, strict=True):
            assert fault.treatment == treatment
            if code is not None:
                assert fault.attribute == code
            assert fault.data in vector.body()
            assert fault.reason
        for name, value in vector.values.items():
            got = getattr(update.announced[0].attributes, name)
            assert got == (bytes.fromhex(value) if isinstance(value, str) else value)


DISABLING = {name: vector for name, vector in VECTORS.items() if vector.disables is not None}


@pytest.mark.parametrize("vector", DISABLING.values(), ids=DISABLING.keys())
def test_rfc7606_5_3_the_only_family_in_force_resets(vector: Vector) -> None:
    assert vector.disables is not None
    one = replace(context(vector.session), families=frozenset({vector.disables}), disabled=frozenset({Family(1, 2)}))
    with pytest.raises(NotificationError) as caught:
        decode_update(vector.body(), one)
    error = caught.value
    assert (error.code, error.subcode) == (3, 9)
    assert error.data == error.octets
    assert error.octets in vector.body()
    assert error.attribute in {14, 15}
    assert str(vector.disables) in error.reason


def test_rfc7606_5_3_the_last_family_resets_when_two_fail_at_once() -> None:
    broken = Vector(OPA + mp("0f", "0001 01", "21") + reach("0002 01", "", P6)).body()
    two = replace(context(EBGP), families=frozenset({IPV4_UNICAST, IPV6_UNICAST}))
    with pytest.raises(NotificationError) as caught:
        decode_update(broken, two)
    assert (caught.value.code, caught.value.subcode) == (3, 9)
    three = replace(context(EBGP), families=frozenset({IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW}))
    assert {family for family, _ in decode_update(broken, three).disabled} == {IPV4_UNICAST, IPV6_UNICAST}


LATER = {
    "announced": (OPA + REACH6, "", "", 14),
    "withdrawn": (UNREACH6, "", "", 15),
    "malformed once more": (OPA + reach("0002 01", "", P6), "", "", 14),
    "next hop past the end": (OPA + "80 0e 09 0002 01 ff 20010db8 00", "", "", 14),
    "End-of-RIB": (mp("0f", "0002 01", ""), "", "", None),
    "announced, IPv4": (BASE, P4, "", None),
    "withdrawn, IPv4": ("", "", P4, None),
    "End-of-RIB, IPv4": ("", "", "", None),
    "malformed, IPv4": (BASE, "21 00", "", None),
}


@pytest.mark.parametrize(("attributes", "nlri", "withdrawn", "code"), LATER.values(), ids=LATER.keys())
def test_rfc4760_7_a_disabled_family_is_ignored_from_then_on(
    attributes: str, nlri: str, withdrawn: str, code: int | None
) -> None:
    one = context(EBGP)
    good = Vector(BASE, P4).body()
    assert decode_update(good, one).announced  # its attributes are in the cache now
    family = IPV6_UNICAST if attributes not in {"", BASE} else IPV4_UNICAST
    one.disable(family)
    got = decode_update(Vector(attributes, nlri, withdrawn).body(), one)
    assert (got.announced, got.withdrawn, got.end_of_rib, got.disabled) == ([], [], None, ())
    assert [(fault.treatment, fault.attribute) for fault in got.faults] == [(I, code)]
    assert got.faults[0].reason == f"{family} was disabled"


def test_rfc4760_7_the_other_families_go_on() -> None:
    one = context(EBGP)
    one.disable(IPV6_UNICAST)
    both = decode_update(Vector(BASE + REACH6, P4).body(), one)
    assert [reach.family for reach in both.announced] == [IPV4_UNICAST]
    assert [fault.treatment for fault in both.faults] == [I]


def test_a_family_that_was_not_negotiated_cannot_end_the_session_by_its_next_hop() -> None:
    only = replace(context(EBGP), families=frozenset({IPV4_UNICAST}))
    got = decode_update(Vector(BASE + "80 0e 09 0002 01 ff 20010db8 00", P4).body(), only)
    assert routes([(r.family, r.nlri) for r in got.announced]) == wanted(IN4)
    assert [(fault.treatment, fault.attribute) for fault in got.faults] == [(I, 14)]


@pytest.mark.parametrize(
    ("octets", "verdict", "shown"),
    [
        ("", (1, 2, "0013"), ""),
        ("0000 00", (1, 2, "0016"), "0000 00"),
        ("0005 0000", (3, 1, ""), "0005 0000"),
        ("ffff 0000", (3, 1, ""), "ffff 0000"),
        ("0000 0001", (3, 1, ""), "0001"),
        ("0001 00 0004 400101", (3, 1, ""), "0004 400101"),
        ("0000 0000 21 0000000000", (3, 10, ""), "21 0000000000"),
        ("0002 18cb 0000", (3, 10, ""), "18cb"),
        ("0000 0004 40 63 01 00", (3, 2, "40630100"), "40630100"),
        ("0000 0004 80 0f 01 00", (3, 9, "800f0100"), "800f0100"),
        ("0000 0005 80 0f 04 0002", (3, 9, "800f040002"), "800f040002"),
        ("0000 0008 80 0f 01 00 80 0f 01 00", (3, 1, ""), "800f0100"),
        ("0000 0005 40 01 02 0000", (3, 5, "4001020000"), "4001020000"),
        ("0000 0004 40 02 01 02", (3, 11, ""), "40020102"),
        ("0000 0002 4001", (3, 1, ""), "4001"),
    ],
)
def test_rfc4271_6_3_what_the_notification_carries_and_what_is_shown(
    octets: str, verdict: tuple[int, int, str], shown: str
) -> None:
    with pytest.raises(NotificationError) as caught:
        decode_update(bytes.fromhex(octets), context(EBGP))
    error = caught.value
    assert (error.code, error.subcode, error.data) == (verdict[0], verdict[1], bytes.fromhex(verdict[2]))
    assert error.octets == bytes.fromhex(shown)


@pytest.mark.parametrize(
    ("attributes", "nlri", "withdrawn", "shown"),
    [
        ("", P4, "", P4),
        ("", "", P4, P4),
        (OPA + REACH6, "", "", REACH6),
        (UNREACH6, "", "", UNREACH6),
        ("80 0f 03 0002 01", "", "", "80 0f 03 0002 01"),
    ],
)
def test_what_is_ignored_is_counted_with_its_octets(attributes: str, nlri: str, withdrawn: str, shown: str) -> None:
    flows = UpdateContext(True, True, frozenset({IPV6_FLOW}), 65001, 65010)
    update = decode_update(Vector(attributes, nlri, withdrawn).body(), flows)
    assert (update.announced, update.withdrawn) == ([], [])
    ignored = [fault for fault in update.faults if fault.treatment == I]
    assert [fault.data for fault in ignored] == [bytes.fromhex(shown)]
