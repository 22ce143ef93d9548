"""The measured task, for every backend of `django.tasks`."""

from django.tasks import task

from benchmarks.tasks.work import work


@task()
def job(number: int) -> list[int | float]:
    return work(number)
