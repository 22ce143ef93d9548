"""How an operation stands, read from its record. Values and pure functions: no request, no clock, no query."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backroom.clock import SECOND, Moment, to_datetime
from backroom.offload.models import Operation
from backroom.offload.problems import Problem, problem_of_state
from backroom.tasks.lifecycle import label
from backroom.tasks.records import CANCELLED, FINISHED, SUCCESSFUL, Progress, Record
from backroom.tasks.results import errors_of, progress_of

GONE: Final = "gone"
"""The word for an operation whose task is no longer kept; the others are those of `tasks.lifecycle`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One operation at one moment. `record` is None when the task is no longer kept, or not enqueued yet."""

    operation: Operation
    record: Record | None

    @property
    def state(self) -> str:
        """The word for where it stands: one of `tasks.lifecycle.LABELS`, or `gone`."""
        if self.operation.left_at is not None:
            return CANCELLED
        if self.record is not None:
            return label(self.record)
        return GONE if self.operation.task_id else "ready"

    @property
    def is_gone(self) -> bool:
        """Whether the task, and its result with it, is no longer kept."""
        return self.state == GONE

    @property
    def is_finished(self) -> bool:
        """Whether nothing will change any more."""
        if self.operation.left_at is not None or self.is_gone:
            return True
        return self.record is not None and self.record.state in FINISHED

    @property
    def is_successful(self) -> bool:
        """Whether there is a result."""
        return self.operation.left_at is None and self.record is not None and self.record.state == SUCCESSFUL

    @property
    def is_cancellable(self) -> bool:
        """Whether a request to cancel would change something."""
        return not self.is_finished and self.state != "cancelling"

    @property
    def result_json(self) -> str:
        """The task's return value as JSON text."""
        return (self.record.result if self.record else None) or "null"

    @property
    def result(self) -> Any:
        """The task's return value."""
        return json.loads(self.result_json)

    @property
    def progress(self) -> Progress | None:
        """How far the task has come; None before its first report."""
        return progress_of(self.record) if self.record else None

    @property
    def percent(self) -> int | None:
        """How far the task has come in whole percent; None where that is not known."""
        if self.is_successful:
            return 100
        return percent_of(self.progress)

    @property
    def message(self) -> str:
        """The task's own last word about its progress."""
        return self.progress.message if self.progress else ""

    @property
    def problem(self) -> Problem | None:
        """What to tell the owner when there is no result and will be none."""
        if not self.is_finished or self.is_successful:
            return None
        errors = errors_of(self.record) if self.record else []
        return problem_of_state(self.state, errors[-1] if errors else None)

    @property
    def attempts(self) -> int:
        """How often the task was started."""
        return self.record.attempts if self.record else 0

    @property
    def created_at(self) -> datetime:
        """When the owner asked."""
        created_at = self.operation.created_at
        assert created_at is not None  # noqa: S101 - the column is NOT NULL
        return created_at

    @property
    def started_at(self) -> datetime | None:
        """When the task was first started."""
        return _datetime(self.record.started_at) if self.record else None

    @property
    def finished_at(self) -> datetime | None:
        """When the task finished, or its owner left it to others."""
        if self.operation.left_at is not None:
            return self.operation.left_at
        return _datetime(self.record.finished_at) if self.record else None

    @property
    def expires_at(self) -> datetime | None:
        """When a finished task will no longer be kept."""
        return _datetime(self.record.prune_at) if self.record else None

    def retry_after(self, now: Moment) -> int:
        """Return the whole seconds after which another look is worth while: more, the longer it has taken so far."""
        if self.record is None:
            return 1
        if self.record.due_at is not None and self.record.due_at > now:
            return min(60, max(1, -((now - self.record.due_at) // SECOND)))
        age = (now - self.record.enqueued_at) // SECOND
        return 1 if age < 15 else 2 if age < 60 else 5


def percent_of(progress: Progress | None) -> int | None:
    """Return whole percent, rounded down so that 100 means the end; None where the end is not known."""
    if progress is None or not progress.total or progress.total < 0:
        return None
    return int(max(0.0, min(1.0, progress.done / progress.total)) * 100)


def _datetime(moment: Moment | None) -> datetime | None:
    return None if moment is None else to_datetime(moment)
