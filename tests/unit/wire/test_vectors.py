"""Messages whose octets an independent dissector has read with the same meaning, both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.capabilities import (
    ENHANCED_ROUTE_REFRESH,
    EXTENDED_MESSAGE,
    ROUTE_REFRESH,
    four_octet_as,
    graceful_restart,
    multiprotocol,
)
from bgpbfd.wire.messages import (
    HEADER_LENGTH,
    KEEPALIVE,
    Notification,
    Open,
    RouteRefresh,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_notification,
    encode_open,
    encode_route_refresh,
)
from bgpbfd.wire.notification_text import describe_notification
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, decode_update
from bgpbfd.wire.update_out import encode_announce, encode_end_of_rib, encode_withdraw

LINES = (Path(__file__).parents[2] / "vectors" / "bgp_messages.txt").read_text().splitlines()
VECTORS = {name: bytes.fromhex(octets) for name, octets in (line.split() for line in LINES if line[0] != "#")}

FAMILIES = frozenset({IPV4_UNICAST, IPV6_UNICAST, IPV4_FLOW})
INTERNAL = UpdateContext(True, False, FAMILIES, 65010, 65010)
TWO_OCTET = UpdateContext(False, True, FAMILIES, 65001, 65010)
GLOBAL = bytes.fromhex("20010db8000000000000000000000001")
LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000001")
FULL = PathAttributes(
    origin=1,
    as_path=(Segment(2, (65001, 70000)), Segment(1, (64500, 64501))),
    next_hop=bytes((192, 0, 2, 10)),
    med=50,
    local_pref=200,
    atomic_aggregate=True,
    aggregator=(70000, bytes((192, 0, 2, 9))),
    communities=(0xFDE90063, 0xFFFFFF01),
    originator_id=bytes((10, 0, 0, 1)),
    cluster_list=(bytes((10, 0, 0, 2)),),
    extended_communities=(bytes.fromhex("0002fde900000001"),),
    large_communities=((65001, 1, 2),),
    only_to_customer=65001,
)
FLOW = PathAttributes(local_pref=100, extended_communities=(bytes.fromhex("8006000046bb8000"),))
ANNOUNCEMENTS = {
    "update-ipv4-all-attributes": (
        INTERNAL,
        Reach(IPV4_UNICAST, FULL, [bytes.fromhex("18cb0071"), bytes.fromhex("20c6336401")]),
    ),
    "update-ipv4-two-octet-as": (
        TWO_OCTET,
        Reach(IPV4_UNICAST, replace(FULL, local_pref=None, originator_id=None, cluster_list=()), [b"\0"]),
    ),
    "update-ipv6": (
        INTERNAL,
        Reach(IPV6_UNICAST, replace(FULL, next_hop=GLOBAL), [bytes.fromhex("2020010db8")]),
    ),
    "update-ipv6-link-local": (
        INTERNAL,
        Reach(IPV6_UNICAST, replace(FULL, next_hop=GLOBAL + LINK_LOCAL), [b"\x80" + GLOBAL]),
    ),
    "flow-ipv4": (INTERNAL, Reach(IPV4_FLOW, FLOW, [bytes.fromhex("0b0118c00002038106048119")])),
}


@pytest.mark.parametrize("name", ANNOUNCEMENTS)
def test_announcements(name: str) -> None:
    context, reach = ANNOUNCEMENTS[name]
    assert encode_announce(reach.family, reach.attributes, reach.nlri, context) == [VECTORS[name]]
    assert decode_update(VECTORS[name][HEADER_LENGTH:], context) == Update([reach])


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("withdraw-ipv4", Unreach(IPV4_UNICAST, [bytes.fromhex("18cb0071")])),
        ("withdraw-ipv6", Unreach(IPV6_UNICAST, [bytes.fromhex("2020010db8")])),
    ],
)
def test_withdrawals(name: str, gone: Unreach) -> None:
    assert encode_withdraw(gone.family, gone.nlri, INTERNAL) == [VECTORS[name]]
    assert decode_update(VECTORS[name][HEADER_LENGTH:], INTERNAL) == Update(withdrawn=[gone])


def test_open() -> None:
    families = (multiprotocol(IPV4_UNICAST), multiprotocol(IPV6_UNICAST))
    restart = graceful_restart(False, False, 0, ())
    rest = (ROUTE_REFRESH, EXTENDED_MESSAGE, restart, four_octet_as(4200000000), ENHANCED_ROUTE_REFRESH)
    message = Open(23456, 180, 0xC000020A, families + rest)
    assert encode_open(message) == VECTORS["open"]
    assert decode_open(VECTORS["open"][HEADER_LENGTH:]) == message


def test_the_short_ones() -> None:
    message = Notification(6, 2, b"\x0bmaintenance")
    assert encode_notification(message) == VECTORS["notification-shutdown"]
    got = decode_notification(VECTORS["notification-shutdown"][HEADER_LENGTH:])
    assert describe_notification(got) == 'Cease, Administrative Shutdown: "maintenance"'
    assert encode_route_refresh(RouteRefresh(IPV6_UNICAST)) == VECTORS["route-refresh"]
    assert decode_route_refresh(VECTORS["route-refresh"][HEADER_LENGTH:]) == RouteRefresh(IPV6_UNICAST)
    assert VECTORS["keepalive"] == KEEPALIVE
    assert encode_end_of_rib(IPV6_UNICAST) == VECTORS["end-of-rib-ipv6"]
