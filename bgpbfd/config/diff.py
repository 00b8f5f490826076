"""What lies between two configurations, as typed changes with their cost: shown by ``plan``, applied by a reload."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import msgspec

from bgpbfd.config.model import (
    Announced,
    BfdProfile,
    BfdSettings,
    Config,
    GracefulRestart,
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

    A session reset is not made by the change: such a key is in force from the peer's next session on.
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

_TIMERS = ("transmit_interval_ms", "receive_interval_ms", "detect_multiplier")
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
    """BFD of a peer switched on (``old`` None), off (``new`` None), or to another mode."""

    peer: PeerId
    old: BfdSettings | None
    new: BfdSettings | None

    @property
    def path(self) -> str:
        return f"peers[{self.peer}].bfd"

    @property
    def impact(self) -> Impact:
        return Impact.HITLESS if self.old is None or self.new is None else Impact.SESSION_RESET

    @property
    def text(self) -> str:
        if self.old is None:
            return "switched on"
        return "switched off" if self.new is None else f"mode {self.old.mode} → {self.new.mode}"


@dataclass(slots=True, frozen=True)
class BfdTimersChanged:
    """Settings of a BFD session that stays up."""

    peer: PeerId
    old: BfdSettings
    new: BfdSettings

    @property
    def path(self) -> str:
        return f"peers[{self.peer}].bfd"

    @property
    def keys(self) -> tuple[str, ...]:
        return _changed_keys(self.old, self.new)

    @property
    def impact(self) -> Impact:
        return Impact.BFD_POLL if any(key in _TIMERS for key in self.keys) else Impact.HITLESS

    @property
    def text(self) -> str:
        return ", ".join(
            f"{key} {_shown(getattr(self.old, key))} → {_shown(getattr(self.new, key))}" for key in self.keys
        )


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
    """A key outside peers and routes; ``key`` as in ``bfd.bind``, ``policies.NAME`` of one policy.

    Peers that inherit it, or use another policy than before, have their own changes.
    """

    key: str
    old: object
    new: object

    @property
    def path(self) -> str:
        return self.key

    @property
    def impact(self) -> Impact:
        policy_stays = isinstance(self.old, Policy) and isinstance(self.new, Policy)
        return Impact.SOFT if policy_stays or self.key == "cluster_id" else Impact.HITLESS

    @property
    def text(self) -> str:
        return _difference(self.old, self.new)


Change: TypeAlias = (
    PeerAdded | PeerRemoved | PeerChanged | BfdChanged | BfdTimersChanged | RoutesChanged | GlobalChanged
)


def diff(old: Config, new: Config) -> list[Change]:
    """The changes from ``old`` to ``new``: global keys, removed peers, added ones, then what changed of the others.

    ``warnings`` and ``files`` do not count, nor does the order of peers and routes.
    """
    changes: list[Change] = [*_globals(old, new)]
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
    return PeerChanged(wanted.id, keys, in_force, wanted).reset_keys


def _globals(old: Config, new: Config) -> Iterable[GlobalChanged]:
    for key in ("router_id", "default_as", "bgp_socket", "api_socket", "poll_interval", "cluster_id"):
        if getattr(old, key) != getattr(new, key):
            yield GlobalChanged(key, getattr(old, key), getattr(new, key))
    for section in ("api", "log", "bfd"):
        was, now = getattr(old, section), getattr(new, section)
        for key in _changed_keys(was, now):
            yield GlobalChanged(f"{section}.{key}", getattr(was, key), getattr(now, key))
    for key in ("services", "hooks"):
        if getattr(old, key) != getattr(new, key):
            yield GlobalChanged(key, getattr(old, key), getattr(new, key))
    for name in dict.fromkeys((*old.policies, *new.policies)):
        before, after = old.policies.get(name), new.policies.get(name)
        if before != after:
            yield GlobalChanged(f"policies.{key_text(name)}", before, after)


def _peer(old: PeerConfig, new: PeerConfig) -> Iterable[Change]:
    keys = tuple(key for key in _changed_keys(old, new) if key not in _APART)
    if keys:
        yield PeerChanged(new.id, keys, old, new)
    if old.bfd != new.bfd:
        if old.bfd is None or new.bfd is None or old.bfd.mode != new.bfd.mode:
            yield BfdChanged(new.id, old.bfd, new.bfd)
        else:
            yield BfdTimersChanged(new.id, old.bfd, new.bfd)
    yield from _routes(new.id, "static_routes", old.static_routes, new.static_routes)
    yield from _routes(new.id, "static_flows", old.static_flows, new.static_flows)


def _routes(
    peer: PeerId | None, key: str, old: Sequence[Announced], new: Sequence[Announced]
) -> Iterable[RoutesChanged]:
    if old == new:
        return
    before: dict[Prefix, Announced] = {route.prefix: route for route in old}
    after: dict[Prefix, Announced] = {route.prefix: route for route in new}
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _named(routes: tuple[Announced, ...]) -> str:
    joint = "; " if any(isinstance(route, StaticFlow) for route in routes) else ", "  # rules have commas of their own
    named = joint.join(nlri_text(route.prefix) for route in routes[:MAX_NAMED])
    return named if len(routes) <= MAX_NAMED else f"{named} and {len(routes) - MAX_NAMED} more"


def _difference(old: object, new: object) -> str:
    """What is long or secret is not repeated."""
    if isinstance(old, Secret | Policy) or isinstance(new, Secret | Policy):
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
        case BfdProfile():
            return f"{value.transmit_interval_ms}/{value.receive_interval_ms} ms × {value.detect_multiplier}"
        case GracefulRestart() | MaxPrefixes():
            return _shown({key: item for key, item in msgspec.structs.asdict(value).items() if item is not None})
        case dict():
            return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
        case _:
            return str(value)
