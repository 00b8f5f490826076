"""``[[hooks]]``: commands to run on events."""

from __future__ import annotations

import os

from bgpbfd.config import support
from bgpbfd.config.faults import FaultList
from bgpbfd.config.model import Hook
from bgpbfd.config.values import Table, choice, kind, seconds, wrong_type

HOOK_EVENTS = ("bfd-up", "bfd-down", "bfd-admin-down", "bfd-late", "bgp-up", "bgp-down")
EXAMPLE = '["/usr/local/bin/notify", "--page"]'

_event = choice(*HOOK_EVENTS)


def read_hooks(top: Table, faults: FaultList, warnings: list[str]) -> tuple[Hook, ...]:
    """The hooks of the whole file's table; ``warnings`` grows with commands that cannot be run as it is now."""
    hooks = []
    for path, raw in top.tables("hooks"):
        table = Table(raw, path, "hooks[]", Hook.__struct_fields__, faults)
        if "on" not in table.raw:
            table.fault("on", f"missing: set the events, of {', '.join(HOOK_EVENTS)}")
        elif table.raw["on"] == []:
            table.fault("on", f"expected at least one event, of {', '.join(HOOK_EVENTS)}")
        hook = Hook(
            on=table.items("on", _hook_event, ()),
            command=table.require("command", _command, f"the program and its arguments, such as {EXAMPLE}") or (),
            timeout=table.get("timeout", seconds(0.1, 600), 10.0),
        )
        hooks.append(hook)
        reason = _not_to_be_run(hook.command)
        if reason is not None:
            warnings.append(f"{faults.where(f'{path}.command')}: {reason}")
    return tuple(hooks)


def _hook_event(value: object) -> str:
    if value in support.HOOK_EVENTS:
        raise ValueError(f"{value!r} {support.REASON}")
    return _event(value)


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        hint = ": no shell takes it apart" if isinstance(value, str) else ""
        raise ValueError(f"expected a list of strings, such as {EXAMPLE}, not {kind(value)}{hint}")
    for item in value:
        if not isinstance(item, str):
            raise wrong_type("a list of strings", item)
        if "\0" in item:
            raise ValueError("a command's arguments cannot have NUL characters")
    if not value or not value[0]:
        raise ValueError(f"expected a program and its arguments, such as {EXAMPLE}")
    program: str = value[0]
    if "/" in program and not program.startswith("/"):
        raise ValueError(f"{program!r} depends on where the daemon was started: write the whole path, or a name")
    return tuple(value)


def _not_to_be_run(command: tuple[str, ...]) -> str | None:
    """Why the program of an absolute path cannot be run now; it may be there later, so this is no fault."""
    if not command or not command[0].startswith("/"):
        return None
    if not os.path.exists(command[0]):
        return f"there is no {command[0]}"
    if os.path.isdir(command[0]) or not os.access(command[0], os.X_OK):
        return f"{command[0]} is not executable"
    return None
