"""The measured task as Celery's worker imports it."""

from celery import Celery

from benchmarks.tasks.systems.base import redis
from benchmarks.tasks.work import work

app = Celery("bench", broker=redis(0), backend=redis(1))


@app.task
def job(number: int) -> list[int | float]:
    return work(number)
