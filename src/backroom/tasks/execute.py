"""Run one execution and say what came of it. Knows no store and no clock."""

from collections.abc import Sequence
from traceback import format_exception
from typing import Any

from backroom.tasks.arguments import result_of
from backroom.tasks.exceptions import Snooze, TaskCancelled, TaskTimeout
from backroom.tasks.execution import Execution, TaskContext
from backroom.tasks.middleware import Middleware, onion
from backroom.tasks.records import Cancelled, Outcome, Raised, Snoozed, Succeeded


def execute(execution: Execution, *, layers: tuple[Middleware, ...] = (), max_result_bytes: int) -> Outcome:
    """Call the task's function in this thread; return what came of it. `KeyboardInterrupt` passes through."""
    resolved = execution.resolved
    # Django's Task.call looks at each call what kind of function it is.
    function = resolved.task.call if resolved.is_coroutine else resolved.task.func
    try:
        with onion(execution, layers):
            value = execution.call(function, *_arguments(execution), **execution.kwargs)
            return Succeeded(result_of(value, limit=max_result_bytes))
    except KeyboardInterrupt:
        # Whoever pressed the keys means this process.
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit too is only the task's
        return outcome_of(error, execution)


async def aexecute(execution: Execution, *, layers: tuple[Middleware, ...] = (), max_result_bytes: int) -> Outcome:
    """Await the task's coroutine in this loop; return what came of it."""
    function = execution.resolved.task.func
    try:
        with onion(execution, layers):
            value = await execution.acall(function, *_arguments(execution), **execution.kwargs)
            return Succeeded(result_of(value, limit=max_result_bytes))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - as in execute()
        return outcome_of(error, execution)


def outcome_of(error: BaseException, execution: Execution | None = None) -> Outcome:
    """Return the outcome that an exception means."""
    match error:
        case Snooze(seconds=seconds):
            return Snoozed(seconds)
        case TaskCancelled():
            return Cancelled()
    if execution and execution.is_cancel_requested():
        return Cancelled()
    timeout = execution.resolved.timeout if execution else None
    # A task may raise it without having a timeout itself.
    if isinstance(error, TaskTimeout) and timeout is not None and not error.args:
        error.args = (f"The attempt took longer than its timeout of {timeout:g} s.",)
    kind = type(error)
    text = "".join(format_exception(error))
    return Raised(error, f"{kind.__module__}.{kind.__qualname__}", text, execution.result if execution else None)


def _arguments(execution: Execution) -> Sequence[Any]:
    if execution.resolved.task.takes_context:
        return [TaskContext(task_result=execution.result, execution=execution), *execution.args]
    return execution.args
