"""Files, forms and defaults of the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.config import files
from bgpbfd.config.load import ConfigError, Fault, load, loads, parse_route
from bgpbfd.config.model import BfdSettings, Config, Listen, Secret, UnixListen
from bgpbfd.config.names import peer_id
from bgpbfd.config.routes import parse_prefix
from bgpbfd.config.validate import find_peer, match_dynamic
from bgpbfd.core import IPV4_UNICAST, IPV6_FLOW, IPV6_UNICAST, Prefix
from bgpbfd.wire.attributes import PathAttributes, Segment

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parents[3] / "config"
HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
PEER = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n'


def faults_of(path: Path) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.faults


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# -- forms and defaults ------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_documentation() -> None:
    config = loads(HEAD + PEER)
    assert config.bgp_socket == (Listen("::", 179),)
    assert config.api_socket == (UnixListen("/run/bgpbfd/api.sock"),)
    assert config.poll_interval == 5.0
    assert config.bfd.bind == ("0.0.0.0", "::")
    assert (config.log.level, config.log.format, config.api.unix_mode) == ({"default": "info"}, "text", 0o660)
    peer = config.peers[0]
    assert (peer.id, peer.local_as, peer.local_router_id) == ("192.0.2.1", 65010, "192.0.2.10")
    assert (peer.hold_timer, peer.dest_port, peer.enabled, peer.passive) == (180, 179, True, False)
    assert peer.families == (IPV4_UNICAST, IPV6_UNICAST)
    assert peer.advertise_sources == ("api", "config", "service")
    assert peer.bfd is None
    assert peer.router_id_number == 0xC000020A


def test_bfd_forms() -> None:
    profile = "[bfd.profiles.fast]\ntransmit_interval_ms = 50\nreceive_interval_ms = 60\npassive = true\n"

    def bfd(value: str) -> BfdSettings | None:
        return loads(f"{HEAD}{profile}{PEER}bfd = {value}\n").peers[0].bfd

    fast = BfdSettings(profile="fast", transmit_interval_ms=50, receive_interval_ms=60, passive=True)
    assert bfd("true") == BfdSettings()
    assert bfd("false") is None
    assert bfd('"fast"') == fast
    assert bfd('{ profile = "fast", mode = "track" }') == fast
    overridden = bfd('{ profile = "fast", detect_multiplier = 5, passive = false }')
    assert overridden == msgspec.structs.replace(fast, detect_multiplier=5, passive=False)


def test_strings_or_lists_are_tuples() -> None:
    config = loads(f'bgp_socket = ["[::1]:1179", "127.0.0.1:1179", "[::1]:1179"]\napi_socket = []\n{HEAD}')
    assert config.bgp_socket == (Listen("::1", 1179), Listen("127.0.0.1", 1179))
    assert config.api_socket == ()


def test_log_level_forms() -> None:
    assert loads(f'{HEAD}log.level = "debug"\n').log.level == {"default": "debug"}
    assert loads(f'{HEAD}log.level = {{ bfd = "debug" }}\n').log.level == {"default": "info", "bfd": "debug"}


def test_ipv4_wildcard_beside_the_ipv6_one_is_left_out_with_a_warning() -> None:
    config = loads(f'bgp_socket = ["[::]:179", "0.0.0.0:179"]\n{HEAD}')
    assert config.bgp_socket == (Listen("::", 179),)
    assert "0.0.0.0:179" in config.warnings[0]


def test_route_keys_become_attributes() -> None:
    config = loads(
        f'{HEAD}{PEER}[[peers.static_routes]]\nprefix = "203.0.113.0/24"\nnext_hop = "192.0.2.7"\norigin = "egp"\n'
        'as_path = ["65000", "500"]\nlocal_pref = 100\nmulti_exit_disc = 50\n'
        'communities = ["65000:99", "no-export", "65000:1:2", "rt:65000:1"]\n'
    )
    route = config.peers[0].static_routes[0]
    assert route.prefix == Prefix(1, bytes((24, 203, 0, 113)))
    assert route.attributes == PathAttributes(
        origin=1,
        as_path=(Segment(2, (65000, 500)),),
        next_hop=bytes((192, 0, 2, 7)),
        med=50,
        local_pref=100,
        communities=(65000 << 16 | 99, 0xFFFFFF01),
        extended_communities=(bytes.fromhex("0002fde800000001"),),
        large_communities=((65000, 1, 2),),
    )


def test_equal_attributes_are_one_object() -> None:
    routes = "".join(f'[[static_routes]]\nprefix = "203.0.{i}.0/24"\nlocal_pref = 7\n' for i in range(3))
    shared = {id(route.attributes) for route in loads(HEAD + routes).static_routes}
    assert len(shared) == 1


def test_parse_route_takes_an_api_request() -> None:
    route = parse_route({"prefix": "203.0.113.0/24", "next_hop": "self", "multi_exit_disc": 5})
    assert (str(route.prefix), route.next_hop, route.attributes.med) == ("203.0.113.0/24", "self", 5)
    with pytest.raises(ConfigError) as caught:
        parse_route({"prefix": "203.0.113.0/24", "next_hop": "2001:db8::1", "med": 1, "routes_file": "/etc/passwd"})
    assert {fault.path for fault in caught.value.faults} == {"route.next_hop", "route.med", "route.routes_file"}


# -- other people's files ----------------------------------------------------------------------------------


def test_bgpd_rs_readme_file_loads_unchanged() -> None:
    config = load(DATA / "bgpd-rs-readme.toml")
    first, second, third = config.peers
    assert (first.hold_timer, first.passive, len(first.static_routes)) == (90, True, 3)
    attributes = first.static_routes[2].attributes
    assert attributes.as_path == (Segment(2, (65000, 500)),)
    assert attributes.communities == (101, 202, 65000 << 16 | 99)
    assert (second.local_router_id, second.enabled, second.local_as) == ("1.1.1.2", False, 65000)
    assert third.dynamic
    assert third.passive


def test_bgpd_rs_api_for_everybody_is_served_on_loopback_with_a_warning() -> None:
    config = load(DATA / "bgpd-rs-readme.toml")
    assert config.api_socket == (Listen("::1", 8080), Listen("127.0.0.1", 8080))
    assert "token_file" in config.warnings[0]


def test_bgpd_rs_code_file_loads_unchanged() -> None:
    config = load(DATA / "bgpd-rs-code.toml")
    (peer,) = config.peers
    assert (peer.local_router_id, peer.dest_port, peer.remote_as) == ("192.0.2.11", 1179, 4200000001)
    assert peer.advertise_sources == ("api", "config", "peer")
    assert config.poll_interval == 30.0
    (warning,) = config.warnings
    assert "RFC 8212" in warning
    assert peer.static_routes[0].attributes.as_path == (Segment(2, (65546, 65001)),)


def test_bgpd_rs_readme_file_with_flows_loads_unchanged() -> None:
    (peer,) = load(DATA / "bgpd-rs-flows.toml").peers
    (flow,) = peer.static_flows
    assert peer.families == (IPV4_UNICAST, IPV6_FLOW)
    assert flow.prefix.family == IPV6_FLOW
    # RFC 8956 §3.1, RFC 8955 §4.2: source with offset 0; >8000 and <=8080 of two octets; >100 of one
    assert flow.prefix.nlri == bytes.fromhex("14 02 38 00 30010100000000 05 12 1f40 d5 1f90 0a 82 64")
    assert flow.attributes.extended_communities == (bytes.fromhex("8006000046bb8000"),)  # RFC 8955 §7.1, 24000.0
    assert flow.attributes.as_path == (Segment(2, (65000, 500)),)
    assert flow.attributes.communities == (101, 202, 65000 << 16 | 99)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_annotated_example_loads_without_a_warning(path: Path) -> None:
    config = load(path)
    assert config.warnings == ()
    assert config.peers


# -- files -------------------------------------------------------------------------------------------------


def test_toml_syntax_error_has_line_and_column(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path / "a.toml", 'router_id = "1.1.1.1"\ndefault_as = = 1\n'))
    assert (fault.line, fault.column, fault.file) == (2, 14, str(tmp_path / "a.toml"))
    assert str(fault).startswith(f"{tmp_path}/a.toml:2:14: TOML: ")


def test_files_that_cannot_be_had_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such file" in faults_of(tmp_path / "none.toml")[0].reason
    assert "directory" in faults_of(tmp_path)[0].reason
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'a = 1\ndescription = "caf\xe9"\n')
    assert "not UTF-8" in faults_of(latin)[0].reason
    assert "line 2" in faults_of(latin)[0].reason
    assert "regular" in faults_of(Path("/dev/zero"))[0].reason
    assert "no file can have" in faults_of(Path("a\0b"))[0].reason
    monkeypatch.setattr(files, "MAX_FILE", 10)
    assert "larger" in faults_of(write(tmp_path / "big.toml", "a = 1\n" * 3))[0].reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", HEAD)
    path.chmod(0)
    assert "Permission" in faults_of(path)[0].reason


def test_include_appends_lists_and_places_faults_in_their_file(tmp_path: Path) -> None:
    main = write(tmp_path / "main.toml", f'include = ["conf.d/*.toml"]\n{HEAD}{PEER}')
    write(tmp_path / "conf.d" / "a.toml", '[[peers]]\nremote_ip = "192.0.2.2"\nremote_as = 2\n')
    other = write(tmp_path / "conf.d" / "b.toml", '\n[[peers]]\nremote_ip = "192.0.2.3"\nremote_as = 3\n')
    config = load(main)
    assert [peer.id for peer in config.peers] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert len(config.files) == 3
    write(other, "\n[[peers]]\nremote_ip = '192.0.2.1'\nremote_as = 3\nhold_timer = 1\n")
    assert [(fault.path, fault.file, fault.line) for fault in faults_of(main)] == [
        ("peers[0].remote_ip", str(other), 3),
        ("peers[0].hold_timer", str(other), 5),
    ]


def test_scalar_set_in_two_files_is_a_fault_that_names_both(tmp_path: Path) -> None:
    main = write(tmp_path / "main.toml", f'include = "other.toml"\n{HEAD}[log]\nformat = "text"\n')
    other = write(tmp_path / "other.toml", '[log]\nformat = "json"\nlevel = "debug"\n')
    (fault,) = faults_of(main)
    assert fault.path == "log.format"
    assert str(main) in fault.reason
    assert str(other) in fault.reason


def test_include_of_a_missing_file_and_of_itself(tmp_path: Path) -> None:
    assert "No such file" in faults_of(write(tmp_path / "a.toml", f'include = ["b.toml"]\n{HEAD}'))[0].reason
    assert load(write(tmp_path / "c.toml", f'include = ["c.toml", "x*.toml"]\n{HEAD}')).peers == ()


def test_routes_file_takes_a_prefix_a_line_in_both_places(tmp_path: Path) -> None:
    write(tmp_path / "p.txt", "# ours\n203.0.113.0/24\n\n  2001:db8::/32 # v6\n198.51.100.7\r\n")
    keys = 'routes_file = "p.txt"\nlocal_pref = 7\n'
    config = load(write(tmp_path / "a.toml", f"{HEAD}{PEER}[[peers.static_routes]]\n{keys}[[static_routes]]\n{keys}"))
    assert [str(route.prefix) for route in config.static_routes] == [
        "203.0.113.0/24",
        "2001:db8::/32",
        "198.51.100.7/32",
    ]
    assert config.peers[0].static_routes == config.static_routes
    assert {route.attributes.local_pref for route in config.static_routes} == {7}


def test_routes_file_faults_name_file_and_line(tmp_path: Path) -> None:
    listed = write(tmp_path / "p.txt", "203.0.113.0/24\nnonsense\n203.0.113.1/24\n203.0.113.0/24\n")
    path = write(tmp_path / "a.toml", f'{HEAD}[[static_routes]]\nroutes_file = "p.txt"\n')
    found = faults_of(path)
    assert [(fault.file, fault.line) for fault in found] == [(str(listed), line) for line in (2, 3, 4)]
    assert f"{listed}:1" in found[2].reason
    listed.unlink()
    assert "No such file" in faults_of(path)[0].reason


def test_a_wrong_routes_file_does_not_drown_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "p.txt", "x\n" * 5000)
    found = faults_of(write(tmp_path / "a.toml", f'{HEAD}[[static_routes]]\nroutes_file = "p.txt"\n'))
    assert len(found) == 101
    assert any("4900 more lines" in fault.reason for fault in found)


# -- lookups -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.1/32", "192.0.2.1"),
    ],
)
def test_peer_id_is_canonical(text: str, identity: str) -> None:
    assert peer_id(text) == identity


def test_dynamic_neighbor_belongs_to_the_longest_prefix() -> None:
    networks = ("10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32")
    config = loads(HEAD + "".join(f'[[peers]]\nremote_ip = "{n}"\nremote_as = 1\n' for n in networks))

    def network(address: str) -> str | None:
        peer = match_dynamic(config, address)
        return None if peer is None else peer.id

    assert network("10.1.2.3") == "10.1.0.0/16"
    assert network("::ffff:10.2.0.1") == "10.0.0.0/8"
    assert network("2001:db8::5") == "2001:db8::/32"
    assert network("192.0.2.1") is None


def test_find_peer_by_any_spelling_or_description() -> None:
    config = loads(
        f'{HEAD}{PEER}description = "tor"\n[[peers]]\nremote_ip = "192.0.2.2"\nremote_as = 1\ndescription = "tor"\n'
    )
    assert find_peer(config, "::ffff:192.0.2.2").id == "192.0.2.2"
    with pytest.raises(ValueError, match=r"192\.0\.2\.1, 192\.0\.2\.2"):
        find_peer(config, "tor")
    with pytest.raises(ValueError, match="did you mean 'tor'"):
        find_peer(config, "tro")


# -- secrets -----------------------------------------------------------------------------------------------

PLANTED = "hunter2-sesame"


@pytest.mark.parametrize(
    "line",
    [
        f'md5_password = "{PLANTED * 6}"',
        f'md5_password = ["{PLANTED}"]',
        f'md5_password = "{PLANTED}"\nmd5_password_file = "/nonexistent"',
        f'tcp_ao = "{PLANTED}"',
        f'md5_pasword = "{PLANTED}"',
        f'md5_password = {{ text = "{PLANTED}" }}',
        f'hold_timer = "{PLANTED}"',
        f'bfd = {{ auth = {{ type = "simple", key_id = 1, key = "{PLANTED * 2}" }} }}',
        f'bfd = {{ auth = {{ type = "simple", key_id = 1, key = "0x{PLANTED}" }} }}',
        f'bfd = {{ auth = {{ type = "simple", key_id = "{PLANTED}", key = ["{PLANTED}"] }} }}',
        f'bfd = {{ auth = {{ type = "none", key = "{PLANTED}" }} }}',
        f'bfd = {{ auth = {{ type = "simple", key_id = 1, key = "{PLANTED}", key_file = "/nonexistent" }} }}',
        f'bfd = {{ auth = "{PLANTED}" }}',
        f'bfd = {{ auth = ["{PLANTED}"] }}',
        f'bfd = {{ auht = {{ key = "{PLANTED}" }} }}',
        f'md5_password = "{PLANTED}" x',
        f'md5_password = "{PLANTED}',
    ],
)
def test_a_secret_is_in_no_fault(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(f"{HEAD}{PEER}{line}\n")
    assert PLANTED not in str(caught.value)
    assert PLANTED not in repr(caught.value.faults)


def test_a_secret_does_not_print() -> None:
    secret = Secret(PLANTED)
    assert PLANTED not in f"{secret} {secret!r} {secret:>40}"
    assert secret.reveal() == PLANTED
    assert secret == Secret(PLANTED)
    assert secret != Secret("other")


# -- anything ----------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        *("router_id", "default_as", "bgp_socket", "api_socket", "poll_interval", "include", "peers", "bfd", "log"),
        *("api", "level", "format", "bind", "profiles", "fast", "static_routes", "remote_ip", "remote_as", "prefix"),
        *("next_hop", "as_path", "communities", "families", "interface", "local_ip", "description", "hold_timer"),
        *("profile", "mode", "services", "routes_file", "unix_mode", "graceful_restart", "local_router_id", "origin"),
        *("md5_password", "md5_password_file", "ttl_security", "multihop", "add_path", "max_prefixes", "limit", "role"),
        *("role_strict", "cluster_id", "max_neighbors", "route_reflector_client", "restart_time", "import_policy"),
        *("policies", "default", "terms", "match", "prefixes", "set", "add", "prepend", "action", "tcp_ao"),
        *("sessions", "unsolicited", "peer", "local", "networks", "max_sessions", "demand", "echo", "minimum_ttl"),
        *(
            "auth",
            "type",
            "key_id",
            "key",
            "key_file",
            "strict_hold_time",
            "damping",
            "hooks",
            "on",
            "command",
            "timeout",
        ),
    ]
)
LEAVES = st.one_of(
    st.sampled_from(
        [
            *("192.0.2.1", "192.0.2.0/24", "fe80::1", "fe80::1%eth0", "::", "self", "[::]:179", "unix:/x", "fast"),
            *("igp", "65000:1", "rt:1:2", "ipv4 unicast", "info", "config", "track", "0660", "1.1", "::1/64", "*"),
            *("keyed-sha1", "none", "0x00ff", "0x0", "bfd-down", "service-up", "/bin/sh", "fe80::/10", "strict"),
        ]
    ),
    st.text(max_size=12),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 3, 65000, 23456]),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.times(),
    st.datetimes(),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
PEER_TABLES = st.lists(st.dictionaries(KEYS, VALUES, max_size=8), max_size=3)


BFD_TABLES = st.dictionaries(
    KEYS,
    VALUES
    | st.lists(st.dictionaries(KEYS, VALUES, max_size=6).map(lambda keys: {"peer": "192.0.2.9"} | keys), max_size=3),
    max_size=4,
)
HOOK_TABLES = st.lists(st.dictionaries(KEYS, VALUES | st.lists(LEAVES, max_size=3), max_size=4), max_size=2)


def outcome_of_loads() -> list[Fault] | Config:
    try:
        return loads("", base=Path("/nonexistent"))
    except ConfigError as error:
        return error.faults


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(KEYS | st.text(max_size=5), VALUES, max_size=8), PEER_TABLES, BFD_TABLES, HOOK_TABLES, st.booleans()
)
def test_no_table_raises_anything_but_config_error(
    raw: dict[str, object],
    peers: list[dict[str, object]],
    bfd: dict[str, object],
    hooks: list[dict[str, object]],
    with_head: bool,
) -> None:
    if with_head:
        raw |= {"bfd": bfd, "hooks": hooks}
        raw |= {"router_id": "192.0.2.10", "default_as": 65010}
        raw["peers"] = [{"remote_ip": f"192.0.2.{i}", "remote_as": 1} | peer for i, peer in enumerate(peers, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomli, "loads", lambda _text: raw)
        outcome = outcome_of_loads()
    assert outcome


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="[]{}=\"'\\\n.,#a1", max_size=60))
def test_no_text_raises_anything_but_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        loads(text)


def test_deep_nesting_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="TOML"):
        loads("a = " + "[" * 100_000)
    with pytest.raises(ConfigError):
        loads("a = " + "9" * 10_000)


@given(st.ip_addresses(), st.integers(0, 128))
def test_parse_prefix_agrees_with_the_slow_way(address: object, length: int) -> None:
    text = f"{address}/{length}"
    try:
        expected: Prefix | None = Prefix.parse(text)
    except ValueError:
        expected = None
    try:
        got: Prefix | None = parse_prefix(text)
    except ValueError:
        got = None
    assert got == expected
