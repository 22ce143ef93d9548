"""A double that runs each task inside `enqueue()`, with all the options of `@task`: for tests and first steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from backroom.clock import after
from backroom.tasks.backends.base import Call
from backroom.tasks.backends.memory import MemoryBackend
from backroom.tasks.inline import run_due
from backroom.tasks.policy import advanced
from backroom.tasks.records import DEFERRED
from backroom.tasks.results import TaskResult

KEPT = 1_000
"""Finished tasks that are kept for `get_result`."""


class ImmediateBackend(MemoryBackend):
    """Runs a task before `enqueue()` returns, its retries included and without their waits.

    A task that is deferred, or that snoozes, stays READY: nothing here waits. `backroom.testing.run_tasks()` can
    run it later.
    """

    def enqueue(  # type: ignore[override] # the stubs would have a task's parameters in its result's type
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult[..., Any]:
        """Run a task and return its result."""
        result = super().enqueue(task, args, kwargs)
        self._run(result.id)
        result.refresh()
        return result

    def enqueue_many(self, task: Any, calls: Any) -> list[TaskResult[..., Any]]:
        """Run one task for each pair of `args` and `kwargs`; return their results."""
        wanted: list[Call] = list(calls)
        results = super().enqueue_many(task, wanted)
        for result in results:
            self._run(result.id)
            result.refresh()
        return results

    def _run(self, task_id: str) -> None:
        run_due(self, ids=[task_id])
        while self._retry_now(task_id):
            run_due(self, ids=[task_id])
        self.store.prune(after(self.clock.now(), 10 * 365 * 86_400), max(0, len(self.store.records()) - KEPT))

    def _retry_now(self, task_id: str) -> bool:
        """Make a failed attempt's next one ready, whatever its backoff."""
        return any(
            record.state == DEFERRED and record.failures and self.store.apply([advanced(record)])
            for record in self.store.get([task_id])
        )
