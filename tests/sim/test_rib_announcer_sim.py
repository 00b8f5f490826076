"""An announcer and a receiver that decodes what it says, through random lives of routes and sessions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, PeerId, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.rib.announcer import Announcer
from bgpbfd.rib.export import ExportContext
from bgpbfd.rib.originate import Affected, Originated, Route
from bgpbfd.rib.select import PeerInfo
from bgpbfd.rib.table import Rib
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import MessageType, SegmentType
from bgpbfd.wire.messages import decode_route_refresh
from bgpbfd.wire.update import Reach, Unreach, Update, UpdateContext, decode_update

PEER: PeerId = "192.0.2.1"
FEEDER: PeerId = "192.0.2.2"
SOURCES = frozenset({"api", "config", "service"})
PREFIXES = [Prefix.parse(f"10.{n}.0.0/16") for n in range(5)] + [Prefix.parse(f"2001:db8:{n:x}::/48") for n in range(3)]
BOTH = frozenset({IPV4_UNICAST, IPV6_UNICAST})
EXPORT = ExportContext(
    local_asn=65010,
    remote_asn=65001,
    external=True,
    families=BOTH,
    local_ipv4=b"\xc0\0\x02\x0a",
    local_ipv6=bytes.fromhex("20010db8000000000000000000000010"),
    local_link_local=None,
    remote_address=b"\xc0\0\x02\x01",
    policy=Policy("out"),
)
FEEDER_INFO = PeerInfo(
    external=True,
    remote_asn=65002,
    local_asn=65010,
    router_id=2,
    local_router_id=1,
    address=b"\xc0\0\x02\x02",
    policy=Policy("in"),
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


class Receiver:
    """The peer: its table of what we announced, and what it found wrong with the way that we did."""

    def __init__(self, families: frozenset[Family]) -> None:
        self.context = UpdateContext(asn4=True, external=True, families=families, remote_asn=65010, local_asn=65001)
        self.table: dict[tuple[Family, bytes], PathAttributes] = {}
        self.ended: list[Family] = []
        self.stale: dict[Family, set[bytes]] = {}

    def read(self, message: bytes) -> int:
        """Returns how many prefixes it announced (positive) or withdrew (negative)."""
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
            for nlri in unreach.nlri:
                assert (unreach.family, nlri) in self.table, "withdrawn without having been announced"
                del self.table[unreach.family, nlri]
                self.stale.get(unreach.family, set()).discard(nlri)
                count -= 1
        for reach in update.announced:
            assert not update.withdrawn, "one kind a message, RFC 7606 §5.1"
            for nlri in reach.nlri:
                key = (reach.family, nlri)
                stale = self.stale.get(reach.family, set())
                if not self.resending(reach.family):
                    assert self.table.get(key) != reach.attributes, "said twice"
                self.table[key] = reach.attributes
                stale.discard(nlri)
                count += 1
        return count

    def resending(self, family: Family) -> bool:
        return family in self.stale

    def _refresh(self, message: bytes) -> None:
        refresh = decode_route_refresh(message[19:])
        if refresh.subtype == 1:
            assert refresh.family in self.ended, "RFC 7313 §4: BoRR before End-of-RIB"
            self.stale[refresh.family] = {nlri for family, nlri in self.table if family == refresh.family}
        else:
            assert refresh.subtype == 2
            left = self.stale.pop(refresh.family)
            assert not left, "RFC 7313 §4: EoRR before all was sent again"


class AnnouncerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.own = Originated()
        self.rib = Rib()
        self.announcer = Announcer(self.wanted, self.candidates)
        self.receiver: Receiver | None = None
        self.now = 0

    @initialize()
    def start(self) -> None:
        self.rib.session_up(FEEDER, FEEDER_INFO)

    # The engine's part: our own routes first, then what others taught us.

    def wanted(self, family: Family, nlri: bytes) -> PathAttributes | str | None:
        route = self.own.wanted(PEER, Prefix(family.afi, nlri), SOURCES)
        if route is not None:
            return self.announcer.exported(route.attributes, None, family, nlri, route.source)
        best = self.rib.best(family, nlri)
        if best is None:
            return None
        return self.announcer.exported(best.attributes, self.rib.info(best.peer), family, nlri, "peer")

    def candidates(self, family: Family) -> list[bytes]:
        own = [r.prefix.nlri for r in self.own.wanted_routes(PEER, SOURCES) if r.prefix.family == family]
        return own + list(self.rib.prefixes(family))

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
        self.affected(self.own.replace_source("config", [replace(r, source="config") for r in routes], self.now))

    @rule(prefixes=st.lists(st.sampled_from(PREFIXES), max_size=4, unique=True), asn=st.sampled_from([7, 8, 65010]))
    def learn(self, prefixes: list[Prefix], asn: int) -> None:
        path = PathAttributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (65002, asn)),), next_hop=b"\xc0\0\x02\x02")
        reaches = [Reach(family, path, [p.nlri for p in prefixes if p.family == family]) for family in sorted(BOTH)]
        self.changed(self.rib.apply(FEEDER, Update(announced=reaches), self.now))

    @rule(prefix=st.sampled_from(PREFIXES))
    def unlearn(self, prefix: Prefix) -> None:
        self.changed(self.rib.apply(FEEDER, Update(withdrawn=[Unreach(prefix.family, [prefix.nlri])]), self.now))

    @rule()
    def feeder_resets(self) -> None:
        self.changed(self.rib.flush(FEEDER))
        self.rib.session_up(FEEDER, FEEDER_INFO)

    def changed(self, changed: list[tuple[Family, bytes]]) -> None:
        self.now += 1
        for family, nlri in changed:
            self.announcer.mark(family, nlri)

    # The session's part.

    @rule(families=st.sampled_from([BOTH, frozenset({IPV4_UNICAST})]))
    def session_up(self, families: frozenset[Family]) -> None:
        self.receiver = Receiver(families)
        self.announcer.session_up(
            UpdateContext(asn4=True, external=True, families=families, remote_asn=65001, local_asn=65010),
            replace(EXPORT, families=families),
            end_of_rib=True,
        )

    @rule()
    def session_down(self) -> None:
        self.announcer.session_down()
        self.receiver = None

    @precondition(lambda self: self.receiver is not None)
    @rule(family=st.sampled_from(sorted(BOTH)))
    def refresh(self, family: Family) -> None:
        self.announcer.resend(family, enhanced=True)

    @rule()
    def mark_all(self) -> None:
        self.announcer.mark_all()

    @rule(limit=st.integers(1, 3))
    def some_output(self, limit: int) -> None:
        self.take(limit)

    @rule()
    def all_output(self) -> None:
        for turn in range(1000):
            if not self.announcer.has_pending:
                break
            self.take(25)
            assert turn < 999, "never comes to rest"
        if self.receiver is None:
            return
        families = self.receiver.context.families
        wanted = {}
        for prefix in PREFIXES:
            route = self.wanted(prefix.family, prefix.nlri) if prefix.family in families else None
            if isinstance(route, PathAttributes) and route.communities != TOO_LONG:
                wanted[prefix.family, prefix.nlri] = route
                assert self.announcer.reason(prefix) is None
            elif route is not None:
                assert self.announcer.reason(prefix)
        assert self.receiver.table == wanted
        assert sorted(self.receiver.ended) == sorted(families)
        assert self.receiver.stale == {}
        assert {(f, n): a for f, n, a, _ in self.announcer.sent()} == wanted
        assert self.announcer.sent_count() == len(wanted)
        self.announcer.mark_all()
        while self.announcer.has_pending:
            assert self.announcer.next_batch() == [], "said again though nothing changed"

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
            assert self.receiver.table == {(f, n): a for f, n, a, _ in self.announcer.sent()}


AnnouncerMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
TestAnnouncer = AnnouncerMachine.TestCase
