"""Keys of BFD: of profiles, peers, stand-alone and unsolicited sessions, and the rules across them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.config.bfd_auth import auth_key_octets
from bgpbfd.config.load import ConfigError, load, loads
from bgpbfd.config.model import (
    BfdAuth,
    BfdPath,
    BfdProfile,
    BfdSettings,
    BfdStandalone,
    BfdUnsolicited,
    Config,
    Secret,
)

HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
PEER = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n'
LINK_LOCAL = '[[peers]]\nremote_ip = "fe80::1%eth0"\nremote_as = 65001\n'
NETWORK = '[[peers]]\nremote_ip = "192.0.2.0/24"\nremote_as = 65001\n'
SESSION = '[[bfd.sessions]]\npeer = "192.0.2.9"\n'
PROFILE = "[bfd.profiles.p]\n"
KEY = '{ type = "keyed-sha1", key_id = 1, key = "k" }'
UNSOLICITED = '[bfd.unsolicited]\nnetworks = ["192.0.2.0/24"]\n'
PLANTED = "hunter2-sesame"


def key_of(type_: str = "keyed-sha1", key_id: int = 1, key: str = "k", where: str = "key") -> str:
    return f'{{ type = "{type_}", key_id = {key_id}, {where} = "{key}" }}'


def faults(text: str, base: Path | None = None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "f.toml", base)
    return {fault.path: fault.reason for fault in caught.value.faults}


def only(text: str, path: str, base: Path | None = None) -> str:
    found = faults(text, base)
    assert list(found) == [path]
    return found[path]


def peer_bfd(bfd: str, table: str = PEER) -> BfdSettings:
    (peer,) = loads(f"{HEAD}{table}bfd = {bfd}\n").peers
    assert peer.bfd is not None
    return peer.bfd


def session(lines: str, table: str = SESSION) -> BfdStandalone:
    (found,) = loads(f"{HEAD}{table}{lines}\n").bfd.sessions
    return found


def unsolicited(text: str) -> BfdUnsolicited:
    found = loads(HEAD + text).bfd.unsolicited
    assert found is not None
    return found


# -- keys that a profile, a peer and a session have in common ----------------------------------------------

TAKEN = [
    *(("transmit_interval_ms", value) for value in (10, 60000)),
    *(("receive_interval_ms", value) for value in (10, 60000)),
    *(("echo_transmit_interval_ms", value) for value in (10, 60000)),
    *(("echo_receive_interval_ms", value) for value in (10, 60000)),
    *(("detect_multiplier", value) for value in (1, 255)),
    *((key, True) for key in ("passive", "demand", "echo", "shutdown", "control_plane_independent", "multihop")),
]
WRONG = [
    *((f"{key}_interval_ms", value) for key in ("transmit", "receive") for value in ("9", "60001", "true", '"50"')),
    *((f"echo_{key}_interval_ms", value) for key in ("transmit", "receive") for value in ("0", "9", "60001", "5.0")),
    *(("detect_multiplier", value) for value in ("0", "256", "true")),
    *(("minimum_ttl", value) for value in ("0", "255", "true")),
    *((key, value) for key in ("passive", "demand", "echo", "shutdown", "multihop") for value in ("1", '"yes"')),
    *(("control_plane_independent", value) for value in ("0", '"on"')),
]
OWNERS = {
    "bfd.profiles.p": PROFILE + "{}\n",
    "peers[0].bfd": f"{PEER}bfd = {{{{ {{}} }}}}\n",
    "bfd.sessions[0]": SESSION + "{}\n",
}


def found_in(config: Config, owner: str) -> BfdProfile:
    if owner.startswith("peers"):
        bfd = config.peers[0].bfd
        assert bfd is not None
        return bfd
    return config.bfd.profiles["p"] if "profiles" in owner else config.bfd.sessions[0]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("key", "value"), TAKEN)
def test_key_is_taken(owner: str, key: str, value: int) -> None:
    line = f"{key} = {str(value).lower()}"
    assert getattr(found_in(loads(HEAD + OWNERS[owner].format(line)), owner), key) == value


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(("key", "value"), WRONG)
def test_wrong_value_is_named_with_what_is_right(owner: str, key: str, value: str) -> None:
    # beside the wrong value no rule across keys is looked at: it may be about what stands in for it
    reason = only(HEAD + OWNERS[owner].format(f"{key} = {value}"), f"{owner}.{key}")
    assert "expected" in reason


@pytest.mark.parametrize("owner", OWNERS)
def test_unknown_key_names_the_nearest(owner: str) -> None:
    assert "did you mean 'demand'?" in only(HEAD + OWNERS[owner].format("demnad = true"), f"{owner}.demnad")


def test_defaults_are_those_of_the_documentation() -> None:
    settings = peer_bfd("true")
    for found in (settings, session("")):
        assert (found.transmit_interval_ms, found.receive_interval_ms, found.detect_multiplier) == (300, 300, 3)
        assert (found.echo_transmit_interval_ms, found.echo_receive_interval_ms) == (50, 50)
        off = (found.passive, found.demand, found.echo, found.shutdown, found.control_plane_independent)
        assert off == (False,) * 5
        assert (found.multihop, found.minimum_ttl, found.auth, found.profile) == (False, 255, (), None)
    assert (settings.mode, settings.strict_hold_time) == ("track", 30)
    assert loads(HEAD).bfd.sessions == ()
    assert loads(HEAD).bfd.unsolicited is None


@pytest.mark.parametrize("seconds", [1, 600])
def test_strict_mode_waits_for_so_long(seconds: int) -> None:
    settings = peer_bfd(f'{{ mode = "strict", strict_hold_time = {seconds} }}')
    assert (settings.mode, settings.strict_hold_time) == ("strict", seconds)
    of_profile = loads(f"{HEAD}{PROFILE}strict_hold_time = {seconds}\n{PEER}bfd = 'p'\n").peers[0].bfd
    assert of_profile is not None
    assert of_profile.strict_hold_time == seconds


@pytest.mark.parametrize("value", ["0", "601", "1.5", "true"])
def test_strict_hold_time_has_bounds(value: str) -> None:
    reason = only(f"{HEAD}{PEER}bfd = {{ strict_hold_time = {value} }}\n", "peers[0].bfd.strict_hold_time")
    assert "1 to 600 s" in reason


@pytest.mark.parametrize("line", ['mode = "strict"', "strict_hold_time = 5", "damping = false"])
def test_what_is_for_peers_is_refused_of_a_session(line: str) -> None:
    assert "is for peers" in only(f"{HEAD}{SESSION}{line}\n", f"bfd.sessions[0].{line.split(' ', maxsplit=1)[0]}")


def test_mode_is_no_key_of_a_profile() -> None:
    assert "unknown key" in only(f"{HEAD}{PROFILE}mode = 'strict'\n", "bfd.profiles.p.mode")


def test_own_keys_win_over_those_of_the_profile() -> None:
    profile = f"{PROFILE}demand = true\ntransmit_interval_ms = 50\necho = true\nauth = {KEY}\n"
    config = loads(
        f'{HEAD}{profile}{PEER}bfd = {{ profile = "p", demand = false }}\n{SESSION}profile = "p"\necho=false\n'
    )
    bfd, alone = config.peers[0].bfd, config.bfd.sessions[0]
    assert bfd is not None
    assert (bfd.profile, bfd.demand, bfd.transmit_interval_ms, bfd.echo, len(bfd.auth)) == ("p", False, 50, True, 1)
    assert (alone.profile, alone.demand, alone.transmit_interval_ms, alone.echo, len(alone.auth)) == (
        *("p", True, 50, False, 1),
    )


@pytest.mark.parametrize("line", ['bfd = "q"', 'bfd = { profile = "q", echo = true }'])
def test_an_unknown_profile_makes_no_second_fault(line: str) -> None:
    (path,) = faults(f"{HEAD}{PROFILE}{PEER}multihop = 2\n{line}\n")
    assert path == ("peers[0].bfd.profile" if "profile" in line else "peers[0].bfd")


# -- multihop and minimum_ttl ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "multihop", "minimum_ttl"),
    [
        # RFC 5082 §3: n hops take n - 1 off 255
        ("", False, 255),
        ("multihop = 1", False, 255),
        ("multihop = 2", True, 254),
        ("multihop = 3", True, 253),
        ("multihop = 255", True, 1),
        ("ttl_security = 1", False, 255),
        ("ttl_security = 2", True, 254),
        ("ttl_security = 254", True, 2),
    ],
)
def test_rfc5883_hops_of_a_peer_are_those_of_its_bfd(lines: str, multihop: bool, minimum_ttl: int) -> None:
    for bfd in ("true", "{}", '"p"', '{ profile = "p" }'):
        peer = loads(f"{HEAD}{PROFILE}{PEER}{lines}\nbfd = {bfd}\n").peers[0]
        assert peer.bfd is not None
        assert (peer.bfd.multihop, peer.bfd.minimum_ttl) == (multihop, minimum_ttl)
        assert peer.bfd_path == BfdPath("192.0.2.1", None, None, multihop)


@pytest.mark.parametrize(
    ("bfd", "multihop", "minimum_ttl"),
    [
        ("{ multihop = false }", False, 255),
        ("{ minimum_ttl = 1 }", True, 1),
        ("{ minimum_ttl = 254 }", True, 254),
        ("{ multihop = true }", True, 253),
        ('"near"', False, 255),
        ('"far"', True, 100),
        ('{ profile = "far", multihop = false }', None, None),
        ('{ profile = "near", multihop = true }', True, 253),
        ('{ profile = "far", minimum_ttl = 5 }', True, 5),
    ],
)
def test_what_bfd_says_of_its_hops_wins(bfd: str, multihop: bool | None, minimum_ttl: int | None) -> None:
    profiles = "[bfd.profiles.near]\nmultihop = false\n[bfd.profiles.far]\nmultihop = true\nminimum_ttl = 100\n"
    text = f"{HEAD}{profiles}{PEER}multihop = 3\nbfd = {bfd}\n"
    if multihop is None:
        assert "minimum_ttl is for multihop" in only(text, "peers[0].bfd.multihop")
        return
    found = loads(text).peers[0].bfd
    assert found is not None
    assert (found.multihop, found.minimum_ttl) == (multihop, minimum_ttl)


def test_multihop_without_a_number_of_hops() -> None:
    assert peer_bfd("{ multihop = true }").minimum_ttl == 254
    assert peer_bfd("{ multihop = true }", f"{PEER}ttl_security = 1\n").minimum_ttl == 254
    assert session("multihop = true").minimum_ttl == 254
    assert session("multihop = true\nminimum_ttl = 1").minimum_ttl == 1


def test_a_profile_leaves_the_hops_to_its_peers() -> None:
    profile = loads(f"{HEAD}{PROFILE}").bfd.profiles["p"]
    assert (profile.multihop, profile.minimum_ttl) == (None, None)
    assert profile == BfdProfile()


ECHO_AND_HOPS = [
    # where it stands, and which of the two keys is named
    (f"{PROFILE}echo = true\nmultihop = true\n", "bfd.profiles.p.echo"),
    (f'{PROFILE}echo = true\nmultihop = true\n{PEER}bfd = "p"\n', "bfd.profiles.p.echo"),
    (f"{PEER}bfd = {{ echo = true, multihop = true }}\n", "peers[0].bfd.echo"),
    (f"{PEER}bfd = {{ echo = true }}\nmultihop = 2\n", "peers[0].bfd.echo"),
    (f"{PEER}bfd = {{ echo = true }}\nttl_security = 2\n", "peers[0].bfd.echo"),
    (f'{PROFILE}echo = true\n{PEER}bfd = "p"\nmultihop = 2\n', "peers[0].bfd"),
    (f'{PROFILE}echo = true\n{PEER}bfd = {{ profile = "p" }}\nmultihop = 2\n', "peers[0].bfd.profile"),
    (f'{PROFILE}echo = true\n{PEER}bfd = {{ profile = "p", multihop = true }}\n', "peers[0].bfd.multihop"),
    (f'{PROFILE}multihop = true\n{PEER}bfd = {{ profile = "p", echo = true }}\n', "peers[0].bfd.echo"),
    (f"{SESSION}echo = true\nmultihop = true\n", "bfd.sessions[0].echo"),
    (f'{PROFILE}echo = true\n{SESSION}profile = "p"\nmultihop = true\n', "bfd.sessions[0].multihop"),
]


@pytest.mark.parametrize(("text", "path"), ECHO_AND_HOPS)
def test_rfc5883_3_echo_is_for_single_hop(text: str, path: str) -> None:
    reason = only(HEAD + text, path)
    assert "set echo = false, or multihop = false" in reason


TTL_AND_ONE_HOP = [
    (f"{PROFILE}minimum_ttl = 5\nmultihop = false\n", "bfd.profiles.p.minimum_ttl"),
    (f'{PROFILE}minimum_ttl = 5\nmultihop = false\n{PEER}bfd = "p"\n', "bfd.profiles.p.minimum_ttl"),
    (f"{PEER}bfd = {{ minimum_ttl = 5 }}\n", "peers[0].bfd.minimum_ttl"),
    (f'{PROFILE}minimum_ttl = 5\n{PEER}bfd = "p"\n', "peers[0].bfd"),
    (f'{PROFILE}minimum_ttl = 5\n{PEER}bfd = {{ profile = "p" }}\n', "peers[0].bfd.profile"),
    (f"{SESSION}minimum_ttl = 5\n", "bfd.sessions[0].minimum_ttl"),
    (f'{UNSOLICITED}profile = "p"\n{PROFILE}minimum_ttl = 5\n', "bfd.unsolicited.profile"),
]


@pytest.mark.parametrize(("text", "path"), TTL_AND_ONE_HOP)
def test_rfc5881_5_minimum_ttl_is_for_multihop(text: str, path: str) -> None:
    reason = only(HEAD + text, path)
    assert "set multihop = true, or leave minimum_ttl out" in reason


def test_a_profile_with_minimum_ttl_is_right_for_a_multihop_peer() -> None:
    bfd = loads(f'{HEAD}{PROFILE}minimum_ttl = 5\n{PEER}bfd = "p"\nmultihop = 9\n').peers[0].bfd
    assert bfd is not None
    assert (bfd.multihop, bfd.minimum_ttl) == (True, 5)


LINK_LOCAL_RULES = [
    (f"{LINK_LOCAL}bfd = {{ multihop = true }}\n", "peers[0].bfd.multihop", "one hop away"),
    (f"{LINK_LOCAL}multihop = 2\nbfd = true\n", "peers[0].bfd", "one hop away"),
    (f"{LINK_LOCAL}bfd = {{ echo = true }}\n", "peers[0].bfd.echo", "RFC 5881 §4"),
    (f"{PROFILE}echo = true\n{LINK_LOCAL}bfd = 'p'\n", "peers[0].bfd", "RFC 5881 §4"),
    ('[[bfd.sessions]]\npeer = "fe80::1%eth0"\nmultihop = true\n', "bfd.sessions[0].multihop", "one hop away"),
    ('[[bfd.sessions]]\npeer = "fe80::1%eth0"\necho = true\n', "bfd.sessions[0].echo", "RFC 5881 §4"),
    (
        '[[bfd.sessions]]\npeer = "2001:db8::1"\nlocal = "fe80::2%eth0"\necho = true\n',
        "bfd.sessions[0].echo",
        "RFC 5881 §4",
    ),
    (
        f'[bfd.unsolicited]\nnetworks = ["192.0.2.0/24", "fe80::/64"]\nprofile = "p"\n{PROFILE}echo = true\n',
        "bfd.unsolicited.profile",
        "RFC 5881 §4",
    ),
]


@pytest.mark.parametrize(("text", "path", "right"), LINK_LOCAL_RULES)
def test_link_local_addresses_have_neither_hops_nor_echo(text: str, path: str, right: str) -> None:
    assert right in only(HEAD + text, path)


def test_multihop_of_a_link_local_peer_is_for_its_bgp_alone_where_bfd_says_so() -> None:
    assert not peer_bfd("{ multihop = false }", f"{LINK_LOCAL}multihop = 2\n").multihop


def test_rfc5880_6_8_9_echo_beside_fast_control_packets_is_allowed() -> None:
    assert peer_bfd("{ echo = true, receive_interval_ms = 50 }").echo
    assert peer_bfd("{ echo = true, demand = true }", '[[peers]]\nremote_ip = "2001:db8::1"\nremote_as = 1\n').echo


@pytest.mark.parametrize("line", ["ttl_security = 0", 'multihop = "2"'])
def test_wrong_hops_of_the_peer_make_no_second_fault(line: str) -> None:
    (path,) = faults(f"{HEAD}{PEER}{line}\nbfd = {{ minimum_ttl = 5 }}\n")
    assert path == f"peers[0].{line.split(' ', maxsplit=1)[0]}"


# -- auth --------------------------------------------------------------------------------------------------


def auth(value: str) -> tuple[BfdAuth, ...]:
    return peer_bfd(f"{{ auth = {value} }}").auth


@pytest.mark.parametrize(
    ("written", "name", "limit"),
    [
        ("simple", "simple", 16),
        ("keyed-md5", "keyed-md5", 16),
        ("meticulous-keyed-md5", "meticulous-keyed-md5", 16),
        ("met-keyed-md5", "meticulous-keyed-md5", 16),
        ("keyed-sha1", "keyed-sha1", 20),
        ("meticulous-keyed-sha1", "meticulous-keyed-sha1", 20),
        ("met-keyed-sha1", "meticulous-keyed-sha1", 20),
    ],
)
def test_rfc5880_4_2_to_4_4_each_type_has_its_key(written: str, name: str, limit: int) -> None:
    for key in ("k", "k" * limit, "é" * (limit // 2), f"0x{'fF' * limit}", "0x00"):
        (found,) = auth(f'{{ type = "{written}", key_id = 255, key = "{key}" }}')
        assert found == BfdAuth(type=name, key_id=255, key=Secret(key))
    for key in ("", "0x", "k" * (limit + 1), "é" * (limit // 2) + "k", f"0x{'ff' * (limit + 1)}"):
        line = f'bfd = {{ auth = {{ type = "{written}", key_id = 0, key = "{key}" }} }}'
        reason = only(f"{HEAD}{PEER}{line}\n", "peers[0].bfd.auth.key")
        assert re.fullmatch(rf"expected a key of 1 to {limit} octets \(RFC 5880 §4\.[234]\)", reason)


@pytest.mark.parametrize("key", ["0xf", "0xfg", "0x ff", "0x0xff", "0xfé", "0x-1"])
def test_hex_that_is_none(key: str) -> None:
    reason = only(f"{HEAD}{SESSION}auth = {key_of(key=key)}\n", "bfd.sessions[0].auth.key")
    assert reason == "expected hex digits after 0x, two an octet"


def test_octets_of_a_key() -> None:
    assert auth_key_octets(Secret("key")) == b"key"
    assert auth_key_octets(Secret("é0x")) == b"\xc3\xa90x"
    assert auth_key_octets(Secret("0x00fFA0")) == b"\x00\xff\xa0"
    assert auth_key_octets(Secret("0X00")) == b"\x00"


@given(st.binary(min_size=1, max_size=20), st.booleans())
def test_octets_of_any_hex_key(octets: bytes, upper: bool) -> None:
    digits = octets.hex().upper() if upper else octets.hex()
    assert auth_key_octets(Secret(f"0x{digits}")) == octets


@given(st.text(max_size=20) | st.text(max_size=6).map("0x{}".format))
def test_octets_of_any_key_or_a_fault_without_it(text: str) -> None:
    if text[:2].lower() != "0x":
        assert auth_key_octets(Secret(text)) == text.encode()
    elif not re.fullmatch("([0-9a-fA-F]{2})*", text[2:]):
        with pytest.raises(ValueError, match=r"^expected hex digits after 0x, two an octet$"):
            auth_key_octets(Secret(text))


def test_rfc5880_6_7_several_keys_in_their_order() -> None:
    several = auth(f"[{KEY}, {key_of('simple', 0)}]")
    assert [(key.type, key.key_id) for key in several] == [("keyed-sha1", 1), ("simple", 0)]
    assert auth(f"[{KEY}]") == auth(KEY)
    as_tables = f"{PEER}[[peers.bfd.auth]]\ntype = 'simple'\nkey_id = 3\nkey = 'k'\n"
    bfd = loads(HEAD + as_tables).peers[0].bfd
    assert bfd is not None
    assert bfd.auth == (BfdAuth(type="simple", key_id=3, key=Secret("k")),)


@pytest.mark.parametrize("none", ["[]", '{ type = "none" }', '[{ type = "none" }]'])
def test_none_is_no_authentication(none: str) -> None:
    assert auth(none) == ()
    profile = f"{PROFILE}auth = {KEY}\n"
    bfd = loads(f'{HEAD}{profile}{PEER}bfd = {{ profile = "p", auth = {none} }}\n').peers[0].bfd
    assert bfd is not None
    assert bfd.auth == ()


AUTH_RULES = [
    ('"simple"', "", "expected a table { type, key_id, key }, or a list of them, not a string"),
    ("true", "", "not a boolean"),
    ('["simple"]', "[0]", "not a string"),
    ('{ type = "keyed-sha", key_id = 1, key = "k" }', ".type", "did you mean 'keyed-sha1'?"),
    ('{ type = 5, key_id = 1, key = "k" }', ".type", "one of 'none', 'simple'"),
    ('{ key_id = 1, key = "k" }', ".type", "missing"),
    ('{ type = "simple", key = "k" }', ".key_id", "missing"),
    ('{ type = "simple", key_id = 256, key = "k" }', ".key_id", "0 to 255"),
    ('{ type = "simple", key_id = -1, key = "k" }', ".key_id", "0 to 255"),
    ('{ type = "simple", key_id = "1", key = "k" }', ".key_id", "0 to 255"),
    ('{ type = "simple", key_id = 1 }', ".key", "missing: set 1 to 16 octets"),
    ('{ type = "keyed-sha1", key_id = 1 }', ".key", "missing: set 1 to 20 octets"),
    ('{ type = "simple", key_id = 1, key = 5 }', ".key", "a string"),
    ('{ type = "simple", key_id = 1, kye = "k", key = "k" }', ".kye", "did you mean 'key'?"),
    ('{ type = "none", key_id = 1 }', ".key_id", "type 'none' has no key"),
    ('[{ type = "none" }, { type = "simple", key_id = 1, key = "k" }]', "[0].type", "stands alone"),
    (f"[{KEY}, {key_of('simple')}]", "[1].key_id", "auth[0] already"),
]


@pytest.mark.parametrize(("value", "path", "right"), AUTH_RULES)
@pytest.mark.parametrize("owner", OWNERS)
def test_auth_that_is_wrong_is_named_with_what_is_right(owner: str, value: str, path: str, right: str) -> None:
    assert right in only(HEAD + OWNERS[owner].format(f"auth = {value}"), f"{owner}.auth{path}")


@pytest.mark.parametrize(("text", "mode"), [(f"{PLANTED}\r\nmore\n", 0o600), ("0x00ff\n", 0o644)])
def test_a_key_is_the_first_line_of_its_file(tmp_path: Path, text: str, mode: int) -> None:
    secret = tmp_path / "conf.d" / "key"
    secret.parent.mkdir()
    secret.write_text(text, newline="")
    secret.chmod(mode)
    entry = '{ type = "simple", key_id = 1, key_file = "key" }'
    (tmp_path / "conf.d" / "a.toml").write_text(f'{PROFILE}auth = {entry}\n{PEER}bfd = "p"\n{SESSION}auth = {entry}\n')
    (tmp_path / "main.toml").write_text(f'include = ["conf.d/*.toml"]\n{HEAD}')
    config = load(tmp_path / "main.toml")
    bfd = config.peers[0].bfd
    assert bfd is not None
    expected = BfdAuth(type="simple", key_id=1, key=Secret(text.splitlines()[0]), key_file="key")
    assert bfd.auth == config.bfd.sessions[0].auth == (expected,)
    # one warning for each key that names the file, and none of them has what is in it
    told = [f"bfd.profiles.p.auth.key_file in {tmp_path}/conf.d/a.toml: everybody on this host can read {secret}"]
    told.append(told[0].replace("profiles.p", "sessions[0]"))
    assert config.warnings == (tuple(told) if mode == 0o644 else ())


@pytest.mark.parametrize(
    ("text", "right"), [("", "1 to 16 octets"), ("x" * 17, "1 to 16 octets"), ("0xg\n", "hex digits")]
)
def test_a_key_file_without_a_usable_first_line(tmp_path: Path, text: str, right: str) -> None:
    (tmp_path / "key").write_text(text)
    line = 'auth = { type = "simple", key_id = 1, key_file = "key" }'
    reason = only(f"{HEAD}{SESSION}{line}\n", "bfd.sessions[0].auth.key_file", tmp_path)
    assert reason.startswith(f"the first line of {tmp_path / 'key'}: ")
    assert right in reason


def test_a_key_file_that_is_not_there_or_one_too_many(tmp_path: Path) -> None:
    line = f'{HEAD}{SESSION}auth = {{ type = "simple", key_id = 1, key_file = "key"'
    assert "No such file" in only(f"{line} }}\n", "bfd.sessions[0].auth.key_file", tmp_path)
    reason = only(f'{line}, key = "{PLANTED}" }}\n', "bfd.sessions[0].auth.key_file", tmp_path)
    assert reason == "stands in the place of key: set one of the two"


def test_a_key_does_not_print() -> None:
    config = loads(f'{HEAD}{SESSION}auth = {{ type = "simple", key_id = 1, key = "{PLANTED}" }}\n')
    assert PLANTED not in f"{config!r} {config}"


# -- stand-alone sessions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "identity", "path"),
    [
        ('peer = "::ffff:192.0.2.9"', "192.0.2.9", BfdPath("192.0.2.9")),
        ('peer = "2001:DB8::0:9"\ninterface = "eth0"', "2001:db8::9", BfdPath("2001:db8::9", None, "eth0")),
        ('peer = "FE80::9%eth0"', "fe80::9%eth0", BfdPath("fe80::9", None, "eth0")),
        ('peer = "fe80::9"\ninterface = "eth0"', "fe80::9%eth0", BfdPath("fe80::9", None, "eth0")),
        ('peer = "fe80::9"\nlocal = "fe80::a%eth0"', "fe80::9%eth0", BfdPath("fe80::9", "fe80::a", "eth0")),
        ('peer = "fe80::9%eth0"\nlocal = "fe80::a"', "fe80::9%eth0", BfdPath("fe80::9", "fe80::a", "eth0")),
        (
            'peer = "192.0.2.9"\nlocal = "192.0.2.10"\nmultihop = true',
            "192.0.2.9",
            BfdPath("192.0.2.9", "192.0.2.10", None, True),
        ),
    ],
)
def test_a_session_has_a_canonical_name_and_path(lines: str, identity: str, path: BfdPath) -> None:
    found = session(lines, "[[bfd.sessions]]\n")
    assert (found.id, found.path) == (identity, path)
    assert found.peer == path.remote


def test_a_path_prints_what_it_says() -> None:
    assert str(BfdPath("192.0.2.9")) == "192.0.2.9"
    assert str(BfdPath("192.0.2.9", "192.0.2.10", "eth0", True)) == "192.0.2.9 from 192.0.2.10 on eth0 multihop"
    assert str(BfdPath("fe80::9", "fe80::a", "eth0")) == "fe80::9%eth0 from fe80::a"


def test_description_and_profile_of_a_session() -> None:
    found = session(f'description = "firewall 1"\nprofile = "p"\n{PROFILE}demand = true')
    assert (found.description, found.profile, found.demand) == ("firewall 1", "p", True)


SESSION_RULES = [
    ("", "peer", "missing"),
    ('peer = "192.0.2.0/24"', "peer", "no IP address"),
    ('peer = "0.0.0.0"', "peer", "no host's address"),
    ('peer = "192.0.2.9%eth0"', "peer", "link-local"),
    ('peer = "fe80::9"', "peer", 'write "fe80::9%eth0", or set interface'),
    ('peer = "fe80::9%eth0"\ninterface = "eth1"', "peer", "'eth0' is not the session's interface 'eth1'"),
    ('peer = "fe80::9%eth0"\nlocal = "fe80::a%eth1"', "local", "'eth1' is not the session's interface 'eth0'"),
    ('peer = "192.0.2.9"\nlocal = "2001:db8::a"', "local", "both need one family"),
    ('peer = "192.0.2.9"\nlocal = "192.0.2.9"', "local", "neighbor's own address"),
    ('peer = "2001:db8::9"\nlocal = "fe80::a"', "local", "set interface"),
    ('peer = "192.0.2.9"\nlocal = 5', "local", "a string"),
    ('peer = "192.0.2.9"\ninterface = "a/b"', "interface", "1 to 15 characters"),
    ('peer = "192.0.2.9"\ndescription = ""', "description", "not empty"),
    ('peer = "192.0.2.9"\nprofile = "p"', "profile", "no profile 'p'"),
    ('peer = "192.0.2.9"\nprofile = true', "profile", "a string"),
    ('peer = "192.0.2.9"\nremote_ip = "192.0.2.9"', "remote_ip", "unknown key"),
]


@pytest.mark.parametrize(("lines", "key", "right"), SESSION_RULES)
def test_session_rule_names_the_key_and_what_is_right(lines: str, key: str, right: str) -> None:
    assert right in only(f"{HEAD}[[bfd.sessions]]\n{lines}\n", f"bfd.sessions[0].{key}")


@pytest.mark.parametrize(
    ("bind", "lines", "path", "right"),
    [
        ("[]", "", "bfd.sessions[0].peer", "no IPv4 address: add one, or '0.0.0.0'"),
        ('["::"]', "", "bfd.sessions[0].peer", "no IPv4 address"),
        ('["192.0.2.10"]', 'local = "192.0.2.11"', "bfd.sessions[0].local", "add '192.0.2.11' to it"),
    ],
)
def test_bind_has_to_cover_the_session(bind: str, lines: str, path: str, right: str) -> None:
    assert right in only(f"{HEAD}{SESSION}{lines}\n[bfd]\nbind = {bind}\n", path)
    loads(f'{HEAD}{SESSION}local = "192.0.2.10"\n[bfd]\nbind = ["192.0.2.10"]\n')


def two_sessions(first: str, second: str) -> str:
    return "".join(f"{HEAD if not index else ''}{SESSION}{lines}\n" for index, lines in enumerate((first, second)))


ETH0, TEN = 'interface = "eth0"', 'local = "192.0.2.10"'


@pytest.mark.parametrize("lines", ["", ETH0, TEN, f"{TEN}\n{ETH0}", "multihop = true"])
def test_rfc5882_2_each_path_stands_once(lines: str) -> None:
    reason = only(two_sessions(lines, f"{lines}\ndemand = true"), "bfd.sessions[1].peer")
    assert reason.endswith("is bfd.sessions[0] already: each path stands once")
    assert reason.startswith(str(session(lines).path))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("multihop = true", ""),
        (ETH0, f"{ETH0}\nmultihop = true"),
        (ETH0, ETH0.replace("eth0", "eth1")),
        (TEN, TEN.replace("192.0.2.10", "192.0.2.11")),
    ],
)
def test_rfc5882_2_two_paths_to_a_neighbor_are_two_sessions(first: str, second: str) -> None:
    assert len({found.path for found in loads(two_sessions(first, second)).bfd.sessions}) == 2


@pytest.mark.parametrize(
    ("first", "second", "path", "right"),
    [
        ("", TEN, "bfd.sessions[1].local", "set local = '192.0.2.10' here and local there"),
        (TEN, "", "bfd.sessions[1].peer", "set local = '192.0.2.10' here and local there"),
        (ETH0, "", "bfd.sessions[1].peer", "set interface = 'eth0' here and interface there"),
        (TEN, f"{TEN}\n{ETH0}", "bfd.sessions[1].interface", "set interface = 'eth0' here and interface there"),
    ],
)
def test_rfc5882_2_two_that_may_come_to_one_path(first: str, second: str, path: str, right: str) -> None:
    reason = only(two_sessions(first, second), path)
    assert "bfd.sessions[0] is to the same neighbor" in reason
    assert right in reason


# -- a session and a peer on one path ----------------------------------------------------------------------


def shared(peer_lines: str, session_lines: str, peer: str = PEER, remote: str = "192.0.2.1") -> str:
    return f'{HEAD}{peer}{peer_lines}\n[[bfd.sessions]]\npeer = "{remote}"\n{session_lines}\n'


@pytest.mark.parametrize(
    ("peer_lines", "session_lines"),
    [
        ("bfd = true", ""),
        ("bfd = true", "transmit_interval_ms = 50"),
        (f"bfd = {{ auth = {KEY} }}", f"auth = {KEY}"),
        ("bfd = true\nmultihop = 3", "multihop = true"),
        ('bfd = true\nlocal_ip = "192.0.2.10"\ninterface = "eth0"', f"{TEN}\n{ETH0}"),
        # others
        ('bfd = true\nlocal_ip = "192.0.2.11"', f"{TEN}\nauth = {KEY}"),
        ('bfd = true\ninterface = "eth1"', f"{ETH0}\nauth = {KEY}"),
        ("bfd = false", f"auth = {KEY}"),
    ],
)
def test_rfc5882_2_a_peer_and_a_session_on_one_path(peer_lines: str, session_lines: str) -> None:
    config = loads(shared(peer_lines, session_lines))
    assert len(config.bfd.sessions) == len(config.peers) == 1


def test_rfc5882_2_keys_that_are_the_same_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    (tmp_path / "key").chmod(0o600)
    of_file = key_of(key="key", where="key_file")
    loads(shared(f"bfd = {{ auth = {KEY} }}", f"auth = {of_file}"), base=tmp_path)


@pytest.mark.parametrize(
    ("peer_lines", "session_lines", "key", "right"),
    [
        ("bfd = true", f"auth = {KEY}", ".auth", "peers[0] shares this session"),
        (f"bfd = {{ auth = {KEY} }}", "", ".auth", "set the same keys in both"),
        ("bfd = true", f'profile = "p"\n{PROFILE}auth = {KEY}', ".profile", "set the same keys in both"),
        (f"bfd = {{ auth = {KEY} }}", f"auth = {key_of(key_id=2)}", ".auth", "RFC 5882 §2"),
        (f"bfd = {{ auth = {KEY} }}", f"auth = {key_of(key='l')}", ".auth", "RFC 5882 §2"),
        ("bfd = true\nmultihop = 3", "", ".multihop", "set multihop = true here as well"),
        ("bfd = true", "multihop = true", ".multihop", "set multihop = false here as well"),
        ("bfd = true", TEN, ".local", "set local = '192.0.2.10' here and local_ip there"),
        ('bfd = true\nlocal_ip = "192.0.2.10"', "", ".peer", "set local = '192.0.2.10' here and local_ip there"),
        ("bfd = true", ETH0, ".interface", "set interface = 'eth0' here and interface there"),
    ],
)
def test_rfc5882_2_a_shared_session_has_to_be_the_same_for_both(
    peer_lines: str, session_lines: str, key: str, right: str
) -> None:
    reason = only(shared(peer_lines, session_lines), f"bfd.sessions[0]{key}")
    assert right in reason
    assert "peers[0]" in reason


def test_rfc5882_2_dynamic_neighbors_share_with_sessions_in_their_network() -> None:
    assert "peers[0]" in only(shared("bfd = true", f"auth = {KEY}", NETWORK), "bfd.sessions[0].auth")
    loads(shared("bfd = true", f"auth = {KEY}", NETWORK, "198.51.100.1"))
    # the longest prefix counts, and an entry of its own before any network
    inner = NETWORK.replace("/24", "/28")
    loads(shared(f"bfd = {{ auth = {KEY} }}\n{NETWORK}bfd = true", f"auth = {KEY}", inner))
    loads(shared(f"bfd = {{ auth = {KEY} }}\n{NETWORK}bfd = true", f"auth = {KEY}"))
    link = NETWORK.replace("192.0.2.0/24", "fe80::/64")
    loads(shared("bfd = true", "", link, "fe80::1%eth0"))
    assert "peers[0]" in only(shared("bfd = true", f"auth = {KEY}", link, "fe80::1%eth0"), "bfd.sessions[0].auth")


def test_rfc5882_2_link_local_neighbors_are_told_apart_by_interface() -> None:
    loads(shared("bfd = true", f"auth = {KEY}", LINK_LOCAL, "fe80::1%eth1"))
    assert "peers[0]" in only(shared("bfd = true", f"auth = {KEY}", LINK_LOCAL, "fe80::1%eth0"), "bfd.sessions[0].auth")


# -- unsolicited sessions ----------------------------------------------------------------------------------


def test_rfc9468_defaults() -> None:
    found = unsolicited(UNSOLICITED)
    assert (found.networks, found.interface, found.profile, found.max_sessions) == (("192.0.2.0/24",), None, None, 100)
    assert found.settings == BfdSettings(passive=True)
    assert found == BfdUnsolicited(networks=("192.0.2.0/24",))


@pytest.mark.parametrize("passive", ["true", "false"])
def test_rfc9468_2_unsolicited_sessions_are_passive_with_the_keys_of_a_profile(passive: str) -> None:
    profile = f"{PROFILE}passive = {passive}\necho = true\ntransmit_interval_ms = 50\nauth = {KEY}\n"
    found = unsolicited(f'{UNSOLICITED}profile = "p"\ninterface = "eth0"\nmax_sessions = 1000\n{profile}')
    assert (found.interface, found.profile, found.max_sessions) == ("eth0", "p", 1000)
    settings = found.settings
    assert (settings.passive, settings.echo, settings.transmit_interval_ms) == (True, True, 50)
    assert (settings.multihop, settings.minimum_ttl, len(settings.auth), settings.profile) == (False, 255, 1, "p")


UNSOLICITED_RULES = [
    ("", "networks", "missing"),
    ("networks = []", "networks", "at least one"),
    ('networks = ["192.0.2.1/24"]', "networks[0]", "write 192.0.2.0/24"),
    ('networks = ["192.0.2.0/24", "224.0.0.0/8"]', "networks[1]", "multicast"),
    ("networks = 5", "networks", "a string"),
    ('networks = "192.0.2.0/24"\nmax_sessions = 0', "max_sessions", "1 to 1000"),
    ('networks = "192.0.2.0/24"\nmax_sessions = 1001', "max_sessions", "1 to 1000"),
    ('networks = "192.0.2.0/24"\ninterface = ""', "interface", "1 to 15 characters"),
    ('networks = "192.0.2.0/24"\nprofile = "q"', "profile", "no profile 'q'"),
    ('networks = "192.0.2.0/24"\nprofile = "far"', "profile", "unsolicited sessions are single hop"),
    ('networks = "192.0.2.0/24"\ndemand = true', "demand", "unknown key"),
    ('networks = "192.0.2.0/24"\nsettings = {}', "settings", "unknown key"),
]


@pytest.mark.parametrize(("lines", "key", "right"), UNSOLICITED_RULES)
def test_unsolicited_rule_names_the_key_and_what_is_right(lines: str, key: str, right: str) -> None:
    text = f"{HEAD}[bfd.profiles.far]\nmultihop = true\n[bfd.unsolicited]\n{lines}\n"
    assert right in only(text, f"bfd.unsolicited.{key}")


def test_unsolicited_is_a_table_and_bind_covers_it() -> None:
    assert "a table" in only(f"{HEAD}bfd.unsolicited = true\n", "bfd.unsolicited")
    text = f'{HEAD}{UNSOLICITED}[bfd]\nbind = ["::"]\n'
    assert "no IPv4 address" in only(text, "bfd.unsolicited.networks")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        *(("10.0.0.0/15", True), ("10.0.0.0/16", False), ("0.0.0.0/0", True), ("192.0.2.7/32", False)),
        *(("2001:db8::/47", True), ("2001:db8::/48", False), ("::/0", True), ("fe80::/10", False)),
    ],
)
def test_rfc9468_6_1_more_than_a_link_has_is_a_warning(network: str, told: bool) -> None:
    warnings = loads(f'{HEAD}[bfd.unsolicited]\nnetworks = ["203.0.113.0/24", "{network}"]\n').warnings
    assert len(warnings) == told
    for warning in warnings:
        assert warning.startswith(f"bfd.unsolicited.networks: {network} is more than a link has")
