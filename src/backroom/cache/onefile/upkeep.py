"""What keeps a cache file in its bounds: a bounded step every few writes, and checkpoints in a thread.

A step looks at a stretch of the table, deletes what has expired in it, and, when the cache is over its budget, what is the
least loss. It takes a tenth of a millisecond, which is less than handing it to a thread would cost. Only a checkpoint
waits for the disk, so a thread does it.
"""

import math
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from backroom.cache.lifetimes import now
from backroom.cache.onefile.demand import Demand
from backroom.cache.onefile.eviction import IDS, Census, Entry, Rivals, expired, least_asked_for, longest_idle
from backroom.cache.onefile.failures import is_locked
from backroom.cache.onefile.layout import address_of
from backroom.cache.onefile.links import Link
from backroom.cache.onefile.statements import (
    AT_ONCE,
    FIRST_ID,
    LAST_ID,
    PAGE_BYTES,
    PAGES,
    SWEEP,
    delete_expired,
    delete_many,
)
from backroom.cache.onefile.turns import OPENED, turn

WRITES_A_STEP: Final = 512
ROOM_TO_WAIT_FOR: Final = 1 / 8
"""The share of the room that one process takes before it looks again: others take theirs meanwhile."""
SAMPLE: Final = 64
WRITES_A_STEP_WHEN_FULL: Final = 32
SAMPLE_WHEN_FULL: Final = 128
SHARE_TO_FORGET: Final = 0.25
"""The most of a sample that is forgotten: beyond it, what is in use would go too."""
SMALL: Final = 256
STEPS_AT_ONCE: Final = 8
CHECKPOINT_SHARE: Final = 32
LEAST_CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
MOST_CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
CHECKPOINT_SECONDS: Final = 1.0
LONGER: Final = 1.25
"""The writers themselves see to a log that is as long as it may be. To one that is so many times as long they could not."""
HOLDING_SECONDS: Final = 0.25
"""How long writers are kept waiting at most, where a reader does not end or the disk is slow."""
READING_SECONDS: Final = 0.001
NAP: Final = 0.0001
LOG_CHECKPOINTS: Final = 8
"""The log is as long as what so many checkpoints bring into the file, where those who write leave them no pause."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a cache file may hold: bytes on the disk, entries, or either."""

    max_bytes: int | None = None
    max_entries: int | None = None

    @property
    def checkpoint_bytes(self) -> int:
        """How much is written before a thread brings it into the file.

        The pages of a large cache are written to its file one by one, of a small one again and again the same: the more is
        waited for, the fewer are written twice. A reader who has no page yet looks through what waits.
        """
        share = (self.max_bytes or MOST_CHECKPOINT_BYTES * CHECKPOINT_SHARE) // CHECKPOINT_SHARE
        return min(max(share, LEAST_CHECKPOINT_BYTES), MOST_CHECKPOINT_BYTES)

    @property
    def log_bytes(self) -> int:
        """How long the log may grow; and how much of the file a process keeps in memory, so that it finds what is in use there."""
        return LOG_CHECKPOINTS * self.checkpoint_bytes


class Upkeep:
    """One process's share in the upkeep of a file."""

    def __init__(self, path: Path, budget: Budget, demand: Demand) -> None:
        self.budget = budget
        self.demand = demand
        self.census = Census()
        self.rivals = Rivals()
        self.hand = random.randrange(FIRST_ID, LAST_ID)  # noqa: S311 - no secret
        # Of a small cache every write counts, so that it never has more than it may.
        self._room = min(WRITES_A_STEP_WHEN_FULL, max(1, (budget.max_entries or 2**30) // 32))
        # And it is looked at as a whole, so that it is known exactly.
        small = budget.max_entries is not None and budget.max_entries <= SMALL
        self._sample = SMALL + SAMPLE if small else SAMPLE
        # A process looks round at its first write.
        self._every = 0
        self._writes = 0
        self._written = 0
        self._excess = 0.0
        self._stepping = threading.Lock()
        self._checkpoints = _Checkpoints(path, budget)

    def wrote(self, link: Link, ids: Sequence[int], payload_bytes: int) -> None:
        """Take in that so much was written, and do the steps that are due."""
        entries = len(ids)
        for mark in self.demand.marks_of(ids):
            self.rivals.came_back(mark)
        self._checkpoints.wrote(entries * PAGE_BYTES + payload_bytes)
        self._writes += entries
        self._written += entries
        if self._writes < self._every or not self._stepping.acquire(blocking=False):
            return
        try:
            writes = self._writes
            for _ in range(min(writes // max(self._every, 1), STEPS_AT_ONCE) or 1):
                self.step(link)
            if self._excess > self._room * 2:
                # As much comes as one step lets go: another one, to catch up.
                self.step(link)
            self.demand.age(writes / max(self.census.entries, SAMPLE))
            # Only now: steps that met another process's lock are due at the next write.
            self._writes -= writes
        finally:
            self._stepping.release()

    def step(self, link: Link) -> None:
        """Look at the next stretch of the table and forget what should be forgotten."""
        limit = self._sample if self._excess <= 0 else max(self._sample, SAMPLE_WHEN_FULL)
        sample = link.ask(SWEEP, (self.hand, limit)).fetchall()
        span = (sample[-1][0] if len(sample) == limit else LAST_ID) - self.hand
        is_whole = span >= IDS - 1
        moment = now()
        dead = expired(sample, moment)
        self.census.note(len(sample) - len(dead), IDS if is_whole else max(span, 1), self._written)
        self._excess = self._measure(link)
        for some in _batches(dead):
            # Another process may have stored one anew by now: a lock, say.
            link.ask(delete_expired(len(some)), (*some, moment))
        if self._excess > 0:
            gone = set(dead)
            left = [entry for entry in sample if entry[0] not in gone]
            most = len(left) if is_whole else math.ceil(len(left) * SHARE_TO_FORGET)
            self._forget(link, left, min(math.ceil(self._excess), most))
        self.hand = FIRST_ID if len(sample) < limit else sample[-1][0]
        # While there is room, the next look can wait until some of it is taken.
        self._every = min(max(self._room, int(-self._excess * ROOM_TO_WAIT_FOR)), WRITES_A_STEP)

    def wait_for_checkpoint(self, seconds: float) -> bool:
        """Wait until no thread of this process brings anything into the file; tell whether it was so in time."""
        return self._checkpoints.wait(seconds)

    def _forget(self, link: Link, sample: Sequence[Entry], count: int) -> None:
        demand = self.demand
        chosen = self.rivals.choose(
            least_asked_for(sample, count, demand.of), longest_idle(sample, count, demand.idle, demand.of)
        )
        for some in _batches([id_ for id_, _ in chosen]):
            link.ask(delete_many(len(some)), some)
        for id_, mark in chosen:
            demand.mark(id_, mark)

    def estimate(self, link: Link) -> float:
        """Return how many entries there are, about, after looking at a stretch more."""
        with self._stepping:
            self.step(link)
            return self.census.entries

    def _measure(self, link: Link) -> float:
        """Return how many entries too many there are, room for those of the next writes included."""
        entries = self.census.entries
        excess = -WRITES_A_STEP / ROOM_TO_WAIT_FOR
        if self.budget.max_entries is not None:
            excess = entries - (self.budget.max_entries - self._room)
        if self.budget.max_bytes is not None:
            used: int = link.ask(PAGES).fetchone()[0] * PAGE_BYTES
            # A page is used or it is not, so this budget has some slack of its own.
            entry = max(used / max(entries, 1), 1)
            excess = max(excess, (used + self._room * entry - self.budget.max_bytes) / entry)
        return excess


def _has_lock(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not is_locked(error):
            raise
    return connection.in_transaction


def _has_all_in_the_file(connection: sqlite3.Connection) -> bool:
    # Another thread may be at it, or a writer, and then it says that it was busy.
    is_busy, pages, brought = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return not is_busy and pages == brought


def _in_time(seconds: float, succeeds: Callable[[sqlite3.Connection], bool], connection: sqlite3.Connection) -> bool:
    deadline = monotonic() + seconds
    while not succeeds(connection):
        if monotonic() > deadline:
            return False
        # SQLite itself would nap for so long that others always come first.
        sleep(NAP)
    return True


def _batches(ids: list[int]) -> Iterator[list[int]]:
    return (ids[first : first + AT_ONCE] for first in range(0, len(ids), AT_ONCE))


class _Checkpoints:
    """Brings what was written from the log into the file, when there is enough of it."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self._path = path
        self._every = budget.checkpoint_bytes
        self._longest = budget.log_bytes
        self._bytes = 0
        self._running = threading.Lock()
        self._not_before = 0.0
        self._is_awaited = False

    def wrote(self, written: int) -> None:
        self._bytes += written
        if self._bytes >= self._every and self._running.acquire(blocking=False):
            self._bytes = 0
            try:
                threading.Thread(target=self._run, name="backroom-cache-checkpoint", daemon=True).start()
            except RuntimeError:
                # No thread can be started while the interpreter ends.
                self._running.release()

    def wait(self, seconds: float) -> bool:
        # Who forks does not wait for more than what has begun.
        self._is_awaited = True
        try:
            is_free = self._running.acquire(timeout=max(seconds, 0))
        finally:
            self._is_awaited = False
        if is_free:
            self._running.release()
        return is_free

    def _run(self) -> None:
        try:
            # A checkpoint that cannot be done now is done by the next, or by SQLite itself when the log is long. While the
            # interpreter ends, no thread can be started.
            with (
                suppress(sqlite3.Error, OSError, RuntimeError),
                closing(self._connected()) as connection,
            ):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                if not self._is_awaited and monotonic() > self._not_before and self._is_log_too_long():
                    self._begin_log_anew(connection)
        finally:
            self._running.release()

    def _is_log_too_long(self) -> bool:
        # SQLite names it after the file, not after a link to it, and cuts it where it begins anew.
        log = Path(f"{self._path.resolve()}-wal")
        return log.stat().st_size > self._longest * LONGER

    def _begin_log_anew(self, connection: sqlite3.Connection) -> None:
        """Have the next writer begin the log anew. Where writers take turns there is no moment in which all of it is in the file.

        So they wait meanwhile, for no longer than `HOLDING_SECONDS`: the disk takes what it was given since all of it was there last.
        """
        self._not_before = monotonic() + random.uniform(1, 3)  # noqa: S311 - so that processes do not all try again at once
        with closing(self._connected()) as keeper:
            keeper.execute("PRAGMA busy_timeout = 0")
            if not _in_time(CHECKPOINT_SECONDS, _has_lock, keeper):
                return
            # A wait for the disk cannot be broken off. What it was given by then, the next time need not wait for.
            release = threading.Timer(HOLDING_SECONDS, keeper.rollback)
            release.start()
            try:
                if _in_time(HOLDING_SECONDS, _has_all_in_the_file, connection):
                    # Until those have read who still read in the log: new readers find all in the file.
                    sleep(READING_SECONDS)
                    self._not_before = 0.0
            finally:
                release.cancel()
                release.join()

    def _connected(self) -> sqlite3.Connection:
        with turn(self._path, OPENED):
            connection = sqlite3.connect(
                address_of(self._path), uri=True, timeout=CHECKPOINT_SECONDS, check_same_thread=False
            )
            # To ask for anything opens the log as well.
            connection.execute("PRAGMA user_version")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection
