"""What the driver asks of a task queue: a few functions, the same for every system.

The driver calls the first group itself, so a system's own packages are imported inside the functions of the second
group only, which run in processes of their own.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

SYSTEM_VARIABLE = "BENCH_SYSTEM"
STORE_VARIABLE = "BENCH_STORE"

SQLITE, POSTGRESQL = "sqlite", "pg"

Enqueuer = Callable[[int], object]
BulkEnqueuer = Callable[[Sequence[int]], object]
Claimer = Callable[[int], Sequence[object]]


class System:
    """One queue on one store with one durability."""

    name: str
    packages: tuple[str, ...]
    django_tasks = False
    """Whether code reaches it through `django.tasks`."""
    keeps_results = True
    stop_signal = signal.SIGTERM
    finished: str
    """SQL that counts the tasks whose end is visible in the store."""

    def __init__(self, store: str, variant: str = "", durability: str = "") -> None:
        self.store = store
        self.variant = variant
        self.durability = durability or ("synchronous=NORMAL" if store == SQLITE else "synchronous_commit=on")

    @property
    def label(self) -> str:
        """The name on the command line and in the tables."""
        return ":".join(filter(None, (self.name, self.store, self.variant)))

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that are measured."""
        return {package: version(package) for package in self.packages}

    def environment(self) -> dict[str, str]:
        """Variables that the system's processes need, beside those that every system gets."""
        return {}

    def worker(self) -> list[str]:
        """Return the command that starts one worker process, with the system's own defaults."""
        raise NotImplementedError

    # In a process of its own.

    def setup(self) -> None:
        """Make the empty store ready: tables, indexes."""
        raise NotImplementedError

    def enqueuer(self) -> Enqueuer:
        """Return the callable that enqueues one task; the loop round it is timed."""
        raise NotImplementedError

    def bulk_enqueuer(self) -> BulkEnqueuer | None:
        """Return the callable that enqueues many tasks at once, or None where the system has none."""
        return None

    def fill(self, count: int) -> None:
        """Enqueue tasks 0 to count-1 as fast as the system can; not timed."""
        many = self.bulk_enqueuer()
        if many:
            for start in range(0, count, 1_000):
                many(range(start, min(start + 1_000, count)))
            return
        one = self.enqueuer()
        for number in range(count):
            one(number)

    def claimers(self) -> dict[str, Claimer]:
        """Return, by a label, callables that claim up to `limit` tasks the way the system's worker does."""
        return {}

    def results(self) -> list[list[float]]:
        """Return what the store kept: [number, start] of every finished task."""
        raise NotImplementedError


def place() -> str:
    """Return where this repetition's store is: a path, or a PostgreSQL URL."""
    return os.environ[STORE_VARIABLE]


def python(*arguments: str) -> list[str]:
    """Return a command that runs with the interpreter of this environment."""
    return [sys.executable, *arguments]
