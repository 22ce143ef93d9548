"""`@task` as a type checker should see it. It is Django's, which knows the options of the backend that TASKS names."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Literal, Protocol, TypedDict, Unpack, cast, overload

from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from django.tasks import task as django_task

from backroom.tasks.definition import P, R, Task, Unique
from backroom.tasks.exceptions import NotOurs
from backroom.tasks.policy import Backoff

if TYPE_CHECKING:
    from backroom.tasks.execution import TaskContext


class Options(TypedDict, total=False):
    """What `@task(…)` takes beside `takes_context`; `Task` says what each means."""

    priority: int
    queue_name: str
    backend: str
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


class Decorator(Protocol):
    """What `task(…)` returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class ContextDecorator(Protocol):
    """What `task(takes_context=True, …)` returns: the caller of the task does not pass the context."""

    @overload
    def __call__(self, function: "Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]]", /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: "Callable[Concatenate[TaskContext, P], R]", /) -> Task[P, R]: ...


@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(*, takes_context: Literal[True], **options: Unpack[Options]) -> ContextDecorator: ...
@overload
def task(*, takes_context: Literal[False] = False, **options: Unpack[Options]) -> Decorator: ...
def task(function: Any = None, /, **options: Any) -> Any:
    """Make a task of a function, with Django's decorator and the options of Backroom's `Task`.

    Raise `NotOurs` when TASKS names a backend that knows none of these options.
    """
    decorate = cast("Callable[[Any], Any]", django_task(**options))

    def with_advice(function: Any) -> Any:
        try:
            return decorate(function)
        except TypeError as error:
            alias = options.get("backend", DEFAULT_TASK_BACKEND_ALIAS)
            if issubclass(task_backends[alias].task_class, Task):
                raise
            raise NotOurs(alias, task_backends[alias]) from error

    return with_advice if function is None else with_advice(function)
