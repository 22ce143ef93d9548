"""The signal by which a worker's rounds of maintenance reach every package that keeps something.

It stands below them all, so that none of them needs to know the tasks whose worker sends it.
"""

import logging
from collections.abc import Callable
from functools import wraps

from django.db import InterfaceError, OperationalError, connections
from django.dispatch import Signal

from backroom.errors import Unavailable

logger = logging.getLogger("backroom.worker")

tidying = Signal()
"""A worker does a round of maintenance, every few seconds. `sender` and `using` are those of the task backend.

A receiver does one bounded step of its own upkeep, in the worker's clerk thread.
"""


def in_rounds[**P](step: Callable[P, None]) -> Callable[P, None]:
    """Leave to the next round what a receiver of `tidying` cannot do while a database or a server is away; say so once.

    A process may serve several backends, of which one alone is away.
    """
    away: set[object] = set()

    @wraps(step)
    def receiver(*args: P.args, **kwargs: P.kwargs) -> None:
        backend = kwargs.get("using")
        try:
            step(*args, **kwargs)
        except (OperationalError, InterfaceError, Unavailable) as error:
            if backend not in away:
                reason = " ".join(str(error).split())
                logger.warning("action=upkeep_waits module=%s reason=%r", step.__module__, reason)
            away.add(backend)
            # One that broke would stay so: no request ends in this thread.
            connections.close_all()
        else:
            away.discard(backend)

    return receiver
