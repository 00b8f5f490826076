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
    masked = with_masked_secrets(msgspec.structs.replace(config, warnings=(), files=()))
    assert isinstance(masked, Config)
    return masked


def with_masked_secrets(value: object) -> object:
    match value:
        case Secret():
            return Secret(MASKED)
        case msgspec.Struct():
            parts = {name: with_masked_secrets(getattr(value, name)) for name in value.__struct_fields__}
            return msgspec.structs.replace(value, **parts)
        case tuple():
            return tuple(with_masked_secrets(item) for item in value)
        case dict():
            return {key: with_masked_secrets(item) for key, item in value.items()}
        case _:
            return value


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
        f"{HEAD}{PEER}multihop = 3\nbfd = true\n",
        f"{HEAD}{PEER}multihop = 3\nbfd = {{ multihop = false }}\n",
        f'{HEAD}{PEER}bfd = {{ auth = {{ type = "met-keyed-md5", key_id = 0, key = "0x00ff" }} }}\n',
        # the profile's key is not meant for this one
        f'{HEAD}{PEER}bfd = {{ profile = "p", auth = {{ type = "none" }} }}\n'
        '[bfd.profiles.p]\nauth = { type = "simple", key_id = 1, key = "k" }\n',
        f'{HEAD}[[bfd.sessions]]\npeer = "fe80::1%eth0"\nlocal = "fe80::2"\ndescription = "x"\nprofile = "p"\n'
        "[bfd.profiles.p]\nstrict_hold_time = 5\n",
        f'{HEAD}[[bfd.sessions]]\npeer = "2001:db8::1"\nmultihop = true\nminimum_ttl = 7\n',
        f'{HEAD}[bfd.unsolicited]\nnetworks = ["192.0.2.0/24", "fe80::/10"]\nprofile = "p"\nmax_sessions = 5\n'
        "[bfd.profiles.p]\ndemand = true\n",
        f'{HEAD}[[hooks]]\non = "bgp-up"\ncommand = ["a", ""]\ntimeout = 1\n',
    ],
)
def test_dump_is_read_as_the_same(text: str) -> None:
    config = loads(text)
    assert same(again(config), config)


def one_of(key: str, *values: object) -> st.SearchStrategy[dict[str, object]]:
    return st.sampled_from([{}, *({key: value} for value in values)])


def all_of(*parts: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[dict[str, object]]:
    return st.tuples(*parts).map(lambda drawn: {key: value for part in drawn for key, value in part.items()})


AUTH_KEY = {"type": "keyed-sha1", "key_id": 1, "key": "hunter2"}
HOPS: st.SearchStrategy[dict[str, object]] = st.sampled_from(
    [
        *({}, {"echo": True}, {"echo": False}),
        *({"multihop": False}, {"multihop": True}, {"multihop": True, "minimum_ttl": 7}),
    ]
)
BFD_KEYS = (
    one_of("transmit_interval_ms", 10, 60000),
    one_of("passive", True, False),
    one_of("demand", True, False),
    HOPS,
    one_of("echo_receive_interval_ms", 10, 300),
    one_of("shutdown", True),
    one_of("control_plane_independent", True),
    one_of("auth", [], {"type": "none"}, AUTH_KEY, [AUTH_KEY | {"type": "simple"}, AUTH_KEY | {"key_id": 0}]),
)
PROFILE = all_of(
    *(part for part in BFD_KEYS if part is not HOPS),
    one_of("strict_hold_time", 1, 600),
    one_of("damping", True, False),
)
SESSION = all_of(
    *BFD_KEYS,
    one_of("profile", "p"),
    one_of("description", "x"),
    one_of("local", "2001:db8::1"),
    one_of("interface", "eth0"),
)

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
    one_of("bfd", "p", True, {"mode": "track", "detect_multiplier": 9})
    | all_of(*BFD_KEYS, one_of("mode", "strict"), one_of("profile", "p")).map(lambda keys: {"bfd": keys}),
    one_of("static_routes", [{"prefix": "203.0.113.0/24"}], [{"prefix": "203.0.113.0/24", "local_pref": 5}]),
)


def of_raw(raw: dict[str, object]) -> Config:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomli, "loads", lambda _text: {"router_id": "192.0.2.10", "default_as": 65010} | raw)
        return loads("")


@settings(deadline=None)
@given(all_of(*KEYS), PROFILE)
def test_dump_of_any_peer_is_read_as_the_same(keys: dict[str, object], profile: dict[str, object]) -> None:
    peer = {"remote_ip": "192.0.2.1", "remote_as": 1} | keys
    bfd = keys.get("bfd")
    if keys.get("ttl_security") == 254 and isinstance(bfd, dict) and bfd.get("echo"):
        peer["bfd"] = bfd | {"multihop": False}  # RFC 5883 §3: echo is for single hop
    config = of_raw({"peers": [peer], "bfd": {"profiles": {"p": profile}}})
    assert same(again(config), config)


@settings(deadline=None)
@given(SESSION, SESSION, PROFILE)
def test_dump_of_any_bfd_session_is_read_as_the_same(
    first: dict[str, object], second: dict[str, object], profile: dict[str, object]
) -> None:
    sessions = [{"peer": "2001:db8::2"} | first, {"peer": "2001:db8::3"} | second]
    unsolicited = {"networks": ["2001:db8::/64"], "profile": "p"}
    config = of_raw({"bfd": {"sessions": sessions, "profiles": {"p": profile}, "unsolicited": unsolicited}})
    read = again(config)
    assert same(read, config)
    assert "hunter2" not in json.dumps(dump_config(config))


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


def test_keys_of_bfd_are_masked_and_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "a.toml").write_text(
        f'{HEAD}{PEER}bfd = "p"\n[[bfd.sessions]]\npeer = "192.0.2.9"\nauth = {{ type = "simple", key_id = 7, '
        'key = "hunter2" }\n[bfd.profiles.p]\nauth = { type = "keyed-md5", key_id = 8, key_file = "secret" }\n'
    )
    config = load(tmp_path / "a.toml")
    plain = dump_config(config)
    (session,) = plain["bfd"]["sessions"]  # type: ignore[index]
    assert session["auth"] == [{"type": "simple", "key_id": 7, "key": "…"}]
    of_file = [{"type": "keyed-md5", "key_id": 8, "key_file": "secret"}]
    assert plain["bfd"]["profiles"]["p"]["auth"] == of_file  # type: ignore[index]
    assert plain["peers"][0]["bfd"]["auth"] == of_file  # type: ignore[index]
    assert "hunter2" not in json.dumps(plain)
    assert "sesame" not in json.dumps(plain)


def test_what_is_told_about_a_load_is_no_part_of_it() -> None:
    config = loads(f'bgp_socket = ["[::]:179", "0.0.0.0:179"]\n{HEAD}')
    assert config.warnings
    assert config.files
    assert not {"warnings", "files"} & set(dump_config(config))
