"""What goes round every view function here: no transaction of the request, and errors told as the client can read."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponseBase

from backroom.offload import answers
from backroom.offload.inputs import Malformed
from backroom.offload.negotiation import wants_page
from backroom.offload.problems import Problem

type ViewFunction = Callable[..., HttpResponseBase]


def outside_transactions(view: ViewFunction) -> ViewFunction:
    """Exempt a view from ATOMIC_REQUESTS: what it enqueues must be visible to workers while it waits."""
    for alias in settings.DATABASES:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def telling_problems(view: ViewFunction) -> ViewFunction:
    """Tell a program of errors by problems; a person is told by the project's own pages."""

    @wraps(view)
    def telling(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except (Http404, PermissionDenied, BadRequest, SuspiciousOperation) as error:
            if wants_page(request):
                raise
            return answers.problem(request, _problem_of(error))

    return telling


def _problem_of(error: Exception) -> Problem:
    match error:
        case Http404():
            return Problem(status=404, code="not_found")
        case PermissionDenied():
            return Problem(status=403, code="permission_denied")
        case Malformed():
            return Problem(status=400, code="malformed", detail=str(error))
    return Problem(status=400, code="bad_request")
