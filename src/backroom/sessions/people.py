"""Whose sessions are whose: list them, name them, end them. Each verb has an async twin with an `a` before its name.

There is no copy of a session anywhere but in its store, which every request asks: what is ended here is ended.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from backroom.errors import BackroomError
from backroom.sessions import endings
from backroom.sessions.backends.base import BackroomSession
from backroom.sessions.documents import Changes
from backroom.sessions.info import SessionInfo
from backroom.sessions.keys import KeyHash
from backroom.sessions.records import LABEL_LENGTH, Header
from backroom.sessions.steps import Steps, arun, run

__all__ = [
    "SessionInfo",
    "arevoke",
    "arevoke_all",
    "arevoke_others",
    "asessions_of",
    "aset_label",
    "revoke",
    "revoke_all",
    "revoke_others",
    "sessions_of",
    "set_label",
]


class NoSuchEngine(BackroomError):
    """SESSION_ENGINE is none of ours, and no other knows whose a session is."""


def engine() -> type[BackroomSession]:
    """Return the SessionStore of this project; raise `NoSuchEngine` if it is none of ours."""
    found: type[Any] = import_module(settings.SESSION_ENGINE).SessionStore
    if not issubclass(found, BackroomSession):
        msg = (
            f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, which does not know whose a session is. "
            "Use backroom.sessions.backends.database or backroom.sessions.backends.redis."
        )
        raise NoSuchEngine(msg)
    return found


def sessions_of(user: Any) -> list[SessionInfo]:
    """Return the sessions in which a user is signed in, the newest first. `user` may be their primary key."""
    return run(_sessions_of(user))


async def asessions_of(user: Any) -> list[SessionInfo]:
    """See sessions_of()."""
    return await arun(_sessions_of(user))


def revoke(session: SessionInfo | KeyHash | Any, *, reason: str = "revoked") -> bool:
    """End a session, of `sessions_of()` or a row of the admin; tell whether it was still there."""
    return bool(run(endings.ending(engine(), [_key_of(session)], reason=reason)))


async def arevoke(session: SessionInfo | KeyHash | Any, *, reason: str = "revoked") -> bool:
    """See revoke()."""
    return bool(await arun(endings.ending(engine(), [_key_of(session)], reason=reason)))


def revoke_others(request: HttpRequest, *, reason: str = "revoked") -> int:
    """End all sessions of the user who is signed in with this request but this one; return how many."""
    session: Any = request.session
    return run(_revoke_all(session.user_id, reason=reason, but=_current(session)))


async def arevoke_others(request: HttpRequest, *, reason: str = "revoked") -> int:
    """See revoke_others()."""
    session: Any = request.session
    await session._aget_session()  # noqa: SLF001 - the async way of looking into it
    return await arun(_revoke_all(session.user_id, reason=reason, but=_current(session)))


def revoke_all(user: Any, *, reason: str = "revoked") -> int:
    """End all sessions of a user; return how many."""
    return run(_revoke_all(user, reason=reason))


async def arevoke_all(user: Any, *, reason: str = "revoked") -> int:
    """See revoke_all()."""
    return await arun(_revoke_all(user, reason=reason))


def set_label(session: SessionInfo, label: str) -> bool:
    """Give a session a name that its owner knows it by; tell whether it is still there."""
    return bool(run(engine().get_store().write(session.key, Changes(), {"label": label.strip()[:LABEL_LENGTH]})))


async def aset_label(session: SessionInfo, label: str) -> bool:
    """See set_label()."""
    return bool(await arun(engine().get_store().write(session.key, Changes(), {"label": label.strip()[:LABEL_LENGTH]})))


def renew_at_once(users: Iterable[Any]) -> None:
    """Have each session of some users get a new id when it is used next: after a change of what they may do."""
    run(engine().get_store().renew_at_once([_user_id(user) for user in users]))


def revoke_all_of(user_ids: Iterable[str], *, reason: str, but: KeyHash | None = None) -> int:
    """End all sessions of several users but one; return how many."""
    return sum(run(_revoke_all(user_id, reason=reason, but=but)) for user_id in user_ids)


def _sessions_of(user: Any) -> Steps[list[SessionInfo]]:
    return [SessionInfo.of(header) for header in (yield from _headers_of(user))]


def _revoke_all(user: Any, *, reason: str, but: KeyHash | None = None) -> Steps[int]:
    if user is None:
        return 0
    return len((yield from endings.ending_of_user(engine(), _user_id(user), reason=reason, but=but)))


def _headers_of(user: Any) -> Steps[list[Header]]:
    store = engine()
    return (yield from store.get_store().of_user(_user_id(user), store.now()))


def _current(session: Any) -> KeyHash | None:
    key: KeyHash | None = getattr(session, "key_hash", None)
    return key


def _user_id(user: Any) -> str:
    # As Django's login() puts it into the session.
    return str(user._meta.pk.value_to_string(user)) if hasattr(user, "_meta") else str(user)


def _key_of(session: Any) -> KeyHash:
    match session:
        case KeyHash():
            return session
        case SessionInfo():
            return session.key
        case _ if isinstance(getattr(session, "session_key", None), KeyHash):
            return session.session_key  # type: ignore[no-any-return]
        case _:
            msg = f"{session!r} is no session. Pass one of sessions_of(), or a row of the admin."
            raise TypeError(msg)
