"""Every BFD session of the daemon, by its path, and who uses it: one a path, shared by its clients (RFC 5882 §2).

Clients are BGP neighbors, the stand-alone sessions of the configuration, and neighbors that asked by themselves (RFC
9468). A session runs with the most demanding of what its clients want: the shortest intervals, and the multiplier that
makes of them the shortest of the times in which the clients want to be missed; it is passive, in demand mode or shut
down only if all of them say so, and with echo or the C bit if one does. Their keys are the same, which the
configuration has been checked for. Who has BFD shut down while others use it takes no part: it sees AdminDown.

A session ends with its last client. What clients want changes it without a flap; only another path is another session.
A reload is one change: who leaves in it makes way for who comes.

A session that a neighbor asked for is taken over, as it is, by a client of the configuration whose path it lies on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from bgpbfd.bfd import protocol as bfd
from bgpbfd.config.bfd_auth import auth_key_octets
from bgpbfd.config.model import BfdGlobal, BfdPath, BfdProfile, BfdStandalone, Config, is_link_local
from bgpbfd.control.coupling import change_facts
from bgpbfd.control.neighbor import Neighbor
from bgpbfd.control.ports import BfdControl, Clock, Timers
from bgpbfd.control.recorder import Recorder
from bgpbfd.core import MILLISECOND, SECOND, Instant, Micros, PeerId

UNSOLICITED_GRACE: Micros = 60 * SECOND  # how long such a session may be without being Up, RFC 9468 §2
REFUSED_QUIET: Micros = 60 * SECOND  # that there is no room for one is told of once in this time
LATE_QUIET: Micros = 10 * SECOND  # late packets of a session are told of once in this time
_UNSOLICITED = "unsolicited"


class Host(Protocol):
    """What the sessions need of the engine."""

    config: Config
    neighbors: dict[PeerId, Neighbor]
    clock: Clock
    timers: Timers
    recorder: Recorder
    bfd: BfdControl
    stopping: bool


@dataclass(slots=True)
class Client:
    """``name``: ``bgp PEER``, ``configured PATH`` or ``unsolicited PATH``."""

    name: str
    settings: bfd.Settings
    shutdown: bool


@dataclass(slots=True)
class SharedSession:
    """``state`` and ``remote_admin_down`` as the worker told last; ``in_force`` what it was told last.

    ``asked``: a neighbor asked for it, whoever uses it now. ``late_untold``: count and longest gap (µs) since then.
    """

    path: BfdPath
    key: str
    asked: bool = False
    generation: int = 0
    clients: dict[str, Client] = field(default_factory=dict)
    in_force: bfd.Settings = field(default_factory=bfd.Settings)
    shutdown: bool = False
    state: str = "down"
    remote_admin_down: bool = False
    fault: str | None = None
    late_told: Instant | None = None
    late_untold: tuple[int, Micros] = (0, 0)

    @property
    def peer(self) -> PeerId:
        """As neighbors are named."""
        interface = self.path.interface
        link_local = interface is not None and is_link_local(self.path.remote)
        return f"{self.path.remote}%{interface}" if link_local else self.path.remote

    def neighbors(self) -> list[PeerId]:
        """The BGP neighbors among its clients."""
        return [name.removeprefix("bgp ") for name in self.clients if name.startswith("bgp ")]


class BfdSessions:
    def __init__(self, host: Host) -> None:
        self._host = host
        self.by_key: dict[str, SharedSession] = {}
        self._of: dict[str, SharedSession] = {}  # by client
        self.standalone: dict[str, BfdStandalone] = {}  # by client
        self._asked: dict[str, list[SharedSession]] = {}  # by remote: those that neighbors asked for
        self._refused_told: Instant | None = None
        self._held: dict[str, SharedSession] | None = None  # during a reload: those that have no client just now

    def of(self, client: str) -> SharedSession | None:
        return self._of.get(client)

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """A session that is left by one client in here and taken up by another one goes on."""
        self._held = {}
        try:
            yield
        finally:
            held, self._held = self._held, None
            for session in held.values():
                if not session.clients:
                    self._remove(session)

    # -- clients -----------------------------------------------------------------------------------------

    def attach(self, client: str, path: BfdPath, wanted: BfdProfile) -> SharedSession:
        """``client`` uses the session of ``path`` from now on; it may be Up already."""
        session = self._find(path)
        new = session is None
        if session is None:
            session = self._make(path, asked=client.startswith(_UNSOLICITED))
        session.clients[client] = Client(client, session_settings(wanted), wanted.shutdown)
        self._of[client] = session
        if client != _unsolicited_name(session):
            self._drop_unsolicited(session)
        self._bring(session, new=new)
        return session

    def detach(self, client: str) -> None:
        """It uses its session no more. Nothing happens where it has none."""
        session = self._of.pop(client, None)
        if session is None:
            return
        del session.clients[client]
        if session.clients:
            self._bring(session)
            return
        if self._held is not None:
            self._held[session.key] = session
        else:
            self._remove(session)

    def change(self, client: str, wanted: BfdProfile) -> SharedSession:
        """Other settings on the same path; KeyError for a client without a session."""
        session = self._of[client]
        session.clients[client] = Client(client, session_settings(wanted), wanted.shutdown)
        self._bring(session)
        return session

    def _find(self, path: BfdPath) -> SharedSession | None:
        """The session of that very path; or one that its neighbor asked for and which lies on it."""
        exact = self.by_key.get(str(path))
        if exact is not None:
            return exact
        return next((session for session in self._asked.get(path.remote, ()) if _lies_on(session.path, path)), None)

    def _make(self, path: BfdPath, *, asked: bool) -> SharedSession:
        session = SharedSession(path, str(path), asked)
        self.by_key[session.key] = session
        if asked:
            self._asked.setdefault(path.remote, []).append(session)
        return session

    def _remove(self, session: SharedSession) -> None:
        del self.by_key[session.key]
        if session.asked:
            of_remote = self._asked[session.path.remote]
            of_remote.remove(session)
            if not of_remote:
                del self._asked[session.path.remote]
        self._host.timers.arm(_timer_key(session), None, _nothing)
        self._host.bfd.remove(session.key)

    def _bring(self, session: SharedSession, *, new: bool = False) -> None:
        """Tell the worker what its clients want of it, if that is news."""
        clients = list(session.clients.values())
        shutdown = all(client.shutdown for client in clients)
        settings = combined([client.settings for client in clients if shutdown or not client.shutdown])
        control, path = self._host.bfd, session.path
        if new:
            session.generation = control.add(
                bfd.Add(
                    key=session.key,
                    generation=0,
                    remote=path.remote,
                    local=path.local,
                    interface=path.interface,
                    multihop=path.multihop,
                    settings=settings,
                    admin_down=shutdown,
                )
            )
            session.state = "admin-down" if shutdown else "down"
        else:
            if settings != session.in_force:
                control.change(session.key, settings)
            if shutdown != session.shutdown:
                control.set_admin_down(session.key, shutdown)
        session.in_force, session.shutdown = settings, shutdown

    # -- the configuration -------------------------------------------------------------------------------

    def configure(self, config: BfdGlobal) -> None:
        """Stand-alone sessions and who may ask for one; BGP neighbors attach themselves."""
        self._host.bfd.bind(list(config.bind))
        wanted = {f"configured {entry.path}": entry for entry in config.sessions}
        old, self.standalone = self.standalone, wanted
        for client in old:
            if client not in wanted:
                self.detach(client)
        for client, entry in wanted.items():
            if client not in old:
                self.attach(client, entry.path, entry)
            elif entry != old[client]:
                self.change(client, entry)
        allowed = config.unsolicited
        self._host.bfd.accept_unsolicited(
            [] if allowed is None else list(allowed.networks), None if allowed is None else allowed.interface
        )
        for session in self._unsolicited():
            if allowed is None or not allowed.admits(session.path.remote, session.path.interface):
                self._end_unsolicited(session, "its network is not listed any more")
            else:
                self.change(_unsolicited_name(session), allowed.settings)

    def standalone_of(self, session: SharedSession) -> BfdStandalone | None:
        """The entry of the configuration among its clients."""
        return next((self.standalone[client] for client in session.clients if client in self.standalone), None)

    # -- neighbors that ask (RFC 9468) --------------------------------------------------------------------

    def asked(self, event: bfd.Unsolicited) -> None:
        """A neighbor that is welcome wants a session."""
        host = self._host
        allowed = host.config.bfd.unsolicited
        path = BfdPath(event.remote, event.local, event.interface)
        if host.stopping or allowed is None or not allowed.admits(event.remote, event.interface):
            return  # asked before a reload took the network away
        if any(_lies_on(path, session.path) for session in self.by_key.values()):
            return  # it has one by now
        known = (neighbor.config.bfd_path for neighbor in host.neighbors.values())
        if any(of_neighbor is not None and _lies_on(path, of_neighbor) for of_neighbor in known):
            return  # it is disabled: whoever did that wants no session either
        if len(self._unsolicited()) >= allowed.max_sessions:
            self._refuse(event, allowed.max_sessions)
            return
        text = f"BFD: {event.remote} asked for a session ({event.local} on {event.interface})"
        host.recorder.add("bfd-unsolicited", text, host.clock.now(), peer=SharedSession(path, "").peer)
        session = self.attach(f"{_UNSOLICITED} {path}", path, allowed.settings)
        self._arm_grace(session)

    def _refuse(self, event: bfd.Unsolicited, most: int) -> None:
        now = self._host.clock.now()
        if self._refused_told is not None and now - self._refused_told < REFUSED_QUIET:
            return  # it asks once a second, and so may many others
        self._refused_told = now
        text = f"BFD: {event.remote} asks for a session, and there are bfd.unsolicited.max_sessions = {most} of them"
        self._host.recorder.add("bfd-unsolicited-refused", text, now, level="warning")

    def _unsolicited(self) -> list[SharedSession]:
        """Those whose only client is the neighbor that asked."""
        asked = (session for sessions in self._asked.values() for session in sessions)
        return [session for session in asked if _unsolicited_name(session) in session.clients]

    def _arm_grace(self, session: SharedSession) -> None:
        deadline = None if session.state == "up" else self._host.clock.now() + UNSOLICITED_GRACE
        self._host.timers.arm(_timer_key(session), deadline, functools.partial(self._grace_over, session))

    def _grace_over(self, session: SharedSession) -> None:
        if self.by_key.get(session.key) is session and session.state != "up":
            seconds = UNSOLICITED_GRACE // SECOND
            self._end_unsolicited(session, f"it has not been up for {seconds} s")

    def _end_unsolicited(self, session: SharedSession, why: str) -> None:
        text = f"BFD: the session that {session.path.remote} had asked for is removed: {why}"
        self._host.recorder.add("bfd-unsolicited", text, self._host.clock.now(), peer=session.peer)
        self.detach(_unsolicited_name(session))

    def _drop_unsolicited(self, session: SharedSession) -> None:
        """The configuration has taken it over."""
        name = _unsolicited_name(session)
        if name in session.clients:
            del session.clients[name], self._of[name]
            self._host.timers.arm(_timer_key(session), None, _nothing)

    # -- what the worker says ----------------------------------------------------------------------------

    def take(self, change: bfd.StateChange) -> SharedSession | None:
        """Note a change; None for a session that is not ours any more."""
        session = self._meant(change)
        if session is None:
            return None
        session.state = change.new
        session.remote_admin_down = change.remote_admin_down and change.new != "up"
        if _unsolicited_name(session) in session.clients and "up" in {change.old, change.new}:
            self._arm_grace(session)
        return session

    def _meant(self, event: bfd.StateChange | bfd.SessionFault | bfd.Late) -> SharedSession | None:
        """The session of an event; none of one that was on the same path before. A new worker's are numbered on."""
        session = self.by_key.get(event.key)
        return session if session is not None and event.generation >= session.generation else None

    def tell(self, session: SharedSession, change: bfd.StateChange) -> None:
        """Record a change, for people and hooks."""
        kind, text, level = describe_bfd_change(change)
        if not session.neighbors():
            text = text.replace(": BGP is left alone", "")
        self._host.recorder.add(
            kind, text, self._host.clock.now(), peer=session.peer, level=level, facts=change_facts(change)
        )

    def fault(self, event: bfd.SessionFault) -> SharedSession | None:
        """Why a session cannot run, or that it can again; None where that is no news."""
        session = self._meant(event)
        if session is None or session.fault == event.error:
            return None
        session.fault = event.error
        if event.error is not None:
            now = self._host.clock.now()
            self._host.recorder.add("bfd-fault", f"BFD: {event.error}", now, peer=session.peer, level="warning")
        return session

    def late(self, event: bfd.Late) -> None:
        """Packets came late: told now and then, as it says that the path or a host is in trouble."""
        session = self._meant(event)
        if session is None:
            return
        now = self._host.clock.now()
        count, longest = session.late_untold[0] + event.count, max(session.late_untold[1], event.gap_us)
        if session.late_told is not None and now - session.late_told < LATE_QUIET:
            session.late_untold = count, longest
            return
        session.late_told, session.late_untold = now, (0, 0)
        gap, interval = longest / MILLISECOND, event.interval_us / MILLISECOND
        text = f"BFD packets came late: {count} of them, up to {gap:.1f} ms after the one before, "
        text += f"where one is due every {interval:g} ms"
        facts: dict[str, str | int | float] = {"count": count, "gap_ms": gap, "interval_ms": interval}
        self._host.recorder.add("bfd-late", text, now, peer=session.peer, facts=facts)

    def worker_restarted(self) -> None:
        """All sessions begin anew."""
        for session in self.by_key.values():
            session.state = "admin-down" if session.shutdown else "down"
            session.remote_admin_down = False
            session.fault = None  # a new worker tells of those that last
            if _unsolicited_name(session) in session.clients:
                self._arm_grace(session)


def session_settings(wanted: BfdProfile) -> bfd.Settings:
    """The worker's words for what the configuration says."""
    return bfd.Settings(
        desired_min_tx_us=wanted.transmit_interval_ms * MILLISECOND,
        required_min_rx_us=wanted.receive_interval_ms * MILLISECOND,
        detect_mult=wanted.detect_multiplier,
        passive=wanted.passive,
        demand=wanted.demand,
        control_plane_independent=wanted.control_plane_independent,
        minimum_ttl=wanted.minimum_ttl or 255,
        required_min_echo_rx_us=wanted.echo_receive_interval_ms * MILLISECOND if wanted.echo else 0,
        echo_tx_us=wanted.echo_transmit_interval_ms * MILLISECOND if wanted.echo else 0,
        auth=tuple(bfd.AuthKey(type=key.type, key_id=key.key_id, key=auth_key_octets(key.key)) for key in wanted.auth),
    )


def combined(wanted: list[bfd.Settings]) -> bfd.Settings:
    """The most demanding of what the clients of a session want; see the module's text."""
    if len(wanted) == 1:
        return wanted[0]

    def least(values: Iterable[Micros]) -> Micros:
        return min((value for value in values if value), default=0)

    # The neighbor misses us after multiplier × interval. With the smallest multiplier on the shortest interval that
    # would be less than anybody asked for, and a few packets lost would be a failure.
    interval = min(each.desired_min_tx_us for each in wanted)
    missed_after = min(each.detect_mult * each.desired_min_tx_us for each in wanted)
    return bfd.Settings(
        desired_min_tx_us=interval,
        required_min_rx_us=min(each.required_min_rx_us for each in wanted),
        detect_mult=missed_after // interval,
        passive=all(each.passive for each in wanted),
        demand=all(each.demand for each in wanted),
        control_plane_independent=any(each.control_plane_independent for each in wanted),
        minimum_ttl=max(each.minimum_ttl for each in wanted),
        required_min_echo_rx_us=least(each.required_min_echo_rx_us for each in wanted),
        echo_tx_us=least(each.echo_tx_us for each in wanted),
        auth=next((each.auth for each in wanted if each.auth), ()),
    )


def describe_bfd_change(change: bfd.StateChange) -> tuple[str, str, str]:
    """(event kind, words, log level) of a BFD state change."""
    if change.new == "up":
        return "bfd-up", "BFD is up", "info"
    if change.old == change.new:
        if change.remote_admin_down:
            return "bfd-admin-down", "BFD has been switched off by the neighbor (AdminDown): BGP is left alone", "info"
        return "bfd-state", f"BFD {change.new}: the neighbor does not say AdminDown any more", "debug"
    if change.new == "admin-down" or (change.new == "down" and change.remote_admin_down):
        whose = "the neighbor" if change.remote_admin_down else "this side"
        return "bfd-admin-down", f"BFD was switched off by {whose} (AdminDown): BGP is left alone", "info"
    if change.old == "up":
        silence = ""
        if change.last_rx is not None:
            silence = f", last packet {(change.at - change.last_rx) / SECOND:.3f} s before"
        return "bfd-down", f"BFD went down: {change.blame or 'unknown'}{silence}", "warning"
    return "bfd-state", f"BFD {change.old} -> {change.new}", "debug"


def neighbor_client(peer: PeerId) -> str:
    """The name under which a BGP neighbor uses its session."""
    return f"bgp {peer}"


def client_kinds(session: SharedSession) -> tuple[str, ...]:
    """``bgp``, ``configured``, ``unsolicited``: what its clients are."""
    return tuple(dict.fromkeys(name.partition(" ")[0] for name in session.clients))


def _unsolicited_name(session: SharedSession) -> str:
    return f"{_UNSOLICITED} {session.path}"


def _lies_on(actual: BfdPath, path: BfdPath) -> bool:
    """Whether ``actual``, of which address and interface are known, is what ``path`` may leave open."""
    return (
        actual.remote == path.remote
        and actual.multihop == path.multihop
        and path.local in {None, actual.local}
        and path.interface in {None, actual.interface}
    )


def _timer_key(session: SharedSession) -> str:
    return "bfd unsolicited " + session.key


def _nothing() -> None:
    return None
