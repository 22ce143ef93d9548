"""Counts what SQLite is told, and how often Redis is waited for, in every Python process with BENCH_COUNTS set.

Python imports `sitecustomize` at its start, so a worker is counted whatever it forks or spawns, and knows nothing of
it. Each process keeps its counts in a file of its own, mapped into memory: nothing is lost when it is killed.
"""

import mmap
import os
import socket
import sqlite3
import struct
import threading
from pathlib import Path
from typing import Any

FOLDER = os.environ.get("BENCH_COUNTS")
STORE = os.environ.get("BENCH_STORE", "")
REDIS_PORT = int(STORE.rpartition(":")[2]) if STORE.startswith("redis:") else 0
NAMES = ("statements", "commits", "write_commits", "turns")
FIELDS = struct.Struct("<4q")

_connect = sqlite3.connect
_counts: dict[int, "_Counts"] = {}  # those of the parent stay in it after a fork
_making = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_making=threading.Lock()))


class _Counts:
    """Statements, COMMITs, commits that changed rows; turns from sending to receiving on a connection to Redis."""

    def __init__(self, path: str) -> None:
        with Path(path).open("w+b") as file:
            file.truncate(FIELDS.size)
            self._memory = mmap.mmap(file.fileno(), FIELDS.size)
        self._values = [0] * len(NAMES)
        self._lock = threading.Lock()

    def add(self, field: int) -> None:
        with self._lock:
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


class _CountedSocket(socket.socket):
    """Counts the turns from sending to receiving when it leads to Redis: times that its owner waits for an answer.

    Clients that use no socket of Python's (uvloop, a driver in another language) pass it by; the server sees them.
    """

    _leads_to_redis = False
    _has_asked = False

    def connect(self, address: Any) -> None:
        self._leads_to_redis = isinstance(address, tuple) and address[1] == REDIS_PORT
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        self._leads_to_redis = isinstance(address, tuple) and address[1] == REDIS_PORT
        return super().connect_ex(address)

    def send(self, *args: Any) -> int:
        self._has_asked = True
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self._has_asked = True
        super().sendall(*args)

    def sendmsg(self, *args: Any) -> int:
        self._has_asked = True
        return super().sendmsg(*args)

    def recv(self, *args: Any) -> bytes:
        received = super().recv(*args)
        self._answered()
        return received

    def recv_into(self, *args: Any) -> int:
        received = super().recv_into(*args)
        self._answered()
        return received

    def _answered(self) -> None:
        if self._leads_to_redis and self._has_asked:
            self._has_asked = False
            _of_this_process().add(3)


def _of_this_process() -> _Counts:
    pid = os.getpid()
    if pid not in _counts:
        with _making:
            if pid not in _counts:  # else a second thread would cut short the file that the first one has mapped
                _counts[pid] = _Counts(f"{FOLDER}/{pid}")
    return _counts[pid]


def _counted_connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
    connection = _connect(*args, **kwargs)
    connection.set_trace_callback(_Watch(connection))
    return connection


if FOLDER:
    sqlite3.connect = sqlite3.dbapi2.connect = _counted_connect  # type: ignore[assignment]
    if REDIS_PORT:
        socket.socket = _CountedSocket  # type: ignore[misc]
