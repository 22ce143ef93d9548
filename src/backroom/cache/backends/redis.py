"""A cache in Redis or Valkey, for many machines: one server, one that Sentinels watch, or a Cluster.

    CACHES = {
        "default": {
            "BACKEND": "backroom.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:6379/1",
        }
    }

What each verb asks, and makes of the replies, is written once, in `redisverbs`; `_run` and `_arun` carry it out.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import isawaitable
from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import SynchronousOnlyOperation

from backroom.cache.absence import Absence, absence_of
from backroom.cache.backends.base import CacheOptions, problems_of_cache
from backroom.cache.backends.redisverbs import ROOT, At, Plan, RedisVerbs
from backroom.cache.nearby.news import NewsOnRedis
from backroom.cache.values import Unreadable
from backroom.options import REDIS_URL, Above, AtLeast
from backroom.redis import Address, RedisUnavailable, Server, server_in_loop, server_of
from backroom.redis.addresses import problem_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCacheOptions(CacheOptions):
    """The OPTIONS of `RedisCache`. Times are in seconds."""

    SENTINELS: list[str] | tuple[str, ...] = ()
    """`host:port` of each Sentinel; the host in LOCATION is then the name of the service that they watch."""
    SENTINEL_PASSWORD: str = field(default="", repr=False)
    CLUSTER: bool = False
    """Whether LOCATION names a node of a Redis Cluster."""
    SOCKET_TIMEOUT: Annotated[float, Above(0)] = 5.0
    CONNECT_TIMEOUT: Annotated[float, Above(0)] = 2.0
    MAX_CONNECTIONS: Annotated[int, AtLeast(1)] = 100
    """Connections of a process to one node at most. An event loop needs one."""
    IGNORE_EXCEPTIONS: bool = False
    """Whether a server that cannot serve is a miss and a warning in the log, instead of an exception."""
    RETRY_AFTER: Annotated[float, AtLeast(0)] = 1.0
    """With IGNORE_EXCEPTIONS: how long a server that could not be reached is not asked again."""
    COMPRESS_FROM: Annotated[int, AtLeast(0)] | None = 64 * 1024
    MAX_ENTRIES: object = None
    """Django's, taken so that a setting can be carried over. The server's maxmemory and its policy say what is kept."""
    CULL_FREQUENCY: object = None


class RedisCache(RedisVerbs):
    """Django's cache API on Redis ≥ 7 or Valkey ≥ 8. It is safe for threads, forks and event loops."""

    options_class = RedisCacheOptions
    homes_of_options = dict.fromkeys(
        ("db", "username", "password"), "It is part of LOCATION: redis://username:password@host:6379/db."
    )

    def __init__(self, server: str | Sequence[str], params: dict[str, Any]) -> None:
        urls = re.split("[;,]", server) if isinstance(server, str) else list(server)
        super().__init__(params)
        # Asked for late: with no LOCATION it is the server of every part, which the settings name.
        self._urls = [url.strip() for url in urls if url.strip()]

    @classmethod
    def problem_of_location(cls, location: Any, params: Mapping[str, Any]) -> str | None:
        """See BackroomCache.problem_of_location()."""
        options = params.get("OPTIONS", {})
        fitting = {
            name: value for name, value in options.items() if not problems_of_cache(cls.options_class, {name: value})
        }
        cache = cls(location or "", {**params, "OPTIONS": fitting})
        return next(filter(None, (problem_of(address, setting="LOCATION") for address in cache._addresses)), None)

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of a key, `default` when there is none."""
        return self._run("get", self._get(key, default, version), default, self._reader)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """As `get`."""
        return await self._arun("get", self._get(key, default, version), default, self._reader)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values of those keys that have one."""
        return self._run("get_many", self._get_many(keys, version), {}, self._reader)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As `get_many`."""
        return await self._arun("get_many", self._get_many(keys, version), {}, self._reader)

    def get_latest(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As `get_many`, from the primary: what was written just now is found, however far replicas lag behind."""
        return self._run("get_many", self._get_many(keys, version), {})

    async def aget_latest(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As `get_latest`."""
        return await self._arun("get_many", self._get_many(keys, version), {})

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Tell whether a key has a value."""
        return self._run("has_key", self._has_key(key, version), otherwise=False, at=self._reader)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """As `has_key`."""
        return await self._arun("has_key", self._has_key(key, version), otherwise=False, at=self._reader)

    def ttl(self, key: Any, version: int | None = None) -> float | None:
        """Return the seconds until an entry expires, by the server's clock: None when it never does, 0 without one."""
        return self._run("ttl", self._ttl(key, version), 0)

    async def attl(self, key: Any, version: int | None = None) -> float | None:
        """As `ttl`."""
        return await self._arun("ttl", self._ttl(key, version), 0)

    def get_with_ttl(self, key: Any, default: Any = None, version: int | None = None) -> tuple[Any, float | None]:
        """Return the value of a key and the seconds until it expires, in one round trip."""
        return self._run("get", self._get_with_ttl(key, default, version), (default, 0), self._reader)

    async def aget_with_ttl(
        self, key: Any, default: Any = None, version: int | None = None
    ) -> tuple[Any, float | None]:
        """As `get_with_ttl`."""
        return await self._arun("get", self._get_with_ttl(key, default, version), (default, 0), self._reader)

    def expires_at(self, key: Any, version: int | None = None) -> int | None:
        """Return the moment at which an entry expires, `FOREVER` or None when there is no such entry."""
        return self._run("ttl", self._expires_at(key, version), None)

    # ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store a value."""
        self._run("set", self._set(key, value, timeout, version), None)

    async def aset(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """As `set`."""
        await self._arun_pickling("set", lambda: self._set(key, value, timeout, version), None)

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store a value unless the key has one; tell whether it was stored. Of several at once one is told so."""
        return self._run("add", self._add(key, value, timeout, version), otherwise=False)

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As `add`."""
        return await self._arun_pickling("add", lambda: self._add(key, value, timeout, version), otherwise=False)

    def get_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> Any:
        """Return the value of a key, after `default` (or what it returns) was stored if there was none.

        Of several at once all return the value that was stored first.
        """
        found = self.get(key, self._missing_key, version)
        if found is not self._missing_key:
            return found
        value = default() if callable(default) else default
        return self._run("add", self._add_or_get(key, value, timeout, version), value)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """As `get_or_set`; `default` may also be a coroutine function."""
        found = await self.aget(key, self._missing_key, version)
        if found is not self._missing_key:
            return found
        value = default() if callable(default) else default
        if callable(default) and isawaitable(value):
            value = await value
        return await self._arun_pickling("add", lambda: self._add_or_get(key, value, timeout, version), value)

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to a number, which keeps its lifetime, and return the sum; raise `ValueError` when there is no such key."""
        return self._known(key, self._run("incr", self._incr(key, delta, version), None))

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As `incr`."""
        return self._known(key, await self._arun("incr", self._incr(key, delta, version), None))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give an entry another lifetime from now on; tell whether there was one."""
        return self._run("touch", self._touch(key, timeout, version), otherwise=False)

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As `touch`."""
        return await self._arun("touch", self._touch(key, timeout, version), otherwise=False)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Delete a key; tell whether it had a value."""
        return self._run("delete", self._delete(key, version), otherwise=False)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """As `delete`."""
        return await self._arun("delete", self._delete(key, version), otherwise=False)

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Store several values in one round trip for each thousand; return the keys that were not stored."""
        return self._run("set_many", self._set_many(data, timeout, version), list(data))

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """As `set_many`."""
        return await self._arun_pickling("set_many", lambda: self._set_many(data, timeout, version), list(data))

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete several keys at once."""
        self._run("delete_many", self._delete_many(keys, version), None)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """As `delete_many`."""
        await self._arun("delete_many", self._delete_many(keys, version), None)

    def clear(self) -> None:
        """Delete every entry under this KEY_PREFIX, a thousand at a time. Whatever else the server keeps stays."""
        self._run("clear", self._clear(), None)

    async def aclear(self) -> None:
        """As `clear`."""
        await self._arun("clear", self._clear(), None)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move a value to a later version of its key, where it keeps its lifetime; return that version."""
        return self._known(key, self._run("incr_version", self._incr_version(key, delta, version), None))

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As `incr_version`."""
        return self._known(key, await self._arun("incr_version", self._incr_version(key, delta, version), None))

    def delete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """Delete a key if this text is its value, in one step; tell whether it was."""
        return self._run("delete_if", self._delete_if(key, value, version), otherwise=False)

    def touch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """Let a key expire later if this text is its value, in one step; tell whether it was."""
        return self._run("touch_if", self._touch_if(key, value, timeout, version), otherwise=False)

    async def adelete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """As `delete_if`."""
        return await self._arun("delete_if", self._delete_if(key, value, version), otherwise=False)

    async def atouch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """As `touch_if`."""
        return await self._arun("touch_if", self._touch_if(key, value, timeout, version), otherwise=False)

    def news(self, *, patience: float) -> NewsOnRedis:
        """Return how processes that keep a memory of this cache tell each other of its changes."""
        return NewsOnRedis(server_of, self._address, f"{ROOT}news", patience=patience)

    def failures(self) -> int:
        """Return how many calls of this process the server could not serve, with IGNORE_EXCEPTIONS."""
        return self._absence.failures

    # ── The servers ──────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _addresses(self) -> list[Address]:
        options: RedisCacheOptions = self.options
        first = Address(
            url=self._urls[0] if self._urls else REDIS_URL.value,
            sentinels=tuple(options.SENTINELS),
            sentinel_password=options.SENTINEL_PASSWORD,
            cluster=options.CLUSTER,
            timeout=float(options.SOCKET_TIMEOUT),
            connect_timeout=float(options.CONNECT_TIMEOUT),
            max_connections=options.MAX_CONNECTIONS,
        )
        return [first, *(replace(first, url=url) for url in self._urls[1:])]

    @cached_property
    def _address(self) -> Address:
        """The primary's."""
        return self._addresses[0]

    @cached_property
    def _absence(self) -> Absence:
        return absence_of(self._address)

    @property
    def _reader(self) -> Address:
        """Whom to ask what is only read: as in Django, one of the replicas where there are some."""
        addresses = self._addresses
        return addresses[0] if len(addresses) == 1 else random.choice(addresses[1:])  # noqa: S311 - no secret

    def _unreadable(self, error: Unreadable) -> None:
        self._absence.trouble.warn("unreadable", str(error))

    def _run[T](self, action: str, plan: Plan[T], otherwise: T, at: Address | None = None) -> T:
        """Carry a plan out; return `otherwise` when the server cannot serve and that is to be borne."""
        if self.options.IGNORE_EXCEPTIONS and self._absence.lasts():
            return otherwise
        try:
            server = server_of(at or self._address)
            request = next(plan)
            while True:
                request = plan.send(server.call(*request) if type(request) is tuple else _asked(server, request))
        except StopIteration as done:
            result: T = done.value
            return result
        except RedisUnavailable as error:
            return self._borne(action, error, otherwise)

    async def _arun[T](self, action: str, plan: Plan[T], otherwise: T, at: Address | None = None) -> T:
        """As `_run`, in the event loop."""
        if self.options.IGNORE_EXCEPTIONS and self._absence.lasts():
            return otherwise
        try:
            server = server_in_loop(at or self._address)
            request = next(plan)
            while True:
                if type(request) is tuple:
                    request = plan.send(await server.call(*request))
                elif type(request) is list:
                    request = plan.send(await server.call_each(request))
                elif type(request) is At:
                    request = plan.send(await server.call_at(request.node, *request.command))
                else:
                    request = plan.send(await server.nodes())
        except StopIteration as done:
            result: T = done.value
            return result
        except RedisUnavailable as error:
            return self._borne(action, error, otherwise)

    async def _arun_pickling[T](self, action: str, make: Callable[[], Plan[T]], otherwise: T) -> T:
        """As `_arun`, of what may have to pickle a value."""
        try:
            return await self._arun(action, make(), otherwise)
        except SynchronousOnlyOperation:
            # To pickle a query set is to run its query, which Django lets no event loop do.
            run = sync_to_async(self._run, thread_sensitive=True)
            result: T = await run(action, make(), otherwise)
            return result

    def _borne[T](self, action: str, error: RedisUnavailable, otherwise: T) -> T:
        if not self.options.IGNORE_EXCEPTIONS:
            raise error
        self._absence.begins(action, error, lasting=self.options.RETRY_AFTER if error.may_have_happened else 0)
        return otherwise


def _asked(server: Server, request: Any) -> Any:
    if type(request) is list:
        return server.call_each(request)
    return server.call_at(request.node, *request.command) if type(request) is At else server.nodes()
