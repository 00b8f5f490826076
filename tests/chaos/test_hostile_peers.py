"""What a neighbor can do wrong, against the real daemon: each has its answer, and the other session stays up."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_daemon import Daemon, address, free_port, wait_until
from raw_peer import (
    NOTIFICATION,
    OPEN,
    ORIGIN,
    UPDATE,
    Closed,
    Healthy,
    RawPeer,
    as_path,
    beside_a_healthy_one,
    next_hop,
    nlri,
    update,
)

from bgpbfd.wire.attributes import encode_attribute
from bgpbfd.wire.iana import MessageType
from bgpbfd.wire.messages import KEEPALIVE, MARKER, Open, encode_message, encode_open

LOCAL_AS, REMOTE_AS = 65010, 65001
VICTIMS = 96
LOCAL_ID = 0xC000020A
REFRESH = int(MessageType.ROUTE_REFRESH)


class Place:
    """One daemon, a healthy neighbor, and a fresh neighbor for every test."""

    def __init__(self, folder: Path) -> None:
        self.here = address()
        self.target = (self.here, free_port(self.here))
        self.good = address()
        victims = [address() for _ in range(VICTIMS)]
        self.fresh = iter(victims)
        self.internal = address()
        text = f'router_id = "192.0.2.10"\ndefault_as = {LOCAL_AS}\nbgp_socket = "{self.here}:{self.target[1]}"\n'
        text += "poll_interval = 0.2\n[bfd]\nbind = []\n"
        text += self.entry(self.good, "hold_timer = 9")
        text += self.entry(self.internal, "", asn=LOCAL_AS)
        self.network = address().replace("127.77.", "127.78.").rpartition(".")[0]
        text += self.entry(f"{self.network}.0/24", "")
        for victim in victims:
            text += self.entry(victim, "hold_timer = 3")
        self.text = text
        self.daemon = Daemon(folder, text)
        self.daemon.start()
        wait_until(self._listens, 5, "the daemon listens")
        self.healthy = Healthy(self.target, self.good)
        self.daemon.wait_state(self.good, "established")

    def entry(self, peer: str, more: str, asn: int = REMOTE_AS) -> str:
        return (
            f'[[peers]]\nremote_ip = "{peer}"\nremote_as = {asn}\nlocal_ip = "{self.here}"\npassive = true\n'
            f'families = ["ipv4 unicast"]\n{more}\n'
        )

    def _listens(self) -> bool:
        return bool(self.daemon.events("listening"))

    def victim(self) -> str:
        return next(self.fresh)

    def connect(self, source: str | None = None, hold_time: int = 90) -> RawPeer:
        return RawPeer(self.target, source or self.victim(), asn=REMOTE_AS, hold_time=hold_time)

    def comes_up(self, source: str) -> None:
        """A proper session of that neighbor is established after all that has been."""

        def proper() -> bool:
            with contextlib.suppress(Closed, AssertionError, OSError), self.connect(source) as peer:
                peer.establish()
                return self.daemon.state(source) == "established"
            return False

        wait_until(proper, 10, f"a proper session with {source}\n{self.daemon.tail()}")

    def error(self, peer: str) -> tuple[str, int | None, int | None]:
        """(kind, code, subcode) of the neighbor's last error."""
        error = self.daemon.neighbor(peer)["last_error"]
        return error["kind"], error["code"], error["subcode"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Place]:
    with beside_a_healthy_one(Place) as place:
        yield place


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    """After every test the other neighbor's session is the one that it was before."""
    yield shared
    assert shared.healthy.ended is None
    good = shared.daemon.neighbor(shared.good)
    assert (good["state"], good["flaps"]) == ("established", 0)


# -- messages that are none ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "subcode", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", 1, 1, b""),
        (MARKER[:-1] + b"\xfe" + KEEPALIVE[16:], 1, 1, b""),
        (MARKER + b"\x00\x12\x04", 1, 2, b"\x00\x12"),
        (MARKER + b"\x00\x00\x04", 1, 2, b"\x00\x00"),
        (MARKER + b"\x10\x01\x02", 1, 2, b"\x10\x01"),
        (MARKER + b"\x10\x01\x01", 1, 2, b"\x10\x01"),
        (MARKER + b"\x00\x1c\x01" + bytes(9), 1, 2, b"\x00\x1c"),
        (MARKER + b"\x00\x14\x04\x00", 1, 2, b"\x00\x14"),
        (MARKER + b"\x00\x13\x00", 1, 3, b"\x00"),
        (MARKER + b"\x00\x13\x06", 1, 3, b"\x06"),
        (MARKER + b"\x00\x13\xff", 1, 3, b"\xff"),
    ],
)
def test_rfc4271_6_1_header_errors(place: Place, data: bytes, code: int, subcode: int, told: bytes) -> None:
    with place.connect() as peer:
        peer.expect_open()
        peer.send(data)
        assert peer.expect_notification() == (code, subcode, told)
        assert place.error(peer.source) == ("notification-sent", code, subcode)
        place.comes_up(peer.source)


def test_half_a_header_then_silence_blocks_nobody(place: Place) -> None:
    with place.connect() as silent:
        silent.expect_open()
        silent.send(MARKER[:9])
        place.comes_up(place.victim())
        assert place.daemon.state(silent.source) == "opensent"
        silent.send(MARKER[9:] + b"\x00\x12\x04")
        assert silent.expect_notification() == (1, 2, b"\x00\x12")


def test_a_writer_of_one_byte_at_a_time_is_understood(place: Place) -> None:
    with place.connect() as peer:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        announced = update(ORIGIN + as_path() + next_hop(peer.source), nlri("198.51.100.0/24"))
        for octet in peer.open_message() + KEEPALIVE + announced:
            peer.send(bytes((octet,)))
        wait_until(lambda: place.daemon.neighbor(peer.source)["prefixes_received"] == 1, 5, "the route arrives")


# -- OPENs that are refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "subcode", "told"),
    [
        ({"asn": 65002}, 2, None),
        ({"router_id": 0}, 3, None),
        ({"hold_time": 1}, 6, None),
        ({"hold_time": 2}, 6, None),
        ({"version": 3}, 1, b"\x00\x04"),
    ],
)
def test_rfc4271_6_2_open_errors(place: Place, change: dict[str, int], subcode: int, told: bytes | None) -> None:
    with place.connect() as peer:
        peer.send_open(**change)
        code, got, data = peer.expect_notification()
        assert (code, got) == (2, subcode)
        assert told is None or data == told
        assert place.error(peer.source) == ("notification-sent", 2, subcode)
        place.comes_up(peer.source)


def test_rfc6286_2_2_own_router_id_from_an_internal_peer(place: Place) -> None:
    with RawPeer(place.target, place.internal, asn=LOCAL_AS, router_id=LOCAL_ID) as peer:
        peer.send_open()
        assert peer.expect_notification()[:2] == (2, 3)


def test_no_family_in_common(place: Place) -> None:
    with place.connect() as peer:
        from bgpbfd.core import IPV6_UNICAST
        from bgpbfd.wire.capabilities import four_octet_as, multiprotocol

        capabilities = (multiprotocol(IPV6_UNICAST), four_octet_as(REMOTE_AS))
        peer.send(encode_open(Open(REMOTE_AS, 90, 77, capabilities)))
        assert peer.expect_notification()[:2] == (2, 7)


# -- messages in the wrong state -----------------------------------------------------------------------------


def _to_open_sent(peer: RawPeer) -> None:
    peer.expect_open()


def _to_open_confirm(peer: RawPeer) -> None:
    peer.to_open_confirm()


def _to_established(peer: RawPeer) -> None:
    peer.establish()
    peer.expect(UPDATE)  # End-of-RIB: it is established there too


STATES = [(_to_open_sent, 1), (_to_open_confirm, 2), (_to_established, 3)]
each_state = pytest.mark.parametrize(("go", "number"), STATES, ids=["OpenSent", "OpenConfirm", "Established"])


@pytest.mark.parametrize(
    ("go", "number", "kind"),
    [
        (_to_open_sent, 1, UPDATE),
        (_to_open_sent, 1, int(MessageType.KEEPALIVE)),
        (_to_open_sent, 1, REFRESH),
        (_to_open_confirm, 2, OPEN),
        (_to_open_confirm, 2, UPDATE),
        (_to_open_confirm, 2, REFRESH),
        (_to_established, 3, OPEN),
    ],
)
def test_rfc6608_unexpected_message(place: Place, go: Callable[[RawPeer], None], number: int, kind: int) -> None:
    with place.connect() as peer:
        go(peer)
        message = {
            OPEN: peer.open_message(),
            UPDATE: update(),
            int(MessageType.KEEPALIVE): KEEPALIVE,
            REFRESH: encode_message(REFRESH, b"\x00\x01\x00\x01"),
        }[kind]
        peer.send(message)
        assert peer.expect_notification() == (5, number, bytes((kind,)))
        if number < 3:
            place.comes_up(peer.source)


@each_state
def test_notification_ends_every_state_without_an_answer(
    place: Place, go: Callable[[RawPeer], None], number: int
) -> None:
    with place.connect() as peer:
        go(peer)
        peer.send_notification(6, 4)
        with contextlib.suppress(Closed):
            while (message := peer.next_message())[0] != NOTIFICATION:
                continue
            pytest.fail(f"it was answered: {message}")  # RFC 4271 §6.4
        wait_until(lambda: place.error(peer.source) == ("notification-received", 6, 4), 5, "the cause")
        place.comes_up(peer.source)


@each_state
def test_reset_at_every_state(place: Place, go: Callable[[RawPeer], None], number: int) -> None:
    peer = place.connect()
    go(peer)
    peer.reset()
    wait_until(lambda: place.daemon.state(peer.source) in {"active", "idle"}, 5, "the end is noticed")
    assert place.error(peer.source)[0] == "connection-lost"
    place.comes_up(peer.source)


@each_state
def test_half_closed_at_every_state(place: Place, go: Callable[[RawPeer], None], number: int) -> None:
    """A peer that says no more will never answer either: the end of its stream is the session's end."""
    with place.connect() as peer:
        go(peer)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.expect_closed()
        wait_until(lambda: place.daemon.state(peer.source) in {"active", "idle"}, 5, "the end is noticed")
        place.comes_up(peer.source)


def test_reset_right_after_the_handshake_of_tcp(place: Place) -> None:
    source = place.victim()
    for _ in range(50):
        place.connect(source).reset()
    place.comes_up(source)


def test_cut_in_the_middle_of_a_message(place: Place) -> None:
    source = place.victim()
    with place.connect(source) as peer:
        peer.establish()
        peer.send(update(ORIGIN + as_path() + next_hop(source), nlri("198.51.100.0/24"))[:30])
    wait_until(lambda: place.daemon.state(source) == "active", 5, "the end is noticed")
    assert place.daemon.neighbor(source)["prefixes_received"] == 0
    place.comes_up(source)


# -- timers --------------------------------------------------------------------------------------------------


def test_hold_timer_expires(place: Place) -> None:
    with place.connect(hold_time=3) as peer:
        peer.establish()
        began = time.monotonic()
        assert peer.expect_notification(8) == (4, 0, b"")
        assert 2.5 < time.monotonic() - began < 4.5
        assert place.error(peer.source) == ("hold-timer-expired", 4, 0)
        place.comes_up(peer.source)


def test_hold_time_zero_needs_no_keepalives(place: Place) -> None:
    with place.connect(hold_time=0) as peer:
        peer.establish()
        peer.expect(UPDATE)
        with pytest.raises(TimeoutError):
            peer.expect(int(MessageType.KEEPALIVE), 3.5)  # over three times what hold time 3 would ask for
        assert place.daemon.state(peer.source) == "established"
        assert place.daemon.neighbor(peer.source)["hold_time"] == 0


# -- UPDATEs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        encode_attribute(0x40, 1, b"\x07") + as_path() + next_hop("127.0.0.9"),
        encode_attribute(0x40, 1, b"\x00\x00") + as_path() + next_hop("127.0.0.9"),
        ORIGIN + encode_attribute(0x40, 2, b"\x09\x01\x00\x00\xfd\xe9") + next_hop("127.0.0.9"),
        ORIGIN + encode_attribute(0x40, 2, b"\x02\x05\x00\x00\xfd\xe9") + next_hop("127.0.0.9"),
        ORIGIN + as_path(),
        ORIGIN + as_path() + encode_attribute(0x40, 3, b"\x7f"),
        ORIGIN + as_path() + next_hop("127.0.0.9") + encode_attribute(0xC0, 8, b"\x00\x01\x02"),
        ORIGIN + as_path() + next_hop("127.0.0.9") + b"\xc0\x08\xff",
    ],
)
def test_rfc7606_treat_as_withdraw_keeps_the_session(place: Place, attributes: bytes) -> None:
    with place.connect() as peer:
        peer.establish()
        peer.send(update(ORIGIN + as_path() + next_hop(peer.source), nlri("198.51.100.0/24")))
        wait_until(lambda: place.daemon.neighbor(peer.source)["prefixes_received"] == 1, 5, "the route arrives")
        peer.send(update(attributes, nlri("198.51.100.0/24")))
        wait_until(lambda: place.daemon.neighbor(peer.source)["prefixes_received"] == 0, 5, "the route goes")
        now = place.daemon.neighbor(peer.source)
        assert now["state"] == "established"
        assert now["update_faults"] == {"treat-as-withdraw": 1}


@pytest.mark.parametrize(
    "broken",
    [
        encode_message(UPDATE, b"\xff\xff\x00\x00"),
        encode_message(UPDATE, b"\x00\x00\xff\xff"),
        update(ORIGIN + as_path() + next_hop("127.0.0.9"), b"\x21\x01\x02\x03\x04\x05"),
        update(withdrawn=b"\x21\x01"),
    ],
)
def test_updates_that_cannot_be_taken_apart_end_the_session(place: Place, broken: bytes) -> None:
    with place.connect() as peer:
        peer.establish()
        peer.send(broken)
        assert peer.expect_notification()[0] == 3
        assert place.error(peer.source)[:2] == ("notification-sent", 3)


def test_rfc8654_a_message_of_65535_octets_is_taken_where_offered(place: Place) -> None:
    with place.connect() as peer:
        peer.establish()
        attributes = ORIGIN + as_path() + next_hop(peer.source)
        route = nlri("198.51.100.0/24")
        room = 65535 - 23 - len(attributes) - len(route) - 4
        peer.send(update(attributes + encode_attribute(0xC0, 200, bytes(room)), route))
        wait_until(lambda: place.daemon.neighbor(peer.source)["prefixes_received"] == 1, 5, "the route arrives")
        assert place.daemon.state(peer.source) == "established"


def test_rfc8654_4_an_open_of_4097_octets_is_refused(place: Place) -> None:
    with place.connect() as peer:
        peer.expect_open()
        peer.send(encode_message(OPEN, bytes(4097 - 19)))
        assert peer.expect_notification() == (1, 2, b"\x10\x01")


def test_a_session_that_ends_in_the_segment_that_established_it(place: Place) -> None:
    """OPEN, KEEPALIVE and a fault at once: the session is up and down within one turn."""
    with place.connect() as peer:
        peer.send(peer.open_message() + KEEPALIVE + encode_message(UPDATE, b"\xff\xff\x00\x00"))
        assert peer.expect_notification() == (3, 1, b"")
        assert place.error(peer.source) == ("notification-sent", 3, 1)
        since = place.daemon.events(None)
        kinds = [event["kind"] for event in since if event["peer"] == peer.source and event["level"] != "debug"]
        assert kinds == ["bgp-up", "bgp-down"]


def test_random_messages_after_establishing(place: Place) -> None:
    rng = random.Random(4271)
    source = place.victim()
    last = place.daemon.last_event()
    for _ in range(30):
        with place.connect(source) as peer, contextlib.suppress(OSError, TimeoutError):
            peer.send_open()
            peer.send_keepalive()
            kind = rng.choice([1, 2, 2, 2, 3, 4, 5, 9])
            for _ in range(3):
                peer.send(encode_message(kind, rng.randbytes(rng.randrange(60))))
            peer.expect_closed(0.05)
    assert place.daemon.events("internal-error", last) == []
    assert "internal error" not in place.daemon.log.read_text()


# -- floods --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _flood(place: Place, source: str, count: int) -> Iterator[int]:
    """Open so many connections and say nothing; how many of them came about."""
    with contextlib.ExitStack() as held:
        made = 0
        for _ in range(count):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_connection(place.target, 5, (source, 0)))
                made += 1
        yield made


def test_thousand_connections_of_a_known_neighbor(place: Place) -> None:
    source = place.victim()
    before = place.daemon.fds()
    with _flood(place, source, 1000) as made:
        assert made > 900
        # Bounded: those whose NOTIFICATION waits to be read (256), and what one turn accepts (128).
        assert place.daemon.fds() - before < 400
    place.comes_up(source)
    wait_until(lambda: place.daemon.fds() - before < 10, 8, "the file descriptors are given back")


def test_thousand_connections_of_a_stranger(place: Place) -> None:
    before = place.daemon.fds()
    last = place.daemon.last_event()
    with _flood(place, address(), 1000):
        assert place.daemon.fds() - before < 10
        # A scan must not push what happened to the neighbors out of the record.
        assert len(place.daemon.events("connection-refused", last)) == 1
        place.comes_up(place.victim())


def test_connections_beside_an_established_session(place: Place) -> None:
    with place.connect() as peer:
        peer.establish()
        peer.expect(UPDATE)
        peer.send_keepalive()
        with _flood(place, peer.source, 300):
            place.comes_up(place.victim())
            peer.send_keepalive()
        now = place.daemon.neighbor(peer.source)
        assert (now["state"], now["flaps"]) == ("established", 0)  # RFC 4271 §6.8: it stays while no OPEN comes


def test_a_network_full_of_neighbors_that_come_and_go(place: Place) -> None:
    before, fds = place.daemon.peers(), place.daemon.fds()
    with contextlib.ExitStack() as held:
        for number in range(1, 251):
            peer = held.enter_context(place.connect(f"{place.network}.{number}"))
            if number % 5 == 0:
                peer.establish()
            elif number % 5 == 1:
                peer.send(b"\0" * 19)
            elif number % 5 == 2:
                peer.reset()
        wait_until(lambda: place.daemon.state(f"{place.network}.250") == "established", 5, "the good ones are up")
        place.comes_up(place.victim())
    wait_until(lambda: place.daemon.peers() == before, 5, "nothing is left of them")
    wait_until(lambda: place.daemon.fds() - fds < 10, 8, "the file descriptors are given back")
    assert place.daemon.events("internal-error") == []


def test_a_neighbor_that_has_vanished_and_comes_back(place: Place) -> None:
    """Its old connection is half open: no word, no end. RFC 4271 §6.8 keeps it until the hold timer has its say."""
    with place.connect(hold_time=3) as vanished:
        vanished.establish()
        vanished.expect(UPDATE)
        place.comes_up(vanished.source)
        assert place.daemon.neighbor(vanished.source)["flaps"] >= 1


def test_a_second_connection_dies_while_the_first_lives(place: Place) -> None:
    with place.connect() as first:
        first.establish()
        first.expect(UPDATE)
        with place.connect(first.source) as second:
            second.send_open()
            assert second.expect_notification()[:2] == (6, 7)
        assert place.daemon.neighbor(first.source)["flaps"] == 0


def test_one_neighbor_comes_and_goes_a_hundred_times(place: Place) -> None:
    source = place.victim()
    before = place.daemon.fds()
    for round_ in range(100):
        with place.connect(source) as peer:
            peer.establish()
            if round_ % 2:
                peer.reset()
    place.comes_up(source)
    wait_until(lambda: place.daemon.fds() - before < 5, 8, "the file descriptors are given back")


# -- a reader that does not read -----------------------------------------------------------------------------


def test_stalled_reader_costs_no_memory_and_nobody_waits_for_it(place: Place) -> None:
    source = place.victim()
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # keeps the daemon's send buffer small as well
    stalled.bind((source, 0))
    stalled.connect(place.target)
    peer = RawPeer(place.target, source, hold_time=0, sock=stalled)
    peer.send_open()
    peer.send_keepalive()
    place.daemon.wait_state(source, "established")
    tables = [[f"10.{table}.{i}.0/24" for i in range(100)] for table in range(200)]
    for number, table in enumerate(tables):
        Path(place.daemon.config.parent, f"prefixes-{number}.txt").write_text("\n".join(table))

    def announce(med: int) -> None:
        """20,000 routes in 200 sets of attributes of 1 kB; until the good neighbor has them all."""
        text = place.text
        for number in range(len(tables)):
            communities = ", ".join(f'"{number}:{i}"' for i in range(250))
            text += (
                f'[[static_routes]]\nroutes_file = "prefixes-{number}.txt"\nnext_hop = "self"\n'
                f"multi_exit_disc = {med}\ncommunities = [{communities}]\n"
            )
        place.daemon.write(text)
        place.daemon.rpc("reload")
        mark = encode_attribute(0x80, 4, med.to_bytes(4, "big"))
        wait_until(
            lambda: sum(mark in body for body in place.healthy.updates) >= len(tables), 10, "the others have all"
        )

    announce(1)
    announce(2)
    before = place.daemon.memory()
    for med in range(3, 9):
        announce(med)
    assert place.daemon.memory() - before < 20 * 2**20
    good, bad = (place.daemon.neighbor(peer)["sent_by_type"]["update"] for peer in (place.good, source))
    assert bad < good / 2  # it was stalled, and what changed while it was is not sent once for each change
    place.daemon.write(place.text)
    place.daemon.rpc("reload")
    wait_until(lambda: place.daemon.neighbor(place.good)["prefixes_sent"] == 0, 20, "the others lose all")
    assert place.daemon.state(source) == "established"
    peer.close()
    place.comes_up(source)
