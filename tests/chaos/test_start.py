"""The order of a start: the API's sockets, BGP, and only then what serves the API."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_daemon import Daemon, address, free_port, wait_until
from raw_peer import RawPeer

HELD = """
import importlib.abc, os, sys, time

class Hold(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "aiohttp":
            open(os.environ["HOLD"] + ".begun", "w").close()
            while os.path.exists(os.environ["HOLD"]):
                time.sleep(0.01)
            if os.environ.get("BROKEN"):
                raise ImportError("aiohttp is broken")
        return None

sys.meta_path.insert(0, Hold())
if os.environ.get("LAME"):
    import bgpbfd.bfd.link
    sys.executable = "/bin/false"
    bgpbfd.bfd.link.START_TIMEOUT_S = 1.0
from bgpbfd.__main__ import main
sys.exit(main())
"""


class Held:
    """A daemon whose import of aiohttp waits until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there = address(), address()
        self.port = free_port(self.here)
        program = folder / "held.py"
        program.write_text(HELD)
        self.hold = folder / "hold"
        self.hold.touch()
        self.text = (
            f'router_id = "{self.here}"\ndefault_as = 65010\nbgp_socket = "{self.here}:{self.port}"\n'
            f'[[peers]]\nremote_ip = "{self.there}"\nremote_as = 65001\nlocal_ip = "{self.here}"\n'
            f'dest_port = {self.port}\npassive = true\nfamilies = ["ipv4 unicast"]\n'
        )
        self.daemon = Daemon(folder, self.text, command=(sys.executable, str(program), "run"))

    def launch(self, **env: str) -> Held:
        self.daemon.launch(env={**os.environ, "HOLD": str(self.hold), **env})
        return self

    def wait_import(self) -> None:
        wait_until(lambda: Path(f"{self.hold}.begun").exists(), 20, f"aiohttp is imported\n{self.daemon.tail()}")

    def let_go(self) -> None:
        self.hold.unlink(missing_ok=True)

    def peer(self) -> RawPeer:
        """Established with it."""

        def dial() -> RawPeer | None:
            try:
                return RawPeer((self.here, self.port), self.there)
            except OSError:
                return None

        return wait_until(dial, 20, f"BGP is listened for\n{self.daemon.tail()}").establish()


@pytest.fixture
def held() -> Iterator[Held]:
    with tempfile.TemporaryDirectory(prefix="bgpbfd-chaos-") as name:
        held = Held(Path(name))
        try:
            yield held
        finally:
            held.let_go()
            held.daemon.end()


def test_bgp_is_established_before_the_api_is_imported_and_its_clients_are_answered_then(held: Held) -> None:
    with held.launch().peer():
        answers: list[Any] = []
        held.wait_import()
        asker = threading.Thread(target=lambda: answers.append(held.daemon.state(held.there)))
        asker.start()
        time.sleep(0.3)
        assert asker.is_alive(), "it was refused, or answered by nobody knows whom"
        held.let_go()
        asker.join(20)
        assert answers == ["established"], held.daemon.tail()


def test_a_reload_asked_for_during_the_import_is_done_after_it(held: Held) -> None:
    with held.launch().peer():
        held.wait_import()
        held.daemon.hangup()
        held.let_go()
        wait_until(held.daemon.answers, 20, "the API answers")
        held.daemon.wait_event("reload")


def test_a_stop_during_the_import_ends_cleanly(held: Held) -> None:
    with held.launch().peer() as peer:
        held.wait_import()
        assert held.daemon.process is not None
        held.daemon.process.terminate()
        assert peer.expect_notification()[:2] == (6, 2)  # at once: the import still hangs
        assert peer.expect_closed() is None
        held.let_go()
        assert held.daemon.process.wait(10) == 0, held.daemon.tail()
        assert not held.daemon.socket.exists()
        assert "stopped after" in held.daemon.tail()
        assert "Traceback" not in held.daemon.tail()


def test_an_import_that_fails_is_a_start_that_failed(held: Held) -> None:
    with held.launch(BROKEN="1").peer() as peer:
        held.let_go()
        assert peer.expect_notification()[:2] == (6, 2)
        peer.close()
        assert held.daemon.process is not None
        assert held.daemon.process.wait(10) == 1, held.daemon.tail()
        assert "cannot start: aiohttp is broken" in held.daemon.tail()
        assert not held.daemon.socket.exists()


def test_without_a_worker_a_neighbor_with_bfd_never_hears_of_us(held: Held) -> None:
    held.let_go()
    held.daemon.write(held.text + "bfd = {}\n")
    process = held.launch(LAME="1").daemon.process
    assert process is not None
    assert process.wait(20) == 1, held.daemon.tail()
    assert "cannot start: the BFD worker does not start" in held.daemon.tail()
    assert "listening" not in held.daemon.tail()
    assert not held.daemon.socket.exists()


def test_without_a_worker_the_start_fails_where_no_bfd_is_wanted_too(held: Held) -> None:
    held.let_go()
    with held.launch(LAME="1").peer() as peer:
        assert peer.expect_notification()[:2] == (6, 2)
        peer.close()
        assert held.daemon.process is not None
        assert held.daemon.process.wait(20) == 1, held.daemon.tail()
        assert "cannot start: the BFD worker does not start" in held.daemon.tail()
        assert not held.daemon.socket.exists()


def test_a_stop_while_the_worker_is_awaited_ends_cleanly(held: Held) -> None:
    with held.launch().peer() as peer:
        held.daemon.process.terminate()  # type: ignore[union-attr]
        assert peer.expect_notification()[:2] == (6, 2)
        held.let_go()
        peer.close()
        assert held.daemon.process is not None
        assert held.daemon.process.wait(10) == 0, held.daemon.tail()
        assert not held.daemon.socket.exists()


def test_a_second_daemon_ends_before_its_neighbors_hear_of_it(held: Held) -> None:
    """Also while the first has not yet imported what will serve its sockets."""
    held.launch()
    held.wait_import()
    with tempfile.TemporaryDirectory(prefix="bgpbfd-chaos-") as name:
        second = Held(Path(name))
        second.let_go()
        second.daemon.socket = held.daemon.socket
        second.daemon.write(Path(second.daemon.config).read_text().partition("\n")[2])
        process = second.launch().daemon.process
        assert process is not None
        assert process.wait(20) == 1
        assert "another process answers there" in second.daemon.tail()
        assert "listening" not in second.daemon.tail()
    assert held.daemon.socket.is_socket()
