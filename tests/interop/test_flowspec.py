"""Flow specifications with real daemons: each rule as the daemon's own CLI or API shows it, and theirs as ours does.

FRR 8.4 ends the session (3/9) over a ``!=`` and over an IPv6 prefix with an offset, which are RFC 8955 §4.2.1.1's and
RFC 8956 §3.1's; GoBGP 3.10 and ExaBGP 4.2 cannot read the latter either. OpenBGPD 7.7 has no flow specifications.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from .harness.capture import Capture
from .harness.lab import Lab, Link
from .harness.ours import Bgpbfd
from .harness.peers import PEERS, ExaBgp, GoBgp, OpenBgpd, Peer, PeerConfig
from .harness.process import HarnessError, wait_until

pytestmark = pytest.mark.interop

OUR_AS = 65010
FAMILIES = '["ipv4 unicast", "ipv6 unicast", "ipv4 flow", "ipv6 flow"]'


@dataclass(slots=True, frozen=True)
class Rule:
    """``shown``: by the daemon's name the pieces of what it has to show; a daemon that is not there is not sent it."""

    afi: int
    action: str
    matches: tuple[str, ...]
    shown: dict[str, tuple[str, ...]]
    extra: str = ""

    @property
    def version(self) -> int:
        return 4 if self.afi == 1 else 6

    def toml(self) -> str:
        return (
            f"[[peers.static_flows]]\nafi = {self.afi}\naction = {json.dumps(self.action)}\n"
            f"matches = {json.dumps(self.matches)}\n{self.extra}"
        )


RATE = Rule(
    1,
    "traffic-rate 24000",
    ("destination 192.0.2.0/24", "protocol =tcp", "destination-port >8000 <=8080"),
    {
        "bird": (
            "flow4 { dst 192.0.2.0/24; proto 6; dport > 8000 && <= 8080; }",
            "(generic, 0x80060000, 0x46bb8000)",
            "BGP.community: (65000,99)",
            "BGP.med: 7",
        ),
        "frr": (
            "Destination Address 192.0.2.0/24",
            "IP Protocol = 6",
            "Destination Port > 8000 , <= 8080",
            "FS:rate 24000",
        ),
        "gobgp": (
            "[destination: 192.0.2.0/24][protocol: ==tcp][destination-port: >8000&<=8080]",
            '"subtype": 6, "as": 0, "rate": 24000',
            '"communities": [4259840099]',
            '"metric": 7',
        ),
        "exabgp": (
            "destination-ipv4 192.0.2.0/24 protocol =tcp destination-port [ >8000&<=8080 ]",
            "rate-limit:24000",
            '"community": [[65000, 99]]',
            '"med": 7',
        ),
    },
    'communities = ["65000:99"]\nmulti_exit_disc = 7\n',
)
README = Rule(
    2,
    "traffic-rate 24000",
    ("source 3001:100::/56", "destination-port >8000 <=8080", "packet-length >100"),
    {
        "bird": ("flow6 { src 3001:100::/56; dport > 8000 && <= 8080; length > 100; }", "0x80060000, 0x46bb8000"),
        "frr": (
            "Source Address 3001:100::/56",
            "Destination Port > 8000 , <= 8080",
            "Packet Length > 100",
            "FS:rate 24000",
        ),
        "gobgp": ("[source: 3001:100::/56/0][destination-port: >8000&<=8080][packet-length: >100]", '"rate": 24000'),
        "exabgp": (
            "source-ipv6 3001:100::/56/0 destination-port [ >8000&<=8080 ] packet-length >100",
            "rate-limit:24000",
        ),
    },
)
EVERY_TYPE = Rule(
    1,
    "redirect 65000:1, mark 46, traffic-action sample",
    (
        "destination 198.51.100.0/24",
        "source 203.0.113.0/25",
        "protocol =udp | =tcp",
        "port =53",
        "destination-port >=1024 <=2048 | =80",
        "source-port >25",
        "icmp-type =8",
        "icmp-code =0",
        "tcp-flags =syn | !ack",
        "packet-length >100 <1500",
        "dscp =46",
        "fragment is-fragment | first-fragment",
    ),
    {
        "bird": (
            "dst 198.51.100.0/24; src 203.0.113.0/25; proto 17,6; port 53; dport 1024..2048,80; sport > 25; "
            "icmp type 8; icmp code 0; tcp flags 0x2/0x2 || 0x0/0x10; length > 100 && < 1500; dscp 46; "
            "fragment !!is_fragment || !!first_fragment; }",
            "(generic, 0x8008fde8, 0x1) (generic, 0x80090000, 0x2e) (generic, 0x80070000, 0x2)",
        ),
        "frr": (
            "Destination Address 198.51.100.0/24",
            "Source Address 203.0.113.0/25",
            "IP Protocol = 17 , = 6",
            "Destination Port >= 1024 , <= 2048 , = 80",
            "Source Port > 25",
            "ICMP Type = 8",
            "ICMP Code = 0",
            "TCP Flags = 2,|∋ ! 16",
            "Packet Length > 100 , < 1500",
            "DSCP field = 46",
            "Packet Fragment ∋ 2,|∋ 4",
            "FS:redirect VRF RT:65000:1",
            "FS:marking 46",
        ),
        "gobgp": (
            "[destination: 198.51.100.0/24][source: 203.0.113.0/25][protocol: ==udp ==tcp][port: ==53]"
            "[destination-port: >=1024&<=2048 ==80][source-port: >25][icmp-type: ==8][icmp-code: ==0]"
            "[tcp-flags: =S !A][packet-length: >100&<1500][dscp: ==46][fragment: is-fragment first-fragment]",
            '"subtype": 8, "value": "65000:1"',
            '"subtype": 9, "value": 46',
            '"terminal": false, "sample": true',
        ),
        "exabgp": (
            "destination-ipv4 198.51.100.0/24 source-ipv4 203.0.113.0/25 protocol [ =udp =tcp ] port =53 "
            "destination-port [ >=1024&<=2048 =80 ] source-port >25 icmp-type =echo-request icmp-code =0 "
            "tcp-flags [ =syn !ack ] packet-length [ >100&<1500 ] dscp =46 fragment [ is-fragment first-fragment ]",
            "redirect:65000:1",
            "mark 46",
            "action sample",
        ),
    },
)
EVERY_TYPE_6 = Rule(
    2,
    "discard",
    (
        "destination 2001:db8::/32",
        "protocol =udp",
        "icmp-type =128",
        "tcp-flags =syn+ack",
        "dscp =10",
        "fragment last-fragment",
        "flow-label =5",
    ),
    {
        "bird": (
            "flow6 { dst 2001:db8::/32; next header 17; icmp type 128; tcp flags 0x12/0x12; dscp 10; "
            "fragment !!last_fragment; label 5; }",
            "(generic, 0x80060000, 0x0)",
        ),
        "frr": (
            "Destination Address 2001:db8::/32",
            "IP Protocol = 17",
            "ICMP Type = 128",
            "TCP Flags = 18",
            "DSCP field = 10",
            "Packet Fragment ∋ 8",
            "Packet Flow Label = 5",
            "FS:rate 0",
        ),
        "gobgp": (
            "[destination: 2001:db8::/32/0][protocol: ==udp][icmp-type: ==128][tcp-flags: =SA][dscp: ==10]"
            "[fragment: last-fragment][label: ==5]",
            '"rate": 0',
        ),
        "exabgp": (
            "destination-ipv6 2001:db8::/32/0 next-header =udp",
            "tcp-flags =syn+ack traffic-class =10 fragment last-fragment flow-label =5",
            "rate-limit:0",
        ),
    },
)
NOT_EQUAL = Rule(
    1,
    "discard",
    ("source-port !=25",),
    {"bird": ("flow4 { sport != 25; }",), "gobgp": ("[source-port: !=25]",), "exabgp": ("source-port !=25",)},
)
OFFSET = Rule(2, "discard", ("destination ::1:0:0/96/64",), {"bird": ("flow6 { dst ::1:0:0/96 offset 64; }",)})
RULES = [RATE, README, EVERY_TYPE, EVERY_TYPE_6, NOT_EQUAL, OFFSET]

ADDED = Rule(
    1,
    "mark 8",
    ("protocol =17", "port =123"),
    {
        "bird": ("flow4 { proto 17; port 123; }", "(generic, 0x80090000, 0x8)"),
        "frr": ("IP Protocol = 17", "Port = 123", "FS:marking 8"),
        "gobgp": ("[protocol: ==udp][port: ==123]", '"subtype": 9, "value": 8'),
        "exabgp": ("protocol =udp port =123", "mark 8"),
    },
)

OWN = {
    GoBgp.name: [
        "ipv4-flowspec match destination 10.1.0.0/16 protocol tcp destination-port ==80 then rate-limit 1000",
        "ipv6-flowspec match destination 2001:db8:1::/48 protocol udp then discard",
    ],
    ExaBgp.name: [
        "route a { match { destination 10.2.0.0/16; protocol tcp; destination-port [ >8080&<8088 =3128 ]; }"
        " then { rate-limit 9600; } }",
        "route b { match { destination 2001:db8:2::/48/0; next-header udp; } then { redirect 65000:7; } }",
    ],
}
"""What they originate, in their words; and below as ours shows it."""
EXPECTED = {
    GoBgp.name: {
        ("ipv4", "destination 10.1.0.0/16, protocol =6, destination-port =80", "traffic-rate 1000"),
        ("ipv6", "destination 2001:db8:1::/48, protocol =17", "traffic-rate 0"),
    },
    ExaBgp.name: {
        ("ipv4", "destination 10.2.0.0/16, protocol =6, destination-port >8080 <8088 | =3128", "traffic-rate 9600"),
        ("ipv6", "destination 2001:db8:2::/48, protocol =17", "redirect 65000:7"),
    },
}

each_with_flows = pytest.mark.parametrize("name", [kind.name for kind in PEERS if kind.has_flows])


class Field:
    """bgpbfd and every daemon there is, with the flow families where they can."""

    def __init__(self, lab: Lab, ibgp: bool, version: int) -> None:
        self.ours = Bgpbfd(lab.host("ours"), "")
        self.peers: dict[str, Peer] = {}
        self.links: dict[str, Link] = {}
        self.rules: dict[str, list[Rule]] = {}
        for number, kind in enumerate([kind for kind in PEERS if kind.missing() is None], 1):
            there = lab.host(kind.name)
            link = lab.link(self.ours.host, there)
            config = PeerConfig(
                local_as=OUR_AS if ibgp else 65000 + number,
                remote_as=OUR_AS,
                local_address=link.b4 if version == 4 else link.b6,
                remote_address=link.a4 if version == 4 else link.a6,
                router_id=link.b4,
                own4=link.b4,
                own6=link.b6,
                interface=link.interface,
                passive=True,
                flows=kind.has_flows,
                own_flows=OWN.get(kind.name, []),
            )
            self.peers[kind.name] = kind(there, config)
            self.links[kind.name] = link
            self.rules[kind.name] = [rule for rule in RULES if kind.name in rule.shown] or [RATE, README]
        self.write()

    def write(self) -> None:
        lines = ['router_id = "10.255.0.10"', f"default_as = {OUR_AS}", "poll_interval = 1", "bgp_socket = []"]
        for name, peer in self.peers.items():
            lines += [
                f'[[peers]]\nremote_ip = "{peer.config.local_address}"\nremote_as = {peer.config.local_as}',
                f'description = "{name}"\nfamilies = {FAMILIES}',
                *(rule.toml() for rule in self.rules[name]),
            ]
        self.ours.write("\n".join(lines))

    def start(self) -> None:
        with ThreadPoolExecutor(len(self.peers)) as pool:
            list(pool.map(lambda peer: peer.start(), self.peers.values()))
        self.ours.start()

    def peer(self, name: str) -> Peer:
        if name not in self.peers:
            pytest.skip(f"{name} is not installed")
        self.ours.wait_state(name, "established", 25)
        return self.peers[name]

    def wait_rules(self, name: str, rules: list[Rule]) -> None:
        """Until the daemon shows exactly these."""
        peer = self.peer(name)
        for version in (4, 6):
            wanted = [rule for rule in rules if rule.version == version]
            wait_until(
                lambda wanted=wanted, version=version: _are_shown(peer.flows(version), name, wanted),  # type: ignore[misc]
                10,
                f"{name} shows {[rule.matches for rule in wanted]}",
                [*peer.logs(), self.ours.log],
            )


def _are_shown(texts: list[str], name: str, rules: list[Rule]) -> bool:
    for rule in rules:
        if not any(all(piece in text for piece in rule.shown[name]) for text in texts):
            raise HarnessError(f"{rule.matches} is not in {texts}")
    if len(texts) != len(rules):
        raise HarnessError(f"{len(rules)} are expected, not {texts}")
    return True


@pytest.fixture(scope="module", params=[(False, 4), (True, 6)], ids=["ebgp-over-ipv4", "ibgp-over-ipv6"])
def flow_field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    ibgp, version = request.param
    with Lab(tmp_path_factory.mktemp("flowspec")) as lab:
        field = Field(lab, ibgp, version)
        field.start()
        yield field


@pytest.mark.feature("flow specifications")
@each_with_flows
def test_static_flows_arrive(flow_field: Field, name: str) -> None:
    flow_field.wait_rules(name, flow_field.rules[name])
    neighbor = flow_field.ours.neighbor(name)
    assert sorted(neighbor["families"]) == ["ipv4 flow", "ipv4 unicast", "ipv6 flow", "ipv6 unicast"]
    assert neighbor["flaps"] == 0


@pytest.mark.feature("flow specifications")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_their_flows_arrive_here(flow_field: Field, name: str) -> None:
    peer = flow_field.peer(name)

    def read() -> set[tuple[str, ...]]:
        flows = flow_field.ours.ctl("show", "flows", "learned", name)
        assert all(flow["valid"] and flow["source"] == peer.config.local_address for flow in flows), flows
        return {(flow["afi"], ", ".join(flow["matches"]), flow["action"]) for flow in flows}

    wait_until(lambda: read() == EXPECTED[name], 10, f"{name}'s flows", [*peer.logs(), flow_field.ours.log])
    assert flow_field.ours.neighbor(name)["update_faults"] == {}


@each_with_flows
def test_sighup_adds_and_removes_rules_and_keeps_the_session(flow_field: Field, name: str) -> None:
    peer = flow_field.peer(name)
    old = flow_field.rules[name]
    flow_field.wait_rules(name, old)
    before = flow_field.ours.neighbor(name)
    address = peer.config.remote_address
    source = f"{'ipv6' if ':' in address else 'ip'}.src == {address}"
    with Capture(flow_field.ours.host, flow_field.links[name].interface, "tcp port 179") as capture:
        try:
            flow_field.rules[name] = [*old[1:], ADDED]
            flow_field.write()
            flow_field.ours.hangup()
            flow_field.wait_rules(name, flow_field.rules[name])
            wait_until(lambda: len(_mp_families(capture, source)) >= 2, 5, "the UPDATEs in the capture", interval=0.2)
        finally:
            flow_field.rules[name] = old
            flow_field.write()
            flow_field.ours.hangup()
    # a second reader: both UPDATEs are of SAFI 133, and it finds nothing wrong with them
    assert set(_mp_families(capture, source)) == {("1", "133")}
    assert capture.packets(f"bgp && _ws.malformed && {source}", ["frame.number"]) == []
    flow_field.wait_rules(name, old)
    after = flow_field.ours.neighbor(name)
    assert after["connect_time"] == before["connect_time"]


def _mp_families(capture: Capture, source: str) -> list[tuple[str | None, str | None]]:
    """(AFI, SAFI) of every MP_REACH_NLRI and MP_UNREACH_NLRI of ``source``."""
    found = []
    for way in ("mp_reach_nlri", "mp_unreach_nlri"):
        fields = [f"bgp.update.path_attribute.{way}.afi", f"bgp.update.path_attribute.{way}.safi"]
        packets = capture.packets(f"bgp.type == 2 && {fields[0]} && {source}", fields)
        found += [(packet.first(fields[0]), packet.first(fields[1])) for packet in packets]
    return found


@each_with_flows
def test_a_flow_over_the_api_mid_session(flow_field: Field, name: str) -> None:
    flow_field.wait_rules(name, flow_field.rules[name])
    rule = ["ipv4", "-m", *ADDED.matches, "--peer", name]
    answer = flow_field.ours.ctl("advertise", "flow", *rule[:1], ADDED.action, *rule[1:])
    assert answer == {"afi": 1, "action": "mark 8", "matches": list(ADDED.matches), "peers": 1}
    flow_field.wait_rules(name, [*flow_field.rules[name], ADDED])
    shown = [flow for flow in flow_field.ours.ctl("show", "flows") if flow["source"] == "api"]
    assert [(flow["announced_to"], flow["wanted_by"]) for flow in shown] == [(1, 1)]
    assert flow_field.ours.ctl("withdraw", "flow", *rule)["peers"] == 1
    flow_field.wait_rules(name, flow_field.rules[name])


@pytest.mark.parametrize("name", [OpenBgpd.name])
def test_without_flow_families_the_session_is_up_and_the_reason_shown(flow_field: Field, name: str) -> None:
    peer = flow_field.peer(name)
    assert sorted(flow_field.ours.neighbor(name)["families"]) == ["ipv4 unicast", "ipv6 unicast"]
    address = peer.config.local_address

    def reasons() -> set[Any]:
        return {flow["reason"] for flow in flow_field.ours.ctl("show", "flows") if address in (flow["reason"] or "")}

    assert reasons() == {
        f"{address}: {family} was not negotiated with this peer" for family in ("ipv4 flow", "ipv6 flow")
    }


def test_nothing_went_wrong_inside(flow_field: Field) -> None:
    assert flow_field.ours.alive
    assert "Traceback" not in flow_field.ours.log.read_text()
