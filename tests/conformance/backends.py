"""Our backends in the places of those that Django's tests name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from celery import Celery

from backroom.tasks.backends.base import Backend
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.backends.database import DatabaseBackend, DatabaseOptions
from backroom.tasks.backends.dummy import DummyBackend
from backroom.tasks.backends.immediate import ImmediateBackend
from backroom.tasks.backends.redis import RedisBackend, RedisBackendOptions
from backroom.tasks.inline import run_due
from backroom.tasks.records import Query
from backroom.tasks.transports.celery import CeleryTransport
from tests import settings


class Kept(DatabaseBackend):
    """Where Django's tests name the dummy backend: tasks stay in the database, which can be asked for them."""

    @property
    def results(self) -> list[Any]:
        page = self.store.find(Query())
        return [self.get_result(record.id) for record in reversed(page.records)]

    def clear(self) -> None:
        from backroom.tasks.models import TaskRecord

        TaskRecord.objects.using(self.settings.database).all().delete()


def drained(enqueue: Any) -> Any:
    """Return an `enqueue` that runs the task before it returns."""

    def enqueue_and_run(self: Any, task: Any, args: Any, kwargs: Any) -> Any:
        result = enqueue(self, task, args, kwargs)
        run_due(self, ids=[result.id])
        result.refresh()
        return result

    return enqueue_and_run


class Drained(DatabaseBackend):
    """Where they name the immediate backend: what is enqueued in the database is run there before it returns."""

    enqueue = drained(DatabaseBackend.enqueue)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPostgreSQL(DatabaseOptions):
    """Django's tests ask for backends without OPTIONS."""

    database: str = "postgres"


class KeptOnPostgreSQL(Kept):
    options_class = OnPostgreSQL


class DrainedOnPostgreSQL(Drained):
    options_class = OnPostgreSQL


class OnCelery:
    """Django's tests ask for backends without OPTIONS, and know of no second alias that keeps the records."""

    @property
    def keeper(self) -> Any:
        return DatabaseBackend("records", {})

    @cached_property
    def transport(self) -> CeleryTransport:
        return CeleryTransport(Celery("conformance", broker="memory://", set_as_current=False), "default", {})

    def check(self, **kwargs: Any) -> Any:
        # Less what would be said of the OPTIONS that it has not.
        backend: Any = self
        return Backend.check(backend, **kwargs)


class KeptOnCelery(OnCelery, CeleryBackend):
    results = Kept.results

    def clear(self) -> None:
        from backroom.tasks.models import TaskRecord

        TaskRecord.objects.all().delete()


class DrainedOnCelery(OnCelery, CeleryBackend):
    enqueue = drained(CeleryBackend.enqueue)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRedis(RedisBackendOptions):
    """A database of the shared server that no other test uses."""

    url: str = f"unix://{settings.FOLDER}/redis/redis.sock?db=9"


class KeptOnRedis(RedisBackend):
    options_class = OnRedis
    results = Kept.results

    def clear(self) -> None:
        self.server.call("FLUSHDB")


class DrainedOnRedis(RedisBackend):
    options_class = OnRedis
    enqueue = drained(RedisBackend.enqueue)


PLACES: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "default": (Kept, Drained),
    "postgres": (KeptOnPostgreSQL, DrainedOnPostgreSQL),
    "celery": (KeptOnCelery, DrainedOnCelery),
    "redis": (KeptOnRedis, DrainedOnRedis),
    "doubles": (DummyBackend, ImmediateBackend),
}
"""For each target, what stands in for Django's dummy and for its immediate backend."""
