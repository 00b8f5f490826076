"""MD5, GTSM and multihop with real daemons, and what the packets look like: TTL, DSCP, the TCP option."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .harness.capture import Capture
from .harness.lab import Lab, Link
from .harness.peers import PEERS, Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Peer, PeerConfig, Route
from .harness.process import Process, wait_until
from .more import Site, Spec, birdc, edited, faulty, logs_of, replaced, since, source, up, vtysh, wait_equal

pytestmark = pytest.mark.interop

KEY, OTHER_KEY = "correct horse", "battery staple"  # a space is no reason to cut it short
SHORT = "k3y"
OURS, THEIRS = Route("198.51.100.0/24", med=3), Route("203.0.113.0/24", med=3)
OURS6, THEIRS6 = Route("2001:db8:a::/48", med=3), Route("2001:db8:b::/48", med=3)
TCP_MD5_OPTION = "19"
CS6 = "48"
NAMES = [kind.name for kind in PEERS]
FAR = ["bird-far", "frr-far", "gobgp-far", "exabgp-far", "openbgpd-far"]
NETWORKS = ["gobgp-net", "bird-net6"]
NEVER = ["bird-wrong", "frr-unsigned", "gobgp-near"]
RAW_AS = 65200
FROM_FILE = "openbgpd"

# Its neighbor's address, the AS number and both keys come as arguments; SIGUSR1 changes the key of the live connection.
RAW_SPEAKER = """
import select, signal, socket, struct, sys, time
remote, local, asn, *keys = sys.argv[1:]
def sign(key):
    address = struct.pack("!2xH4s120x", 0, socket.inet_aton(remote))
    address = struct.pack("=H", socket.AF_INET) + address[2:]
    s.setsockopt(socket.IPPROTO_TCP, 14, address + struct.pack("=BBHi80s", 0, 0, len(key), 0, key.encode()))
    print("key", keys.index(key), flush=True)
while True:
    s = socket.socket()
    s.settimeout(2)
    sign(keys[0])
    s.bind((local, 0))
    try:
        s.connect((remote, 179))
        break
    except OSError as error:
        print(error, flush=True)
        s.close()
signal.signal(signal.SIGUSR1, lambda *_: sign(keys[1]))
mark = b"\\xff" * 16
s.sendall(mark + struct.pack("!HBBHH4sB", 29, 1, 4, int(asn), 9, socket.inet_aton(local), 0))
s.sendall(mark + b"\\x00\\x13\\x04")
while True:
    if select.select([s], [], [], 1.0)[0] and not s.recv(65536):
        sys.exit("closed")
    s.sendall(mark + b"\\x00\\x13\\x04")
"""


def _md5(kind: type[Peer], key: str, gtsm: bool = True, hops: int = 1) -> type[Peer]:
    """The daemon with a key, and with TTL security where ``gtsm``."""

    def edit(text: str, config: PeerConfig) -> str:
        remote = config.remote_address
        if issubclass(kind, Bird):
            secure = f" ttl security on;{f' multihop {hops};' if hops > 1 else ''}" if gtsm else ""
            password = f' password "{key}";' if key else ""
            return replaced(text, "  direct;", f"  {'' if hops > 1 else 'direct;'}{secure}{password}")
        if issubclass(kind, Frr):
            lines = f" neighbor {remote} password {key}\n" if key else ""
            lines += f" neighbor {remote} ttl-security hops {hops}\n" if gtsm else ""
            return replaced(text, " address-family ipv4", f"{lines} address-family ipv4")
        if issubclass(kind, GoBgp):
            if key:
                text = replaced(text, "  [neighbors.config]\n", f'  [neighbors.config]\n    auth-password = "{key}"\n')
            return text + ("  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n" if gtsm else "")
        if issubclass(kind, OpenBgpd):
            # Its multihop and ttl-security exclude each other.
            text = re.sub(" *multihop 2\n", "", text) if gtsm else text
            lines = f'  tcp md5sig password "{key}"\n' + ("  ttl-security yes\n" if gtsm else "")
            return replaced(text, "  announce IPv4 unicast", f"{lines}  announce IPv4 unicast")
        lines = f'  md5-password "{key}";\n' + ("  outgoing-ttl 255;\n  incoming-ttl 255;\n" if gtsm else "")
        return replaced(text, "  family {", f"{lines}  family {{")

    return edited(kind, edit)


def _key(kind: type[Peer]) -> str:
    """FRR's configuration language ends a password at a space."""
    return SHORT if issubclass(kind, Frr) else KEY


def _listed(kind: type[Peer], *more: str) -> list[str]:
    return [f'md5_password = "{_key(kind)}"', *more]


def _network(network: str, asn: int) -> list[str]:
    return ["[[peers]]", f'remote_ip = "{network}"', f"remote_as = {asn}", f'md5_password = "{KEY}"']


@dataclass(slots=True)
class World:
    site: Site
    captures: dict[str, Capture]
    raw: Process
    raw_link: Link
    raw_key: str = KEY


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Each daemon twice, with MD5 and GTSM: dialling us over IPv4, and over IPv6 dialled by us where it can be."""
    with Lab(tmp_path_factory.mktemp("transport")) as lab:
        specs = [
            *[Spec(_md5(kind, _key(kind)), dial="they", ours=_listed(kind, "ttl_security = 1")) for kind in PEERS],
            *[
                Spec(
                    _md5(kind, _key(kind)),
                    f"{kind.name}6",
                    version=6,
                    dial="they" if kind in {ExaBgp, OpenBgpd} else "we",  # neither takes a signed connection in
                    ours=_listed(kind, "ttl_security = 1"),
                )
                for kind in PEERS
            ],
            Spec(edited(Bird, _multihop), "bird-far", dial="we", routed=True, ours=["multihop = 2"]),
            Spec(_md5(Frr, "", hops=2), "frr-far", dial="they", routed=True, ours=["ttl_security = 2"]),
            Spec(edited(GoBgp, _gobgp_multihop), "gobgp-far", dial="we", routed=True, ours=["multihop = 2"]),
            Spec(ExaBgp, "exabgp-far", dial="we", routed=True, ours=["multihop = 3"]),
            Spec(OpenBgpd, "openbgpd-far", dial="they", routed=True, ours=["multihop = 2"]),
            Spec(_md5(GoBgp, KEY, gtsm=False), "gobgp-net", listed=False, asn=65301),
            Spec(_md5(Bird, KEY, gtsm=False), "bird-net6", version=6, listed=False, asn=65302),
            Spec(_md5(Bird, OTHER_KEY, gtsm=False), "bird-wrong", ours=[f'md5_password = "{KEY}"']),
            Spec(_md5(Frr, "", gtsm=False), "frr-unsigned", ours=[f'md5_password = "{KEY}"']),
            Spec(GoBgp, "gobgp-near", ours=["ttl_security = 1"]),
        ]
        for spec in specs:
            spec.announced, spec.routes = ([OURS], [THEIRS]) if spec.version == 4 else ([OURS6], [THEIRS6])
        raw_host = lab.host("raw")
        site = Site(lab, specs)
        secret = site.ours.host.scratch / "secret"  # as good as the password itself
        secret.write_text(f"{KEY}\n")
        secret.chmod(0o600)
        site.specs[FROM_FILE].ours[0] = f'md5_password_file = "{secret}"'
        raw_link = lab.link(site.ours.host, raw_host)
        world = World(site, {}, _raw(raw_link), raw_link)
        _write(world)
        site.start()
        yield world


def _multihop(text: str, _: PeerConfig) -> str:
    return replaced(text, "  direct;", "  multihop 2;")


def _gobgp_multihop(text: str, _: PeerConfig) -> str:
    return text + "  [neighbors.ebgp-multihop.config]\n    enabled = true\n    multihop-ttl = 2\n"


def _raw(link: Link) -> Process:
    argv = [sys.executable, "-c", RAW_SPEAKER, link.a4, link.b4, str(RAW_AS), KEY, OTHER_KEY]
    return link.b.spawn(argv, "raw.log")


def _write(world: World) -> None:
    site = world.site
    net, net6 = site.arms["gobgp-net"].link, site.arms["bird-net6"].link
    site.top = [
        *_network(f"10.77.{net.number}.0/24", 65301),
        *_network(f"fd77:{net6.number}::/64", 65302),
        "[[peers]]",
        f'remote_ip = "{world.raw_link.b4}"',
        f"remote_as = {RAW_AS}",
        f'md5_password = "{world.raw_key}"',
        "passive = true",
        'families = ["ipv4 unicast"]',
    ]
    site.write()


each_peer = pytest.mark.parametrize("name", [*NAMES, *[f"{name}6" for name in NAMES]])


@pytest.mark.feature("MD5", "GTSM")
@each_peer
def test_rfc2385_rfc5082_the_session_is_up_and_routes_pass(world: World, name: str) -> None:
    arm = up(world.site, name)
    wait_equal(lambda: [route.prefix for route in arm.peer.routes()], [route.prefix for route in arm.announced])
    wait_equal(lambda: [route.prefix for route in arm.learned()], [route.prefix for route in arm.peer.config.routes])


@pytest.fixture(scope="module")
def packets(world: World) -> dict[str, Capture]:
    """What goes over each link when the session begins anew."""
    names = [name for name in world.site.working() if name not in {*NEVER, *NETWORKS}]
    world.site.wait_up(names)
    captures = world.site.captures()
    for name in names:
        world.site.ours.ctl("neighbor", world.site.peer_id(name), "reset")
    world.site.wait_up(names, timeout=40)
    for capture in captures.values():
        capture.stop()
    return captures


_SEEN = ["ip.ttl", "ipv6.hlim", "ip.dsfield.dscp", "ipv6.tclass.dscp", "tcp.option_kind", "tcp.len"]


@each_peer
def test_what_we_send_is_signed_and_has_ttl_255_and_cs6(world: World, packets: dict[str, Capture], name: str) -> None:
    """RFC 5082 §3: 255, in the SYN-ACK too. RFC 2385 §2: the option is in every segment. CS6: RFC 4594 §3.1.

    What the kernel answers for a connection that is no more has no socket's TTL, and is left out.
    """
    arm = world.site.arm(name)
    ours = f"{source(arm.our_address)} && tcp.flags.reset == 0 && (tcp.len > 0 || tcp.flags.syn == 1)"
    sent = [packet.fields for packet in packets[name].packets(ours, _SEEN)]
    assert len(sent) > 4
    assert {fields["ip.ttl"] or fields["ipv6.hlim"] for fields in sent} == {("255",)}
    assert [fields for fields in sent if TCP_MD5_OPTION not in fields["tcp.option_kind"]] == []
    carrying = [fields for fields in sent if fields["tcp.len"] != ("0",)]
    assert {fields["ip.dsfield.dscp"] or fields["ipv6.tclass.dscp"] for fields in carrying} == {(CS6,)}
    assert faulty(packets[name], arm.our_address) == []


@pytest.mark.feature("multihop")
@pytest.mark.parametrize("name", FAR)
def test_a_session_over_a_router(world: World, name: str) -> None:
    arm = up(world.site, name)
    wait_equal(lambda: [route.prefix for route in arm.peer.routes()], [OURS.prefix])
    wait_equal(lambda: [route.prefix for route in arm.learned()], [THEIRS.prefix])


@pytest.mark.parametrize(
    ("name", "ttl"),
    [("bird-far", "2"), ("frr-far", "255"), ("gobgp-far", "2"), ("exabgp-far", "3"), ("openbgpd-far", "2")],
)
def test_the_ttl_of_a_session_over_a_router(world: World, packets: dict[str, Capture], name: str, ttl: str) -> None:
    """``multihop`` is what we send with; ``ttl_security`` is what the other may have lost (RFC 5082 §3)."""
    arm = world.site.arm(name)
    sent = packets[name].packets(f"tcp && bgp && {source(arm.our_address)}", ["ip.ttl", "ip.dsfield.dscp"])
    assert {packet.first("ip.ttl") for packet in sent} == {ttl}
    assert {packet.first("ip.dsfield.dscp") for packet in sent} == {CS6}
    received = packets[name].packets(f"tcp && {source(arm.address)}", ["ip.ttl"])
    assert {int(packet.first("ip.ttl") or 0) for packet in received} <= {254, *range(1, 65)}


@pytest.mark.feature("MD5")
@pytest.mark.parametrize("name", NETWORKS)
def test_neighbors_of_a_network_share_its_key(world: World, name: str) -> None:
    arm = up(world.site, name)
    neighbor = world.site.ours.neighbor(arm.address)
    assert neighbor["dynamic"] is True
    wait_equal(lambda: [route.prefix for route in arm.learned()], [route.prefix for route in arm.peer.config.routes])


@pytest.mark.parametrize("name", NEVER)
def test_the_wrong_key_none_and_the_wrong_ttl_get_nowhere(world: World, packets: dict[str, Capture], name: str) -> None:
    """All this while the others came up twice."""
    arm = world.site.arm(name)
    assert world.site.ours.neighbor(arm.address)["connect_time"] is None
    assert arm.peer.session_state() != "established"
    both = packets[name].packets("tcp", ["tcp.len"])
    assert both, "nobody even tried"
    if name != "gobgp-near":  # a SYN passes a listener that other neighbors share; with a key not even that counts
        assert {packet.first("tcp.len") for packet in both} == {"0"}


def _restart_time(world: World) -> dict[str, object]:
    names = [name for name in world.site.working() if name not in NEVER]
    world.site.wait_up(names)
    return since(world.site, names)


def test_rfc2385_4_5_a_key_is_changed_live_and_the_session_stays(world: World) -> None:
    """Ours by a reload, the other end's on its live socket; nobody else notices."""
    site, address = world.site, world.raw_link.b4
    site.ours.wait_state(address, "established", 30)
    before = site.ours.neighbor(address)
    others = _restart_time(world)
    world.raw_key = OTHER_KEY
    _write(world)
    site.ours.ctl("reload")
    world.raw.send_signal(signal.SIGUSR1)
    with Capture(site.ours.host, world.raw_link.interface, "tcp port 179") as capture:
        wait_until(
            lambda: (
                site.ours.neighbor(address)["received_by_type"]["keepalive"]
                >= before["received_by_type"]["keepalive"] + 4
            ),
            10,
            "KEEPALIVEs under the new key",
            logs_of(site),
        )
        wait_until(lambda: capture.packets(f"tcp && {source(world.raw_link.a4)}", ["tcp.option_kind"]), 5, "packets")
    after = site.ours.neighbor(address)
    assert (after["state"], after["connect_time"]) == ("established", before["connect_time"])
    assert since(site, others) == others
    assert "key 1" in (world.raw_link.b.logs / "raw.log").read_text()


def _change_bird(peer: Peer) -> None:
    path = peer.directory / "bird.conf"
    path.write_text(replaced(path.read_text(), f'password "{KEY}"', f'password "{OTHER_KEY}"'))
    birdc(peer, "configure")


def _change_frr(peer: Peer) -> None:
    asn, remote = peer.config.local_as, peer.config.remote_address
    vtysh(peer, "configure terminal", f"router bgp {asn}", f"neighbor {remote} password {SHORT}2")


@pytest.mark.parametrize(
    ("name", "key", "change"), [("bird", OTHER_KEY, _change_bird), ("frr", f"{SHORT}2", _change_frr)]
)
def test_a_daemon_that_resets_for_its_new_key_comes_back_with_it(
    world: World, name: str, key: str, change: object
) -> None:
    """It is changed first: what ends its session is signed with the old key, which we must still know."""
    site = world.site
    up(site, name)
    before = _restart_time(world)
    others = {other: value for other, value in before.items() if other != name}
    assert callable(change)
    change(site.arm(name).peer)
    site.ours.wait_state(site.peer_id(name), "active", 5)
    site.specs[name].ours[0] = f'md5_password = "{key}"'
    _write(world)
    site.ours.ctl("reload")
    wait_until(
        lambda: (
            site.ours.neighbor(site.peer_id(name))["connect_time"] != before[name]
            and site.ours.state(site.peer_id(name)) == "established"
        ),
        20,
        f"{name} is back",
        site.arm(name).logs(),
    )
    up(site, name)
    assert since(site, others) == others


def test_zz_no_key_was_told_and_nothing_went_wrong_inside(world: World) -> None:
    text = world.site.ours.log.read_text()
    shown = str(world.site.ours.ctl("show", "config")) + str(world.site.ours.ctl("show", "neighbors"))
    for key in (KEY, OTHER_KEY):
        assert key not in text
        assert key not in shown
    assert "Traceback" not in text
