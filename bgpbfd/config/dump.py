"""The configuration in force as plain values, in the words of the file; secrets stay masked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import msgspec

from bgpbfd.config.model import (
    ApiConfig,
    BfdAuth,
    BfdSettings,
    BfdStandalone,
    BfdUnsolicited,
    Config,
    Listen,
    PeerConfig,
    Secret,
    StaticFlow,
    StaticRoute,
    UnixListen,
)
from bgpbfd.core import Family, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.policy.text import policy_as_plain
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.flowspec_text import format_actions, nlri_matches, split_actions
from bgpbfd.wire.text import format_as_path, format_community, format_extended, format_large, origin_text

MASKED = "…"


def dump_config(config: Config) -> dict[str, object]:
    """JSON-able, in the keys and forms of the file, and so read again as the same configuration, secrets excepted.

    What is unset is left out; the result of one load (``warnings``, ``files``) is no part of it.
    """
    return {key: value for key, value in _struct(config).items() if key not in {"warnings", "files"}}


@cache
def _says_something_empty(struct: type[msgspec.Struct]) -> frozenset[str]:
    """The fields where an empty list is not the same as nothing."""
    fields = msgspec.structs.fields(struct)
    return frozenset(field.name for field in fields if isinstance(field.default, tuple) and field.default)


def _plain(value: object) -> object:
    match value:
        case ApiConfig():
            return _struct(value) | {"unix_mode": f"{value.unix_mode:04o}"}
        case Secret():
            return MASKED
        case StaticRoute():
            return dump_route(value)
        case StaticFlow():
            return dump_flow(value)
        case PeerConfig():
            return _peer(value)
        case Policy():
            return policy_as_plain(value)
        case BfdAuth():
            return _without(value, "key" if value.key_file is not None else "")
        case BfdStandalone():
            return _bfd(value) | {"peer": value.id}
        case BfdSettings():
            return _bfd(value)
        case BfdUnsolicited():
            return _without(value, "settings")
        case Family() | Prefix() | Listen() | UnixListen():
            return str(value)
        case msgspec.Struct():
            return _struct(value)
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _struct(value: msgspec.Struct) -> dict[str, object]:
    plain = {}
    for name in value.__struct_fields__:
        item = getattr(value, name)
        if item is not None and (item not in ((), {}) or name in _says_something_empty(type(value))):
            plain[name] = _plain(item)
    return plain


def _without(value: msgspec.Struct, key: str) -> dict[str, object]:
    return {name: plain for name, plain in _struct(value).items() if name != key}


def _bfd(value: BfdSettings | BfdStandalone) -> dict[str, object]:
    """With its profile merged in: what this says otherwise than its profile has to stand there too."""
    plain = _struct(value)
    if value.profile is not None and not value.auth:
        plain["auth"] = []
    if not value.multihop:
        del plain["minimum_ttl"]  # 255, which is not for choice
    if isinstance(value, BfdStandalone):
        del plain["strict_hold_time"], plain["damping"]  # are for peers
    return plain


def _peer(peer: PeerConfig) -> dict[str, object]:
    plain = _struct(peer)
    del plain["id"]
    if peer.md5_password_file is not None:
        plain.pop("md5_password", None)  # which is the file's
    return {**plain, "remote_ip": peer.id}  # with its scope


def dump_route(route: StaticRoute) -> dict[str, object]:
    """A static route as the file writes it."""
    attributes = route.attributes
    return {"prefix": str(route.prefix), "next_hop": route.next_hop} | _attributes(
        attributes, attributes.extended_communities
    )


def dump_flow(flow: StaticFlow) -> dict[str, object]:
    """A flow as the file writes it."""
    actions, rest = split_actions(flow.attributes)
    return {
        "afi": flow.prefix.afi,
        "action": format_actions(actions),
        "matches": nlri_matches(flow.prefix),
    } | _attributes(flow.attributes, rest)


def _attributes(attributes: PathAttributes, extended: Iterable[bytes]) -> dict[str, object]:
    plain: dict[str, object] = {"origin": origin_text(attributes.origin)}
    if attributes.as_path:
        plain["as_path"] = format_as_path(attributes.as_path)
    if attributes.local_pref is not None:
        plain["local_pref"] = attributes.local_pref
    if attributes.med is not None:
        plain["multi_exit_disc"] = attributes.med
    communities = [
        *(format_community(value) for value in attributes.communities),
        *(format_large(value) for value in attributes.large_communities),
        *(format_extended(value) for value in extended),
    ]
    if communities:
        plain["communities"] = communities
    return plain
