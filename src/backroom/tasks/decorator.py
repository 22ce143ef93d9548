"""`@task` as a type checker should see it. It is Django's, which knows the options of the backend that TASKS names."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Literal, Protocol, Unpack, cast, overload

from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from django.tasks import task as django_task

from backroom.tasks.definition import Options, P, R, Task
from backroom.tasks.exceptions import NotOurs

if TYPE_CHECKING:
    from backroom.tasks.execution import TaskContext


class Declared(Options, total=False):
    """What `@task(…)` takes beside `takes_context`."""

    priority: int
    queue_name: str
    backend: str


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
def task(*, takes_context: Literal[True], **options: Unpack[Declared]) -> ContextDecorator: ...
@overload
def task(*, takes_context: Literal[False] = False, **options: Unpack[Declared]) -> Decorator: ...
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
