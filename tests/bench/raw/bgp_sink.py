"""Takes routes: ``python -m tests.bench.raw.bgp_sink DUT FIRST_AS EXPECTED ADDRESS[,ADDRESS…] [listen] [nudge]``.

A session from each address (their AS numbers count up), dialled again and again until the DUT takes it, or accepted. A
line of JSON when all sessions are Established and EXPECTED prefixes have come in all, and then one whenever something
came and nothing more for QUIET_S: times by the monotonic clock of when the last session was Established and of the last
prefix, counts of prefixes announced and withdrawn since the line before. What a session brought that then fell does not
count: it begins anew.

``nudge``: a KEEPALIVE every NUDGE_S on one of the sessions in turn. BIRD 2.0.12 leaves the last UPDATEs in its queue
until a packet or a timer wakes it, up to the 3 s that its loop sleeps at the longest; a peer that says nothing at all
would charge that to it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import selectors
import socket
import sys
import time

from tests.bench.raw import bgp

QUIET_S = 0.5
REDIAL_S = 0.01
DIAL_S = 0.02
"""A whole round trip takes far less; a SYN that BIRD's queue of 8 has no room for would be sent again after 1 s."""
REDIAL_DROPPED_S = 0.05
"""After a session that the DUT took and dropped: FRR does while it reads its configuration."""
NUDGE_S = 0.05
ALIVE_S = 30.0


class Session:
    def __init__(self, address: str, asn: int) -> None:
        self.address, self.asn = address, asn
        self.sock: socket.socket | None = None
        self.buffer = bytearray()
        self.established_at: float | None = None
        self.announced = self.withdrawn = 0
        self.due = 0.0

    def begin(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self.sock = sock
        self.send(bgp.open_message(self.asn, self.address))

    def drop(self, due: float) -> None:
        """To be dialled again at ``due``."""
        assert self.sock is not None
        self.sock.close()
        self.sock, self.buffer, self.established_at = None, bytearray(), None
        self.announced = self.withdrawn = 0
        self.due = due

    def send(self, data: bytes) -> None:
        assert self.sock is not None
        with contextlib.suppress(OSError):  # its end is seen when it is read
            self.sock.sendall(data)

    def say_alive(self) -> None:
        if self.established_at is not None:
            self.send(bgp.KEEPALIVE)


def main() -> None:
    dut, first_as, expected = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sessions = [Session(address, first_as + n) for n, address in enumerate(sys.argv[4].split(","))]
    waiting = list(sessions)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    listener: socket.socket | None = None
    if "listen" in sys.argv[5:]:
        listener = socket.create_server((sessions[0].address, bgp.PORT))
        selector.register(listener, selectors.EVENT_READ)
    nudging = "nudge" in sys.argv[5:]
    in_turn = itertools.cycle(sessions)
    nudge_at = alive_at = time.monotonic()
    announced = withdrawn = 0
    last = 0.0
    reported = False

    def begin(session: Session, sock: socket.socket) -> None:
        session.begin(sock)
        selector.register(sock, selectors.EVENT_READ, session)

    while True:
        now = time.monotonic()
        if listener is None and waiting:
            for session in [s for s in waiting if s.due <= now][:50]:
                sock = bgp.dial(session.address, dut, DIAL_S)
                if sock is None:
                    session.due = now + REDIAL_S
                    break
                waiting.remove(session)
                begin(session, sock)
        if nudging and now >= nudge_at:
            nudge_at = now + NUDGE_S
            next(in_turn).say_alive()
        if now >= alive_at:
            alive_at = now + ALIVE_S
            for session in sessions:
                session.say_alive()
        busy = False
        for key, _ in selector.select(REDIAL_S if waiting else NUDGE_S if nudging else 0.1):
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is listener:
                assert listener is not None
                begin(waiting.pop(), listener.accept()[0])
                continue
            session = key.data
            assert session.sock is not None
            try:
                data = session.sock.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                announced, withdrawn = announced - session.announced, withdrawn - session.withdrawn
                selector.unregister(session.sock)
                session.drop(time.monotonic() + REDIAL_DROPPED_S)
                waiting.append(session)
                continue
            now = time.monotonic()
            session.buffer += data
            for message in bgp.messages(session.buffer):
                kind = message[18]
                if kind == bgp.UPDATE:
                    more, fewer = bgp.nlri_of(message)
                    session.announced += more
                    session.withdrawn += fewer
                    announced, withdrawn = announced + more, withdrawn + fewer
                    if more or fewer:
                        last, busy = now, True
                elif kind == bgp.ALIVE:
                    if session.established_at is None:
                        session.established_at = now
                        session.send(bgp.KEEPALIVE + bgp.END_OF_RIB)
                elif kind == bgp.NOTIFICATION:
                    print(f"NOTIFICATION {message[19:21].hex()}", file=sys.stderr)
        complete = announced >= expected and all(s.established_at is not None for s in sessions)
        quiet = not busy and last and time.monotonic() - last > QUIET_S
        if (not reported and complete and (quiet or announced == expected)) or (
            reported and quiet and (announced or withdrawn)
        ):
            established = max(session.established_at or 0.0 for session in sessions)
            line = {"established": established, "last": last, "announced": announced, "withdrawn": withdrawn}
            print(json.dumps(line), flush=True)
            reported, announced, withdrawn = True, 0, 0
            for session in sessions:
                session.announced = session.withdrawn = 0


if __name__ == "__main__":
    main()
