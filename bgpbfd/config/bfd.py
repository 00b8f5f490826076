"""BFD: ``[bfd]`` with its profiles, stand-alone and unsolicited sessions, and what a peer's ``bfd`` says in any form.

Rules across keys are ``bfd_rules``'s.
"""

from __future__ import annotations

import msgspec

from bgpbfd.config.bfd_auth import read_auth
from bgpbfd.config.drafts import BfdDraft, BfdDrafts, SessionDraft
from bgpbfd.config.faults import FaultList
from bgpbfd.config.model import BfdGlobal, BfdProfile, BfdSettings, BfdStandalone, BfdUnsolicited
from bgpbfd.config.names import did_you_mean, parse_network
from bgpbfd.config.secret_files import SecretFiles
from bgpbfd.config.values import (
    Table,
    address,
    bind_address,
    boolean,
    choice,
    integer,
    interface_name,
    kind,
    label,
    shown,
    string,
)

PROFILE_KEYS = BfdProfile.__struct_fields__
PEER_KEYS = (*PROFILE_KEYS, "mode", "profile")
FOR_PEERS = frozenset({"mode", "strict_hold_time", "damping"})
SESSION_KEYS = (
    *("peer", "local", "interface", "description", "profile"),
    *(key for key in PROFILE_KEYS if key not in FOR_PEERS),
)
UNSOLICITED_KEYS = tuple(key for key in BfdUnsolicited.__struct_fields__ if key != "settings")
SINGLE_HOP_TTL = 255  # RFC 5881 §5
MAX_UNSOLICITED = 1000

_interval = integer(10, 60000, " ms")


class BfdReader:
    """Reads ``[bfd]`` first, then each peer's ``bfd``, which may name its profiles."""

    def __init__(self, faults: FaultList, secrets: SecretFiles) -> None:
        self._faults = faults
        self._secrets = secrets
        self._profiles: dict[str, BfdProfile] = {}
        self.drafts = BfdDrafts()

    def read(self, top: Table) -> BfdGlobal:
        """``[bfd]`` of the whole file's table."""
        table = top.table("bfd", BfdGlobal.__struct_fields__)
        bind = table.items("bind", bind_address, ("0.0.0.0", "::"))
        for name, part in table.named("profiles", PROFILE_KEYS):
            draft = self._draft(part, BfdProfile(), part.path, hops=None)
            self.drafts.profiles.append(draft)
            self._profiles[name] = draft.merged
        for path, raw in table.tables("sessions"):
            session = self._session(raw, path)
            if session is not None:
                self.drafts.sessions.append(session)
        return BfdGlobal(
            bind=bind,
            profiles=self._profiles,
            sessions=tuple(draft.session for draft in self.drafts.sessions),
            unsolicited=self._unsolicited(table) if "unsolicited" in table.raw else None,
        )

    def read_peer(self, peer: Table, hops: int | None, *, hops_known: bool = True) -> BfdDraft | None:
        """``bfd = true | "profile" | {…}`` of a peer's table; None where it has none.

        ``hops``: how far away the peer's own keys say that it is, if they do; not ``hops_known``: they are wrong.
        """
        value = peer.raw.get("bfd", False)
        path = peer.key_path("bfd")
        if isinstance(value, bool | str):
            if value is False:
                return None
            table = Table({}, path, f"{peer.pattern}.bfd", PEER_KEYS, self._faults)
            name = value if isinstance(value, str) else None
            profile = None if name is None else self._profile(peer, "bfd", name)
            draft = self._draft(table, profile or BfdProfile(), path, hops)
            draft.sound = hops_known and (name is None or profile is not None)
            draft.settings = msgspec.structs.replace(draft.settings, profile=name)
            return draft
        if not isinstance(value, dict):
            peer.fault("bfd", f"expected true, a profile's name or a table, not {kind(value)}")
            return None
        before = self._faults.count
        table = peer.table("bfd", PEER_KEYS)
        name, profile = self._named_profile(table)
        draft = self._draft(table, profile, table.key_path("profile"), hops)
        mode = table.get("mode", choice("track", "strict"), "track")
        draft.settings = msgspec.structs.replace(draft.settings, mode=mode, profile=name)
        draft.sound = hops_known and self._faults.count == before
        return draft

    def _session(self, raw: dict[str, object], path: str) -> SessionDraft | None:
        """One of ``[[bfd.sessions]]``; None when it has no address."""
        before = self._faults.count
        table = Table(raw, path, "bfd.sessions[]", (*SESSION_KEYS, *FOR_PEERS), self._faults)
        for key in FOR_PEERS & table.raw.keys():
            table.fault(key, "is for peers, where BGP waits for BFD: leave it out")
        peer = table.require("peer", address, 'the neighbor\'s address, such as "192.0.2.9" or "fe80::1%eth0"')
        interface: str | None = table.get("interface", interface_name, None)
        local: str | None = table.get("local", address, None)
        description: str | None = table.get("description", label, None)
        name, profile = self._named_profile(table)
        keys = self._draft(table, profile, table.key_path("profile"), hops=None)
        if peer is None:
            return None
        peer, _, scope = peer.partition("%")
        local, _, local_scope = (local or "").partition("%")
        interface = interface or scope or local_scope or None
        for key, written in (("peer", scope), ("local", local_scope)):
            if written and written != interface:
                table.fault(key, f"its scope {written!r} is not the session's interface {interface!r}")
        keys.sound = self._faults.count == before
        common = {key: getattr(keys.settings, key) for key in PROFILE_KEYS if key not in FOR_PEERS}
        session = BfdStandalone(
            **common, peer=peer, local=local or None, interface=interface, description=description, profile=name
        )
        return SessionDraft(path, session, keys)

    def _unsolicited(self, bfd: Table) -> BfdUnsolicited:
        before = self._faults.count
        table = bfd.table("unsolicited", UNSOLICITED_KEYS)
        hint = 'whose sessions are taken, such as ["192.0.2.0/24"]'
        if "networks" not in table.raw and self._faults.count == before:
            table.fault("networks", f"missing: set {hint}")
        elif table.raw.get("networks") == []:
            table.fault("networks", f"expected at least one: {hint}")
        networks = table.items("networks", _network, ())
        name, profile = self._named_profile(table)
        single_hop = Table({}, table.path, table.pattern, PROFILE_KEYS, self._faults)
        draft = self._draft(single_hop, profile, table.key_path("profile"), hops=None)
        # RFC 9468 §2: passive, as the other end begins
        draft.settings = msgspec.structs.replace(draft.settings, passive=True, profile=name)
        unsolicited = BfdUnsolicited(
            networks=networks,
            interface=table.get("interface", interface_name, None),
            profile=name,
            settings=draft.settings,
            max_sessions=table.get("max_sessions", integer(1, MAX_UNSOLICITED), 100),
        )
        draft.sound = self._faults.count == before
        self.drafts.unsolicited = draft
        return unsolicited

    def _named_profile(self, table: Table) -> tuple[str | None, BfdProfile]:
        """The name that ``profile`` has, and the profile; that of defaults without one."""
        name: str | None = table.get("profile", string, None)
        if name is None:
            return None, BfdProfile()
        return name, self._profile(table, "profile", name) or BfdProfile()

    def _profile(self, table: Table, key: str, name: str) -> BfdProfile | None:
        profile = self._profiles.get(name)
        if profile is None:
            table.fault(key, f"no profile {shown(name)} in bfd.profiles; {did_you_mean(name, self._profiles)}")
        return profile

    def _draft(self, table: Table, base: BfdProfile, profile_path: str, hops: int | None) -> BfdDraft:
        """The keys of a table over those of ``base``."""
        before = self._faults.count
        get = table.get
        merged = BfdProfile(
            transmit_interval_ms=get("transmit_interval_ms", _interval, base.transmit_interval_ms),
            receive_interval_ms=get("receive_interval_ms", _interval, base.receive_interval_ms),
            # RFC 5880 §4.1 forbids 0 alone
            detect_multiplier=get("detect_multiplier", integer(1, 255), base.detect_multiplier),
            passive=get("passive", boolean, base.passive),
            demand=get("demand", boolean, base.demand),
            echo=get("echo", boolean, base.echo),
            echo_transmit_interval_ms=get("echo_transmit_interval_ms", _interval, base.echo_transmit_interval_ms),
            echo_receive_interval_ms=get("echo_receive_interval_ms", _interval, base.echo_receive_interval_ms),
            minimum_ttl=get("minimum_ttl", integer(1, 254), base.minimum_ttl),
            multihop=get("multihop", boolean, base.multihop),
            shutdown=get("shutdown", boolean, base.shutdown),
            control_plane_independent=get("control_plane_independent", boolean, base.control_plane_independent),
            damping=get("damping", boolean, base.damping),
            strict_hold_time=get("strict_hold_time", integer(1, 600, " s"), base.strict_hold_time),
            auth=read_auth(table, self._secrets) if "auth" in table.raw else base.auth,
        )
        return BfdDraft(
            path=table.path,
            profile_path=profile_path,
            own=frozenset(table.raw),
            profile=base,
            merged=merged,
            settings=_filled(merged, hops),
            sound=self._faults.count == before,
        )


def _filled(profile: BfdProfile, hops: int | None) -> BfdSettings:
    """With multihop and minimum_ttl as ``hops`` says where the keys leave it open."""
    multihop = profile.multihop if profile.multihop is not None else (hops or 1) > 1
    minimum_ttl = SINGLE_HOP_TTL
    if multihop:
        # RFC 5082 §3, with 255 sent: n hops take n - 1 off
        minimum_ttl = profile.minimum_ttl or 256 - max(hops or 2, 2)
    common = msgspec.structs.asdict(profile) | {"multihop": multihop, "minimum_ttl": minimum_ttl}
    return BfdSettings(**common)


def _network(value: object) -> str:
    network = parse_network(string(value))
    if network.is_multicast:
        raise ValueError(f"{shown(value)} is multicast: a neighbor has a host's address")
    return str(network)
