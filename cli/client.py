"""JSON-RPC over HTTP to the daemon: one connection a call, on a Unix socket or TCP."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import stat
from collections.abc import Iterator
from typing import Any

DEFAULT_API = "unix:/run/bgpbfd/api.sock"
TIMEOUT_S = 10.0
RELOAD_TIMEOUT_S = 120.0
PAGE = 2000


class UsageFault(Exception):
    """What was typed makes no sense; the text says what would."""


class Unreachable(Exception):
    """No daemon answers; the text says what to do about it."""


class RpcError(Exception):
    """The daemon refused: JSON-RPC ``code``, ``message`` and ``data``."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @property
    def not_supported(self) -> bool:
        return self.code == -32601

    def text(self) -> str:
        """For people: the reasons with their paths, one a line."""
        data = self.data if isinstance(self.data, dict) else {}
        faults = data.get("faults") or [data]
        lines = []
        for fault in faults:
            reason = fault.get("reason") if isinstance(fault, dict) else None
            path = fault.get("path") if isinstance(fault, dict) else None
            if reason:
                lines.append(f"{path}: {reason}" if path else str(reason))
        if self.code not in (-32001, -32601):
            lines.insert(0, self.message)
        return "\n".join(lines) or self.message


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class Client:
    """``api``: ``unix:PATH``, a path, ``http://HOST:PORT`` or ``HOST:PORT``."""

    def __init__(self, api: str) -> None:
        self.api = api
        self.path: str | None = None
        self.secure = False
        self.host = self.prefix = ""
        if api.startswith(("unix:", "/")):
            self.path = api.removeprefix("unix:").removeprefix("//") or "/"
            if api.startswith("unix://") and not self.path.startswith("/"):
                self.path = "/" + self.path
            return
        scheme, separator, rest = api.rpartition("://")
        if separator and scheme not in ("http", "https"):
            raise UsageFault(f"--api {api}: unix:PATH or an http URL is needed")
        self.secure = scheme == "https"
        self.host, _, prefix = rest.partition("/")
        self.prefix = "/" + prefix
        if not self.host:
            raise UsageFault(f"--api {api!r}: unix:PATH or an http URL is needed")

    def call(self, method: str, timeout: float = TIMEOUT_S, **params: Any) -> Any:
        """The result. Raises RpcError and Unreachable."""
        named = {name: value for name, value in params.items() if value is not None}
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": named, "id": 1})
        status, answer = self._post(body, timeout)
        try:
            message = json.loads(answer)
            error = message.get("error")
            if error is not None:
                raise RpcError(int(error["code"]), str(error["message"]), error.get("data"))
            return message["result"]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise Unreachable(
                f"what answers at {self.api} is no bgpbfd API (HTTP status {status}): check --api and BGPBFD_API"
            ) from None

    def pages(self, method: str, key: str = "routes", **params: Any) -> Iterator[dict[str, Any]]:
        """What a method that pages has under ``key``, page after page."""
        cursor = None
        while True:
            page = self.call(method, limit=PAGE, cursor=cursor, **params)
            yield from page[key]
            cursor = page["cursor"]
            if cursor is None:
                return

    def _post(self, body: str, timeout: float) -> tuple[int, bytes]:
        connection = self._connection(timeout)
        try:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", self.prefix or "/", body.encode(), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self._advice(error, timeout)) from None
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.path is not None:
            return _UnixConnection(self.path, timeout)
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        try:
            return kind(self.host, timeout=timeout)
        except http.client.InvalidURL as error:
            raise UsageFault(f"--api {self.api}: {error}") from None

    def _advice(self, error: Exception, timeout: float) -> str:
        hint = "give its api_socket with --api or BGPBFD_API"
        if isinstance(error, TimeoutError):
            return f"{self.api} has not answered within {timeout:g} s: the daemon is stuck or overloaded"
        if isinstance(error, http.client.HTTPException):
            return f"what answers at {self.api} speaks no HTTP: {hint}"
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.EACCES, errno.EPERM):
            return f"permission denied on {self.api}{self._owner()}: use sudo, or join that group"
        if number == errno.ENOENT:
            return f"there is no {self.api}: is bgpbfd running? If it is, {hint}"
        if number == errno.ECONNREFUSED:
            if self.path is not None and not self._is_socket():
                return f"{self.api} is not a socket: {hint}"
            if self.path is not None:
                return f"nobody answers at {self.api}: bgpbfd has ended and left its socket; start it again"
            return f"nobody answers at {self.api}: is bgpbfd running? If it is, {hint}"
        return f"{self.api}: {getattr(error, 'strerror', None) or error}: {hint}"

    def _is_socket(self) -> bool:
        try:
            return stat.S_ISSOCK(os.stat(self.path or "").st_mode)
        except OSError:
            return True

    def _owner(self) -> str:
        """Who may: the socket file's group and mode."""
        try:
            import grp

            found = os.stat(self.path or "")
            return f" (group {grp.getgrgid(found.st_gid).gr_name}, mode {found.st_mode & 0o777:04o})"
        except (OSError, KeyError):
            return ""
