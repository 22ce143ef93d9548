"""How a cache file is made, laid out and set up, and which files are left alone."""

import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from backroom.cache.folders import make_private
from backroom.cache.onefile.statements import APPLICATION_ID, CREATE, PAGE_BYTES, SCHEMA
from backroom.errors import BackroomError

OPENING_SECONDS: Final = 2.0
CACHED_STATEMENTS: Final = 256

_creating = threading.Lock()


class NotOurs(BackroomError):
    """The file is a database, and no cache of ours."""


class Outdated(BackroomError):
    """The file is a cache that another version of Backroom laid out."""


def place_of(path: Path) -> tuple[int, int]:
    """Return what tells a file from another that is later at the same path."""
    found = path.stat()
    return found.st_dev, found.st_ino


def make(path: Path) -> None:
    """Make an empty file, for its owner alone, unless there is one."""
    make_private(path.parent)
    # Whoever could write here could not run code, for pickles are signed, but could read and forge entries. To close a file
    # behind SQLite's back drops the locks of this process, so nobody here may have it open before this is done with it.
    with _creating, suppress(FileExistsError):
        # Where a link leads to, if it is one that leads to nothing yet.
        os.close(os.open(path.resolve(), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def address_of(path: Path) -> str:
    """Return what SQLite opens a file by that there is, and never makes one, which everybody could read."""
    return f"{path.absolute().as_uri()}?mode=rw"


def connect(path: Path) -> sqlite3.Connection:
    """Open a file."""
    return sqlite3.connect(
        address_of(path),
        uri=True,
        timeout=OPENING_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # a thread that has ended cannot close its own, and one that forks closes all
        cached_statements=CACHED_STATEMENTS,
    )


def begin_anew() -> None:
    """Let a child make files, whatever a thread of its parent was about."""
    global _creating  # noqa: PLW0603 - that thread may have held it
    _creating = threading.Lock()


def set_up(connection: sqlite3.Connection, log_bytes: int) -> None:
    """Lay out a file that is new, and set how the connection works; what is damaged is found out here."""
    ask = connection.execute
    # Of a new file alone; where there is a table already it says nothing.
    ask(f"PRAGMA page_size = {PAGE_BYTES}")
    if ask("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        _lay_out(connection)
    elif ask("PRAGMA user_version").fetchone()[0] != SCHEMA:
        raise Outdated("It was laid out by another version of Backroom.")
    else:
        # Somebody may have dropped it. Of one that is there, SQLite only reads that it is.
        ask(CREATE)
    # A commit then waits for no disk, and a power cut may take the last seconds, never the file: pages reach it in
    # checkpoints, which do wait for the disk. OFF would be no quicker but for those, and could lose the file.
    ask("PRAGMA synchronous = NORMAL")
    # A log that nobody has brought into the file whole, in a pause between two writes, is brought there by a writer.
    ask(f"PRAGMA wal_autocheckpoint = {log_bytes // PAGE_BYTES}")
    # Where it could not be begun anew in time, it gives back what it took too much.
    ask(f"PRAGMA journal_size_limit = {log_bytes}")
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
