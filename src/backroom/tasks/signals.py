"""Signals that Django's `task_enqueued`, `task_started` and `task_finished` leave open, and how all of them are sent.

Receivers get `sender` (the backend's class) and `task_result`. What a receiver raises is logged and changes nothing.
"""

import logging
from asyncio import CancelledError
from typing import Any, Final

from django.dispatch import Signal
from django.tasks.signals import (
    log_task_enqueued,
    log_task_finished,
    log_task_started,
    task_enqueued,
    task_finished,
    task_started,
)

from backroom.upkeep import tidying

__all__ = ["asend", "has_receivers", "is_heard", "send", "task_retried", "tidying"]

logger = logging.getLogger("backroom.tasks")
django_logger = logging.getLogger("django.tasks")

task_retried = Signal()
"""An attempt failed and another one will follow. Beside `task_result`: `run_after`, the datetime from which."""

_LOGS: Final = {task_enqueued: log_task_enqueued, task_started: log_task_started, task_finished: log_task_finished}
"""Django's own receivers: each writes a line to `django.tasks`."""


def is_heard(signal: Signal, level: int) -> bool:
    """Tell whether sending would reach anything: a receiver, or a log that takes Django's line of this level."""
    return django_logger.isEnabledFor(level) or has_receivers(signal)


def has_receivers(signal: Signal) -> bool:
    """Tell whether there is a receiver beside Django's own, which does no more than write a line to its log."""
    # Looking at them costs a tenth of sending, which asks every receiver whether it still lives.
    own = id(_LOGS.get(signal))
    for receiver in signal.receivers:  # noqa: SIM110 - a generator's frame for each attempt
        if receiver[0][0] != own:
            return True
    return False


def send(signal: Signal, sender: type, **named: Any) -> None:
    """Send a signal; whatever a receiver raises is logged and goes no further."""
    try:
        signal.send_robust(sender=sender, **named)
    except (Exception, SystemExit, CancelledError):
        # `send_robust` lets some pass: sys.exit(), and any failure of a receiver that has no name to log.
        logger.exception("action=receiver_failed")


async def asend(signal: Signal, sender: type, **named: Any) -> None:
    """Send a signal from an event loop: async receivers in it, others in a thread, where they may use the ORM."""
    if not has_receivers(signal):
        # Writing a line to a log needs no thread, and a thread costs as much as a short task.
        send(signal, sender, **named)
        return
    try:
        await signal.asend_robust(sender=sender, **named)
    except (Exception, SystemExit, CancelledError):
        logger.exception("action=receiver_failed")
