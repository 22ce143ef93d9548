"""Celery's tasks as tasks of `django.tasks`: a project enqueues them there before it has moved them over."""

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from celery.app.task import Task as CeleryTask
from celery.app.trace import task_has_custom
from celery.exceptions import Ignore, MaxRetriesExceededError, Retry, SoftTimeLimitExceeded
from celery.utils.time import maybe_make_aware
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from django.tasks.exceptions import InvalidTask
from django.utils.module_loading import import_string

from backroom.tasks.definition import Task
from backroom.tasks.exceptions import TaskTimeout
from backroom.tasks.execution import Execution, current
from backroom.tasks.resolve import adopters

FOR_EVER: Final = 1_000_000
"""Attempts, where Celery would try again for ever."""
HOOKS: Final = ("before_start", "on_success", "on_retry", "on_failure", "after_return")
"""Methods of a task that Celery's workers call."""
HEEDED: Final = {"countdown", "eta", "retries", "ignore_result"}
"""What `retry()` may say of the next attempt."""


class SoftTimeLimit(TaskTimeout, SoftTimeLimitExceeded):  # type: ignore[misc] # Celery publishes no types
    """Raised inside a Celery task when its timeout has passed: it may know Celery's error alone."""


def from_celery(celery_task: Any, **options: Any) -> Any:
    """Return a Django task that runs the function of a Celery task, with what Celery was told of retries and limits.

    `options` are those of `@task`, and win. `bind=True` tasks get themselves as `self`: there `self.request.id` and
    `self.request.retries` are ours, and after `self.retry()` our worker tries again when it says.

    Raise `InvalidTask` for what cannot be found again by its path, a class, a function within a function, and for what
    nothing but Celery heeds: hooks such as `on_failure`, a rate limit, a priority.
    """
    celery_task = _evaluated(celery_task)
    if unheeded := [*_unheeded(celery_task, options)]:
        msg = f"The Celery task {celery_task.name} has {'; it has '.join(unheeded)}."
        raise InvalidTask(msg)
    function = _function_of(celery_task)
    backend = options.pop("backend", DEFAULT_TASK_BACKEND_ALIAS)
    kind: Any = task_backends[backend].task_class
    found = options if not issubclass(kind, Task) else options_of(celery_task) | options
    plain = {"priority": 0, "queue_name": "default", "run_after": None, "takes_context": False}
    return kind(func=function, backend=backend, **(plain | found))


def options_of(celery_task: Any) -> dict[str, Any]:
    """Return the options of `@task` that mean what a Celery task says of itself."""
    options: dict[str, Any] = {}
    retried = tuple(getattr(celery_task, "autoretry_for", ()))
    if retried or _is_bound(celery_task):
        limit = getattr(celery_task, "retry_kwargs", {}).get("max_retries", celery_task.max_retries)
        options["max_attempts"] = FOR_EVER if limit is None else limit + 1
        options["backoff"] = seconds_asked_for
        # Nothing else is tried again: an error that no retry() was called for fails at once.
        options["retry_on"] = (*retried, Retry)
    if retried:
        options["fail_on"] = tuple(getattr(celery_task, "dont_autoretry_for", ()))
    if limit := celery_task.soft_time_limit or celery_task.time_limit:
        options["timeout"] = float(limit)
    if isinstance(celery_task.expires, int | float):
        options["expires"] = float(celery_task.expires)
    if queue := getattr(celery_task, "queue", None):
        options["queue_name"] = str(queue)
    if celery_task.ignore_result:
        options["keep_result"] = False
    return options


def seconds_asked_for(error: BaseException, _task_result: Any) -> float | None:
    """Return how long Celery wants to wait after an error; None where it would not try again."""
    retry = error if isinstance(error, Retry) else vars(error).get(_ASKED)
    if retry is None:
        return None
    if isinstance(retry.when, datetime):
        moment: datetime = maybe_make_aware(retry.when)
        return (moment - datetime.now(UTC)).total_seconds()
    return float(retry.when or 0)


_ASKED: Final = "_backroom_retry"


def adopted(found: Any) -> Any:
    """Return the Django task of a Celery task that a record names; None for anything else."""
    return _adopted(_evaluated(found)) if isinstance(found, CeleryTask) else None


@functools.lru_cache(maxsize=1024)
def _adopted(celery_task: Any) -> Any:
    return from_celery(celery_task)


adopters.append(adopted)


def _unheeded(celery_task: Any, options: dict[str, Any]) -> Iterator[str]:
    """Say what a task has that would mean nothing here, and what to do about it."""
    if hooks := [name for name in HOOKS if task_has_custom(celery_task, name)]:
        yield (
            f"{', '.join(hooks)} of its own, which nothing but Celery calls: let the function do it, "
            "or a receiver of Django's signal task_finished"
        )
    if celery_task.rate_limit:
        yield "a rate_limit, which nothing but Celery keeps: take it away, or leave the task with Celery"
    if celery_task.priority not in (None, celery_task.app.conf.task_default_priority) and "priority" not in options:
        yield "a priority, which says something else on each broker: say from_celery(…, priority=…), from -100 to 100"
    if isinstance(celery_task.expires, datetime) and "expires" not in options:
        yield "a moment as its expires: say from_celery(…, expires=…) in seconds after the enqueue"
    where = [name for name in ("exchange", "routing_key") if getattr(celery_task, name, None)]
    if where and "queue_name" not in options:
        yield f"{', '.join(where)} to be sent by: say from_celery(…, queue_name=…)"


def _evaluated(celery_task: Any) -> Any:
    """Return the task behind a proxy, of which Celery makes one for each."""
    if not isinstance(celery_task, CeleryTask):
        msg = f"{celery_task!r} is no Celery task. Give from_celery() what @app.task or @shared_task made."
        raise InvalidTask(msg)
    get: Callable[[], Any] | None = getattr(celery_task, "_get_current_object", None)
    return get() if get else celery_task


@functools.lru_cache(maxsize=1024)
def _function_of(celery_task: Any) -> Callable[..., Any]:
    written = _written(celery_task)
    path = f"{written.__module__}.{written.__qualname__}"
    try:
        is_found = _evaluated(import_string(path)) is celery_task
    except (ImportError, InvalidTask):
        is_found = False
    if not is_found:
        msg = (
            f"The Celery task {celery_task.name} is not found again as {path}. from_celery() takes functions of a "
            "module; turn a class into a function with @task."
        )
        raise InvalidTask(msg)

    @functools.wraps(written)
    def function(*args: Any, **kwargs: Any) -> Any:
        return _call(celery_task, args, kwargs)

    return function


def _written(celery_task: Any) -> Any:
    """Return the function as it was written: `autoretry_for` puts another one in its place."""
    run = getattr(celery_task, "_orig_run", None) or celery_task.run
    return getattr(run, "__func__", run)


def _call(celery_task: Any, args: Any, kwargs: Any) -> Any:
    execution = current.get()
    if execution:
        execution.timeout_error = SoftTimeLimit
    claim = execution.claim if execution else None
    # Eager, as Celery says: then its retry() sends nothing, and raises.
    celery_task.push_request(
        args=args,
        kwargs=kwargs,
        id=claim.id if claim else None,
        retries=claim.failures if claim else 0,
        called_directly=False,
        is_eager=True,
    )
    try:
        if task_has_custom(celery_task, "__call__"):
            return celery_task(*args, **kwargs)
        return celery_task.run(*args, **kwargs)
    except Ignore:
        # It has come to its end, and says so in this way.
        return None
    except Retry as retry:
        _check_retry(celery_task, retry, execution)
        if _is_retried(celery_task, retry.exc):
            # Our worker knows it, and its record says more.
            vars(retry.exc)[_ASKED] = retry
            raise retry.exc from retry.exc.__cause__
        raise
    finally:
        celery_task.pop_request()


def _check_retry(celery_task: Any, retry: Any, execution: Execution | None) -> None:
    """Raise an error where `retry()` asks for what it will not get."""
    request = celery_task.request
    inherited = request.as_execution_options()
    unheeded = {name for name, value in retry.sig.options.items() if value != inherited.get(name)} - HEEDED
    if list(retry.sig.args) != list(request.args or ()):
        unheeded.add("args")
    if dict(retry.sig.kwargs) != dict(request.kwargs or {}):
        unheeded.add("kwargs")
    if unheeded:
        msg = (
            f"retry({', '.join(f'{name}=…' for name in sorted(unheeded))}) means nothing here: the next attempt is like "
            "this one. Enqueue another task instead."
        )
        raise TypeError(msg) from retry
    limit = execution.resolved.rules.max_attempts if execution else FOR_EVER
    if request.retries + 1 >= limit:
        msg = f"retry() asks for attempt {request.retries + 2}, and max_attempts is {limit}. Say from_celery(…, max_attempts=…)."
        raise MaxRetriesExceededError(msg) from retry


def _is_retried(celery_task: Any, error: Any) -> bool:
    wanted = tuple(getattr(celery_task, "autoretry_for", ()))
    return isinstance(error, wanted) and not isinstance(error, tuple(getattr(celery_task, "dont_autoretry_for", ())))


def _is_bound(celery_task: Any) -> bool:
    return hasattr(getattr(celery_task, "_orig_run", None) or celery_task.run, "__self__")
