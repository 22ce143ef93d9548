"""Celery over Redis: broker in database 0, results in database 1, JSON, without what only a cluster's monitors need."""

import json

from benchmarks.tasks.systems.base import Enqueuer, System, python
from benchmarks.tasks.systems.redis_reads import values

POOLS = {
    # One child is its best single worker on two cores; the master is another process and is counted with it.
    "prefork": ("--pool", "prefork", "--concurrency", "1", "--prefetch-multiplier", "64"),
    "prefork2": ("--pool", "prefork", "--concurrency", "2", "--prefetch-multiplier", "64"),
    "threads": ("--pool", "threads", "--concurrency", "4", "--prefetch-multiplier", "16"),
    # The same in a Django project, where Celery's own fixup loads Django: what a site has, and what a worker of ours is.
    "django": ("--pool", "prefork", "--concurrency", "1", "--prefetch-multiplier", "64"),
    "django2": ("--pool", "prefork", "--concurrency", "2", "--prefetch-multiplier", "64"),
    "solo": ("--pool", "solo", "--prefetch-multiplier", "64"),
}


class Celery(System):
    name = "celery"
    packages = ("celery", "kombu", "redis", "hiredis")
    is_deep = False
    finished = "redis.call('SELECT', 1) return redis.call('DBSIZE')"

    def environment(self) -> dict[str, str]:
        settings = "benchmarks.tasks.systems.celery_settings"
        return {"DJANGO_SETTINGS_MODULE": settings} if self.variant.startswith("django") else {}

    def worker(self) -> list[str]:
        return python(
            *("-m", "celery", "--app", "benchmarks.tasks.systems.celery_jobs", "worker", "--loglevel", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", *POOLS[self.variant]),
        )

    def worker_for(self, tasks: int) -> list[str] | None:
        if self.variant == "solo" or self.worker_processes > 1:
            return None
        # Of an option that is given twice the last one counts.
        return [*self.worker(), "--concurrency", str(tasks)]

    def enqueuer(self) -> Enqueuer:
        from benchmarks.tasks.systems.celery_jobs import job

        return job.delay

    def results(self) -> list[list[float]]:
        return [json.loads(value)["result"] for value in values(1, "celery-task-meta-*")]
