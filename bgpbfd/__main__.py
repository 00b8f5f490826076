"""``bgpbfd``: argv to a subcommand."""

from __future__ import annotations

import signal

# `pkill -HUP bgpbfd` reaches every process of that name, however young; whatever does not reload ignores it.
signal.signal(signal.SIGHUP, signal.SIG_IGN)

import argparse  # noqa: E402
import functools  # noqa: E402
import gc  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import bgpbfd  # noqa: E402
from bgpbfd import standalone_options  # noqa: E402
from bgpbfd.lean import without_openssl  # noqa: E402

DEFAULT_CONFIG = "/etc/bgpbfd/bgpbfd.toml"
EXIT_USAGE = 2


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed, 2 usage or a configuration that is refused."""
    args = _parser().parse_args(argv)
    try:
        code = int(args.run(args))
        if sys.stdout is not None:  # as it is when it was closed before the start
            sys.stdout.flush()
    except BrokenPipeError:  # `bgpbfd check | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bgpbfd", description=bgpbfd.__doc__)
    parser.add_argument("--version", action="version", version=f"bgpbfd {bgpbfd.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run the daemon in the foreground; SIGHUP reloads, SIGTERM stops cleanly")
    run.add_argument("config", nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG", help=f"default {DEFAULT_CONFIG}")
    run.set_defaults(run=_run)

    check = commands.add_parser("check", help="check a configuration: exit 0, or 2 and every fault found")
    check.add_argument("config", nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG", help=f"default {DEFAULT_CONFIG}")
    check.set_defaults(run=_check)

    demo = commands.add_parser("demo", help="show a failover on this machine: no root, no file, no network needed")
    demo.add_argument("--once", action="store_true", help="exit after the show; 0 if all of it worked")
    demo.set_defaults(run=_demo)

    bfd = commands.add_parser("bfd", help="BFD alone, without BGP and without a file", allow_abbrev=False)
    standalone_options.add_arguments(bfd)
    bfd.set_defaults(run=functools.partial(_bfd, bfd))

    for name, why in _NOT_YET.items():
        later = commands.add_parser(name, help=f"{why} (not supported yet)")
        later.add_argument("rest", nargs=argparse.REMAINDER)
        later.set_defaults(run=_not_yet, name=name)
    return parser


_NOT_YET = {
    "plan": "the changes of a configuration against the running daemon",
    "import": "turn another program's settings into TOML",
}


def _not_yet(args: argparse.Namespace) -> int:
    print(f"bgpbfd {args.name}: not supported yet", file=sys.stderr)
    return EXIT_USAGE


def _run(args: argparse.Namespace) -> int:
    # What is imported and read from here on stays: collections would only walk it, for 50 ms at a time. The daemon sets
    # it aside once it has started, and collects what comes after that.
    gc.disable()
    with without_openssl():
        from bgpbfd.daemon import run

    return run(Path(args.config))


def _check(args: argparse.Namespace) -> int:
    from bgpbfd.config.load import ConfigError, load

    try:
        config = load(Path(args.config))
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return EXIT_USAGE
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    routes = len(config.static_routes) + sum(len(peer.static_routes) for peer in config.peers)
    flows = sum(len(peer.static_flows) for peer in config.peers)
    counts = ((flows, "static flows"), (len(config.bfd.sessions), "BFD sessions"), (len(config.hooks), "hooks"))
    more = "".join(f", {count} {what}" for count, what in counts if count)
    print(f"{args.config}: good: {len(config.peers)} peers, {routes} static routes{more}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from bgpbfd.demo import demo

    return demo(once=args.once)


def _bfd(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    try:
        options = standalone_options.read_options(args, parser.error)
    except standalone_options.CannotStart as error:
        for reason in error.reasons:
            print(f"bgpbfd bfd: {reason}", file=sys.stderr)
        return standalone_options.EXIT_FAILED
    from bgpbfd.standalone import bfd

    return bfd(options)


if __name__ == "__main__":
    sys.exit(main())
