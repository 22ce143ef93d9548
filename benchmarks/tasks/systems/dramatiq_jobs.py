"""The measured task as Dramatiq's worker imports it."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.tasks.systems.base import redis
from benchmarks.tasks.work import work

broker = RedisBroker(url=redis(0))
broker.add_middleware(Results(backend=RedisBackend(url=redis(1))))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def job(number: int) -> list[int | float]:
    return work(number)
