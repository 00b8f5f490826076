"""The composition root: start, signals, reload, stop.

Everything is made here and handed to what needs it; nothing below knows of this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import sys
from pathlib import Path
from typing import Any, Literal

from bgpbfd import __version__, log
from bgpbfd.api.server import ApiServer
from bgpbfd.bfd.link import BfdLink
from bgpbfd.config.load import ConfigError, load
from bgpbfd.config.model import Config
from bgpbfd.control.engine import Engine
from bgpbfd.control.operations import Operations
from bgpbfd.control.reconcile import apply_config
from bgpbfd.control.recorder import Recorder
from bgpbfd.core import SECOND
from bgpbfd.io.driver import LoopTimers, SystemClock
from bgpbfd.io.interfaces import SystemInterfaces
from bgpbfd.io.tcp import TcpShell

_logger = logging.getLogger("bgpbfd.daemon")

EXIT_FAILED = 1
EXIT_CONFIG = 2
PROCESS_NAME = "bgpbfd"


def run(path: Path) -> int:
    """Run until SIGTERM or SIGINT. Exit codes: 0 stopped cleanly, 1 could not start, 2 the configuration is refused."""
    _name_process()
    try:
        config = load(path)
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return EXIT_CONFIG
    log.configure(config.log.level, config.log.format)
    try:
        return asyncio.run(_Daemon(path, config).run())
    finally:
        log.flush()


def _name_process() -> None:
    """Carry the name that ``pkill -HUP bgpbfd`` looks for, also when started by ``python -m bgpbfd``."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(PROCESS_NAME)


class _Daemon:
    def __init__(self, path: Path, config: Config) -> None:
        self._path = path
        self._config = config
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._reload_wanted = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        loop.set_exception_handler(_loop_exception)

        clock = SystemClock()
        timers = LoopTimers(loop, clock)
        recorder = Recorder()
        recorder.subscribe(lambda event: log.record(event, clock.wall(event.at)))
        connections = TcpShell(loop)
        link = BfdLink(lambda event: engine.bfd_event(event))  # noqa: PLW0108 - the engine is made after it
        engine: Engine = Engine(
            Config(router_id=self._config.router_id, default_as=self._config.default_as),
            clock=clock,
            timers=timers,
            connections=connections,
            bfd_control=link,
            interfaces=SystemInterfaces(),
            rng=random.Random(),
            recorder=recorder,
        )
        connections.sink = engine
        operations = Operations(engine, self._load)
        api = ApiServer(operations, [str(address) for address in self._config.api_socket], self._config.api.unix_mode)
        operations.on_reload(lambda config: self._follow(config, api))

        recorder.add("start", f"bgpbfd {__version__} starts with {self._path}", clock.now())
        for warning in self._config.warnings:
            recorder.add("config-warning", warning, clock.now(), level="warning")
        try:
            await link.start()
            # Before any neighbor hears of us: a second daemon started by mistake must end here.
            await api.start()
        except OSError as error:
            recorder.add("start-failed", f"cannot start: {error}", clock.now(), level="error")
            await link.stop()
            return EXIT_FAILED
        apply_config(engine, self._config)
        reloads = asyncio.create_task(self._reloads(operations))

        await self._stop.wait()
        reloads.cancel()
        recorder.add("stop", f"stopping: {self._stop_reason}", clock.now())
        engine.stop(f"bgpbfd is stopping ({self._stop_reason})")
        # A second signal ends the wait for what the network does not take any more.
        self._stop.clear()
        endings = {asyncio.create_task(part.stop()) for part in (connections, link, api)}
        hurry = asyncio.create_task(self._stop.wait())
        waiting: set[asyncio.Task[None] | asyncio.Task[Literal[True]]] = {*endings, hurry}
        while not hurry.done() and not all(task.done() for task in endings):
            await asyncio.wait([task for task in waiting if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for outcome in await asyncio.gather(reloads, *waiting, return_exceptions=True):
            if isinstance(outcome, Exception):
                recorder.add("stop-failed", f"while stopping: {outcome!r}", clock.now(), level="error")
        timers.cancel_all()
        recorder.add("stopped", f"stopped after {(clock.now() - operations.started_at) / SECOND:.0f} s", clock.now())
        return 0

    def _stop_signal(self, number: int) -> None:
        self._stop_reason = signal.Signals(number).name
        self._stop.set()

    async def _reloads(self, operations: Operations) -> None:
        """SIGHUPs that come during a reload make one more, not many."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            await operations.reload()

    async def _load(self) -> Config:
        return await asyncio.to_thread(load, self._path)

    async def _follow(self, config: Config, api: ApiServer) -> None:
        log.configure(config.log.level, config.log.format)
        await api.reconfigure([str(address) for address in config.api_socket], config.api.unix_mode)


def _loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of ours that no core caught: told in full, the daemon goes on."""
    _logger.error("%s", context.get("message", "fault in the event loop"), exc_info=context.get("exception"))
