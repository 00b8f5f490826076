"""Connections that nobody takes: told why, where there is something to tell, and closed.

Whoever can connect can make them, so each costs little and there is a limit to how many are waited for.
"""

from __future__ import annotations

import asyncio
import socket

WAIT_S = 2.0  # how long the NOTIFICATION may take to be read
MAX_WAITING = 64
READ_OFF_MAX = 65_536  # octets of a stranger's that are read off; beyond that it may have its reset
_READ_SIZE = 16_384


class Refusals:
    """``len()`` of it is how many wait for their NOTIFICATION to be read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[socket.socket, tuple[asyncio.TimerHandle, int]] = {}  # and octets read off

    def __len__(self) -> int:
        return len(self._waiting)

    def refuse(self, sock: socket.socket, notification: bytes) -> None:
        """Close ``sock``, after ``notification`` where there is one.

        The peer has to read it before the connection is closed with data unread, which would be a reset (as in
        ``TcpShell.close``); who comes when too many wait may miss it. A new socket's buffer is empty: a NOTIFICATION
        goes out whole or not at all.
        """
        try:
            if notification:
                sock.send(notification)
                if len(self._waiting) < MAX_WAITING:
                    sock.shutdown(socket.SHUT_WR)
                    self._waiting[sock] = (self._loop.call_later(WAIT_S, self._end, sock), 0)
                    self._loop.add_reader(sock, self._read_off, sock)
                    return
        except OSError:  # it has gone already
            pass
        sock.close()

    def end(self) -> None:
        """Wait for nobody any more."""
        for sock in list(self._waiting):
            self._end(sock)

    def _read_off(self, sock: socket.socket) -> None:
        try:
            count = len(sock.recv(_READ_SIZE))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        timer, before = self._waiting[sock]
        if count and before + count < READ_OFF_MAX:
            self._waiting[sock] = (timer, before + count)
        else:
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        self._waiting.pop(sock)[0].cancel()
        self._loop.remove_reader(sock)
        sock.close()
