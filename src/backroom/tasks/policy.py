"""Decide what becomes of a task. Pure: `now` and `draw`, a random number in [0, 1), are arguments.

Every feature that changes a task's fate is a function here from a record to a `Transition`, written once and applied
by every store.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from traceback import format_exception
from typing import Any, Final

from backroom.clock import Moment, after, seconds_between
from backroom.tasks.exceptions import TaskCancelled, TaskExpired, TaskTimeout, WorkerLost
from backroom.tasks.lifecycle import IllegalMove, check_move
from backroom.tasks.records import (
    CANCELLED,
    DEFERRED,
    ERROR,
    EXPIRED,
    FAILED,
    FINISHED,
    LOST,
    READY,
    SUCCESSFUL,
    TIMEOUT,
    Cancelled,
    Claim,
    Crashed,
    Expired,
    Outcome,
    Raised,
    Reason,
    Record,
    Released,
    Snoozed,
    State,
    Succeeded,
    Transition,
)

KEPT_ERRORS: Final = 10
KEPT_TRACEBACK: Final = 16_000
"""Characters of a traceback that are kept; its beginning and its end matter most."""

type BackoffFunction = Callable[[BaseException, Any], float | None]
"""Shown the exception and the task's result; returns seconds to wait, or None to fail at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """Wait up to `base` × `factor` ** (failures - 1) seconds, at most `cap`, drawn evenly from nought (full jitter).

    The jitter is what keeps a thousand tasks that failed together from coming back together
    (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    base: float = 1.0
    factor: float = 2.0
    cap: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse what cannot be waited."""
        if not (0 <= self.base < inf and 1 <= self.factor < inf and 0 <= self.cap < inf):
            msg = f"{self!r} is no backoff. Use a base and a cap of 0 or more and a factor of 1 or more."
            raise ValueError(msg)

    def seconds(self, failures: int, draw: float) -> float:
        """Return the wait after so many failures."""
        try:
            longest = self.base * float(self.factor) ** (failures - 1)
        except OverflowError:
            longest = self.cap
        return draw * min(self.cap, longest)


type Backoff = float | Sequence[float] | BackoffFunction | Exponential


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What `decide` must know of a task's options and its backend's."""

    max_attempts: int = 1
    backoff: Backoff = Exponential()
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    fail_on: tuple[type[BaseException], ...] = ()
    crash_budget: int = 3
    keep_seconds: float = 7 * 86_400
    keep_failed_seconds: float = 30 * 86_400


DEFAULT_RULES: Final = Rules()


def decide(claim: Claim, outcome: Outcome, *, rules: Rules, now: Moment, draw: float) -> Transition:
    """Return the transition that `outcome` means for a claim."""
    match outcome:
        case Succeeded(result):
            return _finished(claim, SUCCESSFUL, "", rules=rules, now=now, result=result)
        case Raised():
            return _retried_or_failed(claim, outcome, rules=rules, now=now, draw=draw)
        case Snoozed(seconds):
            # It was started in time, as after a failure.
            return _returned(claim, DEFERRED, due_at=after(now, seconds), expires_at=None)
        case Released():
            return _returned(claim, READY)
        case Crashed():
            return _crashed(claim, rules=rules, now=now)
        case Cancelled():
            return _finished(claim, FAILED, CANCELLED, rules=rules, now=now, errors=_with(claim, *_CANCELLED_ERROR))
        case Expired():
            return _unstarted(expired(claim, rules=rules, now=now), claim)


def begun(claim: Claim) -> Claim:
    """Return a claim whose function is about to be called: started in time, it does not expire any more.

    So it is for good, also when a worker that stops hands it back.
    """
    return claim if claim.expires_at is None else claim._replace(expires_at=None)


def cancelled(record: Record, *, rules: Rules, now: Moment) -> Transition:
    """Cancel a task that waits; raise `IllegalMove` for one that runs or has finished."""
    return _finished(record, FAILED, CANCELLED, rules=rules, now=now, errors=_with(record, *_CANCELLED_ERROR))


def expired(record: Record, *, rules: Rules, now: Moment) -> Transition:
    """Fail a task whose time to be started is over."""
    late = seconds_between(record.expires_at or now, now)
    error = (_path(TaskExpired), f"{_path(TaskExpired)}: Not started in time; it was {late:.1f} s late.\n")
    return _finished(record, FAILED, EXPIRED, rules=rules, now=now, errors=_with(record, *error))


def requeued(record: Record) -> Transition:
    """Put a finished task back into its queue with a clean slate of attempts to fail; its history stays.

    Raise `IllegalMove` for any other: a running one would be started a second time.
    """
    if record.state not in FINISHED:
        raise IllegalMove(record, READY)
    return _transition(record, READY, failures=0, crashes=0, expires_at=None, cancel_requested=False)


def advanced(record: Record) -> Transition:
    """Make a deferred task ready now; raise `IllegalMove` for any other."""
    if record.state != DEFERRED:
        raise IllegalMove(record, READY)
    return _transition(record, READY)


def errors_in(record: Record) -> list[tuple[str, str]]:
    """Return the class path and the traceback of each error that a record keeps, oldest first.

    What somebody else's hand has made unreadable counts as one error that says so: it must not hold the task up.
    """
    try:
        return [(str(path), str(text)) for path, text in json.loads(record.errors or "[]")]
    except (ValueError, TypeError) as error:
        return [(_path(type(error)), f"The errors before this could not be read: {error}\n")]


def is_expired(record: Record, now: Moment) -> bool:
    """Tell whether a waiting task's time to be started is over."""
    return record.expires_at is not None and record.expires_at <= now


def _retried_or_failed(claim: Claim, raised: Raised, *, rules: Rules, now: Moment, draw: float) -> Transition:
    errors = _with(claim, raised.class_path, _shortened(raised.traceback))
    failures = claim.failures + 1
    try:
        wait = _wait(raised, failures, rules=rules, draw=draw)
    except Exception as error:  # noqa: BLE001 - the project's backoff function; what it raises ends the task
        text = "".join(format_exception(error))
        errors = _with(claim._replace(errors=errors), _path(type(error)), _shortened(text))
        wait = None
    if wait is None:
        reason: Reason = TIMEOUT if isinstance(raised.exception, TaskTimeout) else ERROR
        return _finished(claim, FAILED, reason, rules=rules, now=now, errors=errors, failures=failures)
    # It was started in time, so the next attempt may be late.
    return _transition(claim, DEFERRED, due_at=after(now, wait), expires_at=None, errors=errors, failures=failures)


def _wait(raised: Raised, failures: int, *, rules: Rules, draw: float) -> float | None:
    """Return the seconds until the next attempt, or None when there is none."""
    if failures >= rules.max_attempts or isinstance(raised.exception, rules.fail_on):
        return None
    if not isinstance(raised.exception, rules.retry_on):
        return None
    match rules.backoff:
        case Exponential() as exponential:
            return exponential.seconds(failures, draw)
        case int() | float() as seconds:
            return float(seconds)
        case function if callable(function):
            wait = function(raised.exception, raised.task_result)
            return None if wait is None else max(0.0, float(wait))
        case waits:
            return float(waits[min(failures, len(waits)) - 1])


def _crashed(claim: Claim, *, rules: Rules, now: Moment) -> Transition:
    crashes = claim.crashes + 1
    if crashes < rules.crash_budget:
        return _transition(claim, READY, crashes=crashes, expires_at=None)
    message = f"The worker died {crashes} times while it ran this task, which is the crash budget."
    errors = _with(claim, _path(WorkerLost), f"{_path(WorkerLost)}: {message}\n")
    return _finished(claim, FAILED, LOST, rules=rules, now=now, errors=errors, crashes=crashes)


def _returned(claim: Claim, state: State, **changes: Any) -> Transition:
    """Give a claim back as if it had not been made: a worker that starts it later finds it as it was."""
    return _unstarted(_transition(claim, state, **changes), claim)


def _unstarted(transition: Transition, claim: Claim) -> Transition:
    return transition._replace(
        attempts=claim.attempts - 1,
        worker_ids=claim.worker_ids.removesuffix(f"{claim.worker_id} "),
        started_at=claim.started_at if claim.attempts > 1 else None,
    )


def _finished(
    record: Record,
    state: State,
    reason: Reason,
    *,
    rules: Rules,
    now: Moment,
    result: str | None = None,
    errors: str | None = None,
    failures: int | None = None,
    crashes: int | None = None,
) -> Transition:
    check_move(record, state)
    keep = rules.keep_seconds if state == SUCCESSFUL else rules.keep_failed_seconds
    return Transition(
        record.id,
        record.fence,
        state,
        reason,
        None,
        record.expires_at,
        record.started_at,
        now,
        _prune_at(record, after(now, keep)),
        record.attempts,
        record.failures if failures is None else failures,
        record.crashes if crashes is None else crashes,
        record.worker_ids,
        result,
        record.errors if errors is None else errors,
        record.unique_key if record.unique_scope == "window" else None,
    )


def _prune_at(record: Record, moment: Moment) -> Moment:
    # A record holds its unique key: pruned before the window ends, it would let a second one in.
    return max(moment, record.unique_until) if record.unique_until else moment


def _transition(record: Record, state: State, **changes: Any) -> Transition:
    check_move(record, state)
    same: dict[str, Any] = {
        "reason": "",
        "due_at": None,
        "expires_at": record.expires_at,
        "started_at": record.started_at,
        "finished_at": None,
        "prune_at": None,
        "attempts": record.attempts,
        "failures": record.failures,
        "crashes": record.crashes,
        "worker_ids": record.worker_ids,
        "result": None,
        "errors": record.errors,
        "unique_key": record.unique_key,
    }
    return Transition(record.id, record.fence, state, **(same | changes))


def _path(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


_CANCELLED_ERROR: Final = (_path(TaskCancelled), f"{_path(TaskCancelled)}: Cancelled on request.\n")


def _with(record: Record, class_path: str, traceback: str) -> str:
    """Add an error; of a long list the first one and the latest are kept."""
    errors = [*errors_in(record), (class_path, traceback)]
    if len(errors) > KEPT_ERRORS:
        errors = [errors[0], *errors[1 - KEPT_ERRORS :]]
    return json.dumps(errors)


def _shortened(traceback: str) -> str:
    if len(traceback) <= KEPT_TRACEBACK:
        return traceback
    half = KEPT_TRACEBACK // 2
    return f"{traceback[:half]}\n… {len(traceback) - KEPT_TRACEBACK} characters left out …\n{traceback[-half:]}"
