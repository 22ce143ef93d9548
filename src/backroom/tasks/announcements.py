"""Tell the world what became of tasks, after the store has taken it down: signals and one log line for each move."""

import json
import logging
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from django.tasks.base import TaskResultStatus
from django.tasks.signals import task_finished

from backroom.tasks.moments import shown
from backroom.tasks.records import (
    CANCELLED,
    DEFERRED,
    FAILED,
    FINISHED,
    LOST,
    READY,
    SUCCESSFUL,
    Record,
    Transition,
    moved,
)
from backroom.tasks.resolve import Defaults, UnknownTask, resolve
from backroom.tasks.results import TaskResult, result_of
from backroom.tasks.signals import is_heard, send, task_retried

logger = logging.getLogger("backroom.tasks")


class Move(NamedTuple):
    """A transition that applied, the record as it was before, and what is left of the attempt, if one was made."""

    record: Record
    transition: Transition
    result: TaskResult[..., Any] | None = None
    exception: BaseException | None = None


def announce(moves: Iterable[Move], *, sender: type, defaults: Defaults) -> None:
    """Log each move, and send the signal that belongs to it."""
    for move in moves:
        _log(move)
        if move.transition.state in FINISHED:
            _send_finished(move, sender, defaults)
        elif move.exception is not None:
            _send_retried(move, sender)


def _send_finished(move: Move, sender: type, defaults: Defaults) -> None:
    if not is_heard(task_finished, logging.INFO if move.transition.state == SUCCESSFUL else logging.ERROR):
        return
    try:
        result = _final_result(move, defaults)
    except UnknownTask:
        # Django's signal carries a Task, and there is none; the log line is all that can be said.
        return
    if move.exception is None:
        send(task_finished, sender, task_result=result)
        return
    try:
        raise move.exception
    except BaseException:  # noqa: BLE001 - Django's log receiver looks for the exception being handled
        send(task_finished, sender, task_result=result)


def _final_result(move: Move, defaults: Defaults) -> TaskResult[..., Any]:
    record, transition, result, _ = move
    if result is None or transition.state == FAILED:
        after = moved(record, transition)
        return result_of(after, result.task if result else resolve(record, defaults).task)
    # The common case, spelled out: building a second result would cost as much as the attempt did.
    object.__setattr__(result, "status", TaskResultStatus.SUCCESSFUL)
    object.__setattr__(result, "label", SUCCESSFUL)
    object.__setattr__(result, "finished_at", shown(transition.finished_at or 0))
    object.__setattr__(result, "_return_value", json.loads(transition.result or "null"))
    return result


def _send_retried(move: Move, sender: type) -> None:
    if move.result is not None:
        send(task_retried, sender, task_result=move.result, run_after=shown(move.transition.due_at or 0))


ACTIONS: Final = {SUCCESSFUL: "succeeded", FAILED: "failed", READY: "released", DEFERRED: "deferred"}


def _log(move: Move) -> None:
    transition = move.transition
    is_unknown = isinstance(move.exception, UnknownTask)
    is_trouble = is_unknown or transition.reason == LOST or transition.crashes > move.record.crashes
    is_retry = move.exception is not None and transition.state == DEFERRED
    # Nobody else tells of it: Django's log knows the start of each attempt and the end of the last one.
    level = logging.WARNING if is_trouble or is_retry else logging.INFO
    if not logger.isEnabledFor(level):
        return
    action = transition.reason if transition.reason in {CANCELLED, LOST, "expired", "timeout"} else None
    logger.log(
        level,
        "action=%s task_id=%s path=%s queue=%s attempt=%d%s",
        action or ("retrying" if is_retry else ACTIONS[transition.state]),
        transition.id,
        move.record.task_path,
        move.record.queue_name,
        move.record.attempts,
        f"{_reason(move.exception)}{_due(transition)}" if is_unknown or is_retry else "",
    )


def _reason(error: BaseException | None) -> str:
    # Of a task that is not known the message quotes no argument, as the function was not called.
    told = repr(str(error)) if isinstance(error, UnknownTask) else type(error).__name__
    return f" reason={told}"


def _due(transition: Transition) -> str:
    at = transition.due_at
    return "" if at is None or transition.state != DEFERRED else f" run_after={shown(at).isoformat(timespec='seconds')}"
