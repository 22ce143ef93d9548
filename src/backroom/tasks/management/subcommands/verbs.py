"""`manage.py backroom retry | cancel | run-now`: the operator's verbs, on tasks by their ids or by a filter."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backroom.tasks import control, queries
from backroom.tasks.lifecycle import Label, label
from backroom.tasks.management.subcommands.base import add_backend, add_json, backend_named, write_json, write_lines
from backroom.tasks.management.subcommands.selection import (
    BATCH,
    LABEL_OF,
    REASONS,
    add_filters,
    pages,
    task_table,
)
from backroom.tasks.records import DEFERRED, FAILED, FINISHED, READY, RUNNING, WAITING, Query, Record, State
from backroom.tasks.tables import asked_to_stop, count, counts

SHOWN: Final = 20
"""Tasks that a dry run shows of those that it counts."""
REFUSED: Final = 1
"""Exit status when a task that was named could not be served."""

type Order = Callable[..., list[str]]


@dataclass(slots=True, kw_only=True)
class Report:
    """What was found and what was done."""

    backend: str
    matched: int = 0
    done: int = 0
    running: int = 0
    """How many of those that were done run still, and were asked to stop."""
    refused: dict[str, str | None] = field(default_factory=dict)
    """By its id, what a task that was named is instead; None for one that does not exist."""
    shown: list[Record] = field(default_factory=list)
    were: Counter[Label] = field(default_factory=Counter)
    """What those that were done, or would be, were before."""
    left_alone: Counter[Label] = field(default_factory=Counter)
    """What those are that a filter found and that were not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb of `backroom.tasks.control`, on the command line."""

    name: str
    help: str
    order: Order
    takes: frozenset[str]
    """States in which a task can be served."""
    seeks: tuple[State, ...]
    """States among which a filter looks."""
    all_option: str
    done_word: str
    by_default: tuple[Label, ...] = ()
    """Labels of what a filter means when no `--reason` is given; any, when empty."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what it takes."""
        sought = " or ".join(self.seeks)
        parser.add_argument("ids", nargs="*", metavar="ID", help="ids of tasks")
        parser.add_argument(
            f"--{self.all_option}", dest="every", action="store_true", help=f"every task that is {sought}"
        )
        add_filters(parser)
        if self.seeks == (FAILED,):
            parser.add_argument(
                "--reason",
                action="append",
                choices=REASONS,
                help="only those that failed for this reason; may be given again (error, timeout, lost)",
            )
        parser.add_argument("--dry-run", action="store_true", help="change nothing; show what would be done")
        add_backend(parser)
        add_json(parser)

    def run(self, command: BaseCommand, options: dict[str, Any]) -> int:
        """Do it, and tell of it."""
        report = Report(backend=backend_named(options["backend"]))
        query = self._query(options)
        if query is None:
            for records in _named(options["ids"], report):
                self._serve_named(records, report, is_dry=options["dry_run"])
        else:
            only = frozenset(LABEL_OF[reason] for reason in options.get("reason") or ()) or frozenset(self.by_default)
            for records in pages(query, report.backend):
                self._serve_found(records, report, only, is_dry=options["dry_run"])
        if options["json"]:
            write_json(command, self._as_json(report, is_dry=options["dry_run"]))
        else:
            self._write(command, report, is_dry=options["dry_run"])
        return REFUSED if report.refused else 0

    def _query(self, options: dict[str, Any]) -> Query | None:
        """Return what to look for, or None when ids say it; raise `CommandError` when both do, or neither."""
        filters = {name: options[name] for name in ("queue", "task", "reason") if options.get(name) is not None}
        asked = [f"--{name}" for name in filters] + ([f"--{self.all_option}"] if options["every"] else [])
        if options["ids"]:
            if asked:
                msg = f"Name tasks by their ids or by {' '.join(asked)}, not by both."
                raise CommandError(msg)
            return None
        if self.seeks == (FAILED,) and not options["every"]:
            msg = f"Say which tasks: ids, or --{self.all_option} with --queue, --task or --reason to narrow it down."
            raise CommandError(msg)
        if not asked:
            msg = f"Say which tasks: ids, --queue NAME, --task PATH, or --{self.all_option}."
            raise CommandError(msg)
        return Query(
            states=self.seeks,
            queue_name=filters.get("queue"),
            task_path=filters.get("task"),
            # Of several reasons the store cannot tell; those records are looked at one by one.
            reason=reasons[0] if len(reasons := filters.get("reason", [])) == 1 else None,
        )

    def _serve_named(self, records: Sequence[Record], report: Report, *, is_dry: bool) -> None:
        served = self._serve(records, report, is_dry=is_dry)
        left = [record.id for record in records if record.id not in served]
        report.refused |= {record.id: label(record) for record in queries.get_many(left, using=report.backend)}

    def _serve_found(self, records: Sequence[Record], report: Report, only: frozenset[Label], *, is_dry: bool) -> None:
        wanted = [record for record in records if not only or label(record) in only]
        report.left_alone.update(label(record) for record in records if only and label(record) not in only)
        self._serve(wanted, report, is_dry=is_dry)

    def _serve(self, records: Sequence[Record], report: Report, *, is_dry: bool) -> frozenset[str]:
        wanted = {record.id: record for record in records if record.state in self.takes}
        served = sorted(wanted) if is_dry else self.order(sorted(wanted), using=report.backend)
        report.matched += len(wanted)
        report.done += 0 if is_dry else len(served)
        report.running += sum(1 for id_ in served if wanted[id_].state == RUNNING)
        report.were.update(label(wanted[id_]) for id_ in served)
        report.shown += [wanted[id_] for id_ in served[: SHOWN - len(report.shown)]]
        return frozenset(served)

    def _as_json(self, report: Report, *, is_dry: bool) -> dict[str, Any]:
        return {
            "backend": report.backend,
            "action": self.name,
            "dry_run": is_dry,
            "matched": report.matched,
            "done": report.done,
            "running": report.running,
            "were": dict(sorted(report.were.items())),
            "left_alone": dict(sorted(report.left_alone.items())),
            "refused": [{"id": id_, "is": is_} for id_, is_ in sorted(report.refused.items())],
        }

    def _write(self, command: BaseCommand, report: Report, *, is_dry: bool) -> None:
        if is_dry and report.shown:
            write_lines(command, [*task_table(report.shown), ""])
        word = f"Would have {self.done_word.lower()}" if is_dry else self.done_word
        number = report.matched if is_dry else report.done
        what = f": {counts(report.were.elements())}" if number else ""
        also = asked_to_stop(report.running, control.seconds_to_stop(using=report.backend))
        command.stdout.write(f"{word} {count(number, 'task')}{what}{also}.")
        if report.left_alone:
            options = " ".join(f"--reason {reason}" for reason, word in LABEL_OF.items() if word in report.left_alone)
            command.stdout.write(f"Left alone: {counts(report.left_alone.elements())} ({options}).")
        for id_, is_ in sorted(report.refused.items()):
            why = f"TASKS[{report.backend!r}] has no such task" if is_ is None else f"it is {is_}"
            command.stderr.write(f"Not {self.done_word.lower()}: {id_}: {why}.")


def _named(ids: Sequence[str], report: Report) -> Iterator[Sequence[Record]]:
    """Yield the tasks of these ids in bounded pages, noting those that do not exist."""
    left = list(dict.fromkeys(ids))
    for start in range(0, len(left), BATCH):
        page = left[start : start + BATCH]
        records = queries.get_many(page, using=report.backend)
        report.refused |= dict.fromkeys(set(page) - {record.id for record in records})
        yield records


RETRY: Final = Verb(
    name="retry",
    help="Put finished tasks back into their queues with all their attempts.",
    order=control.retry,
    takes=FINISHED,
    seeks=(FAILED,),
    all_option="failed",
    done_word="Retried",
    by_default=control.FAILURES,
)
CANCEL: Final = Verb(
    name="cancel",
    help="Cancel tasks: waiting ones at once, running ones by asking them to stop.",
    order=control.cancel,
    takes=WAITING | {RUNNING},
    seeks=(DEFERRED, READY, RUNNING),
    all_option="all",
    done_word="Cancelled",
)
RUN_NOW: Final = Verb(
    name="run-now",
    help="Make tasks ready at once that wait for their time, or for their next attempt.",
    order=control.run_now,
    takes=frozenset({DEFERRED}),
    seeks=(DEFERRED,),
    all_option="all",
    done_word="Made ready",
)
