"""Celery tasks of a project that has them already."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, MaxRetriesExceededError, SoftTimeLimitExceeded

app = Celery("existing", broker="memory://", set_as_current=False)


@shared_task
def plain(a: int, b: int = 2) -> int:
    return a + b


@shared_task(
    autoretry_for=(ValueError, OSError), dont_autoretry_for=(FileNotFoundError,), retry_backoff=3, max_retries=4
)
def retried(path: str) -> str:
    with Path(path).open("a") as file:
        file.write("turn\n")
    if len(Path(path).read_text().splitlines()) < 3:
        msg = "not yet"
        raise ValueError(msg)
    return "third"


@shared_task(autoretry_for=(ValueError,), retry_backoff=2, retry_backoff_max=5, retry_jitter=False)
def evenly() -> None:
    raise ValueError


@shared_task(autoretry_for=(ValueError,), retry_kwargs={"max_retries": 7}, default_retry_delay=9)
def with_retry_kwargs() -> None:
    raise ValueError


@shared_task(bind=True, max_retries=2, default_retry_delay=0)
def bound(self: Any) -> list[Any]:
    try:
        if self.request.retries < 2:
            raise ValueError
    except ValueError as error:
        raise self.retry(exc=error, countdown=0) from error
    return [self.name, self.request.id, self.request.retries]


@shared_task(bind=True, max_retries=3)
def asks(self: Any, _word: str = "", **how: Any) -> Any:
    """Ask for another attempt in some way."""
    if "eta" in how:
        how["eta"] = datetime.now(UTC) + timedelta(seconds=how["eta"])
    raise self.retry(**how)


@shared_task(bind=True, max_retries=3, default_retry_delay=5, autoretry_for=(ValueError,))
def asks_for_fewer(self: Any) -> None:
    raise self.retry(exc=ValueError("again"), max_retries=1)


@shared_task(soft_time_limit=0.05)
def knows_celerys_error() -> str:
    try:
        while True:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "cleaned up"


@shared_task(bind=True, max_retries=3)
def fails_without_retry(self: Any) -> None:
    raise ValueError(self.name)


@shared_task(bind=True, max_retries=1, default_retry_delay=0)
def gives_up(self: Any) -> str:
    try:
        raise self.retry()
    except MaxRetriesExceededError:
        return "gave up"


@shared_task(bind=True, max_retries=1, default_retry_delay=0, autoretry_for=(ValueError,))
def retries_another(self: Any) -> int:
    if self.request.retries:
        return int(self.request.retries)
    raise self.retry(exc=KeyError("not among those"))


@shared_task
def ignored() -> None:
    raise Ignore


@shared_task(soft_time_limit=30, time_limit=40, ignore_result=True, expires=60)
def limited() -> None:
    """Do nothing, in time."""


class Loud(Task):  # type: ignore[misc] # Celery publishes no types
    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return f"{super().__call__(*args, **kwargs)}!"


@shared_task(base=Loud)
def loud(word: str) -> str:
    return word


@app.task(name="a.name.of.its.own")
def named(word: str) -> str:
    return word


class Hooked(Task):  # type: ignore[misc] # as above
    def on_failure(self, *_args: Any, **_kwargs: Any) -> None:
        """Do nothing."""


@shared_task(base=Hooked)
def hooked() -> None:
    """Do nothing."""


class Written(Task):  # type: ignore[misc] # as above
    name = "tests.celery.existing.Written"

    def run(self) -> None:
        """Do nothing."""


written = app.register_task(Written())
