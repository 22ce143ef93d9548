"""The view that an operation came from: found again by its path, so that its result is rendered by it, now.

The whole view is called, with its decorators and mixins, so whoever may no longer use it may no longer read its
results either. What it is to show travels on the request.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import Resolver404, ResolverMatch, get_script_prefix, resolve
from django.utils.http import escape_leading_slashes

from backroom.offload.models import Operation
from backroom.offload.representations import NAMESPACE
from backroom.offload.status import Status

MARK: Final = "offloads"
"""The attribute of an offloaded view: the namespace of its operations. Decorators that use functools.wraps hand it on."""
_SHOWN: Final = "_backroom_shown"

type Resource = Literal["page", "result"]


@dataclass(slots=True)
class Shown:
    """What a view is to show instead of starting anything."""

    status: Status
    resource: Resource
    is_taken: bool = False


def shown_by(request: HttpRequest) -> Shown | None:
    """Return what the view that has this request is to show, if that is all it is to do."""
    shown: Shown | None = getattr(request, _SHOWN, None)
    if shown is not None:
        shown.is_taken = True
    return shown


def show(request: HttpRequest, status: Status, resource: Resource, *, default: Any) -> HttpResponse:
    """Return an operation as the view it came from shows it, or as `default` does when that view is no more."""
    shown = Shown(status, resource)
    setattr(request, _SHOWN, shown)
    match = origin_of(status.operation, request)
    if match is None or getattr(match.func, MARK, None) != NAMESPACE:
        return default(request)  # type: ignore[no-any-return]
    request.resolver_match = match
    request.GET = QueryDict(status.operation.origin.partition("?")[2])
    response = match.func(request, *match.args, **match.kwargs)
    if response.status_code == 405 and not shown.is_taken:
        # A decorator like require_POST stands before the view; this request only reads.
        response = _innermost(match.func)(request, *match.args, **match.kwargs)
    return response  # type: ignore[no-any-return]


def origin_of(operation: Operation, request: HttpRequest) -> ResolverMatch | None:
    """Return the view that an operation came from; None when its address leads nowhere any more."""
    try:
        return resolve(operation.origin.partition("?")[0], getattr(request, "urlconf", None))
    except Resolver404:
        return None


def name_of(view: Any) -> str:
    """Return what tells a class-based view from others that have the same task: its class and its route."""
    match = view.request.resolver_match
    route = f" {match.view_name or ''} {match.route}" if match else ""
    return f"{type(view).__module__}.{type(view).__qualname__}{route}"


def origin_path(request: HttpRequest) -> str:
    """Return a request's path and query as `origin_of` wants them: without the prefix the site is mounted under."""
    query = request.META.get("QUERY_STRING", "")
    return f"{request.path_info}?{query}" if query else request.path_info


def origin_url(operation: Operation) -> str:
    """Return the address of the view that an operation came from, as a link on this site and no other."""
    return escape_leading_slashes(get_script_prefix().rstrip("/") + operation.origin)


def _innermost(view: Any) -> Any:
    while hasattr(getattr(view, "__wrapped__", None), MARK):
        view = view.__wrapped__
    return view
