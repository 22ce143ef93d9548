"""`OffloadAPIView`: what `OffloadView` is to pages, for an API of Django REST framework."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from django.http import HttpResponseBase
from django.utils.cache import patch_vary_headers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer, Serializer

from backroom.api.problems import ProblemDetails, ProblemResponse
from backroom.offload import answers, inputs, operations, origins
from backroom.offload.negotiation import keep_private
from backroom.offload.ordering import Ordering
from backroom.offload.representations import status_data, url_of
from backroom.offload.status import Status
from backroom.offload.wrapping import outside_transactions

NAMESPACE = "backroom_api"


class NoInput(Serializer[Any]):
    """The input of a view whose URL says everything."""


class OffloadAPIView(Ordering, ProblemDetails, GenericAPIView[Any]):
    """An API view whose work a task does.

    The arguments of the URL and the validated data of `serializer_class` are the task's keyword arguments. The
    view's authentication, permissions and throttles run before anything is queued.

    Attributes:
        task: what does the work.
        serializer_class: validates the input.
        result_serializer_class: represents what the task returned; without it, that is the result as it is.
        cache_for: seconds for which a finished result answers further requests for the same.
        shared: whether results and running work are shared by all clients, not by one owner's requests alone.
        wait: seconds to wait for the result before the answer is 202.
        max_wait: the most that `Prefer: wait=N` can ask for.
        using: TASKS alias, if another than the task's own.
        http_method_names: `["post", "options"]`, or `["get", "head", "options"]` for input in the query.

    """

    serializer_class: type[BaseSerializer[Any]] | None = NoInput
    result_serializer_class: type[BaseSerializer[Any]] | None = None
    http_method_names: ClassVar[list[str]] = ["post", "options"]  # type: ignore[misc]

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view function, which runs in no transaction of the request."""
        view = outside_transactions(super().as_view(**initkwargs))
        setattr(view, origins.MARK, NAMESPACE)
        return view

    def get(self, request: Request, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        """Start the work with the input of the query."""
        return self.offload(request.query_params)

    def post(self, request: Request, *_args: Any, **_kwargs: Any) -> HttpResponseBase:
        """Start the work with the input of the body."""
        return self.offload(request.data)

    # ── The project's part ──────────────────────────────────────────────────────────────────────

    def get_task_arguments(self, serializer: BaseSerializer[Any]) -> Mapping[str, Any]:
        """Return the task's keyword arguments, from the URL and from a serializer that is valid.

        Dates, decimals and UUIDs become strings. Override it to turn what JSON cannot carry, an upload for example,
        into what it can; raise REST framework's `ValidationError` to refuse.
        """
        return inputs.plain({**self.kwargs, **serializer.validated_data})

    def get_result_data(self, status: Status) -> Any:
        """Return the result as data for the client."""
        if self.result_serializer_class is None:
            return status.result
        return self.result_serializer_class(status.result, context=self.get_serializer_context()).data

    # ── The main path ───────────────────────────────────────────────────────────────────────────

    def offload(self, data: Any) -> HttpResponseBase:
        """Validate, find or start the operation, wait a moment for it, answer."""
        serializer = self.get_serializer(data=data)
        serializer.is_valid(raise_exception=True)
        return self.answer(self.ordered(self.get_task_arguments(serializer)))

    def answer(self, status: Status) -> HttpResponseBase:
        """Answer the request that asked for the work."""
        if self.request.method == "POST" and is_browsable(self.request):
            name = "result" if status.is_finished else "operation"
            return answers.see_other(url_of(status.operation, name, namespace=NAMESPACE))
        return answers.with_applied_preferences(self.request, self.show(status), limit=self.max_wait)

    def show(self, status: Status) -> Response:
        """Return the result, or why there is none, or 202 while there is none yet."""
        if not status.is_finished:
            return accepted(status)
        operations.mark_seen(status)
        if status.problem is not None:
            return answers.known(private(ProblemResponse(status.problem.at(self.request.path))))
        location = url_of(status.operation, "result", namespace=NAMESPACE)
        return private(Response(self.get_result_data(status), headers={"Content-Location": location}))


def accepted(status: Status) -> Response:
    """Return 202 with the status, and where to follow it (RFC 9110, 15.3.3)."""
    response = Response(status_data(status, namespace=NAMESPACE), status=202)
    response.headers["Location"] = url_of(status.operation, namespace=NAMESPACE)
    answers.set_retry_after(response, status)
    return private(response)


def private[R: HttpResponseBase](response: R) -> R:
    """Say that a response is for one client, whichever way that client proved who it is."""
    keep_private(response)
    patch_vary_headers(response, ["Authorization"])
    return response


def is_browsable(request: Request) -> bool:
    """Tell whether the client is a person in REST framework's browsable API."""
    return getattr(request.accepted_renderer, "format", "") == "api"


if find_spec("drf_spectacular") is not None:
    # Importing it registers what drf-spectacular is to know of these views.
    import_module("backroom.api.schema")
