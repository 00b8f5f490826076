"""From JSON to what people read: tables and records, by rich on a terminal, in plain aligned columns elsewhere.

Whatever came from a peer or the daemon is cleaned first: no control character reaches the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

GOOD = {"established", "up", "ok"}
BAD = {"down", "idle"}


def clean(value: object) -> str:
    """Text that is safe on a terminal: control, format (bidirectional) and unassigned characters are written out."""
    text = "-" if value is None or value == "" else str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _written_out(ord(char)) for char in text)


def _written_out(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def duration(seconds: float | None) -> str:
    """``00:04:07``, from a day on ``3d 04:05``."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, last = divmod(rest, 60)
    return f"{days}d{hours:02}h{minutes:02}m" if days else f"{hours:02}:{minutes:02}:{last:02}"


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:g}ms"


def moment(unix: float | None) -> str:
    """Local time with ms."""
    if unix is None:
        return "-"
    return datetime.fromtimestamp(unix).isoformat(" ", "milliseconds")


def fancy() -> bool:
    """Whether colours and lines will be understood."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and "NO_COLOR" not in os.environ


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], header: bool = True) -> str:
    """All rows under their columns; the last column is as long as it likes."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if fancy():
        return _rich_table(columns, cells, header)
    lines = [list(columns), *cells] if header else cells
    if not lines:
        return ""
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    sheet = Table(box=None, pad_edge=False, show_header=header, header_style="bold")
    for index, column in enumerate(columns):
        last = index == len(columns) - 1
        sheet.add_column(column, overflow="fold", no_wrap=not last)
    for row in cells:
        sheet.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    console = Console(highlight=False, soft_wrap=False)
    with console.capture() as captured:
        console.print(sheet)
    return captured.get()


def _style(cell: str) -> str:
    if cell in GOOD:
        return "green"
    return "red" if cell in BAD else ""


def record(title: str, pairs: Iterable[tuple[str, object]]) -> str:
    """A heading and one indented line a value; lists take a line an item, empty values none."""
    shown: list[tuple[str, str]] = []
    for name, value in pairs:
        if value is None or value in ([], {}):
            continue
        if isinstance(value, dict):
            shown.append((name, ", ".join(f"{clean(key)} {clean(item)}" for key, item in value.items())))
        elif isinstance(value, list):
            shown.extend((name if index == 0 else "", clean(item)) for index, item in enumerate(value))
        else:
            shown.append((name, clean(value)))
    width = max((len(name) for name, _ in shown), default=0)
    return f"{clean(title)}\n" + "".join(f"  {name.ljust(width)}  {value}\n" for name, value in shown)


def tree(value: Any, indent: str = "") -> str:
    """Nested tables as indented ``key: value`` lines."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines.append(f"{indent}{clean(key)}:\n{tree(item, indent + '  ')}")
        elif isinstance(item, list) and any(isinstance(entry, dict) for entry in item):
            for number, entry in enumerate(item):
                inner = tree(entry, indent + "  ") if isinstance(entry, dict) else f"{indent}  {clean(entry)}\n"
                lines.append(f"{indent}{clean(key)}[{number}]:\n{inner}")
        elif isinstance(item, list):
            lines.append(f"{indent}{clean(key)}: {clean(', '.join(map(str, item)))}\n")
        else:
            shown = str(item).lower() if isinstance(item, bool) else clean(item)
            lines.append(f"{indent}{clean(key)}: {shown}\n")
    return "".join(lines)


def as_json(value: Any) -> str:
    """ASCII only: what peers sent cannot reach the terminal as control characters."""
    return json.dumps(value, indent=2) + "\n"


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


# -- what each verb shows ----------------------------------------------------------------------------------


NEIGHBORS = (
    "Neighbor", "Router ID", "AS", "State", "Up/Down", "BFD", "MsgRcvd", "MsgSent", "PfxRcd", "PfxSnt", "Flaps",
    "Last error",
)  # fmt: skip


def neighbor_row(peer: dict[str, Any]) -> list[object]:
    age = peer["uptime"] if peer["uptime"] is not None else peer["state_age"]
    error = peer["last_error"]
    return [
        peer["peer"],
        peer["router_id"],
        peer["remote_asn"],
        peer["state"] if peer["enabled"] else "disabled",
        duration(age),
        peer["bfd"],
        peer["msg_received"],
        peer["msg_sent"],
        peer["prefixes_received"],
        peer["prefixes_sent"],
        peer["flaps"],
        None if error is None else error["text"],
    ]


def neighbor_record(peer: dict[str, Any]) -> str:
    error = peer["last_error"]
    name = peer["peer"] + (f" ({peer['description']})" if peer["description"] else "")
    connection = peer["tcp_connection"]
    pairs: list[tuple[str, object]] = [
        ("State", peer["state"] if peer["enabled"] else "disabled"),
        ("Since", f"{moment(peer['state_since'])}, {duration(peer['state_age'])} ago"),
        ("Next try in", None if peer["next_connect_in"] is None else f"{peer['next_connect_in']:.1f} s"),
        ("AS", f"{peer['remote_asn']} (ours {peer['local_asn']})"),
        ("Router ID", f"{clean(peer['router_id'])} (ours {peer['local_router_id']})"),
        ("Passive", "yes" if peer["passive"] else None),
        ("From network", peer["network"] if peer["dynamic"] else None),
        ("BFD", peer["bfd"]),
        ("Waiting for BFD", "BGP comes up when BFD lets it: see show bfd" if peer["waiting_for_bfd"] else None),
        ("TCP connection", " → ".join(connection) if connection else None),
        ("TCP MD5", "yes" if peer["md5"] else None),
        ("TTL security", _hops(peer["ttl_security"])),
        ("Multihop", _hops(peer["multihop"])),
        ("Hold time", _hold_time(peer)),
        ("Last received", _ago(peer["last_received"])),
        ("Last sent", _ago(peer["last_sent"])),
        ("Families", ", ".join(peer["families"]) or None),
        ("Disabled families", ", ".join(peer["disabled_families"]) or None),
        ("Prefixes", f"{peer['prefixes_received']} received, {peer['prefixes_sent']} sent"),
        ("Received by family", peer["prefixes_by_family"]),
        ("Messages received", _counts(peer["msg_received"], peer["received_by_type"])),
        ("Messages sent", _counts(peer["msg_sent"], peer["sent_by_type"])),
        ("End of RIB", ", ".join(peer["end_of_rib"]) or None),
        ("Maximum prefixes", peer["max_prefixes"]),
        ("Import policy", peer["import_policy"]),
        ("Export policy", peer["export_policy"]),
        ("Role", _role(peer)),
        ("ADD-PATH", _add_path(peer)),
        ("Extended next hop", ", ".join(peer["extended_next_hop"]) or None),
        ("Graceful restart", _restart(peer)),
        ("Stale routes", None if peer["stale_until"] is None else f"kept until {moment(peer['stale_until'])}"),
        ("UPDATE faults", peer["update_faults"]),
        *_update_fault(peer["last_update_fault"]),
        ("NOTIFICATIONs received", peer["notifications_received"]),
        ("NOTIFICATIONs sent", peer["notifications_sent"]),
        ("Not acted on", peer["discards"]),
        ("Flaps", peer["flaps"]),
        ("Capabilities received", peer["capabilities"]),
        ("Capabilities sent", peer["capabilities_sent"]),
        ("At the next session", peer["pending_changes"]),
    ]
    pairs += _cause("Last error", error)
    ended = peer["last_session_error"]
    if ended is not None and (error is None or (ended["text"], ended["at"]) != (error["text"], error["at"])):
        pairs += _cause("Last session ended", ended)
    return record(name, pairs)


def _cause(name: str, cause: dict[str, Any] | None) -> list[tuple[str, object]]:
    if cause is None:
        return []
    lines: list[tuple[str, object]] = [
        (name, f"{cause['text']} [{cause['kind']}]"),
        ("", f"{moment(cause['at'])}, {duration(cause['age'])} ago"),
    ]
    if cause["code"] is not None:
        lines.append(("", f"NOTIFICATION {cause['code']}/{cause['subcode']}"))
    lines += [("", f"{key} {value}") for key, value in cause["facts"].items()]
    return lines


def _role(peer: dict[str, Any]) -> str | None:
    ours, theirs = peer["role"], peer["remote_role"]
    return None if ours is None and theirs is None else f"{clean(ours)}, the peer's {clean(theirs)}"


def _add_path(peer: dict[str, Any]) -> str | None:
    ways = [
        f"{word} {', '.join(peer[key])}"
        for word, key in (("receive", "add_path_receive"), ("send", "add_path_send"))
        if peer[key]
    ]
    return "; ".join(ways) or None


def _restart(peer: dict[str, Any]) -> str | None:
    if peer["restart_time"] is None:
        return None
    text = f"the peer's restart time {peer['restart_time']} s"
    if peer["restart_notification"]:
        text += ", NOTIFICATIONs included"
    return text


def _hops(number: int | None) -> str | None:
    return None if number is None else f"{number} hop{'' if number == 1 else 's'}"


def _update_fault(fault: dict[str, Any] | None) -> list[tuple[str, object]]:
    if fault is None:
        return []
    cut = "" if fault["length"] * 2 == len(fault["data"]) else f" (of {fault['length']} octets)"
    return [
        ("Last UPDATE fault", f"{fault['reason']} [{fault['treatment']}]"),
        ("", f"{moment(fault['at'])}, {duration(fault['age'])} ago"),
        ("", f"octets {fault['data']}{cut}" if fault["data"] else None),
    ]


def _hold_time(peer: dict[str, Any]) -> str:
    configured = f"{peer['hold_timer']} s configured"
    if peer["hold_time"] is None:
        return configured
    return f"{peer['hold_time']} s, keepalive {peer['hold_timer_interval']} s ({configured})"


def _ago(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s ago"


def _counts(total: int, by_type: dict[str, int]) -> str:
    return f"{total}" + (f" ({', '.join(f'{name} {count}' for name, count in by_type.items())})" if by_type else "")


ROUTES = (
    "Prefix", "Next hop", "MED", "Local pref", "AS path", "Communities", "Source", "Age", "Announced to", "Reason",
)  # fmt: skip


FLOWS = (
    "Family", "Matches", "Action", "MED", "Local pref", "AS path", "Communities", "Source", "Age", "Announced to",
    "Reason",
)  # fmt: skip


WHY = "Why"


def route_row(route: dict[str, Any]) -> list[object]:
    """With a cell for ``WHY`` where that was asked for."""
    prefix = f"{route['prefix']} (path {route['path_id']})" if "path_id" in route else route["prefix"]
    row = [prefix, route["next_hop"], *_common(route)]
    return [*row, route["why"]] if "why" in route else row


def flow_row(flow: dict[str, Any]) -> list[object]:
    return [flow["afi"], ", ".join(flow["matches"]), flow["action"], *_common(flow)]


def _common(route: dict[str, Any]) -> list[object]:
    """The columns from MED on."""
    communities = [
        *route["communities"],
        *route.get("large_communities", ()),
        *route.get("extended_communities", ()),
    ]
    announced = None
    if "announced_to" in route:
        announced = f"{route['announced_to']}/{route['wanted_by']}" if "wanted_by" in route else route["announced_to"]
    return [
        route["multi_exit_disc"],
        route["local_pref"],
        route["as_path"],
        " ".join(communities),
        route["source"],
        duration(route["age"]),
        announced,
        _reason(route),
    ]


def _reason(route: dict[str, Any]) -> str | None:
    if not route["valid"]:
        return route["reason"] or "not valid"
    return "stale: the neighbor is to send it again" if route.get("stale") else route["reason"]


EVENTS = ("Time", "Event", "Peer", "What happened")


def event_row(event: dict[str, Any]) -> list[object]:
    return [moment(event["at"]), event["kind"], event["peer"], event["text"]]
