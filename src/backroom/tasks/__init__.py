"""Tasks: the work that a request leaves behind, done later by a worker.

Tasks are declared and enqueued with `django.tasks`; here is what goes beyond it.
"""

from typing import TYPE_CHECKING, Any

from backroom.tasks.exceptions import Snooze, TaskCancelled, TaskTimeout
from backroom.tasks.policy import Exponential

if TYPE_CHECKING:
    from backroom.tasks.bulk import enqueue_many
    from backroom.tasks.decorator import task
    from backroom.tasks.definition import Task, Unique
    from backroom.tasks.execution import TaskContext
    from backroom.tasks.results import TaskResult

__all__ = [
    "Exponential",
    "Snooze",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskResult",
    "TaskTimeout",
    "Unique",
    "enqueue_many",
    "exponential",
    "task",
]

exponential = Exponential

_HOMES = {
    "Task": "backroom.tasks.definition",
    "TaskContext": "backroom.tasks.execution",
    "TaskResult": "backroom.tasks.results",
    "Unique": "backroom.tasks.definition",
    "enqueue_many": "backroom.tasks.bulk",
    "task": "backroom.tasks.decorator",
}


def __getattr__(name: str) -> Any:
    # Django imports this package before the settings are ready, and these names need the settings.
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
