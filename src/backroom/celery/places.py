"""What each child of a prefork worker is at, in memory that outlives it: its successor reads it, and so does the parent.

Celery replaces a child that died by one of the same index. That one finds here what its predecessor was running, and
settles it. The parent, which touches no store, ends the children whose attempt has overrun its hard limit.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from backroom.tasks.board import Board, shared_memory

logger = logging.getLogger("backroom.celery")

MOST: Final = 512
"""Children for which there is room; those beyond it have no hard limits, and their deaths are found by their leases."""


class Leftover(NamedTuple):
    """What a child left behind that is gone."""

    pid: int
    running: frozenset[str]
    """The ids of the tasks that it was at."""
    was_ended: bool
    """Whether the parent ended it, for one of them."""


class Place:
    """The place of one child."""

    def __init__(self) -> None:
        self.board = Board(shared_memory(1))
        self._tenant: Any = multiprocessing.RawArray(ctypes.c_longlong, 2)

    def take(self) -> Leftover | None:
        """Take the place for this process; return what the one before it left."""
        pid, was_ended = self._tenant
        running = frozenset(post.task_id for post in self.board.posts())
        self._tenant[:] = (os.getpid(), 0)
        self.board.clear(0)
        return Leftover(pid, running, bool(was_ended)) if pid else None

    def leave(self) -> None:
        """Give the place up, with nothing left behind."""
        self._tenant[0] = 0

    def end_overdue(self, children: Collection[int]) -> None:
        """Kill the child in this place if its attempt has overrun its hard limit."""
        pid, was_ended = self._tenant
        if was_ended or pid not in children:
            return
        if overdue := self.board.overdue(time.monotonic()):
            self._tenant[1] = 1
            logger.warning("action=worker_killed pid=%d tasks=%s", pid, ",".join(overdue))
            os.kill(pid, signal.SIGKILL)


def make_places() -> Sequence[Place]:
    """Return the places of a worker. Its children inherit the memory, if it is made before they are."""
    return [Place() for _ in range(MOST)]


def end_overdue(places: Sequence[Place], children: Callable[[], Collection[int]]) -> None:
    """Kill the children that cannot end their attempt themselves."""
    alive = children()
    for place in places:
        place.end_overdue(alive)
