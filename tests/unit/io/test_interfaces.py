"""Link-local addresses mean something on their link only (RFC 4007 §6): two interfaces may have the same one."""

from __future__ import annotations

import random
import socket
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from bgpbfd.bgp.events import Endpoint, SessionUp
from bgpbfd.bgp.negotiate import Negotiated
from bgpbfd.bgp.peer import Peer
from bgpbfd.config.model import Config, PeerConfig
from bgpbfd.control.neighbor import Neighbor, export_context, peer_info, peer_settings
from bgpbfd.control.ports import InterfaceAddresses
from bgpbfd.core import IPV6_UNICAST
from bgpbfd.io.interfaces import SystemInterfaces
from bgpbfd.policy.policy import Policy
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import export
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update import UpdateContext

NAMES = {2: "eth0", 3: "eth1"}


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two interfaces with fe80::a; eth1 has a second link-local address, which comes first."""

    def entry(address: str) -> SimpleNamespace:
        v6 = ":" in address
        family = socket.AF_INET6 if v6 else socket.AF_INET
        return SimpleNamespace(
            family=family, address=address, netmask="ffff:ffff:ffff:ffff::" if v6 else "255.255.255.0"
        )

    addresses = {
        "eth0": [entry("192.0.2.10"), entry("2001:db8::10"), entry("fe80::a%eth0")],
        "eth1": [entry("198.51.100.10"), entry("2001:db8:1::10"), entry("fe80::1%eth1"), entry("fe80::a%eth1")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    monkeypatch.setattr(socket, "if_indextoname", NAMES.__getitem__)


@pytest.mark.parametrize(
    ("scope_id", "v4", "v6"), [(2, "192.0.2.10", "2001:db8::10"), (3, "198.51.100.10", "2001:db8:1::10")]
)
def test_rfc4007_6_the_scope_decides_between_equal_addresses(scope_id: int, v4: str, v6: str) -> None:
    found = SystemInterfaces().around(packed("fe80::a"), packed("fe80::b"), scope_id)
    assert found == InterfaceAddresses(packed(v4), packed(v6), packed("fe80::a"), on_link=True)


def test_no_scope_takes_the_interface_that_has_the_address() -> None:
    found = SystemInterfaces().around(packed("2001:db8:1::10"), packed("2001:db8:1::1"))
    assert (found.ipv4, found.link_local) == (packed("198.51.100.10"), packed("fe80::1"))


def _session(scope_id: int) -> SessionUp:
    negotiated = Negotiated(
        asn4=True,
        families=frozenset({IPV6_UNICAST}),
        hold_time_s=180,
        keepalive_time_s=60,
        remote_asn=65001,
        remote_router_id=1,
        external=True,
        may_send_refresh=True,
        enhanced_refresh=True,
        send_max_length=4096,
        receive_max_length=4096,
        graceful_restart_peer=False,
        capabilities_sent=(),
        capabilities_received=(),
    )
    context = UpdateContext(asn4=True, external=True, families=negotiated.families, remote_asn=65001, local_asn=65010)
    local, remote = (Endpoint(packed(text), text, 179, scope_id) for text in ("fe80::a", "fe80::b"))
    return SessionUp(1, 1, negotiated, local, remote, context)


CONFIG = PeerConfig(
    id="fe80::b%eth1", remote_ip="fe80::b", remote_as=65001, local_as=65010, local_router_id="192.0.2.10"
)
NEIGHBOR = Neighbor(
    CONFIG,
    Peer(CONFIG.id, peer_settings(CONFIG, 5.0), random.Random(1)),
    Announcer(lambda _family, _nlri: None, lambda _family: ()),
)
WHOLE = Config(router_id="192.0.2.10", default_as=65010, peers=(CONFIG,))


def test_another_links_address_is_not_ours_as_a_next_hop() -> None:
    """The peer on eth0 may have the address that we have on eth1 alone."""
    own = peer_info(NEIGHBOR, _session(2), WHOLE, SystemInterfaces()).local_addresses
    assert packed("fe80::a") in own
    assert packed("fe80::1") not in own
    assert packed("2001:db8:1::10") in own


def test_peers_of_one_address_on_two_links_are_two_peers() -> None:
    interfaces = SystemInterfaces()
    learned = peer_info(NEIGHBOR, _session(2), WHOLE, interfaces)
    attributes = PathAttributes(next_hop=packed("fe80::b"))
    learned = replace(learned, policy=Policy("in"))  # RFC 8212
    back, on = (
        export(attributes, learned, replace(context, policy=Policy("out")), IPV6_UNICAST, b"\0", "peer").result
        for context in (export_context(NEIGHBOR, _session(scope), WHOLE, interfaces) for scope in (2, 3))
    )
    assert back == "learned from this peer"
    assert isinstance(on, PathAttributes)
    assert on.next_hop == packed("2001:db8:1::10") + packed("fe80::a")
