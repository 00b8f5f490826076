"""Hold and keepalive times as negotiated (RFC 4271 §4.2, §4.4): none at all, and the shortest there is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .harness.capture import Capture
from .harness.lab import Lab
from .harness.peers import PEERS
from .harness.process import wait_until
from .more import Site, Spec, gaps, messages, source, up

pytestmark = pytest.mark.interop

WATCH_S = 4.0
each_peer = pytest.mark.parametrize("name", [kind.name for kind in PEERS])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The peers propose 3 s, so that theirs would end first if ours sent no KEEPALIVE without their agreement."""
    with Lab(tmp_path_factory.mktemp("timers")) as lab:
        site = Site(lab, [Spec(kind, dial="we", hold_time=3, ours=["hold_timer = 0"]) for kind in PEERS])
        site.start()
        yield site


def _watch(site: Site) -> tuple[dict[str, Capture], dict[str, float]]:
    """Captures of a while from now on, and since when each session stands."""
    site.wait_up()
    since = {name: site.ours.neighbor(site.peer_id(name))["connect_time"] for name in site.working()}
    captures = site.captures()
    end = time.monotonic() + WATCH_S
    wait_until(lambda: time.monotonic() >= end, WATCH_S + 1, "the time to watch")
    for capture in captures.values():
        capture.stop()
    return captures, since


@pytest.fixture(scope="module")
def without(site: Site) -> tuple[dict[str, Capture], dict[str, float]]:
    return _watch(site)


@pytest.mark.feature("hold time 0, the smaller one")
@each_peer
def test_rfc4271_4_4_hold_time_0_sends_no_keepalives(
    site: Site, without: tuple[dict[str, Capture], dict[str, float]], name: str
) -> None:
    arm = up(site, name)
    captures, since = without
    neighbor = site.ours.neighbor(arm.address)
    assert neighbor["hold_time"] == 0
    assert messages(captures[name], arm.our_address) == []
    assert neighbor["connect_time"] == since[name]
    assert neighbor["flaps"] == 0


@pytest.fixture(scope="module")
def short(
    site: Site, without: tuple[dict[str, Capture], dict[str, float]]
) -> tuple[dict[str, Capture], dict[str, float], dict[str, list[str]]]:
    """The same after a reload to ``hold_timer = 60``; what was pending between it and the reset is kept."""
    for spec in site.specs.values():
        spec.ours = ["hold_timer = 60"]
    site.reload()
    pending = {}
    for name in site.working():
        pending[name] = site.ours.neighbor(site.peer_id(name))["pending_changes"]
        site.ours.ctl("neighbor", site.peer_id(name), "reset")
    return *_watch(site), pending


@pytest.mark.feature("hold time 0, the smaller one")
@each_peer
def test_rfc4271_4_2_the_smaller_hold_time_counts(
    site: Site, short: tuple[dict[str, Capture], dict[str, float], dict[str, list[str]]], name: str
) -> None:
    arm = up(site, name)
    captures, since, pending = short
    assert any("hold" in text for text in pending[name]), pending[name]
    neighbor = site.ours.neighbor(arm.address)
    assert neighbor["hold_time"] == 3
    assert neighbor["connect_time"] == since[name]
    keepalives = captures[name].packets(f"bgp.type == 4 && {source(arm.our_address)}", [])
    # RFC 4271 §10: a third of the hold time, with 75 to 100 % of jitter; and the watching may begin right after one.
    assert WATCH_S - 1 <= len(keepalives) <= WATCH_S / 0.75 + 1
    assert all(0.70 < gap < 1.10 for gap in gaps(keepalives)), gaps(keepalives)
    theirs = captures[name].packets(f"bgp.type == 4 && {source(arm.address)}", [])
    assert theirs, f"{name} sends none"
