"""The one Celery task, under the name where Celery's autodiscovery looks for it."""

from celery import shared_task

from backroom.celery.serving import engine
from backroom.tasks.transports.celery import TASK


# Acknowledged when it is done: what a killed worker had taken and not begun goes to another one at once.
@shared_task(name=TASK, ignore_result=True, acks_late=True, reject_on_worker_lost=True, serializer="json")  # type: ignore[untyped-decorator] # Celery publishes no types
def run(alias: str, task_id: str) -> None:
    """Run a task of ours, unless somebody else has it."""
    engine().run(alias, task_id)
