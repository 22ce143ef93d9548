"""One worker process: claim, hand to the slots, settle what they finished, and the next claims with the same commit."""

import contextlib
import logging
import os
import random
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections

from backroom.clock import after
from backroom.tasks.announcements import Move, announce
from backroom.tasks.attempts import Attempt
from backroom.tasks.backends.base import Backend
from backroom.tasks.board import Board
from backroom.tasks.execution import Execution
from backroom.tasks.leases import Holding, Holdings, Keeper
from backroom.tasks.maintenance import tidy
from backroom.tasks.middleware import refresh_connections
from backroom.tasks.pool import Loop, Threads
from backroom.tasks.queries import backend_of
from backroom.tasks.records import RUNNING, Claim, Query, Worker
from backroom.tasks.resolve import UnknownTask, resolve
from backroom.tasks.stores.base import Request

logger = logging.getLogger("backroom.worker")

HOLD: Final = 0.1
"""Seconds of work that a process claims ahead; what it has not started after twice that goes back."""
MAX_AHEAD: Final = 500
"""Claims ahead of the slots at most, however short the tasks: it bounds what a crash interrupts."""
FLUSH: Final = 0.005
"""Seconds that a finished attempt waits for others to share its commit."""
TIDY: Final = 5.0
"""Seconds between two rounds of maintenance, give or take a half."""
STOP_PATIENCE: Final = 5.0
CHECK_MEMORY: Final = 5.0
AWAY_FIRST: Final = 0.1
AWAY_MOST: Final = 5.0
"""Seconds between two tries at a store that cannot be reached: doubled from the first to the most."""
BESIDE: Final = 10
"""Claims made for coroutines' sake while every thread is busy; what of them is for threads goes back."""

DONE: Final = 0
RECYCLE: Final = 75
"""Exit status of a process that asks to be replaced (EX_TEMPFAIL of sysexits.h)."""


class ProcessSettings(NamedTuple):
    """How one worker process is to work."""

    backend: str
    queues: tuple[str, ...]
    threads: int
    coroutines: int
    grace: float
    is_burst: bool
    max_tasks: int | None
    max_memory_growth: int | None
    parent: int | None
    """Stop when this process is gone."""


def new_worker_id() -> str:
    """Return an id for a worker process of this machine, new at every call."""
    return f"{socket.gethostname().replace(' ', '-')[:40]}:{os.getpid()}:{os.urandom(3).hex()}"


class WorkerProcess:
    """Works until it is told to stop. `run` belongs to the main thread of its process."""

    def __init__(self, settings: ProcessSettings, worker_id: str, board: Board) -> None:
        self.settings = settings
        self.worker_id = worker_id
        self.backend: Backend = backend_of(settings.backend)
        self._board = board
        self._holdings = Holdings()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._done: SimpleQueue[Attempt] = SimpleQueue()
        self._unsettled: list[Attempt] = []
        self._stops = 0
        self._finished = 0
        self._claimed_at = 0.0
        self._held_back_until = 0.0
        self._away_for = 0.0
        self._is_recycling = False
        self._threads = Threads(settings.threads, self._run, on_idle=self._ring)
        self._loop = Loop(settings.coroutines, self._arun, on_idle=self._ring)
        self._clerk = Clerk(self.backend)
        self._keeper = Keeper(
            self.backend, worker_id, self._holdings, board, on_beat=self._beat, on_tick=self._look_after_parent
        )
        self._started_at = self.backend.clock.now()
        self._memory = MemoryWatch(settings.max_memory_growth)

    def run(self) -> int:
        """Work; return the exit status."""
        keep_connections()
        listener = self.backend.listener(self._ring)
        self._threads.start()
        self._keeper.start()
        self._clerk.start()
        listener.start()
        try:
            self._feed()
            self._drain()
        finally:
            listener.stop()
            self._keeper.stop()
            self._threads.stop()
            self._loop.stop()
            self._forget()
            self._clerk.stop()
            connections.close_all()
        return RECYCLE if self._is_recycling and not self._stops else DONE

    def stop(self) -> None:
        """Stop claiming and finish what runs; called again, hand back at once. Safe in a signal handler."""
        self._stops += 1
        self._ring()

    def finish(self) -> None:
        """Stop claiming and finish what runs, however often it is called."""
        self._stops = max(1, self._stops)
        self._ring()

    def hand_back(self) -> None:
        """Stop at once, and hand back what runs."""
        self._stops = 2
        self._ring()

    @property
    def _is_stopping(self) -> bool:
        return self._stops > 0 or self._is_recycling

    # The main thread: claims out, attempts in.

    def _feed(self) -> None:
        while not self._is_stopping:
            room = self._room()
            claims = self._exchange(room)
            self._hand_out(claims)
            self._give_back()
            self._is_recycling = self._is_used_up()
            if self.settings.is_burst and self._is_idle and not claims:
                return
            if not claims or len(claims) < room:
                self._wait(is_idle=not claims)

    def _drain(self) -> None:
        """Finish what runs within the grace period, then hand the rest back."""
        deadline = time.monotonic() + self.settings.grace
        self._release(self._threads.take_back() + self._loop.take_back())
        while self._holdings and self._stops < 2 and time.monotonic() < deadline:
            self._exchange(0)
            if self._holdings:
                self._wait(is_idle=True)
        self._exchange(0)
        if self._holdings:
            logger.warning("action=handing_back tasks=%d", len(self._holdings))
            self._release(list(self._holdings.values()))
            self._exchange(0)

    def _room(self) -> int:
        """Return how many claims more the slots can start within `HOLD`."""
        if time.monotonic() < self._held_back_until:
            return 0
        ahead = min(MAX_AHEAD, int(HOLD / max(self._threads.pace.seconds, 1e-6)) * self._threads.count)
        self._threads.low = ahead // 3
        room = self._threads.count + ahead - (self._running - self._loop.running)
        return max(room, BESIDE if self._loop.has_room else 0)

    @property
    def _running(self) -> int:
        """How many claims have been handed out and not come back."""
        return len(self._holdings) - len(self._unsettled) - self._done.qsize()

    @property
    def _is_idle(self) -> bool:
        return not self._holdings and not self._away_for and time.monotonic() >= self._held_back_until

    def _is_used_up(self) -> bool:
        """Tell whether this process has done or grown as much as it may."""
        most = self.settings.max_tasks
        return (most is not None and self._finished >= most) or self._memory.has_grown()

    def _exchange(self, room: int) -> list[Claim]:
        """Settle what is done and claim up to `room` more, in one commit."""
        self._collect()
        request = self._request(room) if room > 0 else None
        if request is None and not self._unsettled:
            return []
        pending = [attempt.transition for attempt in self._unsettled if not attempt.is_applied and not attempt.is_lost]
        try:
            applied, claims = self.backend.store.exchange(pending, request)
        except Exception as error:  # noqa: BLE001 - whatever the driver raises when its server is away
            self._store_is_away(error)
            return []
        if self._away_for:
            self._store_is_back()
        self._settle(applied)
        return claims

    def _collect(self) -> None:
        try:
            while True:
                self._unsettled.append(self._done.get_nowait())
        except Empty:
            return

    def _request(self, room: int) -> Request:
        now = self.backend.clock.now()
        lease_until = after(now, self.backend.settings.lease)
        return Request(self.settings.queues, room, self.worker_id, now, lease_until)

    def _settle(self, applied: frozenset[str]) -> None:
        moves = []
        for attempt in self._unsettled:
            claim = attempt.claim
            if attempt.is_applied or claim.id in applied:
                moves.append(Move(claim, attempt.transition, attempt.result, attempt.exception))
            else:
                logger.warning("action=lease_lost task_id=%s path=%s", claim.id, claim.task_path)
        self._holdings.drop([attempt.claim.id for attempt in self._unsettled])
        self._finished += len(self._unsettled)
        self._unsettled = []
        self._clerk.announce(moves)

    def _hand_out(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        self._claimed_at = time.monotonic()
        for_threads: list[Holding] = []
        for_loop: list[Holding] = []
        for holding in self._holdings.take(claims):
            (for_loop if self._is_coroutine(holding) else for_threads).append(holding)
        self._threads.put(for_threads)
        self._loop.put(for_loop)

    def _is_coroutine(self, holding: Holding) -> bool:
        try:
            holding.resolved = resolve(holding.claim, self.backend.defaults)
        except UnknownTask:
            # A slot finds that out again, and says it where errors are recorded.
            return False
        return holding.resolved.is_coroutine

    def _give_back(self) -> None:
        """Return what the slots did not come to: another worker may have a slot free."""
        if time.monotonic() - self._claimed_at < 2 * HOLD:
            return
        unstarted = self._threads.take_back() + self._loop.take_back()
        if unstarted:
            self._release(unstarted)
            self._threads.pace.seconds = max(self._threads.pace.seconds, HOLD)
            # Without the pause this process would claim the same tasks again at once.
            self._held_back_until = time.monotonic() + HOLD

    def _release(self, holdings: Sequence[Holding]) -> None:
        for holding in holdings:
            transition = self.backend.attempts.released(holding.claim)
            self._done.put(Attempt(holding.claim, transition))

    def _wait(self, *, is_idle: bool) -> None:
        """Sleep until a slot or an enqueue rings, or until something is due."""
        if self._away_for:
            timeout = self._away_for
        elif self._unsettled or not self._done.empty():
            timeout = FLUSH
        elif is_idle or not self._threads.unstarted:
            timeout = self.backend.settings.poll
        else:
            timeout = HOLD
        with contextlib.suppress(Empty):
            self._wake.get(timeout=timeout)
            if not self._done.empty() and self._running > 0 and not self._is_stopping:
                # Others will be done in a moment, and one commit can serve them all.
                time.sleep(FLUSH)
            while True:
                self._wake.get_nowait()

    def _ring(self) -> None:
        self._wake.put(None)

    # The store's absences, and the life signs of this process.

    def _store_is_away(self, error: Exception) -> None:
        if not self._away_for:
            logger.error("action=store_away reason=%r: waiting for it to return", str(error).strip())
        self._away_for = min(AWAY_MOST, max(AWAY_FIRST, 2 * self._away_for))
        connections.close_all()

    def _store_is_back(self) -> None:
        self._away_for = 0.0
        logger.warning("action=store_back")
        self._recover()

    def _recover(self) -> None:
        """Give back claims whose commit succeeded although its confirmation never arrived."""
        query = Query(states=(RUNNING,), worker_id=self.worker_id)
        orphans = [
            record for record in self.backend.store.find(query, limit=1000).records if record.id not in self._holdings
        ]
        self.backend.store.apply([self.backend.attempts.released(orphan) for orphan in orphans])

    def _forget(self) -> None:
        with contextlib.suppress(Exception):
            # A store that is away forgets by itself: silent workers are taken for gone.
            self.backend.store.forget([self.worker_id])

    def _beat(self) -> None:
        self.backend.store.beat(
            [
                Worker(
                    id=self.worker_id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    queues=self.settings.queues,
                    threads=self.settings.threads,
                    started_at=self._started_at,
                    seen_at=self.backend.clock.now(),
                    running=sum(1 for holding in list(self._holdings.values()) if holding.execution),
                )
            ]
        )

    def _look_after_parent(self) -> None:
        if self.settings.parent is not None and os.getppid() != self.settings.parent and not self._stops:
            logger.warning("action=parent_gone: finishing what runs")
            self.finish()

    # The slots: from a holding to an attempt.

    def _run(self, holding: Holding, place: int) -> None:
        refresh_connections()
        try:
            begun = self.backend.attempts.begin(holding.claim, holding.resolved)
            if isinstance(begun, Execution):
                self._watch(holding, begun, place)
                begun = self.backend.attempts.run(begun)
        except KeyboardInterrupt:
            # No signal reaches this thread: the task raised it, and means no more than to be left alone.
            begun = Attempt(holding.claim, self.backend.attempts.released(holding.claim))
        except Exception as error:
            logger.exception("action=slot_failed task_id=%s", holding.claim.id)
            begun = self.backend.attempts.failed(holding.claim, error)
        self._unwatch(holding, begun)

    async def _arun(self, holding: Holding, place: int) -> None:
        try:
            begun = self.backend.attempts.begin(holding.claim, holding.resolved)
            if isinstance(begun, Execution):
                self._watch(holding, begun, place + self.settings.threads)
                begun = await self.backend.attempts.arun(begun)
        except Exception as error:
            logger.exception("action=slot_failed task_id=%s", holding.claim.id)
            begun = self.backend.attempts.failed(holding.claim, error)
        if begun.exception is not None:
            # Its connections are those of asgiref's thread, and one of them may be broken.
            await sync_to_async(close_old_connections)()
        self._unwatch(holding, begun)

    def _watch(self, holding: Holding, execution: Execution, place: int) -> None:
        holding.place = place
        timeout = execution.resolved.timeout
        if timeout is not None:
            holding.soft_at = time.monotonic() + timeout
            holding.hard_at = holding.soft_at + self.backend.settings.timeout_grace
        self._board.post(place, holding.claim.id, holding.hard_at)
        holding.execution = execution

    def _unwatch(self, holding: Holding, attempt: Attempt) -> None:
        holding.execution = None
        self._board.clear(holding.place)
        is_first = self._done.empty()
        self._done.put(attempt)
        if is_first:
            self._ring()


class Clerk:
    """A thread for what may take its time: telling the world what became of tasks, and maintenance."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._moves: SimpleQueue[list[Move] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="backroom-clerk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def announce(self, moves: list[Move]) -> None:
        """Announce moves, in their order, before long."""
        if moves:
            self._moves.put(moves)

    def stop(self) -> None:
        """Announce what is left and end the thread."""
        self._moves.put(None)
        self._thread.join(timeout=STOP_PATIENCE)

    def _work(self) -> None:
        tidy_at = time.monotonic() + _spread(TIDY)
        while True:
            try:
                moves = self._moves.get(timeout=max(0.0, tidy_at - time.monotonic()))
            except Empty:
                self._guarded(lambda: tidy(self._backend, self._backend.clock.now()))
                tidy_at = time.monotonic() + _spread(TIDY)
                continue
            if moves is None:
                connections.close_all()
                return
            self._guarded(lambda: announce(moves, sender=type(self._backend), defaults=self._backend.defaults))  # noqa: B023 - called at once

    def _guarded(self, work: Callable[[], None]) -> None:
        refresh_connections()
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the store may be away; the next round does what this one could not
            logger.debug("action=clerk_failed reason=%r", str(error))
            connections.close_all()


class MemoryWatch:
    """Tells when this process has grown by more than it may since it had warmed up."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._first: int | None = None
        self._next_at = time.monotonic() + CHECK_MEMORY

    def has_grown(self) -> bool:
        """Tell whether the growth is more than allowed; looks every few seconds only."""
        if self._most is None or time.monotonic() < self._next_at:
            return False
        self._next_at = time.monotonic() + CHECK_MEMORY
        now = resident_bytes()
        if self._first is None:
            self._first = now
        return now - self._first > self._most


def resident_bytes() -> int:
    """Return the resident set size of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        # Without /proc there is only the highest size so far; macOS counts it in bytes, others in kilobytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def keep_connections() -> None:
    """Keep each thread's database connections from task to task, checked for health when next used."""
    for alias in connections:
        settings = connections.settings[alias]
        if not settings.get("OPTIONS", {}).get("pool"):
            settings["CONN_MAX_AGE"] = None
            settings["CONN_HEALTH_CHECKS"] = True


def _spread(seconds: float) -> float:
    """Return about so many seconds, so that many processes do not do the same thing at the same time."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
