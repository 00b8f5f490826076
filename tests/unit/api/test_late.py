"""Sockets that are claimed first and served later."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest
from api_fake import FakeEngine

from bgpbfd.api import late
from bgpbfd.api.late import LateApi
from bgpbfd.api.server import ApiServer
from bgpbfd.api.sockets import Claim, ListenError, claim

REQUEST = b'{"jsonrpc":"2.0","method":"show_version","id":1}'
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(REQUEST), REQUEST)


def late_api(*names: str, mode: int = 0o600) -> LateApi:
    sockets = list(names)
    return LateApi(lambda: ApiServer(FakeEngine(), sockets, mode), sockets, mode)


async def whole_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body


async def test_who_connects_before_the_import_is_answered_after_it(tmp_path: Path) -> None:
    path = f"{tmp_path}/api.sock"
    api = late_api(f"unix:{path}", mode=0o640)
    await api.claim()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    clients = [await asyncio.open_unix_connection(path) for _ in range(20)]
    for _, writer in clients:
        writer.write(POST)
    await asyncio.sleep(0.05)
    assert not any(reader.at_eof() for reader, _ in clients)
    await api.serve()
    for reader, writer in clients:
        status, body = await whole_answer(reader)
        assert status == b"HTTP/1.1 200 OK"
        assert "result" in json.loads(body)
        writer.close()
    await api.stop()
    assert os.listdir(tmp_path) == []


async def test_a_claim_keeps_a_second_daemon_out_before_it_is_served(tmp_path: Path) -> None:
    name = f"unix:{tmp_path}/api.sock"
    first = late_api(name)
    await first.claim()
    with pytest.raises(ListenError, match=r"api\.sock: another process answers"):
        await late_api(name).claim()
    await first.serve()  # the probe of the second waits in its backlog, gone by now
    await first.stop()


async def test_a_claimed_port_is_no_other_process_s_before_it_is_served() -> None:
    claims = await claim(["127.0.0.1:0"], 0o600)
    (mine,) = claims.values()
    port = mine.sock.getsockname()[1]
    with pytest.raises(ListenError, match="the port is taken by another process"):
        await claim([f"127.0.0.1:{port}"], 0o600)
    mine.close()


async def test_of_several_sockets_all_are_claimed_or_none(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="token"):
        await claim([f"unix:{tmp_path}/api.sock", "192.0.2.1:80"], 0o600)
    assert os.listdir(tmp_path) == []


async def test_stop_before_it_serves_leaves_nothing(tmp_path: Path) -> None:
    path = f"{tmp_path}/api.sock"
    api = late_api(f"unix:{path}")
    await api.claim()
    reader, writer = await asyncio.open_unix_connection(path)
    await api.stop()
    assert os.listdir(tmp_path) == []
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_stop_leaves_the_file_of_another_daemon_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    api = late_api(f"unix:{path}")
    await api.claim()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        await api.stop()
        assert path.is_socket()


async def test_a_server_that_fails_to_start_closes_what_was_claimed(tmp_path: Path) -> None:
    claims = await claim([f"unix:{tmp_path}/api.sock"], 0o600)
    server = ApiServer(FakeEngine(), [f"unix:{tmp_path}/api.sock", "192.0.2.1:80"], 0o600)
    with pytest.raises(ListenError):
        await server.start(claims)
    assert os.listdir(tmp_path) == []
    assert all(each.sock.fileno() == -1 for each in claims.values())


async def test_a_failed_import_is_raised_and_the_thread_switches_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "SERVER_MODULE", "bgpbfd.api.no_such_module")
    before = sys.getswitchinterval()
    api = late_api(f"unix:{tmp_path}/api.sock")
    await api.claim()
    with pytest.raises(ModuleNotFoundError):
        await api.serve()
    assert sys.getswitchinterval() == before
    await api.stop()
    assert os.listdir(tmp_path) == []


def test_claim_of_a_tcp_socket_has_no_file_to_lose() -> None:
    with socket.socket() as sock:
        assert Claim(sock).in_place()
