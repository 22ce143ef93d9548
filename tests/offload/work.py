"""Tasks that the tests of offloaded views enqueue."""

from typing import Any

from django.tasks import task

from backroom.offload import Refused
from backroom.tasks.execution import TaskContext

runs: list[dict[str, Any]] = []
"""What was run since a test cleared it: the arguments of each call."""


@task
def build_report(year: int, title: str = "Sales") -> dict[str, Any]:
    runs.append({"year": year, "title": title})
    return {"title": title, "year": year, "total": year * 2}


@task(takes_context=True)
def report_progress(context: TaskContext, year: int) -> None:
    context.progress(1, 4, "a quarter")


@task
def fail(year: int) -> None:
    raise RuntimeError("a secret of the operators")


@task
def refuse(year: int) -> None:
    raise Refused("The file has no header row.\nAdd one.")
