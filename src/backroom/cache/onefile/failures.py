"""What may come out of an operation on a file, and how long one waits for what passes by itself."""

import errno
import random
import sqlite3
from time import monotonic
from typing import Final, Protocol

from backroom.cache.onefile.layout import NotOurs, Outdated

SHORTEST_NAP: Final = 0.000_2
LONGEST_NAP: Final = 0.01
HURRIED_SECONDS: Final = 5.0

FAILURES: Final = (sqlite3.Error, OSError, UnicodeError, NotOurs, Outdated)
"""What may come out of an operation on a file; to the cache it is all the same."""

_LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Closed(sqlite3.OperationalError):
    """The file could not be opened a moment ago; it is not tried again yet."""


class Hurried(Protocol):
    """What somebody may have waited for in vain a moment ago."""

    hurried_until: float


class Patience:
    """How long one operation waits for another process's lock: short naps by chance, and only so long in all.

    Once somebody has waited in vain, nobody waits for a while: a page that asks fifty times must not wait fifty times.
    """

    def __init__(self, file: Hurried, seconds: float) -> None:
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


def is_damage(error: BaseException) -> bool:
    """Tell whether the file itself is of no use any more."""
    return isinstance(error, Outdated) or primary_code(error) in _DAMAGED


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's code of an error without its details, or None."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return sqlite3.SQLITE_FULL
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
