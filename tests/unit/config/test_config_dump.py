"""The configuration in force as plain values: in the words of the file, so that it can be read again."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.config.dump import MASKED, dump_config
from bgpbfd.config.load import load, loads
from bgpbfd.config.model import Config, Secret

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parents[3] / "config"
HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
PEER = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n'


def again(config: Config) -> Config:
    """What its dump, by way of JSON, is read as."""
    plain = json.loads(json.dumps(dump_config(config)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomli, "loads", lambda _text: plain)
        return loads("")


def same(config: Config, other: Config) -> bool:
    """Beyond what a load tells about itself, and what a dump masks."""
    return comparable(config) == comparable(other)


def comparable(config: Config) -> Config:
    replace = msgspec.structs.replace
    peers = (replace(peer, md5_password=None if peer.md5_password is None else Secret(MASKED)) for peer in config.peers)
    return replace(config, warnings=(), files=(), peers=tuple(peers))


@pytest.mark.parametrize(
    "path", [*sorted(EXAMPLES.glob("*.toml")), *sorted(DATA.glob("*.toml"))], ids=lambda path: path.name
)
def test_dump_of_a_file_is_read_as_the_same(path: Path) -> None:
    config = load(path)
    assert same(again(config), config)


@pytest.mark.parametrize(
    "text",
    [
        f"bgp_socket = []\napi_socket = []\nbfd.bind = []\n{HEAD}{PEER}",
        f"{HEAD}{PEER}advertise_sources = []\n",
        f'{HEAD}[[peers]]\nremote_ip = "fe80::1%eth0"\nremote_as = 65001\nbfd = true\n',
        f'{HEAD}[bfd.profiles.fast]\npassive = true\n{PEER}bfd = "fast"\n',
        f"{HEAD}{PEER}graceful_restart = {{ on_stop = 'retain' }}\n",
        f"{HEAD}{PEER}max_prefixes = {{ limit = 7, warning = 5, restart_time = 0 }}\n",
        f'{HEAD}{PEER}role = "rs-client"\n',
        f'{HEAD}{PEER}export_policy = "a b"\n[policies."a b"]\n'
        'terms = [{ match = { prefixes = ["10.0.0.0/8 le 24"] }, action = "reject" }, { prepend = 2 }]\n',
        f"cluster_id = 1\n{HEAD}{PEER}multihop = 3\nadd_path = 'send'\nextended_next_hop = true\n"
        '[[peers.static_routes]]\nprefix = "203.0.113.0/24"\nnext_hop = "2001:db8::1"\n',
        f'{HEAD}[[peers]]\nremote_ip = "192.0.2.0/24"\nremote_as = 65001\nmax_neighbors = 5\n',
    ],
)
def test_dump_is_read_as_the_same(text: str) -> None:
    config = loads(text)
    assert same(again(config), config)


def one_of(key: str, *values: object) -> st.SearchStrategy[dict[str, object]]:
    return st.sampled_from([{}, *({key: value} for value in values)])


KEYS = (
    one_of("enabled", True, False),
    one_of("ttl_security", 1, 254, False),
    one_of("add_path", "off", "both"),
    one_of("graceful_restart", True, False, {"restart_time": 5}, {"enabled": False, "on_stop": "retain"}),
    one_of("max_prefixes", 5, {"limit": 5, "warning": 9}, {"limit": 5, "restart_time": 0}),
    one_of("role", "rs-client", "peer"),
    one_of("enforce_first_as", True, False),
    one_of("graceful_shutdown", True),
    one_of("families", ["ipv4 unicast"], ["ipv6 flow", "ipv4 unicast"]),
    one_of("advertise_sources", [], ["peer"]),
    one_of("bfd", True, {"mode": "track", "detect_multiplier": 9}),
    one_of("static_routes", [{"prefix": "203.0.113.0/24"}], [{"prefix": "203.0.113.0/24", "local_pref": 5}]),
)


@settings(deadline=None)
@given(st.tuples(*KEYS))
def test_dump_of_any_peer_is_read_as_the_same(parts: tuple[dict[str, object], ...]) -> None:
    peer = {"remote_ip": "192.0.2.1", "remote_as": 1} | {key: value for part in parts for key, value in part.items()}
    raw = {"router_id": "192.0.2.10", "default_as": 65010, "peers": [peer]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomli, "loads", lambda _text: raw)
        config = loads("")
    assert same(again(config), config)


def test_secrets_are_masked(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sesame\n")
    secret.chmod(0o600)
    (tmp_path / "a.toml").write_text(
        f'{HEAD}{PEER}md5_password = "hunter2"\n{PEER.replace("192.0.2.1", "192.0.2.2")}md5_password_file = "secret"\n'
    )
    config = load(tmp_path / "a.toml")
    plain = dump_config(config)
    first, second = plain["peers"]  # type: ignore[misc]
    assert first["md5_password"] == "…"
    assert second["md5_password_file"] == "secret"
    assert "md5_password" not in second
    assert "hunter2" not in json.dumps(plain)
    assert "sesame" not in json.dumps(plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomli, "loads", lambda _text: plain)
        read = loads("", base=tmp_path)
    assert read.peers[1] == config.peers[1]


def test_what_is_told_about_a_load_is_no_part_of_it() -> None:
    config = loads(f'bgp_socket = ["[::]:179", "0.0.0.0:179"]\n{HEAD}')
    assert config.warnings
    assert config.files
    assert not {"warnings", "files"} & set(dump_config(config))
