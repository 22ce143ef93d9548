"""What a full cache forgets, decided from a sample; and how many entries there are, estimated from samples. Pure.

A hand goes round the table, whose order is that of a hash, so each stretch is a random sample. Of every stretch the
entries that were asked for least often go first, those that expire sooner before those that expire later. One scan of keys
that nobody asks for twice therefore pushes out other such keys, and not what is in use.
"""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import nsmallest
from typing import Final

IDS: Final = 2**64
KEPT_SAMPLES: Final = 16
MOST_GROWTH: Final = 0.125


type Entry = tuple[int, int]
"""What a sample tells of an entry: its id, and when it expires."""


def expired(sample: Sequence[Entry], now: int) -> list[int]:
    """Return the ids of what has expired."""
    return [id_ for id_, expires_at in sample if expires_at <= now]


def least_asked_for(sample: Sequence[Entry], count: int, demand: Callable[[int], int]) -> list[int]:
    """Return the ids of so many entries that are the least loss."""
    ranked = nsmallest(count, ((demand(id_), expires_at, id_) for id_, expires_at in sample))
    return [id_ for _, _, id_ in ranked]


class Census:
    """Estimates the number of entries from how densely the last samples lay, which takes no COUNT(*).

    Of 2,000 entries seen, the estimate is off by 2 or 3 in a hundred; when one sample is the whole table it is exact.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int, int]] = deque(maxlen=KEPT_SAMPLES)

    def note(self, rows: int, span: int, written: int) -> None:
        """Take in that so many entries are left in a stretch of so many ids, after so many writes in all."""
        if span >= IDS or (self._samples and self._samples[-1][1] >= IDS):
            # One that was the whole table would outweigh all others for long.
            self._samples.clear()
        self._samples.append((rows, span, written))
        # Nor may the samples be older than the table: it has grown by at most what was written since.
        while len(self._samples) > 1 and written - self._samples[0][2] > self.entries * MOST_GROWTH:
            self._samples.popleft()

    @property
    def entries(self) -> float:
        """Return the estimate."""
        spans = sum(span for _, span, _ in self._samples)
        return sum(rows for rows, _, _ in self._samples) * (IDS / spans) if spans else 0.0
