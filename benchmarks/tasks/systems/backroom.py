"""Backroom itself."""

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.tasks.systems.base import BulkEnqueuer, Claimer, redis
from benchmarks.tasks.systems.django import DjangoSystem


class Backroom(DjangoSystem):
    name = "backroom"
    packages = ("backroom",)
    apps = ("backroom.tasks",)
    backend = "backroom.tasks.backends.database.DatabaseBackend"
    options = {"database": "default"}
    finished = "SELECT count(*) FROM backroom_tasks_taskrecord WHERE state = 'successful'"
    returned = "SELECT result FROM backroom_tasks_taskrecord WHERE state = 'successful'"

    def worker(self) -> list[str]:
        return self.manage("backroom", "worker", "--processes", "1")

    def worker_for(self, tasks: int) -> list[str]:
        return [*self.worker(), "--threads", str(tasks)]

    def bulk_enqueuer(self) -> BulkEnqueuer:
        self.enqueuer()
        from backroom.tasks import enqueue_many
        from benchmarks.tasks.systems.django_jobs import job

        def many(numbers: Sequence[int]) -> object:
            return enqueue_many(job, [((number,), {}) for number in numbers])

        return many

    def claimers(self) -> dict[str, Claimer]:
        self.enqueuer()
        from django.tasks import default_task_backend

        from backroom.clock import after
        from backroom.tasks.stores.base import Request

        backend = default_task_backend
        queues = tuple(sorted(backend.queues))

        def claim(limit: int) -> Sequence[object]:
            now = backend.clock.now()
            request = Request(queues, limit, "claimer", now, after(now, backend.settings.lease))
            return backend.store.claim(request)

        return {"1": claim, "100": claim}


class BackroomRedis(Backroom):
    """The same on Redis or Valkey."""

    packages = ("backroom", "redis", "hiredis")
    backend = "backroom.tasks.backends.redis.RedisBackend"
    finished = "return redis.call('ZCARD', 'backroom:{default}:successful')"

    def tasks(self) -> dict[str, Any]:
        return {"default": {"BACKEND": self.backend, "OPTIONS": {"url": redis()}}}

    def results(self) -> list[list[float]]:
        self.enqueuer()
        from django.tasks import default_task_backend

        from backroom.tasks.records import SUCCESSFUL, Query

        found, after = [], None
        while True:
            page = default_task_backend.store.find(Query(states=(SUCCESSFUL,)), after=after, limit=1_000)
            found += [json.loads(record.result) for record in page.records]
            after = page.next_after
            if after is None:
                return found
