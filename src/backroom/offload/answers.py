"""What an operation is answered with, by audience: figures, status, problem or page. Common headers in one place."""

from http import HTTPStatus
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils.cache import get_conditional_response

from backroom.offload import operations
from backroom.offload.negotiation import keep_private
from backroom.offload.prefer import Preferences, parse
from backroom.offload.problems import Problem, problem_response
from backroom.offload.representations import etag_of, status_json, url_of
from backroom.offload.status import Status

JSON: Final = "application/json"
CSP_MIDDLEWARE: Final = "django.middleware.csp.ContentSecurityPolicyMiddleware"
STRICT_CSP: Final = (
    "default-src 'none'; script-src {static}; style-src {static}; connect-src 'self'; img-src {static} data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def preferences_of(request: HttpRequest) -> Preferences:
    """Return what the client would like."""
    return parse(request.headers.get("Prefer", ""))


def figures(status: Status, text: str) -> HttpResponse:
    """Return a finished result as JSON."""
    response = HttpResponse(text, content_type=JSON)
    response.headers["Content-Location"] = url_of(status.operation, "result")
    return keep_private(response)


def status_answer(request: HttpRequest, status: Status) -> HttpResponse:
    """Return the status resource: 200 with an entity tag, or 304 when the client has this status already."""
    text = status_json(status)
    response = keep_private(HttpResponse(text, content_type=JSON))
    response.headers["ETag"] = etag_of(text)
    set_retry_after(response, status)
    found = get_conditional_response(request, etag=response.headers["ETag"], response=response)
    # Django returns a response for every request that has one to give.
    return response if found is None else keep_private(found)


def accepted(status: Status) -> HttpResponse:
    """Return 202 with the status, and where to follow it (RFC 9110, 15.3.3)."""
    return as_accepted(HttpResponse(status_json(status), content_type=JSON), status)


def as_accepted(response: HttpResponse, status: Status) -> HttpResponse:
    """Make a response of whatever content a 202, with its headers."""
    response.status_code = HTTPStatus.ACCEPTED
    response.headers["Location"] = url_of(status.operation)
    set_retry_after(response, status)
    return keep_private(response)


def set_retry_after(response: HttpResponseBase, status: Status) -> None:
    """Tell when another look is worth while, as long as there is something to look for (RFC 9110, 10.2.3)."""
    if not status.is_finished:
        response.headers["Retry-After"] = str(status.retry_after(operations.now()))


def see_other(url: str) -> HttpResponse:
    """Return 303, so that reloading what follows sends nothing again (RFC 9110, 15.4.4)."""
    response = HttpResponseRedirect(url)
    response.status_code = HTTPStatus.SEE_OTHER
    return keep_private(response)


def problem(request: HttpRequest, found: Problem) -> HttpResponse:
    """Return a problem of this request."""
    return keep_private(problem_response(found.at(request.path)))


def with_applied_preferences[R: HttpResponseBase](request: HttpRequest, response: R, *, limit: float) -> R:
    """Tell the client which of its preferences were met (RFC 7240, 3)."""
    is_async = response.status_code == HTTPStatus.ACCEPTED
    if applied := preferences_of(request).applied(limit=limit, is_async=is_async):
        response.headers["Preference-Applied"] = applied
    return response


def with_strict_csp(response: HttpResponse) -> HttpResponse:
    """Give one of our own pages the policy that it was made for, unless the site has one of its own."""
    if CSP_MIDDLEWARE not in settings.MIDDLEWARE:
        response.headers.setdefault("Content-Security-Policy", STRICT_CSP.format(static=_static_source()))
    return response


def method_problem(request: HttpRequest, refused: HttpResponse) -> HttpResponse:
    """Return 405 as a problem, with the methods that the plain answer names."""
    found = Problem(status=405, code="method_not_allowed", headers={"Allow": refused.headers["Allow"]})
    return problem(request, found)


def known[R: HttpResponseBase](response: R) -> R:
    """Keep a failure that the worker has logged from being logged, and mailed to ADMINS, whenever it is looked at."""
    # The attribute by which Django itself remembers what it has logged.
    response.__dict__["_has_been_logged"] = True
    return response


def _static_source() -> str:
    scheme, separator, rest = (settings.STATIC_URL or "").partition("//")
    return f"'self' {scheme}//{rest.partition('/')[0]}" if separator else "'self'"
