"""A double that only remembers what was enqueued, with all the options of `@task`: for tests that look at that."""

from functools import cache
from typing import Any

from backroom.tasks.backends.base import Backend
from backroom.tasks.results import TaskResult
from backroom.tasks.stores.memory import MemoryStore


@cache
def _store_of(_alias: str) -> MemoryStore:
    return MemoryStore()


class DummyBackend(Backend):
    """Runs nothing. `results` has what was enqueued; `backroom.testing.run_tasks()` runs it when a test wants that."""

    is_shared = False

    @property
    def store(self) -> MemoryStore:
        """A store in this process's memory, the same for all its threads."""
        return _store_of(self.alias)

    @property
    def results(self) -> list[TaskResult[..., Any]]:
        """What was enqueued since the last `clear()`, oldest first."""
        return [self._result(record) for record in self.store.records()]

    def clear(self) -> None:
        """Forget what was enqueued."""
        self.store.clear()
