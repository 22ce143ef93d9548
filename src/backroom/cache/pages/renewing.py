"""Having a page made anew behind its visitor's back: whether anybody else can ask for the same one, and asking them to."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.http import HttpRequest
from django.utils.timezone import get_current_timezone_name, get_default_timezone_name

from backroom.cache.pages.options import PageCache
from backroom.cache.pages.variants import Variation
from backroom.cache.refreshing import in_background

REVISIT: Final = "_backroom_cache_revisit"
"""On a request that a refresh makes up: it serves nobody, and looks for nothing but a reason not to go on."""
SENT_AGAIN: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "host", "user-agent", "x-requested-with"}
)
"""Headers that a task may send in a visitor's place. Any other may be a secret, and a task keeps its arguments."""


def can_be_revisited(cache: PageCache, variation: Variation) -> bool:
    """Tell whether somebody else can ask for the same page: not if the key has anything of this visitor."""
    return (
        not cache.per_user
        and not variation.cookies
        and SENT_AGAIN.issuperset(variation.headers)
        # Nothing in a request says the time zone, so whoever is in another has it from a cookie, or from a user.
        and get_current_timezone_name() == get_default_timezone_name()
    )


def revisit_in_background(cache: PageCache, request: HttpRequest, headers: Iterable[str]) -> bool:
    """Have the page of this request, which differs by these headers, visited elsewhere; tell whether it will be."""
    from backroom.cache.pages.revisiting import revisit

    address = address_of(request, headers)
    return in_background(cache.alias, lambda backend: _enqueued(address, backend), lambda: revisit(address))


def address_of(request: HttpRequest, headers: Iterable[str]) -> dict[str, Any]:
    """Return what to visit: the address, and the headers by which its pages differ."""
    sent = {name: request.headers[name] for name in headers if name in request.headers}
    # The language in the key may have come from a cookie.
    if language := getattr(request, "LANGUAGE_CODE", None) or request.headers.get("accept-language"):
        sent.setdefault("accept-language", language)
    query = dict.get(request.META, "QUERY_STRING", "")
    return {
        "scheme": request.scheme,
        "host": request.get_host(),
        "script_name": request.META.get("SCRIPT_NAME", ""),
        "path_info": request.path_info,
        "query": query,
        "headers": sent,
    }


def _enqueued(address: Mapping[str, Any], backend: str) -> None:
    from backroom.cache.tasks import enqueue, refresh_page

    enqueue(refresh_page, backend, dict(address))
