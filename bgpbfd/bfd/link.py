"""The main process's end of the BFD worker: starts it, keeps it alive, and tells what it tells.

The link owns what is wanted (addresses, sessions, timers, admin state); the worker may die at any time and is given
all of it anew under new generations. Events of an earlier generation go no further than here, and the worker's death
is nobody's Down: a session that comes back starts with its first state change.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

import bgpbfd
from bgpbfd.bfd.protocol import (
    AcceptUnsolicited,
    Add,
    Bind,
    Bound,
    Change,
    Clear,
    Command,
    Event,
    Heartbeat,
    Late,
    Log,
    Query,
    Ready,
    Remove,
    Report,
    SessionFault,
    SessionReport,
    SetAdminDown,
    Settings,
    Shutdown,
    StateChange,
    Unsolicited,
)
from bgpbfd.lag import LagHistogram
from bgpbfd.wire.bfd import SINGLE_HOP_PORT

HEARTBEAT_S = 1.0
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 7.0  # above the worker's own limit for its AdminDown
QUERY_TIMEOUT_S = 2.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 5.0
STABLE_S = 10.0  # a worker that lived so long is restarted without delay
EVENT_MAX = 1 << 18
EVENTS_A_TURN = 64
_SIGNALS_HELD = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


@contextmanager
def _signals_held() -> Iterator[None]:
    """A child born in here starts with these signals blocked: no `pkill -HUP` kills it before it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS_HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class BfdLink:
    """Sessions by ``key``; all methods but the three coroutines return at once.

    ``on_event`` gets every event but Report, from the event loop, in order. ``port`` differs from 3784 only in the demo
    and tests. ``restarts`` counts the workers that died; ``discards`` are those of the last query that no session
    was found for, by reason; ``lag``, of the worker's loop, is of the last query as well.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None],
        *,
        port: int = SINGLE_HOP_PORT,
        control_timeout_s: float = 10.0,
    ) -> None:
        self._on_event = on_event
        self._control_timeout_us = int(control_timeout_s * 1_000_000)
        self._bind = Bind(addresses=[], port=port)
        self._unsolicited = AcceptUnsolicited(networks=[])
        self._sessions: dict[str, Add] = {}
        self._generation = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._outgoing: deque[bytes] = deque()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Event).decode
        self._supervisor: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._stopping = False
        self._request = 0
        self._queries: dict[int, tuple[asyncio.Future[list[SessionReport]], list[SessionReport]]] = {}
        self.restarts = 0
        self.discards: dict[str, int] = {}
        self.lag = LagHistogram()

    @property
    def pid(self) -> int | None:
        """The worker's process id, while one runs."""
        return None if self._process is None else self._process.pid

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the worker and wait for its first sign. OSError if it does not come up; nothing runs then."""
        self._supervisor = asyncio.create_task(self._supervise(), name="bfd-worker")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):  # wait_for may lose a cancellation (Python 3.11)
                await self._ready.wait()
        except TimeoutError:
            await self.stop()
            raise OSError("the BFD worker does not start") from None

    async def stop(self) -> None:
        """AdminDown on every session for one detection time, then the worker's end. May be called twice."""
        self._stopping = True
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        if self._sock is not None:
            self._tell(Shutdown())
            try:
                await asyncio.wait_for(self._ended.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                self._log("error", "the BFD worker did not stop in time and was killed")
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = 0.0
        while not self._stopping:
            started = loop.time()
            try:
                ended = await self._one_life(loop)
            except Exception as error:  # noqa: BLE001  no memory, process or thread for it: that may pass
                ended = f"cannot be run: {error}"
            if self._stopping:
                return
            self._log("error", f"the BFD worker {ended}; it is started again")
            self.restarts += 1
            lived_s = loop.time() - started
            backoff_s = 0.0 if lived_s >= STABLE_S else min(BACKOFF_MAX_S, max(BACKOFF_FIRST_S, 2 * backoff_s))
            if self.restarts > 1 and backoff_s:
                await asyncio.sleep(backoff_s)

    async def _one_life(self, loop: asyncio.AbstractEventLoop) -> str:
        """A worker from its start to its end; how it ended."""
        self._spawn(loop)
        try:
            await self._heartbeats()
        finally:
            status = await self._reap(loop)
        return f"died ({_status_text(status)})"

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        # The same code as ours, wherever it came from, and nothing of the working directory.
        root = str(Path(bgpbfd.__file__).resolve().parent.parent)
        path = os.pathsep.join([root, *(entry for entry in sys.path if entry)])
        command = [sys.executable, "-S", "-P", "-m", "bgpbfd.bfd.worker"]
        try:
            with theirs, _signals_held():
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno()), str(self._control_timeout_us)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONPATH": path},
                )
        except Exception:
            ours.close()
            raise
        self._sock = ours
        self._ended.clear()
        loop.add_reader(ours.fileno(), self._on_readable)
        self._tell(self._bind)
        self._tell(self._unsolicited)
        for key, add in self._sessions.items():
            self._sessions[key] = self._renewed(add)
            self._tell(self._sessions[key])

    async def _heartbeats(self) -> None:
        """Until the worker's end of the socket closes, which the reader notices at once."""
        while not self._ended.is_set():
            if not self._outgoing:  # what waits already will tell as much
                self._tell(Heartbeat())
            try:
                await asyncio.wait_for(self._ended.wait(), HEARTBEAT_S)
            except TimeoutError:
                continue

    async def _reap(self, loop: asyncio.AbstractEventLoop) -> int | None:
        """Its sockets are gone only with the process: wait for it, so that its successor finds the ports free."""
        self._close_socket(loop)
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            # Its end of the socket is closed: it is on its way out, or out of its mind.
            return await asyncio.shield(loop.run_in_executor(None, _wait, process, 1.0))
        except asyncio.CancelledError:
            process.kill()
            process.wait()
            raise

    def _close_socket(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._sock is not None:
            loop.remove_reader(self._sock.fileno())
            loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._outgoing.clear()
        for future, _ in self._queries.values():
            if not future.done():
                future.set_exception(ConnectionError("the BFD worker died"))
        self._queries.clear()

    # -- commands --------------------------------------------------------------------------------------------

    def bind(self, addresses: Iterable[str]) -> None:
        """The local addresses to listen on; replaces those in force. Answered by a Bound event for each."""
        self._bind = msgspec.structs.replace(self._bind, addresses=list(addresses))
        self._tell(self._bind)

    def accept_unsolicited(self, networks: Iterable[str], interface: str | None = None) -> None:
        """Whose packets without a session are told of by Unsolicited events; replaces the set in force."""
        self._unsolicited = AcceptUnsolicited(networks=list(networks), interface=interface)
        self._tell(self._unsolicited)

    def add(self, session: Add) -> int:
        """A session, or another under a key in use. Its ``generation`` is set here, and returned."""
        renewed = self._renewed(session)
        self._sessions[session.key] = renewed
        self._tell(renewed)
        return renewed.generation

    def change(self, key: str, settings: Settings) -> None:
        """New settings, without a flap. KeyError for a key without a session, as in all that follow."""
        add = self._sessions[key]
        self._sessions[key] = msgspec.structs.replace(add, settings=settings)
        self._tell(Change(key=key, generation=add.generation, settings=settings))

    def remove(self, key: str) -> None:
        """Nothing is heard of the session any more; the neighbor hears AdminDown for a detection time."""
        add = self._sessions.pop(key)
        self._tell(Remove(key=key, generation=add.generation))

    def set_admin_down(self, key: str, admin_down: bool) -> None:
        add = self._sessions[key]
        self._sessions[key] = msgspec.structs.replace(add, admin_down=admin_down)
        self._tell(SetAdminDown(key=key, generation=add.generation, admin_down=admin_down))

    def clear(self, key: str | None = None) -> None:
        """Zero the counters of one session, or of all and the discards."""
        if key is not None and key not in self._sessions:
            raise KeyError(key)
        self._tell(Clear(key=key))

    async def query(self, timeout_s: float = QUERY_TIMEOUT_S) -> list[SessionReport]:
        """All sessions as the worker has them. TimeoutError, or ConnectionError when the worker dies or is missing."""
        if self._sock is None:
            raise ConnectionError("the BFD worker is not running")
        self._request += 1
        request = self._request
        future: asyncio.Future[list[SessionReport]] = asyncio.get_running_loop().create_future()
        self._queries[request] = (future, [])
        self._tell(Query(request=request))
        try:
            return await asyncio.wait_for(future, timeout_s)
        finally:
            self._queries.pop(request, None)

    def _renewed(self, add: Add) -> Add:
        self._generation += 1
        return msgspec.structs.replace(add, generation=self._generation)

    def _tell(self, command: Command) -> None:
        """Without a worker nothing is sent: its successor gets the whole of it."""
        if self._sock is None:
            return
        self._outgoing.append(self._encode(command))
        if len(self._outgoing) == 1:
            self._flush()

    def _flush(self) -> None:
        sock = self._sock
        if sock is None:
            return
        loop = asyncio.get_running_loop()
        while self._outgoing:
            try:
                sock.send(self._outgoing[0])
            except BlockingIOError:
                loop.add_writer(sock.fileno(), self._flush)
                return
            except OSError:
                self._outgoing.clear()  # it died; the reader says so
                break
            self._outgoing.popleft()
        loop.remove_writer(sock.fileno())

    # -- events ----------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Take in what the worker has said by now, ahead of the loop: before work that can wait a little longer."""
        self._on_readable()

    def _on_readable(self) -> None:
        for _ in range(EVENTS_A_TURN):
            if self._sock is None:
                return
            try:
                data = self._sock.recv(EVENT_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                asyncio.get_running_loop().remove_reader(self._sock.fileno())
                self._ended.set()
                return
            try:
                event = self._decode(data)
            except msgspec.MsgspecError as error:
                self._log("error", f"an event of the BFD worker is not understood: {error}")
                continue
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Report():
                self._take_report(event)
            case StateChange() | SessionFault() | Late():
                add = self._sessions.get(event.key)
                if add is not None and add.generation == event.generation:
                    self._on_event(event)
            case Ready():
                self._ready.set()
                self._on_event(event)
            case Bound() | Log() | Unsolicited():
                self._on_event(event)

    def _take_report(self, report: Report) -> None:
        query = self._queries.get(report.request)
        if query is None:
            return  # its asker gave up
        future, sessions = query
        sessions.extend(report.sessions)
        if report.last and not future.done():
            self.discards = report.discards
            self.lag = report.lag or self.lag
            future.set_result(sessions)

    def _log(self, level: str, text: str) -> None:
        self._on_event(Log(level=level, text=text))


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _status_text(status: int | None) -> str:
    if status is None:
        return "unknown"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
