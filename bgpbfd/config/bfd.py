"""BFD: ``[bfd]`` with its profiles, and what a peer's ``bfd`` says in any of its forms."""

from __future__ import annotations

import msgspec

from bgpbfd.config.model import BfdGlobal, BfdProfile, BfdSettings
from bgpbfd.config.names import did_you_mean
from bgpbfd.config.values import Table, bind_address, boolean, choice, integer, kind, shown, string

BFD_KEYS = BfdProfile.__struct_fields__


def read_bfd(top: Table) -> BfdGlobal:
    """``[bfd]`` of the whole file's table."""
    table = top.table("bfd", BfdGlobal.__struct_fields__)
    return BfdGlobal(
        bind=table.items("bind", bind_address, ("0.0.0.0", "::")),
        profiles={
            name: BfdProfile(
                transmit_interval_ms=_interval(profile, "transmit_interval_ms", 300),
                receive_interval_ms=_interval(profile, "receive_interval_ms", 300),
                detect_multiplier=_multiplier(profile, 3),
                passive=profile.get("passive", boolean, False),
                shutdown=profile.get("shutdown", boolean, False),
            )
            for name, profile in table.named("profiles", BFD_KEYS)
        },
    )


def read_peer_bfd(peer: Table, bfd: BfdGlobal) -> BfdSettings | None:
    """``bfd = true | "profile" | {…}`` of a peer's table; None where it has none."""
    value = peer.raw.get("bfd", False)
    if isinstance(value, bool):
        return BfdSettings() if value else None
    if isinstance(value, str):
        return _merged(_profile(peer, "bfd", value, bfd), value)
    if not isinstance(value, dict):
        peer.fault("bfd", f"expected true, a profile's name or a table, not {kind(value)}")
        return None
    table = peer.table("bfd", BfdSettings.__struct_fields__)
    name: str | None = None
    base = BfdProfile()
    if "profile" in table.raw:
        name = table.get("profile", string, "")
        base = _profile(table, "profile", name, bfd) if name else base
    return BfdSettings(
        mode=table.get("mode", choice("track", "strict"), "track"),
        profile=name,
        transmit_interval_ms=_interval(table, "transmit_interval_ms", base.transmit_interval_ms),
        receive_interval_ms=_interval(table, "receive_interval_ms", base.receive_interval_ms),
        detect_multiplier=_multiplier(table, base.detect_multiplier),
        passive=table.get("passive", boolean, base.passive),
        shutdown=table.get("shutdown", boolean, base.shutdown),
    )


def _profile(table: Table, key: str, name: str, bfd: BfdGlobal) -> BfdProfile:
    profile = bfd.profiles.get(name)
    if profile is None:
        table.fault(key, f"no profile {shown(name)} in bfd.profiles; {did_you_mean(name, bfd.profiles)}")
        return BfdProfile()
    return profile


def _interval(table: Table, key: str, default: int) -> int:
    return table.get(key, integer(10, 60000, " ms"), default)


def _multiplier(table: Table, default: int) -> int:
    # RFC 5880 §4.1 forbids 0 alone
    return table.get("detect_multiplier", integer(1, 255), default)


def _merged(profile: BfdProfile, name: str) -> BfdSettings:
    return BfdSettings(profile=name, **msgspec.structs.asdict(profile))
