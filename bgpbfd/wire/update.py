"""UPDATE messages both ways (RFC 4271 §4.3, RFC 4760, RFC 7606)."""

from __future__ import annotations

from dataclasses import dataclass, field

from bgpbfd.core import Family
from bgpbfd.wire.attributes import PathAttributes


@dataclass(slots=True, frozen=True)
class Reach:
    """Prefixes of one family announced with one set of attributes; ``nlri`` are wire octets (length, masked address)."""

    family: Family
    attributes: PathAttributes
    nlri: list[bytes]


@dataclass(slots=True, frozen=True)
class Unreach:
    family: Family
    nlri: list[bytes]


@dataclass(slots=True, frozen=True)
class UpdateFault:
    """A malformed attribute that did not end the session. ``treatment``: treat-as-withdraw|attribute-discard."""

    treatment: str
    attribute: int | None
    reason: str
    data: bytes


@dataclass(slots=True, frozen=True)
class Update:
    """A decoded UPDATE, RFC 7606's verdict already applied (a treat-as-withdraw has moved to ``withdrawn``)."""

    announced: list[Reach] = field(default_factory=list)
    withdrawn: list[Unreach] = field(default_factory=list)
    end_of_rib: Family | None = None
    faults: list[UpdateFault] = field(default_factory=list)


@dataclass(slots=True)
class UpdateContext:
    """What of the session changes how its UPDATEs are read and written.

    ``max_length``: the longest message we may send (4096, or 65535 with RFC 8654).
    """

    asn4: bool
    external: bool
    families: frozenset[Family]
    remote_asn: int
    local_asn: int
    max_length: int = 4096
    cache: dict[bytes, object] = field(default_factory=dict)
