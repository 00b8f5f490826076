"""BFD sessions by path and their clients: RFC 5882 §2, RFC 9468."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bgpbfd.bfd import protocol as bfd
from bgpbfd.config.model import BfdGlobal, BfdPath, BfdSettings, BfdStandalone, BfdUnsolicited, Config
from bgpbfd.control.bfd_sessions import LATE_QUIET, UNSOLICITED_GRACE, BfdSessions, client_kinds, combined
from bgpbfd.control.recorder import Recorder
from bgpbfd.core import SECOND

PATH = BfdPath("192.0.2.1", "192.0.2.10")
FAST = BfdSettings(transmit_interval_ms=50, receive_interval_ms=50, detect_multiplier=3)
SLOW = BfdSettings(transmit_interval_ms=300, receive_interval_ms=20, detect_multiplier=5)
NETWORKS = BfdUnsolicited(networks=("192.0.2.0/24", "2001:db8::/64"), max_sessions=2)


@dataclass
class World:
    """The engine and the worker, as far as the sessions need them."""

    config: Config = field(default_factory=lambda: Config(router_id="192.0.2.10", default_as=65010))
    time: int = SECOND
    recorder: Recorder = field(default_factory=Recorder)
    commands: list[object] = field(default_factory=list)
    armed: dict[str, tuple[int, Callable[[], None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stopping = False
        self.neighbors: dict[str, object] = {}
        self.clock = self.timers = self.bfd = self
        self.sessions = BfdSessions(self)  # type: ignore[arg-type]

    def now(self) -> int:
        return self.time

    def wall(self, at: int) -> float:
        return at / 1e6

    def arm(self, key: str, deadline: int | None, callback: Callable[[], None]) -> None:
        self.armed.pop(key, None)
        if deadline is not None:
            self.armed[key] = deadline, callback

    def soon(self, callback: Callable[[], None]) -> None:
        callback()

    def run(self, duration: int) -> None:
        self.time += duration
        for key, (deadline, callback) in list(self.armed.items()):
            if deadline <= self.time:
                del self.armed[key]
                callback()

    def bind(self, addresses: list[str]) -> None: ...

    def accept_unsolicited(self, networks: list[str], interface: str | None) -> None:
        self.commands.append(("accept", tuple(networks), interface))

    def add(self, session: bfd.Add) -> int:
        self.commands.append(session)
        return 1

    def change(self, key: str, settings: bfd.Settings) -> None:
        self.commands.append(("change", key, settings))

    def remove(self, key: str) -> None:
        self.commands.append(("remove", key))

    def set_admin_down(self, key: str, admin_down: bool) -> None:
        self.commands.append(("admin-down", key, admin_down))

    def take(self) -> list[object]:
        """The commands since the last call, without those that only name networks."""
        taken = [c for c in self.commands if not (isinstance(c, tuple) and c[0] == "accept")]
        self.commands.clear()
        return taken

    def load(self, *entries: BfdStandalone, unsolicited: BfdUnsolicited | None = None) -> None:
        self.config = msgspec.structs.replace(self.config, bfd=BfdGlobal(sessions=entries, unsolicited=unsolicited))
        self.sessions.configure(self.config.bfd)

    def says(self, key: str, old: str, new: str, *, admin: bool = False) -> bool:
        found = self.sessions.take(
            bfd.StateChange(
                key=key,
                generation=1,
                old=old,
                new=new,
                diag=0,
                remote_diag=0,
                remote_admin_down=admin,
                blame="",
                at=self.time,
                last_rx=None,
                previous_rx=None,
                detection_time_us=0,
            )
        )
        return found is not None

    def kinds(self) -> list[str]:
        return [event.kind for event in self.recorder.select(limit=1000)]


def entry(**keys: object) -> BfdStandalone:
    fields = {"peer": PATH.remote, "local": PATH.local, "transmit_interval_ms": 50, "receive_interval_ms": 50} | keys
    return BfdStandalone(**fields)  # type: ignore[arg-type]


# -- sharing --------------------------------------------------------------------------------------------------


def test_rfc5882_2_one_session_for_all_clients_of_a_path() -> None:
    world = World()
    world.sessions.attach("bgp 192.0.2.1", PATH, SLOW)
    [added] = world.take()
    assert isinstance(added, bfd.Add)
    assert (added.remote, added.local, added.multihop) == (PATH.remote, PATH.local, False)
    assert added.settings.desired_min_tx_us == 300_000
    shared = world.sessions.attach("configured x", PATH, FAST)
    [(what, key, settings)] = world.take()  # type: ignore[misc]
    assert (what, key) == ("change", str(PATH))
    assert (settings.desired_min_tx_us, settings.required_min_rx_us, settings.detect_mult) == (50_000, 20_000, 3)
    assert client_kinds(shared) == ("bgp", "configured")
    assert shared.neighbors() == ["192.0.2.1"]
    world.sessions.detach("configured x")
    assert [command[:2] for command in world.take()] == [("change", str(PATH))]  # type: ignore[index]
    world.sessions.detach("bgp 192.0.2.1")
    assert world.take() == [("remove", str(PATH))]
    assert world.sessions.by_key == {}
    world.sessions.detach("bgp 192.0.2.1")  # it has none
    assert world.take() == []


def test_other_paths_are_other_sessions() -> None:
    world = World()
    paths = [
        PATH,
        msgspec.structs.replace(PATH, multihop=True),
        msgspec.structs.replace(PATH, interface="eth0"),
        msgspec.structs.replace(PATH, local="192.0.2.11"),
    ]
    for number, path in enumerate(paths):
        world.sessions.attach(f"configured {number}", path, FAST)
    assert len([command for command in world.take() if isinstance(command, bfd.Add)]) == 4


def test_shut_down_only_if_all_say_so() -> None:
    world = World()
    world.sessions.attach("a", PATH, msgspec.structs.replace(FAST, shutdown=True))
    [added] = world.take()
    assert isinstance(added, bfd.Add)
    assert added.admin_down
    world.sessions.attach("b", PATH, FAST)
    assert world.take() == [("admin-down", str(PATH), False)]
    world.sessions.detach("b")
    assert world.take() == [("admin-down", str(PATH), True)]


def test_what_is_no_news_is_not_told() -> None:
    world = World()
    world.sessions.attach("a", PATH, FAST)
    world.take()
    world.sessions.change("a", FAST)
    assert world.take() == []


SETTINGS = st.builds(
    bfd.Settings,
    desired_min_tx_us=st.sampled_from([50_000, 300_000]),
    required_min_rx_us=st.sampled_from([50_000, 300_000]),
    detect_mult=st.integers(1, 10),
    passive=st.booleans(),
    demand=st.booleans(),
    control_plane_independent=st.booleans(),
    minimum_ttl=st.sampled_from([1, 254]),
    required_min_echo_rx_us=st.sampled_from([0, 20_000, 50_000]),
    echo_tx_us=st.sampled_from([0, 20_000, 50_000]),
)


@given(st.lists(SETTINGS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_most_demanding_of_all_in_whatever_order(wanted: list[bfd.Settings], random: object) -> None:
    result = combined(wanted)
    assert all(result.desired_min_tx_us <= each.desired_min_tx_us for each in wanted)
    assert all(result.required_min_rx_us <= each.required_min_rx_us for each in wanted)
    assert result.passive == all(each.passive for each in wanted)
    assert result.demand == all(each.demand for each in wanted)
    assert result.control_plane_independent == any(each.control_plane_independent for each in wanted)
    assert result.minimum_ttl == max(each.minimum_ttl for each in wanted)
    assert bool(result.echo_tx_us) == any(each.echo_tx_us for each in wanted)
    random.shuffle(wanted)  # type: ignore[attr-defined]
    assert combined(wanted) == result


# -- stand-alone ----------------------------------------------------------------------------------------------


def test_standalone_sessions_come_change_and_go_with_the_configuration() -> None:
    world = World()
    world.load(entry())
    assert [type(command) for command in world.take()] == [bfd.Add]
    world.load(entry())
    assert world.take() == []
    world.load(entry(detect_multiplier=7))
    [(what, _, settings)] = world.take()  # type: ignore[misc]
    assert (what, settings.detect_mult) == ("change", 7)
    world.load(entry(detect_multiplier=7, description="other words"))
    assert world.take() == []
    world.load(entry(multihop=True, minimum_ttl=250))
    assert [command if isinstance(command, tuple) else command.multihop for command in world.take()] == [  # type: ignore[attr-defined]
        ("remove", str(PATH)),
        True,
    ]
    world.load()
    assert world.take() == [("remove", f"{PATH} multihop")]


def test_an_event_of_a_session_that_is_gone_goes_nowhere() -> None:
    world = World()
    world.load(entry())
    assert world.says(str(PATH), "down", "up")
    world.load()
    assert not world.says(str(PATH), "up", "down")
    assert world.sessions.fault(bfd.SessionFault(key=str(PATH), generation=1, error="x")) is None
    world.sessions.late(bfd.Late(key=str(PATH), generation=1, count=1, gap_us=90_000, interval_us=50_000, at=0))
    assert "bfd-late" not in world.kinds()


# -- unsolicited ----------------------------------------------------------------------------------------------


def asks(world: World, remote: str = "192.0.2.1", interface: str = "eth0") -> list[object]:
    world.sessions.asked(bfd.Unsolicited(remote=remote, local="192.0.2.10", interface=interface))
    return world.take()


def test_rfc9468_who_asks_gets_a_passive_session() -> None:
    world = World()
    world.load(unsolicited=NETWORKS)
    assert world.commands == [("accept", NETWORKS.networks, None)]
    world.take()
    [added] = asks(world)
    assert isinstance(added, bfd.Add)
    assert (added.remote, added.local, added.interface, added.settings.passive) == (
        "192.0.2.1", "192.0.2.10", "eth0", True,
    )  # fmt: skip
    assert asks(world) == []  # it asks again, until ours has answered
    assert asks(world, "198.51.100.1") == []


def test_the_number_of_unsolicited_sessions_is_bounded_and_told_once() -> None:
    world = World()
    world.load(unsolicited=NETWORKS)
    for number in range(1, 10):
        asks(world, f"192.0.2.{number}")
    assert len(world.sessions.by_key) == 2
    assert world.kinds().count("bfd-unsolicited-refused") == 1


def test_an_unsolicited_session_that_is_not_up_is_removed_in_time() -> None:
    world = World()
    world.load(unsolicited=NETWORKS)
    asks(world)
    [key] = world.sessions.by_key
    world.says(key, "init", "up")
    world.run(10 * UNSOLICITED_GRACE)
    assert key in world.sessions.by_key
    world.says(key, "up", "down")
    world.run(UNSOLICITED_GRACE - 1)
    assert key in world.sessions.by_key
    world.run(1)
    assert world.take() == [("remove", key)]
    asks(world)
    world.run(UNSOLICITED_GRACE)  # never up at all
    assert world.sessions.by_key == {}


def test_it_goes_with_its_network() -> None:
    world = World()
    world.load(unsolicited=NETWORKS)
    asks(world)
    world.load(unsolicited=msgspec.structs.replace(NETWORKS, networks=("198.51.100.0/24",)))
    assert [command[0] for command in world.take()] == ["remove"]  # type: ignore[index]
    world.load(unsolicited=NETWORKS)
    asks(world)
    world.load()
    assert world.sessions.by_key == {}
    assert world.armed == {}


def test_a_configured_client_takes_it_over_without_a_flap() -> None:
    world = World()
    world.load(unsolicited=NETWORKS)
    asks(world)
    [key] = world.sessions.by_key
    world.says(key, "init", "up")
    session = world.sessions.attach("bgp 192.0.2.1", BfdPath("192.0.2.1"), FAST)
    assert (session.key, session.state) == (key, "up")
    assert [command[0] for command in world.take()] == ["change"]  # type: ignore[index]
    assert client_kinds(session) == ("bgp",)
    world.load()  # its network goes, the session stays
    assert key in world.sessions.by_key
    assert asks(world) == []
    world.sessions.detach("bgp 192.0.2.1")
    assert world.take() == [("remove", key)]


def test_nobody_gets_a_second_session() -> None:
    world = World()
    world.load(entry(local=None), unsolicited=NETWORKS)
    world.take()
    assert asks(world) == []


# -- what is told ---------------------------------------------------------------------------------------------


def test_late_packets_are_told_of_now_and_then() -> None:
    world = World()
    world.load(entry())
    late = bfd.Late(key=str(PATH), generation=1, count=2, gap_us=90_000, interval_us=50_000, at=0)
    for _ in range(5):
        world.sessions.late(late)
        world.run(SECOND)
    world.run(LATE_QUIET)
    world.sessions.late(late)
    [first, _] = [event for event in world.recorder.select(limit=100) if event.kind == "bfd-late"]
    assert (first.peer, first.facts["gap_ms"], first.facts["count"]) == ("192.0.2.1", 90, 2)


def test_a_fault_is_told_once_and_when_it_is_over() -> None:
    world = World()
    world.load(entry())
    fault = bfd.SessionFault(key=str(PATH), generation=1, error="address: gone")
    assert world.sessions.fault(fault) is not None
    assert world.sessions.fault(fault) is None
    assert world.sessions.fault(msgspec.structs.replace(fault, error=None)) is not None
    assert world.kinds() == ["bfd-fault"]


def test_a_new_worker_knows_no_state() -> None:
    world = World()
    world.load(entry())
    world.says(str(PATH), "init", "up")
    world.sessions.worker_restarted()
    assert world.sessions.by_key[str(PATH)].state == "down"
