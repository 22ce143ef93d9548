"""Forget operations, in bounded batches, some time after their tasks have been forgotten."""

from collections.abc import Sequence
from typing import Any, Final

from backroom.clock import Moment, SystemClock, after
from backroom.offload import operations
from backroom.offload.models import Operation
from backroom.sql.dialect import patiently
from backroom.tasks import queries
from backroom.tasks.records import Record
from backroom.upkeep import in_rounds

BATCH: Final = 100
CHECK_SECONDS: Final = 3_600.0
"""Between two looks at whether a task is still kept."""
GONE_SECONDS: Final = 7 * 86_400.0
"""How long an operation whose task is no longer kept answers 410, before it answers 404."""


@in_rounds
def on_tidying(**_signal: Any) -> None:
    """Do one step in each of a worker's rounds of maintenance."""
    step()


def prune(*, batch: int = BATCH) -> int:
    """Look at every operation that is due for it, and delete those that are over; return how many were deleted."""
    total = 0
    while True:
        checked, deleted = step(batch=batch)
        total += deleted
        if checked < batch:
            return total


def step(*, batch: int = BATCH) -> tuple[int, int]:
    """Look at up to `batch` operations; return how many were looked at and how many of them deleted."""
    now = SystemClock().now()
    due = list(operations.operations().filter(check_at__lte=now).order_by("check_at")[:batch])
    records = _records(due)
    over = [each.pk for each in due if each.gone_at is not None and each.task_id not in records]
    kept = [each for each in due if each.pk not in over]
    for operation in kept:
        _reschedule(operation, records.get(operation.task_id), now)
    if over:
        patiently(operations.database(), lambda: operations.operations().filter(pk__in=over).delete())
    if kept:
        fields = ["check_at", "gone_at", "key", "shared_key"]
        patiently(operations.database(), lambda: operations.operations().bulk_update(kept, fields))
    return len(due), len(over)


def _records(due: Sequence[Operation]) -> dict[str, Record]:
    ids: dict[str, list[str]] = {}
    for operation in due:
        ids.setdefault(operation.backend_name, []).append(operation.task_id)
    ours = set(queries.our_aliases())
    return {
        record.id: record for name, some in ids.items() if name in ours for record in queries.get_many(some, using=name)
    }


def _reschedule(operation: Operation, record: Record | None, now: Moment) -> None:
    wait = CHECK_SECONDS
    if record is None:
        operation.gone_at = now
        # Nothing joins an operation without a task, so it need not keep others from its keys.
        operation.key = operation.shared_key = None
        wait = GONE_SECONDS
    operation.check_at = after(max(now, record.prune_at or now) if record else now, wait)
