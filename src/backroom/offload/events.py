"""An operation's status as server-sent events (HTML Living Standard, 9.2), right under ASGI and under WSGI.

Under ASGI Django streams an async iterator as it goes and a sync one only when it has ended; under WSGI the other way
round. So the kind of the request decides. Under WSGI a stream occupies a thread, so it is short and few are allowed.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from backroom.offload import operations, waiting
from backroom.offload.negotiation import EVENTS
from backroom.offload.representations import etag_of, status_json
from backroom.offload.status import Status

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


def event_stream(request: HttpRequest, status: Status) -> HttpResponseBase:
    """Return the stream of an operation's events, or 204 where there is nothing to stream or no room for it."""
    teller = Teller(request.headers.get("Last-Event-ID", ""))
    if status.is_finished and teller.knows(status):
        return HttpResponse(status=204)
    if isinstance(request, ASGIRequest):
        return _streaming(_afollow(status, teller))
    if not request.META.get("wsgi.multithread", False) or not _places.acquire(blocking=False):
        return HttpResponse(status=204)
    return _streaming(_Follower(status, teller))


class Teller:
    """Turns statuses into events, and silence into heartbeats."""

    def __init__(self, last_id: str) -> None:
        self._last_id = last_id
        self._silent_seconds = 0.0

    def knows(self, status: Status) -> bool:
        """Tell whether the client has been told this status already."""
        return self._last_id == _event_id(status_json(status))

    def opening(self) -> str:
        """Return what begins a stream: how soon to come back, and a word that makes proxies pass on the headers."""
        return f"retry: {RETRY_MILLISECONDS}\n: following\n\n"

    def tell(self, status: Status, silent_seconds: float = 0.0) -> str:
        """Return the event for a status: "" when it is no news, save for a heartbeat now and then."""
        text = status_json(status)
        if (event_id := _event_id(text)) != self._last_id:
            self._last_id = event_id
            self._silent_seconds = 0.0
            return f"id: {event_id}\nevent: {'end' if status.is_finished else 'status'}\ndata: {text}\n\n"
        self._silent_seconds += silent_seconds
        if self._silent_seconds < HEARTBEAT_SECONDS:
            return ""
        self._silent_seconds = 0.0
        return ": still here\n\n"


async def _afollow(status: Status, teller: Teller) -> AsyncIterator[str]:
    yield teller.opening() + teller.tell(status)
    passed = 0.0
    for pause in waiting.pauses(FIRST_PAUSE, LONGEST_PAUSE):
        if status.is_finished or passed >= ASGI_SECONDS:
            return
        await asyncio.sleep(pause)
        passed += pause
        status = await sync_to_async(_look)(status)
        if told := teller.tell(status, pause):
            yield told


class _Follower:
    """A sync stream that gives back its place when the server closes it, however it ended."""

    def __init__(self, status: Status, teller: Teller) -> None:
        self._events = _follow(status, teller)
        self._has_place = True

    def __iter__(self) -> Iterator[str]:
        return self._events

    def close(self) -> None:
        """Give back the place; called by Django for every response, once."""
        if self._has_place:
            self._has_place = False
            _places.release()


def _follow(status: Status, teller: Teller) -> Iterator[str]:
    yield teller.opening() + teller.tell(status)
    passed = 0.0
    for pause in waiting.pauses(FIRST_PAUSE, LONGEST_PAUSE):
        if status.is_finished or passed >= WSGI_SECONDS:
            return
        waiting.sleep(pause)
        passed += pause
        status = _look(status)
        if told := teller.tell(status, pause):
            yield told


def _look(status: Status) -> Status:
    try:
        return operations.status_of(status.operation)
    finally:
        _close_connections()


def _close_connections() -> None:
    """Hold no connection while nothing is asked: there may be many more streams than connections."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _streaming(events: Any) -> StreamingHttpResponse:
    response = StreamingHttpResponse(events, content_type=f"{EVENTS}; charset=utf-8")
    response.headers["Cache-Control"] = "private, no-store, no-transform"
    # nginx and those that learned from it would otherwise collect events before passing them on.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _event_id(text: str) -> str:
    return etag_of(text).strip('"')
