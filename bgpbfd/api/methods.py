"""The JSON-RPC methods: each checks its parameters, asks the engine, and hands the answer to a view.

A refused value is error -32001 with ``data.path`` and ``data.reason``; parameters that do not fit the method
are -32602; a fault of ours is -32603, told in full to the log and not to the client. Answers that can be long
are built in slices, so that no request keeps the loop for longer than a few ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from bgpbfd.api import views, views_bfd
from bgpbfd.api.bfd_names import sessions_named
from bgpbfd.api.clock import Clock, Json
from bgpbfd.api.paging import Pages
from bgpbfd.api.rpc import JsonRpcError, Result, Success
from bgpbfd.config.dump import dump_flow
from bgpbfd.config.faults import ConfigError
from bgpbfd.config.load import parse_flow, parse_flow_rule, parse_route
from bgpbfd.config.model import Announced
from bgpbfd.config.names import peer_id
from bgpbfd.control.snapshot import (
    BfdSnapshot,
    NeighborSnapshot,
    RecordedEvent,
    Refused,
    ReloadResult,
    RouteSnapshot,
)
from bgpbfd.core import Instant, Prefix
from bgpbfd.wire.flowspec_text import nlri_matches

log = logging.getLogger("bgpbfd.api")

REFUSED = -32001
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603

SLICE = 250
"""Items put into words in one turn of the loop: about 3 ms."""
UNPAGED_MAX = 200_000
"""A longer list is only had page by page."""
PAGE_MAX = 10_000
BFD_TIMEOUT_S = 5.0
"""The BFD worker is another process: how long its answer is waited for."""
SHUTDOWN_MESSAGE_MAX = 255
"""Octets of UTF-8, RFC 9003 §2."""


class Engine(Protocol):
    """What the API needs of the engine. Peers are named by address or description; unknown ones raise Refused."""

    def now(self) -> Instant: ...

    def wall(self, at: Instant) -> float:
        """Unix seconds of an Instant."""
        ...

    def version(self) -> Json: ...

    def show_config(self) -> Json:
        """The configuration in force as plain values, secrets masked."""
        ...

    def neighbors(self) -> list[NeighborSnapshot]: ...

    def neighbor(self, peer: str) -> NeighborSnapshot: ...

    def peer_enable(self, peer: str) -> None: ...

    def peer_disable(self, peer: str, message: str) -> None: ...

    def peer_reset(self, peer: str) -> None: ...

    def peer_refresh(self, peer: str) -> None: ...

    async def bfd_sessions(self) -> list[BfdSnapshot]: ...

    def bfd_discards(self) -> dict[str, int]:
        """Packets that no session could be found for, by reason."""
        ...

    async def clear_bfd_counters(self, peer: str | None) -> None: ...

    def routes_learned(self, peer: str | None, /) -> list[RouteSnapshot]: ...

    def routes_advertised(self, peer: str | None, /, *, why: bool) -> list[RouteSnapshot]: ...

    def routes(self, /, *, why: bool) -> list[RouteSnapshot]:
        """Everything that is wanted, with how far it got; ``why``: and what each neighbor's policy says of it."""
        ...

    def flows(self, kind: str | None, peer: str | None, /) -> list[RouteSnapshot]:
        """Flow specifications: ours and the learned ones; with a ``kind`` those learned or advertised, of ``peer``."""
        ...

    def advertise(self, route: Announced, peers: list[str] | None, /) -> int:
        """To how many peers it now goes; None: all."""
        ...

    def withdraw(self, prefix: str, peers: list[str] | None, /) -> int: ...

    def withdraw_flow(self, rule: Prefix, peers: list[str] | None, /) -> int: ...

    async def reload(self) -> ReloadResult: ...

    def events(self, since: int = 0, limit: int = 100, peer: str | None = None) -> list[RecordedEvent]:
        """Oldest first. ``since`` 0: the latest ``limit``; else the first ``limit`` with a greater number."""
        ...


@dataclass(slots=True, frozen=True)
class LongList:
    """A JSON list as its encoded pieces: sent one by one, because joining 50 MB alone stops the loop for 100 ms."""

    pieces: list[bytes]

    def raw(self) -> msgspec.Raw:
        return msgspec.Raw(b"".join(self.pieces))


class Context:
    """What every method gets: the engine, and the lists that clients are paging through."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pages = Pages()

    def clock(self) -> Clock:
        return Clock(self.engine.now(), self.engine.wall)


Item = TypeVar("Item")
Method: TypeAlias = Callable[..., Awaitable[Result]]
METHODS: dict[str, Method] = {}
"""By JSON-RPC name; handed to jsonrpcserver whole."""


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a function, plain or async, under its own name; its answer is encoded here, its exceptions end here."""

    @functools.wraps(function)
    async def answer(*args: Any, **kwargs: Any) -> Result:
        try:
            value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            return Success(value if isinstance(value, LongList) else msgspec.Raw(msgspec.json.encode(value)))
        except JsonRpcError:
            raise
        except Refused as refused:
            raise refusal(refused.path, refused.reason) from None
        except Exception:
            log.exception("%s failed", function.__name__)
            raise JsonRpcError(
                INTERNAL_ERROR, "Internal error", {"reason": "the daemon's log has the details"}
            ) from None

    METHODS[function.__name__] = answer
    return function


def refusal(path: str, reason: str, **more: Any) -> JsonRpcError:
    return JsonRpcError(REFUSED, f"{path}: {reason}", {"path": path, "reason": reason} | more)


# -- neighbors ---------------------------------------------------------------------------------------------


@method
async def show_peers(context: Context) -> LongList:
    clock = context.clock()
    return await _encode(context.engine.neighbors(), lambda peer: views.peer_summary(peer, clock))


@method
async def show_peer_detail(context: Context, peer: Any = None) -> LongList | Json:
    """A list of all neighbors, as BGPd-rs has it; with ``peer`` that one alone, not in a list."""
    clock = context.clock()
    name = _text("peer", peer)
    if name is not None:
        return views.peer_detail(context.engine.neighbor(name), clock)
    return await _encode(context.engine.neighbors(), lambda item: views.peer_detail(item, clock))


@method
def peer_enable(context: Context, peer: Any) -> Json:
    found = _neighbor(context, peer)
    context.engine.peer_enable(found.peer)
    return _peer_state(context, replace(found, enabled=True))


@method
def peer_disable(context: Context, peer: Any, message: Any = "") -> Json:
    """``message`` goes to the peer as the shutdown communication (RFC 9003)."""
    found = _neighbor(context, peer)
    text = _text("message", message) or ""
    if len(text.encode("utf-8", "replace")) > SHUTDOWN_MESSAGE_MAX:
        raise Refused("message", f"at most {SHUTDOWN_MESSAGE_MAX} octets of UTF-8 fit a shutdown communication")
    context.engine.peer_disable(found.peer, text)
    return _peer_state(context, found)


@method
def peer_reset(context: Context, peer: Any) -> Json:
    found = _neighbor(context, peer)
    context.engine.peer_reset(found.peer)
    return _peer_state(context, found)


@method
def peer_refresh(context: Context, peer: Any) -> Json:
    found = _neighbor(context, peer)
    context.engine.peer_refresh(found.peer)
    return _peer_state(context, found)


def _neighbor(context: Context, peer: Any) -> NeighborSnapshot:
    name = _text("peer", peer)
    if name is None:
        raise Refused("peer", "name a neighbor by its address or description")
    return context.engine.neighbor(name)


def _peer_state(context: Context, before: NeighborSnapshot) -> Json:
    try:
        found = context.engine.neighbor(before.peer)
    except Refused:  # a dynamic neighbor goes with its connection
        found = replace(before, state="idle")
    return {"peer": found.peer, "description": found.description, "enabled": found.enabled, "state": found.state}


# -- BFD ---------------------------------------------------------------------------------------------------


@method
async def show_bfd(context: Context, peer: Any = None) -> LongList:
    sessions = await _bfd_sessions(context, peer)
    clock = context.clock()
    return await _encode(sessions, lambda session: views_bfd.bfd_session(session, clock))


@method
async def show_bfd_counters(context: Context, peer: Any = None) -> Json:
    sessions = await _bfd_sessions(context, peer)
    return {
        "sessions": (await _encode(sessions, views_bfd.bfd_counters)).raw(),
        "discards": context.engine.bfd_discards(),
    }


@method
async def clear_bfd_counters(context: Context, peer: Any = None) -> Json:
    """Of all, and of what belongs to no session; or of the sessions with ``peer``, stand-alone ones too."""
    sessions = await _bfd_sessions(context, peer)
    names = [None] if peer is None else list(dict.fromkeys(session.peer for session in sessions))
    async with asyncio.timeout(BFD_TIMEOUT_S):
        for name in names:
            await context.engine.clear_bfd_counters(name)
    return {"cleared": len(sessions)}


async def _bfd_sessions(context: Context, peer: Any) -> list[BfdSnapshot]:
    """All, or those of ``peer``, which need not be a BGP neighbor; refused when it has none."""
    name = _text("peer", peer)
    try:
        async with asyncio.timeout(BFD_TIMEOUT_S):
            sessions = await context.engine.bfd_sessions()
    except TimeoutError:
        raise Refused("bfd", f"the BFD process has not answered within {BFD_TIMEOUT_S:g} s") from None
    if name is None:
        return sessions
    found = sessions_named(sessions, name)
    if found:
        return found
    try:
        context.engine.neighbor(name)
    except Refused:
        known = ", ".join(dict.fromkeys(session.peer for session in sessions)) or "none"
        raise Refused("peer", f"no BFD session with {name!r}; known: {known}") from None
    raise Refused("peer", "no BFD is configured for it")


# -- routes ------------------------------------------------------------------------------------------------


@method
async def show_routes_learned(
    context: Context, from_peer: Any = None, limit: Any = None, cursor: Any = None, why: Any = None
) -> Any:
    """``why``: with what the import policy said of each."""
    peer = _text("from_peer", from_peer)
    view = views.RouteView(context.clock(), _flag("why", why))
    return await _routes(view, context, lambda: context.engine.routes_learned(peer), limit, cursor)


@method
async def show_routes_advertised(
    context: Context, to_peer: Any = None, limit: Any = None, cursor: Any = None, why: Any = None
) -> Any:
    """``why``: with what the export policy said of each."""
    peer = _text("to_peer", to_peer)
    view = views.RouteView(context.clock(), _flag("why", why))
    return await _routes(view, context, lambda: context.engine.routes_advertised(peer, why=view.why), limit, cursor)


@method
async def show_routes(context: Context, limit: Any = None, cursor: Any = None, why: Any = None) -> Any:
    """``why``: with what the neighbors' export policies say of each."""
    view = views.RouteView(context.clock(), _flag("why", why))
    return await _routes(view, context, lambda: context.engine.routes(why=view.why), limit, cursor)


@method
async def show_flows(
    context: Context, kind: Any = None, peer: Any = None, limit: Any = None, cursor: Any = None
) -> Any:
    """Ours and the learned ones; of ``kind`` learned or advertised those of ``peer`` or of all."""
    word, name = _text("kind", kind), _text("peer", peer)
    if word not in {None, "learned", "advertised"}:
        raise Refused("kind", '"learned" or "advertised" is needed, or nothing for ours and the learned ones')
    if name is not None and word is None:
        raise Refused("kind", '"learned" (from the peer) or "advertised" (to it) is needed with a peer')
    view = views.RouteView(context.clock())
    return await _routes(view, context, lambda: context.engine.flows(word, name), limit, cursor, "flows")


async def _routes(
    view: views.RouteView,
    context: Context,
    find: Callable[[], list[RouteSnapshot]],
    limit: Any,
    cursor: Any,
    key: str = "routes",
) -> Any:
    """The bare list; or, asked with ``limit`` or ``cursor``, {``key``, cursor, total}, ``cursor`` null at the end.

    All pages are of one moment, that of the first.
    """
    size = _number("limit", limit, 1, PAGE_MAX, default=1000)
    at = _text("cursor", cursor)
    if limit is None and at is None:
        routes = find()
        if len(routes) > UNPAGED_MAX:
            raise Refused("limit", f"{len(routes)} {key} are too many for one answer: page with limit and cursor")
        return await _encode(routes, view)
    page = context.pages.first(find(), size) if at is None else context.pages.next(at, size)
    return {
        key: (await _encode(page.items, view)).raw(),
        "cursor": page.cursor,
        "total": page.total,
    }


@method
def advertise_route(context: Context, route: Any, peers: Any = None, ttl: Any = None) -> Json:
    """``route`` has the shape of ``[[static_routes]]``; BGPd-rs's, with the attributes in a table, is taken too."""
    if ttl is not None:
        raise Refused("ttl", "not supported yet")
    # Whether a neighbor takes an IPv6 next hop for an IPv4 prefix (RFC 8950) is the engine's to know.
    parse = functools.partial(parse_route, extended_next_hop=True)
    parsed = _parsed(route, "route", "prefix and next_hop", parse)
    return {"prefix": str(parsed.prefix), "peers": context.engine.advertise(parsed, _peers(context, peers))}


@method
def withdraw_route(context: Context, prefix: Any, peers: Any = None) -> Json:
    text = _text("prefix", prefix)
    if text is None:
        raise Refused("prefix", "an IPv4 or IPv6 prefix is needed")
    try:
        canonical = str(Prefix.parse(text))
    except ValueError as error:
        raise Refused("prefix", f"{error}") from None
    return {"prefix": canonical, "peers": context.engine.withdraw(canonical, _peers(context, peers))}


@method
def advertise_flow(context: Context, flow: Any, peers: Any = None) -> Json:
    """``flow`` has the shape of ``[[peers.static_flows]]``."""
    parsed = _parsed(flow, "flow", "afi, action and matches", parse_flow)
    answer = dump_flow(parsed)
    return {
        "afi": answer["afi"],
        "action": answer["action"],
        "matches": answer["matches"],
        "peers": context.engine.advertise(parsed, _peers(context, peers)),
    }


@method
def withdraw_flow(context: Context, flow: Any, peers: Any = None) -> Json:
    """Of ``flow`` only ``afi`` and ``matches`` count: they are what a rule is known by."""
    rule = _parsed(flow, "flow", "afi and matches", parse_flow_rule)
    count = context.engine.withdraw_flow(rule, _peers(context, peers))
    return {"afi": rule.afi, "matches": nlri_matches(rule), "peers": count}


def _parsed(raw: Any, path: str, needed: str, parse: Callable[[dict[str, Any], str], Item]) -> Item:
    """Refused with every fault of ``raw``; attributes in a table of their own are BGPd-rs's way to write them."""
    if not isinstance(raw, dict):
        raise Refused(path, f"an object with {needed} is needed")
    if isinstance(raw.get("attributes"), dict):
        raw = {key: value for key, value in raw.items() if key != "attributes"} | raw["attributes"]
    try:
        return parse(raw, path)
    except ConfigError as error:
        faults = [views.fault(fault.path, fault.reason) for fault in error.faults]
        raise refusal(faults[0]["path"], faults[0]["reason"], faults=faults) from None


def _peers(context: Context, peers: Any) -> list[str] | None:
    if peers is None:
        return None
    names = [peers] if isinstance(peers, str) else peers
    if not isinstance(names, list) or not names:
        raise Refused("peers", "a list of addresses or descriptions is needed, or nothing for all peers")
    found = []
    for index, name in enumerate(names):
        try:
            found.append(_neighbor(context, name).peer)
        except Refused as refused:
            raise Refused(f"peers[{index}]", refused.reason) from None
    return found


# -- the daemon --------------------------------------------------------------------------------------------


@method
async def show_events(context: Context, since: Any = 0, limit: Any = 100, peer: Any = None) -> LongList:
    """Oldest first: the latest ``limit``, or those after number ``since``."""
    first = _number("since", since, 0, 2**63, default=0)
    most = _number("limit", limit, 1, PAGE_MAX, default=100)
    records = context.engine.events(first, most, None if peer is None else _recorded(context, peer))
    clock = context.clock()
    return await _encode(records, lambda record: views.event(record, clock))


def _recorded(context: Context, peer: Any) -> str:
    """The neighbor of that name, or whoever has events under that address: BFD sessions without BGP have some too."""
    try:
        return _neighbor(context, peer).peer
    except Refused:
        with contextlib.suppress(ValueError):
            canonical = peer_id(str(peer))
            if context.engine.events(0, 1, canonical):
                return canonical
        raise


@method
async def reload(context: Context) -> Json:
    result = await context.engine.reload()
    if not result.ok:
        faults = [views.fault(path, reason) for path, reason in result.faults] or [views.fault("", "reload failed")]
        first = faults[0]
        raise refusal(first["path"], first["reason"], faults=faults)
    return {"ok": True, "changes": [views.planned_change(change) for change in result.changes]}


@method
def show_config(context: Context) -> Json:
    return context.engine.show_config()


@method
def show_version(context: Context) -> Json:
    return context.engine.version()


def _not_yet(name: str) -> Method:
    async def answer(*args: Any, **kwargs: Any) -> Result:
        raise JsonRpcError(METHOD_NOT_FOUND, "Method not found", {"reason": "not supported yet"})

    answer.__name__ = name
    return answer


METHODS |= {
    name: _not_yet(name)
    for name in (
        "drain",
        "explain",
        "plan",
        "service_disable",
        "service_enable",
        "show_services",
        "undrain",
    )
}

# -- parameters and answers --------------------------------------------------------------------------------


def _text(path: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise Refused(path, f"text is needed, not {type(value).__name__}")


def _flag(path: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Refused(path, "true or false is needed")


def _number(path: str, value: Any, low: int, high: int, *, default: int) -> int:
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise Refused(path, f"a whole number from {low} to {high} is needed")
    return value


async def _encode(items: Iterable[Item], view: Callable[[Item], Json]) -> LongList:
    """A JSON list, encoded item by item with the loop let go after each slice."""
    encode = msgspec.json.Encoder().encode
    pieces: list[bytes] = []
    slice_: list[bytes] = []
    opening = b"["
    for item in items:
        slice_.append(encode(view(item)))
        if len(slice_) == SLICE:
            pieces.append(opening + b",".join(slice_))
            slice_.clear()
            opening = b","
            await asyncio.sleep(0)
    if slice_:
        pieces.append(opening + b",".join(slice_))
    pieces.append(b"[]" if not pieces else b"]")
    return LongList(pieces)
