"""What our rules and the import policy make of attributes that a peer announced (RFC 4271 §9.1.1, Phase 1).

In this order, the first that refuses decides:

1. loops (RFC 4271 §9.1.2, RFC 4456 §8) and next hops that cannot be (RFC 4271 §5.1.3, §6.3);
2. route leaks (RFC 9234 §5), and the mark that keeps others from leaking what we pass on;
3. the import policy;
4. RFC 8326 §4.1: a path that still carries GRACEFUL_SHUTDOWN gets LOCAL_PREF 0. It comes after the policy, so that a
   policy that sets LOCAL_PREF for all that a peer sends does not undo the peer's shutdown; one that takes the community
   away does.

Attributes stay octets as long as nothing has to know what they say. Most of a full table can be judged by what is not
among these octets.

RFC 7999: a path with BLACKHOLE is like any other here; that it is not passed on is ``export``'s business.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from bgpbfd.core import SAFI_UNICAST, Family
from bgpbfd.policy.policy import Facts
from bgpbfd.rib.select import Outcome, PeerInfo
from bgpbfd.wire.attributes import PathAttributes
from bgpbfd.wire.iana import BgpRole, WellKnownCommunity
from bgpbfd.wire.received import Attributes, Kept, Reading, ReceivedAttributes, read_out

GRACEFUL_SHUTDOWN = int(WellKnownCommunity.GRACEFUL_SHUTDOWN)  # RFC 8326 §5
GRACEFUL_SHUTDOWN_LOCAL_PREF = 0  # §4.1: RECOMMENDED

Judgement: TypeAlias = tuple[Attributes, Outcome | None]
"""The attributes in force, and what became of the path: None for one that is valid, unchanged and had no policy."""

_IPV6_LOOPBACK = bytes(15) + b"\x01"
_UNSPECIFIED_IPV6 = bytes(16)
_CACHE_LIMIT = 1 << 10  # distinct attributes whose judgement is kept, a peer


_NOT_READ = PathAttributes()  # for a policy that does not look at attributes


class Importer:
    """Judges what one peer announces. ``by_prefix``: one set of attributes may get several judgements."""

    __slots__ = ("_blind", "_facts", "_good_hops", "_known", "_plain", "_signs", "by_prefix", "info")

    def __init__(self, info: PeerInfo) -> None:
        self.info = info
        policy = info.policy
        self.by_prefix = policy is not None and policy.depends_on_prefix
        roles = info.role is not None and info.external
        self._plain = policy is None and not roles
        self._blind = not roles and (policy is None or not policy.depends_on_attributes)
        self._facts = _facts(info)
        # Where none of these is, there is no loop and no GRACEFUL_SHUTDOWN. ORIGINATOR_ID and CLUSTER_LIST do not come
        # from external peers (RFC 7606 §7.9, §7.10).
        numbers = [GRACEFUL_SHUTDOWN, info.local_asn]
        if not info.external:
            numbers += [info.local_router_id, info.local_router_id if info.cluster_id is None else info.cluster_id]
        self._signs = tuple(number.to_bytes(4) for number in dict.fromkeys(numbers))
        self._good_hops: set[bytes | None] = set()  # a peer has few
        # By identity, as received attributes are interned; each entry keeps its key's object alive.
        self._known: dict[tuple[int, Family], tuple[Attributes, PathAttributes, str | None, Judgement | None]] = {}

    def judge(self, received: Attributes, family: Family, nlri: bytes) -> Judgement:
        """``nlri`` is looked at only with ``by_prefix``: without, the answer holds for all that share ``received``."""
        if self._blind and self._unsuspicious(received, family):
            return (received, None) if self._plain else self._by_blind_policy(received, family, nlri)
        key = (id(received), family)
        hit = self._known.get(key)
        if hit is None or hit[0] is not received:
            attributes, reason = _by_rule(read_out(received), self.info, family)
            judgement = None
            if not self.by_prefix:
                judgement = _by_policy(received, attributes, reason, self.info, self._facts, family, nlri)
            if len(self._known) >= _CACHE_LIMIT:
                self._known.clear()
            hit = self._known[key] = (received, attributes, reason, judgement)
        _, attributes, reason, judgement = hit
        return judgement or _by_policy(received, attributes, reason, self.info, self._facts, family, nlri)

    def groups(
        self, received: Attributes, family: Family, nlri: Iterable[bytes]
    ) -> list[tuple[Judgement, list[bytes]]]:
        """``nlri`` by the judgement that they get; attributes that are equal are one object in the answer."""
        if self._blind and self._unsuspicious(received, family) and self.info.policy is not None:
            evaluate, facts = self.info.policy.evaluate, self._facts
            blind: dict[tuple[bool, str], list[bytes]] = {}
            for item in nlri:
                accepted, _, why = evaluate(_NOT_READ, family, item, facts)
                key = accepted, why
                if key in blind:
                    blind[key].append(item)
                else:
                    blind[key] = [item]
            return [
                ((received, Outcome(received, None if accepted else why, why)), items)
                for (accepted, why), items in blind.items()
            ]
        groups: dict[tuple[object, ...], tuple[Judgement, list[bytes]]] = {}
        for item in nlri:
            judgement = self.judge(received, family, item)
            groups.setdefault(identity(judgement), (judgement, []))[1].append(item)
        return list(groups.values())

    def _unsuspicious(self, received: Attributes, family: Family) -> bool:
        """Whether the rules have nothing to say of ``received``; True is sure, and needs no reading out."""
        if type(received) is not ReceivedAttributes or not received.form:
            return False
        block, next_hop = received.block, received.next_hop
        for sign in self._signs:
            if block.find(sign) >= 0:  # four times as fast as "in", which first tries whether it is an integer
                return False
        if next_hop in self._good_hops or family.safi != SAFI_UNICAST:
            return True
        if _unusable_next_hop(next_hop, self.info) is not None:
            return False
        if len(self._good_hops) >= _CACHE_LIMIT:
            self._good_hops.clear()
        self._good_hops.add(next_hop)
        return True

    def _by_blind_policy(self, received: Attributes, family: Family, nlri: bytes) -> Judgement:
        policy = self.info.policy
        if policy is None:
            return received, None
        accepted, _, why = policy.evaluate(_NOT_READ, family, nlri, self._facts)
        return received, Outcome(received, None if accepted else why, why)


class Revised(Kept, frozen=True, eq=False, gc=False):
    """Attributes that our rules or the import policy changed: worked out again when somebody asks.

    What was received is kept anyway, and it and ``info`` say all; a full table of changed attributes would take more
    memory than all the rest of it. ``nlri``: one of those that were judged alike.
    """

    received: ReceivedAttributes
    info: PeerInfo
    family: Family
    nlri: bytes

    def read_out(self) -> PathAttributes:
        received = self.received
        known = received.block, received.next_hop, received.reading, received.form
        return _revised(*known, self.info, self.family, self.nlri)


def kept(judgement: Judgement, received: Attributes, info: PeerInfo, family: Family, nlri: bytes) -> Attributes:
    """The attributes in force as they are to be kept; ``judgement`` is of ``received`` by ``info``, for ``nlri``."""
    in_force = judgement[0]
    if type(received) is ReceivedAttributes and in_force is not received:
        return Revised(received, info, family, nlri)
    return in_force


@functools.lru_cache(_CACHE_LIMIT)
def _revised(
    block: bytes, next_hop: bytes | None, reading: Reading, form: int, info: PeerInfo, family: Family, nlri: bytes
) -> PathAttributes:
    received = ReceivedAttributes(block, next_hop, reading, form)
    return read_out(_judged(received, info, _facts(info), family, nlri)[0])


def _facts(info: PeerInfo) -> Facts:
    return Facts("peer", info.names, info.local_asn)


def _judged(received: Attributes, info: PeerInfo, facts: Facts, family: Family, nlri: bytes) -> Judgement:
    attributes, reason = _by_rule(read_out(received), info, family)
    return _by_policy(received, attributes, reason, info, facts, family, nlri)


def _by_rule(received: PathAttributes, info: PeerInfo, family: Family) -> tuple[PathAttributes, str | None]:
    reason = unusable(received, info, family)
    if reason is not None or info.role is None or not info.external or family.safi != SAFI_UNICAST:
        return received, reason
    if received.only_to_customer is None and info.role in _FROM_ABOVE:
        # RFC 9234 §5: what a Provider, a Peer or an RS sends may go on to Customers only
        return replace(received, only_to_customer=info.remote_asn), None
    return received, _leak(received, info, info.role)


def _by_policy(
    received: Attributes,
    attributes: PathAttributes,
    reason: str | None,
    info: PeerInfo,
    facts: Facts,
    family: Family,
    nlri: bytes,
) -> Judgement:
    """``attributes``: what the rules made of ``received``."""
    policy = info.policy
    if reason is not None or policy is None:
        return _shut_down(received, attributes, reason, None, info)
    verdict = policy.evaluate(attributes, family, nlri, facts)
    if not verdict.accepted:
        return _unless_changed(received, attributes), Outcome(received, verdict.reason, verdict.reason)
    return _shut_down(received, verdict.attributes, None, verdict.reason, info)


def _shut_down(
    received: Attributes, attributes: PathAttributes, reason: str | None, why: str | None, info: PeerInfo
) -> Judgement:
    if GRACEFUL_SHUTDOWN in attributes.communities and info.external:
        attributes = replace(attributes, local_pref=GRACEFUL_SHUTDOWN_LOCAL_PREF)
    in_force = _unless_changed(received, attributes)
    if in_force is received and reason is None and why is None:
        return received, None
    return in_force, Outcome(received, reason, why)


def _unless_changed(received: Attributes, attributes: PathAttributes) -> Attributes:
    """``received`` where ``attributes`` is what was read out of it."""
    return received if attributes is read_out(received) else attributes


def identity(judgement: Judgement) -> tuple[object, ...]:
    """What tells judgements of the same attributes apart, as a key; attributes that were not changed need no hash."""
    attributes, outcome = judgement
    if outcome is None:
        return ()
    return None if attributes is outcome.received else attributes, outcome.reason, outcome.why


_FROM_ABOVE = (BgpRole.CUSTOMER, BgpRole.PEER, BgpRole.RS_CLIENT)  # our roles towards Providers, Peers, RSes
_TO_BELOW = {BgpRole.PROVIDER: "customer", BgpRole.RS: "route server's client"}


def _leak(attributes: PathAttributes, info: PeerInfo, role: BgpRole) -> str | None:
    """RFC 9234 §5, ingress 1 and 2."""
    otc = attributes.only_to_customer
    if otc is None:
        return None
    if role in _TO_BELOW:
        return f"route leak: ONLY_TO_CUSTOMER {otc} from a {_TO_BELOW[role]} (RFC 9234 §5)"
    if role == BgpRole.PEER and otc != info.remote_asn:
        return f"route leak: ONLY_TO_CUSTOMER {otc} from peer AS {info.remote_asn} (RFC 9234 §5)"
    return None


def unusable(attributes: PathAttributes, info: PeerInfo, family: Family) -> str | None:
    """Why a route from that peer may not be used, or None.

    Loops (RFC 4271 §9.1.2, RFC 4456 §8) and next hops that cannot be (RFC 4271 §5.1.3, §6.3).
    """
    for _, asns in attributes.as_path:
        if info.local_asn in asns:
            return f"AS loop: our AS {info.local_asn} is in the AS_PATH"
    if attributes.originator_id is not None and attributes.originator_id == info.local_router_id.to_bytes(4):
        return "originator loop: ORIGINATOR_ID is our router id"
    if attributes.cluster_list:
        cluster_id = info.local_router_id if info.cluster_id is None else info.cluster_id
        if cluster_id.to_bytes(4) in attributes.cluster_list:
            return "cluster loop: our cluster id is in the CLUSTER_LIST"
    if family.safi != SAFI_UNICAST:
        return None  # flow specifications carry no next hop (RFC 8955 §4)
    return _unusable_next_hop(attributes.next_hop, info)


def _unusable_next_hop(next_hop: bytes | None, info: PeerInfo) -> str | None:
    if not next_hop:
        return "next hop: none"
    if next_hop in info.local_addresses or next_hop[:16] in info.local_addresses:
        return "next hop: our own address"
    if len(next_hop) == 4:
        first = next_hop[0]
        if first == 0:
            return "next hop: in 0.0.0.0/8"
        if first == 127 and not (len(info.address) == 4 and info.address[0] == 127):
            return "next hop: loopback address"
        if first >= 224:
            return "next hop: multicast or reserved address"
        return None
    first_half = next_hop[:16]
    if first_half[0] == 0xFF:
        return "next hop: multicast address"
    if first_half == _UNSPECIFIED_IPV6 and len(next_hop) == 16:
        return "next hop: unspecified address"  # with a link-local half behind it, it is BIRD's way to say "only that"
    if first_half == _IPV6_LOOPBACK and info.address != _IPV6_LOOPBACK:
        return "next hop: loopback address"
    return None
