"""Log lines: their forms, their limits, and that they can harm nobody."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd import log
from bgpbfd.control.snapshot import RecordedEvent
from bgpbfd.log import Line, Log, RepeatLimit

AT = 1795297800.1239  # 2026-11-21T21:50:00Z and a bit


class Pipe:
    """A pipe in the place of standard error."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()

    def text(self) -> str:
        os.set_blocking(self.read_fd, False)
        data = b""
        while True:
            try:
                piece = os.read(self.read_fd, 65536)
            except BlockingIOError:
                return data.decode()
            if not piece:
                return data.decode()
            data += piece

    def lines(self) -> list[str]:
        return self.text().splitlines()

    def fill(self) -> None:
        os.set_blocking(self.write_fd, False)
        try:
            while True:
                os.write(self.write_fd, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(self.write_fd, True)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pair = Pipe()
    yield pair
    os.close(pair.read_fd)
    os.close(pair.write_fd)


@pytest.fixture
def daemon_log(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """The module's log, writing to a pipe."""
    fresh = Log(pipe.write_fd)
    monkeypatch.setattr(log, "_log", fresh)
    monkeypatch.setattr(log, "_handler", log._Handler(fresh))
    log.configure("info")
    yield pipe
    log.configure("info")  # parts back to inheriting
    log.close()
    logging.getLogger("bgpbfd").setLevel(logging.NOTSET)


def event(
    kind: str = "bgp-up",
    peer: str | None = "192.0.2.1",
    text: str = "established",
    level: str = "info",
    facts: dict[str, str | int | float] | None = None,
) -> RecordedEvent:
    return RecordedEvent(1, 42, kind, peer, text, level, facts or {})


# -- forms -------------------------------------------------------------------------------------------------


def test_text_line_of_an_event(daemon_log: Pipe) -> None:
    facts: dict[str, str | int | float] = {
        "old": "openconfirm",
        "new": "established",
        "hold_time_s": 180,
        "software": "BIRD 2",
    }
    log.record(event(facts=facts), AT)
    log.record(event("reload", None, "no changes"), AT)
    assert log.flush()
    assert daemon_log.lines() == [
        '2026-11-21T21:50:00.123Z INFO bgp 192.0.2.1 established hold_time_s=180 software="BIRD 2"',
        "2026-11-21T21:50:00.123Z INFO config no changes",
    ]


def test_json_line_of_an_event(daemon_log: Pipe) -> None:
    log.configure("info", "json")
    facts: dict[str, str | int | float] = {"old": "up", "new": "down", "reason": "path-loss"}
    facts |= {"detection_time_us": 150000, "level": "x", "f": 0.5}
    log.record(event("bfd-down", text="went down", level="warning", facts=facts), AT)
    assert log.flush()
    assert json.loads(daemon_log.text()) == {
        "time": "2026-11-21T21:50:00.123Z",
        "level": "warning",
        "part": "bfd",
        "peer": "192.0.2.1",
        "event": "bfd-down",
        "old": "up",
        "new": "down",
        "reason": "path-loss",
        "text": "went down",
        "detection_time_us": 150000,
        "fact_level": "x",
        "f": 0.5,
    }


def test_loggers_of_the_standard_library_feed_the_log(daemon_log: Pipe) -> None:
    extra = {"peer": "192.0.2.1", "event": "dial", "facts": {"port": 179}}
    logging.getLogger("bgpbfd.tcp").warning("refused %d times", 3, extra=extra)
    logging.getLogger("bgpbfd.tcp").debug("not at info")
    logging.getLogger("asyncio").error("never retrieved")
    logging.getLogger("aiohttp.access").info("a library's chatter")
    assert log.flush()
    lines = [line.split("Z ", 1)[1] for line in daemon_log.lines()]
    assert lines == ["WARNING tcp 192.0.2.1 refused 3 times port=179", "ERROR asyncio never retrieved"]


def test_traceback_lines_cannot_pass_for_entries(daemon_log: Pipe) -> None:
    try:
        raise RuntimeError("bad\n2026-11-21T21:50:00.123Z INFO bgp forged")
    except RuntimeError:
        logging.getLogger("bgpbfd.bgp").exception("broke")
    assert log.flush()
    first, *rest = daemon_log.lines()
    assert first.endswith("ERROR bgp broke")
    assert any("RuntimeError: bad" in line for line in rest)
    assert all(line.startswith("    ") for line in rest)


def test_levels_by_part_and_their_reload(daemon_log: Pipe) -> None:
    log.configure({"default": "warning", "bfd": "debug"})
    log.record(event("bgp-up", text="one"), AT)
    log.record(event("bfd-up", text="two", level="debug"), AT)
    log.configure("info")
    log.record(event("bgp-up", text="three"), AT)
    log.record(event("bfd-up", text="four", level="debug"), AT)
    assert log.flush()
    assert [line.rsplit(" ", 1)[1] for line in daemon_log.lines()] == ["two", "three"]


@pytest.mark.parametrize("level", ["loud", {"default": "info", "bfd": "INFO"}])
def test_bad_level_is_refused_with_what_would_be_right(daemon_log: Pipe, level: str | dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected debug, info, warning or error"):
        log.configure(level)
    with pytest.raises(ValueError, match="expected text or json"):
        log.configure("info", "xml")


def test_journal_priority_prefix(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(pipe.write_fd)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    sink = Log(pipe.write_fd)
    sink.configure("text")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        sink.put(Line(AT, level, "bgp", "x", trace="t" if level == logging.ERROR else None), "k")
    sink.flush()
    sink.configure("json")
    sink.put(Line(AT, logging.INFO, "bgp", "x"), "k")
    sink.flush()
    lines = pipe.lines()
    assert [line[:3] for line in lines[:-1]] == ["<7>", "<6>", "<4>", "<3>", "<3>", "<2>"]
    assert lines[-1].startswith("{")
    sink.close()


def test_no_prefix_when_the_journal_is_not_behind_this_descriptor(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("1:1", "nonsense", ""):
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        sink = Log(pipe.write_fd)
        sink.configure("text")
        sink.put(Line(AT, logging.INFO, "bgp", "x"), "k")
        sink.flush()
        sink.close()
    assert all(line.startswith("2026-") for line in pipe.lines())


# -- untrusted text and secrets ----------------------------------------------------------------------------


def test_control_characters_of_a_peer_are_escaped(daemon_log: Pipe) -> None:
    text = "shutdown: bye\n2026-11-21T21:50:00.123Z INFO bgp 192.0.2.1 established\x1b[2J\u2028\u202e\udc80\x9b"
    log.record(event(text=text, facts={"message\n": "a\nb"}), AT)
    assert log.flush()
    log.configure("info", "json")
    log.record(event(text=text, facts={"message\n": "a\nb"}), AT)
    assert log.flush()
    plain, packed = daemon_log.text().split("\n")[:2]
    assert "bye\\n2026" in plain
    assert "\\x1b[2J\\u2028\\u202e\\udc80\\x9b" in plain
    assert plain.endswith("message\\n=a\\nb")
    assert json.loads(packed)["message\\n"] == "a\\nb"


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20))
def test_any_text_gives_one_line(text: str, peer: str, fact: str) -> None:
    line = Line(AT, logging.INFO, "bgp", text, peer, "k", {"fact": fact, fact: 1})
    shown = log.as_text(line, log.sanitise)
    assert shown.endswith("\n")
    assert len(shown.splitlines()) == 1
    packed = log.as_json(line, log.sanitise)
    assert len(packed.splitlines()) == 1
    assert json.loads(packed)["level"] == "info"


def test_a_huge_text_is_cut(daemon_log: Pipe) -> None:
    log.record(event(text="x" * 100_000), AT)
    assert log.flush()
    assert len(daemon_log.text()) < 10_000


def test_secrets_are_masked_wherever_they_turn_up(daemon_log: Pipe) -> None:
    log.hide("hunter2", "tab\tkey'", "")
    secret = "tab\tkey'"
    log.record(event(text="md5 hunter2 differs", facts={"key": secret, "hunter2": "1"}), AT)
    logging.getLogger("bgpbfd.bgp").warning("config %r", {"md5_password": "hunter2", "key": secret})
    try:
        raise ValueError(secret + "hunter2")
    except ValueError:
        logging.getLogger("bgpbfd.bgp").exception("broke")
    log.configure("info", "json")
    log.record(event(text="md5 hunter2 differs", facts={"key": secret}), AT)
    assert log.flush()
    text = daemon_log.text()
    assert "hunter2" not in text
    assert "tab" not in text.replace("tab\\tkey' + ", "")  # not even escaped
    assert "md5 *** differs" in text


# -- repeats -----------------------------------------------------------------------------------------------


def line(text: str, peer: str | None = "192.0.2.1") -> Line:
    return Line(AT, logging.INFO, "bgp", text, peer, "bgp-down")


def test_repeats_of_one_key_are_counted_and_summed_up() -> None:
    limit = RepeatLimit()
    admitted = [limit.admit(line(str(n)), "bgp-down", 100.0)[0] for n in range(25)]
    assert admitted == [True] * log.REPEAT_BURST + [False] * (25 - log.REPEAT_BURST)
    assert limit.pending == 1
    assert limit.expire(100.0 + log.REPEAT_WINDOW_S - 0.1) == []
    (summary,) = limit.expire(100.0 + log.REPEAT_WINDOW_S)
    assert summary.text == "repeated 15 times within 10 s, the last: 24"
    assert summary.facts["repeated"] == 15
    assert limit.pending == 0
    assert limit.admit(line("later"), "bgp-down", 111.0) == (True, [])


def test_a_line_after_the_window_brings_the_summary_before_it() -> None:
    limit = RepeatLimit()
    for n in range(log.REPEAT_BURST + 1):
        limit.admit(line(str(n)), "k", 0.0)
    admitted, due = limit.admit(line("new", peer=None), "k", 60.0)
    assert admitted
    assert [one.text for one in due] == ["repeated 1 times within 10 s, the last: 10"]


def test_other_peers_and_kinds_have_limits_of_their_own() -> None:
    limit = RepeatLimit()
    for n in range(100):
        limit.admit(line(str(n)), "k", 0.0)
    assert limit.admit(line("x", peer="192.0.2.2"), "k", 0.0)[0]
    assert limit.admit(line("x"), "other", 0.0)[0]


def test_the_limiter_itself_is_bounded() -> None:
    limit = RepeatLimit()
    for n in range(log.MAX_KEYS * 2):
        limit.admit(line("x", peer=str(n)), "k", 0.0)
    assert len(limit._keys) <= log.MAX_KEYS


def test_the_summary_comes_without_a_further_line(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "REPEAT_WINDOW_S", 0.05)
    sink = Log(pipe.write_fd)
    sink.configure("text")
    for n in range(log.REPEAT_BURST + 5):
        sink.put(line(str(n)), "k")
    deadline = time.monotonic() + 5
    seen = ""
    while "repeated 5 times" not in seen and time.monotonic() < deadline:
        time.sleep(0.02)
        seen += pipe.text()
    assert "repeated 5 times" in seen
    assert sink.counters.suppressed == 5
    sink.close()


# -- a stuck or broken standard error ----------------------------------------------------------------------


def test_stuck_standard_error_costs_lines_and_no_time(pipe: Pipe) -> None:
    pipe.fill()
    sink = Log(pipe.write_fd, capacity=50)
    sink.configure("text")
    before = time.monotonic()
    for n in range(2000):
        sink.put(line(str(n), peer=str(n)), "k")
    assert time.monotonic() - before < 1.0
    assert sink.counters.dropped >= 2000 - 50 - 1
    assert not sink.flush(0.05)
    # it moves again: what was queued comes out, and the loss is told
    read = ""
    while not sink.flush(0.05):
        read += pipe.text()
    sink.put(line("after"), "k")
    sink.flush()
    read += pipe.text()
    told = [int(count) for count in re.findall(r"WARNING log (\d+) lines lost", read)]
    assert sum(told) == sink.counters.dropped
    assert read.rstrip().endswith("after")
    sink.close()


def test_close_does_not_wait_for_a_stuck_standard_error(pipe: Pipe) -> None:
    pipe.fill()
    sink = Log(pipe.write_fd)
    sink.configure("text")
    sink.put(line("x"), "k")
    thread = sink._thread
    assert thread is not None
    before = time.monotonic()
    sink.close(0.05)
    assert time.monotonic() - before < 1.0
    while thread.is_alive():
        pipe.text()
        thread.join(0.01)


def test_non_blocking_standard_error_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_fd, False)
    sink = Log(pipe.write_fd)
    sink.configure("text")
    for n in range(3000):
        sink.put(line("y" * 100, peer=str(n)), "k")
    read = ""
    while not sink.flush(0.05):
        read += pipe.text()
    read += pipe.text()
    assert len(read.splitlines()) == 3000
    assert sink.counters.dropped == 0
    sink.close()


def test_closed_standard_error_is_counted() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    sink = Log(write_fd)
    sink.configure("text")
    sink.put(line("x"), "k")
    assert sink.flush()
    assert sink.counters.failed == 1
    sink.close()
    os.close(write_fd)


def test_close_writes_what_is_left_with_the_summaries(pipe: Pipe) -> None:
    sink = Log(pipe.write_fd)
    sink.configure("text")
    for n in range(log.REPEAT_BURST + 3):
        sink.put(line(str(n)), "k")
    sink.close()
    assert "repeated 3 times" in pipe.lines()[-1]


# -- nothing comes out of it but lines ---------------------------------------------------------------------


@dataclass
class Broken:
    kind: object = "bgp-up"
    peer: object = None
    text: object = None
    level: object = ()
    facts: object = None


def test_nothing_raises(daemon_log: Pipe) -> None:
    log.record(Broken())  # type: ignore[arg-type]
    log.record(Broken(kind=7, level="info"))  # type: ignore[arg-type]
    log.record(event(), float("nan"))
    log.record(event(facts={"rate": float("nan")}), AT)
    handler = log._handler
    handler.handle(logging.LogRecord("bgpbfd.bgp", logging.WARNING, "x.py", 1, "%d", ("no number",), None))
    logging.getLogger("bgpbfd.bgp").warning("plain", extra={"facts": 7})
    assert log.flush()
    lines = daemon_log.lines()
    assert any("rate=nan" in line for line in lines)
    assert any("plain" in line for line in lines)
    assert log.counters().failed >= 3


def test_lines_from_many_threads_are_whole(daemon_log: Pipe) -> None:
    def work(number: int) -> None:
        for n in range(log.REPEAT_BURST):
            log.record(event(peer=str(number), text=f"t{n}"), AT)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.flush()
    lines = daemon_log.lines()
    assert len(lines) == 8 * log.REPEAT_BURST
    assert all(line.startswith("2026-11-21T21:50:00.123Z INFO bgp ") for line in lines)
