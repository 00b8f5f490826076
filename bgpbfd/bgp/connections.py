"""What spans a neighbor's connections: collisions, dialling and retrying, and BFD's gate.

RFC 4271 §6.8 and §8.2.1.1, RFC 6286 §2.3, RFC 5882 §4.1, draft-ietf-idr-bgp-bfd-strict-mode. At most one connection is
accepted (its peer's OPEN is here and good) at any time: a second one is settled by §6.8 as its OPEN comes, whether the
first is Established, in OpenConfirm or kept in OpenSent by BFD.

The gate (``BfdGate``) belongs to the neighbor and outlives its sessions, stops and configurations. Decisions:

- DEVIATES draft §8.1, which keeps a session back only where both ends offered capability 74: it is closed to every
  peer. Whoever configures strict mode here wants no session without BFD, and knows that the peer has it (RFC 5882 §4.1
  allows to rely on configuration).
- An Established session is left alone, as its BFD going down is ``BfdDown``'s matter. A connection in OpenConfirm ends
  with 6/10 (draft §8.6.2). It cannot go back: our KEEPALIVE is out, the peer may be Established by it and send
  UPDATEs; and let on it would be a session that BFD did not allow.
"""

from __future__ import annotations

import random
from typing import Final

from bgpbfd.bgp.events import (
    Action,
    AttemptFailed,
    BfdGate,
    Cause,
    CauseKind,
    Close,
    ConnId,
    Dial,
    SessionDown,
    SessionUp,
    State,
    StateChanged,
)
from bgpbfd.bgp.fsm import Connection
from bgpbfd.bgp.negotiate import Negotiated, PeerSettings, can_be_plain
from bgpbfd.bgp.pending import Collision
from bgpbfd.bgp.recovery import Recovery, Retry, jittered, recovery_from, refused_capabilities
from bgpbfd.bgp.retention import retained
from bgpbfd.bgp.status import PeerStatus
from bgpbfd.core import MILLISECOND, SECOND, Instant, Micros, PeerId
from bgpbfd.wire.iana import CeaseSubcode

MIN_CONNECT_TIME: Final[Micros] = 3 * SECOND  # a dial is given this long even where retries are quicker
STALE_DIAL: Final[Micros] = 250 * MILLISECOND  # BFD Up replaces a dial that is this old: its SYN was lost


class Connections(PeerStatus):
    """The ``fsm.Owner`` of a neighbor's connections; ``Peer`` adds the events."""

    def __init__(self, peer_id: PeerId, settings: PeerSettings, rng: random.Random) -> None:
        super().__init__(peer_id, settings, Retry(rng))
        self._rng = rng
        self._last_conn: ConnId = 0
        self._out: list[Action] = []
        self._recovery: Recovery | None = None  # what an end on our own decision is followed by
        self._plain_open = False
        self._restarting_until: Instant | None = None
        self._untold: int | None = None  # the session that is up to the shell: its SessionDown has to come

    def new_connection_id(self) -> ConnId:
        self._last_conn += 1
        return self._last_conn

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
            elif not other.accepted:
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
        if self.admin_up and not any(c.accepted for c in self._connections.values()):
            if connection.timed_out:
                self._dial(now)  # RFC 4271 §8.2.2 Connect, event 9: dials anew, "stays in the Connect state"
            else:
                self._plan(self._recovery or recovery_from(cause), was, now)
        self._sync(cause.text, now)

    def _release_waiting(self, now: Instant) -> None:
        """Whom a connection waited for is gone."""
        if any(c.state is State.OPEN_SENT and not c.accepted for c in self._connections.values()):
            return  # and may still win
        for connection in list(self._connections.values()):
            connection.end_collision_wait(now)

    def _we_dominate(self, connection: Connection, negotiated: Negotiated) -> bool:
        # RFC 4271 §6.8, RFC 6286 §2.3: the higher identifier, as an unsigned number; at a tie the higher AS.
        ours = (connection.settings.router_id, connection.settings.local_asn)
        return ours > (negotiated.remote_router_id, negotiated.remote_asn)

    def _dump(self, loser: Connection, text: str, now: Instant) -> None:
        cause = Cause(CauseKind.COLLISION, f"connection collision: {text}", now)
        loser.cease(CeaseSubcode.CONNECTION_COLLISION, cause, now)

    # -- dialling and retrying -----------------------------------------------------------------------------

    def _dial(self, now: Instant) -> None:
        """Dial unless that is not wanted or not needed now."""
        if not self.admin_up or not self._dials():
            return
        if any(c.outgoing or c.accepted for c in self._connections.values()):
            return
        self._retry.attempt_at = None
        connection = self._new_connection(self.new_connection_id(), outgoing=True)
        self._out.append(Dial(connection.conn))
        connection.dialling(max(self._retry_time(), MIN_CONNECT_TIME), now)

    def _plan(self, recovery: Recovery, was: State, now: Instant) -> None:
        # Where a dial is out it is being tried already.
        dials = self._dials() and not any(c.outgoing for c in self._connections.values())
        self._retry.plan(recovery, was, int(self.settings.connect_retry_s * SECOND), dials, now)

    def _dial_afresh(self, now: Instant) -> None:
        """Dial now, as the path has begun to work; a SYN that is out already was lost before it did."""
        for connection in list(self._connections.values()):
            if connection.state is State.CONNECT and now - connection.dialled_at >= STALE_DIAL:
                self._forget(connection)
        self._dial(now)

    def _give_up_dials(self) -> None:
        self._retry.attempt_at = None
        for connection in list(self._connections.values()):
            if connection.state is State.CONNECT:
                self._forget(connection)

    def _dials(self) -> bool:
        return self._is_to_dial and not self._muted

    def _retry_time(self) -> Micros:
        return jittered(int(self.settings.connect_retry_s * SECOND), self._rng)

    # -- BFD's gate -----------------------------------------------------------------------------------------

    def _change_gate(self, gate: BfdGate, now: Instant) -> None:
        old, was_muted, self.gate = self.gate, self._muted, gate
        if not self.admin_up:
            return  # nothing is there to be held back; the next start finds the gate as it is
        reason = gate.reason or ("BFD keeps the session back" if gate.closed else "BFD lets the session come up")
        if self._muted:
            self._give_up_dials()
        for connection in list(self._connections.values()):
            if gate.closed and connection.state is State.OPEN_CONFIRM:
                # draft-ietf-idr-bgp-bfd-strict-mode §8.6.2
                text = f"BFD keeps the session back (strict mode): {reason}" if gate.reason else reason
                self._recovery = Recovery.PLAIN
                connection.cease(CeaseSubcode.BFD_DOWN, Cause(CauseKind.BFD_DOWN, text, now), now)
                self._recovery = None
            else:
                connection.advance(now)
        if (old.closed and not gate.closed) or (was_muted and not self._muted):
            if self._retry.idle:  # BFD has nothing to do with why; the hold was planned without a dial where muted
                self._retry.attempt_at = self._retry.idle_until if self._dials() else None
            else:
                self._dial_afresh(now)
        self._sync(reason, now)

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
        if state is State.ACTIVE and self._is_to_dial and self._muted:
            reason += "; not dialling until BFD is up"
        if state is not self.state:
            old, self.state, self.state_since = self.state, state, now
            self._out.append(StateChanged(old, state, reason))
