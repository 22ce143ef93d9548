"""Which tasks a subcommand means: some by their ids, or those that a filter finds, in bounded pages."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.core.management.base import CommandParser

from backroom.clock import to_datetime
from backroom.tasks import queries
from backroom.tasks.lifecycle import Label, label
from backroom.tasks.records import (
    CANCELLED,
    ERROR,
    EXPIRED,
    FAILED,
    LOST,
    SUCCESSFUL,
    TIMEOUT,
    Query,
    Reason,
    Record,
)
from backroom.tasks.results import errors_of
from backroom.tasks.tables import Cell, table

BATCH: Final = 500
REASONS: Final[tuple[Reason, ...]] = (ERROR, TIMEOUT, LOST, CANCELLED, EXPIRED)
LABEL_OF: Final[dict[Reason, Label]] = {reason: FAILED if reason == ERROR else reason for reason in REASONS}


def add_filters(parser: CommandParser) -> None:
    """Add `--queue` and `--task`."""
    parser.add_argument("--queue", metavar="NAME", help="only tasks of this queue")
    parser.add_argument("--task", metavar="PATH", help="only this task: shop.tasks.send_invoice")


def pages(query: Query, alias: str) -> Iterator[Sequence[Record]]:
    """Yield the tasks that a query finds, newest first, in bounded pages; they may be changed on the way."""
    after = None
    while True:
        page = queries.find(query, after=after, limit=BATCH, using=alias)
        if page.records:
            yield page.records
        if page.next_after is None:
            return
        after = page.next_after


def task_table(records: Sequence[Record]) -> list[str]:
    """Return the lines that tell of tasks. Arguments and results are nobody's business here."""
    rows: list[list[Cell]] = [
        [
            record.id,
            label(record),
            record.queue_name,
            record.task_path,
            record.attempts,
            f"{to_datetime(record.enqueued_at):%Y-%m-%d %H:%M:%S}Z",
            last_error(record),
        ]
        for record in records
    ]
    return table(["id", "is", "queue", "task", "attempts", "enqueued", "last error"], rows)


def as_json(record: Record) -> dict[str, Any]:
    """Return what a program is told of a task."""
    moments = ("enqueued_at", "run_after", "due_at", "started_at", "last_attempted_at", "finished_at")
    return {
        "id": record.id,
        "label": label(record),
        "state": record.state,
        "reason": record.reason,
        "queue": record.queue_name,
        "task": record.task_path,
        "priority": record.priority,
        "attempts": record.attempts,
        "failures": record.failures,
        "crashes": record.crashes,
        **{name: None if (at := getattr(record, name)) is None else to_datetime(at) for name in moments},
        "worker_id": record.worker_id,
        "last_error": last_error(record),
    }


def last_error(record: Record) -> str:
    """Return the class of the latest error of a task that failed or is to be tried again; "" for any other.

    Its message may quote arguments.
    """
    is_trouble = record.state == FAILED or (record.failures > 0 and record.state != SUCCESSFUL)
    errors = errors_of(record) if is_trouble else []
    return errors[-1].exception_class_path if errors else ""
