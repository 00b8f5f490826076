"""The table that is sent has the Internet's shape, and is always the same."""

from __future__ import annotations

from collections import Counter

from tests.bench.raw import bgp
from tests.bench.raw.table import Table


def _prefixes(update: bytes) -> list[bytes]:
    at = 23 + (update[21] << 8 | update[22])
    found = []
    while at < len(update):
        end = at + 1 + (update[at] + 7 >> 3)
        found.append(update[at:end])
        at = end
    return found


def _attributes(update: bytes) -> dict[int, bytes]:
    at, end = 23, 23 + (update[21] << 8 | update[22])
    found = {}
    while at < end:
        length = update[at + 2]
        found[update[at + 1]] = update[at + 3 : at + 3 + length]
        at += 3 + length
    return found


def test_a_million_prefixes_are_about_147_000_updates() -> None:
    updates = Table(1_000_000, 65001).updates()
    assert 143_000 < len(updates) < 151_000
    assert sum(bgp.nlri_of(update)[0] for update in updates) == 1_000_000
    assert max(len(update) for update in updates) <= 4096


def test_its_messages_are_whole_its_prefixes_distinct_and_its_paths_2_to_7_long() -> None:
    updates = Table(20_000, 65001).updates()
    assert bgp.messages(bytearray(b"".join(updates))) == updates
    prefixes = [prefix for update in updates for prefix in _prefixes(update)]
    assert len(set(prefixes)) == 20_000
    lengths = Counter(prefix[0] for prefix in prefixes)
    assert 0.57 < lengths[24] / 20_000 < 0.63
    attributes = [_attributes(update) for update in updates]
    paths = [each[2] for each in attributes]
    assert {path[1] for path in paths} == {2, 3, 4, 5, 6, 7}
    assert all(path[2:6] == (65001).to_bytes(4, "big") for path in paths)  # the sender's own is the first
    assert 0.1 < sum(8 not in each for each in attributes) / len(attributes) < 0.15
    assert max(len(each.get(8, b"")) for each in attributes) == 32


def test_it_is_the_same_each_time() -> None:
    assert Table(500, 65001).updates() == Table(500, 65001).updates()
