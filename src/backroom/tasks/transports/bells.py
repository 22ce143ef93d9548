"""Wake idle workers through Redis: each enqueue leaves a token in a list, on which one idle worker waits.

A worker asks for a token (BLPOP) only when it is about to wait and has room, so that no token goes to one that is busy,
and a token that nobody waits for is there for the next who does. Like every wake-up it is only ever a hint.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from backroom.redis import Link, Server
from backroom.redis.errors import TROUBLE

logger = logging.getLogger("backroom.worker")

WAIT: Final = 10
"""Seconds after which the server answers that no token came, and so that it is still there."""
GRACE: Final = 5.0
"""Seconds that this answer may be late; then the connection is taken for dead."""
PATIENCE: Final = 5.0
"""Seconds before a listener that lost its server tries again."""


class BellListener:
    """Hears tokens. See `Listener` in `transports.wakeups`."""

    def __init__(self, server: Server, bells: Callable[[], Sequence[str]]) -> None:
        self._server = server
        self._bells = bells
        self._link: Link | None = None
        self._asked_at: float | None = None
        self._retry_at = 0.0

    def open(self) -> None:
        """See Listener.open()."""
        try:
            self._link = self._server.link_to(self._bells()[0])
            self._link.connect()
        except TROUBLE as error:
            self._lose(error)

    def fileno(self) -> int | None:
        """See Listener.fileno(). Asks for a token, unless one has been asked for."""
        now = time.monotonic()
        if self._asked_at is not None and now > self._asked_at + WAIT + GRACE:
            self._lose(TimeoutError("the server has said nothing for too long"))
        if self._link is None and now >= self._retry_at:
            self.open()
        if self._link is not None and self._asked_at is None:
            try:
                self._link.send([("BLPOP", *self._bells(), WAIT)])
                self._asked_at = now
            except TROUBLE as error:
                self._lose(error)
        return self._link.fileno() if self._link is not None else None

    def hear(self) -> bool:
        """See Listener.hear()."""
        if self._link is None or self._asked_at is None:
            return False
        try:
            if not self._link.has_reply():
                return False
            reply = self._link.reply()
        except TROUBLE as error:
            self._lose(error)
            return False
        if isinstance(reply, Exception):
            self._lose(reply)
            return False
        self._asked_at = None
        return reply is not None

    def close(self) -> None:
        """See Listener.close()."""
        if self._link is not None:
            with contextlib.suppress(*TROUBLE):
                self._link.close()
        self._link = self._asked_at = None

    def _lose(self, error: Exception) -> None:
        logger.debug("action=bell_lost reason=%r", str(error))
        self.close()
        self._retry_at = time.monotonic() + PATIENCE
