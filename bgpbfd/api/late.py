"""The API of a daemon that starts: its sockets first, its server when BGP is under way.

What serves the API takes longer to import (aiohttp: a third of a second) than all else that the daemon does until its
sessions are Established. Clients that connect meanwhile wait in the backlog, and are answered then.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import Protocol

from bgpbfd.api.sockets import Claim, claim
from bgpbfd.lean import without_openssl

SERVER_MODULE = "bgpbfd.api.server"
IMPORT_SWITCH_S = 0.000_5
"""A thread that imports keeps the loop waiting for so long whenever that comes back from the kernel (Python: 5 ms)."""


class Server(Protocol):
    """What is asked of an ApiServer: it is no name here before it is imported."""

    async def start(self, claims: dict[str, Claim] | None = None) -> None: ...

    async def reconfigure(self, sockets: list[str], unix_mode: int, *, metrics: bool = False) -> None: ...

    async def stop(self) -> None: ...


class LateApi:
    """``make`` is called once SERVER_MODULE has been imported; ``sockets`` and ``unix_mode`` as for ApiServer."""

    def __init__(self, make: Callable[[], Server], sockets: list[str], unix_mode: int) -> None:
        self._make = make
        self._sockets = sockets
        self._unix_mode = unix_mode
        self._claims: dict[str, Claim] = {}
        self._server: Server | None = None

    async def claim(self) -> None:
        """Listen on all sockets, or on none. Raises ListenError."""
        self._claims = await claim(self._sockets, self._unix_mode)

    async def serve(self) -> None:
        """Import the server and answer those who wait. Raises what the import does."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(IMPORT_SWITCH_S)
        try:
            await asyncio.to_thread(_import_server)
        finally:
            sys.setswitchinterval(interval)
        server = self._make()
        await server.start(self._claims)
        self._server = server

    async def reconfigure(self, sockets: list[str], unix_mode: int, *, metrics: bool = False) -> None:
        """See ApiServer; not before ``serve`` has returned."""
        assert self._server is not None
        await self._server.reconfigure(sockets, unix_mode, metrics=metrics)

    async def stop(self) -> None:
        """Close every socket and connection, remove our files; ``serve`` has returned, or has been cancelled."""
        if self._server is not None:
            await self._server.stop()
        else:
            for each in self._claims.values():
                each.close()


def _import_server() -> None:
    with without_openssl():
        importlib.import_module(SERVER_MODULE)
