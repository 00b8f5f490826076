"""The API's listening sockets, before anything is served on them: ``unix:PATH`` and ``ADDR:PORT``.

Only the standard library is needed here. The daemon claims its sockets with this at its start, before any neighbor
hears of it, and imports what serves them (aiohttp: a third of a second) when BGP is under way. Whoever connects
meanwhile waits in the backlog.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass

BACKLOG = 128
UNIX_PATH_MAX = 107


class ListenError(OSError):
    """An API socket cannot be opened; the text names it and says what to do."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"api_socket {name}: {reason}")
        self.name = name
        self.reason = reason


@dataclass(slots=True)
class Claim:
    """A listening socket; ``path`` and ``inode`` say which file is ours to remove."""

    sock: socket.socket
    path: str | None = None
    inode: tuple[int, int] | None = None

    def in_place(self) -> bool:
        """A TCP socket always is; a Unix socket's file may have been removed or replaced by others."""
        if self.path is None:
            return True
        try:
            return _inode(self.path) == self.inode
        except OSError:
            return False

    def close(self) -> None:
        self.sock.close()
        self.remove_file()

    def remove_file(self) -> None:
        if self.path is not None and self.in_place():
            with contextlib.suppress(OSError):
                os.unlink(self.path)


async def claim(names: Iterable[str], unix_mode: int) -> dict[str, Claim]:
    """Listen on all of them, or on none; by name. Raises ListenError."""
    claims: dict[str, Claim] = {}
    try:
        for name in dict.fromkeys(names):
            # In a thread: whoever has a Unix socket may take its time to answer.
            claims[name] = await asyncio.to_thread(_unix_claim, name, unix_mode) if _is_unix(name) else _tcp_claim(name)
    except BaseException:
        for each in claims.values():
            each.close()
        raise
    return claims


def _is_unix(name: str) -> bool:
    return name.startswith("unix:")


def _tcp_claim(name: str) -> Claim:
    return Claim(_tcp_socket(name))


def _unix_claim(name: str, mode: int) -> Claim:
    path = name.removeprefix("unix:")
    sock = _unix_socket(name, path, mode)
    return Claim(sock, path, _inode(path))


def _tcp_socket(name: str) -> socket.socket:
    host, _, port = name.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port)
    except ValueError:
        raise ListenError(name, "unix:PATH or ADDR:PORT is needed, an IPv6 address in brackets") from None
    if not 0 <= number <= 65535:
        raise ListenError(name, "a port is 0 to 65535")
    if not address.is_loopback:
        raise ListenError(name, "an address beyond loopback needs a token, which is not supported yet")
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    return _opened(name, sock, functools.partial(_bind_tcp, sock, str(address), number))


def _bind_tcp(sock: socket.socket, host: str, port: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)  # at once: two that are bound and do not listen may share the port


def _unix_socket(name: str, path: str, mode: int) -> socket.socket:
    """A listening socket that has its permissions before it can be found under its name."""
    if not path.startswith("/"):
        path = os.path.abspath(path)
    scratch = f"{path}.{os.getpid()}"
    if len(os.fsencode(scratch)) > UNIX_PATH_MAX:
        raise ListenError(name, f"the path is longer than a Unix socket's can be ({UNIX_PATH_MAX - 8} bytes)")
    _make_way(name, path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return _opened(name, sock, functools.partial(_bind_unix, sock, path, scratch, mode))


def _bind_unix(sock: socket.socket, path: str, scratch: str, mode: int) -> None:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.mkdir(folder, 0o755)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(scratch)
    try:
        sock.bind(scratch)
        os.chmod(scratch, mode)
        sock.listen(BACKLOG)
        os.rename(scratch, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise


def _inode(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _make_way(name: str, path: str) -> None:
    """Only what a daemon that is gone has left behind may be replaced."""
    try:
        found = os.lstat(path)
    except OSError:
        return  # nothing there; or bind will say what is wrong with the folder
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(name, "a file that is not a socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise ListenError(name, f"a socket is in the way: {error.strerror or error}") from None
    raise ListenError(name, "another process answers there: stop it, or set another api_socket")


def _opened(name: str, sock: socket.socket, bind: Callable[[], None]) -> socket.socket:
    try:
        sock.setblocking(False)
        bind()
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = "the port is taken by another process"
        raise ListenError(name, reason) from None
    return sock
