"""Policies in the words of the file: ``config.policies`` reads what this writes, to an equal policy."""

from __future__ import annotations

from collections.abc import Iterable

from bgpbfd.policy.changes import Changes
from bgpbfd.policy.match import Match, Range
from bgpbfd.policy.policy import Policy, Term
from bgpbfd.policy.prefixes import PrefixRange
from bgpbfd.wire.text import Communities, format_address, format_communities, origin_text


def policy_as_plain(policy: Policy) -> dict[str, object]:
    """What ``[policies.NAME]`` holds; the name itself is not in it."""
    plain: dict[str, object] = {"default": policy.default}
    if policy.terms:
        plain["terms"] = [_term(term) for term in policy.terms]
    return plain


def _term(term: Term) -> dict[str, object]:
    match = _match(term.match)
    return {
        **({"name": term.name} if term.name is not None else {}),
        **({"match": match} if match else {}),
        "action": term.action,
        **_changes(term.changes),
    }


def _match(match: Match) -> dict[str, object]:
    plain: dict[str, object] = {
        "prefixes": [str(item) for item in match.prefixes],
        "families": [str(item) for item in match.families],
        "communities": [pattern.text for pattern in match.communities],
        "all_communities": [pattern.text for pattern in match.all_communities],
        "as_path": [expression.pattern for expression in match.as_path],
        "as_path_length": _range(match.as_path_length),
        "origin": [origin_text(item) for item in match.origins],
        "source": list(match.sources),
        "peer": list(match.peers),
        "next_hop": [*(["self"] if match.next_hop_self else []), *map(_network, match.next_hops)],
        "local_pref": _range(match.local_pref),
        "multi_exit_disc": _range(match.med),
        "not": _match(match.exclude) if match.exclude is not None else None,
    }
    return {key: value for key, value in plain.items() if value is not None and value != []}


def _range(numbers: Range | None) -> object:
    if numbers is None or numbers.low == numbers.high:
        return None if numbers is None else numbers.low
    return {"min": numbers.low, **({"max": numbers.high} if numbers.high is not None else {})}


def _network(networks: PrefixRange) -> str:
    return str(networks.prefix)


def _changes(changes: Changes) -> dict[str, object]:
    next_hops = [*(["self"] if changes.next_hop_self else []), *map(format_address, changes.next_hops)]
    settings: dict[str, object] = {
        "local_pref": changes.local_pref,
        "multi_exit_disc": "none" if changes.clear_med else changes.med,
        "origin": None if changes.origin is None else origin_text(changes.origin),
        "next_hop": next_hops or None,
        "communities": _communities(changes.set_communities),
    }
    plain: dict[str, object] = {
        "set": {key: value for key, value in settings.items() if value is not None},
        "add": _apart(_communities(changes.add_communities)),
        "remove": _apart([pattern.text for pattern in changes.remove_communities] or None),
        "prepend": changes.prepend_own or list(changes.prepend_asns),
    }
    return {key: value for key, value in plain.items() if value}


def _communities(communities: Communities) -> list[str] | None:
    return format_communities(communities) or None


def _apart(texts: Iterable[str] | None) -> dict[str, object]:
    return {} if texts is None else {"communities": list(texts)}
