"""Wake idle workers through Redis: each enqueue leaves a token in a list, on which one idle worker waits.

A worker asks for a token (BLPOP) only when it is about to wait and has room, so that no token goes to one that is busy,
and a token that nobody waits for is there for the next who does.

Behind the BLPOP, on the same connection, a worker's request to claim can wait too. The server comes to it the moment it
has a token to give or has waited long enough, so the claims arrive with the ring, and an idle worker asks once a second.
"""

import contextlib
import logging
import time
from typing import Final

from backroom.clock import Clock
from backroom.redis import Link
from backroom.redis.errors import TROUBLE
from backroom.redis.scripts import is_unknown
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.records import Claim
from backroom.tasks.stores.base import Request
from backroom.tasks.stores.redis import RedisStore
from backroom.tasks.transports.wakeups import Listener

logger = logging.getLogger("backroom.worker")

WAIT: Final = 1.0
"""Seconds after which the server answers that no token came, and so that it is still there."""
GRACE: Final = 5.0
"""Seconds that this answer may be late; then the connection is taken for dead."""
PATIENCE: Final = 5.0
"""Seconds before a listener that lost its server tries again."""
SHORTEST: Final = 0.001
"""Seconds that the server waits at least: to wait for none is to wait for ever."""
DRIFT: Final = 100_000
"""Microseconds by which the server's clock may be off; then it is compared anew."""


class BellListener(Listener):
    """Hears tokens, and brings claims. See `Listener` in `transports.wakeups`."""

    def __init__(self, store: RedisStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._link: Link | None = None
        self._asked_at: float | None = None
        self._next: Request | None = None
        self._sent: Request | None = None
        self._claims: list[Claim] | None = None
        self._shift: int | None = None
        self._is_told_the_time = True
        self._missed_at: float | None = None
        self._retry_at = 0.0

    @property
    def takes_requests(self) -> bool:
        """See Listener.takes_requests. A claim looks into all shards, and only the first one has bells."""
        return len(self._store.shards) == 1 and self._is_told_the_time and self._opened() is not None

    def open(self) -> None:
        """See Listener.open()."""
        try:
            self._link = self._store.server.link_to(self._store.bells()[0])
            self._link.connect()
        except TROUBLE as error:
            self._lose(error)

    def fileno(self) -> int | None:
        """See Listener.fileno(). Asks for a token, unless one has been asked for."""
        now = time.monotonic()
        if self._asked_at is not None and now > self._asked_at + WAIT + GRACE:
            self._lose(TimeoutError("the server has said nothing for too long"))
        link = self._opened()
        if link is not None and self._asked_at is None:
            try:
                self._ask(link)
                self._asked_at = now
            except TROUBLE as error:
                self._lose(error)
        return self._link.fileno() if self._link is not None else None

    def hear(self) -> bool:
        """See Listener.hear(). A request that comes back is a ring, whatever it brings."""
        if self._link is None or self._asked_at is None:
            return False
        try:
            # What has just arrived is seen sooner by the first look; the second one knows what TLS keeps to itself.
            return (self._link.is_stale() or self._link.has_reply()) and self._take_in(self._link)
        except TROUBLE as error:
            self._lose(error)
            return False

    def close(self) -> None:
        """See Listener.close()."""
        if self._link is not None:
            with contextlib.suppress(*TROUBLE):
                self._link.close()
        self._link = self._asked_at = self._next = self._sent = None

    def send(self, request: Request) -> None:
        """See Listener.send(). It leaves when `fileno` is asked for."""
        self._next = request

    @property
    def asked(self) -> int:
        """See Listener.asked."""
        return self._sent.limit if self._sent else 0

    def brought(self) -> list[Claim] | None:
        """See Listener.brought()."""
        claims, self._claims = self._claims, None
        return claims

    def call_back(self) -> list[Claim]:
        """See Listener.call_back()."""
        if self._link is not None and self._sent is not None:
            try:
                with self._store.rung_for(self._sent.worker_id):
                    self._take_in(self._link)
            except (StoreUnavailable, *TROUBLE) as error:
                # Leases decide over what it may have claimed.
                self._lose(error)
        return self.brought() or []

    def has_missed(self) -> bool:
        """See Listener.has_missed(). By then the server has come to the request, if it ever will."""
        if self._missed_at is None or time.monotonic() < self._missed_at + WAIT + GRACE:
            return False
        self._missed_at = None
        return True

    def _opened(self) -> Link | None:
        if self._link is None and time.monotonic() >= self._retry_at:
            self.open()
        return self._link

    def _ask(self, link: Link) -> None:
        bells, request = self._store.bells(), self._next
        if request is not None and self._shift is None:
            self._compare_clocks(link)
        if request is None or self._shift is None:
            link.send([("BLPOP", *bells, WAIT)])
            return
        self._next, self._sent = None, request
        seconds = min(WAIT, max(SHORTEST, self._store.seconds_until_due(request.now)))
        bells.append(self._store.bell_for(request.worker_id))
        link.send([("BLPOP", *bells, seconds), self._store.errand(request, self._shift)])

    def _compare_clocks(self, link: Link) -> None:
        before = self._clock.now()
        [reply] = link.ask_each([("TIME",)])
        if isinstance(reply, Exception):
            # Not every user may ask. Then it only rings.
            self._is_told_the_time = False
        else:
            self._shift = (before + self._clock.now()) // 2 - self._store.moment_at_server(reply)

    def _take_in(self, link: Link) -> bool:
        """Read what has arrived, and what arrives together with it; tell whether it is a ring."""
        token, sent = link.reply(), self._sent
        reply = None if sent is None else link.reply()
        refused = reply if isinstance(reply, Exception) else token if isinstance(token, Exception) else None
        if refused is not None and not is_unknown(reply):
            self._lose(refused)
            return False
        self._asked_at = self._sent = None
        if sent is None:
            return token is not None
        # A script that the server does not know is known to it again once the worker has claimed by itself.
        if refused is None:
            self._claims, moment = self._store.returned(reply, sent)
            if abs(self._clock.now() - moment) > DRIFT:
                self._shift = None
        return True

    def _lose(self, error: Exception) -> None:
        logger.debug("action=bell_lost reason=%r", str(error))
        if self._sent is not None:
            self._missed_at = time.monotonic()
        self.close()
        self._retry_at = time.monotonic() + PATIENCE
