"""Dramatiq over Redis: broker in database 0, results in database 1."""

import json

from benchmarks.tasks.systems.base import Enqueuer, System, python
from benchmarks.tasks.systems.redis_reads import firsts


class Dramatiq(System):
    name = "dramatiq"
    packages = ("dramatiq", "redis", "hiredis")
    is_deep = False
    finished = "redis.call('SELECT', 1) return redis.call('DBSIZE')"

    def worker(self) -> list[str]:
        # Sixteen threads: with its default of eight a process waits more and does no less work.
        return python(
            *("-m", "dramatiq", "benchmarks.tasks.systems.dramatiq_jobs"),
            *("--processes", str(self.worker_processes), "--threads", "16"),
        )

    def enqueuer(self) -> Enqueuer:
        from benchmarks.tasks.systems.dramatiq_jobs import job

        return job.send

    def results(self) -> list[list[float]]:
        return [json.loads(value) for value in firsts(1)]
