"""A cache in Redis or Valkey, for many machines: one server, one that Sentinels watch, or a Cluster.

    CACHES = {
        "default": {
            "BACKEND": "backroom.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:6379/1",
        }
    }

Each verb is written once, as a generator that yields commands and is sent replies; `_run` and `_arun` carry them out.
"""

import random
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import isawaitable
from typing import Annotated, Any, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, default_key_func
from django.core.exceptions import SynchronousOnlyOperation

from backroom.cache.absence import Absence, absence_of
from backroom.cache.backends.base import BackroomCache, CacheOptions, problems_of_cache
from backroom.cache.lifetimes import FOREVER, GONE, now
from backroom.cache.nearby.news import NewsOnRedis
from backroom.cache.values import Unreadable
from backroom.options import REDIS_URL, Above, AtLeast
from backroom.redis import Address, RedisUnavailable, Script, Server, server_in_loop, server_of, slot_of
from backroom.redis.addresses import problem_of

ROOT: Final = "backroom:cache:"
"""What the names of all keys begin with: `clear()` keeps to them, and Django's own cache can stand beside it."""

AT_ONCE: Final = 1000
"""Keys in one step of `clear()`, and commands in one go of `set_many()`."""

DELETE_IF: Final = Script(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end return 0"
)
TOUCH_IF: Final = Script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
    "if ARGV[2] == '' then redis.call('PERSIST', KEYS[1]) return 1 end "
    "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
)
# The sum is read again as text: a number of Lua's would be exact up to 53 bits only.
ADD_TO: Final = Script(
    "local held = redis.call('GET', KEYS[1]) if not held then return false end "
    "local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1]) "
    "if type(sum) == 'table' and sum.err then return {held} end "
    "return redis.call('GET', KEYS[1])"
)
REPLACE: Final = Script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') return 1"
)

type Plan[T] = Generator[Any, Any, T]
"""What one verb asks of a server: a tuple is a command, a list several, whose replies may be errors; or one of these."""


class Nodes(NamedTuple):
    """Asks for the nodes of the server."""


class At(NamedTuple):
    """Asks one node."""

    node: Any
    command: tuple[Any, ...]


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


class RedisCache(BackroomCache):
    """Django's cache API on Redis ≥ 7 or Valkey ≥ 8. It is safe for threads, forks and event loops."""

    options_class = RedisCacheOptions

    def __init__(self, server: str | Sequence[str], params: dict[str, Any]) -> None:
        urls = re.split("[;,]", server) if isinstance(server, str) else list(server)
        super().__init__("redis", params)
        # Asked for late: with no LOCATION it is the server of every part, which the settings name.
        self._urls = [url.strip() for url in urls if url.strip()]
        self._prefix = f"{ROOT}{self.key_prefix}:"
        # Django's own way to name a key begins with the prefix by itself.
        is_djangos = self.key_func is default_key_func and not self._makes_keys
        self._start = ROOT if is_djangos else self._prefix

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

    # ── What each of them asks, and what it makes of the replies ─────────────────────────────────────────────────────

    def _get(self, key: Any, default: Any, version: int | None) -> Plan[Any]:
        made = self.make_and_validate_key(key, version)
        data = yield "GET", self._start + made
        return default if data is None else self._loaded(data, made, default)

    def _get_with_ttl(self, key: Any, default: Any, version: int | None) -> Plan[tuple[Any, float | None]]:
        made = self.make_and_validate_key(key, version)
        name = self._start + made
        data, left = _whole((yield [("GET", name), ("PTTL", name)]))
        return default if data is None else self._loaded(data, made, default), _seconds(left)

    def _get_many(self, keys: Iterable[Any], version: int | None) -> Plan[dict[Any, Any]]:
        keys = list(keys)
        asked = dict(zip(self.make_and_validate_keys(keys, version), keys, strict=True))
        if not asked:
            return {}
        names = [self._start + made for made in asked]
        replies = yield from self._many("MGET", names)
        missing = self._missing_key
        found = {}
        for (made, key), data in zip(asked.items(), replies, strict=True):
            if data is not None and (value := self._loaded(data, made, missing)) is not missing:
                found[key] = value
        return found

    def _many(self, verb: str, names: list[str]) -> Plan[list[Any]]:
        """Ask something of many keys; return the replies in their order, if it is MGET."""
        if not self._address.cluster:
            whole: list[Any] = yield verb, *names
            return whole
        by_slot: dict[int, list[int]] = {}
        for index, name in enumerate(names):
            by_slot.setdefault(slot_of(name), []).append(index)
        replies = yield [(verb, *(names[index] for index in indexes)) for indexes in by_slot.values()]
        found: list[Any] = [None] * len(names)
        for indexes, reply in zip(by_slot.values(), _whole(replies), strict=True):
            if verb == "MGET":
                for index, data in zip(indexes, reply, strict=True):
                    found[index] = data
        return found

    def _has_key(self, key: Any, version: int | None) -> Plan[bool]:
        count: int = yield "EXISTS", self._name(key, version)
        return count > 0

    def _ttl(self, key: Any, version: int | None) -> Plan[float | None]:
        left: int = yield "PTTL", self._name(key, version)
        return _seconds(left)

    def _expires_at(self, key: Any, version: int | None) -> Plan[int | None]:
        moment: int = yield "PEXPIRETIME", self._name(key, version)
        return {-2: None, -1: FOREVER}.get(moment, moment)

    def _set(self, key: Any, value: Any, timeout: Any, version: int | None) -> Plan[None]:
        made = self.make_and_validate_key(key, version)
        yield self._stored(made, value, self._milliseconds(timeout, exact=False))

    def _stored(self, made: str, value: Any, left: int | None) -> tuple[Any, ...]:
        name = self._start + made
        if left == 0:
            return "UNLINK", name
        data = self.codec.dumps(value, made)
        return ("SET", name, data) if left is None else ("SET", name, data, "PX", left)

    def _add(self, key: Any, value: Any, timeout: Any, version: int | None) -> Plan[bool]:
        made = self.make_and_validate_key(key, version)
        left = self._milliseconds(timeout)
        if left == 0:
            count: int = yield "EXISTS", self._start + made
            return count == 0
        return (yield (*self._stored(made, value, left), "NX")) is not None

    def _add_or_get(self, key: Any, value: Any, timeout: Any, version: int | None) -> Plan[Any]:
        made = self.make_and_validate_key(key, version)
        left = self._milliseconds(timeout)
        if left == 0:
            return value
        # One step: nothing can come between the look and the write. The reply is what was there.
        data = yield (*self._stored(made, value, left), "NX", "GET")
        return value if data is None else self._loaded(data, made, value)

    def _incr(self, key: Any, delta: Any, version: int | None) -> Plan[int | None]:
        made = self.make_and_validate_key(key, version)
        name = self._start + made
        while True:
            reply = yield from ADD_TO.steps([name], [delta])
            if not isinstance(reply, list):
                return None if reply is None else int(reply)
            # It is no integer of 64 bits, or the sum would be none.
            [held] = reply
            value = self._loaded(held, made, self._missing_key)
            if value is self._missing_key:
                return None
            total: int = value + delta
            if (yield from REPLACE.steps([name], [held, self.codec.dumps(total, made)])):
                return total

    def _touch(self, key: Any, timeout: Any, version: int | None) -> Plan[bool]:
        name = self._name(key, version)
        left = self._milliseconds(timeout)
        if left is not None:
            count: int = yield ("UNLINK", name) if left == 0 else ("PEXPIRE", name, left)
            return count > 0
        # PERSIST alone says nothing of a key that never had an end.
        replies = yield [("PERSIST", name), ("EXISTS", name)]
        return bool(_whole(replies)[1])

    def _delete(self, key: Any, version: int | None) -> Plan[bool]:
        count: int = yield "UNLINK", self._name(key, version)
        return count > 0

    def _set_many(self, data: Mapping[Any, Any], timeout: Any, version: int | None) -> Plan[list[Any]]:
        left = self._milliseconds(timeout, exact=False)
        commands = []
        for made, value in zip(self.make_and_validate_keys(data, version), data.values(), strict=True):
            if self.options.JITTER:
                left = self._milliseconds(timeout, exact=False)
            commands.append(self._stored(made, value, left))
        for first in range(0, len(commands), AT_ONCE):
            _whole((yield commands[first : first + AT_ONCE]))
        return []

    def _delete_many(self, keys: Iterable[Any], version: int | None) -> Plan[None]:
        if names := [self._start + made for made in self.make_and_validate_keys(list(keys), version)]:
            yield from self._many("UNLINK", names)

    def _clear(self) -> Plan[None]:
        pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", self._prefix) + "*"
        for node in (yield Nodes()):
            cursor: Any = 0
            while True:
                cursor, names = yield At(node, ("SCAN", cursor, "MATCH", pattern, "COUNT", AT_ONCE))
                if names:
                    _whole((yield [("UNLINK", name) for name in names]))
                if int(cursor) == 0:
                    break

    def _incr_version(self, key: Any, delta: int, version: int | None) -> Plan[int | None]:
        version = self.version if version is None else version
        made = self.make_and_validate_key(key, version)
        data, left = _whole((yield [("GET", self._start + made), ("PTTL", self._start + made)]))
        missing = self._missing_key
        if data is None or left == 0 or (value := self._loaded(data, made, missing)) is missing:
            return None
        moved = self.make_and_validate_key(key, version + delta)
        _whole((yield [self._stored(moved, value, None if left < 0 else left), ("UNLINK", self._start + made)]))
        return version + delta

    def _delete_if(self, key: Any, value: str, version: int | None) -> Plan[bool]:
        made = self.make_and_validate_key(key, version)
        return bool((yield from DELETE_IF.steps([self._start + made], [self.codec.dumps(value, made)])))

    def _touch_if(self, key: Any, value: str, timeout: Any, version: int | None) -> Plan[bool]:
        made = self.make_and_validate_key(key, version)
        left = self._milliseconds(timeout)
        arguments = [self.codec.dumps(value, made), "" if left is None else left]
        return bool((yield from TOUCH_IF.steps([self._start + made], arguments)))

    # ── Names, values, lifetimes ─────────────────────────────────────────────────────────────────────────────────────

    def _name(self, key: Any, version: int | None) -> str:
        return self._start + self.make_and_validate_key(key, version)

    def _milliseconds(self, timeout: Any, *, exact: bool = True) -> int | None:
        """Return how long an entry is to live; None for ever, 0 not at all. JITTER shortens what is not `exact`."""
        moment = now()
        expires_at = self.expiry(timeout, moment, exact=exact)
        if expires_at == FOREVER:
            return None
        return 0 if expires_at == GONE else expires_at - moment

    def _loaded(self, data: bytes, made: str, default: Any) -> Any:
        try:
            return self.codec.loads(data, made)
        except Unreadable as error:
            self._absence.trouble.warn("unreadable", str(error))
            return default

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


def _seconds(left: int) -> float | None:
    """Return what PTTL says in seconds: 0 without an entry, None for ever."""
    return {-2: 0, -1: None}.get(left, left / 1000)


def _whole(replies: list[Any]) -> list[Any]:
    """Return replies; raise the first error among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
