"""A thread that does the same piece of work again and again, and survives whatever goes wrong in one round."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from django.db import DatabaseError, InterfaceError, connections

from backroom.tasks.exceptions import StoreUnavailable

logger = logging.getLogger("backroom.worker")

PATIENCE: Final = 2.0
"""Seconds that `stop` waits for the round under way."""


class Rounds:
    """Does `work` every `seconds()`, beginning after the first pause."""

    def __init__(self, name: str, work: Callable[[], None], *, seconds: Callable[[], float]) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"backroom-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, once the round under way is done."""
        self._stopped.set()
        self._thread.join(timeout=PATIENCE)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds()):
            guarded(self._name, self._work)
        connections.close_all()


def guarded(name: str, work: Callable[[], None]) -> None:
    """Do `work`; log what it raises instead of letting a thread of the worker die of it."""
    try:
        work()
    except (DatabaseError, InterfaceError, StoreUnavailable) as error:
        # The store is away. The feeder says so once; the next round does what this one could not.
        logger.debug("action=%s_failed reason=%s", name, type(error).__name__)
        connections.close_all()
    except BaseException:
        logger.exception("action=%s_failed", name)
        connections.close_all()
