"""The Adj-RIB-Out: which messages go out, in which order, and none too many."""

from __future__ import annotations

from dataclasses import replace

import pytest
from announcer_bench import EXPORT, OUR_V4, P1, P2, P3, Bench, decode, shape

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.rib import announcer as module
from bgpbfd.rib.announcer import Announcer
from bgpbfd.wire.attributes import PathAttributes, Segment
from bgpbfd.wire.iana import SegmentType
from bgpbfd.wire.update_out import encode_end_of_rib


@pytest.fixture(autouse=True, params=[False, True], ids=["by-prefix", "by-list"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "short", request.param)


def test_the_initial_set_then_end_of_rib_of_each_family() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes(med=5))
    bench.set(P2, PathAttributes(med=5))
    assert not bench.announcer.has_pending  # no session yet
    assert bench.announcer.next_batch() == []
    bench.up(end_of_rib=True)
    messages = bench.drain()
    assert shape(messages) == [("+", {P1, P2}), ("eor", IPV4_UNICAST), ("eor", IPV6_UNICAST)]
    reach = decode(messages[0]).announced[0]
    assert reach.attributes == PathAttributes(
        as_path=(Segment(SegmentType.AS_SEQUENCE, (65010,)),), next_hop=OUR_V4, med=5
    )
    assert messages[1:] == [encode_end_of_rib(IPV4_UNICAST), encode_end_of_rib(IPV6_UNICAST)]
    assert bench.announcer.sent_count() == bench.announcer.sent_count(IPV4_UNICAST) == 2
    assert {(f, n): a.med for f, n, a, _ in bench.announcer.sent()} == {
        (IPV4_UNICAST, P1.nlri): 5,
        (IPV4_UNICAST, P2.nlri): 5,
    }


def test_rfc4724_2_end_of_rib_even_when_there_is_nothing() -> None:
    bench = Bench()
    bench.up(end_of_rib=True)
    assert shape(bench.drain()) == [("eor", IPV4_UNICAST), ("eor", IPV6_UNICAST)]


def test_no_end_of_rib_where_it_was_not_promised() -> None:
    bench = Bench()
    bench.up()
    assert bench.drain() == []


def test_rfc4271_9_2_nothing_is_said_twice() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    bench.set(P1, PathAttributes())
    bench.announcer.mark_all()
    bench.announcer.mark(IPV4_UNICAST, P2.nlri)
    assert bench.drain() == []


def test_a_change_is_a_plain_announcement() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes(med=1))
    bench.up()
    bench.drain()
    bench.set(P1, PathAttributes(med=2))
    messages = bench.drain()
    assert shape(messages) == [("+", {P1})]
    sent = bench.announcer.sent_attributes(IPV4_UNICAST, P1.nlri)
    assert sent is not None
    assert sent.med == decode(messages[0]).announced[0].attributes.med == 2


def test_withdrawals_go_first_and_the_last_state_wins() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    bench.set(P2, PathAttributes())
    bench.set(P3, PathAttributes())
    bench.set(P1, None)
    bench.set(P3, None)
    assert shape(bench.drain()) == [("-", {P1}), ("+", {P2})]
    bench.set(P1, PathAttributes())
    bench.set(P1, None)
    assert bench.drain() == []


def test_a_withdrawal_overtakes_announcements_that_are_still_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    for number in range(6):
        bench.set(Prefix(1, bytes((8, number))), PathAttributes(med=number))
    assert len(bench.announcer.next_batch(2)) == 2
    bench.set(P1, None)
    assert shape(bench.announcer.next_batch(2))[0] == ("-", {P1})
    monkeypatch.setattr(module, "SLICE", 2)
    bench.set(P2, PathAttributes())
    gone = Prefix(1, next(bench.announcer.sent())[1])
    bench.set(gone, None)
    assert shape(bench.drain(3))[0] == ("-", {gone})


def test_a_withdrawal_that_waits_is_dropped_when_the_route_comes_back() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.set(P3, PathAttributes())
    bench.up()
    bench.drain()
    bench.set(P1, None)
    bench.set(P3, None)
    assert shape(bench.announcer.next_batch(1)) == [("-", {P1})]
    bench.set(P3, PathAttributes())
    assert bench.drain() == []
    assert bench.announcer.sent_attributes(IPV6_UNICAST, P3.nlri) is not None


def test_end_marks_wait_for_all_of_their_family() -> None:
    bench = Bench()
    for number in range(5):
        bench.set(Prefix(1, bytes((8, number))), PathAttributes(med=number))
    bench.up(end_of_rib=True)
    kinds = [item[0] for item in shape(bench.drain(2))]
    assert kinds.index("eor") == 5
    bench.announcer.resend(IPV4_UNICAST, enhanced=True)
    found = shape(bench.drain(2))
    assert found[0] == ("refresh", IPV4_UNICAST, 1)
    assert found[-1] == ("refresh", IPV4_UNICAST, 2)
    assert [item[0] for item in found[1:-1]] == ["+"] * 5


def test_a_staged_route_that_is_no_longer_wanted_is_never_sent() -> None:
    bench = Bench()
    bench.up()
    for number in range(4):
        bench.set(Prefix(1, bytes((8, number))), PathAttributes(med=number))
    (first,) = shape(bench.announcer.next_batch(1))
    for number in range(4):
        bench.set(Prefix(1, bytes((8, number))), None)
    assert shape(bench.drain()) == [("-", first[1])]
    assert bench.announcer.sent_count() == 0


def test_equal_attributes_share_a_message_whatever_object_holds_them() -> None:
    bench = Bench()
    for number in range(100):
        bench.set(Prefix(1, bytes((8, number))), PathAttributes(med=number % 2))
    bench.up()
    assert len(bench.drain()) == 2


@pytest.mark.parametrize("max_length", [4096, 65535])
@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_messages_are_filled_to_the_negotiated_length(family: Family, max_length: int) -> None:
    bench = Bench(max_length=max_length)
    shared = PathAttributes(communities=tuple(range(70)))  # attributes longer than 255 octets
    for number in range(30_000):
        nlri = bytes((32,)) + number.to_bytes(4)
        bench.routes[family, nlri] = shared
    bench.up()
    messages = bench.drain()
    sizes = [len(message) for message in messages]
    assert max(sizes) <= max_length
    assert all(size > max_length - 8 for size in sizes[:-1])
    assert sum(len(reach.nlri) for m in messages for reach in decode(m).announced) == 30_000


def test_withdrawals_are_filled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 5_000)  # those of one turn share messages
    bench = Bench()
    for number in range(5_000):
        bench.set(Prefix(2, bytes((32,)) + number.to_bytes(4)), PathAttributes())
    bench.up()
    bench.drain()
    bench.routes.clear()
    bench.announcer.mark_all()
    messages = bench.drain()
    assert all(4096 - 16 < len(message) <= 4096 for message in messages[:-1])
    assert sum(len(unreach.nlri) for m in messages for unreach in decode(m).withdrawn) == 5_000
    assert bench.announcer.sent_count() == 0


def test_rfc4271_9_2_what_cannot_fit_is_not_sent_and_withdrawn_if_it_was() -> None:
    bench = Bench()
    too_long = PathAttributes(communities=tuple(range(1200)))
    bench.set(P1, PathAttributes())
    bench.up(end_of_rib=True)
    bench.drain()
    bench.set(P1, too_long)
    bench.set(P2, too_long)
    assert shape(bench.drain()) == [("-", {P1})]
    assert "does not fit" in (bench.announcer.reason(P1) or "")
    assert "does not fit" in (bench.announcer.reason(P2) or "")
    assert bench.announcer.refused_by_size == 2
    assert bench.announcer.sent_count() == 0
    bench.set(P1, PathAttributes())
    assert shape(bench.drain()) == [("+", {P1})]
    assert bench.announcer.reason(P1) is None


def test_a_wanted_route_that_cannot_be_sent_is_withdrawn_and_says_why() -> None:
    bench = Bench(families=frozenset({IPV4_UNICAST}))
    assert bench.announcer.reason(P1) == "the session is not up"
    bench.set(P1, PathAttributes())
    bench.set(P3, PathAttributes())
    bench.up()
    bench.drain()
    bench.set(P1, PathAttributes(next_hop=b"\xc0\0\x02\x01"))
    assert shape(bench.drain()) == [("-", {P1})]
    assert "peer's own address" in (bench.announcer.reason(P1) or "")
    assert "not negotiated" in (bench.announcer.reason(P3) or "")
    assert [(f, n) for f, n, *_ in bench.announcer.refused()] == [(IPV4_UNICAST, P1.nlri)]
    bench.set(P1, None)
    assert bench.drain() == []
    assert bench.announcer.reason(P1) is None


def test_a_new_session_is_sent_everything_again() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    first = bench.drain()
    bench.announcer.session_down()
    assert bench.announcer.sent_count() == 0
    assert not bench.announcer.has_pending
    assert bench.announcer.next_batch() == []
    bench.up()
    assert bench.drain() == first


def test_rfc2918_4_a_refresh_sends_the_family_again() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.set(P3, PathAttributes())
    bench.up(end_of_rib=True)
    bench.drain()
    bench.announcer.resend(IPV6_UNICAST)
    assert shape(bench.drain()) == [("+", {P3})]
    bench.announcer.resend(Family(1, 133))  # not negotiated: ignored
    assert bench.drain() == []


def test_rfc7313_4_an_enhanced_refresh_stands_between_borr_and_eorr() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    bench.announcer.resend(IPV4_UNICAST, enhanced=True)
    assert shape(bench.drain()) == [("refresh", IPV4_UNICAST, 1), ("+", {P1}), ("refresh", IPV4_UNICAST, 2)]
    bench.announcer.resend(IPV6_UNICAST, enhanced=True)
    assert shape(bench.drain(1)) == [("refresh", IPV6_UNICAST, 1), ("refresh", IPV6_UNICAST, 2)]


def test_rfc7313_4_no_borr_before_end_of_rib() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up(end_of_rib=True)
    bench.announcer.resend(IPV4_UNICAST, enhanced=True)
    assert shape(bench.drain()) == [
        ("+", {P1}),
        ("eor", IPV4_UNICAST),
        ("eor", IPV6_UNICAST),
        ("refresh", IPV4_UNICAST, 1),
        ("+", {P1}),
        ("refresh", IPV4_UNICAST, 2),
    ]


def test_a_refresh_asked_for_during_a_refresh_follows_it() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    bench.announcer.resend(IPV4_UNICAST, enhanced=True)
    (begin,) = bench.announcer.next_batch(1)
    assert shape([begin]) == [("refresh", IPV4_UNICAST, 1)]
    bench.announcer.resend(IPV4_UNICAST, enhanced=True)
    assert [item[2] for item in shape(bench.drain()) if item[0] == "refresh"] == [2, 1, 2]


def test_one_turn_looks_up_a_slice_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 10)
    bench = Bench()
    for number in range(95):
        bench.routes[IPV4_UNICAST, bytes((8, number))] = PathAttributes()
    asked: list[bytes] = []
    plain = bench.wanted

    def watched(family: Family, nlri: bytes) -> PathAttributes | str | None:
        asked.append(nlri)
        return plain(family, nlri)

    bench.announcer = Announcer(watched, lambda f: [n for family, n in bench.routes if family == f])
    bench.up(end_of_rib=True)
    batches = []
    while bench.announcer.has_pending:
        before = len(asked)
        batches.append(bench.announcer.next_batch())
        assert len(asked) - before <= 10
    assert [len(shape(batch)) for batch in batches] == [0] * 9 + [3]
    assert len(asked) == 95


def test_a_changed_export_sends_what_comes_out_differently() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.set(P2, PathAttributes(next_hop=b"\xc0\0\x02\x63"))
    bench.up()
    bench.drain()
    bench.announcer.change_export(replace(EXPORT, local_ipv4=b"\xc0\0\x02\x0b"))
    (message,) = bench.drain()
    assert shape([message]) == [("+", {P1})]
    assert decode(message).announced[0].attributes.next_hop == b"\xc0\0\x02\x0b"


def test_a_withdrawal_for_lack_of_room_belongs_to_the_refresh_that_found_it() -> None:
    bench = Bench()
    bench.set(P1, PathAttributes())
    bench.up()
    bench.drain()
    bench.set(P1, PathAttributes(communities=tuple(range(1200))))
    bench.announcer.resend(IPV4_UNICAST, enhanced=True)
    assert shape(bench.drain()) == [("refresh", IPV4_UNICAST, 1), ("-", {P1}), ("refresh", IPV4_UNICAST, 2)]
