"""A double that only remembers what was enqueued, with all the options of `@task`: for tests that look at that."""

from typing import Any

from backroom.tasks.backends.memory import MemoryBackend
from backroom.tasks.results import TaskResult


class DummyBackend(MemoryBackend):
    """Runs nothing. `results` has what was enqueued; `backroom.testing.run_tasks()` runs it when a test wants that."""

    @property
    def results(self) -> list[TaskResult[..., Any]]:
        """What was enqueued since the last `clear()`, oldest first."""
        return [self._result(record) for record in self.store.records()]

    def clear(self) -> None:
        """Forget what was enqueued."""
        self.store.clear()
