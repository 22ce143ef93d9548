"""What drf-spectacular is to say of these views: every status, header and body that they really answer with.

Imported by `backroom.api.offload` where drf-spectacular is installed; importing it registers the extensions.
"""

from collections.abc import Mapping
from typing import Any, Final

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from backroom.api.offload import OffloadAPIView
from backroom.offload.problems import CONTENT_TYPE


class ProblemErrorSerializer(serializers.Serializer[Any]):
    """One thing that is wrong with the input."""

    field = serializers.CharField(help_text="The path of the field; empty for the whole of the input.")
    detail = serializers.CharField()
    code = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """Problem details (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Names the kind of problem for programs.")
    detail = serializers.CharField(required=False)
    instance = serializers.CharField(required=False)
    errors = ProblemErrorSerializer(many=True, required=False)  # type: ignore[assignment] # a field, not the property


class OperationProgressSerializer(serializers.Serializer[Any]):
    """How far the work has come."""

    done = serializers.FloatField()
    total = serializers.FloatField(allow_null=True)
    message = serializers.CharField()
    percent = serializers.IntegerField(allow_null=True)


class OperationLinksSerializer(serializers.Serializer[Any]):
    """Where the operation can be read, followed and cancelled."""

    self = serializers.CharField()
    result = serializers.CharField()
    events = serializers.CharField()
    cancel = serializers.CharField(allow_null=True, help_text="Send a DELETE there; null once that is too late.")


class OperationSerializer(serializers.Serializer[Any]):
    """How an operation stands."""

    id = serializers.CharField()
    state = serializers.CharField()
    is_finished = serializers.BooleanField()
    progress = OperationProgressSerializer(allow_null=True)
    attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    problem = ProblemSerializer(allow_null=True)
    links = OperationLinksSerializer()


PROBLEMS: Final[Mapping[int, str]] = {
    400: "The input is not valid, or a header is malformed.",
    401: "The client has not proved who it is.",
    403: "The client may not do this.",
    404: "There is no such operation, or it is not the client's.",
    406: "The client takes none of the media types there are.",
    409: "The operation has finished already.",
    410: "The result is no longer kept, or the work was cancelled.",
    422: "The Idempotency-Key came before with other input, or the work refused the input.",
    429: "The client has asked too often.",
    500: "The work failed.",
    503: "The work could not be started in time.",
    504: "The work took longer than it may.",
}
NO_RESULT: Final = (410, 422, 500, 503, 504)


def _header(name: str, description: str, *statuses: int, type_: Any = OpenApiTypes.STR) -> OpenApiParameter:
    return OpenApiParameter(
        name, type_, OpenApiParameter.HEADER, description=description, response=list(statuses) or False
    )


PREFER: Final = _header("Prefer", "`wait=N`, in seconds, and `respond-async` (RFC 7240).")
IDEMPOTENCY_KEY: Final = _header(
    "Idempotency-Key", "A quoted string. The same key again finds the same operation and starts nothing."
)
LOCATION: Final = _header("Location", "The operation's address.", 202, 303)
RETRY_AFTER: Final = _header("Retry-After", "Seconds until another look is worth while.", 202, type_=OpenApiTypes.INT)
APPLIED: Final = _header("Preference-Applied", "Which preferences were met.", 200, 202)
STATUS_HEADERS: Final = (
    _header("ETag", "The entity tag of this status.", 200),
    _header("Retry-After", "Seconds until another look is worth while.", 200, 202, type_=OpenApiTypes.INT),
    _header("If-None-Match", "The entity tag that the client knows."),
)

ACCEPTED: Final = OpenApiResponse(OperationSerializer, "The work goes on; follow the operation.")
SEE_OTHER: Final = OpenApiResponse(None, "For a person in the browsable API: the operation's page.")
NOT_MODIFIED: Final = OpenApiResponse(None, "Nothing is new.")


class OffloadSchema(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Describes every `OffloadAPIView`."""

    target_class = "backroom.api.offload.OffloadAPIView"
    match_subclasses = True

    def view_replacement(self) -> Any:
        """Return the view with its answers described."""
        described = _subclass(self.target)
        problems = _problems(400, 401, 403, 406, *NO_RESULT, 429)
        for method in ("get", "post"):
            is_post = method == "post"
            others = {303: SEE_OTHER} if is_post else {}
            responses: dict[Any, Any] = {200: _result(self.target), 202: ACCEPTED, **others, **problems}
            parameters = [PREFER, *([IDEMPOTENCY_KEY] if is_post else []), LOCATION, RETRY_AFTER, APPLIED]
            if not is_post:
                parameters = [self.target.serializer_class, *parameters]
            described = extend_schema(methods=[method.upper()], parameters=parameters, responses=responses)(described)
        return described


class OperationSchema(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Describes the status resource."""

    target_class = "backroom.api.operations.OperationView"
    match_subclasses = True

    def view_replacement(self) -> Any:
        """Return the view with its answers described."""
        described = _subclass(self.target)
        described = extend_schema(
            methods=["GET"],
            parameters=[PREFER, APPLIED, *STATUS_HEADERS],
            responses={200: OperationSerializer, 304: NOT_MODIFIED, **_problems(401, 404, 406)},
        )(described)
        return extend_schema(
            methods=["DELETE"],
            parameters=[LOCATION, RETRY_AFTER],
            responses={202: ACCEPTED, **_problems(401, 403, 404, 409)},
        )(described)


class ResultSchema(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Describes the result resource."""

    target_class = "backroom.api.operations.ResultView"
    match_subclasses = True

    def view_replacement(self) -> Any:
        """Return the view with its answers described."""
        responses: dict[Any, Any] = {
            200: _result(OffloadAPIView),
            202: ACCEPTED,
            **_problems(401, 403, 404, 406, *NO_RESULT),
        }
        return extend_schema(parameters=[PREFER, LOCATION, RETRY_AFTER, APPLIED], responses=responses)(
            _subclass(self.target)
        )


def _subclass(target: Any) -> Any:
    # extend_schema changes the class that it decorates; the project's stays as it is.
    return type(target.__name__, (target,), {"__doc__": target.__doc__})


def _result(view: type[OffloadAPIView]) -> OpenApiResponse:
    serializer: Any = view.result_serializer_class or OpenApiTypes.ANY
    return OpenApiResponse(serializer, "The result.")


def _problems(*statuses: int) -> dict[Any, OpenApiResponse]:
    return {(status, CONTENT_TYPE): OpenApiResponse(ProblemSerializer, PROBLEMS[status]) for status in statuses}
