"""Run the tasks of one backend in one process of a Celery worker, and keep their leases."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from django.db import connections

from backroom.clock import after
from backroom.tasks.announcements import Move, announce
from backroom.tasks.attempts import Attempt
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.board import Board
from backroom.tasks.exceptions import TaskCancelled, TaskTimeout
from backroom.tasks.execute import outcome_of
from backroom.tasks.judge import Judge
from backroom.tasks.leases import TICK, Holding, Holdings, Keeper, Watcher, still_held
from backroom.tasks.records import DEFERRED, RUNNING, SUCCESSFUL, Cancelled, Claim, Hold, hold_of
from backroom.tasks.rounds import Rounds
from backroom.tasks.slots import Slots
from backroom.tasks.stores.base import Request

logger = logging.getLogger("backroom.celery")

PATIENCE: Final = 300.0
"""Seconds for which a store that is away is waited for; then the lease decides."""
AWAY_FIRST: Final = 0.1
AWAY_MOST: Final = 5.0
"""Seconds between two tries at it: doubled from the first to the most."""

_HARD_LIMIT: Final = "The attempt went on after TaskTimeout. Its thread cannot be ended, and was given up on."


class Runner:
    """Claims one id after the other, runs it in the caller's thread, settles it. Safe to use from several threads."""

    def __init__(
        self, backend: CeleryBackend, worker_id: str, board: Board, *, threads: int, queues: tuple[str, ...]
    ) -> None:
        self.backend = backend
        self.worker_id = worker_id
        self._board = board
        self.judge = Judge(worker_id, holds=self._holds)
        self._holdings = Holdings()
        self._ended: dict[Hold, Attempt] = {}
        self._claiming: set[str] = set()
        self._lock = threading.Lock()
        self._is_ending = False
        self._struck: set[Hold] = set()
        # The slots of coroutines come after those of functions elsewhere; here a place serves either.
        self._slots = Slots(backend, board, 0, on_done=self._note)
        self._watcher = Watcher(self._holdings, board, cancel_grace=backend.settings.cancel_grace)
        self._keeper = Keeper(backend, worker_id, self._holdings, queues=queues, threads=threads)
        self._rounds = (
            Rounds("watcher", self._watcher.look, seconds=lambda: TICK),
            Rounds("keeper", self._keeper.keep, seconds=lambda: TICK),
        )

    def start(self) -> None:
        """Begin to keep leases and to give signs of life."""
        for rounds in self._rounds:
            rounds.start()

    def stop(self) -> None:
        """Hand back what runs, and take leave of the store."""
        for rounds in self._rounds:
            rounds.stop()
        self.hand_back()

    def hand_back(self) -> None:
        """Give back what runs: it starts elsewhere, and what this process still finds of it is not taken."""
        left = [self.backend.attempts.released(holding.claim) for holding in list(self._holdings.values())]
        if left:
            logger.warning("action=handing_back tasks=%d", len(left))
            self.backend.store.apply(left)
        self.backend.store.forget([self.worker_id])

    def leave_off(self, *, is_interrupting: bool = False) -> None:
        """Take what strikes an attempt from now on for the end of this process, and for no fault of the task's.

        `is_interrupting` strikes all that run, in threads other than this one.
        """
        self._is_ending = True
        if is_interrupting:
            for holding, execution in self._holdings.running():
                self._struck.add(hold_of(holding.claim))
                execution.interrupt(TaskCancelled)

    def run(self, task_id: str, place: int) -> None:
        """Run a task to its end, if it is there to be had."""
        holding = self._take(task_id)
        if holding is None:
            return
        try:
            self._settle(self._attempt(holding, place))
        except BaseException:
            self.judge.leave_to_lease(holding.claim)
            raise
        finally:
            self._holdings.drop([holding.claim])

    def give_up_overdue(self) -> None:
        """Settle the attempts that overran their hard limit, where no process can be ended for it."""
        now = time.monotonic()
        for holding, _ in self._holdings.running():
            claim, place = holding.claim, holding.place
            if place is None or not 0 < holding.hard_at <= now:
                continue
            logger.error("action=given_up task_id=%s path=%s: its thread goes on", claim.id, claim.task_path)
            outcome = outcome_of(TaskTimeout(_HARD_LIMIT)) if holding.cancel_seen_at is None else Cancelled()
            self._board.clear(place)
            # Should the store stay away: this one had its time.
            self.judge.leave_to_lease(claim)
            self._holdings.drop([claim])
            self._settle(self.backend.attempts.ended(claim, outcome))

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return len(self._holdings.running())

    def _take(self, task_id: str) -> Holding | None:
        with self._lock:
            if task_id in self._claiming:
                # A message that came twice. The other one's thread is about to have the claim.
                return None
            self._claiming.add(task_id)
        try:
            claims = self._as_soon_as_there(
                lambda is_again: still_held(self.backend, self._claim(task_id, is_again=is_again))
            )
            if claims:
                return self._holdings.take(claims)[0]
        finally:
            with self._lock:
                self._claiming.discard(task_id)
        self._look_why_not(task_id)
        return None

    def _attempt(self, holding: Holding, place: int) -> Attempt:
        try:
            if holding.is_for_loop(self.backend.defaults):
                asyncio.run(self._slots.arun(holding, place))
            else:
                self._slots.run(holding, place)
        except SystemExit:
            # It struck the event loop, and not the coroutine.
            if not self._is_ending:
                raise
        key = hold_of(holding.claim)
        attempt = self._ended.pop(key)
        was_struck = isinstance(attempt.exception, SystemExit | asyncio.CancelledError) or key in self._struck
        if self._is_ending and was_struck and attempt.transition.state != SUCCESSFUL:
            # An attempt that holds the store's lock, as an atomic one may, could not be handed back before.
            return Attempt(holding.claim, self.backend.attempts.released(holding.claim))
        return attempt

    def _claim(self, task_id: str, *, is_again: bool) -> Sequence[Claim]:
        now = self.backend.clock.now()
        lease_until = after(now, self.backend.settings.lease)
        request = Request((), 1, self.worker_id, now, lease_until, (task_id,))
        claims = self.backend.store.claim(request)
        if claims or not is_again:
            return claims
        # The claim may have been made although its confirmation never arrived.
        return [
            record
            for record in self.backend.store.get([task_id])
            if record.state == RUNNING and record.worker_id == self.worker_id and hold_of(record) not in self._holdings
        ]

    def _look_why_not(self, task_id: str) -> None:
        found = self.backend.store.get([task_id])
        early = [record for record in found if record.state == DEFERRED]
        if early:
            # The clock that this message followed is ahead of ours, or the task was deferred once more.
            self.backend.deliver(early)
        logger.debug("action=passed_by task_id=%s state=%s", task_id, found[0].state if found else "gone")

    def _holds(self, claim: Claim) -> bool:
        # In this order: what is on its way comes into its hands before it is no longer on its way.
        return (claim.worker_id == self.worker_id and claim.id in self._claiming) or hold_of(claim) in self._holdings

    def _note(self, attempt: Attempt) -> None:
        self._ended[hold_of(attempt.claim)] = attempt

    def _settle(self, attempt: Attempt) -> None:
        claim = attempt.claim
        is_settled = attempt.is_applied
        if not attempt.is_applied and not attempt.is_lost:
            try:
                applied = self._as_soon_as_there(lambda _: self.backend.store.apply([attempt.transition]))
            except self.backend.store.unavailable:
                # Nobody could write down how it ended, which is no fault of the task's.
                logger.exception("action=not_written task_id=%s path=%s", claim.id, claim.task_path)
                return
            except Exception:
                logger.exception("action=refused task_id=%s path=%s", claim.id, claim.task_path)
                self.judge.leave_to_lease(claim)
                return
            is_settled = claim.id in applied
        if not is_settled:
            logger.warning("action=lease_lost task_id=%s path=%s", claim.id, claim.task_path)
            self.judge.leave_to_lease(claim)
            return
        move = Move(claim, attempt.transition, attempt.result, attempt.exception)
        announce([move], sender=type(self.backend), defaults=self.backend.defaults)

    def _as_soon_as_there[T](self, work: Callable[[bool], T]) -> T:
        """Do `work`, which is told whether it was tried before; wait for a store that is away."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.0
        while True:
            try:
                found = work(pause > 0)
            except self.backend.store.unavailable as error:
                if time.monotonic() > deadline:
                    raise
                if not pause:
                    logger.error("action=store_away reason=%s: waiting for it to return", type(error).__name__)  # noqa: TRY400 - the store says where it hurts
                pause = min(AWAY_MOST, max(AWAY_FIRST, 2 * pause))
                connections.close_all()
                time.sleep(pause)
            else:
                if pause:
                    logger.warning("action=store_back")
                return found
