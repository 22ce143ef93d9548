"""A page as it is stored, and the response that is made of it: Age, 304, Cache-Status."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from math import floor
from typing import Any, Final, Self, cast

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import get_resolver, get_urlconf
from django.utils.cache import get_conditional_response
from django.utils.http import parse_http_date_safe, quote_etag

from backroom.cache.entries import Entry
from backroom.cache.pages.control import directives, is_for_everyone

NAME: Final = "Backroom"
"""What this cache calls itself in Cache-Status (RFC 9211)."""
POLICIES: Final = ("_csp_config", "_csp_ro_config")
PLAIN: Final = (bool, int, float, str)
OURS: Final = frozenset({"Age", "Cache-Status"})
UNKNOWN_TO_CACHES: Final = frozenset({"HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE"})
NOT_STORED: Final = frozenset({"_is_rendered", "using"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPage:
    """A complete answer: no cookies, no stream, nothing of the visitor it was made for."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    marks: dict[str, Any]
    """What decorators wrote on the response for middlewares further out, such as `xframe_options_exempt`."""
    is_for_everyone: bool
    """Whether it may answer a request with Authorization."""

    @classmethod
    def of(cls, response: Any) -> Self:
        """Return what is stored of a response."""
        return cls(
            status=response.status_code,
            reason=response.reason_phrase,
            headers=tuple((name, value) for name, value in response.headers.items() if name not in OURS),
            body=bytes(response.content),
            marks=dict(_marks(response)),
            is_for_everyone=is_for_everyone(directives(response)),
        )

    def packed(self) -> list[Any]:
        """Return it in a form that every serialiser keeps which knows bytes."""
        headers = [list(pair) for pair in self.headers]
        return [self.status, self.reason, headers, self.body, self.marks, self.is_for_everyone]

    @classmethod
    def unpacked(cls, stored: Any) -> Self | None:
        """Return what was packed; None for anything else."""
        if not isinstance(stored, list | tuple) or len(stored) != 6:
            return None
        status, reason, headers, body, marks, everyone = stored
        pairs = tuple((str(name), str(value)) for name, value in headers)
        return cls(status=status, reason=reason, headers=pairs, body=body, marks=marks, is_for_everyone=everyone)

    def response(self) -> HttpResponse:
        """Return a response of its own for one visitor."""
        response = HttpResponse(self.body, status=self.status, reason=self.reason)
        del response.headers["Content-Type"]
        for name, value in self.headers:
            response.headers[name] = value
        for name, value in self.marks.items():
            setattr(response, name, value)
        return response


def from_entry(request: HttpRequest, entry: Entry, **status: str | bool) -> HttpResponseBase:
    """Return the response of a hit: with its age, or 304 to a visitor who has it. The entry's value is a `StoredPage`."""
    response: HttpResponseBase = entry.value.response()
    now = time.time()
    response.headers["Age"] = str(int(entry.age(now)))
    answer = conditional(request, response)
    if answer is not response:
        answer.headers["Age"] = response.headers["Age"]
    ttl = "" if entry.lifetime.fresh is None else str(floor(entry.lifetime.fresh - entry.age(now)))
    tell(answer, hit="collapsed" not in status, ttl=ttl, **status)
    return answer


def conditional(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Return 304 where the request's conditions ask for it (RFC 9110 §13.1.2, §13.1.3), else the response.

    If-Match and If-Unmodified-Since are no cache's affair (RFC 9111 §4.3.2): a page that is older than the one that the
    visitor has would answer 412.
    """
    if response.status_code != 200 or not UNKNOWN_TO_CACHES.isdisjoint(request.META):
        return response
    date = response.headers.get("Last-Modified")
    # The stubs know no `response=None`, and no answer that is the response itself.
    answer: Any = get_conditional_response(
        request,
        etag=response.headers.get("ETag"),
        last_modified=parse_http_date_safe(date) if date else None,
        response=response,  # type: ignore[arg-type]
    )
    if answer is not response:
        # Middlewares further out are to write the headers that they wrote on the page: browsers take those of a 304 over.
        for name, value in _marks(response):
            setattr(answer, name, value)
    return cast("HttpResponseBase", answer)


def add_etag(response: Any) -> None:
    """Give a response an ETag of its content, unless it has one or is no 200."""
    if response.status_code == 200 and not response.has_header("ETag") and response.content:
        response.headers["ETag"] = quote_etag(blake2b(response.content, digest_size=16).hexdigest())


def tell(response: HttpResponseBase, **parameters: str | bool) -> None:
    """Append to Cache-Status what this cache did (RFC 9211)."""
    said = [NAME]
    for name, value in parameters.items():
        if value is True:
            said.append(name)
        elif value:
            said.append(f"{name}={value}")
    others = response.headers.get("Cache-Status")
    ours = "; ".join(said)
    response.headers["Cache-Status"] = f"{others}, {ours}" if others else ours


def error_page(request: HttpRequest, status: int) -> HttpResponseBase:
    """Return the project's page for errors (`handler500`), with this status."""
    handler: Any = get_resolver(get_urlconf()).resolve_error_handler(500)
    response = handler(request)
    if callable(getattr(response, "render", None)):
        response = response.render()
    response.status_code = status
    return cast("HttpResponseBase", response)


def put_away(response: Any) -> None:
    """Close what a response that nobody gets has opened.

    Its own `close()` says that the request has ended too, and would close the database of the one, or the task, around it.
    """
    for close in response._resource_closers:  # noqa: SLF001 - there is no public way
        with suppress(Exception):  # as Django's does
            close()


def _marks(response: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(response).items():
        if name in POLICIES and isinstance(value, dict):
            yield name, {str(directive): _policy(each) for directive, each in value.items()}
        elif type(value) in PLAIN and name not in _own_names and name not in NOT_STORED:
            yield name, value


def _policy(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    return str(value) if isinstance(value, str) else sorted(str(each) for each in value)


_own_names: Final = frozenset(
    {"_charset", "_reason_phrase", "_container", "_handler_class", "_resource_closers", "closed", "cookies", "headers"}
    | {"status_code", "_is_rendered", "template_name", "context_data", "_request", "_post_render_callbacks", "using"}
)
