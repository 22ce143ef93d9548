"""Run tasks without a worker, and look at what was enqueued."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.tasks import DEFAULT_TASK_BACKEND_ALIAS
from django.tasks.signals import task_enqueued

from backroom.tasks.arguments import normalized
from backroom.tasks.backends.memory import forget_everything
from backroom.tasks.inline import run_due
from backroom.tasks.queries import backend_of
from backroom.tasks.records import Query, Record
from backroom.tasks.results import TaskResult

LISTED = 20
"""Tasks that a failed assertion lists."""


def run_tasks(using: str = DEFAULT_TASK_BACKEND_ALIAS, *, queues: Sequence[str] = ()) -> list[TaskResult[..., Any]]:
    """Run the tasks of a TASKS alias that are due, until none is; return their results in the order of the attempts.

    They run one after the other in this thread and on its database connections, so inside the transaction of a
    `TestCase` too. What they enqueue runs as well if it is due; what is to wait for a retry or for its `run_after`
    waits for a `FakeClock` to move. Raise `NotOurs` when the alias is of another kind of backend.
    """
    return run_due(backend_of(using), queues=queues)


@contextmanager
def captured_tasks() -> Iterator[list[Any]]:
    """Give a list that fills with the results of the tasks that this block enqueues, whatever their backend.

    A task that a unique one kept out is not in it: nothing was enqueued.
    """
    captured: list[Any] = []

    def take(*, task_result: Any, **_kwargs: Any) -> None:
        captured.append(task_result)

    task_enqueued.connect(take, weak=False)
    try:
        yield captured
    finally:
        task_enqueued.disconnect(take)


def assert_enqueued(
    task: Any,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    count: int | None = None,
    among: Iterable[Any] | None = None,
) -> list[Any]:
    """Fail unless `task` was enqueued; return the results that match, oldest first.

    `args` and `kwargs` ask for exactly these arguments, `count` for exactly so many tasks. Without `among`, a list
    from `captured_tasks()`, every task that the store of the task's backend holds is looked at.
    """
    candidates = _results(task) if among is None else [result for result in among if _is_of(result, task)]
    wanted_args = None if args is None else normalized(list(args), "args")
    wanted_kwargs = None if kwargs is None else normalized(dict(kwargs), "kwargs")
    found = [result for result in candidates if _has(result, wanted_args, wanted_kwargs)]
    if not (len(found) == count if count is not None else found):
        raise AssertionError(_complaint(task, args, kwargs, count, found, candidates))
    return found


def assert_not_enqueued(
    task: Any,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    among: Iterable[Any] | None = None,
) -> None:
    """Fail if `task` was enqueued (with these arguments). See assert_enqueued()."""
    assert_enqueued(task, args=args, kwargs=kwargs, count=0, among=among)


def clear_doubles() -> None:
    """Forget every task that `ImmediateBackend` and `DummyBackend` keep. The pytest plugin does so before each test."""
    forget_everything()


def _results(task: Any) -> list[Any]:
    backend = backend_of(task.backend)
    found: list[Record] = []
    after: str | None = None
    while True:
        page = backend.store.find(Query(task_path=task.module_path), after=after, limit=1000)
        found += page.records
        if page.next_after is None:
            return [backend.get_result(record.id) for record in reversed(found)]
        after = page.next_after


def _is_of(result: Any, task: Any) -> bool:
    return bool(result.task.func == task.func)


def _has(result: Any, args: list[Any] | None, kwargs: dict[str, Any] | None) -> bool:
    return (args is None or result.args == args) and (kwargs is None or result.kwargs == kwargs)


def _complaint(
    task: Any,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    count: int | None,
    found: Sequence[Any],
    candidates: Sequence[Any],
) -> str:
    asked = [f"{name}={value!r}" for name, value in (("args", args), ("kwargs", kwargs)) if value is not None]
    what = f"{task.module_path} with {', '.join(asked)}" if asked else task.module_path
    wanted = "at least once" if count is None else f"{count} times"
    listed = [f"  args={result.args!r} kwargs={result.kwargs!r} {result.status}" for result in candidates[:LISTED]]
    if len(candidates) > LISTED:
        listed.append(f"  … and {len(candidates) - LISTED} more")
    first = f"{what} was enqueued {len(found)} times; expected: {wanted}. All that was enqueued of it:"
    return "\n".join([first, *(listed or ["  nothing"])])
