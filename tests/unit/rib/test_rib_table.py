"""Adj-RIB-In and the best of it."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rib_fakes import flat

from bgpbfd.core import IPV4_FLOW, IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.rib.select import Path, PeerInfo, best_path
from bgpbfd.rib.table import Rib, unusable
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import SegmentType
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, decode_update
from bgpbfd.wire.update_out import encode_announce

OUR_ID = 0xC000020A
INFO = PeerInfo(
    external=True,
    remote_asn=65001,
    local_asn=65010,
    router_id=0xC0000201,
    local_router_id=OUR_ID,
    address=b"\xc0\0\x02\x01",
    local_addresses=frozenset({b"\xc0\0\x02\x0a", bytes.fromhex("20010db8000000000000000000000010")}),
    policy=Policy("all"),
)
OTHER = replace(INFO, remote_asn=65002, router_id=0xC0000202, address=b"\xc0\0\x02\x02")
P1, P2, P3 = (Prefix.parse(text).nlri for text in ("198.51.100.0/24", "203.0.113.0/24", "0.0.0.0/0"))


def attributes(*asns: int, **more: object) -> PathAttributes:
    base = PathAttributes(as_path=(Segment(SegmentType.AS_SEQUENCE, asns),), next_hop=b"\xc0\0\x02\x01")
    return replace(base, **more)  # type: ignore[arg-type]


def announce(path: PathAttributes, *nlri: bytes, family: Family = IPV4_UNICAST) -> Update:
    return Update(announced=[Reach(family, path, list(nlri))])


def withdraw(*nlri: bytes, family: Family = IPV4_UNICAST) -> Update:
    return Update(withdrawn=[Unreach(family, list(nlri))])


def two_peers() -> Rib:
    rib = Rib()
    flat(rib.session_up("a", INFO))
    flat(rib.session_up("b", OTHER))
    return rib


def test_an_announced_route_is_kept_with_what_the_update_said() -> None:
    rib = two_peers()
    path = attributes(65001)
    assert rib.apply("a", announce(path, P1, P3), 7) == [(IPV4_UNICAST, P1), (IPV4_UNICAST, P3)]
    route = rib.best(IPV4_UNICAST, P3)
    assert route is not None
    assert (route.peer, route.attributes, route.received_at, route.valid) == ("a", path, 7, True)
    assert (rib.count("a"), rib.count("a", IPV6_UNICAST), rib.count("b"), rib.total()) == (2, 0, 0, 2)
    assert rib.best(IPV6_UNICAST, P3) is None


def test_rfc4271_9_a_new_announcement_replaces_the_old_one() -> None:
    rib = two_peers()
    rib.apply("a", announce(attributes(65001), P1), 1)
    assert rib.apply("a", announce(attributes(65001, 7), P1), 2) == [(IPV4_UNICAST, P1)]
    assert [(r.attributes, r.received_at) for r in rib.learned("a")] == [(attributes(65001, 7), 2)]
    assert rib.count("a") == 1


def test_an_equal_announcement_changes_nothing_and_keeps_the_age() -> None:
    rib = two_peers()
    rib.apply("a", announce(attributes(65001), P1), 1)
    assert rib.apply("a", announce(attributes(65001), P1), 2) == []
    assert [r.received_at for r in rib.learned()] == [1]


def test_withdrawal_of_what_was_never_announced_changes_nothing() -> None:
    rib = two_peers()
    assert rib.apply("a", withdraw(P1), 1) == []
    rib.apply("a", announce(attributes(65001), P1), 1)
    assert rib.apply("a", withdraw(P2, P1), 2) == [(IPV4_UNICAST, P1)]
    assert rib.total() == 0
    assert list(rib.learned()) == []


def test_rfc4271_4_3_a_prefix_in_both_fields_is_announced() -> None:
    rib = two_peers()
    rib.apply("a", announce(attributes(65001), P1, P2), 1)
    both = Update(announced=[Reach(IPV4_UNICAST, attributes(65001), [P1])], withdrawn=[Unreach(IPV4_UNICAST, [P1, P2])])
    assert rib.apply("a", both, 2) == [(IPV4_UNICAST, P2)]
    assert [(r.nlri, r.received_at) for r in rib.learned()] == [(P1, 1)]


def test_only_a_change_of_the_best_is_reported() -> None:
    rib = two_peers()
    rib.apply("a", announce(attributes(65001), P1), 1)
    assert rib.apply("b", announce(attributes(65002, 9), P1), 2) == []
    assert rib.apply("b", withdraw(P1), 3) == []
    assert rib.apply("b", announce(attributes(65002, 9), P1), 4) == []
    assert rib.apply("a", withdraw(P1), 5) == [(IPV4_UNICAST, P1)]
    best = rib.best(IPV4_UNICAST, P1)
    assert best is not None
    assert best.peer == "b"
    assert rib.apply("a", announce(attributes(65001, 2, 3), P1), 6) == []


def test_flush_forgets_the_peer_and_reports_where_it_was_the_best() -> None:
    rib = two_peers()
    rib.apply("a", announce(attributes(65001), P1, P2), 1)
    rib.apply("a", announce(attributes(65001, 65010), P3), 1)
    rib.apply("b", announce(attributes(65002, 9), P1), 2)
    rib.apply("b", announce(attributes(), P2), 2)
    assert flat(rib.flush("a")) == [(IPV4_UNICAST, P1)]
    assert rib.count("a") == 0
    assert rib.apply("a", announce(attributes(65001), P1), 3) == []
    assert rib.ignored == 1
    assert flat(rib.flush("a")) == []


def test_a_new_session_starts_empty() -> None:
    rib = two_peers()
    rib.apply("a", announce(attributes(65001), P1), 1)
    flat(rib.flush("a"))
    flat(rib.session_up("a", INFO))
    assert rib.count("a") == 0


def test_without_report_the_state_is_the_same_and_nothing_is_answered() -> None:
    rib = two_peers()
    assert rib.apply("a", announce(attributes(65001), P1, P2), 1, report=False) == []
    assert rib.apply("a", withdraw(P2), 1, report=False) == []
    assert [r.nlri for r in rib.learned("a")] == [P1]
    assert rib.count("a") == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (attributes(65001, 65010, 3), "AS loop"),
        (attributes(65001, originator_id=OUR_ID.to_bytes(4)), "ORIGINATOR_ID"),
        (attributes(65001, cluster_list=(b"\1\1\1\1", OUR_ID.to_bytes(4))), "cluster"),
        (attributes(65001, next_hop=b"\0\1\2\3"), "0.0.0.0/8"),
        (attributes(65001, next_hop=b"\x7f\0\0\1"), "loopback"),
        (attributes(65001, next_hop=b"\xe0\0\0\1"), "multicast"),
        (attributes(65001, next_hop=b"\xff\xff\xff\xff"), "multicast or reserved"),
        (attributes(65001, next_hop=b"\xc0\0\x02\x0a"), "our own"),
        (attributes(65001, next_hop=None), "none"),
        (attributes(65001, next_hop=b""), "none"),
        (attributes(65001, next_hop=bytes(16)), "unspecified"),
        (attributes(65001, next_hop=bytes(15) + b"\1"), "loopback"),
        (attributes(65001, next_hop=b"\xff\2" + bytes(14)), "multicast"),
        (attributes(65001, next_hop=bytes.fromhex("20010db8000000000000000000000010")), "our own"),
        (attributes(65001, next_hop=bytes.fromhex("20010db8000000000000000000000010fe80") + bytes(14)), "our own"),
    ],
)
def test_rfc4271_9_1_2_unusable_routes_are_kept_but_not_used(path: PathAttributes, words: str) -> None:
    rib = two_peers()
    assert rib.apply("a", announce(path, P1), 1) == []
    (route,) = rib.learned("a")
    assert route.valid is False
    assert route.reason is not None
    assert words in route.reason
    assert rib.best(IPV4_UNICAST, P1) is None
    assert rib.count("a") == 1


@pytest.mark.parametrize(
    "next_hop",
    [
        b"\xc0\0\x02\x01",
        b"\xdf\xff\xff\xff",
        bytes.fromhex("20010db8000000000000000000000001"),
        bytes.fromhex("fe800000000000000000000000000001"),
        bytes(16) + bytes.fromhex("fe800000000000000000000000000001"),
    ],
)
def test_usable_next_hops(next_hop: bytes) -> None:
    assert unusable(attributes(65001, next_hop=next_hop), INFO, IPV4_UNICAST) is None


def test_loopback_next_hops_are_usable_on_a_loopback_session_only() -> None:
    v4 = attributes(65001, next_hop=b"\x7f\0\0\2")
    v6 = attributes(65001, next_hop=bytes(15) + b"\1")
    assert unusable(v4, replace(INFO, address=b"\x7f\0\0\2"), IPV4_UNICAST) is None
    assert unusable(v6, replace(INFO, address=bytes(15) + b"\1"), IPV6_UNICAST) is None
    assert unusable(v6, replace(INFO, address=b"\xc0\0\2\1"), IPV6_UNICAST) is not None


def test_rfc8955_4_a_flow_specification_needs_no_next_hop() -> None:
    assert unusable(attributes(65001, next_hop=None), INFO, IPV4_FLOW) is None
    assert unusable(attributes(65010, next_hop=None), INFO, IPV4_FLOW) is not None


def test_an_unusable_replacement_takes_the_best_away() -> None:
    rib = two_peers()
    rib.apply("a", announce(attributes(65001), P1), 1)
    assert rib.apply("a", announce(attributes(65010), P1), 2) == [(IPV4_UNICAST, P1)]
    assert rib.best(IPV4_UNICAST, P1) is None


def test_the_routes_of_one_update_share_everything() -> None:
    """What a full table's memory rests on: two routes more, no object more, and none that the collector has to walk."""
    rib = two_peers()
    nlri = [bytes((24, 10, high, low)) for high in range(4) for low in range(250)]
    context = UpdateContext(
        asn4=True, external=True, families=frozenset({IPV4_UNICAST}), remote_asn=65001, local_asn=65010
    )
    (message,) = encode_announce(IPV4_UNICAST, attributes(65001), nlri, replace(context, max_length=65535))
    rib.apply("a", decode_update(message[19:], context), 0, report=False)  # whatever is made once
    flat(rib.flush("a"))
    flat(rib.session_up("a", INFO))
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        tracemalloc.start()
        empty, _ = tracemalloc.get_traced_memory()
        rib.apply("a", decode_update(message[19:], context), 1, report=False)
        full, _ = tracemalloc.get_traced_memory()
        assert rib.count("a") == len(nlri)
        # The octets of a prefix (48), and its dictionary entry: 24, or 48 where the dictionary has just grown
        assert (full - empty) / len(nlri) < 150
        gc.collect()
        assert len(gc.get_objects()) - before < 300  # dictionaries, one for each last octet; not one for each route
        (stored,) = {id(route.in_force) for route in rib.learned("a")}
        assert stored
        flat(rib.flush("a", report=False))
        assert tracemalloc.get_traced_memory()[0] - empty < 20_000  # freed without the collector: no cycle
    finally:
        tracemalloc.stop()
        gc.enable()


PEERS = {
    name: replace(INFO, external=name != "c", router_id=number, address=bytes((192, 0, 2, number)))
    for number, name in enumerate("abc", 1)
}
PREFIXES = [bytes((24, 10, 0, n)) for n in range(4)] + [b"\0"]
PATHS = st.builds(
    attributes,
    st.sampled_from([65001, 65002, 65010]),
    st.sampled_from([65003, 65004]),
    med=st.sampled_from([None, 1, 2]),
    local_pref=st.sampled_from([None, 100, 200]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("apply"),
            st.sampled_from("abc"),
            st.lists(st.sampled_from(PREFIXES), max_size=3, unique=True),
            st.lists(st.tuples(PATHS, st.lists(st.sampled_from(PREFIXES), max_size=3, unique=True)), max_size=2),
        ),
        st.tuples(st.just("flush"), st.sampled_from("abc")),
        st.tuples(st.just("up"), st.sampled_from("abc")),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_table_equals_a_plain_model(steps: list[tuple[object, ...]]) -> None:
    """A dictionary of dictionaries, the best of each prefix worked out before and after each step."""
    rib = Rib()
    model: dict[str, dict[bytes, PathAttributes]] = {}

    def best_of_all() -> dict[bytes, tuple[str, PathAttributes]]:
        chosen = {}
        for nlri in PREFIXES:
            paths = [
                Path(peer, PEERS[peer], routes[nlri], 0)
                for peer, routes in model.items()
                if nlri in routes and unusable(routes[nlri], PEERS[peer], IPV4_UNICAST) is None
            ]
            if (found := best_path(paths)) is not None:
                chosen[nlri] = (found[0].peer, found[0].attributes)
        return chosen

    for now, (kind, peer, *rest) in enumerate(steps):
        assert isinstance(peer, str)
        before = best_of_all()
        if kind == "up":
            if peer in model:
                continue
            model[peer] = {}
            flat(rib.session_up(peer, PEERS[peer]))
            continue
        if kind == "flush":
            model.pop(peer, None)
            changed = flat(rib.flush(peer))
        else:
            withdrawn, announced = rest
            update = Update(
                announced=[Reach(IPV4_UNICAST, path, nlri) for path, nlri in announced],  # type: ignore[attr-defined]
                withdrawn=[Unreach(IPV4_UNICAST, withdrawn)],  # type: ignore[arg-type]
            )
            changed = rib.apply(peer, update, now)
            if peer in model:
                taken = {n for reach in update.announced for n in reach.nlri}
                for nlri in update.withdrawn[0].nlri:
                    if nlri not in taken:
                        model[peer].pop(nlri, None)
                for reach in update.announced:
                    model[peer].update(dict.fromkeys(reach.nlri, reach.attributes))
        after = best_of_all()
        differing = {n for n in PREFIXES if before.get(n) != after.get(n)}
        assert differing <= {nlri for _, nlri in changed}
        if kind == "flush" or len(update.announced) <= 1:
            assert differing == {nlri for _, nlri in changed}  # two in one UPDATE may pass over a state between
        for nlri in PREFIXES:
            best = rib.best(IPV4_UNICAST, nlri)
            assert (None if best is None else (best.peer, best.attributes)) == after.get(nlri)
        assert {(r.peer, r.nlri): r.attributes for r in rib.learned()} == {
            (p, n): path for p, routes in model.items() for n, path in routes.items()
        }
        assert rib.total() == sum(map(len, model.values()))
        assert sorted(rib.prefixes(IPV4_UNICAST)) == sorted({n for routes in model.values() for n in routes})
