"""One attempt under way: what the running task may say and ask, and how it can be stopped from outside."""

import asyncio
import ctypes
import json
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from django.tasks.base import TaskContext as DjangoTaskContext

from backroom.compact import loads
from backroom.tasks.exceptions import TaskCancelled, TaskTimeout
from backroom.tasks.records import Claim
from backroom.tasks.resolve import Resolved
from backroom.tasks.results import TaskResult, result_of

KEPT_MESSAGE: Final = 500
"""Characters of a progress message that are kept."""

current: ContextVar["Execution | None"] = ContextVar("backroom_execution", default=None)
"""The attempt that this thread or coroutine is running, for log filters and the like."""


class Execution:
    """One attempt of one claim, shared between the slot that runs it and the thread that watches over it."""

    __slots__ = (
        "_cancel_requested",
        "_interrupt",
        "_interruption",
        "_is_told",
        "_lock",
        "_progress",
        "_result",
        "args",
        "claim",
        "kwargs",
        "resolved",
        "timeout_error",
    )

    def __init__(self, claim: Claim, resolved: Resolved) -> None:
        self.claim = claim
        self.resolved = resolved
        payload = loads(claim.payload)
        self.args: list[Any] = payload["args"]
        self.kwargs: dict[str, Any] = payload["kwargs"]
        self.timeout_error: type[TaskTimeout] = TaskTimeout
        self._result: TaskResult[..., Any] | None = None
        self._progress: str | None = None
        self._cancel_requested = claim.cancel_requested
        self._is_told = False
        self._lock = threading.Lock()
        self._interrupt: Callable[[type[BaseException]], None] | None = None
        self._interruption: type[BaseException] | None = None

    @property
    def result(self) -> TaskResult[..., Any]:
        """What the task, receivers of signals and backoff functions are shown; made when one of them asks first."""
        if self._result is None:
            self._result = result_of(self.claim, self.resolved.task, args=self.args, kwargs=self.kwargs)
        return self._result

    def report(self, done: float, total: float | None, message: str) -> None:
        """Note how far the task has come; the store hears of it with the next renewal."""
        numbers: dict[str, Any] = {"done": done} if total is None else {"done": done, "total": total}
        for name, value in numbers.items():
            if not (isinstance(value, int | float) and isfinite(value)):
                msg = f"progress() takes finite numbers; {name} is {value!r}."
                raise ValueError(msg)
        self._progress = json.dumps([done, total, str(message)[:KEPT_MESSAGE]])

    def take_progress(self) -> str | None:
        """Return the latest report that was not taken yet."""
        progress, self._progress = self._progress, None
        return progress

    def request_cancel(self) -> None:
        """Tell the task that somebody wants it cancelled."""
        self._cancel_requested = True

    def is_cancel_requested(self) -> bool:
        """Tell whether somebody wants the task cancelled."""
        return self._cancel_requested

    def ask_whether_cancelled(self) -> bool:
        """Tell the task itself, which from now on decides where it stops."""
        self._is_told = True
        return self._cancel_requested

    def stop_if_cancelled(self) -> None:
        """Raise `TaskCancelled`, once, in a task that somebody wants cancelled and that never asks."""
        if self._cancel_requested and not self._is_told:
            self._is_told = True
            raise TaskCancelled

    @property
    def was_interrupted(self) -> bool:
        """Whether an exception was raised in the task from outside."""
        return self._interruption is not None

    def interrupt(self, exception: type[BaseException]) -> bool:
        """Raise `exception` inside the task, once, if its function is running now; tell whether it has been done."""
        # An interruption that struck `call` while it held the lock would leave it locked; the watcher must go on.
        if not self._lock.acquire(timeout=1):
            return False
        try:
            if self._interrupt is not None and self._interruption is None:
                self._interruption = exception
                self._interrupt(exception)
            return self._interruption is not None
        finally:
            self._lock.release()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function so that `interrupt` reaches it: an exception set in this thread."""
        thread_id = threading.get_ident()
        with self._lock:
            self._interrupt = lambda exception: _raise_in(thread_id, exception)
        try:
            return function(*args, **kwargs)
        finally:
            with self._lock:
                self._interrupt = None
                if self._interruption is not None:
                    # It may not have been raised yet, and must not be raised in what this thread does next.
                    _raise_in(thread_id, None)

    async def acall(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Await a coroutine function so that `interrupt` reaches it: its asyncio task is cancelled."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine is always run by a task

        def cancel() -> None:
            # The loop comes to this later, when the coroutine may have ended and the task be at something else.
            if self._interrupt is not None:
                task.cancel()

        def cancel_soon(_exception: type[BaseException]) -> None:
            loop.call_soon_threadsafe(cancel)

        with self._lock:
            self._interrupt = cancel_soon
        try:
            return await function(*args, **kwargs)
        except asyncio.CancelledError:
            if self._interruption is None:
                raise
            task.uncancel()
            raise self._interruption from None
        finally:
            with self._lock:
                self._interrupt = None


def _raise_in(thread_id: int, exception: type[BaseException] | None) -> None:
    target = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), target)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext(DjangoTaskContext):  # type: ignore[misc, type-arg] # Django's is frozen too, and has no parameters
    """What a task with `takes_context=True` gets as its first argument."""

    execution: Execution

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata that was enqueued with the task."""
        return self.execution.result.metadata

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell watchers how far the task has come: `done` of `total` (None: unknown), and a word about it.

        Cheap enough for every turn of a loop: reports are kept in memory and written a few times a second. In a task
        that never asks `is_cancelled()` it raises `TaskCancelled`, once, when somebody wants the task cancelled. Raises
        ValueError where a number is not finite, or is none.
        """
        self.execution.report(done, total, message)
        self.execution.stop_if_cancelled()

    def is_cancelled(self) -> bool:
        """Tell whether somebody asked for this task to be cancelled. Clean up, then `raise_if_cancelled()`."""
        return self.execution.ask_whether_cancelled()

    def raise_if_cancelled(self) -> None:
        """Raise `TaskCancelled` if somebody asked for this task to be cancelled."""
        if self.execution.ask_whether_cancelled():
            raise TaskCancelled
