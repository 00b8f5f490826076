"""One BGP neighbor: starting, stopping, retrying and the collision of its connections (RFC 4271 §8, RFC 6286).

RFC 4271 §8.2 gives each TCP connection a state machine; ``fsm.Connection`` is one. The neighbor owns what spans them:
Idle, Active and the ConnectRetryTimer, of which it has one, and at most one connection a direction that is not yet
Established, beside the Established one.

What follows a failure is in ``recovery``.
"""

from __future__ import annotations

import random
import traceback
from typing import Final, assert_never

from bgpbfd.bgp.events import (
    Action,
    AttemptFailed,
    AutomaticStop,
    BfdDown,
    BfdGate,
    BfdUp,
    Cause,
    CauseKind,
    Close,
    ConnId,
    DataReceived,
    Dial,
    Event,
    ManualStart,
    ManualStop,
    Reconfigure,
    Send,
    SendResumed,
    SendRouteRefresh,
    SendStalled,
    SendUpdates,
    SessionDown,
    SessionUp,
    State,
    StateChanged,
    TcpConnectionConfirmed,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
)
from bgpbfd.bgp.fsm import COLLISION_WAIT, Collision, Connection
from bgpbfd.bgp.negotiate import Negotiated, PeerSettings, can_be_plain
from bgpbfd.bgp.recovery import Recovery, Retry, jittered, recovery_from, refused_capabilities
from bgpbfd.bgp.retention import keeps_ours, retained
from bgpbfd.bgp.status import PeerStatus, open_changes
from bgpbfd.core import MILLISECOND, SECOND, Instant, Micros, PeerId
from bgpbfd.wire.iana import CeaseSubcode, ErrorCode
from bgpbfd.wire.messages import Notification, encode_notification, encode_shutdown_communication

MIN_CONNECT_TIME: Final[Micros] = 3 * SECOND  # a dial is given this long even where retries are quicker
STALE_DIAL: Final[Micros] = 250 * MILLISECOND  # BFD Up replaces a dial that is this old: its SYN was lost

_COMMUNICABLE = (CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, CeaseSubcode.ADMINISTRATIVE_RESET)  # RFC 9003 §2


class Peer(PeerStatus):
    """The core of one neighbor; PeerStatus is what the shell reads of it."""

    def __init__(self, peer_id: PeerId, settings: PeerSettings, rng: random.Random) -> None:
        super().__init__(peer_id, settings, Retry(rng))
        self._rng = rng
        self._last_conn: ConnId = 0
        self._out: list[Action] = []
        self._recovery: Recovery | None = None  # what an end on our own decision is followed by
        self._plain_open = False
        self._restarting_until: Instant | None = None
        self._untold: int | None = None  # the session that is up to the shell: its SessionDown has to come

    # -- the core ------------------------------------------------------------------------------------------

    def new_connection_id(self) -> ConnId:
        self._last_conn += 1
        return self._last_conn

    def next_deadline(self) -> Instant | None:
        deadlines = [c.next_deadline() for c in self._connections.values()]
        deadlines.append(self._retry.next_deadline())
        return min((d for d in deadlines if d is not None), default=None)

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Take one event; whatever a peer sends, nothing is raised."""
        out: list[Action] = []
        self._out = out
        try:
            self._dispatch(event, now)
        except Exception:  # noqa: BLE001  a fault of ours costs this one neighbor its session, loudly
            self._internal_error(now)
        return out

    def _dispatch(self, event: Event, now: Instant) -> None:
        match event:
            case DataReceived():
                connection = self._connections.get(event.conn)
                if connection is None:
                    self.tally.discard("event of a closed connection")
                elif connection.state is State.CONNECT:
                    self.tally.discard("data before the connection")
                else:
                    connection.receive(event.data, now)
            case SendUpdates():
                self._send_updates(event, now)
            case TimerExpired():
                self._timers(now)
            case TcpConnectionConfirmed():
                self._accept(event, now)
            case TcpCrAcked():
                self._dialled(event, now)
            case SendStalled() | SendResumed() | TcpConnectionFails():
                self._of_connection(event, now)
            case ManualStart():
                self._manual_start(event, now)
            case ManualStop():
                self._manual_stop(event, now)
            case AutomaticStop():
                self._automatic_stop(event, now)
            case BfdUp():
                self._bfd_up(now)
            case BfdDown():
                self._bfd_down(event, now)
            case BfdGate():
                pass
            case SendRouteRefresh():
                self._send_route_refresh(event, now)
            case Reconfigure():
                self._reconfigure(event.settings, now)
            case _:
                assert_never(event)

    def _of_connection(self, event: SendStalled | SendResumed | TcpConnectionFails, now: Instant) -> None:
        connection = self._connections.get(event.conn)
        if connection is None:
            self.tally.discard("event of a closed connection")
            return
        match event:
            case SendStalled():
                connection.send_stalled(event.since)
            case SendResumed():
                connection.send_resumed()
            case TcpConnectionFails():
                connection.tcp_failed(event.error, now)

    # -- administrative events -----------------------------------------------------------------------------

    def _manual_start(self, event: ManualStart, now: Instant) -> None:
        # RFC 4271 §8.2.2 Idle, events 1, 4: "starts the ConnectRetryTimer, initiates a TCP connection …, listens".
        # Event 1 is ignored in any other state; in an idle hold it is an operator who wants no more waiting.
        if self.admin_up and not self._retry.idle:
            self.tally.discard("start of a started neighbor")
            return
        self.admin_up = True
        if self.generation == 0:
            self._restarting_until = event.restarting_until
        self._retry.reset()
        self._dial(now)
        self._sync("started", now)

    def _manual_stop(self, event: ManualStop, now: Instant) -> None:
        if not self.admin_up:
            self.tally.discard("stop of a stopped neighbor")
            return
        # Event 2: "sends the NOTIFICATION message with a Cease, …, sets ConnectRetryCounter to zero, …, Idle".
        self.admin_up = False
        text = event.cause.value.replace("-", " ") + (f': "{event.message}"' if event.message else "")
        cause = Cause(event.cause, text, now)
        session, self.last_cause = self._session, cause
        if event.retain and session is not None and self._keeps_ours(session):
            session.abandon(cause, now, linger=True)  # RFC 4724 §4.2: the end of TCP alone lets the peer keep routes
        self._cease_all(cause, event.subcode, event.message, b"", now)
        self._plain_open = False
        self._retry.reset()
        self._sync(text, now)

    def _automatic_stop(self, event: AutomaticStop, now: Instant) -> None:
        # Event 8: "sends a NOTIFICATION with a Cease, …, increments the ConnectRetryCounter by 1, …, Idle".
        if not self.admin_up:
            self.tally.discard("stop of a stopped neighbor")
            return
        if event.damped and event.idle_s is None and self._retry.idle and not self._connections:
            # §8.2.2, Idle, ignores event 8: one read's messages can give several reasons for one stop, and the hold
            # must not grow with each.
            self.tally.discard("stop of an idle neighbor")
            return
        recovery = Recovery.DAMPED if event.damped else Recovery.AT_ONCE
        if event.idle_s is not None:
            recovery = Recovery.DAMPED
            self._retry.stay_away(event.idle_s, self._dials(), now)
        self._recovery = recovery
        if self._connections:
            self._cease_all(event.cause, event.subcode, event.message, event.data, now)
        else:
            self.last_cause = event.cause
            self._plan(recovery, State.ACTIVE, now)
        self._recovery = None
        if recovery is Recovery.AT_ONCE:
            self._dial(now)
        self._sync(event.cause.text, now)

    def _bfd_up(self, now: Instant) -> None:
        # RFC 5882 §4: the path works now, so that waiting has lost its reason.
        if not self.admin_up:
            self.tally.discard("BFD event of a stopped neighbor")
            return
        if self._retry.away:
            self.tally.discard("BFD event of a neighbor that is to stay away")
            return
        self._retry.end_idle_hold()
        for connection in list(self._connections.values()):
            if connection.state is State.CONNECT and now - connection.dialled_at >= STALE_DIAL:
                self._forget(connection)
        self._dial(now)
        self._sync("BFD is up", now)

    def _bfd_down(self, event: BfdDown, now: Instant) -> None:
        # RFC 9384 §3: Cease 6/10. Without a connection to lose, the path's failure changes nothing: dialling goes on.
        failed_at = now if event.failed_at is None else event.failed_at
        connected = [c for c in self._connections.values() if c.state >= State.OPEN_SENT]
        told = [c for c in connected if c.connected_at <= failed_at]
        if not told:
            self.tally.discard("BFD down older than the connection" if connected else "BFD down without a connection")
            return
        self._recovery = Recovery.PLAIN
        for connection in told:
            connection.cease(CeaseSubcode.BFD_DOWN, event.cause, now)
        self._recovery = None

    def _reconfigure(self, settings: PeerSettings, now: Instant) -> None:
        old, self.settings = self.settings, settings
        if not self.admin_up:
            return
        if self._retry.away:
            self._retry.attempt_at = self._retry.idle_until if self._dials() else None
        elif open_changes(old, settings) and self._session is None:
            # A person may just have mended what made attempts fail: begin anew with the new OPEN, now.
            self._plain_open = False
            self._end_handshakes(Cause(CauseKind.CONFIG_CHANGE, "configuration changed", now), now)
            self._retry.reset()
            self._dial(now)
        elif settings.passive or settings.dynamic:
            self._retry.attempt_at = None
            for connection in list(self._connections.values()):
                if connection.state is State.CONNECT:
                    self._forget(connection)
        elif old.passive or old.dynamic:
            self._retry.end_idle_hold()
            self._dial(now)
        elif self._retry.attempt_at is not None and self._retry.idle_until is None:
            self._retry.attempt_at = min(self._retry.attempt_at, now + self._retry_time())
        self._sync("configuration changed", now)

    def _end_handshakes(self, cause: Cause, now: Instant) -> None:
        self._recovery = Recovery.PLAIN
        for connection in list(self._connections.values()):
            if connection.state is State.CONNECT:
                self._forget(connection)
            else:
                connection.cease(CeaseSubcode.CONFIGURATION_CHANGE, cause, now)
        self._recovery = None

    def _cease_all(self, cause: Cause, subcode: CeaseSubcode, message: str, data: bytes, now: Instant) -> None:
        if subcode in _COMMUNICABLE:
            data = encode_shutdown_communication(message)
        for connection in list(self._connections.values()):
            connection.cease(subcode, cause, now, data)

    @staticmethod
    def _keeps_ours(session: Connection) -> bool:
        return session.negotiated is not None and keeps_ours(session.settings, session.negotiated)

    # -- TCP -----------------------------------------------------------------------------------------------

    def _dial(self, now: Instant) -> None:
        """Dial unless that is not wanted or not needed now."""
        if not self.admin_up or not self._dials():
            return
        if any(c.outgoing or c.state >= State.OPEN_CONFIRM for c in self._connections.values()):
            return
        self._retry.attempt_at = None
        connection = self._new_connection(self.new_connection_id(), outgoing=True)
        self._out.append(Dial(connection.conn))
        connection.dialling(max(self._retry_time(), MIN_CONNECT_TIME), now)

    def _dialled(self, event: TcpCrAcked, now: Instant) -> None:
        connection = self._connections.get(event.conn)
        if connection is None or connection.state is not State.CONNECT:
            self.tally.discard("event of a closed connection")
            if connection is None:
                self._out.append(Close(event.conn, linger=False))
            return
        connection.connected(event.local, event.remote, now)

    def _accept(self, event: TcpConnectionConfirmed, now: Instant) -> None:
        if event.conn in self._connections:
            self.tally.discard("connection confirmed twice")
            return
        if not self.admin_up or self._retry.refuses:
            # RFC 4486 §4: Connection Rejected is for a connection that is disallowed after TCP accepted it;
            # Administrative Shutdown is for a peering that is being shut down, and there is none.
            self._refuse(event.conn, now)
            return
        session = self._session
        if session is not None and self._has_restarted(session, now):
            # RFC 4724 §5: the old connection goes without a NOTIFICATION.
            text = "the peer, which can restart gracefully, has connected anew"
            self._recovery = Recovery.PLAIN
            session.abandon(Cause(CauseKind.CONNECTION_LOST, text, now), now)
            self._recovery = None
        for connection in list(self._connections.values()):
            if not connection.outgoing and connection is not self._session:
                # The neighbor dials one connection at a time: the older one is dead at its end.
                self._dump(connection, "the peer has connected anew", now)
        accepted = self._new_connection(event.conn, outgoing=False)
        accepted.connected(event.local, event.remote, now)
        if self._session is not None:
            # RFC 4271 §6.8 will decide for the Established one. If the peer has lost that, its TCP answers this with a
            # reset, long before the hold time.
            self._session.probe(now)

    def _has_restarted(self, session: Connection, now: Instant) -> bool:
        """RFC 4724 §5: what a new connection from a peer whose capability 64 listed a family means."""
        assert session.negotiated is not None
        assert self.established_at is not None
        # DEVIATES RFC 4724 §5: so early it is a dial of the peer's that ours overtook, and RFC 4271 §6.8 settles it. If
        # the peer has restarted all the same, its TCP will answer our next KEEPALIVE with a reset.
        young = now - self.established_at < COLLISION_WAIT
        return session.negotiated.restart_families_listed and not young

    def _refuse(self, conn: ConnId, now: Instant) -> None:
        self.tally.discard("connection refused: " + ("idle hold" if self.admin_up else "neighbor stopped"))
        rejected = Notification(ErrorCode.CEASE, CeaseSubcode.CONNECTION_REJECTED)
        self._out.append(Send(conn, encode_notification(rejected)))
        self._out.append(Close(conn, linger=True))
        self.tally.sent("notification", now)
        self.tally.notification(rejected, sent=True)

    # -- what connections tell (fsm.Owner) -----------------------------------------------------------------

    def emit(self, action: Action) -> None:
        self._out.append(action)

    def restarting(self, now: Instant) -> bool:
        return self.generation == 0 and self._restarting_until is not None and now < self._restarting_until

    def entered(self, connection: Connection, reason: str, now: Instant) -> None:
        self._sync(reason, now)

    def opened(self, connection: Connection, negotiated: Negotiated, now: Instant) -> Collision:
        """RFC 4271 §6.8, for ``connection`` whose OPEN has just been found good."""
        self.capabilities_received = negotiated.capabilities_received
        wins = connection.outgoing is self._we_dominate(connection, negotiated)
        verdict = Collision.NONE
        for other in list(self._connections.values()):
            if other is connection:
                continue
            if other.state is State.CONNECT:
                self._forget(other)
            elif other.state is State.ESTABLISHED:
                self._dump(connection, "a session is established already", now)
                return Collision.LOST
            elif other.state is State.OPEN_SENT and other.waiting_until is None:
                if not wins:
                    verdict = Collision.WAIT
            elif wins:
                self._dump(other, "the other connection is the one to keep", now)
            else:
                self._dump(connection, "the other connection is the one to keep", now)
                return Collision.LOST
        self._retry.attempt_at = None
        self._retry.end_idle_hold()
        return verdict

    def established(self, connection: Connection, now: Instant) -> int:
        assert connection.negotiated is not None
        assert connection.local is not None
        assert connection.remote is not None
        self.generation += 1
        self._session = connection
        self.established_conn = connection.conn
        self.established_at = now
        assert connection.context is not None
        self._untold = self.generation
        self._out.append(
            SessionUp(
                self.generation,
                connection.conn,
                connection.negotiated,
                connection.local,
                connection.remote,
                connection.context,
            )
        )
        return self.generation

    def ended(self, connection: Connection, was: State, cause: Cause, now: Instant) -> None:
        del self._connections[connection.conn]
        if cause.kind is not CauseKind.COLLISION:
            self.last_cause = cause
            self._plain_open = refused_capabilities(cause) and not connection.plain and can_be_plain(self.settings)
        if connection is self._session:
            assert self.established_at is not None
            self._retry.lasted(now - self.established_at)
            self._session = None
            self.established_conn = None
            self.established_at = None
            self.flaps += 1
            self.last_session_cause = cause
            assert connection.negotiated is not None
            families, seconds = retained(connection.settings, connection.negotiated, cause)
            self._out.append(SessionDown(connection.generation, cause, families, seconds))
            self._untold = None
        else:
            self._out.append(AttemptFailed(cause))
        if self.admin_up and self._recovery is None:
            self._release_waiting(now)
        if self.admin_up and not any(c.state >= State.OPEN_CONFIRM for c in self._connections.values()):
            if connection.timed_out:
                self._dial(now)  # RFC 4271 §8.2.2 Connect, event 9: dials anew, "stays in the Connect state"
            else:
                self._plan(self._recovery or recovery_from(cause), was, now)
        self._sync(cause.text, now)

    def _release_waiting(self, now: Instant) -> None:
        """Whom a connection waited for is gone."""
        waiting = [c for c in self._connections.values() if c.waiting_until is not None]
        awaited = [c for c in self._connections.values() if c.state is State.OPEN_SENT and c.waiting_until is None]
        if waiting and not awaited:
            waiting[0].proceed(now)

    def _we_dominate(self, connection: Connection, negotiated: Negotiated) -> bool:
        # RFC 4271 §6.8, RFC 6286 §2.3: the higher identifier, as an unsigned number; at a tie the higher AS.
        ours = (connection.settings.router_id, connection.settings.local_asn)
        return ours > (negotiated.remote_router_id, negotiated.remote_asn)

    def _dump(self, loser: Connection, text: str, now: Instant) -> None:
        cause = Cause(CauseKind.COLLISION, f"connection collision: {text}", now)
        loser.cease(CeaseSubcode.CONNECTION_COLLISION, cause, now)

    # -- retrying ------------------------------------------------------------------------------------------

    def _plan(self, recovery: Recovery, was: State, now: Instant) -> None:
        # Where a dial is out it is being tried already.
        dials = self._dials() and not any(c.outgoing for c in self._connections.values())
        self._retry.plan(recovery, was, int(self.settings.connect_retry_s * SECOND), dials, now)

    def _dials(self) -> bool:
        return not (self.settings.passive or self.settings.dynamic)

    def _retry_time(self) -> Micros:
        return jittered(int(self.settings.connect_retry_s * SECOND), self._rng)

    def _timers(self, now: Instant) -> None:
        for connection in list(self._connections.values()):
            connection.timers(now)
        if self._retry.expire(now):
            self._dial(now)  # event 9 in Active
        self._sync("waited long enough", now)

    # -- the established session ---------------------------------------------------------------------------

    def _send_updates(self, event: SendUpdates, now: Instant) -> None:
        if self._session is None or event.generation != self._session.generation:
            self.tally.discard("updates for a session that is gone")
        elif event.messages:
            self._session.send_updates(event.messages, now)

    def _send_route_refresh(self, event: SendRouteRefresh, now: Instant) -> None:
        negotiated = self.negotiated
        if self._session is None or negotiated is None:
            self.tally.discard("route refresh without a session")
        elif not negotiated.may_send_refresh or event.family not in negotiated.families:
            self.tally.discard("route refresh that the peer did not offer")
        elif self.context is not None and event.family in self.context.disabled:
            self.tally.discard("route refresh of a disabled family")
        else:
            self._session.send_route_refresh(event.family, now)

    # -- helpers -------------------------------------------------------------------------------------------

    def _new_connection(self, conn: ConnId, *, outgoing: bool) -> Connection:
        plain = self._plain_open and can_be_plain(self.settings)
        connection = Connection(conn, self.settings, self._rng, self, outgoing=outgoing, plain=plain)
        self._connections[conn] = connection
        return connection

    def _forget(self, connection: Connection) -> None:
        """Give up a dial that has become needless."""
        del self._connections[connection.conn]
        self._out.append(Close(connection.conn, linger=False))

    def _sync(self, reason: str, now: Instant) -> None:
        """The neighbor's state is its most advanced connection's; without one Active, or Idle in a hold or stopped."""
        leader = self._leader()
        if leader is not None:
            state = leader.state
        elif self.admin_up and not self._retry.idle:
            # DEVIATES RFC 4271 §8.2.2, which passes through Idle and an automatic start: to wait for the
            # ConnectRetryTimer and to listen meanwhile is what Active is.
            state = State.ACTIVE
        else:
            state = State.IDLE
        if state is not self.state:
            old, self.state, self.state_since = self.state, state, now
            self._out.append(StateChanged(old, state, reason))

    def _internal_error(self, now: Instant) -> None:
        trace = traceback.format_exc()
        summary = trace.strip().splitlines()[-1]
        cause = Cause(
            CauseKind.INTERNAL_ERROR,
            f"internal error: {summary}",
            now,
            int(ErrorCode.CEASE),
            int(CeaseSubcode.UNSPECIFIC),
            {"traceback": trace},
        )
        self._recovery = Recovery.DAMPED
        for connection in list(self._connections.values()):
            try:
                connection.cease(CeaseSubcode.UNSPECIFIC, cause, now)
            except Exception:  # noqa: BLE001  even then the socket must not stay open
                self._connections.pop(connection.conn, None)
                self._out.append(Close(connection.conn, linger=False))
        self._recovery = None
        self.last_cause = cause
        if self._untold is not None:  # the fault hit the very end of a session: its routes must not stay for ever
            self._out.append(SessionDown(self._untold, cause))
            self._untold = self._session = self.established_conn = self.established_at = None
            if self.admin_up:
                self._plan(Recovery.DAMPED, State.ESTABLISHED, now)
        self._sync(cause.text, now)
