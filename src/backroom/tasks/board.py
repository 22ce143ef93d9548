"""What each slot of a worker process is running, in memory that the supervisor shares.

The supervisor reads it when the process can no longer answer: to end an attempt that overran its hard limit, and to
tell the tasks that were running when the process died from those that were only claimed.
"""

import ctypes
import multiprocessing
import struct
import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_ENTRY: Final = struct.Struct("=64sd")

type Memory = Any
"""A block of shared memory, which goes to another process as an argument."""


def shared_memory(places: int) -> Memory:
    """Return memory for the board of a process with so many slots."""
    return multiprocessing.RawArray(ctypes.c_char, _ENTRY.size * places)


class Post(NamedTuple):
    """One running attempt: its task's id, and when its process is to be ended (monotonic seconds; 0: never)."""

    task_id: str
    deadline: float


class Board:
    """A fixed number of places, each written by one slot and read by the supervisor."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._places = len(memory) // _ENTRY.size
        self._lock = threading.Lock()

    def post(self, place: int, task_id: str, deadline: float = 0.0) -> None:
        """Say what a slot runs now."""
        with self._lock:
            _ENTRY.pack_into(self._memory, place * _ENTRY.size, task_id.encode(), deadline)

    def limit(self, place: int, task_id: str, deadline: float) -> None:
        """Set the hard limit of the attempt in a place, if that task is still the one there."""
        with self._lock:
            found, _ = _ENTRY.unpack_from(self._memory, place * _ENTRY.size)
            if found.rstrip(b"\0") == task_id.encode():
                _ENTRY.pack_into(self._memory, place * _ENTRY.size, task_id.encode(), deadline)

    def clear(self, place: int) -> None:
        """Say that a slot runs nothing."""
        with self._lock:
            _ENTRY.pack_into(self._memory, place * _ENTRY.size, b"", 0.0)

    def posts(self) -> Iterator[Post]:
        """Return what the slots run."""
        for place in range(self._places):
            task_id, deadline = _ENTRY.unpack_from(self._memory, place * _ENTRY.size)
            if name := task_id.partition(b"\0")[0]:
                yield Post(name.decode(), deadline)

    def overdue(self, now: float) -> frozenset[str]:
        """Return the ids of the tasks that have overrun their hard limit."""
        return frozenset(post.task_id for post in self.posts() if 0 < post.deadline <= now)
