"""RFC 4724 §4.1: a speaker that has restarted says End-of-RIB when its own routes are complete, not before."""

from __future__ import annotations

import pytest
from announcer_bench import P1, P2, Bench, shape

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.wire.attributes import PathAttributes

ENDS = [("eor", IPV4_UNICAST), ("eor", IPV6_UNICAST)]


def held_back() -> Bench:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up(end_of_rib=True, hold_end_of_rib=True)
    return bench


@pytest.fixture(autouse=True, params=[False, True], ids=["by-prefix", "by-list"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "short", request.param)


def test_rfc4724_4_1_routes_go_out_and_end_of_rib_waits() -> None:
    bench = held_back()
    assert shape(bench.drain()) == [("+", {P1})]
    assert not bench.announcer.has_pending
    assert bench.announcer.next_batch() == []
    bench.announcer.release_end_of_rib()
    assert bench.announcer.has_pending
    assert shape(bench.drain()) == ENDS
    bench.announcer.release_end_of_rib()
    assert not bench.announcer.has_pending


def test_rfc4724_4_1_end_of_rib_is_behind_all_that_is_marked_when_it_is_released() -> None:
    bench = held_back()
    bench.drain()
    bench.set(P2, PathAttributes())
    bench.announcer.release_end_of_rib()
    assert shape(bench.drain()) == [("+", {P2}), *ENDS]


def test_released_before_anything_was_sent() -> None:
    bench = held_back()
    bench.announcer.release_end_of_rib()
    assert shape(bench.drain()) == [("+", {P1}), *ENDS]


def test_where_it_was_not_promised_there_is_nothing_to_release() -> None:
    bench = Bench()
    bench.up(end_of_rib=False, hold_end_of_rib=True)
    bench.announcer.release_end_of_rib()
    assert bench.drain() == []


def test_a_new_session_is_not_held_unless_it_is_said() -> None:
    bench = held_back()
    bench.drain()
    bench.announcer.session_down()
    bench.announcer.release_end_of_rib()
    bench.up(end_of_rib=True)
    assert shape(bench.drain()) == [("+", {P1}), *ENDS]


def test_rfc7313_4_an_enhanced_refresh_waits_for_the_end_of_rib() -> None:
    bench = held_back()
    bench.drain()
    bench.announcer.resend(IPV4_UNICAST, enhanced=True)
    assert not bench.announcer.has_pending  # nobody is to turn in circles meanwhile
    assert bench.announcer.next_batch() == []
    bench.announcer.release_end_of_rib()
    assert shape(bench.drain()) == [
        *ENDS,
        ("refresh", IPV4_UNICAST, 1),
        ("+", {P1}),
        ("refresh", IPV4_UNICAST, 2),
    ]


def test_rfc2918_4_a_plain_refresh_does_not_wait() -> None:
    bench = held_back()
    bench.drain()
    bench.announcer.resend(IPV4_UNICAST)
    assert bench.announcer.has_pending
    assert shape(bench.drain()) == [("+", {P1})]
    bench.announcer.release_end_of_rib()
    assert shape(bench.drain()) == ENDS


@pytest.mark.parametrize("enhanced", [False, True])
def test_released_in_the_middle_of_a_refresh_it_is_still_said_once(enhanced: bool) -> None:
    bench = held_back()
    bench.drain()
    bench.set(P2, PathAttributes(med=2))
    bench.announcer.resend(IPV4_UNICAST, enhanced=enhanced)
    first = shape(bench.announcer.next_batch(1))
    bench.announcer.release_end_of_rib()
    found = [*first, *shape(bench.drain())]
    assert [item for item in found if item[0] == "eor"] == ENDS
    kinds = [item[0] for item in found if item[0] != "eor"]
    assert kinds == (["+", "refresh", "+", "+", "refresh"] if enhanced else ["+", "+"])


def test_withdrawals_do_not_wait_for_it_either() -> None:
    bench = held_back()
    bench.drain()
    bench.set(P1, None)
    assert shape(bench.drain()) == [("-", {P1})]
