"""System checks: a setting that cannot work is told with its cure, before anything runs. docs/reference/settings.md."""

import dataclasses
import pprint
from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.apps import apps
from django.core import checks
from django.db import connections, router
from django.tasks import task_backends
from django.utils.connection import ConnectionDoesNotExist
from django.utils.module_loading import import_string

from backroom.options import problems_of, problems_of_settings
from backroom.sql.dialect import (
    ADVISED_FOR_FILES,
    SUPPORTED,
    is_too_old,
    not_ready_for_writers,
    product,
    vendor_of,
)
from backroom.tasks.backends.base import Backend
from backroom.tasks.backends.database import DatabaseBackend

TAG: Final = "backroom"
APP: Final = "backroom.tasks"
SHORT_LEASE: Final = 5.0
"""Seconds. A lease is renewed each third of it, and a renewal may have to wait for a busy disk."""

type Messages = list[checks.CheckMessage]


@checks.register(TAG)
def check_settings(**_kwargs: Any) -> Messages:
    """Return what is wrong with the dict BACKROOM."""
    hint = "See docs/reference/settings.md. A key of an app that is not in INSTALLED_APPS is unknown too."
    return [checks.Error(problem, hint=hint, id="backroom.E008") for problem in problems_of_settings()]


@checks.register(checks.Tags.database)
def check_versions(*, databases: Sequence[str] | None = None, **_kwargs: Any) -> Messages:
    """Return which databases of ours are too old; connects to them, so only run when a command names them."""
    used = {alias for backend in _backends() if (alias := _database_of(backend)) is not None}
    return [message for alias in sorted(used & set(databases or ())) for message in check_version(alias)]


@checks.register(checks.Tags.database)
def check_servers(*, databases: Sequence[str] | None = None, **_kwargs: Any) -> Messages:
    """Return what is wrong with the servers, other than databases, that keep tasks. Connects to them."""
    asked = [backend for backend in _backends() if isinstance(backend, Backend)] if databases else []
    return [message for backend in asked for message in backend.check_server()]


def check_version(alias: str) -> Messages:
    """Return whether a database is too old. Connects to it."""
    if vendor_of(alias) not in SUPPORTED or not is_too_old(alias):
        return []
    return [
        checks.Error(
            f"Database {alias!r} is {product(alias)}, which is too old for Backroom.",
            hint=f"Use {SUPPORTED[vendor_of(alias)]}.",
            id="backroom.E004",
        )
    ]


def check_options(backend: Any) -> Messages:
    """Return what is wrong with the OPTIONS of a backend of ours, wherever it keeps its tasks."""
    hint = f"See TASKS[{backend.alias!r}]['OPTIONS'] and docs/reference/settings.md."
    if problems := [*_misplaced(backend), *problems_of(backend.options_class, backend.options)]:
        return [checks.Error(problem, hint=hint, id="backroom.E001") for problem in problems]
    found: Messages = [
        checks.Error(problem, hint=hint, id="backroom.E007") for problem in _middleware(backend.settings.middleware)
    ]
    if backend.is_shared and backend.settings.lease < SHORT_LEASE:
        found.append(
            checks.Warning(
                f"The lease of TASKS[{backend.alias!r}] is {backend.settings.lease:g} s. A worker that a busy disk or a "
                "long garbage collection holds up for so long loses its tasks, and they run twice.",
                hint=f"Use {SHORT_LEASE:g} s or more; 30 s is the default.",
                id="backroom.W002",
            )
        )
    return found


def _misplaced(backend: Any) -> Iterator[str]:
    """Find options beside OPTIONS, where Django reads none."""
    known = {field.name for field in dataclasses.fields(backend.options_class)}
    for key in task_backends.settings.get(backend.alias, {}):
        if str(key).lower() in known:
            yield f"{key!r} has no effect beside OPTIONS. Put it into OPTIONS, as {str(key).lower()!r}."


def check_database(backend: Any) -> Messages:
    """Return what is wrong with the database of a `DatabaseBackend`, without connecting to it."""
    alias = backend.settings.database
    try:
        vendor = vendor_of(alias)
    except ConnectionDoesNotExist:
        hint = f"See TASKS[{backend.alias!r}]['OPTIONS']['database'] and DATABASES."
        return [checks.Error(f"DATABASES has no alias {alias!r}.", hint=hint, id="backroom.E002")]
    if vendor not in SUPPORTED:
        supported = " and ".join(SUPPORTED.values())
        return [
            checks.Error(
                f"Backroom does not support {connections[alias].display_name} (database {alias!r}).",
                hint=f"Use {supported} for tasks; another alias of DATABASES will do.",
                id="backroom.E003",
            )
        ]
    return [*_tables(backend, alias), *_file(alias)]


def _tables(backend: Any, alias: str) -> Iterator[checks.CheckMessage]:
    if not apps.is_installed(APP):
        yield checks.Error(
            f"TASKS[{backend.alias!r}] keeps tasks in tables of {APP!r}, which is not installed.",
            hint=f"Add {APP!r} to INSTALLED_APPS and run manage.py migrate.",
            id="backroom.E005",
        )
        return
    models = apps.get_app_config("backroom_tasks").get_models()
    if refused := [model.__name__ for model in models if not router.allow_migrate_model(alias, model)]:
        yield checks.Error(
            f"DATABASE_ROUTERS keep {', '.join(refused)} out of database {alias!r}, where TASKS[{backend.alias!r}] "
            "keeps its tasks.",
            hint=f"Let allow_migrate() return True for the app label 'backroom_tasks' on {alias!r}.",
            id="backroom.E006",
        )


def _file(alias: str) -> Iterator[checks.CheckMessage]:
    if lacks := not_ready_for_writers(alias):
        yield checks.Warning(
            f"SQLite database {alias!r} is not set up for several processes: {' and '.join(lacks)}. "
            "Under load the site will meet 'database is locked'.",
            hint=f"Set DATABASES[{alias!r}]['OPTIONS'] = {pprint.pformat(ADVISED_FOR_FILES, sort_dicts=False)}",
            id="backroom.W001",
        )


def _middleware(paths: Sequence[Any]) -> Iterator[str]:
    for path in paths:
        try:
            found = import_string(path)
        except Exception as error:  # noqa: BLE001 - the module is the project's, and may raise anything
            yield f"Middleware {path!r} cannot be imported: {error}"
            continue
        if not callable(found):
            yield f"Middleware {path!r} is {found!r}, not a function from an Execution to a context manager."


def _backends() -> Iterator[Any]:
    for alias in task_backends.settings:
        yield task_backends[alias]


def _database_of(backend: Any) -> str | None:
    """Return the alias in DATABASES where a backend keeps tasks, if its settings are sound enough to say."""
    if not isinstance(backend, DatabaseBackend) or problems_of(backend.options_class, backend.options):
        return None
    alias = backend.settings.database
    return alias if alias in connections.settings else None
