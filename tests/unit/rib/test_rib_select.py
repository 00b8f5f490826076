"""The decision process, step by step, against the RFC's rules."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.policy.policy import Policy
from bgpbfd.rib.select import (
    LLGR_STALE,
    Outcome,
    Path,
    PathWithId,
    PeerInfo,
    best_path,
    in_order,
    neighbor_asn,
)
from bgpbfd.wire.as_path import path_length
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import Origin, SegmentType

EXTERNAL = PeerInfo(
    external=True,
    remote_asn=65001,
    local_asn=65010,
    router_id=100,
    local_router_id=1,
    address=b"\x0a\0\0\x64",
    policy=Policy("all"),
)
INTERNAL = replace(EXTERNAL, external=False, remote_asn=65010, policy=None)


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),)


def path(
    attributes: PathAttributes | None = None,
    info: PeerInfo = EXTERNAL,
    peer: str = "10.0.0.100",
    reason: str | None = None,
) -> Path:
    given = attributes or PathAttributes(as_path=sequence(65001))
    return Path(peer, info, given, 0, None if reason is None else Outcome(given, reason, None))


def assert_decides(word: str, better: Path, worse: Path) -> None:
    for order in itertools.permutations((better, worse)):
        assert best_path(order) == (better, word)


def test_rfc4271_9_1_2_unusable_paths_take_no_part() -> None:
    usable, loop = path(), path(PathAttributes(local_pref=900), reason="AS loop")
    assert best_path([loop, usable]) == (usable, "only-path")
    assert best_path([loop]) is None
    assert best_path([]) is None


def test_rfc4271_9_1_1_highest_local_pref_wins_before_all_else() -> None:
    longer = PathAttributes(as_path=sequence(1, 2, 3), local_pref=101, origin=Origin.INCOMPLETE)
    assert_decides(
        "local-pref", path(longer, INTERNAL), path(PathAttributes(as_path=sequence(1), local_pref=100), INTERNAL)
    )


def test_local_pref_absent_counts_as_100() -> None:
    assert_decides("local-pref", path(), path(PathAttributes(local_pref=99), INTERNAL))
    assert_decides("local-pref", path(PathAttributes(local_pref=101), INTERNAL), path())


def test_rfc4271_9_1_2_2_a_shorter_as_path_wins() -> None:
    assert_decides(
        "as-path-length",
        path(PathAttributes(as_path=sequence(65001, 2), origin=Origin.INCOMPLETE)),
        path(PathAttributes(as_path=sequence(65001, 2, 3))),
    )


def test_rfc4271_9_1_2_2_a_a_set_counts_one_and_rfc5065_5_3_confederations_none() -> None:
    attributes = PathAttributes(
        as_path=(
            Segment(SegmentType.AS_CONFED_SEQUENCE, (7, 8)),
            Segment(SegmentType.AS_CONFED_SET, (9,)),
            Segment(SegmentType.AS_SEQUENCE, (1, 2)),
            Segment(SegmentType.AS_SET, (3, 4, 5)),
        )
    )
    assert path_length(attributes.as_path) == 3


@pytest.mark.parametrize(("better", "worse"), list(itertools.combinations(Origin, 2)))
def test_rfc4271_9_1_2_2_b_lowest_origin_wins(better: Origin, worse: Origin) -> None:
    base = PathAttributes(as_path=sequence(65001))
    assert_decides("origin", path(replace(base, origin=better, med=9)), path(replace(base, origin=worse, med=1)))


def test_rfc4271_9_1_2_2_c_lowest_med_of_one_neighbor_as() -> None:
    base = PathAttributes(as_path=sequence(65001, 5))
    assert_decides("med", path(replace(base, med=1), INTERNAL), path(replace(base, med=2)))
    assert_decides("med", path(base, INTERNAL), path(replace(base, med=1)))


def test_rfc4271_9_1_2_2_c_med_of_different_neighbor_as_is_not_compared() -> None:
    first = path(PathAttributes(as_path=sequence(65001), med=500), replace(EXTERNAL, router_id=1))
    second = path(PathAttributes(as_path=sequence(65002), med=1), replace(EXTERNAL, router_id=2))
    assert_decides("router-id", first, second)


def test_rfc4271_9_1_2_2_c_the_outcome_does_not_depend_on_the_order() -> None:
    """The classic trap: pairwise comparison of these three is not transitive."""
    a = path(PathAttributes(as_path=sequence(1, 9), med=10), replace(EXTERNAL, router_id=1))
    b = path(PathAttributes(as_path=sequence(2, 9), med=5), replace(EXTERNAL, router_id=2))
    c = path(PathAttributes(as_path=sequence(1, 9), med=5), replace(EXTERNAL, router_id=3))
    for order in itertools.permutations((a, b, c)):
        assert best_path(order) == (b, "router-id")


def test_rfc4271_9_1_2_2_c_the_neighbor_as_is_the_leftmost_one() -> None:
    assert neighbor_asn(PathAttributes(as_path=sequence(65005, 7)), INTERNAL) == 65005


def test_rfc5065_5_3_the_neighbor_as_is_behind_the_confederation() -> None:
    confed = (Segment(SegmentType.AS_CONFED_SEQUENCE, (7,)), *sequence(65005))
    assert neighbor_asn(PathAttributes(as_path=confed), INTERNAL) == 65005


@pytest.mark.parametrize("begins", [(), (Segment(SegmentType.AS_SET, (1, 2)), *sequence(3))])
def test_rfc4271_9_1_2_2_c_what_began_or_was_aggregated_inside_is_of_our_as(begins: tuple[Segment, ...]) -> None:
    assert neighbor_asn(PathAttributes(as_path=begins), INTERNAL) == 65010
    assert neighbor_asn(PathAttributes(as_path=begins), EXTERNAL) == 65001


def test_rfc4271_9_1_2_2_c_prepending_on_import_does_not_make_one_neighbor_of_two() -> None:
    paths = []
    for number, asn in enumerate((65001, 65002)):
        received = PathAttributes(as_path=sequence(asn), med=9 - number)
        changed = replace(received, as_path=sequence(65010, asn))
        info = replace(EXTERNAL, remote_asn=asn, router_id=number)
        paths.append(Path(str(number), info, changed, 0, Outcome(received, None, "policy")))
    assert_decides("router-id", paths[0], paths[1])


def test_rfc4271_9_1_2_2_d_external_beats_internal() -> None:
    assert_decides("external", path(info=replace(EXTERNAL, router_id=9)), path(info=replace(INTERNAL, router_id=1)))


def test_rfc4271_9_1_2_2_f_lowest_router_id_unsigned() -> None:
    assert_decides(
        "router-id",
        path(info=replace(EXTERNAL, router_id=0x7FFFFFFF)),
        path(info=replace(EXTERNAL, router_id=0xC0000201)),
    )


def test_rfc4456_9_originator_id_stands_in_for_the_router_id() -> None:
    reflected = PathAttributes(as_path=sequence(65001), originator_id=b"\0\0\0\x05", cluster_list=(b"\0\0\0\x09",))
    assert_decides(
        "router-id", path(reflected, replace(INTERNAL, router_id=50)), path(info=replace(INTERNAL, router_id=6))
    )


def test_rfc4456_9_shorter_cluster_list_wins_after_the_router_id() -> None:
    base = PathAttributes(as_path=sequence(65001), originator_id=b"\0\0\0\x05")
    assert_decides(
        "cluster-list-length",
        path(replace(base, cluster_list=(b"\0\0\0\x09",)), replace(INTERNAL, address=b"\x0a\0\0\x09")),
        path(replace(base, cluster_list=(b"\0\0\0\x09", b"\0\0\0\x0a")), replace(INTERNAL, address=b"\x0a\0\0\x01")),
    )


def test_rfc4271_9_1_2_2_g_lowest_neighbor_address_last() -> None:
    assert_decides(
        "neighbor-address",
        path(info=replace(EXTERNAL, address=b"\x0a\0\0\x02")),
        path(info=replace(EXTERNAL, address=b"\x0a\0\0\x0a")),
    )
    same = replace(EXTERNAL, address=bytes.fromhex("fe800000000000000000000000000001"))
    assert_decides("neighbor-address", path(info=same, peer="fe80::1%eth0"), path(info=same, peer="fe80::1%eth1"))


def test_rfc9494_4_3_llgr_stale_comes_last_whatever_its_local_pref() -> None:
    stale = PathAttributes(as_path=sequence(65001), local_pref=900, communities=(LLGR_STALE,))
    assert_decides("llgr-stale", path(), path(stale, INTERNAL))
    assert best_path([path(stale)]) is not None


def test_rfc8212_2_1_an_external_peer_without_policy_takes_no_part() -> None:
    unruled = path(PathAttributes(as_path=sequence(65001), local_pref=900), replace(EXTERNAL, policy=None))
    assert unruled.reason is None
    assert best_path([unruled]) is None
    other = path()
    assert best_path([unruled, other]) == (other, "only-path")
    assert in_order([unruled, other]) == [other]


def test_rfc8212_internal_peers_need_no_policy() -> None:
    assert INTERNAL.policy is None
    assert path(info=INTERNAL).usable


def with_id(path_id: int | None, **changes: int) -> Path:
    attributes = PathAttributes(as_path=sequence(65001), **changes)  # type: ignore[arg-type]
    return PathWithId("a", EXTERNAL, attributes, 0, path_id=path_id)


def test_rfc7911_the_lower_path_identifier_is_the_very_last_step() -> None:
    assert_decides("path-id", with_id(1), with_id(2))
    assert_decides("path-id", with_id(None), with_id(0))
    assert_decides("med", with_id(2, med=1), with_id(1, med=2))
    elsewhere = path(info=replace(EXTERNAL, address=b"\x09\0\0\0"), peer="b")
    assert_decides("neighbor-address", elsewhere, with_id(0))


PATHS = st.builds(
    lambda peer, path_id, external, **attributes: PathWithId(
        peer,
        replace(EXTERNAL if external else INTERNAL, router_id=ord(peer) // 2, address=peer.encode()),
        PathAttributes(**attributes),
        0,
        path_id=path_id,
    ),
    st.sampled_from("abcd"),
    st.integers(0, 2),
    st.booleans(),
    as_path=st.sampled_from([sequence(1, 9), sequence(2, 9), sequence(3, 9), sequence(3, 9, 9)]),
    med=st.sampled_from([None, 1, 2]),
    local_pref=st.sampled_from([None, 200]),
    cluster_list=st.sampled_from([(), (b"1234",)]),
    originator_id=st.sampled_from([None, b"\0\0\0\1"]),
)


@given(st.lists(PATHS, max_size=8, unique_by=lambda path: (path.peer, path.path_id)))
def test_in_order_is_the_best_of_what_is_left_again_and_again(paths: list[Path]) -> None:
    expected = []
    left = list(paths)
    while (chosen := best_path(left)) is not None:
        expected.append(chosen[0])
        left.remove(chosen[0])
    assert in_order(paths) == expected
    assert in_order(reversed(paths)) == expected
