"""Which BFD sessions somebody means: by the neighbor's address in any spelling, or by description."""

from __future__ import annotations

from collections.abc import Sequence

from bgpbfd.config.names import peer_id
from bgpbfd.control.snapshot import BfdSnapshot


def sessions_named(sessions: Sequence[BfdSnapshot], name: str) -> list[BfdSnapshot]:
    """All of that name, be they a neighbor's or stand-alone: several paths may lead to one address.

    An IPv6 link-local address without its scope means those of every interface.
    """
    found = [session for session in sessions if name in (session.peer, session.description)]
    if found:
        return found
    try:
        canonical = peer_id(name)
    except ValueError:
        return []
    return [session for session in sessions if canonical in _spellings(session)]


def _spellings(session: BfdSnapshot) -> set[str]:
    names = {session.peer, session.peer.partition("%")[0]}
    report = session.report
    if report is not None:
        names |= {report.remote, f"{report.remote}%{report.interface}"}
    return names
