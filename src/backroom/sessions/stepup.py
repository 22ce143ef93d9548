"""Ask for the password again before a page where it matters (ASVS 5.0, 7.5.1 and 7.5.3)."""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import resolve_url

from backroom.clock import SECOND, SystemClock, to_datetime

SIGNED_IN_AT: Final = "_backroom_signed_in_at"
"""The name in the session of the moment at which the user last gave their credentials."""


def note_sign_in(request: HttpRequest) -> None:
    """Write down that the user has just given their credentials."""
    request.session[SIGNED_IN_AT] = SystemClock().now()


def signed_in_at(request: HttpRequest) -> datetime | None:
    """Return when the user last gave their credentials in this session; None if that is not known."""
    found = request.session.get(SIGNED_IN_AT)
    return to_datetime(found) if isinstance(found, int) else None


def was_recently_authenticated(request: HttpRequest, seconds: float) -> bool:
    """Tell whether the user gave their credentials in this session within the last `seconds`."""
    return _is_recent(request.session.get(SIGNED_IN_AT), seconds)


def recently_authenticated[V: Callable[..., Any]](seconds: float, *, login_url: str | None = None) -> Callable[[V], V]:
    """Let only those into a view who gave their credentials within the last `seconds`; send the others to sign in.

    Signing in again gives the session a new id, and leads back to the page. The sign-in page must show itself to who
    is signed in, as Django's does unless it is told otherwise.
    """

    def decorator(view: V) -> V:
        def ask(request: HttpRequest) -> HttpResponseBase:
            url = resolve_url(login_url) if login_url else None
            # The answer to a form cannot be repeated by a link: it is the page before that is shown again.
            back = request.get_full_path() if request.method in {"GET", "HEAD"} else _page_before(request)
            return redirect_to_login(back, url, REDIRECT_FIELD_NAME)

        if iscoroutinefunction(view):

            @wraps(view)
            async def asynchronous(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                user = await request.auser()
                if not user.is_authenticated or not _is_recent(await request.session.aget(SIGNED_IN_AT), seconds):
                    return ask(request)
                return await view(request, *args, **kwargs)

            return asynchronous  # type: ignore[return-value]

        @wraps(view)
        def synchronous(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if not request.user.is_authenticated or not was_recently_authenticated(request, seconds):
                return ask(request)
            return view(request, *args, **kwargs)

        return synchronous  # type: ignore[return-value]

    return decorator


def _is_recent(found: Any, seconds: float) -> bool:
    return isinstance(found, int) and SystemClock().now() - found < seconds * SECOND


def _page_before(request: HttpRequest) -> str:
    from urllib.parse import urlsplit

    from django.utils.http import url_has_allowed_host_and_scheme

    referer = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(referer, {request.get_host()}, require_https=request.is_secure()):
        parts = urlsplit(referer)
        return parts.path + (f"?{parts.query}" if parts.query else "")
    return request.get_full_path()
