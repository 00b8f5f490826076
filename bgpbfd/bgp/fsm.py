"""One TCP connection's part of the BGP state machine: RFC 4271 §8.

RFC 6608 and RFC 4486 (subcodes), RFC 8538 (hard reset), RFC 8654, RFC 2918, RFC 7313, RFC 9687 (``send_hold``),
draft-ietf-idr-bgp-bfd-strict-mode (``pending``).

RFC 4271 §8.2 gives every connection a state machine of its own. Here a connection lives from its dial (Connect) or
its acceptance (OpenSent) to its end, which is final (Idle). What spans connections is the neighbor's and lives in
``peer``: starting, stopping, retrying, listening (Active) and collisions. The connection tells its ``Owner``.
"""

from __future__ import annotations

import random
from typing import Final, Protocol

from bgpbfd.bgp.events import (
    Action,
    BfdGate,
    Cause,
    CauseKind,
    Close,
    ConnId,
    Endpoint,
    FamilyDisabled,
    NotificationSeen,
    RouteRefreshReceived,
    Send,
    State,
    UpdateReceived,
)
from bgpbfd.bgp.negotiate import STANDARD_MAX_LENGTH, Negotiated, PeerSettings, our_open, validate_open
from bgpbfd.bgp.pending import COLLISION_WAIT, LARGE_HOLD_TIME, Collision, Pending
from bgpbfd.bgp.recovery import jittered
from bgpbfd.bgp.retention import hardened, told
from bgpbfd.bgp.send_hold import HOLD_GRACE, SendHold
from bgpbfd.bgp.tally import SESSION_RESET, SHOWN_OCTETS, TYPE_NAMES, Tally
from bgpbfd.core import SECOND, Family, Instant, Micros
from bgpbfd.wire.iana import CeaseSubcode, ErrorCode, FsmSubcode, MessageType
from bgpbfd.wire.messages import (
    KEEPALIVE,
    MessageReader,
    Notification,
    NotificationError,
    RouteRefresh,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_message,
    encode_notification,
    encode_open,
    encode_route_refresh,
)
from bgpbfd.wire.notification_text import describe_notification
from bgpbfd.wire.update import UpdateContext, UpdateFault, decode_update

MIN_KEEPALIVE_GAP: Final[Micros] = SECOND  # RFC 4271 §4.4: not more than one a second

_UPDATE = int(MessageType.UPDATE)
_TYPE = 18  # RFC 4271 §4.1: where a message has its type
# RFC 6608 §3: which subcode an unexpected message has, by state.
_UNEXPECTED = {
    State.OPEN_SENT: FsmSubcode.OPEN_SENT,
    State.OPEN_CONFIRM: FsmSubcode.OPEN_CONFIRM,
    State.ESTABLISHED: FsmSubcode.ESTABLISHED,
}


class Owner(Protocol):
    """The neighbor that a connection belongs to."""

    tally: Tally
    gate: BfdGate

    def emit(self, action: Action) -> None: ...

    def restarting(self, now: Instant) -> bool:
        """An OPEN sent now is to have the Restart State bit (RFC 4724 §4.1)."""
        ...

    def entered(self, connection: Connection, reason: str, now: Instant) -> None:
        """The connection's state has changed, not to Idle."""
        ...

    def opened(self, connection: Connection, negotiated: Negotiated, now: Instant) -> Collision:
        """A good OPEN has come: settle collisions. LOST: ``connection`` is ended already."""
        ...

    def established(self, connection: Connection, now: Instant) -> int:
        """OpenConfirm→Established; the new session's generation."""
        ...

    def ended(self, connection: Connection, was: State, cause: Cause, now: Instant) -> None: ...


class Connection:
    """The state machine of one connection. It does nothing any more once ``state`` is IDLE.

    ``settings`` are those of its OPEN; ``plain`` leaves the capabilities out (RFC 5492 §3).
    """

    def __init__(
        self,
        conn: ConnId,
        settings: PeerSettings,
        rng: random.Random,
        owner: Owner,
        *,
        outgoing: bool,
        plain: bool = False,
    ) -> None:
        self.conn = conn
        self.settings = settings
        self.outgoing = outgoing
        self.plain = plain
        self.state = State.IDLE
        self.local: Endpoint | None = None
        self.remote: Endpoint | None = None
        self.negotiated: Negotiated | None = None
        self.context: UpdateContext | None = None
        self.generation = 0
        self.dialled_at: Instant = 0
        self.connected_at: Instant = 0
        self.timed_out = False
        self.connect_deadline: Instant | None = None
        self.hold_deadline: Instant | None = None
        self.keepalive_deadline: Instant | None = None
        self.pending: Pending | None = None  # the OPEN is accepted, and our KEEPALIVE kept back
        self._rng = rng
        self._owner = owner
        self._tally = owner.tally
        self._reader = MessageReader()
        self._hold: Micros = LARGE_HOLD_TIME
        self._keepalive_sent_at: Instant | None = None
        self._hold_graced = False
        self._send_hold = SendHold()
        self._restarting = False

    @property
    def accepted(self) -> bool:
        """The peer's OPEN has come and was good."""
        return self.pending is not None or self.state >= State.OPEN_CONFIRM

    @property
    def waits_for_bfd(self) -> bool:
        return self.pending is not None and self._owner.gate.closed

    # -- TCP ---------------------------------------------------------------------------------------------

    def dialling(self, timeout: Micros, now: Instant) -> None:
        """A dial is under way; give it ``timeout``."""
        self.dialled_at = now
        self.connect_deadline = now + timeout
        self._enter(State.CONNECT, "dialling", now)

    def connected(self, local: Endpoint, remote: Endpoint, now: Instant) -> None:
        """Events 16 and 17: TCP is up."""
        # §8.2.2, Connect and Active: "stops the ConnectRetryTimer (if running) …, completes BGP initialization,
        # sends an OPEN message to its peer, sets the HoldTimer to a large value, changes its state to OpenSent".
        self.local, self.remote = local, remote
        self.connected_at = now
        self.connect_deadline = None
        self.hold_deadline = now + LARGE_HOLD_TIME
        self._restarting = self._owner.restarting(now)
        ours = our_open(self.settings, plain=self.plain, restarting=self._restarting)
        self._send(encode_open(ours), "open", now)
        self._enter(State.OPEN_SENT, "connected" if self.outgoing else "connection accepted", now)

    def tcp_failed(self, error: str, now: Instant) -> None:
        """Event 18, in every state: nothing can be sent any more."""
        if self.state is State.CONNECT:
            self._ended(Cause(CauseKind.CONNECTION_FAILED, f"cannot connect: {error}", now), now)
        else:
            self._ended(Cause(CauseKind.CONNECTION_LOST, f"connection lost: {error}{self._meanwhile()}", now), now)

    # -- ending from this side -----------------------------------------------------------------------------

    def cease(self, subcode: CeaseSubcode, cause: Cause, now: Instant, data: bytes = b"") -> None:
        """Events 2, 8 and 23: "sends the NOTIFICATION message with a Cease, … drops the TCP connection".

        Wrapped into a hard reset where the peer would else keep our routes (RFC 8538 §3.1).
        """
        if self.state is State.CONNECT:  # §8.2.2, Connect, events 2, 8: nobody is there to be told
            self.abandon(cause, now)
            return
        notification = Notification(ErrorCode.CEASE, subcode, data)
        if self.state is State.ESTABLISHED:
            notification = hardened(self.negotiated, notification)
        self._notify(notification, told(cause, notification), now)

    def abandon(self, cause: Cause, now: Instant, *, linger: bool = False) -> None:
        """Close without a word; ``linger``: what was sent before should still arrive."""
        self._owner.emit(Close(self.conn, linger=linger))
        self._ended(cause, now)

    # -- timers --------------------------------------------------------------------------------------------

    def next_deadline(self) -> Instant | None:
        deadlines = (
            self.connect_deadline,
            self.pending.collision_until if self.pending is not None else None,
            self.hold_deadline,
            self.keepalive_deadline,
            self._send_hold.deadline(self._hold if self.state is State.ESTABLISHED else 0),
        )
        return min((d for d in deadlines if d is not None), default=None)

    def timers(self, now: Instant) -> None:
        if self.connect_deadline is not None and now >= self.connect_deadline:
            # Event 9 in Connect: "drops the TCP connection, restarts the ConnectRetryTimer, …, initiates a TCP
            # connection"; the owner dials again.
            self.timed_out = True
            # How long is jittered, and no part of the text: the same failure reads the same, and is told of once.
            waited: dict[str, str | int | float] = {"waited_s": round((now - self.dialled_at) / SECOND, 1)}
            self.abandon(Cause(CauseKind.CONNECTION_FAILED, "cannot connect: no answer", now, facts=waited), now)
            return
        collision_until = self.pending.collision_until if self.pending is not None else None
        if collision_until is not None and now >= collision_until:
            self.end_collision_wait(now)
        if self.hold_deadline is not None and now >= self.hold_deadline:
            if now - self.hold_deadline >= HOLD_GRACE and not self._hold_graced:
                # DEVIATES RFC 4271 §8.2.2 event 10: this late it was us who slept, and what the peer sent meanwhile
                # may lie unread. One short respite, then the verdict.
                self._hold_graced = True
                self.hold_deadline = now + HOLD_GRACE
            else:
                self._hold_timer_expires(now)
                return
        overdue = self._send_hold.expired(self._hold if self.state is State.ESTABLISHED else 0, now)
        if overdue is not None:
            # Event 29: "logs an error message …, drops the TCP connection"; the NOTIFICATION is optional,
            # and would only queue up behind what is not taken.
            self.abandon(overdue, now)
            return
        if self.keepalive_deadline is not None and now >= self.keepalive_deadline:
            # Event 11, OpenConfirm and Established: "sends a KEEPALIVE message, restarts its KeepaliveTimer".
            self._send_keepalive(now)

    def _hold_timer_expires(self, now: Instant) -> None:
        # Event 10, OpenSent, OpenConfirm, Established: "sends a NOTIFICATION message with the error code Hold Timer
        # Expired, … drops the TCP connection".
        if self.pending is not None:
            self.cease(CeaseSubcode.BFD_DOWN, self.pending.bfd_overdue(self._owner.gate, now), now)
            return
        if self.state is State.OPEN_SENT:
            text = f"no OPEN for {LARGE_HOLD_TIME // SECOND} s"
        else:
            text = f"no KEEPALIVE or UPDATE for {self._hold // SECOND} s (hold time)"
        if self.state is State.OPEN_CONFIRM and self.negotiated is not None and self.negotiated.bfd_strict:
            text += "; the peer's BFD may not be up (strict mode)"
        notification = Notification(ErrorCode.HOLD_TIMER_EXPIRED, 0)
        self._notify(notification, self._cause(CauseKind.HOLD_TIMER_EXPIRED, text, notification, now), now)

    def send_stalled(self, since: Instant) -> None:
        """Nothing of what is to be sent has been taken since then (RFC 9687 §3)."""
        self._send_hold.stalled(since)

    def send_resumed(self) -> None:
        self._send_hold.resumed()

    # -- receiving -----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: Instant) -> None:
        """Bytes of the stream, cut anywhere."""
        reader = self._reader
        received = self._tally.received_by_type
        reader.feed(data)
        message: tuple[int, bytes] | None = None
        try:
            for kind, body in reader.messages():
                message = kind, body
                self._tally.last_received_at = now
                received[TYPE_NAMES[kind]] += 1
                if kind == _UPDATE and self.state is State.ESTABLISHED:
                    self._update(body, now)
                else:
                    self._message(MessageType(kind), body, now)
                message = None
                if self.state is State.IDLE:
                    return
        except NotificationError as error:
            # Events 21, 22, 28: "sends a NOTIFICATION message with the appropriate error code, … drops the TCP
            # connection". DEVIATES RFC 4271 §8.2.2 Established, which would answer event 21 with an FSM error.
            notification = Notification(error.code, error.subcode, error.data)
            text = f"{error.reason or 'protocol error'} (sent {describe_notification(notification)})"
            cause = self._cause(CauseKind.NOTIFICATION_SENT, text, notification, now)
            octets = reader.header() if message is None else encode_message(*message)
            cause.facts["message"] = octets[:SHOWN_OCTETS].hex()
            if message is not None:
                cause.facts["message_length"] = len(octets)
            self._notify(notification, cause, now)

    def _message(self, kind: MessageType, body: bytes, now: Instant) -> None:
        if kind is MessageType.NOTIFICATION:
            self._notification(decode_notification(body), now)
        elif kind is MessageType.KEEPALIVE and self.state is State.OPEN_CONFIRM:
            # Event 26: "restarts the HoldTimer and changes its state to Established".
            self._restart_hold(now)
            self._establish(now)
        elif kind is MessageType.KEEPALIVE and self.state is State.ESTABLISHED:
            # Event 26: "restarts its HoldTimer, if the negotiated HoldTime value is non-zero".
            self._restart_hold(now)
        elif kind is MessageType.OPEN and self.state is State.OPEN_SENT and self.pending is None:
            self._open(body, now)
        elif kind is MessageType.KEEPALIVE and self.pending is not None:
            # Event 26, taken up in OpenConfirm; draft-ietf-idr-bgp-bfd-strict-mode §8.5.6.
            if self.pending.confirmed_at is None:
                self.pending.confirmed_at = now
                self.advance(now)
        elif kind is MessageType.ROUTE_REFRESH and self.state is State.ESTABLISHED:
            self._route_refresh(body)
        else:
            # "any other event", RFC 6608 §3: an FSM error whose Data is the unexpected message's type.
            reason = f"unexpected {TYPE_NAMES[kind].upper()} in {self.state.name}"
            raise NotificationError(ErrorCode.FSM, _UNEXPECTED[self.state], bytes((kind,)), reason)

    def _open(self, body: bytes, now: Instant) -> None:
        # Event 19, OpenSent: "collision detection …, sends a KEEPALIVE message, sets a KeepaliveTimer, sets the
        # HoldTimer according to the negotiated value, changes its state to OpenConfirm".
        negotiated = validate_open(self.settings, decode_open(body), plain=self.plain, restarting=self._restarting)
        self.negotiated = negotiated
        self._reader.extended = negotiated.receive_max_length > STANDARD_MAX_LENGTH
        verdict = self._owner.opened(self, negotiated, now)
        if verdict is Collision.LOST:
            return
        self.pending = Pending(now, negotiated.hold_time_s * SECOND)
        if verdict is Collision.WAIT:
            # RFC 4271 §6.8 leaves a connection in OpenSent to its OPEN. Were this one Established before it comes, one
            # end might drop it as the loser and the other end the other one as the later.
            self.pending.collision_until = now + COLLISION_WAIT
        self.advance(now)

    def end_collision_wait(self, now: Instant) -> None:
        """The other connection is gone, or its OPEN has been waited for long enough."""
        if self.pending is not None:
            self.pending.collision_until = None
            self.advance(now)

    def advance(self, now: Instant) -> None:
        """Go on to OpenConfirm with an accepted OPEN, unless something keeps it back (any more)."""
        pending = self.pending
        if pending is None:
            return
        if self._owner.gate.closed:
            # draft-ietf-idr-bgp-bfd-strict-mode §8.5.5: "DOES NOT send a KEEPALIVE message, and DOES NOT start the
            # KeepaliveTimer, … stays in OpenSent state". DEVIATES: not only where both ends offered capability 74, see
            # ``connections``.
            pending.waited_for_bfd = True
            self.hold_deadline = pending.bfd_deadline(self._owner.gate)
            self._hold_graced = False
        elif pending.collision_until is not None:
            self.hold_deadline = None  # that wait has an end of its own
        else:
            self._proceed(pending, now)

    def _proceed(self, pending: Pending, now: Instant) -> None:
        """From OpenSent to OpenConfirm, and on where the peer's KEEPALIVE is here already."""
        self.pending = None
        self._hold = pending.hold
        # DEVIATES RFC 4271 §8.2.2: at hold time 0 the large value stays until Established, lest a peer that never
        # sends its KEEPALIVE holds OpenConfirm for ever. In strict mode the peer's BFD may come up later than ours, so
        # that the hold time begins here, not at its OPEN (DEVIATES draft §8.5.5).
        self.hold_deadline = now + (self._hold or LARGE_HOLD_TIME)
        self._hold_graced = False
        self._send_keepalive(now)
        words = "the wait for BFD is over" if pending.waited_for_bfd else "OPEN accepted"
        self._enter(State.OPEN_CONFIRM, words, now)
        if pending.confirmed_at is not None:
            self._restart_hold(now)
            self._establish(now)

    def _establish(self, now: Instant) -> None:
        assert self.negotiated is not None
        self.context = UpdateContext(
            asn4=self.negotiated.asn4,
            external=self.negotiated.external,
            families=self.negotiated.families,
            remote_asn=self.negotiated.remote_asn if self.settings.enforce_first_as else 0,
            local_asn=self.settings.local_asn,
            max_length=self.negotiated.send_max_length,
            extended_next_hop=self.negotiated.extended_next_hop,
            add_path_receive=self.negotiated.add_path_receive,
            add_path_send=self.negotiated.add_path_send,
        )
        self._enter(State.ESTABLISHED, "session established", now)
        self.generation = self._owner.established(self, now)

    def _update(self, body: bytes, now: Instant) -> None:
        # Event 27: "processes the message, restarts its HoldTimer, if the negotiated HoldTime value is non-zero".
        assert self.context is not None
        try:
            update = decode_update(body, self.context)
        except NotificationError as error:
            octets = error.octets or encode_message(_UPDATE, body)
            self._tally.faulty_update([UpdateFault(SESSION_RESET, error.attribute, error.reason, octets)], now)
            raise
        if update.faults:
            self._tally.faulty_update(update.faults, now)
        self._restart_hold(now)
        for family, reason in update.disabled:
            self.context.disable(family)
            self._owner.emit(FamilyDisabled(self.generation, family, reason))
        self._owner.emit(UpdateReceived(self.generation, update))

    def _notification(self, notification: Notification, now: Instant) -> None:
        # Events 24, 25: "drops the TCP connection"; §6.4: never answered. DEVIATES RFC 4271 §8.2.2 OpenSent, which
        # would answer event 25 with an FSM error.
        text = f"peer sent {describe_notification(notification)}{self._meanwhile()}"
        self._tally.notification(notification, sent=False)
        self._owner.emit(NotificationSeen(sent=False, notification=notification))
        self.abandon(self._cause(CauseKind.NOTIFICATION_RECEIVED, text, notification, now), now)

    def _route_refresh(self, body: bytes) -> None:
        assert self.negotiated is not None
        if not self.negotiated.enhanced_refresh:
            body = body[:2] + b"\x00" + body[3:]  # RFC 2918 §3: a reserved octet, ignored
        refresh = decode_route_refresh(body)
        if not self.settings.route_refresh or refresh.family not in self.negotiated.families:
            self._tally.discard("route refresh that was not offered")  # RFC 2918 §4: "shall ignore"
            return
        if refresh.subtype > 2:
            self._tally.discard("route refresh of unknown subtype")  # RFC 7313 §5
            return
        assert self.context is not None
        if refresh.subtype and refresh.family in self.context.disabled:
            # BoRR and EoRR frame routes that are ignored; a request (0) is for ours, which are sent as before.
            self._tally.discard("route refresh of a disabled family")
            return
        self._owner.emit(RouteRefreshReceived(self.generation, refresh))

    # -- sending -------------------------------------------------------------------------------------------

    def send_updates(self, messages: list[bytes], now: Instant) -> None:
        markers = sum(message[_TYPE] == MessageType.ROUTE_REFRESH for message in messages)  # BoRR, EoRR
        updates = len(messages) - markers
        self._owner.emit(Send(self.conn, b"".join(messages)))
        if markers:
            self._tally.sent("route-refresh", now, markers)
        if updates:
            self._tally.sent("update", now, updates)
            self._restart_keepalive(now)

    def send_route_refresh(self, family: Family, now: Instant) -> None:
        self._send(encode_route_refresh(RouteRefresh(family)), "route-refresh", now)

    def probe(self, now: Instant) -> None:
        """A KEEPALIVE ahead of its time: a peer that has restarted resets the connection in answer."""
        if self._keepalive_sent_at is None or now - self._keepalive_sent_at >= MIN_KEEPALIVE_GAP:
            self._send_keepalive(now)

    def _send_keepalive(self, now: Instant) -> None:
        self._send(KEEPALIVE, "keepalive", now)
        self._keepalive_sent_at = now
        self._restart_keepalive(now)

    def _send(self, data: bytes, kind: str, now: Instant, count: int = 1) -> None:
        self._owner.emit(Send(self.conn, data))
        self._tally.sent(kind, now, count)

    def _restart_keepalive(self, now: Instant) -> None:
        # §4.4, §8.2.2: not at hold time 0; §10: jittered anew each time.
        if self.negotiated is None or not self.negotiated.keepalive_time_s:
            self.keepalive_deadline = None
        else:
            self.keepalive_deadline = now + jittered(self.negotiated.keepalive_time_s * SECOND, self._rng)

    def _restart_hold(self, now: Instant) -> None:
        self.hold_deadline = now + self._hold if self._hold else None
        self._hold_graced = False

    # -- states --------------------------------------------------------------------------------------------

    def _enter(self, state: State, reason: str, now: Instant) -> None:
        self.state = state
        self._owner.entered(self, reason, now)

    def _notify(self, notification: Notification, cause: Cause, now: Instant) -> None:
        self._send(encode_notification(notification), "notification", now)
        self._tally.notification(notification, sent=True)
        self._owner.emit(NotificationSeen(sent=True, notification=notification))
        self._owner.emit(Close(self.conn, linger=True))
        self._ended(cause, now)

    def _ended(self, cause: Cause, now: Instant) -> None:
        was, self.state = self.state, State.IDLE
        self.connect_deadline = self.hold_deadline = self.keepalive_deadline = self.pending = None
        self._owner.ended(self, was, cause, now)

    def _meanwhile(self) -> str:
        return " while BFD was waited for (strict mode)" if self.waits_for_bfd else ""

    def _cause(self, kind: CauseKind, text: str, notification: Notification, now: Instant) -> Cause:
        data = notification.data
        facts: dict[str, str | int | float] = {"data": data[:SHOWN_OCTETS].hex()} if data else {}
        if len(data) > SHOWN_OCTETS:
            facts["data_length"] = len(data)
        return told(Cause(kind, text, now, facts=facts), notification)
