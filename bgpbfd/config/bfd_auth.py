"""``auth`` of a BFD table: one key, or several for rotation (RFC 5880 §6.7)."""

from __future__ import annotations

from bgpbfd.config.model import BfdAuth, Secret
from bgpbfd.config.secret_files import SecretFiles
from bgpbfd.config.values import Parser, Table, choice, integer, kind, string
from bgpbfd.wire.bfd import AUTH_KEY_LENGTH_MAX, AUTH_TYPES, auth_key

NONE = "none"
_SECTIONS = {"simple": "§4.2", "keyed-md5": "§4.3", "meticulous-keyed-md5": "§4.3"}
KEY_LIMITS = {
    name: (AUTH_KEY_LENGTH_MAX[auth_type], _SECTIONS.get(name, "§4.4")) for name, auth_type in AUTH_TYPES.items()
}
"""Of each type the most octets that a key may have, and where RFC 5880 says so."""
SHORT_NAMES = {"met-keyed-md5": "meticulous-keyed-md5", "met-keyed-sha1": "meticulous-keyed-sha1"}
"""As FreeRADIUS calls them."""

_KEYS = ("type", "key_id", "key", "key_file")
_type = choice(NONE, *KEY_LIMITS, *SHORT_NAMES)


def auth_key_octets(secret: Secret) -> bytes:
    """The key as it stands in the packet before padding: ``0x…`` is hex, all else is text.

    Raises ValueError, without the value, for what is no hex.
    """
    return auth_key(secret.reveal())


def read_auth(table: Table, secrets: SecretFiles) -> tuple[BfdAuth, ...]:
    """The keys of ``auth = { type, key_id, key }``, or of a list of these; every fault noted."""
    value = table.raw.get("auth", [])
    path = table.key_path("auth")
    if not isinstance(value, dict | list):
        table.fault("auth", f"expected a table {{ type, key_id, key }}, or a list of them, not {kind(value)}")
        return ()
    several = value if isinstance(value, list) else [value]
    first: dict[int, str] = {}
    keys = []
    for index, raw in enumerate(several):
        place = f"{path}[{index}]" if isinstance(value, list) else path
        if not isinstance(raw, dict):
            table.faults.add(place, f"expected a table {{ type, key_id, key }}, not {kind(raw)}")
            continue
        entry = Table(raw, place, f"{table.pattern}.auth[]", _KEYS, table.faults)
        found = _read_key(entry, secrets, alone=len(several) == 1)
        if found is None:
            continue
        other = first.setdefault(found.key_id, place)
        if other is not place:
            reason = f"{found.key_id} is {table.faults.where(other)} already: each key_id stands once"
            entry.fault("key_id", reason)
        keys.append(found)
    return tuple(keys)


def _read_key(table: Table, secrets: SecretFiles, *, alone: bool) -> BfdAuth | None:
    """None without a usable key, be it because of a fault or as the type is ``none``."""
    hint = 'one of "simple", "keyed-sha1", "meticulous-keyed-sha1" and the same with md5'
    type_ = table.require("type", _type, hint)
    if type_ == NONE:
        if not alone:
            table.fault("type", "'none' stands alone: leave it out beside a key")
        for key in table.raw:
            if key != "type":
                table.fault(key, "type 'none' has no key: leave it out, or set the type")
        return None
    type_ = SHORT_NAMES.get(type_, type_) if type_ is not None else None
    key_id = table.require("key_id", integer(0, 255), "the number that both ends know the key by, 0 to 255")
    limit = KEY_LIMITS.get(type_ or "", (20, "§4.4"))
    secret, file = secrets.read(table, "key", _key(*limit))
    if "key" not in table.raw and "key_file" not in table.raw:
        table.fault("key", f'missing: set 1 to {limit[0]} octets, as text or "0x…" in hex, or key_file')
    if type_ is None or key_id is None or secret is None:
        return None
    return BfdAuth(type=type_, key_id=key_id, key=secret, key_file=file)


def _key(most: int, section: str) -> Parser[Secret]:
    def parse(value: object) -> Secret:
        secret = Secret(string(value))
        if not 1 <= len(auth_key_octets(secret)) <= most:
            raise ValueError(f"expected a key of 1 to {most} octets (RFC 5880 {section})")
        return secret

    return parse
