"""What a slot does with a holding: begin it, put it on the board, run it, say what came of it. Always says something."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from backroom.tasks.attempts import Attempt
from backroom.tasks.backends.base import Backend
from backroom.tasks.board import Board
from backroom.tasks.execution import Execution
from backroom.tasks.leases import Holding
from backroom.tasks.middleware import discard_connections, refresh_connections
from backroom.tasks.records import Crashed

logger = logging.getLogger("backroom.worker")

REFRESH: Final = 1.0
"""Seconds between two looks at the connections that coroutines use, which are those of asgiref's thread."""


class Slots:
    """The work of the slots of one process."""

    def __init__(self, backend: Backend, board: Board, threads: int, *, on_done: Callable[[Attempt], None]) -> None:
        self._backend = backend
        self._board = board
        self._threads = threads
        self._on_done = on_done
        self._refreshed_at = 0.0

    def run(self, holding: Holding, place: int) -> None:
        """Attempt a function's claim in this thread."""
        attempt: Attempt | None = None
        execution: Execution | Attempt | None = None
        try:
            execution = self._begin(holding, place)
            attempt = self._backend.attempts.run(execution) if isinstance(execution, Execution) else execution
        except KeyboardInterrupt:
            # No signal reaches this thread: the task raised it, again and again perhaps.
            attempt = self._backend.attempts.ended(holding.claim, Crashed())
        except BaseException as error:  # noqa: BLE001 - a slot outlives whatever goes wrong in it
            attempt = self._failed(holding, error)
        finally:
            if isinstance(execution, Execution) and execution.was_interrupted:
                # The exception may have struck between a BEGIN and Django's note of it.
                discard_connections()
            self._end(holding, attempt)
            # Now, when nobody waits for it: what a task left open, a lock say, must not stay for as long as no other comes.
            refresh_connections()

    async def arun(self, holding: Holding, place: int) -> None:
        """Attempt a coroutine's claim in this event loop."""
        attempt: Attempt | None = None
        try:
            await self._refresh()
            execution = self._begin(holding, place + self._threads)
            attempt = await self._backend.attempts.arun(execution) if isinstance(execution, Execution) else execution
        except KeyboardInterrupt:
            attempt = self._backend.attempts.ended(holding.claim, Crashed())
        except BaseException as error:  # noqa: BLE001 - a slot outlives whatever goes wrong in it
            attempt = self._failed(holding, error)
        finally:
            self._end(holding, attempt)

    def _begin(self, holding: Holding, place: int) -> Execution | Attempt:
        begun = self._backend.attempts.begin(holding.claim, holding.resolved)
        if isinstance(begun, Execution):
            timeout = begun.resolved.timeout
            if timeout is not None:
                holding.soft_at = time.monotonic() + timeout
                holding.hard_at = holding.soft_at + self._backend.settings.timeout_grace
            # As it is from now on, whoever hands it back.
            holding.claim = begun.claim
            holding.place = place
            self._board.post(place, holding.claim.id, holding.hard_at)
            holding.execution = begun
        return begun

    def _end(self, holding: Holding, attempt: Attempt | None) -> None:
        holding.execution = None
        if holding.place is not None:
            self._board.clear(holding.place)
        # None of it may be known when something went wrong while it was being written down.
        self._on_done(attempt or self._backend.attempts.lost(holding.claim))

    def _failed(self, holding: Holding, error: BaseException) -> Attempt:
        logger.error("action=slot_failed task_id=%s", holding.claim.id, exc_info=error)
        try:
            return self._backend.attempts.failed(holding.claim, error)
        except Exception:
            # Not even its failure can be written down: its lease decides.
            logger.exception("action=slot_gave_up task_id=%s", holding.claim.id)
            return self._backend.attempts.lost(holding.claim)

    async def _refresh(self) -> None:
        if time.monotonic() - self._refreshed_at > REFRESH:
            self._refreshed_at = time.monotonic()
            with contextlib.suppress(asyncio.CancelledError):
                await sync_to_async(close_old_connections)()
