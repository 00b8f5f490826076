"""Best path selection (RFC 4271 §9.1, RFC 4456 §9, RFC 5065 §5.3, RFC 7911 §3, RFC 9494 §4.3).

The steps eliminate: each keeps those paths of the remaining ones that are best by its rule, so that the outcome does
not depend on the order of arrival (RFC 4271 §9.1.2.2 demands this of MED above all). The word of the step that left one
path alone is the reason that people are shown.

Of the usual steps two have no meaning here: IGP cost, as an announcer has no IGP and all next hops are equally far, and
AIGP, which no session of ours enables (RFC 7311 §3.3). That a path is stale (RFC 4724, RFC 7313) is no step either: it
competes as before.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

import msgspec

from bgpbfd.core import Instant, PeerId
from bgpbfd.policy.policy import Policy
from bgpbfd.wire.as_path import path_length
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.iana import BgpRole, SegmentType, WellKnownCommunity
from bgpbfd.wire.received import Attributes, read_out

DEFAULT_LOCAL_PREF = 100
LLGR_STALE = int(WellKnownCommunity.LLGR_STALE)  # RFC 9494 §4.3


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
    policy: Policy | None = field(default=None, hash=False)
    names: frozenset[str] = frozenset()
    role: BgpRole | None = None
    route_reflector_client: bool = False
    cluster_id: int | None = None

    @property
    def eligible(self) -> bool:
        """RFC 8212 §2.1: without an import policy an external peer's routes take no part in the decision.

        They are learned and shown all the same, and are never passed on.
        """
        return self.policy is not None or not self.external


# Structs with gc=False: a full table has as many paths as UPDATEs, and a collector that walked them would hold the main
# loop for as long. None of them can be part of a cycle.
class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a path on its way in, where anything did: see ``importing``. ``received``: as it came."""

    received: Attributes
    reason: str | None
    why: str | None


class _Rank(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """For ``Path.rank``: last, behind what those who make paths give."""

    kept_rank: tuple[int, int, int, int] | None = None


class Path(_Rank, eq=False, gc=False):
    """One way to reach all the prefixes that one UPDATE announced with it; shared by them and never changed.

    ``in_force``: the attributes, as octets unless our rules or the import policy changed them. ``outcome``: None where
    rules and policy had nothing to say, which for a full table without policy saves memory. ``epoch`` tells stale
    paths from fresh ones, see ``adj_in``.
    """

    peer: PeerId
    info: PeerInfo
    in_force: Attributes
    received_at: Instant
    outcome: Outcome | None = None
    epoch: int = 0

    @property
    def attributes(self) -> PathAttributes:
        """In force, read out."""
        return read_out(self.in_force)

    @property
    def as_received(self) -> Attributes:
        """The attributes as they came; the same object as those in force where nothing changed them."""
        return self.in_force if self.outcome is None else self.outcome.received

    @property
    def received(self) -> PathAttributes:
        """As they came, read out."""
        return read_out(self.as_received)

    @property
    def reason(self) -> str | None:
        """None for a valid path, else what keeps it out of the decision (RFC 4271 §9.1.2)."""
        return None if self.outcome is None else self.outcome.reason

    @property
    def why(self) -> str | None:
        """What the import policy said; None where it was not asked."""
        return None if self.outcome is None else self.outcome.why

    @property
    def path_id(self) -> int | None:
        """The path identifier, RFC 7911 §3; None where the family came without them."""
        return None

    @property
    def usable(self) -> bool:
        """Whether the path takes part in the decision: it is valid, and its peer is eligible."""
        return (self.outcome is None or self.outcome.reason is None) and self.info.eligible

    def rank(self) -> tuple[int, int, int, int]:
        """The steps that look at this path alone, lowest first; kept, as a whole UPDATE's prefixes ask for it."""
        if self.kept_rank is None:
            attributes = self.attributes
            preference = DEFAULT_LOCAL_PREF if attributes.local_pref is None else attributes.local_pref
            last_resort = LLGR_STALE in attributes.communities
            self.kept_rank = (last_resort, -preference, path_length(attributes.as_path), attributes.origin)
        return self.kept_rank


class PathWithId(Path, eq=False, gc=False):
    """A path of a family that came with ADD-PATH; shared by the prefixes that one UPDATE gave the same identifier."""

    path_id: int | None = None


def neighbor_asn(received: PathAttributes, info: PeerInfo) -> int:
    """The AS whose MEDs compare with each other, RFC 4271 §9.1.2.2 c: the leftmost of the AS_PATH as received.

    Confederation segments are not looked at. A path that begins with a set, or with nothing, came from the peer's AS:
    ours for one that an internal peer originated or aggregated. What a policy prepends does not count.
    """
    for kind, asns in received.as_path:
        if kind == SegmentType.AS_SEQUENCE and asns:
            return asns[0]
        if kind == SegmentType.AS_SET:
            break
    return info.remote_asn if info.external else info.local_asn


def _neighbor(path: Path) -> int:
    return neighbor_asn(path.received, path.info)


def _router_id(path: Path) -> int:
    # RFC 4456 §9: ORIGINATOR_ID stands in for the router id.
    originator = path.attributes.originator_id
    return path.info.router_id if originator is None else int.from_bytes(originator)


def _lowest_med(paths: Sequence[Path]) -> list[Path]:
    lowest: dict[int, int] = {}
    for path in paths:
        neighbor, med = _neighbor(path), _med(path)
        if neighbor not in lowest or med < lowest[neighbor]:
            lowest[neighbor] = med
    return [path for path in paths if _med(path) == lowest[_neighbor(path)]]


def _med(path: Path) -> int:
    return path.attributes.med or 0  # RFC 4271 §9.1.2.2 c: absent is the lowest, 0


def _internal(path: Path) -> int:
    return 0 if path.info.external else 1


def _cluster_list_length(path: Path) -> int:
    return len(path.attributes.cluster_list)  # RFC 4456 §9: absent is 0


def _last(path: Path) -> tuple[int, bytes, PeerId, int]:
    """No two paths are equal in it. The peer's name tells two link-local addresses on different interfaces apart; RFC
    7911 has no rule for the paths of one peer, where the lower path identifier is as good as any.
    """
    address = path.info.address
    return len(address), address, path.peer, -1 if path.path_id is None else path.path_id


def _lowest(rank: Callable[[Path], int]) -> Callable[[Sequence[Path]], list[Path]]:
    def keep(paths: Sequence[Path]) -> list[Path]:
        ranks = [rank(path) for path in paths]
        lowest = min(ranks)
        return [path for path, value in zip(paths, ranks, strict=True) if value == lowest]

    return keep


_RANKS = ("llgr-stale", "local-pref", "as-path-length", "origin")  # the parts of Path.rank()
_STEPS: tuple[tuple[str, Callable[[Sequence[Path]], list[Path]]], ...] = (
    ("med", _lowest_med),
    ("external", _lowest(_internal)),
    ("router-id", _lowest(_router_id)),
    ("cluster-list-length", _lowest(_cluster_list_length)),
)
ONLY_PATH = "only-path"
LOWEST_ADDRESS = "neighbor-address"
LOWEST_PATH_ID = "path-id"


def best_path(paths: Sequence[Path]) -> tuple[Path, str] | None:
    """The best of ``paths`` (unusable ones do not take part) and the word of the step that decided.

    Words: only-path, llgr-stale, local-pref, as-path-length, origin, med, external, router-id, cluster-list-length,
    neighbor-address, path-id.
    """
    remaining = [path for path in paths if path.usable]
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
    chosen = min(remaining, key=_last)
    same_peer = sum(path.peer == chosen.peer and path.info.address == chosen.info.address for path in remaining) > 1
    return chosen, LOWEST_PATH_ID if same_peer else LOWEST_ADDRESS


_Later: TypeAlias = tuple[int, int, int, int, bytes, PeerId, int]


def in_order(paths: Iterable[Path]) -> list[Path]:
    """The usable ones of ``paths``, each the best of itself and those after it.

    MED orders only the paths of one neighbor AS (RFC 4271 §9.1.2.2 c), so there is no sort key for all: of paths equal
    in rank, each neighbor AS's are sorted, and the best of the ASes' first ones is taken again and again.
    """
    ordered: list[Path] = []
    for _, group in groupby(sorted((path for path in paths if path.usable), key=Path.rank), key=Path.rank):
        lanes: dict[int, list[tuple[int, _Later, Path]]] = {}
        for path in group:
            later = (_internal(path), _router_id(path), _cluster_list_length(path), *_last(path))
            lanes.setdefault(_neighbor(path), []).append((_med(path), later, path))
        queue = []
        for number, lane in enumerate(lanes.values()):
            lane.sort(key=lambda entry: entry[:2], reverse=True)
            _, later, path = lane.pop()
            queue.append((later, number, path, lane))
        heapq.heapify(queue)
        while queue:
            _, number, path, lane = queue[0]
            ordered.append(path)
            if lane:
                _, later, following = lane.pop()
                heapq.heapreplace(queue, (later, number, following, lane))
            else:
                heapq.heappop(queue)
    return ordered
