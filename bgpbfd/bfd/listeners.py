"""The BFD worker's listening sockets: which are wanted, which are open, and which are given a rest.

Sockets that anybody can fill (packets without a discriminator of ours, echo packets to be returned) are read up to a
limit, and then left alone for a while: what a stranger sends costs a small part of a core, whatever its rate, and never
a place in the queue of a live session.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

from bgpbfd.bfd.protocol import Bound
from bgpbfd.bfd.sockets import Kind, Listener, open_port
from bgpbfd.core import MILLISECOND, Instant, Micros
from bgpbfd.wire.bfd import ECHO_PORT, MULTIHOP_PORT, SINGLE_HOP_PORT

STRANGERS_MOST = 64  # packets a REST
WELCOME_MOST = 4  # of them such as bring a session up, which costs a hundred times as much as to throw one away
ECHOES_MOST = 512
REST_US: Micros = 10 * MILLISECOND


def multihop_port(port: int) -> int:
    """4784 beside 3784; where tests have moved the one, the other moves along."""
    return port + MULTIHOP_PORT - SINGLE_HOP_PORT


def echo_port(port: int) -> int:
    return port + ECHO_PORT - SINGLE_HOP_PORT


class Listeners:
    """``prefix``: the upper bits of this worker's discriminators. What cannot be bound is tried again by ``bind``."""

    def __init__(self, epoll: select.epoll, post: Callable[[Bound], None], prefix: int) -> None:
        self._epoll = epoll
        self._post = post
        self._prefix = prefix
        self.port = SINGLE_HOP_PORT
        self._addresses: list[str] = []
        self._ports: list[int] = [SINGLE_HOP_PORT]
        self._open: dict[tuple[str, int], tuple[Listener, ...]] = {}
        self._errors: dict[tuple[str, int], str] = {}
        self._by_fd: dict[int, Listener] = {}
        self._resting: list[tuple[Instant, Listener]] = []
        self._steady_awaited = True

    def want(self, addresses: list[str], port: int) -> None:
        """The single-hop port on exactly these addresses, and beside it what ``also`` has asked for."""
        if port != self.port:
            self._close(list(self._open))
            self._ports = [port + each - self.port for each in self._ports]
            self.port = port
        self._addresses = list(dict.fromkeys(addresses))
        self._errors.clear()
        self.bind()

    def also(self, port: int) -> None:
        """Listen on this port too from now on: the multihop or the echo port."""
        if port not in self._ports:
            self._ports.append(port)
            self.bind()

    def bind(self) -> None:
        """Bring the open sockets to the wanted ones; an error is told once, until it changes."""
        wanted = [(address, port) for port in self._ports for address in self._addresses]
        self._close([place for place in self._open if place not in wanted])
        for place in wanted:
            if place in self._open:
                continue
            try:
                opened = self._open_port(*place)
            except OSError as error:
                text = os.strerror(error.errno) if error.errno else str(error)
                if self._errors.get(place) != text:
                    self._errors[place] = text
                    self._post(Bound(address=self._name(place), error=text))
                continue
            self._errors.pop(place, None)
            self._open[place] = opened
            for listener in opened:
                self._by_fd[listener.sock.fileno()] = listener
                if listener.kind is not Kind.STEADY or self._steady_awaited:
                    self._epoll.register(listener.sock, select.EPOLLIN)
            self._post(Bound(address=self._name(place)))

    @property
    def complete(self) -> bool:
        return len(self._open) == len(self._addresses) * len(self._ports)

    def get(self, fd: int) -> Listener | None:
        return self._by_fd.get(fd)

    def of_sessions(self) -> Iterator[Listener]:
        """Those whose packets keep sessions up."""
        return (listener for listener in self._by_fd.values() if listener.kind in {Kind.STEADY, Kind.KNOWN})

    def of_kind(self, kind: Kind) -> list[Listener]:
        return [listener for listener in self._by_fd.values() if listener.kind is kind]

    def wait_for_steady(self, wait: bool) -> None:
        """Whether the epoll tells of steady packets, or they are read without being told of."""
        self._steady_awaited = wait
        for listener in self.of_kind(Kind.STEADY):
            if wait:
                self._epoll.register(listener.sock, select.EPOLLIN)
            else:
                self._epoll.unregister(listener.sock)

    @staticmethod
    def most(listener: Listener) -> int | None:
        """How many packets may be read at once; None: all."""
        if listener.kind in {Kind.STEADY, Kind.KNOWN}:
            return None
        return STRANGERS_MOST if listener.kind is Kind.STRANGER else ECHOES_MOST

    def rest(self, listener: Listener, now: Instant) -> Instant:
        """Its limit is reached: not read again before the moment that is returned, when ``wake`` is to be called."""
        until = now + REST_US
        self._epoll.unregister(listener.sock)
        self._resting.append((until, listener))
        return until

    def wake(self, now: Instant) -> None:
        for until, listener in list(self._resting):
            if until <= now:
                self._resting.remove((until, listener))
                self._epoll.register(listener.sock, select.EPOLLIN)

    def _open_port(self, address: str, port: int) -> tuple[Listener, ...]:
        if port == echo_port(self.port):
            return (Listener.open(address, port, kind=Kind.ECHO),)
        return open_port(address, port, self._prefix, multihop=port == multihop_port(self.port))

    def _name(self, place: tuple[str, int]) -> str:
        """As events name it: the port only where it is not the single-hop one."""
        address, port = place
        if port == self.port:
            return address
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def _close(self, places: list[tuple[str, int]]) -> None:
        for place in places:
            for listener in self._open.pop(place):
                resting = [entry for entry in self._resting if entry[1] is listener]
                if resting:
                    self._resting.remove(resting[0])
                elif listener.kind is not Kind.STEADY or self._steady_awaited:
                    self._epoll.unregister(listener.sock)
                del self._by_fd[listener.sock.fileno()]
                listener.sock.close()
