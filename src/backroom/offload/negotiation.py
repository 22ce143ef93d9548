"""Whom a response is for: a person's browser or a program (RFC 9110, 12)."""

from typing import Final, Literal

from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers

from backroom.offload.problems import CONTENT_TYPE as PROBLEM

type Audience = Literal["html", "json", ""]

# The first one is for a client that takes anything, as programs do; browsers name text/html.
AUDIENCES: Final[dict[str, Audience]] = {"application/json": "json", "text/html": "html", PROBLEM: "json"}
EVENTS: Final = "text/event-stream"


def audience_of(request: HttpRequest) -> Audience:
    """Return whom the response is for; "" when the client accepts nothing that there is."""
    preferred = request.get_preferred_type(list(AUDIENCES))
    return AUDIENCES[preferred] if preferred else ""


def wants_page(request: HttpRequest) -> bool:
    """Tell whether an error should be a page."""
    return audience_of(request) == "html"


def keep_private[R: HttpResponseBase](response: R) -> R:
    """Say that a response is for one visitor, now, and what it was chosen by."""
    response.headers["Cache-Control"] = "private, no-store"
    patch_vary_headers(response, ["Accept", "Cookie", "Prefer"])
    return response
