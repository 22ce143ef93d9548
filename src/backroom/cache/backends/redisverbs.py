"""What each verb of a cache asks of Redis, and what it makes of the replies: generators, which know no server.

Each yields commands and is sent their replies; who carries them out, blocking or in an event loop, is their affair.
"""

import re
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Final, NamedTuple

from django.core.cache.backends.base import default_key_func

from backroom.cache.backends.base import BackroomCache
from backroom.cache.lifetimes import FOREVER, GONE, now
from backroom.cache.values import Unreadable
from backroom.redis import Script, slot_of

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


class RedisVerbs(BackroomCache):
    """The verbs, by the names that they have in Django's API with an underscore before them."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__("redis", params)
        self._prefix = f"{ROOT}{self.key_prefix}:"
        # Django's own way to name a key begins with the prefix by itself.
        is_djangos = self.key_func is default_key_func and not self._makes_keys
        self._start = ROOT if is_djangos else self._prefix

    def _unreadable(self, error: Unreadable) -> None:
        """Hear of a value that counts as missing."""
        raise NotImplementedError

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
        if not self.options.CLUSTER:
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
            self._unreadable(error)
            return default


def _seconds(left: int) -> float | None:
    """Return what PTTL says in seconds: 0 without an entry, None for ever."""
    return {-2: 0, -1: None}.get(left, left / 1000)


def _whole(replies: list[Any]) -> list[Any]:
    """Return replies; raise the first error among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
