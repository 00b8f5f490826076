"""What one peer should have against what it was sent: the UPDATEs that make the difference (RFC 4271 §9.2, RFC 7911).

A prefix goes through three stages: *marked* (something about it may have changed), *staged* (looked up: it is to be
announced, under these attributes) and *sent*. Looking up happens in slices, so that a full table does not hold the main
loop. Nothing is announced before all that was marked has been looked up, which gives full messages, and lets every
withdrawal go first: it never waits behind announcements, and the last state wins.

With ADD-PATH a mark is for all paths of a prefix, and each path is staged and sent for itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import TypeAlias

from bgpbfd.core import SAFI_FLOW, Family, Prefix
from bgpbfd.rib.adj_out import FamilyOut, Group, take
from bgpbfd.rib.export import ExportContext
from bgpbfd.rib.exporter import Explainer, Exporter, Shared
from bgpbfd.rib.select import PeerInfo
from bgpbfd.wire import update_out
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update import UpdateContext

Wanted: TypeAlias = Callable[[Family, bytes], PathAttributes | str | None]
"""What the peer should have of (family, NLRI): attributes as they go out, None for nothing, a text for a route that is
wanted and cannot be sent, saying why."""
Candidates: TypeAlias = Callable[[Family], Iterable[bytes]]
"""Every NLRI of the family for which ``Wanted`` might answer with more than None."""
WantedPaths: TypeAlias = Callable[[Family, bytes], Iterable[tuple[int, PathAttributes | str]]]
"""``Wanted`` for a family with ADD-PATH: every path that the peer should have, each under an identifier of its own that
stays with it as long as it is wanted, best first."""

Initial: TypeAlias = Callable[[Family], tuple[Iterable[tuple[PathAttributes, list[bytes]]], Iterable[bytes]]]
"""``Candidates``, where what ``Wanted`` would answer is known of many at once: those, by the attributes that they leave
with, and what is left. An NLRI may be in both parts, if it leaves with the same attributes."""

SLICE = 1024
"""Prefixes looked up in one turn (paths, with ADD-PATH), a few ms."""
FLOW_COST = 32
"""A flow specification counts for so many: whether a learned one is feasible takes many look-ups."""
_DOES_NOT_FIT = "does not fit into one message with its attributes (RFC 4271 §9.2)"
_NOT_UP = "the session is not up"


class Announcer:
    """One peer's Adj-RIB-Out, as the difference between what is wanted and what was sent.

    Without ``wanted_paths`` a family with ADD-PATH is sent what ``wanted`` says, as path 1. ``initial`` makes the
    first announcement of a session a short one, where it is given; what it does is what ``candidates`` would.
    ``refused_by_size`` counts the times that a route was held back because it fits into no message.
    """

    def __init__(
        self,
        wanted: Wanted,
        candidates: Candidates,
        wanted_paths: WantedPaths | None = None,
        initial: Initial | None = None,
    ) -> None:
        self._wanted = wanted
        self._candidates = candidates
        self._initial = initial
        self._wanted_paths = self._only_path if wanted_paths is None else wanted_paths
        self._context: UpdateContext | None = None
        self._exporter: Exporter | None = None
        self._shared: Shared = {}  # the exporter's, looked into at every prefix
        self._families: dict[Family, FamilyOut] = {}
        self._groups: deque[Group] = deque()
        self._by_value: dict[tuple[Family, PathAttributes], Group] = {}
        self.refused_by_size = 0

    def _only_path(self, family: Family, nlri: bytes) -> list[tuple[int, PathAttributes | str]]:
        result = self._wanted(family, nlri)
        return [] if result is None else [(1, result)]

    # -- the session ---------------------------------------------------------------------------------------

    def session_up(
        self, context: UpdateContext, export: ExportContext, end_of_rib: bool, hold_end_of_rib: bool = False
    ) -> None:
        """A new session: nothing has been sent, everything wanted is to be. ``context`` says where ADD-PATH is used.

        ``end_of_rib``: mark the end of the initial set of each negotiated family (RFC 4724 §2). ``hold_end_of_rib``:
        not before ``release_end_of_rib``, as we have restarted and more is to come (§4.1); routes go out meanwhile.
        """
        self.session_down()
        self._context = context
        self._set_exporter(Exporter(export))
        self._families = {
            family: FamilyOut(
                family, add_path=family in context.add_path_send, end_of_rib=end_of_rib, held=hold_end_of_rib
            )
            for family in sorted(context.families)
        }
        for family, out in self._families.items():
            if self._initial is None or out.paths is not None:
                out.mark_all(self._candidates(family))
            else:
                runs, others = self._initial(family)
                out.begin(runs, others)

    def session_down(self) -> None:
        """Forget what was sent: the peer has dropped it."""
        self._context = None
        self._set_exporter(None)
        self._families = {}
        self._groups.clear()
        self._by_value.clear()

    def release_end_of_rib(self) -> None:
        """What was held back of End-of-RIB may go, behind all that is marked by now."""
        for out in self._families.values():
            out.held = False

    def change_export(self, export: ExportContext) -> None:
        """Routes leave in another way from now on: everything is compared with what was sent."""
        if self._context is not None:
            self._set_exporter(Exporter(export))
            self.mark_all()

    def _set_exporter(self, exporter: Exporter | None) -> None:
        self._exporter = exporter
        self._shared = {} if exporter is None else exporter.shared

    def exported(
        self,
        attributes: PathAttributes,
        learned_from: PeerInfo | None,
        family: Family,
        nlri: bytes,
        source: str,
    ) -> PathAttributes | str:
        """``export`` for this session, worked out once for attributes that many routes share.

        For use by ``wanted`` and ``wanted_paths``. Only while the session is up; "the session is not up" otherwise.
        """
        hit = self._shared.get(id(attributes))
        if hit is not None and hit[2] is learned_from and hit[3] is family and hit[4] == source:
            return hit[0]
        if self._exporter is None:
            return _NOT_UP
        return self._exporter.work_out(attributes, learned_from, family, nlri, source)

    def exported_alike(
        self, attributes: PathAttributes, family: Family, nlri: list[bytes], source: str
    ) -> PathAttributes | None:
        """``exported`` for routes of ours that share these attributes, if it is the same for all of them and lets them
        out.
        """
        result = self.exported(attributes, None, family, nlri[0], source)
        alike = len(nlri) == 1 or id(attributes) in self._shared  # else a policy asks for the prefix
        return None if isinstance(result, str) or not alike else result

    def exported_flow(
        self, attributes: PathAttributes, learned_from: PeerInfo, family: Family, nlri: bytes
    ) -> PathAttributes | str:
        """``exported`` for a learned flow specification that was found feasible (RFC 8955 §6); others are refused."""
        return _NOT_UP if self._exporter is None else self._exporter.flow(attributes, learned_from, family, nlri)

    # -- changes -------------------------------------------------------------------------------------------

    def mark(self, family: Family, nlri: bytes) -> None:
        """Something about this prefix may have changed; what is wanted is looked up later."""
        out = self._families.get(family)
        if out is not None:  # else: no session, or the family is not negotiated; ``reason`` says so
            out.mark(nlri)

    def mark_all(self) -> None:
        """Everything may have changed."""
        for family, out in self._families.items():
            out.mark_all(self._candidates(family))

    def resend(self, family: Family, enhanced: bool = False) -> None:
        """The peer asked for everything again (RFC 2918 §4).

        ``enhanced``, when both offered it: between BoRR and EoRR, and not before the initial End-of-RIB (RFC 7313 §4).
        A request during a refresh makes another one follow. A family that was not negotiated is ignored (RFC 2918 §4).
        """
        out = self._families.get(family)
        if out is not None:
            out.again = True
            out.enhanced = enhanced

    # -- output --------------------------------------------------------------------------------------------

    @property
    def has_pending(self) -> bool:
        return any(out.pending for out in self._families.values())

    def next_batch(self, limit: int = 25) -> list[bytes]:
        """Up to ``limit`` whole messages: UPDATEs, and the ROUTE-REFRESHes that frame a refresh (RFC 7313).

        Empty while ``has_pending`` says that one turn of looking up was spent and another is due: call again later.
        """
        context = self._context
        if context is None:
            return []
        batch: list[bytes] = []
        for out in self._families.values():
            if len(batch) < limit:
                out.begin_refresh(batch)
        looked_up = self._look_up()
        for out in self._families.values():
            out.send_withdrawals(context, batch, limit)
        if looked_up and not any(out.withdraw for out in self._families.values()):
            while self._groups and len(batch) < limit:
                self._announce(self._groups[0], context, batch, limit)
            for out in self._families.values():
                if len(batch) < limit and out.runs:
                    out.send_runs(context, batch, limit)
            for out in self._families.values():
                if len(batch) < limit and out.idle:
                    out.finish(batch)
        return batch

    def _look_up(self) -> bool:
        """Work off a slice of what is marked; whether nothing marked is left."""
        budget = SLICE
        for family, out in self._families.items():
            cost = FLOW_COST if family.safi == SAFI_FLOW else 1
            if out.paths is None:
                chunk = out.take_marked(-(-budget // cost))
                self._settle(out, zip(chunk, map(self._wanted, repeat(family), chunk), strict=False))
                budget -= len(chunk) * cost
            while out.paths is not None and out.marked and budget > 0:
                (nlri,) = out.take_marked(1)
                paths = list(out.paths_of(nlri, self._wanted_paths(family, nlri)))
                self._settle(out, paths)
                budget -= max(1, len(paths)) * cost
            if budget <= 0:
                break
        done = not any(out.marked for out in self._families.values())
        if done:
            for out in self._families.values():
                out.by_id.clear()
        return done

    def _settle(self, out: FamilyOut, items: Iterable[tuple[bytes, PathAttributes | str | None]]) -> None:
        """From what is wanted of each key to what is to be done about it."""
        sent, staged, refused, forced = out.sent, out.staged, out.refused, out.forced
        by_id = out.by_id
        for key, attributes in items:
            if refused:
                refused.pop(key, None)
            if staged and (group := staged.pop(key, None)) is not None:
                del group.keys[key]
            if attributes is None or isinstance(attributes, str):
                if attributes is not None:
                    refused[key] = attributes
                if key in sent:
                    out.withdraw[key] = None
                continue
            if out.withdraw:
                out.withdraw.pop(key, None)
            if sent and (before := sent.get(key)) is not None:
                unchanged = before is attributes or before == attributes
                if unchanged and key not in forced:
                    continue
            hit = by_id.get(id(attributes))
            group = self._group(out, attributes) if hit is None else hit[1]
            group.keys[key] = None
            staged[key] = group

    def _group(self, out: FamilyOut, attributes: PathAttributes) -> Group:
        group = self._by_value.get((out.family, attributes))
        if group is None:
            group = Group(out.family, attributes)
            self._by_value[out.family, attributes] = group
            self._groups.append(group)
        # The entry holds the attributes, so that their id stays theirs.
        out.by_id[id(attributes)] = (attributes, group)
        return group

    def _announce(self, group: Group, context: UpdateContext, batch: list[bytes], limit: int) -> None:
        """Send of the first group what the batch has room for; drop the group when it is empty."""
        out = self._families[group.family]
        while group.keys and len(batch) < limit:
            chunk = take(group, context)
            try:
                encoded = update_out.encode_announce(group.family, group.attributes, chunk, context)
            except ValueError:
                encoded = []
            batch.extend(encoded)
            for key in chunk:
                del out.staged[key]
            if encoded:
                out.sent.update(dict.fromkeys(chunk, group.attributes))
            else:
                self._hold_back(out, chunk)
            if out.forced:
                out.forced.difference_update(chunk)
        if not group.keys:
            self._groups.popleft()
            del self._by_value[group.family, group.attributes]

    def _hold_back(self, out: FamilyOut, chunk: list[bytes]) -> None:
        # RFC 4271 §9.2: MUST NOT be advertised, and what was advertised before MUST be withdrawn.
        for key in chunk:
            self.refused_by_size += 1
            out.refused[key] = _DOES_NOT_FIT
            if key in out.sent:
                out.withdraw[key] = None

    # -- questions -----------------------------------------------------------------------------------------

    def sent_count(self, family: Family | None = None) -> int:
        """Routes that the peer has; with ADD-PATH every path is one."""
        return sum(len(out.sent) for key, out in self._families.items() if family is None or key == family)

    def sent(self) -> Iterator[tuple[Family, bytes, PathAttributes, int | None]]:
        """What the peer has, attributes as they were sent, with the path identifier where there is one.

        Nothing must change while it runs.
        """
        for family, out in self._families.items():
            for key, attributes in out.sent.items():
                nlri, path_id = out.split(key)
                yield family, nlri, attributes, path_id

    def sent_attributes(self, family: Family, nlri: bytes) -> PathAttributes | None:
        """How the peer has this prefix (with ADD-PATH: the first of its paths), None when it has not."""
        out = self._families.get(family)
        if out is None or out.paths is None:
            return None if out is None else out.sent.get(nlri)
        return next((out.sent[key] for key in out.keys(nlri) if key in out.sent), None)

    def reason(self, prefix: Prefix) -> str | None:
        """Why a wanted route is not sent; None when it is sent, about to be, or not wanted.

        With ADD-PATH: why none of its paths is.
        """
        if self._context is None:
            return _NOT_UP
        out = self._families.get(prefix.family)
        if out is None:
            return f"{prefix.family} was not negotiated with this peer"
        reasons = [out.refused.get(key) for key in out.keys(prefix.nlri)]
        return None if not reasons or None in reasons else reasons[0]

    def refused(self) -> Iterator[tuple[Family, bytes, str, int | None]]:
        """Every wanted route that is not sent, and why, with the path identifier where there is one."""
        for family, out in self._families.items():
            for key, reason in out.refused.items():
                nlri, path_id = out.split(key)
                yield family, nlri, reason, path_id

    def why(self, family: Family, nlri: bytes, path_id: int | None = None) -> str | None:
        """What the export policy says of this route, let out or not; None where there is nothing for it to say.

        Asked of the policy anew: what it says is kept nowhere. ``path_id``: of which path, with ADD-PATH; None: the
        first.
        """
        exporter, out = self._exporter, self._families.get(family)
        if exporter is None or out is None:
            return None
        explainer = Explainer(exporter.context)
        self._set_exporter(explainer)
        try:
            if out.paths is None:
                return explainer.why(self._wanted(family, nlri))
            for found, result in self._wanted_paths(family, nlri):
                if path_id in {None, found}:
                    return explainer.why(result)
            return None
        finally:
            self._set_exporter(exporter)
