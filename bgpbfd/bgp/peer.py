"""One BGP neighbor: starting, stopping, retrying and the collision of its connections (RFC 4271 §8, RFC 6286).

RFC 4271 §8.2 gives each TCP connection a state machine; ``fsm.Connection`` is one. The neighbor owns what spans them:
Idle, Active and the ConnectRetryTimer, of which it has one, and at most one connection a direction that is not yet
Established, beside the Established one. Here are the events; ``connections`` has collisions, dialling and BFD's gate.

What follows a failure is in ``recovery``.
"""

from __future__ import annotations

import traceback
from typing import assert_never

from bgpbfd.bgp.connections import Connections
from bgpbfd.bgp.events import (
    Action,
    AutomaticStop,
    BfdDown,
    BfdGate,
    BfdUp,
    Cause,
    CauseKind,
    Close,
    ConnId,
    DataReceived,
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
    State,
    TcpConnectionConfirmed,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
)
from bgpbfd.bgp.fsm import Connection
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.bgp.pending import COLLISION_WAIT
from bgpbfd.bgp.recovery import Recovery
from bgpbfd.bgp.retention import keeps_ours
from bgpbfd.bgp.status import open_changes
from bgpbfd.core import Instant
from bgpbfd.wire.iana import CeaseSubcode, ErrorCode
from bgpbfd.wire.messages import Notification, encode_notification, encode_shutdown_communication

_COMMUNICABLE = (CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, CeaseSubcode.ADMINISTRATIVE_RESET)  # RFC 9003 §2


class Peer(Connections):
    """The core of one neighbor; PeerStatus is what the shell reads of it."""

    # -- the core ------------------------------------------------------------------------------------------

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
                self._change_gate(event, now)
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
        self._dial_afresh(now)
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
            self._give_up_dials()
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
