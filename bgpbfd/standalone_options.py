"""``bgpbfd bfd``: what was typed, checked, and its host names looked up.

aiobfd's spellings (``-r -t -m -p -4 -6 -l``) are among the options. It imports little, as any
``bgpbfd`` command does too.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, TypeAlias

from bgpbfd.wire.bfd import AUTH_KEY_LENGTH_MAX, AUTH_TYPES, auth_key

EXIT_FAILED = 1
INTERVAL_MS = (10, 60_000)
DEFAULT_MS, DEFAULT_MULT, DEFAULT_MINIMUM_TTL = 300, 3, 254
ECHO_MS = 50
LEVELS = ("debug", "info", "warning", "error")
KEY_LIMITS = {name: AUTH_KEY_LENGTH_MAX[auth_type] for name, auth_type in AUTH_TYPES.items()}
FAMILY_NAMES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_KEY_LINE_MAX = 1024

Complain: TypeAlias = Callable[[str], NoReturn]
"""Ends the program as one that was called the wrong way."""


class CannotStart(Exception):
    """What was asked for makes sense, and cannot be had; one text a reason."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Key(NamedTuple):
    """As protocol.AuthKey."""

    type: str
    key_id: int
    octets: bytes

    def __repr__(self) -> str:
        return f"Key({self.type!r}, {self.key_id}, …)"


class Host(NamedTuple):
    """``address``: canonical text without scope, which is ``interface``; ``name``: as typed."""

    name: str
    address: str
    interface: str | None

    @property
    def text(self) -> str:
        """The address as people write it."""
        return f"{self.address}%{self.interface}" if self.interface else self.address

    @property
    def title(self) -> str:
        """With the name, where that says more."""
        return self.text if self.name == self.text else f"{self.name} ({self.text})"


@dataclass(slots=True, frozen=True)
class Options:
    """Intervals in ms; ``local`` None: whatever address the kernel chooses. ``bind``: what to listen on."""

    bind: str
    local: str | None
    remotes: tuple[Host, ...]
    interface: str | None
    rx_interval_ms: int
    tx_interval_ms: int
    detect_mult: int
    passive: bool
    demand: bool
    echo_ms: int
    multihop: bool
    minimum_ttl: int
    keys: tuple[Key, ...]
    json: bool
    log_level: str
    warnings: tuple[str, ...] = field(default=())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("local", metavar="LOCAL", help="our address, or a host name of it; 0.0.0.0 or ::, any of ours")
    parser.add_argument("remotes", nargs="+", metavar="REMOTE", help="whom to watch: addresses or host names")
    ms = "{}–{} ms".format(*INTERVAL_MS)
    parser.add_argument(
        "-r", "--rx-interval", type=_interval, default=DEFAULT_MS, metavar="MS",
        help=f"how often packets may come, {ms}, default {DEFAULT_MS}",
    )  # fmt: skip
    parser.add_argument(
        "-t", "--tx-interval", type=_interval, default=DEFAULT_MS, metavar="MS",
        help=f"how often to send them, {ms}, default {DEFAULT_MS}",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--detect-mult", type=_number("multiplier", 1, 255), default=DEFAULT_MULT, metavar="N",
        help=f"how many may be missing, 1–255, default {DEFAULT_MULT}",
    )  # fmt: skip
    parser.add_argument("-p", "--passive", action="store_true", help="say nothing before the other end does")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", "--ipv4", action="store_const", dest="family", const=socket.AF_INET, help="IPv4 only")
    family.add_argument("-6", "--ipv6", action="store_const", dest="family", const=socket.AF_INET6, help="IPv6 only")
    parser.add_argument("--interface", metavar="NAME", help="the interface of the sessions")
    parser.add_argument("--multihop", action="store_true", help="over routers (RFC 5883, port 4784)")
    parser.add_argument(
        "--minimum-ttl", type=_number("TTL", 1, 254), metavar="TTL",
        help=f"with --multihop: what comes with less is discarded, 1–254, default {DEFAULT_MINIMUM_TTL}",
    )  # fmt: skip
    parser.add_argument("--demand", action="store_true", help="ask the other end for silence once up (RFC 5880 §6.6)")
    parser.add_argument("--echo", action="store_true", help=f"echo packets every {ECHO_MS} ms, and loop back theirs")
    parser.add_argument(
        "--auth", action="append", default=[], type=_auth, metavar="TYPE:KEYID",
        help=f"TYPE: {', '.join(KEY_LIMITS)}; KEYID 0–255; several for rotation, the first signs",
    )  # fmt: skip
    parser.add_argument(
        "--auth-key-file", action="append", default=[], metavar="FILE",
        help="whose first line is the key, as text or 0x… in hex; one for each --auth, in their order",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="everything as JSON on standard output, an object a line")
    parser.add_argument(
        "-l", "--log-level", type=_level, default="info", metavar="LEVEL",
        help=f"the least that standard error is told: {', '.join(LEVELS)}; default info",
    )  # fmt: skip
    parser.epilog = (
        "A line for each change of state on standard output. SIGUSR1 prints a table of the sessions; SIGINT and "
        "SIGTERM say AdminDown to the other ends, print it, and end with 0. Exit codes: 1 it could not start, 2 usage."
    )


def read_options(args: argparse.Namespace, complain: Complain) -> Options:
    """Checks what one option says against another, and looks names up. Raises CannotStart."""
    if args.minimum_ttl is not None and not args.multihop:
        complain("--minimum-ttl is for --multihop: over a single hop the TTL has to be 255 (RFC 5881 §5)")
    if args.echo and args.multihop:
        complain("--echo is for a single hop: there are no echo packets with --multihop (RFC 5883 §3)")
    keys, warnings = _keys(args.auth, args.auth_key_file, complain)
    names = [args.local, *args.remotes]
    hosts = _resolve(names, _family(names, args.family, complain))
    interface = _interface(args.interface, hosts, complain)
    local, *remotes = [_scoped(host, interface) for host in hosts]
    any_local = _check_addresses(local, remotes, complain)
    return Options(
        bind=local.text,
        local=None if any_local else local.address,
        remotes=tuple(remotes),
        interface=interface,
        rx_interval_ms=args.rx_interval,
        tx_interval_ms=args.tx_interval,
        detect_mult=args.detect_mult,
        passive=args.passive,
        demand=args.demand,
        echo_ms=ECHO_MS if args.echo else 0,
        multihop=args.multihop,
        minimum_ttl=(args.minimum_ttl or DEFAULT_MINIMUM_TTL) if args.multihop else 255,
        keys=keys,
        json=args.json,
        log_level=args.log_level,
        warnings=warnings,
    )


# -- single values -----------------------------------------------------------------------------------------


def _number(what: str, low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no {what} from {low} to {high}")
        return int(text)

    return parse


_interval = _number("number of milliseconds", *INTERVAL_MS)


def _level(text: str) -> str:
    """aiobfd's are written in capitals, and have one more."""
    level = text.lower().replace("critical", "error")
    if level not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEVELS)}")
    return level


def _auth(text: str) -> tuple[str, int]:
    kind, _, number = text.partition(":")
    kind = re.sub("^met-", "meticulous-", kind)  # FreeRADIUS
    if kind not in KEY_LIMITS:
        raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(KEY_LIMITS)}")
    if not re.fullmatch(r"[0-9]{1,3}", number, re.ASCII) or int(number) > 255:
        raise argparse.ArgumentTypeError(f"a key's number from 0 to 255 is needed, such as {kind}:1")
    return kind, int(number)


# -- keys --------------------------------------------------------------------------------------------------


def _keys(
    auth: Sequence[tuple[str, int]], files: Sequence[str], complain: Complain
) -> tuple[tuple[Key, ...], tuple[str, ...]]:
    if len(auth) != len(files):
        complain(f"each --auth needs its --auth-key-file: there are {len(auth)} and {len(files)}")
    if len({number for _, number in auth}) < len(auth):
        complain("--auth: each key's number stands once")
    keys, warnings = [], []
    for (kind, number), file in zip(auth, files, strict=True):
        try:
            octets, open_to_all = _read_key(file)
        except OSError as error:
            complain(f"--auth-key-file {file}: {error.strerror or error}")
        except ValueError as error:  # its text has nothing of the key
            complain(f"--auth-key-file {file}: {error}")
        if not 1 <= len(octets) <= KEY_LIMITS[kind]:
            complain(f"--auth-key-file {file}: a {kind} key has 1 to {KEY_LIMITS[kind]} octets")
        if open_to_all:
            warnings.append(f"everybody on this host can read {file}")
        keys.append(Key(kind, number, octets))
    return tuple(keys), tuple(warnings)


def _read_key(file: str) -> tuple[bytes, bool]:
    """The key as it stands in packets before padding, and whether all may read it."""
    with open(file, "rb") as stream:
        line = stream.readline(_KEY_LINE_MAX).removesuffix(b"\n").removesuffix(b"\r")
        mode = os.fstat(stream.fileno()).st_mode
    return auth_key(line.decode()), stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)


# -- addresses ---------------------------------------------------------------------------------------------


def _family(names: Sequence[str], forced: int | None, complain: Complain) -> int:
    """That of the addresses among the names, or as forced; AF_UNSPEC if neither says."""
    family, because = forced, ""
    for name in names:
        host = _literal(name)
        if host is None:
            continue
        found = socket.AF_INET6 if ":" in host.address else socket.AF_INET
        if family is not None and found != family:
            complain(f"{name} is an {FAMILY_NAMES[found]} address, {because or f'not {FAMILY_NAMES[family]}'}")
        family, because = found, because or f"and {name} is not"
    return socket.AF_UNSPEC if family is None else family


def _literal(name: str) -> Host | None:
    """An address, in canonical text; None for what must be a host's name."""
    from bgpbfd.config.names import parse_address

    try:
        address, scope = parse_address(name)
    except ValueError:
        return None
    return Host(name, str(address), scope)


def _resolve(names: Sequence[str], family: int) -> list[Host]:
    """One address each, all of one family: the first that the first name has and all others have too."""
    found: list[dict[int, Host]] = []
    failures = []
    for name in names:
        try:
            found.append(_look_up(name, family))
        except (OSError, UnicodeError) as error:  # UnicodeError: what no name can be
            reason = error.strerror if isinstance(error, OSError) else "no host can have this name"
            failures.append(f"{name}: {reason or error}")
    if failures:
        raise CannotStart(*failures)
    for common in found[0]:
        if all(common in hosts for hosts in found):
            return [hosts[common] for hosts in found]
    families = [
        f"{name} has {' and '.join(FAMILY_NAMES[f] for f in hosts)}" for name, hosts in zip(names, found, strict=True)
    ]
    raise CannotStart("no address family that all have: " + ", ".join(families))


def _look_up(name: str, family: int) -> dict[int, Host]:
    """The first address of each family, in the resolver's order. Raises OSError and UnicodeError."""
    host = _literal(name)
    if host is not None:
        return {socket.AF_INET6 if ":" in host.address else socket.AF_INET: host}
    hosts: dict[int, Host] = {}
    for found, _, _, _, place in socket.getaddrinfo(name, None, family, socket.SOCK_DGRAM):
        if found in FAMILY_NAMES:
            address, _, _ = str(place[0]).partition("%")
            scope = int(place[3]) if len(place) == 4 else 0
            hosts.setdefault(found, Host(name, address, socket.if_indextoname(scope) if scope else None))
    return hosts


def _check_addresses(local: Host, remotes: Sequence[Host], complain: Complain) -> bool:
    """Whether LOCAL is any address."""
    import ipaddress

    ours = ipaddress.ip_address(local.address)
    if ours.is_multicast:
        complain(f"LOCAL {local.name} is multicast: one of this host's addresses is needed")
    known: dict[str, str] = {}
    for host in remotes:
        if host.text in known:
            complain(f"REMOTE {host.name} is {host.text}, as {known[host.text]} is: name each once")
        known[host.text] = host.name
        theirs = ipaddress.ip_address(host.address)
        if theirs.is_multicast or theirs.is_unspecified or str(theirs) == "255.255.255.255":
            complain(f"REMOTE {host.name} is no host's address")
        if host.text == local.text:
            complain(f"REMOTE {host.name} is LOCAL: BFD needs another end")
    return ours.is_unspecified


def _link_local(host: Host) -> bool:
    import ipaddress

    return ":" in host.address and ipaddress.ip_address(host.address).is_link_local


def _scoped(host: Host, interface: str | None) -> Host:
    """Link-local addresses have a scope, and no others."""
    return host._replace(interface=interface if _link_local(host) else None)


def _interface(given: str | None, hosts: Sequence[Host], complain: Complain) -> str | None:
    """That of the sessions: as given, or as the addresses' scopes say. Raises CannotStart if it is not there."""
    scopes = {host.interface for host in hosts if host.interface is not None}
    if given is not None:
        scopes.add(given)
    if len(scopes) > 1:
        complain(f"one interface is possible, not {' and '.join(sorted(scopes))}")
    interface = next(iter(scopes), None)
    for host in hosts:
        if interface is None and _link_local(host):
            complain(f"{host.name} is a link-local address: write it with %INTERFACE, or add --interface")
    if interface is not None:
        try:
            socket.if_nametoindex(interface)
        except OSError as error:
            raise CannotStart(f"interface {interface}: {error.strerror}") from None
        except ValueError:
            complain(f"--interface {interface!r}: no interface can have this name")
    return interface
