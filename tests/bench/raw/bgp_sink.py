"""Takes routes: ``python -m tests.bench.raw.bgp_sink DUT FIRST_AS EXPECTED ADDRESS[,ADDRESS…] [listen]``.

A session from each address (their AS numbers count up), dialled again and again until the DUT takes it, or accepted. A
line of JSON when all sessions are Established and EXPECTED prefixes have come in all, and then one whenever something
came and nothing more for QUIET_S: times by the monotonic clock of when the last session was Established and of the last
prefix, counts of prefixes announced and withdrawn since the line before.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

from tests.bench.raw import bgp

QUIET_S = 0.5
REDIAL_S = 0.01


class Session:
    def __init__(self, address: str, asn: int) -> None:
        self.address, self.asn = address, asn
        self.sock: socket.socket | None = None
        self.buffer = bytearray()
        self.established_at: float | None = None
        self.due = 0.0


def main() -> None:
    dut, first_as, expected = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sessions = [Session(address, first_as + n) for n, address in enumerate(sys.argv[4].split(","))]
    waiting = list(sessions)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    listener: socket.socket | None = None
    if sys.argv[5:] == ["listen"]:
        listener = socket.create_server((sessions[0].address, bgp.PORT))
        selector.register(listener, selectors.EVENT_READ)
    announced = withdrawn = 0
    last = 0.0
    reported = False

    def begin(session: Session, sock: socket.socket) -> None:
        sock.setblocking(True)
        sock.sendall(bgp.open_message(session.asn, session.address))
        session.sock, session.buffer = sock, bytearray()
        selector.register(sock, selectors.EVENT_READ, session)

    while True:
        now = time.monotonic()
        if listener is None and waiting:
            for session in [s for s in waiting if s.due <= now][:50]:
                sock = bgp.dial(session.address, dut)
                if sock is None:
                    session.due = now + REDIAL_S
                    break
                waiting.remove(session)
                begin(session, sock)
        busy = False
        for key, _ in selector.select(REDIAL_S if waiting else 0.1):
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
                selector.unregister(session.sock)
                session.sock.close()
                session.due = time.monotonic() + 0.2
                waiting.append(session)
                continue
            now = time.monotonic()
            session.buffer += data
            for message in bgp.messages(session.buffer):
                kind = message[18]
                if kind == bgp.UPDATE:
                    more, fewer = bgp.nlri_of(message)
                    announced, withdrawn = announced + more, withdrawn + fewer
                    if more or fewer:
                        last, busy = now, True
                elif kind == bgp.ALIVE:
                    if session.established_at is None:
                        session.established_at = now
                        session.sock.sendall(bgp.KEEPALIVE + bgp.END_OF_RIB)
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


if __name__ == "__main__":
    main()
