"""``GET /metrics``: the state at the moment of asking, in the text format of Prometheus.

Nothing is counted here. prometheus_client puts it into words in slices, so that a scrape of a thousand sessions holds
the loop no longer than a few ms at a time. It takes 0.1 s and 5 MB to import: the server imports this module when it is
asked for the first time, and in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import CollectorRegistry

from bgpbfd import __version__
from bgpbfd.bfd.states import STATE_NAMES
from bgpbfd.control.snapshot import BfdSnapshot, NeighborSnapshot, Refused
from bgpbfd.lag import BOUNDS_US, LagHistogram

SLICE = 100
"""Samples put into words in one turn of the loop: about 1 ms."""

_STATE_NUMBERS = {name: int(state) for state, name in STATE_NAMES.items()}


class Source(Protocol):
    """What the metrics need of the engine; see api/methods.py."""

    def neighbors(self) -> list[NeighborSnapshot]: ...

    async def bfd_sessions(self) -> list[BfdSnapshot]: ...


@dataclass(slots=True, frozen=True)
class _Gauge:
    name: str
    text: str
    labels: tuple[str, ...]
    samples: list[tuple[tuple[str, ...], float]]


async def scrape(source: Source, lags: Callable[[], Mapping[str, LagHistogram]]) -> tuple[str, list[bytes]]:
    """The content type, and the text in pieces; ``lags``: by process, "main" and "bfd".

    Without the BFD worker's answer nothing is said of its sessions.
    """
    gauges = _bgp(source.neighbors())
    await asyncio.sleep(0)
    answered = True
    try:
        gauges.append(_bfd(await source.bfd_sessions()))
    except Refused:
        answered = False
    histograms = {name: lag for name, lag in lags().items() if answered or name != "bfd"}
    pieces = [_text(_process_metrics(histograms))]
    for gauge in gauges:
        for piece in _gauge_text(gauge):
            pieces.append(piece)
            await asyncio.sleep(0)
    return CONTENT_TYPE_LATEST, pieces


def _bgp(neighbors: list[NeighborSnapshot]) -> list[_Gauge]:
    found = [neighbor for neighbor in neighbors if neighbor.network != neighbor.peer]  # a network has no session
    return [
        _Gauge(
            "bgpbfd_bgp_session_up",
            "Whether the BGP session is Established (1) or not (0).",
            ("peer",),
            [((neighbor.peer,), float(neighbor.state == "established")) for neighbor in found],
        ),
        _Gauge(
            "bgpbfd_bgp_prefixes_received",
            "Routes that the neighbor has announced and not withdrawn, rejected ones among them.",
            ("peer",),
            [((neighbor.peer,), neighbor.prefixes_received) for neighbor in found],
        ),
        _Gauge(
            "bgpbfd_bgp_prefixes_advertised",
            "Routes that are announced to the neighbor.",
            ("peer",),
            [((neighbor.peer,), neighbor.prefixes_sent) for neighbor in found],
        ),
    ]


def _bfd(sessions: list[BfdSnapshot]) -> _Gauge:
    states: dict[tuple[str, ...], float] = {}
    for session in sessions:
        report = session.report
        if report is None:
            continue
        multihop = "true" if session.multihop else "false"
        labels = (session.peer, report.local or "", report.interface or "", multihop)
        state = _STATE_NUMBERS[report.state]
        # A local address that is the kernel's choice may be another's as well: a series given twice spoils the scrape.
        states[labels] = min(states.get(labels, state), state)
    return _Gauge(
        "bgpbfd_bfd_session_state",
        "State of the BFD session as RFC 5880 numbers it: 0 AdminDown, 1 Down, 2 Init, 3 Up.",
        ("peer", "local", "interface", "multihop"),
        list(states.items()),
    )


def _process_metrics(lags: Mapping[str, LagHistogram]) -> list[Metric]:
    build = InfoMetricFamily("bgpbfd_build", "The daemon's version.", {"version": __version__})
    pauses = HistogramMetricFamily(
        "bgpbfd_loop_lag_seconds",
        "How long a turn of the process's loop kept what was due or came then waiting.",
        labels=["process"],
    )
    worst = GaugeMetricFamily(
        "bgpbfd_loop_lag_worst_seconds",
        "The longest of bgpbfd_loop_lag_seconds since the process's start.",
        labels=["process"],
    )
    bounds = [*(repr(bound / 1e6) for bound in BOUNDS_US), "+Inf"]
    for process, lag in lags.items():
        pauses.add_metric([process], list(zip(bounds, lag.cumulative(), strict=True)), lag.sum_us / 1e6)
        worst.add_metric([process], lag.worst_us / 1e6)
    return [build, pauses, worst]


def _gauge_text(gauge: _Gauge) -> Iterator[bytes]:
    for start in range(0, max(1, len(gauge.samples)), SLICE):
        family = GaugeMetricFamily(gauge.name, gauge.text, labels=gauge.labels)
        for labels, value in gauge.samples[start : start + SLICE]:
            family.add_metric(labels, value)
        text = _text([family])
        # HELP and TYPE may stand once only; no label's value has a line break, as they are escaped.
        yield text if start == 0 else b"".join(line for line in text.splitlines(True) if not line.startswith(b"# "))


class _Given:
    """A collector of what has been put together already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    return generate_latest(registry)
