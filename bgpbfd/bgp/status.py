"""What the shell reads of a neighbor's core: its state, its session, what it counts and what it plans."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from bgpbfd.bgp.events import BfdGate, Cause, ConnId, Endpoint, State
from bgpbfd.bgp.fsm import Connection
from bgpbfd.bgp.negotiate import Negotiated, PeerSettings
from bgpbfd.bgp.recovery import Retry
from bgpbfd.bgp.tally import LastFault, Tally
from bgpbfd.core import Instant, PeerId
from bgpbfd.wire.capabilities import Capability
from bgpbfd.wire.update import UpdateContext

LIVE_SETTINGS: Final = frozenset(("connect_retry_s", "passive", "dynamic"))  # apply without a new OPEN


class PeerStatus:
    """All attributes without an underscore are for the shell to read, none to write."""

    def __init__(self, peer_id: PeerId, settings: PeerSettings, retry: Retry) -> None:
        self.peer_id = peer_id
        self.settings = settings
        self.tally = Tally()
        self.state = State.IDLE
        self.state_since: Instant = 0
        self.admin_up = False
        self.gate = BfdGate(closed=False)  # what BFD said last; it outlives sessions, stops and configurations
        self.generation = 0
        self.established_conn: ConnId | None = None
        self.established_at: Instant | None = None
        self.last_cause: Cause | None = None  # of the last session or attempt that ended
        self.last_session_cause: Cause | None = None  # of the last session
        self.flaps = 0
        self.capabilities_received: tuple[Capability, ...] = ()
        self._connections: dict[ConnId, Connection] = {}
        self._session: Connection | None = None
        self._retry = retry

    @property
    def next_attempt_at(self) -> Instant | None:
        return self._retry.attempt_at

    @property
    def refuses(self) -> bool:
        """The neighbor's connections are not taken until an idle hold ends, which followed an Established session."""
        return self._retry.refuses

    @property
    def waiting_for_bfd(self) -> bool:
        """BFD alone keeps the session back: an accepted OPEN waits for it, or we do not dial before it is Up.

        draft-ietf-idr-bgp-bfd-strict-mode §11: the sub-states are to be seen. ``gate.reason`` says what is the matter.
        """
        if not self.admin_up or not self.gate.closed:
            return False
        if any(c.waits_for_bfd for c in self._connections.values()):
            return True
        return self._muted and self._is_to_dial and not self._retry.idle and not self._connections

    @property
    def negotiated(self) -> Negotiated | None:
        return self._session.negotiated if self._session else None

    @property
    def context(self) -> UpdateContext | None:
        """Of the established session, for encoding too."""
        return self._session.context if self._session else None

    @property
    def local(self) -> Endpoint | None:
        leader = self._leader()
        return leader.local if leader else None

    @property
    def remote(self) -> Endpoint | None:
        leader = self._leader()
        return leader.remote if leader else None

    @property
    def last_received_at(self) -> Instant | None:
        return self.tally.last_received_at

    @property
    def last_sent_at(self) -> Instant | None:
        return self.tally.last_sent_at

    @property
    def received_by_type(self) -> dict[str, int]:
        return self.tally.received_by_type

    @property
    def sent_by_type(self) -> dict[str, int]:
        return self.tally.sent_by_type

    @property
    def update_faults(self) -> dict[str, int]:
        return self.tally.update_faults

    @property
    def discards(self) -> dict[str, int]:
        """Events and messages that were refused or ignored, by reason."""
        return self.tally.discards

    @property
    def last_update_fault(self) -> LastFault | None:
        return self.tally.last_update_fault

    @property
    def notifications_sent(self) -> dict[str, int]:
        """By "code/subcode" as they went out: a hard reset is 6/9."""
        return self.tally.notifications_sent

    @property
    def notifications_received(self) -> dict[str, int]:
        return self.tally.notifications_received

    @property
    def _is_to_dial(self) -> bool:
        return not (self.settings.passive or self.settings.dynamic)

    @property
    def _muted(self) -> bool:
        return self.gate.closed and not self.gate.dials

    def _leader(self) -> Connection | None:
        return max(self._connections.values(), key=lambda c: c.state, default=None)


def open_changes(old: PeerSettings, new: PeerSettings) -> tuple[str, ...]:
    """Names of the settings that differ and are fixed with the OPEN."""
    names = (field.name for field in fields(PeerSettings))
    return tuple(name for name in names if name not in LIVE_SETTINGS and getattr(old, name) != getattr(new, name))
