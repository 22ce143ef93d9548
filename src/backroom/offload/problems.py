"""Errors as problem details (RFC 9457): one value, and what each failure of an operation is told as."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.forms import BaseForm
from django.http import HttpResponse
from django.tasks.base import TaskError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from backroom.errors import BackroomError
from backroom.options import Setting

CONTENT_TYPE: Final = "application/problem+json"
TYPES: Final = Setting("PROBLEM_TYPES", str, default="")
"""What the `type` of a problem begins with, before its code: where the project explains them."""
REFUSED: Final = "backroom.offload.exceptions.Refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem in the sense of RFC 9457, 3.1; `code` names its kind for programs."""

    status: int
    code: str
    detail: str = ""
    instance: str = ""
    errors: tuple[Mapping[str, str], ...] = ()
    """What is wrong with the input: `field` ("" for the whole of it), `detail` and `code` of each."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The status's own phrase, as `about:blank` asks for (RFC 9457, 4.2.1)."""
        return HTTPStatus(self.status).phrase

    @property
    def type(self) -> str:
        """`about:blank`, or the address at which the project explains this code."""
        return f"{TYPES.value}{self.code}" if TYPES.value else "about:blank"

    def as_dict(self) -> dict[str, Any]:
        """Return the members of the problem; those that have nothing to say are left out."""
        members: dict[str, Any] = {"type": self.type, "title": self.title, "status": self.status, "code": self.code}
        members |= {name: value for name in ("detail", "instance") if (value := getattr(self, name))}
        return members | ({"errors": [dict(error) for error in self.errors]} if self.errors else {})

    def at(self, instance: str) -> "Problem":
        """Return the problem as one of this occurrence: the path of what was asked for."""
        return dataclasses.replace(self, instance=instance)


class ProblemRaised(BackroomError):
    """Ends a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.code)
        self.problem = problem


def problem_response(problem: Problem) -> HttpResponse:
    """Return a problem as a response of its media type (RFC 9457, 3)."""
    response = HttpResponse(json.dumps(problem.as_dict()), status=problem.status, content_type=CONTENT_TYPE)
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response


def problem_of_state(state: str, error: TaskError | None = None) -> Problem:
    """Return what an operation that ended without a result is told as."""
    if error is not None and error.exception_class_path == REFUSED:
        return Problem(status=422, code="refused", detail=message_of(error))
    status, detail = STATES.get(state, STATES["failed"])
    return Problem(status=status, code=state, detail=str(detail))


STATES: Final[Mapping[str, tuple[int, str | Promise]]] = {
    "failed": (500, _("The work failed, so there is no result.")),
    "timeout": (504, _("The work took longer than it is allowed to.")),
    "lost": (500, _("The work was interrupted several times and has been given up.")),
    "expired": (503, _("The work could not be started in time. Ask again later.")),
    "cancelled": (410, _("The work was cancelled, so there is no result.")),
    "gone": (410, _("The result is no longer kept. Ask for it again.")),
}


def message_of(error: TaskError) -> str:
    """Return the exception's own message, from the end of its traceback."""
    head = f"\n{error.exception_class_path}: "
    _head, found, message = f"\n{error.traceback}".rpartition(head)
    return message.strip() if found else ""


def problem_of_form(form: BaseForm) -> Problem:
    """Return what is wrong with a form's input."""
    found = []
    for name, errors in form.errors.get_json_data().items():
        place = "" if name == "__all__" else form.add_prefix(name)
        found += [{"field": place, "detail": error["message"], "code": error["code"]} for error in errors]
    return invalid(found)


def problem_of_validation(error: ValidationError) -> Problem:
    """Return what a view that validates by itself found wrong."""
    by_field = error.error_dict if hasattr(error, "error_dict") else {"": error.error_list}
    found = [
        {"field": "" if name == "__all__" else name, "detail": message, "code": each.code or ""}
        for name, errors in by_field.items()
        for each in errors
        for message in each.messages
    ]
    return invalid(found)


def invalid(errors: list[dict[str, str]]) -> Problem:
    """Return the problem of input that was understood and cannot be used (RFC 9110, 15.5.21)."""
    return Problem(status=422, code="invalid", detail="The input is not valid.", errors=tuple(errors))
