"""One worker process: claim, hand to the slots, settle what they finished, and the next claims with the same commit."""

import contextlib
import logging
import math
import os
import random
import socket
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from django.db import connections

from backroom.clock import after
from backroom.tasks.absences import Absences
from backroom.tasks.announcements import Move
from backroom.tasks.attempts import Attempt
from backroom.tasks.backends.base import Backend
from backroom.tasks.bell import REST, Bell, Woken
from backroom.tasks.board import Board
from backroom.tasks.clerk import Clerk
from backroom.tasks.judge import Judge
from backroom.tasks.leases import TICK, Holding, Holdings, Keeper, Watcher, still_held
from backroom.tasks.maintenance import tidy
from backroom.tasks.memory import MemoryWatch
from backroom.tasks.pool import Loop, Threads
from backroom.tasks.queries import backend_of
from backroom.tasks.records import RUNNING, Claim, Query, Record, Transition, hold_of
from backroom.tasks.rounds import Rounds
from backroom.tasks.slots import Slots
from backroom.tasks.stores.base import Request, pages_of

logger = logging.getLogger("backroom.worker")

HOLD: Final = 0.1
"""Seconds of work that a process claims ahead; what it has not started after twice that goes back."""
MAX_AHEAD: Final = 500
"""Claims ahead of the slots at most, however short the tasks: it bounds what a crash interrupts."""
FLUSH: Final = 0.005
"""Seconds that a finished attempt waits for others to share its commit."""
ASKED: Final = 10.0
"""Seconds after which a process looks after a listener that was to bring claims, and says when it has none."""
TIDY: Final = 5.0
"""Seconds between two rounds of maintenance, give or take a half."""
BURST_PATIENCE: Final = 30.0
"""Seconds for which a burst waits for a store that is away, once nothing runs: who started it, or what, is to hear of that."""
BESIDE: Final = 10
"""Claims made for coroutines' sake while every thread is busy; what of them is for threads goes back."""

DONE: Final = 0
RECYCLE: Final = 75
"""Exit status of a process that asks to be replaced (EX_TEMPFAIL of sysexits.h)."""
GAVE_UP: Final = 69
"""Exit status of a burst whose store stayed away (EX_UNAVAILABLE)."""


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
        self._judge = Judge(worker_id, holds=lambda claim: hold_of(claim) in self._holdings)
        self._absences = Absences(self.backend.settings.lease)
        self._bell = Bell()
        self._listener = self.backend.listener()
        self._done: SimpleQueue[Attempt] = SimpleQueue()
        self._unsettled: list[Attempt] = []
        self._stops = 0
        self._finished = 0
        self._is_expecting = True
        self._is_rung = False
        self._asked = 0
        self._held_back_until = 0.0
        self._has_given_up = False
        self._is_recycling = False
        self._slots = Slots(self.backend, board, settings.threads, on_done=self._take_in)
        self._threads = Threads(settings.threads, self._slots.run, on_idle=self._ring)
        self._loop = Loop(settings.coroutines, self._slots.arun, on_idle=self._ring)
        self._clerk = Clerk(self.backend)
        self._unavailable = self.backend.store.unavailable
        self._watcher = Watcher(self._holdings, board, cancel_grace=self.backend.settings.cancel_grace)
        self._keeper = Keeper(self.backend, worker_id, self._holdings, queues=settings.queues, threads=settings.threads)
        self._rounds = (
            Rounds("watcher", self._look, seconds=lambda: TICK),
            Rounds("keeper", self._keeper.keep, seconds=lambda: TICK),
            Rounds("tidy", self._tidy, seconds=lambda: random.uniform(TIDY / 2, TIDY * 3 / 2)),  # noqa: S311 - spreads the load
        )
        self._memory = MemoryWatch(settings.max_memory_growth)

    def run(self) -> int:
        """Work; return the exit status."""
        keep_connections()
        self._threads.start()
        self._clerk.start()
        for rounds in self._rounds:
            rounds.start()
        self._listener.open()
        try:
            self._feed()
            self._drain()
        finally:
            self._listener.close()
            self._clerk.stop()
            for rounds in self._rounds:
                rounds.stop()
            self._threads.stop()
            self._loop.stop()
            # Last, so that the attempts which go on in this process overlap as little as can be with their next ones.
            self._hand_back()
            self._bell.close()
            connections.close_all()
        if self._has_given_up:
            return GAVE_UP
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
        may_be_more = True
        while not self._is_stopping:
            room = self._room()
            # What a ring told of is claimed alone, which takes the store least; what else there may be comes next.
            wanted = min(room, 1 if self._is_rung else room) if may_be_more else 0
            claims = self._exchange(wanted)
            if self._is_rung or len(claims) < wanted:
                self._hand_out_last(claims)
            else:
                self._hand_out(claims)
            self._give_back()
            self._is_recycling = self._is_used_up()
            # With no room nothing was asked for, and slots may have ended everything since there was none.
            if self.settings.is_burst and self._is_idle and wanted > 0 and not claims:
                return
            if self.settings.is_burst and self._has_waited_in_vain():
                self._give_up()
                return
            is_full = 0 < wanted <= len(claims)
            self._is_expecting, self._is_rung = is_full and not self._is_rung, False
            may_be_more = True
            if not is_full:
                self._is_expecting = self._wait(room - len(claims)) == "heard"
                may_be_more = self._take_brought()
                self._is_rung = self._is_expecting and not self._holdings

    def _drain(self) -> None:
        """Finish what runs: within the grace period when told to stop, however long it takes when recycling."""
        unstarted = self._holdings.take(self._listener.call_back())
        self._release(unstarted + self._threads.take_back() + self._loop.take_back())
        deadline = math.inf
        while self._holdings and self._stops < 2 and time.monotonic() < deadline:
            if self._stops and deadline == math.inf:
                deadline = time.monotonic() + self.settings.grace
            self._exchange(0)
            if self._holdings:
                self._wait()
        self._exchange(0)

    def _hand_back(self) -> None:
        """Give back what still runs, and take leave of the store."""
        left = [self.backend.attempts.released(holding.claim) for holding in self._holdings.values()]
        with contextlib.suppress(Exception):
            # A store that is away finds out by itself: leases run out, silent workers are taken for gone.
            if left:
                logger.warning("action=handing_back tasks=%d", len(left))
                self.backend.store.apply(left)
                self.backend.wake()
            self.backend.store.forget([self.worker_id])

    def _room(self) -> int:
        """Return how many claims more the slots can start within `HOLD`, beside those that the listener may bring."""
        if time.monotonic() < self._held_back_until:
            return 0
        ahead = min(MAX_AHEAD, int(HOLD / max(self._threads.pace.seconds, 1e-6)) * self._threads.count)
        self._threads.low = ahead // 3
        room = self._threads.count + ahead - (self._running - self._loop.running)
        is_beside = self._loop.has_room and not self._threads.unstarted
        return max(room, BESIDE if is_beside else 0) - self._listener.asked

    @property
    def _running(self) -> int:
        """How many claims have been handed out and not come back."""
        return len(self._holdings) - len(self._unsettled) - self._done.qsize()

    @property
    def _is_idle(self) -> bool:
        return not self._holdings and not self._absences.is_on and time.monotonic() >= self._held_back_until

    def _is_used_up(self) -> bool:
        """Tell whether this process has done or grown as much as it may."""
        most = self.settings.max_tasks
        return (most is not None and self._finished >= most) or self._memory.has_grown()

    def _exchange(self, room: int) -> list[Claim]:
        """Settle what is done and claim up to `room` more, in one commit."""
        self._collect()
        is_unsure = self._absences.call_for_a_look(self._listener.has_missed)
        request = self._request(room) if room > 0 and not is_unsure else None
        if request is None and not self._unsettled and not is_unsure:
            return []
        pending = [attempt.transition for attempt in self._unsettled if not attempt.is_applied and not attempt.is_lost]
        try:
            applied, claims = self.backend.store.exchange(pending, request)
            if is_unsure:
                applied |= self._applied_before(applied)
                self._recover()
        except self._unavailable as error:
            self._store_is_away(error)
            return []
        except Exception as error:  # noqa: BLE001 - the store is there, and refuses one of the changes
            # With nothing left to settle, what the store refuses now is the claim.
            return self._exchange(room) if self._settle_singly(error) else []
        self._settle(applied)
        # Nothing was claimed while it was not certain what this process still held.
        return self._exchange(room) if is_unsure else claims

    def _settle_singly(self, error: Exception) -> bool:
        """Find the one among the changes that the store refuses, and leave that one to its lease; tell whether it did."""
        if not self._unsettled:
            self._store_is_away(error)
            return False
        applied: set[str] = set()
        for attempt in self._unsettled:
            try:
                if not attempt.is_applied and not attempt.is_lost:
                    applied |= self.backend.store.apply([attempt.transition])
            except self._unavailable as away:
                self._store_is_away(away)
                return False
            except Exception:
                logger.exception("action=refused task_id=%s path=%s", attempt.claim.id, attempt.claim.task_path)
        self._settle(frozenset(applied))
        return True

    def _collect(self) -> None:
        holds = dict(hold_of(attempt.claim) for attempt in self._unsettled)
        others = []
        with contextlib.suppress(Empty):
            while True:
                attempt = self._done.get_nowait()
                id_, fence = hold_of(attempt.claim)
                if id_ not in holds:
                    holds[id_] = fence
                    self._unsettled.append(attempt)
                elif holds[id_] != fence:
                    # One batch says one thing of a task.
                    others.append(attempt)
                # Else it was given up on before it ended: what was said of it first counts.
        for attempt in others:
            self._done.put(attempt)

    def _request(self, room: int) -> Request:
        now = self.backend.clock.now()
        lease_until = after(now, self.backend.settings.lease)
        return Request(
            self.settings.queues,
            room,
            self.worker_id,
            now,
            lease_until,
            is_expected=self._is_expecting,
            is_rung=self._is_rung,
        )

    def _settle(self, applied: frozenset[str]) -> None:
        moves = []
        for attempt in self._unsettled:
            claim = attempt.claim
            if attempt.is_applied or claim.id in applied:
                moves.append(Move(claim, attempt.transition, attempt.result, attempt.exception))
            else:
                logger.warning("action=lease_lost task_id=%s path=%s", claim.id, claim.task_path)
                self._judge.leave_to_lease(claim)
        self._holdings.drop(attempt.claim for attempt in self._unsettled)
        self._finished += len(self._unsettled)
        self._unsettled = []
        self._clerk.announce(moves)

    def _hand_out(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        try:
            claims = still_held(self.backend, claims)
        except self._unavailable as error:
            # Nobody has begun them: they are found, and given back, when the store is back.
            self._store_is_away(error)
            return
        for_threads: list[Holding] = []
        for_loop: list[Holding] = []
        for holding in self._holdings.take(claims):
            (for_loop if holding.is_for_loop(self.backend.defaults) else for_threads).append(holding)
        self._threads.put(for_threads)
        self._loop.put(for_loop)

    def _hand_out_last(self, claims: Sequence[Claim]) -> None:
        """Hand out what may well be all there is, and leave the interpreter to the slots: nothing here is as urgent."""
        if claims:
            self._hand_out(claims)
            time.sleep(REST)

    def _give_back(self) -> None:
        """Return what the slots did not come to: another worker may have a slot free."""
        unstarted: list[Holding] = []
        if self._threads.waiting_seconds > 2 * HOLD:
            unstarted += self._threads.take_back()
            # Slower than it looked: claim nothing ahead until attempts have ended that say otherwise.
            self._threads.pace.seconds = max(self._threads.pace.seconds, 2 * HOLD)
        if self._loop.waiting_seconds > 2 * HOLD:
            unstarted += self._loop.take_back()
        if unstarted:
            self._release(unstarted)
            # Without the pause this process would claim the same tasks again at once.
            self._held_back_until = time.monotonic() + HOLD

    def _release(self, holdings: Sequence[Holding]) -> None:
        for holding in holdings:
            transition = self.backend.attempts.released(holding.claim)
            self._done.put(Attempt(holding.claim, transition))

    def _wait(self, room: int = 0) -> Woken:
        """Sleep until a slot or an enqueue rings, or until something is due; tell which."""
        is_asking = not self._absences.is_on and self._ask_ahead(room)
        is_listening = is_asking or (room > 0 and not self._absences.is_on)
        if not is_listening:
            # What comes while there is no room for it must not pile up at the server.
            self._listener.hear()
        timeout = self._longest_wait(is_asking=is_asking)
        woken = self._bell.wait(timeout, self._listener if is_listening else None)
        if woken and not self._done.empty() and self._running > 0 and not self._is_stopping:
            # Others will be done in a moment, and one commit can serve them all.
            time.sleep(FLUSH)
        return woken

    def _ask_ahead(self, room: int) -> bool:
        """Let the listener bring what the threads can start at once; tell whether it will bring something."""
        if self._listener.asked:
            return True
        if room <= 0 or self.settings.is_burst or not self._listener.takes_requests:
            return False
        self._asked = min(room, self._threads.count)
        self._listener.send(self._request(self._asked))
        return True

    def _longest_wait(self, *, is_asking: bool) -> float:
        if self._absences.is_on:
            return self._absences.pause
        if self._unsettled or not self._done.empty():
            return FLUSH
        if self._threads.unstarted or self._loop.unstarted:
            return HOLD
        return self._absences.shorten(ASKED if is_asking else self.backend.settings.poll)

    def _take_brought(self) -> bool:
        """Hand out what the listener has brought; tell whether there may be more to claim."""
        claims = self._listener.brought()
        if claims is None:
            return True
        self._hand_out_last(claims)
        return len(claims) >= self._asked

    def _take_in(self, attempt: Attempt) -> None:
        """Take what a slot found."""
        is_first = self._done.empty()
        self._done.put(attempt)
        if is_first:
            self._ring()

    def _ring(self) -> None:
        self._bell.ring()

    # The store's absences, and the life signs of this process.

    def _store_is_away(self, error: Exception) -> None:
        self._absences.begin(error)
        connections.close_all()

    def _has_waited_in_vain(self) -> bool:
        return self._running == 0 and self._absences.seconds >= BURST_PATIENCE

    def _give_up(self) -> None:
        logger.error(
            "action=gave_up seconds=%g: the store stayed away, and what is due in it is unknown", BURST_PATIENCE
        )
        self._has_given_up = True
        self.hand_back()

    def _applied_before(self, applied: frozenset[str]) -> frozenset[str]:
        """Return the ids of what the store changed as it was told although its confirmation never arrived."""
        told = {attempt.claim.id: attempt.transition for attempt in self._unsettled if not attempt.is_applied}
        found = self.backend.store.get([id_ for id_ in told if id_ not in applied])
        return frozenset(record.id for record in found if _is_as_told(record, told[record.id]))

    def _recover(self) -> None:
        """Give back claims whose commit succeeded although its confirmation never arrived."""
        # What is still on its way is in nobody's hands either.
        self._hand_out(self._listener.call_back())
        query = Query(states=(RUNNING,), worker_id=self.worker_id)
        for records in pages_of(self.backend.store, query):
            orphans = [record for record in records if self._judge.is_unheard_of(record)]
            self.backend.store.apply([self.backend.attempts.released(orphan) for orphan in orphans])
        self._absences.end()

    def _tidy(self) -> None:
        tidy(self.backend, self.backend.clock.now(), judge=self._judge.judge)
        self._judge.forget_decided(self.backend.store)

    def _look(self) -> None:
        self._watcher.look()
        if self.settings.parent is not None and os.getppid() != self.settings.parent and not self._stops:
            logger.warning("action=parent_gone: finishing what runs")
            self.finish()


def _is_as_told(record: Record, transition: Transition) -> bool:
    as_told = (transition.fence + 1, transition.state, transition.finished_at, transition.due_at)
    return (record.fence, record.state, record.finished_at, record.due_at) == as_told


def keep_connections() -> None:
    """Keep each thread's database connections from task to task, checked for health when next used."""
    for alias in connections:
        settings = connections.settings[alias]
        if not settings.get("OPTIONS", {}).get("pool"):
            settings["CONN_MAX_AGE"] = None
            settings["CONN_HEALTH_CHECKS"] = True
