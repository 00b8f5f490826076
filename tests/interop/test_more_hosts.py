"""The host that it runs on: without root and on other ports, and beside a second daemon and BIRD."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .harness.lab import Host, Lab
from .harness.ours import Bgpbfd
from .harness.peers import Bfd, Bird, Frr, GoBgp, PeerConfig, Route
from .harness.process import wait_until
from .more import Site, Spec, bfd_line, edited, replaced, up, vtysh, wait_bfd, wait_equal

pytestmark = pytest.mark.interop

TIMERS = Bfd(interval_ms=150, multiplier=4)
OUR_PORT, THEIR_PORT = 1790, 1791
ROUTE = Route("198.51.100.0/24", med=3)


class Unprivileged(Bgpbfd):
    """Without any capability. Still as the owner of the files: the interpreter may be in root's own directory."""

    def start(self) -> None:
        program = str(Path(sys.executable).parent / "bgpbfd")
        drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        self.process = self.host.spawn([*drop, program, "run", str(self.config)], "bgpbfd.log")
        wait_until(lambda: self.ctl("show", "version"), 15, "bgpbfd answers bgpbfdctl", [self.log])


def _bird_other_port(text: str, config: PeerConfig) -> str:
    return replaced(
        text, f"neighbor {config.remote_address} as", f"neighbor {config.remote_address} port {OUR_PORT} as"
    )


def _gobgp_other_port(text: str, _: PeerConfig) -> str:
    return replaced(text, "[global.config]\n", f"[global.config]\n  port = {THEIR_PORT}\n")


@pytest.fixture(scope="module")
def unprivileged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv (Debian package util-linux)")
    with Lab(tmp_path_factory.mktemp("unprivileged")) as lab:
        specs = [
            Spec(edited(Bird, _bird_other_port), dial="they", bfd=TIMERS, announced=[ROUTE]),
            Spec(
                edited(GoBgp, _gobgp_other_port),
                dial="we",
                version=6,
                announced=[ROUTE],
                ours=[f"dest_port = {THEIR_PORT}"],
            ),
        ]
        site = Site(lab, specs, top=[f'bgp_socket = "[::]:{OUR_PORT}"'], daemon=lambda host: Unprivileged(host, ""))
        site.start()
        yield site


@pytest.mark.parametrize("name", ["bird", "gobgp"])
def test_other_ports_need_no_privilege(unprivileged: Site, name: str) -> None:
    site = unprivileged
    arm = up(site, name)
    process = site.ours.process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    local, remote = site.ours.neighbor(arm.address)["tcp_connection"]
    if name == "bird":
        assert local.endswith(f":{OUR_PORT}")
    else:
        assert remote.endswith(f":{THEIR_PORT}")
    wait_equal(lambda: [route.prefix for route in arm.peer.routes()], [ROUTE.prefix])


def test_port_179_needs_one(unprivileged: Site) -> None:
    """And says so: the text names what is missing, and the daemon goes on without."""
    site = unprivileged
    up(site, "bird")
    site.top = [f'bgp_socket = ["[::]:{OUR_PORT}", "127.0.0.1:179"]']
    site.reload()
    wait_equal(lambda: "port 179 needs CAP_NET_BIND_SERVICE" in site.ours.log.read_text(), True)
    assert site.ours.state(site.peer_id("bird")) == "established"
    site.top = [f'bgp_socket = "[::]:{OUR_PORT}"']
    site.reload()


def test_bfd_needs_no_privilege(unprivileged: Site) -> None:
    up(unprivileged, "bird")
    wait_bfd(unprivileged, "bird")
    bfd = unprivileged.ours.bfd(unprivileged.peer_id("bird"))
    assert bfd["fault"] is None
    assert bfd["detection_timeout"] == TIMERS.interval_ms * TIMERS.multiplier


# -- three BFD speakers on one host ------------------------------------------------------------------------

FIRST, SECOND, BIRD = "10.77.1.11", "10.77.1.12", "10.77.1.13"
OWN_AS = {FIRST: 65011, SECOND: 65012, BIRD: 65013}


class Shared:
    """Two of ours and BIRD on one host, each on an address of its own; FRR on the other end of the cable."""

    def __init__(self, lab: Lab) -> None:
        self.host, self.there = lab.host("ours"), lab.host("frr")
        self.link = lab.link(self.host, self.there)
        for address in OWN_AS:
            self.host.add_address(f"{address}/24", self.link.interface)
        self.daemons = {address: self._daemon(address) for address in (FIRST, SECOND)}
        self.bird = edited(Bird, _strict_bind)(self.host, self._config(65013, 65001, BIRD, self.link.b4, self.link.a4))
        config = self._config(65001, OWN_AS[FIRST], self.link.b4, FIRST, self.link.b4)
        self.frr = edited(Frr, _three_neighbors)(self.there, config)

    def _config(self, local_as: int, remote_as: int, local: str, remote: str, router_id: str) -> PeerConfig:
        here = (self.link.b4, self.link.b6) if local == self.link.b4 else (local, self.link.a6)
        return PeerConfig(
            local_as, remote_as, local, remote, router_id, *here, self.link.interface, bfd=TIMERS, hold_time=60
        )

    def _daemon(self, address: str) -> Bgpbfd:
        daemon = _Named(self.host, address)
        daemon.write(
            "\n".join(
                [
                    f'router_id = "{address}"',
                    f"default_as = {OWN_AS[address]}",
                    f'bgp_socket = "{address}:179"',
                    "poll_interval = 1",
                    "[bfd]",
                    f'bind = ["{address}"]',
                    "[[peers]]",
                    f'remote_ip = "{self.link.b4}"',
                    "remote_as = 65001",
                    f'local_ip = "{address}"',
                    bfd_line(TIMERS),
                    "",
                ]
            )
        )
        return daemon

    def start(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            starts = [*(daemon.start for daemon in self.daemons.values()), self.bird.start, self.frr.start]
            for started in [pool.submit(start) for start in starts]:
                started.result()

    def bfd_seen_by_frr(self) -> dict[str, str]:
        peers = json.loads(vtysh(self.frr, "show bfd peers json", daemon="bfdd"))
        return {entry["peer"]: entry["status"] for entry in peers}

    def bgp_seen_by_frr(self) -> dict[str, str]:
        neighbors = json.loads(vtysh(self.frr, "show bgp neighbors json"))
        return {address: str(entry["bgpState"]).lower() for address, entry in neighbors.items()}


class _Named(Bgpbfd):
    """Several daemons in one namespace need files of their own."""

    def __init__(self, host: Host, address: str) -> None:
        self.label = address
        super().__init__(host, "")
        self.config = host.scratch / f"{address}.toml"
        self.socket = host.scratch / f"{address}.sock"


def _strict_bind(text: str, _: PeerConfig) -> str:
    """Without it BIRD takes the BFD port on every address of the host."""
    return replaced(text, "protocol bfd {", "protocol bfd { strict bind yes;")


def _three_neighbors(text: str, config: PeerConfig) -> str:
    lines = []
    for line in text.splitlines():
        lines.append(line)
        if config.remote_address in line:
            for address in (SECOND, BIRD):
                other = line.replace(config.remote_address, address)
                lines.append(other.replace(f"remote-as {config.remote_as}", f"remote-as {OWN_AS[address]}"))
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    for kind in (Bird, Frr):
        if reason := kind.missing():
            pytest.skip(reason)
    with Lab(tmp_path_factory.mktemp("shared")) as lab:
        shared = Shared(lab)
        shared.start()
        yield shared


def test_two_daemons_and_bird_live_on_one_host(shared: Shared) -> None:
    logs = [*shared.host.log_files(), *shared.there.log_files()]
    every = dict.fromkeys(OWN_AS, "up")
    wait_until(lambda: shared.bfd_seen_by_frr() == every, 20, "BFD Up with all three", logs)
    wait_until(lambda: set(shared.bgp_seen_by_frr().values()) == {"established"}, 20, "BGP with all three", logs)
    for address, daemon in shared.daemons.items():
        view = daemon.bfd(shared.link.b4)
        assert (view["status"], view["local"]) == ("up", address)
    sockets = shared.host.run("ss", "-Hlun", "sport = :3784").splitlines()
    bound = sorted(line.split()[3].rpartition(":")[0].partition("%")[0] for line in sockets)
    assert {FIRST, SECOND, BIRD} <= set(bound)


def test_the_end_of_one_is_no_matter_to_the_others(shared: Shared) -> None:
    others = {SECOND: "up", BIRD: "up"}
    wait_until(lambda: shared.bfd_seen_by_frr() == {FIRST: "up", **others}, 20, "BFD Up with all three")
    since = shared.daemons[SECOND].neighbor(shared.link.b4)["connect_time"]
    shared.daemons[FIRST].kill9()
    wait_until(lambda: shared.bfd_seen_by_frr().get(FIRST) != "up", 5, "the first is gone")
    assert {address: shared.bfd_seen_by_frr()[address] for address in others} == others
    assert shared.daemons[SECOND].neighbor(shared.link.b4)["connect_time"] == since
    shared.daemons[FIRST].start()
    wait_until(lambda: shared.bfd_seen_by_frr() == {FIRST: "up", **others}, 20, "BFD Up with all three")
