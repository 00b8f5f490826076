"""The verbs: what was typed → one call of the API → what is printed and the exit code.

Exit codes: 0 good; 1 the daemon refused the command, or a reload failed; 2 usage, or a verb that is not supported yet;
3 no daemon reachable. A ``show`` verb that got its answer ends with 0, however bad the news in it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from . import render
from .client import DEFAULT_API, RELOAD_TIMEOUT_S, Client, RpcError, Unreachable, UsageFault
from .render import as_json, write
from .show import (
    events_options,
    routes_options,
    show_bfd,
    show_config,
    show_events,
    show_flows,
    show_neighbors,
    show_routes,
    show_version,
    words,
)

OK, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3

Action: TypeAlias = Callable[[Client, argparse.Namespace], str | None]
"""Gives what to print; None when it has printed by itself."""
VALUE_OPTIONS = ("--api", "--interval", "-n")

USAGE_TEXT = """\
usage: bgpbfdctl [--api unix:PATH|URL] [-j] [--watch] [--no-header] VERB …

  show neighbors|peers [PEER] [detail]          show bfd [PEER] [counters|brief]
  show routes [learned|advertised] [PEER]       show flows [learned|advertised] [PEER]
    with --why: what policy said of each
  show events [PEER] [--follow]                 show config
  advertise route PREFIX NEXT_HOP [options]     withdraw route PREFIX [--peer PEER…]
  advertise flow ipv4|ipv6 ACTION -m MATCH…     withdraw flow ipv4|ipv6 -m MATCH…
  neighbor PEER enable|reset|refresh            neighbor PEER disable [MESSAGE]
  clear bfd counters [PEER]                     reload; show version

PEER is a neighbor's address or description. Verbs may be shortened: sh nei.
  --api unix:PATH|URL  where the daemon listens (or BGPBFD_API; default {api})
  -j, --json           the answer as JSON
  --watch              again and again, every 2 s (--interval SECONDS), until Ctrl-C
  --no-header          tables without the line of column names
exit codes: 0 good, 1 refused, 2 usage, 3 daemon not reachable
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageFault(f"{message}\n{self.format_usage().strip()}")


def _parser(name: str) -> _Parser:
    parser = _Parser(prog=f"bgpbfdctl {name}", allow_abbrev=False)
    parser.add_argument("--api", default=os.environ.get("BGPBFD_API") or DEFAULT_API, metavar="unix:PATH|URL")
    parser.add_argument("-j", "--json", action="store_true", help="the answer as JSON")
    parser.add_argument("--watch", action="store_true", help="again and again until Ctrl-C")
    parser.add_argument("-n", "--interval", type=_interval, default=2.0, help="seconds between, default 2")
    parser.add_argument("--no-header", action="store_true", help="tables without column names")
    return parser


def _interval(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("0.1 to 3600 seconds")
    return seconds


# -- commands ----------------------------------------------------------------------------------------------


def reload(client: Client, args: argparse.Namespace) -> str:
    result = client.call("reload", timeout=RELOAD_TIMEOUT_S)
    if args.json:
        return as_json(result)
    if not result["changes"]:
        return "reloaded: nothing changed\n"
    lines = [
        f"  {render.clean(change['impact'])}: {render.clean(change['path'])}: {render.clean(change['text'])}\n"
        for change in result["changes"]
    ]
    return f"reloaded, {len(lines)} change{'s' if len(lines) > 1 else ''}:\n" + "".join(lines)


def _advertise_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX")
    parser.add_argument("next_hop", metavar="NEXT_HOP", help='an address, or "self"')
    _attribute_options(parser)
    parser.add_argument("--ttl", type=float, metavar="SECONDS")
    _peer_option(parser)


def _attribute_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--as-path", nargs="+", action="extend", metavar="ASN")
    parser.add_argument("-o", "--origin", metavar="igp|egp|incomplete")
    parser.add_argument("-p", "--local-pref", type=int, metavar="N")
    parser.add_argument("--med", type=int, metavar="N")
    parser.add_argument("-c", "--communities", nargs="+", action="extend", metavar="COMMUNITY")


def _peer_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", nargs="+", action="extend", metavar="PEER", help="to these only; default all")


def _attributes(args: argparse.Namespace) -> dict[str, Any]:
    """The attributes that were given, as the API takes them."""
    # The comma inside an AS_SET, {1,2}, separates nothing.
    paths = [item if "{" in item else item.replace(",", " ") for item in args.as_path or ()]
    as_path = [word for item in paths for word in item.split()]
    communities = [word for item in args.communities or () for word in item.replace(",", " ").split()]
    attributes = {
        "origin": args.origin,
        "as_path": as_path or None,
        "local_pref": args.local_pref,
        "multi_exit_disc": args.med,
        "communities": communities or None,
    }
    return {key: value for key, value in attributes.items() if value is not None}


def advertise_route(client: Client, args: argparse.Namespace) -> str:
    route = {"prefix": args.prefix, "next_hop": args.next_hop} | _attributes(args)
    result = client.call("advertise_route", route=route, peers=args.peer, ttl=args.ttl)
    return as_json(result) if args.json else f"{result['prefix']} is advertised to {_peers(result['peers'])}\n"


def _withdraw_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX")
    _peer_option(parser)


def withdraw_route(client: Client, args: argparse.Namespace) -> str:
    result = client.call("withdraw_route", prefix=args.prefix, peers=args.peer)
    return as_json(result) if args.json else f"{result['prefix']} is withdrawn from {_peers(result['peers'])}\n"


def _flow_options(parser: argparse.ArgumentParser, words: str = "*") -> None:
    parser.add_argument("afi", metavar="ipv4|ipv6")
    parser.add_argument("action", nargs=words, metavar="ACTION", help="such as traffic-rate 24000, or discard")
    parser.add_argument(
        "-m", "--matches", nargs="+", action="extend", metavar="MATCH", required=True,
        help="such as 'destination-port >8000 <=8080', in quotes",
    )  # fmt: skip
    _peer_option(parser)


def _advertise_flow_options(parser: argparse.ArgumentParser) -> None:
    _flow_options(parser, "+")
    _attribute_options(parser)


def advertise_flow(client: Client, args: argparse.Namespace) -> str:
    flow = {"afi": _afi(args), "action": " ".join(args.action), "matches": args.matches} | _attributes(args)
    result = client.call("advertise_flow", flow=flow, peers=args.peer)
    return as_json(result) if args.json else f"{_rule(result)} is advertised to {_peers(result['peers'])}\n"


def withdraw_flow(client: Client, args: argparse.Namespace) -> str:
    result = client.call("withdraw_flow", flow={"afi": _afi(args), "matches": args.matches}, peers=args.peer)
    return as_json(result) if args.json else f"{_rule(result)} is withdrawn from {_peers(result['peers'])}\n"


def _afi(args: argparse.Namespace) -> int:
    return ("ipv4", "ipv6").index(_one_of(args.afi, ("ipv4", "ipv6"), "flow")) + 1


def _rule(result: dict[str, Any]) -> str:
    return render.clean(", ".join(result["matches"]))


def _peers(count: int) -> str:
    return f"{count} peer{'' if count == 1 else 's'}"


def _neighbor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER")
    parser.add_argument("action", metavar="enable|disable|reset|refresh")
    parser.add_argument("message", nargs="*", metavar="MESSAGE", help="with disable: told to the peer (RFC 9003)")


def neighbor(client: Client, args: argparse.Namespace) -> str:
    action = _one_of(args.action, ("enable", "disable", "reset", "refresh"), "neighbor PEER")
    message = " ".join(args.message) or None
    if message is not None and action != "disable":
        raise UsageFault(f"neighbor PEER {action} takes no message")
    result = client.call(f"peer_{action}", peer=args.peer, message=message)
    if args.json:
        return as_json(result)
    done = {"enable": "enabled", "disable": "disabled", "reset": "reset", "refresh": "asked for its routes again"}
    return f"{render.clean(result['peer'])} {done[action]}\n"


def clear_bfd_counters(client: Client, args: argparse.Namespace) -> str:
    if len(args.words) > 1:
        raise UsageFault("it is clear bfd counters [PEER]")
    result = client.call("clear_bfd_counters", peer=args.words[0] if args.words else None)
    count = result["cleared"]
    return as_json(result) if args.json else f"counters of {count} BFD session{'' if count == 1 else 's'} cleared\n"


# -- what was typed ----------------------------------------------------------------------------------------

Options: TypeAlias = Callable[[argparse.ArgumentParser], None]
Leaf: TypeAlias = tuple[Action, Options] | None
"""None: named, and not supported yet."""
Tree: TypeAlias = "dict[str, Leaf | Tree]"


def _nothing(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


_LATER: Leaf = None
VERBS: Tree = {
    "show": {
        "neighbors": (show_neighbors, lambda parser: words(parser, "[PEER] [detail]")),
        "peers": (show_neighbors, lambda parser: words(parser, "[PEER] [detail]")),
        "bfd": (show_bfd, lambda parser: words(parser, "[PEER] [counters|brief]")),
        "routes": (show_routes, routes_options),
        "events": (show_events, events_options),
        "config": (show_config, _nothing),
        "version": (show_version, _nothing),
        "flows": (show_flows, lambda parser: words(parser, "[learned|advertised] [PEER]")),
        "services": _LATER,
    },
    "reload": (reload, _nothing),
    "advertise": {
        "route": (advertise_route, _advertise_options),
        "flow": (advertise_flow, _advertise_flow_options),
    },
    "withdraw": {"route": (withdraw_route, _withdraw_options), "flow": (withdraw_flow, _flow_options)},
    "neighbor": (neighbor, _neighbor_options),
    "clear": {"bfd": {"counters": (clear_bfd_counters, lambda parser: words(parser, "[PEER]"))}},
    "explain": _LATER,
    "plan": _LATER,
    "drain": _LATER,
    "undrain": _LATER,
    "service": _LATER,
    "top": _LATER,
    "doctor": _LATER,
}


def _one_of(word: str, names: Sequence[str], before: str) -> str:
    """The name that ``word`` is, or begins as the only one."""
    if word in names:
        return word
    found = [name for name in names if name.startswith(word)]
    if len(found) == 1:
        return found[0]
    what = "may be" if found else "is not known; it is one of"
    raise UsageFault(f"{before + ' ' if before else ''}{word}: {what} {', '.join(found or names)}")


def _find(argv: Sequence[str]) -> tuple[str, Leaf, list[str]]:
    """The verb's words, what they mean, and the arguments without them."""
    place: Leaf | Tree = VERBS
    name = ""
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if not isinstance(place, dict):
            rest.append(word)
        elif word.startswith("-"):
            if word in ("-h", "--help"):
                raise _Help
            rest.append(word)
            if word in VALUE_OPTIONS:
                rest.extend(value for value in [next(words, None)] if value is not None)
        else:
            verb = _one_of(word, tuple(place), name)
            place = place[verb]
            name = f"{name} {verb}".strip()
    if isinstance(place, dict):
        raise UsageFault(f"{name or 'a verb is missing'}: {', '.join(place)}; bgpbfdctl --help says more")
    return name, place, rest


class _Help(Exception):
    """Asked for without a verb."""


def run(argv: Sequence[str] | None = None) -> int:
    """The whole command; the exit code."""
    try:
        name, leaf, rest = _find(sys.argv[1:] if argv is None else argv)
        if leaf is None:
            raise UsageFault("not supported yet")
        action, options = leaf
        parser = _parser(name)
        options(parser)
        return _perform(action, parser.parse_intermixed_args(rest))
    except _Help:
        write(USAGE_TEXT.format(api=DEFAULT_API))
        return OK
    except UsageFault as fault:
        _complain(str(fault))
        return USAGE
    except RpcError as error:
        _complain(error.text())
        return USAGE if error.not_supported else REFUSED
    except Unreachable as error:
        _complain(str(error))
        return UNREACHABLE
    except BrokenPipeError:
        # The reader has seen enough; nothing more may be flushed into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE


def _perform(action: Action, args: argparse.Namespace) -> int:
    client = Client(args.api)
    repeat = args.watch or getattr(args, "follow", False)
    try:
        text = action(client, args)
        if text is not None:
            _show(text, args)
        while args.watch:
            time.sleep(args.interval)
            try:
                text = action(client, args)
            except Unreachable as error:
                text = f"bgpbfdctl: {error}\n"
            if text is not None:
                _show(text, args)
    except KeyboardInterrupt:
        if repeat:
            return OK
        raise
    except OSError as error:
        if isinstance(error, BrokenPipeError) or not repeat:
            raise
        return OK  # the terminal is gone
    return OK


def _show(text: str, args: argparse.Namespace) -> None:
    if args.watch and sys.stdout.isatty():
        text = f"\x1b[H\x1b[2J\x1b[3J{time.strftime('%H:%M:%S')}  every {args.interval:g} s\n\n{text}"
    write(text)


def _complain(text: str) -> None:
    lines = text.split("\n")
    sys.stderr.write("".join(f"bgpbfdctl: {render.clean(line)}\n" for line in lines))
