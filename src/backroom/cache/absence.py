"""What is known of a server that is not there: since when not to ask it, how often it failed. One for each of a process."""

import os
import threading
import time
from collections.abc import Hashable
from typing import Final

from backroom.cache.trouble import Trouble


class Absence:
    """A server's, shared by all caches that are kept there."""

    def __init__(self, name: str) -> None:
        self.trouble = Trouble(name)
        self.failures = 0
        """How many calls were a miss because of it."""
        self.begin()

    def begin(self) -> None:
        """Begin without what another process's threads may hold."""
        self._until = 0.0
        self._lock = threading.Lock()

    def lasts(self) -> bool:
        """Tell, and count, whether the server is not to be asked now."""
        if not self._until or time.monotonic() >= self._until:
            return False
        with self._lock:
            self.failures += 1
        return True

    def begins(self, action: str, error: Exception, *, lasting: float) -> None:
        """Count and log a failure; let nobody ask for so many seconds."""
        with self._lock:
            self.failures += 1
            self._until = time.monotonic() + lasting if lasting else 0.0
        self.trouble.warn("unavailable", f"during={action} {error} It counts as a miss.")


def absence_of(address: Hashable) -> Absence:
    """Return what is known of a server."""
    found = _absences.get(address)
    return found if found is not None else _absences.setdefault(address, Absence(str(address)))


def _begin_anew_in_a_child() -> None:
    for absence in _absences.values():
        absence.begin()


_absences: Final[dict[Hashable, Absence]] = {}
os.register_at_fork(after_in_child=_begin_anew_in_a_child)
