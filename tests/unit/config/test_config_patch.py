"""A configuration as its difference: what comes out beside the old one is the new one, and old routes stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.config.diff import diff
from bgpbfd.config.load import ConfigError, load, loads
from bgpbfd.config.model import Config
from bgpbfd.config.patch import PIECE, Amended, Decoder, amended, encode, encode_failure
from bgpbfd.core import Instant
from bgpbfd.rib.originate import Originated, Route

Routes = dict[int, int]  # prefix number: MED
FLOW = '[[peers.static_flows]]\nafi = 1\nmatches = ["destination 192.0.2.0/24"]\naction = "discard"\n'


def config(everybody: Routes, peers: dict[int, Routes], flows: frozenset[int] = frozenset()) -> Config:
    def tables(key: str, routes: Routes) -> list[str]:
        return [
            f'[[{key}]]\nprefix = "10.{number >> 8}.{number & 255}.0/24"\nmulti_exit_disc = {med}'
            for number, med in routes.items()
        ]

    lines = ['router_id = "192.0.2.1"\ndefault_as = 65010', *tables("static_routes", everybody)]
    for peer, routes in peers.items():
        lines.append(f'[[peers]]\nremote_ip = "198.51.100.{peer}"\nremote_as = 65001\nmd5_password = "planted-{peer}"')
        lines.append('families = ["ipv4 unicast", "ipv4 flow"]')
        lines += tables("peers.static_routes", routes)
        lines += [FLOW] if peer in flows else []
    return loads("\n".join(lines))


def across(old: Config, new: Config) -> Amended:
    decoder = Decoder(old)
    for piece in encode(old, new):
        decoder.feed(piece)
    return decoder.finish()


def originated(config: Config, at: Instant) -> Originated:
    found = Originated()
    found.replace_source("config", routes_of(config), at)
    return found


def routes_of(config: Config) -> list[Route]:
    found = [Route("config", route.prefix, route.attributes) for route in config.static_routes]
    for peer in config.peers:
        for route in (*peer.static_routes, *peer.static_flows):
            found.append(Route("config", route.prefix, route.attributes, frozenset({peer.id})))
    return found


_ROUTES = st.dictionaries(st.integers(0, 12), st.integers(0, 2), max_size=10)
_CONFIGS = st.builds(
    config, _ROUTES, st.dictionaries(st.integers(1, 3), _ROUTES, max_size=3), st.frozensets(st.integers(1, 3))
)


@given(_CONFIGS, _CONFIGS)
def test_what_comes_out_is_the_new_configuration(old: Config, new: Config) -> None:
    found = across(old, new)
    assert found.config == new
    assert [path for path, _, _ in found.changes] == [change.path for change in diff(old, new)]
    assert found.changes == amended(old, new).changes


@given(_CONFIGS, _CONFIGS)
def test_the_edits_make_the_routes_of_the_old_one_those_of_the_new_one(old: Config, new: Config) -> None:
    for found in (across(old, new), amended(old, new)):
        ours = originated(old, at=1)
        affected = []
        for edit in found.edits:
            peers = None if edit.owner is None else frozenset({edit.owner})
            for prefix in edit.gone:
                affected += ours.remove("config", prefix, peers)
            for route in edit.come:
                affected += ours.set(Route("config", route.prefix, route.attributes, peers), 2)
        plain = originated(old, at=1)
        expected = plain.replace_source("config", routes_of(new), 2)
        assert set(ours.routes()) == set(plain.routes())
        assert sorted(affected, key=repr) == sorted(expected, key=repr)


def test_routes_that_stay_are_the_same_objects() -> None:
    old = config(dict.fromkeys(range(1000), 1), {1: {1: 1, 2: 1}})
    new = config({**dict.fromkeys(range(0, 1000, 2), 1), 2: 7, 2000: 1}, {1: {2: 1, 3: 1}})
    found = across(old, new)
    before = {route.prefix: route for route in old.static_routes}
    stayed = [route for route in found.config.static_routes if before.get(route.prefix) is route]
    assert len(stayed) == 499
    assert found.config.peers[0].static_routes[0] is old.peers[0].static_routes[1]
    # also the attributes of those that are new
    assert found.config.static_routes[-1].attributes is before[found.config.static_routes[0].prefix].attributes
    assert found.routes == 502 + 2  # one other, 500 gone, one new; of the peer one of each


def test_pieces_stay_small_however_many_routes_change() -> None:
    old, new = config(dict.fromkeys(range(9000), 1), {}), config(dict.fromkeys(range(5000, 14000), 1), {})
    pieces = list(encode(old, new))
    assert len(pieces) > 6
    assert max(len(piece) for piece in pieces[1:]) < PIECE * 40
    assert across(old, new).config == new
    assert across(new, old).config == old


def test_a_refusal_crosses_with_all_its_faults() -> None:
    with pytest.raises(ConfigError) as wrong:
        loads('router_id = 1\ndefault_as = "x"\n', "some.toml", Path())
    with pytest.raises(ConfigError) as found:
        Decoder(config({}, {})).feed(encode_failure(wrong.value))
    assert found.value.faults == wrong.value.faults
    assert str(found.value) == str(wrong.value)


def test_what_nobody_expected_crosses_as_well() -> None:
    with pytest.raises(RuntimeError, match="no room"):
        Decoder(config({}, {})).feed(encode_failure(MemoryError("no room")))


def test_a_difference_that_is_not_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="not whole"):
        Decoder(config({}, {})).finish()


ROOT = Path(__file__).parents[3]
WHOLE = [
    ROOT / "config/bgpbfd.toml",
    *sorted((ROOT / "examples").glob("*/bgpbfd.toml")),
    *sorted(Path(__file__).parent.glob("data/*.toml")),
]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_whole_configurations_cross(path: Path) -> None:
    bare, whole = config({}, {}), load(path)
    assert across(bare, whole).config == whole
    assert across(whole, bare).config == bare
    assert across(whole, whole).config == whole


POLICIES = """
[policies.stays]
default = "accept"
terms = [{ match = { as_path = ["^65001 .* 65002$"], prefixes = ["10.0.0.0/8 le 24"] }, action = "reject" }]
[policies.other]
default = "reject"
terms = [{ match = { communities = ["65000:1"], not = { source = "peer" } }, set = { local_pref = %d } }]
"""


def test_policies_cross_and_those_that_stay_are_the_same_objects() -> None:
    top = 'router_id = "192.0.2.1"\ndefault_as = 65010\n'
    old, new = loads(top + POLICIES % 1), loads(top + POLICIES % 2)
    found = across(old, new).config
    assert found == new
    assert found.policies["stays"] is old.policies["stays"]
    assert found.policies["other"] == new.policies["other"] != old.policies["other"]
    assert list(across(loads(top), old).config.policies.items()) == list(old.policies.items())
