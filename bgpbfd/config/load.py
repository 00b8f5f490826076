"""From a file to a Config: every fault is found in one go, and nothing half right comes out.

The merged TOML is walked table by table (``values.Table``); a wrong value is noted and replaced by its default, so
that the rest, and the rules across keys (``validate``), are looked at as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from bgpbfd.config import validate
from bgpbfd.config.faults import ConfigError, Fault, FaultList
from bgpbfd.config.files import Loader, read_text
from bgpbfd.config.flows import FLOW_KEYS, read_flow, read_flows, read_rule
from bgpbfd.config.model import (
    ApiConfig,
    ApiListen,
    BfdGlobal,
    BfdProfile,
    BfdSettings,
    Config,
    Listen,
    LogConfig,
    MaxPrefixes,
    PeerConfig,
    StaticFlow,
    StaticRoute,
)
from bgpbfd.config.names import check_interface, did_you_mean, parse_address, parse_network, peer_id
from bgpbfd.config.routes import ROUTE_KEYS, RouteReader
from bgpbfd.config.values import (
    Table,
    address,
    api_listen,
    asn,
    bind_address,
    boolean,
    choice,
    hold_time,
    integer,
    kind,
    label,
    listen,
    octal_mode,
    router_id,
    seconds,
    shown,
    string,
)
from bgpbfd.core import FAMILIES_BY_NAME, IPV4_UNICAST, IPV6_UNICAST, Family, Prefix

__all__ = ["ConfigError", "Fault", "load", "loads", "parse_flow", "parse_flow_rule", "parse_route"]

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_PARTS = (
    "default", "bgp", "bfd", "rib", "config", "control", "services", "hooks", "io", "api", "daemon",
)  # fmt: skip
SOURCES = ("api", "config", "service", "peer")
TOP_KEYS = (*(field for field in Config.__struct_fields__ if field not in {"warnings", "files"}), "include")
PEER_KEYS = (*(field for field in PeerConfig.__struct_fields__ if field != "id"), "router_id")
BFD_KEYS = BfdProfile.__struct_fields__
PLACEHOLDER_ROUTER_ID = "192.0.2.0"  # stands in, beside a fault, so that the rest can be looked at
DEFAULT_FAMILIES = (IPV4_UNICAST, IPV6_UNICAST)
MAX_U32 = 0xFFFFFFFF


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


def parse_route(raw: Mapping[str, object], path: str = "route") -> StaticRoute:
    """One route from the keys of ``[[static_routes]]`` (not ``routes_file``), as an API request has them.

    Raises ConfigError with all that is wrong, each path under ``path``.
    """
    faults = FaultList("")
    known = {key: value for key, value in raw.items() if key != "routes_file"}
    if len(known) != len(raw):
        faults.add(f"{path}.routes_file", f"unknown key; {did_you_mean('routes_file', ROUTE_KEYS)}")
    source = RouteReader(faults, Path()).read_one(known, path, "static_routes[]")
    if source is not None:
        validate.next_hop_family(faults, source, extended_next_hop=False)
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
        self._warnings: list[str] = []

    def build(self) -> Config:
        top = self._top
        own_id = top.require("router_id", router_id, 'an IPv4 address, such as "192.0.2.10"')
        default_as = top.require("default_as", asn, "this host's AS number, such as 65010")
        api = self._api()
        bfd = self._bfd()
        global_routes = self._routes.read(top, "static_routes")
        drafts = [
            draft
            for path, raw in top.tables("peers")
            if (draft := self._peer(raw, path, bfd, own_id or PLACEHOLDER_ROUTER_ID, default_as)) is not None
        ]
        config = Config(
            router_id=own_id or PLACEHOLDER_ROUTER_ID,
            default_as=default_as or 1,
            bgp_socket=self._bgp_socket(),
            api_socket=self._api_socket(api),
            poll_interval=top.get("poll_interval", seconds(0.1, 86400), 5.0),
            api=api,
            log=self._log(),
            bfd=bfd,
            peers=tuple(draft.peer for draft in drafts),
            static_routes=tuple(route for source in global_routes for route in source.routes),
        )
        validate.check(config, drafts, global_routes, self._faults)
        return msgspec.structs.replace(config, warnings=tuple(self._warnings))

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
        return ApiConfig(unix_mode=table.get("unix_mode", octal_mode, 0o660))

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

    def _bfd(self) -> BfdGlobal:
        table = self._top.table("bfd", BfdGlobal.__struct_fields__)
        return BfdGlobal(
            bind=table.items("bind", bind_address, ("0.0.0.0", "::")),
            profiles={
                name: BfdProfile(
                    transmit_interval_ms=_interval(profile, "transmit_interval_ms", 300),
                    receive_interval_ms=_interval(profile, "receive_interval_ms", 300),
                    detect_multiplier=_multiplier(profile, 3),
                    passive=profile.get("passive", boolean, False),
                    shutdown=profile.get("shutdown", boolean, False),
                )
                for name, profile in table.named("profiles", BFD_KEYS)
            },
        )

    def _peer_bfd(self, peer: Table, bfd: BfdGlobal) -> BfdSettings | None:
        value = peer.raw.get("bfd", False)
        if isinstance(value, bool):
            return BfdSettings() if value else None
        if isinstance(value, str):
            return _merged(self._profile(peer, "bfd", value, bfd), value)
        if not isinstance(value, dict):
            peer.fault("bfd", f"expected true, a profile's name or a table, not {kind(value)}")
            return None
        table = peer.table("bfd", BfdSettings.__struct_fields__)
        name: str | None = None
        base = BfdProfile()
        if "profile" in table.raw:
            name = table.get("profile", string, "")
            base = self._profile(table, "profile", name, bfd) if name else base
        return BfdSettings(
            mode=table.get("mode", choice("track", "strict"), "track"),
            profile=name,
            transmit_interval_ms=_interval(table, "transmit_interval_ms", base.transmit_interval_ms),
            receive_interval_ms=_interval(table, "receive_interval_ms", base.receive_interval_ms),
            detect_multiplier=_multiplier(table, base.detect_multiplier),
            passive=table.get("passive", boolean, base.passive),
            shutdown=table.get("shutdown", boolean, base.shutdown),
        )

    def _profile(self, table: Table, key: str, name: str, bfd: BfdGlobal) -> BfdProfile:
        profile = bfd.profiles.get(name)
        if profile is None:
            table.fault(key, f"no profile {shown(name)} in bfd.profiles; {did_you_mean(name, bfd.profiles)}")
            return BfdProfile()
        return profile

    def _peer(
        self, raw: dict[str, object], path: str, bfd: BfdGlobal, own_id: str, default_as: int | None
    ) -> validate.PeerDraft | None:
        table = Table(raw, path, "peers[]", PEER_KEYS, self._faults)
        remote = table.require("remote_ip", _remote, 'an address or a network, such as "192.0.2.1"')
        remote_as = table.require("remote_as", asn, "the neighbor's AS number")
        local_as = table.get("local_as", asn, default_as or 1)
        bfd_settings = self._peer_bfd(table, bfd)
        sources = self._routes.read(table, "static_routes")
        flows = read_flows(table, "static_flows")
        interface = table.get("interface", _interface, None)
        if remote is None:
            return None
        bare, _, scope = remote.partition("%")
        if scope and interface is not None and interface != scope:
            table.fault("interface", f"remote_ip has the scope {scope!r}: both have to name one interface")
        interface = interface or scope or None
        identity = remote
        if "/" not in bare and parse_address(bare)[0].is_link_local and ":" in bare and interface is not None:
            identity = f"{bare}%{interface}"
        dynamic = "/" in identity
        peer = PeerConfig(
            id=identity,
            remote_ip=bare,
            remote_as=remote_as or 1,
            local_as=local_as,
            local_router_id=self._local_router_id(table) or own_id,
            local_ip=self._local_ip(table, interface),
            description=table.get("description", label, None),
            enabled=table.get("enabled", boolean, True),
            passive=table.get("passive", boolean, False) or dynamic,
            hold_timer=table.get("hold_timer", hold_time, 180),
            dest_port=table.get("dest_port", integer(1, 65535), 179),
            families=self._families(table),
            advertise_sources=table.items("advertise_sources", choice(*SOURCES), ("api", "config", "service")),
            interface=interface,
            next_hop_self=table.get("next_hop_self", boolean, False),
            extended_messages=table.get("extended_messages", boolean, True),
            route_refresh=table.get("route_refresh", boolean, True),
            max_prefixes=table.get("max_prefixes", _max_prefixes, None),
            bfd=bfd_settings,
            static_routes=tuple(route for source in sources for route in source.routes),
            static_flows=tuple(source.flow for source in flows),
        )
        return validate.PeerDraft(path, peer, sources, flows, as_known=remote_as is not None)

    def _local_router_id(self, table: Table) -> str | None:
        ours = table.get("local_router_id", _optional_router_id, None)
        readme = table.get("router_id", _optional_router_id, None)
        if ours is not None and readme is not None and ours != readme:
            table.fault("router_id", "local_router_id is set to another value: set one of the two")
        return ours or readme

    def _local_ip(self, table: Table, interface: str | None) -> str | None:
        local = table.get("local_ip", _optional_address, None)
        if local is None:
            return None
        bare, _, scope = local.partition("%")
        if scope and interface is not None and scope != interface:
            table.fault("local_ip", f"its scope {scope!r} is not the peer's interface {interface!r}")
        return bare

    def _families(self, table: Table) -> tuple[Family, ...]:
        families = table.items("families", _family, DEFAULT_FAMILIES)
        if not families and table.raw.get("families") == []:
            table.fault("families", 'expected at least one, such as "ipv4 unicast"')
        return families or DEFAULT_FAMILIES


def _loopback(host: str) -> bool:
    return parse_address(host)[0].is_loopback


def _remote(value: object) -> str:
    """A peer's id: an address that a host can have, or a network."""
    text = string(value)
    if "/" not in text:
        return address(text)
    if parse_network(text).is_multicast:
        raise ValueError(f"{shown(text)} is multicast: a neighbor has a host's address")
    identity = peer_id(text)
    return identity if "/" in identity else address(identity)


def _interface(value: object) -> str | None:
    return check_interface(string(value))


def _optional_router_id(value: object) -> str | None:
    return router_id(value)


def _optional_address(value: object) -> str | None:
    return address(value)


def _max_prefixes(value: object) -> MaxPrefixes | None:
    return MaxPrefixes(limit=integer(1, MAX_U32)(value))


def _family(value: object) -> Family:
    text = string(value)
    family = FAMILIES_BY_NAME.get(text)
    if family is None:
        raise ValueError(f"{shown(text)} is no address family; {did_you_mean(text, FAMILIES_BY_NAME)}")
    return family


def _interval(table: Table, key: str, default: int) -> int:
    return table.get(key, integer(10, 60000, " ms"), default)


def _multiplier(table: Table, default: int) -> int:
    # RFC 5880 §4.1 forbids 0 alone
    return table.get("detect_multiplier", integer(1, 255), default)


def _merged(profile: BfdProfile, name: str) -> BfdSettings:
    return BfdSettings(profile=name, **msgspec.structs.asdict(profile))
