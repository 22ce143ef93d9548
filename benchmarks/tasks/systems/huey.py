"""Huey, which is no Django backend: its own decorator, its own consumer, pickled messages."""

import os
import signal
from typing import Any
from urllib.parse import urlsplit

from benchmarks.tasks.systems.base import (
    POSTGRESQL,
    SQLITE,
    SYSTEM_VARIABLE,
    Claimer,
    Enqueuer,
    System,
    place,
    python,
    redis,
)

FULL, OFF = "synchronous=FULL", "synchronous=OFF"
FINISHED = {SQLITE: "SELECT count(*) FROM kv", POSTGRESQL: "SELECT count(*) FROM huey_kv"}


class Huey(System):
    name = "huey"
    packages = ("huey",)
    stop_signal = signal.SIGINT

    @property
    def finished(self) -> str:
        return FINISHED.get(self.store, "return redis.call('HLEN', 'huey.results.bench')")

    def worker(self) -> list[str]:
        # Four threads do half as much again on Redis, where one waits for the server; on SQLite they get in each
        # other's way.
        workers = ("--workers", "4") if self.store not in FINISHED and self.variant != "one" else ()
        return python("-m", "huey.bin.huey_consumer", "benchmarks.tasks.systems.huey_jobs.queue", "--quiet", *workers)

    def queue(self) -> Any:
        """Return the Huey instance on this repetition's store."""
        if self.store == SQLITE:
            from huey import SqliteHuey

            # Huey can say fsync or no fsync; without saying it is SQLite's default, FULL.
            options = {"fsync": False} if self.durability == OFF else {}
            return SqliteHuey("bench", filename=place(), **options)
        if self.store != POSTGRESQL:
            from huey import RedisHuey

            return RedisHuey("bench", url=redis())
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
        if self.store not in FINISHED:
            for start in range(0, count, 1_000):
                numbers = range(start, min(start + 1_000, count))
                storage.conn.lpush(storage.queue_key, *(queue.serialize_task(job.s(number)) for number in numbers))
            return
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
        if self.store not in FINISHED:
            return [queue.serializer.deserialize(value) for value in storage.conn.hvals(storage.result_key)]
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
