"""The only router of events between the cores: BGP peers, BFD, the RIB and the announcers.

A socket's bytes, a timer or the BFD worker's word enters through one of the methods below, is given to the one
core that it concerns, and that core's actions are carried out in their order. Cores never call each other.

Nothing here waits: whatever can be long (announcing a large table) is cut into turns of the event loop, so that a
BFD Down is never behind it.
"""

from __future__ import annotations

import random
import traceback
from collections import deque
from typing import assert_never

from bgpbfd.bfd import protocol as bfd
from bgpbfd.bgp import events as bgp
from bgpbfd.bgp.peer import Peer
from bgpbfd.config.model import Config, PeerConfig
from bgpbfd.config.validate import match_dynamic
from bgpbfd.control.announcing import Announcing
from bgpbfd.control.bfd_neighbors import BfdNeighbors, bfd_timer_keys
from bgpbfd.control.bfd_sessions import BfdSessions
from bgpbfd.control.learning import Learning, timer_keys
from bgpbfd.control.neighbor import Neighbor, dynamic_config, peer_settings, transport_options
from bgpbfd.control.ports import Accepted, BfdControl, Clock, Connections, Interfaces, NotTaken, Timers
from bgpbfd.control.recorder import Recorder
from bgpbfd.control.restarting import Restart
from bgpbfd.core import MILLISECOND, SECOND, Instant, Micros, PeerId
from bgpbfd.rib.originate import Originated
from bgpbfd.rib.table import Rib
from bgpbfd.wire.iana import CeaseSubcode, ErrorCode
from bgpbfd.wire.messages import Notification, encode_notification

REFUSED_QUIET: Micros = 60 * SECOND  # a stranger's connections are told of once in this time
REFUSED_SOURCES = 32  # strangers told of in that time
DYNAMIC_MAX = 1000  # neighbors made of networks, all together: whoever can connect makes one
REQUEST = 0  # RFC 7313 §3.2, Message Subtype
_OUT_OF_RESOURCES = encode_notification(Notification(ErrorCode.CEASE, CeaseSubcode.OUT_OF_RESOURCES))  # RFC 4486 §4


class Engine:
    """Holds every neighbor and what is announced; the shells call in, the ports carry out."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        timers: Timers,
        connections: Connections,
        bfd_control: BfdControl,
        interfaces: Interfaces,
        rng: random.Random,
        recorder: Recorder,
    ) -> None:
        self.config = config
        self.clock = clock
        self.timers = timers
        self.connections = connections
        self.bfd = bfd_control
        self.interfaces = interfaces
        self.rng = rng
        self.recorder = recorder
        self.rib = Rib()
        self.originated = Originated()
        self.neighbors: dict[PeerId, Neighbor] = {}
        self.restart = Restart(self)
        self.announcing = Announcing(self)
        self.learning = Learning(self)
        self.bfd_sessions = BfdSessions(self)
        self.bfd_neighbors = BfdNeighbors(self)
        self.listen_errors: dict[str, str] = {}
        self.refused_connections = 0
        self._refused_told: dict[bytes, Instant] = {}  # by source address
        self.stopping = False
        self._queue: deque[tuple[Neighbor, bgp.Event]] = deque()
        self._draining = False

    # -- neighbors ---------------------------------------------------------------------------------------

    @property
    def at_rest(self) -> bool:
        """Whether every neighbor that is to have a session has it, and has been sent what it is to be sent."""
        return all(
            neighbor.session is not None and not neighbor.announcer.has_pending
            for neighbor in self.neighbors.values()
            if neighbor.enabled
        )

    def add_neighbor(self, config: PeerConfig, network: PeerId | None = None) -> Neighbor:
        """Make a neighbor of ``config`` and, where it is enabled, start it and its BFD session."""
        peer = Peer(config.id, peer_settings(config, self.config.poll_interval), self.rng)
        neighbor = Neighbor(config, peer, self.announcing.announcer(config.id), network=network)
        self.neighbors[config.id] = neighbor
        if neighbor.enabled:
            self.start_neighbor(neighbor)
        return neighbor

    def start_neighbor(self, neighbor: Neighbor) -> None:
        self.start_bfd(neighbor)
        self.feed(neighbor, bgp.ManualStart(self.restart.until(neighbor.config)))

    def stop_neighbor(self, neighbor: Neighbor, stop: bgp.ManualStop) -> None:
        """Cease first, then BFD's AdminDown: the neighbor learns of a planned end, not of a failure (RFC 5882 §4.2)."""
        self.feed(neighbor, stop)
        self.learning.forget(neighbor)
        self.stop_bfd(neighbor)
        self.restart.check()

    def remove_neighbor(self, neighbor: Neighbor, stop: bgp.ManualStop) -> None:
        self.stop_neighbor(neighbor, stop)
        self._forget(neighbor)

    def start_bfd(self, neighbor: Neighbor) -> None:
        self.bfd_neighbors.start(neighbor)

    def stop_bfd(self, neighbor: Neighbor) -> None:
        self.bfd_neighbors.stop(neighbor)

    def _forget(self, neighbor: Neighbor) -> None:
        for key in (_timer_key(neighbor.id), *bfd_timer_keys(neighbor.id), *timer_keys(neighbor.id)):
            self.timers.arm(key, None, _nothing)
        self.neighbors.pop(neighbor.id, None)

    # -- what the BGP cores do ---------------------------------------------------------------------------

    def feed(self, neighbor: Neighbor, event: bgp.Event) -> None:
        """Give ``event`` to the neighbor's core; events that its actions cause wait for their turn."""
        self._queue.append((neighbor, event))
        if self._draining:
            return
        self._draining = True
        try:
            while self._queue:
                target, queued = self._queue.popleft()
                self.learning.ask_again()
                for action in target.peer.handle(queued, self.clock.now()):
                    try:
                        if type(action) is bgp.UpdateReceived:  # nearly all, while a table comes
                            self.learning.update(target, action)
                        else:
                            self._act(target, action)
                    except Exception:  # noqa: BLE001  the other actions and neighbors must have their turn
                        self.internal_error(target, type(action).__name__)
                self._after(target)
        finally:
            self._draining = False

    def internal_error(self, neighbor: Neighbor, where: str) -> None:
        """A fault of ours outside the neighbor's core costs that one neighbor its session, loudly."""
        now = self.clock.now()
        trace = traceback.format_exc()
        text = f"internal error at {where}: {trace.strip().splitlines()[-1]}"
        self.recorder.add("internal-error", text, now, peer=neighbor.id, level="error", facts={"traceback": trace})
        if neighbor.peer.state >= bgp.State.OPEN_SENT:
            cause = bgp.Cause(bgp.CauseKind.INTERNAL_ERROR, text, now)
            self.feed(neighbor, bgp.AutomaticStop(cause, CeaseSubcode.UNSPECIFIC))

    def _after(self, neighbor: Neighbor) -> None:
        if self.neighbors.get(neighbor.id) is not neighbor:
            return  # removed meanwhile
        self.timers.arm(_timer_key(neighbor.id), neighbor.peer.next_deadline(), lambda: self._tick(neighbor))
        held_off = neighbor.peer.refuses or neighbor.override is False
        if (
            neighbor.network is not None
            and neighbor.confirmed
            and neighbor.peer.state <= bgp.State.ACTIVE
            and not held_off
        ):
            # A dynamic neighbor lives as long as its connection, as an idle hold that it has earned by what it did in a
            # session (anybody can send a bad OPEN), and as an operator's word that it is to stay down.
            self.stop_bfd(neighbor)
            self._forget(neighbor)

    def _tick(self, neighbor: Neighbor) -> None:
        self.feed(neighbor, bgp.TimerExpired())

    def _act(self, neighbor: Neighbor, action: bgp.Action) -> None:
        match action:
            case bgp.Send():
                self.connections.send(neighbor.id, action.conn, action.data)
            case bgp.UpdateReceived():
                self.learning.update(neighbor, action)
            case bgp.Dial():
                self.connections.dial(neighbor.id, action.conn, neighbor.dial_target(self.interfaces))
            case bgp.Close():
                self.connections.close(neighbor.id, action.conn, action.linger)
            case bgp.SessionUp():
                self._session_up(neighbor, action)
            case bgp.SessionDown():
                self._session_down(neighbor, action)
            case bgp.AttemptFailed():
                self._attempt_failed(neighbor, action.cause)
            case bgp.FamilyDisabled():
                self.learning.family_disabled(neighbor, action)
            case bgp.RouteRefreshReceived():
                self._refresh_received(neighbor, action)
            case bgp.StateChanged():
                self.recorder.add(
                    "bgp-state",
                    f"{state_text(action.old)} -> {state_text(action.new)}: {action.reason}",
                    self.clock.now(),
                    peer=neighbor.id,
                    level="debug",
                )
            case bgp.NotificationSeen():
                pass  # the cause that ends the session says the same in words
            case _:
                assert_never(action)

    def _refresh_received(self, neighbor: Neighbor, received: bgp.RouteRefreshReceived) -> None:
        session = neighbor.session
        if session is None or session.generation != received.generation:
            return  # the session ended by an earlier message of the same bytes
        if received.refresh.subtype != REQUEST:
            self.learning.refresh(neighbor, received.refresh)
        else:
            neighbor.announcer.resend(received.refresh.family, session.negotiated.enhanced_refresh)
            self.announcing.pump(neighbor)

    def _session_up(self, neighbor: Neighbor, up: bgp.SessionUp) -> None:
        neighbor.session, neighbor.session_config = up, neighbor.config
        self.learning.ask_again()
        neighbor.last_attempt = None
        self.learning.session_up(neighbor, up)
        self.announcing.session_up(neighbor, up)
        negotiated = up.negotiated
        self.recorder.add(
            "bgp-up",
            f"established with AS {negotiated.remote_asn}, hold time {negotiated.hold_time_s} s, "
            + ", ".join(sorted(str(family) for family in negotiated.families)),
            self.clock.now(),
            peer=neighbor.id,
            facts={"remote_asn": negotiated.remote_asn, "hold_time_s": negotiated.hold_time_s},
        )
        self.announcing.pump(neighbor)
        self.restart.check()

    def restart_is_over(self) -> None:
        self.announcing.restart_is_over()

    def _session_down(self, neighbor: Neighbor, down: bgp.SessionDown) -> None:
        now = self.clock.now()
        cause = down.cause
        neighbor.session = neighbor.session_config = None
        neighbor.announcer.session_down()
        shown = {key: value for key, value in cause.facts.items() if key != "message"}  # long; `show neighbors` has it
        facts: dict[str, str | int | float] = {"kind": cause.kind.value, **shown}
        if cause.code is not None:
            facts["code"], facts["subcode"] = cause.code, cause.subcode or 0
        if cause.kind is bgp.CauseKind.BFD_DOWN:
            facts["teardown_ms"] = round((now - cause.at) / MILLISECOND, 3)
            last = cause.facts.get("last_packet_at_us")
            if isinstance(last, int):
                facts["silence_to_cease_ms"] = round((now - last) / MILLISECOND, 3)
            # The cause is what `show neighbors` keeps: it carries the times of its own teardown.
            cause.facts.update(facts)
        expected = cause.kind in _PLANNED
        self.recorder.add(
            "bgp-down", cause.text, now, peer=neighbor.id, level="info" if expected else "warning", facts=facts
        )
        self.learning.session_down(neighbor, down)

    def _attempt_failed(self, neighbor: Neighbor, cause: bgp.Cause) -> None:
        if cause.text == neighbor.last_attempt:
            return  # the same try, failing the same way, every few seconds
        neighbor.last_attempt = cause.text
        unanswered = "waited_s" in cause.facts and neighbor.config.md5_password is not None
        self.recorder.add(
            "bgp-attempt-failed",
            cause.text + (" (nor is there one where the TCP MD5 passwords differ)" if unanswered else ""),
            self.clock.now(),
            peer=neighbor.id,
            facts={"kind": cause.kind.value},
        )

    # -- what TCP says (io.tcp.Sink) ---------------------------------------------------------------------

    def connection_accepted(self, local: bgp.Endpoint, remote: bgp.Endpoint) -> Accepted | NotTaken:
        found = NotTaken() if self.stopping else self._neighbor_of(local, remote)
        if isinstance(found, NotTaken):
            self.refused_connections += 1
            self._tell_refused(local, remote)
            return found
        options = transport_options(found.config, self.interfaces)
        return Accepted(found.id, found.peer.new_connection_id(), options)

    def _tell_refused(self, local: bgp.Endpoint, remote: bgp.Endpoint) -> None:
        """Now and then only: a scan must not push what happened to the neighbors out of the record."""
        now = self.clock.now()
        told = self._refused_told
        for source in [source for source, at in told.items() if now - at >= REFUSED_QUIET]:
            del told[source]
        if remote.address in told or len(told) >= REFUSED_SOURCES:
            return
        told[remote.address] = now
        self.recorder.add(
            "connection-refused",
            f"no neighbor is configured for {remote.text} (to {local.text})",
            now,
            level="debug",
        )

    def _neighbor_of(self, local: bgp.Endpoint, remote: bgp.Endpoint) -> Neighbor | NotTaken:
        interface = self.interfaces.name(remote.scope_id) if remote.scope_id else None
        peer = f"{remote.text}%{interface}" if interface else remote.text
        neighbor = self.neighbors.get(peer)
        if neighbor is not None:
            wanted = neighbor.config.local_ip
            return neighbor if wanted is None or wanted == local.text else NotTaken()
        network = match_dynamic(self.config, remote.text)
        if network is None or not network.enabled:
            return NotTaken()
        made = [known.network for known in self.neighbors.values() if known.network is not None]
        allowed = network.max_neighbors
        if len(made) >= DYNAMIC_MAX or (allowed is not None and made.count(network.id) >= allowed):
            return NotTaken(_OUT_OF_RESOURCES)
        return self.add_neighbor(dynamic_config(network, remote.text, interface, peer), network=network.id)

    def connection_confirmed(self, peer: PeerId, conn: bgp.ConnId, local: bgp.Endpoint, remote: bgp.Endpoint) -> None:
        self._confirm(peer)
        self._connection_event(peer, conn, bgp.TcpConnectionConfirmed(conn, local, remote))

    def _confirm(self, peer: PeerId) -> None:
        if (neighbor := self.neighbors.get(peer)) is not None:
            neighbor.confirmed = True

    def dial_succeeded(self, peer: PeerId, conn: bgp.ConnId, local: bgp.Endpoint, remote: bgp.Endpoint) -> None:
        self._connection_event(peer, conn, bgp.TcpCrAcked(conn, local, remote))

    def connection_failed(self, peer: PeerId, conn: bgp.ConnId, error: str) -> None:
        self._confirm(peer)
        self._connection_event(peer, conn, bgp.TcpConnectionFails(conn, error))

    def data_received(self, peer: PeerId, conn: bgp.ConnId, data: bytes) -> None:
        self._connection_event(peer, conn, bgp.DataReceived(conn, data))

    def connection_writable(self, peer: PeerId, conn: bgp.ConnId) -> None:
        neighbor = self.neighbors.get(peer)
        if neighbor is not None:
            self.announcing.pump(neighbor)

    def send_stalled(self, peer: PeerId, conn: bgp.ConnId, since: Instant) -> None:
        self._connection_event(peer, conn, bgp.SendStalled(conn, since))

    def send_resumed(self, peer: PeerId, conn: bgp.ConnId) -> None:
        self._connection_event(peer, conn, bgp.SendResumed(conn))

    def transport_fault(self, text: str, peer_or_network: str) -> None:
        peer = peer_or_network if peer_or_network in self.neighbors else None
        self.recorder.add("tcp-fault", text, self.clock.now(), peer=peer, level="error")

    def _connection_event(self, peer: PeerId, conn: bgp.ConnId, event: bgp.Event) -> None:
        neighbor = self.neighbors.get(peer)
        if neighbor is None:  # removed while the connection was being made
            self.connections.close(peer, conn, linger=False)
            return
        self.feed(neighbor, event)

    def listening(self, address: str, error: str | None) -> None:
        now = self.clock.now()
        if error is None:
            self.listen_errors.pop(address, None)
            self.recorder.add("listening", f"listening on {address}", now)
        else:
            self.listen_errors[address] = error
            self.recorder.add("listen-failed", f"cannot listen on {address}: {error}", now, level="error")

    # -- what the BFD worker says ------------------------------------------------------------------------

    def bfd_event(self, event: bfd.Event) -> None:
        self.bfd_neighbors.event(event)

    # -- the end -----------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Cease to everyone, with ``reason`` as the shutdown communication (RFC 9003).

        BFD's AdminDown is the link's to send when it is stopped: for a whole detection time (RFC 5880 §6.8.16).
        """
        self.stopping = True
        for neighbor in list(self.neighbors.values()):
            retain = neighbor.config.graceful_restart.enabled and neighbor.config.graceful_restart.on_stop == "retain"
            stop = bgp.ManualStop(
                cause=bgp.CauseKind.DAEMON_STOP,
                subcode=CeaseSubcode.ADMINISTRATIVE_SHUTDOWN,
                message=reason,
                retain=retain,
            )
            self.feed(neighbor, stop)
            self._forget(neighbor)


_PLANNED = frozenset(
    {
        bgp.CauseKind.ADMIN_SHUTDOWN,
        bgp.CauseKind.ADMIN_RESET,
        bgp.CauseKind.CONFIG_CHANGE,
        bgp.CauseKind.DECONFIGURED,
        bgp.CauseKind.DAEMON_STOP,
    }
)


def state_text(state: bgp.State) -> str:
    """The state's name as users read it: ``opensent``, ``established``."""
    return state.name.lower().replace("_", "")


def _timer_key(peer: PeerId) -> str:
    return "bgp " + peer


def _nothing() -> None:
    return None
