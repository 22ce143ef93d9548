"""What a page has read that belongs to one visitor: noticed while it is made, so that it is not shown to another.

Everything that watches one request hears of a read: a page inside a page reads for both.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, cast

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

ALL: Final = "*"
WATCHERS: Final = "_backroom_cache_watchers"
CSRF_USED: Final = "CSRF_COOKIE_NEEDS_UPDATE"
"""What `get_token()` leaves in request.META."""


class Reads:
    """What one watcher has noticed. `cookies` are the names that were asked for, or ALL."""

    def __init__(self) -> None:
        self.cookies: set[str] = set()
        self.tracking = False
        self.is_in_view = False
        """Before the view, the session and CSRF middlewares fetch their cookie, whether or not it will be used."""
        self.ends_with_view = False
        """Whether nobody but the view is watched. On its way out SessionMiddleware asks whether there is a session."""
        self._reasons: dict[str, None] = {}
        self._session_before = False
        self._csrf_before = False
        self._user: Any = None

    def begin(self, request: HttpRequest, *, trusts_middleware: bool) -> None:
        """Watch the request from here on. What was read of the session before counts, unless it is said not to."""
        watchers: list[Reads] = request.__dict__.setdefault(WATCHERS, [])
        watchers.append(self)
        if not isinstance(request.COOKIES, _Cookies):
            request.COOKIES = _Cookies(request.COOKIES, watchers)
        session: Any = getattr(request, "session", None)
        if session is None:
            _expect_session(request)
        else:
            _watch_session(request, session)
        if getattr(session, "accessed", False):
            self._session_before = True
            if trusts_middleware:
                session.accessed = False
        self._csrf_before = bool(request.META.pop(CSRF_USED, False))

    def enter_view(self, request: HttpRequest, *, per_user: bool = False, ends_with_view: bool = False) -> None:
        """Watch whom the view takes its visitor for. Comes after every middleware has had the request."""
        self.is_in_view = True
        self.ends_with_view = ends_with_view
        self._user = request.__dict__.get("user")
        if per_user:
            return
        if "user" in request.__dict__:
            user = request.user
            setattr(request, "user", SimpleLazyObject(lambda: self._user_read(user)))  # noqa: B010 - lazy as Django sets it
        if callable(auser := request.__dict__.get("auser")):

            async def noticing() -> Any:
                self.private("user")
                return await auser()

            request.auser = noticing

    def end(self, request: HttpRequest) -> None:
        """Watch no longer; leave the request's own flags as if nobody had."""
        watchers: list[Reads] = request.__dict__.get(WATCHERS, [])
        if self not in watchers:
            return
        watchers.remove(self)
        self.look(request)
        session: Any = getattr(request, "session", None)
        if self._session_before and session is not None:
            session.accessed = True
        if self._csrf_before:
            request.META[CSRF_USED] = True

    def look(self, request: HttpRequest) -> None:
        """Note what can be seen of reads by what they left behind."""
        if getattr(getattr(request, "session", None), "accessed", False):
            self.private("session")
        if request.META.get(CSRF_USED) is not None:
            self.private("csrf-token")
        self._look_for_another_user(request)
        # A nonce that exists may be in the page; Django's is true once it does, that of django-csp is a text.
        if getattr(request, "_csp_nonce", None):
            self.private("csp-nonce")
        messages: Any = getattr(request, "_messages", None)
        if getattr(messages, "used", False) or getattr(messages, "added_new", False):
            self.private("messages")

    def private(self, reason: str) -> None:
        """Note a read after which the page is for this visitor only."""
        self._reasons[reason] = None

    @property
    def reason(self) -> str | None:
        """Return the first thing that makes the page private, or None."""
        return next(iter(self._reasons), None)

    def cookie(self, name: str, *, is_value: bool) -> None:
        """Note that a cookie was asked for."""
        if name in {settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME}:
            if self.is_in_view and (is_value or self.ends_with_view):
                self.private("session-cookie")
            return
        self.cookies.add(name)

    def _look_for_another_user(self, request: HttpRequest) -> None:
        """Notice that the view has found out by itself who it is: by a key in a header, say, as API frameworks do."""
        user = request.__dict__.get("user")
        is_unread = isinstance(user, SimpleLazyObject) and user.__dict__["_wrapped"] is empty
        if user is not self._user and not is_unread and getattr(user, "is_authenticated", False):
            self.private("user")

    def _user_read(self, user: Any) -> Any:
        self.private("user")
        return user


def tell_watchers(request: HttpRequest, cookies: Iterable[str]) -> None:
    """Have those who watch the request hear of the cookies that a stored page once read."""
    watchers: list[Reads] = request.__dict__.get(WATCHERS, [])
    for watcher in watchers:
        watcher.cookies.update(cookies)


def _expect_session(request: Any) -> None:
    """Have the session watched from when a middleware further in brings it."""
    kind: Any = type(request)
    if not isinstance(vars(kind).get("session"), property):
        request.__class__ = _expecting_session(kind)


@lru_cache(maxsize=16)
def _expecting_session(kind: type[HttpRequest]) -> type[HttpRequest]:
    def read(request: HttpRequest) -> Any:
        try:
            return request.__dict__["session"]
        except KeyError:
            raise AttributeError("session") from None

    def bring(request: HttpRequest, session: Any) -> None:
        request.__dict__["session"] = session
        _watch_session(request, session)

    def take_away(request: HttpRequest) -> None:
        del request.__dict__["session"]

    members = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    expecting: Any = type(kind.__name__, (kind,), {**members, "session": property(read, bring, take_away)})
    return cast("type[HttpRequest]", expecting)


def _watch_session(request: HttpRequest, session: Any) -> None:
    if isinstance(session, SessionBase) and WATCHERS not in session.__dict__:
        setattr(session, WATCHERS, request.__dict__[WATCHERS])
        session.__class__ = _watched(type(session))


@lru_cache(maxsize=16)
def _watched(kind: type[SessionBase]) -> type[SessionBase]:
    """Return a session class that tells when it is asked for its key, of which Django's own takes no note."""

    def session_key(session: Any) -> str | None:
        for watcher in getattr(session, WATCHERS):
            watcher.private("session")
        key: str | None = super(watched, session).session_key
        return key

    def is_empty(session: Any) -> bool:
        for watcher in getattr(session, WATCHERS):
            if watcher.ends_with_view:
                watcher.private("session")
        return bool(super(watched, session).is_empty())

    # Django signs sessions with the name of their class.
    members = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    watched: Any = type(kind.__name__, (kind,), {**members, "session_key": property(session_key), "is_empty": is_empty})
    return cast("type[SessionBase]", watched)


def _of_all(name: str) -> Any:
    """Return a method of dict that reads every cookie there is."""
    method = getattr(dict, name)

    def reading(cookies: "_Cookies", *args: Any) -> Any:
        for watcher in cookies.watchers:
            watcher.cookies.add(ALL)
        return method(cookies, *args)

    return reading


class _Cookies(dict[str, str]):  # noqa: PLW1641 - no dict can be hashed
    """request.COOKIES, which tells what is asked for."""

    def __init__(self, cookies: dict[str, str], watchers: list[Reads]) -> None:
        super().__init__(cookies)
        self.watchers = watchers

    def _read(self, name: str, *, is_value: bool = True) -> None:
        for watcher in self.watchers:
            watcher.cookie(name, is_value=is_value)

    def __getitem__(self, name: str) -> str:
        self._read(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self._read(name)
        return super().pop(name, *default)

    def __contains__(self, name: object) -> bool:
        self._read(str(name), is_value=False)
        return super().__contains__(name)

    __iter__ = _of_all("__iter__")
    __len__ = _of_all("__len__")
    __reversed__ = _of_all("__reversed__")
    __eq__ = _of_all("__eq__")
    __ne__ = _of_all("__ne__")
    __repr__ = _of_all("__repr__")
    __or__ = _of_all("__or__")
    __ror__ = _of_all("__ror__")
    keys = _of_all("keys")
    values = _of_all("values")
    items = _of_all("items")
    copy = _of_all("copy")
    popitem = _of_all("popitem")
    setdefault = _of_all("setdefault")
