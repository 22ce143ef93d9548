"""A thread that tells the world what became of tasks: a receiver may take its time without keeping a slot waiting."""

import logging
import threading
from queue import Empty, Full, Queue
from typing import Final

from backroom.tasks.announcements import Move, announce
from backroom.tasks.backends.base import Backend
from backroom.tasks.middleware import refresh_connections
from backroom.tasks.rounds import guarded

logger = logging.getLogger("backroom.worker")

WAITING: Final = 100
"""Batches that may wait to be announced; then the worker claims nothing more until there is room."""
PATIENCE: Final = 5.0
"""Seconds that a stopping worker gives the receivers."""


class Clerk:
    """Announces moves in the order in which they were committed."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._moves: Queue[list[Move] | None] = Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="backroom-clerk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def announce(self, moves: list[Move]) -> None:
        """Announce moves before long; wait while too many wait already."""
        if moves:
            self._moves.put(moves)

    def stop(self) -> None:
        """Announce what is left, as far as patience goes, and end the thread."""
        try:
            self._moves.put(None, timeout=PATIENCE)
        except Full:
            self._say_what_is_left()
            return
        self._thread.join(timeout=PATIENCE)
        if self._thread.is_alive():
            self._say_what_is_left()

    def _work(self) -> None:
        while (moves := self._moves.get()) is not None:
            refresh_connections()
            guarded("clerk", lambda: announce(moves, sender=type(self._backend), defaults=self._backend.defaults))

    def _say_what_is_left(self) -> None:
        count = 0
        try:
            while True:
                count += len(self._moves.get_nowait() or ())
        except Empty:
            logger.warning("action=announcements_dropped tasks=%d: a receiver of task_finished took too long", count)
