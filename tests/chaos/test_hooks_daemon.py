"""``[[hooks]]`` of the real daemon: they learn the truth, and whatever they do a failover does not wait for them."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from chaos_daemon import wait_until
from raw_peer import Healthy
from test_lifecycle import Solo

DETECTION_MS = 150.0
MARGIN_MS = 50.0  # of a machine that is busy; with an idle one it is 1 or 2 ms
EVERY = '["bfd-up", "bfd-down", "bfd-admin-down", "bgp-up", "bgp-down"]'
NOTES = 'cat >> "$0.notes"'
FAITHFUL = 'printf "%s %s %s\\n" "$BGPBFD_EVENT" "$BGPBFD_PEER" "$BGPBFD_SILENCE_TO_CEASE_MS" >> "$0.env"'
HANGS = 'echo $$ >> "$0.pids"; trap "" TERM; while :; do sleep 1; done'
FLOODS = "echo $$ >> \"$0.pids\"; trap '' TERM; exec yes"


class Hooked(Solo):
    """A daemon with hooks, each a script in the folder, and its neighbor."""

    def __init__(self, folder: Path, **scripts: str) -> None:
        super().__init__(folder)
        self.folder = folder
        self.scripts = scripts
        self.plain = self.text
        for name, body in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)
        self.text += self.hooks(*scripts)
        self.daemon.write(self.text)

    def hooks(self, *names: str, timeout: float = 60.0) -> str:
        return "".join(
            f'[[hooks]]\non = {EVERY}\ncommand = ["{self.folder / name}"]\ntimeout = {timeout}\n' for name in names
        )

    def notes(self, name: str = "notes") -> list[dict[str, Any]]:
        """What the hook of that name has written of its standard input."""
        path = self.folder / f"{name}.notes"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_note(self, kind: str, name: str = "notes") -> dict[str, Any]:
        return wait_until(
            lambda: [note for note in self.notes(name) if note["event"] == kind], 10, f"{kind}\n{self.daemon.tail()}"
        )[-1]

    def pids(self) -> list[int]:
        return [int(line) for path in self.folder.glob("*.pids") for line in path.read_text().split()]

    def reconnect(self) -> None:
        """The neighbor is back, with BFD and BGP."""
        assert self.bgp is not None
        self.bgp.stop()
        self.bfd.silent = False
        self.daemon.wait_bfd(self.there, "up")
        self.bgp = Healthy((self.here, self.port), self.there)
        self.daemon.wait_state(self.there, "established")

    def end(self) -> None:
        super().end()
        for pid in self.pids():
            assert not alive(pid), f"a hook outlives the daemon: {pid}"


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bgpbfd-chaos-") as name:
        yield Path(name)


def test_hooks_that_hang_and_flood_leave_the_failover_as_quick_as_it_is(folder: Path) -> None:
    solo = Hooked(folder, hangs=HANGS, floods=FLOODS, hangs2=HANGS, floods2=FLOODS, notes=NOTES)
    try:
        solo.start()
        wait_until(lambda: len(solo.pids()) == 4, 10, "the hooks hang")
        for _ in range(3):
            mark = solo.daemon.last_event()
            solo.bfd.silent = True
            down = solo.daemon.wait_event("bgp-down", mark)
            assert (down["facts"]["code"], down["facts"]["subcode"]) == (6, 10)
            silence_ms = down["facts"]["silence_to_cease_ms"]
            print(f"silence to Cease: {silence_ms} ms")
            assert DETECTION_MS <= silence_ms <= DETECTION_MS + MARGIN_MS
            solo.reconnect()
        # Who hangs holds up itself alone.
        wait_until(lambda: [note["event"] for note in solo.notes()].count("bgp-up") == 4, 10, "all is told")
        code, seconds = solo.daemon.stop()
        assert code == 0
        assert seconds < 5
        assert "Traceback" not in solo.daemon.log.read_text()
    finally:
        solo.end()


def test_hooks_learn_what_the_record_says_in_its_order(folder: Path) -> None:
    solo = Hooked(folder, notes=NOTES, faithful=FAITHFUL)
    try:
        solo.start()
        solo.bfd.silent = True
        solo.daemon.wait_event("bgp-down")
        solo.reconnect()
        solo.daemon.wait_event("bgp-up", solo.daemon.events("bgp-down")[-1]["number"])
        kinds = ("bfd-up", "bfd-down", "bfd-admin-down", "bgp-up", "bgp-down")
        record = [event for event in solo.daemon.events() if event["kind"] in kinds]
        assert [event["kind"] for event in record].count("bgp-up") == 2
        wait_until(lambda: len(solo.notes()) == len(record), 10, "all is told")
        for note, event in zip(solo.notes(), record, strict=True):
            assert (note["number"], note["event"]) == (event["number"], event["kind"])
            assert (note["peer"], note["text"], note["level"]) == (solo.there, event["text"], event["level"])
            assert note["facts"] == {name: value for name, value in event["facts"].items() if name != "message"}
            assert abs(note["at"] - time.time()) < 60
        down = solo.wait_note("bgp-down")
        lines = (folder / "faithful.env").read_text().splitlines()
        assert f"bgp-down {solo.there} {down['facts']['silence_to_cease_ms']}" in lines
        assert solo.daemon.events("hook-failed") == []
    finally:
        solo.end()


def test_sigterm_is_still_told_and_who_hangs_is_ended(folder: Path) -> None:
    solo = Hooked(folder, notes=f"sleep 0.3; {NOTES}", hangs=HANGS)
    try:
        solo.start()
        wait_until(solo.pids, 10, "a hook hangs")
        solo.wait_note("bgp-up")
        code, seconds = solo.daemon.stop()
        assert code == 0
        assert seconds < 5
        down = solo.wait_note("bgp-down")
        assert "SIGTERM" in down["text"]
        assert f"hook {folder}/hangs" in solo.daemon.log.read_text()
    finally:
        solo.end()


def test_a_second_signal_does_not_wait_for_a_hook(folder: Path) -> None:
    solo = Hooked(folder, hangs=HANGS)
    try:
        solo.start()
        wait_until(solo.pids, 10, "a hook hangs")
        assert solo.daemon.process is not None
        began = time.monotonic()
        solo.daemon.process.terminate()
        wait_until(lambda: not solo.daemon.socket.exists(), 5, "it stops")
        solo.daemon.process.terminate()
        assert solo.daemon.process.wait(5) == 0
        assert time.monotonic() - began < 1.8
    finally:
        solo.end()


def test_hooks_come_and_go_with_a_reload(folder: Path) -> None:
    solo = Hooked(folder, notes=NOTES)
    solo.daemon.write(solo.plain)
    try:
        solo.start()
        solo.daemon.write(solo.text)
        solo.daemon.rpc("reload")
        solo.bfd.silent = True
        solo.wait_note("bgp-down")
        assert [note["event"] for note in solo.notes() if note["event"] == "bgp-up"] == []
        solo.daemon.write(solo.plain)
        solo.daemon.rpc("reload")
        solo.reconnect()
        time.sleep(0.3)
        assert [note["event"] for note in solo.notes() if note["event"] == "bgp-up"] == []
    finally:
        solo.end()


def test_a_hook_that_fails_is_told_and_changes_nothing(folder: Path) -> None:
    solo = Hooked(folder, fails='echo "no route to the pager" >&2; exit 7')
    solo.daemon.write(solo.text + solo.hooks("missing"))
    try:
        solo.start()
        wait_until(lambda: len(solo.daemon.events("hook-failed")) == 2, 10, "both are told")
        failed = {event["text"]: event for event in solo.daemon.events("hook-failed")}
        one = failed[f"hook {folder}/fails: exit status 7"]
        assert (one["peer"], one["level"]) == (solo.there, "warning")
        assert one["facts"]["output"] == "no route to the pager"
        (other,) = (event for text, event in failed.items() if "missing" in text)
        assert "No such file or directory" in other["text"]
        assert solo.daemon.state(solo.there) == "established"
        # The hooks of the other event run still, or do not.
        children = psutil.Process(solo.daemon.pid).children
        wait_until(lambda: [child.name() for child in children()] == ["bgpbfd-bfd"], 10, "nothing is left of them")
    finally:
        solo.end()


def test_the_hook_runs_at_ordinary_priority(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("a negative nice value takes root")
    solo = Hooked(folder, notes='echo "{\\"event\\": \\"$(nice)\\"}" >> "$0.notes"')
    try:
        solo.start()
        assert psutil.Process(solo.daemon.pid).nice() == -5
        wait_until(solo.notes, 10, "it is told")
        assert {note["event"] for note in solo.notes()} == {"0"}
    finally:
        solo.end()
