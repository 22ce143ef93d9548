"""How often, and how lately, keys were asked for, kept in memory that all processes share, so that reading writes nothing.

A key's slot is in its id; there are a million of them. In a slot's lowest bits is a count, and above it a mark that says who
chose to forget a key of this slot; in its other byte the turn in which it was asked for last. Keys that are not there count
too: what is asked for again and again should stay once it is stored. As a slot may be another key's as well, and two processes
may count at once, all this is an estimate; all it decides is what to forget. (TinyLFU's idea: Einziger, Friedman and Manes,
"TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 13, 2017.)
"""

import mmap
import os
import random
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from backroom.cache.folders import make_private

SLOTS: Final = 1 << 20
MASK: Final = SLOTS - 1
MOST: Final = 15
"""The highest count, and the bits of it."""
MARK: Final = MOST + 1
"""The lowest bit of a mark."""
MARKS: Final = MARK * 15
"""The bits of a mark."""
ROUND: Final = 256
"""After so many turns their numbers come again."""
SEEN: Final = 0xFFFF - MARKS
"""The bits that say how often and when."""
FULL: Final = SLOTS
"""Behind all slots: the bits that one has which there is nothing to add to, so this turn's number and the highest count."""

LIVES: Final = 4
"""After so many times as many writes as there are entries, every count has been halved, and every mark is gone."""
TURNS: Final = 4
"""In so many turns as many entries are written as there are."""

AT_ONCE: Final = 4096
"""The fewest slots that are worth ageing together."""

BYTES: Final = 2 * (SLOTS + 1)

_COUNT: Final = 0 if sys.byteorder == "little" else 1
"""Which byte of a slot the count is in."""
_HALVED: Final = bytes((byte & MOST) >> 1 for byte in range(256))


class Demand:
    """The counters beside one cache file: in the file of that name with `-demand` after it, if that can be had."""

    def __init__(self, path: Path) -> None:
        self.bytes: mmap.mmap | bytearray = _shared(path) or bytearray(BYTES)
        self.slots = memoryview(self.bytes).cast("H")
        # Of a file that is new, or that somebody wrote into.
        self.slots[FULL] |= MOST
        self.slots[FULL] &= SEEN
        self.begin()

    def begin(self) -> None:
        """Begin to age them anywhere, as each process does: where many write a little each, all slots must have their turn."""
        self._aged_to = random.randrange(SLOTS)  # noqa: S311 - no secret
        self._due = random.uniform(0, AT_ONCE)  # noqa: S311
        self._turns_due = random.random()  # noqa: S311

    def note(self, id_: int) -> None:
        """Count that a key was asked for."""
        self.note_all((id_,))

    def note_all(self, ids: Iterable[int]) -> None:
        """Count that several keys were asked for."""
        slots = self.slots
        # Anybody may write into these, at any time: its other bits are not relied on, and right again with the next turn.
        turn = slots[FULL] // ROUND * ROUND
        full = turn | MOST
        for id_ in ids:
            if (slot := slots[id_ & MASK]) & SEEN != full:
                count = slot & MOST
                slots[id_ & MASK] = turn | slot & MARKS | count + (count < MOST)

    def of(self, id_: int) -> int:
        """Return how often a key was asked for lately."""
        return self.slots[id_ & MASK] & MOST

    def idle(self, id_: int) -> int:
        """Return how many turns ago a key was asked for last."""
        return (self.turn - self.slots[id_ & MASK] // ROUND) % ROUND

    @property
    def turn(self) -> int:
        """The number of this turn."""
        return self.slots[FULL] // ROUND

    def begin_turn(self) -> None:
        """Begin the next one."""
        self.slots[FULL] = (self.turn + 1) % ROUND * ROUND | MOST

    def mark(self, id_: int, mark: int) -> None:
        """Leave a mark, from 0 to 15, that `marks_of` finds until the counts have aged."""
        slot = id_ & MASK
        self.slots[slot] = self.slots[slot] & SEEN | mark * MARK

    def marks_of(self, ids: Iterable[int]) -> Iterator[int]:
        """Yield the marks of these keys, and take them away."""
        slots = self.slots
        for id_ in ids:
            if marks := (slot := slots[id_ & MASK]) & MARKS:
                slots[id_ & MASK] = slot & SEEN
                yield marks // MARK

    def age(self, share: float) -> None:
        """Take in that so large a share of the entries was written."""
        self._turns_due += min(share, 1.0) * TURNS
        while self._turns_due >= 1:
            self._turns_due -= 1
            self.begin_turn()
        self._due += min(share / LIVES, 1.0) * SLOTS
        while self._due >= AT_ONCE:
            self._age_slots()

    def _age_slots(self) -> None:
        """Halve the counts of the slots that are due, as far as the last one."""
        first, last = self._aged_to, min(self._aged_to + int(self._due), SLOTS)
        place = slice(2 * first, 2 * last)
        aged = bytearray(self.bytes[place])
        for byte, table in ((_COUNT, _HALVED), (1 - _COUNT, _no_older_than_half_a_round(self.turn))):
            aged[byte::2] = aged[byte::2].translate(table)
        self.bytes[place] = aged
        self._aged_to, self._due = last & MASK, self._due - (last - first)


@cache
def _no_older_than_half_a_round(turn: int) -> bytes:
    # Before a slot seems to be of a turn to come, for their numbers come again.
    return bytes(noted if (turn - noted) % ROUND < 128 else (turn - 127) % ROUND for noted in range(ROUND))


def open_counters(path: Path) -> int | None:
    """Open the counters of a cache file; None when they cannot be had."""
    try:
        # The first process of all is here before its first entry makes the folder, and what it counts is the others' too.
        make_private(path.parent)
        return os.open(path.with_name(f"{path.name}-demand"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _shared(path: Path) -> mmap.mmap | None:
    """Map the counters into memory; None when they cannot be made, whole, on this disk."""
    if (file := open_counters(path)) is None:
        return None
    try:
        # A page of a hole in a file ends the process that touches it when the disk is full, so there must be none.
        os.posix_fallocate(file, 0, BYTES)
        return mmap.mmap(file, BYTES)
    except (OSError, ValueError, AttributeError):
        return None
    finally:
        os.close(file)
