"""Counts what SQLite is told, in every Python process that has this folder on its path and BENCH_COUNTS set.

Python imports `sitecustomize` at its start, so a worker is counted whatever it forks or spawns, and knows nothing of
it. Each process keeps its counts in a file of its own, mapped into memory: nothing is lost when it is killed.
"""

import mmap
import os
import sqlite3
import struct
from pathlib import Path
from typing import Any

FOLDER = os.environ.get("BENCH_COUNTS")
FIELDS = struct.Struct("<3q")

_connect = sqlite3.connect
_counts: dict[int, "_Counts"] = {}


class _Counts:
    """Statements, COMMITs, commits that changed rows."""

    def __init__(self, path: str) -> None:
        with Path(path).open("w+b") as file:
            file.truncate(FIELDS.size)
            self._memory = mmap.mmap(file.fileno(), FIELDS.size)
        self._values = [0, 0, 0]

    def add(self, field: int) -> None:
        self._values[field] += 1
        FIELDS.pack_into(self._memory, 0, *self._values)


class _Watch:
    """Follows one connection from statement to statement."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changes = connection.total_changes
        self._autocommitted = False

    def __call__(self, statement: str) -> None:
        if statement.startswith("--"):
            return  # what a trigger runs
        counts = _of_this_process()
        counts.add(0)
        verb = statement.lstrip().split(None, 1)[0].rstrip(";").upper() if statement.strip() else ""
        # The callback comes before its statement runs, so a statement that commits by itself is settled by the next.
        if self._autocommitted and self._changed():
            counts.add(2)
        self._autocommitted = not self._connection.in_transaction
        if verb in {"COMMIT", "END"}:
            counts.add(1)
            if self._changed():
                counts.add(2)

    def _changed(self) -> bool:
        before, self._changes = self._changes, self._connection.total_changes
        return self._changes != before


def _of_this_process() -> _Counts:
    pid = os.getpid()
    if pid not in _counts:
        _counts.clear()  # after a fork these are the parent's
        _counts[pid] = _Counts(f"{FOLDER}/{pid}")
    return _counts[pid]


def _counted_connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
    connection = _connect(*args, **kwargs)
    connection.set_trace_callback(_Watch(connection))
    return connection


if FOLDER:
    sqlite3.connect = sqlite3.dbapi2.connect = _counted_connect  # type: ignore[assignment]
