"""What the driver asks of a task queue: a few functions, the same for every system.

The driver calls the first group itself, so a system's own packages are imported inside the functions of the second
group only, which run in processes of their own.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

SYSTEM_VARIABLE = "BENCH_SYSTEM"
STORE_VARIABLE = "BENCH_STORE"

SQLITE, POSTGRESQL, REDIS, VALKEY = "sqlite", "pg", "redis", "valkey"
EVERY_SECOND, NOTHING_KEPT = "appendfsync everysec", "nothing on disk"
DURABILITY = {
    SQLITE: "synchronous=NORMAL",
    POSTGRESQL: "synchronous_commit=on",
    REDIS: EVERY_SECOND,
    VALKEY: EVERY_SECOND,
}
"""What a system on a store gets unless it says otherwise."""

Enqueuer = Callable[[int], object]
EnqueueLoop = Callable[[Iterable[int]], object]
BulkEnqueuer = Callable[[Sequence[int]], object]
Claimer = Callable[[int], Sequence[object]]


class System:
    """One queue on one store with one durability."""

    name: str
    packages: tuple[str, ...]
    django_tasks = False
    """Whether code reaches it through `django.tasks`."""
    library: Path | None = None
    """A folder of packages that its processes find before all others."""
    keeps_results = True
    is_deep = True
    """Whether it can be filled to a million in reasonable time, and so is measured there."""
    stop_signal = signal.SIGTERM
    finished: str
    """What counts the tasks whose end is visible in the store: SQL, or on Redis the text of a Lua script, in which
    `total` is how many were enqueued."""

    def __init__(self, store: str, variant: str = "", durability: str = "", *, worker_processes: int = 1) -> None:
        self.store = store
        self.variant = variant
        self.durability = durability or DURABILITY[store]
        self.worker_processes = worker_processes

    @property
    def label(self) -> str:
        """The name on the command line and in the tables."""
        return ":".join(filter(None, (self.name, self.store, self.variant)))

    @property
    def kind(self) -> str:
        """Which of the driver's stores it lives in: on a server that keeps in memory, how it saves is the server's."""
        return f"{self.store}, {self.durability}" if self.store in {REDIS, VALKEY} else self.store

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that are measured."""
        return {package: version(package) for package in self.packages}

    @property
    def needs_setup(self) -> bool:
        """Whether the system makes its store ready itself."""
        return type(self).setup is not System.setup

    def environment(self) -> dict[str, str]:
        """Variables that the system's processes need, beside those that every system gets."""
        return {}

    def worker(self) -> list[str]:
        """Return the command that starts one worker process, with the system's own defaults."""
        raise NotImplementedError

    def worker_for(self, _tasks: int) -> list[str] | None:
        """Return the command of a worker that runs so many tasks at a time; None where that is not compared."""
        return None

    # In a process of its own.

    def setup(self) -> None:
        """Make the empty store ready: tables, indexes; nothing on a store that needs none."""

    def enqueuer(self) -> Enqueuer:
        """Return the callable that enqueues one task; the loop round it is timed."""
        raise NotImplementedError

    def enqueue_loop(self) -> EnqueueLoop:
        """Return what enqueues numbers one after the other; asynchronous systems stay in their event loop for it."""
        one = self.enqueuer()

        def loop(numbers: Iterable[int]) -> None:
            for number in numbers:
                one(number)

        return loop

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
        self.enqueue_loop()(range(count))

    def claimers(self) -> dict[str, Claimer]:
        """Return, by a label, callables that claim up to `limit` tasks the way the system's worker does."""
        return {}

    def results(self) -> list[list[float]]:
        """Return what the store kept: [number, start] of every finished task."""
        raise NotImplementedError


def place() -> str:
    """Return where this repetition's store is: a path, or the URL of a PostgreSQL database or a Redis server."""
    return os.environ[STORE_VARIABLE]


def redis(database: int = 0) -> str:
    """Return the URL of one of the numbered databases of this repetition's Redis server."""
    return f"{place()}/{database}"


def python(*arguments: str) -> list[str]:
    """Return a command that runs with the interpreter of this environment."""
    return [sys.executable, *arguments]
