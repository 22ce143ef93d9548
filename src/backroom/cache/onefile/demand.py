"""How often keys were asked for lately, counted in memory that all processes share, so that reading writes nothing.

A counter of one byte for each of a million slots; a key's slot is in its id. Keys that are not there count too: what is
asked for again and again should stay once it is stored. As a counter may be another key's as well, and two processes may
count at once, it is an estimate; all it decides is what to forget. (TinyLFU's idea: Einziger, Friedman and Manes, "TinyLFU:
A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 13, 2017.)
"""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SLOTS: Final = 1 << 20
MASK: Final = SLOTS - 1
MOST: Final = 15

_HALVED: Final = bytes(count >> 1 for count in range(256))


class Demand:
    """The counters beside one cache file: in the file of that name with `-demand` after it, if that can be had."""

    def __init__(self, path: Path) -> None:
        self.counts: mmap.mmap | bytearray = _shared(path.with_name(f"{path.name}-demand")) or bytearray(SLOTS)
        self._aged_to = 0
        self._due = 0.0

    def note(self, id_: int) -> None:
        """Count that a key was asked for."""
        counts = self.counts
        count = counts[id_ & MASK]
        if count < MOST:
            counts[id_ & MASK] = count + 1

    def note_all(self, ids: Iterable[int]) -> None:
        """Count that several keys were asked for."""
        counts = self.counts
        for id_ in ids:
            count = counts[id_ & MASK]
            if count < MOST:
                counts[id_ & MASK] = count + 1

    def of(self, id_: int) -> int:
        """Return how often a key was asked for lately."""
        return self.counts[id_ & MASK]

    def age(self, share: float) -> None:
        """Halve so large a share of the counters, those that come next."""
        self._due += min(share, 1.0) * SLOTS
        if self._due < 4096:
            return
        first, last = self._aged_to, min(self._aged_to + int(self._due), SLOTS)
        self.counts[first:last] = self.counts[first:last].translate(_HALVED)
        self._aged_to, self._due = last & MASK, 0.0


def _shared(path: Path) -> mmap.mmap | None:
    """Map the file into memory; None when it cannot be made, whole, on this disk."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        # A page of a hole in a file ends the process that touches it when the disk is full, so there must be none.
        os.posix_fallocate(file, 0, SLOTS)
        return mmap.mmap(file, SLOTS)
    except (OSError, ValueError, AttributeError):
        return None
    finally:
        os.close(file)
