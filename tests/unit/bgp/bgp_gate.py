"""A neighbor's core that BFD's gate keeps back (draft-ietf-idr-bgp-bfd-strict-mode), driven by hand."""

from __future__ import annotations

from bgp_harness import (
    CAP_MP_IPV4,
    SETTINGS,
    Driver,
    cap_as4,
    closes,
    notifications,
    of,
    one,
    open_message,
    with_settings,
)

from bgpbfd.bgp.events import (
    Action,
    AttemptFailed,
    BfdGate,
    Cause,
    CauseKind,
    ConnId,
    State,
    StateChanged,
)
from bgpbfd.bgp.negotiate import PeerSettings
from bgpbfd.core import SECOND, Instant

RETRY = int(SETTINGS.connect_retry_s * SECOND)
LOWER, HIGHER = 0x01020304, 0xF0000001  # than our 192.0.2.10
CAP_STRICT = bytes((74, 0))
CAPS = CAP_MP_IPV4 + cap_as4(65001)
OPEN_STRICT = open_message(caps=CAPS + CAP_STRICT)
STRICT = with_settings(bfd_strict=True)
SLOW = with_settings(bfd_strict=True, hold_time_s=180)  # no hold time in the way of 30 s
SLOW_OPEN = open_message(hold=180, caps=CAPS + CAP_STRICT)

CLOSED = BfdGate(closed=True, reason="BFD is down", hold_s=30)
SILENT = BfdGate(closed=True, reason="BFD is down", dials=False, hold_s=30)
OPENED = BfdGate(closed=False, reason="BFD is up")
BFD_DOWN = b"\x06\x0a"
WORDS = "not dialling until BFD is up"


def held(settings: PeerSettings = STRICT, gate: BfdGate = CLOSED) -> Driver:
    driver = Driver(settings)
    driver.do(gate)
    return driver


def waiting(open_: bytes = OPEN_STRICT, *, dialled: bool = True, gate: BfdGate = CLOSED) -> tuple[Driver, ConnId]:
    """A connection whose OPEN has come, kept in OpenSent."""
    driver = held(gate=gate)
    conn = driver.open_sent() if dialled else incoming(driver)
    assert driver.receive(conn, open_) == []
    assert driver.peer.state is State.OPEN_SENT
    return driver, conn


def incoming(driver: Driver) -> ConnId:
    driver.active()
    return driver.incoming()


def failed(actions: list[Action]) -> Cause:
    return one(actions, AttemptFailed).cause


def states(actions: list[Action]) -> list[State]:
    return [change.new for change in of(actions, StateChanged)]


def down_cause(driver: Driver) -> Cause:
    return Cause(CauseKind.BFD_DOWN, "BFD went down", driver.now)


def ends_at(driver: Driver) -> Instant:
    """The moment at which the wait ends, found by asking, which changes nothing."""
    deadline = driver.peer.next_deadline()
    assert deadline is not None
    assert driver.peer.next_deadline() == deadline
    assert driver.at(deadline - 1) == []
    actions = driver.at(deadline)
    (conn, body) = notifications(actions)[0]
    assert body == BFD_DOWN
    assert [(c.conn, c.linger) for c in closes(actions)] == [(conn, True)]
    cause = failed(actions)
    assert (cause.kind, cause.code, cause.subcode) == (CauseKind.BFD_DOWN, 6, 10)
    assert driver.peer.state is State.ACTIVE  # plain: neither an idle hold, nor told off for it
    return deadline
