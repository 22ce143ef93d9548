"""What a project imports from us, as its type checker sees it: checked by mypy and basedpyright, never run.

A public name that loses its type, or becomes `Any`, fails `make types` here.
"""

from datetime import timedelta
from typing import assert_type

import backroom
from backroom.tasks import (
    Exponential,
    Snooze,
    TaskCancelled,
    TaskContext,
    TaskResult,
    TaskTimeout,
    Unique,
    enqueue_many,
)
from backroom.tasks import Task as BackroomTask


def of_the_package() -> None:
    assert_type(backroom.__version__, str)


def year_of(year: int) -> str:
    return f"report-{year}"


def of_a_task(report: BackroomTask[[int], str]) -> None:
    assert_type(report.call(2024), str)
    changed = report.using(
        priority=10,
        run_after=timedelta(minutes=5),
        max_attempts=5,
        backoff=Exponential(base=2, cap=600),
        timeout=30,
        expires=timedelta(hours=1),
        unique=Unique(key=year_of, scope="pending"),
        metadata={"asked_by": "a visitor"},
    )
    assert_type(changed, BackroomTask[[int], str])
    assert_type(enqueue_many(report, [((year,), {}) for year in range(2000, 2025)]), list[TaskResult[[int], str]])


def of_a_result(result: TaskResult[[int], str]) -> None:
    assert_type(result.label, str)
    assert_type(result.return_value, str)
    assert_type(result.id, str)


def in_a_task(context: TaskContext) -> str:
    context.progress(1, 10, "reading")
    assert_type(context.is_cancelled(), bool)
    assert_type(context.attempt, int)
    try:
        raise Snooze(60)
    except (TaskTimeout, TaskCancelled) as stopped:
        return str(stopped)
