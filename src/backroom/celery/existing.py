"""Celery's tasks as tasks of `django.tasks`: a project enqueues them there before it has moved them over."""

import functools
from collections.abc import Callable
from typing import Any, Final

from celery.app.task import Task as CeleryTask
from celery.app.trace import task_has_custom
from celery.exceptions import Ignore, Retry
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from django.tasks.exceptions import InvalidTask
from django.utils.module_loading import import_string

from backroom.tasks.definition import Task
from backroom.tasks.execution import current
from backroom.tasks.policy import Exponential
from backroom.tasks.resolve import adopters

FOR_EVER: Final = 1_000_000
"""Attempts, where Celery would try again for ever."""
DOUBLINGS: Final = 20
"""Waits that are spelled out where Celery draws none of them at random; the last one goes on."""
HOOKS: Final = ("before_start", "on_success", "on_retry", "on_failure", "after_return")
"""Methods of a task that Celery's workers call."""


def from_celery(celery_task: Any, **options: Any) -> Any:
    """Return a Django task that runs the function of a Celery task, with what Celery was told of retries and limits.

    `options` are those of `@task`, and win. `bind=True` tasks get themselves as `self`: there `self.request.id` and
    `self.request.retries` are ours, and `self.retry()` raises `Retry`, which makes our worker try again.

    Raise `InvalidTask` for what cannot be found again by its path, a class, a function within a function, and for what
    has hooks of its own, such as `on_failure`.
    """
    celery_task = _evaluated(celery_task)
    if hooks := [name for name in HOOKS if task_has_custom(celery_task, name)]:
        msg = (
            f"The Celery task {celery_task.name} has {', '.join(hooks)} of its own, which nothing but Celery calls. "
            "Let the function do it, or a receiver of Django's signal task_finished."
        )
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
        options["backoff"] = _backoff(celery_task)
        # Nothing else is tried again: an error that no retry() was called for fails at once.
        options["retry_on"] = (*retried, Retry)
    if retried:
        options["fail_on"] = tuple(getattr(celery_task, "dont_autoretry_for", ()))
    if limit := celery_task.soft_time_limit or celery_task.time_limit:
        options["timeout"] = float(limit)
    if isinstance(celery_task.expires, int | float):
        options["expires"] = float(celery_task.expires)
    if celery_task.ignore_result:
        options["keep_result"] = False
    return options


def adopted(found: Any) -> Any:
    """Return the Django task of a Celery task that a record names; None for anything else."""
    return _adopted(_evaluated(found)) if isinstance(found, CeleryTask) else None


@functools.lru_cache(maxsize=1024)
def _adopted(celery_task: Any) -> Any:
    return from_celery(celery_task)


adopters.append(adopted)


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
        if _is_retried(celery_task, retry.exc):
            # Our worker knows it, and its record says more.
            raise retry.exc from retry.exc.__cause__
        raise
    finally:
        celery_task.pop_request()


def _is_retried(celery_task: Any, error: Any) -> bool:
    wanted = tuple(getattr(celery_task, "autoretry_for", ()))
    return isinstance(error, wanted) and not isinstance(error, tuple(getattr(celery_task, "dont_autoretry_for", ())))


def _is_bound(celery_task: Any) -> bool:
    return hasattr(getattr(celery_task, "_orig_run", None) or celery_task.run, "__self__")


def _backoff(celery_task: Any) -> Any:
    growing = getattr(celery_task, "retry_backoff", False)
    if not growing:
        return float(celery_task.default_retry_delay)
    base = max(1.0, float(growing))
    cap = float(getattr(celery_task, "retry_backoff_max", 600))
    if getattr(celery_task, "retry_jitter", True):
        return Exponential(base=base, cap=cap)
    return tuple(min(cap, base * 2.0**power) for power in range(DOUBLINGS))
