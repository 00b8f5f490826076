"""Hooks, with real processes: small scripts that write down what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bgpbfd.config.model import Hook
from bgpbfd.control.recorder import Recorder
from bgpbfd.control.snapshot import RecordedEvent
from bgpbfd.io import commands, hooks
from bgpbfd.io.driver import SystemClock
from bgpbfd.io.hooks import Hooks, clean, told

PEER, OTHER = "192.0.2.1", "192.0.2.2"
ALL = ("bfd-up", "bfd-down", "bfd-admin-down", "bfd-late", "bgp-up", "bgp-down")


class World:
    """A recorder, its hooks, and a folder that the scripts write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.recorder = Recorder()
        self.hooks = Hooks(asyncio.get_running_loop(), self.clock, self.recorder)
        self.recorder.subscribe(self.hooks.heard)
        self.out = folder / "out"

    def script(self, body: str, name: str = "hook") -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nout={self.out}\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def configure(self, body: str, on: tuple[str, ...] = ALL, timeout: float = 10.0) -> str:
        path = self.script(body)
        self.hooks.configure([Hook(on=on, command=(path,), timeout=timeout)])
        return path

    def event(self, kind: str, peer: str | None = PEER, text: str = "words", **facts: str | int | float) -> None:
        self.recorder.add(kind, text, self.clock.now(), peer=peer, facts=facts)

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines() if self.out.exists() else []

    def told(self, kind: str = "hook-failed") -> list[RecordedEvent]:
        return [event for event in self.recorder.select(0, 10_000) if event.kind == kind]

    async def until(self, check: Callable[[], Any], timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not check():
            assert time.monotonic() < deadline, (self.lines()[-5:], self.recorder.select(0, 10))
            await asyncio.sleep(0.005)

    async def idle(self, timeout: float = 20) -> None:
        await self.until(lambda: not self.hooks.waiting and not self.hooks.running, timeout)
        await asyncio.sleep(0)

    async def stop(self) -> None:
        async def nothing() -> None:
            await asyncio.sleep(0)

        await self.hooks.stop(nothing())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """In the end no process of ours is left, and no descriptor."""
    fds = psutil.Process().num_fds()
    world = World(tmp_path)
    yield world
    await world.stop()
    assert psutil.Process().children() == []
    assert psutil.Process().num_fds() == fds


def gone(pid: int) -> bool:
    """Dead; whether whoever adopted it has reaped it is not ours to say."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


# -- what a hook is told -----------------------------------------------------------------------------------


async def test_facts_are_in_the_environment_and_as_json_on_standard_input(world: World) -> None:
    world.configure('env | grep ^BGPBFD_ | sort > "$out"; cat > "$out.json"')
    before = time.time()
    world.event("bfd-down", text="BFD went down", old="up", diag=1, silence_ms=150.25, ok=True, **{"a-b c": "x"})
    await world.idle()
    variables = dict(line.split("=", 1) for line in world.lines())
    at = float(variables.pop("BGPBFD_TIME"))
    assert before - 0.1 <= at <= time.time()
    assert variables == {
        "BGPBFD_EVENT": "bfd-down",
        "BGPBFD_PEER": PEER,
        "BGPBFD_TEXT": "BFD went down",
        "BGPBFD_LEVEL": "info",
        "BGPBFD_NUMBER": "1",
        "BGPBFD_OLD": "up",
        "BGPBFD_DIAG": "1",
        "BGPBFD_SILENCE_MS": "150.25",
        "BGPBFD_A_B_C": "x",
        "BGPBFD_OK": "true",
    }
    text = (world.folder / "out.json").read_text()
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "event": "bfd-down",
        "peer": PEER,
        "text": "BFD went down",
        "level": "info",
        "at": at,
        "number": 1,
        "facts": {"old": "up", "diag": 1, "silence_ms": 150.25, "a-b c": "x", "ok": True},
    }
    assert world.told() == []


async def test_the_daemons_environment_is_passed_on_without_what_is_meant_for_it_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "BGPBFD_OLD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("BGPBFD_API", "unix:/run/x")
    monkeypatch.setenv("PAGER_URL", "http://127.0.0.1/")
    world.configure('env > "$out"')
    world.event("bgp-up", api="forged", event="forged", text_="", peer=None)
    await world.idle()
    variables = dict(line.split("=", 1) for line in world.lines())
    assert "secret" not in variables.values()
    assert variables["PAGER_URL"] == "http://127.0.0.1/"
    assert variables["BGPBFD_API"] == "unix:/run/x"
    assert variables["BGPBFD_EVENT"] == "bgp-up"
    assert variables["BGPBFD_PEER"] == ""
    assert "PATH" in variables


def test_what_a_neighbor_says_is_cleaned_and_bounded() -> None:
    nasty = "a\nBGPBFD_EVENT=bgp-up\0\x1b[2J\x85\u202e\ud800é"
    facts: dict[str, str | int | float] = {
        "said": nasty,
        "traceback": "T",
        "message": "ff" * 4096,
        "long": "x" * 100_000,
    }
    facts["nan"] = float("nan")
    variables, line = told(RecordedEvent(7, 0, "bgp-down", PEER, nasty, "info", facts), 1.5)
    shown = "a\\nBGPBFD_EVENT=bgp-up\\x00\\x1b[2J\\x85\\u202e\\ud800é"
    assert variables[b"BGPBFD_SAID"].decode() == variables[b"BGPBFD_TEXT"].decode() == shown
    assert not any(octet < 32 for value in variables.values() for octet in value)
    assert b"BGPBFD_TRACEBACK" not in variables
    assert b"BGPBFD_MESSAGE" not in variables
    assert variables[b"BGPBFD_TIME"] == b"1.500000"
    whole = json.loads(line)
    assert whole["facts"] == {"said": shown, "nan": None, "long": clean("x" * 100_000)}
    assert len(whole["facts"]["long"]) == hooks.VALUE_CHARACTERS
    assert line.count(b"\n") == 1


def test_the_environment_is_bounded_whatever_the_facts_are() -> None:
    facts: dict[str, str | int | float] = {f"fact{number}": "é" * 5000 for number in range(100)}
    variables, line = told(RecordedEvent(1, 0, "bgp-down", PEER, "é" * 9000, "info", facts), 0.0)
    assert sum(len(name) + len(value) for name, value in variables.items()) <= hooks.ENVIRONMENT_OCTETS
    assert len(line) < 3 * hooks.ENVIRONMENT_OCTETS
    assert set(json.loads(line)["facts"]) == {
        name.decode().removeprefix("BGPBFD_").lower() for name in variables if name.startswith(b"BGPBFD_FACT")
    }


async def test_a_command_is_words_and_no_shells_text(world: World) -> None:
    path = world.script('printf "%s\\n" "$@" > "$out"')
    words = ("$(touch x)", "a b", "", "-n", "é;|&")
    world.hooks.configure([Hook(on=ALL, command=(path, *words))])
    world.event("bgp-up")
    await world.idle()
    assert world.lines() == list(words)


async def test_the_child_has_nice_0_default_signals_a_session_of_its_own_and_no_other_descriptor(world: World) -> None:
    pid = os.getpid()
    before = os.getpriority(os.PRIO_PROCESS, pid)
    path = world.script(
        'nice > "$out"; ps -o pid=,sid=,pgid= -p $$ >> "$out"; ls /proc/$$/fd > "$out.fds"',
    )
    status = world.folder / "status"
    itself = ("cp", "/proc/self/status", str(status))  # a shell would clear its mask
    world.hooks.configure([Hook(on=("bgp-up",), command=(path,)), Hook(on=("bgp-up",), command=itself)])
    leak = 250
    os.dup2(2, leak)
    assert os.get_inheritable(leak)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    wanted = max(0, before)
    if os.getuid() == 0:
        wanted = 0
        os.setpriority(os.PRIO_PROCESS, pid, -5)
    try:
        world.event("bgp-up")
        await world.idle()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.setpriority(os.PRIO_PROCESS, pid, before)
        os.close(leak)
    nice, ids = world.lines()
    values = dict(line.split(":", 1) for line in status.read_text().splitlines())
    assert int(values["SigBlk"], 16) == 0
    ignored = int(values["SigIgn"], 16)
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM, signal.SIGXFSZ):
        assert not ignored >> (number - 1) & 1
    assert int(nice) == wanted
    own, session, group = ids.split()
    assert own == session == group
    assert max(map(int, (world.folder / "out.fds").read_text().split())) < 20  # sh has some for itself


async def test_without_nice_the_priority_is_taken_back_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("a negative nice value takes root")
    monkeypatch.setattr(commands, "_NICE", None)
    world.configure('sleep 0.2; nice > "$out"; sh -c nice >> "$out"')
    os.setpriority(os.PRIO_PROCESS, os.getpid(), -5)
    try:
        world.event("bgp-up")
        await world.idle()
    finally:
        os.setpriority(os.PRIO_PROCESS, os.getpid(), 0)
    assert world.lines() == ["0", "0"]
    world.hooks.configure([Hook(on=ALL, command=("/nonexistent/hook",))])
    world.event("bgp-up")
    await world.idle()
    assert [event.text for event in world.told()] == [
        "hook /nonexistent/hook: cannot be started: No such file or directory"
    ]


# -- order -------------------------------------------------------------------------------------------------


async def test_runs_of_a_hook_and_neighbor_are_one_at_a_time_in_the_events_order(world: World) -> None:
    """The first takes longest: what is not held back would overtake it."""
    world.configure(
        '[ "$BGPBFD_N" = 0 ] && sleep 0.3; echo "begin $BGPBFD_N" >> "$out"; sleep 0.01; echo "end $BGPBFD_N" >> "$out"'
    )
    for number in range(10):
        world.event(("bfd-down", "bfd-up")[number % 2], n=number)
        await asyncio.sleep(0.02)  # the first run is under way
    await world.idle()
    assert world.lines() == [f"{what} {number}" for number in range(10) for what in ("begin", "end")]


async def test_neighbors_and_hooks_do_not_wait_for_each_other(world: World) -> None:
    slow = world.script('while [ ! -e "$out" ]; do sleep 0.01; done', "slow")
    quick = world.script('[ "$BGPBFD_PEER" = 192.0.2.2 ] && echo done > "$out"; exit 0', "quick")
    world.hooks.configure([Hook(on=ALL, command=(slow,)), Hook(on=ALL, command=(quick,))])
    world.event("bgp-down")
    world.event("bgp-down", OTHER)
    await world.idle()
    assert world.told() == []


async def test_only_the_events_of_the_hook_start_it(world: World) -> None:
    world.configure('echo "$BGPBFD_EVENT" >> "$out"', on=("bfd-down",))
    for kind in ("bfd-up", "bgp-down", "bfd-state", "reload", "bfd-down", "hook-failed"):
        world.event(kind)
    await world.idle()
    assert world.lines() == ["bfd-down"]


async def test_at_most_eight_run_at_once_and_one_hook_leaves_room_for_another(world: World) -> None:
    hang = world.script('echo $$ >> "$out"; exec sleep 60', "hang")
    other = world.script('echo "$BGPBFD_PEER" > "$out.other"', "other")
    third = world.script("exec sleep 60", "third")
    world.hooks.configure(
        [
            Hook(on=("bfd-down",), command=(hang,)),
            Hook(on=("bgp-down",), command=(other,)),
            Hook(on=("bfd-late",), command=(third,)),
        ]
    )
    for number in range(30):
        world.event("bfd-down", f"10.0.0.{number}")
    await world.until(lambda: len(world.lines()) == hooks.PROCESSES_A_HOOK)
    world.event("bgp-down")
    await world.until((world.folder / "out.other").exists)
    for number in range(30):
        world.event("bfd-late", f"10.0.0.{number}")
    await world.until(lambda: world.hooks.running == hooks.PROCESSES)
    await asyncio.sleep(0.1)
    assert world.hooks.running == hooks.PROCESSES
    assert len(psutil.Process().children()) == hooks.PROCESSES
    assert len(world.lines()) == hooks.PROCESSES_A_HOOK


# -- bounds of one run -------------------------------------------------------------------------------------


async def test_a_timeout_ends_the_whole_group_also_who_ignores_sigterm(world: World) -> None:
    """The command forks a child that ignores SIGTERM and has let go of the output."""
    path = world.configure(
        """(trap "" TERM; echo $$ > /dev/null; sh -c 'echo $PPID >> '"$out"; exec sleep 60) > /dev/null 2>&1 &
        echo $$ >> "$out"
        trap 'echo term >> "$out"; exit 0' TERM
        echo said
        while :; do sleep 0.05; done""",
        timeout=0.5,
    )
    began = time.monotonic()
    world.event("bfd-down")
    await world.until(lambda: len(world.lines()) == 2)
    pids = [int(line) for line in world.lines()]
    await world.idle()
    assert time.monotonic() - began >= 0.5 + commands.GRACE_S
    assert world.lines()[2:] == ["term"]  # asked before it was killed
    await world.until(lambda: all(gone(pid) for pid in pids))
    (failed,) = world.told()
    assert failed.text == f"hook {path}: still running after 0.5 s, and ended"
    assert failed.peer == PEER
    assert failed.level == "warning"
    assert (failed.facts["on"], failed.facts["status"]) == ("bfd-down", 0)
    assert str(failed.facts["output"]).startswith("said")


async def test_one_that_ignores_sigterm_is_killed(world: World) -> None:
    world.configure('trap "" TERM; while :; do sleep 0.05; done', timeout=0.2)
    world.event("bfd-down")
    await world.idle()
    assert world.told()[0].facts["status"] == -signal.SIGKILL


async def test_what_a_command_leaves_behind_is_ended_with_it(world: World) -> None:
    """It holds the output too: its last words are waited for, a second."""
    world.configure('(trap "" TERM HUP; exec sleep 60) & echo $! > "$out"')
    began = time.monotonic()
    world.event("bfd-down")
    await world.idle()
    assert time.monotonic() - began < 8
    assert world.told() == []
    await world.until(lambda: gone(int(world.lines()[0])))


async def test_a_program_in_a_session_of_its_own_is_left_alone(world: World) -> None:
    away = """setsid sh -c 'echo $$ >> "$0"; exec sleep 60' "$out" > /dev/null 2>&1 &"""
    world.configure(f'{away}\nwhile [ ! -s "$out" ]; do sleep 0.01; done')
    world.event("bfd-down")
    await world.idle()
    pids = [int(line) for line in world.lines()]
    assert pids
    try:
        assert not any(gone(pid) for pid in pids)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("code", "noted"), [(0, False), (3, True)])
async def test_megabytes_of_output_block_nobody_and_are_thrown_away(world: World, code: int, noted: bool) -> None:
    world.configure(
        f'printf "\\033[31mbad\\n"; head -c 5000000 /dev/zero | tr "\\0" x >&2; echo end > "$out"; exit {code}'
    )
    world.event("bfd-down")
    await world.idle()
    assert world.lines() == ["end"]
    assert [(event.text.partition(": ")[2], event.facts["status"]) for event in world.told()] == (
        [("exit status 3", 3)] if noted else []
    )
    for event in world.told():
        output = str(event.facts["output"])
        assert output.startswith("\\x1b[31mbad\\nxxx")
        assert output.count("x") == commands.OUTPUT_KEPT - len(b"\033[31mbad\n") + 1  # one of the escape's own


async def test_a_command_that_does_not_read_its_input_is_fine(world: World) -> None:
    world.hooks.configure([Hook(on=ALL, command=("true",))])
    for number in range(20):
        world.event("bfd-down", f"10.0.0.{number}", text="x" * 4000, filler="y" * 4000)
    await world.idle()
    assert world.told() == []
    assert world.hooks.counters["ended"] == 20


async def test_one_ended_by_a_signal_is_told_by_its_name(world: World) -> None:
    path = world.configure("kill -SEGV $$")
    world.event("bfd-down")
    await world.idle()
    assert [event.text for event in world.told()] == [f"hook {path}: ended by SIGSEGV"]


async def test_commands_that_cannot_be_started(world: World) -> None:
    plain = world.folder / "plain"
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o644)
    lost = world.folder / "lost"
    lost.write_text("#!/nonexistent/interpreter\n")
    lost.chmod(0o755)
    failing = ["/nonexistent/hook", str(plain), str(world.folder), "no-such-command-in-the-path", str(lost), "nul\0"]
    world.hooks.configure([Hook(on=ALL, command=(command, "token")) for command in failing])
    world.event("bfd-down")
    await world.idle()
    assert world.hooks.counters["failed"] == len(failing)
    texts = [event.text for event in world.told()]
    for command, text in zip(
        failing,
        sorted(texts, key=lambda text: failing.index(text.split(":")[0][5:].replace("\\x00", "\0"))),
        strict=True,
    ):
        assert text.startswith(f"hook {clean(command)}: cannot be started: ")
        assert "token" not in text
    assert "Permission denied" in "".join(texts)
    assert "status" not in world.told()[0].facts


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
async def test_a_system_that_has_no_room_for_it_is_told_once_for_each_error(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    world.configure("exit 0")
    target = (os, "pipe") if number == errno.EMFILE else (subprocess, "Popen")
    with monkeypatch.context() as patch:
        patch.setattr(*target, refuses)
        for _ in range(5):
            world.event("bfd-down")
            await world.idle()
    assert [event.text.partition(": ")[2] for event in world.told()] == [f"cannot be started: {os.strerror(number)}"]
    world.event("bfd-up")
    await world.idle()
    assert world.hooks.counters == {"failed": 5, "ended": 1}


async def test_the_same_failure_is_summed_up_once_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "REPEAT_S", 0.5)
    path = world.configure("exit 1")
    for number in range(12):
        world.event("bfd-down", f"10.0.0.{number}")
    await world.idle()
    await world.until(lambda: len(world.told()) >= 2)
    first, second, *more = world.told()
    assert first.text == f"hook {path}: exit status 1"
    assert first.peer == "10.0.0.0"
    assert not more or second.text != more[0].text
    counted = sum(int(event.text.rpartition("(")[2].split()[0]) for event in world.told()[1:])
    await world.until(lambda: not world.hooks._teller._known)
    counted = sum(int(event.text.rpartition("(")[2].split()[0]) for event in world.told()[1:])
    assert counted == 11


async def test_a_hooks_failure_starts_no_hook(world: World) -> None:
    world.configure('echo "$BGPBFD_EVENT" >> "$out"; exit 1', on=(*ALL, "hook-failed"))
    world.event("bfd-down")
    await world.idle()
    await asyncio.sleep(0.1)
    assert world.lines() == ["bfd-down"]


async def test_a_fault_of_ours_harms_neither_the_recorder_nor_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("ours")

    path = world.configure('echo "$BGPBFD_EVENT" >> "$out"')
    with monkeypatch.context() as patch:
        patch.setattr(world.clock, "wall", breaks)
        world.event("bfd-down")
    with monkeypatch.context() as patch:
        patch.setattr(hooks, "told", breaks)
        world.event("bfd-down")
        await world.idle()
    world.event("bfd-up")
    await world.idle()
    assert world.lines() == ["bfd-up"]
    assert [event.text for event in world.told()] == [f"hook {path}: internal error: RuntimeError('ours')"]


# -- bounds of all -----------------------------------------------------------------------------------------


async def test_a_slow_hooks_line_keeps_the_newest_of_each_subject(world: World) -> None:
    """What BFD does again and again does not push out that BGP went down."""
    world.configure(
        '[ "$BGPBFD_N" = -1 ] && while [ ! -e "$out.go" ]; do sleep 0.01; done\n'
        'echo "$BGPBFD_EVENT $BGPBFD_N" >> "$out"'
    )
    world.event("bfd-up", n=-1)
    await world.until(lambda: world.hooks.running)
    world.event("bgp-down", n=-2)
    for number in range(200):
        world.event(("bfd-down", "bfd-up")[number % 2], n=number)
    assert world.hooks.waiting == hooks.LINE_MAX
    assert world.hooks.counters["superseded"] == 200 + 1 - hooks.LINE_MAX
    (world.folder / "out.go").touch()
    await world.idle()
    kept = range(200 - hooks.LINE_MAX + 1, 200)
    assert world.lines() == ["bfd-up -1", "bgp-down -2", *(f"bfd-{('down', 'up')[n % 2]} {n}" for n in kept)]
    (superseded,) = world.told("hook-superseded")
    assert superseded.peer == PEER


async def test_when_the_queue_is_full_each_neighbors_last_state_is_still_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "PACE_S", 0.0)
    world.configure('while [ ! -e "$out.go" ]; do sleep 0.05; done; echo "$BGPBFD_PEER $BGPBFD_EVENT" >> "$out"')
    peers = [f"10.0.{number // 250}.{number % 250}" for number in range(hooks.WAITING_MAX + 50)]
    for turn in range(6):
        for peer in peers:
            world.event(("bfd-down", "bfd-up")[turn % 2], peer)
    # One of each is more than the queue takes: there is nothing to supersede, and all are told.
    assert hooks.WAITING_MAX <= world.hooks.waiting <= len(peers) + hooks.WAITING_MAX
    assert world.hooks.counters["lost"] == 0
    (world.folder / "out.go").touch()
    await world.idle(60)
    assert dict(line.split() for line in world.lines()) == dict.fromkeys(peers, "bfd-up")


async def test_beyond_the_limit_an_event_is_lost_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "WAITING_MAX", 5)
    monkeypatch.setattr(hooks, "WAITING_LIMIT", 10)
    world.configure("exit 0")
    for number in range(25):
        world.event("bfd-down", f"10.0.0.{number}")
    assert world.hooks.waiting == 10
    assert world.hooks.counters["lost"] == 15
    await world.idle()
    assert len(world.told("hook-lost")) == 1
    assert world.hooks.counters["ended"] == 10


async def test_a_storm_leaves_the_loop_free_and_ends_with_the_last_state(world: World) -> None:
    """A hundred events a second for three seconds, with a hook that takes its time: the loop is late now and then
    only, as by what one start takes."""
    world.configure('sleep 0.05; echo "$BGPBFD_EVENT $BGPBFD_N" >> "$out"')
    late: list[float] = []
    count = 300
    loop = asyncio.get_running_loop()
    for number in range(count):
        before = loop.time()
        world.event(("bfd-down", "bfd-up")[number % 2], n=number)
        await asyncio.sleep(0.01)
        late.append(loop.time() - before - 0.01)
    assert world.hooks.waiting <= hooks.LINE_MAX
    await world.idle(30)
    assert world.lines()[-1] == f"bfd-up {count - 1}"
    numbers = [int(line.split()[1]) for line in world.lines()]
    assert numbers == sorted(numbers)
    assert sorted(late)[len(late) // 2] < 0.02
    assert world.hooks.counters["ended"] + world.hooks.counters["superseded"] == count


async def test_hearing_an_event_starts_nothing_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand neighbors are lost in one turn: they are all seen to before the first start, and starts are spread."""
    starts: list[float] = []
    real = commands.run
    loop = asyncio.get_running_loop()

    async def counted(*given: Any) -> commands.Outcome:
        starts.append(loop.time())
        return await real(*given)

    monkeypatch.setattr(commands, "run", counted)
    world.configure("exit 0")
    began = loop.time()
    for number in range(1000):
        world.event("bfd-down", f"10.0.{number // 250}.{number % 250}")
    await asyncio.sleep(0)
    assert starts == []
    await world.until(lambda: len(starts) >= 20)
    assert starts[0] - began >= hooks.PACE_S
    assert (starts[19] - starts[0]) >= 19 * hooks.PACE_S * 0.9
    world.hooks.configure([])
    await world.idle()


# -- reload ------------------------------------------------------------------------------------------------


async def test_a_reload_lets_runs_end_and_drops_what_waits_for_removed_hooks(world: World) -> None:
    body = 'while [ ! -e "$out.go" ]; do sleep 0.01; done; echo "$0 $BGPBFD_EVENT" >> "$out"'
    old, kept, new = (world.script(body, name) for name in ("old", "kept", "new"))
    world.hooks.configure([Hook(on=ALL, command=(old,)), Hook(on=ALL, command=(kept,))])
    for kind in ("bfd-down", "bgp-down", "bfd-up"):
        world.event(kind)
    await world.until(lambda: world.hooks.running == 2)
    assert world.hooks.waiting == 4
    world.hooks.configure([Hook(on=ALL, command=(new,)), Hook(on=("bfd-up", "bfd-down"), command=(kept,), timeout=5)])
    assert world.hooks.waiting == 1  # bfd-up for kept; it is not asked for bgp-down any more
    assert world.hooks.counters["dropped"] == 3
    world.event("bgp-up")
    (world.folder / "out.go").touch()
    await world.idle()
    seen = world.lines()
    assert sorted(seen) == sorted([f"{old} bfd-down", f"{kept} bfd-down", f"{kept} bfd-up", f"{new} bgp-up"])
    assert seen.index(f"{kept} bfd-down") < seen.index(f"{kept} bfd-up")


async def test_a_removed_hooks_run_still_has_its_timeout(world: World) -> None:
    world.configure('echo $$ > "$out"; exec sleep 60', timeout=0.5)
    world.event("bfd-down")
    await world.until(world.lines)
    world.hooks.configure([])
    await world.idle()
    assert gone(int(world.lines()[0]))
    assert "still running" in world.told()[0].text


# -- stop --------------------------------------------------------------------------------------------------


async def test_a_stop_waits_for_the_hooks_of_the_last_events(world: World) -> None:
    world.configure('sleep 0.2; echo "$BGPBFD_EVENT" >> "$out"')

    async def leaving() -> None:
        await asyncio.sleep(0.05)
        world.event("bfd-admin-down")

    world.event("bgp-down")
    began = time.monotonic()
    await world.hooks.stop(leaving())
    assert world.lines() == ["bgp-down", "bfd-admin-down"]
    assert time.monotonic() - began < hooks.STOP_S
    world.event("bgp-down")
    assert world.hooks.waiting == 0
    assert world.told() == []


async def test_a_stop_kills_what_hangs_and_is_not_held_up(world: World) -> None:
    path = world.configure('echo $$ >> "$out"; trap "" TERM; while :; do sleep 0.05; done', timeout=60)
    for peer in (PEER, OTHER):
        world.event("bgp-up", peer)
        world.event("bgp-down", peer)
    await world.until(lambda: len(world.lines()) == 2)
    began = time.monotonic()
    await world.stop()
    assert hooks.STOP_S <= time.monotonic() - began < hooks.STOP_S + 1
    assert all(gone(int(line)) for line in world.lines())
    assert psutil.Process().children() == []
    assert world.hooks.counters == {"failed": 2, "dropped": 2}
    first, _ = world.told()
    assert first.text == f"hook {path}: the daemon stops, and did not wait for its end"


async def test_a_stop_that_is_hurried_kills_at_once(world: World) -> None:
    world.configure('echo $$ >> "$out"; exec sleep 60', timeout=60)
    world.event("bgp-down")
    await world.until(world.lines)
    never = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(world.hooks.stop(never))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1
    assert gone(int(world.lines()[0]))
    assert psutil.Process().children() == []
    never.cancel()


async def test_children_that_nobody_has_to_wait_for(world: World) -> None:
    """SIGCHLD is ignored in a process whose parent had it so: the kernel reaps, and there is no status."""
    world.configure(
        'echo "$BGPBFD_EVENT" >> "$out"; [ "$BGPBFD_EVENT" = bfd-up ] && exec sleep 60; exit 3', timeout=0.3
    )
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        world.event("bfd-down")
        world.event("bfd-up")
        await world.idle()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert world.lines() == ["bfd-down", "bfd-up"]
    assert ["still running" in event.text for event in world.told()] == [True]
