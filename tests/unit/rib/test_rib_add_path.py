"""Several paths of one prefix to one peer (RFC 7911): which identifiers go out, and which are taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from announcer_bench import BOTH, P1, P2, P3, Bench, decode, shape

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Family, Prefix
from bgpbfd.policy.changes import Changes
from bgpbfd.policy.match import Match
from bgpbfd.policy.policy import REJECT, Policy, Term
from bgpbfd.policy.prefixes import PrefixRange
from bgpbfd.rib import announcer as module
from bgpbfd.rib.announcer import Announcer
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.update_out import encode_end_of_rib

V4 = frozenset({IPV4_UNICAST})
A, B, C = (PathAttributes(med=med) for med in (1, 2, 3))


def bench(add_path: frozenset[Family] = BOTH, max_length: int = 4096) -> Bench:
    made = Bench(max_length=max_length, add_path=add_path)
    made.up(end_of_rib=True)
    made.drain()
    return made


def held(made: Bench) -> dict[tuple[Prefix, int | None], int | None]:
    return {(Prefix(f.afi, nlri), number): a.med for f, nlri, a, number in made.announcer.sent()}


@pytest.mark.parametrize("prefix", [P1, P3])
def test_rfc7911_3_every_path_goes_out_under_its_identifier(prefix: Prefix) -> None:
    made = bench()
    made.set_paths(prefix, (1, A), (7, B), (0xFFFFFFFF, B))
    messages = made.drain()
    assert sorted(shape(messages, BOTH), key=str) == sorted(
        [("+", {(prefix, 1)}), ("+", {(prefix, 7), (prefix, 0xFFFFFFFF)})], key=str
    )
    meds = {reach.attributes.med for m in messages for reach in decode(m, BOTH).announced}
    assert meds == {1, 2}
    assert held(made) == {(prefix, 1): 1, (prefix, 7): 2, (prefix, 0xFFFFFFFF): 2}
    assert made.announcer.sent_count() == 3


def test_rfc7911_3_the_octets() -> None:
    made = bench()
    made.set_paths(P1, (0x01020304, A))
    (message,) = made.drain()
    assert message.endswith(bytes.fromhex("01020304 18c63364"))
    made.set_paths(P1)
    (message,) = made.drain()
    assert message[19:] == bytes.fromhex("0008 01020304 18c63364 0000")
    made.set_paths(P3, (5, A))
    (message,) = made.drain()
    assert bytes.fromhex("00 00000005 3020010db80001") in message  # reserved octet, identifier, prefix
    made.set_paths(P3)
    (message,) = made.drain()
    assert message[19:] == bytes.fromhex("0000 0011 800f0e 000201 00000005 3020010db80001")


def test_rfc7911_5_a_path_that_goes_is_withdrawn_by_its_identifier_and_the_others_stay() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, B), (3, C))
    made.drain()
    made.set_paths(P1, (1, A), (3, C))
    assert shape(made.drain(), BOTH) == [("-", {(P1, 2)})]
    made.set_paths(P1)
    assert shape(made.drain(), BOTH) == [("-", {(P1, 1), (P1, 3)})]
    assert made.announcer.sent_count() == 0
    assert made.announcer.sent_attributes(IPV4_UNICAST, P1.nlri) is None


def test_rfc7911_5_a_changed_path_is_announced_again_and_nothing_is_withdrawn() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, B))
    made.drain()
    made.set_paths(P1, (2, C), (1, A))
    assert shape(made.drain(), BOTH) == [("+", {(P1, 2)})]
    assert held(made) == {(P1, 1): 1, (P1, 2): 3}


def test_rfc4271_9_2_equal_state_says_nothing() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, B))
    made.drain()
    made.set_paths(P1, (2, PathAttributes(med=2)), (1, PathAttributes(med=1)))
    made.announcer.mark_all()
    made.announcer.mark(IPV4_UNICAST, P2.nlri)
    assert made.drain() == []


def test_withdrawals_go_first_and_never_wait() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, B))
    made.drain()
    for number in range(6):
        made.set_paths(Prefix(1, bytes((8, number))), (1, PathAttributes(med=number)), (2, PathAttributes(med=9)))
    assert len(made.announcer.next_batch(2)) == 2
    made.set_paths(P1, (2, B))
    assert shape(made.announcer.next_batch(1), BOTH) == [("-", {(P1, 1)})]


def test_the_last_state_wins_before_anything_was_sent() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, B))
    made.set_paths(P2, (1, A))
    assert made.announcer.next_batch(0) == []  # looked up, and no room to send
    made.set_paths(P1, (2, C))
    made.set_paths(P2)
    assert shape(made.drain(), BOTH) == [("+", {(P1, 2)})]


def test_a_withdrawal_that_waits_is_dropped_when_the_path_comes_back() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, B))
    made.drain()
    made.set_paths(P1, (2, B))
    assert made.announcer.next_batch(0) == []
    made.set_paths(P1, (1, A), (2, B))
    assert made.drain() == []
    assert held(made) == {(P1, 1): 1, (P1, 2): 2}


def test_rfc7911_3_of_two_paths_with_one_identifier_the_first_is_sent() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (1, B))
    assert shape(made.drain(), BOTH) == [("+", {(P1, 1)})]
    assert held(made) == {(P1, 1): 1}


def test_a_family_without_add_path_stays_as_it_is() -> None:
    made = Bench(add_path=V4)
    made.set_paths(P1, (1, A), (2, A))
    made.set(P3, A)
    made.up(end_of_rib=True)
    assert shape(made.drain(), V4) == [
        ("+", {(P1, 1), (P1, 2)}),
        ("+", {P3}),
        ("eor", IPV4_UNICAST),
        ("eor", IPV6_UNICAST),
    ]
    assert held(made) == {(P1, 1): 1, (P1, 2): 1, (P3, None): 1}


def test_rfc4724_2_end_of_rib_has_no_identifier() -> None:
    made = Bench(add_path=BOTH)
    made.up(end_of_rib=True)
    assert made.drain() == [encode_end_of_rib(IPV4_UNICAST), encode_end_of_rib(IPV6_UNICAST)]


def test_rfc7313_4_a_refresh_sends_every_path_again() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, A))
    made.set_paths(P2, (1, A))
    made.drain()
    made.announcer.resend(IPV4_UNICAST, enhanced=True)
    made.set_paths(P2)
    assert shape(made.drain(), BOTH) == [
        ("refresh", IPV4_UNICAST, 1),
        ("-", {(P2, 1)}),
        ("+", {(P1, 1), (P1, 2)}),
        ("refresh", IPV4_UNICAST, 2),
    ]
    made.announcer.resend(IPV4_UNICAST)
    assert shape(made.drain(), BOTH) == [("+", {(P1, 1), (P1, 2)})]


def test_paths_that_cannot_be_sent_say_why_and_the_others_go() -> None:
    made = bench()
    made.set_paths(P1, (1, "carries NO_EXPORT"), (2, B))
    made.set_paths(P2, (1, "carries NO_EXPORT"))
    assert shape(made.drain(), BOTH) == [("+", {(P1, 2)})]
    assert made.announcer.reason(P1) is None
    assert made.announcer.reason(P2) == "carries NO_EXPORT"
    assert list(made.announcer.refused()) == [
        (IPV4_UNICAST, P2.nlri, "carries NO_EXPORT", 1),
        (IPV4_UNICAST, P1.nlri, "carries NO_EXPORT", 1),
    ]
    made.set_paths(P1, (1, A), (2, "carries NO_EXPORT"))
    assert shape(made.drain(), BOTH) == [("-", {(P1, 2)}), ("+", {(P1, 1)})]
    made.set_paths(P1)
    made.set_paths(P2)
    assert shape(made.drain(), BOTH) == [("-", {(P1, 1)})]
    assert made.announcer.reason(P2) is None
    assert list(made.announcer.refused()) == []


def test_rfc4271_9_2_a_path_that_fits_no_message_is_withdrawn_alone() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, B))
    made.drain()
    made.set_paths(P1, (1, PathAttributes(communities=tuple(range(1200)))), (2, B))
    assert shape(made.drain(), BOTH) == [("-", {(P1, 1)})]
    assert made.announcer.refused_by_size == 1
    assert held(made) == {(P1, 2): 2}
    made.set_paths(P1, (1, A), (2, B))
    assert shape(made.drain(), BOTH) == [("+", {(P1, 1)})]


@pytest.mark.parametrize("max_length", [4096, 65535])
@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_messages_are_filled_to_the_negotiated_length(family: Family, max_length: int) -> None:
    made = Bench(max_length=max_length, add_path=BOTH)
    shared = PathAttributes(communities=tuple(range(70)))  # attributes longer than 255 octets
    for number in range(10_000):
        made.paths[family, bytes((32,)) + number.to_bytes(4)] = [(1, shared), (2, shared)]
    made.up()
    messages = made.drain()
    sizes = [len(message) for message in messages]
    assert max(sizes) <= max_length
    assert all(size > max_length - 12 for size in sizes[:-1])
    assert sum(len(reach.nlri) for m in messages for reach in decode(m, BOTH).announced) == 20_000
    made.paths.clear()
    made.announcer.mark_all()
    messages = made.drain()
    assert max(len(message) for message in messages) <= max_length
    assert sum(len(unreach.nlri) for m in messages for unreach in decode(m, BOTH).withdrawn) == 20_000
    assert made.announcer.sent_count() == 0


def test_one_turn_looks_up_a_slice_of_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix with many paths costs as much as many prefixes."""
    monkeypatch.setattr(module, "SLICE", 10)
    made = Bench(families=V4, add_path=V4)
    for number in range(8):
        made.paths[IPV4_UNICAST, bytes((8, number))] = [(n + 1, A) for n in range(5)]
    made.up()
    turns = 0
    while made.announcer.has_pending:
        made.announcer.next_batch()
        turns += 1
    assert turns == 4
    assert made.announcer.sent_count() == 40


def test_prefixes_that_are_gone_are_forgotten() -> None:
    made = bench()
    for number in range(20):
        made.set_paths(Prefix(1, bytes((8, number))), (1, A), (2, "carries NO_EXPORT"), (3, B))
    made.drain()
    for number in range(20):
        made.set_paths(Prefix(1, bytes((8, number))))
    made.drain()
    asked: list[bytes] = []
    made.announcer._wanted_paths = lambda family, nlri: asked.append(nlri) or []  # type: ignore[func-returns-value]
    made.announcer.mark_all()
    assert made.drain() == []
    assert asked == []


def test_without_wanted_paths_the_wanted_route_is_path_1() -> None:
    made = Bench(families=V4, add_path=V4)
    wanted = {P1.nlri: A}

    def look_up(family: Family, nlri: bytes) -> PathAttributes | str | None:
        return made.announcer.exported(wanted[nlri], None, family, nlri, "config") if nlri in wanted else None

    made.announcer = Announcer(look_up, lambda family: list(wanted))
    made.up()
    assert shape(made.drain(), V4) == [("+", {(P1, 1)})]
    del wanted[P1.nlri]
    made.announcer.mark_all()
    assert shape(made.drain(), V4) == [("-", {(P1, 1)})]


def test_a_changed_export_concerns_every_path() -> None:
    made = bench()
    made.set_paths(P1, (1, A), (2, PathAttributes(med=2, next_hop=b"\xc0\0\x02\x63")))
    made.drain()
    made.announcer.change_export(replace(made.export, local_ipv4=b"\xc0\0\x02\x0b"))
    assert shape(made.drain(), BOTH) == [("+", {(P1, 1)})]


def test_the_policy_is_asked_by_the_prefix_alone_and_says_why_path_by_path() -> None:
    made = bench()
    policy = Policy(
        "p",
        terms=(
            Term(Match(prefixes=(PrefixRange.exactly(P2),)), REJECT, name="not-this"),
            Term(Match(origins=(1,)), changes=Changes(med=99), name="egp"),
        ),
    )
    made.export = replace(made.export, policy=policy)
    made.announcer.change_export(made.export)
    made.set_paths(P1, (1, A), (2, PathAttributes(origin=1)))
    made.set_paths(P2, (1, A))
    made.drain()
    assert held(made) == {(P1, 1): 1, (P1, 2): 99}
    assert made.announcer.why(IPV4_UNICAST, P1.nlri) == 'policy "p": default accepts'
    assert made.announcer.why(IPV4_UNICAST, P1.nlri, 2) == 'policy "p": term "egp" accepts'
    assert made.announcer.why(IPV4_UNICAST, P1.nlri, 3) is None
    assert made.announcer.why(IPV4_UNICAST, P2.nlri, 1) == 'policy "p": term "not-this" rejects'
    assert made.announcer.reason(P2) == 'policy "p": term "not-this" rejects'
