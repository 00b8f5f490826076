"""Keys of a neighbor's session: passwords, TTL, capabilities, limits, roles, reflection, names of policies."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from bgpbfd.config import support
from bgpbfd.config.load import ConfigError, load, loads, parse_route
from bgpbfd.config.model import Config, GracefulRestart, MaxPrefixes, PeerConfig, Secret

HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
PEER = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n'
INTERNAL = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65010\n'
NETWORK = '[[peers]]\nremote_ip = "192.0.2.0/24"\nremote_as = 65001\n'


def peer(line: str, table: str = PEER) -> PeerConfig:
    (found,) = loads(f"{HEAD}{table}{line}\n").peers
    return found


def faults(text: str, base: Path | None = None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "f.toml", base)
    return {fault.path: fault.reason for fault in caught.value.faults}


def only(text: str, path: str, base: Path | None = None) -> str:
    found = faults(text, base)
    assert list(found) == [path]
    return found[path]


def test_defaults() -> None:
    plain = peer("")
    assert (plain.md5_password, plain.md5_password_file, plain.ttl_security, plain.multihop) == (None,) * 4
    assert (plain.extended_next_hop, plain.add_path, plain.graceful_restart.enabled) == (False, "off", False)
    assert (plain.max_prefixes, plain.max_neighbors, plain.import_policy, plain.export_policy) == (None,) * 4
    assert (plain.role, plain.role_strict, plain.enforce_first_as) == (None, False, True)
    assert (plain.route_reflector_client, plain.graceful_shutdown) == (False, False)
    assert loads(HEAD).cluster_id is None


TAKEN = [
    ("ttl_security = 1", "ttl_security", 1),
    ("ttl_security = 254", "ttl_security", 254),
    ("ttl_security = false", "ttl_security", None),
    ("multihop = 1", "multihop", 1),
    ("multihop = 255", "multihop", 255),
    ("multihop = false", "multihop", None),
    ("ttl_security = 1\nmultihop = false", "ttl_security", 1),
    ("extended_next_hop = true", "extended_next_hop", True),
    *((f'add_path = "{word}"', "add_path", word) for word in ("off", "receive", "send", "both")),
    ("graceful_restart = true", "graceful_restart", GracefulRestart(enabled=True)),
    ("graceful_restart = false", "graceful_restart", GracefulRestart()),
    ("graceful_restart = { restart_time = 1 }", "graceful_restart", GracefulRestart(enabled=True, restart_time=1)),
    (
        'graceful_restart = { enabled = false, restart_time = 4095, on_stop = "retain" }',
        "graceful_restart",
        GracefulRestart(enabled=False, restart_time=4095, on_stop="retain"),
    ),
    ("max_prefixes = 1", "max_prefixes", MaxPrefixes(limit=1)),
    ("max_prefixes = 4294967295", "max_prefixes", MaxPrefixes(limit=4294967295)),
    ("max_prefixes = { limit = 5 }", "max_prefixes", MaxPrefixes(limit=5, warning=80, restart_time=None)),
    (
        "max_prefixes = { limit = 5, warning = 100, restart_time = 0 }",
        "max_prefixes",
        MaxPrefixes(limit=5, warning=100, restart_time=0),
    ),
    ("max_prefixes = { limit = 5, warning = 1 }", "max_prefixes", MaxPrefixes(limit=5, warning=1)),
    *((f'role = "{word}"', "role", word) for word in ("provider", "rs", "rs-client", "customer", "peer")),
    ('role = "peer"\nrole_strict = true', "role_strict", True),
    ("enforce_first_as = false", "enforce_first_as", False),
    ("graceful_shutdown = true", "graceful_shutdown", True),
    # the kernel's TCP_MD5SIG_MAXKEYLEN, counted in octets
    (f'md5_password = "{"é" * 40}"', "md5_password", Secret("é" * 40)),
    ('md5_password = " "', "md5_password", Secret(" ")),
]


@pytest.mark.parametrize(("line", "key", "value"), TAKEN)
def test_key_is_taken(line: str, key: str, value: object) -> None:
    assert getattr(peer(line), key) == value


@pytest.mark.parametrize("count", [1, 1000])
def test_networks_take_max_neighbors(count: int) -> None:
    assert peer(f"max_neighbors = {count}", NETWORK).max_neighbors == count


def test_rfc4456_internal_peers_take_route_reflector_client() -> None:
    assert peer("route_reflector_client = true", INTERNAL).route_reflector_client


WRONG = [
    ("ttl_security = 0", "ttl_security", "from 1 to 254"),
    ("ttl_security = 255", "ttl_security", "from 1 to 254"),
    ("ttl_security = true", "ttl_security", "a number of hops from 1 to 254, or false, not a boolean"),
    ("multihop = 0", "multihop", "from 1 to 255"),
    ("multihop = 256", "multihop", "from 1 to 255"),
    ('multihop = "2"', "multihop", "a number of hops"),
    ("ttl_security = 1\nmultihop = 1", "multihop", "one of the two"),
    ('extended_next_hop = "yes"', "extended_next_hop", "true or false"),
    ('add_path = "recieve"', "add_path", "did you mean 'receive'?"),
    ("add_path = true", "add_path", "one of 'off', 'receive'"),
    ("graceful_restart = 120", "graceful_restart", "true, false or a table"),
    ("graceful_restart = { restart_time = 0 }", "graceful_restart.restart_time", "1 to 4095 s"),
    ("graceful_restart = { restart_time = 4096 }", "graceful_restart.restart_time", "1 to 4095 s"),
    ('graceful_restart = { on_stop = "retian" }', "graceful_restart.on_stop", "did you mean 'retain'?"),
    ("graceful_restart = { restrat_time = 5 }", "graceful_restart.restrat_time", "did you mean 'restart_time'?"),
    ("max_prefixes = 4294967296", "max_prefixes", "1 to 4294967295"),
    ("max_prefixes = true", "max_prefixes", "or a table with limit"),
    ("max_prefixes = {}", "max_prefixes.limit", "missing"),
    ("max_prefixes = { limit = 0 }", "max_prefixes.limit", "1 to 4294967295"),
    ("max_prefixes = { limit = 1, warning = 0 }", "max_prefixes.warning", "1 to 100 percent"),
    ("max_prefixes = { limit = 1, warning = 101 }", "max_prefixes.warning", "1 to 100 percent"),
    ("max_prefixes = { limit = 1, restart_time = -1 }", "max_prefixes.restart_time", "from 0"),
    ("max_prefixes = { limit = 1, restart = 5 }", "max_prefixes.restart", "did you mean 'restart_time'?"),
    ('role = "rs_client"', "role", "did you mean 'rs-client'?"),
    ("role = 1", "role", "one of 'provider'"),
    ("role_strict = true", "role_strict", "needs role"),
    ("enforce_first_as = 1", "enforce_first_as", "true or false"),
    ("graceful_shutdown = 1", "graceful_shutdown", "true or false"),
    ("max_neighbors = 5", "max_neighbors", "is for networks"),
    ("route_reflector_client = true", "route_reflector_client", "internal peers"),
    ("md5_pasword = 'x'", "md5_pasword", "did you mean 'md5_password'?"),
]


@pytest.mark.parametrize(("line", "key", "right"), WRONG)
def test_what_is_wrong_is_named_with_what_is_right(line: str, key: str, right: str) -> None:
    assert right in only(f"{HEAD}{PEER}{line}\n", f"peers[0].{key}")


@pytest.mark.parametrize("count", ["0", "1001", "true"])
def test_max_neighbors_of_a_network_has_bounds(count: str) -> None:
    assert "1 to 1000" in only(f"{HEAD}{NETWORK}max_neighbors = {count}\n", "peers[0].max_neighbors")


def test_rfc9234_4_1_roles_are_for_external_peers() -> None:
    reason = only(f'{HEAD}{INTERNAL}role = "peer"\nrole_strict = true\n', "peers[0].role")
    assert "external peers" in reason


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"default_as = 0\n{PEER}role = 'peer'\n", "default_as"),
        (f"default_as = 1\n{PEER}local_as = 0\nrole = 'peer'\n", "peers[0].local_as"),
        (f"default_as = 1\n{PEER.replace('65001', '0')}role = 'peer'\n", "peers[0].remote_as"),
        (f"default_as = 1\n{PEER.replace('65001', '0')}route_reflector_client = true\n", "peers[0].remote_as"),
        (f"{INTERNAL}route_reflector_client = true\n", "default_as"),
    ],
)
def test_a_wrong_as_number_makes_no_second_fault(text: str, wrong: str) -> None:
    assert list(faults(f'router_id = "192.0.2.10"\n{text}')) == [wrong]


@pytest.mark.parametrize(
    ("lines", "enforced"),
    [
        ('role = "rs-client"', False),
        ('role = "rs-client"\nenforce_first_as = true', True),
        ('role = "rs"', True),
        ('role = "customer"', True),
    ],
)
def test_rfc7947_2_2_2_1_a_route_server_need_not_be_first_in_the_path(lines: str, enforced: bool) -> None:
    assert peer(lines).enforce_first_as is enforced


# -- cluster_id --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [('"192.0.2.99"', "192.0.2.99"), ("1", "0.0.0.1"), ("4294967295", "255.255.255.255")],
)
def test_rfc4456_7_cluster_id_is_an_address_or_a_number(value: str, text: str) -> None:
    assert loads(f"cluster_id = {value}\n{HEAD}").cluster_id == text


@pytest.mark.parametrize("value", ["0", '"0.0.0.0"', "4294967296", "-1", '"x"', "true", "[]", "1.5"])
def test_rfc4456_7_cluster_id_that_is_none(value: str) -> None:
    assert "from 1" in only(f"cluster_id = {value}\n{HEAD}", "cluster_id")


# -- extended next hop -------------------------------------------------------------------------------------

IPV4_OVER_IPV6 = '[[{}]]\nprefix = "203.0.113.0/24"\nnext_hop = "2001:db8::1"\n'


def test_rfc8950_an_ipv4_route_takes_an_ipv6_next_hop_at_that_peer() -> None:
    route = IPV4_OVER_IPV6.format("peers.static_routes")
    (found,) = peer(f"extended_next_hop = true\n{route}").static_routes
    assert found.next_hop == "2001:db8::1"
    other = PEER.replace("192.0.2.1", "192.0.2.2")
    assert "extended_next_hop" in only(
        f"{HEAD}{PEER}extended_next_hop = true\n{other}{route}", "peers[1].static_routes[0].next_hop"
    )


def test_rfc8950_a_route_for_all_takes_it_if_one_peer_does() -> None:
    route = IPV4_OVER_IPV6.format("static_routes")
    config = loads(f"{HEAD}{PEER}extended_next_hop = true\n{route}")
    assert config.static_routes[0].next_hop == "2001:db8::1"


def test_rfc8950_an_ipv6_route_still_takes_no_ipv4_next_hop() -> None:
    route = '[[peers.static_routes]]\nprefix = "2001:db8::/32"\nnext_hop = "192.0.2.9"\n'
    assert "IPv6 next hop" in only(
        f"{HEAD}{PEER}extended_next_hop = true\n{route}", "peers[0].static_routes[0].next_hop"
    )


def test_rfc8950_a_requested_route_takes_it_where_the_caller_says_so() -> None:
    raw = {"prefix": "203.0.113.0/24", "next_hop": "2001:db8::1"}
    assert parse_route(raw, extended_next_hop=True).next_hop == "2001:db8::1"
    with pytest.raises(ConfigError):
        parse_route(raw)


# -- passwords ---------------------------------------------------------------------------------------------

PLANTED = "hunter2-sesame"


def password(path: Path) -> str | None:
    secret = load(path).peers[0].md5_password
    return None if secret is None else secret.reveal()


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)
    return path


@pytest.mark.parametrize("value", ['""', f'"{"x" * 81}"', f'"{"é" * 40}x"'])
def test_rfc2385_password_of_a_wrong_length_is_not_repeated(value: str) -> None:
    reason = only(f"{HEAD}{PEER}md5_password = {value}\n", "peers[0].md5_password")
    assert "1 to 80 octets" in reason
    assert "x" not in reason.replace("expected", "")
    assert "é" not in reason


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (PLANTED, PLANTED),
        (f"{PLANTED}\n", PLANTED),
        (f"{PLANTED}\r\n", PLANTED),
        (f" {PLANTED} \n", f" {PLANTED} "),
        (f"{PLANTED}\nmore\n", PLANTED),
        ("x" * 80, "x" * 80),
    ],
)
def test_md5_password_is_the_first_line_of_its_file(tmp_path: Path, text: str, inside: str) -> None:
    write(tmp_path / "secret", text)
    main = write(tmp_path / "main.toml", f'{HEAD}{PEER}md5_password_file = "secret"\n')
    assert password(main) == inside
    assert load(main).peers[0].md5_password_file == "secret"


@pytest.mark.parametrize("text", ["", "\n", "\nhunter2\n", "x" * 81, "é" * 41])
def test_md5_password_file_without_a_usable_first_line(tmp_path: Path, text: str) -> None:
    write(tmp_path / "secret", text)
    reason = only(f'{HEAD}{PEER}md5_password_file = "secret"\n', "peers[0].md5_password_file", tmp_path)
    assert str(tmp_path / "secret") in reason
    assert "1 to 80 octets" in reason
    assert "hunter2" not in reason
    assert "é" not in reason


def test_md5_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    line = f'{HEAD}{PEER}md5_password_file = "secret"\n'
    reason = only(line, "peers[0].md5_password_file", tmp_path)
    assert str(tmp_path / "secret") in reason
    assert "No such file" in reason
    (tmp_path / "secret").mkdir()
    assert "directory" in only(line, "peers[0].md5_password_file", tmp_path)
    (tmp_path / "secret").rmdir()
    (tmp_path / "secret").write_bytes(PLANTED.encode() + b"\xff")
    reason = only(line, "peers[0].md5_password_file", tmp_path)
    assert "not UTF-8" in reason
    assert PLANTED not in reason


@pytest.mark.parametrize("value", ["5", '""', '"a\\u0000b"'])
def test_md5_password_file_that_names_no_file(tmp_path: Path, value: str) -> None:
    only(f"{HEAD}{PEER}md5_password_file = {value}\n", "peers[0].md5_password_file", tmp_path)


def test_md5_password_and_its_file_exclude_each_other(tmp_path: Path) -> None:
    write(tmp_path / "secret", PLANTED)
    lines = f'md5_password = "{PLANTED}"\nmd5_password_file = "secret"\n'
    reason = only(f"{HEAD}{PEER}{lines}", "peers[0].md5_password_file", tmp_path)
    assert "one of the two" in reason
    assert PLANTED not in reason


def test_files_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    main = write(tmp_path / "main.toml", f'include = ["conf.d/*.toml"]\n{HEAD}')
    routes = '[[peers.static_routes]]\nroutes_file = "p.txt"\n'
    write(tmp_path / "conf.d" / "a.toml", f'{PEER}md5_password_file = "secret"\n{routes}')
    write(tmp_path / "secret", "wrong")
    write(tmp_path / "p.txt", "198.51.100.0/24\n")
    write(tmp_path / "conf.d" / "secret", PLANTED)
    write(tmp_path / "conf.d" / "p.txt", "203.0.113.0/24\n")
    assert password(main) == PLANTED
    assert [str(route.prefix) for route in load(main).peers[0].static_routes] == ["203.0.113.0/24"]


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_password_that_everybody_can_read_is_a_warning(tmp_path: Path, mode: int, told: bool) -> None:
    write(tmp_path / "secret", PLANTED, mode)
    config = load(write(tmp_path / "main.toml", f'{HEAD}{PEER}md5_password_file = "secret"\n'))
    assert len(config.warnings) == told
    for warning in config.warnings:
        assert warning.startswith("peers[0].md5_password_file: ")
        assert str(tmp_path / "secret") in warning
        assert PLANTED not in warning


def test_passwords_of_a_network_and_of_a_neighbor_in_it() -> None:
    config = loads(f'{HEAD}{PEER}md5_password = "a"\n{NETWORK}md5_password = "b"\n')
    assert [entry.md5_password for entry in config.peers] == [Secret("a"), Secret("b")]


@pytest.mark.parametrize(
    ("remote", "told"),
    [("10.9.0.7", True), ("10.9.0.0/28", True), ("10.9.1.7", False), ("10.8.0.0/15", False), ("2001:db8::7", False)],
)
def test_rfc2385_who_lies_in_a_network_with_a_password_needs_one(remote: str, told: bool) -> None:
    inner = f'[[peers]]\nremote_ip = "{remote}"\nremote_as = 65001\n'
    outer = '[[peers]]\nremote_ip = "10.9.0.0/24"\nremote_as = 65001\nmd5_password = "b"\n'
    warnings = loads(f"{HEAD}{inner}{outer}").warnings
    assert [warning.partition(":")[0] for warning in warnings] == ["peers[0].remote_ip"] * told
    assert loads(f'{HEAD}{inner}md5_password = "a"\n{outer}').warnings == ()


# -- TCP-AO ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_kernel", "words"),
    [(True, "is not supported yet"), (False, "this kernel has no TCP-AO (Linux 6.7 with CONFIG_TCP_AO)")],
)
@pytest.mark.parametrize("value", ["true", "{ key = 'hunter2' }", "[]"])
def test_rfc5925_tcp_ao_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str, in_kernel: bool, words: str
) -> None:
    monkeypatch.setattr(support, "kernel_has_tcp_ao", lambda: in_kernel)
    reason = only(f"{HEAD}{PEER}tcp_ao = {value}\n", "peers[0].tcp_ao")
    assert reason == f"{words}: use md5_password"


def test_rfc5925_tcp_ao_is_not_offered_as_a_key() -> None:
    assert "tcp_ao" not in only(f"{HEAD}{PEER}zzzzz = 1\n", "peers[0].zzzzz")


@pytest.mark.parametrize(
    ("number", "known"), [(errno.ENOPROTOOPT, False), (errno.ENOENT, True), (errno.EINVAL, True), (None, True)]
)
def test_rfc5925_kernel_is_asked_for_the_option(
    monkeypatch: pytest.MonkeyPatch, number: int | None, known: bool
) -> None:
    asked = []

    class Probe(socket.socket):
        def getsockopt(self, *args: int) -> bytes:  # type: ignore[override]
            asked.append(args[:2])
            if number is not None:
                raise OSError(number, "as the kernel says")
            return b""

    monkeypatch.setattr(support.socket, "socket", Probe)
    assert support.kernel_has_tcp_ao() is known
    assert asked == [(socket.IPPROTO_TCP, 40)]


# -- names of policies -------------------------------------------------------------------------------------

POLICY = """
[policies.no-defaults]
default = "accept"
terms = [ { match = { prefixes = ["0.0.0.0/0"] }, action = "reject" } ]
"""


@pytest.mark.parametrize("key", ["import_policy", "export_policy"])
def test_policy_is_used_by_name(key: str) -> None:
    config = loads(f'{HEAD}{PEER}{key} = "no-defaults"{POLICY}')
    assert getattr(config.peers[0], key) == "no-defaults"
    assert config.policies["no-defaults"].name == "no-defaults"
    assert config.warnings == ()


@pytest.mark.parametrize("key", ["import_policy", "export_policy"])
def test_unknown_policy_names_the_nearest(key: str) -> None:
    reason = only(f'{HEAD}{PEER}{key} = "no-default"{POLICY}', f"peers[0].{key}")
    assert reason == "no policy 'no-default' in policies; did you mean 'no-defaults'?"
    assert "none is defined" in only(f'{HEAD}{PEER}{key} = "x"\n', f"peers[0].{key}")
    assert "a string" in only(f"{HEAD}{PEER}{key} = true{POLICY}", f"peers[0].{key}")


def test_a_peer_is_not_to_blame_for_a_wrong_policy() -> None:
    text = f'{HEAD}{PEER}import_policy = "p"\n[policies.p]\ndefault = "acept"\n'
    assert "'accept'" in only(text, "policies.p.default")


def test_unused_policy_is_a_warning() -> None:
    (warning,) = loads(f"{HEAD}{PEER}{POLICY}").warnings
    assert warning == "policies.no-defaults: no peer uses it"


def test_rfc8212_export_policy_ends_the_warning() -> None:
    assert loads(f'{HEAD}{PEER}{TRANSIT}export_policy = "no-defaults"{POLICY}').warnings == ()
    assert len(loads(f'{HEAD}{PEER}{TRANSIT}import_policy = "no-defaults"{POLICY}').warnings) == 1


# -- warnings ----------------------------------------------------------------------------------------------

TRANSIT = 'advertise_sources = ["peer"]\n'


def test_rfc8212_passing_on_without_an_export_policy_is_a_warning() -> None:
    (warning,) = loads(f"{HEAD}{PEER}{TRANSIT}").warnings
    assert warning.startswith("peers[0].advertise_sources: ")
    assert "export_policy (RFC 8212)" in warning


@pytest.mark.parametrize("text", [f"{INTERNAL}{TRANSIT}", f'{PEER}advertise_sources = ["api"]\n', PEER])
def test_rfc8212_no_warning_where_it_does_not_apply(text: str) -> None:
    assert loads(HEAD + text).warnings == ()


def test_warning_names_the_file_that_it_is_about(tmp_path: Path) -> None:
    main = write(tmp_path / "main.toml", f'include = ["conf.d/*.toml"]\n{HEAD}{PEER}')
    other = write(tmp_path / "conf.d" / "a.toml", PEER.replace("192.0.2.1", "192.0.2.2") + TRANSIT)
    (warning,) = load(main).warnings
    assert warning.startswith(f"peers[0].advertise_sources in {other}: ")


def test_a_whole_file_of_it() -> None:
    config: Config = loads(
        f'cluster_id = 7\n{HEAD}{PEER}md5_password = "x"\nttl_security = 2\nadd_path = "both"\nrole = "customer"\n'
        f"{INTERNAL.replace('192.0.2.1', '192.0.2.2')}multihop = 10\nroute_reflector_client = true\n"
    )
    first, second = config.peers
    assert (first.ttl_security, first.role, second.multihop, config.cluster_id) == (2, "customer", 10, "0.0.0.7")
