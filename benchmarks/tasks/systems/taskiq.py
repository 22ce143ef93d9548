"""taskiq over Redis streams, its broker that acknowledges; results in database 1."""

from collections.abc import Awaitable, Callable

from benchmarks.tasks.systems.asynchronous import AsyncSystem
from benchmarks.tasks.systems.base import python
from benchmarks.tasks.systems.redis_reads import values


class Taskiq(AsyncSystem):
    name = "taskiq"
    packages = ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop")
    is_deep = False
    finished = "redis.call('SELECT', 1) return redis.call('DBSIZE')"

    def worker(self) -> list[str]:
        return python(
            *("-m", "taskiq", "worker", "benchmarks.tasks.systems.taskiq_jobs:broker", "--log-level", "WARNING"),
            *("--workers", str(self.worker_processes)),
        )

    async def connected(self) -> Callable[[int], Awaitable[object]]:
        from benchmarks.tasks.systems.taskiq_jobs import broker, job

        await broker.startup()
        return job.kiq

    def results(self) -> list[list[float]]:
        from benchmarks.tasks.systems.taskiq_jobs import results

        return [results.serializer.loadb(value)["return_value"] for value in values(1)]
