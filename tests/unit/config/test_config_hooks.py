"""Keys of ``[[hooks]]``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpbfd.config.hooks import HOOK_EVENTS
from bgpbfd.config.load import ConfigError, loads
from bgpbfd.config.model import Hook

HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
HOOK = '[[hooks]]\non = ["bfd-down"]\ncommand = ["notify"]\n'


def only(text: str, path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(HEAD + text, "f.toml")
    (fault,) = caught.value.faults
    assert fault.path == path
    return fault.reason


def test_defaults() -> None:
    config = loads(HEAD + HOOK)
    assert config.hooks == (Hook(on=("bfd-down",), command=("notify",), timeout=10.0),)
    assert config.warnings == ()
    assert loads(HEAD).hooks == loads(f"{HEAD}hooks = []\n").hooks == ()


def test_several_hooks_with_all_events() -> None:
    events = ", ".join(f'"{event}"' for event in HOOK_EVENTS)
    text = f'[[hooks]]\non = [{events}]\ncommand = ["a", "", "é b"]\ntimeout = 0.1\n{HOOK}timeout = 600\n'
    first, second = loads(HEAD + text).hooks
    assert first.on == ("bfd-up", "bfd-down", "bfd-admin-down", "bfd-late", "bgp-up", "bgp-down")
    assert (first.command, first.timeout, second.timeout) == (("a", "", "é b"), 0.1, 600.0)


RULES = [
    ('command = ["a"]', "on", "missing: set the events, of bfd-up, "),
    ('on = []\ncommand = ["a"]', "on", "at least one event"),
    ('on = ["bfd-up", "bfd-dwon"]\ncommand = ["a"]', "on[1]", "did you mean 'bfd-down'?"),
    ('on = ["service-up"]\ncommand = ["a"]', "on[0]", "'service-up' is not supported yet"),
    ('on = "service-down"\ncommand = ["a"]', "on", "'service-down' is not supported yet"),
    ('on = [5]\ncommand = ["a"]', "on[0]", "one of 'bfd-up'"),
    ('on = { a = 1 }\ncommand = ["a"]', "on", "expected a list"),
    ('on = "bfd-up"', "command", "missing: set the program and its arguments"),
    ('on = "bfd-up"\ncommand = "notify --page"', "command", "not a string: no shell takes it apart"),
    ('on = "bfd-up"\ncommand = 5', "command", "a list of strings"),
    ('on = "bfd-up"\ncommand = []', "command", "expected a program and its arguments"),
    ('on = "bfd-up"\ncommand = [""]', "command", "expected a program and its arguments"),
    ('on = "bfd-up"\ncommand = ["a", 5]', "command", "a list of strings, not an integer"),
    ('on = "bfd-up"\ncommand = ["a", "b\\u0000"]', "command", "NUL"),
    ('on = "bfd-up"\ncommand = ["./notify"]', "command", "write the whole path"),
    ('on = "bfd-up"\ncommand = ["a"]\ntimeout = 0', "timeout", "0.1 to 600"),
    ('on = "bfd-up"\ncommand = ["a"]\ntimeout = 600.1', "timeout", "0.1 to 600"),
    ('on = "bfd-up"\ncommand = ["a"]\ntimeout = "5s"', "timeout", "a number of seconds"),
    ('on = "bfd-up"\ncomand = ["a"]\ncommand = ["a"]', "comand", "did you mean 'command'?"),
]


@pytest.mark.parametrize(("lines", "key", "right"), RULES)
def test_rule_names_the_key_and_what_is_right(lines: str, key: str, right: str) -> None:
    assert right in only(f"[[hooks]]\n{lines}\n", f"hooks[0].{key}")


def test_hooks_are_an_array_of_tables() -> None:
    assert "array of tables" in only("[hooks]\non = 'bfd-up'\n", "hooks")
    assert "expected a table" in only("hooks = [5]\n", "hooks[0]")


def test_a_program_that_cannot_be_run_now_is_a_warning(tmp_path: Path) -> None:
    def warnings(program: Path) -> tuple[str, ...]:
        return loads(f'{HEAD}[[hooks]]\non = "bfd-up"\ncommand = ["{program}", "x"]\n').warnings

    program = tmp_path / "notify"
    assert warnings(program) == (f"hooks[0].command: there is no {program}",)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    assert warnings(program) == (f"hooks[0].command: {program} is not executable",)
    program.chmod(0o755)
    assert warnings(program) == ()
    assert warnings(tmp_path) == (f"hooks[0].command: {tmp_path} is not executable",)
    assert len(warnings(tmp_path / ("x" * 300))) == 1
