"""Two sessions of ours, four sources of routes, and how one route leaves."""

from __future__ import annotations

from dataclasses import replace

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family
from bgpbfd.policy.policy import Policy
from bgpbfd.rib.export import ExportContext, Exported, export
from bgpbfd.rib.select import PeerInfo
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import Origin, SegmentType

NLRI = b"\x18\xc6\x33\x64"
OUR_AS = 65010
OUR_V4, PEER_V4, THIRD_V4 = b"\xc0\0\x02\x0a", b"\xc0\0\x02\x01", b"\xc0\0\x02\x63"
OUR_V6 = bytes.fromhex("20010db8000000000000000000000010")
PEER_V6 = bytes.fromhex("20010db8000000000000000000000001")
THIRD_V6 = bytes.fromhex("20010db8000000000000000000000063")
OUR_LL = bytes.fromhex("fe800000000000000000000000000010")
PEER_LL = bytes.fromhex("fe800000000000000000000000000001")
EBGP = ExportContext(
    local_asn=OUR_AS,
    remote_asn=65001,
    external=True,
    families=frozenset({IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW}),
    local_ipv4=OUR_V4,
    local_ipv6=OUR_V6,
    local_link_local=None,
    remote_address=PEER_V4,
    next_hop_self=False,
    router_id=1,
    remote_router_id=5,
    policy=Policy("out"),  # RFC 8212: without one nothing learned leaves the AS
)
IBGP = replace(EBGP, remote_asn=OUR_AS, external=False, policy=None)
FROM_EBGP = PeerInfo(
    external=True,
    remote_asn=65002,
    local_asn=OUR_AS,
    router_id=9,
    local_router_id=1,
    address=b"\xc0\0\x02\x02",
    policy=Policy("in"),
)
FROM_IBGP = replace(FROM_EBGP, external=False, remote_asn=OUR_AS, policy=None)
TO_CLIENT = replace(IBGP, route_reflector_client=True)
FROM_CLIENT = replace(FROM_IBGP, route_reflector_client=True)


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),)


LEARNED = PathAttributes(
    as_path=sequence(65002, 7), next_hop=b"\xc0\0\x02\x02", med=50, origin=Origin.EGP, communities=(0xFDE90001,)
)


def exported(
    attributes: PathAttributes,
    context: ExportContext,
    learned_from: PeerInfo | None = None,
    family: Family = IPV4_UNICAST,
    nlri: bytes = NLRI,
    source: str | None = None,
) -> Exported:
    return export(
        attributes, learned_from, context, family, nlri, source or ("config" if learned_from is None else "peer")
    )


def sent(
    attributes: PathAttributes,
    context: ExportContext,
    learned_from: PeerInfo | None = None,
    family: Family = IPV4_UNICAST,
) -> PathAttributes:
    found = exported(attributes, context, learned_from, family).result
    assert isinstance(found, PathAttributes), found
    return found


def refused(
    attributes: PathAttributes,
    context: ExportContext,
    learned_from: PeerInfo | None = None,
    family: Family = IPV4_UNICAST,
) -> str:
    found = exported(attributes, context, learned_from, family).result
    assert isinstance(found, str), found
    return found
