"""Decide the fate of what a dead worker process held, so that it starts elsewhere now and not after its lease.

In a process of its own: to decide takes the project's code (a task's options, receivers of signals), and code may start
threads and open connections, which the supervisor must not have when it forks the next worker process.
"""

import logging
import os
import random
import signal
from typing import Final, NamedTuple

from django import setup
from django.apps import apps
from django.db import DatabaseError, InterfaceError

from backroom.tasks.exceptions import StoreUnavailable, TaskTimeout
from backroom.tasks.execute import outcome_of
from backroom.tasks.maintenance import move
from backroom.tasks.policy import begun, decide
from backroom.tasks.queries import backend_of
from backroom.tasks.records import RUNNING, Cancelled, Claim, Crashed, Outcome, Query, Released, Transition
from backroom.tasks.resolve import rules_of
from backroom.tasks.stores.base import pages_of

logger = logging.getLogger("backroom.worker")

SETTLED: Final = 0
AWAY: Final = 75
"""Exit status when the store cannot be reached: try again later (EX_TEMPFAIL of sysexits.h)."""
_HARD_LIMIT: Final = "The attempt went on after TaskTimeout, so its process was ended."


class Death(NamedTuple):
    """What is known of a worker process that has died."""

    worker_id: str
    running: frozenset[str]
    """Ids of the tasks that its slots were working on."""
    killed_for: frozenset[str] = frozenset()
    """Ids of the tasks for whose sake the supervisor killed it."""
    is_given_up: bool = False
    """Whether the supervisor killed it because it did not end in time."""

    def outcome_for(self, claim: Claim) -> Outcome:
        """Say what this death means for a claim that the process held."""
        if claim.id in self.killed_for:
            return Cancelled() if claim.cancel_requested else outcome_of(TaskTimeout(_HARD_LIMIT))
        if self.killed_for or self.is_given_up or claim.id not in self.running:
            # A neighbour's fault, or never started: the task has done nothing wrong.
            return Released()
        return Crashed()


def run_settling(backend: str, death: Death) -> None:
    """Be a process that settles one death; its exit status says whether it did."""
    status = 1
    try:
        # Whoever stops the worker may send the signal to the whole group. This process ends by itself.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if not apps.ready:
            setup()
        settle(backend, death)
        status = SETTLED
    except (DatabaseError, InterfaceError, StoreUnavailable) as error:
        logger.debug("action=settle_postponed worker_id=%s reason=%s", death.worker_id, type(error).__name__)
        status = AWAY
    except BaseException:
        logger.exception("action=settle_failed worker_id=%s", death.worker_id)
    finally:
        logging.shutdown()
        # Threads that receivers left behind do not hold it up.
        os._exit(status)


def settle(backend_name: str, death: Death) -> None:
    """Move what the process held, tell the world, and forget the worker."""
    backend = backend_of(backend_name)
    query = Query(states=(RUNNING,), worker_id=death.worker_id)

    def fate(claim: Claim) -> Transition:
        rules = rules_of(claim, backend.defaults)
        outcome = death.outcome_for(claim)
        claim = begun(claim) if claim.id in death.running else claim
        return decide(claim, outcome, rules=rules, now=backend.clock.now(), draw=random.random())  # noqa: S311 - jitter

    for records in pages_of(backend.store, query):
        move(backend, records, fate)
    backend.store.forget([death.worker_id])
