"""``bgpbfd`` as people type it: exit codes, and what is told where."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

SCRIPT = (str(Path(sys.executable).with_name("bgpbfd")),)
MODULE = (sys.executable, "-W", "error", "-m", "bgpbfd")
GOOD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'


def bgpbfd(*args: str | Path, command: tuple[str, ...] = MODULE, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, **options},
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bgpbfd.toml"
    path.write_text(GOOD)
    return path


def test_check_of_a_good_file(config: Path) -> None:
    config.write_text(GOOD + '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n')
    done = bgpbfd("check", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{config}: good: 1 peers, 0 static routes\n"


def test_check_warns_and_passes(config: Path) -> None:
    config.write_text(GOOD + 'bgp_socket = ["0.0.0.0:179", "[::]:179"]\n')
    done = bgpbfd("check", config)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: bgp_socket: ")


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize("command", [SCRIPT, MODULE], ids=["script", "module"])
def test_syntax_error_exits_2_with_line_and_column(config: Path, verb: str, command: tuple[str, ...]) -> None:
    config.write_text(GOOD + '[[peers]\nremote_ip = "192.0.2.1"\n')
    done = bgpbfd(verb, config, command=command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{config}:3:")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["check", "run"])
def test_every_fault_is_told_with_its_key(config: Path, verb: str) -> None:
    config.write_text(GOOD + 'nonsense = 1\n[[peers]]\nremote_ip = "192.0.2.1"\nhold_timer = 2\n')
    done = bgpbfd(verb, config)
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert [key for key in ("nonsense", "peers[0].hold_timer", "peers[0].remote_as") if key in done.stderr] == [
        "nonsense",
        "peers[0].hold_timer",
        "peers[0].remote_as",
    ]
    assert len(told) == 3
    assert all(line.startswith(str(config)) for line in told)


@pytest.mark.parametrize("verb", ["check", "run"])
def test_file_that_cannot_be_read(tmp_path: Path, verb: str) -> None:
    for path, why in ((tmp_path / "none.toml", "No such file"), (tmp_path, "is a directory")):
        done = bgpbfd(verb, path)
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr
        assert "Traceback" not in done.stderr


def test_run_that_cannot_open_its_api_socket_exits_1(config: Path) -> None:
    config.write_text(GOOD + 'bgp_socket = []\napi_socket = "unix:/proc/nowhere/api.sock"\n[bfd]\nbind = []\n')
    done = bgpbfd("run", config)
    assert done.returncode == 1
    assert "cannot start: api_socket unix:/proc/nowhere/api.sock: " in done.stderr
    assert "Traceback" not in done.stderr


def test_run_that_cannot_write_its_log_still_ends(config: Path) -> None:
    """Standard error may be closed, or a pipe that nobody reads any more."""
    config.write_text(GOOD + f'bgp_socket = []\napi_socket = "unix:{config.parent}/a.sock"\n[bfd]\nbind = []\n')
    for redirect in ("2>&-", "2>/dev/full"):
        process = subprocess.Popen(["sh", "-c", f'exec "$@" {redirect}', "sh", *MODULE, "run", str(config)])
        try:
            _until((config.parent / "a.sock").exists, 10)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("args", [(), ("nonsense",), ("run", "a", "b"), ("check", "--nonsense")])
def test_wrong_usage_exits_2(args: tuple[str, ...]) -> None:
    done = bgpbfd(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: bgpbfd" in done.stderr


def test_help_and_version() -> None:
    assert "usage: bgpbfd" in bgpbfd("--help").stdout
    assert bgpbfd("--version").stdout.startswith("bgpbfd ")


@pytest.mark.parametrize("verb", ["plan", "import"])
def test_what_is_not_there_yet_says_so(verb: str) -> None:
    done = bgpbfd(verb, "x")
    assert (done.returncode, done.stderr) == (2, f"bgpbfd {verb}: not supported yet\n")


def test_check_whose_reader_is_gone(config: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*MODULE, "check", str(config)], stdout=write, stderr=subprocess.PIPE, check=False, timeout=20
    )
    os.close(write)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_check_with_standard_output_closed(config: Path) -> None:
    done = bgpbfd("-c", 'exec "$@" >&-', "sh", *MODULE, "check", config, command=("sh",))
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_during_check(config: Path) -> None:
    config.unlink()
    os.mkfifo(config)
    process = subprocess.Popen([*SCRIPT, "check", str(config)], stderr=subprocess.PIPE)
    with config.open("w"):  # it reads now
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in told


# -- the demo ------------------------------------------------------------------------------------------------


def _until(check: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def demo(tmp_path: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A demo whose files are in ``tmp_path``; whatever happens, nothing of it is left."""
    process = subprocess.Popen(
        [*MODULE, "demo", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            for one in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.kill()
        process.communicate()


def test_demo_stopped_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        _until(lambda: len(psutil.Process(process.pid).children()) == 2, 10)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        assert process.returncode == 130
        assert not any(one.is_running() for one in family)
        assert list(tmp_path.iterdir()) == []


def test_demo_ends_with_its_terminal_and_not_by_another_sighup(tmp_path: Path) -> None:
    """`pkill -HUP bgpbfd` must not end it; a window that is closed must, or its daemons run for ever."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        # setsid makes the terminal theirs when it is the first that they open
        ["sh", "-c", f'exec "$@" <>{os.ttyname(theirs)} >&0 2>&1', "sh", *MODULE, "demo"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        said = b""
        while b"It stays up" not in said:
            assert select.select([ours], [], [], 20)[0]
            said += os.read(ours, 4096)
        os.close(theirs)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None
        os.close(ours)
        process.wait(15)
        assert not any(one.is_running() for one in family)
        assert list(tmp_path.iterdir()) == []
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(process.pid).children(recursive=True):
                one.kill()
        process.kill()
        process.wait()


def test_demo_on_a_host_whose_bfd_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        try:
            other.bind(("127.0.0.2", 3784))
        except OSError:
            pytest.skip("something uses BFD's port on 127.0.0.2")
        with demo(tmp_path, "--once") as process:
            said, _ = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "FAILED" in said
    assert "BFD cannot listen on 127.0.0.2: Address already in use" in said
    assert "Traceback" not in said
