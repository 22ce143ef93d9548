"""Say that a cache is in trouble, once a while. A cache that fails must not fill the log as well."""

import logging
import time
from typing import Final

logger = logging.getLogger("backroom.cache")

QUIET_SECONDS: Final = 60.0


class Trouble:
    """One cache's warnings: of each kind at most one a minute, with how many were left out since."""

    def __init__(self, cache: str) -> None:
        self.cache = cache
        self._said: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log a warning, unless one of this kind was logged within the last minute."""
        # Without a lock, which a child would inherit locked for ever: at worst two threads say the same once.
        moment = time.monotonic()
        if moment - self._said.get(kind, -QUIET_SECONDS) < QUIET_SECONDS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._said[kind] = moment
        left_out = self._left_out.pop(kind, 0)
        since = f" ({left_out} more since the last time)" if left_out else ""
        logger.warning("action=cache_%s cache=%s %s%s", kind, self.cache, text, since)
