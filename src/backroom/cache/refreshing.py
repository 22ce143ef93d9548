"""Where a stale value is computed anew: in the task queue, in a thread of this process, or by a visitor's request.

The way to the queue is Django's: `django.tasks`, whatever backend the project has. Where the backend would run the task
before `enqueue()` returns, or never, a thread does it.
"""

import contextvars
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Final, Literal, cast

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections
from django.tasks import task_backends
from django.utils import timezone, translation
from django.utils.timezone import get_current_timezone
from django.utils.translation import get_language

from backroom.cache.dependencies import collecting
from backroom.options import Setting

logger = logging.getLogger("backroom.cache")

type Way = Literal["tasks", "threads", "requests"]
WAYS: Final = ("tasks", "threads", "requests")
WAY: Final = Setting[str]("CACHE_REFRESH", str, default="auto")
BACKEND: Final = Setting[str]("CACHE_REFRESH_BACKEND", str, default="default")
IN_PLACE: Final = frozenset({"ImmediateBackend", "DummyBackend"})
"""Task backends that have no worker, Django's and ours alike, by the name of their class or of one it is made from."""
THREADS: Final = 4

_free = threading.BoundedSemaphore(THREADS)


def way() -> Way:
    """Return what the project says, or what its task backend can do."""
    if WAY.value in WAYS:
        return cast("Way", WAY.value)
    kinds = {kind.__name__ for kind in type(task_backends[BACKEND.value]).__mro__}
    return "threads" if kinds & IN_PLACE else "tasks"


def in_background(alias: str, enqueue: Callable[[Any], Any] | None, work: Callable[[], Any]) -> bool:
    """Have something done elsewhere for the cache of an alias; tell whether it will be.

    `enqueue` is given the task backend's alias; None says that only this process can do the work. `work` does it here.
    """
    try:
        chosen = way()
        # What a worker stores in the memory of its own process is not found in this one's.
        if chosen == "tasks" and enqueue is not None and not isinstance(caches[alias], LocMemCache):
            enqueue(BACKEND.value)
            return True
    except Exception as error:  # noqa: BLE001 - a queue that is down, or not there, must not fail a page that has a value
        logger.warning("action=refresh-not-enqueued error=%s", type(error).__qualname__)
        return False
    return chosen != "requests" and _in_thread(work)


def _in_thread(work: Callable[[], Any]) -> bool:
    if not _free.acquire(blocking=False):
        # There is a value to serve, and somebody will ask again.
        return True
    # With what is this request's. What Django keeps in asgiref's Local no other thread sees, whatever context it runs in.
    context, language, zone = contextvars.copy_context(), get_language(), get_current_timezone()

    def within() -> None:
        # What it depends on is none of the request's, which may be at its own in this moment.
        with collecting(), translation.override(language), timezone.override(zone):
            _quietly(work)

    try:
        threading.Thread(target=lambda: context.run(within), name="backroom-cache", daemon=True).start()
    except RuntimeError:
        # The process is ending, or may have no more threads.
        _free.release()
        return False
    return True


def _begin_anew_in_a_child() -> None:
    global _free  # noqa: PLW0603 - the threads that would release it are the parent's
    _free = threading.BoundedSemaphore(THREADS)


os.register_at_fork(after_in_child=_begin_anew_in_a_child)


def _quietly(work: Callable[[], Any]) -> None:
    try:
        work()
    except Exception as error:  # There is nobody to catch it, and the stale value goes on.
        logger.warning("action=refresh-failed error=%s", type(error).__qualname__, exc_info=error)
    finally:
        _free.release()
        connections.close_all()
