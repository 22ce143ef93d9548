"""The values that travel along the street: what a task is, what became of it, and what is to change.

Plain values only. This module knows no Django, no database, no clock. `Record` and `Transition` are named tuples
rather than dataclasses because a worker makes several of them for every task and a row already is a tuple
(docs/decisions/0004-values-are-tuples.md has the measurement).
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from backroom.clock import Moment

type State = Literal["deferred", "ready", "running", "successful", "failed"]
type UniqueScope = Literal["pending", "unfinished", "window"]

DEFERRED: Final = "deferred"
READY: Final = "ready"
RUNNING: Final = "running"
SUCCESSFUL: Final = "successful"
FAILED: Final = "failed"

WAITING: Final = frozenset({DEFERRED, READY})
FINISHED: Final = frozenset({SUCCESSFUL, FAILED})

type Reason = Literal["", "error", "timeout", "cancelled", "expired", "lost"]

ERROR: Final = "error"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
LOST: Final = "lost"


class Record(NamedTuple):
    """One task as its store keeps it. Moments are microseconds since the epoch; JSON is kept as text."""

    id: str
    backend_name: str
    queue_name: str
    priority: int
    task_path: str
    payload: str
    """JSON: `{"args": […], "kwargs": {…}}`."""
    enqueued_at: Moment
    overrides: str = ""
    """JSON of the options that `using()` set for this task alone; empty when there are none."""
    metadata: str = ""
    """JSON of the task's metadata; empty when there is none."""
    state: State = READY
    reason: Reason = ""
    """Why a FAILED task failed; empty otherwise."""
    run_after: Moment | None = None
    due_at: Moment | None = None
    """When a deferred task becomes ready: its `run_after`, or the end of a backoff or a snooze."""
    expires_at: Moment | None = None
    unique_key: str | None = None
    unique_scope: UniqueScope | None = None
    unique_until: Moment | None = None
    fence: int = 0
    """Grows with every change of state; whoever read an older one can change nothing any more."""
    attempts: int = 0
    """How often it was started and not handed back: the length of `worker_ids`."""
    failures: int = 0
    """How many attempts ended in an exception."""
    crashes: int = 0
    """How many attempts ended with the death of the worker."""
    cancel_requested: bool = False
    started_at: Moment | None = None
    last_attempted_at: Moment | None = None
    finished_at: Moment | None = None
    prune_at: Moment | None = None
    lease_until: Moment | None = None
    worker_id: str = ""
    worker_ids: str = ""
    """Every worker that started it, each followed by a space."""
    progress: str = ""
    """JSON: `[done, total, message]`; empty before the first report."""
    result: str | None = None
    """JSON of the return value of a SUCCESSFUL task."""
    errors: str = ""
    """JSON: `[[exception class path, traceback], …]`; empty when there are none."""


type Claim = Record
"""A RUNNING record in the hands of the worker that it names, as long as its lease runs and its fence is current."""

type Hold = tuple[str, int]
"""The id and the fence of a claim."""


def hold_of(claim: Claim) -> Hold:
    """Return what tells a claim from every other, of the same record too."""
    return claim.id, claim.fence


class Transition(NamedTuple):
    """The values that one record takes on, if its fence still is `fence`. Whatever is not named here stays."""

    id: str
    fence: int
    state: State
    reason: Reason
    due_at: Moment | None
    expires_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    prune_at: Moment | None
    attempts: int
    failures: int
    crashes: int
    worker_ids: str
    result: str | None
    errors: str
    unique_key: str | None
    """None gives the key up; anything else keeps what the record has by then, which another task may have taken."""
    cancel_requested: bool | None = None
    """None leaves the request as it is: it may have arrived after the record was read."""
    progress: str | None = None
    """None leaves the last report as it is."""


def moved(record: Record, transition: Transition) -> Record:
    """Return the record that a transition makes of another."""
    values = transition._asdict() | {"fence": record.fence + 1, "lease_until": None, "worker_id": ""}
    for name in ("cancel_requested", "progress"):
        if values[name] is None:
            del values[name]
    if values["unique_key"] is not None:
        del values["unique_key"]
    return record._replace(**values)


class Renewal(NamedTuple):
    """A claim that is still being worked on, and how far it has come if that is news."""

    id: str
    fence: int
    progress: str | None = None


class Held(NamedTuple):
    """What `renew` found: which of the claims are still this worker's, and which of them somebody wants cancelled."""

    ids: frozenset[str]
    cancel_requested: frozenset[str]


class Progress(NamedTuple):
    """How far a task has come; `total` is None where the end is not known."""

    done: float
    total: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The function returned; `result` is its return value as JSON text."""

    result: str


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised. `task_result` is what a backoff function is shown beside the exception."""

    exception: BaseException
    class_path: str
    traceback: str
    task_result: Any = None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The task asked to be run again in so many seconds; the attempt does not count."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Released:
    """The worker gives the task back without fault of the task; the attempt does not count."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process that ran the task died."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task stopped because somebody asked for it."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The task was not started in time."""


type Outcome = Succeeded | Raised | Snoozed | Released | Crashed | Cancelled | Expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records `find` returns; None and the empty tuple mean any."""

    states: tuple[State, ...] = ()
    queue_name: str | None = None
    task_path: str | None = None
    reason: Reason | None = None
    worker_id: str | None = None


class Page(NamedTuple):
    """Records, newest first, and the `after` that continues them: None at the end."""

    records: list[Record]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker process, as it was last heard of."""

    id: str
    host: str
    pid: int
    queues: tuple[str, ...]
    threads: int
    started_at: Moment
    seen_at: Moment
    running: int = 0
