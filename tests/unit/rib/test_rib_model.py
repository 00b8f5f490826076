"""The RIB against a plain model: a dictionary of everything, judged anew each time it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from rib_fakes import fake, flat

from bgpbfd.core import IPV4_UNICAST, Family
from bgpbfd.policy.policy import Policy
from bgpbfd.rib.importing import Importer
from bgpbfd.rib.select import PathWithId, PeerInfo, best_path, in_order
from bgpbfd.rib.table import Rib
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import SegmentType
from bgpbfd.wire.update import Reach, Unreach, Update

F = IPV4_UNICAST
PREFIXES = [bytes((24, 10, 0, 1)), b"\0"]
POLICIES = [None, Policy("all"), fake(local_pref=200), fake(reject_community=1), fake(reject=PREFIXES[0], strip=True)]


def info_of(peer: str, policy: int) -> PeerInfo:
    number = ord(peer)
    return PeerInfo(
        external=peer != "c",
        remote_asn=65000 + number,
        local_asn=65010,
        router_id=number,
        local_router_id=9,
        address=bytes((192, 0, 2, number)),
        policy=POLICIES[policy],
    )


def path(*asns: int, **more: object) -> PathAttributes:
    return PathAttributes(
        as_path=(Segment(SegmentType.AS_SEQUENCE, asns),),
        next_hop=b"\xc0\0\2\1",
        **more,  # type: ignore[arg-type]
    )


# Few, so that the same is often announced again.
ATTRIBUTES = st.sampled_from(
    [
        path(65001, 7),
        path(65001, 8, med=1),
        path(65002, 7, communities=(1,)),
        path(65002, 7, communities=(2,)),
        path(65001, 65010),
        path(65001, 7, 8, communities=(0xFFFF0000,)),
    ]
)
KEYS = st.lists(st.tuples(st.sampled_from(PREFIXES), st.integers(0, 1)), min_size=1, max_size=3, unique=True)
PEER = st.sampled_from("aabbc")
APPLY = st.one_of(
    st.tuples(st.just("apply"), PEER, st.just([]), st.lists(st.tuples(ATTRIBUTES, KEYS), min_size=1, max_size=1)),
    st.tuples(st.just("apply"), PEER, KEYS | st.just([]), st.lists(st.tuples(ATTRIBUTES, KEYS), max_size=2)),
)
OTHER = st.one_of(
    st.tuples(st.just("up"), PEER, st.sampled_from([True, True, False]), st.booleans(), st.integers(0, 4)),
    st.tuples(st.sampled_from(["retain", "refresh", "purge", "retain", "refresh", "purge", "drop", "flush"]), PEER),
    st.tuples(st.just("policy"), PEER, st.integers(0, 4)),
)
# In turn, so that there is something to do something to.
STEPS = st.lists(st.tuples(APPLY, OTHER), min_size=2, max_size=12).map(
    lambda pairs: [s for pair in pairs for s in pair]
)


@dataclass
class Entry:
    """``stale``: not since the last age; ``restarted``: since before the last restart."""

    received: PathAttributes
    at: int
    info: PeerInfo
    stale: bool = False
    restarted: bool = False


@dataclass
class ModelPeer:
    info: PeerInfo
    add_path: bool
    live: bool = True
    entries: dict[tuple[bytes, int | None], Entry] = field(default_factory=dict)

    def keep(self) -> None:
        """The session is lost."""
        if self.live:
            self.entries = {key: entry for key, entry in self.entries.items() if not entry.restarted}
            for entry in self.entries.values():
                entry.stale = entry.restarted = True
        self.live = False


class Model:
    def __init__(self) -> None:
        self.peers: dict[str, ModelPeer] = {}

    def up(self, peer: str, info: PeerInfo, keep: bool, add_path: bool) -> None:
        old = self.peers.get(peer)
        self.peers[peer] = ModelPeer(info, add_path)
        if old is not None and keep:
            old.keep()
            self.peers[peer].entries = old.entries

    def apply(self, peer: str, update: Update, now: int) -> None:
        state = self.peers.get(peer)
        if state is None or not state.live:
            return
        announced = {key for reach in update.announced for key in keys_of(reach)}
        for unreach in update.withdrawn:
            for nlri, path_id in keys_of(unreach):
                if (nlri, path_id) not in announced:
                    state.entries.pop((nlri, path_id), None)
                    if path_id is None:
                        self._clear(state, nlri, lambda other: True)
        for reach in update.announced:
            for nlri, path_id in keys_of(reach):
                self._clear(state, nlri, lambda other, own=path_id: (other is None) != (own is None))
                old = state.entries.get((nlri, path_id))
                at = old.at if old is not None and old.received == reach.attributes else now
                state.entries[nlri, path_id] = Entry(reach.attributes, at, state.info)

    @staticmethod
    def _clear(state: ModelPeer, nlri: bytes, which: object) -> None:
        for key in list(state.entries):
            if key[0] == nlri and which(key[1]):  # type: ignore[operator]
                del state.entries[key]

    def candidates(self, nlri: bytes) -> list[PathWithId]:
        found = []
        for peer, state in self.peers.items():
            for (item, path_id), entry in state.entries.items():
                if item == nlri:
                    attributes, outcome = Importer(entry.info).judge(entry.received, F, nlri)
                    found.append(PathWithId(peer, entry.info, attributes, entry.at, outcome, 0, path_id))
        return found

    def best(self) -> dict[bytes, tuple[object, ...] | None]:
        chosen = {}
        for nlri in PREFIXES:
            found = best_path(self.candidates(nlri))
            chosen[nlri] = found and (found[0].peer, found[0].path_id, found[0].attributes, found[0].info)
        return chosen


def keys_of(part: Reach | Unreach) -> list[tuple[bytes, int | None]]:
    return list(zip(part.nlri, part.path_ids or [None] * len(part.nlri), strict=True))


def update_of(withdrawn: list[tuple[bytes, int]], announced: list[tuple[PathAttributes, list]], ids: bool) -> Update:
    def split(keys: list[tuple[bytes, int]]) -> tuple[list[bytes], list[int] | None]:
        if ids:
            return [nlri for nlri, _ in keys], [path_id for _, path_id in keys]
        return list(dict.fromkeys(nlri for nlri, _ in keys)), None

    return Update([Reach(F, path, *split(keys)) for path, keys in announced], [Unreach(F, *split(withdrawn))])


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_the_rib_equals_a_plain_model(steps: list[tuple]) -> None:
    rib, model = Rib(), Model()
    for number, peer in enumerate("abc", 1):
        model.up(peer, info_of(peer, number), False, peer == "b")
        flat(rib.session_up(peer, info_of(peer, number), add_path=frozenset({F}) if peer == "b" else frozenset()))
    families: frozenset[Family] = frozenset({F})
    for now, (kind, peer, *rest) in enumerate(steps):
        before = model.best()
        exact = True
        changed: list[tuple[Family, bytes]] = []
        state = model.peers.get(peer)
        if kind == "up":
            keep, add_path, policy = rest
            info = info_of(peer, policy)
            model.up(peer, info, keep, add_path)
            changed = flat(
                rib.session_up(
                    peer, info, keep=families if keep else frozenset(), add_path=families if add_path else frozenset()
                )
            )
        elif kind == "apply":
            withdrawn, announced = rest
            update = update_of(withdrawn, announced, state is not None and state.add_path)
            model.apply(peer, update, now)
            changed = rib.apply(peer, update, now)
            exact = len(announced) + bool(withdrawn) <= 1  # several parts may pass over a state between
        elif kind == "retain":
            if state is not None:
                state.keep()
            changed = flat(rib.retain(peer, families))
        elif kind == "drop":
            if state is not None:
                state.live, state.entries = False, {}
            changed = flat(rib.retain(peer, frozenset()))
        elif kind == "flush":
            model.peers.pop(peer, None)
            changed = flat(rib.flush(peer))
        elif kind == "refresh":
            for entry in state.entries.values() if state is not None else ():
                entry.stale = True
            rib.begin_refresh(peer, F)
        elif kind == "purge":
            if state is not None:
                state.entries = {key: entry for key, entry in state.entries.items() if not entry.stale}
            changed = flat(rib.purge_stale(peer, F))
        else:
            info = info_of(peer, rest[0])
            if state is not None:
                state.info = info
                for entry in state.entries.values():
                    entry.info = info
            rib.change_info(peer, info)
            changed = [key for turn in rib.reevaluate(peer) for key in turn]
        after = model.best()
        differing = {nlri for nlri in PREFIXES if seen(before[nlri]) != seen(after[nlri])}
        reported = [nlri for _, nlri in changed]
        assert differing <= set(reported)
        if exact:
            assert differing == set(reported)
            assert len(reported) == len(set(reported))
        compare(rib, model, after)


def seen(best: tuple[object, ...] | None) -> tuple[object, ...] | None:
    """What others can tell of a best path: the policy that judged it is not theirs to ask."""
    return best and (*best[:3], replace(best[3], policy=None))  # type: ignore[type-var]


def compare(rib: Rib, model: Model, best: dict[bytes, tuple[object, ...] | None]) -> None:
    for nlri in PREFIXES:
        route = rib.best(F, nlri)
        assert (route and (route.peer, route.path_id, route.attributes, route.info)) == best[nlri]
        candidates = model.candidates(nlri)
        assert [(r.peer, r.path_id) for r in rib.usable_paths(F, nlri)] == [
            (path.peer, path.path_id) for path in in_order(candidates)
        ]
        assert sorted((r.peer, str(r.path_id), str(r.reason), str(r.why)) for r in rib.paths(F, nlri)) == sorted(
            (path.peer, str(path.path_id), str(path.reason), str(path.why)) for path in candidates
        )
    learned = list(rib.learned())
    assert {(r.peer, r.nlri, r.path_id): (r.received, r.received_at, r.stale) for r in learned} == {
        (peer, nlri, path_id): (entry.received, entry.at, entry.stale)
        for peer, state in model.peers.items()
        for (nlri, path_id), entry in state.entries.items()
    }
    assert len(learned) == rib.total()
    for peer, state in model.peers.items():
        assert rib.count(peer) == len(state.entries)
        assert rib.stale_count(peer) == sum(entry.stale for entry in state.entries.values())
    assert sorted(rib.prefixes(F)) == sorted({r.nlri for r in learned})
