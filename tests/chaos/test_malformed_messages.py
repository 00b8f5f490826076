"""Every kind of malformed message on an established session of the real daemon, beside a neighbor that behaves.

Octets and verdicts are written from the RFCs. Each message has a neighbor of its own: asked are the NOTIFICATION octet
by octet or that there is none, the routes that are left, the word it is counted under, and what an operator is shown.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from chaos_daemon import BIN, Daemon, address, free_port, wait_until
from raw_peer import UPDATE, Closed, Healthy, RawPeer, beside_a_healthy_one, nlri, update

from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST
from bgpbfd.wire.capabilities import Capability, four_octet_as, multiprotocol
from bgpbfd.wire.iana import AS_TRANS
from bgpbfd.wire.messages import Open, encode_message, encode_open

LOCAL_AS, REMOTE_AS = 65010, 65001
W, D, I, A, R = "treat-as-withdraw", "attribute-discard", "ignored", "afi-safi-disable", "session-reset"  # noqa: E741
ONE, TWO, INSIDE, OLD = "IPv4", "IPv4 and IPv6", "internal", "AS numbers of two octets"
SEEDS = 12

ORIGIN, NEXT_HOP = "40010100", "400304c0000201"
PATH = "40020602010000fde9"
OPA = ORIGIN + PATH
BASE = OPA + NEXT_HOP
LOCAL_PREF = "40050400000064"
V6 = "20010db8000000000000000000000001"
PREFIX, P4, P6 = "198.51.100.0/24", "18c63364", "2020010db8"
MARK = "ff" * 16


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def attribute(flags: str, code: int, value: str) -> str:
    raw = octets(value)
    return f"{flags}{code:02x}{len(raw):02x}{raw.hex()}"


def reach6(next_hop: str = V6, routes: str = P6, flags: str = "80") -> str:
    return attribute(flags, 14, f"000201{len(octets(next_hop)):02x}{next_hop}00{routes}")


def unreach(family: str, routes: str, flags: str = "80") -> str:
    return attribute(flags, 15, family + routes)


def message(kind: int, body: str = "") -> bytes:
    return encode_message(kind, octets(body))


@dataclass(frozen=True)
class Case:
    """``says`` on a ``session``; then ``answer`` (code, subcode, Data in hex) and its end, or the session stays.

    ``counted``: the word in update_faults, None for what is no UPDATE. ``shown``: the octets at fault, ``code`` their
    attribute, ``words`` of the reason. ``left``: whether IPv4's, IPv6's route, announced before, is still there.
    """

    says: bytes
    words: str = ""
    answer: tuple[int, int, str] | None = None
    counted: str | None = None
    shown: str = ""
    code: int | None = None
    session: str = ONE
    left: tuple[int, int] = (1, 0)
    discards: dict[str, int] = field(default_factory=dict)


def header(says: str, subcode: int, data: str, words: str) -> Case:
    return Case(octets(says), words, (1, subcode, data))


def withdrawn(bad: str, code: int, words: str, base: str = BASE, session: str = ONE, shown: str | None = None) -> Case:
    """Treat-as-withdraw: the route goes, the session stays."""
    says = update(octets(base + bad), octets(P4))
    return Case(says, words, counted=W, shown=bad if shown is None else shown, code=code, session=session, left=(0, 0))


def discarded(bad: str, code: int, words: str, session: str = ONE, base: str = BASE) -> Case:
    return Case(update(octets(base + bad), octets(P4)), words, counted=D, shown=bad, code=code, session=session)


def reset(
    says: bytes, answer: tuple[int, int, str], words: str, shown: str, code: int | None = None, session: str = ONE
) -> Case:
    return Case(says, words, answer, R, shown, code, session)


def disabled(attributes: str, shown: str, code: int, words: str) -> Case:
    says = update(octets(attributes + shown))
    return Case(says, words, counted=A, shown=shown, code=code, session=TWO, left=(1, 0))


def mp_reset(bad: str, subcode: int, words: str, code: int, data: str | None = None) -> Case:
    says = update(octets(OPA + bad))
    return reset(says, (3, subcode, bad if data is None else data), words, bad if data is None else "", code, TWO)


LONG = "00" * 4078
CASES = {
    # -- RFC 4271 §6.1 -------------------------------------------------------------------------------------
    "marker": header("00" + "ff" * 15 + "001304", 1, "", "the marker is not all ones"),
    "an HTTP request": header(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".hex(), 1, "", "the marker is not all ones"),
    "length 0": header(MARK + "000002", 2, "0000", "message length 0"),
    "length 18": header(MARK + "001204", 2, "0012", "message length 18"),
    "KEEPALIVE of 20": header(MARK + "00140400", 2, "0014", "message length 20"),
    "UPDATE of 22": header(MARK + "001602000000", 2, "0016", "message length 22"),
    "NOTIFICATION of 20": header(MARK + "00140306", 2, "0014", "message length 20"),
    "ROUTE-REFRESH of 22": header(MARK + "001605000100", 2, "0016", "message length 22"),
    "OPEN of 28": header(MARK + "001c01", 2, "001c", "message length 28"),
    "RFC 8654 §4: OPEN of 4097": header(MARK + "100101", 2, "1001", "message length 4097"),
    "type 0": header(MARK + "001300", 3, "00", "message type 0 is unknown"),
    "type 6": header(MARK + "001306", 3, "06", "message type 6 is unknown"),
    "type 255": header(MARK + "ffffff", 3, "ff", "message type 255 is unknown"),
    # -- other messages ------------------------------------------------------------------------------------
    "RFC 6608: an OPEN": Case(message(1, "04fde9005ac000020100"), "unexpected OPEN in ESTABLISHED", (5, 3, "01")),
    "RFC 7313 §5: BoRR of 5 octets": Case(
        message(5, "0001010100"), "ROUTE-REFRESH subtype 1", (7, 1, MARK + "0018050001010100"), session=TWO
    ),
    "RFC 7313 §5: EoRR of 300 octets": Case(
        message(5, "00010201" + "00" * 296), "ROUTE-REFRESH subtype 2",
        (7, 1, MARK + "013f05" + "00010201" + "00" * 296), session=TWO,
    ),
    "RFC 2918 §4: a family that is not there": Case(
        message(5, "00190041"), discards={"route refresh that was not offered": 1}, session=TWO, left=(1, 1)
    ),
    "RFC 7313 §5: an unknown subtype": Case(
        message(5, "0001ff01"), discards={"route refresh of unknown subtype": 1}, session=TWO, left=(1, 1)
    ),
    "KEEPALIVEs without end": Case(message(4) * 500),
    # -- RFC 7606: session reset ---------------------------------------------------------------------------
    "withdrawn routes run past": reset(
        message(2, "ffff0000"), (3, 1, ""), "the withdrawn routes run past the message", "ffff0000"
    ),
    "attributes run past": reset(message(2, "0000ffff"), (3, 1, ""), "the attributes run past the message", "ffff"),
    "attributes one octet past": reset(
        message(2, "00000005" + ORIGIN), (3, 1, ""), "the attributes run past the message", "0005" + ORIGIN
    ),
    "IPv4 /33": reset(update(octets(BASE), octets("210102030405")), (3, 10, ""), "33", "210102030405"),
    "IPv4 cut short": reset(update(octets(BASE), octets(P4 + "18c6")), (3, 10, ""), "", P4 + "18c6"),
    "withdrawn /33": reset(update(withdrawn=octets("210102030405")), (3, 10, ""), "33", "210102030405"),
    "withdrawn cut short": reset(update(withdrawn=octets("2001")), (3, 10, ""), "", "2001"),
    "unknown well-known attribute": reset(
        update(octets(BASE + "40630107"), octets(P4)), (3, 2, "40630107"), "attribute 99 is well-known", "40630107", 99
    ),
    "an attribute of zeros": reset(
        update(octets(BASE + "000000"), octets(P4)), (3, 2, "000000"), "attribute 0 is well-known", "000000", 0
    ),
    "RFC 7606 §5.2: malformed, no route": reset(
        update(octets(BASE + "c0080100")), (3, 5, "c0080100"), "COMMUNITIES", "c0080100", 8
    ),
    "MP_REACH_NLRI of 4": mp_reset("800e0400020100", 9, "MP_REACH_NLRI: length 4", 14),
    "MP_UNREACH_NLRI of 2": mp_reset("800f020002", 9, "MP_UNREACH_NLRI: length 2", 15),
    "MP_REACH_NLRI transitive": mp_reset(reach6(flags="c0"), 9, "MP_REACH_NLRI: flags 0xc0", 14),
    "MP_UNREACH_NLRI well-known": mp_reset(unreach("000201", P6, "40"), 9, "MP_UNREACH_NLRI: flags 0x40", 15),
    "MP_REACH_NLRI runs past": mp_reset("800e40000201", 9, "MP_REACH_NLRI: runs past the attributes", 14),
    "RFC 7606 §3 g: MP_REACH_NLRI twice": reset(
        update(octets(OPA + reach6() + reach6())), (3, 1, ""), "MP_REACH_NLRI came twice", reach6(), 14, TWO
    ),
    "the only family's routes": reset(
        update(octets(OPA + attribute("80", 14, "000101" + "04c0000201" + "00" + "21c0000200"))),
        (3, 9, attribute("80", 14, "000101" + "04c0000201" + "00" + "21c0000200")), "MP_REACH_NLRI of ipv4 unicast",
        attribute("80", 14, "000101" + "04c0000201" + "00" + "21c0000200"), 14,
    ),
    "reset outweighs treat-as-withdraw": reset(
        update(octets(BASE + "c0080100"), octets("21c000020000")), (3, 10, ""), "33", "21c000020000"
    ),
    # -- RFC 7606: AFI/SAFI disable ------------------------------------------------------------------------
    "IPv6 /129": disabled(OPA, reach6(routes="81" + "00" * 17), 14, "129"),
    "IPv6 cut short": disabled(OPA, reach6(routes="8020010db8"), 14, "MP_REACH_NLRI of ipv6 unicast"),
    "IPv6 withdrawn, /129": disabled("", unreach("000201", "81" + "00" * 17), 15, "MP_UNREACH_NLRI of ipv6 unicast"),
    "§7.11: next hop of 4": disabled(OPA, reach6("c0000201"), 14, "next hop of 4 octets"),
    "§7.11: next hop of 0": disabled(OPA, reach6(""), 14, "next hop of 0 octets"),
    "§7.11: next hop past the end": disabled(OPA, "800e09000201ff20010db800", 14, "next hop of 255 octets"),
    # -- RFC 7606: treat-as-withdraw -----------------------------------------------------------------------
    "ORIGIN 3": withdrawn("40010103", 1, "ORIGIN", PATH + NEXT_HOP),
    "ORIGIN of 2": withdrawn("4001020000", 1, "ORIGIN", PATH + NEXT_HOP),
    "ORIGIN optional": withdrawn("c0010100", 1, "ORIGIN: flags 0xc0", PATH + NEXT_HOP),
    "AS_PATH segment 9": withdrawn("40020609010000fde9", 2, "AS_PATH", ORIGIN + NEXT_HOP),
    "AS_PATH overrun": withdrawn("40020602020000fde9", 2, "AS_PATH", ORIGIN + NEXT_HOP),
    "AS_PATH one octet over": withdrawn("40020702010000fde902", 2, "AS_PATH", ORIGIN + NEXT_HOP),
    "AS_PATH count 0": withdrawn("4002020200", 2, "AS_PATH", ORIGIN + NEXT_HOP),
    "RFC 7607: AS 0": withdrawn("40020a02020000fde900000000", 2, "AS_PATH", ORIGIN + NEXT_HOP),
    "RFC 5065: confederation from outside": withdrawn(
        "40020c03010000fde902010000fde9", 2, "AS_PATH", ORIGIN + NEXT_HOP
    ),
    "first AS not the peer's": withdrawn("40020602010000fdea", 2, "AS_PATH", ORIGIN + NEXT_HOP),
    "NEXT_HOP of 16": withdrawn(attribute("40", 3, V6), 3, "NEXT_HOP", OPA),
    "MED of 3": withdrawn("800403000000", 4, "MULTI_EXIT_DISC"),
    "MED transitive": withdrawn("c00404000000ff", 4, "MULTI_EXIT_DISC: flags 0xc0"),
    "COMMUNITIES of 0": withdrawn("c00800", 8, "COMMUNITIES"),
    "COMMUNITIES of 5": withdrawn("c008050000000000", 8, "COMMUNITIES"),
    "EXTENDED_COMMUNITIES of 7": withdrawn("c01007" + "00" * 7, 16, "EXTENDED_COMMUNITIES"),
    "IPV6_EXTENDED_COMMUNITIES of 8": withdrawn("c01908" + "00" * 8, 25, "IPV6_EXTENDED_COMMUNITIES"),
    "LARGE_COMMUNITIES of 13": withdrawn("c0200d" + "00" * 13, 32, "LARGE_COMMUNITIES"),
    "OTC of 3": withdrawn("c02303000000", 35, "ONLY_TO_CUSTOMER"),
    "no ORIGIN": withdrawn("", 1, "ORIGIN is missing", PATH + NEXT_HOP, shown=PATH + NEXT_HOP),
    "no AS_PATH": withdrawn("", 2, "AS_PATH is missing", ORIGIN + NEXT_HOP, shown=ORIGIN + NEXT_HOP),
    "no NEXT_HOP": withdrawn("", 3, "NEXT_HOP is missing", OPA, shown=OPA),
    "LOCAL_PREF missing inside": withdrawn(
        "", 5, "LOCAL_PREF is missing", ORIGIN + "400200" + NEXT_HOP, INSIDE, ORIGIN + "400200" + NEXT_HOP
    ),
    "LOCAL_PREF of 3": withdrawn("400503000000", 5, "LOCAL_PREF", ORIGIN + "400200" + NEXT_HOP, INSIDE),
    "ORIGINATOR_ID of 5": withdrawn(
        "80090500000000ff", 9, "ORIGINATOR_ID", ORIGIN + "400200" + NEXT_HOP + LOCAL_PREF, INSIDE
    ),
    "CLUSTER_LIST of 0": withdrawn(
        "800a00", 10, "CLUSTER_LIST", ORIGIN + "400200" + NEXT_HOP + LOCAL_PREF, INSIDE
    ),
    "IPv6 routes go with their attributes": Case(
        update(octets(OPA + "c0080100" + reach6())), "COMMUNITIES", counted=W, shown="c0080100", code=8, session=TWO
    ),
    # -- RFC 7606: attribute discard -----------------------------------------------------------------------
    "LOCAL_PREF from outside": discarded(LOCAL_PREF, 5, "LOCAL_PREF"),
    "ORIGINATOR_ID from outside": discarded("800904c0000201", 9, "ORIGINATOR_ID"),
    "CLUSTER_LIST from outside": discarded("800a04c0000201", 10, "CLUSTER_LIST"),
    "ATOMIC_AGGREGATE of 1": discarded("40060100", 6, "ATOMIC_AGGREGATE"),
    "AGGREGATOR of 6": discarded("c00706fde9c0000201", 7, "AGGREGATOR"),
    "RFC 7607: AGGREGATOR of AS 0": discarded("c0070800000000c0000201", 7, "AGGREGATOR"),
    "AS4_PATH from a new speaker": discarded("c0110602010000fde9", 17, "AS4_PATH"),
    "AS4_AGGREGATOR from a new speaker": discarded("c012080000fde9c0000201", 18, "AS4_AGGREGATOR"),
    "AS4_PATH of 5": discarded("c0110502010000fd", 17, "AS4_PATH", OLD, ORIGIN + "4002040201fde9" + NEXT_HOP),
    "AIGP": discarded("801a0b01000b0000000000000001", 26, "AIGP"),
    "ORIGIN twice": discarded("40010102", 1, "ORIGIN: came twice"),
    # -- what is no error ----------------------------------------------------------------------------------
    "IPv6 that was not negotiated": Case(
        update(octets(OPA + reach6())), "ipv6 unicast was not negotiated", counted=I, shown=reach6(), code=14
    ),
    "an unknown non-transitive attribute": Case(
        update(octets(BASE + "80630107"), octets(P4)), "non-transitive", counted=I, shown="80630107", code=99
    ),
}  # fmt: skip

RESETS = {name: case for name, case in CASES.items() if case.answer is not None}
READ = {
    "COMMUNITIES of 5": ("treat-as-withdraw 1", "COMMUNITIES: ", "[treat-as-withdraw]", "octets c008050000000000"),
    "IPv6 /129": ("Disabled families", "ipv6 unicast", "afi-safi-disable 1", "octets 800e270002011020010db8"),
    "RFC 6608: an OPEN": ("unexpected OPEN in ESTABLISHED", "NOTIFICATION 5/3", "message " + MARK + "001d01"),
    "an unknown non-transitive attribute": ("ignored 1", "octets 80630107"),
}
KEPT = {name: case for name, case in CASES.items() if case.answer is None}


class Speaker(RawPeer):
    """A peer of one of the kinds of session above, with a route of each family announced before it goes wrong."""

    def __init__(self, target: tuple[str, int], source: str, session: str) -> None:
        super().__init__(target, source, asn=LOCAL_AS if session == INSIDE else REMOTE_AS)
        self.session = session

    def open_message(self, **changed: int) -> bytes:
        capabilities = [multiprotocol(IPV4_UNICAST), Capability(2), Capability(6)]
        if self.session == TWO:
            capabilities += [multiprotocol(IPV6_UNICAST), Capability(70)]
        if self.session != OLD:
            capabilities.append(four_octet_as(self.asn))
        asn = self.asn if self.asn <= 0xFFFF else AS_TRANS
        return encode_open(Open(asn, self.hold_time, self.router_id, tuple(capabilities)))

    def announce(self) -> None:
        path = {INSIDE: "400200" + LOCAL_PREF, OLD: "4002040201fde9"}.get(self.session, PATH)
        self.send(update(octets(ORIGIN + path + NEXT_HOP), nlri(PREFIX)))
        if self.session == TWO:
            self.send(update(octets(OPA + reach6())))


class Place:
    def __init__(self, folder: Path) -> None:
        self.here = address()
        self.target = (self.here, free_port(self.here))
        self.good = address()
        self.of_case = {name: address() for name in CASES}
        self.notifiers = {body: address() for body in NOTIFICATIONS}
        self.readers = {name: address() for name in READ}
        self.victim = address()
        self.random = [address() for _ in range(SEEDS)]
        text = f'router_id = "192.0.2.10"\ndefault_as = {LOCAL_AS}\nbgp_socket = "{self.here}:{self.target[1]}"\n'
        text += "[bfd]\nbind = []\n" + self._entry(self.good, ONE)
        text += "".join(self._entry(peer, CASES[name].session) for name, peer in self.of_case.items())
        text += "".join(self._entry(peer, CASES[name].session) for name, peer in self.readers.items())
        text += "".join(self._entry(peer, ONE) for peer in self.notifiers.values())
        text += "".join(self._entry(peer, TWO) for peer in (self.victim, *self.random))
        self.daemon = Daemon(folder, text)
        self.daemon.start()
        wait_until(lambda: bool(self.daemon.events("listening")), 5, "the daemon listens")
        self.healthy = Healthy(self.target, self.good)
        self.healthy.peer.send(update(octets(BASE), nlri("192.0.2.0/24") + nlri("203.0.113.0/24")))
        wait_until(lambda: self.daemon.neighbor(self.good)["prefixes_received"] == 2, 5, "the healthy one's routes")

    def _entry(self, peer: str, session: str) -> str:
        families = '"ipv4 unicast", "ipv6 unicast"' if session == TWO else '"ipv4 unicast"'
        asn = LOCAL_AS if session == INSIDE else REMOTE_AS
        return (
            f'[[peers]]\nremote_ip = "{peer}"\nremote_as = {asn}\nlocal_ip = "{self.here}"\npassive = true\n'
            f"families = [{families}]\n"
        )

    def detail(self, peer: str) -> str:
        """``bgpbfdctl show neighbors PEER detail``, as an operator reads it."""
        command = [str(BIN / "bgpbfdctl"), "--api", f"unix:{self.daemon.socket}", "show", "neighbors", peer, "detail"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout


@pytest.fixture(scope="module")
def shared() -> Iterator[Place]:
    with beside_a_healthy_one(Place) as place:
        yield place


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    """After every test the other neighbor has the session and the routes that it had before."""
    yield shared
    assert shared.healthy.ended is None
    good = shared.daemon.neighbor(shared.good)
    assert (good["state"], good["flaps"], good["prefixes_received"]) == ("established", 0, 2)
    assert (good["update_faults"], good["last_error"]) == ({}, None)


@contextlib.contextmanager
def said(place: Place, name: str, source: str | None = None) -> Iterator[tuple[Speaker, str]]:
    """The case's session is established, its routes are known, and its message is sent."""
    case, source = CASES[name], source or place.of_case[name]
    with Speaker(place.target, source, case.session) as peer:
        peer.establish()
        peer.announce()
        wanted = 2 if case.session == TWO else 1
        wait_until(lambda: place.daemon.neighbor(source)["prefixes_received"] == wanted, 5, "the routes arrive")
        peer.send(case.says)
        yield peer, source


@pytest.mark.parametrize("name", RESETS)
def test_rfc4271_6_a_fault_that_ends_the_session(place: Place, name: str) -> None:
    case = CASES[name]
    assert case.answer is not None
    code, subcode, data = case.answer
    with said(place, name) as (peer, source):
        assert peer.expect_notification() == (code, subcode, octets(data))
        now = wait_until(lambda: (n := place.daemon.neighbor(source))["last_error"] and n, 5, "the cause")
    error = now["last_error"]
    assert (error["kind"], error["code"], error["subcode"]) == ("notification-sent", code, subcode)
    assert case.words in error["text"]
    assert error["facts"].get("data", "") == data[:1024]
    whole = case.says[:19] if code == 1 else case.says
    assert error["facts"]["message"] == whole[:512].hex()
    assert (now["notifications_sent"], now["flaps"], now["prefixes_received"]) == ({f"{code}/{subcode}": 1}, 1, 0)
    if case.counted is None:
        assert (now["update_faults"], now["last_update_fault"]) == ({}, None)
    else:
        fault = now["last_update_fault"]
        assert (now["update_faults"], fault["treatment"], fault["attribute"]) == ({R: 1}, R, case.code)
        assert (fault["data"], fault["reason"] in error["text"]) == (case.shown, True)


@pytest.mark.parametrize("name", KEPT)
def test_rfc7606_a_fault_that_leaves_the_session(place: Place, name: str) -> None:
    case = CASES[name]
    with said(place, name) as (peer, source):
        peer.send(message(5, "00010001"))  # answered once all before it has been seen
        wanted = 2 if case.says[18] == 5 else 1
        now = wait_until(
            lambda: (n := place.daemon.neighbor(source))["received_by_type"]["route-refresh"] == wanted and n,
            5,
            "all has been seen",
        )
    assert (now["state"], now["flaps"], now["last_error"]) == ("established", 0, None)
    assert now["notifications_sent"] == {}
    left = now["prefixes_by_family"]
    assert (left["ipv4 unicast"], left.get("ipv6 unicast", 0)) == case.left
    assert {key: now["discards"].get(key) for key in case.discards} == case.discards
    assert now["disabled_families"] == (["ipv6 unicast"] if case.counted == A else [])
    if case.counted is None:
        assert (now["update_faults"], now["last_update_fault"]) == ({}, None)
        return
    fault = now["last_update_fault"]
    assert now["update_faults"] == {case.counted: 1}
    assert (fault["treatment"], fault["attribute"], fault["data"]) == (case.counted, case.code, case.shown)
    assert fault["length"] == len(case.shown) // 2
    assert case.words in fault["reason"]


@pytest.mark.parametrize("name", READ)
def test_what_the_operator_reads(place: Place, name: str) -> None:
    """Of a case above: the verdict in words and the octets at fault."""
    with said(place, name, place.readers[name]):
        wait_until(
            lambda: all(piece in place.detail(place.readers[name]) for piece in READ[name]), 5, ", ".join(READ[name])
        )


def test_a_disabled_family_is_told_as_an_event(place: Place) -> None:
    last = place.daemon.last_event()
    with said(place, "IPv6 /129", place.victim):
        event = place.daemon.wait_event("family-disabled", last)
    assert event["peer"] == place.victim
    assert event["level"] == "warning"
    assert event["text"].startswith("ipv6 unicast is ignored until the session ends and its routes (1) are dropped: ")


# -- NOTIFICATIONs of the peer ---------------------------------------------------------------------------------

NOTIFICATIONS = {
    "060206" + b"b\x1b[31m".hex(): (6, 2, 'Cease, Administrative Shutdown: "b[31m"'),
    "0602ff62": (6, 2, 'Cease, Administrative Shutdown: "b"'),
    "0601000101" + "00000064": (6, 1, "ipv4 unicast, at most 100"),
    "0609060203616263": (6, 2, 'Cease, Hard Reset (Cease, Administrative Shutdown: "abc")'),
    "0309800e0000": (3, 9, "UPDATE Message Error, Optional Attribute Error: MP_REACH_NLRI"),
    "020701040002" + "0001": (2, 7, "Unsupported Capability: multiprotocol ipv6 unicast"),
    "050302": (5, 3, "Unexpected Message in Established State: UPDATE"),
    "0000": (0, 0, "code 0, subcode 0"),
    "ffff" + "00" * 4000: (255, 255, "code 255, subcode 255"),
}


@pytest.mark.parametrize("body", NOTIFICATIONS, ids=[body[:12] for body in NOTIFICATIONS])
def test_rfc4271_6_4_a_notification_is_never_answered_and_is_told_in_words(place: Place, body: str) -> None:
    code, subcode, words = NOTIFICATIONS[body]
    source = place.notifiers[body]
    with Speaker(place.target, source, ONE) as peer:
        peer.establish()
        place.daemon.wait_state(source, "established")
        peer.send(message(3, body))
        kinds = []
        with contextlib.suppress(Closed):
            while True:
                kinds.append(peer.next_message()[0])
        assert 3 not in kinds
        now = wait_until(lambda: (n := place.daemon.neighbor(source))["flaps"] == 1 and n, 5, "the end")
    error = now["last_error"]
    assert (error["kind"], error["code"], error["subcode"]) == ("notification-received", code, subcode)
    assert words in error["text"]
    assert error["text"].isprintable()
    raw = octets(body)
    assert (now["notifications_received"], now["notifications_sent"]) == ({f"{raw[0]}/{raw[1]}": 1}, {})
    assert error["facts"].get("data", "") == raw[2:514].hex()


# -- any octets ------------------------------------------------------------------------------------------------

GOOD = [
    update(octets(BASE + "c00804fde90001c0200c" + "00" * 12), octets(P4)),
    update(octets(OPA + reach6())),
    update(octets(unreach("000201", P6)), withdrawn=octets(P4)),
    update(octets(BASE), octets(P4 + "00" + "20c0000201")),
    message(5, "00020001"),
    message(4),
]


def mutated(dice: random.Random) -> bytes:
    """A good message with octets changed, cut out or put in; the header's length follows, mostly."""
    body = bytearray(dice.choice(GOOD)[19:] or b"\0")
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(body)) if body else 0
        match dice.randrange(3):
            case 0 if body:
                body[at] = dice.randrange(256)
            case 1:
                body[at:at] = dice.randbytes(dice.randrange(1, 5))
            case _:
                del body[at : at + dice.randrange(1, 4)]
    whole = bytearray(encode_message(dice.choice([UPDATE] * 12 + [5, 5, 4]), bytes(body)))
    if dice.random() < 0.03:
        whole[dice.randrange(19)] ^= 1 << dice.randrange(8)
    return bytes(whole)


def test_any_octets_have_a_verdict_that_is_counted_and_cost_nobody_else_anything(place: Place) -> None:
    """All at once, each from its seed; a neighbor whose session ends comes back and goes on."""
    with contextlib.ExitStack() as held:
        peers: dict[str, Speaker] = {}
        dice = {source: random.Random(number) for number, source in enumerate(place.random)}
        ends = dict.fromkeys(place.random, 0)
        for _ in range(25):
            for source in place.random:
                if source not in peers:
                    place.daemon.rpc("peer_reset", peer=source)  # no idle hold is in the way
                    peers[source] = held.enter_context(Speaker(place.target, source, TWO))
                    peers[source].establish()
                try:
                    peers[source].send(b"".join(mutated(dice[source]) for _ in range(4)) + message(4))
                    while True:
                        kind, body = peers[source].next_message(0.003)
                        if kind == 3:
                            assert (body[0], body[1]) in VERDICTS, body.hex()
                            ends[source] += 1
                except TimeoutError:
                    continue
                except (Closed, OSError):
                    peers.pop(source).close()
        assert sum(ends.values()) > 10
    for source in place.random:
        wait_until(lambda source=source: place.daemon.state(source) != "established", 5, "the end")  # type: ignore[misc]
        now = place.daemon.neighbor(source)
        sent = now["notifications_sent"]
        resets = sum(count for key, count in sent.items() if key.startswith("3/"))
        assert now["update_faults"].get(R, 0) == resets
        assert ends[source] <= sum(sent.values())
        assert now["last_update_fault"]["data"]
        assert now["last_update_fault"]["reason"]
    assert place.daemon.events("internal-error") == []


VERDICTS = {(1, 1), (1, 2), (1, 3), (3, 1), (3, 2), (3, 4), (3, 5), (3, 6), (3, 9), (3, 10), (3, 11), (5, 3), (7, 1)}
