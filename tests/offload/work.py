"""Tasks that the tests of offloaded views enqueue."""

from typing import Any, cast

from django.tasks import task

from backroom.offload import Refused

runs: list[dict[str, Any]] = []
"""What was run since a test cleared it: the arguments of each call."""


@task
def build_report(year: int, title: str = "Sales") -> dict[str, Any]:
    runs.append({"year": year, "title": title})
    return {"title": title, "year": year, "total": year * 2}


@task
def keep_dated(day: str, price: str) -> None:
    runs.append({"day": day, "price": price})


@task
def fail(year: int) -> None:
    raise RuntimeError("a secret of the operators")


@task
def refuse(year: int) -> None:
    raise Refused("The file has no header row.\nAdd one.")


expiring: Any = cast("Any", build_report).using(expires=60)
