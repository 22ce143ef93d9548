"""An operation as JSON: the one shape that the status resource, a 202, the event stream and the page read."""

import hashlib
import json
from datetime import datetime
from typing import Any, Final

from django.urls import NoReverseMatch, reverse

from backroom.offload.exceptions import OffloadNotReady
from backroom.offload.models import Operation
from backroom.offload.status import Status

NAMESPACE: Final = "backroom_offload"
"""The URLs of `backroom.offload.urls`; those of `backroom.api.urls` have the same names in a namespace of their own."""

HINTS: Final = {
    NAMESPACE: "path('operations/', include('backroom.offload.urls'))",
    "backroom_api": "path('api/operations/', include('backroom.api.urls'))",
}


def url_of(operation: Operation, name: str = "operation", *, namespace: str = NAMESPACE) -> str:
    """Return the path of one of an operation's resources; raise `OffloadNotReady` when the URLs are not included."""
    try:
        return reverse(f"{namespace}:{name}", args=[operation.pk])
    except NoReverseMatch:
        msg = f"There is no address for {namespace}:{name}. Add {HINTS[namespace]} to the project's URLconf."
        raise OffloadNotReady(msg) from None


def links_of(status: Status, *, namespace: str = NAMESPACE) -> dict[str, str | None]:
    """Return where an operation can be read, followed and cancelled (a DELETE there; null once that is too late)."""
    operation = status.operation
    here = url_of(operation, namespace=namespace)
    return {
        "self": here,
        "result": url_of(operation, "result", namespace=namespace),
        "events": url_of(operation, "events", namespace=namespace),
        "cancel": here if status.is_cancellable else None,
    }


def status_data(status: Status, *, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Return an operation as JSON types."""
    progress = status.progress
    return {
        "id": status.operation.pk,
        "state": status.state,
        "is_finished": status.is_finished,
        "progress": None if progress is None else {**progress._asdict(), "percent": status.percent},
        "attempts": status.attempts,
        "created_at": _text(status.created_at),
        "started_at": _text(status.started_at),
        "finished_at": _text(status.finished_at),
        "expires_at": _text(status.expires_at),
        "problem": status.problem.as_dict() if status.problem else None,
        "links": links_of(status, namespace=namespace),
    }


def status_json(status: Status, *, namespace: str = NAMESPACE) -> str:
    """Return an operation as JSON text, the same for the same status."""
    return json.dumps(status_data(status, namespace=namespace))


def etag_of(text: str) -> str:
    """Return the entity tag of a representation (RFC 9110, 8.8.3)."""
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'


def _text(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
