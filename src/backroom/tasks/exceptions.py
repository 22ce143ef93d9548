"""What a task may raise to steer its own fate, and what may be raised in it or for it."""

from backroom.errors import BackroomError, FromOutside, Unavailable


class Snooze(Exception):
    """Raise it in a task to have the task run again after `seconds`. The attempt does not count."""

    def __init__(self, seconds: float) -> None:
        if not 0 <= seconds < float("inf"):
            msg = f"Snooze takes a number of seconds from 0 upwards, not {seconds!r}."
            raise ValueError(msg)
        super().__init__(seconds)
        self.seconds = float(seconds)


class TaskTimeout(FromOutside, TimeoutError):
    """Raised inside a task when its `timeout` has passed. Clean up and let it pass: the grace period has begun."""


class TaskCancelled(BaseException):
    """Raised inside a task that was cancelled and did not stop by itself. `except Exception` does not catch it."""


class TaskExpired(BackroomError):
    """Recorded for a task that was not started before its `expires`."""


class WorkerLost(BackroomError):
    """Recorded for a task whose workers died under it as often as its crash budget allows."""


class InvalidArguments(BackroomError, TypeError, ValueError):
    """Arguments of `enqueue()`, or a return value, that JSON cannot carry; the message names the one at fault."""


class StoreUnavailable(Unavailable):
    """The store cannot be reached now; nothing was written."""


class NotOurs(BackroomError):
    """A TASKS alias names a backend that is none of Backroom's."""

    def __init__(self, alias: str, backend: object) -> None:
        super().__init__(
            f"TASKS[{alias!r}] is {type(backend).__module__}.{type(backend).__qualname__}. "
            "Use a backend of backroom.tasks.backends there. "
            f"Set TASKS = {{{alias!r}: {{'BACKEND': 'backroom.tasks.backends.database.DatabaseBackend'}}}}"
        )
