"""django-vtasks: asynchronous worker, driver in Rust, no results (the tasks' own log is what is verified)."""

from collections.abc import Sequence
from typing import Any

from benchmarks.tasks.systems.base import BulkEnqueuer, redis
from benchmarks.tasks.systems.django import DjangoSystem


class DjangoVtasks(DjangoSystem):
    name = "django-vtasks"
    packages = ("django-vtasks", "django-vcache", "uvloop")
    apps = ("django_vtasks",)
    backend = "django_vtasks.backends.valkey.ValkeyTaskBackend"
    keeps_results = False
    # A task leaves the list of those in progress when it has ended; there is one such list for each worker.
    finished = """
        local left = redis.call('LLEN', '{vt}:q:default')
        for _, key in ipairs(redis.call('KEYS', '{vt}:processing:*')) do
            left = left + redis.call('LLEN', key)
        end
        return total - left
    """

    def tasks(self) -> dict[str, Any]:
        return {"default": {"BACKEND": self.backend, "OPTIONS": {"BROKER_URL": redis()}}}

    def worker(self) -> list[str]:
        return self.manage("runworker")

    def bulk_enqueuer(self) -> BulkEnqueuer:
        self.enqueuer()
        from benchmarks.tasks.systems.django_jobs import job

        backend = job.get_backend()

        def many(numbers: Sequence[int]) -> object:
            return backend.enqueue_many([(job, (number,), {}) for number in numbers])

        return many
