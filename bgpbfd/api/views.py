"""From the engine's snapshots to JSON fields: here and in ``views_bfd`` alone they are named.

Names are BGPd-rs's where it has the field, and ours in the same style for the rest. Points in time are Unix seconds,
durations and ages seconds, both as numbers, unless a name ends with its unit. A field whose value is not known is null.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from bgpbfd.api.clock import Clock, Json
from bgpbfd.bgp.events import Cause, Endpoint
from bgpbfd.control.snapshot import (
    NeighborSnapshot,
    PlannedChange,
    RecordedEvent,
    RouteSnapshot,
    UpdateFaultRecord,
)
from bgpbfd.core import SAFI_FLOW
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.capabilities import describe_capability
from bgpbfd.wire.flowspec_text import format_actions, nlri_matches, nlri_text, split_actions
from bgpbfd.wire.text import as_path_text, format_community, format_extended, format_large, origin_text

# -- neighbors ---------------------------------------------------------------------------------------------


def peer_summary(peer: NeighborSnapshot, clock: Clock) -> Json:
    """One neighbor of ``show_peers``."""
    return {
        "peer": peer.peer,
        "description": peer.description,
        "enabled": peer.enabled,
        "passive": peer.passive,
        "dynamic": peer.dynamic,
        "network": peer.network,
        "router_id": _router_id(peer.remote_router_id),
        "local_router_id": _router_id(peer.local_router_id),
        "remote_asn": peer.remote_asn,
        "local_asn": peer.local_asn,
        "msg_received": peer.messages_received,
        "msg_sent": peer.messages_sent,
        "connect_time": clock.unix(peer.established_at),
        "uptime": clock.age(peer.established_at),
        "state": peer.state,
        "state_since": clock.unix(peer.state_since),
        "state_age": clock.age(peer.state_since),
        "next_connect_in": clock.until(peer.connect_attempt_at),
        "prefixes_received": peer.prefixes_received,
        "prefixes_sent": peer.prefixes_sent,
        "flaps": peer.flaps,
        "bfd": peer.bfd_state,
        "last_error": None if peer.last_error is None else cause(peer.last_error, clock),
    }


def peer_detail(peer: NeighborSnapshot, clock: Clock) -> Json:
    """One neighbor of ``show_peer_detail``: the summary's fields and these."""
    return peer_summary(peer, clock) | {
        "last_session_error": None if peer.last_session_error is None else cause(peer.last_session_error, clock),
        "hold_timer": peer.hold_time_configured_s,
        "hold_timer_interval": peer.keepalive_time_s,
        "hold_time": peer.hold_time_s,
        "last_received": clock.age(peer.last_received_at),
        "last_sent": clock.age(peer.last_sent_at),
        "tcp_connection": _connection(peer.local, peer.remote),
        "families": [str(family) for family in peer.families],
        "disabled_families": [str(family) for family in peer.disabled_families],
        "capabilities": [describe_capability(item) for item in peer.capabilities_received],
        "capabilities_sent": [describe_capability(item) for item in peer.capabilities_sent],
        "received_by_type": peer.received_by_type,
        "sent_by_type": peer.sent_by_type,
        "prefixes_by_family": peer.prefixes_by_family,
        "pending_changes": list(peer.pending_changes),
        "update_faults": peer.update_faults,
        "last_update_fault": None if peer.last_update_fault is None else _update_fault(peer.last_update_fault, clock),
        "notifications_sent": peer.notifications_sent,
        "notifications_received": peer.notifications_received,
        "discards": peer.discards,
        "end_of_rib": list(peer.end_of_rib),
        "role": peer.role,
        "remote_role": peer.remote_role,
        "add_path_receive": [str(family) for family in peer.add_path_receive],
        "add_path_send": [str(family) for family in peer.add_path_send],
        "extended_next_hop": [str(family) for family in peer.extended_next_hop],
        "restart_time": peer.restart_time_s,
        "restart_notification": peer.restart_notification,
        "stale_until": clock.unix(peer.stale_until),
        "import_policy": peer.import_policy,
        "export_policy": peer.export_policy,
        "max_prefixes": peer.max_prefixes,
        "md5": peer.md5,
        "ttl_security": peer.ttl_security,
        "multihop": peer.multihop,
        "waiting_for_bfd": peer.waiting_for_bfd,
    }


def _update_fault(fault: UpdateFaultRecord, clock: Clock) -> Json:
    """``data``: the octets at fault, in hex; ``length`` of them before they were cut."""
    return {
        "at": clock.unix(fault.at),
        "age": clock.age(fault.at),
        "treatment": fault.treatment,
        "attribute": fault.attribute,
        "reason": fault.reason,
        "data": fault.data.hex(),
        "length": fault.length,
    }


def cause(what: Cause, clock: Clock) -> Json:
    """Why a session ended, as ``last_error``."""
    return {
        "kind": what.kind.value,
        "text": what.text,
        "code": what.code,
        "subcode": what.subcode,
        "at": clock.unix(what.at),
        "age": clock.age(what.at),
        "facts": what.facts,
    }


def _router_id(value: int | None) -> str | None:
    return None if value is None else str(ipaddress.IPv4Address(value))


def _connection(local: Endpoint | None, remote: Endpoint | None) -> list[str] | None:
    """[local, remote] as ADDR:PORT, or null while there is none."""
    if local is None or remote is None:
        return None
    return [_endpoint(local), _endpoint(remote)]


def _endpoint(end: Endpoint) -> str:
    return f"[{end.text}]:{end.port}" if ":" in end.text else f"{end.text}:{end.port}"


# -- routes ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class RouteView:
    """Routes and flow specifications of one answer. Attributes are shared by many, so each set is put into words once.

    ``prefix`` of a flow specification is its ``matches`` in one text; its ``action`` is null where it has none.
    ``why``: with what policy said of each, null where none was asked.
    """

    clock: Clock
    why: bool = False
    _words: dict[tuple[int, bool, bool], tuple[PathAttributes, Json]] = field(default_factory=dict)

    def __call__(self, route: RouteSnapshot) -> Json:
        flow = route.prefix.safi == SAFI_FLOW
        key = (id(route.attributes), route.next_hop_self, flow)
        known = self._words.get(key)
        if known is None:
            # The attributes are kept beside their words so that no other object takes over their id.
            known = (route.attributes, attributes(route.attributes, route.next_hop_self, flow))
            self._words[key] = known
        view: Json = {
            "source": route.source,
            "peer": route.peer,
            "afi": "ipv4" if route.prefix.afi == 1 else "ipv6",
            "safi": "flow" if flow else "unicast",
            "received_at": self.clock.unix(route.received_at),
            "age": self.clock.age(route.received_at),
            "prefix": nlri_text(route.prefix),
        }
        if flow:
            view["matches"] = nlri_matches(route.prefix)
        view |= known[1]
        view["valid"] = route.valid
        view["reason"] = route.reason
        if route.path_id is not None:
            view["path_id"] = route.path_id
        if route.stale:
            view["stale"] = True
        if self.why:
            view["why"] = route.why
        if route.announced_to is not None:
            view["announced_to"] = route.announced_to
        if route.wanted_by is not None:
            view["wanted_by"] = route.wanted_by
        return view


def attributes(path: PathAttributes, next_hop_self: bool, flow: bool = False) -> Json:
    """A path's attributes; those after ``communities`` only where present. Of a flow the actions have a field."""
    extended: Sequence[bytes] = (*path.extended_communities, *path.ipv6_extended_communities)
    view: Json = {}
    if flow:
        actions, extended = split_actions(path)
        view["action"] = format_actions(actions) or None
    view |= {
        "next_hop": _next_hop(path.next_hop, next_hop_self),
        "origin": origin_text(path.origin),
        "as_path": as_path_text(path.as_path),
        "local_pref": path.local_pref,
        "multi_exit_disc": path.med,
        "communities": [format_community(value) for value in path.communities],
    }
    if path.next_hop is not None and len(path.next_hop) == 32:
        view["next_hop_link_local"] = str(ipaddress.IPv6Address(path.next_hop[16:]))
    if path.large_communities:
        view["large_communities"] = [format_large(value) for value in path.large_communities]
    if extended:
        view["extended_communities"] = [format_extended(value) for value in extended]
    if path.atomic_aggregate:
        view["atomic_aggregate"] = True
    if path.aggregator is not None:
        asn, address = path.aggregator
        view["aggregator"] = {"asn": asn, "address": _address(address)}
    if path.originator_id is not None:
        view["originator_id"] = _address(path.originator_id)
    if path.cluster_list:
        view["cluster_list"] = [_address(value) for value in path.cluster_list]
    if path.only_to_customer is not None:
        view["only_to_customer"] = path.only_to_customer
    if path.unknown:
        view["unknown_attributes"] = [
            {"flags": item.flags, "type": item.code, "value": f"0x{item.value.hex()}"} for item in path.unknown
        ]
    return view


def _next_hop(octets: bytes | None, next_hop_self: bool) -> str | None:
    if octets is None:
        return "self" if next_hop_self else None
    return _address(octets[:16])


def _address(octets: bytes) -> str:
    return str(ipaddress.ip_address(octets)) if len(octets) in (4, 16) else f"0x{octets.hex()}"


# -- the rest ----------------------------------------------------------------------------------------------


def event(record: RecordedEvent, clock: Clock) -> Json:
    return {
        "number": record.number,
        "at": clock.unix(record.at),
        "kind": record.kind,
        "level": record.level,
        "peer": record.peer,
        "text": record.text,
        "facts": record.facts,
    }


def planned_change(change: PlannedChange) -> Json:
    return {"path": change.path, "text": change.text, "impact": change.impact}


def fault(path: str, reason: str) -> Json:
    return {"path": path, "reason": reason}
