"""The difference of two configurations: what it holds, and what it costs."""

from __future__ import annotations

from typing import assert_never

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.config.diff import (
    BfdChanged,
    BfdSessionChanged,
    BfdSettingsChanged,
    Change,
    GlobalChanged,
    Impact,
    PeerAdded,
    PeerChanged,
    PeerRemoved,
    RoutesChanged,
    diff,
    waiting_keys,
)
from bgpbfd.config.load import loads
from bgpbfd.config.model import (
    ApiConfig,
    BfdAuth,
    BfdGlobal,
    BfdProfile,
    BfdSettings,
    BfdStandalone,
    BfdUnsolicited,
    Config,
    Hook,
    Listen,
    LogConfig,
    PeerConfig,
    Secret,
    StaticRoute,
)
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, Prefix
from bgpbfd.policy.policy import Policy
from bgpbfd.wire.attributes import PathAttributes

HEAD = 'router_id = "192.0.2.10"\ndefault_as = 65010\n'
PEER = '[[peers]]\nremote_ip = "192.0.2.1"\nremote_as = 65001\n'


def changes(old: str, new: str) -> list[Change]:
    return diff(loads(HEAD + old), loads(HEAD + new))


@pytest.mark.parametrize(
    ("line", "impact"),
    [
        ('description = "x"', "hitless"),
        ("passive = true", "hitless"),
        ("max_prefixes = 5", "hitless"),
        ("max_prefixes = { limit = 5, warning = 50 }", "hitless"),
        ('md5_password = "x"', "hitless"),
        ('graceful_restart = { enabled = false, on_stop = "retain" }', "hitless"),
        ("graceful_shutdown = true", "soft"),
        ("next_hop_self = true", "soft"),
        ('advertise_sources = ["api", "peer"]', "soft"),
        ("hold_timer = 90", "session-reset"),
        ('families = ["ipv4 unicast"]', "session-reset"),
        ("local_as = 65011", "session-reset"),
        ('local_ip = "192.0.2.10"', "session-reset"),
        ("enabled = false", "session-reset"),
        ("ttl_security = 1", "session-reset"),
        ("multihop = 2", "session-reset"),
        ('add_path = "both"', "session-reset"),
        ("extended_next_hop = true", "session-reset"),
        ("graceful_restart = true", "session-reset"),
        ("graceful_restart = { enabled = false, restart_time = 5 }", "session-reset"),
        ('role = "peer"', "session-reset"),
        ("enforce_first_as = false", "session-reset"),
    ],
)
def test_peer_key_has_its_impact(line: str, impact: str) -> None:
    (change,) = changes(PEER, f"{PEER}{line}\n")
    assert isinstance(change, PeerChanged)
    assert change.keys == (line.split(" ", maxsplit=1)[0],)
    assert str(change.impact) == impact
    assert change.path == "peers[192.0.2.1]"
    assert change.keys[0] in change.text


def test_worst_impact_of_several_keys_counts() -> None:
    (change,) = changes(PEER, f'{PEER}description = "x"\nhold_timer = 90\nnext_hop_self = true\n')
    assert isinstance(change, PeerChanged)
    assert change.impact is Impact.SESSION_RESET
    assert change.reset_keys == ("hold_timer",)


def test_enabled_acts_at_once_and_waits_for_no_session() -> None:
    (change,) = changes(PEER, f"{PEER}enabled = false\n")
    assert isinstance(change, PeerChanged)
    assert change.reset_keys == ()


def test_a_disabled_peer_has_no_session_to_reset() -> None:
    (change,) = changes(f"{PEER}enabled = false\n", f"{PEER}hold_timer = 90\n")
    assert change.impact is Impact.HITLESS


def test_router_id_reaches_the_peers_that_inherit_it() -> None:
    old = loads(f'{HEAD}{PEER}[[peers]]\nremote_ip = "192.0.2.2"\nremote_as = 1\nrouter_id = "1.1.1.1"\n')
    new = loads(
        f'router_id = "192.0.2.99"\ndefault_as = 65010\n{PEER}'
        '[[peers]]\nremote_ip = "192.0.2.2"\nremote_as = 1\nrouter_id = "1.1.1.1"\n'
    )
    glob, peer = diff(old, new)
    assert isinstance(glob, GlobalChanged)
    assert isinstance(peer, PeerChanged)
    assert (peer.peer, peer.keys) == ("192.0.2.1", ("local_router_id",))


def test_bfd_timers_change_by_poll() -> None:
    profile = "[bfd.profiles.f]\ntransmit_interval_ms = {}\n"
    glob, timers = changes(f"{profile.format(50)}{PEER}bfd = 'f'\n", f"{profile.format(60)}{PEER}bfd = 'f'\n")
    assert isinstance(glob, GlobalChanged)
    assert (glob.path, glob.text) == ("bfd.profiles.f", "transmit_interval_ms 50 → 60")
    assert isinstance(timers, BfdSettingsChanged)
    assert timers.keys == ("transmit_interval_ms",)
    assert str(timers.impact) == "bfd-poll"
    assert "50 → 60" in timers.text


# -- BFD ---------------------------------------------------------------------------------------------------


BFD_KEYS = [
    ("", "receive_interval_ms = 50", "bfd-poll", "receive_interval_ms 300 → 50"),
    ("", "detect_multiplier = 5", "bfd-poll", "detect_multiplier 3 → 5"),
    ("", "demand = true", "hitless", "demand false → true"),
    ("", "echo = true", "hitless", "echo false → true"),
    ("", "echo_receive_interval_ms = 60", "hitless", "echo_receive_interval_ms 50 → 60"),
    ("", "control_plane_independent = true", "hitless", "control_plane_independent false → true"),
    ("", "strict_hold_time = 5", "hitless", "strict_hold_time 30 → 5"),
    ("", "damping = false", "hitless", "damping true → false"),
    ("", "passive = true", "hitless", "passive false → true"),
    ("", "shutdown = true", "hitless", "shutdown false → true"),
    ("multihop = true", "multihop = true, minimum_ttl = 5", "hitless", "minimum_ttl 254 → 5"),
    ("", 'mode = "strict"', "hitless", "mode track → strict (offered from the peer's next session on)"),
    (
        "",
        "demand = true, transmit_interval_ms = 50",
        "bfd-poll",
        "transmit_interval_ms 300 → 50, demand false → true",
    ),
    (
        "",
        "multihop = true",
        "session-reset",
        "minimum_ttl 255 → 254, multihop false → true (another BFD session)",
    ),
    ("shutdown = true", "detect_multiplier = 5", "hitless", "shutdown true → false, detect_multiplier 3 → 5"),
]


@pytest.mark.parametrize(
    ("old", "new", "impact", "text", "alone"),
    [
        (*row, alone)
        for row in BFD_KEYS
        for alone in (False, True)
        if not (alone and row[1].startswith(("mode", "strict_hold_time", "damping")))  # are for peers
    ],
)
def test_bfd_key_has_its_impact(old: str, new: str, impact: str, text: str, alone: bool) -> None:
    if alone:
        session = '[[bfd.sessions]]\npeer = "192.0.2.9"\n'
        (change,) = changes(session + old.replace(", ", "\n"), session + new.replace(", ", "\n"))
        assert isinstance(change, BfdSessionChanged)
        assert change.path == f"bfd.sessions[192.0.2.9{' multihop' if 'multihop' in new else ''}]"
    else:
        (change,) = changes(f"{PEER}bfd = {{ {old} }}\n", f"{PEER}bfd = {{ {new} }}\n")
        assert isinstance(change, BfdSettingsChanged)
        assert change.path == "peers[192.0.2.1].bfd"
    assert sorted(change.text.split(", ")) == sorted(text.split(", "))
    assert str(change.impact) == impact


@pytest.mark.parametrize("line", ["multihop = 2", "ttl_security = 3"])
def test_rfc5882_2_hops_of_the_peer_make_another_bfd_session(line: str) -> None:
    _, change = changes(f"{PEER}bfd = true\n", f"{PEER}bfd = true\n{line}\n")
    assert isinstance(change, BfdSettingsChanged)
    assert change.impact is Impact.SESSION_RESET
    _, change = changes(f"{PEER}bfd = true\nmultihop = 2\n", f"{PEER}bfd = true\nmultihop = 3\n")
    assert (change.impact, change.text) == (Impact.HITLESS, "minimum_ttl 254 → 253")


A, B, C = (f'{{ type = "keyed-sha1", key_id = {number}, key = "hunter2-{number}" }}' for number in range(3))
AT_ONCE = " (at once: the neighbor has to follow within the detection time, or the session goes down)"


@pytest.mark.parametrize(
    ("old", "new", "impact"),
    [
        # a rotation as it should be, on one end after the other
        ([A], [A, B], "hitless"),
        ([A, B], [B, A], "hitless"),
        ([B, A], [B], "hitless"),
        ([A, B], [B, C, A], "hitless"),
        # what signs now was not accepted before, or what signed before is not any more
        ([A], [B, A], "session-reset"),
        ([A, B], [B], "session-reset"),
        ([A], [B], "session-reset"),
        ([A, B], [C], "session-reset"),
        ([], [A], "session-reset"),
        ([A], [], "session-reset"),
        ([A], [A.replace("hunter2", "sesame")], "session-reset"),
        ([A], [A.replace("keyed-sha1", "meticulous-keyed-sha1")], "session-reset"),
        ([A], [A.replace("key_id = 0", "key_id = 1")], "session-reset"),
    ],
)
def test_rfc5880_6_7_rotation_is_hitless_while_both_ends_know_what_signs(
    old: list[str], new: list[str], impact: str
) -> None:
    def bfd(keys: list[str]) -> str:
        return f"{PEER}bfd = {{ auth = [{', '.join(keys)}] }}\n"

    (change,) = changes(bfd(old), bfd(new))
    assert str(change.impact) == impact
    assert change.text.endswith(AT_ONCE) == (impact == "session-reset")
    assert "hunter2" not in f"{change.text} {change!r}"
    assert "sesame" not in f"{change.text} {change!r}"


def test_changed_keys_are_shown_by_type_and_number() -> None:
    old, new = f"{PEER}bfd = {{ auth = {A} }}\n", f"{PEER}bfd = {{ auth = [{A}, {B}] }}\n"
    assert changes(old, new)[0].text == "auth [keyed-sha1 0] → [keyed-sha1 0, keyed-sha1 1]"
    assert changes(old, old.replace("hunter2", "sesame"))[0].text == f"auth changed{AT_ONCE}"
    assert changes(PEER + "bfd = true\n", old)[0].text == f"auth [] → [keyed-sha1 0]{AT_ONCE}"


def test_a_disabled_peer_has_no_bfd_session_to_disturb() -> None:
    disabled = f"{PEER}enabled = false\n"
    (change,) = changes(f"{disabled}bfd = true\n", f"{disabled}bfd = {{ auth = {A} }}\n")
    assert change.impact is Impact.HITLESS


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("bfd = true", 'bfd = { mode = "strict" }', ("bfd.mode",)),
        ('bfd = { mode = "strict" }', "bfd = true", ("bfd.mode",)),
        ("", 'bfd = { mode = "strict" }', ("bfd.mode",)),
        ('bfd = { mode = "strict" }', "", ("bfd.mode",)),
        ("", "bfd = true", ()),
        ("bfd = true", "", ()),
        ("bfd = true", "bfd = { demand = true }", ()),
        ('bfd = { mode = "strict" }', 'bfd = { mode = "strict", strict_hold_time = 5 }', ()),
        ("bfd = true", 'hold_timer = 9\nbfd = { mode = "strict" }', ("hold_timer", "bfd.mode")),
    ],
)
def test_strict_mode_waits_for_the_open_that_offers_it(old: str, new: str, keys: tuple[str, ...]) -> None:
    in_force, wanted = (loads(f"{HEAD}{PEER}{line}\n").peers[0] for line in (old, new))
    assert waiting_keys(in_force, wanted) == keys


def test_sessions_come_and_go_without_a_hit() -> None:
    one, two = '[[bfd.sessions]]\npeer = "192.0.2.9"\n', '[[bfd.sessions]]\npeer = "fe80::9%eth0"\n'
    found = changes(one, two)
    assert [(change.path, change.text, change.impact) for change in found] == [
        ("bfd.sessions[192.0.2.9]", "removed", Impact.HITLESS),
        ("bfd.sessions[fe80::9%eth0]", "new", Impact.HITLESS),
    ]
    assert changes(one + two, two + one) == []


def test_rfc5882_2_another_path_is_another_session() -> None:
    plain = '[[bfd.sessions]]\npeer = "192.0.2.9"\n'
    (change,) = changes(plain, f'{plain}local = "192.0.2.10"\ninterface = "eth0"\ndescription = "x"\n')
    assert change.path == "bfd.sessions[192.0.2.9 from 192.0.2.10 on eth0]"
    assert change.impact is Impact.SESSION_RESET
    assert change.text == (
        "local unset → 192.0.2.10 (another BFD session), interface unset → eth0 (another BFD session), "
        "description unset → x"
    )


def test_of_several_sessions_with_a_neighbor_none_is_taken_for_another() -> None:
    def sessions(*locals_: int) -> str:
        return "".join(f'[[bfd.sessions]]\npeer = "192.0.2.9"\nlocal = "10.0.0.{number}"\n' for number in locals_)

    found = changes(sessions(1, 2), sessions(2, 3, 4))
    assert [(change.path.rpartition(" ")[2], change.text) for change in found] == [
        ("10.0.0.1]", "removed"),
        ("10.0.0.3]", "new"),
        ("10.0.0.4]", "new"),
    ]


def test_unsolicited_sessions_tell_their_keys_and_what_they_cost() -> None:
    profile = "[bfd.profiles.f]\ndetect_multiplier = {}\n"
    table = '[bfd.unsolicited]\nnetworks = ["192.0.2.0/24"]\n'
    (added,) = changes("", table)
    (removed,) = changes(table, "")
    assert [(change.path, change.text, change.impact) for change in (added, removed)] == [
        ("bfd.unsolicited", "added", Impact.HITLESS),
        ("bfd.unsolicited", "removed", Impact.HITLESS),
    ]
    (change,) = changes(table, f"{table}max_sessions = 5\n")
    assert (change.text, change.impact) == ("max_sessions 100 → 5", Impact.HITLESS)
    used = f'{table}profile = "f"\n'
    change, of_profile = changes(used + profile.format(4), used + profile.format(5))
    assert of_profile.path == "bfd.profiles.f"
    assert (change.text, change.impact) == ("detect_multiplier 4 → 5", Impact.BFD_POLL)
    change, _ = changes(table, used + profile.format(3))
    assert (change.text, change.impact) == ("profile unset → f", Impact.HITLESS)


def test_hooks_show_no_arguments() -> None:
    hook = '[[hooks]]\non = ["bfd-down", "bgp-down"]\ncommand = ["notify", "hunter2"]\n'
    (change,) = changes("", hook)
    assert (change.path, change.impact) == ("hooks", Impact.HITLESS)
    assert change.text == "[] → [notify on bfd-down bgp-down]"


def test_bfd_on_and_off_and_shutdown_are_hitless() -> None:
    on, off = changes(PEER, f"{PEER}bfd = true\n")[0], changes(f"{PEER}bfd = true\n", PEER)[0]
    down = changes(f"{PEER}bfd = true\n", f"{PEER}bfd = {{ shutdown = true }}\n")[0]
    assert isinstance(on, BfdChanged)
    assert isinstance(off, BfdChanged)
    assert isinstance(down, BfdSettingsChanged)
    assert {change.impact for change in (on, off, down)} == {Impact.HITLESS}


@pytest.mark.parametrize("header", ["static_routes", "peers.static_routes"])
def test_routes_are_told_apart_by_prefix(header: str) -> None:
    def routes(*lines: str) -> str:
        return PEER + "".join(f"[[{header}]]\nprefix = {line}\n" for line in lines)

    (change,) = changes(
        routes('"203.0.113.0/24"', '"198.51.100.0/24"', '"192.0.2.0/24"'),
        routes('"192.0.2.0/24"', '"198.51.100.0/24"\nlocal_pref = 5', '"2001:db8::/32"'),
    )
    assert isinstance(change, RoutesChanged)
    assert change.peer == ("192.0.2.1" if header.startswith("peers") else None)
    assert [str(route.prefix) for route in change.added] == ["2001:db8::/32"]
    assert [str(route.prefix) for route in change.removed] == ["203.0.113.0/24"]
    assert [(str(route.prefix), route.attributes.local_pref) for route in change.changed] == [("198.51.100.0/24", 5)]
    assert change.text == "added 2001:db8::/32; removed 203.0.113.0/24; changed 198.51.100.0/24"


def test_order_of_routes_and_peers_is_no_change() -> None:
    one, two = PEER, '[[peers]]\nremote_ip = "192.0.2.2"\nremote_as = 1\n'
    assert changes(one + two, two + one) == []


def test_a_secret_is_in_no_change() -> None:
    peer = loads(HEAD + PEER).peers[0]
    old = Config(router_id="1.1.1.1", default_as=1, peers=(peer,))
    secret = msgspec.structs.replace(peer, md5_password=Secret("hunter2"))
    locked = msgspec.structs.replace(old, peers=(secret,))
    other = msgspec.structs.replace(
        old, peers=(msgspec.structs.replace(peer, md5_password=Secret("sesame"), md5_password_file="f"),)
    )
    texts = []
    for before, after in ((old, locked), (locked, other), (locked, old)):
        (change,) = diff(before, after)
        texts.append(change.text)
        assert change.impact is Impact.HITLESS
        assert "hunter2" not in f"{change.text} {change!r}"
        assert "sesame" not in f"{change.text} {change!r}"
    assert texts == ["md5_password added", "md5_password changed, md5_password_file unset → f", "md5_password removed"]


def test_a_new_password_in_the_same_file_is_a_change() -> None:
    peer = loads(HEAD + PEER).peers[0]
    one, two = (
        Config(
            router_id="1.1.1.1",
            default_as=1,
            peers=(msgspec.structs.replace(peer, md5_password=Secret(word), md5_password_file="f"),),
        )
        for word in ("hunter2", "sesame")
    )
    (change,) = diff(one, two)
    assert change.text == "md5_password changed"


def test_rfc4456_what_reflection_depends_on_is_judged_anew_without_a_reset() -> None:
    internal = PEER.replace("65001", "65010")
    (client,) = changes(internal, f"{internal}route_reflector_client = true\n")
    (cluster,) = changes("", "cluster_id = 7\n")
    assert (client.impact, cluster.impact) == (Impact.SOFT, Impact.SOFT)
    assert (cluster.path, cluster.text) == ("cluster_id", "unset → 0.0.0.7")


def test_max_neighbors_of_a_network_is_hitless() -> None:
    network = PEER.replace("192.0.2.1", "192.0.2.0/24")
    (change,) = changes(network, f"{network}max_neighbors = 5\n")
    assert (change.impact, change.text) == (Impact.HITLESS, "max_neighbors unset → 5")


def test_what_of_graceful_restart_stands_in_the_open_waits() -> None:
    before = "graceful_restart = { restart_time = 60 }\n"
    (change,) = changes(PEER + before, f'{PEER}graceful_restart = {{ restart_time = 60, on_stop = "retain" }}\n')
    assert isinstance(change, PeerChanged)
    assert (change.impact, change.reset_keys) == (Impact.HITLESS, ())
    (change,) = changes(PEER + before, f'{PEER}graceful_restart = {{ restart_time = 61, on_stop = "retain" }}\n')
    assert isinstance(change, PeerChanged)
    assert (change.impact, change.reset_keys) == (Impact.SESSION_RESET, ("graceful_restart",))
    assert change.text == (
        "graceful_restart {enabled: true, restart_time: 60, on_stop: withdraw} → "
        "{enabled: true, restart_time: 61, on_stop: retain}"
    )


def test_a_change_inside_a_policy_is_soft_and_of_the_policy_alone() -> None:
    policy = '[policies.p]\ndefault = "{}"\nterms = [{{ match = {{ prefixes = ["10.0.0.0/8"] }}, action = "next" }}]\n'
    used = f'{PEER}import_policy = "p"\n'
    (change,) = changes(used + policy.format("accept"), used + policy.format("reject"))
    assert isinstance(change, GlobalChanged)
    assert (change.path, change.text, change.impact) == ("policies.p", "changed", Impact.SOFT)
    assert changes(used + policy.format("accept"), used + policy.format("accept")) == []


@pytest.mark.parametrize("key", ["import_policy", "export_policy"])
def test_another_policy_is_soft(key: str) -> None:
    policies = '[policies.a]\ndefault = "accept"\n[policies.b]\ndefault = "accept"\n'
    (change,) = changes(f'{PEER}{key} = "a"\n{policies}', f'{PEER}{key} = "b"\n{policies}')
    assert (change.path, change.text, change.impact) == ("peers[192.0.2.1]", f"{key} a → b", Impact.SOFT)


def test_policies_are_named_one_by_one() -> None:
    def config(**policies: Policy) -> Config:
        return Config(router_id="1.1.1.1", default_as=1, policies=policies)

    accept, reject = Policy("p"), Policy("p", default="reject")
    found = diff(config(kept=accept, gone=accept, other=accept), config(kept=accept, other=reject, new=accept))
    assert [(change.path, change.text, change.impact) for change in found] == [
        ("policies.gone", "removed", Impact.HITLESS),
        ("policies.other", "changed", Impact.SOFT),
        ("policies.new", "added", Impact.HITLESS),
    ]


# -- old, with the difference applied, is new --------------------------------------------------------------

ROUTES = st.dictionaries(
    st.sampled_from(["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"]), st.integers(0, 2), max_size=3
).map(
    lambda drawn: tuple(
        StaticRoute(Prefix.parse(text), PathAttributes(local_pref=pref)) for text, pref in drawn.items()
    )
)
AUTH = st.lists(
    st.builds(
        BfdAuth,
        type=st.sampled_from(["simple", "keyed-sha1"]),
        key_id=st.integers(0, 1),
        key=st.sampled_from([Secret("hunter2"), Secret("sesame")]),
    ),
    max_size=2,
    unique_by=lambda key: key.key_id,
).map(tuple)
BFD = st.none() | st.builds(
    BfdSettings,
    transmit_interval_ms=st.sampled_from([50, 300]),
    shutdown=st.booleans(),
    multihop=st.booleans(),
    mode=st.sampled_from(["track", "strict"]),
    auth=AUTH,
)
SESSIONS = st.lists(
    st.builds(
        BfdStandalone,
        peer=st.sampled_from(["192.0.2.8", "192.0.2.9", "fe80::9"]),
        local=st.sampled_from([None, "192.0.2.10"]),
        interface=st.sampled_from(["eth0", "eth1"]),
        multihop=st.booleans(),
        demand=st.booleans(),
        auth=AUTH,
    ),
    unique_by=lambda session: session.path,
    max_size=4,
).map(tuple)
UNSOLICITED = st.none() | st.builds(
    BfdUnsolicited,
    networks=st.just(("192.0.2.0/24",)),
    settings=st.sampled_from([BfdSettings(passive=True), BfdSettings(passive=True, echo=True)]),
    max_sessions=st.integers(1, 2),
)
PEERS = st.lists(
    st.builds(
        PeerConfig,
        id=st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        remote_ip=st.just("192.0.2.1"),
        remote_as=st.integers(1, 2),
        local_as=st.integers(1, 2),
        local_router_id=st.just("1.1.1.1"),
        enabled=st.booleans(),
        passive=st.booleans(),
        description=st.sampled_from([None, "a"]),
        families=st.sampled_from([(IPV4_UNICAST,), (IPV4_UNICAST, IPV6_UNICAST)]),
        bfd=BFD,
        static_routes=ROUTES,
    ),
    unique_by=lambda peer: peer.id,
    max_size=3,
).map(tuple)
CONFIGS = st.builds(
    Config,
    router_id=st.sampled_from(["1.1.1.1", "2.2.2.2"]),
    default_as=st.integers(1, 2),
    bgp_socket=st.sampled_from([(), (Listen("::", 179),)]),
    api=st.builds(ApiConfig, unix_mode=st.sampled_from([0o600, 0o660])),
    log=st.builds(LogConfig, format=st.sampled_from(["text", "json"])),
    bfd=st.builds(
        BfdGlobal,
        profiles=st.sampled_from([{}, {"a": BfdProfile()}, {"a": BfdProfile(passive=True), "b": BfdProfile()}]),
        sessions=SESSIONS,
        unsolicited=UNSOLICITED,
    ),
    hooks=st.sampled_from([(), (Hook(on=("bgp-up",), command=("a",)),), (Hook(on=("bgp-up",), command=("b",)),)]),
    peers=PEERS,
    static_routes=ROUTES,
)


def with_routes(routes: tuple[StaticRoute, ...], change: RoutesChanged) -> tuple[StaticRoute, ...]:
    table = {route.prefix: route for route in routes}
    for route in change.removed:
        del table[route.prefix]
    for route in change.changed:
        assert route.prefix in table
        table[route.prefix] = route
    for route in change.added:
        assert route.prefix not in table
        table[route.prefix] = route
    return tuple(table.values())


def apply(config: Config, changes: list[Change]) -> Config:
    replace = msgspec.structs.replace
    peers = {peer.id: peer for peer in config.peers}
    profiles = dict(config.bfd.profiles)
    sessions = {session.path: session for session in config.bfd.sessions}
    for change in changes:
        match change:
            case GlobalChanged(key, old, new) if key.startswith("bfd.profiles."):
                name = key.rpartition(".")[2]
                assert profiles.get(name) == old
                if new is None:
                    del profiles[name]
                else:
                    assert isinstance(new, BfdProfile)
                    profiles[name] = new
            case BfdSessionChanged(before, after):
                if before is not None:
                    assert sessions.pop(before.path) == before
                if after is not None:
                    assert after.path not in sessions
                    sessions[after.path] = after
            case GlobalChanged(key, _, new):
                section, _, name = key.partition(".")
                value = replace(getattr(config, section), **{name: new}) if name else new
                config = replace(config, **{section: value})
            case PeerAdded(peer):
                assert peer.id not in peers
                peers[peer.id] = peer
            case PeerRemoved(peer):
                del peers[peer.id]
            case PeerChanged(identity, keys, _, new):
                peers[identity] = replace(peers[identity], **{key: getattr(new, key) for key in keys})
            case BfdChanged(identity, _, new) | BfdSettingsChanged(identity, _, new):
                peers[identity] = replace(peers[identity], bfd=new)
            case RoutesChanged(None):
                config = replace(config, static_routes=with_routes(config.static_routes, change))
            case RoutesChanged(str() as identity):
                routes = with_routes(peers[identity].static_routes, change)
                peers[identity] = replace(peers[identity], static_routes=routes)
            case RoutesChanged():
                raise AssertionError(change)
            case _:
                assert_never(change)
    bfd = replace(config.bfd, profiles=profiles, sessions=tuple(sessions.values()))
    return replace(config, bfd=bfd, peers=tuple(peers.values()))


def in_order(config: Config) -> Config:
    def routes(unordered: tuple[StaticRoute, ...]) -> tuple[StaticRoute, ...]:
        return tuple(sorted(unordered, key=lambda route: route.prefix))

    replace = msgspec.structs.replace
    peers = sorted(config.peers, key=lambda peer: peer.id)
    sessions = sorted(config.bfd.sessions, key=lambda session: str(session.path))
    return replace(
        config,
        bfd=replace(config.bfd, sessions=tuple(sessions)),
        static_routes=routes(config.static_routes),
        peers=tuple(replace(peer, static_routes=routes(peer.static_routes)) for peer in peers),
    )


@settings(max_examples=200, deadline=None)
@given(CONFIGS, CONFIGS)
def test_old_with_its_difference_applied_is_new(old: Config, new: Config) -> None:
    found = diff(old, new)
    assert in_order(apply(old, found)) == in_order(new)
    assert all(change.text and change.path and str(change.impact) for change in found)
    told = " ".join(f"{change.text} {change!r}" for change in found)
    assert "hunter2" not in told
    assert "sesame" not in told


@given(CONFIGS)
def test_a_configuration_does_not_differ_from_itself(config: Config) -> None:
    assert diff(config, msgspec.structs.replace(config, warnings=("w",), files=("f",))) == []
