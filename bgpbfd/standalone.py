"""``bgpbfd bfd``: BFD sessions and nothing else, for people and scripts to look at: no BGP, no file, no root.

The sessions run in the same worker process as the daemon's; here is only what is told of them. Nothing that is written
may hold up the event loop, as the worker takes a main process without a pulse for a dead one: a thread writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bgpbfd.bfd.link import BfdLink
from bgpbfd.bfd.protocol import (
    Add,
    AuthKey,
    Bound,
    Event,
    Late,
    Log,
    Ready,
    Report,
    SessionFault,
    SessionReport,
    Settings,
    StateChange,
    Unsolicited,
)
from bgpbfd.core import MILLISECOND
from bgpbfd.io.driver import SystemClock
from bgpbfd.standalone_options import EXIT_FAILED, LEVELS, CannotStart, Host, Options

LINES_WAITING = 10_000
WRITER_TIMEOUT_S = 1.0
_HINTS = {
    errno.EADDRINUSE: "another BFD program has the port there",
    errno.EADDRNOTAVAIL: "it is no address of this host",
}


def bfd(options: Options) -> int:
    """Run until SIGINT or SIGTERM. Exit codes: 0 stopped cleanly, 1 could not start or standard output is gone."""
    # Blocked for good, in all threads to come and in the worker: `pkill -USR1 bgpbfd` reaches that one too.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # closed by whoever started this: no socket may take its number, and our lines
            os.open(os.devnull, os.O_RDWR)
    return asyncio.run(_Alone(options).run())


class Lines(Protocol):
    """A line without its end for each thing that is told. A session's key is its remote address as ``Host.text``."""

    def state(self, change: StateChange) -> str: ...

    def late(self, late: Late) -> str: ...

    def message(self, level: str, text: str) -> str: ...

    def table(self, reports: Sequence[SessionReport], discards: dict[str, int]) -> Iterable[str]:
        """``discards``: packets that no session was found for, by reason."""
        ...


class _Alone:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._clock = SystemClock()
        self._link = BfdLink(self._take)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._table_wanted = asyncio.Event()
        self._bind_errors: dict[str, str] = {}
        self._running = False
        self._writer = _Writer()
        self._broken = False
        self._on_terminal = os.isatty(1)
        self._say: Lines

    # -- life ------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        # Not taken for a reload, nor for an end: but a terminal that was closed leaves nobody to end this.
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        self._writer.start(lambda: loop.call_soon_threadsafe(self._output_lost))
        threading.Thread(target=_wait_for_usr1, args=(loop, self._table_wanted), daemon=True).start()
        starting = asyncio.create_task(self._link.start())
        await _turns(2)  # as far as the worker being spawned: it comes up while we import the rest
        from bgpbfd.standalone_lines import JsonLines, TextLines

        self._say = (JsonLines if self._options.json else TextLines)(self._clock, self._options.remotes)
        for warning in self._options.warnings:
            self._message("warning", warning)
        try:
            await self._start(starting)
        except CannotStart as error:
            for reason in error.reasons:
                self._message("error", f"cannot start: {reason}")
            await self._leave()
            self._writer.close()
            return EXIT_FAILED
        tables = asyncio.create_task(self._tables())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({tables, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if tables.done():
            tables.result()  # it ends only by a fault of ours
        tables.cancel()
        table = await self._table()  # as things are before the end
        await self._leave()
        self._show(table)
        self._writer.close()
        return EXIT_FAILED if self._broken else 0

    async def _start(self, starting: asyncio.Task[None]) -> None:
        """First the port, so that no neighbor hears of a program that has to end. Raises CannotStart."""
        options, link = self._options, self._link
        link.bind([options.bind])
        try:
            await starting
            await link.query()  # whatever became of the command before it has been told by now
            if not self._bind_errors:
                for host in options.remotes:
                    link.add(_session(options, host))
                await link.query()  # a port that only these sessions need
        except (OSError, TimeoutError) as error:  # ConnectionError is an OSError
            raise CannotStart(str(error) or "the BFD worker does not answer") from None
        if self._bind_errors:
            raise CannotStart(*(_cannot_listen(address, text) for address, text in self._bind_errors.items()))
        self._running = True
        whom = ", ".join(host.title for host in options.remotes)
        timers = f"tx {options.tx_interval_ms} ms, rx {options.rx_interval_ms} ms, multiplier {options.detect_mult}"
        self._message("info", f"{options.bind} watches {whom}: {timers}")

    async def _leave(self) -> None:
        """AdminDown for one detection time; a second signal is enough of that."""
        leaving = asyncio.create_task(self._link.stop())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({leaving, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (leaving, hurry):
            task.cancel()
        await asyncio.gather(leaving, hurry, return_exceptions=True)

    def _end(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _hung_up(self) -> None:
        if self._on_terminal and not os.isatty(1):
            self._stop.set()

    def _output_lost(self) -> None:
        """Nobody reads any more."""
        self._broken = True
        self._stop.set()

    # -- what is told ----------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case StateChange():
                self._writer.line(1, self._say.state(event))
            case Late():
                self._tell("warning", self._say.late(event))
            case SessionFault():
                text = "works again" if event.error is None else f"{event.error}; it is tried again every second"
                self._message("warning" if event.error else "info", f"{event.key}: {text}")
            case Bound():
                self._bound(event)
            case Log():
                self._message(event.level, event.text)
            case Ready():
                self._message("debug", f"the BFD worker is process {event.pid}")
            case Report() | Unsolicited():
                pass  # queried, and never asked for

    def _bound(self, event: Bound) -> None:
        if event.error is None:
            listens = "listens again on" if self._bind_errors.pop(event.address, None) else "listens on"
            self._message("debug" if listens == "listens on" else "info", f"{listens} {event.address}")
            return
        self._bind_errors[event.address] = event.error
        if self._running:
            self._message("error", f"{_cannot_listen(event.address, event.error)}; it is tried again every second")

    async def _tables(self) -> None:
        while True:
            await self._table_wanted.wait()
            self._table_wanted.clear()
            self._show(await self._table())

    async def _table(self) -> list[str]:
        """In lines; none if there is no answer, which has been told."""
        try:
            reports = await self._link.query()
        except (TimeoutError, ConnectionError):
            self._message("error", "the BFD worker does not answer: there is no table")
            return []
        return list(self._say.table(reports, self._link.discards))

    def _show(self, lines: list[str]) -> None:
        for line in lines:
            self._writer.line(1, line)

    def _message(self, level: str, text: str) -> None:
        self._tell(level, self._say.message(level, text))

    def _tell(self, level: str, line: str) -> None:
        if LEVELS.index(level) >= LEVELS.index(self._options.log_level):
            self._writer.line(1 if self._options.json else 2, line)


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def _session(options: Options, host: Host) -> Add:
    settings = Settings(
        desired_min_tx_us=options.tx_interval_ms * MILLISECOND,
        required_min_rx_us=options.rx_interval_ms * MILLISECOND,
        detect_mult=options.detect_mult,
        passive=options.passive,
        demand=options.demand,
        minimum_ttl=options.minimum_ttl,
        required_min_echo_rx_us=options.echo_ms * MILLISECOND,
        echo_tx_us=options.echo_ms * MILLISECOND,
        auth=tuple(AuthKey(type=key.type, key_id=key.key_id, key=key.octets) for key in options.keys),
    )
    return Add(
        key=host.text,
        generation=0,
        remote=host.address,
        local=options.local,
        interface=options.interface,
        multihop=options.multihop,
        settings=settings,
    )


def _cannot_listen(address: str, error: str) -> str:
    hints = [hint for number, hint in _HINTS.items() if os.strerror(number) in error]
    return ": ".join([f"cannot listen on {address}", error, *hints])


def _wait_for_usr1(loop: asyncio.AbstractEventLoop, wanted: asyncio.Event) -> None:
    while True:
        signal.sigwait({signal.SIGUSR1})
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(wanted.set)


class _Writer:
    """Lines to file descriptors, in order, by a thread; what comes while too many wait is counted."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[int, bytes] | None] = queue.Queue(LINES_WAITING)
        self._thread: threading.Thread | None = None
        self._on_lost: Callable[[], object] = lambda: None
        self._dropped = 0
        self._encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding

    def start(self, on_lost: Callable[[], object]) -> None:
        """``on_lost`` is called by the thread when standard output takes nothing more."""
        self._on_lost = on_lost
        self._thread = threading.Thread(target=self._write_all, name="writer", daemon=True)
        self._thread.start()

    def line(self, fd: int, text: str) -> None:
        try:
            if self._dropped:
                self._queue.put_nowait((2, f"bgpbfd bfd: {self._dropped} lines were lost\n".encode()))
                self._dropped = 0
            self._queue.put_nowait((fd, f"{text}\n".encode(self._encoding, "backslashreplace")))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Wait for what is to be written, if that is a matter of a moment."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread is not None:
            self._thread.join(WRITER_TIMEOUT_S)

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            fd, data = item
            try:
                while data:
                    data = data[os.write(fd, data) :]
            except OSError:
                if fd == 1:
                    with contextlib.suppress(RuntimeError):  # the loop has ended
                        self._on_lost()
                    return
