"""Enqueue thousands of tasks in a handful of statements."""

from collections.abc import Iterable
from typing import Any, cast

from backroom.tasks.backends.base import Call
from backroom.tasks.definition import P, R, Task
from backroom.tasks.queries import backend_of
from backroom.tasks.results import TaskResult


def enqueue_many(task: Task[P, R], calls: Iterable[Call]) -> list[TaskResult[P, R]]:
    """Enqueue `task` once for each `(args, kwargs)` of `calls`; return the results in the same order.

    All of them or none. Raise `InvalidArguments` naming the argument that JSON cannot carry, `NotOurs` when the
    task's backend is none of Backroom's.
    """
    results: Any = backend_of(task.backend).enqueue_many(task, calls)
    return cast("list[TaskResult[P, R]]", results)
