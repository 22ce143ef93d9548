"""How sessions end that no request of theirs ends: their time is over, somebody ends them, their user has too many.

What is done here concerns an engine and its store, never the session of the request at hand.
"""

from typing import TYPE_CHECKING, Final

from backroom.clock import after
from backroom.sessions import lifecycle
from backroom.sessions.documents import Changes
from backroom.sessions.keys import KeyHash, is_mark, mark_of
from backroom.sessions.records import Header
from backroom.sessions.rules import rules
from backroom.sessions.steps import Steps

if TYPE_CHECKING:
    from backroom.sessions.backends.base import BackroomSession

OLDEST_COOKIE: Final = 400 * 24 * 3600.0
"""Seconds. Browsers keep none for longer (RFC 6265bis, 5.5)."""

type Engine = type[BackroomSession]


def clearing(engine: "Engine", limit: int) -> Steps[int]:
    """Delete at most `limit` sessions whose time is over; return how many."""
    expired = yield from engine.get_store().delete_expired(engine.now(), limit)
    for header in expired:
        if not is_mark(header.key):
            yield from lifecycle.told(engine, "expired", header)
    return len(expired)


def ending(engine: "Engine", keys: list[KeyHash], *, reason: str) -> Steps[list[Header]]:
    """End sessions, whoever uses them; return those that were there."""
    ended = (yield from engine.get_store().delete(keys)) if keys else []
    for header in ended:
        yield from lifecycle.told(engine, "revoked", header, reason=reason)
    return ended


def ending_of_user(engine: "Engine", user_id: str, *, reason: str, but: KeyHash | None) -> Steps[list[Header]]:
    """End all sessions of a user but one; return those that were there."""
    if rules().options.READ_THROUGH:
        # Nobody knows which sessions of the earlier engine are theirs: none of them opens any more.
        yield from _refusing(engine, user_id)
    ended = yield from engine.get_store().delete_of_user(user_id, engine.now(), but)
    for header in ended:
        yield from lifecycle.told(engine, "revoked", header, reason=reason)
    return ended


def ending_the_oldest(engine: "Engine", user_id: str | None) -> Steps[None]:
    """End the oldest sessions of a user who has more than the limit."""
    limit = rules().options.LIMIT
    if limit is None or user_id is None:
        return
    theirs = yield from engine.get_store().of_user(user_id, engine.now())
    # The one that has just begun too, if others came after it meanwhile: of two that ended each other none would be left.
    if too_many := [each.key for each in theirs[limit:]]:
        yield from ending(engine, too_many, reason="limit")


def _refusing(engine: "Engine", user_id: str) -> Steps[None]:
    now, mark = engine.now(), mark_of(user_id)
    header = Header(mark, None, now, now, now, after(now, OLDEST_COOKIE), "", "", "")
    extra = yield from engine(mark).extra_columns({})
    yield from engine.get_store().insert(header, Changes(), extra)
