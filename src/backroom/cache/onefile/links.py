"""Connections to a cache file: one for each thread, closed with their thread, and all of them before the process forks.

They are the cache's own: no transaction of the site's reaches them, and they roll nothing of the site's back.

SQLite notes in the memory of a process which locks it holds, and has mutexes there. A child that inherits a connection which
another thread was using waits for ever for a mutex, finds the file locked for good, or takes its parent's locks for its own
and none for itself.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from weakref import ref

from backroom.cache.onefile import layout

CLOSED: Final = -1
"""The generation of a link that is not open."""
NAP: Final = 0.001
LEAST_MEMORY_KIB: Final = 8192
"""Of a thread, however many there are: what leads to a million entries, and some thousands of those."""

_inherited: list["Link"] = []


class Link:
    """A thread's connection, and the one thing that is done with it: `ask`. In `sums` is what `ADD_TO` has made."""

    __slots__ = (
        "__weakref__",
        "_held",
        "ask",
        "connection",
        "cursor",
        "generation",
        "is_open",
        "is_used",
        "look_at",
        "memory_kib",
        "place",
        "process",
        "sums",
    )

    connection: sqlite3.Connection
    memory_kib: int
    place: tuple[int, int]

    def __init__(self, held: set[int]) -> None:
        self._held = held
        self.process = os.getpid()
        self.generation = CLOSED
        self.look_at = 0.0
        self.is_open = False
        self.is_used = False
        self.sums: list[int] = []

    def open(self, path: Path) -> None:
        """Open a file, and make it first if it is missing."""
        layout.make(path)
        # Before it is opened: should it be another file by then, the next look tells.
        self.place = layout.place_of(path)
        self._held.add(id(self))
        self.connection = layout.connect(path)
        self.is_open = True
        self.memory_kib = 0
        # Called by SQLite, it answers NULL. In a function written in Python a task's timeout could be raised, and get lost.
        self.connection.create_function("noted", 1, self.sums.append)
        self.cursor = self.connection.cursor()
        self.ask = self.cursor.execute

    def keep(self, memory_bytes: int) -> None:
        """Keep what is read of the file in memory, up to this thread's share of what all of them may take."""
        memory_kib = max(memory_bytes // 1024 // max(len(self._held), 1), LEAST_MEMORY_KIB)
        if memory_kib != self.memory_kib:
            self.ask(f"PRAGMA cache_size = -{memory_kib}")
            self.memory_kib = memory_kib

    def take(self) -> None:
        """Be used from now on, or from when the thread that forks just now has done so."""
        self.is_used = False
        with _gate:
            self.is_used = True

    def all_at_once(self, steps: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Run several statements in one transaction, or the only one by itself."""
        if len(steps) < 2:
            for statement, values in steps:
                self.ask(statement, values)
            return
        with self.transaction():
            for statement, values in steps:
                self.ask(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock, and commit at the end, unless something is raised."""
        self.ask("BEGIN IMMEDIATE")
        try:
            yield
            self.ask("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """End a transaction without its effects, if there is one."""
        if self.connection.in_transaction:
            self.connection.rollback()

    def close(self) -> None:
        """Close the connection, if it is open."""
        try:
            if self.is_open:
                self.is_open, self.generation = False, CLOSED
                self.connection.close()
        finally:
            self._held.discard(id(self))

    def __del__(self) -> None:
        if id(self) not in self._held:
            return
        if self.process == os.getpid():
            with _gate, suppress(sqlite3.Error):
                self.close()
        else:
            # SQLite forbids a child to touch what its parent opened, even in order to close it.
            _inherited.append(self)


class Links(threading.local):
    """The links of all threads to a file; `mine` is each one's own, and goes with it."""

    def __init__(self, all_: set[ref[Link]], held: set[int]) -> None:
        # Called in each thread, with the same sets.
        self.mine = Link(held)
        self._all = all_
        # Those that SQLite knows of: from before they are opened until after they are closed, also if their thread has ended.
        self._held = held
        all_.add(ref(self.mine, all_.discard))

    def close(self, deadline: float) -> bool:
        """Close each as soon as its thread does not use it; tell whether all of them were closed by the deadline."""
        is_free = True
        for link in [link for each in list(self._all) if (link := each()) is not None]:
            while link.is_used and link is not self.mine and time.monotonic() < deadline:
                time.sleep(NAP)
            if link.is_used and link is not self.mine:
                is_free = False
            else:
                with suppress(sqlite3.Error):
                    link.close()
        return is_free

    def are_closed(self) -> bool:
        """Tell whether none is open, or just being opened or closed."""
        return not self._held


_gate = threading.RLock()
"""Held by the thread that forks, from before until after, and by one whose link goes with it."""


def shut() -> None:
    """Let no thread begin to use its link."""
    _gate.acquire()


def open_again() -> None:
    """Let them again."""
    _gate.release()


def begin_anew() -> None:
    """Be open, in a child whose parent shut before it forked."""
    global _gate  # noqa: PLW0603 - it is the parent's thread that holds it
    _gate = threading.RLock()
