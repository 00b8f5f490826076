"""An engine that is only its answers, and records what it was told to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bgpbfd.bfd.protocol import SessionReport, StateChange
from bgpbfd.bgp.events import Cause, CauseKind, Endpoint
from bgpbfd.config.model import Announced
from bgpbfd.control.snapshot import (
    BfdSnapshot,
    NeighborSnapshot,
    PlannedChange,
    RecordedEvent,
    Refused,
    ReloadResult,
    RouteSnapshot,
    UpdateFaultRecord,
)
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, SECOND, Instant, Prefix
from bgpbfd.wire.attributes import PathAttributes, Segment, UnknownAttribute
from bgpbfd.wire.capabilities import Capability

NOW = 5_000 * SECOND
EPOCH = 1_700_000_000.0  # Unix time at Instant 0

CAUSE = Cause(
    CauseKind.NOTIFICATION_RECEIVED,
    "Cease, administrative shutdown: \x1b[31mred\x07",
    NOW - 90 * SECOND,
    code=6,
    subcode=2,
    facts={"message": "\x1b]0;owned\x07"},
)
ENDED = Cause(
    CauseKind.NOTIFICATION_SENT, "BAD\x1b[1m", NOW - 100 * SECOND, code=1, subcode=1, facts={"message": "00ff"}
)
TOR = NeighborSnapshot(
    peer="192.0.2.1",
    description="tor-1",
    dynamic=False,
    network=None,
    enabled=True,
    passive=False,
    remote_asn=65001,
    local_asn=65010,
    local_router_id=0xC000020A,
    remote_router_id=0xC0000201,
    state="established",
    state_since=NOW - 90061 * SECOND,
    established_at=NOW - 90061 * SECOND,
    connect_attempt_at=None,
    messages_received=12,
    messages_sent=34,
    prefixes_received=2,
    prefixes_sent=1,
    flaps=3,
    bfd_state="up",
    last_error=CAUSE,
    last_session_error=ENDED,
    hold_time_configured_s=180,
    hold_time_s=90,
    keepalive_time_s=30,
    last_received_at=NOW - 1_500_000,
    last_sent_at=NOW - 2 * SECOND,
    local=Endpoint(bytes((192, 0, 2, 10)), "192.0.2.10", 40000),
    remote=Endpoint(bytes((192, 0, 2, 1)), "192.0.2.1", 179),
    families=(IPV4_UNICAST, IPV6_UNICAST),
    disabled_families=(IPV6_UNICAST,),
    capabilities_sent=(Capability(2),),
    capabilities_received=(Capability(1, b"\0\1\0\1"), Capability(65, (65001).to_bytes(4)), Capability(200, b"\xaa")),
    received_by_type={"update": 2, "keepalive": 9, "open": 1},
    sent_by_type={"update": 1},
    prefixes_by_family={"ipv4 unicast": 2},
    pending_changes=("hold_timer",),
    update_faults={"treat-as-withdraw": 1},
    last_update_fault=UpdateFaultRecord(NOW - SECOND, "treat-as-withdraw", 1, "ORIGIN: origin 7 \x1b[2J", b"\1\2", 900),
    notifications_sent={"3/1": 1},
    notifications_received={"6/2": 2},
    discards={"route refresh that was not offered": 3},
    role="customer",
    remote_role="provider",
    add_path_receive=(IPV4_UNICAST,),
    extended_next_hop=(IPV4_UNICAST,),
    restart_time_s=120,
    restart_notification=True,
    stale_until=NOW + 30 * SECOND,
    end_of_rib=("ipv4 unicast",),
    import_policy="no-defaults",
    max_prefixes=1000,
    md5=True,
    ttl_security=1,
)
SPINE = replace(
    TOR,
    peer="2001:db8::1",
    description=None,
    state="idle",
    state_since=NOW - 4 * SECOND,
    established_at=None,
    connect_attempt_at=NOW + 2_500_000,
    remote_router_id=None,
    bfd_state=None,
    last_error=None,
    last_session_error=None,
    local=None,
    remote=None,
    hold_time_s=None,
    keepalive_time_s=None,
    last_received_at=None,
    last_sent_at=None,
    families=(),
    disabled_families=(),
    capabilities_received=(),
    pending_changes=(),
)
REPORT = SessionReport(
    key="192.0.2.1",
    generation=1,
    remote="192.0.2.1",
    local="192.0.2.10",
    interface="eth0",
    state="up",
    since=NOW - 60 * SECOND,
    remote_state="up",
    diag=0,
    remote_diag=3,
    local_discriminator=7,
    remote_discriminator=9,
    source_port=49152,
    passive=False,
    polling=False,
    desired_min_tx_us=50_000,
    required_min_rx_us=60_000,
    detect_mult=3,
    remote_desired_min_tx_us=300_000,
    remote_required_min_rx_us=33_300,
    remote_required_min_echo_rx_us=0,
    remote_detect_mult=5,
    transmit_interval_us=50_000,
    detection_time_us=1_500_000,
    last_rx=NOW - 12_500,
    packets_received=100,
    packets_sent=200,
    packets_discarded={"bad-ttl": 2, "bad-version": 1},
    up_count=2,
    down_count=1,
    last_down=StateChange(
        key="192.0.2.1",
        generation=1,
        old="up",
        new="down",
        diag=1,
        remote_diag=0,
        remote_admin_down=False,
        blame="path-loss",
        at=NOW - 70 * SECOND,
        last_rx=NOW - 70 * SECOND - 150_400,
        previous_rx=None,
        detection_time_us=150_000,
    ),
)
LEARNED = PathAttributes(
    origin=2,
    as_path=(Segment(2, (65001, 65002)), Segment(1, (1, 2))),
    next_hop=bytes((192, 0, 2, 1)),
    med=5,
    local_pref=100,
    atomic_aggregate=True,
    aggregator=(65001, bytes((192, 0, 2, 1))),
    communities=(0xFFFFFF01, 65001 << 16 | 99),
    originator_id=bytes((1, 2, 3, 4)),
    cluster_list=(bytes((5, 6, 7, 8)),),
    extended_communities=(b"\x00\x02\xfd\xe9\x00\x00\x00\x01",),
    large_communities=((65001, 1, 2),),
    unknown=(UnknownAttribute(0xC0, 99, b"\1\2"),),
)


@dataclass
class FakeEngine:
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    peers: list[NeighborSnapshot] = field(default_factory=lambda: [TOR, SPINE])
    sessions: list[BfdSnapshot] = field(
        default_factory=lambda: [
            BfdSnapshot("192.0.2.1", "tor-1", "fast", False, REPORT, "track"),
            BfdSnapshot("2001:db8::1", None, None, True, None, "strict", "no such address"),
        ]
    )
    learned: list[RouteSnapshot] = field(
        default_factory=lambda: [
            RouteSnapshot("192.0.2.1", "192.0.2.1", Prefix.parse("203.0.113.0/24"), LEARNED, NOW - 3 * SECOND),
            RouteSnapshot(
                "2001:db8::1",
                "2001:db8::1",
                Prefix.parse("2001:db8:9::/48"),
                PathAttributes(next_hop=bytes(15) + b"\1" + b"\xfe\x80" + bytes(13) + b"\2"),
                NOW,
                valid=False,
                reason="AS loop",
                path_id=7,
                why="policy 'no-defaults': term 1 accepts",
            ),
        ]
    )
    wanted: list[RouteSnapshot] = field(
        default_factory=lambda: [
            RouteSnapshot(
                None,
                "config",
                Prefix.parse("198.51.100.0/24"),
                PathAttributes(),
                NOW - SECOND,
                next_hop_self=True,
                announced_to=1,
                wanted_by=2,
            )
        ]
    )
    rules: list[RouteSnapshot] = field(
        default_factory=lambda: [
            RouteSnapshot(
                None,
                "config",
                Prefix(1, bytes.fromhex("0b 01 18 c00002 03 81 06 04 81 19"), 133),
                PathAttributes(
                    med=7,
                    extended_communities=(bytes.fromhex("8006000046bb8000"), bytes.fromhex("0002fde900000001")),
                ),
                NOW - SECOND,
                reason="192.0.2.1: ipv4 flow was not negotiated with this peer",
                announced_to=1,
                wanted_by=2,
            ),
            RouteSnapshot(
                "192.0.2.1",
                "192.0.2.1",
                Prefix(2, bytes.fromhex("07 01 20 00 20010db8"), 133),
                PathAttributes(ipv6_extended_communities=(bytes.fromhex("000d20010db8") + bytes(13) + b"\6",)),
                NOW,
            ),
        ]
    )
    recorded: list[RecordedEvent] = field(
        default_factory=lambda: [
            RecordedEvent(number, NOW - 100 + number, "bgp-down", "192.0.2.1", f"event {number} \x1b[2J", "warning")
            for number in range(1, 6)
        ]
    )
    result: ReloadResult = field(
        default_factory=lambda: ReloadResult(True, (PlannedChange('peers["x"]', "peer x: added", "soft"),))
    )
    config: Any = field(default_factory=lambda: {"router_id": "192.0.2.10", "peers": [{"remote_ip": "192.0.2.1"}]})

    def now(self) -> Instant:
        return NOW

    def wall(self, at: Instant) -> float:
        return EPOCH + at / SECOND

    def version(self) -> dict[str, Any]:
        return {"version": "0.1.0", "pid": 1}

    def show_config(self) -> dict[str, Any]:
        return self.config

    def neighbors(self) -> list[NeighborSnapshot]:
        return self.peers

    def neighbor(self, peer: str) -> NeighborSnapshot:
        for known in self.peers:
            if peer in (known.peer, known.description):
                return known
        raise Refused("peer", "no such neighbor; known are 192.0.2.1 (tor-1), 2001:db8::1")

    def peer_enable(self, peer: str) -> None:
        self.calls.append(("enable", peer))

    def peer_disable(self, peer: str, message: str) -> None:
        self.calls.append(("disable", peer, message))

    def peer_reset(self, peer: str) -> None:
        self.calls.append(("reset", peer))

    def peer_refresh(self, peer: str) -> None:
        self.calls.append(("refresh", peer))

    async def bfd_sessions(self) -> list[BfdSnapshot]:
        return self.sessions

    def bfd_discards(self) -> dict[str, int]:
        return {"no-session": 4}

    async def clear_bfd_counters(self, peer: str | None) -> None:
        self.calls.append(("clear", peer))

    def routes_learned(self, peer: str | None) -> list[RouteSnapshot]:
        if peer is None:
            return self.learned
        found = self.neighbor(peer).peer
        return [route for route in self.learned if route.peer == found]

    def routes_advertised(self, peer: str | None, *, why: bool) -> list[RouteSnapshot]:
        self.calls.append(("advertised", peer, *(["why"] if why else [])))
        return self.wanted

    def routes(self, *, why: bool) -> list[RouteSnapshot]:
        return [replace(route, why="asked") for route in self.wanted] if why else self.wanted

    def flows(self, kind: str | None, peer: str | None) -> list[RouteSnapshot]:
        self.calls.append(("flows", kind, peer))
        return self.rules

    def withdraw_flow(self, rule: Prefix, peers: list[str] | None) -> int:
        if rule.afi == 2:
            raise Refused("flow", "not advertised over the API")
        self.calls.append(("withdraw-flow", rule, peers))
        return 1

    def advertise(self, route: Announced, peers: list[str] | None) -> int:
        self.calls.append(("advertise", route, peers))
        return 2 if peers is None else len(peers)

    def withdraw(self, prefix: str, peers: list[str] | None) -> int:
        if prefix == "10.0.0.0/8":
            raise Refused("prefix", "10.0.0.0/8 is not advertised over the API")
        self.calls.append(("withdraw", prefix, peers))
        return 1

    async def reload(self) -> ReloadResult:
        return self.result

    def events(self, since: int = 0, limit: int = 100, peer: str | None = None) -> list[RecordedEvent]:
        found = [event for event in self.recorded if event.number > since]
        return found[:limit] if since else found[-limit:]
