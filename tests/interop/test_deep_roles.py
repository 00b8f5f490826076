"""BGP roles and OTC (RFC 9234) with the three daemons that have them, and with two that do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer, PeerConfig, Route
from .harness.process import wait_until
from .more import Site, Spec, birdc, edited, faulty, policy, reached, replaced, source, up, vtysh, wait_equal
from .star import OUR_AS

pytestmark = pytest.mark.interop

WITH_ROLES = ["bird", "frr", "openbgpd"]
MISMATCHED = [f"{name}-wrong" for name in WITH_ROLES]
WITHOUT = {"gobgp-strict": GoBgp, "exabgp-lax": ExaBgp}
OURS = Route("198.51.100.0/24", med=3)
FROM_PROVIDER = Route("203.0.113.0/24", med=3)
LEAKED, CLEAN = Route("203.0.114.0/24"), Route("203.0.115.0/24")


def _role(kind: type[Peer], role: str) -> type[Peer]:
    def edit(text: str, config: PeerConfig) -> str:
        if issubclass(kind, Bird):
            return replaced(text, "  direct;", f"  direct;\n  local role {role.replace('-', '_')};")
        if issubclass(kind, Frr):
            line = f" neighbor {config.remote_address} local-role {role}\n"
            return replaced(text, " address-family ipv4", f"{line} address-family ipv4")
        return replaced(text, "  announce IPv4 unicast", f"  announce policy {role}\n  announce IPv4 unicast")

    return edited(kind, edit)


def _leaking(text: str, _: PeerConfig) -> str:
    """A customer without roles that marks one of its routes as if it had come from a provider."""
    return replaced(text, f"if net = {LEAKED.prefix} then {{ ", f"if net = {LEAKED.prefix} then {{ bgp_otc = 64500; ")


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """We are the provider of most, a customer of one and a peer of another."""
    kinds: list[type[Peer]] = [Bird, Frr, OpenBgpd]
    provider = ['role = "provider"']
    transit = ['advertise_sources = ["config", "peer"]', 'import_policy = "all"', 'export_policy = "all"']
    with Lab(tmp_path_factory.mktemp("roles")) as lab:
        specs = [
            *[Spec(_role(kind, "customer"), dial="we", ours=[*provider, *transit]) for kind in kinds],
            *[Spec(_role(kind, "provider"), f"{kind.name}-wrong", dial="we", ours=provider) for kind in kinds],
            Spec(GoBgp, "gobgp-strict", dial="we", ours=[*provider, "role_strict = true"]),
            Spec(ExaBgp, "exabgp-lax", dial="we", ours=provider),
            Spec(
                _role(Bird, "provider"),
                "bird-above",
                dial="we",
                ours=['role = "customer"', *transit],
                routes=[FROM_PROVIDER],
            ),
            Spec(_role(Bird, "peer"), "bird-beside", dial="we", ours=['role = "peer"', *transit]),
            Spec(edited(Bird, _leaking), "bird-leak", dial="we", ours=[*provider, *transit], routes=[LEAKED, CLEAN]),
        ]
        for spec in specs:
            spec.announced = [OURS]
        site = Site(lab, specs, top=policy("all"))
        captures = site.captures()
        site.start()
        yield World(site, captures)


@pytest.mark.feature("roles and OTC")
@pytest.mark.parametrize("name", WITH_ROLES)
def test_rfc9234_4_2_customer_and_provider(world: World, name: str) -> None:
    up(world.site, name)
    neighbor = world.site.ours.neighbor(world.site.peer_id(name))
    assert (neighbor["role"], neighbor["remote_role"]) == ("provider", "customer")


@pytest.mark.feature("roles and OTC")
@pytest.mark.parametrize("name", MISMATCHED)
def test_rfc9234_4_2_two_providers_are_told_2_11(world: World, name: str) -> None:
    """Whoever reads the other's OPEN first says it."""
    arm, capture = world.site.arm(name), world.captures[name]
    wait_until(
        lambda: capture.packets(
            "bgp.notify.major_error == 2 && bgp.notify.minor_error_open == 11", ["bgp.notify.minor_error_open"]
        ),
        15,
        "Role Mismatch",
        arm.logs(),
        0.3,
    )
    assert world.site.ours.state(arm.address) != "established"
    assert arm.peer.session_state() != "established"


def test_rfc9234_4_2_strict_refuses_a_peer_without_a_role(world: World) -> None:
    arm = world.site.arm("gobgp-strict")

    def told() -> object:
        error = world.site.ours.neighbor(arm.address)["last_error"] or {}  # it may not have listened at first
        return error.get("code"), error.get("subcode")

    wait_equal(told, (2, 11), 15)
    assert arm.peer.session_state() != "established"


def test_rfc9234_4_2_else_a_peer_without_a_role_is_taken(world: World) -> None:
    up(world.site, "exabgp-lax")
    neighbor = world.site.ours.neighbor(world.site.peer_id("exabgp-lax"))
    assert (neighbor["role"], neighbor["remote_role"]) == ("provider", None)


def _marked(world: World, name: str) -> set[str]:
    """The prefixes' addresses that we sent with OTC. The peers' CLIs do not tell: each marks what came without."""
    fields = ["bgp.nlri_prefix"]
    sent = world.captures[name].packets(
        f"bgp.update.path_attribute.type_code == 35 && {source(world.site.arm(name).our_address)}", fields
    )
    return {text for packet in sent for text in packet.fields["bgp.nlri_prefix"]}


@pytest.mark.feature("roles and OTC")
@pytest.mark.parametrize("name", [*WITH_ROLES, "bird-beside"])
def test_rfc9234_5_egress_1_customers_and_peers_get_our_otc(world: World, name: str) -> None:
    arm = up(world.site, name)
    wait_equal(lambda: arm.peer.route(OURS.prefix) is not None, True)
    wait_equal(lambda: OURS.prefix.partition("/")[0] in _marked(world, name), True)
    if name == "bird":
        assert f"BGP.otc: {OUR_AS}" in birdc(arm.peer, f"show route all {OURS.prefix}")
    if name == "frr":
        assert f"otc {OUR_AS}," in vtysh(arm.peer, f"show bgp ipv4 unicast {OURS.prefix}")


def test_rfc9234_5_egress_1_a_provider_gets_none(world: World) -> None:
    arm = up(world.site, "bird-above")
    wait_equal(lambda: arm.peer.route(OURS.prefix) is not None, True)
    wait_until(lambda: reached(world.captures["bird-above"], arm.our_address), 5, "our route in the capture")
    assert _marked(world, "bird-above") == set()


def test_rfc9234_5_ingress_3_a_providers_route_is_marked_and_goes_to_customers_alone(world: World) -> None:
    site = world.site
    above = up(site, "bird-above")
    for name in (*WITH_ROLES, "bird-beside"):
        up(site, name)
    asn = above.peer.config.local_as
    wait_equal(lambda: [view["prefix"] for view in site.ours.learned(above.address)], [FROM_PROVIDER.prefix])
    assert site.ours.learned(above.address)[0]["only_to_customer"] == asn
    for name in WITH_ROLES:
        peer = site.arm(name).peer
        wait_equal(lambda peer=peer: peer.route(FROM_PROVIDER.prefix) is not None, True)  # type: ignore[misc]
    assert f"BGP.otc: {asn}" in birdc(site.arm("bird").peer, f"show route all {FROM_PROVIDER.prefix}")
    assert f"otc {asn}," in vtysh(site.arm("frr").peer, f"show bgp ipv4 unicast {FROM_PROVIDER.prefix}")
    assert site.arm("bird-beside").peer.route(FROM_PROVIDER.prefix) is None


def test_rfc9234_5_ingress_1_a_leak_is_shown_and_not_used(world: World) -> None:
    site = world.site
    arm = up(site, "bird-leak")
    views = {view["prefix"]: view for view in site.ours.learned(arm.address)}
    assert set(views) == {LEAKED.prefix, CLEAN.prefix}
    assert views[CLEAN.prefix]["valid"]
    assert not views[LEAKED.prefix]["valid"]
    assert "9234" in views[LEAKED.prefix]["reason"]
    bird = up(site, "bird").peer
    wait_equal(lambda: bird.route(CLEAN.prefix) is not None, True)
    assert bird.route(LEAKED.prefix) is None


def test_zz_wireshark_finds_no_fault(world: World) -> None:
    for name in [*WITH_ROLES, "bird-above", "bird-beside"]:
        arm, capture = world.site.arm(name), world.captures[name]
        capture.stop()
        assert capture.packets(f"bgp.cap.type == 9 && {source(arm.our_address)}", ["bgp.type"]), name
        assert faulty(capture, arm.our_address) == [], name
    assert "Traceback" not in world.site.ours.log.read_text()
