"""What keeps a backend on Celery in order: maintenance as everywhere, and messages for what has none.

The processes of all workers stand in line, by their ids. Each does the maintenance, the more rarely the further back it
stands, so that a thousand ask the store little more than ten do. Messages are sent by the first: two that sent the same
one would do no harm, but a hundred would. It may find no way to the broker, so those behind it step in for what waits too
long while the broker's queue is empty.
"""

import logging
import random
import time
from typing import Final

from backroom.celery.lost import Lost
from backroom.celery.places import Leftover
from backroom.clock import after, seconds_between
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.exceptions import TaskTimeout
from backroom.tasks.execute import outcome_of
from backroom.tasks.judge import Judge
from backroom.tasks.maintenance import move, tidy
from backroom.tasks.policy import advanced, decide
from backroom.tasks.queries import ready_since
from backroom.tasks.records import RUNNING, Cancelled, Claim, Crashed, Outcome, Query, Released, Transition
from backroom.tasks.resolve import rules_of
from backroom.tasks.rounds import Rounds, guarded
from backroom.tasks.stores.base import Mark, pages_of

logger = logging.getLogger("backroom.celery")

ROUND: Final = 1.0
"""Seconds between two rounds, give or take a half."""
TIDY: Final = 5.0
"""Seconds between two rounds of maintenance, and between two looks at who is alive and what is lost, of the first in
line; of the second twice as many, and so on."""
PAGE: Final = 500
"""Deferred tasks that are sent at once."""
AHEAD: Final = 5.0
"""Seconds before its moment that a deferred task is sent: more than two rounds are apart, and less than `SOON`."""
NEGLECT: Final = 30.0
"""Seconds for which each process in line leaves to the one before it what has become due or was lost."""
IN_LINE: Final = 3
"""Processes of which each waits for the one before it; the others step in when the last of these does."""

_HARD_LIMIT: Final = "The attempt went on after TaskTimeout, so its process was ended."


class Upkeep:
    """The rounds of one process for one backend."""

    def __init__(self, backend: CeleryBackend, worker_id: str, judge: Judge) -> None:
        self._backend = backend
        self._worker_id = worker_id
        self._judge = judge
        self._mark = Mark()
        self._went: set[str] = set()
        self._lost = Lost(backend)
        self._leftovers: list[tuple[str, Leftover]] = []
        self._is_first = False
        self._tidy_at = 0.0
        self._rounds = Rounds("upkeep", self.round, seconds=lambda: random.uniform(ROUND / 2, ROUND * 3 / 2))  # noqa: S311 - spreads the load

    def start(self) -> None:
        """Start the thread."""
        self._rounds.start()

    def stop(self) -> None:
        """End the thread."""
        self._rounds.stop()

    def settle_later(self, worker_id: str, leftover: Leftover) -> None:
        """Settle in the next round what a process that is gone left behind."""
        self._leftovers.append((worker_id, leftover))

    def round(self) -> None:
        """Do what is to be done now."""
        while self._leftovers:
            # Taken away afterwards: while the store is away it stays for the next round.
            self._settle(*self._leftovers[0])
            self._leftovers.pop(0)
        if time.monotonic() >= self._tidy_at:
            rank = self._rank()
            pause = TIDY * (rank + 1)
            self._tidy_at = time.monotonic() + random.uniform(pause / 2, pause * 3 / 2)  # noqa: S311 - as above
            self._is_first = rank == 0 or self._is_neglected(min(rank, IN_LINE) * NEGLECT)
            tidy(self._backend, self._backend.clock.now(), judge=self._judge.judge)
            guarded("forget_decided", lambda: self._judge.forget_decided(self._backend.store))
            if self._is_first:
                guarded("send_lost", self._lost.send)
                guarded("advance", self._advance)
        if self._is_first:
            guarded("send_due", self._send_due)

    def _rank(self) -> int:
        """Return how many stand before this one in line."""
        horizon = after(self._backend.clock.now(), -self._backend.settings.lease)
        alive = [worker.id for worker in self._backend.store.workers() if worker.seen_at >= horizon]
        return sum(id_ < self._worker_id for id_ in alive)

    def _is_neglected(self, seconds: float) -> bool:
        """Tell whether something waits for so long in vain that those before this worker cannot have sent it."""
        now = self._backend.clock.now()
        lost_at = self._backend.settings.resend_after + seconds
        waiting = [
            *self._backend.store.upcoming(1, after(now, -seconds)),
            *[
                each
                for each in self._backend.store.oldest_ready()
                if seconds_between(ready_since(each), now) >= lost_at
            ],
        ]
        transport = self._backend.transport
        return any(transport.depth(transport.queue_of(each.queue_name)) == 0 for each in waiting)

    def _send_due(self) -> None:
        until = after(self._backend.clock.now(), AHEAD)
        while due := self._backend.store.upcoming(PAGE, until, self._mark):
            sent = self._backend.deliver([record for record in due if record.id not in self._went])
            if sent.is_away:
                # The others are sent when the broker is back, if none of them has been started by then.
                self._went |= sent.ids
                return
            # What a queue refused is no reason to stop here: it is sent when it is late.
            self._went.clear()
            self._mark = Mark(due[-1].due_at or until, due[-1].id)
            if len(due) < PAGE:
                break
        # What is deferred to an earlier moment from now on is sent by who defers it.
        self._mark = max(self._mark, Mark(until))

    def _advance(self) -> None:
        """Make ready what should have been started long ago: its message was lost, and the store is idle.

        Each is moved once, and sent with the move; from then on it is among those that `Lost` looks after.
        """
        now = self._backend.clock.now()
        late = self._backend.store.upcoming(PAGE, after(now, -self._backend.settings.resend_after))
        if late:
            self._lost.note(late)
            move(self._backend, late, advanced)

    def _settle(self, worker_id: str, leftover: Leftover) -> None:
        """Decide the fate of what a dead process held, so that it starts elsewhere now and not after its lease."""
        query = Query(states=(RUNNING,), worker_id=worker_id)
        for held in filter(None, pages_of(self._backend.store, query)):
            logger.error("action=worker_died worker_id=%s tasks=%d", worker_id, len(held))
            move(self._backend, held, lambda claim: self._fate(claim, leftover))
        self._backend.store.forget([worker_id])

    def _fate(self, claim: Claim, leftover: Leftover) -> Transition:
        rules = rules_of(claim, self._backend.defaults)
        now = self._backend.clock.now()
        return decide(claim, _outcome(claim, leftover), rules=rules, now=now, draw=random.random())  # noqa: S311 - jitter


def _outcome(claim: Claim, leftover: Leftover) -> Outcome:
    if claim.id not in leftover.running:
        # Not begun, or ended and not written down: the task has done nothing wrong.
        return Released()
    if leftover.was_ended:
        return Cancelled() if claim.cancel_requested else outcome_of(TaskTimeout(_HARD_LIMIT))
    return Crashed()
