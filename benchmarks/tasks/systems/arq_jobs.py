"""The measured task as arq's worker imports it."""

from typing import Any, ClassVar

from arq.connections import RedisSettings

from benchmarks.tasks.systems.base import redis
from benchmarks.tasks.work import work

LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}


async def job(_context: dict[str, Any], number: int) -> list[int | float]:
    return work(number)


class Worker:
    functions: ClassVar = [job]
    redis_settings = RedisSettings.from_dsn(redis())
    # With its defaults, ten jobs every half second, it runs 200 a second and starts one after a quarter of a second.
    poll_delay = 0.01
    max_jobs = 100
