"""Sends a table: ``python -m tests.bench.raw.bgp_source LOCAL DUT LOCAL_AS FILE [again]``.

FILE holds whole messages, End-of-RIB at the end (``table``). A line of JSON when the session is Established, one when
the last octet has been handed to TCP; ``again``: over and over, a line each time. Then it keeps the session up.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

from tests.bench.raw import bgp

AT_ONCE = 1 << 18


def establish(local: str, dut: str, asn: int) -> socket.socket | None:
    """None: not yet, or it closed again."""
    sock = bgp.dial(local, dut)
    if sock is None:
        return None
    sock.settimeout(10)
    buffer = bytearray()
    try:
        sock.sendall(bgp.open_message(asn, local))
        while data := sock.recv(1 << 16):
            buffer += data
            if any(message[18] == bgp.ALIVE for message in bgp.messages(buffer)):
                sock.sendall(bgp.KEEPALIVE)
                sock.setblocking(True)
                return sock
    except OSError:
        pass
    sock.close()
    return None


def main() -> None:
    local, dut, asn, path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    table = memoryview(Path(path).read_bytes())
    while (sock := establish(local, dut, asn)) is None:
        time.sleep(0.05)
    print(json.dumps({"established": time.monotonic()}), flush=True)
    while True:
        at = 0
        while at < len(table):
            readable, writable, _ = select.select([sock, sys.stdin], [sock], [])
            if sys.stdin in readable:
                return
            if sock in readable and not sock.recv(1 << 16):
                return
            if writable:
                at += sock.send(table[at : at + AT_ONCE])
        print(json.dumps({"sent": time.monotonic()}), flush=True)
        if sys.argv[5:] != ["again"]:
            break
    while True:
        readable, _, _ = select.select([sock, sys.stdin], [], [], 20)
        if sys.stdin in readable or (sock in readable and not sock.recv(1 << 16)):
            return
        sock.sendall(bgp.KEEPALIVE)


if __name__ == "__main__":
    main()
