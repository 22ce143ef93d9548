"""What the systems behind `django.tasks` share: one settings module, one task, raw reads of their result column."""

import json
from typing import Any
from urllib.parse import urlsplit

from benchmarks.tasks.systems.base import POSTGRESQL, SQLITE, Enqueuer, System, place, python


class DjangoSystem(System):
    """A backend of `django.tasks`. Subclasses name their app, backend and worker command."""

    django_tasks = True
    apps: tuple[str, ...]
    backend: str
    options: dict[str, Any] = {}
    routers: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    """Settings that are the system's own."""
    returned: str
    """SQL that selects the return values, as JSON, of the tasks that succeeded."""

    @property
    def needs_setup(self) -> bool:
        return self.store in {SQLITE, POSTGRESQL}

    def environment(self) -> dict[str, str]:
        return {"DJANGO_SETTINGS_MODULE": "benchmarks.tasks.systems.settings"}

    def tasks(self) -> dict[str, Any]:
        """Return the TASKS setting."""
        return {"default": {"BACKEND": self.backend, "OPTIONS": self.options}}

    def database(self) -> dict[str, Any]:
        """Return the database alias, with a connection that is kept: Django's default reopens it for every task."""
        if self.store == SQLITE:
            return {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": place(),
                "CONN_MAX_AGE": None,
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "timeout": 20,
                    "init_command": f"PRAGMA journal_mode=WAL; PRAGMA {self.durability};",
                },
            }
        if self.store != POSTGRESQL:
            # The tasks are elsewhere, but enqueue() asks the database whether a transaction is open.
            return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "CONN_MAX_AGE": None}
        url = urlsplit(place())
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "HOST": url.hostname,
            "PORT": url.port,
            "CONN_MAX_AGE": None,
        }

    def manage(self, *arguments: str) -> list[str]:
        """Return the command that runs a management command."""
        return python("-m", "django", *arguments)

    def setup(self) -> None:
        from django.core.management import call_command

        _ready()
        call_command("migrate", verbosity=0)

    def enqueuer(self) -> Enqueuer:
        _ready()
        from benchmarks.tasks.systems.django_jobs import job

        return job.enqueue

    def results(self) -> list[list[float]]:
        _ready()
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(self.returned)
            return [json.loads(value) if isinstance(value, str) else value for (value,) in cursor.fetchall()]


def _ready() -> None:
    import django

    django.setup()
