"""A cache in one SQLite file, for the processes of one machine: no server, and quicker than one.

    CACHES = {
        "default": {
            "BACKEND": "backroom.cache.backends.sqlite.SQLiteCache",
            "LOCATION": BASE_DIR / "cache.sqlite3",
            "OPTIONS": {"MAX_BYTES": 1024**3},
        }
    }

A file that is corrupt, locked, full, gone or read-only is a miss and a warning in the log, never an exception.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, default_key_func
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation

from backroom.cache.backends.base import BackroomCache, CacheOptions
from backroom.cache.lifetimes import now
from backroom.cache.onefile import statements
from backroom.cache.onefile.demand import FULL, MASK, SEEN
from backroom.cache.onefile.failures import FAILURES, Patience
from backroom.cache.onefile.file import CacheFile, cache_file
from backroom.cache.onefile.links import Link
from backroom.cache.onefile.rows import Row, delete, delete_many
from backroom.cache.onefile.statements import AT_ONCE, GET, id_of, ids_of
from backroom.cache.onefile.upkeep import Budget
from backroom.cache.onefile.verbs import Verbs
from backroom.options import Above, AtLeast

type Job[T] = tuple[str, Callable[[Link], T], Callable[[], T]]
"""What one verb does: its name for the log, what is tried with a link, and what is answered when it cannot be done."""

MEBIBYTE: Final = 1024**2

_by_id: Final = itemgetter(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLiteOptions(CacheOptions):
    """The OPTIONS of `SQLiteCache`."""

    MAX_BYTES: Annotated[int, AtLeast(MEBIBYTE)] | None = 256 * MEBIBYTE
    MAX_ENTRIES: Annotated[int, AtLeast(1)] | None = None
    COMPRESS_FROM: Annotated[int, AtLeast(0)] | None = 64 * 1024
    LOCK_TIMEOUT: Annotated[float, Above(0)] = 2.0
    CULL_FREQUENCY: object = None
    """Django's, taken so that a setting can be carried over. A little is forgotten at a time here, so it says nothing."""


def path_of(location: Any) -> Path | None:
    """Return the file that a LOCATION names, or None."""
    if not location or not isinstance(location, (str, os.PathLike)):
        return None
    return Path(os.path.abspath(location))  # noqa: PTH100 - a link must stay what it is until it is opened


class SQLiteCache(BackroomCache):
    """Django's cache API on one file. It is safe for threads, processes, forks and event loops."""

    options_class = SQLiteOptions

    def __init__(self, location: str | os.PathLike[str], params: dict[str, Any]) -> None:
        self.path = path_of(location)
        super().__init__(str(self.path), params)

    def salt(self, name: str) -> str:
        """Return the file's name: the same in containers that see its folder at different places."""
        return Path(name).name

    @cached_property
    def _file(self) -> CacheFile:
        # Asked for late: Django's checks make every cache, often as another user than the one who owns its files.
        if self.path is None:
            raise ImproperlyConfigured("SQLiteCache has no LOCATION. Name the file that it keeps its entries in.")
        return cache_file(self.path, Budget(self.options.MAX_BYTES, self.options.MAX_ENTRIES))

    @cached_property
    def _verbs(self) -> Verbs:
        return Verbs(self._file, self.codec)

    # ── Reading: it takes no lock and waits for nobody, so it is done in the event loop as well ──────────────────────

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of a key, `default` when there is none."""
        made = self.make_and_validate_key(key, version)
        id_ = id_of(made)
        file = self._file
        # What `Demand.note` does: of what is asked for often there is nothing to note, and this is the hottest path there is.
        demand = file.demand
        if (slots := demand.slots)[id_ & MASK] & SEEN != slots[FULL]:
            demand.note(id_)
        values = (id_, made, time.time() * 1000)
        try:
            link = None
            try:
                link = file.link()
                row = link.ask(GET, values).fetchone()
            finally:
                # What `CacheFile.done` does; before there is a link it may have been interrupted as well.
                (file.links.mine if link is None else link).is_used = False
        except FAILURES as error:
            row = self._read_again(error, GET, values)
        if row is None:
            return default
        payload = row[0]
        return payload if type(payload) is not bytes else self._verbs.decoded(payload, made, default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values of those keys that have one."""
        keys = list(keys)
        asked = dict(zip(self.make_and_validate_keys(keys, version), keys, strict=True))
        ids = ids_of(asked)
        self._file.demand.note_all(ids)
        missing = self._missing_key
        found = {}
        for first in range(0, len(ids), AT_ONCE):
            for made, payload in self._rows(ids[first : first + AT_ONCE]):
                # An entry of another key with the same id was not asked for.
                if (key := asked.get(made, missing)) is not missing:
                    value = payload if type(payload) is not bytes else self._verbs.decoded(payload, made, missing)
                    if value is not missing:
                        found[key] = value
        return found

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Tell whether a key has a value."""
        return self._row_of(statements.HAS, key, version) is not None

    def expires_at(self, key: Any, version: int | None = None) -> int | None:
        """Return the moment at which an entry expires, `FOREVER` or None when there is no such entry."""
        row = self._row_of(statements.EXPIRES_AT, key, version)
        return None if row is None else row[0]

    def stats(self) -> dict[str, int]:
        """Return how many entries there are, about, and how many bytes of the file are in use."""
        return self._read("stats", self._verbs.measured, {"entries": 0, "bytes": 0})

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """As `get`: in the event loop itself, since it takes microseconds and a thread would take more."""
        return self.get(key, default, version)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As `get_many`."""
        return self.get_many(keys, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """As `has_key`."""
        return self.has_key(key, version)

    # ── Writing: one writer at a time, so whoever comes second naps, in an event loop without blocking it ────────────

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store a value."""
        self._do(*self._set(key, value, timeout, version))

    async def aset(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """As `set`."""
        await self._ado(*await _encoded(self._set, key, value, timeout, version))

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store a value unless the key has one; tell whether it was stored. Of several at once one is told so."""
        return self._do(*self._add(key, value, timeout, version))

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As `add`."""
        return await self._ado(*await _encoded(self._add, key, value, timeout, version))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to a number, which keeps its lifetime, and return the sum; raise `ValueError` when there is no such key."""
        return self._known(key, self._do(*self._incr(key, delta, version)))

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As `incr`."""
        return self._known(key, await self._ado(*self._incr(key, delta, version)))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give an entry another lifetime from now on; tell whether there was one that had not expired."""
        return self._do(*self._touch(key, timeout, version))

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As `touch`."""
        return await self._ado(*self._touch(key, timeout, version))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Delete a key; tell whether it had a value."""
        return self._do(*self._delete(key, version))

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """As `delete`."""
        return await self._ado(*self._delete(key, version))

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Store several values at once, all or none of them; return the keys that were not stored."""
        return self._do(*self._set_many(data, timeout, version))

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """As `set_many`."""
        return await self._ado(*await _encoded(self._set_many, data, timeout, version))

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete several keys at once."""
        self._do(*self._delete_many(keys, version))

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """As `delete_many`."""
        await self._ado(*self._delete_many(keys, version))

    def clear(self) -> None:
        """Delete every entry of this cache. Those that another alias keeps in the file under its KEY_PREFIX stay."""
        self._do(*self._clear())

    async def aclear(self) -> None:
        """As `clear`."""
        await self._ado(*self._clear())

    def delete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """Delete a key if this text is its value, in one step; tell whether it was."""
        return self._do(*self._delete_if(key, value, version))

    async def adelete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """As `delete_if`."""
        return await self._ado(*self._delete_if(key, value, version))

    def touch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """Let a key expire later if this text is its value, in one step; tell whether it was."""
        return self._do(*self._touch_if(key, value, timeout, version))

    async def atouch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """As `touch_if`."""
        return await self._ado(*self._touch_if(key, value, timeout, version))

    # ── Each of them as a job ────────────────────────────────────────────────────────────────────────────────────────

    def _set(self, key: Any, value: Any, timeout: Any, version: int | None) -> Job[Any]:
        row, verbs = self._row(key, value, self.expiry(timeout, now()), version), self._verbs
        return "set", lambda link: verbs.store(link, row), lambda: verbs.forget([row[1]])

    def _set_many(self, data: Mapping[Any, Any], timeout: Any, version: int | None) -> Job[list[Any]]:
        rows, refused = self._rows_to_store(data, timeout, version)
        verbs = self._verbs

        def attempt(link: Link) -> list[Any]:
            verbs.store_many(link, rows, list(refused.values()))
            return list(refused)

        def otherwise() -> list[Any]:
            verbs.forget([*(row[1] for row in rows), *refused.values()])
            return list(data)

        return "set_many", attempt, otherwise

    def _add(self, key: Any, value: Any, timeout: Any, version: int | None) -> Job[bool]:
        row, verbs = self._row(key, value, self.expiry(timeout, now(), exact=True), version), self._verbs
        return "add", lambda link: verbs.store_new(link, row), _no

    def _incr(self, key: Any, delta: Any, version: int | None) -> Job[int | None]:
        made, verbs = self.make_and_validate_key(key, version), self._verbs
        return "incr", lambda link: verbs.add_to(link, made, delta), _nothing

    def _touch(self, key: Any, timeout: Any, version: int | None) -> Job[bool]:
        made = self.make_and_validate_key(key, version)

        def attempt(link: Link) -> bool:
            moment = now()
            return self._verbs.touch(link, made, self.expiry(timeout, moment, exact=True), moment)

        return "touch", attempt, _no

    def _touch_if(self, key: Any, value: str, timeout: float | None, version: int | None) -> Job[bool]:
        made = self.make_and_validate_key(key, version)

        def attempt(link: Link) -> bool:
            moment = now()
            return self._verbs.touch_if(link, made, value, self.expiry(timeout, moment, exact=True), moment)

        return "touch_if", attempt, _no

    def _delete(self, key: Any, version: int | None) -> Job[bool]:
        made = self.make_and_validate_key(key, version)
        return "delete", lambda link: delete(link, made), lambda: self._verbs.forget([made])

    def _delete_many(self, keys: Iterable[Any], version: int | None) -> Job[Any]:
        made = self.make_and_validate_keys(list(keys), version)
        return "delete_many", lambda link: delete_many(link, made), lambda: self._verbs.forget(made)

    def _delete_if(self, key: Any, value: str, version: int | None) -> Job[bool]:
        made = self.make_and_validate_key(key, version)
        return "delete_if", lambda link: self._verbs.delete_if(link, made, value), _no

    def _clear(self) -> Job[None]:
        prefix, verbs = self._own_prefix, self._verbs
        return "clear", lambda link: verbs.clear(link, prefix), verbs.forget_everything

    @property
    def _own_prefix(self) -> str | None:
        """How what is ours can be told by its key, or None: a function of the project's own may name keys as it likes."""
        is_djangos = self.key_func is default_key_func and type(self).make_key is BaseCache.make_key
        return f"{self.key_prefix}:" if is_djangos else None

    # ── Rows and values ──────────────────────────────────────────────────────────────────────────────────────────────

    def _row(self, key: Any, value: Any, expires_at: int, version: int | None) -> Row:
        made = self.make_and_validate_key(key, version)
        return (id_of(made), made, expires_at, self.codec.encode(value, made))

    def _rows_to_store(
        self, data: Mapping[Any, Any], timeout: Any, version: int | None
    ) -> tuple[list[Row], dict[Any, str]]:
        """Return the rows, and those keys, as they were given and as they are stored, whose value is too large."""
        moment, names = now(), self.make_and_validate_keys(data, version)
        if self.options.JITTER:
            lifetimes = [self.expiry(timeout, moment) for _ in names]
        else:
            lifetimes = [self.expiry(timeout, moment)] * len(names)
        payloads = map(self.codec.encode, data.values(), names)
        rows: list[Row] = list(zip(ids_of(names), names, lifetimes, payloads, strict=True))
        refused: dict[Any, str] = {}
        if not self._verbs.is_small(rows):
            large = [self._verbs.is_too_large(row) for row in rows]
            refused = dict(compress(zip(data, names, strict=True), large))
            rows = [row for row, is_large in zip(rows, large, strict=True) if not is_large]
        # In the order of the table, so that entries on the same page are written together.
        rows.sort(key=_by_id)
        return rows, refused

    # ── Running it ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _row_of(self, statement: str, key: Any, version: int | None) -> Any:
        made = self.make_and_validate_key(key, version)
        id_ = id_of(made)
        self._file.demand.note(id_)
        values = (id_, made, now())
        return self._read("get", lambda link: link.ask(statement, values).fetchone(), None)

    def _rows(self, ids: Sequence[int]) -> list[Any]:
        values = (*ids, now())
        statement = statements.get_many(len(ids))
        return self._read("get_many", lambda link: link.ask(statement, values).fetchall(), [])

    def _read_again(self, error: Exception, statement: str, values: tuple[Any, ...]) -> Any:
        """Return the row after all: another process may just be putting the log in order after a crash."""
        if Patience(self._file, self.options.LOCK_TIMEOUT).nap(error) is None:
            try:
                self._file.failed(error, "get")
            finally:
                self._file.done()
            return None
        return self._read("get", lambda link: link.ask(statement, values).fetchone(), None)

    def _read[T](self, action: str, attempt: Callable[[Link], T], otherwise: T) -> T:
        return self._do(action, attempt, lambda: otherwise)

    def _do[T](self, action: str, attempt: Callable[[Link], T], otherwise: Callable[[], T]) -> T:
        """Return what `attempt` does, napping while another process holds the lock; `otherwise` when it cannot be done."""
        patience, file = None, self._file
        while True:
            try:
                return attempt(file.link())
            except FAILURES as error:
                patience = patience or Patience(file, self.options.LOCK_TIMEOUT)
                if (nap := patience.nap(error)) is None:
                    file.failed(error, action)
                    return otherwise()
            finally:
                file.done()
            time.sleep(nap)

    async def _ado[T](self, action: str, attempt: Callable[[Link], T], otherwise: Callable[[], T]) -> T:
        """As `_do`, napping in the event loop."""
        patience, file = None, self._file
        while True:
            try:
                return attempt(file.link())
            except FAILURES as error:
                patience = patience or Patience(file, self.options.LOCK_TIMEOUT)
                if (nap := patience.nap(error)) is None:
                    file.failed(error, action)
                    return otherwise()
            finally:
                file.done()
            await asyncio.sleep(nap)


async def _encoded[**P, T](encode: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return encode(*args, **kwargs)
    except SynchronousOnlyOperation:
        # To pickle a query set is to run its query, which Django lets no event loop do.
        return await sync_to_async(encode, thread_sensitive=True)(*args, **kwargs)


def _no() -> bool:
    return False


def _nothing() -> None:
    return None
