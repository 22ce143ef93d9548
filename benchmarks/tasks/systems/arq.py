"""arq, with the polling that its latency needs; its own older redis-py comes from a folder of its own."""

import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, distributions
from pathlib import Path

from benchmarks.tasks.systems.asynchronous import AsyncSystem
from benchmarks.tasks.systems.base import python
from benchmarks.tasks.systems.redis_reads import values

LIBRARY = Path(sys.prefix) / "arq"
"""Where `make bench` puts what requirements-arq.txt lists: arq refuses the redis-py that all the others use."""


class Arq(AsyncSystem):
    name = "arq"
    packages = ("arq", "redis")
    library = LIBRARY
    is_deep = False
    # A result is written where a job leaves its queue, in one transaction.
    finished = "return total - redis.call('ZCARD', 'arq:queue')"

    @property
    def versions(self) -> dict[str, str]:
        found = {one.name: one.version for one in distributions(path=[str(LIBRARY)])}
        if missing := set(self.packages) - set(found):
            raise PackageNotFoundError(", ".join(sorted(missing)))
        return {"arq": found["arq"], "redis (arq's)": found["redis"]}

    def worker(self) -> list[str]:
        return python(
            *("-m", "arq", "benchmarks.tasks.systems.arq_jobs.Worker"),
            *("--custom-log-dict", "benchmarks.tasks.systems.arq_jobs.LOGGING"),
        )

    async def connected(self) -> Callable[[int], Awaitable[object]]:
        import arq

        from benchmarks.tasks.systems.arq_jobs import Worker

        pool = await arq.create_pool(Worker.redis_settings)
        return lambda number: pool.enqueue_job("job", number)

    def results(self) -> list[list[float]]:
        from arq.jobs import deserialize_result

        return [deserialize_result(value).result for value in values(0, "arq:result:*")]
