"""The record of events."""

from __future__ import annotations

from bgpbfd.control.recorder import Recorder
from bgpbfd.control.snapshot import RecordedEvent


def filled(count: int, capacity: int = 100) -> Recorder:
    recorder = Recorder(capacity)
    for number in range(1, count + 1):
        recorder.add("bgp-up", f"event {number}", number, peer="a" if number % 2 else "b")
    return recorder


def numbers(events: list[RecordedEvent]) -> list[int]:
    return [event.number for event in events]


def test_the_latest_come_oldest_first() -> None:
    assert numbers(filled(10).select(limit=3)) == [8, 9, 10]


def test_following_on_gives_the_first_after_a_number() -> None:
    assert numbers(filled(10).select(since=4, limit=3)) == [5, 6, 7]
    assert numbers(filled(10).select(since=10)) == []


def test_one_neighbor_s_events_only() -> None:
    assert numbers(filled(10).select(limit=2, peer="b")) == [8, 10]
    assert numbers(filled(10).select(since=4, limit=2, peer="a")) == [5, 7]


def test_it_is_bounded_and_numbers_go_on() -> None:
    assert numbers(filled(1000, capacity=3).select()) == [998, 999, 1000]


def test_listeners_hear_each_event_once_with_facts_of_its_own() -> None:
    recorder = Recorder()
    heard: list[RecordedEvent] = []
    recorder.subscribe(heard.append)
    facts: dict[str, str | int | float] = {"kind": "bfd-down"}
    recorder.add("bgp-down", "text", 5, facts=facts)
    facts["kind"] = "changed later"
    assert [event.facts for event in heard] == [{"kind": "bfd-down"}]
