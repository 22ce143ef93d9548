"""Huey, which is no Django backend: its own decorator, its own consumer, pickled messages."""

import os
import signal
from typing import Any
from urllib.parse import urlsplit

from benchmarks.tasks.systems.base import SQLITE, SYSTEM_VARIABLE, Claimer, Enqueuer, System, place, python

FULL, OFF = "synchronous=FULL", "synchronous=OFF"


class Huey(System):
    name = "huey"
    packages = ("huey",)
    stop_signal = signal.SIGINT

    @property
    def finished(self) -> str:
        return f"SELECT count(*) FROM {'kv' if self.store == SQLITE else 'huey_kv'}"

    def worker(self) -> list[str]:
        return python("-m", "huey.bin.huey_consumer", "benchmarks.tasks.systems.huey_jobs.queue", "--quiet")

    def queue(self) -> Any:
        """Return the Huey instance on this repetition's store."""
        if self.store == SQLITE:
            from huey import SqliteHuey

            # Huey can say fsync or no fsync; without saying it is SQLite's default, FULL.
            options = {"fsync": False} if self.durability == OFF else {}
            return SqliteHuey("bench", filename=place(), **options)
        from huey import PostgresHuey

        return PostgresHuey("bench", dsn=_conninfo(place()))

    def setup(self) -> None:
        self.queue()

    def enqueuer(self) -> Enqueuer:
        from benchmarks.tasks.systems.huey_jobs import job

        return job

    def fill(self, count: int) -> None:
        from benchmarks.tasks.systems.huey_jobs import job, queue

        storage = queue.storage
        table = "task" if self.store == SQLITE else storage.table_task
        mark = "?" if self.store == SQLITE else "%s"
        with storage.db(commit=True) as cursor:
            for start in range(0, count, 1_000):
                numbers = range(start, min(start + 1_000, count))
                cursor.executemany(
                    f"INSERT INTO {table} (queue, data, priority) VALUES ({mark}, {mark}, 0)",
                    [(storage.name, queue.serialize_task(job.s(number))) for number in numbers],
                )

    def claimers(self) -> dict[str, Claimer]:
        from benchmarks.tasks.systems.huey_jobs import queue

        return {"1": lambda _limit: [queue.storage.dequeue()]}

    def results(self) -> list[list[float]]:
        from benchmarks.tasks.systems.huey_jobs import queue

        storage = queue.storage
        table = "kv" if self.store == SQLITE else storage.table_kv
        rows = storage.sql(f"SELECT value FROM {table}", results=True)
        return [queue.serializer.deserialize(bytes(value)) for (value,) in rows]


def current() -> Huey:
    """Return the system that this process was started for."""
    from benchmarks.tasks.systems import SYSTEMS

    system = SYSTEMS[os.environ[SYSTEM_VARIABLE]]
    assert isinstance(system, Huey)
    return system


def _conninfo(url: str) -> str:
    parts = urlsplit(url)
    return f"host={parts.hostname} port={parts.port} user={parts.username} dbname={parts.path[1:]}"
