"""bgpbfdctl as a process: what it prints, what it exits with, against a server with a fake engine and against none."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bgpbfdctl.client import Client, Unreachable
from cli_daemon import COMMAND, Daemon

from bgpbfd.control.snapshot import ReloadResult


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def columns(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


# -- tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [("show", "neighbors"), ("show", "peers"), ("sh", "nei"), ("show", "p")])
def test_show_neighbors(daemon: Daemon, verb: tuple[str, ...]) -> None:
    lines = good(daemon.ctl(*verb)).splitlines()
    assert columns(lines[0]) == [
        "Neighbor", "Router ID", "AS", "State", "Up/Down", "BFD", "MsgRcvd", "MsgSent", "PfxRcd", "PfxSnt", "Flaps",
        "Last error",
    ]  # fmt: skip
    assert columns(lines[1])[:11] == [
        "192.0.2.1", "192.0.2.1", "65001", "established", "1d01h01m", "up", "12", "34", "2", "1", "3",
    ]  # fmt: skip
    assert columns(lines[2])[:6] == ["2001:db8::1", "-", "65001", "idle", "00:00:04", "-"]
    assert len(lines) == 3


def test_show_neighbors_of_one_and_without_header(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "neighbors", "tor-1", "--no-header")).splitlines()
    assert [columns(line)[0] for line in lines] == ["192.0.2.1"]


@pytest.mark.parametrize("words", [("tor-1", "detail"), ("detail", "tor-1"), ("tor-1", "det")])
def test_show_neighbor_detail(daemon: Daemon, words: tuple[str, ...]) -> None:
    text = good(daemon.ctl("show", "neighbors", *words))
    for piece in (
        "192.0.2.1 (tor-1)",
        "192.0.2.10:40000 → 192.0.2.1:179",
        "90 s, keepalive 30 s (180 s configured)",
        "1.5 s ago",
        "4-octet AS 65001",
        "hold_timer",
        "Disabled families       ipv6 unicast",
        "Last session ended      BAD\\x1b[1m [notification-sent]",
        "message 00ff",
        "treat-as-withdraw 1",
        "ORIGIN: origin 7 \\x1b[2J [treat-as-withdraw]",
        "octets 0102 (of 900 octets)",
        "NOTIFICATIONs received  6/2 2",
        "customer, the peer's provider",
        "receive ipv4 unicast",
        "restart time 120 s, NOTIFICATIONs included",
        "Stale routes            kept until 20",
        "TCP MD5                 yes",
        "TTL security            1 hop\n",
        "Import policy           no-defaults",
        "NOTIFICATION 6/2",
    ):
        assert piece in text
    assert "2001:db8::1" not in text
    assert "2001:db8::1" in good(daemon.ctl("show", "neighbors", "detail"))


def test_show_bfd(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "bfd")).splitlines()
    assert columns(lines[0]) == [
        "Peer", "Interface", "State", "Since", "Tx", "Rx", "Mult", "Detect", "Flaps", "Diag", "Remote diag",
    ]  # fmt: skip
    assert columns(lines[1]) == [
        "192.0.2.1", "eth0", "up", "00:01:00", "50ms", "60ms", "3", "1500ms", "1", "ok",
        "neighbor signaled session down",
    ]  # fmt: skip
    one = good(daemon.ctl("show", "bfd", "tor-1"))
    assert "path-loss" in one
    assert re.search(r"last packet 20\S+ \S+, 150\.4ms before", one)
    assert "the one before it: none" in one


def test_show_bfd_says_under_the_table_what_cannot_run_or_holds_bgp_back(daemon: Daemon) -> None:
    daemon.engine.sessions[0] = replace(daemon.engine.sessions[0], damped_until=daemon.engine.now() + 90 * 1_000_000)
    lines = good(daemon.ctl("show", "bfd")).splitlines()
    assert lines[3:] == [
        "192.0.2.1: held back for 00:01:30 more: BFD has failed too often",
        "2001:db8::1: no such address",
    ]
    assert len(good(daemon.ctl("show", "bfd", "--no-header")).splitlines()) == 2


def test_show_bfd_counters_and_what_belongs_to_no_session(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "bfd", "counters")).splitlines()
    assert columns(lines[0]) == [
        "Peer", "In", "Out", "Bad", "Late", "Echo in", "Echo out", "Up", "Down", "Discarded for",
    ]  # fmt: skip
    assert columns(lines[1]) == ["192.0.2.1", "100", "200", "3", "0", "0", "0", "2", "1", "bad-ttl 2, bad-version 1"]
    assert columns(lines[2]) == ["2001:db8::1", "0", "0", "0", "0", "0", "0", "0", "0", "-"]
    assert lines[3:] == ["Discarded without a session: no-session 4"]
    for words in (("tor-1", "counters"), ("cou", "tor-1")):
        assert len(good(daemon.ctl("show", "bfd", *words)).splitlines()) == 2


def test_show_bfd_brief_has_frrs_columns(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "bfd", "brief")).splitlines()
    assert lines[0] == "Session count: 2"
    assert columns(lines[1]) == ["Session ID", "Local", "Peer", "Status"]
    assert columns(lines[2]) == ["7", "192.0.2.10", "192.0.2.1", "up"]
    assert columns(lines[3]) == ["-", "-", "2001:db8::1", "down"]
    assert len(good(daemon.ctl("show", "bfd", "tor-1", "bri", "--no-header")).splitlines()) == 1
    assert [one["id"] for one in json.loads(good(daemon.ctl("show", "bfd", "brief", "-j")))] == [7, None]


def test_show_bfd_with_too_many_words_exits_2(daemon: Daemon) -> None:
    for words in (("brief", "counters"), ("tor-1", "tor-2"), ("tor-1", "brief", "counters")):
        done = daemon.ctl("show", "bfd", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "show bfd [PEER] [counters|brief]" in done.stderr


def test_show_bfd_of_a_stand_alone_session_with_everything(daemon: Daemon) -> None:
    snapshot = daemon.engine.sessions[0]
    report = snapshot.report
    assert report is not None
    now = daemon.engine.now()
    daemon.engine.sessions = [
        replace(
            snapshot,
            peer="198.51.100.7",
            description="far",
            mode="none",
            clients=("configured",),
            report=msgspec.structs.replace(
                report, remote="198.51.100.7", multihop=True, minimum_ttl=250, demand=True, remote_demand=True,
                control_plane_independent=True, auth_type="keyed-sha1", auth_key_id=3, remote_auth_key_id=4,
                required_min_echo_rx_us=50_000, echo_tx_us=100_000, remote_required_min_echo_rx_us=20_000,
                rtt_min_us=120, rtt_avg_us=150, rtt_max_us=900, late_packets=5, previous_rx=now - 62_000,
                last_tx=now - 5_000, passive=True, polling=True,
            ),
        )
    ]  # fmt: skip
    for name in ("198.51.100.7", "::ffff:198.51.100.7", "far"):
        text = good(daemon.ctl("show", "bfd", name))
        assert text.startswith("198.51.100.7 (far)\n")
        for piece in (
            "configured, mode none, profile fast",
            "TTL of 250 and up",
            "sent every 100ms, looped back every 50ms at most, by the peer every 20ms at most",
            "120 µs least, 150 µs on average, 900 µs most",
            "in force: the peer may be silent, asked for by the peer",
            "ours is independent\n",
            "keyed-sha1, key 3, the peer's key 4",
            "12.5ms ago, the one before it 62ms ago",
            "Last sent       5ms ago",
            "Late packets    5",
            "Passive         yes",
            "new timers being agreed on",
        ):
            assert piece in text
    assert "1 BFD session " in good(daemon.ctl("clear", "bfd", "counters", "far"))
    assert daemon.engine.calls == [("clear", "198.51.100.7")]
    done = daemon.ctl("show", "bfd", "192.0.2.99")
    assert (done.returncode, done.stderr) == (
        1, "bgpbfdctl: peer: no BFD session with '192.0.2.99'; known: 198.51.100.7\n",
    )  # fmt: skip


def test_show_neighbor_detail_says_that_bgp_waits_for_bfd(daemon: Daemon) -> None:
    assert "Waiting for BFD" not in good(daemon.ctl("show", "neighbors", "tor-1", "detail"))
    daemon.engine.peers[0] = replace(daemon.engine.peers[0], waiting_for_bfd=True)
    assert "Waiting for BFD         BGP comes up when BFD" in good(daemon.ctl("show", "nei", "tor-1", "detail"))
    (peer,) = json.loads(good(daemon.ctl("show", "neighbors", "tor-1", "-j")))
    assert peer["waiting_for_bfd"] is True


def test_show_routes(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "routes")).splitlines()
    assert columns(lines[0]) == [
        "Prefix", "Next hop", "MED", "Local pref", "AS path", "Communities", "Source", "Age", "Announced to", "Reason",
    ]  # fmt: skip
    assert columns(lines[1]) == ["198.51.100.0/24", "self", "-", "-", "-", "-", "config", "00:00:01", "1/2", "-"]
    lines = good(daemon.ctl("show", "routes", "learned")).splitlines()
    assert columns(lines[1])[4:6] == ["65001 65002 {1,2}", "no-export 65001:99 65001:1:2 rt:65001:1"]
    assert columns(lines[2])[-1] == "AS loop"
    assert len(good(daemon.ctl("show", "routes", "learned", "tor-1")).splitlines()) == 2
    good(daemon.ctl("show", "routes", "adv", "tor-1"))
    assert daemon.engine.calls == [("advertised", "tor-1")]


def test_show_routes_why_has_a_column_for_it(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "routes", "learned", "--why")).splitlines()
    assert columns(lines[0])[-1] == "Why"
    assert columns(lines[1])[-1] == "-"
    assert columns(lines[2])[0] == "2001:db8:9::/48 (path 7)"
    assert columns(lines[2])[-1] == "policy 'no-defaults': term 1 accepts"
    assert columns(good(daemon.ctl("show", "routes", "--why")).splitlines()[1])[-1] == "asked"
    daemon.engine.learned = [replace(daemon.engine.learned[0], stale=True)]
    assert "stale: the neighbor is to send it again" in good(daemon.ctl("show", "routes", "learned"))


def test_long_lists_come_whole(daemon: Daemon) -> None:
    daemon.engine.learned = [daemon.engine.learned[0]] * 4500
    assert len(json.loads(good(daemon.ctl("show", "routes", "learned", "-j")))) == 4500


def test_show_events_config_version(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "events")).splitlines()
    assert columns(lines[0]) == ["Time", "Event", "Peer", "What happened"]
    assert columns(lines[5])[:3] == ["2023-11-14 23:36:40.000", "bgp-down", "192.0.2.1"]
    assert "router_id: 192.0.2.10" in good(daemon.ctl("show", "config"))
    assert "version: 0.1.0" in good(daemon.ctl("show", "version"))


def test_no_control_character_of_a_peer_reaches_the_output(daemon: Daemon) -> None:
    for args in (
        ("show", "neighbors"),
        ("show", "neighbors", "detail"),
        ("show", "events"),
        ("show", "neighbors", "-j"),
        ("show", "events", "-j"),
    ):
        text = good(daemon.ctl(*args))
        assert {char for char in text if not char.isprintable()} <= {"\n"}
    assert "\\x1b[31mred\\x07" in good(daemon.ctl("show", "neighbors"))


# -- JSON and options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ("-j", "show", "neighbors"),
        ("show", "neighbors", "-j"),
        ("show", "--json", "neighbors"),
        ("--no-header", "show", "--json", "neighbors"),
    ],
)
def test_json_wherever_the_option_stands(daemon: Daemon, args: tuple[str, ...]) -> None:
    peers = json.loads(good(daemon.ctl(*args)))
    assert [peer["peer"] for peer in peers] == ["192.0.2.1", "2001:db8::1"]
    assert peers[0]["uptime"] == 90061.0


def test_json_of_one_is_a_list_too(daemon: Daemon) -> None:
    (one,) = json.loads(good(daemon.ctl("show", "neighbors", "tor-1", "-j")))
    assert one["hold_time"] == 90
    assert json.loads(good(daemon.ctl("reload", "-j")))["changes"][0]["impact"] == "soft"


@pytest.mark.parametrize("form", ["{tcp}", "http://{tcp}", "http://{tcp}/", "unix:{path}", "unix://{path}", "{path}"])
def test_api_in_every_spelling(daemon: Daemon, form: str) -> None:
    api = form.format(tcp=daemon.tcp, path=daemon.path)
    assert "0.1.0" in good(daemon.ctl("show", "version", "--api", api, BGPBFD_API="unix:/nowhere"))
    assert "0.1.0" in good(daemon.ctl(f"--api={api}", "show", "version", BGPBFD_API="unix:/nowhere"))


# -- commands ----------------------------------------------------------------------------------------------


def test_advertise_and_withdraw(daemon: Daemon) -> None:
    said = good(
        daemon.ctl(
            "advertise", "route", "203.0.113.0/24", "192.0.2.10", "--as-path", "65000", "500", "--origin", "egp",
            "--local-pref", "50", "--med", "7", "--communities", "65000:99,no-export", "65000:1:2", "--peer", "tor-1",
        )
    )  # fmt: skip
    assert said == "203.0.113.0/24 is advertised to 1 peer\n"
    (_, route, peers) = daemon.engine.calls[0]
    assert peers == ["192.0.2.1"]
    attributes = route.attributes
    assert (attributes.origin, attributes.local_pref, attributes.med) == (1, 50, 7)
    assert attributes.as_path[0].asns == (65000, 500)
    assert attributes.communities == (65000 << 16 | 99, 0xFFFFFF01)
    assert attributes.large_communities == ((65000, 1, 2),)
    good(daemon.ctl("advertise", "route", "2001:db8::/32", "self"))
    assert daemon.engine.calls[1][1].attributes.next_hop is None
    assert good(daemon.ctl("withdraw", "route", "203.0.113.0/24")) == "203.0.113.0/24 is withdrawn from 1 peer\n"
    assert daemon.engine.calls[2] == ("withdraw", "203.0.113.0/24", None)


def test_flows_are_shown_with_their_matches_and_action(daemon: Daemon) -> None:
    lines = good(daemon.ctl("show", "flows")).splitlines()
    assert columns(lines[0]) == [
        "Family", "Matches", "Action", "MED", "Local pref", "AS path", "Communities", "Source", "Age", "Announced to",
        "Reason",
    ]  # fmt: skip
    rule = ["ipv4", "destination 192.0.2.0/24, protocol =6, port =25", "traffic-rate 24000", "7", "-", "-"]
    why = "192.0.2.1: ipv4 flow was not negotiated with this peer"
    assert columns(lines[1]) == [*rule, "rt:65001:1", "config", "00:00:01", "1/2", why]
    assert columns(lines[2])[:3] == ["ipv6", "destination 2001:db8::/32", "redirect [2001:db8::]:6"]
    assert len(json.loads(good(daemon.ctl("show", "flows", "-j")))) == 2
    good(daemon.ctl("show", "flows", "learned", "tor-1"))
    good(daemon.ctl("show", "flows", "adv"))
    assert daemon.engine.calls[2:] == [("flows", "learned", "tor-1"), ("flows", "advertised", None)]


def test_show_routes_has_flows_in_a_table_of_their_own(daemon: Daemon) -> None:
    daemon.engine.wanted += daemon.engine.rules
    unicast, flows = good(daemon.ctl("show", "routes")).split("\n\n")
    assert [columns(line)[0] for line in unicast.splitlines()] == ["Prefix", "198.51.100.0/24"]
    assert [columns(line)[0] for line in flows.splitlines()] == ["Family", "ipv4", "ipv6"]
    assert len(json.loads(good(daemon.ctl("show", "routes", "-j")))) == 3


def test_advertise_and_withdraw_flow(daemon: Daemon) -> None:
    matches = ("-m", "source 3001:100::/56", "destination-port >8000 <=8080", "-m", "packet-length >100")
    said = good(
        daemon.ctl(
            "advertise",
            "flow",
            "ipv6",
            "traffic-rate 24000",
            *matches,
            "--med",
            "7",
            "-c",
            "65000:99",
            "--peer",
            "tor-1",
        )
    )
    words = "source 3001:100::/56, destination-port >8000 <=8080, packet-length >100"
    assert said == f"{words} is advertised to 1 peer\n"
    (_, flow, peers) = daemon.engine.calls[0]
    assert peers == ["192.0.2.1"]
    assert flow.prefix.nlri == bytes.fromhex("14 02 38 00 30010100000000 05 12 1f40 d5 1f90 0a 82 64")
    assert flow.attributes.extended_communities == (bytes.fromhex("8006000046bb8000"),)
    assert (flow.attributes.med, flow.attributes.communities) == (7, (65000 << 16 | 99,))
    # without quotes around the action
    good(daemon.ctl("advertise", "flow", "ipv4", "redirect", "65000:1", "-m", "source 10.0.0.0/8"))
    assert daemon.engine.calls[1][1].attributes.extended_communities == (bytes.fromhex("8008fde800000001"),)
    assert good(daemon.ctl("withdraw", "flow", "ipv4", "-m", "port =80")) == "port =80 is withdrawn from 1 peer\n"
    assert daemon.engine.calls[2][1].nlri == bytes.fromhex("03 04 81 50")
    # the line that advertised it, with another verb
    good(daemon.ctl("withdraw", "flow", "ipv4", "redirect", "65000:1", "-m", "source 10.0.0.0/8"))


def test_neighbor_commands(daemon: Daemon) -> None:
    assert good(daemon.ctl("neighbor", "tor-1", "disable", "going", "home")) == "192.0.2.1 disabled\n"
    good(daemon.ctl("neighbor", "192.0.2.1", "enable"))
    good(daemon.ctl("nei", "tor-1", "reset"))
    good(daemon.ctl("neighbor", "tor-1", "ref"))
    assert [call[0] for call in daemon.engine.calls] == ["disable", "enable", "reset", "refresh"]
    assert daemon.engine.calls[0] == ("disable", "192.0.2.1", "going home")


def test_clear_and_reload(daemon: Daemon) -> None:
    assert "2 BFD sessions" in good(daemon.ctl("clear", "bfd", "counters"))
    assert good(daemon.ctl("reload")) == 'reloaded, 1 change:\n  soft: peers["x"]: peer x: added\n'
    daemon.engine.result = ReloadResult(True)
    assert good(daemon.ctl("reload")) == "reloaded: nothing changed\n"


# -- exit codes --------------------------------------------------------------------------------------------


def test_reload_of_a_bad_file_exits_1_with_every_fault(daemon: Daemon) -> None:
    daemon.engine.result = ReloadResult(
        False, (), (("peers[0].hold_timer", "0, or 3 and up"), ("router_id", "missing"))
    )
    done = daemon.ctl("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bgpbfdctl: peers[0].hold_timer: 0, or 3 and up\nbgpbfdctl: router_id: missing\n"


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("show", "neighbors", "tor-9"), "known are"),
        (("withdraw", "route", "10.0.0.0/8"), "not advertised"),
        (("advertise", "route", "10.0.0.1/8", "self"), "route.prefix"),
        (("advertise", "flow", "ipv4", "drop", "-m", "port =1"), "flow.action: 'drop': expected traffic-rate"),
        (("advertise", "flow", "ipv4", "discard", "-m", "port =1", "prot =6"), "flow.matches[1]: 'prot =6'"),
        (("withdraw", "flow", "ipv6", "-m", "port =1"), "not advertised"),
        (("advertise", "route", "10.0.0.0/8", "self", "--ttl", "5"), "ttl: not supported yet"),
    ],
)
def test_refused_exits_1(daemon: Daemon, args: tuple[str, ...], word: str) -> None:
    done = daemon.ctl(*args)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bgpbfdctl: ")
    assert word in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("show",),
        ("shw", "neighbors"),
        ("show", "nothing"),
        ("s", "version"),
        ("show", "neighbors", "a", "b", "c"),
        ("show", "routes", "tor-1"),
        ("show", "config", "--frobnicate"),
        ("show", "version", "extra"),
        ("neighbor", "tor-1"),
        ("neighbor", "tor-1", "explode"),
        ("neighbor", "tor-1", "reset", "now"),
        ("advertise", "route", "10.0.0.0/8"),
        ("advertise", "route", "10.0.0.0/8", "self", "--med", "x"),
        ("withdraw", "route"),
        ("advertise", "flow", "ipv4", "discard"),
        ("advertise", "flow", "ipv5", "discard", "-m", "port =1"),
        ("withdraw", "flow", "ipv4"),
        ("show", "flows", "tor-1"),
        ("show", "version", "--api"),
        ("show", "version", "--api", "ftp://x"),
        ("show", "version", "--api", "127.0.0.1:port"),
        ("show", "version", "--watch", "--interval", "0"),
    ],
)
def test_wrong_usage_exits_2(daemon: Daemon, args: tuple[str, ...]) -> None:
    done = daemon.ctl(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bgpbfdctl: ")
    assert "Traceback" not in done.stderr
    assert daemon.engine.calls == []


@pytest.mark.parametrize(
    "args",
    [
        ("drain", "--wait", "5"),
        ("undrain",),
        ("explain", "10.0.0.0/8"),
        ("plan", "x.toml"),
        ("show", "services"),
        ("service", "dns", "disable"),
        ("top",),
        ("doctor",),
    ],
)
def test_verbs_of_later_exit_2(daemon: Daemon, args: tuple[str, ...]) -> None:
    done = daemon.ctl(*args)
    assert (done.returncode, done.stderr) == (2, "bgpbfdctl: not supported yet\n")


@pytest.mark.parametrize("args", [("--help",), ("-h",), ("show", "-h"), ("show", "neighbors", "--help")])
def test_help(daemon: Daemon, args: tuple[str, ...]) -> None:
    assert "usage: bgpbfdctl" in good(daemon.ctl(*args))


def _dead(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path / "dead.sock"))
        sock.listen()
    return f"unix:{path}/dead.sock"


def _file(path: Path) -> str:
    (path / "file").write_text("")
    return f"unix:{path}/file"


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda path: f"unix:{path}/none.sock", "is bgpbfd running?"),
        (_dead, "left its socket"),
        (_file, "--api"),
        (lambda path: "127.0.0.1:1", "is bgpbfd running?"),
        (lambda path: f"unix:/{'x' * 200}", "--api"),
    ],
)
def test_no_daemon_exits_3_and_says_what_to_do(
    daemon: Daemon, tmp_path: Path, make: Callable[[Path], str], advice: str
) -> None:
    api = make(tmp_path)
    done = daemon.ctl("show", "neighbors", "--api", api)
    assert (done.returncode, done.stdout) == (3, "")
    assert api in done.stderr
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_permission_denied_names_the_group_and_mode() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        daemon = Daemon(Path(folder) / "api.sock")
        daemon.start()
        group = grp.getgrgid(os.getgid()).gr_name
        os.seteuid(65534)
        try:
            with pytest.raises(Unreachable, match=f"permission denied on .*group {group}, mode 0600"):
                Client(daemon.api).call("show_version")
        finally:
            os.seteuid(0)
            daemon.end()


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Something on a TCP port that is no bgpbfd."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    ],
)
def test_what_is_no_bgpbfd_exits_3(daemon: Daemon, reply: bytes) -> None:
    with answering(reply) as api:
        done = daemon.ctl("show", "version", "--api", api)
    assert (done.returncode, done.stdout) == (3, "")
    assert api in done.stderr
    assert "Traceback" not in done.stderr


# -- signals, pipes, terminals -----------------------------------------------------------------------------


def test_reader_that_has_seen_enough(daemon: Daemon) -> None:
    daemon.engine.learned = [daemon.engine.learned[0]] * 5000
    process = daemon.popen("show", "routes", "learned")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(20) == 0
    process.stderr.close()


def _lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def _end(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_watch_repeats_survives_hup_and_ends_cleanly(daemon: Daemon, number: int) -> None:
    process = daemon.popen("show", "version", "--watch", "--interval", "0.1")
    _lines(process, 2)
    process.send_signal(signal.SIGHUP)
    assert _lines(process, 4)[-1] == "pid: 1\n"
    assert _end(process, number) == (0, "")


def test_watch_goes_on_while_the_daemon_restarts(daemon: Daemon) -> None:
    process = daemon.popen("show", "version", "--watch", "--interval", "0.1")
    _lines(process, 2)
    daemon.stop()
    assert process.stdout is not None
    while "running" not in process.stdout.readline():
        pass
    daemon.start()
    while "0.1.0" not in process.stdout.readline():
        pass
    assert _end(process, signal.SIGINT) == (0, "")


def test_events_followed_past_a_restart(daemon: Daemon) -> None:
    process = daemon.popen("show", "events", "--follow", "-j")
    assert [json.loads(line)["number"] for line in _lines(process, 5)] == [1, 2, 3, 4, 5]
    first = daemon.engine.recorded[0]
    daemon.engine.recorded.append(type(first)(6, first.at + 10_000, "reload", None, "again"))
    assert json.loads(_lines(process, 1)[0])["kind"] == "reload"
    daemon.stop()
    assert process.stderr is not None
    assert "waiting" in process.stderr.readline()
    daemon.engine.recorded[:] = [type(first)(1, first.at + 20_000_000, "start", None, "anew")]
    daemon.start()
    assert json.loads(_lines(process, 1)[0])["text"] == "anew"
    assert _end(process, signal.SIGINT)[0] == 0


def in_terminal(daemon: Daemon, *args: str, **more: str) -> tuple[int, str]:
    """Run on a pty of 200 columns."""
    pid, terminal = pty.fork()
    if pid == 0:
        environment = daemon.environment(TERM="xterm-256color", COLUMNS="200", LINES="50") | more
        os.execve(COMMAND[0], [*COMMAND, *args], environment)
    pieces: list[bytes] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and select.select([terminal], [], [], 20)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), b"".join(pieces).decode()


def test_terminal_gets_colours_and_no_control_characters_of_peers(daemon: Daemon) -> None:
    code, text = in_terminal(daemon, "show", "neighbors")
    assert code == 0
    assert "\x1b[32mestablished\x1b[0m" in text
    assert "\\x1b[31mred\\x07" in text
    assert "\x1b[31mred" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_without_colours(daemon: Daemon, more: dict[str, Any]) -> None:
    code, text = in_terminal(daemon, "show", "neighbors", **more)
    assert code == 0
    assert "\x1b" not in text
    assert columns(text.splitlines()[1])[0] == "192.0.2.1"


def test_pipes_never_import_rich_nor_the_daemon(daemon: Daemon) -> None:
    program = """
import sys
from bgpbfdctl.main import main
code = main(["show", "neighbors"])
print(sorted({name.split(".")[0] for name in sys.modules} & {"rich", "aiohttp", "bgpbfd", "msgspec"}))
sys.exit(code)
"""
    command = [sys.executable, "-c", program]
    environment = daemon.environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert good(done).splitlines()[-1] == "[]"


def test_show_neighbors_is_quick(daemon: Daemon) -> None:
    def once() -> float:
        started = time.monotonic()
        good(daemon.ctl("show", "neighbors"))
        return time.monotonic() - started

    assert any(once() < 0.3 for _ in range(10))
