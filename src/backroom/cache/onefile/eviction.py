"""What a full cache forgets, decided from a sample; and how many entries there are, estimated from samples. Pure.

A hand goes round the table, whose order is that of a hash, so each stretch is a random sample. Of every stretch the
entries go that were asked for least often, or those that were asked for longest ago: whichever serves this cache better.
By the first way a scan of keys that nobody asks for twice pushes out other such keys, and not what is in use; the second
does better where popularity moves on faster than counts fade.
"""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import nsmallest
from typing import Final

IDS: Final = 2**64
KEPT_SAMPLES: Final = 16
MOST_GROWTH: Final = 0.125
COMPARED: Final = 4096
"""The most choices of each rival that are remembered."""
ONE_IN: Final = 32
"""Of what the rivals do not agree on, one in so many is the choice of the one that does worse."""
HANDICAP: Final = 0.8
"""The second rival is the better one only if of its choice this share of the first one's, or less, is stored again: it forgets what
was asked for often, and that may come back later than a mark lasts."""


type Entry = tuple[int, int]
"""What a sample tells of an entry: its id, and when it expires."""


def expired(sample: Sequence[Entry], now: int) -> list[int]:
    """Return the ids of what has expired."""
    return [id_ for id_, expires_at in sample if expires_at <= now]


def least_asked_for(sample: Sequence[Entry], count: int, demand: Callable[[int], int]) -> list[int]:
    """Return the ids of so many entries that are the least loss, of equals those that expire first."""
    ranked = nsmallest(count, ((demand(id_), expires_at, id_) for id_, expires_at in sample))
    return [id_ for _, _, id_ in ranked]


def longest_idle(
    sample: Sequence[Entry], count: int, idle: Callable[[int], int], demand: Callable[[int], int]
) -> list[int]:
    """Return the ids of so many entries that were asked for longest ago, of equals those that were least often."""
    ranked = nsmallest(count, ((-idle(id_), demand(id_), expires_at, id_) for id_, expires_at in sample))
    return [id_ for *_, id_ in ranked]


class Rivals:
    """Two ways to choose what to forget, and which of them does better: that of whose choice, clearly, less is stored again.

    What both would forget goes first. Of the rest most are the choice of the better one, and one in so many the choice of
    the other, so that it goes on being compared. (The idea of learning from what comes back is that of ARC, Megiddo and
    Modha, FAST 2003, and of LeCaR, Vietri and others, HotStorage 2018.)
    """

    def __init__(self) -> None:
        # They begin alike, and with some weight, so that the first few to come back decide nothing.
        self._forgotten = [COMPARED / 16] * 2
        self._back = [COMPARED / 32] * 2
        self._tried = 0

    @property
    def best(self) -> int:
        """Return the place of the better one; the first where they are not far apart."""
        shares = [back / forgotten for back, forgotten in zip(self._back, self._forgotten, strict=True)]
        return int(shares[1] < shares[0] * HANDICAP)

    def choose(self, one: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
        """Return what to forget of what the rivals would, as much as each; and whose choice it is: 1, 2, or 0 for both's."""
        choices = (one, other)
        both = set(one) & set(other)
        apart = [[id_ for id_ in choice if id_ not in both] for choice in choices]
        wanted = len(apart[0])
        self._tried += wanted
        tries, self._tried = divmod(self._tried, ONE_IN)
        best = self.best
        gone = [(id_, 0) for id_ in both]
        for place, count in ((best, wanted - tries), (1 - best, tries)):
            gone += [(id_, place + 1) for id_ in apart[place][:count]]
            self._forgotten[place] += count
            if self._forgotten[place] > COMPARED:
                # What was long ago counts less and less.
                self._forgotten[place] /= 2
                self._back[place] /= 2
        return gone

    def came_back(self, mark: int) -> None:
        """Take in that something is stored again that one of them had chosen."""
        # The marks are in a file that anybody may have written into.
        if mark <= len(self._back):
            self._back[mark - 1] += 1


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
