"""What Celery's main process knows of messages of ours, and does with them: revokes, gives back, hands over."""

import logging
import threading
import time
from typing import Any, Final

from celery import bootsteps
from celery.worker.request import Request
from celery.worker.state import active_requests, reserved_requests
from django.db import connections

from backroom.celery.serving import hand_over
from backroom.tasks import control

logger = logging.getLogger("backroom.celery")

HELD: Final = 120.0
"""Seconds for which a worker keeps a message from RabbitMQ whose task cannot begin, because others take long."""
LOOK: Final = 30.0
"""Seconds between two looks for such messages."""


class Message(Request):  # type: ignore[misc] # Celery publishes no types
    """A message of ours, from its arrival until its task has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received_at = time.monotonic()

    def revoked(self) -> bool:
        """Tell whether Celery was told to revoke it. Its task is cancelled then: it would be sent again otherwise."""
        was_known = self._already_revoked
        is_revoked: bool = super().revoked()
        if is_revoked and not was_known:
            self._cancel_its_task()
        return is_revoked

    def terminate(self, pool: Any, signal: Any = None) -> None:  # noqa: ARG002 - Celery's
        """Have its task cancelled: politely first, and on every pool, where Celery kills, or raises an error."""
        self._cancel_its_task()
        self._announce_revoked("terminated", True, None, False)  # noqa: FBT003 - Celery's

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:  # noqa: FBT001, FBT002 - Celery's
        """End what runs in a cold shutdown, or hand it back, where no pool can end it and Celery raises an error."""
        if not hand_over():
            super().cancel(pool, signal, emit_retry)

    def _cancel_its_task(self) -> None:
        alias, task_id = self.args
        # This is the thread that talks to the broker, in a process that forks: no connection stays open in it.
        threading.Thread(target=_cancel, args=(alias, task_id), name="backroom-cancel", daemon=True).start()


class GivingBack(bootsteps.StartStopStep):  # type: ignore[misc] # as above
    """Gives messages back that wait for long behind others, before RabbitMQ's `consumer_timeout` ends the worker."""

    requires = {"celery.worker.consumer.tasks:Tasks"}

    def start(self, consumer: Any) -> None:
        """Begin to look; again after each reconnection, at which Celery clears its timer."""
        if consumer.connection.transport.driver_type == "amqp":
            consumer.timer.call_repeatedly(LOOK, give_back)


def give_back() -> None:
    """Give back what has been here for long and was not begun.

    What has it in its queue still begins it in the end, and finds in the store whether it is to be had.
    """
    horizon = time.monotonic() - HELD
    for message in set(reserved_requests) - set(active_requests):
        if isinstance(message, Message) and not message.acknowledged and message.received_at <= horizon:
            message.reject(requeue=True)


def _cancel(alias: str, task_id: str) -> None:
    try:
        control.cancel([task_id], using=alias)
        logger.warning("action=revoked task_id=%s", task_id)
    except Exception:
        logger.exception("action=not_revoked task_id=%s", task_id)
    finally:
        connections.close_all()
