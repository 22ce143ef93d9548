"""An operation as JSON: the one shape that the status resource, a 202, the event stream and the page read."""

import hashlib
import json
from datetime import datetime
from typing import Any

from django.urls import NoReverseMatch, reverse

from backroom.offload.exceptions import OffloadNotReady
from backroom.offload.models import Operation
from backroom.offload.status import Status

NAMESPACE = "backroom_offload"


def url_of(operation: Operation, name: str = "operation", *, namespace: str = NAMESPACE) -> str:
    """Return the path of one of an operation's resources; raise `OffloadNotReady` when the URLs are not included."""
    try:
        return reverse(f"{namespace}:{name}", args=[operation.pk])
    except NoReverseMatch:
        msg = (
            f"There is no address for {namespace}:{name}. Add path('operations/', include('backroom.offload.urls')) "
            "to the project's URLconf."
        )
        raise OffloadNotReady(msg) from None


def links_of(status: Status) -> dict[str, str | None]:
    """Return where an operation can be read, followed and cancelled (a DELETE there; null once that is too late)."""
    operation = status.operation
    return {
        "self": url_of(operation),
        "result": url_of(operation, "result"),
        "events": url_of(operation, "events"),
        "cancel": url_of(operation) if status.is_cancellable else None,
    }


def status_data(status: Status, links: dict[str, str | None] | None = None) -> dict[str, Any]:
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
        "links": links_of(status) if links is None else links,
    }


def status_json(status: Status) -> str:
    """Return an operation as JSON text, the same for the same status."""
    return json.dumps(status_data(status))


def etag_of(text: str) -> str:
    """Return the entity tag of a representation (RFC 9110, 8.8.3)."""
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'


def _text(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
