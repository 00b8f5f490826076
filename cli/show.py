"""The ``show`` verbs: what the daemon is asked, and which table or record the answer becomes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from . import render, render_bfd
from .client import Client, Unreachable, UsageFault
from .render import as_json, write

FOLLOW_S = 0.5
EVENTS_SHOWN = 100


def words(parser: argparse.ArgumentParser, metavar: str) -> None:
    parser.add_argument("words", nargs="*", metavar=metavar)


def _split(typed: Sequence[str], keywords: Sequence[str], usage: str) -> tuple[str | None, str | None]:
    """[PEER] [KEYWORD] in either order; a keyword may be shortened to three letters."""
    rest = []
    chosen: str | None = None
    for word in typed:
        known = [name for name in keywords if len(word) >= 3 and name.startswith(word)]
        if known and chosen is None:
            chosen = known[0]
        else:
            rest.append(word)
    if len(rest) > 1 or (chosen is not None and rest and rest[0] in keywords):
        raise UsageFault(f"too many words: {' '.join(typed)}; it is {usage}")
    return (rest[0] if rest else None), chosen


def show_neighbors(client: Client, args: argparse.Namespace) -> str:
    peer, detail = _split(args.words, ("detail",), "show neighbors [PEER] [detail]")
    if peer is None and not detail:
        peers = client.call("show_peers")
    else:
        found = client.call("show_peer_detail", peer=peer)
        peers = found if isinstance(found, list) else [found]
    if args.json:
        return as_json(peers)
    if detail:
        return "\n".join(map(render.neighbor_record, peers))
    return render.table(render.NEIGHBORS, map(render.neighbor_row, peers), not args.no_header)


def show_bfd(client: Client, args: argparse.Namespace) -> str:
    peer, part = _split(args.words, ("counters", "brief"), "show bfd [PEER] [counters|brief]")
    header = not args.no_header
    if part == "counters":
        answer = client.call("show_bfd_counters", peer=peer)
        if args.json:
            return as_json(answer)
        rows = map(render_bfd.counter_row, answer["sessions"])
        text = render.table(render_bfd.COUNTERS, rows, header)
        return text + (render_bfd.strangers(answer["discards"]) if peer is None else "")
    sessions = client.call("show_bfd", peer=peer)
    if args.json:
        return as_json(sessions)
    if part == "brief":
        count = f"Session count: {len(sessions)}\n" if header else ""
        return count + render.table(render_bfd.BRIEF, map(render_bfd.brief_row, sessions), header)
    if peer is not None:
        return "\n".join(map(render_bfd.session_record, sessions))
    table = render.table(render_bfd.SESSIONS, map(render_bfd.session_row, sessions), header)
    return table + (render_bfd.notes(sessions) if header else "")


def show_routes(client: Client, args: argparse.Namespace) -> str:
    kind, peer = _kind(args.words, "show routes [learned|advertised] [PEER]")
    why = args.why or None  # a daemon that does not know it is not asked
    if kind == "learned":
        routes = client.pages("show_routes_learned", from_peer=peer, why=why)
    elif kind == "advertised":
        routes = client.pages("show_routes_advertised", to_peer=peer, why=why)
    else:
        routes = client.pages("show_routes", why=why)
    if args.json:
        return as_json(list(routes))
    flows: list[dict[str, Any]] = []
    columns = (*render.ROUTES, render.WHY) if why else render.ROUTES
    text = render.table(columns, map(render.route_row, _without_flows(routes, flows)), not args.no_header)
    if flows:
        text += "\n" * bool(text) + render.table(render.FLOWS, map(render.flow_row, flows), not args.no_header)
    return text


def routes_options(parser: argparse.ArgumentParser) -> None:
    words(parser, "[learned|advertised] [PEER]")
    parser.add_argument("--why", action="store_true", help="with the policy and the term that decided on each route")


def _without_flows(routes: Iterable[dict[str, Any]], flows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The unicast routes; flow specifications, which have other columns, are put aside."""
    for route in routes:
        if route["safi"] == "flow":
            flows.append(route)
        else:
            yield route


def _kind(words: Sequence[str], usage: str) -> tuple[str | None, str | None]:
    """[learned|advertised [PEER]]"""
    if not words:
        return None, None
    kinds = [name for name in ("learned", "advertised") if name.startswith(words[0])]
    if len(kinds) != 1 or len(words) > 2:
        raise UsageFault(f"{' '.join(words)}: it is {usage}")
    return kinds[0], words[1] if len(words) > 1 else None


def show_flows(client: Client, args: argparse.Namespace) -> str:
    kind, peer = _kind(args.words, "show flows [learned|advertised] [PEER]")
    flows = client.pages("show_flows", "flows", kind=kind, peer=peer)
    if args.json:
        return as_json(list(flows))
    return render.table(render.FLOWS, map(render.flow_row, flows), not args.no_header)


def events_options(parser: argparse.ArgumentParser) -> None:
    words(parser, "PEER")
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what happens next, until Ctrl-C")
    parser.add_argument("--limit", type=int, default=EVENTS_SHOWN, help="how many at first")


def show_events(client: Client, args: argparse.Namespace) -> str | None:
    if len(args.words) > 1:
        raise UsageFault("it is show events [PEER] [--follow]")
    peer = args.words[0] if args.words else None
    events = client.call("show_events", limit=args.limit, peer=peer)
    if not args.follow:
        return (
            as_json(events)
            if args.json
            else render.table(render.EVENTS, map(render.event_row, events), not args.no_header)
        )
    last = 0
    last_at = 0.0
    lost = False
    while True:
        for event in events:
            if event["number"] <= last and event["at"] <= last_at:
                continue
            last, last_at = event["number"], event["at"]
            line = json.dumps(event) if args.json else "  ".join(map(render.clean, render.event_row(event)))
            write(line + "\n")
        time.sleep(FOLLOW_S)
        try:
            # After a restart of the daemon the numbers begin anew: its latest are looked through.
            events = client.call("show_events", since=None if lost else last, limit=1000, peer=peer)
            lost = False
        except Unreachable as error:
            if not lost:
                print(f"bgpbfdctl: {error}; waiting for it", file=sys.stderr)
            lost, events = True, []


def show_config(client: Client, args: argparse.Namespace) -> str:
    config = client.call("show_config")
    return as_json(config) if args.json else render.tree(config)


def show_version(client: Client, args: argparse.Namespace) -> str:
    version = client.call("show_version")
    return as_json(version) if args.json else render.tree(version)
