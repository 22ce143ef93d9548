"""Sessions in Redis or Valkey: a hash each, a field a name; every verb is one command or one script in `lua/`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import batched
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.core.exceptions import ImproperlyConfigured

from backroom.clock import Moment
from backroom.options import problems_of
from backroom.redis import REDIS_URL, Address, RedisOptions, Script, key, server_in_loop, server_of
from backroom.redis.options import problem_of_address
from backroom.sessions.apps import require_app
from backroom.sessions.documents import Changes
from backroom.sessions.keys import KeyHash
from backroom.sessions.records import Columns, Header, Loaded, Written
from backroom.sessions.rules import Rules, rules
from backroom.sessions.steps import Steps
from backroom.sessions.transactions import Witness

LUA: Final = Path(__file__).with_name("lua")
TAG: Final = "sessions"
OPTIONS: Final = "BACKROOM['SESSIONS']['REDIS']"
"""Where the settings say which server."""
AT_ONCE: Final = 500
"""Sessions, or users, that one script sees to: nobody else is served meanwhile."""
BEGINNING: Final = b"-inf"
"""Before any moment."""
FEW: Final = 2000
"""Arguments that Lua unpacks at once."""
STANDS_ALONE: Final = frozenset({"merge"})
"""The script that runs most. What all others begin with takes the server longer than what it does."""
VALUE: Final = "="
"""What the field of a value begins with; that of the header is one letter."""
LETTERS: Final = {
    "user_id": "u",
    "created_at": "c",
    "seen_at": "t",
    "renewed_at": "r",
    "ends_at": "x",
    "address": "a",
    "user_agent": "g",
    "label": "l",
}


class RedisStore:
    """The `Store` on one server. Its scripts share a hash tag: on a cluster all sessions are on one node."""

    def __init__(self, address: Address, prefix: str) -> None:
        self.address = address
        self.server = server_of(address)
        self._base = key(prefix, TAG)
        # Of two keys the first is never there: while a cluster moves their slot the node refuses the script, which would
        # take for gone what is at the other node.
        self.keys = (self._base, f"{self._base}:ends")

    def load(self, key: KeyHash, now: Moment) -> Steps[Loaded | None]:
        """See Store."""
        fields = yield _Command(self, ("HGETALL", f"{self._base}:s:{key}"))
        return _loaded(key, fields, now)

    def load_replaced(self, key: KeyHash, now: Moment) -> Steps[Loaded | None]:
        """See Store."""
        found = yield self._running("load_replaced", key, now)
        return _loaded(KeyHash(found[0].decode()), found[1], now) if found else None

    def exists(self, key: KeyHash) -> Steps[bool]:
        """See Store."""
        count = yield _Command(self, ("EXISTS", f"{self._base}:s:{key}"))
        return bool(count)

    def insert(self, header: Header, changes: Changes, extra: Columns) -> Steps[Written]:  # noqa: ARG002 - no columns here
        """See Store."""
        fields = [*_header_fields(header._asdict()), *_value_fields(changes)]
        count = yield self._running(
            "insert", header.key, header.user_id or "", header.created_at, header.ends_at, len(fields), *fields
        )
        return bool(count)

    def write(self, key: KeyHash, changes: Changes, columns: Columns, *, waits: bool = False) -> Steps[Written]:  # noqa: ARG002 - the server decides
        """See Store."""
        fields = [*_header_fields(columns), *_value_fields(changes)]
        gone = [f"{VALUE}{name}" for name in changes.deleted]
        if changes and not columns and not changes.replaces and len(fields) + len(gone) <= FEW:
            count = yield self._running("merge", key, len(fields), *fields, *gone)
            return bool(count)
        gone += [LETTERS[name] for name in ("user_id",) if name in columns and columns[name] is None]
        count = yield self._running(
            *("write", key, int(changes.replaces), len(fields), *fields, len(gone), *gone),
            *(columns.get("new_key") or "", columns.get("previous_until") or 0),
        )
        return bool(count)

    def delete(self, keys: Sequence[KeyHash]) -> Steps[list[Header]]:
        """See Store."""
        found = []
        for some in batched(keys, AT_ONCE):
            found += [_header(row) for row in (yield self._running("delete", *some))]
        return found

    def delete_of_user(self, user_id: str, now: Moment, but: KeyHash | None) -> Steps[list[Header]]:
        """See Store."""
        return (yield from self._paging("delete_of_user", user_id, now, but or ""))

    def delete_expired(self, now: Moment, limit: int) -> Steps[list[Header]]:
        """See Store."""
        rows = yield self._running("delete_expired", now, limit)
        return [_header(row) for row in rows]

    def of_user(self, user_id: str, now: Moment) -> Steps[list[Header]]:
        """See Store."""
        found = yield from self._paging("of_user", user_id, now)
        # The last of a page is the first of the next one.
        return sorted({each.key: each for each in found}.values(), key=attrgetter("created_at", "key"), reverse=True)

    def user_ids(self, after: str, limit: int) -> Steps[list[str]]:
        """See Store."""
        first = f"({after}" if after else "-"
        command = ("ZRANGE", f"{self._base}:users", first, "+", "BYLEX", "LIMIT", 0, limit)
        found = yield _Command(self, command)
        return [each.decode() for each in found]

    def renew_at_once(self, user_ids: Sequence[str]) -> Steps[None]:
        """See Store."""
        begins, moment = 0, BEGINNING
        while some := user_ids[begins : begins + AT_ONCE]:
            done, moment = yield self._running("renew_at_once", moment, AT_ONCE, *some)
            begins += done

    def witness(self) -> Steps[Witness | None]:
        """See Store. The server knows nothing of the database's transactions."""
        yield from ()
        return None

    def _paging(self, name: str, *arguments: Any) -> Steps[list[Header]]:
        """Run a script for a user's sessions, page by page; those that begin meanwhile come last, and are not missed."""
        found, moment = [], BEGINNING
        while moment:
            rows, moment = yield self._running(name, *arguments, moment, AT_ONCE)
            found += [_header(row) for row in rows]
        return found

    def _running(self, name: str, *arguments: Any) -> "_Run":
        return _Run(self, _script(name), arguments)


class _Command(NamedTuple):
    """Asks over the pool for threads, or over the one connection of an event loop."""

    store: RedisStore
    words: tuple[Any, ...]

    def do(self) -> Any:
        """See Step."""
        return self.store.server.call(*self.words)

    async def ado(self) -> Any:
        """See Step."""
        return await server_in_loop(self.store.address).call(*self.words)


class _Run(NamedTuple):
    """Runs a script, in either way."""

    store: RedisStore
    script: Script
    arguments: tuple[Any, ...]

    def do(self) -> Any:
        """See Step."""
        return self.script.run(self.store.server, self.store.keys, self.arguments)

    async def ado(self) -> Any:
        """See Step."""
        server, plan = server_in_loop(self.store.address), self.script.steps(self.store.keys, self.arguments)
        commands = next(plan)
        while True:
            replies = await server.call_each(commands)
            try:
                commands = plan.send(replies)
            except StopIteration as stop:
                return stop.value


def store() -> RedisStore:
    """Return the store that the settings name; raise `ImproperlyConfigured` where they name none."""
    said = (rules(), REDIS_URL.value)
    if _made is None or _made[0] != said:
        require_app()
        if problems := [*problems_of_options(rules().options.REDIS)]:
            raise ImproperlyConfigured(" ".join([*problems, f"The options are {OPTIONS}."]))
        options = RedisOptions(**rules().options.REDIS)
        _remember(said, RedisStore(options.address, options.prefix))
    assert _made is not None  # noqa: S101 - it was just made
    return _made[1]


_made: tuple[tuple[Rules, str], RedisStore] | None = None


def _remember(said: tuple[Rules, str], made: RedisStore) -> None:
    global _made  # noqa: PLW0603 - one store a process, made anew when the settings say another one
    _made = (said, made)


def problems_of_options(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with how the settings name the server. Connects to nothing."""
    if problems := problems_of(RedisOptions, options):
        yield from problems
    elif problem := problem_of_address(RedisOptions(**options), OPTIONS):
        yield problem


@lru_cache(maxsize=16)
def _script(name: str) -> Script:
    text = (LUA / f"{name}.lua").read_text()
    if name in STANDS_ALONE:
        return Script(text)
    # Flags stand in the first line of a script, or nowhere.
    shebang, text = text.split("\n", 1) if text.startswith("#!") else ("", text)
    return Script("\n".join(filter(None, (shebang, (LUA / "common.lua").read_text(), text))))


def _header_fields(columns: Mapping[str, Any]) -> Iterator[Any]:
    for name, value in columns.items():
        if name in LETTERS and value is not None:
            yield LETTERS[name]
            yield value


def _value_fields(changes: Changes) -> Iterator[str]:
    for name, value in changes.stored.items():
        yield f"{VALUE}{name}"
        yield value


def _loaded(key: KeyHash, fields: Sequence[bytes], now: Moment) -> Loaded | None:
    header, contents = {}, {}
    texts = [field.decode() for field in fields]
    for name, value in zip(texts[::2], texts[1::2], strict=True):
        if name[0] == VALUE:
            contents[name[1:]] = value
        else:
            header[name] = value
    if int(header.get("x", 0)) <= now:
        return None
    return Loaded(_header_of(key, *[header.get(letter, "") for letter in LETTERS.values()]), contents)


def _header(row: Sequence[bytes]) -> Header:
    hash_, *rest = (each.decode() for each in row)
    return _header_of(KeyHash(hash_), *rest)


def _header_of(key: KeyHash, user: str, created: str, seen: str, renewed: str, ends: str, *rest: str) -> Header:
    return Header(key, user or None, int(created), int(seen), int(renewed), int(ends), *rest)
