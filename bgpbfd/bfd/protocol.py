"""The typed messages between the main process and the BFD worker, one msgpack message a datagram.

They travel over an AF_UNIX SOCK_SEQPACKET pair: commands down, events up. A session is known to both ends by its
``key`` (the main process's choice) and a ``generation`` that grows whenever a session is added under that key, so
that an event of an earlier session is never taken for the new one's.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from bgpbfd.core import Instant, Micros
from bgpbfd.lag import LagHistogram


class AuthKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key of RFC 5880 §6.7. ``type``: simple, keyed-md5, meticulous-keyed-md5, keyed-sha1, meticulous-keyed-sha1.

    ``key``: 1 to 16 octets (20 with SHA1), as they stand in the packet before padding.
    """

    type: str
    key_id: int
    key: bytes

    def __repr__(self) -> str:
        return f"AuthKey(type={self.type!r}, key_id={self.key_id}, key=…)"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What of a session can be changed while it lives; the variables of RFC 5880 §6.8.1 under their names.

    ``auth``: the first key signs what we send, each of them is accepted (rotation); empty: no authentication.
    ``minimum_ttl``: packets of a multihop session that come with less are discarded. ``required_min_echo_rx_us``: 0 if
    the neighbor's echo packets are not looped back; ``echo_tx_us``: 0 if we send none.
    """

    desired_min_tx_us: Micros = 300_000
    required_min_rx_us: Micros = 300_000
    detect_mult: int = 3
    passive: bool = False
    demand: bool = False
    control_plane_independent: bool = False
    minimum_ttl: int = 254
    required_min_echo_rx_us: Micros = 0
    echo_tx_us: Micros = 0
    auth: tuple[AuthKey, ...] = ()


# -- commands ----------------------------------------------------------------------------------------------


class Add(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Start a session: single hop (RFC 5881), or ``multihop`` (RFC 5883). Addresses are canonical text without scope.

    ``local`` None: any bound address of the family (the kernel chooses the source). ``interface`` is needed for
    link-local addresses.
    """

    key: str
    generation: int
    remote: str
    local: str | None = None
    interface: str | None = None
    multihop: bool = False
    settings: Settings = Settings()
    admin_down: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """New settings for a live session: timers by poll sequence, never by a flap (RFC 5880 §6.8.3)."""

    key: str
    generation: int
    settings: Settings


class Remove(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """AdminDown is signalled for at least one detection time, then the session is gone (RFC 5880 §6.8.16)."""

    key: str
    generation: int


class SetAdminDown(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    key: str
    generation: int
    admin_down: bool


class Bind(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The local addresses to take UDP 3784 on; replaces the set in force. ``port`` differs only in tests."""

    addresses: list[str]
    port: int = 3784


class AcceptUnsolicited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Single-hop packets from these networks that no session exists for are told of by ``Unsolicited`` (RFC 9468).

    Replaces the set in force. ``interface``: only those that arrive there.
    """

    networks: list[str]
    interface: str | None = None


class Clear(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Zero the counters of one session, or of all."""

    key: str | None = None


class Query(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answered by a Report with the same ``request``."""

    request: int


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The main process is alive; without one for ``control_timeout`` every session signals Down."""


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Clean stop: AdminDown on every session for one detection time, then exit."""


Command: TypeAlias = (
    Add | Change | Remove | SetAdminDown | Bind | AcceptUnsolicited | Clear | Query | Heartbeat | Shutdown
)

# -- events ------------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pid: int


class Bound(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    address: str
    error: str | None = None


class StateChange(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A session went from ``old`` to ``new`` (names of BfdState, lower case with hyphens: ``admin-down``).

    ``blame``: ``path-loss``, ``remote-signalled``, ``admin`` (either end's AdminDown), ``local-stall``, or empty when
    not a Down. ``last_rx``/``previous_rx``: arrival of the last two accepted packets; ``detection_time_us`` as in
    force then. ``control_plane_independent``: both ends had said so (RFC 5882 §4.3).
    """

    key: str
    generation: int
    old: str
    new: str
    diag: int
    remote_diag: int
    remote_admin_down: bool
    blame: str
    at: Instant
    last_rx: Instant | None
    previous_rx: Instant | None
    detection_time_us: Micros
    control_plane_independent: bool = False


class Late(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Packets of an Up session came later than one and a half intervals after the one before; at most one a second.

    ``count`` since the last such event; ``gap_us``, the longest of them, where ``interval_us`` was agreed.
    """

    key: str
    generation: int
    count: int
    gap_us: Micros
    interval_us: Micros
    at: Instant


class Unsolicited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A neighbor in a network of AcceptUnsolicited wants a session; it asks again (once a second) until it has one."""

    remote: str
    local: str
    interface: str


class SessionFault(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The session cannot work as configured right now (address not on this host, interface missing); tried again."""

    key: str
    generation: int
    error: str | None


class SessionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One session as it stands; times are Instants, durations µs."""

    key: str
    generation: int
    remote: str
    local: str | None
    interface: str | None
    state: str
    since: Instant
    remote_state: str
    diag: int
    remote_diag: int
    local_discriminator: int
    remote_discriminator: int
    source_port: int
    passive: bool
    polling: bool
    desired_min_tx_us: Micros
    required_min_rx_us: Micros
    detect_mult: int
    remote_desired_min_tx_us: Micros
    remote_required_min_rx_us: Micros
    remote_required_min_echo_rx_us: Micros
    remote_detect_mult: int
    transmit_interval_us: Micros
    detection_time_us: Micros
    last_rx: Instant | None
    packets_received: int
    packets_sent: int
    packets_discarded: dict[str, int]
    up_count: int
    down_count: int
    last_down: StateChange | None = None
    fault: str | None = None
    multihop: bool = False
    minimum_ttl: int = 255
    demand: bool = False  # ours is in force: the neighbor may be silent
    remote_demand: bool = False
    control_plane_independent: bool = False  # ours
    remote_control_plane_independent: bool = False
    auth_type: str | None = None  # with which we send
    auth_key_id: int | None = None
    remote_auth_key_id: int | None = None  # of the last packet accepted
    required_min_echo_rx_us: Micros = 0
    echo_tx_us: Micros = 0  # in force; 0: none is sent
    echo_received: int = 0
    echo_sent: int = 0
    rtt_min_us: Micros | None = None
    rtt_avg_us: Micros | None = None
    rtt_max_us: Micros | None = None
    late_packets: int = 0
    previous_rx: Instant | None = None
    last_tx: Instant | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """All sessions, in one or more parts; ``discards`` are those that no session could be found for, by reason.

    ``lag``, of the worker's loop, comes with the last part.
    """

    request: int
    sessions: list[SessionReport]
    discards: dict[str, int]
    last: bool = True
    lag: LagHistogram | None = None


class Log(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    level: str
    text: str


Event: TypeAlias = Ready | Bound | StateChange | Late | Unsolicited | SessionFault | Report | Log
