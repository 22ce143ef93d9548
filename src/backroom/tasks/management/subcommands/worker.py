"""`manage.py backroom worker`: check that a worker can work here, then start it."""

import logging
import os
import time
from argparse import SUPPRESS
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from typing import Any, Final

from django.conf import settings as django_settings
from django.core import checks
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError
from django.db import Error as DatabaseTrouble
from django.db import connections
from django.utils import autoreload
from django.utils.module_loading import autodiscover_modules

from backroom.tasks.backends.base import Backend
from backroom.tasks.checks import TAG
from backroom.tasks.management.subcommands.base import add_backend, backend_named, names, seconds, size, whole
from backroom.tasks.queries import backend_of
from backroom.tasks.readiness import advice_to_migrate
from backroom.tasks.tables import count
from backroom.tasks.worker import WorkerSettings, run

DEFAULTS: Final = WorkerSettings()
LOOK_AGAIN: Final = 0.5
"""Seconds between two looks whether the tables are there by now."""
LEVELS: Final = {0: logging.ERROR, 1: logging.WARNING, 2: logging.INFO, 3: logging.DEBUG}
"""What is logged to the terminal of each `--verbosity`: from 2 on a line for each move of each task."""


class Worker:
    """Start a worker."""

    help = "Run tasks until told to stop (Ctrl-C or TERM: finish what runs; twice: hand it back at once)."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what it takes."""
        add_backend(parser)
        parser.add_argument("--queues", type=names, default=(), metavar="A,B", help="only these queues (all)")
        _add_number(parser, "processes", "worker processes")
        _add_number(parser, "threads", "slots of each process for functions")
        _add_number(parser, "coroutines", "slots of each process for async functions")
        parser.add_argument(
            "--grace",
            type=seconds,
            default=DEFAULTS.grace,
            metavar="SECONDS",
            help=f"time to finish what runs when told to stop ({DEFAULTS.grace:g})",
        )
        parser.add_argument("--max-tasks", type=whole(least=1), metavar="N", help="replace a process after N tasks")
        parser.add_argument(
            "--max-memory-growth",
            type=size,
            metavar="SIZE",
            help="replace a process that has grown by so much: 100M, 1G",
        )
        parser.add_argument("--burst", action="store_true", help="exit when nothing is due any more")
        parser.add_argument("--in-process", action="store_true", help="start no child process: for debuggers and tests")
        parser.add_argument("--reload", action="store_true", help="start anew when the code changes")
        parser.add_argument("--skip-checks", action="store_true", help="start whatever the system checks say")
        # The pid of who started it: it ends when that process is gone.
        parser.add_argument("--with-parent", type=whole(least=1), help=SUPPRESS)

    def run(self, command: BaseCommand, options: dict[str, Any]) -> int:
        """Check, say so in a line, and work."""
        settings = _settings(options)
        _log_to_terminal(options["verbosity"])
        if settings.reload:
            _import_what_may_change()
        else:
            backend = backend_of(settings.backend)
            if not options["skip_checks"]:
                _refuse_wrong_settings(command, backend)
            if not _has_tables(command, backend, with_parent=settings.with_parent):
                return 0
        if options["verbosity"] and settings.with_parent is None:
            command.stdout.write(_greeting(settings))
            command.stdout.flush()
        return run(settings)


def _add_number(parser: CommandParser, name: str, meaning: str) -> None:
    default = getattr(DEFAULTS, name)
    parser.add_argument(f"--{name}", type=whole(least=1), default=default, metavar="N", help=f"{meaning} ({default})")


def _settings(options: dict[str, Any]) -> WorkerSettings:
    alias = backend_named(options["backend"])
    settings = WorkerSettings(
        **{field.name: options[field.name] for field in fields(WorkerSettings) if field.name != "backend"},
        backend=alias,
    )
    if not backend_of(alias).is_served_by_us:
        msg = f"The tasks of TASKS[{alias!r}] run elsewhere. Start: {backend_of(alias).served_by}"
        raise CommandError(msg)
    known = backend_of(alias).queues
    if unknown := [queue for queue in settings.queues if known and queue not in known]:
        msg = (
            f"TASKS[{alias!r}] has no queue {', '.join(map(repr, unknown))}. It has: {', '.join(sorted(known))}. "
            f"Add it to QUEUES there, or leave QUEUES empty to allow any."
        )
        raise CommandError(msg)
    for one, other in (("burst", "reload"), ("in_process", "reload")):
        if getattr(settings, one) and getattr(settings, other):
            msg = f"--{one.replace('_', '-')} and --{other} exclude each other. Leave one of them out."
            raise CommandError(msg)
    if settings.in_process and settings.processes > 1:
        msg = f"--in-process means this process alone, so --processes {settings.processes} cannot be. Leave one out."
        raise CommandError(msg)
    return settings


def _log_to_terminal(verbosity: int) -> None:
    """Show the log where the project has not said where it goes."""
    logger = logging.getLogger("backroom")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(LEVELS[verbosity])
    if verbosity:
        # What the worker itself does is worth a line; what each task does, only when asked for.
        logging.getLogger("backroom.worker").setLevel(min(LEVELS[verbosity], logging.INFO))


def _import_what_may_change() -> None:
    """Import tasks and views here: the reloader watches the modules that this process knows, but runs none of them."""
    for look in (lambda: autodiscover_modules("tasks"), lambda: import_module(django_settings.ROOT_URLCONF)):
        # Django's reloader remembers the file of a module that fails here, so that its correction is seen.
        with suppress(Exception):
            autoreload.check_errors(look)()


def _refuse_wrong_settings(command: BaseCommand, backend: Backend) -> None:
    found = [*checks.run_checks(tags=[TAG]), *backend.check()]
    told = [message for message in found if not message.is_silenced()]
    errors = [message for message in told if message.is_serious()]
    if errors:
        lines = "\n".join(map(str, errors))
        msg = f"A worker cannot work with these settings:\n{lines}\nCorrect them, or start with --skip-checks."
        raise SystemCheckError(msg)
    for message in told:
        command.stderr.write(command.style.WARNING(str(message)))


def _has_tables(command: BaseCommand, backend: Backend, *, with_parent: int | None) -> bool:
    """Refuse to work without tables; beside `runserver` wait for them, as the first `migrate` may be yet to come."""
    said = False
    while (advice := _missing(backend)) is not None:
        if with_parent is None:
            raise CommandError(advice)
        if not said:
            command.stderr.write(f"The worker waits. {advice}")
            said = True
        time.sleep(LOOK_AGAIN)
        if os.getppid() != with_parent:
            return False
    return True


def _missing(backend: Backend) -> str | None:
    try:
        return advice_to_migrate(backend)
    except DatabaseTrouble:
        # It is away. That is no reason not to start: a worker waits for its store.
        return None
    finally:
        connections.close_all()


def _greeting(settings: WorkerSettings) -> str:
    backend = backend_of(settings.backend)
    queues = settings.queues or tuple(sorted(backend.queues))
    what = f"{'queue' if len(queues) == 1 else 'queues'} {', '.join(queues)}" if queues else "all queues"
    slots = f"{count(settings.threads, 'thread')} and {count(settings.coroutines, 'coroutine')}"
    where = "in this process" if settings.in_process else f"in {count(settings.processes, 'process', 'processes')}"
    return f"Working on {what} of TASKS[{settings.backend!r}] {where}, {slots} each. Ctrl-C stops it."
