"""The resources of an operation for an API: the same as in `backroom.offload.resources`, with its authentication."""

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import get_conditional_response
from rest_framework.authentication import BaseAuthentication
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backroom.api.offload import NAMESPACE, OffloadAPIView, accepted, is_browsable, private
from backroom.api.problems import ProblemDetails
from backroom.offload import answers, operations, origins
from backroom.offload.events import event_stream
from backroom.offload.models import Operation
from backroom.offload.negotiation import EVENTS
from backroom.offload.owners import owner_of
from backroom.offload.problems import ProblemRaised
from backroom.offload.representations import etag_of, status_data, status_json
from backroom.offload.resources import MAX_WAIT, NOT_FOUND, TOO_LATE
from backroom.offload.status import Status
from backroom.offload.waiting import look_until
from backroom.offload.wrapping import outside_transactions


class OperationResource(ProblemDetails):
    """One resource of one operation. Whoever may see it is its owner: no other permission is asked for.

    The client proves who it is in the way that the view asks for which it started the operation with.
    """

    permission_classes = ()
    # A client that looks every second, as it was told to, has not used up what it may start.
    throttle_classes = ()

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view function, which runs in no transaction: a reader that waits must see what others commit."""
        return outside_transactions(super().as_view(**initkwargs))

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Find the operation and the view that it came from."""
        super().setup(request, *args, **kwargs)
        self.operation = operations.get(kwargs["operation_id"])
        self.origin = None if self.operation is None else _origin_view(self.operation, request)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return the authenticators of the view that the operation came from."""
        origin: APIView | None = getattr(self, "origin", None)
        return super().get_authenticators() if origin is None else origin.get_authenticators()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check whose the operation is; anyone else's is as good as none."""
        super().initial(request, *args, **kwargs)
        if self.operation is None or not owner_of(request).owns(self.operation):
            raise ProblemRaised(NOT_FOUND)
        self.status = operations.status_of(self.operation)

    def awaited(self, *, known: str = "") -> Status:
        """Return the status when it is final or, if the client names the one it knows, another; or time is up."""
        seconds = answers.preferences_of(self.request).seconds(default=0.0, limit=MAX_WAIT)
        if seconds <= 0:
            return self.status
        return look_until(
            lambda: operations.status_of(self.status.operation),
            lambda status: status.is_finished or (bool(known) and _etag(status) not in known),
            seconds=seconds,
        )


class OperationView(OperationResource):
    """How an operation stands."""

    def get(self, request: Request, **_kwargs: Any) -> HttpResponseBase:
        """Return how the operation stands. `Prefer: wait=N` holds the answer until there is news."""
        status = self.awaited(known=request.headers.get("If-None-Match", ""))
        response = private(Response(status_data(status, namespace=NAMESPACE)))
        answers.set_retry_after(response, status)
        answers.with_applied_preferences(request, response, limit=MAX_WAIT)
        if is_browsable(request):
            return response
        response.headers["ETag"] = _etag(status)
        return get_conditional_response(request, etag=_etag(status), response=response) or response

    def delete(self, _request: Request, **_kwargs: Any) -> HttpResponseBase:
        """Cancel the operation. A running one may take a moment to stop."""
        if not operations.cancel(self.status):
            raise ProblemRaised(TOO_LATE)
        return accepted(operations.status_of(self.status.operation))


class ResultView(OperationResource):
    """The result of an operation."""

    def get(self, request: Request, **_kwargs: Any) -> HttpResponseBase:
        """Return the result: 202 while there is none yet, a problem when there will be none."""
        view = self.origin or OffloadAPIView()
        view.request, view.format_kwarg = request, None
        if self.origin is not None:
            # Whoever may no longer ask for it may no longer read it.
            view.check_permissions(request)
        return answers.with_applied_preferences(request, view.show(self.awaited()), limit=MAX_WAIT)


class EventStream(JSONRenderer):
    """Lets a client that takes nothing but events past content negotiation; its errors are problems all the same."""

    media_type = EVENTS
    format = "events"


class EventsView(OperationResource):
    """The status of an operation as server-sent events."""

    schema = None
    renderer_classes = (JSONRenderer, EventStream)

    def get(self, request: Request, **_kwargs: Any) -> HttpResponseBase:
        """Return the stream."""
        return event_stream(request._request, self.status, namespace=NAMESPACE)  # noqa: SLF001 - the one Django made


def _origin_view(operation: Operation, request: HttpRequest) -> OffloadAPIView | None:
    match = origins.origin_of(operation, request)
    cls = getattr(match.func, "cls", None) if match else None
    if match is None or not (isinstance(cls, type) and issubclass(cls, OffloadAPIView)):
        return None
    view = cls(**match.func.initkwargs)  # type: ignore[attr-defined]
    view.setup(request, *match.args, **match.kwargs)
    return view


def _etag(status: Status) -> str:
    return etag_of(status_json(status, namespace=NAMESPACE))
