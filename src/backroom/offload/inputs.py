"""The input of a request as form data, whether a browser or a program sent it."""

import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import BadRequest
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, QueryDict
from django.utils.functional import Promise

_encode: Final = DjangoJSONEncoder().encode


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


def plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with what JSON has no type for, and Django's encoder knows, as strings: dates, decimals, UUIDs."""
    return {name: _plain(value) for name, value in arguments.items()}


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date() | time() | timedelta() | Decimal() | UUID() | Promise():
            return json.loads(_encode(value))
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    # What is left either fits or is refused by the task's backend, which names the argument.
    return value


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
