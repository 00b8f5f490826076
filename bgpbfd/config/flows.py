"""Flow specifications from their tables: ``[[peers.static_flows]]``, and the API's, which have the same keys."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bgpbfd.config.model import StaticFlow
from bgpbfd.config.routes import ATTRIBUTE_KEYS, path_attributes
from bgpbfd.config.values import Table, shown, string, text_list, wrong_type
from bgpbfd.core import AFI_IPV4, AFI_IPV6, SAFI_FLOW, Prefix
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.flowspec import Action, FlowRule, Match, encode_action, encode_nlri
from bgpbfd.wire.flowspec_text import parse_actions, parse_match

FLOW_KEYS = ("afi", "action", "matches", *(key for key in ATTRIBUTE_KEYS if key != "next_hop"))

_AFIS: dict[object, int] = {AFI_IPV4: AFI_IPV4, AFI_IPV6: AFI_IPV6, "ipv4": AFI_IPV4, "ipv6": AFI_IPV6}


@dataclass(slots=True)
class FlowSource:
    """A flow, and where it stands."""

    path: str
    flow: StaticFlow


def read_flows(table: Table, key: str) -> list[FlowSource]:
    """All flows of the array of tables; what is wrong is noted and left out."""
    sources = []
    for path, raw in table.tables(key):
        entry = Table(raw, path, f"{table.pattern}.{key}[]", FLOW_KEYS, table.faults)
        flow = read_flow(entry)
        if flow is not None:
            sources.append(FlowSource(path, flow))
    return sources


def read_flow(table: Table) -> StaticFlow | None:
    """The flow of one table; None with a fault noted when none can be had."""
    actions = table.require("action", _actions, 'what is done, such as "traffic-rate 24000"')
    attributes = path_attributes(table)
    rule = read_rule(table)
    if rule is None or actions is None:
        return None
    return StaticFlow(rule, with_actions(attributes, actions))


def read_rule(table: Table) -> Prefix | None:
    """The rule of ``afi`` and ``matches``, as an NLRI; None with a fault noted when it is none."""
    afi = table.require("afi", _afi, "1 (IPv4) or 2 (IPv6)")
    texts = table.require("matches", text_list, 'a list, such as ["destination 192.0.2.0/24", "protocol =tcp"]')
    if afi is None or texts is None:
        return None
    path = table.key_path("matches")
    matches: list[Match] = []
    for index, text in enumerate(texts):
        try:
            matches.append(parse_match(afi, text))
        except ValueError as error:
            table.faults.add(f"{path}[{index}]", str(error))
    if len(matches) < len(texts):
        return None
    try:
        return Prefix(afi, encode_nlri(FlowRule.of(afi, matches)), SAFI_FLOW)
    except ValueError as error:
        table.faults.add(path, str(error))
        return None


def with_actions(attributes: PathAttributes, actions: tuple[Action, ...]) -> PathAttributes:
    """``attributes`` with the actions before its extended communities, each community once."""
    octets = dict.fromkeys([*map(encode_action, actions), *attributes.extended_communities])
    return replace(
        attributes,
        extended_communities=tuple(community for community in octets if len(community) == 8),
        ipv6_extended_communities=tuple(community for community in octets if len(community) == 20),  # RFC 5701
    )


def _afi(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong_type("1 (IPv4) or 2 (IPv6)", value)
    afi = _AFIS.get(value)
    if afi is None:
        raise ValueError(f"{shown(value)}: expected 1 (IPv4) or 2 (IPv6)")
    return afi


def _actions(value: object) -> tuple[Action, ...]:
    return parse_actions(string(value))
