"""What comes in from a neighbor: UPDATEs, the end of its session, refreshes, limits, a changed import policy.

- RFC 4724 §4.2, RFC 8538 §4: a neighbor that restarts gracefully leaves its routes here as stale, until it has sent
  them again (End-of-RIB), or its time is over. A dynamic neighbor goes with its connection, and its routes with it.
- RFC 7313 §4: between BoRR and EoRR likewise.
- RFC 7606 §2: a family whose routes cannot be told any more is disabled, and all that was learned of it goes.
- RFC 4486 §4: more prefixes than allowed end the session.
- A changed import policy is applied to what is there, and the neighbor is asked to send again.

What goes through a neighbor's whole table does it in slices, one a turn of the loop.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Protocol

from bgpbfd.bgp import events as bgp
from bgpbfd.config.model import Config, MaxPrefixes
from bgpbfd.control.announcing import Announcing
from bgpbfd.control.neighbor import Neighbor, import_part, peer_info
from bgpbfd.control.ports import Clock, Interfaces, Timers
from bgpbfd.control.recorder import Recorder
from bgpbfd.control.restarting import Restart
from bgpbfd.core import SECOND, Family, Micros, PeerId
from bgpbfd.rib.table import Rib
from bgpbfd.wire.iana import CeaseSubcode
from bgpbfd.wire.messages import RouteRefresh, encode_prefix_limit

STALE_MAX: Micros = 360 * SECOND  # from a session's return to the End-of-RIB, RFC 4724 §4.2: "an upper bound"
REFRESH_MAX: Micros = 360 * SECOND  # from BoRR to EoRR, RFC 7313 §4
BORR, EORR = 1, 2  # RFC 7313 §3.2, Message Subtype

Changed = list[tuple[Family, bytes]]


class Host(Protocol):
    """What learning needs of the engine."""

    config: Config
    neighbors: dict[PeerId, Neighbor]
    rib: Rib
    announcing: Announcing
    clock: Clock
    timers: Timers
    interfaces: Interfaces
    recorder: Recorder
    restart: Restart

    def feed(self, neighbor: Neighbor, event: bgp.Event) -> None: ...


class Learning:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._reporting: tuple[bool, bool] | None = None

    def ask_again(self) -> None:
        """Who is sent learned routes may have changed. All neighbors are asked: once a read, not once an UPDATE."""
        self._reporting = None

    def _ask(self) -> tuple[bool, bool]:
        announcing = self._host.announcing
        self._reporting = found = announcing.passes_on(), announcing.sends_paths()
        return found

    # -- sessions ----------------------------------------------------------------------------------------

    def session_up(self, neighbor: Neighbor, up: bgp.SessionUp) -> None:
        host, negotiated = self._host, up.negotiated
        keep: frozenset[Family] = frozenset()
        if neighbor.stale_until is not None and negotiated.restart is not None:
            # RFC 4724 §4.2: of families without the F bit, or not listed any more, stale routes go at once.
            keep = frozenset(family for family, kept in negotiated.restart.families if kept) & negotiated.families
        info = peer_info(neighbor, up, host.config, host.interfaces)
        slices = host.rib.session_up(
            neighbor.id, info, keep=keep, add_path=negotiated.add_path_receive, **self._report()
        )
        self._follow(neighbor.id, slices)
        neighbor.end_of_rib.clear()
        neighbor.limit_warned = False
        kept = bool(keep) and host.rib.stale_count(neighbor.id) > 0
        self._set_stale(neighbor, STALE_MAX if kept else None)
        if kept:
            self._judge_again(neighbor)  # a reload may have come in between

    def session_down(self, neighbor: Neighbor, down: bgp.SessionDown) -> None:
        host = self._host
        self._end_refresh(neighbor)
        retain = down.retain if neighbor.network is None else frozenset()
        if retain:
            self._follow(neighbor.id, host.rib.retain(neighbor.id, retain, **self._report()))
            self._set_stale(neighbor, down.retain_s * SECOND)
            kept = host.rib.stale_count(neighbor.id)
            text = f"the neighbor may be restarting: {kept} of its routes are kept for {down.retain_s} s"
            host.recorder.add("bgp-restarting", text, host.clock.now(), peer=neighbor.id)
        else:
            self._flush(neighbor)

    def forget(self, neighbor: Neighbor) -> None:
        """The neighbor is stopped or removed: nothing of it is kept."""
        self._end_refresh(neighbor)
        if neighbor.stale_until is not None:
            self._flush_stale(neighbor)

    def path_failed(self, neighbor: Neighbor, *, independent: bool) -> None:
        """BFD went down. A restart that is under way goes on all the same (RFC 5882 §4.3), unless both ends have said
        that BFD does not share the control plane's fate (``independent``): then it is the path that has failed."""
        if neighbor.session is not None or neighbor.stale_until is None:
            return
        host = self._host
        count = host.rib.stale_count(neighbor.id)
        if independent:
            text = f"{count} stale routes are dropped: BFD went down"
            host.recorder.add("stale-routes-dropped", text, host.clock.now(), peer=neighbor.id, level="warning")
            self._flush_stale(neighbor)
        else:
            text = f"{count} stale routes are kept: BFD goes down with a control plane that restarts (no C bit)"
            host.recorder.add("bgp-restarting", text, host.clock.now(), peer=neighbor.id)

    def _flush(self, neighbor: Neighbor) -> None:
        self._follow(neighbor.id, self._host.rib.flush(neighbor.id, **self._report()))
        self._set_stale(neighbor, None)

    def _set_stale(self, neighbor: Neighbor, duration: Micros | None) -> None:
        """Stale routes have ``duration`` left; None: there are none any more."""
        deadline = None if duration is None else self._host.clock.now() + duration
        neighbor.stale_until = deadline
        self._host.timers.arm(_stale_key(neighbor.id), deadline, functools.partial(self._stale_expired, neighbor))

    def _stale_expired(self, neighbor: Neighbor) -> None:
        host = self._host
        if host.neighbors.get(neighbor.id) is not neighbor:
            return
        count = host.rib.stale_count(neighbor.id)
        waited_for = "come back" if neighbor.session is None else "sent them again (no End-of-RIB)"
        text = f"{count} stale routes are dropped: the neighbor has not {waited_for}"
        host.recorder.add("stale-routes-dropped", text, host.clock.now(), peer=neighbor.id, level="warning")
        self._flush_stale(neighbor)

    def _flush_stale(self, neighbor: Neighbor) -> None:
        if neighbor.session is None:
            self._flush(neighbor)
        else:
            self._purge(neighbor, neighbor.session.negotiated.families, restart=True)
            self._set_stale(neighbor, None)

    def _purge(self, neighbor: Neighbor, families: Iterable[Family], *, restart: bool = False) -> None:
        """``restart``: what is stale since the neighbor's restart; otherwise what a refresh made stale as well."""
        for family in families:
            slices = self._host.rib.purge_stale(neighbor.id, family, restart=restart, **self._report())
            self._follow(neighbor.id, slices)

    # -- UPDATEs -----------------------------------------------------------------------------------------

    def update(self, neighbor: Neighbor, received: bgp.UpdateReceived) -> None:
        session = neighbor.session
        if session is None or session.generation != received.generation:
            return  # the session ended by an earlier message of the same bytes
        host, update = self._host, received.update
        report, every = self._reporting or self._ask()
        changed = host.rib.apply(neighbor.id, update, host.clock.now(), report=report)
        touched: Changed = []
        if report and every:
            touched = [(reach.family, nlri) for reach in update.announced for nlri in reach.nlri]
            touched += [(unreach.family, nlri) for unreach in update.withdrawn for nlri in unreach.nlri]
        if changed or touched:
            host.announcing.mark_learned(changed, neighbor.id, touched)
        if update.end_of_rib is not None:
            self._end_of_rib(neighbor, update.end_of_rib)
        limit = neighbor.config.max_prefixes
        if limit is not None and update.announced:
            self._check_limit(neighbor, limit, update.announced[-1].family)

    def family_disabled(self, neighbor: Neighbor, disabled: bgp.FamilyDisabled) -> None:
        """RFC 4760 §7: "MUST delete all the BGP routes received from that neighbor" of the family, stale ones too."""
        session, family = neighbor.session, disabled.family
        if session is None or session.generation != disabled.generation:
            return  # the session ended by an earlier message of the same bytes
        host = self._host
        count = host.rib.count(neighbor.id, family)
        host.rib.begin_refresh(neighbor.id, family)  # all of it is stale, and goes
        self._purge(neighbor, [family])
        text = f"{family} is ignored until the session ends and its routes ({count}) are dropped: {disabled.reason}"
        host.recorder.add("family-disabled", text, host.clock.now(), peer=neighbor.id, level="warning")
        if family in neighbor.refreshing:
            neighbor.refreshing.discard(family)
            if not neighbor.refreshing:
                self._end_refresh(neighbor)
        self._end_restart(neighbor)
        host.restart.check()

    def _end_of_rib(self, neighbor: Neighbor, family: Family) -> None:
        host = self._host
        neighbor.end_of_rib.add(str(family))
        if neighbor.stale_until is not None:
            self._purge(neighbor, [family], restart=True)
            self._end_restart(neighbor)
        host.restart.check()

    def _end_restart(self, neighbor: Neighbor) -> None:
        """Nothing is kept any more of a neighbor that has sent all its families, disabled ones aside."""
        session = neighbor.session
        if session is not None and {str(family) for family in session.context.families} <= neighbor.end_of_rib:
            self._set_stale(neighbor, None)

    def _check_limit(self, neighbor: Neighbor, limit: MaxPrefixes, family: Family) -> None:
        host = self._host
        now = host.clock.now()
        # What is stale is of an earlier session, or on its way to be sent again: it would be counted twice.
        count = host.rib.count(neighbor.id) - host.rib.stale_count(neighbor.id)
        if count > limit.limit:
            text = f"the peer sent more than max_prefixes = {limit.limit} prefixes"
            idle_s: float | None = limit.restart_time
            if limit.restart_time == 0:
                text += "; it stays down until an operator resets it"
                idle_s = float("inf")
            elif limit.restart_time is not None:
                text += f"; tried again in {limit.restart_time} s"
            cause = bgp.Cause(bgp.CauseKind.MAX_PREFIXES, text, now)
            data = encode_prefix_limit(family, limit.limit)
            host.feed(neighbor, bgp.AutomaticStop(cause, CeaseSubcode.MAXIMUM_PREFIXES, data=data, idle_s=idle_s))
        elif count * 100 >= limit.limit * limit.warning:
            if not neighbor.limit_warned:
                neighbor.limit_warned = True
                text = f"the peer has sent {count} prefixes, max_prefixes = {limit.limit} (told at {limit.warning} %)"
                host.recorder.add("max-prefixes-warning", text, now, peer=neighbor.id, level="warning")
        else:
            neighbor.limit_warned = False

    # -- refresh -----------------------------------------------------------------------------------------

    def refresh(self, neighbor: Neighbor, refresh: RouteRefresh) -> None:
        """What frames a refresh that we asked for, or that the neighbor makes by itself (RFC 7313 §4)."""
        host, family = self._host, refresh.family
        if refresh.subtype == BORR:
            if family not in neighbor.refreshing:
                neighbor.refreshing.add(family)
                host.rib.begin_refresh(neighbor.id, family)
            deadline = host.clock.now() + REFRESH_MAX
            host.timers.arm(_refresh_key(neighbor.id), deadline, functools.partial(self._refresh_expired, neighbor))
        elif refresh.subtype == EORR and family in neighbor.refreshing:
            # An EoRR without its BoRR is ignored (RFC 7313 §4).
            neighbor.refreshing.discard(family)
            self._purge(neighbor, [family])
            if not neighbor.refreshing:
                self._end_refresh(neighbor)

    def _refresh_expired(self, neighbor: Neighbor) -> None:
        if self._host.neighbors.get(neighbor.id) is not neighbor or neighbor.session is None:
            return
        self._purge(neighbor, neighbor.refreshing)
        self._end_refresh(neighbor)

    def _end_refresh(self, neighbor: Neighbor) -> None:
        neighbor.refreshing.clear()
        self._host.timers.arm(_refresh_key(neighbor.id), None, _nothing)

    # -- policy ------------------------------------------------------------------------------------------

    def config_changed(self, neighbor: Neighbor) -> None:
        """After a reload: what is here is judged by the import policy and the limit that are in force now."""
        host, session = self._host, neighbor.session
        limit = neighbor.config.max_prefixes
        if session is not None and limit is not None and session.negotiated.families:
            families = sorted(session.negotiated.families)
            self._check_limit(neighbor, limit, max(families, key=lambda family: host.rib.count(neighbor.id, family)))
        old = host.rib.info(neighbor.id)
        if old is None:
            return
        new = import_part(old, neighbor, host.config)
        if new == old:
            return
        host.rib.change_info(neighbor.id, new)
        self._judge_again(neighbor)
        if new.policy != old.policy and session is not None and session.negotiated.may_send_refresh:
            for family in sorted(session.negotiated.families):
                host.feed(neighbor, bgp.SendRouteRefresh(family))

    def _judge_again(self, neighbor: Neighbor) -> None:
        slices = self._host.rib.reevaluate(neighbor.id, every=self._host.announcing.sends_paths())
        self._host.timers.soon(functools.partial(self._follow, neighbor.id, slices))

    # -- helpers -----------------------------------------------------------------------------------------

    def _report(self) -> dict[str, bool]:
        """What the RIB has to say of changes, as the keywords of its methods."""
        announcing = self._host.announcing
        return {"report": announcing.passes_on(), "every": announcing.sends_paths()}

    def _follow(self, source: PeerId, slices: Iterator[Changed]) -> None:
        """One slice of what ``source`` changes now; the next one in a later turn of the loop."""
        changed = next(slices, None)
        if changed is None:
            return
        if changed:
            self._host.announcing.mark_learned(changed, source)
        self._host.timers.soon(functools.partial(self._follow, source, slices))


def timer_keys(peer: PeerId) -> tuple[str, ...]:
    """The timers that a neighbor may have here."""
    return (_stale_key(peer), _refresh_key(peer))


def _stale_key(peer: PeerId) -> str:
    return "stale " + peer


def _refresh_key(peer: PeerId) -> str:
    return "refresh " + peer


def _nothing() -> None:
    return None
