"""What was read, and where it stood: what the rules across keys are given to place their faults."""

from __future__ import annotations

from dataclasses import dataclass, field

from bgpbfd.config.flows import FlowSource
from bgpbfd.config.model import BfdProfile, BfdSettings, BfdStandalone, PeerConfig
from bgpbfd.config.routes import RouteSource


@dataclass(slots=True)
class BfdDraft:
    """Keys of one BFD table. ``path`` is the table's, ``profile_path`` that of the key that names its profile.

    ``own``: the keys that stand in the table itself. ``merged``: with those of ``profile``, before multihop and
    minimum_ttl are filled in as ``settings`` has them. Not ``sound``: a value stands in for a fault.
    """

    path: str
    profile_path: str
    own: frozenset[str]
    profile: BfdProfile
    merged: BfdProfile
    settings: BfdSettings
    sound: bool = True

    def from_profile(self, key: str) -> bool:
        """Whether the profile asks for something here."""
        return key not in self.own and bool(getattr(self.profile, key))

    def place(self, *keys: str) -> str:
        """Where the first of ``keys`` stands that does; the table itself where none does."""
        for key in keys:
            if key in self.own:
                return f"{self.path}.{key}"
        return self.profile_path if any(self.from_profile(key) for key in keys) else self.path


@dataclass(slots=True)
class SessionDraft:
    """A table of ``[[bfd.sessions]]``."""

    path: str
    session: BfdStandalone
    keys: BfdDraft


@dataclass(slots=True)
class BfdDrafts:
    """The parts of ``[bfd]``."""

    profiles: list[BfdDraft] = field(default_factory=list)
    sessions: list[SessionDraft] = field(default_factory=list)
    unsolicited: BfdDraft | None = None


@dataclass(slots=True)
class PeerDraft:
    """A peer as read, and where its parts stand; ``as_known`` is False where an AS number stands in for a fault."""

    path: str
    peer: PeerConfig
    sources: list[RouteSource] = field(default_factory=list)
    flows: list[FlowSource] = field(default_factory=list)
    bfd: BfdDraft | None = None
    as_known: bool = True
