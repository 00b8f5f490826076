"""What ``bgpbfd bfd`` takes and refuses, and the lines that it prints; nothing is started here."""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from bgpbfd.bfd.protocol import Late, SessionReport, StateChange
from bgpbfd.core import SECOND, Instant
from bgpbfd.standalone_lines import JsonLines, TextLines
from bgpbfd.standalone_options import CannotStart, Host, Key, Options, add_arguments, read_options

LOCAL, REMOTE = "192.0.2.10", "192.0.2.1"


class Usage(Exception):
    """The parser's error()."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(message)


def options(*argv: str) -> Options:
    parser = _Parser(prog="bgpbfd bfd", allow_abbrev=False)
    add_arguments(parser)
    return read_options(parser.parse_args(argv), parser.error)


# -- what is typed -------------------------------------------------------------------------------------------


def test_defaults() -> None:
    got = options(LOCAL, REMOTE)
    assert (got.bind, got.local, got.remotes) == (LOCAL, LOCAL, (Host(REMOTE, REMOTE, None),))
    assert (got.rx_interval_ms, got.tx_interval_ms, got.detect_mult) == (300, 300, 3)
    assert (got.passive, got.demand, got.echo_ms, got.multihop, got.minimum_ttl) == (False, False, 0, False, 255)
    assert (got.keys, got.json, got.log_level, got.interface) == ((), False, "info", None)


@pytest.mark.parametrize(
    "argv",
    [
        (
            "--rx-interval",
            "50",
            "--tx-interval=60",
            "--detect-mult",
            "4",
            "--passive",
            "--ipv4",
            "--log-level",
            "debug",
        ),
        ("-r", "50", "-t60", "-m", "4", "-p", "-4", "-l", "DEBUG"),
    ],
)
def test_aiobfds_spellings(argv: tuple[str, ...]) -> None:
    for typed in ((*argv, LOCAL, REMOTE), (LOCAL, REMOTE, *argv)):
        got = options(*typed)
        assert (got.rx_interval_ms, got.tx_interval_ms, got.detect_mult, got.passive) == (50, 60, 4, True)
        assert got.log_level == "debug"


def test_multihop_demand_echo() -> None:
    assert options(LOCAL, REMOTE, "--multihop").minimum_ttl == 254
    assert options(LOCAL, REMOTE, "--multihop", "--minimum-ttl", "250").minimum_ttl == 250
    got = options(LOCAL, REMOTE, "--demand", "--echo", "--json")
    assert (got.demand, got.echo_ms, got.json) == (True, 50, True)


def test_any_address_of_ours() -> None:
    got = options("0.0.0.0", REMOTE)
    assert (got.bind, got.local) == ("0.0.0.0", None)


def test_addresses_are_made_canonical() -> None:
    got = options("2001:DB8:0::1", "2001:db8::0:2", "2001:db8::3")
    assert (got.bind, [host.address for host in got.remotes]) == ("2001:db8::1", ["2001:db8::2", "2001:db8::3"])


def test_link_local_takes_its_interface_from_the_scope_or_the_option() -> None:
    for argv in (("fe80::1%lo", "fe80::2%lo"), ("fe80::1", "fe80::2%lo"), ("fe80::1", "fe80::2", "--interface", "lo")):
        got = options(*argv)
        assert (got.bind, got.local, got.interface) == ("fe80::1%lo", "fe80::1", "lo")
        assert (got.remotes[0].address, got.remotes[0].text) == ("fe80::2", "fe80::2%lo")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ((LOCAL,), "REMOTE"),
        ((LOCAL, REMOTE, "-r", "9"), "'9' is no number of milliseconds from 10 to 60000"),
        ((LOCAL, REMOTE, "-t", "60001"), "from 10 to 60000"),
        ((LOCAL, REMOTE, "-t", "1e3"), "from 10 to 60000"),
        ((LOCAL, REMOTE, "-t", "²00"), "from 10 to 60000"),
        ((LOCAL, REMOTE, "-m", "0"), "'0' is no multiplier from 1 to 255"),
        ((LOCAL, REMOTE, "-m", "256"), "from 1 to 255"),
        ((LOCAL, REMOTE, "--multihop", "--minimum-ttl", "255"), "from 1 to 254"),
        ((LOCAL, REMOTE, "--minimum-ttl", "250"), "--minimum-ttl is for --multihop"),
        ((LOCAL, REMOTE, "--multihop", "--echo"), "--echo is for a single hop"),
        ((LOCAL, REMOTE, "-l", "loud"), "'loud' is none of debug, info, warning, error"),
        ((LOCAL, REMOTE, "-4", "-6"), "not allowed with"),
        ((LOCAL, REMOTE, "-6"), "192.0.2.10 is an IPv4 address, not IPv6"),
        (("::1", REMOTE), "192.0.2.1 is an IPv4 address, and ::1 is not"),
        ((LOCAL, REMOTE, "192.0.2.1"), "name each once"),
        ((LOCAL, LOCAL), "BFD needs another end"),
        ((LOCAL, "224.0.0.1"), "REMOTE 224.0.0.1 is no host's address"),
        ((LOCAL, "0.0.0.0"), "REMOTE 0.0.0.0 is no host's address"),
        (("224.0.0.1", REMOTE), "LOCAL 224.0.0.1 is multicast"),
        (("fe80::1", "fe80::2"), "fe80::1 is a link-local address: write it with %INTERFACE"),
        (("fe80::1%lo", "fe80::2%eth9"), "one interface is possible, not eth9 and lo"),
        ((LOCAL, REMOTE, "--auth", "keyed-sha1:1"), "each --auth needs its --auth-key-file: there are 1 and 0"),
        ((LOCAL, REMOTE, "--auth", "md5:1", "--auth-key-file", "x"), "'md5' is none of simple, keyed-md5"),
        ((LOCAL, REMOTE, "--auth", "simple:256", "--auth-key-file", "x"), "from 0 to 255"),
        ((LOCAL, REMOTE, "--auth", "simple", "--auth-key-file", "x"), "such as simple:1"),
        ((LOCAL, REMOTE, "--auth", "simple:1", "--auth-key-file", "/no/such"), "/no/such: No such file"),
    ],
)
def test_what_is_refused_is_told_with_what_would_be_right(argv: tuple[str, ...], told: str) -> None:
    with pytest.raises(Usage) as refused:
        options(*argv)
    assert told in str(refused.value)


def test_an_interface_that_is_not_there_cannot_be_started_on() -> None:
    with pytest.raises(CannotStart, match="interface nowhere0: "):
        options(LOCAL, REMOTE, "--interface", "nowhere0")


# -- names ---------------------------------------------------------------------------------------------------


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver of our own: both has both families, IPv6 first."""
    known = {
        "both": [(socket.AF_INET6, "2001:db8::b"), (socket.AF_INET, "192.0.2.11")],
        "four": [(socket.AF_INET, "192.0.2.4"), (socket.AF_INET, "192.0.2.5")],
        "six": [(socket.AF_INET6, "2001:db8::6")],
    }

    def getaddrinfo(name: str, port: None, family: int, kind: int) -> list[tuple[Any, ...]]:
        found = [one for one in known.get(name, []) if family in (socket.AF_UNSPEC, one[0])]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(f, kind, 0, "", (a, 0) if f == socket.AF_INET else (a, 0, 0, 0)) for f, a in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("argv", "addresses"),
    [
        (("both", "both", "-4"), None),
        (("both", "six"), ("2001:db8::b", "2001:db8::6")),
        (("both", "four"), ("192.0.2.11", "192.0.2.4")),
        (("both", "four", "-4"), ("192.0.2.11", "192.0.2.4")),
        (("both", "192.0.2.9"), ("192.0.2.11", "192.0.2.9")),
        (("2001:db8::1", "both"), ("2001:db8::1", "2001:db8::b")),
    ],
)
def test_names_are_looked_up_in_one_family(argv: tuple[str, ...], addresses: tuple[str, str] | None) -> None:
    if addresses is None:
        with pytest.raises(Usage, match="BFD needs another end"):
            options(*argv)
        return
    got = options(*argv)
    assert (got.local, got.remotes[0].address) == addresses
    assert got.remotes[0].name == argv[1]


@pytest.mark.usefixtures("names")
def test_each_name_that_fails_is_told() -> None:
    with pytest.raises(CannotStart) as failed:
        options("both", "nowhere", "four", "a..b\udcff")
    assert [reason.split(":")[0] for reason in failed.value.reasons] == ["nowhere", "a..b\udcff"]
    with pytest.raises(CannotStart, match="four has IPv4, six has IPv6"):
        options("four", "six")
    with pytest.raises(CannotStart, match="six: Name or service not known"):
        options("both", "six", "-4")


def test_what_no_name_can_be_is_no_traceback() -> None:
    with pytest.raises(CannotStart, match="no host can have this name"):
        options(LOCAL, "x" * 70 + ".invalid", "-4")


# -- keys ----------------------------------------------------------------------------------------------------


def test_keys_come_from_files_and_the_first_signs(tmp_path: Path) -> None:
    text, octets = tmp_path / "text", tmp_path / "hex"
    text.write_bytes(b"s3cr\xc3\xa9t\r\nsecond line\n")
    octets.write_bytes(b"0x00ff10\n")
    for file in (text, octets):
        file.chmod(0o600)
    got = options(
        LOCAL, REMOTE, "--auth", "met-keyed-sha1:7", "--auth-key-file", str(text),
        "--auth", "simple:0", "--auth-key-file", str(octets),
    )  # fmt: skip
    assert got.keys == (Key("meticulous-keyed-sha1", 7, "s3crét".encode()), Key("simple", 0, b"\0\xff\x10"))
    assert got.warnings == ()
    for form in (repr(got), str(got.keys)):
        assert "s3cr" not in form
        assert "xff" not in form


def test_a_key_that_all_can_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret")
    file.chmod(0o644)
    assert options(LOCAL, REMOTE, "--auth", "simple:1", "--auth-key-file", str(file)).warnings == (
        f"everybody on this host can read {file}",
    )


def test_a_key_from_a_pipe() -> None:
    read, write = os.pipe()
    os.write(write, b"secret\n")
    os.close(write)
    got = options(LOCAL, REMOTE, "--auth", "simple:1", "--auth-key-file", f"/proc/self/fd/{read}")
    os.close(read)
    assert (got.keys[0].octets, got.warnings) == (b"secret", ())


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("simple", b"", "a simple key has 1 to 16 octets"),
        ("keyed-md5", b"0123456789abcdef0", "a keyed-md5 key has 1 to 16 octets"),
        ("keyed-sha1", b"x" * 5000, "a keyed-sha1 key has 1 to 20 octets"),
        ("simple", b"0x", "a simple key has 1 to 16 octets"),
        ("simple", b"0xSECRET", "hex digits after 0x"),
        ("simple", b"0x5ec", "hex digits after 0x"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_and_not_repeated(
    tmp_path: Path, kind: str, content: bytes, told: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(Usage) as refused:
        options(LOCAL, REMOTE, "--auth", f"{kind}:1", "--auth-key-file", str(file))
    assert told in str(refused.value)
    assert "SECRET" not in str(refused.value)
    assert "5ec" not in str(refused.value)


def test_a_key_number_stands_once(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret")
    one = ("--auth-key-file", str(file))
    with pytest.raises(Usage, match="each key's number stands once"):
        options(LOCAL, REMOTE, "--auth", "simple:1", *one, "--auth", "keyed-md5:1", *one)


# -- lines ---------------------------------------------------------------------------------------------------

NOW = 5_000 * SECOND
HOSTS = (Host("tor", REMOTE, None), Host("192.0.2.2", "192.0.2.2", None))


class At:
    def now(self) -> Instant:
        return NOW

    def wall(self, at: Instant) -> float:
        return 1_700_000_000 + (at - NOW) / SECOND


DOWN = StateChange(
    key=REMOTE,
    generation=1,
    old="up",
    new="down",
    diag=1,
    remote_diag=0,
    remote_admin_down=False,
    blame="path-loss",
    at=NOW,
    last_rx=NOW - 150_400,
    previous_rx=NOW - 201_000,
    detection_time_us=150_000,
)


def change(**changes: Any) -> StateChange:
    return msgspec.structs.replace(DOWN, **changes)


def report(**changes: Any) -> SessionReport:
    values: dict[str, Any] = {
        "key": REMOTE, "generation": 1, "remote": REMOTE, "local": LOCAL, "interface": None, "state": "up",
        "since": NOW - 62 * SECOND, "remote_state": "up", "diag": 0, "remote_diag": 0, "local_discriminator": 7,
        "remote_discriminator": 9, "source_port": 49152, "passive": False, "polling": False,
        "desired_min_tx_us": 50_000, "required_min_rx_us": 50_000, "detect_mult": 3,
        "remote_desired_min_tx_us": 50_000, "remote_required_min_rx_us": 50_000, "remote_required_min_echo_rx_us": 0,
        "remote_detect_mult": 3, "transmit_interval_us": 50_000, "detection_time_us": 150_000, "last_rx": NOW - 9_000,
        "packets_received": 1000, "packets_sent": 999, "packets_discarded": {}, "up_count": 1, "down_count": 0,
    }  # fmt: skip
    return SessionReport(**values | changes)


@pytest.fixture
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_a_down_is_told_with_its_blame_and_the_times_of_the_last_packets() -> None:
    say = TextLines(At(), HOSTS)
    assert say.state(DOWN) == (
        "2023-11-14 22:13:20.000  192.0.2.1  up -> down: path-loss (control detection time expired; the peer's: ok), "
        "last packet 22:13:19.849 (150.4 ms before), the one before it 22:13:19.799 (201 ms before), "
        "detection time 150 ms"
    )
    assert "no last packet, detection" in say.state(change(last_rx=None, previous_rx=None))
    assert say.state(change(old="init", new="up", blame="")) == "2023-11-14 22:13:20.000  192.0.2.1  init -> up"


def test_whose_admin_down_it_was() -> None:
    say = TextLines(At(), HOSTS)
    assert "up -> down: admin by the peer (" in say.state(change(blame="admin", remote_admin_down=True))
    ours = change(blame="admin", new="admin-down", remote_admin_down=True)
    assert "up -> admin-down: admin by us (" in say.state(ours)


def test_late_packets_in_words() -> None:
    late = Late(key=REMOTE, generation=1, count=1, gap_us=90_500, interval_us=50_000, at=NOW)
    assert (
        TextLines(At(), HOSTS)
        .late(late)
        .endswith("warning: 192.0.2.1: a packet came late: 90.5 ms where 50 ms was agreed")
    )


def test_the_table() -> None:
    reports = [
        report(),
        report(
            key="192.0.2.2", state="down", since=NOW - 90_000 * SECOND, packets_received=0, late_packets=3,
            packets_discarded={"ttl": 2, "authentication": 1}, fault="address \x1b[2J: gone",
        ),
    ]  # fmt: skip
    assert list(TextLines(At(), HOSTS).table(reports, {"unknown-session": 4})) == [
        "Peer             State  Since     In    Out  Late  Up  Down  Discarded for",
        "tor (192.0.2.1)  up     00:01:02  1000  999  0     1   0     -",
        "192.0.2.2        down   1d01h00m  0     999  3     1   0     ttl 2, authentication 1",
        "192.0.2.2: address \\x1b[2J: gone",
        "Discarded without a session: unknown-session 4",
    ]


def test_json_lines_have_the_apis_fields() -> None:
    say = JsonLines(At(), HOSTS)
    state = json.loads(say.state(DOWN))
    assert (state["event"], state["peer"], state["old_status"], state["status"]) == ("state", REMOTE, "up", "down")
    assert (state["blame"], state["last_packet_before_ms"]) == ("path-loss", 150.4)
    (line,) = say.table([report(), report(key="192.0.2.2")], {"ttl": 1})
    summary = json.loads(line)
    assert (summary["event"], summary["discards"]) == ("summary", {"ttl": 1})
    assert [(one["peer"], one["description"], one["mode"]) for one in summary["sessions"]] == [
        (REMOTE, "tor", "none"),
        ("192.0.2.2", None, "none"),
    ]
    assert summary["sessions"][0]["control_packet_input"] == 1000
