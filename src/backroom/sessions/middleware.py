"""Django's session middleware, with what it leaves to be wished: who asks, new ids in time, and caches kept out."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.functional import SimpleLazyObject

from backroom.cookies import as_partitioned
from backroom.sessions import devices
from backroom.sessions.backends.base import BackroomSession
from backroom.sessions.keys import KeyHash
from backroom.sessions.records import ADDRESS_LENGTH, AGENT_LENGTH, Visitor
from backroom.sessions.rules import rules
from backroom.sessions.users import gone_among


def _nobody() -> KeyHash | None:
    return None


current: Final = ContextVar[Callable[[], KeyHash | None]]("backroom.sessions.current", default=_nobody)
"""Tells the hash of the session of the request at hand, for what must not end that one."""


class SessionMiddleware(DjangosMiddleware):
    """Put it where `django.contrib.sessions.middleware.SessionMiddleware` stands. It serves any engine."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        if issubclass(self.SessionStore, BackroomSession):
            # What the engine lacks is told to who starts the server, not to the first visitor.
            self.SessionStore.get_store()

    def process_request(self, request: HttpRequest) -> None:
        """Give the request its session, and the session its visitor."""
        super().process_request(request)
        session: Any = request.session
        if isinstance(session, BackroomSession):
            session.visitor = visitor_of(request)
            session.on_access = partial(_keep_out_of_caches, request)  # type: ignore[method-assign]
            current.set(lambda: session.key_hash)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session, renew its id when it is time, and say that the response is for one visitor."""
        session: Any = getattr(request, "session", None)
        current.set(_nobody)
        if isinstance(session, BackroomSession):
            session.take_back()
            _end_if_the_user_is_gone(request, session)
            if response.status_code < 500 and session.wants_new_id:
                session.renew()
        response = super().process_response(request, response)
        devices.remember(request, response)
        name = settings.SESSION_COOKIE_NAME
        if name in response.cookies:
            if getattr(session, "came_with_replaced_id", False) and response.cookies[name].value:
                # The browser has the new id already, or is about to: this one would take it back.
                del response.cookies[name]
            elif rules().options.PARTITIONED:
                as_partitioned(response, name)
        if getattr(session, "accessed", False) or name in response.cookies:
            patch_cache_control(response, private=True)
        return response


def visitor_of(request: HttpRequest) -> Visitor:
    """Return who asks. A middleware for trusted proxies says so in `request.client_ip`."""
    address = getattr(request, "client_ip", None) or request.META.get("REMOTE_ADDR", "")
    # PostgreSQL holds no NUL in a text.
    user_agent = request.headers.get("User-Agent", "").replace("\0", "")
    return Visitor(str(address)[:ADDRESS_LENGTH], user_agent[:AGENT_LENGTH])


def _keep_out_of_caches(request: HttpRequest) -> None:
    """Have `cache_page` store nothing: it does so before any header of ours could tell it (Django's ticket 15855)."""
    request._cache_update_cache = False  # type: ignore[attr-defined]  # noqa: SLF001 - by which Django's middlewares tell one another


def _end_if_the_user_is_gone(request: HttpRequest, session: BackroomSession) -> None:
    """End the session of a user who was deleted or deactivated: it would come back with them."""
    # What login() and logout() put in its place is not lazy any more.
    if not session.accessed or not isinstance(request.__dict__.get("user"), SimpleLazyObject):
        return
    user = getattr(request, "_cached_user", getattr(request, "_acached_user", None))
    if user is None or user.is_authenticated or (user_id := session.user_id) is None:
        return
    # A backend that cannot reach its directory finds nobody either: that ends no session.
    if gone_among([user_id]):
        session.flush()
