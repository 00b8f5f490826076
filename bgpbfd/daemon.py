"""The composition root: start, signals, reload, stop.

Everything is made here and handed to what needs it; nothing below knows of this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from bgpbfd import __version__, log
from bgpbfd.api.late import LateApi
from bgpbfd.api.late import Server as Api
from bgpbfd.api.sockets import ListenError
from bgpbfd.bfd.link import BfdLink
from bgpbfd.config.load import ConfigError, Fault, load
from bgpbfd.config.model import BfdProfile, Config
from bgpbfd.config.patch import Amended, Decoder, encode, encode_failure
from bgpbfd.control.engine import Engine
from bgpbfd.control.operations import Operations
from bgpbfd.control.reconcile import apply_config
from bgpbfd.control.recorder import Recorder
from bgpbfd.control.snapshot import Refused
from bgpbfd.core import SECOND
from bgpbfd.io import forked
from bgpbfd.io.driver import LoopTimers, SystemClock
from bgpbfd.io.hooks import Hooks
from bgpbfd.io.interfaces import SystemInterfaces
from bgpbfd.io.selector import LagSelector
from bgpbfd.io.tcp import TcpShell
from bgpbfd.lag import LagHistogram

_logger = logging.getLogger("bgpbfd.daemon")

EXIT_FAILED = 1
EXIT_CONFIG = 2
PROCESS_NAME = "bgpbfd"
NICE = -5  # below the BFD worker's -10
SHORTEST_MASKED = 6
CALM_LOOKS, CALM_LOOK_S = 25, 0.02
LOAD_TIMEOUT_S = 100.0  # below what bgpbfdctl waits for a reload


def run(path: Path) -> int:
    """Run until SIGTERM or SIGINT. Exit codes: 0 stopped cleanly, 1 could not start, 2 the configuration is refused."""
    _name_process()
    _go_ahead_of_others()
    # A SIGHUP that comes while the file is being read may mean a newer one: it is kept for the loop.
    hangups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    try:
        config = load(path)
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return EXIT_CONFIG
    log.configure(config.log.level, config.log.format)
    _hide_secrets(config)
    try:
        lag = LagHistogram()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(LagSelector(lag))) as runner:
            return runner.run(_Daemon(path, config, hangups, lag).run())
    finally:
        # The loop has given the signals back, and the rest is a matter of ms: none of them may spoil the exit code.
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        log.flush()


def _name_process() -> None:
    """Carry the name that ``pkill -HUP bgpbfd`` looks for, also when started by ``python -m bgpbfd``."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(PROCESS_NAME)


def _go_ahead_of_others() -> None:
    """What a BFD Down asks for must not wait behind what else keeps the host busy; without the right to it, it may."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


class _Daemon:
    def __init__(self, path: Path, config: Config, hangups: list[int], lag: LagHistogram) -> None:
        self._path = path
        self._config = config
        self._hangups = hangups
        self._lag = lag
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._exit_code = 0
        self._reload_wanted = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        if self._hangups:
            self._reload_wanted.set()
        loop.set_exception_handler(_loop_exception)

        clock = SystemClock()
        timers = LoopTimers(loop, clock)
        recorder = Recorder()
        recorder.subscribe(lambda event: log.record(event, clock.wall(event.at)))
        hooks = Hooks(loop, clock, recorder)
        hooks.configure(self._config.hooks)
        recorder.subscribe(hooks.heard)
        connections = TcpShell(loop, clock)
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
        connections.before_reads(link.hear)
        operations = Operations(engine, self._load)
        sockets, unix_mode = [str(address) for address in self._config.api_socket], self._config.api.unix_mode

        def make_api() -> Api:
            from bgpbfd.api.server import ApiServer

            return ApiServer(
                operations,
                sockets,
                unix_mode,
                metrics=self._config.api.metrics,
                lags=lambda: {"main": self._lag, "bfd": link.lag},
            )

        api = LateApi(make_api, sockets, unix_mode)
        operations.on_reload(lambda config: self._follow(config, api, hooks))

        recorder.add("start", f"bgpbfd {__version__} starts with {self._path}", clock.now())
        for warning in self._config.warnings:
            recorder.add("config-warning", warning, clock.now(), level="warning")
        uses_bfd = _uses_bfd(self._config)
        try:
            # Before any neighbor hears of us: a second daemon started by mistake must end here.
            await api.claim()
            if uses_bfd:  # no neighbor is to rely on a BFD that does not run; without it, BGP need not wait
                await link.start()
        except OSError as error:
            recorder.add("start-failed", f"cannot start: {error}", clock.now(), level="error")
            await api.stop()
            await link.stop()
            return EXIT_FAILED
        if not self._stop.is_set():
            apply_config(engine, self._config)
        follow_up = asyncio.create_task(self._follow_up(None if uses_bfd else link, api, engine, operations))

        await self._stop.wait()
        follow_up.cancel()
        recorder.add("stop", f"stopping: {self._stop_reason}", clock.now())
        try:
            engine.stop(f"bgpbfd is stopping ({self._stop_reason})")
        except Exception as error:  # noqa: BLE001  BFD's AdminDown and the socket files are still to be seen to
            recorder.add("stop-failed", f"while stopping: {error!r}", clock.now(), level="error")
        # A second signal ends the wait for what the network does not take any more.
        self._stop.clear()
        leaving = asyncio.create_task(_leave(connections, link))
        endings = {leaving, asyncio.create_task(api.stop()), asyncio.create_task(hooks.stop(leaving))}
        hurry = asyncio.create_task(self._stop.wait())
        waiting: set[asyncio.Task[None] | asyncio.Task[Literal[True]]] = {*endings, hurry}
        while not hurry.done() and not all(task.done() for task in endings):
            await asyncio.wait([task for task in waiting if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for outcome in await asyncio.gather(follow_up, *waiting, return_exceptions=True):
            if isinstance(outcome, Exception):
                recorder.add("stop-failed", f"while stopping: {outcome!r}", clock.now(), level="error")
        timers.cancel_all()
        recorder.add("stopped", f"stopped after {(clock.now() - operations.started_at) / SECOND:.0f} s", clock.now())
        return self._exit_code

    def _stop_signal(self, number: int) -> None:
        self._stop_reason = signal.Signals(number).name
        self._stop.set()

    async def _follow_up(self, link: BfdLink | None, api: LateApi, engine: Engine, operations: Operations) -> None:
        """The part of the start that BGP does not wait for, then the reloads. ``link``: where it is not yet started."""
        try:
            await _calm(engine)
            if link is not None:
                await link.start()
            await api.serve()
        except Exception as error:  # noqa: BLE001  an import that fails may raise anything
            if self._stop_reason:
                return  # the stop has closed what was being opened
            # Routes that nobody can drain or look at, and a BFD that a reload could ask for in vain, are no state to go
            # on in: the installation is broken, and a start that fails is seen where a line in the log would not be.
            engine.recorder.add("start-failed", f"cannot start: {error}", engine.clock.now(), level="error")
            self._stop_reason, self._exit_code = "the start failed", EXIT_FAILED
            self._stop.set()
            return
        # What is here now stays: no later collection has to walk it (100k static routes: a pause of tens of ms). Not
        # even this once: the start leaves some 2,000 objects to collect, and a pause for them would come amid sessions.
        gc.freeze()
        gc.enable()
        await self._reloads(operations)

    async def _reloads(self, operations: Operations) -> None:
        """SIGHUPs that come during a reload make one more, not many."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            with contextlib.suppress(Refused):  # the daemon is stopping
                await operations.reload()

    async def _load(self, old: Config) -> Amended:
        """In another process: reading a pipe or a dead mount may never end, and parsing holds the interpreter."""
        decoder = Decoder(old)
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S), forked.pieces(lambda: _read_anew(self._path, old)) as pieces:
                async for piece in pieces:
                    decoder.feed(piece)
                    await asyncio.sleep(0)  # the others' turn
        except TimeoutError:
            reason = f"cannot be read within {LOAD_TIMEOUT_S:.0f} s"
            raise ConfigError([Fault("", reason, str(self._path))]) from None
        except (OSError, forked.ForkedError) as error:
            raise ConfigError([Fault("", f"cannot be read: {error}", str(self._path))]) from None
        return decoder.finish()

    async def _follow(self, config: Config, api: LateApi, hooks: Hooks) -> None:
        try:
            await api.reconfigure(
                [str(address) for address in config.api_socket], config.api.unix_mode, metrics=config.api.metrics
            )
        except ListenError as error:
            raise Refused("api_socket", f"{error.name}: {error.reason}") from None
        log.configure(config.log.level, config.log.format)
        _hide_secrets(config)
        hooks.configure(config.hooks)


def _read_anew(path: Path, old: Config) -> Iterator[bytes]:
    """In the other process: what it raises goes across as well."""
    try:
        yield from encode(old, load(path))
    except Exception as error:  # noqa: BLE001  whoever waits for it hears of it
        yield encode_failure(error)


async def _calm(engine: Engine) -> None:
    """What takes a processor a third of a second is not begun while sessions come up, for as long as they may take."""
    for _ in range(CALM_LOOKS):
        if engine.at_rest:
            return
        await asyncio.sleep(CALM_LOOK_S)


def _uses_bfd(config: Config) -> bool:
    return bool(config.bfd.sessions or config.bfd.unsolicited or any(peer.bfd for peer in config.peers))


def _hide_secrets(config: Config) -> None:
    """Nothing logs them; should a text of the system's ever hold one, it is masked. Short ones would mask words."""
    secrets = {peer.md5_password.reveal() for peer in config.peers if peer.md5_password is not None}
    with_keys: list[BfdProfile | None] = [*config.bfd.profiles.values(), *config.bfd.sessions]
    with_keys += [peer.bfd for peer in config.peers]
    secrets |= {key.key.reveal() for entry in with_keys if entry is not None for key in entry.auth}
    log.hide(*(secret for secret in secrets if len(secret) >= SHORTEST_MASKED))


async def _leave(connections: TcpShell, link: BfdLink) -> None:
    """First the Ceases, as far as they are read, then BFD's AdminDown.

    Routers that take AdminDown for a failure (BIRD 2, FRR 8) would close BGP with another reason than ours.
    """
    try:
        await connections.stop()
    except asyncio.CancelledError:
        ending = asyncio.create_task(link.stop())
        await asyncio.sleep(0)  # as far as the worker being told
        ending.cancel()
        raise
    await link.stop()


def _loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of ours that no core caught: told in full, the daemon goes on."""
    _logger.error("%s", context.get("message", "fault in the event loop"), exc_info=context.get("exception"))
