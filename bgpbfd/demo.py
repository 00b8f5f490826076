"""``bgpbfd demo``: a failover to look at, on loopback addresses, without root, file or network.

Two real daemons: the *announcer*, as a user runs it, and the *router* that it announces to. The router is made
silent (stopped, not ended: its sockets stay open, as those of a host whose path is cut), the announcer's BFD
notices, BGP is torn down, and all of it comes back when the router does. Every line printed is what the daemons
themselves said over their API.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil

ANNOUNCER = "127.0.0.1"
ROUTER = "127.0.0.2"
PREFIX = "203.0.113.53/32"
START_TIMEOUT_S = 20.0
FAILURE_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
SILENCE_S = 1.0  # how much longer the router stays away, for a person to see it

_CONFIG = """\
router_id = "{router_id}"
default_as = {local_as}
bgp_socket = "{local}:{port}"
api_socket = "unix:{api}"
poll_interval = 1
[log]
level = "info"
[bfd]
bind = ["{local}"]
[[peers]]
remote_ip = "{remote}"
remote_as = {remote_as}
local_ip = "{local}"
dest_port = {port}
passive = {passive}
hold_timer = 90
families = ["ipv4 unicast"]
description = "{description}"
bfd = {{ transmit_interval_ms = 50, receive_interval_ms = 50, detect_multiplier = 3 }}
"""
_ROUTE = f"""\
[[peers.static_routes]]
prefix = "{PREFIX}"
next_hop = "self"
communities = ["65010:53"]
"""


class DemoFailed(Exception):
    """A step did not happen; the text says which, and what was seen instead."""


class _Daemon:
    """One of the two daemons: its process, its files, its API."""

    def __init__(self, name: str, folder: Path, config: str) -> None:
        self.name = name
        self.api = folder / f"{name}.sock"
        self.log = folder / f"{name}.log"
        self._file = folder / f"{name}.toml"
        self._file.write_text(config)
        self._process: asyncio.subprocess.Process | None = None
        self._stopped = False

    async def start(self) -> None:
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bgpbfd", "run", str(self._file), stderr=log, start_new_session=True
            )

    async def call(self, method: str, **params: object) -> Any:
        """One JSON-RPC call; raises DemoFailed when the daemon ended or refuses."""
        assert self._process is not None
        if self._process.returncode is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise DemoFailed(f"the {self.name} ended by itself:\n{tail}")
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.api))) as session,
            session.post(
                "http://localhost/",
                json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
                timeout=aiohttp.ClientTimeout(total=5),
            ) as response,
        ):
            answer = await response.json()
        if "error" in answer:
            raise DemoFailed(f"{method} at the {self.name}: {answer['error']['message']}")
        return answer["result"]

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def silence(self) -> None:
        """Stop it with its BFD worker: it says nothing more, and nothing is closed."""
        self._stopped = True
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        self._stopped = False
        for process in self._processes():
            process.resume()

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        if self._stopped:
            self.resume()
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def demo(*, once: bool) -> int:
    """Run the show; exit code 0 only if every step of it happened."""
    try:
        return asyncio.run(_demo(once=once))
    except DemoFailed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1


async def _demo(*, once: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if sys.stdout.isatty():
        loop.add_signal_handler(signal.SIGHUP, _hung_up, stop)
    async with _daemons() as (announcer, router):
        show = asyncio.create_task(_show(announcer, router))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({show, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not show.done():
            show.cancel()
            _say("stopped before the show was over")
            return 130
        show.result()
        if not once:
            _say("It stays up. Try, in another terminal (Ctrl-C here ends it):")
            ctl = Path(sys.executable).with_name("bgpbfdctl")
            for verb in (
                "show neighbors",
                "show bfd",
                "show routes",
                "show events",
                f"advertise route 198.51.100.0/24 {ANNOUNCER}",
            ):
                print(f"  {ctl} --api unix:{announcer.api} {verb}", flush=True)
            print(f"  {ctl} --api unix:{router.api} show routes learned", flush=True)
            await stopping
        else:
            stopping.cancel()
    return 0


def _hung_up(stop: asyncio.Event) -> None:
    """SIGHUP: the terminal was closed, and nobody is left to end the show; or it was meant for the daemons."""
    if not sys.stdout.isatty():
        stop.set()


@contextlib.asynccontextmanager
async def _daemons() -> AsyncIterator[tuple[_Daemon, _Daemon]]:
    with tempfile.TemporaryDirectory(prefix="bgpbfd-demo-") as folder:
        port = _free_port()
        names = ("announcer", "router")
        both = tuple(_Daemon(name, Path(folder), _config(name, Path(folder), port)) for name in names)
        try:
            for daemon in both:
                await daemon.start()
            yield both[0], both[1]
        finally:
            await asyncio.gather(*(daemon.stop() for daemon in both))


def _config(name: str, folder: Path, port: int) -> str:
    """The configuration file of one of the two: the announcer dials, the router waits."""
    announces = name == "announcer"
    local, remote = (ANNOUNCER, ROUTER) if announces else (ROUTER, ANNOUNCER)
    return _CONFIG.format(
        router_id="192.0.2.10" if announces else "192.0.2.1",
        local_as=65010 if announces else 65001,
        remote_as=65001 if announces else 65010,
        local=local,
        remote=remote,
        port=port,
        api=folder / f"{name}.sock",
        passive="false" if announces else "true",
        description="router" if announces else "announcer",
    ) + (_ROUTE if announces else "")


def _free_port() -> int:
    """A TCP port free on both addresses right now."""
    for _ in range(50):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind((ANNOUNCER, 0))
            port = int(first.getsockname()[1])
            second = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                second.bind((ROUTER, port))
                return port
    raise DemoFailed(f"no TCP port is free on both {ANNOUNCER} and {ROUTER}")


async def _show(announcer: _Daemon, router: _Daemon) -> None:
    _say(f"announcer: AS 65010 at {ANNOUNCER}; router: AS 65001 at {ROUTER}; BFD 50 ms x 3")
    began = time.monotonic()
    for daemon in (announcer, router):
        await _until(f"the {daemon.name} to listen", functools.partial(_listens, daemon), START_TIMEOUT_S)
    await _until("BGP established", lambda: _peer_is(announcer, state="established"), START_TIMEOUT_S)
    _say(f"BGP is established, {time.monotonic() - began:.2f} s after the start")
    await _until("BFD up", lambda: _peer_is(announcer, bfd="up"), START_TIMEOUT_S)
    await _until("BFD up at the router", lambda: _peer_is(router, bfd="up"), START_TIMEOUT_S)
    _say("BFD is up at both ends")
    route = await _until("the prefix at the router", lambda: _learned(router), START_TIMEOUT_S)
    _say(f"the router has {route['prefix']} via {route['next_hop']}, communities {' '.join(route['communities'])}")

    since = await _last_event(announcer)
    _say("the router falls silent: nothing is closed, its packets just stop")
    router.silence()
    down = await _until("the teardown", lambda: _event(announcer, "bgp-down", since), FAILURE_TIMEOUT_S)
    facts = down["facts"]
    if facts.get("kind") != "bfd-down":
        raise DemoFailed(f"BGP went down for another reason: {down['text']}")
    _say(f"announcer: {down['text']}")
    _say(
        f"BGP was torn down (Cease 6/{facts['subcode']}) {facts['silence_to_cease_ms']:.1f} ms after the last BFD "
        f"packet; detection time {facts['detection_time_ms']:.0f} ms; hold timer would have taken 90 s"
    )
    if await _peer_is(announcer, state="established"):
        raise DemoFailed("BGP is established although the router is silent")

    await asyncio.sleep(SILENCE_S)
    back = time.monotonic()
    router.resume()
    _say("the router is back")
    await _until("BFD up again", lambda: _peer_is(announcer, bfd="up"), START_TIMEOUT_S)
    _say(f"BFD is up again after {time.monotonic() - back:.2f} s")
    await _until("BGP established again", lambda: _peer_is(announcer, state="established"), START_TIMEOUT_S)
    await _until(
        "the prefix at the router again", lambda: _learned(router, after=route["received_at"]), START_TIMEOUT_S
    )
    _say(f"BGP is established and the router has {PREFIX} again after {time.monotonic() - back:.2f} s")


async def _until(what: str, check: Callable[[], Awaitable[Any]], timeout_s: float) -> Any:
    """Ask until the answer is there; the daemons are asked over their API, as a user would."""
    deadline = time.monotonic() + timeout_s
    problem = ""
    while time.monotonic() < deadline:
        try:
            answer = await check()
        except (OSError, aiohttp.ClientError, TimeoutError) as error:  # not listening yet
            problem = f" ({error})"
        else:
            if answer:
                return answer
        await asyncio.sleep(0.02)
    raise DemoFailed(f"waited {timeout_s:.0f} s in vain for: {what}{problem}")


async def _listens(daemon: _Daemon) -> bool:
    """Whether BGP and BFD have their ports; DemoFailed when one is taken, by a daemon on all addresses for one."""
    events = await daemon.call("show_events", limit=1000)
    for event in events:
        if event["kind"] in {"listen-failed", "bfd-listen-failed"}:
            raise DemoFailed(f"the {daemon.name}: {event['text']}")
    return {"listening", "bfd-listening"} <= {event["kind"] for event in events}


async def _peer_is(daemon: _Daemon, **wanted: str) -> bool:
    peers = await daemon.call("show_peers")
    return bool(peers) and all(peers[0][field] == value for field, value in wanted.items())


async def _learned(router: _Daemon, after: float = 0.0) -> Any:
    """The prefix as the router has it, if it came ``after`` (Unix time)."""
    routes = await router.call("show_routes_learned")
    return next((r for r in routes if r["prefix"] == PREFIX and r["received_at"] > after), None)


async def _last_event(daemon: _Daemon) -> int:
    events = await daemon.call("show_events", limit=1)
    return int(events[-1]["number"]) if events else 0


async def _event(daemon: _Daemon, kind: str, since: int) -> Any:
    return next((e for e in await daemon.call("show_events", since=since, limit=1000) if e["kind"] == kind), None)


_BEGAN = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.2f} s] {text}", flush=True)
