"""Bringing the running engine to a new configuration: the difference is applied, everything else stays untouched.

What a live BGP session can take (routes, sources, BFD timers, the retry pace) applies now; what stands in the
OPEN waits for the peer's next session, or for ``neighbor PEER reset``. Starting the daemon is the same thing,
from a configuration without peers.

Routes may be many: a reload is told which of them differ, and sees to those in slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bgpbfd.bgp import events as bgp
from bgpbfd.config.model import Config, PeerConfig
from bgpbfd.config.patch import Amended, RouteEdit
from bgpbfd.control.engine import Engine
from bgpbfd.control.neighbor import Neighbor, dynamic_config, peer_settings, tcp_keys
from bgpbfd.core import Instant
from bgpbfd.rib.originate import Affected, Route
from bgpbfd.wire.iana import CeaseSubcode

SLICE = 500
"""Routes changed in one turn of the loop: 2 to 3 ms."""


def apply_config(engine: Engine, config: Config) -> None:
    """Make ``config`` the one in force. It has been checked as a whole: nothing here can refuse."""
    _bring_all_but_routes(engine, config)
    now = engine.clock.now()
    engine.announcing.mark_originated(engine.originated.replace_source("config", _routes(config, now), now))
    engine.restart.begin()


def restore_config(engine: Engine, config: Config) -> None:
    """The same after a change that was left half done: nothing is believed of what the neighbors have been told."""
    apply_config(engine, config)
    for neighbor in engine.neighbors.values():
        engine.announcing.sources_changed(neighbor)


def amend_config(engine: Engine, amended: Amended) -> Iterator[None]:
    """The same, where it is known which routes differ: with a pause for other work wherever it yields.

    As many routes as a slice has change in one go with all the rest. Nobody else may change the configuration until the
    end; if that is never reached, ``restore_config`` has to see to it.
    """
    _bring_all_but_routes(engine, amended.config)
    room = SLICE
    for change in _route_changes(engine, amended.edits):
        engine.announcing.mark_originated(change)
        room -= 1
        if not room:
            yield
            room = SLICE
    engine.restart.begin()


def _bring_all_but_routes(engine: Engine, config: Config) -> None:
    old, engine.config = engine.config, config
    with engine.bfd_sessions.one_change():
        _bring_neighbors(engine, old, config)
    _judge_anew(engine)


def _bring_neighbors(engine: Engine, old: Config, config: Config) -> None:
    """Their sessions, BFD's too."""
    staying = _remove(engine, config)
    # Ceases of the removed have gone out signed; from here on nobody is met with an old key, or without one.
    engine.connections.set_keys(tcp_keys(config))
    engine.connections.listen(tuple(str(address) for address in config.bgp_socket))
    # Before the neighbors: who uses a session beside another finds it there.
    engine.bfd_sessions.configure(config.bfd)
    before = {peer.id: peer for peer in old.peers}
    for neighbor, entry in staying:
        was = before.get(neighbor.network or neighbor.id)
        if was is not None and was.enabled != entry.enabled:
            neighbor.override = None
        _change(engine, neighbor, entry)
    for peer in config.peers:
        if not peer.dynamic and peer.id not in engine.neighbors:
            engine.add_neighbor(peer)


def _remove(engine: Engine, config: Config) -> list[tuple[Neighbor, PeerConfig]]:
    """Take leave of those that are not configured any more; the others, with what they are to be."""
    wanted = {peer.id: peer for peer in config.peers}
    staying: list[tuple[Neighbor, PeerConfig]] = []
    for neighbor in list(engine.neighbors.values()):
        entry = wanted.get(neighbor.network or neighbor.id)
        if entry is None or (neighbor.network is None and entry.dynamic):
            _deconfigure(engine, neighbor)
        elif neighbor.network is None:
            staying.append((neighbor, entry))
        elif neighbor.id in wanted:  # it has an entry of its own from now on
            _deconfigure(engine, neighbor)
        else:
            own = dynamic_config(entry, neighbor.config.remote_ip, neighbor.config.interface, neighbor.id)
            staying.append((neighbor, own))
    return staying


def _judge_anew(engine: Engine) -> None:
    """Policies and what else shapes routes on their way in and out while the sessions stay."""
    for neighbor in list(engine.neighbors.values()):
        engine.learning.config_changed(neighbor)
        engine.announcing.config_changed(neighbor)


def _routes(config: Config, at: Instant) -> Iterator[Route]:
    """``at``: now; replace_source puts the time of those in that were there before."""
    for route in config.static_routes:
        yield Route("config", route.prefix, route.attributes, None, at)
    for peer in config.peers:
        named = frozenset({peer.id})
        for route in peer.static_routes:
            yield Route("config", route.prefix, route.attributes, named, at)
        for flow in peer.static_flows:
            yield Route("config", flow.prefix, flow.attributes, named, at)


def _route_changes(engine: Engine, edits: Iterable[RouteEdit]) -> Iterator[Affected]:
    for edit in edits:
        peers = None if edit.owner is None else frozenset({edit.owner})
        for prefix in edit.gone:
            yield engine.originated.remove("config", prefix, peers)
        for route in edit.come:
            now = engine.clock.now()
            yield engine.originated.set(Route("config", route.prefix, route.attributes, peers, now), now)


def _deconfigure(engine: Engine, neighbor: Neighbor) -> None:
    engine.remove_neighbor(
        neighbor, bgp.ManualStop(cause=bgp.CauseKind.DECONFIGURED, subcode=CeaseSubcode.PEER_DECONFIGURED)
    )


def _change(engine: Engine, neighbor: Neighbor, config: PeerConfig) -> None:
    old = neighbor.config
    was_enabled = neighbor.enabled
    neighbor.config = config
    other_as = (old.local_as, old.remote_as) != (config.local_as, config.remote_as)
    if neighbor.session is None and (other_as or not config.graceful_restart.enabled):
        engine.learning.forget(neighbor)  # what was kept for a restart that is not waited for any more
    if was_enabled and not neighbor.enabled:
        engine.stop_neighbor(neighbor, bgp.ManualStop())
    engine.feed(neighbor, bgp.Reconfigure(peer_settings(config, engine.config.poll_interval)))
    if old.max_prefixes != config.max_prefixes and was_enabled and neighbor.enabled and neighbor.session is None:
        engine.feed(neighbor, bgp.ManualStart())  # it may be down for the old limit
    if neighbor.enabled:
        _change_bfd(engine, neighbor, old)
        if not was_enabled:
            engine.start_neighbor(neighbor)
    if old.advertise_sources != config.advertise_sources:
        engine.announcing.sources_changed(neighbor)


def _change_bfd(engine: Engine, neighbor: Neighbor, old: PeerConfig) -> None:
    """New timers are polled in; only another path (addresses, interface, hops) is another session."""
    new = neighbor.config
    if new.bfd is None:
        engine.stop_bfd(neighbor)
    elif old.bfd is None or not neighbor.coupling.bound:
        engine.start_bfd(neighbor)
    elif old.bfd_path != new.bfd_path:
        engine.stop_bfd(neighbor)
        engine.start_bfd(neighbor)
    elif old.bfd != new.bfd:
        engine.bfd_neighbors.change(neighbor, was_shutdown=old.bfd.shutdown)
