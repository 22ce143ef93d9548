"""What our cache backends share above their stores: keys, lifetimes, options, values, and the calls made of other calls."""

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import isawaitable
from typing import Annotated, Any, ClassVar

from django.core.cache.backends.base import (
    DEFAULT_TIMEOUT,
    MEMCACHE_MAX_KEY_LENGTH,
    BaseCache,
    default_key_func,
)

from backroom.cache.backends.locks import CacheLock
from backroom.cache.lifetimes import expiry, now
from backroom.cache.values import Codec
from backroom.options import AtLeast, is_no_share, parse, problems_of

logger = logging.getLogger("backroom.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """The OPTIONS that every backend takes."""

    JITTER: Annotated[float, AtLeast(0)] = 0.0
    COMPRESS_FROM: Annotated[int, AtLeast(0)] | None = None
    FORMAT: str = "json"


def problems_of_cache(cls: type[CacheOptions], options: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each option that is unknown or does not fit."""
    problems = problems_of(cls, options)
    if options.get("FORMAT", "json") not in {"json", "msgpack"}:
        problems.append(f"Option 'FORMAT' is {options['FORMAT']!r}. Use 'json' or 'msgpack'.")
    elif options.get("FORMAT") == "msgpack" and not find_spec("msgpack"):
        problems.append(
            "Option 'FORMAT' is 'msgpack', and the package of that name is not installed. Install it: pip install msgpack."
        )
    jitter = options.get("JITTER", 0)
    if isinstance(jitter, (int, float)) and jitter > 1:
        problems.append(is_no_share("JITTER", jitter))
    return problems


class BackroomCache(BaseCache):
    """Django's cache API with quicker keys, exact lifetimes, `ttl()`, `lock()`, and async functions where they are asked for.

    A backend adds the store: Django's verbs, `expires_at()`, `delete_if()` and `touch_if()`.
    """

    options_class: ClassVar[type[CacheOptions]] = CacheOptions
    homes_of_options: ClassVar[Mapping[str, str]] = {}
    """What others take as an option, in lower case, and a sentence that says where it is said here."""

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        seconds = params.get("timeout", params.get("TIMEOUT"))
        if isinstance(seconds, float) and math.isinf(seconds):
            # Django raises of it.
            params = {**params, "timeout": None if seconds > 0 else 0}
        super().__init__(params)
        if isinstance(seconds, float) and math.isfinite(seconds):
            # Django cuts 0.5 seconds down to 0, which means "do not store".
            self.default_timeout = seconds
        self.options = self._read_options(name, params.get("OPTIONS", {}))
        self.codec = Codec(
            salt=self.salt(name), compress_from=self.options.COMPRESS_FROM, structures=self.options.FORMAT
        )
        kind = type(self)
        self._makes_keys = kind.make_key is not BaseCache.make_key
        self._validates_keys = kind.validate_key is not BaseCache.validate_key

    @classmethod
    def problem_of_location(cls, location: Any, params: Mapping[str, Any]) -> str | None:  # noqa: ARG003 - a subclass needs them
        """Return a sentence on what is wrong with a LOCATION, or None. Connects to nothing."""
        return None

    def salt(self, name: str) -> str:
        """Return what parts the signatures of this cache from those of others."""
        return name

    def make_and_validate_key(self, key: Any, version: int | None = None) -> str:
        """Return the key as it is stored; warn, as Django does, of one that memcached would refuse."""
        if self.key_func is default_key_func and not self._makes_keys:
            made = f"{self.key_prefix}:{self.version if version is None else version}:{key}"
        else:
            made = self.make_key(key, version=version)
        if len(made) > MEMCACHE_MAX_KEY_LENGTH or " " in made or not made.isprintable() or self._validates_keys:
            self.validate_key(made)
        if not made.isascii():
            # What came undecodable from a request cannot be written as UTF-8, and is still no exception.
            made = made.encode("utf-8", "backslashreplace").decode()
        return made

    def make_and_validate_keys(self, keys: Collection[Any], version: int | None = None) -> list[str]:
        """Return the keys as they are stored, in their order."""
        if self.key_func is default_key_func and not self._makes_keys and not self._validates_keys:
            start = f"{self.key_prefix}:{self.version if version is None else version}:"
            made = [f"{start}{key}" for key in keys]
            # What holds of all together is quicker to see than of each.
            text = "".join(made)
            is_plain = text.isascii() and text.isprintable() and " " not in text
            if is_plain and max(map(len, made), default=0) <= MEMCACHE_MAX_KEY_LENGTH:
                return made
        return [self.make_and_validate_key(key, version) for key in keys]

    def expiry(self, timeout: Any, moment: int, *, exact: bool = False) -> int:
        """Return the moment, in milliseconds, at which what is stored now with Django's `timeout` expires.

        What is `exact` is not shortened by JITTER: a lock must not end before its time.
        """
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return expiry(seconds, moment, jitter=0 if exact else self.options.JITTER)

    def expires_at(self, key: Any, version: int | None = None) -> int | None:
        """Return the moment at which an entry expires, `FOREVER` or None when there is no such entry."""
        raise NotImplementedError

    def delete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """Delete a key if this text is its value, in one step; tell whether it was."""
        raise NotImplementedError

    async def adelete_if(self, key: Any, value: str, version: int | None = None) -> bool:
        """As `delete_if`."""
        raise NotImplementedError

    def touch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """Let a key expire later if this text is its value, in one step; tell whether it was."""
        raise NotImplementedError

    async def atouch_if(self, key: Any, value: str, timeout: float | None, version: int | None = None) -> bool:
        """As `touch_if`."""
        raise NotImplementedError

    def ttl(self, key: Any, version: int | None = None) -> float | None:
        """Return the seconds until an entry expires: None when it never does, 0 when there is none."""
        from backroom.cache.lifetimes import FOREVER

        moment = self.expires_at(key, version)
        if moment is None:
            return 0
        return None if moment >= FOREVER else max(moment - now(), 0) / 1000

    async def attl(self, key: Any, version: int | None = None) -> float | None:
        """As `ttl`."""
        return self.ttl(key, version)

    def get_with_ttl(self, key: Any, default: Any = None, version: int | None = None) -> tuple[Any, float | None]:
        """Return the value of a key, and what `ttl()` says of it."""
        return self.get(key, default, version), self.ttl(key, version)

    async def aget_with_ttl(
        self, key: Any, default: Any = None, version: int | None = None
    ) -> tuple[Any, float | None]:
        """As `get_with_ttl`."""
        return await self.aget(key, default, version), await self.attl(key, version)

    def lock(
        self, key: Any, *, timeout: float = 60, blocking_timeout: float | None = None, version: int | None = None
    ) -> CacheLock:
        """Return a lock that one holder at a time has, for at most `timeout` seconds; see `CacheLock`."""
        return CacheLock(self, key, timeout=timeout, blocking_timeout=blocking_timeout, version=version)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move a value to a later version of its key, where it keeps its lifetime; return that version."""
        version = self.version if version is None else version
        left = self.ttl(key, version)
        value = self.get(key, self._missing_key, version=version)
        if value is self._missing_key or left == 0:
            msg = f"Key {key!r} not found"
            raise ValueError(msg)
        self.set(key, value, timeout=left, version=version + delta)
        self.delete(key, version=version)
        return version + delta

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As `incr_version`."""
        version = self.version if version is None else version
        left = await self.attl(key, version)
        value = await self.aget(key, self._missing_key, version=version)
        if value is self._missing_key or left == 0:
            msg = f"Key {key!r} not found"
            raise ValueError(msg)
        await self.aset(key, value, timeout=left, version=version + delta)
        await self.adelete(key, version=version)
        return version + delta

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """As `get_or_set`; `default` may also be a coroutine function."""
        value = await self.aget(key, self._missing_key, version=version)
        if value is not self._missing_key:
            return value
        if callable(default):
            default = default()
            if isawaitable(default):
                default = await default
        await self.aadd(key, default, timeout=timeout, version=version)
        return await self.aget(key, default, version=version)

    def _known[T](self, key: Any, found: T | None) -> T:
        if found is None:
            msg = f"Key {key!r} not found"
            raise ValueError(msg)
        return found

    def _read_options(self, name: str, options: Mapping[str, Any]) -> Any:
        """Return the options that fit. The others are a system check's affair; a page must not fail for them."""
        cls = self.options_class
        fitting = {key: value for key, value in options.items() if not problems_of_cache(cls, {key: value})}
        if len(fitting) != len(options):
            problems = " ".join(problems_of_cache(cls, options))
            logger.error("action=cache_options cache=%s %s These options are left out.", name, problems)
        return parse(cls, fitting)
