"""The story of each session, told twice: a line in the log for operators, a signal for the project's code.

Neither has the id, nor its hash: a session is named by its handle, a salted hash (OWASP, Session Management Cheat
Sheet, "Logging Sessions Life Cycle").
"""

import logging
from typing import Any, Final

from django.dispatch import Signal

from backroom.sessions import signals
from backroom.sessions.info import SessionInfo
from backroom.sessions.keys import handle_of
from backroom.sessions.records import Header
from backroom.sessions.steps import Send, Steps

logger = logging.getLogger("backroom.sessions")

SIGNALS: Final[dict[str, Signal]] = {
    "created": signals.session_created,
    "renewed": signals.session_renewed,
    "revoked": signals.session_revoked,
    "expired": signals.session_expired,
    "visitor_changed": signals.visitor_changed,
}


def told(sender: Any, action: str, header: Header, **more: Any) -> Steps[None]:
    """Log what happened to a session and send its signal."""
    if logger.isEnabledFor(logging.INFO):
        reason = f" reason={more['reason']}" if "reason" in more else ""
        logger.info("action=%s session=%s user_id=%s%s", action, handle_of(header.key), header.user_id or "-", reason)
    signal = SIGNALS[action]
    if signal.has_listeners(sender):
        yield Send(signal, sender, {"session": SessionInfo.of(header), **more})
