"""What the engine tells of itself: plain values for the API's views, which alone turn them into JSON fields.

All ``*_at`` are Instants (µs, monotonic); the view turns them into wall-clock times or ages. Durations carry their
unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bgpbfd.bfd.protocol import SessionReport
from bgpbfd.bgp.events import Cause, Endpoint
from bgpbfd.core import Family, Instant, PeerId, Prefix
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.capabilities import Capability
from bgpbfd.wire.received import Attributes, read_out


class Refused(Exception):
    """A command's value is refused: ``path`` names the parameter or key, ``reason`` says what would be right."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(slots=True, frozen=True)
class UpdateFaultRecord:
    """The last UPDATE of a neighbor that was not as it should be. ``data``: the octets at fault, cut at 512."""

    at: Instant
    treatment: str  # RFC 7606's word
    attribute: int | None
    reason: str
    data: bytes
    length: int  # of the data before it was cut


@dataclass(slots=True, frozen=True)
class NeighborSnapshot:
    peer: PeerId
    description: str | None
    dynamic: bool  # made from a network's configuration, gone with its connection
    network: str | None  # this entry *is* a network (no session of its own), or the one a dynamic peer came from
    enabled: bool
    passive: bool
    remote_asn: int
    local_asn: int
    local_router_id: int
    remote_router_id: int | None  # from its OPEN
    state: str  # idle|connect|active|opensent|openconfirm|established
    state_since: Instant
    established_at: Instant | None
    connect_attempt_at: Instant | None  # when the next try is due, if one is planned
    messages_received: int
    messages_sent: int
    prefixes_received: int
    prefixes_sent: int
    flaps: int
    bfd_state: str | None  # None: no BFD configured
    last_error: Cause | None
    # detail
    last_session_error: Cause | None = None  # why the last session ended; a failed attempt after it is last_error
    hold_time_configured_s: int = 0
    hold_time_s: int | None = None  # negotiated
    keepalive_time_s: int | None = None
    last_received_at: Instant | None = None
    last_sent_at: Instant | None = None
    local: Endpoint | None = None
    remote: Endpoint | None = None
    families: tuple[Family, ...] = ()  # in force
    disabled_families: tuple[Family, ...] = ()  # of them those whose routes are ignored, RFC 7606 §2
    capabilities_sent: tuple[Capability, ...] = ()
    capabilities_received: tuple[Capability, ...] = ()
    received_by_type: dict[str, int] = field(default_factory=dict)
    sent_by_type: dict[str, int] = field(default_factory=dict)
    prefixes_by_family: dict[str, int] = field(default_factory=dict)  # received
    pending_changes: tuple[str, ...] = ()  # keys that a reload changed and the next session will take up
    update_faults: dict[str, int] = field(default_factory=dict)  # RFC 7606 verdicts given, by word
    last_update_fault: UpdateFaultRecord | None = None
    notifications_sent: dict[str, int] = field(default_factory=dict)  # by "code/subcode"
    notifications_received: dict[str, int] = field(default_factory=dict)
    discards: dict[str, int] = field(default_factory=dict)  # events and messages not acted on, by reason
    role: str | None = None  # ours towards the peer, RFC 9234
    remote_role: str | None = None
    add_path_receive: tuple[Family, ...] = ()  # in force
    add_path_send: tuple[Family, ...] = ()
    extended_next_hop: tuple[Family, ...] = ()
    restart_time_s: int | None = None  # the peer's, RFC 4724; None: it sent no capability 64 with families
    restart_notification: bool = False  # N bit on both sides
    stale_until: Instant | None = None  # its routes are kept while it restarts
    end_of_rib: tuple[str, ...] = ()  # families that the peer has sent whole
    import_policy: str | None = None
    export_policy: str | None = None
    max_prefixes: int | None = None
    md5: bool = False  # RFC 2385, configured as the two below
    ttl_security: int | None = None  # hops, RFC 5082
    multihop: int | None = None
    waiting_for_bfd: bool = False  # BGP is held back until BFD lets it come up


@dataclass(slots=True, frozen=True)
class BfdSnapshot:
    """A BFD session as its clients know it; ``report`` is the worker's word, None while it has not given one.

    ``dynamic``: made with a dynamic neighbor's connection, or unsolicited; gone with it. ``clients``: who shares it
    (RFC 5882 §2): ``bgp`` and ``configured`` (a stand-alone session), or ``unsolicited``.
    """

    peer: PeerId
    description: str | None
    profile: str | None
    dynamic: bool
    report: SessionReport | None
    mode: str  # track|strict; none: no BGP neighbor is bound to it
    fault: str | None = None  # why it cannot run as configured
    clients: tuple[str, ...] = ("bgp",)
    multihop: bool = False
    minimum_ttl: int = 255
    damped_until: Instant | None = None  # after repeated failures BGP is held back until then


@dataclass(slots=True)
class RouteSnapshot:
    """A route as learned from a peer, or as wanted by us.

    ``attributes.next_hop`` None together with ``next_hop_self`` means the session's own address.
    """

    peer: PeerId | None  # learned: from whom; advertised to one peer: to whom; else None
    source: str  # config|api|service, or the peer it was learned from
    prefix: Prefix
    kept: Attributes  # as octets where they were learned: there may be a million, and few are shown
    received_at: Instant
    next_hop_self: bool = False
    valid: bool = True
    reason: str | None = None
    announced_to: int | None = None  # "Announced to n/m"
    wanted_by: int | None = None
    path_id: int | None = None  # RFC 7911
    stale: bool = False  # kept while its peer restarts, or until a refresh has ended
    why: str | None = None  # what policy said of it: the policy, its term, the verdict

    @property
    def attributes(self) -> PathAttributes:
        return read_out(self.kept)


@dataclass(slots=True, frozen=True)
class RecordedEvent:
    """One transition in the recorder: ``kind`` is bgp-up, bgp-down, bfd-up, bfd-down, bfd-admin-down, reload, …"""

    number: int
    at: Instant
    kind: str
    peer: PeerId | None
    text: str
    level: str = "info"
    facts: dict[str, str | int | float] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class PlannedChange:
    """One difference that a reload applies. ``impact``: hitless|bfd-poll|soft|session-reset."""

    path: str  # peers["192.0.2.1"].hold_timer
    text: str
    impact: str


@dataclass(slots=True, frozen=True)
class ReloadResult:
    ok: bool
    changes: tuple[PlannedChange, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()  # (path, reason)
