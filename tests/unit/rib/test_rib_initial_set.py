"""The short way into a session, by lists, against the plain one, prefix by prefix: the peer ends with the same."""

from __future__ import annotations

from announcer_bench import Bench, decode
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.wire.attributes import PathAttributes

SHARED = [
    PathAttributes(),
    PathAttributes(med=1),
    PathAttributes(communities=tuple(range(1200))),  # leaves no room for a prefix
    PathAttributes(communities=tuple(range(1000))),  # room for a few
    PathAttributes(next_hop=b"\xc0\0\x02\x01"),  # the peer's own address: not let out
]
PREFIXES = [Prefix(1, bytes((24, 10, 0, number))) for number in range(40)]
PREFIXES += [Prefix(1, bytes((32, 10, 1, 0, number))) for number in range(5)]
PREFIXES += [Prefix(2, bytes((16, 0x20, number))) for number in range(5)]
_PREFIX = st.sampled_from(PREFIXES)
_ROUTE = st.sampled_from(SHARED)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), _PREFIX, st.one_of(st.none(), _ROUTE)),
        st.tuples(st.just("batch"), st.integers(1, 3), st.none()),
        st.tuples(st.just("refresh"), st.sampled_from([IPV4_UNICAST, IPV6_UNICAST]), st.booleans()),
        st.tuples(st.just("mark all"), st.none(), st.none()),
        st.tuples(st.just("release"), st.none(), st.none()),
    ),
    max_size=12,
)


class Peer:
    """What a neighbor has after the messages."""

    def __init__(self) -> None:
        self.table: dict[tuple[Family, bytes], PathAttributes] = {}
        self.announced = 0

    def hear(self, messages: list[bytes]) -> None:
        for message in messages:
            if message[18] != 2:
                continue
            update = decode(message)
            assert not update.faults
            for gone in update.withdrawn:
                for nlri in gone.nlri:
                    del self.table[gone.family, nlri]  # nothing is withdrawn that it has not
            for reach in update.announced:
                self.announced += len(reach.nlri)
                self.table.update({(reach.family, nlri): reach.attributes for nlri in reach.nlri})


def run(
    short: bool,
    routes: dict[Prefix, PathAttributes],
    steps: list[tuple[str, object, object]],
    held: bool,
    max_length: int,
) -> Peer:
    class Way(Bench):
        pass

    Way.short = short
    bench, peer = Way(max_length=max_length), Peer()
    for prefix, route in routes.items():
        bench.set(prefix, route)
    bench.up(end_of_rib=True, hold_end_of_rib=held)
    for step, what, more in steps:
        if step == "set":
            assert isinstance(what, Prefix)
            if more is not None or (what.family, what.nlri) in bench.routes:
                bench.set(what, more)  # type: ignore[arg-type]
        elif step == "batch":
            peer.hear(bench.announcer.next_batch(what))  # type: ignore[arg-type]
        elif step == "refresh":
            bench.announcer.resend(what, bool(more))  # type: ignore[arg-type]
        elif step == "mark all":
            bench.announcer.mark_all()
        else:
            bench.announcer.release_end_of_rib()
    bench.announcer.release_end_of_rib()
    peer.hear(bench.drain())
    sent = {(family, nlri) for family, nlri, _, _ in bench.announcer.sent()}
    assert sent == set(peer.table)
    return peer


@settings(max_examples=300)
@given(st.dictionaries(_PREFIX, _ROUTE), _STEPS, st.booleans(), st.sampled_from([4096, 200]))
def test_both_ways_leave_the_peer_with_the_same(
    routes: dict[Prefix, PathAttributes], steps: list[tuple[str, object, object]], held: bool, max_length: int
) -> None:
    by_list, by_prefix = (run(short, routes, steps, held, max_length) for short in (True, False))
    assert by_list.table == by_prefix.table


def test_no_prefix_of_the_initial_set_is_sent_twice() -> None:
    routes = dict.fromkeys(PREFIXES, SHARED[0])
    steps: list[tuple[str, object, object]] = [
        ("batch", 1, None),
        ("set", PREFIXES[3], SHARED[1]),
        ("batch", 1, None),
        ("set", PREFIXES[44], SHARED[1]),
    ]
    peer = run(True, routes, steps, False, 120)
    assert len(PREFIXES) <= peer.announced <= len(PREFIXES) + 2
