"""Peers without 4-octet AS numbers (RFC 6793): BIRD and ExaBGP with it switched off, and our AS above 65535."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import Route
from .more import (
    Site,
    Spec,
    birdc,
    edited,
    replaced,
    source,
    up,
    wait_equal,
    with_bird,
    with_exabgp,
    with_frr,
    with_openbgpd,
)

pytestmark = pytest.mark.interop

OUR_AS = 4200000010
AS_TRANS = 23456
FAR_AS = 4200000099  # behind the peers
ROUTE = Route("198.51.100.0/24", as_path=(64500, 4200000011), med=9)
PLAIN = Route("198.51.101.0/24")
THEIRS = Route("203.0.113.0/24", as_path=(FAR_AS, 64510))


KINDS = {
    # It takes no number above 65535 for the neighbor then, and reads ours from our capability all the same.
    "bird": edited(
        with_bird("enable as4 off;"),
        lambda text, config: replaced(
            text, f"{config.remote_address} as {config.remote_as};", f"{config.remote_address} external;"
        ),
    ),
    "exabgp": edited(
        with_exabgp("capability { asn4 disable; }"),
        lambda text, config: replaced(text, f"peer-as {config.remote_as};", f"peer-as {AS_TRANS};"),
    ),
    # It offers nothing at all then, reads ours from our capability all the same, and carries IPv4 alone.
    "frr": with_frr("neighbor {} dont-capability-negotiate"),
    "openbgpd": with_openbgpd("announce as-4byte no"),
}
each_peer = pytest.mark.parametrize("name", list(KINDS))
each_that_takes_any_path = pytest.mark.parametrize("name", ["bird", "exabgp", "frr"])


@pytest.fixture(scope="module")
def captures() -> dict[str, Capture]:
    return {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, captures: dict[str, Capture]) -> Iterator[Site]:
    with Lab(tmp_path_factory.mktemp("old-speakers")) as lab:
        specs = [
            Spec(kind, dial="we", announced=[ROUTE, PLAIN], routes=[THEIRS] if kind.any_as_path else [])
            for kind in KINDS.values()
        ]
        site = Site(lab, specs, our_as=OUR_AS)
        captures.update(site.captures())
        site.start()
        yield site


@pytest.mark.feature("2-octet AS numbers")
@each_peer
def test_rfc6793_4_2_2_our_open_carries_as_trans(site: Site, captures: dict[str, Capture], name: str) -> None:
    arm = up(site, name)
    opens = captures[name].packets(f"bgp.type == 1 && {source(arm.our_address)}", ["bgp.open.myas", "bgp.cap.4as"])
    assert {(packet.first("bgp.open.myas"), packet.first("bgp.cap.4as")) for packet in opens} == {
        (str(AS_TRANS), str(OUR_AS))
    }
    answer = captures[name].packets(f"bgp.type == 1 && {source(arm.address)}", ["bgp.open.myas", "bgp.cap.4as"])
    assert {packet.first("bgp.cap.4as") for packet in answer} == {None}, f"{name} is no 2-octet speaker here"


@pytest.mark.feature("2-octet AS numbers")
@each_peer
def test_rfc6793_4_2_2_paths_arrive_there_with_as4_path(site: Site, captures: dict[str, Capture], name: str) -> None:
    arm = up(site, name)
    whole = (OUR_AS, *ROUTE.as_path)
    shown = partial(_as_trans, name == "frr")  # which leaves AS4_PATH aside then
    wait_equal(
        lambda: {route.prefix: route.as_path for route in arm.peer.routes()},
        {
            ROUTE.prefix: shown(whole),
            PLAIN.prefix: shown((OUR_AS,)),
        },
    )
    if name == "bird":
        text = birdc(arm.peer, f"show route all table master4 {ROUTE.prefix}")
        assert f"BGP.as_path: {' '.join(map(str, whole))}" in text
    updates = captures[name].packets(
        f"bgp.type == 2 && {source(arm.our_address)} && bgp.update.path_attribute.as_path_segment.as2",
        ["bgp.update.path_attribute.as_path_segment.as2", "bgp.update.path_attribute.as_path_segment.as4"],
    )
    fields = [tuple(packet.fields.values()) for packet in updates]
    two = tuple(str(asn) for asn in _as_trans(True, whole))
    four = tuple(str(asn) for asn in whole)
    assert any(found2[: len(two)] == two or two == found2[-len(two) :] for found2, _ in fields), fields
    assert any(four == found4[: len(four)] or four == found4[-len(four) :] for _, found4 in fields), fields


def _as_trans(old: bool, path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(AS_TRANS if old and asn > 65535 else asn for asn in path)


@pytest.mark.feature("2-octet AS numbers")
@each_that_takes_any_path
def test_rfc6793_4_2_3_their_as4_path_is_merged(site: Site, captures: dict[str, Capture], name: str) -> None:
    arm = up(site, name)
    wait_equal(
        lambda: {view["prefix"]: view["as_path"] for view in site.ours.learned(arm.address)}.get(THEIRS.prefix),
        f"{arm.peer.config.local_as} {FAR_AS} {THEIRS.as_path[1]}",
    )
    sent = captures[name].packets(
        f"bgp.type == 2 && {source(arm.address)}", ["bgp.update.path_attribute.as_path_segment.as2"]
    )
    assert any(str(AS_TRANS) in packet.fields["bgp.update.path_attribute.as_path_segment.as2"] for packet in sent)
