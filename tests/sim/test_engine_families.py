"""AFI/SAFI disable (RFC 7606 §2, RFC 4760 §7) through a whole engine: what was learned and passed on goes, no more."""

from __future__ import annotations

import pytest

from bgpbfd.control.snapshot import NeighborSnapshot
from bgpbfd.core import IPV4_UNICAST, IPV6_UNICAST, SECOND
from bgpbfd.wire.iana import MessageType
from bgpbfd.wire.messages import RouteRefresh, encode_message, encode_route_refresh
from tests.sim.engine_world import Host, World

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
A6, B6, C6 = "2001:db8:f::1", "2001:db8:f::2", "2001:db8:f::3"
UPDATE, REFRESH = int(MessageType.UPDATE), int(MessageType.ROUTE_REFRESH)
V4, V6 = {"192.0.2.0/24", "198.51.100.0/24"}, {"2001:db8:1::/48", "2001:db8:2::/48"}
OURS = {"203.0.113.0/24", "2001:db8:b::/48"}
TRANSIT = 'import_policy = "all"\nexport_policy = "all"\nadvertise_sources = ["config", "peer"]\n'
RESTART = "graceful_restart = { enabled = true, restart_time = 20 }\n"

PATH = "40010100 40020602010000fde9"
BROKEN = PATH + "800e 1a 0002 01 10 20010db8000000000000000000000001 00 81 20010db8"  # a prefix of 129 bits
GOOD = PATH + "800e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8"
END_OF_RIB = "800f 03 0002 01"


def update(attributes: str) -> bytes:
    octets = bytes.fromhex(attributes)
    return encode_message(UPDATE, bytes(2) + len(octets).to_bytes(2, "big") + octets)


def entry(remote: str, asn: int, families: str, more: str = "", routes: tuple[str, ...] = ()) -> str:
    text = f'[[peers]]\nremote_ip = "{remote}"\nremote_as = {asn}\nfamilies = [{families}]\n{more}'
    for prefix in routes:
        text += f'[[peers.static_routes]]\nprefix = "{prefix}"\nnext_hop = "self"\n'
    return text


def config(local: str, asn: int, *peers: str) -> str:
    head = f'router_id = "{local}"\ndefault_as = {asn}\nbgp_socket = "[::]:179"\npoll_interval = 1\n'
    return head + "".join(peers) + '[policies.all]\ndefault = "accept"\n'


class Line:
    """A announces to B, B passes on to C; B has routes of its own."""

    def __init__(
        self, families: str = '"ipv4 unicast", "ipv6 unicast"', more: str = "", add_path: bool = False
    ) -> None:
        self.world = World()
        send = 'add_path = "send"\n' if add_path else ""
        receive = 'add_path = "receive"\n' if add_path else ""
        routes = sorted(V6 if families == '"ipv6 unicast"' else V4 | V6)
        ours = tuple(sorted(OURS if len(routes) > 2 else ()))
        a = config(A, 65001, entry(B, 65002, families, TRANSIT + more, tuple(routes)))
        to_a = entry(A, 65001, families, TRANSIT + more, ours)
        to_c = entry(C, 65003, families, TRANSIT + more + send, ours)
        self.c = self.world.host(C, config(C, 65003, entry(B, 65002, families, TRANSIT + more + receive)), ipv6=C6)
        self.b = self.world.host(B, config(B, 65002, to_a, to_c), ipv6=B6)
        self.a = self.world.host(A, a, ipv6=A6)
        self.run(4)

    def run(self, seconds: int) -> None:
        self.world.run(seconds * SECOND)

    def a_says(self, *messages: bytes) -> None:
        """To B, on the established session, beside what A says by itself."""
        (end,) = [end for end in self.b.links if end[0] == A]
        self.b.engine.data_received(*end, b"".join(messages))
        self.run(1)

    def b_about_a(self) -> NeighborSnapshot:
        return self.b.operations.neighbor(A)


@pytest.fixture
def line() -> Line:
    made = Line()
    assert (made.b.learned(A), made.c.learned(B)) == (V4 | V6, V4 | V6 | OURS)
    return made


def refreshes_to(host: Host, peer: str) -> list[bytes]:
    return [body for to, kind, body in host.sent if to == peer and kind == REFRESH]


def test_rfc4760_7_all_routes_of_the_family_go_and_the_session_stays(line: Line) -> None:
    line.a_says(update(BROKEN))
    assert line.b.learned(A) == V4
    assert line.c.learned(B) == V4 | OURS  # what was passed on is withdrawn
    assert line.a.learned(B) == OURS  # sending goes on
    about = line.b_about_a()
    assert (about.state, about.flaps) == ("established", 0)
    assert (about.families, about.disabled_families) == ((IPV4_UNICAST, IPV6_UNICAST), (IPV6_UNICAST,))
    assert about.update_faults == {"afi-safi-disable": 1}
    fault = about.last_update_fault
    assert fault is not None
    assert (fault.treatment, fault.attribute) == ("afi-safi-disable", 14)
    assert fault.data.hex().endswith("008120010db8")
    (text,) = line.b.events("family-disabled")
    assert text.startswith(
        "ipv6 unicast is ignored until the session ends and its routes (2) are dropped: MP_REACH_NLRI"
    )


def test_rfc4760_7_what_comes_later_of_the_family_is_ignored(line: Line) -> None:
    line.a_says(update(BROKEN), update(GOOD), update(END_OF_RIB), update(BROKEN))
    assert line.b.learned(A) == V4
    about = line.b_about_a()
    assert about.update_faults == {"afi-safi-disable": 1, "ignored": 3}
    assert about.last_update_fault is not None
    assert about.last_update_fault.treatment == "afi-safi-disable"  # what is ignored does not hide it
    assert about.state == "established"
    assert len(line.b.events("family-disabled")) == 1


def test_a_new_session_begins_with_all_families(line: Line) -> None:
    line.a_says(update(BROKEN))
    line.b.operations.peer_reset(A)
    line.run(4)
    assert line.b.learned(A) == V4 | V6
    assert line.b_about_a().disabled_families == ()
    assert line.c.learned(B) == V4 | V6 | OURS


def test_rfc7606_5_3_the_only_family_resets_the_session() -> None:
    line = Line('"ipv6 unicast"')
    line.a_says(update(BROKEN))
    about = line.b_about_a()
    assert (about.flaps, about.update_faults) == (1, {"session-reset": 1})
    assert about.notifications_sent["3/9"] == 1
    assert line.b.events("family-disabled") == []


def test_refreshes_of_a_disabled_family(line: Line) -> None:
    """RFC 7313: what frames ignored routes is ignored; a request is for ours, and answered."""
    line.a_says(encode_route_refresh(RouteRefresh(IPV6_UNICAST, 1)), update(BROKEN))
    line.b.sent.clear()
    line.a_says(
        encode_route_refresh(RouteRefresh(IPV6_UNICAST, 2)), encode_route_refresh(RouteRefresh(IPV6_UNICAST, 1))
    )
    assert line.b_about_a().discards["route refresh of a disabled family"] == 2
    assert line.b.learned(A) == V4
    line.a_says(encode_route_refresh(RouteRefresh(IPV6_UNICAST)))
    assert [body[2] for body in refreshes_to(line.b, A)] == [1, 2]  # BoRR, our routes, EoRR
    line.b.sent.clear()
    line.b.operations.peer_refresh(A)
    assert refreshes_to(line.b, A) == [bytes((0, 1, 0, 1))]  # of the family that is still taken
    line.run(400)  # no timer of the refresh is left that would take anything
    assert (line.b.learned(A), line.b_about_a().state) == (V4, "established")


def test_with_add_path_every_path_of_the_family_is_withdrawn() -> None:
    line = Line(add_path=True)
    assert line.c.learned(B) == V4 | V6 | OURS
    line.a_says(update(BROKEN))
    assert line.c.learned(B) == V4 | OURS


def test_rfc4724_stale_routes_of_a_disabled_family_go_and_none_are_kept() -> None:
    line = Line(more=RESTART)
    line.world.crash(line.a)
    line.run(1)
    assert line.b.learned(A) == V4 | V6
    line.world.cut.add(frozenset({A, B}))
    a = config(A, 65001, entry(B, 65002, '"ipv4 unicast", "ipv6 unicast"', TRANSIT + RESTART))
    line.world.start(line.a, a)
    line.world.cut.clear()
    while line.b.state(A) != "established":
        line.world.run(SECOND // 500)
    (end,) = [end for end in line.b.links if end[0] == A]
    line.b.engine.data_received(*end, update(BROKEN))
    assert not {p for p in line.b.learned(A) if ":" in p}
    line.run(1)
    assert (line.b_about_a().stale_until, line.b.learned(A)) == (None, set())  # IPv4's went with its End-of-RIB
    line.world.crash(line.a)
    line.run(1)
    assert line.b.learned(A) == set()


def test_rfc4724_the_end_of_rib_of_a_disabled_family_is_not_waited_for() -> None:
    """B restarts and defers; A's IPv6 End-of-RIB, which could come no more, must not hold C up."""
    line = Line(more=RESTART)
    line.world.crash(line.b)
    line.world.cut.add(frozenset({A, B}))
    families = '"ipv4 unicast", "ipv6 unicast"'
    peers = [entry(A, 65001, families, TRANSIT + RESTART), entry(C, 65003, families, TRANSIT + RESTART)]
    line.world.start(line.b, config(B, 65002, *peers))
    line.run(3)
    line.a.blocked.add(B)  # it says nothing by itself
    line.world.cut.clear()
    line.run(3)
    assert line.b.state(A) == "established"
    line.a_says(update(""))  # IPv4's End-of-RIB
    assert line.b.engine.restart.deferring
    line.a_says(update(BROKEN))
    assert not line.b.engine.restart.deferring
