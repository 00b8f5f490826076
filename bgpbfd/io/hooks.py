"""``[[hooks]]``: an operator's commands on what the recorder hears of, never in the way of a failover.

The recorder tells of an event when its actions are out. All that happens here then is that a run is put into a line;
it starts ``PACE_S`` later at the earliest, and no more than one in ``PACE_S``, so that a hundred neighbors that are
lost at once are all seen to first.

**Order.** Each hook and neighbor have a line of their own, and one run at a time: an Up never overtakes a Down.
**Bounds.** ``PROCESSES`` at once, of which one hook has ``PROCESSES_A_HOOK`` at most: one that hangs leaves room for
the others. A line is ``LINE_MAX`` long, or as long as ``WAITING_MAX`` runs over all lines allow; beyond that the oldest
one that tells of the same thing (BFD, BGP) as a later one is superseded: the last state is always told. Only at
``WAITING_LIMIT``, some thousands of neighbors times hooks, is an event lost. All of it is counted and told.
**What it gets** is text that neighbors may have had a hand in: without control characters, and bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bgpbfd.config.model import Hook
from bgpbfd.control.ports import Clock
from bgpbfd.control.recorder import Recorder
from bgpbfd.control.snapshot import RecordedEvent
from bgpbfd.core import PeerId
from bgpbfd.io import commands

_logger = logging.getLogger("bgpbfd.hook")

PACE_S = 0.01
PROCESSES = 8
PROCESSES_A_HOOK = 6
LINE_MAX = 16
WAITING_MAX = 256
WAITING_LIMIT = 16_384
STOP_S = 2.0  # for the runs of the last events
STOP_LAST_S = 0.5  # of which this is left for what the end of the last connection has told
REPEAT_S = 60.0
VALUE_CHARACTERS = 4096
ENVIRONMENT_OCTETS = 32_768  # of BGPBFD_ variables

_OWN_KINDS = "hook-"
_NOT_PASSED_ON = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "BGPBFD_")  # whose they are: not a hook's; or stale
_PASSED_ON = {b"BGPBFD_API"}
_LEFT_OUT = {"traceback", "message"}
_NAME = re.compile(r"[^A-Z0-9_]")

Fact = str | int | float | None


# -- what a hook is told -----------------------------------------------------------------------------------


def clean(text: str, limit: int = VALUE_CHARACTERS) -> str:
    """At most ``limit`` characters, the unprintable ones as their escapes: one line, and valid UTF-8."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _json_value(value: str | int | float) -> Fact:
    if isinstance(value, str):
        return clean(value)
    return value if isinstance(value, int) or math.isfinite(value) else None


def _variable_value(value: str | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(value) if isinstance(value, str) else str(value)


def told(event: RecordedEvent, at: float) -> tuple[dict[bytes, bytes], bytes]:
    """The event as BGPBFD_ variables and as one line of JSON; ``at``: its time in Unix seconds."""
    variables: dict[bytes, bytes] = {}
    octets = 0

    def put(name: str, value: str) -> bool:
        nonlocal octets
        key, text = b"BGPBFD_" + name.encode(), value.encode()
        if key in variables or key in _PASSED_ON or octets + len(key) + len(text) > ENVIRONMENT_OCTETS:
            return False
        octets += len(key) + len(text) + 2
        variables[key] = text
        return True

    put("EVENT", clean(event.kind))
    put("PEER", clean(event.peer or ""))
    put("TEXT", clean(event.text))
    put("LEVEL", clean(event.level))
    put("TIME", f"{at:.6f}")
    put("NUMBER", str(event.number))
    facts: dict[str, Fact] = {}
    for name, value in event.facts.items():
        if name not in _LEFT_OUT and put(_NAME.sub("_", name.upper())[:64], _variable_value(value)):
            facts[clean(name)] = _json_value(value)
    whole = {
        "event": clean(event.kind),
        "peer": None if event.peer is None else clean(event.peer),
        "text": clean(event.text),
        "level": clean(event.level),
        "at": round(at, 6),
        "number": event.number,
        "facts": facts,
    }
    return variables, json.dumps(whole, ensure_ascii=False).encode() + b"\n"


def _environment() -> dict[bytes, bytes]:
    """Ours, without what service managers mean for us alone."""
    own = tuple(name.encode() for name in _NOT_PASSED_ON)
    return {name: value for name, value in os.environb.items() if name in _PASSED_ON or not name.startswith(own)}


# -- lines -------------------------------------------------------------------------------------------------


def _subject(kind: str) -> str:
    """What an event tells the state of: the newest one of a subject makes the earlier ones old news."""
    return kind if kind == "bfd-late" else kind.partition("-")[0]


@dataclass(slots=True)
class _Run:
    event: RecordedEvent
    at: float  # Unix seconds


@dataclass(slots=True, eq=False)
class _Line:
    """Of one hook and neighbor."""

    waiting: deque[_Run] = field(default_factory=deque)
    running: bool = False
    ready: bool = False  # in the hook's ``ready``

    def supersede(self, newest: str) -> bool:
        """Take out the oldest run of a subject that a later one, or ``newest`` that is about to come, tells of too."""
        later = Counter(_subject(run.event.kind) for run in self.waiting)
        later[_subject(newest)] += 1
        for place, run in enumerate(self.waiting):
            if later[_subject(run.event.kind)] > 1:
                del self.waiting[place]
                return True
        return False


class _Hooked:
    """A hook of the configuration, with its lines."""

    def __init__(self, config: Hook) -> None:
        self.config = config
        self.lines: dict[PeerId | None, _Line] = {}
        self.ready: deque[PeerId | None] = deque()  # whose line has runs and none running, each once
        self.running = 0

    @property
    def name(self) -> str:
        """The command's first word only: the others may hold a token."""
        return clean(self.config.command[0], 200)

    def make_ready(self, peer: PeerId | None, line: _Line) -> None:
        if not line.running and not line.ready:
            line.ready = True
            self.ready.append(peer)

    def keep(self, wanted: Callable[[str], bool]) -> int:
        """Drop the waiting runs of other events; how many."""
        dropped = 0
        for peer, line in list(self.lines.items()):
            before = len(line.waiting)
            line.waiting = deque(run for run in line.waiting if wanted(run.event.kind))
            dropped += before - len(line.waiting)
            if not line.waiting and not line.running:
                del self.lines[peer]
        self.ready = deque(peer for peer in self.ready if peer in self.lines)
        return dropped


# -- telling -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Repeated:
    kind: str
    text: str
    peer: PeerId | None = None
    facts: dict[str, str | int | float] = field(default_factory=dict)
    more: int = 0


class _Teller:
    """Records the first of its like at once, and how many more there were once a minute."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, recorder: Recorder) -> None:
        self._loop = loop
        self._clock = clock
        self._recorder = recorder
        self._known: dict[str, _Repeated] = {}
        self._timer: asyncio.TimerHandle | None = None

    def tell(
        self, kind: str, text: str, peer: PeerId | None = None, facts: dict[str, str | int | float] | None = None
    ) -> None:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = _Repeated(kind, text, peer, facts or {})
            # Not here: this may be the recorder's own call, and its other listeners have not heard of that event yet.
            self._loop.call_soon(self._record, known, text)
        else:
            known.more += 1
            known.peer, known.facts = peer, facts or {}
        if self._timer is None:
            self._timer = self._loop.call_later(REPEAT_S, self._sum_up)

    def _record(self, what: _Repeated, text: str) -> None:
        self._recorder.add(what.kind, text, self._clock.now(), peer=what.peer, level="warning", facts=what.facts)

    def _sum_up(self) -> None:
        self._timer = None
        for text, known in list(self._known.items()):
            if known.more:
                self._record(known, f"{text} ({known.more} more times, this is the last)")
                known.more = 0
            else:
                del self._known[text]
        if self._known:
            self._timer = self._loop.call_later(REPEAT_S, self._sum_up)

    def close(self) -> None:
        """Tell what is counted."""
        if self._timer is not None:
            self._timer.cancel()
        self._sum_up()
        if self._timer is not None:
            self._timer.cancel()


# -- all of them -------------------------------------------------------------------------------------------


class Hooks:
    """Give ``heard`` to the recorder, and to ``configure`` what the configuration has, now and after each reload."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, recorder: Recorder) -> None:
        self._loop = loop
        self._clock = clock
        self._teller = _Teller(loop, clock, recorder)
        self._hooks: list[_Hooked] = []
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self.counters: Counter[str] = Counter()  # runs by what became of them: ended, failed, superseded, lost, dropped

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def running(self) -> int:
        return len(self._tasks)

    def configure(self, hooks: Sequence[Hook]) -> None:
        """Replace the hooks. What runs goes on; what waits for a hook, or an event, that is no more is dropped."""
        old, self._hooks = self._hooks, []
        dropped = 0
        for config in hooks:
            hooked = next((hooked for hooked in old if hooked.config.command == config.command), None)
            if hooked is None:
                hooked = _Hooked(config)
            else:  # its lines go on, in their order
                old.remove(hooked)
                hooked.config = config
                dropped += hooked.keep(lambda kind, on=config.on: kind in on)  # type: ignore[misc]
            self._hooks.append(hooked)
        dropped += sum(hooked.keep(lambda _: False) for hooked in old)
        self._drop(dropped, "are no longer configured")

    def _drop(self, count: int, why: str) -> None:
        if count:
            self._waiting -= count
            self.counters["dropped"] += count
            _logger.warning("%d waiting runs of hooks are dropped: they %s", count, why)
        self._see_whether_idle()

    def heard(self, event: RecordedEvent) -> None:
        """Put its runs into their lines. Returns at once, and never raises: it is called in the midst of things."""
        if self._stopped or event.kind.startswith(_OWN_KINDS):  # a hook's failure must not start a hook
            return
        try:
            for hooked in self._hooks:
                if event.kind in hooked.config.on:
                    self._put(hooked, event)
            self._arm()
        except Exception:
            _logger.exception("a hook's run could not be put into its line")

    def _put(self, hooked: _Hooked, event: RecordedEvent) -> None:
        line = hooked.lines.get(event.peer)
        if line is None:
            line = _Line()
        full = len(line.waiting) >= LINE_MAX or self._waiting >= WAITING_MAX
        if full and line.supersede(event.kind):
            self._waiting -= 1
            self.counters["superseded"] += 1
            text = f"hook {hooked.name} is too slow: a waiting run was superseded by a newer event"
            self._teller.tell("hook-superseded", text, event.peer, {"on": event.kind})
        if self._waiting >= WAITING_LIMIT:
            self.counters["lost"] += 1
            text = f"hook {hooked.name} is too slow: {WAITING_LIMIT} runs wait, an event was lost"
            self._teller.tell("hook-lost", text, event.peer, {"on": event.kind})
            return
        hooked.lines[event.peer] = line
        hooked.make_ready(event.peer, line)
        line.waiting.append(_Run(event, self._clock.wall(event.at)))
        self._waiting += 1
        self._idle.clear()

    # -- running ---------------------------------------------------------------------------------------------

    def _next(self) -> _Hooked | None:
        """The hook whose turn it is, if a run can start: who has the fewest of them."""
        if self._stopped or len(self._tasks) >= PROCESSES:
            return None
        able = [hooked for hooked in self._hooks if hooked.ready and hooked.running < PROCESSES_A_HOOK]
        return min(able, key=lambda hooked: hooked.running, default=None)

    def _arm(self) -> None:
        if self._timer is None and self._next() is not None:
            self._timer = self._loop.call_later(PACE_S, self._start)

    def _start(self) -> None:
        self._timer = None
        hooked = self._next()
        if hooked is None:
            return
        peer = hooked.ready.popleft()
        line = hooked.lines[peer]
        run = line.waiting.popleft()
        self._waiting -= 1
        line.running, line.ready = True, False
        hooked.running += 1
        task = self._loop.create_task(self._run(hooked, run), name=f"hook {hooked.name}")
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._over(task, hooked, peer, line))
        self._arm()

    def _over(self, task: asyncio.Task[None], hooked: _Hooked, peer: PeerId | None, line: _Line) -> None:
        self._tasks.discard(task)
        line.running = False
        hooked.running -= 1
        if line.waiting:
            hooked.make_ready(peer, line)
        else:
            hooked.lines.pop(peer, None)
        self._arm()
        self._see_whether_idle()

    def _see_whether_idle(self) -> None:
        if not self._waiting and not self._tasks:
            self._idle.set()

    async def _run(self, hooked: _Hooked, run: _Run) -> None:
        config, event = hooked.config, run.event
        facts: dict[str, str | int | float] = {"on": event.kind}
        began = self._loop.time()
        failure: str | None
        try:
            variables, line = told(event, run.at)
            environment = _environment() | variables
            outcome = await commands.run(config.command, environment, line, config.timeout)
            failure = outcome.failure
            if outcome.status is not None:
                facts["status"] = outcome.status
            if outcome.output:
                facts["output"] = clean(outcome.output.decode("utf-8", "replace").strip())
        except asyncio.CancelledError:
            self._failed(hooked, event, "the daemon stops, and did not wait for its end", facts)
            raise
        except Exception as error:
            _logger.exception("fault while running a hook")
            failure = f"internal error: {error!r}"
        if failure is not None:
            self._failed(hooked, event, failure, facts)
            return
        self.counters["ended"] += 1
        _logger.debug("hook %s on %s ended well after %.3f s", hooked.name, event.kind, self._loop.time() - began)

    def _failed(self, hooked: _Hooked, event: RecordedEvent, failure: str, facts: dict[str, str | int | float]) -> None:
        self.counters["failed"] += 1
        self._teller.tell("hook-failed", f"hook {hooked.name}: {clean(failure)}", event.peer, facts)

    # -- the end ---------------------------------------------------------------------------------------------

    async def stop(self, leaving: Awaitable[object]) -> None:
        """Let the runs of the last events end, then kill what is left; no event is heard of afterwards.

        They have ``STOP_S`` from now on, and ``STOP_LAST_S`` after ``leaving`` has ended, which may tell of more.
        Cancelled, it kills at once.
        """
        deadline = self._loop.time() + STOP_S
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait({asyncio.ensure_future(leaving)})
                async with asyncio.timeout_at(max(deadline, self._loop.time() + STOP_LAST_S)):
                    await self._idle.wait()
        finally:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()
            self._drop(sum(hooked.keep(lambda _: False) for hooked in self._hooks), "came too late before the stop")
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=2 * commands.KILL_S)
            await asyncio.sleep(0)  # what was told of is recorded in the loop's next turn
            self._teller.close()
