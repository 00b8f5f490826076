"""What becomes of attributes on their way in: loops, leaks, policy, GRACEFUL_SHUTDOWN, in this order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rib_fakes import asked, fake

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.policy import Facts
from bgpbfd.rib.importing import GRACEFUL_SHUTDOWN, Importer
from bgpbfd.rib.select import Outcome, PeerInfo
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import BgpRole, SegmentType

EXTERNAL = PeerInfo(
    external=True,
    remote_asn=65001,
    local_asn=65010,
    router_id=1,
    local_router_id=0x0A0A0A0A,
    address=b"\xc0\0\x02\x01",
    names=frozenset({"192.0.2.1", "upstream"}),
)
INTERNAL = replace(EXTERNAL, external=False, remote_asn=65010)
BASE = PathAttributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (65001,)),), next_hop=b"\xc0\0\x02\x01")
P1, P2 = (Prefix.parse(text).nlri for text in ("198.51.100.0/24", "203.0.113.0/24"))


def judge(
    info: PeerInfo, received: PathAttributes = BASE, family: Family = IPV4_UNICAST, nlri: bytes = P1
) -> tuple[PathAttributes, Outcome | None]:
    return Importer(info).judge(received, family, nlri)


def reason(info: PeerInfo, received: PathAttributes, family: Family = IPV4_UNICAST) -> str | None:
    outcome = judge(info, received, family)[1]
    return None if outcome is None else outcome.reason


def test_without_rules_and_policy_nothing_is_said_and_nothing_copied() -> None:
    attributes, outcome = judge(EXTERNAL)
    assert attributes is BASE
    assert outcome is None


def test_rfc4456_8_cluster_loop_by_the_configured_cluster_id() -> None:
    reflected = replace(BASE, cluster_list=(b"\1\1\1\1", b"\2\2\2\2"))
    assert reason(INTERNAL, reflected) is None
    assert "cluster loop" in str(reason(replace(INTERNAL, cluster_id=0x02020202), reflected))
    by_router_id = replace(BASE, cluster_list=(b"\x0a\x0a\x0a\x0a",))
    assert "cluster loop" in str(reason(INTERNAL, by_router_id))
    assert reason(replace(INTERNAL, cluster_id=0x02020202), by_router_id) is None


@pytest.mark.parametrize("role", [BgpRole.PROVIDER, BgpRole.RS])
@pytest.mark.parametrize("otc", [65001, 7])
def test_rfc9234_5_otc_from_a_customer_or_rs_client_is_a_leak(role: BgpRole, otc: int) -> None:
    marked = replace(BASE, only_to_customer=otc)
    for family in (IPV4_UNICAST, IPV6_UNICAST):
        text = reason(replace(EXTERNAL, role=role), marked, family)
        assert text is not None
        assert text.startswith("route leak: ")
        assert text.endswith("(RFC 9234 §5)")
    attributes, outcome = judge(replace(EXTERNAL, role=role))
    assert (attributes, outcome) == (BASE, None)  # and none is added


def test_rfc9234_5_otc_from_a_peer_is_a_leak_unless_it_is_the_peers_own() -> None:
    info = replace(EXTERNAL, role=BgpRole.PEER)
    assert reason(info, replace(BASE, only_to_customer=65001)) is None
    assert "route leak" in str(reason(info, replace(BASE, only_to_customer=65002)))


@pytest.mark.parametrize("role", [BgpRole.CUSTOMER, BgpRole.PEER, BgpRole.RS_CLIENT])
def test_rfc9234_5_otc_is_added_to_what_a_provider_peer_or_rs_sends(role: BgpRole) -> None:
    attributes, outcome = judge(replace(EXTERNAL, role=role))
    assert attributes == replace(BASE, only_to_customer=65001)
    assert outcome == Outcome(BASE, None, None)


@pytest.mark.parametrize("role", [BgpRole.CUSTOMER, BgpRole.RS_CLIENT])
def test_rfc9234_5_otc_that_is_there_stays(role: BgpRole) -> None:
    marked = replace(BASE, only_to_customer=7)
    assert judge(replace(EXTERNAL, role=role), marked) == (marked, None)


@pytest.mark.parametrize("role", list(BgpRole))
def test_rfc9234_5_otc_is_for_external_unicast_only(role: BgpRole) -> None:
    marked = replace(BASE, only_to_customer=7)
    for received in (BASE, marked):
        assert judge(replace(EXTERNAL, role=role), received, IPV4_FLOW) == (received, None)
        assert judge(replace(INTERNAL, role=role), received) == (received, None)


def test_rfc9234_without_a_role_otc_means_nothing() -> None:
    marked = replace(BASE, only_to_customer=7)
    assert judge(EXTERNAL, marked) == (marked, None)


def test_rfc8326_4_1_graceful_shutdown_of_an_external_peer_lowers_local_pref() -> None:
    leaving = replace(BASE, communities=(7, GRACEFUL_SHUTDOWN))
    assert judge(EXTERNAL, leaving) == (replace(leaving, local_pref=0), Outcome(leaving, None, None))
    internal = replace(leaving, local_pref=200)
    assert judge(INTERNAL, internal) == (internal, None)


def test_rfc8326_a_policy_does_not_undo_it_by_the_way_but_by_removing_the_community() -> None:
    leaving = replace(BASE, communities=(GRACEFUL_SHUTDOWN,))
    attributes, _ = judge(replace(EXTERNAL, policy=fake(local_pref=300)), leaving)
    assert attributes.local_pref == 0
    attributes, _ = judge(replace(EXTERNAL, policy=fake(local_pref=300, strip=True)), leaving)
    assert attributes.local_pref == 300


def test_rfc7999_blackhole_is_left_as_it_is() -> None:
    blackhole = replace(BASE, communities=(0xFFFF029A,))
    assert judge(EXTERNAL, blackhole) == (blackhole, None)


def test_policy_is_asked_after_the_rules_with_what_they_made_of_it() -> None:
    policy = fake()
    info = replace(EXTERNAL, role=BgpRole.CUSTOMER, policy=policy)
    judge(info)
    facts = Facts("peer", frozenset({"192.0.2.1", "upstream"}), 65010)
    assert asked(policy) == [(replace(BASE, only_to_customer=65001), IPV4_UNICAST, P1, facts)]
    asked(policy).clear()
    looped = replace(BASE, as_path=(Segment(SegmentType.AS_SEQUENCE, (65001, 65010)),))
    _, outcome = judge(info, looped)
    assert asked(policy) == []
    assert outcome is not None
    assert (outcome.why, "AS loop" in str(outcome.reason)) == (None, True)


def test_what_the_policy_said_is_kept_for_accepted_and_rejected_alike() -> None:
    info = replace(EXTERNAL, policy=fake(reject_community=9))
    attributes, outcome = judge(info)
    assert attributes is BASE
    assert outcome == Outcome(BASE, None, "policy 'fake' accepts")
    _, outcome = judge(info, replace(BASE, communities=(9,)))
    assert outcome is not None
    assert outcome.reason == outcome.why == "rejected by policy 'fake'"


def test_attributes_are_judged_once_where_the_prefix_does_not_matter() -> None:
    policy = fake(local_pref=7)
    importer = Importer(replace(EXTERNAL, policy=policy))
    first, again = (importer.judge(BASE, IPV4_UNICAST, nlri) for nlri in (P1, P2))
    assert first is again
    importer.judge(BASE, IPV6_UNICAST, P1)
    assert [family for _, family, _, _ in asked(policy)] == [IPV4_UNICAST, IPV6_UNICAST]


def test_the_cache_of_judgements_is_bounded_and_never_wrong() -> None:
    importer = Importer(replace(EXTERNAL, policy=fake(reject_community=3)))
    for number in range(10_000):  # more than the cache holds; what is dropped may get the id of a new one
        received = replace(BASE, communities=(number % 7,))
        _, outcome = importer.judge(received, IPV4_UNICAST, P1)
        assert outcome is not None
        assert outcome.received is received
        assert (outcome.reason is None) == (number % 7 != 3)


def test_groups_have_one_outcome_each() -> None:
    importer = Importer(replace(EXTERNAL, policy=fake(reject=P1, local_pref=7)))
    groups = importer.groups(BASE, IPV4_UNICAST, [P2, P1, b"\0"])
    assert [(nlri, outcome is not None and outcome.reason) for (_, outcome), nlri in groups] == [
        ([P2, b"\0"], None),
        ([P1], "rejected by policy 'fake'"),
    ]
