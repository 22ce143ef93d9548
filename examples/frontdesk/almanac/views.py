"""A page that takes two seconds and is kept for five minutes: for programs as JSON, for people with what the cache did."""

import json
import re
import time
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from almanac.crowd import send_crowd
from almanac.figures import compile_almanac
from backroom.cache import cache_page, invalidate
from frontdesk import caches

TAG: Final = "almanac"
CROWD: Final = "almanac-crowd"

WORDS: Final = {
    "made": ("Made for you", "It was not in the cache, so you waited while it was compiled."),
    "waited": ("Waited for", "Somebody else had just asked for it: you waited for theirs, and it was compiled once."),
    "found": ("From the cache", "It was compiled for an earlier visitor."),
    "stale": ("From the cache, stale", "It is past its time, so you have the old one while a new one is compiled."),
}


@require_safe
@cache_page(caches.KEPT_SECONDS, stale=600, stale_if_error=3600, tags=TAG)
def figures(_request: HttpRequest) -> HttpResponse:
    """Answer with the figures. No session, no token, no name: everybody may have the same."""
    return JsonResponse(compile_almanac())


@require_safe
def almanac(request: HttpRequest) -> HttpResponse:
    """Show the figures, in a page that is the visitor's own and is not kept."""
    started = time.perf_counter()
    # The same view, with its cache in front of it: what is kept is data, and the page round it has this visitor's token.
    answer = figures(request)
    waited = time.perf_counter() - started
    context = {
        "figures": json.loads(answer.content),
        "milliseconds": round(waited * 1000),
        "cache": caches.chosen(),
        "kept": caches.KEPT_SECONDS,
        "keeps": caches.chosen() != caches.DUMMY,
        "crowd": request.session.pop(CROWD, None),
        **told(answer),
    }
    page = render(request, "almanac/almanac.html", context)
    page.headers["Server-Timing"] = f"almanac;desc={context['outcome']};dur={context['milliseconds']}"
    return page


@require_POST
def forget(_request: HttpRequest) -> HttpResponse:
    """Have the almanac compiled anew by whoever asks next."""
    invalidate(TAG)
    return HttpResponseRedirect(reverse("almanac"))


@require_POST
def crowd(request: HttpRequest) -> HttpResponse:
    """Send fifty visitors at once to the page, of which the figures have just been forgotten."""
    invalidate(TAG)
    request.session[CROWD] = send_crowd(request.build_absolute_uri(reverse("almanac")))
    return HttpResponseRedirect(reverse("almanac"))


def told(answer: HttpResponse) -> dict[str, Any]:
    """Return what the headers of an answer say of where it comes from."""
    status = answer.headers["Cache-Status"]
    left = re.search(r"ttl=(-?\d+)", status)
    seconds_left = int(left[1]) if left else 0
    if "collapsed" in status:
        outcome = "waited"
    elif "fwd=" in status:
        outcome = "made"
    else:
        outcome = "found" if seconds_left > 0 else "stale"
    title, explanation = WORDS[outcome]
    return {
        "outcome": outcome,
        "title": title,
        "explanation": explanation,
        "age": int(answer.headers.get("Age", 0)),
        "left": seconds_left,
        "status": status,
    }
