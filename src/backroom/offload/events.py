"""An operation's status as server-sent events (HTML Living Standard, 9.2), right under ASGI and under WSGI.

Under ASGI Django streams an async iterator as it goes and a sync one only when it has ended; under WSGI the other way
round. So the kind of the request decides. Under WSGI a stream occupies a thread, so it is short and few are allowed.
"""

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from backroom.offload import operations, waiting
from backroom.offload.negotiation import EVENTS
from backroom.offload.representations import NAMESPACE, etag_of, status_json
from backroom.offload.status import Status
from backroom.offload.watch import close_connections, watch_here

ASGI_SECONDS: Final = 3_600.0
WSGI_SECONDS: Final = 25.0
WSGI_STREAMS: Final = 2
"""Streams that one WSGI process holds open at once; other pages poll meanwhile."""
HEARTBEAT_SECONDS: Final = 15.0
"""Silence after which a proxy might think the connection dead (HTML, 9.2.7)."""
RETRY_MILLISECONDS: Final = 1_500
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 0.5

_places = threading.BoundedSemaphore(WSGI_STREAMS)


def event_stream(request: HttpRequest, status: Status, *, namespace: str = NAMESPACE) -> HttpResponseBase:
    """Return the stream of an operation's events; 204 where there is nothing to stream, or no room for it.

    To an EventSource 204 means not to come back (HTML, 9.2.3); the page then asks for the status instead.
    """
    teller = Teller(request.headers.get("Last-Event-ID", ""), now=waiting.monotonic(), namespace=namespace)
    if status.is_finished and teller.knows(status):
        return HttpResponse(status=204)
    if isinstance(request, ASGIRequest):
        return _streaming(_afollow(status, teller))
    if not request.META.get("wsgi.multithread", False) or not _places.acquire(blocking=False):
        return HttpResponse(status=204)
    return _streaming(_Stream(_follow(status, teller)))


class Teller:
    """Turns statuses into events, and silence into heartbeats. Moments are those of a monotonic clock."""

    def __init__(self, last_id: str, *, now: float, namespace: str = NAMESPACE) -> None:
        self._last_id = last_id
        self._told_at = now
        self._namespace = namespace

    def knows(self, status: Status) -> bool:
        """Tell whether the client has been told this status already."""
        return self._last_id == _event_id(self._text(status))

    def opening(self) -> str:
        """Return what begins a stream: how soon to come back, and a word that makes proxies pass on the headers."""
        return f"retry: {RETRY_MILLISECONDS}\n: following\n\n"

    def tell(self, status: Status, *, now: float) -> str:
        """Return the event for a status: "" when it is no news, save for a heartbeat now and then."""
        text = self._text(status)
        if (event_id := _event_id(text)) != self._last_id:
            self._last_id, self._told_at = event_id, now
            return f"id: {event_id}\nevent: {'end' if status.is_finished else 'status'}\ndata: {text}\n\n"
        if now - self._told_at < HEARTBEAT_SECONDS:
            return ""
        self._told_at = now
        return ": still here\n\n"

    def _text(self, status: Status) -> str:
        return status_json(status, namespace=self._namespace)


async def _afollow(status: Status, teller: Teller) -> AsyncIterator[str]:
    begun_at = now = waiting.monotonic()
    yield teller.opening() + teller.tell(status, now=now)
    operation, watch = status.operation, watch_here()
    while not status.is_finished and now - begun_at < ASGI_SECONDS:
        record = await watch.next(operation.backend_name, operation.task_id)
        status, now = Status(operation=operation, record=record), waiting.monotonic()
        if told := teller.tell(status, now=now):
            yield told


def _follow(status: Status, teller: Teller) -> Iterator[str]:
    begun_at = now = waiting.monotonic()
    yield teller.opening() + teller.tell(status, now=now)
    for pause in waiting.pauses(FIRST_PAUSE, LONGEST_PAUSE):
        if status.is_finished or now - begun_at >= WSGI_SECONDS:
            return
        close_connections()
        waiting.sleep(pause)
        status, now = operations.status_of(status.operation), waiting.monotonic()
        if told := teller.tell(status, now=now):
            yield told


class _Stream:
    """A sync stream that gives back its place when the server closes it, however it ended."""

    def __init__(self, events: Iterator[str]) -> None:
        self._events = events
        self._has_place = True

    def __iter__(self) -> Iterator[str]:
        return self._events

    def close(self) -> None:
        """Give back the place; Django calls this for every response."""
        if self._has_place:
            self._has_place = False
            _places.release()


def _streaming(events: Any) -> StreamingHttpResponse:
    response = StreamingHttpResponse(events, content_type=f"{EVENTS}; charset=utf-8")
    response.headers["Cache-Control"] = "private, no-store, no-transform"
    # nginx and those that learned from it would otherwise collect events before passing them on.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _event_id(text: str) -> str:
    return etag_of(text).strip('"')
