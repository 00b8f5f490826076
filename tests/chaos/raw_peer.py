"""A BGP speaker that does as it is told, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from chaos_daemon import Daemon

from bgpbfd.core import IPV4_UNICAST
from bgpbfd.wire.attributes import encode_attribute
from bgpbfd.wire.capabilities import Capability, four_octet_as, multiprotocol
from bgpbfd.wire.iana import MessageType
from bgpbfd.wire.messages import (
    KEEPALIVE,
    MessageReader,
    Notification,
    Open,
    decode_notification,
    decode_open,
    encode_message,
    encode_notification,
    encode_open,
)

TIMEOUT = 5.0
OPEN, UPDATE, NOTIFICATION = int(MessageType.OPEN), int(MessageType.UPDATE), int(MessageType.NOTIFICATION)
_KEEPALIVE = int(MessageType.KEEPALIVE)


class Closed(Exception):
    """The connection ended while a message was awaited."""


class RawPeer:
    """One connection from ``source`` to the daemon at ``target``."""

    def __init__(
        self,
        target: tuple[str, int],
        source: str,
        *,
        asn: int = 65001,
        router_id: int = 0xC0000201,
        hold_time: int = 90,
        sock: socket.socket | None = None,
    ) -> None:
        self.target, self.source = target, source
        self.asn, self.router_id, self.hold_time = asn, router_id, hold_time
        self._reader = MessageReader()
        self._reader.extended = True
        self._lock = threading.Lock()
        self.sock = sock if sock is not None else socket.create_connection(target, TIMEOUT, (source, 0))
        self.sock.settimeout(TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- saying ----------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        with self._lock:
            self.sock.sendall(data)

    def open_message(self, **changed: int) -> bytes:
        """The OPEN, with any of ``asn``, ``hold_time``, ``router_id``, ``version`` as given."""
        asn = changed.get("asn", self.asn)
        return encode_open(
            Open(
                asn=asn,
                hold_time=changed.get("hold_time", self.hold_time),
                router_id=changed.get("router_id", self.router_id),
                capabilities=(multiprotocol(IPV4_UNICAST), Capability(6), four_octet_as(asn)),
                version=changed.get("version", 4),
            )
        )

    def send_open(self, **changed: int) -> None:
        self.send(self.open_message(**changed))

    def send_keepalive(self) -> None:
        self.send(KEEPALIVE)

    def send_notification(self, code: int, subcode: int, data: bytes = b"") -> None:
        self.send(encode_notification(Notification(code, subcode, data)))

    def to_open_confirm(self) -> None:
        """Both OPENs have passed; the daemon has sent its KEEPALIVE and waits for ours."""
        self.send_open()
        self.expect(OPEN)
        self.expect(_KEEPALIVE)

    def establish(self) -> Self:
        self.to_open_confirm()
        self.send_keepalive()
        return self

    # -- hearing ---------------------------------------------------------------------------------------------

    def next_message(self, timeout: float = TIMEOUT) -> tuple[int, bytes]:
        """(type, body). Raises Closed, and TimeoutError."""
        deadline = time.monotonic() + timeout
        while (message := self._reader.next_message()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except ConnectionError as error:
                raise Closed(str(error)) from None
            finally:
                self.sock.settimeout(TIMEOUT)
            if not data:
                raise Closed("end of file")
            self._reader.feed(data)
        return message

    def expect(self, kind: int, timeout: float = TIMEOUT) -> bytes:
        """The body of the next message of ``kind``; other ones but NOTIFICATIONs are read over."""
        deadline = time.monotonic() + timeout
        while True:
            got, body = self.next_message(deadline - time.monotonic())
            if got == kind:
                return body
            if got == NOTIFICATION:
                raise AssertionError(f"awaited type {kind}, got {decode_notification(body)}")

    def expect_notification(self, timeout: float = TIMEOUT) -> tuple[int, int, bytes]:
        """(code, subcode, data) of the NOTIFICATION that ends the connection."""
        note = decode_notification(self.expect(NOTIFICATION, timeout))
        self.expect_closed()
        return note.code, note.subcode, note.data

    def expect_open(self) -> Open:
        return decode_open(self.expect(OPEN))

    def expect_closed(self, timeout: float = TIMEOUT) -> None:
        try:
            while True:
                self.next_message(timeout)
        except Closed:
            return

    # -- ending ----------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


class Healthy:
    """A neighbor that behaves: stays established by itself, and remembers whether it ever was not."""

    def __init__(self, target: tuple[str, int], source: str, asn: int = 65001) -> None:
        self.peer = RawPeer(target, source, asn=asn, router_id=0xC00002FE, hold_time=9)
        self.peer.establish()
        self.ended: str | None = None
        self.notification: Notification | None = None
        self.updates: list[bytes] = []
        self.bytes_received = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        due = 0.0
        try:
            while not self._stopping:
                if time.monotonic() >= due:
                    self.peer.send_keepalive()
                    due = time.monotonic() + 1.0
                try:
                    kind, body = self.peer.next_message(0.1)
                except TimeoutError:
                    continue
                if kind == UPDATE:
                    self.updates.append(body)
                    self.bytes_received += len(body)
                elif kind == NOTIFICATION:
                    self.notification = decode_notification(body)
                    raise Closed(str(self.notification))
        except (Closed, OSError) as error:
            if not self._stopping:
                self.ended = f"{type(error).__name__}: {error}"
                self.peer.close()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
        self.peer.close()


class Shared(Protocol):
    """A daemon that the tests of a module share, and the neighbor of it that behaves."""

    daemon: Daemon
    healthy: Healthy


Place = TypeVar("Place", bound=Shared)


@contextlib.contextmanager
def beside_a_healthy_one(kind: Callable[[Path], Place]) -> Iterator[Place]:
    """What ``kind`` makes in a folder of its own; in the end the daemon has stopped well, and has had no fault."""
    with tempfile.TemporaryDirectory(prefix="bgpbfd-chaos-") as folder:
        place = kind(Path(folder))
        yield place
        place.healthy.stop()
        code, _ = place.daemon.stop()
        place.daemon.end()
        assert code == 0
        assert "Traceback" not in place.daemon.log.read_text()


# -- messages ------------------------------------------------------------------------------------------------

ORIGIN = encode_attribute(0x40, 1, b"\x00")


def as_path(asn: int = 65001) -> bytes:
    """One AS, four octets wide."""
    return encode_attribute(0x40, 2, b"\x02\x01" + asn.to_bytes(4, "big"))


def next_hop(address: str) -> bytes:
    return encode_attribute(0x40, 3, socket.inet_aton(address))


def update(attributes: bytes = b"", nlri: bytes = b"", withdrawn: bytes = b"") -> bytes:
    """An UPDATE of these octets, whatever they mean."""
    body = len(withdrawn).to_bytes(2, "big") + withdrawn + len(attributes).to_bytes(2, "big") + attributes + nlri
    return encode_message(UPDATE, body)


def nlri(prefix: str) -> bytes:
    """``198.51.100.0/24`` as on the wire."""
    host, _, length = prefix.partition("/")
    return bytes((int(length),)) + socket.inet_aton(host)[: (int(length) + 7) // 8]
