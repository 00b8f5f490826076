"""What goes into a BGP peer's core and what comes out of it.

Events keep the names of RFC 4271 §8.1. A connection is known to core and shell by a ``ConnId``, unique within
one peer: the core hands one out with ``Dial``; for an accepted connection the shell asks ``Peer.new_connection_id``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeAlias

import msgspec

from bgpbfd.bgp.negotiate import Negotiated, PeerSettings
from bgpbfd.core import Family, Instant
from bgpbfd.wire.iana import CeaseSubcode
from bgpbfd.wire.messages import Notification, RouteRefresh
from bgpbfd.wire.update import Update, UpdateContext

ConnId: TypeAlias = int


class State(IntEnum):
    """RFC 4271 §8.2.2; the order is the order of progress."""

    IDLE = 0
    CONNECT = 1
    ACTIVE = 2
    OPEN_SENT = 3
    OPEN_CONFIRM = 4
    ESTABLISHED = 5


class CauseKind(StrEnum):
    """Why a session or an attempt ended; the word that logs, events, metrics and the API use."""

    BFD_DOWN = "bfd-down"
    HOLD_TIMER_EXPIRED = "hold-timer-expired"
    NOTIFICATION_RECEIVED = "notification-received"
    NOTIFICATION_SENT = "notification-sent"  # the peer broke a rule and was told so
    CONNECTION_FAILED = "connection-failed"  # dial refused or timed out
    CONNECTION_LOST = "connection-lost"  # end of file or reset on a live connection
    COLLISION = "collision"
    ADMIN_SHUTDOWN = "admin-shutdown"
    ADMIN_RESET = "admin-reset"
    CONFIG_CHANGE = "config-change"
    DECONFIGURED = "deconfigured"
    DAEMON_STOP = "daemon-stop"
    MAX_PREFIXES = "max-prefixes"
    SEND_HOLD_TIMER_EXPIRED = "send-hold-timer-expired"
    INTERNAL_ERROR = "internal-error"


@dataclass(slots=True, frozen=True)
class Cause:
    """Why something went down, for people (``text``) and for machines (the rest).

    ``code``/``subcode`` are those of the NOTIFICATION sent or received, if there was one; ``facts`` may hold any
    further times and values (unit in the key), e.g. BFD's last packet.
    """

    kind: CauseKind
    text: str
    at: Instant
    code: int | None = None
    subcode: int | None = None
    facts: dict[str, str | int | float] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Endpoint:
    """A TCP endpoint: packed address (4 or 16 octets, v4-mapped already unmapped), its text, port, scope id."""

    address: bytes
    text: str
    port: int
    scope_id: int = 0


# -- events ------------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class ManualStart:
    """Event 1 (and 4 when the settings say passive).

    ``restarting_until``: this process may have been running before; OPENs until then, and before the first
    session, have the R and F bits (RFC 4724 §4.1) where the settings have a restart time.
    """

    restarting_until: Instant | None = None


@dataclass(slots=True, frozen=True)
class ManualStop:
    """Event 2: stay down until ManualStart. Sends Cease with ``subcode``, and ``message`` by RFC 9003.

    Where a NOTIFICATION would let the peer keep our routes (N bit on both sides) the Cease is wrapped into a hard reset
    (RFC 8538 §3.1). ``retain``: the opposite is wanted, a planned restart: TCP is closed without a NOTIFICATION on
    sessions whose peer keeps our routes then (RFC 4724 §4.2); others get their Cease.
    """

    cause: CauseKind = CauseKind.ADMIN_SHUTDOWN
    subcode: CeaseSubcode = CeaseSubcode.ADMINISTRATIVE_SHUTDOWN
    message: str = ""
    retain: bool = False


@dataclass(slots=True, frozen=True)
class AutomaticStop:
    """Event 8: Cease with ``subcode``, close, then come back by itself.

    ``damped`` says that the idle hold time grows; without it the peer is dialled again at once (administrative reset).
    ``idle_s``: stay away for this long instead (``inf``: for ever), refusing its connections too; ManualStart and a
    stop without damping end it, BfdUp does not. Hard reset as in ManualStop. ``data``: the Cease's, where ``message``
    has no place (RFC 4486 §4).
    """

    cause: Cause
    subcode: CeaseSubcode
    message: str = ""
    damped: bool = True
    idle_s: float | None = None
    data: bytes = b""


@dataclass(slots=True, frozen=True)
class BfdUp:
    """RFC 5882 §4: the path works. An idle peer is dialled at once, whatever its idle hold time."""


@dataclass(slots=True, frozen=True)
class BfdDown:
    """Up→Down of the peer's BFD session, not AdminDown: Cease 6/10 (RFC 9384), close; ``cause.kind`` is BFD_DOWN.

    ``failed_at``: when the path failed, which a process that was suspended learns late. A connection that was set up
    over the path since then is not hit. None: just now.
    """

    cause: Cause
    failed_at: Instant | None = None


@dataclass(slots=True, frozen=True)
class BfdGate:
    """Whether BFD lets a session come up; an Established one is not touched (that is BfdDown's).

    While ``closed`` a connection goes no further than OpenSent: OPENs are exchanged, our KEEPALIVE waits; one that is
    in OpenConfirm as the gate closes gets Cease 6/10. ``hold_s``: for how long after the peer's OPEN, then Cease 6/10;
    the wait ends before the negotiated hold time at the latest (``pending``), which is all that ends it with None.
    ``dials`` False: we do not dial meanwhile; a connection that the peer dials waits all the same. When the gate opens
    what waits goes on, or else we dial, both at once; an idle hold for another reason is kept.

    The last gate holds, also for later sessions, and before the first it is open. ``reason``: BFD's state in words,
    without times, for causes and ``PeerStatus.gate``.
    """

    closed: bool
    reason: str = ""
    dials: bool = True
    hold_s: float | None = None


@dataclass(slots=True, frozen=True)
class TcpConnectionConfirmed:
    """Event 17: a connection that the neighbor dialled has been accepted."""

    conn: ConnId
    local: Endpoint
    remote: Endpoint


@dataclass(slots=True, frozen=True)
class TcpCrAcked:
    """Event 16: our dial succeeded."""

    conn: ConnId
    local: Endpoint
    remote: Endpoint


@dataclass(slots=True, frozen=True)
class TcpConnectionFails:
    """Event 18: the dial failed, or the connection ended (end of file, reset)."""

    conn: ConnId
    error: str


@dataclass(slots=True, frozen=True)
class SendStalled:
    """The kernel has taken nothing of what is to be sent on ``conn`` since ``since`` (RFC 9687 §3)."""

    conn: ConnId
    since: Instant


@dataclass(slots=True, frozen=True)
class SendResumed:
    """It has taken some again."""

    conn: ConnId


@dataclass(slots=True, frozen=True)
class DataReceived:
    conn: ConnId
    data: bytes


@dataclass(slots=True, frozen=True)
class TimerExpired:
    """The deadline that ``next_deadline`` named may have come; early and late calls do no harm."""


@dataclass(slots=True, frozen=True)
class SendUpdates:
    """Whole UPDATE messages for the established session: they restart the keepalive timer and are counted.

    The ROUTE-REFRESHes that frame a resent table (RFC 7313 §4: BoRR, EoRR) may be among them, in their place.
    Refused (no action) when ``generation`` is not the established session's.
    """

    generation: int
    messages: list[bytes]


@dataclass(slots=True, frozen=True)
class SendRouteRefresh:
    """Ask the peer to send ``family`` again, RFC 2918; nothing happens where the peer did not offer it."""

    family: Family


@dataclass(slots=True, frozen=True)
class Reconfigure:
    """New settings: what a live session can take applies now, the rest at the next session."""

    settings: PeerSettings


Event: TypeAlias = (
    ManualStart
    | ManualStop
    | AutomaticStop
    | BfdUp
    | BfdDown
    | BfdGate
    | TcpConnectionConfirmed
    | TcpCrAcked
    | TcpConnectionFails
    | SendStalled
    | SendResumed
    | DataReceived
    | TimerExpired
    | SendUpdates
    | SendRouteRefresh
    | Reconfigure
)

# -- actions -----------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Dial:
    """Open a TCP connection to the peer; answer with TcpCrAcked or TcpConnectionFails for ``conn``."""

    conn: ConnId


@dataclass(slots=True, frozen=True)
class Send:
    conn: ConnId
    data: bytes


@dataclass(slots=True, frozen=True)
class Close:
    """End the connection (or give up the dial). No event for ``conn`` is wanted after this.

    ``linger``: what was sent before, a NOTIFICATION above all, should still reach the peer: half-close, read off
    what the peer still sends (unread data would turn the close into a reset), then close.
    """

    conn: ConnId
    linger: bool


@dataclass(slots=True, frozen=True)
class StateChanged:
    old: State
    new: State
    reason: str


@dataclass(slots=True, frozen=True)
class SessionUp:
    """OpenConfirm→Established. ``generation`` tells this session from all others of the peer.

    ``context`` is the session's, for encoding too: the peer may have no session any more when this is acted on.
    """

    generation: int
    conn: ConnId
    negotiated: Negotiated
    local: Endpoint
    remote: Endpoint
    context: UpdateContext


@dataclass(slots=True, frozen=True)
class SessionDown:
    """Established was left: flush what was learned, forget what was sent.

    ``retain``: families whose routes RFC 4724 §4.2 and RFC 8538 §4 let us keep as stale, for ``retain_s`` at most.
    """

    generation: int
    cause: Cause
    retain: frozenset[Family] = frozenset()
    retain_s: int = 0


@dataclass(slots=True, frozen=True)
class AttemptFailed:
    """A try ended before Established."""

    cause: Cause


class UpdateReceived(msgspec.Struct, frozen=True, gc=False):  # as ``wire.update.Update``: many, and made quickly
    generation: int
    update: Update


@dataclass(slots=True, frozen=True)
class FamilyDisabled:
    """AFI/SAFI disable (RFC 7606 §2, RFC 4760 §7): all that the peer taught of ``family`` goes.

    What it still sends of it is ignored until the session ends; our routes are sent as before.
    """

    generation: int
    family: Family
    reason: str


@dataclass(slots=True, frozen=True)
class RouteRefreshReceived:
    generation: int
    refresh: RouteRefresh


@dataclass(slots=True, frozen=True)
class NotificationSeen:
    """A NOTIFICATION went out (``sent``) or came in, for the record."""

    sent: bool
    notification: Notification


Action: TypeAlias = (
    Dial
    | Send
    | Close
    | StateChanged
    | SessionUp
    | SessionDown
    | AttemptFailed
    | UpdateReceived
    | FamilyDisabled
    | RouteRefreshReceived
    | NotificationSeen
)
