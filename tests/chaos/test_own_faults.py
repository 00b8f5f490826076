"""Faults of our own: an exception where none was expected costs one neighbor its session, never the others theirs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from chaos_daemon import address, free_port

from bgpbfd.bgp.events import ConnId, Endpoint
from bgpbfd.config.model import Config
from bgpbfd.config.patch import Amended, amended
from bgpbfd.control.operations import Operations
from bgpbfd.control.ports import Accepted, NotTaken
from bgpbfd.control.snapshot import Refused
from bgpbfd.core import SECOND, Instant, PeerId
from bgpbfd.io import tcp
from bgpbfd.io.driver import SystemClock
from bgpbfd.io.tcp import TcpShell
from tests.sim.engine_world import Host, World

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def toml(local: str, asn: int, *peers: tuple[str, int], routes: str = "") -> str:
    text = f'router_id = "{local}"\ndefault_as = {asn}\nbgp_socket = "[::]:179"\npoll_interval = 1\n{routes}'
    for remote, remote_as in peers:
        text += f'[[peers]]\nremote_ip = "{remote}"\nremote_as = {remote_as}\n'
    return text


ROUTE = '[[static_routes]]\nprefix = "203.0.113.0/24"\nnext_hop = "self"\n'


def star() -> tuple[World, Host]:
    """A in the middle, established with B and C, announcing one route."""
    world = World()
    world.host(B, toml(B, 65001, (A, 65010)))
    world.host(C, toml(C, 65002, (A, 65010)))
    a = world.host(A, toml(A, 65010, (B, 65001), (C, 65002), routes=ROUTE))
    world.run(3 * SECOND)
    assert a.state(B) == a.state(C) == "established"
    return world, a


def failing(_: object = None, *rest: object, **more: object) -> Any:
    raise RuntimeError("a fault of ours")


def after_a_fault(world: World, a: Host) -> None:
    """B's session ended and is back, C's never ended, and the record says what happened."""
    assert a.events("internal-error")
    assert "a fault of ours" in a.events("internal-error")[0]
    world.run(60 * SECOND)
    assert a.state(B) == a.state(C) == "established"
    assert a.operations.neighbor(B).flaps == 1
    assert a.operations.neighbor(C).flaps == 0
    assert world.hosts[B].learned() == world.hosts[C].learned() == {"203.0.113.0/24"}


def test_what_cannot_be_learned_costs_its_neighbor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a = star()
    with monkeypatch.context() as patch:
        patch.setattr(a.engine.rib, "apply", failing)
        world.hosts[B].operations.peer_refresh(A)
        a.engine.announcing.mark_originated([])
        world.hosts[B].engine.feed(world.hosts[B].engine.neighbors[A], _updates(world.hosts[B]))
        world.run(SECOND // 2)
    after_a_fault(world, a)


def _updates(host: Host) -> Any:
    from bgpbfd.bgp.events import SendUpdates
    from bgpbfd.core import IPV4_UNICAST
    from bgpbfd.wire.update_out import encode_end_of_rib

    session = host.engine.neighbors[A].session
    assert session is not None
    return SendUpdates(session.generation, [encode_end_of_rib(IPV4_UNICAST)])


def test_what_cannot_be_announced_costs_its_neighbor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a = star()
    neighbor = a.engine.neighbors[B]
    with monkeypatch.context() as patch:
        patch.setattr(type(neighbor.announcer), "next_batch", failing)
        neighbor.announcer.resend(next(iter(neighbor.peer.negotiated.families)), False)  # type: ignore[union-attr]
        a.engine.announcing.pump(neighbor)
        world.run(SECOND // 2)
    after_a_fault(world, a)


def test_a_session_that_cannot_be_set_up_is_ended_properly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timers run on and its connection is closed: nothing hangs half made."""
    world, a = star()
    real = a.around
    monkeypatch.setattr(a, "around", failing)
    a.operations.peer_reset(B)
    world.run(3 * SECOND)
    assert a.events("internal-error")
    assert a.state(B) != "established"
    assert world.hosts[B].state(A) != "established"
    monkeypatch.setattr(a, "around", real)
    world.run(120 * SECOND)
    assert a.state(B) == a.state(C) == "established"
    assert a.operations.neighbor(C).flaps == 0


# -- reloading -----------------------------------------------------------------------------------------------


async def test_reload_survives_what_nobody_expected() -> None:
    world, a = star()

    async def broken(_: Config) -> Amended:
        raise MemoryError("no room")

    operations = Operations(a.engine, broken)
    result = await operations.reload()
    assert not result.ok
    assert "no room" in result.faults[0][1]
    assert "no room" in a.events("reload-failed")[-1]
    world.run(SECOND)
    assert a.state(B) == a.state(C) == "established"


async def test_reload_is_refused_whole_when_what_follows_it_refuses() -> None:
    _, a = star()
    before = a.engine.config

    async def smaller(old: Config) -> Amended:
        return amended(old, Config(router_id=A, default_as=65010))

    async def refuses(_: Config) -> None:
        raise Refused("api_socket", "the port is taken")

    operations = Operations(a.engine, smaller)
    operations.on_reload(refuses)
    result = await operations.reload()
    assert not result.ok
    assert result.faults == (("api_socket", "api_socket: the port is taken"),)
    assert "the port is taken" in a.events("reload-failed")[-1]
    assert a.engine.config is before
    assert a.state(B) == a.state(C) == "established"


async def test_a_reload_that_ends_after_the_stop_starts_nothing() -> None:
    """A file that took long to read, or API sockets that took long to open, must not bring neighbors back."""
    _, a = star()
    config = a.engine.config

    async def load(old: Config) -> Amended:
        return amended(old, config)

    async def slow(_: Config) -> None:
        await asyncio.sleep(0)
        a.engine.stop("test")

    operations = Operations(a.engine, load)
    operations.on_reload(slow)
    with pytest.raises(Refused, match="stopping"):
        await operations.reload()
    assert a.engine.neighbors == {}


# -- TCP -----------------------------------------------------------------------------------------------------


class Sink:
    """Hears of connections and does nothing."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None]] = []

    def connection_accepted(self, local: Endpoint, remote: Endpoint) -> Accepted | NotTaken:
        return NotTaken()

    def connection_confirmed(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None: ...

    def dial_succeeded(self, peer: PeerId, conn: ConnId, local: Endpoint, remote: Endpoint) -> None: ...

    def connection_failed(self, peer: PeerId, conn: ConnId, error: str) -> None: ...

    def data_received(self, peer: PeerId, conn: ConnId, data: bytes) -> None: ...

    def connection_writable(self, peer: PeerId, conn: ConnId) -> None: ...

    def send_stalled(self, peer: PeerId, conn: ConnId, since: Instant) -> None: ...

    def send_resumed(self, peer: PeerId, conn: ConnId) -> None: ...

    def transport_fault(self, text: str, peer_or_network: str) -> None: ...

    def listening(self, address: str, error: str | None) -> None:
        self.told.append((address, error))


async def test_reloads_do_not_multiply_the_tries_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    host = address()
    port = free_port(host)
    tries = 0
    real: Callable[[str], socket.socket] = tcp.listening_socket

    def counted(where: str) -> socket.socket:
        nonlocal tries
        tries += 1
        return real(where)

    monkeypatch.setattr(tcp, "listening_socket", counted)
    monkeypatch.setattr(tcp, "LISTEN_RETRY_S", 0.05)
    shell = TcpShell(asyncio.get_running_loop(), SystemClock())
    shell.sink = sink = Sink()
    with socket.create_server((host, port)):
        for _ in range(50):
            shell.listen((f"{host}:{port}",))
        before = tries
        async with asyncio.timeout(5):
            while tries < before + 4:
                await asyncio.sleep(0.01)
        assert len(sink.told) == 1  # told once
        await asyncio.sleep(0.06)
        assert tries <= before + 7
    async with asyncio.timeout(5):
        while sink.told[-1][1] is not None:
            await asyncio.sleep(0.01)
    await shell.stop()
