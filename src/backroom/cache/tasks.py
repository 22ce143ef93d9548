"""What the task queue is asked to do: to compute anew what a page or a function has served stale."""

from typing import Any

from django.tasks import task


@task
def refresh_function(path: str, packed: list[Any], key: str) -> None:
    """Compute one call of a cached function anew, if it is still due."""
    from backroom.cache.functions import refresh_call

    refresh_call(path, packed, key)


@task
def refresh_page(address: dict[str, Any]) -> None:
    """Visit a page anew, if it is still due."""
    from backroom.cache.pages.revisiting import revisit

    revisit(address)


def enqueue(refresh: Any, backend: str, *args: Any) -> None:
    """Enqueue one of them on a backend. Where records can be told to, they go when it has succeeded: there may be many."""
    given = refresh.using(backend=backend)
    if hasattr(given, "keep_result"):
        given = given.using(keep_result=False)
    given.enqueue(*args)
