"""`manage.py backroom status`: what waits in which queue, and who works on it."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser

from backroom.clock import Moment, seconds_between, to_datetime
from backroom.tasks import queries
from backroom.tasks.management.subcommands.base import (
    add_backend,
    add_json,
    backends_named,
    seconds,
    write_json,
    write_lines,
)
from backroom.tasks.records import DEFERRED, FAILED, READY, RUNNING, SUCCESSFUL, Record, State, Worker
from backroom.tasks.stores.base import COUNT_CAP
from backroom.tasks.tables import Cell, span, table

STATES: Final[tuple[State, ...]] = (DEFERRED, READY, RUNNING, SUCCESSFUL, FAILED)
CLEAR: Final = "\x1b[H\x1b[2J"

type Counts = dict[tuple[str, State], int]


class Status:
    """Print queues and workers."""

    help = "Show what waits in which queue, and the workers."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what it takes."""
        add_backend(parser, several=True)
        add_json(parser)
        parser.add_argument(
            "--watch", type=seconds, metavar="SECONDS", help="again and again until Ctrl-C; JSON is a line each time"
        )

    def run(self, command: BaseCommand, options: dict[str, Any]) -> int:
        """Print it, once or again and again."""
        aliases = backends_named(options["backend"])
        while True:
            found = [_status(alias) for alias in aliases]
            if options["json"]:
                write_json(command, {"backends": found}, indent=2 if options["watch"] is None else None)
            else:
                _write(command, found, is_watching=options["watch"] is not None)
            if options["watch"] is None:
                return 0
            command.stdout.flush()
            time.sleep(options["watch"])


def _status(alias: str) -> dict[str, Any]:
    now = queries.backend_of(alias).clock.now()
    workers = queries.workers(using=alias)
    alive = [worker for worker in workers if not queries.is_silent(worker, now=now, using=alias)]
    return {
        "backend": alias,
        "at": to_datetime(now),
        "queues": _queues(alias, alive, now),
        "workers": [_worker(worker, now=now, is_alive=worker in alive) for worker in workers],
    }


def _queues(alias: str, alive: Sequence[Worker], now: Moment) -> list[dict[str, Any]]:
    counts = queries.counts(using=alias)
    oldest = {record.queue_name: record for record in queries.oldest_ready(using=alias)}
    names = {queue for queue, _ in counts} | queries.backend_of(alias).queues
    capped = _capped(counts)
    serving = [frozenset(worker.queues) for worker in alive]
    return [
        {
            "queue": queue,
            **{state: counts.get((queue, state), 0) for state in STATES},
            "at_least": [state for state in STATES if state in capped or counts.get((queue, state), 0) >= COUNT_CAP],
            "oldest_ready_seconds": _age(oldest.get(queue), now),
            "workers": sum(1 for queues in serving if not queues or queue in queues),
        }
        for queue in sorted(names)
    ]


def _capped(counts: Counts) -> frozenset[State]:
    """Return the states that may have been counted no further, whatever the queue; READY is counted queue by queue."""
    totals = Counter[State]()
    for (_, state), number in counts.items():
        totals[state] += number
    return frozenset(state for state in STATES if state != READY and totals[state] >= COUNT_CAP)


def _age(record: Record | None, now: Moment) -> float | None:
    return None if record is None else max(0.0, seconds_between(queries.ready_since(record), now))


def _worker(worker: Worker, *, now: Moment, is_alive: bool) -> dict[str, Any]:
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "queues": list(worker.queues),
        "threads": worker.threads,
        "running": worker.running,
        "is_alive": is_alive,
        "started_at": to_datetime(worker.started_at),
        "seen_at": to_datetime(worker.seen_at),
        "seen_seconds": max(0.0, seconds_between(worker.seen_at, now)),
    }


def _write(command: BaseCommand, found: Sequence[dict[str, Any]], *, is_watching: bool) -> None:
    if is_watching and command.stdout.isatty():
        command.stdout.write(CLEAR, ending="")
    for status in found:
        command.stdout.write(command.style.MIGRATE_HEADING(f"TASKS[{status['backend']!r}]"))
        write_lines(command, [*_queue_table(status["queues"]), ""])
        if status["workers"]:
            write_lines(command, [*_worker_table(status["workers"]), ""])
        elif not queries.only_keeps(using=status["backend"]):
            start = queries.backend_of(status["backend"]).served_by
            command.stdout.write(command.style.WARNING(f"No worker is running now. Start one: {start}\n"))


def _queue_table(queues: Sequence[dict[str, Any]]) -> list[str]:
    rows: list[list[Cell]] = []
    for queue in queues:
        age = queue["oldest_ready_seconds"]
        numbers = [f"{queue[state]}{'+' if state in queue['at_least'] else ''}" for state in STATES]
        rows.append([queue["queue"], *numbers, "" if age is None else span(age), queue["workers"]])
    return table(["queue", *STATES, "oldest ready", "workers"], rows)


def _worker_table(workers: Sequence[dict[str, Any]]) -> list[str]:
    rows: list[list[Cell]] = [
        [
            worker["id"],
            "alive" if worker["is_alive"] else "silent",
            f"{span(worker['seen_seconds'])} ago",
            worker["running"],
            worker["threads"],
            worker["host"],
            worker["pid"],
            ", ".join(worker["queues"]) or "all",
        ]
        for worker in workers
    ]
    return table(["worker", "is", "seen", "running", "threads", "host", "pid", "queues"], rows)
