"""Stale paths (RFC 4724, RFC 7313), several paths a prefix (RFC 7911), eligibility (RFC 8212), changed policies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rib_fakes import asked, fake, flat

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.rib import table as table_module
from bgpbfd.rib.select import PeerInfo
from bgpbfd.rib.table import Rib
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import SegmentType
from bgpbfd.wire.update import Reach, Unreach, Update

INFO = PeerInfo(
    external=True,
    remote_asn=65001,
    local_asn=65010,
    router_id=1,
    local_router_id=9,
    address=b"\xc0\0\2\1",
    policy=Policy("all"),
)
OTHER = replace(INFO, remote_asn=65002, router_id=2, address=b"\xc0\0\2\2")
P1, P2, P3 = (Prefix.parse(text).nlri for text in ("198.51.100.0/24", "203.0.113.0/24", "0.0.0.0/0"))
V4 = frozenset({IPV4_UNICAST})
ALL = [(IPV4_UNICAST, P1), (IPV4_UNICAST, P2)]


def attributes(*asns: int, **more: object) -> PathAttributes:
    base = PathAttributes(as_path=(Segment(SegmentType.AS_SEQUENCE, asns),), next_hop=b"\xc0\0\2\1")
    return replace(base, **more)  # type: ignore[arg-type]


A = attributes(65001)
B = attributes(65002, 7)


def announce(path: PathAttributes, *nlri: bytes, ids: list[int] | None = None, family: Family = IPV4_UNICAST) -> Update:
    return Update(announced=[Reach(family, path, list(nlri), ids)])


def withdraw(*nlri: bytes, ids: list[int] | None = None, family: Family = IPV4_UNICAST) -> Update:
    return Update(withdrawn=[Unreach(family, list(nlri), ids)])


def rib_of(*, add_path: frozenset[Family] = frozenset(), info: PeerInfo = INFO) -> Rib:
    rib = Rib()
    flat(rib.session_up("a", info, add_path=add_path))
    return rib


def stale(rib: Rib) -> dict[bytes, bool]:
    return {route.nlri: route.stale for route in rib.learned("a")}


# -- graceful restart ------------------------------------------------------------------------------------


def test_rfc4724_4_2_a_restarting_peers_paths_stay_in_use_as_stale() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1, P2), 1)
    assert flat(rib.retain("a", V4)) == []
    assert stale(rib) == {P1: True, P2: True}
    assert (rib.count("a"), rib.stale_count("a"), rib.stale_count("a", IPV6_UNICAST)) == (2, 2, 0)
    best = rib.best(IPV4_UNICAST, P1)
    assert best is not None
    assert (best.stale, best.valid, best.attributes) == (True, True, A)
    assert rib.info("a") == INFO


def test_rfc4724_4_2_families_that_are_not_kept_go_at_once() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    v6 = replace(A, next_hop=bytes.fromhex("20010db8") + bytes(11) + b"\1")
    rib.apply("a", announce(v6, P3, family=IPV6_UNICAST), 1)
    assert flat(rib.retain("a", V4)) == [(IPV6_UNICAST, P3)]
    assert rib.count("a", IPV6_UNICAST) == 0
    assert rib.count("a") == 1
    assert flat(rib.session_up("a", INFO, keep=frozenset())) == [(IPV4_UNICAST, P1)]
    assert rib.total() == 0


def test_an_update_of_a_peer_without_session_is_counted_and_not_taken() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    flat(rib.retain("a", V4))
    assert rib.apply("a", announce(A, P2), 2) == []
    assert (rib.count("a"), rib.ignored) == (1, 1)


def test_rfc4724_4_2_announced_again_a_path_is_fresh_and_keeps_its_age() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1, P2), 1)
    flat(rib.retain("a", V4))
    assert flat(rib.session_up("a", replace(INFO), keep=V4)) == []
    assert rib.apply("a", announce(attributes(65001), P1), 5) == []
    assert stale(rib) == {P1: False, P2: True}
    assert [route.received_at for route in rib.learned("a")] == [1, 1]
    assert rib.stale_count("a") == 1
    assert flat(rib.purge_stale("a", IPV4_UNICAST)) == [(IPV4_UNICAST, P2)]  # End-of-RIB
    assert stale(rib) == {P1: False}
    assert (rib.count("a"), rib.stale_count("a")) == (1, 0)
    assert flat(rib.purge_stale("a", IPV4_UNICAST)) == []


def test_rfc4724_4_2_a_changed_path_replaces_the_stale_one_with_one_report() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    flat(rib.retain("a", V4))
    flat(rib.session_up("a", INFO, keep=V4))
    assert rib.apply("a", announce(attributes(65001, 8), P1), 5) == [(IPV4_UNICAST, P1)]
    assert flat(rib.purge_stale("a", IPV4_UNICAST)) == []
    assert rib.count("a") == 1


def test_rfc4724_4_2_what_is_stale_since_an_earlier_restart_goes_at_the_next() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1, P2), 1)
    flat(rib.retain("a", V4))
    flat(rib.session_up("a", INFO, keep=V4))
    rib.apply("a", announce(A, P1), 2)
    assert flat(rib.retain("a", V4)) == [(IPV4_UNICAST, P2)]
    assert stale(rib) == {P1: True}


def test_a_second_loss_without_a_session_between_drops_nothing_more() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    flat(rib.retain("a", V4))
    assert flat(rib.retain("a", V4)) == []
    assert stale(rib) == {P1: True}


def test_rfc7313_what_a_refresh_had_not_reached_survives_a_restart() -> None:
    """It was valid when the session ended: to drop it would be an outage that RFC 4724 does not ask for."""
    rib = rib_of()
    rib.apply("a", announce(A, P1, P2), 1)
    rib.begin_refresh("a", IPV4_UNICAST)
    rib.apply("a", announce(A, P1), 2)
    assert flat(rib.retain("a", V4)) == []
    assert stale(rib) == {P1: True, P2: True}


def test_rfc4724_5_a_new_session_takes_over_from_a_live_one() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    assert flat(rib.session_up("a", INFO, keep=V4)) == []
    assert stale(rib) == {P1: True}
    assert flat(rib.session_up("a", INFO)) == [(IPV4_UNICAST, P1)]


def test_flush_takes_a_retained_peers_paths() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    flat(rib.retain("a", V4))
    assert flat(rib.flush("a")) == [(IPV4_UNICAST, P1)]
    assert (rib.total(), rib.info("a")) == (0, None)


def test_stale_paths_compete_as_before() -> None:
    rib = rib_of()
    flat(rib.session_up("b", OTHER))
    rib.apply("a", announce(A, P1), 1)
    rib.apply("b", announce(B, P1), 1)
    assert flat(rib.retain("a", V4)) == []
    best = rib.best(IPV4_UNICAST, P1)
    assert best is not None
    assert best.peer == "a"
    assert flat(rib.flush("a")) == [(IPV4_UNICAST, P1)]


def test_a_new_router_id_after_the_restart_is_a_change() -> None:
    """It decides between paths, and becomes the ORIGINATOR_ID of what is reflected."""
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    flat(rib.retain("a", V4))
    flat(rib.session_up("a", replace(INFO, router_id=77), keep=V4))
    assert rib.apply("a", announce(A, P1), 2) == [(IPV4_UNICAST, P1)]
    (route,) = rib.learned("a")
    assert (route.info.router_id, route.received_at, route.stale) == (77, 1, False)


# -- refresh ---------------------------------------------------------------------------------------------


def test_rfc7313_4_what_came_before_borr_and_not_again_goes_at_eorr() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1, P2), 1)
    rib.begin_refresh("a", IPV4_UNICAST)
    assert stale(rib) == {P1: True, P2: True}
    assert rib.apply("a", announce(A, P1), 2) == []
    assert rib.apply("a", announce(A, P3), 2) == [(IPV4_UNICAST, P3)]
    assert rib.stale_count("a", IPV4_UNICAST) == 1
    assert flat(rib.purge_stale("a", IPV4_UNICAST)) == [(IPV4_UNICAST, P2)]
    assert stale(rib) == {P1: False, P3: False}


def test_a_stale_path_that_is_withdrawn_is_not_stale_any_more() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    rib.begin_refresh("a", IPV4_UNICAST)
    assert rib.apply("a", withdraw(P1), 2) == [(IPV4_UNICAST, P1)]
    assert (rib.count("a"), rib.stale_count("a")) == (0, 0)


def test_refresh_and_purge_of_what_nobody_sent_are_nothing() -> None:
    rib = rib_of()
    for peer in ("a", "nobody"):
        rib.begin_refresh(peer, IPV6_UNICAST)
        assert flat(rib.purge_stale(peer, IPV6_UNICAST)) == []
        assert rib.stale_count(peer) == 0
    assert flat(rib.retain("nobody", V4)) == []


@pytest.mark.parametrize("add_path", [frozenset(), V4])
def test_without_report_the_same_goes(add_path: frozenset[Family]) -> None:
    rib = rib_of(add_path=add_path)
    ids = [1, 1] if add_path else None
    rib.apply("a", announce(A, P1, P2, ids=ids), 1, report=False)
    assert flat(rib.retain("a", V4, report=False)) == []
    assert flat(rib.session_up("a", INFO, keep=V4, add_path=add_path, report=False)) == []
    rib.apply("a", announce(A, P1, ids=ids and ids[:1]), 1, report=False)
    assert flat(rib.purge_stale("a", IPV4_UNICAST, report=False)) == []
    assert stale(rib) == {P1: False}


# -- ADD-PATH --------------------------------------------------------------------------------------------


def ids_of(rib: Rib, nlri: bytes = P1) -> list[int | None]:
    return [route.path_id for route in rib.paths(IPV4_UNICAST, nlri)]


def test_rfc7911_3_paths_of_one_prefix_stand_side_by_side() -> None:
    rib = rib_of(add_path=V4)
    assert rib.apply("a", announce(attributes(65001, 2, 3), P1, ids=[7]), 1) == [(IPV4_UNICAST, P1)]
    assert rib.apply("a", announce(A, P1, P1, ids=[8, 9]), 2) == [(IPV4_UNICAST, P1)]
    assert sorted(map(str, ids_of(rib))) == ["7", "8", "9"]
    assert rib.count("a") == 3
    assert [route.path_id for route in rib.usable_paths(IPV4_UNICAST, P1)] == [8, 9, 7]
    assert [route.path_id for route in rib.learned()] == [7, 8, 9]
    best = rib.best(IPV4_UNICAST, P1)
    assert best is not None
    assert (best.path_id, best.reason) == (8, "path-id")
    assert list(rib.prefixes(IPV4_UNICAST)) == [P1]


def test_rfc7911_3_the_same_identifier_replaces_and_withdraws() -> None:
    rib = rib_of(add_path=V4)
    rib.apply("a", announce(A, P1, P1, ids=[1, 2]), 1)
    assert rib.apply("a", announce(attributes(65001, 5), P1, ids=[1]), 2) == [(IPV4_UNICAST, P1)]
    assert rib.count("a") == 2
    assert rib.apply("a", withdraw(P1, P1, ids=[1, 5]), 3) == []
    assert ids_of(rib) == [2]
    assert rib.apply("a", withdraw(P1, ids=[2]), 4) == [(IPV4_UNICAST, P1)]
    assert (rib.count("a"), list(rib.prefixes(IPV4_UNICAST))) == (0, [])


def test_rfc7911_3_identifier_zero_is_one_like_others() -> None:
    rib = rib_of(add_path=V4)
    rib.apply("a", announce(A, P1, ids=[0]), 1)
    assert ids_of(rib) == [0]
    rib.apply("a", withdraw(P1, ids=[0]), 1)
    assert rib.total() == 0


def test_rfc4271_4_3_of_a_path_in_both_fields_the_announcement_counts() -> None:
    rib = rib_of(add_path=V4)
    rib.apply("a", announce(A, P1, P1, ids=[1, 2]), 1)
    both = Update([Reach(IPV4_UNICAST, A, [P1], [1])], [Unreach(IPV4_UNICAST, [P1, P1], [1, 2])])
    rib.apply("a", both, 2)
    assert [(route.path_id, route.received_at) for route in rib.learned()] == [(1, 1)]


def test_a_prefix_is_reported_once_an_update_however_many_paths_it_gets() -> None:
    rib = rib_of(add_path=V4)
    update = announce(A, *[P1] * 20, ids=list(range(20)))
    assert rib.apply("a", update, 1) == [(IPV4_UNICAST, P1)]
    assert rib.apply("a", withdraw(*[P1] * 20, ids=list(range(20))), 1) == [(IPV4_UNICAST, P1)]


def test_paths_of_one_prefix_are_bounded_and_the_rest_counted() -> None:
    rib = rib_of(add_path=V4)
    many = table_module.PATHS_MAX + 5
    rib.apply("a", announce(A, *[P1] * many, ids=list(range(many))), 1)
    assert (rib.count("a"), rib.refused) == (table_module.PATHS_MAX, 5)
    rib.apply("a", announce(attributes(65001, 4), P1, ids=[3]), 1)  # one that is there may change
    assert rib.refused == 5


def test_paths_with_one_identifier_share_one_path_object() -> None:
    rib = rib_of(add_path=V4)
    rib.apply("a", announce(A, P1, P2, P3, ids=[1, 1, 2]), 1)
    candidates = [rib._candidates(IPV4_UNICAST, nlri)[0] for nlri in (P1, P2, P3)]
    assert candidates[0] is candidates[1]
    assert candidates[2] is not candidates[0]


def test_rfc7911_stale_paths_go_one_by_one() -> None:
    rib = rib_of(add_path=V4)
    rib.apply("a", announce(A, P1, P1, ids=[1, 2]), 1)
    rib.begin_refresh("a", IPV4_UNICAST)
    assert rib.apply("a", announce(A, P1, ids=[2]), 2) == []
    assert rib.stale_count("a") == 1
    assert flat(rib.purge_stale("a", IPV4_UNICAST)) == [(IPV4_UNICAST, P1)]  # the best had identifier 1
    assert (ids_of(rib), rib.count("a"), rib.stale_count("a")) == ([2], 1, 0)


def test_a_restart_into_add_path_replaces_prefix_by_prefix() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1, P2), 1)
    flat(rib.retain("a", V4))
    assert flat(rib.session_up("a", INFO, keep=V4, add_path=V4)) == []
    assert stale(rib) == {P1: True, P2: True}
    rib.apply("a", announce(A, P1, P1, ids=[4, 5]), 2)
    assert ids_of(rib) == [4, 5]
    assert (rib.count("a"), rib.stale_count("a")) == (3, 1)
    assert flat(rib.purge_stale("a", IPV4_UNICAST)) == [(IPV4_UNICAST, P2)]


def test_a_restart_out_of_add_path_replaces_prefix_by_prefix() -> None:
    rib = rib_of(add_path=V4)
    rib.apply("a", announce(A, P1, P1, P2, P2, ids=[1, 2, 1, 2]), 1)
    flat(rib.retain("a", V4))
    flat(rib.session_up("a", INFO, keep=V4))
    rib.apply("a", announce(A, P1), 2)
    assert ids_of(rib) == [None]
    assert (rib.count("a"), rib.stale_count("a")) == (3, 2)
    assert rib.apply("a", withdraw(P2), 3) == [(IPV4_UNICAST, P2)]
    assert (rib.count("a"), rib.stale_count("a")) == (1, 0)


# -- eligibility and policy ------------------------------------------------------------------------------


def test_rfc8212_2_1_without_import_policy_an_external_peers_routes_are_shown_and_not_used() -> None:
    rib = rib_of(info=replace(INFO, policy=None))
    assert rib.apply("a", announce(A, P1), 1) == []
    (route,) = rib.learned("a")
    assert (route.valid, route.reason, route.info.eligible) == (True, None, False)
    assert rib.best(IPV4_UNICAST, P1) is None
    assert rib.usable_paths(IPV4_UNICAST, P1) == []
    assert len(rib.paths(IPV4_UNICAST, P1)) == 1
    assert rib.apply("a", withdraw(P1), 2) == []


def test_a_rejected_route_is_kept_with_what_the_policy_said() -> None:
    rib = rib_of(info=replace(INFO, policy=fake(reject=P1, local_pref=7)))
    assert rib.apply("a", announce(A, P1, P2), 1) == [(IPV4_UNICAST, P2)]
    by_prefix = {route.nlri: route for route in rib.learned()}
    rejected, accepted = by_prefix[P1], by_prefix[P2]
    assert (rejected.valid, rejected.reason, rejected.why) == (False,) + ("rejected by policy 'fake'",) * 2
    assert (accepted.valid, accepted.reason, accepted.why) == (True, None, "policy 'fake' accepts")
    assert (accepted.received, accepted.attributes) == (A, replace(A, local_pref=7))


def test_equal_to_what_was_received_is_equal_whatever_policy_made_of_it() -> None:
    rib = rib_of(info=replace(INFO, policy=fake(local_pref=7)))
    rib.apply("a", announce(A, P1), 1)
    assert rib.apply("a", announce(attributes(65001), P1), 2) == []
    assert [route.received_at for route in rib.learned()] == [1]


def test_what_policy_makes_equal_is_no_change_of_the_best() -> None:
    rib = rib_of(info=replace(INFO, policy=fake(strip=True)))
    rib.apply("a", announce(replace(A, communities=(1,)), P1), 1)
    assert rib.apply("a", announce(replace(A, communities=(2,)), P1), 2) == []
    (route,) = rib.learned()
    assert (route.received.communities, route.received_at) == ((2,), 2)


@pytest.mark.parametrize("add_path", [frozenset(), V4])
def test_a_changed_policy_is_applied_to_what_was_received(add_path: frozenset[Family]) -> None:
    rib = rib_of(add_path=add_path)
    rib.apply("a", announce(replace(A, communities=(9,)), P1, ids=[3] if add_path else None), 1)
    rib.apply("a", announce(A, P2, ids=[3] if add_path else None), 1)
    stricter = replace(INFO, policy=fake(reject_community=9))
    rib.change_info("a", stricter)
    assert rib.best(IPV4_UNICAST, P1) is not None  # until its turn has come
    assert [key for turn in rib.reevaluate("a") for key in turn if key[1] == P1] == [(IPV4_UNICAST, P1)]
    assert rib.best(IPV4_UNICAST, P1) is None
    assert {route.nlri: (route.valid, route.path_id, route.received_at) for route in rib.learned()} == {
        P1: (False, 3 if add_path else None, 1),
        P2: (True, 3 if add_path else None, 1),
    }
    rib.change_info("a", INFO)
    list(rib.reevaluate("a"))
    assert rib.best(IPV4_UNICAST, P1) is not None


def test_rfc8212_a_policy_that_is_configured_later_makes_the_routes_eligible() -> None:
    rib = rib_of(info=replace(INFO, policy=None))
    rib.apply("a", announce(A, P1, P2), 1)
    rib.change_info("a", INFO)
    assert sorted(key for turn in rib.reevaluate("a") for key in turn) == ALL
    rib.change_info("a", replace(INFO, policy=None))
    assert sorted(key for turn in rib.reevaluate("a") for key in turn) == ALL
    assert rib.best(IPV4_UNICAST, P1) is None


def test_an_unchanged_info_asks_the_policy_nothing() -> None:
    policy = fake()
    rib = rib_of(info=replace(INFO, policy=policy))
    rib.apply("a", announce(A, P1), 1)
    asked(policy).clear()
    rib.change_info("a", replace(INFO, policy=fake()))
    assert [key for turn in rib.reevaluate("a") for key in turn] == []
    assert asked(policy) == []


def test_reevaluation_goes_in_slices_and_bears_changes_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "SLICE", 10)
    rib = rib_of()
    nlri = [bytes((24, 10, 0, n)) for n in range(100)]
    rib.apply("a", announce(A, *nlri), 1)
    rib.change_info("a", replace(INFO, policy=fake(local_pref=7)))
    turns = rib.reevaluate("a")
    first = next(turns)
    assert len(first) == 10
    rib.apply("a", withdraw(*nlri[50:60]), 2)
    assert len(rib.apply("a", announce(attributes(65001, 4), nlri[60]), 2)) == 1
    rest = [key for turn in turns for key in turn]
    assert {item for _, item in first + rest} == set(nlri) - set(nlri[50:61])
    assert {route.attributes.local_pref for route in rib.learned()} == {7}


@pytest.mark.parametrize("event", ["flush", "session", "policy"])
def test_reevaluation_ends_when_what_it_was_for_is_over(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "SLICE", 10)
    rib = rib_of()
    rib.apply("a", announce(A, *[bytes((24, 10, 0, n)) for n in range(100)]), 1)
    rib.change_info("a", replace(INFO, policy=fake(local_pref=7)))
    turns = rib.reevaluate("a")
    next(turns)
    if event == "flush":
        flat(rib.flush("a"))
    elif event == "session":
        flat(rib.session_up("a", INFO))
    else:
        rib.change_info("a", replace(INFO, policy=fake(local_pref=8)))
    assert list(turns) == []


def test_reevaluation_keeps_paths_shared_and_stale() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1, P2, P3), 1)
    rib.begin_refresh("a", IPV4_UNICAST)
    rib.change_info("a", replace(INFO, policy=fake(local_pref=7)))
    list(rib.reevaluate("a"))
    assert len({id(rib._candidates(IPV4_UNICAST, nlri)[0]) for nlri in (P1, P2, P3)}) == 1
    assert rib.stale_count("a") == 3
    assert all(stale(rib).values())


def test_reevaluation_of_a_retained_peer() -> None:
    rib = rib_of()
    rib.apply("a", announce(A, P1), 1)
    flat(rib.retain("a", V4))
    rib.change_info("a", replace(INFO, policy=None))
    assert [key for turn in rib.reevaluate("a") for key in turn] == [(IPV4_UNICAST, P1)]
    assert list(rib.reevaluate("nobody")) == []


def test_the_version_of_a_family_changes_with_what_is_in_it() -> None:
    rib = rib_of()
    seen = [rib.version(IPV4_UNICAST)]

    def changed() -> bool:
        seen.append(rib.version(IPV4_UNICAST))
        return seen[-1] not in seen[:-1]

    rib.apply("a", announce(A, P1), 1)
    assert changed()
    rib.apply("a", withdraw(P1), 1)
    assert changed()
    rib.apply("a", announce(A, P1), 1)
    assert changed()
    flat(rib.flush("a"))
    assert changed()
    flat(rib.session_up("a", INFO))
    rib.apply("a", announce(A, P1), 1)
    assert changed()
    rib.begin_refresh("a", IPV4_UNICAST)
    flat(rib.purge_stale("a", IPV4_UNICAST))
    assert changed()
