"""From a file to a Config: every fault is found in one go, and nothing half right comes out.

The merged TOML is walked table by table (``values.Table``); a wrong value is noted and replaced by its default, so
that the rest, and the rules across keys (``validate``), are looked at as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from bgpbfd.config import validate
from bgpbfd.config.bfd import BfdReader
from bgpbfd.config.faults import ConfigError, Fault, FaultList
from bgpbfd.config.files import Loader, read_text
from bgpbfd.config.flows import FLOW_KEYS, read_flow, read_rule
from bgpbfd.config.hooks import read_hooks
from bgpbfd.config.model import (
    ApiConfig,
    ApiListen,
    Config,
    Listen,
    LogConfig,
    StaticFlow,
    StaticRoute,
)
from bgpbfd.config.names import did_you_mean, parse_address
from bgpbfd.config.peers import PeerReader
from bgpbfd.config.policies import read_policies
from bgpbfd.config.routes import ROUTE_KEYS, RouteReader
from bgpbfd.config.secret_files import SecretFiles
from bgpbfd.config.values import (
    Table,
    api_listen,
    asn,
    boolean,
    choice,
    cluster_id,
    listen,
    octal_mode,
    router_id,
    seconds,
)
from bgpbfd.core import Prefix

__all__ = ["ConfigError", "Fault", "load", "loads", "parse_flow", "parse_flow_rule", "parse_route"]

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_PARTS = (
    "default", "bgp", "bfd", "rib", "config", "control", "services", "hooks", "io", "api", "daemon",
)  # fmt: skip
TOP_KEYS = (*(field for field in Config.__struct_fields__ if field not in {"warnings", "files"}), "include")
PLACEHOLDER_ROUTER_ID = "192.0.2.0"  # stands in, beside a fault, so that the rest can be looked at


def load(path: Path) -> Config:
    """The configuration of a file. Raises ConfigError with all that is wrong."""
    try:
        text = read_text(path, pipe=True)
    except ValueError as error:
        raise ConfigError([Fault("", str(error), str(path))]) from None
    return _load(text, str(path), path.parent, path)


def loads(text: str, source: str = "<text>", base: Path | None = None) -> Config:
    """The configuration of a text. ``source`` is its name in faults; files that it names are relative to ``base``.

    Raises ConfigError with all that is wrong.
    """
    return _load(text, source, base, None)


def parse_route(raw: Mapping[str, object], path: str = "route", *, extended_next_hop: bool = False) -> StaticRoute:
    """One route from the keys of ``[[static_routes]]`` (not ``routes_file``), as an API request has them.

    ``extended_next_hop``: an IPv4 prefix may have an IPv6 next hop, as a neighbor that it is for takes it (RFC 8950).
    Raises ConfigError with all that is wrong, each path under ``path``.
    """
    faults = FaultList("")
    known = {key: value for key, value in raw.items() if key != "routes_file"}
    if len(known) != len(raw):
        faults.add(f"{path}.routes_file", f"unknown key; {did_you_mean('routes_file', ROUTE_KEYS)}")
    source = RouteReader(faults, Path()).read_one(known, path, "static_routes[]")
    if source is not None:
        validate.next_hop_family(faults, source, extended_next_hop=extended_next_hop)
    if source is None or faults.faults:
        raise ConfigError(faults.finish())
    return source.routes[0]


def parse_flow(raw: Mapping[str, object], path: str = "flow") -> StaticFlow:
    """One flow specification from the keys of ``[[peers.static_flows]]``, as an API request has them.

    Raises ConfigError with all that is wrong, each path under ``path``.
    """
    faults = FaultList("")
    flow = read_flow(Table(raw, path, "static_flows[]", FLOW_KEYS, faults))
    if flow is None or faults.faults:
        raise ConfigError(faults.finish())
    return flow


def parse_flow_rule(raw: Mapping[str, object], path: str = "flow") -> Prefix:
    """The rule alone, which is what a withdrawal names: of the same keys only ``afi`` and ``matches`` count.

    Raises as ``parse_flow``.
    """
    faults = FaultList("")
    rule = read_rule(Table(raw, path, "static_flows[]", FLOW_KEYS, faults))
    if rule is None or faults.faults:
        raise ConfigError(faults.finish())
    return rule


def _load(text: str, source: str, base: Path | None, path: Path | None) -> Config:
    faults = FaultList(source)
    loader = Loader(faults)
    if path is not None:
        loader.mark_seen(path)
    loader.load(text, source, base)
    if faults.faults and not loader.merged:
        raise ConfigError(faults.finish())
    config = _Builder(faults, loader.merged, base or Path()).build()
    if faults.faults:
        raise ConfigError(faults.finish())
    return msgspec.structs.replace(config, files=tuple(loader.files))


class _Builder:
    """Turns one merged table into a Config."""

    def __init__(self, faults: FaultList, raw: dict[str, object], base: Path) -> None:
        self._faults = faults
        self._top = Table(raw, "", "", TOP_KEYS, faults)
        self._routes = RouteReader(faults, base)
        self._secrets = SecretFiles(faults, base)
        self._warnings: list[str] = []

    def build(self) -> Config:
        top = self._top
        own_id = top.require("router_id", router_id, 'an IPv4 address, such as "192.0.2.10"')
        default_as = top.require("default_as", asn, "this host's AS number, such as 65010")
        api = self._api()
        bfd = BfdReader(self._faults, self._secrets)
        bfd_global = bfd.read(top)
        policies = read_policies(top)
        global_routes = self._routes.read(top, "static_routes")
        peers = PeerReader(
            self._faults,
            routes=self._routes,
            secrets=self._secrets,
            bfd=bfd,
            policies=policies,  # wrong ones too: a peer that uses one is not to blame
            own_id=own_id or PLACEHOLDER_ROUTER_ID,
            default_as=default_as,
        )
        drafts = [draft for path, raw in top.tables("peers") if (draft := peers.read(raw, path)) is not None]
        config = Config(
            router_id=own_id or PLACEHOLDER_ROUTER_ID,
            default_as=default_as or 1,
            bgp_socket=self._bgp_socket(),
            api_socket=self._api_socket(api),
            poll_interval=top.get("poll_interval", seconds(0.1, 86400), 5.0),
            cluster_id=top.get("cluster_id", cluster_id, None),
            api=api,
            log=self._log(),
            bfd=bfd_global,
            peers=tuple(draft.peer for draft in drafts),
            static_routes=tuple(route for source in global_routes for route in source.routes),
            hooks=read_hooks(top, self._faults, self._warnings),
            policies=policies,
        )
        validate.check(config, drafts, bfd.drafts, global_routes, self._faults)
        warnings = (*self._warnings, *self._secrets.warnings, *validate.warnings(config, drafts, self._faults))
        return msgspec.structs.replace(config, warnings=warnings)

    def _bgp_socket(self) -> tuple[Listen, ...]:
        sockets = self._top.items("bgp_socket", listen, (Listen("::", 179),))
        return self._without_covered(sockets)

    def _without_covered(self, sockets: tuple[Listen, ...]) -> tuple[Listen, ...]:
        """Without 0.0.0.0:PORT beside [::]:PORT, which serves IPv4 too: both cannot be bound."""
        kept = []
        for item in sockets:
            if item.host == "0.0.0.0" and Listen("::", item.port) in sockets:
                self._warnings.append(f"bgp_socket: {item} is left out, [::]:{item.port} serves IPv4 too")
            else:
                kept.append(item)
        return tuple(kept)

    def _api_socket(self, api: ApiConfig) -> tuple[ApiListen, ...]:
        default: tuple[ApiListen, ...] = Config(router_id="", default_as=0).api_socket
        sockets: dict[ApiListen, None] = {}
        for item in self._top.items("api_socket", api_listen, default):
            if not isinstance(item, Listen) or api.token_file is not None or _loopback(item.host):
                sockets[item] = None
                continue
            # BGPd-rs files say "[::]:8080": they load, but what it opens to everybody needs a token here
            local = [Listen("127.0.0.1", item.port)] if ":" not in item.host else [Listen("::1", item.port)]
            if item.host == "::":
                local.append(Listen("127.0.0.1", item.port))
            sockets.update(dict.fromkeys(local))
            names = " and ".join(str(address) for address in local)
            self._warnings.append(f"api_socket: {item} is served on {names} only: other hosts need api.token_file")
        return tuple(sockets)

    def _api(self) -> ApiConfig:
        table = self._top.table("api", ApiConfig.__struct_fields__)
        return ApiConfig(
            unix_mode=table.get("unix_mode", octal_mode, 0o660), metrics=table.get("metrics", boolean, False)
        )

    def _log(self) -> LogConfig:
        table = self._top.table("log", LogConfig.__struct_fields__)
        level_of = choice(*LOG_LEVELS)
        levels = {"default": "info"}
        if isinstance(table.raw.get("level"), dict):
            parts = table.table("level", LOG_PARTS)
            levels |= {part: parts.get(part, level_of, "info") for part in parts.raw}
        else:
            levels["default"] = table.get("level", level_of, "info")
        return LogConfig(level=levels, format=table.get("format", choice("text", "json"), "text"))


def _loopback(host: str) -> bool:
    return parse_address(host)[0].is_loopback
