"""One family of one peer's Adj-RIB-Out: what is marked, staged, sent and refused, and what of it fills a message.

Everything but the marks goes by *key*: what the UPDATE carries for the route. That is the NLRI, and in a family with
ADD-PATH the path identifier before it (RFC 7911 §3). ``Announcer`` says what the stages are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain

from bgpbfd.core import Family
from bgpbfd.wire import messages, update_out
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update import UpdateContext

_BORR, _EORR = 1, 2  # RFC 7313 §3.2, Message Subtype
_ID = 4  # octets of a path identifier, RFC 7911 §3


class Group:
    """Staged routes of one family that share their attributes."""

    __slots__ = ("attributes", "family", "keys", "room")

    def __init__(self, family: Family, attributes: PathAttributes) -> None:
        self.family = family
        self.attributes = attributes
        self.keys: dict[bytes, None] = {}
        self.room: int | None = None  # octets for routes in one message; None until measured


class Run:
    """NLRI of the initial set that leave with the same attributes, in the order of the list."""

    __slots__ = ("at", "attributes", "nlri")

    def __init__(self, attributes: PathAttributes, nlri: list[bytes]) -> None:
        self.attributes = attributes
        self.nlri = nlri
        self.at = 0

    def next_chunk(self, room: int) -> list[bytes]:
        """As many of those from ``at`` on as fit into so many octets. Raises ValueError if that is none."""
        # Most lists are of one length: then this is it.
        chunk = self.nlri[self.at : self.at + room // len(self.nlri[self.at])]
        octets = len(b"".join(chunk))
        if octets > room or not chunk:
            chunk = chunk[: bisect_right(list(accumulate(map(len, chunk))), room)]
            if not chunk:
                raise ValueError(f"the attributes leave no room: {room} octets")
        elif room - octets > len(chunk[-1]):
            more = self.nlri[self.at + len(chunk) : self.at + len(chunk) + room - octets]
            chunk += more[: bisect_right(list(accumulate(map(len, more))), room - octets)]
        return chunk


class FamilyOut:
    """``end_of_rib``: it is owed; ``held``: not to be sent before ``Announcer.release_end_of_rib``."""

    __slots__ = (
        "again",
        "begun",
        "by_id",
        "end_of_rib",
        "enhanced",
        "family",
        "forced",
        "held",
        "marked",
        "mixed",
        "overtaken",
        "paths",
        "refreshing",
        "refused",
        "runs",
        "sent",
        "staged",
        "withdraw",
    )

    def __init__(self, family: Family, *, add_path: bool, end_of_rib: bool, held: bool) -> None:
        self.family = family
        self.marked: dict[bytes, None] = {}  # NLRI
        self.by_id: dict[int, tuple[PathAttributes, Group]] = {}  # while looking up: most routes share objects
        self.staged: dict[bytes, Group] = {}
        self.sent: dict[bytes, PathAttributes] = {}
        self.refused: dict[bytes, str] = {}
        self.withdraw: dict[bytes, None] = {}
        # With ADD-PATH, by NLRI the keys that are staged, sent or refused; None without.
        self.paths: dict[bytes, tuple[bytes, ...]] | None = {} if add_path else None
        self.end_of_rib = end_of_rib
        self.held = held
        self.refreshing = False
        self.begun = False  # its BoRR has been sent
        self.enhanced = False
        self.again = False  # asked for while the initial set or another refresh was under way
        self.forced: set[bytes] = set()  # to be sent although equal to what was sent
        # What is left of the initial set, as it was when the session came up; what was marked since then.
        self.runs: deque[Run] = deque()
        self.overtaken: set[bytes] = set()
        self.mixed = False  # more was looked at since than the runs

    @property
    def idle(self) -> bool:
        return not (self.marked or self.staged or self.withdraw or self.runs)

    @property
    def pending(self) -> bool:
        """Whether there is something to do now; what waits for ``held`` to end does not count."""
        if not self.idle or self.refreshing:
            return True
        if self.end_of_rib and self.held:
            return self.again and not self.enhanced
        return self.end_of_rib or self.again

    def split(self, key: bytes) -> tuple[bytes, int | None]:
        """The NLRI and the path identifier, None without ADD-PATH."""
        return (key, None) if self.paths is None else (key[_ID:], int.from_bytes(key[:_ID]))

    def keys(self, nlri: bytes) -> tuple[bytes, ...]:
        """The keys under which something is known of this NLRI."""
        return (nlri,) if self.paths is None else self.paths.get(nlri, ())

    def begin(self, runs: Iterable[tuple[PathAttributes, list[bytes]]], others: Iterable[bytes]) -> None:
        """The initial set: what leaves by the list, and what is to be looked at one by one."""
        by_value: dict[PathAttributes, list[list[bytes]]] = {}
        for attributes, nlri in runs:
            by_value.setdefault(attributes, []).append(nlri)
        for attributes, lists in by_value.items():
            self.runs.append(Run(attributes, lists[0] if len(lists) == 1 else list(chain.from_iterable(lists))))
        self.marked.update(dict.fromkeys(others))
        self.mixed = bool(self.marked)

    def mark(self, nlri: bytes) -> None:
        self.marked[nlri] = None
        if self.runs:
            self.overtaken.add(nlri)
            self.mixed = True

    def mark_all(self, candidates: Iterable[bytes]) -> None:
        self.runs.clear()
        self.overtaken.clear()
        self.marked.update(dict.fromkeys(candidates))
        if self.paths is None:
            self.marked.update(dict.fromkeys(self.staged))
            # Last in, first looked up: only of what was sent a withdrawal can come.
            self.marked.update(dict.fromkeys(self.sent))
        else:
            self.marked.update(dict.fromkeys(self.paths))

    def take_marked(self, limit: int) -> list[bytes]:
        # From the end: a dictionary gives up its newest entry at no cost, and what changed last goes first.
        return [self.marked.popitem()[0] for _ in range(min(limit, len(self.marked)))]

    def paths_of(
        self, nlri: bytes, wanted: Iterable[tuple[int, PathAttributes | str]]
    ) -> Iterator[tuple[bytes, PathAttributes | str | None]]:
        """What is wanted of each key of this NLRI: first None for those that are no longer, then the others.

        Of two paths with one identifier the first counts: the peer could not tell them apart (RFC 7911 §3).
        """
        assert self.paths is not None
        new: dict[bytes, PathAttributes | str] = {}
        for path_id, result in wanted:
            new.setdefault(path_id.to_bytes(_ID) + nlri, result)
        gone = [key for key in self.paths.get(nlri, ()) if key not in new]
        left = (*new, *(key for key in gone if key in self.sent))  # those until they are withdrawn
        if left:
            self.paths[nlri] = left
        else:
            self.paths.pop(nlri, None)
        for key in gone:
            yield key, None
        yield from new.items()

    def begin_refresh(self, batch: list[bytes]) -> None:
        if not self.again or self.refreshing:
            return
        if self.end_of_rib and (self.enhanced or not self.held):
            return  # RFC 7313 §4: no BoRR before the initial End-of-RIB
        self.again = False
        self.refreshing = True
        self.begun = self.enhanced
        if self.begun:
            batch.append(messages.encode_route_refresh(messages.RouteRefresh(self.family, _BORR)))
        self.forced = set(self.sent)
        self.marked.update(dict.fromkeys(self.sent if self.paths is None else self.paths))

    def send_withdrawals(self, context: UpdateContext, batch: list[bytes], limit: int) -> None:
        while self.withdraw and len(batch) < limit:
            chunk: list[bytes] = []
            room = context.max_length - 32  # 19 header, 2 + 2 lengths, MP_UNREACH_NLRI's own 7, and two to spare
            for key in self.withdraw:
                room -= len(key)
                if room < 0 and chunk:
                    break
                chunk.append(key)
            batch.extend(update_out.encode_withdraw(self.family, chunk, context))
            for key in chunk:
                del self.withdraw[key]
                del self.sent[key]
                if self.paths is not None and key not in self.refused:
                    self._forget_path(self.paths, key)
            self.forced.difference_update(chunk)

    def _forget_path(self, paths: dict[bytes, tuple[bytes, ...]], key: bytes) -> None:
        nlri = key[_ID:]
        left = tuple(other for other in paths[nlri] if other != key)
        if left:
            paths[nlri] = left
        else:
            del paths[nlri]

    def send_runs(self, context: UpdateContext, batch: list[bytes], limit: int) -> None:
        """Of the initial set what the batch has room for: whole lists, where ``Announcer`` looks at every prefix.

        Nothing may be marked, staged or to be withdrawn: what was marked since has been seen to.
        """
        while self.runs and len(batch) < limit:
            run = self.runs[0]
            try:
                self._send_run(run, context, batch, limit)
            except ValueError:  # it cannot be sent so: one by one it is found out which, and why
                left = run.nlri[run.at :]
                self.marked.update(dict.fromkeys(nlri for nlri in left if nlri not in self.overtaken))
                self.mixed = True
                self.runs.popleft()
                return
            if run.at == len(run.nlri):
                self.runs.popleft()
        if not self.runs:
            self.overtaken.clear()

    def _send_run(self, run: Run, context: UpdateContext, batch: list[bytes], limit: int) -> None:
        room, message = update_out.announcement(self.family, run.attributes, context)
        sent, overtaken, attributes = self.sent, self.overtaken, run.attributes
        while run.at < len(run.nlri) and len(batch) < limit:
            chunk = run.next_chunk(room)
            run.at += len(chunk)
            if self.mixed:
                chunk = [key for key in chunk if key not in sent and key not in overtaken]
                if not chunk:
                    continue
            batch.append(message(b"".join(chunk)))
            for key in chunk:  # half of what update(fromkeys(…)) takes
                sent[key] = attributes

    def finish(self, batch: list[bytes]) -> None:
        """All has gone out: say so where it was promised."""
        if self.end_of_rib and not self.held:
            self.end_of_rib = False
            batch.append(update_out.encode_end_of_rib(self.family))
        elif self.refreshing:
            self.refreshing = False
            if self.begun:
                self.begun = False
                batch.append(messages.encode_route_refresh(messages.RouteRefresh(self.family, _EORR)))


def take(group: Group, context: UpdateContext) -> list[bytes]:
    """Take as many routes out of the group as fill one message; with no room for any, all that cannot be sent."""
    first, _ = group.keys.popitem()
    if not group.keys:
        return [first]
    if group.room is None:
        try:
            (alone,) = update_out.encode_announce(group.family, group.attributes, [first], context)
        except ValueError:
            # What is as long as this one fits no better; the caller meets the same refusal.
            refused = [first, *(key for key in group.keys if len(key) >= len(first))]
            group.keys = {key: None for key in group.keys if len(key) < len(first)}
            return refused
        # One octet less: MP_REACH_NLRI's length field may grow to two (RFC 4271 §4.3, Extended Length).
        group.room = context.max_length - len(alone) + len(first) - 1
    room = group.room - len(first)
    chunk = [first]
    while group.keys:
        key, _ = group.keys.popitem()
        room -= len(key)
        if room < 0:
            group.keys[key] = None
            break
        chunk.append(key)
    return chunk
