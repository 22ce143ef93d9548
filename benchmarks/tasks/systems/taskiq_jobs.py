"""The measured task as taskiq's worker imports it."""

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.tasks.systems.base import redis
from benchmarks.tasks.work import work

results: RedisAsyncResultBackend[list[int | float]] = RedisAsyncResultBackend(redis(1))
broker = RedisStreamBroker(redis(0)).with_result_backend(results)


@broker.task
async def job(number: int) -> list[int | float]:
    return work(number)
