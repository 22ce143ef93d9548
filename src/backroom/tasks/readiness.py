"""Whether a database has the tables of Backroom's tasks, and what its errors mean for an operator."""

import importlib
import pkgutil

from django.db import Error as DatabaseTrouble
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from backroom.errors import sentence
from backroom.tasks import queries
from backroom.tasks.backends.base import Backend
from backroom.tasks.tables import count


def advice_to_migrate(backend: Backend) -> str | None:
    """Return what to do about tables that are missing or old, or None. Raise the database's error when it is away."""
    database = backend.database
    if database is None or not (missing := _unapplied(database)):
        return None
    return (
        f"Database {database!r} lacks {count(len(missing), 'migration')} of backroom_tasks ({', '.join(missing)}). "
        f"Run manage.py migrate --database={database}"
    )


def reason_of(error: Exception, alias: str | None) -> str:
    """Return what an error of the database means for an operator, and what to do about it."""
    for backend in map(queries.backend_of, queries.shared_aliases() if alias is None else [alias]):
        try:
            advice = advice_to_migrate(backend)
        except DatabaseTrouble as trouble:
            return f"Database {backend.database!r} does not answer: {sentence(trouble)} {cure_of(backend.database)}"
        if advice is not None:
            return advice
    return f"The database refused: {sentence(error)}"


def cure_of(database: str | None) -> str:
    """Return what to do about a database that does not answer."""
    return f"Start it, or correct DATABASES[{database!r}]."


def _unapplied(database: str) -> list[str]:
    module, _ = MigrationLoader.migrations_module("backroom_tasks")
    if module is None:
        # MIGRATION_MODULES turns migrations off: the tables are made another way.
        return []
    on_disk = {item.name for item in pkgutil.iter_modules(importlib.import_module(module).__path__)}
    applied = {
        name for app, name in MigrationRecorder(connections[database]).applied_migrations() if app == "backroom_tasks"
    }
    return sorted(name for name in on_disk - applied if not name.startswith("_"))
