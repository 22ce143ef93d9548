"""Our `Task`: Django's, with the options of `@task(…)` that say how it is to be run, retried, timed out and kept."""

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack

from django.tasks import task_backends
from django.tasks.base import Task as DjangoTask
from django.tasks.exceptions import InvalidTask

from backroom.clock import SystemClock, after
from backroom.tasks.moments import shown
from backroom.tasks.policy import Backoff, Exponential
from backroom.tasks.records import UniqueScope

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:

    class _Base(DjangoTask[P, R]):
        pass
else:

    class _Base(DjangoTask):
        """Django's class knows no type parameters at run time; this one shrugs them off."""

        __slots__ = ()

        def __class_getitem__(cls, _parameters: Any) -> type:
            return cls


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """Let no second task with the same key in, and give its caller the first one's result.

    `key` is a function of the task's arguments that returns a string; without it the arguments themselves are the
    key. `scope` is `"pending"` (until it starts), `"unfinished"` (until it has finished) or a number of seconds
    since it was enqueued.
    """

    key: Callable[..., str] | None = None
    scope: Literal["pending", "unfinished"] | float = "unfinished"

    @property
    def stored_scope(self) -> UniqueScope:
        """The scope as a record keeps it."""
        return self.scope if isinstance(self.scope, str) else "window"


class Options(TypedDict, total=False):
    """What Backroom's `@task(…)` and `using()` take beside Django's own; `Task` says what each means."""

    max_attempts: int
    backoff: Backoff
    retry_on: type[BaseException] | Sequence[type[BaseException]]
    fail_on: type[BaseException] | Sequence[type[BaseException]]
    timeout: float | None
    expires: float | timedelta | None
    keep_result: bool | float
    atomic: bool
    unique: bool | Unique | Callable[..., str] | None
    metadata: Mapping[str, Any]


class Changes(Options, total=False):
    """What `using()` takes."""

    priority: int | None
    queue_name: str | None
    run_after: datetime | timedelta | None
    backend: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(_Base[P, R]):
    """A function that can be enqueued, and how it is to be run.

    Args (of `@task` and of `using()`):
        max_attempts: how often it may fail before it has FAILED; 1 means no retry.
        backoff: seconds before the next attempt: a number, a sequence (its last value repeats), an `Exponential`,
            or a function of the exception and the task's result that returns seconds, or None to give up.
        retry_on: exceptions worth another attempt.
        fail_on: exceptions that are not, even when `retry_on` has their base class.
        timeout: seconds an attempt may take. Then `TaskTimeout` is raised in it, and after the backend's
            `timeout_grace` the process that runs it is ended.
        expires: seconds (or a timedelta) since it was enqueued, or since its `run_after`, by which it must have
            started; else it fails as expired.
        keep_result: True keeps the finished task as long as the backend's `retention` says, a number of seconds
            that long, False not at all once it has succeeded.
        atomic: run in a transaction of the store's database which also records the success: both or neither.
        unique: True (the same arguments until it has finished), a key function, or a `Unique`.
        metadata: JSON values that travel with the task and are found in `context.metadata`.

    """

    max_attempts: int = 1
    backoff: Backoff = field(default=Exponential(), hash=False)
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    fail_on: tuple[type[BaseException], ...] = ()
    timeout: float | None = None
    expires: float | timedelta | None = None
    keep_result: bool | float = True
    atomic: bool = False
    unique: Unique | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __new__(cls, *_args: Any, **given: Any) -> Self:
        """Refuse names that are no options, with those that are: `@task` hands over whatever it was given."""
        if unknown := given.keys() - cls.__dataclass_fields__.keys():
            raise TypeError(_refusal("@task", unknown, DECLARABLE))
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Check the options, then let the backend check the task."""
        normalize(self)
        # Zero-argument super() needs the class cell, which a dataclass with slots replaces.
        DjangoTask.__post_init__(self)

    def get_backend(self) -> Any:
        """Return the backend that the task is enqueued on."""
        # Django's looks for the handler in its package anew at each enqueue.
        return task_backends[self.backend]

    def using(self, **changes: Unpack[Changes]) -> Self:
        """Return a task with some attributes and options changed; `run_after` may be a datetime or a timedelta.

        An attribute that is given is set, to None as well: `using(run_after=None)` takes a delay away. Raise
        `TypeError` for a name that it does not know, `InvalidTask` for a value that makes no sense.
        """
        given: dict[str, Any] = dict(changes)
        if unknown := given.keys() - CHANGEABLE:
            raise TypeError(_refusal("using()", unknown, CHANGEABLE))
        if "run_after" in given:
            given["run_after"] = _moment(given["run_after"])
        for name in ("priority", "queue_name", "backend"):
            # As in the base class: there, None means as it was.
            if given.get(name, "") is None:
                del given[name]
        return replace(self, **given)


CHANGEABLE: Final = frozenset(Changes.__annotations__)
"""What `using()` changes."""
DECLARABLE: Final = CHANGEABLE - {"run_after"} | {"takes_context"}
"""What `@task(…)` takes."""


def normalize(task: Task[..., Any]) -> None:
    """Bring the options into one form each, so that equal tasks compare equal; raise `InvalidTask` for nonsense."""
    for name in ("retry_on", "fail_on"):
        object.__setattr__(task, name, _exception_classes(name, getattr(task, name)))
    object.__setattr__(task, "unique", _unique(task.unique))
    if isinstance(task.backoff, list):
        object.__setattr__(task, "backoff", tuple(task.backoff))
    if isinstance(task.expires, timedelta):
        object.__setattr__(task, "expires", task.expires.total_seconds())
    for problem in _problems(task):
        msg = f"Task {task.module_path}: {problem}"
        raise InvalidTask(msg)


def _refusal(taker: str, unknown: Collection[str], known: Collection[str]) -> str:
    meant = [close for name in sorted(unknown) for close in difflib.get_close_matches(name, known, n=1)]
    hint = f" Did you mean {', '.join(meant)}?" if meant else ""
    return f"{taker} does not know {', '.join(sorted(unknown))}.{hint} It takes: {', '.join(sorted(known))}."


def _moment(value: Any) -> datetime | None:
    if isinstance(value, timedelta):
        return shown(after(SystemClock().now(), value.total_seconds()))
    if value is None or isinstance(value, datetime):
        return value
    msg = f"run_after is {value!r}; use a datetime, a timedelta or None."
    raise InvalidTask(msg)


def _exception_classes(name: str, value: Any) -> tuple[type[BaseException], ...]:
    classes: tuple[Any, ...] = tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            msg = f"{name} takes exception classes; {cls!r} is none."
            raise InvalidTask(msg)
    return classes


def _unique(value: Any) -> Unique | None:
    if value is None or value is False:
        return None
    if value is True:
        return Unique()
    if isinstance(value, Unique):
        return value
    if callable(value):
        return Unique(key=value)
    msg = f"unique is {value!r}; use True, a function of the arguments that returns a string, or Unique(…)."
    raise InvalidTask(msg)


def _problems(task: Task[..., Any]) -> Iterator[str]:
    if not _is_whole(task.max_attempts) or task.max_attempts < 1:
        yield f"max_attempts is {task.max_attempts!r}; use a whole number from 1 upwards."
    if task.timeout is not None and not (_is_number(task.timeout) and task.timeout > 0):
        yield f"timeout is {task.timeout!r}; use a number of seconds above 0, or None."
    if task.expires is not None and not _is_number(task.expires):
        yield f"expires is {task.expires!r}; use a number of seconds, a timedelta, or None."
    if not isinstance(task.keep_result, bool) and not (_is_number(task.keep_result) and task.keep_result >= 0):
        yield f"keep_result is {task.keep_result!r}; use True, False or a number of seconds."
    metadata: object = task.metadata
    if not isinstance(metadata, Mapping):
        yield f"metadata is {task.metadata!r}; use a dict of JSON values."
    if not _is_backoff(task.backoff):
        yield (
            f"backoff is {task.backoff!r}; use seconds, a sequence of seconds, exponential(…), or a function of the "
            "exception and the result."
        )
    scope: Any = task.unique.scope if task.unique else "pending"
    if scope not in {"pending", "unfinished"} and not (_is_number(scope) and scope > 0):
        yield f"Unique.scope is {scope!r}; use 'pending', 'unfinished' or a number of seconds."


def _is_backoff(value: Any) -> bool:
    if isinstance(value, Exponential) or callable(value):
        return True
    if isinstance(value, tuple):
        return bool(value) and all(_is_number(item) and item >= 0 for item in value)
    return _is_number(value) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
