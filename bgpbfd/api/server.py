"""HTTP over Unix sockets and TCP: ``POST /`` is JSON-RPC 2.0, ``GET /healthz`` a short status, ``GET /metrics``.

No client can hold the daemon up: heads, bodies and answers have time limits, connections and bodies are bounded,
a batch lets the loop go after each of its calls. What a browser sends for some web page (it carries an Origin)
is refused, because a loopback port is open to those as well.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError

from bgpbfd.api.methods import METHODS, Context, Engine, LongList
from bgpbfd.api.rpc import dispatch_to_serializable
from bgpbfd.api.sockets import BACKLOG, Claim, ListenError, claim
from bgpbfd.lag import LagHistogram

log = logging.getLogger("bgpbfd.api")
_http_log = logging.getLogger("bgpbfd.api.http")

BODY_MAX = 16 * 1024 * 1024
BODY_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 60.0
"""How long a client may take to read its answer."""
IDLE_TIMEOUT_S = 15.0
"""How long a connection may be without a whole request head."""
STOP_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 256
BATCH_MAX = 1000

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
METHOD_NOT_FOUND = -32601

_BUSY_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\nConnection: close\r\n\r\n"
    b"too many connections\n"
)


def _is_ours(record: logging.LogRecord) -> bool:
    """False for what a client did wrong, which aiohttp logs as an error with its traceback: a line at info does."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        log.info("a request was not understood: %s", " ".join(error.message.split())[:100])
    elif isinstance(error, ConnectionError):
        log.info("a client hung up before its answer was whole")
    else:
        return True
    return False


_http_log.addFilter(_is_ours)


@dataclass(slots=True)
class _Listener:
    """A claimed socket that is served."""

    claim: Claim
    server: asyncio.Server

    def close(self) -> None:
        self.server.close()
        self.claim.remove_file()


class ApiServer:
    """``sockets``: any number of ``unix:PATH`` (with mode ``unix_mode``) and ``ADDR:PORT``, IPv6 in brackets."""

    def __init__(
        self,
        engine: Engine,
        sockets: list[str],
        unix_mode: int,
        *,
        metrics: bool = False,
        lags: Callable[[], Mapping[str, LagHistogram]] = dict,
        body_timeout_s: float = BODY_TIMEOUT_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self._context = Context(engine)
        self._wanted = list(dict.fromkeys(sockets))
        self._unix_mode = unix_mode
        self._metrics = metrics
        self._lags = lags
        self._body_timeout_s = body_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._listeners: dict[str, _Listener] = {}
        self._runner: web.AppRunner | None = None

    async def start(self, claims: dict[str, Claim] | None = None) -> None:
        """Listen on all sockets, or on none. Raises ListenError.

        ``claims``: the sockets where they were opened before; from now on they are the server's, to close as well.
        """
        app = web.Application(client_max_size=BODY_MAX)
        app.router.add_post("/", self._post)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._get_metrics)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_log,
            handle_signals=False,
            keepalive_timeout=self._idle_timeout_s,
            lingering_time=2.0,
            shutdown_timeout=STOP_TIMEOUT_S,
        )
        try:
            await self._runner.setup()
            for name, claimed in (claims or {}).items():
                self._listeners[name] = await self._serve(claimed)
            await self.reconfigure(self._wanted, self._unix_mode, metrics=self._metrics)
        except BaseException:
            await self.stop()
            for claimed in (claims or {}).values():  # those that were not yet served
                claimed.close()
            raise

    async def reconfigure(self, sockets: list[str], unix_mode: int, *, metrics: bool = False) -> None:
        """Change to these sockets; those that stay are not touched. On ListenError the old ones all stay."""
        wanted = list(dict.fromkeys(sockets))
        kept = {name for name, listener in self._listeners.items() if listener.claim.in_place()}
        claims = await claim([name for name in wanted if name not in kept], unix_mode)
        opened = {name: await self._serve(claimed) for name, claimed in claims.items()}
        if self._runner is None:  # stopped while they were being opened
            for listener in opened.values():
                listener.close()
            raise ListenError(", ".join(wanted), "the API has been stopped")
        for name in [name for name in self._listeners if name not in wanted or name in opened]:
            self._listeners.pop(name).close()
        for listener in self._listeners.values():
            if listener.claim.path is not None and unix_mode != self._unix_mode:
                os.chmod(listener.claim.path, unix_mode)
        self._listeners |= opened
        self._wanted = wanted
        self._unix_mode = unix_mode
        self._metrics = metrics

    async def stop(self) -> None:
        """Close every socket and connection, remove our files; answers under way get a second."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def addresses(self) -> list[str]:
        """What is listened on, as it was asked for, with the port that a port 0 became."""
        found = []
        for name, listener in self._listeners.items():
            if listener.claim.path is not None:
                found.append(name)
            else:
                host, port = listener.server.sockets[0].getsockname()[:2]
                found.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        return found

    # -- listening -----------------------------------------------------------------------------------------

    async def _serve(self, claimed: Claim) -> _Listener:
        loop = asyncio.get_running_loop()
        if claimed.path is not None:
            server = await loop.create_unix_server(self._protocol, sock=claimed.sock, backlog=BACKLOG)
        else:
            server = await loop.create_server(self._protocol, sock=claimed.sock, backlog=BACKLOG)
        return _Listener(claimed, server)

    def _protocol(self) -> asyncio.BaseProtocol:
        assert self._runner is not None
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= CONNECTIONS_MAX:
            return _Busy()
        return server()

    # -- requests ------------------------------------------------------------------------------------------

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        states = [peer.state for peer in self._context.engine.neighbors()]
        body = {"status": "ok", "neighbors": len(states), "established": states.count("established")}
        return await self._answer(request, 200, msgspec.json.encode(body))

    async def _get_metrics(self, request: web.Request) -> web.StreamResponse:
        if not self._metrics:
            return await self._answer(request, 404, _failure(INVALID_REQUEST, "metrics are off: set [api] metrics"))
        # Slow, and 5 MB: not before somebody asks, and then in a thread.
        await asyncio.to_thread(importlib.import_module, "bgpbfd.api.metrics")
        from bgpbfd.api.metrics import scrape

        kind, pieces = await scrape(self._context.engine, self._lags)
        return await self._answer(request, 200, *pieces, headers={"Content-Type": kind})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if "Origin" in request.headers:
            return await self._answer(request, 403, _failure(INVALID_REQUEST, "requests of web pages are refused"))
        try:
            async with asyncio.timeout(self._body_timeout_s):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            reason = f"the body is larger than {BODY_MAX} bytes"
            return await self._answer(request, 413, _failure(INVALID_REQUEST, reason))
        except TimeoutError:
            reason = f"the body did not arrive within {self._body_timeout_s:g} s"
            return await self._answer(request, 408, _failure(INVALID_REQUEST, reason))
        try:
            answer = await self._dispatch(body)
        except Exception:
            log.exception("a request failed")
            return await self._answer(request, 500, _failure(-32603, "the daemon's log has the details"))
        return await self._answer(request, 200 if answer else 204, *answer)

    async def _answer(
        self, request: web.Request, status: int, *pieces: bytes, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        """Send it, and drop a client that does not read it. JSON unless ``headers`` name another type."""
        response = web.StreamResponse(status=status, headers=headers)
        if pieces:
            if headers is None:
                response.content_type = "application/json"
            response.content_length = sum(map(len, pieces))
        if status >= 400:
            response.force_close()
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                await response.prepare(request)
                for piece in pieces:
                    await response.write(piece)
                await response.write_eof()
        except TimeoutError:
            log.info("a client did not read its answer within %g s", self._answer_timeout_s)
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _dispatch(self, body: bytes) -> list[bytes]:
        """The answer in pieces; none when every call was a notification."""
        try:
            calls = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return [_failure(PARSE_ERROR, str(error))]
        if not isinstance(calls, list):
            answer = await self._call(calls)
            return [] if answer is None else _pieces(answer)
        if not 1 <= len(calls) <= BATCH_MAX:
            return [_failure(INVALID_REQUEST, f"a batch has 1 to {BATCH_MAX} calls")]
        answers: list[bytes] = []
        async for answer in self._each(calls):
            answers += [b"," if answers else b"[", *_pieces(answer)]
        return [*answers, b"]"] if answers else []

    async def _each(self, calls: list[Any]) -> AsyncIterator[dict[str, Any]]:
        """In their order, one after the other: what follows an ``advertise_route`` sees it."""
        for call in calls:
            answer = await self._call(call)
            if answer is not None:
                yield answer
            await asyncio.sleep(0)

    async def _call(self, call: Any) -> dict[str, Any] | None:
        if not _well_formed(call):
            return _failure_object(INVALID_REQUEST, "not a JSON-RPC 2.0 call: jsonrpc, method, params, id")
        answer = await dispatch_to_serializable(
            "", METHODS, context=self._context, deserializer=lambda _: call, validator=_accept
        )
        if answer is None:
            return None
        assert isinstance(answer, dict)
        error = answer.get("error")
        if error is not None:
            _explain(error, call["method"])
        return answer


class _Busy(asyncio.Protocol):
    """Told at once instead of left waiting."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_BUSY_ANSWER)
        transport.close()


# -- JSON-RPC ----------------------------------------------------------------------------------------------

_MESSAGES = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid request",
    -32603: "Internal error",
}


def _well_formed(call: Any) -> bool:
    """JSON-RPC 2.0 §4."""
    return (
        isinstance(call, dict)
        and call.get("jsonrpc") == "2.0"
        and isinstance(call.get("method"), str)
        and isinstance(call.get("params", []), list | dict)
        and type(call.get("id")) in (str, int, float, type(None))
    )


def _pieces(answer: dict[str, Any]) -> list[bytes]:
    """An answer encoded, a long list in it not joined."""
    result = answer.get("result")
    if not isinstance(result, LongList):
        return [msgspec.json.encode(answer)]
    tail = msgspec.json.encode({"id": answer["id"], "jsonrpc": "2.0"})
    return [b'{"result":', *result.pieces, b"," + tail[1:]]


def _accept(request: Any) -> None:
    """Each call has been checked already; jsonrpcserver's own schema is slow and refuses batches as a whole."""


def _explain(error: dict[str, Any], name: str) -> None:
    """jsonrpcserver's own errors have bare text as data; ours all have a reason."""
    if error["code"] == METHOD_NOT_FOUND and not isinstance(error.get("data"), dict):
        error["data"] = {"reason": f"there is no method {name[:60]!r}"}
    elif error["code"] == INVALID_PARAMS and not isinstance(error.get("data"), dict):
        error["data"] = {"reason": str(error.get("data"))}


def _failure_object(code: int, reason: str) -> dict[str, Any]:
    error = {"code": code, "message": _MESSAGES[code], "data": {"reason": reason}}
    return {"jsonrpc": "2.0", "error": error, "id": None}


def _failure(code: int, reason: str) -> bytes:
    return msgspec.json.encode(_failure_object(code, reason))
