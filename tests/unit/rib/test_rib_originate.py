"""Which of our own routes counts where, and what a change affects."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bgpbfd.core import PeerId, Prefix
from bgpbfd.rib.originate import Originated, Route, Source
from bgpbfd.wire.attributes import PathAttributes

P1, P2 = Prefix.parse("198.51.100.0/24"), Prefix.parse("2001:db8::/32")
ALL = frozenset({"config", "api", "service"})
A, B, AB = frozenset({"a"}), frozenset({"b"}), frozenset({"a", "b"})


def route(source: Source, med: int, peers: frozenset[PeerId] | None = None, prefix: Prefix = P1, **more: int) -> Route:
    return Route(source, prefix, PathAttributes(med=med), peers, **more)


def med(own: Originated, peer: PeerId, prefix: Prefix = P1, sources: frozenset[str] = ALL) -> int | None:
    found = own.wanted(peer, prefix, sources)
    return None if found is None else found.attributes.med


def test_api_before_service_before_config() -> None:
    own = Originated()
    assert own.set(route("config", 3), 0) == [(None, P1)]
    assert med(own, "a") == 3
    own.set(route("service", 2), 0)
    assert med(own, "a") == 2
    own.set(route("api", 1), 0)
    assert med(own, "a") == 1
    assert own.remove("api", P1, None) == [(None, P1)]
    assert med(own, "a") == 2


def test_for_one_peer_before_for_every_peer_within_a_source() -> None:
    own = Originated()
    own.set(route("config", 1), 0)
    assert own.set(route("config", 2, A), 0) == [("a", P1)]
    assert (med(own, "a"), med(own, "b")) == (2, 1)
    own.set(route("service", 3), 0)
    assert (med(own, "a"), med(own, "b")) == (3, 3)


def test_a_peer_takes_only_the_sources_that_it_advertises() -> None:
    own = Originated()
    own.set(route("api", 1), 0)
    own.set(route("config", 2), 0)
    assert med(own, "a", sources=frozenset({"config"})) == 2
    assert med(own, "a", sources=frozenset({"peer"})) is None
    assert [r.attributes.med for r in own.wanted_routes("a", frozenset({"config", "service"}))] == [2]


def test_a_dynamic_neighbor_takes_its_networks_routes_after_its_own() -> None:
    own = Originated()
    own.set(route("config", 1), 0)
    own.set(route("config", 2, frozenset({"192.0.2.0/24"})), 0)
    found = own.wanted("192.0.2.7", P1, ALL, parent="192.0.2.0/24")
    assert found is not None
    assert found.attributes.med == 2
    own.set(route("config", 3, frozenset({"192.0.2.7"})), 0)
    (found,) = own.wanted_routes("192.0.2.7", ALL, parent="192.0.2.0/24")
    assert found.attributes.med == 3


def test_an_equal_route_affects_nothing_keeps_its_age_and_renews_its_lease() -> None:
    own = Originated()
    own.set(route("api", 1, expires=50), 5)
    assert own.set(route("api", 1, expires=90), 9) == []
    own.set(route("api", 1, AB, P2, expires=50), 6)
    assert own.set(route("api", 1, AB, P2, expires=90), 9) == []
    assert [(r.at, r.expires) for r in own.routes("api")] == [(5, 90), (6, 90)]
    assert own.set(route("api", 2), 11) == [(None, P1)]
    assert [(r.at, r.prefix) for r in own.routes("api")] == [(11, P1), (6, P2)]


def test_the_later_of_two_routes_for_one_peer_stands_and_the_other_shrinks() -> None:
    own = Originated()
    own.set(route("api", 1, AB), 1)
    assert own.set(route("api", 2, A), 2) == [("a", P1)]
    assert (med(own, "a"), med(own, "b")) == (2, 1)
    assert {(r.attributes.med, r.peers) for r in own.routes()} == {(1, B), (2, A)}


def test_removal_says_where_something_went() -> None:
    own = Originated()
    own.set(route("api", 1), 0)
    own.set(route("api", 2, AB), 0)
    assert own.remove("config", P1, None) == []
    assert own.remove("api", P2, None) == []
    assert own.remove("api", P1, A) == [("a", P1)]
    assert (med(own, "a"), med(own, "b")) == (1, 2)
    assert own.remove("api", P1, A) == []
    assert own.remove_all("api", P1) == [(None, P1), ("b", P1)]
    assert list(own.routes()) == []
    assert own.remove_all("api", P1) == []


def test_replacing_a_source_affects_only_the_differences() -> None:
    own = Originated()
    own.set(route("api", 9), 1)
    old = [route("config", 1), route("config", 2, AB, P2), route("config", 3, prefix=Prefix.parse("10.0.0.0/8"))]
    own.replace_source("config", old, 1)
    new = [route("config", 1), route("config", 5, B, P2), route("config", 4, prefix=Prefix.parse("10.1.0.0/16"))]
    assert sorted(own.replace_source("config", new, 2), key=str) == sorted(
        [
            ("a", P2),
            ("b", P2),
            (None, Prefix.parse("10.0.0.0/8")),
            (None, Prefix.parse("10.1.0.0/16")),
        ],
        key=str,
    )
    assert {r.prefix: r.at for r in own.routes("config")} == {P1: 1, P2: 2, Prefix.parse("10.1.0.0/16"): 2}
    assert own.replace_source("config", new, 3) == []
    assert own.count("api") == 1


def test_the_routes_for_every_peer_are_not_copied() -> None:
    own = Originated()
    common = [route("config", 1, prefix=Prefix(1, bytes((24, 10, n, 0)))) for n in range(50)]
    own.replace_source("config", common, 0)
    first, second = list(own.wanted_routes("a", ALL)), list(own.wanted_routes("b", ALL))
    assert len(first) == 50
    assert all(x is y for x, y in zip(first, second, strict=True))


PREFIXES = [Prefix(1, bytes((8, n))) for n in range(3)]
ROUTES = st.builds(
    route,
    st.sampled_from(["config", "api", "service"]),
    st.integers(0, 2),
    st.sampled_from([None, A, B, AB]),
    st.sampled_from(PREFIXES),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), ROUTES),
        st.tuples(st.just("remove"), ROUTES),
        st.tuples(st.just("replace"), st.lists(ROUTES, max_size=5)),
    ),
    max_size=15,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_what_is_affected_covers_every_change_and_nothing_is_lost(
    steps: list[tuple[str, Route | list[Route]]],
) -> None:
    own = Originated()
    model: dict[tuple[str, PeerId | None, Prefix], int | None] = {}

    def write(item: Route) -> None:
        for peer in item.peers or (None,):
            model[item.source, peer, item.prefix] = item.attributes.med

    def view() -> dict[tuple[PeerId, Prefix], int | None]:
        found = {}
        for peer in "abc":
            for prefix in PREFIXES:
                for source in ("api", "service", "config"):
                    for name in (peer, None):
                        if (source, name, prefix) in model:
                            found.setdefault((peer, prefix), model[source, name, prefix])
        return found

    for now, (kind, what) in enumerate(steps):
        before = view()
        if kind == "replace":
            assert isinstance(what, list)
            items = [replace(item, source="config") for item in what]
            affected = own.replace_source("config", items, now)
            for key in [key for key in model if key[0] == "config"]:
                del model[key]
            for item in items:
                write(item)
        elif kind == "set":
            assert isinstance(what, Route)
            affected = own.set(what, now)
            write(what)
        else:
            assert isinstance(what, Route)
            affected = own.remove(what.source, what.prefix, what.peers)
            for peer in what.peers or (None,):
                model.pop((what.source, peer, what.prefix), None)
        after = view()
        assert {(p, x): med(own, p, x) for p in "abc" for x in PREFIXES if med(own, p, x) is not None} == after
        for peer in "abc":
            assert {(peer, r.prefix): r.attributes.med for r in own.wanted_routes(peer, ALL)} == {
                key: value for key, value in after.items() if key[0] == peer
            }
        for peer, prefix in {key for key in before | after if before.get(key) != after.get(key)}:
            assert (peer, prefix) in affected or (None, prefix) in affected
        stored = {(r.source, p, r.prefix): r.attributes.med for r in own.routes() for p in r.peers or (None,)}
        assert stored == model


@given(st.lists(ROUTES, max_size=30), st.sets(st.sampled_from(["config", "api", "service"])))
def test_runs_are_the_wanted_routes_by_their_attributes(routes: list[Route], sources: set[str]) -> None:
    own = Originated()
    for item in routes:
        own.set(item, 1)
    for peer, parent in (("a", None), ("b", "a")):
        plain = {
            (route.prefix, route.source): route.attributes
            for route in own.wanted_routes(peer, frozenset(sources), parent=parent)
        }
        for _ in range(2):  # the second time from what is kept
            by_run = {}
            for family in {route.prefix.family for route in routes}:
                for source, attributes, nlri in own.wanted_runs(peer, family, frozenset(sources), parent=parent):
                    for key in nlri:
                        found = Prefix(family.afi, key, family.safi), source
                        assert found not in by_run
                        by_run[found] = attributes
            assert by_run == plain
        for item in routes[:2]:
            own.remove_all(item.source, item.prefix)
            plain = {
                (route.prefix, route.source): route.attributes
                for route in own.wanted_routes(peer, frozenset(sources), parent=parent)
            }
        runs = [
            (Prefix(family.afi, key, family.safi), source)
            for family in {route.prefix.family for route in routes}
            for source, _, nlri in own.wanted_runs(peer, family, frozenset(sources), parent=parent)
            for key in nlri
        ]
        assert sorted(runs) == sorted(plain)
