"""An announcer and a receiver that decodes what it says, through random lives of routes, policies and sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, PeerId, Prefix
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.match import Match
from bgpbfd.policy.policy import NEXT, REJECT, Policy, Term
from bgpbfd.policy.prefixes import PrefixRange
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import ExportContext, export
from bgpbfd.rib.originate import Affected, Originated, Route
from bgpbfd.rib.path_ids import OWN, path_ids
from bgpbfd.rib.select import PeerInfo
from bgpbfd.rib.table import Rib
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import BgpRole, MessageType, SegmentType
from bgpbfd.wire.messages import decode_route_refresh
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, decode_update

PEER: PeerId = "192.0.2.1"
OUTER: PeerId = "192.0.2.2"
INNER: PeerId = "192.0.2.3"
SOURCES = frozenset({"api", "config", "service"})
PREFIXES = [Prefix.parse(f"10.{n}.0.0/16") for n in range(5)] + [Prefix.parse(f"2001:db8:{n:x}::/48") for n in range(3)]
NONE: frozenset[Family] = frozenset()
V4 = frozenset({IPV4_UNICAST})
BOTH = frozenset({IPV4_UNICAST, IPV6_UNICAST})
OUTSIDE = ExportContext(
    local_asn=65010,
    remote_asn=65001,
    external=True,
    families=BOTH,
    local_ipv4=b"\xc0\0\x02\x0a",
    local_ipv6=bytes.fromhex("20010db8000000000000000000000010"),
    local_link_local=None,
    remote_address=b"\xc0\0\x02\x01",
    router_id=1,
    remote_router_id=11,
)
INSIDE = replace(OUTSIDE, external=False, remote_asn=65010)
TERMS = (
    Term(Match(sources=("api",)), NEXT, Changes(prepend_own=1)),
    Term(Match(prefixes=(PrefixRange.within(PREFIXES[0]), PrefixRange.exactly(PREFIXES[5]))), REJECT, name="not-these"),
    Term(Match(prefixes=(PrefixRange.exactly(PREFIXES[1]),)), changes=Changes(med=77, next_hops=(b"\xc0\0\x02\x63",))),
)
EXPORTS = [
    OUTSIDE,
    replace(OUTSIDE, policy=Policy("open")),
    replace(OUTSIDE, policy=Policy("by-source", terms=TERMS[:1])),
    replace(OUTSIDE, policy=Policy("by-prefix", terms=TERMS), role=BgpRole.PROVIDER),
    replace(OUTSIDE, policy=Policy("closed", default="reject"), local_ipv4=None),
    replace(OUTSIDE, policy=Policy("open"), graceful_shutdown=True, role=BgpRole.CUSTOMER),
]
INTERNAL_EXPORTS = [
    INSIDE,
    replace(INSIDE, route_reflector_client=True, cluster_id=b"\0\0\0\x63"),
    replace(INSIDE, policy=Policy("by-prefix", terms=TERMS), graceful_shutdown=True),
]
OUTER_INFO = PeerInfo(
    external=True,
    remote_asn=65002,
    local_asn=65010,
    router_id=2,
    local_router_id=1,
    address=b"\xc0\0\x02\x02",
    policy=Policy("in"),
)
INNER_INFO = PeerInfo(
    external=False, remote_asn=65010, local_asn=65010, router_id=3, local_router_id=1, address=b"\xc0\0\x02\x03"
)
TOO_LONG = tuple(range(1100))  # 4400 octets of communities
ATTRIBUTES = st.builds(
    PathAttributes,
    med=st.sampled_from([None, 1, 2]),
    next_hop=st.sampled_from([None, None, None, b"\xc0\0\x02\x01", b"\xc0\0\x02\x63"]),
    communities=st.sampled_from([(), (), (7,), TOO_LONG]),
)
ROUTES = st.builds(
    Route,
    st.sampled_from(["config", "api", "service"]),
    st.sampled_from(PREFIXES),
    ATTRIBUTES,
    st.sampled_from([None, frozenset({PEER}), frozenset({"192.0.2.9"})]),
)
LEARNED = {
    # by feeder: AS paths that differ in what the export rules make of them
    OUTER: [
        PathAttributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (65002, asn)),), next_hop=b"\xc0\0\x02\x02", **more)
        for asn, more in ((7, {}), (8, {"only_to_customer": 65002}), (65010, {}), (9, {"communities": (0xFFFFFF01,)}))
    ],
    INNER: [
        PathAttributes(local_pref=200, next_hop=b"\xc0\0\x02\x03"),
        PathAttributes(local_pref=50, next_hop=b"\xc0\0\x02\x03", originator_id=b"\0\0\0\x0b"),
        PathAttributes(
            as_path=(Segment(SegmentType.AS_SEQUENCE, (64999,)),), local_pref=50, next_hop=b"\xc0\0\x02\x04"
        ),
    ],
}
Key: TypeAlias = tuple[Family, bytes, int | None]


class Receiver:
    """The peer: its table of what we announced, and what it found wrong with the way that we did."""

    def __init__(self, families: frozenset[Family], external: bool, add_path: frozenset[Family]) -> None:
        self.context = UpdateContext(
            asn4=True,
            external=external,
            families=families,
            remote_asn=65010,
            local_asn=65001 if external else 65010,
            add_path_receive=add_path,
        )
        self.table: dict[Key, PathAttributes] = {}
        self.ended: list[Family] = []
        self.stale: dict[Family, set[Key]] = {}
        self.announced: set[Key] = set()
        self.withdrawn: set[Key] = set()

    def read(self, message: bytes) -> int:
        """Returns how many routes it announced (positive) or withdrew (negative)."""
        assert len(message) <= 4096
        if message[18] == MessageType.ROUTE_REFRESH:
            self._refresh(message)
            return 0
        update = decode_update(message[19:], self.context)
        assert update.faults == []
        if update.end_of_rib is not None:
            assert update.end_of_rib not in self.ended
            self.ended.append(update.end_of_rib)
            return 0
        count = 0
        for unreach in update.withdrawn:
            for key in self._keys(unreach):
                assert key in self.table, "withdrawn without having been announced"
                del self.table[key]
                self.withdrawn.add(key)
                self.stale.get(unreach.family, set()).discard(key)
                count -= 1
        for reach in update.announced:
            assert not update.withdrawn, "one kind a message, RFC 7606 §5.1"
            for key in self._keys(reach):
                if reach.family not in self.stale:
                    assert self.table.get(key) != reach.attributes, "said twice"
                self.table[key] = reach.attributes
                self.announced.add(key)
                self.stale.get(reach.family, set()).discard(key)
                count += 1
        return count

    def _keys(self, routes: Reach | Unreach) -> Iterator[Key]:
        add_path = routes.family in self.context.add_path_receive
        assert (routes.path_ids is not None) == add_path
        for nlri, path_id in zip(routes.nlri, routes.path_ids or [None] * len(routes.nlri), strict=True):
            yield routes.family, nlri, path_id

    def _refresh(self, message: bytes) -> None:
        refresh = decode_route_refresh(message[19:])
        if refresh.subtype == 1:
            assert refresh.family in self.ended, "RFC 7313 §4: BoRR before End-of-RIB"
            self.stale[refresh.family] = {key for key in self.table if key[0] == refresh.family}
        else:
            assert refresh.subtype == 2
            left = self.stale.pop(refresh.family)
            assert not left, "RFC 7313 §4: EoRR before all was sent again"


class AnnouncerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.own = Originated()
        self.rib = Rib()
        self.announcer = Announcer(self.wanted, self.candidates, self.wanted_paths, self.initial)
        self.export = OUTSIDE
        self.add_path = NONE
        self.receiver: Receiver | None = None
        self.held = False
        self.now = 0

    @initialize()
    def start(self) -> None:
        list(self.rib.session_up(OUTER, OUTER_INFO))
        list(self.rib.session_up(INNER, INNER_INFO, add_path=V4))

    # The engine's part: our own routes first, then what others taught us.

    def sources(self, family: Family, nlri: bytes) -> list[tuple[int, PathAttributes, PeerInfo | None, str]]:
        found: list[tuple[int, PathAttributes, PeerInfo | None, str]] = []
        route = self.own.wanted(PEER, Prefix(family.afi, nlri), SOURCES)
        if route is not None:
            found.append((OWN, route.attributes, None, route.source))
        if family in self.add_path:
            paths = self.rib.usable_paths(family, nlri)
            numbers = path_ids([(path.peer, path.path_id) for path in paths])
            found += [(n, path.attributes, path.info, "peer") for n, path in zip(numbers, paths, strict=True)]
        elif route is None and (best := self.rib.best(family, nlri)) is not None:
            found.append((0, best.attributes, best.info, "peer"))
        return found

    def wanted(self, family: Family, nlri: bytes) -> PathAttributes | str | None:
        for _, attributes, origin, source in self.sources(family, nlri):
            return self.announcer.exported(attributes, origin, family, nlri, source)
        return None

    def wanted_paths(self, family: Family, nlri: bytes) -> list[tuple[int, PathAttributes | str]]:
        return [
            (number, self.announcer.exported(attributes, origin, family, nlri, source))
            for number, attributes, origin, source in self.sources(family, nlri)
        ]

    def candidates(self, family: Family) -> list[bytes]:
        own = [r.prefix.nlri for r in self.own.wanted_routes(PEER, SOURCES) if r.prefix.family == family]
        return own + list(self.rib.prefixes(family))

    def initial(self, family: Family) -> tuple[list[tuple[PathAttributes, list[bytes]]], list[bytes]]:
        runs, others = [], list(self.rib.prefixes(family))
        for source, attributes, nlri in self.own.wanted_runs(PEER, family, SOURCES):
            leaves = self.announcer.exported_alike(attributes, family, nlri, source)
            if leaves is None:
                others += nlri
            else:
                runs.append((leaves, nlri))
        return runs, others

    def affected(self, affected: Affected) -> None:
        self.now += 1
        for peer, prefix in affected:
            if peer in {None, PEER}:
                self.announcer.mark(prefix.family, prefix.nlri)

    @rule(route=ROUTES)
    def set(self, route: Route) -> None:
        self.affected(self.own.set(route, self.now))

    @rule(route=ROUTES)
    def remove(self, route: Route) -> None:
        self.affected(self.own.remove(route.source, route.prefix, route.peers))

    @rule(routes=st.lists(ROUTES, max_size=6))
    def reload(self, routes: list[Route]) -> None:
        self.affected(
            self.own.replace_source("config", [msgspec.structs.replace(r, source="config") for r in routes], self.now)
        )

    @rule(
        prefixes=st.lists(st.sampled_from(PREFIXES), max_size=4, unique=True),
        number=st.integers(0, 3),
        path_id=st.integers(1, 3),
        feeder=st.sampled_from([OUTER, INNER]),
    )
    def learn(self, prefixes: list[Prefix], number: int, path_id: int, feeder: PeerId) -> None:
        attributes = LEARNED[feeder][number % len(LEARNED[feeder])]
        update = Update()
        for family in sorted(BOTH):
            nlri = [p.nlri for p in prefixes if p.family == family]
            ids = [path_id] * len(nlri) if feeder == INNER and family in V4 else None
            update.announced.append(Reach(family, attributes, nlri, ids))
        self.changed(self.rib.apply(feeder, update, self.now), prefixes)

    @rule(prefix=st.sampled_from(PREFIXES), path_id=st.integers(1, 3), feeder=st.sampled_from([OUTER, INNER]))
    def unlearn(self, prefix: Prefix, path_id: int, feeder: PeerId) -> None:
        ids = [path_id] if feeder == INNER and prefix.family in V4 else None
        update = Update(withdrawn=[Unreach(prefix.family, [prefix.nlri], ids)])
        self.changed(self.rib.apply(feeder, update, self.now), [prefix])

    @rule(feeder=st.sampled_from([OUTER, INNER]))
    def feeder_resets(self, feeder: PeerId) -> None:
        list(self.rib.flush(feeder))
        self.changed([(prefix.family, prefix.nlri) for prefix in PREFIXES], [])
        info, add_path = (OUTER_INFO, NONE) if feeder == OUTER else (INNER_INFO, V4)
        list(self.rib.session_up(feeder, info, add_path=add_path))

    def changed(self, changed: list[tuple[Family, bytes]], touched: list[Prefix]) -> None:
        self.now += 1
        for family, nlri in changed:
            self.announcer.mark(family, nlri)
        for prefix in touched:
            if prefix.family in self.add_path:  # there every path counts, not the best one alone
                self.announcer.mark(prefix.family, prefix.nlri)

    # The session's part.

    @rule(
        families=st.sampled_from([BOTH, V4]),
        export=st.sampled_from(EXPORTS + INTERNAL_EXPORTS),
        add_path=st.sampled_from([NONE, V4, BOTH]),
        held=st.booleans(),
    )
    def session_up(
        self, families: frozenset[Family], export: ExportContext, add_path: frozenset[Family], held: bool
    ) -> None:
        self.export = replace(export, families=families)
        self.add_path = add_path & families
        self.held = held
        self.receiver = Receiver(families, export.external, self.add_path)
        context = UpdateContext(
            asn4=True,
            external=export.external,
            families=families,
            remote_asn=export.remote_asn,
            local_asn=65010,
            add_path_send=self.add_path,
        )
        self.announcer.session_up(context, self.export, end_of_rib=True, hold_end_of_rib=held)

    @rule()
    def session_down(self) -> None:
        self.announcer.session_down()
        self.receiver = None
        self.add_path = NONE

    @precondition(lambda self: self.receiver is not None)
    @rule(number=st.integers(0, 5))
    def policy_changes(self, number: int) -> None:
        exports = EXPORTS if self.export.external else INTERNAL_EXPORTS
        self.export = replace(exports[number % len(exports)], families=self.export.families)
        self.announcer.change_export(self.export)

    @rule()
    def release(self) -> None:
        self.held = False
        self.announcer.release_end_of_rib()

    @precondition(lambda self: self.receiver is not None)
    @rule(family=st.sampled_from(sorted(BOTH)))
    def refresh(self, family: Family) -> None:
        self.announcer.resend(family, enhanced=True)

    @rule()
    def mark_all(self) -> None:
        self.announcer.mark_all()

    @rule(limit=st.integers(0, 3))
    def some_output(self, limit: int) -> None:
        """With 0 the connection takes nothing, and what was looked up waits."""
        self.take(limit)

    @rule()
    def all_output(self) -> None:
        if self.receiver is not None:
            self.receiver.announced.clear()
            self.receiver.withdrawn.clear()
        for turn in range(1000):
            if not self.announcer.has_pending:
                break
            self.take(25)
            assert turn < 999, "never comes to rest"
        if self.receiver is None:
            return
        assert not self.receiver.announced & self.receiver.withdrawn, "a change is no withdrawal and announcement"
        wanted = self.expected()
        assert self.receiver.table == wanted
        assert sorted(self.receiver.ended) == ([] if self.held else sorted(self.export.families))
        assert self.receiver.stale == {}
        assert self.sent() == wanted
        assert self.announcer.sent_count() == len(wanted)
        self.announcer.mark_all()
        while self.announcer.has_pending:
            assert self.announcer.next_batch() == [], "said again though nothing changed"

    def expected(self) -> dict[Key, PathAttributes]:
        """By ``export`` itself; whether what is refused says why is looked at on the way."""
        wanted: dict[Key, PathAttributes] = {}
        for prefix in PREFIXES:
            family, nlri = prefix.family, prefix.nlri
            sources = self.sources(family, nlri) if family in self.export.families else []
            sent = 0
            for number, attributes, origin, source in sources:
                outcome = export(attributes, origin, self.export, family, nlri, source)
                path_id = number if family in self.add_path else None
                if isinstance(outcome.result, PathAttributes) and len(outcome.result.communities) < 1000:
                    wanted[family, nlri, path_id] = outcome.result
                    sent += 1
                assert self.announcer.why(family, nlri, path_id) == outcome.why
            if family in self.export.families:
                assert (self.announcer.reason(prefix) is None) == (sent > 0 or not sources)
        return wanted

    def sent(self) -> dict[Key, PathAttributes]:
        return {(family, nlri, path_id): a for family, nlri, a, path_id in self.announcer.sent()}

    def take(self, limit: int) -> None:
        batch = self.announcer.next_batch(limit)
        assert len(batch) <= limit
        if self.receiver is None:
            assert batch == []
            return
        counts = [self.receiver.read(message) for message in batch]
        signs = [count for count in counts if count]
        assert signs == sorted(signs, key=lambda count: count > 0), "a withdrawal behind an announcement"

    @invariant()
    def the_receiver_has_what_was_sent(self) -> None:
        if self.receiver is not None:
            assert self.receiver.table == self.sent()


AnnouncerMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
TestAnnouncer = AnnouncerMachine.TestCase
