"""The measured task as Huey's consumer imports it."""

from benchmarks.tasks.systems.huey import current
from benchmarks.tasks.work import work

queue = current().queue()


@queue.task()
def job(number: int) -> list[int | float]:
    return work(number)
