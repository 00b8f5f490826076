"""Silence to Cease: ``python -m tests.bench.raw.failover_peer LOCAL DUT LOCAL_AS RUNS INTERVAL_MS MULT``.

A BGP session and a BFD session with the DUT. When both are up and calm, the BFD packets stop, at a random time after
the last one; what is measured is from that last packet to the DUT's NOTIFICATION or the end of its TCP connection, less
the detection time. Prints one line of JSON a run: ``over_ms``, and the code and subcode of the NOTIFICATION; without
them if nothing came for GIVE_UP_S.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
import time

from tests.bench.raw import bgp
from tests.bench.raw.bfd_packet import DOWN, FINAL, INIT, POLL, UP, listener, pull, push, sender

CALM_S = 1.5
GIVE_UP_S = 5.0


class Peer:
    def __init__(self, local: str, dut: str, asn: int, interval_us: int, mult: int) -> None:
        self.local, self.dut, self.asn = local, dut, asn
        self.interval_us, self.mult = interval_us, mult
        self.bfd_in, self.bfd_out = listener(), sender(local, dut, 50000)
        self.state, self.yours = DOWN, 0
        self.next_tx = 0.0
        self.last_tx = 0.0
        self.heard = 0.0
        self.rng = random.Random()
        self.tcp: socket.socket | None = None
        self.buffer = bytearray()
        self.established = False
        self.retry_at = 0.0
        self.keepalive_at = 0.0

    def run_bfd(self, now: float, *, speak: bool) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                state, flags, self.yours, _ = pull(self.bfd_in.recv(64))
                self.heard = now
                old = self.state
                if state == DOWN:
                    self.state = INIT if old != UP else DOWN
                elif state in {INIT, UP}:
                    self.state = UP if old != DOWN or state == INIT else DOWN
                if self.state != old:
                    self.next_tx = now  # a peer that hears of Up by a poll detects by the fast rate from then on
                if speak and flags & POLL:
                    self.send(FINAL)
        if self.state == UP and now - self.heard > 3 * self.interval_us * self.mult / 1e6:
            self.state, self.yours = DOWN, 0
        if speak and now >= self.next_tx:
            self.send(0)
            interval_s = self.interval_us / 1e6 if self.state == UP else 1.0
            self.next_tx = now + interval_s * (0.75 + 0.24 * self.rng.random())

    def send(self, flags: int) -> None:
        data = push(self.state, 7, self.yours, self.interval_us, self.mult, flags=flags)
        with contextlib.suppress(OSError):
            self.last_tx = time.monotonic()
            self.bfd_out.send(data)

    def run_bgp(self, now: float) -> tuple[int, int] | None:
        """What ended the session: code and subcode, (0, 0) for a mere end."""
        if self.tcp is None:
            if now >= self.retry_at:
                self.retry_at = now + 0.25
                self.connect()
            return None
        if self.established and now >= self.keepalive_at:
            self.keepalive_at = now + 20
            self.tcp.send(bgp.KEEPALIVE)
        try:
            data = self.tcp.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self.drop((0, 0))
        self.buffer += data
        for message in bgp.messages(self.buffer):
            if message[18] == bgp.OPEN:
                self.tcp.send(bgp.KEEPALIVE)
            elif message[18] == bgp.NOTIFICATION:
                return self.drop((message[19], message[20]))
            elif message[18] == bgp.ALIVE:
                self.established = True
        return None

    def connect(self) -> None:
        sock = bgp.dial(self.local, self.dut)
        if sock is None:
            return
        sock.send(bgp.open_message(self.asn, self.local))
        sock.setblocking(False)
        self.tcp, self.buffer, self.established, self.keepalive_at = sock, bytearray(), False, 0.0

    def drop(self, why: tuple[int, int]) -> tuple[int, int] | None:
        assert self.tcp is not None
        self.tcp.close()
        self.tcp = None
        was, self.established = self.established, False
        return why if was else None


def main() -> None:
    local, dut = sys.argv[1:3]
    asn, runs, interval_ms, mult = (int(each) for each in sys.argv[3:7])
    peer = Peer(local, dut, asn, interval_ms * 1000, mult)
    for _ in range(runs):
        calm_since: float | None = None
        deadline = time.monotonic() + 60
        wait_s = CALM_S + peer.rng.random() / 10
        while calm_since is None or time.monotonic() - calm_since < wait_s:
            now = time.monotonic()
            assert now < deadline, f"not up within 60 s: BFD state {peer.state}, BGP {peer.established}"
            peer.run_bfd(now, speak=True)
            peer.run_bgp(now)
            calm = peer.established and peer.state == UP
            calm_since = (calm_since or now) if calm else None
            time.sleep(0.0005)
        # From here on nothing sleeps: the answer is to be seen when it comes.
        ended = None
        deadline = time.monotonic() + GIVE_UP_S
        while ended is None and time.monotonic() < deadline:
            ended = peer.run_bgp(time.monotonic())
        over_ms = (time.monotonic() - peer.last_tx) * 1000 - interval_ms * mult
        print(json.dumps({"over_ms": round(over_ms, 3), "why": ended}), flush=True)
        peer.state, peer.yours, peer.next_tx = DOWN, 0, 0.0


if __name__ == "__main__":
    main()
