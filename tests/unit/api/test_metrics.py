"""GET /metrics, read by Prometheus's own parser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from api_fake import SPINE, TOR, FakeEngine
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from bgpbfd import __version__
from bgpbfd.api.server import ApiServer
from bgpbfd.control.snapshot import BfdSnapshot, Refused
from bgpbfd.lag import BOUNDS_US, LagHistogram


async def get(path: str) -> tuple[int, str, str]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


class Scraped:
    def __init__(self, engine: FakeEngine, server: ApiServer, path: str, lags: dict[str, LagHistogram]) -> None:
        self.engine, self.server, self.path, self.lags = engine, server, path, lags

    async def families(self) -> dict[str, Metric]:
        status, head, body = await get(self.path)
        assert status == 200
        assert "text/plain" in head
        found = list(text_string_to_metric_families(body))
        names = [family.name for family in found]
        assert len(set(names)) == len(names), "HELP and TYPE stand once"
        return {family.name: family for family in found}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Scraped]:
    engine, path = FakeEngine(), str(tmp_path / "api.sock")
    lags = {"main": LagHistogram(), "bfd": LagHistogram()}
    server = ApiServer(engine, [f"unix:{path}"], 0o660, metrics=True, lags=lambda: lags)
    await server.start()
    yield Scraped(engine, server, path, lags)
    await server.stop()


def values(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


async def test_sessions_and_prefixes(api: Scraped) -> None:
    found = await api.families()
    assert values(found["bgpbfd_build_info"]) == {(__version__,): 1}
    assert values(found["bgpbfd_bgp_session_up"]) == {("192.0.2.1",): 1, ("2001:db8::1",): 0}
    assert values(found["bgpbfd_bgp_prefixes_received"])["192.0.2.1",] == 2
    assert values(found["bgpbfd_bgp_prefixes_advertised"])["192.0.2.1",] == 1
    (session,) = found["bgpbfd_bfd_session_state"].samples  # the other one has no state
    assert session.value == 3
    assert session.labels["peer"] == "192.0.2.1"
    assert session.labels["multihop"] == "false"


async def test_pauses_are_histograms_of_each_process_in_seconds(api: Scraped) -> None:
    for pause in (400, 3_000, 7_000_000):
        api.lags["main"].record(pause)
    found = await api.families()
    samples = found["bgpbfd_loop_lag_seconds"].samples
    main = [sample for sample in samples if sample.labels["process"] == "main"]
    buckets = {sample.labels["le"]: sample.value for sample in main if sample.name.endswith("_bucket")}
    assert len(buckets) == len(BOUNDS_US) + 1
    assert (buckets["0.0005"], buckets["0.005"], buckets["5.0"], buckets["+Inf"]) == (1, 2, 2, 3)
    assert [s.value for s in main if s.name.endswith("_count")] == [3]
    assert [s.value for s in main if s.name.endswith("_sum")] == [pytest.approx(7.0034)]
    assert values(found["bgpbfd_loop_lag_worst_seconds"]) == {("main",): 7.0, ("bfd",): 0.0}


async def test_a_thousand_neighbors_come_in_slices_and_once(api: Scraped) -> None:
    api.engine.peers = [replace(TOR, peer=f"10.0.{n >> 8}.{n & 255}") for n in range(1000)]
    found = await api.families()
    assert len(values(found["bgpbfd_bgp_session_up"])) == 1000


async def test_labels_that_would_break_the_text_do_not(api: Scraped) -> None:
    odd = 'eth0"\n# HELP x\\'
    session = api.engine.sessions[0]
    assert session.report is not None

    api.engine.sessions = [
        BfdSnapshot(
            session.peer, None, None, False, msgspec.structs.replace(session.report, interface=odd), session.mode
        )
    ]
    (sample,) = (await api.families())["bgpbfd_bfd_session_state"].samples
    assert sample.labels["interface"] == odd


async def test_a_network_is_no_session(api: Scraped) -> None:
    api.engine.peers = [TOR, replace(SPINE, peer="10.0.0.0/8", network="10.0.0.0/8")]
    assert list(values((await api.families())["bgpbfd_bgp_session_up"])) == [("192.0.2.1",)]


async def test_a_worker_that_does_not_answer_leaves_its_part_out(api: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> list[BfdSnapshot]:
        raise Refused("bfd", "the worker does not answer")

    monkeypatch.setattr(api.engine, "bfd_sessions", refused)
    found = await api.families()
    assert "bgpbfd_bfd_session_state" not in found
    assert values(found["bgpbfd_loop_lag_worst_seconds"]) == {("main",): 0.0}
    assert found["bgpbfd_bgp_session_up"].samples


async def test_they_are_off_unless_wanted_and_follow_a_reload(api: Scraped) -> None:
    await api.server.reconfigure([f"unix:{api.path}"], 0o660)
    status, _, body = await get(api.path)
    assert status == 404
    assert "set [api] metrics" in body
    await api.server.reconfigure([f"unix:{api.path}"], 0o660, metrics=True)
    assert (await get(api.path))[0] == 200
