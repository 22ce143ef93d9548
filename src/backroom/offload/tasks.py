"""The upkeep of operations as a task, for a project that has schedules."""

from django.tasks import task

from backroom.offload import maintenance


@task
def prune_operations() -> int:
    """Delete operations whose tasks are long forgotten; return how many. See `maintenance.prune()`."""
    return maintenance.prune()
