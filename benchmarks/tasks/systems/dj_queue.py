"""dj-queue: Solid Queue's design on Django's models."""

from collections.abc import Sequence

from benchmarks.tasks.systems.base import BulkEnqueuer, Claimer
from benchmarks.tasks.systems.django import DjangoSystem


class DjQueue(DjangoSystem):
    name = "dj-queue"
    packages = ("dj-queue",)
    apps = ("dj_queue",)
    backend = "dj_queue.backend.DjQueueBackend"
    routers = ("dj_queue.routers.DjQueueRouter",)
    finished = "SELECT count(*) FROM dj_queue_jobs WHERE finished_at IS NOT NULL"
    returned = "SELECT return_value FROM dj_queue_jobs WHERE finished_at IS NOT NULL"

    def worker(self) -> list[str]:
        return self.manage("dj_queue")

    def bulk_enqueuer(self) -> BulkEnqueuer:
        self.enqueuer()
        from benchmarks.tasks.systems.django_jobs import job

        backend = job.get_backend()

        def many(numbers: Sequence[int]) -> object:
            return backend.enqueue_all([(job, [number], {}) for number in numbers])

        return many

    def claimers(self) -> dict[str, Claimer]:
        import django

        django.setup()
        from dj_queue.api import claim_ready_jobs

        def claim(limit: int) -> Sequence[object]:
            return claim_ready_jobs(limit=limit)

        return {"1": claim, "100": claim}
