"""``[[peers]]``: one table each, key by key. Rules across keys are ``validate``'s."""

from __future__ import annotations

from collections.abc import Collection

from bgpbfd.config.bfd import BfdReader
from bgpbfd.config.drafts import PeerDraft
from bgpbfd.config.faults import FaultList
from bgpbfd.config.flows import read_flows
from bgpbfd.config.model import ROLES, GracefulRestart, MaxPrefixes, PeerConfig, Secret
from bgpbfd.config.names import did_you_mean, parse_address, parse_network, peer_id
from bgpbfd.config.routes import RouteReader
from bgpbfd.config.secret_files import SecretFiles
from bgpbfd.config.values import (
    Parser,
    Table,
    address,
    address_family,
    asn,
    boolean,
    choice,
    hold_time,
    integer,
    interface_name,
    kind,
    label,
    router_id,
    shown,
    string,
    wrong_type,
)
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family
from bgpbfd.wire.text import MAX_U32

SOURCES = ("api", "config", "service", "peer")
PEER_KEYS = (*(field for field in PeerConfig.__struct_fields__ if field != "id"), "router_id")
DEFAULT_FAMILIES = (IPV4_UNICAST, IPV6_UNICAST)
MAX_MD5_KEY = 80  # octets: TCP_MD5SIG_MAXKEYLEN
MAX_RESTART_TIME = 4095  # RFC 4724 §3: twelve bits
MAX_IDLE = 365 * 86400


class PeerReader:
    """Reads peers' tables. ``default_as`` is None where the file's own is missing or wrong.

    ``policies`` are the names that a peer may use.
    """

    def __init__(
        self,
        faults: FaultList,
        *,
        routes: RouteReader,
        secrets: SecretFiles,
        bfd: BfdReader,
        policies: Collection[str],
        own_id: str,
        default_as: int | None,
    ) -> None:
        self._faults = faults
        self._routes = routes
        self._secrets = secrets
        self._bfd = bfd
        self._policies = policies
        self._own_id = own_id
        self._default_as = default_as

    def read(self, raw: dict[str, object], path: str) -> PeerDraft | None:
        """The peer of one table, every fault noted; None when it has no address to be known by."""
        table = Table(raw, path, "peers[]", PEER_KEYS, self._faults)
        remote = table.require("remote_ip", _remote, 'an address or a network, such as "192.0.2.1"')
        remote_as = table.require("remote_as", asn, "the neighbor's AS number")
        local_as: int | None = table.get("local_as", asn, None) if "local_as" in table.raw else self._default_as
        before = self._faults.count
        ttl_security: int | None = table.get("ttl_security", _hops(254), None)
        multihop: int | None = table.get("multihop", _hops(255), None)
        bfd = self._bfd.read_peer(table, ttl_security or multihop, hops_known=self._faults.count == before)
        sources = self._routes.read(table, "static_routes")
        flows = read_flows(table, "static_flows")
        interface: str | None = table.get("interface", interface_name, None)
        password, password_file = self._secrets.read(table, "md5_password", _md5_password)
        role: str | None = table.get("role", choice(*ROLES), None)
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
            local_as=local_as or 1,
            local_router_id=self._local_router_id(table) or self._own_id,
            local_ip=self._local_ip(table, interface),
            description=table.get("description", label, None),
            enabled=table.get("enabled", boolean, True),
            passive=table.get("passive", boolean, False) or dynamic,
            hold_timer=table.get("hold_timer", hold_time, 180),
            dest_port=table.get("dest_port", integer(1, 65535), 179),
            families=self._families(table),
            advertise_sources=table.items("advertise_sources", choice(*SOURCES), ("api", "config", "service")),
            interface=interface,
            md5_password=password,
            md5_password_file=password_file,
            ttl_security=ttl_security,
            multihop=multihop,
            next_hop_self=table.get("next_hop_self", boolean, False),
            extended_next_hop=table.get("extended_next_hop", boolean, False),
            extended_messages=table.get("extended_messages", boolean, True),
            route_refresh=table.get("route_refresh", boolean, True),
            add_path=table.get("add_path", choice("off", "receive", "send", "both"), "off"),
            graceful_restart=_graceful_restart(table),
            max_prefixes=_max_prefixes(table),
            import_policy=table.get("import_policy", self._policy, None),
            export_policy=table.get("export_policy", self._policy, None),
            role=role,
            role_strict=table.get("role_strict", boolean, False),
            # a route server does not put its AS before the routes that it passes on (RFC 7947 §2.2.2.1)
            enforce_first_as=table.get("enforce_first_as", boolean, role != "rs-client"),
            route_reflector_client=table.get("route_reflector_client", boolean, False),
            graceful_shutdown=table.get("graceful_shutdown", boolean, False),
            max_neighbors=table.get("max_neighbors", integer(1, 1000), None),
            bfd=None if bfd is None else bfd.settings,
            static_routes=tuple(route for source in sources for route in source.routes),
            static_flows=tuple(source.flow for source in flows),
        )
        as_known = remote_as is not None and local_as is not None
        return PeerDraft(path, peer, sources, flows, bfd, as_known=as_known)

    def _local_router_id(self, table: Table) -> str | None:
        ours: str | None = table.get("local_router_id", router_id, None)
        readme: str | None = table.get("router_id", router_id, None)
        if ours is not None and readme is not None and ours != readme:
            table.fault("router_id", "local_router_id is set to another value: set one of the two")
        return ours or readme

    def _local_ip(self, table: Table, interface: str | None) -> str | None:
        local: str | None = table.get("local_ip", address, None)
        if local is None:
            return None
        bare, _, scope = local.partition("%")
        if scope and interface is not None and scope != interface:
            table.fault("local_ip", f"its scope {scope!r} is not the peer's interface {interface!r}")
        return bare

    def _families(self, table: Table) -> tuple[Family, ...]:
        families = table.items("families", address_family, DEFAULT_FAMILIES)
        if not families and table.raw.get("families") == []:
            table.fault("families", 'expected at least one, such as "ipv4 unicast"')
        return families or DEFAULT_FAMILIES

    def _policy(self, value: object) -> str | None:
        name = string(value)
        if name not in self._policies:
            raise ValueError(f"no policy {shown(name)} in policies; {did_you_mean(name, self._policies)}")
        return name


def _remote(value: object) -> str:
    """A peer's id: an address that a host can have, or a network."""
    text = string(value)
    if "/" not in text:
        return address(text)
    if parse_network(text).is_multicast:
        raise ValueError(f"{shown(text)} is multicast: a neighbor has a host's address")
    identity = peer_id(text)
    return identity if "/" in identity else address(identity)


def _md5_password(value: object) -> Secret:
    text = string(value)
    if not 1 <= len(text.encode()) <= MAX_MD5_KEY:
        raise ValueError(f"expected a password of 1 to {MAX_MD5_KEY} octets")
    return Secret(text)


def _hops(most: int) -> Parser[int | None]:
    expected = f"a number of hops from 1 to {most}, or false"

    def parse(value: object) -> int | None:
        if value is False:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(expected, value)
        if not 1 <= value <= most:
            raise ValueError(f"expected {expected}, not {shown(value)}")
        return value

    return parse


def _graceful_restart(table: Table) -> GracefulRestart:
    """``true``, ``false``, or a table, which switches it on unless it says otherwise."""
    key = "graceful_restart"
    value = table.raw.get(key, False)
    if isinstance(value, bool):
        return GracefulRestart(enabled=value)
    if not isinstance(value, dict):
        table.fault(key, f"expected true, false or a table, not {kind(value)}")
        return GracefulRestart()
    part = table.table(key, GracefulRestart.__struct_fields__)
    return GracefulRestart(
        enabled=part.get("enabled", boolean, True),
        restart_time=part.get("restart_time", integer(1, MAX_RESTART_TIME, " s"), 120),
        on_stop=part.get("on_stop", choice("withdraw", "retain"), "withdraw"),
    )


def _max_prefixes(table: Table) -> MaxPrefixes | None:
    """A number, or a table with the number as ``limit``."""
    key = "max_prefixes"
    value = table.raw.get(key)
    if not isinstance(value, dict):
        limit: int | None = table.get(key, _prefix_limit, None)
        return None if limit is None else MaxPrefixes(limit=limit)
    part = table.table(key, MaxPrefixes.__struct_fields__)
    limit = part.require("limit", integer(1, MAX_U32), "how many prefixes the neighbor may send")
    return MaxPrefixes(
        limit=limit or 1,
        warning=part.get("warning", integer(1, 100, " percent"), 80),
        restart_time=part.get("restart_time", integer(0, MAX_IDLE, " s (0: until an operator resets it)"), None),
    )


def _prefix_limit(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(f"an integer from 1 to {MAX_U32} or a table with limit", value)
    return integer(1, MAX_U32)(value)
