"""Reloads that change many routes: in slices with others' turns between, and never left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from bgpbfd.config.load import loads
from bgpbfd.control.reconcile import SLICE
from bgpbfd.control.snapshot import Refused
from bgpbfd.core import SECOND, PeerId, Prefix
from tests.sim.engine_toml import peer
from tests.sim.engine_world import Host, World

A, B = "10.0.0.1", "10.0.0.2"
MANY = 4 * SLICE


def head(address: str, asn: int) -> str:
    return f'router_id = "{address}"\ndefault_as = {asn}\npoll_interval = 1\n'


def prefixes(first: int, count: int) -> set[str]:
    return {f"20.{number >> 8}.{number & 255}.0/24" for number in range(first, first + count)}


def announcing(routes: Iterable[str]) -> str:
    tables = "".join(f'[[static_routes]]\nprefix = "{prefix}"\n' for prefix in sorted(routes))
    return head(A, 65010) + tables + peer(B, 65001)


def two(routes: Iterable[str]) -> tuple[World, Host, Host]:
    world = World()
    b = world.host(B, head(B, 65001) + peer(A, 65010))
    a = world.host(A, announcing(routes))
    world.run(5 * SECOND)
    assert b.learned() == set(routes)
    return world, a, b


async def turns_of_others(reload: asyncio.Task[object]) -> int:
    turns = 0
    while not reload.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_others_have_their_turns_while_many_routes_change() -> None:
    world, a, b = two(prefixes(0, MANY))
    a.config = loads(announcing(prefixes(MANY // 2, MANY)))
    reload = asyncio.create_task(a.operations.reload())
    assert await turns_of_others(reload) > MANY // SLICE  # half of them went, as many came
    assert (await reload).ok
    world.run(5 * SECOND)
    assert b.learned() == prefixes(MANY // 2, MANY)
    assert a.operations.neighbor(B).flaps == 0


async def test_a_change_that_nobody_waits_for_any_more_is_made_whole() -> None:
    world, a, b = two(prefixes(0, MANY))
    a.config = loads(announcing(prefixes(MANY, MANY)))
    reload = asyncio.create_task(a.operations.reload())
    while a.engine.config != a.config:
        await asyncio.sleep(0)
    reload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reload
    assert (await a.operations.reload()).ok  # and the next one waits for it
    world.run(5 * SECOND)
    assert b.learned() == prefixes(MANY, MANY)


async def test_what_a_fault_left_half_done_is_done_by_the_next_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    world, a, b = two(prefixes(0, MANY))
    a.config = loads(announcing(prefixes(MANY // 2, MANY)))
    real, calls = a.engine.announcing.mark_originated, 0

    def fails_once(affected: Iterable[tuple[PeerId | None, Prefix]]) -> None:
        nonlocal calls
        calls += 1
        if calls == SLICE + 3:
            raise MemoryError("no room")
        real(affected)

    monkeypatch.setattr(a.engine.announcing, "mark_originated", fails_once)
    assert not (await a.operations.reload()).ok
    assert "no room" in a.events("reload-failed")[-1]
    assert (await a.operations.reload()).ok
    world.run(5 * SECOND)
    assert b.learned() == prefixes(MANY // 2, MANY)


async def test_a_stop_in_the_midst_ends_the_reload() -> None:
    _, a, _ = two(prefixes(0, MANY))
    a.config = loads(announcing(prefixes(MANY, MANY)))
    reload = asyncio.create_task(a.operations.reload())
    while a.engine.config != a.config:
        await asyncio.sleep(0)
    a.engine.stop("test")
    with pytest.raises(Refused, match="stopping"):
        await reload
    assert a.engine.neighbors == {}
