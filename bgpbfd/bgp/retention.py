"""When a session's end leaves routes in place: graceful restart (RFC 4724) and its NOTIFICATIONs (RFC 8538).

Three questions: what the helper keeps, when an end has to be a hard reset so that the *peer* keeps nothing, and whether
the peer will keep our routes when we go without a word.

We help only where graceful restart is configured here. DEVIATES RFC 4724 §3: our capability without families, which
promises End-of-RIB marks, promises the helper's part too; an announcer that was not told otherwise keeps no route of a
dead router.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from bgpbfd.bgp.events import Cause, CauseKind
from bgpbfd.bgp.negotiate import Negotiated, PeerSettings
from bgpbfd.core import Family
from bgpbfd.wire.iana import CeaseSubcode, ErrorCode
from bgpbfd.wire.messages import Notification

# RFC 8538 §5.1: the Ceases that mean a lasting end; Administrative Reset is left to the implementation: an operator
# who resets a session wants it to begin from nothing. RFC 9384 has no word on BFD Down: the path has failed.
_HARD: Final = frozenset(
    {
        CeaseSubcode.MAXIMUM_PREFIXES,
        CeaseSubcode.ADMINISTRATIVE_SHUTDOWN,
        CeaseSubcode.PEER_DECONFIGURED,
        CeaseSubcode.ADMINISTRATIVE_RESET,
        CeaseSubcode.BFD_DOWN,
    }
)
_NOTHING: Final[tuple[frozenset[Family], int]] = (frozenset(), 0)


def retained(settings: PeerSettings, negotiated: Negotiated, cause: Cause) -> tuple[frozenset[Family], int]:
    """Whose routes the helper keeps as stale after a session that ended by ``cause``, and for how many s at most."""
    restart = negotiated.restart
    if settings.restart_time_s is None or restart is None or restart.time_s == 0:
        return _NOTHING  # RFC 4724 §4.2: a peer that is not back within 0 s has nothing left to keep
    match cause.kind:
        case CauseKind.CONNECTION_LOST:
            keeps = True  # RFC 4724 §4.2, and §5 where the peer has connected anew
        case CauseKind.HOLD_TIMER_EXPIRED | CauseKind.NOTIFICATION_SENT | CauseKind.NOTIFICATION_RECEIVED:
            keeps = negotiated.restart_notification and not is_hard_reset(cause)  # RFC 8538 §4
        case (
            CauseKind.ADMIN_SHUTDOWN
            | CauseKind.ADMIN_RESET
            | CauseKind.CONFIG_CHANGE
            | CauseKind.DECONFIGURED
            | CauseKind.DAEMON_STOP
            | CauseKind.MAX_PREFIXES
            | CauseKind.SEND_HOLD_TIMER_EXPIRED
            | CauseKind.CONNECTION_FAILED
            | CauseKind.COLLISION
        ):
            keeps = False  # our own decision
        case CauseKind.BFD_DOWN:
            # RFC 5882 §4.3 is about a restart that is in progress: whether BFD Down aborts that, by the C bits of both
            # ends ("control_plane_independent" in the cause's facts), is the engine's matter. Here BFD was the first to
            # tell that the path has failed: what was learned over it is not to be announced any longer.
            keeps = False
        case CauseKind.INTERNAL_ERROR:
            keeps = False  # DEVIATES RFC 8538 §4: what the peer sent may be what broke us
        case _:
            assert_never(cause.kind)
    families = frozenset(family for family, _ in restart.families) & negotiated.families
    return (families, restart.time_s) if keeps and families else _NOTHING


def keeps_ours(settings: PeerSettings, negotiated: Negotiated) -> bool:
    """The peer keeps our routes when TCP ends without a NOTIFICATION.

    RFC 4724 §3: any capability 64, without families too, says that its sender does the helper's part.
    """
    return settings.restart_time_s is not None and negotiated.restart is not None


def hardened(negotiated: Negotiated | None, notification: Notification) -> Notification:
    """``notification``, a Cease on an established session, as it has to be sent for the peer to drop our routes.

    RFC 8538 §3.1: Cease/Hard Reset around its code, subcode and Data.
    """
    if negotiated is None or not negotiated.restart_notification or notification.subcode not in _HARD:
        return notification
    wrapped = bytes((notification.code, notification.subcode)) + notification.data
    return Notification(ErrorCode.CEASE, CeaseSubcode.HARD_RESET, wrapped)


def unwrapped(notification: Notification) -> Notification:
    """What a hard reset is for; anything else as it is, and so is one without a whole NOTIFICATION in it."""
    if not _is_hard(notification) or len(notification.data) < 2:
        return notification
    return Notification(notification.data[0], notification.data[1], notification.data[2:])


def told(cause: Cause, notification: Notification) -> Cause:
    """``cause`` with the numbers of the NOTIFICATION that went or came with it, a hard reset looked into."""
    inner = unwrapped(notification)
    facts = cause.facts | ({"hard_reset": True} if _is_hard(notification) else {})
    return replace(cause, code=int(inner.code), subcode=int(inner.subcode), facts=facts)


def is_hard_reset(cause: Cause) -> bool:
    return bool(cause.facts.get("hard_reset"))


def _is_hard(notification: Notification) -> bool:
    return notification.code == ErrorCode.CEASE and notification.subcode == CeaseSubcode.HARD_RESET
