"""Send again what is ready and has no message any more: a broker that lost its memory, a purge, a send that failed.

Nothing notes which messages there are, and a task may rightly wait for hours behind others. What tells a lost message
from a waiting one is the queue at the broker. When that is empty, whatever has been ready for long has lost its message.
While it is not, only the oldest task of a queue may have, and that one alone is sent again.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Final

from backroom.clock import Moment, after, seconds_between
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.queries import ready_since
from backroom.tasks.records import READY, Query, Record

logger = logging.getLogger("backroom.celery")

MOST: Final = 2_000
"""Messages sent again in one round for one queue."""
PAGE: Final = 500
LOOKED_AT: Final = 20_000
"""Records of a queue that one round looks through for them."""
LONGEST: Final = 3_600.0
"""Seconds between two messages for the same task at most: each is given twice as long as the one before."""


class Lost:
    """Finds the tasks of one backend that wait in vain, and sends them again."""

    def __init__(self, backend: CeleryBackend) -> None:
        self._backend = backend
        self._sent: dict[str, tuple[int, Moment]] = {}

    def send(self) -> None:
        """Send again what has lost its message."""
        now = self._backend.clock.now()
        oldest = [record for record in self._backend.store.oldest_ready() if self._has_waited(record, now)]
        if not oldest:
            self._sent.clear()
        if sent := sum(self._send_of(record, now) for record in oldest):
            logger.warning("action=sent_again backend=%s tasks=%d", self._backend.alias, sent)

    def note(self, records: Iterable[Record]) -> None:
        """Note that messages for these have been sent just now."""
        now = self._backend.clock.now()
        for record in records:
            times, _ = self._sent.get(record.id, (0, 0))
            wait = min(LONGEST, self._backend.settings.resend_after * 2 ** min(times, 20))
            self._sent[record.id] = (times + 1, after(now, wait))

    def _send_of(self, oldest: Record, now: Moment) -> int:
        transport = self._backend.transport
        is_empty = transport.depth(transport.queue_of(oldest.queue_name)) == 0
        records = list(self._unheard(oldest.queue_name, now)) if is_empty else [oldest]
        again = [record for record in records if self._may_be_sent(record, now)]
        ids = self._backend.deliver(again).ids
        self.note(record for record in again if record.id in ids)
        return len(ids)

    def _unheard(self, queue_name: str, now: Moment) -> Iterator[Record]:
        query = Query(states=(READY,), queue_name=queue_name)
        mark = None
        found = 0
        for _ in range(LOOKED_AT // PAGE):
            page = self._backend.store.find(query, after=mark, limit=PAGE)
            for record in page.records:
                if found < MOST and self._has_waited(record, now) and self._may_be_sent(record, now):
                    found += 1
                    yield record
            mark = page.next_after
            if mark is None or found >= MOST:
                return

    def _has_waited(self, record: Record, now: Moment) -> bool:
        return seconds_between(ready_since(record), now) >= self._backend.settings.resend_after

    def _may_be_sent(self, record: Record, now: Moment) -> bool:
        _, not_before = self._sent.get(record.id, (0, now))
        return not_before <= now
