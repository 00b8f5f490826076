"""What an API client can do wrong, against the real daemon: each has its answer, and BGP and BFD stay up."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bgpbfdctl.client import RpcError
from chaos_daemon import BIN, Daemon, address, free_port, wait_until
from raw_bfd import RawBfd
from raw_peer import Healthy

ROUTES = 20_000
_CALL = json.dumps({"jsonrpc": "2.0", "method": "show_routes_advertised", "id": 1}).encode()
LONG = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(_CALL)}\r\n\r\n".encode() + _CALL


class Place:
    """A daemon that announces a long list to a neighbor with BFD."""

    def __init__(self, folder: Path) -> None:
        here, self.there = address(), address()
        port = free_port(here)
        listed = folder / "prefixes.txt"
        listed.write_text("\n".join(f"10.{i >> 8}.{i & 255}.0/24" for i in range(ROUTES)))
        self.daemon = Daemon(
            folder,
            f'router_id = "{here}"\ndefault_as = 65010\nbgp_socket = "{here}:{port}"\n[bfd]\nbind = ["{here}"]\n'
            f'[[static_routes]]\nroutes_file = "{listed}"\nnext_hop = "self"\n'
            f'[[peers]]\nremote_ip = "{self.there}"\nremote_as = 65001\nlocal_ip = "{here}"\npassive = true\n'
            'families = ["ipv4 unicast"]\n'
            "bfd = { transmit_interval_ms = 50, receive_interval_ms = 50, detect_multiplier = 3 }\n",
        )
        self.bfd = RawBfd(self.there, here)
        self.daemon.start()
        wait_until(lambda: self.daemon.events("listening"), 5, "it listens")
        self.bgp = Healthy((here, port), self.there)
        self.daemon.wait_bfd(self.there, "up")
        wait_until(lambda: self.daemon.neighbor(self.there)["prefixes_sent"] == ROUTES, 10, "all is announced")

    def connect(self) -> socket.socket:
        """Waits while the daemon's queue of connections is full."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self.daemon.socket))
        except OSError:
            sock.close()
            raise
        sock.settimeout(10)
        return sock

    def raw(self, request: bytes) -> tuple[int, bytes]:
        """(HTTP status, body) of the answer to these octets."""
        with self.connect() as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := sock.recv(65536):
                    answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def post(self, body: bytes) -> tuple[int, Any]:
        head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        status, answer = self.raw(head.encode() + body)
        return status, json.loads(answer)

    def end(self) -> None:
        self.bgp.stop()
        self.bfd.stop()
        self.daemon.end()


@pytest.fixture(scope="module")
def shared() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="bgpbfd-chaos-") as folder:
        place = Place(Path(folder))
        yield place
        with contextlib.ExitStack() as held:  # not even a stop waits for them
            for _ in range(4):
                held.enter_context(place.connect()).sendall(LONG)
            held.enter_context(place.connect()).sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            time.sleep(0.5)
            code, seconds = place.daemon.stop()
        place.end()
        assert code == 0
        assert seconds < 3
        assert "Traceback" not in place.daemon.log.read_text()


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    """After every test the sessions are those that they were before."""
    yield shared
    assert shared.bgp.ended is None
    now = shared.daemon.neighbor(shared.there)
    assert (now["state"], now["flaps"], now["bfd"]) == ("established", 0, "up")
    assert shared.daemon.events("bfd-down") == []


@pytest.mark.parametrize("body", [b"hello", b"{", b"\xff\xfe", b"", b'{"jsonrpc": "2.0", ' + b"[" * 10_000])
def test_what_is_no_json(place: Place, body: bytes) -> None:
    status, answer = place.post(body)
    assert status == 200
    assert answer["error"]["code"] == -32700
    assert answer["error"]["data"]["reason"]
    assert answer["id"] is None


@pytest.mark.parametrize("body", [b"1", b"null", b"{}", b'{"jsonrpc": "1.0", "method": "x", "id": 1}', b"[]"])
def test_what_is_no_call(place: Place, body: bytes) -> None:
    _, answer = place.post(body)
    assert answer["error"]["code"] == -32600
    assert answer["error"]["data"]["reason"]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("show_peeers", {}, -32601),
        ("show_peers", {"peer": 1}, -32602),
        ("show_peer_detail", {"peer": 7}, -32001),
        ("show_peer_detail", {"peer": "192.0.2.77"}, -32001),
        ("peer_disable", {}, -32602),
        ("withdraw_route", {"prefix": "10.0.0.1/8"}, -32001),
        ("advertise_route", {"route": {"prefix": "10.0.0.0/99"}}, -32001),
        ("advertise_route", {"route": []}, -32001),
        ("show_events", {"limit": -1}, -32001),
        ("show_routes", {"cursor": "nonsense"}, -32001),
    ],
)
def test_wrong_methods_and_params(place: Place, method: str, params: dict[str, Any], code: int) -> None:
    with pytest.raises(RpcError) as refused:
        place.daemon.rpc(method, **params)
    assert refused.value.code == code
    assert refused.value.data["reason"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 404),
        (b"\x00" * 1000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: banana\r\n\r\n", 400),
        (b"\xff" * 16 + b"\x00\x13\x04\r\n\r\n", 400),
    ],
)
def test_what_is_no_request(place: Place, request_: bytes, status: int) -> None:
    assert place.raw(request_)[0] == status


def test_body_of_20_mb(place: Place) -> None:
    before = place.daemon.memory()
    status, answer = place.post(b" " * 20 * 2**20)
    assert status == 413
    assert "larger than" in answer["error"]["data"]["reason"]
    assert place.daemon.memory() - before < 40 * 2**20


def test_half_requests_hold_nobody_up(place: Place) -> None:
    with contextlib.ExitStack() as held:
        for half in (b"", b"POST", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"):
            for _ in range(20):
                held.enter_context(place.connect()).sendall(half)
        began = time.monotonic()
        assert place.daemon.rpc("show_version")
        assert time.monotonic() - began < 1


def test_200_idle_connections(place: Place) -> None:
    before = place.daemon.fds()
    with contextlib.ExitStack() as held:
        for _ in range(200):
            held.enter_context(place.connect())
        began = time.monotonic()
        assert place.daemon.rpc("show_peers")
        assert time.monotonic() - began < 1
    wait_until(lambda: place.daemon.fds() - before < 10, 5, "the file descriptors are given back")


def test_more_connections_than_are_served(place: Place) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(400):
            with contextlib.suppress(OSError):
                held.enter_context(place.connect())
        status, said = place.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (status, said) == (503, b"too many connections\n")
        done = subprocess.run(
            [str(BIN / "bgpbfdctl"), "--api", f"unix:{place.daemon.socket}", "show", "version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 3
        assert done.stderr.startswith("bgpbfdctl: ")
        assert "Traceback" not in done.stderr
    wait_until(place.daemon.answers, 5, "it answers again")


def test_clients_that_never_read_their_long_answers(place: Place) -> None:
    before = place.daemon.memory()
    with contextlib.ExitStack() as held:
        for _ in range(8):
            held.enter_context(place.connect()).sendall(LONG)
        slowest = 0.0
        until = time.monotonic() + 4
        while time.monotonic() < until:
            began = time.monotonic()
            assert place.daemon.rpc("show_peers")[0]["state"] == "established"
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 2
        assert place.daemon.memory() - before < 300 * 2**20


def test_client_that_hangs_up_in_the_middle_of_its_answer(place: Place) -> None:
    for _ in range(5):
        with place.connect() as sock:
            sock.sendall(LONG)
            sock.recv(100)
    assert place.daemon.answers()


def test_lists_of_many_clients_at_once_keep_bfd_up(place: Place) -> None:
    """The main process is busy for seconds; the detection time is 150 ms."""
    commands = [
        subprocess.Popen(
            [str(BIN / "bgpbfdctl"), "--api", f"unix:{place.daemon.socket}", "--json", "show", "routes"],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(4)
    ]
    assert [command.wait(30) for command in commands] == [0, 0, 0, 0]
