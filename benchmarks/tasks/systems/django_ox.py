"""django-ox: leases, fencing and retries in the database."""

from collections.abc import Sequence

from benchmarks.tasks.systems.base import BulkEnqueuer
from benchmarks.tasks.systems.django import DjangoSystem


class DjangoOx(DjangoSystem):
    name = "django-ox"
    packages = ("django-ox",)
    apps = ("django_ox",)
    backend = "django_ox.backend.OxBackend"
    finished = "SELECT count(*) FROM django_ox_oxtask WHERE status = 'SUCCESSFUL'"
    returned = "SELECT return_value FROM django_ox_oxtask WHERE status = 'SUCCESSFUL'"

    def worker(self) -> list[str]:
        return self.manage("ox_worker")

    def bulk_enqueuer(self) -> BulkEnqueuer:
        self.enqueuer()
        from django_ox.bulk import enqueue_many

        from benchmarks.tasks.systems.django_jobs import job

        def many(numbers: Sequence[int]) -> object:
            return enqueue_many(job, [((number,), {}) for number in numbers])

        return many
