"""System checks of a backend on Redis: of its OPTIONS, and, for commands that look at databases, of its server."""

from collections.abc import Iterator
from typing import Any, Final

from django.apps import apps
from django.core import checks
from django.db import connections

from backroom.options import problems_of
from backroom.redis import RedisUnavailable
from backroom.redis.errors import NotPermitted
from backroom.redis.facts import Facts, facts_of
from backroom.redis.options import problem_of_address

type Messages = list[checks.CheckMessage]

APP: Final = "backroom.tasks"
MEGABYTE: Final = 1_000_000


def check_redis(backend: Any) -> Messages:
    """Return what is wrong with the settings of a `RedisBackend`; nothing is connected to."""
    place = _place(backend)
    if problem := problem_of_address(backend.settings, place):
        hint = f"See {place} and docs/how-to/redis.md."
        return [checks.Error(problem, hint=hint, id="backroom.E030")]
    found: Messages = []
    database = backend.settings.database
    if database not in connections.settings:
        hint = f"Let {place}['database'] name the database whose transactions enqueue tasks."
        found.append(checks.Error(f"DATABASES has no alias {database!r}.", hint=hint, id="backroom.E031"))
    if backend.settings.outbox and not apps.is_installed(APP):
        hint = f"Add {APP!r} to INSTALLED_APPS and run manage.py migrate --database={database}."
        found.append(
            checks.Error(
                f"The outbox of TASKS[{backend.alias!r}] needs a table of {APP!r}.", hint=hint, id="backroom.E032"
            )
        )
    return found


def check_server(backend: Any) -> Messages:
    """Return what is wrong with the server of a `RedisBackend`, nothing when it is away."""
    if problems_of(backend.options_class, backend.options) or problem_of_address(backend.settings, _place(backend)):
        return []
    try:
        return list(_of_server(backend, facts_of(backend.server)))
    except RedisUnavailable:
        return []


def examine(backend: Any) -> tuple[str, Messages]:
    """Return what the server is, and what is wrong with it."""
    try:
        facts = facts_of(backend.server)
    except NotPermitted:
        # A user with no right but those that tasks need lacks this one. Said to who asks, and not by every `migrate`.
        return "answers", [
            checks.Warning(
                f"{backend.server.name} does not permit INFO to this user: its version, its memory and what it keeps on disk "
                "are unknown.",
                hint="Let its ACL permit it, ACL SETUSER … +info, or see to maxmemory-policy and appendonly yourself.",
                id="backroom.W032",
            )
        ]
    limit = f" of {facts.max_memory / MEGABYTE:,.0f}" if facts.max_memory else ""
    writes = "an append-only file" if facts.has_append_only_file else "snapshots" if facts.is_persistent else "nothing"
    said = f"{facts.product}, {facts.used_memory / MEGABYTE:,.0f}{limit} MB used, writes {writes} to disk"
    return said, list(_of_server(backend, facts))


def _place(backend: Any) -> str:
    return f"TASKS[{backend.alias!r}]['OPTIONS']"


def _of_server(backend: Any, facts: Facts) -> Iterator[checks.CheckMessage]:
    where = f"{backend.server.name}, which keeps the tasks of TASKS[{backend.alias!r}],"
    if facts.is_too_old:
        yield checks.Error(
            f"{where} is {facts.product}.", hint="Use Redis 7 or newer, or Valkey 8 or newer.", id="backroom.E033"
        )
    if facts.evicts:
        yield checks.Warning(
            f"{where} deletes keys of its own choice when its memory is full (maxmemory-policy {facts.policy}): tasks "
            "would vanish.",
            hint="Set maxmemory-policy noeviction, or give the tasks a server of their own.",
            id="backroom.W030",
        )
    if not facts.is_persistent:
        yield checks.Warning(
            f"{where} keeps nothing on disk: when it restarts, every task is gone.",
            hint="Set appendonly yes. docs/how-to/redis.md says what each setting promises.",
            id="backroom.W031",
        )
