"""Memory in the process before any other cache, which no other process leaves stale.

    CACHES = {
        "shared": {"BACKEND": "backroom.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:6379/1"},
        "default": {"BACKEND": "backroom.cache.backends.tiered.TieredCache", "LOCATION": "shared"},
    }

LOCATION is the alias of the cache behind. Every write goes there, and what is read often is answered from memory.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from zlib import crc32

from django.conf import settings
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, default_key_func
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.utils.module_loading import import_string

from backroom.cache.backends.base import BackroomCache, CacheOptions
from backroom.cache.backends.sqlite import SQLiteCache
from backroom.cache.folders import make_private
from backroom.cache.nearby.memory import Memory, memory_of
from backroom.cache.nearby.news import MASK, Deaf, News, NewsInFile, NoNews
from backroom.cache.nearby.postgres import NewsOnPostgres, can_notify
from backroom.cache.trouble import Trouble
from backroom.options import Above, AtLeast

OWN: Final = ("KEY_PREFIX", "VERSION", "KEY_FUNCTION", "TIMEOUT")
"""Parameters that, where they are given, hold for the cache behind as well: both name an entry alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredOptions(CacheOptions):
    """The OPTIONS of `TieredCache`."""

    MAX_STALENESS: Annotated[float, Above(0)] = 10.0
    """The seconds for which, at the very longest, a value may be read that another process has replaced."""
    MAX_BYTES: Annotated[int, AtLeast(0)] = 32 * 1024**2
    """Of values and names in this process's memory."""
    MAX_ENTRIES: Annotated[int, AtLeast(1)] = 10_000
    CULL_FREQUENCY: object = None
    """Django's, taken so that a setting can be carried over."""


class Nothing(BaseCache):
    """Stands behind a cache that names none: it can be made, as Django's checks do, and whatever is asked of it raises."""

    def __init__(self, problem: str) -> None:
        super().__init__({})
        self._problem = problem

    def get(self, *_args: Any, **_kwargs: Any) -> Any:
        """Raise `ImproperlyConfigured`, as every other verb does."""
        raise ImproperlyConfigured(self._problem)

    add = set = touch = delete = clear = ttl = attl = expires_at = get


class TieredCache(BackroomCache):
    """Django's cache API in two tiers. It is safe for threads, processes, forks and event loops."""

    options_class = TieredOptions

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(str(location), params)
        self.behind: BaseCache
        if problem := self.problem_of_location(location, params):
            self._place = (str(location), "", "")
            self.behind = Nothing(f"TieredCache: {problem}")
        else:
            merged: dict[str, Any] = {
                **settings.CACHES[location],
                **{name: params[name] for name in OWN if name in params},
            }
            backend, place = merged.pop("BACKEND"), merged.pop("LOCATION", "")
            self._place = (location, backend, str(place))
            self.behind = import_string(backend)(place, merged)
            behind: Any = self.behind
            if hasattr(behind, "get_latest"):
                # Locks and generations are asked for past this memory, and past replicas that lag behind.
                self.get_latest, self.aget_latest = behind.get_latest, behind.aget_latest
        self.key_prefix, self.version = self.behind.key_prefix, self.behind.version
        self.default_timeout = self.behind.default_timeout
        # An attribute that may be replaced, as every other cache has it; the names are then others in both tiers.
        self.key_func = self.behind.key_func
        self._pid = 0
        self._take_memory()

    @classmethod
    def problem_of_location(cls, location: Any, params: Mapping[str, Any]) -> str | None:  # noqa: ARG003 - others need them
        """See BackroomCache.problem_of_location()."""
        behind = settings.CACHES.get(location) if isinstance(location, str) else None
        if behind is None:
            return f"LOCATION is {location!r}. Name the alias in CACHES of the cache behind it."
        if behind.get("BACKEND") == f"{cls.__module__}.{cls.__qualname__}":
            return f"LOCATION is {location!r}, a TieredCache too. Name an alias that keeps its entries elsewhere."
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "key_func" and "behind" in self.__dict__:
            self.behind.key_func = value
        super().__setattr__(name, value)

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of a key, `default` when there is none."""
        made = self.make_and_validate_key(key, version)
        if (entry := self._near(made)) is not None:
            payload = entry.payload
            return payload if type(payload) is not bytes else self.codec.decode(payload, made)
        token, asked_at = self._news.tokens[_stripe(made)], time.monotonic()
        value, left = self._with_what_is_left(key, version)
        if value is self._missing_key:
            return default
        self._keep(made, value, token, asked_at, left)
        return value

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """As `get`."""
        made = self.make_and_validate_key(key, version)
        if (entry := self._near(made)) is not None:
            return self.codec.decode(entry.payload, made)
        token, asked_at = self._news.tokens[_stripe(made)], time.monotonic()
        value, left = await self._awith_what_is_left(key, version)
        if value is self._missing_key:
            return default
        self._keep(made, value, token, asked_at, left)
        return value

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values of those keys that have one. What is not in memory is asked for at once, and not kept."""
        found, others = self._near_ones(keys, version)
        return found | self.behind.get_many(others, version=version) if others else found

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As `get_many`."""
        found, others = self._near_ones(keys, version)
        return found | await self.behind.aget_many(others, version=version) if others else found

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Tell whether a key has a value."""
        return self.behind.has_key(key, version=version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """As `has_key`."""
        return await self.behind.ahas_key(key, version=version)

    def ttl(self, key: Any, version: int | None = None) -> float | None:
        """Return the seconds until an entry expires, if the cache behind can tell."""
        behind: Any = self.behind
        left: float | None = behind.ttl(key, version)
        return left

    async def attl(self, key: Any, version: int | None = None) -> float | None:
        """As `ttl`."""
        behind: Any = self.behind
        left: float | None = await behind.attl(key, version)
        return left

    def expires_at(self, key: Any, version: int | None = None) -> int | None:
        """Return the moment at which an entry expires, `FOREVER` or None when there is no such entry."""
        behind: Any = self.behind
        moment: int | None = behind.expires_at(key, version)
        return moment

    # ── Writing: behind first, and then nobody reads what it was before ──────────────────────────────────────────────

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store a value."""
        self._changing([key], version, partial(self.behind.set, key, value, timeout=timeout, version=version))

    async def aset(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """As `set`."""
        await self._achanging([key], version, self.behind.aset(key, value, timeout=timeout, version=version))

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store a value unless the key has one; tell whether it was stored."""
        return self._added(key, version, self.behind.add(key, value, timeout=timeout, version=version))

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As `add`."""
        return self._added(key, version, await self.behind.aadd(key, value, timeout=timeout, version=version))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to a number and return the sum; raise `ValueError` when there is no such key."""
        total: int = self._changing([key], version, partial(self.behind.incr, key, delta, version=version))
        return total

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As `incr`."""
        total: int = await self._achanging([key], version, self.behind.aincr(key, delta, version=version))
        return total

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move a value to a later version of its key; return that version."""
        version = self.version if version is None else version
        try:
            return self.behind.incr_version(key, delta, version=version)
        finally:
            self._moved(key, version, version + delta)

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As `incr_version`."""
        version = self.version if version is None else version
        try:
            return await self.behind.aincr_version(key, delta, version=version)
        finally:
            self._moved(key, version, version + delta)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give an entry another lifetime from now on; tell whether there was one."""
        return bool(self._changing([key], version, partial(self.behind.touch, key, timeout, version=version)))

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As `touch`."""
        return bool(await self._achanging([key], version, self.behind.atouch(key, timeout, version=version)))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Delete a key; tell whether it had a value."""
        return bool(self._changing([key], version, partial(self.behind.delete, key, version=version)))

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """As `delete`."""
        return bool(await self._achanging([key], version, self.behind.adelete(key, version=version)))

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Store several values; return the keys that were not stored."""
        act = partial(self.behind.set_many, dict(data), timeout=timeout, version=version)
        return list(self._changing(data, version, act))

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """As `set_many`."""
        return list(
            await self._achanging(data, version, self.behind.aset_many(dict(data), timeout=timeout, version=version))
        )

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete several keys at once."""
        keys = list(keys)
        self._changing(keys, version, partial(self.behind.delete_many, keys, version=version))

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """As `delete_many`."""
        keys = list(keys)
        await self._achanging(keys, version, self.behind.adelete_many(keys, version=version))

    def clear(self) -> None:
        """Clear the cache behind, and every memory of it."""
        try:
            self.behind.clear()
        finally:
            self._memory.changed(None)

    async def aclear(self) -> None:
        """As `clear`."""
        try:
            await self.behind.aclear()
        finally:
            self._memory.changed(None)

    def delete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """Delete a key if this text is its value, in one step where the cache behind can; tell whether it was."""
        behind: Any = self.behind
        if not hasattr(behind, "delete_if"):
            return behind.get(key, version=version) == value and self.delete(key, version)
        return bool(self._changing([key], version, partial(behind.delete_if, key, value, version=version)))

    def touch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """Let a key expire later if this text is its value, in one step where the cache behind can; tell whether it was."""
        behind: Any = self.behind
        if not hasattr(behind, "touch_if"):
            return behind.get(key, version=version) == value and self.touch(key, timeout, version)
        return bool(self._changing([key], version, partial(behind.touch_if, key, value, timeout, version=version)))

    async def adelete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """As `delete_if`."""
        behind: Any = self.behind
        if not hasattr(behind, "adelete_if"):
            return await behind.aget(key, version=version) == value and await self.adelete(key, version)
        return bool(await self._achanging([key], version, behind.adelete_if(key, value, version=version)))

    async def atouch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """As `touch_if`."""
        behind: Any = self.behind
        if not hasattr(behind, "atouch_if"):
            return await behind.aget(key, version=version) == value and await self.atouch(key, timeout, version)
        return bool(await self._achanging([key], version, behind.atouch_if(key, value, timeout, version=version)))

    def close(self, **kwargs: Any) -> None:
        """Close the cache behind."""
        self.behind.close(**kwargs)

    # ── The memory ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_memory(self) -> None:
        options: TieredOptions = self.options
        make = partial(Memory, self._make_news, max_bytes=options.MAX_BYTES, max_entries=options.MAX_ENTRIES)
        self._memory = memory_of((*self._place, options.MAX_STALENESS, options.MAX_BYTES, options.MAX_ENTRIES), make)
        self._news: News = self._memory.news
        self._pid = os.getpid()

    def _make_news(self) -> News:
        if (make := getattr(self.behind, "news", None)) is not None:
            news: News = make(patience=self.options.MAX_STALENESS)
            return news
        if isinstance(self.behind, SQLiteCache) and self.behind.path is not None:
            return _news_in(self.behind.path.with_name(f"{self.behind.path.name}-tiers"))
        if isinstance(self.behind, FileBasedCache):
            return _news_in(Path(self._place[2]) / "tiers")
        if isinstance(self.behind, DatabaseCache):
            alias = router.db_for_write(self.behind.cache_model_class)
            if can_notify(alias):
                return NewsOnPostgres(alias, patience=self.options.MAX_STALENESS)
        return NoNews()

    def make_and_validate_key(self, key: Any, version: int | None = None) -> str:
        """Return the key as it is stored. The cache behind validates it, so that nobody is warned twice."""
        if self.key_func is default_key_func and not self._makes_keys:
            return f"{self.key_prefix}:{self.version if version is None else version}:{key}"
        return str(self.make_key(key, version=version))

    def _near(self, made: str) -> Any:
        """Return what memory has of a key, if it can be relied on."""
        if self._pid != os.getpid():
            self._take_memory()
        entry = self._memory.entries.get(made)
        if entry is None or entry.until <= time.monotonic():
            return None
        news = self._news
        if entry.token != news.tokens[_stripe(made)] or not news.hears:
            return None
        entry.was_used = True
        return entry

    def _near_ones(self, keys: Iterable[Any], version: int | None) -> tuple[dict[Any, Any], list[Any]]:
        found, others = {}, []
        for key in dict.fromkeys(keys):
            made = self.make_and_validate_key(key, version)
            if (entry := self._near(made)) is None:
                others.append(key)
            else:
                found[key] = self.codec.decode(entry.payload, made)
        return found, others

    def _keep(self, made: str, value: Any, token: int, asked_at: float, left: float | None) -> None:
        """Keep what was asked for at a moment, from when on it may have been replaced."""
        lasting = self.options.MAX_STALENESS if left is None else min(left, self.options.MAX_STALENESS)
        if lasting > 0 and self._news.hears and self._news.is_settled():
            self._memory.keep(made, self.codec.encode(value, made), token=token, until=asked_at + lasting)

    def _with_what_is_left(self, key: Any, version: int | None) -> tuple[Any, float | None]:
        """Return what the cache behind has, and how long it is good; None where that is long, or it cannot tell."""
        behind: Any = self.behind
        if not hasattr(behind, "get_with_ttl"):
            return behind.get(key, self._missing_key, version=version), None
        found: tuple[Any, float | None] = behind.get_with_ttl(key, self._missing_key, version)
        return found

    async def _awith_what_is_left(self, key: Any, version: int | None) -> tuple[Any, float | None]:
        behind: Any = self.behind
        if not hasattr(behind, "aget_with_ttl"):
            return await behind.aget(key, self._missing_key, version=version), None
        found: tuple[Any, float | None] = await behind.aget_with_ttl(key, self._missing_key, version)
        return found

    def _changing(self, keys: Iterable[Any], version: int | None, act: Callable[[], Any]) -> Any:
        try:
            return act()
        finally:
            self._changed(keys, version)

    async def _achanging(self, keys: Iterable[Any], version: int | None, act: Any) -> Any:
        try:
            return await act
        finally:
            self._changed(keys, version)

    def _added(self, key: Any, version: int | None, added: object) -> bool:
        # What is missing is kept by nobody, unless it was forgotten behind before it expired.
        if added and self.make_and_validate_key(key, version) in self._memory.entries:
            self._changed([key], version)
        return bool(added)

    def _moved(self, key: Any, *versions: int) -> None:
        for version in versions:
            self._changed([key], version)

    def _changed(self, keys: Iterable[Any], version: int | None) -> None:
        if self._pid != os.getpid():
            self._take_memory()
        if stripes := {_stripe(self.make_and_validate_key(key, version)) for key in keys}:
            self._memory.changed(stripes)


def _news_in(path: Path) -> News:
    try:
        make_private(path.parent)
        return NewsInFile(path)
    except OSError as error:
        Trouble(str(path)).warn("deaf", f"{error} The cache behind is asked each time.")
        return Deaf()


def _stripe(made: str) -> int:
    return crc32(made.encode("utf-8", "surrogatepass")) & MASK
