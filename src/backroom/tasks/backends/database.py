"""Tasks in the project's own database: SQLite or PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from backroom.sql.dialect import prepare_for_writers
from backroom.tasks.backends.base import Backend, BackendOptions
from backroom.tasks.stores.sql import SQLStore
from backroom.tasks.transports.wakeups import Listener, Wakeup, wakeup_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions(BackendOptions):
    """OPTIONS of a `DatabaseBackend`."""

    database: str = "default"
    """The alias in DATABASES."""
    notify: bool = True
    """Wake workers at once: LISTEN/NOTIFY on PostgreSQL, a local socket for SQLite."""


class DatabaseBackend(Backend):
    """Keeps tasks in a database of the project. An enqueue inside `atomic()` is part of that transaction."""

    options_class = DatabaseOptions
    settings: DatabaseOptions

    @property
    def store(self) -> SQLStore:
        """The store in the database that OPTIONS name."""
        return SQLStore(self.settings.database, self.alias, channel=self.wakeup.channel)

    @property
    def database(self) -> str:
        """The alias in DATABASES that OPTIONS name."""
        return self.settings.database

    def store_for(self, alias: str) -> SQLStore:
        """Return the store of another backend's records, kept in the same database."""
        return SQLStore(self.settings.database, alias)

    def after_commit(self, work: Callable[[], object]) -> None:
        """Do `work` once the caller's transaction on this database is committed; at once when there is none."""
        transaction.on_commit(work, using=self.settings.database, robust=True)

    @property
    def wakeup(self) -> Wakeup:
        """What rings the workers."""
        return wakeup_of(self.settings.database, self.alias, is_on=self.settings.notify)

    def wake(self) -> None:
        """Ring once what the caller wrote is committed."""
        self.wakeup.ring_on_commit()

    def listener(self) -> Listener:
        """Return what hears that a task was enqueued."""
        return self.wakeup.listener()

    def prepare(self) -> None:
        """Switch a SQLite file to WAL."""
        prepare_for_writers(self.settings.database)

    def check(self, **kwargs: Any) -> Any:
        """Return what is wrong with this backend's settings and its database."""
        from backroom.tasks.checks import check_database

        found = super().check(**kwargs)
        return found or check_database(self)
