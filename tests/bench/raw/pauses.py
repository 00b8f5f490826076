"""How long the daemon's loop keeps one waiting: ``python -m tests.bench.raw.pauses SOCKET``.

Asks the API for its version every 2 ms over one connection. A line of JSON when it has begun, and one for each line
that it is sent: the longest that an answer took since then, less what the shortest did.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

BODY = b'{"jsonrpc":"2.0","method":"show_version","id":1}'
REQUEST = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
)


def ask(sock: socket.socket) -> float:
    begun = time.monotonic()
    sock.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.rstrip().endswith(b"}"):
        data = sock.recv(1 << 16)
        if not data:
            raise SystemExit("the API closed")
        answer += data
    return time.monotonic() - begun


def main() -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[1])
    least = min(ask(sock) for _ in range(50))
    worst = 0.0
    print(json.dumps({"least_ms": least * 1000}), flush=True)
    while True:
        worst = max(worst, ask(sock))
        if select.select([sys.stdin], [], [], 0.002)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps({"worst_ms": (worst - least) * 1000}), flush=True)
            worst = 0.0


if __name__ == "__main__":
    main()
