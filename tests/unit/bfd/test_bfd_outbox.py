"""Events to a main process that does not read: bounded, and no state change lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest

from bgpbfd.bfd.outbox import LOGS_KEPT, STATE_CHANGES_KEPT, Outbox
from bgpbfd.bfd.protocol import Bound, Event, Log, Report, SessionFault, StateChange


@pytest.fixture(name="pair")
def pair_fixture() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with ours, theirs:
        yield ours, theirs


def change(key: str, old: str, new: str, at: int) -> StateChange:
    return StateChange(
        key=key,
        generation=1,
        old=old,
        new=new,
        diag=1 if new == "down" else 0,
        remote_diag=0,
        remote_admin_down=False,
        blame="path-loss" if new == "down" else "",
        at=at,
        last_rx=None,
        previous_rx=None,
        detection_time_us=150_000,
    )


def jam(sock: socket.socket) -> int:
    """Fill the socket; how many messages it took."""
    count = 0
    while True:
        try:
            sock.send(b"\xc0" * 1000)
        except BlockingIOError:
            return count
        count += 1


def drain(outbox: Outbox, reader: socket.socket, junk: int) -> list[Event]:
    events: list[Event] = []
    decode = msgspec.msgpack.Decoder(Event).decode
    seen = 0
    while True:
        try:
            data = reader.recv(1 << 18)
        except BlockingIOError:
            if not outbox:
                return events
            outbox.flush()
            continue
        seen += 1
        if seen > junk:
            events.append(decode(data))


def test_order_within_a_session_and_no_change_lost_while_jammed(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(pair[0])
    junk = jam(pair[0])
    states = ["down", "init", "up"]
    for number in range(1000):
        for key in ("a", "b"):
            outbox.post(change(key, states[number % 3], states[(number + 1) % 3], number))
        outbox.flush()
    assert outbox
    events = drain(outbox, pair[1], junk)
    for key in ("a", "b"):
        mine = [e for e in events if isinstance(e, StateChange) and e.key == key]
        assert len(mine) <= STATE_CHANGES_KEPT
        assert mine[0].old == "down"
        assert [e.new for e in mine[:-1]] == [e.old for e in mine[1:]]  # an unbroken chain
        assert mine[-1].new == states[1000 % 3]
        assert any(e.blame == "path-loss" for e in mine[:1])  # what was merged still tells of the Down


def test_later_news_replace_earlier_of_the_same_kind(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(pair[0])
    junk = jam(pair[0])
    for number in range(2000):
        outbox.post(Log(level="info", text=str(number)))
        outbox.post(Bound(address="192.0.2.1", error=str(number)))
        outbox.post(SessionFault(key="a", generation=1, error=str(number)))
        outbox.post(Report(request=number, sessions=[], discards={}))
        outbox.flush()
    events = drain(outbox, pair[1], junk)
    assert [e.error for e in events if isinstance(e, Bound | SessionFault)] == ["1999", "1999"]
    assert [e.request for e in events if isinstance(e, Report)] == [1999]
    assert len([e for e in events if isinstance(e, Log)]) == LOGS_KEPT
    assert outbox.dropped == 2000 - LOGS_KEPT


def test_end_of_the_reader_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(pair[0])
    pair[1].close()
    outbox.post(Log(level="info", text="x"))
    with pytest.raises(OSError):
        outbox.flush()
