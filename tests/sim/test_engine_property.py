"""Whatever happens to a network of four engines: at rest it is what a freshly started one comes to.

A — B — C — D, and A — C, B — D: B and C are of one AS, the others of one each. All pass on what they learn, under
policies that change; some restart gracefully, some take or send several paths a prefix, B and C may reflect. Policies
here change no preferences: with these, BGP has networks with two states at rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpbfd.config.model import StaticRoute
from bgpbfd.core import MILLISECOND, SECOND, Prefix
from bgpbfd.wire.attributes import PathAttributes
from tests.sim.engine_world import Host, World

A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
ASNS = {A: 65001, B: 65010, C: 65010, D: 65004}
PAIRS = [(A, B), (B, C), (C, D), (A, C), (B, D)]
PREFIXES = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/48")
RESTART_TIME = 6
TERMS = (
    '{ match = { prefixes = ["192.0.2.0/24"] }, action = "reject" }',
    '{ match = { as_path = ["_65001_"] }, prepend = 1, action = "next" }',
    '{ match = { prefixes = ["198.51.100.0/24"] }, add = { communities = ["65000:7"] }, action = "next" }',
    '{ match = { source = ["peer"] }, set = { multi_exit_disc = 5 }, action = "next" }',
)


@dataclass
class Settings:
    """What a host is configured to be, and what its operator has told it since its start."""

    restart: dict[str, bool]
    add_path: dict[str, str]
    client: bool
    terms: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    imports: dict[str, str] = field(default_factory=dict)
    api: set[str] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)


def neighbors_of(address: str) -> list[str]:
    return [other for pair in PAIRS for other in pair if address in pair and other != address]


def toml(address: str, wanted: Settings) -> str:
    text = f'router_id = "{address}"\ndefault_as = {ASNS[address]}\nbgp_socket = "[::]:179"\npoll_interval = 1\n'
    text += '[policies.all]\ndefault = "accept"\n'
    text += f'[policies.some]\ndefault = "accept"\nterms = [{", ".join(wanted.terms)}]\n'
    for prefix in wanted.static:
        text += f'[[static_routes]]\nprefix = "{prefix}"\nnext_hop = "self"\n'
    for other in neighbors_of(address):
        text += f'[[peers]]\nremote_ip = "{other}"\nremote_as = {ASNS[other]}\nhold_timer = 9\n'
        text += f'advertise_sources = ["api", "config", "peer"]\nadd_path = "{wanted.add_path[other]}"\n'
        text += f'import_policy = "{wanted.imports.get(other, "all")}"\nexport_policy = "some"\n'
        if wanted.restart[other]:
            text += f"graceful_restart = {{ enabled = true, restart_time = {RESTART_TIME} }}\n"
        if wanted.client and ASNS[other] == ASNS[address]:
            text += "route_reflector_client = true\n"
    return text


def some_settings(rng: Random, address: str) -> Settings:
    others = neighbors_of(address)
    return Settings(
        restart={other: rng.random() < 0.6 for other in others},
        add_path={other: rng.choice(("off", "receive", "send", "both")) for other in others},
        client=rng.random() < 0.5,
        terms=rng.sample(TERMS, rng.randrange(3)),
        static=rng.sample(PREFIXES, rng.randrange(1, 4)),
    )


class Network:
    def __init__(self, wanted: dict[str, Settings]) -> None:
        self.world = World()
        # An IPv6 address each, for the next hops of IPv6 routes over IPv4 sessions.
        self.hosts = {a: self.world.host(a, toml(a, s), ipv6=f"2001:db8::{a[-1]}") for a, s in wanted.items()}
        self.wanted = wanted
        self.log: list[tuple[float, str, str]] = []
        self.touched: set[frozenset[str]] = set()

    def up(self, address: str) -> bool:
        return address in self.world.hosts

    def say(self, address: str) -> None:
        """Its operator's words."""
        for other in self.wanted[address].disabled:
            self.hosts[address].operations.peer_disable(other)
        for prefix in self.wanted[address].api:
            self.advertise(address, prefix)

    def advertise(self, address: str, prefix: str) -> None:
        route = StaticRoute(Prefix.parse(prefix), PathAttributes(med=9))
        self.hosts[address].operations.advertise(route)

    def touch(self, *pairs: frozenset[str]) -> None:
        self.touched.update(pairs)

    def happen(self, rng: Random) -> None:
        """One event."""
        address = rng.choice(sorted(self.hosts))
        host, wanted = self.hosts[address], self.wanted[address]
        other = rng.choice(neighbors_of(address))
        pair = frozenset({address, other})
        what = rng.choice(("crash", "start", "cut", "heal", "policy", "import", "static", "reset", "disable", "enable",
                           "refresh", "advertise", "withdraw", "advertise", "withdraw"))  # fmt: skip
        self.log.append((self.world.now / SECOND, what, f"{address} {other}"))
        if what == "start":
            self.start_all()
        elif what == "cut":
            self.world.cut.add(pair)
            self.touch(pair)
        elif what == "heal":
            self.heal()
        elif not self.up(address):
            return
        elif what == "crash":
            self.world.crash(host)
            wanted.api.clear()
            wanted.disabled.clear()
            self.touch(*(frozenset({address, one}) for one in neighbors_of(address)))
        elif what in {"policy", "import", "static"}:
            if what == "policy":
                wanted.terms = rng.sample(TERMS, rng.randrange(4))
            elif what == "import":
                wanted.imports[other] = rng.choice(("all", "some"))
            else:
                wanted.static = rng.sample(PREFIXES, rng.randrange(4))
            host.load(toml(address, wanted))
        elif what == "reset" and other not in wanted.disabled:
            host.operations.peer_reset(other)
            self.touch(pair)
        elif what == "disable":
            host.operations.peer_disable(other)
            wanted.disabled.add(other)
            self.touch(pair)
        elif what == "enable":
            host.operations.peer_enable(other)
            wanted.disabled.discard(other)
        elif what == "refresh" and host.state(other) == "established":
            host.operations.peer_refresh(other)
        elif what == "advertise":
            prefix = rng.choice(PREFIXES)
            self.advertise(address, prefix)
            wanted.api.add(prefix)
        elif what == "withdraw" and wanted.api:
            prefix = rng.choice(sorted(wanted.api))
            host.operations.withdraw(prefix)
            wanted.api.discard(prefix)

    def start_all(self) -> None:
        for address, host in self.hosts.items():
            if not self.up(address):
                self.world.start(host, toml(address, self.wanted[address]))

    def heal(self) -> None:
        """What was lost meanwhile, TCP would have sent again: so no connection lives on without it."""
        for one, two in map(sorted, self.world.cut):
            for address, other in ((one, two), (two, one)):
                host = self.hosts[address]
                for end in [end for end, (_, remote) in host.links.items() if remote == other]:
                    link, _ = host.links.pop(end)
                    link.ends.pop(address, None)
                    host.engine.connection_failed(*end, "Connection timed out")
        self.world.cut.clear()

    def rest(self) -> None:
        self.heal()
        self.start_all()
        self.world.run(60 * SECOND)

    def picture(self) -> dict[str, object]:
        return {address: picture(host) for address, host in self.hosts.items()}


def picture(host: Host) -> dict[str, object]:
    return {
        "established": {n.peer: n.state == "established" for n in host.operations.neighbors()},
        "learned": {
            (str(r.prefix), r.source, r.path_id): (r.valid, r.reason, r.why, r.stale, r.attributes)
            for r in host.operations.routes_learned()
        },
        "sent": {
            (r.peer, str(r.prefix), r.path_id): (r.source, r.attributes) for r in host.operations.routes_advertised()
        },
        "timers": sorted(key for key in host.armed if not key.startswith("flow")),
        "stale": [n.peer for n in host.operations.neighbors() if n.stale_until is not None],
        "internal errors": host.events("internal-error"),
    }


def live(rng: Random) -> None:
    network = Network({address: some_settings(rng, address) for address in ASNS})
    network.world.run(rng.choice((0, 5)) * SECOND)
    for _ in range(rng.randrange(1, 25)):
        network.happen(rng)
        network.world.run(rng.choice((0, 1, 30, 300, 2000, 8000)) * MILLISECOND)
    network.rest()

    fresh = Network(network.wanted)
    for address in fresh.hosts:
        fresh.say(address)
    fresh.rest()
    for address in ASNS:
        found, expected = network.picture()[address], fresh.picture()[address]
        assert found == expected, f"{address} after {network.log}"
    for one, two in (*PAIRS, *((two, one) for one, two in PAIRS)):
        if frozenset({one, two}) not in network.touched:
            assert network.hosts[one].operations.neighbor(two).flaps == 0, f"{one} {two} after {network.log}"


@settings(max_examples=60, deadline=None)
@given(rng=st.randoms(use_true_random=True))
def test_after_any_life_a_network_rests_where_a_fresh_one_does(rng: Random) -> None:
    live(rng)


def test_the_network_of_this_test_passes_routes_along() -> None:
    rng = Random(1)
    wanted = {address: some_settings(rng, address) for address in ASNS}
    for entry in wanted.values():
        entry.terms, entry.static = [], []
    wanted[A].static = ["192.0.2.0/24", "2001:db8:1::/48"]
    network = Network(wanted)
    network.rest()
    for _, address in pairwise((A, B, C, D)):
        assert network.hosts[address].learned() == {"192.0.2.0/24", "2001:db8:1::/48"}
