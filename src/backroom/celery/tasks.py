"""The one Celery task, under the name where Celery's autodiscovery looks for it."""

from celery import shared_task

from backroom.celery.serving import engine
from backroom.tasks.transports.celery import TASK


# Acknowledged when it begins, whatever the project has told Celery: RabbitMQ cuts a worker off that owes it the answer for
# longer than consumer_timeout, and the record knows better than a message what is to start again.
@shared_task(  # type: ignore[untyped-decorator] # Celery publishes no types
    name=TASK,
    ignore_result=True,
    acks_late=False,
    reject_on_worker_lost=False,
    serializer="json",
    Request="backroom.celery.requests:Message",
)
def run(alias: str, task_id: str) -> None:
    """Run a task of ours, unless somebody else has it."""
    engine().run(alias, task_id)
