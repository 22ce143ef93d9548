"""What a worker's main thread sleeps on: its own threads, a signal handler and the store's listener all wake it."""

import contextlib
import os
import select
import time
from typing import Final, Literal

from backroom.tasks.transports.wakeups import Listener

REST: Final = 0.001
"""Seconds for which no listener is heard after it rang: what is enqueued meanwhile is claimed together."""

type Woken = Literal["rung", "heard"] | None
"""What ended a wait: a ring, something heard, which may have come with a ring, or only its time."""


class Bell:
    """Wakes the one thread that waits on it. Ringing is safe in other threads and in signal handlers."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._rested_at = 0.0

    def ring(self) -> None:
        """Wake who waits, or who will."""
        with contextlib.suppress(OSError):
            # A full pipe means that it has been rung already, a closed one that nobody waits any more.
            os.write(self._writer, b"!")

    def wait(self, seconds: float, listener: Listener | None = None) -> Woken:
        """Wait at most so long; tell what ended it. Without a `listener` what it hears can wait too."""
        rest = self._rested_at - time.monotonic()
        if listener is not None and rest > 0:
            if self._is_rung(min(rest, seconds)):
                return "rung"
            seconds -= rest
        if seconds <= 0:
            return None
        if listener is None:
            return "rung" if self._is_rung(seconds) else None
        return self._rung_or_heard(seconds, listener)

    def close(self) -> None:
        """Wait no more; who still rings does so in vain."""
        ends = (self._reader, self._writer)
        # First, so that a late ring never reaches a file that got the same number.
        self._reader = self._writer = -1
        for end in ends:
            os.close(end)

    def _is_rung(self, seconds: float) -> bool:
        return self._reader in self._readable(seconds) and self._take_rings()

    def _rung_or_heard(self, seconds: float, listener: Listener) -> Woken:
        # It may have rung already: what has arrived is not always left for the descriptor to show.
        if self._has_heard(listener):
            return "heard"
        found = self._readable(seconds, listener.fileno())
        is_rung = self._reader in found and self._take_rings()
        if len(found) > is_rung and self._has_heard(listener):
            return "heard"
        return "rung" if is_rung else None

    def _has_heard(self, listener: Listener) -> bool:
        if not listener.hear():
            return False
        self._rested_at = time.monotonic() + REST
        return True

    def _readable(self, seconds: float, descriptor: int | None = None) -> set[int]:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        # Rounded up: a wait of less than a millisecond would be none, and the caller would turn round and round.
        return {ready for ready, _ in poll.poll(int(seconds * 1000) + 1)}

    def _take_rings(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._reader, 4096))
        return False
