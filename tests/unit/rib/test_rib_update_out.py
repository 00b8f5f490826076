"""Our UPDATEs octet by octet: each rule of how a route is written, from the route to the message."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export_bench import EBGP, FROM_EBGP, IBGP, LEARNED, OUR_LL, OUR_V4, OUR_V6, PEER_LL, PEER_V6

from bgpbfd.core import IPV4_UNICAST, Family, Prefix
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import ExportContext
from bgpbfd.rib.select import PeerInfo
from bgpbfd.wire.attributes import PathAttributes, split_attributes
from bgpbfd.wire.iana import BgpRole
from bgpbfd.wire.update import UpdateContext

V4, V6 = Prefix.parse("198.51.100.0/24"), Prefix.parse("2001:db8:1::/48")
FLOW = Prefix(1, bytes.fromhex("0b0118c00002038106048119"), 133)  # RFC 8955 §4.3.1's shape: a rule with its length
MARKER = b"\xff" * 16
OVER_V6 = replace(EBGP, remote_address=PEER_V6)


class Out:
    """One session's announcer with a dictionary of routes: (attributes, learned from)."""

    def __init__(self, export: ExportContext, *, asn4: bool = True, extended: bool = False, max_length: int = 4096):
        self.routes: dict[Prefix, tuple[PathAttributes, PeerInfo | None]] = {}
        self.announcer = Announcer(self.wanted, lambda family: [p.nlri for p in self.routes if p.family == family])
        context = UpdateContext(
            asn4=asn4,
            external=export.external,
            families=export.families,
            remote_asn=export.remote_asn,
            local_asn=export.local_asn,
            max_length=max_length,
            extended_next_hop=frozenset({IPV4_UNICAST}) if extended else frozenset(),
        )
        self.announcer.session_up(context, export, end_of_rib=False)

    def wanted(self, family: Family, nlri: bytes) -> PathAttributes | str | None:
        route = self.routes.get(Prefix(family.afi, nlri, family.safi))
        if route is None:
            return None
        return self.announcer.exported(*route, family, nlri, "config" if route[1] is None else "peer")

    def send(self, prefix: Prefix, attributes: PathAttributes | None, origin: PeerInfo | None = None) -> list[bytes]:
        """The bodies of the messages that a change of one route makes."""
        if attributes is None:
            del self.routes[prefix]
        else:
            self.routes[prefix] = (attributes, origin)
        self.announcer.mark(prefix.family, prefix.nlri)
        messages: list[bytes] = []
        while self.announcer.has_pending:
            messages += self.announcer.next_batch()
        for message in messages:
            assert message[:16] == MARKER
            assert int.from_bytes(message[16:18]) == len(message)
            assert message[18] == 2
        return [message[19:] for message in messages]


def octets(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts).replace(" ", ""))


def announced(attributes: str, nlri: str = "") -> bytes:
    block = octets(attributes)
    return b"\0\0" + len(block).to_bytes(2) + block + octets(nlri)


def test_rfc4271_5_1_ebgp_own_route() -> None:
    """ORIGIN, AS_PATH with our AS, NEXT_HOP; no LOCAL_PREF; IPv4 in the classic fields."""
    (body,) = Out(EBGP).send(V4, PathAttributes(local_pref=200))
    assert body == announced("40010100 400206 0201 0000fdf2 400304 c000020a", "18 c63364")
    (body,) = Out(EBGP).send(V4, PathAttributes(med=50))
    assert body == announced("40010100 400206 0201 0000fdf2 400304 c000020a 800404 00000032", "18 c63364")


def test_rfc4271_5_1_5_ibgp_own_route() -> None:
    """An empty AS_PATH, and LOCAL_PREF whether configured or not."""
    (body,) = Out(IBGP).send(V4, PathAttributes())
    assert body == announced("40010100 400200 400304 c000020a 400504 00000064", "18 c63364")
    (body,) = Out(IBGP).send(V4, PathAttributes(local_pref=7, med=0))
    assert body == announced("40010100 400200 400304 c000020a 800404 00000000 400504 00000007", "18 c63364")


def test_rfc7606_5_1_mp_reach_first_then_ascending() -> None:
    """RFC 4760 §3: reserved octet 0; RFC 2545 §3: 16 octets where no subnet is shared, 32 where one is."""
    rest = "40010100 400206 0201 0000fdf2 c00804 fde90001 c0200c 0000fde9 00000001 00000002"
    route = PathAttributes(communities=(0xFDE90001,), large_communities=((65001, 1, 2),))
    (body,) = Out(OVER_V6).send(V6, route)
    head = f"0002 01 10 {OUR_V6.hex()} 00 30 20010db80001"
    assert body == announced(f"800e{len(octets(head)):02x} {head} {rest}")
    (body,) = Out(replace(OVER_V6, local_link_local=OUR_LL)).send(V6, route)
    head = f"0002 01 20 {OUR_V6.hex()} {OUR_LL.hex()} 00 30 20010db80001"
    assert body == announced(f"800e{len(octets(head)):02x} {head} {rest}")


def test_rfc4760_3_ipv6_over_an_ipv4_session_takes_the_interfaces_address() -> None:
    (body,) = Out(EBGP).send(V6, PathAttributes())
    head = f"0002 01 10 {OUR_V6.hex()} 00 30 20010db80001"
    assert body == announced(f"800e{len(octets(head)):02x} {head} 40010100 400206 0201 0000fdf2")


@pytest.mark.parametrize(
    ("context", "next_hop"),
    [
        (OVER_V6, OUR_V6),
        (replace(OVER_V6, local_link_local=OUR_LL), OUR_V6 + OUR_LL),
        (replace(OVER_V6, remote_address=PEER_LL, local_ipv6=None, local_link_local=OUR_LL), OUR_LL + OUR_LL),
    ],
)
def test_rfc8950_4_ipv4_with_an_ipv6_next_hop(context: ExportContext, next_hop: bytes) -> None:
    """In MP_REACH_NLRI without NEXT_HOP; withdrawn in the classic field."""
    out = Out(replace(context, extended_next_hop=True), extended=True)
    (body,) = out.send(V4, PathAttributes())
    head = f"0001 01 {len(next_hop):02x} {next_hop.hex()} 00 18 c63364"
    assert body == announced(f"800e{len(octets(head)):02x} {head} 40010100 400206 0201 0000fdf2")
    assert out.send(V4, None) == [octets("0004 18c63364 0000")]


def test_rfc8950_an_ipv4_next_hop_stays_in_the_classic_fields() -> None:
    """Reference §5: IPv4 in 14 with a 4-octet next hop ends OpenBGPD's sessions."""
    out = Out(replace(OVER_V6, extended_next_hop=True), extended=True)
    (body,) = out.send(V4, PathAttributes(next_hop=OUR_V4))
    assert body == announced("40010100 400206 0201 0000fdf2 400304 c000020a", "18 c63364")


def test_rfc4760_4_withdrawals_of_both_families() -> None:
    out = Out(EBGP)
    out.send(V4, PathAttributes())
    out.send(V6, PathAttributes())
    assert out.send(V4, None) == [octets("0004 18c63364 0000")]
    assert out.send(V6, None) == [octets("0000 000d 800f0a 000201 30 20010db80001")]


def test_rfc8955_4_a_flow_specification_has_next_hop_length_0() -> None:
    out = Out(EBGP)
    drop = bytes.fromhex("8006000000000000")
    (body,) = out.send(FLOW, PathAttributes(extended_communities=(drop,)))
    head = f"0001 85 00 00 {FLOW.nlri.hex()}"
    assert body == announced(f"800e{len(octets(head)):02x} {head} 40010100 400206 0201 0000fdf2 c01008 {drop.hex()}")
    assert out.send(FLOW, None) == [octets("0000", "0012", "800f0f", "000185", FLOW.nlri.hex())]


def test_rfc6793_4_2_2_a_peer_of_two_octets_gets_as4_path_too() -> None:
    out = Out(replace(EBGP, local_asn=4200000001), asn4=False)
    (body,) = out.send(V4, PathAttributes(as_path=LEARNED.as_path))
    assert body == announced(
        "40010100 400208 0203 5ba0 fdea 0007 400304 c000020a c0110e 0203 fa56ea01 0000fdea 00000007", "18 c63364"
    )


def test_rfc4271_9_1_3_a_route_that_is_passed_on() -> None:
    (body,) = Out(EBGP).send(V4, LEARNED, FROM_EBGP)  # its MED stays behind
    assert body == announced(
        "40010101 40020e 0203 0000fdf2 0000fdea 00000007 400304 c000020a c00804 fde90001", "18 c63364"
    )


def test_rfc4456_8_a_route_that_is_reflected() -> None:
    out = Out(replace(IBGP, route_reflector_client=True, cluster_id=b"\0\0\0\x63"))
    origin = replace(FROM_EBGP, external=False, remote_asn=65010, policy=None)
    (body,) = out.send(V4, replace(LEARNED, local_pref=300), origin)
    assert body == announced(
        "40010101 40020a 0202 0000fdea 00000007 400304 c0000202 800404 00000032 400504 0000012c"
        "c00804 fde90001 800904 00000009 800a04 00000063",
        "18 c63364",
    )


def test_rfc9234_5_only_to_customer() -> None:
    (body,) = Out(replace(EBGP, role=BgpRole.PROVIDER)).send(V4, PathAttributes())
    assert body == announced("40010100 400206 0201 0000fdf2 400304 c000020a c02304 0000fdf2", "18 c63364")


def test_rfc8326_4_graceful_shutdown() -> None:
    (body,) = Out(replace(EBGP, graceful_shutdown=True)).send(V4, PathAttributes())
    assert body == announced("40010100 400206 0201 0000fdf2 400304 c000020a c00804 ffff0000", "18 c63364")


def test_rfc4271_9_2_a_change_of_form_is_one_announcement() -> None:
    """From the NLRI field into MP_REACH_NLRI: the same route, nothing is withdrawn."""
    out = Out(replace(OVER_V6, extended_next_hop=True), extended=True)
    out.send(V4, PathAttributes(next_hop=OUR_V4))
    (body,) = out.send(V4, PathAttributes())
    assert body[:2] == b"\0\0"
    assert body[4:6] == octets("800e")


def test_rfc7606_5_1_one_kind_of_routes_a_message() -> None:
    out = Out(EBGP)
    for prefix in (V4, V6, FLOW):
        out.routes[prefix] = (PathAttributes(), None)
    out.announcer.mark_all()
    bodies = [message[19:] for _ in range(9) for message in out.announcer.next_batch()]
    kinds = []
    for body in bodies:
        withdrawn = int.from_bytes(body[:2])
        length = int.from_bytes(body[2 + withdrawn : 4 + withdrawn])
        block = body[4 + withdrawn : 4 + withdrawn + length]
        codes = {item[1] for item in split_attributes(block)[0]}
        kinds.append((withdrawn > 0) + (len(body) > 4 + withdrawn + length) + (14 in codes) + (15 in codes))
    assert kinds == [1, 1, 1]


def test_rfc8654_4_the_longest_message_is_the_negotiated_one() -> None:
    heavy = PathAttributes(communities=tuple(range(1100)))
    assert Out(EBGP).send(V4, heavy) == []
    (body,) = Out(EBGP, max_length=65535).send(V4, heavy)
    assert len(body) > 4096


def test_rfc4271_9_2_1_1_mrai_0_every_turn_says_what_is_new() -> None:
    out = Out(EBGP)
    assert len(out.send(V4, PathAttributes(med=1))) == 1
    assert len(out.send(V4, PathAttributes(med=2))) == 1
    assert len(out.send(V4, None)) == 1
    assert out.send(V4, PathAttributes(med=1)) != []
