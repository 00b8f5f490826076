"""RFC 7911 §3: identifiers tell the paths of a prefix apart, and stay with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.rib import path_ids as module
from bgpbfd.rib.path_ids import OWN, path_ids

ORIGINS = st.lists(
    st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "fe80::1%eth0"]), st.none() | st.integers(0, 2**32 - 1)),
    unique=True,
    max_size=20,
)


@given(ORIGINS)
def test_rfc7911_3_every_path_has_one_of_its_own(origins: list[tuple[str, int | None]]) -> None:
    found = path_ids(origins)
    assert len(set(found)) == len(found) == len(origins)
    assert OWN not in found
    assert all(0 < path_id < 2**32 for path_id in found)


@given(ORIGINS, ORIGINS)
def test_rfc7911_3_it_does_not_hang_on_the_other_paths(
    origins: list[tuple[str, int | None]], others: list[tuple[str, int | None]]
) -> None:
    alone = {origin: path_ids([origin])[0] for origin in origins}
    together = [*origins, *(other for other in others if other not in origins)]
    assert dict(zip(together, path_ids(together), strict=True)).items() >= alone.items()


def test_it_is_the_same_after_a_restart() -> None:
    """RFC 4724: who kept our paths takes the new ones for the same. No ``hash``, which every process has its own of."""
    assert path_ids([("192.0.2.1", None), ("192.0.2.1", 7)]) == [3252515233, 4243056647]


def test_two_that_come_out_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    origins: list[tuple[str, int | None]] = [("a", None), ("b", None), ("c", None)]
    monkeypatch.setattr(module, "crc32", lambda octets: 0xFFFFFFFF)
    assert path_ids(origins) == [0xFFFFFFFF, 2, 3]
