"""A record as the code that enqueued it sees it: Django's `TaskResult`, and what Backroom knows beyond it."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.tasks.base import TASK_REFRESH_ATTRS, TaskError, TaskResultStatus
from django.tasks.base import TaskResult as DjangoTaskResult

from backroom.clock import to_datetime
from backroom.tasks.definition import P, R
from backroom.tasks.lifecycle import label
from backroom.tasks.moments import shown
from backroom.tasks.policy import errors_in
from backroom.tasks.records import DEFERRED, FAILED, READY, RUNNING, SUCCESSFUL, Progress, Record

if TYPE_CHECKING:

    class _Base(DjangoTaskResult[P, R]):
        pass
else:

    class _Base(DjangoTaskResult):
        """See `backroom.tasks.definition._Base`."""

        __slots__ = ()

        def __class_getitem__(cls, _parameters: Any) -> type:
            return cls


STATUSES: Final = {
    DEFERRED: TaskResultStatus.READY,
    READY: TaskResultStatus.READY,
    RUNNING: TaskResultStatus.RUNNING,
    SUCCESSFUL: TaskResultStatus.SUCCESSFUL,
    FAILED: TaskResultStatus.FAILED,
}

REFRESHED: Final = (*TASK_REFRESH_ATTRS, "label", "progress", "metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(_Base[P, R]):  # type: ignore[misc] # Django's is frozen too; its stubs do not say so
    """Django's `TaskResult` with three things more.

    `label` is the finer word for the status (scheduled, retrying, cancelled, …; see `lifecycle.LABELS`),
    `progress` how far the task has come (None before its first report), `metadata` what was enqueued with it.
    """

    label: str = READY
    progress: Progress | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Leave the arguments alone: they have been through JSON already."""

    def refresh(self) -> None:
        """Read the result from the store again; raise `TaskResultDoesNotExist` if it is gone."""
        self._take(self.task.get_backend().get_result(self.id))

    async def arefresh(self) -> None:
        """See refresh()."""
        self._take(await self.task.get_backend().aget_result(self.id))

    def _take(self, fresh: Any) -> None:
        for name in REFRESHED:
            object.__setattr__(self, name, getattr(fresh, name))


def result_of(
    record: Record, task: Any, *, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None
) -> TaskResult[..., Any]:
    """Return the result that tells of `record`.

    `task` is the task with the record's own priority, queue and so on; `args` and `kwargs` save reading the payload.
    """
    if args is None or kwargs is None:
        payload = json.loads(record.payload)
        args, kwargs = payload["args"], payload["kwargs"]
    as_datetime = to_datetime if settings.USE_TZ else shown
    return _made(
        task,
        record.id,
        STATUSES[record.state],
        as_datetime(record.enqueued_at),
        None if record.started_at is None else as_datetime(record.started_at),
        None if record.finished_at is None else as_datetime(record.finished_at),
        None if record.last_attempted_at is None else as_datetime(record.last_attempted_at),
        args,
        kwargs,
        record.backend_name,
        errors_of(record),
        record.worker_ids.split(),
        None if record.result is None else json.loads(record.result),
        label(record),
        progress_of(record),
        json.loads(record.metadata) if record.metadata else {},
    )


def alike(other: TaskResult[..., Any], record: Record, args: list[Any], kwargs: dict[str, Any]) -> TaskResult[..., Any]:
    """Return the result of a record that was enqueued with `other`'s, as another call of the same task."""
    metadata = json.loads(record.metadata) if record.metadata else {}
    return _made(
        other.task,
        record.id,
        other.status,
        other.enqueued_at,
        None,
        None,
        None,
        args,
        kwargs,
        other.backend,
        [],
        [],
        None,
        other.label,
        None,
        metadata,
    )


FIELDS: Final = (
    "task",
    "id",
    "status",
    "enqueued_at",
    "started_at",
    "finished_at",
    "last_attempted_at",
    "args",
    "kwargs",
    "backend",
    "errors",
    "worker_ids",
    "_return_value",
    "label",
    "progress",
    "metadata",
)
"""In the order of `_made`, whatever the order is in which Django declares its own."""

_new: Final = object.__new__
(
    _set_task,
    _set_id,
    _set_status,
    _set_enqueued_at,
    _set_started_at,
    _set_finished_at,
    _set_last_attempted_at,
    _set_args,
    _set_kwargs,
    _set_backend,
    _set_errors,
    _set_worker_ids,
    _set_return_value,
    _set_label,
    _set_progress,
    _set_metadata,
) = [getattr(TaskResult, name).__set__ for name in FIELDS]


def _made(
    task: Any,
    id_: str,
    status: Any,
    enqueued_at: datetime | None,
    started_at: datetime | None,
    finished_at: datetime | None,
    last_attempted_at: datetime | None,
    args: list[Any],
    kwargs: dict[str, Any],
    backend: str,
    errors: list[TaskError],
    worker_ids: list[str],
    return_value: Any,
    label: str,
    progress: Progress | None,
    metadata: dict[str, Any],
) -> TaskResult[..., Any]:
    """Return the result with these values."""
    # The class's own way takes four times as long, and a loop twice; every enqueue and every attempt make one.
    result: TaskResult[..., Any] = _new(TaskResult)
    _set_task(result, task)
    _set_id(result, id_)
    _set_status(result, status)
    _set_enqueued_at(result, enqueued_at)
    _set_started_at(result, started_at)
    _set_finished_at(result, finished_at)
    _set_last_attempted_at(result, last_attempted_at)
    _set_args(result, args)
    _set_kwargs(result, kwargs)
    _set_backend(result, backend)
    _set_errors(result, errors)
    _set_worker_ids(result, worker_ids)
    _set_return_value(result, return_value)
    _set_label(result, label)
    _set_progress(result, progress)
    _set_metadata(result, metadata)
    return result


def errors_of(record: Record) -> list[TaskError]:
    """Return the errors of a record's attempts, oldest first."""
    if not record.errors:
        return []
    return [TaskError(exception_class_path=path, traceback=text) for path, text in errors_in(record)]


def progress_of(record: Record) -> Progress | None:
    """Return how far a record has come, or None before its first report."""
    return Progress(*json.loads(record.progress)) if record.progress else None
