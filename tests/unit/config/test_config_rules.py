"""Every rule of a configuration: the key that is named, and what is said to be right."""

from __future__ import annotations

import pytest

from bgpbfd.config.load import ConfigError, loads

HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
PEER = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n'


def faults(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "f.toml")
    return {fault.path: fault.reason for fault in caught.value.faults}


def only(text: str, path: str) -> str:
    found = faults(text)
    assert list(found) == [path]
    return found[path]


PEER_RULES = [
    # RFC 4271 §4.2: zero or at least three seconds
    ("hold_timer = 1", "hold_timer", "3 s"),
    ("hold_timer = 2", "hold_timer", "3 s"),
    ("hold_timer = 65536", "hold_timer", "65535"),
    ('hold_timer = "180"', "hold_timer", "an integer"),
    ("hold_timer = true", "hold_timer", "not a boolean"),
    ("local_as = 0", "local_as", "1 to 4294967295"),
    ("local_as = 4294967296", "local_as", "1 to 4294967295"),
    ("local_as = 23456", "local_as", "AS_TRANS"),
    ("local_as = true", "local_as", "AS number"),
    ('local_router_id = "0.0.0.0"', "local_router_id", "not 0.0.0.0"),
    ('router_id = "300.1.1.1"', "router_id", "router id"),
    ('local_router_id = "1.1.1.1"\nrouter_id = "1.1.1.2"', "router_id", "one of the two"),
    ('local_ip = "2001:db8::1"', "local_ip", "one family"),
    ('local_ip = "192.0.2.1"', "local_ip", "neighbor's own"),
    ('local_ip = "224.0.0.1"', "local_ip", "no host's address"),
    ("dest_port = 0", "dest_port", "1 to 65535"),
    ('families = ["ipv4 multicast"]', "families[0]", "'ipv4 unicast'"),
    ("families = []", "families", "at least one"),
    ('advertise_sources = ["apii"]', "advertise_sources[0]", "'api'"),
    ('interface = "a/b"', "interface", "1 to 15 characters"),
    ("max_prefixes = 0", "max_prefixes", "1 to"),
    ('description = "a\\u001b[2J"', "description", "control characters"),
    ('description = " "', "description", "not empty"),
    ("enabled = 1", "enabled", "true or false"),
    ('bfd = "fast"', "bfd", "none is defined"),
    ("bfd = 3", "bfd", "true, a profile's name or a table"),
    ("bfd = { detect_multiplier = 0 }", "bfd.detect_multiplier", "1 to 255"),
    ("bfd = { detect_multiplier = 256 }", "bfd.detect_multiplier", "1 to 255"),
    ("bfd = { transmit_interval_ms = 9 }", "bfd.transmit_interval_ms", "10 to 60000 ms"),
    ("bfd = { receive_interval_ms = 60001 }", "bfd.receive_interval_ms", "10 to 60000 ms"),
    ('bfd = { mode = "trak" }', "bfd.mode", "'track'"),
    ("hold_tmer = 3", "hold_tmer", "did you mean 'hold_timer'?"),
    ("hold-timer = 3", "hold-timer", "did you mean 'hold_timer'?"),
    ("bfd = { pasive = true }", "bfd.pasive", "did you mean 'passive'?"),
    ("static_routes = 3", "static_routes", "array of tables"),
    ("static_routes = [3]", "static_routes[0]", "expected a table"),
]


@pytest.mark.parametrize(("line", "key", "right"), PEER_RULES)
def test_peer_rule_names_the_key_and_what_is_right(line: str, key: str, right: str) -> None:
    assert right in only(f"{HEAD}{PEER}{line}\n", f"peers[0].{key}")


REMOTE_RULES = [
    ('"192.0.2"', "no IP address"),
    ('"0.0.0.0"', "no host's address"),
    ('"239.1.1.1"', "no host's address"),
    ('"192.0.2.1%eth0"', "link-local"),
    ('"192.0.2.1/24"', "write 192.0.2.0/24"),
    ('"224.0.0.0/4"', "multicast"),
    ('"fe80::1"', "fe80::1%eth0"),
    ('"fe80::1%"', "1 to 15 characters"),
    ("5", "a string"),
]


@pytest.mark.parametrize(("remote", "right"), REMOTE_RULES)
def test_remote_ip_rules(remote: str, right: str) -> None:
    text = f"{HEAD}[[peers]]\nremote_ip = {remote}\nremote_as = 1\n"
    assert right in only(text, "peers[0].remote_ip")


@pytest.mark.parametrize("asn", ["0", "23456", "4294967296", '"1.70000"', '"x"'])
def test_remote_as_rules_rfc6793_rfc7607(asn: str) -> None:
    assert "peers[0].remote_as" in faults(f'{HEAD}[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = {asn}\n')


TOP_RULES = [
    ("poll_interval = 0", "poll_interval", "0.1 to 86400"),
    ("poll_interval = nan", "poll_interval", "0.1 to 86400"),
    ('bgp_socket = "179"', "bgp_socket", "ADDRESS:PORT"),
    ('bgp_socket = ["::1:179"]', "bgp_socket[0]", "ADDRESS:PORT"),
    ('bgp_socket = ["[::]:0"]', "bgp_socket[0]", "1 to 65535"),
    ('api_socket = "unix:"', "api_socket", "1 to 107 bytes"),
    ('api_socket = "/run/api.sock"', "api_socket", "unix:PATH"),
    ('api.unix_mode = "0888"', "api.unix_mode", "octal"),
    ('api.unix_mode = "7777"', "api.unix_mode", "octal"),
    ("api.unix_mode = 660", "api.unix_mode", "a string"),
    ('log.level = "warn"', "log.level", "'warning'"),
    ('log.level = { bfd = "loud" }', "log.level.bfd", "debug"),
    ('log.level = { bgpp = "info" }', "log.level.bgpp", "did you mean 'bgp'?"),
    ('log.format = "xml"', "log.format", "json"),
    ("log = 3", "log", "a table"),
    ('bfd.bind = ["nowhere"]', "bfd.bind[0]", "no IP address"),
    ("bfd.profiles = 3", "bfd.profiles", "a table"),
    ("bfd.profiles.a = 3", "bfd.profiles.a", "a table"),
    ("bfd.profiles.a.detect_multiplier = 0", "bfd.profiles.a.detect_multiplier", "1 to 255"),
    ("bfd.profiles.a.mode = 'track'", "bfd.profiles.a.mode", "unknown key"),
    ("peerz = []", "peerz", "did you mean 'peers'?"),
    ("peers = 3", "peers", "array of tables"),
    ("cluster_id = 0", "cluster_id", "from 1"),
    ('"a b" = 1', '"a b"', "unknown key"),
    ('warnings = ["x"]', "warnings", "unknown key"),
    ('include = ["a.toml"]', "include[0]", "can include"),
    ("include = [5]", "include[0]", "a file's name"),
    ("include = 5", "include", "a list of file patterns"),
]


@pytest.mark.parametrize(("line", "key", "right"), TOP_RULES)
def test_top_level_rule_names_the_key_and_what_is_right(line: str, key: str, right: str) -> None:
    assert right in only(f"{HEAD}{line}\n", key)


ROUTE_RULES = [
    ('prefix = "203.0.113.1/24"', "prefix", "write 203.0.113.0/24"),
    ('prefix = "203.0.113.0/33"', "prefix", "no network"),
    ('prefix = "2001:db8::/129"', "prefix", "no network"),
    ('prefix = "203.0.113.0/+4"', "prefix", "no network"),
    ("prefix = 5", "prefix", "a string"),
    ('next_hop = "self"', "prefix", "missing"),
    ('prefix = "203.0.113.0/24"\nnext_hop = "0.1.2.3"', "next_hop", "no host's address"),
    ('prefix = "203.0.113.0/24"\nnext_hop = "127.0.0.1"', "next_hop", "loopback"),
    ('prefix = "203.0.113.0/24"\nnext_hop = "224.0.0.5"', "next_hop", "no host's address"),
    ('prefix = "203.0.113.0/24"\nnext_hop = "255.255.255.255"', "next_hop", "no host's address"),
    ('prefix = "2001:db8::/32"\nnext_hop = "::1"', "next_hop", "loopback"),
    ('prefix = "2001:db8::/32"\nnext_hop = "ff02::1"', "next_hop", "no host's address"),
    ('prefix = "2001:db8::/32"\nnext_hop = "fe80::1%eth0"', "next_hop", "link-local"),
    ('prefix = "203.0.113.0/24"\nnext_hop = "me"', "next_hop", '"self" or an IP address'),
    ('prefix = "203.0.113.0/24"\nnext_hop = "2001:db8::1"', "next_hop", "extended_next_hop"),
    ('prefix = "2001:db8::/32"\nnext_hop = "192.0.2.9"', "next_hop", "IPv6 next hop"),
    ('prefix = "203.0.113.0/24"\norigin = "bgp"', "origin", "igp, egp or incomplete"),
    ('prefix = "203.0.113.0/24"\nas_path = ["x"]', "as_path", "AS number"),
    ('prefix = "203.0.113.0/24"\nas_path = [65000]', "as_path", "list of strings"),
    ('prefix = "203.0.113.0/24"\ncommunities = ["65536:1"]', "communities", "65535"),
    ('prefix = "203.0.113.0/24"\nlocal_pref = -1', "local_pref", "0 to 4294967295"),
    ('prefix = "203.0.113.0/24"\nmulti_exit_disc = 4294967296', "multi_exit_disc", "0 to 4294967295"),
    ('prefix = "203.0.113.0/24"\nnexthop = "self"', "nexthop", "did you mean 'next_hop'?"),
    ('prefix = "203.0.113.0/24"\nroutes_file = "x"', "routes_file", "one of the two"),
]


@pytest.mark.parametrize("owner", ["peers[0].static_routes[0]", "static_routes[0]"])
@pytest.mark.parametrize(("line", "key", "right"), ROUTE_RULES)
def test_route_rule_names_the_key_and_what_is_right(owner: str, line: str, key: str, right: str) -> None:
    header = "peers.static_routes" if owner.startswith("peers") else "static_routes"
    assert right in only(f"{HEAD}{PEER}[[{header}]]\n{line}\n", f"{owner}.{key}")


def test_route_loopback_next_hop_is_right_for_a_loopback_peer() -> None:
    peer = '[[peers]]\nremote_ip = "127.0.0.2"\nremote_as = 1\n'
    route = 'prefix = "203.0.113.0/24"\nnext_hop = "127.0.0.1"\n'
    config = loads(f"{HEAD}{peer}[[peers.static_routes]]\n{route}[[static_routes]]\n{route}")
    assert config.peers[0].static_routes[0].attributes.next_hop == bytes((127, 0, 0, 1))
    assert config.static_routes[0].next_hop == "127.0.0.1"


def test_rfc4271_5_1_3_route_with_the_neighbor_as_next_hop() -> None:
    text = f'{HEAD}{PEER}[[peers.static_routes]]\nprefix = "203.0.113.0/24"\nnext_hop = "192.0.2.1"\n'
    assert "own address" in only(text, "peers[0].static_routes[0].next_hop")


def test_route_of_a_family_that_the_peer_does_not_have() -> None:
    text = f'{HEAD}{PEER}families = ["ipv4 unicast"]\n[[peers.static_routes]]\nprefix = "2001:db8::/32"\n'
    assert "'ipv6 unicast'" in only(text, "peers[0].static_routes[0].prefix")


def test_global_route_of_a_family_that_a_peer_does_not_have_is_no_fault() -> None:
    config = loads(f'{HEAD}{PEER}families = ["ipv4 unicast"]\n[[static_routes]]\nprefix = "2001:db8::/32"\n')
    assert [str(route.prefix) for route in config.static_routes] == ["2001:db8::/32"]


def test_ipv6_route_with_next_hop_self_over_an_ipv4_session_is_left_to_run_time() -> None:
    config = loads(f'{HEAD}{PEER}[[peers.static_routes]]\nprefix = "2001:db8::/32"\nnext_hop = "self"\n')
    assert config.peers[0].static_routes[0].attributes.next_hop is None


@pytest.mark.parametrize("header", ["peers.static_routes", "static_routes"])
def test_same_prefix_twice_names_the_first(header: str) -> None:
    route = f'[[{header}]]\nprefix = "203.0.113.0/24"\n'
    owner = "peers[0].static_routes" if header.startswith("peers") else "static_routes"
    assert f"{owner}[0]" in only(f"{HEAD}{PEER}{route}{route}", f"{owner}[1].prefix")


def test_peer_route_beside_a_global_one_of_the_same_prefix_is_allowed() -> None:
    config = loads(
        f'{HEAD}{PEER}[[peers.static_routes]]\nprefix = "203.0.113.0/24"\n'
        '[[static_routes]]\nprefix = "203.0.113.0/24"\n'
    )
    assert config.peers[0].static_routes[0].prefix == config.static_routes[0].prefix


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::1", "2001:DB8:0::1"),
        ("192.0.2.0/24", "192.0.2.0/24"),
    ],
)
def test_same_peer_twice_in_any_spelling(first: str, second: str) -> None:
    peers = "".join(f'[[peers]]\nremote_ip = "{ip}"\nremote_as = 1\n' for ip in (first, second))
    assert "peers[0]" in only(HEAD + peers, "peers[1].remote_ip")


def test_link_local_scope_and_interface_have_to_agree() -> None:
    peer = '[[peers]]\nremote_ip = "fe80::1%eth0"\nremote_as = 1\n'
    assert "eth0" in only(f'{HEAD}{peer}interface = "eth1"\n', "peers[0].interface")
    assert loads(f'{HEAD}{peer}interface = "eth0"\n').peers[0].id == "fe80::1%eth0"


def test_link_local_peer_is_known_by_address_and_interface() -> None:
    peer = loads(f'{HEAD}[[peers]]\nremote_ip = "fe80::1"\nremote_as = 1\ninterface = "eth1"\n').peers[0]
    assert (peer.id, peer.remote_ip, peer.interface) == ("fe80::1%eth1", "fe80::1", "eth1")


def test_link_local_peers_on_two_interfaces_are_two() -> None:
    peers = "".join(f'[[peers]]\nremote_ip = "fe80::1%eth{i}"\nremote_as = 1\n' for i in range(2))
    assert [peer.id for peer in loads(HEAD + peers).peers] == ["fe80::1%eth0", "fe80::1%eth1"]


def test_link_local_local_ip_needs_the_peers_interface() -> None:
    peer = '[[peers]]\nremote_ip = "fe80::1%eth0"\nremote_as = 1\n'
    assert "'eth1'" in only(f'{HEAD}{peer}local_ip = "fe80::2%eth1"\n', "peers[0].local_ip")
    assert loads(f'{HEAD}{peer}local_ip = "fe80::2%eth0"\n').peers[0].local_ip == "fe80::2"
    far = '[[peers]]\nremote_ip = "2001:db8::1"\nremote_as = 1\nlocal_ip = "fe80::2"\n'
    assert "set interface" in only(HEAD + far, "peers[0].local_ip")


def test_bfd_bind_has_to_cover_the_peer() -> None:
    bind = '[bfd]\nbind = ["192.0.2.10"]\n'
    assert "local_ip" in only(f'{HEAD}{bind}{PEER}local_ip = "192.0.2.11"\nbfd = true\n', "peers[0].bfd")
    six = '[[peers]]\nremote_ip = "2001:db8::1"\nremote_as = 1\nbfd = true\n'
    assert "IPv6" in only(f"{HEAD}{bind}{six}", "peers[0].bfd")
    assert loads(f'{HEAD}{bind}{PEER}local_ip = "192.0.2.10"\nbfd = true\n').peers[0].bfd is not None


def test_unknown_profile_names_the_nearest() -> None:
    profile = "[bfd.profiles.fast]\ndetect_multiplier = 3\n"
    assert "'fast'" in only(f'{HEAD}{profile}{PEER}bfd = "fsat"\n', "peers[0].bfd")
    assert "'fast'" in only(f'{HEAD}{profile}{PEER}bfd = {{ profile = "fsat" }}\n', "peers[0].bfd.profile")


def test_missing_keys_are_all_named() -> None:
    assert set(faults("[[peers]]\n")) == {"router_id", "default_as", "peers[0].remote_ip", "peers[0].remote_as"}


def test_all_faults_come_at_once_each_with_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(
            'router_id = "0.0.0.0"\ndefualt_as = 1\n'
            f"{PEER}hold_timer = 2\n[[peers.static_routes]]\nprefix = 1\n[log]\nlevel = 1\n",
            "f.toml",
        )
    places = {(fault.path, fault.line) for fault in caught.value.faults}
    assert places == {
        ("router_id", 1),
        ("defualt_as", 2),
        ("default_as", None),
        ("peers[0].hold_timer", 6),
        ("peers[0].static_routes[0].prefix", 8),
        ("log.level", 10),
    }


UNSUPPORTED = [
    ("services", "[[services]]\nname = 'dns'"),
    ("api.token_file", "[api]\ntoken_file = '/t'"),
]


@pytest.mark.parametrize(("path", "text"), UNSUPPORTED)
def test_what_is_not_there_yet_is_refused_as_such(path: str, text: str) -> None:
    assert only(f"{HEAD}{text}\n", path).endswith("is not supported yet")


def test_what_only_says_off_is_taken() -> None:
    off = (
        "extended_next_hop = false\nadd_path = 'off'\ngraceful_restart = { enabled = false }\nstatic_flows = []\n"
        "ttl_security = false\nmultihop = false\nrole_strict = false\nroute_reflector_client = false\n"
        "bfd = { echo = false, demand = false, multihop = false, auth = [], mode = 'track' }\n"
    )
    top = "services = []\nhooks = []\napi.metrics = false\nbfd.sessions = []\n"
    assert loads(f"{HEAD}{top}{PEER}{off}") == loads(f"{HEAD}{PEER}bfd = true\n")
