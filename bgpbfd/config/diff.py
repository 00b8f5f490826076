"""What lies between two configurations, as typed changes with their cost: shown by ``plan``, applied by a reload."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import msgspec

from bgpbfd.config.model import (
    Announced,
    BfdAuth,
    BfdProfile,
    BfdSettings,
    BfdStandalone,
    BfdUnsolicited,
    Config,
    GracefulRestart,
    Hook,
    MaxPrefixes,
    PeerConfig,
    Secret,
    StaticFlow,
)
from bgpbfd.config.values import key_text
from bgpbfd.core import Family, PeerId, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.wire.flowspec_text import nlri_text

MAX_NAMED = 5


class Impact(IntEnum):
    """What a change does to what runs, least first; the text is ``plan``'s word.

    A session reset of BGP is not made by the change: such a key is in force from the peer's next session on. That of
    BFD is: the key is in force at once.
    """

    HITLESS = 0
    BFD_POLL = 1  # new timers by poll sequence, RFC 5880 §6.8.3
    SOFT = 2  # routes are sent or judged anew, the session stays
    SESSION_RESET = 3

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


PEER_IMPACTS: dict[str, Impact] = {
    "description": Impact.HITLESS,
    "passive": Impact.HITLESS,
    "dest_port": Impact.HITLESS,  # of the next dial
    "max_prefixes": Impact.HITLESS,
    "max_neighbors": Impact.HITLESS,
    "md5_password": Impact.HITLESS,  # of the live connection: both ends have the hold time to change it
    "md5_password_file": Impact.HITLESS,
    "advertise_sources": Impact.SOFT,
    "next_hop_self": Impact.SOFT,
    "import_policy": Impact.SOFT,
    "export_policy": Impact.SOFT,
    "route_reflector_client": Impact.SOFT,
    "graceful_shutdown": Impact.SOFT,
    "enabled": Impact.SESSION_RESET,
}
"""Impacts by key; what is not here goes into the OPEN or the TCP connection and waits for a session."""

BFD_IMPACTS: dict[str, Impact] = {
    "transmit_interval_ms": Impact.BFD_POLL,
    "receive_interval_ms": Impact.BFD_POLL,
    "detect_multiplier": Impact.BFD_POLL,
    # another path is another session
    "local": Impact.SESSION_RESET,
    "interface": Impact.SESSION_RESET,
    "multihop": Impact.SESSION_RESET,
}
"""Impacts by key of a BFD session; what is not here is taken up as it runs. ``auth`` depends on the keys."""

_APART = frozenset({"id", "bfd", "static_routes", "static_flows"})


@dataclass(slots=True, frozen=True)
class PeerAdded:
    """With its routes and its BFD: no further change is listed for it."""

    peer: PeerConfig

    @property
    def path(self) -> str:
        return f"peers[{self.peer.id}]"

    @property
    def impact(self) -> Impact:
        return Impact.HITLESS

    @property
    def text(self) -> str:
        flows = _count(len(self.peer.static_flows), "static flow")
        return f"new, AS {self.peer.remote_as}, {_count(len(self.peer.static_routes), 'static route')}" + (
            f", {flows}" if self.peer.static_flows else ""
        )


@dataclass(slots=True, frozen=True)
class PeerRemoved:
    """Its session ends, its routes go."""

    peer: PeerConfig

    @property
    def path(self) -> str:
        return f"peers[{self.peer.id}]"

    @property
    def impact(self) -> Impact:
        return Impact.SESSION_RESET if self.peer.enabled else Impact.HITLESS

    @property
    def text(self) -> str:
        return "removed"


@dataclass(slots=True, frozen=True)
class PeerChanged:
    """Keys of one peer, its routes and its BFD excepted."""

    peer: PeerId
    keys: tuple[str, ...]
    old: PeerConfig
    new: PeerConfig

    @property
    def path(self) -> str:
        return f"peers[{self.peer}]"

    @property
    def impact(self) -> Impact:
        if not self.old.enabled:  # there is no session to disturb
            return Impact.HITLESS
        return max(map(self._impact_of, self.keys))

    @property
    def reset_keys(self) -> tuple[str, ...]:
        """The keys that are in force from the next session on; ``enabled`` acts at once and is not among them."""
        waiting = (key for key in self.keys if key != "enabled")
        return tuple(key for key in waiting if self._impact_of(key) is Impact.SESSION_RESET)

    @property
    def text(self) -> str:
        return ", ".join(f"{key} {_difference(getattr(self.old, key), getattr(self.new, key))}" for key in self.keys)

    def _impact_of(self, key: str) -> Impact:
        if key == "graceful_restart":
            was, now = self.old.graceful_restart, self.new.graceful_restart
            if msgspec.structs.replace(was, on_stop=now.on_stop) == now:  # the OPEN does not say it
                return Impact.HITLESS
        return PEER_IMPACTS.get(key, Impact.SESSION_RESET)


@dataclass(slots=True, frozen=True)
class BfdChanged:
    """BFD of a peer switched on (``old`` None) or off (``new`` None)."""

    peer: PeerId
    old: BfdSettings | None
    new: BfdSettings | None

    @property
    def path(self) -> str:
        return f"peers[{self.peer}].bfd"

    @property
    def impact(self) -> Impact:
        return Impact.HITLESS

    @property
    def text(self) -> str:
        return "switched on" if self.old is None else "switched off"


@dataclass(slots=True, frozen=True)
class BfdSettingsChanged:
    """Keys of a peer's BFD; not ``enabled``: the peer is not, so there is no session to disturb."""

    peer: PeerId
    old: BfdSettings
    new: BfdSettings
    enabled: bool = True

    @property
    def path(self) -> str:
        return f"peers[{self.peer}].bfd"

    @property
    def keys(self) -> tuple[str, ...]:
        return _changed_keys(self.old, self.new)

    @property
    def impact(self) -> Impact:
        return _bfd_impact(self.old, self.new) if self.enabled else Impact.HITLESS

    @property
    def text(self) -> str:
        return _bfd_text(self.old, self.new)


@dataclass(slots=True, frozen=True)
class BfdSessionChanged:
    """A stand-alone session: new (``old`` None), removed (``new`` None), or with other keys.

    With another path it is another session, and listed as one change if there is no other one with that neighbor.
    """

    old: BfdStandalone | None
    new: BfdStandalone | None

    @property
    def path(self) -> str:
        session = self.new or self.old
        return f"bfd.sessions[{session.path if session is not None else ''}]"

    @property
    def impact(self) -> Impact:
        return Impact.HITLESS if self.old is None or self.new is None else _bfd_impact(self.old, self.new)

    @property
    def text(self) -> str:
        if self.old is None:
            return "new"
        return "removed" if self.new is None else _bfd_text(self.old, self.new)


@dataclass(slots=True, frozen=True)
class RoutesChanged:
    """Static routes of one peer, or of all (``peer`` None); ``changed`` holds the new ones, ``removed`` the old.

    With ``key`` static_flows, flow specifications.
    """

    peer: PeerId | None
    added: tuple[Announced, ...] = ()
    removed: tuple[Announced, ...] = ()
    changed: tuple[Announced, ...] = ()
    key: str = "static_routes"

    @property
    def path(self) -> str:
        return self.key if self.peer is None else f"peers[{self.peer}].{self.key}"

    @property
    def impact(self) -> Impact:
        return Impact.HITLESS

    @property
    def text(self) -> str:
        parts = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        return "; ".join(f"{word} {_named(routes)}" for word, routes in parts if routes)


@dataclass(slots=True, frozen=True)
class GlobalChanged:
    """A key outside peers and routes; ``key`` as in ``bfd.bind``, ``policies.NAME`` or ``bfd.profiles.NAME`` of one.

    Peers that inherit it, or use another policy than before, have their own changes; so has who uses a profile.
    """

    key: str
    old: object
    new: object

    @property
    def path(self) -> str:
        return self.key

    @property
    def impact(self) -> Impact:
        if isinstance(self.old, BfdUnsolicited) and isinstance(self.new, BfdUnsolicited):
            return _bfd_impact(self.old.settings, self.new.settings)
        policy_stays = isinstance(self.old, Policy) and isinstance(self.new, Policy)
        return Impact.SOFT if policy_stays or self.key == "cluster_id" else Impact.HITLESS

    @property
    def text(self) -> str:
        match self.old, self.new:
            case BfdProfile() as old, BfdProfile() as new:
                return _bfd_text(old, new)
            case BfdUnsolicited() as old, BfdUnsolicited() as new:
                keys = (key for key in _changed_keys(old, new) if key != "settings")
                own = [f"{key} {_difference(getattr(old, key), getattr(new, key))}" for key in keys]
                of_settings = _bfd_text(old.settings, new.settings, apart=("profile",))
                return ", ".join([*own, of_settings] if of_settings else own)
        return _difference(self.old, self.new)


Change: TypeAlias = (
    PeerAdded
    | PeerRemoved
    | PeerChanged
    | BfdChanged
    | BfdSettingsChanged
    | BfdSessionChanged
    | RoutesChanged
    | GlobalChanged
)


def diff(old: Config, new: Config) -> list[Change]:
    """The changes from ``old`` to ``new``: global keys, stand-alone BFD sessions, routes for all, removed peers, added
    ones, then what changed of the others.

    ``warnings`` and ``files`` do not count, nor does the order of peers and routes.
    """
    changes: list[Change] = [*_globals(old, new), *_sessions(old.bfd.sessions, new.bfd.sessions)]
    changes.extend(_routes(None, "static_routes", old.static_routes, new.static_routes))
    before = {peer.id: peer for peer in old.peers}
    after = {peer.id: peer for peer in new.peers}
    changes.extend(PeerRemoved(peer) for identity, peer in before.items() if identity not in after)
    changes.extend(PeerAdded(peer) for identity, peer in after.items() if identity not in before)
    for identity, peer in after.items():
        if identity in before:
            changes.extend(_peer(before[identity], peer))
    return changes


def waiting_keys(in_force: PeerConfig, wanted: PeerConfig) -> tuple[str, ...]:
    """The keys of a peer by which a session that began with ``in_force`` differs from one that would begin now."""
    keys = tuple(key for key in _changed_keys(in_force, wanted) if key not in _APART)
    waiting = PeerChanged(wanted.id, keys, in_force, wanted).reset_keys
    # the OPEN has it, as capability 74
    return waiting if _strict(in_force) == _strict(wanted) else (*waiting, "bfd.mode")


def _strict(peer: PeerConfig) -> bool:
    return peer.bfd is not None and peer.bfd.mode == "strict"


def _globals(old: Config, new: Config) -> Iterable[GlobalChanged]:
    for key in ("router_id", "default_as", "bgp_socket", "api_socket", "poll_interval", "cluster_id"):
        if getattr(old, key) != getattr(new, key):
            yield GlobalChanged(key, getattr(old, key), getattr(new, key))
    for section in ("api", "log", "bfd"):
        was, now = getattr(old, section), getattr(new, section)
        for key in _changed_keys(was, now):
            if f"{section}.{key}" not in {"bfd.profiles", "bfd.sessions"}:
                yield GlobalChanged(f"{section}.{key}", getattr(was, key), getattr(now, key))
    yield from _named_parts("bfd.profiles", old.bfd.profiles, new.bfd.profiles)
    for key in ("services", "hooks"):
        if getattr(old, key) != getattr(new, key):
            yield GlobalChanged(key, getattr(old, key), getattr(new, key))
    yield from _named_parts("policies", old.policies, new.policies)


def _named_parts(section: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterable[GlobalChanged]:
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield GlobalChanged(f"{section}.{key_text(name)}", before, after)


def _sessions(old: Sequence[BfdStandalone], new: Sequence[BfdStandalone]) -> Iterable[BfdSessionChanged]:
    before = {session.path: session for session in old}
    after = {session.path: session for session in new}
    gone = [session for path, session in before.items() if path not in after]
    come = [session for path, session in after.items() if path not in before]
    moved = {session.id: session for session in gone if _only(session, gone) and _only(session, come)}
    for session in gone:
        if session.id not in moved:
            yield BfdSessionChanged(session, None)
    for path, session in after.items():
        was = before.get(path, moved.get(session.id))
        if was != session:
            yield BfdSessionChanged(was, session)


def _only(session: BfdStandalone, among: Iterable[BfdStandalone]) -> bool:
    return sum(other.id == session.id for other in among) == 1


def _peer(old: PeerConfig, new: PeerConfig) -> Iterable[Change]:
    keys = tuple(key for key in _changed_keys(old, new) if key not in _APART)
    if keys:
        yield PeerChanged(new.id, keys, old, new)
    if old.bfd != new.bfd:
        if old.bfd is None or new.bfd is None:
            yield BfdChanged(new.id, old.bfd, new.bfd)
        else:
            yield BfdSettingsChanged(new.id, old.bfd, new.bfd, old.enabled)
    yield from _routes(new.id, "static_routes", old.static_routes, new.static_routes)
    yield from _routes(new.id, "static_flows", old.static_flows, new.static_flows)


def _routes(
    peer: PeerId | None, key: str, old: Sequence[Announced], new: Sequence[Announced]
) -> Iterable[RoutesChanged]:
    # Most are the same objects after a reload (config/patch.py): a hundred thousand of them are not looked at further.
    was, now = set(map(id, old)), set(map(id, new))
    before: dict[Prefix, Announced] = {route.prefix: route for route in old if id(route) not in now}
    after: dict[Prefix, Announced] = {route.prefix: route for route in new if id(route) not in was}
    change = RoutesChanged(
        peer,
        added=tuple(route for prefix, route in after.items() if prefix not in before),
        removed=tuple(route for prefix, route in before.items() if prefix not in after),
        changed=tuple(route for prefix, route in after.items() if prefix in before and before[prefix] != route),
        key=key,
    )
    if change.added or change.removed or change.changed:
        yield change


def _changed_keys(old: object, new: object) -> tuple[str, ...]:
    fields: tuple[str, ...] = getattr(type(new), "__struct_fields__", ())
    return tuple(key for key in fields if getattr(old, key) != getattr(new, key))


def _bfd_impact(old: BfdProfile, new: BfdProfile) -> Impact:
    if old.shutdown:  # AdminDown: there is nothing to disturb
        return Impact.HITLESS
    impacts = [BFD_IMPACTS.get(key, Impact.HITLESS) for key in _changed_keys(old, new) if key != "auth"]
    return max([Impact.HITLESS, *impacts, *([] if _rotates(old, new) else [Impact.SESSION_RESET])])


def _rotates(old: BfdProfile, new: BfdProfile) -> bool:
    """Whether a neighbor that has the keys of before is understood, and understands, until it has those of now.

    So it is if what signed before is still accepted, and what signs now was.
    """
    if not old.auth or not new.auth:
        return old.auth == new.auth
    signed, signs = old.auth[0], new.auth[0]
    return any(signed.same_key(key) for key in new.auth) and any(signs.same_key(key) for key in old.auth)


def _bfd_text(old: BfdProfile, new: BfdProfile, apart: Collection[str] = ()) -> str:
    parts = []
    for key in _changed_keys(old, new):
        if key in apart:
            continue
        was, now = _shown(getattr(old, key)), _shown(getattr(new, key))
        text = f"{key} {was} → {now}" if was != now else f"{key} changed"  # of keys only the names are shown
        if key == "auth" and not _rotates(old, new):
            text += " (at once: the neighbor has to follow within the detection time, or the session goes down)"
        elif key == "mode":
            text += " (offered from the peer's next session on)"
        elif BFD_IMPACTS.get(key) is Impact.SESSION_RESET:
            text += " (another BFD session)"
        parts.append(text)
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _named(routes: tuple[Announced, ...]) -> str:
    joint = "; " if any(isinstance(route, StaticFlow) for route in routes) else ", "  # rules have commas of their own
    named = joint.join(nlri_text(route.prefix) for route in routes[:MAX_NAMED])
    return named if len(routes) <= MAX_NAMED else f"{named} and {len(routes) - MAX_NAMED} more"


def _difference(old: object, new: object) -> str:
    """What is long or secret is not repeated."""
    apart = Secret | Policy | BfdProfile | BfdUnsolicited
    if isinstance(old, apart) or isinstance(new, apart):
        return "added" if old is None else "removed" if new is None else "changed"
    return f"{_shown(old)} → {_shown(new)}"


def _shown(value: object) -> str:
    match value:
        case None:
            return "unset"
        case bool():
            return "true" if value else "false"
        case Family():
            return str(value)
        case tuple():
            return "[" + ", ".join(_shown(item) for item in value) + "]"
        case BfdAuth():
            return f"{value.type} {value.key_id}"
        case Hook():  # its arguments may be secrets
            return f"{value.command[0]} on {' '.join(value.on)}"
        case GracefulRestart() | MaxPrefixes():
            return _shown({key: item for key, item in msgspec.structs.asdict(value).items() if item is not None})
        case dict():
            return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
        case _:
            return str(value)
