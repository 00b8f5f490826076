"""Signals, deaths and restarts of the real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from bgpbfdctl.client import RpcError
from chaos_daemon import BIN, Daemon, address, free_port, wait_until
from raw_bfd import RawBfd
from raw_peer import Healthy, RawPeer

from bgpbfd.wire.iana import BfdState

BFD = "bfd = { transmit_interval_ms = 50, receive_interval_ms = 50, detect_multiplier = 3 }\n"
DETECTION_S = 0.15


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bgpbfd-chaos-") as name:  # short: a Unix socket's path has its limits
        yield Path(name)


def toml(local: str, port: int, asn: int = 65010, bfd: bool = True) -> str:
    bind = f'["{local}"]' if bfd else "[]"
    return (
        f'router_id = "{local}"\ndefault_as = {asn}\nbgp_socket = "{local}:{port}"\npoll_interval = 0.2\n'
        f"[bfd]\nbind = {bind}\n"
    )


def neighbor(local: str, remote: str, port: int, asn: int = 65001, more: str = "passive = true\n") -> str:
    return (
        f'[[peers]]\nremote_ip = "{remote}"\nremote_as = {asn}\nlocal_ip = "{local}"\ndest_port = {port}\n'
        f'families = ["ipv4 unicast"]\n{more}'
    )


def route(prefix: str) -> str:
    return f'[[static_routes]]\nprefix = "{prefix}"\nnext_hop = "self"\n'


class Solo:
    """One daemon, and one neighbor that is played by the test, with BFD."""

    def __init__(self, folder: Path, detect_mult: int = 3) -> None:
        self.here, self.there = address(), address()
        self.port = free_port(self.here)
        self.text = toml(self.here, self.port) + neighbor(
            self.here, self.there, self.port, more="passive = true\n" + BFD
        )
        self.daemon = Daemon(folder, self.text)
        self.bfd = RawBfd(self.there, self.here, detect_mult)
        self.bgp: Healthy | None = None

    def start(self) -> Solo:
        self.daemon.start()
        wait_until(lambda: self.daemon.events("listening"), 5, "it listens")
        self.bgp = Healthy((self.here, self.port), self.there)
        self.daemon.wait_bfd(self.there, "up")
        self.daemon.wait_state(self.there, "established")
        return self

    def end(self) -> None:
        if self.bgp is not None:
            self.bgp.stop()
        self.bfd.stop()
        self.daemon.end()


@pytest.fixture
def solo(folder: Path) -> Iterator[Solo]:
    solo = Solo(folder)
    try:
        yield solo.start()
    finally:
        solo.end()


class Pair:
    """Two daemons on one host, BGP and BFD between them; ``a`` dials unless ``both`` do."""

    def __init__(self, folder: Path, *, both: bool = False, bfd: bool = True) -> None:
        self.at, self.bt = address(), address()
        self.port = free_port(self.at)
        more = BFD if bfd else ""
        self.a_text = toml(self.at, self.port, 65010, bfd) + neighbor(self.at, self.bt, self.port, 65001, more)
        passive = "" if both else "passive = true\n"
        self.b_text = toml(self.bt, self.port, 65001, bfd) + neighbor(
            self.bt, self.at, self.port, 65010, passive + more
        )
        self.a = Daemon(folder, self.a_text, "a")
        self.b = Daemon(folder, self.b_text, "b")
        self.with_bfd = bfd

    def start(self) -> Pair:
        self.b.start()
        self.a.start()
        self.wait_up()
        return self

    def wait_up(self) -> None:
        for daemon, other in self.ends():
            daemon.wait_state(other, "established", 20)
            if self.with_bfd:
                daemon.wait_bfd(other, "up", 20)

    def ends(self) -> tuple[tuple[Daemon, str], tuple[Daemon, str]]:
        return (self.a, self.bt), (self.b, self.at)

    def unharmed(self) -> None:
        for daemon, other in self.ends():
            now = daemon.neighbor(other)
            assert (now["state"], now["flaps"]) == ("established", 0), daemon.tail()

    def end(self) -> None:
        self.a.end()
        self.b.end()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Pair]:
    """A pair that no test ends."""
    with tempfile.TemporaryDirectory(prefix="bgpbfd-chaos-") as name:
        pair = Pair(Path(name))
        try:
            yield pair.start()
        finally:
            pair.end()


@pytest.fixture
def pair(lasting: Pair) -> Iterator[Pair]:
    """After every test both ends' sessions are those that they were before."""
    lasting.unharmed()
    yield lasting
    lasting.unharmed()
    for daemon in (lasting.a, lasting.b):
        assert daemon.events("internal-error") == []


def signals_seen_to(pid: int, number: int) -> bool:
    """Whether the process ignores or catches the signal."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in {"SigIgn", "SigCgt"} and int(value, 16) >> (number - 1) & 1:
                return True
    return False


# -- SIGHUP --------------------------------------------------------------------------------------------------


def test_bad_file_at_sighup_changes_nothing(pair: Pair) -> None:
    last = pair.a.last_event()
    pair.a.write(pair.a_text + "[[static_routes]\n")
    pair.a.hangup()
    failed = pair.a.wait_event("reload-failed", last)
    line = pair.a.whole(pair.a_text).count("\n") + 1
    assert f"{pair.a.config}:{line}:" in failed["text"]
    assert failed["level"] == "error"
    wait_until(lambda: f"a.toml:{line}:" in pair.a.tail(), 5, "the log says it too")
    with pytest.raises(RpcError) as refused:
        pair.a.rpc("reload")
    assert f"a.toml:{line}:" in refused.value.text()
    pair.a.write(pair.a_text)
    pair.a.rpc("reload")


def test_file_gone_at_sighup_changes_nothing(pair: Pair) -> None:
    last = pair.a.last_event()
    pair.a.config.unlink()
    pair.a.hangup()
    assert "No such file" in pair.a.wait_event("reload-failed", last)["text"]
    pair.a.write(pair.a_text)
    pair.a.hangup()
    pair.a.wait_event("reload", last)


def test_storm_of_sighups_ends_with_the_last_good_file(pair: Pair) -> None:
    """Files that are replaced whole: not one of them does harm."""
    for number in range(100):
        broken = "]" if number % 7 == 3 else ""
        pair.a.write(pair.a_text + route(f"10.{number}.0.0/16") + broken)
        pair.a.hangup()
    pair.a.write(pair.a_text + route("198.51.100.0/24"))
    pair.a.hangup()

    def settled() -> bool:
        return [r["prefix"] for r in pair.b.rpc("show_routes_learned")] == ["198.51.100.0/24"]

    wait_until(settled, 10, f"the last file is in force\n{pair.a.tail()}")
    assert [r["prefix"] for r in pair.a.rpc("show_routes")] == ["198.51.100.0/24"]
    pair.a.write(pair.a_text)
    pair.a.rpc("reload")


def test_storm_while_the_file_is_written_in_place(pair: Pair) -> None:
    """Half files are refused or, cut at the right place, taken: the end counts. The neighbors stand first in it."""
    for number in range(100):
        with pair.a.config.open("r+") as file:
            file.truncate(len(pair.a.whole(pair.a_text)))
            file.seek(0, os.SEEK_END)
            for octet in route(f"10.{number}.0.0/16"):
                file.write(octet)
                file.flush()
                if octet == "=":
                    pair.a.hangup()
    pair.a.hangup()

    def settled() -> bool:
        return [r["prefix"] for r in pair.b.rpc("show_routes_learned")] == ["10.99.0.0/16"]

    wait_until(settled, 10, f"the last file is in force\n{pair.a.tail()}")
    pair.a.write(pair.a_text)
    pair.a.rpc("reload")


def test_api_socket_that_cannot_be_opened_is_refused_whole(pair: Pair) -> None:
    """The reload says so, changes nothing, and the next one works."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = pair.a.whole(pair.a_text + route("192.0.2.0/24")).split("\n", 1)[1]
        own = f'"unix:{pair.a.socket}"'
        pair.a.config.write_text(f'api_socket = [{own}, "127.0.0.1:{port}"]\n{text}')
        last = pair.a.last_event()
        pair.a.hangup()
        failed = pair.a.wait_event("reload-failed", last)
        assert f"127.0.0.1:{port}: the port is taken" in failed["text"]
        assert pair.a.rpc("show_routes") == []
    pair.a.hangup()
    pair.a.wait_event("reload", last)
    assert [r["prefix"] for r in pair.a.rpc("show_routes")] == ["192.0.2.0/24"]
    pair.a.write(pair.a_text)
    pair.a.rpc("reload")


def test_sighup_while_starting_does_not_kill(folder: Path) -> None:
    here = address()
    daemon = Daemon(folder, toml(here, free_port(here)))
    try:
        process = daemon.launch()
        wait_until(lambda: signals_seen_to(process.pid, signal.SIGHUP), 5, "our code runs")
        until = time.monotonic() + 20
        while not daemon.socket.exists() and time.monotonic() < until:
            daemon.hangup()
            time.sleep(0.001)
        wait_until(daemon.answers, 10, "it answers")
        assert daemon.stop()[0] == 0
    finally:
        daemon.end()


def test_sighup_while_the_file_is_read_means_another_reload(folder: Path) -> None:
    here = address()
    text = toml(here, free_port(here))
    daemon = Daemon(folder, text)
    daemon.config.unlink()
    os.mkfifo(daemon.config)
    try:
        daemon.launch()
        # Opening it for writing waits for the reader: from here on the daemon reads.
        with daemon.config.open("w") as pipe:
            daemon.hangup()
            pipe.write(daemon.whole(text))
        wait_until(daemon.answers, 10, "it answers")
        with daemon.config.open("w") as pipe:
            pipe.write(daemon.whole(text + route("203.0.113.0/24")))
        daemon.wait_event("reload")
        assert [r["prefix"] for r in daemon.rpc("show_routes")] == ["203.0.113.0/24"]
        assert daemon.stop()[0] == 0
    finally:
        daemon.end()


def test_stop_does_not_wait_for_a_reload_that_hangs(folder: Path) -> None:
    """The file has become a pipe that nobody writes to, as it might lie on a mount that is dead."""
    here = address()
    daemon = Daemon(folder, toml(here, free_port(here)))
    try:
        daemon.start()
        daemon.config.unlink()
        os.mkfifo(daemon.config)
        daemon.hangup()
        held = wait_until(lambda: _writer(daemon.config), 5, "the daemon reads")
        assert daemon.answers()
        code, seconds = daemon.stop()
        os.close(held)
        assert code == 0
        assert seconds < 3
        assert not daemon.socket.exists()
    finally:
        daemon.end()


def _writer(pipe: Path) -> int | None:
    """Open for writing once there is a reader."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def private_pids() -> subprocess.Popen[bytes] | None:
    """A namespace of processes, so that pkill finds those of the test alone; None where it cannot be had."""
    if os.getuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "pkill"))):
        return None
    keeper = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sleep", "300"], stderr=subprocess.DEVNULL
    )
    with contextlib.suppress(AssertionError):
        wait_until(lambda: psutil.Process(keeper.pid).children() or keeper.poll(), 5, "the namespace")
        if keeper.poll() is None:
            return keeper
    keeper.kill()
    keeper.wait()
    return None


def test_pkill_hup_reloads_the_daemons_and_hurts_nothing(folder: Path) -> None:
    keeper = private_pids()
    if keeper is None:
        pytest.skip("no PID namespace of our own here")
    init = psutil.Process(keeper.pid).children()[0].pid
    inside = ("nsenter", "-t", str(init), "-p", "-m", "--")
    one, two = address(), address()
    script = Daemon(folder, toml(one, free_port(one)), "script", (*inside, str(BIN / "bgpbfd"), "run"))
    module = Daemon(folder, toml(two, free_port(two)), "module", (*inside, sys.executable, "-m", "bgpbfd", "run"))
    others: dict[str, subprocess.Popen[bytes]] = {}
    waiting = folder / "pipe.toml"
    os.mkfifo(waiting)
    try:
        script.start()
        module.start()
        quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        scratch = {"env": {**os.environ, "TMPDIR": str(folder)}}
        for name, command in {
            "watch": [str(BIN / "bgpbfdctl"), "--api", f"unix:{script.socket}", "--watch", "show", "neighbors"],
            "follow": [str(BIN / "bgpbfdctl"), "--api", f"unix:{script.socket}", "show", "events", "--follow"],
            "demo": [str(BIN / "bgpbfd"), "demo"],
            "check": [str(BIN / "bgpbfd"), "check", str(waiting)],
        }.items():
            others[name] = subprocess.Popen([*inside, *command], **quiet, **scratch)  # type: ignore[call-overload]

        def inner(process: subprocess.Popen[bytes]) -> psutil.Process:
            return psutil.Process(process.pid).children()[0]

        for process in others.values():
            wait_until(lambda p=process: psutil.Process(p.pid).children(), 5, "it runs")  # type: ignore[misc]
            wait_until(lambda p=process: signals_seen_to(inner(p).pid, signal.SIGHUP), 5, "it runs")  # type: ignore[misc]
        # The demo's two daemons as well: they are started with SIGHUP ignored.
        wait_until(lambda: len(psutil.Process(others["demo"].pid).children(recursive=True)) >= 5, 10, "the demo runs")
        for daemon in (script, module):
            assert daemon.process is not None
            main = inner(daemon.process)
            assert main.name() == "bgpbfd"
            assert [child.name() for child in main.children()] == ["bgpbfd-bfd"]
        workers = [inner(d.process).children()[0].pid for d in (script, module) if d.process]
        marks = [daemon.last_event() for daemon in (script, module)]
        for _ in range(3):
            subprocess.run([*inside, "pkill", "-HUP", "bgpbfd"], check=True)
        for daemon, mark in zip((script, module), marks, strict=True):
            daemon.wait_event("reload", mark)
        for name, process in others.items():
            assert process.poll() is None, name
        assert [inner(d.process).children()[0].pid for d in (script, module) if d.process] == workers
        for daemon in (script, module):
            assert daemon.alive
            assert not daemon.events("bfd-worker")
    finally:
        for process in (*others.values(), *(d.process for d in (script, module) if d.process)):
            process.kill()
            process.wait()
        keeper.kill()  # --kill-child: and all that lives in its namespace
        keeper.wait()


# -- SIGTERM, SIGINT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clean_stop(solo: Solo, number: signal.Signals) -> None:
    """RFC 9003 to the neighbor, AdminDown over a whole detection time (RFC 5880 §6.8.16), exit 0, nothing left."""
    worker = solo.daemon.worker()
    began = time.monotonic()
    os.kill(solo.daemon.pid, number)
    _says_admin_down(solo, worker, began)
    assert solo.daemon.process is not None
    assert solo.daemon.process.wait(5) == 0
    assert time.monotonic() - began < 3
    assert not solo.daemon.socket.exists()
    assert solo.bgp is not None
    wait_until(lambda: solo.bgp is not None and solo.bgp.ended, 2, "the neighbor hears of it")
    assert solo.bgp.notification is not None
    assert (solo.bgp.notification.code, solo.bgp.notification.subcode) == (6, 2)
    text = solo.bgp.notification.data
    assert text[0] == len(text) - 1
    assert number.name.encode() in text
    assert BfdState.DOWN not in {one.state for one in solo.bfd.since(began)}


def _says_admin_down(solo: Solo, worker: psutil.Process, began: float) -> None:
    """For a detection time at least, RFC 5880 §6.8.16; then the worker is gone."""
    told = wait_until(
        lambda: [one.at for one in solo.bfd.since(began) if one.state is BfdState.ADMIN_DOWN], 5, "AdminDown"
    )
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 5, "the worker's end")
    assert time.monotonic() - told[0] > DETECTION_S * 0.95


def test_stop_says_admin_down_to_a_neighbor_that_was_just_removed(solo: Solo) -> None:
    began = time.monotonic()
    solo.daemon.write(toml(solo.here, solo.port))
    solo.daemon.rpc("reload")
    worker = solo.daemon.worker()
    os.kill(solo.daemon.pid, signal.SIGTERM)
    _says_admin_down(solo, worker, began)
    assert solo.daemon.process is not None
    assert solo.daemon.process.wait(5) == 0


def test_second_signal_ends_the_wait(folder: Path) -> None:
    """A neighbor that reads nothing is given 2 s for its NOTIFICATION; who is in a hurry signals again."""
    solo = Solo(folder)
    solo.bfd.silent = True  # its AdminDown is not what is waited for here
    try:
        solo.daemon.start()
        wait_until(lambda: solo.daemon.events("listening"), 5, "it listens")
        with RawPeer((solo.here, solo.port), solo.there) as mute:
            mute.establish()
            solo.daemon.wait_state(solo.there, "established")
            process = solo.daemon.process
            assert process is not None
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not solo.daemon.socket.exists(), 5, "it stops")
            time.sleep(0.2)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
            assert time.monotonic() - began < 1.8
    finally:
        solo.end()


def test_mute_neighbor_holds_the_stop_up_for_two_seconds_at_most(folder: Path) -> None:
    solo = Solo(folder)
    solo.bfd.silent = True  # its AdminDown is not what is waited for here
    try:
        solo.daemon.start()
        wait_until(lambda: solo.daemon.events("listening"), 5, "it listens")
        with RawPeer((solo.here, solo.port), solo.there) as mute:
            mute.establish()
            solo.daemon.wait_state(solo.there, "established")
            code, seconds = solo.daemon.stop()
        assert code == 0
        assert seconds < 3
    finally:
        solo.end()


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
def test_sigterm_while_starting(folder: Path, delay: float) -> None:
    here = address()
    daemon = Daemon(folder, toml(here, free_port(here)))
    try:
        process = daemon.launch()
        time.sleep(delay)
        family = psutil.Process(process.pid).children() if process.poll() is None else []
        code, seconds = daemon.stop()
        assert code in {0, -signal.SIGTERM}  # before there is anything to clean up, it just ends
        assert seconds < 3
        assert not daemon.socket.exists()
        assert "Traceback" not in daemon.tail()
        wait_until(lambda: not any(child.is_running() for child in family), 2, "its worker is gone")
    finally:
        daemon.end()


def test_log_that_nobody_reads_holds_nothing_up(folder: Path) -> None:
    """Standard error is a full pipe: the sessions go on, and the stop does not wait for it."""
    pair = Pair(folder, bfd=False)
    pair.a.write(pair.a_text + '[log]\nlevel = "debug"\n')
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        pair.b.start()
        pair.a.process = subprocess.Popen([*pair.a.command, str(pair.a.config)], stderr=write, stdout=write)
        wait_until(pair.a.answers, 10, "it answers")
        for _ in range(50):
            pair.a.rpc("peer_reset", peer=pair.bt)
        pair.wait_up()
        full, _, _ = select.select([], [write], [], 0)
        assert full == []
        code, seconds = pair.a.stop()
        assert code == 0
        assert seconds < 4
    finally:
        os.close(read)
        os.close(write)
        pair.end()


# -- SIGKILL, SIGSTOP ----------------------------------------------------------------------------------------


def test_death_of_the_main_process_is_told_at_once(folder: Path) -> None:
    """Long before the detection time, here 2.5 s: the worker sees the end of its socket."""
    solo = Solo(folder)
    solo.bfd.stop()
    solo.text = solo.text.replace("detect_multiplier = 3", "detect_multiplier = 50")
    solo.daemon.write(solo.text)
    solo.bfd = RawBfd(solo.there, solo.here, detect_mult=50)
    try:
        solo.start()
        worker = solo.daemon.worker()
        began = time.monotonic()
        os.kill(solo.daemon.pid, signal.SIGKILL)
        down = wait_until(
            lambda: [one for one in solo.bfd.since(began) if one.state is BfdState.DOWN], 2, "the Down is signalled"
        )
        assert down[0].at - began < 0.2
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 2, "the worker ends")
        # What it left behind is no hindrance: the socket file is stale, the ports are free.
        assert solo.daemon.socket.exists()
        solo.daemon.process.wait()  # type: ignore[union-attr]
        solo.bgp.stop()  # type: ignore[union-attr]
        solo.start()
    finally:
        solo.end()


def test_death_of_the_worker_blames_no_neighbor(solo: Solo) -> None:
    worker = solo.daemon.worker()
    last = solo.daemon.last_event()
    worker.kill()
    told = solo.daemon.wait_event("bfd-worker", last)
    assert "signal 9" in told["text"]
    assert told["level"] == "error"
    wait_until(lambda: solo.daemon.worker().pid != worker.pid, 5, "another worker runs")
    solo.daemon.wait_bfd(solo.there, "up")
    assert solo.daemon.events("bgp-down", last) == []
    assert solo.daemon.events("bfd-down", last) == []
    now = solo.daemon.neighbor(solo.there)
    assert (now["state"], now["flaps"]) == ("established", 0)


def test_suspended_main_process_flaps_nothing(pair: Pair) -> None:
    """BFD has a process of its own: 2 s without the other are far below control_timeout, and nobody notices."""
    for daemon in (pair.a, pair.b):
        assert daemon.process is not None
        main = psutil.Process(daemon.process.pid)
        main.suspend()
        time.sleep(2)
        main.resume()
    pair.unharmed()
    for daemon, other in pair.ends():
        assert daemon.bfd(other) == "up"
        assert daemon.events("bfd-down") == []


def test_short_stop_of_the_worker_flaps_nothing(pair: Pair) -> None:
    """100 ms of silence are below the detection time of 150 ms, at both ends."""
    for daemon in (pair.a, pair.b):
        worker = daemon.worker()
        for _ in range(3):
            began = time.monotonic()
            worker.suspend()
            time.sleep(0.07)
            worker.resume()
            took = time.monotonic() - began
            if took > 0.11:
                pytest.skip(f"this host is too busy to stop a process for 100 ms: it took {took * 1000:.0f}")
            time.sleep(0.3)
    pair.unharmed()
    for daemon, other in pair.ends():
        assert daemon.bfd(other) == "up"
        assert daemon.events("bfd-down") == []


# -- beside others -------------------------------------------------------------------------------------------


def test_second_daemon_on_the_same_api_socket_ends_without_disturbing_the_first(pair: Pair) -> None:
    workers = pair.a.worker().pid
    second = subprocess.run(
        [str(BIN / "bgpbfd"), "run", str(pair.a.config)], capture_output=True, text=True, timeout=20, check=False
    )
    assert second.returncode == 1
    assert f"api_socket unix:{pair.a.socket}: another process answers there" in second.stderr
    assert "Traceback" not in second.stderr
    assert pair.a.worker().pid == workers
    assert pair.a.answers()


def test_two_daemons_share_the_bfd_port(pair: Pair) -> None:
    """RFC 5881 §4: each takes 3784 on its own address."""
    for daemon, other in pair.ends():
        (session,) = daemon.rpc("show_bfd")
        assert session["status"] == "up"
        assert not daemon.events("bfd-listen-failed")
        assert other


def test_taken_port_is_told_and_taken_when_it_is_free(folder: Path) -> None:
    here = address()
    port = free_port(here)
    daemon = Daemon(folder, toml(here, port))
    try:
        with socket.create_server((here, port)):
            daemon.start()
            failed = daemon.wait_event("listen-failed")
            assert f"{here}:{port}" in failed["text"]
            assert "another program listens there" in failed["text"]
            daemon.hangup()
            daemon.wait_event("reload")
        daemon.wait_event("listening", timeout=5)
        assert len(daemon.events("listen-failed")) == 1
        socket.create_connection((here, port), 2, (address(), 0)).close()
        assert daemon.stop()[0] == 0
    finally:
        daemon.end()


def test_stale_socket_file_is_replaced_and_another_file_is_not(folder: Path) -> None:
    here = address()
    daemon = Daemon(folder, toml(here, free_port(here)))
    try:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(daemon.socket))
        daemon.start()
        assert daemon.stop()[0] == 0
        daemon.socket.write_text("precious")
        process = daemon.launch()
        assert process.wait(10) == 1
        assert "not a socket is in the way" in daemon.tail()
        assert daemon.socket.read_text() == "precious"
    finally:
        daemon.end()


def test_it_recovers_from_a_lack_of_file_descriptors(solo: Solo) -> None:
    daemon = solo.daemon
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (64, 64))
    with contextlib.ExitStack() as held:
        for _ in range(80):
            idle = held.enter_context(socket.socket(socket.AF_UNIX))
            idle.settimeout(1)
            with contextlib.suppress(OSError):
                idle.connect(str(daemon.socket))
        for _ in range(80):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_connection((solo.here, solo.port), 0.2, (address(), 0)))
        wait_until(lambda: "Too many open files" in daemon.log.read_text(), 10, "it notices")
        daemon.worker().kill()  # another cannot be started now, and is when it can
        time.sleep(0.3)
        assert daemon.alive
    wait_until(daemon.answers, 10, "it answers again")
    daemon.wait_bfd(solo.there, "up", 20)
    now = daemon.neighbor(solo.there)
    assert (now["state"], now["flaps"]) == ("established", 0)
    with RawPeer((solo.here, solo.port), solo.there) as second:
        second.send_open()
        assert second.expect_notification()[:2] == (6, 7)
    assert daemon.log.stat().st_size < 100_000  # it did not fill the disk meanwhile


def test_address_that_appears_later(folder: Path) -> None:
    if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("needs root, for a network namespace of its own")
    here, there = "198.51.100.77", "127.0.0.1"
    text = toml(here, 1790) + neighbor(here, there, 1790, more=BFD)
    # Without any interface up the kernel lets every address be bound.
    shell = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    daemon = Daemon(folder, text, command=("unshare", "--net", *shell, str(BIN / "bgpbfd"), "run"))

    def ip(*words: str) -> None:
        subprocess.run(["nsenter", "-t", str(daemon.pid), "-n", "ip", *words], check=True)

    try:
        daemon.start()
        failed = daemon.wait_event("listen-failed")
        assert "no interface of this host has that address yet" in failed["text"]
        daemon.wait_event("bfd-listen-failed")
        daemon.wait_event("bfd-fault")
        assert "address" in daemon.wait_event("bgp-attempt-failed")["text"]
        last = daemon.last_event()
        ip("address", "add", f"{here}/32", "dev", "lo")
        daemon.wait_event("listening", last, 5)
        daemon.wait_event("bgp-attempt-failed", last, 5)  # it dials now, and nobody is there
        wait_until(lambda: not daemon.rpc("show_bfd")[0].get("fault"), 5, "BFD has its address")
        assert daemon.stop()[0] == 0
    finally:
        daemon.end()


# -- collisions ----------------------------------------------------------------------------------------------


def test_both_ends_dial_at_once_again_and_again(folder: Path) -> None:
    pair = Pair(folder, both=True, bfd=False)
    try:
        pair.start()
        for _ in range(25):
            for daemon, other in pair.ends():
                daemon.rpc("peer_reset", peer=other)
            wait_until(
                lambda: all(daemon.state(other) == "established" for daemon, other in pair.ends()), 10, "they agree"
            )
        pair.wait_up()
        flaps = [daemon.neighbor(other)["flaps"] for daemon, other in pair.ends()]
        for daemon, _ in pair.ends():
            connections = [c for c in psutil.Process(daemon.pid).net_connections("tcp") if c.status == "ESTABLISHED"]
            assert len(connections) <= 1
            assert daemon.events("internal-error") == []
            assert "Traceback" not in daemon.log.read_text()
        assert max(flaps) < 120
    finally:
        pair.end()
