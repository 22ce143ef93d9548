"""Every error of an API view as problem details (RFC 9457), without touching the project's own exception handler."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from backroom.offload.negotiation import keep_private
from backroom.offload.problems import CONTENT_TYPE, Problem, ProblemRaised

CODES: Final = {
    400: "bad_request",
    401: "not_authenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    415: "unsupported_media_type",
    429: "throttled",
}


class ProblemRenderer(JSONRenderer):
    """JSON under the media type of problems."""

    media_type = CONTENT_TYPE
    format = "problem"


class ProblemResponse(Response):
    """A problem, in whatever the client takes; as JSON it has the media type of problems."""

    def __init__(self, problem: Problem, **kwargs: Any) -> None:
        super().__init__(problem.as_dict(), status=problem.status, headers=dict(problem.headers), **kwargs)


class ProblemDetails(APIView):
    """A view whose errors, those of authentication, permissions and throttles among them, are problem details."""

    def get_renderers(self) -> list[BaseRenderer]:
        """Return the view's renderers, and one for a client that names the media type of problems."""
        renderers = super().get_renderers()
        # drf-spectacular would describe every answer under this media type too.
        return renderers if getattr(self, "swagger_fake_view", False) else [*renderers, ProblemRenderer()]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        """Return what turns exceptions into problems."""
        return as_problem

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Choose the media type that fits: problems have their own, and nothing else has it."""
        final: Any = super().finalize_response(request, response, *args, **kwargs)
        if isinstance(final, ProblemResponse) and isinstance(final.accepted_renderer, JSONRenderer):
            _render_by(final, ProblemRenderer())
        elif isinstance(final, Response) and isinstance(final.accepted_renderer, ProblemRenderer):
            _render_by(final, JSONRenderer())
        return final


def as_problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the problem that an exception means; None, and so a server error, for an unexpected one."""
    instance = context["request"].path
    if isinstance(error, ProblemRaised):
        return keep_private(ProblemResponse(error.problem.at(instance)))
    response = exception_handler(error, context)
    if response is None:
        return None
    problem = ProblemResponse(_problem_of(error, response).at(instance))
    for name, value in response.headers.items():
        problem.headers.setdefault(name, value)
    problem.headers["Cache-Control"] = "private, no-store"
    return problem


def _problem_of(error: Exception, response: Response) -> Problem:
    if isinstance(error, ValidationError):
        errors = tuple(_flattened(error.get_full_details()))
        return Problem(status=response.status_code, code="invalid", detail="The input is not valid.", errors=errors)
    detail = response.data.get("detail", "") if isinstance(response.data, dict) else ""
    code = detail.code if isinstance(detail, ErrorDetail) else ""
    if not isinstance(error, APIException) or not code:
        code = CODES.get(response.status_code, "error")
    return Problem(status=response.status_code, code=str(code), detail=str(detail))


def _flattened(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """Yield what is wrong, each with the path of its field: "items.2.price"."""
    match details:
        case {"message": message, "code": code}:
            yield {"field": path, "detail": str(message), "code": str(code)}
        case dict():
            for name, inner in details.items():
                part = "" if name == "non_field_errors" else str(name)
                yield from _flattened(inner, ".".join(filter(None, [path, part])))
        case list():
            for index, inner in enumerate(details):
                is_leaf = isinstance(inner, dict) and inner.keys() == {"message", "code"}
                yield from _flattened(inner, path if is_leaf else ".".join(filter(None, [path, str(index)])))


def _render_by(response: Response, renderer: JSONRenderer) -> None:
    response.accepted_renderer, response.accepted_media_type = renderer, renderer.media_type
