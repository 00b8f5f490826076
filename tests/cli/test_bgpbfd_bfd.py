"""``bgpbfd bfd`` as a process: two of them watch each other on loopback addresses; neither needs root."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
import pytest

MODULE = (sys.executable, "-W", "error", "-m", "bgpbfd", "bfd")
FAST = ("-r", "50", "-t", "50", "-m", "3")
TIMEOUT_S = 20.0

_random = Random(os.getpid())


def address() -> str:
    """A loopback address of this test's own."""
    return f"127.{_random.randint(100, 250)}.{_random.randint(1, 254)}.{_random.randint(1, 254)}"


class Alone:
    """A ``bgpbfd bfd`` with the lines of both its outputs as they come."""

    def __init__(self, *args: str, command: tuple[str, ...] = MODULE) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [*command, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TZ": "UTC"},
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._news: queue.Queue[None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            self._news.put(None)

    def until(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """The first line of standard output, of those ``after`` so many, that has the pattern."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            for line in self.out[after:]:
                found = re.search(pattern, line)
                if found is not None:
                    return found
            try:
                self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no {pattern!r} in {self.out} and {self.err}")

    def started(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not any(" watches " in line for line in self.err):
            assert time.monotonic() < deadline, (self.out, self.err)
            time.sleep(0.01)

    def worker(self) -> psutil.Process:
        """The worker's process, as soon as there is one: then the signals are seen to."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (children := psutil.Process(self.process.pid).children()):
            assert time.monotonic() < deadline, (self.out, self.err)
            time.sleep(0.01)
        return children[0]

    def settled(self) -> None:
        """It has had packets at the fast rate: just after Up the peer still promises one a second (RFC 5880 §6.8.3)."""
        deadline = time.monotonic() + TIMEOUT_S
        first = self._received()
        while self._received() < first + 4:
            assert time.monotonic() < deadline, (self.out, self.err)

    def _received(self) -> int:
        """How many packets of its one session it has taken, by a summary asked for now."""
        seen = len(self.out)
        self.process.send_signal(signal.SIGUSR1)
        found = self.until(r'"control_packet_input": (\d+)|^\d\S+ +\w+ +\S+ +(\d+) ', after=seen)
        return int(found[1] or found[2])

    def kill_all(self) -> None:
        """It and its worker, in one blow: nothing of it says good-bye."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(TIMEOUT_S)
        for reader in self._readers:
            reader.join(TIMEOUT_S)
        return code

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill_all()
        self.wait()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


@contextlib.contextmanager
def alone(*args: str, command: tuple[str, ...] = MODULE) -> Iterator[Alone]:
    one = Alone(*args, command=command)
    try:
        yield one
    finally:
        one.close()
        assert "Traceback" not in "".join(one.err)


def once(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MODULE, *args], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


# -- two that watch each other -------------------------------------------------------------------------------


def test_up_killed_back_and_stopped() -> None:
    one, two = address(), address()
    with alone(one, two, *FAST) as watcher:
        with alone(two, one, *FAST) as victim:
            watcher.until(f"{two}  (init|down) -> up$")
            victim.until(f"{one}  (init|down) -> up$")
            watcher.settled()
            victim.kill_all()
            # RFC 5880 §6.8.4: silence, and for whose sake and since when
            down = watcher.until(
                rf"^\d{{4}}-\S+ \S+  {two}  up -> down: path-loss \(control detection time expired; .*"
                r"last packet \d\d:\d\d:\d\d\.\d{3} \((\S+) ms before\), the one before it \S+ \((\S+) ms before\), "
                r"detection time 150 ms$"
            )
            assert 150 <= float(down[1]) <= float(down[2])
        seen = len(watcher.out)
        with alone(two, one, *FAST) as successor:
            watcher.until(f"{two}  (init|down) -> up$", after=seen)
            successor.until("-> up$")
            assert successor.end() == 0
            assert any(re.search(r"up -> admin-down: admin by us", line) for line in successor.out)
        # §6.8.16: a clean stop is AdminDown at the other end, and no failure
        watcher.until(rf"{two}  up -> down: admin by the peer \(.*administratively down\)", after=seen)
        assert watcher.end(signal.SIGINT) == 0
        assert watcher.out[-2].split() == [
            "Peer", "State", "Since", "In", "Out", "Late", "Up", "Down", "Discarded", "for",
        ]  # fmt: skip
        peer, state, _, received, sent, _, ups, downs, *_ = watcher.out[-1].split()
        assert (peer, state, ups, downs) == (two, "down", "2", "2")
        assert int(received) > 1
        assert int(sent) > 1


def test_several_remotes_usr1_and_hup() -> None:
    hub, first, second = address(), address(), address()
    with alone(hub, first, second, *FAST) as watcher, alone(first, hub, *FAST), alone(second, hub, "-p", *FAST):
        watcher.until(f"{first}  .* -> up$")
        watcher.until(f"{second}  .* -> up$")
        family = [watcher.process.pid, *(child.pid for child in psutil.Process(watcher.process.pid).children())]
        assert len(family) == 2
        for number in (signal.SIGHUP, signal.SIGUSR1):  # as `pkill bgpbfd` does: to the worker as well
            for pid in family:
                os.kill(pid, number)
        watcher.until("^Peer ")
        watcher.until(rf"^{first}\s+up ")
        watcher.until(rf"^{second}\s+up ")
        assert psutil.pid_exists(family[1])
        assert watcher.process.poll() is None
        assert watcher.end() == 0
        assert len([line for line in watcher.out if line.startswith("Peer ")]) == 2
        assert not any("-> down" in line or "died" in line for line in watcher.out + watcher.err)


def test_json_lines() -> None:
    one, two = address(), address()
    with alone(one, two, *FAST, "--json") as watcher:
        with alone(two, one, *FAST) as victim:
            watcher.until('"status": "up"')
            watcher.settled()
            victim.kill_all()
            watcher.until('"status": "down"')
        assert watcher.end() == 0
        events = [json.loads(line) for line in watcher.out]
        assert events[0]["event"] == "message"
        states = [event for event in events if event["event"] == "state"]
        assert {event["peer"] for event in states} == {two}
        down = next(event for event in states if event["status"] == "down")
        assert (down["old_status"], down["blame"], down["detection_timeout_ms"]) == ("up", "path-loss", 150)
        assert down["last_packet_before_ms"] >= 150
        assert down["last_packet_at"] >= down["previous_packet_at"] > time.time() - 60
        summary = events[-1]
        assert summary["event"] == "summary"
        (session,) = summary["sessions"]
        assert (session["peer"], session["session_up"], session["session_down"]) == (two, 1, 1)
        assert session["last_down"]["blame"] == "path-loss"
        assert watcher.err == []


def test_log_level_decides_what_standard_error_has() -> None:
    for level, told in (("warning", 0), ("debug", 2)):
        with alone(address(), address(), "-l", level) as one:
            one.worker()
            one.process.send_signal(signal.SIGUSR1)
            one.until("^Peer ")
            assert one.end() == 0
            assert len(one.err) >= told
            assert bool(one.err) == bool(told)


def test_a_host_name_is_looked_up_once() -> None:
    with alone("localhost", address(), "-4") as one:
        one.started()
        assert "127.0.0.1 watches " in one.err[0]
        assert one.end() == 0
    with alone(address(), "localhost") as one:
        one.started()
        assert "watches localhost (127.0.0.1): tx 300 ms, rx 300 ms, multiplier 3" in one.err[0]
        assert one.end() == 0
        assert one.out[-1].startswith("localhost (127.0.0.1)  down ")


def test_a_reader_that_is_stuck_takes_no_session_down() -> None:
    """What is printed may wait; the worker must not think for that reason that the main process hangs."""
    one, two = address(), address()
    read, write = os.pipe()
    while True:  # full, so that the first line blocks
        os.set_blocking(write, False)
        try:
            os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    with alone(two, one, *FAST) as watcher:
        process = subprocess.Popen([*MODULE, one, two, *FAST], stdout=write, stderr=subprocess.DEVNULL)
        os.close(write)
        try:
            watcher.until("-> up$")
            time.sleep(11.5)  # control_timeout is 10 s
            assert not any("up -> " in line for line in watcher.out)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()
            os.close(read)


def test_a_reader_that_is_gone_ends_it_cleanly() -> None:
    one, two = address(), address()
    with alone(two, one, *FAST) as watcher:
        read, write = os.pipe()
        os.close(read)
        process = subprocess.Popen([*MODULE, one, two, *FAST], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        _, told = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 1
        assert b"Traceback" not in told
        watcher.until("-> down: admin by the peer|init -> down: admin by the peer")
        assert watcher.end() == 0


def test_closed_outputs_are_no_fault() -> None:
    one, two = address(), address()
    with alone(two, one, *FAST) as watcher:
        process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *MODULE, one, two, *FAST])
        try:
            watcher.until("-> up$")
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()


# -- what cannot be ------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_exits_1_and_no_neighbor_hears_of_it() -> None:
    taken, other = address(), address()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as neighbor,
        alone(taken, address()) as first,
    ):
        neighbor.bind((other, 3784))
        first.started()
        done = once(taken, other)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"cannot start: cannot listen on {taken}: Address already in use: another BFD program" in done.stderr
        neighbor.setblocking(False)
        with pytest.raises(BlockingIOError):
            neighbor.recv(100)
        assert first.end() == 0


def test_an_address_of_another_host_exits_1() -> None:
    done = once("192.0.2.10", "192.0.2.1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot listen on 192.0.2.10: Cannot assign requested address: it is no address of this host" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_are_nobodys_exit_1_each_named() -> None:
    done = once("127.0.0.1", "no-such-host.invalid", "nor-this.invalid")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["bgpbfd bfd", "no-such-host.invalid"],
        ["bgpbfd bfd", "nor-this.invalid"],
    ]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "LOCAL, REMOTE"),
        (("127.0.0.1", "127.0.0.9", "-r", "5"), "-r/--rx-interval: '5' is no number of milliseconds from 10 to 60000"),
        (("127.0.0.1", "127.0.0.9", "--tx-interval", "60001"), "from 10 to 60000"),
        (("127.0.0.1", "127.0.0.9", "-m", "256"), "'256' is no multiplier from 1 to 255"),
        (("127.0.0.1", "127.0.0.9", "--auth", "keyed-sha1:1"), "each --auth needs its --auth-key-file"),
        (("127.0.0.1", "127.0.0.9", "--nonsense"), "--nonsense"),
    ],
)
def test_wrong_usage_exits_2(args: tuple[str, ...], told: str) -> None:
    done = once(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: bgpbfd " in done.stderr
    assert told in done.stderr


def test_a_network_that_is_unreachable_is_warned_of_and_watched(tmp_path: Path) -> None:
    """From a loopback address nothing else can be reached: a fault, told once, that may pass."""
    with alone(address(), "192.0.2.1") as one:
        one.started()
        deadline = time.monotonic() + TIMEOUT_S
        while not any("warning: 192.0.2.1: " in line for line in one.err):
            assert time.monotonic() < deadline, one.err
            time.sleep(0.01)
        assert one.end() == 0
        assert "192.0.2.1" in one.out[-1]


def test_the_key_is_in_no_argument_and_no_output(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("Sesame-opens-0123\n")
    key.chmod(0o600)
    with alone(
        address(), address(), "--auth", "keyed-sha1:1", "--auth-key-file", str(key), "-l", "debug", "--json"
    ) as one:
        one.until(" watches ")
        for process in (psutil.Process(one.process.pid), *psutil.Process(one.process.pid).children()):
            assert "Sesame" not in " ".join([*process.cmdline(), *process.environ().values()])
        one.process.send_signal(signal.SIGUSR1)
        one.until('"event": "summary"')
        assert one.end() == 0
        assert "Sesame" not in "".join(one.out + one.err)
