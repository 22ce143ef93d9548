"""Who opens a cache file and who puts it aside take turns, in all processes of the machine.

SQLite finds the log of a file by its name. Whoever had opened the old file just before it was put aside, and the log just after,
would write the one's pages into the other.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from backroom.cache.onefile.demand import open_counters

OPENED: Final = fcntl.LOCK_SH
REPLACED: Final = fcntl.LOCK_EX

LONGEST_WAIT_SECONDS: Final = 2.0
NAP: Final = 0.002


@contextmanager
def turn(path: Path, mode: int) -> Iterator[None]:
    """Have a file be `OPENED` by as many as like or `REPLACED` by one. Whose turn does not come gets a `BlockingIOError`."""
    # It is the one file here that nobody puts aside, and that SQLite has no locks on.
    file = open_counters(path)
    try:
        if file is not None:
            _wait_for(file, mode)
        yield
    finally:
        if file is not None:
            # A child that was forked meanwhile has it open too, and the turn would last as long as that.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def _wait_for(file: int, mode: int) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(NAP)
        except OSError:
            # A disk that knows no such locks.
            return
        else:
            return
