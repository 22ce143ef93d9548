"""Operations that are there: find them, tell how they stand, cancel them. Knows no HTTP."""

from functools import partial

from django.db import router
from django.db.models import QuerySet
from django.tasks.exceptions import InvalidTaskBackend, TaskResultDoesNotExist

from backroom.clock import Moment, SystemClock, to_datetime
from backroom.offload.models import Operation
from backroom.offload.status import Status
from backroom.sql.dialect import in_transaction, patiently, telling_of_missing_tables, write_transaction
from backroom.tasks import control, queries
from backroom.tasks.records import Record


def get(id_: str) -> Operation | None:
    """Return an operation, whoever's it is."""
    if not queries.is_text(id_):
        return None
    with telling_of_missing_tables(database(), "backroom.offload"):
        return operations().filter(pk=id_).first()


def status_of(operation: Operation) -> Status:
    """Return how an operation stands now."""
    return Status(operation=operation, record=_record(operation))


def cancel(status: Status) -> bool:
    """Cancel an operation; tell whether that was still possible.

    Where others wait for the same task it goes on, and only this owner's operation ends.
    """
    operation = status.operation
    if status.is_finished:
        return False
    others = operations().filter(backend_name=operation.backend_name, task_id=operation.task_id, left_at=None)
    if heir := others.exclude(pk=operation.pk).order_by("created_at").first():
        patiently(database(), partial(_leave, operation, heir))
        return True
    return bool(control.cancel([operation.task_id], using=operation.backend_name))


def mark_seen(status: Status) -> None:
    """Note that the owner has been told how the operation ended."""
    operation = status.operation
    if operation.seen_at is None and status.is_finished:
        operations().filter(pk=operation.pk, seen_at=None).update(seen_at=now())


def now() -> Moment:
    """Return the present moment."""
    return SystemClock().now()


def database() -> str:
    """Return the alias of the database that keeps operations."""
    return router.db_for_write(Operation)


def operations() -> QuerySet[Operation]:
    """Return all operations; reads too go where writes go, for a replica may not have heard yet."""
    return Operation.objects.using(database())


def is_visible_to_workers() -> bool:
    """Tell whether what was just enqueued can be started before this request ends."""
    return not in_transaction(database())


def _leave(operation: Operation, heir: Operation) -> None:
    """Let an operation end, and have newcomers find the shared task by another one."""
    operation.left_at = to_datetime(now())
    with write_transaction(database()):
        operations().filter(pk=operation.pk).update(left_at=operation.left_at, shared_key=None)
        if operation.shared_key:
            operations().filter(pk=heir.pk, shared_key=None).update(shared_key=operation.shared_key)


def _record(operation: Operation) -> Record | None:
    if not operation.task_id:
        return None
    try:
        return queries.get(operation.task_id, using=operation.backend_name)
    except (TaskResultDoesNotExist, InvalidTaskBackend):
        return None
