"""The entries that a process keeps of one cache, within a budget: whoever was asked for since the last look may stay."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Any, Final

from backroom.cache.nearby.news import News

OVERHEAD: Final = 300
"""Bytes that an entry takes beside its name and its value, about."""


class Entry:
    """A value as the codec made it, the token of its stripe when it was asked for, and until when it is good."""

    __slots__ = ("payload", "size", "token", "until", "was_used")

    def __init__(self, payload: Any, *, token: int, until: float, size: int) -> None:
        self.payload = payload
        self.token = token
        self.until = until
        self.size = size
        self.was_used = False


class Memory:
    """One for each cache and process; threads share it."""

    def __init__(self, make_news: Callable[[], News], *, max_bytes: int, max_entries: int) -> None:
        self._make_news = make_news
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.bytes = 0
        self.news = self._make_news()
        self.news.start()

    def keep(self, made: str, payload: Any, *, token: int, until: float) -> None:
        """Keep an entry, and forget others where there is no more room."""
        size = OVERHEAD + len(made) + (len(payload) if isinstance(payload, (str, bytes)) else 8)
        if size > self._max_bytes:
            return
        entry = Entry(payload, token=token, until=until, size=size)
        with self._lock:
            if (old := self.entries.pop(made, None)) is not None:
                self.bytes -= old.size
            self.entries[made] = entry
            self.bytes += size
            while self.bytes > self._max_bytes or len(self.entries) > self._max_entries:
                self._forget_one()

    def changed(self, stripes: Collection[int] | None) -> None:
        """Let nobody read what is kept of these stripes any more, in any process; None: of all."""
        if stripes is None:
            with self._lock:
                self.entries.clear()
                self.bytes = 0
        self.news.changed(stripes)

    def _forget_one(self) -> None:
        while True:
            made, entry = self.entries.popitem(last=False)
            if not entry.was_used:
                self.bytes -= entry.size
                return
            # It was asked for since it last stood here: a second chance.
            entry.was_used = False
            self.entries[made] = entry


def memory_of(place: Hashable, make: Callable[[], Memory]) -> Memory:
    """Return this process's memory of a cache."""
    found = _memories.get(place)
    if found is None:
        with _making:
            found = _memories.get(place) or _memories.setdefault(place, make())
    return found


def _forget_the_parents() -> None:
    global _making  # noqa: PLW0603 - a lock that another thread of the parent may have held
    _making = threading.Lock()
    _memories.clear()


_making = threading.Lock()
_memories: Final[dict[Hashable, Memory]] = {}
os.register_at_fork(after_in_child=_forget_the_parents)
