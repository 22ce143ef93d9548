"""In development, `runserver` starts a worker beside itself, so that a fresh project needs one command.

The worker is a process of its own that restarts when the code changes and ends when `runserver` does, however that is.
"""

import atexit
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.utils.autoreload import get_child_arguments
from django.utils.module_loading import import_string

from backroom.options import Setting
from backroom.tasks.backends.base import Backend

RUNSERVER_WORKER: Final = Setting("RUNSERVER_WORKER", bool, default=True)
"""Whether `runserver` starts a worker beside itself while DEBUG is on."""

INNER: Final = ("RUN_MAIN", "WERKZEUG_RUN_MAIN")
"""Django's reloader, and runserver_plus's, set one of these in the process that they start anew after each change."""
GRACE: Final = "2"
"""Seconds that tasks have to finish when `runserver` ends; what has not goes back."""
PATIENCE: Final = 5.0
"""Seconds to wait for the worker's end, so that it does not print behind the shell's prompt."""


def start_beside_runserver() -> None:
    """Start a worker for each backend of ours if this is `runserver` in development."""
    if should_start(sys.argv, os.environ, settings):
        for alias in aliases_to_work_on(settings):
            _start(alias)


def should_start(argv: Sequence[str], environ: Mapping[str, str], settings: Any) -> bool:
    """Tell whether the process with these arguments is the one that starts the worker.

    `runserver` is two processes, of which only the outer one lives on when the code changes; with `--noreload` it is
    one. Whoever else sets Django up, a test run, a migration, a shell or a server in production, starts nothing.
    """
    return (
        len(argv) > 1
        and _is_runserver(argv[1])
        and not {"-h", "--help", "--version"} & set(argv)
        and not any(environ.get(name) == "true" for name in INNER)
        and bool(settings.DEBUG)
        and _is_wanted(settings)
        and bool(aliases_to_work_on(settings))
    )


def aliases_to_work_on(settings: Any) -> list[str]:
    """Return the TASKS aliases that need a worker, without making a backend."""
    return [alias for alias, described in settings.TASKS.items() if _needs_worker(described.get("BACKEND"))]


def _is_runserver(subcommand: str) -> bool:
    # Flavours of it: runserver_plus of django-extensions, runsslserver of django-sslserver.
    return subcommand == "runsslserver" or subcommand.split("_", maxsplit=1)[0] == "runserver"


def _is_wanted(settings: Any) -> bool:
    found = getattr(settings, "BACKROOM", {})
    # What is no dict is a finding of the system checks, which runserver is about to run.
    return not isinstance(found, Mapping) or bool(found.get(RUNSERVER_WORKER.name, RUNSERVER_WORKER.default))


def _needs_worker(path: Any) -> bool:
    try:
        found = import_string(path)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, Django says it better when it is used
        return False
    return isinstance(found, type) and issubclass(found, Backend) and found.is_shared and found.is_served_by_us


def _start(alias: str) -> None:
    options = ["--reload", "--backend", alias, "--grace", GRACE, "--with-parent", str(os.getpid())]
    worker = subprocess.Popen([*_program(), "backroom", "worker", *options], stdin=subprocess.DEVNULL)  # noqa: S603 - manage.py itself
    atexit.register(_end, worker)
    sys.stderr.write(
        f"Backroom: a worker for TASKS[{alias!r}] runs beside runserver (pid {worker.pid}). "
        f"To do without: BACKROOM = {{{RUNSERVER_WORKER.name!r}: False}}\n"
    )


def _program() -> list[str]:
    """Return the command line of this process without its arguments, as Django's reloader works it out."""
    try:
        arguments = [str(argument) for argument in get_child_arguments()]
    except RuntimeError:
        # It found no script; neither will `runserver`, unless it was told not to reload.
        return [sys.executable, "-m", "django"]
    return arguments[: len(arguments) - len(sys.argv[1:])]


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(PATIENCE)
