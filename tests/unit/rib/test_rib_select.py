"""The decision process, step by step, against the RFC's rules."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from bgpbfd.rib.select import Path, PeerInfo, as_path_length, best_path, neighbor_asn
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import Origin, SegmentType

EXTERNAL = PeerInfo(
    external=True, remote_asn=65001, local_asn=65010, router_id=100, local_router_id=1, address=b"\x0a\0\0\x64"
)
INTERNAL = replace(EXTERNAL, external=False, remote_asn=65010)


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),)


def path(
    attributes: PathAttributes | None = None,
    info: PeerInfo = EXTERNAL,
    peer: str = "10.0.0.100",
    reason: str | None = None,
) -> Path:
    return Path(peer, info, attributes or PathAttributes(as_path=sequence(65001)), 0, reason)


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
    assert as_path_length(attributes) == 3


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


def test_neighbor_as_of_a_path_from_inside_is_ours() -> None:
    assert neighbor_asn(path(PathAttributes(), INTERNAL)) == 65010
    assert neighbor_asn(path(PathAttributes(as_path=(Segment(SegmentType.AS_SET, (1, 2)),)))) is None
    confed = (Segment(SegmentType.AS_CONFED_SEQUENCE, (7,)), *sequence(65005))
    assert neighbor_asn(path(PathAttributes(as_path=confed))) == 65005


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
