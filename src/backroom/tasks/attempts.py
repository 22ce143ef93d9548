"""One claim from its start to its transition: the piece of work that a slot of a worker does."""

import logging
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import DatabaseError, InterfaceError, OperationalError
from django.tasks.signals import task_started

from backroom.clock import Clock
from backroom.tasks.execute import aexecute, execute, outcome_of
from backroom.tasks.execution import Execution
from backroom.tasks.middleware import Middleware
from backroom.tasks.policy import DEFAULT_RULES, begun, decide, is_expired
from backroom.tasks.records import Cancelled, Claim, Expired, Outcome, Raised, Released, Succeeded, Transition
from backroom.tasks.resolve import Defaults, Resolved, UnknownTask, resolve, rules_of
from backroom.tasks.results import TaskResult
from backroom.tasks.signals import asend, is_heard, send
from backroom.tasks.stores.base import Store


class Attempt(NamedTuple):
    """What became of a claim, and what the store is still to be told of it."""

    claim: Claim
    transition: Transition
    result: TaskResult[..., Any] | None = None
    exception: BaseException | None = None
    is_applied: bool = False
    """Whether the transition was committed already, together with the task's own writes."""
    is_lost: bool = False
    """Whether nothing is to be written: the claim is another worker's by now, or its lease is to decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """How claims of one backend are attempted."""

    store: Store
    sender: type
    clock: Clock
    defaults: Defaults
    layers: tuple[Middleware, ...]
    max_result_bytes: int

    def begin(self, claim: Claim, resolved: Resolved | None = None) -> Execution | Attempt:
        """Return the execution of a claim, or the end of one that is not to be started at all.

        `resolved` saves a second look for the claim's function.
        """
        if claim.cancel_requested:
            return self.ended(claim, Cancelled())
        if claim.expires_at is not None and is_expired(claim, self.clock.now()):
            return self.ended(claim, Expired())
        try:
            resolved = resolved or resolve(claim, self.defaults)
        except UnknownTask as error:
            return self.ended(claim, outcome_of(error))
        return Execution(begun(claim), resolved)

    def run(self, execution: Execution) -> Attempt:
        """Run an execution in this thread."""
        if is_heard(task_started, logging.INFO):
            send(task_started, sender=self.sender, task_result=execution.result)
        if execution.resolved.atomic and self.store.supports_atomic:
            return self._run_atomically(execution)
        return self._ended(execution, self._execute(execution))

    async def arun(self, execution: Execution) -> Attempt:
        """Run the execution of a coroutine in this event loop."""
        if is_heard(task_started, logging.INFO):
            await asend(task_started, sender=self.sender, task_result=execution.result)
        outcome = await aexecute(execution, layers=self.layers, max_result_bytes=self.max_result_bytes)
        return self._ended(execution, outcome)

    def ended(self, claim: Claim, outcome: Outcome, execution: Execution | None = None) -> Attempt:
        """Return the attempt that ended in `outcome`."""
        rules = execution.resolved.rules if execution else rules_of(claim, self.defaults)
        result = execution.result if execution else None
        transition = decide(claim, outcome, rules=rules, now=self.clock.now(), draw=random.random())  # noqa: S311 - jitter
        return Attempt(claim, transition, result, outcome.exception if isinstance(outcome, Raised) else None)

    def failed(self, claim: Claim, error: BaseException) -> Attempt:
        """Return the attempt that ended in an error outside the task's function."""
        return self.ended(claim, outcome_of(error))

    def released(self, claim: Claim) -> Transition:
        """Return the transition that gives a claim back; it needs no rules, so nothing is looked up for it."""
        return decide(claim, Released(), rules=DEFAULT_RULES, now=self.clock.now(), draw=0.0)

    def lost(self, claim: Claim) -> Attempt:
        """Return the attempt of which nothing is to be written."""
        return Attempt(claim, self.released(claim), is_lost=True)

    def _ended(self, execution: Execution, outcome: Outcome) -> Attempt:
        attempt = self.ended(execution.claim, outcome, execution)
        # The last report may not have been written yet, and nothing will renew this claim any more.
        if (progress := execution.take_progress()) is not None:
            return attempt._replace(transition=attempt.transition._replace(progress=progress))
        return attempt

    def _execute(self, execution: Execution) -> Outcome:
        return execute(execution, layers=self.layers, max_result_bytes=self.max_result_bytes)

    def _run_atomically(self, execution: Execution) -> Attempt:
        try:
            with self.store.transaction():
                outcome = self._execute(execution)
                attempt = self._ended(execution, outcome)
                if not isinstance(outcome, Succeeded):
                    raise _RolledBack(attempt)
                if not self.store.apply([attempt.transition]):
                    raise _RolledBack(attempt._replace(is_lost=True))
        except _RolledBack as rolled_back:
            return rolled_back.attempt
        except (OperationalError, InterfaceError):
            # Locked, restarted, cut off: no fault of the task. If the commit did get through, the fence has moved.
            return Attempt(execution.claim, self.released(execution.claim))
        except DatabaseError as error:
            # The commit itself failed, on a deferred constraint for example: the task's writes are the cause.
            return self._ended(execution, outcome_of(error, execution))
        return attempt._replace(is_applied=True)


class _RolledBack(Exception):
    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self.attempt = attempt
