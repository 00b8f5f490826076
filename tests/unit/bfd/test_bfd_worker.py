"""The real worker process behind its link, on loopback addresses of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bfd_ends import FAST, MS, A, B, C, End, free_port, pair, started, until

from bgpbfd.bfd.protocol import Add, Bound, Log, SessionFault, SessionReport, Settings
from bgpbfd.core import SECOND
from bgpbfd.wire.bfd import ControlPacket, pull_control, push_control
from bgpbfd.wire.iana import BfdState


async def test_up_and_what_the_report_says() -> None:
    async with pair() as (a, b):
        await asyncio.sleep(0.4)
        ours, theirs = await a.report(), await b.report()
        assert (ours.state, ours.remote_state, ours.local, ours.remote) == ("up", "up", A, B)
        assert (ours.local_discriminator, ours.remote_discriminator) == (
            theirs.remote_discriminator,
            theirs.local_discriminator,
        )
        assert ours.local_discriminator != 0
        assert 49152 <= ours.source_port <= 65535  # RFC 5881 §4
        assert (ours.detection_time_us, ours.transmit_interval_us, ours.polling) == (150 * MS, 50 * MS, False)
        assert ours.packets_received >= 6
        assert ours.up_count == 1
        assert ours.last_rx is not None
        assert time.monotonic_ns() // 1000 - ours.last_rx < 120 * MS
        assert a.falls() == b.falls() == []


async def test_ipv6_loopback_up() -> None:
    port = free_port()
    a = End(port, "::1")
    a.add("::1")
    async with started(a):
        await asyncio.sleep(0.3)
        # A session with itself: its own packets come back with its own discriminator; sockets and hop limit work.
        report = await a.report()
        assert report.packets_received > 0
        assert a.link.discards == {}


async def test_rfc5881_packets_on_the_wire() -> None:
    """§4 ports, §5 TTL 255; CS6; constant source port; 24 bytes."""
    port = free_port()
    a = End(port, A)
    a.add(C)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.bind((C, port))
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        raw.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
        async with started(a):
            await asyncio.sleep(2.2)
        sources, ancillaries, packets = set(), set(), []
        while True:
            try:
                data, ancillary, _, source = raw.recvmsg(200, 200)
            except BlockingIOError:
                break
            sources.add(source)
            ancillaries.add(tuple((kind, int.from_bytes(v, sys.byteorder)) for _, kind, v in ancillary))
            packets.append(pull_control(data))
    assert len(sources) == 1
    [(address, source_port)] = sources
    assert address == A
    assert 49152 <= source_port <= 65535
    assert ancillaries == {((2, 255), (1, 0xC0))}
    assert 2 <= len(packets) <= 5
    assert all(isinstance(p, ControlPacket) for p in packets)
    [last] = packets[-1:]
    assert isinstance(last, ControlPacket)
    assert (last.state, last.diag) == (BfdState.ADMIN_DOWN, 7)  # §6.8.16, at the clean stop


async def test_timer_change_by_poll_without_a_flap() -> None:
    async with pair() as (a, b):
        await asyncio.sleep(0.3)
        a.link.change(B, Settings(desired_min_tx_us=200 * MS, required_min_rx_us=30 * MS, detect_mult=4))
        await asyncio.sleep(0.5)
        ours, theirs = await a.report(), await b.report()
        assert (ours.desired_min_tx_us, ours.transmit_interval_us, ours.polling) == (200 * MS, 200 * MS, False)
        assert (theirs.detection_time_us, theirs.remote_detect_mult) == (800 * MS, 4)
        assert ours.detection_time_us == 150 * MS
        a.link.change(B, FAST)
        await asyncio.sleep(0.6)
        assert (await b.report()).detection_time_us == 150 * MS
        assert a.falls() == b.falls() == []


async def test_silence_is_seen_within_the_detection_time() -> None:
    async with pair() as (a, b):
        await asyncio.sleep(0.3)
        assert b.link.pid is not None
        os.kill(b.link.pid, signal.SIGSTOP)
        try:
            await until(lambda: a.falls() != [], 1.0)
        finally:
            os.kill(b.link.pid, signal.SIGCONT)
        [down] = a.falls()
        assert (down.new, down.diag, down.blame) == ("down", 1, "path-loss")
        assert down.last_rx is not None
        assert down.previous_rx is not None
        assert 0 <= down.at - (down.last_rx + down.detection_time_us) <= 10 * MS
        await until(lambda: b.falls() != [])
        # Whoever was stopped knows that it was its own fault.
        assert b.falls()[0].blame == "local-stall"
        await until(lambda: a.state == b.state == "up")


async def test_fault_4_stop_of_the_worker_below_the_detection_time_is_no_flap() -> None:
    async with pair() as (a, b):
        await asyncio.sleep(0.2)
        assert a.link.pid is not None
        for _ in range(5):
            os.kill(a.link.pid, signal.SIGSTOP)
            await asyncio.sleep(0.09)
            os.kill(a.link.pid, signal.SIGCONT)
            await asyncio.sleep(0.12)
        assert a.falls() == b.falls() == []


async def test_fault_4_own_stall_longer_than_the_detection_time_blames_nobody_whose_packets_came() -> None:
    """The remote expects us rarely (400 ms × 3) and sends often: our stall is not its silence."""
    port = free_port()
    a, b = End(port, A), End(port, B)
    a.add(B, Settings(desired_min_tx_us=400 * MS, required_min_rx_us=50 * MS, detect_mult=3))
    b.add(A, Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS, detect_mult=3))
    async with started(a, b):
        await until(lambda: a.state == b.state == "up")
        await asyncio.sleep(0.5)
        assert (await a.report()).detection_time_us == 150 * MS
        assert a.link.pid is not None
        os.kill(a.link.pid, signal.SIGSTOP)
        await asyncio.sleep(0.6)
        os.kill(a.link.pid, signal.SIGCONT)
        await asyncio.sleep(0.5)
        assert a.falls() == b.falls() == []


async def test_worker_death_restarts_it_and_blames_no_neighbor() -> None:
    async with pair() as (a, b):
        generation = a.changes[-1].generation
        first = a.link.pid
        assert first is not None
        a.events.clear()
        os.kill(first, signal.SIGKILL)
        took_s = await until(lambda: a.state == "up")
        assert took_s < 1.5
        assert a.link.pid != first
        assert a.link.restarts == 1
        assert a.falls() == []
        assert {c.generation for c in a.changes} == {generation + 1}
        assert any(isinstance(e, Log) and "signal 9" in e.text for e in a.events)
        await until(lambda: b.state == "up")


async def test_worker_that_dies_again_and_again_is_restarted_with_delay() -> None:
    async with pair() as (a, _):
        for count in range(1, 3):
            await until(lambda: a.link.pid is not None)
            pid = a.link.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda count=count: a.link.restarts >= count)  # type: ignore[misc]
        a.events.clear()
        await until(lambda: a.state == "up")


async def test_end_of_the_main_process_signals_down_at_once() -> None:
    port = free_port()
    a = End(port, A)
    a.add(B)
    script = f"""
import asyncio
from bgpbfd.bfd.link import BfdLink
from bgpbfd.bfd.protocol import Add, Settings
async def main():
    link = BfdLink(lambda e: None, port={port})
    link.bind(["{B}"])
    link.add(Add(key="a", generation=0, remote="{A}", local="{B}",
                 settings=Settings(desired_min_tx_us=300000, required_min_rx_us=300000)))
    await link.start()
    print(link.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    async with started(a):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as main_process:
            assert main_process.stdout is not None
            worker_pid = int(await asyncio.to_thread(main_process.stdout.readline))
            await until(lambda: a.state == "up")
            await asyncio.sleep(0.2)
            main_process.kill()
            took_s = await until(lambda: a.falls() != [])
        assert took_s < 0.2  # not the 900 ms of silence
        [down] = a.falls()
        assert (down.blame, down.diag, down.remote_diag, down.remote_admin_down) == ("remote-signalled", 3, 4, False)
        await until(lambda: not Path(f"/proc/{worker_pid}").exists(), 2.0)


async def test_main_process_that_hangs_means_down_until_it_is_back() -> None:
    async with pair(control_timeout_s=0.5) as (a, b):
        # The link's heartbeat is stopped the hard way: this loop, which both share, does nothing for a while.
        deadline = time.monotonic() + 1.8
        while time.monotonic() < deadline:
            time.sleep(0.05)
        await until(lambda: a.falls() != [] and b.falls() != [])
        assert a.falls()[0].blame == "local-stall"
        assert b.falls()[0].remote_diag == 4
        await until(lambda: a.state == b.state == "up")


async def test_signals_do_not_end_or_disturb_the_worker() -> None:
    async with pair() as (a, b):
        pid = a.link.pid
        assert pid is not None
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        await asyncio.sleep(0.3)
        assert (a.link.pid, a.link.restarts) == (pid, 0)
        assert a.falls() == b.falls() == []
        assert Path(f"/proc/{pid}/comm").read_text().strip() == "bgpbfd-bfd"


async def test_sighup_right_after_the_spawn_does_not_kill() -> None:
    port = free_port()
    a = End(port, A)
    task = asyncio.create_task(a.link.start())
    await until(lambda: a.link.pid is not None)
    assert a.link.pid is not None
    for _ in range(50):
        os.kill(a.link.pid, signal.SIGHUP)
        await asyncio.sleep(0.001)
    await task
    assert a.link.restarts == 0
    await a.link.stop()


async def test_each_malformed_packet_is_counted_and_changes_nothing() -> None:
    good = ControlPacket(
        state=BfdState.DOWN,
        detect_mult=3,
        my_discriminator=9,
        your_discriminator=0,
        desired_min_tx_us=SECOND,
        required_min_rx_us=SECOND,
    )
    data = push_control(good)
    packets = {
        "version": b"\x40" + data[1:],
        "length": data[:3] + b"\x17" + data[4:],
        "truncated": data[:20],
        "detect-mult-zero": data[:2] + b"\0" + data[3:],
        "multipoint": data[:1] + b"\x41" + data[2:],
        "my-discriminator-zero": push_control(replace(good, my_discriminator=0)),
        "poll-and-final": push_control(replace(good, poll=True, final=True)),
        "unknown-discriminator": push_control(replace(good, your_discriminator=1)),
        "your-discriminator-zero": push_control(replace(good, state=BfdState.UP)),
        "unknown-session": data,
    }
    async with pair() as (a, b):
        port = a.link._bind.port
        before = await a.report()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((C, 0))
            stranger.sendto(data, (A, port))  # TTL 64
            stranger.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
            for packet in packets.values():
                stranger.sendto(packet, (A, port))
                stranger.sendto(packet, (A, port))
            stranger.sendto(b"", (A, port))
            authenticated = replace(good, your_discriminator=before.local_discriminator, authentication=b"\1\3\1")
            stranger.sendto(push_control(authenticated), (A, port))
        await asyncio.sleep(0.2)
        after = await a.report()
        assert a.link.discards == {"ttl": 1, **dict.fromkeys(packets, 2), "truncated": 3}
        assert after.packets_discarded == {"authentication": 1}
        assert (after.state, after.remote_discriminator) == ("up", before.remote_discriminator)
        assert a.falls() == b.falls() == []
        a.link.clear()
        cleared = await a.report()
        assert a.link.discards == {}
        assert cleared.packets_discarded == {}
        assert cleared.packets_received < after.packets_received


async def test_the_short_cut_for_repeated_packets_ends_with_what_it_stood_on() -> None:
    port = free_port()
    a = End(port, A)
    a.add(C)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.bind((C, 0))
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        async with started(a):
            up = ControlPacket(
                state=BfdState.UP,
                detect_mult=4,
                my_discriminator=9,
                your_discriminator=(await a.report()).local_discriminator,
                desired_min_tx_us=50 * MS,
                required_min_rx_us=50 * MS,
            )

            async def hear(**fields: object) -> SessionReport:
                raw.sendto(push_control(replace(up, **fields)), (A, port))  # type: ignore[arg-type]
                await asyncio.sleep(0.03)
                return await a.report()

            await hear(state=BfdState.INIT)
            await hear()
            assert (await hear()).packets_received == 3
            assert (await hear(required_min_rx_us=70 * MS)).remote_required_min_rx_us == 70 * MS
            assert (await hear()).remote_required_min_rx_us == 50 * MS
            await until(lambda: a.falls() != [])
            assert (await a.report()).remote_discriminator == 0
            heard = await hear()
            assert (heard.state, heard.remote_discriminator) == ("down", 9)


async def test_two_daemons_with_specific_addresses_and_a_port_that_is_taken() -> None:
    port = free_port()
    a, rival = End(port, A), End(port, A)
    async with started(a, rival):
        await until(lambda: any(isinstance(e, Bound) for e in rival.events))
        [bound] = [e for e in rival.events if isinstance(e, Bound)]
        assert bound.error == "Address already in use"
        a.link.bind([B])
        await until(lambda: any(isinstance(e, Bound) and e.error is None for e in rival.events), 3.0)


async def test_address_not_here_is_a_fault_and_tried_again() -> None:
    port = free_port()
    a = End(port, A)
    a.add("192.0.2.2", local="192.0.2.1")
    async with started(a):
        await until(lambda: any(isinstance(e, SessionFault) for e in a.events))
        report = await a.report()
        assert report.fault is not None
        assert "Cannot assign requested address" in report.fault
        assert report.state == "down"
        a.link.add(Add(key="if", generation=0, remote="fe80::2", interface="nonesuch0"))
        await until(lambda: any(isinstance(e, SessionFault) and e.key == "if" for e in a.events))
        a.link.add(Add(key="bad", generation=0, remote="router.example"))
        await until(lambda: any(isinstance(e, SessionFault) and e.key == "bad" for e in a.events))
        assert a.link.restarts == 0


async def test_rfc5880_6_8_16_removal_and_admin_down_are_signalled() -> None:
    async with pair() as (a, b):
        b.link.set_admin_down(A, True)
        await until(lambda: a.falls() != [])
        assert a.falls()[0].remote_admin_down
        b.link.set_admin_down(A, False)
        await until(lambda: a.state == b.state == "up")
        b.link.remove(A)
        await until(lambda: len(a.falls()) == 2)
        assert (a.falls()[1].remote_admin_down, a.falls()[1].blame) == (True, "admin")
        assert await b.link.query() == []
        with pytest.raises(KeyError):
            b.link.remove(A)
        b.events.clear()
        b.add(A)
        await until(lambda: a.state == b.state == "up")


async def test_events_of_an_earlier_generation_are_dropped() -> None:
    async with pair() as (a, b):
        old = a.changes[-1].generation
        a.events.clear()
        assert b.link.pid is not None
        os.kill(b.link.pid, signal.SIGSTOP)
        time.sleep(0.4)  # the old session's Down waits unread meanwhile
        os.kill(b.link.pid, signal.SIGCONT)
        new = a.add(B)
        assert new > old
        await until(lambda: a.state == "up")
        assert {c.generation for c in a.changes} == {new}
        assert a.falls() == []
        await until(lambda: b.state == "up")


async def test_a_worker_that_does_not_read_holds_up_nobody_and_loses_nothing() -> None:
    port = free_port()
    a = End(port, A)
    async with started(a):
        pid = a.link.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        for number in range(3000):
            a.add("127.17.1.1", Settings(detect_mult=1 + number % 200))
        a.link.remove("127.17.1.1")
        a.add("127.17.1.2")
        assert time.monotonic() - begun < 2.0
        with pytest.raises(TimeoutError):
            await a.link.query(0.1)
        os.kill(pid, signal.SIGCONT)
        report = await a.report()
        assert report.remote == "127.17.1.2"
        assert a.link.restarts == 0


async def test_stop_ends_the_process_and_may_be_repeated() -> None:
    port = free_port()
    a = End(port, A)
    await a.link.start()
    pid = a.link.pid
    await a.link.stop()
    assert not Path(f"/proc/{pid}").exists()
    await a.link.stop()
    with pytest.raises(ConnectionError):
        await a.link.query()
