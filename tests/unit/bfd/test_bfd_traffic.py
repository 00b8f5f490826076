"""The worker's sockets, on loopback addresses of their own: multihop, strangers, unsolicited sessions, floods."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from dataclasses import replace

from bfd_ends import FAST, MS, A, B, C, End, free_port, pair, started, until
from msgspec import structs

from bgpbfd.bfd.protocol import Add, AuthKey, Late, SessionFault, SessionReport, Settings, Unsolicited
from bgpbfd.wire.bfd import ControlPacket, push_control
from bgpbfd.wire.iana import BfdState


def add_multihop(end: End, remote: str, minimum_ttl: int = 254) -> None:
    settings = Settings(desired_min_tx_us=50 * MS, required_min_rx_us=50 * MS, detect_mult=3, minimum_ttl=minimum_ttl)
    end.link.add(Add(key="multihop", generation=0, remote=remote, local=end.address, multihop=True, settings=settings))


async def reports(end: End) -> dict[str, SessionReport]:
    return {report.key: report for report in await end.link.query()}


async def test_rfc5883_a_multihop_session_beside_a_single_hop_one() -> None:
    """Same addresses, other port, other session."""
    async with pair() as (a, b):
        add_multihop(a, B)
        add_multihop(b, A)
        await until(lambda: any(c.key == "multihop" and c.new == "up" for c in a.changes))
        found = await reports(a)
        assert {key: (report.state, report.multihop, report.minimum_ttl) for key, report in found.items()} == {
            B: ("up", False, 255),
            "multihop": ("up", True, 254),
        }
        assert found[B].local_discriminator != found["multihop"].local_discriminator
        b.link.remove("multihop")
        await until(lambda: any(c.key == "multihop" and c.old == "up" for c in a.changes))
        assert (await reports(a))[B].state == "up"
        assert [c.key for c in a.falls()] == ["multihop"]


async def test_rfc5883_minimum_ttl() -> None:
    port = free_port()
    a = End(port, A)
    add_multihop(a, C, minimum_ttl=200)
    down = ControlPacket(
        state=BfdState.DOWN,
        detect_mult=3,
        my_discriminator=9,
        your_discriminator=0,
        desired_min_tx_us=1000 * MS,
        required_min_rx_us=1000 * MS,
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind((C, 0))
        async with started(a):
            assert (await reports(a))["multihop"].state == "down"
            for ttl, state in ((199, "down"), (200, "init")):
                far.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                far.sendto(push_control(down), (A, port + 1000))
                await asyncio.sleep(0.1)
                assert (await reports(a))["multihop"].state == state
            assert (await reports(a))["multihop"].packets_discarded == {"ttl": 1}
            assert a.link.discards == {}


async def test_rfc9468_who_asks_and_is_welcome_is_told_of() -> None:
    port = free_port()
    a, b = End(port, A), End(port, B)
    b.add(A)
    asked = lambda: [e for e in a.events if isinstance(e, Unsolicited)]  # noqa: E731
    async with started(a, b):
        await asyncio.sleep(1.2)
        assert asked() == []
        a.link.accept_unsolicited(["127.18.0.0/16", "::/0"])
        await asyncio.sleep(1.2)
        assert asked() == []  # from another network
        a.link.accept_unsolicited(["127.17.0.0/24"], "nonesuch0")
        await asyncio.sleep(1.2)
        assert asked() == []  # at another interface
        a.link.accept_unsolicited(["127.17.0.0/24"])
        await until(lambda: asked() != [])
        assert (asked()[0].remote, asked()[0].local, asked()[0].interface) == (B, A, "lo")
        a.add(B, replace_passive(FAST))
        await until(lambda: a.state == b.state == "up")
        a.events.clear()
        await asyncio.sleep(0.3)
        assert asked() == []


def replace_passive(settings: Settings) -> Settings:
    return Settings(
        desired_min_tx_us=settings.desired_min_tx_us,
        required_min_rx_us=settings.required_min_rx_us,
        detect_mult=settings.detect_mult,
        passive=True,
    )


async def test_a_down_that_was_overtaken_is_not_believed() -> None:
    """It waits behind a stranger's packets, and is older than what the session has heard since."""
    async with pair() as (a, b):
        theirs = await b.report()
        stale = ControlPacket(
            state=BfdState.DOWN,
            detect_mult=3,
            my_discriminator=theirs.local_discriminator,
            your_discriminator=0,
            desired_min_tx_us=1000 * MS,
            required_min_rx_us=50 * MS,
        )
        port = a.link._bind.port
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as neighbor,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            for sock, address in ((neighbor, B), (stranger, C)):
                sock.bind((address, 0))
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
            for _ in range(3000):  # half a second's reading
                stranger.sendto(push_control(stale), (A, port))
            neighbor.sendto(push_control(stale), (A, port))
        async with asyncio.timeout(5):
            while not (await a.link.query() and a.link.discards.get("overtaken")):
                await asyncio.sleep(0.05)
        assert a.falls() == b.falls() == []
        assert a.link.discards == {"unknown-session": 3000, "overtaken": 1}


async def test_a_flood_of_strangers_leaves_sessions_up() -> None:
    """As many packets as this process can send, with and without a discriminator."""
    async with pair() as (a, b):
        port = a.link._bind.port
        packet = ControlPacket(
            state=BfdState.DOWN,
            detect_mult=3,
            my_discriminator=77,
            your_discriminator=0,
            desired_min_tx_us=50 * MS,
            required_min_rx_us=50 * MS,
        )
        kinds = [push_control(replace(packet, your_discriminator=number)) for number in (0, 1, 0xFFFFFFFF)]
        sent = 0

        def flood() -> int:
            os.nice(0)
            count = 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((C, 0))
                stranger.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    for data in kinds:
                        stranger.sendto(data, (A, port))
                    count += 3
            return count

        sent = await asyncio.to_thread(flood)
        report = await a.report()
        assert a.falls() == b.falls() == []
        assert report.state == "up"
        assert sent > 20_000
        read = sum(a.link.discards.values())
        assert 0 < read < sent  # a share of them was looked at, and counted by reason
        assert set(a.link.discards) <= {"unknown-session", "unknown-discriminator"}


async def test_late_packets_are_told_of_once_a_second() -> None:
    async with pair() as (a, b):
        await asyncio.sleep(0.2)
        assert b.link.pid is not None
        for _ in range(3):
            os.kill(b.link.pid, signal.SIGSTOP)
            await asyncio.sleep(0.09)
            os.kill(b.link.pid, signal.SIGCONT)
            await asyncio.sleep(0.15)
        late = lambda: [e for e in a.events if isinstance(e, Late)]  # noqa: E731
        await until(lambda: sum(e.count for e in late()) == 3)
        assert all(e.interval_us == 50 * MS and e.gap_us > 75 * MS for e in late())
        assert len(late()) <= 2
        assert a.falls() == b.falls() == []
        assert (await a.report()).late_packets == 3


async def test_a_key_that_can_not_be_used_is_a_fault_and_not_the_end_of_the_worker() -> None:
    """The configuration has been checked; should one slip through, no session runs without its key."""
    async with pair() as (a, b):
        pid = a.link.pid
        bad = Settings(auth=(AuthKey(type="keyed-sha1", key_id=1, key=b"x" * 21),))
        a.link.change(B, bad)
        a.link.add(Add(key="bad", generation=0, remote=C, local=A, settings=bad))
        await until(lambda: len([e for e in a.events if isinstance(e, SessionFault)]) == 2)
        faults = [e for e in a.events if isinstance(e, SessionFault)]
        assert all("octets" in (e.error or "") and "xxx" not in (e.error or "") for e in faults)
        await asyncio.sleep(0.3)
        assert (a.link.pid, a.link.restarts) == (pid, 0)
        assert a.falls() == b.falls() == []


async def test_authentication_on_the_wire() -> None:
    """Both ends with a key; then one of them with another: Down, counted, and Up again with the right one."""
    good = (AuthKey(type="meticulous-keyed-sha1", key_id=3, key=b"popocatepetl"),)
    other = (AuthKey(type="meticulous-keyed-sha1", key_id=3, key=b"iztaccihuatl"),)
    keyed = structs.replace(FAST, auth=good)
    async with pair(keyed) as (a, b):
        await asyncio.sleep(0.3)
        assert a.falls() == b.falls() == []
        a.link.change(B, structs.replace(FAST, auth=other))
        await until(lambda: a.state != "up" and b.state != "up")
        assert (await a.report()).packets_discarded["auth-digest"] > 0
        a.link.change(B, keyed)
        await until(lambda: a.state == b.state == "up", 10)
