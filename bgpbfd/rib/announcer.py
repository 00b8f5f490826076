"""What one peer should have against what it was sent: the UPDATEs that make the difference (RFC 4271 §9.2).

A prefix goes through three stages: *marked* (something about it may have changed), *staged* (looked up: it is to be
announced, under these attributes) and *sent*. Looking up happens in slices, so that a full table does not hold the main
loop. Nothing is announced before all that was marked has been looked up, which gives full messages, and lets every
withdrawal go first: it never waits behind announcements, and the last state wins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from bgpbfd.core import Family, Prefix
from bgpbfd.rib.export import ExportContext, export
from bgpbfd.rib.select import PeerInfo
from bgpbfd.wire import messages, update
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update import UpdateContext

Wanted: TypeAlias = Callable[[Family, bytes], PathAttributes | str | None]
"""What the peer should have of (family, NLRI): attributes as they go out, None for nothing, a text for a route that is
wanted and cannot be sent, saying why."""
Candidates: TypeAlias = Callable[[Family], Iterable[bytes]]
"""Every NLRI of the family for which ``Wanted`` might answer with more than None."""

SLICE = 1024
"""Prefixes looked up in one turn, a few ms."""
_BORR, _EORR = 1, 2  # RFC 7313 §3.2, Message Subtype
_DOES_NOT_FIT = "does not fit into one message with its attributes (RFC 4271 §9.2)"
_CACHE_LIMIT = 65536


class _Group:
    """Staged prefixes of one family that share their attributes."""

    __slots__ = ("attributes", "family", "nlri", "room")

    def __init__(self, family: Family, attributes: PathAttributes) -> None:
        self.family = family
        self.attributes = attributes
        self.nlri: dict[bytes, None] = {}
        self.room: int | None = None  # octets for NLRI in one message; None until measured


class _Out:
    """One family's state."""

    __slots__ = (
        "again",
        "begun",
        "by_id",
        "end_of_rib",
        "enhanced",
        "forced",
        "marked",
        "refreshing",
        "refused",
        "sent",
        "staged",
        "withdraw",
    )

    def __init__(self, end_of_rib: bool) -> None:
        self.marked: dict[bytes, None] = {}
        self.by_id: dict[int, tuple[PathAttributes, _Group]] = {}  # while looking up: most routes share objects
        self.staged: dict[bytes, _Group] = {}
        self.sent: dict[bytes, PathAttributes] = {}
        self.refused: dict[bytes, str] = {}
        self.withdraw: dict[bytes, None] = {}
        self.end_of_rib = end_of_rib  # still owed
        self.refreshing = False
        self.begun = False  # its BoRR has been sent
        self.enhanced = False
        self.again = False  # asked for while the initial set or another refresh was under way
        self.forced: set[bytes] = set()  # to be sent although equal to what was sent

    @property
    def idle(self) -> bool:
        return not (self.marked or self.staged or self.withdraw)

    @property
    def pending(self) -> bool:
        return not self.idle or self.end_of_rib or self.refreshing or self.again


class Announcer:
    """One peer's Adj-RIB-Out, as the difference between what is wanted and what was sent.

    ``refused_by_size`` counts the times that a route was held back because it fits into no message.
    """

    def __init__(self, wanted: Wanted, candidates: Candidates) -> None:
        self._wanted = wanted
        self._candidates = candidates
        self._context: UpdateContext | None = None
        self._export: ExportContext | None = None
        self._families: dict[Family, _Out] = {}
        self._groups: deque[_Group] = deque()
        self._by_value: dict[tuple[Family, PathAttributes], _Group] = {}
        self._exported: dict[tuple[int, int, Family], tuple[PathAttributes, PeerInfo | None, PathAttributes | str]] = {}
        self._exported_values: dict[tuple[PathAttributes, PeerInfo | None, Family], PathAttributes | str] = {}
        self.refused_by_size = 0

    # -- the session ---------------------------------------------------------------------------------------

    def session_up(self, context: UpdateContext, export: ExportContext, end_of_rib: bool) -> None:
        """A new session: nothing has been sent, everything wanted is to be.

        ``end_of_rib``: mark the end of the initial set of each negotiated family (RFC 4724 §2).
        """
        self.session_down()
        self._context = context
        self._export = export
        self._families = {family: _Out(end_of_rib) for family in sorted(context.families)}
        self.mark_all()

    def session_down(self) -> None:
        """Forget what was sent: the peer has dropped it."""
        self._context = None
        self._export = None
        self._families = {}
        self._groups.clear()
        self._by_value.clear()
        self._exported.clear()
        self._exported_values.clear()

    def change_export(self, export: ExportContext) -> None:
        """Routes leave in another way from now on: everything is compared with what was sent."""
        self._export = export
        self._exported.clear()
        self._exported_values.clear()
        self.mark_all()

    def exported(
        self, attributes: PathAttributes, learned_from: PeerInfo | None, family: Family
    ) -> PathAttributes | str:
        """``export`` for this session, worked out once for attributes that many routes share.

        For use by ``wanted``. Only while the session is up; "the session is not up" otherwise.
        """
        if self._export is None:
            return "the session is not up"
        key = (id(attributes), id(learned_from), family)
        hit = self._exported.get(key)
        if hit is None:
            if len(self._exported) >= _CACHE_LIMIT:
                self._exported.clear()
            # The entry holds what its key is made of, so that the ids stay theirs.
            by_value = (attributes, learned_from, family)
            result = self._exported_values.get(by_value)
            if result is None:
                if len(self._exported_values) >= _CACHE_LIMIT:
                    self._exported_values.clear()
                result = export(attributes, learned_from, self._export, family)
                self._exported_values[by_value] = result
            hit = (attributes, learned_from, result)
            self._exported[key] = hit
        return hit[2]

    # -- changes -------------------------------------------------------------------------------------------

    def mark(self, family: Family, nlri: bytes) -> None:
        """Something about this prefix may have changed; what is wanted is looked up later."""
        out = self._families.get(family)
        if out is not None:  # else: no session, or the family is not negotiated; ``reason`` says so
            out.marked[nlri] = None

    def mark_all(self) -> None:
        """Everything may have changed."""
        for family, out in self._families.items():
            out.marked.update(dict.fromkeys(self._candidates(family)))
            out.marked.update(dict.fromkeys(out.staged))
            # Last in, first looked up: only of what was sent a withdrawal can come.
            out.marked.update(dict.fromkeys(out.sent))

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
        for family, out in self._families.items():
            if len(batch) < limit:
                _begin_refresh(family, out, batch)
        looked_up = self._look_up()
        for family, out in self._families.items():
            _withdraw(family, out, context, batch, limit)
        if looked_up and not any(out.withdraw for out in self._families.values()):
            while self._groups and len(batch) < limit:
                self._announce(self._groups[0], context, batch, limit)
            for family, out in self._families.items():
                if len(batch) < limit and out.idle:
                    _finish(family, out, batch)
        return batch

    def _look_up(self) -> bool:
        """Work off a slice of what is marked; whether nothing marked is left."""
        budget = SLICE
        for family, out in self._families.items():
            # From the end: a dictionary gives up its newest entry at no cost, and what changed last goes first.
            chunk = [out.marked.popitem()[0] for _ in range(min(budget, len(out.marked)))]
            self._evaluate(family, out, chunk)
            budget -= len(chunk)
            if budget <= 0:
                break
        done = not any(out.marked for out in self._families.values())
        if done:
            for out in self._families.values():
                out.by_id.clear()
        return done

    def _evaluate(self, family: Family, out: _Out, chunk: list[bytes]) -> None:
        wanted, sent, staged, refused, forced = self._wanted, out.sent, out.staged, out.refused, out.forced
        by_id = out.by_id
        for nlri in chunk:
            attributes = wanted(family, nlri)
            if refused:
                refused.pop(nlri, None)
            if staged and (group := staged.pop(nlri, None)) is not None:
                del group.nlri[nlri]
            if attributes is None or isinstance(attributes, str):
                if attributes is not None:
                    refused[nlri] = attributes
                if nlri in sent:
                    out.withdraw[nlri] = None
                continue
            if out.withdraw:
                out.withdraw.pop(nlri, None)
            if sent and (before := sent.get(nlri)) is not None:
                unchanged = before is attributes or before == attributes
                if unchanged and nlri not in forced:
                    continue
            hit = by_id.get(id(attributes))
            group = self._group(family, out, attributes) if hit is None else hit[1]
            group.nlri[nlri] = None
            staged[nlri] = group

    def _group(self, family: Family, out: _Out, attributes: PathAttributes) -> _Group:
        group = self._by_value.get((family, attributes))
        if group is None:
            group = _Group(family, attributes)
            self._by_value[family, attributes] = group
            self._groups.append(group)
        # The entry holds the attributes, so that their id stays theirs.
        out.by_id[id(attributes)] = (attributes, group)
        return group

    def _announce(self, group: _Group, context: UpdateContext, batch: list[bytes], limit: int) -> None:
        """Send of the first group what the batch has room for; drop the group when it is empty."""
        out = self._families[group.family]
        while group.nlri and len(batch) < limit:
            chunk = _take(group, context)
            try:
                encoded = update.encode_announce(group.family, group.attributes, chunk, context)
            except ValueError:
                encoded = []
            batch.extend(encoded)
            for nlri in chunk:
                del out.staged[nlri]
            if encoded:
                out.sent.update(dict.fromkeys(chunk, group.attributes))
            else:
                self._hold_back(out, chunk)
            if out.forced:
                out.forced.difference_update(chunk)
        if not group.nlri:
            self._groups.popleft()
            del self._by_value[group.family, group.attributes]

    def _hold_back(self, out: _Out, chunk: list[bytes]) -> None:
        # RFC 4271 §9.2: MUST NOT be advertised, and what was advertised before MUST be withdrawn.
        for nlri in chunk:
            self.refused_by_size += 1
            out.refused[nlri] = _DOES_NOT_FIT
            if nlri in out.sent:
                out.withdraw[nlri] = None

    # -- questions -----------------------------------------------------------------------------------------

    def sent_count(self, family: Family | None = None) -> int:
        return sum(len(out.sent) for key, out in self._families.items() if family is None or key == family)

    def sent(self) -> Iterator[tuple[Family, bytes, PathAttributes]]:
        """What the peer has, attributes as they were sent. Nothing must change while it runs."""
        for family, out in self._families.items():
            for nlri, attributes in out.sent.items():
                yield family, nlri, attributes

    def sent_attributes(self, family: Family, nlri: bytes) -> PathAttributes | None:
        """How the peer has this prefix, None when it has not."""
        out = self._families.get(family)
        return None if out is None else out.sent.get(nlri)

    def reason(self, prefix: Prefix) -> str | None:
        """Why a wanted route is not sent; None when it is sent, about to be, or not wanted."""
        family, nlri = prefix.family, prefix.nlri
        if self._context is None:
            return "the session is not up"
        out = self._families.get(family)
        if out is None:
            return f"{family} was not negotiated with this peer"
        return out.refused.get(nlri)

    def refused(self) -> Iterator[tuple[Family, bytes, str]]:
        """Every wanted route that is not sent, and why."""
        for family, out in self._families.items():
            for nlri, reason in out.refused.items():
                yield family, nlri, reason


def _take(group: _Group, context: UpdateContext) -> list[bytes]:
    """Take as many prefixes out of the group as fill one message; with no room for any, all that cannot be sent."""
    first, _ = group.nlri.popitem()
    if not group.nlri:
        return [first]
    if group.room is None:
        try:
            (alone,) = update.encode_announce(group.family, group.attributes, [first], context)
        except ValueError:
            # What is as long as this one fits no better; the caller meets the same refusal.
            refused = [first, *(nlri for nlri in group.nlri if len(nlri) >= len(first))]
            group.nlri = {nlri: None for nlri in group.nlri if len(nlri) < len(first)}
            return refused
        # One octet less: MP_REACH_NLRI's length field may grow to two (RFC 4271 §4.3, Extended Length).
        group.room = context.max_length - len(alone) + len(first) - 1
    room = group.room - len(first)
    chunk = [first]
    while group.nlri:
        nlri, _ = group.nlri.popitem()
        room -= len(nlri)
        if room < 0:
            group.nlri[nlri] = None
            break
        chunk.append(nlri)
    return chunk


def _begin_refresh(family: Family, out: _Out, batch: list[bytes]) -> None:
    if not out.again or out.refreshing or out.end_of_rib:
        return
    out.again = False
    out.refreshing = True
    out.begun = out.enhanced
    if out.begun:
        batch.append(messages.encode_route_refresh(messages.RouteRefresh(family, _BORR)))
    out.forced = set(out.sent)
    out.marked.update(dict.fromkeys(out.sent))


def _withdraw(family: Family, out: _Out, context: UpdateContext, batch: list[bytes], limit: int) -> None:
    while out.withdraw and len(batch) < limit:
        chunk: list[bytes] = []
        room = context.max_length - 32  # 19 header, 2 + 2 lengths, MP_UNREACH_NLRI's own 7, and one to spare
        for nlri in out.withdraw:
            room -= len(nlri)
            if room < 0 and chunk:
                break
            chunk.append(nlri)
        batch.extend(update.encode_withdraw(family, chunk, context))
        for nlri in chunk:
            del out.withdraw[nlri]
            del out.sent[nlri]
        out.forced.difference_update(chunk)


def _finish(family: Family, out: _Out, batch: list[bytes]) -> None:
    """All of a family has gone out: say so where it was promised."""
    if out.end_of_rib:
        out.end_of_rib = False
        batch.append(update.encode_end_of_rib(family))
    elif out.refreshing:
        out.refreshing = False
        if out.begun:
            out.begun = False
            batch.append(messages.encode_route_refresh(messages.RouteRefresh(family, _EORR)))
