"""`manage.py backroom list`: tasks, newest first."""

from itertools import islice
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser

from backroom.tasks.lifecycle import LABELS, Label, label
from backroom.tasks.management.subcommands.base import (
    add_backend,
    add_json,
    backend_named,
    whole,
    write_json,
    write_lines,
)
from backroom.tasks.management.subcommands.selection import REASONS, add_filters, as_json, pages, task_table
from backroom.tasks.records import CANCELLED, DEFERRED, EXPIRED, FAILED, LOST, RUNNING, TIMEOUT, Query, State

STATE_OF: Final[dict[Label, State]] = {
    "scheduled": DEFERRED,
    "retrying": DEFERRED,
    "cancelling": RUNNING,
    **dict.fromkeys((CANCELLED, EXPIRED, LOST, TIMEOUT), FAILED),
}
"""The state that a label is finer than; the other labels are states."""


class List:
    """Print tasks."""

    help = "List tasks, newest first: ids for `retry`, `cancel` and `run-now`."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what it takes."""
        add_backend(parser)
        parser.add_argument("--is", choices=LABELS, dest="label", metavar="STATE", help=f"only: {', '.join(LABELS)}")
        add_filters(parser)
        parser.add_argument("--limit", type=whole(least=1), default=50, metavar="N", help="at most so many (50)")
        add_json(parser)

    def run(self, command: BaseCommand, options: dict[str, Any]) -> int:
        """Print it."""
        alias = backend_named(options["backend"])
        found = (record for page in pages(_query(options), alias) for record in page)
        wanted = (record for record in found if options["label"] in {None, label(record)})
        records = list(islice(wanted, options["limit"]))
        if options["json"]:
            write_json(command, {"backend": alias, "tasks": [as_json(record) for record in records]})
        else:
            write_lines(command, task_table(records) if records else ["No task."])
        return 0


def _query(options: dict[str, Any]) -> Query:
    """Return what the store can look for itself; what it finds may still be too much."""
    word = options["label"]
    return Query(
        states=() if word is None else (STATE_OF.get(word, word),),
        queue_name=options["queue"],
        task_path=options["task"],
        reason=word if word in REASONS else None,
    )
