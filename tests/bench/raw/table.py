"""A table of the Internet's shape as a file of UPDATEs: ``python -m tests.bench.raw.table PREFIXES FILE AS``.

The same for the same number, on every machine. At a million: 147,000 UPDATEs; three prefixes in five are /24; AS paths
of 2 to 7; one route in eight has no communities, the others up to eight of them; MED, AGGREGATOR, large communities
here and there. End-of-RIB at the end.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

from tests.bench.raw.bgp import END_OF_RIB, MARKER, UPDATE

LENGTHS = {24: 60, 23: 9.5, 22: 11, 21: 5, 20: 4.5, 19: 2.5, 18: 1.4, 17: 0.8, 16: 1.3, 15: 0.2, 14: 0.1, 12: 0.05}


def _attribute(flags: int, code: int, value: bytes) -> bytes:
    return bytes((flags, code, len(value))) + value


class Table:
    def __init__(self, count: int, asn: int) -> None:
        self.asn = asn
        self.rng = random.Random(1)
        self.seen: set[tuple[int, int]] = set()
        self.lengths = self.rng.choices(list(LENGTHS), list(LENGTHS.values()), k=count)
        self.transits = [self.rng.randrange(1, 64000) for _ in range(3000)]
        self.origins = [self.rng.randrange(1, 400_000) for _ in range(75_000)]
        self.communities = [
            struct.pack("!HH", self.rng.choice(self.transits), self.rng.randrange(1, 65000)) for _ in range(6000)
        ]
        self.paths: dict[int, list[int]] = {}

    def prefix(self) -> bytes:
        length = self.lengths.pop()
        while True:
            address = self.rng.getrandbits(32) & (0xFFFFFFFF << 32 - length) & 0xFFFFFFFF
            first = address >> 24
            if 1 <= first < 224 and first not in {10, 127} and (length, address) not in self.seen:
                self.seen.add((length, address))
                return bytes((length,)) + address.to_bytes(4, "big")[: length + 7 >> 3]

    def attributes(self) -> bytes:
        rng, origin = self.rng, self.rng.choice(self.origins)
        if origin not in self.paths or rng.random() < 0.35:
            hops = rng.choices((2, 3, 4, 5, 6, 7), (6, 22, 33, 23, 11, 5))[0]
            self.paths[origin] = [self.asn, *(rng.choice(self.transits) for _ in range(hops - 2)), origin]
        path = self.paths[origin]
        block = _attribute(0x40, 1, bytes(rng.choices((0, 2, 1), (90, 9, 1))))
        block += _attribute(0x40, 2, bytes((2, len(path))) + struct.pack(f"!{len(path)}I", *path))
        block += _attribute(0x40, 3, bytes((10, 88, 0, 1)))
        if rng.random() < 0.3:
            block += _attribute(0x80, 4, struct.pack("!I", rng.randrange(200)))
        if rng.random() < 0.08:
            block += _attribute(0xC0, 7, struct.pack("!I", origin) + bytes((10, 1, rng.randrange(256), 1)))
        if some := rng.choices(range(9), (12, 10, 14, 16, 14, 12, 10, 7, 5))[0]:
            block += _attribute(0xC0, 8, b"".join(rng.sample(self.communities, some)))
        if rng.random() < 0.05:
            block += _attribute(0xC0, 32, struct.pack("!III", origin, rng.randrange(100), rng.randrange(100)))
        return block

    def updates(self) -> list[bytes]:
        made = []
        while self.lengths:
            some = min(len(self.lengths), 700, int(self.rng.paretovariate(1.05) * 1.12))
            block = self.attributes()
            body = (
                b"\0\0" + struct.pack("!H", len(block)) + block + b"".join(self.prefix() for _ in range(max(some, 1)))
            )
            made.append(MARKER + struct.pack("!HB", 19 + len(body), UPDATE) + body)
        return made


def main() -> None:
    Path(sys.argv[2]).write_bytes(b"".join([*Table(int(sys.argv[1]), int(sys.argv[3])).updates(), END_OF_RIB]))


if __name__ == "__main__":
    main()
