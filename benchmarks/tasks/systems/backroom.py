"""Backroom itself."""

from collections.abc import Sequence

from benchmarks.tasks.systems.base import BulkEnqueuer
from benchmarks.tasks.systems.django import DjangoSystem


class Backroom(DjangoSystem):
    name = "backroom"
    packages = ("backroom",)
    apps = ("backroom.tasks",)
    backend = "backroom.tasks.backends.database.DatabaseBackend"
    options = {"database": "default"}
    finished = "SELECT count(*) FROM backroom_tasks_taskrecord WHERE state = 'succeeded'"
    returned = "SELECT result FROM backroom_tasks_taskrecord WHERE state = 'succeeded'"

    def worker(self) -> list[str]:
        return self.manage("backroom", "worker", "--processes", "1")

    def bulk_enqueuer(self) -> BulkEnqueuer:
        self.enqueuer()
        from backroom.tasks import enqueue_many
        from benchmarks.tasks.systems.django_jobs import job

        def many(numbers: Sequence[int]) -> object:
            return enqueue_many(job, [((number,), {}) for number in numbers])

        return many
