"""Path identifiers of what is passed on, for paths that came with and without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bgpbfd.control.announcing import Announcing
from bgpbfd.core import Prefix


@pytest.mark.parametrize("received", [[0, None], [None, 0, 7]])
def test_rfc7911_paths_of_one_peer_with_and_without_an_identifier_are_told_apart(received: list[int | None]) -> None:
    paths = [SimpleNamespace(peer="192.0.2.1", path_id=path_id) for path_id in received]
    rib: Any = SimpleNamespace(usable_paths=lambda family, nlri: paths)
    host: Any = SimpleNamespace(rib=rib)
    announcing = Announcing(host)
    prefix = Prefix.parse("203.0.113.0/24")
    numbered = announcing._numbered(prefix.family, prefix.nlri)
    assert [path for _, path in numbered] == paths
    assert len({path_id for path_id, _ in numbered}) == len(paths)
    for path_id, path in numbered:
        assert announcing.path_of(prefix, path_id) is path
