"""RFC 2385: which password is in force where, and what the kernel made of it.

The kernel holds passwords by socket. A listener needs those of everybody who may connect to it; what it accepts takes
over the one that fitted, and is on its own from there. So a change has to be made on each listener and on each live
connection; a connection goes on if the other end changes too before its hold time is over.

Everything fails closed: an address that has a password is not served without it, be it that the kernel refuses the
password or that a connection was made in the moment before it was in force.
"""

from __future__ import annotations

import ipaddress
import socket
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bgpbfd.bgp.events import Endpoint
from bgpbfd.config.model import Secret
from bgpbfd.control.ports import TcpKey
from bgpbfd.io.sockopts import Network, set_password

_CONSEQUENCE = "; connections from there are not taken"


class _Index:
    """Keys by place: a network, and the interface of a link-local one."""

    def __init__(self, keys: Iterable[TcpKey]) -> None:
        self.keys = [(*_place(key), key) for key in keys]
        self._places: dict[tuple[Network, str | None], TcpKey] = {}
        lengths: dict[int, set[int]] = {4: set(), 6: set()}
        for network, interface, key in self.keys:
            self._places.setdefault((network, interface), key)
            lengths[network.version].add(network.prefixlen)
        self._lengths = {version: sorted(found, reverse=True) for version, found in lengths.items()}

    def cover(self, host: Network, interface: str | None) -> TcpKey | None:
        """The key of the longest prefix around ``host``; of two for one address that of its own interface."""
        for length in self._lengths[host.version]:
            network = host.supernet(new_prefix=length)
            key = self._places.get((network, interface)) or self._places.get((network, None))
            if key is not None:
                return key
        return None

    def exact(self, host: Network, interface: str | None) -> TcpKey | None:
        """The key of ``host`` alone."""
        return self._places.get((host, interface)) or self._places.get((host, None))


@dataclass(slots=True)
class _Listener:
    sock: socket.socket
    zone: str | None  # the interface that its link-local address binds it to
    versions: frozenset[int]  # of IP
    installed: dict[Network, Secret] = field(default_factory=dict)
    missing: set[TcpKey] = field(default_factory=set)  # what should be in force and is not


@dataclass(slots=True)
class _Live:
    """A connection or a dial, and what it is signed with."""

    remote: Network
    interface: str | None
    password: Secret | None
    dialled: bool


class Passwords:
    """The passwords of one ``TcpShell``: on its listeners and its connections. ``fault`` is told (text, network)."""

    def __init__(self, fault: Callable[[str, str], None]) -> None:
        self._fault = fault
        self._index = _Index(())
        self._listeners: dict[socket.socket, _Listener] = {}
        self._live: weakref.WeakKeyDictionary[socket.socket, _Live] = weakref.WeakKeyDictionary()
        self._told: dict[str, str] = {}  # by network

    def set(self, keys: Iterable[TcpKey]) -> None:
        """Exactly ``keys`` are in force from now on; what the kernel refused before is tried again."""
        before = self._index
        self._index = _Index(keys)
        faults: dict[str, str] = {}
        for listener in self._listeners.values():
            faults |= self._install(listener)
        for sock, live in list(self._live.items()):
            faults |= self._swap(sock, live, before)
        for name in [name for name in self._told if name not in faults]:
            del self._told[name]
        self._tell(faults)

    # -- listeners ---------------------------------------------------------------------------------------

    def add_listener(self, sock: socket.socket, zone: str | None) -> None:
        """Before ``listen()``: from the first connection on the passwords are in force."""
        versions = {4} if sock.family == socket.AF_INET else {6}
        if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            versions.add(4)
        listener = self._listeners[sock] = _Listener(sock, zone, frozenset(versions))
        self._tell(self._install(listener))

    def remove_listener(self, sock: socket.socket) -> None:
        self._listeners.pop(sock, None)

    def _install(self, listener: _Listener) -> dict[str, str]:
        """Bring the listener to what is to be in force; what went wrong, by network.

        New before old: an address that moves from one network to another is covered all the time. Where there is no
        room for both, the new are tried again when the old are gone.
        """
        wanted: dict[Network, TcpKey] = {}
        listener.missing = set()
        faults: dict[str, str] = {}
        for network, interface, key in self._index.keys:
            if network.version not in listener.versions:
                continue
            if listener.zone is not None and interface not in {None, listener.zone}:
                continue
            other = wanted.setdefault(network, key)
            if other.password != key.password:
                # The kernel tells by the address alone who signs with what.
                listener.missing.add(key)
                faults[_name(key)] = f"{_name(other)} has the same address and another TCP MD5 password{_CONSEQUENCE}"
        refused = _put(listener, wanted)
        for network in [network for network in listener.installed if network not in wanted]:
            try:
                set_password(listener.sock, network, None)
            except OSError as error:  # it stays: too strict is better than too open
                faults[str(network)] = f"a TCP MD5 password stays in force: {error}"
            else:
                del listener.installed[network]
        if refused:
            refused = _put(listener, {network: wanted[network] for network in refused})
            listener.missing.update(key for network, _, key in self._index.keys if network in refused)
            faults.update({_name(wanted[network]): text + _CONSEQUENCE for network, text in refused.items()})
        return faults

    def admits(self, listener: socket.socket, remote: Endpoint) -> bool:
        """False for who comes from where a password is wanted that this listener does not have. Raises OSError."""
        known = self._listeners.get(listener)
        if known is None or not known.missing:
            return True
        key = self._index.cover(*_origin(remote))
        return key is None or key not in known.missing

    # -- connections -------------------------------------------------------------------------------------

    def accepted(self, sock: socket.socket, remote: Endpoint, password: Secret | None) -> None:
        """Sign an accepted connection with ``password``, or with what is set for where it comes from. Raises OSError.

        The kernel has done that already, but for connections that were made before the password was in force.
        """
        host, interface = _origin(remote)
        if password is None and (key := self._index.cover(host, interface)) is not None:
            password = key.password
        if password is not None:
            set_password(sock, host, password)
        self._live[sock] = _Live(host, interface, password, dialled=False)

    def dialling(self, sock: socket.socket, remote: str, interface: str | None, password: Secret | None) -> None:
        """``sock``, set up with ``password``, is about to connect to ``remote``."""
        host = ipaddress.ip_network(remote)
        self._live[sock] = _Live(host, interface if _scoped(host) else None, password, dialled=True)

    def release(self, sock: socket.socket) -> None:
        """The connection is being closed: its last words are signed as those before."""
        self._live.pop(sock, None)

    def _swap(self, sock: socket.socket, live: _Live, before: _Index) -> dict[str, str]:
        """Bring a live connection to the password that is set for its remote address now."""
        if sock.fileno() < 0:
            return {}
        # Who is dialled is configured by address: the passwords of networks are for those who come from there.
        key, was = (
            index.exact(live.remote, live.interface) if live.dialled else index.cover(live.remote, live.interface)
            for index in (self._index, before)
        )
        if key is None and (was is None or was.password != live.password):
            return {}  # it is signed with what it brought itself, or not at all
        password = None if key is None else key.password
        if password == live.password:
            return {}
        try:
            set_password(sock, live.remote, password)
        except OSError as error:
            return {str(live.remote.network_address): f"the connection goes on with the old password: {error}"}
        live.password = password
        return {}

    def _tell(self, faults: dict[str, str]) -> None:
        """Each network's fault once, until it is another one."""
        for name, text in faults.items():
            if self._told.get(name) != text:
                self._told[name] = text
                self._fault(f"{name}: {text}", name)


def _put(listener: _Listener, wanted: dict[Network, TcpKey]) -> dict[Network, str]:
    """Install what differs; what the kernel refused, and why."""
    refused: dict[Network, str] = {}
    for network, key in wanted.items():
        if listener.installed.get(network) == key.password:
            continue
        try:
            set_password(listener.sock, network, key.password)
        except OSError as error:
            refused[network] = str(error)
        else:
            listener.installed[network] = key.password
    return refused


def _place(key: TcpKey) -> tuple[Network, str | None]:
    network = ipaddress.ip_network(key.network, strict=False)
    return network, key.interface if _scoped(network) else None


def _scoped(network: Network) -> bool:
    return network.version == 6 and network.is_link_local


def _origin(remote: Endpoint) -> tuple[Network, str | None]:
    """Raises OSError when the interface is gone."""
    interface = socket.if_indextoname(remote.scope_id) if remote.scope_id else None
    return ipaddress.ip_network(remote.text), interface


def _name(key: TcpKey) -> str:
    return f"{key.network}%{key.interface}" if key.interface else key.network
