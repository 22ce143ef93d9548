"""From a record back to the `Task` it was enqueued with, and the rules that task's options make for the policy."""

import json
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

from django.tasks.base import Task as DjangoTask
from django.utils.module_loading import import_string

from backroom.errors import BackroomError
from backroom.tasks.definition import Task, normalize
from backroom.tasks.moments import shown
from backroom.tasks.overrides import decoded
from backroom.tasks.policy import Exponential, Rules
from backroom.tasks.records import Record

UNKNOWN_TASK_RULES = Rules(max_attempts=10, backoff=Exponential(base=5, cap=300))
"""For a record whose function cannot be imported: a newer release may have enqueued it, so the wait may help."""

adopters: list[Callable[[Any], Any]] = []
"""Functions that are asked for the task of something else that a record names, and return None for what they don't know."""


class UnknownTask(BackroomError, ImportError):
    """A record names a task that cannot be imported here."""


class Defaults(NamedTuple):
    """What a backend's options say for every task that does not say it itself."""

    crash_budget: int = 3
    retention: float = 7 * 86_400
    failed_retention: float = 30 * 86_400


class Resolved(NamedTuple):
    """A record's task, ready to be called."""

    task: Any
    rules: Rules
    is_coroutine: bool
    timeout: float | None
    atomic: bool


def module_task(task_path: str) -> Any:
    """Return the task that a module defines under this path; raise `UnknownTask` when there is none."""
    try:
        found = import_string(task_path)
    except (Exception, SystemExit) as error:  # a module of the project's raises what it likes
        msg = f"Task {task_path} cannot be imported: {error!r}. Deploy the code that defines it, or cancel the task."
        raise UnknownTask(msg) from error
    if isinstance(found, DjangoTask):
        return found
    for adopt in adopters:
        if (task := adopt(found)) is not None:
            return task
    msg = f"{task_path} is {type(found)}, not a task. Decorate the function with django.tasks.task."
    raise UnknownTask(msg)


def resolve(record: Record, defaults: Defaults) -> Resolved:
    """Return what `record` is to be run as; raise `UnknownTask` when this code cannot tell."""
    try:
        return _resolved_of(record, defaults)
    except UnknownTask:
        raise
    except (Exception, SystemExit) as error:  # what a record says may name anything, and importing it do anything
        msg = (
            f"Task {record.task_path} cannot be restored from its record {record.id}: {error!r}. "
            "Deploy the code that enqueued it, or cancel the task."
        )
        raise UnknownTask(msg) from error


def rules_of(record: Record, defaults: Defaults) -> Rules:
    """Return the rules for a record, also when its function cannot be imported."""
    try:
        return resolve(record, defaults).rules
    except UnknownTask:
        return UNKNOWN_TASK_RULES


def _resolved_of(record: Record, defaults: Defaults) -> Resolved:
    if record.run_after is None and not record.metadata:
        return _resolved_alike(
            record.task_path, record.priority, record.queue_name, record.backend_name, record.overrides, defaults
        )
    return _resolved(
        record.task_path, record.priority, record.queue_name, record.backend_name, record.overrides, defaults, record
    )


def _resolved(
    task_path: str,
    priority: int,
    queue_name: str,
    backend_name: str,
    overrides: str,
    defaults: Defaults,
    record: Record | None = None,
) -> Resolved:
    base = module_task(task_path)
    changes: dict[str, Any] = {"priority": priority, "queue_name": queue_name, "backend": backend_name}
    if record and record.run_after is not None:
        changes["run_after"] = shown(record.run_after)
    if hasattr(base, "metadata"):
        changes["metadata"] = decoded_metadata(record) if record else {}
    options = decoded(overrides)
    task = _restored(base, changes | options)
    if options and isinstance(task, Task):
        normalize(task)
    return Resolved(
        task,
        _rules(task, defaults),
        iscoroutinefunction(task.func),
        getattr(task, "timeout", None),
        getattr(task, "atomic", False),
    )


_resolved_alike = lru_cache(maxsize=1024)(_resolved)


def decoded_metadata(record: Record) -> dict[str, Any]:
    """Return the metadata of a record; raise `TypeError` for what is no dict, `ValueError` for what is no JSON."""
    metadata: object = json.loads(record.metadata) if record.metadata else {}
    if not isinstance(metadata, dict):
        msg = f"The metadata of {record.id} is {type(metadata)}, not a dict."
        raise TypeError(msg)
    return metadata


def _restored(base: Any, changes: dict[str, Any]) -> Any:
    """Copy a task without checking it: a record is a fact, whatever today's settings say of its queue."""
    if all(getattr(base, name, None) == value for name, value in changes.items()):
        return base
    task = object.__new__(type(base))
    for item in fields(base):
        object.__setattr__(task, item.name, changes.get(item.name, getattr(base, item.name)))
    return task


def _rules(task: Any, defaults: Defaults) -> Rules:
    keep = getattr(task, "keep_result", True)
    if isinstance(keep, bool):
        keep = defaults.retention if keep else 0.0
    plain = Rules()
    return Rules(
        max_attempts=getattr(task, "max_attempts", plain.max_attempts),
        backoff=getattr(task, "backoff", plain.backoff),
        retry_on=getattr(task, "retry_on", plain.retry_on),
        fail_on=getattr(task, "fail_on", plain.fail_on),
        crash_budget=defaults.crash_budget,
        keep_seconds=float(keep),
        keep_failed_seconds=defaults.failed_retention,
    )
