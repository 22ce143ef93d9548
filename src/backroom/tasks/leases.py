"""Watch over the claims that this process holds: renew them, write their progress, stop them when they must stop.

A thread of its own, which task code cannot block short of holding Python's global lock for a whole lease.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from django.db import connections

from backroom.clock import after
from backroom.tasks.backends.base import Backend
from backroom.tasks.board import Board
from backroom.tasks.exceptions import TaskCancelled, TaskTimeout
from backroom.tasks.execution import Execution
from backroom.tasks.records import Claim, Renewal
from backroom.tasks.resolve import Resolved

logger = logging.getLogger("backroom.worker")

TICK: Final = 0.25
"""Seconds between two looks at the running tasks: how late a timeout, and how old a progress report, may be."""
CANCEL_TICK: Final = 1.0
"""Seconds between two looks for requests to cancel."""


class Holding:
    """One claim in this process's hands; `execution` is None until a slot has started it."""

    __slots__ = ("cancel_seen_at", "claim", "execution", "hard_at", "place", "resolved", "soft_at")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.resolved: Resolved | None = None
        self.execution: Execution | None = None
        self.place = 0
        self.soft_at: float | None = None
        self.hard_at = 0.0
        self.cancel_seen_at: float | None = None


class Holdings(dict[str, Holding]):
    """Every claim in this process's hands, by id."""

    def take(self, claims: Sequence[Claim]) -> list[Holding]:
        """Note claims that were made."""
        holdings = [Holding(claim) for claim in claims]
        self.update((holding.claim.id, holding) for holding in holdings)
        return holdings

    def drop(self, ids: Sequence[str]) -> None:
        """Forget claims that are settled."""
        for id_ in ids:
            self.pop(id_, None)


class Keeper:
    """The thread that keeps the holdings."""

    def __init__(
        self,
        backend: Backend,
        worker_id: str,
        holdings: Holdings,
        board: Board,
        *,
        on_beat: Callable[[], None],
        on_tick: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._holdings = holdings
        self._board = board
        self._on_beat = on_beat
        self._on_tick = on_tick
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backroom-keeper", daemon=True)
        self._renewed_at = time.monotonic()
        self._asked_at = time.monotonic()

    def start(self) -> None:
        """Begin to keep."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, once the round under way is done."""
        self._stopped.set()
        self._thread.join(timeout=TICK * 8)

    def _run(self) -> None:
        self._guarded(self._on_beat)
        while not self._stopped.wait(TICK):
            self._on_tick()
            now = time.monotonic()
            self._stop_overdue(now)
            self._guarded(self._keep, now)
        connections.close_all()

    def _keep(self, now: float) -> None:
        if now - self._renewed_at >= self._backend.settings.lease / 3:
            self._renewed_at = now
            self._renew(list(self._holdings.values()))
            self._on_beat()
        else:
            self._write_progress()
        if now - self._asked_at >= CANCEL_TICK and any(holding.execution for holding in list(self._holdings.values())):
            self._asked_at = now
            self._note_cancels(self._backend.store.cancelling(self._worker_id))

    def _guarded(self, work: Callable[..., None], *args: float) -> None:
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - the store may be away; the feeder says so, and leases outlast it
            logger.debug("action=keeper_failed reason=%r", str(error))
            connections.close_all()

    def _write_progress(self) -> None:
        running = [(holding.claim, holding.execution) for holding in list(self._holdings.values())]
        fresh = [
            Renewal(claim.id, claim.fence, progress)
            for claim, execution in running
            if execution is not None and (progress := execution.take_progress()) is not None
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
        for holding in holdings:
            if holding.claim.id not in held.ids and self._holdings.get(holding.claim.id) is holding:
                self._lose(holding)

    def _lose(self, holding: Holding) -> None:
        """Stop an attempt that belongs to another worker by now: whatever it finds will not be taken."""
        if holding.execution is not None and not holding.execution.is_cancel_requested():
            logger.warning("action=lease_lost task_id=%s path=%s", holding.claim.id, holding.claim.task_path)
            holding.execution.request_cancel()
            holding.execution.interrupt(TaskCancelled)

    def _note_cancels(self, ids: frozenset[str]) -> None:
        now = time.monotonic()
        for id_ in ids:
            holding = self._holdings.get(id_)
            if holding is not None and holding.execution is not None and holding.cancel_seen_at is None:
                holding.cancel_seen_at = now
                holding.execution.request_cancel()

    def _stop_overdue(self, now: float) -> None:
        grace = self._backend.settings.cancel_grace
        for holding in list(self._holdings.values()):
            if holding.execution is None:
                continue
            if holding.soft_at is not None and now >= holding.soft_at:
                holding.execution.interrupt(TaskTimeout)
                holding.soft_at = None
            if holding.cancel_seen_at is not None and now >= holding.cancel_seen_at + grace:
                holding.execution.interrupt(TaskCancelled)
                self._limit(holding, holding.cancel_seen_at + 2 * grace)

    def _limit(self, holding: Holding, hard_at: float) -> None:
        if holding.hard_at == 0.0 or hard_at < holding.hard_at:
            holding.hard_at = hard_at
            self._board.limit(holding.place, holding.claim.id, hard_at)

    def _lease_until(self) -> int:
        return after(self._backend.clock.now(), self._backend.settings.lease)
