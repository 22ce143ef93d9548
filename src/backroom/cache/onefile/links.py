"""Connections to a cache file: one for each thread, never carried across a fork, closed with their thread.

They are the cache's own: no transaction of the site's reaches them, and they roll nothing of the site's back.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from backroom.cache.folders import make_private
from backroom.cache.onefile.statements import APPLICATION_ID, CREATE, PAGE_BYTES, SCHEMA
from backroom.errors import BackroomError

OPENING_SECONDS: Final = 2.0
CACHED_STATEMENTS: Final = 256
PAGES_IN_MEMORY_KIB: Final = 32 * 1024
"""Of each thread, and taken as pages are read: of a million entries, those in use should be found without the system."""

_creating = threading.Lock()
_left_by_a_fork: list[sqlite3.Connection] = []


class NotOurs(BackroomError):
    """The file is a database, and no cache of ours."""


class Outdated(BackroomError):
    """The file is a cache that another version of Backroom laid out."""


class Link:
    """A thread's connection, and the one thing that is done with it: `ask`."""

    __slots__ = ("__weakref__", "ask", "connection", "cursor", "generation", "look_at", "place", "process")

    def __init__(self, path: Path, generation: int, *, log_bytes: int) -> None:
        self.process = os.getpid()
        self.generation = generation
        self.look_at = 0.0
        self.connection = _connect(path)
        try:
            _set_up(self.connection, log_bytes)
            self.place = place_of(path)
        except BaseException:
            self.connection.close()
            raise
        self.cursor = self.connection.cursor()
        self.ask = self.cursor.execute

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
        """Close the connection."""
        self.connection.close()

    def __del__(self) -> None:
        connection = getattr(self, "connection", None)
        if connection is None:
            return
        if self.process == os.getpid():
            connection.close()
        else:
            # SQLite forbids a child to touch what its parent opened, even in order to close it.
            _left_by_a_fork.append(connection)


def place_of(path: Path) -> tuple[int, int]:
    """Return what tells a file from another that is later at the same path."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    make_private(path.parent)
    # Whoever could write here could not run code, for pickles are signed, but could read and forge entries. To close a file
    # behind SQLite's back drops the locks of this process, so nobody here may have it open before this is done with it.
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return sqlite3.connect(
        path,
        timeout=OPENING_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # a thread that has ended cannot close its own
        cached_statements=CACHED_STATEMENTS,
    )


def _set_up(connection: sqlite3.Connection, log_bytes: int) -> None:
    ask = connection.execute
    # Of a new file alone; where there is a table already it says nothing.
    ask(f"PRAGMA page_size = {PAGE_BYTES}")
    if ask("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        _lay_out(connection)
    elif ask("PRAGMA user_version").fetchone()[0] != SCHEMA:
        raise Outdated("It was laid out by another version of Backroom.")
    # A commit then waits for no disk, and a power cut may take the last seconds, never the file: pages reach it in
    # checkpoints, which do wait for the disk. OFF would be no quicker but for those, and could lose the file.
    ask("PRAGMA synchronous = NORMAL")
    # A log that nobody has brought into the file whole, in a pause between two writes, is brought there by a writer.
    ask(f"PRAGMA wal_autocheckpoint = {log_bytes // PAGE_BYTES}")
    ask(f"PRAGMA cache_size = -{PAGES_IN_MEMORY_KIB}")
    # From here on a lock is waited for in Python, in shorter naps than SQLite's and without blocking an event loop.
    ask("PRAGMA busy_timeout = 0")


def _lay_out(connection: sqlite3.Connection) -> None:
    ask = connection.execute
    if _is_empty(connection):
        ask("PRAGMA journal_mode = WAL")
    ask("BEGIN IMMEDIATE")
    try:
        # Looked at under the lock: another process may have been laying it out a moment ago.
        if ask("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            if not _is_empty(connection):
                raise NotOurs("It is a SQLite database, but none of this cache's: it is left alone.")
            ask(CREATE)
            ask(f"PRAGMA application_id = {APPLICATION_ID}")
            ask(f"PRAGMA user_version = {SCHEMA}")
        ask("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]


def _begin_anew_in_a_child() -> None:
    global _creating  # noqa: PLW0603 - another thread of the parent may have held it
    _creating = threading.Lock()


os.register_at_fork(after_in_child=_begin_anew_in_a_child)
