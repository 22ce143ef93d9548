"""One cache file as a process sees it: a link for each thread, and what becomes of it when something is wrong.

Whatever goes wrong below is a miss to whoever asks, and a warning once a while. A corrupt file is put aside, with
`.corrupt` after its name, and made anew.
"""

import errno
import os
import random
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from backroom.cache.onefile.demand import Demand
from backroom.cache.onefile.links import Link, NotOurs, Outdated, place_of
from backroom.cache.onefile.upkeep import Budget, Upkeep
from backroom.cache.trouble import Trouble

LOOK_SECONDS: Final = 1.0
"""How often a thread makes sure that its file is still the one at its path."""
CLOSED_SECONDS: Final = 1.0
"""How long a file that could not be opened is left alone."""

LOG_CHECKPOINTS: Final = 8
"""The log is as long as what so many checkpoints bring into the file, where those who write leave them no pause."""

FAILURES: Final = (sqlite3.Error, OSError, UnicodeError, NotOurs, Outdated)
"""What may come out of an operation on a file; to the cache it is all the same."""

SHORTEST_NAP: Final = 0.000_2
LONGEST_NAP: Final = 0.01
HURRIED_SECONDS: Final = 5.0

_LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PUT_ASIDE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CLOSE: Final = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL}


class Closed(sqlite3.OperationalError):
    """The file could not be opened a moment ago; it is not tried again yet."""


class CacheFile:
    """A file, shared by all caches of this process that name it with the same budget."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path = path
        self.budget = budget
        self.trouble = Trouble(str(path))
        # It goes along into a child: caches know its bytes.
        self.demand = Demand(path)
        self.begin()

    def begin(self) -> None:
        """Begin with nothing open, as a new process does."""
        self.generation = 0
        self.links = _Links()
        self.demand.begin()
        self.upkeep = Upkeep(self.path, self.budget, self.demand)
        self.closed_until = 0.0
        self.hurried_until = 0.0
        self.is_full = False
        self._lock = threading.Lock()

    def link(self) -> Link:
        """Return this thread's link; raise one of `FAILURES` when the file cannot be opened."""
        link = self.links.link
        if link is not None and link.generation == self.generation and monotonic() < link.look_at:
            return link
        return self._looked_after(link)

    def failed(self, error: BaseException, action: str) -> None:
        """Take in that an operation failed: say so, and do what lets the next one succeed."""
        if isinstance(error, Closed):
            return
        self.is_full = False
        link = self.links.link
        if link is not None:
            with suppress(sqlite3.Error):
                link.roll_back()
        code = primary_code(error)
        if code == sqlite3.SQLITE_IOERR and link is not None:
            # A quota, a limit on the size of files: whatever it is, there is no writing.
            code = sqlite3.SQLITE_FULL
        if code in _PUT_ASIDE or isinstance(error, Outdated):
            self._put_aside(error)
        elif code in _CLOSE or isinstance(error, (OSError, NotOurs)):
            self.generation += 1
            self.closed_until = monotonic() + CLOSED_SECONDS
            self.trouble.warn("unusable", f"{action}: {error} It counts as missing.")
        elif code == sqlite3.SQLITE_BUSY:
            self.trouble.warn("locked", f"{action}: another process keeps the file locked. It counts as missing.")
        elif code == sqlite3.SQLITE_FULL:
            self.is_full = True
            self.trouble.warn("full", f"{action}: {error}: the disk is full. What cannot be stored counts as missing.")
        else:
            # Of a table that is gone, for example: the file was replaced by another.
            self.generation += 1
            self.trouble.warn("failed", f"{action}: {type(error).__name__}: {error} It counts as missing.")

    def forget_all(self) -> None:
        """Remove the file, if it is the one that this thread has open. What no statement can do on a full disk, this can."""
        self.is_full = False
        if self.links.link is not None:
            self._replace()

    def _looked_after(self, link: Link | None) -> Link:
        if link is not None:
            if link.generation == self.generation and self._is_still_there(link):
                link.look_at = monotonic() + LOOK_SECONDS
                return link
            self.links.link = None
            link.close()
        if monotonic() < self.closed_until:
            raise Closed("It could not be opened a moment ago.")
        self.links.link = link = self._open()
        link.look_at = monotonic() + LOOK_SECONDS
        return link

    def _open(self) -> Link:
        try:
            return Link(self.path, self.generation, log_bytes=LOG_CHECKPOINTS * self.budget.checkpoint_bytes)
        except sqlite3.Error as error:
            if primary_code(error) not in _PUT_ASIDE:
                raise
            self._put_aside(error)
        except Outdated as error:
            self._put_aside(error)
        return Link(self.path, self.generation, log_bytes=LOG_CHECKPOINTS * self.budget.checkpoint_bytes)

    def _is_still_there(self, link: Link) -> bool:
        try:
            return place_of(self.path) == link.place
        except FileNotFoundError:
            return False

    def _put_aside(self, error: BaseException) -> None:
        self.trouble.warn("corrupt", f"{error} The file is put aside as {self.path.name}.corrupt and made anew.")
        self._replace(aside=True)

    def _replace(self, *, aside: bool = False) -> None:
        link = self.links.link
        self.generation += 1
        with self._lock, suppress(OSError):
            if link is not None and place_of(self.path) != link.place:
                # Another process was quicker; the file that is there now is a good one.
                return
            # Before the file itself: a log that stayed behind would be played back into the new one.
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            if aside:
                self.path.replace(self.path.with_name(f"{self.path.name}.corrupt"))
            else:
                self.path.unlink()


class Patience:
    """How long one operation waits for another process's lock: short naps by chance, and only so long in all.

    Once somebody has waited in vain, nobody waits for a while: a page that asks fifty times must not wait fifty times.
    """

    def __init__(self, file: CacheFile, seconds: float) -> None:
        self._file = file
        self._deadline = monotonic() + seconds if monotonic() > file.hurried_until else 0.0
        self._longest = SHORTEST_NAP

    def nap(self, error: BaseException) -> float | None:
        """Return how long to sleep before the next try; None when there shall be none."""
        if not is_locked(error):
            return None
        moment = monotonic()
        if moment > self._deadline:
            if self._deadline:
                self._file.hurried_until = moment + HURRIED_SECONDS
            return None
        nap = self._longest * random.random()  # noqa: S311 - no secret
        self._longest = min(self._longest * 1.5, LONGEST_NAP)
        return nap


def is_locked(error: BaseException) -> bool:
    """Tell whether another connection's lock is all that was in the way."""
    return primary_code(error) in _LOCKED


class _Links(threading.local):
    link: Link | None = None


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's code of an error without its details, or None."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return sqlite3.SQLITE_FULL
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


_files: dict[tuple[Path, Budget], CacheFile] = {}
_files_lock = threading.Lock()


def cache_file(path: Path, budget: Budget) -> CacheFile:
    """Return this process's only object for a file and a budget."""
    with _files_lock:
        if (path, budget) not in _files:
            _files[path, budget] = CacheFile(path, budget)
        return _files[path, budget]


def _begin_anew_in_a_child() -> None:
    global _files_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _files_lock = threading.Lock()
    for file in _files.values():
        file.begin()


def _close_before_a_fork() -> None:
    """Close what the thread that forks has open, and opens again when it is asked.

    A child that inherits a connection takes its parent's locks for its own, so it would take none for those it makes. The
    thread that checkpoints has one as well, of which the program knows nothing.
    """
    for file in list(_files.values()):
        file.upkeep.wait_for_checkpoint()
        link, file.links.link = file.links.link, None
        if link is not None:
            with suppress(sqlite3.Error):
                link.close()


os.register_at_fork(before=_close_before_a_fork, after_in_child=_begin_anew_in_a_child)
