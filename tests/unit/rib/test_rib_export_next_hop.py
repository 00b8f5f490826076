"""Next hops of both families over both kinds of sessions: RFC 4271 §5.1.3, RFC 2545 §3, RFC 8950."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export_bench import (
    EBGP,
    FROM_CLIENT,
    FROM_EBGP,
    FROM_IBGP,
    IBGP,
    LEARNED,
    NLRI,
    OUR_AS,
    OUR_LL,
    OUR_V4,
    OUR_V6,
    PEER_LL,
    PEER_V6,
    THIRD_V4,
    THIRD_V6,
    TO_CLIENT,
    refused,
    sent,
)

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.policy import Policy, Term
from bgpbfd.rib.export import ExportContext
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update import UpdateContext, decode_update
from bgpbfd.wire.update_out import encode_announce

OVER_V6 = replace(EBGP, remote_address=PEER_V6, local_link_local=OUR_LL)
EXTENDED = replace(OVER_V6, extended_next_hop=True)
LINK_LOCAL = replace(EXTENDED, remote_address=PEER_LL, local_ipv6=None)
OWN = PathAttributes()


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (EBGP, OUR_V4),
        (replace(EBGP, extended_next_hop=True), OUR_V4),  # an IPv4 session's own address is IPv4
        (OVER_V6, OUR_V4),  # not agreed: the interface's IPv4 address
        (EXTENDED, OUR_V6 + OUR_LL),  # agreed: the session's, whatever IPv4 the interface has
        (replace(EXTENDED, local_ipv4=None), OUR_V6 + OUR_LL),
        (replace(EXTENDED, local_link_local=None), OUR_V6),  # RFC 2545 §3: no shared subnet
        (LINK_LOCAL, OUR_LL * 2),
        (replace(LINK_LOCAL, local_ipv6=OUR_V6), OUR_V6 + OUR_LL),
        (replace(EXTENDED, local_ipv6=None, local_link_local=None), OUR_V4),
    ],
)
def test_rfc8950_our_own_next_hop_for_ipv4(context: ExportContext, expected: bytes) -> None:
    assert sent(OWN, context).next_hop == expected
    assert sent(LEARNED, context, FROM_EBGP).next_hop == expected


def test_rfc8950_without_any_address_there_is_nothing_to_say() -> None:
    bare = replace(EXTENDED, local_ipv4=None, local_ipv6=None, local_link_local=None)
    assert "no local IPv4 address" in refused(OWN, bare)
    assert "no local IPv4 address" in refused(OWN, replace(OVER_V6, local_ipv4=None))


@pytest.mark.parametrize("next_hop", [THIRD_V6, THIRD_V6 + PEER_LL, THIRD_V4])
def test_rfc8950_a_configured_next_hop_of_either_family_where_it_is_in_force(next_hop: bytes) -> None:
    assert sent(PathAttributes(next_hop=next_hop), EXTENDED).next_hop == next_hop
    if len(next_hop) > 4:
        assert "RFC 8950" in refused(PathAttributes(next_hop=next_hop), OVER_V6)


def test_rfc8950_is_about_ipv4_prefixes_alone() -> None:
    assert "IPv6 next hop" in refused(PathAttributes(next_hop=THIRD_V4), EXTENDED, family=IPV6_UNICAST)
    assert sent(OWN, EXTENDED, family=IPV6_UNICAST).next_hop == OUR_V6 + OUR_LL


@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_rfc4271_5_1_3_never_the_peers_own_address_in_either_half(family: object) -> None:
    for next_hop in (PEER_V6, PEER_V6 + PEER_LL):
        assert "peer's own" in refused(PathAttributes(next_hop=next_hop), EXTENDED, family=family)  # type: ignore[arg-type]
    for next_hop in (PEER_LL, THIRD_V6 + PEER_LL):
        assert "peer's own" in refused(PathAttributes(next_hop=next_hop), LINK_LOCAL, family=family)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_rfc2545_3_a_configured_link_local_next_hop_needs_a_shared_subnet(family: object) -> None:
    other = PEER_LL[:15] + b"\x77"
    routed = replace(EXTENDED, local_link_local=None)
    for next_hop in (other, THIRD_V6 + other):
        assert "shared" in refused(PathAttributes(next_hop=next_hop), routed, family=family)  # type: ignore[arg-type]
        assert sent(PathAttributes(next_hop=next_hop), EXTENDED, family=family).next_hop == next_hop  # type: ignore[arg-type]


def test_rfc4271_5_1_3_an_ipv6_next_hop_passes_to_internal_peers_where_it_can() -> None:
    route = replace(LEARNED, next_hop=THIRD_V6 + PEER_LL)
    inside = replace(EXTENDED, external=False, policy=None)
    assert sent(route, inside, FROM_EBGP).next_hop == THIRD_V6
    assert sent(route, replace(inside, route_reflector_client=True), FROM_IBGP).next_hop == THIRD_V6
    for context, origin in ((IBGP, FROM_EBGP), (TO_CLIENT, FROM_IBGP), (IBGP, FROM_CLIENT)):
        assert "RFC 8950" in refused(route, context, origin)
    assert sent(route, replace(IBGP, next_hop_self=True), FROM_EBGP).next_hop == OUR_V4
    own = replace(IBGP, policy=Policy("p", terms=(Term(changes=Changes(next_hop_self=True)),)))
    assert sent(route, own, FROM_EBGP).next_hop == OUR_V4


def test_rfc2545_3_a_link_local_next_hop_of_another_link_becomes_ours() -> None:
    inside = replace(EXTENDED, external=False, policy=None, route_reflector_client=True)
    for useless in (PEER_LL, bytes(16) + PEER_LL):
        for origin in (FROM_EBGP, FROM_IBGP):
            assert sent(replace(LEARNED, next_hop=useless), inside, origin).next_hop == OUR_V6 + OUR_LL


@pytest.mark.parametrize("context", [EXTENDED, LINK_LOCAL, replace(EXTENDED, local_link_local=None)])
def test_rfc8950_3_what_we_send_is_read_where_it_was_agreed_on(context: ExportContext) -> None:
    wire = UpdateContext(
        asn4=True,
        external=True,
        families=frozenset({IPV4_UNICAST}),
        remote_asn=OUR_AS,
        local_asn=65001,
        extended_next_hop=frozenset({IPV4_UNICAST}),
    )
    out = sent(OWN, context)
    (message,) = encode_announce(IPV4_UNICAST, out, [NLRI], wire)
    update = decode_update(message[19:], wire)
    assert update.faults == []
    (reach,) = update.announced
    assert (reach.family, reach.nlri) == (IPV4_UNICAST, [NLRI])
    assert out.next_hop is not None
    assert reach.attributes.next_hop in {out.next_hop, out.next_hop[:16]}  # one link-local address twice is one
