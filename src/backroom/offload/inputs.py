"""The input of a request as form data, whether a browser or a program sent it."""

import json
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, QueryDict


class Malformed(BadRequest):
    """A body that is not what its Content-Type says; the message is for the client."""


def data_of(request: HttpRequest) -> Any:
    """Return what a POST carries: form data, or the members of a JSON object.

    Raise `Malformed` for JSON that cannot be read or is no object.
    """
    if request.content_type != "application/json":
        return request.POST
    try:
        members = json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as error:
        msg = "The body is not JSON."
        raise Malformed(msg) from error
    if not isinstance(members, dict):
        msg = "The body must be a JSON object."
        raise Malformed(msg)
    return _as_form_data(members)


def _as_form_data(members: dict[str, Any]) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, value in members.items():
        data.setlist(name, [_as_text(item) for item in (value if isinstance(value, list) else [value])])
    return data


def _as_text(value: Any) -> Any:
    # A form reads text. null is an empty field, and a checkbox that is off sends nothing like "on".
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return json.dumps(value)
    return str(value)
