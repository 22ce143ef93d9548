"""The resources of an operation: its status, its result, its events, and the end of it. Anyone but its owner gets 404.

They need no sign-in of their own, so a site that requires one everywhere still lets an anonymous owner in.
"""

from collections.abc import Callable
from typing import Any, Final

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.generic.base import View

from backroom.offload import answers, operations, origins
from backroom.offload.events import event_stream
from backroom.offload.negotiation import EVENTS, audience_of, wants_page
from backroom.offload.owners import owner_of
from backroom.offload.problems import Problem
from backroom.offload.representations import etag_of, status_json, url_of
from backroom.offload.status import Status
from backroom.offload.views import NOT_ACCEPTABLE, OffloadView
from backroom.offload.waiting import look_until
from backroom.offload.wrapping import outside_transactions

MAX_WAIT: Final = 20.0
"""Seconds that `Prefer: wait=N` can hold a request for the status."""

NOT_FOUND: Final = Problem(status=404, code="not_found", detail="There is no such operation, or it is not yours.")
TOO_LATE: Final = Problem(status=409, code="already_finished", detail="The operation has finished already.")

# Shows operations whose own view is no longer at its address.
_default = OffloadView.as_view()


@method_decorator(login_not_required, name="dispatch")
class Resource(View):
    """One resource of one operation, found and checked before anything else."""

    status: Status

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view function, which runs in no transaction: a reader that waits must see what others commit."""
        return outside_transactions(super().as_view(**initkwargs))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Find the operation; anyone else's is as good as none."""
        operation = operations.get(kwargs["operation_id"])
        if operation is None or not owner_of(request).owns(operation):
            return self.not_found(request)
        self.status = operations.status_of(operation)
        return super().dispatch(request, *args, **kwargs)

    def awaited(self, is_enough: Callable[[Status], bool]) -> Status:
        """Return the status as soon as it is enough, or when the time that the client would wait is over."""
        seconds = answers.preferences_of(self.request).seconds(default=0.0, limit=MAX_WAIT)
        if seconds <= 0:
            return self.status
        return look_until(lambda: operations.status_of(self.status.operation), is_enough, seconds=seconds)

    def not_found(self, request: HttpRequest) -> HttpResponseBase:
        """Answer 404, the same whether the operation is someone else's or never was."""
        if wants_page(request):
            raise Http404(NOT_FOUND.detail)
        return answers.problem(request, NOT_FOUND)

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer 405 with the methods there are (RFC 9110, 15.5.6)."""
        refused = super().http_method_not_allowed(request, *args, **kwargs)
        return refused if wants_page(request) else answers.method_problem(request, refused)


# No page of another site can send DELETE: a form has no such method, and for a script the browser asks this site first.
# So it needs no token, which a program would have to fetch from a page.
@method_decorator(csrf_exempt, name="dispatch")
class OperationResource(Resource):
    """GET tells how an operation stands, DELETE cancels it."""

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponseBase:
        """Return the status as JSON, after a wait if the client prefers that, or the progress page."""
        match audience_of(request):
            case "html" if self.status.is_finished:
                return answers.see_other(url_of(self.status.operation, "result"))
            case "html":
                return origins.show(request, self.status, "page", default=_default)
            case "json":
                response = answers.status_answer(request, self.awaited(self.is_news))
                return answers.with_applied_preferences(request, response, limit=MAX_WAIT)
        return answers.problem(request, NOT_ACCEPTABLE)

    def delete(self, request: HttpRequest, **_kwargs: Any) -> HttpResponseBase:
        """Cancel: 202, for a running task may take a moment to stop; 409 when it has finished (RFC 9110, 15.5.10)."""
        if not operations.cancel(self.status):
            return answers.problem(request, TOO_LATE)
        return answers.accepted(operations.status_of(self.status.operation))

    def is_news(self, status: Status) -> bool:
        """Tell whether to end the wait for this status: at the end, or for a change if the client knows the last."""
        known = self.request.headers.get("If-None-Match", "")
        return status.is_finished or (bool(known) and etag_of(status_json(status)) not in known)


class ResultResource(Resource):
    """The result, as the view that the operation came from shows it."""

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponseBase:
        """Return the result: 202 while there is none, the problem when there will be none."""
        if not audience_of(request):
            return answers.problem(request, NOT_ACCEPTABLE)
        status = self.awaited(lambda status: status.is_finished)
        response = origins.show(request, status, "result", default=_default)
        return answers.with_applied_preferences(request, response, limit=MAX_WAIT)


class CancelResource(Resource):
    """What the page's button does; an HTML form cannot send DELETE."""

    def post(self, _request: HttpRequest, **_kwargs: Any) -> HttpResponseBase:
        """Cancel, and return to the page; too late is no error to a person, who sees the result there."""
        operations.cancel(self.status)
        return answers.see_other(url_of(self.status.operation))


class EventsResource(Resource):
    """The status as a stream of server-sent events."""

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponseBase:
        """Return the stream; 204 tells an EventSource not to come back (HTML, 9.2.3)."""
        if request.accepted_type(EVENTS) is None:
            return answers.problem(request, NOT_ACCEPTABLE)
        return event_stream(request, self.status)
