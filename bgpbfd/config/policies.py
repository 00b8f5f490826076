"""Policies from ``[policies.NAME]``; the keys are explained in the annotated configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bgpbfd.config.names import parse_address, parse_network, peer_id
from bgpbfd.config.routes import next_hop, parse_prefix
from bgpbfd.config.values import (
    Table,
    address_family,
    asn,
    choice,
    integer,
    label,
    shown,
    string,
    text_list,
    wrong_type,
)
from bgpbfd.core import Prefix
from bgpbfd.policy.changes import MAX_PREPEND, NOTHING, Changes
from bgpbfd.policy.communities import CommunityPattern, parse_pattern
from bgpbfd.policy.match import Match, Range
from bgpbfd.policy.path_regex import PathRegex
from bgpbfd.policy.policy import ACCEPT, NEXT, REJECT, Policy, Term
from bgpbfd.policy.prefixes import BITS, PrefixRange
from bgpbfd.wire.text import MAX_U32, Communities, parse_communities, parse_origin

POLICY_KEYS = ("default", "terms")
TERM_KEYS = ("name", "match", "action", "set", "add", "remove", "prepend")
MATCH_KEYS = (
    "prefixes", "families", "communities", "all_communities", "as_path", "as_path_length", "origin", "source", "peer",
    "next_hop", "local_pref", "multi_exit_disc", "not",
)  # fmt: skip
SET_KEYS = ("local_pref", "multi_exit_disc", "origin", "next_hop", "communities")
COMMUNITY_KEYS = ("communities",)
RANGE_KEYS = ("min", "max")
SOURCES = ("api", "config", "service", "peer")
MAX_NAME = 64

_RANGE = re.compile(
    r"(?P<prefix>[^\s{}+]+)\s*(?:(?:ge\s+(?P<ge>\d{1,20}))?\s*(?:le\s+(?P<le>\d{1,20}))?|(?P<all>\+))", re.ASCII
)
_BRACES = re.compile(r"(?P<prefix>[^\s{}+]+)\s*\{\s*(?P<ge>\d{1,20})\s*,\s*(?P<le>\d{1,20})\s*\}", re.ASCII)


def read_policies(top: Table) -> dict[str, Policy]:
    """All policies by name; what is wrong is noted in the table's faults."""
    return {name: _policy(name, table) for name, table in top.named("policies", POLICY_KEYS)}


def _policy(name: str, table: Table) -> Policy:
    if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        table.faults.add(
            table.path, f"a policy's name has 1 to {MAX_NAME} characters, none of them a control character"
        )
    terms: list[Term] = []
    named: dict[str, str] = {}
    for path, raw in table.tables("terms"):
        term = _term(Table(raw, path, f"{table.pattern}.terms[]", TERM_KEYS, table.faults))
        if term.name is not None and named.setdefault(term.name, path) != path:
            table.faults.add(f"{path}.name", f"{shown(term.name)} is the name of {named[term.name]} as well")
        terms.append(term)
    if "default" not in table.raw and all(term.action != ACCEPT for term in terms):
        # Left out it means reject; where that leaves nothing at all, it was hardly meant
        table.fault("default", 'missing: no term accepts, so say "accept", or "reject" to let nothing through')
    return Policy(name, table.get("default", choice(ACCEPT, REJECT), REJECT), tuple(terms))


def _term(table: Table) -> Term:
    action = table.get("action", choice(ACCEPT, REJECT, NEXT), ACCEPT)
    changes = _changes(table)
    if action == REJECT:
        for key in ("set", "add", "remove", "prepend"):
            if key in table.raw:
                table.fault(key, "a route that is rejected is not changed: leave it out")
    match = Match()
    if "match" in table.raw:
        match = _match(table.table("match", MATCH_KEYS))
    return Term(match, action, changes, table.get("name", _name, None))


def _name(value: object) -> str | None:
    return label(value)


# -- match -------------------------------------------------------------------------------------------------


def _match(table: Table) -> Match:
    for key, value in table.raw.items():
        if value in ([], {}):
            # It would match nothing at all, and read as if it was no condition
            table.fault(key, "expected at least one; a term for all routes has no match")
    next_hops = table.items("next_hop", _network, ())
    exclude = None
    if table.raw.get("not", {}) != {}:
        exclude = _match(table.table("not", [key for key in MATCH_KEYS if key != "not"]))
    return Match(
        prefixes=table.items("prefixes", parse_range, ()),
        families=table.items("families", address_family, ()),
        communities=table.items("communities", _pattern, ()),
        all_communities=table.items("all_communities", _pattern, ()),
        as_path=table.items("as_path", _expression, ()),
        as_path_length=_number_range(table, "as_path_length"),
        origins=table.items("origin", _origin, ()),
        sources=table.items("source", choice(*SOURCES), ()),
        peers=table.items("peer", _peer, ()),
        next_hops=tuple(item for item in next_hops if item is not None),
        next_hop_self=None in next_hops,
        local_pref=_number_range(table, "local_pref"),
        med=_number_range(table, "multi_exit_disc"),
        exclude=exclude,
    )


def parse_range(value: object) -> PrefixRange:
    """``P``, ``P le N``, ``P ge N``, ``P ge N le M``; BIRD's ``P{N,M}`` and ``P+``. Raises ValueError."""
    text = string(value).strip()
    try:
        return PrefixRange.exactly(parse_prefix(text))  # the usual case
    except ValueError:
        found = _RANGE.fullmatch(text) or _BRACES.fullmatch(text)
        if found is None or (found["prefix"] == text):
            if " " not in text and not set(text) & set("{}+"):
                raise
            raise ValueError(
                f'{shown(text)}: expected a prefix, alone (exactly this one), or with "le 24", "ge 16", '
                '"ge 16 le 24", "{16,24}" or "+" behind it'
            ) from None
    parts = found.groupdict()
    prefix = parse_prefix(parts["prefix"])
    longest = BITS[prefix.afi]
    low = int(parts["ge"]) if parts["ge"] else prefix.length
    high = int(parts["le"]) if parts["le"] else longest
    if not prefix.length <= low <= high <= longest:
        raise ValueError(f"{shown(text)}: expected lengths from {prefix.length} to {longest}, the lower one first")
    return PrefixRange(prefix, low, high)


def _pattern(value: object) -> CommunityPattern:
    return parse_pattern(string(value))


def _expression(value: object) -> PathRegex:
    text = string(value)
    try:
        return PathRegex(text)
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {error}") from None


def _origin(value: object) -> int:
    return int(parse_origin(string(value)))


def _peer(value: object) -> str:
    """A description, or an address or network in its canonical form."""
    text = label(value)
    try:
        return peer_id(text)
    except ValueError:
        return text


def _network(value: object) -> PrefixRange | None:
    """None: ``self``."""
    text = string(value)
    if text == "self":
        return None
    try:
        network = parse_network(text if "/" in text else str(parse_address(text)[0]))
    except ValueError:
        if "/" in text:
            raise
        raise ValueError(f'{shown(text)}: expected "self", an address or a network') from None
    return PrefixRange.within(Prefix.of(network))


def _number_range(table: Table, key: str) -> Range | None:
    value = table.raw.get(key)
    number = integer(0, MAX_U32)
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        exact = table.get(key, _exactly, None)
        return None if exact is None else Range(exact, exact)
    child = table.table(key, RANGE_KEYS)
    low, high = child.get("min", number, 0), child.get("max", _optional_number, None)
    if high is not None and low > high:
        child.fault("max", f"{high} is under min {low}")
    return Range(low, high)


def _exactly(value: object) -> int | None:
    try:
        return integer(0, MAX_U32)(value)
    except ValueError as error:
        raise ValueError(f"{error}, or {{ min = …, max = … }}") from None


def _optional_number(value: object) -> int | None:
    return integer(0, MAX_U32)(value)


# -- changes -----------------------------------------------------------------------------------------------


def _changes(table: Table) -> Changes:
    settings = table.table("set", SET_KEYS)
    clear_med = settings.raw.get("multi_exit_disc") == "none"
    next_hops = settings.items("next_hop", next_hop, ())
    packed = tuple(item for item in next_hops if item is not None)
    if None in next_hops and packed:
        settings.fault("next_hop", '"self" stands alone: it is an address of the route\'s own family')
    if len({len(item) for item in packed}) < len(packed):
        settings.fault("next_hop", "expected one address a family")
    unchanged: int | tuple[int, ...] = 0
    prepended = table.get("prepend", _prepended, unchanged)
    changes = Changes(
        local_pref=settings.get("local_pref", _optional_number, None),
        med=None if clear_med else settings.get("multi_exit_disc", _med, None),
        clear_med=clear_med,
        origin=settings.get("origin", _optional_origin, None),
        next_hop_self=None in next_hops,
        next_hops=packed,
        remove_communities=_removed(table.table("remove", COMMUNITY_KEYS)),
        set_communities=_given(settings),
        add_communities=_given(table.table("add", COMMUNITY_KEYS)),
        prepend_own=prepended if isinstance(prepended, int) else 0,
        prepend_asns=() if isinstance(prepended, int) else prepended,
    )
    return changes or NOTHING


def _med(value: object) -> int | None:
    try:
        return integer(0, MAX_U32)(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "none"') from None


def _optional_origin(value: object) -> int | None:
    return _origin(value)


def _prepended(value: object) -> int | tuple[int, ...]:
    """How often our own AS, or which ASes."""
    if isinstance(value, list):
        if not 1 <= len(value) <= MAX_PREPEND:
            raise ValueError(f"expected 1 to {MAX_PREPEND} AS numbers")
        return tuple(asn(item) for item in value)
    if isinstance(value, str | dict):
        raise wrong_type(f"how often our own AS, from 1 to {MAX_PREPEND}, or a list of AS numbers", value)
    return integer(1, MAX_PREPEND, ", how often our own AS, or a list of AS numbers")(value)


def _given(table: Table) -> Communities:
    return table.get("communities", lambda value: parse_communities(_texts(value), ipv6=True), Communities())


def _removed(table: Table) -> tuple[CommunityPattern, ...]:
    if table.raw.get("communities") == []:
        table.fault("communities", "expected at least one")
    return table.items("communities", _pattern, ())


def _texts(value: object) -> Iterable[str]:
    texts = text_list(value)
    if not texts:
        raise ValueError('expected at least one; to take communities away: remove = { communities = ["*:*"] }')
    return texts
