"""Look after the claims that this process holds: renew them, write their progress, stop them when they must stop.

Two threads do it. The keeper talks to the store, which may keep it waiting; the watcher does not, so that a timeout
strikes in time whatever the store does.
"""

import logging
import os
import socket
import time
from collections.abc import Container, Iterable, Sequence
from typing import Final

from backroom.clock import SECOND, after
from backroom.tasks.backends.base import Backend
from backroom.tasks.board import Board
from backroom.tasks.exceptions import TaskCancelled
from backroom.tasks.execution import Execution
from backroom.tasks.records import Claim, Hold, Renewal, Worker, hold_of
from backroom.tasks.resolve import Defaults, Resolved, resolve

logger = logging.getLogger("backroom.worker")

TICK: Final = 0.25
"""Seconds between two looks at the running tasks: how late a timeout, and how old a progress report, may be."""
CANCEL_TICK: Final = 1.0
"""Seconds between two looks for requests to cancel."""


class Holding:
    """One claim in this process's hands; `execution` is None until a slot has started it, and after it has ended."""

    __slots__ = ("cancel_seen_at", "claim", "execution", "hard_at", "place", "resolved", "soft_at")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.resolved: Resolved | None = None
        self.execution: Execution | None = None
        self.place: int | None = None
        self.soft_at: float | None = None
        self.hard_at = 0.0
        self.cancel_seen_at: float | None = None

    def is_for_loop(self, defaults: Defaults) -> bool:
        """Look the claim's function up, and tell whether it is for an event loop."""
        try:
            self.resolved = resolve(self.claim, defaults)
        except Exception:  # noqa: BLE001 - a slot finds that out again, and says it where errors are recorded
            return False
        # A transaction belongs to a thread: in the loop others would write into it.
        return self.resolved.is_coroutine and not self.resolved.atomic


class Holdings(dict[Hold, Holding]):
    """Every claim in this process's hands; by its fence too, for an attempt that lost its lease may still run here beside the next."""

    def take(self, claims: Sequence[Claim]) -> list[Holding]:
        """Note claims that were made."""
        holdings = []
        for claim in claims:
            holding = self[hold_of(claim)] = Holding(claim)
            holdings.append(holding)
        return holdings

    def drop(self, claims: Iterable[Claim]) -> None:
        """Forget claims that are settled."""
        for claim in claims:
            self.pop(hold_of(claim), None)

    def of(self, ids: Container[str]) -> list[Holding]:
        """Return the claims of these records."""
        return [holding for holding in list(self.values()) if holding.claim.id in ids]

    def running(self) -> list[tuple[Holding, Execution]]:
        """Return the claims that a slot is working on now. A slot may end one of them at any moment."""
        pairs = [(holding, holding.execution) for holding in list(self.values())]
        return [(holding, execution) for holding, execution in pairs if execution is not None]


class Watcher:
    """Stops attempts that have overrun their timeout, or that somebody wants cancelled. Never waits for anything."""

    def __init__(self, holdings: Holdings, board: Board, *, cancel_grace: float) -> None:
        self._holdings = holdings
        self._board = board
        self._cancel_grace = cancel_grace

    def look(self) -> None:
        """Look at every running attempt once."""
        now = time.monotonic()
        for holding, execution in self._holdings.running():
            is_over = holding.soft_at is not None and now >= holding.soft_at
            # Again in the next round when the function had not begun, because a receiver of task_started takes long.
            if is_over and execution.interrupt(execution.timeout_error):
                holding.soft_at = None
            if holding.cancel_seen_at is not None and now >= holding.cancel_seen_at + self._cancel_grace:
                execution.interrupt(TaskCancelled)
                self._limit(holding, holding.cancel_seen_at + 2 * self._cancel_grace)

    def _limit(self, holding: Holding, hard_at: float) -> None:
        if holding.place is not None and (holding.hard_at == 0.0 or hard_at < holding.hard_at):
            holding.hard_at = hard_at
            self._board.limit(holding.place, holding.claim.id, hard_at)


class Keeper:
    """Keeps the leases, gives signs of life, writes progress, and learns which attempts somebody wants cancelled."""

    def __init__(
        self, backend: Backend, worker_id: str, holdings: Holdings, *, queues: tuple[str, ...], threads: int
    ) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._holdings = holdings
        self._queues = queues
        self._threads = threads
        self._started_at = backend.clock.now()
        self._renewed_at = float("-inf")
        self._asked_at = float("-inf")

    def keep(self) -> None:
        """Do one round; what fails is tried again in the next one."""
        now = time.monotonic()
        if now - self._renewed_at >= self._backend.settings.lease / 3:
            self._renew(list(self._holdings.values()))
            # A sign of life that the store refuses, being full say, is no reason to renew in every round.
            self._renewed_at = now
            self._beat()
        else:
            self._write_progress()
        if now - self._asked_at >= CANCEL_TICK and self._holdings.running():
            self._note_cancels(self._backend.store.cancelling(self._worker_id))
            self._asked_at = now

    def _write_progress(self) -> None:
        fresh = [
            Renewal(holding.claim.id, holding.claim.fence, progress)
            for holding, execution in self._holdings.running()
            if (progress := execution.take_progress()) is not None
        ]
        if fresh:
            self._backend.store.renew(fresh, self._lease_until())

    def _renew(self, holdings: Sequence[Holding]) -> None:
        if not holdings:
            return
        renewals = [
            Renewal(holding.claim.id, holding.claim.fence, execution.take_progress() if execution else None)
            for holding, execution in [(holding, holding.execution) for holding in holdings]
        ]
        held = self._backend.store.renew(sorted(renewals), self._lease_until())
        self._note_cancels(held.cancel_requested)
        # It says ids alone. Of two claims of one task the one held is the later, which need not have the higher fence.
        latest = dict(hold_of(holding.claim) for holding in holdings)
        for holding in holdings:
            if holding.claim.id not in held.ids or holding.claim.fence != latest[holding.claim.id]:
                _give_up(holding)

    def _note_cancels(self, ids: frozenset[str]) -> None:
        for holding in self._holdings.of(ids) if ids else ():
            execution = holding.execution
            if execution is not None and holding.cancel_seen_at is None:
                holding.cancel_seen_at = time.monotonic()
                execution.request_cancel()

    def _beat(self) -> None:
        worker = Worker(
            id=self._worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self._queues,
            threads=self._threads,
            started_at=self._started_at,
            seen_at=self._backend.clock.now(),
            running=len(self._holdings.running()),
        )
        self._backend.store.beat([worker])

    def _lease_until(self) -> int:
        return after(self._backend.clock.now(), self._backend.settings.lease)


def still_held(backend: Backend, claims: Sequence[Claim]) -> Sequence[Claim]:
    """Return which of some claims, made at once, are this process's still: they may have been on their way for long."""
    now = backend.clock.now()
    lease = backend.settings.lease
    lease_until = claims[0].lease_until if claims else None
    # With less than half of it left the keeper might come too late.
    if lease_until is None or lease_until - now > lease / 2 * SECOND:
        return claims
    held = backend.store.renew([Renewal(claim.id, claim.fence) for claim in sorted(claims)], after(now, lease)).ids
    logger.warning("action=claims_late tasks=%d lost=%d", len(claims), len(claims) - len(held))
    return [claim for claim in claims if claim.id in held]


def _give_up(holding: Holding) -> None:
    """Stop an attempt that belongs to another worker by now: whatever it finds will not be taken."""
    execution = holding.execution
    if execution is not None and not execution.is_cancel_requested():
        logger.warning("action=lease_lost task_id=%s path=%s", holding.claim.id, holding.claim.task_path)
        execution.request_cancel()
        execution.interrupt(TaskCancelled)
