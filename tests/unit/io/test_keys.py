"""Which RFC 2385 password is in force where, with a kernel that is played: one that refuses, too."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.bgp.events import Endpoint
from bgpbfd.config.model import Secret
from bgpbfd.control.ports import TcpKey
from bgpbfd.io import keys as keys_module
from bgpbfd.io.keys import Passwords
from bgpbfd.io.sockopts import Network

V4, V6 = socket.AF_INET, socket.AF_INET6
INTERFACES = {1: "eth0", 2: "eth1"}


class Sock:
    """A socket, and what passwords the kernel has for it."""

    def __init__(self, kernel: Kernel, family: int = V4, *, v6_only: bool = False) -> None:
        self.kernel = kernel
        self.family = family
        self.v6_only = v6_only
        self.held: dict[Network, str] = {}
        self.log: list[tuple[str, str | None]] = []

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return int(self.v6_only)

    def fileno(self) -> int:
        return 3

    @property
    def real(self) -> socket.socket:
        return cast(socket.socket, self)


class Kernel:
    def __init__(self) -> None:
        self.room = 1000
        self.refused: set[Network] = set()
        self.faults: list[tuple[str, str]] = []
        self.passwords = Passwords(lambda text, network: self.faults.append((text, network)))

    def set_password(self, sock: socket.socket, network: Network, password: Secret | None) -> None:
        held = cast(Sock, sock)
        held.log.append((str(network), password.reveal() if password else None))
        if password is None:
            held.held.pop(network, None)
            return
        if network in self.refused:
            raise OSError(os.strerror(errno.EPERM))
        if network not in held.held and len(held.held) >= self.room:
            raise OSError(os.strerror(errno.ENOMEM))
        held.held[network] = password.reveal()

    def listener(self, family: int = V4, zone: str | None = None, *, v6_only: bool = False) -> Sock:
        sock = Sock(self, family, v6_only=v6_only)
        self.passwords.add_listener(sock.real, zone)
        return sock


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(keys_module, "set_password", made.set_password)
    monkeypatch.setattr(socket, "if_indextoname", lambda index: INTERFACES[index])
    return made


def key(network: str, password: str = "a", interface: str | None = None) -> TcpKey:
    return TcpKey(network, Secret(password), interface)


def end(text: str, scope: int = 0) -> Endpoint:
    return Endpoint(ipaddress.ip_address(text).packed, text, 179, scope)


def held(sock: Sock) -> dict[str, str]:
    return {str(network): password for network, password in sock.held.items()}


def test_each_listener_gets_what_can_come_to_it(kernel: Kernel) -> None:
    v4, both, v6 = kernel.listener(V4), kernel.listener(V6), kernel.listener(V6, v6_only=True)
    kernel.passwords.set((key("192.0.2.1"), key("10.0.0.0/8", "b"), key("2001:db8::/32", "c")))
    late = kernel.listener(V4)
    assert held(v4) == held(late) == {"192.0.2.1/32": "a", "10.0.0.0/8": "b"}
    assert held(v6) == {"2001:db8::/32": "c"}
    assert held(both) == held(v4) | held(v6)


def test_what_is_as_it_should_be_is_not_touched(kernel: Kernel) -> None:
    listener = kernel.listener()
    kernel.passwords.set((key("192.0.2.1"), key("192.0.2.2")))
    listener.log.clear()
    kernel.passwords.set((key("192.0.2.1"), key("192.0.2.2", "b"), key("192.0.2.3")))
    assert listener.log == [("192.0.2.2/32", "b"), ("192.0.2.3/32", "a")]
    listener.log.clear()
    kernel.passwords.set((key("192.0.2.0/24"),))
    assert listener.log[0] == ("192.0.2.0/24", "a")  # no moment without any
    assert len(listener.log) == 4


def test_a_link_local_listener_has_the_keys_of_its_interface_alone(kernel: Kernel) -> None:
    zero, one, wildcard = kernel.listener(V6, "eth0", v6_only=True), kernel.listener(V6, "eth1"), kernel.listener(V6)
    kernel.passwords.set((key("fe80::1", "a", "eth0"), key("fe80::1", "b", "eth1"), key("fe80::2", "c", "eth1")))
    assert held(zero) == {"fe80::1/128": "a"}
    assert held(one) == {"fe80::1/128": "b", "fe80::2/128": "c"}
    # On the wildcard the kernel cannot tell the two fe80::1: one is served, the other one kept out and told of.
    assert held(wildcard) == {"fe80::1/128": "a", "fe80::2/128": "c"}
    ((text, network),) = kernel.faults
    assert network == "fe80::1%eth1"
    assert "fe80::1%eth0" in text
    admitted = [
        kernel.passwords.admits(listener.real, end("fe80::1", scope))
        for listener in (zero, one, wildcard)
        for scope in (1, 2)
    ]
    assert admitted == [True, True, True, True, True, False]


def test_the_same_password_on_two_interfaces_is_no_conflict(kernel: Kernel) -> None:
    wildcard = kernel.listener(V6)
    kernel.passwords.set((key("fe80::1", "a", "eth0"), key("fe80::1", "a", "eth1")))
    assert held(wildcard) == {"fe80::1/128": "a"}
    assert kernel.faults == []
    assert kernel.passwords.admits(wildcard.real, end("fe80::1", 2))


def test_an_accepted_link_local_connection_is_signed_by_its_interface(kernel: Kernel) -> None:
    kernel.passwords.set((key("fe80::1", "a", "eth0"), key("fe80::1", "b", "eth1"), key("fe80::/64", "c")))
    for address, scope, password in (("fe80::1", 1, "a"), ("fe80::1", 2, "b"), ("fe80::9", 2, "c")):
        sock = Sock(kernel, V6)
        kernel.passwords.accepted(sock.real, end(address, scope), None)
        assert held(sock) == {f"{address}/128": password}


def test_an_interface_on_a_key_of_a_global_address_does_not_open_it(kernel: Kernel) -> None:
    kernel.passwords.set((key("192.0.2.1", "a", "eth0"),))
    sock = Sock(kernel)
    kernel.passwords.accepted(sock.real, end("192.0.2.1"), None)
    assert held(sock) == {"192.0.2.1/32": "a"}


def test_a_refused_change_keeps_the_old_password_and_lets_nobody_in(kernel: Kernel) -> None:
    listener, live = kernel.listener(), Sock(kernel)
    kernel.passwords.set((key("192.0.2.1"),))
    kernel.passwords.accepted(live.real, end("192.0.2.1"), None)
    kernel.refused = {ipaddress.ip_network("192.0.2.1")}
    for _ in range(2):
        kernel.passwords.set((key("192.0.2.1", "b"),))
        assert held(listener) == held(live) == {"192.0.2.1/32": "a"}
        assert not kernel.passwords.admits(listener.real, end("192.0.2.1"))
        assert kernel.passwords.admits(listener.real, end("192.0.2.2"))
    assert sorted(network for _, network in kernel.faults) == ["192.0.2.1"]
    kernel.refused.clear()
    kernel.passwords.set((key("192.0.2.1", "b"),))
    assert held(listener) == held(live) == {"192.0.2.1/32": "b"}
    assert kernel.passwords.admits(listener.real, end("192.0.2.1"))


def test_a_more_special_key_that_is_refused_is_not_replaced_by_that_around_it(kernel: Kernel) -> None:
    kernel.refused = {ipaddress.ip_network("10.0.0.1")}
    listener = kernel.listener()
    kernel.passwords.set((key("10.0.0.0/8"), key("10.0.0.1", "b")))
    assert not kernel.passwords.admits(listener.real, end("10.0.0.1"))
    assert kernel.passwords.admits(listener.real, end("10.0.0.2"))


def test_live_connections_follow_their_own_key_only(kernel: Kernel) -> None:
    """Dialled: that of the address. Accepted: the longest prefix. With a password of its own and no key: neither."""
    dialled, accepted, own = Sock(kernel), Sock(kernel), Sock(kernel)
    kernel.passwords.dialling(dialled.real, "10.0.0.1", None, None)
    kernel.passwords.accepted(accepted.real, end("10.0.0.2"), None)
    own.held[ipaddress.ip_network("192.0.2.1")] = "own"
    kernel.passwords.dialling(own.real, "192.0.2.1", None, Secret("own"))
    kernel.passwords.set((key("10.0.0.0/8", "net"),))
    assert (held(dialled), held(accepted)) == ({}, {"10.0.0.2/32": "net"})
    kernel.passwords.set((key("10.0.0.0/8", "net"), key("10.0.0.1", "x"), key("10.0.0.2", "y")))
    assert (held(dialled), held(accepted)) == ({"10.0.0.1/32": "x"}, {"10.0.0.2/32": "y"})
    kernel.passwords.set((key("10.0.0.0/8", "net"),))
    assert (held(dialled), held(accepted)) == ({}, {"10.0.0.2/32": "net"})
    kernel.passwords.set(())
    assert (held(dialled), held(accepted)) == ({}, {})
    assert held(own) == {"192.0.2.1/32": "own"}


def test_a_connection_that_is_being_closed_keeps_its_signature(kernel: Kernel) -> None:
    kernel.passwords.set((key("192.0.2.1"),))
    sock = Sock(kernel)
    kernel.passwords.accepted(sock.real, end("192.0.2.1"), None)
    kernel.passwords.release(sock.real)
    kernel.passwords.set(())
    assert held(sock) == {"192.0.2.1/32": "a"}


NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1", "10.1.1.2", "0.0.0.0/0", "192.0.2.1"]
KEYS = st.dictionaries(st.sampled_from(NETWORKS), st.sampled_from("abc"), max_size=7)
STEPS = st.lists(st.tuples(KEYS, st.sets(st.sampled_from(NETWORKS)), st.integers(0, 7)), min_size=1, max_size=6)


@given(STEPS, st.sampled_from([V4, V6]))
def test_whatever_the_kernel_refuses_nobody_comes_in_without_the_password_of_its_place(
    steps: list[tuple[dict[str, str], set[str], int]], family: int
) -> None:
    kernel = Kernel()
    original = keys_module.set_password
    keys_module.set_password = kernel.set_password
    try:
        listener = kernel.listener(family)
        for wanted, refused, room in steps:
            kernel.refused = {ipaddress.ip_network(network) for network in refused}
            kernel.room = room
            kernel.passwords.set(tuple(key(network, password) for network, password in wanted.items()))
            for host in ("10.1.1.1", "10.1.1.2", "10.1.1.3", "10.1.9.9", "10.9.9.9", "192.0.2.1", "198.51.100.1"):
                expected = _longest({ipaddress.ip_network(n): p for n, p in wanted.items()}, host)
                in_force = _longest(listener.held, host)
                if kernel.passwords.admits(listener.real, end(host)):
                    assert in_force == expected
            assert set(listener.held) <= {ipaddress.ip_network(network) for network in wanted}
        kernel.refused, kernel.room = set(), 1000
        kernel.passwords.set(tuple(key(network, password) for network, password in wanted.items()))
        assert listener.held == {ipaddress.ip_network(n): p for n, p in wanted.items()}
        assert all(kernel.passwords.admits(listener.real, end(host)) for host in ("10.1.1.1", "192.0.2.1"))
    finally:
        keys_module.set_password = original


def _longest(places: dict[Network, str], host: str) -> str | None:
    """What the kernel does: the longest prefix that it has."""
    address = ipaddress.ip_address(host)
    fitting = [network for network in places if address in network]
    return places[max(fitting, key=lambda network: network.prefixlen)] if fitting else None
