"""Many BFD sessions towards one DUT: ``python -m tests.bench.raw.bfd_peer DUT COUNT INTERVAL_MS MULT``.

Each has an address of its own. It comes up, stays up, speaks by the fast rate from the moment that it is Up, answers
polls, and every second prints a line of JSON: sessions that are Up, packets sent and received so far, and how many
sessions fell. It ends with its standard input. By the tick, as fast as plain Python goes: the same for every DUT.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sys
import time

from tests.bench.raw.bfd_packet import DOWN, FINAL, INIT, POLL, UP, listener, pull, push, sender, their_detection_s

TICK_S = 0.001
GRACE_S = 0.05
"""It may itself be late."""


def address(index: int) -> str:
    """10.88.0.1 and up."""
    return f"10.88.{(index + 1) >> 8}.{(index + 1) & 255}"


class Session:
    def __init__(self, index: int, dut: str, interval_us: int, mult: int) -> None:
        self.address = address(index)
        self.sock = sender(self.address, dut, 49152 + index)
        self.mine, self.yours = index + 1, 0
        self.interval_us, self.mult = interval_us, mult
        self.state = DOWN
        self.heard = self.detection_s = 0.0
        self.due = 0.0
        self.packet = b""
        self.build()

    def build(self) -> None:
        self.packet = push(self.state, self.mine, self.yours, self.interval_us, self.mult)

    @property
    def interval_s(self) -> float:
        return self.interval_us / 1e6 if self.state == UP else 1.0


def main() -> None:
    dut, count, interval_ms, mult = sys.argv[1], *(int(each) for each in sys.argv[2:5])
    rng = random.Random(1)
    listening = listener()
    sessions = [Session(index, dut, interval_ms * 1000, mult) for index in range(count)]
    by_address = {socket.inet_aton(session.address): session for session in sessions}
    steady: dict[bytes, Session] = {}
    start = time.monotonic()
    due = []
    for index, session in enumerate(sessions):
        session.due = start + rng.random()
        due.append((session.due, index))
    heapq.heapify(due)
    sent = received = falls = 0
    report_at = start + 1
    while True:
        if select.select([sys.stdin], [], [], TICK_S)[0] and not sys.stdin.readline():
            return
        now = time.monotonic()
        try:
            while True:
                data, ancillary, _, _ = listening.recvmsg(64, 64)
                received += 1
                known = steady.get(data)
                if known is not None and known.state == UP:
                    known.heard = now
                    continue
                state, flags, theirs, _ = pull(data)
                session = by_address[ancillary[0][2][8:12]]
                old = session.state
                session.heard, session.yours = now, theirs
                session.detection_s = their_detection_s(data, session.interval_us)
                if state == DOWN:
                    falls += old == UP
                    session.state = INIT if old != UP else DOWN
                elif state in {INIT, UP}:
                    session.state = UP if old != DOWN or state == INIT else DOWN
                session.build()
                if session.state == UP and state == UP and not flags & (POLL | FINAL):
                    steady[data] = session
                if flags & POLL:
                    final = push(session.state, session.mine, theirs, interval_ms * 1000, mult, flags=FINAL)
                    session.sock.send(final)
                    sent += 1
                if session.state != old:
                    session.due = now
                    heapq.heappush(due, (now, session.mine - 1))
        except BlockingIOError:
            pass
        while due[0][0] <= now:
            at, index = heapq.heappop(due)
            session = sessions[index]
            if at != session.due:
                continue  # it has spoken since, as its state changed: from then on by the new rate
            if session.state == UP and now - session.heard > session.detection_s + GRACE_S:
                falls += 1
                session.state, session.yours = DOWN, 0
                session.build()
            try:
                session.sock.send(session.packet)
                sent += 1
            except OSError:
                pass
            session.due = now + session.interval_s * (0.75 + 0.23 * rng.random())
            heapq.heappush(due, (session.due, index))
        if now >= report_at:
            report_at += 1
            up = sum(session.state == UP for session in sessions)
            print(json.dumps({"up": up, "sent": sent, "received": received, "falls": falls}), flush=True)


if __name__ == "__main__":
    main()
