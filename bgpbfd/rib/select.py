"""Best path selection (RFC 4271 §9.1, RFC 4456 §9, RFC 5065 §5.3).

The steps eliminate: each keeps those paths of the remaining ones that are best by its rule, so that the outcome does
not depend on the order of arrival (RFC 4271 §9.1.2.2 demands this of MED above all). The word of the step that left one
path alone is the reason that people are shown.

Of the RFC's steps, IGP cost has no meaning here: an announcer has no IGP, all next hops are equally far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bgpbfd.core import Instant, PeerId
from bgpbfd.policy.policy import Policy
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.iana import BgpRole, SegmentType

DEFAULT_LOCAL_PREF = 100


@dataclass(slots=True, frozen=True)
class PeerInfo:
    """What the RIB has to know of the session that a path came from.

    ``router_id`` is the peer's, ``local_router_id`` ours for this session (our cluster id too, RFC 4456 §7); both as
    unsigned 32-bit numbers. ``address`` is the peer's packed address, with the interface's index in ``scope_id`` where
    it is link-local; ``local_addresses`` are all of this host's, packed.

    ``policy`` is the import policy; ``names`` what policies may call the peer: id, description, network. ``role`` is
    ours towards it (RFC 9234 §4); ``cluster_id`` None: ``local_router_id`` (RFC 4456 §7).
    """

    external: bool
    remote_asn: int
    local_asn: int
    router_id: int
    local_router_id: int
    address: bytes
    local_addresses: frozenset[bytes] = frozenset()
    scope_id: int = 0
    policy: Policy | None = None
    names: frozenset[str] = frozenset()
    role: BgpRole | None = None
    route_reflector_client: bool = False
    cluster_id: int | None = None

    @property
    def eligible(self) -> bool:
        """RFC 8212 §2: without an import policy, nothing that an external peer taught takes part in the decision."""
        return not self.external or self.policy is not None


class Path:
    """One way to reach all the prefixes that one UPDATE announced with it; shared by them and never changed.

    ``reason`` is None for a usable path, else why RFC 4271 §9.1.2 keeps it out of the decision.
    """

    __slots__ = ("_rank", "attributes", "info", "peer", "reason", "received_at")

    def __init__(
        self, peer: PeerId, info: PeerInfo, attributes: PathAttributes, received_at: Instant, reason: str | None
    ) -> None:
        self.peer = peer
        self.info = info
        self.attributes = attributes
        self.received_at = received_at
        self.reason = reason
        self._rank: tuple[int, int, int] | None = None

    def rank(self) -> tuple[int, int, int]:
        """The steps that look at this path alone, lowest first; kept, as a whole UPDATE's prefixes ask for it."""
        if self._rank is None:
            attributes = self.attributes
            preference = DEFAULT_LOCAL_PREF if attributes.local_pref is None else attributes.local_pref
            self._rank = (-preference, as_path_length(attributes), attributes.origin)
        return self._rank


def as_path_length(attributes: PathAttributes) -> int:
    """RFC 4271 §9.1.2.2 a: a set counts 1; RFC 5065 §5.3: confederation segments count 0."""
    length = 0
    for kind, asns in attributes.as_path:
        if kind == SegmentType.AS_SEQUENCE:
            length += len(asns)
        elif kind == SegmentType.AS_SET:
            length += 1
    return length


def neighbor_asn(path: Path) -> int | None:
    """The AS whose MEDs compare with each other, RFC 4271 §9.1.2.2 c: the leftmost of the AS_PATH.

    A path that began inside this AS has our own; one that begins with a set has none (None compares with None only).
    """
    for kind, asns in path.attributes.as_path:
        if kind == SegmentType.AS_SEQUENCE and asns:
            return asns[0]
        if kind == SegmentType.AS_SET:
            return None
    return path.info.local_asn


def _router_id(path: Path) -> int:
    # RFC 4456 §9: ORIGINATOR_ID stands in for the router id.
    originator = path.attributes.originator_id
    return path.info.router_id if originator is None else int.from_bytes(originator)


def _lowest_med(paths: Sequence[Path]) -> list[Path]:
    lowest: dict[int | None, int] = {}
    for path in paths:
        neighbor, med = neighbor_asn(path), path.attributes.med or 0  # §9.1.2.2 c: absent is the lowest, 0
        if neighbor not in lowest or med < lowest[neighbor]:
            lowest[neighbor] = med
    return [path for path in paths if (path.attributes.med or 0) == lowest[neighbor_asn(path)]]


def _lowest(rank: Callable[[Path], int]) -> Callable[[Sequence[Path]], list[Path]]:
    def keep(paths: Sequence[Path]) -> list[Path]:
        ranks = [rank(path) for path in paths]
        lowest = min(ranks)
        return [path for path, value in zip(paths, ranks, strict=True) if value == lowest]

    return keep


_RANKS = ("local-pref", "as-path-length", "origin")  # the parts of Path.rank()
_STEPS: tuple[tuple[str, Callable[[Sequence[Path]], list[Path]]], ...] = (
    ("med", _lowest_med),
    ("external", _lowest(lambda path: 0 if path.info.external else 1)),
    ("router-id", _lowest(_router_id)),
    ("cluster-list-length", _lowest(lambda path: len(path.attributes.cluster_list))),
)
ONLY_PATH = "only-path"
LOWEST_ADDRESS = "neighbor-address"


def best_path(paths: Sequence[Path]) -> tuple[Path, str] | None:
    """The best of ``paths`` (unusable ones do not take part) and the word of the step that decided.

    Words: only-path, local-pref, as-path-length, origin, med, external, router-id, cluster-list-length,
    neighbor-address.
    """
    remaining = [path for path in paths if path.reason is None]
    if not remaining:
        return None
    if len(remaining) == 1:
        return remaining[0], ONLY_PATH
    ranks = [path.rank() for path in remaining]
    lowest = min(ranks)
    if ranks.count(lowest) == 1:
        for number, word in enumerate(_RANKS, 1):
            if sum(rank[:number] == lowest[:number] for rank in ranks) == 1:
                return remaining[ranks.index(lowest)], word
    remaining = [path for path, rank in zip(remaining, ranks, strict=True) if rank == lowest]
    for word, keep in _STEPS:
        remaining = keep(remaining)
        if len(remaining) == 1:
            return remaining[0], word
    # The peer's name breaks the tie of two link-local addresses that are alike on different interfaces.
    return min(remaining, key=lambda path: (len(path.info.address), path.info.address, path.peer)), LOWEST_ADDRESS
