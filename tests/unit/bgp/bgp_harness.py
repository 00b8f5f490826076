"""A neighbor's core driven by hand: endpoints, messages written byte by byte, and what came out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from bgpbfd.bgp.events import (
    Action,
    Close,
    ConnId,
    DataReceived,
    Dial,
    Endpoint,
    Event,
    ManualStart,
    Send,
    TcpConnectionConfirmed,
    TcpConnectionFails,
    TcpCrAcked,
    TimerExpired,
)
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.bgp.peer import Peer
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, SECOND, Instant

OURS = Endpoint(bytes((192, 0, 2, 10)), "192.0.2.10", 49200)
THEIRS = Endpoint(bytes((192, 0, 2, 1)), "192.0.2.1", 179)
SETTINGS = PeerSettings(
    local_asn=65010, remote_asn=65001, router_id=0xC000020A, families=(IPV4_UNICAST, IPV6_UNICAST), hold_time_s=9
)
START: Instant = 1_000 * SECOND

MARKER = b"\xff" * 16


def message(kind: int, body: bytes = b"") -> bytes:
    return MARKER + (19 + len(body)).to_bytes(2, "big") + bytes((kind,)) + body


CAP_MP_IPV4 = bytes((1, 4, 0, 1, 0, 1))
CAP_MP_IPV6 = bytes((1, 4, 0, 2, 0, 1))
CAP_REFRESH = bytes((2, 0))
CAP_ENHANCED = bytes((70, 0))
CAP_EXTENDED = bytes((6, 0))


def cap_as4(asn: int) -> bytes:
    return bytes((65, 4)) + asn.to_bytes(4, "big")


def cap_restart(flags_and_time: int = 0x0078, *families: bytes) -> bytes:
    """RFC 4724 §3: R 0x8000, N 0x4000, time; each of ``families``: AFI, SAFI, flags."""
    value = flags_and_time.to_bytes(2, "big") + b"".join(families)
    return bytes((64, len(value))) + value


IPV4_KEPT, IPV6_KEPT = bytes((0, 1, 1, 0x80)), bytes((0, 2, 1, 0x80))


def open_message(
    asn: int = 65001,
    hold: int = 9,
    router_id: int = 0xC0000201,
    caps: bytes = CAP_MP_IPV4 + CAP_REFRESH + cap_as4(65001),
    version: int = 4,
) -> bytes:
    params = bytes((2, len(caps))) + caps if caps else b""
    body = bytes((version,)) + asn.to_bytes(2, "big") + hold.to_bytes(2, "big") + router_id.to_bytes(4, "big")
    return message(1, body + bytes((len(params),)) + params)


OPEN = open_message()
KEEPALIVE = message(4)
END_OF_RIB = message(2, bytes(4))
# ORIGIN IGP, AS_PATH 65001 (4 octets), NEXT_HOP 192.0.2.1, 203.0.113.0/24
UPDATE = message(2, bytes.fromhex("0000 0014 40010100 400206 0201 0000fde9 400304 c0000201 18 cb0071".replace(" ", "")))
UPDATE_BAD_LENGTHS = message(2, bytes.fromhex("00ff0000"))  # withdrawn length beyond the message: 3/1
REFRESH = message(5, bytes((0, 1, 0, 1)))


def notification(code: int, subcode: int, data: bytes = b"") -> bytes:
    return message(3, bytes((code, subcode)) + data)


ActionT = TypeVar("ActionT")


@dataclass
class Driver:
    """A Peer, its clock, and every action that it has ever wanted."""

    settings: PeerSettings = SETTINGS
    seed: int = 1
    now: Instant = START
    log: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer = Peer("192.0.2.1", self.settings, random.Random(self.seed))

    def do(self, event: Event, after: Instant = 0) -> list[Action]:
        self.now += after
        actions = self.peer.handle(event, self.now)
        self.log += actions
        return actions

    def at(self, now: Instant) -> list[Action]:
        """Let the timers that are due by ``now`` expire, each at its time; all that comes of it."""
        actions: list[Action] = []
        while (deadline := self.peer.next_deadline()) is not None and deadline <= now:
            self.now = max(self.now, deadline)
            actions += self.do(TimerExpired())
        self.now = now
        return actions

    def receive(self, conn: ConnId, *messages: bytes) -> list[Action]:
        return self.do(DataReceived(conn, b"".join(messages)))

    def start(self) -> ConnId:
        """Started, dialling."""
        return one(self.do(ManualStart()), Dial).conn

    def active(self) -> ConnId:
        """Started, the first dial refused."""
        conn = self.start()
        self.do(TcpConnectionFails(conn, "connection refused"))
        return conn

    def open_sent(self) -> ConnId:
        conn = self.start()
        self.do(TcpCrAcked(conn, OURS, THEIRS))
        return conn

    def open_confirm(self, open_: bytes = OPEN) -> ConnId:
        conn = self.open_sent()
        self.receive(conn, open_)
        return conn

    def established(self, open_: bytes = OPEN) -> ConnId:
        conn = self.open_confirm(open_)
        self.receive(conn, KEEPALIVE)
        return conn

    def incoming(self) -> ConnId:
        conn = self.peer.new_connection_id()
        self.do(TcpConnectionConfirmed(conn, OURS, THEIRS))
        return conn


def of(actions: list[Action], kind: type[ActionT]) -> list[ActionT]:
    return [action for action in actions if isinstance(action, kind)]


def one(actions: list[Action], kind: type[ActionT]) -> ActionT:
    (action,) = of(actions, kind)
    return action


def sent(actions: list[Action], conn: ConnId) -> list[bytes]:
    return [a.data for a in actions if isinstance(a, Send) and a.conn == conn]


def notifications(actions: list[Action]) -> list[tuple[ConnId, bytes]]:
    """(connection, code and subcode and Data) of each NOTIFICATION sent."""
    return [(a.conn, a.data[19:]) for a in actions if isinstance(a, Send) and a.data[18] == 3]


def closes(actions: list[Action]) -> list[Close]:
    return of(actions, Close)


def with_settings(**changes: Any) -> PeerSettings:
    return replace(SETTINGS, **changes)
