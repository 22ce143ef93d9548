"""A store that cannot be reached: when a worker tries it again, and for how long it looks for claims that it never heard of."""

import logging
import math
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("backroom.worker")

FIRST: Final = 0.1
MOST: Final = 5.0
"""Seconds between two tries at a store that cannot be reached: doubled from the first to the most."""
LOOK_AGAIN: Final = 2.0
"""Seconds between two looks for claims of which this process never heard. It looks for a lease after it lost its store from
sight: a network that was cut repeats what was sent, and so a request that was given up may arrive when all seems well."""


class Absences:
    """What one worker process knows of its store's absences. It is the main thread's alone."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._since = 0.0
        self._look_at = math.inf
        self._doubts_until = -math.inf
        self.pause = 0.0
        """Seconds until the next try; 0 while the store is there."""

    @property
    def is_on(self) -> bool:
        """Whether the store could not be reached when it was last asked."""
        return self.pause > 0

    @property
    def seconds(self) -> float:
        """For how long it has been away; 0 while it is there."""
        return time.monotonic() - self._since if self.is_on else 0.0

    def begin(self, error: Exception) -> None:
        """Note that the store could not be reached."""
        if not self.is_on:
            self._since = time.monotonic()
            logger.error("action=store_away reason=%r: waiting for it to return", str(error).strip())
        self.pause = min(MOST, max(FIRST, 2 * self.pause))

    def end(self) -> None:
        """Note that it has answered, and that what it has for this process was looked for."""
        if self.is_on:
            logger.warning("action=store_back")
        self.pause = 0.0

    def call_for_a_look(self, has_missed: Callable[[], bool]) -> bool:
        """Tell whether there may be claims now of which this process never heard; a look for them is to follow."""
        now = time.monotonic()
        if self.is_on or has_missed():
            self._doubts_until = now + self._lease
        elif now < self._look_at:
            return False
        self._look_at = now + LOOK_AGAIN if now < self._doubts_until else math.inf
        return True

    def shorten(self, seconds: float) -> float:
        """Return for how long of these seconds a worker may wait before it looks again."""
        return min(seconds, LOOK_AGAIN) if self._look_at < math.inf else seconds
