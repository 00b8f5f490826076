"""The configuration as the daemon uses it: checked, with its defaults filled in and its references resolved.

Field names are the keys of the file. What the file may write in several ways has one form here: strings or
lists are tuples, ``bfd = true | "profile" | {…}`` is a BfdSettings or None, addresses are canonical text,
families are ``core.Family``. ``load.py`` builds these; nothing here reads files or raises.
"""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

import msgspec

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, PeerId, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.iana import BgpRole

DEFAULT_BGP_PORT = 179
ROLES = {role.name.lower().replace("_", "-"): role for role in BgpRole}  # provider, rs, rs-client, customer, peer
DEFAULT_API_SOCKET = "/run/bgpbfd/api.sock"


class Secret:
    """A password, key or token: its text is only had by ``reveal()``, never by printing."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        return "…"

    def __format__(self, spec: str) -> str:
        return format("…", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))


def is_link_local(address: str) -> bool:
    """An IPv6 link-local address, or a network of them: it means something on one interface only."""
    return ":" in address and ipaddress.ip_network(address).is_link_local


class Listen(msgspec.Struct, frozen=True):
    """A TCP address to listen on; ``host`` is address text without brackets, ``%scope`` included."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixListen(msgspec.Struct, frozen=True):
    """A Unix socket to listen on."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


ApiListen: TypeAlias = Listen | UnixListen


class ApiConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[api]``. ``unix_mode`` is the mode's number."""

    token_file: str | None = None
    unix_mode: int = 0o660
    metrics: bool = False


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[log]``. ``level`` maps parts to debug, info, warning or error; ``default`` is always in it."""

    level: dict[str, str] = msgspec.field(default_factory=lambda: {"default": "info"})
    format: str = "text"


class BfdProfile(msgspec.Struct, frozen=True, kw_only=True):
    """``[bfd.profiles.NAME]``: intervals in ms, ``strict_hold_time`` in s.

    ``echo``: send echo packets, and loop those of the neighbor; the echo intervals count with it. ``multihop`` and
    ``minimum_ttl`` None: as the peer's own ``multihop`` and ``ttl_security`` say; in a BfdSettings and a BfdStandalone
    they are filled in. ``strict_hold_time``: how long a peer with mode ``strict`` waits for BFD; ``damping``: after
    repeated failures BGP comes back later. ``auth``: the first key signs what we send, each of them is accepted; empty:
    no authentication.
    """

    transmit_interval_ms: int = 300
    receive_interval_ms: int = 300
    detect_multiplier: int = 3
    passive: bool = False
    demand: bool = False
    echo: bool = False
    echo_transmit_interval_ms: int = 50
    echo_receive_interval_ms: int = 50
    minimum_ttl: int | None = None
    multihop: bool | None = None
    shutdown: bool = False
    control_plane_independent: bool = False
    strict_hold_time: int = 30
    damping: bool = True
    auth: tuple[BfdAuth, ...] = ()


class BfdAuth(msgspec.Struct, frozen=True, kw_only=True):
    """One authentication key, RFC 5880 §6.7; ``bfd_auth.auth_key_octets`` has its octets.

    ``type``: simple, keyed-md5, meticulous-keyed-md5, keyed-sha1 or meticulous-keyed-sha1. ``key``: text, or ``0x…`` in
    hex; that of ``key_file`` where this is set.
    """

    type: str
    key_id: int
    key: Secret
    key_file: str | None = None

    def same_key(self, other: BfdAuth) -> bool:
        """Whether a packet signed with one is accepted by the other; where the key was read from does not count."""
        return (self.type, self.key_id, self.key) == (other.type, other.key_id, other.key)


class BfdPath(msgspec.Struct, frozen=True):
    """What tells BFD sessions apart; one path has one session, which its clients share (RFC 5882 §2).

    Addresses are canonical text without scope. ``local`` None: the kernel's choice; ``interface`` None: any.
    """

    remote: str
    local: str | None = None
    interface: str | None = None
    multihop: bool = False

    def __str__(self) -> str:
        link_local = self.interface is not None and is_link_local(self.remote)
        text = f"{self.remote}%{self.interface}" if link_local else self.remote
        text += f" from {self.local}" if self.local is not None else ""
        text += f" on {self.interface}" if self.interface is not None and not link_local else ""
        return text + (" multihop" if self.multihop else "")


class BfdSettings(BfdProfile, frozen=True, kw_only=True):
    """A peer's BFD with its profile merged in. ``mode``: ``track`` or ``strict``.

    ``minimum_ttl`` is 255 of a single-hop session (RFC 5881 §5).
    """

    multihop: bool = False
    minimum_ttl: int = 255
    mode: str = "track"
    profile: str | None = None


class BfdStandalone(BfdProfile, frozen=True, kw_only=True):
    """``[[bfd.sessions]]``: BFD without BGP, with its profile merged in.

    ``peer`` and ``local`` have no scope (``interface`` has it). ``minimum_ttl`` is 255 of a single-hop session.
    """

    peer: str
    local: str | None = None
    interface: str | None = None
    description: str | None = None
    multihop: bool = False
    minimum_ttl: int = 255
    profile: str | None = None

    @property
    def id(self) -> PeerId:
        """The canonical name of the neighbor, as PeerConfig.id; sessions on several paths to it have the same."""
        return f"{self.peer}%{self.interface}" if self.interface and is_link_local(self.peer) else self.peer

    @property
    def path(self) -> BfdPath:
        """It is the only stand-alone session on it; a peer's session may be the same."""
        return BfdPath(self.peer, self.local, self.interface, self.multihop)


class BfdUnsolicited(msgspec.Struct, frozen=True, kw_only=True):
    """``[bfd.unsolicited]``: single-hop sessions with whoever asks for one from these networks (RFC 9468).

    ``settings`` are those of ``profile``, passive and single hop. ``interface``: only who is there.
    """

    networks: tuple[str, ...] = ()
    interface: str | None = None
    profile: str | None = None
    settings: BfdSettings = BfdSettings(passive=True)
    max_sessions: int = 100

    def admits(self, remote: str, interface: str | None) -> bool:
        """Whether that neighbor may have a session made for it."""
        address = ipaddress.ip_address(remote)
        listed = any(address in ipaddress.ip_network(network) for network in self.networks)
        return listed and self.interface in {None, interface}


class BfdGlobal(msgspec.Struct, frozen=True, kw_only=True):
    """``[bfd]``. ``bind``: the local addresses, canonical, to take the BFD ports on."""

    bind: tuple[str, ...] = ("0.0.0.0", "::")
    profiles: dict[str, BfdProfile] = {}
    sessions: tuple[BfdStandalone, ...] = ()
    unsolicited: BfdUnsolicited | None = None


class StaticRoute(msgspec.Struct, frozen=True, gc=False):
    """One route to announce. Routes with equal attributes share one ``attributes`` object.

    ``attributes.next_hop`` is None for ``next_hop = "self"``, else the packed address.
    """

    prefix: Prefix
    attributes: PathAttributes

    @property
    def next_hop(self) -> str:
        """As the file writes it: ``self`` or an address."""
        packed = self.attributes.next_hop
        return "self" if packed is None else str(ipaddress.ip_address(packed))


class StaticFlow(msgspec.Struct, frozen=True, gc=False):
    """One flow specification to announce: ``prefix`` is the rule's NLRI (SAFI 133), its actions are among the
    ``attributes``' extended communities."""

    prefix: Prefix
    attributes: PathAttributes


Announced: TypeAlias = StaticRoute | StaticFlow
"""What a configuration or an API request announces."""


class GracefulRestart(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 4724; ``restart_time`` in s. ``on_stop``: a clean stop withdraws, or retains routes for the restart time."""

    enabled: bool = False
    restart_time: int = 120
    on_stop: str = "withdraw"


class MaxPrefixes(msgspec.Struct, frozen=True, kw_only=True):
    """How many prefixes a peer may send. ``warning``: told at this percentage of ``limit``.

    ``restart_time``: s until the peer is tried again after the limit; None: by the damping, 0: not before an operator
    enables or resets it.
    """

    limit: int
    warning: int = 80
    restart_time: int | None = None


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[[peers]]``. ``id`` is the canonical address, or network, that the whole daemon knows the peer by.

    ``remote_ip`` has no scope (``interface`` has it), and is the network of a dynamic peer. ``passive`` is
    always true of a dynamic peer. ``hold_timer`` in s, 0 switches it off. ``role`` is ours towards the peer (RFC 9234):
    provider, rs, rs-client, customer or peer. ``md5_password`` is that of ``md5_password_file`` where this is set.
    ``graceful_shutdown``: what it is sent is marked as about to go (RFC 8326). ``max_neighbors``: of a network.
    """

    id: PeerId
    remote_ip: str
    remote_as: int
    local_as: int
    local_router_id: str
    local_ip: str | None = None
    description: str | None = None
    enabled: bool = True
    passive: bool = False
    hold_timer: int = 180
    dest_port: int = DEFAULT_BGP_PORT
    families: tuple[Family, ...] = (IPV4_UNICAST, IPV6_UNICAST)
    advertise_sources: tuple[str, ...] = ("api", "config", "service")
    interface: str | None = None
    md5_password: Secret | None = None
    md5_password_file: str | None = None
    ttl_security: int | None = None
    multihop: int | None = None
    next_hop_self: bool = False
    extended_next_hop: bool = False
    extended_messages: bool = True
    route_refresh: bool = True
    add_path: str = "off"
    graceful_restart: GracefulRestart = GracefulRestart()
    max_prefixes: MaxPrefixes | None = None
    import_policy: str | None = None
    export_policy: str | None = None
    role: str | None = None
    role_strict: bool = False
    enforce_first_as: bool = True
    route_reflector_client: bool = False
    graceful_shutdown: bool = False
    max_neighbors: int | None = None
    bfd: BfdSettings | None = None
    static_routes: tuple[StaticRoute, ...] = ()
    static_flows: tuple[StaticFlow, ...] = ()

    @property
    def dynamic(self) -> bool:
        """A network: neighbors are taken from any address in it, and none is dialled."""
        return "/" in self.id

    @property
    def router_id_number(self) -> int:
        """``local_router_id`` as the OPEN carries it."""
        return int(ipaddress.IPv4Address(self.local_router_id))

    @property
    def bfd_path(self) -> BfdPath | None:
        """The path of its BFD session; of a network, what those of its neighbors have in common."""
        if self.bfd is None:
            return None
        return BfdPath(self.remote_ip, self.local_ip, self.interface, self.bfd.multihop)

    @property
    def internal(self) -> bool:
        """iBGP: both ends in one AS."""
        return self.local_as == self.remote_as


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """``[[services.checks]]``; what ``options`` holds depends on ``type``."""

    type: str
    scope: str = "local"
    options: dict[str, object] = {}


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's routes become: withdrawn, or announced less attractively."""

    withdraw: bool = True
    multi_exit_disc: int | None = None
    prepend: int = 0
    communities: tuple[str, ...] = ()


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """``[[services]]``: prefixes announced while their checks pass; times in s."""

    name: str
    prefixes: tuple[Prefix, ...]
    checks: tuple[Check, ...] = ()
    peers: tuple[str, ...] = ()  # empty: all
    multi_exit_disc: int | None = None
    interval: float = 5.0
    fast_interval: float = 1.0
    timeout: float = 2.0
    rise: int = 3
    fall: int = 3
    require_address: bool = False
    manage_address: bool = False
    disable_file: str | None = None
    on_down: Reaction = Reaction()
    on_disabled: Reaction = Reaction()
    on_exit: Reaction = Reaction()


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """``[[hooks]]``: a command, as a list of arguments, to run on events (``hooks.HOOK_EVENTS``); ``timeout`` in s."""

    on: tuple[str, ...]
    command: tuple[str, ...]
    timeout: float = 10.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration. ``poll_interval`` in s, before jitter.

    ``warnings`` are notes for the operator, ``files`` what was read (paths, the main file first); neither is
    part of what the daemon is configured to do.
    """

    router_id: str
    default_as: int
    bgp_socket: tuple[Listen, ...] = (Listen("::", DEFAULT_BGP_PORT),)
    api_socket: tuple[ApiListen, ...] = (UnixListen(DEFAULT_API_SOCKET),)
    poll_interval: float = 5.0
    cluster_id: str | None = None  # RFC 4456 §7; None: the router id
    api: ApiConfig = ApiConfig()
    log: LogConfig = LogConfig()
    bfd: BfdGlobal = BfdGlobal()
    peers: tuple[PeerConfig, ...] = ()
    static_routes: tuple[StaticRoute, ...] = ()
    services: tuple[Service, ...] = ()
    hooks: tuple[Hook, ...] = ()
    policies: dict[str, Policy] = {}
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def peer(self, peer: PeerId) -> PeerConfig | None:
        """The peer, or the network, of that canonical id."""
        return next((entry for entry in self.peers if entry.id == peer), None)
